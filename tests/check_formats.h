/* SPDX-License-Identifier: Apache-2.0 */
/* check_formats.h -- what the tests of the formats share: a host for them, a
 * small model made of random numbers, and a comparison of two models.         */
#ifndef LM_TESTS_CHECK_FORMATS_H
#define LM_TESTS_CHECK_FORMATS_H
#include "plug.h"

#include "base/json.h"
#include "base/rng.h"
#include "model/codec.h"
#include "model/model.h"

static inline bool formats_canceled(struct lm_run *r)
{
    (void)r;
    return false;
}

static inline void formats_progress(struct lm_run *r, double fraction, const char *what)
{
    (void)r, (void)what;
    ck_assert(fraction >= 0 && fraction <= 1);
}

static inline const struct lm_host *formats_host(void)
{
    static struct lm_host h;
    h = plug_host();
    h.canceled = formats_canceled;
    h.progress = formats_progress;
    h.codec = lm_codec;
    h.json = &lm_json_api;
    h.arch = lm_model_arch;
    h.tensor = lm_model_tensor;
    h.rows = lm_model_rows;
    h.vocabulary = lm_model_vocabulary;
    h.source = lm_model_source;
    h.set_arch = lm_builder_arch;
    h.add_tensor = lm_builder_tensor;
    h.set_vocabulary = lm_builder_vocabulary;
    h.map_file = lm_builder_map;
    h.keep = lm_builder_keep;
    h.read_file = lm_read_file;
    h.file_exists = lm_file_exists;
    h.make_folder = lm_make_folder;
    h.out_open = lm_out_open;
    h.out_write = lm_out_write;
    h.out_commit = lm_out_commit;
    h.out_abandon = lm_out_abandon;
    return &h;
}

static inline const struct lm_format *formats_ops(const char *name)
{
    return plug_open("formats", name)->ops;
}

/* reads with a fresh instance of a format */
static inline enum lm_status formats_read(const char *format, const char *path,
                                          struct lm_model **m, struct lm_err *e)
{
    const struct lm_module *p = plug_open("formats", format);
    struct lm_args args = { .struct_size = sizeof args, .host = formats_host() };
    struct lm_builder *b = NULL;
    void *self = NULL;
    enum lm_status s = p->create(&args, &self, e);
    if (s)
        return s;
    s = lm_builder_open(path, &b, e);
    if (!s) {
        s = ((const struct lm_format *)p->ops)->read(self, path, b, e);
        if (s)
            lm_builder_abandon(b);
        else
            s = lm_builder_finish(b, m, e);
    }
    p->destroy(self);
    return s;
}

/* with a config struct of the plugin's options, or NULL */
static inline enum lm_status formats_write_with(const char *format, const void *config,
                                                const struct lm_model *m,
                                                const char *path, uint32_t dtype,
                                                struct lm_err *e)
{
    const struct lm_module *p = plug_open("formats", format);
    struct lm_args args = { .struct_size = sizeof args, .host = formats_host(),
                            .config = config };
    struct lm_export x = { .struct_size = sizeof x, .path = path, .dtype = dtype,
                           .card = "# a model card\n", .parent = m };
    void *self = NULL;
    enum lm_status s = p->create(&args, &self, e);
    if (s)
        return s;
    s = ((const struct lm_format *)p->ops)->write(self, m, &x, e);
    p->destroy(self);
    return s;
}

static inline enum lm_status formats_write(const char *format, const struct lm_model *m,
                                           const char *path, uint32_t dtype,
                                           struct lm_err *e)
{
    return formats_write_with(format, NULL, m, path, dtype, e);
}

static bool toy_ignore_merges;

/* A vocabulary of n tokens: the letters, merges of pairs, one special token. */
static inline void toy_vocabulary(struct lm_builder *b)
{
    static const char *const text[] = { "<s>", "a", "b", "ab", "\xc4\xa0",
                                        ("\xc4\xa0" "a"), "\"", "\\", "[x\n]" };
    static struct lm_token token[9];
    static const struct lm_merge merge[] = { { 1, 2 }, { 4, 1 } };
    struct lm_err e;
    for (size_t i = 0; i < 9; i++)
        token[i] = (struct lm_token){ text[i], (uint32_t)strlen(text[i]),
            i == 0 ? LM_TOKEN_SPECIAL : i == 8 ? LM_TOKEN_ADDED : LM_TOKEN_NORMAL };
    struct lm_vocabulary v = { .struct_size = sizeof v, .pre = LM_PRE_SMOLLM,
                               .ignore_merges = toy_ignore_merges,
                               .token = token, .n_token = 9, .merge = merge, .n_merge = 2,
                               .chat_template = "{{ \"hi\" }}\n" };
    ck_assert_ok(lm_builder_vocabulary(b, &v, &e), e);
}

struct toy { int32_t n_layer, hidden, head_dim, vocab; const struct lm_layer_shape *layer;
             uint64_t biases;       /* LM_BIT(role) */ int32_t rope; bool words; };
static const struct lm_vocabulary *toy_words;   /* in place of toy_vocabulary() */
static uint32_t toy_eos_more;       /* how many of the ids 2 to 4 end a text as well */
static int32_t toy_window;
static const char *toy_generation;

/* f32 weights that f16 and bf16 hold exactly: k/64 with |k| < 128 */
static inline struct lm_model *toy_model(const struct toy *t)
{
    struct lm_arch a = { .struct_size = sizeof a, .n_layer = t->n_layer,
        .hidden = t->hidden, .head_dim = t->head_dim, .vocab = t->vocab, .context = 128,
        .family = "llama", .name = "toy", .rms_eps = 1e-5, .rope_theta = 10000,
        .rope = t->rope, .rope_factor = t->rope ? 4 : 1, .rope_low = 1, .rope_high = 4,
        .rope_context = 64, .bos = 0, .eos = 1, .pad = -1, .add_bos = t->words,
        .layer = t->layer, .eos_more = (const int32_t[]){ 2, 3, 4 },
        .n_eos_more = toy_eos_more, .window = toy_window, .rope_fast = 8,
        .rope_slow = 0.5, .rope_attention = 1.25, .generation = toy_generation };
    struct lm_rng r = lm_rng(1, "toy", 0);
    struct lm_builder *b;
    struct lm_model *m;
    struct lm_err e;
    ck_assert_ok(lm_builder_open("", &b, &e), e);
    ck_assert_ok(lm_builder_arch(b, &a, &e), e);
    for (int32_t l = -1; l < a.n_layer; l++)
        for (uint32_t role = 1; role < LM_N_ROLES; role++) {
            struct lm_tensor w = { .dtype = LM_F32 };
            if (lm_role_is_layer(role) != (l >= 0)
                || (role >= LM_B_Q && !(t->biases & LM_BIT(role)))
                || !lm_role_shape(&a, role, l, &w.rows, &w.cols))
                continue;
            float *x = lm_alloc((size_t)(w.rows * w.cols) * sizeof *x, "toy");
            for (int64_t i = 0; i < w.rows * w.cols; i++)
                x[i] = (float)((int64_t)lm_rng_below(&r, 255) - 127) / 64;
            w.data = x;
            lm_builder_keep(b, x);
            ck_assert_ok(lm_builder_tensor(b, role, l, &w, NULL, &e), e);
        }
    if (t->words && toy_words)
        ck_assert_ok(lm_builder_vocabulary(b, toy_words, &e), e);
    else if (t->words)
        toy_vocabulary(b);
    ck_assert_ok(lm_builder_finish(b, &m, &e), e);
    return m;
}

/* values of a tensor as floats; NULL: none.  free() it */
static inline float *tensor_floats(const struct lm_model *m, uint32_t role, int32_t l)
{
    const struct lm_tensor *t = lm_model_tensor(m, role, l);
    struct lm_err e;
    if (!t)
        return NULL;
    float *x = malloc((size_t)(t->rows * t->cols) * sizeof *x);
    ck_assert_ok(lm_model_rows(m, role, l, 0, t->rows, x, &e), e);
    return x;
}

static inline void same_tensor(const struct lm_model *a, uint32_t role, int32_t la,
                               const struct lm_model *b, int32_t lb)
{
    const struct lm_tensor *s = lm_model_tensor(a, role, la);
    const struct lm_tensor *t = lm_model_tensor(b, role, lb);
    ck_assert_msg(!s == !t, "%s of layer %d", lm_role_name(role), la);
    if (!s)
        return;
    ck_assert_int_eq(s->rows, t->rows);
    ck_assert_int_eq(s->cols, t->cols);
    float *x = tensor_floats(a, role, la), *y = tensor_floats(b, role, lb);
    ck_assert_msg(!memcmp(x, y, (size_t)(s->rows * s->cols) * sizeof *x),
                  "%s of layer %d differs", lm_role_name(role), la);
    free(x);
    free(y);
}

static inline void same_vocabulary(const struct lm_model *a, const struct lm_model *b)
{
    const struct lm_vocabulary *v = lm_model_vocabulary(a), *w = lm_model_vocabulary(b);
    ck_assert(!v == !w);
    if (!v)
        return;
    ck_assert_uint_eq(v->pre, w->pre);
    ck_assert_uint_eq(v->n_merge, w->n_merge);
    ck_assert(!memcmp(v->merge, w->merge, v->n_merge * sizeof *v->merge));
    ck_assert(!v->chat_template == !w->chat_template);
    if (v->chat_template)
        ck_assert_str_eq(v->chat_template, w->chat_template);
    size_t n = v->n_token < w->n_token ? v->n_token : w->n_token;
    for (size_t i = 0; i < n; i++) {
        ck_assert_uint_eq(v->token[i].kind, w->token[i].kind);
        ck_assert_uint_eq(v->token[i].length, w->token[i].length);
        ck_assert(!memcmp(v->token[i].text, w->token[i].text, v->token[i].length));
    }
    for (size_t i = n; i < v->n_token || i < w->n_token; i++)   /* filled up */
        ck_assert_uint_eq((i < v->n_token ? v : w)->token[i].kind, LM_TOKEN_UNUSED);
}

/* architecture, every weight bit for bit, vocabulary */
static inline void same_model(const struct lm_model *a, const struct lm_model *b)
{
    const struct lm_arch *p = lm_model_arch(a), *q = lm_model_arch(b);
    ck_assert_int_eq(p->n_layer, q->n_layer);
    ck_assert_int_eq(p->hidden, q->hidden);
    ck_assert_int_eq(p->head_dim, q->head_dim);
    ck_assert_int_eq(p->vocab, q->vocab);
    ck_assert_int_eq(p->context, q->context);
    ck_assert_double_eq(p->rms_eps, q->rms_eps);
    ck_assert_double_eq(p->rope_theta, q->rope_theta);
    ck_assert_int_eq(p->rope, q->rope);
    if (p->rope)
        ck_assert_double_eq(p->rope_factor, q->rope_factor);
    if (p->rope == LM_ROPE_LLAMA3) {
        ck_assert_double_eq(p->rope_low, q->rope_low);
        ck_assert_double_eq(p->rope_high, q->rope_high);
        ck_assert_double_eq(p->rope_context, q->rope_context);
    }
    if (p->rope == LM_ROPE_YARN) {
        ck_assert_double_eq(p->rope_fast, q->rope_fast);
        ck_assert_double_eq(p->rope_slow, q->rope_slow);
        ck_assert_double_eq(p->rope_context, q->rope_context);
        ck_assert_double_eq(p->rope_attention, q->rope_attention);
        ck_assert(p->rope_exact == q->rope_exact);
    }
    ck_assert_int_eq(p->window, q->window);
    if (p->generation)              /* hf makes one where there is none */
        ck_assert_str_eq(p->generation, q->generation ? q->generation : "none");
    ck_assert_uint_eq(p->n_eos_more, q->n_eos_more);
    for (uint32_t i = 0; i < p->n_eos_more; i++)
        ck_assert_int_eq(p->eos_more[i], q->eos_more[i]);
    ck_assert(p->tied == q->tied && p->add_bos == q->add_bos);
    ck_assert(p->bos == q->bos && p->eos == q->eos && p->pad == q->pad);
    for (int32_t l = -1; l < p->n_layer; l++) {
        if (l >= 0)
            ck_assert(!memcmp(&p->layer[l], &q->layer[l], sizeof *p->layer));
        for (uint32_t r = 1; r < LM_N_ROLES; r++)
            if (lm_role_is_layer(r) == (l >= 0))
                same_tensor(a, r, l, b, l);
    }
    same_vocabulary(a, b);
}

/* removes the files in folder/name and it */
static inline void drop_folder(const char *folder, const char *name)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    scratch_end(path);
}

/* quick: no fsync, no rename */
static inline void put_file(const char *path, const void *p, size_t n)
{
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(p, 1, n, f), n);
    fclose(f);
}

Suite *formats_bad_suite(void);
Suite *formats_uneven_suite(void);
#endif
