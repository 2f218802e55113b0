/* SPDX-License-Identifier: Apache-2.0 */
/* sample.c -- items of evaluators that run candidates, spread over the workers.
 *
 * A task is an item with all candidates, in an order in which neighbours share long
 * prefixes, so that a worker's runner finds most hidden states where it left them.
 * Evaluators that ask candidates for the same token ids share tasks: behind the losses
 * of a text its divergence costs no more than the head.                      */
#include "base/mem.h"
#include "base/pool.h"
#include "study/batch.h"

enum { MAX_BRANCHES = 64 };             /* planned for */

static size_t common_prefix(const struct lm_network *x, const struct lm_network *y)
{
    size_t n = 0;

    while (n < x->n && n < y->n && lm_segment_spec(x->seg[n])->key ==
                                   lm_segment_spec(y->seg[n])->key)
        n++;
    return n;
}

/* Where candidates that come later in the task part from the k-th: the least prefix on
 * the way to each of them, deepest first.                                            */
static size_t branches(const struct batch *b, const struct task *t, size_t k, size_t *out)
{
    size_t n = 0, least = SIZE_MAX;

    for (size_t j = k + 1; j < t->end && n < MAX_BRANCHES && b->common[j]; j++)
        if (b->common[j] < least)
            out[n++] = least = b->common[j];
    return n;
}

/* What a task will ask for; what comes of it does not count. */
static void rehearse_task(struct batch *b, const struct task *t)
{
    const struct lm_judge *j = &b->v->args.judge[t->judge];

    for (size_t k = t->first; k < t->end && !lm_canceled(); k++) {
        struct lm_subject subject = { .evaluation = b->v, .candidate = b->live[k].c,
                                      .needs = j->ops->needs };
        struct lm_sum sum[LM_MAX_METRICS] = { { 0, 0 } };
        struct lm_err why = { 0 };

        if (lm_batch_due(b, t->judge, t->item, b->live[k].index))
            j->ops->eval(j->self, &subject, t->item, sum, &why);
    }
}

static void run_item(struct batch *b, const struct task *t, size_t judge, size_t k,
                     uint32_t worker)
{
    size_t depth[MAX_BRANCHES], index = b->live[k].index;
    struct lm_runner *runner;
    struct lm_err why = { 0 };

    if (!lm_batch_due(b, judge, t->item, index))
        ;
    else if (lm_evaluation_runner(b->v, worker, &runner, &why) != LM_OK)
        lm_batch_fail(b, index, &why);
    else {
        lm_runner_plan(runner, depth, branches(b, t, k, depth));
        if (b->v->args.alone)
            lm_runner_forget(runner);
        lm_batch_judge(b, judge, t->item, index, b->live[k].c, runner);
        lm_runner_plan(runner, NULL, 0);
    }
    lm_batch_step(b);
}

/* Judges that ask a candidate for the same follow one another: the next finds the hidden
 * states of the last one.  Those that compare with the dense model come first, as that may
 * have to be run, too. */
static void run_task(void *ctx, int64_t i, uint32_t worker)
{
    struct batch *b = ctx;
    const struct task *t = &b->task[i];
    const struct lm_judge *judge = b->v->args.judge;

    for (size_t k = t->first; k < t->end; k++)
        for (int dense = 1; dense >= 0; dense--)
            for (size_t j = t->judge; j < b->v->args.n_judge && !lm_canceled(); j++)
                if (b->lead[j] == t->judge
                    && dense == ((judge[j].ops->needs & LM_NEEDS_DENSE) != 0))
                    run_item(b, t, j, k, worker);
}

static void run_streamed(void *ctx, int64_t i, uint32_t worker, bool rehearsal)
{
    struct batch *b = ctx;

    if (rehearsal)
        rehearse_task(b, &b->task[i]);
    else
        run_task(b, i, worker);
}

/* A task is one item of one judge with all candidates, in the order that shares
 * prefixes; where few items do not go round evenly, the candidates are cut into a few
 * runs, so that all workers have something to do.                            */
static size_t blocks_of(const struct batch *b, int64_t n_items)
{
    size_t threads = (size_t)lm_pool_threads(), items = (size_t)n_items;
    bool even = items >= 4 * threads || items % threads == 0;
    size_t want = even ? 1 : (4 * threads + items - 1) / items;
    size_t most = items >= threads ? (b->n_live + 7) / 8 : b->n_live;

    return want < most ? want : most;
}

/* Items of a judge that some candidate is due to see: [*first, *end). */
static void find_items(const struct batch *b, size_t judge, int64_t *first, int64_t *end)
{
    const struct lm_judge *j = &b->v->args.judge[judge];

    *first = INT64_MAX;
    *end = 0;
    for (size_t i = 0; i < b->n_live; i++) {
        int64_t from = lm_judge_items(j, b->from[b->live[i].index]);
        int64_t to = lm_judge_items(j, b->to[b->live[i].index]);

        *first = from < *first ? from : *first;
        *end = to > *end ? to : *end;
    }
    if (b->low && *first < b->low[judge])
        *first = b->low[judge];
    if (b->low && *end > b->high[judge])
        *end = b->high[judge];
}

/* Where weights come and go all that is asked is run segment by segment anyway. */
static enum lm_status find_leads(struct batch *b, struct lm_err *e)
{
    struct lm_evaluation *v = b->v;
    bool streams = v->args.engine && lm_engine_streams(v->args.engine);
    size_t n = 0;
    enum lm_status st = LM_OK;

    for (size_t j = 0; j < v->args.n_judge; j++) {
        b->lead[j] = lm_judge_samples(&v->args.judge[j]) ? j : SIZE_MAX;
        n += b->lead[j] == j;
    }
    if (streams || n < 2)
        return LM_OK;
    if (!v->alike)
        st = lm_judges_compare(v, b->live[0].c, e);
    for (size_t j = 0; !st && j < v->args.n_judge; j++) {
        int64_t first[2], end[2];

        if (v->alike[j] == j)
            continue;
        find_items(b, j, &first[0], &end[0]);
        find_items(b, v->alike[j], &first[1], &end[1]);
        if (first[0] == first[1] && end[0] == end[1])
            b->lead[j] = v->alike[j];
    }
    return st;
}

static size_t make_tasks(const struct batch *b, struct task *task)
{
    const struct lm_evaluation_args *a = &b->v->args;
    size_t n = 0;

    for (size_t j = 0; j < a->n_judge; j++) {
        int64_t first, end;

        if (b->lead[j] != j)
            continue;
        find_items(b, j, &first, &end);
        size_t blocks = first < end ? blocks_of(b, end - first) : 0;
        for (int64_t item = first; item < end; item++)
            for (size_t k = 0; k < blocks; k++, n++)
                if (task)
                    task[n] = (struct task){ j, item, b->n_live * k / blocks,
                                             b->n_live * (k + 1) / blocks };
    }
    return n;
}

/* The items that from and to name. */
enum lm_status lm_batch_sample(struct batch *b, struct lm_err *e)
{
    struct task *task;

    b->n_live = 0;
    for (size_t i = 0; i < b->n; i++)
        if (b->to[b->order[i].index] > b->from[b->order[i].index])
            b->live[b->n_live++] = b->order[i];
    for (size_t k = 0; k < b->n_live; k++)
        b->common[k] = k ? common_prefix(&b->live[k - 1].c->net, &b->live[k].c->net) : 0;
    if (b->n_live == 0)
        return LM_OK;
    enum lm_status st = find_leads(b, e);
    size_t n = st ? 0 : make_tasks(b, NULL);
    if (n == 0)
        return st;
    task = lm_alloc_array(n, sizeof *task, "tasks");
    if (!task)
        return lm_fail_memory(e, n * sizeof *task, "the evaluation");
    make_tasks(b, task);
    b->task = task;
    const struct lm_engine *engine = b->v->args.engine;
    if (engine && lm_engine_streams(engine))
        st = lm_evaluate_streamed(b->v, (int64_t)n, run_streamed, b, e);
    else if ((st = lm_parallel((int64_t)n, run_task, b)) != LM_OK)
        lm_fail(e, st, "the evaluation was interrupted");
    lm_release(task);
    return st;
}
