/* SPDX-License-Identifier: Apache-2.0 */
/* gp.c -- see gp.h.
 *
 * Rasmussen & Williams 2006, algorithm 2.1 and equation 5.9: with K = k + noise I,
 *   mean(x) = k_x^T K^-1 y,   variance(x) = 1 - k_x^T K^-1 k_x,
 *   log p(y) = -y^T K^-1 y / 2 - log|K| / 2,
 *   d log p(y) / dt = tr((a a^T - K^-1) dK/dt) / 2,   a = K^-1 y.
 * Lengths have the prior of Hvarfner, Hellsten & Nardi 2024, whose logarithm has mean
 * sqrt(2) + log(genes) / 2 and variance 3: with many genes and few trials most genes
 * must be taken for smooth.  The ascent is Rprop, by signs of slopes (Blum & Riedmiller
 * 2013); the best parameters on the way are kept.
 *
 * Distances of ordered scalars are products of matrices; so is their part of the
 * gradient: sum_ij W_ij (x_i - x_j)^2 = 2 sum_i x_i^2 (sum_j W_ij) - 2 x^T W x.     */
#include "gp.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 64 };                    /* genomes predicted at once            */
static const double jitter = 1e-8, root5 = 2.23606797749979;

/* ---- genomes --------------------------------------------------------------- */
static bool on_line(const struct axis *a)
{
    return a->ordered && a->top > 0;
}

static bool off_line(const struct axis *a)
{
    return a->gene->kind == LM_GENE_SUBSET || (!a->ordered && a->top > 0);
}

enum lm_status gp_frame_open(struct gp_frame *f, const struct genes *g, struct lm_err *e)
{
    *f = (struct gp_frame){ .h = g->h, .g = g };
    f->gene = g->h->alloc((g->p->n_gene + 1) * sizeof *f->gene, g->tag);
    if (!f->gene)
        return g->h->fail(e, LM_ENOMEM, "out of memory for %zu genes", g->p->n_gene);
    for (uint32_t i = 0; i < g->p->n_gene; i++)
        if (on_line(&g->axis[i]))
            f->gene[f->n_line++] = i;
    f->n = f->n_line;
    for (uint32_t i = 0; i < g->p->n_gene; i++)
        if (off_line(&g->axis[i]))
            f->gene[f->n++] = i;
    return LM_OK;
}

void gp_frame_close(struct gp_frame *f)
{
    if (f->h)
        f->h->release(f->gene);
}

enum lm_status gp_points_reserve(const struct gp_frame *f, struct gp_points *p,
                                 size_t room, struct lm_err *e)
{
    void *genome, *line;

    if (room <= p->room)
        return LM_OK;
    genome = f->h->resize(p->genome, room * sizeof *p->genome);
    p->genome = genome ? genome : p->genome;
    line = f->h->resize(p->line, (room * f->n_line + 1) * sizeof *p->line);
    p->line = line ? line : p->line;
    if (!genome || !line)
        return f->h->fail(e, LM_ENOMEM, "out of memory for %zu genomes", room);
    p->room = room;
    return LM_OK;
}

void gp_points_add(const struct gp_frame *f, struct gp_points *p,
                   const union lm_value *genome)
{
    double *line = p->line + p->n * f->n_line;

    for (size_t i = 0; i < f->n_line; i++) {
        const struct axis *a = &f->g->axis[f->gene[i]];
        line[i] = genes_get(a, genome) / a->top;
    }
    p->genome[p->n++] = genome;
}

void gp_points_close(const struct gp_frame *f, struct gp_points *p)
{
    if (!f->h)
        return;
    f->h->release(p->genome);
    f->h->release(p->line);
}

/* d_g of a gene that is not on the line. */
static double differ(const struct lm_gene *g, const union lm_value *a,
                     const union lm_value *b)
{
    int bits = 0;

    a += g->slot;
    b += g->slot;
    if (g->kind != LM_GENE_SUBSET)
        return a->integer != b->integer;
    for (uint32_t i = 0; i < g->slots; i++)
        bits += __builtin_popcountll(a[i].bits ^ b[i].bits);
    return (double)bits / g->n;
}

/* ---- kernel ---------------------------------------------------------------- */
/* x / l of n genomes from `first` on. */
static void scale(const struct gp *m, const struct gp_points *p, size_t first, size_t n,
                  double *out)
{
    const struct gp_frame *f = m->f;
    const double *x = p->line + first * f->n_line;

    for (size_t k = 0; k < f->n_line; k++) {
        double by = exp(-m->theta[k]);
        for (size_t i = 0; i < n; i++)
            out[i * f->n_line + k] = x[i * f->n_line + k] * by;
    }
}

static double squared(const double *x, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sum;
}

/* r^2 of n genomes of p, from `first` on, and those told: out [n][m->n].  `a`: room for
 * n scaled genomes; m->scaled holds those told.                                */
static void distances(struct gp *m, const struct gp_points *p, size_t first, size_t n,
                      double *a, double *out)
{
    const struct gp_frame *f = m->f;
    size_t d = f->n_line;

    scale(m, p, first, n, a);
    f->h->gemm64('n', 't', (int64_t)n, (int64_t)m->n, (int64_t)d, -2, a, (int64_t)d,
                 m->scaled, (int64_t)d, 0, out, (int64_t)m->n);
    for (size_t j = 0; j < m->n; j++)
        m->row[j] = squared(m->scaled + j * d, d);
    for (size_t i = 0; i < n; i++) {
        double own = squared(a + i * d, d), *r = out + i * m->n;
        for (size_t j = 0; j < m->n; j++)
            r[j] = fmax(r[j] + own + m->row[j], 0);
    }
    for (size_t k = d; k < f->n; k++) {
        const struct lm_gene *g = f->g->p->gene[f->gene[k]];
        double by = exp(-2 * m->theta[k]);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < m->n; j++)
                out[i * m->n + j] += by * differ(g, p->genome[first + i],
                                                 m->at->genome[j]);
    }
}

static double matern(double square)
{
    double s = root5 * sqrt(square);

    return (1 + s + s * s / 3) * exp(-s);
}

/* -2 dk/d(r^2) */
static double lean(double square)
{
    double s = root5 * sqrt(square);

    return 5.0 / 3 * (1 + s) * exp(-s);
}

/* ---- evidence -------------------------------------------------------------- */
static double prior(const struct gp *m, size_t i, double *slope)
{
    bool noise = i == m->f->n;
    double variance = noise ? 1 : 3;
    double at = noise ? m->log_noise : sqrt(2) + 0.5 * log((double)m->f->n);

    *slope = (at - m->theta[i]) / variance;
    return -0.5 * (at - m->theta[i]) * (at - m->theta[i]) / variance;
}

static enum lm_status factor(struct gp *m, struct lm_err *e)
{
    const struct lm_host *h = m->f->h;
    size_t n = m->n;

    scale(m, m->at, 0, n, m->scaled);
    distances(m, m->at, 0, n, m->other, m->k);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++) {
            double square = i == j ? 0 : m->k[i * n + j];
            m->lean[i * n + j] = lean(square);
            m->k[i * n + j] = matern(square);
        }
        m->k[i * n + i] += exp(m->theta[m->f->n]) + jitter;
    }
    enum lm_status st = h->cholesky(m->k, (int64_t)n, (int64_t)n, e);
    if (st != LM_OK)
        return st;
    memset(m->inverse, 0, n * n * sizeof *m->inverse);
    for (size_t i = 0; i < n; i++)
        m->inverse[i * n + i] = 1;
    h->cholesky_solve(m->k, (int64_t)n, (int64_t)n, m->inverse, (int64_t)n, (int64_t)n);
    memcpy(m->alpha, m->y, n * sizeof *m->alpha);
    h->cholesky_solve(m->k, (int64_t)n, (int64_t)n, m->alpha, 1, (int64_t)n);
    return LM_OK;
}

/* Adds d log p(y) / dt for all parameters; lean becomes (a a^T - K^-1) lean. */
static void add_slopes(struct gp *m)
{
    const struct gp_frame *f = m->f;
    size_t n = m->n, d = f->n_line;

    for (size_t i = 0; i < n; i++)
        m->slope[f->n] += 0.5 * exp(m->theta[f->n])
                        * (m->alpha[i] * m->alpha[i] - m->inverse[i * n + i]);
    for (size_t i = 0; i < n; i++) {
        m->row[i] = 0;
        for (size_t j = 0; j < n; j++) {
            double *w = &m->lean[i * n + j];
            *w *= m->alpha[i] * m->alpha[j] - m->inverse[i * n + j];
            m->row[i] += *w;
        }
    }
    f->h->gemm64('n', 'n', (int64_t)n, (int64_t)d, (int64_t)n, 1, m->lean, (int64_t)n,
                 m->scaled, (int64_t)d, 0, m->other, (int64_t)d);
    for (size_t i = 0; i < n; i++)      /* half of the sum over i, j of W d / l^2 */
        for (size_t k = 0; k < d; k++) {
            double x = m->scaled[i * d + k];
            m->slope[k] += x * (x * m->row[i] - m->other[i * d + k]);
        }
    for (size_t k = d; k < f->n; k++) {
        const struct lm_gene *g = f->g->p->gene[f->gene[k]];
        double sum = 0;
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < i; j++)
                sum += m->lean[i * n + j] * differ(g, m->at->genome[i],
                                                   m->at->genome[j]);
        m->slope[k] += sum * exp(-2 * m->theta[k]);
    }
}

enum lm_status gp_evidence(struct gp *m, double *value, struct lm_err *e)
{
    enum lm_status st = factor(m, e);

    *value = 0;
    for (size_t i = 0; i <= m->f->n; i++)
        *value += prior(m, i, &m->slope[i]);
    if (st != LM_OK)
        return st;
    for (size_t i = 0; i < m->n; i++)
        *value -= 0.5 * m->y[i] * m->alpha[i] + log(m->k[i * m->n + i]);
    add_slopes(m);
    return LM_OK;
}

/* ---- parameters ------------------------------------------------------------ */
static void step_up(struct gp *m)
{
    for (size_t i = 0; i <= m->f->n; i++) {
        double turn = m->slope[i] * m->last[i];
        double least = i == m->f->n ? -13.8 : -3, most = i == m->f->n ? 0 : 7;

        if (turn > 0)
            m->step[i] = fmin(1.2 * m->step[i], 1.5);
        else if (turn < 0)
            m->step[i] = fmax(0.5 * m->step[i], 1e-3);
        m->last[i] = turn < 0 ? 0 : m->slope[i];
        m->theta[i] += m->last[i] > 0 ? m->step[i] : m->last[i] < 0 ? -m->step[i] : 0;
        m->theta[i] = fmin(fmax(m->theta[i], least), most);
    }
}

/* Noise makes any matrix positive definite: where rounding left none, more of it. */
static enum lm_status factor_surely(struct gp *m, struct lm_err *e)
{
    double *noise = &m->theta[m->f->n];
    enum lm_status st = factor(m, e);

    for (; st != LM_OK && *noise < 2; st = factor(m, e))
        *noise += 2;
    return st;
}

static void standardize(struct gp *m, const double *y)
{
    double square = 0;

    m->mean = 0;
    for (size_t i = 0; i < m->n; i++)
        m->mean += y[i] / (double)m->n;
    for (size_t i = 0; i < m->n; i++)
        square += (y[i] - m->mean) * (y[i] - m->mean) / (double)m->n;
    m->sd = square > 0 ? sqrt(square) : 1;
    for (size_t i = 0; i < m->n; i++)
        m->y[i] = (y[i] - m->mean) / m->sd;
}

enum lm_status gp_fit(struct gp *m, const struct gp_points *at, const double *y,
                      int64_t steps, struct lm_err *e)
{
    size_t size = (m->f->n + 1) * sizeof *m->theta;
    double best = -INFINITY, value;

    m->at = at;
    m->n = at->n;
    standardize(m, y);
    memcpy(m->best, m->theta, size);
    memset(m->last, 0, size);
    for (size_t i = 0; i <= m->f->n; i++)
        m->step[i] = 0.3;
    for (int64_t k = 0; k <= steps; k++) {
        if (gp_evidence(m, &value, NULL) == LM_OK && value > best) {
            best = value;
            memcpy(m->best, m->theta, size);
        }
        if (k < steps)
            step_up(m);
    }
    memcpy(m->theta, m->best, size);
    return factor_surely(m, e);
}

enum lm_status gp_extend(struct gp *m, double y, struct lm_err *e)
{
    m->y[m->n++] = (y - m->mean) / m->sd;
    return factor_surely(m, e);
}

/* m->k, which the factor does not need any more, and m->other are scratch here. */
void gp_predict(struct gp *m, const struct gp_points *p, double *mean, double *sd)
{
    const struct lm_host *h = m->f->h;
    size_t n = m->n, block = m->room < BLOCK ? m->room : BLOCK;
    int64_t in = (int64_t)n;

    for (size_t first = 0; first < p->n; first += block) {
        size_t here = p->n - first < block ? p->n - first : block;
        double *k = m->k, *v = m->lean;

        distances(m, p, first, here, m->other, k);
        for (size_t i = 0; i < here * n; i++)
            k[i] = matern(k[i]);
        h->gemm64('n', 'n', (int64_t)here, in, in, 1, k, in, m->inverse, in, 0, v, in);
        for (size_t i = 0; i < here; i++) {
            double sum = 0, variance = 1;
            for (size_t j = 0; j < n; j++) {
                sum += k[i * n + j] * m->alpha[j];
                variance -= k[i * n + j] * v[i * n + j];
            }
            mean[first + i] = m->mean + m->sd * sum;
            sd[first + i] = m->sd * sqrt(fmax(variance, 1e-9));
        }
    }
}

/* ---- memory ---------------------------------------------------------------- */
enum lm_status gp_open(struct gp *m, const struct gp_frame *f, double log_noise,
                       struct lm_err *e)
{
    size_t n = f->n + 1;

    *m = (struct gp){ .f = f, .log_noise = log_noise };
    m->theta = f->h->alloc(5 * n * sizeof *m->theta, f->g->tag);
    if (!m->theta)
        return f->h->fail(e, LM_ENOMEM, "out of memory for a model of %zu genes", f->n);
    m->slope = m->theta + n;
    m->last = m->slope + n;
    m->step = m->last + n;
    m->best = m->step + n;
    for (size_t i = 0; i < f->n; i++)
        m->theta[i] = sqrt(2) + 0.5 * log((double)f->n);
    m->theta[f->n] = log_noise;
    return LM_OK;
}

void gp_close(struct gp *m)
{
    if (!m->f)
        return;
    m->f->h->release(m->theta);
    m->f->h->release(m->y);
}

/* One block, without what it held: a fit follows. */
enum lm_status gp_reserve(struct gp *m, size_t room, struct lm_err *e)
{
    size_t d = m->f->n_line, each = 3 + 2 * d;

    if (room <= m->room)
        return LM_OK;
    m->f->h->release(m->y);
    m->y = NULL;
    m->room = 0;
    if (room < SIZE_MAX / 64 / (3 * room + each))
        m->y = m->f->h->alloc(room * (3 * room + each) * sizeof *m->y, m->f->g->tag);
    if (!m->y)
        return m->f->h->fail(e, LM_ENOMEM, "out of memory for a model of %zu genomes",
                             room);
    m->alpha = m->y + room;
    m->row = m->alpha + room;
    m->scaled = m->row + room;
    m->other = m->scaled + room * d;
    m->k = m->other + room * d;
    m->inverse = m->k + room * room;
    m->lean = m->inverse + room * room;
    m->room = room;
    return LM_OK;
}
