/* SPDX-License-Identifier: Apache-2.0 */
/* significance.c -- the exact signed-rank test (Wilcoxon 1945) and Holm's correction
 * (Holm 1979).
 *
 * WHY exact: a sweep has five to ten seeds, for which the normal approximation is
 * wrong in the digits that decide.  Without a difference between two variants each
 * sign is + or - with probability 1/2, whatever the sizes; so the distribution of the
 * sum of positive ranks is that of a sum of independent terms 0 or r_i, added up one
 * rank after the other.  Ranks are doubled, as shared ones are halves: all sums are
 * whole numbers up to n (n + 1).  The distribution is symmetric, so p is twice the
 * tail of the smaller side.                                                    */
#include "study/significance.h"

#include <math.h>
#include <stdlib.h>

static int by_size(const void *a, const void *b)
{
    double x = fabs(*(const double *)a), y = fabs(*(const double *)b);

    return (x > y) - (x < y);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Ranks of n sorted sizes, doubled: of a tie from i to j - 1 each (i + 1 + j). */
static void double_ranks(const double *d, size_t n, unsigned *rank)
{
    for (size_t i = 0, j; i < n; i = j) {
        for (j = i; j < n && fabs(d[j]) == fabs(d[i]); j++)
            ;
        for (size_t k = i; k < j; k++)
            rank[k] = (unsigned)(i + 1 + j);
    }
}

/* Probability that the doubled sum of positive ranks is at most w. */
static double tail(const unsigned *rank, size_t n, unsigned w)
{
    double chance[LM_PAIRS * (LM_PAIRS + 1) + 1] = { 1 }, sum = 0;
    unsigned top = 0;

    for (size_t i = 0; i < n; i++) {
        top += rank[i];
        for (unsigned s = top + 1; s-- > 0; )
            chance[s] = chance[s] / 2 + (s >= rank[i] ? chance[s - rank[i]] / 2 : 0);
    }
    for (unsigned s = 0; s <= w; s++)
        sum += chance[s];
    return sum;
}

struct lm_signed_rank lm_signed_rank(const double *difference, size_t n)
{
    double d[LM_PAIRS];
    unsigned rank[LM_PAIRS], plus = 0, all = 0;
    struct lm_signed_rank out = { .p = NAN };
    size_t seen = 0;

    for (size_t i = 0; i < n && i < LM_PAIRS; i++) {
        seen += !isnan(difference[i]);
        if (!isnan(difference[i]) && difference[i] != 0)
            d[out.n++] = difference[i];
    }
    if (seen)
        out.p = 1;
    if (!out.n)
        return out;
    qsort(d, out.n, sizeof *d, by_size);
    double_ranks(d, out.n, rank);
    for (size_t i = 0; i < out.n; i++) {
        plus += d[i] > 0 ? rank[i] : 0;
        all += rank[i];
    }
    out.plus = plus / 2.0;
    out.p = fmin(1, 2 * tail(rank, out.n, plus < all - plus ? plus : all - plus));
    return out;
}

double lm_signed_rank_least(size_t n)
{
    return n ? ldexp(2, -(int)n) : 1;
}

/* The k-th smallest of m values is multiplied by m - k + 1, but is never below one
 * before it.                                                                  */
void lm_holm(double *p, size_t *order, size_t n)
{
    size_t m = 0;
    double most = 0;

    for (size_t i = 0; i < n; i++) {
        if (isnan(p[i]))
            continue;
        size_t k = m++;
        for (; k > 0 && p[order[k - 1]] > p[i]; k--)
            order[k] = order[k - 1];
        order[k] = i;
    }
    for (size_t k = 0; k < m; k++) {
        most = fmax(most, fmin(1, (double)(m - k) * p[order[k]]));
        p[order[k]] = most;
    }
}

double lm_median(double *v, size_t n)
{
    if (!n)
        return NAN;
    qsort(v, n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : v[n / 2 - 1] / 2 + v[n / 2] / 2;
}

double lm_median_deviation(double *v, size_t n)
{
    double m = lm_median(v, n);

    for (size_t i = 0; i < n; i++)
        v[i] = fabs(v[i] - m);
    return lm_median(v, n);
}
