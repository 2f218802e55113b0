/* SPDX-License-Identifier: Apache-2.0 */
/* improve.c -- see improve.h.
 *
 * With the front (a_i, b_i), i = 1 .. n, by rising a, b_0 and a_{n+1} the reference, the
 * area gained by y is the sum over the strips i = 0 .. n between a_i and a_{i+1} of
 *   (length of the strip right of y_1) * max(b_i - y_2, 0).
 * Lengths are differences of max(c - y_1, 0) at c = a_{i+1} and a_i, so that with e_k(c)
 * = E[max(c - Y_k, 0)] of independent Y_1, Y_2 the expectation is exactly
 *   sum_i (e_1(a_{i+1}) - e_1(a_i)) e_2(b_i),   e_1(a_0) = 0,
 * in O(n): the sum of Emmerich, Deutz & Klinkenberg 2011, in the order of Yang et al.
 * 2019.                                                                         */
#include "improve.h"

#include <math.h>
#include <stdlib.h>

double improve_one(double c, double mean, double sd)
{
    double z = (c - mean) / sd;

    return fmax(sd * (exp(-0.5 * z * z) * 0.3989422804014327
                      + z * 0.5 * erfc(-z * 0.7071067811865476)), 0);
}

double improve_log_chance(double c, double mean, double sd)
{
    double z = (c - mean) / sd;

    if (z > -30)
        return log(0.5 * erfc(-z * 0.7071067811865476));
    return -0.5 * z * z - log(-z) - 0.9189385332046727;         /* Mills' ratio */
}

static int by_first(const void *x, const void *y)
{
    const double *a = x, *b = y;

    if (a[0] != b[0])
        return a[0] < b[0] ? -1 : 1;
    return (a[1] > b[1]) - (a[1] < b[1]);
}

size_t improve_front(double (*point)[2], size_t n, const double reference[2])
{
    double least = reference[1];
    size_t kept = 0;

    qsort(point, n, sizeof *point, by_first);
    for (size_t i = 0; i < n; i++)
        if (point[i][0] < reference[0] && point[i][1] < least) {
            least = point[i][1];
            point[kept][0] = point[i][0];
            point[kept++][1] = least;
        }
    return kept;
}

double improve_two(const double (*front)[2], size_t n, const double reference[2],
                   const double mean[2], const double sd[2])
{
    double sum = 0, left = 0;

    for (size_t i = 0; i <= n; i++) {
        double right = improve_one(i < n ? front[i][0] : reference[0], mean[0], sd[0]);
        double below = improve_one(i > 0 ? front[i - 1][1] : reference[1], mean[1],
                                   sd[1]);
        sum += fmax(right - left, 0) * below;
        left = right;
    }
    return sum;
}
