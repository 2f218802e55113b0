/* SPDX-License-Identifier: Apache-2.0 */
/* pca.c -- repair of a narrower residual stream: the directions in which the stream
 * varies most, in place of channels.
 *
 * With H the sum over calibration tokens of y y^T, y = the stream divided by its root
 * mean square, the basis are the eigenvectors of H by falling eigenvalue: no other m
 * directions keep more of sum |y|^2.  By default H is summed over all places at which
 * the stream is read, and one basis serves the whole model, which any format can hold.
 * With `per_block` each place has its own (SliceGPT: Ashkboos et al. 2024, sections 3.2
 * and 3.3), the best for what is read there; but what passes a block by must be turned
 * to the next basis, which drops a little each time, and no format can hold that: such a
 * model can be run and measured here only.
 *
 * Columns of the matrices behind cut heads and channels are left as they are, or are
 * the business of another repair, in `columns`.                               */
#include <string.h>

#include "plugin.h"

struct config { struct lm_instances columns; bool per_block; };

struct repair {
    const struct lm_host *host;
    const struct lm_repair *ops;        /* of `columns`; NULL: none */
    void *inner;
};

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    const struct config *c = a->config;
    struct repair *r;

    if (!LM_HAS(a->host, eigen) || !a->host->eigen)
        return a->host->fail(e, LM_EUNSUPPORTED, "repair 'pca' needs a program that "
                             "finds eigenvectors: a newer one");
    if (!(r = a->host->alloc(sizeof *r, "pca")))
        return a->host->fail(e, LM_ENOMEM, "out of memory for repair 'pca'");
    r->host = a->host;
    if (c->columns.n) {
        r->ops = c->columns.v[0].ops;
        r->inner = c->columns.v[0].self;
    }
    *self = r;
    return LM_OK;
}

static void destroy(void *self)
{
    struct repair *r = self;

    r->host->release(r);
}

/* ---- columns ---------------------------------------------------------------------- */

/* The site outlives what is prepared from it, so it is all that is needed. */
static enum lm_status prepare(void *self, const struct lm_repair_site *site,
                              void **prepared, struct lm_err *e)
{
    const struct repair *r = self;

    if (r->ops)
        return r->ops->prepare(r->inner, site, prepared, e);
    *prepared = (void *)(uintptr_t)site;
    return LM_OK;
}

static enum lm_status apply(void *self, const void *prepared, int64_t m, float *out,
                            struct lm_err *e)
{
    const struct repair *r = self;
    const struct lm_repair_site *s = prepared;

    if (r->ops)
        return r->ops->apply(r->inner, prepared, m, out, e);
    for (int64_t i = 0; i < s->n; i++)
        memcpy(out + i * m, s->w + i * s->k, (size_t)m * sizeof *out);
    return LM_OK;
}

static void release(void *self, void *prepared)
{
    const struct repair *r = self;

    if (r->ops && r->ops->release)
        r->ops->release(r->inner, prepared);
}

static enum lm_status bias(void *self, const void *prepared, int64_t m, const float *w,
                           float *out, struct lm_err *e)
{
    const struct repair *r = self;

    if (r->ops && r->ops->bias)
        return r->ops->bias(r->inner, prepared, m, w, out, e);
    return r->host->fail(e, LM_EBUG, "repair 'pca' makes no biases of its own");
}

/* ---- directions -------------------------------------------------------------------- */

static enum lm_status basis(void *self, const struct lm_stream_site *s, float *out,
                            struct lm_err *e)
{
    const struct lm_host *h = ((const struct repair *)self)->host;
    int64_t d = s->d;
    double *sum = h->alloc((size_t)d * ((size_t)d + 1) * sizeof *sum, "pca");
    enum lm_status st = LM_OK;

    if (!sum)
        return h->fail(e, LM_ENOMEM, "out of memory for repair 'pca'");
    for (int32_t k = 0; k < s->n; k++)
        for (int64_t i = 0; i < d * d; i++)
            sum[i] += s->gram[k][i];
    if (!(st = h->eigen(sum, d, sum + d * d, e)))
        for (int64_t i = 0; i < d; i++)
            for (int64_t j = 0; j < d; j++)
                out[i * d + j] = (float)sum[j * d + i];
    h->release(sum);
    return st;
}

static uint64_t shapes(const void *config)
{
    return ((const struct config *)config)->per_block ? LM_SHAPE_TURNED : 0;
}

static const struct lm_opt options[] = {
    LM_OPTION(struct config, columns, LM_OPT_PLUGINS, struct lm_instances, NULL, 0, 1,
              NULL, NULL, 0, "The repair of columns behind cut heads and channels, a "
              "list of one; empty: they stay as they are."),
    LM_FLAG(struct config, per_block, "false", 0,
            "Each block has directions of its own; such a model can be run and measured, "
            "but not be exported."),
    LM_OPT_END
};

static const struct lm_repair ops = {
    .struct_size = sizeof ops, .needs = LM_BIT(LM_STAT_STREAM), .prepare = prepare,
    .apply = apply, .release = release, .shapes = shapes, .bias = bias, .basis = basis
};

static const struct lm_module module = {
    LM_MODULE_HEAD(REPAIR),
    .name = "pca", .version = "1.0", .license = "Apache-2.0", .author = "Lamina",
    .summary = "principal directions of the residual stream in place of channels",
    .reference = "Ashkboos et al. 2024, SliceGPT: compress large language models by "
                 "deleting rows and columns",
    .opt = options, .config_size = sizeof(struct config),
    .create = create, .destroy = destroy, .ops = &ops
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
