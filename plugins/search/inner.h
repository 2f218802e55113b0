/* SPDX-License-Identifier: Apache-2.0 */
/* inner.h -- strategies inside strategies. */
#ifndef INNER_H
#define INNER_H
#include "plugin.h"

/* Can the strategy work on the problem?  Better known at the begin than an hour later.
 * where: "stage 2 of search 'chain'".                                          */
enum lm_status inner_fits(const struct lm_host *h, const char *where,
                          const struct lm_instance *inner, const struct lm_problem *p,
                          struct lm_err *e);
#endif
