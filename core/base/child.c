/* SPDX-License-Identifier: Apache-2.0 */
/* child.c -- see child.h.
 *
 * Started as process.c starts programs, for the reasons given there.  The group is
 * killed while its leader is a zombie, so that its number cannot be somebody else's. */
#include "base/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/process.h"

enum { MAGIC = 0x4c4d5731, CHUNK = 1 << 16 };           /* "LMW1" */
struct head { uint32_t magic, kind; uint64_t n; };

/* ---- the process ---------------------------------------------------------------- */

enum lm_status lm_child_start(const char *const *argv, struct lm_child *c,
                              struct lm_err *e)
{
    int pair[2];
    *c = (struct lm_child){ 0, -1 };
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        return lm_fail(e, LM_EFAILED, "no socket pair for a process: %s",
                       strerror(errno));
    const struct lm_process_fd fd[] = { { -1, 1 }, { pair[1], LM_CHILD_FD } };
    int bad = fcntl(pair[0], F_SETFL, O_NONBLOCK)
        ? errno : lm_process_spawn(argv, fd, 2, &c->pid);
    close(pair[1]);
    if (bad) {
        close(pair[0]);
        return lm_fail(e, bad == ENOMEM || bad == EAGAIN ? LM_ENOMEM : LM_EFAILED,
                       "cannot start '%s': %s", argv[0], strerror(bad));
    }
    c->fd = pair[0];
    return LM_OK;
}

void lm_child_end(struct lm_child *c, double patience, char how[64])
{
    char name[24];
    int status = 0;
    how[0] = 0;
    if (c->pid <= 0)
        return;
    close(c->fd);
    for (double until = lm_clock() + patience;
         !lm_process_ended(c->pid) && lm_clock() < until;)
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    kill(-c->pid, SIGKILL);
    while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFSIGNALED(status))
        snprintf(how, 64, "killed by signal %d (%s)", WTERMSIG(status),
                 lm_signal_name(WTERMSIG(status), name));
    else
        snprintf(how, 64, "ended with status %d", WEXITSTATUS(status));
    *c = (struct lm_child){ 0, -1 };
}

/* ---- frames --------------------------------------------------------------------- */

/* The head at f->at, once it is there; false: it is not. */
static bool next_head(const struct lm_frames *f, struct head *h)
{
    if (f->in.n - f->at < sizeof *h)
        return false;
    memcpy(h, f->in.s + f->at, sizeof *h);
    return true;
}

static enum lm_status check_heads(const struct lm_frames *f, struct lm_err *e)
{
    struct lm_frames at = *f;
    struct head h;
    while (next_head(&at, &h)) {
        if (h.magic != MAGIC || h.n > LM_FRAME_MOST)
            return lm_fail(e, LM_EINPUT, "what it sent is no message (kind %u, %llu "
                           "bytes)", h.kind, (unsigned long long)h.n);
        if (at.in.n - at.at - sizeof h < h.n)
            break;
        at.at += sizeof h + (size_t)h.n;
    }
    return LM_OK;
}

enum lm_status lm_frames_read(struct lm_frames *f, int fd, bool *open, struct lm_err *e)
{
    char part[CHUNK];
    *open = true;
    if (f->at) {                        /* what was taken goes */
        memmove(f->in.s, f->in.s + f->at, f->in.n - f->at);
        f->in.n -= f->at;
        f->at = 0;
    }
    for (int wait = 0;; wait = MSG_DONTWAIT) {
        ssize_t n = recv(fd, part, sizeof part, wait);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return LM_OK;
        if (n < 0 && errno != ECONNRESET)
            return lm_fail(e, LM_EIO, "a socket cannot be read: %s", strerror(errno));
        *open = n > 0;
        if (!*open)
            return LM_OK;
        lm_str_put(&f->in, part, (size_t)n);
        if (f->in.failed)
            return lm_fail_memory(e, f->in.n, "a message");
        enum lm_status st = check_heads(f, e);
        if (st || (size_t)n < sizeof part || f->in.n > LM_FRAME_MOST + sizeof(struct head))
            return st;                  /* then a whole message is there to be taken */
    }
}

bool lm_frames_next(struct lm_frames *f, uint32_t *kind, const void **body, size_t *n)
{
    struct head h;
    if (f->in.failed || !next_head(f, &h) || f->in.n - f->at - sizeof h < h.n)
        return false;
    *kind = h.kind;
    *body = f->in.s + f->at + sizeof h;
    *n = (size_t)h.n;
    f->at += sizeof h + *n;
    return true;
}

void lm_frames_free(struct lm_frames *f)
{
    lm_str_free(&f->in);
    f->at = 0;
}

size_t lm_frame_begin(struct lm_str *out, uint32_t kind)
{
    struct head h = { MAGIC, kind, 0 };
    size_t begun = out->n;
    lm_str_put(out, &h, sizeof h);
    return begun;
}

void lm_frame_end(struct lm_str *out, size_t begun)
{
    struct head h;
    if (out->failed)
        return;
    memcpy(&h, out->s + begun, sizeof h);
    h.n = out->n - begun - sizeof h;
    memcpy(out->s + begun, &h, sizeof h);
    out->failed |= h.n > LM_FRAME_MOST;
}

enum lm_status lm_frame_write(int fd, const struct lm_str *t, size_t *at,
                              struct lm_err *e)
{
    while (*at < t->n) {
        ssize_t n = send(fd, t->s + *at, t->n - *at, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return LM_OK;
        if (n < 0)
            return lm_fail(e, LM_EIO, "a socket cannot be written: %s", strerror(errno));
        *at += (size_t)n;
    }
    return LM_OK;
}
