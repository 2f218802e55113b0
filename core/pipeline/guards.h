/* SPDX-License-Identifier: Apache-2.0 */
/* guards.h -- what makes figures look better than they are: texts that share
 * passages, channels that never fire, perplexity bought by leaving the dense model.
 * A guard stops nothing; it writes a sentence a line.                [main] */
#ifndef LM_PIPELINE_GUARDS_H
#define LM_PIPELINE_GUARDS_H
#include "pipeline/session.h"
#include "pipeline/view.h"

/* Before the search: overlap of calibration, search and final texts, all of which it
 * reads; columns of zeros in the statistics.                                  */
enum lm_status lm_guard_inputs(struct lm_session *s, struct lm_str *out,
                               struct lm_err *e);
/* Of a ranked study: trials whose perplexity is better than that of one that is
 * nearer to the dense model, by more than their standard errors; finalists with fewer
 * parameters than another that take as long all the same.                     */
void lm_guard_results(const struct lm_study *v, struct lm_str *out);
#endif
