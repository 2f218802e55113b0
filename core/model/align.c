/* SPDX-License-Identifier: Apache-2.0 */
/* align.c -- HSIC without bias (Song et al. 2012, eq. 5), for kernels K and L of
 * n rows with diagonals of 0:
 *
 *   1 / (n (n-3)) [ tr K L + (1'K1)(1'L1) / ((n-1)(n-2)) - 2 / (n-2) 1'K L 1 ]
 *
 * It does not change when rows are shifted, so they are centred before their
 * products are taken in f32: hidden states have a few large common columns, in
 * whose squares the rest would drown.                                        */
#include "model/align.h"

#include "base/linalg.h"

void lm_align_kernel(const float *x, int64_t n, int64_t d, float *scratch, float *k)
{
    for (int64_t j = 0; j < d; j++) {
        double mean = 0;

        for (int64_t i = 0; i < n; i++)
            mean += (double)x[i * d + j];
        mean /= (double)n;
        for (int64_t i = 0; i < n; i++)
            scratch[i * d + j] = (float)((double)x[i * d + j] - mean);
    }
    lm_gemm('n', 't', n, n, d, 1, scratch, d, scratch, d, 0, k, n);
    for (int64_t i = 0; i < n; i++)
        k[i * n + i] = 0;
}

double lm_align_hsic(const float *k, const float *l, int64_t n)
{
    double trace = 0, both = 0, all_k = 0, all_l = 0, m = (double)n;

    for (int64_t i = 0; i < n; i++, k += n, l += n) {
        double row_k = 0, row_l = 0;

        for (int64_t j = 0; j < n; j++) {
            trace += (double)k[j] * (double)l[j];
            row_k += (double)k[j];
            row_l += (double)l[j];
        }
        both += row_k * row_l;
        all_k += row_k;
        all_l += row_l;
    }
    return (trace + all_k * all_l / ((m - 1) * (m - 2)) - 2 / (m - 2) * both)
        / (m * (m - 3));
}
