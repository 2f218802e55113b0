/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_options.c -- do an instance's options behave?  Defaults pass the
 * plugin's check(), what lies outside of a declared range is refused, what lies
 * on its bounds is taken or refused with a reason.                          */
#include "pipeline/selftest_options.h"

#include <math.h>
#include <stdio.h>
#include <string.h>


enum { MAX_SETS = 32 };

/* "a=1,b=2" has an option of this name. */
static bool given(const char *options, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = options; *p; p += p[0] == ',') {
        if (!strncmp(p, name, n) && p[n] == '=')
            return true;
        p += lm_options_part(p);
    }
    return false;
}

/* What stands for a required option; NULL: only its user can know. */
static const char *guess(const struct lm_kit *k, const struct lm_opt *o, char *out,
                         size_t n)
{
    switch (o->type) {
    case LM_OPT_TEXT:
        return "\"selftest\"";
    case LM_OPT_PLUGINS:
        return k->plugin->module.kind != LM_SEARCH ? NULL
            : o->max == 1 ? "( { use = \"random\"; budget = 60; } )"
            : "( { use = \"random\"; budget = 60; }, { use = \"random\"; budget = 60; } )";
    case LM_OPT_BOOL:
        return "true";
    case LM_OPT_CHOICE:
        snprintf(out, n, "\"%s\"", o->choices[0]);
        return out;
    case LM_OPT_INT: case LM_OPT_INTS:
        snprintf(out, n, "%lldL", o->min || o->max ? (long long)o->min : 1LL);
        return out;
    case LM_OPT_REAL: case LM_OPT_REALS:
        snprintf(out, n, "%.17g", o->min || o->max ? o->min : 1);
        return out;
    default:
        return NULL;
    }
}

static enum lm_status write_group(struct lm_kit *k, const char *skip, struct lm_str *text)
{
    const struct lm_opt *o;
    char buffer[96];
    lm_str_add(text, "lamina = 1;\nselftest: {\n");
    for (size_t i = 0; (o = lm_opt_at(&k->plugin->module, i)); i++) {
        if (!(o->flags & LM_REQUIRED) || given(k->options, o->name) ||
            (skip && !strcmp(skip, o->name)))
            continue;
        const char *v = guess(k, o, buffer, sizeof buffer);
        if (!v)
            return lm_fail(k->e, LM_EUNAVAILABLE, "its option '%s' must be given: "
                           "lamina selftest %s:%s=VALUE", o->name, k->plugin->module.name,
                           o->name);
        lm_str_add(text, "  %s = %s;\n", o->name, v);
    }
    lm_str_add(text, "};\n");
    return text->failed ? lm_fail_memory(k->e, 256, "options") : LM_OK;
}

/* The user's options, and name=value, as --set of the group. */
static enum lm_status list_sets(struct lm_kit *k, const char *name, const char *value,
                                char set[MAX_SETS][512], const char **at, size_t *n)
{
    *n = 0;
    for (const char *p = k->options; *p; ) {
        size_t len = lm_options_part(p);
        if (*n + 1 == MAX_SETS || len > 480)
            return lm_fail(k->e, LM_ECONFIG, "the options are too many or too long");
        snprintf(set[*n], sizeof set[0], "selftest.%.*s", (int)len, p);
        at[*n] = set[*n];
        ++*n;
        p += len + (p[len] == ',');
    }
    if (name) {
        snprintf(set[*n], sizeof set[0], "selftest.%s=%s", name, value);
        at[*n] = set[*n];
        ++*n;
    }
    return LM_OK;
}

enum lm_status lm_selftest_fill(struct lm_kit *k, const char *name, const char *value,
                                struct lm_conf **conf, struct lm_stage *stage)
{
    char set[MAX_SETS][512];
    const char *at[MAX_SETS];
    size_t n;
    struct lm_str text = { 0 };
    *conf = NULL;
    *stage = (struct lm_stage){ 0 };
    enum lm_status s = write_group(k, name, &text);
    if (!s)
        s = list_sets(k, name, value, set, at, &n);
    if (!s)
        s = lm_conf_parse(text.s, "selftest", at, n, conf, k->e);
    lm_str_free(&text);
    if (!s)
        s = lm_stage_plugin(stage, k->plugin, lm_conf_get(*conf, "selftest"), "selftest",
                            k->run, k->e);
    return s;
}

/* ---- one value of one option ------------------------------------------------------- */

/* refused: it must be.  Otherwise check() may take it or refuse it. */
static enum lm_status try(struct lm_kit *k, const char *name, const char *value,
                          bool refused)
{
    struct lm_conf *conf;
    struct lm_stage stage;
    enum lm_status s = lm_selftest_fill(k, name, value, &conf, &stage);
    lm_stage_close(&stage);
    lm_conf_free(conf);
    if (refused && s == LM_ECONFIG) {
        *k->e = (struct lm_err){ 0 };
        return LM_OK;
    }
    if (refused)
        return lm_broken(k, "option '%s' = %s is not refused", name, value);
    if (s && s != LM_ECONFIG && s != LM_EUNAVAILABLE && s != LM_EUNSUPPORTED)
        return lm_kit_failed(k, "check()", s);
    return lm_kit_excused(k, "check()", s);
}

/* The bounds themselves, and what lies just beyond. */
static enum lm_status try_bounds(struct lm_kit *k, const struct lm_opt *o, bool whole)
{
    const double bound[] = { o->min, o->max }, beyond[] = { -1, 1 };
    char text[64];
    for (int i = 0; i < 2; i++) {
        double b = bound[i], out = b + beyond[i] * (whole ? 1 : fmax(1, fabs(b) * 0.01));
        if (!(fabs(b) < 9e18))          /* no bound that a file could break */
            continue;
        snprintf(text, sizeof text, whole ? "%.0fL" : "%.17g", b);
        enum lm_status s = try(k, o->name, text, false);
        snprintf(text, sizeof text, whole ? "%.0fL" : "%.17g", out);
        if (!s && (!whole || fabs(b) < 9e15))
            s = try(k, o->name, text, true);
        if (s)
            return s;
    }
    return LM_OK;
}

static enum lm_status try_option(struct lm_kit *k, const struct lm_opt *o)
{
    switch (o->type) {
    case LM_OPT_INT: case LM_OPT_INTS:
        return o->min || o->max ? try_bounds(k, o, true) : LM_OK;
    case LM_OPT_REAL: case LM_OPT_REALS:
        return o->min || o->max ? try_bounds(k, o, false) : LM_OK;
    case LM_OPT_CHOICE:
        for (size_t i = 0; o->choices[i]; i++) {
            enum lm_status s = try(k, o->name, o->choices[i], false);
            if (s)
                return s;
        }
        return try(k, o->name, "no_such_choice_at_all", true);
    case LM_OPT_STRING:                 /* what check() reads must not confuse it */
        return try(k, o->name, "\"%s%n\\\"\"", false);
    default:
        return LM_OK;
    }
}

enum lm_status lm_selftest_options(struct lm_kit *k)
{
    const struct lm_opt *o;
    enum lm_status s = try(k, "no_such_option_at_all", "1", true);
    for (size_t i = 0; !s && (o = lm_opt_at(&k->plugin->module, i)); i++) {
        if (!o->help || !o->help[0])
            return lm_broken(k, "option '%s' has no help", o->name);
        s = try_option(k, o);
    }
    return s;
}
