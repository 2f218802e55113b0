/* SPDX-License-Identifier: Apache-2.0 */
/* plan.h -- the canonical set of edits that a genome decodes to.
 *
 * Independent of scores and plugins: kept members are explicit, so a plan can
 * be printed, hashed, stored and applied again to the same dense model.
 * Canonical: a set that keeps everything is stored as "all", one that keeps
 * nothing drops its block, members of dropped blocks are not listed, blocks
 * that the dense model lacks count as dropped, settings go by name.  Query heads
 * of groups that go are not listed; a group without query heads goes; all groups
 * that stay keep as many, as every runtime wants it.  Channels of the residual stream
 * are kept for all layers, norms and the head together: they are the model's.
 *
 * The text names only what is edited:
 *
 *   plan 1 layers=30
 *   model: hidden=512/576:0-511
 *   layer 3: none
 *   layer 7: kv=2/3:0,2 ffn=960/1536:0-511,640-1087
 *   layer 8: kv=2/3:0,2 heads=4/9:1-2,6,8
 *   layer 9: attn=none ffn=2/8:x81
 *   layer 9: attn=none ffn=2/8:x81 format=int8/q8_0
 *   layer 11: o=int8/q8_0 down=int4/q4_0
 *   set repair.lambda real 0.001
 *
 * KEPT/ALL, then the kept members as runs, or as the digits of a bit set (first
 * digit: members 0 to 3, member 0 its lowest bit) where the runs are longer.
 * QUANTIZER/NUMBER_FORMAT, for the matrices named or all of the layer; the others
 * take the number format of the export.                                       */
#ifndef LM_PLAN_PLAN_H
#define LM_PLAN_PLAN_H
#include "base/err.h"
#include "base/str.h"
#include "space/space.h"

struct lm_keep {                        /* kept members of 0..n-1 */
    int32_t   n, kept;
    uint64_t *bits;                     /* NULL: all are kept */
};
/* Matrices of a layer in this order: q, k, v, o, gate, up, down. */
enum { LM_N_MATRICES = 7, LM_MAX_FORMATS = 16, LM_FORMAT_NAME = 32 };
struct lm_plan_format { char name[LM_FORMAT_NAME]; uint32_t dtype; };
struct lm_layer_plan {
    bool drop_attn, drop_mlp;
    uint8_t format[LM_N_MATRICES];      /* 1 + index in lm_plan.format; 0: none */
    struct lm_keep kv;                  /* KV groups (with their query heads) */
    struct lm_keep head;                /* query heads; bits NULL: all that the
                                           kept groups have */
    struct lm_keep ffn;                 /* FFN channels */
};
struct lm_setting { char *name; union lm_value value; uint32_t kind; };
struct lm_plan {
    const struct lm_arch *arch;         /* dense; must outlive the plan */
    struct lm_keep hidden;              /* channels of the residual stream */
    struct lm_layer_plan *layer;        /* [arch->n_layer] */
    struct lm_setting *setting;         /* tuned options, by name: "repair.lambda" */
    size_t n_setting;
    struct lm_plan_format format[LM_MAX_FORMATS];
    size_t n_format;
    struct lm_space *space;             /* scores for edit_keep_top; may be NULL */
    uint64_t may;                       /* site kinds that may be edited now, as the
                                           pruner at work declares; 0: all */
};

enum lm_status lm_plan_open(const struct lm_arch *dense, struct lm_space *space,
                            struct lm_plan **p, struct lm_err *e);
void lm_plan_free(struct lm_plan *p);
/* Edits of several pruners intersect. */
enum lm_status lm_plan_drop(struct lm_plan *p, struct lm_site s, struct lm_err *e);
enum lm_status lm_plan_keep(struct lm_plan *p, uint32_t site, int32_t layer,
                            const int32_t *index, int64_t n, struct lm_err *e);
/* LM_SITE_HEAD: the best k of each KV group. */
enum lm_status lm_plan_keep_top(struct lm_plan *p, uint32_t site, int32_t layer,
                                int64_t k, struct lm_err *e);
enum lm_status lm_plan_set(struct lm_plan *p, const char *name, uint32_t kind,
                           union lm_value v, struct lm_err *e);
/* To be called once all edits are in. */
/* LM_EINFEASIBLE when no block or no channel of the residual stream is left, or KV
 * groups of a layer would keep different numbers of query heads.            */
enum lm_status lm_plan_canonical(struct lm_plan *p, struct lm_err *e);
uint64_t lm_plan_hash(const struct lm_plan *p);
void lm_plan_text(const struct lm_plan *p, struct lm_str *out);
enum lm_status lm_plan_parse(const struct lm_arch *dense, const char *text,
                             struct lm_plan **p, struct lm_err *e);
bool lm_keep_has(const struct lm_keep *k, int32_t i);
/* Whether two plans of one architecture edit the same. */
bool lm_plan_equal(const struct lm_plan *a, const struct lm_plan *b);
/* Whether that can be the name of a setting. */
bool lm_plan_names(const char *name);
/* Value of a setting, or NULL. */
const struct lm_setting *lm_plan_setting(const struct lm_plan *p, const char *name);
/* Query heads that each kept KV group of a layer keeps; 0: no attention. */
int32_t lm_plan_heads_each(const struct lm_plan *p, int32_t layer);
/* Number formats (formats.c).  name: id of a quantizer, dtype: what it makes. */
enum lm_status lm_plan_format(struct lm_plan *p, uint32_t role, int32_t layer,
                              const char *name, uint32_t dtype, struct lm_err *e);
/* Of matrix i of a layer; NULL: none of its own. */
const struct lm_plan_format *lm_plan_format_of(const struct lm_plan *p, int32_t layer,
                                               int i);
/* Its number format; `dtype` where it has none of its own. */
uint32_t lm_plan_dtype_of(const struct lm_plan *p, int32_t layer, int i, uint32_t dtype);
/* lm_export.own of the model that the plan makes; *out NULL when no matrix has a
 * format of its own.  lm_release() it.                                      */
enum lm_status lm_plan_dtypes(const struct lm_plan *p, uint32_t **out, struct lm_err *e);
/* Columns of matrix i under the plan, 0: it is not there. */
int64_t lm_plan_columns(const struct lm_plan *p, int32_t layer, int i);
/* Whether a quantizer may be called that: [a-z0-9_.-], shorter than LM_FORMAT_NAME. */
bool lm_format_names(const char *name);
uint32_t lm_matrix_role(int i);
int lm_matrix_index(uint32_t role);             /* -1: no matrix of a layer */
const char *lm_matrix_name(int i);
/* For plan.c and plan_text.c. */
void lm_plan_settle_formats(struct lm_layer_plan *l);
uint64_t lm_plan_hash_formats(const struct lm_plan *p, int32_t layer, uint64_t h);
bool lm_plan_same_formats(const struct lm_plan *a, const struct lm_plan *b,
                          int32_t layer);
bool lm_plan_has_formats(const struct lm_layer_plan *l);
void lm_plan_put_formats(const struct lm_plan *p, int32_t layer, struct lm_str *out);
enum lm_status lm_plan_read_formats(struct lm_plan *p, int32_t layer, const char **at,
                                    struct lm_err *e);
/* Shape of a layer under the plan. */
struct lm_layer_shape lm_plan_shape(const struct lm_plan *p, int32_t layer);
/* LM_SHAPE_* features the plan's shape has; layers without any block vanish
 * and have none.                                                            */
uint64_t lm_plan_features(const struct lm_plan *p);
/* Counted, not built (count.c).  dtype: that of matrices in the export that have
 * none of their own; vectors count as f32.  body_params are those of the layers'
 * matrices, so without norms; params are all matrices and norms.  Layers without
 * any block are not there.  Biases and norms of q and k, which the architecture does
 * not tell of, are not counted; lm_candidate_cost() does that.              */
void lm_shape_cost(const struct lm_arch *a, const struct lm_layer_shape *layer,
                   uint32_t dtype, struct lm_cost *out);
void lm_plan_cost(const struct lm_plan *p, uint32_t dtype, struct lm_cost *out);
#endif
