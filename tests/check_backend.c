/* SPDX-License-Identifier: Apache-2.0 */
/* check_backend.c -- every operator of the cpu backend against the reference,
 * the reference against closed forms, and what both must refuse.              */
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
                t.scale = scale[j];
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

/* Enough work that several threads are used: same results, bit by bit for one
 * row, where each output is one thread's dot product.                          */
START_TEST(threads_change_nothing)
{
    struct answer a, b;
    for (uint32_t code = LM_OP_LINEAR; code <= LM_OP_LOGITS;
         code += LM_OP_LOGITS - LM_OP_LINEAR) {
        struct trial t = trial(code, 1, 1700, 130);
        solve(&cpu, &t, &a);
        t.threads = 2;
        solve(&cpu, &t, &b);
        ck_assert_mem_eq(a.tap, b.tap, (size_t)a.n_tap * sizeof *a.tap);
        ck_assert_mem_eq(a.out, b.out, (size_t)a.n_out * sizeof *a.out);
        answer_free(&a);
        answer_free(&b);
        t.rows = 9;
        agree(&t, 2e-6, "two threads");
    }
}
END_TEST

/* The truth itself, where the answer is known. */
START_TEST(reference_is_right)
{
    struct answer a;
    struct trial t = trial(LM_OP_CE, 3, 50, 4);         /* equal logits */
    t.width[A] = 4;
    t.scale = 1e-30;
    solve(&reference, &t, &a);
    for (int i = 0; i < 3; i++)
        ck_assert(fabs((double)a.out[i] - log(50)) < 1e-6);
    answer_free(&a);
    t = trial(LM_OP_EXPECT, 2, 50, 4);
    t.scale = 1e-30;
    solve(&reference, &t, &a);
    ck_assert(fabs((double)a.out[0] + log(50)) < 1e-6);
    answer_free(&a);
    t = (struct trial){ .op = { .code = LM_OP_ROPE_KV, .y = -1, .a = A, .b = B, .c = C,
                                .n_head = 1, .n_kv = 1, .head_dim = 2, .f = 1 },
                        .width = { 0, 2, 2, 2, 2 }, .w_rows = 1, .w_cols = 1,
                        .w_stride = 1, .rows = 1 };
    solve(&reference, &t, &a);      /* one key: the output is its value */
    ck_assert(a.tap[0] == a.hidden[4] && a.tap[1] == a.hidden[5]);
    answer_free(&a);
}
END_TEST

/* ---- refusals ------------------------------------------------------------------- */
static void refuse_program(const struct kit *k, struct lm_op o, const char *why)
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

static void refusals(const struct kit *k)
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

static void bad_calls(const struct kit *k)
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
    refusals(&cpu);
    refusals(&reference);
    bad_calls(&cpu);
    bad_calls(&reference);
}
END_TEST

START_TEST(devices_have_names)
{
    struct lm_device d = { .struct_size = sizeof d };
    ck_assert_ok(cpu.ops->device(cpu.self, &d, &err), err);
    ck_assert_int_eq(strncmp(d.name, "cpu, ", 5), 0);
    ck_assert_ok(reference.ops->device(reference.self, &d, &err), err);
    ck_assert(d.software);
    ck_assert_uint_eq(d.struct_size, sizeof d);
    memset(&d, 0, sizeof d);
    d.struct_size = offsetof(struct lm_device, driver);     /* as an older host */
    ck_assert_ok(cpu.ops->device(cpu.self, &d, &err), err);
    ck_assert_int_eq(strncmp(d.name, "cpu, ", 5), 0);
    ck_assert_uint_eq(d.struct_size, offsetof(struct lm_device, driver));
    ck_assert_int_eq(d.driver[0], 0);
}
END_TEST

static void use_auto(void)     { kernels = "auto"; }
static void use_portable(void) { kernels = "portable"; }
static void use_avx2(void)     { kernels = "avx2"; }

static void add_operators(Suite *s, const char *name, void (*use)(void))
{
    TCase *c = tcase_create(name);
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, use, NULL);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, linear);
    tcase_add_test(c, embed);
    tcase_add_test(c, rmsnorm);
    tcase_add_test(c, elementwise);
    tcase_add_test(c, attention);
    tcase_add_test(c, heads);
    suite_add_tcase(s, c);
}

int main(void)
{
    Suite *s = suite_create("backend");
    add_operators(s, "auto", use_auto);
    add_operators(s, "avx2", use_avx2);
    add_operators(s, "portable", use_portable);
    TCase *c = tcase_create("rest");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, use_auto, NULL);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, heads_of_many_rows);
    tcase_add_test(c, threads_change_nothing);
    tcase_add_test(c, reference_is_right);
    tcase_add_test(c, what_is_refused);
    tcase_add_test(c, devices_have_names);
    suite_add_tcase(s, c);
    return run_suites(&s, 1);
}
