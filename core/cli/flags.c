/* SPDX-License-Identifier: Apache-2.0 */
/* flags.c -- command-line options from a table. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static bool number_unit(const char *text, double *v, const char **unit)
{
    char *end;
    errno = 0;
    *v = strtod(text, &end);
    if (end == text || errno || !isfinite(*v) || *v <= 0)
        return false;
    while (*end == ' ')
        end++;
    *unit = end;
    return true;
}

bool lm_parse_size(const char *text, double *bytes)
{
    static const struct { const char *name; double factor; } unit[] = {
        { "", 1 }, { "B", 1 }, { "kB", 1e3 }, { "KB", 1e3 }, { "MB", 1e6 }, { "GB", 1e9 },
        { "k", 1e3 }, { "M", 1e6 }, { "G", 1e9 },
        { "KiB", 1024 }, { "MiB", 1048576 }, { "GiB", 1073741824 } };
    const char *u;
    if (!number_unit(text, bytes, &u))
        return false;
    for (size_t i = 0; i < sizeof unit / sizeof *unit; i++)
        if (!strcmp(u, unit[i].name)) {
            *bytes *= unit[i].factor;
            return true;
        }
    return false;
}

bool lm_parse_ms(const char *text, double *ms)
{
    const char *u;
    if (!number_unit(text, ms, &u))
        return false;
    if (!strcmp(u, "s"))
        *ms *= 1e3;
    else if (!strcmp(u, "us"))
        *ms *= 1e-3;
    else if (*u && strcmp(u, "ms"))
        return false;
    return true;
}

static enum lm_status set(const struct lm_flag *f, const char *v, struct lm_err *e)
{
    char *end;
    errno = 0;
    switch (f->type) {
    case 's':
        *(const char **)f->to = v;
        return LM_OK;
    case 'l': {
        struct lm_list *l = f->to;
        if (l->n == LM_MAX_LIST)
            return lm_fail(e, LM_ECONFIG, "--%s: more than %d times", f->name,
                           LM_MAX_LIST);
        l->v[l->n++] = v;
        return LM_OK;
    }
    case 'i': {
        long long i = strtoll(v, &end, 10);
        if (end == v || *end || errno || i < 0 ||
            (i > INT32_MAX && strcmp(f->name, "seed")))
            return lm_fail(e, LM_ECONFIG, "--%s: '%s' is not a whole number", f->name, v);
        *(int64_t *)f->to = i;
        return LM_OK;
    }
    default: {
        double r = strtod(v, &end);
        if (end == v || *end || errno || !isfinite(r) || r < 0)
            return lm_fail(e, LM_ECONFIG, "--%s: '%s' is not a number of at least 0",
                           f->name, v);
        *(double *)f->to = r;
        return LM_OK;
    }
    }
}

static const struct lm_flag *find(const char *name, size_t n, const struct lm_flag *flag,
                                  size_t n_flag, struct lm_err *e)
{
    const char *names[32];
    char word[64];
    for (size_t i = 0; i < n_flag; i++) {
        if (strlen(flag[i].name) == n && !memcmp(flag[i].name, name, n))
            return &flag[i];
        names[i] = flag[i].name;
    }
    snprintf(word, sizeof word, "%.*s", (int)n, name);
    const char *near = lm_nearest(word, names, n_flag);
    lm_fail(e, LM_ECONFIG, "unknown option '--%s'%s%s%s", word,
            near ? "; did you mean '--" : "", near ? near : "", near ? "'?" : "");
    return NULL;
}

/* While see is set, --help shows the options to it and prints nothing. */
static struct { lm_flags_see *see; void *ctx; } watcher;

enum lm_status lm_command_flags(const struct lm_command *c, lm_flags_see *see, void *ctx,
                                struct lm_err *e)
{
    char help[] = "--help", name[32] = "";
    char *args[] = { name, help };
    strncat(name, c->name, sizeof name - 1);
    watcher.see = see;
    watcher.ctx = ctx;
    enum lm_status s = c->run(2, args, e);
    watcher.see = NULL;
    return s;
}

static void print_help(const char *name, const struct lm_flag *flag, size_t n)
{
    for (const struct lm_command *c = lm_commands; c->name; c++)
        if (!strcmp(c->name, name))
            printf("usage: lamina %s %s\n\n%s\n\n", c->name, c->usage, c->summary);
    for (size_t i = 0; i < n; i++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", flag[i].name, flag[i].value ? " " : "",
                 flag[i].value ? flag[i].value : "");
        printf("  %-28s %s\n", left, flag[i].help);
    }
}

enum lm_status lm_flags_parse(int argc, char **argv, const struct lm_flag *flag,
                              size_t n_flag, struct lm_list *position, size_t min,
                              size_t max, bool *help, struct lm_err *e)
{
    bool only = false;
    *help = false;
    position->n = 0;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (only || a[0] != '-' || a[1] != '-') {
            if (position->n == max || position->n == LM_MAX_LIST)
                return lm_fail(e, LM_ECONFIG, "%s: unexpected argument '%s'", argv[0], a);
            position->v[position->n++] = a;
            continue;
        }
        if (!strcmp(a, "--")) {
            only = true;
            continue;
        }
        if (!strcmp(a, "--help")) {
            if (watcher.see)
                watcher.see(watcher.ctx, flag, n_flag);
            else
                print_help(argv[0], flag, n_flag);
            *help = true;
            return LM_OK;
        }
        const char *eq = strchr(a, '=');
        size_t n = eq ? (size_t)(eq - a - 2) : strlen(a + 2);
        const struct lm_flag *f = find(a + 2, n, flag, n_flag, e);
        if (!f)
            return LM_ECONFIG;
        if (f->type == 'b') {
            if (eq)
                return lm_fail(e, LM_ECONFIG, "--%s takes no value", f->name);
            *(bool *)f->to = true;
            continue;
        }
        if (!eq && i + 1 == argc)
            return lm_fail(e, LM_ECONFIG, "--%s needs a value (%s)", f->name, f->value);
        enum lm_status s = set(f, eq ? eq + 1 : argv[++i], e);
        if (s)
            return s;
    }
    if (position->n < min)
        return lm_fail(e, LM_ECONFIG, "%s: too few arguments; see `lamina help %s`",
                       argv[0], argv[0]);
    return LM_OK;
}
