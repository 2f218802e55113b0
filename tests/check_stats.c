/* SPDX-License-Identifier: Apache-2.0 */
/* check_stats.c -- the calibration pass on a golden model against a double loop
 * over inputs that the test taps itself; the same bytes for any number of
 * threads; reuse, damage and replacement of the file; the sample's starts.      */
#include "engine_kit.h"
#include "model/align.h"
#include "model/segment.h"
#include "model/stats.h"

enum { N_SEQ = 14, LENGTH = 13, TOKENS = N_SEQ * LENGTH };
#define ALL (LM_BIT(LM_STAT_SUM) | LM_BIT(LM_STAT_SUMSQ) | LM_BIT(LM_STAT_GRAM) \
             | LM_BIT(LM_STAT_COSINE) | LM_BIT(LM_STAT_SUMABS) | LM_BIT(LM_STAT_ALIGN) \
             | LM_BIT(LM_STAT_STREAM))
#define SITES (LM_BIT(LM_SITE_ATTN) | LM_BIT(LM_SITE_MLP) | LM_BIT(LM_SITE_LAYER) \
               | LM_BIT(LM_SITE_HIDDEN))

static struct lm_err err;
static struct kit kit;
static struct shelf weights;
static struct lm_model *model;
static struct lm_engine *engine;
static int32_t ids[TOKENS];
static char folder[256];

static void setup(void)
{
    kit_open(&kit, "cpu");
    model = kit_golden(source_path("tests/golden/llama-gqa-tied-bf16"), &weights);
    ck_assert_ok(lm_engine_open(model, kit.ops, kit.self, &engine, &err), err);
    struct lm_rng r = lm_rng(3, "ids", 0);
    for (int i = 0; i < TOKENS; i++)
        ids[i] = (int32_t)lm_rng_below(&r, 96);
    scratch_begin(folder);
}

static void teardown(void)
{
    scratch_end(folder);
    lm_engine_close(engine);
    lm_model_free(model);
    shelf_close(&weights);
    kit_close(&kit, "cpu");
    lm_pool_stop();
    ck_assert_int_eq(lm_mem_blocks(), 0);
}

static enum lm_status collect(uint64_t needs, uint64_t sites, struct lm_stats **s)
{
    return lm_stats_collect(engine, ids, N_SEQ, LENGTH, needs, sites, folder, s, &err);
}

/* ---- an independent pass, sequence by sequence ------------------------------- */
struct site {
    int64_t k;
    double *x, *stream;                 /* [TOKENS][k]; sums [hidden][hidden] */
    double cosine, align[3];
};

/* HSIC by its definition: the mean over four different rows i, j, q, r of
 * k_ij (l_ij + l_qr - 2 l_iq), with k_ij = a_i . a_j, l_ij = b_i . b_j.        */
static double slow_hsic(const float *a, const float *b, int n, int64_t d)
{
    double k[20][20], l[20][20], total = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            k[i][j] = l[i][j] = 0;
            for (int64_t c = 0; c < d; c++) {
                k[i][j] += (double)a[i * d + c] * (double)a[j * d + c];
                l[i][j] += (double)b[i * d + c] * (double)b[j * d + c];
            }
        }
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            for (int q = 0; q < n; q++)
                for (int r = 0; r < n; r++)
                    if (i != j && i != q && i != r && j != q && j != r && q != r)
                        total += k[i][j] * (l[i][j] + l[q][r] - 2 * l[i][q]);
    return total / ((double)n * (n - 1) * (n - 2) * (n - 3));
}

static void add_align(const float *a, const float *b, int64_t hidden, double *out)
{
    out[0] += slow_hsic(a, b, LENGTH, hidden);
    out[1] += slow_hsic(a, a, LENGTH, hidden);
    out[2] += slow_hsic(b, b, LENGTH, hidden);
}

static double cosine(const float *a, const float *b, int64_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (int64_t i = 0; i < n; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return ab / sqrt(aa * bb);
}

/* Of one sequence, by the definition. */
static void add_stream(const float *h, double *out)
{
    const struct lm_arch *a = lm_model_arch(model);
    for (int t = 0; t < LENGTH; t++, h += a->hidden) {
        double mean = a->rms_eps;
        for (int i = 0; i < a->hidden; i++)
            mean += (double)h[i] * (double)h[i] / a->hidden;
        for (int i = 0; i < a->hidden; i++)
            for (int j = 0; j < a->hidden; j++)
                out[i * a->hidden + j] += (double)h[i] * (double)h[j] / mean;
    }
}

/* Runs segment s over h in place; the tapped input goes to out->x. */
static void tap_segment(struct lm_segment *s, int seq, float *h, struct site *out)
{
    int64_t hidden = lm_model_arch(model)->hidden, floats = LENGTH * hidden;
    struct lm_lowered p = { 0 };
    struct lm_exe *x = NULL;
    struct lm_stream *stream = NULL;
    struct lm_kv *kv = NULL;
    struct lm_buffer *b = NULL, *tap = NULL;
    int32_t width = 16;
    float *before = lm_alloc((size_t)floats * 4, "test"), *in;
    in = lm_alloc((size_t)(LENGTH * out->k) * 4, "test");
    ck_assert_ok(lm_lower(&p, s, 0, true, HEAD_CE, &err), err);
    ck_assert_ok(lm_lower_compile(engine, &p, LM_AS_F32, &x, &err), err);
    lm_lower_free(&p);
    ck_assert_ok(kit.ops->stream_open(kit.self, 1, &stream, &err), err);
    ck_assert_ok(kit.ops->kv_open(kit.self, &width, 1, LENGTH, &kv, &err), err);
    ck_assert_ok(kit.ops->buffer(kit.self, floats, &b, &err), err);
    ck_assert_ok(kit.ops->buffer(kit.self, LENGTH * out->k, &tap, &err), err);
    ck_assert_ok(kit.ops->write(kit.self, b, 0, h, floats, &err), err);
    memcpy(before, h, (size_t)floats * 4);
    add_stream(h, out->stream);
    struct lm_exec arg = { .struct_size = sizeof arg, .rows = LENGTH, .hidden = b,
                           .kv = kv, .tap = { tap } };
    ck_assert_ok(kit.ops->run(kit.self, stream, x, &arg, NULL, &err), err);
    ck_assert_ok(kit.ops->read(kit.self, b, 0, h, floats, &err), err);
    ck_assert_ok(kit.ops->read(kit.self, tap, 0, in, LENGTH * out->k, &err), err);
    for (int64_t i = 0; i < LENGTH * out->k; i++)
        out->x[seq * LENGTH * out->k + i] = (double)in[i];
    for (int t = 0; t < LENGTH; t++)
        out->cosine += cosine(before + t * hidden, h + t * hidden, hidden) / TOKENS;
    add_align(before, h, hidden, out->align);
    kit.ops->buffer_free(kit.self, b);
    kit.ops->buffer_free(kit.self, tap);
    kit.ops->kv_close(kit.self, kv);
    kit.ops->stream_close(kit.self, stream);
    kit.ops->exe_free(kit.self, x);
    lm_release(before);
    lm_release(in);
}

/* sites [layer][ATTN, MLP], and the cosine of whole layers. */
static void slow_pass(struct site (*site)[2], double *layer_cosine,
                      double (*layer_align)[3], double *last)
{
    const struct lm_arch *a = lm_model_arch(model);
    const float *table;
    struct lm_network net;
    float *h = lm_alloc((size_t)(LENGTH * a->hidden) * 4, "test");
    float *before = lm_alloc((size_t)(LENGTH * a->hidden) * 4, "test");
    ck_assert_ok(lm_network_open(engine, model, &net, &err), err);
    ck_assert_ok(lm_model_floats(model, LM_W_EMBED, -1, &table, &err), err);
    for (int seq = 0; seq < N_SEQ; seq++) {
        for (int t = 0; t < LENGTH; t++)
            memcpy(h + t * a->hidden, table + (int64_t)ids[seq * LENGTH + t] * a->hidden,
                   (size_t)a->hidden * 4);
        for (int l = 0; l < a->n_layer; l++) {
            memcpy(before, h, (size_t)(LENGTH * a->hidden) * 4);
            tap_segment(net.seg[1 + 2 * l], seq, h, &site[l][0]);
            tap_segment(net.seg[2 + 2 * l], seq, h, &site[l][1]);
            for (int t = 0; t < LENGTH; t++)
                layer_cosine[l] += cosine(before + t * a->hidden, h + t * a->hidden,
                                          a->hidden) / TOKENS;
            add_align(before, h, a->hidden, layer_align[l]);
        }
        add_stream(h, last);
    }
    lm_network_close(&net);
    lm_release(h);
    lm_release(before);
}

static void near(double got, double want, double size, const char *what)
{
    ck_assert_msg(fabs(got - want) <= 1e-5 * size + 1e-9, "%s: %.12g, not %.12g", what,
                  got, want);
}

static const double *get(const struct lm_stats *s, uint32_t stat, uint32_t site,
                         int layer, int64_t want)
{
    const double *x = NULL;
    int64_t n = -1;
    ck_assert_ok(lm_stats_get(s, stat, site, layer, &x, &n, &err), err);
    ck_assert_int_eq(n, want);
    ck_assert_int_eq((uintptr_t)x % 64, 0);
    return x;
}

/* Backwards. */
static void compare_order(const struct lm_stats *s, uint32_t kind, int layer, int64_t k,
                          const double *gram)
{
    int32_t *column = lm_alloc_array((size_t)k, sizeof *column, "test");
    double *out = lm_alloc_array((size_t)(k * k), sizeof *out, "test");
    for (int64_t i = 0; i < k; i++)
        column[i] = (int32_t)(k - 1 - i);
    ck_assert_ok(lm_stats_gram(s, kind, layer, column, k, out, &err), err);
    for (int64_t i = 0; i < k * k; i++)
        ck_assert(out[i] == gram[k * k - 1 - i]);
    ck_assert_int_eq(lm_stats_gram(s, kind, layer, column, k - 1, out, &err), LM_EBUG);
    lm_release(column);
    lm_release(out);
}

static void compare_stream(const struct lm_stats *s, uint32_t kind, int layer,
                           const double *want)
{
    int64_t d = lm_model_arch(model)->hidden;
    const double *got = get(s, LM_STAT_STREAM, kind, layer, d * d);
    for (int64_t i = 0; i < d; i++)
        for (int64_t j = 0; j < d; j++) {
            near(got[i * d + j], want[i * d + j],
                 sqrt(want[i * d + i] * want[j * d + j]), "stream");
            ck_assert(got[i * d + j] == got[j * d + i]);
        }
}

static void compare_site(const struct lm_stats *s, uint32_t kind, int layer,
                         const struct site *w)
{
    compare_stream(s, kind, layer, w->stream);
    int64_t k = w->k;
    const double *sum = get(s, LM_STAT_SUM, kind, layer, k);
    const double *sumsq = get(s, LM_STAT_SUMSQ, kind, layer, k);
    const double *gram = get(s, LM_STAT_GRAM, kind, layer, k * k);
    const double *sumabs = get(s, LM_STAT_SUMABS, kind, layer, k);
    const double *align = get(s, LM_STAT_ALIGN, kind, layer, 3);
    compare_order(s, kind, layer, k, gram);
    near(get(s, LM_STAT_COSINE, kind, layer, 1)[0], w->cosine, 1, "cosine");
    for (int i = 0; i < 3; i++)
        near(align[i], w->align[i], sqrt(w->align[1] * w->align[2]), "alignment");
    for (int64_t i = 0; i < k; i++) {
        double one = 0, two = 0, size = 0;
        for (int t = 0; t < TOKENS; t++) {
            one += w->x[t * k + i];
            two += w->x[t * k + i] * w->x[t * k + i];
            size += fabs(w->x[t * k + i]);
        }
        near(sumabs[i], size, size, "sum of magnitudes");
        near(sum[i], one, sqrt(two * TOKENS), "sum");
        near(sumsq[i], two, two, "sum of squares");
        for (int64_t j = 0; j < k; j++) {
            double g = 0;
            for (int t = 0; t < TOKENS; t++)
                g += w->x[t * k + i] * w->x[t * k + j];
            near(gram[i * k + j], g, sqrt(sumsq[i] * sumsq[j]), "Gram");
            ck_assert(gram[i * k + j] == gram[j * k + i]);
        }
    }
}

/* The sample is long enough that the narrower site has its Gram matrix stored, and short
 * enough that of the wider one the inputs are.                                   */
START_TEST(statistics_are_right)
{
    const struct lm_arch *a = lm_model_arch(model);
    struct site site[3][2] = { { { 0 } } };
    double layer_cosine[3] = { 0 }, layer_align[3][3] = { { 0 } };
    struct lm_stats *s = NULL;
    size_t square = (size_t)a->hidden * (size_t)a->hidden * 8;
    double *last = lm_alloc(square, "test");
    for (int l = 0; l < a->n_layer; l++)
        for (int b = 0; b < 2; b++) {
            site[l][b].stream = lm_alloc(square, "test");
            site[l][b].k = b ? a->layer[l].n_ff : a->layer[l].n_head * a->head_dim;
            site[l][b].x = lm_alloc((size_t)(TOKENS * site[l][b].k) * 8, "test");
        }
    ck_assert_int_ge(TOKENS, 2 * site[0][0].k);
    ck_assert_int_lt(TOKENS, 2 * site[0][1].k);
    slow_pass(site, layer_cosine, layer_align, last);
    ck_assert_ok(collect(ALL, SITES, &s), err);
    compare_stream(s, LM_SITE_HIDDEN, -1, last);
    lm_release(last);
    ck_assert_int_eq(lm_stats_tokens(s), TOKENS);
    for (int l = 0; l < a->n_layer; l++) {
        compare_site(s, LM_SITE_ATTN, l, &site[l][0]);
        compare_site(s, LM_SITE_MLP, l, &site[l][1]);
        near(get(s, LM_STAT_COSINE, LM_SITE_LAYER, l, 1)[0], layer_cosine[l], 1,
             "cosine");
        for (int i = 0; i < 3; i++)
            near(get(s, LM_STAT_ALIGN, LM_SITE_LAYER, l, 3)[i], layer_align[l][i],
                 sqrt(layer_align[l][1] * layer_align[l][2]), "alignment");
        for (int b = 0; b < 2; b++) {
            lm_release(site[l][b].x);
            lm_release(site[l][b].stream);
        }
    }
    const double *x;
    int64_t n;
    ck_assert_int_eq(lm_stats_get(s, LM_STAT_GRAM, LM_SITE_LAYER, 0, &x, &n, &err),
                     LM_EBUG);
    ck_assert_int_eq(lm_stats_get(s, LM_STAT_SUM, LM_SITE_MLP, 3, &x, &n, &err), LM_EBUG);
    ck_assert_int_eq(lm_stats_get(s, LM_STAT_STREAM, LM_SITE_LAYER, 0, &x, &n, &err),
                     LM_EBUG);
    ck_assert_int_eq(lm_stats_get(s, LM_STAT_GRAM, LM_SITE_HIDDEN, -1, &x, &n, &err),
                     LM_EBUG);
    lm_stats_close(s);
}
END_TEST

/* CKA of rows and of the same rows turned, scaled and shifted is 1; kernels of rows
 * that have nothing to do with each other have one near 0.                     */
START_TEST(alignment_is_invariant)
{
    enum { N = 200, D = 6 };
    static float x[N][D], y[N][D], z[N][D], scratch[N * D], k[3][N * N];
    struct lm_rng r = lm_rng(4, "rows", 0);
    double h[3][3];
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < D; j++) {
            x[i][j] = (float)((2 * lm_rng_unit(&r) - 1) * (1 + j));
            z[i][j] = (float)((2 * lm_rng_unit(&r) - 1) * (1 + j));
        }
        for (int j = 0; j < D; j += 2) {
            y[i][j] = 3 * (0.6f * x[i][j] - 0.8f * x[i][j + 1]) + 1000;
            y[i][j + 1] = 3 * (0.8f * x[i][j] + 0.6f * x[i][j + 1]) - 50;
        }
    }
    lm_align_kernel(x[0], N, D, scratch, k[0]);
    lm_align_kernel(y[0], N, D, scratch, k[1]);
    lm_align_kernel(z[0], N, D, scratch, k[2]);
    for (int a = 0; a < 3; a++)
        for (int b = 0; b < 3; b++)
            h[a][b] = lm_align_hsic(k[a], k[b], N);
    ck_assert(fabs(h[0][1] / sqrt(h[0][0] * h[1][1]) - 1) < 1e-4);
    ck_assert(fabs(h[0][2] / sqrt(h[0][0] * h[2][2])) < 0.05);
    ck_assert(h[0][1] == h[1][0]);
}
END_TEST

/* 515 tokens are one piece of 512, which sees no later token, and a rest too short
 * to count.                                                                    */
START_TEST(alignment_goes_by_pieces)
{
    enum { LONG = 515 };
    struct lm_stats *s = NULL, *t = NULL;
    int32_t *many = lm_alloc(LONG * sizeof *many, "test");
    struct lm_rng r = lm_rng(6, "ids", 0);
    for (int i = 0; i < LONG; i++)
        many[i] = (int32_t)lm_rng_below(&r, 96);
    ck_assert_ok(lm_stats_collect(engine, many, 1, LONG, LM_BIT(LM_STAT_ALIGN), SITES,
                                  folder, &s, &err), err);
    ck_assert_ok(lm_stats_collect(engine, many, 1, 512, LM_BIT(LM_STAT_ALIGN), SITES,
                                  folder, &t, &err), err);
    for (int i = 0; i < 3; i++)
        near(get(s, LM_STAT_ALIGN, LM_SITE_LAYER, 2, 3)[i],
             get(t, LM_STAT_ALIGN, LM_SITE_LAYER, 2, 3)[i],
             10 * get(t, LM_STAT_ALIGN, LM_SITE_LAYER, 2, 3)[2], "alignment");
    ck_assert(get(t, LM_STAT_ALIGN, LM_SITE_LAYER, 2, 3)[1] > 0);
    lm_stats_close(s);
    lm_stats_close(t);
    ck_assert_ok(lm_stats_collect(engine, many, 5, 3, LM_BIT(LM_STAT_ALIGN), SITES,
                                  folder, &s, &err), err);
    ck_assert(get(s, LM_STAT_ALIGN, LM_SITE_MLP, 0, 3)[1] == 0);
    lm_stats_close(s);
    lm_release(many);
}
END_TEST

/* The only file in the folder that ends so; read whole. */
static size_t stats_file(char **data, char *path)
{
    char **name;
    size_t n, size = 0;
    *data = NULL;
    ck_assert_ok(lm_list_folder(folder, &name, &n, &err), err);
    ck_assert_int_eq(n, 1);
    ck_assert(lm_path_join(path, 1024, folder, name[0]));
    ck_assert_ok(lm_read_file(path, 1 << 26, data, &size, &err), err);
    lm_release(name[0]);
    lm_release(name);
    return size;
}

START_TEST(threads_change_nothing)
{
    struct lm_stats *s = NULL;
    char *one, *many, path[1024];
    ck_assert_ok(collect(ALL, SITES, &s), err);
    uint64_t key = lm_stats_key(s);
    lm_stats_close(s);
    size_t n = stats_file(&one, path);
    ck_assert_int_eq((int64_t)n, lm_stats_bytes(lm_model_arch(model), ALL, SITES,
                                                TOKENS));
    remove(path);
    lm_pool_start(4, NULL);
    ck_assert_ok(collect(ALL, SITES, &s), err);
    ck_assert_uint_eq(lm_stats_key(s), key);
    lm_stats_close(s);
    ck_assert_int_eq(stats_file(&many, path), n);
    ck_assert_mem_eq(one, many, n);
    lm_release(one);
    lm_release(many);
}
END_TEST

/* A valid file is used as it is; a damaged head or length means a new one. */
START_TEST(files_are_reused_and_checked)
{
    struct lm_stats *s = NULL;
    char *good, *now, path[1024];
    ck_assert_ok(collect(ALL, SITES, &s), err);
    lm_stats_close(s);
    size_t n = stats_file(&good, path);
    good[n - 8] ^= 1;                   /* a value; nothing checks these */
    ck_assert_ok(lm_write_file(path, good, n, &err), err);
    ck_assert_ok(collect(ALL, SITES, &s), err);
    lm_stats_close(s);
    ck_assert_int_eq(stats_file(&now, path), n);
    ck_assert_mem_eq(good, now, n);     /* it was used, not written again */
    lm_release(now);
    for (size_t at = 0; at < 200; at += 3) {
        good[at] ^= 0x41;
        size_t length = at % 2 ? n : n - at;
        ck_assert_ok(lm_write_file(path, good, length, &err), err);
        ck_assert_ok(collect(ALL, SITES, &s), err);
        ck_assert_int_eq(lm_stats_tokens(s), TOKENS);
        lm_stats_close(s);
        ck_assert_int_eq(stats_file(&now, path), n);
        good[at] ^= 0x41;
        ck_assert_mem_eq(good, now, n - 8);
        lm_release(now);
    }
    ck_assert_ok(lm_write_file(path, "", 0, &err), err);
    ck_assert_ok(collect(ALL, SITES, &s), err);
    lm_stats_close(s);
    lm_release(good);
}
END_TEST

START_TEST(keys_tell_apart)
{
    struct lm_stats *s = NULL;
    const double *x;
    int64_t n;
    ck_assert_ok(collect(LM_BIT(LM_STAT_COSINE), LM_BIT(LM_SITE_LAYER), &s), err);
    uint64_t key = lm_stats_key(s);
    ck_assert_int_eq(lm_stats_get(s, LM_STAT_COSINE, LM_SITE_LAYER, 2, &x, &n, &err),
                     LM_OK);
    ck_assert_int_eq(lm_stats_get(s, LM_STAT_COSINE, LM_SITE_MLP, 2, &x, &n, &err),
                     LM_EBUG);
    lm_stats_close(s);
    ck_assert_ok(collect(LM_BIT(LM_STAT_SUMSQ), LM_BIT(LM_SITE_MLP), &s), err);
    ck_assert_uint_ne(lm_stats_key(s), key);
    lm_stats_close(s);
    ck_assert_ok(collect(LM_BIT(LM_STAT_STREAM), LM_BIT(LM_SITE_HIDDEN), &s), err);
    ck_assert_int_eq(lm_stats_get(s, LM_STAT_STREAM, LM_SITE_HIDDEN, -1, &x, &n, &err),
                     LM_OK);
    ck_assert_int_eq(lm_stats_get(s, LM_STAT_STREAM, LM_SITE_MLP, 2, &x, &n, &err),
                     LM_EBUG);
    lm_stats_close(s);
    ids[5] ^= 1;
    ck_assert_ok(collect(LM_BIT(LM_STAT_COSINE), LM_BIT(LM_SITE_LAYER), &s), err);
    ck_assert_uint_ne(lm_stats_key(s), key);
    lm_stats_close(s);
    ids[5] = 96;
    ck_assert_int_eq(collect(ALL, SITES, &s), LM_EINPUT);
    ids[5] = 0;
    ck_assert_int_eq(lm_stats_collect(engine, ids, 0, 5, ALL, SITES, folder, &s, &err),
                     LM_ECONFIG);
    lm_cancel(true);
    ck_assert_int_eq(collect(ALL, SITES, &s), LM_ECANCELED);
    lm_cancel(false);
}
END_TEST

static enum lm_status fresh(void *ctx)
{
    struct lm_stats *s = NULL;
    char **name, path[1024];
    size_t n;
    (void)ctx;
    enum lm_status st = collect(ALL, SITES, &s);
    lm_stats_close(s);
    if (st)
        return st;
    ck_assert_ok(lm_list_folder(folder, &name, &n, &err), err);
    for (size_t i = 0; i < n; i++) {
        lm_path_join(path, sizeof path, folder, name[i]);
        remove(path);
        lm_release(name[i]);
    }
    lm_release(name);
    return st;
}

/* Memory, then files: nothing leaks, nothing is left in the folder. */
START_TEST(failures_leave_nothing)
{
    char **name;
    size_t n;
    ck_assert_int_eq(fresh(NULL), LM_OK);       /* floats of the model stay */
    for (int64_t k = 1;; k++) {
        int64_t before = lm_mem_blocks();
        struct lm_stats *s = NULL;
        lm_fault_memory(k);
        enum lm_status st = collect(ALL, SITES, &s);
        bool fired = lm_fault_memory_fired();
        lm_fault_memory(0);
        lm_stats_close(s);
        ck_assert_int_eq(lm_mem_blocks(), before);
        ck_assert_int_eq(st, fired ? LM_ENOMEM : LM_OK);
        if (!fired)
            break;
    }
    ck_assert_int_eq(fresh(NULL), LM_OK);
    for (int64_t k = 1;; k++) {
        struct lm_stats *s = NULL;
        lm_fault_file(k);
        enum lm_status st = collect(ALL, SITES, &s);
        bool fired = lm_fault_file_fired();
        lm_fault_file(0);
        lm_stats_close(s);
        if (!fired)
            break;
        ck_assert_msg(st == LM_EIO || st == LM_EINPUT || st == LM_OK, "%d", st);
        if (st == LM_OK)
            continue;
        ck_assert_ok(lm_list_folder(folder, &name, &n, &err), err);
        ck_assert_int_eq(n, 0);
        lm_release(name);
    }
}
END_TEST

/* The 10,000th output for the standard seed, from the C++ standard (mt19937), and
 * the first ones.                                                             */
START_TEST(sample_starts)
{
    static int64_t start[10000];
    lm_sample_starts(5489, ((int64_t)1 << 32) + 11, 10, 10000, start);
    ck_assert_int_eq(start[0], 3499211612);
    ck_assert_int_eq(start[1], 581869302);
    ck_assert_int_eq(start[9999], 4123659995);
    lm_sample_starts(5489, 1011, 10, 2, start);
    ck_assert_int_eq(start[0], 612);
    lm_sample_starts(1, 11, 10, 1, start);
    ck_assert_int_eq(start[0], 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("stats");
    TCase *c = tcase_create("stats");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, statistics_are_right);
    tcase_add_test(c, alignment_is_invariant);
    tcase_add_test(c, alignment_goes_by_pieces);
    tcase_add_test(c, threads_change_nothing);
    tcase_add_test(c, files_are_reused_and_checked);
    tcase_add_test(c, keys_tell_apart);
    tcase_add_test(c, failures_leave_nothing);
    tcase_add_test(c, sample_starts);
    suite_add_tcase(s, c);
    return run_suites(&s, 1);
}
