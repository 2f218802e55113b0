/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_misc.c -- list, cache. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "loader/loader.h"

enum lm_status lm_cmd_list(int argc, char **argv, struct lm_err *e)
{
    struct lm_list at;
    const struct lm_loaded **all;
    size_t n;
    bool help;
    uint32_t kind = 0, last = 0;
    struct lm_str out = { 0 };
    enum lm_status s = lm_flags_parse(argc, argv, NULL, 0, &at, 0, 1, &help, e);
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
    for (size_t i = 0; i < n; i++) {
        const struct lm_module *m = &all[i]->module;
        if (kind && m->kind != kind)
            continue;
        if (m->kind != last)
            lm_str_add(&out, "%s%s\n", last ? "\n" : "", lm_kind_name(m->kind));
        last = m->kind;
        lm_str_add(&out, "  %-16s %s\n", m->name, m->summary ? m->summary : "");
    }
    lm_release(all);
    return lm_print_str(&out, e);
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
