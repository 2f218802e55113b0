/* SPDX-License-Identifier: Apache-2.0 */
/* least_squares.c -- repair: the kept columns take over what the removed ones
 * did, as far as a linear map can.
 *
 * W [n][k] reads x; the columns S = 0..m-1 are kept, R are removed.  With the
 * Gram matrix H = sum_t x x^T over the calibration tokens, the W' [n][m] that
 * minimises  sum_t |W x - W' x_S|^2 + d |W' - W_S|^2  is
 *
 *   W' = W_S + W_R H_RS (H_SS + d I)^-1,   d = lambda * mean(diag H),
 *
 * the ridge pulling to the weights as they are, not to zero.  Equal to
 *
 *   W' = B_S (H_SS + d I)^-1  with  B = W (H + d I),
 *
 * since (W (H + d I))_S = W_S (H_SS + d I) + W_R H_RS.  Neither B nor H + d I
 * depends on m, and the Cholesky factor of a leading principal block is the
 * leading block of the factor.  So B and one factor L of H + d I serve every m,
 * all in double precision: squares of outlier channels span 10^12.
 *
 * The regression of FASP, OSSCAR and others, with the ridge of SparseGPT's
 * damping; where the factorization fails, lambda grows tenfold up to 0.1.
 *
 * With `bias` there is an intercept b [n] too, which the ridge leaves alone:
 * sum_t |W x - W' x_S - b|^2 + d |W' - W_S|^2.  For any W' the best b is
 * W mu - W' mu_S with mu = sum_t x / N, the mean over the N tokens; put in, the
 * problem is the one above in x - mu, so all of it holds with the centred
 * H' = H - N mu mu^T in place of H: the affine optimum, of which the bias of
 * FLAP (An et al. 2024), W' = W_S, is a special case.                  */
#include <math.h>
#include <string.h>

#include "ridge.h"

struct config { double lambda; bool bias; };

struct repair {
    const struct lm_host *host;
    struct config cfg;
};

struct prepared {
    int64_t n, k;
    double *l;                          /* [k][k], lower triangle */
    double *b;                          /* [n][k] */
    double *mean;                       /* [k] of x, NULL without a bias */
    double *out;                        /* [n] W mean, behind it */
};

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct repair *p = a->host->alloc(sizeof *p, "least_squares");

    if (!p)
        return ridge_no_memory(a->host, "least_squares", e);
    p->host = a->host;
    p->cfg = *(const struct config *)a->config;
    *self = p;
    return LM_OK;
}

static void destroy(void *self)
{
    struct repair *p = self;

    p->host->release(p);
}

static void release(void *self, void *prepared)
{
    const struct repair *r = self;
    struct prepared *p = prepared;

    if (!p)
        return;
    r->host->release(p->l);
    r->host->release(p->b);
    r->host->release(p->mean);
    r->host->release(p);
}

/* L of H + d I, with the least d >= lambda * mean that is enough; *used: d. */
static enum lm_status factor(const struct repair *r, const struct lm_repair_site *s,
                             const struct prepared *p, double *used, struct lm_err *e)
{
    struct ridge ridge = { .host = r->host, .k = s->k, .gram = s->gram, .mean = p->mean,
                           .tokens = (double)s->tokens };
    double mean = 0, raw = 0, lambda = r->cfg.lambda;
    enum lm_status st;

    for (int64_t i = 0; i < s->k; i++) {
        mean += ridge_element(&ridge, i, i) / (double)s->k;
        raw += s->gram[i * s->k + i] / (double)s->k;
    }
    if (mean < 1e-5 * raw)              /* products are sums of floats: noise */
        mean = 1e-5 * raw;
    if (mean <= 0)                      /* never active: W' = W_S for any d */
        mean = lambda = 1;
    st = ridge_factor(&ridge, mean, &lambda, p->l, e);
    *used = lambda * mean;
    return st;
}

/* W mean of rows [first, first + rows), and W N mu mu^T taken off B. */
static void centre(const struct lm_repair_site *s, const struct prepared *p,
                   int64_t first, int64_t rows)
{
    for (int64_t i = first; i < first + rows; i++) {
        const float *w = s->w + i * s->k;
        double sum = 0;

        for (int64_t j = 0; j < s->k; j++)
            sum += (double)w[j] * p->mean[j];
        p->out[i] = sum;
        for (int64_t j = 0; j < s->k; j++)
            p->b[i * s->k + j] -= (double)s->tokens * sum * p->mean[j];
    }
}

/* B = W H + d W, W widened row block by row block. */
static enum lm_status project(const struct repair *r, const struct lm_repair_site *s,
                              double d, const struct prepared *p, struct lm_err *e)
{
    enum { ROWS = 64 };
    int64_t k = s->k;
    double *w = r->host->alloc(ROWS * (size_t)k * sizeof *w, "least_squares");

    if (!w)
        return ridge_no_memory(r->host, "least_squares", e);
    for (int64_t first = 0; first < s->n; first += ROWS) {
        int64_t rows = s->n - first < ROWS ? s->n - first : ROWS;
        double *b = p->b + first * k;

        for (int64_t i = 0; i < rows * k; i++)
            b[i] = w[i] = s->w[first * k + i];
        r->host->gemm64('n', 'n', rows, k, k, 1, w, k, s->gram, k, d, b, k);
        if (p->mean)
            centre(s, p, first, rows);
    }
    r->host->release(w);
    return LM_OK;
}

static enum lm_status check_site(const struct repair *r, const struct lm_repair_site *s,
                                 struct lm_err *e)
{
    bool bias = r->cfg.bias;

    if (!s->gram || (bias && (!s->sum || s->tokens < 1)))
        return r->host->fail(e, LM_EBUG, "repair 'least_squares' got no %s",
                             s->gram ? "sums" : "Gram matrix");
    return ridge_check_statistics(r->host, ridge_sound(s->gram, s->k * s->k)
                                  && (!bias || ridge_sound(s->sum, s->k)), e);
}

/* On failure release() frees what is there. */
static enum lm_status fill(const struct repair *r, const struct lm_repair_site *s,
                           struct prepared *p, struct lm_err *e)
{
    enum lm_status st;
    double d;

    p->n = s->n;
    p->k = s->k;
    p->l = r->host->alloc((size_t)(s->k * s->k) * sizeof *p->l, "least_squares");
    p->b = r->host->alloc((size_t)(s->n * s->k) * sizeof *p->b, "least_squares");
    if (r->cfg.bias)
        p->mean = r->host->alloc((size_t)(s->k + s->n) * sizeof *p->mean,
                                 "least_squares");
    if (!p->l || !p->b || (r->cfg.bias && !p->mean))
        return ridge_no_memory(r->host, "least_squares", e);
    for (int64_t i = 0; p->mean && i < s->k; i++)
        p->mean[i] = s->sum[i] / (double)s->tokens;
    p->out = p->mean ? p->mean + s->k : NULL;
    st = factor(r, s, p, &d, e);
    return st ? st : project(r, s, d, p, e);
}

static enum lm_status prepare(void *self, const struct lm_repair_site *s, void **out,
                              struct lm_err *e)
{
    const struct repair *r = self;
    enum lm_status st = check_site(r, s, e);
    struct prepared *p;

    *out = NULL;
    if (st)
        return st;
    if (!(p = r->host->alloc(sizeof *p, "least_squares")))
        return ridge_no_memory(r->host, "least_squares", e);
    if ((st = fill(r, s, p, e)))
        release(self, p);
    else
        *out = p;
    return st;
}

static enum lm_status apply(void *self, const void *prepared, int64_t m, float *out,
                            struct lm_err *e)
{
    const struct repair *r = self;
    const struct prepared *p = prepared;
    double *x;
    enum lm_status st = ridge_check_width(r->host, m, p->k, e);
    bool ok;

    if (st)
        return st;
    if (!(x = r->host->alloc((size_t)(p->n * m) * sizeof *x, "least_squares")))
        return ridge_no_memory(r->host, "least_squares", e);
    for (int64_t i = 0; i < p->n; i++)
        memcpy(x + i * m, p->b + i * p->k, (size_t)m * sizeof *x);
    r->host->cholesky_solve(p->l, m, p->k, x, p->n, m);
    for (int64_t i = 0; i < p->n * m; i++)
        out[i] = (float)x[i];
    ok = ridge_sound(x, p->n * m);
    r->host->release(x);
    return ok ? LM_OK
        : r->host->fail(e, LM_EFAILED, "least squares gave weights that are not finite; "
                        "raise lambda or calibrate on more text");
}

/* W mu - W' mu_S, for the weights as they were rounded. */
static enum lm_status bias(void *self, const void *prepared, int64_t m, const float *w,
                           float *out, struct lm_err *e)
{
    const struct prepared *p = prepared;

    (void)self;
    (void)e;
    for (int64_t i = 0; i < p->n; i++) {
        double sum = p->out[i];

        for (int64_t j = 0; j < m; j++)
            sum -= (double)w[i * m + j] * p->mean[j];
        out[i] = (float)sum;
    }
    return LM_OK;
}

static uint64_t shapes(const void *config)
{
    const struct config *c = config;

    return c->bias ? LM_SHAPE_ATTN_BIAS | LM_SHAPE_MLP_BIAS : 0;
}

static const struct lm_opt options[] = {
    LM_REAL(struct config, lambda, "1e-4", 0, 100, NULL, LM_TUNABLE,
            "Ridge towards the weights as they are, as a share of the mean of the Gram "
            "matrix's diagonal."),
    LM_FLAG(struct config, bias, "false", 0,
            "Also give the matrices a bias, so that the mean of their output stays; the "
            "export's format must hold biases."),
    LM_OPT_END
};

static const struct lm_repair ops = {
    .struct_size = sizeof ops, .needs = LM_BIT(LM_STAT_GRAM) | LM_BIT(LM_STAT_SUM),
    .prepare = prepare, .apply = apply, .release = release, .shapes = shapes,
    .bias = bias
};

static const struct lm_module module = {
    LM_MODULE_HEAD(REPAIR),
    .name = "least_squares", .version = "1.0", .license = "Apache-2.0",
    .author = "Lamina",
    .summary = "lets the kept weights take over from the removed ones, in closed form",
    .reference = "Meng et al. 2024, OSSCAR: one-shot structured pruning with "
                 "combinatorial optimization",
    .opt = options, .config_size = sizeof(struct config),
    .create = create, .destroy = destroy, .ops = &ops
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
