/* SPDX-License-Identifier: Apache-2.0 */
/* profile_time.c -- seconds of one operator.
 *
 * They are a slope: the time of a program that holds the operator `many` times less that
 * of one that holds it `few` times, so what a run costs beside its operators is not in
 * it.  In a model the weights of a layer were evicted from the caches by those of the
 * others, so every operator here reads the next of a ring of copies that together
 * are larger than the last-level cache, or as large as the model's weights where these
 * are less.  Caches of keys and values take turns likewise.  Inputs are filled in front,
 * in every program alike.
 *
 * A decoder on a device replays what the first run of a program recorded, so there the
 * second run is timed.  On the host it would find its weights in the caches. */
#include "model/profile.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/process.h"
#include "base/rng.h"
#include "model/codec.h"
#include "model/segment.h"

enum { FEW = 8 };                       /* tokens that inputs are made of */
enum { REG_SPARE = N_REG, REGISTERS };  /* a second input, for what is not `again` */
enum { TRIES = 12, ROUNDS = 9, FEWEST = 3, WARM_UP = 5 };
enum { MOST_OPS = 1024, MOST_SLOTS = 256, MOST_FILLS = 6 };
#define ENOUGH 0.001                    /* seconds between few and many */
#define PATIENCE 1.0                    /* seconds; then FEWEST rounds must do */
#define STEADY 0.1                      /* warm-up ends when two slopes differ by less */

struct ring { char *data; size_t bytes; };

struct lm_timer {
    struct lm_profile_args a;
    const struct lm_arch *arch;
    struct lm_stream *stream;
    struct lm_buffer *hidden;
    int32_t rows;                       /* that hidden holds */
    int32_t *ids, *few;                 /* [rows] of all tokens, of the first FEW */
    float *logits;                      /* [vocab] */
    float *one;                         /* 1s, as many as a norm has gains */
    struct ring ring[LM_N_DTYPES];
};

struct fill { char *noise; struct lm_weight *w; };

/* What is measured now. */
struct subject {
    struct lm_timer *t;
    struct lm_use use;
    struct lm_weight **copy;            /* [n_copy] of its matrix */
    size_t n_copy, next;
    struct lm_weight *ones, *gain;      /* of norms: in front; that is measured */
    struct fill fill[MOST_FILLS];       /* of the operators in front */
    size_t n_fill;
    struct lm_op front[MOST_FILLS];
    size_t n_front;
    int32_t width[REGISTERS];
    struct lm_kv *kv;
    size_t n_slot, slot;
    double begun;
};

/* ---- weights ---------------------------------------------------------------------- */

/* Noise of the variance that keeps outputs at 1, in the number format. */
static enum lm_status fill_noise(struct lm_timer *t, uint32_t dtype, char *to,
                                 size_t bytes, struct lm_err *e)
{
    enum { N = 4096 };
    const struct lm_codec *c = lm_codec(dtype);
    int64_t n = c ? lm_row_bytes(dtype, N) : -1;
    struct lm_rng r = lm_rng(1, "profile", dtype);
    float x[N];

    if (n <= 0 || !c->encode)
        return lm_fail(e, LM_EUNSUPPORTED, "weights in %s are read only, so no made-up "
                       "ones can be measured", c ? c->name : "an unknown format");
    char *piece = lm_alloc((size_t)n, "profile");
    if (!piece)
        return lm_fail_memory(e, (size_t)n, "weights to be timed");
    for (int i = 0; i < N; i++)
        x[i] = (float)((lm_rng_unit(&r) - 0.5) * sqrt(12.0 / t->arch->hidden));
    c->encode(x, piece, N);
    for (size_t at = 0; at < bytes; at += (size_t)n)
        memcpy(to + at, piece, bytes - at < (size_t)n ? bytes - at : (size_t)n);
    lm_release(piece);
    return LM_OK;
}

/* Bytes that lie between two uses of the same weights in a model. */
static size_t working_set(const struct lm_timer *t, uint32_t dtype)
{
    const struct lm_codec *c = lm_codec(dtype);
    size_t model = t->a.params / c->block * c->bytes, caches = 2 * t->a.cache;

    return model < caches ? model : caches;
}

static enum lm_status reserve(struct lm_timer *t, uint32_t dtype, size_t bytes,
                              struct lm_err *e)
{
    struct ring *r = &t->ring[dtype];
    size_t least = working_set(t, dtype);

    bytes = bytes < least ? least : bytes;
    if (r->bytes >= bytes)
        return LM_OK;
    lm_release(r->data);
    *r = (struct ring){ .data = lm_alloc(bytes, "profile") };
    if (!r->data)
        return lm_fail_memory(e, bytes, "weights to be timed");
    r->bytes = bytes;
    return fill_noise(t, dtype, r->data, bytes, e);
}

static enum lm_status upload(struct lm_timer *t, const void *data, uint32_t dtype,
                             int64_t rows, int64_t cols, struct lm_weight **w,
                             struct lm_err *e)
{
    struct lm_tensor x = { .data = data, .rows = rows, .cols = cols, .dtype = dtype };

    return t->a.engine->ops->upload(t->a.engine->backend, &x, cols, w, e);
}

/* As many copies of the operator's matrix as are in the ring. */
static enum lm_status open_copies(struct subject *s, struct lm_err *e)
{
    struct lm_timer *t = s->t;
    const struct lm_use *u = &s->use;
    int64_t row = lm_row_bytes(u->dtype, u->k);
    size_t bytes;

    if (row <= 0 || !lm_mul_size((size_t)u->n, (size_t)row, &bytes))
        return lm_fail(e, LM_EBUG, "a matrix of %d x %d in number format %u", u->n, u->k,
                       u->dtype);
    if (u->dtype == LM_F32)
        bytes = (bytes + 63) / 64 * 64;
    enum lm_status st = reserve(t, u->dtype, bytes, e);
    if (st)
        return st;
    size_t n = working_set(t, u->dtype) / bytes + 1;
    n = n > t->ring[u->dtype].bytes / bytes ? t->ring[u->dtype].bytes / bytes : n;
    if (!(s->copy = lm_alloc_array(n, sizeof(struct lm_weight *), "profile")))
        return lm_fail_memory(e, n * sizeof *s->copy, "weights to be timed");
    while (!st && s->n_copy < n)
        if (!(st = upload(t, t->ring[u->dtype].data + s->n_copy * bytes, u->dtype, u->n,
                          u->k, &s->copy[s->n_copy], e)))
            s->n_copy++;
    return st;
}

/* ---- what stands in front --------------------------------------------------------- */

static void widen(struct subject *s, int reg, int32_t n)
{
    s->width[reg] = s->width[reg] < n ? n : s->width[reg];
}

static struct lm_op norm_op(const struct subject *s, const struct lm_weight *w, int y,
                            int a, int32_t n, int32_t k)
{
    return (struct lm_op){ .code = LM_OP_RMSNORM, .y = y, .a = a, .b = -1, .c = -1,
                           .w = w, .n = n, .k = k,
                           .eps = (float)s->t->arch->rms_eps };
}

/* Register y gets n values of noise: as the embedding of a vocabulary of FEW tokens,
 * which costs little beside what is measured.                                */
static enum lm_status put_front(struct subject *s, int y, int32_t n, struct lm_err *e)
{
    struct lm_timer *t = s->t;
    size_t bytes = sizeof(float) * FEW * (size_t)n;
    struct fill *f = &s->fill[s->n_fill];

    if (!(f->noise = lm_alloc(bytes, "profile")))
        return lm_fail_memory(e, bytes, "inputs to be timed");
    enum lm_status st = fill_noise(t, LM_F32, f->noise, bytes, e);
    if (!st)
        st = upload(t, f->noise, LM_F32, FEW, n, &f->w, e);
    if (st) {
        lm_release(f->noise);
        return st;
    }
    s->n_fill++;
    widen(s, y, n);
    s->front[s->n_front++] = (struct lm_op){ .code = LM_OP_EMBED, .y = y, .a = -1,
                                             .b = -1, .c = -1, .w = f->w, .n = FEW,
                                             .k = n };
    return LM_OK;
}

/* Inputs of `use`: registers as program.c has them. */
static enum lm_status open_front(struct subject *s, struct lm_err *e)
{
    const struct lm_use *u = &s->use;
    int32_t d = s->t->arch->hidden, q = u->n_head * u->head_dim;
    bool acc = u->flags & LM_OPF_ACC;
    enum lm_status st = LM_OK;

    widen(s, REG_HIDDEN, d);
    widen(s, REG_NORM, d);
    widen(s, REG_SPARE, d);
    s->front[s->n_front++] = norm_op(s, s->ones, REG_NORM, REG_HIDDEN, d, d);
    switch (u->code) {
    case LM_OP_LINEAR:
        widen(s, REG_Q, u->n);
        if (!acc)
            s->front[s->n_front++] = norm_op(s, s->ones, REG_SPARE, REG_HIDDEN, d,
                                              d);
        else if (!(st = put_front(s, REG_MIX, u->k, e)))
            st = put_front(s, REG_SPARE, u->k, e);
        return st;
    case LM_OP_SILU_MUL:
        widen(s, REG_MIX, u->n);
        st = put_front(s, REG_Q, u->n, e);
        return st ? st : put_front(s, REG_K, u->n, e);
    case LM_OP_RMSNORM:
        return u->n_head ? put_front(s, REG_Q, q, e) : LM_OK;
    case LM_OP_ATTENTION: case LM_OP_ROPE_KV:
        widen(s, REG_MIX, q);
        if (!(st = put_front(s, REG_Q, q, e)) &&
            !(st = put_front(s, REG_K, u->n_kv * u->head_dim, e)))
            st = put_front(s, REG_V, u->n_kv * u->head_dim, e);
        return st;
    default:
        return LM_OK;
    }
}

/* ---- the operator ----------------------------------------------------------------- */

static struct lm_op rope_op(struct subject *s)
{
    const struct lm_use *u = &s->use;

    return (struct lm_op){ .code = LM_OP_ROPE_KV, .y = -1, .a = REG_Q, .b = REG_K,
                           .c = REG_V, .w = s->t->a.engine->rope, .n_head = u->n_head,
                           .n_kv = u->n_kv, .head_dim = u->head_dim, .f = 1,
                           .slot = (int32_t)(s->slot++ % s->n_slot) };
}

/* The i-th of a program, on the next copy of what it reads. */
static struct lm_op next_op(struct subject *s, size_t i)
{
    const struct lm_use *u = &s->use;
    struct lm_op o = { .code = u->code, .flags = u->flags, .y = -1, .a = -1, .b = -1,
                       .c = -1, .n = u->n, .k = u->k };
    bool acc = u->flags & LM_OPF_ACC;

    if (s->n_copy)
        o.w = s->copy[s->next++ % s->n_copy];
    switch (u->code) {
    case LM_OP_EMBED:
        o.y = REG_HIDDEN;
        break;
    case LM_OP_LINEAR:
        o.y = acc ? REG_HIDDEN : REG_Q;
        o.a = !u->again && i % 2 ? REG_SPARE : acc ? REG_MIX : REG_NORM;
        break;
    case LM_OP_LOGITS:
        o.a = REG_NORM;
        break;
    case LM_OP_SILU_MUL:                /* in its place values would run to 0 */
        o.y = REG_MIX;
        o.a = REG_Q;
        o.b = REG_K;
        break;
    case LM_OP_ADD:
        o.y = o.a = REG_HIDDEN;
        o.b = REG_NORM;
        break;
    case LM_OP_ATTENTION: case LM_OP_ROPE_KV:
        o = rope_op(s);
        if (u->code == LM_OP_ATTENTION) {
            o.code = LM_OP_ATTENTION;
            o.y = REG_MIX;
            o.b = o.c = -1;
            o.w = NULL;
        }
        break;
    default:
        o = u->n_head ? norm_op(s, s->gain, REG_Q, REG_Q, u->n, u->k)
                      : norm_op(s, s->gain, REG_NORM, REG_HIDDEN, u->n, u->k);
    }
    return o;
}

static bool is_late(const struct subject *s)
{
    return lm_clock() - s->begun > PATIENCE;
}

/* Seconds of a run, of the second one where the backend has a device of its own. */
static enum lm_status run_exe(struct lm_timer *t, const struct lm_exe *x,
                              const struct lm_exec *args, double *seconds,
                              struct lm_err *e)
{
    const struct lm_engine *g = t->a.engine;
    enum lm_status st = LM_OK;

    for (int i = 0, runs = g->ops->use ? 2 : 1; i < runs && !st; i++) {
        struct lm_time time = { 0 };
        double start = lm_clock();

        st = g->ops->run(g->backend, t->stream, x, args, &time, e);
        *seconds = lm_clock() - start;
        runs = time.device > 0 ? 2 : runs;
    }
    return st;
}

static enum lm_status run_ops(struct subject *s, const struct lm_op *op, size_t n,
                              int32_t rows, int32_t pos, double *seconds,
                              struct lm_err *e)
{
    struct lm_timer *t = s->t;
    const struct lm_engine *g = t->a.engine;
    struct lm_program p = { .struct_size = sizeof p, .op = op, .n_op = n,
                            .width = s->width, .n_reg = REGISTERS };
    struct lm_exec args = { .struct_size = sizeof args, .rows = rows, .pos = pos,
                            .token = s->use.code == LM_OP_EMBED ? t->ids : t->few,
                            .hidden = t->hidden, .kv = s->kv,
                            .out = s->use.code == LM_OP_LOGITS ? t->logits : NULL };
    struct lm_exe *x = NULL;

    if (lm_canceled())
        return lm_fail(e, LM_ECANCELED, "the measurement was interrupted");
    enum lm_status st = g->ops->compile(g->backend, &p, &x, e);
    if (st)
        return st;
    st = run_exe(t, x, &args, seconds, e);
    g->ops->exe_free(g->backend, x);
    return st;
}

/* Seconds of a program with so many of them.  It is run again, on further copies, if the
 * system gave one of its processors to others meanwhile; not for ever.       */
static enum lm_status time_program(struct subject *s, size_t count, double *seconds,
                                   struct lm_err *e)
{
    size_t n = s->n_front + count;
    struct lm_op *op = lm_alloc_array(n, sizeof *op, "profile");
    enum lm_status st = op ? LM_OK : lm_fail_memory(e, n * sizeof *op, "a program");
    bool disturbed = true;

    for (int k = 0; k < TRIES && !st && disturbed; k++) {
        int64_t before = lm_process_preempted();

        memcpy(op, s->front, s->n_front * sizeof *op);
        for (size_t i = 0; i < count; i++)
            op[s->n_front + i] = next_op(s, i);
        st = run_ops(s, op, n, s->use.rows, s->use.pos, seconds, e);
        disturbed = lm_process_preempted() > before && !is_late(s);
    }
    lm_release(op);
    return st;
}

/* ---- caches of keys and values ---------------------------------------------------- */

/* Writes the rows that attention will read: what was never written takes no memory. */
static enum lm_status fill_kv(struct subject *s, struct lm_err *e)
{
    size_t n = s->n_front + s->n_slot;
    struct lm_op *op = lm_alloc_array(n, sizeof *op, "profile");
    int32_t end = s->use.pos + s->use.rows;
    enum lm_status st = op ? LM_OK : lm_fail_memory(e, n * sizeof *op, "a program");
    double seconds;

    for (int32_t at = 0, rows; at < end && !st; at += rows) {
        rows = lm_decoder_step(end - at, false).rows;
        rows = rows > s->t->rows ? s->t->rows : rows;
        memcpy(op, s->front, s->n_front * sizeof *op);
        for (size_t i = s->n_front; i < n; i++)
            op[i] = rope_op(s);
        st = run_ops(s, op, n, rows, at, &seconds, e);
    }
    lm_release(op);
    return st;
}

static enum lm_status open_kv(struct subject *s, struct lm_err *e)
{
    const struct lm_engine *g = s->t->a.engine;
    int32_t width[MOST_SLOTS], one = s->use.n_kv * s->use.head_dim;
    int32_t capacity = s->use.pos + s->use.rows;
    size_t bytes = 2 * sizeof(float) * (size_t)one * (size_t)capacity;

    s->n_slot = working_set(s->t, LM_F32) / bytes + 1;
    s->n_slot = s->n_slot > MOST_SLOTS ? MOST_SLOTS : s->n_slot;
    for (size_t i = 0; i < s->n_slot; i++)
        width[i] = one;
    enum lm_status st = g->ops->kv_open(g->backend, width, s->n_slot, capacity, &s->kv,
                                        e);
    return st ? st : fill_kv(s, e);
}

/* ---- the measurement -------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* few: of the shorter program; its seconds for the run's own. */
struct round { size_t few, many; double slope, shorter; };

static enum lm_status time_round(struct subject *s, struct round *r, struct lm_err *e)
{
    double longer;
    enum lm_status st = time_program(s, r->many, &longer, e);

    if (!st)
        st = time_program(s, r->few, &r->shorter, e);
    r->slope = (longer - r->shorter) / (double)(r->many - r->few);
    return st;
}

/* Enough operators for the clock, and a machine that has settled. */
static enum lm_status warm_up(struct subject *s, struct round *r, struct lm_err *e)
{
    double before = 0;
    enum lm_status st = time_round(s, r, e);

    while (!st && r->slope * (double)(r->many - r->few) < ENOUGH && r->many < MOST_OPS) {
        r->many *= 2;
        r->few = r->many / 8 ? r->many / 8 : 1;
        st = time_round(s, r, e);
    }
    for (int i = 0; !st && i < WARM_UP
         && fabs(r->slope - before) > STEADY * fabs(r->slope); i++) {
        before = r->slope;
        st = time_round(s, r, e);
    }
    return st;
}

static enum lm_status measure(struct subject *s, double *seconds, double *spread,
                              struct lm_err *e)
{
    struct round r = { .few = 1, .many = 2 };
    double v[ROUNDS];
    size_t n = 0;
    s->begun = lm_clock();
    enum lm_status st = warm_up(s, &r, e);

    while (!st && n < ROUNDS && (n < FEWEST || !is_late(s))) {
        st = time_round(s, &r, e);
        v[n++] = s->use.code ? r.slope
                             : r.shorter - r.slope * (double)(r.few + s->n_front);
    }
    if (st)
        return st;
    qsort(v, n, sizeof *v, by_value);
    *seconds = v[n / 2] > 0 ? v[n / 2] : 0;
    *spread = (v[3 * n / 4] - v[n / 4]) / 2;
    return LM_OK;
}

static void close_subject(struct subject *s)
{
    const struct lm_engine *g = s->t->a.engine;

    if (s->kv)
        g->ops->kv_close(g->backend, s->kv);
    while (s->n_fill) {
        g->ops->forget(g->backend, s->fill[--s->n_fill].w);
        lm_release(s->fill[s->n_fill].noise);
    }
    while (s->n_copy)
        g->ops->forget(g->backend, s->copy[--s->n_copy]);
    lm_release(s->copy);
    if (s->ones)
        g->ops->forget(g->backend, s->ones);
    if (s->gain)
        g->ops->forget(g->backend, s->gain);
}

enum lm_status lm_timer_measure(struct lm_timer *t, const struct lm_use *u,
                                double *seconds, double *spread, struct lm_err *e)
{
    struct subject s = { .t = t, .use = *u };
    int32_t d = t->arch->hidden;

    if (!u->code)                       /* a run of nothing but norms */
        s.use.n = s.use.k = d;
    enum lm_status st = upload(t, t->one, LM_F32, 1, d, &s.ones, e);
    if (!st && (!u->code || u->code == LM_OP_RMSNORM))
        st = upload(t, t->one, LM_F32, 1, s.use.n, &s.gain, e);
    if (!st && u->dtype)
        st = open_copies(&s, e);
    if (!st)
        st = open_front(&s, e);
    if (!st && (u->code == LM_OP_ATTENTION || u->code == LM_OP_ROPE_KV))
        st = open_kv(&s, e);
    if (!st)
        st = measure(&s, seconds, spread, e);
    close_subject(&s);
    return st;
}

/* ---- opening ---------------------------------------------------------------------- */

static enum lm_status fill_inputs(struct lm_timer *t, struct lm_err *e)
{
    const struct lm_engine *g = t->a.engine;
    int64_t n = (int64_t)t->rows * t->arch->hidden;
    struct lm_rng r = lm_rng(1, "profile/inputs", 0);
    float *x = lm_alloc_array((size_t)n, sizeof *x, "profile");

    if (!x)
        return lm_fail_memory(e, (size_t)n * sizeof *x, "inputs to be timed");
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)((lm_rng_unit(&r) - 0.5) * sqrt(12.0));
    for (int32_t i = 0; i < t->rows; i++) {
        t->ids[i] = (int32_t)((INT64_C(7919) * i + 13) % t->arch->vocab);
        t->few[i] = i % FEW;
    }
    enum lm_status st = g->ops->buffer(g->backend, n, &t->hidden, e);
    if (!st)
        st = g->ops->write(g->backend, t->hidden, 0, x, n, e);
    lm_release(x);
    return st;
}

enum lm_status lm_timer_open(const struct lm_profile_args *a, struct lm_timer **out,
                             struct lm_err *e)
{
    const struct lm_engine *g = a->engine;
    struct lm_timer *t = lm_alloc(sizeof *t, "profile");
    int32_t deep = a->tokens ? a->context + a->tokens : 1;

    if (!t)
        return lm_fail_memory(e, sizeof *t, "a profile");
    t->a = *a;
    t->arch = g->arch;
    t->rows = lm_decoder_step(a->prefill > deep ? a->prefill : deep, false).rows;
    size_t width = (size_t)(g->arch->hidden > g->arch->head_dim ? g->arch->hidden
                                                                : g->arch->head_dim);
    t->ids = lm_alloc_array((size_t)t->rows, sizeof *t->ids, "profile");
    t->few = lm_alloc_array((size_t)t->rows, sizeof *t->few, "profile");
    t->logits = lm_alloc_array((size_t)g->arch->vocab, sizeof *t->logits, "profile");
    t->one = lm_alloc_array(width, sizeof *t->one, "profile");
    enum lm_status st = t->ids && t->few && t->logits && t->one
        ? g->ops->stream_open(g->backend, a->threads, &t->stream, e)
        : lm_fail_memory(e, sizeof(float) * (size_t)g->arch->vocab, "a profile");
    for (size_t i = 0; !st && i < width; i++)
        t->one[i] = 1;
    if (!st)
        st = fill_inputs(t, e);
    if (st)
        lm_timer_close(t);
    else
        *out = t;
    return st;
}

void lm_timer_close(struct lm_timer *t)
{
    const struct lm_engine *g = t->a.engine;

    if (t->hidden)
        g->ops->buffer_free(g->backend, t->hidden);
    if (t->stream)
        g->ops->stream_close(g->backend, t->stream);
    for (int i = 0; i < LM_N_DTYPES; i++)
        lm_release(t->ring[i].data);
    lm_release(t->ids);
    lm_release(t->few);
    lm_release(t->logits);
    lm_release(t->one);
    lm_release(t);
}
