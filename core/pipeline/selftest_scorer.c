/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_scorer.c -- the contract of scorers: every site it declares gets a
 * finite number, the same each time, from several threads at once, and nothing
 * is written beyond out[n].  host.stat serves only what `needs` declares.     */
#include <math.h>
#include <string.h>

#include "base/pool.h"
#include "pipeline/selftest_kit.h"
#include "pipeline/session.h"

enum { WIDEST = 512, GUARD = 4, COPIES = 4 };
static const uint64_t poison = UINT64_C(0x7ff8dead0000beef);    /* a NAN */

static void spoil(double *out, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        memcpy(out + i, &poison, sizeof poison);
}

/* Calls score() into out [n + GUARD]. */
static enum lm_status score(struct lm_kit *k, void *self, uint32_t site, int32_t layer,
                            double *out, int64_t n)
{
    const struct lm_scorer *ops = k->plugin->ops;
    spoil(out, n + GUARD);
    enum lm_status s = ops->score(self, site, layer, out, n, k->e);
    if (s)
        return lm_kit_failed(k, "score()", s);
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(out[i]))
            return lm_broken(k,
                             memcmp(out + i, &poison, sizeof poison)
                                 ? "score() gives site %lld of layer %d (site kind %u) "
                                   "a value that is not finite"
                                 : "score() leaves site %lld of layer %d (site kind %u) "
                                   "without a value",
                             (long long)i, (int)layer, site);
    for (int64_t i = n; i < n + GUARD; i++)
        if (memcmp(out + i, &poison, sizeof poison))
            return lm_broken(k, "score() writes beyond the %lld sites of layer %d",
                             (long long)n, (int)layer);
    return LM_OK;
}

/* Calls visit() for each site kind and layer that the scorer declares. */
static enum lm_status each(struct lm_kit *k, enum lm_status (*visit)(struct lm_kit *k,
                           void *self, uint32_t site, int32_t layer, int64_t n))
{
    const struct lm_scorer *ops = k->plugin->ops;
    const struct lm_arch *a = lm_model_arch(k->model);
    void *self = NULL;
    k->stat_needs = ops->needs;
    enum lm_status s = lm_kit_create(k, &self);
    if (!s && !(ops->sites & ~UINT64_C(1)))
        s = lm_broken(k, "its `sites` declare nothing that it scores");
    for (uint32_t site = 1; !s && site < LM_N_SITE_KINDS; site++) {
        bool whole = site == LM_SITE_MODEL || site == LM_SITE_HIDDEN;
        if (!(ops->sites & LM_BIT(site)))
            continue;
        for (int32_t i = whole ? -1 : 0; !s && i < (whole ? 0 : a->n_layer); i++)
            s = visit(k, self, site, i, lm_site_count(a, site, i));
    }
    lm_kit_destroy(k, self);
    return s;
}

static enum lm_status twice(struct lm_kit *k, void *self, uint32_t site, int32_t layer,
                            int64_t n)
{
    double a[WIDEST + GUARD], b[WIDEST + GUARD];
    enum lm_status s = score(k, self, site, layer, a, n);
    if (!s && !(s = score(k, self, site, layer, b, n)) &&
        memcmp(a, b, (size_t)n * sizeof *a))
        s = lm_broken(k,
                      "score() gives other values the second time (layer %d, site kind "
                      "%u)",
                      (int)layer, site);
    return s;
}

static enum lm_status check_scores(struct lm_kit *k)
{
    return each(k, twice);
}

/* ---- [any]: several threads -------------------------------------------------------- */

struct crowd {
    const struct lm_scorer *ops;
    void *self;
    uint32_t site;
    int32_t layer;
    int64_t n;
    double out[COPIES][WIDEST + GUARD];
    struct lm_err err[COPIES];
};

static void one_of_many(void *ctx, int64_t i, uint32_t worker)
{
    struct crowd *c = ctx;
    (void)worker;
    spoil(c->out[i], c->n + GUARD);
    enum lm_status s =
        c->ops->score(c->self, c->site, c->layer, c->out[i], c->n, &c->err[i]);
    c->err[i].code = s;
}

static enum lm_status crowd(struct lm_kit *k, void *self, uint32_t site, int32_t layer,
                            int64_t n)
{
    static struct crowd c;
    double alone[WIDEST + GUARD];
    c = (struct crowd){ .ops = k->plugin->ops, .self = self, .site = site, .layer = layer,
                        .n = n };
    enum lm_status s = score(k, self, site, layer, alone, n);
    if (!s)
        lm_parallel(COPIES, one_of_many, &c);
    for (int i = 0; !s && i < COPIES; i++) {
        *k->e = c.err[i];
        if (c.err[i].code)
            s = lm_kit_failed(k, "score() from several threads", c.err[i].code);
        else if (memcmp(alone, c.out[i], (size_t)n * sizeof *alone))
            s = lm_broken(k, "score() gives other values when several threads call it");
    }
    return s;
}

static enum lm_status check_threads(struct lm_kit *k)
{
    return each(k, crowd);
}

/* ---- memory, cancel ---------------------------------------------------------------- */

static enum lm_status live_poorly(void *ctx)
{
    struct lm_kit *k = ctx;
    const struct lm_scorer *ops = k->plugin->ops;
    double out[WIDEST];
    void *self;
    enum lm_status s = lm_kit_try(k, &self);
    if (s)
        return s;
    for (uint32_t site = 1; !s && site < LM_N_SITE_KINDS; site++) {
        int32_t layer = site == LM_SITE_MODEL || site == LM_SITE_HIDDEN ? -1 : 1;
        if (ops->sites & LM_BIT(site))
            s = ops->score(self, site, layer, out,
                           lm_site_count(lm_model_arch(k->model), site, layer), k->e);
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
    k->stat_needs = ((const struct lm_scorer *)k->plugin->ops)->needs;
    enum lm_status s = live_poorly(k);
    return s == LM_ECANCELED ? LM_OK : lm_kit_excused(k, "score()", s);
}

const struct lm_kit_check lm_selftest_scorer[] = {
    { "score() after a cancel", check_cancel, true },
    { "scores", check_scores, false },
    { "scores from several threads", check_threads, false },
    { "work without memory", check_memory, false },
    { NULL, NULL, false }
};
