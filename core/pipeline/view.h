/* SPDX-License-Identifier: Apache-2.0 */
/* view.h -- a study in memory: what the search tells from, what reporters and
 * exports read.  It is rebuilt from the store alone, so that a report needs
 * neither the model nor its plugins.                                        */
#ifndef LM_PIPELINE_VIEW_H
#define LM_PIPELINE_VIEW_H
#include "base/err.h"
#include "pipeline/pipeline.h"
#include "study/evaluate.h"
#include "study/store.h"

#define LM_RACE_PREFIX "race:"      /* of the metrics that hold a race's estimates */

/* -inf, inf: none.  share: max is this part of the dense model's value, as the same
 * evaluator found it (lm_view_rank); NAN: max is a number.                     */
struct lm_bound { int metric; double min, max, share; };

struct lm_view_trial {
    int64_t  id;
    uint64_t genome, plan;
    uint32_t status;
    double   fidelity, seconds;
    char    *plan_text, *reason;
    double  *value, *error;             /* [n_metric]; NAN: not measured */
    double  *told;                      /* [n_metric] of a trial that lost a race: what
                                           its objectives are estimated to be, NAN
                                           elsewhere; NULL for all other trials */
    struct lm_layer_shape *layer;       /* [arch.n_layer] */
    bool     feasible, front;
};

struct lm_study {
    struct lm_store *store;             /* borrowed */
    struct lm_arch arch;                /* shapes of the dense model */
    struct lm_layer_shape *shape;
    struct { char name[96], unit[32]; bool objective, maximise; } metric[LM_MAX_METRICS];
    int      n_metric, n_search;        /* the first n_search are of `evaluate` */
    int      objective[LM_MAX_STAGES];
    size_t   n_objective;
    struct lm_bound bound[LM_MAX_STAGES];
    size_t   n_bound;
    struct lm_view_trial *trial;
    int64_t  n_trial, cap;
    struct lm_view_said { char *key, *text; struct lm_view_said *next; } *said;
                                        /* what study_text handed out */
};

/* Of a new study; writes what a later load needs into the store. */
enum lm_status lm_view_new(struct lm_pipeline *p, const struct lm_arch *arch,
                           struct lm_store *store, struct lm_study **s, struct lm_err *e);
enum lm_status lm_view_load(struct lm_store *store, struct lm_study **s,
                            struct lm_err *e);
void lm_view_free(struct lm_study *s);
/* Resolves `share` bounds once the dense model is measured (trial 0); for the search,
 * so in the precision of the search. */
enum lm_status lm_view_bounds(struct lm_study *s, struct lm_pipeline *p,
                              struct lm_err *e);
/* Adds a trial with the measures of its record; other metrics are NAN. */
enum lm_status lm_view_add(struct lm_study *s, const struct lm_record *r,
                           struct lm_view_trial **t, struct lm_err *e);
/* The metric of `final` that measures in f32 what metric m of `evaluate` measures
 * in less ("kl_f32.nats" of "kl.nats"); -1: none.                            */
int lm_view_twin(const struct lm_study *s, int m);
/* Is metric m of candidates as the search had them: of `evaluate`, or a twin?  Others are
 * of what is exported.                                                       */
bool lm_view_as_searched(const struct lm_study *s, int m);
/* Marks feasible and front; needed after the last lm_view_add and lm_view_final.
 * Where metrics have twins, and trials that these have measured: by the twins,
 * among those trials, and `share` bounds are shares of trial 0's twins.      */
enum lm_status lm_view_rank(struct lm_study *s, struct lm_err *e);
/* Of the proposals, which are all trials but the first: how many could not be built, and
 * how many were built and break a constraint, as the search was told.            */
void lm_view_infeasible(const struct lm_study *s, int64_t *unbuilt, int64_t *broken);
/* violation [n_bound] of a trial: <= 0 satisfied. */
void lm_view_violation(const struct lm_study *s, const struct lm_view_trial *t,
                       double *v);
/* Objective k of a trial, as minimised. */
double lm_view_objective(const struct lm_study *s, const struct lm_view_trial *t,
                         size_t k);
/* The same, by its twin where all twins have measured the trial. */
double lm_view_confirmed(const struct lm_study *s, const struct lm_view_trial *t,
                         size_t k);
/* The same, of a trial that lost a race as estimated. */
double lm_view_told(const struct lm_study *s, const struct lm_view_trial *t, size_t k);
/* By how much a value breaks a bound, relative to it; 0: not at all. */
double lm_bound_excess(const struct lm_bound *b, double v);
/* Trial by rule; -1: none.  Among feasible full-fidelity trials but the dense
 * one, unless it alone is feasible; by twins where these have measured.     */
int64_t lm_view_pick(const struct lm_study *s, enum lm_pick pick);
/* Stores a metric of a finalist. */
enum lm_status lm_view_final(struct lm_study *s, int64_t trial, int metric, double value,
                             double error, struct lm_err *e);
/* What of that is in the store, into the trial; the rest stays as it is. */
enum lm_status lm_view_load_final(struct lm_study *s, struct lm_view_trial *t,
                                  struct lm_err *e);

/* Adds what an evaluation found of the machine's steadiness to the facts "timing" and
 * "clocks", sentences that it reads again: the run may be a resumed one.    timed.c */
enum lm_status lm_view_timed(struct lm_study *s, struct lm_tally tally, struct lm_err *e);
/* The same as told so far; all 0 where nothing was timed. */
struct lm_tally lm_view_tally(const struct lm_study *s);

/* The host's study_* functions. */
int64_t lm_view_n_trials(const struct lm_study *s);
enum lm_status lm_view_trial(const struct lm_study *s, int64_t i, struct lm_trial *out,
                             struct lm_err *e);
int64_t lm_view_n_metrics(const struct lm_study *s);
const char *lm_view_metric(const struct lm_study *s, int64_t i, const char **unit,
                           bool *objective);
int64_t lm_view_best(const struct lm_study *s);
const struct lm_arch *lm_view_arch(const struct lm_study *s);
const char *lm_view_text(const struct lm_study *s, const char *key);
#endif
