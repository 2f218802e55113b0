/* SPDX-License-Identifier: Apache-2.0 */
/* check_search.c -- the contract of search strategies, held by each of them:
 * bounds and steps, the same seed gives the same proposals whatever the size of
 * the batches, infeasible and damaged outcomes, honest budgets, an end, and no
 * memory lost when any allocation fails.  Problems with known answers are in
 * check_search_answers.c, _lagrangian.c, _baselines.c and _evolve.c.          */
#include "search_rig.h"

#include <math.h>

#include "check_search.h"

/* ---- problems -------------------------------------------------------------- */
/* Genes of every kind (or only those of discrete scalars). */
static void mixed(struct rig_problem *r, bool scalars)
{
    rig_problem_init(r, 2);
    for (int i = 0; i < 4; i++)
        rig_gene(r, (struct lm_gene){ .kind = LM_GENE_BOOL, .max = 1, .initial = 1,
                                      .site = { LM_SITE_LAYER, i, 0 } });
    for (int i = 0; i < 5; i++)
        rig_int(r, 4 - i, 16, 128, 8, 128);
    rig_int(r, 2, -3, 12, 4, 1);                    /* max is on no step */
    rig_int(r, 2, 5, 5, 1, 5);                      /* nothing to choose */
    rig_int(r, 2, 0, 1e6, 1, 777777);
    rig_gene(r, (struct lm_gene){ .kind = LM_GENE_CHOICE, .n = 5, .initial = 2 });
    rig_gene(r, (struct lm_gene){ .kind = LM_GENE_CHOICE, .n = 9, .initial = 8,
                                  .ordered = true });
    if (scalars)
        return;
    rig_gene(r, (struct lm_gene){ .kind = LM_GENE_REAL, .min = -2, .max = 3 });
    rig_gene(r, (struct lm_gene){ .kind = LM_GENE_REAL, .min = 0.1, .max = 0.9,
                                  .step = 0.1, .initial = 0.5 });
    rig_gene(r, (struct lm_gene){ .kind = LM_GENE_REAL, .min = 1e-4, .max = 10,
                                  .log_scale = true, .initial = 1 });
    rig_gene(r, (struct lm_gene){ .kind = LM_GENE_SUBSET, .n = 70, .min = 3,
                                  .max = 70 });
    rig_gene(r, (struct lm_gene){ .kind = LM_GENE_SUBSET, .n = 5, .min = 2, .max = 2 });
    rig_gene(r, (struct lm_gene){ .kind = LM_GENE_SUBSET, .n = 64, .min = 0,
                                  .max = 64 });
}

/* 0 .. 1 for each slot, whatever the gene. */
static double share(const struct lm_gene *g, const union lm_value *v)
{
    double x = g->kind == LM_GENE_REAL ? v->real : (double)v->integer;

    if (g->kind == LM_GENE_SUBSET) {
        x = 0;
        for (uint32_t i = 0; i < g->n; i++)
            x += v[i / 64].bits >> i % 64 & 1;
        return x / g->n;
    }
    if (g->kind == LM_GENE_BOOL)
        return x;
    if (g->kind == LM_GENE_CHOICE)
        return x / (g->n - 1);
    return g->max > g->min ? (x - g->min) / (g->max - g->min) : 0;
}

static enum lm_status smooth(const struct rig_problem *r, const union lm_value *v,
                             double fidelity, double *f)
{
    f[0] = f[1] = 1 - fidelity;
    for (size_t i = 0; i < r->p.n_gene; i++) {
        double x = share(&r->gene[i], v + r->gene[i].slot);
        f[0] += (1 - x) * (1 - x) * (double)(1 + i % 3);
        f[1] += x;
    }
    return LM_OK;
}

static uint64_t parity(const struct rig_problem *r, const union lm_value *v)
{
    uint64_t h = 0;

    for (size_t i = 0; i < r->p.n_slot; i++)
        h = (h ^ v[i].bits) * UINT64_C(0x9e3779b97f4a7c15);
    return h >> 40;
}

static enum lm_status half(const struct rig_problem *r, const union lm_value *v,
                           double fidelity, double *f)
{
    smooth(r, v, fidelity, f);
    if (parity(r, v) % 2 == 0)
        return LM_OK;
    f[0] = f[1] = NAN;                              /* must not be looked at */
    return LM_EINFEASIBLE;
}

static enum lm_status none(const struct rig_problem *r, const union lm_value *v,
                           double fidelity, double *f)
{
    (void)r; (void)v; (void)fidelity;
    f[0] = f[1] = NAN;
    return LM_EINFEASIBLE;
}

static enum lm_status damaged(const struct rig_problem *r, const union lm_value *v,
                              double fidelity, double *f)
{
    static const double odd[] = { NAN, INFINITY, -INFINITY };

    smooth(r, v, fidelity, f);
    if (parity(r, v) % 4)
        f[parity(r, v) / 4 % 2] = odd[parity(r, v) / 8 % 3];
    return LM_OK;
}

/* ---- strategies ------------------------------------------------------------ */
enum { RANDOM, SPREAD, BINNED, NSGA2, NSGA2_UNIFORM, NSGA2_CUT, TPE, TPE_ALL, BAYES,
       BAYES_ONE, LOCAL, REGULARIZED, NSGA3, LINAS, LINAS_LITERAL, MASKS, MASKS_LITERAL, GRID,
       ONE_PLUS, LAGRANGIAN, GREEDY, GREEDY_LAZY, CHAIN, HALVING, N_RIGS };

static const struct rig rigs[N_RIGS] = {
    [RANDOM] = { .name = "random", .options = "budget=60" },
    [SPREAD] = { .name = "random", .options = "budget=60 spread=true" },
    [BINNED] = { .name = "random", .options = "budget=60 bins=8" },
    [NSGA2] = { .name = "nsga2", .options = "population=12 generations=8" },
    [NSGA2_UNIFORM] = { .name = "nsga2",
        .options = "population=12 budget=100 crossover=uniform pm=0.2" },
    [NSGA2_CUT] = { .name = "nsga2", .options = "population=9 crossover=cut" },
    [TPE] = { .name = "tpe", .options = "budget=44 startup=12 candidates=4" },
    [TPE_ALL] = { .name = "tpe", .options = "budget=42 batch=20 near=1 gamma=0.4" },
    [BAYES] = { .name = "bayes",
        .options = "budget=44 startup=30 candidates=8 steps=1" },
    [BAYES_ONE] = { .name = "bayes",
        .options = "budget=42 startup=36 batch=1 candidates=8 steps=1" },
    [LOCAL] = { .name = "local", .options = "budget=60 batch=3" },
    [REGULARIZED] = { .name = "regularized_evolution", .options = "budget=60" },
    [GRID] = { .name = "grid", .options = "budget=60 levels=2" },
    [ONE_PLUS] = { .name = "one_plus_lambda",
        .options = "budget=60 initial=20 offspring=9" },
    [NSGA3] = { .name = "nsga3", .options = "population=12 generations=8" },
    [LINAS] = { .name = "linas", .options = "population=15 budget=60 inner=200" },
    [LINAS_LITERAL] = { .name = "linas",
        .options = "population=15 budget=60 inner=200 knots=0 pm=0.02 rows=40" },
    [MASKS] = { .name = "mask_mutation",
        .options = "population=12 generations=8 parents=4 fill=score" },
    [MASKS_LITERAL] = { .name = "mask_mutation",
        .options = "population=12 generations=8 literal=true tries=5 crossover=gene" },
    [LAGRANGIAN] = { .name = "lagrangian", .options = "rounds=3 fidelity=0.5" },
    [GREEDY] = { .name = "greedy", .options = "budget=60" },
    [GREEDY_LAZY] = { .name = "greedy", .options = "budget=60 lazy=3 per_gain=true" },
    [CHAIN] = { .name = "chain", .options = "pass=5" },
    [HALVING] = { .name = "halving", .options = "bracket=9 eta=2" },
};

/* Strategies that have no random numbers and take no subsets. */
static bool is_plain(size_t which)
{
    return which == LAGRANGIAN || which == GREEDY || which == GREEDY_LAZY;
}

/* A chain gets stages of its own for the time of a run, halving the second of them. */
static enum lm_status run(size_t which, const struct rig *change,
                          const struct rig_problem *p, struct rig_log *log,
                          struct lm_err *e)
{
    const struct rig first = { .name = "random", .options = "budget=20",
                               .seed = change->seed };
    const struct rig second = { .name = "nsga2", .seed = change->seed,
                                .options = "population=10 generations=4" };
    struct rig_made made[2] = { { 0 } };
    struct lm_instance v[2];
    struct lm_instances stages = { v, 2 };
    struct rig s = rigs[which];
    enum lm_status st = LM_OK;

    s.eval = change->eval;
    s.max = change->max;
    s.seed = change->seed;
    s.races = change->races;
    if (which == CHAIN || which == HALVING) {
        if ((st = rig_make(&first, &made[0], e)) == LM_OK)
            st = rig_make(&second, &made[1], e);
        for (int i = 0; i < 2; i++)
            v[i] = (struct lm_instance){ made[i].ops, made[i].self, "stage" };
        if (which == HALVING)
            stages = (struct lm_instances){ v + 1, 1 };
        s.stages = &stages;
    }
    if (st == LM_OK)
        st = rig_run(&s, p, log, e);
    for (int i = 0; i < 2; i++)
        rig_unmake(&made[i]);
    return st;
}

static void set_up(struct rig_problem *p, size_t which, bool bounded)
{
    mixed(p, is_plain(which));
    if (bounded) {
        p->objective[1].bound = which == LAGRANGIAN ? 8 : 10;
        p->p.n_constraint = 1;
    }
}

START_TEST(contract)
{
    static rig_eval *const evals[] = { smooth, half, none, damaged };
    size_t which = (size_t)_i / 4;
    const struct rig change = { .eval = evals[_i % 4] };
    struct rig_problem p;

    for (int bounded = 0; bounded < 2; bounded++) {
        struct rig_log log = { 0 };
        struct lm_err e = { 0 };

        set_up(&p, which, bounded);
        ck_assert_ok(run(which, &change, &p, &log, &e), e);
        ck_assert_uint_ge(log.n, is_plain(which) ? 12 : 40);
        rig_log_free(&log);
    }
}
END_TEST

static bool same(const struct rig_log *a, const struct rig_log *b)
{
    bool equal = a->n == b->n;

    for (size_t i = 0; equal && i < a->n; i++)
        equal = a->trial[i].fidelity == b->trial[i].fidelity
             && memcmp(a->trial[i].value, b->trial[i].value,
                       sizeof a->trial[i].value) == 0;
    return equal;
}

START_TEST(reproducible)
{
    size_t which = (size_t)_i;
    struct rig_problem p;
    struct rig_log log[4] = { { 0 } };
    struct lm_err e = { 0 };
    const struct rig change[4] = {
        { .eval = half }, { .eval = half }, { .eval = half, .max = 33 },
        { .eval = half, .seed = 2 },
    };

    set_up(&p, which, true);
    for (int i = 0; i < 4; i++)
        ck_assert_ok(run(which, &change[i], &p, &log[i], &e), e);
    ck_assert(same(&log[0], &log[1]));
    ck_assert(same(&log[0], &log[2]));              /* other batches */
    ck_assert(same(&log[0], &log[3]) == (is_plain(which) || which == GRID));
    for (int i = 0; i < 4; i++)
        rig_log_free(&log[i]);
}
END_TEST

START_TEST(no_duplicates)
{
    struct rig_problem p;
    struct rig_log log = { 0 };
    struct lm_err e = { 0 };
    const struct rig change = { .eval = smooth };

    set_up(&p, (size_t)_i, true);
    ck_assert_ok(run((size_t)_i, &change, &p, &log, &e), e);
    for (size_t i = 0; i < log.n; i++)
        for (size_t j = 0; j < i; j++)
            if (memcmp(log.trial[i].value, log.trial[j].value,
                       sizeof log.trial[i].value) == 0)
                ck_abort_msg("trials %zu and %zu are the same", j, i);
    rig_log_free(&log);
}
END_TEST

/* Four bits: 16 genomes, then the search ends by itself. */
START_TEST(small_space)
{
    struct rig_problem p;
    struct rig_log log = { 0 };
    struct lm_err e = { 0 };
    const struct rig change = { .eval = smooth };

    rig_problem_init(&p, 2);
    for (int i = 0; i < 4; i++)
        rig_gene(&p, (struct lm_gene){ .kind = LM_GENE_BOOL, .max = 1, .initial = 1 });
    ck_assert_ok(run((size_t)_i, &change, &p, &log, &e), e);
    ck_assert_uint_eq(log.n, 16);
    rig_log_free(&log);
}
END_TEST

/* Start genomes come first, in order; without any, the uncompressed one. */
START_TEST(starts)
{
    struct rig_problem p;
    struct rig_log log = { 0 };
    struct lm_err e = { 0 };
    union lm_value v[3][RIG_SLOTS];
    const struct rig change = { .eval = smooth };

    set_up(&p, (size_t)_i, false);
    for (int i = 0; i < 3; i++)
        rig_initial(&p, v[i]);
    ck_assert_ok(run((size_t)_i, &change, &p, &log, &e), e);
    ck_assert_mem_eq(log.trial[0].value, v[0], p.p.n_slot * sizeof **v);
    rig_log_free(&log);
    v[0][0].integer = 0;
    v[2][1].integer = 0;
    for (int i = 0; i < 3; i++)
        p.start[i] = v[i];
    p.p.n_start = 3;
    ck_assert_ok(run((size_t)_i, &change, &p, &log, &e), e);
    for (int i = 0; i < 3; i++)
        ck_assert_mem_eq(log.trial[i].value, v[i], p.p.n_slot * sizeof **v);
    rig_log_free(&log);
}
END_TEST

static enum lm_status whole_run(void *which)
{
    static struct rig_problem p;
    struct rig_log log = { 0 };
    struct lm_err e = { 0 };
    const struct rig change = { .eval = half };
    enum lm_status st;

    set_up(&p, *(size_t *)which, true);
    st = run(*(size_t *)which, &change, &p, &log, &e);
    ck_assert(st == LM_OK || e.text[0]);
    rig_log_free(&log);
    return st;
}

START_TEST(memory)
{
    size_t which = (size_t)_i;
    ck_assert_int_ge(fail_every_allocation(whole_run, &which), 2);
}
END_TEST

/* What lost a race is dominated and its values are estimates for all items: strategies
 * learn from it as from what was measured.                                    */
START_TEST(races)
{
    struct rig_problem p;
    struct rig_log log[2] = { { 0 } };
    struct lm_err e = { 0 };
    const struct rig change[2] = { { .eval = smooth }, { .eval = smooth,
        .races = true } };

    set_up(&p, (size_t)_i, false);
    for (int i = 0; i < 2; i++)
        ck_assert_ok(run((size_t)_i, &change[i], &p, &log[i], &e), e);
    ck_assert(same(&log[0], &log[1]));
    for (int i = 0; i < 2; i++)
        rig_log_free(&log[i]);
}
END_TEST

/* Every option's default lies in its own range, and names are in order. */
START_TEST(options)
{
    const struct lm_module *m = rig_module(rigs[_i].name);

    ck_assert_uint_eq(m->opt_size, sizeof *m->opt);
    ck_assert_ptr_nonnull(m->summary);
    for (const struct lm_opt *o = m->opt; o->name; o++) {
        ck_assert_ptr_nonnull(o->help);
        ck_assert_uint_lt(o->offset, m->config_size);
        if (o->type != LM_OPT_INT && o->type != LM_OPT_REAL)
            continue;
        ck_assert_double_ge(strtod(o->def, NULL), o->min);
        ck_assert_double_le(strtod(o->def, NULL), o->max);
    }
}
END_TEST

int main(void)
{
    Suite *s[] = { suite_create("search contract"), search_answers(),
                   search_lagrangian(), search_baselines(), search_evolve(),
                   search_models() };
    TCase *t = tcase_create("contract");

    tcase_set_timeout(t, 60);           /* many allocations fail in turn */
    tcase_add_loop_test(t, contract, 0, 4 * N_RIGS);
    tcase_add_loop_test(t, reproducible, 0, N_RIGS);
    tcase_add_loop_test(t, races, RANDOM, ONE_PLUS);    /* its parents are measured */
    tcase_add_loop_test(t, races, LAGRANGIAN, CHAIN);
    tcase_add_loop_test(t, no_duplicates, GREEDY, CHAIN);
    tcase_add_loop_test(t, starts, GREEDY, CHAIN);
    tcase_add_loop_test(t, no_duplicates, RANDOM, LAGRANGIAN);
    tcase_add_loop_test(t, small_space, RANDOM, LAGRANGIAN);
    tcase_add_loop_test(t, starts, RANDOM, LAGRANGIAN);
    tcase_add_loop_test(t, memory, 0, N_RIGS);
    tcase_add_loop_test(t, options, 0, N_RIGS);
    suite_add_tcase(s[0], t);
    return run_suites(s, sizeof s / sizeof *s);
}
