/* SPDX-License-Identifier: Apache-2.0 */
/* ridge.h -- what repairs that solve with a damped Gram matrix have in common.
 *
 * The matrix is G + (d + shift) I with G_ij = (H_ij - N mu_i mu_j) s_i s_j: the Gram
 * matrix H of the inputs, centred where there is a mean, in units of its own for each
 * column where there are scales.  d = lambda * average; where the factorization
 * fails, lambda grows tenfold up to 0.1.                                       */
#ifndef LM_REPAIR_RIDGE_H
#define LM_REPAIR_RIDGE_H
#include "plugin.h"

struct ridge {
    const struct lm_host *host;
    int64_t       k;
    const double *gram;                 /* [k][k] */
    const double *mean, *scale;         /* [k], or NULL */
    double        tokens;               /* N, with a mean */
    double        shift;
};

static inline enum lm_status ridge_no_memory(const struct lm_host *host, const char *who,
                                             struct lm_err *e)
{
    return host->fail(e, LM_ENOMEM, "out of memory for repair '%s'", who);
}

/* A number that is not finite anywhere shows in the sum. */
static inline bool ridge_sound(const double *v, int64_t n)
{
    double s = 0;

    for (int64_t i = 0; i < n; i++)
        s += 0 * v[i];
    return s == 0;
}

static inline double ridge_element(const struct ridge *r, int64_t i, int64_t j)
{
    double g = r->gram[i * r->k + j];

    g = r->mean ? g - r->tokens * r->mean[i] * r->mean[j] : g;
    return r->scale ? g * r->scale[i] * r->scale[j] : g;
}

/* The lower triangle of l [k][k] becomes the Cholesky factor, with the least
 * lambda >= *lambda that is enough, which it is set to.                       */
static inline enum lm_status ridge_factor(const struct ridge *r, double average,
                                          double *lambda, double *l, struct lm_err *e)
{
    for (;;) {
        double d = *lambda * average + r->shift;

        for (int64_t i = 0; i < r->k; i++)
            for (int64_t j = 0; j <= i; j++)
                l[i * r->k + j] = ridge_element(r, i, j) + (i == j ? d : 0);
        enum lm_status st = r->host->cholesky(l, r->k, r->k, e);
        if (st != LM_EFAILED || *lambda >= 0.1)
            return st;
        *lambda = *lambda > 0 ? 10 * *lambda : 1e-8;
        *lambda = *lambda > 0.1 ? 0.1 : *lambda;
    }
}

static inline enum lm_status ridge_check_statistics(const struct lm_host *host,
                                                    bool sound, struct lm_err *e)
{
    return sound ? LM_OK
        : host->fail(e, LM_EFAILED, "the calibration statistics hold a value that is not "
                     "finite; is the model damaged?");
}

static inline enum lm_status ridge_check_width(const struct lm_host *host, int64_t m,
                                               int64_t k, struct lm_err *e)
{
    return m >= 1 && m <= k ? LM_OK
        : host->fail(e, LM_EBUG, "repair to %lld of %lld columns", (long long)m,
                     (long long)k);
}
#endif
