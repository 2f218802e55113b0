/* SPDX-License-Identifier: Apache-2.0 */
/* obs.c -- scorer: optimal brain surgeon, greedy, for what least squares repairs.
 *
 * With H the damped Gram matrix of the inputs of W (down of an MLP, o of
 * attention), removing input j and letting the others make up for it costs
 *
 *   |w_j|^2 / (H^-1)_jj,     then   W   <- W - w_j (H^-1)_j: / (H^-1)_jj,
 *                                  H^-1 <- H^-1 - (H^-1)_:j (H^-1)_j: / (H^-1)_jj
 *
 * (Hassibi & Stork 1993; for structures: Kurtic et al. 2023, ZipLM).  FFN
 * channels are removed one at a time, cheapest first, with these updates; a
 * channel's score is its place in that order, so redundant channels go early.
 * Only Q = W^T W is needed of W, and it is updated with c = (H^-1)_:j,
 * p = c_j, q = Q_:j, s = q_j as Q <- Q - (c g^T + g c^T), g = q/p - c s/(2 p^2).
 * Updates are applied BLOCK at a time by matrix products; columns and diagonals
 * that a step needs are brought up to date on the way.
 *
 * KV groups and query heads are few: each has the cost of removing it alone,
 * tr(W_R ((H^-1)_RR)^-1 W_R^T).
 *
 * An order is only meaningful with the update: use repair least_squares.       */
#include <math.h>
#include <string.h>

#include "hessian.h"

enum { BLOCK = 32 };

struct config { double lambda; };

struct obs {
    const struct lm_host  *host;
    struct lm_run         *run;
    const struct config   *cfg;
    const struct lm_arch  *arch;
    const struct lm_model *model;
    const struct lm_stats *stats;
};

static const struct lm_opt options[] = {
    LM_REAL(struct config, lambda, "1e-4", 1e-12, 1, NULL, 0,
            "Damping of the Gram matrix, as a share of its mean diagonal."),
    LM_OPT_END
};

static enum lm_status no_memory(const struct obs *p, struct lm_err *e)
{
    return p->host->fail(e, LM_ENOMEM, "out of memory for scorer 'obs'");
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct obs *p;

    if (!a->stats)
        return a->host->fail(e, LM_ECONFIG, "scorer 'obs' needs calibration statistics; "
                             "name a calibration text");
    if (!(p = a->host->alloc(sizeof *p, "obs")))
        return a->host->fail(e, LM_ENOMEM, "out of memory for scorer 'obs'");
    p->host = a->host;
    p->run = a->run;
    p->cfg = a->config;
    p->arch = a->host->arch(a->model);
    p->model = a->model;
    p->stats = a->stats;
    *self = p;
    return LM_OK;
}

static void destroy(void *self)
{
    struct obs *p = self;

    p->host->release(p);
}

/* inv [k][k]: inverse of the damped Gram matrix; up to a tenth of the mean diagonal. */
static enum lm_status inverse(const struct obs *p, uint32_t site, int32_t layer,
                              int64_t k, double *inv, struct lm_err *e)
{
    const double *gram;
    enum lm_status st = hessian_find(p->host, p->stats, LM_STAT_GRAM, site, layer, k,
                                     &gram, e);

    return st ? st : hessian_inverse(p->host, "obs", gram, k, p->cfg->lambda, 0.1, inv,
                                     e);
}

/* w [hidden][k] in double. */
static enum lm_status weights(const struct obs *p, uint32_t role, int32_t layer,
                              int64_t k, double *w, struct lm_err *e)
{
    float *row = p->host->alloc((size_t)k * sizeof *row, "obs");
    enum lm_status st = row ? LM_OK : no_memory(p, e);

    for (int64_t i = 0; !st && i < p->arch->hidden; i++) {
        st = p->host->rows(p->model, role, layer, i, 1, row, e);
        for (int64_t j = 0; !st && j < k; j++)
            w[i * k + j] = row[j];
    }
    p->host->release(row);
    return st;
}

/* ---- FFN channels: one at a time ------------------------------------------------ */
struct greedy {
    int64_t n;
    double *h, *q;                      /* [n][n] H^-1 and Q, without pending updates */
    double *dh, *dq;                    /* [n] their diagonals, up to date            */
    double *c, *g;                      /* [BLOCK][n] pending: c / sqrt(p), g sqrt(p) */
    int64_t pending;
};

static void flush(const struct obs *p, struct greedy *s)
{
    int64_t n = s->n, b = s->pending;

    p->host->gemm64('t', 'n', n, n, b, -1, s->c, n, s->c, n, 1, s->h, n);
    p->host->gemm64('t', 'n', n, n, b, -1, s->c, n, s->g, n, 1, s->q, n);
    p->host->gemm64('t', 'n', n, n, b, -1, s->g, n, s->c, n, 1, s->q, n);
    s->pending = 0;
}

/* Removes channel j: c and g of it become the next pending update.  Scaling both
 * by sqrt(p) turns the update of H^-1 into c c^T and leaves c g^T as it is.     */
static void take(const struct obs *p, struct greedy *s, int64_t j)
{
    int64_t n = s->n, b = s->pending;
    double *c = s->c + b * n, *g = s->g + b * n;

    memcpy(c, s->h + j * n, (size_t)n * sizeof *c);
    memcpy(g, s->q + j * n, (size_t)n * sizeof *g);
    for (int64_t t = 0; t < b; t++) {
        const double *u = s->c + t * n, *v = s->g + t * n;
        double uj = u[j], vj = v[j];
        for (int64_t i = 0; i < n; i++) {
            c[i] -= u[i] * uj;
            g[i] -= u[i] * vj + v[i] * uj;
        }
    }
    double pivot = c[j] > 0 ? c[j] : 1e-300, root = sqrt(pivot), sq = g[j];
    for (int64_t i = 0; i < n; i++) {
        g[i] = (g[i] / pivot - c[i] * sq / (2 * pivot * pivot)) * root;
        c[i] /= root;
        s->dh[i] -= c[i] * c[i];
        s->dq[i] -= 2 * c[i] * g[i];
    }
    if (++s->pending == BLOCK)
        flush(p, s);
}

static enum lm_status remove_all(const struct obs *p, struct greedy *s, double *out,
                                 struct lm_err *e)
{
    int64_t n = s->n;

    for (int64_t i = 0; i < n; i++) {
        out[i] = -1;                    /* still there */
        s->dh[i] = s->h[i * n + i];
        s->dq[i] = s->q[i * n + i];
    }
    for (int64_t step = 0; step < n; step++) {
        int64_t best = -1;
        double least = INFINITY;
        if (p->host->canceled(p->run))
            return p->host->fail(e, LM_ECANCELED, "interrupted");
        for (int64_t i = 0; i < n; i++) {
            double cost = out[i] >= 0 ? INFINITY
                        : s->dh[i] > 0 ? fmax(s->dq[i], 0) / s->dh[i] : 0;
            if (cost < least || (best < 0 && out[i] < 0)) {
                least = cost;
                best = i;
            }
        }
        out[best] = (double)step;
        take(p, s, best);
    }
    return LM_OK;
}

static enum lm_status score_channels(const struct obs *p, int32_t layer, double *out,
                                     int64_t n, struct lm_err *e)
{
    struct greedy s = { .n = n };
    size_t square = (size_t)n * (size_t)n, strip = BLOCK * (size_t)n;
    int64_t rows = p->arch->hidden;
    double *w = p->host->alloc((size_t)(rows * n) * sizeof *w, "obs");
    double *all = p->host->alloc((2 * square + 2 * strip + 2 * (size_t)n) * sizeof *all,
                                 "obs");
    enum lm_status st = w && all ? weights(p, LM_W_DOWN, layer, n, w, e) : no_memory(p,
                                                                                     e);

    if (!st) {
        s.h = all;
        s.q = s.h + square;
        s.c = s.q + square;
        s.g = s.c + strip;
        s.dh = s.g + strip;
        s.dq = s.dh + n;
        st = inverse(p, LM_SITE_MLP, layer, n, s.h, e);
    }
    if (!st) {
        p->host->gemm64('t', 'n', n, n, rows, 1, w, n, w, n, 0, s.q, n);
        st = remove_all(p, &s, out, e);
    }
    p->host->release(w);
    p->host->release(all);
    return st;
}

/* ---- heads and KV groups: each alone ---------------------------------------------- */
/* block [r][r] and part [rows][r] are scratch. */
static enum lm_status cost_alone(const struct obs *p, const double *inv, const double *w,
                                 int64_t k, int64_t first, int64_t r, double *block,
                                 double *part, double *out, struct lm_err *e)
{
    int64_t rows = p->arch->hidden;

    for (int64_t i = 0; i < r; i++)
        memcpy(block + i * r, inv + (first + i) * k + first, (size_t)r * sizeof *block);
    enum lm_status st = p->host->cholesky(block, r, r, e);
    if (st)
        return st;
    for (int64_t i = 0; i < rows; i++)
        memcpy(part + i * r, w + i * k + first, (size_t)r * sizeof *part);
    p->host->cholesky_solve(block, r, r, part, rows, r);
    *out = 0;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < r; j++)
            *out += part[i * r + j] * w[i * k + first + j];
    return LM_OK;
}

static enum lm_status score_heads(const struct obs *p, int32_t layer, double *out,
                                  int64_t n, struct lm_err *e)
{
    int64_t k = (int64_t)p->arch->layer[layer].n_head * p->arch->head_dim;
    int64_t rows = p->arch->hidden, r = k / n;
    double *inv = p->host->alloc((size_t)(k * k) * sizeof *inv, "obs");
    double *w = p->host->alloc((size_t)(rows * k) * sizeof *w, "obs");
    double *block = p->host->alloc((size_t)(r * r) * sizeof *block, "obs");
    double *part = p->host->alloc((size_t)(rows * r) * sizeof *part, "obs");
    enum lm_status st = inv && w && block && part
        ? inverse(p, LM_SITE_ATTN, layer, k, inv, e) : no_memory(p, e);

    if (!st)
        st = weights(p, LM_W_O, layer, k, w, e);
    for (int64_t i = 0; !st && i < n; i++)
        st = cost_alone(p, inv, w, k, i * r, r, block, part, &out[i], e);
    p->host->release(inv);
    p->host->release(w);
    p->host->release(block);
    p->host->release(part);
    return st;
}

static enum lm_status score(void *self, uint32_t site, int32_t layer, double *out,
                            int64_t n, struct lm_err *e)
{
    const struct obs *p = self;
    const struct lm_layer_shape *s = &p->arch->layer[layer];
    int64_t sites = site == LM_SITE_FFN_CHANNEL ? s->n_ff
                  : site == LM_SITE_HEAD ? s->n_head : s->n_kv;

    if (n != sites || n < 1)
        return p->host->fail(e, LM_EBUG, "layer %d: %lld scores are wanted for %lld "
                             "sites", layer, (long long)n, (long long)sites);
    return site == LM_SITE_FFN_CHANNEL ? score_channels(p, layer, out, n, e)
                                       : score_heads(p, layer, out, n, e);
}

static const struct lm_scorer ops = {
    .struct_size = sizeof ops,
    .sites = LM_BIT(LM_SITE_FFN_CHANNEL) | LM_BIT(LM_SITE_KV_GROUP)
           | LM_BIT(LM_SITE_HEAD),
    .needs = LM_BIT(LM_STAT_GRAM), .score = score
};

static const struct lm_module module = {
    LM_MODULE_HEAD(SCORER),
    .name = "obs", .version = "1.0", .license = "Apache-2.0", .author = "Lamina",
    .summary = "error that remains when the others make up for a site (greedy)",
    .reference = "Hassibi and Stork 1993, Second order derivatives for network pruning: "
                 "optimal brain surgeon",
    .opt = options, .config_size = sizeof(struct config),
    .create = create, .destroy = destroy, .ops = &ops
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
