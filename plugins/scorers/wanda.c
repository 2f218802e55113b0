/* SPDX-License-Identifier: Apache-2.0 */
/* wanda.c -- scorer: weights times activations, summed over a whole column.
 *
 * For column j of the consumer matrix W (down of an MLP, o of attention) with
 * input x over the calibration tokens t:
 *
 *   score_j = sum_i |W_ij| * sqrt(sum_t x_tj^2)
 *
 * (Sun et al. 2024, eq. 1, summed over output rows as in its structured
 * variants).  A query head has the sum over its columns, a KV group that over
 * the columns of its heads.                                                 */
#include <math.h>

#include "plugin.h"

enum { CHUNK = 64 };                    /* rows decoded at a time */

struct wanda {
    const struct lm_host  *host;
    const struct lm_arch  *arch;
    const struct lm_model *model;
    const struct lm_stats *stats;
};

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct wanda *p;

    if (!a->stats)
        return a->host->fail(e, LM_ECONFIG, "scorer 'wanda' needs calibration "
                             "statistics; name a calibration text");
    if (!(p = a->host->alloc(sizeof *p, "wanda")))
        return a->host->fail(e, LM_ENOMEM, "out of memory for scorer 'wanda'");
    p->host = a->host;
    p->model = a->model;
    p->stats = a->stats;
    p->arch = a->host->arch(a->model);
    *self = p;
    return LM_OK;
}

static void destroy(void *self)
{
    struct wanda *p = self;

    p->host->release(p);
}

/* sum[k]: of magnitudes of each column. */
static enum lm_status column_sums(const struct wanda *p, uint32_t role, int32_t layer,
                                  int64_t k, double *sum, struct lm_err *e)
{
    int64_t rows = p->arch->hidden;
    float *w = p->host->alloc(CHUNK * (size_t)k * sizeof *w, "wanda");
    enum lm_status st = LM_OK;

    if (!w)
        return p->host->fail(e, LM_ENOMEM, "out of memory for scorer 'wanda'");
    for (int64_t first = 0; !st && first < rows; first += CHUNK) {
        int64_t n = rows - first < CHUNK ? rows - first : CHUNK;

        st = p->host->rows(p->model, role, layer, first, n, w, e);
        for (int64_t i = 0; !st && i < n; i++)
            for (int64_t j = 0; j < k; j++)
                sum[j] += fabsf(w[i * k + j]);
    }
    p->host->release(w);
    return st;
}

static enum lm_status score(void *self, uint32_t site, int32_t layer, double *out,
                            int64_t n, struct lm_err *e)
{
    const struct wanda *p = self;
    const struct lm_layer_shape *s = &p->arch->layer[layer];
    bool mlp = site == LM_SITE_FFN_CHANNEL;
    int64_t k = mlp ? s->n_ff : (int64_t)s->n_head * p->arch->head_dim;
    int64_t sites = mlp ? s->n_ff : site == LM_SITE_HEAD ? s->n_head : s->n_kv;
    int64_t width, n_stat;
    const double *sumsq;
    double *sum;
    enum lm_status st;

    if (n != sites || n < 1)
        return p->host->fail(e, LM_EBUG, "layer %d: %lld scores are wanted for %lld "
                             "sites", layer, (long long)n, (long long)sites);
    st = p->host->stat(p->stats, LM_STAT_SUMSQ, mlp ? LM_SITE_MLP : LM_SITE_ATTN, layer,
                       &sumsq, &n_stat, e);
    if (st)
        return st;
    if (n_stat != k)
        return p->host->fail(e, LM_EBUG, "layer %d: statistics have %lld columns, the "
                             "matrix has %lld", layer, (long long)n_stat, (long long)k);
    if (!(sum = p->host->alloc((size_t)k * sizeof *sum, "wanda")))
        return p->host->fail(e, LM_ENOMEM, "out of memory for scorer 'wanda'");
    st = column_sums(p, mlp ? LM_W_DOWN : LM_W_O, layer, k, sum, e);
    width = k / n;
    for (int64_t i = 0; !st && i < n; i++) {
        out[i] = 0;
        for (int64_t j = i * width; j < (i + 1) * width; j++)
            out[i] += sum[j] * sqrt(sumsq[j]);
    }
    p->host->release(sum);
    return st;
}

static const struct lm_scorer ops = {
    .struct_size = sizeof ops,
    .sites = LM_BIT(LM_SITE_FFN_CHANNEL) | LM_BIT(LM_SITE_KV_GROUP)
           | LM_BIT(LM_SITE_HEAD),
    .needs = LM_BIT(LM_STAT_SUMSQ), .score = score
};

static const struct lm_module module = {
    LM_MODULE_HEAD(SCORER),
    .name = "wanda", .version = "1.0", .license = "Apache-2.0", .author = "Lamina",
    .summary = "weights times norm of activations",
    .reference = "Sun et al. 2024, A simple and effective pruning approach for large "
                 "language models",
    .create = create, .destroy = destroy, .ops = &ops
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
