/* SPDX-License-Identifier: Apache-2.0 */
/* uses.c -- the operators that a decoder runs, found without running them.
 *
 * The network is lowered by the code that decoders lower it with, so both can't differ.
 * Segments stand for themselves without weights: in place of each uploaded matrix is the
 * address of its description, which says the number format.                  */
#include <string.h>

#include "base/mem.h"
#include "model/segment.h"

struct uses {
    struct lm_segment *seg;             /* [net.n] without weights */
    struct lm_network net;
    struct lm_use *use;                 /* [n], of different shape */
    size_t n, cap;
};

static struct lm_weight *mark(const void *description)
{
    return (struct lm_weight *)description;
}

static bool is_coded(const struct lm_mat *m)
{
    return m->coded.data && m->coded.rows == m->rows && m->coded.cols == m->cols;
}

/* Of blocks without the matrices that turn the stream, which come behind them. */
static int count_mats(const struct lm_segment_spec *s)
{
    return s->kind == LM_SEG_ATTN ? 4 : s->kind == LM_SEG_MLP ? 3 : 1;
}

/* to->spec is set; the last matrix of a block is D (segment.h). */
static void dress(struct lm_segment *to)
{
    int n = count_mats(&to->spec);

    for (int i = 0; i < n; i++) {
        const struct lm_mat *m = lm_segment_mat(&to->spec, i);
        int which = n > 1 && i == n - 1 ? 3 : i;

        to->w[SW_A + which] = mark(m);
        to->w[SC_A + which] = is_coded(m) ? mark(&m->coded) : NULL;
    }
    to->w[SW_TURN] = mark(&to->spec.turn);
}

static enum lm_status copy_network(struct uses *u, const struct lm_network *net,
                                   struct lm_err *e)
{
    u->seg = lm_alloc_array(net->n, sizeof *u->seg, "operators");
    u->net.seg = lm_alloc_array(net->n, sizeof(struct lm_segment *), "operators");
    u->net.precision = net->precision;
    if (!u->seg || !u->net.seg)
        return lm_fail_memory(e, net->n * sizeof *u->seg, "a list of operators");
    for (; u->net.n < net->n; u->net.n++) {
        struct lm_segment *s = &u->seg[u->net.n];

        s->g = net->seg[u->net.n]->g;
        s->spec = net->seg[u->net.n]->spec;
        dress(s);
        u->net.seg[u->net.n] = s;
    }
    return LM_OK;
}

static uint32_t dtype_of(const struct uses *u, const struct lm_op *o)
{
    if (o->code != LM_OP_LINEAR && o->code != LM_OP_EMBED && o->code != LM_OP_LOGITS)
        return 0;
    for (size_t i = 0; i < u->net.n; i++)
        for (int c = SC_A; c <= SC_D; c++)
            if (o->w == u->seg[i].w[c])
                return ((const struct lm_tensor *)(const void *)o->w)->dtype;
    return LM_F32;
}

/* before: the operator in front of o, or NULL */
static struct lm_use use_of(const struct uses *u, const struct lm_op *o,
                            const struct lm_op *before)
{
    struct lm_use x = { .struct_size = sizeof x, .code = o->code,
                        .dtype = dtype_of(u, o), .flags = o->flags, .n = o->n,
                        .k = o->k, .n_head = o->n_head, .n_kv = o->n_kv,
                        .head_dim = o->head_dim, .times = 1 };

    x.again = o->code == LM_OP_LINEAR && before && before->code == LM_OP_LINEAR
        && before->a == o->a && before->k == o->k && before->y != o->a;
    if (o->code == LM_OP_RMSNORM && o->a != REG_HIDDEN) {
        x.head_dim = o->n;
        x.n_head = o->k / o->n;
    }
    return x;
}

/* But for how often. */
static bool is_same(const struct lm_use *a, const struct lm_use *b)
{
    return a->code == b->code && a->dtype == b->dtype && a->flags == b->flags
        && a->n == b->n && a->k == b->k && a->n_head == b->n_head && a->n_kv == b->n_kv
        && a->head_dim == b->head_dim && a->again == b->again;
}

static enum lm_status add_use(struct uses *u, struct lm_use x, struct lm_err *e)
{
    for (size_t i = 0; i < u->n; i++)
        if (is_same(&u->use[i], &x)) {
            u->use[i].times++;
            return LM_OK;
        }
    if (u->n == u->cap) {
        size_t cap = u->cap ? 2 * u->cap : 32;
        struct lm_use *more = lm_resize(u->use, cap * sizeof *more);

        if (!more)
            return lm_fail_memory(e, cap * sizeof *more, "a list of operators");
        u->use = more;
        u->cap = cap;
    }
    u->use[u->n++] = x;
    return LM_OK;
}

static enum lm_status see_runs(struct uses *u, struct lm_step step, int32_t pos,
                               int32_t runs, lm_see_use *see, void *ctx, struct lm_err *e)
{
    struct lm_lowered p = { .coded = step.coded && u->net.precision == LM_AS_F32 };
    struct lm_use run = { .struct_size = sizeof run, .times = 1 };
    enum lm_status st = lm_lower_network(&p, &u->net, step.head, e);

    u->n = 0;
    if (!st)
        st = add_use(u, run, e);
    for (size_t i = 0; i < p.n && !st; i++)
        st = add_use(u, use_of(u, &p.op[i], i ? &p.op[i - 1] : NULL), e);
    for (size_t i = 0; i < u->n && !st; i++) {
        u->use[i].rows = step.rows;
        u->use[i].pos = pos;
        u->use[i].runs = runs;
        see(ctx, &u->use[i]);
    }
    lm_lower_free(&p);
    return st;
}

enum lm_status lm_network_uses(const struct lm_network *net, const struct lm_workload *w,
                               lm_see_use *see, void *ctx, struct lm_err *e)
{
    struct uses u = { .seg = NULL };
    enum lm_status st = copy_network(&u, net, e);

    if (!st && w->phase == LM_DECODE)
        st = see_runs(&u, lm_decoder_step(1, true), w->context, w->tokens, see, ctx, e);
    else
        for (int32_t at = 0; at < w->tokens && !st;) {
            struct lm_step step = lm_decoder_step(w->tokens - at, true);

            st = see_runs(&u, step, w->context + at, 1, see, ctx, e);
            at += step.rows;
        }
    lm_release(u.seg);
    lm_release(u.net.seg);
    lm_release(u.use);
    return st;
}
