/* SPDX-License-Identifier: Apache-2.0 */
/* engine_kit.h -- for tests of backends and of the engine: a backend instance
 * on a small host table, and golden checkpoints read by the shortest way.      */
#ifndef LM_TESTS_ENGINE_KIT_H
#define LM_TESTS_ENGINE_KIT_H
#include <math.h>

#include "base/json.h"
#include "base/linalg.h"
#include "base/log.h"
#include "base/pool.h"
#include "base/rng.h"
#include "model/codec.h"
#include "model/engine.h"
#include "plug.h"
#include "testing.h"

struct kit { struct lm_host host; const struct lm_backend *ops; void *self; };

static inline bool kit_canceled(struct lm_run *r)
{
    (void)r;
    return lm_canceled();
}

static inline enum lm_status kit_parallel(struct lm_run *r, int64_t n,
                                          void (*body)(void *, int64_t, uint32_t),
                                          void *ctx)
{
    (void)r;
    return lm_parallel(n, body, ctx);
}

/* k must stay where it is.  option: pairs of name and value, or NULL.  false: not
 * on this machine.                                                             */
static inline bool kit_open_with(struct kit *k, const char *backend,
                                 const char *const *option)
{
    const struct lm_module *m = plug_open("backends", backend);
    struct lm_err e = { 0 };
    k->host = plug_host();
    k->host.canceled = kit_canceled;
    k->host.parallel = kit_parallel;
    k->host.clock = lm_clock;
    k->host.codec = lm_codec;
    k->host.gemm = lm_gemm;
    k->host.gemm64 = lm_gemm64;
    k->host.gemv = lm_gemv;
    void *config = plug_config(m, option);
    struct lm_args a = { .struct_size = sizeof a, .host = &k->host, .config = config };
    k->ops = m->ops;
    enum lm_status st = m->create(&a, &k->self, &e);
    free(config);
    ck_assert_msg(st == LM_OK || st == LM_EUNAVAILABLE, "%s", e.text);
    return st == LM_OK;
}

static inline void kit_open(struct kit *k, const char *backend)
{
    ck_assert(kit_open_with(k, backend, NULL));
}

static inline void kit_close(struct kit *k, const char *backend)
{
    plug_open("backends", backend)->destroy(k->self);
}

/* ---- golden checkpoints ------------------------------------------------------- */
struct shelf {                          /* a safetensors file */
    struct lm_map map;
    struct lm_json *root;
    const char *data;
};

static inline void shelf_open(struct shelf *s, const char *path)
{
    struct lm_err e = { 0 };
    uint64_t n;
    ck_assert_ok(lm_map_open(&s->map, path, &e), e);
    memcpy(&n, s->map.data, 8);
    ck_assert_ok(lm_json_api.parse((const char *)s->map.data + 8, (size_t)n, path,
                                   &s->root, &e), e);
    s->data = (const char *)s->map.data + 8 + n;
}

static inline void shelf_close(struct shelf *s)
{
    lm_json_api.close(s->root);
    lm_map_close(&s->map);
}

/* NULL when there is no such tensor. */
static inline const void *shelf_get(const struct shelf *s, const char *name,
                                    uint32_t *dtype)
{
    const struct lm_json_api *j = &lm_json_api;
    const struct lm_json *t = j->get(s->root, name);
    int64_t at = 0;
    if (!t)
        return NULL;
    ck_assert(j->integer(j->at(j->get(t, "data_offsets"), 0), &at));
    if (dtype)
        *dtype = strcmp(j->string(j->get(t, "dtype")), "BF16") ? LM_F32 : LM_BF16;
    return s->data + at;
}

static inline int32_t kit_int(const struct lm_json *c, const char *key)
{
    int64_t v = 0;
    ck_assert_msg(lm_json_api.integer(lm_json_api.get(c, key), &v), "%s", key);
    return (int32_t)v;
}

static inline void kit_arch(const char *folder, struct lm_arch *a,
                            struct lm_layer_shape *shape)
{
    const struct lm_json_api *j = &lm_json_api;
    struct lm_err e = { 0 };
    struct lm_json *c;
    char path[1200], *text;
    size_t n;
    ck_assert(lm_path_join(path, sizeof path, folder, "config.json"));
    ck_assert_ok(lm_read_file(path, 1 << 20, &text, &n, &e), e);
    ck_assert_ok(j->parse(text, n, path, &c, &e), e);
    *a = (struct lm_arch){
        .struct_size = sizeof *a, .n_layer = kit_int(c, "num_hidden_layers"),
        .hidden = kit_int(c, "hidden_size"), .vocab = kit_int(c, "vocab_size"),
        .context = kit_int(c, "max_position_embeddings"), .family = "llama",
        .name = "golden", .bos = 1, .eos = 2, .pad = -1, .layer = shape
    };
    struct lm_layer_shape s = { kit_int(c, "num_attention_heads"),
                                kit_int(c, "num_key_value_heads"),
                                kit_int(c, "intermediate_size"), 0 };
    a->head_dim = a->hidden / s.n_head;
    j->real(j->get(c, "rms_norm_eps"), &a->rms_eps);
    ck_assert(j->real(j->get(j->get(c, "rope_parameters"), "rope_theta"),
                      &a->rope_theta));
    j->boolean(j->get(c, "tie_word_embeddings"), &a->tied);
    for (int i = 0; i < a->n_layer; i++)
        shape[i] = s;
    j->close(c);
    lm_release(text);
}

/* The checkpoint in folder; `from` must outlive it. */
static inline struct lm_model *kit_golden(const char *folder, struct shelf *from)
{
    static const char *const name[] = {
        [LM_W_EMBED] = "model.embed_tokens", [LM_W_HEAD] = "lm_head",
        [LM_W_FINAL_NORM] = "model.norm", [LM_W_ATTN_NORM] = "input_layernorm",
        [LM_W_Q] = "self_attn.q_proj", [LM_W_K] = "self_attn.k_proj",
        [LM_W_V] = "self_attn.v_proj", [LM_W_O] = "self_attn.o_proj",
        [LM_W_MLP_NORM] = "post_attention_layernorm", [LM_W_GATE] = "mlp.gate_proj",
        [LM_W_UP] = "mlp.up_proj", [LM_W_DOWN] = "mlp.down_proj"
    };
    struct lm_layer_shape shape[64];
    struct lm_err e = { 0 };
    struct lm_builder *b;
    struct lm_model *m;
    struct lm_arch a;
    char path[1200];
    ck_assert(lm_path_join(path, sizeof path, folder, "model.safetensors"));
    shelf_open(from, path);
    kit_arch(folder, &a, shape);
    ck_assert_ok(lm_builder_open(folder, &b, &e), e);
    ck_assert_ok(lm_builder_arch(b, &a, &e), e);
    for (uint32_t role = LM_W_EMBED; role <= LM_W_DOWN; role++)
        for (int32_t i = 0; i < (lm_role_is_layer(role) ? a.n_layer : 1); i++) {
            struct lm_tensor t = { 0 };
            if (!lm_role_shape(&a, role, i, &t.rows, &t.cols))
                continue;
            if (lm_role_is_layer(role))
                snprintf(path, sizeof path, "model.layers.%d.%s.weight", i, name[role]);
            else
                snprintf(path, sizeof path, "%s.weight", name[role]);
            t.data = shelf_get(from, path, &t.dtype);
            ck_assert_msg(t.data != NULL, "%s", path);
            ck_assert_ok(lm_builder_tensor(b, role, i, &t, path, &e), e);
        }
    ck_assert_ok(lm_builder_finish(b, &m, &e), e);
    return m;
}
#endif
