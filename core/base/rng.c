/* SPDX-License-Identifier: Apache-2.0 */
/* rng.c -- splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number
 * generators", OOPSLA 2014): state += golden ratio; output = mix(state).  A
 * stream for each (seed, purpose, index) is a hashed start of the sequence.  */
#include "base/rng.h"

#include "base/hash.h"

uint64_t lm_seed(uint64_t seed, const char *purpose, uint64_t index)
{
    return lm_hash_u64(index, lm_hash_str(purpose, seed));
}

struct lm_rng lm_rng(uint64_t seed, const char *purpose, uint64_t index)
{
    return (struct lm_rng){ lm_seed(seed, purpose, index) };
}

uint64_t lm_rng_u64(struct lm_rng *r)
{
    uint64_t z = r->s += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

double lm_rng_unit(struct lm_rng *r)
{
    return (double)(lm_rng_u64(r) >> 11) * 0x1p-53;
}

/* 2^64 mod n values at the bottom would make small results likelier: refused. */
uint64_t lm_rng_below(struct lm_rng *r, uint64_t n)
{
    if (n < 2)
        return 0;
    uint64_t least = (0 - n) % n, v;
    do
        v = lm_rng_u64(r);
    while (v < least);
    return v % n;
}
