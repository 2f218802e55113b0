/* SPDX-License-Identifier: Apache-2.0 */
/* builder.c -- a model while a format reads it, or while a plan is applied.
 *
 * What comes in here was read from a file and is not trusted: every number is
 * checked against a limit that keeps all later products of sizes far inside 63
 * bits, and every tensor against the shape that the architecture gives its
 * role.  That a tensor's bytes lie inside the file is the format's to check.  */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "model/codec.h"
#include "model/model_impl.h"

enum {
    MAX_CONTEXT = 1 << 30, MAX_EOS_MORE = 1024, MAX_MERGES = 16 << 20,
    MAX_TOKEN_BYTES = 1 << 16, MAX_TEXT = 1 << 30
};

struct lm_builder {
    struct lm_model *m;
    bool full;          /* keep() could not grow its list: finish() fails      */
};

enum lm_status lm_builder_open(const char *source, struct lm_builder **b,
                               struct lm_err *e)
{
    *b = NULL;
    struct lm_builder *n = lm_alloc(sizeof *n, "builder");
    struct lm_model *m = lm_alloc(sizeof *m, "model");
    char *copy = lm_strdup(source ? source : "", "model");
    if (!n || !m || !copy || pthread_mutex_init(&m->hash_lock, NULL)) {
        lm_release(n);
        lm_release(m);
        lm_release(copy);
        return lm_fail_memory(e, sizeof *m, "a model");
    }
    m->source = copy;
    n->m = m;
    *b = n;
    return LM_OK;
}

void lm_builder_abandon(struct lm_builder *b)
{
    if (!b)
        return;
    lm_model_free(b->m);
    lm_release(b);
}

/* ---- architecture ----------------------------------------------------------- */

static enum lm_status in_range(const struct lm_model *m, const char *what, int64_t v,
                               int64_t low, int64_t high, struct lm_err *e)
{
    if (v >= low && v <= high)
        return LM_OK;
    return lm_fail(e, LM_EINPUT, "%s: %s is %lld; it must be between %lld and %lld",
                   m->source, what, (long long)v, (long long)low, (long long)high);
}

static enum lm_status real_in_range(const struct lm_model *m, const char *what, double v,
                                    double low, double high, struct lm_err *e)
{
    if (v >= low && v <= high)
        return LM_OK;
    return lm_fail(e, LM_EINPUT, "%s: %s is %g; it must be between %g and %g", m->source,
                   what, v, low, high);
}

static enum lm_status check_layer(const struct lm_model *m, int32_t i,
                                  const struct lm_layer_shape *l, struct lm_err *e)
{
    enum lm_status st = in_range(m, "the number of query heads", l->n_head, 0,
                                 LM_MAX_HEADS, e);
    if (!st)
        st = in_range(m, "the number of KV heads", l->n_kv, 0, LM_MAX_HEADS, e);
    if (!st)
        st = in_range(m, "the FFN width", l->n_ff, 0, LM_MAX_FF, e);
    if (!st && (!l->n_head != !l->n_kv || (l->n_kv && l->n_head % l->n_kv)))
        st = lm_fail(e, LM_EINPUT, "%s: layer %d has %d query heads and %d KV heads; the "
                     "first must be a multiple of the second", m->source, (int)i,
                     (int)l->n_head, (int)l->n_kv);
    return st;
}

static enum lm_status check_yarn(const struct lm_model *m, const struct lm_arch *a,
                                 struct lm_err *e)
{
    enum lm_status st = real_in_range(m, "beta_slow of RoPE scaling", a->rope_slow, 1e-6,
                                      1e6, e);
    if (!st)
        st = real_in_range(m, "beta_fast of RoPE scaling", a->rope_fast, a->rope_slow,
                           1e6, e);
    if (!st)
        st = real_in_range(m, "the attention factor of RoPE scaling", a->rope_attention,
                           1e-6, 1e6, e);
    if (!st && a->rope_theta <= 1)
        st = lm_fail(e, LM_EINPUT, "%s: rope_theta is %g; yarn scaling needs one above 1",
                     m->source, a->rope_theta);
    return st;
}

static enum lm_status check_rope(const struct lm_model *m, const struct lm_arch *a,
                                 struct lm_err *e)
{
    enum lm_status st = in_range(m, "the kind of RoPE scaling", a->rope, LM_ROPE_PLAIN,
                                 LM_ROPE_YARN, e);
    if (!st)
        st = real_in_range(m, "rope_theta", a->rope_theta, 1e-3, 1e15, e);
    if (!st && a->rope != LM_ROPE_PLAIN)
        st = real_in_range(m, "the RoPE scaling factor", a->rope_factor, 1e-6, 1e6, e);
    if (st || a->rope == LM_ROPE_PLAIN || a->rope == LM_ROPE_LINEAR)
        return st;
    st = real_in_range(m, "the original context of RoPE scaling", a->rope_context, 1,
                       MAX_CONTEXT, e);
    if (!st && a->rope == LM_ROPE_YARN)
        st = check_yarn(m, a, e);
    if (!st && a->rope == LM_ROPE_LLAMA3
        && !(a->rope_low > 0 && a->rope_high > a->rope_low && a->rope_high < 1e9))
        st = lm_fail(e, LM_EINPUT, "%s: the RoPE frequency factors are %g (low) and %g "
                     "(high); low must be above 0 and below high", m->source,
                     a->rope_low, a->rope_high);
    return st;
}

static enum lm_status check_arch(const struct lm_model *m, const struct lm_arch *a,
                                 struct lm_err *e)
{
    const struct { const char *what; int64_t v, low, high; } whole[] = {
        { "the number of layers", a->n_layer, 1, LM_MAX_LAYERS },
        { "the hidden width", a->hidden, 1, LM_MAX_HIDDEN },
        { "the head dimension", a->head_dim, 2, LM_MAX_HEAD_DIM },
        { "the size of the vocabulary", a->vocab, 1, LM_MAX_VOCAB },
        { "the context length", a->context, 1, MAX_CONTEXT },
        { "the BOS token", a->bos, -1, (int64_t)a->vocab - 1 },
        { "the EOS token", a->eos, -1, (int64_t)a->vocab - 1 },
        { "the padding token", a->pad, -1, (int64_t)a->vocab - 1 },
        { "the sliding window", a->window, 0, MAX_CONTEXT },
    };
    enum lm_status st = LM_OK;
    for (size_t i = 0; i < sizeof whole / sizeof *whole && !st; i++)
        st = in_range(m, whole[i].what, whole[i].v, whole[i].low, whole[i].high, e);
    if (!st)
        st = in_range(m, "the number of further EOS tokens", a->n_eos_more, 0,
                      a->eos_more ? MAX_EOS_MORE : 0, e);
    for (uint32_t i = 0; !st && i < a->n_eos_more; i++)
        st = in_range(m, "a further EOS token", a->eos_more[i], 0,
                      (int64_t)a->vocab - 1, e);
    if (!st && a->head_dim % 2)
        st = lm_fail(e, LM_EINPUT, "%s: the head dimension is %d; RoPE needs an even one",
                     m->source, (int)a->head_dim);
    if (!st)
        st = real_in_range(m, "the epsilon of RMSNorm", a->rms_eps, 0, 1, e);
    if (!st)
        st = check_rope(m, a, e);
    if (!st && (!a->layer || !a->family))
        st = lm_fail(e, LM_EBUG, "%s: an architecture without %s was given", m->source,
                     a->layer ? "a family" : "layer shapes");
    for (int32_t i = 0; !st && i < a->n_layer; i++)
        st = check_layer(m, i, &a->layer[i], e);
    return st;
}

/* Strings, layers and ids of the caller become the model's. */
static bool copy_arch(struct lm_model *m, const struct lm_arch *a)
{
    size_t n = (size_t)a->n_layer;
    struct lm_layer_shape *layer = lm_alloc_array(n, sizeof *layer, "model");
    int32_t *more = a->n_eos_more ? lm_alloc_array(a->n_eos_more, sizeof *more, "model")
                                  : NULL;
    m->arch = *a;
    m->arch.struct_size = sizeof m->arch;
    m->arch.family = lm_strdup(a->family, "model");
    m->arch.name = lm_strdup(a->name ? a->name : "", "model");
    m->arch.layer = layer;
    m->arch.eos_more = more;
    m->arch.generation = a->generation ? lm_strdup(a->generation, "model") : NULL;
    if (!layer || !m->arch.family || !m->arch.name || (a->n_eos_more && !more)
        || !m->arch.generation != !a->generation)
        return false;
    if (more)
        memcpy(more, a->eos_more, a->n_eos_more * sizeof *more);
    memcpy(layer, a->layer, n * sizeof *layer);
    return true;
}

enum lm_status lm_builder_arch(struct lm_builder *b, const struct lm_arch *given,
                               struct lm_err *e)
{
    struct lm_model *m = b->m;
    struct lm_arch a = { 0 };
    if (m->arch.struct_size || given->struct_size
        < offsetof(struct lm_arch, layer) + sizeof given->layer)
        return lm_fail(e, LM_EBUG, "%s: the architecture was given %s", m->source,
                       m->arch.struct_size ? "twice" : "without its struct_size");
    memcpy(&a, given, given->struct_size < sizeof a ? given->struct_size : sizeof a);
    enum lm_status st = check_arch(m, &a, e);
    if (st)
        return st;
    if (!copy_arch(m, &a))
        return lm_fail_memory(e, (size_t)a.n_layer * sizeof *a.layer, "an architecture");
    size_t n = N_GLOBAL_ROLES + (size_t)a.n_layer * N_LAYER_ROLES;
    m->slot = lm_alloc_array(n, sizeof *m->slot, "model");
    if (!m->slot)
        return lm_fail_memory(e, n * sizeof *m->slot, "the tensors' table");
    for (; m->n_slot < n; m->n_slot++)
        if (pthread_mutex_init(&m->slot[m->n_slot].lock, NULL))
            return lm_fail(e, LM_ENOMEM, "out of memory (locks of tensors)");
    return LM_OK;
}

/* ---- tensors ------------------------------------------------------------------ */

/* Products: rows and cols match a role's shape, each at most 2^24, and a row
 * takes at most 4 bytes a value: below 2^50.                                  */
static enum lm_status check_tensor(const struct lm_model *m, uint32_t role,
                                   int32_t layer, const struct lm_tensor *t,
                                   const char *name, struct lm_err *e)
{
    int64_t rows, cols;
    const struct lm_codec *c = lm_codec(t->dtype);
    if (!lm_role_shape(&m->arch, role, layer, &rows, &cols))
        return lm_fail(e, LM_EINPUT, "%s: tensor '%s' (%s of layer %d) has no place in "
                       "this architecture", m->source, name, lm_role_name(role),
                       (int)layer);
    if (t->rows != rows || t->cols != cols)
        return lm_fail(e, LM_EINPUT, "%s: tensor '%s' is %lld x %lld; the architecture "
                       "says %lld x %lld", m->source, name, (long long)t->rows,
                       (long long)t->cols, (long long)rows, (long long)cols);
    if (!c)
        return lm_fail(e, LM_EINPUT, "%s: tensor '%s' is in an unknown number format "
                       "(%u)", m->source, name, (unsigned)t->dtype);
    if (lm_row_bytes(t->dtype, cols) < 0)
        return lm_fail(e, LM_EINPUT, "%s: tensor '%s' has rows of %lld values; %s needs "
                       "a multiple of %u", m->source, name, (long long)cols, c->name,
                       (unsigned)c->block);
    if (!t->data)
        return lm_fail(e, LM_EBUG, "%s: tensor '%s' was added without data", m->source,
                       name);
    return LM_OK;
}

enum lm_status lm_builder_tensor(struct lm_builder *b, uint32_t role, int32_t layer,
                                 const struct lm_tensor *t, const char *name,
                                 struct lm_err *e)
{
    struct lm_model *m = b->m;
    const char *shown = name ? name : lm_role_name(role);
    if (!m->slot)
        return lm_fail(e, LM_EBUG, "%s: tensor '%s' was added before the architecture",
                       m->source, shown);
    if (b->full)
        return lm_fail(e, LM_ENOMEM, "%s: out of memory (list of kept blocks)",
                       m->source);
    enum lm_status st = check_tensor(m, role, layer, t, shown, e);
    if (st)
        return st;
    struct slot *s = lm_model_slot(m, role, layer);
    if (s->t.data)
        return lm_fail(e, LM_EINPUT, "%s: tensor '%s' (%s of layer %d) is there twice",
                       m->source, shown, lm_role_name(role), (int)layer);
    if (name && !(s->name = lm_strdup(name, "model")))
        return lm_fail_memory(e, strlen(name), "a tensor's name");
    s->t = *t;
    return LM_OK;
}

/* Room for one more element; the array doubles when it is half full, so that a
 * caller that cannot report a failure has room left for many more.            */
static bool room(void **array, size_t n, size_t *cap, size_t size)
{
    size_t bytes, want = *cap ? 2 * *cap : 64;
    if (n < *cap / 2)
        return true;
    void *p = lm_mul_size(want, size, &bytes) ? lm_resize(*array, bytes) : NULL;
    if (!p)
        return false;
    *array = p;
    *cap = want;
    return true;
}

enum lm_status lm_builder_take_map(struct lm_builder *b, struct lm_map map,
                                   struct lm_err *e)
{
    struct lm_model *m = b->m;
    void *array = m->map;
    bool ok = room(&array, m->n_map, &m->cap_map, sizeof *m->map);
    m->map = array;
    if (!ok) {
        lm_map_close(&map);
        return lm_fail_memory(e, m->cap_map * 2 * sizeof *m->map, "the list of files");
    }
    m->map[m->n_map++] = map;
    return LM_OK;
}

enum lm_status lm_builder_map(struct lm_builder *b, const char *path, const void **data,
                              size_t *n, struct lm_err *e)
{
    struct lm_map map;
    enum lm_status st = lm_map_open(&map, path, e);
    if (!st)
        st = lm_builder_take_map(b, map, e);
    if (st)
        return st;
    *data = map.data;
    *n = map.n;
    return LM_OK;
}

void lm_builder_keep(struct lm_builder *b, void *memory)
{
    struct lm_model *m = b->m;
    void *array = m->kept;
    if (!memory)
        return;
    if (!room(&array, m->n_kept, &m->cap_kept, sizeof *m->kept))
        b->full = true;
    m->kept = array;
    if (m->n_kept < m->cap_kept)
        m->kept[m->n_kept++] = memory;
    else            /* the model cannot be finished, so nothing will read it   */
        lm_release(memory);
}

/* ---- vocabulary ----------------------------------------------------------------- */

static enum lm_status check_vocabulary(const struct lm_model *m,
                                       const struct lm_vocabulary *v, size_t *bytes,
                                       struct lm_err *e)
{
    *bytes = 0;
    if (v->n_token > LM_MAX_VOCAB || v->n_merge > MAX_MERGES)
        return lm_fail(e, LM_EINPUT, "%s: a vocabulary of %zu tokens and %zu merges; at "
                       "most %d and %d are supported", m->source, v->n_token, v->n_merge,
                       (int)LM_MAX_VOCAB, (int)MAX_MERGES);
    if (v->model == LM_TOKENIZER_BYTES
        && (v->pre < LM_PRE_GPT2 || v->pre > LM_PRE_QWEN2))
        return lm_fail(e, LM_EINPUT, "%s: the vocabulary names an unknown pre-tokenizer "
                       "(%u)", m->source, (unsigned)v->pre);
    bool scores = v->model == LM_TOKENIZER_SCORES || v->model == LM_TOKENIZER_UNIGRAM;
    if (v->model > LM_TOKENIZER_UNIGRAM || v->prefix > LM_PREFIX_FIRST
        || (v->has_unk && v->unk >= v->n_token) || (scores && !v->score))
        return lm_fail(e, LM_EINPUT, "%s: the vocabulary has model %u, prefix %u, "
                       "unknown token %u and %s scores, which is not supported",
                       m->source, (unsigned)v->model, (unsigned)v->prefix,
                       (unsigned)v->unk, v->score ? "its" : "no");
    for (size_t i = 0; i < v->n_token; i++) {
        const struct lm_token *t = &v->token[i];
        if (t->kind < LM_TOKEN_NORMAL || t->kind > LM_TOKEN_BYTE
            || t->length > MAX_TOKEN_BYTES || (t->length && !t->text))
            return lm_fail(e, LM_EINPUT, "%s: token %zu of the vocabulary has kind %u "
                           "and %u bytes, which is not supported", m->source, i,
                           (unsigned)t->kind, (unsigned)t->length);
        *bytes += (size_t)t->length + 1;
    }
    if (*bytes > MAX_TEXT)
        return lm_fail(e, LM_EINPUT, "%s: the tokens of the vocabulary take %zu bytes; "
                       "at most %d are supported", m->source, *bytes, (int)MAX_TEXT);
    for (size_t i = 0; i < v->n_merge; i++)
        if (v->merge[i].left >= v->n_token || v->merge[i].right >= v->n_token)
            return lm_fail(e, LM_EINPUT, "%s: merge %zu joins tokens %u and %u, but the "
                           "vocabulary has %zu tokens", m->source, i,
                           (unsigned)v->merge[i].left, (unsigned)v->merge[i].right,
                           v->n_token);
    return LM_OK;
}

/* What was allocated before a failure is freed with the model. */
static bool copy_vocabulary(struct lm_model *m, const struct lm_vocabulary *v,
                            size_t bytes)
{
    struct lm_vocabulary *c = m->vocabulary = lm_alloc(sizeof *c, "vocabulary");
    if (!c)
        return false;
    struct lm_token *token = lm_alloc_array(v->n_token + 1, sizeof *token, "vocabulary");
    struct lm_merge *merge = lm_alloc_array(v->n_merge + 1, sizeof *merge, "vocabulary");
    char *text = m->vocabulary_text = lm_alloc(bytes + 1, "vocabulary");
    double *score = v->score ? lm_alloc_array(v->n_token + 1, sizeof *score, "vocabulary")
                             : NULL;
    *c = *v;
    c->struct_size = sizeof *c;
    c->chat_template = NULL;
    c->token = token;
    c->merge = merge;
    c->score = score;
    if (v->chat_template)
        c->chat_template = lm_strdup(v->chat_template, "vocabulary");
    if (!token || !merge || !text || !c->chat_template != !v->chat_template
        || !score != !v->score)
        return false;
    if (score && v->n_token)
        memcpy(score, v->score, v->n_token * sizeof *score);
    for (size_t i = 0; i < v->n_token; i++) {
        token[i] = v->token[i];
        token[i].text = text;
        if (token[i].length)
            memcpy(text, v->token[i].text, token[i].length);
        text += (size_t)token[i].length + 1;            /* the pool is zeroed */
    }
    if (v->n_merge)
        memcpy(merge, v->merge, v->n_merge * sizeof *merge);
    return true;
}

enum lm_status lm_builder_vocabulary(struct lm_builder *b,
                                     const struct lm_vocabulary *given, struct lm_err *e)
{
    struct lm_model *m = b->m;
    struct lm_vocabulary v = { 0 };
    size_t bytes;
    if (m->vocabulary || given->struct_size
        < offsetof(struct lm_vocabulary, chat_template) + sizeof given->chat_template)
        return lm_fail(e, LM_EBUG, "%s: the vocabulary was given %s", m->source,
                       m->vocabulary ? "twice" : "without its struct_size");
    memcpy(&v, given, given->struct_size < sizeof v ? given->struct_size : sizeof v);
    enum lm_status st = check_vocabulary(m, &v, &bytes, e);
    if (!st && !copy_vocabulary(m, &v, bytes))
        st = lm_fail_memory(e, bytes, "a vocabulary");
    return st;
}

/* ---- the end ---------------------------------------------------------------------- */

static bool optional(uint32_t role)
{
    return role >= LM_B_Q;          /* biases, and norms of q and k            */
}

/* Counts what is missing and names the first few in list. */
static size_t missing(const struct lm_model *m, char *list, size_t size)
{
    size_t n = 0, used = 0;
    char what[96];
    int64_t rows, cols;
    for (int32_t layer = -1; layer < m->arch.n_layer; layer++)
        for (uint32_t r = 1; r < LM_N_ROLES; r++) {
            if (lm_role_is_layer(r) != (layer >= 0) || optional(r)
                || !lm_role_shape(&m->arch, r, layer, &rows, &cols)
                || lm_model_tensor(m, r, layer))
                continue;
            lm_slot_describe(m, lm_model_slot(m, r, layer), what, sizeof what);
            if (n++ < 6 && used < size)
                used += (size_t)snprintf(list + used, size - used, "%s%s",
                                         used ? ", " : "", what);
        }
    return n;
}

/* Norms are short: a file damaged in many places is noticed at once. */
static enum lm_status check_norms(const struct lm_model *m, struct lm_err *e)
{
    float *buffer = lm_alloc_array((size_t)m->arch.hidden + (size_t)m->arch.head_dim,
                                   sizeof *buffer, "check");
    if (!buffer)
        return lm_fail_memory(e, (size_t)m->arch.hidden * sizeof *buffer, "norms");
    enum lm_status st = LM_OK;
    int64_t row, col;
    char what[256];
    static const uint32_t norm[] = { LM_W_FINAL_NORM, LM_W_ATTN_NORM, LM_W_MLP_NORM,
                                     LM_W_Q_NORM, LM_W_K_NORM };
    for (int32_t layer = 0; layer < m->arch.n_layer && !st; layer++)
        for (size_t i = 0; i < sizeof norm / sizeof *norm && !st; i++) {
            const struct slot *s = lm_model_slot(m, norm[i], layer);
            if (!s->t.data || !lm_tensor_bad(&s->t, buffer, &row, &col))
                continue;
            lm_slot_describe(m, s, what, sizeof what);
            st = lm_fail(e, LM_EINPUT, "%s: %s: value %lld is not a finite number; the "
                         "file is damaged", m->source, what, (long long)col);
        }
    lm_release(buffer);
    return st;
}

static enum lm_status check_all(const struct lm_builder *b, struct lm_err *e)
{
    const struct lm_model *m = b->m;
    char list[640] = "";
    if (!m->slot)
        return lm_fail(e, LM_EBUG, "%s: the model was finished without an architecture",
                       m->source);
    if (b->full)
        return lm_fail(e, LM_ENOMEM, "%s: out of memory (list of kept blocks)",
                       m->source);
    size_t n = missing(m, list, sizeof list);
    if (n)
        return lm_fail(e, LM_EINPUT, "%s: %zu tensor%s missing: %s%s", m->source, n,
                       n > 1 ? "s are" : " is", list, n > 6 ? ", ..." : "");
    for (int32_t i = 0; i < m->arch.n_layer; i++)
        if (!lm_model_tensor(m, LM_W_Q_NORM, i) != !lm_model_tensor(m, LM_W_K_NORM, i))
            return lm_fail(e, LM_EINPUT, "%s: layer %d has only one of the norms of q "
                           "and k", m->source, (int)i);
    if (m->vocabulary && m->vocabulary->n_token > (size_t)m->arch.vocab)
        return lm_fail(e, LM_EINPUT, "%s: the tokenizer has %zu tokens, but the "
                       "embedding has %d rows", m->source, m->vocabulary->n_token,
                       (int)m->arch.vocab);
    return check_norms(m, e);
}

enum lm_status lm_builder_finish(struct lm_builder *b, struct lm_model **m,
                                 struct lm_err *e)
{
    *m = NULL;
    enum lm_status st = check_all(b, e);
    if (!st) {
        *m = b->m;
        b->m = NULL;
    }
    lm_builder_abandon(b);
    return st;
}
