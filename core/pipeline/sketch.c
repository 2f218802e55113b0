/* SPDX-License-Identifier: Apache-2.0 */
/* sketch.c -- what the genomes of a run will cost, from genomes drawn at random: plans
 * of the right shapes, with no scores, nothing built and nothing run.  A strategy that
 * learns will ask for others, so these are estimates.                             */
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"
#include "model/codec.h"
#include "pipeline/estimate.h"
#include "pipeline/finish.h"
#include "pipeline/negotiate.h"
#include "pipeline/price.h"
#include "pipeline/refine.h"

enum { MOST = 128 };                    /* genomes that are drawn */

struct draw {
    struct lm_session *s;
    union lm_value *value;              /* [n][slots] */
    const union lm_value **row;         /* [n] */
    struct lm_plan **plan;              /* [n]; NULL: infeasible */
    size_t n;
};

static void draw_close(struct draw *d)
{
    for (size_t i = 0; d->plan && i < d->n; i++)
        lm_plan_free(d->plan[i]);
    lm_release(d->plan);
    lm_release(d->row);
    lm_release(d->value);
}

/* A size, and so many members. */
static void draw_subset(const struct lm_gene *g, struct lm_rng *r, union lm_value *v)
{
    uint64_t least = (uint64_t)g->min, most = (uint64_t)g->max;
    uint64_t left = least + lm_rng_below(r, most - least + 1);

    for (uint32_t i = 0; i < g->slots; i++)
        v[i].bits = 0;
    for (uint32_t i = 0; i < g->n; i++)
        if (lm_rng_below(r, g->n - i) < left) {
            v[i / 64].bits |= UINT64_C(1) << (i % 64);
            left--;
        }
}

static void draw_one(const struct draw *d, uint64_t index, union lm_value *v)
{
    struct lm_rng r = lm_rng((uint64_t)d->s->pipeline->options->seed, "estimate", index);
    size_t n;
    const struct lm_gene *const *gene = lm_space_genes(d->s->bench.space, &n);

    lm_genome_initial(d->s->bench.space, v);
    for (size_t g = 0; g < n; g++) {
        int64_t count = lm_gene_count(gene[g]);
        union lm_value *at = v + gene[g]->slot;

        if (count > 1)
            *at = lm_gene_value(gene[g], (int64_t)lm_rng_below(&r, (uint64_t)count));
        else if (gene[g]->kind == LM_GENE_SUBSET)
            draw_subset(gene[g], &r, at);
        else if (gene[g]->kind == LM_GENE_REAL && count == 0)
            at->real = gene[g]->min
                + lm_rng_unit(&r) * (gene[g]->max - gene[g]->min);
    }
}

static enum lm_status draw_open(struct draw *d, struct lm_session *s, size_t trials,
                                struct lm_err *e)
{
    size_t slots = lm_space_slots(s->bench.space) + 1;
    size_t n = trials > MOST ? MOST : trials;
    enum lm_status st = LM_OK;

    *d = (struct draw){ .s = s };
    d->value = lm_alloc_array(n * slots + 1, sizeof *d->value, "estimate");
    d->row = lm_alloc_array(n + 1, sizeof(const union lm_value *), "estimate");
    d->plan = lm_alloc_array(n + 1, sizeof(struct lm_plan *), "estimate");
    if (!d->value || !d->row || !d->plan)
        st = lm_fail_memory(e, n * slots * sizeof *d->value, "an estimate");
    for (size_t i = 0; i < n && !st; i++) {
        struct lm_err why = { 0 };

        d->row[i] = d->value + i * slots;
        d->n = i + 1;
        draw_one(d, i, d->value + i * slots);
        st = lm_session_decode(s, d->row[i], &d->plan[i], &why);
        if (st == LM_EINFEASIBLE)
            st = LM_OK;
        else if (st)
            *e = why;
    }
    if (st)
        draw_close(d);
    return st;
}

/* ---- the search -------------------------------------------------------------------- */
/* Mean share of a genome, so many of them in a batch. */
static enum lm_status mean_price(const struct draw *d, size_t batch, double *share,
                                 struct lm_err *e)
{
    struct lm_study *none = lm_alloc(sizeof *none, "estimate");
    double *price = lm_alloc_array(d->n + 1, sizeof *price, "estimate"), sum = 0;
    struct lm_pricing p = { d->s, none };
    enum lm_status st = none && price ? LM_OK
                                      : lm_fail_memory(e, d->n * sizeof *price, "prices");

    for (size_t i = 0; i < d->n && !st; i += batch) {
        size_t n = d->n - i < batch ? d->n - i : batch;

        st = lm_price_genomes(&p, d->row + i, n, price + i, e);
    }
    for (size_t i = 0; i < d->n; i++)
        sum += st ? 0 : price[i];
    *share = d->n ? sum / (double)d->n : 0;
    lm_release(none);
    lm_release(price);
    return st;
}

static enum lm_status add_prices(const struct draw *d, struct lm_sketch *out,
                                 struct lm_err *e)
{
    const struct lm_run_options *o = d->s->pipeline->options;
    enum lm_status st = mean_price(d, o->share ? (size_t)o->batch : 1, &out->share, e);

    return st ? st : mean_price(d, o->share ? LM_FINALISTS_AT_ONCE : 1, &out->last, e);
}

/* ---- derived blocks ---------------------------------------------------------------- */
/* A block as the workshop makes it (plan/part.h); 0: there is no such thing. */
struct variant {
    uint64_t rack;                      /* the order it is cut in, */
    uint64_t repair;                    /* settings of its repair, */
    uint64_t cut;                       /* these and what is kept, */
    uint64_t narrow;                    /* where the stream is narrower */
    uint64_t quant;                     /* and its number formats */
    bool     built;                     /* nobody asked for this cut before */
};

struct tally {
    const struct draw *d;
    const struct lm_arch *a;
    const struct lm_engine *engine;
    bool squares, refits;               /* repair, or `refine` in its place, wants Gram
                                           matrices */
    int64_t tokens;
    double plans;                       /* that were drawn and can be built */
    struct lm_sketch *out;
};

static bool leads(const struct lm_keep *k)
{
    for (int32_t i = 0; i < k->kept; i++)
        if (!lm_keep_has(k, i))
            return false;
    return true;
}

static uint64_t hash_keep(const struct lm_keep *k, uint64_t key)
{
    return k->bits ? lm_hash(k->bits, ((size_t)k->n + 63) / 64 * sizeof *k->bits, key)
                   : key;
}

/* Scores are all the same here, so the best k of a site come first in its order. */
static uint64_t rack_of(const struct lm_layer_plan *l, bool mlp)
{
    const struct lm_keep *k = mlp ? &l->ffn : &l->kv;

    if (!mlp && l->head.bits)
        return hash_keep(&l->head, hash_keep(k, 2));
    return leads(k) ? 1 : hash_keep(k, 3);
}

static bool has_formats(const struct lm_plan *p, int32_t layer, bool mlp)
{
    for (int i = 0; i < LM_N_MATRICES; i++)
        if ((lm_matrix_role(i) > LM_W_O) == mlp && lm_plan_format_of(p, layer, i))
            return true;
    return false;
}

static struct variant look(const struct lm_plan *p, int32_t layer, bool mlp)
{
    const struct lm_layer_plan *l = p ? &p->layer[layer] : NULL;
    struct variant v = { .repair = 1 };

    if (!l || (mlp ? l->drop_mlp : l->drop_attn))
        return v;
    bool cut = mlp ? l->ffn.bits != NULL : l->kv.bits || l->head.bits;
    uint64_t key = cut || p->hidden.bits ? lm_price_block(p, layer, mlp, false) : 0;
    v.rack = cut ? rack_of(l, mlp) : 0;
    v.cut = cut ? key : 0;
    v.narrow = p->hidden.bits ? key : 0;
    for (size_t i = 0; i < p->n_setting; i++)
        v.repair = lm_hash_u64(p->setting[i].value.bits,
                               lm_hash_str(p->setting[i].name, v.repair));
    if (has_formats(p, layer, mlp))
        v.quant = lm_price_block(p, layer, mlp, true);
    return v;
}

static double columns_of(const struct lm_plan *p, int32_t layer, bool mlp)
{
    struct lm_layer_shape s = lm_plan_shape(p, layer);

    return mlp ? s.n_ff : (double)s.n_head * p->arch->head_dim;
}

/* The producers in one order: of all members, or of those that are kept. */
static double rack_bytes(const struct lm_plan *p, int32_t layer, bool mlp, bool all)
{
    struct lm_layer_shape s = all ? p->arch->layer[layer] : lm_plan_shape(p, layer);

    return 4.0 * p->arch->hidden
        * (mlp ? 2.0 * s.n_ff : (s.n_head + 2.0 * s.n_kv) * p->arch->head_dim);
}

/* What least squares of a block's cut takes; k: all columns, c: those that stay. */
static double solve_flops(double n, double k, double c)
{
    return 2 * n * c * c + k * k * k / 3 + 2 * n * k * k;
}

/* Cut blocks that genome i is the first to ask for.  Of a batch all widths in one order
 * are made from one factorization.                                              */
static void tally_cut(const struct tally *t, const struct variant *v, size_t i,
                      int32_t layer, bool mlp)
{
    const struct lm_plan *p = t->d->plan[i];
    size_t batch = (size_t)t->d->s->pipeline->options->batch;
    double n = t->a->hidden, c = columns_of(p, layer, mlp), k = mlp
        ? t->a->layer[layer].n_ff : (double)t->a->layer[layer].n_head * t->a->head_dim;
    bool rack = true, ready = false;

    for (size_t j = 0; j < i; j++) {
        rack &= v[j].rack != v[i].rack;
        ready |= v[j].built && j / batch == i / batch && v[j].rack == v[i].rack
            && v[j].repair == v[i].repair;
    }
    t->out->cut += rack;
    t->out->derived += 4 * n * c + (rack ? rack_bytes(p, layer, mlp, v[i].rack == 1) : 0);
    if (!t->squares)
        return;
    t->out->flops += ready ? 2 * n * c * c : solve_flops(n, k, c);
    if (!ready && (double)t->tokens < 2 * k)
        t->out->rows += (double)t->tokens * k * k / 2;
}

/* The matrices of a block that reads and writes a narrower stream. */
static double narrow_bytes(const struct lm_plan *p, int32_t layer, bool mlp)
{
    struct lm_layer_shape s = lm_plan_shape(p, layer);
    double members = mlp ? 3.0 * s.n_ff
                         : 2.0 * (s.n_head + s.n_kv) * (double)p->arch->head_dim;

    return 4 * p->hidden.kept * members;
}

static double rows_of(const struct lm_plan *p, int32_t layer, int i)
{
    struct lm_layer_shape s = lm_plan_shape(p, layer);

    switch (lm_matrix_role(i)) {
    case LM_W_Q: return (double)s.n_head * p->arch->head_dim;
    case LM_W_K:
    case LM_W_V: return (double)s.n_kv * p->arch->head_dim;
    case LM_W_O:
    case LM_W_DOWN: return p->arch->hidden;
    default: return s.n_ff;
    }
}

/* Matrices of a block with number formats: floats, and bytes where they are read;
 * anew: nobody has asked for this block before.                                 */
static void tally_formats(const struct tally *t, const struct lm_plan *p, int32_t layer,
                          bool mlp, bool anew)
{
    const struct lm_pipeline *pipeline = t->d->s->pipeline;

    for (int i = 0; i < LM_N_MATRICES; i++) {
        const struct lm_plan_format *f = lm_plan_format_of(p, layer, i);
        int64_t cols = lm_plan_columns(p, layer, i);
        double rows = rows_of(p, layer, i);

        if (!f || (lm_matrix_role(i) > LM_W_O) != mlp)
            continue;
        for (size_t q = 0; q < pipeline->n_quantize; q++) {
            if (strcmp(pipeline->quantize[q].id, f->name))
                continue;
            t->out->own[q] += rows * (double)cols / t->plans;
            t->out->encoded[q] += anew ? rows * (double)cols : 0;
        }
        if (anew)
            t->out->derived += rows * (4.0 * (double)cols
                + (lm_engine_reads(t->engine, f->dtype)
                   ? (double)lm_row_bytes(f->dtype, cols) : 0));
    }
}

/* Of the attention block of a layer, or of its MLP. */
static void tally_block(const struct tally *t, int32_t layer, bool mlp)
{
    struct variant v[MOST];
    double all = mlp ? t->a->layer[layer].n_ff
                     : (double)t->a->layer[layer].n_head * t->a->head_dim;

    for (size_t i = 0; i < t->d->n; i++) {
        bool anew = true, narrow;

        v[i] = look(t->d->plan[i], layer, mlp);
        narrow = v[i].narrow != 0;
        v[i].built = v[i].cut != 0;
        for (size_t j = 0; j < i; j++) {
            v[i].built &= v[j].cut != v[i].cut;
            anew &= v[j].quant != v[i].quant;
            narrow &= v[j].narrow != v[i].narrow;
        }
        if (v[i].built)
            tally_cut(t, v, i, layer, mlp);
        if (narrow)
            t->out->derived += narrow_bytes(t->d->plan[i], layer, mlp);
        if (v[i].cut && t->refits)
            t->out->refit += solve_flops(t->a->hidden, all, columns_of(t->d->plan[i],
                                         layer, mlp)) / t->plans;
        if (v[i].quant)
            tally_formats(t, t->d->plan[i], layer, mlp, anew);
    }
}

enum lm_status lm_sketch_genomes(struct lm_session *s, size_t trials, int64_t tokens,
                                 struct lm_sketch *out, struct lm_err *e)
{
    const struct lm_pipeline *p = s->pipeline;
    struct draw d;
    struct tally t = { .d = &d, .a = lm_model_arch(s->bench.model),
                       .engine = s->bench.engine, .tokens = tokens, .out = out };
    enum lm_status st = draw_open(&d, s, trials, e);

    *out = (struct lm_sketch){ 0 };
    if (st)
        return st;
    for (size_t i = 0; i < d.n; i++)
        t.plans += d.plan[i] != NULL;
    t.squares = lm_repair_needs(&p->repair) & LM_BIT(LM_STAT_GRAM);
    t.refits = lm_refine_replaces(p)
        && (lm_repair_needs(&p->refine) & LM_BIT(LM_STAT_GRAM));
    for (int32_t i = 0; i < t.a->n_layer; i++) {
        tally_block(&t, i, false);
        tally_block(&t, i, true);
    }
    st = add_prices(&d, out, e);
    draw_close(&d);
    return st;
}

/* ---- exports --------------------------------------------------------------------- */
enum lm_status lm_sketch_exports(struct lm_session *s, size_t trials, double *bytes,
                                 struct lm_err *e)
{
    struct draw d;
    enum lm_status st = draw_open(&d, s, trials, e);

    *bytes = 0;
    for (size_t x = 0; x < s->pipeline->n_export && !st; x++) {
        const struct lm_export_options *o = s->pipeline->export[x].o;
        double sum = 0, least = 0, n = 0;

        for (size_t i = 0; i < d.n; i++) {
            struct lm_cost cost = { .struct_size = sizeof cost };

            if (!d.plan[i])
                continue;
            lm_plan_cost(d.plan[i], (uint32_t)o->dtype + 1, &cost);
            least = n == 0 || (double)cost.bytes < least ? (double)cost.bytes : least;
            sum += (double)cost.bytes;
            n++;
        }
        *bytes += o->pick == LM_PICK_SMALLEST ? least : n > 0 ? sum / n : 0;
    }
    if (!st)
        draw_close(&d);
    return st;
}
