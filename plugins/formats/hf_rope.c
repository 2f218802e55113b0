/* SPDX-License-Identifier: Apache-2.0 */
/* hf_rope.c -- the rotary embedding in config.json, read and written.
 *
 * The older form is rope_theta and rope_scaling { type | rope_type, ... }, the
 * newer one rope_parameters { rope_theta, rope_type, ... }; where both stand the
 * newer counts.  Both are written, so that old and new versions of transformers
 * read the same model.
 *
 * yarn: cosines and sines are multiplied by attention_factor; where that is not
 * given it is m(mscale) / m(mscale_all_dim) if both are given and not 0, else
 * m(1), with m(s) = 0.1 s ln(factor) + 1 for factors above 1 and 1 otherwise
 * (Peng et al. 2023, equation 22).  Only its value is kept.                    */
#include "hf.h"

static enum lm_status llama3(const struct hf_cx *c, const struct lm_json *o,
                             struct lm_arch *a)
{
    enum lm_status s = hf_real(c, o, "factor", 0, &a->rope_factor);
    if (!s)
        s = hf_real(c, o, "low_freq_factor", 0, &a->rope_low);
    if (!s)
        s = hf_real(c, o, "high_freq_factor", 0, &a->rope_high);
    if (!s)
        s = hf_real(c, o, "original_max_position_embeddings", a->context,
                    &a->rope_context);
    if (!s && a->rope_high <= a->rope_low)
        s = c->h->fail(c->e, LM_EINPUT, "%s: high_freq_factor must be above "
                       "low_freq_factor", c->path);
    a->rope = LM_ROPE_LLAMA3;
    return s;
}

/* a number that may be 0 or null, which is the same as absent */
static enum lm_status maybe(const struct hf_cx *c, const struct lm_json *o,
                            const char *key, double *out)
{
    const struct lm_json *n = c->h->json->get(o, key);
    *out = 0;
    if (n && c->h->json->type(n) != 'n' && (!hf_number(c->h, n, out) || *out < 0))
        return c->h->fail(c->e, LM_EINPUT, "%s: '%s' must be a number", c->path, key);
    return LM_OK;
}

static double magnitude(double factor, double scale)
{
    return factor > 1 ? 0.1 * scale * log(factor) + 1 : 1;
}

static enum lm_status yarn(const struct hf_cx *c, const struct lm_json *o,
                           struct lm_arch *a)
{
    const struct lm_json *t = c->h->json->get(o, "truncate");
    double scale, all, given;
    bool truncate = true;
    enum lm_status s = hf_real(c, o, "original_max_position_embeddings", a->context,
                            &a->rope_context);
    const struct lm_json *factor = c->h->json->get(o, "factor");
    bool implied = factor && c->h->json->type(factor) == 'n';
    if (!s)
        s = hf_real(c, o, "factor", implied ? a->context / a->rope_context : 0,
                 &a->rope_factor);
    if (!s)
        s = maybe(c, o, "beta_fast", &a->rope_fast);
    if (!s)
        s = maybe(c, o, "beta_slow", &a->rope_slow);
    if (!s)
        s = maybe(c, o, "mscale", &scale);
    if (!s)
        s = maybe(c, o, "mscale_all_dim", &all);
    if (!s)
        s = maybe(c, o, "attention_factor", &given);
    if (!s && t && c->h->json->type(t) != 'n' && !c->h->json->boolean(t, &truncate))
        s = c->h->fail(c->e, LM_EINPUT, "%s: 'truncate' must be true or false", c->path);
    if (s)
        return s;
    a->rope = LM_ROPE_YARN;
    a->rope_exact = !truncate;
    a->rope_fast = a->rope_fast > 0 ? a->rope_fast : 32;
    a->rope_slow = a->rope_slow > 0 ? a->rope_slow : 1;
    a->rope_attention = given > 0 ? given : scale > 0 && all > 0
        ? magnitude(a->rope_factor, scale) / magnitude(a->rope_factor, all)
        : magnitude(a->rope_factor, 1);
    return LM_OK;
}

enum lm_status hf_rope_read(const struct hf_cx *c, struct lm_arch *a)
{
    const struct lm_json_api *j = c->h->json;
    const struct lm_json *newer = hf_get(c, "rope_parameters");
    const struct lm_json *o = newer ? newer : hf_get(c, "rope_scaling");
    double theta = 0, part = 1;
    enum lm_status s = hf_real(c, c->root, "rope_theta", 10000, &theta);
    if (!s && o && j->type(o) != 'o')
        s = c->h->fail(c->e, LM_EINPUT, "%s: '%s' must be an object or null", c->path,
                       newer ? "rope_parameters" : "rope_scaling");
    if (!s)
        s = hf_real(c, newer, "rope_theta", theta, &a->rope_theta);
    if (!s)
        s = hf_real(c, newer && j->get(newer, "partial_rotary_factor") ? newer : c->root,
                 "partial_rotary_factor", 1, &part);
    if (!s && part != 1)
        s = c->h->fail(c->e, LM_EINPUT, "%s: partial_rotary_factor %g is not supported, "
                       "only 1", c->path, part);
    if (s || !o)
        return s;
    const struct lm_json *kind = j->get(o, "rope_type");
    if (!kind)
        kind = j->get(o, "type");
    const char *name = kind ? j->string(kind) : "default";
    if (!name)
        return c->h->fail(c->e, LM_EINPUT, "%s: rope_type must be a string", c->path);
    if (!strcmp(name, "default"))
        return LM_OK;
    if (!strcmp(name, "llama3"))
        return llama3(c, o, a);
    if (!strcmp(name, "yarn"))
        return yarn(c, o, a);
    if (strcmp(name, "linear"))
        return c->h->fail(c->e, LM_EINPUT, "%s: RoPE scaling '%s' is not supported, "
                          "only default, linear, llama3 and yarn", c->path, name);
    a->rope = LM_ROPE_LINEAR;
    return hf_real(c, o, "factor", 0, &a->rope_factor);
}

static const char *const kinds[] = { "default", "linear", "llama3", "yarn" };

bool hf_rope_known(const struct lm_arch *a)
{
    return a->rope >= LM_ROPE_PLAIN && a->rope <= LM_ROPE_YARN;
}

static void member(struct fmt_buf *b, const char *key, double v)
{
    fmt_add(b, ", \"%s\": ", key);
    fmt_json_real(b, v);
}

static void members(const struct lm_arch *a, struct fmt_buf *b)
{
    fmt_add(b, "\"rope_type\": \"%s\"", kinds[a->rope]);
    if (a->rope != LM_ROPE_PLAIN)
        member(b, "factor", a->rope_factor);
    if (a->rope == LM_ROPE_LLAMA3) {
        member(b, "low_freq_factor", a->rope_low);
        member(b, "high_freq_factor", a->rope_high);
    } else if (a->rope == LM_ROPE_YARN) {
        member(b, "beta_fast", a->rope_fast);
        member(b, "beta_slow", a->rope_slow);
        if (a->rope_attention != magnitude(a->rope_factor, 1))
            member(b, "attention_factor", a->rope_attention);
        if (a->rope_exact)
            fmt_text(b, ", \"truncate\": false");
    }
    if (a->rope == LM_ROPE_LLAMA3 || a->rope == LM_ROPE_YARN)
        fmt_add(b, ", \"original_max_position_embeddings\": %.0f", a->rope_context);
}

void hf_rope_write(const struct lm_arch *a, struct fmt_buf *b)
{
    fmt_text(b, "  \"rope_theta\": ");
    fmt_json_real(b, a->rope_theta);
    fmt_text(b, ",\n  \"rope_scaling\": ");
    if (a->rope == LM_ROPE_PLAIN) {
        fmt_text(b, "null");
    } else {
        fmt_add(b, "{\"type\": \"%s\", ", kinds[a->rope]);
        members(a, b);
        fmt_text(b, "}");
    }
    fmt_text(b, ",\n  \"rope_parameters\": {\"rope_theta\": ");
    fmt_json_real(b, a->rope_theta);
    fmt_text(b, ", ");
    members(a, b);
    fmt_text(b, "},\n");
}
