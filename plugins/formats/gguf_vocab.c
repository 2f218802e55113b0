/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_vocab.c -- tokenizer.ggml.* -> vocabulary.
 *
 * Models "gpt2" (byte-level BPE), "llama" (SentencePiece BPE by scores) and "t5"
 * (SentencePiece unigram); "none" or no key means a model without vocabulary.
 * "default" is what old converters wrote for GPT-2.  Keys under "lamina." are ours:
 * what a tokenizer from another format has that llama.cpp has no key for.      */
#include "gguf.h"

enum { MAX_MERGES = 1 << 24, MAX_TOKEN = 1 << 16 };

/* ignore: a word that is a token needs no merges; llama.cpp has these two as
 * parts of the name, and of the normal form nothing                           */
static const struct { const char *name; uint32_t pre; bool ignore, nfc; } known[] = {
    { "gpt-2", LM_PRE_GPT2, false, false }, { "gpt2", LM_PRE_GPT2, false, false },
    { "default", LM_PRE_GPT2, false, false }, { "phi-2", LM_PRE_GPT2, false, false },
    { "mpt", LM_PRE_GPT2, false, false }, { "olmo", LM_PRE_GPT2, false, false },
    { "smollm", LM_PRE_SMOLLM, false, false },
    { "starcoder", LM_PRE_SMOLLM, false, false },
    { "refact", LM_PRE_SMOLLM, false, false },
    { "command-r", LM_PRE_SMOLLM, false, false },
    { "llama-bpe", LM_PRE_LLAMA3, true, false },
    { "llama3", LM_PRE_LLAMA3, true, false },
    { "llama-v3", LM_PRE_LLAMA3, true, false },
    { "smaug-bpe", LM_PRE_LLAMA3, false, false },
    { "dbrx", LM_PRE_LLAMA3, false, false },
    { "qwen2", LM_PRE_QWEN2, false, true },
    { "deepseek-r1-qwen", LM_PRE_QWEN2, false, true },
};
enum { N_KNOWN = sizeof known / sizeof *known };

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

static bool flag(const struct gguf_file *g, const char *key, bool def)
{
    const struct gguf_pair *p = gguf_find(g, key);
    int64_t v;
    return p && p->type == GGUF_BOOL && gguf_integer(p, 0, &v) ? v != 0 : def;
}

static enum lm_status pretokenizer(const struct gguf_file *g, struct gguf_vocab *v,
                                   struct lm_err *e)
{
    struct gguf_slice pre;
    char names[400] = "";
    enum lm_status s = string_key(g, "tokenizer.ggml.pre", "default", &pre, e);
    for (size_t i = 0; i < N_KNOWN && !s; i++) {
        size_t n = strlen(names);
        snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "", known[i].name);
        if (!same(pre, known[i].name))
            continue;
        v->vocabulary.pre = known[i].pre;
        v->vocabulary.ignore_merges = known[i].ignore;
        v->vocabulary.nfc = known[i].nfc;
    }
    if (!s && !v->vocabulary.pre)
        s = g->f->h->fail(e, LM_EINPUT, "%s: pre-tokenizer '%.*s' is not supported, only "
                          "%s", g->path, gguf_brief(pre), pre.s, names);
    return s;
}

/* what SentencePiece's normalizer does with spaces */
static enum lm_status spaces(const struct gguf_file *g, struct gguf_vocab *v,
                             struct lm_err *e)
{
    const struct gguf_pair *map = gguf_find(g, "tokenizer.ggml.precompiled_charsmap");
    const struct gguf_pair *p = gguf_find(g, "lamina.tokenizer.prefix");
    int64_t prefix;
    if (map && map->count)
        return g->f->h->fail(e, LM_EINPUT, "%s: a tokenizer with a "
                             "precompiled_charsmap is not supported", g->path);
    if (flag(g, "tokenizer.ggml.remove_extra_whitespaces", false))
        return g->f->h->fail(e, LM_EINPUT, "%s: a tokenizer with "
                             "remove_extra_whitespaces is not supported", g->path);
    v->vocabulary.prefix = flag(g, "tokenizer.ggml.add_space_prefix", true)
        ? LM_PREFIX_ALWAYS : LM_PREFIX_NONE;
    if (!p)
        return LM_OK;
    if (p->type == GGUF_ARRAY || !gguf_integer(p, 0, &prefix) || prefix < LM_PREFIX_NONE
        || prefix > LM_PREFIX_FIRST)
        return g->f->h->fail(e, LM_EINPUT, "%s: lamina.tokenizer.prefix must be 0 to %d",
                             g->path, (int)LM_PREFIX_FIRST);
    v->vocabulary.prefix = (uint32_t)prefix;
    return LM_OK;
}

/* type of scores: f32, as llama.cpp has them, or f64 under our own key */
static enum lm_status scores(const struct gguf_file *g, struct gguf_vocab *v,
                             struct lm_err *e)
{
    const struct lm_host *h = g->f->h;
    const struct gguf_pair *p = gguf_find(g, "lamina.tokenizer.scores");
    bool wide = p != NULL;
    size_t n = v->vocabulary.n_token;
    if (!p)
        p = gguf_find(g, "tokenizer.ggml.scores");
    if (!p || p->type != GGUF_ARRAY || p->element != (wide ? GGUF_F64 : GGUF_F32)
        || p->count != n)
        return h->fail(e, LM_EINPUT, "%s: %s is missing or has not one number for each "
                       "token", g->path, wide ? "lamina.tokenizer.scores"
                                              : "tokenizer.ggml.scores");
    v->score = h->alloc(n * sizeof *v->score, "vocabulary");
    if (!v->score)
        return h->fail(e, LM_ENOMEM, "out of memory for %zu scores", n);
    for (size_t i = 0; i < n; i++) {
        float f;
        if (wide)
            memcpy(&v->score[i], p->value + i * sizeof *v->score, sizeof *v->score);
        else
            memcpy(&f, p->value + i * sizeof f, sizeof f), v->score[i] = (double)f;
        if (!isfinite(v->score[i]))
            return h->fail(e, LM_EINPUT, "%s: the score of token %zu is no finite number",
                           g->path, i);
    }
    v->vocabulary.score = v->score;
    return LM_OK;
}

/* Of files without the key the token of type 2. */
static enum lm_status unknown(const struct gguf_file *g, struct gguf_vocab *v,
                              struct lm_err *e)
{
    const struct gguf_pair *p = gguf_find(g, "tokenizer.ggml.unknown_token_id");
    const struct gguf_pair *type = gguf_find(g, "tokenizer.ggml.token_type");
    size_t n = v->vocabulary.n_token;
    int64_t id = -1, t;
    if (p && (p->type == GGUF_ARRAY || !gguf_integer(p, 0, &id) || id < 0
              || (size_t)id >= n))
        return g->f->h->fail(e, LM_EINPUT, "%s: tokenizer.ggml.unknown_token_id is not "
                             "one of the %zu tokens", g->path, n);
    for (size_t i = 0; id < 0 && type && i < n; i++)
        if (gguf_integer(type, i, &t) && t == 2)
            id = (int64_t)i;
    v->vocabulary.has_unk = id >= 0;
    v->vocabulary.unk = id < 0 ? 0 : (uint32_t)id;
    return LM_OK;
}

/* type of a token in the file: 1 normal, 2 unknown, 3 control, 4 user-defined,
 * 5 unused, 6 byte                                                            */
static bool kind_of(int64_t type, uint32_t *kind)
{
    static const uint8_t kinds[] = { 0, LM_TOKEN_NORMAL, LM_TOKEN_SPECIAL,
                                     LM_TOKEN_SPECIAL, LM_TOKEN_ADDED, LM_TOKEN_UNUSED,
                                     LM_TOKEN_BYTE };
    *kind = type >= 1 && type <= 6 ? kinds[type] : 0;
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

/* SentencePiece: model llama, or t5 */
static enum lm_status pieces(const struct gguf_file *g, int32_t n_embed,
                             struct gguf_vocab *v, bool unigram, struct lm_err *e)
{
    struct gguf_slice own;
    enum lm_status s = string_key(g, "lamina.tokenizer.model", "", &own, e);
    if (!s)
        s = spaces(g, v, e);
    if (!s)
        s = tokens(g, n_embed, v, e);
    v->vocabulary.model = unigram ? LM_TOKENIZER_UNIGRAM
                        : same(own, "chars") ? LM_TOKENIZER_CHARS : LM_TOKENIZER_SCORES;
    if (!s && v->vocabulary.model == LM_TOKENIZER_CHARS)
        s = merges(g, v, e);
    else if (!s)
        s = scores(g, v, e);
    if (!s)
        s = unknown(g, v, e);
    v->vocabulary.fuse_unk = flag(g, "lamina.tokenizer.fuse_unk", true);
    v->vocabulary.split_spaces = flag(g, "lamina.tokenizer.split_spaces", false);
    return s;
}

static enum lm_status bytes(const struct gguf_file *g, int32_t n_embed,
                            struct gguf_vocab *v, struct lm_err *e)
{
    enum lm_status s = pretokenizer(g, v, e);
    if (!s)
        s = tokens(g, n_embed, v, e);
    if (!s)
        s = merges(g, v, e);
    if (!s && gguf_find(g, "lamina.tokenizer.unknown")) {
        s = unknown(g, v, e);
        v->vocabulary.fuse_unk = flag(g, "lamina.tokenizer.fuse_unk", false);
    }
    return s;
}

bool gguf_vocab_adds_bos(const struct gguf_file *g)
{
    const struct gguf_pair *model = gguf_find(g, "tokenizer.ggml.model");
    const struct gguf_pair *pre = gguf_find(g, "tokenizer.ggml.pre");
    struct gguf_slice s;
    if (model && gguf_string(model, &s) && same(s, "llama"))
        return true;
    for (size_t i = 0; pre && gguf_string(pre, &s) && i < N_KNOWN; i++)
        if (same(s, known[i].name))
            return known[i].ignore;
    return false;
}

enum lm_status gguf_vocab_open(const struct gguf_file *g, int32_t n_embed,
                               struct gguf_vocab *v, struct lm_err *e)
{
    struct gguf_slice model;
    v->vocabulary.struct_size = sizeof v->vocabulary;
    enum lm_status s = string_key(g, "tokenizer.ggml.model", "none", &model, e);
    if (s || same(model, "none") || same(model, "no_vocab"))
        return s;
    if (same(model, "gpt2"))
        s = bytes(g, n_embed, v, e);
    else if (same(model, "llama") || same(model, "t5"))
        s = pieces(g, n_embed, v, same(model, "t5"), e);
    else
        s = g->f->h->fail(e, LM_EINPUT, "%s: tokenizer model '%.*s' is not supported, "
                          "only gpt2, llama and t5", g->path, gguf_brief(model), model.s);
    if (!s)
        s = chat(g, v, e);
    if (gguf_find(g, "lamina.tokenizer.ignore_merges"))
        v->vocabulary.ignore_merges = flag(g, "lamina.tokenizer.ignore_merges", false);
    if (gguf_find(g, "lamina.tokenizer.nfc"))
        v->vocabulary.nfc = flag(g, "lamina.tokenizer.nfc", false);
    return s;
}

void gguf_vocab_close(const struct gguf_file *g, struct gguf_vocab *v)
{
    fmt_map_close(&v->map);
    g->f->h->release(v->token);
    g->f->h->release(v->merge);
    g->f->h->release(v->score);
    g->f->h->release(v->chat);
}
