/* SPDX-License-Identifier: Apache-2.0 */
/* build.c -- cut segments: rows gathered into a rack, consumers gathered or
 * repaired.
 *
 * FFN channel c is row c of gate and up and column c of down.  KV group g is
 * head_dim rows of k and v, the rows of q of its n_head / n_kv query heads, and
 * the same columns of o (Hugging Face order: query head i reads group
 * i / (n_head / n_kv)).  A group that loses query heads keeps those rows of q and
 * columns of o that belong to the others.  Repair sees the consumer's columns and
 * the statistics of its input in the order of the rack; it is prepared once for
 * all widths that are missing.  A bias that it makes is added to the dense one. */
#include <string.h>

#include "base/mem.h"
#include "base/pool.h"
#include "plan/part.h"

struct site {                           /* one rack's block, and its order */
    const struct lm_workshop_args *args;
    struct lm_rack *rack;
    struct lm_segment_spec dense;
    float *memory;                      /* of its matrices, where the engine streams */
    int32_t width;                      /* consumer columns of one member */
    int64_t columns;                    /* of all members */
    int32_t *column;                    /* [columns], kept first */
};

/* ---- the rack ------------------------------------------------------------------- */

static const struct lm_mat *producer(const struct lm_segment_spec *s, int i)
{
    if (s->kind == LM_SEG_MLP)
        return i == 0 ? &s->gate : i == 1 ? &s->up : NULL;
    return i == 0 ? &s->q : i == 1 ? &s->k : &s->v;
}

/* Rows of a query head where producer i is cut by heads; 0: by whole groups. */
static int32_t head_rows(const struct lm_rack *k, const struct lm_segment_spec *s, int i)
{
    return i == 0 && k->each ? (int32_t)(s->q.rows / s->n_head) : 0;
}

/* Rows of producer i for each member. */
static int32_t rows_each(const struct lm_rack *k, const struct lm_segment_spec *s, int i)
{
    int32_t d = head_rows(k, s, i);

    return d ? k->each * d : (int32_t)(producer(s, i)->rows / k->n);
}

/* d: as head_rows(). */
static void gather_rows(const struct lm_rack *k, const struct lm_mat *m, int32_t each,
                        int32_t d, float *w, float *bias)
{
    for (int32_t i = 0; i < k->rows; i++)
        for (int32_t j = 0; j < each; j++) {
            int64_t to = (int64_t)i * each + j;
            int64_t from = d ? (int64_t)k->head[i * k->each + j / d] * d + j % d
                             : (int64_t)k->member[i] * each + j;

            memcpy(w + to * m->cols, m->w + from * m->stride,
                   (size_t)m->cols * sizeof *w);
            if (bias)
                bias[to] = m->bias[from];
        }
}

static enum lm_status fill_rack(const struct lm_workshop_args *a, struct lm_rack *k,
                                const struct lm_segment_spec *s, struct lm_err *e)
{
    size_t total = 0, at = 0;
    enum lm_status st;

    for (int i = 0; i < 3; i++) {
        const struct lm_mat *m = producer(s, i);

        if (m)
            total += (size_t)rows_each(k, s, i) * (size_t)k->rows
                * ((size_t)m->cols + (m->bias ? 1 : 0));
    }
    if ((st = lm_stock_take(a->stock, total * sizeof(float), "reordered weights",
                            &k->memory, e)))
        return st;
    for (int i = 0; i < 3; i++) {
        const struct lm_mat *m = producer(s, i);
        int32_t each = m ? rows_each(k, s, i) : 0;
        size_t rows = (size_t)each * (size_t)k->rows;
        float *bias;

        if (!m)
            continue;
        k->w[i] = k->memory.v + at;
        at += rows * (size_t)m->cols;
        bias = m->bias ? k->memory.v + at : NULL;
        k->bias[i] = bias;
        at += bias ? rows : 0;
        gather_rows(k, m, each, head_rows(k, s, i), (float *)(uintptr_t)k->w[i], bias);
    }
    return LM_OK;
}

static const struct lm_mat *consumer(const struct lm_segment_spec *s)
{
    return s->kind == LM_SEG_MLP ? &s->down : &s->o;
}

static int32_t put_columns(struct site *t, int32_t member, int32_t width, int32_t at)
{
    for (int32_t j = 0; j < width; j++)
        t->column[at++] = member * width + j;
    return at;
}

static bool keeps_head(const struct lm_rack *k, int32_t head)
{
    for (int32_t i = 0; i < k->rows * k->each; i++)
        if (k->head[i] == head)
            return true;
    return false;
}

static void order_columns(struct site *t)
{
    const struct lm_rack *k = t->rack;
    int32_t at = 0, d;

    t->width = (int32_t)(t->columns / k->n);
    for (int32_t i = 0; !k->each && i < k->n; i++)
        at = put_columns(t, k->member[i], t->width, at);
    if (!k->each)
        return;
    d = head_rows(k, &t->dense, 0);
    t->width = k->each * d;
    for (int32_t i = 0; i < k->rows * k->each; i++)
        at = put_columns(t, k->head[i], d, at);
    for (int32_t i = 0; i < t->dense.n_head; i++)
        if (!keeps_head(k, i))
            at = put_columns(t, i, d, at);
}

/* The block's dense weights, and the order of the consumer's columns. */
static enum lm_status open_site(struct site *t, struct lm_err *e)
{
    struct lm_rack *k = t->rack;
    const struct lm_model *m = t->args->model;
    enum lm_status st;

    if (lm_engine_streams(t->args->engine)) {
        st = lm_dense_shape(m, k->kind, k->layer, &t->dense, e);
        if (!st)
            st = lm_dense_load(m, &t->dense, &t->memory, e);
    } else {
        st = lm_dense_spec(m, k->kind, k->layer, &t->dense, e);
    }
    if (st)
        return st;
    t->columns = consumer(&t->dense)->cols;
    t->column = lm_alloc_array((size_t)t->columns, sizeof *t->column, "site");
    if (!t->column)
        return lm_fail_memory(e, (size_t)t->columns * sizeof *t->column, "an order");
    order_columns(t);
    return k->memory.v ? LM_OK : fill_rack(t->args, k, &t->dense, e);
}

/* ---- the consumer ----------------------------------------------------------------- */

static void gather_columns(const struct site *t, int64_t m, float *out)
{
    const struct lm_mat *w = consumer(&t->dense);

    for (int64_t i = 0; i < w->rows; i++)
        for (int64_t j = 0; j < m; j++)
            out[i * m + j] = w->w[i * w->stride + t->column[j]];
}

struct material {                       /* what a repair works from */
    struct lm_repair_site site;
    float  *w;
    double *gram, *sum;
};

static void free_material(struct material *m)
{
    lm_release(m->w);
    lm_release(m->gram);
    lm_release(m->sum);
}

static enum lm_status order_sums(const struct site *t, uint32_t site, double *out,
                                 struct lm_err *e)
{
    const double *from;
    int64_t n;
    enum lm_status st = lm_stats_get(t->args->stats, LM_STAT_SUM, site, t->rack->layer,
                                     &from, &n, e);

    if (st)
        return st;
    if (n != t->columns)
        return lm_fail(e, LM_EBUG, "a statistic has %lld values, %lld are needed",
                       (long long)n, (long long)t->columns);
    for (int64_t j = 0; j < n; j++)
        out[j] = from[t->column[j]];
    return LM_OK;
}

/* Sums or the Gram matrix, reordered. */
static enum lm_status order_stat(const struct site *t, uint32_t stat, double **out,
                                 struct lm_err *e)
{
    uint32_t site = t->rack->kind == LM_SEG_MLP ? LM_SITE_MLP : LM_SITE_ATTN;
    int64_t k = t->columns, rows = stat == LM_STAT_GRAM ? k : 1;

    if (!t->args->stats)
        return lm_fail(e, LM_ECONFIG, "repair needs calibration statistics, but the "
                       "pipeline has none; name a calibration text");
    if (!(*out = lm_alloc_array((size_t)(rows * k), sizeof **out, "repair")))
        return lm_fail_memory(e, (size_t)(rows * k) * sizeof **out, "statistics");
    return stat == LM_STAT_GRAM
        ? lm_stats_gram(t->args->stats, site, t->rack->layer, t->column, k, *out, e)
        : order_sums(t, site, *out, e);
}

static enum lm_status gather_material(const struct site *t, uint64_t needs,
                                      struct material *m, struct lm_err *e)
{
    int64_t n = consumer(&t->dense)->rows, k = t->columns;
    enum lm_status st = LM_OK;

    if (!(m->w = lm_alloc_array((size_t)(n * k), sizeof *m->w, "repair")))
        return lm_fail_memory(e, (size_t)(n * k) * sizeof *m->w, "reordered weights");
    gather_columns(t, k, m->w);
    if (needs & LM_BIT(LM_STAT_GRAM))
        st = order_stat(t, LM_STAT_GRAM, &m->gram, e);
    if (!st && (needs & LM_BIT(LM_STAT_SUM)))
        st = order_stat(t, LM_STAT_SUM, &m->sum, e);
    m->site = (struct lm_repair_site){
        .struct_size = sizeof m->site, .layer = t->rack->layer,
        .site = t->rack->kind == LM_SEG_MLP ? LM_SITE_MLP : LM_SITE_ATTN,
        .n = n, .k = k, .w = m->w, .gram = m->gram, .sum = m->sum,
        .tokens = t->args->stats ? lm_stats_tokens(t->args->stats) : 0
    };
    return st;
}

/* ---- segments ---------------------------------------------------------------------- */

/* Of `kept` members, `rows` of each. */
static void view(struct lm_mat *m, const struct lm_rack *k, int i, int64_t kept,
                 int64_t rows)
{
    m->rows = kept * rows;
    m->whole = k->rows * rows;
    m->w = k->w[i];
    m->stride = m->cols;
    m->bias = k->bias[i];
    m->coded.data = NULL;
}

static enum lm_status open_segment(const struct site *t, struct lm_part *p,
                                   struct lm_err *e)
{
    struct lm_segment_spec s = t->dense;
    const struct lm_rack *k = t->rack;
    struct lm_mat *c = s.kind == LM_SEG_MLP ? &s.down : &s.o;

    s.key = p->key;
    if (s.kind == LM_SEG_MLP) {
        s.n_ff = p->kept;
        view(&s.gate, k, 0, p->kept, 1);
        view(&s.up, k, 1, p->kept, 1);
    } else {
        int64_t kv = s.k.rows / k->n;

        s.n_head = (k->each ? k->each : s.n_head / k->n) * p->kept;
        s.n_kv = p->kept;
        view(&s.q, k, 0, p->kept, t->width);
        view(&s.k, k, 1, p->kept, kv);
        view(&s.v, k, 2, p->kept, kv);
    }
    c->w = p->consumer.v;
    c->coded.data = NULL;
    c->bias = p->bias ? p->bias : c->bias;
    c->cols = c->stride = (int64_t)p->kept * t->width;
    return lm_segment_open(t->args->engine, &s, &p->seg, e);
}

static enum lm_status make_bias(const struct site *t, struct lm_part_job *j,
                                const void *prepared, int64_t m)
{
    const struct lm_mat *w = consumer(&t->dense);
    struct lm_part *p = j->part;
    enum lm_status st = j->repair.ops->bias(j->repair.self, prepared, m, p->consumer.v,
                                            p->bias, &j->err);

    for (int64_t i = 0; !st && w->bias && i < w->rows; i++)
        p->bias[i] += w->bias[i];
    return st;
}

static enum lm_status build_part(const struct site *t, struct lm_part_job *j,
                                 const void *prepared)
{
    struct lm_part *p = j->part;
    int64_t m = (int64_t)p->kept * t->width, n = consumer(&t->dense)->rows;
    bool biased = j->repair.biases
        & (p->kind == LM_SEG_MLP ? LM_SHAPE_MLP_BIAS : LM_SHAPE_ATTN_BIAS);
    size_t count = (size_t)(n * m) + (biased ? (size_t)n : 0);
    enum lm_status st = lm_stock_take(t->args->stock, count * sizeof(float),
                                      "a derived matrix", &p->consumer, &j->err);

    if (st)
        return st;
    p->bias = biased ? p->consumer.v + n * m : NULL;
    if (j->repair.ops)
        st = j->repair.ops->apply(j->repair.self, prepared, m, p->consumer.v, &j->err);
    else
        gather_columns(t, m, p->consumer.v);
    if (!st && biased)
        st = make_bias(t, j, prepared, m);
    return st ? lm_part_blame(st, "repair", &j->err) : open_segment(t, p, &j->err);
}

/* A success may have failed on its way there and left a text behind. */
static void settle(struct lm_part_job *j, enum lm_status st)
{
    if (!st)
        j->err.code = LM_OK;
}

static void fail_jobs(struct lm_part_job *from, uint64_t repair, const struct lm_err *e)
{
    for (struct lm_part_job *j = from; j; j = j->next)
        if (!j->done && j->repair.key == repair) {
            j->err = *e;
            j->done = true;
        }
}

/* All jobs with the repair of the first: prepared once, applied to each. */
static void build_widths(const struct site *t, struct lm_part_job *first)
{
    const struct lm_repair_choice r = first->repair;
    struct material m = { .w = NULL };
    struct lm_err e = { LM_OK, "" };
    void *prepared = NULL;

    if (r.ops && (gather_material(t, r.needs, &m, &e)
                  || lm_part_blame(r.ops->prepare(r.self, &m.site, &prepared, &e),
                                   "repair", &e))) {
        fail_jobs(first, r.key, &e);
        free_material(&m);
        return;
    }
    for (struct lm_part_job *j = first; j; j = j->next) {
        if (j->done || j->repair.key != r.key)
            continue;
        j->done = true;
        if (lm_canceled())
            lm_fail(&j->err, LM_ECANCELED, "canceled");
        else
            settle(j, build_part(t, j, prepared));
    }
    if (r.ops && r.ops->release)
        r.ops->release(r.self, prepared);
    free_material(&m);
}

static void build_dense(const struct lm_workshop_args *a, struct lm_part_job *j)
{
    struct lm_segment_spec s;
    enum lm_status st;

    if (lm_engine_streams(a->engine))
        st = lm_dense_shape(a->model, j->part->kind, j->part->layer, &s, &j->err);
    else
        st = lm_dense_spec(a->model, j->part->kind, j->part->layer, &s, &j->err);
    if (!st)
        lm_segment_open(a->engine, &s, &j->part->seg, &j->err);
}

void lm_parts_build(const struct lm_workshop_args *a, struct lm_rack *rack,
                    struct lm_part_job *jobs)
{
    struct site t = { .args = a, .rack = rack };
    struct lm_err e = { LM_OK, "" };

    if (!rack) {
        build_dense(a, jobs);
        return;
    }
    if (open_site(&t, &e)) {
        for (struct lm_part_job *j = jobs; j; j = j->next)
            fail_jobs(j, j->repair.key, &e);
    } else {
        for (struct lm_part_job *j = jobs; j; j = j->next)
            if (!j->done)
                build_widths(&t, j);
    }
    for (struct lm_part_job *j = jobs; j; j = j->next)
        if (j->err.code && j->err.code != LM_ECANCELED)
            lm_err_prefix(&j->err, "layer %d, %s: ", rack->layer,
                          rack->kind == LM_SEG_MLP ? "MLP block" : "attention block");
    lm_release(t.column);
    lm_release(t.memory);
}
