/* SPDX-License-Identifier: Apache-2.0 */
/* admm.c -- repair: the kept columns take over what the removed ones did, by
 * alternating directions, a given number of times.
 *
 * The reformation of "Search for Efficient Large Language Models" (arXiv 2409.17372,
 * section 3.4): minimise sum_t |W x - V x|^2 over V whose removed columns R are 0,
 *
 *   V <- (W H + rho (Z - U)) (H + rho I)^-1,   Z <- V + U with Z_R = 0,   U <- U + V - Z,
 *
 * begun at V = Z = W, U = 0; the result is Z.  H is the Gram matrix in units in which
 * each column has length 1, n_j = sqrt(H_jj), and W is in the same units: rho = 1, the
 * paper's best, means nothing otherwise.  Then H has `damping` times the mean of its
 * diagonal added.  The paper prints Z with the mask that is 1 on removed columns; a
 * removed column is 0 here.
 *
 * U_S is always 0, for Z_S = V_S + U_S.  With A = rho (H + rho I)^-1 and
 * D = Z - U - W the first step is V = W + D A, since W H = W (H + rho I) - rho W, and a
 * whole iteration is
 *
 *   Y = D A,   D_S <- Y_S,   D_R <- D_R - Y_R - W_R,   Z_S = W_S + D_S:
 *
 * a product of [n][k] and [k][k].  A serves every width.  The first iteration takes no
 * product: it makes V = W, hence Z_R = 0, U_R = W_R and D_R = -2 W_R.
 *
 * Where it ends is the closed form of least_squares.c in these units.  On the way there
 * it may be worse than leaving the columns as they are, above all for a small rho.  Rows
 * are independent of each other, so one that has become worse over the calibration
 * tokens, by E H E^T for its error E, is left as it is.                        */
#include <math.h>
#include <string.h>

#include "ridge.h"

struct config { double rho, damping; int64_t iterations; };

struct repair {
    const struct lm_host *host;
    struct config cfg;
};

struct prepared {
    const struct lm_repair_site *site;
    double *a;                          /* [k][k] */
    double *w;                          /* [n][k] in units of the columns */
    double *unit;                       /* [k] n_j */
};

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct repair *p = a->host->alloc(sizeof *p, "admm");

    if (!p)
        return ridge_no_memory(a->host, "admm", e);
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
    r->host->release(p->a);
    r->host->release(p->w);
    r->host->release(p->unit);
    r->host->release(p);
}

/* n doubles, zeroed. */
static double *numbers(const struct repair *r, int64_t n)
{
    return r->host->alloc((size_t)n * sizeof(double), "admm");
}

/* rho (H + (d + rho) I)^-1; l [k][k] is for the factor, scale [k] 1 / n_j. */
static enum lm_status invert(const struct repair *r, const struct prepared *p, double *l,
                             const double *scale, struct lm_err *e)
{
    int64_t k = p->site->k, live = 0;
    struct ridge ridge = { .host = r->host, .k = k, .gram = p->site->gram,
                           .scale = scale, .shift = r->cfg.rho };
    double lambda = r->cfg.damping;

    for (int64_t i = 0; i < k; i++)
        live += p->site->gram[i * k + i] > 0;
    enum lm_status st = ridge_factor(&ridge, (double)live / (double)k, &lambda, l, e);

    if (st)
        return st;
    for (int64_t i = 0; i < k; i++)
        p->a[i * k + i] = r->cfg.rho;
    r->host->cholesky_solve(l, k, k, p->a, k, k);
    return LM_OK;
}

/* On failure release() frees what is there. */
static enum lm_status fill(const struct repair *r, struct prepared *p, struct lm_err *e)
{
    const struct lm_repair_site *s = p->site;
    int64_t n = s->n, k = s->k;
    double *l = numbers(r, k * k), *scale = numbers(r, k);
    enum lm_status st = LM_ENOMEM;

    p->a = numbers(r, k * k);
    p->w = numbers(r, n * k);
    p->unit = numbers(r, k);
    if (l && scale && p->a && p->w && p->unit) {
        for (int64_t j = 0; j < k; j++) {       /* a column that is never active: 1 */
            p->unit[j] = s->gram[j * k + j] > 0 ? sqrt(s->gram[j * k + j]) : 1;
            scale[j] = 1 / p->unit[j];
        }
        for (int64_t i = 0; i < n * k; i++)
            p->w[i] = (double)s->w[i] * p->unit[i % k];
        st = invert(r, p, l, scale, e);
    } else {
        ridge_no_memory(r->host, "admm", e);
    }
    r->host->release(l);
    r->host->release(scale);
    return st;
}

static enum lm_status prepare(void *self, const struct lm_repair_site *s, void **out,
                              struct lm_err *e)
{
    const struct repair *r = self;
    struct prepared *p;

    *out = NULL;
    if (!s->gram)
        return r->host->fail(e, LM_EBUG, "repair 'admm' got no Gram matrix");
    enum lm_status st = ridge_check_statistics(r->host,
                                               ridge_sound(s->gram, s->k * s->k), e);
    if (st)
        return st;
    if (!(p = r->host->alloc(sizeof *p, "admm")))
        return ridge_no_memory(r->host, "admm", e);
    p->site = s;
    if ((st = fill(r, p, e)))
        release(self, p);
    else
        *out = p;
    return st;
}

/* d, y [n][k]; afterwards d has D, whose columns of S are Z - W. */
static void iterate(const struct repair *r, const struct prepared *p, int64_t m,
                    double *d, double *y)
{
    int64_t n = p->site->n, k = p->site->k;

    for (int64_t i = 0; i < n * k; i++)
        d[i] = i % k < m ? 0 : -2 * p->w[i];
    for (int64_t step = 1; step < r->cfg.iterations; step++) {
        r->host->gemm64('n', 'n', n, k, k, 1, d, k, p->a, k, 0, y, k);
        for (int64_t i = 0; i < n; i++, d += k, y += k) {
            for (int64_t j = 0; j < m; j++)
                d[j] = y[j];
            for (int64_t j = m; j < k; j++)
                d[j] -= y[j] + p->w[i * k + j];
        }
        d -= n * k;
        y -= n * k;
    }
}

/* sum_t of each row's squared error, for weights v [n][m]; NULL: those that are there.
 * err, y [n][k].                                                               */
static void measure(const struct repair *r, const struct lm_repair_site *s,
                    const float *v, int64_t m, double *err, double *y, double *out)
{
    for (int64_t i = 0; i < s->n; i++)
        for (int64_t j = 0; j < s->k; j++) {
            double w = s->w[i * s->k + j];

            err[i * s->k + j] = j >= m ? -w : v ? (double)v[i * m + j] - w : 0;
        }
    r->host->gemm64('n', 'n', s->n, s->k, s->k, 1, err, s->k, s->gram, s->k, 0, y, s->k);
    for (int64_t i = 0; i < s->n; i++) {
        out[i] = 0;
        for (int64_t j = 0; j < s->k; j++)
            out[i] += err[i * s->k + j] * y[i * s->k + j];
    }
}

/* d, y [n][k], loss [2][n]. */
static enum lm_status solve(const struct repair *r, const struct prepared *p, int64_t m,
                            double *d, double *y, double *loss, float *out,
                            struct lm_err *e)
{
    const struct lm_repair_site *s = p->site;
    int64_t k = s->k;

    double sum = 0;

    iterate(r, p, m, d, y);
    for (int64_t i = 0; i < s->n; i++)
        for (int64_t j = 0; j < m; j++) {
            double w = (p->w[i * k + j] + d[i * k + j]) / p->unit[j];

            out[i * m + j] = (float)w;
            sum += 0 * w;
        }
    if (sum != 0)                       /* something is not finite */
        return r->host->fail(e, LM_EFAILED, "admm gave weights that are not finite; "
                             "raise damping or calibrate on more text");
    measure(r, s, out, m, d, y, loss);
    measure(r, s, NULL, m, d, y, loss + s->n);
    for (int64_t i = 0; i < s->n; i++)
        if (loss[i] > loss[s->n + i])
            memcpy(out + i * m, s->w + i * k, (size_t)m * sizeof *out);
    return LM_OK;
}

static enum lm_status apply(void *self, const void *prepared, int64_t m, float *out,
                            struct lm_err *e)
{
    const struct repair *r = self;
    const struct prepared *p = prepared;
    int64_t n = p->site->n, k = p->site->k;
    double *d, *y, *loss;
    enum lm_status st = ridge_check_width(r->host, m, k, e);

    if (st)
        return st;
    d = numbers(r, n * k);
    y = numbers(r, n * k);
    loss = numbers(r, 2 * n);
    st = d && y && loss ? solve(r, p, m, d, y, loss, out, e)
                        : ridge_no_memory(r->host, "admm", e);
    r->host->release(d);
    r->host->release(y);
    r->host->release(loss);
    return st;
}

static const struct lm_opt options[] = {
    LM_REAL(struct config, rho, "1", 1e-6, 1e6, NULL, LM_TUNABLE,
            "Weight of the penalty, against columns whose inputs have length 1."),
    LM_REAL(struct config, damping, "1e-3", 0, 100, NULL, LM_TUNABLE,
            "Ridge towards the weights as they are, as a share of the mean of the "
            "normalised Gram matrix's diagonal."),
    LM_INT(struct config, iterations, "30", 1, 100000, NULL, LM_TUNABLE,
           "Iterations; 1 leaves the weights as they are."),
    LM_OPT_END
};

static const struct lm_repair ops = {
    .struct_size = sizeof ops, .needs = LM_BIT(LM_STAT_GRAM),
    .prepare = prepare, .apply = apply, .release = release
};

static const struct lm_module module = {
    LM_MODULE_HEAD(REPAIR),
    .name = "admm", .version = "1.0", .license = "Apache-2.0",
    .author = "Lamina",
    .summary = "lets the kept weights take over from the removed ones, step by step",
    .reference = "Shen et al. 2024, Search for efficient large language models",
    .opt = options, .config_size = sizeof(struct config),
    .create = create, .destroy = destroy, .ops = &ops
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
