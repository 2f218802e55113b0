/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_vocab.c -- tokenizer.ggml.* -> vocabulary.
 *
 * Model "gpt2" (byte-level BPE) with the pre-tokenizers whose pattern is that
 * of GPT-2 or SmolLM; "none" or no key means a model without vocabulary.
 * "default" is what old converters wrote for GPT-2.                            */
#include "gguf.h"

enum { MAX_MERGES = 1 << 24, MAX_TOKEN = 1 << 16 };

static const struct { const char *name; uint32_t pre; } known[] = {
    { "smollm", LM_PRE_SMOLLM }, { "gpt-2", LM_PRE_GPT2 }, { "gpt2", LM_PRE_GPT2 },
    { "phi-2", LM_PRE_GPT2 }, { "default", LM_PRE_GPT2 },
};

static int brief(struct gguf_slice s)
{
    return (int)(s.n < 40 ? s.n : 40);
}

static enum lm_status string_key(const struct gguf_file *g, const char *key,
                                 const char *def, struct gguf_slice *out,
                                 struct lm_err *e)
{
    const struct gguf_pair *p = gguf_find(g, key);
    *out = (struct gguf_slice){ def, strlen(def) };
    if (p && (!gguf_string(p, out) || !fmt_utf8(out->s, out->n)))
        return g->f->h->fail(e, LM_EINPUT, "%s: %s must be UTF-8 text", g->path, key);
    return LM_OK;
}

static bool same(struct gguf_slice a, const char *b)
{
    return a.n == strlen(b) && !memcmp(a.s, b, a.n);
}

static enum lm_status pretokenizer(const struct gguf_file *g, struct gguf_vocab *v,
                                   struct lm_err *e)
{
    struct gguf_slice pre;
    enum lm_status s = string_key(g, "tokenizer.ggml.pre", "default", &pre, e);
    for (size_t i = 0; i < sizeof known / sizeof *known && !s; i++)
        if (same(pre, known[i].name))
            v->vocabulary.pre = known[i].pre;
    if (!s && !v->vocabulary.pre)
        s = g->f->h->fail(e, LM_EINPUT, "%s: pre-tokenizer '%.*s' is not supported",
                          g->path, brief(pre), pre.s);
    return s;
}

/* type of a token in the file: 1 normal, 3 control, 4 user-defined, 5 unused */
static bool kind_of(int64_t type, uint32_t *kind)
{
    static const uint8_t kinds[] = { 0, LM_TOKEN_NORMAL, LM_TOKEN_SPECIAL,
                                     LM_TOKEN_SPECIAL, LM_TOKEN_ADDED, LM_TOKEN_UNUSED };
    *kind = type >= 1 && type <= 5 ? kinds[type] : 0;
    return *kind != 0;
}

static enum lm_status tokens(const struct gguf_file *g, int32_t n_embed,
                             struct gguf_vocab *v, struct lm_err *e)
{
    const struct lm_host *h = g->f->h;
    const struct gguf_pair *list = gguf_find(g, "tokenizer.ggml.tokens");
    const struct gguf_pair *type = gguf_find(g, "tokenizer.ggml.token_type");
    if (!list || list->type != GGUF_ARRAY || list->element != GGUF_STRING
        || list->count < 1 || list->count > (uint64_t)n_embed)
        return h->fail(e, LM_EINPUT, "%s: tokenizer.ggml.tokens is missing or longer "
                       "than the %d embeddings", g->path, (int)n_embed);
    size_t n = (size_t)list->count;
    if (type && (type->type != GGUF_ARRAY || type->count != n))
        return h->fail(e, LM_EINPUT, "%s: tokenizer.ggml.token_type has the wrong length",
                       g->path);
    v->token = h->alloc(n * sizeof *v->token, "vocabulary");
    if (!v->token)
        return h->fail(e, LM_ENOMEM, "out of memory for %zu tokens", n);
    const char *at = list->value;
    for (size_t i = 0; i < n; i++) {
        struct gguf_slice s = gguf_next(&at);
        int64_t t = 1;
        struct lm_token *k = &v->token[i];
        if (s.n > MAX_TOKEN || !fmt_utf8(s.s, s.n)
            || (type && !gguf_integer(type, i, &t)))
            return h->fail(e, LM_EINPUT, "%s: token %zu is damaged", g->path, i);
        *k = (struct lm_token){ s.s, (uint32_t)s.n, LM_TOKEN_UNUSED };
        if (s.n && !kind_of(t, &k->kind))
            return h->fail(e, LM_EINPUT, "%s: token %zu has type %lld, which is not "
                           "supported", g->path, i, (long long)t);
    }
    v->vocabulary.token = v->token;
    v->vocabulary.n_token = n;
    int64_t twin;
    if (fmt_map_open(&v->map, h, v->token, n, &twin))
        return LM_OK;
    if (twin < 0)
        return h->fail(e, LM_ENOMEM, "out of memory for a table of tokens");
    return h->fail(e, LM_EINPUT, "%s: token %lld is there twice", g->path,
                   (long long)twin);
}

static enum lm_status merges(const struct gguf_file *g, struct gguf_vocab *v,
                             struct lm_err *e)
{
    const struct lm_host *h = g->f->h;
    const struct gguf_pair *list = gguf_find(g, "tokenizer.ggml.merges");
    if (!list || list->type != GGUF_ARRAY || list->element != GGUF_STRING
        || list->count > MAX_MERGES)
        return h->fail(e, LM_EINPUT, "%s: tokenizer.ggml.merges is missing or too long",
                       g->path);
    size_t n = (size_t)list->count;
    v->merge = h->alloc((n + 1) * sizeof *v->merge, "vocabulary");
    if (!v->merge)
        return h->fail(e, LM_ENOMEM, "out of memory for %zu merges", n);
    const char *at = list->value;
    for (size_t i = 0; i < n; i++) {
        struct gguf_slice s = gguf_next(&at);
        if (!fmt_merge(&v->map, s.s, s.n, &v->merge[i]))
            return h->fail(e, LM_EINPUT, "%s: merge %zu is no pair of tokens", g->path,
                           i);
    }
    v->vocabulary.merge = v->merge;
    v->vocabulary.n_merge = n;
    return LM_OK;
}

static enum lm_status chat(const struct gguf_file *g, struct gguf_vocab *v,
                           struct lm_err *e)
{
    struct gguf_slice t;
    enum lm_status s = string_key(g, "tokenizer.chat_template", "", &t, e);
    if (s || !t.n)
        return s;
    v->chat = g->f->h->alloc(t.n + 1, "vocabulary");
    if (!v->chat)
        return g->f->h->fail(e, LM_ENOMEM, "out of memory for a chat template");
    memcpy(v->chat, t.s, t.n);
    v->vocabulary.chat_template = v->chat;
    return LM_OK;
}

enum lm_status gguf_vocab_open(const struct gguf_file *g, int32_t n_embed,
                               struct gguf_vocab *v, struct lm_err *e)
{
    struct gguf_slice model;
    v->vocabulary.struct_size = sizeof v->vocabulary;
    enum lm_status s = string_key(g, "tokenizer.ggml.model", "none", &model, e);
    if (s || same(model, "none") || same(model, "no_vocab"))
        return s;
    if (!same(model, "gpt2"))
        return g->f->h->fail(e, LM_EINPUT, "%s: tokenizer model '%.*s' is not supported, "
                             "only gpt2", g->path, brief(model), model.s);
    s = pretokenizer(g, v, e);
    if (!s)
        s = tokens(g, n_embed, v, e);
    if (!s)
        s = merges(g, v, e);
    if (!s)
        s = chat(g, v, e);
    return s;
}

void gguf_vocab_close(const struct gguf_file *g, struct gguf_vocab *v)
{
    fmt_map_close(&v->map);
    g->f->h->release(v->token);
    g->f->h->release(v->merge);
    g->f->h->release(v->chat);
}
