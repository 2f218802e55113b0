/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_write.c -- a model as a GGUF file: which layers and tensors it gets, and
 * their data.  Offsets are known before the first byte of data, so the file is
 * written in one pass, a few rows at a time.
 *
 * Architecture.  With norms of q and k it is qwen3; qwen2 if that is what the
 * model was, it has the biases of q, k, v and no others, and its heads together
 * are as wide as the model; else llama, which may have any bias.  Of these only
 * llama turns neighbours in RoPE, so that the rows of q and k are reordered, and
 * has divisors of RoPE frequencies (gguf_rope.c).
 *
 * Layers.  Unequal ones make a llama (or qwen2) architecture deci, with the
 * numbers of heads and the FFN width of each layer.  What llama.cpp's graph of
 * deci does decides the rest:
 *  - a layer with neither block is left out and the others are renumbered;
 *  - with an FFN of width 0 it skips the addition of the residual, so that the
 *    attention of such a layer is lost: it gets an FFN of zeros, 32 wide;
 *  - a layer without attention has 0 heads and no attention tensors, its norm
 *    included; but the size of heads is taken from layer 0 alone, and is 0 if
 *    that has none: a first layer without attention gets one head of zeros.
 *
 * Number formats.  Matrices take the one asked for, or f16 where their rows are
 * no multiple of its block, or keep their own, all of them or those that the
 * export names; vectors are f32.                                               */
#include "gguf.h"

enum source { FROM_MODEL, ZEROS, ONES, ROPE };

struct item {
    char name[GGUF_NAME];
    uint32_t role, dtype;
    int32_t  layer;                     /* of the model                       */
    int64_t  rows, cols;
    enum source source;
    bool     vector;
    uint64_t offset, bytes;
};

struct writing {
    const struct fmt *f;
    const struct lm_model *m;
    const struct lm_arch *a;
    const struct lm_export *x;
    struct gguf_shape shape;
    struct item *item;
    size_t n;
    struct lm_err *e;
};

static enum lm_status no_memory(const struct writing *w)
{
    return w->f->h->fail(w->e, LM_ENOMEM, "out of memory for writing %s", w->x->path);
}

/* how many layers have a tensor of a role from first to last, all added up */
static int32_t count(const struct fmt *f, const struct lm_model *m, uint32_t first,
                     uint32_t last)
{
    int32_t n = 0;
    for (int32_t l = 0; l < f->h->arch(m)->n_layer; l++)
        for (uint32_t r = first; r <= last; r++)
            n += f->h->tensor(m, r, l) != NULL;
    return n;
}

bool gguf_needs_qwen3(const struct fmt *f, const struct lm_model *m)
{
    return count(f, m, LM_W_Q_NORM, LM_W_K_NORM) > 0;
}

enum lm_status gguf_suitable(const struct fmt *f, const struct lm_model *m,
                             struct lm_err *e)
{
    const struct lm_host *h = f->h;
    const struct lm_vocabulary *v = h->vocabulary(m);
    const struct lm_arch *a = h->arch(m);
    int32_t norms = count(f, m, LM_W_Q_NORM, LM_W_K_NORM);
    if (a->rope < LM_ROPE_PLAIN || a->rope > LM_ROPE_YARN)
        return h->fail(e, LM_EUNSUPPORTED, "format gguf cannot write this RoPE scaling");
    if (v && v->ignore_merges
        && (v->model != LM_TOKENIZER_BYTES || v->pre != LM_PRE_LLAMA3))
        return h->fail(e, LM_EUNSUPPORTED, "format gguf can write a tokenizer with "
                       "ignore_merges only together with the pattern of Llama 3");
    if (norms && (norms < 2 * a->n_layer || gguf_divided(a)
                  || count(f, m, LM_B_Q, LM_B_DOWN)))
        return h->fail(e, LM_EUNSUPPORTED, "format gguf writes norms of q and k in all "
                       "of a model's layers, without biases and with no RoPE scaling but "
                       "linear and usual yarn (as qwen3); take hf");
    return LM_OK;
}

/* number format of its own that the export gives a matrix of the model; 0: none */
static uint32_t own_dtype(const struct lm_export *x, uint32_t role, int32_t layer)
{
    return LM_HAS(x, own) && x->own && layer >= 0
        ? x->own[(size_t)layer * LM_N_ROLES + role] : 0;
}

static enum lm_status suitable(const struct writing *w)
{
    const struct lm_host *h = w->f->h;
    const char *source = h->source(w->m);
    enum lm_status s = gguf_dtype_check(w->f, w->x->dtype, w->e);
    if (s)
        return s;
    for (int32_t l = 0; l < w->a->n_layer; l++)
        for (uint32_t r = 1; r < LM_N_ROLES; r++) {
            const struct lm_tensor *t = h->tensor(w->m, r, l);
            uint32_t own = own_dtype(w->x, r, l);
            if (own && (!t || t->dtype != own || gguf_type_of(own) < 0))
                return h->fail(w->e, LM_EBUG, "tensor %u of layer %d is not in the "
                               "number format that the export gives it", r, l);
        }
    if (source && !strcmp(source, w->x->path))
        return h->fail(w->e, LM_ECONFIG, "%s: the model would overwrite itself; choose "
                       "another file", w->x->path);
    return gguf_suitable(w->f, w->m, w->e);
}

static enum lm_status choose_layers(struct writing *w)
{
    struct gguf_shape *g = &w->shape;
    g->layer = w->f->h->alloc((size_t)w->a->n_layer * sizeof *g->layer, "gguf");
    if (!g->layer)
        return no_memory(w);
    for (int32_t l = 0; l < w->a->n_layer; l++) {
        struct lm_layer_shape s = w->a->layer[l];
        if (!s.n_head && !s.n_ff)
            continue;
        struct gguf_layer *o = &g->layer[g->n++];
        *o = (struct gguf_layer){ l, s, !s.n_head && g->n == 1, !s.n_ff };
        if (o->zero_attn)
            o->shape.n_head = o->shape.n_kv = 1;
        if (o->zero_mlp)
            o->shape.n_ff = GGUF_ZERO_FFN;
        const struct lm_layer_shape *first = &g->layer->shape;
        if (!o->shape.n_head || o->shape.n_head != first->n_head
            || o->shape.n_kv != first->n_kv || o->shape.n_ff != first->n_ff)
            g->uneven = true;
    }
    if (!g->n)
        return w->f->h->fail(w->e, LM_EUNSUPPORTED, "format gguf cannot write a model "
                             "without layers");
    return LM_OK;
}

/* number format that most weights of the layers have */
static uint32_t most_common(const struct writing *w)
{
    int64_t n[LM_N_DTYPES] = { 0 };
    uint32_t best = w->x->dtype;
    for (int32_t l = 0; l < w->a->n_layer; l++)
        for (uint32_t r = LM_W_Q; r <= LM_W_DOWN; r++) {
            const struct lm_tensor *t = w->f->h->tensor(w->m, r, l);
            if (!t || !gguf_is_matrix(r))
                continue;
            uint32_t own = own_dtype(w->x, r, l);
            uint32_t dtype = own ? own : w->x->dtype ? w->x->dtype : t->dtype;
            if (dtype >= LM_N_DTYPES)
                continue;
            n[dtype] += t->rows * t->cols;
            if (n[dtype] > n[best])
                best = dtype;
        }
    return best;
}

static enum lm_status choose_family(struct writing *w)
{
    const struct lm_host *h = w->f->h;
    struct gguf_shape *g = &w->shape;
    int32_t layers = w->a->n_layer;
    bool square = (int64_t)g->layer->shape.n_head * w->a->head_dim == w->a->hidden;
    g->family = g->uneven ? "deci" : "llama";
    if (gguf_needs_qwen3(w->f, w->m)) {
        g->family = "qwen3";
        if (g->uneven)
            return h->fail(w->e, LM_EUNSUPPORTED, "format gguf writes norms of q and k "
                           "where all layers are equal (as qwen3) only; take hf");
    } else if (!strcmp(w->a->family, "qwen2") && !g->uneven && !gguf_divided(w->a)
               && square && count(w->f, w->m, LM_B_Q, LM_B_V) == 3 * layers
               && !count(w->f, w->m, LM_B_O, LM_B_DOWN)) {
        g->family = "qwen2";
    }
    g->neighbours = *g->family != 'q';
    g->dtype = most_common(w);
    return LM_OK;
}

bool gguf_is_matrix(uint32_t role)
{
    return role == LM_W_EMBED || role == LM_W_HEAD || (role >= LM_W_Q && role <= LM_W_O)
        || (role >= LM_W_GATE && role <= LM_W_DOWN);
}

/* out: number of the layer in the file */
static void add_item(struct writing *w, uint32_t role, int32_t layer, int32_t out,
                     enum source source, int64_t rows, int64_t cols)
{
    const struct lm_tensor *t = w->f->h->tensor(w->m, role, layer);
    if (source == FROM_MODEL && !t)
        return;
    struct item *i = &w->item[w->n++];
    *i = (struct item){ .role = role, .layer = layer, .source = source, .rows = rows,
                        .cols = cols, .vector = !gguf_is_matrix(role) };
    if (source == FROM_MODEL) {
        i->rows = t->rows;
        i->cols = t->cols;
    }
    gguf_role_name(role, out, i->name, sizeof i->name);
    bool own = source == FROM_MODEL && own_dtype(w->x, role, layer);
    if ((own || !w->x->dtype) && !i->vector) {
        i->dtype = source == FROM_MODEL ? t->dtype : LM_F16;
        return;
    }
    i->dtype = i->vector ? LM_F32 : w->x->dtype;
    if ((role == LM_W_EMBED || role == LM_W_HEAD)       /* they suffer most from 4 bits */
        && (i->dtype == LM_Q4_0 || i->dtype == LM_Q4_1))
        i->dtype = LM_Q8_0;
    if (!fmt_row_bytes(w->f->h->codec(i->dtype), i->cols))
        i->dtype = LM_F16;
}

static void add_layer(struct writing *w, int32_t out)
{
    const struct gguf_layer *l = &w->shape.layer[out];
    int64_t d = w->a->hidden, q = (int64_t)l->shape.n_head * w->a->head_dim;
    int64_t kv = (int64_t)l->shape.n_kv * w->a->head_dim, ff = l->shape.n_ff;
    const struct { uint32_t role; int64_t rows, cols; } part[] = {
        { LM_W_ATTN_NORM, 1, d }, { LM_W_Q, q, d }, { LM_W_K, kv, d }, { LM_W_V, kv, d },
        { LM_W_O, d, q }, { LM_W_MLP_NORM, 1, d }, { LM_W_GATE, ff, d },
        { LM_W_UP, ff, d }, { LM_W_DOWN, d, ff },
    };
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
        bool attn = part[i].role <= LM_W_O;
        bool norm = part[i].role == LM_W_ATTN_NORM || part[i].role == LM_W_MLP_NORM;
        enum source s = !(attn ? l->zero_attn : l->zero_mlp) ? FROM_MODEL
                      : norm ? ONES : ZEROS;
        add_item(w, part[i].role, l->from, out, s, part[i].rows, part[i].cols);
    }
    for (uint32_t r = LM_B_Q; r <= LM_W_K_NORM; r++)
        add_item(w, r, l->from, out, FROM_MODEL, 0, 0);
}

static enum lm_status list_items(struct writing *w)
{
    uint64_t at = 0;
    w->item = w->f->h->alloc((4 + (size_t)w->shape.n * LM_N_ROLES) * sizeof *w->item,
                             "gguf");
    if (!w->item)
        return no_memory(w);
    add_item(w, LM_W_EMBED, -1, -1, FROM_MODEL, 0, 0);
    if (gguf_divided(w->a)) {
        struct item *i = &w->item[w->n++];
        *i = (struct item){ .name = "rope_freqs.weight", .dtype = LM_F32, .layer = -1,
                            .rows = 1, .cols = w->a->head_dim / 2, .source = ROPE,
                            .vector = true };
    }
    for (int32_t l = 0; l < w->shape.n; l++)
        add_layer(w, l);
    add_item(w, LM_W_FINAL_NORM, -1, -1, FROM_MODEL, 0, 0);
    if (!w->a->tied)
        add_item(w, LM_W_HEAD, -1, -1, FROM_MODEL, 0, 0);
    for (size_t i = 0; i < w->n; i++) {
        struct item *t = &w->item[i];
        int64_t row = fmt_row_bytes(w->f->h->codec(t->dtype), t->cols), bytes;
        if (!row || __builtin_mul_overflow(row, t->rows, &bytes))
            return w->f->h->fail(w->e, LM_EUNSUPPORTED, "%s: tensor %s is too large",
                                 w->x->path, t->name);
        t->offset = at;
        t->bytes = (uint64_t)bytes;
        at = (at + t->bytes + GGUF_ALIGNMENT - 1) & ~(uint64_t)(GGUF_ALIGNMENT - 1);
    }
    return LM_OK;
}

static void infos(const struct writing *w, struct fmt_buf *b)
{
    for (size_t i = 0; i < w->n; i++) {
        const struct item *t = &w->item[i];
        gguf_put_string(b, t->name, strlen(t->name));
        gguf_put_u32(b, t->vector ? 1 : 2);
        gguf_put_u64(b, (uint64_t)t->cols);
        if (!t->vector)
            gguf_put_u64(b, (uint64_t)t->rows);
        gguf_put_u32(b, (uint32_t)gguf_type_of(t->dtype));
        gguf_put_u64(b, t->offset);
    }
}

static enum lm_status write_header(const struct writing *w, struct lm_out *o)
{
    static const char zero[GGUF_ALIGNMENT];
    const struct lm_host *h = w->f->h;
    struct fmt_buf pairs = { .h = h }, b = { .h = h };
    uint64_t n = gguf_meta(w->f, w->m, w->x, &w->shape, &pairs);
    fmt_text(&b, "GGUF");
    gguf_put_u32(&b, 3);
    gguf_put_u64(&b, w->n);
    gguf_put_u64(&b, n);
    fmt_put(&b, pairs.p, pairs.n);
    infos(w, &b);
    fmt_put(&b, zero, (0 - b.n) % GGUF_ALIGNMENT);
    enum lm_status s = b.failed || pairs.failed ? no_memory(w)
                                                : h->out_write(o, b.p, b.n, w->e);
    fmt_buf_free(&pairs);
    fmt_buf_free(&b);
    return s;
}

/* a tensor that the model lacks: all rows alike, or the divisors of RoPE */
static enum lm_status write_made(const struct writing *w, const struct item *t,
                                 struct lm_out *o)
{
    const struct lm_host *h = w->f->h;
    const struct lm_codec *c = h->codec(t->dtype);
    size_t bytes = (size_t)fmt_row_bytes(c, t->cols);
    float *row = h->alloc((size_t)t->cols * sizeof *row, "gguf");
    double *wide = h->alloc((size_t)t->cols * sizeof *wide, "gguf");
    char *out = h->alloc(bytes, "gguf");
    enum lm_status s = row && wide && out ? LM_OK : no_memory(w);
    if (!s && t->source == ROPE)
        gguf_divisors(w->a, wide);
    for (int64_t i = 0; i < t->cols && !s; i++)
        row[i] = t->source == ROPE ? (float)wide[i] : t->source == ONES;
    if (!s)
        c->encode(row, out, t->cols);
    for (int64_t r = 0; r < t->rows && !s; r++)
        s = h->out_write(o, out, bytes, w->e);
    h->release(out);
    h->release(wide);
    h->release(row);
    return s;
}

/* Elements of a bias of q or k are rows of one element. */
static enum lm_status write_item(const struct writing *w, const struct item *t,
                                 struct lm_out *o)
{
    if (t->source != FROM_MODEL)
        return write_made(w, t, o);
    struct lm_tensor v = *w->f->h->tensor(w->m, t->role, t->layer);
    struct fmt_job j = { &v, t->name, t->dtype, 0 };
    if (w->shape.neighbours && (t->role == LM_W_Q || t->role == LM_W_K))
        j.head_dim = w->a->head_dim;
    if (w->shape.neighbours && (t->role == LM_B_Q || t->role == LM_B_K)) {
        j.head_dim = w->a->head_dim;
        v.rows = v.cols;
        v.cols = 1;
    }
    return fmt_tensor(w->f, &j, o, w->e);
}

static enum lm_status write_data(const struct writing *w, struct lm_out *o)
{
    static const char zero[GGUF_ALIGNMENT];
    enum lm_status s = LM_OK;
    for (size_t i = 0; i < w->n && !s; i++) {
        const struct item *t = &w->item[i];
        size_t pad = (size_t)(0 - t->bytes) % GGUF_ALIGNMENT;
        w->f->h->progress(w->f->run, (double)i / (double)w->n, "writing weights");
        s = write_item(w, t, o);
        if (!s && pad)
            s = w->f->h->out_write(o, zero, pad, w->e);
    }
    return s;
}

enum lm_status gguf_write(void *self, const struct lm_model *m,
                          const struct lm_export *x, struct lm_err *e)
{
    const struct fmt *f = self;
    struct writing w = { .f = f, .m = m, .a = f->h->arch(m), .x = x, .e = e };
    struct lm_out *o = NULL;
    enum lm_status s = suitable(&w);
    if (!s)
        s = choose_layers(&w);
    if (!s)
        s = choose_family(&w);
    if (!s)
        s = list_items(&w);
    if (!s)
        s = f->h->out_open(x->path, &o, e);
    if (!s)
        s = write_header(&w, o);
    if (!s)
        s = write_data(&w, o);
    f->h->release(w.item);
    f->h->release(w.shape.layer);
    if (!s)
        return f->h->out_commit(o, e);
    if (o)
        f->h->out_abandon(o);
    return s;
}
