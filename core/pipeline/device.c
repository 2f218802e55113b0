/* SPDX-License-Identifier: Apache-2.0 */
/* device.c -- see device.h. */
#include "pipeline/device.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/process.h"
#include "config/opt.h"
#include "pipeline/host.h"

static const double patience = 20;      /* seconds for the devices of a backend */

/* ---- asking ---------------------------------------------------------------------- */

static void tell_device(struct lm_jsonw *w, const struct lm_device *d)
{
    lm_jsonw_begin(w, '{');
    lm_jsonw_key(w, "name");
    lm_jsonw_string(w, d->name);
    lm_jsonw_key(w, "driver");
    lm_jsonw_string(w, d->driver);
    lm_jsonw_key(w, "memory");
    lm_jsonw_int(w, d->memory);
    lm_jsonw_key(w, "software");
    lm_jsonw_bool(w, d->software);
    lm_jsonw_end(w, '}');
}

enum lm_status lm_devices_tell(const char *backend, struct lm_str *out, struct lm_err *e)
{
    const struct lm_loaded *plugin;
    struct lm_jsonw w = { .to = out };
    struct lm_err why = { 0 };
    enum lm_status st = lm_loader_find(LM_BACKEND, backend, NULL, &plugin, e);
    if (st)
        return st;
    const struct lm_backend *ops = plugin->ops;
    if (!ops->devices)
        return lm_fail(e, LM_EUNSUPPORTED, "backend '%s' does not tell of its devices",
                       backend);
    lm_jsonw_begin(&w, '{');
    lm_jsonw_key(&w, "devices");
    lm_jsonw_begin(&w, '[');
    for (int64_t i = 0; i < LM_MAX_DEVICES && !st; i++) {
        struct lm_device d = { .struct_size = sizeof d };
        if (!(st = ops->devices(lm_host(), i, &d, &why))) {
            d.name[sizeof d.name - 1] = d.driver[sizeof d.driver - 1] = 0;
            tell_device(&w, &d);
        }
    }
    lm_jsonw_end(&w, ']');
    lm_jsonw_key(&w, "why");
    lm_jsonw_string(&w, why.text[0] ? why.text : "it does not say why");
    lm_jsonw_end(&w, '}');
    return LM_OK;
}

/* ---- hearing --------------------------------------------------------------------- */

static bool hear_text(const struct lm_json *object, const char *key, char *out,
                      size_t size)
{
    const char *s = lm_json_api.string(lm_json_api.get(object, key));
    if (s)
        snprintf(out, size, "%s", s);
    return s != NULL;
}

static bool hear_device(const struct lm_json *node, struct lm_device *d)
{
    const struct lm_json *software = lm_json_api.get(node, "software");
    *d = (struct lm_device){ .struct_size = sizeof *d };
    return hear_text(node, "name", d->name, sizeof d->name)
        && hear_text(node, "driver", d->driver, sizeof d->driver)
        && lm_json_api.integer(lm_json_api.get(node, "memory"), &d->memory)
        && lm_json_api.boolean(software, &d->software);
}

static enum lm_status hear(const struct lm_str *text, struct lm_devices *out,
                           struct lm_err *e)
{
    struct lm_json *root;
    struct lm_err why = { 0 };
    if (lm_json_api.parse(text->s ? text->s : "", text->n, "its devices", &root, &why)) {
        snprintf(out->why, sizeof out->why, "%.400s", why.text);
        return why.code == LM_ENOMEM ? lm_fail(e, LM_ENOMEM, "%s", why.text) : LM_OK;
    }
    const struct lm_json *list = lm_json_api.get(root, "devices");
    size_t n = lm_json_api.size(list);
    while (out->n < n && out->n < LM_MAX_DEVICES
           && hear_device(lm_json_api.at(list, out->n), &out->at[out->n]))
        out->n++;
    if (!out->n && !hear_text(root, "why", out->why, sizeof out->why))
        snprintf(out->why, sizeof out->why, "it does not say why");
    lm_json_api.close(root);
    return LM_OK;
}

/* Of a process that did not end as it should: the last line that it wrote. */
static void blame(const struct lm_process_end *end, struct lm_devices *out)
{
    char number[24], text[256];
    if (end->late)
        snprintf(out->why, sizeof out->why, "its driver did not answer for %g s",
                 patience);
    else if (end->signal)
        snprintf(out->why, sizeof out->why, "its driver crashed (%s)",
                 lm_signal_name(end->signal, number));
    else {
        snprintf(text, sizeof text, "%s", end->err.s ? end->err.s : "");
        text[strcspn(text, "\n")] = 0;
        const char *said = strncmp(text, "lamina: ", 8) ? text : text + 8;
        snprintf(out->why, sizeof out->why, "%s", *said ? said : "its driver said "
                 "nothing of use");
    }
}

enum lm_status lm_devices_find(const struct lm_loaded *backend, struct lm_devices *out,
                               struct lm_err *e)
{
    const struct lm_backend *ops = backend->ops;
    const char *const argv[] = { "/proc/self/exe", "devices", backend->module.name,
                                 NULL };
    const struct lm_process p = { .argv = argv, .seconds = patience, .most_out = 1 << 16,
                                  .most_err = 4096, .own = true };
    struct lm_process_end end;
    struct lm_err why = { 0 };
    *out = (struct lm_devices){ .n = 0 };
    if (!ops->devices)
        return LM_OK;
    enum lm_status st = lm_loader_export(e);
    if (st)
        return st;
    st = lm_process_run(&p, &end, &why);
    if (st == LM_ENOMEM || st == LM_ECANCELED)
        lm_fail(e, st, "%s", why.text);
    else if (st)
        snprintf(out->why, sizeof out->why, "%.400s", why.text);
    else if (end.late || end.signal || end.status)
        blame(&end, out);
    else
        st = hear(&end.out, out, e);
    lm_process_free(&end);
    lm_str_tame(out->why, strlen(out->why));
    return st == LM_ENOMEM || st == LM_ECANCELED ? st : LM_OK;
}

#define DRIVER ", driver "

const char *lm_device_text(const struct lm_device *d, char out[LM_DEVICE_TEXT])
{
    char bytes[32] = "";
    if (d->memory > 0)
        lm_human_bytes(bytes, (double)d->memory);
    snprintf(out, LM_DEVICE_TEXT, "%s" DRIVER "%s%s%s%s", d->name,
             d->driver[0] ? d->driver : "unknown", *bytes ? ", " : "", bytes,
             d->software ? " (software)" : "");
    return out;
}

bool lm_device_is(const struct lm_device *d, const char *text)
{
    char name[sizeof d->name + sizeof DRIVER];
    int n = snprintf(name, sizeof name, "%s" DRIVER, d->name);
    return !strncmp(text, name, (size_t)n);
}

/* ---- auto ------------------------------------------------------------------------ */

bool lm_has_option(const struct lm_module *m, const char *name)
{
    const struct lm_opt *o;
    for (size_t i = 0; (o = lm_opt_at(m, i)); i++)
        if (!strcmp(o->name, name))
            return true;
    return false;
}

static enum lm_status try_one(const struct lm_loaded *plugin, bool software,
                              struct lm_auto *out, struct lm_err *e)
{
    struct lm_devices d;
    enum lm_status st = lm_devices_find(plugin, &d, e);
    for (size_t i = 0; i < d.n && !st; i++)
        if (software || !d.at[i].software) {
            snprintf(out->backend, sizeof out->backend, "%s", plugin->module.name);
            out->number = (int64_t)i;
            out->option = lm_has_option(&plugin->module, "device");
            out->device = d.at[i];
            if (i == 0 || out->option)
                return LM_OK;
            out->backend[0] = 0;        /* it cannot be told which */
        }
    return st;
}

enum lm_status lm_auto_find(struct lm_auto *out, struct lm_err *e)
{
    const struct lm_loaded **all, *cpu = NULL;
    size_t n;
    *out = (struct lm_auto){ .number = 0 };
    enum lm_status st = lm_loader_list(&all, &n, e);
    if (st)
        return st;
    for (size_t i = 0; i < n && !st && !out->backend[0]; i++) {
        const struct lm_module *m = &all[i]->module;
        if (m->kind == LM_BACKEND && !strcmp(m->name, "cpu"))
            cpu = all[i];
        else if (m->kind == LM_BACKEND && strcmp(m->name, "reference"))
            st = try_one(all[i], false, out, e);
    }
    if (!st && !out->backend[0] && cpu)
        st = try_one(cpu, true, out, e);
    lm_release(all);
    if (!st && !out->backend[0])
        st = lm_fail(e, LM_EUNAVAILABLE, "no backend has a device here; `lamina list "
                     "backends` says why");
    return st;
}

static enum lm_status find_and_log(struct lm_auto *out, struct lm_err *e)
{
    char text[LM_DEVICE_TEXT];
    enum lm_status st = lm_auto_find(out, e);
    if (!st)
        lm_log(LM_INFO, "backend: auto takes %s, device %lld: %s", out->backend,
               (long long)out->number, lm_device_text(&out->device, text));
    return st;
}

enum lm_status lm_auto_text(const char *text, char out[LM_BACKEND_TEXT], struct lm_err *e)
{
    struct lm_auto found;
    size_t n = strcspn(text, ":");
    if (n != 4 || strncmp(text, "auto", 4)) {
        if (strlen(text) >= LM_BACKEND_TEXT)
            return lm_fail(e, LM_ECONFIG, "--backend: '%.64s...' is too long", text);
        snprintf(out, LM_BACKEND_TEXT, "%s", text);
        return LM_OK;
    }
    if (text[n])
        return lm_fail(e, LM_ECONFIG, "--backend: '%s': options belong to a backend, and "
                       "auto may take another one elsewhere; name the backend", text);
    enum lm_status st = find_and_log(&found, e);
    if (!st && found.option)
        snprintf(out, LM_BACKEND_TEXT, "%s:device=%lld", found.backend,
                 (long long)found.number);
    else if (!st)
        snprintf(out, LM_BACKEND_TEXT, "%s", found.backend);
    return st;
}

enum lm_status lm_auto_conf(struct lm_conf *root, bool *chosen, struct lm_err *e)
{
    struct lm_conf *group = (struct lm_conf *)lm_conf_get(root, "backend");
    const struct lm_conf *use = group ? lm_conf_get(group, "use") : NULL;
    struct lm_auto found;
    char origin[160];
    *chosen = use && use->type == LM_CONF_STRING && !strcmp(use->v.s, "auto");
    if (!*chosen)
        return LM_OK;
    for (size_t i = 0; i < group->n; i++)
        if (strcmp(group->child[i]->key, "use"))
            return lm_conf_fail(e, group->child[i], "backend: option '%s' belongs to a "
                                "backend, and auto may take another one elsewhere; name "
                                "the backend in `use`", group->child[i]->key);
    snprintf(origin, sizeof origin, "%.140s, auto", use->origin ? use->origin : "");
    enum lm_status st = find_and_log(&found, e);
    if (!st)
        st = lm_conf_put(group, "use", found.backend, 0, origin, e);
    if (!st && found.option)
        st = lm_conf_put(group, "device", NULL, found.number, origin, e);
    return st;
}
