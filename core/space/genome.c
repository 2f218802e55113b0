/* SPDX-License-Identifier: Apache-2.0 */
/* genome.c -- values of the genes: how many there are, whether a genome is
 * sound, and its fingerprint.                                               */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "space/space.h"

int64_t lm_gene_count(const struct lm_gene *g)
{
    double n;

    switch (g->kind) {
    case LM_GENE_REAL:
        if (g->min == g->max)
            return 1;
        if (g->step == 0)
            return 0;
        n = floor((g->max - g->min) / g->step * (1 + 1e-12)) + 1;
        return n < 9e15 ? (int64_t)n : 0;
    case LM_GENE_SUBSET:
        return 0;
    default:
        return (int64_t)((g->max - g->min) / g->step) + 1;
    }
}

union lm_value lm_gene_value(const struct lm_gene *g, int64_t i)
{
    union lm_value v;

    if (g->kind == LM_GENE_REAL)
        v.real = fmin(g->max, g->min + (double)i * g->step);
    else
        v.integer = (int64_t)(g->min + (double)i * g->step);
    return v;
}

static void fill_subset(const struct lm_gene *g, union lm_value *v)
{
    for (uint32_t i = 0; i < g->slots; i++)
        v[i].bits = ~UINT64_C(0);
    if (g->n % 64)
        v[g->slots - 1].bits >>= 64 - g->n % 64;
}

void lm_genome_initial(const struct lm_space *s, union lm_value *out)
{
    size_t n;
    const struct lm_gene *const *g = lm_space_genes(s, &n);

    for (size_t i = 0; i < n; i++) {
        union lm_value *v = out + g[i]->slot;

        if (g[i]->kind == LM_GENE_SUBSET)
            fill_subset(g[i], v);
        else if (g[i]->kind == LM_GENE_REAL)
            v->real = g[i]->initial;
        else
            v->integer = (int64_t)g[i]->initial;
    }
}

static bool sound_subset(const struct lm_gene *g, const union lm_value *v)
{
    uint32_t set = 0;

    for (uint32_t i = 0; i < g->slots; i++)
        set += (uint32_t)__builtin_popcountll(v[i].bits);
    if (g->n % 64 && v[g->slots - 1].bits >> g->n % 64)
        return false;
    return set >= g->min && set <= g->max;
}

static bool sound(const struct lm_gene *g, const union lm_value *v)
{
    int64_t low = (int64_t)g->min, high = (int64_t)g->max;
    double at;

    switch (g->kind) {
    case LM_GENE_SUBSET:
        return sound_subset(g, v);
    case LM_GENE_REAL:
        if (!(v->real >= g->min && v->real <= g->max))
            return false;
        at = g->step > 0 ? (v->real - g->min) / g->step : 0;
        return fabs(at - round(at)) <= 1e-9 * (1 + fabs(at));
    default:
        return v->integer >= low && v->integer <= high
            && (v->integer - low) % (int64_t)g->step == 0;
    }
}

void lm_real_text(double v, struct lm_str *out)
{
    char text[40];
    int digits = 6;

    do
        snprintf(text, sizeof text, "%.*g", digits, v);
    while (strtod(text, NULL) != v && digits++ < 17);
    lm_str_add(out, "%s", text);
}

static void put_value(const struct lm_gene *g, const union lm_value *v, struct lm_str *t)
{
    switch (g->kind) {
    case LM_GENE_REAL:
        lm_real_text(v->real, t);
        return;
    case LM_GENE_CHOICE:
        if (v->integer >= 0 && v->integer < g->n) {
            lm_str_add(t, "%s", g->choice[v->integer]);
            return;
        }
        break;
    case LM_GENE_SUBSET:
        lm_str_add(t, "0x");
        for (uint32_t i = g->slots; i-- > 0; )
            lm_str_add(t, i + 1 < g->slots ? "%016" PRIx64 : "%" PRIx64, v[i].bits);
        return;
    }
    lm_str_add(t, "%" PRId64, v->integer);
}

enum lm_status lm_genome_check(const struct lm_space *s, const union lm_value *v,
                               struct lm_err *e)
{
    size_t n;
    const struct lm_gene *const *g = lm_space_genes(s, &n);
    struct lm_str text = { 0 };

    for (size_t i = 0; i < n; i++) {
        if (sound(g[i], v + g[i]->slot))
            continue;
        put_value(g[i], v + g[i]->slot, &text);
        lm_fail(e, LM_EBUG, "gene '%s' has the value %s, which is not between %g and "
                "%g on steps of %g; the search strategy is at fault", g[i]->name,
                text.failed || !text.s ? "?" : text.s, g[i]->min, g[i]->max, g[i]->step);
        lm_str_free(&text);
        return LM_EBUG;
    }
    return LM_OK;
}

uint64_t lm_genome_hash(const struct lm_space *s, const union lm_value *v)
{
    size_t n;
    const struct lm_gene *const *g = lm_space_genes(s, &n);
    uint64_t h = lm_hash_u64(n, 0x67656e6f6d65);        /* "genome" */

    for (size_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < g[i]->slots; j++) {
            union lm_value w = v[g[i]->slot + j];

            if (g[i]->kind == LM_GENE_REAL && w.real == 0)
                w.real = 0;             /* -0 is 0 */
            h = lm_hash_u64(w.bits, h);
        }
    return h;
}
