/* SPDX-License-Identifier: Apache-2.0 */
/* check_formats_bad.c -- files that are truncated, damaged or not supported:
 * never a crash, always LM_EINPUT, and what is not supported by its name.     */
#include <fcntl.h>
#include <unistd.h>

#include "check_formats.h"

static char scratch[256], hf[512], weights[600], config[600], words[600], gguf[600];

static const struct lm_layer_shape one = { 2, 1, 6, 0 };
static const struct toy tiny = { 1, 8, 4, 12, &one, 0, LM_ROPE_LLAMA3, true };

/* The files are written once and kept in memory: writing waits for the disk. */
static struct { const char *name; char *text; size_t n; } image[] = {
    { "hf/model.safetensors", NULL, 0 }, { "hf/config.json", NULL, 0 },
    { "hf/tokenizer.json", NULL, 0 }, { "hf/tokenizer_config.json", NULL, 0 },
    { "hf/generation_config.json", NULL, 0 }, { "m.gguf", NULL, 0 },
};
enum { N_IMAGE = sizeof image / sizeof *image };

static void paths(void)
{
    scratch_begin(scratch);
    snprintf(hf, sizeof hf, "%s/hf", scratch);
    snprintf(weights, sizeof weights, "%s/model.safetensors", hf);
    snprintf(config, sizeof config, "%s/config.json", hf);
    snprintf(words, sizeof words, "%s/tokenizer.json", hf);
    snprintf(gguf, sizeof gguf, "%s/m.gguf", scratch);
}

static void teardown(void)
{
    scratch_end(hf);
    scratch_end(scratch);
}

static void make_images(void)
{
    char path[600];
    struct lm_err e;
    paths();
    struct lm_model *m = toy_model(&tiny);
    ck_assert_ok(formats_write("hf", m, hf, LM_F32, &e), e);
    ck_assert_ok(formats_write("gguf", m, gguf, LM_F32, &e), e);
    lm_model_free(m);
    for (size_t i = 0; i < N_IMAGE; i++) {
        snprintf(path, sizeof path, "%s/%s", scratch, image[i].name);
        ck_assert_ok(lm_read_file(path, 1 << 20, &image[i].text, &image[i].n, &e), e);
    }
    teardown();
}

static void drop_images(void)
{
    for (size_t i = 0; i < N_IMAGE; i++)
        lm_release(image[i].text);
}

static void setup(void)
{
    char path[600];
    struct lm_err e;
    paths();
    ck_assert_ok(lm_make_folder(hf, &e), e);
    for (size_t i = 0; i < N_IMAGE; i++) {
        snprintf(path, sizeof path, "%s/%s", scratch, image[i].name);
        put_file(path, image[i].text, image[i].n);
    }
}

static enum lm_status try_read(const char *format, struct lm_err *e)
{
    struct lm_model *m = NULL;
    *e = (struct lm_err){ 0 };
    enum lm_status s = formats_read(format, strcmp(format, "hf") ? gguf : hf, &m, e);
    if (!s)
        lm_model_free(m);
    return s;
}

/* Files are cut and changed in place: to write them anew waits for the disk. */
static void cut_everywhere(const char *format, const char *path)
{
    char *text;
    size_t n;
    struct lm_err e;
    ck_assert_ok(lm_read_file(path, 1 << 20, &text, &n, &e), e);
    for (size_t k = n; k-- > 0;) {
        ck_assert_int_eq(truncate(path, (off_t)k), 0);
        enum lm_status s = try_read(format, &e);
        ck_assert_msg(s == LM_EINPUT || (!strcmp(path, gguf) && n - k <= 32 && !s),
                      "%s cut to %zu of %zu: %s %s", path, k, n, lm_status_name(s),
                      e.text);
    }
    lm_release(text);
}

/* padding behind the last tensor of a GGUF file may be missing */
START_TEST(truncated_files)
{
    cut_everywhere("hf", weights);
}
END_TEST

START_TEST(truncated_gguf)
{
    cut_everywhere("gguf", gguf);
}
END_TEST

/* header bytes changed one at a time: read as something else, or refused */
static void flip(const char *format, const char *path)
{
    static const unsigned char mask[] = { 0x01, 0x80, 0xff };
    char *text;
    size_t n, bad = 0;
    struct lm_err e;
    ck_assert_ok(lm_read_file(path, 1 << 20, &text, &n, &e), e);
    int f = open(path, O_RDWR);
    ck_assert_int_ge(f, 0);
    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < 3; i++) {
            char byte = (char)(text[k] ^ mask[i]);
            ck_assert_int_eq(pwrite(f, &byte, 1, (off_t)k), 1);
            enum lm_status s = try_read(format, &e);
            ck_assert_msg(s == LM_OK || s == LM_EINPUT, "byte %zu ^ %x: %s %s", k,
                          mask[i], lm_status_name(s), e.text);
            bad += s == LM_EINPUT;
            ck_assert_int_eq(pwrite(f, &text[k], 1, (off_t)k), 1);
        }
    close(f);
    ck_assert_uint_gt(bad, n);      /* most changes are noticed */
    lm_release(text);
}

START_TEST(flipped_bytes)
{
    flip("hf", weights);
    flip("hf", config);
}
END_TEST

START_TEST(flipped_gguf)
{
    flip("gguf", gguf);
}
END_TEST

/* Replaces the first `a` by `b` in a text file, reads, restores. */
static enum lm_status with(const char *path, const char *a, const char *b,
                           struct lm_err *e)
{
    char *text, *made;
    size_t n;
    ck_assert_ok(lm_read_file(path, 1 << 20, &text, &n, e), *e);
    char *at = memmem(text, n, a, strlen(a));
    ck_assert_msg(at != NULL, "'%s' is not in %s", a, path);
    size_t before = (size_t)(at - text), m = n - strlen(a) + strlen(b);
    made = malloc(m);
    memcpy(made, text, before);
    memcpy(made + before, b, strlen(b));
    memcpy(made + before + strlen(b), at + strlen(a), n - before - strlen(a));
    put_file(path, made, m);
    enum lm_status s = try_read("hf", e);
    put_file(path, text, n);
    free(made);
    lm_release(text);
    return s;
}

#define LLAMA "[\"LlamaForCausalLM\"],\n  \"model_type\": \"llama\""
#define NEWER "\"rope_type\": \"llama3\", \"factor\": 4.0, \"low_freq_factor\": 1.0, " \
    "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 64},\n  \"bos"
static const struct { int file; const char *from, *to, *says; } refused[] = {
    { 0, "\"llama\"", "\"mistral\"", "'LlamaForCausalLM' is not supported for model_type "
      "'mistral'" },
    { 0, "\"llama\"", "\"gemma2\"", "'gemma2' is not supported, only llama, mistral, "
      "qwen2, qwen3 and lamina" },
    { 0, "\"llama\"", "\"mixtral\"", "mixtral" },
    { 0, LLAMA, "[\"Qwen2ForCausalLM\"],\n \"use_sliding_window\": true, "
      "\"sliding_window\": 16, \"max_window_layers\": 0, \"model_type\": \"qwen2\"",
      "a sliding window of 16 in some of the layers" },
    { 0, LLAMA, "[\"Qwen2ForCausalLM\"],\n \"model_type\": \"qwen2\"",
      "q_proj.bias', but it is missing" },
    { 0, LLAMA, "[\"Qwen3ForCausalLM\"],\n \"model_type\": \"qwen3\"",
      "q_norm.weight', but it is missing" },
    { 0, LLAMA, "[\"MistralForCausalLM\"],\n \"sliding_window\": -4, \"model_type\": "
      "\"mistral\"", "'sliding_window' must be" },
    { 0, NEWER, "\"rope_type\": \"yarn\", \"beta_fast\": \"x\", \"factor\": 4},"
      "\n  \"bos", "'beta_fast' must be a number" },
    { 0, NEWER, "\"rope_type\": \"yarn\", \"truncate\": 2, \"factor\": 4},"
      "\n  \"bos", "'truncate' must be true or false" },
    { 0, NEWER, "\"rope_type\": \"yarn\", \"beta_slow\": 33, \"factor\": 4},"
      "\n  \"bos", "beta_fast" },
    { 0, "\"rope_parameters\": {\"rope_theta\": 10000.0, \"rope_type\": \"llama3\"",
      "\"rope_parameters\": {\"rope_theta\": 1, \"rope_type\": \"yarn\"",
      "rope_theta is 1" },
    { 0, "\"use_cache\"", "\"partial_rotary_factor\": 0.5, \"x\"",
      "partial_rotary_factor" },
    { 0, "\"attention_bias\": false", "\"attention_bias\": true", "q_proj.bias', "
      "but it is missing" },
    { 0, "\"LlamaForCausalLM\"", "\"FooForCausalLM\"", "FooForCausalLM" },
    { 0, "\"silu\"", "\"gelu\"", "gelu" },
    { 0, "\"num_hidden_layers\": 1", "\"num_hidden_layers\": 2", "missing" },
    { 0, "\"num_hidden_layers\": 1", "\"num_hidden_layers\": 1e9", "num_hidden_layers" },
    { 0, "\"num_key_value_heads\": 1", "\"num_key_value_heads\": 3",
      "num_key_value_heads" },
    { 0, "\"hidden_size\": 8", "\"hidden_size\": -8", "hidden_size" },
    { 0, "\"hidden_size\": 8", "\"hidden\": 8", "hidden_size" },
    { 0, "\"head_dim\": 4", "\"head_dim\": 3", "3" },
    { 0, "\"rope_type\": \"llama3\", \"factor\": 4.0, \"low_freq_factor\": 1.0, "
         "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 64},\n"
         "  \"rope_p", "\"rope_type\": \"llama3\"},\n  \"rope_x", "factor" },
    { 0, "{\"rope_theta\": 10000.0, \"rope_type\": \"llama3\"",
         "{\"rope_theta\": 10000.0, \"rope_type\": \"dynamic\"", "dynamic" },
    { 0, "\"use_cache\"", "\"quantization_config\": {}, \"x\"", "quantization_config" },
    { 0, "\"bos_token_id\": 0", "\"bos_token_id\": 12", "bos_token_id 12" },
    { 1, "\"F32\"", "\"F8_E4M3\"", "F8_E4M3" },
    { 1, "\"F32\"", "\"F64\"", "F64" },
    { 1, "model.norm.weight", "model.abcd.weight", "model.abcd.weight" },
    { 1, "layers.0.mlp.up", "layers.7.mlp.up", "layers.7.mlp.up" },
    { 1, "[12,8]", "[8,12]", "12" },
    { 1, "[12,8]", "[96]  ", "96" },
    { 1, "\"data_offsets\":[0,", "\"data_offsets\":[4,", "bytes" },
    { 1, "\"data_offsets\":[384,", "\"data_offsets\":[383,", "bytes" },
    { 2, "\"BPE\"", "\"WordPiece\"", "tokenizer model 'WordPiece' is not supported" },
    { 2, "\"BPE\"", "\"Unigram\"", "ByteLevel together with U+2581" },
    { 2, "\"normalizer\": null", "\"normalizer\": {\"type\": \"NFKC\"}", "NFKC" },
    { 2, "\"Digits\"", "\"Split\"", "Split" },
    { 2, "\"individual_digits\": true", "\"individual_digits\": false", "Digits" },
    { 2, "\"add_prefix_space\": false", "\"add_prefix_space\": true", "ByteLevel" },
    { 2, "\"byte_fallback\": false", "\"byte_fallback\": true", "byte_fallback" },
    { 2, "\"dropout\": null", "\"dropout\": 0.1", "dropout" },
    { 2, "\"lstrip\": false", "\"lstrip\": true", "lstrip" },
    { 2, "\"a b\"", "\"a c\"", "merge 0" },
    { 2, "\"ab\": 3", "\"ab\": 30", "30" },
    { 2, "\"ab\": 3", "\"ab\": 2", "same id" },
    { 2, "\"TemplateProcessing\"", "\"Other\"", "Other" },
    { 2, "\"decoder\": {\"type\": \"ByteLevel\"", "\"decoder\": {\"type\": \"WordPiece\"",
      "WordPiece" },
};
enum { N_REFUSED = sizeof refused / sizeof *refused };

START_TEST(refused_by_name)
{
    const char *path[] = { config, weights, words };
    struct lm_err e;
    enum lm_status s = with(path[refused[_i].file], refused[_i].from, refused[_i].to, &e);
    ck_assert_msg(s == LM_EINPUT, "'%s': %s", refused[_i].to, lm_status_name(s));
    ck_assert_msg(strstr(e.text, refused[_i].says) != NULL, "'%s': %s", refused[_i].to,
                  e.text);
}
END_TEST

static const struct { int file; const char *from, *to; } accepted[] = {
    { 0, "\"rope_p", "\"rope_x" },              /* only the older keys */
    { 0, "\"rope_sc", "\"rope_x" },             /* only the newer ones */
    { 0, "\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": 1" },
    { 0, LLAMA, "[\"MistralForCausalLM\"],\n \"model_type\": \"mistral\"" },
    { 0, "10000.0, \"rope_type\": \"llama3\"", "10000.0, \"rope_type\": \"yarn\"" },
    { 0, "\"pad_token_id\": null", "\"pad_token_id\": -1" },
    { 0, "\"eos_token_id\": 1", "\"eos_token_id\": [1, 2]" },
    { 2, "\"a b\"", "[\"a\", \"b\"]" },
    { 2, "\"merges\": [", "\"merges\": [], \"x\": [" },
};

START_TEST(variants_are_read)
{
    const char *path[] = { config, weights, words };
    struct lm_err e;
    ck_assert_msg(!with(path[accepted[_i].file], accepted[_i].from, accepted[_i].to, &e),
                  "'%s': %s", accepted[_i].to, e.text);
}
END_TEST

/* the weights of the toy in two files with an index */
static void write_shards(const struct lm_model *m, char *index, size_t size)
{
    static const char *const part[] = { "input_layernorm", "self_attn.q_proj",
        "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
        "post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj" };
    size_t used = (size_t)snprintf(index, size, "{\"weight_map\": {");
    for (uint32_t file = 0; file < 2; file++) {
        char head[4000] = "{", name[64], path[700];
        static char data[1 << 16];
        size_t at = 8, n = 1;
        uint64_t begin = 0;
        snprintf(path, sizeof path, "%s/part-%u.safetensors", hf, file);
        for (uint32_t r = 1; r <= LM_W_DOWN; r++) {
            const struct lm_tensor *t;
            t = lm_model_tensor(m, r, r < LM_W_ATTN_NORM ? -1 : 0);
            snprintf(name, sizeof name, r == LM_W_EMBED ? "model.embed_tokens.weight"
                     : r == LM_W_HEAD ? "lm_head.weight" : r == LM_W_FINAL_NORM
                     ? "model.norm.weight" : "model.layers.0.%s.weight",
                     r >= LM_W_ATTN_NORM ? part[r - LM_W_ATTN_NORM] : "");
            if (r % 2 != file)
                continue;
            uint64_t bytes = (uint64_t)(t->rows * t->cols) * 4;
            memcpy(data + 8192 + begin, t->data, bytes);
            n += (size_t)snprintf(head + n, sizeof head - n,
                "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%d,%d],"
                "\"data_offsets\":[%d,%d]}", begin ? "," : "", name,
                (int)t->rows, (int)t->cols, (int)begin, (int)(begin + bytes));
            used += (size_t)snprintf(index + used, size - used, "%s\"%s\": "
                "\"part-%u.safetensors\"", index[used - 1] == '{' ? "" : ", ", name,
                (unsigned)file);
            begin += bytes;
        }
        head[n++] = '}';
        for (size_t i = 0; i < 8; i++)
            data[i] = (char)((uint64_t)n >> 8 * i);
        memcpy(data + at, head, n);
        memmove(data + at + n, data + 8192, begin);
        put_file(path, data, at + n + begin);
    }
    snprintf(index + used, size - used, "}}");
}

START_TEST(shards)
{
    struct lm_model *m = toy_model(&tiny), *a;
    char index[4000], path[700];
    struct lm_err e;
    remove(weights);
    ck_assert_int_eq(try_read("hf", &e), LM_EINPUT);
    ck_assert_ptr_nonnull(strstr(e.text, "no model.safetensors"));
    write_shards(m, index, sizeof index);
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", hf);
    put_file(path, index, strlen(index));
    ck_assert_ok(formats_read("hf", hf, &a, &e), e);
    same_model(m, a);
    ck_assert_int_eq(with(path, "\"part-0.saf", "\"../part-0.saf", &e), LM_EINPUT);
    ck_assert_ptr_nonnull(strstr(e.text, "plain file name"));
    ck_assert_int_eq(with(path, "\"part-0.saf", "\"part-9.saf", &e), LM_EINPUT);
    ck_assert_ptr_nonnull(strstr(e.text, "part-9.safetensors: no such file"));
    ck_assert_int_eq(with(path, "\"lm_head.weight\"", "\"lm_hand.weight\"", &e),
                     LM_EINPUT);
    ck_assert_int_eq(with(path, "\"weight_map\": {", "\"weight_map\": {"
                          "\"more\": \"part-0.safetensors\", ", &e), LM_EINPUT);
    lm_model_free(m);
    lm_model_free(a);
}
END_TEST

static const struct { const char *from, *to, *says; } bad_gguf[] = {
    { "GGUF", "GGUX", "no GGUF file" },
    { "GGUF\3", "GGUF\1", "version 1" },
    { "llama", "gemma", "gemma" },
    { "gpt2", "bert", "bert" },
    { "smollm", "qwen2b", "qwen2b" },
    { "blk.0.ffn_up.weight", "blk.0.ffn_xx.weight", "blk.0.ffn_xx.weight" },
    { "blk.0.ffn_up.weight", "blk.3.ffn_up.weight", "blk.3.ffn_up.weight" },
    { "output_norm.weight", "output_nurm.weight", "output_nurm.weight" },
    { "llama.block_count", "llama.black_count", "block_count is missing" },
    { "attention.head_count", "attention.heat_count", "head_count is missing" },
    { "general.type", "general.name", "twice" },
};

START_TEST(refused_gguf)
{
    char *text;
    size_t n, k = strlen(bad_gguf[_i].from);
    struct lm_err e;
    ck_assert_ok(lm_read_file(gguf, 1 << 20, &text, &n, &e), e);
    char *at = memmem(text, n, bad_gguf[_i].from, k);
    ck_assert_ptr_nonnull(at);
    memcpy(at, bad_gguf[_i].to, k);
    put_file(gguf, text, n);
    ck_assert_int_eq(try_read("gguf", &e), LM_EINPUT);
    ck_assert_msg(strstr(e.text, bad_gguf[_i].says) != NULL, "%s", e.text);
    lm_release(text);
}
END_TEST

/* The type of a tensor follows its name, dimensions and sizes. */
START_TEST(gguf_type_is_named)
{
    static const char name[] = "token_embd.weight";
    char *text;
    size_t n;
    struct lm_err e;
    ck_assert_ok(lm_read_file(gguf, 1 << 20, &text, &n, &e), e);
    char *at = (char *)memmem(text, n, name, sizeof name - 1) + sizeof name - 1;
    at[4 + 16] = 16;
    put_file(gguf, text, n);
    ck_assert_int_eq(try_read("gguf", &e), LM_EINPUT);
    ck_assert_ptr_nonnull(strstr(e.text, "IQ2_XXS (16)"));
    ck_assert_ptr_nonnull(strstr(e.text, name));
    at[4 + 16] = 0;
    at[4 + 20] = 16;                    /* its offset */
    put_file(gguf, text, n);
    ck_assert_int_eq(try_read("gguf", &e), LM_EINPUT);
    ck_assert_ptr_nonnull(strstr(e.text, "no multiple of the alignment 32"));
    at[4 + 20] = 64;
    put_file(gguf, text, n);
    ck_assert_int_eq(try_read("gguf", &e), LM_EINPUT);
    ck_assert_ptr_nonnull(strstr(e.text, "overlap"));
    lm_release(text);
}
END_TEST

Suite *formats_bad_suite(void)
{
    Suite *s = suite_create("damaged models");
    TCase *t = tcase_create("damage");
    tcase_add_unchecked_fixture(t, make_images, drop_images);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, truncated_files);
    tcase_add_test(t, truncated_gguf);
    tcase_add_test(t, flipped_bytes);
    tcase_add_test(t, flipped_gguf);
    tcase_add_loop_test(t, refused_by_name, 0, N_REFUSED);
    tcase_add_loop_test(t, variants_are_read, 0,
                        (int)(sizeof accepted / sizeof *accepted));
    tcase_add_test(t, shards);
    tcase_add_loop_test(t, refused_gguf, 0, (int)(sizeof bad_gguf / sizeof *bad_gguf));
    tcase_add_test(t, gguf_type_is_named);
    suite_add_tcase(s, t);
    return s;
}
