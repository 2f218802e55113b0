/* SPDX-License-Identifier: Apache-2.0 */
/* worker_message.c -- see worker_message.h. */
#include "pipeline/worker_message.h"

#include <math.h>
#include <string.h>

#include "base/child.h"
#include "base/mem.h"

/* ---- saying ----------------------------------------------------------------------- */

static void put_u64(struct lm_str *t, uint64_t v)
{
    lm_str_put(t, &v, sizeof v);
}

static void put_real(struct lm_str *t, double v)
{
    lm_str_put(t, &v, sizeof v);
}

/* Its length with the NUL, then the text. */
static void put_text(struct lm_str *t, const char *s)
{
    size_t n = strlen(s) + 1;
    put_u64(t, n);
    lm_str_put(t, s, n);
}

void lm_say_hello(struct lm_str *out, const struct lm_hello *h)
{
    size_t at = lm_frame_begin(out, LM_SAY_HELLO);
    put_text(out, h->version);
    put_text(out, h->pipeline);
    put_u64(out, h->threads);
    put_u64(out, h->memory);
    put_u64(out, h->workers);
    put_u64(out, h->commands);
    lm_frame_end(out, at);
}

void lm_say_order(struct lm_str *out, const struct lm_order *o)
{
    size_t at = lm_frame_begin(out, LM_SAY_ORDER);
    put_u64(out, o->id);
    put_u64(out, o->batch);
    put_u64(out, o->final);
    put_u64(out, o->pass);
    put_u64(out, o->threads);
    put_u64(out, o->n_metric);
    put_u64(out, o->n_judge);
    put_u64(out, o->n);
    for (size_t j = 0; j < o->n_judge; j++) {
        put_u64(out, (uint64_t)o->low[j]);
        put_u64(out, (uint64_t)o->high[j]);
    }
    for (size_t i = 0; i < o->n; i++) {
        put_u64(out, o->plan[i].hash);
        put_real(out, o->plan[i].from);
        put_real(out, o->plan[i].to);
        put_text(out, o->plan[i].plan);
        for (size_t m = 0; m < o->n_metric; m++)
            lm_str_put(out, o->plan[i].skip[m] ? "\1" : "\0", 1);
    }
    lm_frame_end(out, at);
}

void lm_say_ready(struct lm_str *out, uint64_t model)
{
    size_t at = lm_frame_begin(out, LM_SAY_READY);
    put_u64(out, model);
    lm_frame_end(out, at);
}

void lm_say_alive(struct lm_str *out, const struct lm_alive *a)
{
    size_t at = lm_frame_begin(out, LM_SAY_ALIVE);
    put_u64(out, a->id);
    put_real(out, a->fraction);
    lm_frame_end(out, at);
}

void lm_say_done(struct lm_str *out, const struct lm_done *d)
{
    size_t at = lm_frame_begin(out, LM_SAY_DONE);
    put_u64(out, d->id);
    put_u64(out, d->fingerprint);
    put_u64(out, d->status);
    put_text(out, d->text);
    put_real(out, d->asked);
    put_real(out, d->run);
    put_u64(out, (uint64_t)d->tally.runs);
    put_u64(out, (uint64_t)d->tally.again);
    put_u64(out, (uint64_t)d->tally.kept);
    put_real(out, d->tally.worst);
    put_u64(out, d->tally.other);
    put_u64(out, d->n);
    for (size_t i = 0; i < d->n; i++) {
        put_u64(out, d->plan[i].status);
        put_text(out, d->plan[i].text);
        put_u64(out, d->plan[i].n);
        lm_str_put(out, d->plan[i].sums, d->plan[i].n * sizeof(struct lm_sum));
    }
    lm_frame_end(out, at);
}

/* ---- hearing ---------------------------------------------------------------------- */

/* What is left of a body; bad: something was not there or cannot be true. */
struct cursor { const char *at; size_t left; bool bad; };

static const void *take(struct cursor *c, size_t n)
{
    const char *at = c->at;
    if (c->bad || n > c->left) {
        c->bad = true;
        return NULL;
    }
    c->at += n;
    c->left -= n;
    return at;
}

static uint64_t take_u64(struct cursor *c, uint64_t most)
{
    uint64_t v = 0;
    const void *at = take(c, sizeof v);
    if (at)
        memcpy(&v, at, sizeof v);
    c->bad |= v > most;
    return c->bad ? 0 : v;
}

static double take_real(struct cursor *c, double least, double most)
{
    double v = NAN;
    const void *at = take(c, sizeof v);
    if (at)
        memcpy(&v, at, sizeof v);
    c->bad |= !(v >= least && v <= most);
    return c->bad ? 0 : v;
}

/* Never NULL. */
static const char *take_text(struct cursor *c)
{
    size_t n = (size_t)take_u64(c, c->left);
    const char *s = take(c, n);
    c->bad |= !s || !n || memchr(s, 0, n) != s + n - 1;
    return c->bad ? "" : s;
}

/* A count of things that take at least `size` bytes each. */
static size_t take_count(struct cursor *c, size_t size)
{
    return (size_t)take_u64(c, c->left / size);
}

static enum lm_status end(const struct cursor *c, const char *what, struct lm_err *e)
{
    return c->bad || c->left
        ? lm_fail(e, LM_EINPUT, "what it sent is no %s: %s", what,
                  c->bad ? "its fields make no sense" : "there is more than it takes")
        : LM_OK;
}

enum lm_status lm_hear_hello(const void *body, size_t n, struct lm_hello *h,
                             struct lm_err *e)
{
    struct cursor c = { body, n, false };
    h->version = take_text(&c);
    h->pipeline = take_text(&c);
    h->threads = take_u64(&c, 1024);
    h->memory = take_u64(&c, INT64_MAX);
    h->workers = take_u64(&c, 1024);
    h->commands = take_u64(&c, 1);
    return end(&c, "greeting", e);
}

enum lm_status lm_hear_ready(const void *body, size_t n, uint64_t *model,
                             struct lm_err *e)
{
    struct cursor c = { body, n, false };
    *model = take_u64(&c, UINT64_MAX);
    return end(&c, "sign of readiness", e);
}

enum lm_status lm_hear_alive(const void *body, size_t n, struct lm_alive *a,
                             struct lm_err *e)
{
    struct cursor c = { body, n, false };
    a->id = take_u64(&c, UINT64_MAX);
    a->fraction = take_real(&c, -1, 1);
    return end(&c, "sign of life", e);
}

static void take_windows(struct cursor *c, int64_t *low, int64_t *high, size_t n)
{
    for (size_t j = 0; j < n; j++) {
        low[j] = (int64_t)take_u64(c, INT64_MAX);
        high[j] = (int64_t)take_u64(c, INT64_MAX);
        c->bad |= low[j] > high[j];
    }
}

static void take_plan(struct cursor *c, struct lm_order_plan *p, bool *skip,
                      size_t n_metric)
{
    p->hash = take_u64(c, UINT64_MAX);
    p->from = take_real(c, 0, 1);
    p->to = take_real(c, 0, 1);
    p->plan = take_text(c);
    const char *bytes = take(c, n_metric);
    for (size_t m = 0; bytes && m < n_metric; m++) {
        c->bad |= bytes[m] != 0 && bytes[m] != 1;
        skip[m] = bytes[m] == 1;
    }
    p->skip = skip;
}

enum lm_status lm_hear_order(const void *body, size_t n, struct lm_order *o, void **block,
                             struct lm_err *e)
{
    enum { PLAN_BYTES = 33 };           /* of the shortest plan in a message */
    struct cursor c = { body, n, false };
    *block = NULL;
    *o = (struct lm_order){ .id = take_u64(&c, UINT64_MAX) };
    o->batch = take_u64(&c, UINT64_MAX);
    o->final = (uint32_t)take_u64(&c, 1);
    o->pass = (uint32_t)take_u64(&c, LM_PASS_COMMANDS);
    o->threads = (uint32_t)take_u64(&c, 1024);
    o->n_metric = (size_t)take_u64(&c, LM_MAX_METRICS);
    o->n_judge = take_count(&c, 2 * sizeof(int64_t));
    o->n = take_count(&c, PLAN_BYTES);
    c.bad |= !o->pass || !o->threads || !o->n;
    if (c.bad)
        return end(&c, "order", e);
    size_t windows = 2 * o->n_judge * sizeof(int64_t), plans = o->n * sizeof *o->plan;
    char *all = lm_alloc(windows + plans + o->n * (o->n_metric + 1), "order");
    if (!all)
        return lm_fail_memory(e, windows + plans, "an order");
    int64_t *low = (int64_t *)(void *)all, *high = low + o->n_judge;
    bool *skip = (bool *)(all + windows + plans);
    o->low = low;
    o->high = high;
    o->plan = (struct lm_order_plan *)(void *)(all + windows);
    take_windows(&c, low, high, o->n_judge);
    for (size_t i = 0; i < o->n; i++)
        take_plan(&c, &o->plan[i], skip + i * o->n_metric, o->n_metric);
    enum lm_status st = end(&c, "order", e);
    if (st)
        lm_release(all);
    else
        *block = all;
    return st;
}

static void take_sums(struct cursor *c, struct lm_done_plan *p)
{
    p->status = (uint32_t)take_u64(c, LM_EBUG);
    p->text = take_text(c);
    p->n = take_count(c, sizeof(struct lm_sum));
    p->sums = take(c, p->n * sizeof(struct lm_sum));
    c->bad |= p->status && (p->n || !*p->text);
    for (size_t i = 0; !c->bad && i < p->n; i++) {
        struct lm_sum s;
        memcpy(&s, p->sums + i * sizeof s, sizeof s);
        c->bad |= !isfinite(s.value) || !isfinite(s.weight) || s.weight < 0;
    }
}

enum lm_status lm_hear_done(const void *body, size_t n, struct lm_done *d, void **block,
                            struct lm_err *e)
{
    enum { PLAN_BYTES = 25 };           /* of one that failed or has no sums */
    struct cursor c = { body, n, false };
    *block = NULL;
    *d = (struct lm_done){ .id = take_u64(&c, UINT64_MAX) };
    d->fingerprint = take_u64(&c, UINT64_MAX);
    d->status = (uint32_t)take_u64(&c, LM_EBUG);
    d->text = take_text(&c);
    d->asked = take_real(&c, 0, 1e300);
    d->run = take_real(&c, 0, 1e300);
    d->tally.runs = (int64_t)take_u64(&c, INT64_MAX / 2);
    d->tally.again = (int64_t)take_u64(&c, INT64_MAX / 2);
    d->tally.kept = (int64_t)take_u64(&c, INT64_MAX / 2);
    d->tally.worst = take_real(&c, 0, 1e300);
    d->tally.other = take_u64(&c, 1);
    d->n = take_count(&c, PLAN_BYTES);
    c.bad |= d->status && (d->n || !*d->text);
    if (c.bad)
        return end(&c, "answer", e);
    if (!(d->plan = lm_alloc_array(d->n + 1, sizeof *d->plan, "answer")))
        return lm_fail_memory(e, d->n * sizeof *d->plan, "an answer");
    for (size_t i = 0; i < d->n; i++)
        take_sums(&c, &d->plan[i]);
    enum lm_status st = end(&c, "answer", e);
    if (st) {
        lm_release(d->plan);
        d->plan = NULL;
    } else {
        *block = d->plan;
    }
    return st;
}
