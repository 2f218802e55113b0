/* SPDX-License-Identifier: Apache-2.0 */
/* evaluate.c -- runs the evaluators of a pipeline over a batch of candidates.
 *
 * Four passes: evaluators that count only; those that run candidates, items
 * spread over the workers; those that need a quiet machine, on the main thread,
 * candidates taking turns within each item (timing.c); those that run programs
 * of the user, one candidate after the other, so that the file of one is on disk
 * at a time.
 *
 * Every item of every candidate has a place of its own for its sums, and these
 * are reduced in the order of the items: neither threads nor the order of work
 * can change a result.                                                       */
#include "study/evaluate.h"

#include "base/cpufreq.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "study/batch.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- one judge, one candidate, one item -------------------------------------------- */

static double share_of(const struct batch *b, size_t candidate)
{
    return b->share ? b->share[candidate] : 1;
}

static bool is_wanted(const struct batch *b, size_t judge, size_t candidate)
{
    return lm_judge_wanted(b->v->args.judge, judge,
                           b->skip ? b->skip + candidate * b->n_metric : NULL);
}

static bool has_failed(struct batch *b, size_t candidate)
{
    pthread_mutex_lock(&b->lock);
    bool failed = b->err[candidate].code != LM_OK || b->fatal.code != LM_OK;
    pthread_mutex_unlock(&b->lock);
    return failed;
}

/* Want of memory, a full disk, cancelling and the loss of a device say nothing about a
 * candidate: they end all.                                                   */
void lm_batch_fail(struct batch *b, size_t candidate, const struct lm_err *why)
{
    pthread_mutex_lock(&b->lock);
    if (why->code == LM_ENOMEM || why->code == LM_ECANCELED || why->code == LM_EIO
        || why->code == LM_EUNAVAILABLE) {
        if (b->fatal.code == LM_OK)
            b->fatal = *why;
    } else if (b->err[candidate].code == LM_OK) {
        b->err[candidate] = *why;
    }
    pthread_mutex_unlock(&b->lock);
}

void lm_batch_step(struct batch *b)
{
    pthread_mutex_lock(&b->lock);
    double fraction = (double)++b->done / (double)b->total;
    pthread_mutex_unlock(&b->lock);
    lm_progress(fraction, NULL);
}

/* A run that overflows makes a candidate infeasible, not the search fail. */
static enum lm_status check_sums(const struct lm_judge *j, int64_t item,
                                 const struct lm_sum *sum, struct lm_err *e)
{
    for (size_t m = 0; m < j->n_metric; m++)
        if (!isfinite(sum[m].value) || !isfinite(sum[m].weight) || sum[m].weight < 0)
            return lm_fail(e, LM_EINFEASIBLE, "%s.%s: item %lld gives no finite number",
                           j->id, lm_judge_metric(j, m)->name, (long long)item);
    return LM_OK;
}

/* Once more with nothing on the device but what this one needs: hidden states that are
 * kept may have been too much.                                               */
static enum lm_status eval_alone(const struct lm_judge *j, struct lm_subject *s,
                                 int64_t item, struct lm_sum *sum, struct lm_err *why)
{
    lm_runner_release(s->runner);
    size_t limit = lm_runner_limit(s->runner, 1);
    memset(sum, 0, LM_MAX_METRICS * sizeof *sum);
    s->precision = LM_AS_F32;
    *why = (struct lm_err){ .code = LM_OK };
    enum lm_status st = j->ops->eval(j->self, s, item, sum, why);
    lm_runner_limit(s->runner, limit);
    return st;
}

void lm_batch_judge(struct batch *b, size_t judge, int64_t item, size_t candidate,
                       const struct lm_candidate *c, struct lm_runner *runner)
{
    const struct lm_judge *j = &b->v->args.judge[judge];
    struct lm_subject subject = { .evaluation = b->v, .candidate = c, .runner = runner,
                                  .needs = j->ops->needs };
    struct lm_sum sum[LM_MAX_METRICS] = { { 0, 0 } };
    struct lm_err why = { 0 };

    enum lm_status st = j->ops->eval(j->self, &subject, item, sum, &why);
    if (st == LM_EINFEASIBLE && runner)
        st = eval_alone(j, &subject, item, sum, &why);
    if (st == LM_OK)
        st = check_sums(j, item, sum, &why);
    else
        lm_err_prefix(&why, "%s: ", j->id);
    if (st != LM_OK) {
        if (why.code == LM_OK)
            lm_fail(&why, LM_EBUG, "%s failed without saying why", j->id);
        lm_batch_fail(b, candidate, &why);
        return;
    }
    struct lm_result *r = b->result + candidate * b->n_metric +
                          lm_judge_first(b->v->args.judge, judge);
    for (size_t m = 0; m < j->n_metric; m++)
        if (r[m].sum)
            r[m].sum[item] = sum[m];
}

bool lm_batch_due(struct batch *b, size_t judge, int64_t item, size_t candidate)
{
    const struct lm_judge *j = &b->v->args.judge[judge];

    return is_wanted(b, judge, candidate) && item >= lm_judge_items(j, b->from[candidate])
        && item < lm_judge_items(j, b->to[candidate]) && !has_failed(b, candidate)
        && (!b->low || (item >= b->low[judge] && item < b->high[judge]));
}

/* What is run next: each candidate up to its share, none of those that stopped. */
static void set_range(struct batch *b)
{
    for (size_t i = 0; i < b->n; i++) {
        b->from[i] = 0;
        b->to[i] = b->stop[i] ? 0 : share_of(b, i);
    }
}

/* ---- the four passes ------------------------------------------------------------ */

static void run_counting(struct batch *b)
{
    struct lm_evaluation *v = b->v;

    for (size_t j = 0; j < v->args.n_judge; j++)
        for (int64_t item = 0; lm_judge_counts(&v->args.judge[j])
             && item < v->args.judge[j].n_items; item++)
            for (size_t i = 0; i < b->n && !lm_canceled(); i++) {
                const struct place *p = &b->order[i];

                if (lm_batch_due(b, j, item, p->index))
                    lm_batch_judge(b, j, item, p->index, p->c, NULL);
                lm_batch_step(b);
            }
}

/* All command evaluators of one candidate, then of the next. */
static void run_commands(struct batch *b)
{
    struct lm_evaluation *v = b->v;

    for (size_t i = 0; i < b->n; i++) {
        const struct place *p = &b->order[i];

        for (size_t j = 0; j < v->args.n_judge; j++) {
            if (!(v->args.judge[j].ops->needs & LM_NEEDS_COMMANDS))
                continue;
            for (int64_t item = 0; item < v->args.judge[j].n_items; item++) {
                if (!lm_canceled() && lm_batch_due(b, j, item, p->index))
                    lm_batch_judge(b, j, item, p->index, p->c, NULL);
                lm_batch_step(b);
            }
        }
        lm_offers_drop(v);
    }
}

/* Items of a pass that candidates are to see now, times candidates. */
static int64_t count_items(const struct batch *b, const struct lm_chore *c)
{
    int64_t n = 0, first, end;

    for (size_t j = 0; j < b->v->args.n_judge; j++)
        for (size_t i = 0; i < c->n; i++) {
            lm_chore_span(c, b->v->args.judge, j, i, &first, &end);
            n += end - first;
        }
    return n;
}

static void read_clock(struct lm_tally *t)
{
    struct lm_cpu_clock now;

    if (!lm_cpu_clock_read("/sys/devices/system/cpu", &now))
        return;
    struct lm_tally more = { .mhz_first = now.mhz, .mhz_last = now.mhz,
                             .mhz_low = now.mhz, .mhz_high = now.mhz };
    memcpy(more.governor, now.governor, sizeof more.governor);
    lm_tally_add(t, &more);
}

/* Here, or wherever it is done. */
static enum lm_status run_pass(struct batch *b, enum lm_pass pass, struct lm_err *e)
{
    const struct lm_evaluation_args *a = &b->v->args;
    struct lm_chore c = { .pass = pass, .n = b->n, .candidate = b->candidate,
                          .from = b->from, .to = b->to, .skip = b->skip,
                          .tally = &b->v->tally };
    int64_t n = count_items(b, &c);
    enum lm_status st = LM_OK;

    if (pass == LM_PASS_QUIET && n)
        read_clock(&b->v->tally);
    if (a->delegate) {
        c.before = (double)b->done / (double)b->total;
        c.share = (double)n / (double)b->total;
        b->done += n;
        if (n)
            st = a->delegate(a->delegate_ctx, &c, b->result, b->err, &b->v->delegated, e);
    } else if (pass == LM_PASS_SAMPLE) {
        st = lm_batch_sample(b, e);
    } else if (pass == LM_PASS_COMMANDS) {
        run_commands(b);
    } else if (pass == LM_PASS_QUIET) {
        st = lm_batch_time(b, e);
    } else {
        run_counting(b);
    }
    if (pass == LM_PASS_QUIET && n)
        read_clock(&b->v->tally);
    return st;
}

static double rung_share(const struct lm_rungs *rungs, size_t rung)
{
    return rung < rungs->n ? rungs->share[rung] : 1;
}

/* Those of partial share to their end, the others as far as the looks send them. */
static enum lm_status run_race(struct batch *b, const struct lm_rungs *rungs,
                               double *reached, struct lm_err *e)
{
    set_range(b);
    for (size_t i = 0; i < b->n; i++)
        if ((b->stop[i] = b->to[i] == 1))
            b->to[i] = reached[i] = rung_share(rungs, 0);
    for (;;) {
        bool any = false;
        enum lm_status st = run_pass(b, LM_PASS_SAMPLE, e);

        if (st != LM_OK || b->fatal.code != LM_OK)
            return st;
        if ((st = rungs->look(rungs->ctx, b->result, b->err, b->go, e)) != LM_OK)
            return st;
        for (size_t i = 0; i < b->n; i++) {
            bool go = b->stop[i] && b->go[i];

            b->from[i] = b->to[i];
            if (go)
                b->to[i] = reached[i] = rung_share(rungs, ++b->rung[i]);
            b->stop[i] &= reached[i] < 1;
            any |= go;
        }
        if (!any)
            return LM_OK;
    }
}

static enum lm_status run_parallel(struct batch *b, const struct lm_rungs *rungs,
                                   double *reached, struct lm_err *e)
{
    if (rungs)
        return run_race(b, rungs, reached, e);
    set_range(b);
    return run_pass(b, LM_PASS_SAMPLE, e);
}

/* ---- a batch --------------------------------------------------------------------- */

static int by_keys(const void *left, const void *right)
{
    const struct place *a = left, *b = right;
    const struct lm_network *x = &a->c->net, *y = &b->c->net;

    for (size_t i = 0; i < x->n && i < y->n; i++) {
        uint64_t p = lm_segment_spec(x->seg[i])->key;
        uint64_t q = lm_segment_spec(y->seg[i])->key;

        if (p != q)
            return p < q ? -1 : 1;
    }
    if (x->n != y->n)
        return x->n < y->n ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

/* Places for all sums; what is already known gets none. */
static enum lm_status make_sums(struct batch *b, struct lm_err *e)
{
    const struct lm_evaluation_args *a = &b->v->args;

    for (size_t i = 0; i < b->n; i++)
        for (size_t j = 0; j < a->n_judge; j++) {
            size_t first = i * b->n_metric + lm_judge_first(a->judge, j);

            for (size_t m = 0; m < a->judge[j].n_metric; m++) {
                struct lm_result *r = &b->result[first + m];

                if (b->err[i].code != LM_OK || (b->skip && b->skip[first + m]))
                    continue;
                r->n_sum = (size_t)lm_judge_items(&a->judge[j], share_of(b, i));
                r->sum = lm_alloc_array(r->n_sum, sizeof *r->sum, "sums");
                if (!r->sum)
                    return lm_fail_memory(e, r->n_sum * sizeof *r->sum, "the sums");
            }
        }
    return LM_OK;
}

/* reached [n]: shares at which candidates stopped. */
static void reduce_all(struct batch *b, const double *reached)
{
    const struct lm_evaluation_args *a = &b->v->args;

    for (size_t i = 0; i < b->n; i++)
        for (size_t j = 0; j < a->n_judge; j++) {
            struct lm_result *r = b->result + i * b->n_metric +
                                  lm_judge_first(a->judge, j);

            for (size_t m = 0; m < a->judge[j].n_metric; m++) {
                const struct lm_metric *metric = lm_judge_metric(&a->judge[j], m);
                bool sampled = lm_judge_samples(&a->judge[j]);

                if (b->err[i].code != LM_OK ||
                    (b->stop[i] && !sampled && !lm_judge_counts(&a->judge[j]))) {
                    lm_results_free(&r[m], 1);
                    continue;
                }
                if (!r[m].sum)
                    continue;
                if (b->stop[i] && sampled)
                    r[m].n_sum = (size_t)lm_judge_items(&a->judge[j], reached[i]);
                lm_reduce(metric, r[m].sum, r[m].n_sum, &r[m].value, &r[m].error);
                if (lm_judge_counts(&a->judge[j]) && r[m].n_sum == 1 && !metric->noisy)
                    r[m].error = 0;         /* counted, not sampled */
            }
        }
}

static enum lm_status how_it_ended(const struct batch *b, enum lm_status st,
                                   struct lm_err *e)
{
    if (st == LM_OK && b->fatal.code != LM_OK) {
        *e = b->fatal;
        st = e->code;
    }
    if (st == LM_OK && lm_canceled())
        st = lm_fail(e, LM_ECANCELED, "the evaluation was interrupted");
    return st;
}

static enum lm_status run_batch(struct batch *b, const struct lm_rungs *rungs,
                                double *reached, struct lm_err *e)
{
    const struct lm_evaluation_args *a = &b->v->args;

    for (size_t j = 0; j < a->n_judge; j++)
        b->total += a->judge[j].n_items * (int64_t)b->n;
    lm_progress_begin("evaluating");
    set_range(b);
    enum lm_status st = run_pass(b, LM_PASS_COUNT, e);
    if (st == LM_OK)
        st = run_parallel(b, rungs, reached, e);
    set_range(b);
    if (st == LM_OK && b->fatal.code == LM_OK)
        st = run_pass(b, LM_PASS_QUIET, e);
    if (st == LM_OK && b->fatal.code == LM_OK)
        st = run_pass(b, LM_PASS_COMMANDS, e);
    lm_progress_end();
    return how_it_ended(b, st, e);
}

/* What a batch needs besides its sums; released by close_batch. */
static enum lm_status open_batch(struct batch *b, struct lm_candidate *c,
                                 struct lm_err *e)
{
    size_t n = b->n;
    struct place *order = lm_alloc_array(2 * n + 1, sizeof *order, "order");

    b->candidate = c;
    b->order = order;
    b->from = lm_alloc_array(2 * n + 1, sizeof *b->from, "order");
    b->stop = lm_alloc_array(2 * n + 1, sizeof *b->stop, "order");
    b->rung = lm_alloc_array(n + 1, sizeof *b->rung, "order");
    b->common = lm_alloc_array(n + 1, sizeof *b->common, "order");
    b->lead = lm_alloc_array(b->v->args.n_judge + 1, sizeof *b->lead, "order");
    if (!order || !b->from || !b->stop || !b->rung || !b->common || !b->lead)
        return lm_fail_memory(e, n * sizeof *order, "the evaluation");
    b->to = b->from + n;
    b->go = b->stop + n;
    b->live = order + n;
    for (size_t i = 0; i < n; i++)
        order[i] = (struct place){ &c[i], i };
    qsort(order, n, sizeof *order, by_keys);
    return LM_OK;
}

static void close_batch(struct batch *b)
{
    lm_release((void *)b->order);
    lm_release(b->from);
    lm_release(b->stop);
    lm_release(b->rung);
    lm_release(b->common);
    lm_release(b->lead);
    pthread_mutex_destroy(&b->lock);
}

enum lm_status lm_evaluate_chore(struct lm_evaluation *v, const struct lm_chore *c,
                                 struct lm_result *result, struct lm_err *err,
                                 struct lm_err *e)
{
    struct batch b = { .v = v, .n = c->n, .n_metric = v->n_metric, .share = c->to,
                       .skip = c->skip, .low = c->low, .high = c->high, .result = result,
                       .err = err };

    for (size_t i = 0; i < c->n * v->n_metric; i++)
        result[i] = (struct lm_result){ NAN, NAN, NULL, 0 };
    pthread_mutex_init(&b.lock, NULL);
    b.total = count_items(&b, c);
    enum lm_status st = open_batch(&b, (struct lm_candidate *)c->candidate, e);
    if (st == LM_OK)
        st = make_sums(&b, e);
    if (st == LM_OK)
        st = lm_evaluation_prepare(v, e);
    if (st == LM_OK && b.total > 0) {
        lm_engine_turn(v->args.engine);
        memcpy(b.from, c->from, c->n * sizeof *b.from);
        memcpy(b.to, c->to, c->n * sizeof *b.to);
        lm_progress_begin("evaluating");
        st = run_pass(&b, c->pass, e);
        lm_progress_end();
        st = how_it_ended(&b, st, e);
    }
    if (st != LM_OK)
        lm_results_free(result, c->n * v->n_metric);
    close_batch(&b);
    return st;
}

enum lm_status lm_evaluate_race(struct lm_evaluation *v, struct lm_candidate *c, size_t n,
                                const double *share, const bool *skip,
                                const struct lm_rungs *rungs, double *reached,
                                struct lm_result *result, struct lm_err *err,
                                struct lm_err *e)
{
    struct batch b = { .v = v, .n = n, .n_metric = v->n_metric, .share = share,
                       .skip = skip, .result = result, .err = err };

    for (size_t i = 0; i < n * v->n_metric; i++)
        result[i] = (struct lm_result){ NAN, NAN, NULL, 0 };
    for (size_t i = 0; i < n && reached; i++)
        reached[i] = share_of(&b, i);
    pthread_mutex_init(&b.lock, NULL);
    enum lm_status st = open_batch(&b, c, e);
    if (st == LM_OK)
        st = make_sums(&b, e);
    if (st == LM_OK && n > 0)
        st = lm_evaluation_prepare(v, e);
    if (st == LM_OK && n > 0)
        lm_engine_turn(v->args.engine);
    if (st == LM_OK && n > 0)
        st = run_batch(&b, rungs, reached, e);
    if (st == LM_OK)
        reduce_all(&b, reached);
    else
        lm_results_free(result, n * v->n_metric);
    close_batch(&b);
    return st;
}

enum lm_status lm_evaluate(struct lm_evaluation *v, struct lm_candidate *c, size_t n,
                           const double *share, const bool *skip,
                           struct lm_result *result, struct lm_err *err,
                           struct lm_err *e)
{
    return lm_evaluate_race(v, c, n, share, skip, NULL, NULL, result, err, e);
}
