/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_tokenizer.c -- a vocabulary from the input, then a text: byte 0 the
 * pre-tokenizer, byte 1 flags, byte 2 the number of merges m, m pairs of bytes,
 * which name earlier tokens; the rest is the text.  Tokens 0-255 are the bytes,
 * each merge adds its own.  Where all bytes have tokens, ids give back the text. */
#include "fuzz.h"
#include "model/tokenizer.h"

enum { MOST_MERGES = 255, LONGEST = 1000 };

struct words {
    struct lm_token token[256 + MOST_MERGES + 1];
    struct lm_merge merge[MOST_MERGES];
    char *text[256 + MOST_MERGES + 1];
    size_t n, n_merge;
};

/* A byte in the GPT-2 alphabet; returns the length. */
static size_t spell(int byte, char *out)
{
    int c = byte <= 32 ? 256 + byte : byte >= 127 && byte <= 160 ? 256 + byte - 94
          : byte == 173 ? 256 + 67 : byte;
    if (c < 128) {
        out[0] = (char)c;
        return 1;
    }
    out[0] = (char)(0xc0 | c >> 6);
    out[1] = (char)(0x80 | (c & 63));
    return 2;
}

static void add(struct words *w, const char *a, size_t n, const char *b, size_t k,
                uint32_t kind)
{
    char *text = malloc(n + k + 1);
    FUZZ_CHECK(text != NULL);
    memcpy(text, a, n);
    memcpy(text + n, b, k);
    w->text[w->n] = text;
    w->token[w->n++] = (struct lm_token){ text, (uint32_t)(n + k), kind };
}

static void make(struct words *w, const uint8_t *pair, size_t m)
{
    char c[2];
    for (int i = 0; i < 256; i++)
        add(w, c, spell(i, c), "", 0, LM_TOKEN_NORMAL);
    for (size_t i = 0; i < m; i++) {
        uint32_t l = pair[2 * i], r = pair[2 * i + 1];
        l = l < 128 || l + 128 >= w->n ? l : l + 128;   /* half are merged ones */
        r = r < 128 || r + 128 >= w->n ? r : r + 128;
        const struct lm_token *x = &w->token[l], *y = &w->token[r];
        if (x->length + y->length > LONGEST)
            continue;
        w->merge[w->n_merge++] = (struct lm_merge){ l, r };
        add(w, x->text, x->length, y->text, y->length, LM_TOKEN_NORMAL);
    }
    add(w, "<|x|>", 5, "", 0, LM_TOKEN_SPECIAL);
}

static void there_and_back(const struct lm_tokenizer *t, const char *text, size_t n,
                           bool special)
{
    struct lm_err e = { 0 };
    int32_t *ids;
    size_t n_ids, n_back;
    char *back;
    enum lm_status s = lm_tokenize(t, text, n, special, &ids, &n_ids, &e);
    fuzz_status(s, &e);
    FUZZ_CHECK((s == LM_OK) == (lm_utf8_invalid(text, n) < 0));
    if (s != LM_OK)
        return;
    FUZZ_CHECK(lm_detokenize(t, ids, n_ids, true, &back, &n_back, &e) == LM_OK);
    FUZZ_CHECK(n_back == n && memcmp(back, text, n) == 0);
    lm_release(back);
    lm_release(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct words w = { .n = 0 };
    struct lm_tokenizer *t;
    struct lm_err e = { 0 };
    if (n < 3 || n < 3 + 2 * (size_t)data[2])
        return 0;
    int64_t begun = fuzz_begin();
    make(&w, data + 3, data[2]);
    const struct lm_vocabulary v = { .struct_size = sizeof v, .pre = data[0] % 8,
        .token = w.token, .n_token = w.n, .merge = w.merge, .n_merge = w.n_merge,
        .ignore_merges = data[1] & 1 };
    enum lm_status s = lm_tokenizer_open(&v, &t, &e);
    fuzz_status(s, &e);
    if (s == LM_OK) {
        size_t skip = 3 + 2 * (size_t)data[2];
        there_and_back(t, (const char *)data + skip, n - skip, data[1] & 2);
        lm_tokenizer_close(t);
    }
    for (size_t i = 0; i < w.n; i++)
        free(w.text[i]);
    fuzz_end(begun);
    return 0;
}
