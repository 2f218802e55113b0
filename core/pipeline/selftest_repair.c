/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_repair.c -- the contract of repairs.
 *
 * Sites with random weights and the statistics of random tokens: more tokens
 * than columns; fewer, so that the Gram matrix H is singular; inputs that are
 * always 0.  For every width m weights and biases are finite; m == k gives the
 * weights back and no bias; and a repair that is given statistics is no worse
 * than leaving the kept columns as they are.  A basis of the residual stream is
 * orthonormal, and the same each time.  With D = W - [W' 0] and a bias b,
 * over T tokens x of the sum s,
 *
 *   sum_t |D x_t - b|^2 = trace(D H D^T) - 2 b.(D s) + T |b|^2.
 *
 * One that needs LM_STAT_CROSS is asked for the full width alone and held to what it
 * regresses on: sum_t |t - V x|^2 = trace(V H V^T) - 2 trace(V C^T) + sum_t |t|^2. */
#include <math.h>
#include <string.h>

#include "base/pool.h"
#include "pipeline/selftest_kit.h"

enum { ROWS = 16, COLUMNS = 40, GUARD = 8, COPIES = 4 };
static const struct { const char *what; int64_t tokens; bool silent;
} sample[] = { { "more tokens than columns", 4 * COLUMNS, false },
               { "a singular Gram matrix", COLUMNS / 2, false },
               { "inputs that are always 0", COLUMNS, true } };
enum { N_SAMPLES = sizeof sample / sizeof *sample };
static const float poison = 12345.0f;

struct bench {
    struct lm_repair_site site;
    float w[ROWS * COLUMNS];
    double gram[COLUMNS * COLUMNS], sum[COLUMNS], x[4 * COLUMNS * COLUMNS];
    double cross[ROWS * COLUMNS], target;   /* target: sum of |t|^2 */
    bool biased;                        /* bias() is asked for this site */
};

static bool crosses(const struct lm_kit *k)
{
    const struct lm_repair *ops = k->plugin->ops;
    return ops->needs & LM_BIT(LM_STAT_CROSS);
}

/* Columns that are asked for where one width will do. */
static int64_t some(const struct lm_kit *k)
{
    return crosses(k) ? COLUMNS : COLUMNS / 2;
}

/* t: most of W x, and something that x says nothing of. */
static void lay_targets(struct bench *b, struct lm_rng *r)
{
    memset(b->cross, 0, sizeof b->cross);
    b->target = 0;
    for (int64_t i = 0; i < b->site.tokens * ROWS; i++) {
        const double *x = b->x + i / ROWS * COLUMNS;
        const float *w = b->w + i % ROWS * COLUMNS;
        double t = 2 * lm_rng_unit(r) - 1;
        for (int j = 0; j < COLUMNS; j++)
            t += 0.7 * (double)w[j] * x[j];
        for (int j = 0; j < COLUMNS; j++)
            b->cross[i % ROWS * COLUMNS + j] += t * x[j];
        b->target += t * t;
    }
}

static void lay(struct lm_kit *k, struct bench *b, int which)
{
    const struct lm_repair *ops = k->plugin->ops;
    struct lm_rng r = lm_rng(11, "selftest/repair", (uint64_t)which);
    lm_kit_gram(&r, sample[which].tokens, COLUMNS, b->x, b->gram, b->sum);
    for (int i = 0; i < ROWS * COLUMNS; i++)
        b->w[i] = (float)(2 * lm_rng_unit(&r) - 1);
    if (sample[which].silent) {
        memset(b->gram, 0, sizeof b->gram);
        memset(b->sum, 0, sizeof b->sum);
    }
    b->site = (struct lm_repair_site){ .struct_size = sizeof b->site, .layer = which,
        .site = which ? LM_SITE_ATTN : LM_SITE_MLP, .n = ROWS, .k = COLUMNS, .w = b->w,
        .gram = ops->needs & LM_BIT(LM_STAT_GRAM) ? b->gram : NULL,
        .sum = ops->needs & LM_BIT(LM_STAT_SUM) ? b->sum : NULL,
        .tokens = sample[which].tokens };
    lay_targets(b, &r);
    if (sample[which].silent)
        memset(b->cross, 0, sizeof b->cross);
    b->site.cross = crosses(k) ? b->cross : NULL;
    b->biased = ops->shapes && ops->shapes(k->stage.opt.config) &
                               (which ? LM_SHAPE_ATTN_BIAS : LM_SHAPE_MLP_BIAS);
}

/* The error of weights w [ROWS][m] for the first m columns and a bias [ROWS]. */
static double loss(const struct bench *b, const float *w, int64_t m, const float *bias)
{
    double all = 0;
    for (int i = 0; i < ROWS; i++) {
        double d[COLUMNS], add = (double)bias[i];
        for (int j = 0; j < COLUMNS; j++)
            d[j] = (double)b->w[i * COLUMNS + j] - (j < m ? (double)w[i * m + j] : 0);
        for (int j = 0; j < COLUMNS; j++) {
            for (int l = 0; l < COLUMNS; l++)
                all += d[j] * b->gram[j * COLUMNS + l] * d[l];
            all -= 2 * add * d[j] * b->sum[j];
        }
        all += (double)b->site.tokens * add * add;
    }
    return all;
}

/* Of weights [ROWS][COLUMNS] for the targets. */
static double miss(const struct bench *b, const float *w)
{
    double all = b->target;
    for (int i = 0; i < ROWS; i++, w += COLUMNS)
        for (int j = 0; j < COLUMNS; j++) {
            all -= 2 * (double)w[j] * b->cross[i * COLUMNS + j];
            for (int l = 0; l < COLUMNS; l++)
                all += (double)w[j] * b->gram[j * COLUMNS + l] * (double)w[l];
        }
    return all;
}

/* n numbers that CALL wrote for m columns, and nothing behind them. */
static enum lm_status whole(struct lm_kit *k, const char *call, const float *out,
                            int64_t n, int64_t m, int which)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(out[i]))
            return lm_broken(k,
                             "%s for %lld of %d columns gives a number that is not "
                             "finite (%s)",
                             call, (long long)m, COLUMNS, sample[which].what);
    for (int i = 0; i < GUARD; i++)
        if (out[n + i] != poison)
            return lm_broken(k, "%s writes beyond the %lld numbers it was asked for",
                             call, (long long)n);
    return LM_OK;
}

/* fmax() of finite numbers; GCC 12 for 64-bit ARM breaks down over loops of that. */
static double larger(double x, double y)
{
    return x > y ? x : y;
}

static enum lm_status judge_cross(struct lm_kit *k, const struct bench *b, int which,
                                  const float *out)
{
    double repaired = miss(b, out), plain = miss(b, b->w);
    return repaired <= plain + 1e-6 * b->target ? LM_OK
        : lm_broken(k, "apply() is worse than the weights it was given: the error is %g, "
                    "not %g (%s)", repaired, plain, sample[which].what);
}

static enum lm_status judge(struct lm_kit *k, const struct bench *b, int which, int64_t m,
                            const float *out, const float *bias)
{
    static const float none[ROWS];
    float cut[ROWS * COLUMNS];
    double scale = 0, off = 0;
    for (int64_t i = 0; i < ROWS * m; i++) {
        float w = b->w[i / m * COLUMNS + i % m];
        cut[i] = w;
        scale = larger(scale, fabs((double)w));
        off = larger(off, fabs((double)(out[i] - w)));
    }
    for (int i = 0; i < ROWS; i++)
        off = larger(off, fabs((double)bias[i]));
    if (m == COLUMNS && off > 1e-3 * scale)
        return lm_broken(k,
                         "the full width does not give the weights back: one is off, or "
                         "a bias is, by %g (%s)",
                         off, sample[which].what);
    if (b->site.gram || b->site.sum) {
        double repaired = loss(b, out, m, bias), plain = loss(b, cut, m, none);
        if (repaired > plain * 1.001 + 1e-6 * loss(b, cut, 0, none))
            return lm_broken(k,
                             "apply() to %lld of %d columns is worse than no repair: "
                             "the error is %g, not %g (%s)",
                             (long long)m, COLUMNS, repaired, plain,
                             sample[which].what);
    }
    return LM_OK;
}

/* A call's failure, which may have a reason. */
static enum lm_status failed(struct lm_kit *k, const char *call, enum lm_status s)
{
    return s == LM_EINFEASIBLE ? lm_kit_excused(k, call, s) : lm_kit_failed(k, call, s);
}

/* All widths of one prepared site; out [ROWS * COLUMNS + GUARD]. */
static enum lm_status widths(struct lm_kit *k, void *self, const struct bench *b,
                             int which, const void *prepared, float *out)
{
    const struct lm_repair *ops = k->plugin->ops;
    float bias[ROWS + GUARD];
    enum lm_status s = LM_OK;
    for (int64_t m = COLUMNS; !s && m >= (crosses(k) ? COLUMNS : 1); m--) {
        for (int64_t i = 0; i < ROWS * m + GUARD; i++)
            out[i] = poison;
        for (int i = 0; i < ROWS + GUARD; i++)
            bias[i] = b->biased ? poison : 0;
        if ((s = ops->apply(self, prepared, m, out, k->e)))
            return failed(k, "apply()", s);
        if ((s = whole(k, "apply()", out, ROWS * m, m, which)))
            return s;
        if (b->biased) {
            if ((s = ops->bias(self, prepared, m, out, bias, k->e)))
                return failed(k, "bias()", s);
            if ((s = whole(k, "bias()", bias, ROWS, m, which)))
                return s;
        }
        s = crosses(k) ? judge_cross(k, b, which, out)
                       : judge(k, b, which, m, out, bias);
    }
    return s;
}

static enum lm_status check_widths(struct lm_kit *k)
{
    static struct bench b;
    const struct lm_repair *ops = k->plugin->ops;
    float out[ROWS * COLUMNS + GUARD];
    void *self;
    if (ops->bias && !ops->shapes)
        return lm_broken(k, "has bias() without shapes()");
    if (crosses(k) && ops->shapes)
        return lm_broken(k, "needs LM_STAT_CROSS and has shapes(), which nobody asks");
    uint64_t makes = ops->shapes ? ops->shapes(k->stage.opt.config) : 0;
    if (!ops->bias && (makes & (LM_SHAPE_ATTN_BIAS | LM_SHAPE_MLP_BIAS)))
        return lm_broken(k, "has no bias(), which shapes() promises");
    if (!ops->basis && (makes & LM_SHAPE_TURNED))
        return lm_broken(k, "has no basis(), which shapes() promises");
    enum lm_status s = lm_kit_create(k, &self);
    for (int which = 0; !s && which < N_SAMPLES; which++) {
        void *prepared = NULL;
        lay(k, &b, which);
        if ((s = ops->prepare(self, &b.site, &prepared, k->e))) {
            s = failed(k, "prepare()", s);
            continue;
        }
        s = widths(k, self, &b, which, prepared, out);
        ops->release(self, prepared);
    }
    lm_kit_destroy(k, self);
    return s;
}

/* ---- sameness ---------------------------------------------------------------------- */

struct crowd {
    const struct lm_repair *ops;
    void *self;
    const void *prepared;
    int64_t m;
    float out[COPIES][ROWS * COLUMNS];
    struct lm_err err[COPIES];
};

static void one_of_many(void *ctx, int64_t i, uint32_t worker)
{
    struct crowd *c = ctx;
    (void)worker;
    c->err[i].code =
        c->ops->apply(c->self, c->prepared, c->m, c->out[i], &c->err[i]);
}

/* The same site prepared twice, applied by several threads at once. */
static enum lm_status check_threads(struct lm_kit *k)
{
    static struct bench b;
    static struct crowd c[2];
    const struct lm_repair *ops = k->plugin->ops;
    void *self;
    enum lm_status s = lm_kit_create(k, &self);
    lay(k, &b, 0);
    for (int i = 0; !s && i < 2; i++) {
        void *prepared = NULL;
        c[i] = (struct crowd){ .ops = ops, .self = self, .m = some(k) };
        if ((s = ops->prepare(self, &b.site, &prepared, k->e))) {
            s = lm_kit_failed(k, "prepare()", s);
            break;
        }
        c[i].prepared = prepared;
        lm_parallel(COPIES, one_of_many, &c[i]);
        ops->release(self, prepared);
    }
    for (int i = 0; !s && i < 2 * COPIES; i++) {
        const struct crowd *at = &c[i / COPIES];
        *k->e = at->err[i % COPIES];
        if (k->e->code)
            s = lm_kit_failed(k, "apply() from several threads", k->e->code);
        else if (memcmp(c[0].out[0], at->out[i % COPIES],
                        (size_t)(ROWS * at->m) * sizeof(float)))
            s = lm_broken(k, "apply() gives other weights for the same site");
    }
    lm_kit_destroy(k, self);
    return s;
}

/* ---- bases of the residual stream ------------------------------------------------- */

struct crowded {
    const struct lm_repair *ops;
    void *self;
    struct lm_stream_site site;
    float out[COPIES][COLUMNS * COLUMNS + GUARD];
    struct lm_err err[COPIES];
};

static void one_basis(void *ctx, int64_t i, uint32_t worker)
{
    struct crowded *c = ctx;
    (void)worker;
    for (int k = 0; k < COLUMNS * COLUMNS + GUARD; k++)
        c->out[i][k] = poison;
    c->err[i].code = c->ops->basis(c->self, &c->site, c->out[i], &c->err[i]);
}

static enum lm_status judge_basis(struct lm_kit *k, const struct crowded *c, int which)
{
    enum lm_status s = LM_OK;
    for (int i = 0; !s && i < COPIES; i++) {
        *k->e = c->err[i];
        if (k->e->code)
            return failed(k, "basis()", k->e->code);
        s = whole(k, "basis()", c->out[i], COLUMNS * COLUMNS, COLUMNS, which);
        if (!s && memcmp(c->out[0], c->out[i], sizeof c->out[0]))
            s = lm_broken(k, "basis() gives other directions for the same stream");
    }
    for (int a = 0; !s && a < COLUMNS; a++)
        for (int b = 0; !s && b <= a; b++) {
            double dot = 0;
            for (int i = 0; i < COLUMNS; i++)
                dot += (double)c->out[0][i * COLUMNS + a] *
                       (double)c->out[0][i * COLUMNS + b];
            if (fabs(dot - (a == b)) > 1e-4)
                s = lm_broken(k, "columns %d and %d of basis() are not orthonormal (%s)",
                              b, a, sample[which].what);
        }
    return s;
}

static enum lm_status check_bases(struct lm_kit *k)
{
    static struct bench b;
    static struct crowded c;
    const struct lm_repair *ops = k->plugin->ops;
    const double *gram[2] = { b.gram, b.gram };
    void *self;
    enum lm_status s;
    if (!ops->basis)
        return LM_OK;
    s = lm_kit_create(k, &self);
    for (int which = 0; !s && which < N_SAMPLES; which++) {
        lay(k, &b, which);
        c = (struct crowded){ .ops = ops, .self = self,
            .site = { sizeof c.site, 1 + which % 2, COLUMNS, gram, b.site.tokens } };
        lm_parallel(COPIES, one_basis, &c);
        s = judge_basis(k, &c, which);
    }
    lm_kit_destroy(k, self);
    return s;
}

/* ---- memory, cancel ---------------------------------------------------------------- */

static enum lm_status live_poorly(void *ctx)
{
    static struct bench b;
    struct lm_kit *k = ctx;
    const struct lm_repair *ops = k->plugin->ops;
    float out[ROWS * COLUMNS + GUARD], bias[ROWS + GUARD];
    void *self, *prepared = NULL;
    enum lm_status s = lm_kit_try(k, &self);
    if (s)
        return s;
    lay(k, &b, 0);
    if (!(s = ops->prepare(self, &b.site, &prepared, k->e))) {
        s = ops->apply(self, prepared, some(k), out, k->e);
        if (!s && b.biased)
            s = ops->bias(self, prepared, some(k), out, bias, k->e);
        ops->release(self, prepared);
    }
    if (!s && ops->basis) {
        static struct crowded c;
        const double *gram = b.gram;
        struct lm_stream_site at = { sizeof at, 1, COLUMNS, &gram, b.site.tokens };
        s = ops->basis(self, &at, c.out[0], k->e);
    }
    lm_kit_destroy(k, self);
    return s;
}

static enum lm_status check_memory(struct lm_kit *k)
{
    return lm_kit_memory(k, live_poorly, k);
}

static enum lm_status check_cancel(struct lm_kit *k)
{
    enum lm_status s = live_poorly(k);
    return s == LM_ECANCELED ? LM_OK : lm_kit_excused(k, "prepare() or apply()", s);
}

const struct lm_kit_check lm_selftest_repair[] = {
    { "prepare() after a cancel", check_cancel, true },
    { "all widths", check_widths, false },
    { "repeated and parallel calls", check_threads, false },
    { "bases of the residual stream", check_bases, false },
    { "work without memory", check_memory, false },
    { NULL, NULL, false }
};
