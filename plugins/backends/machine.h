/* SPDX-License-Identifier: Apache-2.0 */
/* machine.h -- what backends that compute in host memory have in common: the
 * objects behind the opaque types of plugin.h, and every check of a program
 * and of a call, so that the operators themselves may trust their arguments.
 *
 * REAL (float or double) is defined before inclusion; it is the type of
 * registers, buffers and caches.  MACHINE_DTYPES, too: the number formats of
 * weights, LM_BIT(enum lm_dtype).  Weights stay where they are, borrowed.  Those
 * that are not f32 have rows of bytes and are for EMBED, LINEAR and LOGITS.
 *
 * Dimensions are those of the operator: a register may be wider than what an
 * operator reads or writes of it, and `width` is then only the step from row
 * to row.  Operators name n and k so:
 *   EMBED, LINEAR, CE, KL, EXPECT, LOGITS   w is [n][k]
 *   RMSNORM                                 groups of n within rows of k floats
 *   SILU_MUL, ADD, COPY                     n floats of each row              */
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

struct block { REAL *v; size_t n; };    /* memory that only grows */

struct machine {                        /* one backend instance */
    const struct lm_host *host;
    struct lm_run *run;
    uint64_t serial;                    /* of weights; atomic */
};

static inline enum lm_status machine_no_memory(const struct lm_host *h, double bytes,
                                               const char *what, struct lm_err *e)
{
    return h->fail(e, LM_ENOMEM, "out of memory (wanted %.0f bytes for %s)", bytes, what);
}

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
        return machine_no_memory(h, (double)n * sizeof *b->v, what, e);
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
        return machine_no_memory(m->host, sizeof *x, "a weight", e);
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
        return machine_no_memory(m->host, sizeof *x, "a weight", e);
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
        return machine_no_memory(m->host, (double)n * sizeof(REAL), "a buffer", e);
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
        return machine_no_memory(h, sizeof *x, "a cache", e);
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
        return machine_no_memory(h, bytes, "a key-value cache", e);
    }
    *kv = x;
    return LM_OK;
}

/* ---- checking programs -------------------------------------------------------- */
struct op_rule {                /* which registers, and how many floats of each */
    int64_t y, a, b, c;         /* 0: not used */
    int64_t w_rows, w_cols;     /* 0: takes no weight */
};

static inline struct op_rule machine_rule(const struct lm_op *o)
{
    int64_t q = (int64_t)o->n_head * o->head_dim, kv = (int64_t)o->n_kv * o->head_dim;
    switch (o->code) {
    case LM_OP_EMBED:     return (struct op_rule){ .y = o->k, .w_rows = o->n,
                                                   .w_cols = o->k };
    case LM_OP_RMSNORM:   return (struct op_rule){ .y = o->k, .a = o->k, .w_rows = 1,
                                                   .w_cols = o->n };
    case LM_OP_LINEAR:    return (struct op_rule){ .y = o->n, .a = o->k, .w_rows = o->n,
                                                   .w_cols = o->k };
    case LM_OP_ROPE_KV:   return (struct op_rule){ .a = q, .b = kv, .c = kv, .w_rows = 1,
                                                   .w_cols = o->head_dim / 2 };
    case LM_OP_ATTENTION: return (struct op_rule){ .y = q, .a = q };
    case LM_OP_SILU_MUL:
    case LM_OP_ADD:       return (struct op_rule){ .y = o->n, .a = o->n, .b = o->n };
    case LM_OP_CE:
    case LM_OP_KL:
    case LM_OP_LOGITS:    return (struct op_rule){ .a = o->k, .w_rows = o->n,
                                                   .w_cols = o->k };
    case LM_OP_EXPECT:    return (struct op_rule){ .y = o->k, .a = o->k, .w_rows = o->n,
                                                   .w_cols = o->k };
    case LM_OP_COPY:      return (struct op_rule){ .a = o->n };
    default:              return (struct op_rule){ .y = -1 };
    }
}

static inline bool machine_reg_fits(const struct lm_program *p, int32_t r, int64_t need)
{
    return need == 0 || (r >= 0 && (size_t)r < p->n_reg && p->width[r] >= need);
}

static inline bool machine_is_head(uint32_t code)
{
    return code >= LM_OP_CE && code <= LM_OP_LOGITS;
}

static inline bool machine_takes_codes(uint32_t code)
{
    return code == LM_OP_EMBED || code == LM_OP_LINEAR || code == LM_OP_LOGITS;
}

/* What is wrong with an operator; NULL: nothing. */
static inline const char *machine_fault(const struct lm_program *p, uint32_t precision,
                                        const struct lm_op *o)
{
    struct op_rule r = machine_rule(o);
    bool heads = o->code == LM_OP_ROPE_KV || o->code == LM_OP_ATTENTION;
    if (r.y < 0)
        return "is unknown";
    if (heads ? o->n_head < 1 || o->n_kv < 1 || o->head_dim < 2 || o->head_dim % 2 != 0
                || o->n_head % o->n_kv != 0 || o->slot < 0
              : o->n < 1)
        return "has impossible dimensions";
    if ((r.w_rows > 1 || o->code == LM_OP_RMSNORM) && o->k < 1)
        return "has impossible dimensions";
    if (o->code == LM_OP_RMSNORM && o->k % o->n != 0)
        return "has rows that are no whole groups";
    if (o->code == LM_OP_COPY && (o->slot < 0 || o->slot >= LM_N_TAPS))
        return "names a tap that does not exist";
    if (!machine_reg_fits(p, o->y, r.y) || !machine_reg_fits(p, o->a, r.a)
        || !machine_reg_fits(p, o->b, r.b) || !machine_reg_fits(p, o->c, r.c))
        return "uses a register that is absent or too narrow";
    if ((o->code == LM_OP_LINEAR || o->code == LM_OP_ATTENTION || o->code == LM_OP_EXPECT)
        && o->y == o->a)
        return "reads and writes the same register";
    if (r.w_rows && (!o->w || o->w->rows != r.w_rows || o->w->cols != r.w_cols))
        return "has a weight of another shape";
    if (o->bias && (o->bias->rows != 1 || o->bias->cols != o->n))
        return "has a bias of another length";
    if ((r.w_rows && o->w->codec && (precision || !machine_takes_codes(o->code)))
        || (o->bias && o->bias->codec))
        return "has weights that are not f32";
    return NULL;
}

static inline void machine_exe_free(void *self, struct lm_exe *x)
{
    struct machine *m = self;
    if (!x)
        return;
    m->host->release(x->op);
    m->host->release(x->width);
    m->host->release(x);
}

static inline enum lm_status machine_compile(void *self, const struct lm_program *p,
                                             struct lm_exe **x, struct lm_err *e)
{
    struct machine *m = self;
    const struct lm_host *h = m->host;
    uint32_t precision = p->struct_size >= sizeof *p ? p->precision : LM_AS_F32;
    if (precision >= LM_N_PRECISIONS)
        return h->fail(e, LM_EUNSUPPORTED, "this backend does not know precision %u of a "
                       "program", (unsigned)precision);
    if (p->n_reg < 1 || p->n_reg > 1 << 20 || p->n_op < 1 || p->n_op > 1 << 24)
        return h->fail(e, LM_EBUG, "a program of %zu operators and %zu registers",
                       p->n_op, p->n_reg);
    for (size_t i = 0; i < p->n_op; i++) {
        const char *fault = machine_fault(p, precision, &p->op[i]);
        if (fault)
            return h->fail(e, LM_EBUG, "operator %zu of a program (code %u) %s", i,
                           (unsigned)p->op[i].code, fault);
    }
    struct lm_exe *y = h->alloc(sizeof *y, "program");
    if (y) {
        y->op = h->alloc(p->n_op * sizeof *y->op, "program");
        y->width = h->alloc(p->n_reg * sizeof *y->width, "program");
    }
    if (!y || !y->op || !y->width) {
        machine_exe_free(self, y);
        return machine_no_memory(h, (double)p->n_op * sizeof *p->op, "a program", e);
    }
    memcpy(y->op, p->op, p->n_op * sizeof *y->op);
    memcpy(y->width, p->width, p->n_reg * sizeof *y->width);
    y->n_op = p->n_op;
    y->n_reg = p->n_reg;
    y->precision = precision;
    *x = y;
    return LM_OK;
}

/* ---- checking calls ------------------------------------------------------------ */
static inline bool machine_in_range(const int32_t *id, int32_t rows, int32_t n)
{
    for (int32_t i = 0; i < rows; i++)
        if (id[i] < 0 || id[i] >= n)
            return false;
    return true;
}

/* What is wrong with the arguments for one operator; NULL: nothing. */
static inline const char *machine_call_fault(const struct lm_op *o,
                                             const struct lm_exec *x)
{
    int64_t rows = x->rows;
    const struct lm_kv *kv = x->kv;
    switch (o->code) {
    case LM_OP_EMBED:
        return !x->token || !machine_in_range(x->token, x->rows, o->n)
             ? "a token id outside the vocabulary" : NULL;
    case LM_OP_ROPE_KV:
    case LM_OP_ATTENTION:
        if (!kv || (size_t)o->slot >= kv->n_slot
            || kv->width[o->slot] < (int64_t)o->n_kv * o->head_dim)
            return "no such slot of that width in the cache";
        return x->pos > kv->capacity - rows ? "more tokens than the cache holds" : NULL;
    case LM_OP_COPY:
        return !x->tap[o->slot] || x->tap[o->slot]->n < rows * o->n
             ? "a tap that is absent or too small" : NULL;
    case LM_OP_CE:
        if (!x->target || !machine_in_range(x->target, x->rows, o->n))
            return "a target id outside the vocabulary";
        break;
    case LM_OP_KL:
        if (!x->teacher || x->teacher->n < rows * o->k)
            return "a teacher that is absent or too small";
        break;
    default:
        break;
    }
    return machine_is_head(o->code) && !x->out ? "no place for the result" : NULL;
}

static inline enum lm_status machine_call_check(const struct lm_host *h,
                                                const struct lm_exe *x,
                                                const struct lm_exec *args,
                                                struct lm_err *e)
{
    const char *fault = NULL;
    if (args->rows < 1 || args->pos < 0)
        fault = "no rows";
    else if (!args->hidden || args->hidden->n < (int64_t)args->rows * x->width[0])
        fault = "a residual stream that is absent or too small";
    for (size_t i = 0; !fault && i < x->n_op; i++)
        fault = machine_call_fault(&x->op[i], args);
    return fault ? h->fail(e, LM_EBUG, "a program was run with %s", fault) : LM_OK;
}
#endif
