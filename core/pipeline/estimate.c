/* SPDX-License-Identifier: Apache-2.0 */
/* estimate.c -- what a run will take, before it starts: from the speed of this machine
 * (speed.c), the evaluators' items, and genomes drawn at random (sketch.c).
 * Predictions, and labelled so.
 *
 * Times are of processors that do nothing else, all threads busy.  What depends on the
 * disk alone (reading the model, writing files) is not in them.                   */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/pool.h"
#include "base/process.h"
#include "pipeline/estimate.h"
#include "pipeline/job.h"

enum { OTHERS = 30000000 };             /* bytes of tables, libraries, threads */

struct account {
    struct lm_pipeline *p;
    struct lm_session *s;
    struct lm_candidate dense;
    struct lm_speed speed;
    struct lm_sketch sketch;
    double tokens;                      /* of one trial, all texts of all its items */
    size_t longest, programs, trials;
    uint32_t precision;
    int64_t sample;                     /* tokens of calibration */
    uint64_t needs, sites;
    double floats;                      /* bytes of the model's weights as floats */
    bool streams;
    double calibration, scores, repair, search, write;      /* processor seconds */
    double memory, stays, passes, exports;                  /* bytes */
};

/* What the evaluators ask for; the slowest precision and the longest text count. */
static enum lm_status ask_judges(struct account *a, struct lm_err *e)
{
    struct lm_bench *b = &a->s->bench;
    enum lm_status st = LM_OK;

    a->precision = LM_AS_INT8;
    for (size_t i = 0; i < b->n_judge && !st; i++) {
        struct lm_asked asked;

        if (b->judge[i].ops->needs & LM_NEEDS_COMMANDS)
            a->programs++;
        if (!(b->judge[i].ops->needs & LM_NEEDS_RUN)
            || (b->judge[i].ops->needs & LM_NEEDS_QUIET))
            continue;
        st = lm_judge_asks(b->evaluation, i, &a->dense, &asked, e);
        a->tokens += asked.tokens * (double)b->judge[i].n_items;
        a->longest = asked.longest > a->longest ? asked.longest : a->longest;
        if (asked.tokens > 0 && asked.precision < a->precision)
            a->precision = asked.precision;
    }
    if (a->tokens == 0)
        a->precision = LM_AS_F32;
    return st;
}

static int64_t sample_tokens(const struct lm_pipeline *p)
{
    const struct lm_conf *data = lm_conf_get(p->conf, "data");

    for (size_t i = 0; data && p->has_calibration && i < data->n; i++)
        if (data->child[i]->key && !strcmp(data->child[i]->key, "calibration")) {
            const struct lm_text_options *o = p->data_opt[i].config;
            return lm_text_sequences(o) * o->length;
        }
    return 0;
}

/* ---- time ------------------------------------------------------------------------ */
static double body_macs(const struct lm_candidate *c)
{
    double n = 0;

    for (size_t i = 0; i + 1 < c->net.n; i++)
        n += lm_segment_macs(lm_segment_spec(c->net.seg[i]));
    return n;
}

/* Multiply-adds of the Gram matrices that are added up in the calibration pass. */
static double gram_macs(const struct account *a)
{
    const struct lm_arch *arch = lm_model_arch(a->s->bench.model);
    double n = 0;

    if (!(a->needs & LM_BIT(LM_STAT_GRAM)))
        return 0;
    for (int32_t i = 0; i < arch->n_layer; i++) {
        double k[2] = { (double)arch->layer[i].n_head * arch->head_dim,
                        arch->layer[i].n_ff };

        for (int kind = 0; kind < 2; kind++)
            if ((a->sites & LM_BIT(kind ? LM_SITE_MLP : LM_SITE_ATTN))
                && (double)a->sample >= 2 * k[kind])
                n += (double)a->sample * k[kind] * k[kind] / 2;
    }
    return n;
}

/* How often all weights are decoded in a search. */
static double sweeps(const struct account *a)
{
    double batches = 1 + ceil((double)(a->trials - 1)
                              / (double)a->p->options->batch);
    double states = a->tokens * (double)a->p->options->batch * 4
        * lm_model_arch(a->s->bench.model)->hidden;
    double room = (double)lm_bench_judging(&a->s->bench, a->p->options->memory);

    return batches * fmax(1, ceil(states / fmax(room, 64 << 20)));
}

static void count_time(struct account *a)
{
    const struct lm_speed *v = &a->speed;
    double decode = a->floats * v->byte, trial = a->tokens * (v->block + v->head);

    if (a->needs)
        a->calibration = v->hash + decode
            + ((double)a->sample * body_macs(&a->dense) + gram_macs(a)) * v->mac;
    a->scores = a->p->n_score ? decode : 0;
    a->repair = a->sketch.flops * v->flop + a->sketch.rows * v->mac;
    a->search = trial * (1 + a->sketch.share * (double)(a->trials - 1))
        + (a->streams ? decode * sweeps(a) : 0);
    a->write = a->p->n_export ? 2 * decode : 0;
}

/* ---- memory and disk --------------------------------------------------------------- */
static double largest_block(const struct account *a)
{
    double most = 0;

    for (size_t i = 0; i < a->dense.net.n; i++) {
        const struct lm_segment_spec *s = lm_segment_spec(a->dense.net.seg[i]);
        double table = (double)s->table.rows * (double)s->table.cols;

        most = fmax(most, 4 * fmax(table, lm_segment_macs(s)));
    }
    return most;
}

/* Hidden states, registers and a cache for each thread. */
static double running(const struct account *a, double room)
{
    const struct lm_arch *arch = lm_model_arch(a->s->bench.model);
    double text = (double)(a->longest ? a->longest : 512), widest = 0;
    double at_a_time = fmin((double)a->trials, (double)a->p->options->batch);
    double states = 4 * arch->hidden * (a->streams
        ? a->tokens * at_a_time
        : text * lm_pool_threads() * 2.0 * arch->n_layer);

    for (int32_t i = 0; i < arch->n_layer; i++)
        widest = fmax(widest, fmax(2.0 * arch->layer[i].n_ff,
                                   4.0 * arch->layer[i].n_head * arch->head_dim));
    return fmin(states, room)
        + lm_pool_threads() * 4 * text * (widest + 3.0 * arch->hidden);
}

/* Of one process with this limit. */
static double memory_of(const struct account *a, double limit)
{
    double scratch = lm_repair_scratch(lm_model_arch(a->s->bench.model));
    double at_once = fmin(fmin(lm_pool_threads(), a->sketch.cut), limit / 2 / scratch);

    if (a->floats <= limit)
        return OTHERS + a->floats + fmin(limit / 2, a->sketch.derived)
            + running(a, limit / 4);
    return OTHERS + fmin(a->floats, fmax(limit / 4, largest_block(a)))
        + fmax(a->sketch.cut > 0 ? fmax(1, floor(at_once)) * scratch : 0,
               running(a, limit / 8));
}

static void count_bytes(struct account *a)
{
    const struct lm_arch *arch = lm_model_arch(a->s->bench.model);
    double limit = (double)a->p->options->memory, derived = a->sketch.derived;
    double workers = (double)a->p->options->workers;

    a->memory = memory_of(a, limit) + (workers ? workers * memory_of(a, limit / workers)
                                               : 0);
    a->passes = 4.0 * (double)a->sample * arch->hidden;
    a->passes = fmax(a->passes, a->streams ? derived : fmax(0, derived - limit / 2));
    a->stays = a->needs ? (double)lm_stats_bytes(arch, a->needs, a->sites, a->sample) : 0;
}

/* ---- text ------------------------------------------------------------------------- */
static void add_time(struct lm_str *text, const char *what, double seconds,
                     const char *note)
{
    char time[32];

    lm_str_add(text, "  %-13s %s%s\n", what,
               lm_human_time(time, seconds / lm_pool_threads()), note);
}

static void tell(const struct account *a, struct lm_str *text)
{
    double all = a->calibration + a->scores + a->repair + a->search + a->write;
    char one[32], two[32];

    lm_str_add(text, "estimated (not measured):\n  trials        at most %zu\n",
               a->trials);
    add_time(text, "calibration", a->calibration + a->scores, "");
    add_time(text, "repair", a->repair, "");
    add_time(text, "search", a->search, ", if every trial runs every item");
    add_time(text, "export", a->write, "");
    lm_str_add(text, "  processors    %.0f s of one in all\n", all);
    lm_str_add(text, "  memory        about %s beside mapped files\n",
               lm_human_bytes(one, a->memory));
    if (a->streams)
        lm_str_add(text,
                   "                (the weights take %s as floats: they are decoded "
                   "block by block)\n", lm_human_bytes(one, a->floats));
    lm_str_add(text, "  disk          %s in the cache folder, %s of it while the run "
               "lasts\n", lm_human_bytes(one, a->stays + a->passes),
               lm_human_bytes(two, a->passes));
    lm_str_add(text, "                %s of exports\n", lm_human_bytes(one, a->exports));
    if (a->programs)
        lm_str_add(text,
                   "  programs      %zu runs of yours, which take the time they take\n",
                   a->programs * a->trials);
}

static enum lm_status open_dense(struct account *a, struct lm_plan **plan,
                                 struct lm_err *e)
{
    struct lm_bench *b = &a->s->bench;
    struct lm_err why = { 0 };
    enum lm_status st = lm_plan_open(lm_model_arch(b->model), NULL, plan, e);

    if (!st)
        st = lm_plan_canonical(*plan, e);
    if (!st)
        st = lm_candidates_open(b->workshop, plan, 1, &a->dense, &why, e);
    if (!st && why.code) {
        *e = why;
        st = why.code;
    }
    return st;
}

/* Processor time of reading all bytes once, for the hash that names the model. */
static double time_hash(const struct lm_model *m)
{
    double start = lm_process_seconds(false);

    lm_model_hash(m);
    return lm_process_seconds(false) - start;
}

static enum lm_status estimate(struct account *a, struct lm_str *text, struct lm_err *e)
{
    struct lm_pipeline *p = a->p;
    struct lm_bench *b = &a->s->bench;
    const struct lm_search *ops = p->search.plugin->ops;
    enum lm_status st = lm_stage_create(&p->search, NULL, NULL, e);

    if (!st)
        st = lm_judges_open(b, p->evaluate, p->n_evaluate, lm_pipeline_dtype(p), 1 << 28,
                            e);
    if (!st)
        st = ask_judges(a, e);
    if (!st)
        st = lm_speed_measure(b, &a->dense, a->precision, a->longest, &a->speed, e);
    if (st)
        return st;
    a->trials = 1 + ops->budget(p->search.self);
    a->sample = sample_tokens(p);
    a->floats = (double)lm_model_float_bytes(b->model);
    a->streams = lm_engine_streams(b->engine);
    lm_pipeline_needs(p, &a->needs, &a->sites);
    st = lm_sketch_genomes(a->s, a->trials - 1, a->sample, &a->sketch, e);
    if (!st)
        st = lm_sketch_exports(a->s, a->trials - 1, &a->exports, e);
    if (st)
        return st;
    count_time(a);
    count_bytes(a);
    tell(a, text);
    return text->failed ? lm_fail_memory(e, text->n, "the estimate") : LM_OK;
}

enum lm_status lm_job_estimate(struct lm_conf *conf, struct lm_str *text,
                               struct lm_err *e)
{
    struct account a = { .trials = 0 };
    struct lm_plan *plan = NULL;
    enum lm_status st = lm_pipeline_open(conf, &a.p, e);

    if (st)
        return st;
    st = lm_pool_start((int)a.p->options->threads, e);
    if (!st)
        st = lm_session_sketch(a.p, &a.s, e);
    double hash = a.s ? time_hash(a.s->bench.model) : 0;
    if (!st)
        st = open_dense(&a, &plan, e);
    a.speed.hash = hash;
    if (!st)
        st = estimate(&a, text, e);
    if (a.s) {
        lm_judges_close(&a.s->bench);
        lm_candidate_close(a.s->bench.workshop, &a.dense);
        lm_plan_free(plan);             /* it looks at the model's shape */
        lm_session_close(a.s);
    }
    lm_stage_close(&a.p->search);
    lm_pipeline_close(a.p);
    return st;
}
