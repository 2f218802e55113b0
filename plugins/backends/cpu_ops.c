/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_ops.c -- the operators of the cpu backend.
 *
 * One row is a matrix-vector product, bound by memory, done by our kernel;
 * more rows go through the host's gemm.  Where a stream may use several
 * threads, an operator is cut by outputs (rows of w, heads): each output is
 * the work of one thread, so no reduction crosses threads.
 *
 * Attention is blocked over query rows: scores of BLOCK rows against all keys
 * up to the block's last row are one small matrix, softmax is done in it, and
 * a second product with the values follows (the scores never exist as a whole;
 * Dao et al. 2022, FlashAttention, with the key dimension left in one piece).
 *
 * The head never stores logits: tiles of the vocabulary update a running
 * (maximum, sum) for each row (Milakov and Gimelshein 2018, Online normalizer
 * calculation for softmax), and for EXPECT also the running sum of p W.     */
#include <math.h>

#include "cpu.h"

enum {
    BLOCK = 64,                 /* query rows of an attention block */
    FEW = 4,                    /* up to so many rows are done one by one */
    TILE = 512,                 /* vocabulary columns of a head tile */
    TILE_ROWS = 1024,           /* rows of a head tile: 2 MB of logits */
    WORTH = 1 << 17             /* weights below which threads do not pay */
};

/* ---- threads -------------------------------------------------------------- */
struct split {
    const struct call *c;
    void (*part)(const struct call *c, int64_t first, int64_t last, int64_t piece);
    int64_t n, pieces, grain;
};

static void split_body(void *ctx, int64_t i, uint32_t worker)
{
    const struct split *s = ctx;
    int64_t grains = (s->n + s->grain - 1) / s->grain;
    int64_t first = grains * i / s->pieces * s->grain;
    int64_t last = grains * (i + 1) / s->pieces * s->grain;
    (void)worker;
    if (last > s->n)
        last = s->n;
    if (first < last)
        s->part(s->c, first, last, i);
}

/* part() over 0..n-1 in `pieces` runs of whole grains. */
static enum lm_status split(const struct call *c, int64_t n, int64_t grain,
                            int64_t pieces,
                            void (*part)(const struct call *, int64_t, int64_t, int64_t),
                            struct lm_err *e)
{
    const struct machine *m = &c->m->base;
    struct split s = { c, part, n, pieces, grain };
    if (pieces <= 1) {
        part(c, 0, n, 0);
        return LM_OK;
    }
    enum lm_status st = m->host->parallel(m->run, pieces, split_body, &s);
    return st ? m->host->fail(e, st, "interrupted") : LM_OK;
}

/* ---- linear ----------------------------------------------------------------- */
static void linear_part(const struct call *c, int64_t first, int64_t last, int64_t piece)
{
    const struct lm_op *o = c->o;
    const float *w = o->w->data + first * o->w->stride, *a = cpu_reg(c, o->a);
    int64_t lda = c->x->width[o->a], ldy = c->x->width[o->y], n = last - first;
    float *y = cpu_reg(c, o->y) + first;
    bool acc = o->flags & LM_OPF_ACC;
    (void)piece;
    if (c->arg->rows <= FEW)
        for (int64_t r = 0; r < c->arg->rows; r++)
            c->m->kernel->gemv(y + r * ldy, w, o->w->stride, a + r * lda, n, o->k, acc);
    else
        c->m->base.host->gemm('n', 't', c->arg->rows, n, o->k, 1, a, lda, w,
                              o->w->stride, acc ? 1 : 0, y, ldy);
    for (int64_t r = 0; o->bias && r < c->arg->rows; r++)
        c->m->kernel->add(y + r * ldy, y + r * ldy, o->bias->data + first, n);
}

enum lm_status cpu_linear(const struct call *c, struct lm_err *e)
{
    const struct lm_op *o = c->o;
    double work = (double)o->n * o->k * c->arg->rows;
    return split(c, o->n, 64, work < WORTH ? 1 : c->s->threads, linear_part, e);
}

/* ---- rope and cache ------------------------------------------------------------ */
/* cos and sin are the same in all layers, so a stream keeps the last table. */
static enum lm_status rotation_prepare(const struct call *c, struct lm_err *e)
{
    const struct lm_op *o = c->o;
    const struct lm_host *h = c->m->base.host;
    struct rotation *t = &c->s->rotation;
    int64_t half = o->head_dim / 2, pos = c->arg->pos, rows = c->arg->rows;
    if (t->id == o->w->id && t->f == o->f && t->half == half && pos >= t->pos
        && pos + rows <= t->pos + t->rows)
        return LM_OK;
    t->id = 0;
    enum lm_status st = block_reserve(h, &t->cosine, (size_t)(rows * half), "rope", e);
    if (!st)
        st = block_reserve(h, &t->sine, (size_t)(rows * half), "rope", e);
    if (st)
        return st;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < half; i++) {
            float angle = (float)(pos + r) * o->w->data[i];
            t->cosine.v[r * half + i] = cosf(angle) * o->f;
            t->sine.v[r * half + i] = sinf(angle) * o->f;
        }
    t->id = o->w->id;
    t->f = o->f;
    t->half = half;
    t->pos = pos;
    t->rows = rows;
    return LM_OK;
}

enum lm_status cpu_rope_kv(const struct call *c, struct lm_err *e)
{
    const struct lm_op *o = c->o;
    struct lm_kv *kv = c->arg->kv;
    const struct rotation *t = &c->s->rotation;
    int64_t d = o->head_dim, half = d / 2, step = kv->width[o->slot];
    size_t bytes = (size_t)o->n_kv * (size_t)d * sizeof(float);
    enum lm_status st = rotation_prepare(c, e);
    for (int64_t r = 0; r < c->arg->rows && !st; r++) {
        int64_t at = (c->arg->pos + r - t->pos) * half, to = (c->arg->pos + r) * step;
        float *q = cpu_reg(c, o->a) + r * c->x->width[o->a];
        float *k = cpu_reg(c, o->b) + r * c->x->width[o->b];
        const float *v = cpu_reg(c, o->c) + r * c->x->width[o->c];
        for (int64_t h = 0; h < o->n_head; h++)
            c->m->kernel->rotate(q + h * d, t->cosine.v + at, t->sine.v + at, half);
        for (int64_t h = 0; h < o->n_kv; h++)
            c->m->kernel->rotate(k + h * d, t->cosine.v + at, t->sine.v + at, half);
        memcpy(kv->k[o->slot] + to, k, bytes);
        memcpy(kv->v[o->slot] + to, v, bytes);
    }
    return st;
}

/* ---- attention ------------------------------------------------------------------ */
struct head {                           /* one query head */
    const float *q, *k, *v;
    float *y, *score;
    int64_t ldq, ldk, ldy, d;
    float scale;
};

/* One query row against `keys` keys. */
static void attend_row(const struct cpu_kernels *f, const struct head *h, int64_t r,
                       int64_t keys)
{
    float *y = h->y + r * h->ldy;
    f->gemv(h->score, h->k, h->ldk, h->q + r * h->ldq, keys, h->d, false);
    f->scale(h->score, h->scale, keys);
    float sum = f->exp_all(h->score, keys, f->max(h->score, keys));
    f->mix(y, h->score, h->v, h->ldk, keys, h->d);
    f->scale(y, 1 / sum, h->d);
}

/* Rows first .. first+n-1; row r sees pos + r + 1 keys. */
static void attend_block(const struct call *c, const struct head *h, int64_t first,
                         int64_t n)
{
    const struct cpu_kernels *f = c->m->kernel;
    const struct lm_host *host = c->m->base.host;
    int64_t keys = c->arg->pos + first + n;
    float sum[BLOCK];
    host->gemm('n', 't', n, keys, h->d, h->scale, h->q + first * h->ldq, h->ldq, h->k,
               h->ldk, 0, h->score, keys);
    for (int64_t r = 0; r < n; r++) {
        float *s = h->score + r * keys;
        int64_t seen = keys - n + r + 1;
        sum[r] = f->exp_all(s, seen, f->max(s, seen));
        memset(s + seen, 0, (size_t)(keys - seen) * sizeof *s);
    }
    host->gemm('n', 'n', n, h->d, keys, 1, h->score, keys, h->v, h->ldk, 0,
               h->y + first * h->ldy, h->ldy);
    for (int64_t r = 0; r < n; r++)
        f->scale(h->y + (first + r) * h->ldy, 1 / sum[r], h->d);
}

static int64_t score_size(const struct call *c)
{
    int64_t rows = c->arg->rows < BLOCK ? c->arg->rows : BLOCK;
    return rows * ((int64_t)c->arg->pos + c->arg->rows);
}

static void attention_part(const struct call *c, int64_t first, int64_t last,
                           int64_t piece)
{
    const struct lm_op *o = c->o;
    const struct lm_kv *kv = c->arg->kv;
    int64_t d = o->head_dim, rows = c->arg->rows;
    for (int64_t i = first; i < last; i++) {
        int64_t at = i / (o->n_head / o->n_kv) * d;
        struct head h = {
            .q = cpu_reg(c, o->a) + i * d, .ldq = c->x->width[o->a],
            .k = kv->k[o->slot] + at, .v = kv->v[o->slot] + at,
            .ldk = kv->width[o->slot],
            .y = cpu_reg(c, o->y) + i * d, .ldy = c->x->width[o->y],
            .score = c->s->scratch.v + piece * score_size(c),
            .d = d, .scale = 1 / sqrtf((float)d)
        };
        if (rows <= FEW)
            for (int64_t r = 0; r < rows; r++)
                attend_row(c->m->kernel, &h, r, c->arg->pos + r + 1);
        else
            for (int64_t r = 0; r < rows; r += BLOCK)
                attend_block(c, &h, r, rows - r < BLOCK ? rows - r : BLOCK);
    }
}

enum lm_status cpu_attention(const struct call *c, struct lm_err *e)
{
    const struct lm_op *o = c->o;
    double work = ((double)c->arg->pos + c->arg->rows) * c->arg->rows * o->head_dim
                * o->n_head;
    int64_t pieces = work < WORTH ? 1 : c->s->threads;
    if (pieces > o->n_head)
        pieces = o->n_head;
    enum lm_status st = block_reserve(c->m->base.host, &c->s->scratch,
                                      (size_t)(pieces * score_size(c)), "scores", e);
    return st ? st : split(c, o->n_head, 1, pieces, attention_part, e);
}

/* ---- head ------------------------------------------------------------------------ */
struct tally {                          /* of one row, over the tiles so far */
    float  max;
    double sum;                         /* of exp(l - max) */
    double moment;                      /* of exp(l - max) (l - max) */
    float  target;                      /* logit of the target */
};

/* Moves the row's reference to a new maximum; returns exp(old - new). */
static double tally_shift(struct tally *t, float max)
{
    if (!(max > t->max))
        return 1;
    double d = (double)t->max - (double)max;    /* -inf at first */
    double f = exp(d);
    t->moment = t->sum > 0 ? (t->moment + d * t->sum) * f : 0;
    t->sum *= f;
    t->max = max;
    return f;
}

static void tile_row(const struct call *c, float *l, int64_t first, int64_t n, int64_t r,
                     struct tally *t)
{
    const struct cpu_kernels *f = c->m->kernel;
    const struct lm_op *o = c->o;
    if (o->code == LM_OP_CE) {
        int64_t at = c->arg->target[r] - first;
        if (at >= 0 && at < n)
            t->target = l[at];
    }
    double scale = tally_shift(t, f->max(l, n));
    if (o->code != LM_OP_EXPECT) {
        t->sum += (double)f->sum_exp(l, n, t->max);
        return;
    }
    float moment;
    t->sum += (double)f->exp_moment(l, n, t->max, &moment);
    t->moment += (double)moment;
    if (scale != 1)
        f->scale(cpu_reg(c, o->y) + r * c->x->width[o->y], (float)scale, o->k);
}

static void head_finish(const struct call *c, int64_t r, const struct tally *t)
{
    const struct lm_op *o = c->o;
    double lse = (double)t->max + log(t->sum), s = 0;
    if (o->code == LM_OP_CE) {
        c->arg->out[r] = (float)(lse - (double)t->target);
    } else if (o->code == LM_OP_KL) {
        const float *a = cpu_reg(c, o->a) + r * c->x->width[o->a];
        const float *e = c->arg->teacher->v + r * o->k;
        for (int64_t i = 0; i < o->k; i++)
            s += (double)a[i] * (double)e[i];
        c->arg->out[r] = (float)(lse - s);
    } else {
        c->arg->out[r] = (float)(t->moment / t->sum - log(t->sum));
        c->m->kernel->scale(cpu_reg(c, o->y) + r * c->x->width[o->y],
                            (float)(1 / t->sum), o->k);
    }
}

/* Rows first .. first+rows-1 through all tiles. */
static enum lm_status head_block(const struct call *c, int64_t first, int64_t rows,
                                 struct tally *t, struct lm_err *e)
{
    const struct lm_op *o = c->o;
    const struct machine *m = &c->m->base;
    const float *a = cpu_reg(c, o->a) + first * c->x->width[o->a];
    float *l = c->s->scratch.v;
    for (int64_t r = 0; r < rows; r++) {
        t[r] = (struct tally){ .max = -INFINITY };
        if (o->code == LM_OP_EXPECT)
            memset(cpu_reg(c, o->y) + (first + r) * c->x->width[o->y], 0,
                   (size_t)o->k * sizeof(float));
    }
    for (int64_t v = 0; v < o->n; v += TILE) {
        int64_t n = o->n - v < TILE ? o->n - v : TILE;
        const float *w = o->w->data + v * o->w->stride;
        if (m->host->canceled(m->run))
            return m->host->fail(e, LM_ECANCELED, "interrupted");
        m->host->gemm('n', 't', rows, n, o->k, 1, a, c->x->width[o->a], w, o->w->stride,
                      0, l, n);
        for (int64_t r = 0; r < rows; r++)
            tile_row(c, l + r * n, v, n, first + r, &t[r]);
        if (o->code == LM_OP_EXPECT)
            m->host->gemm('n', 'n', rows, o->k, n, 1, l, n, w, o->w->stride, 1,
                          cpu_reg(c, o->y) + first * c->x->width[o->y],
                          c->x->width[o->y]);
    }
    for (int64_t r = 0; r < rows; r++)
        head_finish(c, first + r, &t[r]);
    return LM_OK;
}

static void logits_part(const struct call *c, int64_t first, int64_t last, int64_t piece)
{
    const struct lm_op *o = c->o;
    const float *a = cpu_reg(c, o->a) + (int64_t)(c->arg->rows - 1) * c->x->width[o->a];
    (void)piece;
    c->m->kernel->gemv(c->arg->out + first, o->w->data + first * o->w->stride,
                       o->w->stride, a, last - first, o->k, false);
}

enum lm_status cpu_head(const struct call *c, struct lm_err *e)
{
    const struct lm_op *o = c->o;
    const struct lm_host *h = c->m->base.host;
    if (o->code == LM_OP_LOGITS)
        return split(c, o->n, 64, (double)o->n * o->k < WORTH ? 1 : c->s->threads,
                     logits_part, e);
    int64_t rows = c->arg->rows < TILE_ROWS ? c->arg->rows : TILE_ROWS;
    struct tally *t = h->alloc((size_t)rows * sizeof *t, "head");
    if (!t)
        return machine_no_memory(h, (double)rows * sizeof *t, "the head", e);
    enum lm_status st = block_reserve(h, &c->s->scratch, (size_t)(rows * TILE), "tile",
                                      e);
    for (int64_t r = 0; r < c->arg->rows && !st; r += rows)
        st = head_block(c, r, c->arg->rows - r < rows ? c->arg->rows - r : rows, t, e);
    h->release(t);
    return st;
}

/* ---- row by row --------------------------------------------------------------- */
static void one_row(const struct call *c, int64_t r)
{
    const struct lm_op *o = c->o;
    const struct cpu_kernels *f = c->m->kernel;
    const int32_t *width = c->x->width;
    const float *a = o->a < 0 ? NULL : cpu_reg(c, o->a) + r * width[o->a];
    const float *b = o->b < 0 ? NULL : cpu_reg(c, o->b) + r * width[o->b];
    float *y = o->y < 0 ? NULL : cpu_reg(c, o->y) + r * width[o->y];
    switch (o->code) {
    case LM_OP_EMBED:
        memcpy(y, o->w->data + c->arg->token[r] * o->w->stride,
               (size_t)o->k * sizeof *y);
        break;
    case LM_OP_RMSNORM:
        for (int64_t g = 0; g < o->k; g += o->n)
            f->rmsnorm(y + g, a + g, o->w->data, o->n, o->eps);
        break;
    case LM_OP_SILU_MUL:
        f->silu_mul(y, a, b, o->n);
        break;
    case LM_OP_ADD:
        f->add(y, a, b, o->n);
        break;
    default:                            /* LM_OP_COPY */
        memcpy(c->arg->tap[o->slot]->v + r * o->n, a, (size_t)o->n * sizeof *a);
        break;
    }
}

void cpu_rows(const struct call *c)
{
    for (int64_t r = 0; r < c->arg->rows; r++)
        one_row(c, r);
}
