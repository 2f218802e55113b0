/* SPDX-License-Identifier: Apache-2.0 */
/* sweep_table.c -- what the runs of a sweep show: values of each run's best trial,
 * the hypervolume of its front, and over seeds medians, spreads and tests.
 *
 * Hypervolume: the share of a box that the front of the feasible trials dominates.  The
 * box is the same for all runs of the sweep: from the least of each objective on any
 * run's front to the greatest and 5 % of its size more.  WHY only fronts: trials that
 * were cut to ruin would move the corner so far away that no two runs differ.
 *
 * Only runs that have a value count; tests are paired by seed, so a pair needs both.
 * Holm's correction is over all comparisons of the sweep, metrics included.    */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "pipeline/sweep.h"
#include "study/pareto.h"
#include "study/significance.h"

_Static_assert((int)LM_PAIRS >= (int)LM_SWEEP_SEEDS, "a test takes all seeds");

enum lm_status lm_sweep_table_open(const struct lm_sweep *s, struct lm_sweep_table **out,
                                   struct lm_err *e)
{
    size_t n = s->n_variant * s->o->seeds.n;
    struct lm_sweep_table *t = lm_alloc(sizeof *t, "sweep");
    if (t) {
        t->sweep = s;
        t->n_seed = s->o->seeds.n;
        t->result = lm_alloc_array(n, sizeof *t->result, "sweep");
    }
    if (!t || !t->result) {
        lm_release(t);
        return lm_fail_memory(e, n * sizeof *t->result, "the runs of the sweep");
    }
    for (size_t i = 0; i < n; i++)
        for (size_t m = 0; m < LM_SWEEP_METRICS; m++)
            t->result[i].value[m] = NAN;
    *out = t;
    return LM_OK;
}

void lm_sweep_table_close(struct lm_sweep_table *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->sweep->n_variant * t->n_seed; i++) {
        lm_release(t->result[i].reason);
        lm_release(t->result[i].point);
    }
    lm_release(t->result);
    lm_release(t->cell);
    lm_release(t);
}

/* ---- one run -------------------------------------------------------------------- */

/* Its place among the metrics of the sweep, a new one if need be; -1: too many. */
static int find_metric(struct lm_sweep_table *t, const char *name)
{
    size_t i = 0;
    while (i < t->n_metric && strcmp(t->metric[i].name, name))
        i++;
    if (i == t->n_metric) {
        if (i + 1 == LM_SWEEP_METRICS)  /* the last is the hypervolume's */
            return -1;
        snprintf(t->metric[i].name, sizeof t->metric[i].name, "%s", name);
        t->n_metric++;
    }
    return (int)i;
}

static enum lm_status collect_values(struct lm_sweep_table *t,
                                     struct lm_sweep_result *r,
                                     const struct lm_study *v, struct lm_err *e)
{
    int64_t best = lm_view_best(v);
    for (int m = 0; m < v->n_metric; m++) {
        int i = find_metric(t, v->metric[m].name);
        if (i < 0)
            return lm_fail(e, LM_EFAILED, "the runs of the sweep have more than %d "
                           "metrics", LM_SWEEP_METRICS - 1);
        struct lm_sweep_metric *to = &t->metric[i];
        snprintf(to->unit, sizeof to->unit, "%s", v->metric[m].unit);
        to->objective |= v->metric[m].objective;
        to->maximise |= v->metric[m].maximise;
        to->final |= m >= v->n_search;
        r->value[i] = best < 0 ? NAN : v->trial[best].value[m];
    }
    return LM_OK;
}

static enum lm_status collect_front(struct lm_sweep_table *t, struct lm_sweep_result *r,
                                    const struct lm_study *v, struct lm_err *e)
{
    if (v->n_objective != 2) {
        t->mixed |= t->objective[0][0] != 0;
        return LM_OK;
    }
    for (size_t k = 0; k < 2; k++) {
        const char *name = v->metric[v->objective[k]].name;
        if (!t->objective[k][0])
            snprintf(t->objective[k], sizeof t->objective[k], "%s", name);
        t->mixed |= strcmp(t->objective[k], name) != 0;
    }
    size_t n = 0, kept = 0;
    double *point = lm_alloc_array((size_t)v->n_trial * 2 + 1, sizeof *point, "sweep");
    bool *front = lm_alloc_array((size_t)v->n_trial + 1, sizeof *front, "sweep");
    if (!point || !front) {
        lm_release(point);
        lm_release(front);
        return lm_fail_memory(e, (size_t)v->n_trial * 16, "a front");
    }
    for (int64_t i = 0; i < v->n_trial; i++) {
        if (!v->trial[i].feasible)
            continue;
        point[2 * n] = lm_view_confirmed(v, &v->trial[i], 0);
        point[2 * n + 1] = lm_view_confirmed(v, &v->trial[i], 1);
        n++;
    }
    lm_front(point, n, 2, front);
    for (size_t i = 0; i < n; i++)
        if (front[i])
            memmove(point + 2 * kept++, point + 2 * i, 2 * sizeof *point);
    r->point = point;
    r->n_point = kept;
    lm_release(front);
    return LM_OK;
}

enum lm_status lm_sweep_collect(struct lm_sweep_table *t, size_t variant, size_t seed,
                                const struct lm_study *v, struct lm_err *e)
{
    struct lm_sweep_result *r = &t->result[variant * t->n_seed + seed];
    enum lm_status st = collect_values(t, r, v, e);
    if (!st)
        st = collect_front(t, r, v, e);
    if (!st)
        r->state = LM_SWEEP_DONE;
    return st;
}

/* ---- all runs -------------------------------------------------------------------- */

static void find_box(struct lm_sweep_table *t, size_t n)
{
    for (size_t k = 0; k < 2; k++) {
        double lo = INFINITY, hi = -INFINITY;
        for (size_t i = 0; i < n; i++)
            for (size_t p = 0; p < t->result[i].n_point; p++) {
                lo = fmin(lo, t->result[i].point[2 * p + k]);
                hi = fmax(hi, t->result[i].point[2 * p + k]);
            }
        t->ideal[k] = lo;
        t->reference[k] = hi + 0.05 * fabs(hi);
    }
}

/* The last metric, where all runs have the same two objectives. */
static void add_hypervolume(struct lm_sweep_table *t)
{
    size_t n = t->sweep->n_variant * t->n_seed;
    find_box(t, n);
    double box = (t->reference[0] - t->ideal[0]) * (t->reference[1] - t->ideal[1]);
    if (!t->objective[0][0] || t->mixed || !(box > 0) || !isfinite(box)) {
        t->objective[0][0] = 0;
        return;
    }
    struct lm_sweep_metric *m = &t->metric[t->n_metric];
    strcpy(m->name, "hypervolume");
    m->maximise = m->shown = true;
    for (size_t i = 0; i < n; i++)
        if (t->result[i].state == LM_SWEEP_DONE)
            t->result[i].value[t->n_metric] = lm_hypervolume(t->result[i].point,
                t->result[i].n_point, t->reference) / box;
    t->n_metric++;
}

/* Which metrics are tested, and which the short tables have. */
static void choose(struct lm_sweep_table *t)
{
    const struct lm_strings *want = &t->sweep->compare->metric;
    size_t first = t->n_metric;
    for (size_t m = t->n_metric; m-- > 0; )
        if (t->metric[m].objective)
            first = m;
    if (t->objective[0][0])
        first = t->n_metric - 1;
    for (size_t m = 0; m < t->n_metric; m++) {
        struct lm_sweep_metric *x = &t->metric[m];
        x->compared = !want->n && m == first;
        for (size_t i = 0; i < want->n; i++)
            x->compared |= !strcmp(want->v[i], x->name);
        x->shown |= x->objective || x->final || x->compared;
        x->compared &= t->sweep->compare->test == 0;
        t->n_compared += x->compared;
    }
}

/* A run that failed says nothing, whatever it had measured. */
static double measured(const struct lm_sweep_result *r, size_t m)
{
    return r->state == LM_SWEEP_DONE ? r->value[m] : NAN;
}

static void judge_cell(struct lm_sweep_table *t, size_t v, size_t m)
{
    struct lm_sweep_cell *c = &t->cell[v * t->n_metric + m];
    const struct lm_sweep_result *mine = &t->result[v * t->n_seed];
    double value[LM_SWEEP_SEEDS], difference[LM_SWEEP_SEEDS];
    *c = (struct lm_sweep_cell){ .min = INFINITY, .max = -INFINITY, .p = NAN,
                                 .corrected = NAN };
    for (size_t k = 0; k < t->n_seed; k++) {
        double x = measured(&mine[k], m), base = measured(&t->result[k], m);
        if (!isfinite(x))
            continue;
        value[c->n++] = x;
        c->min = fmin(c->min, x);
        c->max = fmax(c->max, x);
        if (isfinite(base))
            difference[c->pairs++] = x - base;
    }
    if (v && t->metric[m].compared)
        c->p = c->corrected = lm_signed_rank(difference, c->pairs).p;
    c->median = lm_median(value, c->n);
    c->mad = lm_median_deviation(value, c->n);
    if (!c->n)
        c->min = c->max = NAN;
}

/* Holm over all comparisons. */
static enum lm_status correct(struct lm_sweep_table *t, struct lm_err *e)
{
    size_t n = t->sweep->n_variant * t->n_metric;
    if (t->sweep->compare->correct != 0)
        return LM_OK;
    double *p = lm_alloc_array(n + 1, sizeof *p, "sweep");
    size_t *order = lm_alloc_array(n + 1, sizeof *order, "sweep");
    if (p && order) {
        for (size_t i = 0; i < n; i++)
            p[i] = t->cell[i].p;
        lm_holm(p, order, n);
        for (size_t i = 0; i < n; i++)
            t->cell[i].corrected = p[i];
    }
    enum lm_status st = p && order ? LM_OK : lm_fail_memory(e, n * 16, "comparisons");
    lm_release(p);
    lm_release(order);
    return st;
}

enum lm_status lm_sweep_judge(struct lm_sweep_table *t, struct lm_err *e)
{
    add_hypervolume(t);
    choose(t);
    size_t n = t->sweep->n_variant * t->n_metric;
    if (!(t->cell = lm_alloc_array(n + 1, sizeof *t->cell, "sweep")))
        return lm_fail_memory(e, n * sizeof *t->cell, "the table");
    for (size_t v = 0; v < t->sweep->n_variant; v++)
        for (size_t m = 0; m < t->n_metric; m++)
            judge_cell(t, v, m);
    return correct(t, e);
}
