/* SPDX-License-Identifier: Apache-2.0 */
/* sequential.c -- repair of finalists: a block makes up for what the blocks before it
 * went wrong by.
 *
 * W [n][k] is what the repair of the search made of the kept columns, from the dense
 * model's inputs.  In the candidate, whose earlier blocks are finished, the matrix reads
 * x; t is what it would have to give for the residual stream to be the dense one behind
 * the block.  The W' that minimises  sum |t - W' x|^2 + d |W' - W|^2  is
 *
 *   W' = W + (C - W G) (G + d I)^-1,  C = sum t x^T,  G = sum x x^T,
 *   d = ridge * mean(diag G).
 *
 * A strong ridge towards W is what makes it pay: t holds the errors of all blocks before,
 * most of which no linear map of x can know, and a regression without it learns the
 * sample.  Of the targets that are possible this one alone was found to help: the
 * block's own dense output for the same x brings nothing, and for the dense x it harms.
 * Where the factorization fails, ridges below 0.1 grow tenfold (ridge.h).      */
#include "ridge.h"

struct config { double ridge; };

struct repair {
    const struct lm_host *host;
    struct config cfg;
};

struct prepared {
    const struct lm_repair_site *site;
    double *l;                          /* [k][k] factor of G + d I */
};

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct repair *p = a->host->alloc(sizeof *p, "sequential");

    if (!p)
        return ridge_no_memory(a->host, "sequential", e);
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
    r->host->release(p);
}

/* On failure release() frees what is there. */
static enum lm_status factor(const struct repair *r, struct prepared *p, struct lm_err *e)
{
    int64_t k = p->site->k;
    struct ridge ridge = { .host = r->host, .k = k, .gram = p->site->gram };
    double mean = 0, lambda = r->cfg.ridge;

    if (!(p->l = r->host->alloc((size_t)(k * k) * sizeof *p->l, "sequential")))
        return ridge_no_memory(r->host, "sequential", e);
    for (int64_t i = 0; i < k; i++)
        mean += p->site->gram[i * k + i] / (double)k;
    if (mean <= 0)                      /* never active: W' = W for any d */
        mean = lambda = 1;
    return ridge_factor(&ridge, mean, &lambda, p->l, e);
}

static enum lm_status prepare(void *self, const struct lm_repair_site *s, void **out,
                              struct lm_err *e)
{
    const struct repair *r = self;
    const double *cross = LM_HAS(s, cross) ? s->cross : NULL;
    struct prepared *p;
    enum lm_status st;

    *out = NULL;
    if (!s->gram || !cross)
        return r->host->fail(e, LM_EBUG, "repair 'sequential' got no second moments");
    st = ridge_check_statistics(r->host, ridge_sound(s->gram, s->k * s->k)
                                && ridge_sound(cross, s->n * s->k), e);
    if (st)
        return st;
    if (!(p = r->host->alloc(sizeof *p, "sequential")))
        return ridge_no_memory(r->host, "sequential", e);
    p->site = s;
    if ((st = factor(r, p, e)))
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
    const struct lm_repair_site *s = p->site;
    int64_t n = s->n, k = s->k;
    double *w, *x;
    bool ok = true;

    if (m != k)
        return r->host->fail(e, LM_EBUG, "sequential repair to %lld of %lld columns",
                             (long long)m, (long long)k);
    w = r->host->alloc((size_t)(n * k) * sizeof *w, "sequential");
    x = r->host->alloc((size_t)(n * k) * sizeof *x, "sequential");
    if (w && x) {
        for (int64_t i = 0; i < n * k; i++) {
            w[i] = s->w[i];
            x[i] = s->cross[i];
        }
        r->host->gemm64('n', 'n', n, k, k, -1, w, k, s->gram, k, 1, x, k);
        r->host->cholesky_solve(p->l, k, k, x, n, k);
        for (int64_t i = 0; i < n * k; i++)
            out[i] = (float)(x[i] += w[i]);
        ok = ridge_sound(x, n * k);
    }
    r->host->release(w);
    r->host->release(x);
    if (!w || !x)
        return ridge_no_memory(r->host, "sequential", e);
    return ok ? LM_OK
        : r->host->fail(e, LM_EFAILED, "sequential repair gave weights that are not "
                        "finite; raise ridge or calibrate on more text");
}

static const struct lm_opt options[] = {
    LM_REAL(struct config, ridge, "0.2", 1e-6, 1e6, NULL, 0,
            "Ridge towards the weights as the search's repair left them, as a share of "
            "the mean of the Gram matrix's diagonal; 0.1 to 0.3 are about equal."),
    LM_OPT_END
};

static const struct lm_repair ops = {
    .struct_size = sizeof ops, .needs = LM_BIT(LM_STAT_GRAM) | LM_BIT(LM_STAT_CROSS),
    .prepare = prepare, .apply = apply, .release = release
};

static const struct lm_module module = {
    LM_MODULE_HEAD(REPAIR),
    .name = "sequential", .version = "1.0", .license = "Apache-2.0",
    .author = "Lamina",
    .summary = "for `refine`: blocks make up for the errors of the blocks before them",
    .opt = options, .config_size = sizeof(struct config),
    .create = create, .destroy = destroy, .ops = &ops
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
