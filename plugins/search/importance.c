/* SPDX-License-Identifier: Apache-2.0 */
/* importance.c -- see importance.h. */
#include "importance.h"

#include <math.h>
#include <stdlib.h>

static bool scored(const struct lm_gene *g)
{
    return g->kind == LM_GENE_SUBSET && g->score;
}

static int best_first(const void *x, const void *y)
{
    const struct vote *a = x, *b = y;

    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    if (a->score != b->score)
        return a->score > b->score ? -1 : 1;
    if (a->gene != b->gene)
        return a->gene < b->gene ? -1 : 1;
    return (a->member > b->member) - (a->member < b->member);
}

enum lm_status importance_open(struct importance *s, const struct genes *g, bool global,
                               struct lm_err *e)
{
    const struct lm_problem *p = g->p;
    size_t n = 0;

    *s = (struct importance){ .g = g, .global = global };
    for (size_t i = 0; i < p->n_gene; i++)
        n += scored(p->gene[i]) ? p->gene[i]->n : 0;
    if (n == 0)
        return LM_OK;
    if (!(s->vote = g->h->alloc(n * sizeof *s->vote, g->tag)))
        return g->h->fail(e, LM_ENOMEM, "out of memory for the scores of %zu members", n);
    for (uint32_t i = 0; i < p->n_gene; i++)
        for (uint32_t m = 0; scored(p->gene[i]) && m < p->gene[i]->n; m++)
            s->vote[s->n++] = (struct vote){
                p->gene[i]->score[m], global ? p->gene[i]->site.kind : i, i, m };
    qsort(s->vote, s->n, sizeof *s->vote, best_first);
    return LM_OK;
}

void importance_close(struct importance *s)
{
    if (s->g)
        s->g->h->release(s->vote);
}

/* The votes from `first` on that compete with each other: the best share of them, then
 * what subsets need beyond that.                                               */
static size_t fill_kind(const struct importance *s, size_t first, double share,
                        union lm_value *genome)
{
    const struct lm_problem *p = s->g->p;
    size_t end = first;

    while (end < s->n && s->vote[end].kind == s->vote[first].kind)
        end++;
    size_t kept = (size_t)floor(share * (double)(end - first) + 0.5);
    for (size_t i = first; i < end; i++) {
        const struct vote *v = &s->vote[i];
        const struct lm_gene *g = p->gene[v->gene];
        bool in = i < first + kept || genes_count(g, genome + g->slot) < g->min;

        if (in)
            genes_flip(genome + g->slot, v->member);
    }
    return end;
}

void importance_genome(const struct importance *s, double share, union lm_value *genome)
{
    const struct lm_problem *p = s->g->p;

    genes_keep_all(s->g, genome);
    for (size_t i = 0; i < p->n_gene; i++) {
        const struct lm_gene *g = p->gene[i];

        if (scored(g))
            for (uint32_t k = 0; k < g->slots; k++)
                genome[g->slot + k].bits = 0;
        else if (g->kind == LM_GENE_INT && g->initial == g->max
                 && g->site.kind != LM_SITE_LAYER)
            genes_put(&s->g->axis[i], (share * g->max - g->min) / g->step, genome);
    }
    for (size_t i = 0; i < s->n;)
        i = fill_kind(s, i, share, genome);
}
