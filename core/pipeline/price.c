/* SPDX-License-Identifier: Apache-2.0 */
/* price.c -- see price.h.
 *
 * A genome is a list of blocks with their multiply-adds for one token; blocks are the
 * same where their plans are.  In a batch all blocks of all genomes form a tree from
 * the embedding on, in which every common prefix is one path (study/evaluate.c walks
 * it).  A genome adds what lies behind its longest prefix in common with one of those
 * before it.  Nothing is built or run for that.                                      */
#include "pipeline/price.h"

#include "base/hash.h"
#include "base/mem.h"

struct block { uint64_t key; double macs; };
struct list { struct block *block; size_t n; };     /* n 0: costs nothing */

static uint64_t add_keep(const struct lm_keep *k, uint64_t key)
{
    return k->bits ? lm_hash(k->bits, ((size_t)k->n + 63) / 64 * sizeof *k->bits, key)
                   : lm_hash_u64(0, key);
}

uint64_t lm_price_block(const struct lm_plan *p, int32_t layer, bool mlp, bool formats)
{
    const struct lm_layer_plan *l = &p->layer[layer];
    bool cut = mlp ? l->ffn.bits != NULL : l->kv.bits || l->head.bits;
    uint64_t key = 2 * (uint64_t)layer + mlp + 1;

    key = mlp ? add_keep(&l->ffn, key) : add_keep(&l->head, add_keep(&l->kv, key));
    key = p->hidden.bits ? add_keep(&p->hidden, key) : key;
    cut |= p->hidden.bits != NULL;
    for (size_t i = 0; cut && i < p->n_setting; i++)    /* of the repair */
        key = lm_hash_u64(p->setting[i].value.bits, lm_hash_str(p->setting[i].name, key));
    for (int i = 0; formats && i < LM_N_MATRICES; i++) {
        const struct lm_plan_format *f = lm_plan_format_of(p, layer, i);

        if (f && (lm_matrix_role(i) > LM_W_O) == mlp)
            key = lm_hash_str(f->name, lm_hash_u64((uint64_t)i, key));
    }
    return key;
}

/* d: width of the residual stream */
static double attn_macs(const struct lm_arch *a, int32_t d,
                        const struct lm_layer_shape *l)
{
    return 2.0 * d * a->head_dim * (l->n_head + l->n_kv);
}

static double mlp_macs(int32_t d, const struct lm_layer_shape *l)
{
    return 3.0 * d * l->n_ff;
}

/* Where the stream is narrower, its states are brought to the full width and read by
 * the table of the dense model; one token's embedding is brought down.          */
static double head_macs(const struct lm_arch *a, int32_t d)
{
    return (double)a->hidden * (a->vocab + (d < a->hidden ? 2.0 * d : 0));
}

/* out: room for 2 n_layer + 1 */
static void list_blocks(const struct lm_plan *p, struct list *out)
{
    const struct lm_arch *a = p->arch;
    struct block *b = out->block;

    for (int32_t i = 0; i < a->n_layer; i++) {
        struct lm_layer_shape shape = lm_plan_shape(p, i);

        if (!p->layer[i].drop_attn)
            *b++ = (struct block){ lm_price_block(p, i, false, true),
                                   attn_macs(a, p->hidden.kept, &shape) };
        if (!p->layer[i].drop_mlp)
            *b++ = (struct block){ lm_price_block(p, i, true, true),
                                   mlp_macs(p->hidden.kept, &shape) };
    }
    *b++ = (struct block){ 0, head_macs(a, p->hidden.kept) };
    out->n = (size_t)(b - out->block);
}

static bool is_measured(const struct lm_study *v, uint64_t plan)
{
    for (int64_t i = 0; i < v->n_trial; i++)
        if (v->trial[i].plan == plan && v->trial[i].status == LM_OK &&
            (v->trial[i].fidelity == 1 || v->trial[i].told))
            return true;
    return false;
}

static enum lm_status find_blocks(const struct lm_pricing *p, const union lm_value *value,
                                  struct list *out, struct lm_err *e)
{
    struct lm_plan *plan = NULL;
    struct lm_err why = { 0 };
    enum lm_status st = lm_genome_check(p->s->bench.space, value, e);
    if (st)
        return st;
    st = lm_session_decode(p->s, value, &plan, &why);
    if (st == LM_EINFEASIBLE)
        return LM_OK;
    if (st) {
        *e = why;
        return st;
    }
    if (!is_measured(p->view, lm_plan_hash(plan)))
        list_blocks(plan, out);
    lm_plan_free(plan);
    return LM_OK;
}

/* Multiply-adds of a behind what it has in common with one of the n lists. */
static double added(const struct list *a, const struct list *before, size_t n)
{
    size_t common = 0;
    double macs = 0;

    for (size_t j = 0; j < n; j++) {
        size_t k = 0;
        while (k < a->n && k < before[j].n && a->block[k].key == before[j].block[k].key)
            k++;
        common = k > common ? k : common;
    }
    for (size_t k = common; k < a->n; k++)
        macs += a->block[k].macs;
    return macs;
}

enum lm_status lm_price_genomes(void *ctx, const union lm_value *const *value, size_t n,
                                double *share, struct lm_err *e)
{
    const struct lm_pricing *p = ctx;
    const struct lm_arch *a = lm_model_arch(p->s->bench.model);
    size_t most = 2 * (size_t)a->n_layer + 1;
    struct list *list = lm_alloc_array(n + 1, sizeof *list, "prices");
    struct block *block = lm_alloc_array(n * most + 1, sizeof *block, "prices");
    enum lm_status st = list && block ? LM_OK : lm_fail_memory(e, n * most * 16,
                                                               "prices");
    double dense = head_macs(a, a->hidden);

    for (int32_t i = 0; i < a->n_layer; i++)
        dense += attn_macs(a, a->hidden, &a->layer[i])
               + mlp_macs(a->hidden, &a->layer[i]);
    for (size_t i = 0; !st && i < n; i++) {
        list[i].block = block + i * most;
        if (!(st = find_blocks(p, value[i], &list[i], e)))
            share[i] = added(&list[i], list, i) / dense;
    }
    lm_release(list);
    lm_release(block);
    return st;
}

enum lm_status lm_weigh_genome(void *ctx, const union lm_value *value,
                               struct lm_cost *out, struct lm_err *e)
{
    const struct lm_pricing *p = ctx;
    struct lm_plan *plan;
    enum lm_status st = lm_genome_check(p->s->bench.space, value, e);

    if (!st && !(st = lm_session_decode(p->s, value, &plan, e))) {
        lm_plan_cost(plan, LM_F32, out);
        lm_plan_free(plan);
    }
    return st;
}
