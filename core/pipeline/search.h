/* SPDX-License-Identifier: Apache-2.0 */
/* search.h -- the ask, evaluate, record, tell loop.
 *
 * Trial 0 is the uncompressed model.  A study is resumed by replay: the
 * strategy is asked and told again from the start, outcomes of recorded trials
 * come from the store, so it reaches the very state it had, whatever it keeps
 * inside; then evaluation goes on.                                          */
#ifndef LM_PIPELINE_SEARCH_H
#define LM_PIPELINE_SEARCH_H
#include "pipeline/session.h"
#include "pipeline/view.h"
enum lm_status lm_search_run(struct lm_session *s, struct lm_study *view,
                             struct lm_err *e);
#endif
