/* SPDX-License-Identifier: Apache-2.0 */
/* evaluation.c -- what is open from one batch of candidates to the next: judges, the
 * dense model and what it teaches, a runner for each worker.                   */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "study/judging.h"

/* Says behind the protocol of an evaluator that times where that was and what it was
 * corrected by.                                                              */
static void say_where(const struct lm_evaluation_args *a, struct lm_judge *j)
{
    size_t n = strlen(j->protocol);
    bool streams = a->engine && lm_engine_streams(a->engine);

    if (lm_judge_pass(j) == LM_PASS_QUIET && a->device)
        snprintf(j->protocol + n, sizeof j->protocol - n, "; on %s; times of candidates "
                 "are divided by the drift of %s", a->device, streams
                 ? "the first candidate's (there is no room for the dense model)"
                 : "the dense model's");
}

enum lm_status lm_evaluation_open(const struct lm_evaluation_args *a,
                                  struct lm_evaluation **out, struct lm_err *e)
{
    struct lm_evaluation *v = lm_alloc(sizeof *v, "evaluation");
    enum lm_status st = LM_OK;
    bool needs_dense = false;

    *out = NULL;
    if (!v)
        return lm_fail_memory(e, sizeof *v, "the evaluation");
    v->args = *a;
    for (size_t j = 0; st == LM_OK && j < a->n_judge; j++) {
        st = lm_judge_open(&a->judge[j], e);
        if (st == LM_OK)
            say_where(a, &a->judge[j]);
        v->n_metric += a->judge[j].n_metric;
        needs_dense |= (a->judge[j].ops->needs & LM_NEEDS_DENSE) != 0;
        if (st == LM_OK && !a->engine
            && a->judge[j].ops->needs & (LM_NEEDS_RUN | LM_NEEDS_DENSE))
            st = lm_fail(e, LM_EBUG, "evaluator '%s' runs models, but there is no "
                         "backend", a->judge[j].id);
    }
    needs_dense &= !a->delegate;
    if (st == LM_OK && needs_dense)
        st = lm_network_open(a->engine, lm_engine_model(a->engine), &v->dense, e);
    if (st == LM_OK && needs_dense)
        st = lm_teacher_open(a->engine, &v->dense, a->memory, &v->teacher, e);
    if (st == LM_EINFEASIBLE)
        lm_err_prefix(e, "the uncompressed model cannot be run: ");
    if (st != LM_OK) {
        lm_evaluation_close(v);
        return st;
    }
    *out = v;
    return LM_OK;
}

void lm_evaluation_close(struct lm_evaluation *v)
{
    if (!v)
        return;
    lm_clocks_close(v);
    lm_offers_drop(v);
    lm_release(v->offer);
    for (uint32_t i = 0; i < v->n_runner; i++)
        lm_runner_close(v->runner[i]);
    lm_release(v->runner);
    lm_release(v->alike);
    lm_teacher_close(v->teacher);
    lm_network_close(&v->dense);
    lm_release(v);
}

struct lm_work lm_evaluation_work(const struct lm_evaluation *v)
{
    struct lm_work sum = { v->delegated.asked + v->streamed.asked,
                           v->delegated.run + v->streamed.run };

    for (uint32_t i = 0; i < v->n_runner; i++)
        if (v->runner[i]) {
            struct lm_work w = lm_runner_work(v->runner[i]);

            sum.asked += w.asked;
            sum.run += w.run;
        }
    return sum;
}

struct lm_tally lm_evaluation_tally(struct lm_evaluation *v)
{
    struct lm_tally t = v->tally;

    v->tally = (struct lm_tally){ .runs = 0 };
    return t;
}

void lm_tally_add(struct lm_tally *to, const struct lm_tally *more)
{
    to->runs += more->runs;
    to->again += more->again;
    to->kept += more->kept;
    to->worst = fmax(to->worst, more->worst);
    to->other |= more->other;
    if (!(more->mhz_first > 0))
        return;
    bool first = !(to->mhz_first > 0);
    to->mhz_first = first ? more->mhz_first : to->mhz_first;
    to->mhz_last = more->mhz_last;
    to->mhz_low = first ? more->mhz_low : fmin(to->mhz_low, more->mhz_low);
    to->mhz_high = fmax(to->mhz_high, more->mhz_high);
    memcpy(to->governor, more->governor, sizeof to->governor);
}

size_t lm_evaluation_metrics(const struct lm_evaluation *v)
{
    return v->n_metric;
}
