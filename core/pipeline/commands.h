/* SPDX-License-Identifier: Apache-2.0 */
/* commands.h -- programs of the user that judge candidates: who may run them,
 * what they are given, what is kept of them.                                */
#ifndef LM_PIPELINE_COMMANDS_H
#define LM_PIPELINE_COMMANDS_H
#include "pipeline/pipeline.h"
#include "plan/candidate.h"

/* LM_ECONFIG at the first evaluator that runs programs, unless the user gave
 * --allow-commands.                                                         */
enum lm_status lm_commands_check(const struct lm_stage *stage, size_t n,
                                 struct lm_err *e);
/* Fills p->offer from the evaluators: every format is there and writes that dtype. */
enum lm_status lm_commands_offers(struct lm_pipeline *p, struct lm_err *e);
/* Removes what a killed run left of candidates' files. */
enum lm_status lm_commands_tidy(const char *folder, struct lm_err *e);
/* lm_candidate_write; ctx is a struct lm_bench. */
enum lm_status lm_commands_write(void *ctx, const struct lm_candidate *c,
                                 const char *format, uint32_t dtype, char *out,
                                 size_t size, struct lm_err *e);
/* struct lm_host's call(). */
enum lm_status lm_commands_call(struct lm_run *r, const struct lm_call *c, char **out,
                                size_t *n, struct lm_err *e);
#endif
