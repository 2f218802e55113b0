/* SPDX-License-Identifier: Apache-2.0 */
/* codec.c -- number formats: rows of floats to and from their bytes.
 *
 * The layouts are ggml's, so that what is written here is read elsewhere bit
 * for bit.  A block format packs 32 values x[0..31] with a scale d:
 *
 *   q8_0  f16 d, int8 q[32]            x = d q
 *   q4_0  f16 d, 16 bytes              x = d (q - 8)
 *   q4_1  f16 d, f16 m, 16 bytes       x = d q + m
 *
 * Byte j of the 4-bit formats holds value j in its low and value j + 16 in its
 * high half.  Encoders divide by the scale before it is rounded to f16, as
 * ggml's reference encoders do; data that lies on a format's lattice comes back
 * unchanged.
 *
 * Formats of codec_k.c are read and never written: their encode is NULL.
 *
 * Inner loops have a constant length and touch a local copy of the input: the
 * data may be unaligned, and compilers vectorise such loops at -O2 already.   */
#include <math.h>
#include <string.h>

#include "model/codec.h"
#include "model/codec_k.h"

#if defined __BYTE_ORDER__ && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
# error "tensors are little-endian; this machine is not"
#endif

enum { BLOCK = 32, GROUP = 32 };

static inline float from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint32_t to_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

/* Exponent and fraction moved into a float are the value times 2^-112, for
 * subnormal halves too; the product is exact.  Exponent 31 becomes 255.       */
static inline float half_to_float(uint16_t h)
{
    uint32_t magnitude = h & 0x7fffu;
    uint32_t u = to_bits(from_bits(magnitude << 13) * 0x1p112f);
    u |= magnitude >= 0x7c00u ? 0x7f800000u : 0;
    return from_bits(u | (uint32_t)(h & 0x8000u) << 16);
}

/* Round to nearest even.  Below 2^-14 the result is subnormal: adding 1/2, in
 * whose binade floats are 2^-24 apart, rounds to a multiple of 2^-24.         */
static inline uint16_t float_to_half(float f)
{
    uint32_t u = to_bits(f), a = u & 0x7fffffffu;
    uint32_t normal = (a + 0xfffu + (a >> 13 & 1u) - (112u << 23)) >> 13;
    uint32_t small = to_bits(from_bits(a) + 0.5f) - 0x3f000000u;
    uint32_t h = a < 0x38800000u ? small : normal;
    h = a >= 0x477ff000u ? 0x7c00u : h;
    h = a > 0x7f800000u ? 0x7e00u | (a >> 13 & 0x3ffu) : h;
    return (uint16_t)(u >> 16 & 0x8000u) | (uint16_t)h;
}

static inline uint16_t float_to_bf16(float f)
{
    uint32_t u = to_bits(f);
    uint32_t rounded = (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
    return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? u >> 16 | 0x40u : rounded);
}

float lm_half_to_float(uint16_t h)
{
    return half_to_float(h);
}

static void f32_decode(const void *in, float *out, int64_t cols)
{
    memcpy(out, in, (size_t)cols * sizeof *out);
}

static void f32_encode(const float *in, void *out, int64_t cols)
{
    memcpy(out, in, (size_t)cols * sizeof *in);
}

static void f16_decode(const void *in, float *out, int64_t cols)
{
    const unsigned char *p = in;
    uint16_t h[GROUP] = { 0 };
    int64_t i = 0;
    for (; i + GROUP <= cols; i += GROUP) {
        memcpy(h, p + 2 * i, sizeof h);
        for (int j = 0; j < GROUP; j++)
            out[i + j] = half_to_float(h[j]);
    }
    for (; i < cols; i++) {
        memcpy(h, p + 2 * i, sizeof *h);
        out[i] = half_to_float(*h);
    }
}

static void f16_encode(const float *in, void *out, int64_t cols)
{
    unsigned char *p = out;
    uint16_t h[GROUP];
    int64_t i = 0;
    for (; i + GROUP <= cols; i += GROUP) {
        for (int j = 0; j < GROUP; j++)
            h[j] = float_to_half(in[i + j]);
        memcpy(p + 2 * i, h, sizeof h);
    }
    for (; i < cols; i++) {
        *h = float_to_half(in[i]);
        memcpy(p + 2 * i, h, sizeof *h);
    }
}

static void bf16_decode(const void *in, float *out, int64_t cols)
{
    const unsigned char *p = in;
    uint16_t h[GROUP] = { 0 };
    int64_t i = 0;
    for (; i + GROUP <= cols; i += GROUP) {
        memcpy(h, p + 2 * i, sizeof h);
        for (int j = 0; j < GROUP; j++)
            out[i + j] = from_bits((uint32_t)h[j] << 16);
    }
    for (; i < cols; i++) {
        memcpy(h, p + 2 * i, sizeof *h);
        out[i] = from_bits((uint32_t)*h << 16);
    }
}

static void bf16_encode(const float *in, void *out, int64_t cols)
{
    unsigned char *p = out;
    uint16_t h[GROUP];
    int64_t i = 0;
    for (; i + GROUP <= cols; i += GROUP) {
        for (int j = 0; j < GROUP; j++)
            h[j] = float_to_bf16(in[i + j]);
        memcpy(p + 2 * i, h, sizeof h);
    }
    for (; i < cols; i++) {
        *h = float_to_bf16(in[i]);
        memcpy(p + 2 * i, h, sizeof *h);
    }
}

/* Nearest integer, halves away from zero, within -127 .. 127; NaN is 127.
 * (int)(v + 0.5f) would round 0.49999997 up.                                  */
static inline int nearest(float v)
{
    v = !(v <= 127.0f) ? 127.0f : v < -127.0f ? -127.0f : v;
    int i = (int)v;
    float rest = v - (float)i;
    return i + (rest >= 0.5f) - (rest <= -0.5f);
}

/* Truncated and within 0 .. 15; NaN is 15. */
static inline unsigned nibble(float v)
{
    v = !(v <= 15.0f) ? 15.0f : v < 0.0f ? 0.0f : v;
    return (unsigned)(int)v;
}

static inline float load_half(const unsigned char *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return half_to_float(h);
}

static inline void store_half(unsigned char *p, float f)
{
    uint16_t h = float_to_half(f);
    memcpy(p, &h, sizeof h);
}

static void q8_0_decode(const void *in, float *restrict out, int64_t cols)
{
    const unsigned char *p = in;
    for (int64_t i = 0; i < cols; i += BLOCK, p += 2 + BLOCK) {
        float d = load_half(p);
        int8_t q[BLOCK];
        memcpy(q, p + 2, sizeof q);
        for (int j = 0; j < BLOCK; j++)
            out[i + j] = d * (float)q[j];
    }
}

static void q8_0_encode(const float *restrict in, void *out, int64_t cols)
{
    unsigned char *p = out;
    for (int64_t i = 0; i < cols; i += BLOCK, p += 2 + BLOCK) {
        float most = 0;
        for (int j = 0; j < BLOCK; j++)
            most = fabsf(in[i + j]) > most ? fabsf(in[i + j]) : most;
        float d = most / 127.0f, inverse = d != 0 ? 1.0f / d : 0;
        int8_t q[BLOCK];
        for (int j = 0; j < BLOCK; j++)
            q[j] = (int8_t)nearest(in[i + j] * inverse);
        store_half(p, d);
        memcpy(p + 2, q, sizeof q);
    }
}

static void q4_0_decode(const void *in, float *restrict out, int64_t cols)
{
    const unsigned char *p = in;
    for (int64_t i = 0; i < cols; i += BLOCK, p += 2 + BLOCK / 2) {
        float d = load_half(p);
        uint8_t q[BLOCK / 2];
        memcpy(q, p + 2, sizeof q);
        for (int j = 0; j < BLOCK / 2; j++)
            out[i + j] = d * (float)((q[j] & 15) - 8);
        for (int j = 0; j < BLOCK / 2; j++)
            out[i + BLOCK / 2 + j] = d * (float)((q[j] >> 4) - 8);
    }
}

/* The value of largest magnitude becomes -8 exactly, the end of the range that
 * has one more level.                                                         */
static void q4_0_encode(const float *restrict in, void *out, int64_t cols)
{
    unsigned char *p = out;
    for (int64_t i = 0; i < cols; i += BLOCK, p += 2 + BLOCK / 2) {
        const float *x = in + i;
        float most = 0;
        for (int j = 0; j < BLOCK; j++)
            most = fabsf(x[j]) > fabsf(most) ? x[j] : most;
        float d = most / -8.0f, inverse = d != 0 ? 1.0f / d : 0;
        uint8_t q[BLOCK / 2];
        for (int j = 0; j < BLOCK / 2; j++)
            q[j] = (uint8_t)(nibble(x[j] * inverse + 8.5f)
                             | nibble(x[j + BLOCK / 2] * inverse + 8.5f) << 4);
        store_half(p, d);
        memcpy(p + 2, q, sizeof q);
    }
}

static void q4_1_decode(const void *in, float *restrict out, int64_t cols)
{
    const unsigned char *p = in;
    for (int64_t i = 0; i < cols; i += BLOCK, p += 4 + BLOCK / 2) {
        float d = load_half(p), m = load_half(p + 2);
        uint8_t q[BLOCK / 2];
        memcpy(q, p + 4, sizeof q);
        for (int j = 0; j < BLOCK / 2; j++)
            out[i + j] = d * (float)(q[j] & 15) + m;
        for (int j = 0; j < BLOCK / 2; j++)
            out[i + BLOCK / 2 + j] = d * (float)(q[j] >> 4) + m;
    }
}

static void q4_1_encode(const float *restrict in, void *out, int64_t cols)
{
    unsigned char *p = out;
    for (int64_t i = 0; i < cols; i += BLOCK, p += 4 + BLOCK / 2) {
        const float *x = in + i;
        float low = x[0], high = x[0];
        for (int j = 1; j < BLOCK; j++) {
            low = x[j] < low ? x[j] : low;
            high = x[j] > high ? x[j] : high;
        }
        float d = (high - low) / 15.0f, inverse = d != 0 ? 1.0f / d : 0;
        uint8_t q[BLOCK / 2];
        for (int j = 0; j < BLOCK / 2; j++)
            q[j] = (uint8_t)(nibble((x[j] - low) * inverse + 0.5f)
                             | nibble((x[j + BLOCK / 2] - low) * inverse + 0.5f) << 4);
        store_half(p, d);
        store_half(p + 2, low);
        memcpy(p + 4, q, sizeof q);
    }
}

#define CODEC(dtype, name, block, bytes) \
    [dtype] = { sizeof(struct lm_codec), dtype, #name, block, bytes, \
                name##_decode, name##_encode }
#define READ_ONLY(dtype, name, block, bytes) \
    [dtype] = { sizeof(struct lm_codec), dtype, #name, block, bytes, \
                lm_decode_##name, NULL }
static const struct lm_codec codecs[LM_N_DTYPES] = {
    CODEC(LM_F32, f32, 1, 4),
    CODEC(LM_F16, f16, 1, 2),
    CODEC(LM_BF16, bf16, 1, 2),
    CODEC(LM_Q8_0, q8_0, BLOCK, 2 + BLOCK),
    CODEC(LM_Q4_0, q4_0, BLOCK, 2 + BLOCK / 2),
    CODEC(LM_Q4_1, q4_1, BLOCK, 4 + BLOCK / 2),
    READ_ONLY(LM_Q5_0, q5_0, BLOCK, 6 + BLOCK / 2),
    READ_ONLY(LM_Q5_1, q5_1, BLOCK, 8 + BLOCK / 2),
    READ_ONLY(LM_Q2_K, q2_k, 256, 84),
    READ_ONLY(LM_Q3_K, q3_k, 256, 110),
    READ_ONLY(LM_Q4_K, q4_k, 256, 144),
    READ_ONLY(LM_Q5_K, q5_k, 256, 176),
    READ_ONLY(LM_Q6_K, q6_k, 256, 210),
    READ_ONLY(LM_IQ4_NL, iq4_nl, BLOCK, 2 + BLOCK / 2),
};

const struct lm_codec *lm_codec(uint32_t dtype)
{
    return dtype > 0 && dtype < LM_N_DTYPES ? &codecs[dtype] : NULL;
}

const struct lm_codec *lm_codec_named(const char *name)
{
    for (uint32_t i = 1; name && i < LM_N_DTYPES; i++)
        if (!strcmp(codecs[i].name, name))
            return &codecs[i];
    return NULL;
}

int64_t lm_row_bytes(uint32_t dtype, int64_t cols)
{
    const struct lm_codec *c = lm_codec(dtype);
    if (!c || cols < 0 || cols % c->block || cols / c->block > INT64_MAX / c->bytes)
        return -1;
    return cols / c->block * c->bytes;
}
