/* SPDX-License-Identifier: Apache-2.0 */
/* profile.c -- which operators in which shapes sub-networks of a model run; see
 * profile.h.
 *
 * Made-up networks of a few layers, one for each choice of widths, are lowered like any
 * other; their operators give the nodes of the grids.  A grid is rectangular, so it has
 * shapes, too, that no network of these had.                                 */
#include "model/profile.h"

#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "model/codec.h"
#include "model/segment.h"

enum { MOST_NODES = 64, NODES = 8 };

/* ---- axes ------------------------------------------------------------------------- */

enum field { NONE, F_N, F_K, F_KV, F_HEADS, F_EACH };
static const char *const field_name[] = { NULL, "n", "k", "n_kv", "n_head", "each" };

static void fields(const struct lm_use *u, enum field f[2])
{
    bool acc = u->flags & LM_OPF_ACC;

    f[0] = f[1] = NONE;
    switch (u->code) {
    case LM_OP_LINEAR:                  /* the stream's width first */
        f[0] = acc ? F_N : F_K;
        f[1] = acc ? F_K : F_N;
        break;
    case LM_OP_EMBED: case LM_OP_LOGITS:
        f[0] = F_K;
        f[1] = F_N;
        break;
    case LM_OP_ROPE_KV: case LM_OP_ATTENTION:
        f[0] = F_KV;
        f[1] = F_EACH;
        break;
    case LM_OP_RMSNORM:
        f[0] = u->n_head ? F_HEADS : F_N;
        break;
    case LM_OP_SILU_MUL: case LM_OP_ADD:
        f[0] = F_N;
        break;
    }
}

void lm_profile_axes(const struct lm_use *u, const char *name[2])
{
    enum field f[2];

    fields(u, f);
    name[0] = field_name[f[0]];
    name[1] = field_name[f[1]];
}

static int32_t value_of(const struct lm_use *u, enum field f)
{
    switch (f) {
    case F_N:     return u->n;
    case F_K:     return u->k;
    case F_KV:    return u->n_kv;
    case F_HEADS: return u->n_head;
    case F_EACH:  return u->n_head / u->n_kv;
    default:      return 0;
    }
}

/* In the order of the axes: `each` comes behind n_kv. */
static void set_value(struct lm_use *u, enum field f, int32_t v)
{
    switch (f) {
    case F_N:
        u->n = v;
        if (u->code == LM_OP_RMSNORM)
            u->k = v;
        break;
    case F_K:
        u->k = v;
        break;
    case F_KV:
        u->n_kv = v;
        break;
    case F_HEADS:
        u->n_head = v;
        u->k = v * u->head_dim;
        break;
    case F_EACH:
        u->n_head = v * u->n_kv;
        break;
    case NONE:
        break;
    }
}

/* ---- grids ------------------------------------------------------------------------ */

static bool is_of(const struct lm_profile_grid *g, const struct lm_use *u)
{
    const struct lm_use *v = &g->use;

    return v->code == u->code && v->dtype == u->dtype && v->flags == u->flags
        && v->again == u->again && v->rows == u->rows && v->pos == u->pos
        && (u->code != LM_OP_RMSNORM || !v->n_head == !u->n_head);
}

static enum lm_status add_node(struct lm_profile_grid *g, int axis, int32_t v,
                               struct lm_err *e)
{
    size_t i = 0, n = g->n[axis];

    while (i < n && g->at[axis][i] < v)
        i++;
    if (i < n && g->at[axis][i] == v)
        return LM_OK;
    if (!g->at[axis])
        g->at[axis] = lm_alloc_array(MOST_NODES, sizeof **g->at, "profile");
    if (n == MOST_NODES)
        return lm_fail(e, LM_EUNSUPPORTED, "more than %d widths of one operator cannot "
                       "be profiled", MOST_NODES);
    if (!g->at[axis])
        return lm_fail_memory(e, MOST_NODES * sizeof **g->at, "a profile");
    memmove(g->at[axis] + i + 1, g->at[axis] + i, (n - i) * sizeof **g->at);
    g->at[axis][i] = v;
    g->n[axis]++;
    return LM_OK;
}

struct plan {
    struct lm_profile *p;
    size_t cap;
    enum lm_status st;
    struct lm_err *e;
};

static struct lm_profile_grid *grid_of(struct plan *x, const struct lm_use *u)
{
    struct lm_profile *p = x->p;

    for (size_t i = 0; i < p->n; i++)
        if (is_of(&p->grid[i], u))
            return &p->grid[i];
    if (p->n == x->cap) {
        size_t cap = x->cap ? 2 * x->cap : 32;
        struct lm_profile_grid *more = lm_resize(p->grid, cap * sizeof *more);

        if (!more)
            return NULL;
        p->grid = more;
        x->cap = cap;
    }
    p->grid[p->n] = (struct lm_profile_grid){ .use = *u };
    return &p->grid[p->n++];
}

/* Of runs one behind the other the one in the middle is measured; where it is matters
 * to attention alone.                                                        */
static void see(void *ctx, const struct lm_use *u)
{
    struct plan *x = ctx;
    struct lm_use mid = *u;
    enum field f[2];

    if (x->st)
        return;
    mid.pos = u->code == LM_OP_ATTENTION ? u->pos + u->rows * (u->runs / 2) : 0;
    struct lm_profile_grid *g = grid_of(x, &mid);
    if (!g) {
        x->st = lm_fail_memory(x->e, sizeof *g, "a profile");
        return;
    }
    fields(u, f);
    for (int i = 0; i < 2 && !x->st; i++)
        if (f[i])
            x->st = add_node(g, i, value_of(u, f[i]), x->e);
}

/* ---- networks --------------------------------------------------------------------- */

/* What made-up networks are of. */
struct shape { int32_t hidden, n_kv, each, n_ff; uint32_t dtype; };

static void put_mat(struct lm_mat *m, int64_t rows, int64_t cols, uint32_t dtype)
{
    *m = (struct lm_mat){ .rows = rows, .cols = cols, .stride = cols };
    if (dtype != LM_F32 && lm_row_bytes(dtype, cols) > 0)       /* data: not looked at */
        m->coded = (struct lm_tensor){ .data = m, .rows = rows, .cols = cols,
                                       .dtype = dtype };
}

/* Embedding, one layer, head; norms of q and k where the model has any. */
static void put_network(const struct lm_profile_args *a, const struct shape *s,
                        struct lm_segment seg[4])
{
    const struct lm_model *m = lm_engine_model(a->engine);
    const struct lm_arch *arch = lm_model_arch(m);
    int32_t d = arch->hidden, h = arch->head_dim, q = s->n_kv * s->each * h;
    int32_t kv = s->n_kv * h;
    static const float some;            /* in place of what is only asked to be there */

    for (int i = 0; i < 4; i++) {
        struct lm_segment_spec *c = &seg[i].spec;

        seg[i].g = a->engine;
        c->kind = (enum lm_segment_kind)(LM_SEG_EMBED + i);
        c->hidden = s->hidden;
        if (i == 0 || i == 3)
            put_mat(&c->table, arch->vocab, d, s->dtype);
        if ((i == 0 || i == 3) && s->hidden < d) {
            put_mat(&c->turn, i ? d : s->hidden, i ? s->hidden : d, LM_F32);
            c->turn.w = &some;
        }
    }
    struct lm_segment_spec *b = &seg[1].spec, *c = &seg[2].spec;
    b->n_kv = s->n_kv;
    b->n_head = s->n_kv * s->each;
    for (int32_t i = 0; i < arch->n_layer; i++) {
        b->q_norm = lm_model_tensor(m, LM_W_Q_NORM, i) ? &some : b->q_norm;
        b->k_norm = lm_model_tensor(m, LM_W_K_NORM, i) ? &some : b->k_norm;
    }
    put_mat(&b->q, q, s->hidden, s->dtype);
    put_mat(&b->k, kv, s->hidden, s->dtype);
    put_mat(&b->v, kv, s->hidden, s->dtype);
    put_mat(&b->o, s->hidden, q, s->dtype);
    c->n_ff = s->n_ff;
    put_mat(&c->gate, s->n_ff, s->hidden, s->dtype);
    put_mat(&c->up, s->n_ff, s->hidden, s->dtype);
    put_mat(&c->down, s->hidden, s->n_ff, s->dtype);
}

static enum lm_status add_network(const struct lm_profile_args *a, const struct shape *s,
                                  struct plan *x, struct lm_err *e)
{
    struct lm_segment seg[4];
    struct lm_segment *at[4] = { &seg[0], &seg[1], &seg[2], &seg[3] };
    struct lm_network net = { .seg = at, .n = 4 };
    struct lm_workload prefill = { LM_PREFILL, a->prefill, 0, a->threads };
    struct lm_workload decode = { LM_DECODE, a->tokens, a->context, a->threads };
    enum lm_status st = LM_OK;

    memset(seg, 0, sizeof seg);
    put_network(a, s, seg);
    if (a->prefill)
        st = lm_network_uses(&net, &prefill, see, x, e);
    if (!st && a->tokens)
        st = lm_network_uses(&net, &decode, see, x, e);
    return st ? st : x->st;
}

/* Rising nodes up to `most`; returns how many. */
static size_t nodes(int32_t most, int32_t multiple, int32_t out[NODES])
{
    static const int eighths[] = { 0, 1, 2, 4, 6, 8 };
    size_t n = 0;

    for (size_t i = 0; i < sizeof eighths / sizeof *eighths; i++) {
        int32_t v = (int32_t)((int64_t)most * eighths[i] / 8 / multiple * multiple);

        v = v < multiple ? multiple : v;
        v = v > most || eighths[i] == 8 ? most : v;
        if (!n || v > out[n - 1])
            out[n++] = v;
    }
    return n;
}

static struct shape largest(const struct lm_arch *a)
{
    struct shape s = { .hidden = a->hidden, .n_kv = 1, .each = 1, .n_ff = 1 };

    for (int32_t i = 0; i < a->n_layer; i++) {
        const struct lm_layer_shape *l = &a->layer[i];
        int32_t each = l->n_kv ? l->n_head / l->n_kv : 0;

        s.n_kv = l->n_kv > s.n_kv ? l->n_kv : s.n_kv;
        s.each = each > s.each ? each : s.each;
        s.n_ff = l->n_ff > s.n_ff ? l->n_ff : s.n_ff;
    }
    return s;
}

/* All widths in one number format: MLPs and attention vary beside each other. */
static enum lm_status add_format(const struct lm_profile_args *a, uint32_t dtype,
                                 struct plan *x, struct lm_err *e)
{
    const struct lm_arch *arch = lm_model_arch(lm_engine_model(a->engine));
    struct shape most = largest(arch);
    int32_t kv[NODES], each[NODES], ff[NODES];
    size_t n_kv = nodes(most.n_kv, 1, kv), n_each = nodes(most.each, 1, each);
    size_t n_ff = nodes(most.n_ff, most.n_ff >= 256 ? 32 : 1, ff), n = n_kv * n_each;
    enum lm_status st = LM_OK;

    for (int half = 0; half <= a->narrow && !st; half++)
        for (size_t i = 0; (i < n || i < n_ff) && !st; i++) {
            size_t h = i < n ? i : n - 1;
            struct shape s = { .hidden = half ? (most.hidden + 1) / 2 : most.hidden,
                               .n_kv = kv[h / n_each], .each = each[h % n_each],
                               .n_ff = ff[i < n_ff ? i : n_ff - 1], .dtype = dtype };

            st = add_network(a, &s, x, e);
        }
    return st;
}

/* ---- measuring -------------------------------------------------------------------- */

static size_t n_cells(const struct lm_profile_grid *g)
{
    return (g->n[0] ? g->n[0] : 1) * (g->n[1] ? g->n[1] : 1);
}

/* Cell i of a grid as an operator. */
static struct lm_use cell(const struct lm_profile_grid *g, size_t i)
{
    struct lm_use u = g->use;
    size_t wide = g->n[1] ? g->n[1] : 1, at[2] = { i / wide, i % wide };
    enum field f[2];

    fields(&u, f);
    for (int k = 0; k < 2; k++)
        if (f[k])
            set_value(&u, f[k], g->at[k][at[k]]);
    return u;
}

static enum lm_status measure_grid(struct lm_timer *t, struct lm_profile_grid *g,
                                   size_t *done, size_t all, struct lm_err *e)
{
    size_t n = n_cells(g);
    enum lm_status st = LM_OK;

    g->seconds = lm_alloc_array(n, sizeof *g->seconds, "profile");
    g->spread = lm_alloc_array(n, sizeof *g->spread, "profile");
    if (!g->seconds || !g->spread)
        return lm_fail_memory(e, n * sizeof *g->seconds, "a profile");
    for (size_t i = 0; i < n && !st; i++) {
        struct lm_use u = cell(g, i);

        st = lm_timer_measure(t, &u, &g->seconds[i], &g->spread[i], e);
        lm_progress((double)++*done / (double)all, NULL);
    }
    g->use = cell(g, n - 1);
    return st;
}

static enum lm_status measure_all(const struct lm_profile_args *a, struct lm_profile *p,
                                  struct lm_err *e)
{
    struct lm_timer *t;
    size_t all = 0, done = 0;
    enum lm_status st = lm_timer_open(a, &t, e);

    if (st)
        return st;
    for (size_t i = 0; i < p->n; i++)
        all += n_cells(&p->grid[i]);
    lm_progress_begin("measuring operators");
    for (size_t i = 0; i < p->n && !st; i++)
        st = measure_grid(t, &p->grid[i], &done, all, e);
    lm_progress_end();
    lm_timer_close(t);
    return st;
}

enum lm_status lm_profile_measure(const struct lm_profile_args *a, struct lm_profile *out,
                                  struct lm_err *e)
{
    *out = (struct lm_profile){ .n = 0 };
    struct plan x = { .p = out, .e = e };
    enum lm_status st = add_format(a, LM_F32, &x, e);

    for (size_t i = 0; i < a->n_format && !st; i++)
        st = add_format(a, a->format[i], &x, e);
    if (!st)
        st = measure_all(a, out, e);
    if (st)
        lm_profile_free(out);
    return st;
}

void lm_profile_free(struct lm_profile *p)
{
    for (size_t i = 0; i < p->n; i++) {
        lm_release(p->grid[i].at[0]);
        lm_release(p->grid[i].at[1]);
        lm_release(p->grid[i].seconds);
        lm_release(p->grid[i].spread);
    }
    lm_release(p->grid);
    *p = (struct lm_profile){ .n = 0 };
}
