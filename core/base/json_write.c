/* SPDX-License-Identifier: Apache-2.0 */
/* json_write.c -- appending JSON values to a string.
 *
 * Text that is not UTF-8 (a token may be half a character) is written with
 * U+FFFD for each byte that fits nowhere, so that the output always parses.  */
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEVELS = sizeof ((struct lm_jsonw *)0)->first / sizeof (bool) };

/* What has to stand before a value: a comma, unless it is the first of its
 * bracket or follows its key. */
static void before_value(struct lm_jsonw *w)
{
    if (w->after_key)
        w->after_key = false;
    else if (w->depth > 0 && w->depth <= LEVELS) {
        if (!w->first[w->depth - 1])
            lm_str_put(w->to, ",", 1);
        w->first[w->depth - 1] = false;
    }
}

void lm_jsonw_begin(struct lm_jsonw *w, char open)
{
    before_value(w);
    lm_str_put(w->to, &open, 1);
    if (w->depth >= LEVELS)
        w->to->failed = true;           /* better no document than a wrong one */
    else
        w->first[w->depth] = true;
    w->depth++;
}

void lm_jsonw_end(struct lm_jsonw *w, char close)
{
    lm_str_put(w->to, &close, 1);
    if (w->depth > 0)
        w->depth--;
}

static void put_string(struct lm_str *to, const char *s, size_t n)
{
    lm_str_put(to, "\"", 1);
    for (size_t i = 0, len; i < n; i += len) {
        unsigned char c = (unsigned char)s[i];
        len = lm_utf8_char(s + i, n - i);
        if (len == 0) {
            lm_str_put(to, "\xef\xbf\xbd", 3);
            len = 1;
        } else if (c == '"' || c == '\\') {
            lm_str_add(to, "\\%c", c);
        } else if (c == '\n') {
            lm_str_put(to, "\\n", 2);
        } else if (c == '\t') {
            lm_str_put(to, "\\t", 2);
        } else if (c < 0x20 || c == 0x7f) {
            lm_str_add(to, "\\u%04x", c);
        } else {
            lm_str_put(to, s + i, len);
        }
    }
    lm_str_put(to, "\"", 1);
}

void lm_jsonw_key(struct lm_jsonw *w, const char *key)
{
    before_value(w);
    put_string(w->to, key, strlen(key));
    lm_str_put(w->to, ":", 1);
    w->after_key = true;
}

void lm_jsonw_string_n(struct lm_jsonw *w, const char *s, size_t n)
{
    before_value(w);
    put_string(w->to, s, n);
}

void lm_jsonw_string(struct lm_jsonw *w, const char *s)
{
    before_value(w);
    if (s != NULL)
        put_string(w->to, s, strlen(s));
    else
        lm_str_put(w->to, "null", 4);
}

void lm_jsonw_int(struct lm_jsonw *w, int64_t v)
{
    before_value(w);
    lm_str_add(w->to, "%lld", (long long)v);
}

void lm_jsonw_real(struct lm_jsonw *w, double v)
{
    char text[40] = "null";
    before_value(w);
    for (int digits = 15; isfinite(v) && digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    lm_str_put(w->to, text, strlen(text));
}

void lm_jsonw_bool(struct lm_jsonw *w, bool v)
{
    before_value(w);
    lm_str_add(w->to, v ? "true" : "false");
}
