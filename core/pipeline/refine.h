/* SPDX-License-Identifier: Apache-2.0 */
/* refine.h -- the pipeline's `refine`: finalists repaired once more, block by block. */
#ifndef LM_PIPELINE_REFINE_H
#define LM_PIPELINE_REFINE_H
#include "pipeline/session.h"

/* Does `refine` work from the dense model's statistics, in place of `repair`, and not in
 * sequence, behind it?                                                        */
bool lm_refine_replaces(const struct lm_pipeline *p);
/* A candidate of a finalist's plan, in this process: as `repair` left it, or with
 * lm_refine_replaces() as `refine` does.                                       */
enum lm_status lm_refine_open(struct lm_session *s, struct lm_plan **plan,
                              struct lm_candidate *c, struct lm_err *why,
                              struct lm_err *e);
/* Can finalists of this model be refined?  Asked before the search; nothing without a
 * `refine` in sequence, and in a worker, which refines nothing.              */
enum lm_status lm_refine_check(const struct lm_pipeline *p, const struct lm_bench *b,
                               struct lm_err *e);
/* What a candidate becomes before it is measured as a finalist, shown or exported: in
 * this process, from calibration text.  Nothing without a `refine` in sequence, and for a
 * candidate without cut blocks.  After a failure c is closed by the caller as ever. */
enum lm_status lm_refine(struct lm_session *s, struct lm_candidate *c, struct lm_err *e);
#endif
