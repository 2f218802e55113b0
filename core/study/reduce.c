/* SPDX-License-Identifier: Apache-2.0 */
/* reduce.c -- from sums per item to a value and its standard error.
 *
 * mean: r = sum v / sum w.  Items are the sampling unit (words within a window
 * hang together), so the error is that of a ratio estimator (delta method;
 * Cochran, Sampling Techniques, 3rd ed., eq. 2.46):
 *     se(r) = sqrt(n / (n - 1) * sum (v_i - r w_i)^2) / sum w
 * exp of a mean: se = exp(r) se(r).
 * median of v / w: se = 1.2533 s / sqrt(n), s = 1.4826 * median |x - median|,
 * which holds for normal noise and is not moved by single outliers.
 * Items of weight 0 say nothing.  Fewer than two items: error unknown.       */
#include "study/evaluate.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>

static void ratio(const struct lm_sum *sum, size_t n, double *value, double *error)
{
    double v = 0, w = 0, rest = 0;
    size_t used = 0;

    for (size_t i = 0; i < n; i++) {
        v += sum[i].value;
        w += sum[i].weight;
        used += sum[i].weight != 0;
    }
    *value = *error = NAN;
    if (!(w > 0))
        return;
    *value = v / w;
    for (size_t i = 0; i < n; i++) {
        double d = sum[i].value - *value * sum[i].weight;

        rest += d * d;
    }
    if (used >= 2)
        *error = sqrt((double)used / (double)(used - 1) * rest) / w;
}

/* |x - center| of an item, or x itself when center is NAN. */
static double level(const struct lm_sum *s, double center)
{
    double x = s->value / s->weight;

    return isnan(center) ? x : fabs(x - center);
}

/* Doubles as integers of the same order. */
static uint64_t rank_of(double x)
{
    uint64_t bits;

    x += 0.0;                           /* -0 and 0 are equal */
    memcpy(&bits, &x, sizeof bits);
    return bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
}

static double of_rank(uint64_t rank)
{
    uint64_t bits = rank >> 63 ? rank & ~(UINT64_C(1) << 63) : ~rank;
    double x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

/* k-th smallest level (k from 0) by halving the range of all doubles: exact,
 * in 64 passes and without memory, for which there is no one to fail to.     */
static double kth(const struct lm_sum *sum, size_t n, double center, size_t k)
{
    uint64_t low = 0, high = UINT64_MAX;

    while (low < high) {
        uint64_t mid = low + (high - low) / 2;
        size_t below = 0;

        for (size_t i = 0; i < n; i++)
            below += sum[i].weight > 0 && rank_of(level(&sum[i], center)) <= mid;
        if (below > k)
            high = mid;
        else
            low = mid + 1;
    }
    return of_rank(low);
}

static double middle(const struct lm_sum *sum, size_t n, size_t used, double center)
{
    double high = kth(sum, n, center, used / 2);

    return used % 2 ? high : 0.5 * (kth(sum, n, center, used / 2 - 1) + high);
}

static void median(const struct lm_sum *sum, size_t n, double *value, double *error)
{
    size_t used = 0;

    for (size_t i = 0; i < n; i++)
        used += sum[i].weight > 0;
    *value = *error = NAN;
    if (used == 0)
        return;
    *value = middle(sum, n, used, NAN);
    if (used >= 2)
        *error = 1.2533 * 1.4826 * middle(sum, n, used, *value) / sqrt((double)used);
}

void lm_reduce(const struct lm_metric *m, const struct lm_sum *sum, size_t n,
               double *value, double *error)
{
    if (m->reduce == LM_REDUCE_MEDIAN) {
        median(sum, n, value, error);
        return;
    }
    ratio(sum, n, value, error);
    if (m->reduce == LM_REDUCE_EXP_MEAN) {
        *value = exp(*value);
        *error *= *value;
    }
}

void lm_results_free(struct lm_result *r, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        lm_release(r[i].sum);
        r[i] = (struct lm_result){ NAN, NAN, NULL, 0 };
    }
}
