/* SPDX-License-Identifier: Apache-2.0 */
/* timing.c -- evaluators that need a quiet machine: runs are timed, and corrected by
 * what an anchor took in between.
 *
 * Candidates take turns within each item, and before the first of them that asks for a
 * workload the anchor runs the same: the dense model; or, where there is no room for it
 * beside candidates, the first that finds none.  An item in which the anchor's time is
 * more than 5 % off its median is measured again, twice at most.  Then evaluators are
 * asked once more, without anything being run: they are told
 *     seconds / (anchor's seconds in this item / their median over the items)
 * so what they make of it is corrected, whatever it is.  The anchor itself is not, or
 * it would have no spread.  Evaluators that did not ask for times are not asked again. */
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "study/batch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { AGAIN = 2 };                     /* rounds of repetitions */
static const double moved = 0.05;

/* ---- what was timed ---------------------------------------------------------------- */

struct beat {                           /* the anchor's run of a workload in an item */
    int64_t item;
    struct lm_workload w;
    const struct lm_network *of;
    struct lm_time t, usual;            /* usual: medians over the items */
    bool stale, told;                   /* to be run again; its candidate had it */
};
struct call {                           /* what an evaluator was told of a candidate */
    int64_t item;
    size_t place;                       /* of the candidate in the batch's order */
    struct lm_workload w;
    struct lm_time t;
    size_t beat;
    bool is_anchor, gone;               /* gone: the item was measured again */
};

struct lm_watch {
    struct batch *b;
    size_t judge, first, end;           /* order[first..end) take turns */
    struct beat *beat;
    struct call *call;
    size_t n_beat, cap_beat, n_call, cap_call;
    bool chosen, opened;                /* anchor; v->dense by us */
    const struct lm_network *anchor;    /* NULL: whoever asks first */
    bool recall;                        /* nothing is run: */
    size_t next;                        /* the call that comes now */
    int64_t item;
    size_t place;
};

static bool same_load(const struct lm_workload *a, const struct lm_workload *b)
{
    return a->phase == b->phase && a->tokens == b->tokens && a->context == b->context
        && a->threads == b->threads;
}

/* Room for one more of `size` bytes; *at may move. */
static enum lm_status grow(void **at, size_t n, size_t *cap, size_t size,
                           struct lm_err *e)
{
    size_t more = *cap ? 2 * *cap : 64;
    void *p = *at;

    if (n < *cap)
        return LM_OK;
    if (!(p = lm_resize(p, more * size)))
        return lm_fail_memory(e, more * size, "times");
    *at = p;
    *cap = more;
    return LM_OK;
}

/* ---- the anchor -------------------------------------------------------------------- */

static bool is_dense(const struct lm_evaluation *v, const struct lm_network *net)
{
    const struct lm_model *m = lm_engine_model(v->args.engine);
    const struct lm_arch *a = lm_model_arch(m);
    size_t n = 2;

    for (int32_t i = 0; i < a->n_layer; i++)
        n += (size_t)(a->layer[i].n_head > 0) + (a->layer[i].n_ff > 0);
    if (net->n != n)
        return false;
    for (size_t i = 0; i < n; i++) {
        const struct lm_segment_spec *s = lm_segment_spec(net->seg[i]);
        struct lm_segment_spec d;

        if (lm_dense_shape(m, s->kind, s->layer, &d, NULL) || d.key != s->key)
            return false;
    }
    return true;
}

/* An anchor that cannot run says nothing of the candidate that asked: it ends all. */
static enum lm_status fail_anchor(struct lm_watch *k, const struct lm_network *of,
                                  struct lm_err *why, struct lm_err *e)
{
    struct batch *b = k->b;

    lm_err_prefix(why, "%s, which times are compared with: ",
                  of == &b->v->dense || is_dense(b->v, of) ? "the dense model"
                                                           : "the candidate");
    pthread_mutex_lock(&b->lock);
    if (b->fatal.code == LM_OK)
        b->fatal = *why;
    pthread_mutex_unlock(&b->lock);
    *e = *why;
    return why->code;
}

/* A candidate that is the dense model, or one that is opened for it. */
static enum lm_status choose_anchor(struct lm_watch *k, struct lm_err *e)
{
    struct lm_evaluation *v = k->b->v;
    struct lm_err why = { 0 };
    enum lm_status st = LM_OK;

    k->chosen = true;
    for (size_t i = k->first; i < k->end; i++)
        if (k->b->order[i].c->net.n && is_dense(v, &k->b->order[i].c->net)) {
            k->anchor = &k->b->order[i].c->net;
            return LM_OK;
        }
    if (lm_engine_streams(v->args.engine))
        return LM_OK;
    if (!v->dense.n) {
        st = lm_network_open(v->args.engine, lm_engine_model(v->args.engine), &v->dense,
                             &why);
        k->opened = st == LM_OK;
    }
    if (st == LM_OK)
        k->anchor = &v->dense;
    else if (st != LM_EINFEASIBLE)
        return fail_anchor(k, &v->dense, &why, e);
    v->tally.other |= st != LM_OK;
    return LM_OK;
}

/* All decoders, and the weights of the dense model if they are there for times alone. */
static void drop_dense(struct lm_watch *k)
{
    lm_clocks_close(k->b->v);
    if (k->opened)
        lm_network_close(&k->b->v->dense);
    k->opened = false;
}

static void close_anchor(struct lm_watch *k)
{
    drop_dense(k);
    k->chosen = false;
    k->anchor = NULL;
}

/* The anchor's run in this item; own: the network that asks. */
static enum lm_status find_beat(struct lm_watch *k, const struct lm_load *l,
                                const struct lm_network *own, size_t *out,
                                struct lm_err *e)
{
    struct lm_evaluation *v = k->b->v;
    struct lm_err why = { 0 };
    void *all = k->beat;
    size_t i = k->n_beat;
    enum lm_status st = k->chosen ? LM_OK : choose_anchor(k, e);

    while (i > 0 && (k->beat[i - 1].item != k->item
                     || !same_load(&k->beat[i - 1].w, &l->w)))
        i--;
    *out = i ? i - 1 : k->n_beat;
    if (st || (i && !k->beat[*out].stale))
        return st;
    st = grow(&all, k->n_beat, &k->cap_beat, sizeof *k->beat, e);
    k->beat = all;
    if (st)
        return st;
    struct beat b = { .item = k->item, .w = l->w, .of = k->anchor ? k->anchor : own };
    st = lm_clocked_run(v, b.of, l, &b.t, &why);
    if (st == LM_EINFEASIBLE && b.of != own) {
        drop_dense(k);                  /* no room for both */
        k->anchor = b.of = own;
        v->tally.other = true;
        st = lm_clocked_run(v, own, l, &b.t, &why);
    }
    if (st && b.of != own)
        return fail_anchor(k, b.of, &why, e);
    if (st)
        return lm_fail(e, st, "%s", why.text);
    k->beat[*out] = b;
    k->n_beat += *out == k->n_beat;
    return LM_OK;
}

/* ---- what evaluators ask ----------------------------------------------------------- */

static enum lm_status check_workload(const struct lm_subject *s,
                                     const struct lm_workload *w, struct lm_err *e)
{
    if (!s->evaluation->args.engine || !s->candidate->net.n ||
        !(s->needs & LM_NEEDS_QUIET))
        return lm_fail(e, LM_EBUG, "an evaluator times candidates without declaring it");
    enum lm_status st = lm_workload_check(w, e);
    return st || w->threads <= lm_pool_threads() ? st
        : lm_fail(e, LM_ECONFIG,
                  "%d threads are to be timed, but this command runs %d; "
                  "raise --threads (run.threads in a pipeline)", w->threads,
                  lm_pool_threads());
}

/* No room beside the dense model, which goes: from now on own is the anchor. */
static enum lm_status replace_anchor(struct lm_watch *k, const struct lm_load *l,
                                     const struct lm_network *own, size_t *beat,
                                     struct lm_err *e)
{
    *e = (struct lm_err){ .code = LM_OK };
    drop_dense(k);
    k->anchor = own;
    k->b->v->tally.other = true;
    k->beat[*beat].stale = true;
    return find_beat(k, l, own, beat, e);
}

/* Anchor and candidate are run, and it is written down. */
static enum lm_status measure(struct lm_watch *k, const struct lm_network *own,
                              const struct lm_load *l, struct lm_timing *out,
                              struct lm_err *e)
{
    struct call c = { .item = k->item, .place = k->place, .w = l->w };
    void *all = k->call;
    enum lm_status st = grow(&all, k->n_call, &k->cap_call, sizeof *k->call, e);

    k->call = all;
    if (st || (st = find_beat(k, l, own, &c.beat, e)))
        return st;
    c.t = k->beat[c.beat].t;
    if (k->beat[c.beat].of != own || k->beat[c.beat].told)
        st = lm_clocked_run(k->b->v, own, l, &c.t, e);
    if (st == LM_EINFEASIBLE && k->opened
        && !(st = replace_anchor(k, l, own, &c.beat, e)))
        c.t = k->beat[c.beat].t;
    if (st)
        return st;
    struct beat *b = &k->beat[c.beat];
    c.is_anchor = b->of == own;
    b->told |= c.is_anchor;
    k->call[k->n_call++] = c;
    out->seconds = c.t.host;
    out->device = c.t.device;
    out->anchor = c.is_anchor ? 0 : b->t.host;
    return LM_OK;
}

/* seconds, had the anchor taken what it usually does */
static double corrected(double seconds, double anchor, double usual)
{
    return anchor > 0 && usual > 0 ? seconds / (anchor / usual) : seconds;
}

/* The same once more, corrected. */
static enum lm_status recall(struct lm_watch *k, const struct lm_workload *w,
                             struct lm_timing *out, struct lm_err *e)
{
    const struct call *c = &k->call[k->next];

    if (k->next == k->n_call || c->item != k->item || c->place != k->place
        || !same_load(&c->w, w))
        return lm_fail(e, LM_EBUG, "an evaluator that is called again asks for other "
                       "times");
    k->next++;
    const struct beat *b = &k->beat[c->beat];
    out->seconds = c->t.host;
    out->device = c->t.device;
    if (c->is_anchor)
        return LM_OK;
    out->seconds = corrected(c->t.host, b->t.host, b->usual.host);
    out->device = corrected(c->t.device, b->t.device, b->usual.device);
    out->anchor = b->t.host;
    return LM_OK;
}

enum lm_status lm_subject_timing(struct lm_subject *s, const struct lm_workload *w,
                                 struct lm_timing *out, struct lm_err *e)
{
    struct lm_timing full = { .struct_size = sizeof full };
    struct lm_watch *k = s->evaluation->watch;
    struct lm_load l = { .ids = NULL };
    enum lm_status st = check_workload(s, w, e);

    if (st)
        return st;
    if (!k)
        return lm_fail(e, LM_EBUG, "an evaluator times a candidate outside of eval()");
    if (k->recall)
        st = recall(k, w, &full, e);
    else if (!(st = lm_load_open(s->evaluation, w, &l, e)))
        st = measure(k, &s->candidate->net, &l, &full, e);
    lm_load_close(&l);
    if (st == LM_OK)
        lm_fill_struct(out, &full, sizeof full);
    return st;
}

enum lm_status lm_subject_time(struct lm_subject *s, const struct lm_workload *w,
                               double *seconds, struct lm_err *e)
{
    struct lm_timing t = { .struct_size = sizeof t };
    enum lm_status st = lm_subject_timing(s, w, &t, e);

    if (st == LM_OK)
        *seconds = t.seconds;
    return st;
}

/* ---- medians of the anchor --------------------------------------------------------- */

static int by_size(const void *left, const void *right)
{
    const double *a = left, *b = right;

    return (*a > *b) - (*a < *b);
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, by_size);
    return n % 2 ? v[n / 2] : 0.5 * (v[n / 2 - 1] + v[n / 2]);
}

/* Of all beats that are like beat i.  scratch: [2 n_beat] */
static void find_usual(struct lm_watch *k, size_t i, double *scratch)
{
    double *host = scratch, *device = scratch + k->n_beat;
    const struct beat *b = &k->beat[i];
    size_t n = 0;

    for (size_t j = i; j < k->n_beat; j++)
        if (k->beat[j].of == b->of && same_load(&k->beat[j].w, &b->w)) {
            host[n] = k->beat[j].t.host;
            device[n++] = k->beat[j].t.device;
        }
    struct lm_time usual = { median(host, n), median(device, n) };
    for (size_t j = i; j < k->n_beat; j++)
        if (k->beat[j].of == b->of && same_load(&k->beat[j].w, &b->w))
            k->beat[j].usual = usual;
}

static enum lm_status find_medians(struct lm_watch *k, struct lm_err *e)
{
    double *scratch = lm_alloc_array(2 * k->n_beat + 1, sizeof *scratch, "times");

    if (!scratch)
        return lm_fail_memory(e, 2 * k->n_beat * sizeof *scratch, "times");
    for (size_t i = 0; i < k->n_beat; i++)
        k->beat[i].usual = (struct lm_time){ NAN, NAN };
    for (size_t i = 0; i < k->n_beat; i++)
        if (isnan(k->beat[i].usual.host))
            find_usual(k, i, scratch);
    lm_release(scratch);
    return LM_OK;
}

/* How far the anchor was off its median in an item, relative to it. */
static double drift(const struct lm_watch *k, int64_t item)
{
    double most = 0;

    for (size_t i = 0; i < k->n_beat; i++)
        if (k->beat[i].item == item && k->beat[i].usual.host > 0)
            most = fmax(most, fabs(k->beat[i].t.host / k->beat[i].usual.host - 1));
    return most;
}

/* ---- a group of candidates that take turns ----------------------------------------- */

static void measure_item(struct lm_watch *k, int64_t item, bool first)
{
    struct batch *b = k->b;

    k->item = item;
    for (size_t i = k->first; i < k->end && !lm_canceled(); i++) {
        const struct place *p = &b->order[i];

        k->place = i;
        if (lm_batch_due(b, k->judge, item, p->index))
            lm_batch_judge(b, k->judge, item, p->index, p->c, NULL);
        if (first)
            lm_batch_step(b);
    }
}

static void forget_item(struct lm_watch *k, int64_t item)
{
    for (size_t i = 0; i < k->n_beat; i++)
        k->beat[i].stale |= k->beat[i].item == item;
    for (size_t i = 0; i < k->n_call; i++)
        k->call[i].gone |= k->call[i].item == item;
}

/* Items whose anchor moved, again; those that still did so are kept and counted. */
static enum lm_status repeat(struct lm_watch *k, int64_t n_items, struct lm_err *e)
{
    struct lm_tally *t = &k->b->v->tally;
    enum lm_status st = find_medians(k, e);

    t->runs += n_items;
    for (int round = 0; round < AGAIN && !st; round++) {
        int64_t n = 0;

        for (int64_t item = 0; item < n_items && !lm_canceled(); item++)
            if (drift(k, item) > moved) {
                forget_item(k, item);
                measure_item(k, item, false);
                n++;
            }
        t->again += n;
        st = n ? find_medians(k, e) : LM_OK;
    }
    for (int64_t item = 0; item < n_items && !st; item++)
        if (drift(k, item) > moved) {
            t->kept++;
            t->worst = fmax(t->worst, drift(k, item));
        }
    return st;
}

/* Every evaluation that asked for times, with corrected ones. */
static void correct(struct lm_watch *k)
{
    struct batch *b = k->b;

    k->recall = true;
    for (size_t i = 0, end; i < k->n_call; i = end) {
        const struct call *c = &k->call[i];
        const struct place *p = &b->order[c->place];

        for (end = i; end < k->n_call && k->call[end].item == c->item
             && k->call[end].place == c->place && k->call[end].gone == c->gone; end++)
            ;
        k->item = c->item;
        k->place = c->place;
        k->next = i;
        if (!c->gone && lm_batch_due(b, k->judge, c->item, p->index))
            lm_batch_judge(b, k->judge, c->item, p->index, p->c, NULL);
    }
    k->recall = false;
}

static enum lm_status time_group(struct lm_watch *k, struct lm_err *e)
{
    int64_t n_items = k->b->v->args.judge[k->judge].n_items;
    enum lm_status st = LM_OK;

    for (int64_t item = 0; item < n_items; item++)
        measure_item(k, item, true);
    if (k->n_call && !lm_canceled() && !(st = repeat(k, n_items, e)))
        correct(k);
    k->n_call = k->n_beat = 0;
    close_anchor(k);
    return st;
}

enum lm_status lm_batch_time(struct batch *b, struct lm_err *e)
{
    struct lm_evaluation *v = b->v;
    struct lm_watch k = { .b = b };
    enum lm_status st = LM_OK;

    v->watch = &k;
    for (size_t j = 0; j < v->args.n_judge && !st; j++)
        for (size_t first = 0; first < b->n && !st; first += QUIET_GROUP) {
            if (lm_judge_pass(&v->args.judge[j]) != LM_PASS_QUIET)
                break;
            k.judge = j;
            k.first = first;
            k.end = b->n - first < QUIET_GROUP ? b->n : first + QUIET_GROUP;
            st = time_group(&k, e);
        }
    v->watch = NULL;
    lm_release(k.beat);
    lm_release(k.call);
    return st;
}
