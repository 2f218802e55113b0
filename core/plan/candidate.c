/* SPDX-License-Identifier: Apache-2.0 */
/* candidate.c -- which parts a plan needs, which of them are at hand, and how those
 * that are not are built.
 *
 * A batch of candidates goes in three steps.  On the main thread every block
 * of every plan is looked up by content key; missing parts become jobs, sorted
 * by rack.  Racks are then filled and their parts built in parallel (build.c),
 * behind them the narrowed parts, which are made from these (narrow.c), and the
 * quantized ones, made from either (quantize.c).
 * Last, candidates are put together, and those with a failed part are let go.
 *
 * A key is a hash of all that a part's weights and bias follow from: model,
 * block, kept members in their order, repair with its options, statistics.  */
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "plan/part.h"

/* ---- what a plan needs --------------------------------------------------------- */

static const struct lm_keep *keep_of(const struct lm_plan *p, enum lm_segment_kind kind,
                                     int32_t layer)
{
    return kind == LM_SEG_MLP ? &p->layer[layer].ffn : &p->layer[layer].kv;
}

/* Members in score order, the kept ones first; *rows: how many of them a rack
 * should hold (all when the kept ones are the best).                        */
static enum lm_status order_members(struct lm_workshop *w, enum lm_segment_kind kind,
                                    int32_t layer, const struct lm_keep *keep,
                                    int32_t *member, int32_t *rows, struct lm_err *e)
{
    uint32_t site = kind == LM_SEG_MLP ? LM_SITE_FFN_CHANNEL : LM_SITE_KV_GROUP;
    const int32_t *order = NULL;
    int64_t n = 0;
    int32_t at = 0, lead = 0;
    struct lm_err why = { LM_OK, "" };

    /* Without a scorer explicit sets still work, in natural order. */
    if (w->args.space && lm_space_order(w->args.space, site, layer, &order, &n, &why)) {
        if (why.code == LM_ENOMEM || why.code == LM_ECANCELED)
            return lm_fail(e, why.code, "%s", why.text);
        order = NULL;
    }
    if (n != keep->n)
        order = NULL;
    for (int pass = 1; pass >= 0; pass--)
        for (int32_t i = 0; i < keep->n; i++) {
            int32_t m = order ? order[i] : i;

            if (lm_keep_has(keep, m) == (pass == 1))
                member[at++] = m;
        }
    while (lead < keep->kept && member[lead] == (order ? order[lead] : lead))
        lead++;
    *rows = lead == keep->kept ? keep->n : keep->kept;
    return LM_OK;
}

static uint64_t block_key(const struct lm_workshop *w, enum lm_segment_kind kind,
                          int32_t layer, uint64_t what)
{
    return lm_hash_u64((uint64_t)(uint32_t)layer << 8 | kind,
                       lm_hash_u64(w->model, what));
}

/* Takes over member [n], behind which are the heads [rows * each]. */
static struct lm_rack *find_rack(struct lm_workshop *w, enum lm_segment_kind kind,
                                 int32_t layer, int32_t n, int32_t rows, int32_t each,
                                 int32_t *member)
{
    uint64_t key = lm_hash(member, (size_t)rows * sizeof *member,
                           block_key(w, kind, layer, 0x7261636b));      /* "rack" */
    struct lm_rack *k;

    if (each)
        key = lm_hash(member + n, (size_t)rows * (size_t)each * sizeof *member, key);
    for (k = w->racks; k; k = k->next)
        if (k->key == key)
            break;
    if (k || !(k = lm_alloc(sizeof *k, "rack"))) {
        lm_release(member);
    } else {
        *k = (struct lm_rack){ .next = w->racks, .key = key, .kind = kind,
                               .layer = layer, .n = n, .rows = rows, .member = member,
                               .each = each, .head = each ? member + n : NULL };
        w->racks = k;
    }
    if (k)
        k->used = ++w->clock;
    return k;
}

/* ---- a batch ------------------------------------------------------------------- */

struct batch {
    struct lm_workshop *w;
    struct lm_part_job **job;           /* [n], in order of demand */
    struct lm_part_job **work;          /* [n_work] first job of each rack */
    size_t n, cap, n_work, first;       /* first: of the work that is being done */
};

/* On failure the part, which could never be built, is gone. */
static enum lm_status add_job(struct batch *b, struct lm_part **p,
                              const struct lm_repair_choice *r, struct lm_err *e)
{
    struct lm_part_job *j = lm_alloc(sizeof *j, "job");

    if (j && b->n == b->cap) {
        size_t cap = b->cap ? 2 * b->cap : 128;
        void *more = lm_resize(b->job, cap * sizeof *b->job);

        if (more) {
            b->job = more;
            b->cap = cap;
        } else {
            lm_release(j);
            j = NULL;
        }
    }
    if (!j) {
        lm_part_free(b->w, *p);
        *p = NULL;
        return lm_fail_memory(e, sizeof *j, "a candidate");
    }
    j->part = *p;
    j->repair = *r;
    b->job[b->n++] = j;
    return LM_OK;
}

/* Query heads that stay, group by group in the order of `member`; returns how many
 * of each group, 0 where all do.                                             */
static int32_t list_heads(const struct lm_plan *p, enum lm_segment_kind kind,
                          int32_t layer, const int32_t *member, int32_t *head)
{
    const struct lm_layer_plan *l = &p->layer[layer];
    int32_t rep, at = 0;

    if (kind != LM_SEG_ATTN || !l->head.bits)
        return 0;
    rep = l->head.n / l->kv.n;
    for (int32_t i = 0; i < l->kv.kept; i++)
        for (int32_t j = 0; j < rep; j++)
            if (lm_keep_has(&l->head, member[i] * rep + j))
                head[at++] = member[i] * rep + j;
    return lm_plan_heads_each(p, layer);
}

/* The part for a block that keeps less than everything. */
static enum lm_status want_cut(struct batch *b, const struct lm_plan *plan,
                               enum lm_segment_kind kind, int32_t layer,
                               const struct lm_repair_choice *r, struct lm_part **out,
                               struct lm_err *e)
{
    struct lm_workshop *w = b->w;
    const struct lm_keep *keep = keep_of(plan, kind, layer);
    int32_t heads = kind == LM_SEG_ATTN ? plan->layer[layer].head.n : 0;
    size_t n = (size_t)keep->n + (size_t)heads;
    int32_t *member = lm_alloc_array(n, sizeof *member, "order");
    struct lm_rack *rack;
    enum lm_status st;
    int32_t rows, each;
    uint64_t key;

    if (!member)
        return lm_fail_memory(e, n * sizeof *member, "an order");
    if ((st = order_members(w, kind, layer, keep, member, &rows, e))) {
        lm_release(member);
        return st;
    }
    each = list_heads(plan, kind, layer, member, member + keep->n);
    rows = each ? keep->kept : rows;
    key = block_key(w, kind, layer, r->ops ? lm_hash_u64(w->stats, r->key) : 0);
    key = lm_hash(member, (size_t)keep->kept * sizeof *member, key);
    if (each)
        key = lm_hash(member + keep->n, (size_t)rows * (size_t)each * sizeof *member,
                      key);
    if ((*out = lm_part_find(w, key))) {
        lm_release(member);
        (*out)->rack->used = ++w->clock;
        w->reused++;
        return LM_OK;
    }
    rack = find_rack(w, kind, layer, keep->n, rows, each, member);
    if (!rack || !(*out = lm_part_add(w, key, kind, layer, keep->kept, rack)))
        return lm_fail_memory(e, sizeof **out, "a candidate");
    return add_job(b, out, r, e);
}

static enum lm_status want_dense(struct batch *b, enum lm_segment_kind kind,
                                 int32_t layer, struct lm_part **out, struct lm_err *e)
{
    static const struct lm_repair_choice none;
    uint64_t key = block_key(b->w, kind, layer, 0x64656e7365);          /* "dense" */

    if ((*out = lm_part_find(b->w, key))) {
        b->w->reused++;
        return LM_OK;
    }
    if (!(*out = lm_part_add(b->w, key, kind, layer, 0, NULL)))
        return lm_fail_memory(e, sizeof **out, "a candidate");
    return add_job(b, out, &none, e);
}

/* *p becomes the part with that key, which is made from it; *made: a new one, to be
 * filled in and built, else NULL.                                           */
static enum lm_status want_made(struct batch *b, uint64_t key, struct lm_part **p,
                                struct lm_part **made, struct lm_err *e)
{
    struct lm_part *base = *p;

    *made = NULL;
    base->used = ++b->w->clock;
    if ((*p = lm_part_find(b->w, key))) {
        b->w->reused++;
        return LM_OK;
    }
    if (!(*p = lm_part_add(b->w, key, base->kind, base->layer, base->kept, NULL)))
        return lm_fail_memory(e, sizeof **p, "a candidate");
    (*p)->base = base;
    base->refs++;
    *made = *p;
    return add_job(b, p, &(const struct lm_repair_choice){ .ops = NULL }, e);
}

static enum lm_status want_narrow(struct batch *b, const struct lm_plan *plan,
                                  const struct lm_repair_choice *r, struct lm_part **p,
                                  struct lm_err *e)
{
    struct lm_basis *basis;
    struct lm_narrow narrow;
    struct lm_part *made;
    uint64_t key;
    enum lm_status st = lm_basis_find(b->w, plan, r, &basis, e);

    if (st)
        return st;
    lm_narrow_choose(plan, *p, basis, &narrow, &key);
    st = want_made(b, key, p, &made, e);
    if (!st && made)
        made->narrow = narrow;
    return st;
}

/* *p is the block as it is cut; where the plan gives one of its matrices a number
 * format, it becomes the part that has it.                                  */
static enum lm_status want_formats(struct batch *b, const struct lm_plan *plan,
                                   struct lm_part **p, struct lm_err *e)
{
    struct lm_quant_choice quant[4];
    struct lm_part *made;
    uint64_t key = (*p)->key;
    bool any;
    enum lm_status st = lm_quant_choose(&b->w->args, plan, (*p)->kind, (*p)->layer, quant,
                                        &key, &any, e);

    if (st || !any)
        return st;
    st = want_made(b, key, p, &made, e);
    if (!st && made)
        memcpy(made->quant, quant, sizeof quant);
    return st;
}

static enum lm_status want(struct batch *b, struct lm_candidate *c,
                           enum lm_segment_kind kind, int32_t layer,
                           const struct lm_repair_choice *r, struct lm_err *e)
{
    bool block = kind == LM_SEG_ATTN || kind == LM_SEG_MLP;
    bool cut = block && (keep_of(c->plan, kind, layer)->bits
                         || (kind == LM_SEG_ATTN && c->plan->layer[layer].head.bits));
    struct lm_part *p = NULL;
    enum lm_status st = cut ? want_cut(b, c->plan, kind, layer, r, &p, e)
                            : want_dense(b, kind, layer, &p, e);

    if (!st && c->plan->hidden.bits)
        st = want_narrow(b, c->plan, r, &p, e);
    if (!st && block)
        st = want_formats(b, c->plan, &p, e);
    if (st)
        return st;
    p->used = ++b->w->clock;
    p->refs++;
    c->part[c->net.n++] = p;
    return LM_OK;
}

static enum lm_status want_plan(struct batch *b, struct lm_candidate *c, struct lm_err *e)
{
    const struct lm_plan *p = c->plan;
    size_t most = 2 * (size_t)p->arch->n_layer + 2;
    struct lm_repair_choice r = { .ops = NULL };
    enum lm_status st = LM_OK;

    if (b->w->args.repair && (st = b->w->args.repair(b->w->args.repair_ctx, p, &r, e)))
        return st;
    r.key = r.ops ? lm_hash_u64(r.key, 1) : 0;
    c->net.seg = lm_alloc_array(most, sizeof *c->net.seg + sizeof *c->part, "candidate");
    if (!c->net.seg)
        return lm_fail_memory(e, most * sizeof *c->part, "a candidate");
    c->part = (struct lm_part **)(c->net.seg + most);
    st = want(b, c, LM_SEG_EMBED, -1, &r, e);
    for (int32_t i = 0; !st && i < p->arch->n_layer; i++) {
        if (!p->layer[i].drop_attn)
            st = want(b, c, LM_SEG_ATTN, i, &r, e);
        if (!st && !p->layer[i].drop_mlp)
            st = want(b, c, LM_SEG_MLP, i, &r, e);
    }
    return st ? st : want(b, c, LM_SEG_HEAD, -1, &r, e);
}

/* Chains the jobs of each rack; a dense part is work of its own.  Parts made from
 * others come later.                                                        */
static enum lm_status sort_work(struct batch *b, struct lm_err *e)
{
    b->work = lm_alloc_array(b->n ? b->n : 1, sizeof *b->work, "jobs");
    if (!b->work)
        return lm_fail_memory(e, b->n * sizeof *b->work, "candidates");
    for (size_t i = 0; i < b->n; i++) {
        struct lm_rack *k = b->job[i]->part->rack;
        size_t g = k ? 0 : b->n_work;

        if (b->job[i]->part->base)
            continue;
        while (g < b->n_work && b->work[g]->part->rack != k)
            g++;
        if (g == b->n_work) {
            b->work[b->n_work++] = b->job[i];
        } else {
            b->job[i]->next = b->work[g]->next;
            b->work[g]->next = b->job[i];
        }
    }
    return LM_OK;
}

static void build_one(void *ctx, int64_t i, uint32_t worker)
{
    struct batch *b = ctx;
    struct lm_part_job *j = b->work[b->first + (size_t)i];

    (void)worker;
    if (j->part->narrow.basis)
        lm_part_narrow(&b->w->args, j);
    else if (j->part->base)
        lm_part_quantize(&b->w->args, j);
    else
        lm_parts_build(&b->w->args, j->part->rack, j);
    lm_progress_alive();
}

/* Its decoded weights, the consumer once more, and what least squares needs: two Gram
 * matrices and three consumers in double.                                        */
double lm_repair_scratch(const struct lm_arch *a)
{
    double most = 1;

    for (int32_t i = 0; i < a->n_layer; i++) {
        const struct lm_layer_shape *l = &a->layer[i];
        double q = (double)l->n_head * a->head_dim, ff = l->n_ff;
        double kv = (double)l->n_kv * a->head_dim, d = a->hidden;
        double attn = 4 * d * (3 * q + 2 * kv) + 8 * (2 * q * q + 3 * d * q);
        double mlp = 4 * d * 4 * ff + 8 * (2 * ff * ff + 3 * d * ff);

        most = attn > most ? attn : most;
        most = mlp > most ? mlp : most;
    }
    return most;
}

/* The first n of b->work, as many at a time as there is memory for. */
static enum lm_status build_work(struct batch *b, size_t n)
{
    const struct lm_workshop_args *a = &b->w->args;
    size_t most = n;
    enum lm_status st = LM_OK;

    if (lm_engine_streams(a->engine)) {
        double fit = (double)a->scratch / lm_repair_scratch(lm_model_arch(a->model));

        most = fit < 1 ? 1 : fit < (double)n ? (size_t)fit : n;
    }
    b->first = 0;
    do {
        size_t left = n - b->first;

        st = lm_parallel((int64_t)(left < most ? left : most), build_one, b);
        b->first += most;
    } while (b->first < n && !st);
    return st;
}

static void count_racks(struct batch *b)
{
    for (size_t i = 0; i < b->n_work; i++) {
        struct lm_rack *k = b->work[i]->part->rack;

        if (k && k->memory.v && !k->counted) {
            k->counted = true;
            b->w->bytes += k->memory.n;
        }
    }
}

/* Adds up the sizes that workers left; fails when memory or disk ran out, the device was
 * lost, or the rest was not begun.                                          */
static enum lm_status take_stock(struct batch *b, struct lm_err *e)
{
    enum lm_status st = LM_OK;

    for (size_t i = 0; i < b->n; i++) {
        struct lm_part_job *j = b->job[i];

        b->w->bytes += j->part->consumer.n;
        b->w->built += j->part->seg != NULL;
        if (!st && (j->err.code == LM_ENOMEM || j->err.code == LM_ECANCELED
                    || j->err.code == LM_EIO || j->err.code == LM_EUNAVAILABLE))
            st = lm_fail(e, j->err.code, "%s", j->err.text);
        if (!st && !j->part->seg && !j->err.code)
            st = lm_fail(e, LM_ECANCELED, "canceled");
    }
    return st;
}

static const struct lm_err *why_failed(const struct batch *b, const struct lm_part *p)
{
    for (size_t i = 0; i < b->n; i++)
        if (b->job[i]->part == p)
            return &b->job[i]->err;
    return NULL;
}

/* What is made from others so many times over; b->work is used again. */
static enum lm_status build_made(struct batch *b, int depth)
{
    size_t n = 0;

    for (size_t i = 0; i < b->n; i++) {
        struct lm_part *base = b->job[i]->part->base;
        const struct lm_err *why;

        if (lm_part_depth(b->job[i]->part) != depth)
            continue;
        if (base->seg)
            b->work[n++] = b->job[i];
        else if ((why = why_failed(b, base)) && why->code)
            b->job[i]->err = *why;
    }
    return build_work(b, n);
}

static void let_go(struct lm_candidate *c)
{
    for (size_t i = 0; i < c->net.n; i++)
        c->part[i]->refs--;
    lm_release(c->net.seg);
    c->net = (struct lm_network){ .seg = NULL };
    c->part = NULL;
}

static void put_together(struct batch *b, struct lm_candidate *c, struct lm_err *err)
{
    for (size_t i = 0; i < c->net.n; i++) {
        if (!(c->net.seg[i] = c->part[i]->seg)) {
            *err = *why_failed(b, c->part[i]);
            let_go(c);
            return;
        }
    }
}

static void close_batch(struct batch *b)
{
    for (size_t i = b->n; i-- > 0;) {   /* a base comes before what is made from it */
        if (!b->job[i]->part->seg)      /* nobody holds a failed part */
            lm_part_free(b->w, b->job[i]->part);
        lm_release(b->job[i]);
    }
    lm_release(b->job);
    lm_release(b->work);
}

static enum lm_status open_all(struct lm_workshop *w, struct lm_plan *const *plan,
                               size_t n, struct lm_candidate *out, struct lm_err *err,
                               struct lm_err *e)
{
    struct batch b = { .w = w };
    enum lm_status st = LM_OK;

    for (size_t i = 0; i < n; i++) {
        out[i] = (struct lm_candidate){ .plan = plan[i] };
        err[i].code = LM_OK;
        err[i].text[0] = '\0';
    }
    for (size_t i = 0; !st && i < n; i++) {
        enum lm_status one = want_plan(&b, &out[i], &err[i]);

        if (one)
            let_go(&out[i]);
        if (one == LM_ENOMEM || one == LM_ECANCELED)
            st = lm_fail(e, one, "%s", err[i].text);
    }
    if (!st)
        st = sort_work(&b, e);
    if (!st && build_work(&b, b.n_work))
        st = lm_fail(e, LM_ECANCELED, "canceled");
    if (b.work)
        count_racks(&b);
    if (!st)
        lm_bases_make(w);
    for (int depth = 1; !st && depth <= 2; depth++)
        if (build_made(&b, depth))
            st = lm_fail(e, LM_ECANCELED, "canceled");
    if (b.work) {
        enum lm_status stock = take_stock(&b, st ? NULL : e);

        st = st ? st : stock;
    }
    for (size_t i = 0; i < n; i++) {
        if (st)
            let_go(&out[i]);
        else if (out[i].net.seg)
            put_together(&b, &out[i], &err[i]);
    }
    close_batch(&b);
    lm_workshop_shrink(w);
    return st;
}

/* Those that the device had no room for, once more: it may have held what nobody needs
 * now.                                                                      */
static enum lm_status open_again(struct lm_workshop *w, struct lm_plan *const *plan,
                                 size_t n, struct lm_candidate *out, struct lm_err *err,
                                 uint64_t before, struct lm_err *e)
{
    enum lm_status st = LM_OK;
    bool dropped = false;

    for (size_t i = 0; i < n && !st; i++) {
        if (err[i].code != LM_EINFEASIBLE)
            continue;
        if (!dropped && !lm_workshop_drop(w, before))
            return LM_OK;
        dropped = true;
        st = open_all(w, &plan[i], 1, &out[i], &err[i], e);
    }
    for (size_t i = 0; i < n && st; i++)
        lm_candidate_close(w, &out[i]);
    return st;
}

/* A full disk may hold what nobody needs now. */
enum lm_status lm_candidates_open(struct lm_workshop *w, struct lm_plan *const *plan,
                                  size_t n, struct lm_candidate *out,
                                  struct lm_err *err, struct lm_err *e)
{
    uint64_t before = w->clock;
    enum lm_status st = open_all(w, plan, n, out, err, e);

    if (st == LM_EIO && lm_workshop_spare(w, before)) {
        *e = (struct lm_err){ .code = LM_OK };
        st = open_all(w, plan, n, out, err, e);
    }
    return st ? st : open_again(w, plan, n, out, err, before, e);
}

void lm_candidate_close(struct lm_workshop *w, struct lm_candidate *c)
{
    if (!c->net.seg)
        return;
    let_go(c);
    lm_workshop_shrink(w);
}

/* ---- what candidates have ---------------------------------------------------------- */

uint64_t lm_candidate_features(const struct lm_candidate *c)
{
    uint64_t f = lm_plan_features(c->plan);

    for (size_t i = 0; i < c->net.n; i++)
        if (c->part[i]->bias)
            f |= c->part[i]->kind == LM_SEG_MLP ? LM_SHAPE_MLP_BIAS : LM_SHAPE_ATTN_BIAS;
    for (size_t i = 1; i + 1 < c->net.n; i++)
        if (lm_segment_spec(c->net.seg[i])->turn.w)
            f |= LM_SHAPE_TURNED;
    return f;
}

void lm_candidate_cost(const struct lm_candidate *c, uint32_t dtype, struct lm_cost *out)
{
    const struct lm_arch *a = c->plan->arch;
    const struct lm_basis *basis = c->part[c->net.n - 1]->narrow.basis;
    int64_t n = 0;

    lm_plan_cost(c->plan, dtype, out);
    if (basis && !basis->kept && a->tied)       /* directions are in the head */
        lm_table_cost(out, dtype, a->vocab, c->plan->hidden.kept);
    for (size_t i = 0; i < c->net.n; i++) {
        const struct lm_segment_spec *s = lm_segment_spec(c->net.seg[i]);
        const struct lm_mat *m[] = { &s->q, &s->k, &s->v, &s->o, &s->gate, &s->up,
                                     &s->down };

        for (size_t k = 0; k < sizeof m / sizeof *m; k++)
            n += m[k]->bias ? m[k]->rows : 0;
        n += s->q_norm ? a->head_dim : 0;
        n += s->k_norm ? a->head_dim : 0;
        if (s->turn.w && c->part[i]->layer >= 0)
            lm_turn_cost(out, dtype, s->hidden);
    }
    out->params += n;
    out->bytes += n * (int64_t)sizeof(float);
}
