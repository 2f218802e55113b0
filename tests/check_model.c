/* SPDX-License-Identifier: Apache-2.0 */
/* check_model.c -- building a model, what is refused, decoded floats from many
 * threads, hash, value check, and every allocation failing once.
 *
 * The model under test has two layers and hidden 32; some tests take out an
 * attention or an MLP block.  Tensor values are a known function of place.    */
#include <math.h>
#include <pthread.h>

#include "model/codec.h"
#include "model/model.h"
#include "testing.h"

enum { HIDDEN = 32, LAYERS = 2, VOCAB = 40 };

static struct lm_err err;
static struct lm_layer_shape layers[LAYERS];
static struct lm_arch arch;

static void setup(void)
{
    layers[0] = (struct lm_layer_shape){ 4, 2, 64, 0 };
    layers[1] = (struct lm_layer_shape){ 2, 2, 32, 0 };
    arch = (struct lm_arch){
        .struct_size = sizeof arch, .n_layer = LAYERS, .hidden = HIDDEN, .head_dim = 16,
        .vocab = VOCAB, .context = 128, .family = "llama", .name = "test",
        .rms_eps = 1e-5, .rope_theta = 10000, .tied = true, .bos = 1, .eos = 2,
        .pad = -1, .layer = layers
    };
}

static float value_at(uint32_t role, int32_t layer, int64_t i)
{
    return (float)((i * 7 + role * 3 + (uint32_t)layer * 5 + 1) % 16) / 8 - 1;
}

/* Encodes a tensor of the given role; NULL when there is no memory. */
static void *make(uint32_t role, int32_t layer, uint32_t dtype, struct lm_tensor *t)
{
    const struct lm_codec *c = lm_codec(dtype);
    float row[4096];
    *t = (struct lm_tensor){ .dtype = dtype };
    ck_assert(lm_role_shape(&arch, role, layer, &t->rows, &t->cols));
    ck_assert_int_le(t->cols, 4096);
    int64_t bytes = lm_row_bytes(dtype, t->cols);
    unsigned char *p = lm_alloc((size_t)(bytes * t->rows), "test");
    for (int64_t i = 0; p && i < t->rows; i++) {
        for (int64_t j = 0; j < t->cols; j++)
            row[j] = value_at(role, layer, i * t->cols + j);
        c->encode(row, p + i * bytes, t->cols);
    }
    t->data = p;
    return p;
}

static enum lm_status add(struct lm_builder *b, uint32_t role, int32_t layer,
                          uint32_t dtype)
{
    struct lm_tensor t;
    void *p = make(role, layer, dtype, &t);
    if (!p)
        return lm_fail_memory(&err, 1, "test");
    lm_builder_keep(b, p);
    return lm_builder_tensor(b, role, layer, &t, lm_role_is_layer(role) ? NULL : "x.w",
                             &err);
}

/* All roles that layers must have, but for one. */
static enum lm_status add_all(struct lm_builder *b, uint32_t dtype, uint32_t not_role,
                              int32_t not_layer)
{
    enum lm_status st = LM_OK;
    int64_t r, c;
    for (uint32_t role = 1; role < LM_B_Q && !st; role++)
        for (int32_t l = 0; l < (lm_role_is_layer(role) ? LAYERS : 1) && !st; l++)
            if (lm_role_shape(&arch, role, l, &r, &c)
                && !(role == not_role && l == not_layer))
                st = add(b, role, l, lm_role_is_matrix(role) ? dtype : LM_F32);
    return st;
}

static enum lm_status build(uint32_t dtype, struct lm_model **m)
{
    struct lm_builder *b;
    *m = NULL;
    enum lm_status st = lm_builder_open("test.gguf", &b, &err);
    if (st)
        return st;
    st = lm_builder_arch(b, &arch, &err);
    if (!st)
        st = add_all(b, dtype, 0, 0);
    if (st) {
        lm_builder_abandon(b);
        return st;
    }
    return lm_builder_finish(b, m, &err);
}

/* The architecture as it is now must be refused, in words that contain `word`. */
static void refused(const char *word)
{
    struct lm_builder *b;
    ck_assert_int_eq(lm_builder_open("m", &b, &err), LM_OK);
    enum lm_status st = lm_builder_arch(b, &arch, &err);
    ck_assert_msg(st == LM_EINPUT && strstr(err.text, word), "status %d: %s", st,
                  err.text);
    lm_builder_abandon(b);
    setup();
}

START_TEST(tensors_come_back)
{
    for (uint32_t dtype = LM_F32; lm_codec(dtype)->encode; dtype++) {
        struct lm_model *m;
        ck_assert_msg(build(dtype, &m) == LM_OK, "%s", err.text);
        ck_assert_int_eq(lm_model_check(m, &err), LM_OK);
        ck_assert_str_eq(lm_model_source(m), "test.gguf");
        ck_assert_str_eq(lm_model_arch(m)->family, "llama");
        ck_assert_ptr_ne(lm_model_arch(m)->layer, layers);
        ck_assert_ptr_null(lm_model_tensor(m, LM_W_HEAD, 0));
        ck_assert_ptr_null(lm_model_tensor(m, LM_W_Q, LAYERS));
        ck_assert_ptr_null(lm_model_tensor(m, LM_W_Q, -1));
        ck_assert_ptr_null(lm_model_tensor(m, LM_N_ROLES, 0));
        ck_assert_ptr_null(lm_model_vocabulary(m));
        const float *f, *again;
        ck_assert_int_eq(lm_model_floats(m, LM_W_DOWN, 1, &f, &err), LM_OK);
        ck_assert_int_eq(lm_model_floats(m, LM_W_DOWN, 1, &again, &err), LM_OK);
        ck_assert_ptr_eq(f, again);
        if (dtype == LM_F32)                        /* no copy */
            ck_assert_ptr_eq(f, lm_model_tensor(m, LM_W_DOWN, 1)->data);
        float rows[2 * 32];
        ck_assert_int_eq(lm_model_rows(m, LM_W_DOWN, 1, 3, 2, rows, &err), LM_OK);
        ck_assert_mem_eq(rows, f + 3 * 32, sizeof rows);
        for (int i = 0; i < HIDDEN * 32; i++)
            ck_assert(f[i] == value_at(LM_W_DOWN, 1, i) || dtype >= LM_Q8_0);
        for (int i = 0; i < HIDDEN * 32; i++)
            ck_assert(fabsf(f[i] - value_at(LM_W_DOWN, 1, i)) < 0.13f);
        ck_assert_int_eq(lm_model_floats(m, LM_B_Q, 0, &f, &err), LM_OK);
        ck_assert_ptr_null(f);
        ck_assert_int_eq(lm_model_rows(m, LM_B_Q, 0, 0, 1, rows, &err), LM_EBUG);
        ck_assert_int_eq(lm_model_rows(m, LM_W_DOWN, 1, 31, 2, rows, &err), LM_EBUG);
        ck_assert_int_eq(lm_model_rows(m, LM_W_DOWN, 1, INT64_MAX, 2, rows, &err),
                         LM_EBUG);
        ck_assert_int_eq(lm_model_rows(m, LM_W_DOWN, 1, -1, 1, rows, &err), LM_EBUG);
        lm_model_free(m);
    }
    ck_assert_int_eq(lm_mem_blocks(), 0);
}
END_TEST

START_TEST(unaligned_floats_are_copied)
{
    struct lm_builder *b;
    struct lm_model *m;
    struct lm_tensor t;
    ck_assert_ok(lm_builder_open("m", &b, &err), err);
    ck_assert_ok(lm_builder_arch(b, &arch, &err), err);
    ck_assert_ok(add_all(b, LM_F32, LM_W_V, 1), err);
    void *p = make(LM_W_V, 1, LM_F32, &t);
    char *odd = lm_alloc(32 * 32 * 4 + 1, "test");
    memcpy(odd + 1, p, 32 * 32 * 4);
    t.data = odd + 1;
    lm_builder_keep(b, odd);
    ck_assert_ok(lm_builder_tensor(b, LM_W_V, 1, &t, "v", &err), err);
    ck_assert_ok(lm_builder_finish(b, &m, &err), err);
    const float *f;
    ck_assert_ok(lm_model_floats(m, LM_W_V, 1, &f, &err), err);
    ck_assert((uintptr_t)f % 64 == 0);
    ck_assert_mem_eq(f, p, 32 * 32 * 4);
    ck_assert_int_eq(lm_model_check(m, &err), LM_OK);
    lm_release(p);
    lm_model_free(m);
    ck_assert_int_eq(lm_mem_blocks(), 0);
}
END_TEST

START_TEST(shapes)
{
    static const struct { uint32_t role; int64_t rows, cols; } want[] = {
        { LM_W_EMBED, 40, 32 }, { LM_W_FINAL_NORM, 1, 32 }, { LM_W_ATTN_NORM, 1, 32 },
        { LM_W_Q, 64, 32 }, { LM_W_K, 32, 32 }, { LM_W_V, 32, 32 }, { LM_W_O, 32, 64 },
        { LM_W_MLP_NORM, 1, 32 }, { LM_W_GATE, 64, 32 }, { LM_W_UP, 64, 32 },
        { LM_W_DOWN, 32, 64 }, { LM_B_Q, 1, 64 }, { LM_B_K, 1, 32 }, { LM_B_V, 1, 32 },
        { LM_B_O, 1, 32 }, { LM_B_GATE, 1, 64 }, { LM_B_UP, 1, 64 }, { LM_B_DOWN, 1, 32 },
        { LM_W_Q_NORM, 1, 16 }, { LM_W_K_NORM, 1, 16 },
    };
    int64_t r, c;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        ck_assert(lm_role_shape(&arch, want[i].role, 0, &r, &c));
        ck_assert_msg(r == want[i].rows && c == want[i].cols, "%s",
                      lm_role_name(want[i].role));
    }
    ck_assert(!lm_role_shape(&arch, LM_W_HEAD, 0, &r, &c));
    arch.tied = false;
    ck_assert(lm_role_shape(&arch, LM_W_HEAD, 0, &r, &c));
    layers[0].n_head = layers[0].n_kv = 0;
    layers[1].n_ff = 0;
    for (uint32_t role = LM_W_ATTN_NORM; role < LM_N_ROLES; role++) {
        bool mlp = role == LM_B_GATE || role == LM_B_UP || role == LM_B_DOWN
            || (role >= LM_W_MLP_NORM && role <= LM_W_DOWN);
        ck_assert_msg(lm_role_shape(&arch, role, 0, &r, &c) == mlp, "%u", role);
        ck_assert_msg(lm_role_shape(&arch, role, 1, &r, &c) == !mlp, "%u", role);
        ck_assert(lm_role_is_layer(role));
    }
    ck_assert(!lm_role_shape(&arch, LM_W_UP, LAYERS, &r, &c));
    ck_assert(!lm_role_shape(&arch, LM_W_UP, -1, &r, &c));
    ck_assert(!lm_role_shape(&arch, 0, 0, &r, &c));
    ck_assert(!lm_role_is_matrix(LM_W_MLP_NORM) && !lm_role_is_matrix(LM_B_DOWN));
    ck_assert_str_eq(lm_role_name(LM_W_DOWN), "down");
    ck_assert_str_eq(lm_role_name(999), "unknown");
    struct lm_model *m;                             /* dropped blocks need nothing */
    ck_assert_msg(build(LM_F16, &m) == LM_OK, "%s", err.text);
    ck_assert_ptr_null(lm_model_tensor(m, LM_W_Q, 0));
    ck_assert_ptr_nonnull(lm_model_tensor(m, LM_W_Q, 1));
    lm_model_free(m);
}
END_TEST

START_TEST(architectures_refused)
{
    arch.n_layer = 1001; refused("layers");
    arch.n_layer = 0; refused("layers");
    arch.hidden = 65537; refused("hidden");
    arch.hidden = -1; refused("hidden");
    arch.vocab = INT32_MAX; refused("vocabulary");
    arch.head_dim = 7; refused("head dimension");
    arch.head_dim = 0; refused("head dimension");
    arch.context = 0; refused("context");
    arch.bos = VOCAB; refused("BOS");
    arch.eos = -2; refused("EOS");
    arch.n_eos_more = 1; refused("further EOS");    /* and no list */
    arch.eos_more = (const int32_t[]){ VOCAB };
    arch.n_eos_more = 1; refused("further EOS");
    arch.rms_eps = NAN; refused("epsilon");
    arch.rope_theta = 0; refused("rope_theta");
    arch.rope_theta = INFINITY; refused("rope_theta");
    arch.rope = 9; refused("RoPE");
    arch.rope = LM_ROPE_LINEAR; refused("factor");
    layers[1].n_kv = 0; refused("layer 1");
    layers[1].n_head = 3; refused("layer 1");
    layers[0].n_head = -4; refused("heads");
    layers[0].n_ff = (1 << 20) + 1; refused("FFN");
    arch.rope = LM_ROPE_LLAMA3;
    arch.rope_factor = 8;
    arch.rope_context = 8192;
    arch.rope_low = 4;
    arch.rope_high = 1; refused("frequency");
    ck_assert_int_eq(lm_mem_blocks(), 0);
}
END_TEST

START_TEST(tensors_refused)
{
    struct lm_builder *b;
    struct lm_tensor t;
    void *p = make(LM_W_Q, 0, LM_F32, &t);
    ck_assert_int_eq(lm_builder_open("m", &b, &err), LM_OK);
    ck_assert_int_eq(lm_builder_tensor(b, LM_W_Q, 0, &t, "q", &err), LM_EBUG);
    ck_assert_int_eq(lm_builder_arch(b, &arch, &err), LM_OK);
    ck_assert_int_eq(lm_builder_arch(b, &arch, &err), LM_EBUG);
    ck_assert_int_eq(lm_builder_tensor(b, LM_W_Q, 2, &t, "q", &err), LM_EINPUT);
    ck_assert_int_eq(lm_builder_tensor(b, LM_W_Q, -1, &t, "q", &err), LM_EINPUT);
    ck_assert_int_eq(lm_builder_tensor(b, LM_W_HEAD, 0, &t, "q", &err), LM_EINPUT);
    ck_assert_int_eq(lm_builder_tensor(b, 0, 0, &t, "q", &err), LM_EINPUT);
    ck_assert_int_eq(lm_builder_tensor(b, LM_W_K, 0, &t, "blk.k", &err), LM_EINPUT);
    ck_assert_ptr_nonnull(strstr(err.text, "blk.k"));
    ck_assert_ptr_nonnull(strstr(err.text, "says 32 x 32"));
    struct lm_tensor bad = t;
    bad.dtype = 99;
    ck_assert_int_eq(lm_builder_tensor(b, LM_W_Q, 0, &bad, "q", &err), LM_EINPUT);
    bad = t;
    bad.data = NULL;
    ck_assert_int_eq(lm_builder_tensor(b, LM_W_Q, 0, &bad, "q", &err), LM_EBUG);
    ck_assert_int_eq(lm_builder_tensor(b, LM_W_Q, 0, &t, "q", &err), LM_OK);
    ck_assert_int_eq(lm_builder_tensor(b, LM_W_Q, 0, &t, "q", &err), LM_EINPUT);
    ck_assert_ptr_nonnull(strstr(err.text, "twice"));
    lm_builder_abandon(b);
    lm_release(p);

    arch.hidden = 48;                               /* no multiple of 32 */
    p = make(LM_W_Q, 0, LM_F32, &t);
    t.dtype = LM_Q8_0;
    ck_assert_int_eq(lm_builder_open("m", &b, &err), LM_OK);
    ck_assert_int_eq(lm_builder_arch(b, &arch, &err), LM_OK);
    ck_assert_int_eq(lm_builder_tensor(b, LM_W_Q, 0, &t, "q", &err), LM_EINPUT);
    ck_assert_ptr_nonnull(strstr(err.text, "multiple of 32"));
    lm_builder_abandon(b);
    lm_release(p);
    ck_assert_int_eq(lm_mem_blocks(), 0);
}
END_TEST

START_TEST(missing_tensors_are_named)
{
    struct lm_builder *b;
    struct lm_model *m;
    ck_assert_int_eq(lm_builder_open("m.gguf", &b, &err), LM_OK);
    ck_assert_int_eq(lm_builder_arch(b, &arch, &err), LM_OK);
    ck_assert_int_eq(add_all(b, LM_F32, LM_W_UP, 1), LM_OK);
    ck_assert_int_eq(lm_builder_finish(b, &m, &err), LM_EINPUT);
    ck_assert_ptr_null(m);
    ck_assert_str_eq(err.text, "m.gguf: 1 tensor is missing: tensor up of layer 1");

    ck_assert_int_eq(lm_builder_open("m.gguf", &b, &err), LM_OK);
    ck_assert_int_eq(lm_builder_arch(b, &arch, &err), LM_OK);
    ck_assert_int_eq(lm_builder_finish(b, &m, &err), LM_EINPUT);
    ck_assert_ptr_nonnull(strstr(err.text, "20 tensors are missing: tensor embed, "));

    ck_assert_int_eq(lm_builder_open("m.gguf", &b, &err), LM_OK);
    ck_assert_int_eq(lm_builder_finish(b, &m, &err), LM_EBUG);

    ck_assert_int_eq(lm_builder_open("m.gguf", &b, &err), LM_OK);
    ck_assert_int_eq(lm_builder_arch(b, &arch, &err), LM_OK);
    ck_assert_int_eq(add_all(b, LM_F32, 0, 0), LM_OK);
    ck_assert_int_eq(add(b, LM_W_K_NORM, 1, LM_F32), LM_OK);
    ck_assert_int_eq(lm_builder_finish(b, &m, &err), LM_EINPUT);
    ck_assert_ptr_nonnull(strstr(err.text, "layer 1 has only one"));
    ck_assert_int_eq(lm_mem_blocks(), 0);
}
END_TEST

/* Changes one value of a finished model through its (kept) memory. */
static void poke(struct lm_model *m, uint32_t role, int32_t layer, int64_t at, float v)
{
    float *p = (float *)lm_model_tensor(m, role, layer)->data;
    p[at] = v;
}

START_TEST(values_that_are_not_finite)
{
    static const float bad[] = { NAN, INFINITY, -INFINITY };
    struct lm_model *m;
    for (size_t i = 0; i < 3; i++) {
        ck_assert_int_eq(build(LM_F32, &m), LM_OK);
        poke(m, LM_W_GATE, 0, 63 * 32 + (int64_t)i * 15, bad[i]);
        ck_assert_int_eq(lm_model_check(m, &err), LM_EINPUT);
        char want[80];
        snprintf(want, sizeof want, "gate of layer 0: the value in row 63, column %zu",
                 i * 15);
        ck_assert_msg(strstr(err.text, want) != NULL, "%s", err.text);
        const float *f = NULL;                      /* whoever uses it is told, too */
        float row[2 * 32];
        for (int again = 0; again < 2; again++) {
            err.text[0] = 0;
            ck_assert_int_eq(lm_model_floats(m, LM_W_GATE, 0, &f, &err), LM_EINPUT);
            ck_assert_ptr_null(f);
            ck_assert_msg(strstr(err.text, want) != NULL, "%s", err.text);
        }
        ck_assert_int_eq(lm_model_rows(m, LM_W_GATE, 0, 61, 2, row, &err), LM_OK);
        ck_assert_int_eq(lm_model_rows(m, LM_W_GATE, 0, 62, 2, row, &err), LM_EINPUT);
        ck_assert_msg(strstr(err.text, want) != NULL, "%s", err.text);
        lm_model_free(m);
    }
    ck_assert_int_eq(build(LM_Q8_0, &m), LM_OK);    /* found while decoding */
    unsigned char *block = (unsigned char *)lm_model_tensor(m, LM_W_GATE, 0)->data;
    const float *f = NULL;
    block[34 * 2] = 0;
    block[34 * 2 + 1] = 0x7c;                       /* the scale of row 2: infinite */
    ck_assert_int_eq(lm_model_floats(m, LM_W_GATE, 0, &f, &err), LM_EINPUT);
    ck_assert_msg(strstr(err.text, "gate of layer 0: the value in row 2, column 0")
                  != NULL, "%s", err.text);
    ck_assert_ptr_null(f);
    lm_model_free(m);
    struct lm_builder *b;                           /* norms: already by finish() */
    struct lm_tensor t;
    ck_assert_int_eq(lm_builder_open("m", &b, &err), LM_OK);
    ck_assert_int_eq(lm_builder_arch(b, &arch, &err), LM_OK);
    ck_assert_int_eq(add_all(b, LM_F32, LM_W_MLP_NORM, 1), LM_OK);
    float *p = make(LM_W_MLP_NORM, 1, LM_F32, &t);
    p[31] = NAN;
    lm_builder_keep(b, p);
    ck_assert_int_eq(lm_builder_tensor(b, LM_W_MLP_NORM, 1, &t, "n.1", &err), LM_OK);
    ck_assert_int_eq(lm_builder_finish(b, &m, &err), LM_EINPUT);
    ck_assert_ptr_nonnull(strstr(err.text, "'n.1': value 31"));
    ck_assert_int_eq(lm_mem_blocks(), 0);
}
END_TEST

static uint64_t hash_now(void)
{
    struct lm_model *m;
    ck_assert_int_eq(build(LM_F32, &m), LM_OK);
    uint64_t h = lm_model_hash(m);
    ck_assert(h == lm_model_hash(m));
    lm_model_free(m);
    setup();
    return h;
}

START_TEST(hash_sees_every_change)
{
    uint64_t h[8] = { hash_now() };
    struct lm_model *m;
    size_t n = 1;
    arch.name = "another";                          /* for people: no change */
    ck_assert(hash_now() == h[0]);
    arch.rope_theta = 500000;
    h[n++] = hash_now();
    arch.eos = 3;
    h[n++] = hash_now();
    ck_assert_int_eq(build(LM_F32, &m), LM_OK);
    poke(m, LM_W_DOWN, 1, 32 * 32 - 1, 0.25f);
    h[n++] = lm_model_hash(m);
    lm_model_free(m);
    ck_assert_int_eq(build(LM_F32, &m), LM_OK);
    poke(m, LM_W_EMBED, 0, 0, 0.25f);
    h[n++] = lm_model_hash(m);
    lm_model_free(m);
    ck_assert_int_eq(build(LM_BF16, &m), LM_OK);    /* same values, other bytes */
    h[n++] = lm_model_hash(m);
    lm_model_free(m);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++)
            ck_assert_msg(h[i] != h[j], "%zu %zu", i, j);
}
END_TEST

struct reader { struct lm_model *m; const float *p[LAYERS]; uint64_t hash; };

static void *reads(void *arg)
{
    struct reader *r = arg;
    for (int32_t i = 0; i < LAYERS; i++)
        if (lm_model_floats(r->m, LM_W_GATE, i, &r->p[i], NULL))
            r->p[i] = NULL;
    r->hash = lm_model_hash(r->m);
    return NULL;
}

START_TEST(threads_share_decoded_tensors)
{
    enum { THREADS = 8 };
    for (int round = 0; round < 20; round++) {
        struct reader r[THREADS];
        pthread_t id[THREADS];
        struct lm_model *m;
        ck_assert_int_eq(build(LM_Q8_0, &m), LM_OK);
        for (int i = 0; i < THREADS; i++) {
            r[i].m = m;
            ck_assert_int_eq(pthread_create(&id[i], NULL, reads, &r[i]), 0);
        }
        for (int i = 0; i < THREADS; i++)
            pthread_join(id[i], NULL);
        for (int i = 0; i < THREADS; i++)
            ck_assert(r[i].p[0] && r[i].p[1] && r[i].p[0] == r[0].p[0]
                      && r[i].p[1] == r[0].p[1] && r[i].hash == r[0].hash);
        lm_model_free(m);
    }
    ck_assert_int_eq(lm_mem_blocks(), 0);
}
END_TEST

static struct lm_token tokens[] = {
    { "a", 1, LM_TOKEN_NORMAL }, { "b", 1, LM_TOKEN_NORMAL },
    { "ab", 2, LM_TOKEN_NORMAL }, { "<s>", 3, LM_TOKEN_SPECIAL },
    { "", 0, LM_TOKEN_UNUSED }
};
static struct lm_merge merges[] = { { 0, 1 } };

static struct lm_vocabulary vocabulary(void)
{
    return (struct lm_vocabulary){
        .struct_size = sizeof(struct lm_vocabulary), .pre = LM_PRE_GPT2, .token = tokens,
        .n_token = 5, .merge = merges, .n_merge = 1, .chat_template = "{{x}}"
    };
}

static enum lm_status build_with_vocabulary(const struct lm_vocabulary *v,
                                            struct lm_model **m)
{
    struct lm_builder *b;
    const void *data;
    size_t n;
    *m = NULL;
    enum lm_status st = lm_builder_open("m", &b, &err);
    if (st)
        return st;
    if (!(st = lm_builder_arch(b, &arch, &err)))
        st = lm_builder_vocabulary(b, v, &err);
    if (!st)
        st = lm_builder_map(b, getenv("LAMINA_TEST_FILE"), &data, &n, &err);
    if (!st)
        st = add_all(b, LM_Q4_1, 0, 0);
    if (st) {
        lm_builder_abandon(b);
        return st;
    }
    return lm_builder_finish(b, m, &err);
}

START_TEST(vocabulary_is_copied)
{
    struct lm_vocabulary v = vocabulary();
    char text[] = "ab", template[] = "{{x}}";
    struct lm_model *m;
    tokens[2].text = text;
    v.chat_template = template;
    ck_assert_msg(build_with_vocabulary(&v, &m) == LM_OK, "%s", err.text);
    text[0] = template[0] = '?';
    tokens[2].text = "ab";
    const struct lm_vocabulary *c = lm_model_vocabulary(m);
    ck_assert_ptr_nonnull(c);
    ck_assert_uint_eq(c->n_token, 5);
    ck_assert_str_eq(c->token[2].text, "ab");
    ck_assert_str_eq(c->token[3].text, "<s>");
    ck_assert_uint_eq(c->token[3].kind, LM_TOKEN_SPECIAL);
    ck_assert_str_eq(c->chat_template, "{{x}}");
    ck_assert_uint_eq(c->merge[0].right, 1);
    lm_model_free(m);

    v = vocabulary();
    merges[0].right = 5;
    ck_assert_int_eq(build_with_vocabulary(&v, &m), LM_EINPUT);
    merges[0].right = 1;
    tokens[1].kind = 9;
    ck_assert_int_eq(build_with_vocabulary(&v, &m), LM_EINPUT);
    tokens[1].kind = LM_TOKEN_NORMAL;
    v.pre = 0;
    ck_assert_int_eq(build_with_vocabulary(&v, &m), LM_EINPUT);
    v = vocabulary();
    arch.vocab = 4;
    ck_assert_int_eq(build_with_vocabulary(&v, &m), LM_EINPUT);
    ck_assert_ptr_nonnull(strstr(err.text, "5 tokens"));
    ck_assert_int_eq(lm_mem_blocks(), 0);
}
END_TEST

START_TEST(a_missing_file)
{
    struct lm_builder *b;
    const void *data;
    size_t n;
    ck_assert_int_eq(lm_builder_open("m", &b, &err), LM_OK);
    ck_assert_int_eq(lm_builder_map(b, "/nonexistent/file", &data, &n, &err), LM_EINPUT);
    for (int i = 0; i < 300; i++) {                 /* lists grow */
        ck_assert_int_eq(lm_builder_map(b, getenv("LAMINA_TEST_FILE"), &data, &n, &err),
                         LM_OK);
        lm_builder_keep(b, lm_alloc(8, "test"));
    }
    ck_assert(n > 0 && ((const char *)data)[0] == 'L');
    lm_builder_abandon(b);
    ck_assert_int_eq(lm_mem_blocks(), 0);
}
END_TEST

/* Everything that allocates, with the k-th allocation failing. */
static enum lm_status whole(void)
{
    struct lm_vocabulary v = vocabulary();
    struct lm_model *m;
    const float *f;
    enum lm_status st = build_with_vocabulary(&v, &m);
    if (!st)
        st = lm_model_floats(m, LM_W_Q, 0, &f, &err);
    if (!st)
        st = lm_model_check(m, &err);
    lm_model_free(m);
    return st;
}

START_TEST(every_allocation_may_fail)
{
    for (int64_t k = 1; k < 10000; k++) {
        for (int sign = -1; sign <= 1; sign += 2) {
            lm_fault_memory(sign * k);
            enum lm_status st = whole();
            bool fired = lm_fault_memory_fired();
            lm_fault_memory(0);
            ck_assert_int_eq(lm_mem_blocks(), 0);
            if (!fired) {
                ck_assert_int_eq(st, LM_OK);
                ck_assert_int_gt(k, 20);
                return;
            }
            ck_assert_int_eq(st, LM_ENOMEM);
        }
    }
    ck_abort_msg("the fault was never outrun");
}
END_TEST

int main(void)
{
    char file[] = "/tmp/check_model.XXXXXX";
    int fd = mkstemp(file);
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!f || fputs("LAMINA", f) < 0 || fclose(f) || setenv("LAMINA_TEST_FILE", file, 1))
        return 99;
    Suite *s = suite_create("model");
    TCase *t = tcase_create("model");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, tensors_come_back);
    tcase_add_test(t, unaligned_floats_are_copied);
    tcase_add_test(t, shapes);
    tcase_add_test(t, architectures_refused);
    tcase_add_test(t, tensors_refused);
    tcase_add_test(t, missing_tensors_are_named);
    tcase_add_test(t, values_that_are_not_finite);
    tcase_add_test(t, hash_sees_every_change);
    tcase_add_test(t, threads_share_decoded_tensors);
    tcase_add_test(t, vocabulary_is_copied);
    tcase_add_test(t, a_missing_file);
    tcase_add_test(t, every_allocation_may_fail);
    suite_add_tcase(s, t);
    int status = run_suites(&s, 1);
    remove(file);
    return status;
}
