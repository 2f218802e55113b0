/* SPDX-License-Identifier: Apache-2.0 */
/* session.c -- see session.h. */
#include "pipeline/session.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "pipeline/host.h"
#include "pipeline/negotiate.h"

enum { MAX_REPAIRS = 64 };

/* Importance of the sites of one kind in one layer, as a scorer gave it. */
struct lm_scores {
    double *v;
    int64_t n;
    uint32_t site;
    int32_t layer;
    struct lm_scores *next;
};

/* One repair instance for each combination of tuned values. */
struct repair { uint64_t key; struct lm_stage stage; };
struct lm_repairs { struct repair at[MAX_REPAIRS]; size_t n; };

static int64_t site_count(const struct lm_arch *a, uint32_t site, int32_t layer)
{
    const struct lm_layer_shape *l = &a->layer[layer < 0 ? 0 : layer];
    switch (site) {
    case LM_SITE_FFN_CHANNEL: return l->n_ff;
    case LM_SITE_KV_GROUP:    return l->n_kv;
    case LM_SITE_HEAD:        return l->n_head;
    case LM_SITE_HIDDEN:      return a->hidden;
    default:                  return 1;
    }
}

/* lm_score_source of the space. */
static enum lm_status scores(void *ctx, uint32_t site, int32_t layer,
                             const double **score, int64_t *n, struct lm_err *e)
{
    struct lm_session *s = ctx;
    for (struct lm_scores *c = s->scores; c; c = c->next)
        if (c->site == site && c->layer == layer) {
            *score = c->v;
            *n = c->n;
            return LM_OK;
        }
    struct lm_stage *scorer = lm_pipeline_scorer(s->pipeline, site);
    if (!scorer)
        return lm_fail(e, LM_ECONFIG, "no scorer of `score` can score these sites");
    int64_t count = site_count(lm_model_arch(s->bench.model), site, layer);
    struct lm_scores *c = lm_alloc(sizeof *c, "scores");
    double *v = lm_alloc_array((size_t)count + 1, sizeof *v, "scores");
    const struct lm_scorer *ops = scorer->plugin->ops;
    enum lm_status st = c && v ? ops->score(scorer->self, site, layer, v, count, e)
                               : lm_fail_memory(e, (size_t)count * 8, "scores");
    if (st) {
        lm_release(c);
        lm_release(v);
        return st == LM_ENOMEM ? st : lm_stage_fail(scorer, e);
    }
    *c = (struct lm_scores){ v, count, site, layer, s->scores };
    s->scores = c;
    *score = v;
    *n = count;
    return LM_OK;
}

/* A gene for each option of `repair` that is written as a range. */
static enum lm_status add_tuned(struct lm_session *s, struct lm_err *e)
{
    struct lm_stage *r = &s->pipeline->repair;
    s->tuned_slot = lm_space_slots(s->bench.space);
    for (size_t i = 0; i < r->opt.n_tuned; i++) {
        const struct lm_tuned *t = &r->opt.tuned[i];
        char name[96];
        snprintf(name, sizeof name, "repair.%s", t->opt->name);
        struct lm_gene g = { .struct_size = sizeof g, .name = name, .step = t->step,
            .kind = LM_GENE_REAL, .min = t->min, .max = t->max, .log_scale = t->log_scale,
            .initial = t->min, .site = { LM_SITE_MODEL, -1, 0 } };
        const char *choice[64];
        char text[64][32];
        if (t->choice) {
            g.kind = LM_GENE_CHOICE;
            g.ordered = true;
            g.n = (uint32_t)(t->choice->n < 64 ? t->choice->n : 64);
            g.min = g.initial = 0;
            g.max = g.n - 1;
            for (uint32_t k = 0; k < g.n; k++) {
                snprintf(text[k], sizeof text[k], "%u", k);
                choice[k] = text[k];
            }
            g.choice = choice;
        } else if (t->opt->type == LM_OPT_INT) {
            g.kind = LM_GENE_INT;
            g.step = t->step > 0 ? t->step : 1;
        }
        enum lm_status st = lm_space_add(s->bench.space, &g, e);
        if (st)
            return lm_stage_fail(r, e);
    }
    return LM_OK;
}

static enum lm_status make_space(struct lm_session *s, struct lm_err *e)
{
    struct lm_pipeline *p = s->pipeline;
    enum lm_status st = lm_space_open(scores, s, &s->bench.space, e);
    for (size_t i = 0; !st && i < p->n_prune; i++) {
        const struct lm_pruner *ops = p->prune[i].plugin->ops;
        s->first_slot[i] = lm_space_slots(s->bench.space);
        st = lm_stage_create(&p->prune[i], s->bench.model, NULL, e);
        if (!st && (st = ops->genes(p->prune[i].self, s->bench.space, e)))
            lm_stage_fail(&p->prune[i], e);
    }
    if (!st)
        st = add_tuned(s, e);
    return st ? st : lm_negotiate_space(p, s->bench.space, e);
}

static enum lm_status make_stats(struct lm_session *s, struct lm_err *e)
{
    uint64_t needs, sites;
    char folder[4096];
    int32_t *ids;
    int64_t n, length;
    lm_pipeline_needs(s->pipeline, &needs, &sites);
    if (!needs || !sites)
        return LM_OK;
    enum lm_status st = lm_cache_folder(folder, sizeof folder, e);
    if (st || (st = lm_make_folder(folder, e)) ||
        (st = lm_run_sample(s->pipeline->run, "calibration", &ids, &n, &length, e)))
        return st;
    int64_t need = lm_stats_bytes(lm_model_arch(s->bench.model), needs, sites);
    int64_t free_bytes = lm_disk_free(folder);
    if (free_bytes >= 0 && need > free_bytes)
        st = lm_fail(e, LM_EIO, "%s: the statistics need %.1f GB of disk, %.1f GB are free; "
                     "set XDG_CACHE_HOME to a larger disk or run `lamina cache clear`",
                     folder, (double)need / 1e9, (double)free_bytes / 1e9);
    else
        st = lm_stats_collect(s->bench.engine, ids, n, length, needs, sites, folder,
                              &s->bench.stats, e);
    lm_release(ids);
    return st;
}

/* lm_repair_source of the workshop: an instance with the plan's settings. */
static enum lm_status repair_for(void *ctx, const struct lm_plan *plan,
                                 struct lm_repair_choice *out, struct lm_err *e)
{
    struct lm_session *s = ctx;
    struct lm_stage *base = &s->pipeline->repair;
    struct lm_repairs *all = s->repairs;
    uint64_t key = base->opt.hash;
    for (size_t i = 0; i < plan->n_setting; i++)
        key = lm_hash_u64(plan->setting[i].value.bits,
                          lm_hash_str(plan->setting[i].name, key));
    for (size_t i = 0; i < all->n; i++)
        if (all->at[i].key == key) {
            *out = (struct lm_repair_choice){ all->at[i].stage.plugin->ops,
                                              all->at[i].stage.self, key };
            return LM_OK;
        }
    if (all->n == MAX_REPAIRS)
        return lm_fail(e, LM_ECONFIG, "more than %d settings of `repair` were tried; give its "
                       "searched options a `step` or `choice`", MAX_REPAIRS);
    struct repair *r = &all->at[all->n++];
    r->key = key;
    enum lm_status st = lm_stage_open(&r->stage, LM_REPAIR, base->at, "none", NULL, "repair",
                                      base->run, e);
    for (size_t i = 0; !st && i < r->stage.opt.n_tuned && i < plan->n_setting; i++)
        st = lm_options_set(&r->stage.plugin->module, &r->stage.opt,
                            &r->stage.opt.tuned[i], plan->setting[i].value, e);
    if (!st)
        st = lm_stage_create(&r->stage, s->bench.model, s->bench.stats, e);
    *out = (struct lm_repair_choice){ r->stage.plugin ? r->stage.plugin->ops : NULL,
                                      r->stage.self, key };
    return st;
}

static enum lm_status open_all(struct lm_session *s, struct lm_err *e)
{
    struct lm_pipeline *p = s->pipeline;
    struct lm_bench *b = &s->bench;
    enum lm_status st = lm_bench_open(b, p->model->path, p->model_use, &p->backend,
                                      p->run, e);
    if (st || (st = make_stats(s, e)))
        return st;
    for (size_t i = 0; i < p->n_score; i++)
        if ((st = lm_stage_create(&p->score[i], b->model, b->stats, e)))
            return st;
    if ((st = make_space(s, e)))
        return st;
    lm_workshop_close(b->workshop);
    b->workshop = NULL;
    struct lm_workshop_args a = { .engine = b->engine, .model = b->model, .stats = b->stats,
        .space = b->space, .repair = repair_for, .repair_ctx = s,
        .memory = (size_t)p->options->memory };
    if ((st = lm_workshop_open(&a, &b->workshop, e)))
        return st;
    return lm_judges_open(b, p->evaluate, p->n_evaluate, lm_pipeline_dtype(p),
                          (size_t)p->options->memory / 4, e);
}

enum lm_status lm_session_open(struct lm_pipeline *p, struct lm_session **out,
                               struct lm_err *e)
{
    struct lm_session *s = lm_alloc(sizeof *s, "session");
    if (!s)
        return lm_fail_memory(e, sizeof *s, "the session");
    s->pipeline = p;
    s->repairs = lm_alloc(sizeof *s->repairs, "session");
    enum lm_status st = s->repairs ? open_all(s, e)
                                   : lm_fail_memory(e, sizeof *s->repairs, "repairs");
    if (st) {
        lm_session_close(s);
        return st;
    }
    *out = s;
    return LM_OK;
}

void lm_session_close(struct lm_session *s)
{
    if (!s)
        return;
    lm_bench_close(&s->bench);
    for (size_t i = 0; s->repairs && i < s->repairs->n; i++)
        lm_stage_close(&s->repairs->at[i].stage);
    lm_release(s->repairs);
    for (struct lm_scores *c = s->scores, *next; c; c = next) {
        next = c->next;
        lm_release(c->v);
        lm_release(c);
    }
    lm_release(s);
}

static enum lm_status decode_tuned(struct lm_session *s, const union lm_value *v,
                                   struct lm_plan *plan, struct lm_err *e)
{
    const struct lm_stage *r = &s->pipeline->repair;
    for (size_t i = 0; i < r->opt.n_tuned; i++) {
        char name[96];
        const struct lm_tuned *t = &r->opt.tuned[i];
        snprintf(name, sizeof name, "repair.%s", t->opt->name);
        uint32_t kind = t->choice ? LM_GENE_CHOICE
                      : t->opt->type == LM_OPT_INT ? LM_GENE_INT : LM_GENE_REAL;
        enum lm_status st = lm_plan_set(plan, name, kind, v[s->tuned_slot + i], e);
        if (st)
            return st;
    }
    return LM_OK;
}

enum lm_status lm_session_decode(struct lm_session *s, const union lm_value *v,
                                 struct lm_plan **out, struct lm_err *e)
{
    struct lm_pipeline *p = s->pipeline;
    struct lm_plan *plan;
    enum lm_status st = lm_plan_open(lm_model_arch(s->bench.model), s->bench.space, &plan, e);
    if (st)
        return st;
    for (size_t i = 0; !st && i < p->n_prune; i++) {
        const struct lm_pruner *ops = p->prune[i].plugin->ops;
        st = ops->decode(p->prune[i].self, v + s->first_slot[i], plan, e);
        if (st && st != LM_EINFEASIBLE)
            lm_stage_fail(&p->prune[i], e);
    }
    if (!st)
        st = decode_tuned(s, v, plan, e);
    if (!st)
        st = lm_plan_canonical(plan, e);
    if (st) {
        lm_plan_free(plan);
        return st;
    }
    *out = plan;
    return LM_OK;
}
