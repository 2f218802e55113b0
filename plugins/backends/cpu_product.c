/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_product.c -- the products of operators: which kernel, weights packed once.
 *
 * bf16 and int8 programs multiply packed weights.  A matrix is packed in chunks
 * of CPU_CHUNK rows, each kept as long as a program uses it and found by where
 * its rows lie, so that programs over the same memory share it: the same layer
 * in several candidates, and widths of an ordered matrix.  That is safe because
 * weights lie unchanged until they are forgotten, and programs go before.
 *
 * f32 programs use the weights where they lie.  One row is a matrix-vector
 * product, bound by memory; a few rows are products of rows with rows; many pay
 * for packing a chunk into scratch first, which takes a few hundredths of the
 * time.  The portable kernels are slow there, so that set calls the host.
 * Weights in number formats are multiplied as they lie by one row, which is what
 * decoding is; for more rows chunks are decoded to floats, and all is as above. */
#include "cpu.h"

enum { SMALL = 16 };                    /* rows for which packing does not pay */

struct cpu_chunk {
    struct cpu_chunk *next;             /* in its bucket */
    const float *data;                  /* rows x k from here, stride apart */
    int64_t rows, k, stride;
    uint32_t precision;
    int64_t refs;                       /* programs; the machine's lock */
    pthread_mutex_t lock;               /* of what follows, until ready */
    bool ready;
    uint32_t *w;                        /* panels, then scale and shift */
    float *scale;                       /* [up to a whole panel] */
    int32_t *shift;
};

struct packed { int64_t n; struct cpu_chunk *chunk[]; };        /* one weight */

/* ---- chunks ----------------------------------------------------------------------- */
static struct cpu_chunk **bucket_of(struct machine_cpu *m, const float *data)
{
    return &m->bucket[(uintptr_t)data / 64 % CPU_BUCKETS];
}

/* The chunk with one more user, or NULL without memory. */
static struct cpu_chunk *chunk_get(struct machine_cpu *m, const struct lm_weight *w,
                                   int64_t first, int64_t rows, uint32_t precision)
{
    const float *data = w->data + first * w->stride;
    struct cpu_chunk **b = bucket_of(m, data), *c;
    pthread_mutex_lock(&m->lock);
    for (c = *b; c; c = c->next)
        if (c->data == data && c->rows == rows && c->k == w->cols
            && c->stride == w->stride && c->precision == precision)
            break;
    if (!c && (c = m->base.host->alloc(sizeof *c, "weights"))) {
        *c = (struct cpu_chunk){ .next = *b, .data = data, .rows = rows, .k = w->cols,
                                 .stride = w->stride, .precision = precision };
        pthread_mutex_init(&c->lock, NULL);
        *b = c;
    }
    if (c)
        c->refs++;
    pthread_mutex_unlock(&m->lock);
    return c;
}

static void chunk_put(struct machine_cpu *m, struct cpu_chunk *c)
{
    struct cpu_chunk **b = bucket_of(m, c->data);
    pthread_mutex_lock(&m->lock);
    bool last = --c->refs == 0;
    while (last && *b != c)
        b = &(*b)->next;
    if (last)
        *b = c->next;
    pthread_mutex_unlock(&m->lock);
    if (!last)
        return;
    pthread_mutex_destroy(&c->lock);
    m->base.host->release(c->w);
    m->base.host->release(c);
}

static bool chunk_fill(const struct machine_cpu *m, struct cpu_chunk *c)
{
    const struct lm_host *h = m->base.host;
    const struct cpu_format *f = &m->product->format[c->precision];
    int64_t words = cpu_words(f, c->k), n = cpu_panels(c->rows) * CPU_PANEL;
    uint32_t *row = h->alloc((size_t)(CPU_PANEL * words) * sizeof *row, "weights");
    c->w = h->alloc((size_t)(n * (words + 2)) * sizeof *c->w, "weights");
    if (row && c->w) {
        c->scale = (float *)(void *)(c->w + n * words);
        c->shift = (int32_t *)(void *)(c->w + n * (words + 1));
        for (int64_t r = 0; r < c->rows; r += CPU_PANEL) {
            int64_t few = c->rows - r < CPU_PANEL ? c->rows - r : CPU_PANEL;
            for (int64_t i = 0; i < few; i++)
                f->encode_w(row + i * words, c->data + (r + i) * c->stride, c->k,
                            &c->scale[r + i], &c->shift[r + i]);
            m->product->panel(c->w + r * words, row, words, few, words);
        }
        c->ready = true;
    } else {
        h->release(c->w);
        c->w = NULL;
    }
    h->release(row);
    return c->ready;
}

/* ---- programs ---------------------------------------------------------------------- */
static bool multiplies(const struct lm_op *o)
{
    return o->code == LM_OP_LINEAR || program_is_head(o->code);
}

static void packed_free(struct machine_cpu *m, struct packed *p)
{
    for (int64_t i = 0; p && i < p->n; i++)
        chunk_put(m, p->chunk[i]);
    m->base.host->release(p);
}

static struct packed *pack_weight(struct machine_cpu *m, const struct lm_weight *w,
                                  uint32_t precision)
{
    int64_t n = (w->rows + CPU_CHUNK - 1) / CPU_CHUNK;
    struct packed *p = m->base.host->alloc(sizeof *p + (size_t)n * sizeof *p->chunk,
                                           "weights");
    for (int64_t i = 0; p && i < n; i++) {
        int64_t first = i * CPU_CHUNK, left = w->rows - first;
        struct cpu_chunk *c = chunk_get(m, w, first, left < CPU_CHUNK ? left : CPU_CHUNK,
                                        precision);
        bool ok = c;
        if (c) {
            p->chunk[p->n++] = c;
            pthread_mutex_lock(&c->lock);
            ok = c->ready || chunk_fill(m, c);
            pthread_mutex_unlock(&c->lock);
        }
        if (!ok) {
            packed_free(m, p);
            return NULL;
        }
    }
    return p;
}

void cpu_unpack(struct machine_cpu *m, struct lm_exe *x)
{
    struct packed **p = x->own;
    for (size_t i = 0; p && i < x->n_op; i++)
        packed_free(m, p[i]);
    m->base.host->release(p);
    x->own = NULL;
}

enum lm_status cpu_pack(struct machine_cpu *m, struct lm_exe *x, struct lm_err *e)
{
    const struct lm_host *h = m->base.host;
    struct packed **p;
    if (x->precision == LM_AS_F32)
        return LM_OK;
    for (size_t i = 0; i < x->n_op; i++)
        if (multiplies(&x->op[i]) && x->op[i].k > CPU_MOST_K)
            return h->fail(e, LM_EUNSUPPORTED, "rows of %d weights are more than the %d "
                           "that can be summed; use precision f32", (int)x->op[i].k,
                           CPU_MOST_K);
    if (!(p = x->own = h->alloc(x->n_op * sizeof *p, "weights")))
        return program_no_memory(h, (double)x->n_op * sizeof *p, "packed weights", e);
    for (size_t i = 0; i < x->n_op; i++)
        if (multiplies(&x->op[i])
            && !(p[i] = pack_weight(m, x->op[i].w, x->precision)))
            return program_no_memory(h, (double)x->op[i].n * x->op[i].k,
                                     "packed weights", e);
    return LM_OK;
}

/* ---- products ---------------------------------------------------------------------- */
/* Rows of words do not lie whole pages apart, where they would fight for the same
 * places of the cache.                                                           */
static int64_t code_stride(int64_t words)
{
    return words % 64 == 0 ? words + 16 : words;
}

static bool packs_each_time(const struct call *c, int64_t rows)
{
    return c->x->precision == LM_AS_F32 && rows > SMALL && c->m->set > CPU_PORTABLE;
}

enum lm_status cpu_input(const struct call *c, const float *a, int64_t lda, int64_t rows,
                         int64_t pieces, struct cpu_input *in, struct lm_err *e)
{
    const struct lm_host *h = c->m->base.host;
    const struct cpu_format *f = cpu_format(c);
    int64_t k = c->o->k, ldc = code_stride(cpu_words(f, k));
    enum lm_status st = LM_OK;
    *in = (struct cpu_input){ .a = a, .rows = rows, .lda = lda };
    if (c->o->w->codec && rows > 1)
        st = block_reserve(h, &c->s->floats, (size_t)(pieces * CPU_CHUNK * k), "weights",
                           e);
    if (st)
        return st;
    if (packs_each_time(c, rows))
        return block_reserve(h, &c->s->panel, (size_t)(pieces * CPU_CHUNK * k),
                             "weights", e);
    if (c->x->precision == LM_AS_F32)
        return LM_OK;
    if (!c->same) {
        st = block_reserve(h, &c->s->code, (size_t)(rows * ldc), "input", e);
        if (!st)
            st = block_reserve(h, &c->s->scale, (size_t)rows, "input", e);
    }
    in->code = (const uint32_t *)(const void *)c->s->code.v;
    in->scale = c->s->scale.v;
    in->ldc = ldc;
    for (int64_t r = 0; !st && !c->same && r < rows; r++)
        f->encode_a((uint32_t *)(void *)c->s->code.v + r * ldc, a + r * lda, k,
                    &c->s->scale.v[r]);
    return st;
}

/* Rows first .. first+n-1 of the weight as floats, n <= CPU_CHUNK. */
static const float *weight_rows(const struct call *c, int64_t first, int64_t n,
                                int64_t piece, int64_t *stride)
{
    const struct lm_weight *w = c->o->w;
    float *to = c->s->floats.v + piece * CPU_CHUNK * c->o->k;
    *stride = w->codec ? c->o->k : w->stride;
    if (!w->codec)
        return w->data + first * w->stride;
    for (int64_t i = 0; i < n; i++)
        w->codec->decode(w->code + (first + i) * w->row_bytes, to + i * c->o->k, c->o->k);
    return to;
}

/* f32, many rows: outputs first .. last-1, a chunk of them packed at a time. */
static void multiply_packing(const struct call *c, const struct cpu_input *in,
                             int64_t first, int64_t last, int64_t piece, float *y,
                             int64_t ldy, bool add)
{
    int64_t k = c->o->k, stride;
    uint32_t *panel = (uint32_t *)(void *)(c->s->panel.v + piece * CPU_CHUNK * k);
    struct cpu_product p = { .a = (const uint32_t *)(const void *)in->a, .lda = in->lda,
                             .w = panel, .m = in->rows, .words = k,
                             .panel = k * CPU_PANEL, .ldy = ldy, .add = add };
    for (int64_t at = first; at < last; at += CPU_CHUNK) {
        p.n = last - at < CPU_CHUNK ? last - at : CPU_CHUNK;
        p.y = y + (at - first);
        const float *w = weight_rows(c, at, p.n, piece, &stride);
        for (int64_t r = 0; r < p.n; r += CPU_PANEL)
            c->m->product->panel(panel + r * k,
                                 (const uint32_t *)(const void *)(w + r * stride), stride,
                                 p.n - r < CPU_PANEL ? p.n - r : CPU_PANEL, k);
        cpu_format(c)->multiply(&p);
    }
}

static void multiply_packed(const struct call *c, const struct cpu_input *in,
                            int64_t first, int64_t last, float *y, int64_t ldy, bool add)
{
    const struct packed *all = ((struct packed *const *)c->x->own)[c->o - c->x->op];
    int64_t words = cpu_words(cpu_format(c), c->o->k);
    struct cpu_product p = { .a = in->code, .a_scale = in->scale, .lda = in->ldc,
                             .m = in->rows, .words = words, .panel = words * CPU_PANEL,
                             .ldy = ldy, .add = add };
    for (int64_t at = first; at < last; at += CPU_CHUNK) {
        const struct cpu_chunk *chunk = all->chunk[at / CPU_CHUNK];
        p.n = last - at < CPU_CHUNK ? last - at : CPU_CHUNK;
        p.y = y + (at - first);
        p.w = chunk->w;
        p.w_scale = chunk->scale;
        p.w_shift = chunk->shift;
        cpu_format(c)->multiply(&p);
    }
}

/* f32, the weights as floats where they are. */
static void multiply_floats(const struct call *c, const struct cpu_input *in,
                            int64_t first, int64_t last, int64_t piece, float *y,
                            int64_t ldy, bool add)
{
    int64_t k = c->o->k, most = c->o->w->codec ? CPU_CHUNK : last - first, stride;
    for (int64_t at = first; at < last; at += most, y += most) {
        int64_t n = last - at < most ? last - at : most;
        const float *w = weight_rows(c, at, n, piece, &stride);
        if (in->rows == 1)
            c->m->kernel->gemv(y, w, stride, in->a, n, k, add);
        else if (in->rows <= SMALL)
            c->m->product->few(y, ldy, in->a, in->lda, in->rows, w, stride, n, k, add);
        else
            c->m->base.host->gemm('n', 't', in->rows, n, k, 1, in->a, in->lda, w, stride,
                                  add ? 1 : 0, y, ldy);
    }
}

void cpu_outputs(const struct call *c, const struct cpu_input *in, int64_t first,
                 int64_t last, int64_t piece, float *y, int64_t ldy, bool add)
{
    const struct lm_weight *w = c->o->w;
    if (c->x->precision != LM_AS_F32)
        multiply_packed(c, in, first, last, y, ldy, add);
    else if (w->codec && in->rows == 1)
        cpu_codes(c->m->set, w->codec->dtype)(y, w->code + first * w->row_bytes,
                                              w->row_bytes, in->a, last - first, c->o->k,
                                              add);
    else if (packs_each_time(c, in->rows))
        multiply_packing(c, in, first, last, piece, y, ldy, add);
    else
        multiply_floats(c, in, first, last, piece, y, ldy, add);
}
