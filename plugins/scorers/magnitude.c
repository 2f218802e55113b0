/* SPDX-License-Identifier: Apache-2.0 */
/* magnitude.c -- scorer: the Euclidean norm of what the consumer matrix (down of
 * an MLP, o of attention) holds for a site: one column for an FFN channel, the
 * head's columns for a query head, those of all its heads for a KV group.
 *
 * The oldest baseline; needs no text.  It ignores how large a channel's
 * activations are and so is far behind wanda: here for comparison.          */
#include "columns.h"

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    return columns_open(a, "magnitude", false, sizeof(struct columns), self, e);
}

static enum lm_status score(void *self, uint32_t site, int32_t layer, double *out,
                            int64_t n, struct lm_err *e)
{
    const struct columns *p = self;
    struct columns_site s;
    double *sum;
    enum lm_status st = columns_find(p, site, layer, n, &s, e);

    if (st || (st = columns_sums(p, &s, true, &sum, e)))
        return st;
    for (int64_t i = 0; i < n; i++)
        out[i] = sqrt(columns_total(&s, sum, i));
    p->host->release(sum);
    return LM_OK;
}

static const struct lm_scorer ops = {
    .struct_size = sizeof ops, .sites = COLUMNS_SITES, .score = score
};

static const struct lm_module module = {
    LM_MODULE_HEAD(SCORER),
    .name = "magnitude", .version = "1.0", .license = "Apache-2.0", .author = "Lamina",
    .summary = "norm of the weights that read a site; needs no text",
    .reference = "Han et al. 2015, Learning both weights and connections for efficient "
                 "neural networks",
    .create = create, .destroy = columns_close, .ops = &ops
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
