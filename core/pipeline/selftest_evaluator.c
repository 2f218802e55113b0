/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_evaluator.c -- the contract of evaluators.
 *
 * No model is run: token_losses and token_kl answer with numbers that depend on
 * the ids alone, cost with those of the dense model, time with a constant.  So
 * what an evaluator makes of them must be the same each time, unless all of its
 * metrics are declared noisy.  No program of the user is run either, so that
 * the sums of evaluators with LM_NEEDS_COMMANDS are not looked at.           */
#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/pool.h"
#include "model/codec.h"
#include "pipeline/selftest_kit.h"
#include "pipeline/pipeline.h"
#include "plan/plan.h"

enum { MOST_ITEMS = 6, MOST_METRICS = 64, GUARD = 2, COPIES = 4, LONGEST = 1 << 20 };
static const double poison = -98765.4321;

static int32_t text[LM_KIT_IDS];
static size_t n_text;                   /* tokens that every text has now */

/* ---- the host's side --------------------------------------------------------------- */

static enum lm_status text_ids(struct lm_run *r, const char *name, const int32_t **ids,
                               size_t *n, struct lm_err *e)
{
    (void)r, (void)e;
    if (!name)
        lm_kit_blame("asks for the text NULL");
    *ids = text;
    *n = n_text;
    return LM_OK;
}

static bool may_run(uint32_t need, const char *call, struct lm_err *e)
{
    const struct lm_evaluator *ops = lm_kit_now()->plugin->ops;
    if ((ops->needs & need) == need)
        return true;
    lm_kit_blame("calls host->%s, which its `needs` does not declare", call);
    lm_fail(e, LM_EBUG, "host->%s is not for evaluators that do not declare it", call);
    return false;
}

static enum lm_status answer(const int32_t *ids, size_t n, size_t n_out, float *out,
                             struct lm_err *e)
{
    const struct lm_arch *a = lm_model_arch(lm_kit_now()->model);
    uint64_t h = 1;
    if (n < 2 || n > LONGEST)
        return lm_fail(e, LM_EINPUT, "%zu tokens", n);
    for (size_t t = 0; t < n; t++) {
        if (ids[t] < 0 || ids[t] >= a->vocab) {
            lm_kit_blame("runs the token %d, the vocabulary has %d", ids[t], a->vocab);
            return lm_fail(e, LM_EINPUT, "token %d", ids[t]);
        }
        h = lm_hash_u64((uint64_t)ids[t], h);
        if (t < n_out)
            out[t] = 0.5f + (float)(h % 1000) / 500;
    }
    return LM_OK;
}

static enum lm_status losses(struct lm_subject *s, const int32_t *ids, size_t n,
                             float *nll, struct lm_err *e)
{
    (void)s;
    return may_run(LM_NEEDS_RUN, "token_losses", e) ? answer(ids, n, n - 1, nll, e)
                                                    : LM_EBUG;
}

static enum lm_status divergence(struct lm_subject *s, const int32_t *ids, size_t n,
                                 float *kl, struct lm_err *e)
{
    (void)s;
    return may_run(LM_NEEDS_RUN | LM_NEEDS_DENSE, "token_kl", e)
               ? answer(ids, n, n, kl, e)
               : LM_EBUG;
}

static enum lm_status precision(struct lm_subject *s, uint32_t of, struct lm_err *e)
{
    (void)s;
    if (!may_run(LM_NEEDS_RUN, "precision", e))
        return LM_EBUG;
    return of < LM_N_PRECISIONS ? LM_OK : lm_fail(e, LM_EBUG, "precision %u", of);
}

static enum lm_status cost(struct lm_subject *s, struct lm_cost *out, struct lm_err *e)
{
    const struct lm_arch *a = lm_model_arch(lm_kit_now()->model);
    struct lm_cost c = { .struct_size = sizeof c };
    (void)s, (void)e;
    lm_shape_cost(a, a->layer, LM_F16, &c);
    c.struct_size = sizeof c;
    lm_fill_struct(out, &c, sizeof c);
    return LM_OK;
}

static bool is_sound(const struct lm_workload *w)
{
    if (w->phase >= LM_PREFILL && w->phase <= LM_DECODE && w->tokens > 0 &&
        w->context >= 0)
        return true;
    lm_kit_blame("asks for an unsound workload: phase %u, %d tokens, context %d",
                 w->phase, w->tokens, w->context);
    return false;
}

static enum lm_status seconds(struct lm_subject *s, const struct lm_workload *w,
                              double *out, struct lm_err *e)
{
    (void)s;
    if (!is_sound(w))
        return lm_fail(e, LM_EBUG, "an unsound workload");
    *out = 0.01;
    return LM_OK;
}

static enum lm_status timing(struct lm_subject *s, const struct lm_workload *w,
                             struct lm_timing *out, struct lm_err *e)
{
    struct lm_timing t = { .struct_size = sizeof t, .device = 0.008, .anchor = 0.02 };
    enum lm_status st = seconds(s, w, &t.seconds, e);
    if (!st)
        lm_fill_struct(out, &t, sizeof t);
    return st;
}

/* A run, and the head of the dense model. */
static enum lm_status operators(struct lm_subject *s, const struct lm_workload *w,
                                void (*see)(void *ctx, const struct lm_use *u), void *ctx,
                                struct lm_err *e)
{
    const struct lm_arch *a = lm_model_arch(lm_kit_now()->model);
    bool decode = w->phase == LM_DECODE;
    struct lm_use u = { .struct_size = sizeof u, .rows = decode ? 1 : w->tokens,
                        .pos = w->context, .times = 1, .runs = decode ? w->tokens : 1 };
    (void)s;
    if (!is_sound(w))
        return lm_fail(e, LM_EBUG, "an unsound workload");
    see(ctx, &u);
    u.code = LM_OP_LOGITS;
    u.dtype = LM_F32;
    u.n = a->vocab;
    u.k = a->hidden;
    see(ctx, &u);
    return LM_OK;
}

/* For evaluators with LM_NEEDS_COMMANDS: a file with nothing in it, and no
 * program is run; eval() may fail for that reason.                           */
static enum lm_status subject_file(struct lm_subject *s, const char *format,
                                   uint32_t dtype, const char **path, struct lm_err *e)
{
    static char at[4200];
    (void)s;
    if (!format || (dtype && !lm_codec(dtype)))
        return lm_fail(e, LM_EBUG, "a file in no format or no number format");
    if (!lm_path_join(at, sizeof at, lm_kit_now()->folder, "candidate"))
        return lm_fail(e, LM_EIO, "the path is too long");
    *path = at;
    return LM_OK;
}

static uint64_t subject_plan(const struct lm_subject *s)
{
    (void)s;
    return 1;
}

static const char *run_folder(const struct lm_run *r)
{
    (void)r;
    return NULL;
}

static enum lm_status call(struct lm_run *r, const struct lm_call *c, char **out,
                           size_t *n, struct lm_err *e)
{
    (void)r, (void)out, (void)n;
    if (!c->argv || !c->argv[0] || !(c->seconds > 0) || !c->most)
        lm_kit_blame("runs a program without a name, a time limit or a size of its output");
    return lm_fail(e, LM_EUNAVAILABLE, "no program is run in a selftest");
}

static void dress(struct lm_kit *k)
{
    struct lm_rng r = lm_rng(13, "selftest/text", 0);
    for (size_t i = 0; i < LM_KIT_IDS; i++)
        text[i] = (int32_t)lm_rng_below(&r, 256);
    n_text = LM_KIT_IDS;
    k->host.text_ids = text_ids;
    k->host.token_losses = losses;
    k->host.token_kl = divergence;
    k->host.precision = precision;
    k->host.cost = cost;
    k->host.time = seconds;
    k->host.timing = timing;
    k->host.operators = operators;
    k->host.subject_file = subject_file;
    k->host.subject_plan = subject_plan;
    k->host.run_folder = run_folder;
    k->host.call = call;
}

/* ---- an instance that has counted its items ---------------------------------------- */

struct trial { void *self; int64_t n; size_t n_metric; bool noisy; char subject[64]; };

static enum lm_status open_trial(struct lm_kit *k, struct trial *t)
{
    const struct lm_evaluator *ops = k->plugin->ops;
    const struct lm_metric *m;
    *t = (struct trial){ .n = -1, .noisy = true };
    dress(k);
    for (; (m = lm_stage_metric(&k->stage, t->n_metric)); t->n_metric++)
        t->noisy &= m->noisy;
    enum lm_status s = lm_kit_create(k, &t->self);
    if (s)
        return s;
    if ((s = ops->items(t->self, &t->n, k->e)))
        return lm_kit_failed(k, "items()", s);
    return t->n > 0 && t->n <= INT32_MAX ? LM_OK
        : lm_broken(k, "items() says there are %lld items", (long long)t->n);
}

static enum lm_status check_needs(struct lm_kit *k)
{
    const struct lm_evaluator *ops = k->plugin->ops;
    return ops->needs & ~(uint32_t)(LM_NEEDS_RUN | LM_NEEDS_DENSE | LM_NEEDS_QUIET |
                                   LM_NEEDS_COMMANDS)
               ? lm_broken(k, "its `needs` (0x%x) hold bits that mean nothing",
                           ops->needs)
               : LM_OK;
}

static enum lm_status check_protocol(struct lm_kit *k)
{
    const struct lm_evaluator *ops = k->plugin->ops;
    struct trial t;
    char full[512], tight[24 + 8];
    int64_t again = -1;
    enum lm_status s = open_trial(k, &t);
    if (!s && ops->items(t.self, &again, k->e) == LM_OK && again != t.n)
        s = lm_broken(k, "items() says %lld, then %lld", (long long)t.n,
                      (long long)again);
    memset(full, 'x', sizeof full);
    memset(tight, 'x', sizeof tight);
    if (!s && (s = ops->protocol(t.self, full, sizeof full, k->e)))
        s = lm_kit_failed(k, "protocol()", s);
    if (!s && (!memchr(full, 0, sizeof full) || !full[0] || strchr(full, '\n')))
        s = lm_broken(k, "protocol() does not write one line of text");
    if (!s) {                           /* may fail, must not overflow */
        ops->protocol(t.self, tight, 24, k->e);
        *k->e = (struct lm_err){ 0 };
        for (int i = 24; !s && i < (int)sizeof tight; i++)
            if (tight[i] != 'x')
                s = lm_broken(k, "protocol() writes beyond the size it is given");
    }
    lm_kit_destroy(k, t.self);
    return s;
}

/* Into sum [n_metric + GUARD], which the core clears. */
static enum lm_status eval(struct lm_kit *k, struct trial *t, int64_t item,
                           struct lm_sum *sum)
{
    const struct lm_evaluator *ops = k->plugin->ops;
    memset(sum, 0, (MOST_METRICS + GUARD) * sizeof *sum);
    for (size_t i = t->n_metric; i < t->n_metric + GUARD; i++)
        sum[i] = (struct lm_sum){ poison, poison };
    enum lm_status s = ops->eval(t->self, (void *)t->subject, item, sum, k->e);
    if (s)
        return lm_kit_failed(k, "eval()", s);
    for (size_t i = 0; i < t->n_metric; i++)
        if (!isfinite(sum[i].value) || !isfinite(sum[i].weight) || sum[i].weight < 0)
            return lm_broken(k, "eval() of item %lld gives %g with weight %g for '%s'",
                             (long long)item, sum[i].value, sum[i].weight,
                             lm_stage_metric(&k->stage, i)->name);
    for (size_t i = t->n_metric; i < t->n_metric + GUARD; i++)
        if (sum[i].value != poison || sum[i].weight != poison)
            return lm_broken(k, "eval() writes more sums than there are metrics");
    return LM_OK;
}

static bool runs_programs(const struct lm_kit *k)
{
    return ((const struct lm_evaluator *)k->plugin->ops)->needs & LM_NEEDS_COMMANDS;
}

static enum lm_status check_items(struct lm_kit *k)
{
    struct trial t;
    struct lm_sum a[MOST_METRICS + GUARD], b[MOST_METRICS + GUARD];
    double weight = 0;
    if (runs_programs(k))
        return LM_OK;
    enum lm_status s = open_trial(k, &t);
    for (int64_t i = 0; !s && i < MOST_ITEMS && i < t.n; i++) {
        int64_t item = i & 1 ? t.n - 1 - i / 2 : i / 2;     /* both ends */
        if ((s = eval(k, &t, item, a)) || (s = eval(k, &t, item, b)))
            break;
        for (size_t m = 0; m < t.n_metric; m++)
            weight += a[m].weight;
        if (!t.noisy && memcmp(a, b, t.n_metric * sizeof *a))
            s = lm_broken(k, "eval() gives other sums for item %lld the second time, but "
                          "its metrics are not declared noisy", (long long)item);
    }
    if (!s && !(weight > 0))
        s = lm_broken(k, "eval() gives every sum the weight 0");
    lm_kit_destroy(k, t.self);
    return s;
}

/* ---- [any]: several threads -------------------------------------------------------- */

struct crowd {
    const struct lm_evaluator *ops;
    struct trial *t;
    struct lm_sum out[COPIES][MOST_METRICS + GUARD];
    struct lm_err err[COPIES];
};

static void one_of_many(void *ctx, int64_t i, uint32_t worker)
{
    struct crowd *c = ctx;
    (void)worker;
    c->err[i].code = c->ops->eval(c->t->self, (void *)c->t->subject, 0, c->out[i],
                                  &c->err[i]);
}

static enum lm_status check_threads(struct lm_kit *k)
{
    static struct crowd c;
    struct trial t;
    struct lm_sum alone[MOST_METRICS + GUARD];
    if (runs_programs(k))
        return LM_OK;
    enum lm_status s = open_trial(k, &t);
    c = (struct crowd){ .ops = k->plugin->ops, .t = &t };
    if (!s && !(c.ops->needs & LM_NEEDS_QUIET) && !(s = eval(k, &t, 0, alone))) {
        lm_parallel(COPIES, one_of_many, &c);
        for (int i = 0; !s && i < COPIES; i++) {
            *k->e = c.err[i];
            if (k->e->code)
                s = lm_kit_failed(k, "eval() from several threads", k->e->code);
            else if (!t.noisy && memcmp(alone, c.out[i], t.n_metric * sizeof *alone))
                s = lm_broken(k, "eval() gives other sums when several threads call it");
        }
    }
    lm_kit_destroy(k, t.self);
    return s;
}

/* ---- short texts, memory, cancel --------------------------------------------------- */

static enum lm_status live(struct lm_kit *k)
{
    const struct lm_evaluator *ops = k->plugin->ops;
    struct lm_sum sum[MOST_METRICS + GUARD] = { { 0, 0 } };
    char subject[64] = "", line[512];
    int64_t n = 0;
    void *self;
    enum lm_status s = lm_kit_try(k, &self);
    if (s)
        return s;
    s = ops->items(self, &n, k->e);
    if (!s)
        s = ops->protocol(self, line, sizeof line, k->e);
    if (!s && n > 0)
        s = ops->eval(self, (void *)subject, 0, sum, k->e);
    if (s == LM_EUNAVAILABLE && runs_programs(k)) {     /* call() above */
        *k->e = (struct lm_err){ 0 };
        s = LM_OK;
    }
    lm_kit_destroy(k, self);
    return s;
}

/* Too few tokens for any window: a reason, or sums all the same. */
static enum lm_status check_short(struct lm_kit *k)
{
    enum lm_status s = LM_OK;
    dress(k);
    for (size_t n = 0; !s && n < 5; n++) {
        n_text = n;
        s = lm_kit_excused(k, "items() of a text that is too short", live(k));
    }
    n_text = LM_KIT_IDS;
    return s;
}

static enum lm_status live_poorly(void *ctx)
{
    return live(ctx);
}

static enum lm_status check_memory(struct lm_kit *k)
{
    dress(k);
    return lm_kit_memory(k, live_poorly, k);
}

static enum lm_status check_cancel(struct lm_kit *k)
{
    dress(k);
    enum lm_status s = live(k);
    return s == LM_ECANCELED ? LM_OK : lm_kit_excused(k, "eval()", s);
}

const struct lm_kit_check lm_selftest_evaluator[] = {
    { "eval() after a cancel", check_cancel, true },
    { "what it needs", check_needs, false },
    { "items and protocol", check_protocol, false },
    { "the sums of items", check_items, false },
    { "sums from several threads", check_threads, false },
    { "short texts", check_short, false },
    { "work without memory", check_memory, false },
    { NULL, NULL, false }
};
