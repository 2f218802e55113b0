/* SPDX-License-Identifier: Apache-2.0 */
/* pareto.c -- dominance, fronts, knee.
 *
 * Points are rows [m] of doubles, all minimised.  A point with a NaN is not
 * comparable: it never dominates, is never dominated and never on a front.
 * Nothing here allocates, so nothing here can fail: fronts hold at most some
 * thousands of trials, for which quadratic time is microseconds to
 * milliseconds.                                                              */
#include "study/pareto.h"

#include <math.h>
#include <stdlib.h>

bool lm_dominates(const double *a, const double *b, size_t m)
{
    bool better = false;

    for (size_t i = 0; i < m; i++) {
        if (!(a[i] <= b[i]))
            return false;
        better |= a[i] < b[i];
    }
    return better;
}

static bool comparable(const double *a, size_t m)
{
    for (size_t i = 0; i < m; i++)
        if (isnan(a[i]))
            return false;
    return true;
}

static bool equal(const double *a, const double *b, size_t m)
{
    for (size_t i = 0; i < m; i++)
        if (a[i] != b[i])
            return false;
    return true;
}

/* A point has to be compared with the members found so far only, in both
 * directions: dominance is transitive, so whatever a dropped point would have
 * excluded is excluded by the member that dropped it.                        */
void lm_front(const double *point, size_t n, size_t m, bool *front)
{
    for (size_t i = 0; i < n; i++) {
        const double *p = point + i * m;

        front[i] = comparable(p, m);
        for (size_t j = 0; j < i && front[i]; j++) {
            const double *q = point + j * m;
            if (front[j] && (lm_dominates(q, p, m) || equal(q, p, m)))
                front[i] = false;
        }
        for (size_t j = 0; j < i && front[i]; j++)
            if (front[j] && lm_dominates(p, point + j * m, m))
                front[j] = false;
    }
}

/* With both objectives scaled to [0, 1] over the front its ends are (0, 1) and
 * (1, 0), and the distance from their line is |x + y - 1| up to a factor.    */
size_t lm_knee(const double *point, const bool *front, size_t n)
{
    double lo[2] = { INFINITY, INFINITY }, hi[2] = { -INFINITY, -INFINITY };
    double best = -1;
    size_t knee = n;

    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; front[i] && k < 2; k++) {
            lo[k] = fmin(lo[k], point[2 * i + k]);
            hi[k] = fmax(hi[k], point[2 * i + k]);
        }
    for (size_t i = 0; i < n; i++) {
        if (!front[i])
            continue;
        double sum = -1;
        for (size_t k = 0; k < 2; k++)
            sum += hi[k] > lo[k] ? (point[2 * i + k] - lo[k]) / (hi[k] - lo[k]) : 0.5;
        if (fabs(sum) > best) {
            best = fabs(sum);
            knee = i;
        }
    }
    return knee;
}

static int by_first(const void *a, const void *b)
{
    const double *x = a, *y = b;

    if (x[0] != y[0])
        return x[0] < y[0] ? -1 : 1;
    return (x[1] > y[1]) - (x[1] < y[1]);
}

/* Strips between one point's first objective and the reference's, each as high as
 * the second objective is lower than that of all points before it.            */
double lm_hypervolume(double *point, size_t n, const double reference[2])
{
    double area = 0, low = reference[1];

    qsort(point, n, 2 * sizeof *point, by_first);
    for (size_t i = 0; i < n; i++) {
        const double *p = point + 2 * i;

        if (!(p[0] < reference[0]) || !(p[1] < low))
            continue;
        area += (reference[0] - p[0]) * (low - p[1]);
        low = p[1];
    }
    return area;
}
