/* SPDX-License-Identifier: Apache-2.0 */
/* magnitude.c -- scorer: the Euclidean norm of what the consumer matrix (down of
 * an MLP, o of attention) holds for a site: one column for an FFN channel, the
 * head's columns for a query head, those of all its heads for a KV group.  For a
 * channel of the residual stream: its columns in all matrices that read it, with the
 * norms' weights.
 *
 * The oldest baseline; needs no text.  It ignores how large a channel's
 * activations are and so is far behind wanda: here for comparison.          */
#include "stream.h"

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    return columns_open(a, "magnitude", false, sizeof(struct columns), self, e);
}

/* Adds w_ij^2 g_j^2 over the rows of a matrix. */
static enum lm_status add_squares(const struct columns *p, uint32_t role, int32_t layer,
                                  const float *g, float *w, double *out,
                                  struct lm_err *e)
{
    int64_t d = p->arch->hidden, rows = p->host->tensor(p->model, role, layer)->rows;
    enum lm_status st = LM_OK;

    for (int64_t first = 0; !st && first < rows; first += COLUMNS_CHUNK) {
        int64_t n = rows - first < COLUMNS_CHUNK ? rows - first : COLUMNS_CHUNK;

        st = p->host->rows(p->model, role, layer, first, n, w, e);
        for (int64_t i = 0; !st && i < n * d; i++)
            out[i % d] += (double)w[i] * w[i] * g[i % d] * g[i % d];
    }
    return st;
}

static enum lm_status score_stream(const struct columns *p, double *out, int64_t n,
                                   struct lm_err *e)
{
    float *w = p->host->alloc((COLUMNS_CHUNK + 1) * (size_t)n * sizeof *w, p->name);
    enum lm_status st = w ? LM_OK : columns_no_memory(p, e);
    struct stream_place at;

    for (int64_t j = 0; j < n; j++)
        out[j] = 0;
    for (int i = 0; !st && i < stream_count(p); i++) {
        if (!stream_find(p, i, &at))
            continue;
        st = p->host->rows(p->model, at.norm, at.layer, 0, 1, w, e);
        for (int k = 0; !st && k < 3 && at.reader[k]; k++)
            st = add_squares(p, at.reader[k], at.layer, w, w + n, out, e);
    }
    for (int64_t j = 0; j < n; j++)
        out[j] = sqrt(out[j]);
    p->host->release(w);
    return st;
}

static enum lm_status score(void *self, uint32_t site, int32_t layer, double *out,
                            int64_t n, struct lm_err *e)
{
    const struct columns *p = self;
    struct columns_site s;
    double *sum;
    enum lm_status st;

    if (site == LM_SITE_HIDDEN)
        return (st = stream_check(p, n, e)) ? st : score_stream(p, out, n, e);
    if ((st = columns_find(p, site, layer, n, &s, e))
        || (st = columns_sums(p, &s, true, &sum, e)))
        return st;
    for (int64_t i = 0; i < n; i++)
        out[i] = sqrt(columns_total(&s, sum, i));
    p->host->release(sum);
    return LM_OK;
}

static const struct lm_scorer ops = {
    .struct_size = sizeof ops, .sites = COLUMNS_SITES | LM_BIT(LM_SITE_HIDDEN),
    .score = score
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
