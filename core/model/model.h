/* SPDX-License-Identifier: Apache-2.0 */
/* model.h -- a model: architecture, tensors (mapped or owned), vocabulary.
 * Immutable once built, so any thread may read it.                          */
#ifndef LM_MODEL_MODEL_H
#define LM_MODEL_MODEL_H
#include "base/err.h"
#include "base/file.h"

/* What a model file may say; products of these sizes stay far inside 63 bits. */
enum {
    LM_MAX_LAYERS = 1000, LM_MAX_HIDDEN = 65536, LM_MAX_HEAD_DIM = 4096,
    LM_MAX_HEADS = 4096, LM_MAX_VOCAB = 4 << 20, LM_MAX_FF = 1 << 20
};

struct lm_model;
struct lm_builder;

/* Building (formats through the host, apply.c directly).  finish() checks
 * that every tensor the architecture needs is there, has its shape and holds
 * finite numbers only where cheap (norms); full value checks are
 * lm_model_check().  On failure the builder is freed all the same.          */
enum lm_status lm_builder_open(const char *source, struct lm_builder **b,
                               struct lm_err *e);
enum lm_status lm_builder_arch(struct lm_builder *b, const struct lm_arch *a,
                               struct lm_err *e);
enum lm_status lm_builder_tensor(struct lm_builder *b, uint32_t role, int32_t layer,
                                 const struct lm_tensor *t, const char *name,
                                 struct lm_err *e);
enum lm_status lm_builder_vocabulary(struct lm_builder *b, const struct lm_vocabulary *v,
                                     struct lm_err *e);     /* copies */
enum lm_status lm_builder_map(struct lm_builder *b, const char *path, const void **data,
                              size_t *n, struct lm_err *e);
void lm_builder_keep(struct lm_builder *b, void *memory);
/* The model closes the mapping; closed at once on failure. */
enum lm_status lm_builder_take_map(struct lm_builder *b, struct lm_map map,
                                   struct lm_err *e);
enum lm_status lm_builder_finish(struct lm_builder *b, struct lm_model **m,
                                 struct lm_err *e);
void lm_builder_abandon(struct lm_builder *b);
void lm_model_free(struct lm_model *m);
/* Every value finite; names the tensor otherwise (LM_EINPUT). */
enum lm_status lm_model_check(const struct lm_model *m, struct lm_err *e);

const struct lm_arch *lm_model_arch(const struct lm_model *m);
const struct lm_tensor *lm_model_tensor(const struct lm_model *m, uint32_t role,
                                        int32_t layer);
enum lm_status lm_model_rows(const struct lm_model *m, uint32_t role, int32_t layer,
                             int64_t first, int64_t n, float *out, struct lm_err *e);
/* The whole tensor as floats, decoded on first use and kept.  [any]
 * *out NULL when the model has no such tensor.                              */
enum lm_status lm_model_floats(const struct lm_model *m, uint32_t role, int32_t layer,
                               const float **out, struct lm_err *e);
/* Do its floats lie in the file as they are used, so that none are decoded? */
bool lm_model_in_place(const struct lm_model *m, uint32_t role, int32_t layer);
/* Bytes of all decoded matrices of the model, if all are. */
size_t lm_model_float_bytes(const struct lm_model *m);
const struct lm_vocabulary *lm_model_vocabulary(const struct lm_model *m);  /* or NULL */
const char *lm_model_source(const struct lm_model *m);
/* Of architecture and all tensor bytes. */
uint64_t lm_model_hash(const struct lm_model *m);
/* Rows and columns that a role must have; false: the layer has none of it. */
bool lm_role_shape(const struct lm_arch *a, uint32_t role, int32_t layer,
                   int64_t *rows, int64_t *cols);
const char *lm_role_name(uint32_t role);            /* "q", "down" ... */
bool lm_role_is_layer(uint32_t role);               /* one per layer   */
bool lm_role_is_matrix(uint32_t role);              /* takes the export dtype */
#endif
