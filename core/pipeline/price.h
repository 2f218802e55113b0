/* SPDX-License-Identifier: Apache-2.0 */
/* price.h -- what a batch of genomes costs before it is evaluated. */
#ifndef LM_PIPELINE_PRICE_H
#define LM_PIPELINE_PRICE_H
#include "pipeline/session.h"
#include "pipeline/view.h"

struct lm_pricing { struct lm_session *s; const struct lm_study *view; };
/* An lm_price (run.h); ctx is a struct lm_pricing. */
enum lm_status lm_price_genomes(void *ctx, const union lm_value *const *value, size_t n,
                                double *share, struct lm_err *e);
#endif
