/* SPDX-License-Identifier: Apache-2.0 */
/* lint.c -- lexical pass: strings, numbers, brackets, includes; see lint.h.
 *
 * Works on one file at a time; each must have its own brackets closed, so an
 * included file cannot end in the middle of its includer's group.  What is
 * accepted is a subset of libconfig's language with the same meaning.        */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "config/lint.h"

struct lex {
    struct lm_source *s;
    const char *p, *end;
    const char *name;
    uint32_t file, line;
    int  includes;                      /* depth of @include                    */
    bool fresh;                         /* only blanks so far on this line      */
    char last;                          /* last significant character, 'a' for
                                           names, '1' for numbers, '"'          */
    size_t base, depth;                 /* brackets of includers; with own      */
    char open[LM_LINT_DEPTH];
    uint32_t opened[LM_LINT_DEPTH];
    struct lm_err *e;
};

static enum lm_status scan(struct lm_source *s, const char *text, size_t n,
                           const char *name, int includes, size_t depth,
                           struct lm_err *e);

/* ASCII only, whatever the locale. */
static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}
static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\f'; }

LM_PRINTF(3, 4)
static enum lm_status bad(struct lex *x, uint32_t line, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (x->s->one_value)
        return lm_fail(x->e, LM_ECONFIG, "%s: error: %s", x->name, text);
    return lm_fail(x->e, LM_ECONFIG, "%s:%u: error: %s", x->name, (unsigned)line, text);
}

/* ---- output: text and the map of its lines ----------------------------------- */

static enum lm_status begin_line(struct lm_source *s, uint32_t file, uint32_t line,
                                 struct lm_err *e)
{
    if ((s->n_line & (s->n_line - 1)) == 0) {
        size_t cap = s->n_line ? 2 * s->n_line : 1;
        struct lm_source_line *at = lm_resize(s->at, cap * sizeof *at);
        if (!at)
            return lm_fail_memory(e, cap * sizeof *at, "a pipeline file");
        s->at = at;
    }
    s->at[s->n_line++] = (struct lm_source_line){ file, line };
    return LM_OK;
}

static enum lm_status put(struct lex *x, const char *p, size_t n)
{
    lm_str_put(&x->s->text, p, n);
    if (x->s->text.failed)
        return lm_fail_memory(x->e, x->s->text.n + n, "a pipeline file");
    if (x->s->text.n > LM_LINT_BYTES)
        return bad(x, x->line, "the file and what it includes exceed %d bytes",
                   LM_LINT_BYTES);
    return LM_OK;
}

/* Consumes n input bytes that are no line breaks. */
static enum lm_status take(struct lex *x, size_t n, char kind)
{
    enum lm_status s = put(x, x->p, n);
    x->p += n;
    x->last = kind;
    x->fresh = false;
    return s;
}

static enum lm_status newline(struct lex *x)
{
    x->p++;
    x->line++;
    x->fresh = true;
    enum lm_status s = put(x, "\n", 1);
    return s ? s : begin_line(x->s, x->file, x->line, x->e);
}

/* ---- tokens --------------------------------------------------------------------- */

static enum lm_status comment(struct lex *x, bool *found)
{
    size_t left = (size_t)(x->end - x->p);
    *found = true;
    if (*x->p == '#' || (left > 1 && x->p[0] == '/' && x->p[1] == '/')) {
        while (x->p < x->end && *x->p != '\n')
            x->p++;
        return LM_OK;
    }
    *found = left > 1 && x->p[0] == '/' && x->p[1] == '*';
    if (!*found)
        return LM_OK;
    uint32_t opened = x->line;
    enum lm_status s = put(x, " ", 1);
    for (x->p += 2; !s && x->p < x->end; ) {
        if (x->p[0] == '*' && x->end - x->p > 1 && x->p[1] == '/') {
            x->p += 2;
            return LM_OK;
        }
        if (*x->p == '\n')
            s = newline(x);
        else
            x->p++;
    }
    return s ? s : bad(x, opened, "the comment that begins here is not closed");
}

static enum lm_status string(struct lex *x)
{
    const char *q = x->p + 1;
    for (; q < x->end && *q != '"' && *q != '\n'; q++) {
        if (*q != '\\')
            continue;
        if (x->end - q > 3 && q[1] == 'x' && q[2] == '0' && q[3] == '0')
            return bad(x, x->line, "\\x00 cannot be part of a string");
        if (x->end - q > 1 && q[1] != '\n')
            q++;
    }
    if (q >= x->end || *q == '\n')
        return bad(x, x->line, "a string is not closed on its line; write \\n for a "
                   "line break");
    return take(x, (size_t)(q + 1 - x->p), '"');
}

/* 'r' real, 'i' integer, 'x' hexadecimal, 0: neither */
static char number_kind(const char *t)
{
    if (t[0] == '0' && (t[1] == 'x' || t[1] == 'X')) {
        size_t k = 2;
        while (is_hex(t[k]))
            k++;
        size_t l = strspn(t + k, "L");
        return k > 2 && l < 3 && !t[k + l] ? 'x' : 0;
    }
    t += *t == '-' || *t == '+';
    size_t a = strspn(t, "0123456789"), b = 0;
    bool real = t[a] == '.';
    t += a;
    if (real) {
        b = strspn(++t, "0123456789");
        t += b;
    }
    if (!a && !b)
        return 0;
    if (*t == 'e' || *t == 'E') {
        real = true;
        t++;
        t += *t == '-' || *t == '+';
        if (!is_digit(*t))
            return 0;
        t += strspn(t, "0123456789");
    }
    if (!real && *t == 'L')
        t += t[1] == 'L' ? 2 : 1;
    return *t ? 0 : real ? 'r' : 'i';
}

/* Values that libconfig 1.5 would silently read as others. */
static enum lm_status check_number(struct lex *x, const char *t, char kind)
{
    bool large = false, huge;
    errno = 0;
    if (kind == 'r') {
        if (isfinite(strtod(t, NULL)))
            return LM_OK;
        x->s->corrupt = true;
        return bad(x, x->line, "%s is too large for a number", t);
    } else if (kind == 'x') {
        unsigned long long v = strtoull(t, NULL, 16);
        huge = errno || v > INT64_MAX;
        large = v > INT32_MAX;
    } else {
        long long v = strtoll(t, NULL, 10);
        huge = errno != 0;
        large = v > INT32_MAX || v < INT32_MIN;
    }
    x->s->corrupt = huge || (large && !strchr(t, 'L'));
    if (huge)
        return bad(x, x->line, "%s does not fit 64 bits", t);
    if (x->s->corrupt)
        return bad(x, x->line, "%s does not fit 32 bits; write %sL", t, t);
    return LM_OK;
}

static enum lm_status number(struct lex *x)
{
    const char *q = x->p + 1;
    char text[64];
    bool hex = x->p[0] == '0' && q < x->end && (*q == 'x' || *q == 'X');
    while (q < x->end && (is_digit(*q) || is_alpha(*q) || *q == '.' || *q == '_' ||
                          ((*q == '-' || *q == '+') && !hex &&
                           (q[-1] == 'e' || q[-1] == 'E'))))
        q++;
    size_t n = (size_t)(q - x->p);
    snprintf(text, sizeof text, "%.*s", (int)n, x->p);
    char kind = n < sizeof text ? number_kind(text) : 0;
    if (!kind)
        return bad(x, x->line, "'%s' is no number; write 10, 0x1F, 5000000000L, 0.5 "
                   "or 1e-3, text in double quotes", text);
    enum lm_status s = check_number(x, text, kind);
    return s ? s : take(x, n, '1');
}

static enum lm_status name(struct lex *x)
{
    const char *q = x->p + 1;
    while (q < x->end && (is_digit(*q) || is_alpha(*q) || strchr("-_*", *q)) && *q)
        q++;
    return take(x, (size_t)(q - x->p), 'a');
}

static enum lm_status bracket(struct lex *x)
{
    static const char open[] = "({[", close[] = ")}]";
    char c = *x->p;
    if (strchr(open, c)) {
        if (x->depth == LM_LINT_DEPTH)
            return bad(x, x->line, "brackets are nested more than %d deep",
                       LM_LINT_DEPTH);
        x->open[x->depth] = c;
        x->opened[x->depth++] = x->line;
        return take(x, 1, c);
    }
    if (x->depth == x->base)
        return bad(x, x->line, "'%c' closes nothing", c);
    char want = close[strchr(open, x->open[x->depth - 1]) - open];
    if (c != want)
        return bad(x, x->line, "'%c' where '%c' should close the '%c' of line %u", c,
                   want, x->open[x->depth - 1], (unsigned)x->opened[x->depth - 1]);
    if (x->last == ',' && c != '}')
        return bad(x, x->line, "a comma before '%c' is not allowed", c);
    x->depth--;
    return take(x, 1, c);
}

static enum lm_status punctuation(struct lex *x)
{
    char c = *x->p;
    if (c == '=' || c == ':' || c == ',') {
        if (++x->s->n_value > LM_LINT_VALUES)
            return bad(x, x->line, "more than %d values", LM_LINT_VALUES);
        return take(x, 1, c);
    }
    if (c == ';') {
        if (x->last == ';')
            return bad(x, x->line, "a second ';'; one is enough");
        return take(x, 1, c);
    }
    if (c == '\'')
        return bad(x, x->line, "strings are written in double quotes");
    if (c == '_')
        return bad(x, x->line, "a name begins with a letter, not with '_'");
    if (c == '@')
        return bad(x, x->line, "'@' is only for @include \"FILE\" on a line of its own");
    if (c > ' ' && c < 127)
        return bad(x, x->line, "unexpected '%c'", c);
    return bad(x, x->line, "unexpected byte 0x%02x; text belongs in double quotes",
               (unsigned)(unsigned char)c);
}

/* ---- @include ------------------------------------------------------------------- */

bool lm_source_beside(char *out, size_t n, const char *name, const char *path)
{
    const char *slash = strrchr(name, '/');
    int len = *path == '/' || !slash
        ? snprintf(out, n, "%s", path)
        : snprintf(out, n, "%.*s/%s", (int)(slash - name), name, path);
    return len >= 0 && (size_t)len < n;
}

static enum lm_status read_text(struct lm_source *s, const char *path, int includes,
                                size_t depth, struct lm_err *e)
{
    char *text;
    size_t n;
    enum lm_status st = lm_read_file(path, LM_LINT_BYTES, &text, &n, e);
    if (st) {           /* a missing pipeline file is a matter of configuration */
        if (st == LM_EINPUT && e)
            e->code = LM_ECONFIG;
        return st == LM_EINPUT ? LM_ECONFIG : st;
    }
    st = scan(s, text, n, path, includes, depth, e);
    lm_release(text);
    return st;
}

static enum lm_status include(struct lex *x, bool *found)
{
    static const char word[] = "@include";
    size_t n = sizeof word - 1;
    *found = x->fresh && (size_t)(x->end - x->p) > n && !memcmp(x->p, word, n) &&
             !x->s->one_value;
    if (!*found)
        return LM_OK;
    const char *q = x->p + n;
    while (q < x->end && is_blank(*q))
        q++;
    const char *from = q + 1, *to = from;
    while (q < x->end && to < x->end && *to != '"' && *to != '\n')
        to++;
    if (q >= x->end || *q != '"' || to >= x->end || *to != '"' || to == from)
        return bad(x, x->line, "write @include \"FILE\"");
    char file[4096], path[4096];
    int len = snprintf(file, sizeof file, "%.*s", (int)(to - from), from);
    if (len < 0 || (size_t)len >= sizeof file || strlen(file) != (size_t)len ||
        !lm_source_beside(path, sizeof path, x->name, file))
        return bad(x, x->line, "the path of @include is too long");
    if (x->includes == LM_LINT_INCLUDES)
        return bad(x, x->line, "@include is nested more than %d deep (does a file "
                   "include itself?)", LM_LINT_INCLUDES);
    x->p = to + 1;
    enum lm_status s = read_text(x->s, path, x->includes + 1, x->depth, x->e);
    if (s == LM_ECONFIG && x->e && !strstr(x->e->text, ": error: "))
        lm_err_prefix(x->e, "%s:%u: error: @include: ", x->name, (unsigned)x->line);
    if (s)
        return s;
    x->last = 0;
    s = put(x, "\n", 1);
    return s ? s : begin_line(x->s, x->file, x->line, x->e);
}

/* ---- one file ------------------------------------------------------------------- */

static enum lm_status token(struct lex *x)
{
    bool found;
    enum lm_status s = comment(x, &found);
    if (s || found)
        return s;
    char c = *x->p, next = x->end - x->p > 1 ? x->p[1] : 0;
    if (c == '\n')
        return newline(x);
    if (is_blank(c)) {
        x->p++;
        return put(x, " ", 1);
    }
    if (c == '"')
        return string(x);
    if (is_digit(c) || ((c == '-' || c == '+' || c == '.') &&
                        (is_digit(next) || next == '.')))
        return number(x);
    if (is_alpha(c) || c == '*')
        return name(x);
    if (c && strchr("(){}[]", c))
        return bracket(x);
    if ((s = include(x, &found)) || found)
        return s;
    return punctuation(x);
}

static enum lm_status add_file(struct lm_source *s, const char *file, struct lm_err *e)
{
    char **more = lm_resize(s->file, (s->n_file + 1) * sizeof *more);
    if (!more)
        return lm_fail_memory(e, (s->n_file + 1) * sizeof *more, "file names");
    s->file = more;
    if (!(more[s->n_file] = lm_strdup(file, "conf")))
        return lm_fail_memory(e, strlen(file) + 1, "file names");
    s->n_file++;
    return LM_OK;
}

/* depth: brackets open in the includers. */
static enum lm_status scan(struct lm_source *s, const char *text, size_t n,
                           const char *from, int includes, size_t depth,
                           struct lm_err *e)
{
    enum lm_status st = add_file(s, from, e);
    struct lex x = { .s = s, .p = text, .end = text + n, .name = from, .line = 1,
                     .file = (uint32_t)s->n_file - 1, .includes = includes,
                     .fresh = true, .base = depth, .depth = depth, .e = e };
    if (st)
        return st;
    if (n >= 3 && !memcmp(text, "\xef\xbb\xbf", 3))
        x.p += 3;                               /* the byte order mark of UTF-8 */
    const char *zero = memchr(text, 0, n);
    if (zero)
        return bad(&x, 1, "byte %zu is zero: not a text file", (size_t)(zero - text));
    if (s->text.n && s->text.s[s->text.n - 1] != '\n')
        st = put(&x, "\n", 1);
    else if (s->n_line)
        s->n_line--;            /* the includer's line has no text: replace it */
    if (!st)
        st = begin_line(s, x.file, 1, e);
    while (!st && x.p < x.end)
        st = token(&x);
    if (!st && x.depth > x.base)
        st = bad(&x, x.opened[x.depth - 1], "the '%c' opened here is not closed",
                 x.open[x.depth - 1]);
    return st;
}

enum lm_status lm_source_file(struct lm_source *s, const char *from, struct lm_err *e)
{
    *s = (struct lm_source){ 0 };
    enum lm_status st = read_text(s, from, 0, 0, e);
    if (st)
        lm_source_free(s);
    return st;
}

enum lm_status lm_source_text(struct lm_source *s, const char *text, size_t n,
                              const char *from, struct lm_err *e)
{
    *s = (struct lm_source){ 0 };
    enum lm_status st = n > LM_LINT_BYTES
        ? lm_fail(e, LM_ECONFIG, "%s: error: more than %d bytes", from, LM_LINT_BYTES)
        : scan(s, text, n, from, 0, 0, e);
    if (st)
        lm_source_free(s);
    return st;
}

enum lm_status lm_source_value(struct lm_source *s, const char *text,
                               const char *origin, struct lm_err *e)
{
    struct lm_str t = { 0 };
    lm_str_add(&t, "v = %s\n;", text);      /* a comment must not hide the ';' */
    *s = (struct lm_source){ .one_value = true };
    enum lm_status st = t.failed ? lm_fail_memory(e, strlen(text) + 8, "a value")
        : t.n > LM_LINT_BYTES
        ? lm_fail(e, LM_ECONFIG, "%s: error: more than %d bytes", origin, LM_LINT_BYTES)
        : scan(s, t.s, t.n, origin, 0, 0, e);
    lm_str_free(&t);
    if (st) {
        bool corrupt = s->corrupt;
        lm_source_free(s);
        s->corrupt = corrupt;
    }
    return st;
}

void lm_source_free(struct lm_source *s)
{
    lm_str_free(&s->text);
    for (size_t i = 0; i < s->n_file; i++)
        lm_release(s->file[i]);
    lm_release(s->file);
    lm_release(s->at);
    *s = (struct lm_source){ 0 };
}

void lm_source_origin(const struct lm_source *s, size_t line, char *out, size_t n)
{
    if (!line || line > s->n_line || s->one_value) {
        snprintf(out, n, "%s", s->n_file ? s->file[0] : "");
        return;
    }
    struct lm_source_line at = s->at[line - 1];
    snprintf(out, n, "%s:%u", s->file[at.file], (unsigned)at.line);
}
