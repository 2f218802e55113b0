/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline.h -- a pipeline file, validated: every name found, every option
 * checked, every reference resolved, before any weight is read.             */
#ifndef LM_PIPELINE_PIPELINE_H
#define LM_PIPELINE_PIPELINE_H
#include "pipeline/stage.h"

enum { LM_MAX_STAGES = 16, LM_MAX_WORKERS = 64 };

#define LM_RUN_MEMORY "2000000000"       /* bytes that run.memory is by default */

struct lm_run_options {                 /* group `run` */
    const char *name, *out;
    int64_t seed, threads, memory, batch, finalists, workers;
    double worker_timeout;
    bool verify, share;
};
struct lm_model_options { const char *path; };
struct lm_sample_options { const char *prompt; int64_t tokens; };
struct lm_quantize_options { int64_t per; };    /* enum lm_per */
enum lm_per { LM_PER_MODEL, LM_PER_ROLE, LM_PER_LAYER, LM_PER_MATRIX };
struct lm_race_options { double risk; int64_t first; };
struct lm_goal_options {                /* objectives and constraints */
    const char *metric;
    struct lm_reals max, min, share;    /* one value or none; share: of the dense value */
};
struct lm_export_options {              /* besides the format's own */
    int64_t dtype;                      /* index into lm_dtype_names */
    int64_t pick;                       /* enum lm_pick */
    const char *file;
};
enum lm_pick { LM_PICK_BEST, LM_PICK_KNEE, LM_PICK_SMALLEST, LM_N_PICKS };
extern const char *const lm_pick_names[];       /* NULL-terminated */
/* Number formats that are written; index + 1 == enum lm_dtype. */
extern const char *const lm_dtype_names[];
#define LM_DTYPE_NAMES "f32 f16 bf16 q8_0 q4_0 q4_1"
/* One of them by its name; LM_ECONFIG says what there is. */
enum lm_status lm_dtype_find(const char *name, uint32_t *dtype, struct lm_err *e);

struct lm_goal {
    const struct lm_conf *at;
    struct lm_options opt;
    const struct lm_goal_options *o;
    int metric;                         /* index among all metrics of `evaluate` */
};
struct lm_export_stage {
    struct lm_stage stage;
    struct lm_options opt;
    const struct lm_export_options *o;
    struct lm_limits limits;            /* of a plain llama, or ... */
    int32_t multiple;                   /* of widths, for what quantizers make */
    bool asked;                         /* ... of the model */
};

/* Of the file in export/ that it writes. */
void lm_export_name(const struct lm_export_stage *x, char out[256]);
/* How an evaluator wants candidates to be written for its command. */
struct lm_offer_stage {
    const struct lm_stage *by;
    const char *format;
    uint32_t dtype;
    struct lm_limits limits;
};

struct lm_pipeline {
    struct lm_conf *conf;
    struct lm_run *run;
    struct lm_options run_opt, model_opt, sample_opt, race_opt, data_opt[LM_MAX_STAGES];
    const struct lm_run_options *options;
    const struct lm_model_options *model;
    const struct lm_sample_options *sample;
    const struct lm_race_options *race; /* NULL: every trial sees all its items */
    const char *model_use;              /* format, or NULL: probe */
    size_t n_data;
    bool has_calibration;
    struct lm_stage score[LM_MAX_STAGES], prune[LM_MAX_STAGES];
    struct lm_stage evaluate[LM_MAX_STAGES], final[LM_MAX_STAGES];
    struct lm_stage report[LM_MAX_STAGES];
    struct lm_export_stage export[LM_MAX_STAGES];
    size_t n_score, n_prune, n_evaluate, n_final, n_report, n_export;
    char *measured[LM_MAX_STAGES];      /* id of the evaluator of `final` that measures
                                           what evaluate[i] predicts; NULL: none */
    struct lm_stage quantize[LM_MAX_STAGES];
    size_t n_quantize;
    enum lm_per per;                    /* what has a number format of its own */
    struct lm_stage repair, backend, search;
    bool backend_auto;                  /* the file left it to the machine */
    struct lm_stage refine;             /* plugin NULL: finalists stay as they are */
    struct lm_goal objective[LM_MAX_STAGES], constraint[LM_MAX_STAGES];
    size_t n_objective, n_constraint;
    struct lm_offer_stage offer[2 * LM_MAX_STAGES];
    size_t n_offer;
    size_t beside;                      /* workers that run it side by side; 0: this is
                                           no worker */
};

/* Takes over conf, also on failure. */
enum lm_status lm_pipeline_open(struct lm_conf *conf, struct lm_pipeline **p,
                                struct lm_err *e);
/* The same with the `report` stages alone. */
enum lm_status lm_pipeline_reports(struct lm_conf *conf, struct lm_pipeline **p,
                                   struct lm_err *e);
void lm_pipeline_close(struct lm_pipeline *p);

/* Writes the defaults of all groups and plugins into p->conf, so that its text
 * means the same to a later version.                                        */
enum lm_status lm_pipeline_complete(struct lm_pipeline *p, struct lm_err *e);

/* Puts into `final` what measures in f32 what `evaluate` measures in less: the same
 * evaluator with this behind its id.                               confirm.c */
#define LM_CONFIRMED "_f32"
enum lm_status lm_confirm_stages(struct lm_pipeline *p, struct lm_err *e);
/* Is an evaluator of `final` of this name one of these? */
bool lm_confirms(const struct lm_pipeline *p, const char *id);
/* Puts into `final` what measures what `evaluate` predicts, and p->measured. predict.c */
enum lm_status lm_predict_stages(struct lm_pipeline *p, struct lm_err *e);
/* Have these as many threads as they measure with?  Before a search.         [main] */
enum lm_status lm_predict_check(const struct lm_pipeline *p, struct lm_err *e);
/* "ID.METRIC ID.METRIC", predicted and measured, a pair a line. */
void lm_predict_text(const struct lm_pipeline *p, struct lm_str *out);
/* Does some evaluator compute in bf16 or int8? */
bool lm_pipeline_packs(const struct lm_pipeline *p);
/* "perplexity.ppl" -> index among the metrics of stages; -1. */
int lm_metric_index(const struct lm_stage *stage, size_t n, const char *name);
/* Name of metric i into out; false behind the last.  m may be NULL. */
bool lm_metric_at(const struct lm_stage *stage, size_t n, int i, char *out, size_t size,
                  const struct lm_metric **m);
/* Group i of a pipeline file as a schema, for help: name, summary, options; NULL
 * behind the last.                                                          */
const struct lm_module *lm_pipeline_group(size_t i);
/* dtype the study counts sizes in: that of the first export, else f16. */
uint32_t lm_pipeline_dtype(const struct lm_pipeline *p);
/* Statistics and site kinds the pipeline's scorers and repair need. */
void lm_pipeline_needs(const struct lm_pipeline *p, uint64_t *stats, uint64_t *sites);
/* The scorer for a site kind: the first of `score` that can; NULL. */
struct lm_stage *lm_pipeline_scorer(struct lm_pipeline *p, uint32_t site);
#endif
