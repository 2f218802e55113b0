/* SPDX-License-Identifier: Apache-2.0 */
/* check_precision.c -- bf16 and int8 programs, and f32 programs on weights in
 * number formats: each instruction set against the reference, sums of integers
 * equal on all of them, and what a result may not depend on: rows beside it,
 * threads, other programs over the same weights.                             */
#include <stdlib.h>

#include "check_operators.h"

static const char *const sets[] = { "portable", "avx2", "avx512", "avx512_vnni",
                                    "avx512_bf16" };
/* More keys than one block, weights sharp enough that most rows meet new maxima.
 * Without rotation and with 1 / sqrt(d) = 1/4 all factors of a bf16 program are
 * bf16 already, so only the weights p of y = sum p v / sum p are rounded:
 * |y - y_exact| <= 2^-9 max |v|, with |v| <= 6.                                 */
START_TEST(attention_over_key_blocks)
{
    for (uint32_t p = LM_AS_F32; here && p <= LM_AS_BF16; p++) {
        struct trial t = { .op = { .code = LM_OP_ROPE_KV, .y = -1, .a = A, .b = B,
            .c = C, .n_head = 2, .n_kv = 1, .head_dim = 16, .f = 1 },
            .rows = 600, .repeat = 2, .w_rows = 1, .w_cols = 8, .w_stride = 8,
            .w_zero = p, .precision = p, .scale = 6 };
        struct answer a, b;
        t.width[A] = t.width[Y] = 32;
        t.width[B] = t.width[C] = 16;
        solve(&tested, &t, &a);
        solve(&reference, &t, &b);
        for (int64_t i = 0; i < a.n_tap; i++)
            ck_assert_msg(fabs((double)a.tap[i] - (double)b.tap[i])
                          < (p ? 0x1p-9 * 6 : 5e-5), "%u, %lld: %.9g, not %.9g",
                          (unsigned)p, (long long)i, (double)a.tap[i], (double)b.tap[i]);
        answer_free(&a);
        answer_free(&b);
    }
}
END_TEST

static void same(const float *a, const float *b, int64_t n, const char *what);

/* The reference is the same on decoded values, and so is the cpu but for one row,
 * which adds in another order (threads change nothing there), and for what the
 * portable set leaves to OpenBLAS, which adds as it likes.                      */
START_TEST(coded_is_decoded)
{
    const struct kit *kit[] = { &reference, &tested };
    for EACH(b, kit)
        for EACH(d, coded)
            for EACH(j, few_rows) {
                struct trial t = coded_trial(LM_OP_LINEAR, coded[d], few_rows[j], 4);
                struct trial u = t;
                struct answer x, y;
                if (kit[b] == &tested && !here)
                    continue;
                u.decoded = kit[b] == &reference || t.rows > 1;
                u.threads = 3;
                solve(kit[b], &t, &x);
                solve(kit[b], &u, &y);
                if (kit[b] == &tested && t.rows > 16 && !strcmp(kernels, "portable"))
                    near(x.tap, y.tap, x.n_tap, 2e-6, lm_codec(coded[d])->name);
                else
                    same(x.tap, y.tap, x.n_tap, lm_codec(coded[d])->name);
                answer_free(&x);
                answer_free(&y);
            }
}
END_TEST

/* ---- one product ------------------------------------------------------------------- */
struct product { uint32_t precision; int32_t rows, n, k, threads; };

static struct lm_exe *compile(const struct kit *k, const struct product *p,
                              const struct lm_weight *w)
{
    int32_t width[2] = { p->k + 3, p->n + 1 };
    struct lm_op op[2] = {
        { .code = LM_OP_LINEAR, .y = 1, .a = 0, .b = -1, .c = -1, .w = w, .n = p->n,
          .k = p->k },
        { .code = LM_OP_COPY, .y = -1, .a = 1, .b = -1, .c = -1, .n = p->n }
    };
    struct lm_program program = { sizeof program, op, 2, width, 2, p->precision };
    struct lm_exe *x = NULL;
    ck_assert_ok(k->ops->compile(k->self, &program, &x, &err), err);
    return x;
}

/* y [rows][n] of rows of a [rows][k + 3]. */
static float *multiply(const struct kit *k, const struct product *p, const float *a,
                       const float *data)
{
    struct lm_weight *w = put(k, data, p->n, p->k, p->k);
    struct lm_exe *x = compile(k, p, w);
    struct lm_stream *s = NULL;
    int64_t n_in = (int64_t)p->rows * (p->k + 3), n_out = (int64_t)p->rows * p->n;
    ck_assert_ok(k->ops->stream_open(k->self, p->threads, &s, &err), err);
    struct lm_exec arg = { .struct_size = sizeof arg, .rows = p->rows,
                           .hidden = buffer(k, n_in), .tap = { buffer(k, n_out) } };
    ck_assert_ok(k->ops->write(k->self, arg.hidden, 0, a, n_in, &err), err);
    ck_assert_ok(k->ops->run(k->self, s, x, &arg, NULL, &err), err);
    float *y = fetch(k, arg.tap[0], n_out);
    k->ops->buffer_free(k->self, arg.hidden);
    k->ops->buffer_free(k->self, arg.tap[0]);
    k->ops->stream_close(k->self, s);
    k->ops->exe_free(k->self, x);
    k->ops->forget(k->self, w);
    return y;
}

static void same(const float *a, const float *b, int64_t n, const char *what)
{
    for (int64_t i = 0; i < n; i++)
        ck_assert_msg(!memcmp(&a[i], &b[i], sizeof *a), "%s[%lld]: %.9g, not %.9g", what,
                      (long long)i, (double)a[i], (double)b[i]);
}

/* Rows alone and together, and any number of threads: the same bits. */
START_TEST(rows_stand_alone)
{
    for (uint32_t q = LM_AS_BF16; here && q <= LM_AS_INT8; q++) {
        struct product p = { q, 33, 290, 75, 1 }, two = p, one = p;
        float *a = noise((int64_t)p.rows * (p.k + 3), "a", 1);
        float *w = noise((int64_t)p.n * p.k, "w", 1);
        float *all = multiply(&tested, &p, a, w);
        two.threads = 2;
        float *y = multiply(&tested, &two, a, w);
        same(y, all, (int64_t)p.rows * p.n, "two threads");
        lm_release(y);
        one.rows = 1;
        for (int32_t r = 0; r < p.rows; r++) {
            y = multiply(&tested, &one, a + (int64_t)r * (p.k + 3), w);
            same(y, all + (int64_t)r * p.n, p.n, "one row");
            lm_release(y);
        }
        lm_release(a);
        lm_release(w);
        lm_release(all);
    }
}
END_TEST

/* int8: sums are integers, so all sets give the same bits. */
START_TEST(integers_are_exact)
{
    for EACH(i, shapes)
        for EACH(j, few_rows) {
            struct product p = { LM_AS_INT8, few_rows[j], shapes[i][0], shapes[i][1], 1 };
            float *a = noise((int64_t)p.rows * (p.k + 3), "a", 3);
            float *w = noise((int64_t)p.n * p.k, "w", 0.2), *first = NULL;
            for EACH(s, sets) {
                struct kit k;
                if (!kit_open_with(&k, "cpu", (const char *const[]){ "kernels", sets[s],
                                                                     NULL }))
                    continue;
                float *y = multiply(&k, &p, a, w);
                if (first)
                    same(y, first, (int64_t)p.rows * p.n, sets[s]);
                else
                    first = y;
                if (y != first)
                    lm_release(y);
                kit_close(&k, "cpu");
            }
            lm_release(first);
            lm_release(a);
            lm_release(w);
        }
}
END_TEST

/* Overflow shows, in its row only. */
START_TEST(not_a_number_stays_in_its_row)
{
    static const float bad[] = { NAN, INFINITY, -INFINITY };
    for (uint32_t q = LM_AS_BF16; here && q <= LM_AS_INT8; q++)
        for EACH(b, bad) {
            struct product p = { q, 3, 40, 21, 1 };
            float *a = noise((int64_t)p.rows * (p.k + 3), "a", 1);
            float *w = noise((int64_t)p.n * p.k, "w", 1);
            a[p.k + 3 + 7] = bad[b];
            float *y = multiply(&tested, &p, a, w);
            for (int32_t i = 0; i < 3 * p.n; i++)
                ck_assert_msg(isfinite(y[i]) == (i / p.n != 1), "%d: %g", i,
                              (double)y[i]);
            lm_release(a);
            lm_release(w);
            lm_release(y);
        }
}
END_TEST

/* Programs over the same rows share them packed: a width adds its last chunk. */
START_TEST(widths_share)
{
    struct product p = { LM_AS_INT8, 1, 1024, 512, 1 }, half = p;
    float *data = noise((int64_t)p.n * p.k, "w", 1);
    half.n = 500;
    struct lm_weight *w = put(&tested, data, p.n, p.k, p.k);
    struct lm_weight *v = put(&tested, data, half.n, p.k, p.k);
    size_t before = live_bytes();
    struct lm_exe *x = compile(&tested, &p, w);
    size_t whole = live_bytes() - before;
    struct lm_exe *y = compile(&tested, &p, w), *z = compile(&tested, &half, v);
    size_t more = live_bytes() - before - whole;
    ck_assert_msg(whole > 512 * 1024 && whole < 600 * 1024, "%zu", whole);
    ck_assert_msg(more < 80 * 1024, "%zu", more);
    tested.ops->exe_free(tested.self, x);
    tested.ops->exe_free(tested.self, y);
    ck_assert(live_bytes() - before > 256 * 1024);
    tested.ops->exe_free(tested.self, z);
    ck_assert_uint_eq(live_bytes(), before);
    tested.ops->forget(tested.self, w);
    tested.ops->forget(tested.self, v);
    lm_release(data);
}
END_TEST

/* ---- refusals ---------------------------------------------------------------------- */
static enum lm_status compile_all(void *ctx)
{
    struct lm_weight *w = ctx;
    int32_t width[2] = { 70, 300 };
    struct lm_op op = { .code = LM_OP_LINEAR, .y = 1, .a = 0, .b = -1, .c = -1, .w = w,
                        .n = 300, .k = 70 };
    struct lm_program p = { sizeof p, &op, 1, width, 2, LM_AS_BF16 };
    struct lm_exe *x = NULL;
    enum lm_status st = tested.ops->compile(tested.self, &p, &x, &err);
    ck_assert(st == LM_OK || !x);
    if (x)
        tested.ops->exe_free(tested.self, x);
    return st;
}

START_TEST(refusals)
{
    float *data = noise(300 * 70, "w", 1);
    struct lm_weight *w = put(&tested, data, 300, 70, 70);
    struct lm_weight *wide = put(&tested, data, 1, 70, 70);
    const struct kit *kit[] = { &tested, &reference };
    int32_t width[2] = { 70000, 8 };
    for EACH(i, kit) {
        struct lm_weight *u = put(kit[i], data, 1, 70, 70);
        struct lm_op op = { .code = LM_OP_LINEAR, .y = 1, .a = 0, .b = -1, .c = -1,
                            .w = u, .n = 1, .k = 70 };
        struct lm_program p = { sizeof p, &op, 1, width, 2, LM_N_PRECISIONS };
        struct lm_exe *x = NULL;
        ck_assert_int_eq(kit[i]->ops->compile(kit[i]->self, &p, &x, &err),
                         LM_EUNSUPPORTED);
        p.precision = LM_AS_INT8;           /* an older host does not know the field */
        p.struct_size = offsetof(struct lm_program, precision);
        ck_assert_ok(kit[i]->ops->compile(kit[i]->self, &p, &x, &err), err);
        kit[i]->ops->exe_free(kit[i]->self, x);
        kit[i]->ops->forget(kit[i]->self, u);
    }
    ck_assert_int_ge(fail_every_allocation(compile_all, w), 8);
    tested.ops->forget(tested.self, w);
    tested.ops->forget(tested.self, wide);
    float *row = noise(70000, "w", 1);
    wide = put(&tested, row, 1, 70000, 70000);
    struct lm_op op = { .code = LM_OP_LINEAR, .y = 1, .a = 0, .b = -1, .c = -1, .w = wide,
                        .n = 1, .k = 70000 };
    struct lm_program p = { sizeof p, &op, 1, width, 2, LM_AS_INT8 };
    struct lm_exe *x = NULL;
    ck_assert_int_eq(tested.ops->compile(tested.self, &p, &x, &err), LM_EUNSUPPORTED);
    ck_assert_ptr_null(x);
    tested.ops->forget(tested.self, wide);
    lm_release(row);
    lm_release(data);
}
END_TEST

/* Weights in number formats are for some operators of f32 programs. */
START_TEST(coded_weights_are_refused)
{
    static float row[256];
    const struct kit *kit[] = { &reference, &tested };
    static const struct { uint32_t code, precision; } no[] = {
        { LM_OP_CE, LM_AS_F32 }, { LM_OP_KL, LM_AS_F32 }, { LM_OP_EXPECT, LM_AS_F32 },
        { LM_OP_RMSNORM, LM_AS_F32 }, { LM_OP_LINEAR, LM_AS_BF16 },
        { LM_OP_LOGITS, LM_AS_INT8 }
    };
    for EACH(b, kit) {
        const struct lm_backend *ops = kit[b]->ops;
        struct lm_tensor t = { .data = row, .rows = 1, .cols = 64, .dtype = LM_Q8_0 };
        struct lm_weight *w = NULL, *bias = NULL;
        struct lm_exe *x = NULL;
        int32_t width[3] = { 64, 64, 64 };
        ck_assert_ok(ops->upload(kit[b]->self, &t, 96, &w, &err), err);
        ck_assert_int_eq(ops->upload(kit[b]->self, &t, 80, &bias, &err), LM_EBUG);
        t.cols = 60;
        ck_assert_int_eq(ops->upload(kit[b]->self, &t, 64, &bias, &err), LM_EBUG);
        t.cols = 256;
        for (int i = 0; i < 2; i++) {
            t.dtype = i ? 1000 : LM_Q4_K;
            ck_assert_int_eq(ops->upload(kit[b]->self, &t, 256, &bias, &err),
                             LM_EUNSUPPORTED);
        }
        for EACH(i, no) {
            struct lm_op op = { .code = no[i].code, .y = 1, .a = 0, .b = -1, .c = -1,
                                .w = w, .n = no[i].code == LM_OP_RMSNORM ? 64 : 1,
                                .k = 64 };
            struct lm_program p = { sizeof p, &op, 1, width, 3, no[i].precision };
            ck_assert_int_eq(ops->compile(kit[b]->self, &p, &x, &err), LM_EBUG);
            ck_assert_ptr_nonnull(strstr(err.text, "not f32"));
        }
        t = (struct lm_tensor){ .data = row, .rows = 1, .cols = 64, .dtype = LM_BF16 };
        ck_assert_ok(ops->upload(kit[b]->self, &t, 64, &bias, &err), err);
        float *data = noise(64 * 64, "w", 1);
        struct lm_weight *wide = put(kit[b], data, 64, 64, 64);
        struct lm_op op = { .code = LM_OP_LINEAR, .y = 1, .a = 0, .b = -1, .c = -1,
                            .w = wide, .bias = bias, .n = 64, .k = 64 };
        struct lm_program p = { sizeof p, &op, 1, width, 3, LM_AS_F32 };
        ck_assert_int_eq(ops->compile(kit[b]->self, &p, &x, &err), LM_EBUG);
        ck_assert_ptr_null(x);
        ops->forget(kit[b]->self, bias);
        ops->forget(kit[b]->self, wide);
        ops->forget(kit[b]->self, w);
        lm_release(data);
    }
}
END_TEST

START_TEST(environment_names_a_set)
{
    const struct lm_module *m = plug_open("backends", "cpu");
    struct lm_args a = { .struct_size = sizeof a, .host = &tested.host };
    struct lm_device d = { .struct_size = sizeof d };
    void *self = NULL;
    setenv("LAMINA_CPU", "portable", 1);
    ck_assert_ok(m->create(&a, &self, &err), err);
    ck_assert_ok(tested.ops->device(self, &d, &err), err);
    ck_assert_str_eq(d.name, "cpu, portable");
    m->destroy(self);
    setenv("LAMINA_CPU", "abacus", 1);
    ck_assert_int_eq(m->create(&a, &self, &err), LM_ECONFIG);
    ck_assert_ptr_nonnull(strstr(err.text, "'abacus'"));
    for EACH(i, sets) {                 /* there, or refused by name */
        setenv("LAMINA_CPU", sets[i], 1);
        enum lm_status st = m->create(&a, &self, &err);
        ck_assert(st == LM_OK || (st == LM_EUNAVAILABLE && strstr(err.text, sets[i])));
        if (st == LM_OK)
            m->destroy(self);
    }
    unsetenv("LAMINA_CPU");
}
END_TEST

static void use_portable(void) { kernels = "portable"; }
static void use_avx2(void)     { kernels = "avx2"; }
static void use_avx512(void)   { kernels = "avx512"; }
static void use_vnni(void)     { kernels = "avx512_vnni"; }
static void use_bf16(void)     { kernels = "avx512_bf16"; }
static void use_auto(void)     { kernels = "auto"; }

static TCase *add_case(Suite *s, const char *name, void (*use)(void))
{
    TCase *c = tcase_create(name);
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, use, NULL);
    tcase_add_checked_fixture(c, setup, teardown);
    suite_add_tcase(s, c);
    return c;
}

int main(void)
{
    void (*const use[])(void) = { use_portable, use_avx2, use_avx512, use_vnni,
                                  use_bf16 };
    Suite *s = suite_create("precision");
    unsetenv("LAMINA_CPU");
    for EACH(i, use) {
        TCase *c = add_case(s, sets[i], use[i]);
        add_precisions(c);
        tcase_add_test(c, attention_over_key_blocks);
        tcase_add_test(c, coded_is_decoded);
        tcase_add_test(c, rows_stand_alone);
        tcase_add_test(c, not_a_number_stays_in_its_row);
    }
    TCase *c = add_case(s, "rest", use_auto);
    tcase_add_test(c, integers_are_exact);
    tcase_add_test(c, widths_share);
    tcase_add_test(c, refusals);
    tcase_add_test(c, coded_weights_are_refused);
    tcase_add_test(c, environment_names_a_set);
    return run_suites(&s, 1);
}
