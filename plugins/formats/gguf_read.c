/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_read.c -- key-value pairs and tensors of a GGUF file -> a model.
 *
 * In files of architecture llama and deci the rows of q and k stand in the order
 * of interleaved RoPE and are put into rotate-half order (common.h); rows of any
 * number format can be moved as bytes, so nothing is decoded.  All other tensors
 * stay mapped.
 *
 * A layer of deci without heads has no attention.  One with heads but without
 * key-value heads ("linear attention") is refused.                             */
#include "gguf.h"

static const struct { const char *name; uint32_t role; } part[] = {
    { "attn_norm.weight", LM_W_ATTN_NORM }, { "attn_q.weight", LM_W_Q },
    { "attn_k.weight", LM_W_K }, { "attn_v.weight", LM_W_V },
    { "attn_output.weight", LM_W_O }, { "ffn_norm.weight", LM_W_MLP_NORM },
    { "ffn_gate.weight", LM_W_GATE }, { "ffn_up.weight", LM_W_UP },
    { "ffn_down.weight", LM_W_DOWN }, { "attn_q.bias", LM_B_Q },
    { "attn_k.bias", LM_B_K }, { "attn_v.bias", LM_B_V }, { "attn_output.bias", LM_B_O },
    { "ffn_gate.bias", LM_B_GATE }, { "ffn_up.bias", LM_B_UP },
    { "ffn_down.bias", LM_B_DOWN }, { "attn_q_norm.weight", LM_W_Q_NORM },
    { "attn_k_norm.weight", LM_W_K_NORM },
};
static const struct { const char *name; uint32_t role; } whole[] = {
    { "token_embd.weight", LM_W_EMBED }, { "output.weight", LM_W_HEAD },
    { "output_norm.weight", LM_W_FINAL_NORM },
};
enum { N_PART = sizeof part / sizeof *part, N_WHOLE = sizeof whole / sizeof *whole };

/* general.architecture, and what we call its models */
static const struct { const char *name, *family; } known[] = {
    { "llama", "llama" }, { "deci", "llama" }, { "qwen2", "qwen2" }, { "qwen3", "qwen3" },
};
enum { N_KNOWN = sizeof known / sizeof *known };

struct cx {
    struct gguf_file file;
    struct lm_arch arch;
    struct lm_layer_shape *layer;
    struct gguf_vocab vocab;
    char name[256], family[16];
    struct gguf_own own;
    struct lm_err *e;
};

bool gguf_role_name(uint32_t role, int32_t layer, char *out, size_t n)
{
    for (size_t i = 0; i < N_WHOLE; i++)
        if (whole[i].role == role)
            return snprintf(out, n, "%s", whole[i].name) < (int)n;
    for (size_t i = 0; i < N_PART; i++)
        if (part[i].role == role)
            return snprintf(out, n, "blk.%d.%s", (int)layer, part[i].name) < (int)n;
    return false;
}

static uint32_t role_of(const char *name, int32_t n_layer, int32_t *layer)
{
    *layer = -1;
    for (size_t i = 0; i < N_WHOLE; i++)
        if (!strcmp(whole[i].name, name))
            return whole[i].role;
    const char *p = name + 4;
    int64_t k = 0;
    if (strncmp(name, "blk.", 4) || *p < '0' || *p > '9' || (*p == '0' && p[1] != '.'))
        return 0;
    for (; *p >= '0' && *p <= '9'; p++)
        if ((k = k * 10 + (*p - '0')) >= n_layer)
            return 0;
    if (*p++ != '.')
        return 0;
    *layer = (int32_t)k;
    for (size_t i = 0; i < N_PART; i++)
        if (!strcmp(part[i].name, p))
            return part[i].role;
    return 0;
}

static const struct gguf_pair *get(const struct cx *c, const char *key, char full[96])
{
    snprintf(full, 96, "%s.%s", c->family, key);
    return gguf_find(&c->file, full);
}

/* i-th of an array, or a scalar for all i; def < 0: required */
static enum lm_status whole_at(const struct cx *c, const char *key, int32_t i, int64_t lo,
                               int64_t hi, int64_t def, int32_t *out)
{
    char full[96];
    const struct gguf_pair *p = get(c, key, full);
    int64_t v = def;
    if (!p && def < 0)
        return c->file.f->h->fail(c->e, LM_EINPUT, "%s: key %s is missing", c->file.path,
                                  full);
    bool array = p && p->type == GGUF_ARRAY;
    if (p && ((array && (i < 0 || p->count != (uint64_t)c->arch.n_layer))
              || !gguf_integer(p, array ? (uint64_t)i : 0, &v) || v < lo || v > hi))
        return c->file.f->h->fail(c->e, LM_EINPUT, "%s: key %s must be a whole number "
                                  "from %lld to %lld%s", c->file.path, full,
                                  (long long)lo, (long long)hi,
                                  i < 0 ? "" : ", or one for each layer");
    *out = (int32_t)v;
    return LM_OK;
}

static enum lm_status family(struct cx *c)
{
    const struct lm_host *h = c->file.f->h;
    const struct gguf_pair *p = gguf_find(&c->file, "general.architecture");
    struct gguf_slice s;
    int64_t n;
    if (!p || !gguf_string(p, &s))
        return h->fail(c->e, LM_EINPUT, "%s: general.architecture is missing",
                       c->file.path);
    for (size_t i = 0; i < N_KNOWN; i++)
        if (s.n == strlen(known[i].name) && !memcmp(s.s, known[i].name, s.n)) {
            c->arch.family = known[i].family;
            memcpy(c->family, s.s, s.n);
        }
    if (!*c->family)
        return h->fail(c->e, LM_EINPUT, "%s: architecture '%.*s' is not supported, only "
                       "llama, deci, qwen2 and qwen3", c->file.path,
                       (int)(s.n < 40 ? s.n : 40), s.s);
    p = gguf_find(&c->file, "split.count");
    if (p && (!gguf_integer(p, 0, &n) || n > 1))
        return h->fail(c->e, LM_EINPUT, "%s: is one of several parts; merge them first",
                       c->file.path);
    char full[96];
    p = get(c, "expert_count", full);
    if (p && (!gguf_integer(p, 0, &n) || n > 0))
        return h->fail(c->e, LM_EINPUT, "%s: mixtures of experts are not supported",
                       c->file.path);
    p = gguf_find(&c->file, "general.name");
    if (p && gguf_string(p, &s) && s.n < sizeof c->name && fmt_utf8(s.s, s.n))
        memcpy(c->name, s.s, s.n);
    return LM_OK;
}

static enum lm_status layer_shape(struct cx *c, int32_t i)
{
    struct lm_layer_shape *p = &c->layer[i];
    enum lm_status s = whole_at(c, "attention.head_count", i, 0, GGUF_MAX_WIDTH, -1,
                                &p->n_head);
    if (!s)
        s = whole_at(c, "attention.head_count_kv", i, 0, GGUF_MAX_WIDTH, p->n_head,
                     &p->n_kv);
    if (!s)
        s = whole_at(c, "feed_forward_length", i, 0, GGUF_MAX_WIDTH, -1, &p->n_ff);
    if (!s && !p->n_head)
        p->n_kv = 0;
    if (!s && p->n_head && !p->n_kv)
        s = c->file.f->h->fail(c->e, LM_EINPUT, "%s: linear attention in layer %d is not "
                               "supported", c->file.path, (int)i);
    if (!s && p->n_kv && p->n_head % p->n_kv)
        s = c->file.f->h->fail(c->e, LM_EINPUT, "%s: layer %d has %d heads for %d "
                               "key-value heads", c->file.path, (int)i, p->n_head,
                               p->n_kv);
    return s;
}

static enum lm_status head_dim(struct cx *c)
{
    struct lm_arch *a = &c->arch;
    int32_t heads = 0, most = 1, value = 0, rope = 0;
    for (int32_t i = 0; i < a->n_layer; i++) {
        if (!heads)
            heads = c->layer[i].n_head;
        if (c->layer[i].n_head > most)
            most = c->layer[i].n_head;
    }
    enum lm_status s = LM_OK;
    if (!heads)
        s = whole_at(c, "rope.dimension_count", -1, 0, GGUF_MAX_WIDTH, 0, &rope);
    if (!s)
        s = whole_at(c, "attention.key_length", -1, 0, GGUF_MAX_WIDTH,
                     heads ? a->hidden / heads : rope, &a->head_dim);
    if (!s)
        s = whole_at(c, "rope.dimension_count", -1, 0, GGUF_MAX_WIDTH, a->head_dim,
                     &rope);
    if (!s)
        s = whole_at(c, "attention.value_length", -1, 0, GGUF_MAX_WIDTH, a->head_dim,
                     &value);
    if (!s && (value != a->head_dim || rope != a->head_dim || a->head_dim < 2
               || a->head_dim % 2 || a->head_dim > GGUF_MAX_WIDTH / most))
        s = c->file.f->h->fail(c->e, LM_EINPUT, "%s: heads of %d dimensions with %d "
                               "values and %d rotated ones are not supported",
                               c->file.path, a->head_dim, value, rope);
    return s;
}

static enum lm_status shapes(struct cx *c)
{
    struct lm_arch *a = &c->arch;
    const struct gguf_info *embed = gguf_tensor(&c->file, "token_embd.weight");
    enum lm_status s = whole_at(c, "block_count", -1, 1, GGUF_MAX_LAYERS, -1,
                                &a->n_layer);
    if (!s)
        s = whole_at(c, "embedding_length", -1, 1, GGUF_MAX_WIDTH, -1, &a->hidden);
    if (!s)
        s = whole_at(c, "context_length", -1, 1, 1 << 30, 2048, &a->context);
    if (!s)
        s = whole_at(c, "attention.sliding_window", -1, 0, 1 << 30, 0, &a->window);
    if (!s && (!embed || embed->tensor.rows > GGUF_MAX_VOCAB))
        s = c->file.f->h->fail(c->e, LM_EINPUT, "%s: tensor token_embd.weight is missing "
                               "or too large", c->file.path);
    if (s)
        return s;
    a->vocab = (int32_t)embed->tensor.rows;
    c->layer = c->file.f->h->alloc((size_t)a->n_layer * sizeof *c->layer, "gguf");
    if (!c->layer)
        return c->file.f->h->fail(c->e, LM_ENOMEM, "out of memory for reading %s",
                                  c->file.path);
    a->layer = c->layer;
    for (int32_t i = 0; i < a->n_layer && !s; i++)
        s = layer_shape(c, i);
    return s ? s : head_dim(c);
}

static enum lm_status ids(struct cx *c)
{
    static const char *const key[] = { "tokenizer.ggml.bos_token_id",
        "tokenizer.ggml.eos_token_id", "tokenizer.ggml.padding_token_id" };
    int32_t *out[] = { &c->arch.bos, &c->arch.eos, &c->arch.pad };
    const struct gguf_pair *p = gguf_find(&c->file, "tokenizer.ggml.add_bos_token");
    int64_t v = 0;
    for (size_t i = 0; i < 3; i++) {
        const struct gguf_pair *k = gguf_find(&c->file, key[i]);
        *out[i] = -1;
        if (!k || !gguf_integer(k, 0, &v) || v < 0 || v == UINT32_MAX)
            continue;
        if (v < c->arch.vocab)
            *out[i] = (int32_t)v;
        else if (i < 2)
            return c->file.f->h->fail(c->e, LM_EINPUT, "%s: %s %lld is outside the "
                                      "vocabulary of %d", c->file.path, key[i],
                                      (long long)v, c->arch.vocab);
    }
    v = gguf_vocab_adds_bos(&c->file);
    c->arch.add_bos = (!p || gguf_integer(p, 0, &v)) && v && c->arch.bos >= 0;
    return LM_OK;
}

/* does RoPE turn neighbours? */
static bool neighbours(const struct cx *c)
{
    return !strcmp(c->family, "llama") || !strcmp(c->family, "deci");
}

/* rows of q or k, or elements of their biases, into rotate-half order */
static enum lm_status reorder(const struct cx *c, struct lm_builder *b,
                              struct lm_tensor *t, bool bias, const char *name)
{
    const struct lm_host *h = c->file.f->h;
    const struct lm_codec *k = h->codec(t->dtype);
    int64_t n = bias ? t->cols : t->rows, d = c->arch.head_dim;
    size_t bytes = bias ? k->bytes : (size_t)fmt_row_bytes(k, t->cols);
    if (n % d || (bias && (t->rows != 1 || k->block != 1)))
        return h->fail(c->e, LM_EINPUT, "%s: tensor '%s' has the wrong shape",
                       c->file.path, name);
    char *to = h->alloc((size_t)n * bytes, "weights");
    if (!to)
        return h->fail(c->e, LM_ENOMEM, "out of memory for tensor '%s'", name);
    for (int64_t r = 0; r < n; r++)
        memcpy(to + (size_t)fmt_hf_row(r, d) * bytes,
               (const char *)t->data + (size_t)r * bytes, bytes);
    h->keep(b, to);
    t->data = to;
    return LM_OK;
}

static enum lm_status add(const struct cx *c, struct lm_builder *b,
                          const struct gguf_info *i)
{
    const struct lm_host *h = c->file.f->h;
    struct lm_tensor t = i->tensor;
    int32_t layer;
    uint32_t role = role_of(i->name, c->arch.n_layer, &layer);
    if (!strcmp(i->name, "rope_freqs.weight") || strstr(i->name, ".attn_rot_embd."))
        return LM_OK;                       /* the second: of old converters */
    if (!role)
        return h->fail(c->e, LM_EINPUT, "%s: tensor '%s' belongs to no part of a %s "
                       "model of %d layers", c->file.path, i->name, c->family,
                       c->arch.n_layer);
    enum lm_status s = LM_OK;
    if (!gguf_is_matrix(role))
        s = gguf_narrow(&c->file, b, i, &t, c->e);
    if (!s && neighbours(c) && (role == LM_W_Q || role == LM_W_K))
        s = reorder(c, b, &t, false, i->name);
    else if (!s && neighbours(c) && (role == LM_B_Q || role == LM_B_K))
        s = reorder(c, b, &t, true, i->name);
    return s ? s : h->add_tensor(b, role, layer, &t, i->name, c->e);
}

/* What llama.cpp would miss, or not use. */
static enum lm_status extra(struct cx *c)
{
    bool norms = !strcmp(c->family, "qwen3"), qkv = !strcmp(c->family, "qwen2");
    for (int32_t l = 0; l < c->arch.n_layer; l++)
        for (uint32_t r = LM_B_Q; r <= LM_W_K_NORM; r++) {
            char name[GGUF_NAME];
            bool norm = r == LM_W_Q_NORM || r == LM_W_K_NORM;
            gguf_role_name(r, l, name, sizeof name);
            bool have = gguf_tensor(&c->file, name) != NULL;
            bool must = norm ? norms : qkv && r <= LM_B_V;
            bool may = must || (!norm && neighbours(c));
            if (have ? !may : must)
                return c->file.f->h->fail(c->e, LM_EINPUT, have ? "%s: a model of "
                    "architecture %s has no tensor '%s', but it is there" : "%s: a model "
                    "of architecture %s has a tensor '%s', but it is missing",
                    c->file.path, c->family, name);
        }
    return LM_OK;
}

static enum lm_status build(struct cx *c, struct lm_builder *b)
{
    const struct lm_host *h = c->file.f->h;
    enum lm_status s = family(c);
    if (!s)
        s = shapes(c);
    if (!s)
        s = gguf_family_real(&c->file, c->family, "attention.layer_norm_rms_epsilon", 0,
                             &c->arch.rms_eps, c->e);
    if (!s)
        s = gguf_rope_read(&c->file, c->family, &c->arch, c->e);
    if (!s)
        s = ids(c);
    if (!s)
        s = gguf_own_read(&c->file, &c->arch, &c->own, c->e);
    if (!s)
        s = extra(c);
    if (!s)
        s = gguf_vocab_open(&c->file, c->arch.vocab, &c->vocab, c->e);
    c->arch.tied = !gguf_tensor(&c->file, "output.weight");
    if (!s)
        s = h->set_arch(b, &c->arch, c->e);
    for (size_t i = 0; i < c->file.n_info && !s; i++)
        s = add(c, b, &c->file.info[i]);
    if (!s && c->vocab.vocabulary.n_token)
        s = h->set_vocabulary(b, &c->vocab.vocabulary, c->e);
    return s;
}

enum lm_status gguf_read(void *self, const char *path, struct lm_builder *b,
                         struct lm_err *e)
{
    const struct fmt *f = self;
    const void *data = NULL;
    size_t n = 0;
    enum lm_status s = f->h->map_file(b, path, &data, &n, e);
    if (s)
        return s;
    struct cx *c = f->h->alloc(sizeof *c, "gguf");
    if (!c)
        return f->h->fail(e, LM_ENOMEM, "out of memory for reading %s", path);
    c->e = e;
    c->arch = (struct lm_arch){ .struct_size = sizeof c->arch, .family = "llama",
                                .name = c->name, .rope_factor = 1 };
    s = gguf_open(f, path, data, n, &c->file, e);
    if (!s)
        s = build(c, b);
    gguf_vocab_close(&c->file, &c->vocab);
    gguf_close(&c->file);
    f->h->release(c->layer);
    f->h->release(c->own.generation);
    f->h->release(c);
    return s;
}
