/* SPDX-License-Identifier: Apache-2.0 */
/* process.c -- see process.h.
 *
 * posix_spawn: threads of the pool and of BLAS may hold locks at any moment, and
 * OpenBLAS stops its threads in a fork handler; posix_spawn runs no handlers
 * and nothing of ours between fork and exec.  The program's standard input is
 * /dev/null.  Its group is killed as long as the leader is a zombie, so that
 * the number of the group cannot be somebody else's by then.                 */
#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/pool.h"

enum { TICK_MS = 20, CHUNK = 16384 };
static const double grace = 1;          /* seconds from SIGTERM to SIGKILL */

static bool allowed;
static atomic_int running;              /* process group, 0: none */
_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "it is read in a signal handler");

double lm_process_seconds(bool children)
{
    struct timespec t;
    struct rusage u = { 0 };
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    if (children)
        getrusage(RUSAGE_CHILDREN, &u);
    return (double)(t.tv_sec + u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           1e-9 * (double)t.tv_nsec +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

int64_t lm_process_preempted(void)
{
    struct rusage u = { 0 };
    getrusage(RUSAGE_SELF, &u);
    return u.ru_nivcsw;
}

void lm_process_allow(bool on)
{
    allowed = on;
}

bool lm_process_allowed(void)
{
    return allowed;
}

void lm_process_kill(void)
{
    int group = atomic_load(&running);
    if (group > 0)
        kill(-group, SIGKILL);
}

/* ---- starting ----------------------------------------------------------------- */

static int set_up(posix_spawnattr_t *a, posix_spawn_file_actions_t *f,
                  const struct lm_process_fd *fd, size_t n)
{
    sigset_t none, usual;
    sigemptyset(&none);
    sigemptyset(&usual);
    sigaddset(&usual, SIGPIPE);         /* ignored here */
    int bad = posix_spawnattr_setflags(a, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                          POSIX_SPAWN_SETSIGDEF);
    if (!bad)
        bad = posix_spawnattr_setpgroup(a, 0);
    if (!bad)
        bad = posix_spawnattr_setsigmask(a, &none);
    if (!bad)
        bad = posix_spawnattr_setsigdefault(a, &usual);
    if (!bad)
        bad = posix_spawn_file_actions_addopen(f, 0, "/dev/null", O_RDONLY, 0);
    for (size_t i = 0; !bad && i < n; i++)
        bad = fd[i].here < 0
            ? posix_spawn_file_actions_addopen(f, fd[i].there, "/dev/null", O_WRONLY, 0)
            : posix_spawn_file_actions_adddup2(f, fd[i].here, fd[i].there);
    return bad;
}

int lm_process_spawn(const char *const *argv, const struct lm_process_fd *fd, size_t n,
                     int *pid)
{
    posix_spawnattr_t a;
    posix_spawn_file_actions_t f;
    pid_t started;
    int bad = posix_spawnattr_init(&a);
    if (bad)
        return bad;
    if ((bad = posix_spawn_file_actions_init(&f))) {
        posix_spawnattr_destroy(&a);
        return bad;
    }
    if (!(bad = set_up(&a, &f, fd, n)) &&
        !(bad = posix_spawnp(&started, argv[0], &f, &a, (char *const *)argv, environ)))
        *pid = (int)started;
    posix_spawn_file_actions_destroy(&f);
    posix_spawnattr_destroy(&a);
    return bad;
}

/* Signals wait until the group is known to lm_process_kill. */
static int spawn(const char *const *argv, const int *pipes, pid_t *pid)
{
    const struct lm_process_fd fd[] = { { pipes[1], 1 }, { pipes[3], 2 } };
    sigset_t all, before;
    int started = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int bad = lm_process_spawn(argv, fd, 2, &started);
    if (!bad) {
        atomic_store(&running, started);
        *pid = started;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return bad;
}

static void close_all(int *fd, int n)
{
    for (int i = 0; i < n; i++) {
        if (fd[i] >= 0)
            close(fd[i]);
        fd[i] = -1;
    }
}

/* pipes: read and write end of stdout, of stderr; the read ends stay. */
static enum lm_status start(const char *const *argv, int *pipes, pid_t *pid,
                            struct lm_err *e)
{
    enum lm_status s = LM_OK;
    if (pipe2(pipes, O_CLOEXEC) || pipe2(pipes + 2, O_CLOEXEC) ||
        fcntl(pipes[0], F_SETFL, O_NONBLOCK) || fcntl(pipes[2], F_SETFL, O_NONBLOCK))
        s = lm_fail(e, LM_ENOMEM, "no pipe for a command: %s", strerror(errno));
    int bad = s ? 0 : spawn(argv, pipes, pid);
    if (bad)                            /* EAGAIN: too many processes */
        s = lm_fail(e, bad == ENOMEM || bad == EAGAIN ? LM_ENOMEM : LM_EFAILED,
                    "cannot start '%s': %s", argv[0], strerror(bad));
    close_all(pipes + 1, 1);
    close_all(pipes + 3, 1);
    if (s)
        close_all(pipes, 4);
    return s;
}

/* ---- reading ----------------------------------------------------------------------- */

/* What is there now; *fd becomes -1 at the end of the pipe. */
static void read_some(int *fd, struct lm_str *to, size_t most, bool tail, bool *wordy)
{
    char part[CHUNK];
    for (int i = 0; *fd >= 0 && i < 64; i++) {
        ssize_t n = read(*fd, part, sizeof part);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            close_all(fd, 1);
            return;
        }
        if (!tail && to->n + (size_t)n > most) {
            *wordy = true;
            close_all(fd, 1);
            return;
        }
        lm_str_put(to, part, (size_t)n);
        if (tail && to->n > most + CHUNK && !to->failed) {
            memmove(to->s, to->s + to->n - most, most);
            to->n = most;
            to->s[most] = 0;
        }
    }
}

static void read_all(const struct lm_process *p, int *pipes, struct lm_process_end *end)
{
    read_some(&pipes[0], &end->out, p->most_out, false, &end->wordy);
    read_some(&pipes[2], &end->err, p->most_err, true, &end->wordy);
}

bool lm_process_ended(int pid)
{
    siginfo_t info = { .si_pid = 0 };
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0
        || info.si_pid == pid;
}

/* Politely once, then for good. */
static void stop(pid_t pid, double *asked)
{
    if (*asked < 0) {
        *asked = lm_clock();
        kill(-pid, SIGTERM);
    } else if (lm_clock() - *asked > grace)
        kill(-pid, SIGKILL);
}

static void watch(const struct lm_process *p, pid_t pid, int *pipes,
                  struct lm_process_end *end, bool *canceled)
{
    double begin = lm_clock(), asked = -1;
    int tick = 1;                       /* a pipe that closes wakes; an end does not */
    while (!lm_process_ended(pid)) {
        struct pollfd f[] = { { .fd = pipes[0], .events = POLLIN },
                              { .fd = pipes[2], .events = POLLIN } };
        poll(f, 2, tick);
        if (tick < TICK_MS)
            tick *= 2;
        if (f[0].revents || f[1].revents)
            tick = 1;
        read_all(p, pipes, end);
        *canceled |= lm_canceled();
        end->late |= !*canceled && !end->wordy && lm_clock() - begin > p->seconds;
        if (*canceled || end->late || end->wordy)
            stop(pid, &asked);
    }
    kill(-pid, SIGKILL);                /* what it left running */
    read_all(p, pipes, end);
    end->seconds = lm_clock() - begin;
}

enum lm_status lm_process_run(const struct lm_process *p, struct lm_process_end *end,
                              struct lm_err *e)
{
    int pipes[4] = { -1, -1, -1, -1 }, status = 0;
    bool canceled = false;
    pid_t pid = 0;
    *end = (struct lm_process_end){ .status = -1 };
    if (!allowed && !p->own)
        return lm_fail(e, LM_ECONFIG, "'%s' is a program of yours; it runs only with "
                       "--allow-commands", p->argv[0]);
    enum lm_status s = start(p->argv, pipes, &pid, e);
    if (s)
        return s;
    watch(p, pid, pipes, end, &canceled);
    atomic_store(&running, 0);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    close_all(pipes, 4);
    if (WIFEXITED(status))
        end->status = WEXITSTATUS(status);
    else if (WIFSIGNALED(status))
        end->signal = WTERMSIG(status);
    if (canceled)
        return lm_fail(e, LM_ECANCELED, "interrupted while '%s' ran", p->argv[0]);
    return end->out.failed || end->err.failed
        ? lm_fail_memory(e, end->out.n + end->err.n, "the output of a command") : LM_OK;
}

void lm_process_free(struct lm_process_end *end)
{
    lm_str_free(&end->out);
    lm_str_free(&end->err);
}

const char *lm_signal_name(int n, char out[24])
{
    static const struct { int n; const char *name; } known[] = {
        { SIGSEGV, "SIGSEGV" }, { SIGBUS, "SIGBUS" }, { SIGFPE, "SIGFPE" },
        { SIGILL, "SIGILL" }, { SIGABRT, "SIGABRT" }, { SIGKILL, "SIGKILL" },
        { SIGTERM, "SIGTERM" } };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].n == n)
            return known[i].name;
    snprintf(out, 24, "signal %d", n);
    return out;
}
