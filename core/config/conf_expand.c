/* SPDX-License-Identifier: Apache-2.0 */
/* conf_expand.c -- ${path} and ${env:NAME} in the strings of a tree.
 *
 * Each string is expanded once (mark: 0 not yet, 1 on the way, 2 done); what it
 * refers to is expanded before, so meeting a node that is on the way is a
 * cycle.  A result is at most LM_CONF_TEXT bytes and references are followed at
 * most LM_CONF_REFERENCES deep: doubling strings cannot fill the memory.      */
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include "base/mem.h"
#include "config/conf_tree.h"

enum { FRESH, BUSY, DONE };

struct expand { struct lm_conf *root; int depth; struct lm_err *e; };

static enum lm_status expand_string(struct expand *x, struct lm_conf *c);

/* The scalar that NAME of ${NAME} refers to, expanded. */
static enum lm_status target(struct expand *x, const struct lm_conf *c, const char *name,
                             struct lm_conf **out)
{
    struct lm_conf *t = (struct lm_conf *)lm_conf_path(x->root, name);
    char got[80];
    if (!t)
        return lm_conf_fail(x->e, c, "${%s}: there is no such value", name);
    if (t->type == LM_CONF_GROUP || t->type == LM_CONF_LIST)
        return lm_conf_fail(x->e, c, "${%s} is %s; only a number, a string, true or "
                            "false can be referred to", name,
                            lm_conf_describe(t, got, sizeof got));
    *out = t;
    if (t->mark == BUSY)
        return lm_conf_fail(x->e, c, "${%s} refers back to itself", name);
    return t->type == LM_CONF_STRING && t->mark == FRESH ? expand_string(x, t) : LM_OK;
}

static enum lm_status environment(struct expand *x, const struct lm_conf *c,
                                  const char *name, struct lm_str *out)
{
    const char *v = getenv(name);
    if (!v)
        return lm_conf_fail(x->e, c, "${env:%s}: this environment variable is not set",
                            name);
    lm_str_put(out, v, strlen(v));
    return LM_OK;
}

static void append_value(struct lm_str *out, const struct lm_conf *t)
{
    char number[40];
    switch (t->type) {
    case LM_CONF_BOOL: lm_str_add(out, t->v.b ? "true" : "false"); break;
    case LM_CONF_INT:  lm_str_add(out, "%lld", (long long)t->v.i); break;
    case LM_CONF_REAL: lm_conf_real(number, t->v.r); lm_str_add(out, "%s", number); break;
    default:           lm_str_put(out, t->v.s, strlen(t->v.s));
    }
}

/* At "${": the name and where the text goes on. */
static enum lm_status reference(struct expand *x, const struct lm_conf *c, const char **p,
                                char *name, size_t size)
{
    const char *end = strchr(*p, '}');
    size_t n = end ? (size_t)(end - *p) - 2 : 0;
    if (!end)
        return lm_conf_fail(x->e, c, "'${' without '}'; write $${ for a plain ${");
    if (!n || n >= size)
        return lm_conf_fail(x->e, c, "${...}: the name has %zu characters", n);
    memcpy(name, *p + 2, n);
    name[n] = 0;
    *p = end + 1;
    return LM_OK;
}

static enum lm_status build(struct expand *x, const struct lm_conf *c, struct lm_str *out)
{
    enum lm_status s = LM_OK;
    char name[256];
    for (const char *p = c->v.s; *p && !s; ) {
        struct lm_conf *t;
        if (!strncmp(p, "$${", 3)) {
            lm_str_put(out, "${", 2);
            p += 3;
        } else if (strncmp(p, "${", 2)) {
            size_t n = 1 + strcspn(p + 1, "$");
            lm_str_put(out, p, n);
            p += n;
        } else if (!(s = reference(x, c, &p, name, sizeof name))) {
            if (!strncmp(name, "env:", 4))
                s = environment(x, c, name + 4, out);
            else if (!(s = target(x, c, name, &t)))
                append_value(out, t);
        }
        if (!s && out->n > LM_CONF_TEXT)
            s = lm_conf_fail(x->e, c, "the string grows beyond %d bytes", LM_CONF_TEXT);
    }
    return s;
}

/* "${a.b}" and nothing else: takes over value and type. */
static enum lm_status typed(struct expand *x, struct lm_conf *c, const char *name)
{
    struct lm_conf *t;
    enum lm_status s = target(x, c, name, &t);
    if (s)
        return s;
    char *copy = NULL;
    if (t->type == LM_CONF_STRING && !(copy = lm_strdup(t->v.s, "conf")))
        return lm_fail_memory(x->e, strlen(t->v.s) + 1, "configuration");
    lm_release(c->v.s);
    c->type = t->type;
    c->v = t->v;
    if (copy)
        c->v.s = copy;
    return LM_OK;
}

static enum lm_status substitute(struct expand *x, struct lm_conf *c)
{
    size_t n = strlen(c->v.s);
    char name[256];
    const char *p = c->v.s;
    if (!strncmp(p, "${", 2) && strncmp(p, "${env:", 6) && strchr(p, '}') == p + n - 1) {
        enum lm_status s = reference(x, c, &p, name, sizeof name);
        return s ? s : typed(x, c, name);
    }
    struct lm_str out = { 0 };
    enum lm_status s = build(x, c, &out);
    char *text = s ? NULL : lm_strdup(out.s ? out.s : "", "conf");
    if (!s && (out.failed || !text)) {
        lm_release(text);
        s = lm_fail_memory(x->e, out.n + 1, "configuration");
    }
    lm_str_free(&out);
    if (s)
        return s;
    lm_release(c->v.s);
    c->v.s = text;
    return LM_OK;
}

static enum lm_status expand_string(struct expand *x, struct lm_conf *c)
{
    enum lm_status s = LM_OK;
    if (strstr(c->v.s, "${")) {
        if (x->depth == LM_CONF_REFERENCES)
            return lm_conf_fail(x->e, c, "${} leads through more than %d strings",
                                LM_CONF_REFERENCES);
        c->mark = BUSY;
        x->depth++;
        s = substitute(x, c);
        x->depth--;
    }
    c->mark = DONE;
    return s;
}

static enum lm_status walk(struct expand *x, struct lm_conf *c)
{
    enum lm_status s = LM_OK;
    if (c->type == LM_CONF_STRING && c->mark == FRESH)
        return expand_string(x, c);
    for (size_t i = 0; i < c->n && !s; i++)
        s = walk(x, c->child[i]);
    return s;
}

void lm_conf_plain(struct lm_conf *c)
{
    c->mark = DONE;
    for (size_t i = 0; i < c->n; i++)
        lm_conf_plain(c->child[i]);
}

enum lm_status lm_conf_expand(struct lm_conf *root, struct lm_err *e)
{
    struct expand x = { .root = root, .e = e };
    return walk(&x, root);
}
