/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_kit.h -- what the checks of all kinds share; for selftest*.c.
 *
 * A check is a function that creates instances of its own and frees them; it
 * runs with nothing canceled and no fault armed.  The runner looks for blocks
 * that are left, for a changed locale, folder, signal handler or rounding mode,
 * and for what the host table saw the plugin do wrong (lm_kit_blame).       */
#ifndef LM_PIPELINE_SELFTEST_KIT_H
#define LM_PIPELINE_SELFTEST_KIT_H
#include "base/rng.h"
#include "model/model.h"
#include "pipeline/selftest.h"
#include "pipeline/stage.h"

enum { LM_KIT_SECONDS = 60, LM_KIT_CANCEL_SECONDS = 3, LM_KIT_IDS = 1 << 15 };

struct lm_kit {
    const struct lm_loaded *plugin;
    const char *options;                /* given by the user */
    struct lm_host host;                /* the core's, with watched replacements */
    struct lm_stage stage;              /* options; its self is not used */
    struct lm_conf *conf;
    struct lm_run *run;                 /* seed 1 */
    struct lm_model *model;             /* four layers of random weights */
    struct lm_stats *stats;             /* a token for host.stat */
    struct lm_kit_family *family;       /* instances whose options hold plugins */
    const char *folder;                 /* an empty folder for files */
    uint64_t stat_needs;                /* what host.stat may be asked for */
    char     blame[256];                /* first rule seen broken by the host table */
    struct lm_err *e;
};

struct lm_kit_check {
    const char *what;                   /* as in "did not end while WHAT was checked" */
    enum lm_status (*run)(struct lm_kit *k);
    bool cancels;                       /* runs under LM_KIT_CANCEL_SECONDS */
};
/* Each ends with what == NULL. */
extern const struct lm_kit_check lm_selftest_search[], lm_selftest_pruner[],
    lm_selftest_scorer[], lm_selftest_repair[], lm_selftest_evaluator[],
    lm_selftest_backend[], lm_selftest_format[], lm_selftest_reporter[],
    lm_selftest_quant[];

/* The rule that is broken, as LM_EFAILED in k->e. */
enum lm_status lm_broken(struct lm_kit *k, const char *fmt, ...) LM_PRINTF(2, 3);
/* CALL failed: says so with its text; want of a text is a fault of its own. */
enum lm_status lm_kit_failed(struct lm_kit *k, const char *call, enum lm_status s);
/* The same for calls that may fail with a reason: LM_OK when they gave one. */
enum lm_status lm_kit_excused(struct lm_kit *k, const char *call, enum lm_status s);
/* Notes a rule that was broken inside a host call.                     [any] */
void lm_kit_blame(const char *fmt, ...) LM_PRINTF(1, 2);
/* The kit whose checks run, for replacements in the host table. */
struct lm_kit *lm_kit_now(void);

/* An instance as the pipeline makes it; failures are the plugin's. */
enum lm_status lm_kit_create(struct lm_kit *k, void **self);
void lm_kit_destroy(struct lm_kit *k, void *self);
/* create() alone, with its own status; for checks that fail memory. */
enum lm_status lm_kit_try(struct lm_kit *k, void **self);
/* Calls work(ctx) with allocations failing in turn, each of the first sixteen,
 * then ever fewer: LM_ENOMEM, no leak. */
enum lm_status lm_kit_memory(struct lm_kit *k, enum lm_status (*work)(void *ctx),
                             void *ctx);

/* selftest_model.c: a model in memory with a vocabulary of bytes, statistics
 * that fit it, importance of sites, and fixed texts.                         */
enum lm_status lm_kit_model(struct lm_model **m, struct lm_err *e);
enum lm_status lm_kit_stats(struct lm_kit *k);
void lm_kit_stats_free(struct lm_kit *k);
/* Random columns x [tokens][k], their Gram matrix [k][k] and sums [k]. */
void lm_kit_gram(struct lm_rng *r, int64_t tokens, int64_t k, double *x, double *gram,
                 double *sum);
#endif
