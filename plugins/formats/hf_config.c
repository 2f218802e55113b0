/* SPDX-License-Identifier: Apache-2.0 */
/* hf_config.c -- config.json -> struct lm_arch.
 *
 * Keys of the older form are rope_theta, rope_scaling {type | rope_type, ...}
 * and torch_dtype, of the newer one rope_parameters {rope_theta, rope_type,
 * ...} and dtype; where both stand the newer one counts.  The number format of
 * each tensor is read from the weights, so neither dtype key matters here.
 * What is not understood is refused by name: a silently ignored scaling or
 * activation would give a model that runs and is wrong.                        */
#include "hf.h"

struct cx {
    const struct lm_host *h;
    const char *path;
    const struct lm_json *root;
    struct lm_err *e;
};

enum { REQUIRED = INT32_MIN };

static const struct lm_json *get(const struct cx *c, const char *key)
{
    const struct lm_json *n = c->h->json->get(c->root, key);
    return n && c->h->json->type(n) != 'n' ? n : NULL;      /* null: not given */
}

static enum lm_status whole(const struct cx *c, const char *key, int64_t lo, int64_t hi,
                            int64_t def, int32_t *out)
{
    const struct lm_json *n = get(c, key);
    int64_t v = def;
    if (!n && def == REQUIRED)
        return c->h->fail(c->e, LM_EINPUT, "%s: '%s' is missing", c->path, key);
    if (n && (!c->h->json->integer(n, &v) || v < lo || v > hi))
        return c->h->fail(c->e, LM_EINPUT, "%s: '%s' must be a whole number from %lld "
                          "to %lld", c->path, key, (long long)lo, (long long)hi);
    *out = (int32_t)v;
    return LM_OK;
}

static enum lm_status real(const struct cx *c, const struct lm_json *object,
                           const char *key, double def, double *out)
{
    const struct lm_json *n = object ? c->h->json->get(object, key) : NULL;
    if (!n || c->h->json->type(n) == 'n') {
        *out = def;
        if (def <= 0)
            return c->h->fail(c->e, LM_EINPUT, "%s: '%s' is missing", c->path, key);
        return LM_OK;
    }
    if (!hf_number(c->h, n, out) || *out <= 0)
        return c->h->fail(c->e, LM_EINPUT, "%s: '%s' must be a number above 0",
                          c->path, key);
    return LM_OK;
}

static enum lm_status flag(const struct cx *c, const char *key, bool *out)
{
    const struct lm_json *n = get(c, key);
    *out = false;
    if (n && !c->h->json->boolean(n, out))
        return c->h->fail(c->e, LM_EINPUT, "%s: '%s' must be true or false",
                          c->path, key);
    return LM_OK;
}

/* a key that must have one value if it is there */
static enum lm_status fixed(const struct cx *c, const char *key, const char *want,
                            bool required)
{
    const struct lm_json *n = get(c, key);
    if (!n && !required)
        return LM_OK;
    const char *s = n ? c->h->json->string(n) : NULL;
    if (!s)
        return c->h->fail(c->e, LM_EINPUT, "%s: '%s' must be a string", c->path, key);
    if (strcmp(s, want))
        return c->h->fail(c->e, LM_EINPUT, "%s: %s '%s' is not supported, only '%s'",
                          c->path, key, s, want);
    return LM_OK;
}

/* features of other models that would change the result */
static enum lm_status refuse(const struct cx *c)
{
    static const char *const key[] = { "quantization_config", "per_layer_config",
                                       "compression_config" };
    for (size_t i = 0; i < sizeof key / sizeof *key; i++)
        if (get(c, key[i]))
            return c->h->fail(c->e, LM_EINPUT, "%s: models with '%s' are not supported",
                              c->path, key[i]);
    const struct lm_json *a = get(c, "architectures");
    const char *s = a ? c->h->json->string(c->h->json->at(a, 0)) : NULL;
    if (s && strcmp(s, "LlamaForCausalLM") && strcmp(s, "LlamaModel"))
        return c->h->fail(c->e, LM_EINPUT, "%s: architecture '%s' is not supported, "
                          "only 'LlamaForCausalLM'", c->path, s);
    return LM_OK;
}

static enum lm_status rope_llama3(const struct cx *c, const struct lm_json *o,
                                  struct lm_arch *a)
{
    double context = 0;
    enum lm_status s = real(c, o, "factor", 0, &a->rope_factor);
    if (!s)
        s = real(c, o, "low_freq_factor", 0, &a->rope_low);
    if (!s)
        s = real(c, o, "high_freq_factor", 0, &a->rope_high);
    if (!s)
        s = real(c, o, "original_max_position_embeddings", 0, &context);
    if (!s && a->rope_high <= a->rope_low)
        s = c->h->fail(c->e, LM_EINPUT, "%s: high_freq_factor must be above "
                       "low_freq_factor", c->path);
    a->rope = LM_ROPE_LLAMA3;
    a->rope_context = context;
    return s;
}

static enum lm_status rope(const struct cx *c, struct lm_arch *a)
{
    const struct lm_json_api *j = c->h->json;
    const struct lm_json *newer = get(c, "rope_parameters");
    const struct lm_json *o = newer ? newer : get(c, "rope_scaling");
    double theta = 0, part = 1;
    enum lm_status s = real(c, c->root, "rope_theta", 10000, &theta);
    if (!s && o && j->type(o) != 'o')
        s = c->h->fail(c->e, LM_EINPUT, "%s: '%s' must be an object or null", c->path,
                       newer ? "rope_parameters" : "rope_scaling");
    if (!s)
        s = real(c, newer, "rope_theta", theta, &a->rope_theta);
    if (!s)
        s = real(c, newer && j->get(newer, "partial_rotary_factor") ? newer : c->root,
                 "partial_rotary_factor", 1, &part);
    if (!s && part != 1)
        s = c->h->fail(c->e, LM_EINPUT, "%s: partial_rotary_factor %g is not supported",
                       c->path, part);
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
        return rope_llama3(c, o, a);
    if (strcmp(name, "linear"))
        return c->h->fail(c->e, LM_EINPUT, "%s: RoPE scaling '%s' is not supported, "
                          "only default, linear and llama3", c->path, name);
    a->rope = LM_ROPE_LINEAR;
    return real(c, o, "factor", 0, &a->rope_factor);
}

static enum lm_status shapes(const struct cx *c, struct hf_config *k)
{
    struct lm_arch *a = &k->arch;
    int32_t heads = 0, kv = 0, ff = 0;
    enum lm_status s = whole(c, "hidden_size", 1, HF_MAX_WIDTH, REQUIRED, &a->hidden);
    if (!s)
        s = whole(c, "num_hidden_layers", 1, HF_MAX_LAYERS, REQUIRED, &a->n_layer);
    if (!s)
        s = whole(c, "num_attention_heads", 1, HF_MAX_WIDTH, REQUIRED, &heads);
    if (!s)
        s = whole(c, "num_key_value_heads", 1, heads, heads, &kv);
    if (!s)
        s = whole(c, "intermediate_size", 1, HF_MAX_WIDTH, REQUIRED, &ff);
    if (!s)
        s = whole(c, "vocab_size", 1, HF_MAX_VOCAB, REQUIRED, &a->vocab);
    if (!s)
        s = whole(c, "max_position_embeddings", 1, 1 << 30, 2048, &a->context);
    if (!s)
        s = whole(c, "head_dim", 2, HF_MAX_WIDTH, a->hidden / heads, &a->head_dim);
    if (s)
        return s;
    if (heads % kv)
        return c->h->fail(c->e, LM_EINPUT, "%s: %d attention heads are no multiple of "
                          "%d key-value heads", c->path, heads, kv);
    if (a->head_dim < 2 || a->head_dim % 2 || a->head_dim > HF_MAX_WIDTH / heads)
        return c->h->fail(c->e, LM_EINPUT, "%s: %d heads of %d dimensions are not "
                          "supported", c->path, heads, a->head_dim);
    k->layer = c->h->alloc((size_t)a->n_layer * sizeof *k->layer, "hf");
    if (!k->layer)
        return c->h->fail(c->e, LM_ENOMEM, "out of memory for reading %s", c->path);
    for (int32_t i = 0; i < a->n_layer; i++)
        k->layer[i] = (struct lm_layer_shape){ heads, kv, ff, 0 };
    a->layer = k->layer;
    return LM_OK;
}

/* what people call it: _name_or_path, else the folder */
static void naming(const struct cx *c, const char *folder, struct hf_config *k)
{
    const struct lm_json *n = get(c, "_name_or_path");
    const char *s = n ? c->h->json->string(n) : NULL;
    if (!s || !*s)
        s = folder;
    size_t end = strlen(s);
    while (end > 1 && s[end - 1] == '/')
        end--;
    size_t begin = end;
    while (begin && s[begin - 1] != '/')
        begin--;
    if (end - begin < sizeof k->name && fmt_utf8(s + begin, end - begin))
        memcpy(k->name, s + begin, end - begin);
    k->arch.name = k->name;
}

enum lm_status hf_config_open(const struct fmt *f, const char *folder,
                              struct hf_config *k, struct lm_err *e)
{
    enum lm_status s = hf_doc_open(f, folder, "config.json", false, &k->doc, e);
    if (s)
        return s;
    struct cx c = { f->h, k->doc.path, k->doc.root, e };
    k->arch = (struct lm_arch){ .struct_size = sizeof k->arch, .family = "llama",
                                .rope_factor = 1, .bos = -1, .eos = -1, .pad = -1 };
    s = fixed(&c, "model_type", "llama", true);
    if (!s)
        s = refuse(&c);
    if (!s)
        s = fixed(&c, "hidden_act", "silu", false);
    if (!s)
        s = shapes(&c, k);
    if (!s)
        s = real(&c, c.root, "rms_norm_eps", 1e-6, &k->arch.rms_eps);
    if (!s)
        s = rope(&c, &k->arch);
    if (!s)
        s = flag(&c, "tie_word_embeddings", &k->tie);
    naming(&c, folder, k);
    return s;
}

void hf_config_close(const struct fmt *f, struct hf_config *k)
{
    hf_doc_close(f, &k->doc);
    f->h->release(k->layer);
    k->layer = NULL;
}
