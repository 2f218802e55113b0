/* SPDX-License-Identifier: Apache-2.0 */
/* text.h -- the text that grows under a reporter's hands, on host->alloc.
 *
 * Zero-initialised but for host it is empty.  After a failed allocation
 * `failed` is set and further text is dropped, so one check at the end does.
 * s is NUL-terminated, or NULL while nothing was added.                      */
#ifndef LM_REPORTERS_TEXT_H
#define LM_REPORTERS_TEXT_H
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin.h"

struct text {
    const struct lm_host *host;
    char  *s;
    size_t n, cap;
    bool   failed;
};

static inline void text_put(struct text *t, const char *s, size_t n)
{
    if (t->failed)
        return;
    if (t->cap - t->n < n + 1) {
        size_t cap = (t->cap + n + 1) * 2;
        char *p = t->host->resize(t->s, cap);

        if (!p) {
            t->failed = true;
            return;
        }
        t->s = p;
        t->cap = cap;
    }
    memcpy(t->s + t->n, s, n);
    t->n += n;
    t->s[t->n] = 0;
}

static inline void text_raw(struct text *t, const char *s)
{
    text_put(t, s, strlen(s));
}

/* At most 1023 bytes; longer text is cut: texts of a study go through text_put. */
LM_PRINTF(2, 3)
static inline void text_add(struct text *t, const char *fmt, ...)
{
    char line[1024];
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (n > 0)
        text_put(t, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
}

/* Bytes of the UTF-8 character at s (NUL-terminated), 0 if there is none. */
static inline size_t text_utf8(const char *s)
{
    const unsigned char *p = (const unsigned char *)s;
    size_t n = p[0] < 0x80 ? 1 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
             : p[0] >= 0xe0 && p[0] < 0xf0 ? 3 : p[0] >= 0xf0 && p[0] < 0xf5 ? 4 : 0;

    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f)
        || (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;                       /* overlong, surrogate, beyond 10ffff */
    return n;
}

/* For JSON: the shortest form that reads back the same; not finite: null. */
static inline void text_json_real(struct text *t, double v)
{
    char out[40];

    if (!isfinite(v)) {
        text_raw(t, "null");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(out, sizeof out, "%.*g", digits, v);
        if (strtod(out, NULL) == v)
            break;
    }
    text_raw(t, out);
}
/* Was it proposed (trial 0 is the uncompressed model), built, and breaks a constraint? */
static inline bool is_broken(const struct lm_trial *t)
{
    return t->id > 0 && t->status == LM_OK && t->violation > 0;
}
#endif
