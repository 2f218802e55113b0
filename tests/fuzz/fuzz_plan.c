/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_plan.c -- plans as text; what is read is the same when written and read. */
#include "fuzz.h"
#include "plan/plan.h"

static const struct lm_layer_shape layer[4] = {
    { 6, 3, 70, 0 }, { 6, 3, 70, 0 }, { 0, 0, 128, 0 }, { 8, 2, 0, 0 } };
static const struct lm_arch arch = {
    .struct_size = sizeof arch, .n_layer = 4, .hidden = 16, .head_dim = 4, .vocab = 32,
    .context = 64, .family = "llama", .name = "", .rms_eps = 1e-5, .rope_theta = 1e4,
    .bos = -1, .eos = -1, .pad = -1, .layer = layer };

static void again(const struct lm_plan *p)
{
    struct lm_str t = { 0 }, u = { 0 };
    struct lm_plan *copy;
    struct lm_cost cost = { .struct_size = sizeof cost };
    struct lm_err e = { 0 };
    lm_plan_text(p, &t);
    FUZZ_CHECK(!t.failed);
    FUZZ_CHECK(lm_plan_parse(&arch, t.s, &copy, &e) == LM_OK);
    lm_plan_text(copy, &u);
    FUZZ_CHECK(!u.failed && !strcmp(t.s, u.s));
    FUZZ_CHECK(lm_plan_hash(p) == lm_plan_hash(copy));
    lm_plan_cost(p, LM_Q8_0, &cost);
    (void)lm_plan_features(p);
    lm_plan_free(copy);
    lm_str_free(&u);
    lm_str_free(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *text = fuzz_text(data, n);
    struct lm_plan *p;
    struct lm_err e = { 0 };
    int64_t begun = fuzz_begin();
    enum lm_status s = lm_plan_parse(&arch, text, &p, &e);
    fuzz_status(s, &e);
    if (s == LM_OK) {
        again(p);
        lm_plan_free(p);
    }
    free(text);
    fuzz_end(begun);
    return 0;
}
