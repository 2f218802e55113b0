/* SPDX-License-Identifier: Apache-2.0 */
/* big_model -- writes a Hugging Face folder with a llama of random f16 weights, for
 * measurements of size and speed: quickly, and with little memory.
 *   big_model FOLDER [layers=32] [hidden=4096] [heads=32] [kv=32] [ff=11008]
 *             [vocab=32000] [seed=1]
 * Matrices are uniform in +-sqrt(3) * 0.02, norms are 1.  The tokenizer knows the bytes,
 * one token each, and made-up names for the rest of the vocabulary.              */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct shape { long layers, hidden, heads, kv, ff, vocab, seed; };
struct tensor { char name[96]; int64_t rows, cols; };   /* rows 0: a vector of ones */

enum { BLOCK = 1 << 20 };               /* numbers written at a time */

static void die(const char *what, const char *where)
{
    fprintf(stderr, "big_model: %s '%s'\n", what, where);
    exit(1);
}

static uint16_t half_of(double v)       /* normal halves only */
{
    uint16_t sign = v < 0 ? 0x8000 : 0;
    int e = 15;
    v = v < 0 ? -v : v;
    if (v < 1.0 / 16384)
        return sign;
    for (; v < 1; e--)
        v *= 2;
    for (; v >= 2; e++)
        v /= 2;
    return (uint16_t)(sign | e << 10 | (int)((v - 1) * 1024));
}

static uint64_t next(uint64_t *s)       /* splitmix64 */
{
    uint64_t z = *s += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static FILE *make(const char *folder, const char *name)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        die("path too long", folder);
    FILE *f = fopen(path, "wb");
    if (!f)
        die("cannot write", path);
    return f;
}

static void finish(FILE *f, const char *name)
{
    int bad = ferror(f);
    if (fclose(f) || bad)
        die("cannot write (is the disk full?)", name);
}

static void write_config(const char *folder, const struct shape *s)
{
    FILE *f = make(folder, "config.json");
    fprintf(f, "{\n  \"architectures\": [\"LlamaForCausalLM\"],\n"
            "  \"model_type\": \"llama\",\n  \"dtype\": \"float16\",\n"
            "  \"hidden_size\": %ld,\n  \"intermediate_size\": %ld,\n"
            "  \"num_hidden_layers\": %ld,\n  \"num_attention_heads\": %ld,\n"
            "  \"num_key_value_heads\": %ld,\n  \"head_dim\": %ld,\n"
            "  \"vocab_size\": %ld,\n  \"max_position_embeddings\": 4096,\n"
            "  \"rms_norm_eps\": 1e-05,\n  \"hidden_act\": \"silu\",\n"
            "  \"rope_theta\": 10000.0,\n  \"tie_word_embeddings\": false,\n"
            "  \"bos_token_id\": 256,\n  \"eos_token_id\": 257\n}\n",
            s->hidden, s->ff, s->layers, s->heads, s->kv, s->hidden / s->heads, s->vocab);
    finish(f, "config.json");
}

/* The character that stands for a byte in vocabularies of byte-level BPE. */
static void put_byte(FILE *f, int b, int *more)
{
    int c = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174 ? b
                                                                        : 256 + (*more)++;
    fprintf(f, "\"\\u%04x\"", (unsigned)c);
}

static void write_tokenizer(const char *folder, const struct shape *s)
{
    FILE *f = make(folder, "tokenizer.json");
    int more = 0;
    fprintf(f, "{ \"version\": \"1.0\", \"truncation\": null, \"padding\": null,\n"
            "\"added_tokens\": [");
    for (int i = 256; i < 258; i++)
        fprintf(f, "%s{ \"id\": %d, \"content\": \"<|%s|>\", \"single_word\": false, "
                "\"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
                "\"special\": true }", i > 256 ? ",\n" : "", i, i > 256 ? "end" : "bos");
    fprintf(f, "],\n\"normalizer\": null,\n\"pre_tokenizer\": { \"type\": \"ByteLevel\", "
            "\"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": true },\n"
            "\"post_processor\": null,\n\"decoder\": { \"type\": \"ByteLevel\", "
            "\"add_prefix_space\": true, \"trim_offsets\": true, \"use_regex\": true },\n"
            "\"model\": { \"type\": \"BPE\", \"dropout\": null, \"unk_token\": null, "
            "\"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, "
            "\"fuse_unk\": false, \"byte_fallback\": false, \"ignore_merges\": false,\n"
            "\"merges\": [],\n\"vocab\": {");
    for (int b = 0; b < 256; b++) {
        fputs(b ? ", " : " ", f);
        put_byte(f, b, &more);
        fprintf(f, ": %d", b);
    }
    fprintf(f, ", \"<|bos|>\": 256, \"<|end|>\": 257");
    for (long i = 258; i < s->vocab; i++)
        fprintf(f, ", \"<%ld>\": %ld", i, i);
    fprintf(f, " } } }\n");
    finish(f, "tokenizer.json");
    f = make(folder, "tokenizer_config.json");
    fprintf(f, "{ \"bos_token\": \"<|bos|>\", \"eos_token\": \"<|end|>\", "
            "\"tokenizer_class\": \"PreTrainedTokenizerFast\" }\n");
    finish(f, "tokenizer_config.json");
}

/* All tensors in order; NULL counts. */
static size_t list_tensors(const struct shape *s, struct tensor *t)
{
    long kv = s->hidden / s->heads * s->kv;
    const struct { const char *name; long rows, cols; } part[] = {
        { "input_layernorm", 0, s->hidden }, { "self_attn.q_proj", s->hidden, s->hidden },
        { "self_attn.k_proj", kv, s->hidden }, { "self_attn.v_proj", kv, s->hidden },
        { "self_attn.o_proj", s->hidden, s->hidden },
        { "post_attention_layernorm", 0, s->hidden },
        { "mlp.gate_proj", s->ff, s->hidden }, { "mlp.up_proj", s->ff, s->hidden },
        { "mlp.down_proj", s->hidden, s->ff }
    };
    const size_t parts = sizeof part / sizeof *part;
    size_t n = 0;
    if (!t)
        return 3 + parts * (size_t)s->layers;
    t[n++] = (struct tensor){ "model.embed_tokens.weight", s->vocab, s->hidden };
    for (long i = 0; i < s->layers; i++)
        for (size_t k = 0; k < parts; k++, n++) {
            t[n] = (struct tensor){ "", part[k].rows, part[k].cols };
            snprintf(t[n].name, sizeof t[n].name, "model.layers.%ld.%s.weight", i,
                     part[k].name);
        }
    t[n++] = (struct tensor){ "model.norm.weight", 0, s->hidden };
    t[n++] = (struct tensor){ "lm_head.weight", s->vocab, s->hidden };
    return n;
}

static void write_header(FILE *f, const struct tensor *t, size_t n)
{
    uint64_t at = 0, size;
    char *text = NULL;
    size_t length;
    FILE *h = open_memstream(&text, &length);
    if (!h)
        die("no memory for", "the header");
    fputc('{', h);
    for (size_t i = 0; i < n; i++) {
        uint64_t bytes = 2 * (uint64_t)(t[i].rows ? t[i].rows : 1) * (uint64_t)t[i].cols;
        fprintf(h, "%s\"%s\":{\"dtype\":\"F16\",\"shape\":[", i ? "," : "", t[i].name);
        if (t[i].rows)
            fprintf(h, "%" PRId64 ",", t[i].rows);
        fprintf(h, "%" PRId64 "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", t[i].cols,
                at, at + bytes);
        at += bytes;
    }
    fputc('}', h);
    fclose(h);
    size = (length + 7) / 8 * 8;
    fwrite(&size, sizeof size, 1, f);   /* little-endian, as this tool's machines are */
    fprintf(f, "%-*s", (int)size, text);
    free(text);
}

static void write_numbers(FILE *f, const struct tensor *t, const uint16_t *table,
                          uint16_t *block, uint64_t *seed)
{
    int64_t left = (t->rows ? t->rows : 1) * t->cols;
    while (left > 0) {
        int64_t n = left < BLOCK ? left : BLOCK;
        for (int64_t i = 0; i < n; i += 4) {
            uint64_t r = next(seed);
            for (int k = 0; k < 4; k++, r >>= 16)
                block[i + k] = t->rows ? table[r & 0xffff] : 0x3c00;
        }
        if (fwrite(block, 2, (size_t)n, f) != (size_t)n)
            die("cannot write (is the disk full?)", t->name);
        left -= n;
    }
}

int main(int argc, char **argv)
{
    struct shape s = { 32, 4096, 32, 32, 11008, 32000, 1 };
    long *at[] = { &s.layers, &s.hidden, &s.heads, &s.kv, &s.ff, &s.vocab, &s.seed };
    if (argc < 2 || argc > 9)
        die("usage:", "big_model FOLDER [LAYERS HIDDEN HEADS KV FF VOCAB SEED]");
    for (int i = 2; i < argc; i++)
        *at[i - 2] = strtol(argv[i], NULL, 10);
    if (s.layers < 1 || s.heads < 1 || s.hidden % s.heads || s.kv < 1 || s.heads % s.kv
        || s.ff < 1 || s.vocab < 258)
        die("impossible shape of", argv[1]);
    if (mkdir(argv[1], 0777) && access(argv[1], F_OK))
        die("cannot make", argv[1]);
    write_config(argv[1], &s);
    write_tokenizer(argv[1], &s);
    size_t n = list_tensors(&s, NULL);
    struct tensor *t = calloc(n, sizeof *t);
    uint16_t *table = malloc(65536 * sizeof *table), *block = malloc((BLOCK + 4) * 2);
    uint64_t seed = (uint64_t)s.seed;
    if (!t || !table || !block)
        die("no memory for", argv[1]);
    for (int i = 0; i < 65536; i++)
        table[i] = half_of((i - 32767.5) / 32768 * 0.02 * 1.7320508);
    list_tensors(&s, t);
    FILE *f = make(argv[1], "model.safetensors");
    write_header(f, t, n);
    for (size_t i = 0; i < n; i++)
        write_numbers(f, &t[i], table, block, &seed);
    finish(f, "model.safetensors");
    free(block);
    free(table);
    free(t);
    return 0;
}
