/* SPDX-License-Identifier: Apache-2.0 */
/* process.h -- running a program of the user: never through a shell, in a
 * process group of its own, with a time limit and bounded output.
 *
 * Nothing is run until lm_process_allow(true): that is --allow-commands.    */
#ifndef LM_BASE_PROCESS_H
#define LM_BASE_PROCESS_H
#include "base/err.h"
#include "base/str.h"

struct lm_process {
    const char *const *argv;            /* ends with NULL; argv[0] as execvp takes it */
    double seconds;                     /* time limit of the whole group */
    size_t most_out, most_err;          /* bytes of stdout; bytes of stderr to keep */
    bool   own;                         /* a program of ours, which needs no leave */
};
struct lm_process_end {
    struct lm_str out, err;             /* err: about the last most_err bytes */
    int    status, signal;              /* exit status; or what killed it, else 0 */
    bool   late, wordy;                 /* ended by us: time limit, too much on stdout */
    double seconds;
};

void lm_process_allow(bool on);
bool lm_process_allowed(void);
/* Runs it to its end, whatever that is: LM_OK, and end says how.  LM_ECONFIG:
 * commands are not allowed; LM_EFAILED: it could not be started; LM_ENOMEM: no
 * program could; LM_ECANCELED: Ctrl-C came.  No process of its group is left in
 * any case.  lm_process_free end afterwards, also on failure.        [main] */
enum lm_status lm_process_run(const struct lm_process *p, struct lm_process_end *end,
                              struct lm_err *e);
void lm_process_free(struct lm_process_end *end);
/* Kills the group that is running now; for signal handlers. */
void lm_process_kill(void);

/* For programs of our own.  Starts one in a process group of its own: standard input
 * is /dev/null, descriptor `here` of this process is `there` in it (here < 0:
 * /dev/null); 0, or an error number.                                        */
struct lm_process_fd { int here, there; };
int lm_process_spawn(const char *const *argv, const struct lm_process_fd *fd, size_t n,
                     int *pid);
/* It has, but was not waited for: its number is still its own. */
bool lm_process_ended(int pid);
/* Seconds of processors that this process took; with those that it waited for. */
double lm_process_seconds(bool children);
/* How often the system took a processor from a thread of this process. */
int64_t lm_process_preempted(void);
/* "SIGSEGV", or "signal 35" in out. */
const char *lm_signal_name(int n, char out[24]);
#endif
