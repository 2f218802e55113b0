/* SPDX-License-Identifier: Apache-2.0 */
/* gpu_pool.c -- device memory: spans cut from slabs, first fit, and the account of it.
 *
 * A slab is a list of blocks in order of their place, free ones never side by side.  A
 * span larger than a slab's usual size gets a slab of its own; a slab that is wholly free
 * goes back to the driver, all but the last of the usual size.                      */
#include "gpu.h"

struct gpu_block { uint64_t at, size; bool used; struct gpu_block *next; };
struct gpu_slab {
    void    *memory;
    uint64_t size;
    bool     shared;                    /* of GPU_SHARED, which has slabs of its own */
    struct gpu_block *block;
    struct gpu_slab *next;
};
static const uint64_t usual_size[2] = { 32 << 20, 1 << 20 };    /* by `shared` */

void *gpu_memory(const struct gpu_span *s)
{
    return s->slab ? s->slab->memory : NULL;
}

static struct gpu_block *new_block(struct gpu *g, uint64_t at, uint64_t size, bool used,
                                   struct gpu_block *next)
{
    struct gpu_block *b = g->host->alloc(sizeof *b, "device memory");

    if (b)
        *b = (struct gpu_block){ at, size, used, next };
    return b;
}

static enum lm_status no_room(struct gpu *g, const char *what, uint64_t size,
                              uint64_t most, struct lm_err *e)
{
    return g->host->fail(e, LM_EINFEASIBLE, "the device has no memory left: %s wanted "
                         "%.1f MiB, %.1f MiB of %.1f are in use", what,
                         (double)size / 1048576, (double)g->held / 1048576,
                         (double)most / 1048576);
}

static enum lm_status add_slab(struct gpu *g, bool shared, uint64_t size,
                               const char *what, struct gpu_slab **out,
                               struct lm_err *e)
{
    uint64_t left = g->budget > g->held ? g->budget - g->held : 0;
    uint64_t usual = usual_size[shared], wanted = size;
    uint64_t most = left < g->limits.slab ? left : g->limits.slab;

    if (size < usual)
        size = most >= usual ? usual : most > size ? most / GPU_ALIGN * GPU_ALIGN : size;
    if (size > left || size > g->limits.slab)
        return no_room(g, what, size, g->budget, e);
    struct gpu_slab *s = g->host->alloc(sizeof *s, "device memory");
    if (s)
        s->block = new_block(g, 0, size, false, NULL);
    if (!s || !s->block) {
        g->host->release(s);
        return program_no_memory(g->host, sizeof *s, "device memory", e);
    }
    enum lm_status st = g->driver->alloc(g->device, size, shared, &s->memory, e);
    if (st == LM_EINFEASIBLE && size > wanted) {       /* that alone may fit */
        s->block->size = size = wanted;
        st = g->driver->alloc(g->device, size, shared, &s->memory, e);
    }
    s->size = size;
    s->shared = shared;
    if (st) {
        g->host->release(s->block);
        g->host->release(s);
        return st;
    }
    s->next = g->slabs;
    g->slabs = s;
    g->held += size;
    *out = s;
    return LM_OK;
}

/* A free block of at least `size` in s; NULL: there is none. */
static struct gpu_block *find_block(struct gpu_slab *s, uint64_t size)
{
    struct gpu_block *b = s->block;

    while (b && (b->used || b->size < size))
        b = b->next;
    return b;
}

static enum lm_status cut(struct gpu *g, struct gpu_block *b, uint64_t size,
                          struct lm_err *e)
{
    if (b->size > size) {
        struct gpu_block *rest = new_block(g, b->at + size, b->size - size, false,
                                           b->next);

        if (!rest)
            return program_no_memory(g->host, sizeof *rest, "device memory", e);
        b->next = rest;
        b->size = size;
    }
    b->used = true;
    return LM_OK;
}

static void count(struct gpu *g, enum gpu_class c, uint64_t size)
{
    uint64_t sum = 0;

    g->used[c] += size;
    for (int i = 0; i < GPU_N_CLASSES; i++)
        sum += g->used[i];
    if (sum > g->most)
        g->most = sum;
}

enum lm_status gpu_take(struct gpu *g, enum gpu_class c, uint64_t size,
                        struct gpu_span *out, const char *what, struct lm_err *e)
{
    struct gpu_slab *s;
    struct gpu_block *b = NULL;
    enum lm_status st = LM_OK;

    *out = (struct gpu_span){ NULL, 0, 0 };
    size = (size + GPU_ALIGN - 1) / GPU_ALIGN * GPU_ALIGN;
    pthread_mutex_lock(&g->lock);
    for (s = g->slabs; s && !b; s = b ? s : s->next)
        b = s->shared == (c == GPU_SHARED) ? find_block(s, size) : NULL;
    if (!b && !(st = add_slab(g, c == GPU_SHARED, size, what, &s, e)))
        b = s->block;
    if (!st && !(st = cut(g, b, size, e))) {
        *out = (struct gpu_span){ s, b->at, size };
        count(g, c, size);
    }
    pthread_mutex_unlock(&g->lock);
    return st;
}

static void join(struct gpu *g, struct gpu_block *b)
{
    struct gpu_block *next = b->next;

    if (!b->used && next && !next->used) {
        b->size += next->size;
        b->next = next->next;
        g->host->release(next);
    }
}

static void free_slab(struct gpu *g, struct gpu_slab *s)
{
    struct gpu_slab **at = &g->slabs;

    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    g->held -= s->size;
    g->driver->free(g->device, s->memory);
    for (struct gpu_block *b = s->block, *next; b; b = next) {
        next = b->next;
        g->host->release(b);
    }
    g->host->release(s);
}

/* Of its kind. */
static bool is_last(const struct gpu *g, const struct gpu_slab *s)
{
    for (const struct gpu_slab *other = g->slabs; other; other = other->next)
        if (other != s && other->shared == s->shared)
            return false;
    return s->size == usual_size[s->shared];
}

void gpu_give(struct gpu *g, enum gpu_class c, struct gpu_span *s)
{
    struct gpu_slab *slab = s->slab;
    struct gpu_block *before = NULL, *b;

    if (!slab)
        return;
    pthread_mutex_lock(&g->lock);
    for (b = slab->block; b->at != s->at; b = b->next)
        before = b;
    b->used = false;
    g->used[c] -= b->size;
    join(g, b);
    if (before)
        join(g, before);
    if (!slab->block->used && !slab->block->next && !is_last(g, slab))
        free_slab(g, slab);
    pthread_mutex_unlock(&g->lock);
    *s = (struct gpu_span){ NULL, 0, 0 };
}

enum lm_status gpu_put(struct gpu *g, const struct gpu_span *s, uint64_t at,
                       const void *from, uint64_t size, struct lm_err *e)
{
    return g->driver->put(g->device, gpu_memory(s), s->at + at, from, size, e);
}

enum lm_status gpu_get(struct gpu *g, const struct gpu_span *s, uint64_t at, void *to,
                       uint64_t size, struct lm_err *e)
{
    return g->driver->get(g->device, gpu_memory(s), s->at + at, to, size, e);
}

enum lm_status gpu_open(struct gpu *g, const struct lm_args *a,
                        const struct gpu_driver *driver, void *device,
                        const struct gpu_limits *limits, struct lm_err *e)
{
    g->host = a->host;
    g->run = a->run;
    g->driver = driver;
    g->device = device;
    g->limits = *limits;
    if (pthread_mutex_init(&g->lock, NULL))
        return g->host->fail(e, LM_ENOMEM, "there is no memory for a lock");
    pthread_mutex_init(&g->round_lock, NULL);
    return LM_OK;
}

void gpu_close(struct gpu *g)
{
    gpu_turns_free(g);
    while (g->slabs)
        free_slab(g, g->slabs);
    pthread_mutex_destroy(&g->round_lock);
    pthread_mutex_destroy(&g->lock);
}
