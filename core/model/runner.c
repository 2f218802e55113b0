/* SPDX-License-Identifier: Apache-2.0 */
/* runner.c -- one worker's way through networks, segment by segment.
 *
 * state[i] is the residual stream behind segment i of the last path, [n][hidden],
 * for i < n_path; key[i] is that segment's key.  A path that begins with the
 * same keys over the same ids resumes behind the last common segment.  When a
 * path is long and wide, only every step-th state is kept (KEEP_BYTES), and a
 * few segments behind a kept one are done again.
 *
 * Whole sequences are run at position 0 with all rows, so the cache holds one
 * slot, written and read by one attention segment after the other.           */
#include <string.h>

#include "base/mem.h"
#include "base/pool.h"
#include "model/segment.h"

#define KEEP_BYTES ((size_t)256 << 20)

struct state { struct lm_buffer *b; int64_t floats; uint64_t key; bool kept; };

struct lm_runner {
    struct lm_engine *g;
    struct lm_stream *stream;
    struct lm_kv *kv;
    int64_t kv_rows;
    int32_t kv_width;
    struct state *state;                /* [n_state] */
    size_t n_state, n_path;
    uint32_t precision;                 /* of the path */
    struct state scratch, work, lesson; /* lesson: the teacher's vectors */
    int32_t *ids;
    size_t n_ids;
};

enum lm_status lm_runner_open(struct lm_engine *g, struct lm_runner **out,
                              struct lm_err *e)
{
    *out = NULL;
    struct lm_runner *r = lm_alloc(sizeof *r, "runner");
    if (!r)
        return lm_fail_memory(e, sizeof *r, "a runner");
    r->g = g;
    enum lm_status st = g->ops->stream_open(g->backend, 1, &r->stream, e);
    if (st) {
        lm_release(r);
        return st;
    }
    *out = r;
    return LM_OK;
}

static void state_free(struct lm_runner *r, struct state *s)
{
    if (s->b)
        r->g->ops->buffer_free(r->g->backend, s->b);
    *s = (struct state){ 0 };
}

void lm_runner_close(struct lm_runner *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->n_state; i++)
        state_free(r, &r->state[i]);
    state_free(r, &r->scratch);
    state_free(r, &r->work);
    state_free(r, &r->lesson);
    if (r->kv)
        r->g->ops->kv_close(r->g->backend, r->kv);
    r->g->ops->stream_close(r->g->backend, r->stream);
    lm_release(r->state);
    lm_release(r->ids);
    lm_release(r);
}

/* ---- memory ---------------------------------------------------------------------- */
static enum lm_status state_reserve(struct lm_runner *r, struct state *s, size_t n,
                                    struct lm_err *e)
{
    int64_t floats = (int64_t)n * r->g->arch->hidden;
    if (s->floats >= floats)
        return LM_OK;
    state_free(r, s);
    enum lm_status st = r->g->ops->buffer(r->g->backend, floats, &s->b, e);
    if (!st)
        s->floats = floats;
    return st;
}

static enum lm_status kv_reserve(struct lm_runner *r, const struct lm_network *net,
                                 size_t n, struct lm_err *e)
{
    const struct lm_engine *g = r->g;
    int32_t width = lm_network_kv_width(net, g->arch->head_dim);
    if (r->kv && r->kv_width >= width && r->kv_rows >= (int64_t)n)
        return LM_OK;
    if (r->kv)
        g->ops->kv_close(g->backend, r->kv);
    r->kv = NULL;
    r->kv_width = width > r->kv_width ? width : r->kv_width;
    r->kv_rows = (int64_t)n > r->kv_rows ? (int64_t)n : r->kv_rows;
    return g->ops->kv_open(g->backend, &r->kv_width, 1, r->kv_rows, &r->kv, e);
}

static enum lm_status states_reserve(struct lm_runner *r, size_t n, struct lm_err *e)
{
    if (r->n_state >= n)
        return LM_OK;
    struct state *s = lm_resize(r->state, n * sizeof *s);
    if (!s)
        return lm_fail_memory(e, n * sizeof *s, "hidden states");
    memset(s + r->n_state, 0, (n - r->n_state) * sizeof *s);
    r->state = s;
    r->n_state = n;
    return LM_OK;
}

/* Forgets the path when ids or precision are others than before. */
static enum lm_status path_set(struct lm_runner *r, uint32_t precision,
                               const int32_t *ids, size_t n, struct lm_err *e)
{
    bool same = r->precision == precision;
    r->precision = precision;
    if (!same)
        r->n_path = 0;
    if (r->n_ids == n && memcmp(r->ids, ids, n * sizeof *ids) == 0)
        return LM_OK;
    r->n_path = 0;
    if (r->n_ids < n) {
        lm_release(r->ids);
        r->n_ids = 0;
        r->ids = lm_alloc_array(n, sizeof *ids, "token ids");
        if (!r->ids)
            return lm_fail_memory(e, n * sizeof *ids, "token ids");
    }
    memcpy(r->ids, ids, n * sizeof *ids);
    r->n_ids = n;
    return LM_OK;
}

/* ---- the path ----------------------------------------------------------------- */
static enum lm_status run(struct lm_runner *r, const struct lm_network *net, size_t i,
                          enum head_kind head, const struct lm_exec *args,
                          struct lm_err *e)
{
    struct lm_exe *x;
    enum lm_status st = lm_segment_exe(net, i, head, &x, e);
    if (!st && lm_canceled())
        return lm_fail(e, LM_ECANCELED, "interrupted");
    return st ? st : r->g->ops->run(r->g->backend, r->stream, x, args, NULL, e);
}

/* Segments of the path that need not be run again: behind the last of them a
 * state is kept.                                                             */
static size_t resume_at(const struct lm_runner *r, const struct lm_network *net)
{
    size_t same = 0;
    while (same < r->n_path && same + 1 < net->n
           && r->state[same].key == net->seg[same]->spec.key)
        same++;
    while (same > 0 && !r->state[same - 1].kept)
        same--;
    return same;
}

static size_t keep_step(const struct lm_runner *r, const struct lm_network *net, size_t n)
{
    size_t bytes = n * (size_t)r->g->arch->hidden * sizeof(float);
    size_t most = KEEP_BYTES / bytes;
    return most < 1 ? net->n : (net->n + most - 1) / most;
}

/* Segment i of net, from `from` (NULL: the embedding) into *to. */
static enum lm_status step(struct lm_runner *r, const struct lm_network *net, size_t i,
                           const int32_t *ids, size_t n, struct lm_buffer *from,
                           struct lm_buffer *to, struct lm_err *e)
{
    const struct lm_engine *g = r->g;
    struct lm_exec args = { .struct_size = sizeof args, .rows = (int32_t)n, .token = ids,
                            .hidden = to, .kv = r->kv };
    enum lm_status st = LM_OK;
    if (from && from != to)
        st = g->ops->copy(g->backend, to, from, (int64_t)n * g->arch->hidden, e);
    return st ? st : run(r, net, i, HEAD_CE, &args, e);
}

/* *final: hidden states before the head; not to be written. */
static enum lm_status run_path(struct lm_runner *r, const struct lm_network *net,
                               const int32_t *ids, size_t n, struct lm_buffer **final,
                               struct lm_err *e)
{
    enum lm_status st = lm_network_check(net, e);
    if (!st)
        st = lm_ids_check(r->g->arch, ids, n, e);
    if (!st)
        st = lm_length_check(r->g->arch, (int64_t)n, e);
    if (!st)
        st = path_set(r, net->precision, ids, n, e);
    if (!st)
        st = states_reserve(r, net->n, e);
    if (!st)
        st = kv_reserve(r, net, n, e);
    if (!st)
        st = state_reserve(r, &r->scratch, n, e);
    if (st)
        return st;
    size_t from = resume_at(r, net), every = keep_step(r, net, n);
    struct lm_buffer *now = from > 0 ? r->state[from - 1].b : NULL;
    r->n_path = from;
    for (size_t i = from; i + 1 < net->n && !st; i++) {
        struct state *s = &r->state[i];
        bool keep = i % every == 0 || i + 2 == net->n;
        if (keep)
            st = state_reserve(r, s, n, e);
        struct lm_buffer *to = keep ? s->b : r->scratch.b;
        s->key = net->seg[i]->spec.key;
        s->kept = keep;
        if (!st)
            st = step(r, net, i, ids, n, now, to, e);
        if (!st)
            r->n_path = i + 1;
        now = to;
    }
    *final = now;
    return st;
}

/* ---- heads -------------------------------------------------------------------- */
enum lm_status lm_runner_losses(struct lm_runner *r, const struct lm_network *net,
                                const int32_t *ids, size_t n, float *nll,
                                struct lm_err *e)
{
    struct lm_exec args = { .struct_size = sizeof args, .rows = (int32_t)n - 1,
                            .target = ids + 1, .out = nll };
    if (n < 2)
        return lm_fail(e, LM_EINPUT, "a loss needs at least two tokens");
    enum lm_status st = run_path(r, net, ids, n, &args.hidden, e);
    return st ? st : run(r, net, net->n - 1, HEAD_CE, &args, e);
}

enum lm_status lm_runner_expect(struct lm_runner *r, const struct lm_network *net,
                                const int32_t *ids, size_t n, float *expect,
                                float *plogp, struct lm_err *e)
{
    const struct lm_engine *g = r->g;
    int64_t floats = (int64_t)n * g->arch->hidden;
    struct lm_buffer *final = NULL;
    struct lm_exec args = { .struct_size = sizeof args, .rows = (int32_t)n,
                            .out = plogp };
    enum lm_status st = run_path(r, net, ids, n, &final, e);
    if (!st)
        st = state_reserve(r, &r->work, n, e);
    if (!st)
        st = g->ops->copy(g->backend, r->work.b, final, floats, e);
    args.hidden = r->work.b;            /* the expectation replaces it */
    if (!st)
        st = run(r, net, net->n - 1, HEAD_EXPECT, &args, e);
    return st ? st : g->ops->read(g->backend, r->work.b, 0, expect, floats, e);
}

enum lm_status lm_runner_kl(struct lm_runner *r, const struct lm_network *net,
                            struct lm_teacher *memo, const int32_t *ids, size_t n,
                            float *kl, struct lm_err *e)
{
    const struct lm_engine *g = r->g;
    struct lm_lesson lesson = { 0 };
    struct lm_exec args = { .struct_size = sizeof args, .rows = (int32_t)n, .out = kl };
    enum lm_status st = lm_teacher_lesson(memo, r, net->precision, ids, n, &lesson, e);
    if (!st)
        st = state_reserve(r, &r->lesson, n, e);
    if (!st)
        st = g->ops->write(g->backend, r->lesson.b, 0, lesson.expect,
                           (int64_t)n * g->arch->hidden, e);
    if (!st)
        st = run_path(r, net, ids, n, &args.hidden, e);
    args.teacher = r->lesson.b;
    if (!st)
        st = run(r, net, net->n - 1, HEAD_KL, &args, e);
    for (size_t i = 0; i < n && !st; i++) {
        float v = kl[i] + lesson.plogp[i];
        kl[i] = v < 0 ? 0 : v;          /* rounding; NaN stays */
    }
    if (lesson.owned) {
        lm_release(lesson.expect);
        lm_release(lesson.plogp);
    }
    return st;
}
