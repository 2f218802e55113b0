/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_model.c -- a model, its statistics, scores and texts, made in memory.
 *
 * Four layers, hidden 64, 4 query heads over 2 KV groups of 16, 256 channels;
 * weights uniform.  Statistics are those of 400 random tokens per site whose
 * columns share a few factors, as activations do, so Gram matrices are neither
 * diagonal nor singular.                                                    */
#include <math.h>
#include <string.h>

#include "base/linalg.h"
#include "base/mem.h"
#include "pipeline/selftest_kit.h"
#include "pipeline/session.h"

enum { LAYERS = 4, HIDDEN = 64, HEADS = 4, GROUPS = 2, HEAD = 16, WIDTH = 256,
       BYTES = 256, VOCAB = 260, TOKENS = 400, FACTORS = 24 };

/* ---- the model --------------------------------------------------------------------- */

static enum lm_status add_tensor(struct lm_builder *b, const struct lm_arch *a,
                                 uint32_t role, int32_t layer, struct lm_err *e)
{
    struct lm_tensor t = { .dtype = LM_F32 };
    struct lm_rng r = lm_rng(7, lm_role_name(role), (uint64_t)(layer + 1));
    if (!lm_role_shape(a, role, layer, &t.rows, &t.cols))
        return LM_OK;
    float *w = lm_alloc_array((size_t)(t.rows * t.cols), sizeof *w, "selftest");
    if (!w)
        return lm_fail_memory(e, (size_t)(t.rows * t.cols) * sizeof *w, "a model");
    for (int64_t i = 0; i < t.rows * t.cols; i++) {
        float x = (float)(2 * lm_rng_unit(&r) - 1);
        w[i] = lm_role_is_matrix(role) ? 0.2f * x : 1 + 0.2f * x;
    }
    lm_builder_keep(b, w);
    t.data = w;
    return lm_builder_tensor(b, role, layer, &t, lm_role_name(role), e);
}

/* Bytes as GPT-2 writes them: printable ones as they are, the others from 256 on. */
static enum lm_status add_vocabulary(struct lm_builder *b, struct lm_err *e)
{
    char text[VOCAB][4];
    struct lm_token token[VOCAB];
    static const char *const added[] = { "<bos>", "<eos>", "he", "the" };
    static const struct lm_merge merge[] = { { 'h', 'e' }, { 't', 258 } };
    unsigned next = 256;
    for (unsigned i = 0; i < BYTES; i++) {
        bool plain = (i > 32 && i < 127) || (i > 160 && i != 173);
        unsigned c = plain ? i : next++;
        int n = c < 128 ? 1 : 2;
        text[i][0] = (char)(n == 1 ? c : 0xc0 | c >> 6);
        text[i][1] = (char)(0x80 | (c & 63));
        token[i] = (struct lm_token){ text[i], (uint32_t)n, LM_TOKEN_NORMAL };
    }
    for (unsigned i = BYTES; i < VOCAB; i++)
        token[i] =
            (struct lm_token){ added[i - BYTES], (uint32_t)strlen(added[i - BYTES]),
                               i < BYTES + 2 ? LM_TOKEN_SPECIAL : LM_TOKEN_NORMAL };
    struct lm_vocabulary v = { .struct_size = sizeof v,
                               .pre = LM_PRE_GPT2,
                               .token = token,
                               .n_token = VOCAB,
                               .merge = merge,
                               .n_merge = 2 };
    return lm_builder_vocabulary(b, &v, e);
}

enum lm_status lm_kit_model(struct lm_model **m, struct lm_err *e)
{
    struct lm_layer_shape shape[LAYERS];
    struct lm_arch a = { .struct_size = sizeof a, .n_layer = LAYERS, .hidden = HIDDEN,
        .head_dim = HEAD, .vocab = VOCAB, .context = 4096, .family = "llama",
        .name = "selftest", .rms_eps = 1e-5, .rope_theta = 10000, .bos = BYTES,
        .eos = BYTES + 1, .pad = -1, .layer = shape };
    struct lm_builder *b;
    for (int32_t i = 0; i < LAYERS; i++)
        shape[i] = (struct lm_layer_shape){ HEADS, GROUPS, WIDTH, 0 };
    enum lm_status s = lm_builder_open("selftest", &b, e);
    if (s)
        return s;
    s = lm_builder_arch(b, &a, e);
    for (int32_t layer = -1; !s && layer < LAYERS; layer++)
        for (uint32_t role = LM_W_EMBED; !s && role <= LM_W_DOWN; role++)
            if (lm_role_is_layer(role) == (layer >= 0))
                s = add_tensor(b, &a, role, layer, e);
    if (!s)
        s = add_vocabulary(b, e);
    if (s) {
        lm_builder_abandon(b);
        return s;
    }
    return lm_builder_finish(b, m, e);
}

/* ---- statistics -------------------------------------------------------------------- */

struct facts {                          /* of one layer; all have the same */
    double *sum[2], *sumsq[2], *gram[2], *sumabs[2];        /* [0]: attention */
    double *stream[3];                  /* [2]: behind the last layer */
    double cosine[LAYERS], align[LAYERS][3];
    int64_t n[2];
};

void lm_kit_gram(struct lm_rng *r, int64_t tokens, int64_t k, double *x, double *gram,
                 double *sum)
{
    double factor[FACTORS];
    memset(sum, 0, (size_t)k * sizeof *sum);
    for (int64_t t = 0; t < tokens; t++) {
        for (int i = 0; i < FACTORS; i++)
            factor[i] = 2 * lm_rng_unit(r) - 1;
        for (int64_t j = 0; j < k; j++) {
            x[t * k + j] = (factor[j % FACTORS] + 0.7 * factor[j * 5 % FACTORS] +
                            0.5 * (2 * lm_rng_unit(r) - 1)) * (1 + (double)(j % 9));
            sum[j] += x[t * k + j];
        }
    }
    lm_gemm64('t', 'n', k, k, tokens, 1, x, k, x, k, 0, gram, k);
}

static enum lm_status stream(const struct facts *s, int which, const double **out,
                             int64_t *n)
{
    *out = s->stream[which];
    *n = HIDDEN * HIDDEN;
    return LM_OK;
}

/* lm_host.stat: what the plugin said it needs, no more. */
static enum lm_status stat(const struct lm_stats *stats, uint32_t stat, uint32_t site,
                           int32_t layer, const double **out, int64_t *n,
                           struct lm_err *e)
{
    const struct facts *s = (const void *)stats;
    int b = site == LM_SITE_MLP;
    if (stat < LM_STAT_SUM || stat >= LM_N_STATS ||
        !(lm_kit_now()->stat_needs & LM_BIT(stat))) {
        lm_kit_blame("asks for statistics of kind %u, which its `needs` does not declare",
                     stat);
        return lm_fail(e, LM_EBUG, "these statistics were not declared");
    }
    if (stat == LM_STAT_STREAM && site == LM_SITE_HIDDEN && layer == -1)
        return stream(s, 2, out, n);
    if (layer < 0 || layer >= LAYERS ||
        (site != LM_SITE_ATTN && site != LM_SITE_MLP &&
         (site != LM_SITE_LAYER || (stat != LM_STAT_COSINE && stat != LM_STAT_ALIGN)))) {
        lm_kit_blame("asks for statistics of site kind %u in layer %d, which there are "
                     "not",
                     site, (int)layer);
        return lm_fail(e, LM_EBUG, "there are no such statistics");
    }
    if (stat == LM_STAT_STREAM)
        return stream(s, b, out, n);
    *n = stat == LM_STAT_COSINE ? 1 : stat == LM_STAT_ALIGN ? 3
       : stat == LM_STAT_GRAM ? s->n[b] * s->n[b] : s->n[b];
    *out = stat == LM_STAT_COSINE ? &s->cosine[layer]
         : stat == LM_STAT_ALIGN ? s->align[layer] : stat == LM_STAT_GRAM ? s->gram[b]
         : stat == LM_STAT_SUM ? s->sum[b] : stat == LM_STAT_SUMABS ? s->sumabs[b]
         : s->sumsq[b];
    return LM_OK;
}

static int64_t stat_tokens(const struct lm_stats *s)
{
    (void)s;
    return TOKENS;
}

enum lm_status lm_kit_stats(struct lm_kit *k)
{
    struct facts *s = lm_alloc(sizeof *s, "selftest");
    double *x = lm_alloc_array(TOKENS * WIDTH, sizeof *x, "selftest");
    struct lm_rng r = lm_rng(7, "selftest/stats", 0);
    bool ok = s && x;
    k->stats = (void *)s;
    k->host.stat = stat;
    k->host.stat_tokens = stat_tokens;
    for (int b = 0; ok && b < 2; b++) {
        int64_t n = s->n[b] = b ? WIDTH : HEADS * HEAD;
        s->sum[b] = lm_alloc_array((size_t)n, sizeof(double), "selftest");
        s->sumsq[b] = lm_alloc_array((size_t)n, sizeof(double), "selftest");
        s->gram[b] = lm_alloc_array((size_t)(n * n), sizeof(double), "selftest");
        s->sumabs[b] = lm_alloc_array((size_t)n, sizeof(double), "selftest");
        if (!(ok = s->sum[b] && s->sumsq[b] && s->gram[b] && s->sumabs[b]))
            break;
        lm_kit_gram(&r, TOKENS, n, x, s->gram[b], s->sum[b]);
        for (int64_t j = 0; j < n; j++)
            s->sumsq[b][j] = s->gram[b][j * n + j];
        for (int64_t i = 0; i < TOKENS * n; i++)
            s->sumabs[b][i % n] += fabs(x[i]);
    }
    for (int i = 0; ok && i < LAYERS; i++) {
        s->cosine[i] = 0.99 - 0.02 * i;
        s->align[i][0] = 5 + i;
        s->align[i][1] = 6;
        s->align[i][2] = 8 + 2 * i;
    }
    for (int i = 0; ok && i < 3; i++) {
        double sum[HIDDEN];
        s->stream[i] = lm_alloc_array(HIDDEN * HIDDEN, sizeof(double), "selftest");
        if ((ok = s->stream[i] != NULL))
            lm_kit_gram(&r, TOKENS, HIDDEN, x, s->stream[i], sum);
    }
    lm_release(x);
    return ok ? LM_OK : lm_fail_memory(k->e, TOKENS * WIDTH * sizeof *x, "statistics");
}

void lm_kit_stats_free(struct lm_kit *k)
{
    struct facts *s = (void *)k->stats;
    for (int b = 0; s && b < 2; b++) {
        lm_release(s->sum[b]);
        lm_release(s->sumsq[b]);
        lm_release(s->gram[b]);
        lm_release(s->sumabs[b]);
    }
    for (int i = 0; s && i < 3; i++)
        lm_release(s->stream[i]);
    lm_release(s);
}
