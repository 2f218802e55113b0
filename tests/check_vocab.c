/* SPDX-License-Identifier: Apache-2.0 */
/* check_vocab.c -- every kind of tokenizer, through both formats, against the ids
 * that its own library gives; hostile tokenizer files.
 *
 * tests/vocab holds small vocabularies made of the shipped model's calibration
 * text: llama3 and qwen2 (byte-level BPE with these patterns, trained by tokenizers
 * 0.23), unigram and chars (trained by sentencepiece 0.2.3 with byte_fallback, the
 * second with the merges that transformers makes of its scores) and scores.gguf
 * (the same with its scores).  The ids in cases.json are those of tokenizers on the
 * files as they are (of sentencepiece for "a<0x0A>b" with unigram, where tokenizers
 * takes a byte's name for the byte), and of llama_cpp 0.3.36 for scores.gguf; texts
 * hold runs of spaces, line breaks, contractions, digits, CJK, emoji, decomposed letters,
 * special tokens, long s, controls and random characters.                     */
#include <math.h>

#include "check_formats.h"
#undef fail                     /* Check's, and a member of the host table     */
#include "../plugins/formats/gguf.h"
#include "model/tokenizer.h"

static const struct lm_json_api *const J = &lm_json_api;
static const struct lm_layer_shape one = { 2, 1, 6, 0 };
static struct lm_err err;
static char scratch[256], hf[512], gguf[600];
static struct lm_json *cases;

static struct lm_json *load_json(const char *path)
{
    char *text;
    size_t n;
    struct lm_json *root;
    ck_assert_ok(lm_read_file(path, 64 << 20, &text, &n, &err), err);
    ck_assert_ok(J->parse(text, n, path, &root, &err), err);
    lm_release(text);
    return root;
}

static void setup(void)
{
    scratch_begin(scratch);
    snprintf(hf, sizeof hf, "%s/hf", scratch);
    snprintf(gguf, sizeof gguf, "%s/m.gguf", scratch);
    cases = load_json(source_path("tests/vocab/cases.json"));
}

static void teardown(void)
{
    J->close(cases);
    scratch_end(hf);
    scratch_end(scratch);
}

static struct lm_model *toy_of(int32_t vocab, const struct lm_vocabulary *v)
{
    toy_words = v;
    const struct toy t = { 1, 8, 4, vocab, &one, 0, LM_ROPE_PLAIN, v != NULL };
    struct lm_model *m = toy_model(&t);
    toy_words = NULL;
    return m;
}

static void copy_to(const char *from, const char *folder, const char *name)
{
    char path[1024], *text;
    size_t n;
    ck_assert_ok(lm_read_file(from, 64 << 20, &text, &n, &err), err);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    put_file(path, text, n);
    lm_release(text);
}

/* A folder of a small model with a tokenizer.json. */
static void make_folder(int32_t vocab, const char *tokenizer)
{
    struct lm_model *m = toy_of(vocab, NULL);
    ck_assert_ok(formats_write("hf", m, hf, LM_F32, &err), err);
    lm_model_free(m);
    copy_to(tokenizer, hf, "tokenizer.json");
}

static void same_ids(const struct lm_json *want, const int32_t *ids, size_t n,
                     const char *name, size_t i)
{
    ck_assert_msg(J->size(want) == n, "%s, text %zu: %zu ids instead of %zu", name, i, n,
                  J->size(want));
    for (size_t k = 0; k < n; k++) {
        int64_t id;
        ck_assert(J->integer(J->at(want, k), &id));
        ck_assert_msg(ids[k] == id, "%s, text %zu, id %zu: %d instead of %d", name, i, k,
                      (int)ids[k], (int)id);
    }
}

/* Does the way back give the text?  Not where another is in normal form C, where
 * U+2581 is written a space, or where spaces go in behind special tokens.      */
static bool comes_back(const char *name, const char *text)
{
    return !strcmp(name, "llama3") || ((!strcmp(name, "chars") || !strcmp(name, "scores"))
           && !strstr(text, "\xe2\x96\x81") && !strstr(text, "<s>"));
}

static void check_ids(const struct lm_vocabulary *v, const char *name)
{
    struct lm_tokenizer *t;
    const struct lm_json *texts = J->get(cases, "texts");
    const struct lm_json *want = J->get(J->get(cases, "ids"), name);
    ck_assert_ok(lm_tokenizer_open(v, &t, &err), err);
    ck_assert_uint_ge(J->size(texts), 30);
    for (size_t i = 0; i < J->size(texts); i++) {
        const char *text = J->string(J->at(texts, i));
        int32_t *ids;
        size_t n, n_back;
        char *back;
        ck_assert_ok(lm_tokenize(t, text, strlen(text), true, &ids, &n, &err), err);
        same_ids(J->at(want, i), ids, n, name, i);
        ck_assert_ok(lm_detokenize(t, ids, n, true, &back, &n_back, &err), err);
        if (comes_back(name, text))
            ck_assert_msg(!strcmp(back, text), "%s: '%s' came back as '%s'", name, text,
                          back);
        lm_release(back);
        lm_release(ids);
    }
    lm_tokenizer_close(t);
}

static const char *const kinds[] = { "llama3", "qwen2", "chars", "unigram" };
enum { N_KINDS = sizeof kinds / sizeof *kinds };

/* tokenizer.json as it is, then through GGUF, then made from that */
START_TEST(same_ids_through_both_formats)
{
    struct lm_model *a, *b, *c;
    char path[64];
    snprintf(path, sizeof path, "tests/vocab/%s.json", kinds[_i]);
    make_folder(512, source_path(path));
    ck_assert_ok(formats_read("hf", hf, &a, &err), err);
    check_ids(lm_model_vocabulary(a), kinds[_i]);
    ck_assert_ok(formats_write("gguf", a, gguf, LM_F32, &err), err);
    ck_assert_ok(formats_read("gguf", gguf, &b, &err), err);
    check_ids(lm_model_vocabulary(b), kinds[_i]);
    drop_folder(scratch, "hf");
    ck_assert_ok(formats_write("hf", b, hf, LM_F32, &err), err);
    ck_assert_ok(formats_read("hf", hf, &c, &err), err);
    check_ids(lm_model_vocabulary(c), kinds[_i]);
    lm_model_free(a);
    lm_model_free(b);
    lm_model_free(c);
}
END_TEST

/* A vocabulary-only GGUF file: no model of ours, so its parts are read directly. */
struct words {
    struct fmt f;
    struct lm_map map;
    struct gguf_file file;
    struct gguf_vocab vocab;
};

static enum lm_status words_read(struct words *w, const char *path, struct lm_err *e)
{
    *w = (struct words){ .f = { .h = formats_host() } };
    enum lm_status s = lm_map_open(&w->map, path, e);
    if (!s)
        s = gguf_open(&w->f, path, w->map.data, w->map.n, &w->file, e);
    return s ? s : gguf_vocab_open(&w->file, 1 << 20, &w->vocab, e);
}

static void words_close(struct words *w)
{
    if (w->file.f)
        gguf_vocab_close(&w->file, &w->vocab);
    gguf_close(&w->file);
    lm_map_close(&w->map);
}

START_TEST(sentencepiece_by_scores)
{
    struct words w;
    struct lm_model *a, *b;
    ck_assert_ok(words_read(&w, source_path("tests/vocab/scores.gguf"), &err), err);
    ck_assert_uint_eq(w.vocab.vocabulary.model, LM_TOKENIZER_SCORES);
    check_ids(&w.vocab.vocabulary, "scores");
    a = toy_of(512, &w.vocab.vocabulary);
    ck_assert_ok(formats_write("gguf", a, gguf, LM_F32, &err), err);
    ck_assert_ok(formats_read("gguf", gguf, &b, &err), err);
    ck_assert_uint_eq(lm_model_vocabulary(b)->model, LM_TOKENIZER_SCORES);
    check_ids(lm_model_vocabulary(b), "scores");
    lm_model_free(a);
    ck_assert_ok(formats_write("hf", b, hf, LM_F32, &err), err);
    ck_assert_ok(formats_read("hf", hf, &a, &err), err);
    ck_assert_uint_eq(lm_model_vocabulary(a)->model, LM_TOKENIZER_CHARS);
    check_ids(lm_model_vocabulary(a), "scores");
    lm_model_free(a);
    lm_model_free(b);
    words_close(&w);
}
END_TEST

/* ---- token by token -------------------------------------------------------------- */

START_TEST(whole_characters_only)
{
    static const char text[] = "\xf0\x9f\xa6\x99 a\xe2\x82\xac.";
    struct words w;
    struct lm_tokenizer *t;
    int32_t *ids;
    size_t n;
    struct lm_rest rest = { .n = 0 };
    struct lm_str out = { 0 };
    ck_assert_ok(words_read(&w, source_path("tests/vocab/scores.gguf"), &err), err);
    ck_assert_ok(lm_tokenizer_open(&w.vocab.vocabulary, &t, &err), err);
    ck_assert_ok(lm_tokenize(t, text, strlen(text), false, &ids, &n, &err), err);
    for (size_t i = 0; i < n; i++) {
        lm_detokenize_next(t, &rest, ids[i], &out);
        ck_assert(!out.n || lm_utf8_invalid(out.s, out.n) < 0);
    }
    ck_assert_str_eq(out.s, " \xf0\x9f\xa6\x99 a\xe2\x82\xac.");    /* not its start */
    lm_detokenize_next(t, &rest, 3 + 0xe2, &out);       /* <0xE2>, then no more */
    lm_detokenize_next(t, &rest, 3 + 0x82, &out);
    ck_assert_uint_eq(rest.n, 2);
    lm_detokenize_next(t, &rest, 3 + 'x', &out);
    lm_detokenize_next(t, &rest, 3 + 0xf0, &out);
    lm_detokenize_next(t, &rest, 1, &out);              /* <s> shows nothing */
    lm_detokenize_end(&rest, &out);
    ck_assert_str_eq(out.s, " \xf0\x9f\xa6\x99 a\xe2\x82\xac."
                     "\xef\xbf\xbd\xef\xbf\xbdx\xef\xbf\xbd");
    lm_str_free(&out);
    lm_release(ids);
    lm_tokenizer_close(t);
    words_close(&w);
}
END_TEST

START_TEST(text_that_is_not_utf8)
{
    struct words w;
    struct lm_tokenizer *t;
    int32_t *ids;
    size_t n;
    ck_assert_ok(words_read(&w, source_path("tests/vocab/scores.gguf"), &err), err);
    ck_assert_ok(lm_tokenizer_open(&w.vocab.vocabulary, &t, &err), err);
    ck_assert_int_eq(lm_tokenize(t, "abc\xe2\x28", 5, true, &ids, &n, &err), LM_EINPUT);
    ck_assert_str_eq(err.text, "the text is not UTF-8: byte 3 (0xe2) does not belong "
                     "there");
    lm_tokenizer_close(t);
    words_close(&w);
}
END_TEST

/* ---- failing allocations ----------------------------------------------------------- */

static enum lm_status open_and_use(void *ctx)
{
    static const char text[] = "the kettle e\xcc\x81 \xf0\x9f\xa6\x99 "
        "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee";
    struct lm_tokenizer *t = NULL;
    int32_t *ids = NULL;
    size_t n;
    enum lm_status s = lm_tokenizer_open(ctx, &t, &err);
    if (!s)
        s = lm_tokenize(t, text, strlen(text), true, &ids, &n, &err);
    lm_release(ids);
    lm_tokenizer_close(t);
    return s;
}

START_TEST(every_allocation_may_fail)
{
    struct lm_model *m;
    struct words w;
    make_folder(512, source_path("tests/vocab/unigram.json"));
    ck_assert_ok(formats_read("hf", hf, &m, &err), err);
    struct lm_vocabulary v = *lm_model_vocabulary(m);
    v.nfc = true;
    ck_assert_int_ge(fail_every_allocation(open_and_use, &v), 8);
    lm_model_free(m);
    ck_assert_ok(words_read(&w, source_path("tests/vocab/scores.gguf"), &err), err);
    v = w.vocab.vocabulary;
    ck_assert_int_ge(fail_every_allocation(open_and_use, &v), 8);
    words_close(&w);
}
END_TEST

/* ---- hostile files ----------------------------------------------------------------- */

struct damage { const char *file, *from, *to, *message; };

/* One place of a tokenizer.json changed; the message, without "FOLDER/". */
static const struct damage json_damage[] = {
    { "chars", "\"type\": \"BPE\"", "\"type\": \"WordPiece\"",
      "tokenizer.json: tokenizer model 'WordPiece' is not supported" },
    { "chars", "\"type\": \"Prepend\"", "\"type\": \"BertNormalizer\"",
      "tokenizer.json: normalizer 'BertNormalizer' is not supported" },
    { "chars", "\"pre_tokenizer\": null", "\"pre_tokenizer\": {\"type\": \"Whitespace\"}",
      "tokenizer.json: pre_tokenizer 'Whitespace' is not supported" },
    { "chars", "\"type\": \"Replace\"", "\"type\": \"NFC\"",
      "tokenizer.json: tokenizer 'BPE without ByteLevel and without U+2581 for spaces' "
      "is not supported" },
    { "chars", "\"type\": \"ByteFallback\"", "\"type\": \"CTC\"",
      "tokenizer.json: decoder 'CTC' is not supported" },
    { "chars", "\"<0x00>\": 3", "\"<0x00>\": 700",
      "tokenizer.json: token '<0x00>' has id 700; the model has 512 embeddings" },
    { "chars", "\"<0x00>\": 3", "\"<0x00>\": -3",
      "tokenizer.json: token '<0x00>' has id -3; the model has 512 embeddings" },
    { "chars", "\"<0x00>\": 3", "\"\": 3",
      "tokenizer.json: token '' has id 3; the model has 512 embeddings" },
    { "chars", "\"<0x00>\": 3", "\"<0x00>\": 4",
      "tokenizer.json: tokens '<0x00>' and '<0x01>' have the same id 4" },
    { "chars", "\"unk_token\": \"<unk>\"", "\"unk_token\": \"<none>\"",
      "tokenizer.json: unknown token '<none>' is not supported" },
    { "chars", "\"merges\": [", "\"merges\": [[\"h\", \"xyz\"], ",
      "tokenizer.json: merge 0 is no pair of tokens" },
    { "chars", "\"merges\": [", "\"merges\": [[\"h\"], ",
      "tokenizer.json: merge 0 is no pair of tokens" },
    { "chars", "\"merges\": [", "\"merges\": {}, \"x\": [",
      "tokenizer.json: 'model.merges' is missing or too long" },
    { "chars", "\"vocab\": {", "\"vocab\": 7, \"x\": {",
      "tokenizer.json: 'model.vocab' is missing" },
    { "chars", "\"vocab\": {", "\"vocab\": {\"<unk>\": 0, ",
      "tokenizer.json: line 11: duplicate object key near '\"<unk>\"'" },
    { "chars", "\"special\": true", "\"rstrip\": true",
      "tokenizer.json: line 2: duplicate object key near '\"rstrip\"'" },
    { "unigram", "[\"<unk>\", 0.0]", "[\"<unk>\", 1e999]",
      "tokenizer.json: line 8: real number overflow near '1e999'" },
    { "unigram", "[\"<unk>\", 0.0]", "[\"<unk>\", \"no\"]",
      "tokenizer.json: token 0 is no pair of a text and a score, or beyond the model's "
      "512 embeddings" },
    { "unigram", "[\"<unk>\", 0.0]", "[\"\", 0.0]",
      "tokenizer.json: token '' has id 0; the model has 512 embeddings" },
    { "unigram", "[\"<0x00>\", 0.0]", "[\"<0x01>\", 0.0]",
      "tokenizer.json: token '<0x01>' is there twice" },
    { "unigram", "\"unk_id\": 0", "\"unk_id\": 512",
      "tokenizer.json: unknown token 'that is none' is not supported" },
    { "unigram", "\"prepend_scheme\": \"first\"", "\"prepend_scheme\": \"last\"",
      "tokenizer.json: prepend_scheme 'last' is not supported" },
    { "llama3", "\"behavior\": \"Isolated\"", "\"behavior\": \"Removed\"",
      "tokenizer.json: pre_tokenizer Split with behavior 'Removed' is not supported" },
    { "llama3", "\\\\p{N}{1,3}", "\\\\p{N}{1,4}",
      "tokenizer.json: pre_tokenizer Split with the pattern '(?i:'s|'t|'re|'ve|'m|'ll|"
      "'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,4}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
      "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+' is not supported" },
    { "llama3", "\"use_regex\": false", "\"use_regex\": true",
      "tokenizer.json: pre_tokenizer sequence with Split and 'ByteLevel' is not "
      "supported" },
};

static char *replaced(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    ck_assert_msg(at != NULL, "'%s' is not there", from);
    char *out = malloc(strlen(text) + strlen(to) + 1);
    sprintf(out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return out;
}

static void put_damaged(const struct damage *d)
{
    char path[1024], name[64], *text;
    size_t n;
    snprintf(name, sizeof name, "tests/vocab/%s.json", d->file);
    ck_assert_ok(lm_read_file(source_path(name), 1 << 20, &text, &n, &err), err);
    char *changed = replaced(text, d->from, d->to);
    snprintf(path, sizeof path, "%s/tokenizer.json", hf);
    put_file(path, changed, strlen(changed));
    free(changed);
    lm_release(text);
}

static void expect_message(enum lm_status s, const char *in, const char *message)
{
    char want[1200];
    snprintf(want, sizeof want, "%s%s", in, message);
    ck_assert_str_eq(err.text, want);
    ck_assert_int_eq(s, LM_EINPUT);
    ck_assert_int_eq(lm_exit_code(s), 3);
}

START_TEST(damaged_tokenizer_json)
{
    struct lm_model *m = NULL;
    char in[600];
    err = (struct lm_err){ 0 };
    make_folder(512, source_path("tests/vocab/chars.json"));
    put_damaged(&json_damage[_i]);
    snprintf(in, sizeof in, "%s/", hf);
    enum lm_status s = formats_read("hf", hf, &m, &err);
    expect_message(s, in, json_damage[_i].message);
}
END_TEST

/* Merges in a circle, or to texts that are no tokens, end when the tokenizer is
 * opened: a merge is longer than its parts.                                   */
START_TEST(merges_without_result)
{
    static const struct damage d = { "chars", "\"merges\": [",
        "\"merges\": [[\"<0x00>\", \"<0x01>\"], [\"<unk>\", \"<unk>\"], ", "" };
    struct lm_model *m;
    struct lm_tokenizer *t;
    make_folder(512, source_path("tests/vocab/chars.json"));
    put_damaged(&d);
    ck_assert_ok(formats_read("hf", hf, &m, &err), err);
    enum lm_status s = lm_tokenizer_open(lm_model_vocabulary(m), &t, &err);
    expect_message(s, "", "merge 0 of the tokenizer joins tokens 3 and 4, but their text "
                   "is no token");
    lm_model_free(m);
}
END_TEST

START_TEST(nested_tokenizer_json)
{
    struct lm_model *m = NULL;
    char path[600], in[600];
    enum { N = 100000 };
    char *text = malloc(N + 1);
    make_folder(512, source_path("tests/vocab/chars.json"));
    memset(text, '[', N);
    snprintf(path, sizeof path, "%s/tokenizer.json", hf);
    put_file(path, text, N);
    free(text);
    snprintf(in, sizeof in, "%s/", hf);
    enum lm_status s = formats_read("hf", hf, &m, &err);
    ck_assert_ptr_nonnull(strstr(err.text, "tokenizer.json: "));
    ck_assert_ptr_nonnull(strstr(err.text, "deep"));
    ck_assert_int_eq(s, LM_EINPUT);
}
END_TEST

/* What no reader lets through, but another format's plugin may hand over. */
START_TEST(damaged_vocabulary)
{
    static const double none[1] = { NAN }, zero[1] = { 0 };
    static const struct { struct lm_vocabulary v; const char *message; } bad[] = {
        { { .n_token = 1, .model = LM_TOKENIZER_UNIGRAM },
          "the tokenizer's tokens have no scores" },
        { { .n_token = 1, .model = LM_TOKENIZER_SCORES, .score = none },
          "the score of token 0 of the tokenizer is no finite number" },
        { { .n_token = 1, .model = LM_TOKENIZER_CHARS, .has_unk = true, .unk = 1 },
          "the tokenizer's unknown token is 1, but the vocabulary has 1" },
        { { .n_token = 1, .model = LM_TOKENIZER_SCORES, .score = zero },
          "token 0 of the tokenizer has 600 bytes; at most 512 are supported in one with "
          "scores" },
    };
    static char text[601];
    struct lm_token token = { text, 600, LM_TOKEN_NORMAL };
    struct lm_tokenizer *t;
    struct lm_vocabulary v = bad[_i].v;
    v.struct_size = sizeof v;
    v.token = &token;
    memset(text, 'x', 600);
    expect_message(lm_tokenizer_open(&v, &t, &err), "", bad[_i].message);
}
END_TEST

/* ---- damaged GGUF vocabularies ----------------------------------------------------- */

/* n bytes behind a key, after skip more.  An array has 16 bytes before its first
 * element; the fourth token, "<0x00>", begins 60 behind the key.              */
static const struct { const char *key; size_t skip; const char *to; size_t n;
                      const char *message; } patches[] = {
    { "tokenizer.ggml.scores", 16, "\0\0\xc0\x7f", 4,
      "the score of token 0 is no finite number" },
    { "tokenizer.ggml.scores", 20, "\0\0\x80\xff", 4,
      "the score of token 1 is no finite number" },
    { "tokenizer.ggml.scores", 4, "\5", 1, "tokenizer.ggml.scores is missing or has not "
      "one number for each token" },
    { "tokenizer.ggml.score", 0, "x", 1, "tokenizer.ggml.scores is missing or has not "
      "one number for each token" },
    { "tokenizer.ggml.scores", 15, "\x7f", 1, "key 'tokenizer.ggml.scores' has "
      "9151314442816848372 elements, more than the file has room for" },
    { "tokenizer.ggml.token_type", 16, "\x09", 1,
      "token 0 has type 9, which is not supported" },
    { "tokenizer.ggml.token_typ", 0, "x", 1, NULL },        /* all are normal then */
    { "tokenizer.ggml.tokens", 64, "1", 1, "token 4 is there twice" },
    { "tokenizer.ggml.tokens", 60, "\xff", 1, "token 3 is damaged" },
    { "tokenizer.ggml.token", 0, "x", 1, "tokenizer.ggml.tokens is missing or longer "
      "than the 1048576 embeddings" },
    { "tokenizer.ggml.unknown_token_id", 4, "\xff\xff\xff\xff", 4,
      "tokenizer.ggml.unknown_token_id is not one of the 500 tokens" },
    { "tokenizer.ggml.model", 12, "bert!", 5,
      "tokenizer model 'bert!' is not supported, only gpt2, llama and t5" },
};
enum { N_PATCHES = sizeof patches / sizeof *patches };

static enum lm_status read_patched(struct words *w, const char *key, size_t skip,
                                   const char *to, size_t n)
{
    char *text, *at = NULL;
    size_t size, length = strlen(key);
    ck_assert_ok(lm_read_file(source_path("tests/vocab/scores.gguf"), 1 << 20, &text,
                              &size, &err), err);
    for (size_t i = 0; i + length < size && !at; i++)
        if (!memcmp(text + i, key, length))
            at = text + i;
    ck_assert_ptr_nonnull(at);
    memcpy(at + length + skip, to, n);
    put_file(gguf, text, size);
    lm_release(text);
    return words_read(w, gguf, &err);
}

START_TEST(damaged_gguf_vocabulary)
{
    struct words w;
    char in[700];
    err = (struct lm_err){ 0 };
    enum lm_status s = read_patched(&w, patches[_i].key, patches[_i].skip, patches[_i].to,
                                    patches[_i].n);
    snprintf(in, sizeof in, "%s: ", gguf);
    if (patches[_i].message)
        expect_message(s, in, patches[_i].message);
    else
        ck_assert_ok(s, err);
    words_close(&w);
}
END_TEST

START_TEST(byte_token_without_byte)
{
    struct words w;
    struct lm_tokenizer *t;
    ck_assert_ok(read_patched(&w, "tokenizer.ggml.tokens", 63, "Z", 1), err);
    enum lm_status s = lm_tokenizer_open(&w.vocab.vocabulary, &t, &err);
    expect_message(s, "", "token 3 of the tokenizer stands for a byte, but its text is "
                   "not like <0x0A>");
    words_close(&w);
}
END_TEST

/* ---- vocabularies outside the project ---------------------------------------------- */

/* Texts are apart by a line; line k of .out has the ids of text k. */
static size_t llama_cpp_cases(const struct lm_vocabulary *v, const char *name)
{
    static const char bar[] = "\n__ggml_vocab_test__\n";
    char path[256], *in, *out;
    size_t n_in, n_out, n_cases = 0;
    struct lm_tokenizer *t;
    ck_assert_ok(lm_tokenizer_open(v, &t, &err), err);
    snprintf(path, sizeof path, "models/vocab/%s.inp", name);
    ck_assert_ok(lm_read_file(data_path(path), 1 << 20, &in, &n_in, &err), err);
    snprintf(path, sizeof path, "models/vocab/%s.out", name);
    ck_assert_ok(lm_read_file(data_path(path), 1 << 20, &out, &n_out, &err), err);
    for (char *text = in, *want = out, *end; text; n_cases++) {
        int32_t *ids;
        size_t n;
        end = strstr(text, bar);
        size_t size = end ? (size_t)(end - text) : strlen(text);
        ck_assert_ok(lm_tokenize(t, text, size, false, &ids, &n, &err), err);
        for (size_t i = 0; i < n; i++)
            ck_assert_msg(strtol(want, &want, 10) == ids[i], "%s, text %zu, id %zu: %d",
                          name, n_cases, i, (int)ids[i]);
        want += strspn(want, " ");
        ck_assert_msg(*want == '\n' || !*want, "%s: text %zu has more ids", name,
                      n_cases);
        want += *want == '\n';
        lm_release(ids);
        text = end ? end + strlen(bar) : NULL;
    }
    lm_release(in);
    lm_release(out);
    lm_tokenizer_close(t);
    return n_cases;
}

static const char *const vocabularies[] = { "ggml-vocab-gpt-2.gguf",
    "ggml-vocab-llama-spm.gguf", "ggml-vocab-qwen2.gguf", "ggml-vocab-llama-bpe.gguf" };
enum { N_VOCABULARIES = sizeof vocabularies / sizeof *vocabularies };

START_TEST(cases_of_llama_cpp)
{
    char path[256];
    struct words w;
    snprintf(path, sizeof path, "models/vocab/%s", vocabularies[_i]);
    ck_assert_ok(words_read(&w, data_path(path), &err), err);
    ck_assert_uint_eq(llama_cpp_cases(&w.vocab.vocabulary, vocabularies[_i]), 47);
    words_close(&w);
}
END_TEST

/* vocab.json and merges.txt of GPT-2, as a tokenizer.json */
START_TEST(cases_of_gpt2_json)
{
    static const char head[] = "{\"pre_tokenizer\": {\"type\": \"ByteLevel\", "
        "\"add_prefix_space\": false}, \"model\": {\"type\": \"BPE\", \"vocab\": ";
    char *vocab, *merges, path[600];
    size_t n, size = 0;
    struct lm_model *m;
    make_folder(50257, source_path("tests/vocab/chars.json"));
    ck_assert_ok(lm_read_file(data_path("models/vocab/gpt2_vocab.json"), 8 << 20, &vocab,
                              &n, &err), err);
    ck_assert_ok(lm_read_file(data_path("models/vocab/gpt2_merges.txt"), 8 << 20, &merges,
                              &n, &err), err);
    char *out = malloc(strlen(vocab) + 3 * strlen(merges) + 1000);
    size = (size_t)sprintf(out, "%s%s, \"merges\": [", head, vocab);
    const char *comma = "";
    for (char *line = strtok(merges, "\n"); line; line = strtok(NULL, "\n")) {
        size += (size_t)sprintf(out + size, "%s\"", comma);
        for (const char *p = line; *p; p++) {
            if (*p == '"' || *p == '\\')
                out[size++] = '\\';
            out[size++] = *p;
        }
        size += (size_t)sprintf(out + size, "\"");
        comma = ",\n";
    }
    size += (size_t)sprintf(out + size, "]}}");
    snprintf(path, sizeof path, "%s/tokenizer.json", hf);
    put_file(path, out, size);
    free(out);
    lm_release(vocab);
    lm_release(merges);
    ck_assert_ok(formats_read("hf", hf, &m, &err), err);
    ck_assert_uint_eq(llama_cpp_cases(lm_model_vocabulary(m), "ggml-vocab-gpt-2.gguf"),
                      47);
    lm_model_free(m);
}
END_TEST

/* stories260K: a small Llama with SentencePiece's BPE, and a text it wrote */
START_TEST(stories260k)
{
    struct lm_model *m;
    struct lm_tokenizer *t;
    int32_t ids[512], *again;
    size_t n, n_again, n_text;
    char *text;
    ck_assert_ok(formats_read("hf", data_path("models/stories260k-hf"), &m, &err), err);
    ck_assert(lm_model_arch(m)->add_bos && lm_model_arch(m)->bos == 1);
    struct lm_json *ref = load_json(
        data_path("models/stories260k-hf/reference_numpy.json"));
    const struct lm_json *list = J->get(ref, "greedy_ids");
    n = J->size(list);
    ck_assert(n > 100 && n < 512);
    for (size_t i = 0; i < n; i++) {
        int64_t id;
        ck_assert(J->integer(J->at(list, i), &id));
        ids[i] = (int32_t)id;
    }
    ck_assert_ok(lm_tokenizer_open(lm_model_vocabulary(m), &t, &err), err);
    ck_assert_ok(lm_detokenize(t, ids, n, false, &text, &n_text, &err), err);
    ck_assert_str_eq(text, J->string(J->get(ref, "greedy_text")));
    ck_assert_ok(lm_tokenize(t, text, n_text, false, &again, &n_again, &err), err);
    ck_assert_uint_eq(n_again, n - 1);          /* all but BOS */
    ck_assert_mem_eq(again, ids + 1, n_again * sizeof *ids);
    lm_release(again);
    lm_release(text);
    lm_tokenizer_close(t);
    J->close(ref);
    lm_model_free(m);
}
END_TEST

static void add_outside(TCase *t)
{
    for (int i = 0; i < N_VOCABULARIES; i++) {
        char path[256];
        snprintf(path, sizeof path, "models/vocab/%s", vocabularies[i]);
        if (data_path(path))
            tcase_add_loop_test(t, cases_of_llama_cpp, i, i + 1);
        else
            fprintf(stderr, "skipped: cases_of_llama_cpp with %s (LAMINA_DATA has no "
                    "such vocabulary)\n", vocabularies[i]);
    }
    if (data_path("models/vocab/gpt2_vocab.json"))
        tcase_add_test(t, cases_of_gpt2_json);
    else
        fputs("skipped: cases_of_gpt2_json (LAMINA_DATA has no such vocabulary)\n",
              stderr);
    if (data_path("models/stories260k-hf/tokenizer.json"))
        tcase_add_test(t, stories260k);
    else
        fputs("skipped: stories260k (LAMINA_DATA has no such model)\n", stderr);
}

int main(void)
{
    Suite *s = suite_create("vocab");
    TCase *t = tcase_create("vocab");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 30);
    tcase_add_loop_test(t, same_ids_through_both_formats, 0, N_KINDS);
    tcase_add_test(t, sentencepiece_by_scores);
    tcase_add_test(t, whole_characters_only);
    tcase_add_test(t, text_that_is_not_utf8);
    tcase_add_test(t, every_allocation_may_fail);
    tcase_add_loop_test(t, damaged_tokenizer_json, 0,
                        sizeof json_damage / sizeof *json_damage);
    tcase_add_test(t, merges_without_result);
    tcase_add_test(t, nested_tokenizer_json);
    tcase_add_loop_test(t, damaged_vocabulary, 0, 4);
    tcase_add_loop_test(t, damaged_gguf_vocabulary, 0, N_PATCHES);
    tcase_add_test(t, byte_token_without_byte);
    add_outside(t);
    suite_add_tcase(s, t);
    return run_suites(&s, 1);
}
