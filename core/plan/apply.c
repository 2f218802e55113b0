/* SPDX-License-Identifier: Apache-2.0 */
/* apply.c -- a candidate as a model of its own: the only place where weights
 * of a cut model are written down, for export and for tests.
 *
 * A layer of which no block is left vanishes and the later ones move up; one
 * with a single block stays, with 0 heads or an MLP of width 0.  What the plan
 * did not touch is lent in its own format, from where it is mapped; cut matrices are
 * the candidate's; encoded ones are made here, and embedding and head of a narrower
 * residual stream.  A tied model of directions (narrow.c) gets a head of its own, into
 * which the final norm's weight goes.                                       */
#include "base/file.h"
#include "base/mem.h"
#include "model/codec.h"
#include "plan/part.h"

struct copier {
    const struct lm_workshop_args *args;
    const struct lm_model *from;
    struct lm_builder *to;
    struct lm_err *e;
};

/* A tensor as it is, where it is; absent ones stay absent. */
static enum lm_status lend_own(struct copier *c, uint32_t role, int32_t from, int32_t to)
{
    const struct lm_tensor *t = lm_model_tensor(c->from, role, from);

    return t ? lm_builder_tensor(c->to, role, to, t, lm_role_name(role), c->e) : LM_OK;
}

/* Derived matrices have no gaps between rows. */
static enum lm_status lend_floats(struct copier *c, uint32_t role, int32_t to,
                                  const float *w, int64_t rows, int64_t cols)
{
    struct lm_tensor t = { .data = w, .rows = rows, .cols = cols, .dtype = LM_F32 };

    return w ? lm_builder_tensor(c->to, role, to, &t, lm_role_name(role), c->e) : LM_OK;
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

/* Memory of the new model, for n bytes: it as a whole may be larger than memory, too. */
static enum lm_status take_room(const struct copier *c, size_t n, void **out)
{
    if (lm_engine_streams(c->args->engine))
        return lm_scratch_open(c->args->stock->folder, n, out, c->e);
    *out = lm_alloc(n, "applied model");
    return *out ? LM_OK : lm_fail_memory(c->e, n, "a matrix of the cut model");
}

/* The builder takes it over, or (st: what was to be in it could not be made) it goes. */
static enum lm_status give_room(struct copier *c, enum lm_status st, void *data, size_t n)
{
    bool mapped = lm_engine_streams(c->args->engine);

    if (!st && mapped)
        return lm_builder_take_map(c->to, (struct lm_map){ data, n }, c->e);
    if (!st)
        lm_builder_keep(c->to, data);
    else if (mapped)
        lm_scratch_close(data, n);
    else
        lm_release(data);
    return st;
}

/* Bytes of matrix i, given to the builder. */
static enum lm_status encode(struct copier *c, const struct lm_part *p, int i, void **out)
{
    size_t n;
    enum lm_status st = lm_part_coded(p, i, &n, c->e);

    if (st || (st = take_room(c, n, out)))
        return st;
    return give_room(c, lm_part_encode(c->args, p, i, *out, c->e), *out, n);
}

/* Matrix i of a quantized part: the bytes that it was decoded from. */
static enum lm_status copy_encoded(struct copier *c, const struct lm_part *p, int i,
                                   uint32_t role, int32_t to)
{
    struct lm_segment_spec s = *lm_segment_spec(p->seg);
    const struct lm_mat *m = lm_segment_mat(&s, i);
    struct lm_tensor t = { .rows = m->rows, .cols = m->cols,
                           .dtype = p->quant[i].dtype };
    void *data;
    enum lm_status st = encode(c, p, i, &data);

    t.data = data;
    return st ? st : lm_builder_tensor(c->to, role, to, &t, lm_role_name(role), c->e);
}

/* A quantized part has all but its own matrices from its base. */
static enum lm_status copy_block(struct copier *c, struct lm_part *p, int32_t to)
{
    const struct lm_part *from = lm_part_floats(p);
    bool narrow = from->narrow.basis, derived = narrow || from->rack;
    struct lm_segment_spec s = *lm_segment_spec(from->seg);
    bool mlp = s.kind == LM_SEG_MLP;
    const uint32_t *whole = mlp ? mlp_whole : attn_whole;
    const struct piece *piece = mlp ? mlp_piece : attn_piece;
    int n = mlp ? COUNT(mlp_piece) : COUNT(attn_piece);
    enum lm_status st = LM_OK;

    for (size_t i = 0; !st && i < (mlp ? COUNT(mlp_whole) : COUNT(attn_whole)); i++)
        st = narrow && i == 0 ? lend_floats(c, whole[i], to, s.norm, 1, s.hidden)
                              : lend_own(c, whole[i], s.layer, to);
    for (int i = 0; !st && i < n; i++) {
        const struct lm_mat *m = lm_segment_mat(&s, i);

        if (from != p && p->quant[i].ops)
            st = copy_encoded(c, p, i, piece[i].weight, to);
        else if (derived)
            st = lend_floats(c, piece[i].weight, to, m->w, m->rows, m->cols);
        else
            st = lend_own(c, piece[i].weight, s.layer, to);
        if (!st && derived)
            st = lend_floats(c, piece[i].bias, to, m->bias, 1, m->rows);
        else if (!st)
            st = lend_own(c, piece[i].bias, s.layer, to);
    }
    return st;
}

/* Embedding or head of a narrower stream.  The norm of directions is in the head. */
static enum lm_status copy_table(struct copier *c, const struct lm_narrow *n,
                                 uint32_t role, uint32_t from, const float *norm)
{
    const struct lm_arch *a = lm_model_arch(c->from);
    size_t size = (size_t)a->vocab * (size_t)n->width * sizeof(float);
    void *data;
    enum lm_status st = take_room(c, size, &data);

    if (!st)
        st = give_room(c, lm_narrow_table(n, c->from, from, norm, data, c->e), data,
                       size);
    return st ? st : lend_floats(c, role, -1, data, a->vocab, n->width);
}

/* What belongs to no layer. */
static enum lm_status copy_ends(struct copier *c, const struct lm_candidate *cand)
{
    static const uint32_t rest[] = { LM_W_EMBED, LM_W_HEAD, LM_W_FINAL_NORM };
    const struct lm_part *head = cand->part[cand->net.n - 1];
    const struct lm_narrow *n = &head->narrow;
    bool tied = lm_model_arch(c->from)->tied;
    const float *norm;
    enum lm_status st = LM_OK;

    for (size_t i = 0; !n->basis && !st && i < COUNT(rest); i++)
        st = lend_own(c, rest[i], -1, -1);
    if (st || !n->basis)
        return st;
    st = copy_table(c, n, LM_W_EMBED, LM_W_EMBED, NULL);
    if (!st && (!tied || !n->basis->kept)) {
        st = lm_model_floats(c->from, LM_W_FINAL_NORM, -1, &norm, c->e);
        if (!st)
            st = copy_table(c, n, LM_W_HEAD, tied ? LM_W_EMBED : LM_W_HEAD, norm);
    }
    return st ? st : lend_floats(c, LM_W_FINAL_NORM, -1, lm_segment_spec(head->seg)->norm,
                                 1, n->width);
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
    const struct lm_vocabulary *v = lm_model_vocabulary(c->from);
    const struct lm_basis *basis = cand->part[cand->net.n - 1]->narrow.basis;
    struct lm_arch a = *lm_model_arch(c->from);
    enum lm_status st;

    if (lm_candidate_features(cand) & LM_SHAPE_TURNED)
        return lm_fail(c->e, LM_EUNSUPPORTED, "blocks of this model turn the residual "
                       "stream, so no format can hold it; use one basis for the whole "
                       "model");
    a.n_layer = renumber(cand, to, shape);
    a.layer = shape;
    a.hidden = cand->plan->hidden.kept;
    a.tied = a.tied && (!basis || basis->kept);
    st = lm_builder_arch(c->to, &a, c->e);
    if (!st && v)
        st = lm_builder_vocabulary(c->to, v, c->e);
    if (!st)
        st = copy_ends(c, cand);
    for (size_t i = 0; !st && i < cand->net.n; i++)
        if (to[i] >= 0)
            st = copy_block(c, cand->part[i], to[i]);
    return st;
}

static enum lm_status apply(struct lm_workshop *w, const struct lm_candidate *cand,
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

enum lm_status lm_apply(struct lm_workshop *w, const struct lm_candidate *cand,
                        struct lm_model **out, struct lm_err *e)
{
    enum lm_status st = apply(w, cand, out, e);

    if (st == LM_EIO && lm_workshop_spare(w, w->clock)) {
        *e = (struct lm_err){ .code = LM_OK };
        st = apply(w, cand, out, e);
    }
    return st;
}
