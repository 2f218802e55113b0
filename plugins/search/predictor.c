/* SPDX-License-Identifier: Apache-2.0 */
/* predictor.c -- see predictor.h.
 *
 * As LINAS does it (Cummings et al., arXiv 2205.10358): one-hot features; ridge with
 * alpha 0.1, 0.2 .. 10 and support vectors with an RBF kernel exp(-d^2 / features),
 * epsilon 0 and C 1, 2 .. 100; both by five-fold cross validation over contiguous folds,
 * by the mean absolute percentage error; the better one is fitted to all genomes.  Labels
 * are divided by a power of ten that leaves two digits before the point.  Two things
 * differ:
 *
 * - An ordered gene with more values than `knots` has that many features, between which
 *   its values are interpolated: a value that was never seen is predicted by those beside
 *   it, and thirty genes of 48 values stay 240 features.
 * - The error of a label is taken relative to at least a hundredth of the mean label:
 *   the divergence of the dense model is 0, and would decide alone.
 *
 * Prediction of ridge is a sum over the features of a genome, of support vectors a sum
 * over the genomes learned from.                                                 */
#include "predictor.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "regress.h"

enum { FOLDS = 5, GRID = 100, SLICES = 64 };
#define ALPHA(i) (0.1 * (double)((i) + 1))
#define BOX(i) ((double)((i) + 1))

/* Of one fit; squares are [n][n], lists [n], of targets [n_target]. */
struct fit {
    struct predictor *p;
    size_t  n, lo, hi, m;               /* genomes; the fold left out; m: others */
    double *memory;
    double *gram, *kernel, *part, *test;    /* squares */
    double *diag, *off, *mean, *work, *z, *u, *beta, *label;    /* lists */
    double *y;                          /* [n_target][n] labels, divided        */
    double *tiny;                       /* least denominators of errors         */
    double *ridge, *svr;                /* [n_target][GRID] sums of errors      */
};

static enum lm_status no_memory(const struct predictor *p, struct lm_err *e)
{
    return p->h->fail(e, LM_ENOMEM, "out of memory for predictors of %zu genomes", p->n);
}

/* ---- features -------------------------------------------------------------- */
static void forget(struct predictor *p)
{
    for (size_t i = 0; i < p->n_code; i++)
        p->h->release(p->code[i].seen);
    for (size_t i = 0; p->model && i < p->n_target; i++)
        p->h->release(p->model[i].weight);
    p->h->release(p->code);
    p->h->release(p->row);
    p->h->release(p->length);
    p->h->release(p->column);
    p->h->release(p->square);
    p->h->release(p->model);
    p->code = NULL;
    p->row = NULL;
    p->length = NULL;
    p->column = p->square = NULL;
    p->model = NULL;
    p->n_code = p->n_feature = p->most = p->n = 0;
}

void predictor_close(struct predictor *p)
{
    if (p->h)
        forget(p);
}

static int rising(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return a < b ? -1 : a > b;
}

static enum lm_status list_values(struct predictor *p, struct code *c,
                                  const union lm_value *const *genome, size_t n,
                                  struct lm_err *e)
{
    c->seen = p->h->alloc(n * sizeof *c->seen, p->genes->tag);
    if (!c->seen)
        return no_memory(p, e);
    for (size_t i = 0; i < n; i++)
        c->seen[i] = genes_get(&p->genes->axis[c->gene], genome[i]);
    qsort(c->seen, n, sizeof *c->seen, rising);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || c->seen[i] != c->seen[c->n - 1])
            c->seen[c->n++] = c->seen[i];
    return LM_OK;
}

static size_t at_least(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* The codes of a gene, at most two. */
static enum lm_status add_codes(struct predictor *p, size_t gene,
                                const union lm_value *const *genome, size_t n,
                                struct lm_err *e)
{
    const struct axis *a = &p->genes->axis[gene];
    const struct lm_gene *g = a->gene;
    struct code *c = &p->code[p->n_code];
    enum lm_status st = LM_OK;

    if (g->kind == LM_GENE_SUBSET) {
        if (p->knots && g->max > g->min)
            p->code[p->n_code++] = (struct code){ KNOTS, gene, 0,
                                                  at_least(p->knots, 2), NULL };
        p->code[p->n_code++] = (struct code){ PARTS, gene, 0,
            p->knots && g->n > SLICES ? SLICES : g->n, NULL };
    } else if (p->knots && a->ordered && (a->continuous || a->top >= (double)p->knots)) {
        p->code[p->n_code++] = (struct code){ KNOTS, gene, 0, at_least(p->knots, 2),
                                              NULL };
    } else if (a->top > 0) {
        p->n_code++;
        *c = (struct code){ VALUES, gene, 0, 0, NULL };
        st = list_values(p, c, genome, n, e);
    }
    return st;
}

static enum lm_status make_codes(struct predictor *p, const union lm_value *const *genome,
                                 size_t n, struct lm_err *e)
{
    size_t genes = p->genes->p->n_gene;

    p->code = p->h->alloc((2 * genes + 1) * sizeof *p->code, p->genes->tag);
    if (!p->code)
        return no_memory(p, e);
    for (size_t g = 0; g < genes; g++) {
        enum lm_status st = add_codes(p, g, genome, n, e);
        if (st != LM_OK)
            return st;
    }
    for (size_t i = 0; i < p->n_code; i++) {
        struct code *c = &p->code[i];
        c->first = p->n_feature;
        p->n_feature += c->n;
        p->most += c->coding == PARTS ? c->n : c->coding == KNOTS ? 2 : 1;
    }
    return LM_OK;
}

/* Where the gene is on its range, 0 .. 1. */
static double position(const struct predictor *p, const struct code *c,
                       const union lm_value *genome)
{
    const struct axis *a = &p->genes->axis[c->gene];
    const struct lm_gene *g = a->gene;

    if (g->kind == LM_GENE_SUBSET)
        return (genes_count(g, genome + g->slot) - g->min) / (g->max - g->min);
    return a->top > 0 ? genes_get(a, genome) / a->top : 0;
}

static size_t put_parts(const struct code *c, const struct lm_gene *g,
                        const union lm_value *v, struct entry *out)
{
    size_t n = 0;

    for (size_t k = 0; k < c->n; k++) {
        uint32_t i = (uint32_t)(k * g->n / c->n), end = (uint32_t)((k + 1) * g->n / c->n);
        double in = 0, all = end - i;
        for (; i < end; i++)
            in += genes_has(v, i);
        if (in > 0)
            out[n++] = (struct entry){ (uint32_t)(c->first + k), in / all };
    }
    return n;
}

static size_t encode(const struct predictor *p, const union lm_value *genome,
                     struct entry *out)
{
    size_t n = 0;

    for (size_t i = 0; i < p->n_code; i++) {
        const struct code *c = &p->code[i];
        const struct axis *a = &p->genes->axis[c->gene];

        if (c->coding == PARTS) {
            n += put_parts(c, a->gene, genome + a->gene->slot, out + n);
        } else if (c->coding == KNOTS) {
            double x = position(p, c, genome) * (double)(c->n - 1);
            double low = fmin(fmax(floor(x), 0), (double)(c->n - 2));
            uint32_t at = (uint32_t)(c->first + (size_t)low);
            out[n++] = (struct entry){ at, 1 - (x - low) };
            out[n++] = (struct entry){ at + 1, x - low };
        } else {
            double x = genes_get(a, genome);
            const double *at = bsearch(&x, c->seen, c->n, sizeof x, rising);
            if (at)
                out[n++] = (struct entry){ (uint32_t)(c->first + (size_t)(at - c->seen)),
                                           1 };
        }
    }
    return n;
}

static enum lm_status make_rows(struct predictor *p, const union lm_value *const *genome,
                                struct lm_err *e)
{
    const char *tag = p->genes->tag;

    if (p->most < SIZE_MAX / sizeof *p->row / (p->n + 1))
        p->row = p->h->alloc((p->n + 1) * (p->most + 1) * sizeof *p->row, tag);
    p->length = p->h->alloc(p->n * sizeof *p->length, tag);
    p->square = p->h->alloc((2 * p->n + 1) * sizeof *p->square, tag);
    p->model = p->h->alloc(p->n_target * sizeof *p->model, tag);
    if (!p->row || !p->length || !p->square || !p->model)
        return no_memory(p, e);
    p->kernel = p->square + p->n;
    for (size_t i = 0; i < p->n; i++)
        p->length[i] = encode(p, genome[i], p->row + i * p->most);
    return LM_OK;
}

/* ---- cross validation ------------------------------------------------------ */
static enum lm_status fit_open(struct fit *f, struct predictor *p, const double *y,
                               struct lm_err *e)
{
    size_t n = p->n, t = p->n_target, all = 4 * n * n + 8 * n + t * (n + 1 + 2 * GRID);
    double *at, **const square[] = { &f->gram, &f->kernel, &f->part, &f->test };
    double **const list[] = { &f->diag, &f->off, &f->mean, &f->work, &f->z, &f->u,
                              &f->beta, &f->label };

    *f = (struct fit){ .p = p, .n = n };
    at = f->memory = p->h->alloc(all * sizeof *at, p->genes->tag);
    if (!at)
        return no_memory(p, e);
    for (size_t i = 0; i < 4; i++, at += n * n)
        *square[i] = at;
    for (size_t i = 0; i < 8; i++, at += n)
        *list[i] = at;
    f->y = at;
    f->tiny = f->y + t * n;
    f->ridge = f->tiny + t;
    f->svr = f->ridge + t * GRID;
    for (size_t k = 0; k < t; k++) {
        double most = 0, mean = 0;
        for (size_t i = 0; i < n; i++)
            most = fmax(most, fabs(y[i * t + k]));
        p->model[k].unit = most > 0 ? pow(10, floor(log10(most)) - 1) : 1;
        for (size_t i = 0; i < n; i++) {
            f->y[k * n + i] = y[i * t + k] / p->model[k].unit;
            mean += fabs(f->y[k * n + i]) / (double)n;
        }
        f->tiny[k] = fmax(0.01 * mean, 2.2e-16);
    }
    return LM_OK;
}

/* Products of all rows, and their kernel.  dense [n_feature] is 0. */
static void products(struct fit *f, double *dense)
{
    const struct predictor *p = f->p;
    size_t n = f->n;

    for (size_t i = 0; i < n; i++) {
        const struct entry *a = p->row + i * p->most;
        for (size_t k = 0; k < p->length[i]; k++)
            dense[a[k].index] = a[k].value;
        for (size_t j = 0; j <= i; j++) {
            const struct entry *b = p->row + j * p->most;
            double sum = 0;
            for (size_t k = 0; k < p->length[j]; k++)
                sum += dense[b[k].index] * b[k].value;
            f->gram[i * n + j] = f->gram[j * n + i] = sum;
        }
        for (size_t k = 0; k < p->length[i]; k++)
            dense[a[k].index] = 0;
        p->square[i] = f->gram[i * n + i];
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            f->kernel[i * n + j] = exp((2 * f->gram[i * n + j] - p->square[i]
                                        - p->square[j]) / (double)p->n_feature);
}

/* The genomes without the fold: their matrix to part [m][m], their products with those
 * of the fold to test [hi - lo][m].                                              */
static void split(struct fit *f, const double *from)
{
    size_t n = f->n, held = f->hi - f->lo, r = 0, t = 0;

    f->m = n - held;
    for (size_t i = 0; i < n; i++) {
        bool out = i >= f->lo && i < f->hi;
        double *to = out ? f->test + t++ * f->m : f->part + r++ * f->m;
        memcpy(to, from + i * n, f->lo * sizeof *to);
        memcpy(to + f->lo, from + i * n + f->hi, (n - f->hi) * sizeof *to);
    }
}

/* The labels without the fold, and their mean. */
static double split_labels(struct fit *f, size_t target)
{
    const double *y = f->y + target * f->n;
    double mean = 0;

    memcpy(f->label, y, f->lo * sizeof *y);
    memcpy(f->label + f->lo, y + f->hi, (f->n - f->hi) * sizeof *y);
    for (size_t i = 0; i < f->m; i++)
        mean += f->label[i] / (double)f->m;
    return mean;
}

/* Mean error over the fold of predictions base + test . weight. */
static double fold_error(const struct fit *f, size_t target, const double *weight,
                         double base)
{
    const double *y = f->y + target * f->n + f->lo;
    size_t held = f->hi - f->lo;
    double sum = 0;

    for (size_t i = 0; i < held; i++) {
        const double *row = f->test + i * f->m;
        double x = base;
        for (size_t j = 0; j < f->m; j++)
            x += row[j] * weight[j];
        sum += fabs(x - y[i]) / fmax(fabs(y[i]), f->tiny[target]);
    }
    return sum / (double)held;
}

static void try_ridge(struct fit *f)
{
    size_t m, held = f->hi - f->lo;

    split(f, f->gram);
    m = f->m;
    regress_centre(f->part, m, f->mean);
    regress_tridiagonal(f->part, m, f->diag, f->off, f->work);
    for (size_t i = 0; i < held; i++) {
        double *row = f->test + i * m;
        for (size_t j = 0; j < m; j++)
            row[j] -= f->mean[j];
        regress_turn(f->part, m, row);
    }
    for (size_t k = 0; k < f->p->n_target; k++) {
        double mean = split_labels(f, k);
        for (size_t j = 0; j < m; j++)
            f->z[j] = f->label[j] - mean;
        regress_turn(f->part, m, f->z);
        for (size_t i = 0; i < GRID; i++) {
            regress_solve(f->diag, f->off, m, ALPHA(i), f->z, f->u, f->work);
            f->ridge[k * GRID + i] += fold_error(f, k, f->u, mean);
        }
    }
}

static void try_svr(struct fit *f)
{
    split(f, f->kernel);
    for (size_t k = 0; k < f->p->n_target; k++) {
        struct svr s = { .k = f->part, .y = f->label, .n = f->m, .beta = f->beta,
                         .rest = f->z };
        double error = 0;
        split_labels(f, k);
        svr_start(&s);
        for (size_t i = 0; i < GRID; i++) {
            if (!s.inside) {
                s.c = BOX(i);
                svr_solve(&s);
                error = fold_error(f, k, s.beta, s.b);
            }
            f->svr[k * GRID + i] += error;
        }
    }
}

static size_t least(const double *x)
{
    size_t best = 0;

    for (size_t i = 1; i < GRID; i++)
        if (x[i] < x[best])
            best = i;
    return best;
}

static enum lm_status choose(struct fit *f, struct lm_err *e)
{
    struct predictor *p = f->p;

    for (size_t k = 0, at = 0; k < FOLDS; k++, at = f->hi) {
        f->lo = at;
        f->hi = at + f->n / FOLDS + (k < f->n % FOLDS);
        if (p->h->canceled(p->run))
            return p->h->fail(e, LM_ECANCELED, "interrupted");
        try_ridge(f);
        try_svr(f);
    }
    for (size_t k = 0; k < p->n_target; k++) {
        const double *ridge = f->ridge + k * GRID, *svr = f->svr + k * GRID;
        size_t a = least(ridge), c = least(svr);
        struct model *m = &p->model[k];
        m->svr = svr[c] < ridge[a];
        m->choice = m->svr ? BOX(c) : ALPHA(a);
        m->error = (m->svr ? svr[c] : ridge[a]) / FOLDS;
    }
    return LM_OK;
}

/* ---- the models chosen ----------------------------------------------------- */
static enum lm_status fit_ridge(struct fit *f, size_t target, struct lm_err *e)
{
    struct predictor *p = f->p;
    struct model *m = &p->model[target];
    size_t n = f->n;
    enum lm_status st;

    f->lo = f->hi = n;
    split(f, f->gram);
    regress_centre(f->part, n, f->mean);
    for (size_t i = 0; i < n; i++)
        f->part[i * n + i] += m->choice;
    m->b = split_labels(f, target);
    for (size_t i = 0; i < n; i++)
        f->z[i] = f->label[i] - m->b;
    if ((st = p->h->cholesky(f->part, (int64_t)n, (int64_t)n, e)) != LM_OK)
        return st;
    p->h->cholesky_solve(f->part, (int64_t)n, (int64_t)n, f->z, 1, (int64_t)n);
    m->weight = p->h->alloc((p->n_feature + 1) * sizeof *m->weight, p->genes->tag);
    if (!m->weight)
        return no_memory(p, e);
    for (size_t i = 0; i < n; i++) {
        const struct entry *row = p->row + i * p->most;
        for (size_t k = 0; k < p->length[i]; k++)
            m->weight[row[k].index] += f->z[i] * row[k].value;
        m->b -= f->z[i] * f->mean[i];
    }
    return LM_OK;
}

static enum lm_status fit_svr(struct fit *f, size_t target, struct lm_err *e)
{
    struct predictor *p = f->p;
    struct model *m = &p->model[target];
    struct svr s = { .k = f->kernel, .y = f->y + target * f->n, .n = f->n,
                     .c = m->choice, .rest = f->z };

    s.beta = m->weight = p->h->alloc(f->n * sizeof *m->weight, p->genes->tag);
    if (!m->weight)
        return no_memory(p, e);
    svr_start(&s);
    svr_solve(&s);
    m->b = s.b;
    if (p->column)
        return LM_OK;
    if (p->n_feature < SIZE_MAX / sizeof *p->column / f->n)
        p->column = p->h->alloc((p->n_feature + 1) * f->n * sizeof *p->column,
                                p->genes->tag);
    if (!p->column)
        return no_memory(p, e);
    for (size_t i = 0; i < f->n; i++)
        for (size_t k = 0; k < p->length[i]; k++) {
            const struct entry *x = &p->row[i * p->most + k];
            p->column[x->index * f->n + i] = x->value;
        }
    return LM_OK;
}

enum lm_status predictor_fit(struct predictor *p, const union lm_value *const *genome,
                             const double *y, size_t n, struct lm_err *e)
{
    struct fit f = { 0 };
    double *dense = NULL;
    enum lm_status st;

    forget(p);
    p->n = n;
    if ((st = make_codes(p, genome, n, e)) == LM_OK
        && (st = make_rows(p, genome, e)) == LM_OK)
        st = fit_open(&f, p, y, e);
    if (st == LM_OK) {
        dense = p->h->alloc((p->n_feature + 1) * sizeof *dense, p->genes->tag);
        st = dense ? LM_OK : no_memory(p, e);
    }
    if (st == LM_OK) {
        products(&f, dense);
        st = choose(&f, e);
    }
    for (size_t k = 0; k < p->n_target && st == LM_OK; k++)
        st = p->model[k].svr ? fit_svr(&f, k, e) : fit_ridge(&f, k, e);
    p->h->release(dense);
    p->h->release(f.memory);
    return st;
}

/* exp(-d^2 / features) to all genomes learned from. */
static void kernels(struct predictor *p, const struct entry *x, size_t n_entry)
{
    double square = 0;

    memset(p->kernel, 0, p->n * sizeof *p->kernel);
    for (size_t k = 0; k < n_entry; k++) {
        const double *column = p->column + x[k].index * p->n, v = x[k].value;
        square += v * v;
        for (size_t i = 0; i < p->n; i++)
            p->kernel[i] += v * column[i];
    }
    for (size_t i = 0; i < p->n; i++)
        p->kernel[i] = exp((2 * p->kernel[i] - square - p->square[i])
                           / (double)p->n_feature);
}

void predictor_eval(struct predictor *p, const union lm_value *genome, double *out)
{
    struct entry *x = p->row + p->n * p->most;
    size_t n_entry = encode(p, genome, x);

    if (p->column)
        kernels(p, x, n_entry);
    for (size_t t = 0; t < p->n_target; t++) {
        const struct model *m = &p->model[t];
        double sum = m->b;
        for (size_t i = 0; m->svr && i < p->n; i++)
            sum += m->weight[i] * p->kernel[i];
        for (size_t k = 0; !m->svr && k < n_entry; k++)
            sum += m->weight[x[k].index] * x[k].value;
        out[t] = sum * m->unit;
    }
}
