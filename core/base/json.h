/* SPDX-License-Identifier: Apache-2.0 */
/* json.h -- reading JSON (jansson, confined to json.c) and writing it. */
#ifndef LM_BASE_JSON_H
#define LM_BASE_JSON_H
#include "base/err.h"
#include "base/str.h"

/* Reading: see struct lm_json_api in plugin_host.h for what each function does.
 * Duplicate keys, depth over 200 and text over 256 MiB are errors
 * ("WHAT: line 3: ...", LM_EINPUT).                                         */
extern const struct lm_json_api lm_json_api;

/* Writing: values append to a struct lm_str; commas are the caller's through
 * the begin/end pairs below, which know what comes first.                   */
struct lm_jsonw { struct lm_str *to; int depth; bool first[64]; bool after_key; };
void lm_jsonw_begin(struct lm_jsonw *w, char open);      /* '{' or '['  */
void lm_jsonw_end(struct lm_jsonw *w, char close);       /* '}' or ']'  */
void lm_jsonw_key(struct lm_jsonw *w, const char *key);
void lm_jsonw_string(struct lm_jsonw *w, const char *s); /* NULL: null  */
void lm_jsonw_string_n(struct lm_jsonw *w, const char *s, size_t n);
void lm_jsonw_int(struct lm_jsonw *w, int64_t v);
void lm_jsonw_real(struct lm_jsonw *w, double v);        /* shortest that reads
                                            back the same; not finite: null  */
void lm_jsonw_bool(struct lm_jsonw *w, bool v);
#endif
