/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_pruner.c -- the contract of pruners.
 *
 * Genes go through the space, which refuses unsound ones and doubles.  They do
 * not start at slot 0, as in a pipeline with several pruners: decode() gets the
 * first of its own values.  Every edit is held against `edits`, every plan's
 * shape against shapes().                                                   */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/pool.h"
#include "pipeline/negotiate.h"
#include "pipeline/selftest_kit.h"
#include "pipeline/session.h"
#include "plan/plan.h"

enum { BEFORE = 3, MOST_LEVELS = 12, RANDOM = 60, WIDEST = 512 };

/* ---- the host's side --------------------------------------------------------------- */

static double score_of[LM_N_SITE_KINDS][8][WIDEST];

static enum lm_status scores(void *ctx, uint32_t site, int32_t layer,
                             const double **score, int64_t *n, struct lm_err *e)
{
    const struct lm_kit *k = ctx;
    const struct lm_pruner *ops = k->plugin->ops;
    uint64_t ranks = lm_pruner_ranks(&k->stage);
    const struct lm_arch *a = lm_model_arch(k->model);
    if (site >= LM_N_SITE_KINDS || !(ranks & LM_BIT(site))) {
        lm_kit_blame("ranks %s, which its %s does not declare", lm_site_name(site),
                     ops->ranks ? "ranks()" : "`needs_scores`");
        return lm_fail(e, LM_EBUG, "these scores were not declared");
    }
    if (layer < -1 || layer >= a->n_layer) {
        lm_kit_blame("asks for scores of layer %d, which the model does not have", layer);
        return lm_fail(e, LM_EBUG, "there is no such layer");
    }
    double *s = score_of[site][layer + 1];
    *n = lm_site_count(a, site, layer);
    for (int64_t i = 0; i < *n && i < WIDEST; i++)
        s[i] = (double)((i * 97 + layer * 13 + 5) % 263);
    *score = s;
    return LM_OK;
}

static void judge(uint32_t site)
{
    const struct lm_pruner *ops = lm_kit_now()->plugin->ops;
    if (site >= LM_N_SITE_KINDS || !(ops->edits & LM_BIT(site)))
        lm_kit_blame("edits %s, which its `edits` does not declare",
                     lm_site_name(site));
}

static enum lm_status drop(struct lm_plan *p, struct lm_site s, struct lm_err *e)
{
    judge(s.kind);
    return lm_plan_drop(p, s, e);
}

static enum lm_status keep(struct lm_plan *p, uint32_t site, int32_t layer,
                           const int32_t *index, int64_t n, struct lm_err *e)
{
    judge(site);
    return lm_plan_keep(p, site, layer, index, n, e);
}

static enum lm_status keep_top(struct lm_plan *p, uint32_t site, int32_t layer, int64_t n,
                               struct lm_err *e)
{
    judge(site);
    return lm_plan_keep_top(p, site, layer, n, e);
}

/* ---- an instance with its genes ---------------------------------------------------- */

struct cut {
    struct lm_kit *k;
    void *self;
    struct lm_space *space;
    const struct lm_gene *const *gene;  /* all; the first BEFORE are not the plugin's */
    size_t n_gene;
    union lm_value *value;
};

static enum lm_status open_space(struct cut *c)
{
    enum lm_status s = lm_space_open(scores, c->k, &c->space, c->k->e);
    for (int i = 0; !s && i < BEFORE; i++) {
        char name[32];
        struct lm_gene g = { .struct_size = sizeof g, .kind = LM_GENE_BOOL, .name = name,
                             .initial = 1 };
        snprintf(name, sizeof name, "selftest[%d]", i);
        s = lm_space_add(c->space, &g, c->k->e);
    }
    return s;
}

static void close_cut(struct cut *c)
{
    lm_kit_destroy(c->k, c->self);
    lm_space_close(c->space);
    lm_release(c->value);
}

static enum lm_status open_cut(struct lm_kit *k, struct cut *c)
{
    const struct lm_pruner *ops = k->plugin->ops;
    *c = (struct cut){ .k = k };
    k->host.edit_drop = drop;
    k->host.edit_keep = keep;
    k->host.edit_keep_top = keep_top;
    enum lm_status s = open_space(c);
    if (s || (s = lm_kit_create(k, &c->self)))
        return s;
    if ((s = ops->genes(c->self, c->space, k->e)))
        return lm_kit_failed(k, "genes()", s);
    c->gene = lm_space_genes(c->space, &c->n_gene);
    if (c->n_gene == BEFORE)
        return lm_broken(k, "genes() declares no gene for a model of %d layers",
                         (int)lm_model_arch(k->model)->n_layer);
    c->value = lm_alloc_array(lm_space_slots(c->space) + 1, sizeof *c->value, "selftest");
    return c->value ? LM_OK : lm_fail_memory(k->e, 4096, "a genome");
}

/* decode() and the canonical plan; *plan NULL: infeasible. */
static enum lm_status decode(struct cut *c, const union lm_value *v,
                             struct lm_plan **plan)
{
    struct lm_kit *k = c->k;
    const struct lm_pruner *ops = k->plugin->ops;
    enum lm_status s = lm_plan_open(lm_model_arch(k->model), c->space, plan, k->e);
    if (s)
        return s;
    if (!(s = ops->decode(c->self, v + BEFORE, *plan, k->e)))
        s = lm_plan_canonical(*plan, k->e);
    if (s) {
        lm_plan_free(*plan);
        *plan = NULL;
    }
    return s == LM_EINFEASIBLE ? lm_kit_excused(k, "decode()", s)
         : s ? lm_kit_failed(k, "decode()", s) : LM_OK;
}

static enum lm_status check_shape(struct lm_kit *k, const struct lm_plan *plan)
{
    const struct lm_pruner *ops = k->plugin->ops;
    uint64_t may = ops->shapes ? ops->shapes(k->stage.opt.config)
                               : lm_negotiate_edits(ops->edits);
    uint64_t more = lm_plan_features(plan) & ~may;
    return !more ? LM_OK : lm_broken(k, "makes shapes (0x%llx) that %s does not tell of",
                                     (unsigned long long)more,
                                     ops->shapes ? "shapes()" : "`edits`");
}

/* Twice, with equal plans; what the values decode to must be declared. */
static enum lm_status try_genome(struct cut *c)
{
    struct lm_kit *k = c->k;
    struct lm_plan *a = NULL, *b = NULL;
    enum lm_status s = decode(c, c->value, &a);
    if (!s)
        s = decode(c, c->value, &b);
    if (!s && (!a != !b || (a && !lm_plan_equal(a, b))))
        s = lm_broken(k, "decode() makes different plans of the same values");
    if (!s && k->blame[0])
        s = lm_broken(k, "%s", k->blame);
    if (!s && a)
        s = check_shape(k, a);
    lm_plan_free(a);
    lm_plan_free(b);
    return s;
}

/* ---- checks ------------------------------------------------------------------------ */

static enum lm_status check_initial(struct lm_kit *k)
{
    struct cut c;
    struct lm_plan *plan = NULL, *whole = NULL;
    enum lm_status s = open_cut(k, &c);
    if (!s) {
        lm_genome_initial(c.space, c.value);
        s = decode(&c, c.value, &plan);
    }
    if (!s && !plan)
        s = lm_broken(k, "decode() calls the uncompressed genome infeasible");
    if (!s && !(s = lm_plan_open(lm_model_arch(k->model), NULL, &whole, k->e)) &&
        !(s = lm_plan_canonical(whole, k->e)) && !lm_plan_equal(plan, whole))
        s = lm_broken(k, "decode() edits the model where all genes have their "
                      "uncompressed value");
    lm_plan_free(plan);
    lm_plan_free(whole);
    close_cut(&c);
    return s;
}

static void extreme(struct cut *c, const struct lm_gene *g, int which)
{
    union lm_value *v = c->value + g->slot;
    if (g->kind == LM_GENE_SUBSET)
        for (uint32_t i = 0; i < g->slots; i++) {
            double left = (which ? g->max : g->min) - 64.0 * i;
            v[i].bits = left >= 64 ? UINT64_MAX
                        : left > 0 ? (UINT64_C(1) << (int)left) - 1
                                   : 0;
        }
    else if (g->kind == LM_GENE_REAL)
        v->real = which ? g->max : g->min;
    else
        v->integer = (int64_t)(which ? g->max : g->min);
}

static void draw(struct cut *c, const struct lm_gene *g, struct lm_rng *r)
{
    union lm_value *v = c->value + g->slot;
    int64_t count = lm_gene_count(g);
    if (count > 0)
        *v = lm_gene_value(g, (int64_t)lm_rng_below(r, (uint64_t)count));
    else if (g->kind == LM_GENE_REAL)
        v->real = g->min + lm_rng_unit(r) * (g->max - g->min);
    else {
        double kept = g->max;
        extreme(c, g, 1);
        for (uint32_t i = 0; i < g->n && kept > g->min; i++)
            if (lm_rng_u64(r) & 1) {
                v[i / 64].bits &= ~(UINT64_C(1) << i % 64);
                kept--;
            }
    }
}

static enum lm_status check_genomes(struct lm_kit *k)
{
    struct cut c;
    struct lm_rng r = lm_rng(5, "selftest/genomes", 0);
    enum lm_status s = open_cut(k, &c);
    for (int which = 0; !s && which < 2; which++) {
        lm_genome_initial(c.space, c.value);
        for (size_t i = BEFORE; i < c.n_gene; i++)
            extreme(&c, c.gene[i], which);
        s = try_genome(&c);
    }
    for (size_t i = BEFORE; !s && i < c.n_gene; i++)
        for (int64_t level = 0; !s && level < MOST_LEVELS &&
             level < lm_gene_count(c.gene[i]); level++) {
            lm_genome_initial(c.space, c.value);
            c.value[c.gene[i]->slot] = lm_gene_value(c.gene[i], level);
            s = try_genome(&c);
        }
    for (int n = 0; !s && n < RANDOM; n++) {
        for (size_t i = BEFORE; i < c.n_gene; i++)
            draw(&c, c.gene[i], &r);
        s = try_genome(&c);
    }
    close_cut(&c);
    return s;
}

/* The values before its own are other pruners': they must not matter. */
static enum lm_status check_strangers(struct lm_kit *k)
{
    struct cut c;
    struct lm_plan *a = NULL, *b = NULL;
    enum lm_status s = open_cut(k, &c);
    if (!s) {
        for (size_t i = BEFORE; i < c.n_gene; i++)
            extreme(&c, c.gene[i], 0);
        s = decode(&c, c.value, &a);
    }
    for (int i = 0; !s && i < BEFORE; i++)
        c.value[i].bits = UINT64_C(0xdeadbeefdeadbeef);
    if (!s && !(s = decode(&c, c.value, &b)) && (!a != !b || (a && !lm_plan_equal(a, b))))
        s = lm_broken(k, "decode() reads values of other pruners; value[0] is its own "
                      "first one, whatever `slot` its gene has");
    lm_plan_free(a);
    lm_plan_free(b);
    close_cut(&c);
    return s;
}

static enum lm_status live_poorly(void *ctx)
{
    struct lm_kit *k = ctx;
    const struct lm_pruner *ops = k->plugin->ops;
    struct cut c = { .k = k };
    union lm_value v[4096];
    struct lm_plan *plan = NULL;
    enum lm_status s = open_space(&c);
    if (!s)
        s = lm_kit_try(k, &c.self);
    if (!s)
        s = ops->genes(c.self, c.space, k->e);
    if (!s && lm_space_slots(c.space) <= sizeof v / sizeof *v &&
        !(s = lm_plan_open(lm_model_arch(k->model), c.space, &plan, k->e))) {
        lm_genome_initial(c.space, v);
        s = ops->decode(c.self, v + BEFORE, plan, k->e);
    }
    lm_plan_free(plan);
    close_cut(&c);
    return s;
}

static enum lm_status check_memory(struct lm_kit *k)
{
    return lm_kit_memory(k, live_poorly, k);
}

static enum lm_status check_cancel(struct lm_kit *k)
{
    struct cut c = { .k = k };
    const struct lm_pruner *ops = k->plugin->ops;
    enum lm_status s = open_space(&c);
    if (!s && !(s = lm_kit_create(k, &c.self))) {
        s = ops->genes(c.self, c.space, k->e);
        s = s && s != LM_ECANCELED ? lm_kit_failed(k, "genes()", s) : LM_OK;
    }
    close_cut(&c);
    *k->e = s ? *k->e : (struct lm_err){ 0 };
    return s;
}

const struct lm_kit_check lm_selftest_pruner[] = {
    { "genes() after a cancel", check_cancel, true },
    { "the uncompressed genome", check_initial, false },
    { "genomes", check_genomes, false },
    { "the values of other pruners", check_strangers, false },
    { "work without memory", check_memory, false },
    { NULL, NULL, false }
};
