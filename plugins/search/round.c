/* SPDX-License-Identifier: Apache-2.0 */
/* round.c -- see round.h. */
#include "round.h"

#include <string.h>

enum lm_status round_open(struct round *r, struct genes *g, size_t size, int64_t budget,
                          struct lm_err *e)
{
    size_t slots = g->p->n_slot + (g->p->n_slot == 0);

    *r = (struct round){ .g = g, .size = size, .budget = budget };
    if (slots < SIZE_MAX / 64 / size)   /* one more: for genomes in the making */
        r->queue = g->h->alloc((size + 1) * slots * sizeof *r->queue, g->tag);
    if (!r->queue)
        return g->h->fail(e, LM_ENOMEM, "out of memory for %zu genomes of %zu values",
                          size, slots);
    return LM_OK;
}

void round_close(struct round *r)
{
    if (r->g)
        r->g->h->release(r->queue);
}

bool round_add(struct round *r, const union lm_value *genome)
{
    size_t n = r->g->p->n_slot;

    if (r->n == r->size || !genes_note(r->g, genome))
        return false;
    memmove(r->queue + r->n++ * n, genome, n * sizeof *genome);
    return true;
}

union lm_value *round_spare(struct round *r)
{
    return r->queue + r->size * r->g->p->n_slot;
}

bool round_add_starts(struct round *r)
{
    const struct lm_problem *p = r->g->p;
    union lm_value *spare = round_spare(r);
    size_t all = p->n_start ? p->n_start : 1, before = r->started;

    for (; r->started < all && r->n < r->size; r->started++)
        if (p->n_start) {
            round_add(r, p->start[r->started]);
        } else {
            genes_keep_all(r->g, spare);
            round_add(r, spare);
        }
    return r->started > before;
}

void round_add_made(struct round *r, size_t until, int tries, round_child *make,
                    void *ctx)
{
    union lm_value *child = round_spare(r);

    for (int i = 0; i < tries && r->n < until; i++)
        if (make(ctx, child) && round_add(r, child))
            i = -1;
}

/* round_child */
static bool draw(void *ctx, union lm_value *child)
{
    genes_draw_all(ctx, child);
    return true;
}

void round_add_random(struct round *r, size_t until)
{
    round_add_made(r, until, ROUND_DRAWS, draw, r->g);
}

enum lm_status round_ask(struct round *r, round_fill *fill, void *ctx,
                         struct lm_proposal *out, size_t max, size_t *n,
                         struct lm_err *e)
{
    size_t slots = r->g->p->n_slot;

    *n = 0;
    if (r->next == r->n && r->asked < r->budget && !r->exhausted) {
        enum lm_status st = genes_reserve(r->g, r->size, e);
        r->n = r->next = 0;
        if (st == LM_OK)
            st = fill(ctx, e);
        if (st != LM_OK)
            return st;
        r->exhausted = r->n == 0;
    }
    while (*n < max && r->next < r->n && r->asked < r->budget) {
        memcpy(out[(*n)++].value, r->queue + r->next++ * slots, slots * sizeof *r->queue);
        r->asked++;
    }
    return LM_OK;
}

size_t round_left(const struct round *r, size_t all)
{
    if (!r->g)
        return all;
    return r->exhausted ? 0 : (size_t)(r->budget - r->asked);
}
