/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_selftest.c -- selftest: each plugin in a process of its own.
 *
 * The child is this very program, run again (a bare fork would take along
 * OpenBLAS's locks without its threads) as `selftest --child SECONDS TARGET
 * FOLDER`, the folder being an empty one for its files.
 * It opens the plugin, so even a module that crashes while it is loaded does not
 * take the parent down, and reports through descriptor 3, a line each:
 *
 *   N search 'nsga2' (/usr/lib/lamina/0/search/nsga2.so)     once it is open
 *   C SECONDS WHAT                                          before each check
 *   R STATUS TEXT                                           the end
 *
 * A check has so many seconds of processor time (SIGPROF ends the child) and
 * ten times as many on the clock.  Standard output and error go to a file in
 * memory, which must stay empty.                                            */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/process.h"
#include "cli/cli.h"
#include "loader/loader.h"
#include "pipeline/selftest.h"

enum { REPORT = 3, LINE = 2048 };

/* ---- the child --------------------------------------------------------------------- */

static int most_seconds;                /* of a check, from the command line */

static void report(char kind, const char *fmt, ...) LM_PRINTF(2, 3);
static void report(char kind, const char *fmt, ...)
{
    char line[LINE] = { kind, ' ' };
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line + 2, sizeof line - 3, fmt, ap);
    va_end(ap);
    for (char *p = line; *p; p++)
        *p = *p == '\n' ? ' ' : *p;
    size_t n = strlen(line);
    line[n++] = '\n';
    if (write(REPORT, line, n) < 0)
        _exit(99);                      /* the parent is gone */
}

static void begin_check(void *ctx, const char *what, int seconds)
{
    struct itimerval limit = { .it_value.tv_sec = seconds < most_seconds ? seconds
                                                                         : most_seconds };
    (void)ctx;
    report('C', "%d %s", (int)limit.it_value.tv_sec, what);
    setitimer(ITIMER_PROF, &limit, NULL);
}

static bool is_module(const char *name, size_t n)
{
    return n > 3 && (!strncmp(name + n - 3, ".so", 3) || !strncmp(name + n - 3, ".la",
                                                                  3));
}

/* "./x.so:key=value", "search/nsga2:population=8". */
static enum lm_status child(const char *target, const char *folder, struct lm_err *e)
{
    const struct lm_loaded *p;
    const char *colon = NULL;
    char name[4096];
    for (const char *c = target; !colon && (c = strchr(c, ':')); c++)
        if (is_module(target, (size_t)(c - target)))
            colon = c;                  /* a folder's name may hold one, too */
    bool path = colon || is_module(target, strlen(target));
    if (!path)
        colon = strchr(target, ':');
    size_t n = colon ? (size_t)(colon - target) : strlen(target);
    if (n >= sizeof name)
        return lm_fail(e, LM_ECONFIG, "%.80s...: the name is too long", target);
    snprintf(name, sizeof name, "%.*s", (int)n, target);
    begin_check(NULL, "loading", most_seconds);
    enum lm_status s = path ? lm_loader_open(name, &p, e) : lm_loader_any(name, &p, e);
    if (s)
        return s;
    report('N', "%s '%s' (%s)", lm_kind_name((enum lm_kind)p->module.kind),
           p->module.name, p->path);
    return lm_selftest(p, colon ? colon + 1 : "", folder, begin_check, NULL, e);
}

static enum lm_status run_child(char **argv)
{
    struct lm_err e = { 0 };
    most_seconds = atoi(argv[2]);
    lm_log_level((enum lm_level)(LM_ERROR + 1));
    enum lm_status s = child(argv[3], argv[4], &e);
    report('R', "%d %s", (int)s, e.text);
    return LM_OK;
}

/* ---- the parent -------------------------------------------------------------------- */

struct outcome {
    char name[LINE];                    /* "search 'x' (PATH)", or the target */
    char what[128];                     /* the check that ran last */
    char text[LINE];
    int  status, seconds;               /* status: of R, -1 before it */
    bool late;                          /* killed on the clock */
    int  exit;                          /* as waitpid has it */
    char printed[80];
};

static void read_line(struct outcome *o, const char *line)
{
    int at = 0;
    if (line[0] == 'N')
        snprintf(o->name, sizeof o->name, "%.2000s", line + 2);
    else if (line[0] == 'C' && sscanf(line + 2, "%d %n", &o->seconds, &at) == 1)
        snprintf(o->what, sizeof o->what, "%.100s", line + 2 + at);
    else if (line[0] == 'R' && sscanf(line + 2, "%d %n", &o->status, &at) == 1)
        snprintf(o->text, sizeof o->text, "%.2000s", line + 2 + at);
}

/* Until the child closes its end, or is killed for being late. */
static void listen_to(int from, pid_t pid, struct outcome *o)
{
    char text[2 * LINE];
    size_t n = 0;
    double since = lm_clock();
    for (;;) {
        struct pollfd p = { .fd = from, .events = POLLIN };
        poll(&p, 1, 100);
        if (!o->late && (lm_canceled() ||
                         lm_clock() - since > 10.0 * (o->seconds ? o->seconds : 30))) {
            o->late = true;
            kill(pid, SIGKILL);
        }
        if (!p.revents)
            continue;
        ssize_t got = read(from, text + n, sizeof text - 1 - n);
        if (!got || (got < 0 && errno != EINTR))
            return;
        n += got > 0 ? (size_t)got : 0;
        text[n] = 0;
        for (char *end; (end = strchr(text, '\n')); since = lm_clock()) {
            *end = 0;
            read_line(o, text);
            n -= (size_t)(end + 1 - text);
            memmove(text, end + 1, n + 1);
        }
        if (n == sizeof text - 1)
            n = 0;
    }
}

extern char **environ;

static int start(const char *target, const char *folder, int64_t seconds, int out, int to,
                 pid_t *pid)
{
    char limit[32];
    char *argv[] = { (char *)"lamina", (char *)"selftest", (char *)"--child", limit,
                     (char *)target, (char *)folder, NULL };
    posix_spawn_file_actions_t a;
    snprintf(limit, sizeof limit, "%d", (int)seconds);
    int bad = posix_spawn_file_actions_init(&a);
    if (bad)
        return bad;
    if (!(bad = posix_spawn_file_actions_addopen(&a, 0, "/dev/null", O_RDONLY, 0)) &&
        !(bad = posix_spawn_file_actions_adddup2(&a, out, 1)) &&
        !(bad = posix_spawn_file_actions_adddup2(&a, out, 2)) &&
        !(bad = posix_spawn_file_actions_adddup2(&a, to, REPORT)))
        bad = posix_spawn(pid, "/proc/self/exe", &a, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&a);
    return bad;
}

/* Descriptors of the parent lie above REPORT, so that dup2 spoils none. */
static int high(int fd)
{
    int h = fcntl(fd, F_DUPFD_CLOEXEC, 10);
    close(fd);
    return h;
}

static enum lm_status make_folder(char *out, size_t size, struct lm_err *e)
{
    const char *in = getenv("TMPDIR");
    if (!lm_path_join(out, size, in && *in ? in : "/tmp", "lamina-selftest.XXXXXX"))
        return lm_fail(e, LM_EIO, "TMPDIR: the path is too long");
    return mkdtemp(out) ? LM_OK
                        : lm_fail(e, LM_EIO, "cannot make '%s': %s", out,
                                  strerror(errno));
}

static enum lm_status watch(const char *target, const char *folder, int64_t seconds,
                            struct outcome *o, struct lm_err *e)
{
    int end[2], out = memfd_create("selftest", MFD_CLOEXEC);
    pid_t pid;
    *o = (struct outcome){ .status = -1 };
    snprintf(o->name, sizeof o->name, "%.2000s", target);
    if (out < 0 || pipe2(end, O_CLOEXEC))
        return lm_fail(e, LM_EFAILED, "no pipe: %s", strerror(errno));
    out = high(out);
    end[0] = high(end[0]);
    end[1] = high(end[1]);
    int bad = start(target, folder, seconds, out, end[1], &pid);
    close(end[1]);
    if (!bad) {
        listen_to(end[0], pid, o);
        while (waitpid(pid, &o->exit, 0) < 0 && errno == EINTR)
            ;
        if (pread(out, o->printed, sizeof o->printed - 1, 0) < 0)
            o->printed[0] = 0;
    }
    close(end[0]);
    close(out);
    return bad             ? lm_fail(e, LM_EFAILED, "the program cannot run itself: %s",
                                     strerror(bad))
           : lm_canceled() ? lm_fail(e, LM_ECANCELED, "interrupted")
                           : LM_OK;
}

/* What is wrong with the plugin, in one sentence without its name; "": nothing. */
static void judge(const struct outcome *o, char *out, size_t n)
{
    bool over = o->late || (WIFSIGNALED(o->exit) && WTERMSIG(o->exit) == SIGPROF);
    char first[sizeof o->printed], number[24];
    snprintf(first, sizeof first, "%.*s", (int)strcspn(o->printed, "\n"), o->printed);
    *out = 0;
    if (o->status > 0)
        snprintf(out, n, "%s", o->text);
    else if (over && strstr(o->what, "cancel"))
        snprintf(out, n,
                 "goes on for more than %d s after the run was canceled (%s); poll "
                 "host->canceled at least every 100 ms",
                 o->seconds, o->what);
    else if (over)
        snprintf(out, n, "does not end: more than %d s in the check of %s", o->seconds,
                 o->what);
    else if (WIFSIGNALED(o->exit))
        snprintf(out, n, "crashes (%s) in the check of %s",
                 lm_signal_name(WTERMSIG(o->exit), number), o->what);
    else if (o->status < 0)
        snprintf(out, n, "ends the program (exit status %d) in the check of %s%s%s",
                 WEXITSTATUS(o->exit), o->what, *first ? "; it printed: " : "", first);
    else if (o->printed[0])
        snprintf(out, n, "prints ('%s'); use host->log", first);
    else if (WEXITSTATUS(o->exit))
        snprintf(out, n, "makes the program end with status %d after all checks",
                 WEXITSTATUS(o->exit));
}

struct tally { size_t n, failed, skipped; struct lm_err first; };

static enum lm_status one(const char *target, int64_t seconds, bool alone,
                          struct tally *t, struct lm_err *e)
{
    static struct outcome o;
    char wrong[LINE], line[3 * LINE], folder[4096];
    enum lm_status s = make_folder(folder, sizeof folder, e);
    if (s)
        return s;
    s = watch(target, folder, seconds, &o, e);
    enum lm_status left = lm_remove_tree(folder, s ? &(struct lm_err){ 0 } : e);
    if (s || left)
        return s ? s : left;
    t->n++;
    judge(&o, wrong, sizeof wrong);
    if (o.status == LM_ECONFIG || o.status == LM_EINPUT)
        return lm_fail(e, (enum lm_status)o.status, "selftest: %s", wrong);
    bool skip = o.status == LM_EUNAVAILABLE && o.name[strlen(o.name) - 1] == ')';
    t->skipped += skip;
    t->failed += *wrong && !skip;
    if (*wrong && !skip) {
        bool named =
            !strncmp(wrong, o.name, strlen(o.name)) || strchr(wrong, '/') == wrong;
        snprintf(line, sizeof line, "%s%s%s", named ? "" : o.name, named ? "" : ": ",
                 wrong);
        lm_fail(&t->first, LM_EFAILED, "%.1000s", line);
        if (alone)
            return LM_OK;
    }
    snprintf(line, sizeof line, "%-4s  %s%s%s\n", !*wrong ? "ok" : skip ? "skip" : "FAIL",
             o.name, *wrong ? ": " : "", wrong);
    return lm_print(line, strlen(line), e);
}

/* Every plugin that can be found, as paths; the array is lm_release'd. */
static enum lm_status find_all(struct lm_list *at, struct lm_err *e)
{
    const struct lm_loaded **all;
    size_t n;
    enum lm_status s = lm_loader_list(&all, &n, e);
    if (s)
        return s;
    for (size_t i = 0; i < n && at->n < LM_MAX_LIST; i++)
        at->v[at->n++] = all[i]->path;
    if (!n)
        s = lm_fail(e, LM_ECONFIG, "selftest: there are no plugins");
    else if (n > LM_MAX_LIST)
        s = lm_fail(e, LM_ECONFIG, "selftest: more than %d plugins; name some",
                    LM_MAX_LIST);
    lm_release(all);
    return s;
}

enum lm_status lm_cmd_selftest(int argc, char **argv, struct lm_err *e)
{
    struct lm_list at;
    struct tally t = { 0 };
    int64_t seconds = 60;
    bool help;
    const struct lm_flag flag[] = { { "seconds", 'i', &seconds, "N",
                                      "processor time that one check may take (60)" } };
    if (argc == 5 && !strcmp(argv[1], "--child"))
        return run_child(argv);
    enum lm_status s = lm_flags_parse(argc, argv, flag, 1, &at, 0, LM_MAX_LIST, &help, e);
    if (s || help)
        return s;
    if (seconds < 1 || seconds > 3600)
        return lm_fail(e, LM_ECONFIG, "selftest: --seconds takes 1 to 3600");
    if (!at.n && (s = find_all(&at, e)))
        return s;
    if ((s = lm_loader_export(e)))
        return s;
    for (size_t i = 0; !s && i < at.n; i++)
        s = one(at.v[i], seconds, at.n == 1, &t, e);
    if (s || !t.failed)
        return s;
    if (at.n == 1)
        return lm_fail(e, LM_EFAILED, "%s", t.first.text);
    return lm_fail(e, LM_EFAILED, "%zu of %zu plugins break the contract", t.failed, t.n);
}
