/* SPDX-License-Identifier: Apache-2.0 */
/* str.c -- growable strings, edit distance, sizes and times for people. */
#include "base/str.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

enum { NAME_LIMIT = 127 };              /* of the edit distance, bytes       */

/* Room for n more bytes and the NUL. */
static bool reserve(struct lm_str *t, size_t n)
{
    if (t->failed)
        return false;
    if (n >= SIZE_MAX / 2 - t->n) {
        t->failed = true;
        return false;
    }
    size_t want = t->n + n + 1;
    if (want <= t->cap)
        return true;
    size_t cap = t->cap < 64 ? 64 : t->cap * 2;
    if (cap < want)
        cap = want;
    char *s = t->s == NULL ? lm_alloc(cap, "string") : lm_resize(t->s, cap);
    if (s == NULL) {
        t->failed = true;
        return false;
    }
    t->s = s;
    t->cap = cap;
    return true;
}

void lm_str_put(struct lm_str *t, const void *bytes, size_t n)
{
    if (!reserve(t, n))
        return;
    if (n > 0)
        memcpy(t->s + t->n, bytes, n);
    t->n += n;
    t->s[t->n] = '\0';
}

void lm_str_add(struct lm_str *t, const char *fmt, ...)
{
    if (!reserve(t, 0))
        return;
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(t->s + t->n, t->cap - t->n, fmt, ap);
    va_end(ap);
    if (n < 0 || !reserve(t, (size_t)n))
        t->failed = true;
    else
        vsnprintf(t->s + t->n, t->cap - t->n, fmt, again);
    va_end(again);
    if (t->failed)
        t->s[t->n] = '\0';
    else
        t->n += (size_t)n;
}

void lm_str_free(struct lm_str *t)
{
    lm_release(t->s);
    *t = (struct lm_str){ 0 };
}

size_t lm_utf8_char(const void *text, size_t n)
{
    const unsigned char *s = text;
    unsigned c = n > 0 ? *s : 0xff;
    size_t k = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3
             : c < 0xf5 ? 4 : 0;
    if (k > n)
        return 0;
    for (size_t i = 1; i < k; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return (c == 0xe0 && s[1] < 0xa0) || (c == 0xed && s[1] > 0x9f)
        || (c == 0xf0 && s[1] < 0x90) || (c == 0xf4 && s[1] > 0x8f) ? 0 : k;
}

/* Bytes of the character that begins at s[0..n), 0: none, or a control one. */
static size_t harmless(const unsigned char *s, size_t n)
{
    size_t k = lm_utf8_char(s, n);
    bool control = k == 1 ? (s[0] < 32 || s[0] == 127) && s[0] != '\n' && s[0] != '\t'
                          : k == 2 && s[0] == 0xc2 && s[1] < 0xa0;
    return control ? 0 : k;
}

void lm_str_tame(char *text, size_t n)
{
    for (size_t i = 0, k; i < n; i += k > 0 ? k : 1)
        if ((k = harmless((const unsigned char *)text + i, n - i)) == 0)
            text[i] = '?';
}

/* Optimal string alignment (insert, delete, replace, swap neighbours, no part
 * edited twice), by the usual recurrence with three rows of the table.  Names
 * longer than the limit get the larger length, which is an upper bound.      */
size_t lm_distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b), rows[3][NAME_LIMIT + 1];
    if (n > NAME_LIMIT || m > NAME_LIMIT)
        return strcmp(a, b) == 0 ? 0 : n > m ? n : m;
    size_t *before = rows[0], *last = rows[1], *row = rows[2];
    for (size_t j = 0; j <= m; j++)
        last[j] = j;
    for (size_t i = 1; i <= n; i++) {
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t d = last[j - 1] + (a[i - 1] != b[j - 1]);
            if (last[j] + 1 < d)
                d = last[j] + 1;
            if (row[j - 1] + 1 < d)
                d = row[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]
                && before[j - 2] + 1 < d)
                d = before[j - 2] + 1;
            row[j] = d;
        }
        size_t *free_row = before;
        before = last;
        last = row;
        row = free_row;
    }
    return last[m];
}

const char *lm_nearest(const char *word, const char *const *names, size_t n)
{
    size_t best = strlen(word) / 3;
    if (best < 2)
        best = 2;
    const char *found = NULL;
    size_t alike = 0;
    for (size_t i = 0; i < n; i++) {
        size_t d = lm_distance(word, names[i]), same = 0;
        while (word[same] != '\0' && word[same] == names[i][same])
            same++;
        /* Nothing that shares no letter with word. */
        if ((found == NULL ? d <= best : d < best || (d == best && same > alike))
            && d < strlen(word)) {
            best = d;
            alike = same;
            found = names[i];
        }
    }
    return found;
}

char *lm_human_bytes(char *out, double bytes)
{
    static const char *const unit[] = { "B", "kB", "MB", "GB", "TB", "PB" };
    size_t i = 0;
    /* 999.95 and more would be printed as 1000.0 */
    while (i + 1 < sizeof unit / sizeof *unit && fabs(bytes) >= (i ? 999.95 : 999.5)) {
        bytes /= 1000;
        i++;
    }
    snprintf(out, 32, i == 0 ? "%.0f %s" : "%.1f %s", bytes, unit[i]);
    return out;
}

char *lm_human_time(char *out, double seconds)
{
    if (!(seconds >= 0) || seconds > 1e9) {
        snprintf(out, 32, "unknown time");
        return out;
    }
    if (seconds < 1)
        snprintf(out, 32, "%.0f ms", seconds * 1000);
    else if (seconds < 9.95)
        snprintf(out, 32, "%.1f s", seconds);
    else if (seconds < 59.5)
        snprintf(out, 32, "%.0f s", seconds);
    else if (seconds < 3599.5)
        snprintf(out, 32, "%lld min %lld s", (long long)(seconds + 0.5) / 60,
                 (long long)(seconds + 0.5) % 60);
    else
        snprintf(out, 32, "%lld h %lld min", (long long)(seconds / 60 + 0.5) / 60,
                 (long long)(seconds / 60 + 0.5) % 60);
    return out;
}

char *lm_human_value(char *out, double value)
{
    bool whole = value == floor(value) && fabs(value) < 1e15;
    snprintf(out, 32, whole ? "%.0f" : "%.6g", value);
    return out;
}
