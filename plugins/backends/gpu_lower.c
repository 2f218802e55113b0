/* SPDX-License-Identifier: Apache-2.0 */
/* gpu_lower.c -- operators to launches; enum gpu_kernel says what binds and words are.
 *
 * A weight of several pieces makes a launch for each.  The heads compute the logits of a
 * tile of the vocabulary, fold them into sums for each row (Milakov and Gimelshein 2018,
 * online normalizer calculation for softmax) and forget them; EXPECT computes them once
 * more, when the sums are known.                                                    */
#include <string.h>

#include "gpu.h"

enum { LOGITS_BYTES = 32 << 20 };

struct lowering {
    struct gpu *g;
    struct lm_stream *s;
    const struct lm_exe *x;
    const struct lm_exec *a;
    const struct lm_op *o;
};

/* A matrix as a launch binds it: rows of a piece, or of its rounded bytes. */
struct matrix { struct gpu_span span; uint32_t format, stride, scale_at; };

/* Rows of activations: a register, rounded bytes, logits. */
struct rows { struct gpu_span span; uint32_t stride, half, first; };

int64_t gpu_tile(int64_t rows, int64_t vocab)
{
    int64_t n = LOGITS_BYTES / 4 / rows / GPU_TILE * GPU_TILE;

    return n < 4 * GPU_TILE ? 4 * GPU_TILE : n < vocab ? n : vocab;
}

static uint32_t bits_of(float f)
{
    uint32_t u;

    memcpy(&u, &f, 4);
    return u;
}

static uint32_t pieces(int64_t n, int64_t of)
{
    return (uint32_t)((n + of - 1) / of);
}

static enum lm_status push(struct lowering *w, const struct gpu_launch *l,
                           struct lm_err *e)
{
    struct lm_stream *s = w->s;
    const struct gpu_limits *limits = &w->g->limits;

    if (l->grid[0] > limits->grid[0] || l->grid[1] > limits->grid[1])
        return w->g->host->fail(e, LM_EUNSUPPORTED, "%u x %u groups of a kernel are more "
                                "than this device runs (%u x %u)%s", l->grid[0],
                                l->grid[1], limits->grid[0], limits->grid[1],
                                l->grid[1] > limits->grid[1] ? "; use shorter sequences"
                                                             : "");
    for (uint32_t i = 0; i < l->n_bind; i++)
        if (l->bind[i].size > limits->bind)
            return w->g->host->fail(e, LM_EUNSUPPORTED, "%.1f MiB of activations or of a "
                                    "cache are more than this device binds (%.1f); use "
                                    "shorter sequences or a shorter context",
                                    (double)l->bind[i].size / 1048576,
                                    (double)limits->bind / 1048576);
    if (s->n_launch == s->cap_launch) {
        size_t cap = s->cap_launch ? 2 * s->cap_launch : 64;
        struct gpu_launch *v = w->g->host->resize(s->launch, cap * sizeof *v);

        if (!v)
            return program_no_memory(w->g->host, (double)cap * sizeof *v, "launches", e);
        s->launch = v;
        s->cap_launch = cap;
    }
    s->launch[s->n_launch++] = *l;
    return LM_OK;
}

/* The residual stream is 32 bits, other registers what the instance has. */
static struct rows rows_of(const struct lowering *w, int32_t reg)
{
    return (struct rows){ .span = reg ? w->s->reg[reg] : w->a->hidden->span,
                          .stride = (uint32_t)w->x->width[reg],
                          .half = reg && w->g->half };
}

static struct rows logits_of(const struct lowering *w, int64_t tile)
{
    return (struct rows){ .span = w->s->logits, .stride = (uint32_t)tile };
}

static struct matrix piece_of(const struct lm_weight *w, const struct gpu_piece *p,
                              bool bytes)
{
    if (bytes)
        return (struct matrix){ p->bytes, GPU_I8, w->byte_stride,
                                (uint32_t)(p->rows * w->byte_stride) };
    return (struct matrix){ p->span, w->format, w->stride, p->scale_at };
}

/* ---- products ---------------------------------------------------------------------- */

/* y[r][col + j] (+)= a[r] . m[first + j], j < n; flags: enum gpu_flag. */
struct product {
    struct rows y, a;
    struct matrix m;
    const struct lm_weight *bias;
    int64_t n, k, rows, first, col;
    uint32_t flags, a_scale_at;
};

static enum lm_status push_product(struct lowering *w, const struct product *p,
                                   struct lm_err *e)
{
    bool across = p->flags & GPU_ACROSS, bytes = p->m.format == GPU_I8 && !across;
    bool few = p->rows <= GPU_FEW && !bytes && !across
        && pieces(p->n, GPU_VECTOR_ROWS) <= w->g->limits.grid[0];
    struct gpu_span bias = p->bias ? p->bias->piece[0].span : p->m.span;
    uint32_t flags = p->flags | (p->bias ? GPU_BIASED : 0);
    struct gpu_launch l = {
        .kernel = bytes ? GPU_BYTES : few ? GPU_VECTOR : GPU_MATRIX,
        .grid = { pieces(p->n, few ? GPU_VECTOR_ROWS : GPU_TILE),
                  few ? (uint32_t)p->rows : pieces(p->rows, GPU_TILE) },
        .n_bind = 4, .writes = 1, .bind = { p->y.span, p->a.span, p->m.span, bias },
        .word = { p->y.half | p->a.half << 1, p->y.stride, p->a.stride, (uint32_t)p->rows,
                  (uint32_t)p->n, (uint32_t)p->k, bytes ? p->a_scale_at : p->m.format,
                  p->m.stride, p->m.scale_at, (uint32_t)p->first, flags,
                  (uint32_t)p->col, p->a.first }
    };

    return push(w, &l, e);
}

/* Rows of a register as the program's precision has them for a product of k factors. */
static enum lm_status round_rows(struct lowering *w, struct product *p, int64_t k,
                                 struct lm_err *e)
{
    if (w->x->precision == LM_AS_BF16)
        p->flags |= GPU_AS_BF16;
    if (w->x->precision != LM_AS_INT8)
        return LM_OK;
    uint32_t stride = (uint32_t)((k + 3) / 4);
    struct gpu_launch l = {
        .kernel = GPU_ROUND, .grid = { 1, (uint32_t)p->rows }, .n_bind = 2, .writes = 1,
        .bind = { w->s->bytes, p->a.span },
        .word = { p->a.half << 1, stride, p->a.stride, (uint32_t)k,
                  (uint32_t)p->rows * stride, p->a.first, 0 }
    };
    p->a = (struct rows){ .span = w->s->bytes, .stride = stride };
    p->a_scale_at = (uint32_t)p->rows * stride;
    return push(w, &l, e);
}

static int64_t rows_in(const struct lm_weight *w, const struct gpu_piece *p)
{
    return w->rows - p->first < p->rows ? w->rows - p->first : p->rows;
}

/* The whole weight: a launch for each piece. */
static enum lm_status push_weight(struct lowering *w, struct product p, struct lm_err *e)
{
    const struct lm_weight *m = w->o->w;
    enum lm_status st = LM_OK;

    for (uint32_t i = 0; i < m->n_piece && m->piece[i].first < m->rows && !st; i++) {
        p.m = piece_of(m, &m->piece[i], w->x->precision == LM_AS_INT8);
        p.col = m->piece[i].first;
        p.n = rows_in(m, &m->piece[i]);
        st = push_product(w, &p, e);
    }
    return st;
}

static enum lm_status lower_linear(struct lowering *w, struct lm_err *e)
{
    const struct lm_op *o = w->o;
    struct product p = { .y = rows_of(w, o->y), .a = rows_of(w, o->a), .bias = o->bias,
                         .k = o->k, .rows = w->a->rows,
                         .flags = o->flags & LM_OPF_ACC ? GPU_ADDS : 0 };
    enum lm_status st = round_rows(w, &p, o->k, e);

    return st ? st : push_weight(w, p, e);
}

static enum lm_status lower_logits(struct lowering *w, struct lm_err *e)
{
    const struct lm_op *o = w->o;
    struct product p = { .y = { .span = w->s->out, .stride = (uint32_t)o->n },
                         .a = rows_of(w, o->a), .k = o->k, .rows = 1 };

    p.a.first = (uint32_t)w->a->rows - 1;
    enum lm_status st = round_rows(w, &p, o->k, e);
    return st ? st : push_weight(w, p, e);
}

/* ---- heads ------------------------------------------------------------------------- */

/* A tile of the vocabulary: rows [first, first + n) of piece i. */
struct tile { uint32_t i; int64_t first, n; bool begins; };

static enum lm_status push_logits(struct lowering *w, const struct product *a,
                                  const struct tile *t, int64_t width, struct lm_err *e)
{
    const struct lm_weight *m = w->o->w;
    struct product p = *a;

    p.y = logits_of(w, width);
    p.m = piece_of(m, &m->piece[t->i], w->x->precision == LM_AS_INT8);
    p.first = t->first;
    p.n = t->n;
    return push_product(w, &p, e);
}

static enum lm_status push_fold(struct lowering *w, const struct tile *t, int64_t width,
                                struct lm_err *e)
{
    uint32_t rows = (uint32_t)w->a->rows;
    int64_t vocabulary = w->o->w->piece[t->i].first + t->first;
    struct gpu_launch l = {
        .kernel = GPU_FOLD, .grid = { 1, rows }, .n_bind = 3, .writes = 1,
        .bind = { w->s->stats, w->s->logits, w->s->args },
        .word = { (uint32_t)t->n, (uint32_t)width, (uint32_t)vocabulary, 1 + rows,
                  t->begins, w->o->code == LM_OP_CE }
    };

    return push(w, &l, e);
}

/* The tile's logits become probabilities, and rows of the matrix weighed by them are
 * added to y.                                                                     */
static enum lm_status push_expected(struct lowering *w, const struct tile *t,
                                    int64_t width, struct lm_err *e)
{
    const struct lm_weight *m = w->o->w;
    struct gpu_launch l = {
        .kernel = GPU_SHARE, .grid = { 1, (uint32_t)w->a->rows }, .n_bind = 2,
        .writes = 3,
        .bind = { w->s->logits, w->s->stats },
        .word = { (uint32_t)t->n, (uint32_t)width }
    };
    struct product p = {
        .y = rows_of(w, w->o->y), .a = logits_of(w, width), .n = w->o->k, .k = t->n,
        .m = piece_of(m, &m->piece[t->i], w->x->precision == LM_AS_INT8),
        .rows = w->a->rows, .first = t->first,
        .flags = GPU_ACROSS | (t->begins ? 0 : GPU_ADDS)
               | (w->x->precision == LM_AS_BF16 ? GPU_AS_BF16 : 0)
    };
    enum lm_status st = push(w, &l, e);

    return st ? st : push_product(w, &p, e);
}

/* All tiles: logits, then they are folded, or shared out and weighed. */
static enum lm_status push_tiles(struct lowering *w, const struct product *a,
                                 bool expects, struct lm_err *e)
{
    const struct lm_weight *m = w->o->w;
    int64_t width = gpu_tile(w->a->rows, m->rows);
    struct tile t = { .begins = true };
    enum lm_status st = LM_OK;

    for (; t.i < m->n_piece && m->piece[t.i].first < m->rows && !st; t.i++) {
        int64_t rows = rows_in(m, &m->piece[t.i]);

        for (t.first = 0; t.first < rows && !st; t.first += width, t.begins = false) {
            t.n = rows - t.first < width ? rows - t.first : width;
            st = push_logits(w, a, &t, width, e);
            if (!st)
                st = expects ? push_expected(w, &t, width, e)
                             : push_fold(w, &t, width, e);
        }
    }
    return st;
}

static enum lm_status push_finish(struct lowering *w, const struct product *a,
                                  struct lm_err *e)
{
    uint32_t code = w->o->code;
    uint32_t what = code == LM_OP_CE ? GPU_FINISH_LOSS
                  : code == LM_OP_KL ? GPU_FINISH_KL : GPU_FINISH_ENTROPY;
    struct gpu_span teacher = code == LM_OP_KL ? w->a->teacher->span : a->a.span;
    struct gpu_launch l = {
        .kernel = GPU_FINISH, .grid = { 1, (uint32_t)w->a->rows }, .n_bind = 4,
        .writes = 1, .bind = { w->s->out, w->s->stats, a->a.span, teacher },
        .word = { a->a.half << 2, what, (uint32_t)w->o->k, a->a.stride, a->a_scale_at }
    };

    if (w->x->precision == LM_AS_INT8)
        l.word[1] |= GPU_FINISH_BYTES;
    if (w->x->precision == LM_AS_BF16)
        l.word[1] |= GPU_FINISH_BF16;
    return push(w, &l, e);
}

static enum lm_status lower_head(struct lowering *w, struct lm_err *e)
{
    struct product a = { .a = rows_of(w, w->o->a), .k = w->o->k, .rows = w->a->rows };
    enum lm_status st = round_rows(w, &a, w->o->k, e);

    if (!st)
        st = push_tiles(w, &a, false, e);
    if (!st && w->o->code == LM_OP_EXPECT)
        st = push_tiles(w, &a, true, e);
    return st ? st : push_finish(w, &a, e);
}

/* ---- the others -------------------------------------------------------------------- */

static enum lm_status lower_embed(struct lowering *w, struct lm_err *e)
{
    const struct lm_op *o = w->o;
    struct rows y = rows_of(w, o->y);
    enum lm_status st = LM_OK;

    for (uint32_t i = 0; i < o->w->n_piece && !st; i++) {
        const struct gpu_piece *p = &o->w->piece[i];
        struct matrix m = piece_of(o->w, p, false);
        struct gpu_launch l = {
            .kernel = GPU_EMBED, .grid = { pieces(o->k, 128), (uint32_t)w->a->rows },
            .n_bind = 3, .writes = 1, .bind = { y.span, m.span, w->s->args },
            .word = { y.half, y.stride, (uint32_t)o->k, m.format, m.stride, m.scale_at, 1,
                      (uint32_t)p->first, (uint32_t)p->rows }
        };

        st = push(w, &l, e);
    }
    return st;
}

static enum lm_status lower_norm(struct lowering *w, struct lm_err *e)
{
    const struct lm_op *o = w->o;
    struct rows y = rows_of(w, o->y), a = rows_of(w, o->a);
    struct gpu_launch l = {
        .kernel = GPU_NORM, .grid = { (uint32_t)(o->k / o->n), (uint32_t)w->a->rows },
        .n_bind = 3, .writes = 1, .bind = { y.span, a.span, o->w->piece[0].span },
        .word = { y.half | a.half << 1, y.stride, a.stride, (uint32_t)o->n,
                               bits_of(o->eps) }
    };

    return push(w, &l, e);
}

static enum lm_status lower_rope(struct lowering *w, struct lm_err *e)
{
    const struct lm_op *o = w->o;
    const struct lm_kv *kv = w->a->kv;
    struct rows q = rows_of(w, o->a), k = rows_of(w, o->b), v = rows_of(w, o->c);
    uint32_t half = w->g->half;
    int64_t pairs = (int64_t)(o->n_head + 2 * o->n_kv) * (o->head_dim / 2);
    struct gpu_launch l = {
        .kernel = GPU_ROPE, .grid = { pieces(pairs, 64), (uint32_t)w->a->rows },
        .n_bind = 7, .writes = 1 | 2 | 16 | 32,
        .bind = { q.span, k.span, v.span, { NULL, 0, 0 }, kv->k[o->slot], kv->v[o->slot],
                  w->s->args },
        .word = { q.half | k.half << 1 | v.half << 2 | half << 4 | half << 5, q.stride,
                  k.stride, v.stride, (uint32_t)o->n_head, (uint32_t)o->n_kv,
                  (uint32_t)o->head_dim, (uint32_t)kv->width[o->slot] }
    };
    enum lm_status st = gpu_find_turns(w->g, o->w, o->f, kv->capacity, &l.bind[3], e);

    return st ? st : push(w, &l, e);
}

static enum lm_status lower_attention(struct lowering *w, struct lm_err *e)
{
    const struct lm_op *o = w->o;
    const struct lm_kv *kv = w->a->kv;
    struct rows y = rows_of(w, o->y), q = rows_of(w, o->a);
    uint32_t half = w->g->half;
    struct gpu_launch l = {
        .kernel = GPU_ATTENTION, .grid = { (uint32_t)o->n_head, (uint32_t)w->a->rows },
        .n_bind = 5, .writes = 1,
        .bind = { y.span, q.span, kv->k[o->slot], kv->v[o->slot], w->s->args },
        .word = { y.half | q.half << 1 | half << 2 | half << 3, y.stride, q.stride,
                  (uint32_t)o->n_head, (uint32_t)o->n_kv, (uint32_t)o->head_dim,
                  (uint32_t)kv->width[o->slot] }
    };

    return push(w, &l, e);
}

static enum lm_status lower_pair(struct lowering *w, struct lm_err *e)
{
    const struct lm_op *o = w->o;
    bool copies = o->code == LM_OP_COPY;
    struct rows a = rows_of(w, o->a), b = copies ? a : rows_of(w, o->b);
    struct rows y = copies ? (struct rows){ .span = w->a->tap[o->slot]->span,
                                            .stride = (uint32_t)o->n }
                           : rows_of(w, o->y);
    struct gpu_launch l = {
        .kernel = GPU_PAIR, .grid = { pieces(o->n, 128), (uint32_t)w->a->rows },
        .n_bind = 3, .writes = 1, .bind = { y.span, a.span, b.span },
        .word = { y.half | a.half << 1 | b.half << 2, y.stride, a.stride, b.stride,
                  (uint32_t)o->n, copies ? GPU_PAIR_COPY
                                : o->code == LM_OP_ADD ? GPU_PAIR_ADD : GPU_PAIR_SILU }
    };

    return push(w, &l, e);
}

static enum lm_status lower(struct lowering *w, struct lm_err *e)
{
    switch (w->o->code) {
    case LM_OP_EMBED:     return lower_embed(w, e);
    case LM_OP_RMSNORM:   return lower_norm(w, e);
    case LM_OP_LINEAR:    return lower_linear(w, e);
    case LM_OP_ROPE_KV:   return lower_rope(w, e);
    case LM_OP_ATTENTION: return lower_attention(w, e);
    case LM_OP_LOGITS:    return lower_logits(w, e);
    case LM_OP_CE:
    case LM_OP_KL:
    case LM_OP_EXPECT:    return lower_head(w, e);
    default:              return lower_pair(w, e);
    }
}

enum lm_status gpu_lower(struct gpu *g, struct lm_stream *s, const struct lm_exe *x,
                         const struct lm_exec *a, struct lm_err *e)
{
    enum lm_status st = LM_OK;

    for (size_t i = 0; i < x->n_op && !st; i++) {
        struct lowering w = { g, s, x, a, &x->op[i] };

        st = lower(&w, e);
    }
    return st;
}
