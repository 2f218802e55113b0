/* SPDX-License-Identifier: Apache-2.0 */
/* refine.c -- the cut blocks of a finished candidate, repaired once more in sequence.
 *
 * The repair of the search sees each block as it is in the dense model, so that blocks
 * are shared by all candidates; errors of earlier blocks reach it by no way.  Here a
 * calibration sample goes through the dense model and through the candidate side by
 * side (model/follow.h).  At each cut block what its consumer W reads in the candidate is
 * regressed on what would bring the candidate's residual stream to the dense one behind
 * the block, whatever went wrong before; then the candidate's stream goes on through
 * the refined block.  Number formats come last here as well: a quantized block is
 * quantized again from its refined base before the stream passes it, so that later
 * blocks see what is exported.  Blocks that keep all stay as they are; of those
 * that are gone the next ones see that their part of the stream is missing.
 *
 * A refined part follows from its base, all parts before it, the repair with its
 * options, and the sample: its key is their hash.                             */
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "model/follow.h"
#include "plan/part.h"

struct work {
    struct lm_workshop *w;
    struct lm_candidate *c;
    const struct lm_refine *r;
    struct lm_follow *follow;
    uint64_t *key;                      /* [c->net.n] of refined parts; 0: stays */
    size_t   end;                       /* behind the last of those */
};

static enum lm_status fail_block(const struct lm_part *p, struct lm_err *e)
{
    return lm_err_prefix(e, "refine: layer %d, %s: ", p->layer,
                         p->kind == LM_SEG_MLP ? "MLP block" : "attention block");
}

/* ---- what is to be done ---------------------------------------------------------- */

/* The last place that knows what cannot be refined. */
static enum lm_status check(const struct lm_workshop *w, const struct lm_candidate *c,
                            struct lm_err *e)
{
    if (lm_engine_streams(w->args.engine))
        return lm_fail(e, LM_EUNSUPPORTED, "refine: the model's weights take more as "
                       "floats than run.memory, and refining needs all of them; raise "
                       "run.memory or leave `refine` out");
    if (c->plan->hidden.bits)
        return lm_fail(e, LM_EUNSUPPORTED, "refine: the candidate's residual stream has "
                       "%d channels, the dense model's %d, so that they cannot be "
                       "compared; leave `refine` out or keep all channels",
                       c->plan->hidden.kept, c->plan->hidden.n);
    return LM_OK;
}

static bool is_cut(struct lm_part *p)
{
    return lm_part_floats(p)->rack != NULL;
}

static void make_keys(struct work *k)
{
    const struct lm_refine *r = k->r;
    uint64_t context = lm_hash(r->ids, (size_t)(r->n_seq * r->length) * sizeof *r->ids,
                               lm_hash_str("refine", r->repair.key));

    context = lm_hash_u64((uint64_t)r->length, context);
    for (size_t i = 0; i < k->c->net.n; i++) {
        struct lm_part *p = k->c->part[i];

        context = lm_hash_u64(p->key, context);
        if (is_cut(p)) {
            k->key[i] = lm_hash_u64(lm_part_floats(p)->key, context);
            k->end = i + 1;
        }
    }
}

/* ---- a refined part ---------------------------------------------------------------- */

static enum lm_status solve(const struct work *k, struct lm_part *p,
                            const struct lm_mat *m, const double *gram,
                            const double *cross, struct lm_err *e)
{
    const struct lm_repair *ops = k->r->repair.ops;
    struct lm_repair_site site = {
        .struct_size = sizeof site, .layer = p->layer,
        .site = p->kind == LM_SEG_MLP ? LM_SITE_MLP : LM_SITE_ATTN, .n = m->rows,
        .k = m->cols, .w = m->w, .gram = gram, .cross = cross,
        .tokens = k->r->n_seq * k->r->length
    };
    void *prepared = NULL;
    enum lm_status st = ops->prepare(k->r->repair.self, &site, &prepared, e);

    if (!st) {
        st = ops->apply(k->r->repair.self, prepared, m->cols, p->consumer.v, e);
        ops->release(k->r->repair.self, prepared);
    }
    return lm_part_blame(st, "repair", e);
}

/* The base's segment with another consumer. */
static enum lm_status fill(const struct work *k, struct lm_part *p, struct lm_err *e)
{
    struct lm_segment_spec s = *lm_segment_spec(p->base->seg);
    struct lm_mat *m = s.kind == LM_SEG_MLP ? &s.down : &s.o;
    size_t n = (size_t)m->rows, cols = (size_t)m->cols;
    double *gram = lm_alloc_array(cols * cols, sizeof *gram, "refine");
    double *cross = lm_alloc_array(n * cols, sizeof *cross, "refine");
    enum lm_status st = gram && cross ? LM_OK
        : lm_fail_memory(e, (n + cols) * cols * sizeof *gram, "second moments");

    if (!st)
        st = lm_follow_measure(k->follow, p->base->seg, gram, cross, e);
    if (!st)
        st = lm_stock_take(&k->w->stock, n * cols * sizeof(float), "a derived matrix",
                           &p->consumer, e);
    k->w->bytes += p->consumer.n;
    if (!st)
        st = solve(k, p, m, gram, cross, e);
    lm_release(gram);
    lm_release(cross);
    if (st)
        return st;
    s.key = p->key;
    m->w = p->consumer.v;
    p->bias = p->base->bias;
    return lm_segment_open(k->w->args.engine, &s, &p->seg, e);
}

/* Found, or made from its base in front of the block. */
static enum lm_status refined(struct work *k, size_t i, struct lm_part **out,
                              struct lm_err *e)
{
    struct lm_part *base = lm_part_floats(k->c->part[i]), *p;
    enum lm_status st;

    if ((*out = lm_part_find(k->w, k->key[i]))) {
        (*out)->used = ++k->w->clock;
        k->w->reused++;
        return LM_OK;
    }
    p = lm_part_add(k->w, k->key[i], base->kind, base->layer, base->kept, base->rack);
    if (!p)
        return lm_fail_memory(e, sizeof *p, "a candidate");
    p->base = base;
    base->refs++;
    if ((st = fill(k, p, e))) {
        lm_part_free(k->w, p);
        return fail_block(base, e);
    }
    k->w->built++;
    *out = p;
    return LM_OK;
}

/* In the number formats of part i; the same part if it has none. */
static enum lm_status formatted(struct work *k, size_t i, struct lm_part **p,
                                struct lm_err *e)
{
    const struct lm_part *was = k->c->part[i];
    struct lm_part_job job = { .part = NULL };
    struct lm_quant_choice quant[4];
    struct lm_part *base = *p;
    uint64_t key = base->key;
    bool any;
    enum lm_status st = lm_quant_choose(&k->w->args, k->c->plan, was->kind, was->layer,
                                        quant, &key, &any, e);

    if (st || !any)
        return st;
    if ((*p = lm_part_find(k->w, key))) {
        k->w->reused++;
        return LM_OK;
    }
    if (!(job.part = lm_part_add(k->w, key, base->kind, base->layer, base->kept, NULL)))
        return lm_fail_memory(e, sizeof *base, "a candidate");
    job.part->base = base;
    base->refs++;
    memcpy(job.part->quant, quant, sizeof quant);
    lm_part_quantize(&k->w->args, &job);
    k->w->bytes += job.part->consumer.n;
    if (job.err.code || !job.part->seg) {
        lm_part_free(k->w, job.part);
        return lm_fail(e, job.err.code ? job.err.code : LM_EBUG, "refine: %s",
                       job.err.text);
    }
    *p = job.part;
    return LM_OK;
}

static enum lm_status make_part(struct work *k, size_t i, struct lm_part **p,
                                struct lm_err *e)
{
    enum lm_status st = refined(k, i, p, e);

    return st ? st : formatted(k, i, p, e);
}

/* Part i of the candidate becomes the refined one.  A full disk may hold what nobody
 * needs now. */
static enum lm_status exchange(struct work *k, size_t i, struct lm_err *e)
{
    uint64_t before = k->w->clock;
    struct lm_part *p;
    enum lm_status st = make_part(k, i, &p, e);

    if (st == LM_EIO && lm_workshop_spare(k->w, before)) {
        *e = (struct lm_err){ .code = LM_OK };
        st = make_part(k, i, &p, e);
    }
    if (st)
        return st;
    p->used = ++k->w->clock;
    p->refs++;
    k->c->part[i]->refs--;
    k->c->part[i] = p;
    k->c->net.seg[i] = p->seg;
    return LM_OK;
}

/* What an earlier candidate, or this one before, left behind. */
static bool all_known(const struct work *k)
{
    for (size_t i = 0; i < k->end; i++)
        if (k->key[i] && !lm_part_find(k->w, k->key[i]))
            return false;
    return true;
}

/* ---- side by side ------------------------------------------------------------------ */

/* Block i of the candidate, which the dense model is behind. */
static enum lm_status step(struct work *k, size_t i, struct lm_err *e)
{
    enum lm_status st = k->key[i] ? exchange(k, i, e) : LM_OK;

    return st || i + 1 == k->end ? st
        : lm_follow_run(k->follow, LM_FOLLOW_CANDIDATE, k->c->net.seg[i], e);
}

static enum lm_status walk(struct work *k, const struct lm_network *dense,
                           struct lm_err *e)
{
    enum lm_status st = LM_OK;

    for (size_t i = 0, at = 0; !st && i < k->end; at++) {
        const struct lm_segment_spec *d = lm_segment_spec(dense->seg[at]);
        const struct lm_segment_spec *s = lm_segment_spec(k->c->net.seg[i]);

        lm_progress((double)at / (double)dense->n, NULL);
        st = lm_canceled() ? lm_fail(e, LM_ECANCELED, "canceled")
            : lm_follow_run(k->follow, LM_FOLLOW_DENSE, dense->seg[at], e);
        if (!st && d->kind == s->kind && d->layer == s->layer)
            st = step(k, i++, e);
    }
    return st;
}

/* The dense model's segments, and two streams to go through them. */
static enum lm_status make_all(struct work *k, struct lm_err *e)
{
    const struct lm_refine *r = k->r;
    struct lm_plan *plan = NULL;
    struct lm_candidate dense = { .plan = NULL };
    struct lm_err why = { LM_OK, "" };
    enum lm_status st = lm_plan_open(lm_model_arch(k->w->args.model), NULL, &plan, e);

    if (!st)
        st = lm_plan_canonical(plan, e);
    if (!st)
        st = lm_candidates_open(k->w, &plan, 1, &dense, &why, e);
    if (!st && why.code)
        st = lm_fail(e, why.code, "%s", why.text);
    if (!st)
        st = lm_follow_open(k->w->args.engine, r->ids, r->n_seq, r->length, r->memory,
                            r->folder, &k->follow, e);
    if (!st)
        st = walk(k, &dense.net, e);
    lm_follow_close(k->follow);
    lm_candidate_close(k->w, &dense);
    lm_plan_free(plan);
    return st;
}

enum lm_status lm_candidate_refine(struct lm_workshop *w, struct lm_candidate *c,
                                   const struct lm_refine *r, struct lm_err *e)
{
    struct work k = { .w = w, .c = c, .r = r };
    enum lm_status st = check(w, c, e);

    if (st)
        return st;
    if (!(k.key = lm_alloc_array(c->net.n, sizeof *k.key, "refine")))
        return lm_fail_memory(e, c->net.n * sizeof *k.key, "a candidate");
    make_keys(&k);
    lm_progress_begin("refining");
    if (!all_known(&k))
        st = make_all(&k, e);
    else
        for (size_t i = 0; !st && i < k.end; i++)
            st = k.key[i] ? exchange(&k, i, e) : LM_OK;
    lm_progress_end();
    lm_release(k.key);
    lm_workshop_shrink(w);
    return st;
}
