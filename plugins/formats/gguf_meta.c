/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_meta.c -- the key-value pairs of a GGUF file that is written.
 *
 * llama.cpp takes the number of tokens for that of embeddings, so a vocabulary
 * that is shorter than the embedding is filled up with unused tokens.  Keys
 * under "lamina." are ours; other readers pass over them.                      */
#include "gguf.h"

void gguf_put_u32(struct fmt_buf *b, uint32_t v)
{
    unsigned char s[4] = { v & 255, v >> 8 & 255, v >> 16 & 255, v >> 24 & 255 };
    fmt_put(b, s, sizeof s);
}

void gguf_put_u64(struct fmt_buf *b, uint64_t v)
{
    gguf_put_u32(b, (uint32_t)v);
    gguf_put_u32(b, (uint32_t)(v >> 32));
}

void gguf_put_string(struct fmt_buf *b, const char *s, size_t n)
{
    gguf_put_u64(b, n);
    fmt_put(b, s, n);
}

static void put_f32(struct fmt_buf *b, float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    gguf_put_u32(b, u);
}

static void put_f64(struct fmt_buf *b, double v)
{
    uint64_t u;
    memcpy(&u, &v, sizeof u);
    gguf_put_u64(b, u);
}

/* ---- pairs ---------------------------------------------------------------------- */

static void key(struct gguf_keys *k, const char *name, uint32_t type)
{
    char full[96];
    snprintf(full, sizeof full, "%s%s", *name == '.' ? k->family : "", name);
    gguf_put_string(k->b, full, strlen(full));
    gguf_put_u32(k->b, type);
    k->n++;
}

void gguf_add_string(struct gguf_keys *k, const char *name, const char *s)
{
    key(k, name, GGUF_STRING);
    gguf_put_string(k->b, s, strlen(s));
}

void gguf_add_u32(struct gguf_keys *k, const char *name, int64_t v)
{
    key(k, name, GGUF_U32);
    gguf_put_u32(k->b, (uint32_t)v);
}

void gguf_add_f32(struct gguf_keys *k, const char *name, double v)
{
    key(k, name, GGUF_F32);
    put_f32(k->b, (float)v);
}

void gguf_add_f64(struct gguf_keys *k, const char *name, double v)
{
    key(k, name, GGUF_F64);
    put_f64(k->b, v);
}

void gguf_add_bool(struct gguf_keys *k, const char *name, bool v)
{
    char c = v;
    key(k, name, GGUF_BOOL);
    fmt_put(k->b, &c, 1);
}

void gguf_add_array(struct gguf_keys *k, const char *name, uint32_t element, uint64_t n)
{
    key(k, name, GGUF_ARRAY);
    gguf_put_u32(k->b, element);
    gguf_put_u64(k->b, n);
}

/* ---- what the model is ---------------------------------------------------------- */

/* one of head_count, head_count_kv, feed_forward_length */
static void layers(struct gguf_keys *m, const char *name, const struct gguf_shape *g,
                   size_t member)
{
    if (!g->uneven) {
        gguf_add_u32(m, name,
                     *(const int32_t *)((const char *)&g->layer->shape + member));
        return;
    }
    gguf_add_array(m, name, GGUF_I32, (uint64_t)g->n);
    for (int32_t l = 0; l < g->n; l++)
        gguf_put_u32(m->b, *(const uint32_t *)((const char *)&g->layer[l].shape
                                               + member));
}

static void shape(struct gguf_keys *m, const struct lm_arch *a,
                  const struct gguf_shape *g)
{
    gguf_add_u32(m, ".block_count", g->n);
    bool near = a->window && a->window < a->context;        /* it sees no further */
    gguf_add_u32(m, ".context_length", near ? a->window : a->context);
    if (a->window)
        gguf_add_u32(m, ".attention.sliding_window", a->window);
    gguf_add_u32(m, ".embedding_length", a->hidden);
    gguf_add_u32(m, ".vocab_size", a->vocab);
    layers(m, ".feed_forward_length", g, offsetof(struct lm_layer_shape, n_ff));
    layers(m, ".attention.head_count", g, offsetof(struct lm_layer_shape, n_head));
    layers(m, ".attention.head_count_kv", g, offsetof(struct lm_layer_shape, n_kv));
    gguf_add_u32(m, ".attention.key_length", a->head_dim);
    gguf_add_u32(m, ".attention.value_length", a->head_dim);
    gguf_add_f32(m, ".attention.layer_norm_rms_epsilon", a->rms_eps);
    gguf_rope_write(a, m);
}

static void token_list(struct gguf_keys *m, const struct lm_vocabulary *v, size_t n)
{
    static const int32_t type[] = { [LM_TOKEN_NORMAL] = 1, [LM_TOKEN_SPECIAL] = 3,
                                    [LM_TOKEN_ADDED] = 4, [LM_TOKEN_UNUSED] = 5,
                                    [LM_TOKEN_BYTE] = 6 };
    gguf_add_array(m, "tokenizer.ggml.tokens", GGUF_STRING, n);
    for (size_t i = 0; i < n; i++) {
        char made[32];
        snprintf(made, sizeof made, "[PAD%zu]", i);
        if (i < v->n_token && v->token[i].length)
            gguf_put_string(m->b, v->token[i].text, v->token[i].length);
        else
            gguf_put_string(m->b, made, strlen(made));
    }
    gguf_add_array(m, "tokenizer.ggml.token_type", GGUF_I32, n);
    for (size_t i = 0; i < n; i++) {
        bool have = i < v->n_token && v->token[i].length
                 && v->token[i].kind <= LM_TOKEN_BYTE;
        bool unk = have && v->has_unk && i == v->unk
                && v->token[i].kind == LM_TOKEN_SPECIAL;
        gguf_put_u32(m->b, unk ? 2u : (uint32_t)type[have ? v->token[i].kind
                                                         : LM_TOKEN_UNUSED]);
    }
}

static void merge_list(struct gguf_keys *m, const struct lm_vocabulary *v)
{
    gguf_add_array(m, "tokenizer.ggml.merges", GGUF_STRING, v->n_merge);
    for (size_t i = 0; i < v->n_merge; i++) {
        const struct lm_token *l = &v->token[v->merge[i].left];
        const struct lm_token *r = &v->token[v->merge[i].right];
        gguf_put_u64(m->b, (uint64_t)l->length + 1 + r->length);
        fmt_put(m->b, l->text, l->length);
        fmt_put(m->b, " ", 1);
        fmt_put(m->b, r->text, r->length);
    }
}

static bool fits_f32(const struct lm_vocabulary *v)
{
    for (size_t i = 0; i < v->n_token; i++)
        if ((double)(float)v->score[i] != v->score[i])
            return false;
    return true;
}

/* Without scores of its own a token gets minus the rank of the first merge that
 * makes it, which joins the same neighbours first in llama.cpp.               */
static void score_list(struct gguf_keys *m, const struct lm_vocabulary *v,
                       const uint32_t *made, size_t n)
{
    gguf_add_array(m, "tokenizer.ggml.scores", GGUF_F32, n);
    for (size_t i = 0; i < n; i++) {
        float f = i >= v->n_token ? 0 : v->score ? (float)v->score[i]
                : made[i] ? -(float)made[i] : 0;
        put_f32(m->b, f);
    }
    if (!v->score || fits_f32(v))
        return;
    gguf_add_array(m, "lamina.tokenizer.scores", GGUF_F64, n);
    for (size_t i = 0; i < n; i++)
        put_f64(m->b, i < v->n_token ? v->score[i] : 0);
}

/* SentencePiece's models; made [n_token]: 1 + rank of a token's first merge */
static void pieces(struct gguf_keys *m, const struct lm_vocabulary *v,
                   const uint32_t *made, size_t n)
{
    score_list(m, v, made, n);
    gguf_add_bool(m, "tokenizer.ggml.add_space_prefix", v->prefix != LM_PREFIX_NONE);
    gguf_add_u32(m, "lamina.tokenizer.prefix", v->prefix);
    gguf_add_bool(m, "lamina.tokenizer.split_spaces", v->split_spaces);
    gguf_add_bool(m, "lamina.tokenizer.fuse_unk", v->fuse_unk);
    if (v->has_unk)
        gguf_add_u32(m, "tokenizer.ggml.unknown_token_id", v->unk);
    if (v->model == LM_TOKENIZER_UNIGRAM)
        gguf_add_bool(m, "tokenizer.ggml.remove_extra_whitespaces", false);
    if (v->model == LM_TOKENIZER_CHARS) {
        gguf_add_string(m, "lamina.tokenizer.model", "chars");
        merge_list(m, v);
    }
}

static void words(struct gguf_keys *m, const struct lm_vocabulary *v)
{
    static const char *const name[] = { [LM_PRE_GPT2] = "gpt-2",
        [LM_PRE_SMOLLM] = "smollm",
        [LM_PRE_LLAMA3] = "llama-bpe", [LM_PRE_QWEN2] = "qwen2" };
    bool smaug = v->pre == LM_PRE_LLAMA3 && !v->ignore_merges;  /* llama3's pattern */
    gguf_add_string(m, "tokenizer.ggml.pre", smaug ? "smaug-bpe" : name[v->pre]);
    gguf_add_bool(m, "tokenizer.ggml.add_space_prefix", false);
    merge_list(m, v);
    if (v->has_unk) {
        gguf_add_u32(m, "tokenizer.ggml.unknown_token_id", v->unk);
        gguf_add_bool(m, "lamina.tokenizer.unknown", true);
        gguf_add_bool(m, "lamina.tokenizer.fuse_unk", v->fuse_unk);
    }
}

static void tokenizer(struct gguf_keys *m, const struct lm_vocabulary *v,
                      const struct lm_arch *a, const uint32_t *made)
{
    static const char *const model[] = { [LM_TOKENIZER_BYTES] = "gpt2",
        [LM_TOKENIZER_CHARS] = "llama", [LM_TOKENIZER_SCORES] = "llama",
        [LM_TOKENIZER_UNIGRAM] = "t5" };
    gguf_add_string(m, "tokenizer.ggml.model", v ? model[v->model] : "none");
    if (v) {
        size_t n = (size_t)a->vocab > v->n_token ? (size_t)a->vocab : v->n_token;
        token_list(m, v, n);
        if (v->model == LM_TOKENIZER_BYTES)
            words(m, v);
        else
            pieces(m, v, made, n);
        if (v->ignore_merges)
            gguf_add_bool(m, "lamina.tokenizer.ignore_merges", true);
        if (v->nfc || v->pre == LM_PRE_QWEN2)
            gguf_add_bool(m, "lamina.tokenizer.nfc", v->nfc);
        if (v->chat_template)
            gguf_add_string(m, "tokenizer.chat_template", v->chat_template);
    }
    gguf_add_bool(m, "tokenizer.ggml.add_bos_token", a->add_bos);
    if (a->bos >= 0)
        gguf_add_u32(m, "tokenizer.ggml.bos_token_id", a->bos);
    if (a->eos >= 0)
        gguf_add_u32(m, "tokenizer.ggml.eos_token_id", a->eos);
    /* llama.cpp does more with the end of a turn than to end a text: it comes second */
    if (a->eos >= 0 && a->n_eos_more)
        gguf_add_u32(m, "tokenizer.ggml.eom_token_id", a->eos_more[0]);
    if (a->eos >= 0 && a->n_eos_more > 1)
        gguf_add_u32(m, "tokenizer.ggml.eot_token_id", a->eos_more[1]);
    if (a->pad >= 0)
        gguf_add_u32(m, "tokenizer.ggml.padding_token_id", a->pad);
}

/* 1 + rank of the first merge that makes each token, 0: none does; NULL: there is
 * no memory.  Pairs whose text is no token are passed over.                   */
static uint32_t *first_merges(const struct lm_host *h, const struct lm_vocabulary *v)
{
    struct fmt_map map = { 0 };
    struct fmt_buf both = { .h = h };
    int64_t twin;
    uint32_t *made = h->alloc((v->n_token + 1) * sizeof *made, "gguf");
    if (!made || !fmt_map_open(&map, h, v->token, v->n_token, &twin))
        both.failed = true;
    for (size_t i = 0; i < v->n_merge && !both.failed; i++) {
        const struct lm_token *l = &v->token[v->merge[i].left];
        const struct lm_token *r = &v->token[v->merge[i].right];
        both.n = 0;
        fmt_put(&both, l->text, l->length);
        fmt_put(&both, r->text, r->length);
        int64_t id = both.failed ? -1 : fmt_map_find(&map, both.p, both.n);
        if (id >= 0 && !made[id])
            made[id] = (uint32_t)i + 1;
    }
    if (both.failed) {
        h->release(made);
        made = NULL;
    }
    fmt_buf_free(&both);
    fmt_map_close(&map);
    return made;
}

uint64_t gguf_meta(const struct fmt *f, const struct lm_model *model,
                   const struct lm_export *x, const struct gguf_shape *g,
                   struct fmt_buf *b)
{
    /* numbers of llama.cpp's llama_ftype */
    static const int32_t file_type[LM_N_DTYPES] = { [LM_F32] = 0, [LM_F16] = 1,
        [LM_BF16] = 32, [LM_Q8_0] = 7, [LM_Q4_0] = 2, [LM_Q4_1] = 3, [LM_Q5_0] = 8,
        [LM_Q5_1] = 9, [LM_Q2_K] = 10, [LM_Q3_K] = 12, [LM_Q4_K] = 15, [LM_Q5_K] = 17,
        [LM_Q6_K] = 18, [LM_IQ4_NL] = 25 };
    const struct lm_arch *a = f->h->arch(model);
    struct gguf_keys m = { b, g->family, 0 };
    gguf_add_string(&m, "general.architecture", m.family);
    gguf_add_string(&m, "general.type", "model");
    gguf_add_string(&m, "general.name", a->name && *a->name ? a->name : "model");
    gguf_add_u32(&m, "general.file_type", file_type[g->dtype]);
    gguf_add_u32(&m, "general.alignment", GGUF_ALIGNMENT);
    gguf_add_u32(&m, "general.quantization_version", 2);
    if (x->card && *x->card)
        gguf_add_string(&m, "general.description", x->card);
    shape(&m, a, g);
    const struct lm_vocabulary *v = f->h->vocabulary(model);
    uint32_t *made = v && v->model == LM_TOKENIZER_CHARS ? first_merges(f->h, v) : NULL;
    if (v && v->model == LM_TOKENIZER_CHARS && !made)
        b->failed = true;
    else
        tokenizer(&m, v, a, made);
    f->h->release(made);
    gguf_own_write(f, model, x, g, &m);
    return m.n;
}
