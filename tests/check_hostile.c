/* SPDX-License-Identifier: Apache-2.0 */
/* check_hostile.c -- GGUF files that lie: each lie is told to the program, and
 * its answer and exit status are compared to the letter.
 *
 * A file is made from a description, which a case spoils in one place before it
 * is written.  Unspoiled it is a llama model of one layer whose matrices are in
 * all formats that are only read.                                             */
#include "check_hostile.h"

enum { WIDE = 256, MAX_ITEMS = 24, MAX_FILE = 1 << 16 };

struct pair { const char *key; size_t n_key; uint32_t type; char value[64]; size_t n; };
struct item { const char *name; uint64_t n_name; uint32_t dims, type; uint64_t size[5],
              offset; size_t bytes; };
struct image {
    char magic[8];                      /* with the version                   */
    uint64_t n_pair, n_item;            /* as claimed                         */
    struct pair pair[MAX_ITEMS];
    struct item item[MAX_ITEMS];
    size_t pairs, items;
    size_t keep;                        /* bytes of the file, 0: all          */
    long poke;                          /* byte of the data to set; -1: none  */
    unsigned char poked[4];
};

static char folder[256], path[300];

static struct pair *add_pair(struct image *g, const char *key, uint32_t type,
                             const void *value, size_t n)
{
    struct pair *p = &g->pair[g->pairs++];
    *p = (struct pair){ .key = key, .n_key = strlen(key), .type = type, .n = n };
    memcpy(p->value, value, n);
    g->n_pair = g->pairs;
    return p;
}

static void add_number(struct image *g, const char *key, uint32_t v)
{
    add_pair(g, key, 4, &v, sizeof v);
}

static void add_item(struct image *g, const char *name, uint32_t dtype, uint32_t type,
                     int64_t cols, int64_t rows)
{
    struct item *t = &g->item[g->items++];
    const struct item *before = g->items > 1 ? t - 1 : NULL;
    *t = (struct item){ .name = name, .n_name = strlen(name), .dims = rows ? 2 : 1,
                        .type = type, .size = { (uint64_t)cols, (uint64_t)rows, 1, 1 } };
    t->bytes = (size_t)(lm_row_bytes(dtype, cols) * (rows ? rows : 1));
    t->offset = before ? (before->offset + before->bytes + 31) / 32 * 32 : 0;
    g->n_item = g->items;
}

static struct image good(void)
{
    static const float eps = 1e-5f;
    struct image g = { .magic = "GGUF\3", .poke = -1 };
    add_pair(&g, "general.architecture", 8, "\5\0\0\0\0\0\0\0llama", 13);
    add_number(&g, "llama.block_count", 1);
    add_number(&g, "llama.embedding_length", WIDE);
    add_number(&g, "llama.feed_forward_length", 3);
    add_number(&g, "llama.attention.head_count", 1);
    add_number(&g, "llama.attention.key_length", 2);
    add_number(&g, "llama.attention.value_length", 2);
    add_number(&g, "llama.rope.dimension_count", 2);
    add_pair(&g, "llama.attention.layer_norm_rms_epsilon", 6, &eps, sizeof eps);
    add_item(&g, "token_embd.weight", LM_Q2_K, 10, WIDE, 4);
    add_item(&g, "output.weight", LM_IQ4_NL, 20, WIDE, 4);
    add_item(&g, "output_norm.weight", LM_F32, 0, WIDE, 0);
    add_item(&g, "blk.0.attn_norm.weight", LM_F32, 0, WIDE, 0);
    add_item(&g, "blk.0.attn_q.weight", LM_Q3_K, 11, WIDE, 2);
    add_item(&g, "blk.0.attn_k.weight", LM_Q4_K, 12, WIDE, 2);
    add_item(&g, "blk.0.attn_v.weight", LM_Q5_K, 13, WIDE, 2);
    add_item(&g, "blk.0.attn_output.weight", LM_F16, 1, 2, WIDE);
    add_item(&g, "blk.0.ffn_norm.weight", LM_F32, 0, WIDE, 0);
    add_item(&g, "blk.0.ffn_gate.weight", LM_Q6_K, 14, WIDE, 3);
    add_item(&g, "blk.0.ffn_up.weight", LM_Q5_0, 6, WIDE, 3);
    add_item(&g, "blk.0.ffn_down.weight", LM_F32, 0, 3, WIDE);
    return g;
}

static char file[MAX_FILE];
static size_t used;

static void put(const void *p, size_t n)
{
    ck_assert_uint_le(n, sizeof file - used);
    memcpy(file + used, p, n);
    used += n;
}

/* Data of tensor i are bytes 0x11 + i: small finite numbers in all formats. */
static void write_image(const struct image *g)
{
    used = 0;
    put(g->magic, 8);
    put(&g->n_item, 8);
    put(&g->n_pair, 8);
    for (size_t i = 0; i < g->pairs; i++) {
        const struct pair *p = &g->pair[i];
        put(&p->n_key, 8);
        put(p->key, strlen(p->key));
        put(&p->type, 4);
        put(p->value, p->n);
    }
    for (size_t i = 0; i < g->items; i++) {
        const struct item *t = &g->item[i];
        put(&t->n_name, 8);
        put(t->name, strlen(t->name));
        put(&t->dims, 4);
        put(t->size, 8 * (t->dims < 5 ? t->dims : 5));
        put(&t->type, 4);
        put(&t->offset, 8);
    }
    while (used % 32)
        put("", 1);
    size_t start = used;
    for (size_t i = 0; i < g->items; i++) {
        char block[1 << 13];
        memset(block, 0x11 + (int)i, sizeof block);
        put(block, g->item[i].bytes);
        while ((used - start) % 32)
            put("", 1);
    }
    if (g->poke >= 0)
        memcpy(file + start + g->poke, g->poked, sizeof g->poked);
    put_file(path, file, g->keep ? g->keep : used);
}

static void setup(void)
{
    scratch_begin(folder);
    snprintf(path, sizeof path, "%s/m.gguf", folder);
}

static void teardown(void)
{
    scratch_end(folder);
}

/* Both versions are read, every tensor from its own place. */
START_TEST(versions_2_and_3_are_read)
{
    static const struct { uint32_t role, dtype; size_t item; } all[] = {
        { LM_W_EMBED, LM_Q2_K, 0 }, { LM_W_HEAD, LM_IQ4_NL, 1 }, { LM_W_Q, LM_Q3_K, 4 },
        { LM_W_K, LM_Q4_K, 5 }, { LM_W_V, LM_Q5_K, 6 }, { LM_W_O, LM_F16, 7 },
        { LM_W_GATE, LM_Q6_K, 9 }, { LM_W_UP, LM_Q5_0, 10 }, { LM_W_DOWN, LM_F32, 11 },
    };
    struct image g = good();
    struct lm_model *m;
    struct lm_err e;
    g.magic[4] = (char)(2 + _i);
    g.item[10].type = _i ? 6 : 7;       /* the FFN's in Q5_1 for once */
    g.item[10].bytes = (size_t)lm_row_bytes(_i ? LM_Q5_0 : LM_Q5_1, WIDE) * 3;
    g.item[11].offset = (g.item[10].offset + g.item[10].bytes + 31) / 32 * 32;
    write_image(&g);
    ck_assert_ok(formats_read("gguf", path, &m, &e), e);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        int32_t layer = lm_role_is_layer(all[i].role) ? 0 : -1;
        const struct lm_tensor *t = lm_model_tensor(m, all[i].role, layer);
        uint32_t dtype = all[i].role == LM_W_UP && !_i ? LM_Q5_1 : all[i].dtype;
        unsigned char row[2048];
        float want[WIDE], *got = tensor_floats(m, all[i].role, layer);
        ck_assert_uint_eq(t->dtype, dtype);
        memset(row, 0x11 + (int)all[i].item, sizeof row);
        lm_codec(dtype)->decode(row, want, t->cols);
        for (int64_t r = 0; r < t->rows; r++)
            ck_assert_mem_eq(got + r * t->cols, want, (size_t)t->cols * sizeof *want);
        free(got);
    }
    ck_assert_ok(lm_model_check(m, &e), e);
    lm_model_free(m);
}
END_TEST

/* ---- lies ------------------------------------------------------------------------ */

static void version_1(struct image *g) { g->magic[4] = 1; }
static void version_4(struct image *g) { g->magic[4] = 4; }
static void big_endian(struct image *g) { memcpy(g->magic + 4, "\0\0\0\3", 4); }
static void no_magic(struct image *g) { g->magic[3] = 'X'; }
static void cut_in_counts(struct image *g) { g->keep = 20; }
static void cut_in_pairs(struct image *g) { g->keep = 230, g->n_item = 1; }
static void cut_in_items(struct image *g) { g->keep = 1000; }
static void cut_in_data(struct image *g) { g->keep = 4000; }
static void many_items(struct image *g) { g->n_item = UINT64_C(1) << 60; }
static void many_pairs(struct image *g) { g->n_pair = UINT64_MAX; }
static void more_pairs(struct image *g) { g->n_pair++; }
static void no_items(struct image *g) { g->n_item = 0; }
static void long_key(struct image *g) { g->pair[1].n_key = UINT64_MAX; }
static void no_key(struct image *g) { g->pair[1].n_key = 0, g->pair[1].key = ""; }
static void key_bytes(struct image *g) { g->pair[1].key = "llama.block_coun\xff"; }
static void key_escape(struct image *g)
{
    g->pair[1].key = "llama.\033[1m_coun";
    g->pair[1].n_key = 15;
    g->pair[1].type = 13;
}
static void value_type(struct image *g) { g->pair[1].type = 13; }
static void twice_key(struct image *g) { add_number(g, "llama.block_count", 1); }
static void long_string(struct image *g) { g->pair[0].value[7] = 0x7f; }

/* element type 4 bytes, count 8 bytes, elements */
static void add_array(struct image *g, const char *value, size_t n)
{
    add_pair(g, "x.array", 9, value, n);
}
static void element_type(struct image *g)
{
    add_array(g, "\x63\0\0\0" "\1\0\0\0\0\0\0\0" "x", 13);
}
static void long_array(struct image *g)
{
    add_array(g, "\0\0\0\0" "\0\0\0\0\0\0\0\x20", 12);
}
static void long_strings(struct image *g)
{
    add_array(g, "\10\0\0\0" "\1\0\0\0\0\0\0\0" "\0\0\0\0\0\0\0\x80", 20);
}
static void deep_array(struct image *g)
{
    add_array(g, "\11\0\0\0\1\0\0\0\0\0\0\0" "\11\0\0\0\1\0\0\0\0\0\0\0"
              "\11\0\0\0\1\0\0\0\0\0\0\0" "\11\0\0\0\1\0\0\0\0\0\0\0"
              "\0\0\0\0\1\0\0\0\0\0\0\0" "x", 61);
}
static void alignment_0(struct image *g) { add_number(g, "general.alignment", 0); }
static void alignment_48(struct image *g) { add_number(g, "general.alignment", 48); }
static void alignment_huge(struct image *g)
{
    add_number(g, "general.alignment", 1u << 31);
}
static void alignment_text(struct image *g)
{
    add_pair(g, "general.alignment", 8, "\2\0\0\0\0\0\0\0" "32", 10);
}

static void long_name(struct image *g) { g->item[3].n_name = UINT64_C(1) << 63; }
static void name_bytes(struct image *g) { g->item[3].name = "blk.0.attn_norm.weigh\xc0"; }
static void same_name(struct image *g) { g->item[3].name = "output_norm.weight";
                                         g->item[3].n_name = 18; }
static void other_name(struct image *g) { g->item[3].name = "blk.0.attn_nurm.weight"; }
static void later_layer(struct image *g) { g->item[3].name = "blk.7.attn_norm.weight"; }
static void no_dims(struct image *g) { g->item[3].dims = 0; }
static void five_dims(struct image *g) { g->item[3].dims = 5; }
static void zero_dim(struct image *g) { g->item[0].size[1] = 0; }
static void third_dim(struct image *g) { g->item[0].dims = 3; g->item[0].size[2] = 2; }
static void negative_dim(struct image *g) { g->item[0].size[0] = UINT64_MAX; }
static void product(struct image *g)
{
    g->item[0].size[0] = g->item[0].size[1] = UINT64_C(1) << 40;
}
static void wrong_rows(struct image *g) { g->item[4].size[1] = 1; }
static void wrong_embed(struct image *g) { g->pair[2].value[0] = 1; }
static void part_of_block(struct image *g) { g->item[7].type = 12; }
static void misaligned(struct image *g) { g->item[3].offset += 8; }
static void far_away(struct image *g) { g->item[3].offset = 1 << 20; }
static void overflowing(struct image *g) { g->item[3].offset = UINT64_MAX - 31; }
static void overlapping(struct image *g) { g->item[3].offset = g->item[2].offset; }
static void without_down(struct image *g) { g->n_item = --g->items; }
static void layers(struct image *g) { g->pair[1].value[1] = 0x7f; }
static void nan_norm(struct image *g)
{
    g->poke = (long)g->item[3].offset + 4 * 5;
    memcpy(g->poked, "\0\0\xc0\x7f", 4);
}
static void inf_scale(struct image *g)          /* d and the bytes before it */
{
    g->poke = (long)g->item[4].offset + 110 + 106;
    memcpy(g->poked, "\0\0\0\x7c", 4);
}

static const struct { const char *says; void (*spoil)(struct image *g); } lie[] = {
    { "is no GGUF file", no_magic },
    { "GGUF version 1 is not supported, only 2 and 3; convert the model anew",
      version_1 },
    { "GGUF version 4 is not supported, only 2 and 3; convert the model anew",
      version_4 },
    { "is a big-endian GGUF file, which is not supported; take the little-endian one",
      big_endian },
    { "is truncated in its first 24 bytes", cut_in_counts },
    { "1152921504606846976 tensors and 9 keys cannot be in a file of 11264 bytes; it is "
      "truncated or damaged", many_items },
    { "12 tensors and 18446744073709551615 keys cannot be in a file of 11264 bytes; it "
      "is truncated or damaged", many_pairs },
    { "tensor 1 of 12 is damaged, or the file is truncated", more_pairs },
    { "key 6 of 9 is damaged, or the file is truncated", cut_in_pairs },
    { "key 2 of 9 is damaged, or the file is truncated", long_key },
    { "key 2 of 9 has no readable name", no_key },
    { "key 2 of 9 has no readable name", key_bytes },
    { "key 'llama.?[1m_coun' has type 13, which does not exist", key_escape },
    { "key 'llama.block_count' has type 13, which does not exist", value_type },
    { "key 'llama.block_count' is there twice", twice_key },
    { "the value of key 'general.architecture' is damaged, or the file is truncated",
      long_string },
    { "key 'x.array' has type 99, which does not exist", element_type },
    { "key 'x.array' has 2305843009213693952 elements, more than the file has room for",
      long_array },
    { "the value of key 'x.array' is damaged, or the file is truncated", long_strings },
    { "the value of key 'x.array' is damaged, or the file is truncated", deep_array },
    { "general.alignment is no power of two from 1 to 1048576", alignment_0 },
    { "general.alignment is no power of two from 1 to 1048576", alignment_48 },
    { "general.alignment is no power of two from 1 to 1048576", alignment_huge },
    { "general.alignment is no power of two from 1 to 1048576", alignment_text },
    { "tensor token_embd.weight is missing or too large", no_items },
    { "tensor 11 of 12 is damaged, or the file is truncated", cut_in_items },
    { "data of tensor 'blk.0.attn_norm.weight' lie outside the file, which is truncated "
      "or damaged", cut_in_data },
    { "tensor 4 of 12 is damaged, or the file is truncated", long_name },
    { "tensor 4 of 12 has no readable name", name_bytes },
    { "tensor 'output_norm.weight' is there twice", same_name },
    { "tensor 'blk.0.attn_nurm.weight' belongs to no part of a llama model of 1 layers",
      other_name },
    { "tensor 'blk.7.attn_norm.weight' belongs to no part of a llama model of 1 layers",
      later_layer },
    { "tensor 'blk.0.attn_norm.weight' has 0 dimensions; 1 to 4 are possible", no_dims },
    { "tensor 'blk.0.attn_norm.weight' has 5 dimensions; 1 to 4 are possible",
      five_dims },
    { "dimension 2 of tensor 'token_embd.weight' is 0, which no vector or matrix has",
      zero_dim },
    { "dimension 3 of tensor 'token_embd.weight' is 2, which no vector or matrix has",
      third_dim },
    { "dimension 1 of tensor 'token_embd.weight' is 18446744073709551615, which no "
      "vector or matrix has", negative_dim },
    { "tensor 'token_embd.weight' of 1099511627776 x 1099511627776 values at 0 is larger "
      "than any file", product },
    { "tensor 'blk.0.attn_norm.weight' of 1 x 256 values at 18446744073709551584 is "
      "larger than any file", overflowing },
    { "tensor 'blk.0.attn_q.weight' has the wrong shape", wrong_rows },
    { "tensor 'blk.0.attn_k.weight' is 2 x 256; the architecture says 2 x 257",
      wrong_embed },
    { "tensor 'blk.0.attn_output.weight' has rows of 2 values, but Q4_K comes in blocks "
      "of 256", part_of_block },
    { "data of tensor 'blk.0.attn_norm.weight' begin at 1960, no multiple of the "
      "alignment 32", misaligned },
    { "data of tensor 'blk.0.attn_norm.weight' lie outside the file, which is truncated "
      "or damaged", far_away },
    { "data of tensor 'blk.0.attn_norm.weight' overlap another's", overlapping },
    { "1 tensor is missing: tensor down of layer 0", without_down },
    { "key llama.block_count must be a whole number from 1 to 4096", layers },
    { "tensor 'blk.0.attn_norm.weight': value 5 is not a finite number; the file is "
      "damaged", nan_norm },
    { "tensor 'blk.0.attn_q.weight': the value in row 1, column 0 is not a finite "
      "number; the file is damaged", inf_scale },
};
enum { N_LIE = sizeof lie / sizeof *lie };

START_TEST(lies_are_named)
{
    struct image g = good();
    char says[600];
    lie[_i].spoil(&g);
    write_image(&g);
    snprintf(says, sizeof says, "m.gguf: %s", lie[_i].says);
    refuses(folder, "m.gguf", says);
}
END_TEST

static const struct { uint32_t type; const char *name; } refused_type[] = {
    { 4, "Q4_2" }, { 9, "Q8_1" }, { 15, "Q8_K" }, { 16, "IQ2_XXS" }, { 17, "IQ2_XS" },
    { 18, "IQ3_XXS" }, { 19, "IQ1_S" }, { 21, "IQ3_S" }, { 22, "IQ2_S" },
    { 23, "IQ4_XS" }, { 26, "I32" }, { 28, "F64" }, { 29, "IQ1_M" }, { 31, "Q4_0_4_4" },
    { 34, "TQ1_0" }, { 35, "TQ2_0" }, { 39, "MXFP4" }, { 40, "NVFP4" },
    { 4000000000u, "unknown" },
};
enum { N_TYPE = sizeof refused_type / sizeof *refused_type };

/* The words once from the program, for all types from the plugin. */
START_TEST(types_are_named)
{
    struct lm_err e;
    for (size_t i = 0; i < N_TYPE; i++) {
        struct image g = good();
        char says[600];
        g.item[9].type = refused_type[i].type;
        write_image(&g);
        snprintf(says, sizeof says, "%s: tensor 'blk.0.ffn_gate.weight' has type %s "
                 "(%u), which is not supported; take a file of this model in F32, F16, "
                 "BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K to Q6_K or IQ4_NL", path,
                 refused_type[i].name, (unsigned)refused_type[i].type);
        ck_assert_int_eq(read_whole("gguf", path, &e), LM_EINPUT);
        ck_assert_str_eq(e.text, says);
        if (i)
            continue;
        char *name = strstr(says, "m.gguf: ");
        refuses(folder, "m.gguf", name);
    }
}
END_TEST

START_TEST(any_byte)
{
    struct image g = good();
    write_image(&g);
    ck_assert_int_gt(brute_force("gguf", path, path, 31, 6000), 500);
}
END_TEST

/* What is only read is not written. */
START_TEST(read_only_formats_are_not_written)
{
    struct image g = good();
    struct lm_model *m;
    struct lm_err e;
    char to[300];
    write_image(&g);
    ck_assert_ok(formats_read("gguf", path, &m, &e), e);
    snprintf(to, sizeof to, "%s/n.gguf", folder);
    ck_assert_int_eq(formats_write("gguf", m, to, LM_Q4_K, &e), LM_EUNSUPPORTED);
    ck_assert_str_eq(e.text, "format gguf does not write q4_k");
    ck_assert(!lm_file_exists(to));
    ck_assert_ok(formats_write("gguf", m, to, LM_F32, &e), e);
    struct lm_model *n;
    ck_assert_ok(formats_read("gguf", to, &n, &e), e);
    same_model(m, n);
    lm_model_free(m);
    lm_model_free(n);
}
END_TEST

int main(void)
{
    Suite *s[] = { suite_create("hostile GGUF"), hostile_hf_suite() };
    TCase *t = tcase_create("hostile");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 300);
    tcase_add_loop_test(t, versions_2_and_3_are_read, 0, 2);
    tcase_add_loop_test(t, lies_are_named, 0, N_LIE);
    tcase_add_test(t, types_are_named);
    tcase_add_test(t, any_byte);
    tcase_add_test(t, read_only_formats_are_not_written);
    suite_add_tcase(s[0], t);
    return run_suites(s, 2);
}
