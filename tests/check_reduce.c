/* SPDX-License-Identifier: Apache-2.0 */
/* check_reduce.c -- values and standard errors from sums per item, against textbook
 * formulas and sorting.                                                      */
#include <math.h>

#include "study/evaluate.h"
#include "testing.h"

#define METRIC(n, r, noisy) { n, "", "", r, noisy, false }

START_TEST(mean_and_its_error)
{
    /* equal weights: the textbook mean and s / sqrt(n) */
    struct lm_metric m = METRIC("x", LM_REDUCE_MEAN, false);
    struct lm_sum sum[] = { { 2, 2 }, { 6, 2 }, { 10, 2 }, { 14, 2 } };
    double value, error;
    lm_reduce(&m, sum, 4, &value, &error);
    ck_assert_double_eq_tol(value, 4, 1e-12);
    ck_assert_double_eq_tol(error, sqrt(20.0 / 3) / 2, 1e-12);
    m.reduce = LM_REDUCE_EXP_MEAN;
    lm_reduce(&m, sum, 4, &value, &error);
    ck_assert_double_eq_tol(value, exp(4), 1e-9);
    ck_assert_double_eq_tol(error, exp(4) * sqrt(20.0 / 3) / 2, 1e-9);
    /* unequal weights, by hand: r = 10 / 5, d = 1 -1 0, se = sqrt(3/2 * 2) / 5 */
    struct lm_sum uneven[] = { { 3, 1 }, { 3, 2 }, { 4, 2 } };
    m.reduce = LM_REDUCE_MEAN;
    lm_reduce(&m, uneven, 3, &value, &error);
    ck_assert_double_eq_tol(value, 2, 1e-12);
    ck_assert_double_eq_tol(error, sqrt(3.0) / 5, 1e-12);
    lm_reduce(&m, sum, 1, &value, &error);
    ck_assert_double_eq(value, 1);
    ck_assert(isnan(error));
    lm_reduce(&m, sum, 0, &value, &error);
    ck_assert(isnan(value) && isnan(error));
}
END_TEST

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double sorted_median(double *x, size_t n)
{
    qsort(x, n, sizeof *x, by_value);
    return n % 2 ? x[n / 2] : 0.5 * (x[n / 2 - 1] + x[n / 2]);
}

START_TEST(median_and_its_error)
{
    struct lm_metric m = METRIC("x", LM_REDUCE_MEDIAN, true);
    for (uint64_t n = 1; n < 60; n++) {
        struct lm_sum sum[61];
        double x[60], value, error;
        for (size_t i = 0; i < n; i++) {
            x[i] = sin((double)(i * i + n)) * (i % 7 ? 1 : 1000);
            sum[i] = (struct lm_sum){ 3 * x[i], 3 };
            x[i] = sum[i].value / sum[i].weight;
        }
        sum[n] = (struct lm_sum){ 0, 0 };       /* not measured: does not count */
        lm_reduce(&m, sum, n + 1, &value, &error);
        double want = sorted_median(x, n);
        ck_assert_double_eq(value, want);
        for (size_t i = 0; i < n; i++)
            x[i] = fabs(x[i] - want);
        if (n == 1)
            ck_assert(isnan(error));
        else
            ck_assert_double_eq_tol(error, 1.2533 * 1.4826 * sorted_median(x, n)
                                    / sqrt((double)n), 1e-12);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("reduce");
    TCase *t = tcase_create("reduce");
    tcase_add_test(t, mean_and_its_error);
    tcase_add_test(t, median_and_its_error);
    suite_add_tcase(suite, t);
    return run_suites(&suite, 1);
}
