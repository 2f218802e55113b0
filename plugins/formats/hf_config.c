/* SPDX-License-Identifier: Apache-2.0 */
/* hf_config.c -- config.json -> struct lm_arch.
 *
 * Families differ in defaults (of a key that is missing, not of one that is
 * null) and in which biases and norms their layers have.  The number format of
 * each tensor is read from the weights, so dtype and torch_dtype do not matter.
 * What is not understood is refused by name: a silently ignored scaling or
 * activation would give a model that runs and is wrong.
 *
 * Sliding windows.  Mistral has one in all layers: it is kept, and sequences
 * longer than it are refused when the model runs.  Qwen has one in some of the
 * layers where use_sliding_window says so: refused, unless the window is no
 * shorter than the context.                                                    */
#include "hf.h"

enum { REQUIRED = INT32_MIN };

/* kv: key-value heads, 0: as many as heads; head_dim 0: hidden size / heads */
static const struct { const char *type, *class; int32_t context, kv, head_dim; }
family[HF_N_FAMILIES] = {
    [HF_LLAMA] = { "llama", "Llama", 2048, 0, 0 },
    [HF_MISTRAL] = { "mistral", "Mistral", 131072, 8, 0 },
    [HF_QWEN2] = { "qwen2", "Qwen2", 32768, 32, 0 },
    [HF_QWEN3] = { "qwen3", "Qwen3", 32768, 32, 128 },
};

const char *hf_family_name(enum hf_family f)
{
    return family[f].type;
}

const char *hf_family_class(enum hf_family f)
{
    return family[f].class;
}

const struct lm_json *hf_get(const struct hf_cx *c, const char *key)
{
    const struct lm_json *n = c->h->json->get(c->root, key);
    return n && c->h->json->type(n) != 'n' ? n : NULL;      /* null: not given */
}

static enum lm_status whole(const struct hf_cx *c, const char *key, int64_t lo,
                            int64_t hi, int64_t def, int32_t *out)
{
    const struct lm_json *n = hf_get(c, key);
    int64_t v = def;
    if (!n && def == REQUIRED)
        return c->h->fail(c->e, LM_EINPUT, "%s: '%s' is missing", c->path, key);
    if (n && (!c->h->json->integer(n, &v) || v < lo || v > hi))
        return c->h->fail(c->e, LM_EINPUT, "%s: '%s' must be a whole number from %lld "
                          "to %lld", c->path, key, (long long)lo, (long long)hi);
    *out = (int32_t)v;
    return LM_OK;
}

enum lm_status hf_real(const struct hf_cx *c, const struct lm_json *object,
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

static enum lm_status flag(const struct hf_cx *c, const char *key, bool *out)
{
    const struct lm_json *n = hf_get(c, key);
    *out = false;
    if (n && !c->h->json->boolean(n, out))
        return c->h->fail(c->e, LM_EINPUT, "%s: '%s' must be true or false",
                          c->path, key);
    return LM_OK;
}

/* a key that must have one value if it is there */
static enum lm_status fixed(const struct hf_cx *c, const char *key, const char *want)
{
    const struct lm_json *n = hf_get(c, key);
    if (!n)
        return LM_OK;
    const char *s = c->h->json->string(n);
    if (!s)
        return c->h->fail(c->e, LM_EINPUT, "%s: '%s' must be a string", c->path, key);
    if (strcmp(s, want))
        return c->h->fail(c->e, LM_EINPUT, "%s: %s '%s' is not supported, only '%s'",
                          c->path, key, s, want);
    return LM_OK;
}

/* model_type, and features of other models that would change the result */
static enum lm_status known_family(const struct hf_cx *c, enum hf_family *out, bool *own)
{
    char lm[64], base[64];
    static const char *const key[] = { "quantization_config", "compression_config",
                                       "per_layer_config" };
    const struct lm_json *n = hf_get(c, "model_type"), *a = hf_get(c, "architectures");
    const char *type = n ? c->h->json->string(n) : NULL;
    int f = HF_N_FAMILIES;
    if (!type)
        return c->h->fail(c->e, LM_EINPUT, "%s: 'model_type' must be a string", c->path);
    *own = !strcmp(type, "lamina");
    for (size_t i = 0; i < sizeof key / sizeof *key - *own; i++)
        if (hf_get(c, key[i]))
            return c->h->fail(c->e, LM_EINPUT, "%s: models with '%s' are not supported",
                              c->path, key[i]);
    n = *own ? hf_get(c, "family") : n;
    type = n ? c->h->json->string(n) : NULL;
    if (!type)
        return c->h->fail(c->e, LM_EINPUT, "%s: 'family' must be a string", c->path);
    while (f > 0 && strcmp(type, family[f - 1].type))
        f--;
    if (!f)
        return c->h->fail(c->e, LM_EINPUT, "%s: model_type '%s' is not supported, only "
                          "llama, mistral, qwen2, qwen3 and lamina", c->path, type);
    *out = (enum hf_family)(f - 1);
    const char *s = a ? c->h->json->string(c->h->json->at(a, 0)) : NULL;
    const char *class = *own ? "Lamina" : family[*out].class;
    snprintf(lm, sizeof lm, "%sForCausalLM", class);
    snprintf(base, sizeof base, "%sModel", class);
    if (s && strcmp(s, lm) && strcmp(s, base))
        return c->h->fail(c->e, LM_EINPUT, "%s: architecture '%s' is not supported for "
                          "model_type '%s', only '%s'", c->path, s, type, lm);
    return LM_OK;
}

static enum lm_status shapes(const struct hf_cx *c, struct hf_config *k)
{
    struct lm_arch *a = &k->arch;
    int32_t heads = 0, kv = 0, ff = 0, def = family[k->family].kv;
    enum lm_status s = whole(c, "hidden_size", 1, HF_MAX_WIDTH, REQUIRED, &a->hidden);
    if (!s)
        s = whole(c, "num_hidden_layers", 1, HF_MAX_LAYERS, REQUIRED, &a->n_layer);
    if (!s)
        s = whole(c, "num_attention_heads", 1, HF_MAX_WIDTH, REQUIRED, &heads);
    if (!s)
        s = whole(c, "num_key_value_heads", 1, heads,
                  def && !c->h->json->get(c->root, "num_key_value_heads") ? def : heads,
                  &kv);
    if (!s)
        s = whole(c, "intermediate_size", 1, HF_MAX_WIDTH, REQUIRED, &ff);
    if (!s)
        s = whole(c, "vocab_size", 1, HF_MAX_VOCAB, REQUIRED, &a->vocab);
    if (!s)
        s = whole(c, "max_position_embeddings", 1, 1 << 30, family[k->family].context,
                  &a->context);
    def = family[k->family].head_dim;
    if (!s)
        s = whole(c, "head_dim", 2, HF_MAX_WIDTH, def ? def : a->hidden / heads,
                  &a->head_dim);
    if (s)
        return s;
    if (kv > heads || heads % kv)
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

/* does a layer with a window exist? */
static bool slides(const struct hf_cx *c, const struct lm_arch *a, int32_t from)
{
    const struct lm_json *list = hf_get(c, "layer_types");
    if (!list)
        return from < a->n_layer;
    for (size_t i = 0; i < c->h->json->size(list); i++) {
        const char *s = c->h->json->string(c->h->json->at(list, i));
        if (s && !strcmp(s, "sliding_attention"))
            return true;
    }
    return false;
}

static enum lm_status window(const struct hf_cx *c, struct hf_config *k)
{
    struct lm_arch *a = &k->arch;
    bool use = k->family == HF_MISTRAL && !k->own;
    int32_t size = 0, from = 0;
    enum lm_status s = LM_OK;
    if ((k->family == HF_QWEN2 || k->family == HF_QWEN3) && !k->own)
        s = flag(c, "use_sliding_window", &use);
    if (s || !use)
        return s;
    s = whole(c, "sliding_window", 1, 1 << 30,
              c->h->json->get(c->root, "sliding_window") ? 0 : 4096, &size);
    if (!s)
        s = whole(c, "max_window_layers", 0, INT32_MAX, 28, &from);
    if (!s && k->family == HF_MISTRAL)
        a->window = size;
    else if (!s && size && size < a->context && slides(c, a, from))
        s = c->h->fail(c->e, LM_EINPUT, "%s: a sliding window of %d in some of the "
                       "layers ('use_sliding_window') is not supported, only one that is "
                       "no shorter than max_position_embeddings", c->path, size);
    return s;
}

static enum lm_status biases(const struct hf_cx *c, struct hf_config *k)
{
    const uint64_t qkv = LM_BIT(LM_B_Q) | LM_BIT(LM_B_K) | LM_BIT(LM_B_V);
    bool attention = false, mlp = false;
    enum lm_status s = LM_OK;
    if (k->family == HF_LLAMA || k->family == HF_QWEN3)
        s = flag(c, "attention_bias", &attention);
    if (!s && k->family == HF_LLAMA)
        s = flag(c, "mlp_bias", &mlp);
    k->extra = (attention ? qkv | LM_BIT(LM_B_O) : 0)
             | (mlp ? LM_BIT(LM_B_GATE) | LM_BIT(LM_B_UP) | LM_BIT(LM_B_DOWN) : 0)
             | (k->family == HF_QWEN2 ? qkv : 0)
             | (k->family == HF_QWEN3 ? LM_BIT(LM_W_Q_NORM) | LM_BIT(LM_W_K_NORM) : 0);
    return s;
}

/* what people call it: _name_or_path, else the folder */
static void naming(const struct hf_cx *c, const char *folder, struct hf_config *k)
{
    const struct lm_json *n = hf_get(c, "_name_or_path");
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
    struct hf_cx c = { f->h, k->doc.path, k->doc.root, e };
    s = known_family(&c, &k->family, &k->own);
    k->arch = (struct lm_arch){ .struct_size = sizeof k->arch,
                                .family = family[k->family].type, .rope_factor = 1,
                                .bos = -1, .eos = -1, .pad = -1 };
    if (!s)
        s = fixed(&c, "hidden_act", "silu");
    if (!s)
        s = shapes(&c, k);
    if (!s)
        s = hf_real(&c, c.root, "rms_norm_eps", 1e-6, &k->arch.rms_eps);
    if (!s)
        s = hf_rope_read(&c, &k->arch);
    if (!s)
        s = window(&c, k);
    if (!s)
        s = k->own ? hf_layers_read(&c, k) : biases(&c, k);
    if (!s)
        s = flag(&c, "tie_word_embeddings", &k->tie);
    naming(&c, folder, k);
    return s;
}

void hf_config_close(const struct fmt *f, struct hf_config *k)
{
    hf_doc_close(f, &k->doc);
    f->h->release(k->layer);
    f->h->release(k->generation);
    k->layer = NULL;
}
