/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_rope.c -- the rotary embedding in a GGUF file, read and written.
 *
 * linear   rope.scaling.type and .factor
 * llama3   one divisor for each pair of dimensions in tensor rope_freqs.weight;
 *          its parameters stand beside it in keys of ours
 * yarn     rope.scaling.type, .factor and .original_context_length; cosines and
 *          sines are multiplied by (0.1 ln(factor) + 1) attn_factor.  llama.cpp
 *          has keys for the other parameters, too, but reads them for a few
 *          architectures only, which llama and qwen are not: where they are not
 *          the usual ones, divisors are written as for llama3, without a type of
 *          scaling, and attn_factor alone multiplies cosines and sines          */
#include "gguf.h"

static const char *const llama3_key[] = { "lamina.rope.low_freq_factor",
    "lamina.rope.high_freq_factor", "lamina.rope.original_context" };
static const char *const yarn_key[] = { "lamina.rope.beta_fast", "lamina.rope.beta_slow",
    "lamina.rope.original_context", "lamina.rope.factor" };
static const char attention_key[] = "lamina.rope.attention_factor";
static const char exact_key[] = "lamina.rope.no_truncate";

static double turns(const struct lm_arch *a, double r)      /* see core: program.c */
{
    return a->head_dim * log(a->rope_context / (r * 6.283185307179586))
         / (2 * log(a->rope_theta));
}

static void yarn_divisors(const struct lm_arch *a, double *out)
{
    double low = turns(a, a->rope_fast), high = turns(a, a->rope_slow);
    low = fmax(a->rope_exact ? low : floor(low), 0);
    high = fmin(a->rope_exact ? high : ceil(high), a->head_dim - 1);
    if (low == high)
        high += 0.001;
    for (int32_t i = 0; i < a->head_dim / 2; i++) {
        double t = fmin(fmax((i - low) / (high - low), 0), 1);
        out[i] = 1 / (1 - t + t / a->rope_factor);
    }
}

bool gguf_divided(const struct lm_arch *a)
{
    return a->rope == LM_ROPE_LLAMA3
        || (a->rope == LM_ROPE_YARN
            && (a->rope_exact || a->rope_fast != 32 || a->rope_slow != 1));
}

void gguf_divisors(const struct lm_arch *a, double *out)
{
    if (a->rope == LM_ROPE_YARN) {
        yarn_divisors(a, out);
        return;
    }
    for (int32_t i = 0; i < a->head_dim / 2; i++) {
        double f = pow(a->rope_theta, -2.0 * i / a->head_dim);
        double round = a->rope_context * f / 6.283185307179586;
        double s = (round - a->rope_low) / (a->rope_high - a->rope_low);
        out[i] = round > a->rope_high ? 1 : round < a->rope_low ? a->rope_factor
               : 1 / ((1 - s) / a->rope_factor + s);
    }
}

/* ---- reading -------------------------------------------------------------------- */

static const struct gguf_pair *get(const struct gguf_file *g, const char *family,
                                   const char *key, char full[96])
{
    snprintf(full, 96, "%s.%s", family, key);
    return gguf_find(g, full);
}

enum lm_status gguf_family_real(const struct gguf_file *g, const char *family,
                                const char *key, double def, double *out,
                                struct lm_err *e)
{
    char full[96];
    const struct gguf_pair *p = get(g, family, key, full);
    *out = def;
    if ((!p && def > 0) || (p && gguf_real(p, out) && *out > 0))
        return LM_OK;
    return g->f->h->fail(e, LM_EINPUT, "%s: key %s is missing or not above 0", g->path,
                         full);
}

/* Keys of ours that are there and above 0; true: all are. */
static bool own(const struct gguf_file *g, const char *const *key, double *const *out,
                size_t n)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        const struct gguf_pair *p = gguf_find(g, key[i]);
        double v;
        if (!p || !gguf_real(p, &v) || v <= 0)
            continue;
        *out[i] = v;
        k++;
    }
    return k == n;
}

/* the scaling that divisors stand for: yarn if our keys say so, else llama3 with
 * the parameters in keys of ours or the usual ones                             */
static void divided(const struct gguf_file *g, double last, double attention,
                    struct lm_arch *a)
{
    double *y[] = { &a->rope_fast, &a->rope_slow, &a->rope_context, &a->rope_factor };
    double *l[] = { &a->rope_low, &a->rope_high, &a->rope_context };
    const struct gguf_pair *p = gguf_find(g, exact_key);
    int64_t v = 0;
    if (own(g, yarn_key, y, 4)) {
        a->rope = LM_ROPE_YARN;
        a->rope_exact = p && gguf_integer(p, 0, &v) && v;
        a->rope_attention = attention;
        return;
    }
    a->rope = LM_ROPE_LLAMA3;
    a->rope_factor = last;
    a->rope_low = 1;
    a->rope_high = 4;
    a->rope_context = 8192;
    own(g, llama3_key, l, 3);
}

/* The divisors of rope_freqs.weight must be those of that scaling. */
static enum lm_status divisors(const struct gguf_file *g, const struct gguf_info *t,
                               double attention, struct lm_arch *a, struct lm_err *e)
{
    const struct lm_host *h = g->f->h;
    int64_t n = a->head_dim / 2;
    if (t->tensor.dtype != LM_F32 || t->tensor.cols != n || t->tensor.rows != 1)
        return h->fail(e, LM_EINPUT, "%s: tensor rope_freqs.weight is damaged", g->path);
    float *have = h->alloc((size_t)n * sizeof *have, "gguf");
    double *want = h->alloc((size_t)n * sizeof *want, "gguf");
    enum lm_status s = LM_OK;
    if (!have || !want) {
        s = h->fail(e, LM_ENOMEM, "out of memory for reading %s", g->path);
    } else {
        memcpy(have, t->tensor.data, (size_t)n * sizeof *have);
        divided(g, fmt_widen(isfinite(have[n - 1]) ? have[n - 1] : 0), attention, a);
        gguf_divisors(a, want);
        for (int64_t i = 0; i < n && !s; i++)
            if (!(fabs(have[i] - want[i]) <= 1e-4 * want[i]))
                s = h->fail(e, LM_EINPUT, "%s: the RoPE scaling in rope_freqs.weight is "
                            "not of the llama3 kind", g->path);
    }
    h->release(have);
    h->release(want);
    return s;
}

static double magnitude(double factor)
{
    return factor > 1 ? 0.1 * log(factor) + 1 : 1;
}

/* attention factor: ours in 64 bits, if it is the file's in 32 bits */
static double precise(const struct gguf_file *g, double v)
{
    const struct gguf_pair *p = gguf_find(g, attention_key);
    double own;
    return p && gguf_real(p, &own) && fabs(own - v) <= 1e-6 * v ? own : v;
}

static enum lm_status yarn(const struct gguf_file *g, const char *family,
                           struct lm_arch *a, struct lm_err *e)
{
    const struct { const char *key; double def, *out; } part[] = {
        { "rope.scaling.factor", 0, &a->rope_factor },
        { "rope.scaling.original_context_length", a->context, &a->rope_context },
        { "rope.scaling.yarn_beta_fast", 32, &a->rope_fast },
        { "rope.scaling.yarn_beta_slow", 1, &a->rope_slow },
        { "rope.scaling.attn_factor", 1, &a->rope_attention },
    };
    char full[96];
    double mix = 1;
    enum lm_status s = LM_OK;
    for (size_t i = 0; i < sizeof part / sizeof *part && !s; i++)
        s = gguf_family_real(g, family, part[i].key, part[i].def, part[i].out, e);
    const struct gguf_pair *p = get(g, family, "rope.scaling.yarn_ext_factor", full);
    if (!s && ((p && (!gguf_real(p, &mix) || mix != 1))
               || get(g, family, "rope.scaling.yarn_log_multiplier", full)))
        return g->f->h->fail(e, LM_EINPUT, "%s: yarn RoPE scaling with yarn_ext_factor "
                             "or yarn_log_multiplier is not supported", g->path);
    if (s)
        return s;
    a->rope = LM_ROPE_YARN;
    a->rope_attention = precise(g, a->rope_attention * magnitude(a->rope_factor));
    return LM_OK;
}

static bool is(struct gguf_slice s, const char *text)
{
    return s.n == strlen(text) && !memcmp(s.s, text, s.n);
}

static enum lm_status linear(const struct gguf_file *g, const char *family,
                             struct lm_arch *a, struct lm_err *e)
{
    char full[96];
    bool now = get(g, family, "rope.scaling.factor", full) != NULL;
    enum lm_status s = gguf_family_real(g, family, now ? "rope.scaling.factor"
                                        : "rope.scale_linear", 1, &a->rope_factor, e);
    if (!s && a->rope_factor != 1)
        a->rope = LM_ROPE_LINEAR;
    return s;
}

enum lm_status gguf_rope_read(const struct gguf_file *g, const char *family,
                              struct lm_arch *a, struct lm_err *e)
{
    const struct lm_host *h = g->f->h;
    const struct gguf_info *t = gguf_tensor(g, "rope_freqs.weight");
    char full[96];
    double attention = 1;
    struct gguf_slice type = { "linear", 6 };
    enum lm_status s = gguf_family_real(g, family, "rope.freq_base", 10000,
                                        &a->rope_theta, e);
    const struct gguf_pair *p = get(g, family, "rope.scaling.type", full);
    if (!s && p && !gguf_string(p, &type))
        return h->fail(e, LM_EINPUT, "%s: key %s must be a string", g->path, full);
    bool scaled = is(type, "yarn");
    if (!s && scaled)
        s = yarn(g, family, a, e);
    else if (!s)
        s = gguf_family_real(g, family, "rope.scaling.attn_factor", 1, &attention, e);
    if (s)
        return s;
    if (!scaled && !is(type, "none") && !is(type, "linear"))
        return h->fail(e, LM_EINPUT, "%s: RoPE scaling '%.*s' is not supported, only "
                       "linear and yarn, and llama3 in rope_freqs.weight", g->path,
                       (int)(type.n < 40 ? type.n : 40), type.s);
    if (is(type, "linear"))
        s = linear(g, family, a, e);
    if (!s && t && a->rope != LM_ROPE_PLAIN)
        s = h->fail(e, LM_EINPUT, "%s: linear or yarn RoPE scaling together with "
                    "rope_freqs.weight is not supported", g->path);
    if (!s && t)
        s = divisors(g, t, precise(g, attention), a, e);
    if (!s && attention != 1 && a->rope != LM_ROPE_YARN)
        s = h->fail(e, LM_EINPUT, "%s: an attn_factor of RoPE scaling is supported with "
                    "yarn only", g->path);
    return s;
}

/* ---- writing -------------------------------------------------------------------- */

static void scaling(struct gguf_keys *k, const char *type, double factor)
{
    gguf_add_string(k, ".rope.scaling.type", type);
    gguf_add_f32(k, ".rope.scaling.factor", factor);
}

void gguf_rope_write(const struct lm_arch *a, struct gguf_keys *k)
{
    const double l[] = { a->rope_low, a->rope_high, a->rope_context };
    const double y[] = { a->rope_fast, a->rope_slow, a->rope_context, a->rope_factor };
    bool divisors = gguf_divided(a);
    double attention = divisors ? a->rope_attention
                                : a->rope_attention / magnitude(a->rope_factor);
    gguf_add_u32(k, ".rope.dimension_count", a->head_dim);
    gguf_add_f32(k, ".rope.freq_base", a->rope_theta);
    if (a->rope == LM_ROPE_LINEAR)
        scaling(k, "linear", a->rope_factor);
    for (size_t i = 0; i < 3 && a->rope == LM_ROPE_LLAMA3; i++)
        gguf_add_f64(k, llama3_key[i], l[i]);
    if (a->rope != LM_ROPE_YARN)
        return;
    for (size_t i = 0; i < 4 && divisors; i++)
        gguf_add_f64(k, yarn_key[i], y[i]);
    if (a->rope_exact)
        gguf_add_bool(k, exact_key, true);
    if (!divisors) {
        scaling(k, "yarn", a->rope_factor);
        gguf_add_u32(k, ".rope.scaling.original_context_length",
                     (int64_t)a->rope_context);
    }
    if (attention != 1) {
        gguf_add_f32(k, ".rope.scaling.attn_factor", attention);
        gguf_add_f64(k, attention_key, a->rope_attention);
    }
}
