/* SPDX-License-Identifier: Apache-2.0 */
/* store.h -- a study in SQLite (WAL), confined to store.c.
 *
 * What is recorded survives kill -9 at any moment.  A trial is recorded in one
 * transaction with its metrics and per-item sums.                    [main] */
#ifndef LM_STUDY_STORE_H
#define LM_STUDY_STORE_H
#include "base/err.h"
#include "base/str.h"

struct lm_store;
/* create: the file must not hold a study yet.  Otherwise it must, of this
 * schema version (LM_EINPUT).                                               */
enum lm_status lm_store_open(const char *path, bool create, struct lm_store **s,
                             struct lm_err *e);
void lm_store_close(struct lm_store *s);
/* The file alone holds all that was recorded, on disk: it may be renamed once
 * the store is closed.                                                      */
enum lm_status lm_store_settle(struct lm_store *s, struct lm_err *e);
/* In all calls below e must not be NULL. */
/* Provenance: "pipeline", "model_hash", "seed", "version", "protocol:...". */
enum lm_status lm_store_put(struct lm_store *s, const char *key, const char *value,
                            struct lm_err *e);
/* *value NULL when absent; lm_release it. */
enum lm_status lm_store_get(struct lm_store *s, const char *key, char **value,
                            struct lm_err *e);

struct lm_record {                  /* one trial */
    int64_t  id;                    /* its place in the order of proposals */
    uint64_t genome, plan;          /* hashes */
    const union lm_value *value;    /* [n_slot] */
    size_t   n_slot;
    const char *plan_text, *reason; /* reason: why infeasible, or "" */
    uint32_t status;                /* LM_OK or LM_EINFEASIBLE */
    double   fidelity, seconds;
    const struct lm_measure *measure;
    size_t   n_measure;
};
struct lm_measure {
    const char *metric;             /* "kl.nats" */
    double value, error;            /* error: standard error, NAN unknown */
    const struct lm_sum *sum;       /* [n_sum] per item */
    size_t n_sum;
};
enum lm_status lm_store_record(struct lm_store *s, const struct lm_record *r,
                               struct lm_err *e);
/* Trials recorded between the two are kept together or not at all, whatever
 * happens; a failed record, and end without `keep`, lets go of them.  Facts put
 * in between go with them.                                                  */
enum lm_status lm_store_begin(struct lm_store *s, struct lm_err *e);
enum lm_status lm_store_end(struct lm_store *s, bool keep, struct lm_err *e);
/* Trials in order of id; everything lives until the next call or close.
 * LM_EUNAVAILABLE behind the last.                                          */
enum lm_status lm_store_trial(struct lm_store *s, int64_t id, struct lm_record *out,
                              struct lm_err *e);
int64_t lm_store_count(struct lm_store *s);         /* trials 0 .. count-1 */
#endif
