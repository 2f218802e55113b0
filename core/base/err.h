/* SPDX-License-Identifier: Apache-2.0 */
/* err.h -- failures: a code from plugin.h and one sentence.
 *
 * The place that fails writes what happened; callers put context in front as
 * the failure travels up: "run.cfg:31: pruner 'ffn': layer 7: ...".         */
#ifndef LM_BASE_ERR_H
#define LM_BASE_ERR_H
#include "plugin.h"

struct lm_err { enum lm_status code; char text[1024]; };

/* Records code and text, returns code.  e may be NULL. */
enum lm_status lm_fail(struct lm_err *e, enum lm_status code, const char *fmt, ...)
    LM_PRINTF(3, 4);
/* "out of memory (wanted N bytes for WHAT)" */
enum lm_status lm_fail_memory(struct lm_err *e, size_t n, const char *what);
/* Puts text in front of e->text, returns e->code. */
enum lm_status lm_err_prefix(struct lm_err *e, const char *fmt, ...) LM_PRINTF(2, 3);
const char *lm_status_name(enum lm_status s);
/* Process exit status: 0, 1 failed, 2 configuration, 3 input, 130 canceled. */
int lm_exit_code(enum lm_status s);
#endif
