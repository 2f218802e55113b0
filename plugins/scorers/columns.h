/* SPDX-License-Identifier: Apache-2.0 */
/* columns.h -- sites as columns of the matrix that consumes them (down of an MLP,
 * o of attention), for the scorers that judge by weights and activations of
 * those: a channel is one column, a query head head_dim, a KV group those of its
 * heads.  Header-only, so that each scorer stays a module of one file.       */
#ifndef LM_SCORERS_COLUMNS_H
#define LM_SCORERS_COLUMNS_H
#include <math.h>

#include "plugin.h"

enum { COLUMNS_CHUNK = 64 };            /* rows decoded at a time */
#define COLUMNS_SITES (LM_BIT(LM_SITE_FFN_CHANNEL) | LM_BIT(LM_SITE_KV_GROUP) \
                       | LM_BIT(LM_SITE_HEAD))

struct columns {                        /* first member of a scorer's instance */
    const struct lm_host  *host;
    const struct lm_arch  *arch;
    const struct lm_model *model;
    const struct lm_stats *stats;
    const char *name;                   /* of the scorer, for messages */
};

struct columns_site {                   /* the sites of one kind in one layer */
    uint32_t role, block;               /* of the matrix; LM_SITE_ATTN or _MLP */
    int32_t  layer;
    int64_t  k, n, width;               /* columns, sites, columns of a site */
};

static inline enum lm_status columns_no_memory(const struct columns *p, struct lm_err *e)
{
    return p->host->fail(e, LM_ENOMEM, "out of memory for scorer '%s'", p->name);
}

/* An instance of `size` bytes that begins with struct columns. */
static inline enum lm_status columns_open(const struct lm_args *a, const char *name,
                                          bool stats, size_t size, void **self,
                                          struct lm_err *e)
{
    struct columns c = { a->host, a->host->arch(a->model), a->model, a->stats, name };
    struct columns *p;

    if (stats && !a->stats)
        return a->host->fail(e, LM_ECONFIG, "scorer '%s' needs calibration statistics; "
                             "name a calibration text", name);
    if (!(p = a->host->alloc(size, name)))
        return columns_no_memory(&c, e);
    *p = c;
    *self = p;
    return LM_OK;
}

static inline void columns_close(void *self)
{
    struct columns *p = self;

    p->host->release(p);
}

/* n: how many scores the host wants. */
static inline enum lm_status columns_find(const struct columns *p, uint32_t site,
                                          int32_t layer, int64_t n,
                                          struct columns_site *s, struct lm_err *e)
{
    const struct lm_layer_shape *l = &p->arch->layer[layer];
    bool mlp = site == LM_SITE_FFN_CHANNEL;

    *s = (struct columns_site){
        .role = mlp ? LM_W_DOWN : LM_W_O, .block = mlp ? LM_SITE_MLP : LM_SITE_ATTN,
        .layer = layer, .k = mlp ? l->n_ff : (int64_t)l->n_head * p->arch->head_dim,
        .n = mlp ? l->n_ff : site == LM_SITE_HEAD ? l->n_head : l->n_kv
    };
    if (n != s->n || n < 1)
        return p->host->fail(e, LM_EBUG, "layer %d: %lld scores are wanted for %lld "
                             "sites", layer, (long long)n, (long long)s->n);
    s->width = s->k / n;
    return LM_OK;
}

/* A statistic of the columns, [k]. */
static inline enum lm_status columns_stat(const struct columns *p,
                                          const struct columns_site *s, uint32_t stat,
                                          const double **out, struct lm_err *e)
{
    int64_t n;
    enum lm_status st = p->host->stat(p->stats, stat, s->block, s->layer, out, &n, e);

    if (!st && n != s->k)
        return p->host->fail(e, LM_EBUG, "layer %d: statistics have %lld columns, the "
                             "matrix has %lld", s->layer, (long long)n, (long long)s->k);
    return st;
}

/* sum[k]: of magnitudes, or of squares, of each column; to be released. */
static inline enum lm_status columns_sums(const struct columns *p,
                                          const struct columns_site *s, bool squares,
                                          double **out, struct lm_err *e)
{
    const struct lm_host *h = p->host;
    int64_t rows = p->arch->hidden, k = s->k;
    float *w = h->alloc(COLUMNS_CHUNK * (size_t)k * sizeof *w, p->name);
    double *sum = h->alloc((size_t)k * sizeof *sum, p->name);
    enum lm_status st = w && sum ? LM_OK : columns_no_memory(p, e);

    for (int64_t first = 0; !st && first < rows; first += COLUMNS_CHUNK) {
        int64_t n = rows - first < COLUMNS_CHUNK ? rows - first : COLUMNS_CHUNK;

        st = h->rows(p->model, s->role, s->layer, first, n, w, e);
        for (int64_t i = 0; !st && i < n; i++)
            for (int64_t j = 0; j < k; j++) {
                double x = fabs((double)w[i * k + j]);

                sum[j] += squares ? x * x : x;
            }
    }
    h->release(w);
    if (st) {
        h->release(sum);
        return st;
    }
    *out = sum;
    return LM_OK;
}

/* Sum over the columns of site i. */
static inline double columns_total(const struct columns_site *s, const double *v,
                                   int64_t i)
{
    double total = 0;

    for (int64_t j = i * s->width; j < (i + 1) * s->width; j++)
        total += v[j];
    return total;
}
#endif
