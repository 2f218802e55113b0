/* SPDX-License-Identifier: Apache-2.0 */
/* view.c -- see view.h: trials in memory, their ranks, and what reporters see. */
#include "pipeline/view.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "plan/plan.h"
#include "study/pareto.h"

enum lm_status lm_view_bounds(struct lm_study *s, struct lm_pipeline *p, struct lm_err *e)
{
    struct lm_str text = { 0 };
    for (size_t i = 0; i < p->n_constraint; i++) {
        const struct lm_goal_options *o = p->constraint[i].o;
        int m = p->constraint[i].metric;
        s->bound[i] = (struct lm_bound){ m, -INFINITY, INFINITY, NAN };
        if (o->min.n)
            s->bound[i].min = o->min.v[0];
        if (o->max.n)
            s->bound[i].max = o->max.v[0];
        if (o->share.n) {
            s->bound[i].share = o->share.v[0];
            s->bound[i].max = o->share.v[0] * s->trial[0].value[m];
        }
        lm_str_add(&text, "%d %.17g %.17g %.17g\n", m, s->bound[i].min, s->bound[i].max,
                   s->bound[i].share);
    }
    s->n_bound = p->n_constraint;
    if (text.failed)
        return lm_fail_memory(e, 64, "bounds");
    enum lm_status st = lm_store_put(s->store, "bounds", text.s ? text.s : "", e);
    lm_str_free(&text);
    return st;
}

static enum lm_status shapes_of(const struct lm_study *s, const char *text,
                                struct lm_layer_shape *out, struct lm_err *e)
{
    struct lm_plan *plan;
    if (!text[0]) {
        memcpy(out, s->shape, (size_t)s->arch.n_layer * sizeof *out);
        return LM_OK;
    }
    enum lm_status st = lm_plan_parse(&s->arch, text, &plan, e);
    if (st)
        return st;
    for (int32_t i = 0; i < s->arch.n_layer; i++)
        out[i] = lm_plan_shape(plan, i);
    lm_plan_free(plan);
    return LM_OK;
}

/* What a race said of a trial that it stopped is recorded as "race:METRIC". */
static enum lm_status add_told(const struct lm_study *s, const struct lm_record *r,
                               struct lm_view_trial *t, struct lm_err *e)
{
    size_t skip = strlen(LM_RACE_PREFIX);
    for (size_t i = 0; i < r->n_measure; i++) {
        const char *name = r->measure[i].metric;
        if (strncmp(name, LM_RACE_PREFIX, skip))
            continue;
        if (!t->told) {
            t->told = lm_alloc_array((size_t)s->n_metric, sizeof *t->told, "study");
            if (!t->told)
                return lm_fail_memory(e, (size_t)s->n_metric * 8, "a trial");
            for (int m = 0; m < s->n_metric; m++)
                t->told[m] = NAN;
        }
        for (int m = 0; m < s->n_metric; m++)
            if (!strcmp(s->metric[m].name, name + skip))
                t->told[m] = r->measure[i].value;
    }
    return LM_OK;
}

enum lm_status lm_view_add(struct lm_study *s, const struct lm_record *r,
                           struct lm_view_trial **out, struct lm_err *e)
{
    if (s->n_trial == s->cap) {
        int64_t cap = s->cap ? s->cap * 2 : 256;
        void *p = lm_resize(s->trial, (size_t)cap * sizeof *s->trial);
        if (!p)
            return lm_fail_memory(e, (size_t)cap * sizeof *s->trial, "trials");
        s->trial = p;
        s->cap = cap;
    }
    struct lm_view_trial *t = &s->trial[s->n_trial];
    *t = (struct lm_view_trial){ .id = r->id, .genome = r->genome, .plan = r->plan,
        .status = r->status, .fidelity = r->fidelity, .seconds = r->seconds,
        .plan_text = lm_strdup(r->plan_text ? r->plan_text : "", "study"),
        .reason = lm_strdup(r->reason ? r->reason : "", "study"),
        .value = lm_alloc_array((size_t)s->n_metric + 1, sizeof(double), "study"),
        .error = lm_alloc_array((size_t)s->n_metric + 1, sizeof(double), "study"),
        .layer = lm_alloc_array((size_t)s->arch.n_layer + 1, sizeof *t->layer, "study") };
    s->n_trial++;
    if (!t->plan_text || !t->reason || !t->value || !t->error || !t->layer)
        return lm_fail_memory(e, sizeof *t, "a trial");
    for (int i = 0; i < s->n_metric; i++)
        t->value[i] = t->error[i] = NAN;
    for (size_t i = 0; i < r->n_measure; i++)
        for (int m = 0; m < s->n_metric; m++)
            if (!strcmp(s->metric[m].name, r->measure[i].metric)) {
                t->value[m] = r->measure[i].value;
                t->error[m] = r->measure[i].error;
            }
    enum lm_status st = add_told(s, r, t, e);
    if (st)
        return st;
    *out = t;
    return shapes_of(s, t->plan_text, t->layer, e);
}

double lm_view_objective(const struct lm_study *s, const struct lm_view_trial *t,
                         size_t k)
{
    double v = t->value[s->objective[k]];
    return s->metric[s->objective[k]].maximise ? -v : v;
}

double lm_view_told(const struct lm_study *s, const struct lm_view_trial *t, size_t k)
{
    double v = t->told ? t->told[s->objective[k]] : NAN;
    if (isnan(v))
        return lm_view_objective(s, t, k);
    return s->metric[s->objective[k]].maximise ? -v : v;
}

double lm_bound_excess(const struct lm_bound *b, double v)
{
    if (v > b->max)
        return (v - b->max) / (fabs(b->max) > 1e-12 ? fabs(b->max) : 1);
    if (v < b->min)
        return (b->min - v) / (fabs(b->min) > 1e-12 ? fabs(b->min) : 1);
    return 0;
}

/* dense: trial 0 as the evaluators found it that t is looked at by. */
static void violation(const struct lm_study *s, const struct lm_view_trial *t,
                      const struct lm_view_trial *dense, double *out)
{
    for (size_t i = 0; i < s->n_bound; i++) {
        struct lm_bound b = s->bound[i];
        double v = t->told && !isnan(t->told[b.metric]) ? t->told[b.metric]
                                                        : t->value[b.metric];
        if (!isnan(b.share) && !isnan(dense->value[b.metric]))
            b.max = b.share * dense->value[b.metric];
        if (isnan(v))                   /* left out of partial evaluations */
            out[i] = t->fidelity < 1 ? 0 : INFINITY;
        else
            out[i] = lm_bound_excess(&b, v);
    }
}

void lm_view_violation(const struct lm_study *s, const struct lm_view_trial *t,
                       double *out)
{
    violation(s, t, &s->trial[0], out);
}

/* The excesses of a trial, added up. */
static double all_excess(const struct lm_study *s, const struct lm_view_trial *t)
{
    double excess[LM_MAX_STAGES], sum = 0;
    if (t->status != LM_OK)
        return INFINITY;
    lm_view_violation(s, t, excess);
    for (size_t k = 0; k < s->n_bound; k++)
        sum += fmax(excess[k], 0);
    return sum;
}

void lm_view_infeasible(const struct lm_study *s, int64_t *unbuilt, int64_t *broken)
{
    *unbuilt = *broken = 0;
    for (int64_t i = 1; i < s->n_trial; i++) {
        *unbuilt += s->trial[i].status != LM_OK;
        *broken += s->trial[i].status == LM_OK && all_excess(s, &s->trial[i]) > 0;
    }
}

int lm_view_twin(const struct lm_study *s, int m)
{
    const char *name = s->metric[m].name, *dot = strrchr(name, '.');
    size_t n = dot ? (size_t)(dot - name) : strlen(name), more = strlen(LM_CONFIRMED);
    for (int i = s->n_search; i < s->n_metric; i++) {
        const char *twin = s->metric[i].name;
        if (!strncmp(twin, name, n) && !strncmp(twin + n, LM_CONFIRMED, more)
            && !strcmp(twin + n + more, name + n))
            return i;
    }
    return -1;
}

bool lm_view_as_searched(const struct lm_study *s, int m)
{
    for (int i = 0; i < s->n_search; i++)
        if (i == m || lm_view_twin(s, i) == m)
            return true;
    return false;
}

/* Have all twins of what the study judges by measured this trial? */
static bool is_confirmed(const struct lm_study *s, const struct lm_view_trial *t)
{
    bool any = false;
    for (size_t k = 0; k < s->n_objective + s->n_bound; k++) {
        int m = lm_view_twin(s, k < s->n_objective ? s->objective[k]
                                                   : s->bound[k - s->n_objective].metric);
        if (m >= 0 && isnan(t->value[m]))
            return false;
        any |= m >= 0;
    }
    return any;
}

/* The trial as its twins have measured it, for as long as `with` lives. */
struct confirmed { struct lm_view_trial t; double value[LM_MAX_METRICS]; };

static const struct lm_view_trial *believed(const struct lm_study *s,
                                            const struct lm_view_trial *t,
                                            struct confirmed *with)
{
    if (!is_confirmed(s, t))
        return t;
    with->t = *t;
    with->t.value = with->value;
    for (int m = 0; m < s->n_metric; m++) {
        int twin = m < s->n_search ? lm_view_twin(s, m) : -1;
        with->value[m] = twin >= 0 && !isnan(t->value[twin]) ? t->value[twin]
                                                             : t->value[m];
    }
    return &with->t;
}

double lm_view_confirmed(const struct lm_study *s, const struct lm_view_trial *t, size_t k)
{
    struct confirmed with;
    return lm_view_objective(s, believed(s, t, &with), k);
}

static bool complete(const struct lm_study *s, const struct lm_view_trial *t)
{
    if (t->status != LM_OK || t->fidelity < 1)
        return false;
    for (size_t k = 0; k < s->n_objective; k++)
        if (isnan(lm_view_objective(s, t, k)))
            return false;
    return true;
}

enum lm_status lm_view_rank(struct lm_study *s, struct lm_err *e)
{
    bool twins = false;
    for (int64_t i = 0; i < s->n_trial; i++)
        twins |= is_confirmed(s, &s->trial[i]);
    size_t m = s->n_objective, n = 0;
    double *point = lm_alloc_array((size_t)s->n_trial * m + 1, sizeof *point, "study");
    int64_t *id = lm_alloc_array((size_t)s->n_trial + 1, sizeof *id, "study");
    bool *front = lm_alloc_array((size_t)s->n_trial + 1, sizeof *front, "study");
    double excess[LM_MAX_STAGES];
    if (!point || !id || !front) {
        lm_release(point);
        lm_release(id);
        lm_release(front);
        return lm_fail_memory(e, (size_t)s->n_trial * m * 8, "the front");
    }
    struct confirmed whole;
    const struct lm_view_trial *dense = s->n_trial ? believed(s, &s->trial[0], &whole)
                                                   : NULL;
    for (int64_t i = 0; i < s->n_trial; i++) {
        struct lm_view_trial *t = &s->trial[i];
        struct confirmed with;
        t->front = t->feasible = false;
        if (!complete(s, t) || (twins && !is_confirmed(s, t)))
            continue;
        const struct lm_view_trial *b = believed(s, t, &with);
        t->feasible = true;
        violation(s, b, b == t ? &s->trial[0] : dense, excess);
        for (size_t k = 0; k < s->n_bound; k++)
            t->feasible &= excess[k] <= 0;
        for (size_t k = 0; k < m; k++)
            point[n * m + k] = lm_view_objective(s, b, k);
        id[n++] = i;
    }
    lm_front(point, n, m, front);
    for (size_t i = 0; i < n; i++)
        s->trial[id[i]].front = front[i];
    lm_release(point);
    lm_release(id);
    lm_release(front);
    return LM_OK;
}

/* A search may propose what leaves the model as it is: a twin of trial 0. */
static bool is_dense(const struct lm_study *s, const struct lm_view_trial *t)
{
    return t->plan == s->trial[0].plan;
}

/* metric -1: the first objective */
static double judged(const struct lm_study *s, const struct lm_view_trial *t, int metric)
{
    struct confirmed with;
    t = believed(s, t, &with);
    return metric < 0 ? lm_view_objective(s, t, 0) : t->value[metric];
}

/* Feasible trial with the least value, of equals one on the front, of those
 * the first; the dense model only where nothing else is feasible.            */
static int64_t pick_least(const struct lm_study *s, int metric)
{
    const struct lm_view_trial *best = NULL;
    for (int64_t i = 0; i < s->n_trial; i++) {
        const struct lm_view_trial *t = &s->trial[i];
        double v = judged(s, t, metric);
        if (!t->feasible || isnan(v))
            continue;
        bool better = !best || v < judged(s, best, metric) ||
            (v == judged(s, best, metric) && t->front && !best->front);
        if (best && is_dense(s, best) != is_dense(s, t))
            better = is_dense(s, best);
        if (better)
            best = t;
    }
    return best ? best - s->trial : -1;
}

/* Of the front that the feasible trials have among themselves. */
static int64_t pick_knee(const struct lm_study *s)
{
    size_t n = 0;
    if (s->n_objective != 2)
        return pick_least(s, -1);
    double *point = lm_alloc_array((size_t)s->n_trial * 2 + 1, sizeof *point, "study");
    bool *front = lm_alloc_array((size_t)s->n_trial + 1, sizeof *front, "study");
    int64_t *id = lm_alloc_array((size_t)s->n_trial + 1, sizeof *id, "study"), found = -1;
    if (point && front && id) {
        for (int64_t i = 0; i < s->n_trial; i++) {
            if (!s->trial[i].feasible)
                continue;
            struct confirmed with;
            const struct lm_view_trial *t = believed(s, &s->trial[i], &with);
            point[2 * n] = lm_view_objective(s, t, 0);
            point[2 * n + 1] = lm_view_objective(s, t, 1);
            id[n++] = i;
        }
        lm_front(point, n, 2, front);
        size_t k = lm_knee(point, front, n);
        found = k < n && !is_dense(s, &s->trial[id[k]]) ? id[k] : pick_least(s, -1);
    }
    lm_release(point);
    lm_release(front);
    lm_release(id);
    return found;
}

int64_t lm_view_pick(const struct lm_study *s, enum lm_pick pick)
{
    if (pick == LM_PICK_KNEE)
        return pick_knee(s);
    if (pick == LM_PICK_BEST)
        return pick_least(s, -1);
    for (int i = 0; i < s->n_metric; i++)
        if (!strcmp(s->metric[i].name, "size.bytes"))
            return pick_least(s, i);
    return -1;
}

int64_t lm_view_best(const struct lm_study *s)
{
    return lm_view_pick(s, LM_PICK_BEST);
}

int64_t lm_view_n_trials(const struct lm_study *s)
{
    return s->n_trial;
}

enum lm_status lm_view_trial(const struct lm_study *s, int64_t i, struct lm_trial *out,
                             struct lm_err *e)
{
    if (i < 0 || i >= s->n_trial)
        return lm_fail(e, LM_EBUG, "there is no trial %lld", (long long)i);
    const struct lm_view_trial *t = &s->trial[i];
    const struct lm_trial full = { .struct_size = sizeof full, .id = t->id,
        .status = t->status,
        .feasible = t->feasible, .front = t->front, .fidelity = t->fidelity,
        .seconds = t->seconds, .reason = t->reason, .plan = t->plan_text,
        .value = t->value, .error = t->error, .layer = t->layer, .estimate = t->told,
        .violation = all_excess(s, t) };
    lm_fill_struct(out, &full, sizeof full);
    return LM_OK;
}

int64_t lm_view_n_metrics(const struct lm_study *s)
{
    return s->n_metric;
}

const char *lm_view_metric(const struct lm_study *s, int64_t i, const char **unit,
                           bool *objective)
{
    if (i < 0 || i >= s->n_metric)
        return NULL;
    if (unit)
        *unit = s->metric[i].unit;
    if (objective)
        *objective = s->metric[i].objective;
    return s->metric[i].name;
}

const struct lm_arch *lm_view_arch(const struct lm_study *s)
{
    return &s->arch;
}

/* Text of a key in the store; NULL: none. */
static char *look_up(const struct lm_study *s, const char *key)
{
    struct lm_err ignored = { 0 };
    char *text = NULL, judge[128];
    const char *dot = strrchr(key, '.');
    if (lm_store_get(s->store, key, &text, &ignored))
        return NULL;
    if (!text && dot && !strncmp(key, "protocol:", 9)) {    /* all metrics share it */
        snprintf(judge, sizeof judge, "%.*s", (int)(dot - key), key);
        if (lm_store_get(s->store, judge, &text, &ignored))
            return NULL;
    }
    return text;
}

const char *lm_view_text(const struct lm_study *s, const char *key)
{
    struct lm_study *w = (struct lm_study *)s;  /* keeps what it hands out */
    for (struct lm_view_said *t = s->said; t; t = t->next)
        if (!strcmp(t->key, key))
            return t->text;
    struct lm_view_said *t = lm_alloc(sizeof *t, "study");
    if (!t || !(t->key = lm_strdup(key, "study")) || !(t->text = look_up(s, key))) {
        lm_release(t ? t->key : NULL);
        lm_release(t);
        return "";
    }
    t->next = w->said;
    w->said = t;
    return t->text;
}
