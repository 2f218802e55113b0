/* SPDX-License-Identifier: Apache-2.0 */
/* guards.c -- see guards.h. */
#include "pipeline/guards.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "plan/plan.h"
#include "study/overlap.h"

/* ---- texts ----------------------------------------------------------------------- */

enum { MOST_TEXTS = 4 * LM_MAX_STAGES };
#define LEAST_SHARE 0.005               /* below: headings, boiler-plate */
enum role { CALIBRATION, SEARCH, FINAL };
static const char *const role_name[] = { "calibration", "search", "final" };

struct used { const char *name; enum role role; };
struct usage { struct used v[MOST_TEXTS]; size_t n; };

static void add_use(struct usage *u, const char *name, enum role role)
{
    for (size_t i = 0; i < u->n; i++)
        if (u->v[i].role == role && !strcmp(u->v[i].name, name))
            return;
    if (u->n < MOST_TEXTS)
        u->v[u->n++] = (struct used){ name, role };
}

/* The texts that options of a stage name. */
static void add_stage(struct usage *u, const struct lm_stage *s, enum role role)
{
    const struct lm_module *m = &s->plugin->module;
    const struct lm_opt *o;

    for (size_t i = 0; (o = lm_opt_at(m, i)); i++) {
        const char *name = o->type != LM_OPT_TEXT ? NULL
            : *(const char *const *)((const char *)s->opt.config + o->offset);

        if (name && *name)
            add_use(u, name, role);
    }
}

/* Is `late`, which judges, free of `early`, which something was fitted to? */
static enum lm_status compare(struct lm_run *run, const struct used *early,
                              const struct used *late, struct lm_str *out,
                              struct lm_err *e)
{
    const int32_t *ids = NULL, *to;
    int32_t *sample = NULL;
    int64_t n_seq = 1, length = 0;
    size_t n = 0, n_to;
    double share = 0;
    enum lm_status st;

    if (early->role == CALIBRATION) {
        st = lm_run_sample(run, early->name, &sample, &n_seq, &length, e);
        ids = sample;
    } else if (!(st = lm_run_ids(run, early->name, &ids, &n, e))) {
        length = (int64_t)n;
    }
    if (!st && !(st = lm_run_ids(run, late->name, &to, &n_to, e)))
        st = lm_overlap(ids, n_seq, length, to, (int64_t)n_to, &share, e);
    lm_release(sample);
    if (!st && share >= LEAST_SHARE)
        lm_str_add(out, "%.1f %% of the %s text '%s' also stands in %s '%s', so figures "
                   "on it flatter what was fitted to that\n", 100 * share,
                   role_name[late->role], late->name, early->role == CALIBRATION
                   ? "the sample of" : "the search text", early->name);
    return st;
}

static enum lm_status guard_texts(struct lm_session *s, struct lm_str *out,
                                  struct lm_err *e)
{
    const struct lm_pipeline *p = s->pipeline;
    struct usage u = { .n = 0 };
    enum lm_status st = LM_OK;

    if (s->bench.stats || p->refine.plugin)
        add_use(&u, "calibration", CALIBRATION);
    for (size_t i = 0; i < p->n_evaluate; i++)
        add_stage(&u, &p->evaluate[i], SEARCH);
    for (size_t i = 0; i < p->n_final; i++)
        if (!lm_confirms(p, p->final[i].id))    /* which judges the search again */
            add_stage(&u, &p->final[i], FINAL);
    for (size_t i = 0; !st && i < u.n; i++)
        for (size_t k = 0; !st && k < u.n; k++)
            if (u.v[i].role < u.v[k].role)
                st = compare(p->run, &u.v[i], &u.v[k], out, e);
    return st;
}

/* ---- statistics -------------------------------------------------------------------- */

/* Columns of one consumer that no token ever reached; statistics that do not hold
 * sums of squares say nothing.                                               */
static int64_t dead_columns(const struct lm_stats *s, uint32_t site, int32_t layer)
{
    struct lm_err ignored = { .code = LM_OK };
    const double *v;
    int64_t n, dead = 0;

    if (lm_stats_get(s, LM_STAT_SUMSQ, site, layer, &v, &n, &ignored))
        return 0;
    for (int64_t i = 0; i < n; i++)
        dead += v[i] == 0;
    return dead;
}

static void guard_statistics(const struct lm_session *s, struct lm_str *out)
{
    static const uint32_t site[] = { LM_SITE_ATTN, LM_SITE_MLP };
    const struct lm_arch *a = lm_model_arch(s->bench.model);

    for (size_t k = 0; s->bench.stats && k < 2; k++)
        for (int32_t i = 0; i < a->n_layer; i++) {
            int64_t dead = dead_columns(s->bench.stats, site[k], i);

            if (dead)
                lm_str_add(out, "layer %d: %lld inputs of the %s were 0 for all tokens "
                           "of the calibration text; nothing is known of them\n", i,
                           (long long)dead, site[k] == LM_SITE_MLP ? "MLP's down matrix"
                           : "attention's o matrix");
        }
}

enum lm_status lm_guard_inputs(struct lm_session *s, struct lm_str *out, struct lm_err *e)
{
    enum lm_status st = guard_texts(s, out, e);

    if (!st)
        guard_statistics(s, out);
    return st || !out->failed ? st : lm_fail_memory(e, out->n, "notes");
}

/* ---- results ----------------------------------------------------------------------- */

/* The metrics of one stage list: a perplexity and a divergence; -1: none. */
struct pair { int ppl, kl; };

/* The metric "ID.LAST" of the evaluator that has metric m, "ID.nats"; -1: it has none. */
static int beside(const struct lm_study *v, int m, const char *last)
{
    const char *name = v->metric[m].name, *dot = strrchr(name, '.');
    size_t n = dot ? (size_t)(dot - name) : strlen(name);

    for (int i = 0; i < v->n_metric; i++)
        if (!strncmp(v->metric[i].name, name, n) && !strcmp(v->metric[i].name + n, last))
            return i;
    return -1;
}

/* final: of the evaluators of `final`, that is of candidates as they are exported.  An
 * evaluator by any name that has nats and a perplexity measures losses, one that has nats
 * alone divergence. */
static struct pair find_pair(const struct lm_study *v, bool final)
{
    struct pair p = { -1, -1 };

    for (int i = final ? v->n_search : 0; i < (final ? v->n_metric : v->n_search); i++) {
        const char *dot = strrchr(v->metric[i].name, '.');

        if (!dot || (final && lm_view_as_searched(v, i)))
            continue;
        if (!strcmp(dot, ".ppl") && p.ppl < 0)
            p.ppl = i;
        if (!strcmp(dot, ".nats") && p.kl < 0 && beside(v, i, ".ppl") < 0)
            p.kl = i;
    }
    return p;
}

static bool is_less(const struct lm_view_trial *a, const struct lm_view_trial *b, int m)
{
    double noise = 0;

    if (isfinite(a->error[m]) && isfinite(b->error[m]))
        noise = hypot(a->error[m], b->error[m]);
    return a->value[m] < b->value[m] - noise;   /* false for what was not measured */
}

/* Does a read its text better than b and yet lie further from the dense model? */
static bool strays(const struct lm_view_trial *a, const struct lm_view_trial *b,
                   struct pair p)
{
    return is_less(a, b, p.ppl) && is_less(b, a, p.kl);
}

static void guard_pair(const struct lm_study *v, struct pair p, struct lm_str *out)
{
    enum { MOST = 3 };
    int said = 0;

    if (p.ppl < 0 || p.kl < 0)
        return;
    for (int64_t i = 0; i < v->n_trial; i++) {
        const struct lm_view_trial *a = &v->trial[i], *b = NULL;

        if (!a->front && i != lm_view_best(v))
            continue;
        for (int64_t k = 0; !b && k < v->n_trial; k++)
            if ((v->trial[k].front || k == 0) && strays(a, &v->trial[k], p))
                b = &v->trial[k];
        if (b && said++ < MOST)
            lm_str_add(out, "trial %lld has a better %s than trial %lld (%.4g, %.4g) but "
                       "is further from the dense model (%s %.4g, %.4g): it may have "
                       "been fitted to the text\n", (long long)a->id,
                       v->metric[p.ppl].name, (long long)b->id, a->value[p.ppl],
                       b->value[p.ppl], v->metric[p.kl].name, a->value[p.kl],
                       b->value[p.kl]);
    }
    if (said > MOST)
        lm_str_add(out, "the same holds for %d more trials\n", said - MOST);
}

static void guard_steadiness(const struct lm_study *v, struct lm_str *out)
{
    struct lm_tally t = lm_view_tally(v);

    if (t.kept)
        lm_str_add(out, "the machine was unsteady: in %lld of %lld repetitions what "
                   "times are compared with was up to %.1f %% off its median, measured "
                   "thrice\n",
                   (long long)t.kept, (long long)t.runs, 100 * t.worst);
    if (t.other)
        lm_str_add(out, "the device had no room for the dense model beside candidates, "
                   "so times are corrected by one candidate of each group\n");
}

/* Parameters of a trial; -1: its plan cannot be read. */
static int64_t params_of(const struct lm_study *v, const struct lm_view_trial *t)
{
    struct lm_plan *plan;
    struct lm_cost cost = { .params = -1 };
    struct lm_err ignored = { 0 };

    if (t->status == LM_OK && !lm_plan_parse(&v->arch, t->plan_text, &plan, &ignored)) {
        lm_plan_cost(plan, LM_F32, &cost);
        lm_plan_free(plan);
    }
    return cost.params;
}

/* Of times that finalists took: did smaller ones take less than larger ones? */
static void guard_time(const struct lm_study *v, int m, const int64_t *params,
                       struct lm_str *out)
{
    enum { MOST = 3 };
    int said = 0;

    for (int64_t i = 0; i < v->n_trial; i++)
        for (int64_t k = 0; k < v->n_trial && params[i] > 0; k++) {
            const struct lm_view_trial *a = &v->trial[i], *b = &v->trial[k];

            if (params[i] >= 0.98 * (double)params[k] ||
                isnan(a->value[m]) || isnan(b->value[m]) || a->value[m] < b->value[m] ||
                said++ >= MOST)
                continue;
            lm_str_add(out, "trial %lld has %.0f %% of the parameters of trial %lld but "
                       "is no faster: %s %.4g, %.4g%s\n", (long long)a->id,
                       100 * (double)params[i] / (double)params[k], (long long)b->id,
                       v->metric[m].name, a->value[m], b->value[m], b->id ? ""
                       : " (the dense model is timed in the number formats of its file, "
                         "what was changed of candidates in f32; exports show theirs)");
        }
    if (said > MOST)
        lm_str_add(out, "the same holds for %d more pairs of trials\n", said - MOST);
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n > m && !strcmp(s + n - m, end);
}

/* Does it stand beside a time: what another model took, or what the device says? */
static bool is_beside(const char *metric)
{
    return ends_with(metric, "_anchor_ms") || ends_with(metric, "_device_ms");
}

/* Times are what `final` measures in seconds or parts of them. */
static void guard_times(const struct lm_study *v, struct lm_str *out)
{
    int64_t *params = NULL;

    for (int m = v->n_search; m < v->n_metric; m++) {
        const char *unit = v->metric[m].unit;

        if ((strcmp(unit, "s") && strcmp(unit, "ms") && strcmp(unit, "us"))
            || is_beside(v->metric[m].name))
            continue;
        if (!params && !(params = lm_alloc_array((size_t)v->n_trial, sizeof *params,
                                                 "guards"))) {
            out->failed = true;
            return;
        }
        for (int64_t i = 0; i < v->n_trial; i++)
            if (!params[i] && !isnan(v->trial[i].value[m]))
                params[i] = params_of(v, &v->trial[i]);
        guard_time(v, m, params, out);
    }
    lm_release(params);
}

void lm_guard_results(const struct lm_study *v, struct lm_str *out)
{
    guard_pair(v, find_pair(v, false), out);
    guard_pair(v, find_pair(v, true), out);
    guard_steadiness(v, out);
    guard_times(v, out);
}
