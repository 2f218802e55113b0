/* SPDX-License-Identifier: Apache-2.0 */
/* session.c -- see session.h. */
#include "pipeline/session.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "pipeline/crew.h"
#include "pipeline/negotiate.h"
#include "pipeline/quantize.h"
#include "pipeline/refine.h"


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
struct lm_repairs { struct repair **at; size_t n, cap; };

static bool whole_model(uint32_t site)
{
    return site == LM_SITE_MODEL || site == LM_SITE_HIDDEN;
}

int64_t lm_site_count(const struct lm_arch *a, uint32_t site, int32_t layer)
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

static const struct lm_scores *find_scores(const struct lm_session *s, uint32_t site,
                                           int32_t layer)
{
    const struct lm_scores *c = s->scores;
    while (c && (c->site != site || c->layer != layer))
        c = c->next;
    return c;
}

/* An entry to be filled by its scorer. */
static enum lm_status add_scores(struct lm_session *s, uint32_t site, int32_t layer,
                                 struct lm_scores **out, struct lm_err *e)
{
    int64_t n = lm_site_count(lm_model_arch(s->bench.model), site, layer);
    struct lm_scores *c = lm_alloc(sizeof *c, "scores");
    double *v = lm_alloc_array((size_t)n + 1, sizeof *v, "scores");
    if (!c || !v) {
        lm_release(c);
        lm_release(v);
        return lm_fail_memory(e, (size_t)n * 8, "scores");
    }
    *c = (struct lm_scores){ v, n, site, layer, s->scores };
    *out = s->scores = c;
    return LM_OK;
}

static enum lm_status fill_scores(struct lm_session *s, struct lm_scores *c,
                                  struct lm_err *e)
{
    struct lm_stage *scorer = lm_pipeline_scorer(s->pipeline, c->site);
    if (s->sketch)
        return LM_OK;
    if (!scorer)
        return lm_fail(e, LM_ECONFIG, "no scorer of `score` can score these sites");
    const struct lm_scorer *ops = scorer->plugin->ops;
    enum lm_status st = ops->score(scorer->self, c->site, c->layer, c->v, c->n, e);
    for (int64_t i = 0; !st && i < c->n; i++)
        if (isnan(c->v[i]))
            st = lm_fail(e, LM_EFAILED,
                         "layer %d: the score of site %lld is not a number; is "
                         "the model or its calibration damaged?", (int)c->layer,
                         (long long)i);
    return st && st != LM_ECANCELED && st != LM_ENOMEM ? lm_stage_fail(scorer, e) : st;
}

/* lm_score_source of the space. */
static enum lm_status scores(void *ctx, uint32_t site, int32_t layer,
                             const double **score, int64_t *n, struct lm_err *e)
{
    struct lm_session *s = ctx;
    struct lm_scores *c = (struct lm_scores *)find_scores(s, site, layer);
    if (!c) {
        enum lm_status st = add_scores(s, site, layer, &c, e);
        if (!st && (st = fill_scores(s, c, e))) {
            s->scores = c->next;        /* it was put in front */
            lm_release(c->v);
            lm_release(c);
        }
        if (st)
            return st;
    }
    *score = c->v;
    *n = c->n;
    return LM_OK;
}

/* ---- all scores at once ----------------------------------------------------------- */
struct scoring {
    struct lm_session *s;
    struct lm_scores **entry;
    int64_t n, done;
    struct lm_err *err;                 /* [n] */
};

static void score_one(void *ctx, int64_t i, uint32_t worker)
{
    struct scoring *g = ctx;
    (void)worker;
    fill_scores(g->s, g->entry[i], &g->err[i]);
    int64_t done = __atomic_add_fetch(&g->done, 1, __ATOMIC_RELAXED);
    lm_progress((double)done / (double)g->n, NULL);
}

/* What the pruners rank by, layers in parallel; scores() then finds it. */
static enum lm_status score_all(struct lm_session *s, struct lm_err *e)
{
    const struct lm_arch *a = lm_model_arch(s->bench.model);
    uint64_t needs = 0;
    for (size_t i = 0; i < s->pipeline->n_prune; i++)
        needs |= lm_pruner_ranks(&s->pipeline->prune[i]);
    size_t most = (size_t)a->n_layer * LM_N_SITE_KINDS;
    struct scoring g = { .s = s, .entry = lm_alloc_array(most, sizeof *g.entry, "scores"),
                         .err = lm_alloc_array(most, sizeof *g.err, "scores") };
    enum lm_status st = g.entry && g.err ? LM_OK : lm_fail_memory(e, most, "scores");
    lm_progress_begin("scoring");
    for (uint32_t site = 1; site < LM_N_SITE_KINDS; site++)
        for (int32_t i = whole_model(site) ? -1 : 0;
             !st && i < (whole_model(site) ? 0 : a->n_layer); i++)
            if ((needs & LM_BIT(site)) && lm_site_count(a, site, i) > 0 &&
                !(st = add_scores(s, site, i, &g.entry[g.n], e)))
                g.n++;
    if (!st && (st = lm_parallel(g.n, score_one, &g)))
        lm_fail(e, st, "interrupted");
    for (int64_t i = 0; !st && i < g.n; i++)
        if (g.err[i].code) {
            *e = g.err[i];
            st = e->code;
        }
    lm_progress_end();
    lm_release(g.entry);
    lm_release(g.err);
    return st;
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
        if (t->choice && t->choice->n > 64)
            return lm_conf_fail(e, t->at, "repair.%s: more than 64 choices",
                                t->opt->name);
        if (t->choice) {
            g.kind = LM_GENE_CHOICE;
            g.ordered = true;
            g.n = (uint32_t)t->choice->n;
            g.min = g.initial = 0;
            g.max = g.n - 1;
            for (uint32_t k = 0; k < g.n; k++) {
                const struct lm_conf *v = t->choice->child[k];
                if (v->type == LM_CONF_INT)
                    snprintf(text[k], sizeof text[k], "%lld", (long long)v->v.i);
                else if (v->type == LM_CONF_REAL)
                    snprintf(text[k], sizeof text[k], "%g", v->v.r);
                choice[k] = v->type == LM_CONF_STRING ? v->v.s
                          : v->type == LM_CONF_BOOL 
                              ? (v->v.b ? "true" : "false") : text[k];
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
    if (!st)
        st = lm_quantize_genes(s, e);
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
    st = lm_stats_collect(s->bench.engine, ids, n, length, needs, sites, folder,
                          &s->bench.stats, e);
    lm_release(ids);
    return st;
}

static struct lm_repair_choice chosen(const struct lm_stage *repair, uint64_t key)
{
    return (struct lm_repair_choice){ .ops = repair->plugin->ops, .self = repair->self,
                                      .key = key, .biases = lm_repair_biases(repair),
                                      .needs = lm_repair_needs(repair),
                                      .turns = lm_repair_turns(repair) };
}

static enum lm_status add_repair(struct lm_repairs *all, uint64_t key,
                                 struct repair **out, struct lm_err *e)
{
    if (all->n == all->cap) {
        size_t cap = 2 * all->cap + 16;
        struct repair **more = lm_resize(all->at, cap * sizeof *more);
        if (!more)
            return lm_fail_memory(e, cap * sizeof *more, "repairs");
        all->at = more;
        all->cap = cap;
    }
    struct repair *r = lm_alloc(sizeof *r, "session");
    if (!r)
        return lm_fail_memory(e, sizeof *r, "repairs");
    r->key = key;
    *out = all->at[all->n++] = r;
    return LM_OK;
}

static void close_repair(struct repair *r)
{
    lm_stage_close(&r->stage);
    lm_release(r);
}

/* lm_repair_source of the workshop: an instance with the plan's settings. */
static enum lm_status repair_for(void *ctx, const struct lm_plan *plan,
                                 struct lm_repair_choice *out, struct lm_err *e)
{
    struct lm_session *s = ctx;
    struct lm_stage *base = &s->pipeline->repair;
    struct lm_repairs *all = s->repairs;
    uint64_t key = base->opt.hash;
    if (s->refines) {
        base = &s->pipeline->refine;
        *out = chosen(base, lm_hash_str(base->plugin->module.name, base->opt.hash));
        return LM_OK;
    }
    for (size_t i = 0; i < plan->n_setting; i++)
        key = lm_hash_u64(plan->setting[i].value.bits,
                          lm_hash_str(plan->setting[i].name, key));
    for (size_t i = 0; i < all->n; i++)
        if (all->at[i]->key == key) {
            *out = chosen(&all->at[i]->stage, key);
            return LM_OK;
        }
    struct repair *r = NULL;
    enum lm_status st = add_repair(all, key, &r, e);
    if (st)
        return st;
    st = lm_stage_open(&r->stage, LM_REPAIR, base->at, "none", NULL,
                                      "repair", base->run, e);
    for (size_t i = 0; !st && i < r->stage.opt.n_tuned && i < plan->n_setting; i++)
        st = lm_options_set(&r->stage.plugin->module, &r->stage.opt,
                            &r->stage.opt.tuned[i], plan->setting[i].value, e);
    if (!st)
        st = lm_stage_create(&r->stage, s->bench.model, s->bench.stats, e);
    if (st) {                           /* to be tried again, not found half made */
        close_repair(all->at[--all->n]);
        return st;
    }
    *out = chosen(&r->stage, key);
    return LM_OK;
}

/* Widths that exports need in multiples; the dense width is exempt, rows of it
 * go out as f16.                                                               */
static enum lm_status check_widths(const struct lm_pipeline *p,
                                   const struct lm_plan *plan,
                                   const char *gene, struct lm_err *e)
{
    for (size_t i = 0; i < p->n_export; i++) {
        const struct lm_export_stage *x = &p->export[i];
        int32_t multiple = x->limits.multiple > 0 ? x->limits.multiple : 1;
        if (plan->hidden.kept % multiple && plan->hidden.bits)
            return lm_conf_fail(e, x->stage.at,
                                "export: %s in %s needs a width of the residual stream "
                                "in multiples of %d, but gene %s can make %d; set "
                                "`multiple` of the hidden pruner", x->stage.id,
                                lm_dtype_names[x->o->dtype], multiple, gene,
                                plan->hidden.kept);
        for (int32_t k = 0; k < plan->arch->n_layer; k++) {
            int32_t n_ff = lm_plan_shape(plan, k).n_ff;
            if (n_ff % multiple && n_ff != plan->arch->layer[k].n_ff)
                return lm_conf_fail(e, x->stage.at,
                                    "export: %s in %s needs FFN widths in "
                                    "multiples of %d, but gene %s can make %d; set "
                                    "`step` or `multiple` of its pruner", x->stage.id,
                                    lm_dtype_names[x->o->dtype], multiple, gene, n_ff);
        }
    }
    return LM_OK;
}

/* Trial 0 must be the model as it is: no pruner may edit it at the genes' initial
 * values.  v: the initial genome.                                             */
static enum lm_status check_initial(struct lm_session *s, const union lm_value *v,
                                    struct lm_err *e)
{
    struct lm_pipeline *p = s->pipeline;
    struct lm_plan *whole, *plan = NULL;
    enum lm_status st = lm_plan_open(lm_model_arch(s->bench.model), NULL, &whole, e);
    if (!st)
        st = lm_plan_canonical(whole, e);
    for (size_t i = 0; !st && i < p->n_prune; i++) {
        const struct lm_pruner *ops = p->prune[i].plugin->ops;
        if ((st = lm_plan_open(lm_model_arch(s->bench.model), s->bench.space, &plan, e)))
            break;
        plan->may = ops->edits;
        st = ops->decode(p->prune[i].self, v + s->first_slot[i], plan, e);
        if (!st && !(st = lm_plan_canonical(plan, e)) && !lm_plan_equal(plan, whole))
            st = lm_fail(e, LM_EBUG,
                         "it edits the model where all of its genes have their "
                         "uncompressed value");
        if (st)
            lm_stage_fail(&p->prune[i], e);
        lm_plan_free(plan);
    }
    lm_plan_free(whole);
    return st;
}

enum { MOST_LEVELS = 4096, SIZES = 64 };

/* Of a set: some sizes from both ends, which have all remainders there are. */
static int64_t count_levels(const struct lm_gene *g)
{
    int64_t count = lm_gene_count(g);
    if (g->kind == LM_GENE_SUBSET)
        count = (int64_t)fmin(g->max - g->min, 2 * SIZES);
    return count < MOST_LEVELS ? count : MOST_LEVELS;
}

static void put_level(const struct lm_gene *g, int64_t i, union lm_value *v)
{
    double size = i < SIZES ? g->min + (double)i : g->max - (double)(i - SIZES) - 1;
    if (g->kind != LM_GENE_SUBSET) {
        *v = lm_gene_value(g, i);
        return;
    }
    for (uint32_t k = 0; k < g->slots; k++)
        v[k].bits = 0;
    for (int64_t k = 0; k < (int64_t)size; k++)
        v[k / 64].bits |= UINT64_C(1) << (k % 64);
}

/* Every level of every gene alone, before anything is evaluated. */
static enum lm_status check_levels(struct lm_session *s, struct lm_err *e)
{
    size_t n;
    const struct lm_gene *const *gene = lm_space_genes(s->bench.space, &n);
    union lm_value *v = lm_alloc_array(lm_space_slots(s->bench.space) + 1, sizeof *v,
                                       "genome");
    enum lm_status st = v ? LM_OK : lm_fail_memory(e, n * sizeof *v, "a genome");
    if (!st) {
        lm_genome_initial(s->bench.space, v);
        st = check_initial(s, v, e);
    }
    for (size_t g = 0; !st && g < n; g++) {
        int64_t count = count_levels(gene[g]);
        for (int64_t i = 0; !st && i < count; i++) {
            struct lm_plan *plan = NULL;
            struct lm_err why = { 0 };
            lm_genome_initial(s->bench.space, v);
            put_level(gene[g], i, v + gene[g]->slot);
            st = lm_session_decode(s, v, &plan, &why);
            if (st == LM_EINFEASIBLE)
                st = LM_OK;
            else if (st)
                *e = why;
            else
                st = check_widths(s->pipeline, plan, gene[g]->name, e);
            if (!st && plan)
                st = lm_quantize_widths(s->pipeline, plan, gene[g]->name, e);
            lm_plan_free(plan);
        }
    }
    lm_release(v);
    return st;
}

/* Of run.memory derived matrices get a half, predictions of the dense model and hidden
 * states a quarter each; of that half a half goes to packed weights where evaluators
 * compute in bf16 or int8 (lm_engine_pack).  Where the model is larger than memory all
 * that is derived goes to files: weights that are loaded get a quarter, predictions and
 * hidden states an eighth each, blocks being repaired the other half.             */
static enum lm_status open_workshop(struct lm_session *s, struct lm_err *e)
{
    struct lm_bench *b = &s->bench;
    size_t half = (size_t)s->pipeline->options->memory / 2;
    size_t heap = lm_pipeline_packs(s->pipeline) ? half / 2 : half;
    char folder[4096];
    enum lm_status st = lm_cache_folder(folder, sizeof folder, e);
    if (st || (st = lm_make_folder(folder, e)))
        return st;
    lm_workshop_close(b->workshop);
    b->workshop = NULL;
    struct lm_workshop_args a = { .engine = b->engine, .model = b->model,
        .stats = b->stats, .space = b->space, .repair = repair_for, .repair_ctx = s,
        .memory = lm_engine_streams(b->engine) ? 0 : heap, .quant = lm_quantize_source,
        .quant_ctx = s, .spill = folder, .scratch = half,
        .sharers = s->pipeline->beside };
    return lm_workshop_open(&a, &b->workshop, e);
}

static enum lm_status open_all(struct lm_session *s, struct lm_err *e)
{
    struct lm_pipeline *p = s->pipeline;
    struct lm_bench *b = &s->bench;
    enum lm_status st = lm_bench_open(b, p->model->path, p->model_use, &p->backend,
                                      (size_t)p->options->memory, p->run, e);
    if (st)
        return st;
    if ((st = lm_refine_check(p, b, e)) ||
        (st = lm_negotiate_model(p, b->model, e)) || (st = make_stats(s, e)))
        return st;
    for (size_t i = 0; p->n_prune > 0 && i < p->n_score; i++)   /* else nothing is ranked */
        if ((st = lm_stage_create(&p->score[i], b->model, b->stats, e)))
            return st;
    if ((st = lm_quantize_create(s, e)))
        return st;
    if ((st = score_all(s, e)) || (st = make_space(s, e)) || (st = check_levels(s, e)))
        return st;
    if ((st = open_workshop(s, e)))
        return st;
    b->alone = !p->options->share;
    if (p->options->workers && (st = lm_crew_open(s, &b->crew, e)))
        return st;
    return lm_judges_open(b, p->evaluate, p->n_evaluate, lm_pipeline_dtype(p),
                          lm_bench_judging(b, p->options->memory), e);
}

static enum lm_status open_sketch(struct lm_session *s, struct lm_err *e)
{
    struct lm_pipeline *p = s->pipeline;
    enum lm_status st = lm_bench_open(&s->bench, p->model->path, p->model_use,
                                      &p->backend, (size_t)p->options->memory, p->run,
                                      e);
    if (st)
        return st;
    s->sketch = true;
    if (!(st = lm_refine_check(p, &s->bench, e)))
        st = lm_quantize_create(s, e);
    return st ? st : make_space(s, e);
}

static enum lm_status open_with(struct lm_pipeline *p, struct lm_session **out,
                                enum lm_status (*fill)(struct lm_session *,
                                                       struct lm_err *), struct lm_err *e)
{
    struct lm_session *s = lm_alloc(sizeof *s, "session");
    if (!s)
        return lm_fail_memory(e, sizeof *s, "the session");
    s->pipeline = p;
    s->repairs = lm_alloc(sizeof *s->repairs, "session");
    enum lm_status st = s->repairs ? fill(s, e)
                                   : lm_fail_memory(e, sizeof *s->repairs, "repairs");
    if (st == LM_EINFEASIBLE && !strstr(e->text, "uncompressed"))
        lm_err_prefix(e, "the uncompressed model cannot be run: ");
    if (st) {
        lm_session_close(s);
        return st;
    }
    *out = s;
    return LM_OK;
}

enum lm_status lm_session_open(struct lm_pipeline *p, struct lm_session **out,
                               struct lm_err *e)
{
    return open_with(p, out, open_all, e);
}

enum lm_status lm_session_sketch(struct lm_pipeline *p, struct lm_session **out,
                                 struct lm_err *e)
{
    return open_with(p, out, open_sketch, e);
}

void lm_session_close(struct lm_session *s)
{
    if (!s)
        return;
    lm_bench_dismiss(&s->bench);
    lm_judges_close(&s->bench);
    lm_workshop_close(s->bench.workshop);       /* holds what repairs prepared */
    s->bench.workshop = NULL;
    lm_stage_destroy(&s->pipeline->refine);
    for (size_t i = 0; s->repairs && i < s->repairs->n; i++)
        close_repair(s->repairs->at[i]);
    if (s->repairs)
        lm_release(s->repairs->at);
    lm_release(s->repairs);
    lm_quantize_destroy(s);
    for (size_t i = 0; i < s->pipeline->n_prune; i++)
        lm_stage_destroy(&s->pipeline->prune[i]);
    for (size_t i = 0; i < s->pipeline->n_score; i++)
        lm_stage_destroy(&s->pipeline->score[i]);
    lm_bench_close(&s->bench);
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
    enum lm_status st = lm_plan_open(lm_model_arch(s->bench.model), s->bench.space, &plan,
                                     e);
    if (st)
        return st;
    for (size_t i = 0; !st && i < p->n_prune; i++) {
        const struct lm_pruner *ops = p->prune[i].plugin->ops;
        plan->may = ops->edits;
        st = ops->decode(p->prune[i].self, v + s->first_slot[i], plan, e);
        if (st && st != LM_EINFEASIBLE)
            lm_stage_fail(&p->prune[i], e);
    }
    if (!st)
        st = decode_tuned(s, v, plan, e);
    if (!st)
        st = lm_plan_canonical(plan, e);
    if (!st)
        st = lm_quantize_decode(s, v, plan, e);
    if (st) {
        lm_plan_free(plan);
        return st;
    }
    *out = plan;
    return LM_OK;
}
