/* SPDX-License-Identifier: Apache-2.0 */
/* conf.c -- pipeline files to trees; the only file that knows libconfig.
 *
 * libconfig sees text after the lexical pass (lint.h), never a file.  Its
 * settings are walked by type: the lookup functions of 1.5 answer 0 for
 * integers that do not fit.  Arrays and lists become lists.  libconfig's own
 * allocations are unchecked before 1.7.4; ours are all checked.               */
#include <libconfig.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "config/conf_tree.h"
#include "config/lint.h"

enum { MAX_BASES = 8 };

/* ---- libconfig to tree ---------------------------------------------------------- */

static enum lm_status convert(const config_setting_t *from, const struct lm_source *src,
                              struct lm_conf **out, struct lm_err *e);

static enum lm_status convert_children(const config_setting_t *from,
                                       const struct lm_source *src,
                                       struct lm_conf *to, struct lm_err *e)
{
    int n = config_setting_length(from);
    for (int i = 0; i < n; i++) {
        struct lm_conf *child;
        enum lm_status s = convert(config_setting_get_elem(from, (unsigned)i), src,
                                   &child, e);
        if (!s)
            s = lm_conf_append(to, child, e);
        if (s)
            return s;
    }
    return LM_OK;
}

static enum lm_status convert(const config_setting_t *from, const struct lm_source *src,
                              struct lm_conf **out, struct lm_err *e)
{
    static const enum lm_conf_type type[] = {
        [CONFIG_TYPE_GROUP] = LM_CONF_GROUP, [CONFIG_TYPE_INT] = LM_CONF_INT,
        [CONFIG_TYPE_INT64] = LM_CONF_INT, [CONFIG_TYPE_FLOAT] = LM_CONF_REAL,
        [CONFIG_TYPE_STRING] = LM_CONF_STRING, [CONFIG_TYPE_BOOL] = LM_CONF_BOOL,
        [CONFIG_TYPE_ARRAY] = LM_CONF_LIST, [CONFIG_TYPE_LIST] = LM_CONF_LIST };
    char origin[PATH_MAX + 32];
    lm_source_origin(src, from->line, origin, sizeof origin);
    struct lm_conf *c = lm_conf_new(type[from->type], from->name, origin);
    enum lm_status s = c ? LM_OK : lm_fail_memory(e, sizeof *c, "configuration");
    if (s)
        return s;
    switch (from->type) {
    case CONFIG_TYPE_INT:   c->v.i = from->value.ival; break;
    case CONFIG_TYPE_INT64: c->v.i = from->value.llval; break;
    case CONFIG_TYPE_FLOAT: c->v.r = from->value.fval; break;
    case CONFIG_TYPE_BOOL:  c->v.b = from->value.ival != 0; break;
    case CONFIG_TYPE_STRING: {
        const char *text = from->value.sval ? from->value.sval : "";
        if (!(c->v.s = lm_strdup(text, "conf")))
            s = lm_fail_memory(e, strlen(text) + 1, "configuration");
        break;
    }
    default:
        s = convert_children(from, src, c, e);
    }
    if (s)
        lm_conf_free(c);
    else
        *out = c;
    return s;
}

static enum lm_status syntax(const struct lm_source *src, const config_t *k,
                             struct lm_err *e)
{
    char origin[PATH_MAX + 32], near[64];
    size_t line = k->error_line > 0 ? (size_t)k->error_line : 1, n = 0;
    if (line > src->n_line)
        line = src->n_line;
    const char *p = src->text.s;
    for (size_t i = 1; i < line && (p = strchr(p, '\n')); i++)
        p++;
    lm_source_origin(src, line, origin, sizeof origin);
    if (p) {
        p += src->one_value && line == 1 ? strlen("v = ") : 0;
        p += strspn(p, " ");
        n = strcspn(p, "\n");
    }
    while (n && p[n - 1] == ' ')
        n--;
    snprintf(near, sizeof near, n > 50 ? "%.*s..." : "%.*s", n > 50 ? 50 : (int)n,
             n ? p : "");
    const char *what = k->error_text ? k->error_text : "syntax error";
    if (!n)
        return lm_fail(e, LM_ECONFIG, "%s: error: %s at the end; is a value missing?",
                       origin, what);
    return lm_fail(e, LM_ECONFIG, "%s: error: %s near '%s'", origin, what, near);
}

/* Consumes src. */
static enum lm_status parse(struct lm_source *src, struct lm_conf **root,
                            struct lm_err *e)
{
    config_t k;
    enum lm_status s;
    config_init(&k);
    if (config_read_string(&k, src->text.s ? src->text.s : "") == CONFIG_TRUE)
        s = convert(config_root_setting(&k), src, root, e);
    else
        s = syntax(src, &k, e);
    config_destroy(&k);
    lm_source_free(src);
    return s;
}

/* ---- the chain of bases --------------------------------------------------------- */

struct chain { char *real[MAX_BASES + 1]; int n; };

static enum lm_status read_chain(const char *path, const struct lm_conf *at,
                                 struct chain *seen, struct lm_conf **root,
                                 struct lm_err *e);

/* Puts what the tree's `base` says under the tree. */
static enum lm_status with_base(const char *path, struct chain *seen,
                                struct lm_conf **root, struct lm_err *e)
{
    struct lm_conf *top = *root, *below = NULL;
    const struct lm_conf *base = lm_conf_get(top, "base");
    char file[PATH_MAX];
    enum lm_status s;
    if (!base)
        return LM_OK;
    *root = NULL;
    if (base->type != LM_CONF_STRING)
        s = lm_conf_fail(e, base, "base: expected the name of a file in double quotes");
    else if (!lm_source_beside(file, sizeof file, path, base->v.s))
        s = lm_conf_fail(e, base, "base: the path is too long");
    else
        s = read_chain(file, base, seen, &below, e);
    if (s) {
        lm_conf_free(top);
        return s;
    }
    lm_conf_remove(top, "base");
    s = lm_conf_merge(below, top, e);
    if (s)
        lm_conf_free(below);
    else
        *root = below;
    return s;
}

/* at: the `base` that names the file; NULL for the first. */
static enum lm_status read_chain(const char *path, const struct lm_conf *at,
                                 struct chain *seen, struct lm_conf **root,
                                 struct lm_err *e)
{
    char real[PATH_MAX];
    struct lm_source src;
    if (!realpath(path, real))      /* missing: reading it says so below       */
        snprintf(real, sizeof real, "%s", path);
    for (int i = 0; i < seen->n; i++)
        if (!strcmp(seen->real[i], real))
            return lm_conf_fail(e, at, "base: '%s' is its own base", path);
    if (seen->n > MAX_BASES)
        return lm_conf_fail(e, at, "base: a chain of more than %d files", MAX_BASES);
    enum lm_status s = lm_source_file(&src, path, e);
    if (s == LM_ECONFIG && at && e && !strstr(e->text, ": error: "))
        lm_err_prefix(e, "%s: error: base: ", at->origin);
    if (s)
        return s;
    if (!(seen->real[seen->n] = lm_strdup(real, "conf"))) {
        lm_source_free(&src);
        return lm_fail_memory(e, strlen(real) + 1, "configuration");
    }
    seen->n++;
    if (!(s = parse(&src, root, e)))
        s = with_base(path, seen, root, e);
    return s;
}

/* ---- --set ---------------------------------------------------------------------- */

static bool bare(const char *t)
{
    return *t && !t[strspn(t, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                              "0123456789_./@:-")];
}

static enum lm_status parse_value(const char *text, const char *origin, bool *corrupt,
                                  struct lm_conf **out, struct lm_err *e)
{
    struct lm_source src;
    struct lm_conf *group;
    enum lm_status s = lm_source_value(&src, text, origin, e);
    if (s) {
        *corrupt = src.corrupt;
        return s;
    }
    if ((s = parse(&src, &group, e)))
        return s;
    if (group->n == 1) {
        *out = group->child[0];
        group->n = 0;
        lm_release((*out)->key);
        (*out)->key = NULL;
    } else {
        s = lm_fail(e, LM_ECONFIG, "%s: error: '%s' is more than one value", origin,
                    text);
    }
    lm_conf_free(group);
    return s;
}

enum lm_status lm_conf_value(const char *text, const char *origin,
                             struct lm_conf **out, struct lm_err *e)
{
    bool corrupt = false;
    struct lm_err first = { 0 };
    enum lm_status s = parse_value(text, origin, &corrupt, out, &first);
    if (s != LM_ECONFIG || corrupt)
        return s ? lm_fail(e, s, "%s", first.text) : s;
    if (!bare(text))
        return lm_fail(e, s, "%s%s", first.text, strpbrk(text, "\"({[;") || !*text ? ""
                       : "; text with spaces or signs needs double quotes");
    struct lm_conf *c = lm_conf_new(LM_CONF_STRING, NULL, origin);
    if (c)
        c->v.s = lm_strdup(text, "conf");
    if (!c || !c->v.s) {
        lm_conf_free(c);
        return lm_fail_memory(e, strlen(text) + 1, "configuration");
    }
    *out = c;
    return LM_OK;
}

/* Makes a node that is no list the only member of one. */
static enum lm_status make_list(struct lm_conf *c, const char *origin, struct lm_err *e)
{
    if (c->type == LM_CONF_LIST)
        return LM_OK;
    struct lm_conf *inner = lm_conf_new(LM_CONF_LIST, NULL, origin);
    if (!inner)
        return lm_fail_memory(e, sizeof *inner, "configuration");
    lm_conf_swap(c, inner);
    return lm_conf_append(c, inner, e);
}

/* The node one step on; keys and [+] make what is missing.  made: *at was made
 * by the step before and is still undecided (an empty group).                */
static enum lm_status descend(struct lm_conf **at, bool *made, enum lm_conf_step step,
                              const struct lm_conf_path *x, const char *origin,
                              struct lm_err *e)
{
    struct lm_conf *c = *at, *next = NULL;
    int len = (int)(x->p - x->start);
    enum lm_status s = LM_OK;
    if (step == LM_STEP_KEY && c->type != LM_CONF_GROUP)
        return lm_fail(e, LM_ECONFIG, "%s: error: %.*s: '%s' cannot be part of %s",
                       origin, len, x->start, x->key, c->type == LM_CONF_LIST
                       ? "a list; choose a member with [0], [1] ... or add one with [+]"
                       : "a single value");
    if (step == LM_STEP_KEY)
        next = (struct lm_conf *)lm_conf_get(c, x->key);
    if (step == LM_STEP_INDEX) {
        size_t n = *made ? 0 : lm_conf_items(c);
        if (x->index >= n)
            return lm_fail(e, LM_ECONFIG, "%s: error: %.*s: there are %zu members, "
                           "counted from 0", origin, len, x->start, n);
        next = (struct lm_conf *)lm_conf_item(c, x->index);
    }
    if (step == LM_STEP_APPEND && *made)
        c->type = LM_CONF_LIST;
    else if (step == LM_STEP_APPEND)
        s = make_list(c, origin, e);
    *made = !next;
    if (!next && !s) {
        next = lm_conf_new(LM_CONF_GROUP, step == LM_STEP_KEY ? x->key : NULL, origin);
        s = lm_conf_append(c, next, e);
    }
    *at = next;
    return s;
}

enum lm_status lm_conf_assign(struct lm_conf *root, const char *path,
                              struct lm_conf *value, const char *origin,
                              struct lm_err *e)
{
    struct lm_conf_path x = { .p = path, .start = path };
    struct lm_conf *c = root;
    enum lm_conf_step step;
    enum lm_status s = LM_OK;
    bool made = false;
    if (!strcmp(path, "base"))
        s = lm_fail(e, LM_ECONFIG, "%s: error: base can only be written in a file",
                    origin);
    while (!s && (step = lm_conf_next(&x)) != LM_STEP_END) {
        if (step == LM_STEP_WRONG)
            s = lm_fail(e, LM_ECONFIG, "%s: error: '%s' is no path; write a.b, a[0].b "
                        "or a[+]", origin, path);
        else
            s = descend(&c, &made, step, &x, origin, e);
    }
    if (!s)
        return lm_conf_merge(c, value, e);
    lm_conf_free(value);
    return s;
}

static enum lm_status set_one(struct lm_conf *root, const char *text, size_t number,
                              struct lm_err *e)
{
    char origin[32], path[512];
    snprintf(origin, sizeof origin, "--set #%zu", number);
    size_t n = strcspn(text, "=");
    if (!text[n])
        return lm_fail(e, LM_ECONFIG, "%s: error: '%s' is not PATH=VALUE", origin, text);
    while (n && text[n - 1] == ' ')
        n--;
    if (n >= sizeof path)
        return lm_fail(e, LM_ECONFIG, "%s: error: the path is too long", origin);
    memcpy(path, text, n);
    path[n] = 0;
    const char *value = strchr(text, '=') + 1;
    value += strspn(value, " ");
    if (!*value)
        return lm_fail(e, LM_ECONFIG, "%s: error: %s: the value is missing; an empty "
                       "string is \"\"", origin, path);
    struct lm_conf *node;
    enum lm_status s = lm_conf_value(value, origin, &node, e);
    return s ? s : lm_conf_assign(root, path, node, origin, e);
}

/* ---- all of it ------------------------------------------------------------------ */

static enum lm_status check_version(const struct lm_conf *root, struct lm_err *e)
{
    const struct lm_conf *v = lm_conf_get(root, "lamina");
    char got[80];
    if (!v)
        return lm_fail(e, LM_ECONFIG, "%s:1: error: the format version is missing; begin "
                       "with 'lamina = 1;'", root->origin);
    if (v->type != LM_CONF_INT || v->v.i != 1)
        return lm_conf_fail(e, v, "lamina: this program reads format version 1, not %s",
                            lm_conf_describe(v, got, sizeof got));
    return LM_OK;
}

/* Consumes *root on failure. */
static enum lm_status finish(struct lm_conf **root, const struct lm_conf_edit *edit,
                             size_t n_edit, const char *const *set, size_t n_set,
                             struct lm_err *e)
{
    enum lm_status s = lm_conf_edit(*root, edit, n_edit, false, e);
    for (size_t i = 0; i < n_set && !s; i++)
        s = set_one(*root, set[i], i + 1, e);
    if (!s)
        s = lm_conf_edit(*root, edit, n_edit, true, e);
    if (!s)
        s = lm_conf_expand(*root, e);
    if (!s)
        s = check_version(*root, e);
    if (s) {
        lm_conf_free(*root);
        *root = NULL;
    }
    return s;
}

static void forget(struct chain *seen)
{
    for (int i = 0; i < seen->n; i++)
        lm_release(seen->real[i]);
}

static enum lm_status read_file(const char *path, const struct lm_conf_edit *edit,
                                size_t n_edit, const char *const *set, size_t n_set,
                                struct lm_conf **root, struct lm_err *e)
{
    struct chain seen = { .n = 0 };
    *root = NULL;
    enum lm_status s = read_chain(path, NULL, &seen, root, e);
    forget(&seen);
    return s ? s : finish(root, edit, n_edit, set, n_set, e);
}

enum lm_status lm_conf_read(const char *path, const char *const *set, size_t n_set,
                            struct lm_conf **root, struct lm_err *e)
{
    return read_file(path, NULL, 0, set, n_set, root, e);
}

enum lm_status lm_conf_vary(const char *path, const struct lm_conf_edit *edit,
                            size_t n_edit, const char *const *set, size_t n_set,
                            struct lm_conf **root, struct lm_err *e)
{
    enum lm_status s = read_file(path, edit, n_edit, set, n_set, root, e);
    if (!s)
        lm_conf_remove(*root, "sweep");
    return s;
}

enum lm_status lm_conf_parse(const char *text, const char *name,
                             const char *const *set, size_t n_set,
                             struct lm_conf **root, struct lm_err *e)
{
    struct chain seen = { .n = 0 };
    struct lm_source src;
    *root = NULL;
    enum lm_status s = lm_source_text(&src, text, strlen(text), name, e);
    if (!s)
        s = parse(&src, root, e);
    if (!s)
        s = with_base(name, &seen, root, e);
    forget(&seen);
    return s ? s : finish(root, NULL, 0, set, n_set, e);
}
