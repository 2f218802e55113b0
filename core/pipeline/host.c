/* SPDX-License-Identifier: Apache-2.0 */
/* host.c -- fills struct lm_host: thin adapters from plugin.h to the core. */
#include "pipeline/host.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/file.h"
#include "base/json.h"
#include "base/linalg.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/rng.h"
#include "config.h"
#include "model/codec.h"
#include "model/model.h"
#include "model/stats.h"
#include "pipeline/commands.h"
#include "pipeline/run.h"
#include "pipeline/view.h"
#include "plan/plan.h"
#include "space/space.h"
#include "study/evaluate.h"

static enum lm_status fail(struct lm_err *e, enum lm_status code, const char *fmt, ...)
{
    char text[sizeof e->text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return lm_fail(e, code, "%s", text);
}

static void log_line(struct lm_run *r, enum lm_level level, const char *fmt, ...)
{
    char text[1024];
    (void)r;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    lm_log(level, "%s", text);
}

static bool canceled(struct lm_run *r)
{
    (void)r;
    return lm_canceled();
}

static void progress(struct lm_run *r, double fraction, const char *what)
{
    (void)r;
    lm_progress(fraction, what);
}

static enum lm_status parallel(struct lm_run *r, int64_t n,
                               void (*body)(void *, int64_t, uint32_t), void *ctx)
{
    (void)r;
    return lm_parallel(n, body, ctx);
}

static uint64_t seed(struct lm_run *r, const char *purpose, uint64_t index)
{
    return lm_seed(r ? lm_run_seed(r) : 0, purpose, index);
}

static enum lm_status make_folder(const char *path, struct lm_err *e)
{
    return lm_make_folder(path, e);
}

static const void *extension(const char *name)
{
    (void)name;
    return NULL;
}

const struct lm_host *lm_host(void)
{
    static const struct lm_host table = {
        .struct_size = sizeof table, .abi_major = LM_ABI_MAJOR, .abi_minor = LM_ABI_MINOR,
        .version = PACKAGE_VERSION,
        .alloc = lm_alloc, .resize = lm_resize, .release = lm_release,
        .fail = fail, .log = log_line,
        .canceled = canceled, .progress = progress, .parallel = parallel,
        .seed = seed, .clock = lm_clock,
        .gemm = lm_gemm, .gemm64 = lm_gemm64, .gemv = lm_gemv,
        .cholesky = lm_cholesky, .cholesky_solve = lm_cholesky_solve,
        .codec = lm_codec, .json = &lm_json_api,
        .arch = lm_model_arch, .tensor = lm_model_tensor, .rows = lm_model_rows,
        .vocabulary = lm_model_vocabulary, .source = lm_model_source,
        .model_hash = lm_model_hash,
        .set_arch = lm_builder_arch, .add_tensor = lm_builder_tensor,
        .set_vocabulary = lm_builder_vocabulary, .map_file = lm_builder_map,
        .keep = lm_builder_keep,
        .read_file = lm_read_file, .file_exists = lm_file_exists,
        .make_folder = make_folder,
        .out_open = lm_out_open, .out_write = lm_out_write,
        .out_commit = lm_out_commit, .out_abandon = lm_out_abandon,
        .stat = lm_stats_get, .stat_tokens = lm_stats_tokens,
        .add_gene = lm_space_add, .scores = lm_space_scores,
        .edit_drop = lm_plan_drop, .edit_keep = lm_plan_keep,
        .edit_keep_top = lm_plan_keep_top,
        .text_ids = lm_run_ids,
        .token_losses = lm_subject_losses, .token_kl = lm_subject_kl,
        .cost = lm_subject_cost, .time = lm_subject_time,
        .study_n_trials = lm_view_n_trials, .study_trial = lm_view_trial,
        .study_n_metrics = lm_view_n_metrics, .study_metric = lm_view_metric,
        .study_best = lm_view_best, .study_arch = lm_view_arch,
        .study_text = lm_view_text,
        .extension = extension,
        .subject_file = lm_subject_file, .subject_plan = lm_subject_plan,
        .run_folder = lm_run_folder, .call = lm_commands_call,
        .price = lm_run_price,
        .precision = lm_subject_precision,
        .eigen = lm_eigen, .weigh = lm_run_weigh,
        .timing = lm_subject_timing,
        .operators = lm_subject_operators,
    };
    return &table;
}
