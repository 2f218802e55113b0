/* SPDX-License-Identifier: Apache-2.0 */
/* nfc.c -- Unicode normalization form C (Unicode Standard Annex 15).
 *
 * A character is stable when it never joins or changes places with the one
 * before and is its own composition.  Text between two stable characters can be
 * brought into the form alone, so only stretches with others are touched: taken
 * apart, sorted by combining class, put together.  Hangul is computed (section
 * 3.12 of the standard).  Characters that the tables do not know are stable, as
 * for every version of the standard.                                          */
#include <stdlib.h>

#include "base/mem.h"
#include "model/nfc_classes.h"
#include "model/nfc_parts.h"
#include "model/tokenizer.h"

enum {
    S_BASE = 0xac00, L_BASE = 0x1100, V_BASE = 0x1161, T_BASE = 0x11a7,
    L_COUNT = 19, V_COUNT = 21, T_COUNT = 28, S_COUNT = L_COUNT * V_COUNT * T_COUNT,
    N_CLASSES = sizeof classes / sizeof *classes, N_PARTS = sizeof parts / sizeof *parts,
    N_JOINED = sizeof joined / sizeof *joined,
    N_JOINERS = sizeof joiners / sizeof *joiners
};

/* one character of a stretch; at: its place, which sorting keeps among equals */
struct mark { uint32_t c, cls; size_t at; };
struct stretch { struct mark *v; size_t n, cap; };

static uint32_t class_of(uint32_t c)
{
    size_t lo = 0, hi = N_CLASSES;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (classes[mid].last < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < N_CLASSES && classes[lo].first <= c ? classes[lo].cls : 0;
}

/* Place of a character in parts; -1: it is not made of others. */
static int part_of(uint32_t c)
{
    size_t lo = 0, hi = N_PARTS;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (parts[mid].key >> 1 < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < N_PARTS && parts[lo].key >> 1 == c ? (int)lo : -1;
}

static bool joins(uint32_t c)
{
    if (c >= V_BASE && c < T_BASE + T_COUNT)
        return c < V_BASE + V_COUNT || c > T_BASE;
    for (size_t i = 0; i < N_JOINERS && joiners[i] <= c; i++)
        if (joiners[i] == c)
            return true;
    return false;
}

static bool stable(uint32_t c)
{
    if (c < 0x300 || (c >= 0x3400 && c < 0xa000) || (c >= S_BASE && c < S_BASE + S_COUNT))
        return true;
    int p = part_of(c);
    return (p < 0 || (parts[p].key & 1)) && !class_of(c) && !joins(c);
}

/* The character that two make, or 0. */
static uint32_t join(uint32_t a, uint32_t b)
{
    if (a >= L_BASE && a < L_BASE + L_COUNT && b >= V_BASE && b < V_BASE + V_COUNT)
        return S_BASE + ((a - L_BASE) * V_COUNT + (b - V_BASE)) * T_COUNT;
    if (a >= S_BASE && a < S_BASE + S_COUNT && !((a - S_BASE) % T_COUNT) && b > T_BASE
        && b < T_BASE + T_COUNT)
        return a + (b - T_BASE);
    size_t lo = 0, hi = N_JOINED;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2, p = joined[mid];
        if (parts[p].a < a || (parts[p].a == a && parts[p].b < b))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < N_JOINED && parts[joined[lo]].a == a && parts[joined[lo]].b == b
         ? parts[joined[lo]].key >> 1 : 0;
}

static bool put(struct stretch *s, uint32_t c)
{
    if (s->n == s->cap) {
        size_t bytes, cap = s->cap * 2 + 32;
        struct mark *v = lm_mul_size(cap, sizeof *v, &bytes) ? lm_resize(s->v, bytes)
                                                             : NULL;
        if (!v)
            return false;
        s->v = v;
        s->cap = cap;
    }
    s->v[s->n] = (struct mark){ c, class_of(c), s->n };
    s->n++;
    return true;
}

/* Appends the parts of a character; a chain of first parts ends in a few steps. */
static bool take_apart(struct stretch *s, uint32_t c)
{
    uint32_t later[8];
    size_t n = 0;
    if (c >= S_BASE && c < S_BASE + S_COUNT) {
        uint32_t i = c - S_BASE, t = i % T_COUNT;
        return put(s, L_BASE + i / (V_COUNT * T_COUNT))
            && put(s, V_BASE + i / T_COUNT % V_COUNT) && (!t || put(s, T_BASE + t));
    }
    for (int p; (p = part_of(c)) >= 0 && n < 8; c = parts[p].a)
        if (parts[p].b)
            later[n++] = parts[p].b;
    bool ok = put(s, c);
    while (ok && n)         /* second parts are made of others in a few cases  */
        ok = take_apart(s, later[--n]);
    return ok;
}

static int by_class(const void *a, const void *b)
{
    const struct mark *x = a, *y = b;
    return x->cls != y->cls ? (x->cls > y->cls) - (x->cls < y->cls)
                            : (x->at > y->at) - (x->at < y->at);
}

static void sort(struct stretch *s)
{
    for (size_t i = 0; i < s->n; i++) {
        size_t from = i;
        while (i < s->n && s->v[i].cls)
            i++;
        if (i - from > 1)
            qsort(s->v + from, i - from, sizeof *s->v, by_class);
    }
}

static void put_together(struct stretch *s)
{
    size_t n = 0, starter = SIZE_MAX;
    uint32_t last = 0;              /* class of the mark kept last             */
    for (size_t i = 0; i < s->n; i++) {
        struct mark m = s->v[i];
        bool near = starter != SIZE_MAX && n == starter + 1;
        uint32_t c = starter != SIZE_MAX && (near || (last < m.cls && last))
            ? join(s->v[starter].c, m.c) : 0;
        if (c) {
            s->v[starter].c = c;
            continue;
        }
        if (!m.cls)
            starter = n;
        last = m.cls;
        s->v[n++] = m;
    }
    s->n = n;
}

static uint32_t read_one(const unsigned char *s, size_t *size)
{
    uint32_t c = *s;
    *size = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    if (*size == 1)
        return c;
    c &= 0x7fu >> *size;
    for (size_t i = 1; i < *size; i++)
        c = c << 6 | (s[i] & 0x3f);
    return c;
}

static void write_one(struct lm_str *out, uint32_t c)
{
    unsigned char s[4];
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1; c >>= 6)
        s[i] = (unsigned char)(0x80 | (c & 0x3f));
    s[0] = (unsigned char)(n == 1 ? c : (0xf00u >> n & 0xff) | c);
    lm_str_put(out, s, n);
}

/* Appends text[from, to), a stretch with characters that are not stable. */
static bool compose(struct stretch *s, const unsigned char *text, size_t from, size_t to,
                    struct lm_str *out)
{
    s->n = 0;
    for (size_t size; from < to; from += size)
        if (!take_apart(s, read_one(text + from, &size)))
            return false;
    sort(s);
    put_together(s);
    for (size_t i = 0; i < s->n; i++)
        write_one(out, s->v[i].c);
    return !out->failed;
}

static bool same(const struct lm_str *out, const char *text, size_t n)
{
    if (out->n != n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (out->s[i] != text[i])
            return false;
    return true;
}

enum lm_status lm_nfc(const char *text, size_t n, char **result, size_t *n_out,
                      struct lm_err *e)
{
    const unsigned char *s = (const unsigned char *)text;
    struct lm_str out = { 0 };
    struct stretch run = { 0 };
    size_t done = 0, from = 0;      /* written so far; the last stable character */
    bool ok = true, rough = false;
    *result = NULL;
    *n_out = n;
    for (size_t i = 0, size; i <= n && ok; i += size) {
        size = 1;
        if (i < n && s[i] >= 0x80 && !stable(read_one(s + i, &size))) {
            rough = true;
            continue;
        }
        if (rough) {
            lm_str_put(&out, text + done, from - done);
            ok = compose(&run, s, from, i, &out) && !out.failed;
            done = i;
            rough = false;
        }
        from = i;
    }
    lm_release(run.v);
    if (ok && done)
        lm_str_put(&out, text + done, n - done);
    if (!ok || out.failed) {
        lm_str_free(&out);
        return lm_fail_memory(e, n, "a text in normal form C");
    }
    if (!done || same(&out, text, n)) {
        lm_str_free(&out);
        return LM_OK;
    }
    *result = out.s;
    *n_out = out.n;
    return LM_OK;
}
