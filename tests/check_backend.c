/* SPDX-License-Identifier: Apache-2.0 */
/* check_backend.c -- every operator of the cpu backend against the reference,
 * the reference against closed forms, and what both must refuse.
 *
 * Register 0 carries the inputs of an operator side by side; selection matrices
 * (which copy exactly) put them into registers 1 (a), 2 (b), 3 (c) and 4 (y),
 * and COPY brings y back.                                                     */
#include "engine_kit.h"

enum { A = 1, B, C, Y, N_REG, PAD = 3 };

static struct kit cpu, reference;
static const char *kernels;             /* instruction set of the cpu backend   */
static bool here;                       /* the processor has it                 */
static struct lm_err err;

static void setup(void)
{
    lm_pool_start(2, NULL);
    kit_open(&reference, "reference");
    here = kit_open_with(&cpu, "cpu", (const char *const[]){ "kernels", kernels, NULL });
}

static void teardown(void)
{
    if (here)
        kit_close(&cpu, "cpu");
    kit_close(&reference, "reference");
    lm_pool_stop();
    ck_assert_int_eq(lm_mem_blocks(), 0);
}

static float *noise(int64_t n, const char *what, double scale)
{
    float *x = lm_alloc_array((size_t)n, sizeof *x, "noise");
    struct lm_rng r = lm_rng(11, what, (uint64_t)n);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)((2 * lm_rng_unit(&r) - 1) * scale);
    return x;
}

/* One operator with its data; the same for each backend. */
struct trial {
    struct lm_op op;
    int32_t width[N_REG];               /* floats used of a, b, c, y; 0: none   */
    int64_t w_rows, w_cols, w_stride;   /* 0: no weight                         */
    bool    bias;
    int32_t rows, pos, threads;
    double  scale;                      /* of inputs                            */
    int32_t repeat;                     /* calls that continue in the cache     */
};

struct answer { float *hidden, *tap, *out; int64_t n_hidden, n_tap, n_out; };

static void answer_free(struct answer *a)
{
    lm_release(a->hidden);
    lm_release(a->tap);
    lm_release(a->out);
}

static struct lm_weight *put(const struct kit *k, const float *w, int64_t rows,
                             int64_t cols, int64_t stride)
{
    struct lm_tensor t = { .data = w, .rows = rows, .cols = cols, .dtype = LM_F32 };
    struct lm_weight *x = NULL;
    ck_assert_ok(k->ops->upload(k->self, &t, stride, &x, &err), err);
    return x;
}

/* Selection matrices from the columns of register 0, and the program. */
struct plan {
    struct lm_op op[8];
    size_t n;
    int32_t width[N_REG];
    float *select[N_REG];
    struct lm_weight *w[N_REG], *weight, *bias;
    float *data, *bias_data;
};

static void plan_load(const struct kit *k, const struct trial *t, struct plan *p)
{
    int32_t at = 0;
    for (int i = A; i < N_REG; i++) {
        int32_t n = t->width[i];
        p->width[i] = n ? n + PAD : 0;
        if (!n)
            continue;
        p->select[i] = lm_alloc((size_t)n * (size_t)p->width[0] * sizeof(float),
                                "select");
        for (int32_t r = 0; r < n; r++)
            p->select[i][(int64_t)r * p->width[0] + at + r] = 1;
        p->w[i] = put(k, p->select[i], n, p->width[0], p->width[0]);
        p->op[p->n++] = (struct lm_op){ .code = LM_OP_LINEAR, .y = i, .a = 0, .b = -1,
                                        .c = -1, .w = p->w[i], .n = n, .k = p->width[0] };
        at += n;
    }
}

static void plan_make(const struct kit *k, const struct trial *t, struct plan *p)
{
    *p = (struct plan){ 0 };
    for (int i = A; i < N_REG; i++)
        p->width[0] += t->width[i];
    p->width[0] = p->width[0] ? p->width[0] : 1;
    plan_load(k, t, p);
    if (t->w_rows) {
        p->data = noise(t->w_rows * t->w_stride, "weight", 1);
        p->weight = put(k, p->data, t->w_rows, t->w_cols, t->w_stride);
    }
    if (t->bias) {
        p->bias_data = noise(t->op.n, "bias", 1);
        p->bias = put(k, p->bias_data, 1, t->op.n, t->op.n);
    }
    struct lm_op o = t->op;
    o.w = p->weight;
    o.bias = p->bias;
    p->op[p->n++] = o;
    if (o.code == LM_OP_ROPE_KV) {      /* attention reads what it wrote */
        o.code = LM_OP_ATTENTION;
        o.y = Y;
        o.b = o.c = -1;
        o.w = NULL;
        p->op[p->n++] = o;
        p->op[p->n++] = (struct lm_op){ .code = LM_OP_COPY, .y = -1, .a = A, .b = -1,
                                        .c = -1, .n = t->width[A], .slot = 1 };
    }
    if (t->width[Y])
        p->op[p->n++] = (struct lm_op){ .code = LM_OP_COPY, .y = -1, .a = Y, .b = -1,
                                        .c = -1, .n = t->width[Y] };
}

static void plan_free(const struct kit *k, struct plan *p)
{
    for (int i = A; i < N_REG; i++) {
        if (p->w[i])
            k->ops->forget(k->self, p->w[i]);
        lm_release(p->select[i]);
    }
    if (p->weight)
        k->ops->forget(k->self, p->weight);
    if (p->bias)
        k->ops->forget(k->self, p->bias);
    lm_release(p->data);
    lm_release(p->bias_data);
}

static struct lm_buffer *buffer(const struct kit *k, int64_t n)
{
    struct lm_buffer *b = NULL;
    ck_assert_ok(k->ops->buffer(k->self, n, &b, &err), err);
    return b;
}

static float *fetch(const struct kit *k, const struct lm_buffer *b, int64_t n)
{
    float *x = lm_alloc_array((size_t)n, sizeof *x, "answer");
    ck_assert_ok(k->ops->read(k->self, b, 0, x, n, &err), err);
    return x;
}

static void solve(const struct kit *k, const struct trial *t, struct answer *out)
{
    struct plan p;
    plan_make(k, t, &p);
    const struct lm_op *o = &t->op;
    struct lm_program program = { sizeof program, p.op, p.n, p.width, N_REG };
    struct lm_exe *x = NULL;
    struct lm_stream *s = NULL;
    struct lm_kv *kv = NULL;
    int32_t repeat = t->repeat ? t->repeat : 1, total = t->rows * repeat + t->pos;
    int32_t kv_width = o->n_kv * o->head_dim + 5;
    int64_t n_hidden = (int64_t)t->rows * p.width[0];
    int64_t n_tap = (int64_t)t->rows * (t->width[Y] + t->width[A] + 1);
    ck_assert_ok(k->ops->compile(k->self, &program, &x, &err), err);
    ck_assert_ok(k->ops->stream_open(k->self, t->threads ? t->threads : 1, &s, &err),
                 err);
    ck_assert_ok(k->ops->kv_open(k->self, &kv_width, 1, total, &kv, &err), err);
    struct lm_exec arg = { .struct_size = sizeof arg, .rows = t->rows, .kv = kv,
                           .hidden = buffer(k, n_hidden),
                           .tap = { buffer(k, n_tap), buffer(k, n_tap) } };
    struct lm_buffer *teacher = buffer(k, (int64_t)t->rows * (o->k + 1));
    float *lesson = noise((int64_t)t->rows * (o->k + 1), "teacher", 0.3);
    int32_t *id = lm_alloc_array((size_t)t->rows, sizeof *id, "ids");
    for (int32_t i = 0; i < t->rows; i++)
        id[i] = o->n > 0 ? (i * 7919 + 13) % o->n : 0;
    ck_assert_ok(k->ops->write(k->self, teacher, 0, lesson, (int64_t)t->rows * o->k,
                               &err),
                 err);
    *out = (struct answer){ .n_hidden = n_hidden, .n_tap = (int64_t)t->rows * t->width[Y],
                            .n_out = o->code == LM_OP_LOGITS ? o->n : t->rows };
    out->out = lm_alloc_array((size_t)(o->n > t->rows ? o->n : t->rows) + 1, 4, "out");
    arg.token = arg.target = id;
    arg.teacher = teacher;
    arg.out = out->out;
    for (int32_t i = 0; i < repeat; i++) {
        char what[32];
        snprintf(what, sizeof what, "input %d", i);
        float *in = noise(n_hidden, what, t->scale ? t->scale : 1);
        struct lm_time time;
        arg.pos = t->pos + i * t->rows;
        ck_assert_ok(k->ops->write(k->self, arg.hidden, 0, in, n_hidden, &err), err);
        ck_assert_ok(k->ops->run(k->self, s, x, &arg, &time, &err), err);
        ck_assert(time.host >= 0);
        lm_release(in);
    }
    out->hidden = fetch(k, arg.hidden, n_hidden);
    out->tap = fetch(k, arg.tap[0], n_tap);
    k->ops->buffer_free(k->self, teacher);
    k->ops->buffer_free(k->self, arg.hidden);
    k->ops->buffer_free(k->self, arg.tap[0]);
    k->ops->buffer_free(k->self, arg.tap[1]);
    k->ops->kv_close(k->self, kv);
    k->ops->stream_close(k->self, s);
    k->ops->exe_free(k->self, x);
    lm_release(lesson);
    lm_release(id);
    plan_free(k, &p);
}

static void near(const float *a, const float *b, int64_t n, double tolerance,
                 const char *what)
{
    double size = 0;
    for (int64_t i = 0; i < n; i++)
        size = fmax(size, fabs((double)b[i]));
    for (int64_t i = 0; i < n; i++)
        ck_assert_msg(fabs((double)a[i] - (double)b[i]) <= tolerance * (size + 1e-3),
                      "%s[%lld]: %.9g, not %.9g", what, (long long)i, (double)a[i],
                      (double)b[i]);
}

static void agree(const struct trial *t, double tolerance, const char *what)
{
    struct answer a, b;
    if (!here)
        return;
    solve(&cpu, t, &a);
    solve(&reference, t, &b);
    near(a.tap, b.tap, a.n_tap, tolerance, what);
    if (t->op.code >= LM_OP_CE && t->op.code <= LM_OP_LOGITS)
        near(a.out, b.out, a.n_out, tolerance, what);
    answer_free(&a);
    answer_free(&b);
}

static struct trial trial(uint32_t code, int32_t rows, int32_t n, int32_t k)
{
    bool head = code >= LM_OP_CE && code <= LM_OP_LOGITS;
    struct trial t = { .op = { .code = code, .y = Y, .a = A, .b = -1, .c = -1, .n = n,
                               .k = k, .eps = 1e-5f }, .rows = rows };
    t.width[A] = k;
    t.width[Y] = n;
    t.w_rows = n;
    t.w_cols = k;
    t.w_stride = k + 2;
    if (head) {
        t.width[Y] = code == LM_OP_EXPECT ? k : 0;
        t.op.y = code == LM_OP_EXPECT ? Y : -1;
    }
    return t;
}

static const int32_t rows_of[] = { 1, 2, 4, 5, 17, 65 };
#define EACH(i, list) (size_t i = 0; i < sizeof list / sizeof *list; i++)

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
                    agree(&t, 2e-6 * fmax(1, scale[s]), "head");
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
    struct lm_program p = { sizeof p, &o, 1, width, 2 };
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
    struct lm_tensor t = { .data = data, .rows = 1, .cols = 8, .dtype = LM_BF16 };
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
        struct lm_program p = { sizeof p, &op[i], 1, width, 2 };
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

static void use_auto(void)    { kernels = "auto"; }
static void use_generic(void) { kernels = "generic"; }
static void use_avx2(void)    { kernels = "avx2"; }

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
    add_operators(s, "generic", use_generic);
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
