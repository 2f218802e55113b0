/* SPDX-License-Identifier: Apache-2.0 */
/* judging.h -- what evaluate.c, subject.c, timing.c, clocked.c and offer.c share. */
#ifndef LM_STUDY_JUDGING_H
#define LM_STUDY_JUDGING_H
#include "study/evaluate.h"

/* Candidates that are timed in turns: each keeps a decoder with its cache, so
 * this bounds memory; eight are enough for drift to hit neighbours alike.    */
enum { QUIET_GROUP = 8 };

/* A decoder kept between the repetitions of one network. */
struct lm_clocked {
    const struct lm_network *net;
    int32_t threads;
    int64_t capacity;
    bool warm[2];                       /* prefill, decode */
    struct lm_decoder *decoder;
};

/* The file of the candidate that commands are looking at. */
enum { MAX_OFFERS = 8 };
struct lm_offer {
    char format[64], path[4200];
    uint32_t dtype;
};

struct lm_evaluation {
    struct lm_evaluation_args args;
    size_t n_metric;
    struct lm_network dense;            /* for judges with LM_NEEDS_DENSE */
    struct lm_teacher *teacher;
    struct lm_runner **runner;          /* [n_runner], by worker; opened when needed */
    uint32_t n_runner;
    struct lm_clocked clocked[2 * (QUIET_GROUP + 1)];     /* the main thread's */
    size_t n_clocked;
    struct lm_watch *watch;             /* NULL but in lm_batch_time() */
    struct lm_tally tally;              /* until somebody takes it */
    struct lm_offer *offer;             /* [n_offer] */
    size_t n_offer;
    struct lm_work delegated;           /* run elsewhere */
    struct lm_answers *answers;         /* NULL but in lm_evaluate_streamed() */
    struct lm_work streamed;            /* what that has run */
    size_t *alike;                      /* [judges] the first one that asks candidates for
                                           the same; NULL: not known yet */
};

/* Items, protocol and metrics of a judge. */
enum lm_status lm_judge_open(struct lm_judge *j, struct lm_err *e);

enum lm_status lm_workload_check(const struct lm_workload *w, struct lm_err *e);
/* A place for the runner of each worker of the pool.                  [main] */
enum lm_status lm_evaluation_prepare(struct lm_evaluation *v, struct lm_err *e);
enum lm_status lm_evaluation_runner(struct lm_evaluation *v, uint32_t worker,
                                    struct lm_runner **out, struct lm_err *e);
/* evaluate_stream.c.  Tasks 0 .. n-1, each first rehearsed on this thread, then done by
 * the workers, with what they ask for answered in between.                   [main] */
typedef void lm_streamed_task(void *ctx, int64_t task, uint32_t worker, bool rehearsal);
enum lm_status lm_evaluate_streamed(struct lm_evaluation *v, int64_t n,
                                    lm_streamed_task *task, void *ctx, struct lm_err *e);
/* Fills out [n - 1] or, of divergences, [n], and says so; or the subject must run. */
bool lm_subject_answered(struct lm_subject *s, const struct lm_network *net, bool kl,
                         const int32_t *ids, size_t n, float *out);
/* Fills v->alike.  c: any candidate.                                          [main] */
enum lm_status lm_judges_compare(struct lm_evaluation *v, const struct lm_candidate *c,
                                 struct lm_err *e);
/* clocked.c.  A workload with its tokens; close it, also after a failure. */
struct lm_load {
    struct lm_workload w;
    int32_t *ids;                       /* [w.tokens] */
    float   *logits;                    /* [vocab] */
};
enum lm_status lm_load_open(const struct lm_evaluation *v, const struct lm_workload *w,
                            struct lm_load *l, struct lm_err *e);
void lm_load_close(struct lm_load *l);
/* One run of a network that has warmed up; its decoder is kept for the next.  [main] */
enum lm_status lm_clocked_run(struct lm_evaluation *v, const struct lm_network *net,
                              const struct lm_load *l, struct lm_time *out,
                              struct lm_err *e);
void lm_clocks_close(struct lm_evaluation *v);
/* The clock that runs are timed by; tests have one of their own. */
extern double (*lm_timing_clock)(void);
/* Removes the files of lm_subject_file. */
void lm_offers_drop(struct lm_evaluation *v);
#endif
