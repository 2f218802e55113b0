/* SPDX-License-Identifier: Apache-2.0 */
/* conf_vary.c -- changes to a tree that has been read, and differences of two.
 *
 * WHY removals come last: a path names a member of a list by its place, which it
 * keeps until all other changes are made.  What is to go is marked first, so that
 * of several members each is the one its path named.                          */
#include <string.h>
#include "base/mem.h"
#include "config/conf_tree.h"

enum { GONE = 255 };                    /* mark of what is to be removed */

static enum lm_status put(struct lm_conf *root, const struct lm_conf_edit *x,
                          struct lm_err *e)
{
    struct lm_conf *v = x->value ? lm_conf_copy(x->value)
                                 : lm_conf_new(LM_CONF_STRING, NULL, x->origin);
    if (v && !x->value && !(v->v.s = lm_strdup(x->text, "conf"))) {
        lm_conf_free(v);
        v = NULL;
    }
    if (!v)
        return lm_fail_memory(e, sizeof *v, "configuration");
    lm_conf_plain(v);
    return lm_conf_assign(root, x->path, v, x->origin, e);
}

static void sweep(struct lm_conf *c)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n; i++) {
        if (c->child[i]->mark == GONE) {
            lm_conf_free(c->child[i]);
            continue;
        }
        sweep(c->child[i]);
        c->child[n++] = c->child[i];
    }
    c->n = n;
}

static enum lm_status drop(struct lm_conf *root, const struct lm_conf_edit *edit,
                           size_t n, struct lm_err *e)
{
    for (size_t i = 0; i < n; i++) {
        if (edit[i].value || edit[i].text)
            continue;
        struct lm_conf *c = (struct lm_conf *)lm_conf_path(root, edit[i].path);
        if (!c)
            return lm_fail(e, LM_ECONFIG, "%s: error: '%s': there is no such value to "
                           "drop", edit[i].origin, edit[i].path);
        c->mark = GONE;
    }
    sweep(root);
    return LM_OK;
}

enum lm_status lm_conf_edit(struct lm_conf *root, const struct lm_conf_edit *edit,
                            size_t n, bool behind, struct lm_err *e)
{
    enum lm_status s = behind ? drop(root, edit, n, e) : LM_OK;
    for (size_t i = 0; i < n && !s; i++)
        if ((edit[i].value || edit[i].text) && edit[i].last == behind)
            s = put(root, &edit[i], e);
    return s;
}

static bool same_scalar(const struct lm_conf *a, const struct lm_conf *b)
{
    switch (a->type) {
    case LM_CONF_BOOL:   return a->v.b == b->v.b;
    case LM_CONF_INT:    return a->v.i == b->v.i;
    case LM_CONF_REAL:   return a->v.r == b->v.r;
    case LM_CONF_STRING: return !strcmp(a->v.s, b->v.s);
    default:             return true;
    }
}

const struct lm_conf *lm_conf_differs(const struct lm_conf *a, const struct lm_conf *b)
{
    bool group = a->type == LM_CONF_GROUP;
    if (a->type != b->type || !same_scalar(a, b) || (!group && a->n != b->n))
        return b;
    for (size_t i = 0; i < a->n; i++) {
        const struct lm_conf *other = group ? lm_conf_get(b, a->child[i]->key)
                                            : b->child[i];
        const struct lm_conf *d = other ? lm_conf_differs(a->child[i], other)
                                        : a->child[i];
        if (d)
            return d;
    }
    for (size_t i = 0; group && i < b->n; i++)
        if (!lm_conf_get(a, b->child[i]->key))
            return b->child[i];
    return NULL;
}
