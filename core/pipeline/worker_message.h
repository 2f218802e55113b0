/* SPDX-License-Identifier: Apache-2.0 */
/* worker_message.h -- what a run and its workers tell each other (base/child.h has the
 * frames).
 *
 *   run -> worker    HELLO  who is asked, and the pipeline; once
 *                    ORDER  a chore of study/evaluate.h
 *   worker -> run    READY  all is open; the model's hash
 *                    ALIVE  work goes on; how much of the order is done
 *                    DONE   the sums of an order, or why there are none
 *
 * Numbers are in this machine's byte order, doubles as their bits.  Every count is
 * checked against what is there, every text ends with its only NUL, every sum is
 * finite: a worker is this program, but a plugin may have written over its memory.  */
#ifndef LM_PIPELINE_WORKER_MESSAGE_H
#define LM_PIPELINE_WORKER_MESSAGE_H
#include "base/err.h"
#include "base/str.h"
#include "study/evaluate.h"

enum lm_worker_message { LM_SAY_HELLO = 1, LM_SAY_ORDER, LM_SAY_READY, LM_SAY_ALIVE,
                         LM_SAY_DONE };

struct lm_hello {
    const char *version, *pipeline;
    uint64_t threads, memory;           /* of this worker: threads, bytes */
    uint64_t workers;                   /* all of them */
    bool     commands;                  /* it may run programs of the user */
};

struct lm_order_plan {
    uint64_t hash;
    double   from, to;                  /* shares of the items */
    const char *plan;
    const bool *skip;                   /* [n_metric] */
};
struct lm_order {
    uint64_t id, batch;                 /* candidates of one batch are kept together */
    uint32_t final;                     /* 1: the judges of `final`, 0: of `evaluate` */
    uint32_t pass, threads;
    size_t   n_metric, n_judge, n;
    const int64_t *low, *high;          /* [n_judge] */
    struct lm_order_plan *plan;         /* [n] */
};

/* Of one candidate: status is not LM_OK and text says why, or the sums of its metrics
 * that are wanted, judge by judge, each from its first item to its last.     */
struct lm_done_plan {
    uint32_t status;
    const char *text;
    size_t   n;
    const char *sums;                   /* [n] struct lm_sum, maybe unaligned */
};
struct lm_done {
    uint64_t id, fingerprint;           /* of items and protocols */
    uint32_t status;                    /* not LM_OK: the run cannot go on; text */
    const char *text;
    double   asked, run;                /* struct lm_work */
    struct lm_tally tally;              /* without clocks, which all can read */
    size_t   n;
    struct lm_done_plan *plan;          /* [n] */
};
struct lm_alive { uint64_t id; double fraction; };      /* fraction < 0: unknown */

/* Each appends one framed message. */
void lm_say_hello(struct lm_str *out, const struct lm_hello *h);
void lm_say_order(struct lm_str *out, const struct lm_order *o);
void lm_say_ready(struct lm_str *out, uint64_t model);
void lm_say_alive(struct lm_str *out, const struct lm_alive *a);
void lm_say_done(struct lm_str *out, const struct lm_done *d);

/* Texts and sums point into the body.  LM_EINPUT: it is no such message.  After
 * lm_hear_order and lm_hear_done release `block`, which holds the arrays (NULL after a
 * failure).                                                                  */
enum lm_status lm_hear_hello(const void *body, size_t n, struct lm_hello *h,
                             struct lm_err *e);
enum lm_status lm_hear_order(const void *body, size_t n, struct lm_order *o, void **block,
                             struct lm_err *e);
enum lm_status lm_hear_ready(const void *body, size_t n, uint64_t *model,
                             struct lm_err *e);
enum lm_status lm_hear_alive(const void *body, size_t n, struct lm_alive *a,
                             struct lm_err *e);
enum lm_status lm_hear_done(const void *body, size_t n, struct lm_done *d, void **block,
                            struct lm_err *e);
#endif
