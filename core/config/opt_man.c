/* SPDX-License-Identifier: Apache-2.0 */
/* opt_man.c -- option schemas as manual pages: `lamina help NAME --man`.
 *
 * Only macros that man(7) has had for decades; all text goes through
 * lm_man_text, so nothing in it can be a request.                            */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include "config/opt_value.h"

void lm_man_text(struct lm_str *out, const char *text)
{
    bool start = !out->n || out->s[out->n - 1] == '\n';
    for (; *text; text++) {
        if (start && (*text == '.' || *text == '\''))
            lm_str_add(out, "\\&");
        if (*text == '\\')
            lm_str_add(out, "\\e");
        else if (*text == '-')
            lm_str_add(out, "\\-");
        else if (*text == '\'')
            lm_str_add(out, "\\(aq");
        else if (*text == '`')
            lm_str_add(out, "\\(ga");
        else if (*text == '^')
            lm_str_add(out, "\\(ha");
        else if (*text == '~')
            lm_str_add(out, "\\(ti");
        else
            lm_str_put(out, text, 1);
        start = *text == '\n';
    }
}

void lm_man_head(struct lm_str *out, const char *name, const char *section,
                 const char *version, const char *summary)
{
    char upper[80];
    size_t i = 0;
    for (; name[i] && i + 1 < sizeof upper; i++)
        upper[i] = (char)toupper((unsigned char)name[i]);
    upper[i] = 0;
    lm_str_add(out, ".\\\" Written by the program itself; changes here are lost.\n.TH ");
    lm_man_text(out, upper);
    lm_str_add(out, " %s \"\" \"lamina %s\"\n.nh\n.ad l\n.SH NAME\n", section, version);
    lm_man_text(out, name);
    lm_str_add(out, " \\- ");
    lm_man_text(out, summary);
    lm_str_add(out, "\n");
}

static void one(const struct lm_opt *o, struct lm_str *out)
{
    char type[512];
    lm_str_add(out, ".TP\n\\fB%s\\fR = ", o->name);
    lm_man_text(out, lm_opt_type_text(o, type, sizeof type));
    if (o->unit && *o->unit) {
        lm_str_add(out, " (");
        lm_man_text(out, o->unit);
        lm_str_add(out, ")");
    }
    if (o->flags & LM_REQUIRED)
        lm_str_add(out, ", required");
    else if (o->def && *o->def) {
        lm_str_add(out, ", default ");
        lm_man_text(out, o->def);
    }
    if (o->flags & LM_TUNABLE)
        lm_str_add(out, ", can be searched");
    if (o->flags & LM_EXPERT)
        lm_str_add(out, ", for experts");
    lm_str_add(out, "\n");
    lm_man_text(out, o->help ? o->help : "");
    lm_str_add(out, "\n");
}

void lm_options_man_list(const struct lm_module *m, struct lm_str *out)
{
    const struct lm_opt *o;
    bool tunable = false;
    for (size_t i = 0; (o = lm_opt_at(m, i)); i++) {
        one(o, out);
        tunable |= (o->flags & LM_TUNABLE) != 0;
    }
    if (tunable) {
        lm_str_add(out, ".PP\n");
        lm_man_text(out, "What can be searched may be written { min = A; max = B; step = "
                    "C; log = true; } or { choice = ( A, B, C ); } and becomes a "
                    "gene.\n");
    }
}

void lm_options_man(const struct lm_module *m, const char *version, struct lm_str *out)
{
    char name[80], usage[160];
    snprintf(name, sizeof name, "lamina-%s", m->name);
    lm_man_head(out, name, "7", version, m->summary ? m->summary : "a plugin of Lamina");
    lm_str_add(out, ".SH SYNOPSIS\n.nf\n");
    lm_man_text(out, lm_options_usage(m, usage, sizeof usage));
    lm_str_add(out, "\n.fi\n.SH DESCRIPTION\nThe %s \\fB%s\\fR, version %s.\n",
               lm_options_kind(m), m->name, m->version ? m->version : "unknown");
    if (m->reference) {
        lm_str_add(out, ".PP\nReference: ");
        lm_man_text(out, m->reference);
        lm_str_add(out, "\n");
    }
    lm_str_add(out, ".SH OPTIONS\n");
    if (lm_opt_at(m, 0))
        lm_options_man_list(m, out);
    else
        lm_str_add(out, "It has none.\n");
    if (m->author) {
        lm_str_add(out, ".SH AUTHOR\n");
        lm_man_text(out, m->author);
        if (m->license) {
            lm_str_add(out, "; ");
            lm_man_text(out, m->license);
        }
        lm_str_add(out, "\n");
    }
    lm_str_add(out, ".SH SEE ALSO\n.BR lamina (1),\n.BR lamina.cfg (5),\n"
               ".BR lamina\\-plugin (7)\n");
}
