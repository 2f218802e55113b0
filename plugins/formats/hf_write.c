/* SPDX-License-Identifier: Apache-2.0 */
/* hf_write.c -- a model as a folder of Hugging Face.
 *
 * One number format for all tensors, or each in its own (then config.json names
 * that of the matrices, or float32 where they differ); readers cast to the dtype
 * of config.json anyway.  config.json carries the keys of the older and of the
 * newer form, so that old and new versions of transformers read the same model.
 * It is written last: a folder without it is recognised as unfinished.
 *
 * Families.  A model is written as what it was read from where that family has
 * all of its parts.  Else it is a llama, which may have any bias: mistral and
 * qwen2 without their peculiarities are llamas.  Only qwen3 has norms of q and k.
 * transformers has biases for all of q, k, v, o or for none (attention_bias; q,
 * k, v in qwen2), and likewise for the MLP (mlp_bias); where a model has only
 * some of them the others are written as zeros.  What no family has, layers that
 * differ or more biases, makes a model of type lamina: see hf_layers.c.       */
#include "hf.h"

struct item {
    uint32_t role;
    int32_t  layer;                     /* of the file, -1: the whole model's */
    int64_t  rows, cols;                /* in the file                        */
    uint32_t dtype;                     /* in the file                        */
    const struct lm_tensor *t;          /* NULL: the model lacks it           */
};

struct writing {
    const struct fmt *f;
    const struct lm_model *m;
    const struct lm_arch *a;
    const struct lm_export *x;
    struct hf_layers layers;
    bool pad;
    enum hf_family family;              /* llama where layers.own is set      */
    uint64_t extra;                     /* LM_BIT(role): biases and norms     */
    uint32_t dtype;                     /* for config.json                    */
    struct item *item;
    size_t n;
};

static bool any(const struct writing *w, uint32_t first, uint32_t last)
{
    for (int32_t l = 0; l < w->a->n_layer; l++)
        for (uint32_t r = first; r <= last; r++)
            if (w->f->h->tensor(w->m, r, l))
                return true;
    return false;
}

static bool held(uint32_t dtype)
{
    return dtype == LM_F32 || dtype == LM_F16 || dtype == LM_BF16;
}

static enum lm_status suitable(const struct writing *w, struct lm_err *e)
{
    const struct lm_host *h = w->f->h;
    enum lm_status s = hf_dtype_check(w->f, w->x->dtype, e);
    if (s)
        return s;
    if (!hf_rope_known(w->a))
        return h->fail(e, LM_EUNSUPPORTED, "format hf cannot write this RoPE scaling");
    const char *source = h->source(w->m);
    if (source && !strcmp(source, w->x->path))
        return h->fail(e, LM_ECONFIG, "%s: the model would overwrite itself; choose "
                       "another folder", w->x->path);
    return LM_OK;
}

static bool family_is(const struct writing *w, enum hf_family f)
{
    return !strcmp(w->a->family, hf_family_name(f));
}

/* The stock family that holds all of the model's biases and norms; false: none. */
static bool choose_family(struct writing *w)
{
    const uint64_t o = LM_BIT(LM_B_O), qkv = LM_BIT(LM_B_Q) | LM_BIT(LM_B_K)
        | LM_BIT(LM_B_V), norms = LM_BIT(LM_W_Q_NORM) | LM_BIT(LM_W_K_NORM);
    const uint64_t mlp = LM_BIT(LM_B_GATE) | LM_BIT(LM_B_UP) | LM_BIT(LM_B_DOWN);
    bool attention = any(w, LM_B_Q, LM_B_O), ffn = any(w, LM_B_GATE, LM_B_DOWN);
    w->family = HF_LLAMA;
    w->extra = (attention ? qkv | o : 0) | (ffn ? mlp : 0);
    if (any(w, LM_W_Q_NORM, LM_W_K_NORM)) {
        w->family = HF_QWEN3;
        w->extra |= norms;
        return !ffn;
    }
    if (family_is(w, HF_QWEN2) && !any(w, LM_B_O, LM_B_DOWN)) {
        w->family = HF_QWEN2;
        w->extra = qkv;
    } else if (family_is(w, HF_MISTRAL) && !w->extra) {
        w->family = HF_MISTRAL;
    }
    return w->family != HF_LLAMA || w->a->hidden % w->layers.all.n_head == 0;
}

/* What every layer has where no family says so: what one of them has. */
static void choose_extra(struct writing *w)
{
    w->extra = 0;
    for (uint32_t r = LM_B_Q; r <= LM_W_K_NORM; r++)
        if (any(w, r, r))
            w->extra |= LM_BIT(r);
    if (w->extra & (LM_BIT(LM_W_Q_NORM) | LM_BIT(LM_W_K_NORM)))
        w->extra |= LM_BIT(LM_W_Q_NORM) | LM_BIT(LM_W_K_NORM);
}

static enum lm_status choose_type(struct writing *w, struct lm_err *e)
{
    const struct hf_options *o = w->f->config;
    w->pad = o && o->pad;
    enum lm_status s = hf_layers_open(w->f, w->a, w->pad, &w->layers, e);
    if (s)
        return s;
    if (!choose_family(w)) {
        if (w->pad)
            return w->f->h->fail(e, LM_EUNSUPPORTED, "format hf with pad: no stock model "
                                 "has these biases, norms and %d heads; write without "
                                 "pad", w->layers.all.n_head);
        w->layers.own = true;
    }
    if (w->layers.own) {
        w->family = HF_LLAMA;
        choose_extra(w);
    }
    return LM_OK;
}

/* Rows and columns of a role in a layer of the file. */
static void role_size(const struct writing *w, uint32_t role,
                      const struct lm_layer_shape *s, struct item *t)
{
    int64_t h = w->a->head_dim, d = w->a->hidden, q = s->n_head * h, kv = s->n_kv * h;
    int64_t ff = s->n_ff;
    const int64_t size[LM_N_ROLES][2] = {
        [LM_W_ATTN_NORM] = { 1, d }, [LM_W_Q] = { q, d }, [LM_W_K] = { kv, d },
        [LM_W_V] = { kv, d }, [LM_W_O] = { d, q }, [LM_W_MLP_NORM] = { 1, d },
        [LM_W_GATE] = { ff, d }, [LM_W_UP] = { ff, d }, [LM_W_DOWN] = { d, ff },
        [LM_B_Q] = { 1, q }, [LM_B_K] = { 1, kv }, [LM_B_V] = { 1, kv },
        [LM_B_O] = { 1, d },
        [LM_B_GATE] = { 1, ff }, [LM_B_UP] = { 1, ff }, [LM_B_DOWN] = { 1, d },
        [LM_W_Q_NORM] = { 1, h }, [LM_W_K_NORM] = { 1, h }
    };
    t->rows = size[role][0];
    t->cols = size[role][1];
}

static void add_item(struct writing *w, uint32_t role, int32_t layer)
{
    int32_t from = layer < 0 ? -1 : w->layers.from[layer];
    const struct lm_tensor *t = w->f->h->tensor(w->m, role, from);
    struct item *x = &w->item[w->n];
    if (layer < 0 && !t)
        return;
    *x = (struct item){ .role = role, .layer = layer, .t = t };
    x->dtype = w->x->dtype ? w->x->dtype : t ? t->dtype : w->dtype;
    if (layer < 0) {
        x->rows = t->rows;
        x->cols = t->cols;
    } else {
        role_size(w, role, &w->layers.shape[layer], x);
    }
    w->n++;
}

/* Where each tensor keeps its number format: that of the matrices if they agree. */
static uint32_t common_dtype(const struct writing *w)
{
    uint32_t dtype = 0;
    for (int32_t l = 0; l < w->a->n_layer && !w->x->dtype; l++)
        for (uint32_t r = LM_W_Q; r <= LM_W_DOWN; r++) {
            const struct lm_tensor *t = w->f->h->tensor(w->m, r, l);
            if (!t || r == LM_W_MLP_NORM || t->dtype == dtype)
                continue;
            if (dtype)
                return LM_F32;
            dtype = t->dtype;
        }
    return w->x->dtype ? w->x->dtype : held(dtype) ? dtype : LM_F32;
}

static enum lm_status all_held(const struct writing *w, struct lm_err *e)
{
    for (size_t i = 0; i < w->n; i++) {
        const struct item *t = &w->item[i];
        const struct lm_codec *c = w->f->h->codec(t->dtype);
        char name[128];
        hf_role_name(t->role, t->layer, name, sizeof name);
        if (!held(t->dtype))
            return w->f->h->fail(e, LM_EUNSUPPORTED, "%s is stored as %s, which format "
                                 "hf cannot hold; choose dtype f32, f16 or bf16 for all",
                                 name, c ? c->name : "another number format");
    }
    return LM_OK;
}

static enum lm_status list_items(struct writing *w, struct lm_err *e)
{
    size_t n = 3 + (size_t)w->layers.n * LM_N_ROLES;
    w->item = w->f->h->alloc(n * sizeof *w->item, "hf");
    if (!w->item)
        return w->f->h->fail(e, LM_ENOMEM, "out of memory for writing %s", w->x->path);
    add_item(w, LM_W_EMBED, -1);
    for (int32_t l = 0; l < w->layers.n; l++)
        for (uint32_t r = LM_W_ATTN_NORM; r <= LM_W_K_NORM; r++)
            if (hf_role_block(r, &w->layers.shape[l])
                && (r < LM_B_Q || (w->extra & LM_BIT(r))))
                add_item(w, r, l);
    add_item(w, LM_W_FINAL_NORM, -1);
    if (!w->a->tied)
        add_item(w, LM_W_HEAD, -1);
    return all_held(w, e);
}

/* A vector is 1-D, whatever its length. */
static bool is_vector(uint32_t role)
{
    return role == LM_W_FINAL_NORM || role == LM_W_ATTN_NORM || role == LM_W_MLP_NORM
        || role >= LM_B_Q;
}

static int64_t item_bytes(const struct item *t)
{
    return t->rows * t->cols * (t->dtype == LM_F32 ? 4 : 2);
}

static void safetensors_header(const struct writing *w, struct fmt_buf *b)
{
    static const char *const name[] = { [LM_F32] = "F32", [LM_F16] = "F16",
                                        [LM_BF16] = "BF16" };
    int64_t at = 0;
    fmt_text(b, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; i < w->n; i++) {
        const struct item *t = &w->item[i];
        char key[128];
        int64_t bytes = item_bytes(t);
        hf_role_name(t->role, t->layer, key, sizeof key);
        fmt_add(b, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", key, name[t->dtype]);
        if (!is_vector(t->role))
            fmt_add(b, "%lld,", (long long)t->rows);
        fmt_add(b, "%lld],\"data_offsets\":[%lld,%lld]}", (long long)t->cols,
                (long long)at, (long long)(at + bytes));
        at += bytes;
    }
    fmt_text(b, "}");
    while (b->n % 8 && !b->failed)
        fmt_text(b, " ");
}

/* As it is, or what the model lacks of it added. */
static enum lm_status write_item(const struct writing *w, const struct item *t,
                                 struct lm_out *o, struct lm_err *e)
{
    char name[128];
    hf_role_name(t->role, t->layer, name, sizeof name);
    const struct fmt_job job = { t->t, name, t->dtype, 0 };
    if (t->layer < 0 || (t->t && t->t->rows == t->rows && t->t->cols == t->cols))
        return fmt_tensor(w->f, &job, o, e);
    const struct hf_padded p = { .job = job, .role = t->role, .rows = t->rows,
        .cols = t->cols, .head_dim = w->a->head_dim,
        .here = w->a->layer[w->layers.from[t->layer]],
        .there = w->layers.shape[t->layer] };
    return hf_pad_write(w->f, &p, o, e);
}

static enum lm_status write_items(const struct writing *w, struct lm_out *o,
                                  struct lm_err *e)
{
    enum lm_status s = LM_OK;
    for (size_t i = 0; i < w->n && !s; i++) {
        w->f->h->progress(w->f->run, (double)i / (double)w->n, "writing weights");
        s = write_item(w, &w->item[i], o, e);
    }
    return s;
}

static enum lm_status write_weights(struct writing *w, struct lm_err *e)
{
    const struct lm_host *h = w->f->h;
    struct fmt_buf b = { .h = h };
    struct lm_out *o = NULL;
    char path[FMT_PATH];
    unsigned char length[8];
    if (!fmt_path(path, w->x->path, "model.safetensors"))
        return h->fail(e, LM_ECONFIG, "%s: path too long", w->x->path);
    safetensors_header(w, &b);
    enum lm_status s = b.failed ? h->fail(e, LM_ENOMEM, "out of memory for writing %s",
                                          path)
                                : h->out_open(path, &o, e);
    for (size_t i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)b.n >> 8 * i);
    if (!s)
        s = h->out_write(o, length, sizeof length, e);
    if (!s)
        s = h->out_write(o, b.p, b.n, e);
    if (!s)
        s = write_items(w, o, e);
    fmt_buf_free(&b);
    if (!s)
        return h->out_commit(o, e);
    if (o)
        h->out_abandon(o);
    return s;
}

enum lm_status hf_write_text(const struct fmt *f, const char *folder, const char *name,
                             struct fmt_buf *b, struct lm_err *e)
{
    struct lm_out *o = NULL;
    char path[FMT_PATH];
    if (!fmt_path(path, folder, name))
        return f->h->fail(e, LM_ECONFIG, "%s: path too long", folder);
    if (b->failed)
        return f->h->fail(e, LM_ENOMEM, "out of memory for writing %s", path);
    enum lm_status s = f->h->out_open(path, &o, e);
    if (s)
        return s;
    s = f->h->out_write(o, b->p, b->n, e);
    if (!s)
        return f->h->out_commit(o, e);
    f->h->out_abandon(o);
    return s;
}

static void id_member(struct fmt_buf *b, const char *key, int32_t id, const char *end)
{
    if (id < 0)
        fmt_add(b, "  \"%s\": null%s\n", key, end);
    else
        fmt_add(b, "  \"%s\": %d%s\n", key, (int)id, end);
}

static void eos_member(struct fmt_buf *b, const struct lm_arch *a)
{
    if (!a->n_eos_more || a->eos < 0) {
        id_member(b, "eos_token_id", a->eos, ",");
        return;
    }
    fmt_add(b, "  \"eos_token_id\": [%d", (int)a->eos);
    for (uint32_t i = 0; i < a->n_eos_more; i++)
        fmt_add(b, ", %d", (int)a->eos_more[i]);
    fmt_text(b, "],\n");
}

/* what one family has and another has not */
static void family_members(const struct writing *w, struct fmt_buf *b)
{
    bool attention = w->extra & LM_BIT(LM_B_O);
    if (w->family == HF_LLAMA || w->family == HF_QWEN3)
        fmt_add(b, "  \"attention_bias\": %s,\n", hf_bool(attention));
    if (w->family == HF_LLAMA)
        fmt_add(b, "  \"mlp_bias\": %s,\n  \"pretraining_tp\": 1,\n",
                hf_bool(w->extra & LM_BIT(LM_B_DOWN)));
    else if (w->family == HF_MISTRAL && w->a->window)
        fmt_add(b, "  \"sliding_window\": %d,\n", (int)w->a->window);
    else
        fmt_text(b, "  \"sliding_window\": null,\n");
    if (w->family == HF_QWEN2 || w->family == HF_QWEN3)
        fmt_add(b, "  \"use_sliding_window\": false,\n  \"max_window_layers\": %d,\n",
                (int)w->layers.n);
}

static enum lm_status write_config(const struct writing *w, struct lm_err *e)
{
    static const char *const dtype[] = { [LM_F32] = "float32", [LM_F16] = "float16",
                                         [LM_BF16] = "bfloat16" };
    const struct lm_arch *a = w->a;
    bool whole = w->family == HF_MISTRAL || !a->window || a->window > a->context;
    int32_t context = whole ? a->context : a->window;       /* it sees no further */
    struct fmt_buf b = { .h = w->f->h };
    const struct hf_layers *l = &w->layers;
    fmt_add(&b, "{\n  \"architectures\": [\"%sForCausalLM\"],\n"
            "  \"model_type\": \"%s\",\n  \"hidden_act\": \"silu\",\n"
            "  \"attention_dropout\": 0.0,\n",
            l->own ? "Lamina" : hf_family_class(w->family),
            l->own ? "lamina" : hf_family_name(w->family));
    if (l->own)
        hf_layers_config(l, a, w->extra, &b);
    else
        family_members(w, &b);
    fmt_add(&b, "  \"hidden_size\": %d,\n  \"intermediate_size\": %d,\n"
            "  \"num_hidden_layers\": %d,\n  \"num_attention_heads\": %d,\n"
            "  \"num_key_value_heads\": %d,\n  \"head_dim\": %d,\n", (int)a->hidden,
            l->all.n_ff, (int)l->n, l->all.n_head, l->all.n_kv, (int)a->head_dim);
    fmt_add(&b, "  \"vocab_size\": %d,\n  \"max_position_embeddings\": %d,\n"
            "  \"tie_word_embeddings\": %s,\n", (int)a->vocab, (int)context,
            hf_bool(a->tied));
    fmt_text(&b, "  \"initializer_range\": 0.02,\n  \"use_cache\": true,\n"
             "  \"rms_norm_eps\": ");
    fmt_json_real(&b, a->rms_eps);
    fmt_text(&b, ",\n");
    hf_rope_write(a, &b);
    id_member(&b, "bos_token_id", a->bos, ",");
    eos_member(&b, a);
    id_member(&b, "pad_token_id", a->pad, ",");
    fmt_add(&b, "  \"torch_dtype\": \"%s\",\n  \"dtype\": \"%s\"\n}\n",
            dtype[w->dtype], dtype[w->dtype]);
    enum lm_status s = hf_write_text(w->f, w->x->path, "config.json", &b, e);
    fmt_buf_free(&b);
    return s;
}

static enum lm_status write_generation(const struct writing *w, struct lm_err *e)
{
    struct fmt_buf b = { .h = w->f->h };
    if (w->a->generation) {
        fmt_text(&b, w->a->generation);
    } else {
        fmt_text(&b, "{\n  \"_from_model_config\": true,\n");
        id_member(&b, "bos_token_id", w->a->bos, ",");
        eos_member(&b, w->a);
        id_member(&b, "pad_token_id", w->a->pad, "");
        fmt_text(&b, "}\n");
    }
    enum lm_status s = hf_write_text(w->f, w->x->path, "generation_config.json", &b, e);
    fmt_buf_free(&b);
    return s;
}

static enum lm_status carry(const struct writing *w, const char *from, const char *name,
                            bool *done, struct lm_err *e)
{
    const struct lm_host *h = w->f->h;
    struct fmt_buf b = { .h = h };
    char path[FMT_PATH];
    *done = false;
    if (!fmt_path(path, from, name) || !h->file_exists(path))
        return LM_OK;
    enum lm_status s = h->read_file(path, HF_MAX_JSON, &b.p, &b.n, e);
    if (!s)
        s = hf_write_text(w->f, w->x->path, name, &b, e);
    fmt_buf_free(&b);
    *done = !s;
    return s;
}

/* The parent's own files where it is a folder, else files made from the model. */
static enum lm_status companions(const struct writing *w, struct lm_err *e)
{
    static const char *const name[] = { "tokenizer.json", "generation_config.json",
        "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
        "vocab.json", "merges.txt", "chat_template.jinja", "LICENSE", "LICENSE.txt",
        "LICENSE.md", "LICENCE", "NOTICE", "NOTICE.txt", "USE_POLICY.md" };
    const struct lm_host *h = w->f->h;
    const char *from = h->source(w->x->parent ? w->x->parent : w->m);
    char path[FMT_PATH];
    bool done[sizeof name / sizeof *name] = { false };
    enum lm_status s = LM_OK;
    if (from && *from && strcmp(from, w->x->path) && fmt_path(path, from, "config.json")
        && h->file_exists(path))
        for (size_t i = 0; i < sizeof name / sizeof *name && !s; i++)
            s = carry(w, from, name[i], &done[i], e);
    if (!s && !done[0] && h->vocabulary(w->m))
        s = hf_write_vocabulary(w->f, w->m, w->x->path, e);
    if (!s && !done[1])
        s = write_generation(w, e);
    return s;
}

/* the one given, else the parent's own */
static enum lm_status write_card(const struct writing *w, struct lm_err *e)
{
    const char *from = w->f->h->source(w->x->parent ? w->x->parent : w->m);
    bool done;
    if (!w->x->card || !*w->x->card)
        return from && *from ? carry(w, from, "README.md", &done, e) : LM_OK;
    struct fmt_buf b = { .h = w->f->h };
    fmt_text(&b, w->x->card);
    enum lm_status s = hf_write_text(w->f, w->x->path, "README.md", &b, e);
    fmt_buf_free(&b);
    return s;
}

static enum lm_status write_modeling(const struct writing *w, struct lm_err *e)
{
    struct fmt_buf b = { .h = w->f->h };
    if (!w->layers.own)
        return LM_OK;
    for (size_t i = 0; hf_modeling[i]; i++)
        fmt_text(&b, hf_modeling[i]);
    enum lm_status s = hf_write_text(w->f, w->x->path, "modeling_lamina.py", &b, e);
    fmt_buf_free(&b);
    return s;
}

enum lm_status hf_write(void *self, const struct lm_model *m, const struct lm_export *x,
                        struct lm_err *e)
{
    const struct fmt *f = self;
    struct writing w = { .f = f, .m = m, .a = f->h->arch(m), .x = x };
    enum lm_status s = suitable(&w, e);
    if (!s)
        s = choose_type(&w, e);
    w.dtype = common_dtype(&w);
    if (!s)
        s = list_items(&w, e);
    if (!s)
        s = f->h->make_folder(x->path, e);
    if (!s)
        s = write_weights(&w, e);
    if (!s)
        s = companions(&w, e);
    if (!s)
        s = write_modeling(&w, e);
    if (!s)
        s = write_card(&w, e);
    if (!s)
        s = write_config(&w, e);
    hf_layers_close(f, &w.layers);
    f->h->release(w.item);
    return s;
}
