/* SPDX-License-Identifier: Apache-2.0 */
/* negotiate.h -- do the parts of a pipeline fit together?  Answered from
 * declarations alone, before any weight is read; and again, as far as it depends
 * on the model, once that is open.                                          */
#ifndef LM_PIPELINE_NEGOTIATE_H
#define LM_PIPELINE_NEGOTIATE_H
#include "pipeline/pipeline.h"
enum lm_status lm_negotiate(struct lm_pipeline *p, struct lm_err *e);
/* Resolves the metric that a goal names. */
enum lm_status lm_negotiate_metric(struct lm_pipeline *p, struct lm_goal *g,
                                   const char *where, struct lm_err *e);
/* Genes the search cannot handle, once the space is known. */
enum lm_status lm_negotiate_space(struct lm_pipeline *p, const struct lm_space *s,
                                  struct lm_err *e);
/* Asks the formats what they can write of m, and whether that is enough for m
 * as it is, the pruners and the repair.                                     */
enum lm_status lm_negotiate_model(struct lm_pipeline *p, const struct lm_model *m,
                                  struct lm_err *e);
/* Can every export hold a model of these shape features?  what names who
 * makes them.                                                               */
enum lm_status lm_negotiate_features(struct lm_pipeline *p, uint64_t features,
                                     const char *what, struct lm_err *e);
/* The first of some LM_SHAPE_* features, for people. */
const char *lm_feature_name(uint64_t features);
/* LM_BIT(site kinds) that a pruner ranks by under its options. */
uint64_t lm_pruner_ranks(const struct lm_stage *pruner);
/* LM_BIT(enum lm_stat) that a repair needs under its options. */
uint64_t lm_repair_needs(const struct lm_stage *repair);
/* Whether it has the blocks turn a narrower residual stream. */
bool lm_repair_turns(const struct lm_stage *repair);
/* LM_SHAPE_*_BIAS that a repair makes under its options. */
uint64_t lm_repair_biases(const struct lm_stage *repair);
/* LM_SHAPE_* features that edits of these site kinds can make. */
uint64_t lm_negotiate_edits(uint64_t edits);
#endif
