/* SPDX-License-Identifier: Apache-2.0 */
/* machine.h -- what backends that compute in host memory have in common: the
 * objects behind the opaque types of plugin.h.
 *
 * REAL (float or double) is defined before inclusion; it is the type of
 * registers, buffers and caches.  MACHINE_DTYPES, too: the number formats of
 * weights, LM_BIT(enum lm_dtype).  Weights stay where they are, borrowed.  Those
 * that are not f32 have rows of bytes and are for EMBED, LINEAR and LOGITS.
 */
#ifndef LAMINA_BACKENDS_MACHINE_H
#define LAMINA_BACKENDS_MACHINE_H
#include <string.h>

#include "plugin.h"

struct lm_weight {
    const float *data;                  /* f32, or NULL and ... */
    const unsigned char *code;          /* ... rows of bytes, row_bytes apart */
    const struct lm_codec *codec;
    int64_t rows, cols, stride, row_bytes;
    uint64_t id;
};
struct lm_buffer { int64_t n; REAL *v; };
struct lm_kv     { size_t n_slot; int64_t capacity; int32_t *width; REAL **k, **v; };
struct lm_exe    { size_t n_op, n_reg; struct lm_op *op; int32_t *width;
                   uint32_t precision; void *own; };    /* own: the backend's */

#include "program.h"

struct block { REAL *v; size_t n; };    /* memory that only grows */

struct machine {                        /* one backend instance */
    const struct lm_host *host;
    struct lm_run *run;
    uint64_t serial;                    /* of weights; atomic */
};

/* Makes b hold at least n numbers; what it held is lost when it grows. */
static inline enum lm_status block_reserve(const struct lm_host *h, struct block *b,
                                           size_t n, const char *what, struct lm_err *e)
{
    if (b->n >= n)
        return LM_OK;
    h->release(b->v);
    b->n = 0;
    b->v = n < SIZE_MAX / sizeof *b->v / 2 ? h->alloc(n * sizeof *b->v, what) : NULL;
    if (!b->v)
        return program_no_memory(h, (double)n * sizeof *b->v, what, e);
    b->n = n;
    return LM_OK;
}

static inline enum lm_status machine_upload(void *self, const struct lm_tensor *t,
                                            int64_t stride, struct lm_weight **w,
                                            struct lm_err *e)
{
    struct machine *m = self;
    bool coded = t->dtype != LM_F32;
    const struct lm_codec *codec = coded ? m->host->codec(t->dtype) : NULL;
    if (t->dtype >= LM_N_DTYPES || !(LM_BIT(t->dtype) & MACHINE_DTYPES)
        || coded != (codec != NULL)
        || (!coded && (uintptr_t)t->data % sizeof(float) != 0))
        return m->host->fail(e, LM_EUNSUPPORTED, "this backend does not take weights of "
                             "type %u, or not where they lie", (unsigned)t->dtype);
    if (!t->data || t->rows < 1 || t->cols < 1 || stride < t->cols
        || (coded && (t->cols % codec->block || stride % codec->block)))
        return m->host->fail(e, LM_EBUG, "a weight of %lld x %lld with stride %lld",
                             (long long)t->rows, (long long)t->cols, (long long)stride);
    struct lm_weight *x = m->host->alloc(sizeof *x, "weight");
    if (!x)
        return program_no_memory(m->host, sizeof *x, "a weight", e);
    *x = (struct lm_weight){
        .data = coded ? NULL : t->data, .code = coded ? t->data : NULL, .codec = codec,
        .rows = t->rows, .cols = t->cols, .stride = stride,
        .row_bytes = coded ? stride / codec->block * codec->bytes : 0,
        .id = __atomic_add_fetch(&m->serial, 1, __ATOMIC_RELAXED)
    };
    *w = x;
    return LM_OK;
}

static inline enum lm_status machine_view(void *self, const struct lm_weight *of,
                                          int64_t rows, struct lm_weight **w,
                                          struct lm_err *e)
{
    struct machine *m = self;
    if (rows < 1 || rows > of->rows)
        return m->host->fail(e, LM_EBUG, "%lld of %lld rows of a weight",
                             (long long)rows, (long long)of->rows);
    struct lm_weight *x = m->host->alloc(sizeof *x, "weight");
    if (!x)
        return program_no_memory(m->host, sizeof *x, "a weight", e);
    *x = *of;
    x->rows = rows;
    *w = x;
    return LM_OK;
}

static inline void machine_forget(void *self, struct lm_weight *w)
{
    struct machine *m = self;
    m->host->release(w);
}

static inline void machine_buffer_free(void *self, struct lm_buffer *b)
{
    struct machine *m = self;
    if (b)
        m->host->release(b->v);
    m->host->release(b);
}

static inline enum lm_status machine_buffer(void *self, int64_t n, struct lm_buffer **b,
                                            struct lm_err *e)
{
    struct machine *m = self;
    struct lm_buffer *x = m->host->alloc(sizeof *x, "buffer");
    if (x && n > 0 && n < INT64_MAX / 16)
        x->v = m->host->alloc((size_t)n * sizeof *x->v, "buffer");
    if (!x || !x->v) {
        machine_buffer_free(self, x);
        return program_no_memory(m->host, (double)n * sizeof(REAL), "a buffer", e);
    }
    x->n = n;
    *b = x;
    return LM_OK;
}

static inline enum lm_status machine_range(struct machine *m, const struct lm_buffer *b,
                                           int64_t first, int64_t n, struct lm_err *e)
{
    if (first < 0 || n < 0 || first > b->n || n > b->n - first)
        return m->host->fail(e, LM_EBUG, "floats %lld+%lld of a buffer of %lld",
                             (long long)first, (long long)n, (long long)b->n);
    return LM_OK;
}

static inline enum lm_status machine_write(void *self, struct lm_buffer *b, int64_t first,
                                           const float *from, int64_t n, struct lm_err *e)
{
    enum lm_status st = machine_range(self, b, first, n, e);
    if (st)
        return st;
    if (sizeof(REAL) == sizeof(float))
        memcpy(b->v + first, from, (size_t)n * sizeof *from);
    else
        for (int64_t i = 0; i < n; i++)
            b->v[first + i] = from[i];
    return LM_OK;
}

static inline enum lm_status machine_read(void *self, const struct lm_buffer *b,
                                          int64_t first, float *to, int64_t n,
                                          struct lm_err *e)
{
    enum lm_status st = machine_range(self, b, first, n, e);
    if (st)
        return st;
    if (sizeof(REAL) == sizeof(float))
        memcpy(to, b->v + first, (size_t)n * sizeof *to);
    else
        for (int64_t i = 0; i < n; i++)
            to[i] = (float)b->v[first + i];
    return LM_OK;
}

static inline enum lm_status machine_copy(void *self, struct lm_buffer *to,
                                          const struct lm_buffer *from, int64_t n,
                                          struct lm_err *e)
{
    enum lm_status st = machine_range(self, from, 0, n, e);
    if (!st)
        st = machine_range(self, to, 0, n, e);
    if (!st && to != from)
        memcpy(to->v, from->v, (size_t)n * sizeof *to->v);
    return st;
}

static inline void machine_kv_close(void *self, struct lm_kv *kv)
{
    struct machine *m = self;
    if (!kv)
        return;
    for (size_t i = 0; kv->k && kv->v && i < kv->n_slot; i++) {
        m->host->release(kv->k[i]);
        m->host->release(kv->v[i]);
    }
    m->host->release(kv->k);
    m->host->release(kv->v);
    m->host->release(kv->width);
    m->host->release(kv);
}

static inline enum lm_status machine_kv_open(void *self, const int32_t *width,
                                             size_t n_slot, int64_t capacity,
                                             struct lm_kv **kv, struct lm_err *e)
{
    struct machine *m = self;
    const struct lm_host *h = m->host;
    if (capacity < 1 || capacity > INT32_MAX || n_slot > INT32_MAX)
        return h->fail(e, LM_EBUG, "a cache of %lld rows", (long long)capacity);
    struct lm_kv *x = h->alloc(sizeof *x, "cache");
    if (!x)
        return program_no_memory(h, sizeof *x, "a cache", e);
    x->n_slot = n_slot;
    x->capacity = capacity;
    x->width = h->alloc((n_slot + 1) * sizeof *x->width, "cache");
    x->k = h->alloc((n_slot + 1) * sizeof *x->k, "cache");
    x->v = h->alloc((n_slot + 1) * sizeof *x->v, "cache");
    bool ok = x->width && x->k && x->v;
    double bytes = 0;
    for (size_t i = 0; ok && i < n_slot; i++) {
        x->width[i] = width[i];
        size_t n = (size_t)capacity * (size_t)(width[i] > 0 ? width[i] : 1);
        bytes = (double)n * sizeof(REAL);
        x->k[i] = h->alloc(n * sizeof(REAL), "cache");
        x->v[i] = h->alloc(n * sizeof(REAL), "cache");
        ok = x->k[i] && x->v[i];
    }
    if (!ok) {
        machine_kv_close(self, x);
        return program_no_memory(h, bytes, "a key-value cache", e);
    }
    *kv = x;
    return LM_OK;
}

static inline void machine_exe_free(void *self, struct lm_exe *x)
{
    struct machine *m = self;
    program_free(m->host, x);
}

static inline enum lm_status machine_compile(void *self, const struct lm_program *p,
                                             struct lm_exe **x, struct lm_err *e)
{
    struct machine *m = self;
    return program_copy(m->host, p, sizeof **x, x, e);
}
#endif
