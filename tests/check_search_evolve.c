/* SPDX-License-Identifier: Apache-2.0 */
/* check_search_evolve.c -- linas, nsga3 and mask_mutation on problems whose answers are
 * known, by the median of several seeds, and the promises of mask mutation.      */
#include <math.h>

#include "base/rng.h"
#include "check_search.h"
#include "search_rig.h"

enum { SEEDS = 3 };

static struct rig_problem p;
static struct rig_log logged;
static struct lm_err err;

static void run(const struct rig *s)
{
    rig_log_free(&logged);
    ck_assert_ok(rig_run(s, &p, &logged, &err), err);
}

static int rising(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return a < b ? -1 : a > b;
}

/* Of what measure() makes of a run, over the seeds. */
static double median(struct rig s, double (*measure)(void))
{
    double x[SEEDS];

    for (int i = 0; i < SEEDS; i++) {
        s.seed = (uint64_t)i + 1;
        run(&s);
        x[i] = measure();
    }
    qsort(x, SEEDS, sizeof *x, rising);
    return x[SEEDS / 2];
}

/* ---- linas ----------------------------------------------------------------- */
static double volume(void)
{
    static const double reference[] = { 1.1, 10 };
    double *point = calloc(2 * logged.n, sizeof *point), sum;

    for (size_t i = 0; i < logged.n; i++)
        memcpy(point + 2 * i, logged.trial[i].objective, 2 * sizeof *point);
    sum = front_area(point, logged.n, reference);
    free(point);
    return sum;
}

static void zdt1_genes(int n)
{
    rig_problem_init(&p, 2);
    for (int i = 0; i < n; i++)
        rig_int(&p, i, 0, 100, 1, 100);
}

/* The area of linas after 250 trials is beyond what nsga2 reaches with three times as
 * many; the whole front would have 10.67.                                        */
START_TEST(linas_needs_fewer_trials)
{
    struct rig linas = { .name = "linas", .options = "inner=5000", .eval = zdt1 };
    struct rig nsga2 = { .name = "nsga2", .eval = zdt1,
                         .options = "population=50 budget=250" };
    double mine, same, thrice;

    zdt1_genes(12);
    mine = median(linas, volume);
    same = median(nsga2, volume);
    nsga2.options = "population=50 budget=750";
    thrice = median(nsga2, volume);
    ck_assert_double_lt(mine, 10.67);
    ck_assert_msg(mine > same + 1 && mine > thrice, "linas %.3f, nsga2 %.3f and %.3f",
                  mine, same, thrice);
}
END_TEST

/* Of thirty genes a population of 25 tells little: with eight unknowns for each, linas
 * after 83 trials would be behind what nsga2 has after 250.                       */
START_TEST(linas_learns_from_few)
{
    struct rig linas = { .name = "linas", .options = "population=25 budget=83 inner=5000",
                         .eval = zdt1 };
    struct rig nsga2 = { .name = "nsga2", .options = "population=25 budget=250",
                         .eval = zdt1 };
    double mine, other;

    zdt1_genes(30);
    mine = median(linas, volume);
    other = median(nsga2, volume);
    ck_assert_msg(mine > other + 1, "linas %.3f, nsga2 %.3f", mine, other);
}
END_TEST

/* Sum of distances from a target that breaks the bound; sizes that must not. */
static enum lm_status distances(const struct rig_problem *r, const union lm_value *v,
                                double fidelity, double *f)
{
    (void)fidelity;
    f[0] = f[1] = 0;
    for (size_t i = 0; i < r->p.n_gene; i++) {
        f[0] += fabs((double)v[i].integer - (double)(4 + i % 5));
        f[1] += (double)(1 + i % 3) * (double)v[i].integer;
    }
    return LM_OK;
}

static void bounded_genes(bool hidden)
{
    rig_problem_init(&p, hidden ? 1 : 2);
    for (int i = 0; i < 20; i++)
        rig_int(&p, i, 0, 8, 1, 8);
    p.limit = hidden ? 100 : 0;
    p.objective[1].bound = hidden ? INFINITY : 100;
    p.p.n_constraint = 1;
}

static size_t feasible(size_t from, size_t to)
{
    size_t n = 0;

    for (size_t i = from; i < to; i++)
        n += logged.trial[i].violation <= 0;
    return n;
}

/* Bounds are kept by prediction, whether an objective tells of them or not. */
START_TEST(linas_predicts_feasibility)
{
    struct rig s = { .name = "linas", .options = "population=20 budget=120 inner=3000",
                     .eval = distances };

    bounded_genes(_i);
    run(&s);
    ck_assert_uint_le(feasible(0, 20), 1);
    ck_assert_uint_ge(feasible(100, 120), _i ? 5 : 8);
}
END_TEST

/* ---- nsga3 ----------------------------------------------------------------- */
/* Deb et al. 2005: the front is the part of the unit sphere with f >= 0. */
static enum lm_status dtlz2(const struct rig_problem *r, const union lm_value *v,
                            double fidelity, double *f)
{
    size_t m = r->p.n_objective;
    double g = 0;

    (void)fidelity;
    for (size_t i = m - 1; i < r->p.n_gene; i++)
        g += pow((double)v[i].integer / 100 - 0.5, 2);
    for (size_t k = 0; k < m; k++) {
        f[k] = 1 + g;
        for (size_t i = 0; i < m - 1 - k; i++)
            f[k] *= cos((double)v[i].integer / 200 * 3.141592653589793);
        if (k > 0)
            f[k] *= sin((double)v[m - 1 - k].integer / 200 * 3.141592653589793);
    }
    return LM_OK;
}

/* Adds the distance of each point of the sphere on multiples of 1/8 to what was found. */
static double sum_distances(double *point, size_t k, int left, size_t *n)
{
    size_t m = p.p.n_objective;
    double sum = 0, best = INFINITY, length = 0;

    if (k + 1 < m) {
        for (int i = 0; i <= left; i++) {
            point[k] = i;
            sum += sum_distances(point, k + 1, left - i, n);
        }
        return sum;
    }
    point[k] = left;
    for (size_t j = 0; j < m; j++)
        length += point[j] * point[j];
    for (size_t i = 0; i < logged.n; i++) {
        double d = 0;
        for (size_t j = 0; j < m; j++)
            d += pow(logged.trial[i].objective[j] - point[j] / sqrt(length), 2);
        best = fmin(best, d);
    }
    ++*n;
    return sqrt(best);
}

static double mean_distance(void)
{
    double point[RIG_OBJECTIVES];
    size_t n = 0;

    return sum_distances(point, 0, 8, &n) / (double)n;
}

static void dtlz2_genes(size_t n_objective)
{
    rig_problem_init(&p, n_objective);
    for (int i = 0; i < 11; i++)
        rig_int(&p, i, 0, 100, 1, 100);
}

/* Of three objectives, and of five, where crowding no longer helps. */
START_TEST(nsga3_covers_the_sphere)
{
    struct rig nsga3 = { .name = "nsga3", .eval = dtlz2,
                         .options = "population=92 budget=2760" };
    struct rig nsga2 = { .name = "nsga2", .eval = dtlz2,
                         .options = "population=92 budget=2760" };
    double mine, other;

    dtlz2_genes(_i ? 5 : 3);
    mine = median(nsga3, mean_distance);
    other = median(nsga2, mean_distance);
    ck_assert_msg(mine < (_i ? 0.2 : 0.06) && mine < other * (_i ? 0.7 : 1.1),
                  "nsga3 %g, nsga2 %g", mine, other);
}
END_TEST

/* ---- mask_mutation --------------------------------------------------------- */
enum { MASK = 60, MASKS = 4 };

static uint32_t size_of(const union lm_value *v)
{
    return (uint32_t)__builtin_popcountll(v->bits);
}

static void start_from(union lm_value *v, uint32_t members)
{
    for (int i = 0; i < MASKS; i++)
        v[i].bits = ((UINT64_C(1) << members) - 1) << i;
    p.start[0] = v;
    p.p.n_start = 1;
}

static double worth[MASKS][MASK], opinion[MASKS][MASK];

/* What each member is worth to the loss differs, what it weighs does not. */
static enum lm_status separable(const struct rig_problem *r, const union lm_value *v,
                                double fidelity, double *f)
{
    (void)fidelity;
    f[0] = f[1] = 0;
    for (size_t i = 0; i < r->p.n_gene; i++)
        for (uint32_t k = 0; k < MASK; k++)
            if (v[i].bits >> k & 1)
                f[1] += 1;
            else
                f[0] += worth[i][k];
    return LM_OK;
}

static void mask_genes(double bound, bool hidden)
{
    struct lm_rng r = lm_rng(3, "masks", 0);

    rig_problem_init(&p, hidden ? 1 : 2);
    for (int i = 0; i < MASKS; i++) {
        rig_gene(&p, (struct lm_gene){ .kind = LM_GENE_SUBSET, .n = MASK, .min = 10,
            .max = MASK, .score = opinion[i], .site = { LM_SITE_FFN_CHANNEL, i, 0 } });
        for (int k = 0; k < MASK; k++) {
            worth[i][k] = lm_rng_unit(&r) * (1 + i);
            opinion[i][k] = worth[i][k] * (0.5 + lm_rng_unit(&r));
        }
    }
    p.limit = hidden ? bound : 0;
    p.objective[1].bound = hidden ? INFINITY : bound;
    p.p.n_constraint = bound < INFINITY;
}

/* Masks of the first generation against the start: as many members as promised stay,
 * sizes differ only where ratios move, and then by no more than reach.           */
START_TEST(masks_keep_what_is_promised)
{
    static const struct { const char *options; double alpha; uint32_t most; } c[] = {
        { "population=50 budget=51 first_mask=1 first_ratio=0", 0.8, 0 },
        { "population=50 budget=51 first_mask=1 first_ratio=0 alpha=0.33", 0.33, 0 },
        { "population=50 budget=51 first_mask=1 first_ratio=0 fill=score", 0.8, 0 },
        { "population=50 budget=51 first_mask=0 first_ratio=1 reach=0.2", 0.8, 10 },
        { "population=50 budget=51 first_ratio=0.5 alpha=1 reach=0.01", 1, 1 },
    };
    union lm_value v[MASKS];
    size_t changed = 0, moved = 0, bad = 0;
    struct rig s = { .name = "mask_mutation", .options = c[_i].options,
                     .eval = separable };

    mask_genes(INFINITY, false);
    start_from(v, 41);
    run(&s);
    ck_assert_uint_eq(logged.n, 51);
    for (size_t i = 1; i < logged.n; i++)
        for (int g = 0; g < MASKS; g++) {
            const union lm_value *x = &logged.trial[i].value[g];
            union lm_value both = { .bits = x->bits & v[g].bits };
            uint32_t n = size_of(x), less = n < 41 ? n : 41, by = n + 41 - 2 * less;
            bad += size_of(&both) < (uint32_t)ceil(c[_i].alpha * less - 1e-9);
            bad += by > c[_i].most;
            moved += by > 0;
            changed += x->bits != v[g].bits;
        }
    ck_assert_uint_eq(bad, 0);
    ck_assert_uint_ge(changed, 60);
    ck_assert((moved > 0) == (c[_i].most > 0));
}
END_TEST

/* A mask filled by importance takes what is important. */
START_TEST(masks_fill_by_importance)
{
    double sum[2] = { 0 };

    for (int by = 0; by < 2; by++) {
        struct rig s = { .name = "mask_mutation", .eval = separable, .options = by
            ? "population=50 budget=51 first_mask=1 first_ratio=0 alpha=0.2 fill=score"
            : "population=50 budget=51 first_mask=1 first_ratio=0 alpha=0.2" };
        union lm_value v[MASKS];
        mask_genes(INFINITY, false);
        start_from(v, 30);
        run(&s);
        for (size_t i = 1; i < logged.n; i++)
            sum[by] += logged.trial[i].objective[0] / (double)(logged.n - 1);
    }
    ck_assert_double_lt(sum[1], 0.85 * sum[0]);
}
END_TEST

/* The paper's test: small masks hardly change, and then keep alpha n in common. */
START_TEST(literal_masks_hardly_change)
{
    union lm_value v[MASKS];
    size_t changed[2] = { 0 }, bad = 0;

    for (int wide = 0; wide < 2; wide++) {
        struct rig s = { .name = "mask_mutation", .eval = separable, .options =
            "population=40 budget=41 first_mask=1 first_ratio=0 literal=true tries=100" };
        mask_genes(INFINITY, false);
        start_from(v, wide ? 57 : 41);
        run(&s);
        for (size_t i = 1; i < logged.n; i++)
            for (int g = 0; wide && g < MASKS; g++) {
                const union lm_value *x = &logged.trial[i].value[g];
                union lm_value both = { .bits = x->bits & v[g].bits };
                changed[wide] += both.bits != v[g].bits;
                bad += size_of(&both) < 48 && both.bits != v[g].bits;
            }
        if (wide)
            continue;
        ck_assert_uint_eq(memcmp(logged.trial[0].value, v, sizeof v), 0);
        for (int g = 0; g < MASKS; g++)     /* nothing new: random genomes instead */
            changed[0] += logged.trial[1].value[g].bits != v[g].bits;
    }
    ck_assert_uint_eq(bad, 0);
    ck_assert_uint_eq(changed[0], MASKS);
    ck_assert_uint_ge(changed[1], 100);
}
END_TEST

/* The loss left when the best half is kept: what would be found by sorting. */
static double best_loss(void)
{
    double x[MASKS * MASK], sum = 0;

    memcpy(x, worth, sizeof x);
    qsort(x, MASKS * MASK, sizeof *x, rising);
    for (int i = 0; i < MASKS * MASK / 2; i++)
        sum += x[i];
    return sum;
}

static double found_loss(void)
{
    size_t best = rig_best(&logged);

    return best < logged.n ? logged.trial[best].objective[0] : INFINITY;
}

/* Half of the members must go.  From a uniform start to near what sorting gives, better
 * than the others do, and all but the first children are within the bound.      */
START_TEST(masks_find_the_best_half)
{
    struct rig s = { .name = "mask_mutation", .eval = separable,
                     .options = "population=40 budget=1500 fill=score" };
    struct rig nsga2 = { .name = "nsga2", .options = "population=40 budget=1500",
                         .eval = separable };
    double mine, other;

    mask_genes(MASKS * MASK / 2, _i);
    mine = median(s, found_loss);
    ck_assert_uint_ge(feasible(81, 1500), _i ? 1330 : 1405);
    other = median(nsga2, found_loss);
    ck_assert_double_ge(mine, best_loss());
    ck_assert_double_lt(mine, 1.25 * best_loss());
    ck_assert_double_lt(mine, other);
}
END_TEST

/* Whether no member that went has more importance than one that stayed, in its mask
 * or, with `all`, in any, and masks then differ in size.                        */
static bool keeps_the_best(const union lm_value *v, bool all)
{
    for (int i = 0; i < MASKS * MASK; i++)
        for (int k = 0; k < MASKS * MASK; k++) {
            int a = i / MASK, b = k / MASK;
            bool stays = v[a].bits >> i % MASK & 1, goes = !(v[b].bits >> k % MASK & 1);
            bool rivals = a == b || (all && size_of(&v[a]) > 10);   /* 10: the least */
            if (stays && goes && rivals
                && opinion[a][i % MASK] < opinion[b][k % MASK])
                return false;
            if (!all && size_of(&v[a]) != size_of(&v[b]))
                return false;
        }
    return !all || size_of(&v[0]) < size_of(&v[3]);
}

/* Behind the whole model and a few steps: the most important members, near the bound.
 * Mutants of that come next.                                                   */
START_TEST(masks_begin_with_what_is_important)
{
    static const struct { const char *options; bool hidden, all; } c[] = {
        { "population=30 budget=60 first_ratio=0", false, false },
        { "population=30 budget=60 first_ratio=0 start=global", false, true },
        { "population=30 budget=60 first_ratio=0", true, false },
        { "population=30 budget=60 start=whole", false, false },
    };
    struct rig s = { .name = "mask_mutation", .options = c[_i].options,
                     .eval = separable };
    size_t at = 0, near = 0;

    mask_genes(130, c[_i].hidden);
    run(&s);
    for (size_t i = 1; i < 7 && !at; i++) {
        double size = 0;
        for (int g = 0; g < MASKS; g++)
            size += size_of(&logged.trial[i].value[g]);
        if (keeps_the_best(logged.trial[i].value, c[_i].all) && size <= 130
            && size >= (c[_i].hidden ? 100 : 128))
            at = i;
    }
    ck_assert(_i == 3 ? at == 0 : at > 0);
    for (size_t i = at + 1; at && i <= at + 30; i++) {
        size_t same = 0;
        for (int g = 0; g < MASKS; g++) {
            uint64_t a = logged.trial[i].value[g].bits, b = logged.trial[at].value[g].bits;
            same += (size_t)__builtin_popcountll(a & b);
        }
        near += same >= 100;            /* 87 if half of them were drawn anew */
    }
    ck_assert(_i == 3 || near == 30);
}
END_TEST

/* Ratios shrink to the bound and grow back to it. */
START_TEST(children_stay_by_the_bound)
{
    struct rig s = { .name = "mask_mutation", .eval = distances,
                     .options = "population=20 budget=400 band=0.02" };
    size_t near = 0;

    bounded_genes(_i);
    run(&s);
    for (size_t i = 200; i < 400; i++)
        near += logged.trial[i].objective[1] <= 100 && logged.trial[i].objective[1] >= 95;
    ck_assert_uint_ge(near, _i ? 140 : 180);
}
END_TEST

/* The two start genomes stay the parents. */
static enum lm_status twos_and_sixes(const struct rig_problem *r, const union lm_value *v,
                                     double fidelity, double *f)
{
    (void)fidelity;
    f[0] = f[1] = 0;
    for (size_t i = 0; i < r->p.n_gene; i++)
        f[0] += v[i].integer != 2 && v[i].integer != 6;
    return LM_OK;
}

START_TEST(layers_cross_whole)
{
    struct rig s = { .name = "mask_mutation", .eval = twos_and_sixes, .options =
        "population=16 budget=34 parents=2 crossovers=1 mutants=0 first_ratio=0" };
    static union lm_value start[2][20];
    size_t mixed = 0, broken = 0;

    rig_problem_init(&p, 2);
    for (int i = 0; i < 20; i++)
        rig_int(&p, i / 2 % 5, 0, 8, 1, 8);
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < 20; i++)
            start[k][i].integer = k ? 6 : 2;
        p.start[k] = start[k];
    }
    p.p.n_start = 2;
    run(&s);
    for (size_t i = 18; i < logged.n; i++) {    /* behind a random generation */
        int64_t of[5] = { 0 };
        bool plain = true, parts = false;
        for (int g = 0; g < 20; g++)
            plain &= logged.trial[i].value[g].integer == 2
                  || logged.trial[i].value[g].integer == 6;
        for (int g = 0; g < 20 && plain; g++) {
            int64_t x = logged.trial[i].value[g].integer, *layer = &of[g / 2 % 5];
            broken += *layer != 0 && *layer != x;
            parts |= g > 0 && x != logged.trial[i].value[0].integer;
            *layer = x;
        }
        mixed += parts;
    }
    ck_assert_uint_eq(broken, 0);
    ck_assert_uint_eq(mixed, 16);
}
END_TEST

/* ---- time ------------------------------------------------------------------ */
static double us(const char *name, const char *options)
{
    struct rig s = { .name = name, .options = options, .eval = distances, .max = 64 };

    run(&s);
    return (double)logged.ticks / CLOCKS_PER_SEC * 1e6 / (double)logged.n;
}

/* What a proposal takes with 150 genes (linas: 30 genes of 48 levels), times ten for
 * sanitizers and busy machines.                                                  */
START_TEST(proposals_are_quick)
{
    double t;

    rig_problem_init(&p, 2);
    for (int i = 0; i < 150; i++)
        rig_int(&p, i, 0, 24, 1, 24);
    t = us("nsga3", "population=100 budget=2000");
    ck_assert_msg(t < 300, "nsga3: %.1f us for each proposal", t);
    p.objective[1].bound = 3600;
    p.p.n_constraint = 1;
    t = us("mask_mutation", "population=100 budget=2000");
    ck_assert_msg(t < 1000, "mask_mutation: %.1f us for each proposal", t);
    rig_problem_init(&p, 2);
    for (int i = 0; i < 30; i++)
        rig_int(&p, i, 0, 47, 1, 47);
    t = us("linas", "");
    ck_assert_msg(t < 50000, "linas: %.1f us for each proposal", t);
}
END_TEST

Suite *search_evolve(void)
{
    Suite *s = suite_create("search evolve");
    TCase *t = tcase_create("evolve");

    tcase_set_timeout(t, 60);
    tcase_add_test(t, linas_needs_fewer_trials);
    tcase_add_test(t, linas_learns_from_few);
    tcase_add_loop_test(t, linas_predicts_feasibility, 0, 2);
    tcase_add_loop_test(t, nsga3_covers_the_sphere, 0, 2);
    tcase_add_loop_test(t, masks_keep_what_is_promised, 0, 5);
    tcase_add_test(t, masks_fill_by_importance);
    tcase_add_test(t, literal_masks_hardly_change);
    tcase_add_loop_test(t, masks_find_the_best_half, 0, 2);
    tcase_add_loop_test(t, masks_begin_with_what_is_important, 0, 4);
    tcase_add_loop_test(t, children_stay_by_the_bound, 0, 2);
    tcase_add_test(t, layers_cross_whole);
    tcase_add_test(t, proposals_are_quick);
    suite_add_tcase(s, t);
    return s;
}
