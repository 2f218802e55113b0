/* SPDX-License-Identifier: Apache-2.0 */
/* clocked.c -- one run of a network by the clock.
 *
 * The whole network runs as one program on a decoder of its own, fed with a fixed
 * sequence of tokens.  prefill: tokens at once into a cache that holds `context`
 * tokens.  decode: one by one behind `context` tokens, logits included, the seconds of
 * all together.  A kind of run is warmed up before it counts: until three in a row
 * differ by no more than 2 %, or for a second; caches, page tables and clocks settle. */
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "study/judging.h"

#include <math.h>
#include <string.h>

enum { ALIKE = 3 };                     /* runs in a row that must agree */
static const double steady = 0.02, settle_for = 1;

double (*lm_timing_clock)(void) = lm_clock;

void lm_clocks_close(struct lm_evaluation *v)
{
    for (size_t i = 0; i < v->n_clocked; i++)
        lm_decoder_close(v->clocked[i].decoder);
    memset(v->clocked, 0, sizeof v->clocked);
    v->n_clocked = 0;
}

/* The decoder for a network and a number of threads, large enough; with some room to
 * spare, so that decode behind a prefill's context finds it so.             */
static enum lm_status find_clocked(struct lm_evaluation *v, const struct lm_network *net,
                                   int32_t threads, int64_t capacity,
                                   struct lm_clocked **out, struct lm_err *e)
{
    struct lm_clocked *c = NULL;

    for (size_t i = 0; i < v->n_clocked && !c; i++)
        if (v->clocked[i].net == net && v->clocked[i].threads == threads)
            c = &v->clocked[i];
    if (c && c->capacity >= capacity) {
        *out = c;
        return LM_OK;
    }
    capacity = (capacity + capacity / 4 + 63) / 64 * 64;
    if (!c && v->n_clocked == sizeof v->clocked / sizeof *v->clocked)
        lm_clocks_close(v);
    if (!c)
        c = &v->clocked[v->n_clocked++];
    lm_decoder_close(c->decoder);
    *c = (struct lm_clocked){ .net = net, .threads = threads };
    enum lm_status st = lm_decoder_open(v->args.engine, net, capacity, threads,
                                        &c->decoder, e);
    if (st != LM_OK) {
        *c = v->clocked[--v->n_clocked];
        v->clocked[v->n_clocked] = (struct lm_clocked){ 0 };
        return st;
    }
    c->capacity = capacity;
    *out = c;
    return LM_OK;
}

enum lm_status lm_load_open(const struct lm_evaluation *v,
                                const struct lm_workload *w, struct lm_load *l,
                                struct lm_err *e)
{
    int32_t vocab = lm_model_arch(lm_engine_model(v->args.engine))->vocab;

    *l = (struct lm_load){ .w = *w,
        .ids = lm_alloc_array((size_t)w->tokens, sizeof *l->ids, "timed tokens"),
        .logits = lm_alloc_array((size_t)vocab, sizeof *l->logits, "timed logits") };
    if (!l->ids || !l->logits)
        return lm_fail_memory(e, (size_t)vocab * sizeof *l->logits, "a measurement");
    for (int32_t i = 0; i < w->tokens; i++)
        l->ids[i] = (int32_t)((INT64_C(7919) * i + 13) % vocab);
    return LM_OK;
}

void lm_load_close(struct lm_load *l)
{
    lm_release(l->ids);
    lm_release(l->logits);
}

/* One run; of device seconds, which a part of it may not know, the sum or 0. */
static enum lm_status run_once(struct lm_decoder *d, const struct lm_load *l,
                               struct lm_time *out, struct lm_err *e)
{
    int32_t step = l->w.phase == LM_PREFILL ? l->w.tokens : 1;
    struct lm_time t = { 0, 0 };
    double device = 0;
    bool known = true;
    enum lm_status st = LM_OK;

    lm_decoder_seek(d, l->w.context);
    double start = lm_timing_clock();
    for (int32_t i = 0; st == LM_OK && i < l->w.tokens; i += step) {
        if (lm_canceled())
            return lm_fail(e, LM_ECANCELED, "the measurement was interrupted");
        st = lm_decoder_feed(d, l->ids + i, step, l->logits, &t, e);
        device += t.device;
        known &= t.device > 0;
    }
    *out = (struct lm_time){ lm_timing_clock() - start, known ? device : 0 };
    return st;
}

static bool agree(const double *last)
{
    double low = fmin(last[0], fmin(last[1], last[2]));

    return fmax(last[0], fmax(last[1], last[2])) <= (1 + steady) * low;
}

static enum lm_status warm_up(struct lm_decoder *d, const struct lm_load *l,
                              struct lm_err *e)
{
    double start = lm_timing_clock(), last[ALIKE];
    struct lm_time t;

    for (int n = 0; n < ALIKE || !agree(last); n++) {
        enum lm_status st = run_once(d, l, &t, e);

        if (st != LM_OK)
            return st;
        last[n % ALIKE] = t.host;
        if (lm_timing_clock() - start >= settle_for)
            break;
    }
    return LM_OK;
}

static enum lm_status try_time(struct lm_evaluation *v, const struct lm_network *net,
                               const struct lm_load *l, struct lm_time *out,
                               struct lm_err *e)
{
    struct lm_clocked *c;
    enum lm_status st = find_clocked(v, net, l->w.threads,
                                     (int64_t)l->w.context + l->w.tokens, &c, e);
    bool decode = l->w.phase == LM_DECODE;

    if (st == LM_OK && !c->warm[decode]) {
        st = warm_up(c->decoder, l, e);
        c->warm[decode] = st == LM_OK;
    }
    return st ? st : run_once(c->decoder, l, out, e);
}

/* A device that has no room for this one beside those that wait for their turns may have
 * it alone.                                                                    */
enum lm_status lm_clocked_run(struct lm_evaluation *v, const struct lm_network *net,
                                  const struct lm_load *l, struct lm_time *out,
                                   struct lm_err *e)
{
    enum lm_status st = try_time(v, net, l, out, e);

    if (st != LM_EINFEASIBLE || !v->n_clocked)
        return st;
    lm_clocks_close(v);
    return try_time(v, net, l, out, e);
}
