/* SPDX-License-Identifier: Apache-2.0 */
/* search.c -- see search.h. */
#include "pipeline/search.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/process.h"
#include "pipeline/price.h"
#include "pipeline/racing.h"

/* One proposal on its way through a batch. */
struct item {
    union lm_value *value;              /* [n_slot] */
    double   share;                     /* fidelity */
    struct lm_plan *plan;               /* NULL: infeasible or replayed */
    uint64_t genome, hash;
    int64_t  known;                     /* trial with the same plan, -1 */
    int64_t  twin;                      /* earlier item with the same plan, -1 */
    bool     replayed;
    struct lm_err err;                  /* why it is infeasible */
    int64_t  trial;
};

struct loop {
    struct lm_session *s;
    struct lm_study *view;
    size_t n_slot, n_metric;
    int64_t stored;                     /* trials the store already had */
    struct item *item;                  /* [batch] */
    struct lm_result *result;           /* [batch * n_metric] */
    bool *skip;
    double *share, *reached;            /* of candidates: wanted, seen by its race */
    struct lm_racing *racing;           /* NULL: no race */
    struct lm_plan **plan;
    struct lm_candidate *candidate;
    struct lm_err *err;
    int64_t *at;                        /* candidate -> item */
    size_t batch, budget;
    double start;                       /* processor time then */
};

/* ---- decoding -------------------------------------------------------------- */

static int64_t find_known(const struct loop *l, const struct item *it)
{
    for (int64_t i = 0; i < l->view->n_trial; i++) {
        const struct lm_view_trial *t = &l->view->trial[i];
        bool same = t->told ? it->share == 1 : t->fidelity == it->share;
        if (t->plan == it->hash && t->status == LM_OK && same)
            return i;
    }
    return -1;
}

static int64_t find_twin(const struct loop *l, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (l->item[k].plan && l->item[k].hash == l->item[i].hash &&
            l->item[k].share == l->item[i].share)
            return (int64_t)k;
    return -1;
}

static enum lm_status decode_genome(struct loop *l, size_t i, int64_t id,
                                    struct lm_err *e)
{
    struct item *it = &l->item[i];
    it->genome = lm_genome_hash(l->s->bench.space, it->value);
    it->known = it->twin = -1;
    it->err = (struct lm_err){ 0 };
    it->plan = NULL;
    it->replayed = id < l->stored;
    if (it->replayed)
        return LM_OK;
    enum lm_status st = lm_genome_check(l->s->bench.space, it->value, e);
    if (st)
        return lm_stage_fail(&l->s->pipeline->search, e);
    st = lm_session_decode(l->s, it->value, &it->plan, &it->err);
    if (st == LM_EINFEASIBLE)
        return LM_OK;
    if (st) {
        *e = it->err;
        return st;
    }
    it->hash = lm_plan_hash(it->plan);
    it->known = find_known(l, it);
    it->twin = it->known < 0 ? find_twin(l, i) : -1;
    return LM_OK;
}

/* ---- recording ---------------------------------------------------------------- */

static enum lm_status replay(struct loop *l, struct item *it, int64_t id,
                             struct lm_err *e)
{
    struct lm_record r;
    struct lm_view_trial *t;
    enum lm_status st = lm_store_trial(l->view->store, id, &r, e);
    if (!st)
        st = lm_view_add(l->view, &r, &t, e);
    if (st)
        return st;
    if (r.genome != it->genome || (t->told ? it->share != 1 : r.fidelity != it->share))
        return lm_fail(e, LM_EINPUT, "the study's trial %lld is not what this search "
                       "proposes; it was made with another version, seed or pipeline: "
                       "start a new run", (long long)id);
    return l->racing && r.fidelity == 1 ? lm_racing_keep(l->racing, id, r.measure,
                                                         r.n_measure, e) : LM_OK;
}

/* The measures of one record, with room for what a race adds. */
struct sheet {
    struct lm_measure measure[LM_MAX_METRICS + LM_MAX_STAGES];
    size_t n;
    char   name[LM_MAX_STAGES][104], reason[128];
};

static void add_measure(struct sheet *h, const char *metric, double value, double error,
                        const struct lm_result *r)
{
    if (!isnan(value))
        h->measure[h->n++] = (struct lm_measure){ metric, value, error, r ? r->sum : NULL,
                                                  r ? r->n_sum : 0 };
}

/* What a trial that another one has the plan of gets from it. */
static void copy_known(const struct loop *l, const struct lm_view_trial *k,
                       struct sheet *h)
{
    size_t n = 0;
    for (size_t m = 0; m < l->n_metric; m++)
        add_measure(h, l->view->metric[m].name, k->value[m], k->error[m], NULL);
    for (size_t m = 0; k->told && m < l->n_metric; m++)
        if (!isnan(k->told[m])) {
            snprintf(h->name[n], sizeof h->name[n], LM_RACE_PREFIX "%s",
                     l->view->metric[m].name);
            add_measure(h, h->name[n++], k->told[m], NAN, NULL);
        }
}

/* A trial that lost its race is marked by its estimates. */
static void add_race(const struct loop *l, const struct lm_race_result *race,
                     int64_t trial, struct sheet *h)
{
    for (size_t k = 0; k < race->n; k++) {
        snprintf(h->name[k], sizeof h->name[k], LM_RACE_PREFIX "%s",
                 l->view->metric[race->told[k].metric].name);
        add_measure(h, h->name[k], race->told[k].value, race->told[k].error, NULL);
    }
    snprintf(h->reason, sizeof h->reason,
             "stopped after %lld of %lld items: trial %lld is "
             "better", (long long)race->seen, (long long)race->items, (long long)trial);
}

static enum lm_status store(struct loop *l, struct item *it, int64_t id, double fidelity,
                            double seconds, const struct sheet *h, struct lm_err *e)
{
    struct lm_str text = { 0 };
    struct lm_view_trial *t;
    if (it->plan)
        lm_plan_text(it->plan, &text);
    struct lm_record r = { .id = id, .genome = it->genome, .plan = it->hash,
        .value = it->value, .n_slot = l->n_slot, .plan_text = text.s ? text.s : "",
        .reason = it->err.code ? it->err.text : h->reason,
        .status = it->err.code ? LM_EINFEASIBLE : LM_OK, .fidelity = fidelity,
        .seconds = seconds, .measure = h->measure, .n_measure = h->n };
    enum lm_status st = text.failed ? lm_fail_memory(e, 4096, "a plan")
                                    : lm_view_add(l->view, &r, &t, e);
    if (!st)
        st = lm_store_record(l->view->store, &r, e);
    if (!st && l->racing && !r.status && fidelity == 1)
        st = lm_racing_keep(l->racing, id, r.measure, r.n_measure, e);
    lm_str_free(&text);
    return st;
}

/* c: its candidate, or the number of candidates where there is none: then the values
 * are those of `known`.  base: the trial of the batch's first item.                  */
static enum lm_status record(struct loop *l, struct item *it, int64_t id, size_t c,
                             size_t n_eval, double seconds, int64_t base,
                             struct lm_err *e)
{
    struct sheet h;
    double fidelity = it->share;
    h.n = 0;
    h.reason[0] = 0;
    if (!it->err.code && it->known >= 0) {
        const struct lm_view_trial *k = &l->view->trial[it->known];
        fidelity = k->fidelity;
        snprintf(h.reason, sizeof h.reason, "%s", k->reason);
        copy_known(l, k, &h);
    } else if (!it->err.code && c < n_eval) {
        const struct lm_result *result = l->result + c * l->n_metric;
        struct lm_race_result race = { .stopped = false };
        if (l->racing)
            lm_racing_result(l->racing, c, &race);
        for (size_t m = 0; m < l->n_metric; m++)
            add_measure(&h, l->view->metric[m].name, result[m].value, result[m].error,
                        &result[m]);
        if (race.stopped) {
            fidelity = l->reached[c];
            add_race(l, &race, race.by_trial ? race.by : base + l->at[race.by], &h);
        }
    }
    return store(l, it, id, fidelity, c < n_eval ? seconds : 0, &h, e);
}

/* ---- a batch ---------------------------------------------------------------------- */

static bool is_quiet(const struct loop *l, size_t m)
{
    const struct lm_bench *b = &l->s->bench;
    const struct lm_judge *j = lm_judge_of(b->judge, b->n_judge, &m);
    enum lm_pass pass = j ? lm_judge_pass(j) : LM_PASS_COUNT;
    return pass == LM_PASS_QUIET || pass == LM_PASS_COMMANDS;
}

/* Latency and what a command says are no sums over items: partial evaluations leave it
 * out unless it is an objective.                                             */
static void set_skip(struct loop *l, size_t c, double share)
{
    for (size_t m = 0; m < l->n_metric; m++)
        l->skip[c * l->n_metric + m] = share < 1 && is_quiet(l, m) &&
                                       !l->view->metric[m].objective;
}

static enum lm_status evaluate(struct loop *l, size_t first, size_t n_item, size_t *n,
                               struct lm_err *e)
{
    *n = 0;
    for (size_t i = first; i < n_item; i++) {
        const struct item *it = &l->item[i];
        if (!it->plan || it->known >= 0 || it->twin >= 0)
            continue;
        l->at[*n] = (int64_t)i;
        l->plan[*n] = it->plan;
        l->share[*n] = it->share;
        set_skip(l, *n, it->share);
        l->err[*n] = (struct lm_err){ 0 };
        ++*n;
    }
    if (!*n)
        return LM_OK;
    enum lm_status st = lm_bench_candidates(&l->s->bench, l->plan, *n, l->candidate,
                                            l->err, e);
    if (st)
        return st;
    const struct lm_rungs *rungs = NULL;
    if (l->racing)
        st = lm_racing_begin(l->racing, l->share, *n, &rungs, e);
    if (!st)
        st = lm_evaluate_race(l->s->bench.evaluation, l->candidate, *n, l->share, l->skip,
                              rungs, l->reached, l->result, l->err, e);
    if (!st)
        st = lm_view_timed(l->view, lm_evaluation_tally(l->s->bench.evaluation), e);
    for (size_t i = 0; i < *n; i++) {
        lm_candidate_close(l->s->bench.workshop, &l->candidate[i]);
        if (l->err[i].code)
            l->item[l->at[i]].err = l->err[i];
    }
    return st;
}

static enum lm_status finish_item(struct loop *l, size_t i, size_t n_eval, double seconds,
                                  struct lm_err *e)
{
    struct item *it = &l->item[i];
    int64_t id = l->view->n_trial;
    size_t c = 0;
    it->trial = id;
    if (it->replayed)
        return replay(l, it, id, e);
    if (it->twin >= 0) {
        it->known = l->item[it->twin].trial;
        it->err = l->item[it->twin].err;
    }
    while (c < n_eval && l->at[c] != (int64_t)i)
        c++;
    return record(l, it, id, c, n_eval, seconds, id - (int64_t)i, e);
}

/* Together or not at all: a race is not to be resumed in its middle. */
static enum lm_status finish_items(struct loop *l, size_t first, size_t n, size_t n_eval,
                                   double seconds, struct lm_err *e)
{
    enum lm_status st = first < n ? lm_store_begin(l->view->store, e) : LM_OK;
    if (st)
        return st;
    for (size_t i = first; !st && i < n; i++)
        st = finish_item(l, i, n_eval, seconds, e);
    enum lm_status end = lm_store_end(l->view->store, !st, st ? NULL : e);
    return st ? st : end;
}

static enum lm_status run_batch(struct loop *l, size_t n, struct lm_err *e)
{
    double start = lm_clock();
    size_t n_eval = 0;
    enum lm_status st = LM_OK;
    memset(l->result, 0, l->batch * l->n_metric * sizeof *l->result);
    size_t first = 0;                   /* behind the recorded ones: these are told first,
                                           so that their plans are known to the others */
    for (; !st && first < n && l->view->n_trial < l->stored; first++)
        if (!(st = decode_genome(l, first, l->view->n_trial, e)))
            st = finish_item(l, first, 0, 0, e);
    for (size_t i = first; !st && i < n; i++)
        st = decode_genome(l, i, l->view->n_trial + (int64_t)(i - first), e);
    if (!st)
        st = evaluate(l, first, n, &n_eval, e);
    double seconds = n_eval ? (lm_clock() - start) / (double)n_eval : 0;
    if (!st)
        st = finish_items(l, first, n, n_eval, seconds, e);
    if (l->racing)
        lm_racing_end(l->racing);
    lm_results_free(l->result, l->batch * l->n_metric);
    for (size_t i = 0; i < n; i++) {
        lm_plan_free(l->item[i].plan);
        l->item[i].plan = NULL;
    }
    return st;
}

/* ---- talking to the strategy ------------------------------------------------------- */

static void progress(const struct loop *l)
{
    char detail[160];
    double best = INFINITY, v[LM_MAX_STAGES];
    for (int64_t i = 1; i < l->view->n_trial; i++) {
        const struct lm_view_trial *t = &l->view->trial[i];
        bool ok = t->status == LM_OK && t->fidelity >= 1;
        lm_view_violation(l->view, t, v);
        for (size_t k = 0; ok && k < l->view->n_bound; k++)
            ok = v[k] <= 0;
        if (ok && lm_view_objective(l->view, t, 0) < best)
            best = lm_view_objective(l->view, t, 0);
    }
    if (isfinite(best))
        snprintf(detail, sizeof detail, "trial %lld of at most %zu, best %s %.4f",
                 (long long)l->view->n_trial, l->budget + 1,
                 l->view->metric[l->view->objective[0]].name, best);
    else
        snprintf(detail, sizeof detail, "trial %lld of at most %zu",
                 (long long)l->view->n_trial, l->budget + 1);
    lm_progress((double)l->view->n_trial / (double)(l->budget + 1), detail);
}

static enum lm_status tell(struct loop *l, size_t n, struct lm_err *e)
{
    struct lm_pipeline *p = l->s->pipeline;
    const struct lm_search *ops = p->search.plugin->ops;
    size_t m = l->view->n_objective, c = l->view->n_bound;
    struct lm_outcome *out = lm_alloc_array(n, sizeof *out, "search");
    const struct lm_outcome **ptr = lm_alloc_array(n, sizeof *ptr, "search");
    double *number = lm_alloc_array(n * (m + c) + 1, sizeof *number, "search");
    enum lm_status st = out && ptr && number ? LM_OK : lm_fail_memory(e, n, "outcomes");
    for (size_t i = 0; !st && i < n; i++) {
        const struct lm_view_trial *t = &l->view->trial[l->item[i].trial];
        double *o = number + i * (m + c), *v = o + m;
        uint32_t status = t->status;
        for (size_t k = 0; k < m; k++)
            if (isnan(o[k] = lm_view_told(l->view, t, k)))
                status = LM_EINFEASIBLE;
        lm_view_violation(l->view, t, v);
        out[i] = (struct lm_outcome){ .struct_size = sizeof *out, .status = status,
            .value = l->item[i].value, .objective = o, .violation = v,
            .fidelity = t->fidelity, .stopped = t->told != NULL };
        ptr[i] = &out[i];
    }
    if (!st && (st = ops->tell(p->search.self, ptr, n, e)))
        lm_stage_fail(&p->search, e);
    lm_release(out);
    lm_release(ptr);
    lm_release(number);
    return st;
}

static enum lm_status ask(struct loop *l, size_t *n, struct lm_err *e)
{
    struct lm_pipeline *p = l->s->pipeline;
    const struct lm_search *ops = p->search.plugin->ops;
    struct lm_proposal *proposal = lm_alloc_array(l->batch, sizeof *proposal, "search");
    if (!proposal)
        return lm_fail_memory(e, l->batch, "proposals");
    for (size_t i = 0; i < l->batch; i++)
        proposal[i] = (struct lm_proposal){ l->item[i].value, 1 };
    *n = 0;
    enum lm_status st = ops->ask(p->search.self, proposal, l->batch, n, e);
    if (!st && *n > l->batch)
        st = lm_fail(e, LM_EBUG, "proposed %zu genomes where %zu were asked for", *n,
                     l->batch);
    for (size_t i = 0; !st && i < *n; i++) {
        l->item[i].share = proposal[i].fidelity;
        if (!(l->item[i].share > 0 && l->item[i].share <= 1))
            st = lm_fail(e, LM_EBUG, "proposed a fidelity of %g", l->item[i].share);
    }
    lm_release(proposal);
    return st ? lm_stage_fail(&p->search, e) : LM_OK;
}

/* Objectives and genes as the strategy sees them; alive until the search ends. */
struct problem {
    struct lm_problem p;
    struct lm_objective objective[LM_MAX_STAGES];
    const struct lm_objective *ptr[LM_MAX_STAGES];
};

static void describe(const struct loop *l, struct problem *q)
{
    const struct lm_study *v = l->view;
    for (size_t k = 0; k < v->n_objective; k++) {
        const struct lm_metric *m;
        char name[96];
        lm_metric_at(l->s->pipeline->evaluate, l->s->pipeline->n_evaluate,
                     v->objective[k], name, sizeof name, &m);
        q->objective[k] = (struct lm_objective){ .struct_size = sizeof q->objective[k],
            .metric = v->metric[v->objective[k]].name, .bound = INFINITY,
            .reference = lm_view_objective(v, &v->trial[0], k), .noisy = m->noisy };
        for (size_t b = 0; b < v->n_bound; b++)
            if (v->bound[b].metric == v->objective[k] && !m->maximise)
                q->objective[k].bound = fmin(q->objective[k].bound, v->bound[b].max);
        q->ptr[k] = &q->objective[k];
    }
    q->p = (struct lm_problem){ .struct_size = sizeof q->p,
        .gene = lm_space_genes(l->s->bench.space, &q->p.n_gene), .n_slot = l->n_slot,
        .objective = q->ptr, .n_objective = v->n_objective, .n_constraint = v->n_bound };
    lm_space_genes(l->s->bench.space, &q->p.n_gene);
}

/* A goal on a metric that its evaluator was told not to measure. */
static enum lm_status check_goals(const struct loop *l, struct lm_err *e)
{
    const struct lm_pipeline *p = l->s->pipeline;
    for (size_t i = 0; i < p->n_objective + p->n_constraint; i++) {
        const struct lm_goal *g = i < p->n_objective ? &p->objective[i]
                                                     : &p->constraint[i - p->n_objective];
        if (isnan(l->view->trial[0].value[g->metric]))
            return lm_conf_fail(e, g->at, "'%s' is not measured under the options of its "
                                "evaluator", g->o->metric);
    }
    return LM_OK;
}

static enum lm_status drive(struct loop *l, struct problem *q, struct lm_err *e)
{
    struct lm_pipeline *p = l->s->pipeline;
    const struct lm_search *ops = p->search.plugin->ops;
    lm_genome_initial(l->s->bench.space, l->item[0].value);
    l->item[0].share = 1;
    enum lm_status st = run_batch(l, 1, e);
    if (!st && l->view->trial[0].status != LM_OK)
        st = lm_fail(e, LM_EFAILED, "the uncompressed model cannot be evaluated: %s",
                     l->view->trial[0].reason);
    if (st || (st = check_goals(l, e)) || (st = lm_view_bounds(l->view, p, e)))
        return st;
    describe(l, q);
    if ((st = ops->begin(p->search.self, &q->p, e)))
        return lm_stage_fail(&p->search, e);
    l->budget = ops->budget(p->search.self);
    for (;;) {
        size_t n;
        if (lm_canceled())
            return lm_fail(e, LM_ECANCELED, "interrupted");
        if ((st = ask(l, &n, e)) || !n)
            return st;
        if ((st = run_batch(l, n, e)) || (st = tell(l, n, e)))
            return st;
        progress(l);
    }
}

static void tell_infeasible(const struct lm_study *v)
{
    int64_t unbuilt, broken;
    lm_view_infeasible(v, &unbuilt, &broken);
    lm_log(LM_INFO, "search: of %lld proposals %lld could not be built, %lld break a "
           "constraint", (long long)v->n_trial - 1, (long long)unbuilt,
           (long long)broken);
}

static void tell_savings(const struct loop *l)
{
    struct lm_work w = lm_evaluation_work(l->s->bench.evaluation);
    double seen = 0;
    int64_t stopped = 0;
    for (int64_t i = 0; i < l->view->n_trial; i++)
        if (l->view->trial[i].told) {
            stopped++;
            seen += l->view->trial[i].fidelity;
        }
    if (l->view->n_trial > l->stored)
        lm_log(LM_INFO, "search: %lld trials took %.1f s of processor time",
               (long long)(l->view->n_trial - l->stored),
               lm_process_seconds(true) - l->start);
    if (l->view->n_trial > 1)
        tell_infeasible(l->view);
    if (l->racing && l->view->n_trial > 1)
        lm_log(LM_INFO,
               "race: %lld of %lld trials stopped early; %.1f %% of all items were "
               "not run", (long long)stopped, (long long)l->view->n_trial - 1,
               100 * ((double)stopped - seen) / (double)(l->view->n_trial - 1));
    if (w.asked > 0)
        lm_log(LM_INFO,
               "shared prefixes: %.1f %% of the multiply-adds were not run twice",
               100 * (1 - w.run / w.asked));
}

static enum lm_status allocate(struct loop *l, struct lm_err *e)
{
    size_t b = l->batch, n = b * l->n_metric;
    l->item = lm_alloc_array(b, sizeof *l->item, "search");
    l->result = lm_alloc_array(n, sizeof *l->result, "search");
    l->skip = lm_alloc_array(n, sizeof *l->skip, "search");
    l->share = lm_alloc_array(b, sizeof *l->share, "search");
    l->reached = lm_alloc_array(b, sizeof *l->reached, "search");
    l->plan = lm_alloc_array(b, sizeof *l->plan, "search");
    l->candidate = lm_alloc_array(b, sizeof *l->candidate, "search");
    l->err = lm_alloc_array(b, sizeof *l->err, "search");
    l->at = lm_alloc_array(b, sizeof *l->at, "search");
    bool ok = l->item && l->result && l->skip && l->share && l->reached && l->plan &&
              l->candidate && l->err && l->at;
    for (size_t i = 0; ok && i < b; i++)
        ok = (l->item[i].value = lm_alloc_array(l->n_slot + 1, sizeof(union lm_value),
                                                "search"));
    return ok ? LM_OK : lm_fail_memory(e, n, "the search");
}

static void release(struct loop *l)
{
    for (size_t i = 0; l->item && i < l->batch; i++)
        lm_release(l->item[i].value);
    lm_release(l->item);
    lm_release(l->result);
    lm_release(l->skip);
    lm_release(l->share);
    lm_release(l->reached);
    lm_racing_close(l->racing);
    lm_release(l->plan);
    lm_release(l->candidate);
    lm_release(l->err);
    lm_release(l->at);
}

enum lm_status lm_search_run(struct lm_session *s, struct lm_study *view,
                             struct lm_err *e)
{
    struct loop l = { .s = s, .view = view, .n_slot = lm_space_slots(s->bench.space),
        .n_metric = (size_t)view->n_search, .stored = lm_store_count(view->store),
        .batch = (size_t)s->pipeline->options->batch, .start = lm_process_seconds(true) };
    struct lm_pricing pricing = { s, view };
    struct problem *q = lm_alloc(sizeof *q, "search");
    enum lm_status st = q ? allocate(&l, e) : lm_fail_memory(e, sizeof *q, "the search");
    lm_progress_begin("search");
    lm_run_set_price(s->pipeline->run, lm_price_genomes, lm_weigh_genome, &pricing);
    if (!st)
        st = lm_stage_create(&s->pipeline->search, NULL, NULL, e);
    if (!st)
        st = lm_racing_open(s, view, &l.racing, e);
    if (!st)
        st = drive(&l, q, e);
    lm_progress_end();
    if (!st)
        tell_savings(&l);
    if (!st)
        st = lm_view_rank(view, e);
    lm_stage_close(&s->pipeline->search);       /* it holds pointers into q */
    lm_run_set_price(s->pipeline->run, NULL, NULL, NULL);
    release(&l);
    lm_release(q);
    return st;
}
