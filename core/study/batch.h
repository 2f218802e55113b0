/* SPDX-License-Identifier: Apache-2.0 */
/* batch.h -- candidates under evaluation: what evaluate.c and sample.c share. */
#ifndef LM_STUDY_BATCH_H
#define LM_STUDY_BATCH_H
#include <pthread.h>

#include "study/judging.h"

/* A candidate's place in the walk of shared prefixes. */
struct place { const struct lm_candidate *c; size_t index; };

struct batch {
    struct lm_evaluation *v;
    const struct place *order;          /* [n] */
    struct place *live;                 /* [n_live] those with items to run now, in the
                                           same order */
    size_t *common;                     /* [n_live] segments that one has in common with
                                           the one before it */
    size_t n, n_live, n_metric;
    const double *share;
    double *from, *to;                  /* [n] shares of the items that are run now */
    const int64_t *low, *high;          /* [judges] of them; NULL: all */
    struct lm_candidate *candidate;     /* [n] */
    bool   *stop;                       /* [n] not at the end of its race */
    bool   *go;                         /* [n] to its next rung */
    size_t *rung;                       /* [n] behind it */
    const bool *skip;
    struct lm_result *result;           /* [n][n_metric] */
    struct lm_err *err;                 /* [n] */
    pthread_mutex_t lock;               /* err, done, fatal */
    struct lm_err fatal;                /* what ends the whole evaluation */
    int64_t done, total;                /* items x candidates, for progress */
    size_t *lead;                       /* [judges] who runs a judge's items: itself, or
                                           an earlier one that asks for the same */
    const struct task *task;
};
struct task { size_t judge; int64_t item; size_t first, end; };    /* live[first..end) */

/* Does this candidate still want this item?                                  [any] */
bool lm_batch_due(struct batch *b, size_t judge, int64_t item, size_t candidate);
/* The sums of one item, or why the candidate failed.                         [any] */
void lm_batch_judge(struct batch *b, size_t judge, int64_t item, size_t candidate,
                    const struct lm_candidate *c, struct lm_runner *runner);
void lm_batch_fail(struct batch *b, size_t candidate, const struct lm_err *why);
void lm_batch_step(struct batch *b);    /* one more is done, for progress */
/* sample.c.  The items between b->from and b->to of judges that run candidates.  [main] */
enum lm_status lm_batch_sample(struct batch *b, struct lm_err *e);
/* timing.c.  Judges that need quiet, on this thread with nothing beside.       [main] */
enum lm_status lm_batch_time(struct batch *b, struct lm_err *e);
#endif
