/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_sweep.c -- sweep: all runs of a file with a group `sweep`. */
#include "base/process.h"
#include "cli/cli.h"
#include "pipeline/sweep.h"

enum lm_status lm_cmd_sweep(int argc, char **argv, struct lm_err *e)
{
    struct lm_list set = { 0 }, at;
    bool dry = false, commands = false, help;
    struct lm_str text = { 0 };
    struct lm_err late = { 0 };
    struct lm_sweep *sweep;
    const struct lm_flag flag[] = {
        { "set", 'l', &set, "PATH=VALUE",
            "override a value of the pipeline in all runs" },
        { "dry-run", 'b', &dry, NULL, "list the runs and estimate what they take only" },
        LM_FLAG_COMMANDS(&commands) };
    enum lm_status s = lm_flags_parse(argc, argv, flag, 3, &at, 1, 1, &help, e);
    if (s || help || (s = lm_sweep_open(at.v[0], set.v, set.n, &sweep, e)))
        return s;
    lm_process_allow(commands);
    s = dry ? lm_sweep_estimate(sweep, &text, e) : lm_sweep_run(sweep, &text, e);
    if (!s && !dry)
        lm_str_add(&text,
                   "\nall runs   %s/sweep.csv\npicture    %s/sweep.html\ntable      "
                   "%s/sweep.tex\n", sweep->out, sweep->out, sweep->out);
    lm_sweep_close(sweep);
    if (lm_print_str(&text, &late) && !s) {
        *e = late;
        s = late.code;
    }
    return s;
}
