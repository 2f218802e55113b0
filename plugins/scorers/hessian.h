/* SPDX-License-Identifier: Apache-2.0 */
/* hessian.h -- the inverse of a damped matrix of second moments, for scorers that ask
 * what an input is worth beside the others.  Header-only, so that each scorer stays a
 * module of one file.                                                           */
#ifndef LM_SCORERS_HESSIAN_H
#define LM_SCORERS_HESSIAN_H
#include <string.h>

#include "plugin.h"

/* Second moments [k][k] of the inputs of a matrix with k columns. */
static inline enum lm_status hessian_find(const struct lm_host *host,
                                          const struct lm_stats *stats, uint32_t stat,
                                          uint32_t site, int32_t layer, int64_t k,
                                          const double **out, struct lm_err *e)
{
    int64_t n;
    enum lm_status st = host->stat(stats, stat, site, layer, out, &n, e);

    return st || n == k * k ? st
        : host->fail(e, LM_EBUG, "layer %d: statistics have %lld numbers, the matrix has "
                     "%lld columns", layer, (long long)n, (long long)k);
}

/* inv [k][k]: inverse of h [k][k] + damp * (its mean diagonal) * I; damp grows tenfold,
 * up to `most`, until there is one.  tag: the scorer, for messages.              */
static inline enum lm_status hessian_inverse(const struct lm_host *host, const char *tag,
                                             const double *h, int64_t k, double damp,
                                             double most, double *inv, struct lm_err *e)
{
    size_t bytes = (size_t)k * (size_t)k * sizeof(double);
    double mean = 0, *l = host->alloc(bytes, tag);
    enum lm_status st;

    if (!l)
        return host->fail(e, LM_ENOMEM, "out of memory for scorer '%s'", tag);
    for (int64_t i = 0; i < k; i++)
        mean += h[i * k + i] / (double)k;
    mean = mean > 0 ? mean : 1;
    do {
        memcpy(l, h, bytes);
        for (int64_t i = 0; i < k; i++)
            l[i * k + i] += damp * mean;
        st = host->cholesky(l, k, k, e);
        damp *= 10;
    } while (st == LM_EFAILED && damp <= most);
    if (!st) {
        memset(inv, 0, bytes);
        for (int64_t i = 0; i < k; i++)
            inv[i * k + i] = 1;
        host->cholesky_solve(l, k, k, inv, k, k);
    }
    host->release(l);
    return st;
}
#endif
