/* SPDX-License-Identifier: Apache-2.0 */
/* stats_add.c -- adding up what groups of a calibration pass leave behind: in double
 * and in the order of the groups, whatever bench each of them ran on.          */
#include <string.h>

#include "base/pool.h"
#include "model/stats_pass.h"

static double *doubles(const struct pass *p, const struct stats_section *s)
{
    return s ? (double *)(void *)(p->data + s->offset) : NULL;
}

static double *section(const struct pass *p, uint32_t stat, uint32_t site)
{
    return doubles(p, lm_stats_find(&p->layout, stat, site, p->layer));
}

/* NULL: there is no such product, or its rows are stored. */
static double *gram_of(const struct pass *p, int i)
{
    const struct stats_section *s = lm_pass_product(p, i, p->layer);
    return s && !s->width ? doubles(p, s) : NULL;
}

/* Row r of the layer's matrices, over the groups of the wave in order. */
static void add_row(void *ctx, int64_t r, uint32_t worker)
{
    struct pass *p = ctx;
    (void)worker;
    for (int i = 0; i < N_PRODUCTS; i++) {
        int64_t k = lm_pass_columns(p, i, p->layer);
        double *gram = r < k ? gram_of(p, i) : NULL;
        for (int64_t g = 0; gram && g < p->wave; g++) {
            const float *part = p->bench[g].gram[i] + r * k;
            for (int64_t j = 0; j <= r; j++)
                gram[r * k + j] += (double)part[j];
        }
    }
}

static void mirror_row(void *ctx, int64_t r, uint32_t worker)
{
    struct pass *p = ctx;
    (void)worker;
    for (int i = 0; i < N_PRODUCTS; i++) {
        int64_t k = lm_pass_columns(p, i, p->layer);
        double *gram = r < k ? gram_of(p, i) : NULL;
        for (int64_t j = r + 1; gram && j < k; j++)
            gram[r * k + j] = gram[j * k + r];
    }
}

static int64_t widest(const struct pass *p)
{
    int64_t n = 0;
    for (int i = 0; i < N_PRODUCTS; i++) {
        int64_t k = lm_pass_columns(p, i, p->layer);
        n = gram_of(p, i) && k > n ? k : n;
    }
    return n;
}

static void add_vector(double *to, const double *from, int64_t n)
{
    for (int64_t i = 0; to && i < n; i++)
        to[i] += from[i];
}

/* Of the wave's g-th group, which begins at token `first` and is of n tokens. */
static void add_rows(const struct pass *p, int64_t g, int64_t first, int64_t n)
{
    for (int i = 0; i < N_PRODUCTS; i++) {
        const struct stats_section *s = lm_pass_product(p, i, p->layer);
        if (s && s->width)
            memcpy((float *)(void *)(p->data + s->offset) + first * s->width,
                   p->bench[g].x[i], (size_t)(n * s->width) * sizeof(float));
    }
}

/* Of the wave's g-th group, all but the matrices. */
static void add_group(const struct pass *p, int64_t g)
{
    const struct bench *w = &p->bench[g];
    int64_t first = (p->first + g) * p->group * p->length;
    int64_t left = p->n_seq * p->length - first, n = p->group * p->length;
    double tokens = (double)p->n_seq * (double)p->length;
    add_rows(p, g, first, left < n ? left : n);
    for (int b = 0; b < N_BLOCKS; b++) {
        int64_t k = lm_stats_width(p->a, block_site[b], p->layer);
        double mean = w->out[b].cosine / tokens;
        add_vector(section(p, LM_STAT_SUM, block_site[b]), w->out[b].sum, k);
        add_vector(section(p, LM_STAT_SUMSQ, block_site[b]), w->out[b].sumsq, k);
        add_vector(section(p, LM_STAT_COSINE, block_site[b]), &mean, 1);
        add_vector(section(p, LM_STAT_SUMABS, block_site[b]), w->out[b].sumabs, k);
        add_vector(section(p, LM_STAT_ALIGN, block_site[b]), w->out[b].align, N_ALIGN);
    }
    double mean = w->cosine / tokens;
    add_vector(section(p, LM_STAT_COSINE, LM_SITE_LAYER), &mean, 1);
    add_vector(section(p, LM_STAT_ALIGN, LM_SITE_LAYER), w->align, N_ALIGN);
}

enum lm_status lm_pass_add(struct pass *p, struct lm_err *e)
{
    for (int64_t g = 0; g < p->wave; g++)
        add_group(p, g);
    return lm_parallel(widest(p), add_row, p)
         ? lm_fail(e, LM_ECANCELED, "interrupted") : LM_OK;
}

enum lm_status lm_pass_mirror(struct pass *p, struct lm_err *e)
{
    return lm_parallel(widest(p), mirror_row, p)
         ? lm_fail(e, LM_ECANCELED, "interrupted") : LM_OK;
}
