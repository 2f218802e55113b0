/* SPDX-License-Identifier: Apache-2.0 */
/* codec_k.c -- number formats that are read and never written: the 5-bit and
 * the "K" formats of ggml and its table of 16 values.  People have such files;
 * what is cut from them leaves in a format of codec.c.
 *
 * Blocks of 32 values, d and m in f16:
 *   q5_0    d, 32 high bits, 16 bytes       x = d (q - 16)
 *   q5_1    d, m, 32 high bits, 16 bytes    x = d q + m
 *   iq4_nl  d, 16 bytes                     x = d level[q]
 *
 * Blocks of 256 values in groups, each with a small integer scale s (and
 * minimum m) below the block's d (and dmin):
 *   q2_k    16 groups: s, m 4 bits     x = (d s) q - (dmin m)     84 bytes
 *   q3_k    16 groups: s 6 bits - 32   x = (d s) (q - 4)          110
 *   q4_k     8 groups: s, m 6 bits     x = (d s) q - (dmin m)     144
 *   q5_k     8 groups: s, m 6 bits     x = (d s) q - (dmin m)     176
 *   q6_k    16 groups: s int8          x = (d s) (q - 32)         210
 *
 * Products are rounded in the order of the brackets, as in ggml, so that values
 * are those of other readers bit for bit.  2-bit quarters of a byte belong to
 * values 32 apart, and so do the halves of a byte.                            */
#include <string.h>

#include "model/codec.h"
#include "model/codec_k.h"

enum { BLOCK = 32, SUPER = 256, N_SCALE = 12 };

static inline float load_half(const unsigned char *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return lm_half_to_float(h);
}

static inline uint32_t load_32(const unsigned char *p)
{
    uint32_t u;
    memcpy(&u, p, sizeof u);
    return u;
}

/* value j of a block of 5-bit numbers */
static inline int five(const uint8_t *q, uint32_t high, int j)
{
    int low = j < BLOCK / 2 ? q[j] & 15 : q[j - BLOCK / 2] >> 4;
    return low | (int)(high >> j & 1) << 4;
}

void lm_decode_q5_0(const void *in, float *restrict out, int64_t cols)
{
    const unsigned char *p = in;
    for (int64_t i = 0; i < cols; i += BLOCK, p += 6 + BLOCK / 2) {
        float d = load_half(p);
        uint32_t high = load_32(p + 2);
        uint8_t q[BLOCK / 2];
        memcpy(q, p + 6, sizeof q);
        for (int j = 0; j < BLOCK; j++)
            out[i + j] = d * (float)(five(q, high, j) - 16);
    }
}

void lm_decode_q5_1(const void *in, float *restrict out, int64_t cols)
{
    const unsigned char *p = in;
    for (int64_t i = 0; i < cols; i += BLOCK, p += 8 + BLOCK / 2) {
        float d = load_half(p), m = load_half(p + 2);
        uint32_t high = load_32(p + 4);
        uint8_t q[BLOCK / 2];
        memcpy(q, p + 8, sizeof q);
        for (int j = 0; j < BLOCK; j++)
            out[i + j] = d * (float)five(q, high, j) + m;
    }
}

void lm_decode_iq4_nl(const void *in, float *restrict out, int64_t cols)
{
    static const float level[16] = { -127, -104, -83, -65, -49, -35, -22, -10,
                                     1, 13, 25, 38, 53, 69, 89, 113 };
    const unsigned char *p = in;
    for (int64_t i = 0; i < cols; i += BLOCK, p += 2 + BLOCK / 2) {
        float d = load_half(p);
        for (int j = 0; j < BLOCK / 2; j++) {
            out[i + j] = d * level[p[2 + j] & 15];
            out[i + BLOCK / 2 + j] = d * level[p[2 + j] >> 4];
        }
    }
}

/* Of the formats with 2 low bits: 32 values of quarter k of 32 bytes, two
 * groups of 16.                                                               */
void lm_decode_q2_k(const void *in, float *restrict out, int64_t cols)
{
    const unsigned char *p = in;
    for (int64_t i = 0; i < cols; i += SUPER, p += 84) {
        uint8_t scale[16], q[64];
        float d = load_half(p + 80), dmin = load_half(p + 82);
        memcpy(scale, p, sizeof scale);
        memcpy(q, p + 16, sizeof q);
        for (int g = 0; g < 16; g++) {
            float s = d * (float)(scale[g] & 15), m = dmin * (float)(scale[g] >> 4);
            const uint8_t *from = q + g / 8 * 32 + g % 2 * 16;
            float *x = out + i + g * 16;
            int shift = g % 8 / 2 * 2;
            for (int j = 0; j < 16; j++)
                x[j] = s * (float)(from[j] >> shift & 3) - m;
        }
    }
}

/* The high bit of value j of the g-th 32 is bit g of byte j of the mask; set
 * means 4 more.  Scale i: 4 low bits in byte i % 8, 2 high ones in 8 + i % 4. */
void lm_decode_q3_k(const void *in, float *restrict out, int64_t cols)
{
    const unsigned char *p = in;
    for (int64_t i = 0; i < cols; i += SUPER, p += 110) {
        uint8_t mask[32], q[64], packed[N_SCALE];
        float d = load_half(p + 108);
        memcpy(mask, p, sizeof mask);
        memcpy(q, p + 32, sizeof q);
        memcpy(packed, p + 96, sizeof packed);
        for (int g = 0; g < 16; g++) {
            int low = packed[g % 8] >> g / 8 * 4 & 15;
            int high = packed[8 + g % 4] >> g / 4 * 2 & 3;
            float s = d * (float)((low | high << 4) - 32), *x = out + i + g * 16;
            const uint8_t *from = q + g / 8 * 32 + g % 2 * 16;
            const uint8_t *more = mask + g % 2 * 16;
            int shift = g % 8 / 2 * 2, bit = g / 2;
            for (int j = 0; j < 16; j++)
                x[j] = s * (float)((from[j] >> shift & 3)
                                   + (more[j] >> bit & 1) * 4 - 4);
        }
    }
}

/* 8 scales and 8 minima of 6 bits in 12 bytes: the first four of each lie in
 * the low bits of bytes 0-3 and 4-7; of the others the low halves lie in bytes
 * 8-11, the high bits above the first four.                                   */
static void unpack(const unsigned char *p, uint8_t scale[8], uint8_t least[8])
{
    for (int g = 0; g < 4; g++) {
        scale[g] = p[g] & 63;
        least[g] = p[g + 4] & 63;
        scale[g + 4] = (uint8_t)((p[g + 8] & 15) | p[g] >> 6 << 4);
        least[g + 4] = (uint8_t)(p[g + 8] >> 4 | p[g + 4] >> 6 << 4);
    }
}

void lm_decode_q4_k(const void *in, float *restrict out, int64_t cols)
{
    const unsigned char *p = in;
    for (int64_t i = 0; i < cols; i += SUPER, p += 144) {
        uint8_t scale[8], least[8], q[128];
        float d = load_half(p), dmin = load_half(p + 2);
        unpack(p + 4, scale, least);
        memcpy(q, p + 16, sizeof q);
        for (int g = 0; g < 8; g++) {
            float s = d * (float)scale[g], m = dmin * (float)least[g];
            float *x = out + i + g * 32;
            const uint8_t *from = q + g / 2 * 32;
            int shift = g % 2 * 4;
            for (int j = 0; j < 32; j++)
                x[j] = s * (float)(from[j] >> shift & 15) - m;
        }
    }
}

void lm_decode_q5_k(const void *in, float *restrict out, int64_t cols)
{
    const unsigned char *p = in;
    for (int64_t i = 0; i < cols; i += SUPER, p += 176) {
        uint8_t scale[8], least[8], high[32], q[128];
        float d = load_half(p), dmin = load_half(p + 2);
        unpack(p + 4, scale, least);
        memcpy(high, p + 16, sizeof high);
        memcpy(q, p + 48, sizeof q);
        for (int g = 0; g < 8; g++) {
            float s = d * (float)scale[g], m = dmin * (float)least[g];
            float *x = out + i + g * 32;
            const uint8_t *from = q + g / 2 * 32;
            int shift = g % 2 * 4;
            for (int j = 0; j < 32; j++)
                x[j] = s * (float)((from[j] >> shift & 15) | (high[j] >> g & 1) << 4)
                     - m;
        }
    }
}

/* Of each 128 values: low halves of 64 bytes, then the high halves; the 2 high
 * bits in the quarters of 32 bytes.                                           */
void lm_decode_q6_k(const void *in, float *restrict out, int64_t cols)
{
    const unsigned char *p = in;
    for (int64_t i = 0; i < cols; i += SUPER, p += 210) {
        uint8_t low[128], high[64];
        int8_t scale[16];
        float d = load_half(p + 208);
        memcpy(low, p, sizeof low);
        memcpy(high, p + 128, sizeof high);
        memcpy(scale, p + 192, sizeof scale);
        for (int g = 0; g < 16; g++) {
            float s = d * (float)scale[g], *x = out + i + g * 16;
            const uint8_t *from = low + g / 8 * 64 + g % 4 * 16;
            const uint8_t *more = high + g / 8 * 32 + g % 2 * 16;
            int shift = g % 8 / 4 * 4, quarter = g % 8 / 2 * 2;
            for (int j = 0; j < 16; j++)
                x[j] = s * (float)(((from[j] >> shift & 15)
                                    | (more[j] >> quarter & 3) << 4) - 32);
        }
    }
}
