/* SPDX-License-Identifier: Apache-2.0 */
/* bench.c -- a model on a backend with evaluators; see session.h. */
#include "pipeline/session.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "pipeline/commands.h"
#include "pipeline/crew.h"

/* The installed format that is surest of the path. */
static enum lm_status probe_format(const char *path, char *name, size_t size,
                                   struct lm_run *run, struct lm_err *e)
{
    const struct lm_loaded **all;
    size_t n;
    int best = 0;
    enum lm_status s = lm_loader_list(&all, &n, e);
    if (s)
        return s;
    for (size_t i = 0; i < n; i++) {
        if (all[i]->module.kind != LM_FORMAT)
            continue;
        struct lm_stage stage;
        struct lm_err ignored = { 0 };
        struct lm_conf use = { .type = LM_CONF_STRING, .key = (char *)"use",
            .origin = (char *)"default", .v.s = (char *)all[i]->module.name };
        struct lm_conf *child[] = { &use };
        struct lm_conf group = { .type = LM_CONF_GROUP, .origin = (char *)"default",
            .child = child, .n = 1 };
        enum lm_status t = lm_stage_open(&stage, LM_FORMAT, &group, NULL, NULL, "model",
                                         run, &ignored);
        if (!t)
            t = lm_stage_create(&stage, NULL, NULL, &ignored);
        if (t == LM_ENOMEM && !s)       /* any other failure: not this format */
            s = lm_fail(e, t, "%s", ignored.text);
        if (!t) {
            int sure = ((const struct lm_format *)stage.plugin->ops)->probe(stage.self,
                                                                            path);
            if (sure > best) {
                best = sure;
                snprintf(name, size, "%s", all[i]->module.name);
            }
        }
        lm_stage_close(&stage);
    }
    lm_release(all);
    if (s || best)
        return s;
    return lm_fail(e, LM_EINPUT,
                   "%s: no format knows this; give a folder with config.json "
                   "and *.safetensors, or a .gguf file", path);
}

static enum lm_status read_model(struct lm_stage *stage, const char *path,
                                 struct lm_model **m, struct lm_err *e)
{
    struct lm_builder *b;
    const struct lm_format *ops = stage->plugin->ops;
    enum lm_status s = lm_builder_open(path, &b, e);
    if (s)
        return s;
    if ((s = ops->read(stage->self, path, b, e))) {
        lm_builder_abandon(b);
        return s;
    }
    return lm_builder_finish(b, m, e);
}

enum lm_status lm_load_model(const char *path, const char *use, struct lm_run *run,
                             struct lm_model **m, struct lm_err *e)
{
    char name[64];
    struct lm_stage stage;
    if (!lm_file_exists(path))
        return lm_fail(e, LM_EINPUT, "%s: no such file or folder", path);
    if (!use) {
        enum lm_status s = probe_format(path, name, sizeof name, run, e);
        if (s)
            return s;
        use = name;
    }
    enum lm_status s = lm_stage_open(&stage, LM_FORMAT, NULL, use, NULL, "model", run, e);
    if (!s)
        s = lm_stage_create(&stage, NULL, NULL, e);
    if (!s)
        s = read_model(&stage, path, m, e);
    lm_stage_close(&stage);
    if (s && !strstr(e->text, path))
        lm_err_prefix(e, "%s: ", path);
    return s;
}

enum lm_status lm_read_back(const char *path, const char *use,
                            const struct lm_model *wrote, struct lm_run *run,
                            struct lm_err *e)
{
    struct lm_model *m;
    enum lm_status s = lm_load_model(path, use, run, &m, e);
    if (s)
        return lm_err_prefix(e, "the written model does not read back: ");
    if (lm_model_arch(m)->n_layer != lm_model_arch(wrote)->n_layer)
        s = lm_fail(e, LM_EFAILED, "%s: read back with %d layers instead of %d", path,
                    lm_model_arch(m)->n_layer, lm_model_arch(wrote)->n_layer);
    lm_model_free(m);
    return s;
}

static enum lm_status no_repair(void *ctx, const struct lm_plan *p,
                                struct lm_repair_choice *out, struct lm_err *e)
{
    (void)ctx;
    (void)p;
    (void)e;
    *out = (struct lm_repair_choice){ 0 };
    return LM_OK;
}

enum lm_status lm_bench_open(struct lm_bench *b, const char *path, const char *use,
                             struct lm_stage *backend, size_t memory,
                             struct lm_run *run, struct lm_err *e)
{
    struct lm_model *m;
    *b = (struct lm_bench){ 0 };
    enum lm_status s = lm_load_model(path, use, run, &m, e);
    if (s)
        return s;
    s = lm_bench_start(b, m, backend, memory, e);
    return s ? s : lm_run_model(run, m, e);
}

/* Before anything is run. */
static void limit_memory(struct lm_bench *b, size_t memory)
{
    size_t need = lm_model_float_bytes(b->model);
    char weights[32], limit[32];
    if (need <= memory) {
        lm_engine_pack(b->engine, memory / 4);
        return;
    }
    lm_engine_stream(b->engine, memory / 4);
    lm_log(LM_INFO,
           "the weights take %s as floats, more than %s: they are decoded block by "
           "block when they are used", lm_human_bytes(weights, (double)need),
           lm_human_bytes(limit, (double)memory));
}

size_t lm_bench_judging(const struct lm_bench *b, int64_t memory)
{
    return (size_t)memory / (lm_engine_streams(b->engine) ? 8 : 4);
}

static size_t half_the_machine(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (size_t)pages / 2 * (size_t)size : SIZE_MAX;
}

static enum lm_status find_device(struct lm_bench *b, struct lm_err *e)
{
    const struct lm_backend *ops = b->backend->plugin->ops;
    b->device = (struct lm_device){ .struct_size = sizeof b->device };
    enum lm_status s = ops->device(b->backend->self, &b->device, e);
    if (s)
        return lm_stage_fail(b->backend, e);
    b->device.name[sizeof b->device.name - 1] = 0;
    b->device.driver[sizeof b->device.driver - 1] = 0;
    lm_device_text(&b->device, b->device_text);
    return LM_OK;
}

enum lm_status lm_bench_start(struct lm_bench *b, struct lm_model *m,
                              struct lm_stage *backend, size_t memory,
                              struct lm_err *e)
{
    *b = (struct lm_bench){ .model = m };
    enum lm_status s = lm_stage_create(b->backend = backend, m, NULL, e);
    if (s || (s = find_device(b, e)) ||
        (s = lm_engine_open(m, backend->plugin->ops, backend->self, &b->engine, e)))
        return s;
    limit_memory(b, memory ? memory : half_the_machine());
    struct lm_workshop_args a = { .engine = b->engine, .model = b->model,
        .repair = no_repair, .memory = 1 << 30 };
    return lm_workshop_open(&a, &b->workshop, e);
}

void lm_bench_close(struct lm_bench *b)
{
    lm_judges_close(b);
    lm_workshop_close(b->workshop);
    lm_space_close(b->space);
    lm_stats_close(b->stats);
    lm_engine_close(b->engine);
    if (b->backend)
        lm_stage_destroy(b->backend);
    lm_model_free(b->model);
    *b = (struct lm_bench){ 0 };
}

/* Timing runs a whole network at once. */
static void warn_timing(const struct lm_bench *b, const struct lm_judge *j)
{
    char size[32];
    if (lm_engine_streams(b->engine) && (j->ops->needs & LM_NEEDS_QUIET))
        lm_log(LM_WARN,
               "'%s' times whole networks, which takes all weights at once: %s of "
               "memory beside the limit", j->id,
               lm_human_bytes(size, (double)lm_model_float_bytes(b->model)));
}

enum lm_status lm_judges_open(struct lm_bench *b, struct lm_stage *stage, size_t n,
                              uint32_t dtype, size_t memory, struct lm_err *e)
{
    lm_judges_close(b);
    b->judge_stage = stage;
    b->n_judge = n;
    for (size_t i = 0; i < n; i++) {
        enum lm_status s = stage[i].self ? LM_OK :
            lm_stage_create(&stage[i], b->model, NULL, e);
        if (s)
            return s;
        b->judge[i] = (struct lm_judge){ .id = stage[i].id, .ops = stage[i].plugin->ops,
                                         .self = stage[i].self,
                                         .metric = stage[i].metric };
        warn_timing(b, &b->judge[i]);
    }
    struct lm_evaluation_args a = { .workshop = b->workshop, .engine = b->engine,
        .judge = b->judge, .n_judge = n, .dtype = dtype, .memory = memory,
        .alone = b->alone, .device = b->device_text,
        .write = lm_commands_write, .write_ctx = b,
        .delegate = b->crew ? lm_crew_work : NULL, .delegate_ctx = b->crew };
    return lm_evaluation_open(&a, &b->evaluation, e);
}

enum lm_status lm_bench_candidates(struct lm_bench *b, struct lm_plan *const *plan,
                                   size_t n, struct lm_candidate *out, struct lm_err *err,
                                   struct lm_err *e)
{
    if (!b->crew)
        return lm_candidates_open(b->workshop, plan, n, out, err, e);
    for (size_t i = 0; i < n; i++) {
        out[i] = (struct lm_candidate){ .plan = plan[i] };
        err[i] = (struct lm_err){ 0 };
    }
    return LM_OK;
}

void lm_bench_dismiss(struct lm_bench *b)
{
    if (b->crew)
        lm_judges_close(b);             /* they are its crew's */
    lm_crew_close(b->crew);
    b->crew = NULL;
}

enum lm_status lm_bench_measure(struct lm_bench *b, struct lm_result *r, struct lm_err *e)
{
    struct lm_plan *plan = NULL;
    struct lm_candidate c = { 0 };
    struct lm_err why = { 0 };
    double share = 1;
    enum lm_status s = lm_plan_open(lm_model_arch(b->model), NULL, &plan, e);
    if (!s)
        s = lm_plan_canonical(plan, e);
    if (!s)
        s = lm_bench_candidates(b, &plan, 1, &c, &why, e);
    if (!s && !why.code)
        s = lm_evaluate(b->evaluation, &c, 1, &share, NULL, r, &why, e);
    if (!s && why.code) {
        *e = why;
        s = why.code;
    }
    lm_candidate_close(b->workshop, &c);
    lm_plan_free(plan);
    return s;
}

void lm_judges_close(struct lm_bench *b)
{
    lm_evaluation_close(b->evaluation);
    b->evaluation = NULL;
    for (size_t i = 0; i < b->n_judge; i++)
        lm_stage_destroy(&b->judge_stage[i]);
    b->n_judge = 0;
}
