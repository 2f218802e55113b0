/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_impl.h -- inside of the tokenizer.
 *
 *   tokenizer.c         opening; texts in and out
 *   tokenizer_tables.c  vocabulary -> the tables below
 *   bpe.c               words -> ids by merging neighbours
 *   unigram.c           words -> ids of highest total score
 *   pretok.c            texts -> words (byte-level vocabularies)
 *   nfc.c               texts -> Unicode normalization form C
 *
 * Inside, tokens are plain bytes.  Byte-level vocabularies write them in the
 * GPT-2 byte alphabet: printable Latin-1 stands for itself, the other 68 bytes
 * for U+0100 and up.  The others write a space as U+2581; here that is a space
 * again, and U+2581 in a text is read as one, as SentencePiece does.
 *
 * Ids from n_token on stand for characters that occur in tokens but are none
 * (SCORES only): they can be merged away, else they are spelt in bytes.       */
#ifndef LM_MODEL_TOKENIZER_IMPL_H
#define LM_MODEL_TOKENIZER_IMPL_H
#include "model/tokenizer.h"

enum { LM_NO_RANK = INT32_MAX, LM_MAX_PIECE = 512 };

/* Of merges: key left << 32 | right, rank, result.  Of the trie of a unigram
 * vocabulary: key node << 8 | byte, rank the token that ends there or -1, id the
 * node.  id is one more than that; 0: the slot is empty.                      */
struct pair { uint64_t key; int32_t rank, id; };
struct special { const char *s; size_t n; int32_t id; };
struct special_set {
    struct special *v;              /* sorted by bytes, all different          */
    size_t n;
    bool first[256];                /* bytes that begin one                    */
};

struct lm_tokenizer {
    const struct lm_vocabulary *v;
    struct lm_pretok *pretok;       /* BYTES only                              */
    unsigned char *bytes;           /* all tokens, one behind the other        */
    size_t *start;                  /* [n_id + 1] into bytes                   */
    size_t n_id;                    /* n_token and characters that are none    */
    int32_t *word;                  /* hash of NORMAL tokens: id + 1, 0: empty */
    size_t word_mask;
    struct pair *pair;
    size_t pair_mask;
    int32_t byte_id[256];           /* -1: the vocabulary lacks this byte      */
    int32_t ascii[128];             /* ids of these characters, or -1          */
    bool apart;                     /* no token holds a space behind something
                                       else: words between can stand alone     */
    double unknown;                 /* score of a character without token      */
    struct special_set special[2];  /* added tokens; these and special ones    */
};

struct symbol { int32_t id, prev, next; };      /* id -1: merged into prev     */
struct entry { int32_t rank, at, left, right; };    /* a pair as it was seen   */
struct step { double score; int32_t from, id; };    /* best way to a position  */

/* The state of one call. */
struct job {
    const struct lm_tokenizer *t;
    struct lm_err *e;
    int32_t *ids;
    size_t n, cap;
    struct symbol *symbol;          /* [long_cap], for long words              */
    struct entry *heap;             /* [2 long_cap]                            */
    size_t long_cap, n_heap;
    struct step *step;              /* [step_cap], of unigram                  */
    size_t step_cap;
    char *text;                     /* [text_cap], a text made ready           */
    size_t text_cap;
};

static inline size_t token_bytes(const struct lm_tokenizer *t, int32_t id,
                                 const unsigned char **bytes)
{
    *bytes = t->bytes + t->start[id];
    return t->start[id + 1] - t->start[id];
}

/* Bytes of the character at s, which is valid UTF-8. */
static inline size_t char_bytes(const void *s)
{
    unsigned char c = *(const unsigned char *)s;
    return c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

static inline uint64_t pair_key(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static inline size_t pair_at(const struct lm_tokenizer *t, uint64_t key)
{
    uint64_t h = key * UINT64_C(0x9e3779b97f4a7c15);
    size_t i = (size_t)(h >> 32) & t->pair_mask;
    while (t->pair[i].id && t->pair[i].key != key)
        i = (i + 1) & t->pair_mask;
    return i;
}

/* Where a NORMAL token of these bytes is in the table, or would be. */
size_t lm_word_at(const struct lm_tokenizer *t, const void *s, size_t n);
static inline int32_t word_id(const struct lm_tokenizer *t, const void *s, size_t n)
{
    return t->word[lm_word_at(t, s, n)] - 1;
}

enum lm_status lm_tables_open(struct lm_tokenizer *t, struct lm_err *e);
void lm_tables_close(struct lm_tokenizer *t);

/* Room for that many more ids. */
enum lm_status lm_job_reserve(struct job *j, size_t more);
/* Appends the ids that s[0..n) is spelt in: bytes, else the unknown token,
 * unless `fuse` and that was the last one; else none.                         */
enum lm_status lm_job_spell(struct job *j, const char *s, size_t n, bool fuse);
/* Append the ids of a word.  bytes: a lm_pretok_split callback. */
enum lm_status lm_bpe_bytes(void *job, const char *s, size_t n);
enum lm_status lm_bpe_chars(struct job *j, const char *s, size_t n);
enum lm_status lm_unigram(struct job *j, const char *s, size_t n);
#endif
