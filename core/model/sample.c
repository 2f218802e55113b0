/* SPDX-License-Identifier: Apache-2.0 */
/* sample.c -- where calibration sequences start: the 32-bit Mersenne Twister
 * (Matsumoto and Nishimura 1998), so that other tools can draw the same sample. */
#include "model/stats.h"

enum { N = 624, M = 397 };

static void twist(uint32_t *s)
{
    for (int i = 0; i < N; i++) {
        uint32_t y = (s[i] & 0x80000000u) | (s[(i + 1) % N] & 0x7fffffffu);
        s[i] = s[(i + M) % N] ^ (y >> 1) ^ (y & 1 ? 0x9908b0dfu : 0);
    }
}

static uint32_t temper(uint32_t y)
{
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

void lm_sample_starts(uint32_t seed, int64_t n_tokens, int64_t length, int64_t n_seq,
                      int64_t *start)
{
    uint32_t s[N] = { seed };
    int64_t room = n_tokens - length - 1;
    for (uint32_t i = 1; i < N; i++)
        s[i] = 1812433253u * (s[i - 1] ^ (s[i - 1] >> 30)) + i;
    for (int64_t i = 0; i < n_seq; i++) {
        if (i % N == 0)
            twist(s);
        start[i] = room > 0 ? (int64_t)temper(s[i % N]) % room : 0;
    }
}
