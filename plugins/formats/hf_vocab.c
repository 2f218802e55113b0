/* SPDX-License-Identifier: Apache-2.0 */
/* hf_vocab.c -- vocabulary -> tokenizer.json and tokenizer_config.json, for
 * models that did not come from a folder of Hugging Face.  Merges are written
 * as "a b" strings, which all versions of the tokenizers library read.
 *
 * A vocabulary with scores in place of merges gets its merges as transformers
 * makes them: every cut of a token into two others, that of the highest score
 * first, of equal ones that with the longer left part.  SentencePiece takes the
 * leftmost of equal ones, which differs only where a token overlaps itself.    */
#include "hf.h"

static void token_string(struct fmt_buf *b, const struct lm_token *t)
{
    fmt_json_string(b, t->text, t->length);
}

static bool is_added(const struct lm_token *t)
{
    return (t->kind == LM_TOKEN_SPECIAL || t->kind == LM_TOKEN_ADDED) && t->length;
}

static void added_tokens(struct fmt_buf *b, const struct lm_vocabulary *v)
{
    const char *comma = "\n";
    fmt_text(b, "  \"added_tokens\": [");
    for (size_t i = 0; i < v->n_token; i++) {
        if (!is_added(&v->token[i]))
            continue;
        fmt_add(b, "%s    {\"id\": %zu, \"content\": ", comma, i);
        token_string(b, &v->token[i]);
        fmt_add(b, ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
                "\"normalized\": false, \"special\": %s}",
                hf_bool(v->token[i].kind == LM_TOKEN_SPECIAL));
        comma = ",\n";
    }
    fmt_text(b, "],\n");
}

static void nfc_only(struct fmt_buf *b, const struct lm_vocabulary *v)
{
    fmt_text(b, v->nfc ? "  \"normalizer\": {\"type\": \"NFC\"},\n"
                       : "  \"normalizer\": null,\n");
}

/* byte-level: words by a pattern */
static void splitting(struct fmt_buf *b, const struct lm_vocabulary *v)
{
    static const char level[] = "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
        "\"trim_offsets\": true, \"use_regex\": ";
    const char *regex = v->pre == LM_PRE_LLAMA3 || v->pre == LM_PRE_QWEN2
        ? hf_pattern(v->pre) : NULL;
    nfc_only(b, v);
    fmt_text(b, "  \"pre_tokenizer\": ");
    if (v->pre == LM_PRE_SMOLLM)
        fmt_text(b, "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\", "
                 "\"individual_digits\": true}, ");
    if (regex) {
        fmt_text(b, "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", "
                 "\"pattern\": {\"Regex\": ");
        fmt_json_string(b, regex, strlen(regex));
        fmt_text(b, "}, \"behavior\": \"Isolated\", \"invert\": false}, ");
    }
    fmt_text(b, level);
    fmt_text(b, regex ? "false}" : "true}");
    fmt_text(b, v->pre == LM_PRE_SMOLLM || regex ? "]},\n" : ",\n");
    fmt_text(b, "  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, "
             "\"trim_offsets\": true, \"use_regex\": true},\n");
}

static void metaspace(struct fmt_buf *b, const struct lm_vocabulary *v)
{
    static const char *const scheme[] = { [LM_PREFIX_NONE] = "never",
        [LM_PREFIX_ALWAYS] = "always", [LM_PREFIX_MISSING] = "always",
        [LM_PREFIX_FIRST] = "first" };
    fmt_add(b, "{\"type\": \"Metaspace\", \"replacement\": \"" HF_LOW_LINE "\", "
            "\"prepend_scheme\": \"%s\", \"split\": %s}", scheme[v->prefix],
            hf_bool(v->split_spaces));
}

/* SentencePiece: Metaspace, but a normalizer where a space always goes in front */
static void spacing(struct fmt_buf *b, const struct lm_vocabulary *v)
{
    bool always = v->prefix == LM_PREFIX_ALWAYS;
    if (always)
        fmt_text(b, "  \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [");
    if (always && v->nfc)
        fmt_text(b, "{\"type\": \"NFC\"}, ");
    if (always)
        fmt_text(b, "{\"type\": \"Prepend\", \"prepend\": \"" HF_LOW_LINE "\"}, "
                 "{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, "
                 "\"content\": \"" HF_LOW_LINE "\"}]},\n");
    else
        nfc_only(b, v);
    fmt_text(b, "  \"pre_tokenizer\": ");
    if (always && !v->split_spaces)
        fmt_text(b, "null");
    else
        metaspace(b, v);
    fmt_text(b, ",\n  \"decoder\": {\"type\": \"Sequence\", \"decoders\": ["
             "{\"type\": \"Replace\", \"pattern\": {\"String\": \"" HF_LOW_LINE "\"}, "
             "\"content\": \" \"}, {\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}");
    if (v->prefix)
        fmt_text(b, ", {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, "
                 "\"stop\": 0}");
    fmt_text(b, "]},\n");
}

/* BOS in front where the tokenizer's own setting says so */
static void template(struct fmt_buf *b, const struct lm_vocabulary *v,
                     const struct lm_arch *a)
{
    if (!a->add_bos || a->bos < 0 || (size_t)a->bos >= v->n_token) {
        fmt_text(b, "  \"post_processor\": null,\n");
        return;
    }
    const struct lm_token *t = &v->token[a->bos];
    fmt_text(b, "  \"post_processor\": {\"type\": \"TemplateProcessing\",\n"
             "    \"single\": [{\"SpecialToken\": {\"id\": ");
    token_string(b, t);
    fmt_text(b, ", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}],\n"
             "    \"pair\": [{\"SpecialToken\": {\"id\": ");
    token_string(b, t);
    fmt_text(b, ", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}, "
             "{\"Sequence\": {\"id\": \"B\", \"type_id\": 1}}],\n"
             "    \"special_tokens\": {");
    token_string(b, t);
    fmt_text(b, ": {\"id\": ");
    token_string(b, t);
    fmt_add(b, ", \"ids\": [%d], \"tokens\": [", (int)a->bos);
    token_string(b, t);
    fmt_text(b, "]}}},\n");
}

static bool has_bytes(const struct lm_vocabulary *v)
{
    for (size_t i = 0; i < v->n_token; i++)
        if (v->token[i].kind == LM_TOKEN_BYTE)
            return true;
    return false;
}

static void one_merge(struct fmt_buf *b, const struct lm_vocabulary *v,
                      struct lm_merge m, const char *comma)
{
    const struct lm_token *l = &v->token[m.left], *r = &v->token[m.right];
    fmt_text(b, comma);
    fmt_text(b, "\"");
    fmt_json_inside(b, l->text, l->length);
    fmt_text(b, " ");
    fmt_json_inside(b, r->text, r->length);
    fmt_text(b, "\"");
}

/* merge: of the vocabulary, or made of its scores */
static void bpe(struct fmt_buf *b, const struct lm_vocabulary *v,
                const struct lm_merge *merge, size_t n_merge)
{
    const char *comma = "\n";
    fmt_text(b, "  \"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": ");
    if (v->has_unk)
        token_string(b, &v->token[v->unk]);
    else
        fmt_text(b, "null");
    fmt_add(b, ", \"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, "
            "\"fuse_unk\": %s, \"byte_fallback\": %s, \"ignore_merges\": %s,\n"
            "    \"vocab\": {", hf_bool(v->fuse_unk), hf_bool(has_bytes(v)),
            hf_bool(v->ignore_merges));
    for (size_t i = 0; i < v->n_token; i++) {
        if (!v->token[i].length || v->token[i].kind == LM_TOKEN_UNUSED)
            continue;
        fmt_text(b, comma);
        token_string(b, &v->token[i]);
        fmt_add(b, ": %zu", i);
        comma = ",\n";
    }
    fmt_text(b, "},\n    \"merges\": [");
    for (size_t i = 0; i < n_merge; i++)
        one_merge(b, v, merge[i], i ? ",\n" : "\n");
    fmt_text(b, "]}\n}\n");
}

/* A list has no holes: unused tokens stand there with the least of scores. */
static void unigram(struct fmt_buf *b, const struct lm_vocabulary *v)
{
    double least = 0;
    for (size_t i = 0; i < v->n_token; i++)
        least = v->score[i] < least ? v->score[i] : least;
    fmt_text(b, "  \"model\": {\"type\": \"Unigram\", \"unk_id\": ");
    if (v->has_unk)
        fmt_add(b, "%u", (unsigned)v->unk);
    else
        fmt_text(b, "null");
    fmt_add(b, ", \"byte_fallback\": %s,\n    \"vocab\": [", hf_bool(has_bytes(v)));
    for (size_t i = 0; i < v->n_token; i++) {
        char made[32];
        snprintf(made, sizeof made, "[PAD%zu]", i);
        fmt_text(b, i ? ",\n[" : "\n[");
        if (v->token[i].length)
            token_string(b, &v->token[i]);
        else
            fmt_json_string(b, made, strlen(made));
        fmt_text(b, ", ");
        fmt_json_real(b, v->token[i].kind == LM_TOKEN_UNUSED ? least : v->score[i]);
        fmt_text(b, "]");
    }
    fmt_text(b, "]}\n}\n");
}

/* ---- merges out of scores ------------------------------------------------------ */

struct cut { struct lm_merge m; double score; uint32_t left; };

static int cut_order(const void *a, const void *b)
{
    const struct cut *x = a, *y = b;
    if (x->score != y->score)
        return x->score < y->score ? 1 : -1;
    if (x->left != y->left)
        return x->left < y->left ? 1 : -1;
    return (x->m.left > y->m.left) - (x->m.left < y->m.left);
}

/* Cuts of all tokens into out, or (NULL) only counted. */
static size_t cuts(const struct lm_vocabulary *v, const struct fmt_map *map,
                   struct cut *out)
{
    size_t n = 0;
    for (size_t i = 0; i < v->n_token; i++) {
        const struct lm_token *t = &v->token[i];
        for (uint32_t k = 1; t->kind == LM_TOKEN_NORMAL && k < t->length; k++) {
            if (((unsigned char)t->text[k] & 0xc0) == 0x80)
                continue;
            int64_t l = fmt_map_find(map, t->text, k);
            int64_t r = fmt_map_find(map, t->text + k, t->length - k);
            if (l < 0 || r < 0 || v->token[l].kind != LM_TOKEN_NORMAL
                || v->token[r].kind != LM_TOKEN_NORMAL)
                continue;
            if (out)
                out[n] = (struct cut){ { (uint32_t)l, (uint32_t)r }, v->score[i], k };
            n++;
        }
    }
    return n;
}

static enum lm_status merges_of_scores(const struct fmt *f, const struct lm_vocabulary *v,
                                       struct lm_merge **merge, size_t *n,
                                       struct lm_err *e)
{
    struct fmt_map map = { 0 };
    int64_t twin;
    struct cut *cut = NULL;
    *merge = NULL;
    if (fmt_map_open(&map, f->h, v->token, v->n_token, &twin)) {
        *n = cuts(v, &map, NULL);
        cut = f->h->alloc((*n + 1) * sizeof *cut, "hf");
        *merge = f->h->alloc((*n + 1) * sizeof **merge, "hf");
    }
    if (cut && *merge) {
        cuts(v, &map, cut);
        qsort(cut, *n, sizeof *cut, cut_order);
        for (size_t i = 0; i < *n; i++)
            (*merge)[i] = cut[i].m;
    }
    bool ok = cut && *merge;
    f->h->release(cut);
    fmt_map_close(&map);
    if (ok)
        return LM_OK;
    f->h->release(*merge);
    *merge = NULL;
    return f->h->fail(e, LM_ENOMEM, "out of memory for the merges of a tokenizer");
}

static enum lm_status model(const struct fmt *f, const struct lm_vocabulary *v,
                            struct fmt_buf *b, struct lm_err *e)
{
    struct lm_merge *made = NULL;
    size_t n = v->n_merge;
    enum lm_status s = LM_OK;
    if (v->model == LM_TOKENIZER_UNIGRAM) {
        unigram(b, v);
        return LM_OK;
    }
    if (v->model == LM_TOKENIZER_SCORES)
        s = merges_of_scores(f, v, &made, &n, e);
    if (!s)
        bpe(b, v, made ? made : v->merge, n);
    f->h->release(made);
    return s;
}

static void named(struct fmt_buf *b, const struct lm_vocabulary *v, const char *key,
                  int32_t id)
{
    if (id < 0 || (size_t)id >= v->n_token || !v->token[id].length)
        return;
    fmt_add(b, "  \"%s\": ", key);
    token_string(b, &v->token[id]);
    fmt_text(b, ",\n");
}

static void config(struct fmt_buf *b, const struct lm_vocabulary *v,
                   const struct lm_arch *a)
{
    fmt_text(b, "{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\",\n");
    named(b, v, "bos_token", a->bos);
    named(b, v, "eos_token", a->eos);
    named(b, v, "pad_token", a->pad);
    named(b, v, "unk_token", v->has_unk ? (int32_t)v->unk : -1);
    if (v->chat_template) {
        fmt_text(b, "  \"chat_template\": ");
        fmt_json_string(b, v->chat_template, strlen(v->chat_template));
        fmt_text(b, ",\n");
    }
    fmt_add(b, "  \"add_bos_token\": %s,\n  \"add_prefix_space\": false,\n"
            "  \"clean_up_tokenization_spaces\": false,\n  \"model_max_length\": %d\n}\n",
            hf_bool(a->add_bos), (int)a->context);
}

enum lm_status hf_write_vocabulary(const struct fmt *f, const struct lm_model *m,
                                   const char *folder, struct lm_err *e)
{
    const struct lm_vocabulary *v = f->h->vocabulary(m);
    const struct lm_arch *a = f->h->arch(m);
    struct fmt_buf b = { .h = f->h };
    fmt_text(&b, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n"
             "  \"padding\": null,\n");
    added_tokens(&b, v);
    if (v->model == LM_TOKENIZER_BYTES)
        splitting(&b, v);
    else
        spacing(&b, v);
    template(&b, v, a);
    enum lm_status s = model(f, v, &b, e);
    if (!s)
        s = hf_write_text(f, folder, "tokenizer.json", &b, e);
    fmt_buf_free(&b);
    if (s)
        return s;
    struct fmt_buf c = { .h = f->h };
    config(&c, v, a);
    s = hf_write_text(f, folder, "tokenizer_config.json", &c, e);
    fmt_buf_free(&c);
    return s;
}
