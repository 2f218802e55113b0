/* SPDX-License-Identifier: Apache-2.0 */
/* stats_bench.c -- the memory of one worker of a calibration pass. */
#include "base/mem.h"
#include "base/pool.h"
#include "model/stats_pass.h"

const struct stats_section *lm_pass_product(const struct pass *p, int i, int32_t layer)
{
    if (i == OF_FINAL)
        return layer < p->a->n_layer - 1
             ? NULL : lm_stats_find(&p->layout, LM_STAT_STREAM, LM_SITE_HIDDEN, -1);
    return lm_stats_find(&p->layout, i < OF_STREAM ? LM_STAT_GRAM : LM_STAT_STREAM,
                         block_site[i % N_BLOCKS], layer);
}

int64_t lm_pass_columns(const struct pass *p, int i, int32_t layer)
{
    return i < OF_STREAM ? lm_stats_width(p->a, block_site[i], layer) : p->a->hidden;
}

/* Most columns of an X, or of a matrix that is added up, in any layer. */
static int64_t most_columns(const struct pass *p, int i, bool added)
{
    int64_t n = 0;
    for (int32_t layer = 0; layer < p->a->n_layer; layer++) {
        const struct stats_section *s = lm_pass_product(p, i, layer);
        int64_t k = lm_pass_columns(p, i, layer);
        bool there = s ? !added || !s->width : !added && i < OF_STREAM && taps(p, i);
        n = there && k > n ? k : n;
    }
    return n;
}

int64_t lm_bench_count(const struct pass *p)
{
    int64_t n = lm_pool_threads() < p->n_group ? lm_pool_threads() : p->n_group;
    double bytes = 0, tokens = (double)p->group * (double)p->length;
    for (int i = 0; i < N_PRODUCTS; i++) {
        double k = (double)most_columns(p, i, false);
        double gram = (double)most_columns(p, i, true);
        bytes += sizeof(float) * (k * tokens + gram * gram);
    }
    if (p->g->streams && bytes * (double)n > (double)p->g->budget)
        n = (int64_t)((double)p->g->budget / bytes);
    return n < 1 ? 1 : n;
}

/* n floats or doubles; 0 gives one, so that NULL always means failure. */
static void *numbers(int64_t rows, int64_t cols, size_t size)
{
    int64_t n;
    if (!lm_mul_i64(rows, cols, &n))
        return NULL;
    return lm_alloc_array((size_t)(n > 0 ? n : 1), size, "statistics");
}

static bool bench_floats(struct pass *p, struct bench *w)
{
    int64_t piece = !aligns(p) ? 0 : p->length < ALIGN_TOKENS ? p->length : ALIGN_TOKENS;
    bool ok = (w->before = numbers(p->length, p->a->hidden, sizeof(float)))
           && (w->middle = numbers(p->length, p->a->hidden, sizeof(float)))
           && (w->centred = numbers(piece, p->a->hidden, sizeof(float)));
    for (int i = 0; i < N_STATES && ok; i++)
        ok = (w->kernel[i] = numbers(piece, piece, sizeof(float)));
    for (int i = 0; i < N_PRODUCTS && ok; i++) {
        int64_t k = most_columns(p, i, false), gram = most_columns(p, i, true);
        ok = (w->x[i] = numbers(p->group * p->length, k, sizeof(float)))
          && (w->gram[i] = numbers(gram, gram, sizeof(float)));
    }
    for (int b = 0; b < N_BLOCKS && ok; b++) {
        struct block_out *o = &w->out[b];
        int64_t k = most_columns(p, OF_TAP + b, false);
        ok = (o->sum = numbers(1, k, sizeof(double)))
          && (o->sumsq = numbers(1, k, sizeof(double)))
          && (o->sumabs = numbers(1, k, sizeof(double)));
    }
    return ok;
}

enum lm_status lm_bench_seat(struct pass *p, struct bench *w, struct lm_err *e)
{
    const struct lm_engine *g = p->g;
    int64_t tap = 1;
    for (int b = 0; b < N_BLOCKS; b++) {
        int64_t k = most_columns(p, OF_TAP + b, false);
        tap = k > tap ? k : tap;
    }
    if (!bench_floats(p, w))
        return lm_fail_memory(e, (size_t)(p->group * p->length * tap) * sizeof(float),
                              "statistics");
    int32_t width = lm_network_kv_width(&p->net, p->a->head_dim);
    enum lm_status st = g->ops->stream_open(g->backend, 1, &w->stream, e);
    if (!st)
        st = g->ops->kv_open(g->backend, &width, 1, p->length, &w->kv, e);
    if (!st)
        st = g->ops->buffer(g->backend, p->length * p->a->hidden, &w->hidden, e);
    return st ? st : g->ops->buffer(g->backend, p->length * tap, &w->tap, e);
}

void lm_bench_leave(const struct pass *p, struct bench *w)
{
    const struct lm_engine *g = p->g;
    if (w->tap)
        g->ops->buffer_free(g->backend, w->tap);
    if (w->hidden)
        g->ops->buffer_free(g->backend, w->hidden);
    if (w->kv)
        g->ops->kv_close(g->backend, w->kv);
    if (w->stream)
        g->ops->stream_close(g->backend, w->stream);
    for (int b = 0; b < N_BLOCKS; b++) {
        lm_release(w->out[b].sum);
        lm_release(w->out[b].sumsq);
        lm_release(w->out[b].sumabs);
    }
    for (int i = 0; i < N_PRODUCTS; i++) {
        lm_release(w->x[i]);
        lm_release(w->gram[i]);
    }
    for (int i = 0; i < N_STATES; i++)
        lm_release(w->kernel[i]);
    lm_release(w->centred);
    lm_release(w->before);
    lm_release(w->middle);
}
