/* SPDX-License-Identifier: Apache-2.0 */
/* count.c -- shapes of a plan, and what they cost: parameters, bytes,
 * multiply-adds.  Counted from the architecture alone, so that a plan is
 * judged on size before anything is built.                                  */
#include "model/codec.h"
#include "plan/part.h"

int32_t lm_plan_heads_each(const struct lm_plan *p, int32_t layer)
{
    const struct lm_layer_plan *l = &p->layer[layer];

    if (l->drop_attn || l->kv.n == 0 || l->kv.kept == 0)
        return 0;
    return l->head.bits ? l->head.kept / l->kv.kept : l->head.n / l->kv.n;
}

struct lm_layer_shape lm_plan_shape(const struct lm_plan *p, int32_t layer)
{
    const struct lm_layer_shape *s = &p->arch->layer[layer];
    const struct lm_layer_plan *l = &p->layer[layer];
    struct lm_layer_shape out = { 0 };

    if (!l->drop_attn && s->n_kv > 0) {
        out.n_kv = l->kv.kept;
        out.n_head = l->kv.kept * lm_plan_heads_each(p, layer);
    }
    if (!l->drop_mlp)
        out.n_ff = l->ffn.kept;
    return out;
}

uint64_t lm_plan_features(const struct lm_plan *p)
{
    struct lm_layer_shape first = { 0 };
    uint64_t f = 0;

    for (int32_t i = 0; i < p->arch->n_layer; i++) {
        struct lm_layer_shape s = lm_plan_shape(p, i);

        if (!s.n_kv && !s.n_ff)
            continue;
        f |= s.n_kv ? 0 : LM_SHAPE_NO_ATTN;
        f |= s.n_ff ? 0 : LM_SHAPE_NO_MLP;
        if (s.n_kv && first.n_kv && (s.n_kv != first.n_kv || s.n_head != first.n_head))
            f |= LM_SHAPE_UNEVEN_HEADS;
        if (s.n_ff && first.n_ff && s.n_ff != first.n_ff)
            f |= LM_SHAPE_UNEVEN_FF;
        if (s.n_kv && !first.n_kv) {
            first.n_kv = s.n_kv;
            first.n_head = s.n_head;
        }
        if (s.n_ff && !first.n_ff)
            first.n_ff = s.n_ff;
    }
    return f;
}

/* Adds a matrix.  Rows that are no whole number of blocks go out as f16. */
static int64_t add_matrix(struct lm_cost *c, uint32_t dtype, int64_t rows, int64_t cols)
{
    int64_t bytes = lm_row_bytes(dtype, cols);

    if (rows == 0 || cols == 0)
        return 0;
    c->bytes += rows * (bytes > 0 ? bytes : 2 * cols);
    c->params += rows * cols;
    return rows * cols;
}

static void add_vector(struct lm_cost *c, int64_t n)
{
    c->bytes += n * (int64_t)sizeof(float);
    c->params += n;
}

/* dtype: of each matrix, in the order of a plan. */
static void add_layer(struct lm_cost *c, const struct lm_arch *a,
                      const struct lm_layer_shape *s,
                      const uint32_t dtype[LM_N_MATRICES])
{
    int64_t d = a->hidden, q = (int64_t)s->n_head * a->head_dim;
    int64_t kv = (int64_t)s->n_kv * a->head_dim, body = 0;

    if (s->n_kv) {
        add_vector(c, d);
        body += add_matrix(c, dtype[0], q, d);
        body += add_matrix(c, dtype[1], kv, d);
        body += add_matrix(c, dtype[2], kv, d);
        body += add_matrix(c, dtype[3], d, q);
        c->kv_bytes += 2 * kv * 2;
    }
    if (s->n_ff) {
        add_vector(c, d);
        body += add_matrix(c, dtype[4], s->n_ff, d);
        body += add_matrix(c, dtype[5], s->n_ff, d);
        body += add_matrix(c, dtype[6], d, s->n_ff);
    }
    c->body_params += body;
    c->macs += body;
}

static void widen(struct lm_layer_shape *most, const struct lm_layer_shape *s)
{
    most->n_head = s->n_head > most->n_head ? s->n_head : most->n_head;
    most->n_kv = s->n_kv > most->n_kv ? s->n_kv : most->n_kv;
    most->n_ff = s->n_ff > most->n_ff ? s->n_ff : most->n_ff;
}

/* Residual stream, norm, q or gate, k or up, v, mix: the registers of a program
 * (model/program.c), each as wide as its widest user.                        */
static int64_t row_bytes(const struct lm_arch *a, const struct lm_layer_shape *most)
{
    int64_t q = (int64_t)most->n_head * a->head_dim, ff = most->n_ff;
    int64_t kv = (int64_t)most->n_kv * a->head_dim;

    return (int64_t)sizeof(float)
        * (2 * (int64_t)a->hidden + (q > ff ? q : ff) + (kv > ff ? kv : ff) + kv + q);
}

/* Embedding and head suffer most from 4 bits; formats write them in 8. */
static uint32_t table_dtype(uint32_t dtype)
{
    return dtype == LM_Q4_0 || dtype == LM_Q4_1 ? LM_Q8_0 : dtype;
}

void lm_table_cost(struct lm_cost *c, uint32_t dtype, int64_t rows, int64_t cols)
{
    add_matrix(c, table_dtype(dtype), rows, cols);
}

void lm_turn_cost(struct lm_cost *c, uint32_t dtype, int64_t m)
{
    int64_t n = add_matrix(c, dtype, m, m);

    c->body_params += n;
    c->macs += n;
}

void lm_shape_cost(const struct lm_arch *a, const struct lm_layer_shape *layer,
                   uint32_t dtype, struct lm_cost *out)
{
    struct lm_cost c = { .struct_size = sizeof c };
    struct lm_layer_shape most = { 0 };
    uint32_t table = table_dtype(dtype), all[LM_N_MATRICES];

    for (int i = 0; i < LM_N_MATRICES; i++)
        all[i] = dtype;
    for (int32_t i = 0; i < a->n_layer; i++) {
        add_layer(&c, a, &layer[i], all);
        widen(&most, &layer[i]);
    }
    c.row_bytes = row_bytes(a, &most);
    add_matrix(&c, table, a->vocab, a->hidden);
    if (!a->tied)
        add_matrix(&c, table, a->vocab, a->hidden);
    add_vector(&c, a->hidden);
    c.macs += (int64_t)a->vocab * a->hidden;    /* the head; a look-up is none */
    *out = c;
}

void lm_plan_cost(const struct lm_plan *p, uint32_t dtype, struct lm_cost *out)
{
    struct lm_cost c = { .struct_size = sizeof c };
    struct lm_arch rest = *p->arch;
    struct lm_layer_shape most = { 0 };

    rest.n_layer = 0;
    rest.hidden = p->hidden.kept;
    lm_shape_cost(&rest, NULL, dtype, &c);
    for (int32_t i = 0; i < p->arch->n_layer; i++) {
        struct lm_layer_shape s = lm_plan_shape(p, i);
        uint32_t own[LM_N_MATRICES];

        for (int k = 0; k < LM_N_MATRICES; k++)
            own[k] = lm_plan_dtype_of(p, i, k, dtype);
        add_layer(&c, &rest, &s, own);
        widen(&most, &s);
    }
    c.row_bytes = row_bytes(&rest, &most);
    *out = c;
}
