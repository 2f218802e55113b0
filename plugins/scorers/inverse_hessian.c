/* SPDX-License-Identifier: Apache-2.0 */
/* inverse_hessian.c -- scorer: the importance that Search for Efficient LLMs begins
 * with (Shen et al. 2024): what it costs to remove a weight when the other weights of
 * its row make up for it (optimal brain surgeon), summed over rows and columns.
 *
 * With H = X X^T of the inputs of W, damped,
 *
 *   Phi_ij = W_ij^2 / (H^-1)_jj,    row i: sum_j Phi_ij,    column j: sum_i Phi_ij.
 *
 * - FFN channel: its rows of gate and up, its column of down.
 * - KV group: the rows of its query heads, those of k and v (once), its columns of o.
 *   Query head: its rows of q and columns of o; keys and values are its group's.
 * - Hidden channel (layer -1): over all layers, its columns of the matrices that read
 *   the stream (q, k, v, gate, up) and its rows of those that write it (o, down).
 *
 * X of q, k, v, gate and up is what the norm makes: the stream's matrix G with the
 * norm's weight g, H = diag(g) G diag(g).  The paper adds scores of matrices as they
 * are; `normalise` gives each matrix of a layer the same weight.  Its factor of 2 in H
 * is the same everywhere and left out.                                            */
#include <math.h>

#include "hessian.h"

enum { CHUNK = 64 };                    /* rows decoded at a time */

struct config { double lambda; bool normalise; };

struct scorer {
    const struct lm_host  *host;
    const struct config   *cfg;
    const struct lm_arch  *arch;
    const struct lm_model *model;
    const struct lm_stats *stats;
};

/* In the order of their inputs, so that an inverse serves neighbours. */
static const struct matrix { uint32_t role, block, stat, norm; } matrices[] = {
    { LM_W_Q, LM_SITE_ATTN, LM_STAT_STREAM, LM_W_ATTN_NORM },
    { LM_W_K, LM_SITE_ATTN, LM_STAT_STREAM, LM_W_ATTN_NORM },
    { LM_W_V, LM_SITE_ATTN, LM_STAT_STREAM, LM_W_ATTN_NORM },
    { LM_W_O, LM_SITE_ATTN, LM_STAT_GRAM, 0 },
    { LM_W_GATE, LM_SITE_MLP, LM_STAT_STREAM, LM_W_MLP_NORM },
    { LM_W_UP, LM_SITE_MLP, LM_STAT_STREAM, LM_W_MLP_NORM },
    { LM_W_DOWN, LM_SITE_MLP, LM_STAT_GRAM, 0 }
};
enum { N_MATRICES = sizeof matrices / sizeof *matrices };

struct work {                           /* of one call */
    double *worth;                      /* [k] 1 / (H^-1)_jj */
    double *own;                        /* [n] scores of one matrix */
    float  *rows;                       /* [CHUNK][k] */
};

static const struct lm_opt options[] = {
    LM_REAL(struct config, lambda, "0.01", 1e-12, 1, NULL, 0,
            "Damping of the inputs' matrix, as a share of its mean diagonal."),
    LM_FLAG(struct config, normalise, "false", 0,
            "The scores that a matrix gives sum to 1, so that all matrices of a layer "
            "count alike."),
    LM_OPT_END
};

static enum lm_status no_memory(const struct scorer *p, struct lm_err *e)
{
    return p->host->fail(e, LM_ENOMEM, "out of memory for scorer 'inverse_hessian'");
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct scorer *p;

    if (!a->stats)
        return a->host->fail(e, LM_ECONFIG, "scorer 'inverse_hessian' needs calibration "
                             "statistics; name a calibration text");
    if (!(p = a->host->alloc(sizeof *p, "inverse_hessian")))
        return a->host->fail(e, LM_ENOMEM,
                             "out of memory for scorer 'inverse_hessian'");
    *p = (struct scorer){ a->host, a->config, a->host->arch(a->model), a->model,
                          a->stats };
    *self = p;
    return LM_OK;
}

static void destroy(void *self)
{
    struct scorer *p = self;

    p->host->release(p);
}

/* ---- what the inputs of a matrix are worth ---------------------------------------- */
/* h [k][k] = diag(g) h diag(g). */
static enum lm_status weigh(const struct scorer *p, uint32_t norm, int32_t layer,
                            int64_t k, double *h, struct lm_err *e)
{
    float *g = p->host->alloc((size_t)k * sizeof *g, "inverse_hessian");
    enum lm_status st = g ? p->host->rows(p->model, norm, layer, 0, 1, g, e)
                          : no_memory(p, e);

    for (int64_t i = 0; !st && i < k; i++)
        for (int64_t j = 0; j < k; j++)
            h[i * k + j] *= (double)g[i] * (double)g[j];
    p->host->release(g);
    return st;
}

/* worth [k] of the inputs of m. */
static enum lm_status find_worth(const struct scorer *p, const struct matrix *m,
                                 int32_t layer, int64_t k, double *worth,
                                 struct lm_err *e)
{
    const double *stat;
    size_t square = (size_t)k * (size_t)k;
    enum lm_status st = hessian_find(p->host, p->stats, m->stat, m->block, layer, k,
                                     &stat, e);

    if (st)
        return st;
    double *h = p->host->alloc(2 * square * sizeof *h, "inverse_hessian");
    if (!h)
        return no_memory(p, e);
    memcpy(h, stat, square * sizeof *h);
    if (m->norm)
        st = weigh(p, m->norm, layer, k, h, e);
    if (!st)
        st = hessian_inverse(p->host, "inverse_hessian", h, k, p->cfg->lambda, 1,
                             h + square, e);
    for (int64_t j = 0; !st && j < k; j++)
        worth[j] = 1 / h[square + (size_t)(j * k + j)];
    p->host->release(h);
    return st;
}

/* ---- scores ------------------------------------------------------------------------ */
/* A matrix of rows x k numbers gives its scores to n sites, which have equal shares of
 * its rows, or of its columns.                                                    */
static enum lm_status add_matrix(const struct scorer *p, const struct work *w,
                                 uint32_t role, int32_t layer, int64_t rows, int64_t k,
                                 bool by_row, double *out, int64_t n, struct lm_err *e)
{
    int64_t width = (by_row ? rows : k) / n;
    enum lm_status st = LM_OK;
    double total = 0;

    memset(w->own, 0, (size_t)n * sizeof *w->own);
    for (int64_t first = 0; !st && first < rows; first += CHUNK) {
        int64_t some = rows - first < CHUNK ? rows - first : CHUNK;

        st = p->host->rows(p->model, role, layer, first, some, w->rows, e);
        for (int64_t i = 0; !st && i < some; i++)
            for (int64_t j = 0; j < k; j++) {
                double x = w->rows[i * k + j];

                w->own[(by_row ? first + i : j) / width] += x * x * w->worth[j];
            }
    }
    for (int64_t i = 0; i < n; i++)
        total += w->own[i];
    total = p->cfg->normalise && total > 0 ? total : 1;
    for (int64_t i = 0; !st && i < n; i++)
        out[i] += w->own[i] / total;
    return st;
}

static bool counts(uint32_t site, const struct matrix *m)
{
    switch (site) {
    case LM_SITE_FFN_CHANNEL: return m->block == LM_SITE_MLP;
    case LM_SITE_KV_GROUP:    return m->block == LM_SITE_ATTN;
    case LM_SITE_HEAD:        return m->role == LM_W_Q || m->role == LM_W_O;
    default:                  return true;
    }
}

static void shape_of(const struct scorer *p, const struct matrix *m, int32_t layer,
                     int64_t *rows, int64_t *k)
{
    const struct lm_layer_shape *s = &p->arch->layer[layer];
    int64_t heads = m->role == LM_W_K || m->role == LM_W_V ? s->n_kv : s->n_head;
    int64_t inner = m->block == LM_SITE_MLP ? s->n_ff : heads * p->arch->head_dim;
    bool writes = m->stat == LM_STAT_GRAM;

    *rows = writes ? p->arch->hidden : inner;
    *k = writes ? inner : p->arch->hidden;
}

/* Adds to out[n] what the matrices of one layer give to sites of a kind. */
static enum lm_status add_layer(const struct scorer *p, uint32_t site, int32_t layer,
                                double *out, int64_t n, struct lm_err *e)
{
    const struct lm_layer_shape *s = &p->arch->layer[layer];
    int64_t most = p->arch->hidden, heads = (int64_t)s->n_head * p->arch->head_dim;
    const struct matrix *known = NULL;
    enum lm_status st = LM_OK;

    most = heads > most ? heads : most;
    most = s->n_ff > most ? s->n_ff : most;
    struct work w = { p->host->alloc((size_t)most * sizeof(double), "inverse_hessian"),
                      p->host->alloc((size_t)n * sizeof(double), "inverse_hessian"),
                      p->host->alloc(CHUNK * (size_t)most * sizeof(float),
                                     "inverse_hessian") };
    if (!w.worth || !w.own || !w.rows)
        st = no_memory(p, e);
    for (int i = 0; !st && i < N_MATRICES; i++) {
        const struct matrix *m = &matrices[i];
        bool by_row = (m->stat == LM_STAT_STREAM) == (site != LM_SITE_HIDDEN);
        int64_t rows, k;

        shape_of(p, m, layer, &rows, &k);
        if (!counts(site, m) || !rows || !k)
            continue;
        if (!known || known->block != m->block || known->stat != m->stat)
            st = find_worth(p, m, layer, k, w.worth, e);
        known = m;
        if (!st)
            st = add_matrix(p, &w, m->role, layer, rows, k, by_row, out, n, e);
    }
    p->host->release(w.worth);
    p->host->release(w.own);
    p->host->release(w.rows);
    return st;
}

static enum lm_status score(void *self, uint32_t site, int32_t layer, double *out,
                            int64_t n, struct lm_err *e)
{
    const struct scorer *p = self;
    bool hidden = site == LM_SITE_HIDDEN;
    const struct lm_layer_shape *s = hidden ? NULL : &p->arch->layer[layer];
    int64_t sites = hidden ? p->arch->hidden : site == LM_SITE_FFN_CHANNEL ? s->n_ff
                  : site == LM_SITE_HEAD ? s->n_head : s->n_kv;
    enum lm_status st = LM_OK;

    if (n != sites || n < 1)
        return p->host->fail(e, LM_EBUG, "layer %d: %lld scores are wanted for %lld "
                             "sites", layer, (long long)n, (long long)sites);
    memset(out, 0, (size_t)n * sizeof *out);
    for (int32_t i = hidden ? 0 : layer;
         !st && i < (hidden ? p->arch->n_layer : layer + 1); i++)
        st = add_layer(p, site, i, out, n, e);
    for (int64_t i = 0; !st && i < n; i++)
        if (!isfinite(out[i]))
            st = p->host->fail(e, LM_EFAILED, "layer %d: the importance of site %lld is "
                               "no finite number; raise lambda", layer, (long long)i);
    return st;
}

static const struct lm_scorer ops = {
    .struct_size = sizeof ops,
    .sites = LM_BIT(LM_SITE_FFN_CHANNEL) | LM_BIT(LM_SITE_KV_GROUP)
           | LM_BIT(LM_SITE_HEAD) | LM_BIT(LM_SITE_HIDDEN),
    .needs = LM_BIT(LM_STAT_GRAM) | LM_BIT(LM_STAT_STREAM), .score = score
};

static const struct lm_module module = {
    LM_MODULE_HEAD(SCORER),
    .name = "inverse_hessian", .version = "1.0", .license = "Apache-2.0",
    .author = "Lamina",
    .summary = "cost of removing rows and columns by the inverse Hessian, weight by "
               "weight",
    .reference = "Shen et al. 2024, Search for efficient large language models "
                 "(arXiv 2409.17372)",
    .opt = options, .config_size = sizeof(struct config),
    .create = create, .destroy = destroy, .ops = &ops
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
