/* SPDX-License-Identifier: Apache-2.0 */
/* gguf.h -- inside of the gguf plugin: single files in the form of llama.cpp.
 *
 *   gguf.c        descriptor, what it can write
 *   gguf_parse.c  file -> key-value pairs and tensors, everything checked
 *   gguf_read.c   those -> architecture and weights
 *   gguf_vocab.c  tokenizer.ggml.* -> vocabulary
 *   gguf_write.c  layers and tensors of the file to write, and their data
 *   gguf_meta.c   its key-value pairs
 *   gguf_rope.c   the rotary embedding in them, read and written
 *   gguf_own.c    keys of ours for what the form has no place for
 *
 * Layout of a file: "GGUF", version, number of tensors, number of pairs; the
 * pairs; the tensors' names, sizes, types and offsets; padding; the data, each
 * tensor aligned.  All little-endian; sizes with the row length first.         */
#ifndef LM_FORMATS_GGUF_H
#define LM_FORMATS_GGUF_H

#include "common.h"

enum gguf_type {
    GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL,
    GGUF_STRING, GGUF_ARRAY, GGUF_U64, GGUF_I64, GGUF_F64, GGUF_N_TYPES
};
enum { GGUF_ALIGNMENT = 32, GGUF_MAX_PAIRS = 8192, GGUF_MAX_TENSORS = 1 << 20,
       GGUF_MAX_LAYERS = 4096, GGUF_MAX_WIDTH = 1 << 24, GGUF_MAX_VOCAB = 1 << 24,
       GGUF_ZERO_FFN = 32, GGUF_NAME = 80, GGUF_MAX_EOS = 64 };

struct gguf_slice { const char *s; size_t n; };     /* not NUL-terminated     */

struct gguf_pair {
    struct gguf_slice key;
    uint32_t type, element;             /* element: of an ARRAY               */
    uint64_t count;                     /* of an ARRAY, else 1                */
    const char *value;                  /* first byte                         */
    size_t   bytes;                     /* all of it lies in the file         */
};

struct gguf_info {                      /* one tensor                         */
    char name[GGUF_NAME];
    struct lm_tensor tensor;
    bool flat;                          /* one dimension                      */
    uint32_t stored;                    /* dtype it had before; 0: as it is   */
};

struct gguf_file {
    const struct fmt *f;
    const char *path;
    struct gguf_pair *pair;
    size_t n_pair;
    struct gguf_info *info;
    size_t n_info;
};

/* number of a ggml type in files; -1: none */
int32_t gguf_type_of(uint32_t dtype);
/* LM_EUNSUPPORTED unless it can be written; 0: each tensor's own can */
enum lm_status gguf_dtype_check(const struct fmt *f, uint32_t dtype, struct lm_err *e);

enum lm_status gguf_open(const struct fmt *f, const char *path, const void *data,
                         size_t n, struct gguf_file *g, struct lm_err *e);
void gguf_close(struct gguf_file *g);
const struct gguf_pair *gguf_find(const struct gguf_file *g, const char *key);
const struct gguf_info *gguf_tensor(const struct gguf_file *g, const char *name);
/* i-th element (0 of a scalar) as a number; false: of another type */
bool gguf_integer(const struct gguf_pair *p, uint64_t i, int64_t *out);
bool gguf_real(const struct gguf_pair *p, double *out);
bool gguf_string(const struct gguf_pair *p, struct gguf_slice *out);
/* walks a string array: *at begins as p->value */
struct gguf_slice gguf_next(const char **at);
/* as much of it as a message shows, for "%.*s" */
int gguf_brief(struct gguf_slice s);

struct gguf_vocab {
    struct lm_vocabulary vocabulary;    /* n_token 0: none                    */
    struct lm_token *token;
    struct lm_merge *merge;
    double *score;
    struct fmt_map map;
    char *chat;
};
/* Does llama.cpp put BOS first where the file has no key that says it? */
bool gguf_vocab_adds_bos(const struct gguf_file *g);
enum lm_status gguf_vocab_open(const struct gguf_file *g, int32_t n_embed,
                               struct gguf_vocab *v, struct lm_err *e);
void gguf_vocab_close(const struct gguf_file *g, struct gguf_vocab *v);

enum lm_status gguf_read(void *self, const char *path, struct lm_builder *b,
                         struct lm_err *e);
/* Can m, and any model cut from it within limits(), be written? */
enum lm_status gguf_suitable(const struct fmt *f, const struct lm_model *m,
                             struct lm_err *e);
/* Norms of q and k are known to qwen3 alone, which has equal layers and no biases. */
bool gguf_needs_qwen3(const struct fmt *f, const struct lm_model *m);
enum lm_status gguf_write(void *self, const struct lm_model *m,
                          const struct lm_export *x, struct lm_err *e);
/* "blk.3.ffn_up.weight"; false: no name */
bool gguf_role_name(uint32_t role, int32_t layer, char *out, size_t n);

bool gguf_is_matrix(uint32_t role);

/* number under "FAMILY.KEY"; def <= 0: must be there */
enum lm_status gguf_family_real(const struct gguf_file *g, const char *family,
                                const char *key, double def, double *out,
                                struct lm_err *e);
enum lm_status gguf_rope_read(const struct gguf_file *g, const char *family,
                              struct lm_arch *a, struct lm_err *e);
/* Some RoPE scaling is stored as one divisor for each pair of dimensions:
 * out [head_dim/2]                                                            */
bool gguf_divided(const struct lm_arch *a);
void gguf_divisors(const struct lm_arch *a, double *out);

/* what keys of ours say, and further ids that end a text: into a, whose
 * pointers then are to o.  Marks tensors for gguf_narrow().                   */
struct gguf_own { int32_t more[GGUF_MAX_EOS]; char *generation; };
enum lm_status gguf_own_read(struct gguf_file *g, struct lm_arch *a, struct gguf_own *o,
                             struct lm_err *e);
/* a marked vector back into the number format it had, where that is exact */
enum lm_status gguf_narrow(const struct gguf_file *g, struct lm_builder *b,
                           const struct gguf_info *i, struct lm_tensor *t,
                           struct lm_err *e);

/* ---- writing: one layer of the file */
struct gguf_layer {
    int32_t from;                       /* layer of the model                 */
    struct lm_layer_shape shape;        /* as written                         */
    bool zero_attn, zero_mlp;           /* blocks of zeros, see gguf_write.c  */
};
struct gguf_shape {
    struct gguf_layer *layer;
    int32_t n;
    bool uneven;
    const char *family;                 /* architecture in the file           */
    uint32_t dtype;                     /* of most weights of the layers      */
    bool neighbours;                    /* RoPE turns neighbours, not halves  */
};
/* Pairs being appended to b; a name that begins with a dot gets the family in
 * front.  Elements of an array are put behind it with gguf_put_...()            */
struct gguf_keys { struct fmt_buf *b; const char *family; uint64_t n; };
void gguf_add_string(struct gguf_keys *k, const char *name, const char *s);
void gguf_add_u32(struct gguf_keys *k, const char *name, int64_t v);
void gguf_add_f32(struct gguf_keys *k, const char *name, double v);
void gguf_add_f64(struct gguf_keys *k, const char *name, double v);
void gguf_add_bool(struct gguf_keys *k, const char *name, bool v);
void gguf_add_array(struct gguf_keys *k, const char *name, uint32_t element, uint64_t n);
/* appends the pairs to b; returns how many */
uint64_t gguf_meta(const struct fmt *f, const struct lm_model *m,
                   const struct lm_export *x, const struct gguf_shape *g,
                   struct fmt_buf *b);
void gguf_own_write(const struct fmt *f, const struct lm_model *m,
                    const struct lm_export *x, const struct gguf_shape *g,
                    struct gguf_keys *k);
void gguf_rope_write(const struct lm_arch *a, struct gguf_keys *k);
void gguf_put_string(struct fmt_buf *b, const char *s, size_t n);
void gguf_put_u32(struct fmt_buf *b, uint32_t v);
void gguf_put_u64(struct fmt_buf *b, uint64_t v);

#endif
