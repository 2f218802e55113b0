/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_own.c -- what the form of llama.cpp has no place for, in keys of ours.
 *
 *   lamina.family                      what the model was before it became llama
 *   lamina.context_length              where the written one is the shorter window
 *   lamina.eos_token_ids               all further ids that end a text
 *   lamina.generation_config           generation_config.json as it was
 *   lamina.stored_as_f16, ..._bf16     vectors that were in that number format
 *
 * Other readers pass over them; a file without them reads as a model that needs
 * none.  Readers want vectors in f32: f16 and bf16 go into it without loss, and
 * come back from it where nothing has changed the values since.                */
#include "gguf.h"

static const struct { const char *key; uint32_t dtype; } stored[] = {
    { "lamina.stored_as_f16", LM_F16 }, { "lamina.stored_as_bf16", LM_BF16 },
};
enum { N_STORED = sizeof stored / sizeof *stored, MAX_GENERATION = 1 << 20 };

static const char *const families[] = { "llama", "mistral", "qwen2", "qwen3" };

/* ---- reading -------------------------------------------------------------------- */

static enum lm_status bad(const struct gguf_file *g, const char *key, struct lm_err *e)
{
    return g->f->h->fail(e, LM_EINPUT, "%s: key %s is damaged", g->path, key);
}

static enum lm_status family(const struct gguf_file *g, struct lm_arch *a,
                             struct lm_err *e)
{
    const struct gguf_pair *p = gguf_find(g, "lamina.family");
    struct gguf_slice s;
    if (!p)
        return LM_OK;
    for (size_t i = 0; gguf_string(p, &s) && i < sizeof families / sizeof *families; i++)
        if (s.n == strlen(families[i]) && !memcmp(s.s, families[i], s.n)) {
            a->family = families[i];
            return LM_OK;
        }
    return bad(g, "lamina.family", e);
}

static enum lm_status ends(const struct gguf_file *g, struct lm_arch *a, int32_t *more,
                           struct lm_err *e)
{
    static const char *const single[] = { "tokenizer.ggml.eom_token_id",
                                          "tokenizer.ggml.eot_token_id" };
    const struct gguf_pair *p = gguf_find(g, "lamina.eos_token_ids");
    uint64_t n = p ? p->count : 2;
    int64_t v;
    if (p && (p->type != GGUF_ARRAY || n > GGUF_MAX_EOS))
        return bad(g, "lamina.eos_token_ids", e);
    a->eos_more = more;
    for (uint64_t i = 0; i < n && a->eos >= 0; i++) {
        const struct gguf_pair *k = p ? p : gguf_find(g, single[i]);
        bool have = k && gguf_integer(k, p ? i : 0, &v) && v >= 0 && v < a->vocab;
        if (p && !have)
            return bad(g, "lamina.eos_token_ids", e);
        bool known = have && v == a->eos;
        for (uint32_t j = 0; j < a->n_eos_more && !known; j++)
            known = v == more[j];
        if (have && !known)
            more[a->n_eos_more++] = (int32_t)v;
    }
    return LM_OK;
}

static enum lm_status generation(const struct gguf_file *g, char **out, struct lm_err *e)
{
    static const char key[] = "lamina.generation_config";
    const struct lm_host *h = g->f->h;
    const struct gguf_pair *p = gguf_find(g, key);
    struct lm_json *root = NULL;
    struct gguf_slice s;
    if (!p)
        return LM_OK;
    if (!gguf_string(p, &s) || s.n > MAX_GENERATION || !fmt_utf8(s.s, s.n))
        return bad(g, key, e);
    enum lm_status st = h->json->parse(s.s, s.n, key, &root, e);
    if (st)
        return st;
    bool object = h->json->type(root) == 'o';
    h->json->close(root);
    if (!object)
        return bad(g, key, e);
    *out = h->alloc(s.n + 1, "gguf");
    if (!*out)
        return h->fail(e, LM_ENOMEM, "out of memory for reading %s", g->path);
    memcpy(*out, s.s, s.n);
    return LM_OK;
}

static int by_name(const void *key, const void *info)
{
    const struct gguf_slice *s = key;
    const struct gguf_info *i = info;
    int c = strncmp(s->s, i->name, s->n);
    return c ? c : i->name[s->n] ? -1 : 0;
}

/* Marks the tensors that a list names; the file's are sorted by name. */
static enum lm_status mark(struct gguf_file *g, size_t which, struct lm_err *e)
{
    const struct gguf_pair *p = gguf_find(g, stored[which].key);
    if (!p)
        return LM_OK;
    if (p->type != GGUF_ARRAY || p->element != GGUF_STRING)
        return bad(g, stored[which].key, e);
    const char *at = p->value;
    for (uint64_t i = 0; i < p->count; i++) {
        struct gguf_slice s = gguf_next(&at);
        if (s.n >= GGUF_NAME || memchr(s.s, 0, s.n))
            continue;
        struct gguf_info *t = g->n_info ? bsearch(&s, g->info, g->n_info, sizeof *t,
                                                  by_name) : NULL;
        if (t)
            t->stored = stored[which].dtype;
    }
    return LM_OK;
}

enum lm_status gguf_own_read(struct gguf_file *g, struct lm_arch *a, struct gguf_own *o,
                             struct lm_err *e)
{
    const struct gguf_pair *p = gguf_find(g, "lamina.context_length");
    int64_t v;
    enum lm_status s = family(g, a, e);
    if (!s && p && (!gguf_integer(p, 0, &v) || v < a->context || v > 1 << 30))
        s = bad(g, "lamina.context_length", e);
    if (!s && p)
        a->context = (int32_t)v;
    if (!s)
        s = ends(g, a, o->more, e);
    if (!s)
        s = generation(g, &o->generation, e);
    a->generation = o->generation;
    for (size_t i = 0; i < N_STORED && !s; i++)
        s = mark(g, i, e);
    return s;
}

enum lm_status gguf_narrow(const struct gguf_file *g, struct lm_builder *b,
                           const struct gguf_info *i, struct lm_tensor *t,
                           struct lm_err *e)
{
    const struct lm_host *h = g->f->h;
    if (!i->stored || t->dtype != LM_F32 || t->rows != 1)
        return LM_OK;
    const struct lm_codec *c = h->codec(i->stored);
    size_t n = (size_t)t->cols * sizeof(float);
    char *to = h->alloc((size_t)t->cols * c->bytes, "weights");
    float *from = h->alloc(n, "weights"), *back = h->alloc(n, "weights");
    enum lm_status s = LM_OK;
    if (!to || !from || !back) {
        h->release(to);
        s = h->fail(e, LM_ENOMEM, "out of memory for tensor '%s'", i->name);
    } else {
        memcpy(from, t->data, n);
        c->encode(from, to, t->cols);
        c->decode(to, back, t->cols);
        h->keep(b, to);
        if (!memcmp(from, back, n)) {
            t->data = to;
            t->dtype = i->stored;
        }
    }
    h->release(from);
    h->release(back);
    return s;
}

/* ---- writing -------------------------------------------------------------------- */

/* Passes over the vectors of a number format; b NULL: only counts them. */
static uint64_t vectors(const struct fmt *f, const struct lm_model *m,
                        const struct gguf_shape *shape, uint32_t dtype,
                        struct fmt_buf *b)
{
    uint64_t n = 0;
    for (int32_t l = -1; l < shape->n; l++)
        for (uint32_t r = LM_W_FINAL_NORM; r < LM_N_ROLES; r++) {
            char name[GGUF_NAME];
            const struct lm_tensor *t;
            if ((r == LM_W_FINAL_NORM) != (l < 0) || gguf_is_matrix(r))
                continue;
            t = f->h->tensor(m, r, l < 0 ? -1 : shape->layer[l].from);
            if (!t || t->dtype != dtype || !gguf_role_name(r, l, name, sizeof name))
                continue;
            n++;
            if (b)
                gguf_put_string(b, name, strlen(name));
        }
    return n;
}

void gguf_own_write(const struct fmt *f, const struct lm_model *m,
                    const struct lm_export *x, const struct gguf_shape *shape,
                    struct gguf_keys *k)
{
    const struct lm_arch *a = f->h->arch(m);
    for (size_t i = 1; i < sizeof families / sizeof *families; i++)
        if (!strcmp(a->family, families[i]) && strcmp(a->family, shape->family))
            gguf_add_string(k, "lamina.family", a->family);
    if (a->window && a->window < a->context)
        gguf_add_u32(k, "lamina.context_length", a->context);
    if (a->n_eos_more)
        gguf_add_array(k, "lamina.eos_token_ids", GGUF_I32, a->n_eos_more);
    for (uint32_t i = 0; i < a->n_eos_more; i++)
        gguf_put_u32(k->b, (uint32_t)a->eos_more[i]);
    if (a->generation && strlen(a->generation) <= MAX_GENERATION)
        gguf_add_string(k, "lamina.generation_config", a->generation);
    for (size_t i = 0; i < N_STORED && !x->dtype; i++) {
        uint64_t n = vectors(f, m, shape, stored[i].dtype, NULL);
        if (!n)
            continue;
        gguf_add_array(k, stored[i].key, GGUF_STRING, n);
        vectors(f, m, shape, stored[i].dtype, k->b);
    }
}
