/* SPDX-License-Identifier: Apache-2.0 */
/* estimate.c -- what a run will take, before it starts: from the model's work
 * per token, the evaluators' items and this machine's measured speed.
 * Predictions, and labelled so.                                              */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/pool.h"
#include "pipeline/job.h"
#include "plan/plan.h"

/* Seconds of one token through the dense model, measured over one window. */
static enum lm_status token_seconds(struct lm_bench *b, double *seconds, struct lm_err *e)
{
    enum { N = 256 };
    int32_t ids[N];
    float nll[N];
    struct lm_runner *r = NULL;
    struct lm_network net = { 0 };
    const struct lm_arch *a = lm_model_arch(b->model);
    int n = a->context > 0 && a->context < N ? a->context : N;
    for (int i = 0; i < n; i++)
        ids[i] = i % a->vocab;
    enum lm_status s = lm_network_open(b->engine, b->model, &net, e);
    if (!s)
        s = lm_runner_open(b->engine, &r, e);
    for (int i = 0; !s && i < 2; i++) {
        double t = lm_clock();
        ids[0] = i;                     /* another text: nothing to share */
        s = lm_runner_losses(r, &net, ids, (size_t)n, nll, e);
        *seconds = (lm_clock() - t) / n;
    }
    lm_runner_close(r);
    lm_network_close(&net);
    return s;
}

static enum lm_status estimate(struct lm_pipeline *p, struct lm_bench *b,
                               struct lm_str *text, struct lm_err *e)
{
    uint64_t needs, sites;
    struct lm_cost cost = { .struct_size = sizeof cost };
    struct lm_plan *plan;
    double per_token, tokens = 0;
    size_t programs = 0;
    char bytes[32], disk[32], time[32], cal[32];
    const struct lm_search *ops = p->search.plugin->ops;
    enum lm_status s = lm_plan_open(lm_model_arch(b->model), NULL, &plan, e);
    if (s)
        return s;
    lm_plan_cost(plan, LM_F32, &cost);
    lm_plan_free(plan);
    s = token_seconds(b, &per_token, e);
    if (!s)
        s = lm_judges_open(b, p->evaluate, p->n_evaluate, lm_pipeline_dtype(p), 1 << 28, e);
    if (!s)
        s = lm_stage_create(&p->search, NULL, NULL, e);
    if (s)
        return s;
    for (size_t i = 0; i < b->n_judge; i++)
        if (b->judge[i].ops->needs & LM_NEEDS_RUN)
            tokens += 512.0 * (double)b->judge[i].n_items;
        else if (b->judge[i].ops->needs & LM_NEEDS_COMMANDS)
            programs++;
    size_t trials = 1 + ops->budget(p->search.self);
    /* a trial derives each matrix of the body once, until run.memory is full */
    double derived = fmin((double)p->options->memory,
                          (double)trials * 4 * (double)cost.body_params);
    lm_pipeline_needs(p, &needs, &sites);
    double stats = needs ? (double)lm_stats_bytes(lm_model_arch(b->model), needs, sites, 0) : 0;
    struct lm_text_options calibration = { 0 };
    const struct lm_conf *data = lm_conf_get(p->conf, "data");
    for (size_t i = 0; data && i < data->n; i++)
        if (data->child[i]->key && p->has_calibration &&
            !strcmp(data->child[i]->key, "calibration"))
            calibration = *(const struct lm_text_options *)p->data_opt[i].config;
    double t_cal = needs ? (double)(lm_text_sequences(&calibration) * calibration.length) * per_token
                           * 1.5 / lm_pool_threads() : 0;
    lm_str_add(text, "estimated (not measured):\n"
               "  trials        at most %zu\n"
               "  calibration   %s\n"
               "  search        at most %s, if every trial runs every item\n"
               "  memory        about %s beside the mapped model\n"
               "  disk          %s in the cache folder\n",
               trials, lm_human_time(cal, t_cal),
               lm_human_time(time, (double)trials * tokens * per_token / lm_pool_threads()),
               lm_human_bytes(bytes, derived + 4.0 * (double)lm_model_arch(b->model)->vocab *
                              lm_model_arch(b->model)->hidden),
               lm_human_bytes(disk, stats));
    if (programs)
        lm_str_add(text, "  programs      %zu runs of yours, which take the time they take\n",
                   programs * trials);
    return text->failed ? lm_fail_memory(e, text->n, "the estimate") : LM_OK;
}

enum lm_status lm_job_estimate(struct lm_conf *conf, struct lm_str *text, struct lm_err *e)
{
    struct lm_pipeline *p;
    struct lm_bench b = { 0 };
    enum lm_status s = lm_pipeline_open(conf, &p, e);
    if (s)
        return s;
    s = lm_pool_start((int)p->options->threads, e);
    if (!s)
        s = lm_bench_open(&b, p->model->path, p->model_use, &p->backend, p->run, e);
    if (!s)
        s = estimate(p, &b, text, e);
    lm_stage_close(&p->search);
    lm_bench_close(&b);
    lm_pipeline_close(p);
    return s;
}
