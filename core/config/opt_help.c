/* SPDX-License-Identifier: Apache-2.0 */
/* opt_help.c -- option schemas as text for people: `lamina help NAME`. */
#include <stdio.h>
#include <string.h>
#include "config/opt_value.h"

enum { WIDTH = 79 };

/* How each kind stands in a pipeline file; %s is the plugin. */
static const struct { const char *word, *usage; } kind[LM_N_KINDS] = {
    [LM_SEARCH]    = { "search strategy", "search = { use = \"%s\"; };" },
    [LM_PRUNER]    = { "pruner", "prune = ( { use = \"%s\"; } );" },
    [LM_SCORER]    = { "scorer", "score = { use = \"%s\"; };" },
    [LM_REPAIR]    = { "repair", "repair = { use = \"%s\"; };" },
    [LM_QUANTIZER] = { "quantizer", "quantize = ( { use = \"%s\"; } );" },
    [LM_TUNER]     = { "tuner", "tune = { use = \"%s\"; };" },
    [LM_EVALUATOR] = { "evaluator", "evaluate = ( { use = \"%s\"; } );" },
    [LM_BACKEND]   = { "backend", "backend = { use = \"%s\"; };" },
    [LM_FORMAT]    = { "format", "export = ( { use = \"%s\"; } );" },
    [LM_REPORTER]  = { "reporter", "report = ( { use = \"%s\"; } );" },
};

static void choices(const struct lm_opt *o, char *out, size_t n)
{
    size_t at = 0;
    for (size_t i = 0; o->choices && o->choices[i] && at < n; i++) {
        int k = snprintf(out + at, n - at, "%s%s", i ? " | " : "", o->choices[i]);
        at += k > 0 ? (size_t)k : 0;
    }
}

const char *lm_opt_type_text(const struct lm_opt *o, char *out, size_t n)
{
    static const char *const name[] = {
        [LM_OPT_BOOL] = "true or false", [LM_OPT_INT] = "integer",
        [LM_OPT_REAL] = "real", [LM_OPT_STRING] = "text", [LM_OPT_PATH] = "path",
        [LM_OPT_TEXT] = "name of a text, or a file", [LM_OPT_INTS] = "integers",
        [LM_OPT_REALS] = "reals", [LM_OPT_STRINGS] = "texts",
        [LM_OPT_PLUGINS] = "list of plugins" };
    uint32_t member = lm_opt_member(o->type);
    char lo[40], hi[40];
    bool number = member == LM_OPT_INT || member == LM_OPT_REAL;
    if (o->type == LM_OPT_CHOICE)
        choices(o, out, n);
    else if (o->type >= sizeof name / sizeof *name || !name[o->type])
        snprintf(out, n, "unknown type");
    else if (number && (o->min != 0 || o->max != 0))
        snprintf(out, n, "%s %s..%s", name[o->type], lm_opt_number(lo, o->min),
                 lm_opt_number(hi, o->max));
    else
        snprintf(out, n, "%s", name[o->type]);
    return out;
}

/* Words of text in lines up to WIDTH, each after `indent` blanks; the first
 * line begins at column `at`.                                                */
static void wrap(struct lm_str *out, const char *text, size_t indent, size_t at)
{
    bool first = true;
    while (*text) {
        size_t n = strcspn(text, " ");
        if (n && !first && at + 1 + n > WIDTH) {
            lm_str_add(out, "\n");
            at = 0;
            first = true;
        }
        if (n) {
            size_t pad = at < indent && first ? indent - at : !first;
            lm_str_add(out, "%*s%.*s", (int)pad, "", (int)n, text);
            at += pad + n;
            first = false;
        }
        text += n + (text[n] == ' ');
    }
    lm_str_add(out, "\n");
}

const char *lm_options_kind(const struct lm_module *m)
{
    return m->kind > 0 && m->kind < LM_N_KINDS && kind[m->kind].word ? kind[m->kind].word
                                                                    : "options";
}

/* Repairs of finalists have a place of their own. */
static bool refines(const struct lm_module *m)
{
    const struct lm_repair *ops = m->kind == LM_REPAIR ? m->ops : NULL;
    return ops && (ops->needs & LM_BIT(LM_STAT_CROSS));
}

const char *lm_options_usage(const struct lm_module *m, char *out, size_t n)
{
    const char *usage = m->kind > 0 && m->kind < LM_N_KINDS ? kind[m->kind].usage : NULL;
    usage = refines(m) ? "refine = { use = \"%s\"; };" : usage;
    const char *gap = usage ? strstr(usage, "%s") : NULL;
    snprintf(out, n, "%.*s%s%s", gap ? (int)(gap - usage) : 0, gap ? usage : "",
             gap ? m->name : "", gap ? gap + 2 : "");
    return out;
}

static void heading(const struct lm_module *m, struct lm_str *out)
{
    char usage[160];
    lm_str_add(out, "%s %s: %s\n\n", m->name, m->version ? m->version : "",
               lm_options_kind(m));
    if (m->summary)
        wrap(out, m->summary, 2, 0);
    if (m->reference) {
        lm_str_add(out, "  Reference: ");
        wrap(out, m->reference, 13, 13);
    }
    if (m->author || m->license)
        lm_str_add(out, "  %s%s%s\n", m->author ? m->author : "",
                   m->author && m->license ? "; " : "", m->license ? m->license : "");
    if (*lm_options_usage(m, usage, sizeof usage))
        lm_str_add(out, "\n  %s\n", usage);
}

static void one(const struct lm_opt *o, size_t column, struct lm_str *out)
{
    struct lm_str line = { 0 };
    char type[512];
    lm_str_add(&line, "%s", lm_opt_type_text(o, type, sizeof type));
    if (o->unit && *o->unit)
        lm_str_add(&line, " (%s)", o->unit);
    if (o->flags & LM_REQUIRED)
        lm_str_add(&line, "; required");
    else if (o->def && *o->def)
        lm_str_add(&line, "; default %s", o->def);
    if (o->flags & LM_TUNABLE)
        lm_str_add(&line, "; can be searched");
    if (o->flags & LM_EXPERT)
        lm_str_add(&line, "; for experts");
    lm_str_add(out, "  %-*s  ", (int)(column - 4), o->name);
    wrap(out, line.s ? line.s : "", column, column);
    out->failed |= line.failed;
    lm_str_free(&line);
    wrap(out, o->help ? o->help : "", column, 0);
    if (o->alias)
        lm_str_add(out, "%*s(formerly '%s')\n", (int)column, "", o->alias);
}

void lm_options_list(const struct lm_module *m, struct lm_str *out)
{
    const struct lm_opt *o;
    size_t column = 0;
    bool tunable = false;
    for (size_t i = 0; (o = lm_opt_at(m, i)); i++) {
        size_t n = strlen(o->name) + 4;
        column = n > column ? n : column;
        tunable |= (o->flags & LM_TUNABLE) != 0;
    }
    for (size_t i = 0; (o = lm_opt_at(m, i)); i++)
        one(o, column, out);
    if (tunable)
        lm_str_add(out, "\nWhat can be searched may be written { min = A; max = B; "
                   "step = C; log = true; }\nor { choice = ( A, B, C ); } and becomes "
                   "a gene.\n");
}

void lm_options_help(const struct lm_module *m, struct lm_str *out)
{
    heading(m, out);
    lm_str_add(out, lm_opt_at(m, 0) ? "\nOptions\n" : "\n  It has no options.\n");
    lm_options_list(m, out);
}
