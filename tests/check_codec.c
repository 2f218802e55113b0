/* SPDX-License-Identifier: Apache-2.0 */
/* check_codec.c -- number formats against plain definitions: halves against
 * scalbn() for all 65536 of them and around every midpoint, block formats
 * against blocks worked out by hand and a literal reading of the formulas, and
 * formats that are only read against the Python package gguf.                 */
#include <float.h>
#include <math.h>

#include "model/codec.h"
#include "codec_blocks.h"
#include "pipeline/pipeline.h"
#include "testing.h"

static double half_value(uint16_t h)
{
    int e = h >> 10 & 31, f = h & 1023;
    double v = e == 31 ? (f ? NAN : INFINITY)
             : e ? scalbn(1024 + f, e - 25) : scalbn(f, -24);
    return h & 0x8000 ? -v : v;
}

static uint16_t to_half(float f)
{
    uint16_t h;
    lm_codec(LM_F16)->encode(&f, &h, 1);
    return h;
}

static float random_unit(uint32_t *state)          /* in [-1, 1) */
{
    *state = *state * 1664525u + 1013904223u;
    return (float)(int32_t)*state / 2147483648.0f;
}

START_TEST(half_decodes_all)
{
    for (uint32_t h = 0; h < 65536; h++) {
        double want = half_value((uint16_t)h);
        float got = lm_half_to_float((uint16_t)h), row[40];
        uint16_t in[40];
        for (int i = 0; i < 40; i++)
            in[i] = (uint16_t)h;
        lm_codec(LM_F16)->decode(in, row, 40);
        if (isnan(want)) {
            ck_assert(isnan(got) && isnan(row[0]) && isnan(row[39]));
            continue;
        }
        ck_assert(got == want && !signbit(got) == !(h & 0x8000));
        ck_assert(row[0] == want && row[39] == want);
        ck_assert_uint_eq(to_half(got), h);
    }
}
END_TEST

START_TEST(half_rounds_to_nearest_even)
{
    for (uint32_t h = 0; h < 0x7c00; h++) {
        double low = half_value((uint16_t)h);
        double high = h == 0x7bff ? 65536 : half_value((uint16_t)(h + 1));
        float middle = (float)((low + high) / 2);       /* exact */
        uint32_t even = h & 1 ? h + 1 : h;
        ck_assert_uint_eq(to_half(middle), even);
        ck_assert_uint_eq(to_half(-middle), even | 0x8000);
        ck_assert_uint_eq(to_half(nextafterf(middle, 0)), h);
        ck_assert_uint_eq(to_half(nextafterf(middle, INFINITY)), h + 1);
    }
    ck_assert_uint_eq(to_half(FLT_MAX), 0x7c00);
    ck_assert_uint_eq(to_half(INFINITY), 0x7c00);
    ck_assert_uint_eq(to_half(-INFINITY), 0xfc00);
    ck_assert_uint_eq(to_half(FLT_TRUE_MIN), 0);
    ck_assert_uint_eq(to_half(-0.0f), 0x8000);
    ck_assert(isnan(lm_half_to_float(to_half(NAN))));
}
END_TEST

START_TEST(half_rows_equal_single_values)
{
    enum { N = 77 };                                /* not a multiple of 32 */
    float in[N], back[N];
    uint16_t out[N];
    uint32_t seed = 7;
    for (int i = 0; i < N; i++)
        in[i] = random_unit(&seed) * scalbnf(1, i % 40 - 25);
    in[3] = INFINITY;
    lm_codec(LM_F16)->encode(in, out, N);
    lm_codec(LM_F16)->decode(out, back, N);
    for (int i = 0; i < N; i++) {
        ck_assert_uint_eq(out[i], to_half(in[i]));
        ck_assert(back[i] == lm_half_to_float(out[i]));
    }
}
END_TEST

START_TEST(bf16)
{
    const struct lm_codec *c = lm_codec(LM_BF16);
    static const struct { uint32_t in; uint16_t out; } cases[] = {
        { 0x3f800000, 0x3f80 }, { 0x3f808000, 0x3f80 },     /* tie to even */
        { 0x3f818000, 0x3f82 }, { 0x3f808001, 0x3f81 },
        { 0x3f807fff, 0x3f80 }, { 0x80000000, 0x8000 },
        { 0x7f7fffff, 0x7f80 },                             /* overflow: inf */
        { 0x7f800000, 0x7f80 }, { 0xff800000, 0xff80 },
        { 0x7f800001, 0x7fc0 }, { 0x7fffffff, 0x7fff },     /* NaN stays NaN */
        { 0x00008001, 0x0001 },
    };
    enum { N = sizeof cases / sizeof *cases };
    for (int copies = 1; copies <= 4; copies++) {           /* row tails too */
        float in[4 * N], back[4 * N];
        uint16_t out[4 * N];
        for (int i = 0; i < copies * N; i++)
            memcpy(&in[i], &cases[i % N].in, 4);
        c->encode(in, out, copies * N);
        c->decode(out, back, copies * N);
        for (int i = 0; i < copies * N; i++) {
            uint32_t bits;
            memcpy(&bits, &back[i], 4);
            ck_assert_uint_eq(out[i], cases[i % N].out);
            ck_assert_uint_eq(bits, (uint32_t)out[i] << 16);
        }
    }
}
END_TEST

/* Blocks by hand. */
START_TEST(layouts)
{
    unsigned char block[34] = { 0x00, 0x38 };               /* d = 0.5 */
    float out[32];
    for (int i = 0; i < 32; i++)
        block[2 + i] = (unsigned char)(i - 16);
    lm_codec(LM_Q8_0)->decode(block, out, 32);
    for (int i = 0; i < 32; i++)
        ck_assert(out[i] == 0.5f * (float)(i - 16));

    for (int i = 0; i < 16; i++)
        block[2 + i] = (unsigned char)(i | (15 - i) << 4);
    lm_codec(LM_Q4_0)->decode(block, out, 32);
    for (int i = 0; i < 16; i++) {
        ck_assert(out[i] == 0.5f * (float)(i - 8));
        ck_assert(out[i + 16] == 0.5f * (float)(7 - i));
    }

    unsigned char one[21] = { 0, 0x00, 0x38, 0x00, 0x3c };  /* unaligned; m = 1 */
    memcpy(one + 5, block + 2, 16);
    lm_codec(LM_Q4_1)->decode(one + 1, out, 32);
    for (int i = 0; i < 16; i++) {
        ck_assert(out[i] == 0.5f * (float)i + 1);
        ck_assert(out[i + 16] == 0.5f * (float)(15 - i) + 1);
    }
}
END_TEST

/* The formulas read literally, one value at a time. */
static void naive(uint32_t dtype, const float *x, unsigned char *out)
{
    float low = x[0], high = x[0], largest = 0;
    for (int i = 0; i < 32; i++) {
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
        if (fabsf(x[i]) > fabsf(largest))
            largest = x[i];
    }
    float d = dtype == LM_Q8_0 ? fabsf(largest) / 127 : dtype == LM_Q4_0 ? largest / -8
            : (high - low) / 15;
    float id = d != 0 ? 1 / d : 0;
    uint16_t hd = to_half(d), hm = to_half(low);
    memcpy(out, &hd, 2);
    out += 2;
    if (dtype == LM_Q4_1) {
        memcpy(out, &hm, 2);
        out += 2;
    }
    memset(out, 0, dtype == LM_Q8_0 ? 32 : 16);
    for (int i = 0; i < 32; i++) {
        if (dtype == LM_Q8_0) {
            out[i] = (unsigned char)(int8_t)roundf(x[i] * id);
            continue;
        }
        int q = dtype == LM_Q4_0 ? (int)(x[i] * id + 8.5f)
                                 : (int)((x[i] - low) * id + 0.5f);
        out[i % 16] |= (unsigned char)((q > 15 ? 15 : q) << (i < 16 ? 0 : 4));
    }
}

START_TEST(encoders_follow_the_formulas)
{
    static const uint32_t dtypes[] = { LM_Q8_0, LM_Q4_0, LM_Q4_1 };
    uint32_t seed = 1;
    for (int trial = 0; trial < 3000; trial++) {
        float x[32], back[32];
        for (int i = 0; i < 32; i++)
            x[i] = random_unit(&seed) * scalbnf(1, trial % 8) + (float)(trial % 3);
        if (trial % 5 == 0)                         /* many exact halves */
            for (int i = 0; i < 32; i++)
                x[i] = i ? rintf(x[i] * 254) / 2 : 127 * scalbnf(1, trial % 8);
        for (size_t k = 0; k < 3; k++) {
            const struct lm_codec *c = lm_codec(dtypes[k]);
            unsigned char got[34], want[34];
            c->encode(x, got, 32);
            naive(dtypes[k], x, want);
            ck_assert_mem_eq(got, want, c->bytes);
            c->decode(got, back, 32);
            float d = fabsf(lm_half_to_float((uint16_t)(got[0] | got[1] << 8)));
            for (int i = 0; i < 32; i++)            /* q4_0 clips one end by d / 2 */
                ck_assert(fabsf(back[i] - x[i])
                          <= (dtypes[k] == LM_Q4_0 ? 1.02f : 0.51f) * d
                             + fabsf(x[i]) * 0x1p-9f);
        }
    }
}
END_TEST

START_TEST(lattice_points_come_back)
{
    uint32_t seed = 5;
    for (uint32_t dtype = LM_Q8_0; dtype <= LM_Q4_1; dtype++)
        for (int trial = 0; trial < 500; trial++) {
            const struct lm_codec *c = lm_codec(dtype);
            float x[32], y[32];
            int most = dtype == LM_Q8_0 ? 127 : 15;
            for (int i = 0; i < 32; i++) {
                int q = (int)((random_unit(&seed) + 1) / 2 * (float)(most + 1));
                if (i < 2)                          /* both ends are taken */
                    q = i * most;
                x[i] = scalbnf((float)(dtype == LM_Q4_0 ? q - 8 : q), -trial % 10);
            }
            unsigned char block[34];
            c->encode(x, block, 32);
            c->decode(block, y, 32);
            ck_assert_mem_eq(x, y, sizeof x);
        }
}
END_TEST

static uint64_t hash_floats(const float *x, size_t n, uint64_t h)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &x[i], sizeof u);
        h = (h ^ (isnan(x[i]) ? 0x7fc00000u : u)) * UINT64_C(0x100000001b3);
    }
    return h;
}

/* One block float by float, many random ones (with scales that are subnormal,
 * huge and NaN among them) by a hash of their floats, at odd addresses.   */
START_TEST(read_only_formats_equal_the_peer)
{
    const struct lm_codec *c = lm_codec(expected_block[_i].dtype);
    float out[256];
    unsigned char block[256];
    uint32_t seed = 2;
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    memcpy(block + 1, expected_block[_i].block, c->bytes);
    c->decode(block + 1, out, c->block);
    for (uint32_t i = 0; i < c->block; i++) {
        uint32_t u;
        memcpy(&u, &out[i], sizeof u);
        ck_assert_msg(u == expected_block[_i].floats[i], "%s: value %u is %g", c->name,
                      i, (double)out[i]);
    }
    for (int k = 0; k < MANY_BLOCKS; k++) {
        for (uint32_t i = 0; i < c->bytes; i++) {
            seed = seed * 1664525u + 1013904223u;
            block[1 + i] = (unsigned char)(seed >> 24);
        }
        c->decode(block + 1, out, c->block);
        h = hash_floats(out, c->block, h);
    }
    ck_assert_uint_eq(h, expected_block[_i].many);
}
END_TEST

/* What options offer is what can be written, all of it. */
START_TEST(offered_formats_can_be_written)
{
    uint32_t n = 0, writable = 0;
    for (; lm_dtype_names[n]; n++) {
        const struct lm_codec *c = lm_codec_named(lm_dtype_names[n]);
        ck_assert(c && c->encode && c->dtype == n + 1);
    }
    for (uint32_t d = 1; d < LM_N_DTYPES; d++)
        writable += lm_codec(d)->encode != NULL;
    ck_assert_uint_eq(n, writable);
}
END_TEST

START_TEST(odd_values_do_no_harm)
{
    static const float odd[] = { NAN, INFINITY, -INFINITY, FLT_MAX, -FLT_MAX,
                                 FLT_TRUE_MIN };
    for (uint32_t dtype = LM_F32; dtype < LM_N_DTYPES; dtype++)
        for (size_t k = 0; k < sizeof odd / sizeof *odd; k++) {
            const struct lm_codec *c = lm_codec(dtype);
            float x[64] = { 0 }, y[64];
            unsigned char out[256];
            if (!c->encode)
                continue;
            x[k] = odd[k];
            x[40] = 2;
            c->encode(x, out, 64);
            c->decode(out, y, 64);
            ck_assert(fabsf(y[40] - 2) < 0.01f);    /* the other block is well */
        }
    float zero[32] = { 0 }, back[32] = { 1 };
    for (uint32_t dtype = LM_Q8_0; dtype < LM_N_DTYPES; dtype++) {
        unsigned char out[34];
        if (!lm_codec(dtype)->encode)
            continue;
        lm_codec(dtype)->encode(zero, out, 32);
        lm_codec(dtype)->decode(out, back, 32);
        for (int i = 0; i < 32; i++)
            ck_assert(back[i] == 0);
    }
}
END_TEST

START_TEST(names_and_sizes)
{
    static const struct { const char *name; uint32_t dtype, block, bytes; } all[] = {
        { "f32", LM_F32, 1, 4 }, { "f16", LM_F16, 1, 2 }, { "bf16", LM_BF16, 1, 2 },
        { "q8_0", LM_Q8_0, 32, 34 }, { "q4_0", LM_Q4_0, 32, 18 },
        { "q4_1", LM_Q4_1, 32, 20 }, { "q5_0", LM_Q5_0, 32, 22 },
        { "q5_1", LM_Q5_1, 32, 24 }, { "q2_k", LM_Q2_K, 256, 84 },
        { "q3_k", LM_Q3_K, 256, 110 }, { "q4_k", LM_Q4_K, 256, 144 },
        { "q5_k", LM_Q5_K, 256, 176 }, { "q6_k", LM_Q6_K, 256, 210 },
        { "iq4_nl", LM_IQ4_NL, 32, 18 },
    };
    ck_assert_uint_eq(sizeof all / sizeof *all, LM_N_DTYPES - 1);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const struct lm_codec *c = lm_codec_named(all[i].name);
        ck_assert_ptr_nonnull(c);
        ck_assert_ptr_eq(c, lm_codec(all[i].dtype));
        ck_assert_uint_eq(c->dtype, all[i].dtype);
        ck_assert_uint_eq(c->block, all[i].block);
        ck_assert_uint_eq(c->bytes, all[i].bytes);
        ck_assert_int_eq(lm_row_bytes(all[i].dtype, 768),
                         768 / all[i].block * all[i].bytes);
        ck_assert(!c->encode == (i >= 6));
    }
    ck_assert_ptr_null(lm_codec(0));
    ck_assert_ptr_null(lm_codec(LM_N_DTYPES));
    ck_assert_ptr_null(lm_codec_named("q4_2"));
    ck_assert_ptr_null(lm_codec_named(NULL));
    ck_assert_int_eq(lm_row_bytes(LM_Q4_0, 33), -1);
    ck_assert_int_eq(lm_row_bytes(LM_Q4_K, 576), -1);
    ck_assert_int_eq(lm_row_bytes(LM_F32, -4), -1);
    ck_assert_int_eq(lm_row_bytes(LM_F32, INT64_MAX), -1);
    ck_assert_int_eq(lm_row_bytes(77, 32), -1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("codec");
    TCase *t = tcase_create("codec");
    tcase_add_test(t, half_decodes_all);
    tcase_add_test(t, half_rounds_to_nearest_even);
    tcase_add_test(t, half_rows_equal_single_values);
    tcase_add_test(t, bf16);
    tcase_add_test(t, layouts);
    tcase_add_test(t, encoders_follow_the_formulas);
    tcase_add_test(t, lattice_points_come_back);
    tcase_add_loop_test(t, read_only_formats_equal_the_peer, 0,
                        (int)(sizeof expected_block / sizeof *expected_block));
    tcase_add_test(t, offered_formats_can_be_written);
    tcase_add_test(t, odd_values_do_no_harm);
    tcase_add_test(t, names_and_sizes);
    suite_add_tcase(s, t);
    return run_suites(&s, 1);
}
