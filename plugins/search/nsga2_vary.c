/* SPDX-License-Identifier: Apache-2.0 */
/* nsga2_vary.c -- new genomes from old ones: crossover, mutation, level switches.
 *
 * A scalar gene is seen as a number x on [0, top]: the index of its step (INT,
 * BOOL, ordered CHOICE, stepped REAL) or the distance from its minimum, on a
 * logarithmic scale where the gene asks for it (continuous REAL).
 *
 * SBX, for parents y1 < y2 on [0, top] (Deb & Agrawal 1995, bounded form):
 *   beta = 1 + 2 y1 / (y2 - y1) for the lower child, 1 + 2 (top - y2) / (y2 - y1)
 *   for the upper one, alpha = 2 - beta^-(eta+1),
 *   betaq = (r alpha)^(1/(eta+1)) if r <= 1/alpha, else (1/(2 - r alpha))^(1/(eta+1)),
 *   c = (y1 + y2 -+ betaq (y2 - y1)) / 2.
 * Polynomial mutation (Deb & Goyal 1996, bounded form), d = x/top:
 *   r < 1/2: dq = (2r + (1-2r)(1-d)^(eta+1))^(1/(eta+1)) - 1,
 *   else     dq = 1 - (2(1-r) + 2(r-1/2) d^(eta+1))^(1/(eta+1)).               */
#include "nsga2.h"

#include <math.h>

enum { FEW = 4, SWITCHES = 3 };

/* ---- random numbers: splitmix64 -------------------------------------------- */
uint64_t vary_mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

double vary_unit(struct vary *s)                            /* [0, 1) */
{
    return (double)(vary_mix(s->state += UINT64_C(0x9e3779b97f4a7c15)) >> 11) * 0x1p-53;
}

double vary_below(struct vary *s, double n)                 /* 0 .. n-1 */
{
    return fmin(floor(vary_unit(s) * n), n - 1);
}

/* ---- axes: scalar genes as numbers on [0, top] ----------------------------- */
static bool logarithmic(const struct lm_gene *g)
{
    return g->log_scale && g->min > 0 && !(g->step > 0);
}

static double stride(const struct lm_gene *g)
{
    return g->kind == LM_GENE_REAL || g->step >= 1 ? g->step : 1;
}

static void axis_init(struct axis *a, const struct lm_gene *g)
{
    a->gene = g;
    a->ordered = g->kind != LM_GENE_SUBSET && (g->kind != LM_GENE_CHOICE || g->ordered);
    switch (g->kind) {
    case LM_GENE_BOOL:
        a->top = 1;
        break;
    case LM_GENE_CHOICE:
        a->top = g->n - 1.0;
        break;
    case LM_GENE_SUBSET:
        break;
    default:
        a->continuous = g->kind == LM_GENE_REAL && !(g->step > 0);
        if (!a->continuous)
            a->top = floor((g->max - g->min) / stride(g) + 1e-9);
        else
            a->top = logarithmic(g) ? log(g->max / g->min) : g->max - g->min;
    }
    a->few = !a->ordered || (!a->continuous && a->top < FEW);
}

static double get(const struct axis *a, const union lm_value *genome)
{
    const struct lm_gene *g = a->gene;
    const union lm_value *v = genome + g->slot;

    if (g->kind == LM_GENE_BOOL || g->kind == LM_GENE_CHOICE)
        return (double)v->integer;
    if (g->kind == LM_GENE_INT)
        return ((double)v->integer - g->min) / stride(g);
    if (logarithmic(g))
        return log(v->real / g->min);
    return a->continuous ? v->real - g->min : floor((v->real - g->min) / g->step + 0.5);
}

static void put(const struct axis *a, double x, union lm_value *genome)
{
    const struct lm_gene *g = a->gene;
    union lm_value *v = genome + g->slot;

    x = fmin(fmax(a->continuous ? x : floor(x + 0.5), 0), a->top);
    if (g->kind == LM_GENE_BOOL || g->kind == LM_GENE_CHOICE)
        v->integer = (int64_t)x;
    else if (g->kind == LM_GENE_INT)
        v->integer = (int64_t)g->min + (int64_t)x * (int64_t)stride(g);
    else if (a->continuous)
        v->real = fmin(fmax(logarithmic(g) ? g->min * exp(x) : g->min + x, g->min),
                       g->max);
    else
        v->real = g->min + x * g->step;
}

static void draw_scalar(struct vary *s, const struct axis *a, union lm_value *genome)
{
    put(a, a->continuous ? vary_unit(s) * a->top : vary_below(s, a->top + 1), genome);
}

/* ---- subsets --------------------------------------------------------------- */
static bool has(const union lm_value *v, uint32_t i)
{
    return v[i / 64].bits >> i % 64 & 1;
}

static void flip(union lm_value *v, uint32_t i)
{
    v[i / 64].bits ^= UINT64_C(1) << i % 64;
}

static uint32_t count(const struct lm_gene *g, const union lm_value *v)
{
    uint32_t k = 0;

    for (uint32_t i = 0; i < g->slots; i++)
        for (uint64_t w = v[i].bits; w != 0; w &= w - 1)
            k++;
    return k;
}

/* A random member that is in the set (or is not); there must be one. */
static uint32_t any(struct vary *s, const struct lm_gene *g, const union lm_value *v,
                    bool in, uint32_t n_in)
{
    uint32_t i = 0, skip = (uint32_t)vary_below(s, in ? n_in : g->n - n_in);

    for (; i + 1 < g->n; i++)
        if (has(v, i) == in && skip-- == 0)
            break;
    return i;
}

static void draw_subset(struct vary *s, const struct lm_gene *g, union lm_value *v)
{
    double k = g->min + vary_below(s, g->max - g->min + 1);

    for (uint32_t i = 0; i < g->slots; i++)
        v[i].bits = 0;
    for (uint32_t i = 0; i < g->n && k > 0; i++)    /* Knuth's algorithm S */
        if (vary_below(s, g->n - i) < k) {
            flip(v, i);
            k--;
        }
}

/* Members of exactly one parent change sides by coin; sizes are put right. */
static void cross_subset(struct vary *s, const struct lm_gene *g, union lm_value *a,
                         union lm_value *b)
{
    union lm_value *side[2] = { a, b };

    for (uint32_t i = 0; i < g->n; i++)
        if (has(a, i) != has(b, i) && vary_unit(s) < 0.5) {
            flip(a, i);
            flip(b, i);
        }
    for (int k = 0; k < 2; k++) {
        uint32_t n = count(g, side[k]);
        for (; n < g->min; n++)
            flip(side[k], any(s, g, side[k], false, n));
        for (; n > g->max; n--)
            flip(side[k], any(s, g, side[k], true, n));
    }
}

static void mutate_subset(struct vary *s, const struct lm_gene *g, union lm_value *v)
{
    uint32_t n = count(g, v);
    bool swap = n > 0 && n < g->n, add = n < g->max, drop = n > g->min;
    double pick = vary_below(s, swap + add + drop);

    if (!swap && !add && !drop)
        return;
    if (swap && pick-- == 0) {
        uint32_t in = any(s, g, v, false, n), out = any(s, g, v, true, n);
        flip(v, in);
        flip(v, out);
    } else {
        flip(v, any(s, g, v, !(add && pick == 0), n));
    }
}

/* ---- variation of whole genomes -------------------------------------------- */
static uint64_t first_bits(double n)
{
    return n >= 64 ? UINT64_MAX : n > 0 ? (UINT64_C(1) << (int)n) - 1 : 0;
}

/* Of a subset that may not be whole, as many members as may be. */
void vary_uncompressed(const struct vary *s, union lm_value *genome)
{
    for (size_t k = 0; k < s->p->n_gene; k++) {
        const struct lm_gene *g = s->p->gene[k];
        union lm_value *v = genome + g->slot;

        if (g->kind == LM_GENE_REAL)
            v->real = g->initial;
        else if (g->kind != LM_GENE_SUBSET)
            v->integer = (int64_t)g->initial;
        for (uint32_t i = 0; g->kind == LM_GENE_SUBSET && i < g->slots; i++)
            v[i].bits = first_bits(g->max - 64.0 * i);
    }
}

void vary_draw(struct vary *s, union lm_value *v)
{
    for (size_t i = 0; i < s->p->n_gene; i++) {
        const struct lm_gene *g = s->p->gene[i];
        if (g->kind == LM_GENE_SUBSET)
            draw_subset(s, g, v + g->slot);
        else
            draw_scalar(s, &s->axis[i], v);
    }
}

static void swap_gene(const struct lm_gene *g, union lm_value *a, union lm_value *b)
{
    for (uint32_t i = g->slot; i < g->slot + g->slots; i++) {
        union lm_value t = a[i];
        a[i] = b[i];
        b[i] = t;
    }
}

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
    double x1 = get(ax, a), x2 = get(ax, b);
    double lo = fmin(x1, x2), hi = fmax(x1, x2), gap = hi - lo, r, c1, c2;

    if (gap < 1e-14)
        return;
    r = vary_unit(s);
    c1 = .5 * (lo + hi - gap * spread(1 + 2 * lo / gap, r, s->cfg->eta_c));
    c2 = .5 * (lo + hi + gap * spread(1 + 2 * (ax->top - hi) / gap, r, s->cfg->eta_c));
    if (vary_unit(s) < 0.5) {
        double t = c1;
        c1 = c2;
        c2 = t;
    }
    put(ax, c1, a);
    put(ax, c2, b);
}

void vary_cross(struct vary *s, union lm_value *a, union lm_value *b)
{
    size_t n = s->p->n_gene;

    if (s->cfg->crossover == CUT) {
        for (size_t i = n > 1 ? 1 + (size_t)vary_below(s, n - 1.0) : 0; i < n; i++)
            swap_gene(s->p->gene[s->by_layer[i]], a, b);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const struct axis *ax = &s->axis[i];
        const struct lm_gene *g = ax->gene;

        if (g->kind == LM_GENE_SUBSET && s->cfg->crossover == SBX)
            cross_subset(s, g, a + g->slot, b + g->slot);
        else if (vary_unit(s) >= 0.5)
            continue;
        else if (ax->few || s->cfg->crossover == UNIFORM)
            swap_gene(g, a, b);
        else
            sbx(s, ax, a, b);
    }
}

static void mutate_polynomial(struct vary *s, const struct axis *ax,
                              union lm_value *v)
{
    double x = get(ax, v), k = s->cfg->eta_m + 1, r = vary_unit(s), d;

    if (ax->top <= 0)
        return;
    if (r < 0.5)
        d = pow(2 * r + (1 - 2 * r) * pow(1 - x / ax->top, k), 1 / k) - 1;
    else
        d = 1 - pow(2 * (1 - r) + 2 * (r - .5) * pow(x / ax->top, k), 1 / k);
    put(ax, x + d * ax->top, v);
}

void vary_mutate(struct vary *s, union lm_value *v)
{
    double each = s->cfg->pm > 0 ? s->cfg->pm : 1.0 / (double)s->p->n_gene;
    double some = s->cfg->pm > 0 ? each : fmax(0.02, each);

    for (size_t i = 0; i < s->p->n_gene; i++) {
        const struct axis *ax = &s->axis[i];
        if (vary_unit(s) >= (ax->few ? some : each))
            continue;
        if (ax->gene->kind == LM_GENE_SUBSET) {
            mutate_subset(s, ax->gene, v + ax->gene->slot);
        } else if (ax->few) {                       /* another value */
            double x = vary_below(s, ax->top);
            put(ax, x + (ax->top > 0 && x >= get(ax, v)), v);
        } else {
            mutate_polynomial(s, ax, v);
        }
    }
}

/* The gene, from a random place on, of the family (0: any) that is not `other`
 * and can move up (or down); n_gene if there is none.                        */
static size_t movable(struct vary *s, const union lm_value *v, uint32_t family,
                      size_t other, bool up)
{
    size_t n = s->p->n_gene, from = (size_t)vary_below(s, (double)n);

    for (size_t k = 0; k < n; k++) {
        size_t i = (from + k) % n;
        const struct axis *ax = &s->axis[i];
        const struct lm_gene *g = ax->gene;

        if (ax->family == 0 || (family && ax->family != family) || i == other)
            continue;
        if (g->kind == LM_GENE_SUBSET) {
            uint32_t c = count(g, v + g->slot);
            if (up ? c < g->max : c > g->min)
                return i;
        } else {
            double x = get(ax, v), one = ax->continuous ? ax->top / 64 : 1;
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
        flip(v + g->slot, any(s, g, v + g->slot, by < 0, count(g, v + g->slot)));
    else
        put(ax, get(ax, v) + by, v);
}

/* Level switches; false when no two genes can trade. */
bool vary_exchange(struct vary *s, union lm_value *v)
{
    size_t n = s->p->n_gene;
    double times = 1 + fmin(vary_below(s, SWITCHES), vary_below(s, SWITCHES));
    bool done = false;

    for (; times > 0; times--) {
        size_t down = movable(s, v, 0, n, false), up;
        if (down == n)
            break;
        up = movable(s, v, s->axis[down].family, down, true);
        if (up == n)
            continue;
        const struct axis *a = &s->axis[down], *b = &s->axis[up];
        double by = 1;
        if (a->continuous)                          /* both keep the sum */
            by = fmin(a->top * (1 + vary_below(s, 8)) / 64,
                      fmin(get(a, v), b->top - get(b, v)));
        move(s, a, v, -by);
        move(s, b, v, by);
        done = true;
    }
    return done;
}

/* ---- what depends on the genes alone --------------------------------------- */
static bool alike(const struct lm_gene *a, const struct lm_gene *b)
{
    return a->kind == b->kind && a->site.kind == b->site.kind && a->min == b->min
        && a->max == b->max && a->step == b->step && a->n == b->n;
}

/* Families are numbered from 1; genes without a sense of more have none. */
static void find_families(struct vary *s)
{
    uint32_t families = 0;

    for (size_t i = 0; i < s->p->n_gene; i++) {
        struct axis *a = &s->axis[i];
        axis_init(a, s->p->gene[i]);
        if (a->gene->kind != LM_GENE_SUBSET && !a->ordered)
            continue;
        for (size_t j = 0; j < i && !a->family; j++)
            if (s->axis[j].family && alike(a->gene, s->axis[j].gene))
                a->family = s->axis[j].family;
        if (!a->family)
            a->family = ++families;
    }
}

static void order_layers(struct vary *s)
{
    for (size_t i = 0; i < s->p->n_gene; i++) {     /* stable insertion */
        size_t j = i;
        for (; j > 0 && s->p->gene[s->by_layer[j - 1]]->site.layer
                        > s->p->gene[i]->site.layer; j--)
            s->by_layer[j] = s->by_layer[j - 1];
        s->by_layer[j] = (uint32_t)i;
    }
}

enum lm_status vary_open(struct vary *s, const struct lm_problem *p, struct lm_err *e)
{
    s->p = p;
    s->axis = s->h->alloc(p->n_gene * sizeof *s->axis, "search/nsga2");
    s->by_layer = s->h->alloc(p->n_gene * sizeof *s->by_layer, "search/nsga2");
    if (!s->axis || !s->by_layer)
        return s->h->fail(e, LM_ENOMEM, "out of memory for %zu genes", p->n_gene);
    find_families(s);
    order_layers(s);
    return LM_OK;
}

void vary_close(struct vary *s)
{
    s->h->release(s->axis);
    s->h->release(s->by_layer);
}
