/* SPDX-License-Identifier: Apache-2.0 */
/* check_view.c -- who is feasible once `final` has measured in f32 what the search
 * measured in int8: a bound that is a share of the dense model's value follows from the
 * dense model in the same precision as the trial.                             */
#include <math.h>

#include "pipeline/view.h"
#include "testing.h"

static char folder[256], path[300];

enum { TRIALS = 4 };
/* Perplexities in int8 and f32, bytes.  Of the dense model's 1.05 times as much is
 * allowed: 12.6 in int8, 10.5 in f32.  Trial 1 is within that in int8 alone, trial 2 in
 * f32 alone, trial 3 in both.                                                  */
static const double low[TRIALS] = { 12, 12.5, 12.7, 12.4 };
static const double full[TRIALS] = { 10, 10.9, 10.4, 10.2 };
static const double bytes[TRIALS] = { 100, 60, 70, 80 };
static const char metrics[] =
    "3 2\np.ppl - 0 0\nsize.bytes bytes 1 0\np_f32.ppl - -1 0\n";

static void setup(void)
{
    scratch_begin(folder);
    snprintf(path, sizeof path, "%s/study.db", folder);
}

static void teardown(void)
{
    scratch_end(folder);
}

/* A study of these trials; bounds: its text, or NULL. */
static struct lm_store *make_study(const char *bounds)
{
    const union lm_value value = { .integer = 1 };
    struct lm_store *store;
    struct lm_err e = { 0 };
    remove(path);
    ck_assert_ok(lm_store_open(path, true, &store, &e), e);
    ck_assert_ok(lm_store_put(store, "metrics", metrics, &e), e);
    ck_assert_ok(lm_store_put(store, "arch", "1 16 4 32\n2 2 8\n", &e), e);
    if (bounds)
        ck_assert_ok(lm_store_put(store, "bounds", bounds, &e), e);
    for (int i = 0; i < TRIALS; i++) {
        const struct lm_measure m[] = { { "p.ppl", low[i], NAN, NULL, 0 },
                                        { "size.bytes", bytes[i], NAN, NULL, 0 } };
        const struct lm_record r = { .id = i, .plan = (uint64_t)i + 1, .value = &value,
            .n_slot = 1, .plan_text = "", .reason = "", .fidelity = 1, .measure = m,
            .n_measure = 2 };
        ck_assert_ok(lm_store_record(store, &r, &e), e);
    }
    return store;
}

static struct lm_study *load(struct lm_store *store)
{
    struct lm_study *s;
    struct lm_err e = { 0 };
    ck_assert_ok(lm_view_load(store, &s, &e), e);
    ck_assert_int_eq(lm_view_n_trials(s), TRIALS);
    return s;
}

static void confirm(struct lm_study *s)
{
    struct lm_err e = { 0 };
    for (int i = 0; i < TRIALS; i++)
        ck_assert_ok(lm_view_final(s, i, 2, full[i], NAN, &e), e);
    ck_assert_ok(lm_view_rank(s, &e), e);
}

/* One digit for each trial. */
static const char *feasible(const struct lm_study *s)
{
    static char out[TRIALS + 1];
    for (int i = 0; i < TRIALS; i++)
        out[i] = s->trial[i].feasible ? '1' : '0';
    return out;
}

START_TEST(a_share_is_of_the_same_precision)
{
    struct lm_store *store = make_study("0 -inf 12.6 1.05\n");
    struct lm_study *s = load(store);
    double v;
    ck_assert_str_eq(feasible(s), "1101");      /* the search: in int8 */
    ck_assert_int_eq(lm_view_pick(s, LM_PICK_SMALLEST), 1);
    confirm(s);
    ck_assert_str_eq(feasible(s), "1011");
    ck_assert_int_eq(lm_view_pick(s, LM_PICK_SMALLEST), 2);
    lm_view_violation(s, &s->trial[1], &v);     /* what the strategy was told stays */
    ck_assert_double_eq(v, 0);
    lm_view_violation(s, &s->trial[2], &v);
    ck_assert_double_eq_tol(v, 0.1 / 12.6, 1e-12);
    lm_view_free(s);
    s = load(store);                            /* a report: from the store alone */
    ck_assert_str_eq(feasible(s), "1011");
    lm_view_free(s);
    lm_store_close(store);
}
END_TEST

START_TEST(a_number_is_a_number_in_any_precision)
{
    static const char *const bounds[] = { "0 -inf 12.6 nan\n", "0 -inf 12.6\n" };
    for (int i = 0; i < 2; i++) {
        struct lm_store *store = make_study(bounds[i]);
        struct lm_study *s = load(store);
        ck_assert_str_eq(feasible(s), "1101");
        confirm(s);
        ck_assert_str_eq(feasible(s), "1111");
        lm_view_free(s);
        lm_store_close(store);
    }
}
END_TEST

/* What the dense model's twin did not find is not confirmed; the search's bound stays. */
START_TEST(without_the_dense_twin)
{
    struct lm_store *store = make_study("0 -inf 12.6 1.05\n");
    struct lm_study *s = load(store);
    struct lm_err e = { 0 };
    for (int i = 1; i < TRIALS; i++)
        ck_assert_ok(lm_view_final(s, i, 2, full[i] + 2, NAN, &e), e);
    ck_assert_ok(lm_view_rank(s, &e), e);
    ck_assert_str_eq(feasible(s), "0011");      /* 12.9, 12.4, 12.2 against 12.6 */
    lm_view_free(s);
    lm_store_close(store);
}
END_TEST

START_TEST(bounds_are_written_and_read)
{
    struct lm_store *store = make_study(NULL);
    struct lm_study *s = load(store);
    struct lm_pipeline *p = calloc(1, sizeof *p);
    struct lm_err e = { 0 };
    double share = 1.05, most = 75;
    struct lm_goal_options o[] = { { .metric = "p.ppl", .share = { &share, 1 } },
                                   { .metric = "size.bytes", .max = { &most, 1 } } };
    ck_assert_ptr_nonnull(p);
    for (int i = 0; i < 2; i++)
        p->constraint[i] = (struct lm_goal){ .o = &o[i], .metric = i };
    p->n_constraint = 2;
    ck_assert_ok(lm_view_bounds(s, p, &e), e);
    confirm(s);
    ck_assert_str_eq(feasible(s), "0010");
    lm_view_free(s);
    s = load(store);
    ck_assert_uint_eq(s->n_bound, 2);
    ck_assert_double_eq(s->bound[0].share, share);
    ck_assert_double_eq(s->bound[0].max, share * low[0]);
    ck_assert(isnan(s->bound[1].share));
    ck_assert_double_eq(s->bound[1].max, most);
    ck_assert_str_eq(feasible(s), "0010");
    lm_view_free(s);
    lm_store_close(store);
    free(p);
}
END_TEST

static Suite *view_suite(void)
{
    Suite *s = suite_create("view");
    TCase *t = tcase_create("bounds");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_share_is_of_the_same_precision);
    tcase_add_test(t, a_number_is_a_number_in_any_precision);
    tcase_add_test(t, without_the_dense_twin);
    tcase_add_test(t, bounds_are_written_and_read);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    Suite *const all[] = { view_suite() };
    return run_suites(all, 1);
}
