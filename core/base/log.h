/* SPDX-License-Identifier: Apache-2.0 */
/* log.h -- messages and progress, all to stderr.  stdout belongs to results.
 *
 * Progress: a line with an estimate of the time left, on a terminal redrawn in
 * place, elsewhere a new one at most every few seconds.  A nested task moves
 * the outer one on by a share of its last step.                        [any] */
#ifndef LM_BASE_LOG_H
#define LM_BASE_LOG_H
#include "plugin.h"
void lm_log_level(enum lm_level least);             /* default LM_INFO */
void lm_log(enum lm_level level, const char *fmt, ...) LM_PRINTF(2, 3);
void lm_progress_begin(const char *what);
void lm_progress(double fraction, const char *detail);  /* detail may be NULL */
void lm_progress_end(void);
/* Work goes on, though there is no number for it: what takes long says so now and
 * then, so that nobody takes it for dead.                                   */
void lm_progress_alive(void);
/* Progress goes to sink(ctx) instead, at most some times a second, and with -1 for a
 * sign of life.  Set before there are threads.                              */
void lm_progress_sink(void (*sink)(void *ctx, double fraction), void *ctx);
double lm_clock(void);                              /* seconds, monotonic */
#endif
