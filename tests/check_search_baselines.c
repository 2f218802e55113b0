/* SPDX-License-Identifier: Apache-2.0 */
/* check_search_baselines.c -- what random, grid, local, regularized_evolution,
 * one_plus_lambda, greedy and halving promise: sizes drawn evenly, whole and evenly spread
 * grids, neighbours of the front, parents among the latest, sizes that are kept, the
 * cheapest step, and who goes on to more items.                                  */
#include <math.h>

#include "check_search.h"
#include "search_rig.h"

static struct rig_problem p;
static struct rig_log logged;
static struct lm_err err;

static void clean(void)
{
    rig_log_free(&logged);
}

static int64_t at(size_t trial, size_t gene)
{
    return logged.trial[trial].value[p.gene[gene].slot].integer;
}

/* Two objectives at odds: keep everything, keep nothing. */
static enum lm_status trade(const struct rig_problem *r, const union lm_value *v,
                            double fidelity, double *f)
{
    (void)fidelity;
    f[0] = f[1] = 0;
    for (size_t i = 0; i < r->p.n_gene; i++) {
        double x = (double)v[r->gene[i].slot].integer;
        f[0] += (10 - x) * (10 - x) * (double)(1 + i % 3);
        f[1] += x;
    }
    return LM_OK;
}

static void ten_steps(size_t n)
{
    rig_problem_init(&p, 2);
    for (size_t i = 0; i < n; i++)
        rig_int(&p, (int32_t)i, 0, 10, 1, 10);
}

static size_t times_seen(int64_t a, int64_t b, int64_t c)
{
    size_t n = 0;

    for (size_t i = 0; i < logged.n; i++)
        n += at(i, 0) == a && at(i, 1) == b && at(i, 2) == c;
    return n;
}

/* ---- random ---------------------------------------------------------------- */
START_TEST(random_fills_bins)
{
    struct rig s = { .name = "random", .eval = trade,
                     .options = "budget=49 bins=8 tolerance=0" };
    int kept[8] = { 0 };

    ten_steps(3);                       /* 0 to 30, few of them near the ends */
    ck_assert_ok(rig_run(&s, &p, &logged, &err), err);
    ck_assert_uint_eq(logged.n, 49);
    for (size_t i = 1; i < logged.n; i++) {     /* behind the start */
        int64_t sum = at(i, 0) + at(i, 1) + at(i, 2);
        kept[sum < 30 ? sum * 8 / 30 : 7]++;
    }
    for (int i = 0; i < 8; i++)
        ck_assert_int_eq(kept[i], 6);
    clean();
    s.options = "budget=1331 bins=8";   /* until there are no more */
    ck_assert_ok(rig_run(&s, &p, &logged, &err), err);
    ck_assert_uint_eq(logged.n, 1331);
    clean();
}
END_TEST

/* ---- grid ------------------------------------------------------------------ */
START_TEST(grid_is_whole)
{
    struct rig s = { .name = "grid", .options = "levels=3", .eval = trade };

    ten_steps(3);
    ck_assert_ok(rig_run(&s, &p, &logged, &err), err);
    ck_assert_uint_eq(logged.n, 27);
    for (int64_t a = 0; a <= 10; a += 5)
        for (int64_t b = 0; b <= 10; b += 5)
            for (int64_t c = 0; c <= 10; c += 5)
                ck_assert_uint_eq(times_seen(a, b, c), 1);
    clean();
    s.options = "levels=0";
    ck_assert_ok(rig_run(&s, &p, &logged, &err), err);
    ck_assert_uint_eq(logged.n, 11 * 11 * 11);
    clean();
}
END_TEST

START_TEST(grid_ties_like_genes)
{
    struct rig s = { .name = "grid", .options = "levels=0 tie=true", .eval = trade };

    ten_steps(5);
    rig_int(&p, 2, 0, 3, 1, 3);                     /* another family */
    ck_assert_ok(rig_run(&s, &p, &logged, &err), err);
    ck_assert_uint_eq(logged.n, 11 * 4);
    for (size_t i = 0; i < logged.n; i++)
        for (size_t g = 1; g < 5; g++)
            ck_assert_int_eq(at(i, g), at(i, 0));
    clean();
}
END_TEST

/* A part of a large grid: each gene has each of its values about as often. */
START_TEST(grid_is_spread)
{
    struct rig s = { .name = "grid", .options = "levels=3 budget=243", .eval = trade };
    int often[12][3] = { { 0 } };

    ten_steps(12);
    ck_assert_ok(rig_run(&s, &p, &logged, &err), err);
    ck_assert_uint_eq(logged.n, 243);
    for (size_t i = 0; i < logged.n; i++)
        for (size_t g = 0; g < 12; g++)
            often[g][at(i, g) / 5]++;
    for (size_t g = 0; g < 12; g++)
        for (int l = 0; l < 3; l++)
            ck_assert_int_ge(often[g][l], 243 / 6);
    clean();
}
END_TEST

START_TEST(grid_says_what_it_cannot)
{
    struct rig s = { .name = "grid", .options = "levels=10", .eval = trade };

    ten_steps(60);
    ck_assert_int_eq(rig_run(&s, &p, &logged, &err), LM_ECONFIG);
    ck_assert_ptr_nonnull(strstr(err.text, "tie = true"));
    clean();
    rig_problem_init(&p, 2);
    rig_gene(&p, (struct lm_gene){ .kind = LM_GENE_REAL, .max = 1 });
    s.options = "levels=0";
    ck_assert_int_eq(rig_run(&s, &p, &logged, &err), LM_ECONFIG);
    ck_assert_ptr_nonnull(strstr(err.text, "levels"));
    clean();
}
END_TEST

/* Subsets keep their best members by score. */
START_TEST(grid_keeps_the_best_of_a_subset)
{
    static const double score[6] = { 3, 9, 1, 9, 5, 2 };
    struct rig s = { .name = "grid", .options = "levels=0", .eval = trade };

    rig_problem_init(&p, 2);
    rig_gene(&p, (struct lm_gene){ .kind = LM_GENE_SUBSET, .n = 6, .min = 4, .max = 6,
                                   .score = score });
    ck_assert_ok(rig_run(&s, &p, &logged, &err), err);
    ck_assert_uint_eq(logged.n, 3);
    ck_assert_uint_eq(logged.trial[0].value[0].bits, 077);
    ck_assert_uint_eq(logged.trial[1].value[0].bits, 033);     /* without 2 and 5 */
    ck_assert_uint_eq(logged.trial[2].value[0].bits, 073);     /* without 2 */
    clean();
}
END_TEST

/* ---- local ----------------------------------------------------------------- */
static bool beats(size_t a, size_t b)
{
    const double *x = logged.trial[a].objective, *y = logged.trial[b].objective;

    return x[0] <= y[0] && x[1] <= y[1] && (x[0] < y[0] || x[1] < y[1]);
}

static bool on_front(size_t i, size_t told)
{
    for (size_t j = 0; j < told; j++)
        if (beats(j, i))
            return false;
    return true;
}

static size_t changed(size_t a, size_t b)
{
    size_t n = 0;

    for (size_t g = 0; g < p.p.n_gene; g++)
        n += at(a, g) != at(b, g);
    return n;
}

/* Behind the four first ones each is one gene away from a member of the front then. */
START_TEST(local_stays_beside_the_front)
{
    struct rig s = { .name = "local", .options = "budget=120", .eval = trade };

    ten_steps(8);
    ck_assert_ok(rig_run(&s, &p, &logged, &err), err);
    ck_assert_uint_eq(logged.n, 120);
    for (size_t g = 0; g < 8; g++) {
        ck_assert_int_eq(at(0, g), 10);
        ck_assert_int_eq(at(1, g), 0);
        ck_assert_int_eq(at(2, g), 5);
    }
    for (size_t i = 4; i < logged.n; i++) {
        bool beside = false;
        for (size_t j = 0; j < i && !beside; j++)
            beside = changed(i, j) == 1 && on_front(j, i);
        ck_assert_msg(beside, "trial %zu", i);
    }
    clean();
}
END_TEST

/* ---- regularized_evolution ------------------------------------------------- */
/* Each child is one gene away from one of the `population` trials before it. */
START_TEST(regularized_evolution_forgets)
{
    enum { POPULATION = 6 };
    struct rig s = { .name = "regularized_evolution",
                     .options = "population=6 sample=3 budget=150", .eval = trade };

    ten_steps(8);
    ck_assert_ok(rig_run(&s, &p, &logged, &err), err);
    for (size_t i = POPULATION; i < logged.n; i++) {
        bool child = false;
        for (size_t j = i - POPULATION; j < i; j++)
            child |= changed(i, j) == 1;
        ck_assert_msg(child, "trial %zu", i);
    }
    clean();
}
END_TEST

static enum lm_status one_max(const struct rig_problem *r, const union lm_value *v,
                              double fidelity, double *f)
{
    (void)fidelity;
    f[0] = 0;
    for (size_t i = 0; i < r->p.n_gene; i++)
        f[0] -= (double)v[r->gene[i].slot].integer;
    return LM_OK;
}

/* Better than as many random genomes, by the median of seeds. */
START_TEST(regularized_evolution_climbs)
{
    int better = 0;

    for (uint64_t seed = 1; seed <= 9; seed++) {
        double best[2];
        for (int k = 0; k < 2; k++) {
            struct rig s = { .name = k ? "random" : "regularized_evolution",
                             .options = "budget=200", .seed = seed, .eval = one_max };
            rig_problem_init(&p, 1);
            for (int i = 0; i < 40; i++)
                rig_int(&p, i, 0, 10, 1, 0);
            ck_assert_ok(rig_run(&s, &p, &logged, &err), err);
            best[k] = logged.trial[rig_best(&logged)].objective[0];
            clean();
        }
        better += best[0] < best[1];
    }
    ck_assert_int_ge(better, 8);
}
END_TEST

/* ---- one_plus_lambda ------------------------------------------------------- */
/* Convex losses and a bound on the sum.  It ends on the bound, at the optimum, which
 * equal slopes of (10 - x)^2 k give, and children of a parent that keeps the bound
 * mostly have its size.                                                       */
START_TEST(one_plus_lambda_finds_the_optimum)
{
    struct rig s = { .name = "one_plus_lambda",
                     .options = "budget=600 initial=16 offspring=8", .eval = trade };
    size_t best, kept = 0;

    ten_steps(12);
    p.objective[1].bound = 76;          /* k = 1 2 3: 10 - x = 6, 3, 2: 44 of 120 go */
    p.p.n_constraint = 1;
    ck_assert_ok(rig_run(&s, &p, &logged, &err), err);
    best = rig_best(&logged);
    ck_assert_double_le(logged.trial[best].objective[1], 76);
    ck_assert_double_le(logged.trial[best].objective[0], 1.05 * 4 * (36 + 18 + 12));
    for (size_t i = 300; i < logged.n; i++)
        kept += logged.trial[i].objective[1] == logged.trial[best].objective[1];
    ck_assert_uint_ge(kept, 200);
    clean();
}
END_TEST

/* ---- greedy ---------------------------------------------------------------- */
/* Losses are convex and separate, so that steps of least cost lead to the optimum. */
START_TEST(greedy_finds_the_optimum)
{
    struct rig s = { .name = "greedy", .options = "budget=10000", .eval = trade };
    size_t last;

    ten_steps(12);
    p.objective[1].bound = 76;          /* as for one_plus_lambda */
    p.p.n_constraint = 1;
    ck_assert_ok(rig_run(&s, &p, &logged, &err), err);
    ck_assert_uint_eq(logged.n, 1 + 44 * 12);       /* none is at its end before */
    last = rig_best(&logged);
    ck_assert_double_eq(logged.trial[last].objective[1], 76);
    ck_assert_double_eq(logged.trial[last].objective[0], 4 * (36 + 18 + 12));
    clean();
}
END_TEST

/* Genes that were dropped together with the one before cost more; sizes differ. */
static enum lm_status chained(const struct rig_problem *r, const union lm_value *v,
                              double fidelity, double *f)
{
    (void)fidelity;
    f[0] = 0;
    f[1] = 0;
    for (size_t i = 0; i < r->p.n_gene; i++) {
        bool gone = v[i].integer == 0, before = i > 0 && v[i - 1].integer == 0;
        f[0] += gone ? (double)((i * 7 + 3) % 11) + (before ? 5.25 : 0) : 0;
        f[1] += gone ? 0 : 1 + (double)(i % 3);
    }
    return LM_OK;
}

enum { BLOCKS = 12, STEPS = 6 };

/* The trials of STEPS steps, done by hand: [n][BLOCKS]. */
static size_t by_hand(size_t lazy, bool per_gain, int64_t out[][BLOCKS])
{
    union lm_value now[RIG_SLOTS];
    double cost[BLOCKS], f[2], g[2];
    size_t n = 1;

    rig_initial(&p, now);
    for (size_t i = 0; i < BLOCKS; i++)
        out[0][i] = now[i].integer;
    for (int step = 0; step < STEPS; step++) {
        bool tried[BLOCKS] = { false };
        size_t best = BLOCKS, left = step == 0 || !lazy ? BLOCKS : lazy;
        chained(&p, now, 1, f);
        for (; left > 0; left--) {
            size_t next = BLOCKS;
            for (size_t i = 0; i < BLOCKS; i++)
                if (now[i].integer && !tried[i] && (next == BLOCKS
                    || (lazy && step > 0 && cost[i] < cost[next])))
                    next = i;
            if (next == BLOCKS)
                break;
            tried[next] = true;
            now[next].integer = 0;
            for (size_t i = 0; i < BLOCKS; i++)
                out[n][i] = now[i].integer;
            n++;
            chained(&p, now, 1, g);
            now[next].integer = 1;
            cost[next] = (g[0] - f[0]) / (per_gain ? f[1] - g[1] : 1);
        }
        for (size_t i = 0; i < BLOCKS; i++)
            if (tried[i] && (best == BLOCKS || cost[i] < cost[best]))
                best = i;
        now[best].integer = 0;
    }
    return n;
}

START_TEST(greedy_goes_step_by_step)
{
    static const char *const options[] = { "lazy=0", "lazy=0 per_gain=true", "lazy=4",
                                           "lazy=2 per_gain=true" };
    static const size_t lazy[] = { 0, 0, 4, 2 };
    struct rig s = { .name = "greedy", .options = options[_i], .eval = chained };
    int64_t want[STEPS * BLOCKS + 1][BLOCKS];
    size_t n;

    rig_problem_init(&p, 2);
    for (int i = 0; i < BLOCKS; i++)
        rig_gene(&p, (struct lm_gene){ .kind = LM_GENE_BOOL, .max = 1, .initial = 1 });
    n = by_hand(lazy[_i], _i % 2, want);
    ck_assert_ok(rig_run(&s, &p, &logged, &err), err);
    ck_assert_uint_gt(logged.n, n);                 /* without bounds, to the end */
    for (size_t i = 0; i < n; i++)
        for (size_t g = 0; g < BLOCKS; g++)
            ck_assert_int_eq(at(i, g), want[i][g]);
    for (size_t g = 0; g < BLOCKS; g++)
        ck_assert_int_eq(at(logged.n - 1, g), 0);
    clean();
}
END_TEST

static enum lm_status size_first(const struct rig_problem *r, const union lm_value *v,
                                 double fidelity, double *f)
{
    double swap;

    trade(r, v, fidelity, f);
    swap = f[0];
    f[0] = f[1];
    f[1] = swap;
    return LM_OK;
}

/* The uncompressed genome keeps the bound: it ends where each further step would not. */
START_TEST(greedy_stays_within_bounds)
{
    struct rig s = { .name = "greedy", .options = "", .eval = size_first };
    const struct rig_trial *end;
    size_t over = 0;

    ten_steps(5);
    p.objective[1].bound = 60;
    p.p.n_constraint = 1;
    ck_assert_ok(rig_run(&s, &p, &logged, &err), err);
    end = &logged.trial[rig_best(&logged)];
    ck_assert_double_lt(end->objective[0], 50);
    for (size_t i = logged.n - 5; i < logged.n; i++) {
        ck_assert_double_eq(logged.trial[i].objective[0], end->objective[0] - 1);
        over += logged.trial[i].violation > 0;
    }
    ck_assert_uint_eq(over, 5);
    clean();
}
END_TEST

START_TEST(greedy_says_what_it_cannot)
{
    struct rig s = { .name = "greedy", .options = "per_gain=true", .eval = trade };

    rig_problem_init(&p, 1);
    rig_int(&p, 0, 0, 8, 1, 8);
    ck_assert_int_eq(rig_run(&s, &p, &logged, &err), LM_ECONFIG);
    ck_assert_ptr_nonnull(strstr(err.text, "second objective"));
    clean();
}
END_TEST

/* ---- halving --------------------------------------------------------------- */
/* Proposes 0 .. 8 in the first gene, then ends; keeps what it is told. */
struct counter {
    struct lm_search ops;
    size_t asked, n_told;
    double f[9], fidelity[9];
    bool   stopped[9];
};

static enum lm_status count_begin(void *self, const struct lm_problem *problem,
                                  struct lm_err *e)
{
    (void)self; (void)problem; (void)e;
    return LM_OK;
}

static enum lm_status count_ask(void *self, struct lm_proposal *out, size_t max,
                                size_t *n, struct lm_err *e)
{
    struct counter *c = self;

    (void)e;
    for (*n = 0; *n < max && c->asked < 9; c->asked++)
        out[(*n)++].value[0].integer = (int64_t)c->asked;
    return LM_OK;
}

static enum lm_status count_tell(void *self, const struct lm_outcome *const *o, size_t n,
                                 struct lm_err *e)
{
    struct counter *c = self;

    (void)e;
    for (size_t i = 0; i < n && c->n_told < 9; i++, c->n_told++) {
        ck_assert_int_eq(o[i]->value[0].integer, (int64_t)c->n_told);
        c->f[c->n_told] = o[i]->objective[0];
        c->fidelity[c->n_told] = o[i]->fidelity;
        c->stopped[c->n_told] = o[i]->stopped;
    }
    return LM_OK;
}

static size_t count_budget(void *self)
{
    return 9 - ((const struct counter *)self)->asked;
}

/* A search of `halving` around a counter. */
static void halve(struct counter *c, struct rig s)
{
    struct lm_instance v = { &c->ops, c, "counter" };
    struct lm_instances inner = { &v, 1 };

    *c = (struct counter){ .ops = { .struct_size = sizeof c->ops, .genes = ~UINT64_C(0),
        .begin = count_begin, .ask = count_ask, .tell = count_tell,
        .budget = count_budget } };
    s.name = "halving";
    s.stages = &inner;
    rig_problem_init(&p, 1);
    rig_int(&p, 0, 0, 8, 1, 0);
    ck_assert_ok(rig_run(&s, &p, &logged, &err), err);
}

/* Early items are easier: what x costs falls by 2 from share to share. */
static enum lm_status easier(const struct rig_problem *r, const union lm_value *v,
                             double fidelity, double *f)
{
    (void)r;
    f[0] = (double)((v[0].integer * 4) % 9) - 2 * log(fidelity) / log(3);
    return LM_OK;
}

START_TEST(halving_promotes)
{
    struct counter c;
    static const int64_t second[] = { 0, 5, 7 };    /* 4 x mod 9 of 0, 2, 1 */

    halve(&c, (struct rig){ .options = "bracket=9 eta=3 rungs=2", .eval = easier });
    ck_assert_uint_eq(logged.n, 9 + 3 + 1);
    for (size_t i = 0; i < 9; i++)
        ck_assert_double_eq_tol(logged.trial[i].fidelity, 1 / 9.0, 1e-12);
    for (size_t i = 0; i < 3; i++) {
        ck_assert_double_eq_tol(logged.trial[9 + i].fidelity, 1 / 3.0, 1e-12);
        ck_assert_int_eq(at(9 + i, 0), second[i]);
    }
    ck_assert_double_eq(logged.trial[12].fidelity, 1);
    ck_assert_int_eq(at(12, 0), 0);
    ck_assert_uint_eq(c.n_told, 9);
    for (size_t i = 0; i < 9; i++) {                /* what all items would have given */
        ck_assert_double_eq_tol(c.f[i], (double)(i * 4 % 9), 1e-9);
        ck_assert(c.stopped[i] == (i > 0));
    }
    ck_assert_double_eq(c.fidelity[0], 1);
    clean();
}
END_TEST

/* Half of the proposals do not fit: they are never promoted before those that do. */
static enum lm_status half_fit(const struct rig_problem *r, const union lm_value *v,
                               double fidelity, double *f)
{
    easier(r, v, fidelity, f);
    return v[0].integer % 2 ? LM_OK : LM_EINFEASIBLE;
}

START_TEST(halving_drops_what_cannot_be_built)
{
    struct counter c;

    halve(&c, (struct rig){ .options = "bracket=9 eta=2 rungs=1", .eval = half_fit });
    ck_assert_uint_eq(logged.n, 9 + 4);             /* 5 may go on, 4 were built */
    for (size_t i = 9; i < logged.n; i++)
        ck_assert_int_eq(at(i, 0) % 2, 1);
    clean();
}
END_TEST

/* Of what lost a race at the last rung there are estimates only. */
START_TEST(halving_passes_races_on)
{
    struct counter c;

    halve(&c, (struct rig){ .options = "bracket=9 eta=2 rungs=1", .eval = easier,
                            .races = true });
    ck_assert_uint_eq(logged.n, 9 + 5);
    for (size_t i = 9; i < logged.n; i++) {
        bool lost = i % 3 == 1;

        ck_assert(c.stopped[at(i, 0)] == lost);
        ck_assert_double_eq(c.fidelity[at(i, 0)], lost ? 0.25 : 1);
    }
    clean();
}
END_TEST

Suite *search_baselines(void)
{
    Suite *s = suite_create("search baselines");
    TCase *t = tcase_create("baselines");

    tcase_add_test(t, random_fills_bins);
    tcase_add_test(t, grid_is_whole);
    tcase_add_test(t, grid_ties_like_genes);
    tcase_add_test(t, grid_is_spread);
    tcase_add_test(t, grid_says_what_it_cannot);
    tcase_add_test(t, grid_keeps_the_best_of_a_subset);
    tcase_add_test(t, local_stays_beside_the_front);
    tcase_add_test(t, regularized_evolution_forgets);
    tcase_add_test(t, regularized_evolution_climbs);
    tcase_add_test(t, one_plus_lambda_finds_the_optimum);
    tcase_add_test(t, greedy_finds_the_optimum);
    tcase_add_loop_test(t, greedy_goes_step_by_step, 0, 4);
    tcase_add_test(t, greedy_stays_within_bounds);
    tcase_add_test(t, greedy_says_what_it_cannot);
    tcase_add_test(t, halving_promotes);
    tcase_add_test(t, halving_drops_what_cannot_be_built);
    tcase_add_test(t, halving_passes_races_on);
    suite_add_tcase(s, t);
    return s;
}
