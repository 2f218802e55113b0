/* SPDX-License-Identifier: Apache-2.0 */
/* prices.c -- see prices.h.
 *
 * With d = x - x0 and r = excess - e0 - prior . d of each genome told, the correction of
 * the prior solves (sum d d^T + ridge I) c = sum d r.                            */
#include "prices.h"

#include <math.h>
#include <string.h>

#define RIDGE 1e-6                      /* of the mean diagonal */
#define WIDEST 0.25                     /* spread */
#define NARROW 0.01                     /* where spread grows from */

static bool chooses(const struct axis *a)
{
    return !a->ordered && a->gene->kind != LM_GENE_SUBSET;
}

static void features(const struct prices *s, const union lm_value *genome, double *x)
{
    memset(x, 0, s->n_feature * sizeof *x);
    for (size_t g = 0; g < s->genes->p->n_gene; g++) {
        const struct axis *a = &s->genes->axis[g];
        double *to = x + s->first[g];

        if (a->gene->kind == LM_GENE_SUBSET)
            *to = (double)genes_count(a->gene, genome + a->gene->slot) / a->gene->n;
        else if (chooses(a))
            to[(size_t)genes_get(a, genome)] = 1;
        else
            *to = a->top > 0 ? genes_get(a, genome) / a->top : 0;
    }
}

static bool price_open(struct prices *s, struct price *p)
{
    size_t n = s->n_feature + 1;

    p->x0 = s->h->alloc(4 * n * sizeof *p->x0, s->genes->tag);
    p->gram = s->h->alloc(n * n * sizeof *p->gram, s->genes->tag);
    if (!p->x0 || !p->gram)
        return false;
    p->prior = p->x0 + n;
    p->product = p->prior + n;
    p->weight = p->product + n;
    return true;
}

enum lm_status prices_open(struct prices *s, const struct genes *g, size_t n,
                           struct lm_err *e)
{
    bool room;

    *s = (struct prices){ .h = g->h, .genes = g, .n = n };
    s->first = s->h->alloc((g->p->n_gene + 1) * sizeof *s->first, g->tag);
    s->price = s->h->alloc((n + 1) * sizeof *s->price, g->tag);
    for (size_t i = 0; s->first && i < g->p->n_gene; i++) {
        s->first[i] = s->n_feature;
        s->n_feature += chooses(&g->axis[i]) ? (size_t)g->axis[i].top + 1 : 1;
    }
    room = s->first && s->price && s->n_feature < UINT32_MAX / 2;
    if (room) {
        s->x = s->h->alloc((s->n_feature + 1) * sizeof *s->x, g->tag);
        s->square = s->h->alloc((s->n_feature + 1) * (s->n_feature + 1)
                                * sizeof *s->square, g->tag);
        room = s->x && s->square;
    }
    for (size_t k = 0; room && k < n; k++)
        room = price_open(s, &s->price[k]);
    return room ? LM_OK : s->h->fail(e, LM_ENOMEM, "out of memory for the prices of "
                                     "%zu genes", g->p->n_gene);
}

void prices_close(struct prices *s)
{
    if (!s->h)
        return;
    for (size_t k = 0; s->price && k < s->n; k++) {
        s->h->release(s->price[k].x0);
        s->h->release(s->price[k].gram);
    }
    s->h->release(s->price);
    s->h->release(s->first);
    s->h->release(s->x);
    s->h->release(s->square);
}

static void tell_first(struct prices *s, struct price *p, const union lm_value *genome,
                       double excess)
{
    double kept = 0;

    p->known = true;
    p->spread = WIDEST;
    p->e0 = excess;
    features(s, genome, p->x0);
    for (size_t g = 0; g < s->genes->p->n_gene; g++)
        if (!chooses(&s->genes->axis[g]))
            kept += p->x0[s->first[g]];
    for (size_t g = 0; g < s->genes->p->n_gene && kept > 0; g++)
        if (!chooses(&s->genes->axis[g]))
            p->prior[s->first[g]] = (1 + excess) / kept;
    memcpy(p->weight, p->prior, s->n_feature * sizeof *p->weight);
}

void prices_tell(struct prices *s, size_t k, const union lm_value *genome, double excess)
{
    struct price *p = &s->price[k];
    size_t n = s->n_feature;
    double r = excess - p->e0;

    if (!p->known) {
        tell_first(s, p, genome, excess);
        return;
    }
    p->told++;
    p->wrong += pow(prices_excess(s, k, genome) - excess, 2);
    features(s, genome, s->x);
    for (size_t i = 0; i < n; i++) {
        s->x[i] -= p->x0[i];
        r -= p->prior[i] * s->x[i];
    }
    for (size_t i = 0; i < n; i++) {
        if (s->x[i] == 0)
            continue;
        p->product[i] += s->x[i] * r;
        for (size_t j = 0; j <= i; j++)
            p->gram[i * n + j] += s->x[i] * s->x[j];
    }
}

static void set_spread(struct price *p)
{
    p->spread = p->told ? sqrt(p->wrong / (double)p->told) : fmax(2 * p->spread, NARROW);
    p->spread = fmin(p->spread, WIDEST);
    p->wrong = 0;
    p->told = 0;
}

enum lm_status prices_learn(struct prices *s, struct lm_err *e)
{
    size_t n = s->n_feature;

    for (size_t k = 0; k < s->n; k++) {
        struct price *p = &s->price[k];
        double mean = 0;
        enum lm_status st;

        set_spread(p);
        for (size_t i = 0; i < n; i++)
            mean += p->gram[i * n + i] / (double)n;
        if (!(mean > 0))
            continue;
        memcpy(s->square, p->gram, n * n * sizeof *s->square);
        for (size_t i = 0; i < n; i++)
            s->square[i * n + i] += RIDGE * mean;
        st = s->h->cholesky(s->square, (int64_t)n, (int64_t)n, e);
        if (st != LM_OK)
            return st;
        memcpy(s->x, p->product, n * sizeof *s->x);
        s->h->cholesky_solve(s->square, (int64_t)n, (int64_t)n, s->x, 1, (int64_t)n);
        for (size_t i = 0; i < n; i++)
            p->weight[i] = p->prior[i] + s->x[i];
    }
    return LM_OK;
}

double prices_excess(struct prices *s, size_t k, const union lm_value *genome)
{
    const struct price *p = &s->price[k];
    double sum = p->known ? p->e0 : NAN;

    features(s, genome, s->x);
    for (size_t i = 0; i < s->n_feature; i++)
        sum += p->weight[i] * (s->x[i] - p->x0[i]);
    return sum;
}

double prices_step(const struct prices *s, size_t k, size_t gene)
{
    const struct axis *a = &s->genes->axis[gene];
    double w = s->price[k].weight[s->first[gene]];

    if (a->gene->kind == LM_GENE_SUBSET)
        return w / a->gene->n;
    if (chooses(a) || !(a->top > 0))
        return 0;
    return a->continuous ? w / 64 : w / a->top;
}
