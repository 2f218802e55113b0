/* SPDX-License-Identifier: Apache-2.0 */
/* vary.c -- see vary.h.
 *
 * SBX, for parents y1 < y2 on [0, top] (Deb & Agrawal 1995, bounded form):
 *   beta = 1 + 2 y1 / (y2 - y1) for the lower child, 1 + 2 (top - y2) / (y2 - y1)
 *   for the upper one, alpha = 2 - beta^-(eta+1),
 *   betaq = (r alpha)^(1/(eta+1)) if r <= 1/alpha, else (1/(2 - r alpha))^(1/(eta+1)),
 *   c = (y1 + y2 -+ betaq (y2 - y1)) / 2.
 * Polynomial mutation (Deb & Goyal 1996, bounded form), d = x/top:
 *   r < 1/2: dq = (2r + (1-2r)(1-d)^(eta+1))^(1/(eta+1)) - 1,
 *   else     dq = 1 - (2(1-r) + 2(r-1/2) d^(eta+1))^(1/(eta+1)).               */
#include "vary.h"

#include <math.h>

enum { FEW = 4, SWITCHES = 3 };

static bool is_few(const struct axis *a)
{
    return !a->ordered || (!a->continuous && a->top < FEW);
}

/* ---- subsets --------------------------------------------------------------- */
/* Members of exactly one parent change sides by coin; sizes are put right. */
static void cross_subset(struct vary *s, const struct lm_gene *g, union lm_value *a,
                         union lm_value *b)
{
    union lm_value *side[2] = { a, b };

    for (uint32_t i = 0; i < g->n; i++)
        if (genes_has(a, i) != genes_has(b, i) && genes_unit(s->g) < 0.5) {
            genes_flip(a, i);
            genes_flip(b, i);
        }
    for (int k = 0; k < 2; k++) {
        uint32_t n = genes_count(g, side[k]);
        for (; n < g->min; n++)
            genes_flip(side[k], genes_any(s->g, g, side[k], false, n));
        for (; n > g->max; n--)
            genes_flip(side[k], genes_any(s->g, g, side[k], true, n));
    }
}

static bool mutate_subset(struct vary *s, const struct lm_gene *g, union lm_value *v)
{
    uint32_t n = genes_count(g, v);
    bool swap = n > 0 && n < g->n, add = n < g->max, drop = n > g->min;
    double pick = genes_below(s->g, swap + add + drop);

    if (!swap && !add && !drop)
        return false;
    if (swap && pick-- == 0) {
        uint32_t in = genes_any(s->g, g, v, false, n);
        uint32_t out = genes_any(s->g, g, v, true, n);
        genes_flip(v, in);
        genes_flip(v, out);
    } else {
        genes_flip(v, genes_any(s->g, g, v, !(add && pick == 0), n));
    }
    return true;
}

/* ---- crossover and mutation ------------------------------------------------ */
/* Spread factor of SBX for a parent at `gap` = 1 + 2 (distance to its bound) /
 * (distance of the parents).                                                 */
static double spread(double gap, double r, double eta)
{
    double alpha = 2 - pow(gap, -(eta + 1));

    return r <= 1 / alpha ? pow(r * alpha, 1 / (eta + 1))
                          : pow(1 / (2 - r * alpha), 1 / (eta + 1));
}

static void sbx(struct vary *s, const struct axis *ax, union lm_value *a,
                union lm_value *b)
{
    double x1 = genes_get(ax, a), x2 = genes_get(ax, b);
    double lo = fmin(x1, x2), hi = fmax(x1, x2), gap = hi - lo, r, c1, c2;

    if (gap < 1e-14)
        return;
    r = genes_unit(s->g);
    c1 = .5 * (lo + hi - gap * spread(1 + 2 * lo / gap, r, s->eta_c));
    c2 = .5 * (lo + hi + gap * spread(1 + 2 * (ax->top - hi) / gap, r, s->eta_c));
    if (genes_unit(s->g) < 0.5) {
        double t = c1;
        c1 = c2;
        c2 = t;
    }
    genes_put(ax, c1, a);
    genes_put(ax, c2, b);
}

void vary_cross(struct vary *s, union lm_value *a, union lm_value *b)
{
    size_t n = s->g->p->n_gene;

    if (s->crossover == CUT) {
        for (size_t i = n > 1 ? 1 + (size_t)genes_below(s->g, n - 1.0) : 0; i < n; i++)
            genes_swap(s->g->p->gene[s->by_layer[i]], a, b);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const struct axis *ax = &s->g->axis[i];
        const struct lm_gene *g = ax->gene;

        if (g->kind == LM_GENE_SUBSET && s->crossover == SBX)
            cross_subset(s, g, a + g->slot, b + g->slot);
        else if (genes_unit(s->g) >= 0.5)
            continue;
        else if (is_few(ax) || s->crossover == UNIFORM)
            genes_swap(g, a, b);
        else
            sbx(s, ax, a, b);
    }
}

static void mutate_polynomial(struct vary *s, const struct axis *ax,
                              union lm_value *v)
{
    double x = genes_get(ax, v), k = s->eta_m + 1, r = genes_unit(s->g), d;

    if (ax->top <= 0)
        return;
    if (r < 0.5)
        d = pow(2 * r + (1 - 2 * r) * pow(1 - x / ax->top, k), 1 / k) - 1;
    else
        d = 1 - pow(2 * (1 - r) + 2 * (r - .5) * pow(x / ax->top, k), 1 / k);
    genes_put(ax, x + d * ax->top, v);
}

static bool other_value(struct vary *s, const struct axis *ax, union lm_value *v)
{
    double x = genes_below(s->g, ax->top);

    genes_put(ax, x + (ax->top > 0 && x >= genes_get(ax, v)), v);
    return ax->top > 0;
}

bool vary_gene(struct vary *s, size_t gene, union lm_value *v)
{
    const struct axis *ax = &s->g->axis[gene];

    if (ax->gene->kind == LM_GENE_SUBSET)
        return mutate_subset(s, ax->gene, v + ax->gene->slot);
    if (!ax->continuous)
        return other_value(s, ax, v);
    genes_draw(s->g, gene, v);
    return ax->top > 0;
}

void vary_mutate(struct vary *s, union lm_value *v)
{
    double each = s->pm > 0 ? s->pm : 1.0 / (double)s->g->p->n_gene;
    double some = s->pm > 0 ? each : fmax(0.02, each);

    for (size_t i = 0; i < s->g->p->n_gene; i++) {
        const struct axis *ax = &s->g->axis[i];
        if (genes_unit(s->g) >= (is_few(ax) ? some : each))
            continue;
        if (ax->gene->kind == LM_GENE_SUBSET)
            mutate_subset(s, ax->gene, v + ax->gene->slot);
        else if (is_few(ax))
            other_value(s, ax, v);
        else
            mutate_polynomial(s, ax, v);
    }
}

/* The gene, from a random place on, of the family (0: any) that is not `other`
 * and can move up (or down); n_gene if there is none.                        */
static size_t movable(struct vary *s, const union lm_value *v, uint32_t family,
                      size_t other, bool up)
{
    size_t n = s->g->p->n_gene, from = (size_t)genes_below(s->g, (double)n);

    for (size_t k = 0; k < n; k++) {
        size_t i = (from + k) % n;
        const struct axis *ax = &s->g->axis[i];
        const struct lm_gene *g = ax->gene;

        if (ax->family == 0 || (family && ax->family != family) || i == other)
            continue;
        if (g->kind == LM_GENE_SUBSET) {
            uint32_t c = genes_count(g, v + g->slot);
            if (up ? c < g->max : c > g->min)
                return i;
        } else {
            double x = genes_get(ax, v), one = ax->continuous ? ax->top / 64 : 1;
            if (up ? x + one <= ax->top : x - one >= 0)
                return i;
        }
    }
    return n;
}

static void move(struct vary *s, const struct axis *ax, union lm_value *v,
                 double by)
{
    const struct lm_gene *g = ax->gene;

    if (g->kind == LM_GENE_SUBSET)
        genes_flip(v + g->slot, genes_any(s->g, g, v + g->slot, by < 0,
                                          genes_count(g, v + g->slot)));
    else
        genes_put(ax, genes_get(ax, v) + by, v);
}

/* Level switches; false when no two genes can trade. */
bool vary_exchange(struct vary *s, union lm_value *v)
{
    size_t n = s->g->p->n_gene;
    double times = 1 + fmin(genes_below(s->g, SWITCHES), genes_below(s->g, SWITCHES));
    bool done = false;

    for (; times > 0; times--) {
        size_t down = movable(s, v, 0, n, false), up;
        if (down == n)
            break;
        up = movable(s, v, s->g->axis[down].family, down, true);
        if (up == n)
            continue;
        const struct axis *a = &s->g->axis[down], *b = &s->g->axis[up];
        double by = 1;
        if (a->continuous)                          /* both keep the sum */
            by = fmin(a->top * (1 + genes_below(s->g, 8)) / 64,
                      fmin(genes_get(a, v), b->top - genes_get(b, v)));
        move(s, a, v, -by);
        move(s, b, v, by);
        done = true;
    }
    return done;
}

static void order_layers(struct vary *s)
{
    for (size_t i = 0; i < s->g->p->n_gene; i++) {     /* stable insertion */
        size_t j = i;
        for (; j > 0 && s->g->p->gene[s->by_layer[j - 1]]->site.layer
                        > s->g->p->gene[i]->site.layer; j--)
            s->by_layer[j] = s->by_layer[j - 1];
        s->by_layer[j] = (uint32_t)i;
    }
}

enum lm_status vary_open(struct vary *s, struct lm_err *e)
{
    size_t n = s->g->p->n_gene;

    s->by_layer = s->g->h->alloc(n * sizeof *s->by_layer, s->g->tag);
    if (!s->by_layer)
        return s->g->h->fail(e, LM_ENOMEM, "out of memory for %zu genes", n);
    order_layers(s);
    return LM_OK;
}

void vary_close(struct vary *s)
{
    if (s->g)
        s->g->h->release(s->by_layer);
}
