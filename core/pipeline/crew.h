/* SPDX-License-Identifier: Apache-2.0 */
/* crew.h -- worker processes that evaluate candidates for a run (run.workers).
 *
 * The run keeps the strategy, the database and all decisions; workers (worker.h, which
 * `lamina worker` is) build and measure candidates and send sums back, so that values
 * are those of a run without workers, bit for bit.  A worker that ends or says nothing
 * for run.worker_timeout seconds is killed with its group and replaced; what it was at
 * is done one candidate at a time, and a candidate that alone costs two workers is given
 * up with the reason.                                                       */
#ifndef LM_PIPELINE_CREW_H
#define LM_PIPELINE_CREW_H
#include "pipeline/session.h"

struct lm_crew;
/* Starts nothing: workers are started when there is work.  s must outlive it. */
enum lm_status lm_crew_open(struct lm_session *s, struct lm_crew **c, struct lm_err *e);
/* Ends all workers and waits for them. */
void lm_crew_close(struct lm_crew *c);
lm_delegate lm_crew_work;               /* ctx: a crew */
#endif
