/* SPDX-License-Identifier: Apache-2.0 */
/* subject.c -- what an evaluator can ask of a candidate: losses, divergence
 * from the dense model, cost, and the seconds of a run.
 *
 * Timing.  The whole network runs as one program on a decoder of its own, fed
 * with a fixed sequence of tokens.  prefill: tokens at once into a cache that
 * holds `context` tokens.  decode: one by one behind `context` tokens, logits
 * included, the seconds of all together.  The first run of each kind is
 * repeated untimed before it counts: caches, page tables and clock rates
 * settle.                                                                    */
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "study/judging.h"

#include <string.h>

enum lm_status lm_evaluation_prepare(struct lm_evaluation *v, struct lm_err *e)
{
    uint32_t n = (uint32_t)lm_pool_threads();

    if (v->n_runner >= n)
        return LM_OK;
    struct lm_runner **runner = lm_alloc_array(n, sizeof *runner, "runners");
    if (!runner)
        return lm_fail_memory(e, n * sizeof *runner, "the runners");
    for (uint32_t i = 0; i < v->n_runner; i++)
        runner[i] = v->runner[i];
    lm_release(v->runner);
    v->runner = runner;
    v->n_runner = n;
    return LM_OK;
}

enum lm_status lm_evaluation_runner(struct lm_evaluation *v, uint32_t worker,
                                    struct lm_runner **out, struct lm_err *e)
{
    enum lm_status st = LM_OK;

    if (!v->runner[worker])
        st = lm_runner_open(v->args.engine, &v->runner[worker], e);
    if (st == LM_OK && v->args.memory)
        lm_runner_limit(v->runner[worker], v->args.memory / v->n_runner);
    *out = v->runner[worker];
    return st;
}

/* On the main thread the runner is worker 0's, opened at the first use. */
static enum lm_status needs_runner(struct lm_subject *s, struct lm_err *e)
{
    if (!(s->needs & LM_NEEDS_RUN) || !s->evaluation->args.engine || !s->candidate->net.n)
        return lm_fail(e, LM_EBUG, "an evaluator runs candidates without declaring it");
    return s->runner ? LM_OK : lm_evaluation_runner(s->evaluation, 0, &s->runner, e);
}

enum lm_status lm_subject_precision(struct lm_subject *s, uint32_t precision,
                                    struct lm_err *e)
{
    enum lm_status st = needs_runner(s, e);

    if (st == LM_OK)
        st = lm_engine_can(s->evaluation->args.engine, precision, e);
    if (st == LM_OK)
        s->precision = precision;
    return st;
}

/* The candidate's segments in the subject's precision. */
static struct lm_network network(const struct lm_subject *s)
{
    struct lm_network net = s->candidate->net;

    net.precision = s->precision;
    return net;
}

enum lm_status lm_subject_losses(struct lm_subject *s, const int32_t *ids, size_t n,
                                 float *nll, struct lm_err *e)
{
    struct lm_network net = network(s);
    enum lm_status st = needs_runner(s, e);

    if (st != LM_OK || lm_subject_answered(s, &net, false, ids, n, nll))
        return st;
    return lm_runner_losses(s->runner, &net, ids, n, nll, e);
}

enum lm_status lm_subject_kl(struct lm_subject *s, const int32_t *ids, size_t n,
                             float *kl, struct lm_err *e)
{
    struct lm_network net = network(s);
    enum lm_status st = needs_runner(s, e);

    if (st == LM_OK && (!s->evaluation->teacher || !(s->needs & LM_NEEDS_DENSE)))
        st = lm_fail(e, LM_EBUG, "an evaluator compares with the dense model without "
                     "declaring it");
    if (st != LM_OK || lm_subject_answered(s, &net, true, ids, n, kl))
        return st;
    return lm_runner_kl(s->runner, &net, s->evaluation->teacher, ids, n, kl, e);
}

enum lm_status lm_subject_cost(struct lm_subject *s, struct lm_cost *out,
                               struct lm_err *e)
{
    struct lm_cost cost = { .struct_size = sizeof cost };

    (void)e;
    lm_candidate_cost(s->candidate, s->evaluation->args.dtype, &cost);
    lm_fill_struct(out, &cost, sizeof cost);
    return LM_OK;
}

void lm_clocks_close(struct lm_evaluation *v)
{
    for (size_t i = 0; i < v->n_clocked; i++)
        lm_decoder_close(v->clocked[i].decoder);
    memset(v->clocked, 0, sizeof v->clocked);
    v->n_clocked = 0;
}

/* The decoder for a candidate and a number of threads, large enough; with some
 * room to spare, so that decode behind a prefill's context finds it so.      */
static enum lm_status find_clocked(struct lm_subject *s, int32_t threads,
                                   int64_t capacity, struct lm_clocked **out,
                                   struct lm_err *e)
{
    struct lm_evaluation *v = s->evaluation;
    struct lm_clocked *c = NULL;

    for (size_t i = 0; i < v->n_clocked && !c; i++)
        if (v->clocked[i].candidate == s->candidate && v->clocked[i].threads == threads)
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
    *c = (struct lm_clocked){ .candidate = s->candidate, .threads = threads };
    enum lm_status st = lm_decoder_open(v->args.engine, &s->candidate->net, capacity,
                                        threads, &c->decoder, e);
    if (st != LM_OK) {
        *c = v->clocked[--v->n_clocked];
        v->clocked[v->n_clocked] = (struct lm_clocked){ 0 };
        return st;
    }
    c->capacity = capacity;
    *out = c;
    return LM_OK;
}

/* One run of the workload; ids are as many as it has tokens. */
static enum lm_status run_once(struct lm_decoder *d, const struct lm_workload *w,
                               const int32_t *ids, float *logits, double *seconds,
                               struct lm_err *e)
{
    enum lm_status st = LM_OK;

    lm_decoder_seek(d, w->context);
    double start = lm_clock();
    if (w->phase == LM_PREFILL)
        st = lm_decoder_feed(d, ids, w->tokens, logits, NULL, e);
    else
        for (int32_t i = 0; st == LM_OK && i < w->tokens; i++) {
            if (lm_canceled())
                return lm_fail(e, LM_ECANCELED, "the measurement was interrupted");
            st = lm_decoder_feed(d, ids + i, 1, logits, NULL, e);
        }
    *seconds = lm_clock() - start;
    return st;
}

static enum lm_status check_workload(const struct lm_workload *w, struct lm_err *e)
{
    if ((w->phase != LM_PREFILL && w->phase != LM_DECODE) || w->tokens < 1
        || w->context < 0 || w->context > INT32_MAX - w->tokens || w->threads < 1)
        return lm_fail(e, LM_EBUG, "a workload of %d tokens behind %d on %d threads "
                       "makes no sense", (int)w->tokens, (int)w->context,
                       (int)w->threads);
    return LM_OK;
}

enum lm_status lm_subject_operators(struct lm_subject *s, const struct lm_workload *w,
                                    lm_see_use *see, void *ctx, struct lm_err *e)
{
    struct lm_network net = network(s);
    enum lm_status st = check_workload(w, e);

    if (st == LM_OK && !net.n)
        st = lm_fail(e, LM_EBUG, "operators are asked of a candidate that was not built");
    return st ? st : lm_network_uses(&net, w, see, ctx, e);
}

enum lm_status lm_subject_time(struct lm_subject *s, const struct lm_workload *w,
                               double *seconds, struct lm_err *e)
{
    enum lm_status st = check_workload(w, e);
    struct lm_clocked *c = NULL;

    if (!s->evaluation->args.engine || !s->candidate->net.n ||
        !(s->needs & LM_NEEDS_QUIET))
        return lm_fail(e, LM_EBUG, "an evaluator times candidates without declaring it");

    if (st == LM_OK && w->threads > lm_pool_threads())
        st = lm_fail(e, LM_ECONFIG,
                     "%d threads are to be timed, but this command runs %d; "
                     "raise --threads (run.threads in a pipeline)", w->threads,
                     lm_pool_threads());

    if (st != LM_OK)
        return st;
    int32_t vocab = lm_model_arch(lm_engine_model(s->evaluation->args.engine))->vocab;
    int32_t *ids = lm_alloc_array((size_t)w->tokens, sizeof *ids, "timed tokens");
    float *logits = lm_alloc_array((size_t)vocab, sizeof *logits, "timed logits");
    if (!ids || !logits)
        st = lm_fail_memory(e, (size_t)vocab * sizeof *logits, "a measurement");
    for (int32_t i = 0; st == LM_OK && i < w->tokens; i++)
        ids[i] = (int32_t)((INT64_C(7919) * i + 13) % vocab);
    if (st == LM_OK)
        st = find_clocked(s, w->threads, (int64_t)w->context + w->tokens, &c, e);
    if (st == LM_OK && !c->warm[w->phase == LM_DECODE]) {
        st = run_once(c->decoder, w, ids, logits, seconds, e);
        c->warm[w->phase == LM_DECODE] = true;
    }
    if (st == LM_OK)
        st = run_once(c->decoder, w, ids, logits, seconds, e);
    lm_release(ids);
    lm_release(logits);
    return st;
}
