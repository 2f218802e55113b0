/* SPDX-License-Identifier: Apache-2.0 */
/* html_page.c -- text that grows, and escaping.  What comes from a study (names
 * of files, generated text, configuration) is never trusted to be harmless or
 * UTF-8: bytes that are no character become U+FFFD, and in JSON < > & are
 * written as \uXXXX so that no </script> can end the script early.          */
#include "html.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put(struct page *p, const char *s, size_t n)
{
    if (p->failed)
        return;
    if (p->cap - p->n < n + 1) {
        size_t cap = (p->cap + n + 1) * 2;
        char *to = p->host->resize(p->s, cap);

        if (!to) {
            p->failed = true;
            return;
        }
        p->s = to;
        p->cap = cap;
    }
    memcpy(p->s + p->n, s, n);
    p->n += n;
    p->s[p->n] = 0;
}

void html_put(struct page *p, const char *s)
{
    put(p, s, strlen(s));
}

void html_add(struct page *p, const char *fmt, ...)
{
    char line[1024];
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (n > 0)
        put(p, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
}

/* Bytes of the UTF-8 character at s (NUL-terminated), 0 if there is none. */
static size_t utf8(const char *s)
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

void html_text(struct page *p, const char *s)
{
    while (s && *s) {
        size_t n = utf8(s);

        if (n == 0)
            html_put(p, "&#xfffd;");
        else if (strchr("<>&\"'", *s) || ((unsigned char)*s < 0x20 && *s != '\n'
                                          && *s != '\t'))
            html_add(p, "&#%d;", (unsigned char)*s < 0x20 ? 0xfffd : *s);
        else
            put(p, s, n);
        s += n ? n : 1;
    }
}

void html_json_string(struct page *p, const char *s)
{
    put(p, "\"", 1);
    while (s && *s) {
        size_t n = utf8(s);

        if (n == 0)
            html_put(p, "\\ufffd");
        else if (strchr("<>&\"\\'", *s) || (unsigned char)*s < 0x20)
            html_add(p, "\\u%04x", (unsigned)(unsigned char)*s);
        else
            put(p, s, n);
        s += n ? n : 1;
    }
    put(p, "\"", 1);
}

void html_json_real(struct page *p, double v)
{
    char out[40];

    if (!isfinite(v)) {
        html_put(p, "null");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(out, sizeof out, "%.*g", digits, v);
        if (strtod(out, NULL) == v)
            break;
    }
    html_put(p, out);
}

void html_format(char out[HTML_NUMBER], double v, const char *unit)
{
    static const char prefix[] = " kMGT";
    bool bytes = !strcmp(unit, "bytes");
    int k = 0;

    if (isnan(v)) {
        snprintf(out, HTML_NUMBER, "-");
    } else if (bytes || !strcmp(unit, "parameters") || !strcmp(unit, "MACs")) {
        for (; fabs(v) >= 999.5 && k < 4; k++)
            v /= 1000;
        if (k)
            snprintf(out, HTML_NUMBER, "%.*f %c%s",
                     fabs(v) < 10 ? 3 : fabs(v) < 100 ? 2 : 1, v, prefix[k],
                     bytes ? "B" : "");
        else
            snprintf(out, HTML_NUMBER, "%.0f%s", v, bytes ? " B" : "");
    } else {
        snprintf(out, HTML_NUMBER, fabs(v) >= 1000 && fabs(v) < 1e7 ? "%.1f" : "%.4g", v);
        if (!strcmp(unit, "ms"))
            snprintf(out + strlen(out), HTML_NUMBER - strlen(out), " ms");
    }
}
