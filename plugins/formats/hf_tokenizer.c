/* SPDX-License-Identifier: Apache-2.0 */
/* hf_tokenizer.c -- tokenizer.json and its companions -> vocabulary, ids.  What
 * it says besides tokens and merges is read by hf_rules.c.                     */
#include "hf.h"

enum { MAX_MERGES = 1 << 24 };

enum lm_status hf_refuse(const struct fmt *f, const struct hf_doc *d, const char *what,
                         const char *name, struct lm_err *e)
{
    return f->h->fail(e, LM_EINPUT, "%s: %s '%.200s' is not supported", d->path, what,
                      name ? name : "?");
}

bool hf_true(const struct fmt *f, const struct lm_json *o, const char *key, bool def)
{
    bool v = def;
    const struct lm_json *n = o ? f->h->json->get(o, key) : NULL;
    return n && f->h->json->boolean(n, &v) ? v : def;
}

const char *hf_text(const struct fmt *f, const struct lm_json *o, const char *key)
{
    const struct lm_json *n = o ? f->h->json->get(o, key) : NULL;
    return n ? f->h->json->string(n) : NULL;
}

/* an absent node, or null */
bool hf_nothing(const struct fmt *f, const struct lm_json *n)
{
    return !n || f->h->json->type(n) == 'n';
}

static enum lm_status set_token(const struct fmt *f, struct hf_tokenizer *t, int64_t id,
                                const char *text, uint32_t kind, int32_t vocab,
                                struct lm_err *e)
{
    size_t n = strlen(text);
    if (id < 0 || id >= vocab || n > UINT32_MAX || !n)
        return f->h->fail(e, LM_EINPUT, "%s: token '%.40s' has id %lld; the model has "
                          "%d embeddings", t->doc.path, text, (long long)id, (int)vocab);
    struct lm_token *k = &t->token[id];
    if (k->text && strcmp(k->text, text))
        return f->h->fail(e, LM_EINPUT, "%s: tokens '%.40s' and '%.40s' have the same "
                          "id %lld", t->doc.path, k->text, text, (long long)id);
    *k = (struct lm_token){ text, (uint32_t)n, kind };
    if ((size_t)id >= t->vocabulary.n_token)
        t->vocabulary.n_token = (size_t)id + 1;
    return LM_OK;
}

static enum lm_status added(const struct fmt *f, struct hf_tokenizer *t, int32_t vocab,
                            struct lm_err *e)
{
    static const char *const flag[] = { "single_word", "lstrip", "rstrip" };
    const struct lm_json_api *j = f->h->json;
    const struct lm_json *list = j->get(t->doc.root, "added_tokens");
    enum lm_status s = LM_OK;
    if (hf_nothing(f, list))
        return LM_OK;
    for (size_t i = 0, n = j->size(list); i < n && !s; i++) {
        const struct lm_json *a = j->at(list, i);
        const char *text = hf_text(f, a, "content");
        int64_t id = -1;
        if (!text || !j->integer(j->get(a, "id"), &id))
            return f->h->fail(e, LM_EINPUT, "%s: entry %zu of added_tokens has no id or "
                              "content", t->doc.path, i);
        for (size_t k = 0; k < 3; k++)
            if (hf_true(f, a, flag[k], false))
                return f->h->fail(e, LM_EINPUT, "%s: added token '%.40s' with '%s' is "
                                  "not supported", t->doc.path, text, flag[k]);
        bool special = hf_true(f, a, "special", false);
        s = set_token(f, t, id, text, special ? LM_TOKEN_SPECIAL : LM_TOKEN_ADDED,
                      vocab, e);
    }
    return s;
}

/* "<0x0A>" */
static bool names_byte(const char *s)
{
    static const char digits[] = "0123456789ABCDEFabcdef";
    return strlen(s) == 6 && !strncmp(s, "<0x", 3) && strchr(digits, s[3])
        && strchr(digits, s[4]) && s[5] == '>';
}

/* i-th token of a list [text, score] (Unigram) or a map of text to id (BPE) */
static enum lm_status one_token(const struct fmt *f, struct hf_tokenizer *t,
                                const struct lm_json *v, size_t i, int32_t vocab,
                                struct lm_err *e)
{
    const struct lm_json_api *j = f->h->json;
    const char *text = NULL;
    int64_t id = (int64_t)i;
    if (j->type(v) == 'a') {
        const struct lm_json *k = j->at(v, i);
        text = j->type(k) == 'a' ? j->string(j->at(k, 0)) : NULL;
        if (!text || i >= (size_t)vocab || !hf_number(f->h, j->at(k, 1), &t->score[i]))
            return f->h->fail(e, LM_EINPUT, "%s: token %zu is no pair of a text and a "
                              "score, or beyond the model's %d embeddings", t->doc.path,
                              i, (int)vocab);
    } else if (!j->integer(j->member(v, i, &text), &id)) {
        id = -1;
    }
    return set_token(f, t, id, text, t->byte_tokens && names_byte(text) ? LM_TOKEN_BYTE
                                                                        : LM_TOKEN_NORMAL,
                     vocab, e);
}

/* model.unk_token, a text, or model.unk_id */
static enum lm_status unknown(const struct fmt *f, struct hf_tokenizer *t,
                              struct lm_err *e)
{
    const struct lm_json_api *j = f->h->json;
    const struct lm_json *model = j->get(t->doc.root, "model");
    const struct lm_json *n = j->get(model, t->score ? "unk_id" : "unk_token");
    const char *text = j->string(n);
    int64_t id = text ? fmt_map_find(&t->map, text, strlen(text)) : -1;
    if (hf_nothing(f, n) || (text && !*text))
        return LM_OK;
    if (!text && !j->integer(n, &id))
        id = -1;
    if (id < 0 || (size_t)id >= t->vocabulary.n_token)
        return hf_refuse(f, &t->doc, "unknown token", text ? text : "that is none", e);
    t->vocabulary.has_unk = true;
    t->vocabulary.unk = (uint32_t)id;
    return LM_OK;
}

static enum lm_status tokens(const struct fmt *f, struct hf_tokenizer *t, int32_t vocab,
                             struct lm_err *e)
{
    const struct lm_json_api *j = f->h->json;
    const struct lm_json *v = j->get(j->get(t->doc.root, "model"), "vocab");
    bool unigram = t->vocabulary.model == LM_TOKENIZER_UNIGRAM;
    enum lm_status s = LM_OK;
    if (j->type(v) != (unigram ? 'a' : 'o'))
        return f->h->fail(e, LM_EINPUT, "%s: 'model.vocab' is missing", t->doc.path);
    t->token = f->h->alloc((size_t)vocab * sizeof *t->token, "vocabulary");
    if (unigram)
        t->score = f->h->alloc((size_t)vocab * sizeof *t->score, "vocabulary");
    if (!t->token || (unigram && !t->score))
        return f->h->fail(e, LM_ENOMEM, "out of memory for %d tokens", (int)vocab);
    t->vocabulary.score = t->score;
    for (size_t i = 0, n = j->size(v); i < n && !s; i++)
        s = one_token(f, t, v, i, vocab, e);
    if (!s)
        s = added(f, t, vocab, e);
    if (s)
        return s;
    for (size_t i = 0; i < t->vocabulary.n_token; i++)
        if (!t->token[i].text)
            t->token[i] = (struct lm_token){ "", 0, LM_TOKEN_UNUSED };
    t->vocabulary.token = t->token;
    int64_t twin;
    if (fmt_map_open(&t->map, f->h, t->token, t->vocabulary.n_token, &twin))
        return unknown(f, t, e);
    if (twin < 0)
        return f->h->fail(e, LM_ENOMEM, "out of memory for a table of tokens");
    return f->h->fail(e, LM_EINPUT, "%s: token '%.40s' is there twice", t->doc.path,
                      t->token[twin].text);
}

static enum lm_status merges(const struct fmt *f, struct hf_tokenizer *t,
                             struct lm_err *e)
{
    const struct lm_json_api *j = f->h->json;
    const struct lm_json *list = j->get(j->get(t->doc.root, "model"), "merges");
    size_t n = j->type(list) == 'a' ? j->size(list) : SIZE_MAX;
    if (n > MAX_MERGES)
        return f->h->fail(e, LM_EINPUT, "%s: 'model.merges' is missing or too long",
                          t->doc.path);
    t->merge = f->h->alloc((n + 1) * sizeof *t->merge, "vocabulary");
    if (!t->merge)
        return f->h->fail(e, LM_ENOMEM, "out of memory for %zu merges", n);
    for (size_t i = 0; i < n; i++) {
        const struct lm_json *m = j->at(list, i);
        const char *s = j->string(m), *a = NULL, *b = NULL;
        bool ok;
        if (s) {
            ok = fmt_merge(&t->map, s, strlen(s), &t->merge[i]);
        } else {
            bool pair = j->type(m) == 'a' && j->size(m) == 2;
            a = pair ? j->string(j->at(m, 0)) : NULL;
            b = pair ? j->string(j->at(m, 1)) : NULL;
            int64_t l = a ? fmt_map_find(&t->map, a, strlen(a)) : -1;
            int64_t r = b ? fmt_map_find(&t->map, b, strlen(b)) : -1;
            t->merge[i] = (struct lm_merge){ (uint32_t)l, (uint32_t)r };
            ok = l >= 0 && r >= 0;
        }
        if (!ok)
            return f->h->fail(e, LM_EINPUT, "%s: merge %zu is no pair of tokens",
                              t->doc.path, i);
    }
    t->vocabulary.merge = t->merge;
    t->vocabulary.n_merge = n;
    return LM_OK;
}

/* Does a TemplateProcessing (alone or in a sequence) put a special token in
 * front of the text?                                                         */
static enum lm_status template_bos(const struct fmt *f, struct hf_tokenizer *t,
                                   const struct lm_json *p, int depth, struct lm_err *e)
{
    const struct lm_json_api *j = f->h->json;
    const char *type = hf_text(f, p, "type");
    enum lm_status s = LM_OK;
    if (hf_nothing(f, p) || (type && !strcmp(type, "ByteLevel")))
        return LM_OK;
    if (type && !strcmp(type, "Sequence") && depth < 4) {
        const struct lm_json *list = j->get(p, "processors");
        for (size_t i = 0, n = j->type(list) == 'a' ? j->size(list) : 0; i < n && !s; i++)
            s = template_bos(f, t, j->at(list, i), depth + 1, e);
        return s;
    }
    if (!type || strcmp(type, "TemplateProcessing"))
        return hf_refuse(f, &t->doc, "post_processor", type, e);
    const struct lm_json *single = j->get(p, "single");
    const struct lm_json *first = j->type(single) == 'a' ? j->at(single, 0) : NULL;
    const char *id = hf_text(f, first ? j->get(first, "SpecialToken") : NULL, "id");
    if (!id)
        return LM_OK;
    int64_t k = fmt_map_find(&t->map, id, strlen(id));
    if (k < 0)
        return hf_refuse(f, &t->doc, "post_processor token", id, e);
    t->template_bos = true;
    t->template_bos_id = (int32_t)k;
    return LM_OK;
}

/* a string, or a list of named ones of which "default" counts */
static const char *config_template(const struct fmt *f, const struct hf_tokenizer *t)
{
    const struct lm_json_api *j = f->h->json;
    const struct lm_json *n = t->config.root ? j->get(t->config.root, "chat_template")
                                             : NULL;
    for (size_t i = 0; n && j->type(n) == 'a' && i < j->size(n); i++) {
        const char *name = hf_text(f, j->at(n, i), "name");
        if (name && !strcmp(name, "default"))
            return hf_text(f, j->at(n, i), "template");
    }
    return n ? j->string(n) : NULL;
}

static enum lm_status chat(const struct fmt *f, const char *folder,
                           struct hf_tokenizer *t, struct lm_err *e)
{
    char path[FMT_PATH];
    size_t n = 0;
    t->vocabulary.chat_template = config_template(f, t);
    if (!fmt_path(path, folder, "chat_template.jinja") || !f->h->file_exists(path))
        return LM_OK;
    enum lm_status s = f->h->read_file(path, 1 << 20, &t->jinja, &n, e);
    if (!s && !fmt_utf8(t->jinja, n))
        s = f->h->fail(e, LM_EINPUT, "%s: is no UTF-8 text", path);
    if (!s)
        t->vocabulary.chat_template = t->jinja;
    return s;
}

enum lm_status hf_tokenizer_open(const struct fmt *f, const char *folder, int32_t vocab,
                                 struct hf_tokenizer *t, struct lm_err *e)
{
    t->vocabulary.struct_size = sizeof t->vocabulary;
    enum lm_status s = hf_doc_open(f, folder, "tokenizer.json", true, &t->doc, e);
    if (s || !t->doc.root)
        return s;
    s = hf_doc_open(f, folder, "tokenizer_config.json", true, &t->config, e);
    if (!s)
        s = hf_rules(f, t, e);
    if (!s)
        s = tokens(f, t, vocab, e);
    if (!s && t->vocabulary.model != LM_TOKENIZER_UNIGRAM)
        s = merges(f, t, e);
    if (!s)
        s = template_bos(f, t, f->h->json->get(t->doc.root, "post_processor"), 0, e);
    if (!s)
        s = chat(f, folder, t, e);
    return s;
}

/* a number, or the first of a list; false: neither or negative */
static bool id_in(const struct fmt *f, const struct hf_doc *d, const char *key,
                  int64_t *out)
{
    const struct lm_json_api *j = f->h->json;
    const struct lm_json *n = d->root ? j->get(d->root, key) : NULL;
    if (n && j->type(n) == 'a')
        n = j->at(n, 0);
    return n && j->integer(n, out) && *out >= 0;
}

/* tokenizer_config: "bos_token": "<s>" or { "content": "<s>" } */
static bool id_named(const struct fmt *f, const struct hf_tokenizer *t, const char *key,
                     int64_t *out)
{
    const struct lm_json *root = t->config.root;
    const struct lm_json *n = root ? f->h->json->get(root, key) : NULL;
    const char *s = n && f->h->json->type(n) == 'o' ? hf_text(f, n, "content")
                  : n ? f->h->json->string(n) : NULL;
    *out = s && t->map.slot ? fmt_map_find(&t->map, s, strlen(s)) : -1;
    return *out >= 0;
}

/* The ids of a list under eos_token_id that are not known yet. */
static enum lm_status more_eos(const struct fmt *f, const struct hf_doc *d,
                               struct hf_config *c, struct lm_err *e)
{
    const struct lm_json_api *j = f->h->json;
    const struct lm_json *list = d->root ? j->get(d->root, "eos_token_id") : NULL;
    struct lm_arch *a = &c->arch;
    size_t n = list && j->type(list) == 'a' ? j->size(list) : 0;
    a->eos_more = c->eos_more;
    for (size_t i = 0; i < n; i++) {
        int64_t id;
        if (!j->integer(j->at(list, i), &id) || id < 0 || id >= a->vocab)
            return f->h->fail(e, LM_EINPUT, "%s: eos_token_id holds what is no id of a "
                              "vocabulary of %d", d->path, (int)a->vocab);
        bool known = id == a->eos;
        for (uint32_t k = 0; k < a->n_eos_more && !known; k++)
            known = id == a->eos_more[k];
        if (!known && a->n_eos_more == HF_MAX_EOS)
            return f->h->fail(e, LM_EINPUT, "%s: eos_token_id holds more than %d ids",
                              d->path, HF_MAX_EOS);
        if (!known)
            c->eos_more[a->n_eos_more++] = (int32_t)id;
    }
    return LM_OK;
}

enum lm_status hf_tokenizer_ids(const struct fmt *f, const char *folder,
                                const struct hf_tokenizer *t, struct hf_config *c,
                                struct lm_err *e)
{
    static const char *const key[3][2] = { { "bos_token_id", "bos_token" },
        { "eos_token_id", "eos_token" }, { "pad_token_id", "pad_token" } };
    int32_t *out[3] = { &c->arch.bos, &c->arch.eos, &c->arch.pad };
    struct hf_doc *g = f->h->alloc(sizeof *g, "hf");
    if (!g)
        return f->h->fail(e, LM_ENOMEM, "out of memory for reading %s", folder);
    enum lm_status s = hf_doc_open(f, folder, "generation_config.json", true, g, e);
    for (size_t i = 0; i < 3 && !s; i++) {
        int64_t id;
        if (!id_in(f, &c->doc, key[i][0], &id) && !id_in(f, g, key[i][0], &id)
            && !id_named(f, t, key[i][1], &id))
            continue;
        if (id < c->arch.vocab)
            *out[i] = (int32_t)id;
        else if (i < 2)             /* padding is never embedded */
            s = f->h->fail(e, LM_EINPUT, "%s: %s %lld is outside the vocabulary of %d",
                           folder, key[i][0], (long long)id, (int)c->arch.vocab);
    }
    if (!s && c->arch.eos >= 0)
        s = more_eos(f, &c->doc, c, e);
    if (!s && c->arch.eos >= 0)
        s = more_eos(f, g, c, e);
    hf_doc_close(f, g);
    f->h->release(g);
    if (t->template_bos)
        c->arch.bos = t->template_bos_id;
    c->arch.add_bos = c->arch.bos >= 0
        && (t->template_bos || hf_true(f, t->config.root, "add_bos_token", false));
    return s;
}

void hf_tokenizer_close(const struct fmt *f, struct hf_tokenizer *t)
{
    hf_doc_close(f, &t->doc);
    hf_doc_close(f, &t->config);
    fmt_map_close(&t->map);
    f->h->release(t->token);
    f->h->release(t->merge);
    f->h->release(t->score);
    f->h->release(t->jinja);
}
