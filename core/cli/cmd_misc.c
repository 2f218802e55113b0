/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_misc.c -- list and what it asks backends with, cache. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "loader/loader.h"
#include "pipeline/device.h"

enum lm_status lm_cmd_devices(int argc, char **argv, struct lm_err *e)
{
    struct lm_str out = { 0 };
    if (argc != 2)
        return lm_fail(e, LM_ECONFIG, "devices: is asked by `lamina list`, not by hand");
    enum lm_status s = lm_devices_tell(argv[1], &out, e);
    if (!s)
        return lm_print_str(&out, e);
    lm_str_free(&out);
    return s;
}

/* Below a backend: its devices, or why it has none. */
static enum lm_status list_devices(const struct lm_loaded *backend, struct lm_str *out,
                                   struct lm_err *e)
{
    struct lm_devices d;
    char text[LM_DEVICE_TEXT];
    enum lm_status s = lm_devices_find(backend, &d, e);
    for (size_t i = 0; i < d.n && !s; i++)
        lm_str_add(out, "      %zu: %s\n", i, lm_device_text(&d.at[i], text));
    if (!s && !d.n && d.why[0])
        lm_str_add(out, "      %s\n", d.why);
    return s;
}

enum lm_status lm_cmd_list(int argc, char **argv, struct lm_err *e)
{
    struct lm_list at;
    const struct lm_loaded **all;
    size_t n;
    bool names = false, help;
    uint32_t kind = 0, last = 0;
    struct lm_str out = { 0 };
    const struct lm_flag flag[] = {
        { "names", 'b', &names, NULL, "names alone, without asking for devices" } };
    enum lm_status s = lm_flags_parse(argc, argv, flag, 1, &at, 0, 1, &help, e);
    if (s || help)
        return s;
    for (uint32_t k = 1; at.n && k < LM_N_KINDS; k++) {
        size_t len = strlen(lm_kind_name(k));
        if (!strncmp(at.v[0], lm_kind_name(k), len) &&      /* plurals too */
            (!at.v[0][len] || !strcmp(at.v[0] + len, "s") || !strcmp(at.v[0] + len,
                                                                     "es")))
            kind = k;
    }
    if (at.n && !kind)
        return lm_fail(e, LM_ECONFIG,
                       "list: no kind '%s'; there are search pruner scorer "
                       "repair quantizer tuner evaluator backend format reporter",
                           at.v[0]);
    if ((s = lm_loader_list(&all, &n, e)))
        return s;
    for (size_t i = 0; i < n && !s; i++) {
        const struct lm_module *m = &all[i]->module;
        if (kind && m->kind != kind)
            continue;
        if (names) {
            lm_str_add(&out, "%s\n", m->name);
            continue;
        }
        if (m->kind != last)
            lm_str_add(&out, "%s%s\n", last ? "\n" : "", lm_kind_name(m->kind));
        last = m->kind;
        lm_str_add(&out, "  %-16s %s\n", m->name, m->summary ? m->summary : "");
        if (kind == LM_BACKEND)         /* drivers take their time */
            s = list_devices(all[i], &out, e);
    }
    lm_release(all);
    if (!s)
        return lm_print_str(&out, e);
    lm_str_free(&out);
    return s;
}

/* Files of the cache: statistics (*.stats) that runs left for the next ones,
 * downloads of the scripts, and the model that a command of `eval` looks at.  */
static enum lm_status walk(const char *folder, bool clear, struct lm_str *out,
                           double *bytes, size_t *count, struct lm_err *e)
{
    char **names, path[4096];
    size_t n;
    enum lm_status s = lm_list_folder(folder, &names, &n, e);
    if (s)
        return s;
    for (size_t i = 0; !s && i < n; i++) {
        char size[32];
        if (!lm_path_join(path, sizeof path, folder, names[i]))
            continue;
        if (lm_is_folder(path) && !lm_is_link(path))
            s = walk(path, clear, out, bytes, count, e);
        else if (!clear || !(s = lm_remove_file(path, e))) {
            double b = clear ? 0 : (double)lm_file_size(path);
            if (!clear)
                lm_str_add(out, "%10s  %s\n", lm_human_bytes(size, b), path);
            *bytes += b;
            ++*count;
        }
    }
    lm_free_names(names, n);
    return s;
}

enum lm_status lm_cmd_cache(int argc, char **argv, struct lm_err *e)
{
    struct lm_list at;
    bool help;
    char folder[4096], size[32];
    struct lm_str out = { 0 };
    double bytes = 0;
    size_t count = 0;
    enum lm_status s = lm_flags_parse(argc, argv, NULL, 0, &at, 1, 1, &help, e);
    if (s || help)
        return s;
    bool clear = !strcmp(at.v[0], "clear");
    if (!clear && strcmp(at.v[0], "list"))
        return lm_fail(e, LM_ECONFIG, "cache: '%s' is neither list nor clear", at.v[0]);
    if ((s = lm_cache_folder(folder, sizeof folder, e)))
        return s;
    if (lm_is_folder(folder) && (s = walk(folder, clear, &out, &bytes, &count, e))) {
        lm_str_free(&out);
        return s;
    }
    if (clear)
        lm_str_add(&out, "removed %zu files from %s\n", count, folder);
    else
        lm_str_add(&out, "%10s  in all, %zu files in %s\n", lm_human_bytes(size, bytes),
                   count, folder);
    return lm_print_str(&out, e);
}
