/* SPDX-License-Identifier: Apache-2.0 */
/* magnitude.c -- scorer: the Euclidean norm of what the consumer matrix (down of
 * an MLP, o of attention) holds for a site: one column for an FFN channel, the
 * head's columns for a query head, those of all its heads for a KV group.
 *
 * The oldest baseline; needs no text.  It ignores how large a channel's
 * activations are and so is far behind wanda: here for comparison.          */
#include <math.h>

#include "plugin.h"

enum { CHUNK = 64 };                    /* rows decoded at a time */

struct magnitude {
    const struct lm_host  *host;
    const struct lm_arch  *arch;
    const struct lm_model *model;
};

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct magnitude *p = a->host->alloc(sizeof *p, "magnitude");

    if (!p)
        return a->host->fail(e, LM_ENOMEM, "out of memory for scorer 'magnitude'");
    p->host = a->host;
    p->model = a->model;
    p->arch = a->host->arch(a->model);
    *self = p;
    return LM_OK;
}

static void destroy(void *self)
{
    struct magnitude *p = self;

    p->host->release(p);
}

/* sum[k]: of squares of each column. */
static enum lm_status column_sums(const struct magnitude *p, uint32_t role,
                                  int32_t layer, int64_t k, double *sum,
                                  struct lm_err *e)
{
    int64_t rows = p->arch->hidden;
    float *w = p->host->alloc(CHUNK * (size_t)k * sizeof *w, "magnitude");
    enum lm_status st = LM_OK;

    if (!w)
        return p->host->fail(e, LM_ENOMEM, "out of memory for scorer 'magnitude'");
    for (int64_t first = 0; !st && first < rows; first += CHUNK) {
        int64_t n = rows - first < CHUNK ? rows - first : CHUNK;

        st = p->host->rows(p->model, role, layer, first, n, w, e);
        for (int64_t i = 0; !st && i < n; i++)
            for (int64_t j = 0; j < k; j++)
                sum[j] += (double)w[i * k + j] * w[i * k + j];
    }
    p->host->release(w);
    return st;
}

static enum lm_status score(void *self, uint32_t site, int32_t layer, double *out,
                            int64_t n, struct lm_err *e)
{
    const struct magnitude *p = self;
    const struct lm_layer_shape *s = &p->arch->layer[layer];
    bool mlp = site == LM_SITE_FFN_CHANNEL;
    int64_t k = mlp ? s->n_ff : (int64_t)s->n_head * p->arch->head_dim;
    int64_t sites = mlp ? s->n_ff : site == LM_SITE_HEAD ? s->n_head : s->n_kv, width;
    double *sum;
    enum lm_status st;

    if (n != sites || n < 1)
        return p->host->fail(e, LM_EBUG, "layer %d: %lld scores are wanted for %lld "
                             "sites", layer, (long long)n, (long long)sites);
    if (!(sum = p->host->alloc((size_t)k * sizeof *sum, "magnitude")))
        return p->host->fail(e, LM_ENOMEM, "out of memory for scorer 'magnitude'");
    st = column_sums(p, mlp ? LM_W_DOWN : LM_W_O, layer, k, sum, e);
    width = k / n;
    for (int64_t i = 0; !st && i < n; i++) {
        double of_site = 0;

        for (int64_t j = 0; j < width; j++)
            of_site += sum[i * width + j];
        out[i] = sqrt(of_site);
    }
    p->host->release(sum);
    return st;
}

static const struct lm_scorer ops = {
    .struct_size = sizeof ops,
    .sites = LM_BIT(LM_SITE_FFN_CHANNEL) | LM_BIT(LM_SITE_KV_GROUP)
           | LM_BIT(LM_SITE_HEAD),
    .score = score
};

static const struct lm_module module = {
    LM_MODULE_HEAD(SCORER),
    .name = "magnitude", .version = "1.0", .license = "Apache-2.0", .author = "Lamina",
    .summary = "norm of the weights that read a site; needs no text",
    .reference = "Han et al. 2015, Learning both weights and connections for efficient "
                 "neural networks",
    .create = create, .destroy = destroy, .ops = &ops
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
