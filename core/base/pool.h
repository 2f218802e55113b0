/* SPDX-License-Identifier: Apache-2.0 */
/* pool.h -- the one thread pool, and the flag that Ctrl-C sets.
 *
 * lm_parallel runs body(ctx, i, worker) for i in 0..n-1, each exactly once, in
 * any order, worker < lm_pool_threads(); a call from inside a body runs inline
 * on that worker.  Items must not depend on each other, so results do not
 * depend on the number of threads.  Once canceled, items not yet begun are
 * skipped and LM_ECANCELED is returned.                                     */
#ifndef LM_BASE_POOL_H
#define LM_BASE_POOL_H
#include "plugin.h"
/* threads 0: one per online CPU */
enum lm_status lm_pool_start(int threads, struct lm_err *e);
void lm_pool_stop(void);
int  lm_pool_threads(void);                     /* 1 when not started         */
enum lm_status lm_parallel(int64_t n, void (*body)(void *, int64_t, uint32_t),
                           void *ctx);
bool lm_canceled(void);
void lm_cancel(bool on);                        /* async-signal-safe          */
/* SIGINT, SIGTERM: first cancels, second kills a running command, _exit(130). */
void lm_cancel_on_signals(void);
#endif
