/* SPDX-License-Identifier: Apache-2.0 */
/* toy.h -- tiny random models, made in memory, of any shape a test wants. */
#ifndef LM_TESTS_TOY_H
#define LM_TESTS_TOY_H
#include "base/rng.h"
#include "model/codec.h"
#include "model/model.h"
#include "testing.h"

struct toy {
    int32_t n_layer, n_head, n_kv, n_ff;    /* of every layer */
    bool bias, tied;
    uint32_t dtype;                         /* of matrices; 0: f32 */
    int32_t zero;                           /* o and down of this layer - 1 are 0 */
    const int32_t *permute;                 /* channel j is that of the plain model's
                                               channel permute[j]; NULL: plain */
};
enum { TOY_HIDDEN = 32, TOY_HEAD = 4, TOY_VOCAB = 48 };

static inline void toy_fill(const struct toy *t, uint32_t role, int32_t layer,
                            int64_t rows, int64_t cols, float *w)
{
    struct lm_rng r = lm_rng(7, lm_role_name(role), (uint64_t)(layer + 1));
    bool by_row = role == LM_W_GATE || role == LM_W_UP;
    bool zero = t->zero && layer == t->zero - 1 && (role == LM_W_O || role == LM_W_DOWN);

    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) {
            double x = 2 * lm_rng_unit(&r) - 1, scale = 1.0 + (double)(j % 5);
            int64_t to = i * cols + j;

            if (t->permute && by_row)
                for (to = 0; t->permute[to] != i; to++)
                    ;
            if (t->permute && by_row)
                to = to * cols + j;
            if (t->permute && (role == LM_W_DOWN || role == LM_B_GATE
                               || role == LM_B_UP)) {
                int64_t at = 0;

                while (t->permute[at] != j)
                    at++;
                to = i * cols + at;
            }
            if (!lm_role_is_matrix(role) && role < LM_B_Q)
                w[to] = (float)(1 + 0.2 * x);           /* norms */
            else
                w[to] = zero ? 0 : (float)(0.25 * scale * x);
        }
}

static inline void toy_tensor(struct lm_builder *b, const struct toy *t, uint32_t role,
                              int32_t layer, const struct lm_arch *a)
{
    struct lm_err e = { LM_OK, "" };
    struct lm_tensor x = { .dtype = LM_F32 };
    float *w;

    if (!lm_role_shape(a, role, layer, &x.rows, &x.cols))
        return;
    w = lm_alloc((size_t)(x.rows * x.cols) * sizeof *w, "toy");
    toy_fill(t, role, layer, x.rows, x.cols, w);
    x.data = w;
    if (t->dtype && t->dtype != LM_F32 && lm_role_is_matrix(role)) {
        int64_t row = lm_row_bytes(t->dtype, x.cols);
        char *packed = lm_alloc((size_t)(x.rows * row), "toy");

        for (int64_t i = 0; i < x.rows; i++)
            lm_codec(t->dtype)->encode(w + i * x.cols, packed + i * row, x.cols);
        lm_release(w);
        x.data = packed;
        x.dtype = t->dtype;
    }
    ck_assert_ok(lm_builder_tensor(b, role, layer, &x, lm_role_name(role), &e), e);
    lm_builder_keep(b, (void *)(uintptr_t)x.data);
}

static inline struct lm_model *toy_model(const struct toy *t)
{
    struct lm_layer_shape shape[16];
    struct lm_arch a = {
        .struct_size = sizeof a, .n_layer = t->n_layer, .hidden = TOY_HIDDEN,
        .head_dim = TOY_HEAD, .vocab = TOY_VOCAB, .context = 64, .family = "llama",
        .name = "toy", .rms_eps = 1e-5, .rope_theta = 10000, .tied = t->tied,
        .bos = 0, .eos = 1, .pad = -1, .layer = shape
    };
    struct lm_err e = { LM_OK, "" };
    struct lm_builder *b;
    struct lm_model *m;

    for (int32_t i = 0; i < t->n_layer; i++)
        shape[i] = (struct lm_layer_shape){ t->n_head, t->n_kv, t->n_ff, 0 };
    ck_assert_ok(lm_builder_open("toy", &b, &e), e);
    ck_assert_ok(lm_builder_arch(b, &a, &e), e);
    for (int32_t layer = -1; layer < t->n_layer; layer++)
        for (uint32_t role = LM_W_EMBED; role < LM_N_ROLES; role++) {
            bool bias = role >= LM_B_Q && role <= LM_B_DOWN;

            if (lm_role_is_layer(role) != (layer >= 0) || (bias && !t->bias)
                || role == LM_W_Q_NORM || role == LM_W_K_NORM
                || (role == LM_W_HEAD && t->tied))
                continue;
            toy_tensor(b, t, role, layer, &a);
        }
    ck_assert_ok(lm_builder_finish(b, &m, &e), e);
    return m;
}
#endif
