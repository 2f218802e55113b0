/* SPDX-License-Identifier: Apache-2.0 */
/* parzen.c -- see parzen.h.
 *
 * All observations of a table have one width, so that a table is the histogram folded
 * with one kernel, whatever the number of observations: O(cells^2).  The width is the
 * rule of the normal distribution (Silverman 1986, 1.06 sd n^-1/5), at least the n-th
 * part of the range, 100 at most: the lower limit of Bergstra et al. 2011, without which
 * observations that agree would never be left.                                  */
#include "parzen.h"

#include <math.h>

double parzen_width(const double *count, size_t n)
{
    double total = 0, mean = 0, square = 0;

    for (size_t i = 0; i < n; i++) {
        total += count[i];
        mean += count[i] * (double)i;
    }
    mean /= fmax(total, 1);
    for (size_t i = 0; i < n; i++)
        square += count[i] * ((double)i - mean) * ((double)i - mean);
    return fmax(1.06 * sqrt(square / fmax(total, 1)) * pow(fmax(total, 1), -0.2),
                (double)n / (1 + fmin(100, total)));
}

void parzen_table(const double *count, size_t n, double prior, bool ordered, double *p,
                  double *kernel)
{
    double width = ordered ? parzen_width(count, n) : 0, total = prior;

    for (size_t i = 0; i < n; i++) {
        total += count[i];
        p[i] = prior / (double)n + (ordered ? 0 : count[i]);
    }
    if (ordered) {
        for (size_t d = 0; d < n; d++)
            kernel[d] = exp(-0.5 * (double)(d * d) / (width * width));
        for (size_t c = 0; c < n; c++) {
            double sum = 0, weight;
            if (count[c] == 0)
                continue;
            for (size_t i = 0; i < n; i++)
                sum += kernel[i < c ? c - i : i - c];
            weight = count[c] / sum;
            for (size_t i = 0; i < n; i++)
                p[i] += weight * kernel[i < c ? c - i : i - c];
        }
    }
    for (size_t i = 0; i < n; i++)
        p[i] /= total;
}

size_t parzen_draw(const double *p, size_t n, double u)
{
    size_t i = 0;

    while (i + 1 < n && u >= p[i])
        u -= p[i++];
    return i;
}

double parzen_share(double in, double n, double prior)
{
    return (in + prior / 2) / (n + prior);
}
