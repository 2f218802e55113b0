/* SPDX-License-Identifier: Apache-2.0 */
/* finish.c -- see finish.h. */
#include "pipeline/finish.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "pipeline/host.h"
#include "pipeline/negotiate.h"
#include "pipeline/quantize.h"
#include "pipeline/refine.h"

enum { GROUP = LM_FINALISTS_AT_ONCE };

/* AS_SEARCHED: as the search saw it.  AS_EXPORTED: refined, where the pipeline does
 * so, in this process.                                                            */
enum state { AS_SEARCHED, AS_EXPORTED };

/* Opens the candidate that a trial's stored plan describes; its plan alone where a crew
 * builds it, which there is not with a `refine`.                             */
static enum lm_status reopen(struct lm_session *s, const struct lm_study *v,
                             int64_t trial, enum state state,
                             bool crew, struct lm_plan **plan, struct lm_candidate *c,
                             struct lm_err *e)
{
    struct lm_err why = { 0 };
    enum lm_status st = lm_plan_parse(lm_model_arch(s->bench.model),
                                      v->trial[trial].plan_text, plan, e);
    if (st)
        return st;
    st = crew ? lm_bench_candidates(&s->bench, plan, 1, c, &why, e)
       : state == AS_EXPORTED ? lm_refine_open(s, plan, c, &why, e)
       : lm_candidates_open(s->bench.workshop, plan, 1, c, &why, e);
    if (!st && why.code) {
        *e = why;
        st = why.code;
    }
    if (!st && state == AS_EXPORTED && (st = lm_refine(s, c, e)))
        lm_candidate_close(s->bench.workshop, c);
    if (st)
        lm_plan_free(*plan);
    return st;
}

struct finalist { int64_t trial; bool whole; };    /* whole: by all of `final` */

static void add_finalist(struct finalist *out, size_t *n, int64_t trial, bool whole)
{
    if (trial < 0)
        return;
    for (size_t j = 0; j < *n; j++)
        if (out[j].trial == trial) {
            out[j].whole |= whole;
            return;
        }
    out[(*n)++] = (struct finalist){ trial, whole };
}

static bool has_twins(const struct lm_study *v)
{
    for (int m = 0; m < v->n_search; m++)
        if (lm_view_twin(v, m) >= 0)
            return true;
    return false;
}

/* The dense model, the best, what is exported, and front members spread evenly; the
 * rest of the front where it is to be confirmed.  out has room for all trials.  */
static size_t finalists(const struct lm_pipeline *p, const struct lm_study *v,
                        struct finalist *out, int64_t *front)
{
    size_t n = 0, n_front = 0, spread = (size_t)p->options->finalists;
    add_finalist(out, &n, 0, true);
    add_finalist(out, &n, lm_view_pick(v, LM_PICK_BEST), true);
    for (size_t i = 0; i < p->n_export; i++)
        add_finalist(out, &n, lm_view_pick(v, (enum lm_pick)p->export[i].o->pick), true);
    for (int64_t i = 0; i < v->n_trial; i++)
        if (v->trial[i].front)
            front[n_front++] = i;
    for (size_t i = 0; i < spread && n_front; i++)
        add_finalist(out, &n, front[(2 * i + 1) * n_front / (2 * spread)], true);
    for (size_t i = 0; i < n_front && has_twins(v); i++)
        add_finalist(out, &n, front[i], false);
    return n;
}

/* What confirms the search is of candidates as it saw them; all else that `final`
 * measures is of what is exported.  Without a `refine` these are the same, and one round
 * does it.                                                                    */
static bool measures(const struct lm_session *s, const struct lm_study *v,
                     const struct finalist *f, enum state state, size_t k)
{
    int metric = v->n_search + (int)k;
    bool twin = lm_view_as_searched(v, metric);
    if (!isnan(v->trial[f->trial].value[metric]))
        return false;                   /* an interrupted run did */
    if (!s->pipeline->refine.plugin)
        return state == AS_EXPORTED && (f->whole || twin);
    return state == AS_SEARCHED ? twin : f->whole && !twin;
}

/* A finalist that cannot be measured goes without; the dense model must not. */
static enum lm_status say_failed(const struct lm_study *v, int64_t trial,
                                 const struct lm_err *why, struct lm_err *e)
{
    if (why->code && trial)
        lm_log(LM_WARN, "trial %lld is not measured as a finalist: %s",
               (long long)v->trial[trial].id, why->text);
    else if (why->code)
        return lm_fail(e, why->code, "the uncompressed model cannot be measured: %s",
                       why->text);
    return LM_OK;
}

/* Up to GROUP finalists, which are open at the same time. */
static enum lm_status measure_group(struct lm_session *s, struct lm_study *v,
                                    const struct finalist *f, size_t n, enum state state,
                                    struct lm_result *r, bool *skip, struct lm_err *e)
{
    struct lm_plan *plan[GROUP] = { 0 };
    struct lm_candidate c[GROUP] = { 0 };
    struct lm_err err[GROUP] = { 0 };
    double share[GROUP];
    size_t m = lm_evaluation_metrics(s->bench.evaluation), opened = 0;
    enum lm_status st = LM_OK;
    for (; !st && opened < n; opened++) {
        share[opened] = 1;
        for (size_t k = 0; k < m; k++)
            skip[opened * m + k] = !measures(s, v, &f[opened], state, k);
        st = reopen(s, v, f[opened].trial, state, s->bench.crew, &plan[opened],
                    &c[opened], e);
        if (st == LM_EINFEASIBLE && f[opened].trial) {  /* not the dense model */
            err[opened] = *e;
            plan[opened] = NULL;
            c[opened] = (struct lm_candidate){ 0 };
            *e = (struct lm_err){ .code = LM_OK };
            st = LM_OK;
        } else if (st) {
            break;
        }
    }
    if (!st)
        st = lm_evaluate(s->bench.evaluation, c, n, share, skip, r, err, e);
    if (!st)
        st = lm_view_timed(v, lm_evaluation_tally(s->bench.evaluation), e);
    for (size_t i = 0; !st && i < n; i++)
        st = say_failed(v, f[i].trial, &err[i], e);
    for (size_t i = 0; !st && i < n; i++)
        for (size_t k = 0; !st && k < m; k++)
            if (!err[i].code && !skip[i * m + k])
                st = lm_view_final(v, f[i].trial, v->n_search + (int)k,
                                   r[i * m + k].value, r[i * m + k].error, e);
    for (size_t i = 0; i < opened; i++) {
        lm_candidate_close(s->bench.workshop, &c[i]);
        lm_plan_free(plan[i]);
    }
    lm_results_free(r, n * m);
    return st;
}

/* Those of f [n] of which something is measured in this state. */
static enum lm_status measure_round(struct lm_session *s, struct lm_study *v,
                                    const struct finalist *f, size_t n, enum state state,
                                    struct lm_result *r, bool *skip, struct lm_err *e)
{
    struct finalist group[GROUP];
    size_t m = lm_evaluation_metrics(s->bench.evaluation), in = 0;
    enum lm_status st = LM_OK;
    for (size_t i = 0; !st && i < n; i++) {
        bool any = false;
        for (size_t k = 0; k < m; k++)
            any |= measures(s, v, &f[i], state, k);
        if (any)
            group[in++] = f[i];
        if (in == GROUP || (in && i + 1 == n)) {
            st = measure_group(s, v, group, in, state, r, skip, e);
            in = 0;
        }
    }
    return st;
}

static enum lm_status measure(struct lm_session *s, struct lm_study *v, struct lm_err *e)
{
    size_t all = (size_t)v->n_trial + LM_MAX_STAGES, n = 0;
    size_t m = lm_evaluation_metrics(s->bench.evaluation);
    struct finalist *f = lm_alloc_array(all, sizeof *f, "finalists");
    int64_t *front = lm_alloc_array(all, sizeof *front, "finalists");
    struct lm_result *r = lm_alloc_array(GROUP * m + 1, sizeof *r, "finalists");
    bool *skip = lm_alloc_array(GROUP * m + 1, sizeof *skip, "finalists");
    enum lm_status st = LM_OK;
    if (f && front && r && skip)
        n = finalists(s->pipeline, v, f, front);
    else
        st = lm_fail_memory(e, all * sizeof *f, "finalists");
    for (size_t i = 0; !st && i < n; i++)
        st = lm_view_load_final(v, &v->trial[f[i].trial], e);
    if (!st)
        st = measure_round(s, v, f, n, AS_SEARCHED, r, skip, e);
    if (!st)
        st = measure_round(s, v, f, n, AS_EXPORTED, r, skip, e);
    lm_release(f);
    lm_release(front);
    lm_release(r);
    lm_release(skip);
    return st ? st : lm_view_rank(v, e);
}

/* Of judge i, saying what candidates are when it measures them. */
static enum lm_status put_protocol(struct lm_session *s, struct lm_study *v, size_t i,
                                   struct lm_err *e)
{
    const struct lm_stage *refine = &s->pipeline->refine;
    const struct lm_judge *j = &s->bench.judge[i];
    struct lm_str text = { 0 };
    char key[128];
    size_t n = strlen(j->id);
    bool twin = false;
    for (int m = v->n_search; m < v->n_metric; m++)
        twin |= !strncmp(v->metric[m].name, j->id, n) && v->metric[m].name[n] == '.' &&
                lm_view_as_searched(v, m);
    lm_str_add(&text, "%s", j->protocol);
    if (refine->plugin && !twin)
        lm_str_add(&text, "; of candidates refined by '%s'", refine->plugin->module.name);
    snprintf(key, sizeof key, "protocol:%s", j->id);
    enum lm_status st = text.failed ? lm_fail_memory(e, text.n, "a protocol")
                                    : lm_store_put(v->store, key, text.s, e);
    lm_str_free(&text);
    return st;
}

enum lm_status lm_finish_measure(struct lm_session *s, struct lm_study *v,
                                 struct lm_err *e)
{
    struct lm_pipeline *p = s->pipeline;
    if (!p->n_final)
        return LM_OK;
    lm_progress_begin("measuring finalists");
    if (p->refine.plugin)               /* workers would build them as they were */
        lm_bench_dismiss(&s->bench);
    enum lm_status st = lm_judges_open(&s->bench, p->final, p->n_final,
                                       lm_pipeline_dtype(p),
                                       lm_bench_judging(&s->bench, p->options->memory),
                                       e);
    for (size_t i = 0; !st && i < s->bench.n_judge; i++)
        st = put_protocol(s, v, i, e);
    if (!st)
        st = measure(s, v, e);
    lm_progress_end();
    return st;
}

static enum lm_status sample_one(struct lm_session *s, struct lm_study *v, int64_t trial,
                                 const char *key, const int32_t *ids, size_t n,
                                 struct lm_err *e)
{
    struct lm_plan *plan;
    struct lm_candidate c;
    int32_t *out = NULL;
    size_t n_out = 0;
    struct lm_str text = { 0 };
    struct lm_rest rest = { .n = 0 };
    const struct lm_tokenizer *t = lm_run_tokenizer(s->pipeline->run);
    struct lm_generate o = { .tokens = s->pipeline->sample->tokens, .threads = 1 };
    enum lm_status st = reopen(s, v, trial, AS_EXPORTED, false, &plan, &c, e);
    if (st)
        return st;
    st = lm_generate(s->bench.engine, &c.net, &o, ids, n, &out, &n_out, e);
    for (size_t i = 0; !st && i < n_out; i++)   /* with the space that begins it */
        lm_detokenize_next(t, &rest, out[i], &text);
    lm_detokenize_end(&rest, &text);
    if (!st)
        st = text.failed ? lm_fail_memory(e, text.n, "a sample")
                         : lm_store_put(v->store, key, text.s ? text.s : "", e);
    lm_str_free(&text);
    lm_release(out);
    lm_candidate_close(s->bench.workshop, &c);
    lm_plan_free(plan);
    return st;
}

enum lm_status lm_finish_sample(struct lm_session *s, struct lm_study *v,
                                struct lm_err *e)
{
    const struct lm_sample_options *o = s->pipeline->sample;
    const struct lm_tokenizer *t = lm_run_tokenizer(s->pipeline->run);
    int64_t best = lm_view_pick(v, LM_PICK_BEST);
    int32_t *ids;
    size_t n;
    if (!t || !o->tokens || !o->prompt || !o->prompt[0] || best < 0)
        return LM_OK;
    if (lm_engine_streams(s->bench.engine)) {
        lm_log(LM_INFO, "no sample texts: each of their tokens would take all weights at "
               "once, which run.memory has no room for");
        return LM_OK;
    }
    enum lm_status st = lm_tokenize(t, o->prompt, strlen(o->prompt), false, &ids, &n, e);
    if (st)
        return st;
    if (!(st = lm_store_put(v->store, "prompt", o->prompt, e)) &&
        !(st = sample_one(s, v, 0, "sample_dense", ids, n, e)))
        st = sample_one(s, v, best, "sample_best", ids, n, e);
    if (st == LM_EINFEASIBLE) {
        lm_log(LM_WARN, "no sample texts: %s", e->text);
        st = LM_OK;
    }
    lm_release(ids);
    return st;
}

/* ---- exports ------------------------------------------------------------------ */

static void card(const struct lm_session *s, const struct lm_study *v, int64_t trial,
                 struct lm_str *out)
{
    const struct lm_view_trial *t = &v->trial[trial];
    lm_str_add(out, "# A smaller model made by Lamina\n\n"
               "| | |\n|---|---|\n| parent | %s |\n| parent hash | %016llx |\n"
               "| Lamina | %s |\n| trial | %lld |\n",
               lm_model_source(s->bench.model),
               (unsigned long long)lm_model_hash(s->bench.model), lm_host()->version,
               (long long)t->id);
    if (s->pipeline->refine.plugin)
        lm_str_add(out, "| refined | by '%s', behind the search |\n",
                   s->pipeline->refine.plugin->module.name);
    for (int i = 0; i < v->n_metric; i++) {
        char value[32];
        if (!isnan(t->value[i]))
            lm_str_add(out, "| %s%s | %s %s |\n", v->metric[i].name,
                       s->pipeline->refine.plugin && lm_view_as_searched(v, i)
                       ? ", before that" : "",
                       lm_human_value(value, t->value[i]), v->metric[i].unit);
    }
    lm_str_add(out, "\n## Plan\n\n```\n%s```\n", t->plan_text);
}

enum lm_status lm_export_trial(struct lm_session *s, struct lm_study *v, int64_t trial,
                               struct lm_stage *format, uint32_t dtype, const char *path,
                               bool verify, struct lm_err *e)
{
    struct lm_plan *plan;
    struct lm_candidate c;
    struct lm_model *m = NULL;
    struct lm_str text = { 0 };
    const struct lm_format *ops = format->plugin->ops;
    if (lm_same_file(lm_model_source(s->bench.model), path))
        return lm_fail(e, LM_ECONFIG,
                       "%s: the model would overwrite itself; choose another "
                       "path", path);
    enum lm_status st = reopen(s, v, trial, AS_EXPORTED, false, &plan, &c, e);
    if (st)
        return st;
    struct lm_limits limits = { .struct_size = sizeof limits };
    card(s, v, trial, &text);
    st = text.failed ? lm_fail_memory(e, 4096, "a model card") : LM_OK;
    if (!st && (st = ops->limits(format->self, s->bench.model, dtype, &limits, e)))
        lm_stage_fail(format, e);
    uint64_t missing = lm_candidate_features(&c) & ~limits.features;
    if (!st && missing)
        st = lm_fail(e, LM_ECONFIG,
                     "format '%s' cannot write %s of this model, which trial "
                     "%lld has; %s", format->plugin->module.name,
                     lm_feature_name(missing), (long long)trial,
                     strcmp(format->plugin->module.name, "gguf") ? "use --format gguf"
                                                                 : "choose another trial");
    uint32_t *own = NULL;
    if (!st)
        st = lm_apply(s->bench.workshop, &c, &m, e);
    if (!st)
        st = lm_quantize_export(plan, format->plugin->module.name, limits.features, dtype,
                                &own, e);
    struct lm_export x = { .struct_size = sizeof x, .path = path, .dtype = dtype,
                           .card = text.s, .parent = s->bench.model, .own = own };
    if (!st && (st = ops->write(format->self, m, &x, e)))
        lm_stage_fail(format, e);
    if (!st && verify)
        st = lm_read_back(path, format->plugin->module.name, m, s->pipeline->run, e);
    lm_model_free(m);
    lm_release(own);
    lm_str_free(&text);
    lm_candidate_close(s->bench.workshop, &c);
    lm_plan_free(plan);
    return st;
}

enum lm_status lm_finish_export(struct lm_session *s, struct lm_study *v,
                                const char *folder, struct lm_err *e)
{
    struct lm_pipeline *p = s->pipeline;
    struct lm_str told = { 0 };
    struct lm_jsonw w = { .to = &told };
    char base[4096], name[256], path[4608];
    if (lm_view_pick(v, LM_PICK_BEST) < 0)
        return lm_fail(e, LM_EFAILED,
                       "no trial meets the constraints; start a new run with a "
                       "looser bound or a larger budget of the search");
    if (!p->n_export)
        return LM_OK;
    if (!lm_path_join(base, sizeof base, folder, "export"))
        return lm_fail(e, LM_ECONFIG, "%s: path too long", folder);
    enum lm_status st = lm_make_folder(base, e);
    lm_jsonw_begin(&w, '[');
    for (size_t i = 0; !st && i < p->n_export; i++) {
        struct lm_export_stage *x = &p->export[i];
        int64_t trial = lm_view_pick(v, (enum lm_pick)x->o->pick);
        if (trial < 0) {
            st = lm_conf_fail(e, x->stage.at, "export: pick = \"smallest\" needs what "
                              "`size` measures; add it to `evaluate`");
            break;
        }
        lm_export_name(x, name);
        snprintf(path, sizeof path, "%s/%s", base, name);
        st = lm_export_trial(s, v, trial, &x->stage, (uint32_t)x->o->dtype + 1, path,
                             p->options->verify, e);
        if (!st)
            st = lm_exported(s, v, trial, x, path, &w, e);
        if (!st)
            lm_log(LM_INFO, "exported %s (trial %lld) to %s", lm_pick_names[x->o->pick],
                   (long long)trial, path);
    }
    lm_jsonw_end(&w, ']');
    if (!st)
        st = told.failed ? lm_fail_memory(e, told.n, "the list of exports")
                         : lm_store_put(v->store, "exports", told.s, e);
    lm_str_free(&told);
    return st;
}

/* ---- reports --------------------------------------------------------------------- */

static enum lm_status report_one(struct lm_stage *stage, struct lm_study *v,
                                 const char *folder, struct lm_str *out, struct lm_err *e)
{
    const struct lm_reporter *ops = stage->plugin->ops;
    char *text = NULL, path[4096];
    size_t n = 0;
    enum lm_status st = stage->self ? LM_OK : lm_stage_create(stage, NULL, NULL, e);
    if (st)
        return st;
    if ((st = ops->report(stage->self, v, &text, &n, e)))
        return lm_stage_fail(stage, e);
    if (!ops->file)
        lm_str_put(out, text, n);
    else if (!lm_path_join(path, sizeof path, folder, ops->file))
        st = lm_fail(e, LM_ECONFIG, "%s: path too long", folder);
    else if (!(st = lm_write_file(path, text, n, e)))
        lm_log(LM_INFO, "wrote %s", path);
    lm_release(text);
    return st;
}

enum lm_status lm_finish_report(struct lm_pipeline *p, struct lm_study *v,
                                const char *folder, struct lm_str *text, struct lm_err *e)
{
    enum lm_status st = LM_OK;
    for (size_t i = 0; !st && i < p->n_report; i++)
        st = report_one(&p->report[i], v, folder, text, e);
    return !st && text->failed ? lm_fail_memory(e, text->n, "a report") : st;
}
