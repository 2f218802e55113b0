/* SPDX-License-Identifier: Apache-2.0 */
/* cli.h -- the commands of the program.  Only files of this folder print. */
#ifndef LM_CLI_CLI_H
#define LM_CLI_CLI_H
#include "base/err.h"
#include "base/str.h"

enum { LM_MAX_LIST = 64 };
struct lm_list { const char *v[LM_MAX_LIST]; size_t n; };

/* One option of a command: --name VALUE or --name=VALUE. */
struct lm_flag {
    const char *name;
    char type;                  /* b bool, s string, l list, i int64, r real */
    void *to;                   /* bool, const char *, lm_list, int64_t, double */
    const char *value, *help;
};
struct lm_command {
    const char *name, *usage, *summary;
    enum lm_status (*run)(int argc, char **argv, struct lm_err *e);
};
extern const struct lm_command lm_commands[];       /* ends with name == NULL */

/* Positional arguments go to `position`; --help prints and sets *help. */
enum lm_status lm_flags_parse(int argc, char **argv, const struct lm_flag *flag,
                              size_t n_flag, struct lm_list *position, size_t min,
                              size_t max, bool *help, struct lm_err *e);
/* Shows a command's options, as its --help has them; see NULL: prints that. */
typedef void lm_flags_see(void *ctx, const struct lm_flag *flag, size_t n);
enum lm_status lm_command_flags(const struct lm_command *c, lm_flags_see *see, void *ctx,
                                struct lm_err *e);
/* The page lamina(1), lamina.cfg(5), and a completion for "bash", "zsh" or "fish"
 * (help_man.c, help_shell.c).                                               */
enum lm_status lm_help_man(struct lm_str *out, struct lm_err *e);
void lm_help_man_pipeline(struct lm_str *out);
enum lm_status lm_help_shell(const char *shell, struct lm_str *out, struct lm_err *e);
/* The flag that lets `command` evaluators run: a row of a table. */
#define LM_FLAG_COMMANDS(to) { "allow-commands", 'b', to, NULL, \
    "let `command` evaluators run their programs" }
/* The format of what is written to OUT, and what it is when none is named. */
#define LM_FLAG_FORMAT(to) { "format", 's', to, "NAME[:key=value,...]", \
    "hf, hf:pad=true, gguf (default: gguf for OUT.gguf, else hf)" }
const char *lm_format_of(const char *out);
#define LM_FLAG_FORCE(to) { "force", 'b', to, NULL, "replace a model of that name" }
/* "100MB", "1.5GiB", "200000" -> bytes; "20ms", "0.02s" -> milliseconds. */
bool lm_parse_size(const char *text, double *bytes);
bool lm_parse_ms(const char *text, double *ms);

enum lm_status lm_cmd_shrink(int argc, char **argv, struct lm_err *e);
enum lm_status lm_cmd_run(int argc, char **argv, struct lm_err *e);
enum lm_status lm_cmd_sweep(int argc, char **argv, struct lm_err *e);
enum lm_status lm_cmd_check(int argc, char **argv, struct lm_err *e);
enum lm_status lm_cmd_list(int argc, char **argv, struct lm_err *e);
enum lm_status lm_cmd_help(int argc, char **argv, struct lm_err *e);
enum lm_status lm_cmd_inspect(int argc, char **argv, struct lm_err *e);
enum lm_status lm_cmd_eval(int argc, char **argv, struct lm_err *e);
enum lm_status lm_cmd_profile(int argc, char **argv, struct lm_err *e);
enum lm_status lm_cmd_generate(int argc, char **argv, struct lm_err *e);
enum lm_status lm_cmd_tokenize(int argc, char **argv, struct lm_err *e);
enum lm_status lm_cmd_export(int argc, char **argv, struct lm_err *e);
enum lm_status lm_cmd_report(int argc, char **argv, struct lm_err *e);
enum lm_status lm_cmd_convert(int argc, char **argv, struct lm_err *e);
enum lm_status lm_cmd_cache(int argc, char **argv, struct lm_err *e);
enum lm_status lm_cmd_doctor(int argc, char **argv, struct lm_err *e);
enum lm_status lm_cmd_selftest(int argc, char **argv, struct lm_err *e);
enum lm_status lm_cmd_worker(int argc, char **argv, struct lm_err *e);
enum lm_status lm_cmd_devices(int argc, char **argv, struct lm_err *e);
enum lm_status lm_cmd_new_plugin(int argc, char **argv, struct lm_err *e);
/* Writes to stdout; a failed write (full disk, closed pipe) is LM_EIO. */
enum lm_status lm_print(const char *text, size_t n, struct lm_err *e);
/* All of a string, which is freed in any case; LM_ENOMEM: it is not whole. */
enum lm_status lm_print_str(struct lm_str *text, struct lm_err *e);
#endif
