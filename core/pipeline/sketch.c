/* SPDX-License-Identifier: Apache-2.0 */
/* sketch.c -- what the genomes of a run will cost, from genomes drawn at random: plans
 * of the right shapes, with no scores, nothing built and nothing run.  A strategy that
 * learns will ask for others, so these are estimates.                             */
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "pipeline/estimate.h"
#include "pipeline/price.h"

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

static void draw_one(const struct draw *d, uint64_t index, union lm_value *v)
{
    struct lm_rng r = lm_rng((uint64_t)d->s->pipeline->options->seed, "estimate", index);
    size_t n;
    const struct lm_gene *const *gene = lm_space_genes(d->s->bench.space, &n);

    lm_genome_initial(d->s->bench.space, v);
    for (size_t g = 0; g < n; g++) {
        int64_t count = lm_gene_count(gene[g]);

        if (count > 1)
            v[gene[g]->slot] = lm_gene_value(gene[g],
                                             (int64_t)lm_rng_below(&r, (uint64_t)count));
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
static enum lm_status add_prices(const struct draw *d, double *share, struct lm_err *e)
{
    struct lm_study *none = lm_alloc(sizeof *none, "estimate");
    double *price = lm_alloc_array(d->n + 1, sizeof *price, "estimate"), sum = 0;
    struct lm_pricing p = { d->s, none };
    size_t batch = (size_t)d->s->pipeline->options->batch;
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

/* ---- repair ------------------------------------------------------------------------ */
struct tally {
    const struct lm_arch *a;
    bool squares;                       /* the repair wants Gram matrices */
    int64_t tokens;
    struct lm_sketch *out;
};

/* A site of n x k, of which all widths that were drawn have so many columns together,
 * and so many of their squares; rack: bytes of the producers.                      */
static void add_site(const struct tally *t, double k, double rack, double columns,
                     double squares)
{
    double n = t->a->hidden;

    t->out->cut += 1;
    t->out->derived += rack + 4 * n * columns;
    if (!t->squares)
        return;
    t->out->flops += k * k * k / 3 + 2 * n * k * k + 2 * n * squares;
    if ((double)t->tokens < 2 * k)
        t->out->rows += (double)t->tokens * k * k / 2;
}

/* kind 0: attention, by groups; 1: MLP. */
static void tally_site(const struct tally *t, const struct draw *d, int32_t layer,
                       int kind)
{
    const struct lm_layer_shape *l = &t->a->layer[layer];
    double width = kind ? 1 : l->n_kv ? (double)l->n_head * t->a->head_dim / l->n_kv : 0;
    double k = kind ? l->n_ff : (double)l->n_head * t->a->head_dim;
    double rack = 4.0 * t->a->hidden
        * (kind ? 2.0 * l->n_ff : (l->n_head + 2.0 * l->n_kv) * t->a->head_dim);
    double columns = 0, squares = 0;

    for (size_t i = 0; i < d->n; i++) {
        const struct lm_layer_plan *p = d->plan[i] ? &d->plan[i]->layer[layer] : NULL;
        const struct lm_keep *keep = !p ? NULL : kind ? &p->ffn : &p->kv;
        bool known = !keep || !keep->bits || (kind ? p->drop_mlp : p->drop_attn);

        for (size_t j = 0; j < i && !known; j++) {
            const struct lm_layer_plan *q = d->plan[j] ? &d->plan[j]->layer[layer] : NULL;
            const struct lm_keep *other = !q ? NULL : kind ? &q->ffn : &q->kv;

            known = other && other->bits && other->kept == keep->kept;
        }
        if (known)
            continue;
        columns += keep->kept * width;
        squares += keep->kept * width * keep->kept * width;
    }
    if (columns > 0)
        add_site(t, k, rack, columns, squares);
}

enum lm_status lm_sketch_genomes(struct lm_session *s, size_t trials, int64_t tokens,
                                 struct lm_sketch *out, struct lm_err *e)
{
    const struct lm_repair *ops = s->pipeline->repair.plugin->ops;
    struct tally t = { .a = lm_model_arch(s->bench.model), .tokens = tokens, .out = out };
    struct draw d;
    enum lm_status st = draw_open(&d, s, trials, e);

    *out = (struct lm_sketch){ 0 };
    if (st)
        return st;
    t.squares = ops && ops->prepare && (ops->needs & LM_BIT(LM_STAT_GRAM));
    for (int32_t i = 0; i < t.a->n_layer; i++)
        for (int kind = 0; kind < 2; kind++)
            tally_site(&t, &d, i, kind);
    st = add_prices(&d, &out->share, e);
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
