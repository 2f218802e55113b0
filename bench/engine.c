/* SPDX-License-Identifier: Apache-2.0 */
/* engine.c -- how fast the engine is, next to what the machine can do.
 *
 *   bench/engine losses MODEL IDS WINDOWS
 *   bench/engine decode MODEL IDS NAME
 *
 * IDS is a file of token ids separated by spaces.  In one process, on one
 * thread, `losses` measures the processor's peak in each number format (rates.c),
 * the sgemm rate (best of 20, C[2048][3072] = A[2048][576] W[3072][576]^T), the rate
 * of reading memory, and in each precision the losses of WINDOWS windows of 512
 * tokens, each different from the last so that no prefix is shared.  `decode`
 * measures 64 decoding steps behind 512 tokens from the weights as the file has
 * them.  Times are seconds of processor time; loading and packing are not timed.
 * Each line of output is `key = value`.
 *
 * Work is counted as the model needs it, whatever the engine does: 2 flops for
 * each weight of a matrix and token, and causal attention's two products, each
 * over T / 2 keys on average.  Decoding counts the bytes of the matrices only.   */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/linalg.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/process.h"
#include "loader/loader.h"
#include "model/codec.h"
#include "pipeline/session.h"
#include "plan/plan.h"
#include "rates.h"

enum { T = 512, STEPS = 64, MOST_WINDOWS = 64, REPEATS = 3 };
enum { M = 2048, N = 3072, K = 576, WORDS = 1 << 25 };     /* WORDS: 256 MiB */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, compare);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* ---- the machine ----------------------------------------------------------- */

static enum lm_status gemm_rate(struct lm_err *e)
{
    float *a = lm_alloc((size_t)M * K * 4, "bench");
    float *w = lm_alloc((size_t)N * K * 4, "bench");
    float *c = lm_alloc((size_t)M * N * 4, "bench");
    double best = INFINITY;
    enum lm_status s = a && w && c ? LM_OK
        : lm_fail_memory(e, (size_t)M * N * 4, "matrices");

    for (int32_t i = 0; !s && i < M * K; i++)
        a[i] = (float)(i % 17) - 8;
    for (int32_t i = 0; !s && i < N * K; i++)
        w[i] = (float)(i % 13) - 6;
    for (int i = 0; !s && i < 20; i++) {
        double t = lm_process_seconds(false);

        lm_gemm('n', 't', M, N, K, 1, a, K, w, K, 0, c, N);
        best = fmin(best, lm_process_seconds(false) - t);
    }
    if (!s)
        printf("gemm.core = %s\ngemm.gflops = %.1f\n", lm_linalg_core(),
               2.0 * M * N * K / best * 1e-9);
    lm_release(a);
    lm_release(w);
    lm_release(c);
    return s;
}

/* Eight chains, so that the adds never wait for each other. */
static uint64_t total(const uint64_t *v)
{
    uint64_t s[8] = { 0 }, sum = 0;

    for (size_t i = 0; i < WORDS; i += 8)
        for (size_t k = 0; k < 8; k++)
            s[k] += v[i + k];
    for (size_t k = 0; k < 8; k++)
        sum += s[k];
    return sum;
}

static enum lm_status memory_rate(struct lm_err *e)
{
    uint64_t *v = lm_alloc((size_t)WORDS * sizeof *v, "bench"), sum = 0;
    double best = INFINITY;

    if (!v)
        return lm_fail_memory(e, (size_t)WORDS * sizeof *v, "an array");
    for (size_t i = 0; i < WORDS; i++)
        v[i] = i;
    for (int i = 0; i < 20; i++) {
        double t = lm_process_seconds(false);

        sum += total(v);
        best = fmin(best, lm_process_seconds(false) - t);
    }
    lm_release(v);
    if (sum != 20 * ((uint64_t)WORDS / 2 * (WORDS - 1)))        /* and keeps the loop */
        return lm_fail(e, LM_EBUG, "memory_rate: wrong sum");
    printf("memory.gbytes = %.1f\n", WORDS * sizeof *v / best * 1e-9);
    return LM_OK;
}

/* ---- the engine -------------------------------------------------------------- */

static enum lm_status count_work(const struct lm_model *m, double *flops,
                                 struct lm_err *e)
{
    const struct lm_arch *a = lm_model_arch(m);
    struct lm_cost cost = { .struct_size = sizeof cost };
    struct lm_plan *plan;
    double head = (double)a->hidden * a->vocab, heads = 0;
    enum lm_status s = lm_plan_open(a, NULL, &plan, e);

    if (s)
        return s;
    lm_plan_cost(plan, LM_F32, &cost);
    lm_plan_free(plan);
    for (int32_t i = 0; i < a->n_layer; i++)
        heads += a->layer[i].n_head;
    *flops = 2.0 * ((double)cost.body_params + head + heads * a->head_dim * T);
    return LM_OK;
}

/* What a token reads: the matrices, and of the embedding the head. */
static double count_bytes(const struct lm_model *m)
{
    const struct lm_arch *a = lm_model_arch(m);
    double bytes = 0;

    for (int32_t i = -1; i < a->n_layer; i++)
        for (uint32_t role = 1; role < LM_N_ROLES; role++) {
            bool layers = role > LM_W_FINAL_NORM;
            const struct lm_tensor *t = layers == (i >= 0) ? lm_model_tensor(m, role, i)
                                                           : NULL;

            if (t && t->rows > 1 && (role != LM_W_EMBED || a->tied))
                bytes += (double)lm_row_bytes(t->dtype, t->cols) * (double)t->rows;
        }
    return bytes;
}

static enum lm_status time_losses(struct lm_engine *g, const struct lm_network *net,
                                  const int32_t *ids, size_t windows,
                                  double flops, struct lm_err *e)
{
    static float nll[T];
    const char *name = lm_precision_names[net->precision];
    double seconds[MOST_WINDOWS], sum = 0;
    struct lm_runner *r;
    enum lm_status s = lm_runner_open(g, &r, e);

    if (s)
        return s;
    s = lm_runner_losses(r, net, ids + windows * T, T, nll, e);     /* warms up */
    for (size_t i = 0; !s && i < windows; i++) {
        double t = lm_process_seconds(false);

        s = lm_runner_losses(r, net, ids + i * T, T, nll, e);
        seconds[i] = lm_process_seconds(false) - t;
        for (int k = 0; k < T - 1; k++)
            sum += nll[k];
    }
    lm_runner_close(r);
    if (!s) {
        double rate = T / median(seconds, windows);

        printf("lamina.%s.prefill_tok_s = %.1f\nlamina.%s.prefill_gflops = %.1f\n"
               "lamina.%s.loss = %.5f\n", name, rate, name, rate * flops * 1e-9, name,
               sum / (double)(windows * (T - 1)));
    }
    return s;
}

static enum lm_status time_decode(struct lm_engine *g, const struct lm_network *net,
                                  const int32_t *ids, const char *name,
                                  struct lm_err *e)
{
    int32_t vocab = lm_model_arch(lm_engine_model(g))->vocab;
    float *logits = lm_alloc_array((size_t)vocab, sizeof *logits, "bench");
    double seconds[REPEATS];
    struct lm_decoder *d = NULL;
    enum lm_status s = logits ? LM_OK : lm_fail_memory(e, (size_t)vocab * 4, "logits");

    if (!s)
        s = lm_decoder_open(g, net, T + STEPS, 1, &d, e);
    if (!s)
        s = lm_decoder_feed(d, ids, T, NULL, NULL, e);
    for (int r = 0; !s && r < REPEATS; r++) {
        double t = lm_process_seconds(false);

        lm_decoder_seek(d, T);
        for (int i = 0; !s && i < STEPS; i++)
            s = lm_decoder_feed(d, ids + T + i, 1, logits, NULL, e);
        seconds[r] = lm_process_seconds(false) - t;
    }
    lm_decoder_close(d);
    lm_release(logits);
    if (!s) {
        double rate = STEPS / median(seconds, REPEATS);

        printf("lamina.%s.decode_tok_s = %.2f\nlamina.%s.decode_gbytes = %.2f\n", name,
               rate, name, rate * count_bytes(lm_engine_model(g)) * 1e-9);
    }
    return s;
}

static enum lm_status time_all_losses(struct lm_engine *g, struct lm_network *net,
                                      const int32_t *ids, size_t windows,
                                      struct lm_err *e)
{
    double flops = 0;
    enum lm_status s = count_work(lm_engine_model(g), &flops, e);

    for (uint32_t p = LM_AS_F32; !s && p < LM_N_PRECISIONS; p++) {
        net->precision = p;
        s = time_losses(g, net, ids, windows, flops, e);
    }
    if (!s)
        printf("work.mflop_per_token = %.1f\n", flops * 1e-6);
    return s;
}

/* windows 0: decode. */
static enum lm_status time_model(const char *path, const int32_t *ids, size_t windows,
                                 const char *name, struct lm_err *e)
{
    struct lm_run *run = NULL;
    struct lm_conf *conf = NULL;
    struct lm_stage backend = { 0 };
    struct lm_bench b = { 0 };
    struct lm_network net = { 0 };
    enum lm_status s = lm_run_open(0, &run, e);

    if (!s)
        s = lm_stage_text(&backend, LM_BACKEND, "cpu", &conf, run, e);
    if (!s)
        s = lm_bench_open(&b, path, NULL, &backend, 0, run, e);
    if (!s)
        s = lm_network_open(b.engine, b.model, &net, e);
    if (!s)
        s = windows ? time_all_losses(b.engine, &net, ids, windows, e)
                    : time_decode(b.engine, &net, ids, name, e);
    lm_network_close(&net);
    lm_bench_close(&b);
    if (backend.plugin)
        lm_stage_close(&backend);
    lm_conf_free(conf);
    lm_run_close(run);
    return s;
}

static enum lm_status read_ids(const char *path, size_t want, int32_t **ids,
                               struct lm_err *e)
{
    char *text, *p, *end;
    size_t n_text, n = 0;
    enum lm_status s = lm_read_file(path, 1 << 24, &text, &n_text, e);

    if (s)
        return s;
    *ids = lm_alloc_array(want, sizeof **ids, "bench");
    for (p = text; *ids && n < want; p = end) {
        long v = strtol(p, &end, 10);

        if (end == p)
            break;
        (*ids)[n++] = (int32_t)v;
    }
    lm_release(text);
    if (!*ids)
        return lm_fail_memory(e, want * 4, "ids");
    return n == want ? LM_OK : lm_fail(e, LM_EINPUT, "%s: holds %zu token ids, %zu are "
                                       "needed", path, n, want);
}

static enum lm_status measure(const char *path, const char *file, size_t windows,
                              const char *name, struct lm_err *e)
{
    int32_t *ids = NULL;
    enum lm_status s = read_ids(file, ((windows ? windows : 1) + 1) * T, &ids, e);

    if (!s && windows) {
        rates_show();
        s = gemm_rate(e);
        if (!s)
            s = memory_rate(e);
    }
    if (!s)
        s = time_model(path, ids, windows, name, e);
    lm_release(ids);
    return s;
}

int main(int argc, char **argv)
{
    struct lm_err e = { 0 };
    bool losses = argc == 5 && !strcmp(argv[1], "losses");
    bool decode = argc == 5 && !strcmp(argv[1], "decode");
    long windows = losses ? atol(argv[4]) : 0;
    enum lm_status s;

    if (!decode && (windows < 2 || windows > MOST_WINDOWS)) {
        fprintf(stderr, "usage: %s losses MODEL IDS WINDOWS (2 to %d)\n"
                "       %s decode MODEL IDS NAME\n", argv[0], MOST_WINDOWS, argv[0]);
        return 2;
    }
    lm_linalg_threads(1);
    s = lm_loader_start(NULL, &e);
    if (!s)
        s = lm_pool_start(1, &e);
    if (!s)
        s = measure(argv[2], argv[3], (size_t)windows, argv[4], &e);
    if (s)
        fprintf(stderr, "%s: %s\n", argv[0], e.text);
    lm_pool_stop();
    lm_loader_stop();
    return s ? 1 : 0;
}
