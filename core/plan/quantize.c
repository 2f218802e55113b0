/* SPDX-License-Identifier: Apache-2.0 */
/* quantize.c -- segments whose matrices are in number formats of their own.
 *
 * A quantized part is made from a base part, dense or cut and repaired, which it
 * holds; matrices that the plan leaves alone are the base's.  The quantizer
 * writes the bytes of the file, and what the candidate computes with is these
 * bytes decoded by the codec: candidates are judged as they will be read.  The
 * bytes are kept where the backend reads them itself: then latency is that of the
 * number format.  apply.c asks for them again, and as a quantizer is a pure function
 * it gets the same.                                                          */
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
        (*out)[j] = from[base->rack ? lm_rack_column(base->rack, base->kept, cols, j)
                         : j];
    return LM_OK;
}

static enum lm_status encode_held(const struct lm_workshop_args *a,
                                  const struct lm_part *p, int i, void **out,
                                  size_t *size, struct lm_err *e)
{
    const struct lm_quant_choice *q = &p->quant[i];
    struct lm_segment_spec s = *lm_segment_spec(p->base->seg);
    const struct lm_mat *m = lm_segment_mat(&s, i);
    uint32_t role = lm_matrix_role(first_of(p->kind) + i);
    int64_t row = lm_row_bytes(q->dtype, m->cols);
    double *sumsq = NULL;
    enum lm_status st = LM_OK;

    *out = NULL;
    if (row <= 0 || !lm_mul_size((size_t)row, (size_t)m->rows, size))
        return lm_fail(e, LM_EBUG, "a matrix of %lld columns cannot be quantized",
                       (long long)m->cols);
    if (q->weighed && (role == LM_W_O || role == LM_W_DOWN))
        st = gather_sumsq(a, p->base, m->cols, &sumsq, e);
    if (!st && !(*out = lm_alloc(*size, "quantize")))
        st = lm_fail_memory(e, *size, "a quantized matrix");
    if (!st) {
        struct lm_quant_site site = {
            .struct_size = sizeof site, .role = role, .layer = p->layer, .w = m->w,
            .rows = m->rows, .cols = m->cols, .stride = m->stride, .sumsq = sumsq,
            .tokens = sumsq ? lm_stats_tokens(a->stats) : 0
        };

        st = lm_part_blame(q->ops->encode(q->self, &site, *out, e), "quantizer", e);
    }
    lm_release(sumsq);
    if (st) {
        lm_release(*out);
        *out = NULL;
    }
    return st;
}

enum lm_status lm_part_encode(const struct lm_workshop_args *a, const struct lm_part *p,
                              int i, void **out, size_t *size, struct lm_err *e)
{
    enum lm_status st = lm_segment_hold(p->base->seg, e);

    *out = NULL;
    if (st)
        return st;
    st = encode_held(a, p, i, out, size, e);
    lm_segment_drop(p->base->seg);
    return st;
}

/* ---- the segment ---------------------------------------------------------------- */

static enum lm_status decode(const struct lm_workshop_args *a, struct lm_part *p,
                             int i, struct lm_mat *m, float *to, struct lm_err *e)
{
    const struct lm_codec *c = lm_codec(p->quant[i].dtype);
    int64_t row = lm_row_bytes(c->dtype, m->cols);
    size_t size;
    void *bytes;
    enum lm_status st = lm_part_encode(a, p, i, &bytes, &size, e);

    for (int64_t r = 0; !st && r < m->rows; r++) {
        float *at = to + r * m->cols;

        c->decode((const char *)bytes + r * row, at, m->cols);
        for (int64_t j = 0; !st && j < m->cols; j++)
            if (!isfinite(at[j]))
                st = lm_fail(e, LM_EFAILED, "the quantizer's %s of row %lld, column %lld "
                             "is not finite", c->name, (long long)r, (long long)j);
    }
    m->coded.data = NULL;
    if (!st && lm_engine_reads(a->engine, c->dtype)) {
        m->coded = (struct lm_tensor){ .data = bytes, .rows = m->rows, .cols = m->cols,
                                       .dtype = c->dtype };
        p->code[i] = bytes;
        p->coded += size;
    } else {
        lm_release(bytes);
    }
    return st;
}

/* The base is held. */
static enum lm_status build(const struct lm_workshop_args *a, struct lm_part *p,
                            struct lm_err *e)
{
    struct lm_segment_spec s = lm_segment_lasting(p->base->seg);
    int n = matrices_of(p->kind);
    size_t count = 0;
    enum lm_status st;
    float *at;

    for (int i = 0; i < n; i++)
        if (p->quant[i].ops)
            count += (size_t)(lm_segment_mat(&s, i)->rows * lm_segment_mat(&s, i)->cols);
    if ((st = lm_stock_take(a->stock, count * sizeof *at, "quantized weights",
                            &p->consumer, e)))
        return st;
    at = p->consumer.v;
    p->bias = p->base->bias;
    s.key = p->key;
    for (int i = 0; i < n; i++) {
        struct lm_mat *m = lm_segment_mat(&s, i);

        if (!p->quant[i].ops)
            continue;
        if (lm_canceled())
            return lm_fail(e, LM_ECANCELED, "canceled");
        if ((st = decode(a, p, i, m, at, e)))
            return lm_err_prefix(e, "matrix %s: ",
                                 lm_matrix_name(first_of(p->kind) + i));
        m->w = at;
        m->stride = m->cols;
        at += m->rows * m->cols;
    }
    return lm_segment_open(a->engine, &s, &p->seg, e);
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
