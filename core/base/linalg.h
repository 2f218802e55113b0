/* SPDX-License-Identifier: Apache-2.0 */
/* linalg.h -- BLAS and LAPACK, confined to linalg.c.  One thread for each
 * call unless lm_linalg_threads() says otherwise.  Row-major.               */
#ifndef LM_BASE_LINALG_H
#define LM_BASE_LINALG_H
#include "base/err.h"
const char *lm_linalg_core(void);           /* e.g. "Cooperlake", for reports */
const char *lm_linalg_config(void);         /* the library: version, options  */
void lm_linalg_threads(int n);              /* [main], nothing else running   */
void lm_gemm(char ta, char tb, int64_t m, int64_t n, int64_t k, float alpha,
             const float *a, int64_t lda, const float *b, int64_t ldb,
             float beta, float *c, int64_t ldc);
void lm_gemm64(char ta, char tb, int64_t m, int64_t n, int64_t k, double alpha,
               const double *a, int64_t lda, const double *b, int64_t ldb,
               double beta, double *c, int64_t ldc);
void lm_gemv(char ta, int64_t m, int64_t n, float alpha, const float *a,
             int64_t lda, const float *x, float beta, float *y);
/* C [n][n] (lower) = A^T A + beta C for A [m][n] */
void lm_syrk(int64_t m, int64_t n, const float *a, int64_t lda, float beta, float *c,
             int64_t ldc);
enum lm_status lm_cholesky(double *a, int64_t n, int64_t lda, struct lm_err *e);
/* Symmetric a [n][n]: value [n] falling; row i of a becomes the eigenvector of value[i] */
enum lm_status lm_eigen(double *a, int64_t n, double *value, struct lm_err *e);
void lm_cholesky_solve(const double *l, int64_t n, int64_t ldl, double *x, int64_t m,
                       int64_t ldx);
#endif
