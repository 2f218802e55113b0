/* SPDX-License-Identifier: Apache-2.0 */
/* align.h -- how alike two sets of n rows lie, whatever turns or shifts them:
 * kernels of rows and the Hilbert-Schmidt independence criterion of two.     */
#ifndef LM_MODEL_ALIGN_H
#define LM_MODEL_ALIGN_H
#include <stdint.h>

enum { LM_ALIGN_LEAST = 4 };            /* rows that an estimate needs */

/* k [n][n] = C C^T with a diagonal of 0, C: the rows x [n][d] less their mean.
 * scratch [n][d].                                                     [any] */
void lm_align_kernel(const float *x, int64_t n, int64_t d, float *scratch, float *k);
/* Unbiased HSIC of two such kernels; n >= LM_ALIGN_LEAST.              [any] */
double lm_align_hsic(const float *k, const float *l, int64_t n);
#endif
