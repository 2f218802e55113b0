/* SPDX-License-Identifier: Apache-2.0 */
/* racing.h -- the race of a batch in the search loop: study/race.h between the sums
 * that evaluation leaves and the trials of the study.
 *
 * What a race decides follows from per-item sums alone: those of the batch and those of
 * earlier trials, which the store keeps, so that a resumed run decides alike.  Trials
 * of a batch are recorded together, so no race is ever resumed in its middle.        */
#ifndef LM_PIPELINE_RACING_H
#define LM_PIPELINE_RACING_H
#include "pipeline/session.h"
#include "pipeline/view.h"
#include "study/race.h"

struct lm_racing;
/* *out NULL: the pipeline has no `race`, or there are too few items for a look. */
enum lm_status lm_racing_open(struct lm_session *s, struct lm_study *view,
                              struct lm_racing **out, struct lm_err *e);
void lm_racing_close(struct lm_racing *r);
/* A trial of the study was measured to the end: its sums are kept for races to come.
 * measure: those of its record.                                                     */
enum lm_status lm_racing_keep(struct lm_racing *r, int64_t trial,
                              const struct lm_measure *measure, size_t n,
                              struct lm_err *e);
/* The race of a batch of n candidates with these shares; the rungs and share are valid
 * until lm_racing_end().  After lm_evaluate_race() lm_racing_result() tells of each.  */
enum lm_status lm_racing_begin(struct lm_racing *r, const double *share, size_t n,
                               const struct lm_rungs **rungs, struct lm_err *e);
struct lm_race_result {
    bool    stopped;
    bool    by_trial;                   /* `by` is a trial, else a candidate of the batch */
    int64_t by, seen, items;            /* items of the first sampled objective */
    size_t  n;                          /* what its sampled objectives probably are */
    struct { int metric; double value, error; } told[LM_MAX_STAGES];
};
void lm_racing_result(const struct lm_racing *r, size_t candidate,
                      struct lm_race_result *out);
void lm_racing_end(struct lm_racing *r);
#endif
