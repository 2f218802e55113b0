/* SPDX-License-Identifier: Apache-2.0 */
/* opt_value.c -- checking and storing one value of one option. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "config/conf_tree.h"
#include "config/opt_value.h"

/* Data begins behind a header of 64 bytes, so that it keeps the alignment. */
enum { HEADER = 64 };

void *lm_opt_alloc(struct lm_opt_memory *m, size_t n)
{
    struct lm_opt_block *b = NULL;
    if (n < SIZE_MAX - HEADER)
        b = lm_alloc(n + HEADER, "options");
    if (!b)
        return NULL;
    b->next = m->first;
    m->first = b;
    return (char *)b + HEADER;
}

size_t lm_opt_size(uint32_t type)
{
    switch (type) {
    case LM_OPT_BOOL:    return sizeof(bool);
    case LM_OPT_INT: case LM_OPT_CHOICE: return sizeof(int64_t);
    case LM_OPT_REAL:    return sizeof(double);
    case LM_OPT_STRING: case LM_OPT_PATH: case LM_OPT_TEXT: return sizeof(char *);
    case LM_OPT_INTS:    return sizeof(struct lm_ints);
    case LM_OPT_REALS:   return sizeof(struct lm_reals);
    case LM_OPT_STRINGS: return sizeof(struct lm_strings);
    case LM_OPT_PLUGINS: return sizeof(struct lm_instances);
    }
    return 0;
}

uint32_t lm_opt_member(uint32_t type)
{
    return type == LM_OPT_INTS ? LM_OPT_INT : type == LM_OPT_REALS ? LM_OPT_REAL
         : type == LM_OPT_STRINGS ? LM_OPT_STRING : type;
}

const char *lm_opt_number(char out[40], double v)
{
    lm_conf_real(out, v);
    size_t n = strlen(out);
    if (n > 2 && !strcmp(out + n - 2, ".0"))
        out[n - 2] = 0;
    return out;
}

/* ---- scalars -------------------------------------------------------------------- */

static enum lm_status wrong_type(const struct lm_conf *v, const char *wanted,
                                 struct lm_err *e)
{
    char got[80];
    return lm_fail(e, LM_ECONFIG, "expected %s, not %s", wanted,
                   lm_conf_describe(v, got, sizeof got));
}

static enum lm_status in_range(const struct lm_opt *o, double x,
                               const struct lm_conf *v, struct lm_err *e)
{
    char got[80], limit[40];
    if (!isfinite(x))
        return lm_fail(e, LM_ECONFIG, "the number is not finite");
    if ((o->min == 0 && o->max == 0) || (x >= o->min && x <= o->max))
        return LM_OK;
    bool above = x > o->max;
    const char *text = lm_conf_describe(v, got, sizeof got);
    if (v->type == LM_CONF_REAL)
        text = lm_opt_number(got, x);
    return lm_fail(e, LM_ECONFIG, "%s is %s %s", text,
                   above ? "above the maximum" : "below the minimum",
                   lm_opt_number(limit, above ? o->max : o->min));
}

static enum lm_status store_choice(const struct lm_opt *o, const struct lm_conf *v,
                                   void *field, struct lm_err *e)
{
    size_t n = 0;
    struct lm_str list = { 0 };
    for (; o->choices[n]; n++)
        if (v->type == LM_CONF_STRING && !strcmp(v->v.s, o->choices[n])) {
            *(int64_t *)field = (int64_t)n;
            return LM_OK;
        }
    for (size_t i = 0; i < n; i++)
        lm_str_add(&list, "%s%s", i ? ", " : "", o->choices[i]);
    char got[80];
    const char *near = NULL;
    if (v->type == LM_CONF_STRING)
        near = lm_nearest(v->v.s, o->choices, n);
    enum lm_status s = list.failed ? lm_fail_memory(e, list.n, "a message") :
        lm_fail(e, LM_ECONFIG, "expected one of %s, not %s%s%s%s", list.s ? list.s : "",
                lm_conf_describe(v, got, sizeof got), near ? "; did you mean '" : "",
                near ? near : "", near ? "'?" : "");
    lm_str_free(&list);
    return s;
}

static enum lm_status store_string(struct lm_opt_set *x, const struct lm_opt *o,
                                   const struct lm_conf *v, void *field, struct lm_err *e)
{
    if (v->type != LM_CONF_STRING)
        return wrong_type(v, o->type == LM_OPT_PATH ? "a path in double quotes"
                          : o->type == LM_OPT_TEXT ? "the name of a text in double quotes"
                          : "text in double quotes", e);
    if (o->type == LM_OPT_PATH && x->check_paths && !lm_file_exists(v->v.s) &&
        !lm_is_folder(v->v.s))
        return lm_fail(e, LM_ECONFIG, "there is no file or folder '%s'", v->v.s);
    size_t n = strlen(v->v.s) + 1;
    char *copy = lm_opt_alloc(x->memory, n);
    if (!copy)
        return lm_fail_memory(e, n, "options");
    memcpy(copy, v->v.s, n);
    *(const char **)field = copy;
    return LM_OK;
}

static enum lm_status store_scalar(struct lm_opt_set *x, const struct lm_opt *o,
                                   uint32_t type, const struct lm_conf *v, void *field,
                                   struct lm_err *e)
{
    enum lm_status s;
    double real;
    x->at = v;
    switch (type) {
    case LM_OPT_BOOL:
        if (v->type != LM_CONF_BOOL)
            return wrong_type(v, "true or false", e);
        *(bool *)field = v->v.b;
        return LM_OK;
    case LM_OPT_INT:
        if (v->type != LM_CONF_INT)
            return wrong_type(v, "an integer", e);
        if (!(s = in_range(o, (double)v->v.i, v, e)))
            *(int64_t *)field = v->v.i;
        return s;
    case LM_OPT_REAL:
        if (v->type != LM_CONF_INT && v->type != LM_CONF_REAL)
            return wrong_type(v, "a number", e);
        real = v->type == LM_CONF_INT ? (double)v->v.i : v->v.r;
        if (!(s = in_range(o, real, v, e)))
            *(double *)field = real;
        return s;
    case LM_OPT_CHOICE:
        return store_choice(o, v, field, e);
    default:
        return store_string(x, o, v, field, e);
    }
}

/* ---- lists ---------------------------------------------------------------------- */

static enum lm_status store_plugins(struct lm_opt_set *x, const struct lm_conf *v,
                                    void *field, struct lm_err *e)
{
    for (size_t i = 0; i < lm_conf_items(v); i++) {
        const struct lm_conf *m = lm_conf_item(v, i), *use = lm_conf_get(m, "use");
        x->at = m;
        if (m->type != LM_CONF_GROUP || !use || use->type != LM_CONF_STRING)
            return lm_fail(e, LM_ECONFIG, "expected groups like { use = \"NAME\"; }");
    }
    x->at = v;
    return x->resolve ? x->resolve(x->ctx, v, field, x->plugin_hash, e) : LM_OK;
}

enum lm_status lm_opt_store(struct lm_opt_set *x, const struct lm_opt *o,
                            const struct lm_conf *v, void *field, struct lm_err *e)
{
    uint32_t member = lm_opt_member(o->type);
    x->at = v;
    if (o->type == LM_OPT_PLUGINS)
        return store_plugins(x, v, field, e);
    if (member == o->type)
        return store_scalar(x, o, member, v, field, e);
    size_t n = lm_conf_items(v), size = lm_opt_size(member);
    char *list = n ? lm_opt_alloc(x->memory, n * size) : NULL;
    if (n && !list)
        return lm_fail_memory(e, n * size, "options");
    for (size_t i = 0; i < n; i++) {
        enum lm_status s = store_scalar(x, o, member, lm_conf_item(v, i),
                                        list + i * size, e);
        if (s)
            return s;
    }
    /* the three list structs have the same layout: pointer, count */
    if (o->type == LM_OPT_INTS)
        *(struct lm_ints *)field = (struct lm_ints){ (int64_t *)(void *)list, n };
    else if (o->type == LM_OPT_REALS)
        *(struct lm_reals *)field = (struct lm_reals){ (double *)(void *)list, n };
    else
        *(struct lm_strings *)field =
            (struct lm_strings){ (const char *const *)(void *)list, n };
    return LM_OK;
}

/* ---- text of command lines and defaults ------------------------------------------- */

static bool whole_int(const char *t, int64_t *out, bool *huge)
{
    char *end;
    const char *digits = t + (*t == '-' || *t == '+');
    bool hex = digits[0] == '0' && (digits[1] | 32) == 'x';
    if (*digits < '0' || *digits > '9')
        return false;
    errno = 0;
    *out = strtoll(t, &end, hex ? 16 : 10);
    if (*end == 'L')
        end++;
    *huge = errno == ERANGE;
    return !*end;
}

static enum lm_status scalar_text(uint32_t type, char *t, const char *origin,
                                  struct lm_conf **out, struct lm_err *e)
{
    struct lm_conf v = { .type = LM_CONF_STRING };
    bool huge = false;
    char *end;
    size_t n = strlen(t);
    if (type == LM_OPT_BOOL && (!strcmp(t, "true") || !strcmp(t, "false"))) {
        v.type = LM_CONF_BOOL;
        v.v.b = *t == 't';
    } else if ((type == LM_OPT_INT || type == LM_OPT_REAL) && whole_int(t, &v.v.i, &huge)
               && !(huge && type == LM_OPT_REAL)) {
        if (huge)
            return lm_fail(e, LM_ECONFIG, "%s: error: %s does not fit 64 bits", origin,
                           t);
        v.type = LM_CONF_INT;
    } else if ((type == LM_OPT_INT || type == LM_OPT_REAL) && *t &&
               strspn(t, "0123456789+-.eE") == n && (v.v.r = strtod(t, &end), !*end)) {
        v.type = LM_CONF_REAL;
    } else if (n > 1 && t[0] == '"' && t[n - 1] == '"') {
        t[n - 1] = 0;
        t++;
    }
    if (!(*out = lm_conf_new(v.type, NULL, origin)))
        return lm_fail_memory(e, sizeof v, "options");
    (*out)->v = v.v;
    if (v.type == LM_CONF_STRING && !((*out)->v.s = lm_strdup(t, "conf"))) {
        lm_conf_free(*out);
        *out = NULL;
        return lm_fail_memory(e, n, "options");
    }
    return LM_OK;
}

/* t without blanks around it. */
static char *trim(char *t)
{
    t += strspn(t, " \t\n");
    size_t n = strlen(t);
    while (n && strchr(" \t\n", t[n - 1]))
        t[--n] = 0;
    return t;
}

static enum lm_status list_text(uint32_t member, char *t, const char *origin,
                                struct lm_conf **out, struct lm_err *e)
{
    size_t n = strlen(t);
    if (n > 1 && ((t[0] == '[' && t[n - 1] == ']') || (t[0] == '(' && t[n - 1] == ')'))) {
        t[n - 1] = 0;
        t = trim(t + 1);
    }
    struct lm_conf *list = lm_conf_new(LM_CONF_LIST, NULL, origin);
    enum lm_status s = list ? LM_OK : lm_fail_memory(e, sizeof *list, "options");
    while (!s && *t) {
        char *p = t, *next;
        for (bool quoted = false; *p && (quoted || *p != ','); p++)
            quoted ^= *p == '"';
        next = *p ? p + 1 : p;
        *p = 0;
        struct lm_conf *child;
        if (!(s = scalar_text(member, trim(t), origin, &child, e)))
            s = lm_conf_append(list, child, e);
        t = next;
    }
    if (s) {
        lm_conf_free(list);
        list = NULL;
    }
    *out = list;
    return s;
}

enum lm_status lm_opt_text(const struct lm_opt *o, const char *text, size_t n,
                           const char *origin, struct lm_conf **out, struct lm_err *e)
{
    char *copy = lm_alloc(n + 1, "options");
    uint32_t member = lm_opt_member(o->type);
    *out = NULL;
    if (!copy)
        return lm_fail_memory(e, n + 1, "options");
    memcpy(copy, text, n);
    char *t = trim(copy);
    enum lm_status s;
    if (o->type == LM_OPT_PLUGINS || (*t == '{' && (o->flags & LM_TUNABLE)))
        s = lm_conf_value(t, origin, out, e);
    else if (member != o->type)
        s = list_text(member, t, origin, out, e);
    else
        s = scalar_text(member, t, origin, out, e);
    lm_release(copy);
    return s;
}
