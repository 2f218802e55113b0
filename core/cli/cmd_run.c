/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_run.c -- shrink, run, check. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/process.h"
#include "cli/cli.h"
#include "pipeline/job.h"
#include "pipeline/sweep.h"

static enum lm_status show(enum lm_status s, struct lm_str *text, struct lm_err *e)
{
    struct lm_err late = { 0 };
    if (lm_print_str(text, &late) && !s) {
        *e = late;
        s = late.code;
    }
    return s;
}

enum lm_status lm_cmd_run(int argc, char **argv, struct lm_err *e)
{
    struct lm_list set = { 0 }, at;
    const char *resume = NULL;
    bool dry = false, commands = false, help;
    struct lm_str text = { 0 };
    struct lm_conf *conf;
    const struct lm_flag flag[] = {
        { "set", 'l', &set, "PATH=VALUE", "override a value of the pipeline; of a "
            "resumed run one of run.threads, run.workers, run.worker_timeout, "
            "run.memory" },
        { "resume", 's', &resume, "DIR", "go on with the run in a folder" },
        { "dry-run", 'b', &dry, NULL, "estimate trials, time, memory and disk only" },
        LM_FLAG_COMMANDS(&commands) };
    enum lm_status s = lm_flags_parse(argc, argv, flag, 4, &at, 0, 1, &help, e);
    if (s || help)
        return s;
    if (!resume == !at.n)
        return lm_fail(e, LM_ECONFIG, "run: give a pipeline file, or --resume DIR");
    lm_process_allow(commands);
    if (resume && !dry)
        return show(lm_job_resume(resume, set.v, set.n, &text, e), &text, e);
    s = resume ? lm_job_conf(resume, set.v, set.n, &conf, e)
               : lm_conf_read(at.v[0], set.v, set.n, &conf, e);
    if (s)
        return s;
    s = dry ? lm_job_estimate(conf, &text, e) : lm_job_run(conf, false, &text, e);
    return show(s, &text, e);
}

static enum lm_status check_sweep(const char *file, const struct lm_list *set,
                                  bool effective, struct lm_str *text, struct lm_err *e)
{
    struct lm_sweep *sweep;
    enum lm_status s = lm_sweep_open(file, set->v, set->n, &sweep, e);
    if (s)
        return s;
    if (effective)
        s = lm_conf_fail(e, sweep->at, "--effective is of one pipeline, and the sweep has "
                         "%zu", sweep->n_variant);
    else
        lm_str_add(text, "%s: sound (a sweep of %zu variants, %zu runs)\n", file,
                   sweep->n_variant, sweep->n_variant * sweep->o->seeds.n);
    lm_sweep_close(sweep);
    return s;
}

enum lm_status lm_cmd_check(int argc, char **argv, struct lm_err *e)
{
    struct lm_list set = { 0 }, at;
    bool effective = false, help;
    struct lm_conf *conf;
    struct lm_pipeline *p;
    struct lm_str text = { 0 };
    const struct lm_flag flag[] = {
        { "set", 'l', &set, "PATH=VALUE", "override a value of the pipeline" },
        { "effective", 'b', &effective, NULL, "print the pipeline as it would run" } };
    enum lm_status s = lm_flags_parse(argc, argv, flag, 2, &at, 1, 1, &help, e);
    if (s || help || (s = lm_conf_read(at.v[0], set.v, set.n, &conf, e)))
        return s;
    if (lm_conf_get(conf, "sweep")) {
        lm_conf_free(conf);
        return show(check_sweep(at.v[0], &set, effective, &text, e), &text, e);
    }
    if ((s = lm_pipeline_open(conf, &p, e)))
        return s;
    if (effective && !(s = lm_pipeline_complete(p, e)))
        lm_conf_write(p->conf, true, &text);
    else if (!s)
        lm_str_add(&text, "%s: sound (%zu pruners, %zu evaluators, search %s)\n", at.v[0],
                   p->n_prune, p->n_evaluate, p->search.id);
    if (!s && text.failed)
        s = lm_fail_memory(e, text.n, "the pipeline");
    lm_pipeline_close(p);
    return show(s, &text, e);
}

static enum lm_status shrink_goal(struct lm_shrink *o, const char *size,
                                  const char *latency, struct lm_err *e)
{
    if ((o->to >= 0) + (size != NULL) + (latency != NULL) > 1)
        return lm_fail(e, LM_ECONFIG,
                       "shrink: give one of --to, --max-size, --max-latency");
    if (o->to == 0 || o->to > 1)
        return lm_fail(e, LM_ECONFIG,
                       "shrink: --to is the share of body parameters to keep, "
                       "above 0 and at most 1");
    if (size && !lm_parse_size(size, &o->max_bytes))
        return lm_fail(e, LM_ECONFIG,
                       "shrink: --max-size: '%s' is not a size; write 100MB",
                       size);
    if (latency && !lm_parse_ms(latency, &o->max_ms))
        return lm_fail(e, LM_ECONFIG,
                       "shrink: --max-latency: '%s' is not a time; write 20ms",
                       latency);
    if (o->to < 0)                      /* not given */
        o->to = size || latency ? 0 : 0.8;
    return LM_OK;
}

/* A pipeline.cfg may be replaced where an earlier shrink wrote it and its study
 * never began.                                                               */
static enum lm_status may_write(const char *folder, const char *path, const char *text,
                                struct lm_err *e)
{
    char *old;
    size_t n, line = strcspn(text, "\n");
    if (lm_job_begun(folder))
        return lm_fail(e, LM_ECONFIG, "%s: holds a run already; go on with `lamina run "
                       "--resume %s`, or choose another --out", folder, folder);
    if (!lm_file_exists(path))
        return LM_OK;
    enum lm_status s = lm_read_file(path, 1 << 20, &old, &n, e);
    if (s)
        return s;
    if (strncmp(old, text, line))
        s = lm_fail(e, LM_ECONFIG,
                    "%s: is not what `lamina shrink` wrote; choose another "
                    "--out", path);
    lm_release(old);
    return s;
}

/* The pipeline shrink runs is a file the user can keep and change. */
static enum lm_status shrink_run(const struct lm_shrink *o, struct lm_err *e)
{
    struct lm_str file = { 0 }, text = { 0 };
    struct lm_conf *conf;
    char path[4096];
    enum lm_status s = lm_shrink_text(o, &file, e);
    if (!s && !lm_path_join(path, sizeof path, o->out, "pipeline.cfg"))
        s = lm_fail(e, LM_ECONFIG, "%s: path too long", o->out);
    if (!s)
        s = lm_make_folder(o->out, e);
    if (!s)
        s = may_write(o->out, path, file.s, e);
    if (!s)
        s = lm_write_file(path, file.s, file.n, e);
    if (!s)
        s = lm_print(file.s, file.n, e);
    if (!s)
        s = lm_conf_read(path, NULL, 0, &conf, e);
    if (!s)
        s = show(lm_job_run(conf, false, &text, e), &text, e);
    if (!s)
        printf("\npipeline  %s\nreport    %s/report.html\nexports   %s/export/\n", path,
               o->out, o->out);
    lm_str_free(&file);
    return s;
}

enum lm_status lm_cmd_shrink(int argc, char **argv, struct lm_err *e)
{
    struct lm_shrink o = { .out = "./lamina-out", .seed = 1, .to = -1 };
    struct lm_list at;
    const char *size = NULL, *latency = NULL;
    struct lm_str text = { 0 };
    bool dry = false, help;
    const struct lm_flag flag[] = {
        { "to", 'r', &o.to, "SHARE", "share of body parameters to keep (default 0.8)" },
        { "max-size", 's', &size, "SIZE", "largest exported file, as 100MB" },
        { "max-latency", 's', &latency, "TIME",
            "slowest token at decode=64@512, as 20ms" },
        { "text", 's', &o.text, "FILE",
            "text like what the model will see, 500 KB or more" },
        { "out", 's', &o.out, "DIR", "run folder (default ./lamina-out)" },
        { "seed", 'i', &o.seed, "N", "seed of the search (default 1)" },
        { "threads", 'i', &o.threads, "N", "worker threads (default: one for each CPU)" },
        { "minutes", 'r', &o.minutes, "N", "how long it may take, about (default 6)" },
        { "dry-run", 'b', &dry, NULL, "print the pipeline only" } };
    enum lm_status s = lm_flags_parse(argc, argv, flag, 9, &at, 1, 1, &help, e);
    if (s || help)
        return s;
    o.model = at.v[0];
    if ((s = shrink_goal(&o, size, latency, e)))
        return s;
    return dry ? show(lm_shrink_text(&o, &text, e), &text, e) : shrink_run(&o, e);
}
