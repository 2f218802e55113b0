/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_parse.c -- a mapped GGUF file -> its key-value pairs and tensors.
 *
 * Nothing in the file is believed.  A cursor knows how many bytes are left and
 * every length is compared with that before it is used, by division where a
 * product could overflow; counts are limited by the least size an element can
 * have; arrays of arrays end at a small depth; keys and names occur once;
 * tensors lie inside the data, aligned, and do not overlap.                    */
#include "gguf.h"

enum { MAX_DEPTH = 4, MAX_KEY = 65535 };

struct cursor { const char *p; size_t left; };

static const struct { uint32_t dtype; int32_t type; } stored[] = {
    { LM_F32, 0 }, { LM_F16, 1 }, { LM_Q4_0, 2 }, { LM_Q4_1, 3 }, { LM_Q8_0, 8 },
    { LM_BF16, 30 }, { LM_Q5_0, 6 }, { LM_Q5_1, 7 }, { LM_Q2_K, 10 }, { LM_Q3_K, 11 },
    { LM_Q4_K, 12 }, { LM_Q5_K, 13 }, { LM_Q6_K, 14 }, { LM_IQ4_NL, 20 },
};
enum { N_STORED = sizeof stored / sizeof *stored };

static const char *const type_name[] = {
    "F32", "F16", "Q4_0", "Q4_1", "Q4_2", "Q4_3", "Q5_0", "Q5_1", "Q8_0", "Q8_1",
    "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS",
    "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "I8", "I16", "I32", "I64", "F64",
    "IQ1_M", "BF16", "Q4_0_4_4", "Q4_0_4_8", "Q4_0_8_8", "TQ1_0", "TQ2_0",
    "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4", "NVFP4", "Q1_0",
};
enum { N_TYPE_NAME = sizeof type_name / sizeof *type_name };

int32_t gguf_type_of(uint32_t dtype)
{
    for (size_t i = 0; i < N_STORED; i++)
        if (stored[i].dtype == dtype)
            return stored[i].type;
    return -1;
}

static uint64_t little(const char *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)(unsigned char)p[i] << 8 * i;
    return v;
}

static bool take(struct cursor *c, uint64_t n, const char **out)
{
    if (n > c->left)
        return false;
    *out = c->p;
    c->p += n;
    c->left -= (size_t)n;
    return true;
}

static bool number(struct cursor *c, size_t n, uint64_t *out)
{
    const char *p;
    if (!take(c, n, &p))
        return false;
    *out = little(p, n);
    return true;
}

static bool slice(struct cursor *c, uint64_t limit, struct gguf_slice *out)
{
    uint64_t n;
    if (!number(c, 8, &n) || n > limit || !take(c, n, &out->s))
        return false;
    out->n = (size_t)n;
    return true;
}

/* bytes of one element; strings and arrays: the least */
static size_t type_bytes(uint64_t type)
{
    static const uint8_t bytes[GGUF_N_TYPES] = { 1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8 };
    return type < GGUF_N_TYPES ? bytes[type] : 0;
}

static bool skip(struct cursor *c, uint64_t type, uint64_t count, int depth)
{
    const char *p;
    size_t bytes = type_bytes(type);
    if (!bytes || count > c->left / bytes)
        return false;
    if (type != GGUF_STRING && type != GGUF_ARRAY)
        return take(c, count * bytes, &p);
    if (type == GGUF_ARRAY && depth >= MAX_DEPTH)
        return false;
    for (uint64_t i = 0; i < count; i++) {
        struct gguf_slice s;
        uint64_t inner, n;
        if (type == GGUF_STRING ? !slice(c, UINT64_MAX, &s)
            : !number(c, 4, &inner) || !number(c, 8, &n) || !skip(c, inner, n, depth + 1))
            return false;
    }
    return true;
}

/* what of a text from the file goes into a message */
int gguf_brief(struct gguf_slice s)
{
    return (int)(s.n < 80 ? s.n : 80);
}

/* key i of g->n_pair */
static enum lm_status parse_pair(const struct gguf_file *g, struct cursor *c, size_t i,
                                 struct lm_err *e)
{
    const struct lm_host *h = g->f->h;
    struct gguf_pair *p = &g->pair[i];
    uint64_t type, element = 0;
    *p = (struct gguf_pair){ .count = 1 };
    if (!slice(c, MAX_KEY, &p->key) || !number(c, 4, &type))
        return h->fail(e, LM_EINPUT, "%s: key %zu of %zu is damaged, or the file is "
                       "truncated", g->path, i + 1, g->n_pair);
    if (!p->key.n || !fmt_utf8(p->key.s, p->key.n))
        return h->fail(e, LM_EINPUT, "%s: key %zu of %zu has no readable name", g->path,
                       i + 1, g->n_pair);
    bool whole = type != GGUF_ARRAY
               || (number(c, 4, &element) && number(c, 8, &p->count));
    size_t least = type_bytes(type == GGUF_ARRAY ? element : type);
    if (whole && (!type_bytes(type) || !least))
        return h->fail(e, LM_EINPUT, "%s: key '%.*s' has type %llu, which does not exist",
                       g->path, gguf_brief(p->key), p->key.s,
                       (unsigned long long)(type == GGUF_ARRAY ? element : type));
    if (whole && type == GGUF_ARRAY && p->count > c->left / least)
        return h->fail(e, LM_EINPUT, "%s: key '%.*s' has %llu elements, more than the "
                       "file has room for", g->path, gguf_brief(p->key), p->key.s,
                       (unsigned long long)p->count);
    p->type = (uint32_t)type;
    p->element = (uint32_t)element;
    p->value = c->p;
    if (!whole || !skip(c, type == GGUF_ARRAY ? element : type, p->count, 1))
        return h->fail(e, LM_EINPUT, "%s: the value of key '%.*s' is damaged, or the "
                       "file is truncated", g->path, gguf_brief(p->key), p->key.s);
    p->bytes = (size_t)(c->p - p->value);
    return LM_OK;
}

const struct gguf_pair *gguf_find(const struct gguf_file *g, const char *key)
{
    size_t n = strlen(key);
    for (size_t i = 0; i < g->n_pair; i++)
        if (g->pair[i].key.n == n && !memcmp(g->pair[i].key.s, key, n))
            return &g->pair[i];
    return NULL;
}

static int name_is(const void *name, const void *info)
{
    return strcmp(name, ((const struct gguf_info *)info)->name);
}

const struct gguf_info *gguf_tensor(const struct gguf_file *g, const char *name)
{
    return g->n_info ? bsearch(name, g->info, g->n_info, sizeof *g->info, name_is) : NULL;
}

bool gguf_integer(const struct gguf_pair *p, uint64_t i, int64_t *out)
{
    uint32_t type = p->type == GGUF_ARRAY ? p->element : p->type;
    size_t n = type_bytes(type);
    if (i >= p->count || type == GGUF_F32 || type == GGUF_F64 || type == GGUF_STRING
        || type == GGUF_ARRAY || !n)
        return false;
    uint64_t v = little(p->value + i * n, n);
    if (type == GGUF_I8 || type == GGUF_I16 || type == GGUF_I32) {
        uint64_t sign = UINT64_C(1) << (8 * n - 1);
        *out = (int64_t)((v ^ sign) - sign);
        return true;
    }
    if (type == GGUF_U64 && v > INT64_MAX)
        return false;
    memcpy(out, &v, sizeof v);
    return true;
}

bool gguf_real(const struct gguf_pair *p, double *out)
{
    int64_t i;
    if (p->type == GGUF_F32) {
        uint32_t u = (uint32_t)little(p->value, 4);
        float v;
        memcpy(&v, &u, sizeof v);
        *out = isfinite(v) ? fmt_widen(v) : NAN;
    } else if (p->type == GGUF_F64) {
        uint64_t u = little(p->value, 8);
        memcpy(out, &u, sizeof u);
    } else if (p->type != GGUF_ARRAY && gguf_integer(p, 0, &i)) {
        *out = (double)i;
    } else {
        return false;
    }
    return isfinite(*out);
}

bool gguf_string(const struct gguf_pair *p, struct gguf_slice *out)
{
    const char *at = p->value;
    if (p->type != GGUF_STRING)
        return false;
    *out = gguf_next(&at);
    return true;
}

struct gguf_slice gguf_next(const char **at)
{
    struct gguf_slice s = { *at + 8, (size_t)little(*at, 8) };
    *at = s.s + s.n;
    return s;
}

static int key_order(const void *a, const void *b)
{
    const struct gguf_slice *x = a, *y = b;
    int c = memcmp(x->s, y->s, x->n < y->n ? x->n : y->n);
    return c ? c : x->n < y->n ? -1 : x->n > y->n;
}

static int name_order(const void *a, const void *b)
{
    const struct gguf_info *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static enum lm_status parse_pairs(struct gguf_file *g, struct cursor *c, struct lm_err *e)
{
    const struct lm_host *h = g->f->h;
    size_t n = g->n_pair;
    g->pair = h->alloc((n + 1) * sizeof *g->pair, "gguf");
    struct gguf_slice *key = h->alloc((n + 1) * sizeof *key, "gguf");
    enum lm_status s = LM_OK;
    if (!g->pair || !key)
        s = h->fail(e, LM_ENOMEM, "out of memory for %zu keys of %s", n, g->path);
    for (size_t i = 0; i < n && !s; i++) {
        s = parse_pair(g, c, i, e);
        key[i] = g->pair[i].key;
    }
    if (!s && n)
        qsort(key, n, sizeof *key, key_order);
    for (size_t i = 1; i < n && !s; i++)
        if (!key_order(&key[i - 1], &key[i]))
            s = h->fail(e, LM_EINPUT, "%s: key '%.*s' is there twice", g->path,
                        gguf_brief(key[i]), key[i].s);
    h->release(key);
    return s;
}

/* name, shape, type and offset as they stand in the file */
struct raw { uint64_t dims, size[4], type, offset; };

static enum lm_status read_info(const struct gguf_file *g, struct cursor *c, size_t i,
                                struct raw *r, struct lm_err *e)
{
    const struct lm_host *h = g->f->h;
    struct gguf_info *t = &g->info[i];
    struct gguf_slice name;
    bool whole = slice(c, GGUF_NAME - 1, &name) && number(c, 4, &r->dims);
    if (whole) {
        memcpy(t->name, name.s, name.n);
        if (!name.n || !fmt_utf8(t->name, name.n))
            return h->fail(e, LM_EINPUT, "%s: tensor %zu of %zu has no readable name",
                           g->path, i + 1, g->n_info);
        if (r->dims < 1 || r->dims > 4)
            return h->fail(e, LM_EINPUT, "%s: tensor '%s' has %llu dimensions; 1 to 4 "
                           "are possible", g->path, t->name,
                           (unsigned long long)r->dims);
        for (uint64_t d = 0; d < r->dims && whole; d++)
            whole = number(c, 8, &r->size[d]);
    }
    if (!whole || !number(c, 4, &r->type) || !number(c, 8, &r->offset))
        return h->fail(e, LM_EINPUT, "%s: tensor %zu of %zu is damaged, or the file is "
                       "truncated", g->path, i + 1, g->n_info);
    return LM_OK;
}

static enum lm_status parse_info(struct gguf_file *g, struct cursor *c, size_t i,
                                 struct fmt_span *span, struct lm_err *e)
{
    const struct lm_host *h = g->f->h;
    struct gguf_info *t = &g->info[i];
    struct raw r = { .size = { 1, 1, 1, 1 } };
    size_t k = 0;
    enum lm_status s = read_info(g, c, i, &r, e);
    if (s)
        return s;
    for (uint64_t d = 0; d < r.dims; d++)
        if (r.size[d] < 1 || r.size[d] > INT64_MAX || (d >= 2 && r.size[d] != 1))
            return h->fail(e, LM_EINPUT, "%s: dimension %llu of tensor '%s' is %llu, "
                           "which no vector or matrix has", g->path,
                           (unsigned long long)d + 1, t->name,
                           (unsigned long long)r.size[d]);
    while (k < N_STORED && stored[k].type != (int64_t)r.type)
        k++;
    const char *name = r.type < N_TYPE_NAME ? type_name[r.type] : "unknown";
    if (k == N_STORED)
        return h->fail(e, LM_EINPUT, "%s: tensor '%s' has type %s (%u), which is not "
                       "supported; take a file of this model in F32, F16, BF16, Q8_0, "
                       "Q4_0, Q4_1, Q5_0, Q5_1, Q2_K to Q6_K or IQ4_NL", g->path, t->name,
                       name, (unsigned)r.type);
    const struct lm_codec *codec = h->codec(stored[k].dtype);
    t->flat = r.size[1] == 1;
    t->tensor = (struct lm_tensor){ NULL, (int64_t)r.size[1], (int64_t)r.size[0],
                                    stored[k].dtype, 0 };
    if (t->tensor.cols % codec->block)
        return h->fail(e, LM_EINPUT, "%s: tensor '%s' has rows of %lld values, but %s "
                       "comes in blocks of %u", g->path, t->name,
                       (long long)t->tensor.cols, name, (unsigned)codec->block);
    int64_t bytes = fmt_row_bytes(codec, t->tensor.cols);
    *span = (struct fmt_span){ r.offset, 0, t->name };
    if (!bytes || __builtin_mul_overflow(bytes, t->tensor.rows, &bytes)
        || __builtin_add_overflow(span->begin, (uint64_t)bytes, &span->end))
        return h->fail(e, LM_EINPUT, "%s: tensor '%s' of %lld x %lld values at %llu is "
                       "larger than any file", g->path, t->name,
                       (long long)t->tensor.rows, (long long)t->tensor.cols,
                       (unsigned long long)r.offset);
    return LM_OK;
}

/* where the data are, once all of the header is read */
static enum lm_status place(struct gguf_file *g, const struct cursor *c,
                            const char *start, struct fmt_span *span, struct lm_err *e)
{
    const struct lm_host *h = g->f->h;
    const struct gguf_pair *p = gguf_find(g, "general.alignment");
    int64_t align = GGUF_ALIGNMENT;
    if (p && (p->type == GGUF_ARRAY || !gguf_integer(p, 0, &align) || align < 1
              || align > 1 << 20 || (align & (align - 1))))
        return h->fail(e, LM_EINPUT, "%s: general.alignment is no power of two from 1 to "
                       "1048576", g->path);
    uint64_t mask = (uint64_t)align - 1;
    uint64_t pad = (0 - (uint64_t)(c->p - start)) & mask;
    uint64_t left = pad > c->left ? 0 : c->left - pad;
    for (size_t i = 0; i < g->n_info; i++) {
        if (span[i].begin & mask)
            return h->fail(e, LM_EINPUT, "%s: data of tensor '%s' begin at %llu, no "
                           "multiple of the alignment %lld", g->path, g->info[i].name,
                           (unsigned long long)span[i].begin, (long long)align);
        if (span[i].end > left)
            return h->fail(e, LM_EINPUT, "%s: data of tensor '%s' lie outside the file, "
                           "which is truncated or damaged", g->path, g->info[i].name);
        g->info[i].tensor.data = c->p + pad + span[i].begin;
    }
    const struct fmt_span *twice = fmt_overlap(span, g->n_info);
    if (twice)
        return h->fail(e, LM_EINPUT, "%s: data of tensor '%s' overlap another's",
                       g->path, twice->name);
    return LM_OK;
}

static enum lm_status parse_tensors(struct gguf_file *g, struct cursor *c,
                                    const char *start, struct lm_err *e)
{
    const struct lm_host *h = g->f->h;
    size_t n = g->n_info;
    g->info = h->alloc((n + 1) * sizeof *g->info, "gguf");
    struct fmt_span *span = h->alloc((n + 1) * sizeof *span, "gguf");
    enum lm_status s = LM_OK;
    if (!g->info || !span)
        s = h->fail(e, LM_ENOMEM, "out of memory for %zu tensors of %s", n, g->path);
    for (size_t i = 0; i < n && !s; i++)
        s = parse_info(g, c, i, &span[i], e);
    if (!s)
        s = place(g, c, start, span, e);
    h->release(span);
    if (s)
        return s;
    if (n)
        qsort(g->info, n, sizeof *g->info, name_order);
    for (size_t i = 1; i < n; i++)
        if (!name_order(&g->info[i - 1], &g->info[i]))
            return h->fail(e, LM_EINPUT, "%s: tensor '%s' is there twice", g->path,
                           g->info[i].name);
    return LM_OK;
}

enum lm_status gguf_open(const struct fmt *f, const char *path, const void *data,
                         size_t size, struct gguf_file *g, struct lm_err *e)
{
    struct cursor c = { data, size };
    const char *magic;
    uint64_t version, tensors, pairs;
    *g = (struct gguf_file){ .f = f, .path = path };
    if (!take(&c, 4, &magic) || memcmp(magic, "GGUF", 4) || !number(&c, 4, &version))
        return f->h->fail(e, LM_EINPUT, "%s: is no GGUF file", path);
    if (version && !(version & 0xffff))
        return f->h->fail(e, LM_EINPUT, "%s: is a big-endian GGUF file, which is not "
                          "supported; take the little-endian one", path);
    if (version != 2 && version != 3)
        return f->h->fail(e, LM_EINPUT, "%s: GGUF version %llu is not supported, only 2 "
                          "and 3; convert the model anew", path,
                          (unsigned long long)version);
    if (!number(&c, 8, &tensors) || !number(&c, 8, &pairs))
        return f->h->fail(e, LM_EINPUT, "%s: is truncated in its first 24 bytes", path);
    /* a pair takes at least 13 bytes, a tensor 32 */
    if (pairs > GGUF_MAX_PAIRS || tensors > GGUF_MAX_TENSORS
        || pairs > c.left / 13 || tensors > c.left / 32)
        return f->h->fail(e, LM_EINPUT, "%s: %llu tensors and %llu keys cannot be in a "
                          "file of %zu bytes; it is truncated or damaged", path,
                          (unsigned long long)tensors, (unsigned long long)pairs, size);
    g->n_pair = (size_t)pairs;
    g->n_info = (size_t)tensors;
    enum lm_status s = parse_pairs(g, &c, e);
    return s ? s : parse_tensors(g, &c, data, e);
}

void gguf_close(struct gguf_file *g)
{
    if (!g->f)
        return;
    g->f->h->release(g->pair);
    g->f->h->release(g->info);
    g->pair = NULL;
    g->info = NULL;
}
