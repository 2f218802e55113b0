/* SPDX-License-Identifier: Apache-2.0 */
/* check_gpu_model.h -- golden models on a backend: dense, cut unevenly, with blocks
 * removed, with coded weights; losses, divergences, logits and greedy tokens against the
 * reference.                                                                        */
#ifndef LM_TESTS_CHECK_GPU_MODEL_H
#define LM_TESTS_CHECK_GPU_MODEL_H
#include "check_formats.h"
#include "engine_kit.h"
#include "model/segment.h"

enum { LENGTH = 24, PROMPT = 10, MOST = 32 };
enum variant { DENSE, CUT, CODED };

static struct lm_err err;
static const char *const golden[] = {
    "tests/golden/llama-mha", "tests/golden/llama-gqa-tied-bf16",
    "tests/golden/llama-attention-bias", "tests/golden/llama-yarn",
    "tests/golden/llama3-rope-f16", "tests/golden/mistral-gqa",
    "tests/golden/qwen2-bias-tied", "tests/golden/qwen3-qknorm"
};
enum { N_GOLDEN = sizeof golden / sizeof *golden };

static const char *tested;              /* the backend */
static const char *option[9];           /* its options: names and values; the test adds
                                           `activations` */

/* A model and a variant of it on a backend. */
struct stage {
    const char *backend;
    struct kit kit;
    struct lm_model *model;
    struct lm_engine *engine;
    struct lm_network dense, net;
    struct lm_segment *seg[MOST], *own[MOST];
    void   *memory[4 * MOST];
    size_t n_own, n_memory;
};

static void *keep(struct stage *s, size_t bytes)
{
    ck_assert_uint_lt(s->n_memory, 4 * MOST);
    return s->memory[s->n_memory++] = lm_alloc(bytes, "test");
}

/* In a number format, and the floats that this stands for. */
static void code(struct stage *s, struct lm_mat *m, uint32_t dtype)
{
    if (m->cols % lm_codec(dtype)->block != 0)
        dtype = LM_F16;
    size_t row = lm_row_bytes(dtype, m->cols);
    unsigned char *coded = keep(s, (size_t)m->rows * row);
    float *w = keep(s, (size_t)(m->rows * m->cols) * sizeof *w);
    for (int64_t r = 0; r < m->rows; r++) {
        lm_codec(dtype)->encode(m->w + r * m->stride, coded + (size_t)r * row, m->cols);
        lm_codec(dtype)->decode(coded + (size_t)r * row, w + r * m->cols, m->cols);
    }
    m->w = w;
    m->stride = m->cols;
    m->coded = (struct lm_tensor){ .data = coded, .rows = m->rows, .cols = m->cols,
                                   .dtype = dtype };
}

static struct lm_segment *changed(struct stage *s, const struct lm_segment *from,
                                  enum variant v)
{
    static const uint32_t dtype[] = { LM_Q8_0, LM_Q4_0, LM_Q4_1, LM_F16 };
    struct lm_segment_spec spec = *lm_segment_spec(from);
    struct lm_segment *out = NULL;
    if (v == CUT) {
        spec.n_ff = 37 - 4 * spec.layer;
        spec.gate.rows = spec.up.rows = spec.down.cols = spec.n_ff;
    }
    for (int i = 0; v == CODED && lm_segment_mat(&spec, i); i++)
        code(s, lm_segment_mat(&spec, i), dtype[(i + spec.layer) % 4]);
    spec.key ^= (uint64_t)v;
    ck_assert_ok(lm_segment_open(s->engine, &spec, &out, &err), err);
    return s->own[s->n_own++] = out;
}

static void make_variant(struct stage *s, enum variant v)
{
    s->net = (struct lm_network){ .seg = s->seg };
    for (size_t i = 0; i < s->dense.n; i++) {
        const struct lm_segment_spec *c = lm_segment_spec(s->dense.seg[i]);
        bool block = c->kind == LM_SEG_ATTN || c->kind == LM_SEG_MLP;
        if (v == CUT && c->kind == LM_SEG_ATTN && c->layer == 1)
            continue;
        s->seg[s->net.n++] = (v == CODED && block) || (v == CUT && c->kind == LM_SEG_MLP)
                           ? changed(s, s->dense.seg[i], v) : s->dense.seg[i];
    }
}

static inline void stage_open(struct stage *s, const char *from, const char *backend,
                       const char *const *with, enum variant v)
{
    *s = (struct stage){ .backend = backend };
    ck_assert(kit_open_with(&s->kit, backend, with));
    ck_assert_ok(formats_read("hf", source_path(from), &s->model, &err), err);
    ck_assert_ok(lm_engine_open(s->model, s->kit.ops, s->kit.self, &s->engine, &err),
                 err);
    ck_assert_ok(lm_network_open(s->engine, s->model, &s->dense, &err), err);
    make_variant(s, v);
}

static void stage_close(struct stage *s)
{
    while (s->n_own > 0)
        lm_segment_close(s->own[--s->n_own]);
    lm_network_close(&s->dense);
    lm_engine_close(s->engine);
    lm_model_free(s->model);
    while (s->n_memory > 0)
        lm_release(s->memory[--s->n_memory]);
    kit_close(&s->kit, s->backend);
}

struct result {
    int32_t token[LENGTH];
    float   nll[LENGTH], kl[LENGTH], logit[LENGTH][256];    /* [vocabulary] of 256 */
};

/* Follows `token` behind the prompt, so that one different choice is one difference. */
static void decode(struct stage *s, const int32_t *ids, const int32_t *token,
                   struct result *r)
{
    int32_t vocab = lm_model_arch(s->model)->vocab;
    struct lm_decoder *d = NULL;
    ck_assert_int_le(vocab, 256);
    ck_assert_ok(lm_decoder_open(s->engine, &s->net, LENGTH, 1, &d, &err), err);
    for (int i = PROMPT; i < LENGTH; i++) {
        const int32_t *next = i == PROMPT ? ids : &token[i - 1];
        float *l = r->logit[i];
        ck_assert_ok(lm_decoder_feed(d, next, i == PROMPT ? PROMPT : 1, l, NULL, &err),
                     err);
        for (int32_t v = r->token[i] = 0; v < vocab; v++)
            r->token[i] = l[v] > l[r->token[i]] ? v : r->token[i];
    }
    lm_decoder_close(d);
}

static void measure(struct stage *s, const int32_t *token, struct result *r)
{
    struct lm_runner *runner = NULL;
    struct lm_teacher *teacher = NULL;
    int32_t ids[LENGTH];
    for (int i = 0; i < LENGTH; i++)
        ids[i] = 3 + i * 7 % 50;
    decode(s, ids, token ? token : r->token, r);
    ck_assert_ok(lm_runner_open(s->engine, &runner, &err), err);
    ck_assert_ok(lm_teacher_open(s->engine, &s->dense, 1 << 20, &teacher, &err), err);
    ck_assert_ok(lm_runner_losses(runner, &s->net, ids, LENGTH, r->nll, &err), err);
    ck_assert_ok(lm_runner_kl(runner, &s->net, teacher, ids, LENGTH, r->kl, &err), err);
    lm_teacher_close(teacher);
    lm_runner_close(runner);
}

/* tolerance: of a logit, relative where it is larger than 1; losses have it twice. */
static inline void compare(const char *from, const char *activations, enum variant v,
                    double tolerance)
{
    static struct result want, got;
    const char *with[12] = { NULL };
    double worst = 0;
    int n = 0;
    struct stage s;
    for (; option[n]; n++)
        with[n] = option[n];
    with[n] = "activations";
    with[n + 1] = activations;
    stage_open(&s, from, "reference", NULL, v);
    int32_t vocab = lm_model_arch(s.model)->vocab;
    measure(&s, NULL, &want);
    stage_close(&s);
    stage_open(&s, from, tested, with, v);
    measure(&s, want.token, &got);
    ck_assert(v != CODED || s.n_memory > 0);
    stage_close(&s);
    for (int i = 0; i < LENGTH; i++) {
        if (i < LENGTH - 1)
            ck_assert_double_eq_tol((double)got.nll[i], (double)want.nll[i],
                                    2 * tolerance);
        ck_assert_double_eq_tol((double)got.kl[i], (double)want.kl[i], 2 * tolerance);
        if (i < PROMPT)
            continue;
        for (int32_t j = 0; j < vocab; j++) {
            double logit = (double)want.logit[i][j];
            ck_assert_double_eq_tol((double)got.logit[i][j], logit,
                                    tolerance * fmax(1, fabs(logit)));
            worst = fmax(worst, fabs((double)got.logit[i][j] - logit));
        }
        if (tolerance < 1e-2)
            ck_assert_int_eq(got.token[i], want.token[i]);
    }
    if (getenv("LAMINA_TEST_VERBOSE"))
        printf("%s, variant %d, %s: logits are at most %.2g off\n", from, (int)v,
               activations, worst);
    ck_assert(v != CUT || want.kl[LENGTH - 1] > 0.1f);      /* it is another model */
}

static inline void setup(void)
{
    lm_pool_start(2, NULL);
}

static inline void teardown(void)
{
    lm_pool_stop();
    ck_assert_int_eq(lm_mem_blocks(), 0);
}

START_TEST(floats)
{
    for (int v = DENSE; v <= CODED; v++)
        compare(golden[_i], "f32", (enum variant)v, 1e-3);
}
END_TEST

START_TEST(halves)
{
    for (int v = DENSE; v <= CODED; v++)
        compare(golden[_i], "f16", (enum variant)v,
                strstr(golden[_i], "mistral") ? 4e-2 : 2e-2);    /* measured: 3e-2 */
}
END_TEST

static inline int check_models(const char *name)
{
    Suite *s = suite_create(name);
    TCase *c = tcase_create("golden");
    tcase_set_timeout(c, 300);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_loop_test(c, floats, 0, N_GOLDEN);
    tcase_add_loop_test(c, halves, 0, N_GOLDEN);
    suite_add_tcase(s, c);
    return run_suites(&s, 1);
}
#endif
