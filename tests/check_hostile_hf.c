/* SPDX-License-Identifier: Apache-2.0 */
/* check_hostile_hf.c -- safetensors files and indices that lie: the program's
 * answer and exit status are compared to the letter.
 *
 * Headers are text; a case replaces a piece of one before the file is written
 * with the right length in front.                                             */
#include "check_hostile.h"

static char folder[256], hf[300], weights[400];

static const char config[] = "{\"model_type\": \"llama\", \"architectures\": "
    "[\"LlamaForCausalLM\"], \"hidden_act\": \"silu\", \"hidden_size\": 8, "
    "\"intermediate_size\": 4, \"num_hidden_layers\": 1, \"num_attention_heads\": 2, "
    "\"num_key_value_heads\": 1, \"head_dim\": 4, \"vocab_size\": 3, "
    "\"max_position_embeddings\": 16, \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0, "
    "\"tie_word_embeddings\": true, \"bos_token_id\": 0, \"eos_token_id\": 1}";

#define LAYER "model.layers.0."
static const struct { const char *name, *shape; int bytes; } part[] = {
    { "model.embed_tokens.weight", "3,8", 96 }, { "model.norm.weight", "8", 32 },
    { LAYER "input_layernorm.weight", "8", 32 },
    { LAYER "self_attn.q_proj.weight", "8,8", 256 },
    { LAYER "self_attn.k_proj.weight", "4,8", 128 },
    { LAYER "self_attn.v_proj.weight", "4,8", 128 },
    { LAYER "self_attn.o_proj.weight", "8,8", 256 },
    { LAYER "post_attention_layernorm.weight", "8", 32 },
    { LAYER "mlp.gate_proj.weight", "4,8", 128 },
    { LAYER "mlp.up_proj.weight", "4,8", 128 },
    { LAYER "mlp.down_proj.weight", "8,4", 128 },
};
enum { N_PART = sizeof part / sizeof *part };

/* header of parts [first, end); returns the bytes of their data */
static size_t header(size_t first, size_t end, char *out, size_t size)
{
    size_t at = 0, n = (size_t)snprintf(out, size, "{");
    for (size_t i = first; i < end; i++) {
        n += (size_t)snprintf(out + n, size - n, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":"
                              "[%s],\"data_offsets\":[%zu,%zu]}", i > first ? "," : "",
                              part[i].name, part[i].shape, at,
                              at + (size_t)part[i].bytes);
        at += (size_t)part[i].bytes;
    }
    snprintf(out + n, size - n, "}");
    return at;
}

/* the first `from` in text becomes `to` */
static void replace(char *text, size_t size, const char *from, const char *to)
{
    char *at = strstr(text, from), rest[8192];
    ck_assert_msg(at != NULL, "'%s' is not in '%s'", from, text);
    snprintf(rest, sizeof rest, "%s", at + strlen(from));
    ck_assert_uint_lt((size_t)(at - text) + strlen(to) + strlen(rest), size);
    memcpy(at, to, strlen(to));
    memcpy(at + strlen(to), rest, strlen(rest) + 1);
}

/* data bytes are 0x11, a small number; nan >= 0: the value that is NaN */
static void write_weights(const char *path, const char *text, uint64_t length,
                          size_t data, long nan)
{
    static char file[16384];
    size_t n = strlen(text);
    ck_assert_uint_lt(n + data, sizeof file - 8);
    memcpy(file, &length, 8);
    memcpy(file + 8, text, n);
    memset(file + 8 + n, 0x11, data);
    if (nan >= 0)
        memcpy(file + 8 + n + 4 * nan, "\0\0\xc0\x7f", 4);
    put_file(path, file, 8 + n + data);
}

static void setup(void)
{
    char name[400], text[4096];
    scratch_begin(folder);
    snprintf(hf, sizeof hf, "%s/hf", folder);
    struct lm_err e;
    ck_assert_ok(lm_make_folder(hf, &e), e);
    snprintf(name, sizeof name, "%s/config.json", hf);
    put_file(name, config, sizeof config - 1);
    snprintf(weights, sizeof weights, "%s/model.safetensors", hf);
    size_t data = header(0, N_PART, text, sizeof text);
    write_weights(weights, text, strlen(text), data, -1);
}

static void teardown(void)
{
    scratch_end(hf);
    scratch_end(folder);
}

static const struct { const char *from, *to; int more; const char *says; } lie[] = {
    /* more: bytes of data too many */
    { "{", "(", 0, "line 1: invalid token near '('" },
    { "{\"model", "[{\"model", 0, "line 1: ']' expected near end of file" },
    { "\"model.norm", "\"model.norm.weight\":1,\"model.norm", 0,
      "line 1: duplicate object key near '\"model.norm.weight\"'" },
    { "[0,96]", "[0,100000]", 0,
      "data of tensor 'model.embed_tokens.weight' lie outside the file" },
    { "[0,96]", "[-96,0]", 0,
      "data of tensor 'model.embed_tokens.weight' lie outside the file" },
    { "[0,96]", "[96,0]", 0,
      "data of tensor 'model.embed_tokens.weight' lie outside the file" },
    { "[0,96]", "[0,18446744073709551712]", 0,
      "data of tensor 'model.embed_tokens.weight' lie outside the file" },
    { "[0,96]", "[0]", 0,
      "tensor 'model.embed_tokens.weight' lacks dtype, shape or data_offsets" },
    { "[96,128]", "[92,124]", 0,
      "data of tensor 'model.norm.weight' overlap another's" },
    { "[96,128]", "[0,32]", 0, "data of tensor 'model.embed_tokens.weight' overlap "
      "another's" },
    { "{\"model.embed_tokens.weight\":{\"dtype\":\"F32\",\"shape\":[3,8],"
      "\"data_offsets\":[0,96]},", "{", 0,
      "96 bytes in front of tensor 'model.norm.weight' belong to nothing; the file is "
      "damaged" },
    { "model.norm.weight\":{\"dtype\":\"F32\",\"shape\":[8],\"data_offsets\":[96,128]}",
      "__metadata__\":{\"format\":\"pt\"}", 0,
      "32 bytes in front of tensor 'model.layers.0.input_layernorm.weight' belong to "
      "nothing; the file is damaged" },
    { "{", "{", 5, "5 bytes at the end belong to nothing; the file is damaged" },
    { "[3,8]", "[4,8]", 0,
      "tensor 'model.embed_tokens.weight' is 4 x 8 of F32 but has 96 bytes" },
    { "[3,8]", "[3,8,1]", 0,
      "tensor 'model.embed_tokens.weight' has 3 dimensions, not 1 or 2" },
    { "[3,8]", "[]", 0,
      "tensor 'model.embed_tokens.weight' has 0 dimensions, not 1 or 2" },
    { "[3,8]", "[0,8]", 0, "shape of tensor 'model.embed_tokens.weight' is damaged" },
    { "[3,8]", "[-3,-8]", 0, "shape of tensor 'model.embed_tokens.weight' is damaged" },
    { "[3,8]", "[3.5,8]", 0, "shape of tensor 'model.embed_tokens.weight' is damaged" },
    { "[3,8]", "[4611686018427387904,4]", 0,
      "tensor 'model.embed_tokens.weight' is 4611686018427387904 x 4 of F32 but has 96 "
      "bytes" },
    { "[3,8]", "[4,6]", 0, "R: tensor 'model.embed_tokens.weight' is 4 x 6; the "
      "architecture says 3 x 8" },
    { "\"F32\"", "\"I8\"", 0, "tensor 'model.embed_tokens.weight' has dtype 'I8', which "
      "is not supported, only F32, F16 and BF16" },
    { "\"F32\"", "\"F8_E5M2\"", 0, "tensor 'model.embed_tokens.weight' has dtype "
      "'F8_E5M2', which is not supported, only F32, F16 and BF16" },
    { "\"F32\"", "32", 0,
      "tensor 'model.embed_tokens.weight' lacks dtype, shape or data_offsets" },
    { "\"model.norm.weight", "\"model.\\u001b[1m.weight", 0,
      "tensor 'model.?[1m.weight' belongs to no part of a llama model of 1 layers" },
    { "model.norm.weight", "model.rotary_emb.inv_freq", 0,
      "R: 1 tensor is missing: tensor final_norm" },
};
enum { N_LIE = sizeof lie / sizeof *lie };

/* R: the model as a whole is wrong, which the folder is named for */
START_TEST(lies_are_named)
{
    char text[4096], says[600];
    size_t data = header(0, N_PART, text, sizeof text);
    bool whole = !strncmp(lie[_i].says, "R: ", 3);
    replace(text, sizeof text, lie[_i].from, lie[_i].to);
    write_weights(weights, text, strlen(text), data + (size_t)lie[_i].more, -1);
    snprintf(says, sizeof says, "hf%s: %s", whole ? "" : "/model.safetensors",
             lie[_i].says + (whole ? 3 : 0));
    refuses(folder, "hf", says);
}
END_TEST

START_TEST(length_of_the_header)
{
    char text[4096];
    size_t data = header(0, N_PART, text, sizeof text), n = strlen(text);
    write_weights(weights, text, UINT64_MAX, data, -1);
    refuses(folder, "hf", "hf/model.safetensors: is no safetensors file or truncated "
            "(header of 18446744073709551615 bytes in a file of 2366)");
    ck_assert_uint_eq(8 + n + data, 2366);
    write_weights(weights, text, 1, data, -1);
    refuses(folder, "hf", "hf/model.safetensors: is no safetensors file or truncated "
            "(header of 1 bytes in a file of 2366)");
    put_file(weights, "\2\0\0\0", 4);
    refuses(folder, "hf", "hf/model.safetensors: is no safetensors file or truncated "
            "(header of 0 bytes in a file of 4)");
    put_file(weights, "\2\0\0\0\0\0\0\0[]", 10);
    refuses(folder, "hf", "hf/model.safetensors: the header is no JSON object");
    write_weights(weights, text, 100000001, data, -1);  /* and as long a file */
    ck_assert_int_eq(truncate(weights, 100000100), 0);
    refuses(folder, "hf", "hf/model.safetensors: the header has 100000001 bytes; the "
            "format allows 100000000");
}
END_TEST

START_TEST(values_that_are_not_finite)
{
    char text[4096];
    size_t data = header(0, N_PART, text, sizeof text);
    write_weights(weights, text, strlen(text), data, 24 + 8 + 8 + 3 * 8 + 5);
    static const char *const command[] = { "inspect hf",
        "eval hf --metric latency:decode=2@2,prefill=2 --threads 1" };
    for (size_t i = 0; i < 2; i++)
        ends_with_3(folder, command[i], "hf: tensor "
                    "'model.layers.0.self_attn.q_proj.weight': the value in row 3, "
                    "column 5 is not a finite number; the file is damaged");
    write_weights(weights, text, strlen(text), data, 24 + 8 + 2);
    refuses(folder, "hf", "hf: tensor 'model.layers.0.input_layernorm.weight': value 2 "
            "is not a finite number; the file is damaged");
}
END_TEST

START_TEST(any_byte)
{
    ck_assert_int_gt(brute_force("hf", hf, weights, 0, 3000), 1000);
}
END_TEST

/* ---- shards ----------------------------------------------------------------------- */

enum { INDEX, FIRST, SECOND, CUT = 5 };     /* parts 0 to CUT - 1 lie in the first */

static void write_shards(int file, const char *from, const char *to)
{
    static const char *const name[] = { "model.safetensors.index.json",
                                        "m-1.safetensors", "m-2.safetensors" };
    char text[4096] = "{\"weight_map\": {", path[500];
    size_t n = strlen(text);
    for (size_t i = 0; i < N_PART; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s\"%s\": \"%s\"",
                              i ? ", " : "", part[i].name, name[i < CUT ? 1 : 2]);
    snprintf(text + n, sizeof text - n, "}}");
    remove(weights);
    for (int k = INDEX; k <= SECOND; k++) {
        size_t data = 0;
        if (k)
            data = k == FIRST ? header(0, CUT, text, sizeof text)
                              : header(CUT, N_PART, text, sizeof text);
        if (k == file)
            replace(text, sizeof text, from, to);
        snprintf(path, sizeof path, "%s/%s", hf, name[k]);
        if (k)
            write_weights(path, text, strlen(text), data, -1);
        else
            put_file(path, text, strlen(text));
    }
}

#define INDEXED "hf/model.safetensors.index.json: "
static const struct { int file; const char *from, *to, *says; } shard_lie[] = {
    { INDEX, "\"m-1.safetensors\"", "\"../m-1.safetensors\"",
      INDEXED "'model.embed_tokens.weight' has no plain file name" },
    { INDEX, "\"m-1.safetensors\"", "\"/etc/passwd\"",
      INDEXED "'model.embed_tokens.weight' has no plain file name" },
    { INDEX, "\"m-1.safetensors\"", "\"..\"",
      INDEXED "'model.embed_tokens.weight' has no plain file name" },
    { INDEX, "\"m-1.safetensors\"", "7",
      INDEXED "'model.embed_tokens.weight' has no plain file name" },
    { INDEX, "\"m-1.safetensors\"", "\"m-3.safetensors\"",
      "hf/m-3.safetensors: no such file, but hf/model.safetensors.index.json lists it" },
    { INDEX, "\"m-1.safetensors\"", "\"m-2.safetensors\"",
      INDEXED "tensor 'model.embed_tokens.weight' is listed in 'm-2.safetensors', but "
      "'m-1.safetensors' has one of this name" },
    { INDEX, "\"model.norm.weight\": \"m-1.safetensors\", ", "",
      INDEXED "tensor 'model.norm.weight' of 'm-1.safetensors' is not listed" },
    { INDEX, "{\"model", "{\"more\": \"m-1.safetensors\", \"model",
      INDEXED "tensor 'more' is listed in 'm-1.safetensors', which has none of this "
      "name" },
    { INDEX, "weight_map", "weight_mup", INDEXED "'weight_map' is missing" },
    { INDEX, "{\"weight_map\": {", "[", INDEXED "line 1: ']' expected near ':'" },
    { SECOND, LAYER "mlp.gate_proj.weight", LAYER "self_attn.k_proj.weight",
      INDEXED "tensor 'model.layers.0.self_attn.k_proj.weight' is listed in "
      "'m-1.safetensors', but 'm-2.safetensors' has one of this name" },
    { FIRST, "[0,96]", "[0,95]", "hf/m-1.safetensors: tensor 'model.embed_tokens.weight' "
      "is 3 x 8 of F32 but has 95 bytes" },
};
enum { N_SHARD_LIE = sizeof shard_lie / sizeof *shard_lie };

START_TEST(shards_that_lie)
{
    write_shards(shard_lie[_i].file, shard_lie[_i].from, shard_lie[_i].to);
    refuses(folder, "hf", shard_lie[_i].says);
}
END_TEST

START_TEST(shards_that_do_not)
{
    struct lm_err e;
    ck_assert_ok(read_whole("hf", hf, &e), e);
    write_shards(INDEX, "{", "{");
    ck_assert_ok(read_whole("hf", hf, &e), e);
}
END_TEST

Suite *hostile_hf_suite(void)
{
    Suite *s = suite_create("hostile safetensors");
    TCase *t = tcase_create("hostile");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 300);
    tcase_add_loop_test(t, lies_are_named, 0, N_LIE);
    tcase_add_test(t, length_of_the_header);
    tcase_add_test(t, values_that_are_not_finite);
    tcase_add_test(t, any_byte);
    tcase_add_loop_test(t, shards_that_lie, 0, N_SHARD_LIE);
    tcase_add_test(t, shards_that_do_not);
    suite_add_tcase(s, t);
    return s;
}
