/* SPDX-License-Identifier: Apache-2.0 */
/* hf_vocab.c -- vocabulary -> tokenizer.json and tokenizer_config.json, for
 * models that did not come from a folder of Hugging Face.  Merges are written
 * as "a b" strings, which all versions of the tokenizers library read.         */
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
                v->token[i].kind == LM_TOKEN_SPECIAL ? "true" : "false");
        comma = ",\n";
    }
    fmt_text(b, "],\n");
}

static void splitting(struct fmt_buf *b, const struct lm_vocabulary *v)
{
    static const char level[] = "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
        "\"trim_offsets\": true, \"use_regex\": true}";
    fmt_text(b, "  \"normalizer\": null,\n  \"pre_tokenizer\": ");
    if (v->pre == LM_PRE_SMOLLM)
        fmt_text(b, "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\", "
                 "\"individual_digits\": true}, ");
    fmt_text(b, level);
    fmt_text(b, v->pre == LM_PRE_SMOLLM ? "]},\n" : ",\n");
    fmt_text(b, "  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, "
             "\"trim_offsets\": true, \"use_regex\": true},\n");
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

static void bpe(struct fmt_buf *b, const struct lm_vocabulary *v)
{
    const char *comma = "\n";
    fmt_add(b, "  \"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": null, "
            "\"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, "
            "\"fuse_unk\": false, \"byte_fallback\": false, \"ignore_merges\": %s,\n"
            "    \"vocab\": {", v->ignore_merges ? "true" : "false");
    for (size_t i = 0; i < v->n_token; i++) {
        if (!v->token[i].length || v->token[i].kind == LM_TOKEN_UNUSED)
            continue;
        fmt_text(b, comma);
        token_string(b, &v->token[i]);
        fmt_add(b, ": %zu", i);
        comma = ",\n";
    }
    fmt_text(b, "},\n    \"merges\": [");
    comma = "\n";
    for (size_t i = 0; i < v->n_merge; i++) {
        const struct lm_token *l = &v->token[v->merge[i].left];
        const struct lm_token *r = &v->token[v->merge[i].right];
        fmt_text(b, comma);
        fmt_text(b, "\"");
        fmt_json_inside(b, l->text, l->length);
        fmt_text(b, " ");
        fmt_json_inside(b, r->text, r->length);
        fmt_text(b, "\"");
        comma = ",\n";
    }
    fmt_text(b, "]}\n}\n");
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
    if (v->chat_template) {
        fmt_text(b, "  \"chat_template\": ");
        fmt_json_string(b, v->chat_template, strlen(v->chat_template));
        fmt_text(b, ",\n");
    }
    fmt_add(b, "  \"add_bos_token\": %s,\n  \"add_prefix_space\": false,\n"
            "  \"clean_up_tokenization_spaces\": false,\n  \"model_max_length\": %d\n}\n",
            a->add_bos ? "true" : "false", (int)a->context);
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
    splitting(&b, v);
    template(&b, v, a);
    bpe(&b, v);
    enum lm_status s = hf_write_text(f, folder, "tokenizer.json", &b, e);
    fmt_buf_free(&b);
    if (s)
        return s;
    struct fmt_buf c = { .h = f->h };
    config(&c, v, a);
    s = hf_write_text(f, folder, "tokenizer_config.json", &c, e);
    fmt_buf_free(&c);
    return s;
}
