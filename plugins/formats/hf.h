/* SPDX-License-Identifier: Apache-2.0 */
/* hf.h -- inside of the hf plugin: folders in the form of Hugging Face.
 *
 *   hf.c            descriptor, what it can write, the order of reading
 *   hf_config.c     config.json -> architecture
 *   hf_rope.c       its part about the rotary embedding, read and written
 *   hf_layers.c     its part about layers that differ, read and written
 *   hf_weights.c    *.safetensors -> list of tensors -> builder
 *   hf_tokenizer.c  tokenizer*.json -> vocabulary and special ids
 *   hf_rules.c      how its tokenizer treats text
 *   hf_write.c      config, weights and the files carried over
 *   hf_pad.c        a tensor filled up with zeros to a stock layer's shape
 *   hf_modeling.py  modeling_lamina.py, as a string in hf_modeling.c
 *   hf_vocab.c      vocabulary -> tokenizer.json, tokenizer_config.json         */
#ifndef LM_FORMATS_HF_H
#define LM_FORMATS_HF_H

#include "common.h"

enum {
    HF_MAX_LAYERS = 4096, HF_MAX_WIDTH = 1 << 24, HF_MAX_VOCAB = 1 << 24,
    HF_MAX_EOS = 64, HF_MAX_HEADER = 100000000, HF_MAX_JSON = 256 << 20,
    HF_MAX_GENERATION = 1 << 20
};

/* U+2581, which stands for a space in the vocabularies of SentencePiece */
#define HF_LOW_LINE "\xe2\x96\x81"

struct hf_options {
    bool pad;                           /* layers that differ become equal    */
};

enum hf_family { HF_LLAMA, HF_MISTRAL, HF_QWEN2, HF_QWEN3, HF_N_FAMILIES };
/* "qwen2", and "Qwen2" as classes of transformers begin */
const char *hf_family_name(enum hf_family f);
const char *hf_family_class(enum hf_family f);

/* a parsed JSON file; root NULL: there is no such file */
struct hf_doc { struct lm_json *root; char path[FMT_PATH]; };

struct hf_cx {                          /* config.json while it is read       */
    const struct lm_host *h;
    const char *path;
    const struct lm_json *root;
    struct lm_err *e;
};
/* a value of JSON */
static inline const char *hf_bool(bool v)
{
    return v ? "true" : "false";
}
/* LM_EUNSUPPORTED unless it can be written; 0: each tensor's own can */
enum lm_status hf_dtype_check(const struct fmt *f, uint32_t dtype, struct lm_err *e);
/* a member; NULL: absent or null */
const struct lm_json *hf_get(const struct hf_cx *c, const char *key);
/* a number above 0 of an object; def <= 0: must be there */
enum lm_status hf_real(const struct hf_cx *c, const struct lm_json *object,
                       const char *key, double def, double *out);
enum lm_status hf_rope_read(const struct hf_cx *c, struct lm_arch *a);
/* rope_theta, rope_scaling and rope_parameters as lines of config.json */
void hf_rope_write(const struct lm_arch *a, struct fmt_buf *b);
bool hf_rope_known(const struct lm_arch *a);

struct hf_config {
    struct lm_arch arch;                /* its pointers point below           */
    struct lm_layer_shape *layer;
    int32_t eos_more[HF_MAX_EOS];
    char name[256];
    bool tie;                           /* tie_word_embeddings                */
    enum hf_family family;
    uint64_t extra;                     /* LM_BIT(role): its biases and norms */
    bool own;                           /* model_type lamina                  */
    char *generation;                   /* generation_config.json, or NULL    */
    struct hf_doc doc;
};

struct hf_entry {                       /* one tensor of a safetensors file   */
    const char *name;                   /* in its document                    */
    const char *file;                   /* path                               */
    struct lm_tensor tensor;
};

struct hf_weights {
    struct hf_entry *entry;
    size_t n, cap;
    struct hf_doc index;                /* of shards                          */
    struct hf_doc *header;              /* one for each file                  */
    size_t n_file;
};

struct hf_tokenizer {
    struct hf_doc doc, config;          /* tokenizer.json, tokenizer_config   */
    struct lm_vocabulary vocabulary;    /* n_token 0: none                    */
    struct lm_token *token;
    struct lm_merge *merge;
    double *score;                      /* [vocab] of Unigram, else NULL      */
    bool byte_tokens;                   /* "<0x0A>" stands for a byte         */
    struct fmt_map map;
    char *jinja;                        /* chat_template.jinja                */
    bool template_bos;                  /* post-processor puts one first      */
    int32_t template_bos_id;
};

/* name: file in folder; a missing optional file leaves root NULL */
enum lm_status hf_doc_open(const struct fmt *f, const char *folder, const char *name,
                           bool optional, struct hf_doc *d, struct lm_err *e);
void hf_doc_close(const struct fmt *f, struct hf_doc *d);
/* the number of a node that may be written as integer or real */
bool hf_number(const struct lm_host *h, const struct lm_json *node, double *out);

enum lm_status hf_config_open(const struct fmt *f, const char *folder,
                              struct hf_config *c, struct lm_err *e);
void hf_config_close(const struct fmt *f, struct hf_config *c);

/* The layers of a folder that is written. */
struct hf_layers {
    struct lm_layer_shape *shape;       /* [n] in the file                    */
    int32_t *from;                      /* [n] their numbers in the model     */
    int32_t  n;
    struct lm_layer_shape all;          /* what config.json says of all       */
    bool     own;                       /* some differ: model_type lamina     */
};
enum lm_status hf_layers_open(const struct fmt *f, const struct lm_arch *a, bool pad,
                              struct hf_layers *l, struct lm_err *e);
void hf_layers_close(const struct fmt *f, struct hf_layers *l);
/* lines of config.json that a lamina model has more than a llama */
void hf_layers_config(const struct hf_layers *l, const struct lm_arch *a, uint64_t extra,
                      struct fmt_buf *b);
/* per_layer_config, linear_biases and qk_norm into layers and extra */
enum lm_status hf_layers_read(const struct hf_cx *c, struct hf_config *k);
/* has a layer of this shape the block that a role is part of? */
bool hf_role_block(uint32_t role, const struct lm_layer_shape *s);
extern const char *const hf_modeling[];         /* lines; the last is NULL    */

struct hf_padded {
    struct fmt_job job;                 /* t NULL: the whole is added         */
    uint32_t role;
    int64_t  rows, cols, head_dim;      /* rows, cols: in the file            */
    struct lm_layer_shape here, there;  /* of the model, of the file          */
};
enum lm_status hf_pad_write(const struct fmt *f, const struct hf_padded *p,
                            struct lm_out *o, struct lm_err *e);

enum lm_status hf_weights_open(const struct fmt *f, const char *folder,
                               struct lm_builder *b, struct hf_weights *w,
                               struct lm_err *e);
bool hf_weights_have(const struct hf_weights *w, const char *name);
enum lm_status hf_weights_add(const struct fmt *f, const struct hf_weights *w,
                              const struct hf_config *c, struct lm_builder *b,
                              struct lm_err *e);
void hf_weights_close(const struct fmt *f, struct hf_weights *w);

enum lm_status hf_tokenizer_open(const struct fmt *f, const char *folder,
                                 int32_t vocab, struct hf_tokenizer *t,
                                 struct lm_err *e);
/* bos, eos, eos_more, pad and add_bos */
enum lm_status hf_tokenizer_ids(const struct fmt *f, const char *folder,
                                const struct hf_tokenizer *t, struct hf_config *c,
                                struct lm_err *e);
/* normalizer, pre-tokenizer, decoder and model settings into t->vocabulary */
enum lm_status hf_rules(const struct fmt *f, struct hf_tokenizer *t, struct lm_err *e);
/* the regular expression of a pre-tokenizer, or NULL */
const char *hf_pattern(uint32_t pre);
/* "PATH: WHAT 'NAME' is not supported" */
enum lm_status hf_refuse(const struct fmt *f, const struct hf_doc *d, const char *what,
                         const char *name, struct lm_err *e);
bool hf_true(const struct fmt *f, const struct lm_json *o, const char *key, bool def);
const char *hf_text(const struct fmt *f, const struct lm_json *o, const char *key);
bool hf_nothing(const struct fmt *f, const struct lm_json *n);  /* absent or null */
void hf_tokenizer_close(const struct fmt *f, struct hf_tokenizer *t);

enum lm_status hf_write(void *self, const struct lm_model *m, const struct lm_export *x,
                        struct lm_err *e);
enum lm_status hf_write_vocabulary(const struct fmt *f, const struct lm_model *m,
                                   const char *folder, struct lm_err *e);
/* text into folder/name */
enum lm_status hf_write_text(const struct fmt *f, const char *folder, const char *name,
                             struct fmt_buf *text, struct lm_err *e);

/* "model.layers.3.mlp.up_proj.weight" of a role; false: no name */
bool hf_role_name(uint32_t role, int32_t layer, char *out, size_t n);

#endif
