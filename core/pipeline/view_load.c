/* SPDX-License-Identifier: Apache-2.0 */
/* view_load.c -- a study's frame (metrics, bounds, shapes) to and from the
 * store's texts, and its trials from the store.  The database is untrusted. */
#include "pipeline/view.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "plan/plan.h"

void lm_view_free(struct lm_study *s)
{
    if (!s)
        return;
    for (int64_t i = 0; i < s->n_trial; i++) {
        struct lm_view_trial *t = &s->trial[i];
        lm_release(t->plan_text);
        lm_release(t->reason);
        lm_release(t->value);
        lm_release(t->error);
        lm_release(t->told);
        lm_release(t->layer);
    }
    while (s->said) {
        struct lm_view_said *t = s->said;
        s->said = t->next;
        lm_release(t->key);
        lm_release(t->text);
        lm_release(t);
    }
    lm_release(s->trial);
    lm_release(s->shape);
    lm_release(s);
}

static void add_metrics(struct lm_study *s, const struct lm_stage *stage, size_t n)
{
    const struct lm_metric *m;
    char name[96];
    for (int i = 0; s->n_metric < LM_MAX_METRICS &&
         lm_metric_at(stage, n, i, name, sizeof name, &m); i++) {
        snprintf(s->metric[s->n_metric].name, sizeof name, "%s", name);
        snprintf(s->metric[s->n_metric].unit, sizeof s->metric[0].unit, "%s",
                 m->unit ? m->unit : "");
        s->metric[s->n_metric++].maximise = m->maximise;
    }
}

static enum lm_status save_frame(struct lm_study *s, struct lm_err *e)
{
    struct lm_str metrics = { 0 }, arch = { 0 };
    const struct lm_arch *a = &s->arch;
    lm_str_add(&metrics, "%d %d\n", s->n_metric, s->n_search);
    for (int i = 0; i < s->n_metric; i++) {
        int objective = -1;
        for (size_t k = 0; k < s->n_objective; k++)
            if (s->objective[k] == i)
                objective = (int)k;
        lm_str_add(&metrics, "%s %s %d %d\n", s->metric[i].name,
                   s->metric[i].unit[0] ? s->metric[i].unit : "-", objective,
                   s->metric[i].maximise);
    }
    lm_str_add(&arch, "%d %d %d %d\n", a->n_layer, a->hidden, a->head_dim, a->vocab);
    for (int32_t i = 0; i < a->n_layer; i++)
        lm_str_add(&arch, "%d %d %d\n", a->layer[i].n_head, a->layer[i].n_kv,
                   a->layer[i].n_ff);
    enum lm_status st = metrics.failed || arch.failed
        ? lm_fail_memory(e, 4096, "the study's frame")
        : lm_store_put(s->store, "metrics", metrics.s, e);
    if (!st)
        st = lm_store_put(s->store, "arch", arch.s, e);
    lm_str_free(&metrics);
    lm_str_free(&arch);
    return st;
}

enum lm_status lm_view_new(struct lm_pipeline *p, const struct lm_arch *arch,
                           struct lm_store *store, struct lm_study **out,
                           struct lm_err *e)
{
    struct lm_study *s = lm_alloc(sizeof *s, "study");
    if (!s)
        return lm_fail_memory(e, sizeof *s, "the study");
    size_t bytes = (size_t)arch->n_layer * sizeof *s->shape;
    s->store = store;
    s->arch = *arch;
    if (!(s->shape = lm_alloc(bytes, "study"))) {
        lm_view_free(s);
        return lm_fail_memory(e, bytes, "the study");
    }
    memcpy(s->shape, arch->layer, bytes);
    s->arch.layer = s->shape;
    s->arch.family = s->arch.name = "";
    s->arch.eos_more = NULL;
    s->arch.n_eos_more = 0;
    s->arch.generation = NULL;
    add_metrics(s, p->evaluate, p->n_evaluate);
    s->n_search = s->n_metric;
    add_metrics(s, p->final, p->n_final);
    s->n_objective = p->n_objective;
    for (size_t k = 0; k < p->n_objective; k++) {
        s->objective[k] = p->objective[k].metric;
        s->metric[s->objective[k]].objective = true;
    }
    enum lm_status st = save_frame(s, e);
    if (st) {
        lm_view_free(s);
        return st;
    }
    *out = s;
    return LM_OK;
}

static enum lm_status damaged(struct lm_err *e, const char *what)
{
    return lm_fail(e, LM_EINPUT, "the study's %s is missing or damaged", what);
}

/* Next line of *p into line; false at the end. */
static bool next_line(const char **p, char *line, size_t size)
{
    size_t n = strcspn(*p, "\n");
    if (!**p || n >= size)
        return false;
    memcpy(line, *p, n);
    line[n] = 0;
    *p += n + ((*p)[n] == '\n');
    return true;
}

static enum lm_status load_metrics(struct lm_study *s, const char *p, struct lm_err *e)
{
    char line[256];
    if (!next_line(&p, line, sizeof line) ||
        sscanf(line, "%d %d", &s->n_metric, &s->n_search) != 2 || s->n_metric < 1 ||
        s->n_metric > LM_MAX_METRICS || s->n_search < 1 || s->n_search > s->n_metric)
        return damaged(e, "list of metrics");
    for (int i = 0; i < s->n_metric; i++) {
        int objective, maximise;
        if (!next_line(&p, line, sizeof line) ||
            sscanf(line, "%95s %31s %d %d", s->metric[i].name, s->metric[i].unit,
                   &objective, &maximise) != 4 || objective >= LM_MAX_STAGES ||
            !lm_plan_names(s->metric[i].name) || !lm_plan_names(s->metric[i].unit))
            return damaged(e, "list of metrics");
        if (!strcmp(s->metric[i].unit, "-"))
            s->metric[i].unit[0] = 0;
        s->metric[i].maximise = maximise;
        s->metric[i].objective = objective >= 0;
        if (objective >= 0) {
            s->objective[objective] = i;
            if ((size_t)objective >= s->n_objective)
                s->n_objective = (size_t)objective + 1;
        }
    }
    return s->n_objective ? LM_OK : damaged(e, "list of metrics");
}

/* A set of a plan takes memory and time by these sizes. */
static enum lm_status load_arch(struct lm_study *s, const char *p, struct lm_err *e)
{
    char line[256];
    struct lm_arch *a = &s->arch;
    a->struct_size = sizeof *a;
    a->family = a->name = "";
    if (!next_line(&p, line, sizeof line) ||
        sscanf(line, "%d %d %d %d", &a->n_layer, &a->hidden, &a->head_dim,
               &a->vocab) != 4 ||
        a->n_layer < 1 || a->n_layer > LM_MAX_LAYERS || a->hidden < 1 ||
        a->hidden > LM_MAX_HIDDEN || a->head_dim < 1 || a->head_dim > LM_MAX_HEAD_DIM ||
        a->vocab < 1 || a->vocab > LM_MAX_VOCAB)
        return damaged(e, "architecture");
    s->shape = lm_alloc_array((size_t)a->n_layer, sizeof *s->shape, "study");
    if (!s->shape)
        return lm_fail_memory(e, 64, "the study");
    a->layer = s->shape;
    for (int32_t i = 0; i < a->n_layer; i++) {
        struct lm_layer_shape *l = &s->shape[i];
        if (!next_line(&p, line, sizeof line) ||
            sscanf(line, "%d %d %d", &l->n_head, &l->n_kv, &l->n_ff) != 3 ||
            l->n_head < 0 || l->n_head > LM_MAX_HEADS || l->n_kv < 0 || l->n_ff < 0 ||
            l->n_ff > LM_MAX_FF ||
            (l->n_kv ? l->n_head % l->n_kv : l->n_head))
            return damaged(e, "architecture");
    }
    return LM_OK;
}

static enum lm_status load_bounds(struct lm_study *s, const char *p, struct lm_err *e)
{
    char line[256];
    while (next_line(&p, line, sizeof line)) {
        struct lm_bound *b = &s->bound[s->n_bound];
        b->share = NAN;                 /* older studies do not tell */
        if (s->n_bound == LM_MAX_STAGES ||
            sscanf(line, "%d %lf %lf %lf", &b->metric, &b->min, &b->max, &b->share) < 3 ||
            b->metric < 0 || b->metric >= s->n_metric)
            return damaged(e, "list of bounds");
        s->n_bound++;
    }
    return LM_OK;
}

/* A metric of a finalist is the text "final/TRIAL/METRIC": "value error". */
static void final_key(char *out, size_t size, int64_t trial, const char *metric)
{
    snprintf(out, size, "final/%lld/%s", (long long)trial, metric);
}

enum lm_status lm_view_final(struct lm_study *s, int64_t trial, int metric, double value,
                             double error, struct lm_err *e)
{
    char key[160], text[80];
    s->trial[trial].value[metric] = value;
    s->trial[trial].error[metric] = error;
    final_key(key, sizeof key, s->trial[trial].id, s->metric[metric].name);
    snprintf(text, sizeof text, "%.17g %.17g", value, error);
    return lm_store_put(s->store, key, text, e);
}

enum lm_status lm_view_load_final(struct lm_study *s, struct lm_view_trial *t,
                                  struct lm_err *e)
{
    enum lm_status st;
    for (int m = s->n_search; m < s->n_metric; m++) {
        char key[160], *text;
        final_key(key, sizeof key, t->id, s->metric[m].name);
        if ((st = lm_store_get(s->store, key, &text, e)))
            return st;
        if (text && sscanf(text, "%lf %lf", &t->value[m], &t->error[m]) != 2)
            t->value[m] = t->error[m] = NAN;
        lm_release(text);
    }
    return LM_OK;
}

static enum lm_status load_trial(struct lm_study *s, const struct lm_record *r,
                                 struct lm_err *e)
{
    struct lm_view_trial *t;
    enum lm_status st = lm_view_add(s, r, &t, e);
    return st ? st : lm_view_load_final(s, t, e);
}

static enum lm_status load_all(struct lm_study *s, struct lm_err *e)
{
    static const struct {
        const char *key;
        enum lm_status (*read)(struct lm_study *, const char *, struct lm_err *);
    } part[] = { { "metrics", load_metrics }, { "arch", load_arch }, { "bounds",
        load_bounds } };
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
        char *text = NULL;
        enum lm_status st = lm_store_get(s->store, part[i].key, &text, e);
        if (!st && !text && i < 2)
            st = damaged(e, part[i].key);
        if (!st && text)
            st = part[i].read(s, text, e);
        lm_release(text);
        if (st)
            return st;
    }
    int64_t n = lm_store_count(s->store);
    for (int64_t i = 0; i < n; i++) {
        struct lm_record r;
        enum lm_status st = lm_store_trial(s->store, i, &r, e);
        if (!st)
            st = load_trial(s, &r, e);
        if (st)
            return st;
    }
    return lm_view_rank(s, e);
}

enum lm_status lm_view_load(struct lm_store *store, struct lm_study **out,
                            struct lm_err *e)
{
    struct lm_study *s = lm_alloc(sizeof *s, "study");
    if (!s)
        return lm_fail_memory(e, sizeof *s, "the study");
    s->store = store;
    enum lm_status st = load_all(s, e);
    if (st) {
        lm_view_free(s);
        return st;
    }
    *out = s;
    return LM_OK;
}
