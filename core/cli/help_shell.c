/* SPDX-License-Identifier: Apache-2.0 */
/* help_shell.c -- completions for bash, zsh and fish, from the tables of
 * commands and options.  Names of plugins are asked of the program when they
 * are wanted; what takes a path completes to files.                         */
#include <string.h>

#include "cli/cli.h"
#include "pipeline/pipeline.h"

/* What can stand where a value or an argument is wanted.  TOPICS: plugins, commands
 * and `pipeline`; PLUGIN_FILES: plugins and files.                           */
enum { FILES, WORDS, PLUGINS, TOPICS, PLUGIN_FILES, NOTHING };
struct hint { int what; const char *words; };

/* By the option's value as its help shows it. */
static struct hint of_value(const struct lm_flag *f)
{
    if (!strcmp(f->name, "metric"))
        return (struct hint){ PLUGINS, "evaluator" };
    if (!strcmp(f->name, "backend"))
        return (struct hint){ PLUGINS, "backend" };
    if (!strcmp(f->name, "format"))
        return (struct hint){ PLUGINS, "format" };
    if (!strcmp(f->name, "dtype"))
        return (struct hint){ WORDS, LM_DTYPE_NAMES };
    if (!strcmp(f->name, "completion"))
        return (struct hint){ WORDS, "bash zsh fish" };
    if (f->value && (strstr(f->value, "DIR") || strstr(f->value, "FILE") ||
                     strstr(f->value, "PATH")) && !strchr(f->value, '='))
        return (struct hint){ FILES, NULL };
    return (struct hint){ NOTHING, NULL };
}

static struct hint of_command(const char *name)
{
    static const struct { const char *name; struct hint hint; } known[] = {
        { "list", { WORDS, "search pruner scorer repair quantizer evaluator backend "
                           "format reporter" } },
        { "new-plugin", { WORDS, "search pruner scorer repair evaluator reporter" } },
        { "help", { TOPICS, "" } }, { "selftest", { PLUGIN_FILES, "" } },
        { "cache", { WORDS, "list clear" } },
        { "doctor", { NOTHING, NULL } } };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(name, known[i].name))
            return known[i].hint;
    return (struct hint){ FILES, NULL };
}

static const char head[] =
    "# Completion of lamina, written by `lamina help --completion`.\n";
static const char names[] = "2>/dev/null";
static const char global_words[] = "--plugin-path --quiet --version --help";

struct writer {
    struct lm_str *out;
    const char *command;
    void (*flag)(struct writer *w, const struct lm_flag *f);
};

static void each_flag(void *ctx, const struct lm_flag *flag, size_t n)
{
    struct writer *w = ctx;
    for (size_t i = 0; i < n; i++)
        w->flag(w, &flag[i]);
}

/* flag() for every option of a command. */
static enum lm_status flags_of(struct writer *w, const struct lm_command *c,
                               struct lm_err *e)
{
    w->command = c->name;
    return lm_command_flags(c, each_flag, w, e);
}

static void all_commands(struct lm_str *out)
{
    for (const struct lm_command *c = lm_commands; c->name; c++)
        lm_str_add(out, "%s%s", c == lm_commands ? "" : " ", c->name);
}

/* ---- bash ------------------------------------------------------------------------ */

static void bash_flag(struct writer *w, const struct lm_flag *f)
{
    lm_str_add(w->out, " --%s", f->name);
}

static void bash_values(struct writer *w, const struct lm_flag *f)
{
    struct hint h = of_value(f);
    if (f->type == 'b')
        return;
    lm_str_add(w->out, "    %s:--%s) ", w->command, f->name);
    if (h.what == WORDS)
        lm_str_add(w->out, "words='%s' files= ;;\n", h.words);
    else if (h.what == PLUGINS)
        lm_str_add(w->out, "words=$(lamina list --names %s %s) files= ;;\n", h.words, names);
    else if (h.what == FILES)
        lm_str_add(w->out, "words= files=y ;;\n");
    else
        lm_str_add(w->out, "words= files= ;;\n");
}

static void bash_argument(struct lm_str *out, const char *command)
{
    struct hint h = of_command(command);
    if (h.what == WORDS)
        lm_str_add(out, " words='%s'", h.words);
    else if (h.what == TOPICS) {
        lm_str_add(out, " words=\"pipeline ");
        all_commands(out);
        lm_str_add(out, " $(lamina list --names %s)\"", names);
    } else if (h.what == PLUGIN_FILES)
        lm_str_add(out, " words=$(lamina list --names %s) files=y", names);
    else if (h.what == FILES)
        lm_str_add(out, " files=y");
}

static enum lm_status bash(struct lm_str *out, struct lm_err *e)
{
    struct writer w = { .out = out };
    enum lm_status s = LM_OK;
    lm_str_add(out, "%s_lamina()\n{\n"
        "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
        "  local cmd= i words= files= opts=\n"
        "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
        "    case ${COMP_WORDS[i]} in\n"
        "    --plugin-path) ((i++)) ;;\n    -*) ;;\n"
        "    *) cmd=${COMP_WORDS[i]}; break ;;\n    esac\n  done\n"
        "  if [[ -z $cmd ]]; then\n"
        "    case $prev in\n    --plugin-path) files=y ;;\n    *) words='", head);
    all_commands(out);
    lm_str_add(out, "' opts='%s' ;;\n    esac\n  fi\n  case $cmd in\n", global_words);
    w.flag = bash_flag;
    for (const struct lm_command *c = lm_commands; c->name && !s; c++) {
        lm_str_add(out, "  %s) opts='--help", c->name);
        s = flags_of(&w, c, e);
        lm_str_add(out, "'");
        bash_argument(out, c->name);
        lm_str_add(out, " ;;\n");
    }
    lm_str_add(out, "  esac\n  [[ $cur == -* ]] && words=$opts files=\n"
               "  case $cmd:$prev in\n");
    w.flag = bash_values;
    for (const struct lm_command *c = lm_commands; c->name && !s; c++)
        s = flags_of(&w, c, e);
    lm_str_add(out, "  esac\n"
        "  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
        "  if [[ -n $files ]]; then\n    compopt -o filenames 2>/dev/null\n"
        "    mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -f -- \"$cur\")\n  fi\n"
        "  return 0\n}\ncomplete -F _lamina lamina\n");
    return s;
}

/* ---- zsh ------------------------------------------------------------------------- */

/* Text inside '...[here]...:': quotes, brackets and colons would end it. */
static void zsh_text(struct lm_str *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '\'')
            lm_str_add(out, "'\\''");
        else if (strchr("[]:\\", *text))
            lm_str_add(out, "\\%c", *text);
        else
            lm_str_put(out, text, 1);
    }
}

static void zsh_action(struct lm_str *out, struct hint h)
{
    if (h.what == WORDS)
        lm_str_add(out, "(%s)", h.words);
    else if (h.what == PLUGINS || h.what == TOPICS)
        lm_str_add(out, "{_lamina_plugins %s}", h.words);
    else if (h.what == PLUGIN_FILES)
        lm_str_add(out, "{_lamina_plugins; _files}");
    else if (h.what == FILES)
        lm_str_add(out, "_files");
}

static void zsh_flag(struct writer *w, const struct lm_flag *f)
{
    lm_str_add(w->out, " \\\n      '%s--%s[", f->type == 'l' ? "*" : "", f->name);
    zsh_text(w->out, f->help);
    lm_str_add(w->out, "]");
    if (f->type != 'b') {
        lm_str_add(w->out, ":");
        zsh_text(w->out, f->value ? f->value : "value");
        lm_str_add(w->out, ":");
        zsh_action(w->out, of_value(f));
    }
    lm_str_add(w->out, "'");
}

static enum lm_status zsh(struct lm_str *out, struct lm_err *e)
{
    struct writer w = { .out = out, .flag = zsh_flag };
    enum lm_status s = LM_OK;
    lm_str_add(out, "#compdef lamina\n%s_lamina_plugins()\n{\n  local -a found\n"
        "  found=(${(f)\"$(lamina list --names $1 %s)\"})\n  compadd -a "
        "found\n}\n\n_lamina()\n{\n  local curcontext=$curcontext state line\n"
        "  local -a commands\n  commands=(\n",
        head, names);
    for (const struct lm_command *c = lm_commands; c->name; c++) {
        lm_str_add(out, "    '%s:", c->name);
        zsh_text(out, c->summary);
        lm_str_add(out, "'\n");
    }
    lm_str_add(out, "  )\n  _arguments -C '--plugin-path[folder of plugins]:DIR:_files' "
        "\\\n    '--quiet[warnings and errors only]' '--version[print the version]' \\\n"
        "    '--help[list the commands]' '1:command:->command' '*::argument:->argument'\n"
        "  case $state in\n  command) _describe command commands ;;\n  argument)\n"
        "    case $line[1] in\n");
    for (const struct lm_command *c = lm_commands; c->name && !s; c++) {
        lm_str_add(out, "    %s) _arguments '--help[its options]'", c->name);
        s = flags_of(&w, c, e);
        struct hint h = of_command(c->name);
        if (h.what != NOTHING) {
            lm_str_add(out, " \\\n      '*:argument:");
            zsh_action(out, h);
            lm_str_add(out, "'");
        }
        lm_str_add(out, " ;;\n");
    }
    lm_str_add(out, "    esac ;;\n  esac\n}\n\n"
               "if [[ $funcstack[1] == _lamina ]]; then _lamina \"$@\"; "
               "else compdef _lamina lamina; fi\n");
    return s;
}

/* ---- fish ------------------------------------------------------------------------- */

static void fish_quote(struct lm_str *out, const char *text)
{
    lm_str_add(out, "'");
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\')
            lm_str_add(out, "\\");
        lm_str_put(out, text, 1);
    }
    lm_str_add(out, "'");
}

static void fish_action(struct lm_str *out, struct hint h)
{
    if (h.what == WORDS)
        lm_str_add(out, " -x -a '%s'", h.words);
    else if (h.what == PLUGINS || h.what == TOPICS)
        lm_str_add(out, " -x -a '(__lamina_plugins %s)'", h.words);
    else if (h.what == PLUGIN_FILES)
        lm_str_add(out, " -F -a '(__lamina_plugins)'");
    else
        lm_str_add(out, h.what == FILES ? " -r -F" : " -x");
}

static void fish_flag(struct writer *w, const struct lm_flag *f)
{
    lm_str_add(w->out, "complete -c lamina -n '__fish_seen_subcommand_from %s' -l %s",
               w->command, f->name);
    if (f->type != 'b')
        fish_action(w->out, of_value(f));
    lm_str_add(w->out, " -d ");
    fish_quote(w->out, f->help);
    lm_str_add(w->out, "\n");
}

static enum lm_status fish(struct lm_str *out, struct lm_err *e)
{
    struct writer w = { .out = out, .flag = fish_flag };
    enum lm_status s = LM_OK;
    lm_str_add(out, "%sfunction __lamina_plugins\n  lamina list --names $argv %s\nend\n"
        "complete -c lamina -f\n"
        "complete -c lamina -n __fish_use_subcommand -l plugin-path -r -F -d 'folder of "
        "plugins'\n"
        "complete -c lamina -n __fish_use_subcommand -l quiet -d 'warnings and errors "
        "only'\ncomplete -c lamina -n __fish_use_subcommand -l version -d 'print the "
        "version'\ncomplete -c lamina -l help -d 'explain'\n", head, names);
    for (const struct lm_command *c = lm_commands; c->name && !s; c++) {
        struct hint h = of_command(c->name);
        lm_str_add(out, "complete -c lamina -n __fish_use_subcommand -a %s -d ", c->name);
        fish_quote(out, c->summary);
        lm_str_add(out, "\n");
        if (h.what == FILES)
            lm_str_add(out, "complete -c lamina -n '__fish_seen_subcommand_from %s' -F\n",
                       c->name);
        else if (h.what != NOTHING) {
            lm_str_add(out, "complete -c lamina -n '__fish_seen_subcommand_from %s'",
                       c->name);
            fish_action(out, h);
            lm_str_add(out, "\n");
        }
        s = flags_of(&w, c, e);
    }
    return s;
}

enum lm_status lm_help_shell(const char *shell, struct lm_str *out, struct lm_err *e)
{
    if (!strcmp(shell, "bash"))
        return bash(out, e);
    if (!strcmp(shell, "zsh"))
        return zsh(out, e);
    if (!strcmp(shell, "fish"))
        return fish(out, e);
    return lm_fail(e, LM_ECONFIG, "help: --completion: '%s' is none of bash, zsh, fish",
                   shell);
}
