/* SPDX-License-Identifier: Apache-2.0 */
/* check_backend.c -- every operator of the cpu backend against the reference, and
 * the reference against closed forms.                                         */
#include "check_operators.h"

/* Enough work that several threads are used: same results, bit by bit for one
 * row, where each output is one thread's dot product.                          */
START_TEST(threads_change_nothing)
{
    struct answer a, b;
    for (uint32_t code = LM_OP_LINEAR; code <= LM_OP_LOGITS;
         code += LM_OP_LOGITS - LM_OP_LINEAR) {
        struct trial t = trial(code, 1, 1700, 130);
        solve(&tested, &t, &a);
        t.threads = 2;
        solve(&tested, &t, &b);
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

START_TEST(devices_have_names)
{
    struct lm_device d = { .struct_size = sizeof d };
    ck_assert_ok(tested.ops->device(tested.self, &d, &err), err);
    ck_assert_int_eq(strncmp(d.name, "cpu, ", 5), 0);
    ck_assert_ok(reference.ops->device(reference.self, &d, &err), err);
    ck_assert(d.software);
    ck_assert_uint_eq(d.struct_size, sizeof d);
    memset(&d, 0, sizeof d);
    d.struct_size = offsetof(struct lm_device, driver);     /* as an older host */
    ck_assert_ok(tested.ops->device(tested.self, &d, &err), err);
    ck_assert_int_eq(strncmp(d.name, "cpu, ", 5), 0);
    ck_assert_uint_eq(d.struct_size, offsetof(struct lm_device, driver));
    ck_assert_int_eq(d.driver[0], 0);
}
END_TEST

static void use_auto(void)     { kernels = "auto"; }
static void use_portable(void) { kernels = "portable"; }
static void use_avx2(void)     { kernels = "avx2"; }

static void add_set(Suite *s, const char *name, void (*use)(void))
{
    TCase *c = tcase_create(name);
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, use, NULL);
    tcase_add_checked_fixture(c, setup, teardown);
    add_operators(c);
    suite_add_tcase(s, c);
}

int main(void)
{
    Suite *s = suite_create("backend");
    add_set(s, "auto", use_auto);
    add_set(s, "avx2", use_avx2);
    add_set(s, "portable", use_portable);
    TCase *c = tcase_create("rest");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, use_auto, NULL);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, threads_change_nothing);
    tcase_add_test(c, reference_is_right);
    tcase_add_test(c, devices_have_names);
    suite_add_tcase(s, c);
    return run_suites(&s, 1);
}
