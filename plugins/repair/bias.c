/* SPDX-License-Identifier: Apache-2.0 */
/* bias.c -- repair: keeps the weights and adds the mean of what is missing.
 *
 * W [n][k] reads x; the columns S = 0..m-1 are kept, R are removed.  With mu the
 * mean of x over the calibration tokens,
 *
 *   bias = W_R mu_R,
 *
 * so that the output of the cut matrix has the mean it had, over those tokens.
 * FLAP (An et al. 2024, "Fluctuation-based adaptive structured pruning for large
 * language models").  What varies in the removed part is lost;
 * least_squares with its option bias also takes that over.                   */
#include <math.h>
#include <string.h>

#include "plugin.h"

struct repair { const struct lm_host *host; };

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct repair *r = a->host->alloc(sizeof *r, "bias");

    if (!r)
        return a->host->fail(e, LM_ENOMEM, "out of memory for repair 'bias'");
    r->host = a->host;
    *self = r;
    return LM_OK;
}

static void destroy(void *self)
{
    struct repair *r = self;

    r->host->release(r);
}

/* The site outlives what is prepared from it, so it is all that is needed. */
static enum lm_status prepare(void *self, const struct lm_repair_site *s,
                              void **prepared, struct lm_err *e)
{
    const struct repair *r = self;

    *prepared = (void *)(uintptr_t)s;
    if (!s->sum || s->tokens < 1)
        return r->host->fail(e, LM_EBUG, "repair 'bias' got no sums");
    for (int64_t j = 0; j < s->k; j++)
        if (!isfinite(s->sum[j]))
            return r->host->fail(e, LM_EFAILED, "the calibration statistics hold a value "
                                 "that is not finite; is the model damaged?");
    return LM_OK;
}

static enum lm_status apply(void *self, const void *prepared, int64_t m, float *out,
                            struct lm_err *e)
{
    const struct lm_repair_site *s = prepared;

    (void)self;
    (void)e;
    for (int64_t i = 0; i < s->n; i++)
        memcpy(out + i * m, s->w + i * s->k, (size_t)m * sizeof *out);
    return LM_OK;
}

static enum lm_status bias(void *self, const void *prepared, int64_t m, const float *w,
                           float *out, struct lm_err *e)
{
    const struct repair *r = self;
    const struct lm_repair_site *s = prepared;

    (void)w;
    for (int64_t i = 0; i < s->n; i++) {
        double sum = 0;

        for (int64_t j = m; j < s->k; j++)
            sum += (double)s->w[i * s->k + j] * s->sum[j];
        out[i] = (float)(sum / (double)s->tokens);
        if (!isfinite(out[i]))
            return r->host->fail(e, LM_EFAILED, "a bias came out that is not finite; is "
                                 "the model damaged?");
    }
    return LM_OK;
}

static void release(void *self, void *prepared)
{
    (void)self;
    (void)prepared;
}

static uint64_t shapes(const void *config)
{
    (void)config;
    return LM_SHAPE_ATTN_BIAS | LM_SHAPE_MLP_BIAS;
}

static const struct lm_repair ops = {
    .struct_size = sizeof ops, .needs = LM_BIT(LM_STAT_SUM), .prepare = prepare,
    .apply = apply, .release = release, .shapes = shapes, .bias = bias
};

static const struct lm_module module = {
    LM_MODULE_HEAD(REPAIR),
    .name = "bias", .version = "1.0", .license = "Apache-2.0", .author = "Lamina",
    .summary = "keeps the weights, adds the mean of what the removed ones did as a bias",
    .reference = "An et al. 2024, Fluctuation-based adaptive structured pruning for large "
                 "language models",
    .create = create, .destroy = destroy, .ops = &ops
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
