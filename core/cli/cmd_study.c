/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_study.c -- inspect, export, report: what a run left behind. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/pool.h"
#include "cli/cli.h"
#include "model/chat.h"
#include "model/codec.h"
#include "pipeline/convert.h"
#include "pipeline/job.h"

/* ---- inspect ----------------------------------------------------------------- */

static void add_shapes(const struct lm_arch *a, struct lm_str *out)
{
    for (int32_t i = 0, j; i < a->n_layer; i = j) {
        const struct lm_layer_shape *l = &a->layer[i];
        for (j = i + 1; j < a->n_layer; j++)
            if (memcmp(l, &a->layer[j], sizeof *l))
                break;
        lm_str_add(out, "  layers %d-%d: %d query heads, %d KV heads, FFN %d\n", i, j - 1,
                   l->n_head, l->n_kv, l->n_ff);
    }
}

static void add_dtypes(const struct lm_model *m, struct lm_str *out)
{
    const struct lm_arch *a = lm_model_arch(m);
    int64_t count[LM_N_DTYPES] = { 0 }, values = 0, bytes = 0;
    for (uint32_t role = 1; role < LM_N_ROLES; role++)
        for (int32_t i = 0; i < (lm_role_is_layer(role) ? a->n_layer : 1); i++) {
            const struct lm_tensor *t = lm_model_tensor(m, role, lm_role_is_layer(role)
                                                        ? i : -1);
            if (!t)
                continue;
            count[t->dtype]++;
            values += t->rows * t->cols;
            bytes += t->rows * lm_row_bytes(t->dtype, t->cols);
        }
    lm_str_add(out, "  %lld parameters, %lld bytes of weights:", (long long)values,
               (long long)bytes);
    for (uint32_t d = 1; d < LM_N_DTYPES; d++)
        if (count[d])
            lm_str_add(out, " %lld %s", (long long)count[d], lm_codec(d)->name);
    lm_str_add(out, "\n");
}

static const char *tokenizer_name(uint32_t model)
{
    static const char *const name[] = { [LM_TOKENIZER_BYTES] = "byte-level BPE",
        [LM_TOKENIZER_CHARS] = "BPE on characters", [LM_TOKENIZER_SCORES] =
        "SentencePiece BPE", [LM_TOKENIZER_UNIGRAM] = "SentencePiece unigram" };
    return model < sizeof name / sizeof *name ? name[model] : "unknown";
}

static enum lm_status inspect_model(const char *path, struct lm_err *e)
{
    struct lm_run *run = NULL;
    struct lm_model *m = NULL;
    struct lm_str out = { 0 };
    static const char *const rope[] = { "", " scaled (linear)", " scaled (llama3)",
                                        " scaled (yarn)" };
    struct lm_chat chat;
    enum lm_status s = lm_run_open(0, &run, e);
    if (s || (s = lm_load_model(path, NULL, run, &m, e)) || (s = lm_model_check(m, e)) ||
        (s = lm_run_model(run, m, e)))
        goto out;
    const struct lm_arch *a = lm_model_arch(m);
    const struct lm_vocabulary *v = lm_model_vocabulary(m);
    lm_str_add(&out, "%s\n  %s, %d layers, hidden %d, head dimension %d, vocabulary %d, "
               "context %d, %s head\n", path, a->family, a->n_layer, a->hidden,
                   a->head_dim,
               a->vocab, a->context, a->tied ? "tied" : "untied");
    lm_str_add(&out, "  RoPE base %g%s", a->rope_theta, rope[a->rope]);
    if (a->rope)
        lm_str_add(&out, " by %g", a->rope_factor);
    lm_str_add(&out, ", RMSNorm eps %g, BOS %d, EOS %d", a->rms_eps, a->bos, a->eos);
    if (a->window)
        lm_str_add(&out, ", sliding window %d", a->window);
    lm_str_add(&out, "\n");
    add_shapes(a, &out);
    add_dtypes(m, &out);
    if (v)
        lm_str_add(&out, "  tokenizer: %s, %zu tokens, %zu merges, %s\n",
                   tokenizer_name(v->model), v->n_token, v->n_merge,
                   !v->chat_template ? "no chat template"
                   : lm_chat_open(v, a, &chat, NULL) ? "a chat template of unknown family"
                   : "chat template");
    else
        lm_str_add(&out, "  no tokenizer\n");
    lm_str_add(&out, "  hash %016" PRIx64 "\n", lm_model_hash(m));
    s = lm_print_str(&out, e);
out:
    lm_model_free(m);
    lm_run_close(run);
    return s;
}

static void add_trial(const struct lm_study *v, const char *what, int64_t i,
                      struct lm_str *out)
{
    if (i < 0)
        return;
    lm_str_add(out, "  %-9s trial %-5lld", what, (long long)i);
    for (int m = 0; m < v->n_metric; m++)
        if (!isnan(v->trial[i].value[m]))
            lm_str_add(out, " %s %.6g", v->metric[m].name, v->trial[i].value[m]);
    lm_str_add(out, "\n");
}

static enum lm_status inspect_run(const char *folder, struct lm_err *e)
{
    struct lm_store *store;
    struct lm_study *v;
    struct lm_str out = { 0 };
    int64_t front = 0, unbuilt, broken, stopped = 0;
    enum lm_status s = lm_job_study(folder, &store, &v, e);
    if (s)
        return s;
    for (int64_t i = 0; i < v->n_trial; i++) {
        front += v->trial[i].front;
        stopped += v->trial[i].told != NULL;
    }
    lm_str_add(&out, "%s\n  model %s (%s)\n  version %s, seed %s, started %s\n", folder,
               lm_view_text(v, "model"), lm_view_text(v, "model_hash"),
               lm_view_text(v, "version"), lm_view_text(v, "seed"),
               lm_view_text(v, "started"));
    lm_view_infeasible(v, &unbuilt, &broken);
    lm_str_add(&out, "  %lld trials, %lld on the front, %lld could not be built, %lld break "
               "a constraint\n", (long long)v->n_trial, (long long)front,
               (long long)unbuilt, (long long)broken);
    if (stopped)
        lm_str_add(&out, "  %lld lost a race and stopped early\n", (long long)stopped);
    if (v->n_trial)
        add_trial(v, "dense", 0, &out);
    for (int i = 0; i < LM_N_PICKS; i++)
        add_trial(v, lm_pick_names[i], lm_view_pick(v, (enum lm_pick)i), &out);
    s = lm_print_str(&out, e);
    lm_view_free(v);
    lm_store_close(store);
    return s;
}

enum lm_status lm_cmd_inspect(int argc, char **argv, struct lm_err *e)
{
    struct lm_list at;
    bool help;
    char path[4096];
    enum lm_status s = lm_flags_parse(argc, argv, NULL, 0, &at, 1, 1, &help, e);
    if (s || help)
        return s;
    bool run = lm_path_join(path, sizeof path, at.v[0], "study.db") &&
        lm_file_exists(path);
    return run ? inspect_run(at.v[0], e) : inspect_model(at.v[0], e);
}

/* ---- export -------------------------------------------------------------------- */

static enum lm_status which(const struct lm_study *v, const char *text, int64_t *trial,
                            struct lm_err *e)
{
    char *end;
    for (int i = 0; i < LM_N_PICKS; i++)
        if (!strcmp(text, lm_pick_names[i])) {
            *trial = lm_view_pick(v, (enum lm_pick)i);
            return *trial >= 0 ? LM_OK : lm_fail(e, LM_EFAILED, "no trial meets the "
                                                 "constraints, so there is no '%s'",
                                                     text);
        }
    *trial = strtoll(text, &end, 10);
    if (end == text || *end)
        return lm_fail(e, LM_ECONFIG,
                       "export: '%s' is no trial; give a number, best, knee "
                       "or smallest", text);
    if (*trial < 0 || *trial >= v->n_trial)
        return lm_fail(e, LM_ECONFIG, "export: there is no trial %s; there are 0 to %lld",
                       text, (long long)v->n_trial - 1);
    if (v->trial[*trial].status != LM_OK)
        return lm_fail(e, LM_ECONFIG, "export: trial %s could not be built: %s", text,
                       v->trial[*trial].reason);
    return LM_OK;
}

static enum lm_status export_from(const char *folder, const char *trial_name,
                                  const char *to, const char *format, uint32_t dtype,
                                  bool force, struct lm_err *e)
{
    struct lm_conf *conf;
    struct lm_pipeline *p = NULL;
    struct lm_session *session = NULL;
    struct lm_store *store = NULL;
    struct lm_study *v = NULL;
    struct lm_stage stage = { 0 };
    struct lm_conf *group = NULL;
    int64_t trial;
    enum lm_status s = lm_job_conf(folder, NULL, 0, &conf, e);
    if (s || (s = lm_pipeline_open(conf, &p, e)))
        return s;
    if ((s = lm_job_study(folder, &store, &v, e)) || (s = which(v, trial_name, &trial,
                                                                e)) ||
        (s = lm_stage_text(&stage, LM_FORMAT, format, &group, p->run, e)) ||
        (s = lm_stage_create(&stage, NULL, NULL, e)))
        goto out;
    const struct lm_format *ops = stage.plugin->ops;
    if (!(ops->dtypes & LM_BIT(dtype))) {
        s = lm_fail(e, LM_ECONFIG, "export: format '%s' cannot write %s",
                    stage.plugin->module.name, lm_dtype_names[dtype - 1]);
        goto out;
    }
    if (!(s = lm_may_replace(p->model->path, to, ops, force, e)) &&
        !(s = lm_pool_start((int)p->options->threads, e)) &&
        !(s = lm_session_open(p, &session, e)) &&
        !(s = lm_job_same(store, session, folder, e)) &&
        !(s = lm_export_trial(session, v, trial, &stage, dtype, to, true, e)))
        lm_log(LM_INFO, "exported trial %lld to %s", (long long)trial, to);
out:
    if (stage.plugin)
        lm_stage_close(&stage);
    lm_conf_free(group);
    lm_session_close(session);
    lm_view_free(v);
    lm_store_close(store);
    lm_pipeline_close(p);
    return s;
}

enum lm_status lm_cmd_export(int argc, char **argv, struct lm_err *e)
{
    struct lm_list at;
    const char *format = NULL, *dtype = "f16";
    bool force = false, help;
    uint32_t type;
    char folder[4096], cwd[4096], to[8448];
    const struct lm_flag flag[] = {
        LM_FLAG_FORMAT(&format),
        { "dtype", 's', &dtype, "TYPE", LM_DTYPE_NAMES " (default f16)" },
        LM_FLAG_FORCE(&force) };
    enum lm_status s = lm_flags_parse(argc, argv, flag, 3, &at, 3, 3, &help, e);
    if (s || help)
        return s;
    if (!format)
        format = lm_format_of(at.v[2]);
    if ((s = lm_dtype_find(dtype, &type, e)))
        return s;
    /* reading the run may change the folder; keep OUT where it is */
    if (!realpath(at.v[0], folder))
        return lm_fail(e, LM_EINPUT, "%s: no such run folder", at.v[0]);
    if (at.v[2][0] == '/' || !getcwd(cwd, sizeof cwd))
        cwd[0] = 0;
    snprintf(to, sizeof to, "%s%s%s", cwd, cwd[0] ? "/" : "", at.v[2]);
    return export_from(folder, at.v[1], to, format, type, force, e);
}

/* ---- report ----------------------------------------------------------------------- */

enum lm_status lm_cmd_report(int argc, char **argv, struct lm_err *e)
{
    struct lm_list at;
    bool help;
    struct lm_str text = { 0 };
    enum lm_status s = lm_flags_parse(argc, argv, NULL, 0, &at, 1, 1, &help, e);
    if (s || help)
        return s;
    if (!(s = lm_job_report(at.v[0], &text, e)))
        return lm_print_str(&text, e);
    lm_str_free(&text);
    return s;
}
