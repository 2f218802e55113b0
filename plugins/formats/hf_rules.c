/* SPDX-License-Identifier: Apache-2.0 */
/* hf_rules.c -- what tokenizer.json says about text besides its tokens:
 * normalizer, pre-tokenizer, decoder and the settings of its model.
 *
 * Understood are byte-level BPE with the patterns of GPT-2, SmolLM, Llama 3 and
 * Qwen2, and the two models of SentencePiece (BPE on characters and unigram) with
 * spaces written U+2581, by a normalizer (Prepend, Replace) or by Metaspace.  Every
 * other setting that would change the ids (other normalizers and patterns, prefix
 * spaces of bytes, dropout) is refused by name rather than ignored.            */
#include "hf.h"

enum { MAX_DEPTH = 4 };

static const struct { const char *regex; uint32_t pre; } patterns[] = {
    { "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
      " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+", LM_PRE_LLAMA3 },
    { "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|"
      " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+", LM_PRE_QWEN2 },
    { "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|"
      "\\s+", LM_PRE_GPT2 },
};

const char *hf_pattern(uint32_t pre)
{
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
        if (patterns[i].pre == pre)
            return patterns[i].regex;
    return NULL;
}

struct rules {
    const struct fmt *f;
    struct hf_tokenizer *t;
    struct lm_vocabulary *v;
    bool level;                         /* ByteLevel cuts and spells words    */
    bool escaped;                       /* spaces become U+2581               */
    struct lm_err *e;
};

static enum lm_status refuse(const struct rules *r, const char *what, const char *name)
{
    return hf_refuse(r->f, &r->t->doc, what, name, r->e);
}

static bool is(const struct rules *r, const struct lm_json *o, const char *key,
               const char *want)
{
    const char *s = hf_text(r->f, o, key);
    return s && !strcmp(s, want);
}

/* members of a Sequence */
static size_t members(const struct rules *r, const struct lm_json *n, const char *key,
                      const struct lm_json **list)
{
    *list = r->f->h->json->get(n, key);
    return r->f->h->json->type(*list) == 'a' ? r->f->h->json->size(*list) : 0;
}

static enum lm_status normalizer(struct rules *r, const struct lm_json *n, int depth)
{
    const struct lm_json *list;
    const char *type = hf_text(r->f, n, "type");
    enum lm_status s = LM_OK;
    if (hf_nothing(r->f, n))
        return LM_OK;
    if (type && !strcmp(type, "Sequence") && depth < MAX_DEPTH) {
        for (size_t i = 0, k = members(r, n, "normalizers", &list); i < k && !s; i++)
            s = normalizer(r, r->f->h->json->at(list, i), depth + 1);
        return s;
    }
    if (type && !strcmp(type, "NFC")) {
        r->v->nfc = true;
        return LM_OK;
    }
    if (type && !strcmp(type, "Prepend") && is(r, n, "prepend", HF_LOW_LINE)) {
        r->v->prefix = LM_PREFIX_ALWAYS;
        return LM_OK;
    }
    if (type && !strcmp(type, "Replace") && is(r, n, "content", HF_LOW_LINE)
        && is(r, r->f->h->json->get(n, "pattern"), "String", " ")) {
        r->escaped = true;
        return LM_OK;
    }
    return refuse(r, "normalizer", type);
}

static bool byte_level(const struct rules *r, const struct lm_json *n, bool regex)
{
    return is(r, n, "type", "ByteLevel") && !hf_true(r->f, n, "add_prefix_space", true)
        && hf_true(r->f, n, "use_regex", true) == regex;
}

static enum lm_status metaspace(struct rules *r, const struct lm_json *n)
{
    const char *scheme = hf_text(r->f, n, "prepend_scheme");
    if (!is(r, n, "replacement", HF_LOW_LINE))
        return refuse(r, "pre_tokenizer", "Metaspace with another replacement");
    if (!scheme)
        scheme = hf_true(r->f, n, "add_prefix_space", true) ? "always" : "never";
    uint32_t prefix = !strcmp(scheme, "always") ? LM_PREFIX_MISSING
                    : !strcmp(scheme, "first") ? LM_PREFIX_FIRST : LM_PREFIX_NONE;
    if (!prefix && strcmp(scheme, "never"))
        return refuse(r, "prepend_scheme", scheme);
    if (!r->v->prefix)
        r->v->prefix = prefix;
    r->v->split_spaces = hf_true(r->f, n, "split", true);
    r->escaped = true;
    return LM_OK;
}

/* a Split and the ByteLevel behind it */
static enum lm_status split(struct rules *r, const struct lm_json *n,
                            const struct lm_json *next)
{
    const char *regex = hf_text(r->f, r->f->h->json->get(n, "pattern"), "Regex");
    if (!byte_level(r, next, false))
        return refuse(r, "pre_tokenizer sequence with Split and",
                      hf_text(r->f, next, "type"));
    if (!is(r, n, "behavior", "Isolated") || hf_true(r->f, n, "invert", false))
        return refuse(r, "pre_tokenizer Split with behavior",
                      hf_text(r->f, n, "behavior"));
    for (size_t i = 0; regex && i < sizeof patterns / sizeof *patterns; i++)
        if (!strcmp(regex, patterns[i].regex)) {
            r->v->pre = patterns[i].pre;
            r->level = true;
            return LM_OK;
        }
    return refuse(r, "pre_tokenizer Split with the pattern", regex);
}

static enum lm_status pretokenizer(struct rules *r, const struct lm_json *p, int depth)
{
    const struct lm_json_api *j = r->f->h->json;
    const char *type = hf_text(r->f, p, "type");
    const struct lm_json *list;
    if (hf_nothing(r->f, p))
        return LM_OK;
    if (byte_level(r, p, true)) {
        r->v->pre = LM_PRE_GPT2;
        r->level = true;
        return LM_OK;
    }
    if (type && !strcmp(type, "ByteLevel"))
        return refuse(r, "pre_tokenizer", "ByteLevel with add_prefix_space or without "
                      "use_regex");
    if (type && !strcmp(type, "Metaspace"))
        return metaspace(r, p);
    if (!type || strcmp(type, "Sequence"))
        return refuse(r, "pre_tokenizer", type);
    size_t n = members(r, p, "pretokenizers", &list);
    if (n == 1 && depth < MAX_DEPTH)
        return pretokenizer(r, j->at(list, 0), depth + 1);
    const struct lm_json *one = n ? j->at(list, 0) : NULL, *two = n > 1 ? j->at(list, 1)
                                                                       : NULL;
    if (n == 2 && is(r, one, "type", "Split"))
        return split(r, one, two);
    if (!n || !is(r, one, "type", "Digits")
        || !hf_true(r->f, one, "individual_digits", false))
        return refuse(r, "pre_tokenizer sequence that begins with",
                      hf_text(r->f, one, "type"));
    if (n != 2 || !byte_level(r, two, true))
        return refuse(r, "pre_tokenizer sequence with Digits and",
                      n > 1 ? hf_text(r->f, two, "type") : "nothing");
    r->v->pre = LM_PRE_SMOLLM;
    r->level = true;
    return LM_OK;
}

/* Only what our own way back to text does as well. */
static enum lm_status decoder(const struct rules *r, const struct lm_json *n, int depth)
{
    static const char *const plain[] = { "ByteFallback", "Fuse", "Metaspace", "Strip",
                                         "Replace" };
    const struct lm_json *list;
    const char *type = hf_text(r->f, n, "type");
    enum lm_status s = LM_OK;
    if (hf_nothing(r->f, n) || (type && !strcmp(type, "ByteLevel") && r->level))
        return LM_OK;
    if (type && !strcmp(type, "Sequence") && depth < MAX_DEPTH) {
        for (size_t i = 0, k = members(r, n, "decoders", &list); i < k && !s; i++)
            s = decoder(r, r->f->h->json->at(list, i), depth + 1);
        return s;
    }
    if (type && !r->level)
        for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
            if (!strcmp(type, plain[i]))
                return LM_OK;
    return refuse(r, "decoder", type);
}

static enum lm_status bpe(struct rules *r, const struct lm_json *model)
{
    static const char *const affix[] = { "continuing_subword_prefix",
                                         "end_of_word_suffix" };
    const struct lm_json_api *j = r->f->h->json;
    double dropout = 0;
    const struct lm_json *n = j->get(model, "dropout");
    if (!hf_nothing(r->f, n) && (!hf_number(r->f->h, n, &dropout) || dropout != 0))
        return refuse(r, "model setting", "dropout");
    for (size_t i = 0; i < 2; i++) {
        n = j->get(model, affix[i]);
        const char *s = hf_nothing(r->f, n) ? "" : j->string(n);
        if (!s || *s)
            return refuse(r, "model setting", affix[i]);
    }
    r->t->byte_tokens = hf_true(r->f, model, "byte_fallback", false);
    if (r->level && r->t->byte_tokens)
        return refuse(r, "model setting", "byte_fallback");
    r->v->ignore_merges = hf_true(r->f, model, "ignore_merges", false);
    r->v->fuse_unk = hf_true(r->f, model, "fuse_unk", false);
    r->v->model = r->level ? LM_TOKENIZER_BYTES : LM_TOKENIZER_CHARS;
    return LM_OK;
}

enum lm_status hf_rules(const struct fmt *f, struct hf_tokenizer *t, struct lm_err *e)
{
    const struct lm_json_api *j = f->h->json;
    struct rules r = { .f = f, .t = t, .v = &t->vocabulary, .e = e };
    const struct lm_json *model = j->get(t->doc.root, "model");
    const char *type = hf_text(f, model, "type");
    if (!type && j->type(j->get(model, "merges")) == 'a')
        type = "BPE";                       /* old files leave it out */
    bool unigram = type && !strcmp(type, "Unigram");
    if (!type || (strcmp(type, "BPE") && !unigram))
        return refuse(&r, "tokenizer model", type);
    enum lm_status s = normalizer(&r, j->get(t->doc.root, "normalizer"), 0);
    if (!s)
        s = pretokenizer(&r, j->get(t->doc.root, "pre_tokenizer"), 0);
    if (!s && r.level && (unigram || r.escaped || r.v->prefix))
        s = refuse(&r, "pre_tokenizer", "ByteLevel together with U+2581 for spaces");
    if (!s && !r.level && !r.escaped)
        s = refuse(&r, "tokenizer", unigram ? "Unigram without U+2581 for spaces"
                   : "BPE without ByteLevel and without U+2581 for spaces");
    if (!s)
        s = decoder(&r, j->get(t->doc.root, "decoder"), 0);
    if (s || !unigram)
        return s ? s : bpe(&r, model);
    t->byte_tokens = hf_true(f, model, "byte_fallback", false);
    r.v->model = LM_TOKENIZER_UNIGRAM;
    r.v->fuse_unk = true;
    return LM_OK;
}
