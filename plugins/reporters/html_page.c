/* SPDX-License-Identifier: Apache-2.0 */
/* html_page.c -- escaping and number formats.  What comes from a study (names
 * of files, generated text, configuration) is never trusted to be harmless or
 * UTF-8: bytes that are no character become U+FFFD, and in JSON < > & are
 * written as \uXXXX so that no </script> can end the script early.          */
#include "html.h"

void html_text(struct text *p, const char *s)
{
    while (s && *s) {
        size_t n = text_utf8(s);

        if (n == 0)
            text_raw(p, "&#xfffd;");
        else if (strchr("<>&\"'", *s) || ((unsigned char)*s < 0x20 && *s != '\n'
                                          && *s != '\t'))
            text_add(p, "&#%d;", (unsigned char)*s < 0x20 ? 0xfffd : *s);
        else
            text_put(p, s, n);
        s += n ? n : 1;
    }
}

void html_json_string(struct text *p, const char *s)
{
    text_put(p, "\"", 1);
    while (s && *s) {
        size_t n = text_utf8(s);

        if (n == 0)
            text_raw(p, "\\ufffd");
        else if (strchr("<>&\"\\'", *s) || (unsigned char)*s < 0x20)
            text_add(p, "\\u%04x", (unsigned)(unsigned char)*s);
        else
            text_put(p, s, n);
        s += n ? n : 1;
    }
    text_put(p, "\"", 1);
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
