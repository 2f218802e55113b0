/* SPDX-License-Identifier: Apache-2.0 */
/* evaluate.h -- evaluators in chunks: items in parallel, sums reduced in fixed
 * order, standard errors.
 *
 * A batch of candidates is evaluated window by window; for one window the
 * candidates go in lexicographic order of their segment keys, which is a
 * depth-first walk of the tree of shared prefixes, so each shared segment is
 * computed once.                                                            */
#ifndef LM_STUDY_EVALUATE_H
#define LM_STUDY_EVALUATE_H
#include "plan/candidate.h"

struct lm_result;
struct lm_judge {                       /* one evaluator of a pipeline */
    const char *id;                     /* "perplexity"; metrics are "id.name" */
    const struct lm_evaluator *ops;
    void *self;
    int64_t n_items;                    /* these three are set by lm_evaluation_open */
    char  protocol[512];
    size_t n_metric;
    const struct lm_metric *metric;     /* ended; NULL: the table of ops */
};
/* Writes a candidate with a format; the path goes to out [size]. */
typedef enum lm_status lm_candidate_write(void *ctx, const struct lm_candidate *c,
                                          const char *format, uint32_t dtype, char *out,
                                          size_t size, struct lm_err *e);
/* The four ways in which evaluators are run, in this order. */
enum lm_pass { LM_PASS_COUNT = 1, LM_PASS_SAMPLE, LM_PASS_QUIET, LM_PASS_COMMANDS };
enum lm_pass lm_judge_pass(const struct lm_judge *j);
/* How steady the machine was while times were taken.  Repetitions of groups of
 * candidates; those measured again because the anchor had moved, and those kept though
 * it had, by `worst` (0.1: 10 %) at most.  The processor's clock, the mean of all, in
 * MHz: at first, at last, least and most; 0: not known.                      */
struct lm_tally {
    int64_t runs, again, kept;
    double worst;
    bool   other;                       /* no room for the dense model: a candidate was
                                           the anchor */
    double mhz_first, mhz_last, mhz_low, mhz_high;
    char   governor[32];
};
/* A part of an evaluation that can be done elsewhere: the judges of a pass, items of
 * the shares from .. to of each candidate, between low and high.            */
struct lm_chore {
    enum lm_pass pass;
    size_t n;
    const struct lm_candidate *candidate;   /* [n]; elsewhere their plans are enough */
    const double  *from, *to;           /* [n] */
    const bool    *skip;                /* [n][metrics], may be NULL */
    const int64_t *low, *high;          /* [judges]; NULL: all items */
    double before, share;               /* of the whole evaluation, for progress */
    struct lm_tally *tally;             /* what others add to; may be NULL */
};
/* Items that a candidate sees of judge[j] in it: first .. end-1. */
void lm_chore_span(const struct lm_chore *c, const struct lm_judge *judge, size_t j,
                   size_t candidate, int64_t *first, int64_t *end);
/* Does a chore: puts sums of these items into the places that result has, reasons of
 * candidates that failed into err, and adds to *work.                       */
typedef enum lm_status lm_delegate(void *ctx, const struct lm_chore *c,
                                   struct lm_result *result, struct lm_err *err,
                                   struct lm_work *work, struct lm_err *e);
struct lm_evaluation;
struct lm_evaluation_args {
    struct lm_workshop *workshop;       /* NULL when no judge runs candidates */
    struct lm_engine *engine;
    struct lm_judge *judge;
    size_t n_judge;
    uint32_t dtype;                     /* of the export, for sizes */
    size_t memory;                      /* for the teacher's memo, and as much for hidden
                                           states that candidates share */
    bool   alone;                       /* share none: each candidate from its start */
    const char *device;                 /* for the protocols of times; may be NULL */
    lm_candidate_write *write;          /* for judges with LM_NEEDS_COMMANDS */
    void *write_ctx;
    lm_delegate *delegate;              /* who runs all of it, of plans alone; NULL: this
                                           process */
    void *delegate_ctx;
};
/* Reads texts, counts items, writes protocols into the judges. */
enum lm_status lm_evaluation_open(const struct lm_evaluation_args *a,
                                  struct lm_evaluation **v, struct lm_err *e);
void lm_evaluation_close(struct lm_evaluation *v);
const struct lm_metric *lm_judge_metric(const struct lm_judge *j, size_t i);
/* Which of n judges a metric of all is of; then it is number *metric of its own. */
const struct lm_judge *lm_judge_of(const struct lm_judge *j, size_t n, size_t *metric);
/* Number of the first metric of judge[j]. */
size_t lm_judge_first(const struct lm_judge *judge, size_t j);
/* Is judge[j] asked for?  skip: [metrics] of a candidate; NULL: none is left out. */
bool lm_judge_wanted(const struct lm_judge *judge, size_t j, const bool *skip);

/* The host's subject: what evaluators see of a candidate. */
struct lm_subject {
    struct lm_evaluation *evaluation;
    const struct lm_candidate *candidate;
    struct lm_runner *runner;           /* of the calling worker; NULL: opened at use */
    uint32_t needs;                     /* LM_NEEDS_* that the evaluator declares */
    uint32_t precision;                 /* enum lm_precision */
};
enum lm_status lm_subject_losses(struct lm_subject *s, const int32_t *ids, size_t n,
                                 float *nll, struct lm_err *e);
enum lm_status lm_subject_kl(struct lm_subject *s, const int32_t *ids, size_t n,
                             float *kl, struct lm_err *e);
enum lm_status lm_subject_precision(struct lm_subject *s, uint32_t precision,
                                    struct lm_err *e);
enum lm_status lm_subject_cost(struct lm_subject *s, struct lm_cost *out,
                               struct lm_err *e);
enum lm_status lm_subject_time(struct lm_subject *s, const struct lm_workload *w,
                               double *seconds, struct lm_err *e);

enum lm_status lm_subject_timing(struct lm_subject *s, const struct lm_workload *w,
                                 struct lm_timing *out, struct lm_err *e);
enum lm_status lm_subject_operators(struct lm_subject *s, const struct lm_workload *w,
                                    lm_see_use *see, void *ctx, struct lm_err *e);

enum lm_status lm_subject_file(struct lm_subject *s, const char *format, uint32_t dtype,
                               const char **path, struct lm_err *e);
uint64_t lm_subject_plan(const struct lm_subject *s);

/* What a judge asks of a candidate for its first item, found without running it. */
struct lm_asked {
    double tokens;
    size_t longest;
    uint32_t precision;
    uint64_t texts;                     /* hash of all token ids and precisions; 0: none */
};
enum lm_status lm_judge_asks(struct lm_evaluation *v, size_t judge,
                             const struct lm_candidate *c, struct lm_asked *out,
                             struct lm_err *e);

struct lm_result {                      /* of one candidate and one metric */
    double value, error;                /* error: standard error, NAN unknown */
    struct lm_sum *sum;                 /* [n_sum], items in order */
    size_t n_sum;
};
/* result [n_candidate][all metrics of all judges in order], filled; share[i] in
 * (0,1] (NULL: 1): fidelity, the first ceil(share * n_items) items.  skip
 * [n_candidate][metrics] (may be NULL): already known, stays NAN without sums.
 * err[n_candidate] must be cleared before: candidates whose err[i].code is set
 * (they could not be built) are left out, and it is set for those whose
 * evaluation failed (LM_EINFEASIBLE: no finite number came out).  Want of
 * memory, a failed write and cancelling fail the whole call and leave no sums.
 * Progress is reported as a task of its own.                         [main] */
enum lm_status lm_evaluate(struct lm_evaluation *v, struct lm_candidate *c, size_t n,
                           const double *share, const bool *skip,
                           struct lm_result *result, struct lm_err *err,
                           struct lm_err *e);
/* Stages of a race: those that race, whose share is 1, are measured to the first rung;
 * then somebody looks at the sums and says who goes on to the next, until nobody does. */
struct lm_rungs {
    const double *share;                /* [n] of the items, rising, below 1 */
    size_t n;
    /* result has the sums of the items seen so far, lm_judge_items(judge, share) behind a
     * rung, and all of what is counted, not reduced yet; err says who failed.  Sets
     * go[i] for those that are to be measured to their next rung (behind the last: to
     * their end); who is left out may go on later.  Of those that never reach their end
     * nothing is measured that wants quiet or commands.                              */
    enum lm_status (*look)(void *ctx, const struct lm_result *result,
                           const struct lm_err *err, bool *go, struct lm_err *e);
    void *ctx;
};
/* lm_evaluate() in rungs.  reached[n]: the share of its items that each has seen. */
enum lm_status lm_evaluate_race(struct lm_evaluation *v, struct lm_candidate *c, size_t n,
                                const double *share, const bool *skip,
                                const struct lm_rungs *rungs, double *reached,
                                struct lm_result *result, struct lm_err *err,
                                struct lm_err *e);
/* Does a chore of built candidates here: sums are not reduced, result and err are as of
 * lm_evaluate().                                                      [main] */
enum lm_status lm_evaluate_chore(struct lm_evaluation *v, const struct lm_chore *c,
                                 struct lm_result *result, struct lm_err *err,
                                 struct lm_err *e);
/* How many items a share is: the first ceil(share n_items), at least one. */
int64_t lm_judge_items(const struct lm_judge *j, double share);
/* Judges that count only, and those that run candidates item by item: the latter's
 * means can be compared before the last item.                                      */
bool lm_judge_counts(const struct lm_judge *j);
bool lm_judge_samples(const struct lm_judge *j);
/* What was run of candidates so far, and what they would have been alone. */
struct lm_work lm_evaluation_work(const struct lm_evaluation *v);
/* Of times since the last call. */
struct lm_tally lm_evaluation_tally(struct lm_evaluation *v);
/* Adds what one that began later found. */
void lm_tally_add(struct lm_tally *to, const struct lm_tally *more);
/* The sums of n entries; the array is the caller's. */
void lm_results_free(struct lm_result *r, size_t n);
size_t lm_evaluation_metrics(const struct lm_evaluation *v);
/* Value and standard error: ratio of sums (delta method over items), its exp,
 * or the median of value / weight.  reduce.c has the formulas.               */
void lm_reduce(const struct lm_metric *m, const struct lm_sum *sum, size_t n,
               double *value, double *error);
#endif
