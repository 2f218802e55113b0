/* SPDX-License-Identifier: Apache-2.0 */
/* gpu_weight.c -- weights on the device, in the layouts of enum gpu_format; their copies
 * rounded to 8 bits; and the cosines and sines of rotary embeddings.
 *
 * Cosines and sines come from the host in double precision: what devices have in place
 * of them is bad far from 0, and angles grow with the position.                     */
#include <math.h>
#include <string.h>

#include "gpu.h"

enum { CHUNK_ROWS = 256 };

struct gpu_turns {
    uint64_t weight;                    /* id */
    float    f;
    int64_t  capacity;
    struct gpu_span span;
    struct gpu_turns *next;
};

static uint32_t format_of(uint32_t dtype)
{
    switch (dtype) {
    case LM_F16:  return GPU_F16;
    case LM_BF16: return GPU_BF16;
    case LM_Q8_0: return GPU_Q8;
    case LM_Q4_0: return GPU_Q4_0;
    case LM_Q4_1: return GPU_Q4_1;
    default:      return GPU_F32;
    }
}

static bool in_blocks(uint32_t format)
{
    return format >= GPU_Q8 && format <= GPU_Q4_1;
}

static uint32_t words_of(uint32_t format, int64_t cols)
{
    switch (format) {
    case GPU_F16:
    case GPU_BF16: return (uint32_t)((cols + 1) / 2);
    case GPU_Q8:   return (uint32_t)(cols / 4);
    case GPU_Q4_0:
    case GPU_Q4_1: return (uint32_t)(cols / 8);
    default:       return (uint32_t)cols;
    }
}

/* ---- upload ------------------------------------------------------------------------ */

/* A block of a file: the scale, for q4_1 the minimum, then the values. */
static void split_block(uint32_t format, const unsigned char *in, unsigned char *values,
                        uint32_t *scale)
{
    uint16_t d, m = 0;
    size_t head = format == GPU_Q4_1 ? 4 : 2;

    memcpy(&d, in, 2);
    if (head == 4)
        memcpy(&m, in + 2, 2);
    *scale = d | (uint32_t)m << 16;
    memcpy(values, in + head, format == GPU_Q8 ? 32 : 16);
}

static void split_row(const struct lm_weight *w, const unsigned char *in,
                      uint32_t *values, uint32_t *scale)
{
    uint32_t words = w->format == GPU_Q8 ? 8 : 4;

    for (int64_t b = 0; b < w->cols / 32; b++)
        split_block(w->format, in + b * w->codec->bytes,
                    (unsigned char *)(values + b * words), &scale[b]);
}

/* Rows of a tensor that lie apart by `step` bytes, to their place on the device. */
static enum lm_status put_rows(struct gpu *g, const struct lm_weight *w,
                               const struct gpu_piece *p, const unsigned char *from,
                               int64_t step, struct lm_err *e)
{
    int64_t blocks = in_blocks(w->format) ? w->cols / 32 : 0;
    size_t bytes = ((size_t)w->stride + (size_t)blocks) * CHUNK_ROWS * 4;
    uint32_t *words = g->host->alloc(bytes, "upload");
    enum lm_status st = LM_OK;

    if (!words)
        return program_no_memory(g->host, (double)bytes, "an upload", e);
    uint32_t *scale = words + (size_t)w->stride * CHUNK_ROWS;
    for (int64_t r = 0, n; r < p->rows && !st; r += n) {
        n = p->rows - r < CHUNK_ROWS ? p->rows - r : CHUNK_ROWS;
        for (int64_t i = 0; i < n; i++) {
            const unsigned char *row = from + (p->first + r + i) * step;

            if (blocks)
                split_row(w, row, words + i * w->stride, scale + i * blocks);
            else
                memcpy(words + i * w->stride, row,
                       (size_t)w->cols * (w->codec ? 2 : 4));
        }
        st = gpu_put(g, &p->span, (uint64_t)r * w->stride * 4, words,
                     (uint64_t)n * w->stride * 4, e);
        if (!st && blocks)
            st = gpu_put(g, &p->span, (p->scale_at + (uint64_t)(r * blocks)) * 4, scale,
                         (uint64_t)(n * blocks) * 4, e);
    }
    g->host->release(words);
    return st;
}

static enum lm_status put_piece(struct gpu *g, const struct lm_weight *w,
                                struct gpu_piece *p, const struct lm_tensor *t,
                                int64_t stride, struct lm_err *e)
{
    int64_t blocks = in_blocks(w->format) ? w->cols / 32 : 0;
    int64_t step = w->codec ? stride / w->codec->block * w->codec->bytes : stride * 4;
    uint64_t row = (uint64_t)w->stride * 4;
    enum lm_status st;

    p->scale_at = (uint32_t)((uint64_t)p->rows * w->stride);
    st = gpu_take(g, GPU_WEIGHTS, (uint64_t)p->rows * (row + (uint64_t)blocks * 4),
                  &p->span, "weights", e);
    if (!st && !w->codec && stride == w->cols)      /* as it lies */
        return gpu_put(g, &p->span, 0, (const float *)t->data + p->first * stride,
                       (uint64_t)p->rows * row, e);
    return st ? st : put_rows(g, w, p, t->data, step, e);
}

static enum lm_status check_tensor(struct gpu *g, const struct lm_tensor *t,
                                   int64_t stride, const struct lm_codec *codec,
                                   struct lm_err *e)
{
    if (t->dtype != LM_F32 && (t->dtype > LM_Q4_1 || !codec))
        return g->host->fail(e, LM_EUNSUPPORTED, "this backend does not take weights of "
                             "type %u", (unsigned)t->dtype);
    if (!t->data || t->rows < 1 || t->cols < 1 || t->cols > INT32_MAX || stride < t->cols
        || (codec && (t->cols % codec->block || stride % codec->block)))
        return g->host->fail(e, LM_EBUG, "a weight of %lld x %lld with stride %lld",
                             (long long)t->rows, (long long)t->cols, (long long)stride);
    return LM_OK;
}

/* Rows that fit into one binding. */
static int64_t rows_of_piece(const struct gpu *g, const struct lm_weight *w)
{
    uint64_t row = (uint64_t)w->stride * 4
                 + (in_blocks(w->format) ? (uint64_t)w->cols / 32 * 4 : 0);
    uint64_t most = g->limits.range < g->limits.slab ? g->limits.range : g->limits.slab;

    return (int64_t)(most / GPU_ALIGN * GPU_ALIGN / row);
}

enum lm_status gpu_upload(void *self, const struct lm_tensor *t, int64_t stride,
                          struct lm_weight **out, struct lm_err *e)
{
    struct gpu *g = self;
    const struct lm_codec *codec = t->dtype == LM_F32 ? NULL : g->host->codec(t->dtype);
    enum lm_status st = check_tensor(g, t, stride, codec, e);

    if (st)
        return st;
    struct lm_weight *w = g->host->alloc(sizeof *w, "weight");
    if (!w)
        return program_no_memory(g->host, sizeof *w, "a weight", e);
    *w = (struct lm_weight){ .codec = codec, .rows = t->rows, .cols = t->cols,
                             .format = format_of(t->dtype), .id = ++g->serial };
    w->stride = words_of(w->format, w->cols);
    w->byte_stride = (uint32_t)((w->cols + 3) / 4);
    w->host = t->dtype == LM_F32 && t->rows == 1 ? t->data : NULL;
    int64_t most = rows_of_piece(g, w);
    if (most < 1)
        st = g->host->fail(e, LM_EUNSUPPORTED, "a row of %lld weights is more than this "
                           "device can bind", (long long)w->cols);
    size_t n = st ? 0 : (size_t)((t->rows + most - 1) / most);
    if (!st && !(w->piece = g->host->alloc(n * sizeof *w->piece, "weight")))
        st = program_no_memory(g->host, (double)n * sizeof *w->piece, "a weight", e);
    for (size_t i = 0; i < n && !st; i++) {
        int64_t first = (int64_t)i * most;

        w->piece[i].first = first;
        w->piece[i].rows = t->rows - first < most ? t->rows - first : most;
        w->n_piece++;
        st = put_piece(g, w, &w->piece[i], t, stride, e);
    }
    if (st)
        gpu_forget(g, w);
    else
        *out = w;
    return st;
}

enum lm_status gpu_view(void *self, const struct lm_weight *of, int64_t rows,
                        struct lm_weight **out, struct lm_err *e)
{
    struct gpu *g = self;

    if (rows < 1 || rows > of->rows)
        return g->host->fail(e, LM_EBUG, "%lld of %lld rows of a weight", (long long)rows,
                             (long long)of->rows);
    struct lm_weight *w = g->host->alloc(sizeof *w, "weight");
    if (!w)
        return program_no_memory(g->host, sizeof *w, "a weight", e);
    *w = *of;
    w->rows = rows;
    w->is_view = true;
    w->id = ++g->serial;
    *out = w;
    return LM_OK;
}

static void drop_turns(struct gpu *g, uint64_t weight);

void gpu_forget(void *self, struct lm_weight *w)
{
    struct gpu *g = self;

    if (!w)
        return;
    if (w->host)
        drop_turns(g, w->id);
    for (uint32_t i = 0; !w->is_view && i < w->n_piece; i++) {
        gpu_give(g, GPU_WEIGHTS, &w->piece[i].span);
        gpu_give(g, GPU_WEIGHTS, &w->piece[i].bytes);
    }
    if (!w->is_view)
        g->host->release(w->piece);
    g->host->release(w);
}

/* ---- rounded to 8 bits ------------------------------------------------------------- */

static enum lm_status round_piece(struct gpu *g, const struct lm_weight *w,
                                  struct gpu_piece *p, struct lm_err *e)
{
    uint32_t scale_at = (uint32_t)(p->rows * w->byte_stride);
    struct gpu_recording *r = NULL;
    double seconds;
    struct gpu_launch *l = g->host->alloc(sizeof *l, "rounding");
    size_t n = 0;
    enum lm_status st = l ? LM_OK : program_no_memory(g->host, sizeof *l, "rounding", e);

    if (!st)
        st = gpu_take(g, GPU_WEIGHTS, (uint64_t)p->rows * (w->byte_stride + 1) * 4,
                      &p->bytes, "weights rounded to 8 bits", e);
    for (int64_t at = 0; !st && at < p->rows; at += n) {
        n = (size_t)(p->rows - at < g->limits.grid[1] ? p->rows - at : g->limits.grid[1]);
        *l = (struct gpu_launch){
            .kernel = GPU_ROUND, .grid = { 1, (uint32_t)n }, .n_bind = 2, .writes = 1,
            .bind = { p->bytes, p->span },
            .word = { 0, w->byte_stride, w->stride, (uint32_t)w->cols, scale_at,
                      (uint32_t)at, (uint32_t)at }
        };
        st = g->driver->record(g->device, l, 1, &r, e);
        if (!st) {
            st = g->driver->replay(g->device, r, &seconds, e);
            g->driver->discard(g->device, r);
        }
    }
    if (st)
        gpu_give(g, GPU_WEIGHTS, &p->bytes);
    g->host->release(l);
    return st;
}

enum lm_status gpu_round(struct gpu *g, const struct lm_weight *w, struct lm_err *e)
{
    enum lm_status st = LM_OK;

    pthread_mutex_lock(&g->round_lock);
    for (uint32_t i = 0; i < w->n_piece && !st; i++)
        if (!w->piece[i].bytes.slab)
            st = round_piece(g, w, &w->piece[i], e);
    pthread_mutex_unlock(&g->round_lock);
    return st;
}

/* ---- cosines and sines ------------------------------------------------------------- */

/* The angle is rounded to float because that is what models were trained with. */
static enum lm_status put_turns(struct gpu *g, const struct lm_weight *w,
                                struct gpu_turns *t, struct lm_err *e)
{
    size_t n = (size_t)w->cols, bytes = 2 * n * (size_t)t->capacity * sizeof(float);
    float *v = g->host->alloc(bytes, "rotary embedding");

    if (!v)
        return program_no_memory(g->host, (double)bytes, "a rotary embedding", e);
    for (size_t i = 0; i < n * (size_t)t->capacity; i++) {
        double angle = (double)((float)(i / n) * w->host[i % n]);

        v[2 * i] = (float)(cos(angle) * (double)t->f);
        v[2 * i + 1] = (float)(sin(angle) * (double)t->f);
    }
    enum lm_status st = gpu_take(g, GPU_SCRATCH, bytes, &t->span, "a rotary embedding",
                                 e);
    if (!st)
        st = gpu_put(g, &t->span, 0, v, bytes, e);
    g->host->release(v);
    return st;
}

static struct gpu_turns *known_turns(struct gpu *g, const struct lm_weight *w, float f,
                                     int64_t capacity)
{
    struct gpu_turns *t;

    pthread_mutex_lock(&g->lock);
    for (t = g->turns; t; t = t->next)
        if (t->weight == w->id && t->f == f && t->capacity >= capacity)
            break;
    pthread_mutex_unlock(&g->lock);
    return t;
}

enum lm_status gpu_find_turns(struct gpu *g, const struct lm_weight *w, float f,
                              int64_t capacity, struct gpu_span *out, struct lm_err *e)
{
    struct gpu_turns *t = known_turns(g, w, f, capacity);

    if (t) {
        *out = t->span;
        return LM_OK;
    }
    if (!(t = g->host->alloc(sizeof *t, "rotary embedding")))
        return program_no_memory(g->host, sizeof *t, "a rotary embedding", e);
    *t = (struct gpu_turns){ .weight = w->id, .f = f };
    for (t->capacity = 64; t->capacity < capacity;)     /* few tables for all lengths */
        t->capacity *= 2;
    enum lm_status st = put_turns(g, w, t, e);
    if (st) {
        gpu_give(g, GPU_SCRATCH, &t->span);
        g->host->release(t);
        return st;
    }
    pthread_mutex_lock(&g->lock);
    t->next = g->turns;
    g->turns = t;
    pthread_mutex_unlock(&g->lock);
    *out = t->span;
    return LM_OK;
}

/* Those made of a weight that goes; programs that use them are gone by then. */
static void drop_turns(struct gpu *g, uint64_t weight)
{
    struct gpu_turns *gone = NULL, *t;

    pthread_mutex_lock(&g->lock);
    for (struct gpu_turns **at = &g->turns; (t = *at);)
        if (t->weight == weight) {
            *at = t->next;
            t->next = gone;
            gone = t;
        } else {
            at = &t->next;
        }
    pthread_mutex_unlock(&g->lock);
    for (; (t = gone); g->host->release(t)) {
        gone = t->next;
        gpu_give(g, GPU_SCRATCH, &t->span);
    }
}

void gpu_turns_free(struct gpu *g)
{
    for (struct gpu_turns *t = g->turns, *next; t; t = next) {
        next = t->next;
        gpu_give(g, GPU_SCRATCH, &t->span);
        g->host->release(t);
    }
    g->turns = NULL;
}
