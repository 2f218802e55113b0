/* SPDX-License-Identifier: Apache-2.0 */
/* conf_write.c -- a tree as text that reads back as the same tree.
 *
 * WHY not config_write of libconfig: it writes 15 digits and knows nothing of
 * where a value came from.  Arrays come out as lists, integers beyond 32 bits
 * with L, "${" as "$${", reals with the fewest digits that read back equal.   */
#include <stdio.h>
#include <string.h>
#include "config/conf_tree.h"

struct writer { struct lm_str *out; bool comments; };

void lm_conf_quote(struct lm_str *out, const char *s)
{
    lm_str_add(out, "\"");
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            lm_str_add(out, "\\%c", c);
        else if (c == '\n')
            lm_str_add(out, "\\n");
        else if (c == '$' && s[1] == '{')
            lm_str_add(out, "$$");
        else if (c < 32 || c == 127)
            lm_str_add(out, "\\x%02X", (unsigned)c);
        else
            lm_str_put(out, s, 1);
    }
    lm_str_add(out, "\"");
}

static void put_scalar(struct lm_str *out, const struct lm_conf *c)
{
    char number[40];
    switch (c->type) {
    case LM_CONF_BOOL:
        lm_str_add(out, c->v.b ? "true" : "false");
        break;
    case LM_CONF_INT:
        lm_str_add(out, "%lld%s", (long long)c->v.i,
                   c->v.i > INT32_MAX || c->v.i < INT32_MIN ? "L" : "");
        break;
    case LM_CONF_REAL:
        lm_conf_real(number, c->v.r);
        lm_str_add(out, "%s", number);
        break;
    default:
        lm_conf_quote(out, c->v.s);
    }
}

/* Whatever a file is called, its name stays on the line of the comment. */
static void put_origin(const struct writer *w, const struct lm_conf *c)
{
    if (!w->comments)
        return;
    lm_str_add(w->out, "    # ");
    for (const char *p = c->origin; *p; p++)
        lm_str_put(w->out, (unsigned char)*p < 32 ? "?" : p, 1);
}

static bool has_groups(const struct lm_conf *c)
{
    for (size_t i = 0; i < c->n; i++)
        if (c->child[i]->type == LM_CONF_GROUP || has_groups(c->child[i]))
            return true;
    return false;
}

static void put_members(const struct writer *w, const struct lm_conf *c, int indent);

static void put_flat_list(struct lm_str *out, const struct lm_conf *c)
{
    lm_str_add(out, "(");
    for (size_t i = 0; i < c->n; i++) {
        lm_str_add(out, i ? ", " : " ");
        if (c->child[i]->type == LM_CONF_LIST)
            put_flat_list(out, c->child[i]);
        else
            put_scalar(out, c->child[i]);
    }
    lm_str_add(out, " )");
}

/* A list with groups in it: one member per block; the text before the call
 * ends with its opening bracket.                                             */
static void put_list(const struct writer *w, const struct lm_conf *c, int indent)
{
    for (size_t i = 0; i < c->n; i++) {
        const struct lm_conf *m = c->child[i];
        const char *comma = i + 1 < c->n ? "," : "";
        lm_str_add(w->out, "%*s", indent, "");
        if (m->type == LM_CONF_GROUP || (m->type == LM_CONF_LIST && has_groups(m))) {
            bool group = m->type == LM_CONF_GROUP;
            lm_str_add(w->out, group ? "{" : "(");
            put_origin(w, m);
            lm_str_add(w->out, "\n");
            (group ? put_members : put_list)(w, m, indent + 4);
            lm_str_add(w->out, "%*s%s%s\n", indent, "", group ? "}" : ")", comma);
            continue;
        }
        if (m->type == LM_CONF_LIST)
            put_flat_list(w->out, m);
        else
            put_scalar(w->out, m);
        lm_str_add(w->out, "%s", comma);
        put_origin(w, m);
        lm_str_add(w->out, "\n");
    }
}

static void put_members(const struct writer *w, const struct lm_conf *c, int indent)
{
    for (size_t i = 0; i < c->n; i++) {
        const struct lm_conf *m = c->child[i];
        bool group = m->type == LM_CONF_GROUP;
        lm_str_add(w->out, "%*s%s = ", indent, "", m->key);
        if (group || (m->type == LM_CONF_LIST && has_groups(m))) {
            lm_str_add(w->out, group ? "{" : "(");
            put_origin(w, m);
            lm_str_add(w->out, "\n");
            (group ? put_members : put_list)(w, m, indent + 4);
            lm_str_add(w->out, "%*s%s;\n", indent, "", group ? "}" : ")");
            continue;
        }
        if (m->type == LM_CONF_LIST)
            put_flat_list(w->out, m);
        else
            put_scalar(w->out, m);
        lm_str_add(w->out, ";");
        put_origin(w, m);
        lm_str_add(w->out, "\n");
    }
}

void lm_conf_write(const struct lm_conf *root, bool comments, struct lm_str *out)
{
    struct writer w = { out, comments };
    if (root->type == LM_CONF_GROUP)
        put_members(&w, root, 0);
    else if (root->type == LM_CONF_LIST)
        put_flat_list(out, root);
    else
        put_scalar(out, root);
}
