/* SPDX-License-Identifier: Apache-2.0 */
/* exported.c -- what an exported file is in truth, beside what its plan says.
 *
 * The plan counts weights; the file has headers and a tokenizer, and a format may
 * store some tensors otherwise or fill layers up.  Times are measured by the same
 * evaluators with the same options, on the model as its format reads it, with
 * this program's backend: they say nothing of other programs.               */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "pipeline/finish.h"

static enum lm_status bytes_on_disk(const char *path, bool folder, int64_t *bytes,
                                    struct lm_err *e)
{
    if (folder)
        return lm_folder_bytes(path, bytes, e);
    *bytes = lm_file_size(path);
    return *bytes >= 0 ? LM_OK : lm_fail(e, LM_EIO, "%s: cannot be measured", path);
}

static int64_t parameters(const struct lm_model *m)
{
    int64_t n = 0;
    for (uint32_t role = 1; role < LM_N_ROLES; role++)
        for (int32_t i = 0; i < (lm_role_is_layer(role) ? lm_model_arch(m)->n_layer
                                 : 1); i++) {
            const struct lm_tensor *t =
                lm_model_tensor(m, role, lm_role_is_layer(role) ? i : -1);
            n += t ? t->rows * t->cols : 0;
        }
    return n;
}

/* Evaluators of time; copies without an instance, for another model. */
static size_t clocks(const struct lm_pipeline *p, struct lm_stage *out)
{
    size_t n = 0;
    for (size_t i = 0; i < p->n_evaluate + p->n_final && n < LM_MAX_STAGES; i++) {
        const struct lm_stage *s = i < p->n_evaluate ? &p->evaluate[i]
                                                     : &p->final[i - p->n_evaluate];
        const struct lm_evaluator *ops = s->plugin->ops;
        if (!(ops->needs & LM_NEEDS_QUIET))
            continue;
        out[n] = *s;
        out[n++].self = NULL;
    }
    return n;
}

static void add(struct lm_jsonw *w, const char *key, double value)
{
    lm_jsonw_key(w, key);
    lm_jsonw_real(w, value);
}

static void count(struct lm_jsonw *w, const char *key, int64_t value)
{
    lm_jsonw_key(w, key);
    lm_jsonw_int(w, value);
}

static void planned_times(const struct lm_study *v, int64_t trial,
                          const struct lm_stage *clock, size_t n, struct lm_jsonw *w)
{
    char name[96];
    for (int i = 0; lm_metric_at(clock, n, i, name, sizeof name, NULL); i++)
        for (int m = 0; m < v->n_metric; m++)
            if (!strcmp(v->metric[m].name, name) && !isnan(v->trial[trial].value[m])
                && !isnan(v->trial[0].value[m]))        /* else it is the anchor's */
                add(w, name, v->trial[trial].value[m]);
}

/* Takes m over. */
static enum lm_status written_times(const struct lm_session *s, struct lm_model *m,
                                    struct lm_stage *clock, size_t n, uint32_t dtype,
                                    struct lm_jsonw *w, struct lm_err *e)
{
    struct lm_stage backend = *s->bench.backend;    /* another instance of it */
    struct lm_bench b;
    struct lm_result *r = NULL;
    char name[96];
    size_t n_metric = 0;
    backend.self = NULL;
    enum lm_status st = lm_bench_start(&b, m, &backend, 0, e);
    if (!st)
        st = lm_judges_open(&b, clock, n, dtype, 1 << 20, e);
    if (!st) {
        n_metric = lm_evaluation_metrics(b.evaluation);
        r = lm_alloc_array(n_metric + 1, sizeof *r, "exported");
        st = r ? lm_bench_measure(&b, r, e) : lm_fail_memory(e, n_metric, "results");
    }
    for (int i = 0; !st && lm_metric_at(clock, n, i, name, sizeof name, NULL); i++)
        if (!isnan(r[i].value))
            add(w, name, r[i].value);
    if (r)
        lm_results_free(r, n_metric);
    lm_release(r);
    lm_bench_close(&b);
    if (st == LM_EINFEASIBLE) {         /* the file is whole all the same */
        lm_log(LM_WARN, "the exported model is not timed: %s", e->text);
        st = LM_OK;
    }
    return st;
}

static enum lm_status written(const struct lm_session *s, const struct lm_export_stage *x,
                              const char *path, struct lm_stage *clock, size_t n,
                              struct lm_jsonw *w, struct lm_err *e)
{
    const struct lm_format *ops = x->stage.plugin->ops;
    struct lm_model *m;
    int64_t bytes;
    enum lm_status st = bytes_on_disk(path, !ops->suffix || !*ops->suffix, &bytes, e);
    if (st)
        return st;
    count(w, "bytes", bytes);
    if (!s->pipeline->options->verify)              /* it is not read back */
        return LM_OK;
    st = lm_load_model(path, x->stage.plugin->module.name, s->pipeline->run, &m, e);
    if (st)
        return st;
    count(w, "parameters", parameters(m));
    if (n)
        return written_times(s, m, clock, n, (uint32_t)x->o->dtype + 1, w, e);
    lm_model_free(m);
    return LM_OK;
}

enum lm_status lm_exported(struct lm_session *s, const struct lm_study *v, int64_t trial,
                           const struct lm_export_stage *x, const char *path,
                           struct lm_jsonw *w, struct lm_err *e)
{
    struct lm_stage clock[LM_MAX_STAGES];
    struct lm_cost cost = { .struct_size = sizeof cost };
    struct lm_plan *plan;
    const char *slash = strrchr(path, '/');
    size_t n = clocks(s->pipeline, clock);
    enum lm_status st = lm_plan_parse(lm_model_arch(s->bench.model),
                                      v->trial[trial].plan_text, &plan, e);
    if (st)
        return st;
    lm_plan_cost(plan, (uint32_t)x->o->dtype + 1, &cost);
    lm_plan_free(plan);
    lm_jsonw_begin(w, '{');
    lm_jsonw_key(w, "file");
    lm_jsonw_string(w, slash ? slash + 1 : path);
    lm_jsonw_key(w, "trial");
    lm_jsonw_int(w, v->trial[trial].id);
    lm_jsonw_key(w, "format");
    lm_jsonw_string(w, x->stage.plugin->module.name);
    lm_jsonw_key(w, "plan");
    lm_jsonw_begin(w, '{');
    count(w, "bytes", cost.bytes);
    count(w, "parameters", cost.params);
    planned_times(v, trial, clock, n, w);
    lm_jsonw_end(w, '}');
    lm_jsonw_key(w, "written");
    lm_jsonw_begin(w, '{');
    st = written(s, x, path, clock, n, w, e);
    lm_jsonw_end(w, '}');
    lm_jsonw_end(w, '}');
    return st;
}
