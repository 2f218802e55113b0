/* SPDX-License-Identifier: Apache-2.0 */
/* repair_sins.c -- keeps the columns as they are; see sins.h.
 *
 * Sins: worse, changes, past_end, bias_worse, bias_changes, bias_past_end.  */
#include "sins.h"

static enum lm_status prepare(void *self, const struct lm_repair_site *site,
                              void **prepared, struct lm_err *e)
{
    (void)self; (void)e;
    *prepared = (void *)(uintptr_t)site;
    return LM_OK;
}

static enum lm_status apply(void *self, const void *prepared, int64_t m, float *out,
                            struct lm_err *e)
{
    const struct lm_repair_site *s = prepared;

    (void)self; (void)e;
    for (int64_t i = 0; i < s->n * m; i++)
        out[i] = s->w[i / m * s->k + i % m] * (is("worse") && m < s->k ? -9 : 1)
               + (is("changes"));
    if (is("past_end"))
        out[s->n * m] = 0;
    return LM_OK;
}

static uint64_t shapes(const void *config)
{
    (void)config;
    return LM_SHAPE_MLP_BIAS;
}

static enum lm_status bias(void *self, const void *prepared, int64_t m, const float *w,
                           float *out, struct lm_err *e)
{
    const struct lm_repair_site *s = prepared;

    (void)self; (void)w; (void)e;
    for (int64_t i = 0; i < s->n; i++)
        out[i] = is("bias_changes") || (is("bias_worse") && m < s->k) ? 99 : 0;
    if (is("bias_past_end"))
        out[s->n] = 0;
    return LM_OK;
}

static void release(void *self, void *prepared) { (void)self; (void)prepared; }

static const struct lm_repair ops = {
    .struct_size = sizeof ops, .needs = LM_BIT(LM_STAT_GRAM), .prepare = prepare,
    .apply = apply, .release = release, .shapes = shapes,
    .bias = bias };

SIN_MODULE(REPAIR, sin_create, ops, )
