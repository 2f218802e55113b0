/* SPDX-License-Identifier: Apache-2.0 */
/* linalg.c -- the only file that knows BLAS and LAPACK (OpenBLAS).
 *
 * OpenBLAS would spread one product over all cores; here threads take whole
 * tiles, sequences or candidates, so each call gets one thread, which also
 * makes its result independent of the number of threads.  Dimensions are int
 * in BLAS; those of models are far below (2^31 columns is no model).         */
#include "base/linalg.h"

#include <cblas.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>

#include "base/mem.h"

/* LAPACK by its Fortran name, as not every package has lapacke.h. */
void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info);
void dsyevd_(const char *jobz, const char *uplo, const int *n, double *a, const int *lda,
             double *w, double *work, const int *lwork, int *iwork, const int *liwork,
             int *info);

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void one_thread(void)
{
    openblas_set_num_threads(1);
}

static void init(void)
{
    pthread_once(&once, one_thread);
}

const char *lm_linalg_core(void)
{
    return openblas_get_corename();
}

const char *lm_linalg_config(void)
{
    return openblas_get_config();
}

void lm_linalg_threads(int n)
{
    init();
    openblas_set_num_threads(n > 0 ? n : 1);
}

static CBLAS_TRANSPOSE trans(char t)
{
    return t == 't' || t == 'T' ? CblasTrans : CblasNoTrans;
}

/* One row of C, or one column: beyond its small-matrix kernels OpenBLAS 0.3.21
 * packs whole panels for them in sgemm, which costs three to ten times the
 * matrix-vector product; below, the two are equally fast.                    */
static void vector_product(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k,
                           float alpha, const float *a, int lda, const float *b,
                           int ldb, float beta, float *c, int ldc)
{
    if (m == 1) {
        int inc = ta == CblasNoTrans ? 1 : lda;
        if (tb == CblasNoTrans)         /* B [k][n] */
            cblas_sgemv(CblasRowMajor, CblasTrans, k, n, alpha, b, ldb, a, inc, beta,
                        c, 1);
        else                            /* B [n][k] */
            cblas_sgemv(CblasRowMajor, CblasNoTrans, n, k, alpha, b, ldb, a, inc, beta,
                        c, 1);
        return;
    }
    int inc = tb == CblasNoTrans ? ldb : 1;
    if (ta == CblasNoTrans)             /* A [m][k] */
        cblas_sgemv(CblasRowMajor, CblasNoTrans, m, k, alpha, a, lda, b, inc, beta, c,
                    ldc);
    else                                /* A [k][m] */
        cblas_sgemv(CblasRowMajor, CblasTrans, k, m, alpha, a, lda, b, inc, beta, c,
                    ldc);
}

void lm_gemm(char ta, char tb, int64_t m, int64_t n, int64_t k, float alpha,
             const float *a, int64_t lda, const float *b, int64_t ldb, float beta,
             float *c, int64_t ldc)
{
    init();
    if (m <= 0 || n <= 0)
        return;
    if (k <= 0) {                       /* BLAS complains about ld = 0 */
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++)
                c[i * ldc + j] = beta == 0 ? 0 : beta * c[i * ldc + j];
        return;
    }
    if (m == 1 || n == 1)
        vector_product(trans(ta), trans(tb), (int)m, (int)n, (int)k, alpha, a, (int)lda,
                       b, (int)ldb, beta, c, (int)ldc);
    else
        cblas_sgemm(CblasRowMajor, trans(ta), trans(tb), (int)m, (int)n, (int)k, alpha,
                    a, (int)lda, b, (int)ldb, beta, c, (int)ldc);
}

void lm_gemm64(char ta, char tb, int64_t m, int64_t n, int64_t k, double alpha,
               const double *a, int64_t lda, const double *b, int64_t ldb, double beta,
               double *c, int64_t ldc)
{
    init();
    if (m <= 0 || n <= 0)
        return;
    if (k <= 0) {
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++)
                c[i * ldc + j] = beta == 0 ? 0 : beta * c[i * ldc + j];
        return;
    }
    cblas_dgemm(CblasRowMajor, trans(ta), trans(tb), (int)m, (int)n, (int)k, alpha, a,
                (int)lda, b, (int)ldb, beta, c, (int)ldc);
}

void lm_gemv(char ta, int64_t m, int64_t n, float alpha, const float *a, int64_t lda,
             const float *x, float beta, float *y)
{
    init();
    int64_t out = trans(ta) == CblasTrans ? n : m, in = trans(ta) == CblasTrans ? m : n;
    if (out <= 0)
        return;
    if (in <= 0) {
        for (int64_t i = 0; i < out; i++)
            y[i] = beta == 0 ? 0 : beta * y[i];
        return;
    }
    cblas_sgemv(CblasRowMajor, trans(ta), (int)m, (int)n, alpha, a, (int)lda, x, 1, beta,
                y, 1);
}

void lm_syrk(int64_t m, int64_t n, const float *a, int64_t lda, float beta, float *c,
             int64_t ldc)
{
    init();
    if (n <= 0)
        return;
    if (m <= 0) {
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j <= i; j++)
                c[i * ldc + j] = beta == 0 ? 0 : beta * c[i * ldc + j];
        return;
    }
    cblas_ssyrk(CblasRowMajor, CblasLower, CblasTrans, (int)n, (int)m, 1, a, (int)lda,
                beta, c, (int)ldc);
}

/* A row-major lower triangle is a column-major upper one, and U^T U = L L^T. */
enum lm_status lm_cholesky(double *a, int64_t n, int64_t lda, struct lm_err *e)
{
    init();
    if (n <= 0)
        return LM_OK;
    if (n > INT_MAX || lda > INT_MAX || lda < n)
        return lm_fail(e, LM_EBUG, "Cholesky factorization of order %lld with row "
                       "length %lld is not possible", (long long)n, (long long)lda);
    int order = (int)n, ld = (int)lda, info = 0;
    dpotrf_("U", &order, a, &ld, &info);
    /* Comparisons with NaN let it pass the test for positive pivots. */
    for (int64_t i = 0; info == 0 && i < n; i++)
        if (!(a[i * lda + i] > 0) || !isfinite(a[i * lda + i]))
            info = (int)i + 1;
    if (info != 0)
        return lm_fail(e, LM_EFAILED, "matrix of order %d is not positive definite "
                       "(pivot %d)", order, info);
    return LM_OK;
}

/* LAPACK's values rise; rows here are its columns. */
static void reverse(double *a, int64_t n, double *value)
{
    for (int64_t i = 0; i < n / 2; i++) {
        double *x = a + i * n, *y = a + (n - 1 - i) * n, v = value[i];

        value[i] = value[n - 1 - i];
        value[n - 1 - i] = v;
        for (int64_t j = 0; j < n; j++) {
            v = x[j];
            x[j] = y[j];
            y[j] = v;
        }
    }
}

enum lm_status lm_eigen(double *a, int64_t n, double *value, struct lm_err *e)
{
    int order = (int)n, info = 0, n_work, n_iwork;
    double *work;
    size_t bytes;

    init();
    if (n <= 0)
        return LM_OK;
    if (n > 16384)                      /* its work space is counted in ints */
        return lm_fail(e, LM_EBUG, "eigenvectors of order %lld are not possible",
                       (long long)n);
    for (int64_t i = 0; i < n * n; i++)
        if (!isfinite(a[i]))
            return lm_fail(e, LM_EFAILED, "a matrix of order %d has a value that is not "
                           "finite, so it has no eigenvectors", order);
    n_work = 1 + 6 * order + 2 * order * order;     /* what dsyevd asks for */
    n_iwork = 3 + 5 * order;
    bytes = (size_t)n_work * sizeof *work + (size_t)n_iwork * sizeof(int);
    if (!(work = lm_alloc(bytes, "eigenvectors")))
        return lm_fail_memory(e, bytes, "eigenvectors");
    dsyevd_("V", "U", &order, a, &order, value, work, &n_work, (int *)(work + n_work),
            &n_iwork, &info);
    lm_release(work);
    if (info)
        return lm_fail(e, LM_EFAILED, "the eigenvectors of a matrix of order %d were not "
                       "found (%d)", order, info);
    reverse(a, n, value);
    return LM_OK;
}

void lm_cholesky_solve(const double *l, int64_t n, int64_t ldl, double *x, int64_t m,
                       int64_t ldx)
{
    init();
    if (n <= 0 || m <= 0)
        return;
    /* X (L L^T)^-1 = (X L^-T) L^-1 */
    cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit, (int)m,
                (int)n, 1, l, (int)ldl, x, (int)ldx);
    cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasNoTrans, CblasNonUnit,
                (int)m, (int)n, 1, l, (int)ldl, x, (int)ldx);
}
