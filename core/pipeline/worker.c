/* SPDX-License-Identifier: Apache-2.0 */
/* worker.c -- see worker.h.
 *
 * Candidates of a batch stay open until the next batch, so that the rungs of a race
 * and the passes of an evaluation find them built.  Statistics, converted models and
 * the weights of mapped files are shared with the other processes; weights decoded to
 * f32 and derived matrices are this process's own.                          */
#include "pipeline/worker.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/child.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/process.h"
#include "pipeline/host.h"
#include "pipeline/worker_message.h"

/* A candidate of the present batch. */
struct kept {
    struct kept *next;
    uint64_t hash;
    struct lm_plan *plan;
    struct lm_candidate c;
};

struct worker {
    int fd;
    pthread_mutex_t lock;               /* of writing to fd */
    struct lm_frames in;
    struct lm_pipeline *pipeline;
    struct lm_session *s;
    struct kept *kept;
    uint64_t batch, id;                 /* of the kept ones; of the order at work */
};

uint64_t lm_worker_fingerprint(const struct lm_bench *b)
{
    uint64_t h = lm_hash_u64(b->n_judge, 1);
    for (size_t j = 0; j < b->n_judge; j++) {
        h = lm_hash_str(b->judge[j].id, h);
        h = lm_hash_str(b->judge[j].protocol, h);
        h = lm_hash_u64((uint64_t)b->judge[j].n_items, h);
        h = lm_hash_u64(b->judge[j].n_metric, h);
    }
    return h;
}

/* ---- talking ---------------------------------------------------------------------- */

/* Sends and frees t. */
static enum lm_status send_all(struct worker *w, struct lm_str *t, struct lm_err *e)
{
    size_t at = 0;
    enum lm_status st = t->failed ? lm_fail_memory(e, t->n, "a message") : LM_OK;
    pthread_mutex_lock(&w->lock);
    if (!st)
        st = lm_frame_write(w->fd, t, &at, e);
    pthread_mutex_unlock(&w->lock);
    lm_str_free(t);
    return st;
}

/* lm_progress_sink: from any thread.  Whoever asked is gone: so is the work. */
static void say_alive(void *ctx, double fraction)
{
    struct worker *w = ctx;
    struct lm_str t = { 0 };
    struct lm_alive a = { w->id, fraction };
    lm_say_alive(&t, &a);
    if (send_all(w, &t, NULL) == LM_EIO)
        lm_cancel(true);
}

static enum lm_status say_failed(struct worker *w, const struct lm_err *why,
                                 struct lm_err *e)
{
    struct lm_str t = { 0 };
    struct lm_done d = { .id = w->id, .status = why->code,
                         .text = why->text[0] ? why->text : lm_status_name(why->code) };
    lm_say_done(&t, &d);
    return send_all(w, &t, e);
}

/* Waits for a message; *kind 0: there will be none. */
static enum lm_status listen_to(struct worker *w, uint32_t *kind, const void **body,
                                size_t *n, struct lm_err *e)
{
    bool open = true;
    *kind = 0;
    while (!lm_frames_next(&w->in, kind, body, n) && open) {
        enum lm_status st = lm_frames_read(&w->in, w->fd, &open, e);
        if (st)
            return st;
    }
    return LM_OK;
}

/* ---- opening ---------------------------------------------------------------------- */

static enum lm_status open_pipeline(struct worker *w, const struct lm_hello *h,
                                    struct lm_err *e)
{
    char threads[64], memory[64];
    struct lm_conf *conf;
    const char *const set[] = { "run.workers=0", threads, memory };
    if (strcmp(h->version, lm_host()->version))
        return lm_fail(e, LM_ECONFIG, "this program is version %s, the run that started "
                       "it %s", lm_host()->version, h->version);
    snprintf(threads, sizeof threads, "run.threads=%llu", (unsigned long long)h->threads);
    snprintf(memory, sizeof memory, "run.memory=%lluL", (unsigned long long)h->memory);
    enum lm_status st = lm_conf_parse(h->pipeline, "study.db", set, 3, &conf, e);
    if (st || (st = lm_pipeline_open(conf, &w->pipeline, e)))
        return st;
    w->pipeline->beside = h->workers;
    lm_process_allow(h->commands);
    if ((st = lm_run_set_folder(w->pipeline->run, w->pipeline->options->out, e)) ||
        (st = lm_pool_start((int)h->threads, e)))
        return st;
    return lm_session_open(w->pipeline, &w->s, e);
}

static enum lm_status open_worker(struct worker *w, const void *body, size_t n,
                                  struct lm_err *e)
{
    struct lm_hello h;
    struct lm_str t = { 0 };
    enum lm_status st = lm_hear_hello(body, n, &h, e);
    lm_log_level(LM_ERROR);             /* the run itself has warned of all that */
    if (!st)
        st = open_pipeline(w, &h, e);
    lm_log_level(LM_WARN);
    if (st)
        return st;
    lm_say_ready(&t, lm_model_hash(w->s->bench.model));
    return send_all(w, &t, e);
}

/* ---- candidates ------------------------------------------------------------------- */

static void forget(struct worker *w)
{
    for (struct kept *k = w->kept, *next; k; k = next) {
        next = k->next;
        lm_candidate_close(w->s->bench.workshop, &k->c);
        lm_plan_free(k->plan);
        lm_release(k);
    }
    w->kept = NULL;
}

static const struct kept *find(const struct worker *w, uint64_t hash)
{
    const struct kept *k = w->kept;
    while (k && k->hash != hash)
        k = k->next;
    return k;
}

static enum lm_status parse(struct worker *w, const struct lm_order_plan *o,
                            struct lm_plan **plan, struct lm_err *e)
{
    enum lm_status st = lm_plan_parse(lm_model_arch(w->s->bench.model), o->plan, plan, e);
    if (!st && lm_plan_hash(*plan) != o->hash) {
        lm_plan_free(*plan);
        st = lm_fail(e, LM_EBUG, "a plan is another one once it was written and read");
    }
    return st;
}

/* Keeps a built candidate; one that was not built is its plan and err. */
static enum lm_status keep(struct worker *w, struct lm_candidate *c, uint64_t hash,
                           struct lm_err *e)
{
    struct kept *k = lm_alloc(sizeof *k, "candidate");
    if (!k) {
        lm_candidate_close(w->s->bench.workshop, c);
        lm_plan_free(c->plan);
        return lm_fail_memory(e, sizeof *k, "a candidate");
    }
    *k = (struct kept){ w->kept, hash, c->plan, *c };
    w->kept = k;
    return LM_OK;
}

/* Builds all that are not there yet, in parallel.  plan, c, err: room for o->n. */
static enum lm_status build(struct worker *w, const struct lm_order *o,
                            struct lm_plan **plan, struct lm_candidate *c,
                            struct lm_err *err, struct lm_err *e)
{
    size_t n = 0;
    enum lm_status st = LM_OK;
    for (size_t i = 0; !st && i < o->n; i++)
        if (!find(w, o->plan[i].hash) && !(st = parse(w, &o->plan[i], &plan[n], e)))
            n++;
    if (!st)
        st = lm_candidates_open(w->s->bench.workshop, plan, n, c, err, e);
    for (size_t i = 0; st && i < n; i++)
        lm_plan_free(plan[i]);
    for (size_t i = 0; !st && i < n; i++)
        if (err[i].code) {              /* found again by its place in the order */
            for (size_t k = 0; k < o->n; k++)
                if (o->plan[k].hash == lm_plan_hash(plan[i]))
                    err[o->n + k] = err[i];
            lm_plan_free(plan[i]);
        } else if ((st = keep(w, &c[i], lm_plan_hash(plan[i]), e))) {
            for (size_t k = i + 1; k < n; k++) {
                lm_candidate_close(w->s->bench.workshop, &c[k]);
                lm_plan_free(plan[k]);
            }
        }
    lm_progress_alive();
    return st;
}

/* ---- orders ----------------------------------------------------------------------- */

/* Arrays of one order. */
struct desk {
    struct lm_plan **plan;              /* [n] */
    struct lm_candidate *c;             /* [n] */
    struct lm_err *err;                 /* [2 n] scratch; of the order's plans */
    double *from, *to;                  /* [n] */
    bool   *skip;                       /* [n][metrics] */
    struct lm_result *result;           /* [n][metrics] */
    struct lm_done_plan *done;          /* [n] */
    struct lm_str sums;
    size_t *at;                         /* [n] where those of each begin in sums */
};

static enum lm_status open_desk(struct desk *d, const struct lm_order *o,
                                struct lm_err *e)
{
    size_t n = o->n, m = n * o->n_metric + 1;
    *d = (struct desk){ .plan = lm_alloc_array(n, sizeof *d->plan, "order"),
        .c = lm_alloc_array(n, sizeof *d->c, "order"),
        .err = lm_alloc_array(2 * n, sizeof *d->err, "order"),
        .from = lm_alloc_array(2 * n, sizeof *d->from, "order"),
        .skip = lm_alloc_array(m, sizeof *d->skip, "order"),
        .result = lm_alloc_array(m, sizeof *d->result, "order"),
        .done = lm_alloc_array(n, sizeof *d->done, "order"),
        .at = lm_alloc_array(n, sizeof *d->at, "order") };
    if (!d->plan || !d->c || !d->err || !d->from || !d->skip || !d->result || !d->done ||
        !d->at)
        return lm_fail_memory(e, m * sizeof *d->result, "an order");
    d->to = d->from + n;
    for (size_t i = 0; i < n; i++) {
        d->from[i] = o->plan[i].from;
        d->to[i] = o->plan[i].to;
        memcpy(d->skip + i * o->n_metric, o->plan[i].skip, o->n_metric);
    }
    return LM_OK;
}

static void close_desk(struct desk *d, const struct lm_order *o)
{
    if (d->result)
        lm_results_free(d->result, o->n * o->n_metric);
    lm_release(d->plan);
    lm_release(d->c);
    lm_release(d->err);
    lm_release(d->from);
    lm_release(d->skip);
    lm_release(d->result);
    lm_release(d->done);
    lm_release(d->at);
    lm_str_free(&d->sums);
}

/* Judges and threads as the order wants them. */
static enum lm_status set_up(struct worker *w, const struct lm_order *o, struct lm_err *e)
{
    struct lm_pipeline *p = w->pipeline;
    struct lm_bench *b = &w->s->bench;
    struct lm_stage *stage = o->final ? p->final : p->evaluate;
    enum lm_status st = LM_OK;
    if (b->judge_stage != stage || !b->evaluation)
        st = lm_judges_open(b, stage, o->final ? p->n_final : p->n_evaluate,
                            lm_pipeline_dtype(p), lm_bench_judging(b, p->options->memory),
                            e);
    if (!st && (o->n_judge != b->n_judge ||
                o->n_metric != lm_evaluation_metrics(b->evaluation)))
        st = lm_fail(e, LM_EBUG, "an order for %zu evaluators, where there are %zu",
                     o->n_judge, b->n_judge);
    if (!st && (int)o->threads != lm_pool_threads())
        st = lm_pool_start((int)o->threads, e);
    if (w->batch != o->batch)
        forget(w);
    w->batch = o->batch;
    return st;
}

/* The sums that the order asks for, of candidate i. */
static void collect(struct desk *d, const struct lm_bench *b,
                    const struct lm_chore *chore, size_t i, size_t n_metric)
{
    size_t first_metric = i * n_metric;
    d->at[i] = d->sums.n;
    for (size_t j = 0; j < b->n_judge; first_metric += b->judge[j++].n_metric) {
        int64_t first, end;
        lm_chore_span(chore, b->judge, j, i, &first, &end);
        for (size_t m = 0; m < b->judge[j].n_metric; m++) {
            const struct lm_sum *sum = d->result[first_metric + m].sum;
            if (sum)
                lm_str_put(&d->sums, sum + first, (size_t)(end - first) * sizeof *sum);
        }
    }
    d->done[i].n = (d->sums.n - d->at[i]) / sizeof(struct lm_sum);
}

static enum lm_status answer(struct worker *w, struct desk *d, const struct lm_order *o,
                             const struct lm_chore *chore, struct lm_work before,
                             struct lm_err *e)
{
    struct lm_bench *b = &w->s->bench;
    struct lm_work now = lm_evaluation_work(b->evaluation);
    struct lm_str t = { 0 };
    const struct lm_err *err = d->err + o->n;
    for (size_t i = 0; i < o->n; i++) {
        d->done[i] = (struct lm_done_plan){ .status = err[i].code, .text = err[i].text };
        if (!err[i].code)
            collect(d, b, chore, i, o->n_metric);
    }
    if (d->sums.failed)
        return lm_fail_memory(e, d->sums.n, "sums");
    for (size_t i = 0; i < o->n; i++)
        d->done[i].sums = d->sums.s ? d->sums.s + d->at[i] : NULL;
    struct lm_done done = { .id = o->id, .fingerprint = lm_worker_fingerprint(b),
        .text = "", .asked = now.asked - before.asked, .run = now.run - before.run,
        .tally = lm_evaluation_tally(b->evaluation), .n = o->n, .plan = d->done };
    lm_say_done(&t, &done);
    return send_all(w, &t, e);
}

static enum lm_status work(struct worker *w, const struct lm_order *o, struct desk *d,
                           struct lm_err *e)
{
    struct lm_bench *b = &w->s->bench;
    enum lm_status st = set_up(w, o, e);
    if (st || (st = build(w, o, d->plan, d->c, d->err, e)))
        return st;
    for (size_t i = 0; i < o->n; i++) {
        const struct kept *k = find(w, o->plan[i].hash);
        d->c[i] = k ? k->c : (struct lm_candidate){ 0 };
        if (!k && !d->err[o->n + i].code)
            return lm_fail(e, LM_EBUG, "a candidate was built and is not there");
    }
    struct lm_chore chore = { .pass = (enum lm_pass)o->pass, .n = o->n, .candidate = d->c,
        .from = d->from, .to = d->to, .skip = d->skip, .low = o->low, .high = o->high };
    struct lm_work before = lm_evaluation_work(b->evaluation);
    st = lm_evaluate_chore(b->evaluation, &chore, d->result, d->err + o->n, e);
    return st ? st : answer(w, d, o, &chore, before, e);
}

static enum lm_status take_order(struct worker *w, const void *body, size_t n,
                                 struct lm_err *e)
{
    struct lm_order o;
    struct desk d = { 0 };
    void *block;
    enum lm_status st = lm_hear_order(body, n, &o, &block, e);
    if (st)
        return st;
    w->id = o.id;
    if (!(st = open_desk(&d, &o, e)))
        st = work(w, &o, &d, e);
    close_desk(&d, &o);
    lm_release(block);
    return st;
}

static enum lm_status serve(struct worker *w, struct lm_err *e)
{
    for (;;) {
        uint32_t kind;
        const void *body;
        size_t n;
        struct lm_err why = { 0 };
        enum lm_status st = listen_to(w, &kind, &body, &n, e);
        if (st || !kind)
            return st;
        if (kind == LM_SAY_HELLO && !w->pipeline)
            st = open_worker(w, body, n, &why);
        else if (kind == LM_SAY_ORDER && w->s)
            st = take_order(w, body, n, &why);
        else
            st = lm_fail(&why, LM_EBUG, "a worker was told something out of order");
        if (st && (st = say_failed(w, &why, e)))
            return st;
        if (why.code && (!w->s || why.code == LM_EUNAVAILABLE))
            return LM_OK;               /* it was told; a lost device does not return */
    }
}

enum lm_status lm_worker_serve(int fd, struct lm_err *e)
{
    struct worker w = { .fd = fd };
    pthread_mutex_init(&w.lock, NULL);
    lm_progress_sink(say_alive, &w);
    enum lm_status st = serve(&w, e);
    lm_pool_stop();
    lm_progress_sink(NULL, NULL);
    if (w.s)
        forget(&w);
    lm_session_close(w.s);
    lm_pipeline_close(w.pipeline);
    lm_frames_free(&w.in);
    pthread_mutex_destroy(&w.lock);
    return st;
}
