/* SPDX-License-Identifier: Apache-2.0 */
/* program.c -- lowers segments to operators.
 *
 *   EMBED  embed
 *   ATTN   rmsnorm, linear q k v, (rmsnorm on q and k per head,) rope and cache,
 *          attention, linear o added to the residual stream
 *   MLP    rmsnorm, linear gate and up, silu * mul, linear down added
 *   HEAD   rmsnorm, then cross-entropy, KL, expectation or logits
 *
 * Where the residual stream is narrower, the embedding's row goes through a matrix and
 * the head's input, behind the norm, through another.  A block that turns the stream
 * adds hidden (R - I) to its own output in REG_NORM, which by then nobody reads, and
 * the sum to the stream: so the stream itself is never rounded (bf16, int8).
 *
 * RoPE frequencies are theta^(-2i/d), changed by the scaling rules that
 * checkpoints name: linear divides all by the factor (Chen et al. 2023);
 * llama3 divides those of wavelengths beyond context / low, keeps those below
 * context / high and blends linearly between (Llama 3 model card); yarn does so
 * over the pairs of dimensions that turn `slow` to `fast` times within the
 * context, linearly in the pair's number, and multiplies cosines and sines, and
 * so the square root of what softmax sees (Peng et al. 2023, section 3.2 to 3.4;
 * pair of r turns: d ln(context / (2 pi r)) / (2 ln theta)).                  */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "model/segment.h"

static struct lm_op *push(struct lm_lowered *p)
{
    if (p->n == p->cap) {
        size_t cap = p->cap ? 2 * p->cap : 16;
        struct lm_op *op = lm_resize(p->op, cap * sizeof *op);
        if (!op)
            return NULL;
        p->op = op;
        p->cap = cap;
    }
    return &p->op[p->n++];
}

/* Appends o and widens the registers to what it needs. */
static enum lm_status emit(struct lm_lowered *p, struct lm_op o, struct lm_err *e)
{
    struct lm_op *to = push(p);
    if (!to)
        return lm_fail_memory(e, (p->cap + 16) * sizeof *to, "a program");
    *to = o;
    return LM_OK;
}

static void widen(struct lm_lowered *p, int reg, int32_t n)
{
    if (p->width[reg] < n)
        p->width[reg] = n;
}

static struct lm_op norm_op(const struct lm_segment *s, int y, int a, int w, int32_t n,
                            int32_t k)
{
    return (struct lm_op){ .code = LM_OP_RMSNORM, .y = y, .a = a, .b = -1, .c = -1,
                           .w = s->w[w], .n = n, .k = k,
                           .eps = (float)s->g->arch->rms_eps };
}

static const struct lm_weight *matrix(const struct lm_lowered *p,
                                      const struct lm_segment *s, int which)
{
    return p->coded && s->w[SC_A + which] ? s->w[SC_A + which] : s->w[SW_A + which];
}

static struct lm_op linear_op(const struct lm_lowered *p, const struct lm_segment *s,
                              int y, int a, int which, const struct lm_mat *m,
                              uint32_t flags)
{
    return (struct lm_op){ .code = LM_OP_LINEAR, .flags = flags, .y = y, .a = a, .b = -1,
                           .c = -1, .w = matrix(p, s, which), .bias = s->w[SB_A + which],
                           .n = (int32_t)m->rows, .k = (int32_t)m->cols };
}

static struct lm_op turn_op(const struct lm_segment *s, int y, int a)
{
    return (struct lm_op){ .code = LM_OP_LINEAR, .y = y, .a = a, .b = -1, .c = -1,
                           .w = s->w[SW_TURN], .n = (int32_t)s->spec.turn.rows,
                           .k = (int32_t)s->spec.turn.cols };
}

/* The block's last matrix, from register a to the stream; appends to o. */
static size_t put_output(const struct lm_lowered *p, const struct lm_segment *s, int a,
                         const struct lm_mat *m, struct lm_op *o)
{
    size_t n = 0;
    int y = s->spec.turn.w ? REG_NORM : REG_HIDDEN;
    if (s->spec.turn.w)
        o[n++] = turn_op(s, REG_NORM, REG_HIDDEN);
    o[n++] = linear_op(p, s, y, a, 3, m, LM_OPF_ACC);
    if (s->spec.turn.w)
        o[n++] = (struct lm_op){ .code = LM_OP_ADD, .y = REG_HIDDEN, .a = REG_HIDDEN,
                                 .b = REG_NORM, .c = -1, .n = s->spec.hidden };
    return n;
}

static struct lm_op tap_op(int a, int32_t n)
{
    return (struct lm_op){ .code = LM_OP_COPY, .y = -1, .a = a, .b = -1, .c = -1,
                           .n = n };
}

static enum lm_status emit_all(struct lm_lowered *p, const struct lm_op *o, size_t n,
                               struct lm_err *e)
{
    enum lm_status st = LM_OK;
    for (size_t i = 0; i < n && !st; i++)
        st = emit(p, o[i], e);
    return st;
}

static enum lm_status lower_attention(struct lm_lowered *p, const struct lm_segment *s,
                                      int32_t slot, bool tap, struct lm_err *e)
{
    const struct lm_segment_spec *c = &s->spec;
    const struct lm_arch *a = s->g->arch;
    int32_t d = a->head_dim, q = c->n_head * d, kv = c->n_kv * d;
    struct lm_op o[12];
    size_t n = 0;
    o[n++] = norm_op(s, REG_NORM, REG_HIDDEN, SW_NORM, c->hidden, c->hidden);
    o[n++] = linear_op(p, s, REG_Q, REG_NORM, 0, &c->q, 0);
    o[n++] = linear_op(p, s, REG_K, REG_NORM, 1, &c->k, 0);
    o[n++] = linear_op(p, s, REG_V, REG_NORM, 2, &c->v, 0);
    if (c->q_norm)
        o[n++] = norm_op(s, REG_Q, REG_Q, SW_Q_NORM, d, q);
    if (c->k_norm)
        o[n++] = norm_op(s, REG_K, REG_K, SW_K_NORM, d, kv);
    struct lm_op heads = { .code = LM_OP_ROPE_KV, .y = -1, .a = REG_Q, .b = REG_K,
                           .c = REG_V, .w = s->g->rope, .n_head = c->n_head,
                           .n_kv = c->n_kv, .head_dim = d, .slot = slot,
                           .f = a->rope == LM_ROPE_YARN ? (float)a->rope_attention : 1 };
    o[n++] = heads;
    heads.code = LM_OP_ATTENTION;
    heads.y = REG_MIX;
    heads.b = heads.c = -1;
    heads.w = NULL;
    o[n++] = heads;
    if (tap)
        o[n++] = tap_op(REG_MIX, q);
    n += put_output(p, s, REG_MIX, &c->o, o + n);
    widen(p, REG_Q, q);
    widen(p, REG_K, kv);
    widen(p, REG_V, kv);
    widen(p, REG_MIX, q);
    return emit_all(p, o, n, e);
}

static enum lm_status lower_mlp(struct lm_lowered *p, const struct lm_segment *s,
                                bool tap, struct lm_err *e)
{
    const struct lm_segment_spec *c = &s->spec;
    struct lm_op o[8];
    size_t n = 0;
    o[n++] = norm_op(s, REG_NORM, REG_HIDDEN, SW_NORM, c->hidden, c->hidden);
    o[n++] = linear_op(p, s, REG_Q, REG_NORM, 0, &c->gate, 0);
    o[n++] = linear_op(p, s, REG_K, REG_NORM, 1, &c->up, 0);
    o[n++] = (struct lm_op){ .code = LM_OP_SILU_MUL, .y = REG_Q, .a = REG_Q, .b = REG_K,
                             .c = -1, .n = c->n_ff };
    if (tap)
        o[n++] = tap_op(REG_Q, c->n_ff);
    n += put_output(p, s, REG_Q, &c->down, o + n);
    widen(p, REG_Q, c->n_ff);
    widen(p, REG_K, c->n_ff);
    return emit_all(p, o, n, e);
}

static enum lm_status lower_head(struct lm_lowered *p, const struct lm_segment *s,
                                 enum head_kind head, struct lm_err *e)
{
    static const uint32_t code[N_HEADS] = { LM_OP_CE, LM_OP_KL, LM_OP_EXPECT,
                                            LM_OP_LOGITS };
    int32_t hidden = s->g->arch->hidden, m = s->spec.hidden, from = REG_NORM;
    struct lm_op o[3];
    size_t n = 0;
    o[n++] = norm_op(s, REG_NORM, REG_HIDDEN, SW_NORM, m, m);
    if (s->spec.turn.w) {
        o[n++] = turn_op(s, REG_Q, REG_NORM);
        widen(p, REG_Q, hidden);
        from = REG_Q;
    }
    o[n++] = (struct lm_op){ .code = code[head],
                             .y = head == HEAD_EXPECT ? REG_HIDDEN : -1, .a = from,
                             .b = -1, .c = -1, .w = matrix(p, s, 0),
                             .n = (int32_t)s->spec.table.rows, .k = hidden };
    return emit_all(p, o, n, e);
}

static enum lm_status lower_embedding(struct lm_lowered *p, const struct lm_segment *s,
                                      struct lm_err *e)
{
    bool turns = s->spec.turn.w != NULL;
    struct lm_op o[2] = {
        { .code = LM_OP_EMBED, .y = turns ? REG_NORM : REG_HIDDEN, .a = -1, .b = -1,
          .c = -1, .w = matrix(p, s, 0), .n = (int32_t)s->spec.table.rows,
          .k = s->g->arch->hidden },
        turn_op(s, REG_HIDDEN, REG_NORM)
    };
    return emit_all(p, o, turns ? 2 : 1, e);
}

enum lm_status lm_lower(struct lm_lowered *p, const struct lm_segment *s, int32_t slot,
                        bool tap, enum head_kind head, struct lm_err *e)
{
    int32_t hidden = s->g->arch->hidden;
    widen(p, REG_HIDDEN, hidden);
    widen(p, REG_NORM, hidden);
    switch (s->spec.kind) {
    case LM_SEG_ATTN:
        return lower_attention(p, s, slot, tap, e);
    case LM_SEG_MLP:
        return lower_mlp(p, s, tap, e);
    case LM_SEG_HEAD:
        return lower_head(p, s, head, e);
    default:
        return lower_embedding(p, s, e);
    }
}

enum lm_status lm_lower_network(struct lm_lowered *p, const struct lm_network *net,
                                bool head, struct lm_err *e)
{
    enum lm_status st = LM_OK;
    int32_t slot = 0;
    for (size_t i = 0; i + (head ? 0 : 1) < net->n && !st; i++) {
        st = lm_lower(p, net->seg[i], slot, false, HEAD_LOGITS, e);
        slot += net->seg[i]->spec.kind == LM_SEG_ATTN;
    }
    return st;
}

enum lm_status lm_lower_compile(struct lm_engine *g, struct lm_lowered *p,
                                uint32_t precision, struct lm_exe **x, struct lm_err *e)
{
    struct lm_program program = { .struct_size = sizeof program, .op = p->op,
                                  .n_op = p->n, .width = p->width, .n_reg = N_REG,
                                  .precision = precision };
    enum lm_status st = lm_engine_can(g, precision, e);
    return st ? st : g->ops->compile(g->backend, &program, x, e);
}

void lm_lower_free(struct lm_lowered *p)
{
    lm_release(p->op);
    *p = (struct lm_lowered){ 0 };
}

static double llama3(const struct lm_arch *a, double f)
{
    double wave = 2 * 3.14159265358979323846 / f;
    if (wave > a->rope_context / a->rope_low)
        return f / a->rope_factor;
    if (wave < a->rope_context / a->rope_high)
        return f;
    double t = (a->rope_context / wave - a->rope_low) / (a->rope_high - a->rope_low);
    return (1 - t) * f / a->rope_factor + t * f;
}

/* The pair that turns r times within the context. */
static double yarn_pair(const struct lm_arch *a, double r)
{
    return a->head_dim * log(a->rope_context / (r * 2 * 3.14159265358979323846))
         / (2 * log(a->rope_theta));
}

static double yarn(const struct lm_arch *a, int32_t i, double f)
{
    double low = yarn_pair(a, a->rope_fast), high = yarn_pair(a, a->rope_slow);
    if (!a->rope_exact) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, a->head_dim - 1);
    if (low == high)
        high += 0.001;
    double t = fmin(fmax((i - low) / (high - low), 0), 1);
    return (1 - t) * f + t * f / a->rope_factor;
}

static bool rope_possible(const struct lm_arch *a)
{
    if (!(a->rope_theta > 0) || (a->rope != LM_ROPE_PLAIN && !(a->rope_factor > 0)))
        return false;
    if (a->rope == LM_ROPE_LLAMA3)
        return a->rope_low > 0 && a->rope_high > a->rope_low && a->rope_context > 0;
    return a->rope != LM_ROPE_YARN
        || (a->rope_theta > 1 && a->rope_slow > 0 && a->rope_fast >= a->rope_slow
            && a->rope_context > 0 && a->rope_attention > 0);
}

enum lm_status lm_rope_frequencies(const struct lm_arch *a, float *out, struct lm_err *e)
{
    if (a->rope < LM_ROPE_PLAIN || a->rope > LM_ROPE_YARN)
        return lm_fail(e, LM_EUNSUPPORTED, "this kind of RoPE scaling is not supported; "
                       "plain, linear, llama3 and yarn are");
    if (!rope_possible(a))
        return lm_fail(e, LM_EINPUT, "the model's RoPE parameters are impossible");
    for (int32_t i = 0; i < a->head_dim / 2; i++) {
        double f = pow(a->rope_theta, -2.0 * i / a->head_dim);
        if (a->rope == LM_ROPE_LINEAR)
            f /= a->rope_factor;
        else if (a->rope == LM_ROPE_LLAMA3)
            f = llama3(a, f);
        else if (a->rope == LM_ROPE_YARN)
            f = yarn(a, i, f);
        out[i] = (float)f;
    }
    return LM_OK;
}
