/* SPDX-License-Identifier: Apache-2.0 */
/* runner.c -- one worker's way through networks, segment by segment.
 *
 * state[i] is the residual stream behind segment i of the last path, [n][hidden],
 * for i < n_path; key[i] is that segment's key.  A path that begins with the
 * same keys over the same ids resumes behind the last common segment.
 *
 * All states are kept where they fit into the limit.  Where they do not, those are
 * kept which lm_runner_plan() named, because a later network parts from this one
 * there, and with what memory is left every so many; a few segments behind a kept one
 * are done again.
 *
 * Whole sequences are run at position 0 with all rows, so the cache holds one
 * slot, written and read by one attention segment after the other.           */
#include <string.h>

#include "base/mem.h"
#include "base/pool.h"
#include "model/segment.h"

#define KEEP_BYTES ((size_t)256 << 20)

struct area { struct lm_buffer *b; int64_t floats; };
struct state { struct lm_buffer *b; uint64_t key; };    /* b NULL: not kept */

struct lm_runner {
    struct lm_engine *g;
    struct lm_stream *stream;
    struct lm_kv *kv;
    int64_t kv_rows;
    int32_t kv_width;
    struct state *state;                /* [n_state] */
    size_t n_state, n_path;
    struct lm_buffer **spare;           /* [n_spare] of n_made, each of `floats` */
    size_t n_spare, n_made;
    int64_t floats;
    size_t limit;                       /* bytes of states */
    const size_t *depth;                /* [n_depth] planned, deepest first */
    size_t n_depth;
    uint32_t precision;                 /* of the path */
    struct area scratch, work, lesson;  /* lesson: the teacher's vectors */
    int32_t *ids;
    size_t n_ids;
    struct lm_work done;
};

enum lm_status lm_runner_open(struct lm_engine *g, struct lm_runner **out,
                              struct lm_err *e)
{
    *out = NULL;
    struct lm_runner *r = lm_alloc(sizeof *r, "runner");
    if (!r)
        return lm_fail_memory(e, sizeof *r, "a runner");
    r->g = g;
    r->limit = KEEP_BYTES;
    enum lm_status st = g->ops->stream_open(g->backend, 1, &r->stream, e);
    if (st) {
        lm_release(r);
        return st;
    }
    *out = r;
    return LM_OK;
}

size_t lm_runner_limit(struct lm_runner *r, size_t bytes)
{
    size_t before = r->limit;
    r->limit = bytes;
    return before;
}

void lm_runner_plan(struct lm_runner *r, const size_t *depth, size_t n)
{
    r->depth = depth;
    r->n_depth = n;
}

struct lm_work lm_runner_work(const struct lm_runner *r)
{
    return r->done;
}

static void area_free(struct lm_runner *r, struct area *s)
{
    if (s->b)
        r->g->ops->buffer_free(r->g->backend, s->b);
    *s = (struct area){ 0 };
}

/* Their buffers are kept for other states. */
static void states_drop(struct lm_runner *r, size_t from, size_t end)
{
    for (size_t i = from; i < end && i < r->n_state; i++) {
        if (r->state[i].b)
            r->spare[r->n_spare++] = r->state[i].b;
        r->state[i].b = NULL;
    }
}

void lm_runner_forget(struct lm_runner *r)
{
    states_drop(r, 0, r->n_state);
    r->n_path = 0;
}

static void states_free(struct lm_runner *r)
{
    lm_runner_forget(r);
    while (r->n_spare)
        r->g->ops->buffer_free(r->g->backend, r->spare[--r->n_spare]);
    r->n_made = 0;
}

void lm_runner_release(struct lm_runner *r)
{
    states_free(r);
    area_free(r, &r->scratch);
    area_free(r, &r->work);
    area_free(r, &r->lesson);
    if (r->kv)
        r->g->ops->kv_close(r->g->backend, r->kv);
    r->kv = NULL;
}

void lm_runner_close(struct lm_runner *r)
{
    if (!r)
        return;
    lm_runner_release(r);
    r->g->ops->stream_close(r->g->backend, r->stream);
    lm_release(r->spare);
    lm_release(r->state);
    lm_release(r->ids);
    lm_release(r);
}

/* ---- memory ---------------------------------------------------------------------- */
static enum lm_status area_reserve(struct lm_runner *r, struct area *s, size_t n,
                                   struct lm_err *e)
{
    int64_t floats = (int64_t)n * r->g->arch->hidden;
    if (s->floats >= floats)
        return LM_OK;
    area_free(r, s);
    enum lm_status st = r->g->ops->buffer(r->g->backend, floats, &s->b, e);
    if (!st)
        s->floats = floats;
    return st;
}

/* A buffer for state i, spare or new. */
static enum lm_status state_take(struct lm_runner *r, size_t i, struct lm_err *e)
{
    if (!r->n_spare) {
        struct lm_buffer **more = lm_resize(r->spare, (r->n_made + 1) * sizeof *more);
        if (!more)
            return lm_fail_memory(e, (r->n_made + 1) * sizeof *more, "hidden states");
        r->spare = more;
        enum lm_status st = r->g->ops->buffer(r->g->backend, r->floats, &r->spare[0], e);
        if (st)
            return st;
        r->n_made++;
        r->n_spare = 1;
    }
    r->state[i].b = r->spare[--r->n_spare];
    return LM_OK;
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

/* Places for n states of n_ids tokens each. */
static enum lm_status states_reserve(struct lm_runner *r, size_t n, size_t n_ids,
                                     struct lm_err *e)
{
    int64_t floats = (int64_t)n_ids * r->g->arch->hidden;
    if (r->floats < floats) {
        states_free(r);
        r->floats = floats;
    }
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
    if (r->precision == precision && r->n_ids == n
        && memcmp(r->ids, ids, n * sizeof *ids) == 0)
        return LM_OK;
    lm_runner_forget(r);
    r->precision = precision;
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
    enum lm_status st = lm_segment_hold(net->seg[i], e);
    if (st)
        return st;
    st = lm_segment_exe(net, i, head, &x, e);
    if (!st && lm_canceled())
        st = lm_fail(e, LM_ECANCELED, "interrupted");
    if (!st)
        st = r->g->ops->run(r->g->backend, r->stream, x, args, NULL, e);
    lm_segment_drop(net->seg[i]);
    return st;
}

/* Segments of the path that need not be run again: behind the last of them a
 * state is kept.                                                             */
static size_t resume_at(const struct lm_runner *r, const struct lm_network *net)
{
    size_t same = 0;
    while (same < r->n_path && same + 1 < net->n
           && r->state[same].key == net->seg[same]->spec.key)
        same++;
    while (same > 0 && !r->state[same - 1].b)
        same--;
    return same;
}

/* Which states of a path are kept: the last, planned ones, and each `every`-th. */
struct keeping { size_t last, every, n_depth; };

static struct keeping choose(const struct lm_runner *r, const struct lm_network *net)
{
    size_t most = r->limit / ((size_t)r->floats * sizeof(float)), n = net->n - 1;
    struct keeping k = { .last = n - 1, .every = 1 };
    if (most >= n)
        return k;
    k.n_depth = r->n_depth < most ? r->n_depth : most;
    most -= k.n_depth;
    k.every = most ? (n + most - 1) / most : net->n;
    return k;
}

static bool is_kept(const struct lm_runner *r, const struct keeping *k, size_t i)
{
    bool planned = false;
    for (size_t d = 0; d < k->n_depth; d++)
        planned |= r->depth[d] == i + 1;
    return planned || i == k->last || i % k->every == 0;
}

static void count(struct lm_runner *r, const struct lm_network *net, size_t from,
                  size_t n)
{
    for (size_t i = 0; i < net->n; i++) {
        double macs = (double)n * lm_segment_macs(&net->seg[i]->spec);
        r->done.asked += macs;
        r->done.run += i < from ? 0 : macs;
    }
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

static enum lm_status prepare(struct lm_runner *r, const struct lm_network *net,
                              const int32_t *ids, size_t n, struct lm_err *e)
{
    enum lm_status st = lm_network_check(net, e);
    if (!st)
        st = lm_ids_check(r->g->arch, ids, n, e);
    if (!st)
        st = lm_length_check(r->g->arch, (int64_t)n, e);
    if (!st)
        st = path_set(r, net->precision, ids, n, e);
    if (!st)
        st = states_reserve(r, net->n, n, e);
    if (!st)
        st = kv_reserve(r, net, n, e);
    return st ? st : area_reserve(r, &r->scratch, n, e);
}

/* *final: hidden states before the head; not to be written. */
static enum lm_status run_path(struct lm_runner *r, const struct lm_network *net,
                               const int32_t *ids, size_t n, struct lm_buffer **final,
                               struct lm_err *e)
{
    enum lm_status st = prepare(r, net, ids, n, e);
    if (st)
        return st;
    size_t from = resume_at(r, net);
    struct keeping k = choose(r, net);
    struct lm_buffer *now = from > 0 ? r->state[from - 1].b : NULL;
    states_drop(r, from, r->n_state);
    for (size_t i = 0; i + 1 < from; i++)
        if (!is_kept(r, &k, i))
            states_drop(r, i, i + 1);
    r->n_path = from;
    for (size_t i = from; i + 1 < net->n && !st; i++) {
        bool keep = is_kept(r, &k, i);
        if (keep)
            st = state_take(r, i, e);
        struct lm_buffer *to = keep ? r->state[i].b : r->scratch.b;
        r->state[i].key = net->seg[i]->spec.key;
        if (!st)
            st = step(r, net, i, ids, n, now, to, e);
        if (!st)
            r->n_path = i + 1;
        now = to;
    }
    count(r, net, from, n);
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
        st = area_reserve(r, &r->work, n, e);
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
        st = area_reserve(r, &r->lesson, n, e);
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
