/* SPDX-License-Identifier: Apache-2.0 */
/* pool.c -- plugins/backends/gpu_pool.c for tests: each span is a piece of device memory
 * of its own, as large as was asked for and no larger, so that the emulated driver sees
 * what a kernel does beside it.                                                     */
#include "gpu.h"

struct gpu_slab { void *memory; };

void *gpu_memory(const struct gpu_span *s)
{
    return s->slab ? s->slab->memory : NULL;
}

enum lm_status gpu_take(struct gpu *g, enum gpu_class c, uint64_t size,
                        struct gpu_span *out, const char *what, struct lm_err *e)
{
    struct gpu_slab *s = g->host->alloc(sizeof *s, what);

    *out = (struct gpu_span){ NULL, 0, 0 };
    if (!s)
        return program_no_memory(g->host, sizeof *s, what, e);
    enum lm_status st = g->driver->alloc(g->device, size, c == GPU_SHARED, &s->memory, e);
    if (st)
        g->host->release(s);
    else
        *out = (struct gpu_span){ s, 0, size };
    return st;
}

void gpu_give(struct gpu *g, enum gpu_class c, struct gpu_span *s)
{
    (void)c;
    if (s->slab)
        g->driver->free(g->device, s->slab->memory);
    g->host->release(s->slab);
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
    (void)e;
    g->host = a->host;
    g->run = a->run;
    g->driver = driver;
    g->device = device;
    g->limits = *limits;
    pthread_mutex_init(&g->lock, NULL);
    pthread_mutex_init(&g->round_lock, NULL);
    return LM_OK;
}

void gpu_close(struct gpu *g)
{
    gpu_turns_free(g);
    pthread_mutex_destroy(&g->round_lock);
    pthread_mutex_destroy(&g->lock);
}
