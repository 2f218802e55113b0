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
    { LM_BF16, 30 },
};
enum { N_STORED = sizeof stored / sizeof *stored };

static const char *const type_name[] = {
    "F32", "F16", "Q4_0", "Q4_1", "Q4_2", "Q4_3", "Q5_0", "Q5_1", "Q8_0", "Q8_1",
    "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS",
    "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "I8", "I16", "I32", "I64", "F64",
    "IQ1_M", "BF16", "Q4_0_4_4", "Q4_0_4_8", "Q4_0_8_8", "TQ1_0", "TQ2_0",
    "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4",
};

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

static bool parse_pair(struct cursor *c, struct gguf_pair *p)
{
    uint64_t type, element = 0;
    *p = (struct gguf_pair){ .count = 1 };
    if (!slice(c, MAX_KEY, &p->key) || !number(c, 4, &type) || type >= GGUF_N_TYPES)
        return false;
    if (type == GGUF_ARRAY && (!number(c, 4, &element) || !number(c, 8, &p->count)))
        return false;
    p->type = (uint32_t)type;
    p->element = (uint32_t)element;
    p->value = c->p;
    if (element > UINT32_MAX / 2
        || !skip(c, type == GGUF_ARRAY ? element : type, p->count, 1))
        return false;
    p->bytes = (size_t)(c->p - p->value);
    return true;
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
        if (!parse_pair(c, &g->pair[i]))
            s = h->fail(e, LM_EINPUT, "%s: key %zu of %zu is damaged, or the file is "
                        "truncated", g->path, i, n);
        key[i] = g->pair[i].key;
    }
    if (!s && n)
        qsort(key, n, sizeof *key, key_order);
    for (size_t i = 1; i < n && !s; i++)
        if (!key_order(&key[i - 1], &key[i]))
            s = h->fail(e, LM_EINPUT, "%s: key '%.*s' is there twice", g->path,
                        (int)(key[i].n < 80 ? key[i].n : 80), key[i].s);
    h->release(key);
    return s;
}

static enum lm_status parse_info(struct gguf_file *g, struct cursor *c,
                                 struct gguf_info *t, struct fmt_span *span,
                                 struct lm_err *e)
{
    const struct lm_host *h = g->f->h;
    struct gguf_slice name;
    uint64_t dims, size[2] = { 1, 1 }, type, k = 0, d;
    if (!slice(c, GGUF_NAME - 1, &name) || !number(c, 4, &dims) || dims < 1 || dims > 4)
        return h->fail(e, LM_EINPUT, "%s: the list of tensors is damaged or truncated",
                       g->path);
    memcpy(t->name, name.s, name.n);
    if (!fmt_utf8(t->name, name.n))
        return h->fail(e, LM_EINPUT, "%s: a tensor has no readable name", g->path);
    for (uint64_t i = 0; i < dims; i++) {
        if (!number(c, 8, &d) || d < 1 || d > INT64_MAX || (i >= 2 && d != 1))
            return h->fail(e, LM_EINPUT, "%s: shape of tensor '%s' is damaged or not "
                           "supported", g->path, t->name);
        if (i < 2)
            size[i] = d;
    }
    if (!number(c, 4, &type) || !number(c, 8, &span->begin))
        return h->fail(e, LM_EINPUT, "%s: tensor '%s' is truncated", g->path, t->name);
    while (k < N_STORED && stored[k].type != (int64_t)type)
        k++;
    if (k == N_STORED) {
        bool known = type < sizeof type_name / sizeof *type_name;
        return h->fail(e, LM_EINPUT, "%s: tensor '%s' has type %s (%u), which is not "
                       "supported, only F32, F16, BF16, Q8_0, Q4_0 and Q4_1", g->path,
                       t->name, known ? type_name[type] : "unknown", (unsigned)type);
    }
    t->flat = size[1] == 1;
    t->tensor = (struct lm_tensor){ NULL, (int64_t)size[1], (int64_t)size[0],
                                    stored[k].dtype, 0 };
    int64_t bytes = fmt_row_bytes(h->codec(stored[k].dtype), t->tensor.cols);
    if (!bytes || __builtin_mul_overflow(bytes, t->tensor.rows, &bytes)
        || __builtin_add_overflow(span->begin, (uint64_t)bytes, &span->end))
        return h->fail(e, LM_EINPUT, "%s: tensor '%s' has an impossible size", g->path,
                       t->name);
    span->name = t->name;
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
        return h->fail(e, LM_EINPUT, "%s: general.alignment is no power of two", g->path);
    uint64_t mask = (uint64_t)align - 1;
    uint64_t pad = (0 - (uint64_t)(c->p - start)) & mask;
    uint64_t left = pad > c->left ? 0 : c->left - pad;
    for (size_t i = 0; i < g->n_info; i++) {
        if (span[i].begin & mask)
            return h->fail(e, LM_EINPUT, "%s: tensor '%s' is not aligned", g->path,
                           g->info[i].name);
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
        s = parse_info(g, c, &g->info[i], &span[i], e);
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
        return f->h->fail(e, LM_EINPUT, "%s: big-endian GGUF files are not supported",
                          path);
    if (version != 2 && version != 3)
        return f->h->fail(e, LM_EINPUT, "%s: GGUF version %llu is not supported, only 2 "
                          "and 3", path, (unsigned long long)version);
    if (!number(&c, 8, &tensors) || !number(&c, 8, &pairs))
        return f->h->fail(e, LM_EINPUT, "%s: is truncated", path);
    /* a pair takes at least 13 bytes, a tensor 32 */
    if (pairs > GGUF_MAX_PAIRS || tensors > GGUF_MAX_TENSORS
        || pairs > c.left / 13 || tensors > c.left / 32)
        return f->h->fail(e, LM_EINPUT, "%s: %llu tensors and %llu keys cannot be right",
                          path, (unsigned long long)tensors, (unsigned long long)pairs);
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
