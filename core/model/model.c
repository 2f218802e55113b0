/* SPDX-License-Identifier: Apache-2.0 */
/* model.c -- reading a model: roles and shapes, tensors, decoded floats, hash.
 *
 * A model never changes, but for two caches that any thread may fill: decoded
 * tensors (one lock each, so that different tensors decode in parallel; the
 * pointer is published with release order) and the hash.
 *
 * No weight that is NaN or infinite gets out of here as a float: whoever asks
 * first is told which tensor has one.                                         */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "model/codec.h"
#include "model/model_impl.h"

static const char *const role_name[LM_N_ROLES] = {
    [LM_W_EMBED] = "embed", [LM_W_HEAD] = "head", [LM_W_FINAL_NORM] = "final_norm",
    [LM_W_ATTN_NORM] = "attn_norm", [LM_W_Q] = "q", [LM_W_K] = "k", [LM_W_V] = "v",
    [LM_W_O] = "o", [LM_W_MLP_NORM] = "mlp_norm", [LM_W_GATE] = "gate",
    [LM_W_UP] = "up", [LM_W_DOWN] = "down", [LM_B_Q] = "q_bias", [LM_B_K] = "k_bias",
    [LM_B_V] = "v_bias", [LM_B_O] = "o_bias", [LM_B_GATE] = "gate_bias",
    [LM_B_UP] = "up_bias", [LM_B_DOWN] = "down_bias", [LM_W_Q_NORM] = "q_norm",
    [LM_W_K_NORM] = "k_norm",
};

const char *lm_role_name(uint32_t role)
{
    return role > 0 && role < LM_N_ROLES ? role_name[role] : "unknown";
}

bool lm_role_is_layer(uint32_t role)
{
    return role >= FIRST_LAYER_ROLE && role < LM_N_ROLES;
}

bool lm_role_is_matrix(uint32_t role)
{
    switch (role) {
    case LM_W_EMBED: case LM_W_HEAD:
    case LM_W_Q: case LM_W_K: case LM_W_V: case LM_W_O:
    case LM_W_GATE: case LM_W_UP: case LM_W_DOWN:
        return true;
    default:
        return false;
    }
}

static bool shaped(int64_t r, int64_t c, int64_t *rows, int64_t *cols)
{
    *rows = r;
    *cols = c;
    return r > 0 && c > 0;
}

/* Roles of one layer; an absent block has n_head or n_ff 0 and so no shape. */
static bool layer_shape(const struct lm_arch *a, uint32_t role,
                        const struct lm_layer_shape *l, int64_t *rows, int64_t *cols)
{
    int64_t d = a->hidden, h = a->head_dim;
    int64_t q = l->n_head * h, kv = l->n_kv * h, ff = l->n_ff;
    switch (role) {
    case LM_W_ATTN_NORM: return shaped(q ? 1 : 0, d, rows, cols);
    case LM_W_Q:         return shaped(q, d, rows, cols);
    case LM_W_K:
    case LM_W_V:         return shaped(kv, d, rows, cols);
    case LM_W_O:         return shaped(d, q, rows, cols);
    case LM_W_MLP_NORM:  return shaped(ff ? 1 : 0, d, rows, cols);
    case LM_W_GATE:
    case LM_W_UP:        return shaped(ff, d, rows, cols);
    case LM_W_DOWN:      return shaped(d, ff, rows, cols);
    case LM_B_Q:         return shaped(1, q, rows, cols);
    case LM_B_K:
    case LM_B_V:         return shaped(1, kv, rows, cols);
    case LM_B_O:         return shaped(q ? 1 : 0, d, rows, cols);
    case LM_B_GATE:
    case LM_B_UP:        return shaped(1, ff, rows, cols);
    case LM_B_DOWN:      return shaped(ff ? 1 : 0, d, rows, cols);
    case LM_W_Q_NORM:
    case LM_W_K_NORM:    return shaped(q ? 1 : 0, h, rows, cols);
    default:             return false;
    }
}

bool lm_role_shape(const struct lm_arch *a, uint32_t role, int32_t layer,
                   int64_t *rows, int64_t *cols)
{
    switch (role) {
    case LM_W_EMBED:      return shaped(a->vocab, a->hidden, rows, cols);
    case LM_W_HEAD:       return shaped(a->tied ? 0 : a->vocab, a->hidden, rows, cols);
    case LM_W_FINAL_NORM: return shaped(1, a->hidden, rows, cols);
    default:
        return lm_role_is_layer(role) && layer >= 0 && layer < a->n_layer
            && layer_shape(a, role, &a->layer[layer], rows, cols);
    }
}

struct slot *lm_model_slot(const struct lm_model *m, uint32_t role, int32_t layer)
{
    if (!m->slot || !role || role >= LM_N_ROLES)
        return NULL;
    if (!lm_role_is_layer(role))
        return &m->slot[role - LM_W_EMBED];
    if (layer < 0 || layer >= m->arch.n_layer)
        return NULL;
    return &m->slot[N_GLOBAL_ROLES + (size_t)layer * N_LAYER_ROLES
                    + (role - FIRST_LAYER_ROLE)];
}

void lm_slot_describe(const struct lm_model *m, const struct slot *s, char *out, size_t n)
{
    size_t i = (size_t)(s - m->slot);
    if (s->name)
        snprintf(out, n, "tensor '%s'", s->name);
    else if (i < N_GLOBAL_ROLES)
        snprintf(out, n, "tensor %s", lm_role_name(LM_W_EMBED + (uint32_t)i));
    else
        snprintf(out, n, "tensor %s of layer %zu",
                 lm_role_name(FIRST_LAYER_ROLE
                              + (uint32_t)((i - N_GLOBAL_ROLES) % N_LAYER_ROLES)),
                 (i - N_GLOBAL_ROLES) / N_LAYER_ROLES);
}

const struct lm_arch *lm_model_arch(const struct lm_model *m)
{
    return &m->arch;
}

const struct lm_vocabulary *lm_model_vocabulary(const struct lm_model *m)
{
    return m->vocabulary;
}

const char *lm_model_source(const struct lm_model *m)
{
    return m->source;
}

const struct lm_tensor *lm_model_tensor(const struct lm_model *m, uint32_t role,
                                        int32_t layer)
{
    const struct slot *s = lm_model_slot(m, role, layer);
    return s && s->t.data ? &s->t : NULL;
}

/* Row sizes were checked when the tensor was added, so nothing overflows. */
static void decode_rows(const struct lm_tensor *t, int64_t first, int64_t n, float *out)
{
    const struct lm_codec *c = lm_codec(t->dtype);
    const unsigned char *p = t->data;
    int64_t bytes = lm_row_bytes(t->dtype, t->cols);
    for (int64_t i = 0; i < n; i++)
        c->decode(p + (first + i) * bytes, out + i * t->cols, t->cols);
}

/* A magnitude above the largest float, as bits, is infinite or NaN. */
static bool row_bad(const float *x, int64_t n)
{
    enum { GROUP = 64 };
    uint32_t u[GROUP], most = 0;
    int64_t i = 0;
    for (; i + GROUP <= n; i += GROUP) {
        memcpy(u, x + i, sizeof u);
        for (int j = 0; j < GROUP; j++)
            most |= (uint32_t)((u[j] & 0x7f800000u) == 0x7f800000u);
    }
    for (; i < n; i++)
        most |= !isfinite(x[i]);
    return most;
}

static int64_t first_bad(const float *x, int64_t n)
{
    int64_t j = 0;
    while (j < n && isfinite(x[j]))
        j++;
    return j;
}

static enum lm_status fail_value(const struct lm_model *m, const struct slot *s,
                                 int64_t row, int64_t col, struct lm_err *e)
{
    char what[256];
    lm_slot_describe(m, s, what, sizeof what);
    return lm_fail(e, LM_EINPUT, "%s: %s: the value in row %lld, column %lld is not a "
                   "finite number; the file is damaged", m->source, what,
                   (long long)row, (long long)col);
}

/* Each row is looked at while it is in the cache, which costs next to nothing. */
static enum lm_status decode_finite(const struct lm_model *m, const struct slot *s,
                                    int64_t first, int64_t n, float *out,
                                    struct lm_err *e)
{
    int64_t cols = s->t.cols;
    for (int64_t i = 0; i < n; i++) {
        float *x = out + i * cols;
        decode_rows(&s->t, first + i, 1, x);
        if (row_bad(x, cols))
            return fail_value(m, s, first + i, first_bad(x, cols), e);
    }
    return LM_OK;
}

enum lm_status lm_model_rows(const struct lm_model *m, uint32_t role, int32_t layer,
                             int64_t first, int64_t n, float *out, struct lm_err *e)
{
    const struct lm_tensor *t = lm_model_tensor(m, role, layer);
    if (!t)
        return lm_fail(e, LM_EBUG, "%s: rows of tensor %s of layer %d were asked for, "
                       "but the model has no such tensor", m->source, lm_role_name(role),
                       (int)layer);
    if (first < 0 || n < 0 || first > t->rows || n > t->rows - first)
        return lm_fail(e, LM_EBUG, "%s: tensor %s has %lld rows; %lld from row %lld were "
                       "asked for", m->source, lm_role_name(role), (long long)t->rows,
                       (long long)n, (long long)first);
    return decode_finite(m, lm_model_slot(m, role, layer), first, n, out, e);
}

static enum lm_status decode_slot(const struct lm_model *m, const struct slot *s,
                                  float **out, struct lm_err *e)
{
    size_t n = (size_t)s->t.rows * (size_t)s->t.cols;
    float *f = lm_alloc_array(n, sizeof *f, "weights");
    if (!f)
        return lm_fail_memory(e, n * sizeof *f, "decoded weights");
    enum lm_status st = decode_finite(m, s, 0, s->t.rows, f, e);
    if (st)
        lm_release(f);
    else
        *out = f;
    return st;
}

/* Floats that are used where they are mapped are looked at once. */
static enum lm_status look_at(const struct lm_model *m, struct slot *s, struct lm_err *e)
{
    const float *x = s->t.data;
    if (atomic_load_explicit(&s->finite, memory_order_relaxed))
        return LM_OK;
    for (int64_t i = 0; i < s->t.rows; i++, x += s->t.cols)
        if (row_bad(x, s->t.cols))
            return fail_value(m, s, i, first_bad(x, s->t.cols), e);
    atomic_store_explicit(&s->finite, true, memory_order_relaxed);
    return LM_OK;
}

static bool in_place(const struct lm_tensor *t)
{
    return t->dtype == LM_F32 && (uintptr_t)t->data % _Alignof(float) == 0;
}

bool lm_model_in_place(const struct lm_model *m, uint32_t role, int32_t layer)
{
    const struct lm_tensor *t = lm_model_tensor(m, role, layer);
    return t && in_place(t);
}

size_t lm_model_float_bytes(const struct lm_model *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n_slot; i++) {
        const struct lm_tensor *t = &m->slot[i].t;
        if (t->data && t->rows > 1 && !in_place(t))
            n += (size_t)t->rows * (size_t)t->cols * sizeof(float);
    }
    return n;
}

enum lm_status lm_model_floats(const struct lm_model *m, uint32_t role, int32_t layer,
                               const float **out, struct lm_err *e)
{
    struct slot *s = lm_model_slot(m, role, layer);
    *out = NULL;
    if (!s || !s->t.data)
        return LM_OK;
    if (in_place(&s->t)) {
        enum lm_status st = look_at(m, s, e);
        if (!st)
            *out = s->t.data;
        return st;
    }
    float *f = atomic_load_explicit(&s->floats, memory_order_acquire);
    if (!f) {
        enum lm_status st = LM_OK;
        pthread_mutex_lock(&s->lock);
        f = atomic_load_explicit(&s->floats, memory_order_relaxed);
        if (!f && !(st = decode_slot(m, s, &f, e)))
            atomic_store_explicit(&s->floats, f, memory_order_release);
        pthread_mutex_unlock(&s->lock);
        if (st)
            return st;
    }
    *out = f;
    return LM_OK;
}

/* Numbers one by one: structs have padding and pointers. */
static uint64_t hash_real(double v, uint64_t h)
{
    uint64_t u;
    memcpy(&u, &v, sizeof u);
    return lm_hash_u64(u, h);
}

static uint64_t hash_arch(const struct lm_arch *a)
{
    const int64_t whole[] = {
        a->n_layer, a->hidden, a->head_dim, a->vocab, a->context, a->rope, a->tied,
        a->bos, a->eos, a->pad, a->add_bos
    }, newer[] = { a->window, a->rope_exact };
    const double real[] = {
        a->rms_eps, a->rope_theta, a->rope_factor, a->rope_low, a->rope_high,
        a->rope_context
    }, yarn[] = { a->rope_fast, a->rope_slow, a->rope_attention };
    uint64_t h = lm_hash_str(a->family, 1);
    for (uint32_t i = 0; i < a->n_eos_more; i++)
        h = lm_hash_u64((uint64_t)a->eos_more[i], h);
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        h = lm_hash_u64((uint64_t)whole[i], h);
    for (size_t i = 0; i < sizeof real / sizeof *real; i++)
        h = hash_real(real[i], h);
    for (size_t i = 0; i < 2 && newer[i]; i++)      /* older hashes stay what they were */
        h = lm_hash_u64((uint64_t)newer[i] << 1 | (i & 1), h);
    for (size_t i = 0; i < 3 && a->rope == LM_ROPE_YARN; i++)
        h = hash_real(yarn[i], h);
    for (int32_t i = 0; i < a->n_layer; i++) {
        h = lm_hash_u64((uint64_t)a->layer[i].n_head, h);
        h = lm_hash_u64((uint64_t)a->layer[i].n_kv, h);
        h = lm_hash_u64((uint64_t)a->layer[i].n_ff, h);
    }
    return h;
}

static uint64_t hash_model(const struct lm_model *m)
{
    uint64_t h = hash_arch(&m->arch);
    for (size_t i = 0; i < m->n_slot; i++) {
        const struct lm_tensor *t = &m->slot[i].t;
        if (!t->data)
            continue;
        h = lm_hash_u64(i, h);
        h = lm_hash_u64(t->dtype, h);
        h = lm_hash_u64((uint64_t)t->rows, h);
        h = lm_hash_u64((uint64_t)t->cols, h);
        h = lm_hash(t->data, (size_t)(t->rows * lm_row_bytes(t->dtype, t->cols)), h);
    }
    return h;
}

uint64_t lm_model_hash(const struct lm_model *model)
{
    struct lm_model *m = (struct lm_model *)model;      /* only the cache changes */
    if (!atomic_load_explicit(&m->hashed, memory_order_acquire)) {
        pthread_mutex_lock(&m->hash_lock);
        if (!atomic_load_explicit(&m->hashed, memory_order_relaxed)) {
            atomic_store_explicit(&m->hash, hash_model(m), memory_order_relaxed);
            atomic_store_explicit(&m->hashed, true, memory_order_release);
        }
        pthread_mutex_unlock(&m->hash_lock);
    }
    return atomic_load_explicit(&m->hash, memory_order_relaxed);
}

bool lm_tensor_bad(const struct lm_tensor *t, float *buffer, int64_t *row, int64_t *col)
{
    for (int64_t i = 0; i < t->rows; i++) {
        decode_rows(t, i, 1, buffer);
        if (!row_bad(buffer, t->cols))
            continue;
        *row = i;
        *col = first_bad(buffer, t->cols);
        return true;
    }
    return false;
}

enum lm_status lm_model_check(const struct lm_model *m, struct lm_err *e)
{
    int64_t widest = 1, row, col;
    for (size_t i = 0; i < m->n_slot; i++)
        if (m->slot[i].t.data && m->slot[i].t.cols > widest)
            widest = m->slot[i].t.cols;
    float *buffer = lm_alloc_array((size_t)widest, sizeof *buffer, "check");
    if (!buffer)
        return lm_fail_memory(e, (size_t)widest * sizeof *buffer, "checking weights");
    enum lm_status st = LM_OK;
    for (size_t i = 0; i < m->n_slot && !st; i++) {
        const struct slot *s = &m->slot[i];
        if (s->t.data && lm_tensor_bad(&s->t, buffer, &row, &col))
            st = fail_value(m, s, row, col, e);
    }
    lm_release(buffer);
    return st;
}

void lm_model_free(struct lm_model *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->n_slot; i++) {
        lm_release(atomic_load(&m->slot[i].floats));
        lm_release(m->slot[i].name);
        pthread_mutex_destroy(&m->slot[i].lock);
    }
    lm_release(m->slot);
    lm_release((void *)m->arch.family);
    lm_release((void *)m->arch.name);
    lm_release((void *)m->arch.layer);
    lm_release((void *)m->arch.eos_more);
    lm_release((void *)m->arch.generation);
    if (m->vocabulary) {
        lm_release((void *)m->vocabulary->token);
        lm_release((void *)m->vocabulary->merge);
        lm_release((void *)m->vocabulary->score);
        lm_release((void *)m->vocabulary->chat_template);
        lm_release(m->vocabulary);
    }
    lm_release(m->vocabulary_text);
    for (size_t i = 0; i < m->n_map; i++)
        lm_map_close(&m->map[i]);
    lm_release(m->map);
    for (size_t i = 0; i < m->n_kept; i++)
        lm_release(m->kept[i]);
    lm_release(m->kept);
    lm_release(m->source);
    pthread_mutex_destroy(&m->hash_lock);
    lm_release(m);
}
