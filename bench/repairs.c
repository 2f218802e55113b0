/* SPDX-License-Identifier: Apache-2.0 */
/* repairs.c -- iterated repair against its closed form, matrix by matrix.
 *
 *   bench/repairs PIPELINE WIDTH...
 *
 * Of a pipeline: model, calibration, scorer.  In each layer the channels of the MLP are
 * in the scorer's order, and down_proj is repaired to each WIDTH, once by least_squares
 * and once by admm with their defaults.  The error of a repair is, over the calibration
 * tokens, the root of sum |W x - W' x_S|^2 / sum |W x|^2.  Times are seconds of
 * processor time on one thread, preparing once and applying to all widths, the two
 * side by side in each layer.  Each line of output is `key = value`; figures are means
 * over the layers, `ratio` is of these means, `ratio_most` the worst layer's.       */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/linalg.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/process.h"
#include "loader/loader.h"
#include "pipeline/session.h"
#include "space/space.h"

enum { MOST = 8, CUT = 0, CLOSED, ITERATED, N_WAYS };
static const char *const way_name[N_WAYS] = { "none", "least_squares", "admm" };

struct work {
    struct lm_session *s;
    struct lm_stage repair[N_WAYS];
    struct lm_conf *group[N_WAYS];
    int64_t width[MOST];
    int n_width;
    double error[N_WAYS][MOST], most[MOST], seconds[N_WAYS];
};

/* trace(E H E^T) for E = W less v [n][m] on the first m columns. */
static double miss(const struct lm_repair_site *s, const float *v, int64_t m, double *err,
                   double *y)
{
    double sum = 0;

    for (int64_t i = 0; i < s->n * s->k; i++) {
        int64_t j = i % s->k;

        err[i] = (double)s->w[i] - (j < m ? (double)v[i / s->k * m + j] : 0);
    }
    lm_gemm64('n', 'n', s->n, s->k, s->k, 1, err, s->k, s->gram, s->k, 0, y, s->k);
    for (int64_t i = 0; i < s->n * s->k; i++)
        sum += err[i] * y[i];
    return sum;
}

static void leave(const struct lm_repair_site *s, int64_t m, float *out)
{
    for (int64_t i = 0; i < s->n; i++)
        memcpy(out + i * m, s->w + i * s->k, (size_t)m * sizeof *out);
}

/* errors [n_width] of one way; out [n][k], err, y [n][k] */
static enum lm_status one_way(struct work *w, int way, const struct lm_repair_site *s,
                              float *out, double *err, double *y, double *error,
                              struct lm_err *e)
{
    const struct lm_repair *ops = way == CUT ? NULL : w->repair[way].plugin->ops;
    void *self = w->repair[way].self, *prepared = NULL;
    double all = miss(s, out, 0, err, y), t = lm_process_seconds(false);
    enum lm_status st = ops ? ops->prepare(self, s, &prepared, e) : LM_OK;

    for (int i = 0; i < w->n_width && !st; i++) {
        if (ops)
            st = ops->apply(self, prepared, w->width[i], out, e);
        else
            leave(s, w->width[i], out);
        w->seconds[way] += lm_process_seconds(false) - t;
        if (!st)
            error[i] = sqrt(miss(s, out, w->width[i], err, y) / all);
        t = lm_process_seconds(false);
    }
    if (ops)
        ops->release(self, prepared);
    return st;
}

static enum lm_status measure(struct work *w, const struct lm_repair_site *s, float *out,
                              double *err, double *y, struct lm_err *e)
{
    int32_t layers = lm_model_arch(w->s->bench.model)->n_layer;
    double error[N_WAYS][MOST];
    enum lm_status st = LM_OK;

    for (int way = 0; way < N_WAYS && !st; way++)
        st = one_way(w, way, s, out, err, y, error[way], e);
    for (int i = 0; i < w->n_width && !st; i++) {
        for (int way = 0; way < N_WAYS; way++)
            w->error[way][i] += error[way][i] / layers;
        w->most[i] = fmax(w->most[i], error[ITERATED][i] / error[CLOSED][i]);
    }
    return st;
}

static enum lm_status do_layer(struct work *w, int32_t layer, struct lm_err *e)
{
    const struct lm_model *m = w->s->bench.model;
    const int32_t *order;
    const float *from;
    int64_t n = lm_model_arch(m)->hidden, k = 0;
    enum lm_status st = lm_space_order(w->s->bench.space, LM_SITE_FFN_CHANNEL, layer,
                                       &order, &k, e);

    if (st || (st = lm_model_floats(m, LM_W_DOWN, layer, &from, e)))
        return st;
    float *v = lm_alloc_array((size_t)(n * k), sizeof *v, "bench");
    float *out = lm_alloc_array((size_t)(n * k), sizeof *out, "bench");
    double *gram = lm_alloc_array((size_t)(k * k), sizeof *gram, "bench");
    double *err = lm_alloc_array((size_t)(2 * n * k), sizeof *err, "bench");
    struct lm_repair_site site = { .struct_size = sizeof site, .layer = layer,
        .site = LM_SITE_MLP, .n = n, .k = k, .w = v, .gram = gram,
        .tokens = lm_stats_tokens(w->s->bench.stats) };

    if (!v || !out || !gram || !err)
        st = lm_fail_memory(e, (size_t)(k * k) * sizeof *gram, "matrices");
    for (int64_t i = 0; !st && i < n * k; i++)
        v[i] = from[i / k * k + order[i % k]];
    if (!st)
        st = lm_stats_gram(w->s->bench.stats, LM_SITE_MLP, layer, order, k, gram, e);
    for (int i = 0; i < w->n_width && !st; i++)
        if (w->width[i] < 1 || w->width[i] > k)
            st = lm_fail(e, LM_ECONFIG, "there are %lld columns", (long long)k);
    if (!st)
        st = measure(w, &site, out, err, err + n * k, e);
    lm_release(v);
    lm_release(out);
    lm_release(gram);
    lm_release(err);
    return st;
}

static void tell(const struct work *w)
{
    for (int i = 0; i < w->n_width; i++) {
        long long m = w->width[i];

        for (int way = 0; way < N_WAYS; way++)
            printf("error.%s.%lld = %.5f\n", way_name[way], m, w->error[way][i]);
        printf("ratio.%lld = %.4f\nratio_most.%lld = %.4f\n", m,
               w->error[ITERATED][i] / w->error[CLOSED][i], m, w->most[i]);
    }
    printf("seconds.least_squares = %.2f\nseconds.admm = %.2f\ntimes_faster = %.1f\n",
           w->seconds[CLOSED], w->seconds[ITERATED],
           w->seconds[ITERATED] / w->seconds[CLOSED]);
}

static enum lm_status run(struct work *w, struct lm_pipeline *p, struct lm_err *e)
{
    enum lm_status st = lm_session_open(p, &w->s, e);

    for (int way = CLOSED; way < N_WAYS && !st; way++) {
        st = lm_stage_text(&w->repair[way], LM_REPAIR, way_name[way], &w->group[way],
                           p->run, e);
        if (!st)
            st = lm_stage_create(&w->repair[way], w->s->bench.model, w->s->bench.stats,
                                 e);
    }
    lm_progress_begin("repairing");
    for (int32_t i = 0; !st && i < lm_model_arch(w->s->bench.model)->n_layer; i++) {
        lm_progress((double)i / lm_model_arch(w->s->bench.model)->n_layer, NULL);
        st = do_layer(w, i, e);
    }
    lm_progress_end();
    if (!st)
        tell(w);
    for (int way = CLOSED; way < N_WAYS; way++) {
        if (w->repair[way].plugin)
            lm_stage_close(&w->repair[way]);
        lm_conf_free(w->group[way]);
    }
    lm_session_close(w->s);
    return st;
}

int main(int argc, char **argv)
{
    struct lm_err e = { 0 };
    struct work w = { .n_width = argc - 2 };
    struct lm_conf *conf;
    struct lm_pipeline *p;
    enum lm_status s;

    if (w.n_width < 1 || w.n_width > MOST) {
        fprintf(stderr, "usage: %s PIPELINE WIDTH... (1 to %d)\n", argv[0], MOST);
        return 2;
    }
    for (int i = 0; i < w.n_width; i++)
        w.width[i] = atol(argv[2 + i]);
    lm_linalg_threads(1);
    s = lm_loader_start(NULL, &e);
    if (!s)
        s = lm_pool_start(1, &e);
    if (!s && !(s = lm_conf_read(argv[1], NULL, 0, &conf, &e))
        && !(s = lm_pipeline_open(conf, &p, &e))) {
        s = run(&w, p, &e);
        lm_pipeline_close(p);
    }
    if (s)
        fprintf(stderr, "%s: %s\n", argv[0], e.text);
    lm_pool_stop();
    lm_loader_stop();
    return s ? 1 : 0;
}
