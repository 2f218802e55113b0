/* SPDX-License-Identifier: Apache-2.0 */
/* check_race.c -- the rule of study/race.c against closed forms, and simulated races
 * whose truth is known: how often it is wrong, how often it stops in time.
 *
 * A simulated item i has a difficulty h_i; a contender of quality q has the value
 * q h_i + noise there, as divergences of windows do.  The draw of the items is the
 * experiment, all items of the finite sample are the truth.                         */
#include <math.h>
#include <stdio.h>

#include "base/rng.h"
#include "study/race.h"
#include "testing.h"

enum { N = 32, MOST = 24 };

static struct lm_rng rng;

static double normal(void)
{
    double u = 1 - lm_rng_unit(&rng), v = lm_rng_unit(&rng);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

/* Density of Student's t, integrated: an independent tail. */
static double tail_by_sum(double t, int n)
{
    double c = exp(lgamma((n + 1) / 2.0) - lgamma(n / 2.0)) / sqrt(n * acos(-1.0));
    double sum = 0, step = 1e-4;
    for (double x = step / 2; x < t; x += step)
        sum += c * pow(1 + x * x / n, -(n + 1) / 2.0) * step;
    return 0.5 - sum;
}

START_TEST(student)
{
    static const struct { double t; int64_t n; double p; } table[] = {
        { 6.313752, 1, 0.05 }, { 31.820516, 1, 0.01 }, { 2.919986, 2, 0.05 },
        { 2.353363, 3, 0.05 }, { 10.214532, 3, 0.001 }, { 1.894579, 7, 0.05 },
        { 1.645158, 5000, 0.05 }, { 5.407883, 7, 0.0005 } };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        ck_assert_double_eq_tol(lm_student_tail(table[i].t, table[i].n), table[i].p,
                                table[i].p * 1e-5);
    for (int n = 1; n < 12; n++)
        for (double t = 0.3; t < 4; t += 0.7) {
            ck_assert_double_eq_tol(lm_student_tail(t, n), tail_by_sum(t, n), 1e-7);
            ck_assert_double_eq_tol(lm_student_tail(-t, n), 1 - tail_by_sum(t, n), 1e-7);
        }
    ck_assert_double_eq(lm_student_tail(INFINITY, 3), 0);
    ck_assert_double_eq(lm_student_tail(NAN, 3), 1);
    ck_assert_double_eq(lm_student_tail(5, 0), 1);
}
END_TEST

/* ---- a race on a table --------------------------------------------------------------- */

struct field {                          /* one sampled objective, one exact one */
    struct lm_sum sum[MOST][N];
    const struct lm_sum *ptr[MOST][1];
    double exact[MOST], excess[MOST];
    struct lm_racer racer[MOST];
};

static void set_racer(struct field *f, size_t i, double exact, double excess)
{
    f->exact[i] = exact;
    f->excess[i] = excess;
    f->ptr[i][0] = f->sum[i];
    f->racer[i] = (struct lm_racer){ &f->exact[i], &f->excess[i], f->ptr[i] };
}

/* heavy: difficulties and noise with long tails, as texts have them */
static void draw(struct field *f, size_t i, const double *hard, double quality,
                 double noise, bool heavy)
{
    for (int k = 0; k < N; k++) {
        double x = normal();
        f->sum[i][k].value = 128 * (quality * hard[k] +
            noise * (heavy ? exp(x) - exp(0.5) : x));
        f->sum[i][k].weight = 128;
    }
}

static void draw_items(double *hard, bool heavy)
{
    for (int k = 0; k < N; k++)
        hard[k] = heavy ? exp(0.4 * normal()) : 1 + 0.15 * normal();
}

static double mean_of(const struct field *f, size_t i)
{
    double v = 0;
    for (int k = 0; k < N; k++)
        v += f->sum[i][k].value;
    return v / (128 * N);
}

/* A race of all the field, the members first, as evaluation runs it. */
static struct lm_race *run_rungs(struct field *f, size_t n_member, size_t n,
                                 size_t n_bound,
                                 const int64_t *seen, size_t n_rung, double risk,
                                 int64_t *saved)
{
    static const bool maximise = false;
    struct lm_race_rules rules = { .n_exact = 1, .n_sampled = 1, .n_bound = n_bound,
        .maximise = &maximise, .n_rung = n_rung, .seen = seen, .risk = risk };
    struct lm_race *r;
    struct lm_err e = { 0 };
    bool go[MOST];
    size_t rung[MOST] = { 0 };
    ck_assert_ok(lm_race_open(&rules, f->racer, n_member, f->racer + n_member, n, &r, &e),
                 e);
    while (lm_race_go(r, go))
        for (size_t i = 0; i < n; i++)
            rung[i] += go[i];
    *saved = 0;
    for (size_t i = 0; i < n; i++) {
        struct lm_race_end end = lm_race_end(r, i);
        *saved += N - seen[rung[i]];
        ck_assert_uint_eq(rung[i], end.stopped ? end.rung : n_rung);
    }
    return r;
}

/* Rungs after 3, 6, 12 and 24 of 32 items. */
static struct lm_race *run(struct field *f, size_t n_member, size_t n, size_t n_bound,
                           double risk, int64_t *saved)
{
    static const int64_t seen[] = { 3, 6, 12, 24, N };
    return run_rungs(f, n_member, n, n_bound, seen, 4, risk, saved);
}

/* Is the i-th contender beaten by nobody on all items? */
static bool in_front(const struct field *f, size_t n_all, size_t i)
{
    for (size_t j = 0; j < n_all; j++)
        if (j != i && f->exact[j] <= f->exact[i] && mean_of(f, j) <= mean_of(f, i))
            return false;
    return true;
}

/* 2000 generations in which all are equally good, which is where errors are most likely:
 * the share of those who are beaten by nobody on all items and are stopped all the same. */
static double null_errors(bool heavy, size_t n_member, size_t n, double risk)
{
    static struct field f;
    double hard[N];
    int wrong = 0, front = 0;
    for (int race = 0; race < 2000; race++) {
        int64_t saved;
        draw_items(hard, heavy);
        for (size_t i = 0; i < n_member + n; i++) {
            draw(&f, i, hard, 0.4, 0.05, heavy);
            set_racer(&f, i, 1, 0);
        }
        struct lm_race *r = run(&f, n_member, n, 1, risk, &saved);
        for (size_t i = 0; i < n; i++)
            if (in_front(&f, n_member + n, n_member + i)) {
                front++;
                wrong += lm_race_end(r, i).stopped;
            }
        lm_race_close(r);
    }
    printf("# null, %s, %zu trials, %zu contenders, risk %g: %.4f of %d were lost\n",
           heavy ? "long tails" : "normal", n_member, n, risk, wrong / (double)front,
           front);
    ck_assert_int_gt(front, 300);
    return wrong / (double)front;
}

START_TEST(risk_is_kept)
{
    rng = lm_rng(7, "race", 0);
    ck_assert_double_le(null_errors(false, 0, 8, 0.05), 0.05);
    ck_assert_double_le(null_errors(false, 1, 8, 0.05), 0.05);
    ck_assert_double_le(null_errors(false, 1, 1, 0.05), 0.05);
    ck_assert_double_le(null_errors(true, 0, 8, 0.05), 0.05);
    ck_assert_double_le(null_errors(true, 1, 8, 0.05), 0.05);
    ck_assert_double_le(null_errors(true, 1, 1, 0.05), 0.05);
    ck_assert_double_le(null_errors(true, 4, 16, 0.2), 0.2);
}
END_TEST

/* The test above can fail: at a high risk there are errors to find. */
START_TEST(null_has_errors_to_find)
{
    rng = lm_rng(8, "race", 0);
    ck_assert_double_ge(null_errors(false, 1, 1, 0.5), 0.05);
    ck_assert_double_ge(null_errors(true, 0, 8, 0.5), 0.01);
}
END_TEST

/* Generations as a search has them: sizes and qualities along a front, most of them
 * behind it.  Stops save items, and hardly ever a member of the true front.            */
START_TEST(power)
{
    static struct field f;
    double hard[N];
    int64_t saved = 0, items = 0, lost = 0, stopped = 0;
    rng = lm_rng(9, "race", 0);
    for (int race = 0; race < 300; race++) {
        int64_t s;
        draw_items(hard, false);
        for (size_t i = 0; i < 20; i++) {       /* 4 trials on the front, 16 new ones */
            double size = i < 4 ? 0.6 + 0.1 * (double)i : 0.6 + 0.4 * lm_rng_unit(&rng);
            double behind = i < 4 ? 0 : 0.6 * lm_rng_unit(&rng);
            draw(&f, i, hard, (1.05 - size) * (1 + behind), 0.01, false);
            set_racer(&f, i, size, 0);
        }
        struct lm_race *r = run(&f, 4, 16, 1, 0.05, &s);
        for (size_t i = 0; i < 16; i++) {
            stopped += lm_race_end(r, i).stopped;
            lost += lm_race_end(r, i).stopped && in_front(&f, 20, 4 + i);
        }
        saved += s;
        items += 16 * N;
        lm_race_close(r);
    }
    printf("# power: %.2f of the contenders stopped, %.2f of the items saved, %lld members "
           "of the front lost\n", (double)stopped / (300 * 16),
               (double)saved / (double)items,
           (long long)lost);
    ck_assert_double_ge((double)saved / (double)items, 0.5);
    ck_assert_int_le(lost, 15);
}
END_TEST

/* ---- what may beat what -------------------------------------------------------------- */

static void steady(struct field *f, size_t i, double quality)
{
    for (int k = 0; k < N; k++)
        f->sum[i][k] = (struct lm_sum){ 128 * (quality + 0.001 * ((k * 7 + (int)i) % 5)),
            128 };
}

START_TEST(who_may_beat_whom)
{
    static struct field f;
    static const struct { double exact, excess; bool stopped; } c[] = {
        { 1, 0, true }, { 2, 0, true },         /* as large, larger */
        { 0.5, 0, false },                      /* smaller: nobody beats it */
        { 1, 0.5, true },                       /* breaks a constraint more */
        { 1, NAN, true },                       /* that is not known: the trial keeps it */
    };
    for (int broken = 0; broken < 2; broken++)
        for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
            int64_t saved;
            steady(&f, 0, 0.1);
            steady(&f, 1, 0.9);
            set_racer(&f, 0, 1, broken ? 0.2 : 0);
            set_racer(&f, 1, c[i].exact, c[i].excess);
            struct lm_race *r = run(&f, 1, 1, 1, 0.05, &saved);
            bool want = broken ? c[i].stopped && c[i].excess >= 0.2 : c[i].stopped;
            ck_assert_msg(lm_race_end(r, 0).stopped == want, "%d %zu", broken, i);
            lm_race_close(r);
        }
}
END_TEST

START_TEST(estimates_follow_the_opponents)
{
    static struct field f;
    struct lm_race_end end;
    double mean, error;
    int64_t saved;
    double hard[N];
    rng = lm_rng(3, "race", 0);
    draw_items(hard, true);                     /* the first items are not like all */
    draw(&f, 0, hard, 0.1, 0.0005, false);
    draw(&f, 1, hard, 0.3, 0.0005, false);
    draw(&f, 2, hard, 0.6, 0.0005, false);
    for (size_t i = 0; i < 3; i++)
        set_racer(&f, i, 1, 0);
    struct lm_race *r = run(&f, 0, 3, 1, 0.05, &saved);
    ck_assert(!lm_race_end(r, 0).stopped);
    for (size_t i = 1; i < 3; i++) {
        double own = 0;
        end = lm_race_end(r, i);
        ck_assert(end.stopped && !end.by_member && end.by == 0);
        lm_race_estimate(r, i, 0, &mean, &error);
        int64_t seen = end.rung ? 6 : 3;        /* not later */
        ck_assert_uint_le(end.rung, 1);
        for (int64_t k = 0; k < seen; k++)
            own += f.sum[i][k].value / (double)(seen * 128);
        ck_assert_double_lt(fabs(mean - mean_of(&f, i)), fabs(own - mean_of(&f, i)));
        ck_assert_double_gt(error, 0);
        ck_assert_double_lt(fabs(mean - mean_of(&f, i)), 4 * error);
    }
    lm_race_close(r);
}
END_TEST

/* Who waits costs nothing: leaders, whatever their place in the batch, are measured
 * first, so that the worst one is only ever seen on the items of rung 0.              */
START_TEST(leaders_go_first)
{
    static struct field f;
    int64_t saved;
    for (size_t i = 0; i < 5; i++) {
        steady(&f, i, 1.1 - 0.1 * (double)i);
        set_racer(&f, i, 1, 0);
    }
    struct lm_race *r = run(&f, 0, 5, 0, 0.05, &saved);
    ck_assert(!lm_race_end(r, 4).stopped);
    for (size_t i = 0; i < 4; i++) {
        struct lm_race_end end = lm_race_end(r, i);
        ck_assert(end.stopped && !end.by_member);
        ck_assert_uint_eq(end.by, 4);
        ck_assert_uint_eq(end.rung, 0);
    }
    ck_assert_int_eq(saved, 4 * (N - 3));
    lm_race_close(r);
}
END_TEST

/* a leads b on 3 items, b leads c on 6, c leads a on 3: each two are compared by what
 * both have seen, and a race of three that all wait would never end.                  */
START_TEST(a_ring_of_leaders_ends)
{
    static struct field f;
    static const int64_t seen[] = { 2, 4, 8, N };
    rng = lm_rng(5, "race", 0);
    for (int race = 0; race < 500; race++) {
        int64_t saved;
        size_t left = 0;
        for (size_t i = 0; i < 12; i++) {
            for (int k = 0; k < N; k++)
                f.sum[i][k] = (struct lm_sum){ normal(), 1 };
            set_racer(&f, i, (double)(i % 3), 0);
        }
        struct lm_race *r = run_rungs(&f, 0, 12, 0, seen, 3, 0.05, &saved);
        for (size_t i = 0; i < 12; i++)
            left += !lm_race_end(r, i).stopped;
        ck_assert_uint_ge(left, 1);
        lm_race_close(r);
    }
}
END_TEST

START_TEST(no_spread_is_no_certainty)
{
    static struct field f;
    int64_t saved;
    for (int k = 0; k < N; k++) {               /* right or wrong, the same on all items */
        f.sum[0][k] = (struct lm_sum){ 0, 1 };
        f.sum[1][k] = (struct lm_sum){ 1, 1 };
    }
    set_racer(&f, 0, 1, 0);
    set_racer(&f, 1, 1, 0);
    struct lm_race *r = run(&f, 1, 1, 1, 0.05, &saved);
    ck_assert(lm_race_end(r, 0).stopped);
    ck_assert_int_eq(saved, N - 12);            /* 2^-6 > 0.05 / 4 > 2^-12 */
    lm_race_close(r);
}
END_TEST

START_TEST(who_left_is_no_opponent)
{
    static struct field f;
    static const int64_t seen[] = { 8, N };
    static const bool maximise = true;          /* here large values are good */
    struct lm_race_rules rules = { .n_exact = 1, .n_sampled = 1, .maximise = &maximise,
                                   .n_rung = 1, .seen = seen, .risk = 0.05 };
    struct lm_race *r;
    struct lm_err e = { 0 };
    double mean, error;
    bool go[2];
    for (size_t i = 0; i < 2; i++) {
        steady(&f, i, i ? 0.9 : 0.1);
        set_racer(&f, i, 1, 0);
    }
    ck_assert_ok(lm_race_open(&rules, NULL, 0, f.racer, 2, &r, &e), e);
    lm_race_leave(r, 1);
    ck_assert(lm_race_go(r, go) && go[0] && !go[1]);
    ck_assert(!lm_race_go(r, go));
    ck_assert(!lm_race_end(r, 0).stopped && !lm_race_end(r, 1).stopped);
    lm_race_close(r);
    ck_assert_ok(lm_race_open(&rules, NULL, 0, f.racer, 2, &r, &e), e);
    ck_assert(lm_race_go(r, go) && !go[0] && go[1]);
    ck_assert(!lm_race_go(r, go));
    ck_assert(lm_race_end(r, 0).stopped && !lm_race_end(r, 1).stopped);
    lm_race_estimate(r, 0, 0, &mean, &error);
    ck_assert_double_eq_tol(mean, mean_of(&f, 0), 0.002);
    lm_race_close(r);
    ck_assert_ok(lm_race_open(&rules, NULL, 0, f.racer, 2, &r, &e), e);
    ck_assert(lm_race_go(r, go) && go[1]);
    lm_race_leave(r, 1);                        /* failed behind its first rung */
    ck_assert(lm_race_go(r, go) && go[0]);
    ck_assert(!lm_race_go(r, go));
    ck_assert(!lm_race_end(r, 0).stopped);
    lm_race_close(r);
}
END_TEST

static enum lm_status whole_race(void *ctx)
{
    static struct field f;
    static const int64_t seen[] = { 8, N };
    static const bool maximise = false;
    struct lm_race_rules rules = { .n_exact = 1, .n_sampled = 1, .maximise = &maximise,
                                   .n_rung = 1, .seen = seen, .risk = 0.05 };
    struct lm_race *r;
    struct lm_err e = { 0 };
    bool go[4];
    (void)ctx;
    for (size_t i = 0; i < 6; i++) {
        steady(&f, i, 0.1 + 0.1 * (double)i);
        set_racer(&f, i, 1, 0);
    }
    enum lm_status st = lm_race_open(&rules, f.racer, 2, f.racer + 2, 4, &r, &e);
    if (st)
        return st;
    while (lm_race_go(r, go))
        ;
    lm_race_close(r);
    return LM_OK;
}

START_TEST(memory_runs_out)
{
    ck_assert_int_ge(fail_every_allocation(whole_race, NULL), 5);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("race");
    TCase *t = tcase_create("race");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, student);
    tcase_add_test(t, risk_is_kept);
    tcase_add_test(t, null_has_errors_to_find);
    tcase_add_test(t, power);
    tcase_add_test(t, who_may_beat_whom);
    tcase_add_test(t, estimates_follow_the_opponents);
    tcase_add_test(t, leaders_go_first);
    tcase_add_test(t, a_ring_of_leaders_ends);
    tcase_add_test(t, no_spread_is_no_certainty);
    tcase_add_test(t, who_left_is_no_opponent);
    tcase_add_test(t, memory_runs_out);
    suite_add_tcase(s, t);
    return run_suites(&s, 1);
}
