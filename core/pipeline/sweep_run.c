/* SPDX-License-Identifier: Apache-2.0 */
/* sweep_run.c -- the runs of a sweep, one after the other in this process.
 *
 * WHY one after the other: a run uses all threads already, and times are measured.
 * What variants have in common, statistics above all, they share through the cache
 * folder, which is keyed by content.  What is done is read from the run folders, so
 * that a sweep has no state of its own that could be out of step with them.   */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "pipeline/job.h"
#include "pipeline/sweep.h"

/* Nothing is done where a folder holds a run of something else. */
static enum lm_status check_folders(const struct lm_sweep *s, struct lm_err *e)
{
    char folder[4096];
    enum lm_status st = LM_OK;
    if (lm_job_begun(s->out))
        return lm_conf_fail(e, s->at,
                            "sweep: run.out, %s, holds a run of its own; choose "
                            "another folder", s->out);
    for (size_t v = 0; v < s->n_variant; v++)
        for (size_t k = 0; k < s->o->seeds.n && !st; k++) {
            struct lm_conf *conf;
            st = lm_sweep_folder(s, v, k, folder, e);
            if (!st && lm_job_begun(folder) && !(st = lm_sweep_conf(s, v, k, &conf, e)) &&
                (st = lm_job_matches(folder, conf, e)) == LM_EINPUT && e)
                lm_err_prefix(e, "%s: error: sweep: ", s->at->origin);
        }
    return st;
}

static enum lm_status collect(struct lm_sweep_table *t, size_t v, size_t k,
                              const char *folder, struct lm_err *e)
{
    struct lm_store *store;
    struct lm_study *view;
    enum lm_status st = lm_job_study(folder, &store, &view, e);
    if (st)
        return st;
    st = lm_sweep_collect(t, v, k, view, e);
    lm_view_free(view);
    lm_store_close(store);
    return st;
}

/* One run, to its end. */
static enum lm_status one(const struct lm_sweep *s, size_t v, size_t k,
                          const char *folder, struct lm_err *e)
{
    struct lm_conf *conf;
    struct lm_str unread = { 0 };       /* its reports are in its folder */
    enum lm_status st = lm_sweep_conf(s, v, k, &conf, e);
    if (st)
        return st;
    lm_log(LM_INFO, "sweep: run %zu of %zu: %s, seed %lld", v * s->o->seeds.n + k + 1,
           s->n_variant * s->o->seeds.n, s->variant[v].tag,
           (long long)s->o->seeds.v[k]);
    st = lm_job_run(conf, lm_job_begun(folder), &unread, e);
    lm_str_free(&unread);
    return st;
}

/* Runs what is not finished; *failed counts what could not be. */
static enum lm_status work(const struct lm_sweep *s, struct lm_sweep_table *t,
                           size_t *failed, struct lm_err *e)
{
    char folder[4096];
    for (size_t i = 0; i < s->n_variant * t->n_seed; i++) {
        size_t v = i / t->n_seed, k = i % t->n_seed;
        struct lm_err why = { 0 };
        bool done = false;
        enum lm_status st = lm_sweep_folder(s, v, k, folder, &why);
        if (!st && !(st = lm_job_finished(folder, &done, &why)) && !done)
            st = lm_canceled() ? LM_ECANCELED : one(s, v, k, folder, &why);
        if (!st)
            st = collect(t, v, k, folder, &why);
        if (st == LM_ECANCELED)         /* what was finished before is shown, too */
            continue;
        if (!st)
            continue;
        t->result[i].state = LM_SWEEP_FAILED;
        t->result[i].reason = lm_strdup(why.text, "sweep");
        if (!t->result[i].reason)
            return lm_fail_memory(e, strlen(why.text) + 1, "the sweep");
        lm_log(LM_WARN, "sweep: %s, seed %lld, failed: %s", s->variant[v].tag,
               (long long)s->o->seeds.v[k], why.text);
        ++*failed;
    }
    return LM_OK;
}

static enum lm_status put_file(const struct lm_sweep_table *t, const char *name,
                               void (*make)(const struct lm_sweep_table *,
                                            struct lm_str *),
                               struct lm_err *e)
{
    char path[4096];
    struct lm_str out = { 0 };
    make(t, &out);
    enum lm_status st = LM_OK;
    if (out.failed)
        st = lm_fail_memory(e, out.n, name);
    else if (!lm_path_join(path, sizeof path, t->sweep->out, name))
        st = lm_fail(e, LM_ECONFIG, "%s: path too long", t->sweep->out);
    else
        st = lm_write_file(path, out.s, out.n, e);
    lm_str_free(&out);
    return st;
}

static enum lm_status show(struct lm_sweep_table *t, struct lm_str *text,
                           struct lm_err *e)
{
    enum lm_status st = lm_sweep_judge(t, e);
    if (!st)
        st = put_file(t, "sweep.csv", lm_sweep_csv, e);
    if (!st)
        st = put_file(t, "sweep.html", lm_sweep_html, e);
    if (!st)
        st = put_file(t, "sweep.tex", lm_sweep_latex, e);
    if (!st)
        lm_sweep_text(t, text);
    return !st && text->failed ? lm_fail_memory(e, text->n, "the table") : st;
}

static enum lm_status run_all(struct lm_sweep *s, struct lm_str *text, struct lm_err *e)
{
    struct lm_sweep_table *t;
    size_t failed = 0;
    enum lm_status st = check_folders(s, e);
    if (!st)
        st = lm_sweep_table_open(s, &t, e);
    if (st)
        return st;
    if (!(st = work(s, t, &failed, e)) && !(st = show(t, text, e))) {
        if (lm_canceled())
            st = lm_fail(e, LM_ECANCELED, "interrupted; go on with `lamina sweep %s`",
                         s->file);
        else if (failed)
            st = lm_fail(e, LM_EFAILED, "%zu of %zu runs failed; %s/sweep.csv says why, "
                         "and the same command tries them again", failed,
                         s->n_variant * t->n_seed, s->out);
    }
    lm_sweep_table_close(t);
    return st;
}

enum lm_status lm_sweep_run(struct lm_sweep *s, struct lm_str *text, struct lm_err *e)
{
    int fd;
    enum lm_status st = lm_make_folder(s->out, e);
    if (st || (st = lm_job_lock(s->out, &fd, e)))
        return st;
    st = run_all(s, text, e);
    close(fd);
    return st;
}

/* ---- estimate ------------------------------------------------------------------ */

struct total { double seconds, memory, cache, exports, programs; size_t left; };

static void tell(const struct lm_sweep *s, const struct total *all, struct lm_str *text)
{
    char one[32], two[32];
    lm_str_add(text, "\n%zu runs (%zu variants, %zu seeds), %zu to do; estimated (not "
               "measured):\n", s->n_variant * s->o->seeds.n, s->n_variant,
               s->o->seeds.n, all->left);
    lm_str_add(text, "  time          %s, less what runs share\n",
               lm_human_time(one, all->seconds));
    lm_str_add(text, "  memory        about %s beside mapped files\n",
               lm_human_bytes(one, all->memory));
    lm_str_add(text, "  disk          %s of exports, at most %s in the cache folder\n",
               lm_human_bytes(one, all->exports), lm_human_bytes(two, all->cache));
    if (all->programs > 0)
        lm_str_add(text, "  programs      %.0f runs of yours, which take the time they "
                   "take\n", all->programs);
}

/* Runs of a variant that are to do; seeds make no difference to what they take. */
static enum lm_status foresee(const struct lm_sweep *s, size_t v, struct total *all,
                              struct lm_str *text, struct lm_err *e)
{
    struct lm_estimate one = { .trials = 0 };
    struct lm_conf *conf;
    char folder[4096], time[32] = "done";
    size_t left = 0;
    bool done[LM_SWEEP_SEEDS];
    for (size_t k = 0; k < s->o->seeds.n; k++) {
        enum lm_status st = lm_sweep_folder(s, v, k, folder, e);
        if (st || (st = lm_job_finished(folder, &done[k], e)))
            return st;
        left += !done[k];
    }
    if (left) {
        enum lm_status st = lm_sweep_conf(s, v, 0, &conf, e);
        if (st || (st = lm_job_foresee(conf, &one, e)))
            return st;
        lm_human_time(time, one.seconds);
    }
    for (size_t k = 0; k < s->o->seeds.n; k++)
        lm_str_add(text, "  %-32s seed %-8lld %s\n", s->variant[v].tag,
                   (long long)s->o->seeds.v[k], done[k] ? "done" : time);
    all->left += left;
    all->seconds += (double)left * one.seconds;
    all->exports += (double)left * one.exports;
    all->programs += (double)left * one.programs;
    all->memory = fmax(all->memory, one.memory);
    all->cache += one.cache;
    return LM_OK;
}

enum lm_status lm_sweep_estimate(struct lm_sweep *s, struct lm_str *text,
                                 struct lm_err *e)
{
    struct total all = { .left = 0 };
    enum lm_status st = check_folders(s, e);
    for (size_t v = 0; v < s->n_variant && !st; v++)
        st = foresee(s, v, &all, text, e);
    if (st)
        return st;
    tell(s, &all, text);
    lm_sweep_note_power(s, text);
    return text->failed ? lm_fail_memory(e, text->n, "the estimate") : LM_OK;
}
