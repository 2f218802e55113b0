/* SPDX-License-Identifier: Apache-2.0 */
/* hf_layers.c -- the layers of a folder that are written, and config.json where
 * they differ.
 *
 * Layers of which nothing is left go and the later ones move up.  Equal layers
 * make a stock model.  Layers that differ are either written as they are, as a
 * model of type "lamina", or filled up with zeros to a stock model (hf_pad.c).
 *
 * lamina.  config.json says what all layers have (num_attention_heads and
 * num_key_value_heads of a layer with most heads, the largest
 * intermediate_size), and per_layer_config, an object with layer numbers as keys,
 * how one differs: these three, and "skip": ["attention", "mlp"].  It is the form
 * that transformers knows since 5.14.  linear_biases lists projections with a
 * bias ("o_proj"), which then stand in every layer that has the projection;
 * qk_norm: there are norms of q and k; family: what the parent was.  auto_map
 * names modeling_lamina.py beside it, which is written too and never read here. */
#include "hf.h"

static const struct { const char *name; uint32_t role; } linear[] = {
    { "q_proj", LM_B_Q }, { "k_proj", LM_B_K }, { "v_proj", LM_B_V },
    { "o_proj", LM_B_O }, { "gate_proj", LM_B_GATE }, { "up_proj", LM_B_UP },
    { "down_proj", LM_B_DOWN },
};
enum { N_LINEAR = sizeof linear / sizeof *linear };

bool hf_role_block(uint32_t role, const struct lm_layer_shape *s)
{
    bool mlp = (role >= LM_W_MLP_NORM && role <= LM_W_DOWN)
        || (role >= LM_B_GATE && role <= LM_B_DOWN);
    return mlp ? s->n_ff > 0 : s->n_head > 0;
}

/* ---- writing ------------------------------------------------------------------- */

/* The largest of everything; a group has as many heads as the fullest one. */
static struct lm_layer_shape padded(const struct lm_arch *a, const struct hf_layers *l)
{
    struct lm_layer_shape s = { 0, 1, 1, 0 };
    int32_t group = 1;
    for (int32_t i = 0; i < l->n; i++) {
        const struct lm_layer_shape *p = &l->shape[i];
        if (p->n_ff > s.n_ff)
            s.n_ff = p->n_ff;
        if (p->n_kv > s.n_kv)
            s.n_kv = p->n_kv;
        if (p->n_kv && p->n_head / p->n_kv > group)
            group = p->n_head / p->n_kv;
    }
    s.n_head = s.n_kv * group;
    /* stock Llama wants the heads to divide the hidden size */
    for (int32_t heads = s.n_head; heads <= a->hidden; heads++)
        for (int32_t kv = s.n_kv; a->hidden % heads == 0 && kv <= heads / group; kv++)
            if (heads % kv == 0)
                return (struct lm_layer_shape){ heads, kv, s.n_ff, 0 };
    return s;
}

/* what config.json says of all layers */
static struct lm_layer_shape usual(const struct hf_layers *l)
{
    struct lm_layer_shape s = { 1, 1, 1, 0 };
    for (int32_t i = 0; i < l->n; i++) {
        const struct lm_layer_shape *p = &l->shape[i];
        if (p->n_head > s.n_head || (p->n_head == s.n_head && p->n_kv > s.n_kv)) {
            s.n_head = p->n_head;
            s.n_kv = p->n_kv;
        }
        if (p->n_ff > s.n_ff)
            s.n_ff = p->n_ff;
    }
    return s;
}

enum lm_status hf_layers_open(const struct fmt *f, const struct lm_arch *a, bool pad,
                              struct hf_layers *l, struct lm_err *e)
{
    size_t n = (size_t)a->n_layer;
    *l = (struct hf_layers){ 0 };
    l->shape = f->h->alloc(n * sizeof *l->shape, "hf");
    l->from = f->h->alloc(n * sizeof *l->from, "hf");
    if (!l->shape || !l->from)
        return f->h->fail(e, LM_ENOMEM, "out of memory for a list of %zu layers", n);
    for (int32_t i = 0; i < a->n_layer; i++)
        if (a->layer[i].n_head || a->layer[i].n_ff) {
            l->shape[l->n] = a->layer[i];
            l->from[l->n++] = i;
        }
    if (!l->n)
        return f->h->fail(e, LM_EUNSUPPORTED, "format hf cannot write a model without "
                          "any attention or MLP block");
    l->all = pad ? padded(a, l) : usual(l);
    for (int32_t i = 0; i < l->n; i++) {
        if (pad)
            l->shape[i] = l->all;
        l->own |= memcmp(&l->shape[i], &l->all, sizeof l->all) != 0;
    }
    return LM_OK;
}

void hf_layers_close(const struct fmt *f, struct hf_layers *l)
{
    f->h->release(l->shape);
    f->h->release(l->from);
    l->shape = NULL;
    l->from = NULL;
}

static void one_layer(const struct hf_layers *l, int32_t i, struct fmt_buf *b)
{
    const struct lm_layer_shape *s = &l->shape[i];
    char text[256] = "";
    size_t n = 0;
    if (s->n_head && s->n_head != l->all.n_head)
        n += (size_t)snprintf(text + n, sizeof text - n, ", \"num_attention_heads\": %d",
                              s->n_head);
    if (s->n_head && s->n_kv != l->all.n_kv)
        n += (size_t)snprintf(text + n, sizeof text - n, ", \"num_key_value_heads\": %d",
                              s->n_kv);
    if (s->n_ff && s->n_ff != l->all.n_ff)
        n += (size_t)snprintf(text + n, sizeof text - n, ", \"intermediate_size\": %d",
                              s->n_ff);
    if (!s->n_head || !s->n_ff)
        snprintf(text + n, sizeof text - n, ", \"skip\": [\"%s\"]",
                 s->n_head ? "mlp" : "attention");
    if (text[0])
        fmt_add(b, "%s\n    \"%d\": {%s}", b->p[b->n - 1] == '{' ? "" : ",", (int)i,
                text + 2);
}

void hf_layers_config(const struct hf_layers *l, const struct lm_arch *a, uint64_t extra,
                      struct fmt_buf *b)
{
    const char *comma = "";
    fmt_text(b, "  \"auto_map\": {\n"
             "    \"AutoConfig\": \"modeling_lamina.LaminaConfig\",\n"
             "    \"AutoModel\": \"modeling_lamina.LaminaModel\",\n"
             "    \"AutoModelForCausalLM\": \"modeling_lamina.LaminaForCausalLM\"\n"
             "  },\n");
    fmt_add(b, "  \"family\": \"%s\",\n  \"qk_norm\": %s,\n  \"linear_biases\": [",
            a->family, hf_bool(extra & LM_BIT(LM_W_Q_NORM)));
    for (size_t i = 0; i < N_LINEAR; i++)
        if (extra & LM_BIT(linear[i].role)) {
            fmt_add(b, "%s\"%s\"", comma, linear[i].name);
            comma = ", ";
        }
    fmt_text(b, "],\n  \"per_layer_config\": {");
    for (int32_t i = 0; i < l->n && !b->failed; i++)
        one_layer(l, i, b);
    fmt_text(b, "\n  },\n");
}

/* ---- reading ------------------------------------------------------------------- */

static enum lm_status wrong(const struct hf_cx *c, const char *layer, const char *what)
{
    return c->h->fail(c->e, LM_EINPUT, "%s: per_layer_config: '%s': %s", c->path, layer,
                      what);
}

static enum lm_status read_skip(const struct hf_cx *c, const char *layer,
                                const struct lm_json *list, struct lm_layer_shape *s)
{
    if (c->h->json->type(list) != 'a')
        return wrong(c, layer, "skip must be a list");
    for (size_t i = 0; i < c->h->json->size(list); i++) {
        const char *what = c->h->json->string(c->h->json->at(list, i));
        if (what && !strcmp(what, "attention"))
            s->n_head = s->n_kv = 0;
        else if (what && !strcmp(what, "mlp"))
            s->n_ff = 0;
        else
            return wrong(c, layer, "skip names blocks that are not \"attention\" or "
                         "\"mlp\"");
    }
    return LM_OK;
}

static enum lm_status read_layer(const struct hf_cx *c, const char *layer,
                                 const struct lm_json *o, int32_t head_dim,
                                 struct lm_layer_shape *s)
{
    const struct lm_json_api *j = c->h->json;
    const struct lm_json *skip = NULL;
    if (j->type(o) != 'o')
        return wrong(c, layer, "must be an object");
    for (size_t i = 0; i < j->size(o); i++) {
        const char *key = NULL;
        const struct lm_json *value = j->member(o, i, &key);
        int32_t *to = !strcmp(key, "num_attention_heads") ? &s->n_head
                    : !strcmp(key, "num_key_value_heads") ? &s->n_kv
                    : !strcmp(key, "intermediate_size") ? &s->n_ff : NULL;
        int64_t v;
        if (!strcmp(key, "skip"))
            skip = value;
        else if (!to)
            return c->h->fail(c->e, LM_EINPUT, "%s: per_layer_config: '%s': '%s' is not "
                              "supported, only num_attention_heads, num_key_value_heads, "
                              "intermediate_size and skip", c->path, layer, key);
        else if (!j->integer(value, &v) || v < 1 || v > HF_MAX_WIDTH)
            return wrong(c, layer, "a size must be a whole number of at least 1");
        else
            *to = (int32_t)v;
    }
    if (s->n_head % s->n_kv || s->n_head > HF_MAX_WIDTH / head_dim)
        return wrong(c, layer, "the attention heads are no multiple of the key-value "
                     "heads, or too many");
    return skip ? read_skip(c, layer, skip, s) : LM_OK;
}

static enum lm_status read_biases(const struct hf_cx *c, struct hf_config *k)
{
    const struct lm_json_api *j = c->h->json;
    const struct lm_json *list = hf_get(c, "linear_biases"), *norm = hf_get(c, "qk_norm");
    bool have = false;
    if (list && j->type(list) != 'a')
        return c->h->fail(c->e, LM_EINPUT, "%s: 'linear_biases' must be a list", c->path);
    for (size_t i = 0, l; list && i < j->size(list); i++) {
        const char *s = j->string(j->at(list, i));
        for (l = 0; l < N_LINEAR && (!s || strcmp(s, linear[l].name)); l++)
            ;
        if (l == N_LINEAR)
            return c->h->fail(c->e, LM_EINPUT, "%s: linear_biases: '%s' is no projection",
                              c->path, s ? s : "?");
        k->extra |= LM_BIT(linear[l].role);
    }
    if (norm && !j->boolean(norm, &have))
        return c->h->fail(c->e, LM_EINPUT, "%s: 'qk_norm' must be true or false",
                          c->path);
    if (have)
        k->extra |= LM_BIT(LM_W_Q_NORM) | LM_BIT(LM_W_K_NORM);
    return LM_OK;
}

enum lm_status hf_layers_read(const struct hf_cx *c, struct hf_config *k)
{
    const struct lm_json_api *j = c->h->json;
    const struct lm_json *all = hf_get(c, "per_layer_config");
    enum lm_status s = read_biases(c, k);
    if (!s && all && j->type(all) != 'o')
        s = c->h->fail(c->e, LM_EINPUT, "%s: 'per_layer_config' must be an object",
                       c->path);
    for (size_t i = 0; !s && all && i < j->size(all); i++) {
        const char *key = NULL;
        const struct lm_json *o = j->member(all, i, &key);
        char *end;
        long layer = *key >= '0' && *key <= '9' ? strtol(key, &end, 10) : -1;
        if (layer < 0 || *end || layer >= k->arch.n_layer)
            s = c->h->fail(c->e, LM_EINPUT, "%s: per_layer_config: there is no layer "
                           "'%s'", c->path, key);
        else
            s = read_layer(c, key, o, k->arch.head_dim, &k->layer[layer]);
    }
    return s;
}
