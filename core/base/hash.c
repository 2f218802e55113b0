/* SPDX-License-Identifier: Apache-2.0 */
/* hash.c -- a 64-bit hash by folded multiplication.
 *
 * Two lanes each take 16 bytes a step: the 128-bit product of two (data xor
 * state) words, its halves xored.  Two lanes because the multiplication's
 * latency, not its rate, limits one; models of gigabytes are hashed with this.
 * Bytes are read as little-endian words on every machine, so values may be
 * stored.  The constants are the bits of the fractional parts of square roots of
 * small primes.                                                             */
#include "base/hash.h"

#include <string.h>

static const uint64_t K0 = UINT64_C(0x6a09e667f3bcc909);    /* sqrt 2 */
static const uint64_t K1 = UINT64_C(0xbb67ae8584caa73b);    /* sqrt 3 */
static const uint64_t K2 = UINT64_C(0x3c6ef372fe94f82b);    /* sqrt 5 */
static const uint64_t K3 = UINT64_C(0xa54ff53a5f1d36f1);    /* sqrt 7 */

static uint64_t fold(uint64_t a, uint64_t b)
{
    __extension__ unsigned __int128 p = (unsigned __int128)a * b;
    return (uint64_t)p ^ (uint64_t)(p >> 64);
}

static uint64_t load(const unsigned char *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v;
}

/* Stafford's variant 13 of the MurmurHash3 finaliser: a bijection. */
static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t lm_hash(const void *data, size_t n, uint64_t seed)
{
    const unsigned char *p = data;
    uint64_t a = mix(seed ^ K0), b = mix(seed ^ K1);
    size_t left = n;
    for (; left >= 32; left -= 32, p += 32) {
        a = fold(load(p) ^ a, load(p + 8) ^ K2) + b;
        b = fold(load(p + 16) ^ b, load(p + 24) ^ K3) + a;
    }
    unsigned char tail[32] = { 0 };
    if (left > 0) {
        memcpy(tail, p, left);
        a = fold(load(tail) ^ a, load(tail + 8) ^ K2) + b;
        b = fold(load(tail + 16) ^ b, load(tail + 24) ^ K3) + a;
    }
    /* The length tells trailing zeroes from the padding. */
    return mix(fold(a ^ K1, b ^ (uint64_t)n) ^ mix(a + (uint64_t)n) ^ b);
}

uint64_t lm_hash_str(const char *s, uint64_t seed)
{
    return s == NULL ? lm_hash("", 0, seed) : lm_hash(s, strlen(s), seed);
}

uint64_t lm_hash_u64(uint64_t v, uint64_t seed)
{
    return mix(mix(seed + K2) ^ (v + K0));
}
