/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_head.c -- the heads of the cpu backend: cross-entropy, KL, expectation,
 * logits.
 *
 * Logits are never stored but for LOGITS: tiles of the vocabulary update a
 * running (maximum, sum) for each row (Milakov and Gimelshein 2018, Online
 * normalizer calculation for softmax), and for EXPECT also the running sum of
 * p W, with W as the program's precision rounds it.                         */
#include <math.h>

#include "cpu.h"

enum {
    TILE = 2 * CPU_CHUNK,               /* vocabulary columns of a tile */
    TILE_ROWS = 512                     /* rows of a tile: 512 KiB of logits */
};

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
        const float *e = c->arg->teacher->v + r * o->k;
        float *a = c->s->scratch.v;     /* the row as the product saw it */
        cpu_format(c)->round(a, cpu_reg(c, o->a) + r * c->x->width[o->a], o->k);
        for (int64_t i = 0; i < o->k; i++)
            s += (double)a[i] * (double)e[i];
        c->arg->out[r] = (float)(lse - s);
    } else {
        c->arg->out[r] = (float)(t->moment / t->sum - log(t->sum));
        c->m->kernel->scale(cpu_reg(c, o->y) + r * c->x->width[o->y],
                            (float)(1 / t->sum), o->k);
    }
}

/* y += p W for the tile p [rows][TILE] of the vocabulary from v on. */
static void expect_tile(const struct call *c, int64_t first, int64_t rows, int64_t v,
                        int64_t n)
{
    const struct lm_op *o = c->o;
    const float *w = o->w->data + v * o->w->stride, *p = c->s->scratch.v;
    int64_t stride = o->w->stride;
    if (c->x->precision != LM_AS_F32) {
        float *rounded = c->s->scratch.v + rows * TILE;
        for (int64_t i = 0; i < n; i++)
            cpu_format(c)->round(rounded + i * o->k, w + i * stride, o->k);
        w = rounded;
        stride = o->k;
    }
    c->m->base.host->gemm('n', 'n', rows, o->k, n, 1, p, TILE, w, stride, 1,
                          cpu_reg(c, o->y) + first * c->x->width[o->y],
                          c->x->width[o->y]);
}

/* Rows first .. first+rows-1 through all tiles. */
static enum lm_status head_block(const struct call *c, int64_t first, int64_t rows,
                                 struct tally *t, struct lm_err *e)
{
    const struct lm_op *o = c->o;
    const struct machine *m = &c->m->base;
    float *l = c->s->scratch.v;
    struct cpu_input in;
    enum lm_status st = cpu_input(c, cpu_reg(c, o->a) + first * c->x->width[o->a],
                                  c->x->width[o->a], rows, 1, &in, e);
    for (int64_t r = 0; !st && r < rows; r++) {
        t[r] = (struct tally){ .max = -INFINITY };
        if (o->code == LM_OP_EXPECT)
            memset(cpu_reg(c, o->y) + (first + r) * c->x->width[o->y], 0,
                   (size_t)o->k * sizeof(float));
    }
    for (int64_t v = 0; !st && v < o->n; v += TILE) {
        int64_t n = o->n - v < TILE ? o->n - v : TILE;
        if (m->host->canceled(m->run))
            return m->host->fail(e, LM_ECANCELED, "interrupted");
        cpu_outputs(c, &in, v, v + n, 0, l, TILE, false);
        for (int64_t r = 0; r < rows; r++)
            tile_row(c, l + r * TILE, v, n, first + r, &t[r]);
        if (o->code == LM_OP_EXPECT)
            expect_tile(c, first, rows, v, n);
    }
    for (int64_t r = 0; !st && r < rows; r++)
        head_finish(c, first + r, &t[r]);
    return st;
}

static void logits_part(const struct call *c, const void *with, int64_t first,
                        int64_t last, int64_t piece)
{
    cpu_outputs(c, with, first, last, piece, c->arg->out + first, c->o->n, false);
}

static enum lm_status logits(const struct call *c, struct lm_err *e)
{
    const struct lm_op *o = c->o;
    int64_t pieces = cpu_pieces(c, (double)o->n * o->k), width = c->x->width[o->a];
    struct cpu_input in;
    enum lm_status st = cpu_input(c, cpu_reg(c, o->a) + (c->arg->rows - 1) * width, width,
                                  1, pieces, &in, e);
    return st ? st : cpu_split(c, &in, o->n, CPU_CHUNK, pieces, logits_part, e);
}

enum lm_status cpu_head(const struct call *c, struct lm_err *e)
{
    const struct lm_op *o = c->o;
    const struct lm_host *h = c->m->base.host;
    if (o->code == LM_OP_LOGITS)
        return logits(c, e);
    int64_t rows = c->arg->rows < TILE_ROWS ? c->arg->rows : TILE_ROWS;
    int64_t rounded = o->code == LM_OP_EXPECT && c->x->precision ? TILE * (int64_t)o->k
                                                                 : o->k;
    struct tally *t = h->alloc((size_t)rows * sizeof *t, "head");
    if (!t)
        return program_no_memory(h, (double)rows * sizeof *t, "the head", e);
    enum lm_status st = block_reserve(h, &c->s->scratch, (size_t)(rows * TILE + rounded),
                                      "tile", e);
    for (int64_t r = 0; r < c->arg->rows && !st; r += rows)
        st = head_block(c, r, c->arg->rows - r < rows ? c->arg->rows - r : rows, t, e);
    h->release(t);
    return st;
}
