/* SPDX-License-Identifier: Apache-2.0 */
/* genes.c -- see genes.h. */
#include "genes.h"

#include <math.h>
#include <stdio.h>

struct genes genes_of(const struct lm_args *a, const char *name)
{
    char stream[64];

    snprintf(stream, sizeof stream, "search/%s", name);
    return (struct genes){ .h = a->host, .tag = name,
                           .state = a->host->seed(a->run, stream, 0) };
}

/* ---- random numbers -------------------------------------------------------- */
uint64_t genes_mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

double genes_unit(struct genes *s)
{
    return (double)(genes_mix(s->state += UINT64_C(0x9e3779b97f4a7c15)) >> 11) * 0x1p-53;
}

double genes_below(struct genes *s, double n)
{
    return fmin(floor(genes_unit(s) * n), n - 1);
}

/* ---- axes ------------------------------------------------------------------ */
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
}

static bool alike(const struct lm_gene *a, const struct lm_gene *b)
{
    return a->kind == b->kind && a->site.kind == b->site.kind && a->min == b->min
        && a->max == b->max && a->step == b->step && a->n == b->n;
}

enum lm_status genes_open(struct genes *s, const struct lm_problem *p, struct lm_err *e)
{
    uint32_t families = 0;

    s->p = p;
    s->axis = s->h->alloc((p->n_gene + 1) * sizeof *s->axis, s->tag);
    if (!s->axis)
        return s->h->fail(e, LM_ENOMEM, "out of memory for %zu genes", p->n_gene);
    for (size_t i = 0; i < p->n_gene; i++) {
        struct axis *a = &s->axis[i];
        axis_init(a, p->gene[i]);
        if (a->gene->kind != LM_GENE_SUBSET && !a->ordered)
            continue;
        for (size_t j = 0; j < i && !a->family; j++)
            if (s->axis[j].family && alike(a->gene, s->axis[j].gene))
                a->family = s->axis[j].family;
        if (!a->family)
            a->family = ++families;
    }
    return LM_OK;
}

enum lm_status genes_needed(const struct genes *s, struct lm_err *e)
{
    if (s->p->n_gene > 0 && s->p->n_objective > 0)
        return LM_OK;
    return s->h->fail(e, LM_ECONFIG, "search '%s' needs at least one gene and one "
                      "objective", s->tag);
}

void genes_close(struct genes *s)
{
    s->h->release(s->axis);
    s->h->release(s->seen);
}

double genes_get(const struct axis *a, const union lm_value *genome)
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

void genes_put(const struct axis *a, double x, union lm_value *genome)
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

void genes_draw(struct genes *s, size_t gene, union lm_value *genome)
{
    const struct axis *a = &s->axis[gene];
    const struct lm_gene *g = a->gene;

    if (g->kind == LM_GENE_SUBSET)
        genes_draw_subset(s, g, genome + g->slot,
                          g->min + genes_below(s, g->max - g->min + 1));
    else if (a->continuous)
        genes_put(a, genes_unit(s) * a->top, genome);
    else if (g->kind == LM_GENE_REAL && g->log_scale && g->min > 0)
        genes_put(a, (g->min * pow(g->max / g->min, genes_unit(s)) - g->min) / g->step,
                  genome);
    else
        genes_put(a, genes_below(s, a->top + 1), genome);
}

static uint64_t first_bits(double n)
{
    return n >= 64 ? UINT64_MAX : n > 0 ? (UINT64_C(1) << (int)n) - 1 : 0;
}

void genes_keep(const struct genes *s, size_t gene, union lm_value *genome)
{
    const struct lm_gene *g = s->p->gene[gene];
    union lm_value *v = genome + g->slot;

    if (g->kind == LM_GENE_REAL)
        v->real = g->initial;
    else if (g->kind != LM_GENE_SUBSET)
        v->integer = (int64_t)g->initial;
    for (uint32_t i = 0; g->kind == LM_GENE_SUBSET && i < g->slots; i++)
        v[i].bits = first_bits(g->max - 64.0 * i);
}

void genes_swap(const struct lm_gene *g, union lm_value *a, union lm_value *b)
{
    for (uint32_t i = g->slot; i < g->slot + g->slots; i++) {
        union lm_value t = a[i];
        a[i] = b[i];
        b[i] = t;
    }
}

/* ---- subsets --------------------------------------------------------------- */
bool genes_has(const union lm_value *v, uint32_t i)
{
    return v[i / 64].bits >> i % 64 & 1;
}

void genes_flip(union lm_value *v, uint32_t i)
{
    v[i / 64].bits ^= UINT64_C(1) << i % 64;
}

uint32_t genes_count(const struct lm_gene *g, const union lm_value *v)
{
    uint32_t k = 0;

    for (uint32_t i = 0; i < g->slots; i++)
        for (uint64_t w = v[i].bits; w != 0; w &= w - 1)
            k++;
    return k;
}

uint32_t genes_any(struct genes *s, const struct lm_gene *g, const union lm_value *v,
                   bool in, uint32_t n_in)
{
    uint32_t i = 0, skip = (uint32_t)genes_below(s, in ? n_in : g->n - n_in);

    for (; i + 1 < g->n; i++)
        if (genes_has(v, i) == in && skip-- == 0)
            break;
    return i;
}

void genes_draw_subset(struct genes *s, const struct lm_gene *g, union lm_value *v,
                       double members)
{
    for (uint32_t i = 0; i < g->slots; i++)
        v[i].bits = 0;
    for (uint32_t i = 0; i < g->n && members > 0; i++)      /* Knuth's algorithm S */
        if (genes_below(s, g->n - i) < members) {
            genes_flip(v, i);
            members--;
        }
}

/* ---- whole genomes --------------------------------------------------------- */
void genes_draw_all(struct genes *s, union lm_value *genome)
{
    for (size_t i = 0; i < s->p->n_gene; i++)
        genes_draw(s, i, genome);
}

void genes_at_share(struct genes *s, double share, union lm_value *genome)
{
    for (size_t i = 0; i < s->p->n_gene; i++) {
        const struct lm_gene *g = s->p->gene[i];

        if (g->kind == LM_GENE_SUBSET)
            genes_draw_subset(s, g, genome + g->slot,
                              (double)(int64_t)(g->min + share * (g->max - g->min)));
        else
            genes_put(&s->axis[i], share * s->axis[i].top, genome);
    }
}

void genes_keep_all(const struct genes *s, union lm_value *genome)
{
    for (size_t i = 0; i < s->p->n_gene; i++)
        genes_keep(s, i, genome);
}

static uint64_t *place(uint64_t *table, size_t n, uint64_t key)
{
    size_t i = key & (n - 1);

    while (table[i] != 0 && table[i] != key)
        i = (i + 1) & (n - 1);
    return table + i;
}

enum lm_status genes_reserve(struct genes *s, size_t n, struct lm_err *e)
{
    size_t want = s->n_table ? s->n_table : 256;
    uint64_t *t;

    while (2 * (s->n_seen + n) > want)
        want *= 2;
    if (want == s->n_table)
        return LM_OK;
    t = s->h->alloc(want * sizeof *t, s->tag);
    if (!t)
        return s->h->fail(e, LM_ENOMEM, "out of memory for the genomes proposed");
    for (size_t i = 0; i < s->n_table; i++)
        if (s->seen[i])
            *place(t, want, s->seen[i]) = s->seen[i];
    s->h->release(s->seen);
    s->seen = t;
    s->n_table = want;
    return LM_OK;
}

static uint64_t hash(const struct genes *s, const union lm_value *genome)
{
    uint64_t key = s->p->n_slot;

    for (size_t i = 0; i < s->p->n_slot; i++)
        key = genes_mix((key ^ genome[i].bits) + UINT64_C(0x9e3779b97f4a7c15));
    return key + (key == 0);
}

bool genes_note(struct genes *s, const union lm_value *genome)
{
    uint64_t key = hash(s, genome), *at = place(s->seen, s->n_table, key);

    if (*at)
        return false;
    *at = key;
    s->n_seen++;
    return true;
}

bool genes_known(const struct genes *s, const union lm_value *genome)
{
    return *place(s->seen, s->n_table, hash(s, genome)) != 0;
}
