/* SPDX-License-Identifier: Apache-2.0 */
/* common.h -- what the formats share: a growing buffer with JSON values, a
 * table from token text to id, a check that the pieces of a file do not
 * overlap, and the stream of a tensor's rows into a file in another number
 * format.  Header only, because every plugin is closed in itself.
 *
 * Rows are converted one at a time and written in chunks, so that writing a
 * model takes a few hundred kilobytes whatever its size.  Equal number formats
 * are copied byte for byte.
 *
 * Row order.  Hugging Face rotates the halves of a head against each other,
 * GGUF files of the llama kind rotate neighbours.  Both are the same rotation
 * after the rows of q and k have been reordered inside each head of h rows:
 * row 2 j + s of GGUF is row s h/2 + j of Hugging Face, s in {0, 1}.          */
#ifndef LM_FORMATS_COMMON_H
#define LM_FORMATS_COMMON_H

#include "plugin.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FMT_CHUNK = 1 << 18, FMT_PATH = 4096 };

/* one instance of a format */
struct fmt {
    const struct lm_host *h;
    struct lm_run *run;
    const void *config;                 /* the plugin's options, or NULL      */
};

static inline enum lm_status fmt_create(const struct lm_args *a, void **self,
                                        struct lm_err *e)
{
    struct fmt *f = a->host->alloc(sizeof *f, "format");
    if (!f)
        return a->host->fail(e, LM_ENOMEM, "out of memory for a format plugin");
    f->h = a->host;
    f->run = a->run;
    f->config = a->config;
    *self = f;
    return LM_OK;
}

static inline void fmt_destroy(void *self)
{
    struct fmt *f = self;
    f->h->release(f);
}

/* ---- bytes that grow; after a failed allocation appends do nothing ----------- */
struct fmt_buf {
    const struct lm_host *h;
    char *p;
    size_t n, cap;
    bool failed;
};

static inline void fmt_put(struct fmt_buf *b, const void *bytes, size_t n)
{
    if (b->failed || !n)
        return;
    if (n > SIZE_MAX / 4 - b->n) {
        b->failed = true;
        return;
    }
    if (b->n + n > b->cap) {
        size_t cap = (b->n + n) * 2 + 256;
        char *p = b->p ? b->h->resize(b->p, cap) : b->h->alloc(cap, "format");
        if (!p) {
            b->failed = true;
            return;
        }
        b->p = p;
        b->cap = cap;
    }
    memcpy(b->p + b->n, bytes, n);
    b->n += n;
}

static inline void fmt_text(struct fmt_buf *b, const char *s)
{
    fmt_put(b, s, strlen(s));
}

/* short formatted text, at most 511 bytes */
static inline void LM_PRINTF(2, 3) fmt_add(struct fmt_buf *b, const char *format, ...)
{
    char s[512];
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(s, sizeof s, format, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof s)
        b->failed = true;
    else
        fmt_put(b, s, (size_t)n);
}

static inline void fmt_buf_free(struct fmt_buf *b)
{
    b->h->release(b->p);
    b->p = NULL;
    b->n = b->cap = 0;
}

/* the inside of a JSON string */
static inline void fmt_json_inside(struct fmt_buf *b, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c == '"' || c == '\\')
            fmt_add(b, "\\%c", c);
        else if (c < 0x20)
            fmt_add(b, "\\u%04x", c);
        else
            fmt_put(b, &s[i], 1);
    }
}

static inline void fmt_json_string(struct fmt_buf *b, const char *s, size_t n)
{
    fmt_put(b, "\"", 1);
    fmt_json_inside(b, s, n);
    fmt_put(b, "\"", 1);
}

/* a JSON number that is read as a real one everywhere: shortest that reads
 * back the same, always with a point or an exponent                          */
static inline void fmt_json_real(struct fmt_buf *b, double v)
{
    char s[40];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(s, sizeof s, "%.*g", digits, v);
        if (strtod(s, NULL) == v)
            break;
    }
    for (char *p = s; *p; p++)
        if (*p == ',')              /* a locale's decimal comma */
            *p = '.';
    fmt_text(b, s);
    if (!strpbrk(s, ".en"))
        fmt_text(b, ".0");
}

/* A float as the double its shortest decimal form names: 1e-05f was written
 * as 1e-05, not as 9.9999997e-06.                                            */
static inline double fmt_widen(float f)
{
    char s[40];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(s, sizeof s, "%.*g", digits, (double)f);
        if (strtof(s, NULL) == f)
            return strtod(s, NULL);
    }
    return (double)f;
}

static inline bool fmt_utf8(const char *text, size_t n)
{
    const unsigned char *s = (const unsigned char *)text;
    static const uint32_t least[5] = { 0, 0, 0x80, 0x800, 0x10000 };
    for (size_t i = 0; i < n;) {
        size_t len = s[i] < 0x80 ? 1 : s[i] < 0xc2 ? 0 : s[i] < 0xe0 ? 2
                   : s[i] < 0xf0 ? 3 : s[i] < 0xf5 ? 4 : 0;
        if (!len || len > n - i || !s[i])
            return false;
        uint32_t c = len == 1 ? s[i] : s[i] & (0x7fu >> len);
        for (size_t k = 1; k < len; k++) {
            if ((s[i + k] & 0xc0) != 0x80)
                return false;
            c = c << 6 | (s[i + k] & 0x3f);
        }
        if (len > 1 && (c < least[len] || c > 0x10ffff || (c >> 11) == 0x1b))
            return false;
        i += len;
    }
    return true;
}

/* ---- token text -> id -------------------------------------------------------- */
struct fmt_map {
    const struct lm_host *h;
    const struct lm_token *token;
    uint32_t *slot;                     /* id + 1, 0: free                    */
    size_t mask;
};

static inline size_t fmt_map_hash(const char *s, size_t n)
{
    uint64_t x = UINT64_C(0xcbf29ce484222325);          /* FNV-1a */
    for (size_t i = 0; i < n; i++)
        x = (x ^ (unsigned char)s[i]) * UINT64_C(0x100000001b3);
    return (size_t)(x ^ x >> 32);
}

/* id, or -1 */
static inline int64_t fmt_map_find(const struct fmt_map *m, const char *s, size_t n)
{
    for (size_t i = fmt_map_hash(s, n) & m->mask; m->slot[i]; i = (i + 1) & m->mask) {
        const struct lm_token *t = &m->token[m->slot[i] - 1];
        if (t->length == n && !memcmp(t->text, s, n))
            return (int64_t)m->slot[i] - 1;
    }
    return -1;
}

/* Tokens without text are left out.  false: no memory, or *twin >= 0 names a
 * token whose text an earlier one has.                                       */
static inline bool fmt_map_open(struct fmt_map *m, const struct lm_host *h,
                                const struct lm_token *token, size_t n, int64_t *twin)
{
    size_t size = 16;
    *twin = -1;
    while (size < 2 * n)
        size *= 2;
    *m = (struct fmt_map){ .h = h, .token = token, .mask = size - 1 };
    m->slot = h->alloc(size * sizeof *m->slot, "token table");
    if (!m->slot)
        return false;
    for (size_t id = 0; id < n; id++) {
        if (!token[id].length)
            continue;
        size_t i = fmt_map_hash(token[id].text, token[id].length) & m->mask;
        for (; m->slot[i]; i = (i + 1) & m->mask) {
            const struct lm_token *t = &token[m->slot[i] - 1];
            if (t->length == token[id].length
                && !memcmp(t->text, token[id].text, t->length)) {
                *twin = (int64_t)id;
                return false;
            }
        }
        m->slot[i] = (uint32_t)id + 1;
    }
    return true;
}

static inline void fmt_map_close(struct fmt_map *m)
{
    if (m->h)
        m->h->release(m->slot);
    m->slot = NULL;
}

/* "left right" of a merge; false: a part is no token */
static inline bool fmt_merge(const struct fmt_map *m, const char *s, size_t n,
                             struct lm_merge *out)
{
    const char *space = n > 1 ? memchr(s + 1, ' ', n - 1) : NULL;
    if (!space)
        return false;
    size_t k = (size_t)(space - s);
    int64_t a = fmt_map_find(m, s, k);
    int64_t b = fmt_map_find(m, space + 1, n - k - 1);
    *out = (struct lm_merge){ (uint32_t)a, (uint32_t)b };
    return a >= 0 && b >= 0;
}

/* ---- pieces of a file --------------------------------------------------------- */
struct fmt_span { uint64_t begin, end; const char *name; };

static inline int fmt_span_order(const void *a, const void *b)
{
    const struct fmt_span *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* Sorts; the first span that begins before its predecessor ends, or NULL. */
static inline const struct fmt_span *fmt_overlap(struct fmt_span *s, size_t n)
{
    if (n)
        qsort(s, n, sizeof *s, fmt_span_order);
    for (size_t i = 1; i < n; i++)
        if (s[i].begin < s[i - 1].end)
            return &s[i];
    return NULL;
}

/* ---- paths -------------------------------------------------------------------- */
static inline bool fmt_path(char out[FMT_PATH], const char *folder, const char *name)
{
    size_t n = strlen(folder);
    const char *slash = n && folder[n - 1] == '/' ? "" : "/";
    int k = snprintf(out, FMT_PATH, "%s%s%s", folder, slash, name);
    return k >= 0 && k < FMT_PATH;
}

/* ---- rows of a tensor into a file --------------------------------------------- */
/* Bytes of one row in a number format; 0: cols is no multiple of its block.   */
static inline int64_t fmt_row_bytes(const struct lm_codec *c, int64_t cols)
{
    int64_t bytes;
    if (cols <= 0 || cols % c->block
        || __builtin_mul_overflow(cols / c->block, (int64_t)c->bytes, &bytes))
        return 0;
    return bytes;
}

/* Row of Hugging Face order that is row r of GGUF order. */
static inline int64_t fmt_hf_row(int64_t r, int64_t head_dim)
{
    int64_t i = r % head_dim;
    return r - i + i % 2 * (head_dim / 2) + i / 2;
}

static inline enum lm_status fmt_row_range(const struct lm_host *h, const float *x,
                                           int64_t n, uint32_t dtype, const char *name,
                                           struct lm_err *e)
{
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(x[i]))
            return h->fail(e, LM_EINPUT, "%s holds %g in column %lld of a row; the model "
                           "is damaged", name, (double)x[i], (long long)i);
        if (dtype == LM_F16 && fabsf(x[i]) >= 65520.0f)
            return h->fail(e, LM_EUNSUPPORTED, "%s holds %g, which f16 cannot "
                           "hold: choose bf16 or f32", name, (double)x[i]);
    }
    return LM_OK;
}

struct fmt_job {                        /* one tensor on its way into a file  */
    const struct lm_tensor *t;
    const char *name;
    uint32_t dtype;                     /* of the file                        */
    int64_t  head_dim;                  /* reorder rows of heads; 0: keep     */
};

static inline enum lm_status fmt_rows(const struct fmt *f, const struct fmt_job *j,
                                      struct lm_out *o, char *chunk, int64_t lines,
                                      float *row, struct lm_err *e)
{
    const struct lm_host *h = f->h;
    const struct lm_codec *from = h->codec(j->t->dtype), *to = h->codec(j->dtype);
    int64_t in = fmt_row_bytes(from, j->t->cols), out = fmt_row_bytes(to, j->t->cols);
    enum lm_status s = LM_OK;
    for (int64_t r = 0; r < j->t->rows && !s;) {
        int64_t n = j->t->rows - r < lines ? j->t->rows - r : lines;
        if (h->canceled(f->run))
            return h->fail(e, LM_ECANCELED, "canceled while writing %s", j->name);
        for (int64_t i = 0; i < n && !s; i++) {
            int64_t source = j->head_dim ? fmt_hf_row(r + i, j->head_dim) : r + i;
            const char *p = (const char *)j->t->data + source * in;
            if (from->dtype == to->dtype) {
                memcpy(chunk + i * out, p, (size_t)out);
                continue;
            }
            from->decode(p, row, j->t->cols);
            s = fmt_row_range(h, row, j->t->cols, j->dtype, j->name, e);
            if (!s)
                to->encode(row, chunk + i * out, j->t->cols);
        }
        if (!s)
            s = h->out_write(o, chunk, (size_t)(n * out), e);
        r += n;
    }
    return s;
}

static inline enum lm_status fmt_tensor(const struct fmt *f, const struct fmt_job *j,
                                        struct lm_out *o, struct lm_err *e)
{
    const struct lm_host *h = f->h;
    const struct lm_codec *from = h->codec(j->t->dtype), *to = h->codec(j->dtype);
    if (!from || !to || (!to->encode && from != to) || !fmt_row_bytes(from, j->t->cols)
        || !fmt_row_bytes(to, j->t->cols))
        return h->fail(e, LM_EUNSUPPORTED, "%s: rows of %lld values cannot be written "
                       "as %s", j->name, (long long)j->t->cols, to ? to->name : "this");
    int64_t out = fmt_row_bytes(to, j->t->cols);
    int64_t lines = out < FMT_CHUNK ? FMT_CHUNK / out : 1;
    if (lines > j->t->rows)
        lines = j->t->rows;
    char *chunk = h->alloc((size_t)(lines * out), "format");
    float *row = h->alloc((size_t)j->t->cols * sizeof *row, "format");
    enum lm_status s;
    if (!chunk || !row)
        s = h->fail(e, LM_ENOMEM, "out of memory for writing %s", j->name);
    else
        s = fmt_rows(f, j, o, chunk, lines, row, e);
    h->release(row);
    h->release(chunk);
    return s;
}

#endif
