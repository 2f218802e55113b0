/* SPDX-License-Identifier: Apache-2.0 */
/* check_pareto.c -- dominance, fronts and knee against closed forms and against
 * definitions written out.                                                   */
#include <check.h>
#include <math.h>
#include <stdint.h>

#include "study/pareto.h"
#include "testing.h"

static uint64_t state = 1;

static double draw(void)                            /* multiples of 1/16 in [0, 1) */
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(state >> 60) / 16;
}

START_TEST(dominance)
{
    double a[] = { 1, 2 }, b[] = { 1, 3 }, c[] = { 2, 1 }, d[] = { NAN, 0 };

    ck_assert(lm_dominates(a, b, 2));
    ck_assert(!lm_dominates(b, a, 2));
    ck_assert(!lm_dominates(a, a, 2));
    ck_assert(!lm_dominates(a, c, 2) && !lm_dominates(c, a, 2));
    ck_assert(!lm_dominates(d, a, 2) && !lm_dominates(a, d, 2));
    ck_assert(lm_dominates(a, b, 1) == false);      /* equal in the only one */
}
END_TEST

/* By definition: nothing dominates it and no earlier point equals it. */
static bool belongs(const double *p, size_t n, size_t m, size_t i)
{
    for (size_t j = 0; j < n; j++) {
        bool same = true;
        for (size_t k = 0; k < m; k++)
            same &= p[i * m + k] == p[j * m + k];
        if (lm_dominates(p + j * m, p + i * m, m) || (same && j < i))
            return false;
    }
    return true;
}

START_TEST(fronts)
{
    double p[3 * 64];
    bool front[64];

    for (int round = 0; round < 200; round++)
        for (size_t m = 1; m <= 3; m++) {
            for (size_t i = 0; i < 64 * m; i++)
                p[i] = draw();
            lm_front(p, 64, m, front);
            for (size_t i = 0; i < 64; i++)
                ck_assert_int_eq(front[i], belongs(p, 64, m, i));
        }
}
END_TEST

START_TEST(front_without_numbers)
{
    double p[] = { NAN, 0, 1, 1, 0, NAN, INFINITY, 0 };
    bool front[4];

    lm_front(p, 4, 2, front);
    ck_assert(!front[0] && front[1] && !front[2] && front[3]);
    lm_front(p, 0, 2, front);
}
END_TEST

START_TEST(knee)
{
    /* the ends (0, 100) and (10, 0), two between them, one dominated */
    double p[] = { 0, 100, 10, 0, 2, 20, 6, 18, 9, 99 };
    bool front[5];

    lm_front(p, 5, 2, front);
    ck_assert(!front[4]);
    ck_assert_uint_eq(lm_knee(p, front, 5), 2);     /* .2 + .2 against .6 + .18 */
    front[2] = false;
    ck_assert_uint_eq(lm_knee(p, front, 5), 3);
    front[1] = front[3] = false;
    ck_assert_uint_eq(lm_knee(p, front, 5), 0);
    front[0] = false;
    ck_assert_uint_eq(lm_knee(p, front, 5), 5);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pareto");
    TCase *t = tcase_create("pareto");

    tcase_add_test(t, dominance);
    tcase_add_test(t, fronts);
    tcase_add_test(t, front_without_numbers);
    tcase_add_test(t, knee);
    suite_add_tcase(s, t);
    return run_suites(&s, 1);
}
