/* SPDX-License-Identifier: Apache-2.0 */
/* str.h -- a growable string, and the nearest name for "did you mean". */
#ifndef LM_BASE_STR_H
#define LM_BASE_STR_H
#include "plugin.h"

/* Zero-initialised is empty.  After an allocation failure `failed` is set,
 * further appends do nothing; check once at the end.  s is NUL-terminated or
 * NULL while nothing was appended.                                          */
struct lm_str { char *s; size_t n, cap; bool failed; };
void lm_str_add(struct lm_str *t, const char *fmt, ...) LM_PRINTF(2, 3);
void lm_str_put(struct lm_str *t, const void *bytes, size_t n);
void lm_str_free(struct lm_str *t);
/* Bytes of the UTF-8 character that s[0..n) begins with; 0: it begins with none.
 * No overlong forms, no surrogates, nothing above U+10FFFF.                 */
size_t lm_utf8_char(const void *s, size_t n);
/* Makes a text from a stranger harmless on a terminal, in place: control
 * characters but newline and tab, and bytes that are no UTF-8, become '?'.   */
void lm_str_tame(char *text, size_t n);
/* Damerau-Levenshtein distance. */
size_t lm_distance(const char *a, const char *b);
/* The member of names[n] nearest to word within max(2, strlen/3) edits, or NULL;
 * of equals the one that begins more like it.                               */
const char *lm_nearest(const char *word, const char *const *names, size_t n);
/* "1.2 GB", "3 min 20 s" into out (at least 32 bytes); return out. */
char *lm_human_bytes(char *out, double bytes);
char *lm_human_time(char *out, double seconds);
/* A whole number with all its digits, any other with six. */
char *lm_human_value(char *out, double value);
#endif
