/* SPDX-License-Identifier: Apache-2.0 */
/* check_formats.c -- reading and writing of models: golden checkpoints and
 * made ones go through both formats and come back bit for bit; what is written
 * is compared with the formulas of the formats, written out naively here.     */
#include "check_formats.h"

#include <math.h>

static const uint64_t CUTS = LM_SHAPE_UNEVEN_FF | LM_SHAPE_UNEVEN_HEADS | LM_SHAPE_NO_ATTN |
                             LM_SHAPE_NO_MLP | LM_SHAPE_ATTN_BIAS | LM_SHAPE_MLP_BIAS;

static char scratch[256];

static const char *in_scratch(const char *name)
{
    static char path[4][1024];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", scratch, name);
    return path[next];
}

static const struct { const char *path; uint32_t dtype; bool tied; int32_t heads, kv, ff;
                      size_t tokens; double theta; } golden[] = {
    { "tests/golden/llama-mha", LM_F32, false, 4, 4, 72, 0, 1e4 },
    { "tests/golden/llama-gqa-tied-bf16", LM_BF16, true, 6, 2, 130, 0, 1e5 },
    { "examples/tiny", LM_F16, true, 6, 2, 256, 768, 1e4 },
};

START_TEST(reads_golden_folders)
{
    struct lm_model *m;
    struct lm_err e;
    ck_assert_ok(formats_read("hf", source_path(golden[_i].path), &m, &e), e);
    const struct lm_arch *a = lm_model_arch(m);
    ck_assert_int_eq(a->layer[1].n_head, golden[_i].heads);
    ck_assert_int_eq(a->layer[1].n_kv, golden[_i].kv);
    ck_assert_int_eq(a->layer[1].n_ff, golden[_i].ff);
    ck_assert(a->tied == golden[_i].tied);
    ck_assert_double_eq(a->rope_theta, golden[_i].theta);
    ck_assert_double_eq(a->rms_eps, 1e-5);
    ck_assert_int_eq(a->bos, 1);
    ck_assert_int_eq(a->pad, -1);
    ck_assert(!a->add_bos);
    ck_assert_uint_eq(lm_model_tensor(m, LM_W_UP, 2)->dtype, golden[_i].dtype);
    const struct lm_vocabulary *v = lm_model_vocabulary(m);
    ck_assert_uint_eq(v ? v->n_token : 0, golden[_i].tokens);
    if (v) {
        ck_assert_uint_eq(v->pre, LM_PRE_GPT2);
        ck_assert_uint_eq(v->token[0].kind, LM_TOKEN_SPECIAL);
        ck_assert(!memcmp(v->token[v->merge[0].left].text, "h", 1));
        ck_assert(!memcmp(v->token[v->merge[0].right].text, "e", 1));
    }
    lm_model_free(m);
}
END_TEST

/* hf -> gguf -> hf in the number format of the file */
START_TEST(golden_round_trip)
{
    struct lm_model *a, *b, *c;
    struct lm_err e;
    uint32_t dtype = golden[_i].dtype;
    ck_assert_ok(formats_read("hf", source_path(golden[_i].path), &a, &e), e);
    ck_assert_ok(formats_write("gguf", a, in_scratch("m.gguf"), dtype, &e), e);
    ck_assert_ok(formats_read("gguf", in_scratch("m.gguf"), &b, &e), e);
    same_model(a, b);
    ck_assert_uint_eq(lm_model_tensor(b, LM_W_Q, 0)->dtype, dtype);
    ck_assert_uint_eq(lm_model_tensor(b, LM_W_EMBED, -1)->dtype, dtype);
    ck_assert_uint_eq(lm_model_tensor(b, LM_W_ATTN_NORM, 0)->dtype, LM_F32);
    ck_assert_ok(formats_write("hf", b, in_scratch("hf"), dtype, &e), e);
    ck_assert_ok(formats_read("hf", in_scratch("hf"), &c, &e), e);
    same_model(a, c);
    lm_model_free(a);
    lm_model_free(b);
    lm_model_free(c);
    drop_folder(scratch, "hf");
}
END_TEST

static void same_file(const char *a, const char *b)
{
    char *s, *t;
    size_t n, k;
    struct lm_err e;
    ck_assert_ok(lm_read_file(a, 1 << 24, &s, &n, &e), e);
    ck_assert_ok(lm_read_file(b, 1 << 24, &t, &k, &e), e);
    ck_assert_msg(n == k && !memcmp(s, t, n), "%s and %s differ", a, b);
    lm_release(s);
    lm_release(t);
}

START_TEST(folder_carries_files_over)
{
    struct lm_model *m;
    struct lm_err e;
    char *card;
    size_t n;
    ck_assert_ok(formats_read("hf", source_path("examples/tiny"), &m, &e), e);
    ck_assert_ok(formats_write("hf", m, in_scratch("hf"), LM_F16, &e), e);
    same_file(source_path("examples/tiny/tokenizer.json"),
              in_scratch("hf/tokenizer.json"));
    same_file(source_path("examples/tiny/generation_config.json"),
              in_scratch("hf/generation_config.json"));
    ck_assert_ok(lm_read_file(in_scratch("hf/README.md"), 1000, &card, &n, &e), e);
    ck_assert_str_eq(card, "# a model card\n");
    lm_release(card);
    lm_model_free(m);
    drop_folder(scratch, "hf");
}
END_TEST

static const struct lm_layer_shape equal[2] = { { 4, 2, 64, 0 }, { 4, 2, 64, 0 } };

/* The rows of q as llama.cpp wants them: w.reshape(heads, 2, h/2, cols) with the
 * middle axes swapped.                                                        */
START_TEST(rows_are_interleaved)
{
    const struct toy t = { 2, 32, 8, 12, equal, 0, 0, false };
    struct lm_model *m = toy_model(&t);
    struct lm_err e;
    char *file;
    size_t n;
    float want[32][32], *q = tensor_floats(m, LM_W_Q, 1), (*w)[32] = (float (*)[32])q;
    for (int head = 0; head < 4; head++)
        for (int half = 0; half < 2; half++)
            for (int j = 0; j < 4; j++)
                memcpy(want[head * 8 + j * 2 + half], w[head * 8 + half * 4 + j],
                       sizeof *want);
    ck_assert_ok(formats_write("gguf", m, in_scratch("m.gguf"), LM_F32, &e), e);
    ck_assert_ok(lm_read_file(in_scratch("m.gguf"), 1 << 24, &file, &n, &e), e);
    ck_assert_ptr_nonnull(memmem(file, n, want, sizeof want));
    ck_assert_ptr_null(memmem(file, n, q, sizeof want));
    free(q);
    lm_release(file);
    lm_model_free(m);
}
END_TEST

static const uint32_t all_dtypes[] = { LM_F32, LM_F16, LM_BF16, LM_Q8_0, LM_Q4_0,
                                       LM_Q4_1 };

/* every number format: the file holds what the codec makes of the weights, and
 * a second pass is a copy                                                     */
START_TEST(gguf_number_formats)
{
    const struct toy t = { 2, 32, 8, 12, equal, 0, LM_ROPE_LINEAR, true };
    struct lm_model *m = toy_model(&t), *a, *b;
    const struct lm_codec *c = lm_codec(all_dtypes[_i]);
    struct lm_err e;
    char code[512];
    float back[64];
    ck_assert_ok(formats_write("gguf", m, in_scratch("m.gguf"), c->dtype, &e), e);
    ck_assert_ok(formats_read("gguf", in_scratch("m.gguf"), &a, &e), e);
    for (uint32_t r = LM_W_Q; r <= LM_W_DOWN; r++) {
        const struct lm_tensor *w = lm_model_tensor(m, r, 1);
        if (!lm_role_is_matrix(r))
            continue;
        float *x = tensor_floats(m, r, 1), *y = tensor_floats(a, r, 1);
        ck_assert_uint_eq(lm_model_tensor(a, r, 1)->dtype, c->dtype);
        for (int64_t i = 0; i < w->rows; i++) {
            c->encode(x + i * w->cols, code, w->cols);
            c->decode(code, back, w->cols);
            ck_assert(!memcmp(back, y + i * w->cols, (size_t)w->cols * 4));
        }
        free(x);
        free(y);
    }
    ck_assert_ok(formats_write("gguf", a, in_scratch("n.gguf"), c->dtype, &e), e);
    ck_assert_ok(formats_read("gguf", in_scratch("n.gguf"), &b, &e), e);
    same_model(a, b);
    same_file(in_scratch("m.gguf"), in_scratch("n.gguf"));
    lm_model_free(m);
    lm_model_free(a);
    lm_model_free(b);
}
END_TEST

/* 40 columns are no multiple of 32 */
START_TEST(gguf_falls_back_to_f16)
{
    static const struct lm_layer_shape odd = { 4, 2, 40, 0 };
    const struct toy t = { 1, 32, 8, 12, &odd, 0, 0, false };
    struct lm_model *m = toy_model(&t), *a;
    struct lm_err e;
    ck_assert_ok(formats_write("gguf", m, in_scratch("m.gguf"), LM_Q4_0, &e), e);
    ck_assert_ok(formats_read("gguf", in_scratch("m.gguf"), &a, &e), e);
    ck_assert_uint_eq(lm_model_tensor(a, LM_W_UP, 0)->dtype, LM_Q4_0);
    ck_assert_uint_eq(lm_model_tensor(a, LM_W_DOWN, 0)->dtype, LM_F16);
    same_tensor(m, LM_W_DOWN, 0, a, 0);
    lm_model_free(m);
    lm_model_free(a);
}
END_TEST

static void all_values(const struct lm_model *m, uint32_t role, int32_t l, float value)
{
    const struct lm_tensor *t = lm_model_tensor(m, role, l);
    float *x = tensor_floats(m, role, l);
    ck_assert_ptr_nonnull(x);
    for (int64_t i = 0; i < t->rows * t->cols; i++)
        ck_assert_float_eq(x[i], value);
    free(x);
}

/* A first layer without attention gets one head of zeros, a layer without MLP
 * a zero MLP, an empty layer goes; the rest is as it was.                     */
START_TEST(uneven_layers_become_deci)
{
    static const struct lm_layer_shape layer[6] = { { 0, 0, 64, 0 }, { 4, 2, 0, 0 },
        { 0, 0, 0, 0 }, { 2, 1, 96, 0 }, { 4, 4, 32, 0 }, { 0, 0, 32, 0 } };
    static const struct lm_layer_shape want[5] = { { 1, 1, 64, 0 }, { 4, 2, 32, 0 },
        { 2, 1, 96, 0 }, { 4, 4, 32, 0 }, { 0, 0, 32, 0 } };
    static const int32_t from[5] = { 0, 1, 3, 4, 5 };
    uint64_t bias = LM_BIT(LM_B_Q) | LM_BIT(LM_B_K) | LM_BIT(LM_B_O) | LM_BIT(LM_B_DOWN);
    const struct toy t = { 6, 32, 8, 12, layer, bias, LM_ROPE_LLAMA3, true };
    struct lm_model *m = toy_model(&t), *a, *b;
    struct lm_err e;
    ck_assert_ok(formats_write("gguf", m, in_scratch("m.gguf"), LM_F16, &e), e);
    ck_assert_ok(formats_read("gguf", in_scratch("m.gguf"), &a, &e), e);
    ck_assert_int_eq(lm_model_arch(a)->n_layer, 5);
    ck_assert_int_eq(lm_model_arch(a)->rope, LM_ROPE_LLAMA3);
    ck_assert_double_eq(lm_model_arch(a)->rope_context, 64);
    ck_assert(!memcmp(lm_model_arch(a)->layer, want, sizeof want));
    for (int32_t l = 0; l < 5; l++)
        for (uint32_t r = LM_W_ATTN_NORM; r <= LM_B_DOWN; r++) {
            bool mlp = (r >= LM_W_MLP_NORM && r <= LM_W_DOWN) || r >= LM_B_GATE;
            if (!(l == 0 && !mlp) && !(l == 1 && mlp))
                same_tensor(m, r, from[l], a, l);
        }
    all_values(a, LM_W_ATTN_NORM, 0, 1);
    all_values(a, LM_W_O, 0, 0);
    all_values(a, LM_W_V, 0, 0);
    all_values(a, LM_W_MLP_NORM, 1, 1);
    all_values(a, LM_W_DOWN, 1, 0);
    ck_assert_ptr_null(lm_model_tensor(a, LM_W_ATTN_NORM, 4));
    ck_assert_ok(formats_write("gguf", a, in_scratch("n.gguf"), LM_F16, &e), e);
    ck_assert_ok(formats_read("gguf", in_scratch("n.gguf"), &b, &e), e);
    same_model(a, b);
    lm_model_free(m);
    lm_model_free(a);
    lm_model_free(b);
}
END_TEST

/* made tokenizer files, llama3 scaling, some of the biases */
START_TEST(folder_from_nothing)
{
    uint64_t bias = LM_BIT(LM_B_O);
    const struct toy t = { 2, 32, 8, 12, equal, bias, LM_ROPE_LLAMA3, true };
    const struct toy u = { 2, 32, 8, 12, equal, 0, LM_ROPE_LINEAR, true };
    struct lm_model *m = toy_model(&t), *k = toy_model(&u), *a, *b;
    struct lm_err e;
    ck_assert_ok(formats_write("hf", m, in_scratch("hf"), LM_BF16, &e), e);
    ck_assert_ok(formats_read("hf", in_scratch("hf"), &a, &e), e);
    same_tensor(m, LM_B_O, 1, a, 1);
    all_values(a, LM_B_Q, 1, 0);
    all_values(a, LM_B_V, 0, 0);
    ck_assert_ptr_null(lm_model_tensor(a, LM_B_DOWN, 0));
    ck_assert_int_eq(lm_model_arch(a)->rope, LM_ROPE_LLAMA3);
    ck_assert_double_eq(lm_model_arch(a)->rope_context, 64);
    ck_assert(lm_model_arch(a)->add_bos);
    same_vocabulary(m, a);
    drop_folder(scratch, "hf");
    ck_assert_ok(formats_write("hf", k, in_scratch("hf"), LM_F32, &e), e);
    ck_assert_ok(formats_read("hf", in_scratch("hf"), &b, &e), e);
    same_model(k, b);
    drop_folder(scratch, "hf");
    lm_model_free(m);
    lm_model_free(k);
    lm_model_free(a);
    lm_model_free(b);
}
END_TEST

START_TEST(f16_overflow_is_told)
{
    const struct toy t = { 2, 32, 8, 12, equal, 0, 0, false };
    struct lm_model *m = toy_model(&t);
    struct lm_err e;
    ((float *)lm_model_tensor(m, LM_W_UP, 1)->data)[5] = 1e6f;
    ck_assert_int_eq(formats_write("gguf", m, in_scratch("m.gguf"), LM_F16, &e),
                     LM_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(e.text, "blk.1.ffn_up.weight"));
    ck_assert(!lm_file_exists(in_scratch("m.gguf")));
    ck_assert_ok(formats_write("gguf", m, in_scratch("m.gguf"), LM_BF16, &e), e);
    lm_model_free(m);
}
END_TEST

/* config.json has one id or a list, generation_config.json may know more. */
START_TEST(ends_of_text)
{
    static const char more[] = "{\"eos_token_id\": [3, 1, 5]}";
    const struct toy t = { 2, 32, 8, 16, equal, 0, 0, false };
    struct lm_model *m, *back = NULL;
    struct lm_err e;
    toy_eos_more = 2;
    m = toy_model(&t);
    toy_eos_more = 0;
    ck_assert_ok(formats_write("hf", m, in_scratch("hf"), LM_F32, &e), e);
    lm_model_free(m);
    ck_assert_ok(formats_read("hf", in_scratch("hf"), &m, &e), e);
    const struct lm_arch *a = lm_model_arch(m);
    ck_assert_int_eq(a->eos, 1);
    ck_assert_uint_eq(a->n_eos_more, 2);
    ck_assert_int_eq(a->eos_more[0], 2);
    ck_assert_int_eq(a->eos_more[1], 3);
    put_file(in_scratch("hf/generation_config.json"), more, sizeof more - 1);
    ck_assert_ok(formats_read("hf", in_scratch("hf"), &back, &e), e);
    a = lm_model_arch(back);
    ck_assert_uint_eq(a->n_eos_more, 3);
    ck_assert_int_eq(a->eos_more[2], 5);
    ck_assert(lm_model_hash(m) != lm_model_hash(back));
    lm_model_free(back);
    put_file(in_scratch("hf/generation_config.json"), "{\"eos_token_id\": [99]}", 22);
    ck_assert_int_eq(formats_read("hf", in_scratch("hf"), &back, &e), LM_EINPUT);
    lm_model_free(m);
}
END_TEST

START_TEST(limits_and_probe)
{
    const struct lm_module *hf = plug_open("formats", "hf");
    const struct lm_format *g = formats_ops("gguf"), *h = hf->ops;
    struct lm_args args = { .struct_size = sizeof args, .host = formats_host() };
    struct lm_limits k = { .struct_size = sizeof k };
    struct lm_err e;
    void *self;
    ck_assert_ok(hf->create(&args, &self, &e), e);      /* both have the same self */
    ck_assert_ok(g->limits(self, NULL, LM_Q8_0, &k, &e), e);
    ck_assert_int_eq(k.multiple, 32);
    ck_assert_uint_eq(k.features, CUTS | LM_SHAPE_FORMATS);
    ck_assert_uint_eq(k.struct_size, sizeof k);
    ck_assert_ok(g->limits(self, NULL, LM_F16, &k, &e), e);
    ck_assert_int_eq(k.multiple, 1);
    ck_assert_ok(h->limits(self, NULL, LM_BF16, &k, &e), e);
    ck_assert_uint_eq(k.features, CUTS);
    ck_assert_int_eq(k.multiple, 1);
    k = (struct lm_limits){ .struct_size = offsetof(struct lm_limits, multiple) };
    ck_assert_ok(g->limits(self, NULL, LM_Q8_0, &k, &e), e);  /* a caller of older days */
    ck_assert_uint_eq(k.struct_size, offsetof(struct lm_limits, multiple));
    ck_assert_uint_eq(k.features, CUTS | LM_SHAPE_FORMATS);
    ck_assert_int_eq(k.multiple, 0);
    ck_assert_int_eq(h->limits(self, NULL, LM_Q8_0, &k, &e), LM_EUNSUPPORTED);
    ck_assert_int_eq(h->probe(self, source_path("examples/tiny")), 100);
    ck_assert_int_eq(g->probe(self, source_path("examples/tiny")), 0);
    put_file(in_scratch("m.gguf"), "GGUF", 4);
    ck_assert_int_eq(g->probe(self, in_scratch("m.gguf")), 100);
    ck_assert_int_eq(h->probe(self, in_scratch("m.gguf")), 0);
    ck_assert_int_eq(g->probe(self, in_scratch("none.gguf")), 0);
    hf->destroy(self);
}
END_TEST

/* what gguf refuses of a model, before a search and when it writes */
static void refused_gguf_model(const struct toy *t, const char *why)
{
    const struct lm_module *p = plug_open("formats", "gguf");
    const struct lm_format *g = p->ops;
    struct lm_args args = { .struct_size = sizeof args, .host = formats_host() };
    struct lm_limits k = { .struct_size = sizeof k };
    struct lm_model *m = toy_model(t);
    struct lm_err e = { 0 };
    void *self;
    ck_assert_ok(p->create(&args, &self, &e), e);
    ck_assert_int_eq(g->limits(self, m, LM_F16, &k, &e), LM_EUNSUPPORTED);
    ck_assert_msg(strstr(e.text, why) != NULL, "%s", e.text);
    e = (struct lm_err){ 0 };
    ck_assert_int_eq(formats_write("gguf", m, in_scratch("m.gguf"), LM_F16, &e),
                     LM_EUNSUPPORTED);
    ck_assert_msg(strstr(e.text, why) != NULL, "%s", e.text);
    ck_assert(!lm_file_exists(in_scratch("m.gguf")));
    p->destroy(self);
    lm_model_free(m);
}

static uint64_t features_with(const char *format, const void *config, const struct toy *t)
{
    const struct lm_module *p = plug_open("formats", format);
    struct lm_args args = { .struct_size = sizeof args, .host = formats_host(),
                            .config = config };
    struct lm_limits k = { .struct_size = sizeof k };
    struct lm_model *m = toy_model(t);
    struct lm_err e;
    void *self;
    ck_assert_ok(p->create(&args, &self, &e), e);
    ck_assert_ok(((const struct lm_format *)p->ops)->limits(self, m, LM_F16, &k, &e), e);
    p->destroy(self);
    lm_model_free(m);
    return k.features;
}

static uint64_t features_of(const char *format, const struct toy *t)
{
    return features_with(format, NULL, t);
}

/* Norms of q and k leave GGUF as qwen3 only: equal layers, no biases. */
START_TEST(limits_depend_on_the_model)
{
    static const struct lm_layer_shape uneven[2] = { { 4, 2, 64, 0 }, { 4, 2, 32, 0 } };
    const uint64_t norms = LM_BIT(LM_W_Q_NORM) | LM_BIT(LM_W_K_NORM);
    const uint64_t qkv = LM_BIT(LM_B_Q) | LM_BIT(LM_B_K) | LM_BIT(LM_B_V);
    static const bool pad = true;               /* hf's option */
    struct toy t = { 2, 32, 8, 12, equal, 0, 0, true };
    struct lm_model *m;
    struct lm_err e = { 0 };
    ck_assert_uint_eq(features_of("gguf", &t), CUTS | LM_SHAPE_FORMATS);
    t.biases = qkv;                             /* as qwen2: deci holds these, too */
    ck_assert_uint_eq(features_of("gguf", &t), CUTS | LM_SHAPE_FORMATS);
    t.biases = norms;
    ck_assert_uint_eq(features_of("gguf", &t), LM_SHAPE_FORMATS);
    ck_assert_uint_eq(features_of("hf", &t), CUTS);
    ck_assert_uint_eq(features_with("hf", &pad, &t), CUTS - LM_SHAPE_MLP_BIAS);
    t.layer = uneven;
    m = toy_model(&t);
    ck_assert_int_eq(formats_write("gguf", m, in_scratch("m.gguf"), LM_F16, &e),
                     LM_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(e.text, "layers are equal"));
    lm_model_free(m);
    t.biases = norms | LM_BIT(LM_B_O);
    refused_gguf_model(&t, "norms of q and k");
}
END_TEST

START_TEST(gguf_refuses)
{
    static const struct lm_layer_shape none[2] = { { 0 } };
    struct toy t = { 2, 32, 8, 12, equal, 0, 0, true };
    struct lm_model *m, *back;
    struct lm_err e;
    toy_ignore_merges = true;
    refused_gguf_model(&t, "ignore_merges");
    toy_ignore_merges = false;
    m = toy_model(&t);
    ck_assert_int_eq(formats_write("gguf", m, in_scratch("m.gguf"), LM_N_DTYPES, &e),
                     LM_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(e.text, "number format"));
    ck_assert_ok(formats_write("gguf", m, in_scratch("m.gguf"), LM_F16, &e), e);
    lm_model_free(m);
    ck_assert_ok(formats_read("gguf", in_scratch("m.gguf"), &back, &e), e);
    ck_assert_int_eq(formats_write("gguf", back, in_scratch("m.gguf"), LM_F16, &e),
                     LM_ECONFIG);
    ck_assert_ptr_nonnull(strstr(e.text, "overwrite"));
    lm_model_free(back);
    t.layer = none;
    m = toy_model(&t);
    ck_assert_int_eq(formats_write("gguf", m, in_scratch("n.gguf"), LM_F16, &e),
                     LM_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(e.text, "without layers"));
    lm_model_free(m);
}
END_TEST

/* Further ends of a text: eom and eot of llama.cpp, and all of them for us. */
START_TEST(ends_of_text_in_gguf)
{
    static const struct { uint32_t n; const char *key[2]; } one[] = {
        { 0, { NULL, NULL } }, { 1, { "tokenizer.ggml.eom_token_id", NULL } },
        { 3, { "tokenizer.ggml.eom_token_id", "tokenizer.ggml.eot_token_id" } } };
    const struct toy t = { 2, 32, 8, 16, equal, 0, 0, false };
    for (size_t i = 0; i < 3; i++) {
        struct lm_model *m, *a;
        struct lm_err e;
        char *file, *at;
        size_t n;
        toy_eos_more = one[i].n;
        m = toy_model(&t);
        toy_eos_more = 0;
        ck_assert_ok(formats_write("gguf", m, in_scratch("m.gguf"), LM_F16, &e), e);
        ck_assert_ok(formats_read("gguf", in_scratch("m.gguf"), &a, &e), e);
        ck_assert_int_eq(lm_model_arch(a)->eos, 1);
        ck_assert_uint_eq(lm_model_arch(a)->n_eos_more, one[i].n);
        for (uint32_t k = 0; k < one[i].n; k++)
            ck_assert_int_eq(lm_model_arch(a)->eos_more[k], (int32_t)k + 2);
        lm_model_free(a);
        ck_assert_ok(lm_read_file(in_scratch("m.gguf"), 1 << 20, &file, &n, &e), e);
        for (int k = 0; k < 2 && one[i].key[k]; k++) {
            at = memmem(file, n, one[i].key[k], strlen(one[i].key[k]));
            ck_assert_ptr_nonnull(at);          /* then its type, then the id */
            ck_assert_int_eq(at[strlen(one[i].key[k]) + 4], k + 2);
        }
        if (i == 2) {                           /* without our key */
            at = memmem(file, n, "lamina.eos_token_ids", 20);
            memcpy(at, "lamina.eos_token_odd", 20);
            put_file(in_scratch("m.gguf"), file, n);
            ck_assert_ok(formats_read("gguf", in_scratch("m.gguf"), &a, &e), e);
            ck_assert_uint_eq(lm_model_arch(a)->n_eos_more, 2);
            ck_assert_int_eq(lm_model_arch(a)->eos_more[1], 3);
            lm_model_free(a);
        }
        lm_release(file);
        lm_model_free(m);
    }
}
END_TEST

/* ---- failing allocations ------------------------------------------------------ */
static struct lm_model *shared;

static enum lm_status work_read(void *format)
{
    struct lm_model *m = NULL;
    struct lm_err e;
    const char *path = in_scratch(strcmp(format, "hf") ? "m.gguf" : "hf");
    enum lm_status s = formats_read(format, path, &m, &e);
    if (!s)
        lm_model_free(m);
    return s;
}

static enum lm_status work_write(void *format)
{
    struct lm_err e;
    const char *path = in_scratch(strcmp(format, "hf") ? "m.gguf" : "hf");
    return formats_write(format, shared, path, LM_F16, &e);
}

START_TEST(every_allocation_may_fail)
{
    const struct toy t = { 2, 32, 8, 12, equal, LM_BIT(LM_B_O), LM_ROPE_LLAMA3, true };
    static char hf[] = "hf", gguf[] = "gguf";
    shared = toy_model(&t);
    ck_assert_int_gt(fail_every_allocation(work_write, gguf), 10);
    ck_assert_int_gt(fail_every_allocation(work_write, hf), 10);
    ck_assert_int_gt(fail_every_allocation(work_read, gguf), 10);
    ck_assert_int_gt(fail_every_allocation(work_read, hf), 10);
    lm_model_free(shared);
    drop_folder(scratch, "hf");
}
END_TEST

/* every write may fail: LM_EIO, and no half-written file under its name */
START_TEST(every_file_operation_may_fail)
{
    const struct toy t = { 2, 32, 8, 12, equal, 0, 0, true };
    static const char *const format[] = { "gguf", "hf" };
    static const char *const path[] = { "m.gguf", "hf" };
    static const char *const last[] = { "m.gguf", "hf/config.json" };
    struct lm_model *m = toy_model(&t);
    struct lm_err e;
    for (size_t i = 0; i < 2; i++)
        for (int64_t k = 1;; k++) {
            lm_fault_file(k);
            enum lm_status s = formats_write(format[i], m, in_scratch(path[i]), LM_F16,
                                             &e);
            bool fired = lm_fault_file_fired();
            lm_fault_file(0);
            ck_assert_msg(s == (fired ? LM_EIO : LM_OK), "operation %d: %s", (int)k,
                          e.text);
            ck_assert(lm_file_exists(in_scratch(last[i])) == !s);
            if (!fired)
                break;
        }
    lm_model_free(m);
    drop_folder(scratch, "hf");
}
END_TEST

static void setup(void)
{
    scratch_begin(scratch);
}

static void teardown(void)
{
    scratch_end(scratch);
}

int main(void)
{
    Suite *s[3] = {
        suite_create("formats"), formats_bad_suite(), formats_uneven_suite()
    };
    TCase *t = tcase_create("round trips");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, reads_golden_folders, 0, 3);
    tcase_add_loop_test(t, golden_round_trip, 0, 3);
    tcase_add_test(t, folder_carries_files_over);
    tcase_add_test(t, rows_are_interleaved);
    tcase_add_loop_test(t, gguf_number_formats, 0, 6);
    tcase_add_test(t, gguf_falls_back_to_f16);
    tcase_add_test(t, uneven_layers_become_deci);
    tcase_add_test(t, folder_from_nothing);
    tcase_add_test(t, f16_overflow_is_told);
    tcase_add_test(t, limits_and_probe);
    tcase_add_test(t, ends_of_text);
    tcase_add_test(t, limits_depend_on_the_model);
    tcase_add_test(t, gguf_refuses);
    tcase_add_test(t, ends_of_text_in_gguf);
    tcase_add_test(t, every_allocation_may_fail);
    tcase_add_test(t, every_file_operation_may_fail);
    suite_add_tcase(s[0], t);
    return run_suites(s, 3);
}
