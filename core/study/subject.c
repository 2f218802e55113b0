/* SPDX-License-Identifier: Apache-2.0 */
/* subject.c -- what an evaluator can ask of a candidate: losses, divergence from the
 * dense model, and cost; timing.c has the seconds of a run.                  */
#include "base/mem.h"
#include "base/pool.h"
#include "study/judging.h"

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

enum lm_status lm_workload_check(const struct lm_workload *w, struct lm_err *e)
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
    enum lm_status st = lm_workload_check(w, e);

    if (st == LM_OK && !net.n)
        st = lm_fail(e, LM_EBUG, "operators are asked of a candidate that was not built");
    return st ? st : lm_network_uses(&net, w, see, ctx, e);
}
