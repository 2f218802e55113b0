/* SPDX-License-Identifier: Apache-2.0 */
/* help_man.c -- lamina(1) and lamina.cfg(5), from the tables of commands and
 * options, so that they cannot say what is not so.                          */
#include <string.h>

#include "cli/cli.h"
#include "config.h"
#include "config/opt.h"
#include "pipeline/pipeline.h"

static void section(struct lm_str *out, const char *name)
{
    lm_str_add(out, ".SH %s\n", name);
}

static void text(struct lm_str *out, const char *s)
{
    lm_man_text(out, s);
    lm_str_add(out, "\n");
}

static void term(struct lm_str *out, const char *name, const char *value,
                 const char *help)
{
    lm_str_add(out, ".TP\n\\fB");
    lm_man_text(out, name);
    lm_str_add(out, "\\fR");
    if (value) {
        lm_str_add(out, " \\fI");
        lm_man_text(out, value);
        lm_str_add(out, "\\fR");
    }
    lm_str_add(out, "\n");
    text(out, help);
}

static void options(void *ctx, const struct lm_flag *flag, size_t n)
{
    struct lm_str *out = ctx;
    if (!n)
        return;
    lm_str_add(out, ".RS\n");
    for (size_t i = 0; i < n; i++) {
        char name[64] = "--";
        strncat(name, flag[i].name, sizeof name - 3);
        term(out, name, flag[i].value, flag[i].help);
    }
    lm_str_add(out, ".RE\n");
}

static void see_also(struct lm_str *out, const char *other, const char *in)
{
    section(out, "SEE ALSO");
    lm_str_add(out, ".BR %s (%s),\n.BR lamina\\-plugin (7)\n", other, in);
}

enum lm_status lm_help_man(struct lm_str *out, struct lm_err *e)
{
    enum lm_status s = LM_OK;
    lm_man_head(out, "lamina", "1", PACKAGE_VERSION,
                "make smaller, faster LLaMA-family models");
    section(out, "SYNOPSIS");
    lm_str_add(out, ".B lamina\n[\\fB\\-\\-plugin\\-path\\fR \\fIDIR\\fR]\n"
               "[\\fB\\-\\-quiet\\fR] \\fICOMMAND\\fR ...\n");
    section(out, "DESCRIPTION");
    text(out, "Searches the sub-networks of a model for the best trade between quality, "
         "size and speed, repairs what it cuts, and writes checkpoints that llama.cpp "
         "and transformers load.  `lamina shrink MODEL --text FILE` does all of it with "
         "good defaults and prints the pipeline file that it runs.");
    section(out, "OPTIONS");
    term(out, "--plugin-path", "DIR", "a folder of plugins that comes before all others; "
         "several are separated by colons");
    term(out, "--quiet", NULL, "print warnings and errors only");
    term(out, "--version", NULL, "print the version");
    term(out, "--help", NULL, "list the commands; behind a command: its options");
    section(out, "COMMANDS");
    for (const struct lm_command *c = lm_commands; c->name && !s; c++) {
        term(out, c->name, c->usage, c->summary);
        s = lm_command_flags(c, options, out, e);
    }
    section(out, "EXIT STATUS");
    text(out, "0 done; 1 failed (full disk, unwritable folder, no trial meets the "
         "constraints); 2 usage or configuration; 3 a model, text or study that is "
         "missing, damaged, unsupported or too short; 130 interrupted.");
    section(out, "ENVIRONMENT");
    term(out, "LAMINA_PLUGIN_PATH", NULL, "folders of plugins, separated by colons, "
         "before the installed ones");
    term(out, "LAMINA_CPU", NULL,
         "vector instructions of the backend cpu: portable, avx2, "
         "avx512, avx512_vnni or avx512_bf16, where its option kernels is auto; the best "
         "the processor has otherwise");
    term(out, "LAMINA_LIBCUDA", NULL,
         "library of NVIDIA's driver for the backend cuda, in place of libcuda.so.1");
    term(out, "XDG_CACHE_HOME", NULL,
         "its folder lamina holds statistics; ~/.cache otherwise");
    see_also(out, "lamina.cfg", "5");
    return s;
}

void lm_help_man_pipeline(struct lm_str *out)
{
    const struct lm_module *g;
    lm_man_head(out, "lamina.cfg", "5", PACKAGE_VERSION, "pipeline files of Lamina");
    section(out, "DESCRIPTION");
    text(out, "A pipeline file says what `lamina run` does: settings NAME = VALUE; in "
         "groups NAME: { ... }; and lists ( ... ), in the syntax of libconfig.  The "
         "first setting is lamina = 1, the version of the format.  Comments begin with "
         "#.  Relative paths are those of the folder that lamina is started in.  A file "
         "with a group sweep is for `lamina sweep`.");
    lm_str_add(out, ".PP\n");
    text(out, "Stages name plugins: { use = \"NAME\"; id = \"ANOTHER\"; OPTION = VALUE; "
         "}.  score, prune, quantize, evaluate, final and report are lists of them; "
         "repair, refine, search and backend are single ones.  Where a plugin is used twice in "
         "a list, `id` gives one another name; metrics are called ID.METRIC.");
    for (size_t i = 0; (g = lm_pipeline_group(i)); i++) {
        char title[64];
        size_t k = 0;
        for (; g->name[k] && k + 1 < sizeof title; k++)
            title[k] = (char)(g->name[k] >= 'a' && g->name[k] <= 'z' ? g->name[k] - 32
                                                                   : g->name[k]);
        title[k] = 0;
        section(out, title);
        text(out, g->summary);
        lm_options_man_list(g, out);
    }
    see_also(out, "lamina", "1");
}
