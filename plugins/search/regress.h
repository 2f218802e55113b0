/* SPDX-License-Identifier: Apache-2.0 */
/* regress.h -- the two regressions of the plugin linas, on kernel matrices: ridge for
 * many penalties at once, and epsilon-insensitive support vectors with epsilon 0.
 * Matrices are row-major and symmetric.  No memory is allocated here.            */
#ifndef REGRESS_H
#define REGRESS_H
#include <stdbool.h>
#include <stddef.h>

/* K [n][n] <- K - row means - column means + mean, the kernel of centred features;
 * mean [n]: the row means of K before.                                           */
void regress_centre(double *k, size_t n, double *mean);

/* A = Q T Q^T: T has diagonal diag [n] and, beside it, off [n - 1]; A is overwritten
 * with what regress_turn() needs.  work: [n].                                    */
void regress_tridiagonal(double *a, size_t n, double *diag, double *off, double *work);
/* x [n] <- Q^T x. */
void regress_turn(const double *a, size_t n, double *x);
/* u [n]: (T + alpha I) u = z; work: [n].  T + alpha I is positive definite. */
void regress_solve(const double *diag, const double *off, size_t n, double alpha,
                   const double *z, double *u, double *work);

/* Least of beta^T K beta / 2 - y^T beta over -c <= beta <= c, sum beta = 0. */
struct svr {
    const double *k;                    /* [n][n], its diagonal 1               */
    const double *y;                    /* [n]                                  */
    size_t  n;
    double  c;
    double *beta;                       /* [n]: starting point, then solution   */
    double *rest;                       /* [n]: y - K beta                      */
    double  b;                          /* prediction: sum beta_i k_i + b       */
    bool    inside;                     /* no beta is at c: more c changes nothing */
};
/* beta = 0. */
void svr_start(struct svr *s);
/* From beta, within the box of c, until optimality is violated by at most 1e-3. */
void svr_solve(struct svr *s);
#endif
