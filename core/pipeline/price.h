/* SPDX-License-Identifier: Apache-2.0 */
/* price.h -- what genomes cost and weigh before they are evaluated. */
#ifndef LM_PIPELINE_PRICE_H
#define LM_PIPELINE_PRICE_H
#include "pipeline/session.h"
#include "pipeline/view.h"

struct lm_pricing { struct lm_session *s; const struct lm_study *view; };
/* An lm_price (run.h); ctx is a struct lm_pricing. */
enum lm_status lm_price_genomes(void *ctx, const union lm_value *const *value, size_t n,
                                double *share, struct lm_err *e);
/* An lm_weigh, likewise. */
enum lm_status lm_weigh_genome(void *ctx, const union lm_value *value,
                               struct lm_cost *out, struct lm_err *e);
/* What the attention block (or the MLP) of a layer follows from in a plan: blocks with
 * one key are one segment.  formats: its number formats, too; else as it is cut. */
uint64_t lm_price_block(const struct lm_plan *p, int32_t layer, bool mlp, bool formats);
#endif
