/* SPDX-License-Identifier: Apache-2.0 */
/* conf_tree.c -- nodes of a configuration: making, finding, merging.
 *
 * A node owns its key, origin, string and children.  child[] has room for the
 * next power of two above n, so it grows only by lm_conf_append.             */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "config/conf_tree.h"

struct lm_conf *lm_conf_new(enum lm_conf_type type, const char *key, const char *origin)
{
    struct lm_conf *c = lm_alloc(sizeof *c, "conf");
    if (!c)
        return NULL;
    c->type = type;
    c->key = key ? lm_strdup(key, "conf") : NULL;
    c->origin = lm_strdup(origin, "conf");
    if ((key && !c->key) || !c->origin) {
        lm_conf_free(c);
        return NULL;
    }
    return c;
}

/* Depth is bounded: the lexical pass refuses deep nesting. */
void lm_conf_free(struct lm_conf *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->n; i++)
        lm_conf_free(c->child[i]);
    lm_release(c->child);
    if (c->type == LM_CONF_STRING)
        lm_release(c->v.s);
    lm_release(c->key);
    lm_release(c->origin);
    lm_release(c);
}

enum lm_status lm_conf_append(struct lm_conf *parent, struct lm_conf *child,
                              struct lm_err *e)
{
    if (!child)
        return lm_fail_memory(e, sizeof *child, "configuration");
    if ((parent->n & (parent->n - 1)) == 0) {
        size_t cap = parent->n ? 2 * parent->n : 1;
        struct lm_conf **more = lm_resize(parent->child, cap * sizeof *more);
        if (!more) {
            lm_conf_free(child);
            return lm_fail_memory(e, cap * sizeof *more, "configuration");
        }
        parent->child = more;
    }
    parent->child[parent->n++] = child;
    return LM_OK;
}

static struct lm_conf **slot(const struct lm_conf *group, const char *key)
{
    if (group && group->type == LM_CONF_GROUP)
        for (size_t i = 0; i < group->n; i++)
            if (group->child[i]->key && !strcmp(group->child[i]->key, key))
                return &group->child[i];
    return NULL;
}

const struct lm_conf *lm_conf_get(const struct lm_conf *group, const char *key)
{
    struct lm_conf **s = slot(group, key);
    return s ? *s : NULL;
}

enum lm_status lm_conf_group(struct lm_conf *parent, const char *key,
                             struct lm_conf **group, struct lm_err *e)
{
    struct lm_conf **s = slot(parent, key);
    *group = s ? *s : lm_conf_new(LM_CONF_GROUP, key, "default");
    return s ? LM_OK : lm_conf_append(parent, *group, e);
}

void lm_conf_swap(struct lm_conf *a, struct lm_conf *b)
{
    struct lm_conf t = *a;
    char *key_a = a->key, *key_b = b->key;
    *a = *b;
    *b = t;
    a->key = key_a;
    b->key = key_b;
}

void lm_conf_remove(struct lm_conf *group, const char *key)
{
    struct lm_conf **s = slot(group, key);
    if (!s)
        return;
    lm_conf_free(*s);
    size_t i = (size_t)(s - group->child);
    memmove(s, s + 1, (group->n - i - 1) * sizeof *s);
    group->n--;
}

struct lm_conf *lm_conf_copy(const struct lm_conf *from)
{
    struct lm_conf *to = lm_conf_new(from->type, from->key, from->origin);
    struct lm_err ignored = { 0 };
    if (!to)
        return NULL;
    bool ok = true;
    if (from->type == LM_CONF_STRING)
        ok = (to->v.s = lm_strdup(from->v.s, "conf"));
    else
        to->v = from->v;
    for (size_t i = 0; ok && i < from->n; i++)
        ok = !lm_conf_append(to, lm_conf_copy(from->child[i]), &ignored);
    if (ok)
        return to;
    lm_conf_free(to);
    return NULL;
}

enum lm_status lm_conf_put(struct lm_conf *group, const char *key, const char *text,
                           int64_t number, const char *origin, struct lm_err *e)
{
    struct lm_conf *c = lm_conf_new(text ? LM_CONF_STRING : LM_CONF_INT, key, origin);
    if (c && !text)
        c->v.i = number;
    else if (c && !(c->v.s = lm_strdup(text, "conf"))) {
        lm_conf_free(c);
        c = NULL;
    }
    if (c)
        lm_conf_remove(group, key);
    return lm_conf_append(group, c, e);
}

/* Makes what root has under key a list. */
static enum lm_status make_list(struct lm_conf *root, const char *key, struct lm_err *e)
{
    struct lm_conf **s = slot(root, key), *list;
    if (s && (*s)->type == LM_CONF_LIST)
        return LM_OK;
    if (!(list = lm_conf_new(LM_CONF_LIST, key, "default")))
        return lm_fail_memory(e, sizeof *list, "configuration");
    if (!s)
        return lm_conf_append(root, list, e);
    lm_conf_swap(*s, list);             /* the member is in `list` now */
    lm_release(list->key);
    list->key = NULL;
    return lm_conf_append(*s, list, e);
}

enum lm_status lm_conf_twin(struct lm_conf *root, const char *key,
                            const struct lm_conf *group, const char *const (*set)[2],
                            size_t n, struct lm_err *e)
{
    struct lm_conf *twin = lm_conf_copy(group);
    enum lm_status st = twin ? LM_OK : lm_fail_memory(e, sizeof *twin, "configuration");
    for (size_t i = 0; !st && i < n; i++)
        st = lm_conf_put(twin, set[i][0], set[i][1], 0, "default", e);
    if (!st)
        st = make_list(root, key, e);
    if (st) {
        lm_conf_free(twin);
        return st;
    }
    lm_release(twin->key);
    twin->key = NULL;
    return lm_conf_append(*slot(root, key), twin, e);
}

static bool other_plugin(const struct lm_conf *a, const struct lm_conf *b)
{
    const struct lm_conf *x = lm_conf_get(a, "use"), *y = lm_conf_get(b, "use");
    return x && y && x->type == LM_CONF_STRING && y->type == LM_CONF_STRING &&
           strcmp(x->v.s, y->v.s) != 0;
}

enum lm_status lm_conf_merge(struct lm_conf *to, struct lm_conf *from,
                             struct lm_err *e)
{
    if (to->type != LM_CONF_GROUP || from->type != LM_CONF_GROUP ||
        other_plugin(to, from)) {
        lm_conf_swap(to, from);
        lm_conf_free(from);
        return LM_OK;
    }
    char *origin = to->origin;          /* messages about it point to the last */
    to->origin = from->origin;
    from->origin = origin;
    enum lm_status s = LM_OK;
    for (size_t i = 0; i < from->n; i++) {
        struct lm_conf **old = slot(to, from->child[i]->key);
        struct lm_conf *child = from->child[i];
        from->child[i] = NULL;
        if (!s)
            s = old ? lm_conf_merge(*old, child, e) : lm_conf_append(to, child, e);
        else
            lm_conf_free(child);
    }
    lm_conf_free(from);
    return s;
}

/* ---- paths ---------------------------------------------------------------------- */

enum lm_conf_step lm_conf_next(struct lm_conf_path *x)
{
    const char *p = x->p;
    if (!*p)
        return p == x->start ? LM_STEP_WRONG : LM_STEP_END;
    if (*p == '[' && p != x->start) {
        if (p[1] == '+' && p[2] == ']') {
            x->p = p + 3;
            return LM_STEP_APPEND;
        }
        size_t n = strspn(++p, "0123456789");
        if (!n || n > 6 || p[n] != ']')
            return LM_STEP_WRONG;
        x->index = strtoul(p, NULL, 10);
        x->p = p + n + 1;
        return LM_STEP_INDEX;
    }
    if (*p == '.' && p != x->start)
        p++;
    size_t n = strspn(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                         "0123456789_-*");
    if (!n || n >= sizeof x->key || strspn(p, "0123456789_-") ||
        (p[n] && p[n] != '.' && p[n] != '['))
        return LM_STEP_WRONG;
    if (p != x->start && p[-1] != '.')
        return LM_STEP_WRONG;
    memcpy(x->key, p, n);
    x->key[n] = 0;
    x->p = p + n;
    return LM_STEP_KEY;
}

const struct lm_conf *lm_conf_path(const struct lm_conf *root, const char *path)
{
    struct lm_conf_path x = { .p = path, .start = path };
    const struct lm_conf *c = root;
    while (c) {
        switch (lm_conf_next(&x)) {
        case LM_STEP_END:   return c;
        case LM_STEP_KEY:   c = lm_conf_get(c, x.key); break;
        case LM_STEP_INDEX: c = lm_conf_item(c, x.index); break;
        default:            return NULL;
        }
    }
    return NULL;
}

const struct lm_conf *lm_conf_item(const struct lm_conf *node, size_t i)
{
    if (!node || node->type != LM_CONF_LIST)
        return i ? NULL : node;
    return i < node->n ? node->child[i] : NULL;
}

size_t lm_conf_items(const struct lm_conf *node)
{
    return !node ? 0 : node->type == LM_CONF_LIST ? node->n : 1;
}

/* ---- messages ------------------------------------------------------------------- */

enum lm_status lm_conf_fail(struct lm_err *e, const struct lm_conf *at,
                            const char *fmt, ...)
{
    char text[sizeof e->text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!at)
        return lm_fail(e, LM_ECONFIG, "%s", text);
    return lm_fail(e, LM_ECONFIG, "%s: error: %s", at->origin, text);
}

void lm_conf_real(char out[40], double v)
{
    char text[32];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    size_t n = strlen(text), whole = strcspn(text, "e");
    bool point = !strpbrk(text, ".ni"); /* has none, and is finite              */
    memcpy(out, text, whole);
    memcpy(out + whole, ".0", 2);
    memcpy(out + whole + (point ? 2 : 0), text + whole, n - whole + 1);
}

const char *lm_conf_describe(const struct lm_conf *c, char *out, size_t n)
{
    char number[40];
    switch (c->type) {
    case LM_CONF_GROUP:  snprintf(out, n, "a group"); break;
    case LM_CONF_LIST:   snprintf(out, n, "a list"); break;
    case LM_CONF_BOOL:   snprintf(out, n, "%s", c->v.b ? "true" : "false"); break;
    case LM_CONF_INT:    snprintf(out, n, "%lld", (long long)c->v.i); break;
    case LM_CONF_STRING: snprintf(out, n, "\"%.60s\"", c->v.s); break;
    case LM_CONF_REAL:
        lm_conf_real(number, c->v.r);
        snprintf(out, n, "%s", number);
        break;
    }
    return out;
}
