/* SPDX-License-Identifier: Apache-2.0 */
/* workshop.c -- where the parts of candidates are kept, and what is thrown away when
 * memory or disk is short.                                                       */
#include "base/mem.h"
#include "plan/part.h"

enum lm_status lm_workshop_open(const struct lm_workshop_args *a,
                                struct lm_workshop **out, struct lm_err *e)
{
    struct lm_workshop *w = lm_alloc(sizeof *w, "workshop");

    *out = w;
    if (!w)
        return lm_fail_memory(e, sizeof *w, "candidates");
    w->args = *a;
    w->args.stock = &w->stock;
    enum lm_status st = lm_stock_open(&w->stock, a, e);
    if (st) {
        lm_workshop_close(w);
        *out = NULL;
        return st;
    }
    w->args.spill = w->stock.folder;
    w->model = lm_model_hash(a->model);
    w->stats = a->stats ? lm_stats_key(a->stats) : 0;
    return LM_OK;
}

static void free_rack(struct lm_workshop *w, struct lm_rack *k)
{
    struct lm_rack **at = &w->racks;

    while (*at != k)
        at = &(*at)->next;
    *at = k->next;
    w->bytes -= k->memory.n;
    lm_stock_give(&w->stock, &k->memory);
    lm_release(k->member);
    lm_release(k);
}

struct lm_part *lm_part_find(struct lm_workshop *w, uint64_t key)
{
    struct lm_part *p = w->bucket[key % LM_PART_BUCKETS];

    while (p && p->key != key)
        p = p->next;
    return p;
}

struct lm_part *lm_part_add(struct lm_workshop *w, uint64_t key,
                            enum lm_segment_kind kind, int32_t layer, int32_t kept,
                            struct lm_rack *rack)
{
    struct lm_part *p = lm_alloc(sizeof *p, "part");

    if (!p)
        return NULL;
    struct lm_part **bucket = &w->bucket[key % LM_PART_BUCKETS];

    *p = (struct lm_part){ .next = *bucket, .key = key, .kind = kind, .layer = layer,
                           .kept = kept, .rack = rack };
    *bucket = p;
    w->parts++;
    if (rack)
        rack->refs++;
    return p;
}

void lm_part_free(struct lm_workshop *w, struct lm_part *p)
{
    struct lm_part **at = &w->bucket[p->key % LM_PART_BUCKETS];

    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    if (p->seg)
        lm_segment_close(p->seg);
    if (p->rack)
        p->rack->refs--;
    if (p->base)
        p->base->refs--;
    w->bytes -= p->consumer.n;
    w->parts--;
    lm_stock_give(&w->stock, &p->consumer);
    lm_release(p);
}

/* Parts that are made from a part so many times over. */
static void free_deep(struct lm_workshop *w, int depth)
{
    for (size_t i = 0; i < LM_PART_BUCKETS; i++)
        for (struct lm_part *p = w->bucket[i], *next; p; p = next) {
            next = p->next;
            if (lm_part_depth(p) == depth)
                lm_part_free(w, p);
        }
}

void lm_workshop_close(struct lm_workshop *w)
{
    if (!w)
        return;
    free_deep(w, 2);                    /* they hold others */
    free_deep(w, 1);
    free_deep(w, 0);
    lm_bases_free(w);
    while (w->racks)
        free_rack(w, w->racks);
    lm_stock_close(&w->stock);
    lm_release(w);
}

const struct lm_workshop_args *lm_workshop_args_of(const struct lm_workshop *w)
{
    return &w->args;
}

void lm_workshop_use(const struct lm_workshop *w, struct lm_workshop_use *out)
{
    *out = (struct lm_workshop_use){ .bytes = w->bytes, .spilled = w->stock.mapped,
                                     .parts = w->parts,
                                     .built = w->built, .reused = w->reused };
}

/* Of memory; or, where the rest goes to files, of disk. */
static bool is_over(const struct lm_workshop *w)
{
    return w->stock.folder ? w->stock.mapped > w->stock.mapped_most
                           : w->bytes > w->args.memory;
}

/* Would it help to let go of this?  Of a part, for what it holds, too. */
static bool helps(const struct lm_workshop *w, const struct lm_store_block *b)
{
    return !w->stock.folder || b->mapped;
}

static bool part_helps(const struct lm_workshop *w, const struct lm_part *p)
{
    return helps(w, &p->consumer) || (p->rack && helps(w, &p->rack->memory))
        || (p->base && part_helps(w, p->base));
}

/* Lets go of one that nobody holds and that was last used by then, the least recently
 * used first; false: there is none.  Dense segments own no weights and stay.        */
static bool free_oldest(struct lm_workshop *w, uint64_t then)
{
    struct lm_part *part = NULL;
    struct lm_rack *rack = NULL;

    for (size_t i = 0; i < LM_PART_BUCKETS; i++)
        for (struct lm_part *p = w->bucket[i]; p; p = p->next)
            if (!p->refs && (p->rack || p->base) && part_helps(w, p)
                && p->used <= then && (!part || p->used < part->used))
                part = p;
    for (struct lm_rack *k = w->racks; k; k = k->next)
        if (!k->refs && helps(w, &k->memory) && k->used <= then
            && (!rack || k->used < rack->used))
            rack = k;
    if (rack && (!part || rack->used <= part->used))
        free_rack(w, rack);
    else if (part)
        lm_part_free(w, part);
    return part || rack;
}

void lm_workshop_shrink(struct lm_workshop *w)
{
    while (is_over(w) && free_oldest(w, UINT64_MAX))
        ;
}

bool lm_workshop_spare(struct lm_workshop *w, uint64_t then)
{
    size_t before = w->stock.mapped;

    while (w->stock.mapped && free_oldest(w, then))
        ;
    return w->stock.mapped < before;
}

bool lm_workshop_drop(struct lm_workshop *w, uint64_t then)
{
    bool any = false;

    for (int depth = 2; depth >= 0; depth--)    /* what holds others goes first */
        for (size_t i = 0; i < LM_PART_BUCKETS; i++)
            for (struct lm_part *p = w->bucket[i], *next; p; p = next) {
                next = p->next;
                if (p->refs || !(p->rack || p->base) || p->used > then
                    || lm_part_depth(p) != depth)
                    continue;
                lm_part_free(w, p);
                any = true;
            }
    return any;
}
