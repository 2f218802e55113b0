/* SPDX-License-Identifier: Apache-2.0 */
/* worker.h -- the other end of crew.h: a process that opens the pipeline it is told
 * and does chores until nobody speaks to it any more.                       */
#ifndef LM_PIPELINE_WORKER_H
#define LM_PIPELINE_WORKER_H
#include "pipeline/session.h"

/* Serves whoever holds the other end of the socket.  What goes wrong is told there; a
 * failure here means that it could not be told.                       [main] */
enum lm_status lm_worker_serve(int fd, struct lm_err *e);
/* What run and worker must agree on before they share sums: what the open judges look
 * at and how.                                                                */
uint64_t lm_worker_fingerprint(const struct lm_bench *b);
#endif
