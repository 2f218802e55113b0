/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_quant.c -- the contract of quantizers.
 *
 * Matrices of several kinds (even, with outliers, far from zero, tiny, zero) at a
 * stride of their own.  The bytes, decoded by the host's codec, are finite; nothing
 * is written behind them; zeros stay zeros; a second pass over what was decoded
 * changes nothing; the same matrix gives the same bytes, from several threads too; and
 * the squared error is bounded: with b whole bits for each weight at most LOSS / 4^b of
 * the squared weights where these are even.  A uniform grid of 2^b levels over a range
 * of r deviations has an error of r^2 / (12 * 4^b); LOSS allows an r of nearly 10. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/pool.h"
#include "model/codec.h"
#include "pipeline/selftest_kit.h"

enum { ROWS = 6, COLUMNS = 256, STRIDE = COLUMNS + 5, GUARD = 16, COPIES = 4 };
static const double LOSS = 8;
static const struct { const char *what; bool even; } sample[] = {
    { "even weights", true }, { "weights with outliers", false },
    { "weights far from 0", false }, { "tiny weights", false }, { "zeros", false }
};
enum { N_SAMPLES = sizeof sample / sizeof *sample };

struct bench {
    const struct lm_quantizer *ops;
    const struct lm_codec *codec;
    size_t bytes;                       /* of the matrix */
    struct lm_quant_site site;
    double sumsq[COLUMNS];
    float w[ROWS * STRIDE], back[ROWS * STRIDE];
    unsigned char out[ROWS * COLUMNS * 4 + GUARD];
};

static void lay(struct lm_kit *k, struct bench *b, int which)
{
    struct lm_rng r = lm_rng(13, "selftest/quant", (uint64_t)which);
    uint64_t needs = b->ops->needs ? b->ops->needs(k->stage.opt.config) : 0;
    for (int i = 0; i < ROWS * STRIDE; i++) {
        double sum = -3;                /* of six numbers: nearly normal */
        for (int j = 0; j < 6; j++)
            sum += lm_rng_unit(&r);
        b->w[i] = (float)(which == 4 ? 0 : which == 3 ? sum * 1e-3 : which == 2
                          ? sum * 0.1 + 2 : sum);
        if (which == 1 && i % 37 == 0)
            b->w[i] *= 30;
    }
    for (int j = 0; j < COLUMNS; j++)
        b->sumsq[j] = j % 11 ? 1 + lm_rng_unit(&r) : 0;
    b->site = (struct lm_quant_site){ .struct_size = sizeof b->site,
        .role = which % 2 ? LM_W_O : LM_W_DOWN, .layer = which % 4, .rows = ROWS,
        .cols = COLUMNS, .stride = STRIDE, .w = b->w, .tokens = 100,
        .sumsq = needs & LM_BIT(LM_STAT_SUMSQ) && which != 1 ? b->sumsq : NULL };
}

static enum lm_status prepare(struct lm_kit *k, struct bench *b)
{
    b->ops = k->plugin->ops;
    b->codec = lm_codec(b->ops->dtype(k->stage.opt.config));
    if (!b->codec || !b->codec->encode || b->codec->block < 2)
        return lm_broken(k, "dtype() is no number format of blocks that the host can "
                         "write");
    if (b->ops->needs && b->ops->needs(k->stage.opt.config) & ~LM_BIT(LM_STAT_SUMSQ))
        return lm_broken(k, "needs() names statistics that quantizers are not given");
    b->bytes = ROWS * (size_t)lm_row_bytes(b->codec->dtype, COLUMNS);
    return LM_OK;
}

/* encode() into b->out, decoded into to [ROWS][STRIDE]. */
static enum lm_status pass(struct lm_kit *k, void *self, struct bench *b, int which,
                           float *to)
{
    memset(b->out, 0xa5, sizeof b->out);
    enum lm_status s = b->ops->encode(self, &b->site, b->out, k->e);
    if (s)
        return lm_kit_failed(k, "encode()", s);
    for (int i = 0; i < GUARD; i++)
        if (b->out[b->bytes + (size_t)i] != 0xa5)
            return lm_broken(k, "encode() writes beyond the %zu bytes it was asked for",
                             b->bytes);
    for (int r = 0; r < ROWS; r++) {
        float *at = to + r * STRIDE;
        b->codec->decode(b->out + (size_t)r * (b->bytes / ROWS), at, COLUMNS);
        for (int j = 0; j < COLUMNS; j++)
            if (!isfinite(at[j]))
                return lm_broken(k, "encode() gives a value that is not finite (%s)",
                                 sample[which].what);
    }
    return LM_OK;
}

static enum lm_status judge(struct lm_kit *k, const struct bench *b, int which)
{
    double loss = 0, all = 0;
    int bits = (int)(8 * b->codec->bytes / b->codec->block);
    for (int i = 0; i < ROWS * STRIDE; i++) {
        double w = b->w[i], off = w - b->back[i];
        if (i % STRIDE >= COLUMNS)
            continue;
        loss += off * off;
        all += w * w;
    }
    if (all == 0 && loss > 0)
        return lm_broken(k, "encode() does not keep zeros");
    if (sample[which].even && loss > LOSS / pow(4, bits) * all)
        return lm_broken(k, "encode() loses %.3g of the squared weights, more than %.3g, "
                         "which %d bits allow (%s)", loss / all, LOSS / pow(4, bits),
                             bits,
                         sample[which].what);
    return LM_OK;
}

static enum lm_status check_values(struct lm_kit *k)
{
    static struct bench b;
    static float again[ROWS * STRIDE], before[ROWS * STRIDE];
    void *self;
    enum lm_status s = lm_kit_create(k, &self);
    if (!s)
        s = prepare(k, &b);
    for (int which = 0; !s && which < N_SAMPLES; which++) {
        lay(k, &b, which);
        memset(b.back, 0, sizeof b.back);
        memset(again, 0, sizeof again);
        memcpy(before, b.w, sizeof before);
        if ((s = pass(k, self, &b, which, b.back)) || (s = judge(k, &b, which)))
            break;
        if (memcmp(before, b.w, sizeof before))
            s = lm_broken(k, "encode() changes the matrix it is given");
        b.site.w = b.back;
        if (!s)
            s = pass(k, self, &b, which, again);
        for (int i = 0; !s && i < ROWS * STRIDE; i++)
            if (again[i] != b.back[i])
                s = lm_broken(k,
                              "encode() of what it made before gives other weights: %g "
                              "becomes %g (%s)", (double)b.back[i], (double)again[i],
                              sample[which].what);
    }
    lm_kit_destroy(k, self);
    return s;
}

/* ---- sameness ---------------------------------------------------------------------- */

struct crowd {
    const struct bench *b;
    void *self;
    unsigned char out[COPIES][ROWS * COLUMNS * 4];
    struct lm_err err[COPIES];
};

static void one_of_many(void *ctx, int64_t i, uint32_t worker)
{
    struct crowd *c = ctx;
    (void)worker;
    c->err[i].code = c->b->ops->encode(c->self, &c->b->site, c->out[i], &c->err[i]);
}

/* Two instances, several threads. */
static enum lm_status check_threads(struct lm_kit *k)
{
    static struct bench b;
    static struct crowd c[2];
    enum lm_status s = prepare(k, &b);
    if (s)
        return s;
    lay(k, &b, 0);
    for (int i = 0; !s && i < 2; i++) {
        c[i] = (struct crowd){ .b = &b };
        if (!(s = lm_kit_create(k, &c[i].self)))
            lm_parallel(COPIES, one_of_many, &c[i]);
        lm_kit_destroy(k, c[i].self);
    }
    for (int i = 0; !s && i < 2 * COPIES; i++) {
        const struct crowd *at = &c[i / COPIES];
        *k->e = at->err[i % COPIES];
        if (k->e->code)
            s = lm_kit_failed(k, "encode() from several threads", k->e->code);
        else if (memcmp(c[0].out[0], at->out[i % COPIES], b.bytes))
            s = lm_broken(k, "encode() gives other bytes for the same matrix");
    }
    return s;
}

/* ---- memory, cancel ---------------------------------------------------------------- */

static enum lm_status live_poorly(void *ctx)
{
    static struct bench b;
    struct lm_kit *k = ctx;
    void *self;
    enum lm_status s = prepare(k, &b);
    if (s || (s = lm_kit_try(k, &self)))
        return s;
    lay(k, &b, 0);
    s = b.ops->encode(self, &b.site, b.out, k->e);
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
    return s == LM_ECANCELED ? LM_OK : lm_kit_excused(k, "encode()", s);
}

const struct lm_kit_check lm_selftest_quant[] = {
    { "encode() after a cancel", check_cancel, true },
    { "matrices of several kinds", check_values, false },
    { "repeated and parallel calls", check_threads, false },
    { "work without memory", check_memory, false },
    { NULL, NULL, false }
};
