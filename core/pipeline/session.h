/* SPDX-License-Identifier: Apache-2.0 */
/* session.h -- a pipeline brought to life: model, backend, statistics, scores,
 * space, workshop, evaluation.                                              */
#ifndef LM_PIPELINE_SESSION_H
#define LM_PIPELINE_SESSION_H
#include "pipeline/device.h"
#include "pipeline/pipeline.h"
#include "plan/candidate.h"
#include "study/evaluate.h"

struct lm_session;

/* Reads a model with the format that knows it (use: its name, or NULL). */
enum lm_status lm_load_model(const char *path, const char *use, struct lm_run *run,
                             struct lm_model **m, struct lm_err *e);

/* Does a file that was just written load, with as many layers? */
enum lm_status lm_read_back(const char *path, const char *use,
                            const struct lm_model *wrote, struct lm_run *run,
                            struct lm_err *e);

/* A model on a backend, and evaluators for it: enough for `eval`. */
struct lm_bench {
    struct lm_model *model;
    struct lm_engine *engine;
    struct lm_workshop *workshop;
    struct lm_space *space;             /* NULL without pruners */
    struct lm_stats *stats;             /* NULL when nothing needs them */
    struct lm_evaluation *evaluation;
    struct lm_judge judge[LM_MAX_STAGES];
    size_t n_judge;
    bool alone;                         /* candidates share no hidden states */
    struct lm_crew *crew;               /* who evaluates; NULL: this process */
    struct lm_stage *backend, *judge_stage;     /* borrowed; [n_judge] */
    struct lm_device device;            /* of the backend */
    char device_text[LM_DEVICE_TEXT];
};
/* Evaluators of stages (created here) on an open workshop. */
enum lm_status lm_judges_open(struct lm_bench *b, struct lm_stage *stage, size_t n,
                              uint32_t dtype, size_t memory, struct lm_err *e);
void lm_judges_close(struct lm_bench *b);
/* Model, backend and a workshop for the dense model only.  Where the model's weights as
 * floats take more than `memory` bytes (0: half of the machine's), they are decoded when
 * they are used and thrown away again (lm_engine_stream).                    [main] */
enum lm_status lm_bench_open(struct lm_bench *b, const char *path, const char *use,
                             struct lm_stage *backend, size_t memory,
                             struct lm_run *run, struct lm_err *e);
/* The same of a model that is open; b takes it over, also on failure. */
enum lm_status lm_bench_start(struct lm_bench *b, struct lm_model *m,
                              struct lm_stage *backend, size_t memory,
                              struct lm_err *e);
/* Of run.memory, for lm_judges_open(). */
size_t lm_bench_judging(const struct lm_bench *b, int64_t memory);
void lm_bench_close(struct lm_bench *b);
/* lm_candidates_open(), or plans alone where a crew builds them. */
enum lm_status lm_bench_candidates(struct lm_bench *b, struct lm_plan *const *plan,
                                   size_t n, struct lm_candidate *out, struct lm_err *err,
                                   struct lm_err *e);
/* From here on this process evaluates. */
void lm_bench_dismiss(struct lm_bench *b);
/* All metrics of all judges for the model as it is; results are released by
 * lm_results_free.                                                          */
enum lm_status lm_bench_measure(struct lm_bench *b, struct lm_result *r,
                                struct lm_err *e);

struct lm_session {
    struct lm_pipeline *pipeline;
    struct lm_bench bench;
    struct lm_scores *scores;           /* by site and layer, made on demand */
    size_t first_slot[LM_MAX_STAGES];   /* of each pruner's genes */
    size_t tuned_slot;                  /* first slot of the repair's genes */
    size_t format_slot;                 /* first slot of number formats */
    struct lm_repairs *repairs;         /* instances by setting */
    bool sketch;                        /* scores are all the same */
    bool refines;                       /* candidates are repaired by `refine` */
};
/* Everything up to the space and the evaluators of `evaluate`. */
enum lm_status lm_session_open(struct lm_pipeline *p, struct lm_session **s,
                               struct lm_err *e);
/* Model and space alone, without statistics and with scores that are all the same: plans
 * then have the right shapes.  For estimates.                                 */
enum lm_status lm_session_sketch(struct lm_pipeline *p, struct lm_session **s,
                                 struct lm_err *e);
void lm_session_close(struct lm_session *s);
/* How many sites of a kind a layer (-1: the model) has. */
int64_t lm_site_count(const struct lm_arch *a, uint32_t site, int32_t layer);
/* Genome to canonical plan. */
enum lm_status lm_session_decode(struct lm_session *s, const union lm_value *v,
                                 struct lm_plan **plan, struct lm_err *e);
#endif
