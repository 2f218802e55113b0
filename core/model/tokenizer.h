/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer.h -- text to token ids and back, over an lm_vocabulary: byte-level
 * and character-level BPE, SentencePiece's two models.  PCRE2 (the
 * pre-tokenizers' patterns) is confined to pretok.c.                        */
#ifndef LM_MODEL_TOKENIZER_H
#define LM_MODEL_TOKENIZER_H
#include "base/err.h"
#include "base/str.h"

struct lm_tokenizer;
enum lm_status lm_tokenizer_open(const struct lm_vocabulary *v, struct lm_tokenizer **t,
                                 struct lm_err *e);     /* v must outlive it */
void lm_tokenizer_close(struct lm_tokenizer *t);
/* Added tokens are recognised in the text, special ones if asked for; else they
 * are plain text.  text must be UTF-8 (LM_EINPUT with the byte offset).  *ids is
 * lm_release'd by the caller.  [any]                                        */
enum lm_status lm_tokenize(const struct lm_tokenizer *t, const char *text, size_t n,
                           bool special, int32_t **ids, size_t *n_ids, struct lm_err *e);
/* Bytes of the tokens, special ones left out unless asked for, and without the
 * space that the tokenizer puts in front of a text; *text is NUL-terminated and
 * lm_release'd by the caller.                                               */
enum lm_status lm_detokenize(const struct lm_tokenizer *t, const int32_t *ids, size_t n,
                             bool special, char **text, size_t *n_text, struct lm_err *e);

/* The same token by token, for text that goes on: appends whole characters,
 * keeps the beginning of one in `rest` ({ 0 } at first) until the next call or
 * the end.  Special tokens and ids out of range show nothing; what is no UTF-8
 * becomes U+FFFD.                                                       [any] */
struct lm_rest { char s[4]; size_t n; };
void lm_detokenize_next(const struct lm_tokenizer *t, struct lm_rest *rest, int32_t id,
                        struct lm_str *out);
void lm_detokenize_end(struct lm_rest *rest, struct lm_str *out);

/* nfc.c: text, valid UTF-8, in Unicode normalization form C.  *out NULL: it is
 * in that form; else lm_release it.  *n_out is n then.                  [any] */
enum lm_status lm_nfc(const char *text, size_t n, char **out, size_t *n_out,
                      struct lm_err *e);

/* Offset of the first byte that is not part of valid UTF-8, or -1. */
int64_t lm_utf8_invalid(const char *text, size_t n);

/* pretok.c: splits text[0..n) into words; calls word(ctx, start, length).
 * The words cover the text.  LM_EINPUT unless it is UTF-8.             [any] */
struct lm_pretok;
enum lm_status lm_pretok_open(uint32_t pre, struct lm_pretok **p, struct lm_err *e);
void lm_pretok_close(struct lm_pretok *p);
enum lm_status lm_pretok_split(const struct lm_pretok *p, const char *text, size_t n,
                               enum lm_status (*word)(void *ctx, const char *s, size_t n),
                               void *ctx, struct lm_err *e);
#endif
