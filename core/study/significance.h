/* SPDX-License-Identifier: Apache-2.0 */
/* significance.h -- are paired differences more than chance, and are they still when
 * many were looked at?                                                        */
#ifndef LM_STUDY_SIGNIFICANCE_H
#define LM_STUDY_SIGNIFICANCE_H
#include <stdbool.h>
#include <stddef.h>

enum { LM_PAIRS = 128 };                /* at most, of one test */

struct lm_signed_rank {
    double p;                           /* two-sided, exact; 1: no difference at all */
    double plus;                        /* sum of the ranks of positive differences */
    size_t n;                           /* differences that are not 0 */
};
/* Wilcoxon's signed-rank test of n <= LM_PAIRS differences.  NaNs are left out, zeros
 * too, as Wilcoxon did; equal sizes share the mean of their ranks.  p is NAN where no
 * number is left.                                                             */
struct lm_signed_rank lm_signed_rank(const double *difference, size_t n);
/* The least p that n differences can have: 2 / 2^n. */
double lm_signed_rank_least(size_t n);
/* Holm's step-down correction of n values, in place; NaNs are no comparisons.  Uses
 * order [n].                                                                  */
void lm_holm(double *p, size_t *order, size_t n);

/* Of n numbers, which are sorted; NAN: there are none. */
double lm_median(double *v, size_t n);
/* Median of the distances from the median; v comes out changed. */
double lm_median_deviation(double *v, size_t n);
#endif
