/* SPDX-License-Identifier: Apache-2.0 */
/* check_operators.h -- tests of every operator of the tested backend against the
 * reference, and of what both must refuse: for one Check program for each backend.   */
#ifndef LM_TESTS_CHECK_OPERATORS_H
#define LM_TESTS_CHECK_OPERATORS_H
#include "check_backend.h"

static const int32_t rows_of[] = { 1, 2, 5, 16, 33, 65 };

START_TEST(linear)
{
    static const int32_t shape[][2] = { { 1, 1 }, { 3, 5 }, { 64, 64 }, { 65, 33 },
                                        { 130, 48 }, { 515, 96 }, { 4, 160 } };
    for EACH(i, shape)
        for EACH(j, rows_of)
            for (int mode = 0; mode < 4; mode++) {
                struct trial t = trial(LM_OP_LINEAR, rows_of[j], shape[i][0],
                                       shape[i][1]);
                t.op.flags = mode & 1 ? LM_OPF_ACC : 0;
                t.bias = mode & 2;
                agree(&t, 2e-6, "linear");
            }
}
END_TEST

START_TEST(embed)
{
    for EACH(j, rows_of) {
        struct trial t = trial(LM_OP_EMBED, rows_of[j], 40, 19);
        t.width[A] = 0;
        t.width[Y] = 19;
        t.op.a = -1;
        agree(&t, 0, "embed");
    }
}
END_TEST

START_TEST(rmsnorm)
{
    static const int32_t shape[][2] = { { 1, 1 }, { 8, 8 }, { 16, 48 }, { 33, 33 },
                                        { 7, 21 }, { 576, 576 } };
    for EACH(i, shape)
        for EACH(j, rows_of)
            for (int tiny = 0; tiny < 2; tiny++) {
                struct trial t = trial(LM_OP_RMSNORM, rows_of[j], shape[i][0],
                                       shape[i][1]);
                t.width[Y] = shape[i][1];
                t.w_rows = 1;
                t.w_cols = shape[i][0];
                t.scale = tiny ? 1e-3 : 4;
                agree(&t, 2e-6, "rmsnorm");
            }
}
END_TEST

START_TEST(elementwise)
{
    static const int32_t n[] = { 1, 3, 15, 16, 17, 130 };
    static const double scale[] = { 0.01, 3, 40, 300 };
    for EACH(i, n)
        for EACH(j, scale)
            for (uint32_t code = LM_OP_SILU_MUL; code <= LM_OP_ADD; code++) {
                struct trial t = trial(code, 5, n[i], 0);
                t.width[A] = t.width[B] = n[i];
                t.op.b = B;
                t.w_rows = 0;
                t.scale = fmin(scale[j], largest);
                agree(&t, 1e-6, "elementwise");
            }
}
END_TEST

START_TEST(attention)
{
    static const int32_t shape[][3] = { { 1, 1, 2 }, { 4, 4, 8 }, { 6, 2, 8 },
                                        { 9, 3, 64 }, { 2, 1, 18 }, { 3, 3, 34 } };
    for EACH(i, shape)
        for EACH(j, rows_of) {
            int32_t q = shape[i][0] * shape[i][2], kv = shape[i][1] * shape[i][2];
            struct trial t = { .op = { .code = LM_OP_ROPE_KV, .y = -1, .a = A, .b = B,
                .c = C, .n_head = shape[i][0], .n_kv = shape[i][1],
                .head_dim = shape[i][2], .f = j % 2 ? 1.0f : 1.25f },
                .rows = rows_of[j], .repeat = 3, .w_rows = 1, .scale = 2 };
            t.width[A] = t.width[Y] = q;
            t.width[B] = t.width[C] = kv;
            t.w_cols = t.w_stride = shape[i][2] / 2;
            agree(&t, 5e-6, "attention");
            t.threads = 2;
            agree(&t, 5e-6, "attention, two threads");
        }
}
END_TEST

START_TEST(heads)
{
    static const int32_t n[] = { 1, 7, 96, 511, 1030 };
    static const double scale[] = { 0.1, 3, 30 };
    for EACH(i, n)
        for EACH(j, rows_of)
            for EACH(s, scale)
                for (uint32_t code = LM_OP_CE; code <= LM_OP_LOGITS; code++) {
                    struct trial t = trial(code, rows_of[j], n[i], 24);
                    t.scale = scale[s];         /* logits are some 4 * scale */
                    agree(&t, 4e-6 * fmax(1, scale[s]), "head");
                }
}
END_TEST

/* More rows than one tile has. */
START_TEST(heads_of_many_rows)
{
    for (uint32_t code = LM_OP_CE; code <= LM_OP_EXPECT; code++) {
        struct trial t = trial(code, 1030, 600, 6);
        agree(&t, 2e-6, "head");
    }
}
END_TEST

/* ---- precisions --------------------------------------------------------------- */
static const int32_t few_rows[] = { 1, 2, 7, 16, 33 };
static const int32_t shapes[][2] = { { 1, 1 }, { 3, 5 }, { 64, 64 }, { 65, 33 },
                                     { 130, 48 }, { 515, 96 }, { 37, 577 } };

/* A value between two int8 steps may be rounded to either: the reference divides
 * in double precision.                                                          */
static inline double tolerance(uint32_t precision)
{
    return precision == LM_AS_INT8 ? 4e-3 : 2e-5;
}

START_TEST(rounded_linear)
{
    for (uint32_t p = LM_AS_BF16; p <= LM_AS_INT8; p++)
        for EACH(i, shapes)
            for EACH(j, few_rows) {
                struct trial t = trial(LM_OP_LINEAR, few_rows[j], shapes[i][0],
                                       shapes[i][1]);
                t.precision = p;
                t.op.flags = j % 2 ? LM_OPF_ACC : 0;
                t.bias = i % 2;
                agree(&t, tolerance(p), "linear");
            }
}
END_TEST

START_TEST(rounded_heads)
{
    for (uint32_t p = LM_AS_BF16; p <= LM_AS_INT8; p++)
        for (uint32_t code = LM_OP_CE; code <= LM_OP_LOGITS; code++)
            for EACH(j, few_rows) {
                struct trial t = trial(code, few_rows[j], 300, 40);
                t.precision = p;
                agree(&t, tolerance(p), "head");
            }
}
END_TEST

/* Factors of attention are bf16 where the program is not f32: each is off by at
 * most 2^-9 of itself, so a score by 2^-8 sum |q k| / sqrt(d) (here up to 0.1 where
 * scores are up to 13), an output by as much times the spread of the values, if
 * all errors had one sign.  They do not: the largest seen on any set is 4.7e-3 of
 * the largest output.                                                          */
START_TEST(rounded_attention)
{
    static const int32_t rows[] = { 3, 5, 33, 65 };
    for (uint32_t p = LM_AS_F32; p <= LM_AS_INT8; p++)
        for EACH(j, rows) {
            struct trial t = { .op = { .code = LM_OP_ROPE_KV, .y = -1, .a = A, .b = B,
                .c = C, .n_head = 6, .n_kv = 2, .head_dim = j % 2 ? 34 : 64, .f = 1 },
                .rows = rows[j], .repeat = 2, .w_rows = 1, .scale = 2, .precision = p };
            t.width[A] = t.width[Y] = 6 * t.op.head_dim;
            t.width[B] = t.width[C] = 2 * t.op.head_dim;
            t.w_cols = t.w_stride = t.op.head_dim / 2;
            agree(&t, p ? 7e-3 : 5e-6, "attention");
            t.threads = 2;
            agree(&t, p ? 7e-3 : 5e-6, "attention, two threads");
        }
}
END_TEST

/* ---- weights in number formats ----------------------------------------------------- */
static const uint32_t coded[] = { LM_F16, LM_BF16, LM_Q8_0, LM_Q4_0, LM_Q4_1 };

/* Whole blocks, and for f16 and bf16 other lengths; rows are apart by more. */
static inline struct trial coded_trial(uint32_t code, uint32_t dtype, int32_t rows, int i)
{
    static const int32_t shape[][2] = { { 5, 32 }, { 6, 64 }, { 65, 96 }, { 130, 160 },
                                        { 515, 576 }, { 7, 288 } };
    static const int32_t odd[] = { 1, 31, 33, 160, 577, 290 };
    bool blocks = lm_codec(dtype)->block > 1;
    struct trial t = trial(code, rows, shape[i][0], blocks ? shape[i][1] : odd[i]);
    t.w_stride = t.w_cols + (blocks ? 32 : 3);
    t.dtype = dtype;
    return t;
}

START_TEST(coded_weights)
{
    for EACH(d, coded)
        for (int i = 0; i < 6; i++)
            for EACH(j, few_rows) {
                struct trial t = coded_trial(LM_OP_LINEAR, coded[d], few_rows[j], i);
                t.op.flags = (i + j) % 2 ? LM_OPF_ACC : 0;
                t.bias = i % 2;
                agree(&t, 4e-6, "linear");
                t = coded_trial(LM_OP_LOGITS, coded[d], few_rows[j], i);
                agree(&t, 4e-6, "logits");
                t = coded_trial(LM_OP_EMBED, coded[d], few_rows[j], i);
                t.width[A] = 0;
                t.width[Y] = t.op.k;
                t.op.a = -1;
                agree(&t, 0, "embed");
            }
}
END_TEST

/* ---- refusals ------------------------------------------------------------------- */
static inline void refuse_program(const struct kit *k, struct lm_op o, const char *why)
{
    int32_t width[2] = { 8, 8 };
    struct lm_program p = { .struct_size = sizeof p, .op = &o, .n_op = 1, .width = width,
                            .n_reg = 2 };
    struct lm_exe *x = NULL;
    err.text[0] = 0;
    ck_assert_msg(k->ops->compile(k->self, &p, &x, &err) == LM_EBUG
                  && strstr(err.text, why), "%s: %s", why, err.text);
    ck_assert_ptr_null(x);
}

static inline void refuse_programs(const struct kit *k)
{
    static const float data[64];
    struct lm_weight *w = put(k, data, 8, 8, 8), *v = put(k, data, 1, 8, 8), *x = NULL;
    struct lm_op good = { .code = LM_OP_LINEAR, .y = 1, .a = 0, .b = -1, .c = -1, .w = w,
                          .n = 8, .k = 8 }, o = good;
    refuse_program(k, (o.code = 99, o), "unknown");
    refuse_program(k, (o = good, o.y = 2, o), "register");
    refuse_program(k, (o = good, o.a = -1, o), "register");
    refuse_program(k, (o = good, o.y = 0, o), "same register");
    refuse_program(k, (o = good, o.w = NULL, o), "weight");
    refuse_program(k, (o = good, o.w = v, o), "weight");
    refuse_program(k, (o = good, o.n = 7, o), "weight");
    refuse_program(k, (o = good, o.bias = w, o), "bias");
    refuse_program(k, (o = good, o.n = 0, o), "dimensions");
    o = (struct lm_op){ .code = LM_OP_COPY, .a = 0, .n = 8, .slot = LM_N_TAPS };
    refuse_program(k, o, "tap");
    o = (struct lm_op){ .code = LM_OP_ATTENTION, .y = 1, .n_head = 4, .n_kv = 3,
                        .head_dim = 2 };
    refuse_program(k, o, "dimensions");
    o = (struct lm_op){ .code = LM_OP_RMSNORM, .y = 1, .w = v, .n = 8, .k = 12 };
    refuse_program(k, o, "groups");
    struct lm_tensor t = { .data = data, .rows = 1, .cols = 8, .dtype = LM_Q4_K };
    ck_assert_int_eq(k->ops->upload(k->self, &t, 8, &x, &err), LM_EUNSUPPORTED);
    t.dtype = LM_F32;
    ck_assert_int_eq(k->ops->upload(k->self, &t, 7, &x, &err), LM_EBUG);
    k->ops->forget(k->self, w);
    k->ops->forget(k->self, v);
}

static inline void refuse_calls(const struct kit *k)
{
    static const float data[64];
    int32_t width[2] = { 8, 8 }, id = 8, one = 2;
    float out[8];
    struct lm_weight *w = put(k, data, 8, 8, 8), *f = put(k, data, 1, 1, 1);
    struct lm_op op[3] = {
        { .code = LM_OP_EMBED, .y = 0, .a = -1, .b = -1, .c = -1, .w = w, .n = 8,
          .k = 8 },
        { .code = LM_OP_ROPE_KV, .y = -1, .a = 0, .b = 0, .c = 0, .w = f, .n_head = 1,
          .n_kv = 1, .head_dim = 2, .f = 1 },
        { .code = LM_OP_CE, .y = -1, .a = 0, .b = -1, .c = -1, .w = w, .n = 8, .k = 8 }
    };
    struct lm_stream *s = NULL;
    struct lm_kv *kv = NULL;
    struct lm_buffer *b = buffer(k, 16);
    ck_assert_ok(k->ops->stream_open(k->self, 1, &s, &err), err);
    ck_assert_ok(k->ops->kv_open(k->self, &one, 1, 2, &kv, &err), err);
    for (int i = 0; i < 3; i++) {
        struct lm_program p = { .struct_size = sizeof p, .op = &op[i], .n_op = 1,
                                .width = width, .n_reg = 2 };
        struct lm_exe *x = NULL;
        ck_assert_ok(k->ops->compile(k->self, &p, &x, &err), err);
        struct lm_exec good = { .struct_size = sizeof good, .rows = 1, .hidden = b,
                                .kv = kv, .out = out }, a = good;
        int32_t fine = 7;
        a.token = a.target = good.token = good.target = &fine;
        ck_assert_ok(k->ops->run(k->self, s, x, &good, NULL, &err), err);
        a.token = a.target = &id;           /* outside, for embedding and loss */
        a.pos = i == 1 ? 2 : 0;             /* behind the end of the cache     */
        ck_assert_int_eq(k->ops->run(k->self, s, x, &a, NULL, &err), LM_EBUG);
        a = good, a.rows = 3;               /* the buffer has two              */
        ck_assert_int_eq(k->ops->run(k->self, s, x, &a, NULL, &err), LM_EBUG);
        a = good, a.hidden = NULL;
        ck_assert_int_eq(k->ops->run(k->self, s, x, &a, NULL, &err), LM_EBUG);
        a = good, a.token = NULL, a.kv = NULL, a.out = NULL;
        ck_assert_int_eq(k->ops->run(k->self, s, x, &a, NULL, &err), LM_EBUG);
        lm_cancel(true);
        ck_assert_int_eq(k->ops->run(k->self, s, x, &good, NULL, &err), LM_ECANCELED);
        lm_cancel(false);
        k->ops->exe_free(k->self, x);
    }
    ck_assert_int_eq(k->ops->write(k->self, b, 9, data, 8, &err), LM_EBUG);
    ck_assert_int_eq(k->ops->read(k->self, b, -1, out, 1, &err), LM_EBUG);
    ck_assert_int_eq(k->ops->read(k->self, b, INT64_MAX, out, 8, &err), LM_EBUG);
    k->ops->buffer_free(k->self, b);
    k->ops->kv_close(k->self, kv);
    k->ops->stream_close(k->self, s);
    k->ops->forget(k->self, w);
    k->ops->forget(k->self, f);
}

START_TEST(what_is_refused)
{
    if (here) {
        refuse_programs(&tested);
        refuse_calls(&tested);
    }
    refuse_programs(&reference);
    refuse_calls(&reference);
}
END_TEST

/* The operators, in f32; setup() and teardown() are fixtures of c. */
static inline void add_operators(TCase *c)
{
    tcase_add_test(c, linear);
    tcase_add_test(c, embed);
    tcase_add_test(c, rmsnorm);
    tcase_add_test(c, elementwise);
    tcase_add_test(c, attention);
    tcase_add_test(c, heads);
    tcase_add_test(c, heads_of_many_rows);
    tcase_add_test(c, what_is_refused);
}

/* The operators in other precisions, and on weights in number formats. */
static inline void add_precisions(TCase *c)
{
    tcase_add_test(c, rounded_linear);
    tcase_add_test(c, rounded_heads);
    tcase_add_test(c, rounded_attention);
    tcase_add_test(c, coded_weights);
}
#endif
