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

struct lm_judge {                       /* one evaluator of a pipeline */
    const char *id;                     /* "perplexity"; metrics are "id.name" */
    const struct lm_evaluator *ops;
    void *self;
    int64_t n_items;                    /* set by lm_judges_open */
    char  protocol[512];                /* likewise */
    size_t n_metric;
};
struct lm_evaluation;
struct lm_evaluation_args {
    struct lm_workshop *workshop;       /* NULL when no judge runs candidates */
    struct lm_engine *engine;
    struct lm_judge *judge;
    size_t n_judge;
    uint32_t dtype;                     /* of the export, for sizes */
    size_t memory;                      /* for the teacher's memo */
};
/* Reads texts, counts items, writes protocols into the judges. */
enum lm_status lm_evaluation_open(const struct lm_evaluation_args *a,
                                  struct lm_evaluation **v, struct lm_err *e);
void lm_evaluation_close(struct lm_evaluation *v);
const struct lm_metric *lm_judge_metric(const struct lm_judge *j, size_t i);

/* The host's subject: what evaluators see of a candidate. */
struct lm_subject {
    struct lm_evaluation *evaluation;
    const struct lm_candidate *candidate;
    struct lm_runner *runner;           /* of the calling worker */
};
enum lm_status lm_subject_losses(struct lm_subject *s, const int32_t *ids, size_t n,
                                 float *nll, struct lm_err *e);
enum lm_status lm_subject_kl(struct lm_subject *s, const int32_t *ids, size_t n,
                             float *kl, struct lm_err *e);
enum lm_status lm_subject_cost(struct lm_subject *s, struct lm_cost *out, struct lm_err *e);
enum lm_status lm_subject_time(struct lm_subject *s, const struct lm_workload *w,
                               double *seconds, struct lm_err *e);

struct lm_result {                      /* of one candidate and one metric */
    double value, error;                /* error: standard error, NAN unknown */
    struct lm_sum *sum;                 /* [n_sum], items in order */
    size_t n_sum;
};
/* result [n_candidate][all metrics of all judges in order]; share[i] in (0,1]:
 * fidelity.  skip [n_candidate][metrics] (may be NULL): already known.  err[i]
 * is set for candidates whose evaluation failed.  progress goes through
 * lm_progress(base + done * (1 - base)).                             [main] */
enum lm_status lm_evaluate(struct lm_evaluation *v, struct lm_candidate *c, size_t n,
                           const double *share, const bool *skip,
                           struct lm_result *result, struct lm_err *err,
                           struct lm_err *e);
void lm_results_free(struct lm_result *r, size_t n);
size_t lm_evaluation_metrics(const struct lm_evaluation *v);
/* Value and standard error of a ratio of sums (delta method over items). */
void lm_reduce(const struct lm_metric *m, const struct lm_sum *sum, size_t n,
               double *value, double *error);
#endif
