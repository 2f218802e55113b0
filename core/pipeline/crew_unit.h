/* SPDX-License-Identifier: Apache-2.0 */
/* crew_unit.h -- a chore (study/evaluate.h) cut into units for workers, and what becomes
 * of them; processes are in crew.c.                                   [main] */
#ifndef LM_PIPELINE_CREW_UNIT_H
#define LM_PIPELINE_CREW_UNIT_H
#include "pipeline/session.h"
#include "pipeline/worker_message.h"

enum lm_unit_state { LM_UNIT_WAITING, LM_UNIT_RUNNING, LM_UNIT_DONE };
struct lm_unit {
    size_t first, n;                    /* lm_units.list[first .. first + n - 1] */
    size_t window;                      /* which part of the items */
    int    losses;                      /* workers that it cost, alone */
    enum lm_unit_state state;
    double fraction, weight;            /* done of it; of it in the whole */
};
struct lm_units {
    const struct lm_chore *chore;
    const struct lm_bench *bench;
    struct lm_result *result;
    struct lm_err *err;
    struct lm_unit *unit;
    size_t  n, windows;
    int64_t *low, *high;                /* [windows][judges] */
    size_t *list;                       /* candidates, in an order that shares */
    char  **text;                       /* [chore->n] plans; NULL: nothing to do */
    uint64_t *hash;                     /* [chore->n] */
    size_t *home;                       /* [n_home] by candidate: who has it */
    size_t  n_home;
    uint64_t batch;                     /* hash of the candidates that home is of */
    bool    alone, patient;             /* nothing beside it; without a time limit */
};
/* For so many workers.  After a failure it is empty. */
enum lm_status lm_units_cut(struct lm_units *u, const struct lm_chore *chore,
                            const struct lm_bench *bench, size_t workers,
                            struct lm_result *result, struct lm_err *err,
                            struct lm_err *e);
void lm_units_clear(struct lm_units *u);    /* homes stay */
void lm_units_free(struct lm_units *u);
bool lm_units_all_done(const struct lm_units *u);
size_t lm_units_waiting(const struct lm_units *u);
double lm_units_share(const struct lm_units *u);    /* done, 0 .. 1 */
/* The unit that this worker should do; NULL: none. */
struct lm_unit *lm_units_next(struct lm_units *u, size_t worker);
/* Appends the order to out: its id, final, threads and counts are the caller's. */
enum lm_status lm_units_order(const struct lm_units *u, struct lm_unit *unit,
                              struct lm_order *o, struct lm_str *out, struct lm_err *e);
void lm_units_given(struct lm_units *u, struct lm_unit *unit, size_t worker);
/* The worker went away: "killed by signal 11 (SIGSEGV)".  Its candidates are tried one
 * by one; one that alone costs a second worker is given up.                 */
void lm_units_lost(struct lm_units *u, struct lm_unit *unit, const char *how);
/* Takes over an answer, or nothing of it: LM_EINPUT, it is not what was asked for. */
enum lm_status lm_units_take(struct lm_units *u, struct lm_unit *unit,
                             const struct lm_done *d, struct lm_err *e);
#endif
