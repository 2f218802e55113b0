/* SPDX-License-Identifier: Apache-2.0 */
/* check_backend.h -- one operator on two backends, the tested one and the reference:
 * for check_backend.c, check_precision.c and, by check_operators.h, other backends.
 *
 * Register 0 carries the inputs of an operator side by side; selection matrices
 * (which copy exactly, or as a program's precision rounds) put them into registers
 * 1 (a), 2 (b), 3 (c) and 4 (y), and COPY brings y back.                       */
#ifndef LM_TESTS_CHECK_BACKEND_H
#define LM_TESTS_CHECK_BACKEND_H
#include "engine_kit.h"

enum { A = 1, B, C, Y, N_REG, PAD = 3 };

static struct kit tested, reference;
static const char *backend = "cpu";     /* the tested one, and its options      */
static const char *kernels;             /* instruction set of the cpu backend   */
static const char *option[9];           /* of another: names and values         */
static double least;                    /* tolerances are no smaller            */
static double largest = INFINITY;       /* inputs' scale is no larger           */
static int every = 1;                   /* of so many trials one is made: for the slow */
static bool here;                       /* this machine has what it needs       */
static struct lm_err err;

static inline void setup(void)
{
    lm_pool_start(2, NULL);
    kit_open(&reference, "reference");
    if (!strcmp(backend, "cpu"))
        option[0] = "kernels", option[1] = kernels;
    here = kit_open_with(&tested, backend, option);
}

static inline void teardown(void)
{
    if (here)
        kit_close(&tested, backend);
    kit_close(&reference, "reference");
    lm_pool_stop();
    ck_assert_int_eq(lm_mem_blocks(), 0);
}

static inline float *noise(int64_t n, const char *what, double scale)
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
    bool    bias, w_zero;               /* w_zero: the weight is all zeros      */
    int32_t rows, pos, threads;
    double  scale;                      /* of inputs                            */
    int32_t repeat;                     /* calls that continue in the cache     */
    uint32_t precision;
    uint32_t dtype;                     /* of the weight; 0: f32                */
    bool    decoded;                    /* f32, the values of that number format */
};

struct answer { float *hidden, *tap, *out; int64_t n_hidden, n_tap, n_out; };

static inline void answer_free(struct answer *a)
{
    lm_release(a->hidden);
    lm_release(a->tap);
    lm_release(a->out);
}

static inline struct lm_weight *put(const struct kit *k, const float *w, int64_t rows,
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
    unsigned char *code;
};

static inline void plan_load(const struct kit *k, const struct trial *t, struct plan *p)
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

/* The weight in t->dtype, and its data as that has them. */
static inline void plan_encode(const struct kit *k, const struct trial *t, struct plan *p)
{
    int64_t row = t->dtype ? lm_row_bytes(t->dtype, t->w_stride) : 0;
    p->code = lm_alloc((size_t)(t->w_rows * row) + 1, "codes");
    for (int64_t i = 0; t->dtype && i < t->w_rows; i++) {
        float *w = p->data + i * t->w_stride;
        lm_codec(t->dtype)->encode(w, p->code + i * row, t->w_stride);
        lm_codec(t->dtype)->decode(p->code + i * row, w, t->w_stride);
    }
    struct lm_tensor c = { .data = p->code, .rows = t->w_rows, .cols = t->w_cols,
                           .dtype = t->dtype };
    if (!t->dtype || t->decoded)
        p->weight = put(k, p->data, t->w_rows, t->w_cols, t->w_stride);
    else
        ck_assert_ok(k->ops->upload(k->self, &c, t->w_stride, &p->weight, &err), err);
}

static inline void plan_make(const struct kit *k, const struct trial *t, struct plan *p)
{
    *p = (struct plan){ 0 };
    for (int i = A; i < N_REG; i++)
        p->width[0] += t->width[i];
    p->width[0] = p->width[0] ? p->width[0] : 1;
    plan_load(k, t, p);
    if (t->w_rows) {
        p->data = noise(t->w_rows * t->w_stride, "weight", t->w_zero ? 0 : 1);
        plan_encode(k, t, p);
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

static inline void plan_free(const struct kit *k, struct plan *p)
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
    lm_release(p->code);
    lm_release(p->bias_data);
}

static inline struct lm_buffer *buffer(const struct kit *k, int64_t n)
{
    struct lm_buffer *b = NULL;
    ck_assert_ok(k->ops->buffer(k->self, n, &b, &err), err);
    return b;
}

static inline float *fetch(const struct kit *k, const struct lm_buffer *b, int64_t n)
{
    float *x = lm_alloc_array((size_t)n, sizeof *x, "answer");
    ck_assert_ok(k->ops->read(k->self, b, 0, x, n, &err), err);
    return x;
}

static inline void solve(const struct kit *k, const struct trial *t, struct answer *out)
{
    struct plan p;
    plan_make(k, t, &p);
    const struct lm_op *o = &t->op;
    struct lm_program program = { sizeof program, p.op, p.n, p.width, N_REG,
                                  t->precision };
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

static inline void near(const float *a, const float *b, int64_t n, double tolerance,
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

static inline void agree(const struct trial *t, double tolerance, const char *what)
{
    static int n;
    struct answer a, b;
    if (!here || n++ % every)
        return;
    solve(&tested, t, &a);
    solve(&reference, t, &b);
    tolerance = fmax(tolerance, least);
    near(a.tap, b.tap, a.n_tap, tolerance, what);
    if (t->op.code >= LM_OP_CE && t->op.code <= LM_OP_LOGITS)
        near(a.out, b.out, a.n_out, tolerance, what);
    answer_free(&a);
    answer_free(&b);
}

static inline struct trial trial(uint32_t code, int32_t rows, int32_t n, int32_t k)
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
#define EACH(i, list) (size_t i = 0; i < sizeof list / sizeof *list; i++)
#endif
