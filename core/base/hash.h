/* SPDX-License-Identifier: Apache-2.0 */
/* hash.h -- 64-bit hashes for keys and fingerprints (not for secrets). */
#ifndef LM_BASE_HASH_H
#define LM_BASE_HASH_H
#include <stddef.h>
#include <stdint.h>
uint64_t lm_hash(const void *p, size_t n, uint64_t seed);      /* well mixed */
uint64_t lm_hash_str(const char *s, uint64_t seed);            /* NULL is "" */
uint64_t lm_hash_u64(uint64_t v, uint64_t seed);
#endif
