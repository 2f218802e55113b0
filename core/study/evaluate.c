/* SPDX-License-Identifier: Apache-2.0 */
/* evaluate.c -- runs the evaluators of a pipeline over a batch of candidates.
 *
 * Four passes: evaluators that count only; those that run candidates, items
 * spread over the workers; those that need a quiet machine, on the main thread,
 * candidates taking turns within each item so that drift of the clock rate hits
 * all alike; those that run programs of the user, one candidate after the
 * other, so that the file of one is on disk at a time.
 *
 * Every item of every candidate has a place of its own for its sums, and these
 * are reduced in the order of the items: neither threads nor the order of work
 * can change a result.                                                       */
#include "study/evaluate.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "study/judging.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* A candidate's place in the walk of shared prefixes. */
struct place { const struct lm_candidate *c; size_t index; };

struct batch {
    struct lm_evaluation *v;
    const struct place *order;          /* [n] */
    size_t n, n_metric;
    const double *share;
    const bool *skip;
    struct lm_result *result;           /* [n][n_metric] */
    struct lm_err *err;                 /* [n] */
    pthread_mutex_t lock;               /* err, done, fatal */
    struct lm_err fatal;                /* what ends the whole evaluation */
    int64_t done, total;                /* items x candidates, for progress */
    const struct task *task;
};
struct task { size_t judge; int64_t item; size_t first, end; };    /* order[first..end) */

const struct lm_metric *lm_judge_metric(const struct lm_judge *j, size_t i)
{
    if (j->metric)
        return &j->metric[i];
    return (const void *)((const char *)j->ops->metric + i * j->ops->metric_size);
}

static enum lm_status open_judge(struct lm_judge *j, struct lm_err *e)
{
    if (!j->metric && (!j->ops->metric || j->ops->metric_size < sizeof(struct lm_metric)))
        return lm_fail(e, LM_EBUG, "evaluator '%s' declares no metrics", j->id);
    j->n_metric = 0;
    while (lm_judge_metric(j, j->n_metric)->name)
        if (++j->n_metric > LM_MAX_METRICS)
            return lm_fail(e, LM_EBUG, "evaluator '%s' declares more than %d metrics",
                           j->id, LM_MAX_METRICS);
    j->n_items = 0;
    memset(j->protocol, 0, sizeof j->protocol);
    if (j->ops->items(j->self, &j->n_items, e) != LM_OK
        || j->ops->protocol(j->self, j->protocol, sizeof j->protocol, e) != LM_OK)
        return lm_err_prefix(e, "evaluator '%s': ", j->id);
    j->protocol[sizeof j->protocol - 1] = 0;
    if (!j->protocol[0] || strchr(j->protocol, '\n'))
        return lm_fail(e, LM_EBUG, "evaluator '%s' does not say in one line how it measures",
                       j->id);
    if (j->n_items < 1 || j->n_items > INT32_MAX)
        return lm_fail(e, LM_EBUG, "evaluator '%s' has %lld items", j->id,
                       (long long)j->n_items);
    return LM_OK;
}

enum lm_status lm_evaluation_open(const struct lm_evaluation_args *a,
                                  struct lm_evaluation **out, struct lm_err *e)
{
    struct lm_evaluation *v = lm_alloc(sizeof *v, "evaluation");
    enum lm_status st = LM_OK;
    bool needs_dense = false;

    *out = NULL;
    if (!v)
        return lm_fail_memory(e, sizeof *v, "the evaluation");
    v->args = *a;
    for (size_t j = 0; st == LM_OK && j < a->n_judge; j++) {
        st = open_judge(&a->judge[j], e);
        v->n_metric += a->judge[j].n_metric;
        needs_dense |= (a->judge[j].ops->needs & LM_NEEDS_DENSE) != 0;
        if (st == LM_OK && !a->engine
            && a->judge[j].ops->needs & (LM_NEEDS_RUN | LM_NEEDS_DENSE))
            st = lm_fail(e, LM_EBUG, "evaluator '%s' runs models, but there is no "
                         "backend", a->judge[j].id);
    }
    if (st == LM_OK && needs_dense)
        st = lm_network_open(a->engine, lm_engine_model(a->engine), &v->dense, e);
    if (st == LM_OK && needs_dense)
        st = lm_teacher_open(a->engine, &v->dense, a->memory, &v->teacher, e);
    if (st != LM_OK) {
        lm_evaluation_close(v);
        return st;
    }
    *out = v;
    return LM_OK;
}

void lm_evaluation_close(struct lm_evaluation *v)
{
    if (!v)
        return;
    lm_clocks_close(v);
    lm_offers_drop(v);
    lm_release(v->offer);
    for (uint32_t i = 0; i < v->n_runner; i++)
        lm_runner_close(v->runner[i]);
    lm_release(v->runner);
    lm_teacher_close(v->teacher);
    lm_network_close(&v->dense);
    lm_release(v);
}

size_t lm_evaluation_metrics(const struct lm_evaluation *v)
{
    return v->n_metric;
}

/* ---- one judge, one candidate, one item -------------------------------------------- */

static size_t first_metric(const struct lm_evaluation *v, size_t judge)
{
    size_t first = 0;

    for (size_t j = 0; j < judge; j++)
        first += v->args.judge[j].n_metric;
    return first;
}

/* Fidelity f means the first ceil(f n) items. */
static int64_t items_of(const struct batch *b, size_t judge, size_t candidate)
{
    int64_t n = b->v->args.judge[judge].n_items;
    double f = b->share ? b->share[candidate] : 1;
    int64_t want = (int64_t)ceil(f * (double)n - 1e-9);

    return want < 1 ? 1 : want > n ? n : want;
}

static bool is_wanted(const struct batch *b, size_t judge, size_t candidate)
{
    size_t first = candidate * b->n_metric + first_metric(b->v, judge);
    size_t n = b->v->args.judge[judge].n_metric;

    for (size_t m = 0; m < n; m++)
        if (!b->skip || !b->skip[first + m])
            return true;
    return false;
}

static bool has_failed(struct batch *b, size_t candidate)
{
    pthread_mutex_lock(&b->lock);
    bool failed = b->err[candidate].code != LM_OK || b->fatal.code != LM_OK;
    pthread_mutex_unlock(&b->lock);
    return failed;
}

/* Want of memory, a full disk and cancelling say nothing about a candidate: they
 * end all.                                                                   */
static void set_failed(struct batch *b, size_t candidate, const struct lm_err *why)
{
    pthread_mutex_lock(&b->lock);
    if (why->code == LM_ENOMEM || why->code == LM_ECANCELED || why->code == LM_EIO) {
        if (b->fatal.code == LM_OK)
            b->fatal = *why;
    } else if (b->err[candidate].code == LM_OK) {
        b->err[candidate] = *why;
    }
    pthread_mutex_unlock(&b->lock);
}

static void step(struct batch *b)
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

static void judge_item(struct batch *b, size_t judge, int64_t item, size_t candidate,
                       const struct lm_candidate *c, struct lm_runner *runner)
{
    const struct lm_judge *j = &b->v->args.judge[judge];
    struct lm_subject subject = { .evaluation = b->v, .candidate = c, .runner = runner,
                                  .needs = j->ops->needs };
    struct lm_sum sum[LM_MAX_METRICS] = { { 0, 0 } };
    struct lm_err why = { 0 };

    enum lm_status st = j->ops->eval(j->self, &subject, item, sum, &why);
    if (st == LM_OK)
        st = check_sums(j, item, sum, &why);
    else
        lm_err_prefix(&why, "%s: ", j->id);
    if (st != LM_OK) {
        if (why.code == LM_OK)
            lm_fail(&why, LM_EBUG, "%s failed without saying why", j->id);
        set_failed(b, candidate, &why);
        return;
    }
    struct lm_result *r = b->result + candidate * b->n_metric + first_metric(b->v, judge);
    for (size_t m = 0; m < j->n_metric; m++)
        if (r[m].sum)
            r[m].sum[item] = sum[m];
}

/* Does this candidate still want this item? */
static bool is_due(struct batch *b, size_t judge, int64_t item, size_t candidate)
{
    return is_wanted(b, judge, candidate) && item < items_of(b, judge, candidate)
        && !has_failed(b, candidate);
}

/* ---- the four passes ------------------------------------------------------------ */

static bool is_direct(const struct lm_judge *j)
{
    return !(j->ops->needs & (LM_NEEDS_RUN | LM_NEEDS_DENSE | LM_NEEDS_QUIET |
                              LM_NEEDS_COMMANDS));
}

/* direct: evaluators that count; else those that need quiet.  These run on
 * this thread with nothing beside, so they get no worker's runner.            */
static void run_serial(struct batch *b, bool direct)
{
    struct lm_evaluation *v = b->v;

    for (size_t j = 0; j < v->args.n_judge; j++) {
        struct lm_judge *judge = &v->args.judge[j];
        bool quiet = (judge->ops->needs & (LM_NEEDS_QUIET | LM_NEEDS_COMMANDS))
            == LM_NEEDS_QUIET;

        if (direct ? !is_direct(judge) : !quiet)
            continue;
        /* So many decoders (with their caches) are open at a time. */
        size_t group = direct ? b->n : QUIET_GROUP;
        for (size_t first = 0; first < b->n; first += group) {
            size_t end = b->n - first < group ? b->n : first + group;

            for (int64_t item = 0; item < judge->n_items; item++)
                for (size_t i = first; i < end && !lm_canceled(); i++) {
                    const struct place *p = &b->order[i];

                    if (is_due(b, j, item, p->index))
                        judge_item(b, j, item, p->index, p->c, NULL);
                    step(b);
                }
            lm_clocks_close(v);
        }
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
                if (!lm_canceled() && is_due(b, j, item, p->index))
                    judge_item(b, j, item, p->index, p->c, NULL);
                step(b);
            }
        }
        lm_offers_drop(v);
    }
}

static void run_task(void *ctx, int64_t i, uint32_t worker)
{
    struct batch *b = ctx;
    const struct task *t = &b->task[i];

    for (size_t k = t->first; k < t->end; k++) {
        size_t index = b->order[k].index;
        struct lm_runner *runner;
        struct lm_err why = { 0 };

        if (lm_canceled())
            return;
        if (!is_due(b, t->judge, t->item, index))
            ;
        else if (lm_evaluation_runner(b->v, worker, &runner, &why) != LM_OK)
            set_failed(b, index, &why);
        else
            judge_item(b, t->judge, t->item, index, b->order[k].c, runner);
        step(b);
    }
}

/* A task is one item of one judge with all candidates, in the order that
 * shares prefixes; with few items the candidates are cut into a few runs, so
 * that all workers have something to do.                                     */
static size_t blocks_of(const struct batch *b, int64_t n_items)
{
    size_t threads = (size_t)lm_pool_threads(), items = (size_t)n_items;
    size_t want = items >= 4 * threads ? 1 : (4 * threads + items - 1) / items;
    size_t most = items >= threads ? (b->n + 7) / 8 : b->n;

    return want < most ? want : most;
}

static bool is_parallel(const struct lm_judge *j)
{
    return !is_direct(j) && !(j->ops->needs & (LM_NEEDS_QUIET | LM_NEEDS_COMMANDS));
}

static size_t make_tasks(const struct batch *b, struct task *task)
{
    const struct lm_evaluation_args *a = &b->v->args;
    size_t n = 0;

    for (size_t j = 0; j < a->n_judge; j++) {
        if (!is_parallel(&a->judge[j]))
            continue;
        size_t blocks = blocks_of(b, a->judge[j].n_items);
        for (int64_t item = 0; item < a->judge[j].n_items; item++)
            for (size_t k = 0; k < blocks; k++, n++)
                if (task)
                    task[n] = (struct task){ j, item, b->n * k / blocks,
                                             b->n * (k + 1) / blocks };
    }
    return n;
}

static enum lm_status run_parallel(struct batch *b, struct lm_err *e)
{
    size_t n = make_tasks(b, NULL);
    struct task *task;

    if (n == 0)
        return LM_OK;
    task = lm_alloc_array(n, sizeof *task, "tasks");
    if (!task)
        return lm_fail_memory(e, n * sizeof *task, "the evaluation");
    make_tasks(b, task);
    b->task = task;
    enum lm_status st = lm_parallel((int64_t)n, run_task, b);
    lm_release(task);
    return st == LM_OK ? LM_OK : lm_fail(e, st, "the evaluation was interrupted");
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
            size_t first = i * b->n_metric + first_metric(b->v, j);

            for (size_t m = 0; m < a->judge[j].n_metric; m++) {
                struct lm_result *r = &b->result[first + m];

                if (b->err[i].code != LM_OK || (b->skip && b->skip[first + m]))
                    continue;
                r->n_sum = (size_t)items_of(b, j, i);
                r->sum = lm_alloc_array(r->n_sum, sizeof *r->sum, "sums");
                if (!r->sum)
                    return lm_fail_memory(e, r->n_sum * sizeof *r->sum, "the sums");
            }
        }
    return LM_OK;
}

static void reduce_all(struct batch *b)
{
    const struct lm_evaluation_args *a = &b->v->args;

    for (size_t i = 0; i < b->n; i++)
        for (size_t j = 0; j < a->n_judge; j++) {
            struct lm_result *r = b->result + i * b->n_metric + first_metric(b->v, j);

            for (size_t m = 0; m < a->judge[j].n_metric; m++) {
                const struct lm_metric *metric = lm_judge_metric(&a->judge[j], m);

                if (b->err[i].code != LM_OK) {
                    lm_results_free(&r[m], 1);
                    continue;
                }
                if (!r[m].sum)
                    continue;
                lm_reduce(metric, r[m].sum, r[m].n_sum, &r[m].value, &r[m].error);
                if (is_direct(&a->judge[j]) && r[m].n_sum == 1 && !metric->noisy)
                    r[m].error = 0;         /* counted, not sampled */
            }
        }
}

static enum lm_status run_batch(struct batch *b, struct lm_err *e)
{
    const struct lm_evaluation_args *a = &b->v->args;

    for (size_t j = 0; j < a->n_judge; j++)
        b->total += a->judge[j].n_items * (int64_t)b->n;
    lm_progress_begin("evaluating");
    run_serial(b, true);
    enum lm_status st = run_parallel(b, e);
    if (st == LM_OK && b->fatal.code == LM_OK)
        run_serial(b, false);
    if (st == LM_OK && b->fatal.code == LM_OK)
        run_commands(b);
    lm_progress_end();
    if (st == LM_OK && b->fatal.code != LM_OK) {
        *e = b->fatal;
        st = e->code;
    }
    if (st == LM_OK && lm_canceled())
        st = lm_fail(e, LM_ECANCELED, "the evaluation was interrupted");
    return st;
}

enum lm_status lm_evaluate(struct lm_evaluation *v, struct lm_candidate *c, size_t n,
                           const double *share, const bool *skip,
                           struct lm_result *result, struct lm_err *err,
                           struct lm_err *e)
{
    struct batch b = { .v = v, .n = n, .n_metric = v->n_metric, .share = share,
                       .skip = skip, .result = result, .err = err };
    struct place *order = lm_alloc_array(n ? n : 1, sizeof *order, "order");

    for (size_t i = 0; i < n * v->n_metric; i++)
        result[i] = (struct lm_result){ NAN, NAN, NULL, 0 };
    if (!order)
        return lm_fail_memory(e, n * sizeof *order, "the evaluation");
    for (size_t i = 0; i < n; i++)
        order[i] = (struct place){ &c[i], i };
    qsort(order, n, sizeof *order, by_keys);
    b.order = order;
    pthread_mutex_init(&b.lock, NULL);
    enum lm_status st = make_sums(&b, e);
    if (st == LM_OK && n > 0)
        st = lm_evaluation_prepare(v, e);
    if (st == LM_OK && n > 0)
        st = run_batch(&b, e);
    if (st == LM_OK)
        reduce_all(&b);
    else
        lm_results_free(result, n * v->n_metric);
    pthread_mutex_destroy(&b.lock);
    lm_release(order);
    return st;
}

void lm_results_free(struct lm_result *r, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        lm_release(r[i].sum);
        r[i] = (struct lm_result){ NAN, NAN, NULL, 0 };
    }
}
