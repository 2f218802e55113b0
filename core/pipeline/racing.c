/* SPDX-License-Identifier: Apache-2.0 */
/* racing.c -- see racing.h. */
#include "pipeline/racing.h"

#include <math.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

enum { MAX_RUNGS = 40 };

struct goal { int metric; const struct lm_judge *judge; const struct lm_metric *m; };

struct lm_racing {
    struct lm_study *view;
    double risk;
    struct goal sampled[LM_MAX_STAGES], exact[LM_MAX_STAGES];
    bool    maximise[LM_MAX_STAGES];    /* of the sampled ones */
    int64_t items[LM_MAX_STAGES], n_items;  /* of each; of all together */
    size_t  n_sampled, n_exact;
    struct lm_judge *judge;             /* all of `evaluate` */
    size_t  n_judge;
    double  share[MAX_RUNGS];
    int64_t seen[(MAX_RUNGS + 1) * LM_MAX_STAGES];      /* [rungs + 1][n_sampled] */
    struct lm_rungs rungs;
    struct lm_sum **kept;               /* [n_kept] by trial: sums of all items of all
                                           sampled objectives, or NULL */
    int64_t n_kept;
    /* of the batch */
    struct lm_race *race;
    const double *wanted;               /* [n] shares */
    size_t  n, n_member, n_contender;
    struct lm_racer *member;            /* contenders behind them */
    double *number;                     /* exact and excess of all racers */
    const struct lm_sum **sum;          /* [racers][n_sampled] */
    int64_t *trial;                     /* [n_member] */
    size_t  *at, *candidate;            /* candidate -> contender or n; and back */
    bool    *go;                        /* [n] contenders */
};

/* ---- what races can be about ------------------------------------------------------- */

static struct goal find_goal(struct lm_bench *b, int metric)
{
    size_t i = (size_t)metric;
    const struct lm_judge *j = lm_judge_of(b->judge, b->n_judge, &i);
    return (struct goal){ .metric = metric, .judge = j, .m = lm_judge_metric(j, i) };
}

static bool is_exact(const struct goal *g)
{
    return lm_judge_counts(g->judge) && !g->m->noisy;
}

static enum lm_status sort_goals(struct lm_racing *r, struct lm_session *s,
                                 struct lm_err *e)
{
    for (size_t k = 0; k < s->pipeline->n_objective; k++) {
        const struct lm_goal *o = &s->pipeline->objective[k];
        struct goal g = find_goal(&s->bench, o->metric);
        if (is_exact(&g)) {
            r->exact[r->n_exact++] = g;
        } else if (lm_judge_samples(g.judge) && !g.m->noisy &&
                   g.m->reduce != LM_REDUCE_MEDIAN) {
            r->maximise[r->n_sampled] = g.m->maximise;
            r->items[r->n_sampled] = g.judge->n_items;
            r->n_items += g.judge->n_items;
            r->sampled[r->n_sampled++] = g;
        } else {
            return lm_conf_fail(e, o->at, "race: '%s' is neither counted nor a mean over "
                                "items that the model is run on, so trials cannot be "
                                "compared before they are measured; leave out `race` or "
                                "this objective", o->o->metric);
        }
    }
    return LM_OK;
}

/* Rungs after `first` items, twice as many and so on, as long as an eighth of all is left
 * to be saved; of the objective with the fewest items.                               */
static void plan_rungs(struct lm_racing *r, int64_t first)
{
    int64_t n = r->n_sampled ? r->items[0] : 0;
    for (size_t k = 1; k < r->n_sampled; k++)
        n = r->items[k] < n ? r->items[k] : n;
    for (int64_t at = first; at <= n - (n + 7) / 8 && r->rungs.n < MAX_RUNGS; at *= 2)
        r->share[r->rungs.n++] = (double)at / (double)n;
    for (size_t i = 0; i <= r->rungs.n; i++)
        for (size_t k = 0; k < r->n_sampled; k++)
            r->seen[i * r->n_sampled + k] =
                lm_judge_items(r->sampled[k].judge, i < r->rungs.n ? r->share[i] : 1);
    if (!r->rungs.n)
        lm_log(LM_WARN,
               "race: no trial can stop early: after the first %lld of %lld items "
               "there is too little left; give the evaluators more items, for instance "
               "shorter windows", (long long)first, (long long)n);
}

static enum lm_status look(void *ctx, const struct lm_result *result,
                           const struct lm_err *err, bool *go, struct lm_err *e);

enum lm_status lm_racing_open(struct lm_session *s, struct lm_study *view,
                              struct lm_racing **out, struct lm_err *e)
{
    const struct lm_race_options *o = s->pipeline->race;
    *out = NULL;
    if (!o)
        return LM_OK;
    struct lm_racing *r = lm_alloc(sizeof *r, "race");
    if (!r)
        return lm_fail_memory(e, sizeof *r, "the race");
    *r = (struct lm_racing){ .view = view, .risk = o->risk, .judge = s->bench.judge,
        .n_judge = s->bench.n_judge };
    r->rungs = (struct lm_rungs){ .share = r->share, .look = look, .ctx = r };
    enum lm_status st = sort_goals(r, s, e);
    if (!st)
        plan_rungs(r, o->first);
    if (st || !r->rungs.n) {
        lm_racing_close(r);
        return st;
    }
    *out = r;
    return LM_OK;
}

void lm_racing_close(struct lm_racing *r)
{
    if (!r)
        return;
    lm_racing_end(r);
    for (int64_t i = 0; i < r->n_kept; i++)
        lm_release(r->kept[i]);
    lm_release(r->kept);
    lm_release(r);
}

/* ---- sums of earlier trials ---------------------------------------------------------- */

static enum lm_status make_room(struct lm_racing *r, int64_t trial, struct lm_err *e)
{
    if (trial < r->n_kept)
        return LM_OK;
    int64_t n = trial < 128 ? 256 : 2 * trial;
    struct lm_sum **more = lm_resize(r->kept, (size_t)n * sizeof *more);
    if (!more)
        return lm_fail_memory(e, (size_t)n * sizeof *more, "the race");
    memset(more + r->n_kept, 0, (size_t)(n - r->n_kept) * sizeof *more);
    r->kept = more;
    r->n_kept = n;
    return LM_OK;
}

enum lm_status lm_racing_keep(struct lm_racing *r, int64_t trial,
                              const struct lm_measure *measure, size_t n,
                              struct lm_err *e)
{
    const struct lm_measure *of[LM_MAX_STAGES] = { NULL };
    for (size_t k = 0; k < r->n_sampled; k++) {
        const char *name = r->view->metric[r->sampled[k].metric].name;
        for (size_t i = 0; i < n; i++)
            if (!strcmp(measure[i].metric, name) &&
                (int64_t)measure[i].n_sum == r->items[k])
                of[k] = &measure[i];
        if (!of[k])                     /* of a copy of an earlier trial, or unfinished */
            return LM_OK;
    }
    enum lm_status st = make_room(r, trial, e);
    if (st)
        return st;
    struct lm_sum *to = lm_alloc_array((size_t)r->n_items, sizeof *to, "race");
    if (!to)
        return lm_fail_memory(e, (size_t)r->n_items * sizeof *to, "the race");
    r->kept[trial] = to;
    for (size_t k = 0; k < r->n_sampled; to += r->items[k++])
        memcpy(to, of[k]->sum, (size_t)r->items[k] * sizeof *to);
    return LM_OK;
}

/* ---- a batch ------------------------------------------------------------------------- */

static size_t n_numbers(const struct lm_racing *r)
{
    return r->n_exact + r->view->n_bound;
}

enum lm_status lm_racing_begin(struct lm_racing *r, const double *share, size_t n,
                               const struct lm_rungs **rungs, struct lm_err *e)
{
    size_t racers = n + (size_t)r->view->n_trial;
    lm_racing_end(r);
    *rungs = &r->rungs;
    r->wanted = share;
    r->n = n;
    r->member = lm_alloc_array(racers + 1, sizeof *r->member, "race");
    r->number = lm_alloc_array(racers * n_numbers(r) + 1, sizeof *r->number, "race");
    r->sum = lm_alloc_array(racers * r->n_sampled + 1, sizeof *r->sum, "race");
    r->trial = lm_alloc_array((size_t)r->view->n_trial + 1, sizeof *r->trial, "race");
    r->at = lm_alloc_array(2 * n + 1, sizeof *r->at, "race");
    r->go = lm_alloc_array(n + 1, sizeof *r->go, "race");
    if (!r->member || !r->number || !r->sum || !r->trial || !r->at || !r->go)
        return lm_fail_memory(e, racers * sizeof *r->member, "the race");
    r->candidate = r->at + n;
    return LM_OK;
}

void lm_racing_end(struct lm_racing *r)
{
    lm_race_close(r->race);
    lm_release(r->member);
    lm_release(r->number);
    lm_release(r->sum);
    lm_release(r->trial);
    lm_release(r->at);
    lm_release(r->go);
    r->race = NULL;
    r->member = NULL;
    r->number = NULL;
    r->sum = NULL;
    r->trial = NULL;
    r->at = NULL;
    r->go = NULL;
    r->n = r->n_member = r->n_contender = 0;
}

/* Racer i, with places for its numbers and sums. */
static struct lm_racer *place(struct lm_racing *r, size_t i, double **exact,
                              double **excess, const struct lm_sum ***sum)
{
    *exact = r->number + i * n_numbers(r);
    *excess = *exact + r->n_exact;
    *sum = r->sum + i * r->n_sampled;
    r->member[i] = (struct lm_racer){ *exact, *excess, *sum };
    return &r->member[i];
}

static void add_members(struct lm_racing *r)
{
    const struct lm_study *v = r->view;
    double *exact, *excess;
    const struct lm_sum **sum;
    for (int64_t i = 0; i < v->n_trial && i < r->n_kept; i++) {
        const struct lm_view_trial *t = &v->trial[i];
        const struct lm_sum *from = r->kept[i];
        if (!from)
            continue;
        place(r, r->n_member, &exact, &excess, &sum);
        for (size_t k = 0; k < r->n_exact; k++) {
            int m = r->exact[k].metric;
            exact[k] = r->exact[k].m->maximise ? -t->value[m] : t->value[m];
        }
        lm_view_violation(v, t, excess);
        for (size_t k = 0; k < r->n_sampled; from += r->items[k++])
            sum[k] = from;
        r->trial[r->n_member++] = i;
    }
}

/* A metric that evaluators have counted by now; else NAN. */
static double counted(const struct lm_racing *r, int metric,
                      const struct lm_result *result)
{
    double value = NAN, error;
    size_t i = (size_t)metric;
    const struct lm_judge *j = lm_judge_of(r->judge, r->n_judge, &i);
    const struct lm_metric *m = lm_judge_metric(j, i);
    if (lm_judge_counts(j) && !m->noisy && result[metric].sum)
        lm_reduce(m, result[metric].sum, result[metric].n_sum, &value, &error);
    return value;
}

static void add_contender(struct lm_racing *r, size_t candidate,
                          const struct lm_result *result)
{
    const struct lm_study *v = r->view;
    double *exact, *excess;
    const struct lm_sum **sum;
    place(r, r->n_member + r->n_contender, &exact, &excess, &sum);
    for (size_t k = 0; k < r->n_exact; k++) {
        double x = counted(r, r->exact[k].metric, result);
        exact[k] = r->exact[k].m->maximise ? -x : x;
    }
    for (size_t b = 0; b < v->n_bound; b++) {
        double x = counted(r, v->bound[b].metric, result);
        excess[b] = isnan(x) ? NAN : lm_bound_excess(&v->bound[b], x);
    }
    for (size_t k = 0; k < r->n_sampled; k++)
        sum[k] = result[r->sampled[k].metric].sum;
    r->candidate[r->n_contender] = candidate;
    r->at[candidate] = r->n_contender++;
}

static enum lm_status start(struct lm_racing *r, const struct lm_result *result,
                            const struct lm_err *err, struct lm_err *e)
{
    struct lm_race_rules rules = { .n_exact = r->n_exact, .n_sampled = r->n_sampled,
        .n_bound = r->view->n_bound, .maximise = r->maximise, .n_rung = r->rungs.n,
        .seen = r->seen, .risk = r->risk };
    add_members(r);
    for (size_t i = 0; i < r->n; i++) {
        r->at[i] = r->n;
        if (!err[i].code && r->wanted[i] == 1)
            add_contender(r, i, result + i * (size_t)r->view->n_search);
    }
    return lm_race_open(&rules, r->member, r->n_member, r->member + r->n_member,
                        r->n_contender, &r->race, e);
}

/* lm_rungs.look. */
static enum lm_status look(void *ctx, const struct lm_result *result,
                           const struct lm_err *err, bool *go, struct lm_err *e)
{
    struct lm_racing *r = ctx;
    enum lm_status st = r->race ? LM_OK : start(r, result, err, e);
    if (st)
        return st;
    for (size_t i = 0; i < r->n_contender; i++)
        if (err[r->candidate[i]].code)
            lm_race_leave(r->race, i);
    lm_race_go(r->race, r->go);
    memset(go, 0, r->n * sizeof *go);
    for (size_t i = 0; i < r->n_contender; i++)
        go[r->candidate[i]] = r->go[i];
    return LM_OK;
}

void lm_racing_result(const struct lm_racing *r, size_t candidate,
                      struct lm_race_result *out)
{
    size_t c = r->race ? r->at[candidate] : r->n;
    *out = (struct lm_race_result){ .stopped = false };
    if (c == r->n)
        return;
    struct lm_race_end end = lm_race_end(r->race, c);
    if (!end.stopped)
        return;
    *out = (struct lm_race_result){ .stopped = true, .by_trial = end.by_member,
        .by = end.by_member ? r->trial[end.by] : (int64_t)r->candidate[end.by],
        .seen = r->seen[end.rung * r->n_sampled], .items = r->items[0],
        .n = r->n_sampled };
    for (size_t k = 0; k < r->n_sampled; k++) {
        double mean, error;
        lm_race_estimate(r->race, c, k, &mean, &error);
        if (r->sampled[k].m->reduce == LM_REDUCE_EXP_MEAN) {
            mean = exp(mean);
            error *= mean;
        }
        out->told[k].metric = r->sampled[k].metric;
        out->told[k].value = mean;
        out->told[k].error = error;
    }
}
