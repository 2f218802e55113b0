/* SPDX-License-Identifier: Apache-2.0 */
/* check_search_answers.c -- problems whose answers are known: ZDT1 on integers,
 * separable knapsacks solved by an independent table, and the promises of single
 * operators and of chain.                                                    */
#include <float.h>
#include <math.h>

#include "base/rng.h"
#include "check_search.h"
#include "search_rig.h"

static struct rig_problem p;
static struct rig_log logged;
static struct lm_err err;

static void clean(void)
{
    rig_log_free(&logged);
}

static int64_t integer(const union lm_value *v, size_t gene)
{
    return v[p.gene[gene].slot].integer;
}

/* ---- nsga2 ----------------------------------------------------------------- */
/* Zitzler, Deb & Thiele 2000: the front is f2 = 1 - sqrt(f1). */
static enum lm_status zdt1(const struct rig_problem *r, const union lm_value *v,
                           double fidelity, double *f)
{
    double g = 0;

    (void)fidelity;
    for (size_t i = 1; i < r->p.n_gene; i++)
        g += (double)v[i].integer / 100;
    g = 1 + 9 * g / (double)(r->p.n_gene - 1);
    f[0] = (double)v[0].integer / 100;
    f[1] = g * (1 - sqrt(f[0] / g));
    return LM_OK;
}

/* Area that the points dominate, below the reference: the sum over the front, by
 * rising f1, of (r1 - f1_i) (f2_{i-1} - f2_i), f2_0 = r2.  The next member of the
 * front is the leftmost point below the last one.                            */
static double area(const double *point, size_t n, const double reference[2])
{
    double volume = 0, floor2 = reference[1];

    for (;;) {
        const double *next = NULL;

        for (size_t i = 0; i < n; i++) {
            const double *q = point + 2 * i;
            if (!(q[0] < reference[0] && q[1] < floor2))
                continue;
            if (!next || q[0] < next[0] || (q[0] == next[0] && q[1] < next[1]))
                next = q;
        }
        if (!next)
            return volume;
        volume += (reference[0] - next[0]) * (floor2 - next[1]);
        floor2 = next[1];
    }
}

static double volume(const struct rig *s)
{
    static const double reference[] = { 1.1, 10 };
    double *point, sum;

    rig_problem_init(&p, 2);
    for (int i = 0; i < 12; i++)
        rig_int(&p, i, 0, 100, 1, 100);
    ck_assert_ok(rig_run(s, &p, &logged, &err), err);
    ck_assert_uint_eq(logged.n, 1000);
    point = calloc(2 * logged.n, sizeof *point);
    for (size_t i = 0; i < logged.n; i++)
        memcpy(point + 2 * i, logged.trial[i].objective, 2 * sizeof *point);
    sum = area(point, logged.n, reference);
    free(point);
    clean();
    return sum;
}

/* The whole front would have 1.1 * 9 + 2/3 + 0.1 = 10.67 */
START_TEST(nsga2_finds_the_front)
{
    static const char *const options[] = {
        "population=40 budget=1000", "population=40 budget=1000 crossover=uniform",
        "population=40 budget=1000 crossover=cut",
    };

    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct rig random = { .name = "random", .options = "budget=1000",
                              .eval = zdt1, .seed = seed };
        double baseline = volume(&random);
        for (int i = 0; i < 3; i++) {
            struct rig s = { .name = "nsga2", .options = options[i], .eval = zdt1,
                             .seed = seed };
            double v = volume(&s);
            ck_assert_double_gt(v, 9.6);
            ck_assert_double_lt(v, 10.67);
            ck_assert_double_gt(v, baseline + 0.8);
        }
    }
}
END_TEST

/* Ones cost, zeros cost: the front is every number of ones, and all zero bits of
 * the only start genome have to be mutated away.                             */
static enum lm_status one_max(const struct rig_problem *r, const union lm_value *v,
                              double fidelity, double *f)
{
    (void)fidelity;
    f[0] = 0;
    for (size_t i = 0; i < r->p.n_gene; i++)
        f[0] += v[i].integer == 0;
    return LM_OK;
}

START_TEST(nsga2_two_valued_genes_mutate)
{
    struct rig s = { .name = "nsga2", .options = "population=8 budget=1200 pc=0",
                     .eval = one_max };
    union lm_value zero[40] = { { 0 } };

    rig_problem_init(&p, 1);
    for (int i = 0; i < 40; i++)
        rig_gene(&p, (struct lm_gene){ .kind = LM_GENE_BOOL, .max = 1, .initial = 0 });
    p.start[0] = zero;
    p.p.n_start = 1;
    ck_assert_ok(rig_run(&s, &p, &logged, &err), err);
    ck_assert_double_le(logged.trial[rig_best(&logged)].objective[0], 1);
    clean();
}
END_TEST

static enum lm_status sum_bound(const struct rig_problem *r, const union lm_value *v,
                                double fidelity, double *f)
{
    (void)fidelity;
    f[0] = f[1] = 0;
    for (size_t i = 0; i < r->p.n_gene; i++) {
        f[0] += fabs((double)v[i].integer - (double)(i % 9));
        f[1] += (double)v[i].integer;
    }
    return LM_OK;
}

/* Level switches alone never leave the size that all start genomes have. */
START_TEST(nsga2_exchange_keeps_the_size)
{
    struct rig s = { .name = "nsga2", .options = "population=10 budget=200 exchange=1",
                     .eval = sum_bound };
    static union lm_value start[10][20];
    size_t outside = 0;

    rig_problem_init(&p, 2);
    for (int i = 0; i < 20; i++)
        rig_int(&p, i, 0, 8, 1, 8);
    for (int k = 0; k < 10; k++) {
        for (int i = 0; i < 20; i++)
            start[k][i].integer = 4;
        start[k][k].integer = 5;
        start[k][k + 1].integer = 3;
        p.start[k] = start[k];
    }
    p.p.n_start = 10;
    p.objective[1].bound = 80;
    p.p.n_constraint = 1;
    ck_assert_ok(rig_run(&s, &p, &logged, &err), err);
    ck_assert_uint_eq(logged.n, 200);
    for (size_t i = 0; i < logged.n; i++)
        outside += logged.trial[i].objective[1] != 80;
    ck_assert_uint_eq(outside, 0);
    ck_assert_double_lt(logged.trial[rig_best(&logged)].objective[0],
                        logged.trial[0].objective[0] - 15);
    clean();
}
END_TEST

/* Genes of parent k all have the value k, so a child of cut-point crossover shows
 * where it was cut: once, in the order of layers (the genes are in another).    */
START_TEST(nsga2_cuts_by_layer)
{
    struct rig s = { .name = "nsga2", .eval = sum_bound,
                     .options = "population=8 budget=16 crossover=cut pm=1e-12 pc=1" };
    static union lm_value start[8][20];
    size_t mixed = 0;

    rig_problem_init(&p, 2);
    for (int i = 0; i < 20; i++)
        rig_int(&p, i * 7 % 20, 0, 8, 1, 8);
    for (int k = 0; k < 8; k++) {
        for (int i = 0; i < 20; i++)
            start[k][i].integer = k;
        p.start[k] = start[k];
    }
    p.p.n_start = 8;
    ck_assert_ok(rig_run(&s, &p, &logged, &err), err);
    ck_assert_uint_eq(logged.n, 16);
    for (size_t i = 8; i < 16; i++) {
        int64_t layer[20], changes = 0;
        for (size_t g = 0; g < 20; g++)
            layer[p.gene[g].site.layer] = integer(logged.trial[i].value, g);
        for (int k = 1; k < 20; k++)
            changes += layer[k] != layer[k - 1];
        ck_assert_int_le(changes, 1);
        mixed += changes == 1;
    }
    ck_assert_uint_ge(mixed, 6);
    clean();
}
END_TEST

/* Feasible genomes are rare at first and the rule at the end. */
START_TEST(nsga2_becomes_feasible)
{
    struct rig s = { .name = "nsga2", .eval = sum_bound,
                     .options = "population=20 budget=1000" };
    size_t first = 0, last = 0;

    rig_problem_init(&p, 2);
    for (int i = 0; i < 20; i++)
        rig_int(&p, i, 0, 8, 1, 8);
    p.objective[1].bound = 30;
    p.p.n_constraint = 1;
    ck_assert_ok(rig_run(&s, &p, &logged, &err), err);
    for (size_t i = 0; i < 20; i++) {
        first += logged.trial[i].violation <= 0;
        last += logged.trial[logged.n - 1 - i].violation <= 0;
    }
    ck_assert_uint_eq(first, 0);
    ck_assert_uint_ge(last, 8);
    clean();
}
END_TEST

/* A strategy must not be what a search waits for (20 us each were promised; ten
 * times that passes here, for sanitizers and busy machines).                  */
START_TEST(nsga2_is_quick)
{
    struct rig s = { .name = "nsga2", .options = "population=100 budget=3000",
                     .eval = sum_bound, .max = 64 };
    double us;

    rig_problem_init(&p, 2);
    for (int i = 0; i < 150; i++)
        rig_int(&p, i, 0, 24, 1, 24);
    ck_assert_ok(rig_run(&s, &p, &logged, &err), err);
    us = (double)logged.ticks / CLOCKS_PER_SEC * 1e6;
    ck_assert_msg(us / 3000 < 200, "%.1f us for each proposal", us / 3000);
    clean();
}
END_TEST

/* ---- lagrangian ------------------------------------------------------------ */
enum { ITEMS = 14, TOP = 12 };
static double weight[ITEMS][TOP + 1], cost[ITEMS][TOP + 1];
static double shift, synergy, overhead;

/* Separable but for `synergy` (of losses) and `overhead` (of sizes, for every gene
 * but the first that is cut).  `shift`
 * is what other items do to the loss at a lower fidelity.                     */
static enum lm_status knapsack(const struct rig_problem *r, const union lm_value *v,
                               double fidelity, double *f)
{
    double cut = 0;
    int n_cut = 0;

    f[0] = fidelity < 1 ? shift : 0;
    f[1] = 1000;
    for (size_t i = 0; i < r->p.n_gene; i++) {
        f[0] += cost[i][v[i].integer];
        f[1] += weight[i][v[i].integer];
        cut += (TOP - (double)v[i].integer) * (i % 2 ? 1 : -1);
        n_cut += v[i].integer < TOP;
    }
    f[0] += synergy * cut * cut;
    if (n_cut > 1)
        f[1] += overhead * (n_cut - 1);
    return LM_OK;
}

/* Random convex losses and whole sizes; `divisor` of all sizes. */
static void set_knapsack(uint64_t seed, int divisor)
{
    struct lm_rng r = lm_rng(seed, "knapsack", 0);

    rig_problem_init(&p, 2);
    for (int i = 0; i < ITEMS; i++) {
        double a = 0.1 + lm_rng_unit(&r), k = 1 + lm_rng_unit(&r);
        int64_t w = divisor * (int64_t)(1 + lm_rng_below(&r, 9));
        rig_int(&p, i, 0, TOP, 1, TOP);
        for (int l = 0; l <= TOP; l++) {
            weight[i][l] = (double)(w * l);
            cost[i][l] = a * pow((TOP - l) / 3.0, k);
        }
    }
    shift = synergy = overhead = 0;
}

static double dense_size(void)
{
    double sum = 1000;

    for (int i = 0; i < ITEMS; i++)
        sum += weight[i][TOP];
    return sum;
}

/* The least loss within a size, by a plain table over whole sizes. */
static double optimum(double size)
{
    static double best[2][16384];
    int room = (int)floor(size) - 1000, now = 0;

    ck_assert(room >= 0 && room < 16384);
    memset(best, 0, sizeof best);
    for (int i = 0; i < ITEMS; i++, now ^= 1)
        for (int c = 0; c <= room; c++) {
            double b = INFINITY;
            for (int l = 0; l <= TOP; l++)
                if (weight[i][l] <= c)
                    b = fmin(b, best[now][c - (int)weight[i][l]] + cost[i][l]);
            best[now ^ 1][c] = b;
        }
    return best[now][room];
}

/* The loss of the best trial of full fidelity not above a size. */
static double reached(double size)
{
    double best = INFINITY;

    for (size_t i = 0; i < logged.n; i++)
        if (logged.trial[i].fidelity == 1 && logged.trial[i].objective[1] <= size)
            best = fmin(best, logged.trial[i].objective[0]);
    return best;
}

static void solve(const char *options, const struct lm_reals *targets, double bound)
{
    struct rig s = { .name = "lagrangian", .options = options, .eval = knapsack,
                     .targets = targets };

    clean();
    p.objective[1].bound = bound;
    p.objective[1].reference = dense_size();
    p.p.n_constraint = bound < INFINITY;
    ck_assert_ok(rig_run(&s, &p, &logged, &err), err);
}

/* All levels measured, sizes with a common divisor: the optimum, for every target,
 * though at a lower fidelity all losses are higher.                          */
START_TEST(lagrangian_finds_the_optimum)
{
    static const double shares[] = { 0.9, 0.75, 0.6, 0.7 };
    static const struct lm_reals targets = { shares, 4 };

    for (uint64_t seed = 1; seed <= 5; seed++) {
        set_knapsack(seed, 1 + (int)seed);
        shift = 5;
        solve("points=12 rounds=1", &targets, INFINITY);
        ck_assert_uint_eq(logged.n, 1 + ITEMS * TOP + 4);
        for (int k = 0; k < 4; k++) {
            double size = shares[k] * dense_size();
            ck_assert_double_eq_tol(reached(size), optimum(size), 1e-9);
        }
    }
    clean();
}
END_TEST

/* Sizes that are no whole numbers go into rounded bins: never above the target,
 * and next to no worse than the optimum of a slightly smaller size.          */
START_TEST(lagrangian_with_real_sizes)
{
    for (uint64_t seed = 1; seed <= 5; seed++) {
        set_knapsack(seed, 3);
        double size = 0.7 * dense_size(), exact = optimum(size * 0.998);
        for (int i = 0; i < ITEMS; i++)
            for (int l = 0; l <= TOP; l++)
                weight[i][l] *= 1 + 1e-4 * sin(i);
        solve("points=12 rounds=1", NULL, size);
        ck_assert_double_le(reached(size), exact * 1.001);
    }
    clean();
}
END_TEST

/* A third of the levels measured: near the optimum, and the bound holds. */
START_TEST(lagrangian_interpolates)
{
    for (uint64_t seed = 1; seed <= 5; seed++) {
        set_knapsack(seed, 2);
        double size = floor(0.65 * dense_size());
        solve("points=4 rounds=1", NULL, size);
        ck_assert_uint_le(logged.n, 1 + ITEMS * 4 + 11);
        ck_assert_double_le(reached(size), optimum(size) * 1.05);
    }
    clean();
}
END_TEST

/* Sites in falling order of layers, all but one gene as in the base. */
START_TEST(lagrangian_measures_single_sites)
{
    set_knapsack(1, 2);
    for (size_t i = 0; i < ITEMS; i++)
        p.gene[i].site.layer = (int32_t)(i * 3 % ITEMS);
    solve("points=3 rounds=1 fidelity=0.125", NULL, INFINITY);
    int32_t last = INT32_MAX;
    for (size_t i = 0; i < 1 + 3 * ITEMS; i++) {
        size_t changed = ITEMS, n = 0;
        for (size_t g = 0; g < ITEMS; g++)
            if (integer(logged.trial[i].value, g) != TOP) {
                changed = g;
                n++;
            }
        ck_assert_double_eq(logged.trial[i].fidelity, 0.125);
        ck_assert_uint_eq(n, i > 0);
        if (i > 0) {
            ck_assert_int_le(p.gene[changed].site.layer, last);
            int64_t at = integer(logged.trial[i].value, changed);
            ck_assert(at == 0 || at == 6 || at == 10);  /* denser near TOP = 12 */
            last = p.gene[changed].site.layer;
        }
    }
    for (size_t i = 1 + 3 * ITEMS; i < logged.n; i++)
        ck_assert_double_eq(logged.trial[i].fidelity, 1);
    clean();
}
END_TEST

/* Losses that depend on each other: measuring again around the solution helps. */
START_TEST(lagrangian_rounds_improve)
{
    int better = 0;

    for (uint64_t seed = 1; seed <= 5; seed++) {
        set_knapsack(seed, 2);
        synergy = 0.02;
        double size = floor(0.7 * dense_size());
        solve("points=12 rounds=1", NULL, size);
        double once = reached(size);
        solve("points=12 rounds=4", NULL, size);
        ck_assert_double_le(reached(size), once);
        better += reached(size) < once * 0.98;
    }
    ck_assert_int_ge(better, 3);
    clean();
}
END_TEST

/* Sizes that do not add up: the bound holds all the same, and is nearly used. */
START_TEST(lagrangian_keeps_the_bound)
{
    for (uint64_t seed = 1; seed <= 5; seed++) {
        set_knapsack(seed, 2);
        overhead = 4;
        double size = floor(0.8 * dense_size()), used = 0;
        solve("points=6 rounds=1", NULL, size);
        size_t over = 0;
        for (size_t i = 1 + 6 * ITEMS; i < logged.n; i++)
            if (logged.trial[i].objective[1] <= size)
                used = fmax(used, logged.trial[i].objective[1]);
            else
                over++;
        ck_assert_uint_ge(over, 1);
        ck_assert_double_ge(used, 0.98 * size);
        ck_assert_double_lt(reached(size), INFINITY);
    }
    clean();
}
END_TEST

/* Whatever the budget, it is not exceeded; too little is said at once. */
START_TEST(lagrangian_budget)
{
    char options[64];
    struct rig s = { .name = "lagrangian", .options = "budget=15", .eval = knapsack };

    for (int budget = ITEMS + 2; budget < 200; budget += 7) {
        set_knapsack(3, 2);
        snprintf(options, sizeof options, "budget=%d rounds=5", budget);
        solve(options, NULL, floor(0.7 * dense_size()));
        ck_assert_uint_le(logged.n, (size_t)budget);
        ck_assert_double_lt(reached(floor(0.7 * dense_size())), INFINITY);
    }
    clean();
    ck_assert_int_eq(rig_run(&s, &p, &logged, &err), LM_ECONFIG);
    ck_assert_ptr_nonnull(strstr(err.text, "budget = 15 is too small"));
    rig_problem_init(&p, 1);
    rig_int(&p, 0, 0, 8, 1, 8);
    ck_assert_int_eq(rig_run(&s, &p, &logged, &err), LM_ECONFIG);
    ck_assert_ptr_nonnull(strstr(err.text, "two objectives"));
}
END_TEST

/* A target below all that can be reached: the smallest genome is proposed. */
START_TEST(lagrangian_out_of_reach)
{
    set_knapsack(2, 2);
    solve("rounds=2", NULL, 500);
    ck_assert_double_eq(reached(INFINITY), reached(1000));
    clean();
}
END_TEST

/* ---- chain ----------------------------------------------------------------- */
/* A stage that proposes a fixed list of genomes and notes what it started from. */
struct script {
    int64_t (*genome)[2];
    size_t n, next, begun, told, n_start;
    int64_t start[4];                   /* first genes */
};

static enum lm_status script_begin(void *self, const struct lm_problem *problem,
                                   struct lm_err *e)
{
    struct script *s = self;

    (void)e;
    s->begun++;
    s->n_start = problem->n_start;
    ck_assert_uint_le(s->n_start, 4);
    for (size_t i = 0; i < s->n_start; i++)
        s->start[i] = problem->start[i][0].integer;
    return LM_OK;
}

static enum lm_status script_ask(void *self, struct lm_proposal *out, size_t max,
                                 size_t *n, struct lm_err *e)
{
    struct script *s = self;

    (void)e;
    ck_assert_uint_eq(s->begun, 1);
    for (*n = 0; *n < max && s->next < s->n; s->next++, ++*n)
        for (int i = 0; i < 2; i++)
            out[*n].value[i].integer = s->genome[s->next][i];
    return LM_OK;
}

static enum lm_status script_tell(void *self, const struct lm_outcome *const *o,
                                  size_t n, struct lm_err *e)
{
    struct script *s = self;

    (void)o; (void)e;
    s->told += n;
    return LM_OK;
}

static size_t script_budget(void *self)
{
    const struct script *s = self;
    return s->n - s->next;
}

static const struct lm_search script_ops = {
    .struct_size = sizeof script_ops, .genes = LM_BIT(LM_GENE_INT),
    .begin = script_begin, .ask = script_ask, .tell = script_tell,
    .budget = script_budget,
};

static enum lm_status as_is(const struct rig_problem *r, const union lm_value *v,
                            double fidelity, double *f)
{
    (void)r; (void)fidelity;
    f[0] = (double)v[0].integer;
    f[1] = (double)v[1].integer;
    return v[0].integer >= 90 ? LM_EINFEASIBLE : LM_OK;
}

/* What the second of two stages starts from, "20 30 40". */
static const char *passed(int64_t (*genome)[2], size_t n, double bound)
{
    static int64_t after[][2] = { { 1, 99 }, { 2, 98 } };
    static const union lm_value own[] = { { .integer = 77 }, { .integer = 0 } };
    static char text[64];
    struct script a = { .genome = genome, .n = n }, b = { .genome = after, .n = 2 };
    struct lm_instance v[2] = { { &script_ops, &a, "a" }, { &script_ops, &b, "b" } };
    struct lm_instances stages = { v, 2 };
    struct rig s = { .name = "chain", .options = "pass=3", .stages = &stages,
                     .eval = as_is, .max = 3 };
    struct rig_made m;

    rig_problem_init(&p, 2);
    rig_int(&p, 0, 0, 99, 1, 0);
    rig_int(&p, 1, 0, 99, 1, 0);
    p.start[0] = own;
    p.p.n_start = 1;
    p.objective[1].bound = bound;
    p.p.n_constraint = bound < INFINITY;
    ck_assert_ok(rig_make(&s, &m, &err), err);
    ck_assert_uint_eq(m.ops->budget(m.self), n + 2);
    ck_assert_ok(rig_drive(&s, &m, &p, &logged, &err), err);
    rig_unmake(&m);
    clean();
    ck_assert(a.begun == 1 && b.begun == 1 && a.told == n && b.told == 2);
    ck_assert(a.n_start == 1 && a.start[0] == 77);
    text[0] = '\0';
    for (size_t i = 0; i < b.n_start; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), i ? " %d" : "%d",
                 (int)b.start[i]);
    return text;
}

START_TEST(chain_passes_the_front)
{
    int64_t g[][2] = { { 10, 50 }, { 20, 40 }, { 35, 35 }, { 30, 30 }, { 95, 0 },
                       { 40, 20 }, { 50, 10 }, { 5, 60 } };
    int64_t broken[][2] = { { 95, 1 }, { 96, 2 } };

    ck_assert_str_eq(passed(g, 8, 45), "20 30 40");         /* nearest the bound */
    ck_assert_str_eq(passed(g, 8, 25), "40 50");            /* no more than there are */
    ck_assert_str_eq(passed(g, 8, INFINITY), "5 20 50");    /* evenly */
    ck_assert_str_eq(passed(g, 8, 5), "50");                /* the least violation */
    ck_assert_str_eq(passed(broken, 2, 5), "77");           /* the problem's own */
}
END_TEST

START_TEST(chain_checks_its_stages)
{
    struct script a = { .n = 0 };
    struct lm_instance v = { &script_ops, &a, "only_int" };
    struct lm_instances stages = { &v, 1 }, no_stages = { NULL, 0 };
    struct rig s = { .name = "chain", .stages = &stages, .eval = as_is };
    const struct lm_module *m = rig_module("chain");
    struct lm_host host = { .fail = lm_fail };
    char config[64] = { 0 };

    rig_problem_init(&p, 2);
    rig_gene(&p, (struct lm_gene){ .kind = LM_GENE_BOOL, .max = 1 });
    ck_assert_int_eq(rig_run(&s, &p, &logged, &err), LM_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "only_int"));
    ck_assert_uint_le(m->config_size, sizeof config);
    memcpy(config + m->opt[0].offset, &no_stages, sizeof no_stages);
    ck_assert_int_eq(m->check(&host, config, &err), LM_ECONFIG);
    memcpy(config + m->opt[0].offset, &stages, sizeof stages);
    ck_assert_int_eq(m->check(&host, config, &err), LM_OK);
}
END_TEST

/* The default of shrink: lagrangian's solutions are where nsga2 goes on. */
START_TEST(chain_lagrangian_then_nsga2)
{
    struct rig first = { .name = "lagrangian", .options = "points=4 rounds=1" };
    struct rig second = { .name = "nsga2", .options = "population=20 budget=600" };
    struct rig_made made[2];
    struct lm_instance v[2];
    struct lm_instances stages = { v, 2 };
    struct rig s = { .name = "chain", .options = "pass=8", .stages = &stages,
                     .eval = knapsack };
    double size, exact, found, alone;

    set_knapsack(4, 2);
    synergy = 0.05;
    size = floor(0.7 * dense_size());
    exact = optimum(size);
    solve("points=4 rounds=1", NULL, size);
    alone = reached(size);
    clean();
    ck_assert_ok(rig_make(&first, &made[0], &err), err);
    ck_assert_ok(rig_make(&second, &made[1], &err), err);
    for (int i = 0; i < 2; i++)
        v[i] = (struct lm_instance){ made[i].ops, made[i].self, "stage" };
    ck_assert_ok(rig_run(&s, &p, &logged, &err), err);
    for (int i = 0; i < 2; i++)
        rig_unmake(&made[i]);
    found = reached(size);
    ck_assert_double_ge(found, exact);              /* synergy only adds to it */
    ck_assert_double_lt(found, 0.95 * alone);
    clean();
}
END_TEST

Suite *search_answers(void)
{
    Suite *s = suite_create("search answers");
    TCase *t = tcase_create("answers");

    tcase_add_test(t, nsga2_finds_the_front);
    tcase_add_test(t, nsga2_two_valued_genes_mutate);
    tcase_add_test(t, nsga2_exchange_keeps_the_size);
    tcase_add_test(t, nsga2_cuts_by_layer);
    tcase_add_test(t, nsga2_becomes_feasible);
    tcase_add_test(t, nsga2_is_quick);
    tcase_add_test(t, lagrangian_finds_the_optimum);
    tcase_add_test(t, lagrangian_with_real_sizes);
    tcase_add_test(t, lagrangian_interpolates);
    tcase_add_test(t, lagrangian_measures_single_sites);
    tcase_add_test(t, lagrangian_rounds_improve);
    tcase_add_test(t, lagrangian_keeps_the_bound);
    tcase_add_test(t, lagrangian_budget);
    tcase_add_test(t, lagrangian_out_of_reach);
    tcase_add_test(t, chain_passes_the_front);
    tcase_add_test(t, chain_checks_its_stages);
    tcase_add_test(t, chain_lagrangian_then_nsga2);
    suite_add_tcase(s, t);
    return s;
}
