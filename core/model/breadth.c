/* SPDX-License-Identifier: Apache-2.0 */
/* breadth.c -- many networks over many texts, segment by segment.
 *
 * A walker is one ask on its way through its network; a state is a hidden state
 * [n][hidden] and where several walkers stand that came the same way.  All walkers
 * whose next segment is at the least place (embedding; attention block, MLP block of
 * each layer) go one step: those that stand together and enter the same segment go
 * together.  The steps of one segment run in parallel while it is held; then the next
 * segment's.  So each segment is decoded once for all asks.
 *
 * A step is the run of a whole text at position 0, as in runner.c: same operators on
 * the same numbers.  Heads come last: those of the dense model first, which leave the
 * lessons that divergences are measured against.                                  */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "model/segment.h"

struct state {
    struct lm_buffer *b;
    size_t users;                       /* walkers that stand here */
    struct state *next;                 /* all of them, to be freed */
};

struct walker {
    const struct lm_network *net;
    struct lm_network dense;            /* what net points to, of a lesson's walker */
    const int32_t *ids;
    size_t n, at;                       /* at: of the segment to enter */
    struct lm_ask *ask;                 /* NULL: for a lesson */
    struct lm_lesson *lesson;           /* to be made, or of a divergence */
    bool made;                          /* lesson->owned is to be filled by this one */
    struct state *state;                /* NULL before the embedding */
    bool lost;                          /* it could not be run */
};

struct step {                           /* walkers first .. end-1 of the order */
    struct lm_segment *seg;
    size_t first, end;
    struct state *from, *to;
    enum lm_status status;
    struct lm_err err;
};

struct place {                          /* a thread's */
    struct lm_stream *stream;
    struct lm_kv *kv;
    struct lm_buffer *work;             /* [most][hidden] for lessons, made and used; NULL
                                           until it is needed */
};

struct walk {
    struct lm_engine *g;
    bool share;
    struct walker *w;                   /* [n] */
    struct walker **order;              /* [n] */
    struct step *step;                  /* [n_step] of one place in the networks */
    size_t n, n_step, base;             /* base: step at hand of a segment's first */
    struct lm_lesson *lesson;           /* [n_lesson], each with its first walker */
    size_t n_lesson;
    struct state *states;
    struct place *place;                /* [n_place] */
    size_t n_place, most;               /* most: tokens of the longest text */
};

/* ---- places and states --------------------------------------------------------- */
static enum lm_status places_open(struct walk *k, struct lm_err *e)
{
    const struct lm_engine *g = k->g;
    enum lm_status st = LM_OK;
    int32_t width = 0;

    for (size_t i = 0; i < k->n; i++) {
        int32_t w = lm_network_kv_width(k->w[i].net, g->arch->head_dim);
        width = w > width ? w : width;
    }
    size_t n = (size_t)lm_pool_threads();
    k->place = lm_alloc_array(n, sizeof *k->place, "streams");
    if (!k->place)
        return lm_fail_memory(e, n * sizeof *k->place, "streams");
    k->n_place = n;
    for (size_t i = 0; i < n && !st; i++) {
        struct place *p = &k->place[i];
        st = g->ops->stream_open(g->backend, 1, &p->stream, e);
        if (!st && width > 0)
            st = g->ops->kv_open(g->backend, &width, 1, (int64_t)k->most, &p->kv, e);
    }
    return st;
}

static void places_close(struct walk *k)
{
    const struct lm_engine *g = k->g;

    for (size_t i = 0; i < k->n_place; i++) {
        struct place *p = &k->place[i];
        if (p->work)
            g->ops->buffer_free(g->backend, p->work);
        if (p->kv)
            g->ops->kv_close(g->backend, p->kv);
        if (p->stream)
            g->ops->stream_close(g->backend, p->stream);
    }
    lm_release(k->place);
}

/* A thread's own buffer. */
static enum lm_status work_open(const struct walk *k, struct place *p, struct lm_err *e)
{
    return p->work ? LM_OK
                   : k->g->ops->buffer(k->g->backend,
                                       (int64_t)k->most * k->g->arch->hidden, &p->work, e);
}

static enum lm_status state_open(struct walk *k, size_t tokens, struct state **out,
                                 struct lm_err *e)
{
    struct state *s = lm_alloc(sizeof *s, "hidden states");

    if (!s)
        return lm_fail_memory(e, sizeof *s, "hidden states");
    enum lm_status st = k->g->ops->buffer(k->g->backend,
                                          (int64_t)tokens * k->g->arch->hidden, &s->b, e);
    if (st) {
        lm_release(s);
        return st;
    }
    s->next = k->states;
    k->states = s;
    *out = s;
    return LM_OK;
}

/* Frees those where nobody stands. */
static void states_sweep(struct walk *k, bool all)
{
    for (struct state **at = &k->states, *s; (s = *at);) {
        if (s->users && !all) {
            at = &s->next;
            continue;
        }
        *at = s->next;
        k->g->ops->buffer_free(k->g->backend, s->b);
        lm_release(s);
    }
}

/* ---- steps ------------------------------------------------------------------------ */
static struct lm_segment *next_segment(const struct walker *w)
{
    return w->net->seg[w->at];
}

/* Where a segment is: 0 the embedding, then blocks, the head last. */
static int64_t place_of(const struct lm_segment *s)
{
    switch (s->spec.kind) {
    case LM_SEG_EMBED: return 0;
    case LM_SEG_HEAD:  return INT64_MAX;
    default:           return 1 + 2 * (int64_t)s->spec.layer
                            + (s->spec.kind == LM_SEG_MLP);
    }
}

static int three_way(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

/* Do both begin in the same way? */
static int by_text(const struct walker *a, const struct walker *b)
{
    int c = three_way(a->net->precision, b->net->precision);

    c = c ? c : three_way(a->n, b->n);
    return c ? c : memcmp(a->ids, b->ids, a->n * sizeof *a->ids);
}

/* By place, segment, and where they stand; then as they came. */
static int by_step(const void *left, const void *right)
{
    const struct walker *a = *(struct walker *const *)left;
    const struct walker *b = *(struct walker *const *)right;
    const struct lm_segment *s = next_segment(a), *t = next_segment(b);
    int c = three_way((uint64_t)place_of(s), (uint64_t)place_of(t));

    c = c ? c : three_way(s->spec.key, t->spec.key);
    if (!c)
        c = a->state || b->state ? three_way((uintptr_t)a->state, (uintptr_t)b->state)
                                 : by_text(a, b);
    return c ? c : three_way((uintptr_t)a, (uintptr_t)b);
}

static bool goes_along(const struct walk *k, const struct walker *a,
                       const struct walker *b)
{
    return k->share && next_segment(a)->spec.key == next_segment(b)->spec.key
        && a->state == b->state && (a->state || by_text(a, b) == 0);
}

/* Walkers at the least place come first; *end: how many. */
static int64_t sort_walkers(struct walk *k, size_t *n)
{
    size_t live = 0;

    for (size_t i = 0; i < k->n; i++)
        if (!k->w[i].lost)
            k->order[live++] = &k->w[i];
    qsort(k->order, live, sizeof(struct walker *), by_step);
    int64_t place = live ? place_of(next_segment(k->order[0])) : INT64_MAX;
    for (*n = 0; *n < live && place_of(next_segment(k->order[*n])) == place; ++*n)
        ;
    return place;
}

static void make_steps(struct walk *k, size_t n)
{
    k->n_step = 0;
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && goes_along(k, k->order[i], k->order[end]); end++)
            ;
        k->step[k->n_step++] = (struct step){ .seg = next_segment(k->order[i]),
                                              .first = i, .end = end,
                                              .from = k->order[i]->state };
    }
}

/* Takes the state over where nobody stays behind. */
static enum lm_status find_state(struct walk *k, struct step *s, struct lm_err *e)
{
    size_t n = s->end - s->first;
    struct walker *w = k->order[s->first];

    s->to = s->from;
    if (s->from && s->from->users == n)
        return LM_OK;
    return state_open(k, w->n, &s->to, e);
}

static void run_step(void *ctx, int64_t i, uint32_t worker)
{
    struct walk *k = ctx;
    const struct lm_engine *g = k->g;
    struct step *s = &k->step[k->base + (size_t)i];
    const struct walker *w = k->order[s->first];
    struct lm_exec args = { .struct_size = sizeof args, .rows = (int32_t)w->n,
                            .token = w->ids, .hidden = s->to->b,
                            .kv = k->place[worker].kv };
    struct lm_exe *x;
    struct lm_network net = *w->net;
    enum lm_status st = LM_OK;

    net.seg = &s->seg;                  /* the one that is held */
    if (s->from && s->from != s->to)
        st = g->ops->copy(g->backend, s->to->b, s->from->b,
                          (int64_t)w->n * g->arch->hidden, &s->err);
    if (!st)
        st = lm_segment_exe(&net, 0, HEAD_CE, &x, &s->err);
    if (!st)
        st = g->ops->run(g->backend, k->place[worker].stream, x, &args, NULL, &s->err);
    s->status = st;
    lm_progress_alive();
}

static bool ends_all(enum lm_status st)
{
    return st == LM_ENOMEM || st == LM_ECANCELED || st == LM_EIO;
}

static enum lm_status arrive(struct walk *k, struct step *s, struct lm_work *work,
                             struct lm_err *e)
{
    if (ends_all(s->status)) {
        *e = s->err;
        return s->status;
    }
    for (size_t i = s->first; i < s->end; i++) {
        struct walker *w = k->order[i];

        if (w->state)
            w->state->users--;
        w->state = s->to;
        s->to->users++;
        w->at++;
        w->lost = s->status != LM_OK;
    }
    work->run += (double)k->order[s->first]->n * lm_segment_macs(&s->seg->spec);
    return LM_OK;
}

/* All steps of one segment: base .. end-1. */
static enum lm_status run_segment(struct walk *k, size_t end, struct lm_work *work,
                                  struct lm_err *e)
{
    struct lm_segment *seg = k->step[k->base].seg;
    enum lm_status st = lm_segment_hold(seg, e);

    if (st)
        return st;
    for (size_t i = k->base; i < end; i++)
        k->step[i].seg = seg;
    for (size_t i = k->base; i < end && !st; i++)
        st = find_state(k, &k->step[i], e);
    if (!st && (st = lm_parallel((int64_t)(end - k->base), run_step, k)))
        lm_fail(e, st, "interrupted");
    lm_segment_drop(seg);
    for (size_t i = k->base; i < end && !st; i++)
        st = arrive(k, &k->step[i], work, e);
    return st;
}

static enum lm_status run_steps(struct walk *k, struct lm_work *work, struct lm_err *e)
{
    enum lm_status st = LM_OK;

    for (size_t end; k->base < k->n_step && !st; k->base = end) {
        uint64_t key = k->step[k->base].seg->spec.key;

        for (end = k->base + 1; end < k->n_step && k->step[end].seg->spec.key == key;)
            end++;
        st = run_segment(k, end, work, e);
    }
    return st;
}

/* ---- heads ------------------------------------------------------------------------- */
static enum lm_status run_lesson(struct walk *k, struct walker *w, struct lm_exe *x,
                                 struct place *p, struct lm_err *e)
{
    const struct lm_engine *g = k->g;
    int64_t floats = (int64_t)w->n * g->arch->hidden;
    struct lm_exec args = { .struct_size = sizeof args, .rows = (int32_t)w->n,
                            .out = w->lesson->plogp };
    enum lm_status st = work_open(k, p, e);

    args.hidden = p->work;
    if (!st)
        st = g->ops->copy(g->backend, p->work, w->state->b, floats, e);
    if (!st)
        st = g->ops->run(g->backend, p->stream, x, &args, NULL, e);
    return st ? st : g->ops->read(g->backend, p->work, 0, w->lesson->expect, floats, e);
}

static enum lm_status run_ask(struct walk *k, struct walker *w, struct lm_exe *x,
                              struct place *p, struct lm_err *e)
{
    const struct lm_engine *g = k->g;
    bool kl = w->ask->kl;
    struct lm_exec args = { .struct_size = sizeof args, .hidden = w->state->b,
                            .rows = (int32_t)w->n - !kl, .out = w->ask->out,
                            .target = kl ? NULL : w->ids + 1 };
    enum lm_status st = kl ? work_open(k, p, e) : LM_OK;

    if (kl && !st) {
        args.teacher = p->work;
        st = g->ops->write(g->backend, p->work, 0, w->lesson->expect,
                           (int64_t)w->n * g->arch->hidden, e);
    }
    if (!st)
        st = g->ops->run(g->backend, p->stream, x, &args, NULL, e);
    for (size_t i = 0; kl && i < w->n && !st; i++) {
        float v = w->ask->out[i] + w->lesson->plogp[i];

        w->ask->out[i] = v < 0 ? 0 : v; /* as in runner.c */
    }
    return st;
}

static void run_head(void *ctx, int64_t i, uint32_t worker)
{
    struct walk *k = ctx;
    struct step *s = &k->step[k->base + (size_t)i];
    struct walker *w = k->order[s->first];
    struct lm_network net = *w->net;
    enum head_kind head = w->made ? HEAD_EXPECT : w->ask->kl ? HEAD_KL : HEAD_CE;
    struct lm_exe *x;

    net.seg = &s->seg;
    s->status = lm_segment_exe(&net, 0, head, &x, &s->err);
    if (!s->status)
        s->status = (w->made ? run_lesson : run_ask)(k, w, x, &k->place[worker], &s->err);
}

/* Walkers that make lessons (or the others) before one and the same head; false: none. */
static bool choose_heads(struct walk *k, bool lessons)
{
    struct lm_segment *seg = NULL;

    k->n_step = k->base = 0;
    for (size_t i = 0; i < k->n; i++) {
        struct walker *w = &k->w[i];

        if (w->lost || w->made != lessons || w->at == w->net->n)
            continue;
        seg = seg ? seg : next_segment(w);
        if (next_segment(w)->spec.key != seg->spec.key)
            continue;
        k->order[k->n_step] = w;
        k->step[k->n_step] = (struct step){ .seg = seg, .first = k->n_step };
        k->n_step++;
    }
    return seg != NULL;
}

static enum lm_status run_heads(struct walk *k, bool lessons, struct lm_work *work,
                                struct lm_err *e)
{
    enum lm_status st = LM_OK;

    while (!st && choose_heads(k, lessons)) {
        struct lm_segment *seg = k->step[0].seg;

        if ((st = lm_segment_hold(seg, e)))
            return st;
        if ((st = lm_parallel((int64_t)k->n_step, run_head, k)))
            lm_fail(e, st, "interrupted");
        lm_segment_drop(seg);
        for (size_t i = 0; i < k->n_step && !st; i++) {
            struct step *s = &k->step[i];
            struct walker *w = k->order[i];

            if (ends_all(s->status)) {
                *e = s->err;
                st = s->status;
            }
            w->at++;
            w->lost = s->status != LM_OK;
            if (w->ask)
                w->ask->answered = !w->lost;
            work->run += (double)w->n * lm_segment_macs(&seg->spec);
        }
    }
    return st;
}

/* ---- the asks ------------------------------------------------------------------- */
static bool can_run(const struct lm_engine *g, const struct lm_ask *a)
{
    struct lm_err why;

    return !lm_network_check(a->net, &why) && !lm_ids_check(g->arch, a->ids, a->n, &why)
        && !lm_length_check(g->arch, (int64_t)a->n, &why) && (a->kl || a->n > 1)
        && !lm_engine_can(g, a->net->precision, &why);
}

static enum lm_status new_lesson(struct walk *k, const struct walker *w,
                                 struct lm_lesson *l, struct lm_err *e)
{
    size_t floats = w->n * (size_t)k->g->arch->hidden;

    l->owned = true;
    l->expect = lm_alloc_array(floats, sizeof(float), "teacher");
    l->plogp = lm_alloc_array(w->n, sizeof(float), "teacher");
    return l->expect && l->plogp ? LM_OK : lm_fail_memory(e, floats * sizeof(float),
                                                          "the dense model's predictions");
}

/* The lesson of a divergence: known, asked for by another walker, or a walker more. */
static enum lm_status find_lesson(struct walk *k, struct lm_teacher *t, struct walker *w,
                                  struct lm_err *e)
{
    struct lm_lesson *l;
    struct walker *maker;

    for (size_t i = 0; i < k->n; i++)
        if (k->w[i].lesson && by_text(&k->w[i], w) == 0) {
            w->lesson = k->w[i].lesson;
            return LM_OK;
        }
    w->lesson = l = &k->lesson[k->n_lesson++];
    if (lm_teacher_knows(t, w->net->precision, w->ids, w->n, l)) {
        l->owned = false;
        return LM_OK;
    }
    maker = &k->w[k->n++];
    *maker = (struct walker){ .dense = *lm_teacher_dense(t), .ids = w->ids, .n = w->n,
                              .lesson = l, .made = true };
    maker->dense.precision = w->net->precision;
    maker->net = &maker->dense;
    return new_lesson(k, w, l, e);
}

static enum lm_status set_out(struct walk *k, struct lm_teacher *t, struct lm_ask *ask,
                              size_t n, struct lm_work *work, struct lm_err *e)
{
    enum lm_status st = LM_OK;

    for (size_t i = 0; i < n && !st; i++) {
        struct walker *w = &k->w[k->n];

        ask[i].answered = false;
        if (!can_run(k->g, &ask[i]) || (ask[i].kl && !t))
            continue;
        *w = (struct walker){ .net = ask[i].net, .ids = ask[i].ids, .n = ask[i].n,
                              .ask = &ask[i] };
        k->n++;
        k->most = w->n > k->most ? w->n : k->most;
        for (size_t s = 0; s < w->net->n; s++)
            work->asked += (double)w->n * lm_segment_macs(&w->net->seg[s]->spec);
        if (w->ask->kl)
            st = find_lesson(k, t, w, e);
    }
    return st;
}

static enum lm_status go(struct walk *k, struct lm_work *work, struct lm_err *e)
{
    enum lm_status st = k->n ? places_open(k, e) : LM_OK;
    size_t n;

    while (!st && sort_walkers(k, &n) < INT64_MAX) {
        k->base = 0;
        make_steps(k, n);
        st = run_steps(k, work, e);
        states_sweep(k, false);
    }
    if (!st)
        st = run_heads(k, true, work, e);
    for (size_t i = 0; i < k->n; i++)   /* nothing to compare with */
        for (size_t j = 0; k->w[i].made && k->w[i].lost && j < k->n; j++)
            k->w[j].lost |= k->w[j].lesson == k->w[i].lesson;
    return st ? st : run_heads(k, false, work, e);
}

/* Hands new lessons on, and frees them. */
static enum lm_status settle(struct walk *k, struct lm_teacher *t, bool well,
                             struct lm_err *e)
{
    enum lm_status st = LM_OK;

    for (size_t i = 0; i < k->n && well && !st; i++)
        if (k->w[i].made && !k->w[i].lost)
            st = lm_teacher_tell(t, k->w[i].net->precision, k->w[i].ids, k->w[i].n,
                                 k->w[i].lesson, e);
    for (size_t i = 0; i < k->n_lesson; i++)
        if (k->lesson[i].owned) {
            lm_release(k->lesson[i].expect);
            lm_release(k->lesson[i].plogp);
        }
    return st;
}

enum lm_status lm_ask_all(struct lm_engine *g, struct lm_teacher *t, bool share,
                          struct lm_ask *ask, size_t n, struct lm_work *work,
                          struct lm_err *e)
{
    struct walk k = { .g = g, .share = share };
    enum lm_status st = LM_OK;

    k.w = lm_alloc_array(2 * n + 1, sizeof *k.w, "evaluation");
    k.order = lm_alloc_array(2 * n + 1, sizeof(struct walker *), "evaluation");
    k.step = lm_alloc_array(2 * n + 1, sizeof *k.step, "evaluation");
    k.lesson = lm_alloc_array(n + 1, sizeof *k.lesson, "evaluation");
    if (!k.w || !k.order || !k.step || !k.lesson)
        st = lm_fail_memory(e, 2 * n * sizeof *k.step, "the evaluation");
    if (!st)
        st = set_out(&k, t, ask, n, work, e);
    if (!st)
        st = go(&k, work, e);
    if (k.w && k.lesson) {
        enum lm_status told = settle(&k, t, !st, st ? &(struct lm_err){ 0 } : e);
        st = st ? st : told;
    }
    states_sweep(&k, true);
    places_close(&k);
    lm_release(k.w);
    lm_release(k.order);
    lm_release(k.step);
    lm_release(k.lesson);
    return st;
}
