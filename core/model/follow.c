/* SPDX-License-Identifier: Apache-2.0 */
/* follow.c -- see follow.h.
 *
 * Work is cut and added up as in the calibration pass (stats.c): groups of sequences by
 * a rule that knows nothing of threads, on benches as many as there are threads; of a
 * group X^T X and T^T X are products of floats, which are added in double, group after
 * group.                                                                         */
#include <string.h>

#include "base/file.h"
#include "base/linalg.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "model/follow.h"
#include "model/segment.h"

struct bench {                          /* one worker's place */
    struct lm_stream *stream;
    struct lm_kv *kv;
    struct lm_buffer *hidden, *tap;
    float *x, *t;                       /* [tokens][k], [tokens][hidden] */
    float *gram, *cross;                /* [k][k], lower triangle; [hidden][k] */
    enum lm_status status;
    struct lm_err err;
};

struct lm_follow {
    struct lm_engine *g;
    const int32_t *ids;
    int64_t n_seq, length, group, n_group, hidden;
    size_t memory;
    float *stream[2];                   /* [n_seq * length][hidden], mapped */

    /* of the work at hand */
    struct lm_segment *seg;
    enum lm_follow_stream which;
    struct lm_exe *exe;
    int64_t k;                          /* columns that are measured; 0: none */
    double *gram, *cross;
    struct bench *bench;                /* [n_bench] */
    int64_t n_bench, first, wave;       /* groups first .. first + wave - 1 run */
};

static size_t stream_bytes(const struct lm_follow *f)
{
    return (size_t)(f->n_seq * f->length * f->hidden) * sizeof(float);
}

enum lm_status lm_follow_open(struct lm_engine *g, const int32_t *ids, int64_t n_seq,
                              int64_t length, size_t memory, const char *folder,
                              struct lm_follow **out, struct lm_err *e)
{
    struct lm_follow *f = lm_alloc(sizeof *f, "streams");
    void *stream[2] = { NULL, NULL };
    int64_t floats = 0;
    enum lm_status st = LM_OK;

    *out = f;
    if (!f)
        return lm_fail_memory(e, sizeof *f, "two residual streams");
    *f = (struct lm_follow){ .g = g, .ids = ids, .n_seq = n_seq, .length = length,
                             .hidden = g->arch->hidden, .memory = memory };
    if (n_seq < 1 || length < 1 || length > INT32_MAX / 2
        || n_seq > INT32_MAX / 2 / length
        || !lm_mul_i64(n_seq * length, f->hidden * 4, &floats))
        st = lm_fail(e, LM_EINPUT, "the calibration sample is too large");
    f->group = st ? 1 : lm_sample_group(n_seq, length);
    f->n_group = (n_seq + f->group - 1) / f->group;
    if (!st)
        st = lm_ids_check(g->arch, ids, (size_t)(n_seq * length), e);
    if (!st)
        st = lm_length_check(g->arch, length, e);
    for (int i = 0; i < 2 && !st; i++) {
        st = lm_scratch_open(folder, (size_t)floats, &stream[i], e);
        f->stream[i] = stream[i];
    }
    if (st) {
        lm_follow_close(f);
        *out = NULL;
    }
    return st;
}

void lm_follow_close(struct lm_follow *f)
{
    if (!f)
        return;
    for (int i = 0; i < 2; i++)
        lm_scratch_close(f->stream[i], stream_bytes(f));
    lm_release(f);
}

/* ---- one group ------------------------------------------------------------------- */

static const struct lm_mat *last_matrix(const struct lm_segment *s)
{
    return s->spec.kind == LM_SEG_MLP ? &s->spec.down : &s->spec.o;
}

/* t of the tokens of a sequence. */
static void put_targets(const struct lm_follow *f, int64_t first, float *t)
{
    const float *bias = last_matrix(f->seg)->bias;
    const float *to = f->stream[LM_FOLLOW_DENSE] + first * f->hidden;
    const float *from = f->stream[LM_FOLLOW_CANDIDATE] + first * f->hidden;

    for (int64_t i = 0; i < f->length; i++, t += f->hidden, to += f->hidden,
                                            from += f->hidden)
        for (int64_t j = 0; j < f->hidden; j++)
            t[j] = to[j] - from[j] - (bias ? bias[j] : 0);
}

/* row: where in X this sequence begins. */
static enum lm_status do_sequence(const struct lm_follow *f, struct bench *w,
                                  int64_t seq, int64_t row)
{
    const struct lm_engine *g = f->g;
    int64_t first = seq * f->length, floats = f->length * f->hidden;
    float *now = f->stream[f->which] + first * f->hidden;
    struct lm_exec args = { .struct_size = sizeof args, .rows = (int32_t)f->length,
                            .hidden = w->hidden, .kv = w->kv, .tap = { w->tap } };
    enum lm_status st = LM_OK;

    if (f->seg->spec.kind == LM_SEG_EMBED)
        args.token = f->ids + first;
    else
        st = g->ops->write(g->backend, w->hidden, 0, now, floats, &w->err);
    if (!st)
        st = g->ops->run(g->backend, w->stream, f->exe, &args, NULL, &w->err);
    if (!st && !f->k)
        return g->ops->read(g->backend, w->hidden, 0, now, floats, &w->err);
    if (!st)
        st = g->ops->read(g->backend, w->tap, 0, w->x + row * f->k, f->length * f->k,
                          &w->err);
    if (!st)
        put_targets(f, first, w->t + row * f->hidden);
    return st;
}

static void do_group(void *ctx, int64_t i, uint32_t worker)
{
    struct lm_follow *f = ctx;
    struct bench *w = &f->bench[i];     /* by place in the wave, not by worker */
    int64_t first = (f->first + i) * f->group, last = first + f->group;

    (void)worker;
    last = last < f->n_seq ? last : f->n_seq;
    w->status = LM_OK;
    for (int64_t s = first; s < last && !w->status; s++)
        w->status = lm_canceled() ? lm_fail(&w->err, LM_ECANCELED, "interrupted")
                                  : do_sequence(f, w, s, (s - first) * f->length);
    if (!w->status && f->k) {
        int64_t tokens = (last - first) * f->length;

        lm_syrk(tokens, f->k, w->x, f->k, 0, w->gram, f->k);
        lm_gemm('t', 'n', f->hidden, f->k, tokens, 1, w->t, f->hidden, w->x, f->k, 0,
                w->cross, f->k);
    }
    lm_progress_alive();
}

/* Rows of the Gram matrix, then of the other one, over the wave in order. */
static void add_row(void *ctx, int64_t r, uint32_t worker)
{
    struct lm_follow *f = ctx;
    bool gram = r < f->k;
    int64_t at = (gram ? r : r - f->k) * f->k, n = gram ? r + 1 : f->k;
    double *to = (gram ? f->gram : f->cross) + at;

    (void)worker;
    for (int64_t i = 0; i < f->wave; i++) {
        const float *from = (gram ? f->bench[i].gram : f->bench[i].cross) + at;

        for (int64_t j = 0; j < n; j++)
            to[j] += (double)from[j];
    }
}

static void mirror_row(void *ctx, int64_t r, uint32_t worker)
{
    struct lm_follow *f = ctx;

    (void)worker;
    for (int64_t j = r + 1; j < f->k; j++)
        f->gram[r * f->k + j] = f->gram[j * f->k + r];
}

/* ---- all groups -------------------------------------------------------------------- */

static enum lm_status bench_open(const struct lm_follow *f, struct bench *w,
                                 struct lm_err *e)
{
    const struct lm_engine *g = f->g;
    struct lm_network net = { .seg = (struct lm_segment **)&f->seg, .n = 1 };
    int32_t width = lm_network_kv_width(&net, g->arch->head_dim);
    size_t tokens = (size_t)(f->group * f->length), k = (size_t)f->k;
    enum lm_status st = g->ops->stream_open(g->backend, 1, &w->stream, e);

    if (!st && width > 0)
        st = g->ops->kv_open(g->backend, &width, 1, f->length, &w->kv, e);
    if (!st)
        st = g->ops->buffer(g->backend, f->length * f->hidden, &w->hidden, e);
    if (st || !k)
        return st;
    w->x = lm_alloc_array(tokens * k, sizeof *w->x, "streams");
    w->t = lm_alloc_array(tokens * (size_t)f->hidden, sizeof *w->t, "streams");
    w->gram = lm_alloc_array(k * k, sizeof *w->gram, "streams");
    w->cross = lm_alloc_array((size_t)f->hidden * k, sizeof *w->cross, "streams");
    if (!w->x || !w->t || !w->gram || !w->cross)
        return lm_fail_memory(e, (tokens + k) * k * sizeof *w->x, "inputs of a block");
    return g->ops->buffer(g->backend, f->length * f->k, &w->tap, e);
}

static void bench_close(const struct lm_follow *f, struct bench *w)
{
    const struct lm_engine *g = f->g;

    if (w->tap)
        g->ops->buffer_free(g->backend, w->tap);
    if (w->hidden)
        g->ops->buffer_free(g->backend, w->hidden);
    if (w->kv)
        g->ops->kv_close(g->backend, w->kv);
    if (w->stream)
        g->ops->stream_close(g->backend, w->stream);
    lm_release(w->x);
    lm_release(w->t);
    lm_release(w->gram);
    lm_release(w->cross);
}

static enum lm_status run_wave(struct lm_follow *f, struct lm_err *e)
{
    if (lm_parallel(f->wave, do_group, f))
        return lm_fail(e, LM_ECANCELED, "interrupted");
    for (int64_t i = 0; i < f->wave; i++)
        if (f->bench[i].status)
            return lm_fail(e, f->bench[i].status, "%s", f->bench[i].err.text);
    if (f->k && lm_parallel(f->k + f->hidden, add_row, f))
        return lm_fail(e, LM_ECANCELED, "interrupted");
    return LM_OK;
}

double lm_follow_bytes(int64_t n_seq, int64_t length, int64_t k, int64_t n)
{
    double tokens = (double)lm_sample_group(n_seq, length) * (double)length;

    return sizeof(float) * (double)(k + n) * (tokens + (double)k);
}

/* As many as there are threads, or as fit into the memory. */
static int64_t count_benches(const struct lm_follow *f)
{
    int64_t n = lm_pool_threads() < f->n_group ? lm_pool_threads() : f->n_group;
    double bytes = lm_follow_bytes(f->n_seq, f->length, f->k, f->hidden);

    if (f->k && bytes * (double)n > (double)f->memory)
        n = (int64_t)((double)f->memory / bytes);
    return n < 1 ? 1 : n;
}

static enum lm_status run_all(struct lm_follow *f, struct lm_err *e)
{
    enum lm_status st = LM_OK;

    f->n_bench = count_benches(f);
    f->bench = lm_alloc_array((size_t)f->n_bench, sizeof *f->bench, "streams");
    if (!f->bench)
        return lm_fail_memory(e, (size_t)f->n_bench * sizeof *f->bench, "streams");
    for (int64_t i = 0; i < f->n_bench && !st; i++)
        st = bench_open(f, &f->bench[i], e);
    for (f->first = 0; f->first < f->n_group && !st; f->first += f->n_bench) {
        int64_t left = f->n_group - f->first;

        f->wave = left < f->n_bench ? left : f->n_bench;
        st = run_wave(f, e);
    }
    if (!st && lm_parallel(f->k, mirror_row, f))
        st = lm_fail(e, LM_ECANCELED, "interrupted");
    for (int64_t i = 0; i < f->n_bench; i++)
        bench_close(f, &f->bench[i]);
    lm_release(f->bench);
    f->bench = NULL;
    return st;
}

enum lm_status lm_follow_run(struct lm_follow *f, enum lm_follow_stream which,
                             struct lm_segment *s, struct lm_err *e)
{
    enum lm_status st = lm_segment_hold(s, e);

    if (st)
        return st;
    f->which = which;
    f->seg = s;
    f->exe = s->exe[0];
    f->k = 0;
    st = run_all(f, e);
    lm_segment_drop(s);
    return st;
}

enum lm_status lm_follow_measure(struct lm_follow *f, struct lm_segment *s, double *gram,
                                 double *cross, struct lm_err *e)
{
    enum lm_status st = lm_segment_hold(s, e);

    if (st)
        return st;
    f->which = LM_FOLLOW_CANDIDATE;
    f->seg = s;
    f->k = last_matrix(s)->cols;
    f->gram = gram;
    f->cross = cross;
    memset(gram, 0, (size_t)(f->k * f->k) * sizeof *gram);
    memset(cross, 0, (size_t)(f->hidden * f->k) * sizeof *cross);
    if (!(st = lm_segment_tapped(s, &f->exe, e))) {
        st = run_all(f, e);
        f->g->ops->exe_free(f->g->backend, f->exe);
    }
    lm_segment_drop(s);
    return st;
}
