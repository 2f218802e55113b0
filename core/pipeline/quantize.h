/* SPDX-License-Identifier: Apache-2.0 */
/* quantize.h -- the stage `quantize`: number formats as genes.
 *
 * A gene says for the whole model, a matrix of all layers, a layer, or a matrix of
 * a layer (`per`) which member of `quantize` makes its number format; 0 is none of
 * them, what the export says.  A matrix whose columns are no whole number of blocks
 * keeps what the export gives it.                                            */
#ifndef LM_PIPELINE_QUANTIZE_H
#define LM_PIPELINE_QUANTIZE_H
#include "pipeline/session.h"

/* Can every export hold what the quantizers make?  m as in lm_format.limits.  [main] */
enum lm_status lm_quantize_negotiate(struct lm_pipeline *p, const struct lm_model *m,
                                     struct lm_err *e);
/* LM_BIT(enum lm_stat) that they weigh by. */
uint64_t lm_quantize_needs(const struct lm_pipeline *p);
/* Instances, and genes behind those that the space has. */
enum lm_status lm_quantize_create(struct lm_session *s, struct lm_err *e);
void lm_quantize_destroy(struct lm_session *s);
enum lm_status lm_quantize_genes(struct lm_session *s, struct lm_err *e);
/* Formats into a canonical plan, which stays canonical. */
enum lm_status lm_quantize_decode(struct lm_session *s, const union lm_value *v,
                                  struct lm_plan *plan, struct lm_err *e);
/* Widths that the blocks of a quantizer do not divide; gene: what can make them. */
enum lm_status lm_quantize_widths(const struct lm_pipeline *p, const struct lm_plan *plan,
                                  const char *gene, struct lm_err *e);
/* lm_quant_source of the workshop; ctx: the session. */
enum lm_status lm_quantize_source(void *ctx, const char *name,
                                  struct lm_quant_choice *out, struct lm_err *e);
/* What a format does with the plan's number formats: *own is lm_export.own,
 * lm_release'd, NULL where it has no place for them; it says so then.     [main] */
enum lm_status lm_quantize_export(const struct lm_plan *plan, const char *format,
                                  uint64_t features, uint32_t dtype, uint32_t **own,
                                  struct lm_err *e);
#endif
