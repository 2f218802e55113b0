/* SPDX-License-Identifier: Apache-2.0 */
/* apply.c -- a candidate as a model of its own: the only place where weights
 * of a cut model are written down, for export and for tests.
 *
 * A layer of which no block is left vanishes and the later ones move up; one
 * with a single block stays, with 0 heads or an MLP of width 0.  What the plan
 * did not touch is copied in its own format, byte by byte.                  */
#include <string.h>

#include "base/mem.h"
#include "model/codec.h"
#include "plan/part.h"

struct copier {
    const struct lm_workshop_args *args;
    const struct lm_model *from;
    struct lm_builder *to;
    struct lm_err *e;
};

/* The builder owns data from here on, whatever comes of it. */
static enum lm_status hand_over(struct copier *c, uint32_t role, int32_t layer,
                                const struct lm_tensor *t, void *data)
{
    enum lm_status st = lm_builder_tensor(c->to, role, layer, t, lm_role_name(role),
                                          c->e);

    lm_builder_keep(c->to, data);
    return st;
}

/* A tensor as it is; absent ones stay absent. */
static enum lm_status copy_own(struct copier *c, uint32_t role, int32_t from, int32_t to)
{
    const struct lm_tensor *t = lm_model_tensor(c->from, role, from);
    struct lm_tensor copy;
    int64_t row;
    size_t n;
    void *data;

    if (!t)
        return LM_OK;
    row = lm_row_bytes(t->dtype, t->cols);
    if (row < 0 || !lm_mul_size((size_t)row, (size_t)t->rows, &n))
        return lm_fail(c->e, LM_EBUG, "layer %d: %s has an impossible shape", from,
                       lm_role_name(role));
    if (!(data = lm_alloc(n, "applied model")))
        return lm_fail_memory(c->e, n, "the cut model");
    memcpy(data, t->data, n);
    copy = *t;
    copy.data = data;
    return hand_over(c, role, to, &copy, data);
}

static enum lm_status copy_floats(struct copier *c, uint32_t role, int32_t to,
                                  const float *w, int64_t rows, int64_t cols,
                                  int64_t stride)
{
    struct lm_tensor t = { .rows = rows, .cols = cols, .dtype = LM_F32 };
    size_t n = (size_t)rows * (size_t)cols;
    float *data;

    if (!w)
        return LM_OK;
    if (!(data = lm_alloc_array(n, sizeof *data, "applied model")))
        return lm_fail_memory(c->e, n * sizeof *data, "the cut model");
    for (int64_t i = 0; i < rows; i++)
        memcpy(data + i * cols, w + i * stride, (size_t)cols * sizeof *data);
    t.data = data;
    return hand_over(c, role, to, &t, data);
}

/* ---- blocks -------------------------------------------------------------------- */

static const uint32_t attn_whole[] = { LM_W_ATTN_NORM, LM_W_Q_NORM, LM_W_K_NORM };
static const uint32_t mlp_whole[] = { LM_W_MLP_NORM };          /* never cut */
struct piece { uint32_t weight, bias; };
static const struct piece attn_piece[] = {
    { LM_W_Q, LM_B_Q }, { LM_W_K, LM_B_K }, { LM_W_V, LM_B_V }, { LM_W_O, LM_B_O }
};
static const struct piece mlp_piece[] = {
    { LM_W_GATE, LM_B_GATE }, { LM_W_UP, LM_B_UP }, { LM_W_DOWN, LM_B_DOWN }
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Matrix i of a quantized part: the bytes that it was decoded from. */
static enum lm_status copy_encoded(struct copier *c, const struct lm_part *p, int i,
                                   uint32_t role, int32_t to)
{
    struct lm_segment_spec s = *lm_segment_spec(p->seg);
    const struct lm_mat *m = lm_block_mat(&s, i);
    struct lm_tensor t = { .rows = m->rows, .cols = m->cols,
                           .dtype = p->quant[i].dtype };
    size_t n;
    void *data;
    enum lm_status st = lm_part_encode(c->args, p, i, &data, &n, c->e);

    t.data = data;
    return st ? st : hand_over(c, role, to, &t, data);
}

/* A quantized part has all but its own matrices from its base. */
static enum lm_status copy_block(struct copier *c, const struct lm_part *p, int32_t to)
{
    const struct lm_part *from = p->base ? p->base : p;
    struct lm_segment_spec s = *lm_segment_spec(from->seg);
    bool mlp = s.kind == LM_SEG_MLP;
    const uint32_t *whole = mlp ? mlp_whole : attn_whole;
    const struct piece *piece = mlp ? mlp_piece : attn_piece;
    int n = mlp ? COUNT(mlp_piece) : COUNT(attn_piece);
    enum lm_status st = LM_OK;

    for (size_t i = 0; !st && i < (mlp ? COUNT(mlp_whole) : COUNT(attn_whole)); i++)
        st = copy_own(c, whole[i], s.layer, to);
    for (int i = 0; !st && i < n; i++) {
        const struct lm_mat *m = lm_block_mat(&s, i);

        if (p->base && p->quant[i].ops)
            st = copy_encoded(c, p, i, piece[i].weight, to);
        else if (from->rack)
            st = copy_floats(c, piece[i].weight, to, m->w, m->rows, m->cols, m->stride);
        else
            st = copy_own(c, piece[i].weight, s.layer, to);
        if (!st && from->rack)
            st = copy_floats(c, piece[i].bias, to, m->bias, 1, m->rows, m->rows);
        else if (!st)
            st = copy_own(c, piece[i].bias, s.layer, to);
    }
    return st;
}

/* ---- the model ----------------------------------------------------------------- */

/* Number of the layer in the cut model for each part, and the shapes. */
static int32_t renumber(const struct lm_candidate *c, int32_t *to,
                        struct lm_layer_shape *shape)
{
    int32_t n = 0, last = -1;

    for (size_t i = 0; i < c->net.n; i++) {
        const struct lm_segment_spec *s = lm_segment_spec(c->net.seg[i]);

        to[i] = -1;
        if (s->kind != LM_SEG_ATTN && s->kind != LM_SEG_MLP)
            continue;
        if (s->layer != last)
            shape[n++] = (struct lm_layer_shape){ 0 };
        last = s->layer;
        to[i] = n - 1;
        if (s->kind == LM_SEG_MLP) {
            shape[n - 1].n_ff = s->n_ff;
        } else {
            shape[n - 1].n_head = s->n_head;
            shape[n - 1].n_kv = s->n_kv;
        }
    }
    return n;
}

static enum lm_status copy_all(struct copier *c, const struct lm_candidate *cand,
                               int32_t *to, struct lm_layer_shape *shape)
{
    static const uint32_t rest[] = { LM_W_EMBED, LM_W_HEAD, LM_W_FINAL_NORM };
    const struct lm_vocabulary *v = lm_model_vocabulary(c->from);
    struct lm_arch a = *lm_model_arch(c->from);
    enum lm_status st;

    a.n_layer = renumber(cand, to, shape);
    a.layer = shape;
    st = lm_builder_arch(c->to, &a, c->e);
    if (!st && v)
        st = lm_builder_vocabulary(c->to, v, c->e);
    for (size_t i = 0; !st && i < COUNT(rest); i++)
        st = copy_own(c, rest[i], -1, -1);
    for (size_t i = 0; !st && i < cand->net.n; i++)
        if (to[i] >= 0)
            st = copy_block(c, cand->part[i], to[i]);
    return st;
}

enum lm_status lm_apply(struct lm_workshop *w, const struct lm_candidate *cand,
                        struct lm_model **out, struct lm_err *e)
{
    const struct lm_workshop_args *args = lm_workshop_args_of(w);
    struct copier c = { .args = args, .from = args->model, .e = e };
    size_t n = cand->net.n, layers = (size_t)lm_model_arch(c.from)->n_layer;
    int32_t *to = lm_alloc_array(n + 1, sizeof *to, "applied model");
    struct lm_layer_shape *shape = lm_alloc_array(layers + 1, sizeof *shape,
                                                  "applied model");
    enum lm_status st;

    *out = NULL;
    if (!to || !shape) {
        st = lm_fail_memory(e, n * sizeof *to, "the cut model");
    } else if (!(st = lm_builder_open(lm_model_source(c.from), &c.to, e))) {
        if ((st = copy_all(&c, cand, to, shape)))
            lm_builder_abandon(c.to);
        else
            st = lm_builder_finish(c.to, out, e);
    }
    lm_release(to);
    lm_release(shape);
    return st;
}
