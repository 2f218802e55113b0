/* SPDX-License-Identifier: Apache-2.0 */
/* main.c -- the program: finds the command, reports how it ended. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "cli/cli.h"
#include "config.h"
#include "loader/loader.h"

const struct lm_command lm_commands[] = {
    { "shrink", "MODEL [--to 0.8 | --max-size 100MB | --max-latency 20ms] [--text FILE] "
      "[--out DIR] [--minutes N] [--dry-run]", "make a model smaller with good defaults",
          lm_cmd_shrink },
    { "run", "FILE [--set PATH=VALUE]... [--dry-run] [--allow-commands] | --resume DIR "
      "[--set run.workers=N]...",
      "run a pipeline file", lm_cmd_run },
    { "sweep", "FILE [--set PATH=VALUE]... [--dry-run] [--allow-commands]",
      "run the variants of a pipeline file and compare them", lm_cmd_sweep },
    { "check", "FILE [--set PATH=VALUE]... [--effective]", "validate a pipeline file",
      lm_cmd_check },
    { "list", "[KIND] [--names]", "list the plugins that can be used, and the devices of "
      "backends", lm_cmd_list },
    { "help", "[COMMAND | PLUGIN | pipeline] [--man] [--completion bash|zsh|fish]",
      "explain a command, a plugin's options or the groups of a pipeline file",
      lm_cmd_help },
    { "inspect", "MODEL | RUN", "say what a model or a run folder holds",
        lm_cmd_inspect },
    { "eval", "MODEL --metric NAME[:key=value,...]... [--backend NAME[:key=value,...]] "
      "[--threads N] [--allow-commands] [--json]", "measure a model", lm_cmd_eval },
    { "profile", "MODEL [--backend NAME[:key=value,...]] [--prefill N] [--decode T@C] "
      "[--threads N] [--formats LIST] [--narrow] [--out FILE]",
      "measure operators into a table that predicts latency", lm_cmd_profile },
    { "generate", "MODEL (--prompt TEXT [--chat [--system TEXT]] | --ids 1,2,3) "
      "[--tokens N] [--greedy | "
      "--temperature T --top-p P --seed S] [--ignore-eos] [--backend ...] [--threads N] "
      "[--json]", "continue a text", lm_cmd_generate },
    { "tokenize", "MODEL TEXT [--bos] [--special] [--json]", "token ids of a text",
      lm_cmd_tokenize },
    { "export", "RUN TRIAL|best|knee|smallest OUT [--format hf|gguf] [--dtype ...] "
      "[--force]",
      "write a trial as a model", lm_cmd_export },
    { "convert", "IN OUT [--format hf|gguf] [--dtype ...] [--force]",
      "write a model in another format or number format", lm_cmd_convert },
    { "report", "RUN", "write a run's reports again", lm_cmd_report },
    { "cache", "list | clear",
      "list or remove what the cache folder holds (statistics, downloads)",
      lm_cmd_cache },
    { "doctor", "[--json]", "examine this machine and this installation", lm_cmd_doctor },
    { "selftest", "[PLUGIN | KIND/PLUGIN | ./FILE.so][:key=value,...]... [--seconds N]",
      "hold plugins to their contract", lm_cmd_selftest },
    { "new-plugin", "search|pruner|scorer|repair|evaluator|reporter NAME [--out DIR]",
      "begin a plugin: source, Makefile, test", lm_cmd_new_plugin },
    { NULL, NULL, NULL, NULL }
};

static const struct lm_command hidden[] = {
    { "worker", "", "work for a run", lm_cmd_worker },
    { "devices", "NAME", "ask a backend for its devices", lm_cmd_devices } };

static void usage(FILE *to)
{
    fprintf(to, "lamina %s - makes smaller, faster LLaMA-family models\n\n"
            "usage: lamina [--plugin-path DIR] [--quiet] COMMAND ...\n\n",
                PACKAGE_VERSION);
    for (const struct lm_command *c = lm_commands; c->name; c++)
        fprintf(to, "  %-10s %s\n", c->name, c->summary);
    fprintf(to, "\n`lamina help COMMAND` and `lamina help PLUGIN` say more.\n");
}

static const struct lm_command *find(const char *name, struct lm_err *e)
{
    const char *names[32];
    size_t n = 0;
    for (const struct lm_command *c = lm_commands; c->name; c++) {
        if (!strcmp(c->name, name))
            return c;
        names[n++] = c->name;
    }
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++)
        if (!strcmp(name, hidden[i].name))
            return &hidden[i];
    const char *near = lm_nearest(name, names, n);
    lm_fail(e, LM_ECONFIG, "no command '%s'%s%s%s", name, near ? "; did you mean '" : "",
            near ? near : "", near ? "'?" : "; see `lamina help`");
    return NULL;
}

/* Options before the command; returns the index of the command. */
static int global_options(int argc, char **argv, const char **plugins, struct lm_err *e)
{
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (!strcmp(argv[i], "--plugin-path") && i + 1 < argc)
            *plugins = argv[++i];
        else if (!strcmp(argv[i], "--plugin-path")) {
            lm_fail(e, LM_ECONFIG, "--plugin-path needs a folder of plugins");
            return -1;
        }
        else if (!strcmp(argv[i], "--quiet"))
            lm_log_level(LM_WARN);
        else if (!strcmp(argv[i], "--version")) {
            printf("lamina %s\n", PACKAGE_VERSION);
            return 0;
        } else if (!strcmp(argv[i], "--help")) {
            usage(stdout);
            return 0;
        } else {
            lm_fail(e, LM_ECONFIG, "unknown option '%s'; see `lamina help`", argv[i]);
            return -1;
        }
    }
    return i;
}

/* What a terminal shows may come from a stranger's model or study; into files
 * and pipes it goes as it is.                                                */
enum lm_status lm_print(const char *text, size_t n, struct lm_err *e)
{
    if (isatty(STDOUT_FILENO)) {
        char *tame = lm_alloc(n + 1, "output");
        if (!tame)
            return lm_fail_memory(e, n + 1, "output");
        memcpy(tame, text, n);
        lm_str_tame(tame, n);
        bool whole = fwrite(tame, 1, n, stdout) == n && !fflush(stdout);
        lm_release(tame);
        return whole ? LM_OK : lm_fail(e, LM_EIO, "standard output: %s", strerror(errno));
    }
    if (fwrite(text, 1, n, stdout) != n || fflush(stdout))
        return lm_fail(e, LM_EIO, "standard output: %s", strerror(errno));
    return LM_OK;
}

enum lm_status lm_print_str(struct lm_str *text, struct lm_err *e)
{
    enum lm_status s = text->failed ? lm_fail_memory(e, text->n, "the text")
                     : text->n ? lm_print(text->s, text->n, e) : LM_OK;
    lm_str_free(text);
    return s;
}

static enum lm_status run(int argc, char **argv, struct lm_err *e)
{
    const char *plugins = NULL;
    int at = global_options(argc, argv, &plugins, e);
    if (at == 0)
        return LM_OK;
    if (at < 0)
        return LM_ECONFIG;
    if (at == argc) {
        usage(stderr);
        return lm_fail(e, LM_ECONFIG, "name a command");
    }
    const struct lm_command *c = find(argv[at], e);
    if (!c)
        return LM_ECONFIG;
    enum lm_status s = lm_loader_start(plugins, e);
    if (!s) {
        lm_cancel_on_signals();
        s = c->run(argc - at, argv + at, e);
    }
    lm_pool_stop();
    lm_loader_stop();
    return s;
}

int main(int argc, char **argv)
{
    struct lm_err e = { 0 };
    signal(SIGPIPE, SIG_IGN);           /* a failed write is an error like others, */
    signal(SIGXFSZ, SIG_IGN);           /* one over a limit of file sizes, too */
    signal(SIGCHLD, SIG_DFL);           /* a parent may have had it ignored */
    enum lm_status s = run(argc, argv, &e);
    if (!s && (fflush(stdout) || ferror(stdout)))
        s = lm_fail(&e, LM_EIO, "standard output: %s", strerror(errno));
    if (s) {
        if (strstr(e.text, ": error: "))    /* already FILE:LINE: error: ... */
            fprintf(stderr, "%s\n", e.text);
        else
            fprintf(stderr, "lamina: %s\n", e.text[0] ? e.text : lm_status_name(s));
    }
    return lm_exit_code(s);
}
