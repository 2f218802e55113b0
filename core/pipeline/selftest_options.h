/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_options.h -- options for selftests, and the check of them. */
#ifndef LM_PIPELINE_SELFTEST_OPTIONS_H
#define LM_PIPELINE_SELFTEST_OPTIONS_H
#include "pipeline/selftest_kit.h"

/* Fills a stage: what the user gave, guesses for what is required, defaults;
 * `name` (may be NULL) is set to `value`, as it is written in a file.  conf is
 * what the stage's options came from: free it after the stage, also on failure.
 * LM_EUNAVAILABLE: something is required that cannot be guessed.             */
enum lm_status lm_selftest_fill(struct lm_kit *k, const char *name, const char *value,
                                struct lm_conf **conf, struct lm_stage *stage);
enum lm_status lm_selftest_options(struct lm_kit *k);
#endif
