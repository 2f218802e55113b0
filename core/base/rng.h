/* SPDX-License-Identifier: Apache-2.0 */
/* rng.h -- random streams named by (seed, purpose, index), the same everywhere. */
#ifndef LM_BASE_RNG_H
#define LM_BASE_RNG_H
#include <stdint.h>
struct lm_rng { uint64_t s; };                  /* splitmix64 */
uint64_t lm_seed(uint64_t seed, const char *purpose, uint64_t index);
struct lm_rng lm_rng(uint64_t seed, const char *purpose, uint64_t index);
uint64_t lm_rng_u64(struct lm_rng *r);
double   lm_rng_unit(struct lm_rng *r);                     /* [0, 1)        */
uint64_t lm_rng_below(struct lm_rng *r, uint64_t n);        /* 0..n-1, exact */
#endif
