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

static const uint32_t attn_role[] = {
    LM_W_ATTN_NORM, LM_W_Q_NORM, LM_W_K_NORM,               /* never cut */
    LM_W_Q, LM_W_K, LM_W_V, LM_W_O, LM_B_Q, LM_B_K, LM_B_V, LM_B_O
};
static const uint32_t mlp_role[] = {
    LM_W_MLP_NORM,                                          /* never cut */
    LM_W_GATE, LM_W_UP, LM_W_DOWN, LM_B_GATE, LM_B_UP, LM_B_DOWN
};
enum { ATTN_WHOLE = 3, MLP_WHOLE = 1 };

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

struct piece { uint32_t weight, bias; const struct lm_mat *m; };

static enum lm_status copy_cut(struct copier *c, const struct lm_segment_spec *s,
                               int32_t to)
{
    const struct piece attn[] = {
        { LM_W_Q, LM_B_Q, &s->q }, { LM_W_K, LM_B_K, &s->k },
        { LM_W_V, LM_B_V, &s->v }, { LM_W_O, LM_B_O, &s->o }
    };
    const struct piece mlp[] = {
        { LM_W_GATE, LM_B_GATE, &s->gate }, { LM_W_UP, LM_B_UP, &s->up },
        { LM_W_DOWN, LM_B_DOWN, &s->down }
    };
    const struct piece *p = s->kind == LM_SEG_MLP ? mlp : attn;
    size_t n = s->kind == LM_SEG_MLP ? COUNT(mlp) : COUNT(attn);
    enum lm_status st = LM_OK;

    for (size_t i = 0; !st && i < n; i++) {
        const struct lm_mat *m = p[i].m;

        st = copy_floats(c, p[i].weight, to, m->w, m->rows, m->cols, m->stride);
        if (!st)
            st = copy_floats(c, p[i].bias, to, m->bias, 1, m->rows, m->rows);
    }
    return st;
}

static enum lm_status copy_block(struct copier *c, const struct lm_part *p, int32_t to)
{
    const struct lm_segment_spec *s = lm_segment_spec(p->seg);
    const uint32_t *role = s->kind == LM_SEG_MLP ? mlp_role : attn_role;
    size_t all = s->kind == LM_SEG_MLP ? COUNT(mlp_role) : COUNT(attn_role);
    size_t whole = s->kind == LM_SEG_MLP ? MLP_WHOLE : ATTN_WHOLE;
    enum lm_status st = LM_OK;

    for (size_t i = 0; !st && i < (p->rack ? whole : all); i++)
        st = copy_own(c, role[i], s->layer, to);
    return st || !p->rack ? st : copy_cut(c, s, to);
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
    struct copier c = { .from = lm_workshop_model(w), .e = e };
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
