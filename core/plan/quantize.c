/* SPDX-License-Identifier: Apache-2.0 */
/* quantize.c -- segments whose matrices are in number formats of their own.
 *
 * A quantized part is made from a base part, dense, cut and repaired, or narrowed, which
 * it holds; matrices that the plan leaves alone are the base's.  The quantizer
 * writes the bytes of the file, and what the candidate computes with is these
 * bytes decoded by the codec: candidates are judged as they will be read.  The
 * bytes are kept behind the floats where the backend reads them itself: then latency is
 * that of the number format.  apply.c asks for them again, and as a quantizer is a pure
 * function it gets the same.                                                  */
#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/pool.h"
#include "model/codec.h"
#include "plan/part.h"

static int first_of(enum lm_segment_kind kind)
{
    return kind == LM_SEG_MLP ? lm_matrix_index(LM_W_GATE) : lm_matrix_index(LM_W_Q);
}

static int matrices_of(enum lm_segment_kind kind)
{
    return kind == LM_SEG_MLP ? 3 : kind == LM_SEG_ATTN ? 4 : 0;
}

/* ---- what a plan wants ---------------------------------------------------------- */

static enum lm_status choose_one(const struct lm_workshop_args *a,
                                 const struct lm_plan *plan, int32_t layer, int i,
                                 struct lm_quant_choice *out, struct lm_err *e)
{
    const struct lm_plan_format *f = lm_plan_format_of(plan, layer, i);
    const struct lm_codec *c = lm_codec(f->dtype);
    int64_t cols = lm_plan_columns(plan, layer, i);
    enum lm_status st;

    if (!a->quant)
        return lm_fail(e, LM_ECONFIG, "the plan wants number format '%s', but the "
                       "pipeline has no `quantize`", f->name);
    if ((st = a->quant(a->quant_ctx, f->name, out, e)))
        return st;
    if (out->dtype != f->dtype)
        return lm_fail(e, LM_EINPUT, "the plan was made when '%s' was %s; now it is "
                       "another number format", f->name, c->name);
    if (cols % c->block)
        return lm_fail(e, LM_EINFEASIBLE, "layer %d: %s cannot hold the %lld columns of "
                       "matrix %s: they are no multiple of %u", layer, c->name,
                       (long long)cols, lm_matrix_name(i), c->block);
    return LM_OK;
}

enum lm_status lm_quant_choose(const struct lm_workshop_args *a,
                               const struct lm_plan *plan, enum lm_segment_kind kind,
                               int32_t layer, struct lm_quant_choice *out,
                               uint64_t *key, bool *any, struct lm_err *e)
{
    uint64_t stats = a->stats ? lm_stats_key(a->stats) : 0;
    int first = first_of(kind), n = matrices_of(kind);
    enum lm_status st = LM_OK;

    *any = false;
    for (int i = 0; !st && i < n; i++) {
        out[i] = (struct lm_quant_choice){ .ops = NULL };
        if (!lm_plan_format_of(plan, layer, first + i))
            continue;
        st = choose_one(a, plan, layer, first + i, &out[i], e);
        *key = lm_hash_u64((uint64_t)out[i].dtype << 8 | (unsigned)i,
                           lm_hash_u64(out[i].key, lm_hash_str("quant", *key)));
        if (out[i].weighed)
            *key = lm_hash_u64(stats, *key);
        *any = true;
    }
    return st;
}

/* ---- bytes ---------------------------------------------------------------------- */

/* Sums of squares of the inputs of o or down, in the order of its columns. */
static enum lm_status gather_sumsq(const struct lm_workshop_args *a,
                                   const struct lm_part *base, int64_t cols,
                                   double **out, struct lm_err *e)
{
    uint32_t site = base->kind == LM_SEG_MLP ? LM_SITE_MLP : LM_SITE_ATTN;
    const struct lm_part *cut = lm_part_root(base);
    int64_t n;
    const double *from;
    enum lm_status st;

    if (!a->stats)
        return lm_fail(e, LM_ECONFIG, "the quantizer needs calibration statistics, but "
                       "the pipeline has none; name a calibration text");
    if ((st = lm_stats_get(a->stats, LM_STAT_SUMSQ, site, base->layer, &from, &n, e)))
        return st;
    if (n < cols)
        return lm_fail(e, LM_EBUG, "a statistic has %lld values, %lld are needed",
                       (long long)n, (long long)cols);
    if (!(*out = lm_alloc_array((size_t)cols, sizeof **out, "quantize")))
        return lm_fail_memory(e, (size_t)cols * sizeof **out, "statistics");
    for (int64_t j = 0; j < cols; j++)
        (*out)[j] = from[cut->rack ? lm_rack_column(cut->rack, cut->kept, cols, j) : j];
    return LM_OK;
}

enum lm_status lm_part_coded(const struct lm_part *p, int i, size_t *size,
                             struct lm_err *e)
{
    struct lm_segment_spec s = lm_segment_lasting(p->base->seg);
    const struct lm_mat *m = lm_segment_mat(&s, i);
    int64_t row = lm_row_bytes(p->quant[i].dtype, m->cols);

    if (row > 0 && lm_mul_size((size_t)row, (size_t)m->rows, size))
        return LM_OK;
    return lm_fail(e, LM_EBUG, "a matrix of %lld columns cannot be quantized",
                   (long long)m->cols);
}

/* The base is held. */
static enum lm_status encode_held(const struct lm_workshop_args *a,
                                  const struct lm_part *p, int i, void *out,
                                  struct lm_err *e)
{
    const struct lm_quant_choice *q = &p->quant[i];
    struct lm_segment_spec s = *lm_segment_spec(p->base->seg);
    const struct lm_mat *m = lm_segment_mat(&s, i);
    uint32_t role = lm_matrix_role(first_of(p->kind) + i);
    double *sumsq = NULL;
    enum lm_status st = LM_OK;

    if (q->weighed && (role == LM_W_O || role == LM_W_DOWN))
        st = gather_sumsq(a, p->base, m->cols, &sumsq, e);
    if (!st) {
        struct lm_quant_site site = {
            .struct_size = sizeof site, .role = role, .layer = p->layer, .w = m->w,
            .rows = m->rows, .cols = m->cols, .stride = m->stride, .sumsq = sumsq,
            .tokens = sumsq ? lm_stats_tokens(a->stats) : 0
        };

        st = lm_part_blame(q->ops->encode(q->self, &site, out, e), "quantizer", e);
    }
    lm_release(sumsq);
    return st;
}

enum lm_status lm_part_encode(const struct lm_workshop_args *a, const struct lm_part *p,
                              int i, void *out, struct lm_err *e)
{
    enum lm_status st = lm_segment_hold(p->base->seg, e);

    if (st)
        return st;
    st = encode_held(a, p, i, out, e);
    lm_segment_drop(p->base->seg);
    return st;
}

/* ---- the segment ---------------------------------------------------------------- */

/* Encodes matrix i into `bytes` and decodes that to `to`. */
static enum lm_status decode(const struct lm_workshop_args *a, const struct lm_part *p,
                             int i, const struct lm_mat *m, void *bytes, float *to,
                             struct lm_err *e)
{
    const struct lm_codec *c = lm_codec(p->quant[i].dtype);
    int64_t row = lm_row_bytes(c->dtype, m->cols);
    enum lm_status st = encode_held(a, p, i, bytes, e);

    for (int64_t r = 0; !st && r < m->rows; r++) {
        float *at = to + r * m->cols;

        c->decode((const char *)bytes + r * row, at, m->cols);
        for (int64_t j = 0; !st && j < m->cols; j++)
            if (!isfinite(at[j]))
                st = lm_fail(e, LM_EFAILED, "the quantizer's %s of row %lld, column %lld "
                             "is not finite", c->name, (long long)r, (long long)j);
    }
    return st;
}

/* Where a matrix is in the part's memory: floats first, then the bytes of those that
 * the backend reads.                                                             */
struct layout { size_t floats[4], bytes[4], size[4], all; bool reads[4]; };

static enum lm_status lay_out(const struct lm_workshop_args *a, const struct lm_part *p,
                              struct lm_segment_spec *s, struct layout *l,
                              struct lm_err *e)
{
    enum lm_status st = LM_OK;

    *l = (struct layout){ .all = 0 };
    for (int i = 0; i < matrices_of(p->kind); i++) {
        const struct lm_mat *m = lm_segment_mat(s, i);

        l->floats[i] = l->all;
        l->all += p->quant[i].ops ? (size_t)(m->rows * m->cols) * sizeof(float) : 0;
    }
    for (int i = 0; !st && i < matrices_of(p->kind); i++) {
        if (!p->quant[i].ops || (st = lm_part_coded(p, i, &l->size[i], e)))
            continue;
        l->reads[i] = lm_engine_reads(a->engine, p->quant[i].dtype);
        if (!l->reads[i])
            continue;
        l->bytes[i] = (l->all + 63) / 64 * 64;
        l->all = l->bytes[i] + l->size[i];
    }
    return st;
}

static enum lm_status quantize_matrix(const struct lm_workshop_args *a,
                                      const struct lm_part *p, int i,
                                      const struct layout *l, struct lm_mat *m,
                                      struct lm_err *e)
{
    char *at = (char *)p->consumer.v;
    float *to = (float *)(void *)(at + l->floats[i]);
    void *own = l->reads[i] ? NULL : lm_alloc(l->size[i], "quantize");
    void *bytes = l->reads[i] ? at + l->bytes[i] : own;
    enum lm_status st = bytes ? decode(a, p, i, m, bytes, to, e)
                              : lm_fail_memory(e, l->size[i], "a quantized matrix");

    lm_release(own);
    m->w = to;
    m->whole = 0;
    m->stride = m->cols;
    m->coded.data = NULL;
    if (l->reads[i])
        m->coded = (struct lm_tensor){ .data = bytes, .rows = m->rows, .cols = m->cols,
                                       .dtype = p->quant[i].dtype };
    return st ? lm_err_prefix(e, "matrix %s: ", lm_matrix_name(first_of(p->kind) + i))
              : LM_OK;
}

/* The base is held. */
static enum lm_status build(const struct lm_workshop_args *a, struct lm_part *p,
                            struct lm_err *e)
{
    struct lm_segment_spec s = lm_segment_lasting(p->base->seg);
    struct layout l;
    enum lm_status st = lay_out(a, p, &s, &l, e);

    if (st || (st = lm_stock_take(a->stock, l.all, "quantized weights", &p->consumer, e)))
        return st;
    p->bias = p->base->bias;
    s.key = p->key;
    for (int i = 0; !st && i < matrices_of(p->kind); i++) {
        if (!p->quant[i].ops)
            continue;
        st = lm_canceled() ? lm_fail(e, LM_ECANCELED, "canceled")
                           : quantize_matrix(a, p, i, &l, lm_segment_mat(&s, i), e);
    }
    return st ? st : lm_segment_open(a->engine, &s, &p->seg, e);
}

void lm_part_quantize(const struct lm_workshop_args *a, struct lm_part_job *j)
{
    struct lm_segment *base = j->part->base->seg;
    enum lm_status st = lm_segment_hold(base, &j->err);

    if (!st) {
        st = build(a, j->part, &j->err);
        lm_segment_drop(base);
    }
    if (!st)
        j->err.code = LM_OK;
    else if (j->err.code != LM_ECANCELED)
        lm_err_prefix(&j->err, "layer %d, ", j->part->layer);
}
