/* SPDX-License-Identifier: Apache-2.0 */
/* commands.c -- see commands.h.
 *
 * RUN/commands holds INSTANCE-PLAN.txt for each call (what was run, how it
 * ended, what it printed, bounded) and, while it is looked at, the file of one
 * candidate.  Commands without a run folder keep nothing; the candidate's file
 * then is in the cache folder.                                              */
#include "pipeline/commands.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/process.h"
#include "model/codec.h"
#include "pipeline/quantize.h"
#include "pipeline/session.h"

enum { KEEP_OUT = 64 << 10, KEEP_ERR = 64 << 10 };      /* bytes in a log */

enum lm_status lm_commands_check(const struct lm_stage *stage, size_t n, struct lm_err *e)
{
    for (size_t i = 0; i < n && !lm_process_allowed(); i++) {
        const struct lm_evaluator *ops = stage[i].plugin->ops;
        if (ops->needs & LM_NEEDS_COMMANDS)
            return lm_conf_fail(e, stage[i].at, "evaluator '%s' runs a program on this "
                                "machine; if you trust it, say --allow-commands",
                                stage[i].id);
    }
    return LM_OK;
}

/* ---- candidates' files ------------------------------------------------------------ */

static enum lm_status open_format(struct lm_stage *s, const char *format, uint32_t dtype,
                                  struct lm_run *run, struct lm_limits *limits,
                                  struct lm_err *e)
{
    enum lm_status st = lm_stage_open(s, LM_FORMAT, NULL, format, NULL, "format", run, e);
    if (st || (st = lm_stage_create(s, NULL, NULL, e)))
        return st;
    const struct lm_format *ops = s->plugin->ops;
    const struct lm_codec *c = lm_codec(dtype);
    if (!c || !c->encode || !(ops->dtypes & LM_BIT(dtype)))
        return lm_fail(e, LM_ECONFIG, "format '%s' cannot write %s", format,
                       c ? c->name : "this number format");
    *limits = (struct lm_limits){ .struct_size = sizeof *limits };
    return ops->limits(s->self, NULL, dtype, limits, e);
}

static enum lm_status add_offer(struct lm_pipeline *p, const struct lm_stage *by,
                                struct lm_err *e)
{
    const struct lm_evaluator *ops = by->plugin->ops;
    struct lm_offer_stage *o = &p->offer[p->n_offer];
    struct lm_stage format = { 0 };
    if (!ops->exports)
        return LM_OK;
    *o = (struct lm_offer_stage){ .by = by };
    ops->exports(by->opt.config, &o->format, &o->dtype);
    if (!o->dtype)
        o->dtype = lm_pipeline_dtype(p);
    enum lm_status st = open_format(&format, o->format, o->dtype, p->run, &o->limits, e);
    if (st && st != LM_ENOMEM)
        lm_err_prefix(e, "%s: error: evaluator '%s': ",
                      by->at ? by->at->origin : "default", by->id);
    if (format.plugin)
        lm_stage_close(&format);
    p->n_offer++;
    return st;
}

enum lm_status lm_commands_offers(struct lm_pipeline *p, struct lm_err *e)
{
    enum lm_status st = LM_OK;
    for (size_t i = 0; !st && i < p->n_evaluate; i++)
        st = add_offer(p, &p->evaluate[i], e);
    for (size_t i = 0; !st && i < p->n_final; i++)
        st = add_offer(p, &p->final[i], e);
    return st;
}

static const char prefix[] = "model-";  /* of candidates' files */

enum lm_status lm_commands_tidy(const char *folder, struct lm_err *e)
{
    char at[4096], path[4200], **name;
    size_t n;
    if (!lm_path_join(at, sizeof at, folder, "commands") || !lm_is_folder(at))
        return LM_OK;
    enum lm_status st = lm_list_folder(at, &name, &n, e);
    if (st)
        return st;
    for (size_t i = 0; !st && i < n; i++)
        if (!strncmp(name[i], prefix, sizeof prefix - 1) &&
            lm_path_join(path, sizeof path, at, name[i]))
            st = lm_remove_tree(path, e);
    lm_free_names(name, n);
    return st;
}

/* RUN/commands, or the cache folder where there is no run. */
static enum lm_status work_folder(const struct lm_run *r, char *out, size_t size,
                                  struct lm_err *e)
{
    const char *run = lm_run_folder(r);
    enum lm_status st = LM_OK;
    if (!run)
        st = lm_cache_folder(out, size, e);
    else if (!lm_path_join(out, size, run, "commands"))
        st = lm_fail(e, LM_ECONFIG, "%s: path too long", run);
    return st ? st : lm_make_folder(out, e);
}

static enum lm_status write_model(struct lm_bench *b, const struct lm_candidate *c,
                                  struct lm_stage *format, uint64_t features,
                                  uint32_t dtype, const char *path, struct lm_err *e)
{
    const struct lm_format *ops = format->plugin->ops;
    struct lm_model *m = NULL;
    struct lm_str card = { 0 };
    lm_str_add(&card, "A candidate of Lamina, made from %s.\n\n```\n",
               lm_model_source(b->model));
    lm_plan_text(c->plan, &card);
    lm_str_add(&card, "```\n");
    enum lm_status st = card.failed ? lm_fail_memory(e, card.n, "a model card")
                                    : lm_apply(b->workshop, c, &m, e);
    uint32_t *own = NULL;
    if (!st)
        st = lm_quantize_export(c->plan, format->plugin->module.name, features, dtype,
                                &own, e);
    struct lm_export x = { .struct_size = sizeof x, .path = path, .dtype = dtype,
                           .card = card.s, .parent = b->model, .own = own };
    if (!st)
        st = ops->write(format->self, m, &x, e);
    lm_release(own);
    lm_model_free(m);
    lm_str_free(&card);
    return st;
}

enum lm_status lm_commands_write(void *ctx, const struct lm_candidate *c,
                                 const char *format, uint32_t dtype, char *out,
                                 size_t size, struct lm_err *e)
{
    struct lm_bench *b = ctx;
    struct lm_stage stage = { 0 };
    struct lm_limits limits;
    char folder[4096];
    enum lm_status st = work_folder(b->backend->run, folder, sizeof folder, e);
    if (!st)
        st = open_format(&stage, format, dtype, b->backend->run, &limits, e);
    if (!st && (lm_plan_features(c->plan) & ~limits.features))
        st = lm_fail(e, LM_EUNSUPPORTED, "format '%s' cannot write a model whose layers "
                     "differ like this", format);
    if (!st) {
        const struct lm_format *ops = stage.plugin->ops;
        int n = snprintf(out, size, "%s/%s%ld-%016" PRIx64 "-%s%s", folder, prefix,
                         (long)getpid(), lm_plan_hash(c->plan), lm_codec(dtype)->name,
                         ops->suffix ? ops->suffix : "");
        st = n < 0 || (size_t)n >= size ? lm_fail(e, LM_EIO, "%s: path too long", folder)
            : write_model(b, c, &stage, limits.features, dtype, out, e);
    }
    if (stage.plugin)
        lm_stage_close(&stage);
    return st;
}

/* ---- calls ------------------------------------------------------------------------- */

/* The last line of text that says something, cut to fit a message. */
static void last_line(const struct lm_str *t, char *out, size_t size)
{
    size_t end = t->n, from;
    while (end && strchr(" \t\r\n", t->s[end - 1]))
        end--;
    for (from = end; from && t->s[from - 1] != '\n'; from--)
        ;
    if (end - from >= size)
        end = from + size - 1;
    snprintf(out, size, "%.*s", (int)(end - from), t->s ? t->s + from : "");
}

static enum lm_status verdict(const struct lm_call *c, const struct lm_process_end *end,
                              struct lm_err *e)
{
    char why[300], size[32];
    const char *name = c->argv[0];
    last_line(&end->err, why, sizeof why);
    const char *colon = *why ? ": " : "";
    if (end->wordy)
        return lm_fail(e, LM_EFAILED, "'%s' wrote more than %s to standard output and "
                       "was stopped", name, lm_human_bytes(size, (double)c->most));
    if (end->late)
        return lm_fail(e, LM_EFAILED, "'%s' was not done after %g s and was stopped%s%s",
                       name, c->seconds, colon, why);
    if (end->signal)
        return lm_fail(e, LM_EFAILED, "'%s' was killed by signal %d%s%s", name,
                       end->signal, colon, why);
    if (end->status)
        return lm_fail(e, LM_EFAILED, "'%s' ended with status %d%s%s", name, end->status,
                       colon, why);
    return LM_OK;
}

static enum lm_status keep_log(struct lm_run *r, const struct lm_call *c,
                               const struct lm_process_end *end, struct lm_err *e)
{
    char folder[4096], path[4200];
    struct lm_str t = { 0 };
    if (!c->log || !lm_run_folder(r))
        return LM_OK;
    enum lm_status st = work_folder(r, folder, sizeof folder, e);
    if (st)
        return st;
    if (strchr(c->log, '/') || !lm_path_join(path, sizeof path, folder, c->log))
        return lm_fail(e, LM_EBUG, "'%s' is no name for a log", c->log);
    for (size_t i = 0; c->argv[i]; i++)
        lm_str_add(&t, "argument %zu: %s\n", i, c->argv[i]);
    lm_str_add(&t, "status %d, signal %d%s%s, %.3f s\n", end->status, end->signal,
               end->late ? ", stopped at the time limit" : "",
               end->wordy ? ", stopped: too much output" : "", end->seconds);
    lm_str_add(&t, "---- standard output: %zu bytes%s\n", end->out.n,
               end->out.n > KEEP_OUT ? ", the first of them" : "");
    lm_str_put(&t, end->out.s, end->out.n > KEEP_OUT ? KEEP_OUT : end->out.n);
    size_t skip = end->err.n > KEEP_ERR ? end->err.n - KEEP_ERR : 0;
    lm_str_add(&t, "%s---- standard error%s\n",
               t.n && t.s[t.n - 1] != '\n' ? "\n" : "", skip ? ", the last of it" : "");
    lm_str_put(&t, end->err.s ? end->err.s + skip : "", end->err.n - skip);
    st = t.failed ? lm_fail_memory(e, t.n, "a log") : lm_write_file(path, t.s, t.n, e);
    lm_str_free(&t);
    return st;
}

enum lm_status lm_commands_call(struct lm_run *r, const struct lm_call *c, char **out,
                                size_t *n, struct lm_err *e)
{
    struct lm_process_end end;
    struct lm_process p = { .argv = c->argv, .seconds = c->seconds, .most_out = c->most,
                            .most_err = KEEP_ERR };
    if (!c->argv || !c->argv[0] || !(c->seconds > 0))
        return lm_fail(e, LM_EBUG, "a call without a program or a time limit");
    enum lm_status st = lm_process_run(&p, &end, e);
    if (!st)
        st = keep_log(r, c, &end, e);
    if (!st)
        st = verdict(c, &end, e);
    if (!st && !end.out.s)
        lm_str_put(&end.out, "", 0);
    if (!st && end.out.failed)
        st = lm_fail_memory(e, 1, "the output of a command");
    if (!st) {
        *out = end.out.s;
        *n = end.out.n;
        end.out = (struct lm_str){ 0 };
    }
    lm_process_free(&end);
    return st;
}
