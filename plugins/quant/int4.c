/* SPDX-License-Identifier: Apache-2.0 */
/* int4.c -- quantizer: integers of 4 bits in groups of 32, 64 or 128 of a row.
 *
 * Symmetric: x becomes d q, q within -8 .. 7 (q4_0); asymmetric: d q + m, q within
 * 0 .. 15 (q4_1).  q is what is nearest to x; d and m are f16.  For each group the
 * weighted squared error
 *
 *   sum_j g_j (x_j - x'_j)^2
 *
 * is searched for its least: scales that put the largest magnitude on a level t, a
 * little inside and outside of the range; offsets and scales of ranges that are cut
 * at both ends; from the best of these, the least squares solution for d (and m) with
 * q held, as long as that helps.  g_j is 1, or with `weigh` the j-th diagonal element
 * of the Gram matrix of the matrix's inputs over its mean, plus a hundredth, so that
 * columns the text never uses are not lost.
 *
 * Every group that is chosen uses the levels at the ends of its range (or, symmetric,
 * one of magnitude LEAST or more), from which a second pass finds its scale again.  */
#include "quant.h"

enum { WIDEST = 128, LEAST = 5, REFINE = 3, CUTS = 4 };
static const float floor_weight = 0.01f;

struct config {
    int64_t group;
    bool    symmetric, search, weigh;
};

struct group {
    const struct quant *p;
    const float *x, *g;                 /* [n] values and weights */
    int n;
    float most;                         /* value of largest magnitude */
    float lo, hi;
};

struct choice { float d, m, loss; };

/* ---- one scale ------------------------------------------------------------------ */

static int level(const struct config *c, const struct choice *k, float inverse, float x)
{
    return c->symmetric ? quant_nearest(x * inverse, -8, 7)
                        : quant_nearest((x - k->m) * inverse, 0, 15);
}

/* Rounds d and m to f16 and measures; false: cannot be stored, or the ends of the
 * range are not used.                                                        */
static bool measure(const struct config *c, const struct group *b, struct choice *k)
{
    unsigned char bits[2];
    float inverse;

    k->d = quant_half(b->p, k->d, bits);
    k->m = quant_half(b->p, k->m, bits);
    if (!isfinite(k->d) || !isfinite(k->m))
        return false;
    inverse = quant_inverse(k->d);
    k->loss = 0;
    for (int j = 0; j < b->n; j++) {
        float q = (float)level(c, k, inverse, b->x[j]);
        float off = b->x[j] - (k->d * q + k->m);

        k->loss += b->g[j] * off * off;
    }
    if (c->symmetric) {
        int top = level(c, k, inverse, b->most);

        return top >= LEAST || top <= -LEAST;
    }
    return level(c, k, inverse, b->lo) == 0 && level(c, k, inverse, b->hi) == 15;
}

static void offer(const struct config *c, const struct group *b, float d, float m,
                  struct choice *best)
{
    struct choice k = { d, m, 0 };

    if (measure(c, b, &k) && k.loss < best->loss)
        *best = k;
}

/* Least squares for d (and m) with the levels that the best choice has. */
static bool solve(const struct config *c, const struct group *b,
                  const struct choice *best, float *d, float *m)
{
    double w = 0, q1 = 0, q2 = 0, x1 = 0, xq = 0, det;
    float inverse = quant_inverse(best->d);

    for (int j = 0; j < b->n; j++) {
        double g = b->g[j], q = level(c, best, inverse, b->x[j]), x = b->x[j];

        w += g;
        q1 += g * q;
        q2 += g * q * q;
        x1 += g * x;
        xq += g * x * q;
    }
    det = w * q2 - q1 * q1;
    if (c->symmetric ? q2 <= 0 : det <= 1e-9 * w * q2)
        return false;
    *d = (float)(c->symmetric ? xq / q2 : (w * xq - q1 * x1) / det);
    *m = c->symmetric ? 0 : (float)((q2 * x1 - q1 * xq) / det);
    return true;
}

static void refine(const struct config *c, const struct group *b, struct choice *best)
{
    for (int i = 0; i < REFINE; i++) {
        float before = best->loss, d, m;

        if (!solve(c, b, best, &d, &m))
            return;
        offer(c, b, d, m, best);
        if (!(best->loss < before))
            return;
    }
}

/* ---- a group -------------------------------------------------------------------- */

static bool search_symmetric(const struct config *c, const struct group *b,
                             struct choice *best)
{
    *best = (struct choice){ .d = b->most != 0 ? b->most / -8 : 0 };
    if (!measure(c, b, best) && !isfinite(best->d))
        return false;
    if (!c->search || best->loss == 0)
        return true;
    for (int t = 2 * LEAST; t <= 19; t++) {
        offer(c, b, b->most / (0.5f * (float)t), 0, best);
        offer(c, b, b->most / (-0.5f * (float)t), 0, best);
    }
    refine(c, b, best);
    return true;
}

static bool search_asymmetric(const struct config *c, const struct group *b,
                              struct choice *best)
{
    float cut = (b->hi - b->lo) / 15 * 0.4f;

    *best = (struct choice){ .d = (b->hi - b->lo) / 15, .m = b->lo };
    if (!measure(c, b, best) && (!isfinite(best->d) || !isfinite(best->m)))
        return false;
    if (!c->search || best->loss == 0)
        return true;
    for (int i = 0; i <= CUTS; i++)
        for (int j = 0; j <= CUTS; j++) {
            float lo = b->lo + cut * (float)i, hi = b->hi - cut * (float)j;

            offer(c, b, (hi - lo) / 15, lo, best);
        }
    refine(c, b, best);
    return true;
}

static void store(const struct config *c, const struct group *b, const struct choice *k,
                  unsigned char *out)
{
    int half = QUANT_BLOCK / 2, shift = c->symmetric ? 8 : 0;
    float inverse = quant_inverse(k->d);
    unsigned char d[2], m[2];

    quant_half(b->p, k->d, d);
    quant_half(b->p, k->m, m);
    for (const float *x = b->x; x < b->x + b->n; x += QUANT_BLOCK) {
        memcpy(out, d, sizeof d);
        out += sizeof d;
        if (!c->symmetric) {
            memcpy(out, m, sizeof m);
            out += sizeof m;
        }
        for (int j = 0; j < half; j++)
            *out++ = (unsigned char)((level(c, k, inverse, x[j]) + shift)
                                     | (level(c, k, inverse, x[j + half]) + shift) << 4);
    }
}

static enum lm_status encode_group(const struct config *c, struct group *b,
                                   unsigned char *out, struct lm_err *e)
{
    struct choice best;

    b->most = b->lo = b->hi = b->x[0];
    for (int j = 1; j < b->n; j++) {
        b->most = fabsf(b->x[j]) > fabsf(b->most) ? b->x[j] : b->most;
        b->lo = b->x[j] < b->lo ? b->x[j] : b->lo;
        b->hi = b->x[j] > b->hi ? b->x[j] : b->hi;
    }
    if (!(c->symmetric ? search_symmetric(c, b, &best) : search_asymmetric(c, b, &best)))
        return quant_too_large(b->p, b->most, e);
    store(c, b, &best, out);
    return LM_OK;
}

/* ---- a matrix ------------------------------------------------------------------- */

/* Weights of the columns; 1 where nothing is known. */
static float *column_weights(const struct quant *p, const struct lm_quant_site *s)
{
    float *g = p->host->alloc((size_t)s->cols * sizeof *g, "int4");
    double sum = 0;

    for (int64_t j = 0; s->sumsq && j < s->cols; j++)
        sum += s->sumsq[j];
    for (int64_t j = 0; g && j < s->cols; j++)
        g[j] = sum > 0 && isfinite(sum)
            ? (float)(s->sumsq[j] / sum * (double)s->cols) + floor_weight : 1;
    return g;
}

static enum lm_status encode(void *self, const struct lm_quant_site *s, void *out,
                             struct lm_err *e)
{
    const struct quant *p = self;
    const struct config *c = p->config;
    int block = QUANT_BLOCK / 2 + (c->symmetric ? 2 : 4);
    unsigned char *at = out;
    float *g = column_weights(p, s);
    enum lm_status st = LM_OK;

    if (!g)
        return p->host->fail(e, LM_ENOMEM, "out of memory for quantizer 'int4'");
    for (int64_t r = 0; !st && r < s->rows; r++)
        for (int64_t i = 0; !st && i < s->cols; i += c->group) {
            int64_t n = s->cols - i < c->group ? s->cols - i : c->group;
            struct group b = { .p = p, .x = s->w + r * s->stride + i, .g = g + i,
                               .n = (int)n };

            st = encode_group(c, &b, at, e);
            at += n / QUANT_BLOCK * block;
        }
    p->host->release(g);
    return st;
}

static uint32_t dtype(const void *config)
{
    const struct config *c = config;

    return c->symmetric ? LM_Q4_0 : LM_Q4_1;
}

static uint64_t needs(const void *config)
{
    const struct config *c = config;

    return c->weigh ? LM_BIT(LM_STAT_SUMSQ) : 0;
}

static enum lm_status check(const struct lm_host *h, const void *config, struct lm_err *e)
{
    const struct config *c = config;

    if (c->group != 32 && c->group != 64 && c->group != WIDEST)
        return h->fail(e, LM_ECONFIG, "group = %lld is none of 32, 64, 128",
                       (long long)c->group);
    if (c->weigh && !c->search)
        return h->fail(e, LM_ECONFIG, "weigh = true has no effect with search = false");
    return LM_OK;
}

static const struct lm_opt options[] = {
    LM_INT(struct config, group, "32", 32, WIDEST, "weights", 0,
           "Weights of a row that share a scale: 32, 64 or 128; a file of blocks takes "
           "the same space for all."),
    LM_FLAG(struct config, symmetric, "true", 0,
            "No offset: q4_0, 4.5 bits for each weight; false: q4_1 with an offset, 5 "
            "bits."),
    LM_FLAG(struct config, search, "true", 0,
            "Scales are searched for the least squared error; false: they follow from "
            "the largest weight."),
    LM_FLAG(struct config, weigh, "false", 0,
            "Errors in o_proj and down_proj count by the squares of their inputs over "
            "the calibration text."),
    LM_OPT_END
};

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    return quant_create(a, sizeof(struct config), self, e);
}

static const struct lm_quantizer ops = {
    .struct_size = sizeof ops, .dtype = dtype, .encode = encode, .needs = needs
};

static const struct lm_module module = {
    LM_MODULE_HEAD(QUANTIZER),
    .name = "int4", .version = "1.0", .license = "Apache-2.0", .author = "Lamina",
    .summary = "4-bit integers in groups, scales of least squared error; q4_0 or q4_1",
    .opt = options, .config_size = sizeof(struct config), .check = check,
    .create = create, .destroy = quant_destroy, .ops = &ops
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
