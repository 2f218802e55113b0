/* SPDX-License-Identifier: Apache-2.0 */
/* convert.c -- see convert.h.
 *
 * The model is written beside `out` under another name, read back, and moved.
 * A folder that is replaced must look like a model's (config.json, no folders in
 * it): --force with a wrong path shall not remove anything else.  The input is
 * mapped while it is written from, so it must not lie in what is replaced.     */
#include "pipeline/convert.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "pipeline/pipeline.h"
#include "pipeline/session.h"

enum { PATH = 4096 };

struct paths { char out[PATH], fresh[PATH], old[PATH]; };     /* old: see file.h */

/* Where `out` is written first: beside it, so that it can be moved. */
static enum lm_status name_paths(struct paths *p, const struct lm_convert *c,
                                 const char *suffix, struct lm_err *e)
{
    size_t n = strlen(c->out);
    while (n > 1 && c->out[n - 1] == '/')
        n--;
    if (!n || n > PATH - 64)
        return lm_fail(e, LM_ECONFIG, "OUT has %s", n ? "too long a path" : "no name");
    snprintf(p->out, sizeof p->out, "%.*s", (int)n, c->out);
    snprintf(p->fresh, sizeof p->fresh, "%.*s.partial%s", (int)n, c->out, suffix);
    snprintf(p->old, sizeof p->old, "%.*s.partial.old", (int)n, c->out);
    return LM_OK;
}

static bool writes_folder(const struct lm_format *f)
{
    return !f->suffix || !*f->suffix;
}

/* Is `in` the output, or does it lie in it? */
static bool within(const char *in, const char *out)
{
    char a[PATH_MAX], b[PATH_MAX];
    if (!realpath(in, a) || !realpath(out, b))
        return false;
    size_t n = strlen(b);
    return !strncmp(a, b, n) && (!a[n] || a[n] == '/');
}

enum lm_status lm_may_replace(const char *in, const char *out,
                              const struct lm_format *format, bool force,
                              struct lm_err *e)
{
    char config[PATH + 16];
    bool folder = writes_folder(format);
    if (!lm_file_exists(out) && !lm_is_link(out))
        return LM_OK;
    if (within(in, out))
        return lm_fail(e, LM_ECONFIG, "%s: would overwrite the model that is read; "
                       "choose another OUT", out);
    if (lm_is_folder(out) != folder)
        return lm_fail(e, LM_ECONFIG, "%s: is %s, but the format writes %s; choose "
                       "another OUT", out, folder ? "no folder" : "a folder",
                       folder ? "a folder" : "a file");
    if (folder && lm_folder_is_empty(out))
        return LM_OK;
    if (!force)
        return lm_fail(e, LM_ECONFIG, "%s: exists; --force replaces it", out);
    if (folder && (!lm_path_join(config, sizeof config, out, "config.json")
                   || !lm_file_exists(config)))
        return lm_fail(e, LM_ECONFIG, "%s: has no config.json, so it is no model that "
                       "--force may replace", out);
    return LM_OK;
}

static enum lm_status check_format(const struct lm_stage *f, uint32_t dtype,
                                   struct lm_err *e)
{
    const struct lm_format *ops = f->plugin->ops;
    char list[128] = "";
    size_t used = 0;
    for (uint32_t i = 0; lm_dtype_names[i] && used < sizeof list; i++)
        if (ops->dtypes & LM_BIT(i + 1))
            used += (size_t)snprintf(list + used, sizeof list - used, " %s",
                                     lm_dtype_names[i]);
    if (!dtype || (ops->dtypes & LM_BIT(dtype)))
        return LM_OK;
    return lm_fail(e, LM_ECONFIG, "format %s cannot write %s; it writes%s",
                   f->plugin->module.name, lm_dtype_names[dtype - 1], list);
}

static enum lm_status write_model(struct lm_stage *f, const struct lm_model *m,
                                  const struct lm_export *x, struct lm_err *e)
{
    const struct lm_format *ops = f->plugin->ops;
    lm_progress_begin("converting");
    enum lm_status s = ops->write(f->self, m, x, e);
    lm_progress_end();
    if (s)
        lm_stage_fail(f, e);
    if (s == LM_EUNSUPPORTED)           /* what was asked for, not the model */
        return e->code = LM_ECONFIG;
    return s ? s : lm_read_back(x->path, f->plugin->module.name, m, f->run, e);
}

static enum lm_status write_folder(struct lm_stage *f, const struct lm_model *m,
                                   const struct lm_convert *c, const struct paths *p,
                                   struct lm_err *e)
{
    struct lm_err ignored = { 0 };
    struct lm_export x = { .struct_size = sizeof x, .path = p->fresh,
                           .dtype = c->dtype, .parent = m };
    enum lm_status s = LM_OK;
    if (lm_file_exists(p->fresh))       /* of a conversion that was killed */
        s = lm_remove_folder(p->fresh, e);
    if (!s && lm_file_exists(p->old))
        s = lm_remove_folder(p->old, e);
    if (!s)
        s = write_model(f, m, &x, e);
    if (!s)
        s = lm_move_folder(p->fresh, p->out, e);
    if (s && lm_file_exists(p->fresh))
        lm_remove_folder(p->fresh, &ignored);
    return s;
}

static enum lm_status write_file(struct lm_stage *f, const struct lm_model *m,
                                 const struct lm_convert *c, const struct paths *p,
                                 struct lm_err *e)
{
    struct lm_err ignored = { 0 };
    struct lm_export x = { .struct_size = sizeof x, .path = p->fresh,
                           .dtype = c->dtype, .parent = m };
    enum lm_status s = write_model(f, m, &x, e);
    if (!s)
        s = lm_move_file(p->fresh, p->out, e);
    if (s && lm_file_exists(p->fresh))
        lm_remove_file(p->fresh, &ignored);
    return s;
}

enum lm_status lm_convert(const struct lm_convert *c, struct lm_run *run,
                          struct lm_err *e)
{
    struct lm_stage f = { 0 };
    struct lm_conf *group = NULL;
    struct lm_model *m = NULL;
    struct paths p;
    enum lm_status s = lm_stage_text(&f, LM_FORMAT, c->format, &group, run, e);
    if (s || (s = lm_stage_create(&f, NULL, NULL, e)) ||
        (s = check_format(&f, c->dtype, e)))
        goto out;
    const struct lm_format *ops = f.plugin->ops;
    bool folder = writes_folder(ops);
    if ((s = name_paths(&p, c, folder ? "" : ops->suffix, e)) ||
        (s = lm_may_replace(c->in, p.out, ops, c->force, e)) ||
        (s = lm_load_model(c->in, NULL, run, &m, e)))
        goto out;
    s = folder ? write_folder(&f, m, c, &p, e) : write_file(&f, m, c, &p, e);
out:
    lm_model_free(m);
    lm_stage_close(&f);
    lm_conf_free(group);
    return s;
}
