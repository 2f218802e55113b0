/* SPDX-License-Identifier: Apache-2.0 */
/* profile.h -- the table that `lamina profile` writes and `latency_table` reads.
 *
 * One JSON object, explained in doc/latency-table.md; LM_TABLE_VERSION is raised when a
 * reader of before would misread it.                                         */
#ifndef LM_PIPELINE_PROFILE_H
#define LM_PIPELINE_PROFILE_H
#include "model/profile.h"
#include "pipeline/session.h"

enum { LM_TABLE_VERSION = 1 };

struct lm_profile_request {
    int32_t prefill, tokens, context, threads;  /* as in struct lm_profile_args */
    const char *formats;                /* "q8_0,q4_0": beside the model's; or NULL */
    bool narrow;
    const char *out;
};
/* Measures what the model on its backend needs and writes it to `out`, atomically. */
enum lm_status lm_profile_run(struct lm_bench *b, const struct lm_profile_request *r,
                              struct lm_err *e);
#endif
