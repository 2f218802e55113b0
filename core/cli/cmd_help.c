/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_help.c -- help: commands, plugins and pipeline files explained, for people,
 * as manual pages, as completions of shells.                                */
#include <string.h>

#include "cli/cli.h"
#include "config.h"
#include "config/opt.h"
#include "loader/loader.h"
#include "pipeline/pipeline.h"

static void pipeline_help(struct lm_str *out)
{
    const struct lm_module *g;
    lm_str_add(out, "A pipeline file begins with `lamina = 1;`.  Its groups:\n");
    for (size_t i = 0; (g = lm_pipeline_group(i)); i++) {
        lm_str_add(out, "\n%s: %s\n", g->name, g->summary);
        lm_options_list(g, out);
    }
    lm_str_add(out, "\nscore, prune, quantize, evaluate, final, report (lists), repair, "
               "search, backend:\n  plugins, { use = \"NAME\"; id = \"ANOTHER_NAME\"; OPTION = "
               "VALUE; }; see `lamina list` and\n  `lamina help NAME`.\n");
}

static enum lm_status plugin_help(const char *name, bool man, struct lm_str *out,
                                  struct lm_err *e)
{
    const struct lm_loaded *p;
    enum lm_status s = lm_loader_any(name, &p, e);
    if (!s && man)
        lm_options_man(&p->module, PACKAGE_VERSION, out);
    else if (!s)
        lm_options_help(&p->module, out);
    return s;
}

static enum lm_status make(const char *topic, bool man, struct lm_str *out,
                           struct lm_err *e)
{
    if (!topic && man)
        return lm_help_man(out, e);
    for (const struct lm_command *c = lm_commands; c->name; c++) {
        if (!topic)
            lm_str_add(out, "lamina %s %s\n    %s\n", c->name, c->usage, c->summary);
        else if (!strcmp(topic, c->name))
            return man ? lm_help_man(out, e) : lm_command_flags(c, NULL, NULL, e);
    }
    if (!topic)
        return LM_OK;
    if (strcmp(topic, "pipeline"))
        return plugin_help(topic, man, out, e);
    if (man)
        lm_help_man_pipeline(out);
    else
        pipeline_help(out);
    return LM_OK;
}

enum lm_status lm_cmd_help(int argc, char **argv, struct lm_err *e)
{
    struct lm_list at;
    const char *shell = NULL;
    bool help, man = false;
    struct lm_str out = { 0 };
    const struct lm_flag flag[] = {
        { "man", 'b', &man, NULL, "as a manual page (roff), for `man -l -`" },
        { "completion", 's', &shell, "SHELL",
          "completion script for bash, zsh or fish" } };
    enum lm_status s = lm_flags_parse(argc, argv, flag, 2, &at, 0, 1, &help, e);
    if (s || help)
        return s;
    if (shell && (at.n || man))
        return lm_fail(e, LM_ECONFIG, "help: --completion stands alone");
    s = shell ? lm_help_shell(shell, &out, e) : make(at.n ? at.v[0] : NULL, man, &out, e);
    if (!s)
        return lm_print_str(&out, e);
    lm_str_free(&out);
    return s;
}
