/* SPDX-License-Identifier: Apache-2.0 */
/* quantize.c -- see quantize.h. */
#include "pipeline/quantize.h"

#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "model/codec.h"
#include "pipeline/negotiate.h"

static const struct lm_quantizer *ops_of(const struct lm_stage *s)
{
    return s->plugin->ops;
}

static uint32_t dtype_of(const struct lm_stage *s)
{
    return ops_of(s)->dtype(s->opt.config);
}

static uint64_t needs_of(const struct lm_stage *s)
{
    return ops_of(s)->needs ? ops_of(s)->needs(s->opt.config) & LM_BIT(LM_STAT_SUMSQ) : 0;
}

uint64_t lm_quantize_needs(const struct lm_pipeline *p)
{
    uint64_t needs = 0;
    for (size_t i = 0; i < p->n_quantize; i++)
        needs |= needs_of(&p->quantize[i]);
    return needs;
}

/* ---- before the search ---------------------------------------------------------- */

/* One quantizer and one export. */
static enum lm_status negotiate_one(struct lm_pipeline *p, size_t i,
                                    struct lm_export_stage *x, const struct lm_model *m,
                                    struct lm_err *e)
{
    const struct lm_format *f = x->stage.plugin->ops;
    const struct lm_stage *q = &p->quantize[i];
    uint32_t dtype = dtype_of(q);
    struct lm_limits limits = { .struct_size = sizeof limits };
    if (!(f->dtypes & LM_BIT(dtype)))
        return lm_conf_fail(e, x->stage.at, "export: format '%s' cannot write %s, which "
                            "quantize[%zu] (%s) makes", x->stage.plugin->module.name,
                            lm_codec(dtype)->name, i, q->plugin->module.name);
    if (f->limits(x->stage.self, m, dtype, &limits, e))
        return lm_stage_fail(&x->stage, e);
    if (limits.multiple > x->multiple)
        x->multiple = limits.multiple;
    return LM_OK;
}

enum lm_status lm_quantize_negotiate(struct lm_pipeline *p, const struct lm_model *m,
                                     struct lm_err *e)
{
    enum lm_status s = LM_OK;
    for (size_t i = 0; !s && i < p->n_quantize; i++) {
        const struct lm_stage *q = &p->quantize[i];
        const struct lm_codec *c = lm_codec(dtype_of(q));
        int32_t hidden = m ? lm_model_arch(m)->hidden : 0;
        char what[96];
        if (!c || !c->encode || c->block < 2)
            return lm_conf_fail(e, q->at, "quantize[%zu] (%s) makes a number format that "
                                "is none of blocks", i, q->plugin->module.name);
        if (m && hidden % (int32_t)c->block)
            return lm_conf_fail(e, q->at, "quantize[%zu] (%s) makes %s, but the hidden "
                                "size %d of the model is no multiple of %u", i,
                                q->plugin->module.name, c->name, hidden, c->block);
        snprintf(what, sizeof what, "quantize[%zu] (%s)", i, q->plugin->module.name);
        s = lm_negotiate_features(p, LM_SHAPE_FORMATS, what, e);
        for (size_t k = 0; !s && k < p->n_export; k++)
            s = negotiate_one(p, i, &p->export[k], m, e);
    }
    return s;
}

enum lm_status lm_quantize_widths(const struct lm_pipeline *p, const struct lm_plan *plan,
                                  const char *gene, struct lm_err *e)
{
    for (size_t i = 0; i < p->n_quantize; i++) {
        const struct lm_codec *c = lm_codec(dtype_of(&p->quantize[i]));
        int32_t multiple = (int32_t)c->block;
        for (size_t k = 0; k < p->n_export; k++)
            if (p->export[k].multiple > multiple)
                multiple = p->export[k].multiple;
        if (plan->hidden.bits && plan->hidden.kept % multiple)
            return lm_conf_fail(e, p->quantize[i].at, "quantize[%zu] (%s): %s needs a "
                                "width of the residual stream in multiples of %d, but "
                                "gene %s can make %d; set `multiple` of the hidden "
                                "pruner", i, p->quantize[i].plugin->module.name, c->name,
                                multiple, gene, plan->hidden.kept);
        for (int32_t k = 0; k < plan->arch->n_layer; k++) {
            int32_t n_ff = lm_plan_shape(plan, k).n_ff;
            if (n_ff % multiple && n_ff != plan->arch->layer[k].n_ff)
                return lm_conf_fail(e, p->quantize[i].at, "quantize[%zu] (%s): %s needs "
                                    "FFN widths in multiples of %d, but gene %s can make "
                                    "%d; set `step` and `multiple` of the ffn pruner", i,
                                    p->quantize[i].plugin->module.name, c->name, multiple,
                                    gene, n_ff);
        }
    }
    return LM_OK;
}

/* ---- instances ------------------------------------------------------------------ */

enum lm_status lm_quantize_create(struct lm_session *s, struct lm_err *e)
{
    struct lm_pipeline *p = s->pipeline;
    enum lm_status st = LM_OK;
    for (size_t i = 0; !st && i < p->n_quantize; i++)
        st = lm_stage_create(&p->quantize[i], s->bench.model, NULL, e);
    return st;
}

void lm_quantize_destroy(struct lm_session *s)
{
    for (size_t i = 0; i < s->pipeline->n_quantize; i++)
        lm_stage_destroy(&s->pipeline->quantize[i]);
}

enum lm_status lm_quantize_source(void *ctx, const char *name,
                                  struct lm_quant_choice *out, struct lm_err *e)
{
    const struct lm_session *s = ctx;
    for (size_t i = 0; i < s->pipeline->n_quantize; i++) {
        const struct lm_stage *q = &s->pipeline->quantize[i];
        const struct lm_module *m = &q->plugin->module;
        if (strcmp(q->id, name))
            continue;
        *out = (struct lm_quant_choice){ .ops = q->plugin->ops, .self = q->self,
            .key = lm_hash_str(m->name, lm_hash_str(m->version ? m->version : "",
                                                    q->opt.hash)),
            .dtype = dtype_of(q), .weighed = needs_of(q) != 0 };
        return LM_OK;
    }
    return lm_fail(e, LM_EINPUT, "the plan wants number format '%s', which no member of "
                   "`quantize` makes", name);
}

/* ---- genes ---------------------------------------------------------------------- */

/* Calls visit() for each gene in order: its layer (-1: all) and matrix (-1: all). */
static enum lm_status each(struct lm_session *s,
                           enum lm_status (*visit)(void *ctx, int32_t layer, int matrix,
                                                   struct lm_err *e),
                           void *ctx, struct lm_err *e)
{
    const struct lm_arch *a = lm_model_arch(s->bench.model);
    enum lm_per per = s->pipeline->per;
    bool layers = per == LM_PER_LAYER || per == LM_PER_MATRIX;
    bool matrices = per == LM_PER_ROLE || per == LM_PER_MATRIX;
    enum lm_status st = LM_OK;
    if (!s->pipeline->n_quantize)
        return LM_OK;
    for (int32_t l = layers ? 0 : -1; !st && l < (layers ? a->n_layer : 0); l++)
        for (int i = matrices ? 0 : -1; !st && i < (matrices ? LM_N_MATRICES : 0); i++) {
            bool attn = l < 0 || a->layer[l].n_kv, mlp = l < 0 || a->layer[l].n_ff;
            bool there = i < 0 ? attn || mlp : lm_matrix_role(i) <= LM_W_O ? attn : mlp;
            st = there ? visit(ctx, l, i, e) : LM_OK;
        }
    return st;
}

static enum lm_status add_gene(void *ctx, int32_t layer, int matrix, struct lm_err *e)
{
    struct lm_session *s = ctx;
    const struct lm_pipeline *p = s->pipeline;
    const char *choice[LM_MAX_STAGES + 1] = { "none" };
    char name[64], at[24] = "";
    if (layer >= 0)
        snprintf(at, sizeof at, "[%d]", layer);
    snprintf(name, sizeof name, "quantize%s%s%s", at, matrix < 0 ? "" : ".",
             lm_matrix_name(matrix));
    for (size_t i = 0; i < p->n_quantize; i++)
        choice[i + 1] = p->quantize[i].id;
    struct lm_gene g = { .struct_size = sizeof g, .kind = LM_GENE_CHOICE, .name = name,
        .ordered = true, .n = (uint32_t)p->n_quantize + 1, .choice = choice,
        .site = { layer < 0 ? LM_SITE_MODEL : matrix < 0 ? LM_SITE_LAYER : LM_SITE_MATRIX,
                  layer, matrix < 0 ? 0 : matrix } };
    return lm_space_add(s->bench.space, &g, e);
}

enum lm_status lm_quantize_genes(struct lm_session *s, struct lm_err *e)
{
    s->format_slot = lm_space_slots(s->bench.space);
    return each(s, add_gene, s, e);
}

struct decoding {
    struct lm_session *s;
    const union lm_value *v;            /* the next gene's */
    struct lm_plan *plan;
};

static enum lm_status set_format(void *ctx, int32_t layer, int matrix, struct lm_err *e)
{
    struct decoding *d = ctx;
    const struct lm_pipeline *p = d->s->pipeline;
    int64_t v = d->v++->integer;
    enum lm_status st = LM_OK;
    if (!v)
        return LM_OK;
    if (v < 0 || (size_t)v > p->n_quantize)
        return lm_fail(e, LM_EBUG, "there is no quantizer %lld", (long long)v);
    const struct lm_stage *q = &p->quantize[v - 1];
    const struct lm_codec *c = lm_codec(dtype_of(q));
    for (int32_t l = 0; l < d->plan->arch->n_layer; l++)
        for (int i = 0; !st && i < LM_N_MATRICES; i++) {
            int64_t cols = lm_plan_columns(d->plan, l, i);
            if ((layer < 0 || l == layer) && (matrix < 0 || i == matrix) && cols &&
                cols % c->block == 0)
                st = lm_plan_format(d->plan, lm_matrix_role(i), l, q->id, c->dtype, e);
        }
    return st;
}

enum lm_status lm_quantize_decode(struct lm_session *s, const union lm_value *v,
                                  struct lm_plan *plan, struct lm_err *e)
{
    struct decoding d = { s, v + s->format_slot, plan };
    return each(s, set_format, &d, e);
}

/* ---- exports -------------------------------------------------------------------- */

enum lm_status lm_quantize_export(const struct lm_plan *plan, const char *format,
                                  uint64_t features, uint32_t dtype, uint32_t **own,
                                  struct lm_err *e)
{
    enum lm_status st = lm_plan_dtypes(plan, own, e);
    if (st || !*own || (features & LM_SHAPE_FORMATS))
        return st;
    lm_log(LM_WARN, "format %s has no place for the plan's number formats; quantized "
           "weights are written as %s, with the values they have", format,
           lm_codec(dtype)->name);
    lm_release(*own);
    *own = NULL;
    return LM_OK;
}
