/* SPDX-License-Identifier: Apache-2.0 */
/* breed.c -- see breed.h. */
#include "breed.h"

#include <string.h>

enum { RETRIES = 100 };

enum lm_status breed_open(struct breed *b, struct lm_err *e)
{
    const struct genes *g = b->vary->g;

    b->child = g->h->alloc(2 * (g->p->n_slot + 1) * sizeof *b->child, g->tag);
    return b->child ? LM_OK : g->h->fail(e, LM_ENOMEM, "out of memory for two genomes");
}

void breed_close(struct breed *b)
{
    if (b->vary && b->vary->g)
        b->vary->g->h->release(b->child);
}

static bool trades(struct breed *b)
{
    return b->exchange > 0 && genes_unit(b->vary->g) < b->exchange;
}

static void change(struct breed *b, bool trade, union lm_value *child)
{
    if (!trade || !vary_exchange(b->vary, child))
        vary_mutate(b->vary, child);
}

struct mutation { struct breed *b; size_t n_start; };

/* round_child */
static bool make_mutant(void *ctx, union lm_value *child)
{
    const struct mutation *m = ctx;
    struct genes *g = m->b->vary->g;
    size_t n = g->p->n_slot, parent = (size_t)genes_below(g, (double)m->n_start);

    memcpy(child, m->b->round->queue + parent * n, n * sizeof *child);
    change(m->b, trades(m->b), child);
    return true;
}

void breed_mutants(struct breed *b, size_t n_start, size_t until)
{
    round_add_made(b->round, until, ROUND_CHILDREN, make_mutant,
                   &(struct mutation){ b, n_start });
}

void breed_pairs(struct breed *b, breed_parent *parent, void *ctx, size_t until)
{
    struct genes *g = b->vary->g;
    size_t n = g->p->n_slot;
    union lm_value *one = b->child, *two = one + n;

    for (int i = 0; i < RETRIES && b->round->n < until; i++) {
        bool trade = trades(b);

        memcpy(one, parent(ctx), n * sizeof *one);
        memcpy(two, parent(ctx), n * sizeof *two);
        if (!trade && genes_unit(g) < b->pc)
            vary_cross(b->vary, one, two);
        change(b, trade, one);
        change(b, trade, two);
        bool fresh = round_add(b->round, one);
        if (b->round->n < until)
            fresh |= round_add(b->round, two);
        if (fresh)
            i = -1;
    }
}
