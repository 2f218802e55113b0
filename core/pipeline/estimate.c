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
#include "model/follow.h"
#include "pipeline/estimate.h"
#include "pipeline/finish.h"
#include "pipeline/job.h"
#include "pipeline/refine.h"

enum { OTHERS = 30000000 };             /* bytes of tables, libraries, threads */

/* What evaluators ask of one candidate, all items together. */
struct asking {
    double tokens[2];                   /* in f32, in less */
    double twin;                        /* of those in f32, what confirms the search */
    size_t longest, programs;
    uint32_t precision;                 /* the slowest of those below f32, or f32 */
};

struct account {
    struct lm_pipeline *p;
    struct lm_session *s;
    struct lm_candidate dense;
    struct lm_speed speed;
    struct lm_sketch sketch;
    struct asking search_asks, final_asks;
    size_t trials, finalists, confirmed;    /* confirmed: finalists, and the front that
                                               twins measure */
    size_t refined;
    int64_t sample;                     /* tokens of calibration */
    uint64_t needs, sites;
    double floats;                      /* bytes of the model's weights as floats */
    bool streams;
    double opening, calibration, repair, formats, search, refine, final, write;
                                        /* processor seconds */
    double memory, stays, passes, exports;                  /* bytes */
};

/* ---- evaluators ------------------------------------------------------------------ */
static enum lm_status ask_judge(struct account *a, size_t i, struct asking *out,
                                struct lm_err *e)
{
    const struct lm_judge *j = &a->s->bench.judge[i];
    struct lm_asked asked;
    enum lm_status st;
    double tokens;

    out->programs += (j->ops->needs & LM_NEEDS_COMMANDS) != 0;
    if (!(j->ops->needs & LM_NEEDS_RUN) || (j->ops->needs & LM_NEEDS_QUIET))
        return LM_OK;
    st = lm_judge_asks(a->s->bench.evaluation, i, &a->dense, &asked, e);
    tokens = asked.tokens * (double)j->n_items;
    out->tokens[asked.precision != LM_AS_F32] += tokens;
    out->twin += lm_confirms(a->p, j->id) ? tokens : 0;
    out->longest = asked.longest > out->longest ? asked.longest : out->longest;
    if (tokens > 0 && asked.precision != LM_AS_F32
        && (out->precision == LM_AS_F32 || asked.precision < out->precision))
        out->precision = asked.precision;
    return st;
}

/* They are rehearsed with zeros; it is not known yet what they say. */
static enum lm_status ask_judges(struct account *a, struct lm_stage *stage, size_t n,
                                 struct asking *out, struct lm_err *e)
{
    struct lm_bench *b = &a->s->bench;
    enum lm_status st = lm_judges_open(b, stage, n, lm_pipeline_dtype(a->p), 1 << 28, e);

    for (size_t i = 0; i < b->n_judge && !st; i++)
        st = ask_judge(a, i, out, e);
    return st;
}

/* The dense model, and of the front, which is taken for a third of the trials, the picks
 * and some more; all of it where the search measures in less than f32.  (finish.c)  */
static void count_finalists(struct account *a)
{
    uint64_t picks = LM_BIT(LM_PICK_BEST);
    size_t n = 0, front = (a->trials + 1) / 3;

    for (size_t i = 0; i < a->p->n_export; i++)
        picks |= LM_BIT(a->p->export[i].o->pick);
    for (uint32_t i = 0; i < LM_N_PICKS; i++)
        n += (picks & LM_BIT(i)) != 0;
    if (a->p->n_final)
        n += (size_t)a->p->options->finalists;
    if (a->p->refine.plugin)
        a->refined = n < front ? n : front;
    if (!a->p->n_final)
        return;
    a->finalists = 1 + (n < front ? n : front);
    a->confirmed = a->final_asks.twin > 0 ? 1 + front : a->finalists;
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

/* Multiply-adds of the matrices of second moments that are added up in the calibration
 * pass; others are of samples that are short.                                  */
static double gram_macs(const struct account *a)
{
    const struct lm_arch *arch = lm_model_arch(a->s->bench.model);
    double d = arch->hidden, tokens = (double)a->sample, n = 0;
    bool stream = (a->needs & LM_BIT(LM_STAT_STREAM)) && tokens >= 2 * d;

    for (int32_t i = 0; i < arch->n_layer; i++) {
        double k[2] = { (double)arch->layer[i].n_head * arch->head_dim,
                        arch->layer[i].n_ff };

        for (int kind = 0; kind < 2; kind++) {
            if (!k[kind] || !(a->sites & LM_BIT(kind ? LM_SITE_MLP : LM_SITE_ATTN)))
                continue;
            if ((a->needs & LM_BIT(LM_STAT_GRAM)) && tokens >= 2 * k[kind])
                n += tokens * k[kind] * k[kind] / 2;
            n += stream ? tokens * d * d / 2 : 0;
        }
    }
    return n + (stream && (a->sites & LM_BIT(LM_SITE_HIDDEN)) ? tokens * d * d / 2 : 0);
}

/* How often all weights are decoded for n candidates, `batch` at a time. */
static double sweeps(const struct account *a, const struct asking *q, double n,
                     double batch)
{
    double states = (q->tokens[0] + q->tokens[1]) * fmin(n, batch) * 4
        * lm_model_arch(a->s->bench.model)->hidden;
    double room = (double)lm_bench_judging(&a->s->bench, a->p->options->memory);

    return ceil(n / batch) * fmax(1, ceil(states / fmax(room, 64 << 20)));
}

/* Of all items, by the dense model. */
static double trial_time(const struct account *a, const struct asking *q)
{
    double sum = 0;

    for (int i = 0; i < 2; i++)
        sum += q->tokens[i] * (a->speed.block[i] + a->speed.head[i]);
    return sum;
}

/* The weights are decoded once more for each batch where the engine streams. */
static void count_final(struct account *a)
{
    const struct lm_speed *v = &a->speed;
    const struct asking *q = &a->final_asks;
    double others = (double)a->confirmed - (double)a->finalists;

    if (!a->finalists)
        return;
    a->final = trial_time(a, q) * (1 + a->sketch.last * ((double)a->finalists - 1))
        + q->twin * (v->block[0] + v->head[0]) * a->sketch.last * others;
    if (a->streams)
        a->final += a->floats * v->byte * sweeps(a, q, (double)a->confirmed,
                                                 LM_FINALISTS_AT_ONCE);
}

static bool in_sequence(const struct account *a)
{
    return a->refined > 0 && !lm_refine_replaces(a->p);
}

/* In sequence: the sample goes through the dense model, and twice through the candidate,
 * to be measured, and on.                                                       */
static void count_refine(struct account *a)
{
    const struct lm_arch *arch = lm_model_arch(a->s->bench.model);
    double macs = (1 + 2 * a->sketch.last) * body_macs(&a->dense), flops = 0;

    if (!in_sequence(a)) {
        a->refine = (double)a->refined * a->sketch.refit * a->speed.flop;
        return;
    }
    for (int32_t i = 0; i < arch->n_layer; i++)
        for (int kind = 0; kind < 2; kind++) {
            double k = kind ? arch->layer[i].n_ff
                            : (double)arch->layer[i].n_head * arch->head_dim;

            macs += a->sketch.last * k * (k / 2 + arch->hidden);
            flops += a->sketch.last * (k * k * k / 3 + 4.0 * arch->hidden * k * k);
        }
    a->refine = (double)a->refined
        * ((double)a->sample * macs * a->speed.mac + flops * a->speed.flop);
}

static void count_formats(struct account *a, double decode)
{
    double one = 0;

    for (size_t i = 0; i < a->p->n_quantize; i++) {
        a->formats += a->sketch.encoded[i] * a->speed.weight[i];
        one += a->sketch.own[i] * a->speed.weight[i];
    }
    a->write = (double)a->p->n_export * (2 * decode + one);
}

/* Each process opens the model, hashes and decodes it. */
static void count_time(struct account *a)
{
    const struct lm_speed *v = &a->speed;
    double decode = a->floats * v->byte, others = (double)(a->trials - 1);
    double workers = (double)a->p->options->workers;

    a->opening *= 1 + workers;
    if (a->needs)
        a->calibration = decode
            + ((double)a->sample * body_macs(&a->dense) + gram_macs(a)) * v->mac;
    if (a->p->n_score)
        a->calibration += decode * (1 + workers);
    a->repair = a->sketch.flops * v->flop + a->sketch.rows * v->mac;
    count_formats(a, decode);
    a->search = trial_time(a, &a->search_asks) * (1 + a->sketch.share * others);
    if (a->streams)
        a->search += decode * (1 + sweeps(a, &a->search_asks, others,
                                          (double)a->p->options->batch));
    else
        a->search += decode * (workers + (a->needs ? 0 : 1));
    count_refine(a);
    count_final(a);
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

static size_t longest_text(const struct account *a)
{
    size_t one = a->search_asks.longest, other = a->final_asks.longest;

    return one > other ? one : other;
}

/* Hidden states, registers and a cache for each thread. */
static double running(const struct account *a, bool streams, double room)
{
    const struct lm_arch *arch = lm_model_arch(a->s->bench.model);
    const struct asking *q = &a->search_asks;
    size_t longest = longest_text(a);
    double text = (double)(longest ? longest : 512), widest = 0;
    double at_a_time = fmin((double)a->trials, (double)a->p->options->batch);
    double states = 4 * arch->hidden * (streams
        ? (q->tokens[0] + q->tokens[1]) * at_a_time
        : text * lm_pool_threads() * 2.0 * arch->n_layer);

    for (int32_t i = 0; i < arch->n_layer; i++)
        widest = fmax(widest, fmax(2.0 * arch->layer[i].n_ff,
                                   4.0 * arch->layer[i].n_head * arch->head_dim));
    return fmin(states, room)
        + lm_pool_threads() * 4 * text * (widest + 3.0 * arch->hidden);
}

/* For derived matrices: half of the limit, or half of that where evaluators compute in
 * less than f32; the other is for weights that the backend packs.  (session.c)    */
static double heap_of(const struct account *a, double limit)
{
    return limit / (a->search_asks.tokens[1] > 0 ? 4 : 2);
}

static double packed(const struct account *a, double limit)
{
    double part = a->search_asks.precision == LM_AS_BF16 ? 0.5 : 0.25;

    return a->search_asks.tokens[1] > 0
        ? fmin(limit / 4, (a->floats + a->sketch.derived) * part) : 0;
}

/* Second moments by all threads, and the repair of the widest matrix. */
static double refining(const struct account *a, double limit)
{
    const struct lm_arch *arch = lm_model_arch(a->s->bench.model);
    double n = arch->hidden, most = 0;

    if (!in_sequence(a))
        return 0;
    for (int32_t i = 0; i < arch->n_layer; i++)
        most = fmax(most, fmax(arch->layer[i].n_ff,
                               (double)arch->layer[i].n_head * arch->head_dim));
    double one = lm_follow_bytes(a->sample, 1, (int64_t)most, arch->hidden);
    double all = fmax(one, fmin(one * lm_pool_threads(), limit / 4));
    return all + 8 * (2 * most * most + 4 * n * most);
}

/* Of one process with this limit.  Candidates are built before they are run; what is
 * repaired at a time is limited where weights are decoded for it.               */
static double memory_of(const struct account *a, bool streams, double limit)
{
    double scratch = lm_repair_scratch(lm_model_arch(a->s->bench.model));
    double at_once = fmin(lm_pool_threads(), a->sketch.cut);

    if (!streams)
        return OTHERS + a->floats + fmin(heap_of(a, limit), a->sketch.derived)
            + packed(a, limit)
            + fmax(fmax(a->sketch.flops > 0 ? at_once * scratch : 0,
                        running(a, false, limit / 4)), refining(a, limit));
    at_once = fmax(1, floor(fmin(at_once, limit / 2 / scratch)));
    return OTHERS + fmin(a->floats, fmax(limit / 4, largest_block(a)))
        + fmax(a->sketch.cut > 0 ? at_once * scratch : 0, running(a, true, limit / 8));
}

static void count_bytes(struct account *a)
{
    const struct lm_arch *arch = lm_model_arch(a->s->bench.model);
    double limit = (double)a->p->options->memory, derived = a->sketch.derived;
    double workers = (double)a->p->options->workers;
    double part = fmax(limit / fmax(workers, 1), 1e6);

    a->memory = memory_of(a, a->streams, limit);
    if (workers > 0)
        a->memory += workers * memory_of(a, a->floats > part, part);
    a->passes = 4.0 * (double)a->sample * arch->hidden * (in_sequence(a) ? 2 : 1);
    a->passes = fmax(a->passes, derived - (a->streams ? 0 : heap_of(a, limit)));
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

static void tell_times(const struct account *a, struct lm_str *text)
{
    char note[96] = "", refined[64];

    add_time(text, "opening", a->opening, "");
    add_time(text, "calibration", a->calibration, "");
    add_time(text, "repair", a->repair, "");
    if (a->p->n_quantize)
        add_time(text, "formats", a->formats, "");
    add_time(text, "search", a->search, ", if every trial runs every item");
    if (a->confirmed > a->finalists)
        snprintf(note, sizeof note,
                 " of %zu trials, and f32 of %zu, if a third is on the front",
                 a->finalists, a->confirmed);
    else
        snprintf(note, sizeof note, " of %zu trials, if a third is on the front",
                 a->finalists);
    if (a->refined) {
        snprintf(refined, sizeof refined, " of %zu trials", a->refined);
        add_time(text, "refine", a->refine, refined);
    }
    if (a->finalists)
        add_time(text, "final", a->final, note);
    add_time(text, "export", a->write, "");
}

/* Of one processor. */
static double all_seconds(const struct account *a)
{
    return a->opening + a->calibration + a->repair + a->formats + a->search + a->refine
        + a->final + a->write;
}

static size_t count_programs(const struct account *a)
{
    return a->search_asks.programs * a->trials + a->final_asks.programs * a->finalists;
}

static void tell(const struct account *a, struct lm_str *text)
{
    size_t programs = count_programs(a);
    char one[32], two[32];

    lm_str_add(text, "estimated (not measured):\n  trials        at most %zu\n",
               a->trials);
    tell_times(a, text);
    lm_str_add(text, "  processors    %.0f s of one in all\n",
               all_seconds(a));
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
    if (programs)
        lm_str_add(text,
                   "  programs      %zu runs of yours, which take the time they take\n",
                   programs);
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

static enum lm_status ask_all(struct account *a, struct lm_err *e)
{
    struct lm_pipeline *p = a->p;
    enum lm_status st = ask_judges(a, p->evaluate, p->n_evaluate, &a->search_asks, e);

    if (!st && p->n_final)
        st = ask_judges(a, p->final, p->n_final, &a->final_asks, e);
    return st;
}

/* Tokens of `final` in less than f32 are taken for tokens of the search's precision. */
static enum lm_status measure(struct account *a, struct lm_err *e)
{
    uint32_t precision = a->search_asks.precision ? a->search_asks.precision
                                                  : a->final_asks.precision;
    enum lm_status st = lm_speed_measure(&a->s->bench, &a->dense, precision,
                                         longest_text(a), &a->speed, e);

    return st ? st : lm_speed_formats(a->s, &a->speed, e);
}

static enum lm_status estimate(struct account *a, struct lm_str *text, struct lm_err *e)
{
    struct lm_pipeline *p = a->p;
    struct lm_bench *b = &a->s->bench;
    const struct lm_search *ops = p->search.plugin->ops;
    enum lm_status st = lm_stage_create(&p->search, NULL, NULL, e);

    if (!st)
        st = ask_all(a, e);
    if (!st)
        st = measure(a, e);
    if (st)
        return st;
    a->trials = ops->budget(p->search.self);
    a->trials += a->trials < SIZE_MAX;
    a->sample = sample_tokens(p);
    a->floats = (double)lm_model_float_bytes(b->model);
    a->streams = lm_engine_streams(b->engine);
    lm_pipeline_needs(p, &a->needs, &a->sites);
    count_finalists(a);
    st = lm_sketch_genomes(a->s, a->trials - 1, a->sample, &a->sketch, e);
    if (!st)
        st = lm_sketch_exports(a->s, a->trials - 1, &a->exports, e);
    if (st)
        return st;
    count_time(a);
    count_bytes(a);
    if (!text)
        return LM_OK;
    tell(a, text);
    return text->failed ? lm_fail_memory(e, text->n, "the estimate") : LM_OK;
}

/* text: NULL, or what is told. */
static enum lm_status account(struct lm_conf *conf, struct lm_str *text,
                              struct lm_estimate *out, struct lm_err *e)
{
    struct account a = { .trials = 0 };
    struct lm_plan *plan = NULL;
    enum lm_status st = lm_pipeline_open(conf, &a.p, e);

    if (st)
        return st;
    st = lm_pool_start((int)a.p->options->threads, e);
    double start = lm_process_seconds(false);
    if (!st)
        st = lm_session_sketch(a.p, &a.s, e);
    if (!st)
        st = open_dense(&a, &plan, e);
    a.opening = lm_process_seconds(false) - start;    /* the model's hash is most of it */
    if (!st)
        st = estimate(&a, text, e);
    *out = (struct lm_estimate){ .trials = (double)a.trials, .memory = a.memory,
        .seconds = all_seconds(&a) / (a.s ? lm_pool_threads() : 1),
        .cache = a.stays + a.passes, .exports = a.exports,
        .programs = (double)count_programs(&a) };
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

enum lm_status lm_job_estimate(struct lm_conf *conf, struct lm_str *text,
                               struct lm_err *e)
{
    struct lm_estimate ignored;

    return account(conf, text, &ignored, e);
}

enum lm_status lm_job_foresee(struct lm_conf *conf, struct lm_estimate *out,
                              struct lm_err *e)
{
    return account(conf, NULL, out, e);
}
