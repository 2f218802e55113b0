/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_ops.c -- the operators of the cpu backend that are no head and no
 * attention.
 *
 * Where a stream may use several threads, an operator is cut by outputs (rows of
 * w, heads): each output is the work of one thread, so no reduction crosses
 * threads.                                                                   */
#include <math.h>

#include "cpu.h"

enum { WORTH = 1 << 17 };               /* multiply-adds below which threads do not pay */

/* ---- threads -------------------------------------------------------------- */
struct split {
    const struct call *c;
    const void *with;
    cpu_part *part;
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
        s->part(s->c, s->with, first, last, i);
}

enum lm_status cpu_split(const struct call *c, const void *with, int64_t n, int64_t grain,
                         int64_t pieces, cpu_part *part, struct lm_err *e)
{
    const struct machine *m = &c->m->base;
    struct split s = { c, with, part, n, pieces, grain };
    if (pieces <= 1) {
        part(c, with, 0, n, 0);
        return LM_OK;
    }
    enum lm_status st = m->host->parallel(m->run, pieces, split_body, &s);
    return st ? m->host->fail(e, st, "interrupted") : LM_OK;
}

int64_t cpu_pieces(const struct call *c, double work)
{
    return work < WORTH ? 1 : c->s->threads;
}

/* ---- linear ----------------------------------------------------------------- */
static void linear_part(const struct call *c, const void *with, int64_t first,
                        int64_t last, int64_t piece)
{
    const struct lm_op *o = c->o;
    int64_t ldy = c->x->width[o->y];
    float *y = cpu_reg(c, o->y) + first;
    cpu_outputs(c, with, first, last, piece, y, ldy, o->flags & LM_OPF_ACC);
    for (int64_t r = 0; o->bias && r < c->arg->rows; r++)
        c->m->kernel->add(y + r * ldy, y + r * ldy, o->bias->data + first, last - first);
}

enum lm_status cpu_linear(const struct call *c, struct lm_err *e)
{
    const struct lm_op *o = c->o;
    struct cpu_input in;
    int64_t pieces = cpu_pieces(c, (double)o->n * o->k * c->arg->rows);
    enum lm_status st = cpu_input(c, cpu_reg(c, o->a), c->x->width[o->a], c->arg->rows,
                                  pieces, &in, e);
    return st ? st : cpu_split(c, &in, o->n, CPU_CHUNK, pieces, linear_part, e);
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
        if (o->w->codec)
            o->w->codec->decode(o->w->code + c->arg->token[r] * o->w->row_bytes, y, o->k);
        else
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
