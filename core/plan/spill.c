/* SPDX-License-Identifier: Apache-2.0 */
/* spill.c -- where derived matrices lie: on the heap up to a limit, behind it in
 * nameless files of a folder.  The limit holds for what is on the heap at a time, so
 * what was made while it was full stays in its file.                           */
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "plan/part.h"

enum lm_status lm_stock_open(struct lm_stock *s, const struct lm_workshop_args *a,
                             struct lm_err *e)
{
    *s = (struct lm_stock){ .heap_most = a->memory };
    pthread_mutex_init(&s->lock, NULL);
    if (!a->spill)
        return LM_OK;
    if (!(s->folder = lm_strdup(a->spill, "folder")))
        return lm_fail_memory(e, strlen(a->spill), "a folder's name");
    int64_t room = lm_disk_free(a->spill);
    s->mapped_most = room < 0 ? SIZE_MAX
                              : (size_t)room / 2 / (a->sharers ? a->sharers : 1);
    return LM_OK;
}

void lm_stock_close(struct lm_stock *s)
{
    pthread_mutex_destroy(&s->lock);
    lm_release(s->folder);
}

/* Counts n bytes as heap if there is room; else as mapped. */
static bool reserve(struct lm_stock *s, size_t n)
{
    pthread_mutex_lock(&s->lock);
    bool heap = !s->folder || (n <= s->heap_most && s->heap <= s->heap_most - n);
    *(heap ? &s->heap : &s->mapped) += n;
    pthread_mutex_unlock(&s->lock);
    return heap;
}

static void unreserve(struct lm_stock *s, const struct lm_store_block *b)
{
    pthread_mutex_lock(&s->lock);
    *(b->mapped ? &s->mapped : &s->heap) -= b->n;
    pthread_mutex_unlock(&s->lock);
}

static enum lm_status map(struct lm_stock *s, struct lm_store_block *b, struct lm_err *e)
{
    struct lm_err why = { 0 };
    char size[32];
    void *p;
    enum lm_status st = lm_scratch_open(s->folder, b->n, &p, &why);

    if (!st)
        b->v = p;
    else if (st == LM_EIO)
        lm_fail(e, st, "derived matrices do not fit into run.memory, and %s of disk for "
                "them cannot be had: %s; free some, set XDG_CACHE_HOME to a larger disk, "
                "or raise run.memory", lm_human_bytes(size, (double)b->n), why.text);
    else
        *e = why;
    return st;
}

enum lm_status lm_stock_take(struct lm_stock *s, size_t n, const char *what,
                             struct lm_store_block *out, struct lm_err *e)
{
    struct lm_store_block b = { .n = n };
    enum lm_status st = LM_OK;

    b.mapped = !reserve(s, n);
    if (b.mapped)
        st = map(s, &b, e);
    else if (!(b.v = lm_alloc(n, what)))
        st = lm_fail_memory(e, n, what);
    if (st)
        unreserve(s, &b);
    else
        *out = b;
    return st;
}

void lm_stock_give(struct lm_stock *s, struct lm_store_block *b)
{
    if (!b->v)
        return;
    unreserve(s, b);
    if (b->mapped)
        lm_scratch_close(b->v, b->n);
    else
        lm_release(b->v);
    *b = (struct lm_store_block){ .v = NULL };
}
