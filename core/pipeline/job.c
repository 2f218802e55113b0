/* SPDX-License-Identifier: Apache-2.0 */
/* job.c -- see job.h. */
#include "pipeline/job.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/linalg.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "pipeline/commands.h"
#include "pipeline/guards.h"
#include "pipeline/host.h"
#include "pipeline/search.h"

static enum lm_status study_path(const char *folder, char *out, size_t n,
                                 struct lm_err *e)
{
    return lm_path_join(out, n, folder, "study.db") ? LM_OK
        : lm_fail(e, LM_ECONFIG, "%s: path too long", folder);
}

bool lm_job_begun(const char *folder)
{
    char path[4096];
    return lm_path_join(path, sizeof path, folder, "study.db") && lm_file_exists(path);
}

enum lm_status lm_job_lock(const char *folder, int *fd, struct lm_err *e)
{
    char path[4096];
    struct stat mine, named;
    if (!lm_path_join(path, sizeof path, folder, "lock"))
        return lm_fail(e, LM_ECONFIG, "%s: path too long", folder);
    for (int patience = 20;;) {         /* a process that was killed may still be going */
        *fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (*fd < 0)
            return lm_fail(e, LM_EIO, "%s: cannot be written; choose another --out",
                           path);
        if (flock(*fd, LOCK_EX | LOCK_NB)) {
            close(*fd);
            if (patience-- > 0 && !lm_canceled()) {
                nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
                continue;
            }
            return lm_fail(e, LM_EFAILED, "%s: another lamina is at work in this folder",
                           folder);
        }
        if (!fstat(*fd, &mine) && !stat(path, &named) && mine.st_dev == named.st_dev &&
            mine.st_ino == named.st_ino)
            return LM_OK;
        close(*fd);                     /* its last holder removed it: take a new one */
    }
}

/* A run that failed before its study began leaves nothing behind. */
static void tidy(const char *folder, bool made)
{
    char path[4096];
    if (lm_job_begun(folder))
        return;
    if (lm_path_join(path, sizeof path, folder, "lock"))
        unlink(path);
    if (made)
        rmdir(folder);                  /* only if empty */
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
        { &p->repair, 1 }, { &p->refine, p->refine.plugin != NULL },
        { p->evaluate, p->n_evaluate }, { p->final, p->n_final },
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

/* What the study is measured on, and whether auto took it. */
static enum lm_status put_device(struct lm_store *store, const struct lm_session *s,
                                 struct lm_err *e)
{
    char text[96];
    snprintf(text, sizeof text, "%.64s%s", s->pipeline->backend.plugin->module.name,
             s->pipeline->backend_auto ? " (taken by auto)" : "");
    enum lm_status st = lm_store_put(store, "backend", text, e);
    return st ? st : lm_store_put(store, "device", s->bench.device_text, e);
}

static void text_key(char *out, size_t size, const char *name)
{
    snprintf(out, size, "text_hash:%s", name);
}

static enum lm_status put_texts(struct lm_store *store, const struct lm_run *run,
                                struct lm_err *e)
{
    const char *name;
    uint64_t hash;
    enum lm_status st = LM_OK;
    for (size_t i = 0; !st && lm_run_text_at(run, i, &name, &hash); i++) {
        char key[4200];
        text_key(key, sizeof key, name);
        st = put_u64(store, key, hash, "%016" PRIx64, e);
    }
    return st;
}

static enum lm_status put_predictions(struct lm_store *store, const struct lm_pipeline *p,
                                      struct lm_err *e)
{
    struct lm_str t = { 0 };
    lm_predict_text(p, &t);
    enum lm_status st = t.failed ? lm_fail_memory(e, t.n, "provenance")
                      : t.n ? lm_store_put(store, "predictions", t.s, e) : LM_OK;
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
    enum lm_status st = lm_pipeline_complete(p, e);
    if (st)
        return st;
    lm_conf_write(p->conf, true, &conf);
    st = conf.failed ? lm_fail_memory(e, conf.n, "the pipeline") : LM_OK;
    if (!st && !getcwd(cwd, sizeof cwd))
        cwd[0] = 0;
    if (st || (st = lm_store_put(store, "pipeline", conf.s, e)) ||
        (st = lm_store_put(store, "cwd", cwd, e)) ||
        (st = lm_store_put(store, "model", p->model->path, e)) ||
        (st = put_u64(store, "model_hash", lm_model_hash(s->bench.model), "%016" PRIx64,
                      e)) ||
        (st = put_u64(store, "seed", (uint64_t)p->options->seed, "%" PRIu64, e)) ||
        (st = lm_store_put(store, "version", lm_host()->version, e)) ||
        (st = lm_store_put(store, "blas", lm_linalg_core(), e)) ||
        (st = lm_store_put(store, "started", now, e)) ||
        (st = lm_store_put(store, "name", p->options->name, e)) ||
        (st = put_device(store, s, e)) ||
        (st = put_plugins(store, p, e)) || (st = put_texts(store, p->run, e)) ||
        (st = put_predictions(store, p, e)) || (st = lm_inputs_put(store, p, e)))
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

/* What SQLite keeps beside a database while it is open. */
static void remove_logs(const char *path)
{
    static const char *const part[] = { "-wal", "-shm", "-journal" };
    char name[4200];
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
        snprintf(name, sizeof name, "%s%s", path, part[i]);
        unlink(name);
    }
}

/* The study gets its name once all that `run --resume` needs is in it and on
 * disk, so whatever kills a run, a study is whole or not there.              */
static enum lm_status begin_study(const char *path, struct lm_session *s,
                                  struct lm_err *e)
{
    char fresh[4104];
    struct lm_store *store = NULL;
    struct lm_study *view = NULL;
    snprintf(fresh, sizeof fresh, "%s.new", path);
    unlink(fresh);                      /* of a run that was killed here */
    remove_logs(fresh);
    remove_logs(path);                  /* they outlived their study */
    enum lm_status st = lm_store_open(fresh, true, &store, e);
    if (!st)
        st = put_provenance(store, s, e);
    if (!st)
        st = lm_view_new(s->pipeline, lm_model_arch(s->bench.model), store, &view, e);
    lm_view_free(view);
    if (!st)
        st = lm_store_settle(store, e);
    lm_store_close(store);
    if (!st)
        st = lm_move_file(fresh, path, e);
    if (st) {
        unlink(fresh);
        remove_logs(fresh);
    }
    return st;
}

static enum lm_status same(struct lm_store *store, const char *key, const char *what,
                           const char *now, bool must, const char *folder,
                           struct lm_err *e)
{
    char *was;
    enum lm_status st = lm_store_get(store, key, &was, e);
    if (!st && (was ? strcmp(was, now) != 0 : must))
        st = lm_fail(e, LM_EINPUT,
                     "%s: the study is of %s %s, this is %s; start a new run",
                     folder, what, was ? was : "?", now);
    lm_release(was);
    return st;
}

enum lm_status lm_job_same(struct lm_store *store, struct lm_session *s,
                           const char *folder, struct lm_err *e)
{
    char now[32], key[4200], what[4200];
    const char *name;
    uint64_t hash;
    snprintf(now, sizeof now, "%016" PRIx64, lm_model_hash(s->bench.model));
    enum lm_status st = same(store, "model_hash", "model", now, true, folder, e);
    if (!st)
        st = same(store, "version", "version", lm_host()->version, true, folder, e);
    if (!st)
        st = lm_inputs_same(store, s->pipeline, e);
    for (size_t i = 0; !st && lm_run_text_at(s->pipeline->run, i, &name, &hash); i++) {
        text_key(key, sizeof key, name);
        snprintf(what, sizeof what, "text '%s'", name);
        snprintf(now, sizeof now, "%016" PRIx64, hash);
        st = same(store, key, what, now, false, folder, e);
    }
    return st;
}

/* Of a backend that can choose the device must be the one that the study began on, by its
 * name; the processor is what it is, but times of two do not compare, nor do those of
 * two drivers.                                                              */
static enum lm_status same_device(struct lm_store *store, const struct lm_session *s,
                                  const char *folder, struct lm_str *notes,
                                  struct lm_err *e)
{
    const struct lm_stage *backend = &s->pipeline->backend;
    const char *now = s->bench.device_text;
    char *was;
    enum lm_status st = lm_store_get(store, "device", &was, e);
    if (st || !was || !strcmp(was, now))
        ;
    else if (lm_has_option(&backend->plugin->module, "device")
             && !lm_device_is(&s->bench.device, was))
        st = lm_fail(e, LM_EINPUT, "%s: the study began on %s, which is not that device "
                     "of backend '%s' any more, but %s is; bring it back or start a new "
                     "run", folder, was, backend->id, now);
    else
        lm_str_add(notes, "the study began on %s and was resumed on %s, so times of "
                   "earlier and later trials cannot be compared\n", was, now);
    lm_release(was);
    return st;
}

/* A resumed run whose backend has no device here says which one it is about. */
static enum lm_status say_lost(const char *folder, struct lm_err *e)
{
    struct lm_store *store;
    struct lm_err ignored = { 0 };
    char *was = NULL;
    if (!lm_job_study(folder, &store, NULL, &ignored)) {
        lm_store_get(store, "device", &was, &ignored);
        lm_store_close(store);
    }
    lm_err_prefix(e, "%s: the study began on %s, which cannot be used now: ", folder,
                  was ? was : "a device");
    lm_release(was);
    return e->code;
}

/* Each line of notes from byte `from` on, as a warning. */
static void tell_notes(const struct lm_str *notes, size_t from)
{
    const char *line = notes->s ? notes->s + from : NULL, *end;

    for (; line && (end = strchr(line, '\n')); line = end + 1)
        lm_log(LM_WARN, "%.*s", (int)(end - line), line);
}

/* What guards say of the results, behind what they said of the inputs. */
static enum lm_status put_notes(struct lm_study *v, struct lm_str *notes,
                                struct lm_err *e)
{
    size_t from = notes->n;

    lm_guard_results(v, notes);
    if (notes->failed)
        return lm_fail_memory(e, notes->n, "notes");
    tell_notes(notes, from);
    return lm_store_put(v->store, "notes", notes->s ? notes->s : "", e);
}

static enum lm_status finish(struct lm_session *s, struct lm_study *v, const char *folder,
                             struct lm_str *notes, struct lm_str *text, struct lm_err *e)
{
    struct lm_err kept = { 0 };
    enum lm_status st = lm_finish_measure(s, v, e);
    lm_bench_dismiss(&s->bench);        /* their memory is wanted */
    if (!st)
        st = put_notes(v, notes, e);
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
    struct lm_str notes = { 0 };
    const char *folder = p->options->out;
    enum lm_status st = study_path(folder, path, sizeof path, e);
    if (st)
        return st;
    if (!resume && lm_job_begun(folder))
        return lm_fail(e, LM_ECONFIG, "%s: holds a study already; go on with `lamina run "
                       "--resume %s`, or choose another folder", folder, folder);
    if ((st = lm_session_open(p, &s, e)))
        return st == LM_EUNAVAILABLE && resume ? say_lost(folder, e) : st;
    if (!(st = lm_guard_inputs(s, &notes, e)))
        tell_notes(&notes, 0);
    size_t told = notes.n;
    if (!st && !resume)
        st = begin_study(path, s, e);
    if (!st)
        st = lm_store_open(path, false, &store, e);
    if (!st && resume)
        st = lm_job_same(store, s, folder, e);
    if (!st && resume)
        st = same_device(store, s, folder, &notes, e);
    if (!st && resume)
        tell_notes(&notes, told);
    if (!st)
        st = lm_view_new(p, lm_model_arch(s->bench.model), store, &view, e);
    if (!st)
        st = lm_search_run(s, view, e);
    if (!st)
        st = finish(s, view, folder, &notes, text, e);
    if (!st)
        st = lm_store_put(store, "finished", "1", e);
    if (st == LM_ECANCELED)
        lm_fail(e, st, "interrupted; go on with `lamina run --resume %s`", folder);
    if (st == LM_EUNAVAILABLE && view)
        lm_fail(e, st, "%.700s; once the device (%s) is there again, go on with `lamina "
                "run --resume %s`", e->text, s->bench.device_text, folder);
    lm_str_free(&notes);
    lm_view_free(view);
    lm_store_close(store);
    lm_session_close(s);
    return st;
}

/* With the folder locked. */
static enum lm_status work(struct lm_pipeline *p, bool resume, struct lm_str *text,
                           struct lm_err *e)
{
    enum lm_status st = lm_run_set_folder(p->run, p->options->out, e);
    if (st || (st = lm_commands_tidy(p->options->out, e)) ||
        (st = lm_pool_start((int)p->options->threads, e)) ||
        (st = lm_predict_check(p, e)))
        return st;
    return run_in(p, resume, text, e);
}

static enum lm_status may_run(const struct lm_pipeline *p, struct lm_err *e)
{
    enum lm_status st = lm_commands_check(p->evaluate, p->n_evaluate, e);
    return st ? st : lm_commands_check(p->final, p->n_final, e);
}

enum lm_status lm_job_run(struct lm_conf *conf, bool resume, struct lm_str *text,
                          struct lm_err *e)
{
    struct lm_pipeline *p;
    int fd;
    enum lm_status st = lm_pipeline_open(conf, &p, e);
    if (st)
        return st;
    const char *folder = p->options->out;
    bool made = !lm_file_exists(folder);
    if (!(st = may_run(p, e)) && !(st = lm_make_folder(folder, e)) &&
        !(st = lm_job_lock(folder, &fd, e))) {
        st = work(p, resume, text, e);
        tidy(folder, made);
        close(fd);
    }
    lm_pipeline_close(p);
    return st;
}

/* What a run may be resumed with, because no result depends on it. */
static enum lm_status check_changes(const char *const *set, size_t n, struct lm_err *e)
{
    static const char *const may[] = { "run.threads=", "run.workers=",
        "run.worker_timeout=", "run.memory=" };
    for (size_t i = 0, k; i < n; i++) {
        for (k = 0; k < sizeof may / sizeof *may; k++)
            if (!strncmp(set[i], may[k], strlen(may[k])))
                break;
        if (k == sizeof may / sizeof *may)
            return lm_fail(e, LM_ECONFIG, "run: a resumed run keeps its pipeline; --set "
                           "can change run.threads, run.workers, run.worker_timeout and "
                           "run.memory only");
    }
    return LM_OK;
}

enum lm_status lm_job_resume(const char *folder, const char *const *set, size_t n,
                             struct lm_str *text, struct lm_err *e)
{
    struct lm_conf *conf;
    struct lm_pipeline *p;
    int fd;
    enum lm_status st = check_changes(set, n, e);
    if (st)
        return st;
    if (!lm_job_begun(folder))
        return lm_fail(e, LM_EINPUT, "%s: holds no study to go on with; run its pipeline "
                       "file", folder);
    if ((st = lm_job_lock(folder, &fd, e)))
        return st;
    if (!(st = lm_job_conf(folder, set, n, &conf, e)) &&
        !(st = lm_pipeline_open(conf, &p, e))) {
        if (!(st = may_run(p, e)))
            st = work(p, true, text, e);
        lm_pipeline_close(p);
    }
    close(fd);
    return st;
}

enum lm_status lm_job_study(const char *folder, struct lm_store **store,
                            struct lm_study **view, struct lm_err *e)
{
    char path[4096];
    enum lm_status st = study_path(folder, path, sizeof path, e);
    *store = NULL;
    if (!st && !lm_job_begun(folder))
        st = lm_fail(e, LM_EINPUT, "%s: holds no study (study.db)", folder);
    if (!st)
        st = lm_store_open(path, false, store, e);
    if (!st && view && (st = lm_view_load(*store, view, e)) == LM_EINPUT)
        lm_err_prefix(e, "%s: ", path);
    if (st) {
        lm_store_close(*store);
        *store = NULL;
    }
    return st;
}

enum lm_status lm_job_finished(const char *folder, bool *yes, struct lm_err *e)
{
    struct lm_store *store;
    char *text = NULL;
    *yes = false;
    if (!lm_job_begun(folder))
        return LM_OK;
    enum lm_status st = lm_job_study(folder, &store, NULL, e);
    if (st)
        return st;
    st = lm_store_get(store, "finished", &text, e);
    *yes = text != NULL;
    lm_release(text);
    lm_store_close(store);
    return st;
}

/* A pipeline's text as a tree, what makes no difference to results made equal. */
static enum lm_status leveled(const char *text, const char *name, struct lm_conf **conf,
                              struct lm_err *e)
{
    static const char *const set[] = { "run.out=run", "run.threads=0", "run.workers=0",
        "run.worker_timeout=600.0", "run.memory=2000000000", "run.share=true" };
    return lm_conf_parse(text, name, set, sizeof set / sizeof *set, conf, e);
}

static enum lm_status compare(struct lm_store *store, const char *now, const char *folder,
                              struct lm_err *e)
{
    struct lm_conf *a = NULL, *b = NULL;
    const struct lm_conf *d;
    char *was = NULL;
    enum lm_status st = lm_store_get(store, "pipeline", &was, e);
    if (!st && !was)
        st = lm_fail(e, LM_EINPUT, "%s: the study holds no pipeline", folder);
    if (!st && !(st = leveled(was, "study.db", &a, e)) &&
        !(st = leveled(now, "the file", &b, e)) && (d = lm_conf_differs(a, b)))
        st = lm_fail(e, LM_EINPUT, "%s: holds a run of another pipeline ('%s' differs); "
                     "choose another run.out, or remove it", folder,
                     d->key ? d->key : "a list");
    lm_conf_free(a);
    lm_conf_free(b);
    lm_release(was);
    return st;
}

enum lm_status lm_job_matches(const char *folder, struct lm_conf *conf, struct lm_err *e)
{
    struct lm_pipeline *p;
    struct lm_store *store = NULL;
    struct lm_str now = { 0 };
    enum lm_status st = lm_pipeline_open(conf, &p, e);
    if (st)
        return st;
    if (!(st = lm_pipeline_complete(p, e))) {
        lm_conf_write(p->conf, false, &now);
        st = now.failed ? lm_fail_memory(e, now.n, "the pipeline")
                        : lm_job_study(folder, &store, NULL, e);
    }
    if (!st)
        st = same(store, "version", "version", lm_host()->version, true, folder, e);
    if (!st)
        st = compare(store, now.s, folder, e);
    lm_store_close(store);
    lm_str_free(&now);
    lm_pipeline_close(p);
    return st;
}

/* relative paths of the pipeline are those of the folder it was run in */
static enum lm_status parse_there(const char *text, const char *cwd, const char *folder,
                                  const char *const *set, size_t n,
                                  struct lm_conf **conf, struct lm_err *e)
{
    char real[4096];
    struct lm_str out = { 0 };
    if (!realpath(folder, real))
        return lm_fail(e, LM_EINPUT, "%s: cannot be resolved", folder);
    if (cwd && cwd[0] && chdir(cwd))
        return lm_fail(e, LM_EINPUT, "%s: the run was started in %s, which is gone",
                       folder, cwd);
    const char **all = lm_alloc_array(n + 1, sizeof *all, "options");
    lm_str_add(&out, "run.out=");
    lm_conf_quote(&out, real);
    for (size_t i = 0; all && i < n; i++)
        all[i] = set[i];
    if (all)
        all[n] = out.s;
    enum lm_status st = !all || out.failed
        ? lm_fail_memory(e, out.n, "the pipeline")
        : lm_conf_parse(text, "study.db", all, n + 1, conf, e);
    lm_str_free(&out);
    lm_release(all);
    return st;
}

enum lm_status lm_job_conf(const char *folder, const char *const *set, size_t n,
                           struct lm_conf **conf, struct lm_err *e)
{
    struct lm_store *store;
    char *text = NULL, *cwd = NULL;
    enum lm_status st = check_changes(set, n, e);
    if (st || (st = lm_job_study(folder, &store, NULL, e)))
        return st;
    if (!(st = lm_store_get(store, "pipeline", &text, e)))
        st = lm_store_get(store, "cwd", &cwd, e);
    lm_store_close(store);
    if (!st && !text)
        st = lm_fail(e, LM_EINPUT, "%s: the study holds no pipeline", folder);
    if (!st)
        st = parse_there(text, cwd, folder, set, n, conf, e);
    lm_release(text);
    lm_release(cwd);
    return st;
}

enum lm_status lm_job_report(const char *folder, struct lm_str *text, struct lm_err *e)
{
    struct lm_store *store;
    struct lm_study *view = NULL;
    struct lm_conf *conf = NULL;
    struct lm_pipeline *p = NULL;
    char *stored = NULL;
    enum lm_status st = lm_job_study(folder, &store, &view, e);
    if (st)
        return st;
    if (!(st = lm_store_get(store, "pipeline", &stored, e)) && !stored)
        st = lm_fail(e, LM_EINPUT, "%s: the study holds no pipeline", folder);
    if (!st && !(st = lm_conf_parse(stored, "study.db", NULL, 0, &conf, e)) &&
        !(st = lm_pipeline_reports(conf, &p, e)))
        st = lm_finish_report(p, view, folder, text, e);
    lm_pipeline_close(p);
    lm_release(stored);
    lm_view_free(view);
    lm_store_close(store);
    return st;
}
