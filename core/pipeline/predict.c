/* SPDX-License-Identifier: Apache-2.0 */
/* predict.c -- what a search only predicts is measured on the finalists.
 *
 * Each evaluator of `evaluate` that says who measures what it predicts gets that one into
 * `final`, named ID_measured, unless `final` has one with these options.  As with
 * confirm.c it is written into the configuration.  It judges nothing: front and picks
 * go by what the search was told, since the prediction may be of another machine. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "config/opt_value.h"
#include "pipeline/host.h"
#include "pipeline/pipeline.h"

#define MEASURED "_measured"

static const struct lm_opt *option(const struct lm_module *m, const char *name)
{
    const struct lm_opt *o;
    for (size_t i = 0; (o = lm_opt_at(m, i)); i++)
        if (!strcmp(o->name, name))
            return o;
    return NULL;
}

/* Has the group, with its defaults, this option at this value? */
static bool has_value(const struct lm_conf *group, const struct lm_module *m,
                      const struct lm_conf *wanted)
{
    const struct lm_conf *v = lm_conf_get(group, wanted->key);
    const struct lm_opt *o = option(m, wanted->key);
    struct lm_conf *def = NULL;
    struct lm_err ignored = { 0 };

    if (!v && o && o->def && !lm_opt_text(o, o->def, strlen(o->def), "default", &def,
                                          &ignored))
        v = def;
    bool same = v && !lm_conf_differs(wanted, v);
    lm_conf_free(def);
    return same;
}

/* The member of `final` that uses this plugin with these options; NULL. */
static const struct lm_conf *find(const struct lm_pipeline *p, const struct lm_stage *s,
                                  const struct lm_conf *options)
{
    const struct lm_conf *final = lm_conf_get(p->conf, "final");

    for (size_t i = 0; i < lm_conf_items(final); i++) {
        const struct lm_conf *at = lm_conf_item(final, i), *use = lm_conf_get(at, "use");
        bool same = use && use->type == LM_CONF_STRING &&
                    !strcmp(use->v.s, s->plugin->module.name);

        for (size_t k = 0; same && k < options->n; k++)
            same = has_value(at, &s->plugin->module, options->child[k]);
        if (same)
            return at;
    }
    return NULL;
}

static const char *id_of(const struct lm_conf *at)
{
    const struct lm_conf *id = lm_conf_get(at, "id");

    id = id && id->type == LM_CONF_STRING ? id : lm_conf_get(at, "use");
    return id->v.s;
}

/* Puts what measures evaluate[i] into `final`. */
static enum lm_status measure(struct lm_pipeline *p, size_t i, const char *text,
                              struct lm_err *e)
{
    struct lm_stage s = { 0 };
    struct lm_conf *options = NULL;
    char id[96];
    enum lm_status st = lm_stage_text(&s, LM_EVALUATOR, text, &options, p->run, e);

    if (!st && !find(p, &s, options)) {
        const char *const set[][2] = { { "use", s.plugin->module.name }, { "id", id } };

        if (snprintf(id, sizeof id, "%s" MEASURED, p->evaluate[i].id) >= (int)sizeof id)
            st = lm_conf_fail(e, p->evaluate[i].at, "the name '%s' is too long",
                              p->evaluate[i].id);
        if (!st)
            st = lm_conf_twin(p->conf, "final", options, set, 2, e);
        if (!st)
            lm_log(LM_INFO, "'%s' predicts, so finalists are measured by '%s' (%s), on "
                   "this machine", p->evaluate[i].id, id, text);
    }
    if (!st && !(p->measured[i] = lm_strdup(id_of(find(p, &s, options)), "pipeline")))
        st = lm_fail_memory(e, sizeof id, "a name");
    lm_stage_close(&s);
    lm_conf_free(options);
    return st;
}

enum lm_status lm_predict_stages(struct lm_pipeline *p, struct lm_err *e)
{
    enum lm_status st = LM_OK;

    for (size_t i = 0; !st && i < p->n_evaluate; i++) {
        const struct lm_stage *s = &p->evaluate[i];
        const struct lm_evaluator *ops = s->plugin->ops;
        char text[256] = "";

        if (!ops->measured_by)
            continue;
        if ((st = ops->measured_by(lm_host(), s->opt.config, text, sizeof text, e)))
            return lm_stage_fail(s, e);
        st = measure(p, i, text, e);
    }
    return st;
}

enum lm_status lm_predict_check(const struct lm_pipeline *p, struct lm_err *e)
{
    for (size_t i = 0; i < p->n_evaluate; i++)
        for (size_t k = 0; p->measured[i] && k < p->n_final; k++) {
            const struct lm_conf *v = lm_conf_get(p->final[k].at, "threads");

            if (!strcmp(p->final[k].id, p->measured[i]) && v && v->type == LM_CONF_INT
                && v->v.i > lm_pool_threads())
                return lm_conf_fail(e, p->evaluate[i].at, "what '%s' predicts is "
                                    "measured on finalists with %lld threads, but this "
                                    "command runs %d; set run.threads to as many, or "
                                    "predict from a table of fewer", p->evaluate[i].id,
                                    (long long)v->v.i, lm_pool_threads());
        }
    return LM_OK;
}

void lm_predict_text(const struct lm_pipeline *p, struct lm_str *out)
{
    for (size_t i = 0; i < p->n_evaluate; i++) {
        const struct lm_metric *m;
        char name[160];

        for (size_t k = 0; p->measured[i] && (m = lm_stage_metric(&p->evaluate[i], k));
             k++) {
            snprintf(name, sizeof name, "%s.%s", p->measured[i], m->name);
            if (lm_metric_index(p->final, p->n_final, name) >= 0)
                lm_str_add(out, "%s.%s %s\n", p->evaluate[i].id, m->name, name);
        }
    }
}
