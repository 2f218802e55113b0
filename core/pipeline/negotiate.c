/* SPDX-License-Identifier: Apache-2.0 */
/* negotiate.c -- see negotiate.h. */
#include "pipeline/negotiate.h"

#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "pipeline/quantize.h"
#include "pipeline/refine.h"
#include "plan/plan.h"
#include "space/space.h"

static const char *const gene_names[] = { "", "boolean", "integer", "real", "choice",
                                          "subset" };

bool lm_metric_at(const struct lm_stage *stage, size_t n, int i, char *out, size_t size,
                  const struct lm_metric **m)
{
    for (size_t j = 0; j < n; j++) {
        const struct lm_metric *x;
        for (size_t k = 0; (x = lm_stage_metric(&stage[j], k)); k++)
            if (i-- == 0) {
                snprintf(out, size, "%s.%s", stage[j].id, x->name);
                if (m)
                    *m = x;
                return true;
            }
    }
    return false;
}

int lm_metric_index(const struct lm_stage *stage, size_t n, const char *name)
{
    char at[128];
    for (int i = 0; lm_metric_at(stage, n, i, at, sizeof at, NULL); i++)
        if (!strcmp(at, name))
            return i;
    return -1;
}

enum lm_status lm_negotiate_metric(struct lm_pipeline *p, struct lm_goal *g,
                                   const char *where, struct lm_err *e)
{
    char text[LM_MAX_METRICS][128], all[1024] = "";
    const char *name[LM_MAX_METRICS];
    size_t n = 0;
    g->metric = lm_metric_index(p->evaluate, p->n_evaluate, g->o->metric);
    if (g->metric >= 0)
        return LM_OK;
    while (n < LM_MAX_METRICS && lm_metric_at(p->evaluate, p->n_evaluate, (int)n, text[n],
                                              sizeof text[n], NULL)) {
        size_t used = strlen(all);
        name[n] = text[n];
        snprintf(all + used, sizeof all - used, " %s", text[n]);
        n++;
    }
    const char *near = lm_nearest(g->o->metric, name, n);
    return lm_conf_fail(e, g->at, "%s: no evaluator of `evaluate` measures '%s'%s%s%s; "
                        "measured are:%s", where, g->o->metric,
                        near ? "; did you mean '" : "", near ? near : "",
                        near ? "'?" : "",
                        n ? all : " none");
}

uint32_t lm_pipeline_dtype(const struct lm_pipeline *p)
{
    return p->n_export ? (uint32_t)p->export[0].o->dtype + 1 : LM_F16;
}

/* Number of the scorer of a kind of site; n_score: there is none. */
static size_t find_scorer(const struct lm_pipeline *p, uint32_t site)
{
    size_t i = 0;
    while (i < p->n_score && !(((const struct lm_scorer *)p->score[i].plugin->ops)->sites
                               & LM_BIT(site)))
        i++;
    return i;
}

struct lm_stage *lm_pipeline_scorer(struct lm_pipeline *p, uint32_t site)
{
    size_t i = find_scorer(p, site);
    return i < p->n_score ? &p->score[i] : NULL;
}

uint64_t lm_pruner_ranks(const struct lm_stage *pruner)
{
    const struct lm_pruner *ops = pruner->plugin->ops;
    return ops->needs_scores & (ops->ranks ? ops->ranks(pruner->opt.config) : UINT64_MAX);
}

/* Blocks that go as a whole are nobody's to repair: of a pruner that tells what it ranks
 * by they count with that.                                                     */
static uint64_t touched(const struct lm_stage *pruner)
{
    const struct lm_pruner *ops = pruner->plugin->ops;
    const uint64_t blocks =
        LM_BIT(LM_SITE_LAYER) | LM_BIT(LM_SITE_ATTN) | LM_BIT(LM_SITE_MLP);
    return (ops->edits & ~(ops->ranks ? blocks : 0)) | lm_pruner_ranks(pruner);
}

/* Of a scorer, for the sites it is asked of. */
static uint64_t scorer_needs(const struct lm_pipeline *p, size_t n)
{
    const struct lm_scorer *ops = p->score[n].plugin->ops;
    uint64_t ranks = 0, sites = 0;
    if (!ops->needs_for)
        return ops->needs;
    for (size_t i = 0; i < p->n_prune; i++)
        ranks |= lm_pruner_ranks(&p->prune[i]);
    for (uint32_t k = 1; k < LM_N_SITE_KINDS; k++)
        if ((ranks & LM_BIT(k)) && find_scorer(p, k) == n)
            sites |= LM_BIT(k);
    return ops->needs & ops->needs_for(p->score[n].opt.config, sites);
}

uint64_t lm_repair_needs(const struct lm_stage *repair)
{
    uint64_t needs = ((const struct lm_repair *)repair->plugin->ops)->needs;
    for (size_t i = 0; i < repair->n_child; i++)
        needs |= lm_repair_needs(&repair->child[i]);
    return needs;
}

void lm_pipeline_needs(const struct lm_pipeline *p, uint64_t *stats, uint64_t *sites)
{
    uint64_t edits = 0;
    uint64_t weighed = lm_quantize_needs(p);
    *stats = lm_repair_needs(&p->repair) | weighed;
    if (lm_refine_replaces(p))
        *stats |= lm_repair_needs(&p->refine);
    for (size_t i = 0; i < p->n_score; i++)
        *stats |= scorer_needs(p, i);
    for (size_t i = 0; i < p->n_prune; i++)
        edits |= touched(&p->prune[i]);
    if (*stats & LM_BIT(LM_STAT_GRAM))      /* nothing beside it: one file serves more */
        *stats |= LM_BIT(LM_STAT_SUM) | LM_BIT(LM_STAT_SUMSQ);
    *sites = 0;
    if (edits & LM_BIT(LM_SITE_HIDDEN))     /* all blocks read and write the stream */
        *sites |= LM_BIT(LM_SITE_HIDDEN) | LM_BIT(LM_SITE_ATTN) | LM_BIT(LM_SITE_MLP);
    if (edits & (LM_BIT(LM_SITE_KV_GROUP) | LM_BIT(LM_SITE_HEAD) | LM_BIT(LM_SITE_ATTN)))
        *sites |= LM_BIT(LM_SITE_ATTN);
    if (edits & (LM_BIT(LM_SITE_FFN_CHANNEL) | LM_BIT(LM_SITE_MLP)))
        *sites |= LM_BIT(LM_SITE_MLP);
    if (weighed)
        *sites |= LM_BIT(LM_SITE_ATTN) | LM_BIT(LM_SITE_MLP);
    if (edits & LM_BIT(LM_SITE_LAYER))
        *sites |= LM_BIT(LM_SITE_LAYER);
}

static enum lm_status check_scores(struct lm_pipeline *p, struct lm_err *e)
{
    for (size_t i = 0; i < p->n_prune; i++) {
        uint64_t ranks = lm_pruner_ranks(&p->prune[i]);
        for (uint32_t k = 1; k < LM_N_SITE_KINDS; k++)
            if ((ranks & LM_BIT(k)) && !lm_pipeline_scorer(p, k))
                return lm_conf_fail(e, p->prune[i].at, "prune[%zu] (%s) ranks %s, but no "
                                    "scorer of `score` can score them; add one that does "
                                    "(`lamina list scorer`)", i,
                                    p->prune[i].plugin->module.name, lm_site_name(k));
    }
    uint64_t stats, sites;
    lm_pipeline_needs(p, &stats, &sites);
    if (stats && sites && !p->has_calibration)
        return lm_conf_fail(e, p->conf,
                            "scores, repair or quantizers need calibration text; write "
                            "data: { calibration: { path = \"FILE\"; }; };");
    return LM_OK;
}

uint64_t lm_negotiate_edits(uint64_t edits)
{
    uint64_t f = 0;
    if (edits & LM_BIT(LM_SITE_FFN_CHANNEL))
        f |= LM_SHAPE_UNEVEN_FF;
    if (edits & (LM_BIT(LM_SITE_KV_GROUP) | LM_BIT(LM_SITE_HEAD)))
        f |= LM_SHAPE_UNEVEN_HEADS;
    if (edits & LM_BIT(LM_SITE_ATTN))
        f |= LM_SHAPE_NO_ATTN;
    if (edits & LM_BIT(LM_SITE_MLP))
        f |= LM_SHAPE_NO_MLP;
    return f;
}

const char *lm_feature_name(uint64_t features)
{
    static const char *const name[] = { "layers of different FFN width",
        "layers of different head counts", "layers without attention",
        "layers without MLP", "biases of o_proj", "biases of down_proj",
        "matrices in number formats of their own",
        "blocks that turn the residual stream" };
    for (size_t k = 0; k < sizeof name / sizeof *name; k++)
        if (features & (UINT64_C(1) << k))
            return name[k];
    return "this shape";
}

/* Can exports hold what has or makes `features`? */
static enum lm_status check_exports(struct lm_pipeline *p, uint64_t features,
                                    const char *what, struct lm_err *e)
{
    for (size_t i = 0; i < p->n_export; i++) {
        const struct lm_export_stage *x = &p->export[i];
        uint64_t missing = features & ~x->limits.features;
        if (missing)
            return lm_conf_fail(e, x->stage.at, "export: format '%s' cannot write %s%s, "
                                "which %s has or makes; use another format, or options "
                                "that %s", x->stage.plugin->module.name,
                                lm_feature_name(missing),
                                x->asked ? " of this model" : "",
                                what, missing & (LM_SHAPE_ATTN_BIAS | LM_SHAPE_MLP_BIAS) ?
                                "make none" : missing & LM_SHAPE_TURNED ?
                                "take one basis for the whole model"
                                : missing & LM_SHAPE_FORMATS ?
                                "leave them out" : "keep layers equal");
    }
    return LM_OK;
}

/* Can what programs of the user are given? */
static enum lm_status check_offers(struct lm_pipeline *p, uint64_t features,
                                   const char *what, struct lm_err *e)
{
    for (size_t i = 0; i < p->n_offer; i++) {
        uint64_t missing = features & ~p->offer[i].limits.features;
        if (missing)
            return lm_conf_fail(e, p->offer[i].by->at,
                                "evaluator '%s' wants candidates as "
                                "%s, which cannot hold %s, which %s has or makes; set its "
                                "`format`", p->offer[i].by->id, p->offer[i].format,
                                lm_feature_name(missing), what);
    }
    return LM_OK;
}

enum lm_status lm_negotiate_features(struct lm_pipeline *p, uint64_t features,
                                     const char *what, struct lm_err *e)
{
    enum lm_status s = check_exports(p, features, what, e);
    return s ? s : check_offers(p, features, what, e);
}

uint64_t lm_repair_biases(const struct lm_stage *repair)
{
    const struct lm_repair *ops = repair->plugin->ops;
    uint64_t biases = 0;
    if (!ops->bias)
        return 0;
    if (ops->shapes)
        biases = ops->shapes(repair->opt.config)
            & (LM_SHAPE_ATTN_BIAS | LM_SHAPE_MLP_BIAS);
    for (size_t i = 0; i < repair->n_child; i++)
        biases |= lm_repair_biases(&repair->child[i]);
    return biases;
}

bool lm_repair_turns(const struct lm_stage *repair)
{
    const struct lm_repair *ops = repair->plugin->ops;
    return ops->basis && ops->shapes
        && (ops->shapes(repair->opt.config) & LM_SHAPE_TURNED);
}

/* What a repair makes of matrices that edits narrow. */
static uint64_t repair_features(const struct lm_stage *repair, uint64_t edits)
{
    uint64_t features = lm_repair_biases(repair);
    if (!(edits & (LM_BIT(LM_SITE_KV_GROUP) | LM_BIT(LM_SITE_HEAD))))
        features &= ~(uint64_t)LM_SHAPE_ATTN_BIAS;
    if (!(edits & LM_BIT(LM_SITE_FFN_CHANNEL)))
        features &= ~(uint64_t)LM_SHAPE_MLP_BIAS;
    if ((edits & LM_BIT(LM_SITE_HIDDEN)) && lm_repair_turns(repair))
        features |= LM_SHAPE_TURNED;
    return features;
}

/* Which directions of the residual stream stay is said by importance or by a basis. */
static enum lm_status check_basis(const struct lm_pipeline *p,
                                  const struct lm_stage *pruner, size_t n,
                                  const struct lm_stage *repair, struct lm_err *e)
{
    if (!(touched(pruner) & LM_BIT(LM_SITE_HIDDEN)) ||
        (lm_pruner_ranks(pruner) & LM_BIT(LM_SITE_HIDDEN)) ||
        ((const struct lm_repair *)repair->plugin->ops)->basis)
        return LM_OK;
    return lm_conf_fail(e, pruner->at, "prune[%zu] (%s) does not rank channels of the "
                        "residual stream, and %s '%s' has no basis for it; write rank = "
                        "true, or %s: { use = \"pca\"; };", n,
                        pruner->plugin->module.name,
                        repair == &p->repair ? "repair" : "refine",
                        repair->plugin->module.name,
                        repair == &p->repair ? "repair" : "refine");
}

/* What the pruners can make, and then the repair of what they cut that is exported; a
 * program of the user is given candidates as the search has them. */
static enum lm_status check_features(struct lm_pipeline *p, struct lm_err *e)
{
    const struct lm_stage *exported = lm_refine_replaces(p) ? &p->refine : &p->repair;
    uint64_t edits = 0;
    char what[96];
    for (size_t i = 0; i < p->n_prune; i++) {
        const struct lm_pruner *ops = p->prune[i].plugin->ops;
        snprintf(what, sizeof what, "prune[%zu] (%s)", i,
                 p->prune[i].plugin->module.name);
        uint64_t features = ops->shapes ? ops->shapes(p->prune[i].opt.config)
                                        : lm_negotiate_edits(ops->edits);
        enum lm_status s = lm_negotiate_features(p, features, what, e);
        if (!s)
            s = check_basis(p, &p->prune[i], i, &p->repair, e);
        if (!s)
            s = check_basis(p, &p->prune[i], i, exported, e);
        if (s)
            return s;
        edits |= touched(&p->prune[i]);
    }
    snprintf(what, sizeof what, "%s (%s)", exported == &p->repair ? "repair" : "refine",
             exported->plugin->module.name);
    enum lm_status s = check_exports(p, repair_features(exported, edits), what, e);
    if (s)
        return s;
    snprintf(what, sizeof what, "repair (%s)", p->repair.plugin->module.name);
    return check_offers(p, repair_features(&p->repair, edits), what, e);
}

enum lm_status lm_negotiate_model(struct lm_pipeline *p, const struct lm_model *m,
                                  struct lm_err *e)
{
    struct lm_plan *plan;
    for (size_t i = 0; i < p->n_export; i++) {
        struct lm_export_stage *x = &p->export[i];
        const struct lm_format *f = x->stage.plugin->ops;
        x->limits = (struct lm_limits){ .struct_size = sizeof x->limits };
        x->asked = true;
        if (f->limits(x->stage.self, m, (uint32_t)x->o->dtype + 1, &x->limits, e))
            return lm_stage_fail(&x->stage, e);
    }
    enum lm_status s = lm_plan_open(lm_model_arch(m), NULL, &plan, e);
    if (s)
        return s;
    s = lm_negotiate_features(p, lm_plan_features(plan), "the model itself", e);
    lm_plan_free(plan);
    if (!s)
        s = check_features(p, e);
    return s ? s : lm_quantize_negotiate(p, m, e);
}

enum lm_status lm_negotiate_space(struct lm_pipeline *p, const struct lm_space *s,
                                  struct lm_err *e)
{
    const struct lm_search *ops = p->search.plugin->ops;
    size_t n;
    const struct lm_gene *const *g = lm_space_genes(s, &n);
    if (!n)
        return lm_conf_fail(e, p->conf, "nothing to search: no pruner of `prune` and no "
                            "member of `quantize` has a gene for this model");
    for (size_t i = 0; i < n; i++)
        if (!(ops->genes & LM_BIT(g[i]->kind)))
            return lm_conf_fail(e, p->search.at,
                                "search '%s' cannot handle %s genes; '%s' "
                                "is one", p->search.plugin->module.name,
                                gene_names[g[i]->kind], g[i]->name);
    return LM_OK;
}

enum lm_status lm_negotiate(struct lm_pipeline *p, struct lm_err *e)
{
    const struct lm_search *search = p->search.plugin->ops;
    if (!p->n_objective)
        return lm_conf_fail(e, p->conf, "`objectives` is missing; write objectives = "
                            "( { metric = \"kl.nats\"; }, { metric = \"size.bytes\"; } );");
    if (search->max_objectives && p->n_objective > search->max_objectives)
        return lm_conf_fail(e, p->search.at, "search '%s' handles at most %u objectives, "
                            "%zu are given", p->search.plugin->module.name,
                            search->max_objectives, p->n_objective);
    char name[128];
    int n_metric = 0;
    while (lm_metric_at(p->evaluate, p->n_evaluate, n_metric, name, sizeof name, NULL))
        n_metric++;
    for (int i = 0; lm_metric_at(p->final, p->n_final, i, name, sizeof name, NULL); i++)
        n_metric++;
    if (n_metric > LM_MAX_METRICS)
        return lm_conf_fail(e, p->conf,
                            "`evaluate` and `final` measure %d metrics; %d are "
                            "the most", n_metric, LM_MAX_METRICS);
    if (!p->n_prune && !p->n_quantize)
        return lm_conf_fail(e, p->conf, "`prune` (or `quantize`) is missing: there is "
                            "nothing to search");
    for (size_t i = 0; i < p->n_final; i++)
        for (size_t j = 0; j < p->n_evaluate; j++)
            if (!strcmp(p->final[i].id, p->evaluate[j].id))
                return lm_conf_fail(e, p->final[i].at,
                                    "the name '%s' is used in `evaluate` "
                                    "too; give this one an `id`", p->final[i].id);
    enum lm_status s = check_features(p, e);
    if (!s)
        s = lm_quantize_negotiate(p, NULL, e);
    return s ? s : check_scores(p, e);
}
