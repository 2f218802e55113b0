/* SPDX-License-Identifier: Apache-2.0 */
/* engine.c -- an architecture on a backend; segments and networks of them. */
#include <limits.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "model/segment.h"

/* ---- weights ------------------------------------------------------------------ */
static enum lm_status upload(struct lm_engine *g, const float *data, int64_t rows,
                             int64_t cols, int64_t stride, struct lm_weight **w,
                             struct lm_err *e)
{
    struct lm_tensor t = { .data = data, .rows = rows, .cols = cols, .dtype = LM_F32 };
    return data ? g->ops->upload(g->backend, &t, stride, w, e) : LM_OK;
}

/* The whole matrix that m begins, uploaded once for all who have a view of it. */
static enum lm_status hold_whole(struct lm_engine *g, const struct lm_mat *m,
                                 struct lm_whole **out, struct lm_err *e)
{
    enum lm_status st = LM_OK;
    pthread_mutex_lock(&g->whole_lock);
    struct lm_whole *x = g->wholes;
    while (x && (x->w != m->w || x->rows != m->whole || x->cols != m->cols))
        x = x->next;
    if (!x && !(x = lm_alloc(sizeof *x, "matrix"))) {
        st = lm_fail_memory(e, sizeof *x, "a matrix");
    } else if (!x->weight) {
        *x = (struct lm_whole){ .w = m->w, .rows = m->whole, .cols = m->cols };
        st = upload(g, m->w, m->whole, m->cols, m->stride, &x->weight, e);
        if (st) {
            lm_release(x);
        } else {
            x->next = g->wholes;
            g->wholes = x;
        }
    }
    if (!st)
        x->refs++;
    *out = st ? NULL : x;
    pthread_mutex_unlock(&g->whole_lock);
    return st;
}

static void drop_whole(struct lm_engine *g, struct lm_whole *x)
{
    pthread_mutex_lock(&g->whole_lock);
    if (--x->refs == 0) {
        struct lm_whole **at = &g->wholes;
        while (*at != x)
            at = &(*at)->next;
        *at = x->next;
        g->ops->forget(g->backend, x->weight);
        lm_release(x);
    }
    pthread_mutex_unlock(&g->whole_lock);
}

static enum lm_status upload_floats(struct lm_segment *s, int which,
                                    const struct lm_mat *m, struct lm_err *e)
{
    const struct lm_engine *g = s->g;
    struct lm_weight **w = &s->w[SW_A + which];
    if (!m->whole || !g->ops->view)
        return upload(s->g, m->w, m->rows, m->cols, m->stride, w, e);
    enum lm_status st = hold_whole(s->g, m, &s->whole[which], e);
    return st ? st : g->ops->view(g->backend, s->whole[which]->weight, m->rows, w, e);
}

static enum lm_status upload_mat(struct lm_segment *s, int which, const struct lm_mat *m,
                                 struct lm_err *e)
{
    const struct lm_tensor *t = &m->coded;
    enum lm_status st = upload_floats(s, which, m, e);
    if (!st)
        st = upload(s->g, m->bias, 1, m->rows, m->rows, &s->w[SB_A + which], e);
    if (!st && t->data && t->rows == m->rows && t->cols == m->cols
        && lm_engine_reads(s->g, t->dtype))
        st = s->g->ops->upload(s->g->backend, t, t->cols, &s->w[SC_A + which], e);
    return st;
}

/* ---- the engine ------------------------------------------------------------------ */
enum lm_status lm_engine_open(const struct lm_model *model, const struct lm_backend *ops,
                              void *backend, struct lm_engine **out, struct lm_err *e)
{
    const struct lm_arch *a = lm_model_arch(model);
    *out = NULL;
    if (!(ops->dtypes & LM_BIT(LM_F32)))
        return lm_fail(e, LM_EUNSUPPORTED, "the backend does not take f32 weights");
    if (a->hidden < 1 || a->head_dim < 2 || a->head_dim % 2 || a->vocab < 1)
        return lm_fail(e, LM_EINPUT, "a model of hidden size %d, head size %d and %d "
                       "tokens cannot be run", a->hidden, a->head_dim, a->vocab);
    struct lm_engine *g = lm_alloc(sizeof *g, "engine");
    if (!g)
        return lm_fail_memory(e, sizeof *g, "an engine");
    g->model = model;
    g->arch = a;
    g->ops = ops;
    g->backend = backend;
    g->budget = SIZE_MAX;
    pthread_mutex_init(&g->whole_lock, NULL);
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->settled, NULL);
    size_t half = (size_t)a->head_dim / 2;
    g->frequency = lm_alloc_array(half, sizeof *g->frequency, "rope");
    enum lm_status st = g->frequency ? lm_rope_frequencies(a, g->frequency, e)
                                     : lm_fail_memory(e, half * 4, "frequencies");
    if (!st)
        st = upload(g, g->frequency, 1, (int64_t)half, (int64_t)half, &g->rope, e);
    if (st) {
        lm_engine_close(g);
        return st;
    }
    *out = g;
    return LM_OK;
}

void lm_engine_close(struct lm_engine *g)
{
    if (!g)
        return;
    if (g->rope)
        g->ops->forget(g->backend, g->rope);
    pthread_cond_destroy(&g->settled);
    pthread_mutex_destroy(&g->lock);
    pthread_mutex_destroy(&g->whole_lock);
    lm_release(g->frequency);
    lm_release(g);
}

const struct lm_model *lm_engine_model(const struct lm_engine *g)
{
    return g->model;
}

const char *const lm_precision_names[LM_N_PRECISIONS] = { "f32", "bf16", "int8" };

enum lm_status lm_engine_can(const struct lm_engine *g, uint32_t precision,
                             struct lm_err *e)
{
    uint64_t can = LM_BIT(LM_AS_F32) | g->ops->precisions;
    if (precision < LM_N_PRECISIONS && can & LM_BIT(precision))
        return LM_OK;
    return lm_fail(e, LM_EUNSUPPORTED,
                   "the backend does not compute in %s; use precision "
                   "f32, or the backend cpu", precision < LM_N_PRECISIONS
                   ? lm_precision_names[precision] : "this precision");
}

bool lm_engine_reads(const struct lm_engine *g, uint32_t dtype)
{
    return dtype < LM_N_DTYPES && g->ops->dtypes & LM_BIT(dtype);
}

/* ---- segments ----------------------------------------------------------------- */
static bool mat_is(const struct lm_mat *m, int64_t rows, int64_t cols)
{
    return m->rows == rows && m->cols == cols && m->stride >= cols;
}

/* Matrices without weights, by number. */
static uint32_t find_missing(struct lm_segment_spec *s)
{
    const struct lm_mat *m;
    uint32_t missing = 0;
    for (int i = 0; (m = lm_segment_mat(s, i)); i++)
        missing |= m->w ? 0 : (uint32_t)LM_BIT(i);
    return missing;
}

static bool spec_fits(const struct lm_arch *a, const struct lm_segment_spec *s)
{
    int64_t d = s->hidden, q = (int64_t)s->n_head * a->head_dim;
    int64_t kv = (int64_t)s->n_kv * a->head_dim;
    bool block = s->kind == LM_SEG_ATTN || s->kind == LM_SEG_MLP;
    if (d < 1 || d > a->hidden || (!block && !s->turn.w != (d == a->hidden))
        || (block && s->turn.w && !mat_is(&s->turn, d, d)))
        return false;
    switch (s->kind) {
    case LM_SEG_EMBED:
        return mat_is(&s->table, a->vocab, a->hidden)
            && (!s->turn.w || mat_is(&s->turn, d, a->hidden));
    case LM_SEG_HEAD:
        return s->norm && mat_is(&s->table, a->vocab, a->hidden)
            && (!s->turn.w || mat_is(&s->turn, a->hidden, d));
    case LM_SEG_ATTN:
        return s->norm && s->n_head > 0 && s->n_kv > 0 && s->n_head % s->n_kv == 0
            && q <= INT32_MAX && mat_is(&s->q, q, d) && mat_is(&s->k, kv, d)
            && mat_is(&s->v, kv, d) && mat_is(&s->o, d, q);
    case LM_SEG_MLP:
        return s->norm && s->n_ff > 0 && mat_is(&s->gate, s->n_ff, d)
            && mat_is(&s->up, s->n_ff, d) && mat_is(&s->down, d, s->n_ff);
    }
    return false;
}

static enum lm_status upload_all(struct lm_segment *s, struct lm_err *e)
{
    const struct lm_segment_spec *c = &s->spec;
    const struct lm_arch *a = s->g->arch;
    const struct lm_mat none = { 0 };
    const struct lm_mat *m[4] = { &c->table, &none, &none, &none };
    if (c->kind == LM_SEG_ATTN)
        m[0] = &c->q, m[1] = &c->k, m[2] = &c->v, m[3] = &c->o;
    else if (c->kind == LM_SEG_MLP)
        m[0] = &c->gate, m[1] = &c->up, m[3] = &c->down;
    enum lm_status st = LM_OK;
    for (int i = 0; i < 4 && !st; i++)
        st = upload_mat(s, i, m[i], e);
    if (!st)
        st = upload(s->g, c->turn.w, c->turn.rows, c->turn.cols, c->turn.stride,
                    &s->w[SW_TURN], e);
    if (!st && c->kind != LM_SEG_EMBED)
        st = upload(s->g, c->norm, 1, c->hidden, c->hidden, &s->w[SW_NORM], e);
    if (!st && c->kind == LM_SEG_ATTN)
        st = upload(s->g, c->q_norm, 1, a->head_dim, a->head_dim, &s->w[SW_Q_NORM], e);
    if (!st && c->kind == LM_SEG_ATTN)
        st = upload(s->g, c->k_norm, 1, a->head_dim, a->head_dim, &s->w[SW_K_NORM], e);
    return st;
}

static enum lm_status compile_one(struct lm_segment *s, uint32_t precision,
                                  enum head_kind head, struct lm_exe **x,
                                  struct lm_err *e)
{
    struct lm_lowered p = { 0 };
    enum lm_status st = lm_lower(&p, s, 0, false, head, e);
    if (!st)
        st = lm_lower_compile(s->g, &p, precision, x, e);
    lm_lower_free(&p);
    return st;
}

static enum lm_status compile_all(struct lm_segment *s, struct lm_err *e)
{
    int n = s->spec.kind == LM_SEG_HEAD ? N_HEADS : 1;
    enum lm_status st = LM_OK;
    for (int i = 0; i < n && !st; i++)
        st = compile_one(s, LM_AS_F32, (enum head_kind)i, &s->exe[i], e);
    return st;
}

enum lm_status lm_segment_exe(const struct lm_network *net, size_t i, enum head_kind head,
                              struct lm_exe **x, struct lm_err *e)
{
    struct lm_segment *s = net->seg[i];
    uint32_t precision = s->spec.kind == LM_SEG_EMBED ? LM_AS_F32 : net->precision;
    enum lm_status st = lm_engine_can(s->g, precision, e);
    *x = s->exe[head];
    if (st || precision == LM_AS_F32)
        return st;
    struct lm_exe **low = s->low[precision];
    bool first = true;
    pthread_mutex_lock(&s->lock);
    for (int h = 0; h < N_HEADS; h++)
        first &= !low[h];
    if (first)                          /* others are of the same weights */
        lm_segment_pack(s, precision);
    if (!low[head])
        st = compile_one(s, precision, head, &low[head], e);
    *x = low[head];
    pthread_mutex_unlock(&s->lock);
    return st;
}

enum lm_status lm_segment_load(struct lm_segment *s, struct lm_err *e)
{
    enum lm_status st = upload_all(s, e);
    return st ? st : compile_all(s, e);
}

enum lm_status lm_segment_open(struct lm_engine *g, const struct lm_segment_spec *spec,
                               struct lm_segment **out, struct lm_err *e)
{
    struct lm_segment_spec own = *spec;
    uint32_t missing = find_missing(&own);
    *out = NULL;
    own.hidden = own.hidden ? own.hidden : g->arch->hidden;
    if (!spec_fits(g->arch, &own) || (missing && !g->streams))
        return lm_fail(e, LM_EBUG, "a segment of layer %d has matrices that do not fit "
                       "the architecture", spec->layer);
    struct lm_segment *s = lm_alloc(sizeof *s, "segment");
    if (!s)
        return lm_fail_memory(e, sizeof *s, "a segment");
    s->g = g;
    s->spec = own;
    s->missing = missing;
    pthread_mutex_init(&s->lock, NULL);
    enum lm_status st = g->streams ? LM_OK : lm_segment_load(s, e);
    if (st) {
        lm_segment_close(s);
        return st;
    }
    *out = s;
    return LM_OK;
}

void lm_segment_unpack(struct lm_segment *s)
{
    for (int i = 0; i < LM_N_PRECISIONS * N_HEADS; i++)
        if (s->low[i / N_HEADS][i % N_HEADS])
            s->g->ops->exe_free(s->g->backend, s->low[i / N_HEADS][i % N_HEADS]);
    memset(s->low, 0, sizeof s->low);
}

void lm_segment_unload(struct lm_segment *s)
{
    const struct lm_engine *g = s->g;
    lm_segment_unpack(s);
    for (int i = 0; i < N_HEADS; i++)
        if (s->exe[i])
            g->ops->exe_free(g->backend, s->exe[i]);
    for (int i = 0; i < N_SW; i++)
        if (s->w[i])
            g->ops->forget(g->backend, s->w[i]);
    for (int i = 0; i < 4; i++)
        if (s->whole[i])
            drop_whole(s->g, s->whole[i]);
    memset(s->exe, 0, sizeof s->exe);
    memset(s->w, 0, sizeof s->w);
    memset(s->whole, 0, sizeof s->whole);
}

void lm_segment_close(struct lm_segment *s)
{
    if (!s)
        return;
    lm_segment_settle(s);
    lm_segment_unload(s);
    pthread_mutex_destroy(&s->lock);
    lm_release(s);
}

const struct lm_segment_spec *lm_segment_spec(const struct lm_segment *s)
{
    return &s->spec;
}

double lm_segment_macs(const struct lm_segment_spec *s)
{
    struct lm_segment_spec own = *s;
    const struct lm_mat *m;
    double n = 0;

    for (int i = s->kind == LM_SEG_EMBED; (m = lm_segment_mat(&own, i)); i++)
        n += (double)m->rows * (double)m->cols;
    return n;
}

/* ---- the dense model ---------------------------------------------------------- */
/* The specs below come with all matrices, or without those that are not in the file
 * as floats.  Role 0: none.                                                      */
struct source { const struct lm_model *m; bool all; };

static enum lm_status dense_mat(struct source from, uint32_t role, uint32_t bias,
                                int32_t layer, struct lm_mat *out, struct lm_err *e)
{
    enum lm_status st = LM_OK;
    if (from.all || lm_model_in_place(from.m, role, layer))
        st = lm_model_floats(from.m, role, layer, &out->w, e);
    if (!st && bias)
        st = lm_model_floats(from.m, bias, layer, &out->bias, e);
    lm_role_shape(lm_model_arch(from.m), role, layer, &out->rows, &out->cols);
    out->stride = out->cols;
    const struct lm_tensor *t = lm_model_tensor(from.m, role, layer);
    if (t && t->dtype != LM_F32)
        out->coded = *t;
    return st;
}

static enum lm_status dense_attention(struct source from, struct lm_segment_spec *s,
                                      struct lm_err *e)
{
    int32_t i = s->layer;
    const struct lm_layer_shape *shape = &lm_model_arch(from.m)->layer[i];
    s->n_head = shape->n_head;
    s->n_kv = shape->n_kv;
    enum lm_status st = lm_model_floats(from.m, LM_W_ATTN_NORM, i, &s->norm, e);
    if (!st)
        st = lm_model_floats(from.m, LM_W_Q_NORM, i, &s->q_norm, e);
    if (!st)
        st = lm_model_floats(from.m, LM_W_K_NORM, i, &s->k_norm, e);
    if (!st)
        st = dense_mat(from, LM_W_Q, LM_B_Q, i, &s->q, e);
    if (!st)
        st = dense_mat(from, LM_W_K, LM_B_K, i, &s->k, e);
    if (!st)
        st = dense_mat(from, LM_W_V, LM_B_V, i, &s->v, e);
    return st ? st : dense_mat(from, LM_W_O, LM_B_O, i, &s->o, e);
}

static enum lm_status dense_mlp(struct source from, struct lm_segment_spec *s,
                                struct lm_err *e)
{
    int32_t i = s->layer;
    s->n_ff = lm_model_arch(from.m)->layer[i].n_ff;
    enum lm_status st = lm_model_floats(from.m, LM_W_MLP_NORM, i, &s->norm, e);
    if (!st)
        st = dense_mat(from, LM_W_GATE, LM_B_GATE, i, &s->gate, e);
    if (!st)
        st = dense_mat(from, LM_W_UP, LM_B_UP, i, &s->up, e);
    return st ? st : dense_mat(from, LM_W_DOWN, LM_B_DOWN, i, &s->down, e);
}

static enum lm_status dense_spec(struct source from, enum lm_segment_kind kind,
                                 int32_t layer, struct lm_segment_spec *spec,
                                 struct lm_err *e)
{
    const struct lm_arch *a = lm_model_arch(from.m);
    enum lm_status st = LM_OK;
    *spec = (struct lm_segment_spec){ .kind = kind, .layer = layer };
    if ((kind == LM_SEG_ATTN || kind == LM_SEG_MLP) && (layer < 0 || layer >= a->n_layer))
        return lm_fail(e, LM_EBUG, "the model has no layer %d", layer);
    if (kind == LM_SEG_ATTN)
        st = dense_attention(from, spec, e);
    else if (kind == LM_SEG_MLP)
        st = dense_mlp(from, spec, e);
    else if (kind == LM_SEG_EMBED)
        st = dense_mat(from, LM_W_EMBED, 0, -1, &spec->table, e);
    else if (!(st = lm_model_floats(from.m, LM_W_FINAL_NORM, -1, &spec->norm, e)))
        st = dense_mat(from, a->tied ? LM_W_EMBED : LM_W_HEAD, 0, -1, &spec->table, e);
    uint64_t key = lm_hash_str("dense", lm_model_hash(from.m));
    spec->key = lm_hash_u64((uint64_t)(uint32_t)layer << 8 | (uint64_t)kind, key);
    return st;
}

enum lm_status lm_dense_spec(const struct lm_model *m, enum lm_segment_kind kind,
                             int32_t layer, struct lm_segment_spec *spec,
                             struct lm_err *e)
{
    return dense_spec((struct source){ m, true }, kind, layer, spec, e);
}

enum lm_status lm_dense_shape(const struct lm_model *m, enum lm_segment_kind kind,
                              int32_t layer, struct lm_segment_spec *spec,
                              struct lm_err *e)
{
    return dense_spec((struct source){ m, false }, kind, layer, spec, e);
}

/* ---- networks ----------------------------------------------------------------- */
static enum lm_status add_dense(struct lm_engine *g, const struct lm_model *m,
                                struct lm_network *net, enum lm_segment_kind kind,
                                int32_t layer, struct lm_err *e)
{
    struct lm_segment_spec spec;
    enum lm_status st = dense_spec((struct source){ m, !g->streams }, kind, layer, &spec,
                                   e);
    if (!st)
        st = lm_segment_open(g, &spec, &net->seg[net->n], e);
    if (!st)
        net->n++;
    return st;
}

enum lm_status lm_network_open(struct lm_engine *g, const struct lm_model *m,
                               struct lm_network *net, struct lm_err *e)
{
    const struct lm_arch *a = lm_model_arch(m);
    size_t max = 2 * (size_t)a->n_layer + 2;
    *net = (struct lm_network){ .seg = lm_alloc_array(max, sizeof *net->seg, "network") };
    if (!net->seg)
        return lm_fail_memory(e, max * sizeof *net->seg, "a network");
    enum lm_status st = add_dense(g, m, net, LM_SEG_EMBED, -1, e);
    for (int32_t i = 0; i < a->n_layer && !st; i++) {
        if (a->layer[i].n_head > 0)
            st = add_dense(g, m, net, LM_SEG_ATTN, i, e);
        if (!st && a->layer[i].n_ff > 0)
            st = add_dense(g, m, net, LM_SEG_MLP, i, e);
    }
    if (!st)
        st = add_dense(g, m, net, LM_SEG_HEAD, -1, e);
    if (st)
        lm_network_close(net);
    return st;
}

void lm_network_close(struct lm_network *net)
{
    for (size_t i = 0; i < net->n; i++)
        lm_segment_close(net->seg[i]);
    lm_release(net->seg);
    *net = (struct lm_network){ 0 };
}

enum lm_status lm_segment_tapped(const struct lm_segment *s, struct lm_exe **x,
                                 struct lm_err *e)
{
    struct lm_lowered l = { 0 };
    enum lm_status st = lm_lower(&l, s, 0, true, HEAD_CE, e);
    *x = NULL;
    if (!st)
        st = lm_lower_compile(s->g, &l, LM_AS_F32, x, e);
    lm_lower_free(&l);
    return st;
}

int32_t lm_network_kv_width(const struct lm_network *net, int32_t head_dim)
{
    int32_t width = 0;
    for (size_t i = 0; i < net->n; i++) {
        const struct lm_segment_spec *s = &net->seg[i]->spec;
        if (s->kind == LM_SEG_ATTN && s->n_kv * head_dim > width)
            width = s->n_kv * head_dim;
    }
    return width;
}

enum lm_status lm_network_check(const struct lm_network *net, struct lm_err *e)
{
    bool ok = net->n >= 2 && net->seg[0]->spec.kind == LM_SEG_EMBED
           && net->seg[net->n - 1]->spec.kind == LM_SEG_HEAD;
    for (size_t i = 1; ok && i + 1 < net->n; i++)
        ok = net->seg[i]->spec.kind == LM_SEG_ATTN
            || net->seg[i]->spec.kind == LM_SEG_MLP;
    for (size_t i = 1; ok && i < net->n; i++)
        ok = net->seg[i]->spec.hidden == net->seg[0]->spec.hidden;
    return ok ? LM_OK
              : lm_fail(e, LM_EBUG, "a network must be an embedding, blocks and a head, "
                        "in this order, of one width");
}

enum lm_status lm_ids_check(const struct lm_arch *a, const int32_t *ids, size_t n,
                            struct lm_err *e)
{
    if (n < 1 || n > INT32_MAX / 2)
        return lm_fail(e, LM_EINPUT, "%zu tokens cannot be run", n);
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= a->vocab)
            return lm_fail(e, LM_EINPUT, "token id %d is not in the vocabulary of %d",
                           ids[i], a->vocab);
    return LM_OK;
}

enum lm_status lm_length_check(const struct lm_arch *a, int64_t n, struct lm_err *e)
{
    if (!a->window || n <= a->window)
        return LM_OK;
    return lm_fail(e, LM_EINPUT, "%lld tokens are more than the model's sliding "
                   "window of %d, within which it sees all tokens; more is not "
                   "supported: take shorter texts or windows", (long long)n, a->window);
}
