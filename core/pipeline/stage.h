/* SPDX-License-Identifier: Apache-2.0 */
/* stage.h -- a plugin as a pipeline uses it: found, options filled, created. */
#ifndef LM_PIPELINE_STAGE_H
#define LM_PIPELINE_STAGE_H
#include "config/opt.h"
#include "loader/loader.h"
#include "model/stats.h"
#include "pipeline/run.h"

struct lm_stage {
    enum lm_kind kind;
    char *id;                           /* `id`, or the plugin's name */
    const struct lm_loaded *plugin;
    struct lm_options opt;
    void *self;                         /* NULL until created */
    const struct lm_conf *at;           /* its group; NULL: defaults only */
    struct lm_stage *child;             /* members of its LM_OPT_PLUGINS option */
    struct lm_instance *instance;       /* [n_child], what the plugin sees of them */
    size_t n_child;
    struct lm_run *run;
    struct lm_metric *metric;           /* of this evaluator under its options; NULL:
                                           those of the plugin */
};

/* Finds the plugin of a group and checks its options.  `use` may be missing
 * when fallback names a plugin.  skip: keys of the group that are not the
 * plugin's (NULL-terminated, may be NULL).  where: "prune[1]".              */
enum lm_status lm_stage_open(struct lm_stage *s, enum lm_kind kind,
                             const struct lm_conf *group, const char *fallback,
                             const char *const *skip, const char *where,
                             struct lm_run *run, struct lm_err *e);
/* The options of a plugin that is already open; group may be NULL. */
enum lm_status lm_stage_plugin(struct lm_stage *s, const struct lm_loaded *plugin,
                               const struct lm_conf *group, const char *where,
                               struct lm_run *run, struct lm_err *e);
/* From "NAME:key=value,..." of a command line. */
enum lm_status lm_stage_text(struct lm_stage *s, enum lm_kind kind, const char *text,
                             struct lm_conf **group, struct lm_run *run,
                             struct lm_err *e);
/* Metric i of an evaluator; NULL behind the last. */
const struct lm_metric *lm_stage_metric(const struct lm_stage *s, size_t i);
enum lm_status lm_stage_create(struct lm_stage *s, const struct lm_model *m,
                               const struct lm_stats *stats, struct lm_err *e);
/* Undoes create: an instance goes before the model and the statistics it holds. */
void lm_stage_destroy(struct lm_stage *s);
void lm_stage_close(struct lm_stage *s);
/* Puts "ORIGIN: ID: " (or "ID: ") in front of a failure of the stage. */
enum lm_status lm_stage_fail(const struct lm_stage *s, struct lm_err *e);
#endif
