/* SPDX-License-Identifier: Apache-2.0 */
/* job.c -- see job.h. */
#include "pipeline/job.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/linalg.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "pipeline/host.h"
#include "pipeline/search.h"

static enum lm_status study_path(const char *folder, char *out, size_t n, struct lm_err *e)
{
    return lm_path_join(out, n, folder, "study.db") ? LM_OK
        : lm_fail(e, LM_ECONFIG, "%s: path too long", folder);
}

/* One process at a time in a run folder; the lock goes with the process. */
static enum lm_status lock(const char *folder, int *fd, struct lm_err *e)
{
    char path[4096];
    if (!lm_path_join(path, sizeof path, folder, "lock"))
        return lm_fail(e, LM_ECONFIG, "%s: path too long", folder);
    *fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0666);
    if (*fd < 0)
        return lm_fail(e, LM_EIO, "%s: cannot be written; choose another --out", path);
    if (flock(*fd, LOCK_EX | LOCK_NB)) {
        close(*fd);
        return lm_fail(e, LM_EFAILED, "%s: another lamina is at work in this folder", folder);
    }
    return LM_OK;
}

static enum lm_status put_u64(struct lm_store *s, const char *key, uint64_t v,
                              const char *format, struct lm_err *e)
{
    char text[32];
    snprintf(text, sizeof text, format, v);
    return lm_store_put(s, key, text, e);
}

static enum lm_status put_plugins(struct lm_store *store, const struct lm_pipeline *p,
                                  struct lm_err *e)
{
    struct lm_str t = { 0 };
    const struct { const struct lm_stage *v; size_t n; } list[] = {
        { &p->backend, 1 }, { p->score, p->n_score }, { p->prune, p->n_prune },
        { &p->repair, 1 }, { p->evaluate, p->n_evaluate }, { p->final, p->n_final },
        { &p->search, 1 }, { p->report, p->n_report } };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        for (size_t k = 0; k < list[i].n; k++)
            lm_str_add(&t, "%s/%s %s\n", lm_kind_name(list[i].v[k].kind),
                       list[i].v[k].plugin->module.name,
                       list[i].v[k].plugin->module.version);
    enum lm_status st = t.failed ? lm_fail_memory(e, t.n, "provenance")
                                 : lm_store_put(store, "plugins", t.s, e);
    lm_str_free(&t);
    return st;
}

static enum lm_status put_provenance(struct lm_store *store, struct lm_session *s,
                                     struct lm_err *e)
{
    char now[64], cwd[4096];
    time_t t = time(NULL);
    struct tm tm;
    struct lm_pipeline *p = s->pipeline;
    struct lm_str conf = { 0 };
    strftime(now, sizeof now, "%Y-%m-%d %H:%M:%S UTC", gmtime_r(&t, &tm));
    lm_conf_write(p->conf, true, &conf);
    enum lm_status st = conf.failed ? lm_fail_memory(e, conf.n, "the pipeline") : LM_OK;
    if (!st && !getcwd(cwd, sizeof cwd))
        cwd[0] = 0;
    if (st || (st = lm_store_put(store, "pipeline", conf.s, e)) ||
        (st = lm_store_put(store, "cwd", cwd, e)) ||
        (st = lm_store_put(store, "model", p->model->path, e)) ||
        (st = put_u64(store, "model_hash", lm_model_hash(s->bench.model), "%016" PRIx64, e)) ||
        (st = put_u64(store, "seed", (uint64_t)p->options->seed, "%" PRIu64, e)) ||
        (st = lm_store_put(store, "version", lm_host()->version, e)) ||
        (st = lm_store_put(store, "blas", lm_linalg_core(), e)) ||
        (st = lm_store_put(store, "started", now, e)) ||
        (st = put_plugins(store, p, e)))
        goto out;
    for (size_t i = 0; !st && i < s->bench.n_judge; i++) {
        char key[128];
        snprintf(key, sizeof key, "protocol:%s", s->bench.judge[i].id);
        st = lm_store_put(store, key, s->bench.judge[i].protocol, e);
    }
out:
    lm_str_free(&conf);
    return st;
}

/* A resumed study must be of the model as it is now. */
static enum lm_status check_same(struct lm_store *store, struct lm_session *s,
                                 const char *folder, struct lm_err *e)
{
    static const char *const key[] = { "model_hash", "version" };
    char now[2][32], *was;
    snprintf(now[0], sizeof now[0], "%016" PRIx64, lm_model_hash(s->bench.model));
    snprintf(now[1], sizeof now[1], "%s", lm_host()->version);
    for (int i = 0; i < 2; i++) {
        enum lm_status st = lm_store_get(store, key[i], &was, e);
        if (st)
            return st;
        bool same = was && !strcmp(was, now[i]);
        if (!same)
            st = lm_fail(e, LM_EINPUT, "%s: the study is of %s %s, this is %s; start a new "
                         "run", folder, i ? "version" : "model", was ? was : "?", now[i]);
        lm_release(was);
        if (st)
            return st;
    }
    return LM_OK;
}

static enum lm_status finish(struct lm_session *s, struct lm_study *v, const char *folder,
                             struct lm_str *text, struct lm_err *e)
{
    struct lm_err kept = { 0 };
    enum lm_status st = lm_finish_measure(s, v, e);
    if (!st)
        st = lm_finish_sample(s, v, e);
    if (!st)
        st = lm_finish_export(s, v, folder, e);
    if (st == LM_ECANCELED)
        return st;
    kept = *e;                          /* the report is written all the same */
    enum lm_status r = lm_finish_report(s->pipeline, v, folder, text, e);
    if (st)
        *e = kept;
    return st ? st : r;
}

static enum lm_status run_in(struct lm_pipeline *p, bool resume, struct lm_str *text,
                             struct lm_err *e)
{
    char path[4096];
    struct lm_session *s = NULL;
    struct lm_store *store = NULL;
    struct lm_study *view = NULL;
    const char *folder = p->options->out;
    enum lm_status st = study_path(folder, path, sizeof path, e);
    if (st)
        return st;
    if (!resume && lm_file_exists(path))
        return lm_fail(e, LM_ECONFIG, "%s: holds a study already; go on with `lamina run "
                       "--resume %s`, or choose another folder", folder, folder);
    if ((st = lm_session_open(p, &s, e)))
        return st;
    if (!(st = lm_store_open(path, !resume, &store, e)))
        st = resume ? check_same(store, s, folder, e) : put_provenance(store, s, e);
    if (!st)
        st = lm_view_new(p, lm_model_arch(s->bench.model), store, &view, e);
    if (!st)
        st = lm_search_run(s, view, e);
    if (!st)
        st = finish(s, view, folder, text, e);
    if (st == LM_ECANCELED)
        lm_fail(e, st, "interrupted; go on with `lamina run --resume %s`", folder);
    lm_view_free(view);
    lm_store_close(store);
    lm_session_close(s);
    return st;
}

enum lm_status lm_job_run(struct lm_conf *conf, bool resume, struct lm_str *text,
                          struct lm_err *e)
{
    struct lm_pipeline *p;
    int fd;
    enum lm_status st = lm_pipeline_open(conf, &p, e);
    if (st)
        return st;
    if (!(st = lm_make_folder(p->options->out, e)) && !(st = lock(p->options->out, &fd, e))) {
        if (!(st = lm_pool_start((int)p->options->threads)))
            st = run_in(p, resume, text, e);
        close(fd);
    }
    lm_pipeline_close(p);
    return st;
}

enum lm_status lm_job_study(const char *folder, struct lm_store **store,
                            struct lm_study **view, struct lm_err *e)
{
    char path[4096];
    enum lm_status st = study_path(folder, path, sizeof path, e);
    *store = NULL;
    if (!st && !lm_file_exists(path))
        st = lm_fail(e, LM_EINPUT, "%s: holds no study (study.db)", folder);
    if (!st)
        st = lm_store_open(path, false, store, e);
    if (!st && view)
        st = lm_view_load(*store, view, e);
    if (st) {
        lm_store_close(*store);
        *store = NULL;
        return st == LM_EINPUT ? lm_err_prefix(e, "%s: ", folder) : st;
    }
    return LM_OK;
}

enum lm_status lm_job_conf(const char *folder, struct lm_conf **conf, struct lm_err *e)
{
    struct lm_store *store;
    char *text = NULL, *cwd = NULL, real[4096], out[4200];
    enum lm_status st = lm_job_study(folder, &store, NULL, e);
    if (st)
        return st;
    if (!(st = lm_store_get(store, "pipeline", &text, e)))
        st = lm_store_get(store, "cwd", &cwd, e);
    lm_store_close(store);
    if (!st && !text)
        st = lm_fail(e, LM_EINPUT, "%s: the study holds no pipeline", folder);
    /* relative paths of the pipeline are those of the folder it was run in */
    if (!st && !realpath(folder, real))
        st = lm_fail(e, LM_EINPUT, "%s: cannot be resolved", folder);
    if (!st && cwd && cwd[0] && chdir(cwd))
        st = lm_fail(e, LM_EINPUT, "%s: the run was started in %s, which is gone", folder, cwd);
    if (!st) {
        snprintf(out, sizeof out, "run.out=\"%s\"", real);
        const char *set[] = { out };
        st = lm_conf_parse(text, "study.db", set, 1, conf, e);
    }
    lm_release(text);
    lm_release(cwd);
    return st;
}
