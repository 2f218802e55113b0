/* SPDX-License-Identifier: Apache-2.0 */
/* gpu_state.c -- buffers, key-value caches and streams on the device. */
#include <string.h>

#include "gpu.h"

/* ---- buffers ----------------------------------------------------------------------- */

enum lm_status gpu_buffer(void *self, int64_t n, struct lm_buffer **out, struct lm_err *e)
{
    struct gpu *g = self;

    if (n < 1 || n > INT64_MAX / 16)
        return g->host->fail(e, LM_EBUG, "a buffer of %lld floats", (long long)n);
    struct lm_buffer *b = g->host->alloc(sizeof *b, "buffer");
    if (!b)
        return program_no_memory(g->host, sizeof *b, "a buffer", e);
    enum lm_status st = gpu_take(g, GPU_STATES, (uint64_t)n * 4, &b->span,
                                 "hidden states", e);
    if (st) {
        g->host->release(b);
        return st;
    }
    b->n = n;
    b->id = ++g->serial;
    *out = b;
    return LM_OK;
}

void gpu_buffer_free(void *self, struct lm_buffer *b)
{
    struct gpu *g = self;

    if (b)
        gpu_give(g, GPU_STATES, &b->span);
    g->host->release(b);
}

static enum lm_status check_range(struct gpu *g, const struct lm_buffer *b, int64_t first,
                                  int64_t n, struct lm_err *e)
{
    if (first < 0 || n < 0 || first > b->n || n > b->n - first)
        return g->host->fail(e, LM_EBUG, "floats %lld+%lld of a buffer of %lld",
                             (long long)first, (long long)n, (long long)b->n);
    return LM_OK;
}

enum lm_status gpu_write(void *self, struct lm_buffer *b, int64_t first,
                         const float *from, int64_t n, struct lm_err *e)
{
    struct gpu *g = self;
    enum lm_status st = check_range(g, b, first, n, e);

    return st ? st : gpu_put(g, &b->span, (uint64_t)first * 4, from, (uint64_t)n * 4, e);
}

enum lm_status gpu_read(void *self, const struct lm_buffer *b, int64_t first, float *to,
                        int64_t n, struct lm_err *e)
{
    struct gpu *g = self;
    enum lm_status st = check_range(g, b, first, n, e);

    return st ? st : gpu_get(g, &b->span, (uint64_t)first * 4, to, (uint64_t)n * 4, e);
}

enum lm_status gpu_copy(void *self, struct lm_buffer *to, const struct lm_buffer *from,
                        int64_t n, struct lm_err *e)
{
    struct gpu *g = self;
    enum lm_status st = check_range(g, from, 0, n, e);

    if (!st)
        st = check_range(g, to, 0, n, e);
    if (st || to == from || n == 0)
        return st;
    return g->driver->copy(g->device, gpu_memory(&to->span), to->span.at,
                           gpu_memory(&from->span), from->span.at, (uint64_t)n * 4, e);
}

/* ---- caches ------------------------------------------------------------------------ */

void gpu_kv_close(void *self, struct lm_kv *kv)
{
    struct gpu *g = self;

    if (!kv)
        return;
    for (size_t i = 0; kv->k && kv->v && i < kv->n_slot; i++) {
        gpu_give(g, GPU_CACHE, &kv->k[i]);
        gpu_give(g, GPU_CACHE, &kv->v[i]);
    }
    g->host->release(kv->k);
    g->host->release(kv->v);
    g->host->release(kv->width);
    g->host->release(kv);
}

enum lm_status gpu_kv_open(void *self, const int32_t *width, size_t n_slot,
                           int64_t capacity, struct lm_kv **out, struct lm_err *e)
{
    struct gpu *g = self;
    const struct lm_host *h = g->host;

    if (capacity < 1 || capacity > INT32_MAX || n_slot > INT32_MAX)
        return h->fail(e, LM_EBUG, "a cache of %lld rows", (long long)capacity);
    struct lm_kv *kv = h->alloc(sizeof *kv, "cache");
    if (!kv)
        return program_no_memory(h, sizeof *kv, "a cache", e);
    kv->capacity = capacity;
    kv->id = ++g->serial;
    kv->width = h->alloc((n_slot + 1) * sizeof *kv->width, "cache");
    kv->k = h->alloc((n_slot + 1) * sizeof *kv->k, "cache");
    kv->v = h->alloc((n_slot + 1) * sizeof *kv->v, "cache");
    enum lm_status st = kv->width && kv->k && kv->v ? LM_OK
        : program_no_memory(h, (double)n_slot * sizeof *kv->k, "a cache", e);
    for (size_t i = 0; i < n_slot && !st; i++) {
        uint64_t size = (uint64_t)capacity * (uint64_t)(width[i] > 0 ? width[i] : 1)
                      * (g->half ? 2 : 4);

        kv->n_slot = i + 1;
        kv->width[i] = width[i];
        st = gpu_take(g, GPU_CACHE, size, &kv->k[i], "a key-value cache", e);
        if (!st)
            st = gpu_take(g, GPU_CACHE, size, &kv->v[i], "a key-value cache", e);
    }
    if (st)
        gpu_kv_close(g, kv);
    else
        *out = kv;
    return st;
}

/* ---- streams ----------------------------------------------------------------------- */

enum lm_status gpu_stream_open(void *self, int32_t threads, struct lm_stream **out,
                               struct lm_err *e)
{
    struct gpu *g = self;

    (void)threads;                      /* of the host, which only waits */
    *out = g->host->alloc(sizeof **out, "stream");
    return *out ? LM_OK : program_no_memory(g->host, sizeof **out, "a stream", e);
}

void gpu_stream_close(void *self, struct lm_stream *s)
{
    struct gpu *g = self;

    if (!s)
        return;
    for (int i = 0; i < GPU_KEPT; i++)
        if (s->note[i].r)
            g->driver->discard(g->device, s->note[i].r);
    for (size_t i = 0; i < s->n_reg; i++)
        gpu_give(g, GPU_SCRATCH, &s->reg[i]);
    gpu_give(g, GPU_SHARED, &s->args);
    gpu_give(g, GPU_SHARED, &s->out);
    gpu_give(g, GPU_SCRATCH, &s->logits);
    gpu_give(g, GPU_SCRATCH, &s->stats);
    gpu_give(g, GPU_SCRATCH, &s->bytes);
    g->host->release(s->reg);
    g->host->release(s->host_args);
    g->host->release(s->launch);
    g->host->release(s);
}

/* A span that only grows; when it moves, recordings that name it are of no use. */
static enum lm_status grow(struct gpu *g, struct lm_stream *s, enum gpu_class c,
                           struct gpu_span *span, uint64_t size, const char *what,
                           struct lm_err *e)
{
    if (span->size >= size)
        return LM_OK;
    gpu_give(g, c, span);
    s->shape++;
    return gpu_take(g, c, size, span, what, e);
}

static enum lm_status reserve_registers(struct gpu *g, struct lm_stream *s,
                                        const struct lm_exe *x, int64_t rows,
                                        struct lm_err *e)
{
    enum lm_status st = LM_OK;

    if (s->n_reg < x->n_reg) {
        struct gpu_span *reg = g->host->resize(s->reg, x->n_reg * sizeof *reg);

        if (!reg)
            return program_no_memory(g->host, (double)x->n_reg * sizeof *reg, "registers",
                                     e);
        memset(reg + s->n_reg, 0, (x->n_reg - s->n_reg) * sizeof *reg);
        s->reg = reg;
        s->n_reg = x->n_reg;
    }
    for (size_t i = 1; i < x->n_reg && !st; i++)
        if (x->width[i] > 0)
            st = grow(g, s, GPU_SCRATCH, &s->reg[i],
                      (uint64_t)rows * (uint64_t)x->width[i] * (g->half ? 2 : 4),
                      "registers", e);
    return st;
}

static enum lm_status reserve_args(struct gpu *g, struct lm_stream *s, int64_t rows,
                                   struct lm_err *e)
{
    size_t n = 1 + 2 * (size_t)rows;

    if (s->n_args < n) {
        uint32_t *args = g->host->resize(s->host_args, n * sizeof *args);

        if (!args)
            return program_no_memory(g->host, (double)n * sizeof *args, "arguments", e);
        s->host_args = args;
        s->n_args = n;
    }
    return grow(g, s, GPU_SHARED, &s->args, n * 4, "arguments", e);
}

enum lm_status gpu_stream_reserve(struct gpu *g, struct lm_stream *s,
                                  const struct lm_exe *x, const struct lm_exec *a,
                                  struct lm_err *e)
{
    uint64_t rows = (uint64_t)a->rows, logits = 0, out = 0, bytes = 0;
    bool heads = false;

    for (size_t i = 0; i < x->n_op; i++) {
        const struct lm_op *o = &x->op[i];
        bool head = program_is_head(o->code);

        if (head && (uint64_t)o->n > out)
            out = (uint64_t)o->n;
        if (head && o->code != LM_OP_LOGITS) {
            uint64_t tile = rows * (uint64_t)gpu_tile(a->rows, o->n);

            heads = true;
            logits = tile > logits ? tile : logits;
        }
        if ((head || o->code == LM_OP_LINEAR) && ((uint64_t)o->k + 3) / 4 + 1 > bytes)
            bytes = ((uint64_t)o->k + 3) / 4 + 1;
    }
    enum lm_status st = reserve_registers(g, s, x, a->rows, e);
    if (!st)
        st = reserve_args(g, s, a->rows, e);
    if (!st && out)
        st = grow(g, s, GPU_SHARED, &s->out, (out > rows ? out : rows) * 4, "results", e);
    if (!st && heads)
        st = grow(g, s, GPU_SCRATCH, &s->logits, logits * 4, "logits", e);
    if (!st && heads)
        st = grow(g, s, GPU_SCRATCH, &s->stats, rows * 16, "sums of a softmax", e);
    if (!st && x->precision == LM_AS_INT8)
        st = grow(g, s, GPU_SCRATCH, &s->bytes, rows * bytes * 4, "rounded activations",
                  e);
    return st;
}

enum lm_status gpu_use(void *self, struct lm_device_use *out, struct lm_err *e)
{
    struct gpu *g = self;

    (void)e;
    pthread_mutex_lock(&g->lock);
    const struct lm_device_use u = {
        .struct_size = sizeof u, .weights = (int64_t)g->used[GPU_WEIGHTS],
        .cache = (int64_t)g->used[GPU_CACHE], .states = (int64_t)g->used[GPU_STATES],
        .scratch = (int64_t)(g->used[GPU_SCRATCH] + g->used[GPU_SHARED]),
        .most = (int64_t)g->most
    };
    pthread_mutex_unlock(&g->lock);
    lm_fill_struct(out, &u, sizeof u);
    return LM_OK;
}
