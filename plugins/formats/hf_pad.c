/* SPDX-License-Identifier: Apache-2.0 */
/* hf_pad.c -- a tensor of a cut layer, filled up to the shape of a stock layer.
 *
 * What is added changes nothing: an added KV group has k, v and all of its
 * queries 0, so that its heads yield 0 whatever they attend to, and columns of
 * o_proj that are 0; an added head of a group likewise; an added channel has
 * silu(0) * 0 and a column 0 of down_proj.  A removed block has norm 1, weights
 * 0 and biases 0, and adds nothing to the residual.
 *
 * Heads are laid out by groups, so that rows of q and columns of o_proj move:
 * head i of group g goes from g * from + i to g * to + i, where from and to are
 * the heads of a group.                                                        */
#include "hf.h"

struct spread {                         /* along rows, or along columns       */
    int64_t unit;                       /* values that move together; 0: all  */
    int64_t groups, from, to;           /* units of a group here and there    */
};

/* Where value i of the file comes from; -1: it is added. */
static int64_t source(const struct spread *s, int64_t i)
{
    if (!s->unit)
        return i;
    int64_t unit = i / s->unit, group = unit / s->to, at = unit % s->to;
    return group < s->groups && at < s->from
        ? (group * s->from + at) * s->unit + i % s->unit : -1;
}

static void spreads(const struct hf_padded *p, struct spread *row, struct spread *col)
{
    const struct lm_layer_shape *a = &p->here, *b = &p->there;
    const struct spread q = { p->head_dim, a->n_kv, a->n_kv ? a->n_head / a->n_kv : 0,
                              b->n_head / b->n_kv };
    const struct spread kv = { p->head_dim, a->n_kv, 1, 1 }, ff = { 1, a->n_ff, 1, 1 };
    const struct spread all = { 0, 0, 0, 0 };
    *row = *col = all;
    switch (p->role) {
    case LM_W_Q: *row = q; break;
    case LM_W_K: case LM_W_V: *row = kv; break;
    case LM_W_O: case LM_B_Q: *col = q; break;
    case LM_B_K: case LM_B_V: *col = kv; break;
    case LM_W_GATE: case LM_W_UP: *row = ff; break;
    case LM_W_DOWN: case LM_B_GATE: case LM_B_UP: *col = ff; break;
    default: break;
    }
}

static void fill_row(const struct lm_codec *from, const struct hf_padded *p, int64_t at,
                     const struct spread *col, float *in, float *out)
{
    const struct lm_tensor *t = p->job.t;
    bool norm = p->role == LM_W_ATTN_NORM || p->role == LM_W_MLP_NORM
        || p->role >= LM_W_Q_NORM;
    if (t && at >= 0)
        from->decode((const char *)t->data + at * fmt_row_bytes(from, t->cols), in,
                     t->cols);
    for (int64_t c = 0; c < p->cols; c++) {
        int64_t k = source(col, c);
        out[c] = !t ? (float)norm : at >= 0 && k >= 0 ? in[k] : 0;
    }
}

static enum lm_status write_rows(const struct fmt *f, const struct hf_padded *p,
                                 float *in, float *out, char *line, struct lm_out *o,
                                 struct lm_err *e)
{
    const struct lm_host *h = f->h;
    const struct lm_codec *from = p->job.t ? h->codec(p->job.t->dtype) : NULL;
    const struct lm_codec *to = h->codec(p->job.dtype);
    int64_t bytes = fmt_row_bytes(to, p->cols), lines = FMT_CHUNK / bytes + 1;
    struct spread row, col;
    enum lm_status s = LM_OK;
    spreads(p, &row, &col);
    for (int64_t r = 0, n = 0; r < p->rows && !s; r++) {
        fill_row(from, p, source(&row, r), &col, in, out);
        s = fmt_row_range(h, out, p->cols, p->job.dtype, p->job.name, e);
        to->encode(out, line + n++ * bytes, p->cols);
        if (s || (n < lines && r + 1 < p->rows))
            continue;
        if (h->canceled(f->run))
            return h->fail(e, LM_ECANCELED, "canceled while writing %s", p->job.name);
        s = h->out_write(o, line, (size_t)(n * bytes), e);
        n = 0;
    }
    return s;
}

enum lm_status hf_pad_write(const struct fmt *f, const struct hf_padded *p,
                            struct lm_out *o, struct lm_err *e)
{
    const struct lm_host *h = f->h;
    int64_t bytes = fmt_row_bytes(h->codec(p->job.dtype), p->cols);
    float *in = h->alloc((size_t)(p->job.t ? p->job.t->cols : 1) * sizeof *in, "hf");
    float *out = h->alloc((size_t)p->cols * sizeof *out, "hf");
    char *line = h->alloc((size_t)(FMT_CHUNK + bytes), "hf");
    enum lm_status s = in && out && line
        ? write_rows(f, p, in, out, line, o, e)
        : h->fail(e, LM_ENOMEM, "out of memory for writing %s", p->job.name);
    h->release(in);
    h->release(out);
    h->release(line);
    return s;
}
