/* SPDX-License-Identifier: Apache-2.0 */
/* check_search_answers.c -- problems whose answers are known: ZDT1 on integers,
 * and the promises of single operators and of chain.                         */
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

/* ---- nsga2 ----------------------------------------------------------------- */
/* Zitzler, Deb & Thiele 2000: the front is f2 = 1 - sqrt(f1). */
enum lm_status zdt1(const struct rig_problem *r, const union lm_value *v, double fidelity,
                    double *f)
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
double front_area(const double *point, size_t n, const double reference[2])
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
    sum = front_area(point, logged.n, reference);
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
            layer[p.gene[g].site.layer] = logged.trial[i].value[p.gene[g].slot].integer;
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
    tcase_add_test(t, chain_passes_the_front);
    tcase_add_test(t, chain_checks_its_stages);
    suite_add_tcase(s, t);
    return s;
}
