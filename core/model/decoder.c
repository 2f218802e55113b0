/* SPDX-License-Identifier: Apache-2.0 */
/* decoder.c -- a whole network as one program with a cache: what generates
 * text, and what latency is measured on.
 *
 * Longer inputs go in chunks, which bounds the registers.  Only the last one needs the
 * head.  One token at a time is computed from weights in their number formats: programs
 * of their own, where there are such weights.  The rules of this, lm_decoder_step() and
 * lm_lower_network(), also say what a run will consist of (uses.c).           */
#include "base/mem.h"
#include "base/pool.h"
#include "model/segment.h"

struct lm_decoder {
    struct lm_engine *g;
    struct lm_stream *stream;
    struct lm_kv *kv;
    struct lm_exe *exe[2][2];           /* [coded][with the head] */
    bool coded;                         /* exe[1] are there */
    struct lm_buffer *hidden;
    int64_t rows;                       /* that hidden holds */
    int64_t capacity, pos;
    struct lm_segment **held;           /* [n_held] */
    size_t n_held;
};

struct lm_step lm_decoder_step(int32_t left, bool logits)
{
    enum { CHUNK = 512 };
    int32_t rows = left < CHUNK ? left : CHUNK;

    return (struct lm_step){ .rows = rows, .head = logits && rows == left,
                             .coded = rows == 1 };
}

static enum lm_status compile(struct lm_engine *g, const struct lm_network *net,
                              bool coded, bool head, struct lm_exe **x, struct lm_err *e)
{
    struct lm_lowered p = { .coded = coded };
    enum lm_status st = lm_lower_network(&p, net, head, e);
    if (!st)
        st = lm_lower_compile(g, &p, net->precision, x, e);
    lm_lower_free(&p);
    return st;
}

static bool has_codes(const struct lm_network *net)
{
    for (size_t i = 0; net->precision == LM_AS_F32 && i < net->n; i++)
        for (int w = SC_A; w <= SC_D; w++)
            if (net->seg[i]->w[w])
                return true;
    return false;
}

static enum lm_status open_kv(struct lm_decoder *d, const struct lm_network *net,
                              struct lm_err *e)
{
    size_t n = 0;
    int32_t *width = lm_alloc_array(net->n, sizeof *width, "decoder");
    if (!width)
        return lm_fail_memory(e, net->n * sizeof *width, "a decoder");
    for (size_t i = 0; i < net->n; i++)
        if (net->seg[i]->spec.kind == LM_SEG_ATTN)
            width[n++] = net->seg[i]->spec.n_kv * d->g->arch->head_dim;
    enum lm_status st = d->g->ops->kv_open(d->g->backend, width, n, d->capacity, &d->kv,
                                           e);
    lm_release(width);
    return st;
}

static enum lm_status hold_all(struct lm_decoder *d, const struct lm_network *net,
                               struct lm_err *e)
{
    enum lm_status st = LM_OK;
    d->held = lm_alloc_array(net->n, sizeof(struct lm_segment *), "decoder");
    if (!d->held)
        return lm_fail_memory(e, net->n * sizeof *d->held, "a decoder");
    while (!st && d->n_held < net->n)
        if (!(st = lm_segment_hold(net->seg[d->n_held], e))) {
            d->held[d->n_held] = net->seg[d->n_held];
            d->n_held++;
        }
    return st;
}

enum lm_status lm_decoder_open(struct lm_engine *g, const struct lm_network *net,
                               int64_t capacity, int32_t threads, struct lm_decoder **out,
                               struct lm_err *e)
{
    *out = NULL;
    enum lm_status st = lm_network_check(net, e);
    if (!st && (capacity < 1 || capacity > INT32_MAX / 2))
        st = lm_fail(e, LM_EBUG, "a decoder for %lld tokens", (long long)capacity);
    if (st)
        return st;
    struct lm_decoder *d = lm_alloc(sizeof *d, "decoder");
    if (!d)
        return lm_fail_memory(e, sizeof *d, "a decoder");
    d->g = g;
    d->capacity = capacity;
    st = g->ops->stream_open(g->backend, threads, &d->stream, e);
    if (!st)
        st = open_kv(d, net, e);
    if (!st)
        st = hold_all(d, net, e);
    d->coded = has_codes(net);
    for (int i = 0; !st && i < (d->coded ? 4 : 2); i++)
        st = compile(g, net, i / 2, i % 2, &d->exe[i / 2][i % 2], e);
    if (st)
        lm_decoder_close(d);
    else
        *out = d;
    return st;
}

void lm_decoder_close(struct lm_decoder *d)
{
    if (!d)
        return;
    const struct lm_backend *ops = d->g->ops;
    void *b = d->g->backend;
    if (d->hidden)
        ops->buffer_free(b, d->hidden);
    for (int i = 0; i < 4; i++)
        if (d->exe[i / 2][i % 2])
            ops->exe_free(b, d->exe[i / 2][i % 2]);
    if (d->kv)
        ops->kv_close(b, d->kv);
    if (d->stream)
        ops->stream_close(b, d->stream);
    for (size_t i = 0; i < d->n_held; i++)
        lm_segment_drop(d->held[i]);
    lm_release(d->held);
    lm_release(d);
}

static enum lm_status reserve(struct lm_decoder *d, int64_t rows, struct lm_err *e)
{
    const struct lm_engine *g = d->g;
    if (d->rows >= rows)
        return LM_OK;
    if (d->hidden)
        g->ops->buffer_free(g->backend, d->hidden);
    d->hidden = NULL;
    d->rows = 0;
    enum lm_status st = g->ops->buffer(g->backend, rows * g->arch->hidden, &d->hidden, e);
    if (!st)
        d->rows = rows;
    return st;
}

enum lm_status lm_decoder_feed(struct lm_decoder *d, const int32_t *ids, int32_t n,
                               float *logits, struct lm_time *time, struct lm_err *e)
{
    const struct lm_engine *g = d->g;
    enum lm_status st = lm_ids_check(g->arch, ids, n < 0 ? 0 : (size_t)n, e);
    if (!st && n > d->capacity - d->pos)
        st = lm_fail(e, LM_EINPUT,
                     "%d more tokens do not fit a context of %lld (%lld are "
                     "in use)", n, (long long)d->capacity, (long long)d->pos);
    if (!st)
        st = lm_length_check(g->arch, d->pos + n, e);
    if (!st)
        st = reserve(d, lm_decoder_step(n, false).rows, e);
    struct lm_time total = { 0, 0 };
    bool known = true;                  /* the device's seconds, of every part */
    for (int32_t at = 0; at < n && !st;) {
        struct lm_step step = lm_decoder_step(n - at, logits);
        struct lm_exec args = { .struct_size = sizeof args, .rows = step.rows,
                                .pos = (int32_t)d->pos, .token = ids + at,
                                .hidden = d->hidden, .kv = d->kv, .out = logits };
        struct lm_time t = { 0 };
        if (lm_canceled())
            return lm_fail(e, LM_ECANCELED, "interrupted");
        st = g->ops->run(g->backend, d->stream, d->exe[d->coded && step.coded][step.head],
                         &args, &t, e);
        total.host += t.host;
        total.device += t.device;
        known &= t.device > 0;
        if (!st)
            d->pos += step.rows;
        at += step.rows;
    }
    if (!known)
        total.device = 0;
    if (time)
        *time = total;
    return st;
}

void lm_decoder_seek(struct lm_decoder *d, int64_t pos)
{
    d->pos = pos < 0 ? 0 : pos > d->capacity ? d->capacity : pos;
}
