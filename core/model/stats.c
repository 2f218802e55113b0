/* SPDX-License-Identifier: Apache-2.0 */
/* stats.c -- the calibration pass.
 *
 * Layer by layer: the residual streams of all sequences lie in one mapped
 * scratch file [n_seq * length][hidden]; a layer reads and replaces them.
 *
 * Sequences are cut into groups by a rule that knows nothing of threads, see
 * lm_sample_group().  A bench does one group: its inputs X [tokens][k], tapped or
 * read from the stream, are gathered, X^T X is one f32 syrk, sums are double.  Groups
 * run in waves of as many benches as there are threads; behind a wave its results are
 * added, in double, in the order of the groups (stats_add.c).  So the statistics do not
 * depend on the number of threads, and what is held besides the file is one X and one
 * matrix of each kind for each thread.
 *
 * For alignment a sequence is cut into pieces of at most ALIGN_TOKENS tokens, the
 * sets whose rows are compared: three kernels [ALIGN_TOKENS][ALIGN_TOKENS] for
 * each thread, whatever the hidden size.                                     */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/linalg.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/str.h"
#include "model/align.h"
#include "model/stats_pass.h"


/* ---- one group ------------------------------------------------------------------- */
static double cosine_sum(const float *a, const float *b, int64_t rows, int64_t n)
{
    double total = 0;
    for (int64_t r = 0; r < rows; r++, a += n, b += n) {
        double ab = 0, aa = 0, bb = 0;
        for (int64_t i = 0; i < n; i++) {
            ab += (double)a[i] * (double)b[i];
            aa += (double)a[i] * (double)a[i];
            bb += (double)b[i] * (double)b[i];
        }
        total += aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : aa == bb;
    }
    return total;
}

/* What a norm makes of rows of the stream before its weight. */
static void normalise(const float *x, int64_t rows, int64_t n, double eps, float *out)
{
    for (int64_t r = 0; r < rows; r++, x += n, out += n) {
        double square = 0;
        for (int64_t i = 0; i < n; i++)
            square += (double)x[i] * (double)x[i];
        double scale = 1 / sqrt(square / (double)n + eps);
        for (int64_t i = 0; i < n; i++)
            out[i] = (float)(scale * (double)x[i]);
    }
}

/* Product i of the layer, of the stream as it is now. */
static void keep_stream(const struct pass *p, struct bench *w, int i, const float *now,
                        int64_t row)
{
    if (lm_pass_product(p, i, p->layer))
        normalise(now, p->length, p->a->hidden, p->a->rms_eps,
                  w->x[i] + row * p->a->hidden);
}

static void add_columns(const float *x, int64_t rows, int64_t k, double *sum,
                        double *sumsq)
{
    for (int64_t r = 0; r < rows; r++, x += k)
        for (int64_t i = 0; i < k; i++) {
            sum[i] += (double)x[i];
            sumsq[i] += (double)x[i] * (double)x[i];
        }
}

static void add_magnitudes(const float *x, int64_t rows, int64_t k, double *sum)
{
    for (int64_t r = 0; r < rows; r++, x += k)
        for (int64_t i = 0; i < k; i++)
            sum[i] += fabs((double)x[i]);
}

/* One block over one sequence.  now: the residual stream before, then behind it;
 * row: where in X this sequence begins.                                       */
static enum lm_status do_block(struct pass *p, struct bench *w, int b, float *now,
                               int64_t row)
{
    const struct lm_engine *g = p->g;
    int64_t floats = p->length * p->a->hidden;
    int64_t k = lm_stats_width(p->a, block_site[b], p->layer);
    struct lm_exec args = { .struct_size = sizeof args, .rows = (int32_t)p->length,
                            .hidden = w->hidden, .kv = w->kv, .tap = { w->tap } };
    if (!p->block[b])
        return LM_OK;
    bool cosine = wants(p, block_site[b], LM_BIT(LM_STAT_COSINE));
    if (cosine || aligns(p))
        memcpy(w->middle, now, (size_t)floats * sizeof *now);
    keep_stream(p, w, OF_STREAM + b, now, row);
    enum lm_status st = g->ops->run(g->backend, w->stream, p->exe[b], &args, NULL,
                                    &w->err);
    if (!st)
        st = g->ops->read(g->backend, w->hidden, 0, now, floats, &w->err);
    if (!st && taps(p, b))
        st = g->ops->read(g->backend, w->tap, 0, w->x[b] + row * k, p->length * k,
                          &w->err);
    if (!st && cosine)
        w->out[b].cosine += cosine_sum(w->middle, now, p->length, p->a->hidden);
    return st;
}

static void add_alignment(struct bench *w, int a, int b, int64_t n, double *out)
{
    const int pair[N_ALIGN][2] = { { a, b }, { a, a }, { b, b } };
    for (int i = 0; i < N_ALIGN; i++)
        out[i] += lm_align_hsic(w->kernel[pair[i][0]], w->kernel[pair[i][1]], n);
}

/* now: behind the layer.  middle is the input of its last block. */
static void align_sequence(const struct pass *p, struct bench *w, const float *now)
{
    int64_t hidden = p->a->hidden;
    const float *between = p->block[0] && p->block[1] ? w->middle
                         : p->block[0] ? now : w->before;
    const float *state[N_STATES] = { w->before, between, now };
    for (int64_t at = 0, n; p->length - at >= LM_ALIGN_LEAST; at += n) {
        n = p->length - at < ALIGN_TOKENS ? p->length - at : ALIGN_TOKENS;
        for (int i = 0; i < N_STATES; i++)
            lm_align_kernel(state[i] + at * hidden, n, hidden, w->centred, w->kernel[i]);
        add_alignment(w, 0, 1, n, w->out[0].align);
        add_alignment(w, 1, 2, n, w->out[1].align);
        add_alignment(w, 0, 2, n, w->align);
    }
}

static enum lm_status do_sequence(struct pass *p, struct bench *w, int64_t seq,
                                  int64_t row)
{
    const struct lm_engine *g = p->g;
    int64_t floats = p->length * p->a->hidden;
    float *now = p->stream + seq * floats;
    if (p->layer < 0) {
        struct lm_exec args = { .struct_size = sizeof args, .rows = (int32_t)p->length,
                                .token = p->ids + seq * p->length, .hidden = w->hidden };
        enum lm_status st = g->ops->run(g->backend, w->stream, p->net.seg[0]->exe[0],
                                        &args, NULL, &w->err);
        return st ? st : g->ops->read(g->backend, w->hidden, 0, now, floats, &w->err);
    }
    bool cosine = wants(p, LM_SITE_LAYER, LM_BIT(LM_STAT_COSINE));
    if (cosine || aligns(p))
        memcpy(w->before, now, (size_t)floats * sizeof *now);
    enum lm_status st = g->ops->write(g->backend, w->hidden, 0, now, floats, &w->err);
    for (int b = 0; b < N_BLOCKS && !st; b++)
        st = do_block(p, w, b, now, row);
    if (!st && cosine)
        w->cosine += cosine_sum(w->before, now, p->length, p->a->hidden);
    if (!st && aligns(p))
        align_sequence(p, w, now);
    keep_stream(p, w, OF_FINAL, now, row);
    return st;
}

static void finish_group(struct pass *p, struct bench *w, int64_t tokens)
{
    for (int i = 0; i < N_PRODUCTS; i++) {
        const struct stats_section *s = lm_pass_product(p, i, p->layer);
        int64_t k = lm_pass_columns(p, i, p->layer);
        if (s && !s->width)
            lm_syrk(tokens, k, w->x[i], k, 0, w->gram[i], k);
    }
    for (int b = 0; b < N_BLOCKS; b++) {
        struct block_out *o = &w->out[b];
        int64_t k = lm_stats_width(p->a, block_site[b], p->layer);
        if (!p->block[b] || !taps(p, b))
            continue;
        memset(o->sum, 0, (size_t)k * sizeof *o->sum);
        memset(o->sumsq, 0, (size_t)k * sizeof *o->sumsq);
        memset(o->sumabs, 0, (size_t)k * sizeof *o->sumabs);
        if (wants(p, block_site[b], LM_BIT(LM_STAT_SUM) | LM_BIT(LM_STAT_SUMSQ)))
            add_columns(w->x[b], tokens, k, o->sum, o->sumsq);
        if (wants(p, block_site[b], LM_BIT(LM_STAT_SUMABS)))
            add_magnitudes(w->x[b], tokens, k, o->sumabs);
    }
}

static void group_body(void *ctx, int64_t i, uint32_t worker)
{
    struct pass *p = ctx;
    struct bench *w = &p->bench[i];     /* by place in the wave, not by worker */
    int64_t first = (p->first + i) * p->group, last = first + p->group;
    (void)worker;
    if (last > p->n_seq)
        last = p->n_seq;
    w->status = LM_OK;
    w->cosine = w->out[0].cosine = w->out[1].cosine = 0;
    memset(w->align, 0, sizeof w->align);
    for (int b = 0; b < N_BLOCKS; b++)
        memset(w->out[b].align, 0, sizeof w->out[b].align);
    for (int64_t s = first; s < last && !w->status; s++)
        w->status = lm_canceled() ? lm_fail(&w->err, LM_ECANCELED, "interrupted")
                                  : do_sequence(p, w, s, (s - first) * p->length);
    if (!w->status && p->layer >= 0)
        finish_group(p, w, (last - first) * p->length);
}

static enum lm_status run_wave(struct pass *p, struct lm_err *e)
{
    if (lm_parallel(p->wave, group_body, p))
        return lm_fail(e, LM_ECANCELED, "interrupted");
    for (int64_t i = 0; i < p->wave; i++)
        if (p->bench[i].status)
            return lm_fail(e, p->bench[i].status, "calibration: %s",
                           p->bench[i].err.text);
    return p->layer < 0 ? LM_OK : lm_pass_add(p, e);
}

/* ---- a layer ------------------------------------------------------------------ */
static enum lm_status hold(struct pass *p, struct lm_segment *s, struct lm_err *e)
{
    enum lm_status st = lm_segment_hold(s, e);
    if (!st)
        p->held[p->n_held++] = s;
    return st;
}

static enum lm_status layer_open(struct pass *p, int32_t layer, struct lm_err *e)
{
    enum lm_status st = LM_OK;
    p->layer = layer;
    for (int b = 0; b < N_BLOCKS; b++) {
        p->block[b] = NULL;
        p->exe[b] = NULL;
    }
    if (layer < 0)
        return hold(p, p->net.seg[0], e);
    for (size_t i = 1; i + 1 < p->net.n; i++)
        if (p->net.seg[i]->spec.layer == layer)
            p->block[p->net.seg[i]->spec.kind == LM_SEG_MLP] = p->net.seg[i];
    for (int b = 0; b < N_BLOCKS && !st; b++)
        if (p->block[b] && !(st = hold(p, p->block[b], e))) {
            p->exe[b] = p->block[b]->exe[0];
            if (taps(p, b))
                st = lm_segment_tapped(p->block[b], &p->exe[b], e);
        }
    return st;
}

static void layer_close(struct pass *p)
{
    for (int b = 0; b < N_BLOCKS; b++) {
        if (p->exe[b] && p->exe[b] != p->block[b]->exe[0])
            p->g->ops->exe_free(p->g->backend, p->exe[b]);
        p->exe[b] = NULL;
    }
    while (p->n_held > 0)
        lm_segment_drop(p->held[--p->n_held]);
}

static enum lm_status do_layer(struct pass *p, int32_t layer, struct lm_err *e)
{
    enum lm_status st = layer_open(p, layer, e);
    for (p->first = 0; p->first < p->n_group && !st; p->first += p->n_bench) {
        int64_t left = p->n_group - p->first;
        p->wave = left < p->n_bench ? left : p->n_bench;
        st = run_wave(p, e);
        double done = layer < 0 ? 0 : layer + (double)(p->first + p->wave)
                                              / (double)p->n_group;
        lm_progress(p->a->n_layer ? done / p->a->n_layer : 1, NULL);
    }
    if (!st && layer >= 0)
        st = lm_pass_mirror(p, e);
    layer_close(p);
    return st;
}

/* ---- the pass ----------------------------------------------------------------- */
static enum lm_status pass_run(struct pass *p, struct lm_err *e)
{
    enum lm_status st = lm_network_open(p->g, p->g->model, &p->net, e);
    p->n_bench = lm_bench_count(p);
    if (!st && !(p->bench = lm_alloc_array((size_t)p->n_bench, sizeof *p->bench,
                                           "statistics")))
        st = lm_fail_memory(e, (size_t)p->n_bench * sizeof *p->bench, "statistics");
    for (int64_t i = 0; i < p->n_bench && !st; i++)
        st = lm_bench_seat(p, &p->bench[i], e);
    lm_progress_begin("calibration");
    for (int32_t layer = -1; layer < p->a->n_layer && !st; layer++)
        st = do_layer(p, layer, e);
    lm_progress_end();
    for (int64_t i = 0; p->bench && i < p->n_bench; i++)
        lm_bench_leave(p, &p->bench[i]);
    lm_release(p->bench);
    lm_network_close(&p->net);
    return st;
}

/* Creates both files, fills them, keeps the one. */
static enum lm_status pass_write(struct pass *p, const char *path, struct lm_map *m,
                                 struct lm_err *e)
{
    char scratch[4096];
    void *stream = NULL, *data = NULL;
    int64_t floats;
    if (snprintf(scratch, sizeof scratch, "%s.hidden", path) >= (int)sizeof scratch)
        return lm_fail(e, LM_ECONFIG, "%s: the path is too long", path);
    if (!lm_mul_i64(p->n_seq * p->length, (int64_t)p->a->hidden * 4, &floats))
        return lm_fail(e, LM_EINPUT, "the calibration sample is too large");
    enum lm_status st = lm_map_create(scratch, (size_t)floats, &stream, e);
    if (st)
        return st;
    st = lm_map_create(path, (size_t)p->layout.head.bytes, &data, e);
    if (!st) {
        p->stream = stream;
        p->data = data;
        lm_stats_put_head(&p->layout, data);
        st = pass_run(p, e);
        if (st)
            lm_map_abandon(data, (size_t)p->layout.head.bytes);
        else
            st = lm_map_commit(path, data, (size_t)p->layout.head.bytes, m, e);
    }
    lm_map_abandon(stream, (size_t)floats);
    return st;
}

static enum lm_status check_disk(const struct pass *p, const char *folder,
                                 struct lm_err *e)
{
    int64_t free = lm_disk_free(folder);
    double need = (double)p->layout.head.bytes
                + 4.0 * (double)p->n_seq * (double)p->length * p->a->hidden;
    char wanted[32], left[32];
    if (free >= 0 && need > (double)free)
        return lm_fail(e, LM_EIO, "%s: statistics need %s of disk and %s are free; set "
                       "XDG_CACHE_HOME to a larger disk or run `lamina cache clear`",
                       folder, lm_human_bytes(wanted, need),
                       lm_human_bytes(left, (double)free));
    return LM_OK;
}

static uint64_t pass_key(const struct pass *p)
{
    struct lm_device device = { .struct_size = sizeof device };
    p->g->ops->device(p->g->backend, &device, NULL);
    uint64_t key = lm_hash_str(device.name, lm_model_hash(p->g->model));
    key = lm_hash(p->ids, (size_t)(p->n_seq * p->length) * sizeof *p->ids, key);
    key = lm_hash_u64((uint64_t)p->n_seq, lm_hash_u64((uint64_t)p->length, key));
    return lm_hash_u64(p->needs, lm_hash_u64(p->sites, key));
}

/* Opens the file of this key, or makes it. */
static enum lm_status pass_open(struct pass *p, const char *folder, struct lm_map *m,
                                struct lm_err *e)
{
    char name[48], path[4000];
    snprintf(name, sizeof name, "stats-%016llx.bin",
             (unsigned long long)p->layout.head.key);
    if (!lm_path_join(path, sizeof path, folder, name))
        return lm_fail(e, LM_ECONFIG, "%s: the path is too long", folder);
    if (lm_file_exists(path)) {
        enum lm_status st = lm_map_open(m, path, e);
        if (st)
            return st;
        if (lm_stats_head_fits(&p->layout, m))
            return LM_OK;
        lm_map_close(m);
    }
    enum lm_status st = lm_make_folder(folder, e);
    if (!st)
        st = check_disk(p, folder, e);
    return st ? st : pass_write(p, path, m, e);
}

enum lm_status lm_stats_collect(struct lm_engine *g, const int32_t *ids, int64_t n_seq,
                                int64_t length, uint64_t needs, uint64_t sites,
                                const char *folder, struct lm_stats **out,
                                struct lm_err *e)
{
    struct pass p = { .g = g, .a = g->arch, .ids = ids, .n_seq = n_seq, .length = length,
                      .needs = needs, .sites = sites };
    *out = NULL;
    if (n_seq < 1 || length < 1 || length > INT32_MAX / 2
        || n_seq > INT32_MAX / 2 / length)
        return lm_fail(e, LM_ECONFIG, "a calibration sample of %lld sequences of %lld "
                       "tokens is not possible", (long long)n_seq, (long long)length);
    enum lm_status st = lm_ids_check(g->arch, ids, (size_t)(n_seq * length), e);
    if (!st)
        st = lm_length_check(g->arch, length, e);
    if (st)
        return st;
    p.group = lm_sample_group(n_seq, length);
    p.n_group = (n_seq + p.group - 1) / p.group;
    struct lm_stats *s = lm_alloc(sizeof *s, "statistics");
    if (!s)
        return lm_fail_memory(e, sizeof *s, "statistics");
    pthread_mutex_init(&s->lock, NULL);
    s->group = p.group * length;
    if (!(s->folder = lm_strdup(folder, "statistics"))) {
        lm_stats_close(s);
        return lm_fail_memory(e, strlen(folder), "statistics");
    }
    st = lm_stats_plan(g->arch, needs, sites, pass_key(&p), n_seq * length, &p.layout, e);
    if (!st)
        st = pass_open(&p, folder, &s->map, e);
    s->layout = p.layout;
    if (st) {
        lm_stats_close(s);
        return st;
    }
    *out = s;
    return LM_OK;
}
