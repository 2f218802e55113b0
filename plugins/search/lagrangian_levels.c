/* SPDX-License-Identifier: Apache-2.0 */
/* lagrangian_levels.c -- genes as tables of levels with increments of loss and
 * size.
 *
 * Integer genes with many steps are thinned to at most 257 evenly spaced levels.
 * Between measured points sizes are interpolated linearly (exact for widths) and
 * losses by the monotone cubic of Fritsch & Butland (1984): straight lines would
 * make the measured points the only levels that are ever worth choosing, because
 * the losses are convex in the width.  Nothing is extrapolated.              */
#include "lagrangian.h"

#include <math.h>

enum { GRID = 256, MOST = 65535 };
static const double DENSER = 1.6;       /* exponent of measured removals */

/* ---- levels ---------------------------------------------------------------- */
static int64_t stride(const struct lm_gene *g)
{
    return g->kind == LM_GENE_INT && g->step >= 1 ? (int64_t)g->step : 1;
}

/* Steps of a gene from its least to its greatest value. */
static double steps(const struct lm_gene *g)
{
    if (g->kind == LM_GENE_BOOL)
        return 1;
    if (g->kind == LM_GENE_CHOICE)
        return g->n - 1.0;
    return floor((g->max - g->min) / (double)stride(g));
}

static double lowest(const struct lm_gene *g)
{
    return g->kind == LM_GENE_INT ? g->min : 0;
}

/* Lists the levels of a gene into value (NULL: only counts them). */
static uint32_t list(const struct lm_gene *g, int64_t *value, uint32_t *initial)
{
    double top = steps(g), last = -1;
    double start = floor((g->initial - lowest(g)) / (double)stride(g) + .5);
    bool thin = g->kind == LM_GENE_INT && top > GRID;
    uint32_t n = 0, grid = thin ? GRID : (uint32_t)top;

    start = fmin(fmax(start, 0), top);
    for (uint32_t i = 0; i <= grid; i++) {
        double at = thin ? floor(i * (top / GRID) + .5) : i;
        for (int k = 0; k < 2; k++) {               /* the initial one goes between */
            double x = k ? at : start;
            if (k == 0 && !(last < start && start < at))
                continue;
            if (x == start)
                *initial = n;
            if (value)
                value[n] = (int64_t)lowest(g) + (int64_t)x * stride(g);
            n++;
        }
        last = at;
    }
    return n;
}

static enum lm_status check(const struct levels *t, const struct lm_gene *g,
                            struct lm_err *e)
{
    if (g->kind != LM_GENE_BOOL && g->kind != LM_GENE_INT && g->kind != LM_GENE_CHOICE)
        return t->h->fail(e, LM_EUNSUPPORTED, "search 'lagrangian' cannot handle gene "
                          "'%s': it measures discrete levels (bool, int, choice)",
                          g->name);
    if (g->kind == LM_GENE_CHOICE && g->n > MOST)
        return t->h->fail(e, LM_EUNSUPPORTED, "search 'lagrangian' cannot handle the "
                          "%u choices of gene '%s'; %u are the most", (unsigned)g->n,
                          g->name, (unsigned)MOST);
    return LM_OK;
}

static void cut(struct levels *t, size_t total)
{
    size_t at = 0;

    for (size_t i = 0; i < t->n; i++) {
        struct axis *a = &t->axis[i];

        a->value = t->value + at;
        a->point = t->flag + at;
        a->known = t->flag + total + at;
        a->allowed = t->flag + 2 * total + at;
        a->loss = t->number + at;
        a->size = t->number + total + at;
        list(a->gene, a->value, &a->initial);
        a->base = a->initial;
        t->cls[i] = (struct knapsack_class){ a->loss, a->size, a->allowed, a->n };
        at += a->n;
    }
}

enum lm_status levels_open(struct levels *t, const struct lm_problem *p,
                           struct lm_err *e)
{
    const char *tag = "search/lagrangian";
    size_t total = 0;

    t->n = p->n_gene;
    t->axis = t->h->alloc(t->n * sizeof *t->axis, tag);
    t->cls = t->h->alloc(t->n * sizeof *t->cls, tag);
    if (!t->axis || !t->cls)
        return t->h->fail(e, LM_ENOMEM, "out of memory for %zu genes", t->n);
    for (size_t i = 0; i < t->n; i++) {
        struct axis *a = &t->axis[i];
        enum lm_status st = check(t, p->gene[i], e);
        if (st != LM_OK)
            return st;
        a->gene = p->gene[i];
        a->ordered = a->gene->kind != LM_GENE_CHOICE || a->gene->ordered;
        a->n = list(a->gene, NULL, &a->initial);
        total += a->n;
    }
    t->value = t->h->alloc(total * sizeof *t->value, tag);
    t->flag = t->h->alloc(3 * total * sizeof *t->flag, tag);
    t->number = t->h->alloc(2 * total * sizeof *t->number, tag);
    if (!t->value || !t->flag || !t->number)
        return t->h->fail(e, LM_ENOMEM, "out of memory for %zu levels", total);
    cut(t, total);
    return LM_OK;
}

void levels_close(struct levels *t)
{
    t->h->release(t->axis);
    t->h->release(t->cls);
    t->h->release(t->value);
    t->h->release(t->flag);
    t->h->release(t->number);
}

/* Level of the k-th of `points` measured ones.  They lie closer together near the
 * uncompressed end: that is where most genes of a good genome are.            */
static size_t place(const struct axis *a, size_t k, size_t points)
{
    double last = a->n - 1.0, share = (double)k / (double)points;

    if (a->initial != 0 && a->initial != a->n - 1)
        return (size_t)(share * last + .5);
    size_t far = (size_t)(pow(share, DENSER) * last + .5);
    return a->initial ? a->n - 1 - far : far;
}

size_t levels_mark(struct levels *t, size_t points)
{
    size_t marked = 0;

    for (size_t i = 0; i < t->n; i++) {
        struct axis *a = &t->axis[i];
        bool all = !a->ordered || a->n - 1 <= points;

        for (uint32_t l = 0; l < a->n; l++)
            a->point[l] = all;
        for (size_t k = 0; k <= points && !all; k++)
            a->point[place(a, k, points)] = true;
        a->point[a->initial] = true;
        for (uint32_t l = 0; l < a->n; l++)
            marked += a->point[l] && l != a->initial;
    }
    return marked;
}

void levels_reset(struct levels *t)
{
    for (size_t i = 0; i < t->n; i++) {
        struct axis *a = &t->axis[i];

        for (uint32_t l = 0; l < a->n; l++) {
            a->known[l] = a->allowed[l] = l == a->base;
            a->loss[l] = a->size[l] = 0;
        }
    }
}

uint32_t levels_distance(const struct axis *a, uint32_t level)
{
    uint32_t lo = level < a->base ? level : a->base + 1;
    uint32_t hi = level < a->base ? a->base : level + 1, n = 0;

    if (!a->ordered)
        return level != a->base;
    for (uint32_t l = lo; l < hi; l++)
        n += a->point[l] || l == level;
    return n;
}

/* ---- between the points ---------------------------------------------------- */
static double secant(const struct axis *a, uint32_t i, uint32_t j)
{
    return (a->loss[j] - a->loss[i]) / (double)(a->value[j] - a->value[i]);
}

/* Slope at point j between the points i and k (j == i or j == k: an end).
 * Weighted harmonic mean of the secants, 0 where they differ in sign.        */
static double slope(const struct axis *a, uint32_t i, uint32_t j, uint32_t k)
{
    double left, right, h1, h2, w;

    if (i == j || j == k)
        return i == k ? 0 : secant(a, i, k);
    left = secant(a, i, j);
    right = secant(a, j, k);
    if (!(left * right > 0))
        return 0;
    h1 = (double)(a->value[j] - a->value[i]);
    h2 = (double)(a->value[k] - a->value[j]);
    w = (h1 + 2 * h2) / (3 * (h1 + h2));
    return left * right / (w * right + (1 - w) * left);
}

/* Hermite cubic with slopes s0 and s1 on the levels strictly between i and j. */
static void fill(struct axis *a, uint32_t i, uint32_t j, double s0, double s1)
{
    double width = (double)(a->value[j] - a->value[i]);

    for (uint32_t l = i + 1; l < j; l++) {
        double u = (double)(a->value[l] - a->value[i]) / width, v = 1 - u;

        a->size[l] = v * a->size[i] + u * a->size[j];
        a->loss[l] = v * v * (1 + 2 * u) * a->loss[i] + u * v * v * width * s0
                   + u * u * (1 + 2 * v) * a->loss[j] - u * u * v * width * s1;
        a->allowed[l] = true;
    }
}

/* The next point behind l (before l with step -1) if it is known, else l. */
static uint32_t neighbour(const struct axis *a, uint32_t l, int step)
{
    for (uint32_t i = l + (uint32_t)step; i < a->n; i += (uint32_t)step)
        if (a->point[i])
            return a->known[i] ? i : l;
    return l;
}

void levels_interpolate(struct levels *t)
{
    for (size_t g = 0; g < t->n; g++) {
        struct axis *a = &t->axis[g];

        for (uint32_t l = 0; l < a->n; l++)
            a->allowed[l] = a->known[l];
        for (uint32_t l = 0; l < a->n && a->ordered; l++) {
            uint32_t next = a->known[l] ? neighbour(a, l, 1) : l;
            if (next != l)
                fill(a, l, next, slope(a, neighbour(a, l, -1), l, next),
                     slope(a, l, next, neighbour(a, next, 1)));
        }
    }
}
