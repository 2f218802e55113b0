/* SPDX-License-Identifier: Apache-2.0 */
/* check_quant.c -- quantizers against definitions and exhaustive search, and
 * number formats in plans: text and back, hashes, costs.                    */
#include <math.h>

#include "base/hash.h"
#include "inst.h"
#include "check_quant.h"

enum { ROWS = 5, COLS = 320, BLOCK = 32 };
static struct lm_err e;
static float w[ROWS * COLS], back[ROWS * COLS];
static unsigned char bytes[ROWS * COLS * 2];

static void fill(double offset)
{
    struct lm_rng r = lm_rng(3, "quant", 0);

    for (int i = 0; i < ROWS * COLS; i++) {
        double sum = -3;

        for (int j = 0; j < 6; j++)
            sum += lm_rng_unit(&r);
        w[i] = (float)(0.04 * sum * (1 + i % 7) + offset);
    }
}

static struct lm_quant_site site_of(const double *sumsq)
{
    return (struct lm_quant_site){ .struct_size = sizeof(struct lm_quant_site),
        .role = LM_W_DOWN, .rows = ROWS, .cols = COLS, .stride = COLS, .w = w,
        .sumsq = sumsq, .tokens = 10 };
}

/* Encodes w with a fresh instance, decodes into back; returns the format. */
static const struct lm_codec *encode(const char *name, const char *options,
                                     const double *sumsq)
{
    struct lm_quant_site s = site_of(sumsq);
    const struct lm_quantizer *ops;
    const struct lm_codec *c;
    struct inst q;
    int64_t row;

    inst_open(&q, "quant", name, options, NULL, NULL);
    ops = q.ops;
    c = lm_codec(ops->dtype(q.opt.config));
    row = lm_row_bytes(c->dtype, COLS);
    ck_assert_ok(ops->encode(q.self, &s, bytes, &e), e);
    for (int r = 0; r < ROWS; r++)
        c->decode(bytes + r * row, back + r * COLS, COLS);
    inst_close(&q);
    return c;
}

static double loss(const float *x, const float *y, const double *g, int n)
{
    double sum = 0;

    for (int j = 0; j < n; j++) {
        double off = (double)x[j] - (double)y[j];

        sum += (g ? g[j] : 1) * off * off;
    }
    return sum;
}

/* ---- int8 -------------------------------------------------------------------------- */

/* d = f16(a / 127), q = the nearest integer to x / d: nothing is further off than half
 * a step, but what rounding of d pushes over 127.                            */
START_TEST(int8_is_the_nearest_of_its_lattice)
{
    static const char *const option[] = { "scale=block", "scale=row" };
    static const int group[] = { BLOCK, COLS };

    for (int o = 0; o < 2; o++) {
        fill(0);
        ck_assert_uint_eq(encode("int8", option[o], NULL)->dtype, LM_Q8_0);
        for (int i = 0; i < ROWS * COLS; i += group[o]) {
            float most = 0, d;
            uint16_t half;

            for (int j = i; j < i + group[o]; j++)
                most = fmaxf(most, fabsf(w[j]));
            d = most / 127;
            lm_codec(LM_F16)->encode(&d, &half, 1);
            d = lm_half_to_float(half);
            for (int j = i; j < i + group[o]; j++) {
                double q = (double)back[j] / (double)d;

                ck_assert_double_eq(q, round(q));
                ck_assert_double_le(fabs(q), 127);
                ck_assert_double_le(fabs((double)w[j] / (double)d - q), 0.5 + 0.07);
                if (fabs(q) < 127)
                    ck_assert_double_le(fabs((double)w[j] / (double)d - q), 0.5 + 1e-4);
            }
        }
    }
}
END_TEST

START_TEST(a_row_shares_its_scale)
{
    const struct lm_codec *c;

    fill(0);
    c = encode("int8", "scale=row", NULL);
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < COLS / BLOCK; i++)
            ck_assert_mem_eq(bytes + (size_t)(r * COLS / BLOCK + i) * c->bytes,
                             bytes + (size_t)(r * COLS / BLOCK) * c->bytes, 2);
}
END_TEST

/* ---- int4 -------------------------------------------------------------------------- */

/* Every scale that f16 has, and both signs of it. */
static double best_symmetric(const float *x)
{
    double best = INFINITY;

    for (uint32_t h = 0x0400; h < 0x7c00; h++)
        for (int sign = 0; sign < 2; sign++) {
            double d = (double)lm_half_to_float((uint16_t)(h | (unsigned)sign << 15));
            double sum = 0;

            for (int j = 0; j < BLOCK && sum < best; j++) {
                double q = fmin(fmax(round((double)x[j] / d), -8), 7);

                sum += ((double)x[j] - d * q) * ((double)x[j] - d * q);
            }
            best = fmin(best, sum);
        }
    return best;
}

START_TEST(the_search_is_near_the_best_scale)
{
    double ours = 0, plain = 0, best = 0;

    fill(0);
    for (int i = 0; i < 12; i++)
        best += best_symmetric(w + i * BLOCK);
    encode("int4", "search=false", NULL);
    plain = loss(w, back, NULL, 12 * BLOCK);
    encode("int4", "", NULL);
    for (int i = 0; i < 12; i++)
        ours += loss(w + i * BLOCK, back + i * BLOCK, NULL, BLOCK);
    ck_assert_double_ge(ours, best * (1 - 1e-6));
    ck_assert_double_le(ours, best * 1.05);
    ck_assert_double_gt(plain, best * 1.1);     /* it is worth the search */
}
END_TEST

/* No block is worse than the codec's own, which takes the largest weight; values that
 * lie far from 0 need the offset.                                            */
START_TEST(the_search_loses_less_than_the_codec)
{
    for (int o = 0; o < 2; o++) {
        const struct lm_codec *c = encode("int4", o ? "symmetric=false" : "", NULL);
        double all = 0, codec = 0;

        ck_assert_uint_eq(c->dtype, o ? LM_Q4_1 : LM_Q4_0);
        fill(o ? 0.3 : 0);
        encode("int4", o ? "symmetric=false" : "", NULL);
        for (int i = 0; i < ROWS * COLS; i += BLOCK) {
            unsigned char block[32];
            float own[BLOCK];

            c->encode(w + i, block, BLOCK);
            c->decode(block, own, BLOCK);
            all += loss(w + i, back + i, NULL, BLOCK);
            codec += loss(w + i, own, NULL, BLOCK);
            ck_assert_double_le(loss(w + i, back + i, NULL, BLOCK),
                                loss(w + i, own, NULL, BLOCK) * 1.02 + 1e-9);
        }
        ck_assert_double_lt(all, 0.93 * codec);
    }
}
END_TEST

START_TEST(groups_share_scales)
{
    static const char *const option[] = { "group=64", "group=128",
        "group=64,symmetric=false", "group=128,symmetric=false" };

    fill(0);
    for (int o = 0; o < 4; o++) {
        const struct lm_codec *c = encode("int4", option[o], NULL);
        int blocks = o % 2 ? 4 : 2, head = o < 2 ? 2 : 4, row = COLS / BLOCK, other = 0;

        for (int i = 0; i < ROWS * row; i++) {
            int first = i - i % row % blocks;
            const unsigned char *b = bytes + (size_t)i * c->bytes;

            ck_assert_mem_eq(b, bytes + (size_t)first * c->bytes, (size_t)head);
            other += i == first && i && memcmp(b, b - c->bytes, (size_t)head);
        }
        ck_assert_int_gt(other, ROWS);          /* 10 blocks: the last group is short */
    }
}
END_TEST

/* Weighing by the inputs loses less of the outputs. */
START_TEST(weights_of_columns_count)
{
    static double sumsq[COLS];
    double weighed = 0, plain = 0;

    fill(0);
    for (int j = 0; j < COLS; j++)
        sumsq[j] = j % 5 ? 1 : j % 3 ? 400 : 0;
    encode("int4", "weigh=true", sumsq);
    for (int r = 0; r < ROWS; r++)
        weighed += loss(w + r * COLS, back + r * COLS, sumsq, COLS);
    encode("int4", "weigh=true", NULL);         /* nothing is known: all alike */
    for (int r = 0; r < ROWS; r++)
        plain += loss(w + r * COLS, back + r * COLS, sumsq, COLS);
    ck_assert_double_lt(weighed, 0.85 * plain);
}
END_TEST

START_TEST(weights_beyond_f16_are_refused)
{
    static const char *const name[] = { "int8", "int4", "int4" };
    static const char *const option[] = { "", "", "symmetric=false" };

    for (int i = 0; i < 3; i++) {
        struct lm_quant_site s = site_of(NULL);
        const struct lm_quantizer *ops;
        struct inst q;

        fill(0);
        w[40] = 1e8f;
        inst_open(&q, "quant", name[i], option[i], NULL, NULL);
        ops = q.ops;
        ck_assert_int_eq(ops->encode(q.self, &s, bytes, &e), LM_EFAILED);
        ck_assert_ptr_nonnull(strstr(e.text, "too large"));
        inst_close(&q);
    }
}
END_TEST

START_TEST(options_are_checked)
{
    static const char *const bad[] = { "group=48", "group=96",
                                       "weigh=true,search=false" };
    struct inst q;

    inst_load(&q, "quant", "int4");
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(inst_create(&q, bad[i], NULL, NULL, &e), LM_ECONFIG);
    dlclose(q.dl);
}
END_TEST

/* ---- plans ------------------------------------------------------------------------- */

static const struct lm_layer_shape shapes[] = { { 8, 4, 96, 0 }, { 8, 4, 96, 0 },
                                                { 0, 0, 96, 0 } };
static const struct lm_arch arch = { .struct_size = sizeof arch, .n_layer = 3,
    .hidden = 64, .head_dim = 8, .vocab = 100, .tied = true, .layer = shapes };

static struct lm_plan *plan_of(const char *text)
{
    struct lm_plan *p;

    ck_assert_ok(lm_plan_parse(&arch, text, &p, &e), e);
    return p;
}

static void set(struct lm_plan *p, uint32_t role, int32_t layer, const char *name,
                uint32_t dtype)
{
    ck_assert_ok(lm_plan_format(p, role, layer, name, dtype, &e), e);
}

static void reads(struct lm_plan *p, const char *want)
{
    struct lm_str t = { 0 };
    struct lm_plan *again;

    lm_plan_text(p, &t);
    ck_assert_str_eq(t.s, want);
    again = plan_of(t.s);
    ck_assert(lm_plan_equal(p, again));
    ck_assert_uint_eq(lm_plan_hash(p), lm_plan_hash(again));
    lm_plan_free(again);
    lm_str_free(&t);
}

START_TEST(formats_have_a_text)
{
    struct lm_plan *p = plan_of("plan 1 layers=3\n");
    struct lm_plan *none = plan_of("plan 1 layers=3\n");

    set(p, LM_W_DOWN, 1, "int4", LM_Q4_0);
    ck_assert(!lm_plan_equal(p, none));
    ck_assert_uint_ne(lm_plan_hash(p), lm_plan_hash(none));
    set(p, LM_W_K, 1, "int8", LM_Q8_0);
    reads(p, "plan 1 layers=3\nlayer 1: k=int8/q8_0 down=int4/q4_0\n"
             "layer 2: attn=none\n");
    for (int i = 0; i < LM_N_MATRICES; i++)
        set(p, lm_matrix_role(i), 1, "int8", LM_Q8_0);
    set(p, LM_W_GATE, 2, "b-2.x_", LM_Q4_1);
    set(p, LM_W_Q, 2, "int8", LM_Q8_0);          /* there is no attention */
    ck_assert_ok(lm_plan_drop(p, (struct lm_site){ LM_SITE_ATTN, 1, 0 }, &e), e);
    ck_assert_ok(lm_plan_canonical(p, &e), e);
    reads(p, "plan 1 layers=3\nlayer 1: attn=none format=int8/q8_0\n"
             "layer 2: attn=none gate=b-2.x_/q4_1\n");
    ck_assert_ok(lm_plan_drop(p, (struct lm_site){ LM_SITE_MLP, 1, 0 }, &e), e);
    ck_assert_ok(lm_plan_canonical(p, &e), e);
    reads(p, "plan 1 layers=3\nlayer 1: none\nlayer 2: attn=none gate=b-2.x_/q4_1\n");
    lm_plan_free(p);
    lm_plan_free(none);
}
END_TEST

START_TEST(bad_formats_are_refused)
{
    static const char *const bad[] = {
        "layer 0: format=int8\n", "layer 0: format=int8/\n", "layer 0: format=int8/f16\n",
        "layer 0: format=int8/q2_k\n", "layer 0: format=INT8/q8_0\n",
        "layer 0: format=/q8_0\n", "layer 0: down=int8/q8_0 q=int8/q8_0\n",
        "layer 0: q=int8/q8_0 q=int8/q8_0\n", "layer 0: q=int8/q8_0 k=int8/q4_0\n",
        "layer 0: format=int8/q8_0 q=int8/q8_0\n", "layer 0: w=int8/q8_0\n",
        "layer 0: format=a234567890123456789012345678901x/q8_0\n",
    };
    struct lm_plan *p = plan_of("plan 1 layers=3\n");

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct lm_plan *q;
        char text[256];

        snprintf(text, sizeof text, "plan 1 layers=3\n%s", bad[i]);
        ck_assert_msg(lm_plan_parse(&arch, text, &q, &e) == LM_EINPUT, "%s", bad[i]);
        ck_assert_msg(strstr(e.text, "plan, line 2"), "%s: %s", bad[i], e.text);
    }
    ck_assert_int_eq(lm_plan_format(p, LM_W_EMBED, 0, "x", LM_Q8_0, &e), LM_EBUG);
    ck_assert_int_eq(lm_plan_format(p, LM_W_Q, 3, "x", LM_Q8_0, &e), LM_EBUG);
    ck_assert_int_eq(lm_plan_format(p, LM_W_Q, 0, "x y", LM_Q8_0, &e), LM_EBUG);
    ck_assert_int_eq(lm_plan_format(p, LM_W_Q, 0, "x", LM_F16, &e), LM_EBUG);
    for (int i = 0; i < LM_MAX_FORMATS; i++) {
        char name[8];

        snprintf(name, sizeof name, "f%d", i);
        set(p, LM_W_Q, 0, name, LM_Q8_0);
    }
    ck_assert_int_eq(lm_plan_format(p, LM_W_Q, 0, "more", LM_Q8_0, &e), LM_EINPUT);
    lm_plan_free(p);
}
END_TEST

START_TEST(formats_cost_what_they_take)
{
    struct lm_plan *p = plan_of("plan 1 layers=3\nlayer 0: q=int8/q8_0 down=int4/q4_1\n");
    struct lm_cost mixed = { .struct_size = sizeof mixed }, plain = mixed;
    uint32_t *own;

    lm_plan_cost(p, LM_F16, &mixed);
    ck_assert_ok(lm_plan_dtypes(p, &own, &e), e);
    ck_assert_uint_eq(own[LM_W_Q], LM_Q8_0);
    ck_assert_uint_eq(own[LM_W_DOWN], LM_Q4_1);
    ck_assert_uint_eq(own[LM_W_K], 0);
    ck_assert_uint_eq(own[LM_N_ROLES + LM_W_Q], 0);
    lm_release(own);
    lm_plan_free(p);
    p = plan_of("plan 1 layers=3\n");
    lm_plan_cost(p, LM_F16, &plain);
    ck_assert_int_eq(mixed.params, plain.params);
    /* q [64][64]: 34 bytes for 32 weights; down [64][96]: 20 */
    ck_assert_int_eq(plain.bytes - mixed.bytes,
                     64 * 64 * 2 - 64 * 2 * 34 + 64 * 96 * 2 - 64 * 3 * 20);
    ck_assert_ok(lm_plan_dtypes(p, &own, &e), e);
    ck_assert_ptr_null(own);
    lm_plan_free(p);
}
END_TEST

int main(void)
{
    Suite *s[2] = { suite_create("quant"), candidate_quant_suite() };
    TCase *t = tcase_create("quant");

    tcase_set_timeout(t, 60);
    tcase_add_test(t, int8_is_the_nearest_of_its_lattice);
    tcase_add_test(t, a_row_shares_its_scale);
    tcase_add_test(t, the_search_is_near_the_best_scale);
    tcase_add_test(t, the_search_loses_less_than_the_codec);
    tcase_add_test(t, groups_share_scales);
    tcase_add_test(t, weights_of_columns_count);
    tcase_add_test(t, weights_beyond_f16_are_refused);
    tcase_add_test(t, options_are_checked);
    tcase_add_test(t, formats_have_a_text);
    tcase_add_test(t, bad_formats_are_refused);
    tcase_add_test(t, formats_cost_what_they_take);
    suite_add_tcase(s[0], t);
    return run_suites(s, 2);
}
