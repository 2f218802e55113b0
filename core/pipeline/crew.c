/* SPDX-License-Identifier: Apache-2.0 */
/* crew.c -- see crew.h.
 *
 * A chore is cut into units: runs of candidates whose plans begin alike, so that blocks
 * that they share are built and run once; where there are fewer candidates than workers,
 * the items are cut, too.  A worker gets candidates again that it has built before.
 * What needs a quiet machine, and programs of the user, is one unit, given away when
 * every other worker is idle.
 *
 * One thread: poll() over all sockets, of which none blocks.                */
#include "pipeline/crew.h"

#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/child.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/process.h"
#include "pipeline/commands.h"
#include "pipeline/crew_unit.h"
#include "pipeline/host.h"
#include "pipeline/worker.h"
#include "pipeline/worker_message.h"

enum { TICK_MS = 100, MAX_STARTS = 3 };
static const double opening = 60;       /* seconds more that a worker gets to open all */
static const double patience = 3;       /* seconds that it gets to end by itself */

enum state { ABSENT, STARTING, IDLE, BUSY };
struct worker {
    struct lm_child child;
    enum state state;
    struct lm_frames in;
    struct lm_str out;                  /* to be sent from `sent` on */
    size_t sent;
    double heard;                       /* lm_clock() of its last sign of life */
    struct lm_unit *unit;               /* BUSY: at work on it */
    uint64_t id;                        /* of that order */
};

struct lm_crew {
    struct lm_session *s;
    struct lm_str pipeline;
    struct worker worker[LM_MAX_WORKERS];
    size_t n, threads, memory;          /* workers; threads and bytes of each */
    double timeout;
    uint64_t orders;                    /* given so far */
    size_t starts;                      /* that failed in a row */
    struct lm_units units;              /* of the chore at work */
    struct lm_work *work;
};

/* A share of run.memory may be too little for what all of it is enough for. */
static void warn_of_streaming(const struct lm_crew *c)
{
    size_t need = lm_model_float_bytes(c->s->bench.model);
    char weights[32], share[32];
    if (need > c->memory && need <= (size_t)c->s->pipeline->options->memory)
        lm_log(LM_WARN,
               "run: each of %zu workers has %s of run.memory, less than the weights as "
               "floats (%s), so it decodes them for each batch; give run.memory %zu times "
               "as much as they take, or fewer workers", c->n,
               lm_human_bytes(share, (double)c->memory),
               lm_human_bytes(weights, (double)need), c->n);
}

enum lm_status lm_crew_open(struct lm_session *s, struct lm_crew **out, struct lm_err *e)
{
    const struct lm_run_options *o = s->pipeline->options;
    struct lm_crew *c = lm_alloc(sizeof *c, "workers");
    if (!c)
        return lm_fail_memory(e, sizeof *c, "workers");
    size_t n = (size_t)o->workers;
    c->s = s;
    c->n = n;
    c->threads = (size_t)lm_pool_threads() / n ? (size_t)lm_pool_threads() / n : 1;
    c->memory = (size_t)o->memory / n > 1000000 ? (size_t)o->memory / n : 1000000;
    c->timeout = o->worker_timeout;
    warn_of_streaming(c);
    enum lm_status st = lm_pipeline_complete(s->pipeline, e);
    if (!st) {
        lm_conf_write(s->pipeline->conf, false, &c->pipeline);
        st = c->pipeline.failed ? lm_fail_memory(e, c->pipeline.n, "the pipeline")
                                : lm_loader_export(e);
    }
    if (st) {
        lm_crew_close(c);
        return st;
    }
    *out = c;
    return LM_OK;
}

/* ---- one worker ------------------------------------------------------------------- */

static void bury(struct worker *w, double wait, char how[64])
{
    lm_child_end(&w->child, wait, how);
    lm_frames_free(&w->in);
    lm_str_free(&w->out);
    *w = (struct worker){ .state = ABSENT };
}

/* Ends the workers of this state and those above. */
static void send_home(struct lm_crew *c, enum state least)
{
    char how[64];
    double deadline = lm_clock() + patience;
    for (size_t i = 0; i < c->n; i++)   /* all are told before the first is waited for */
        if (c->worker[i].state >= least) {
            kill(c->worker[i].child.pid, SIGTERM);
            shutdown(c->worker[i].child.fd, SHUT_RDWR);
        }
    for (size_t i = 0; i < c->n; i++)
        if (c->worker[i].state >= least)
            bury(&c->worker[i], fmax(deadline - lm_clock(), 0), how);
}

void lm_crew_close(struct lm_crew *c)
{
    if (!c)
        return;
    send_home(c, STARTING);
    lm_units_free(&c->units);
    lm_str_free(&c->pipeline);
    lm_release(c);
}

static enum lm_status send_some(struct worker *w, struct lm_err *e)
{
    enum lm_status st = w->out.failed ? lm_fail_memory(e, w->out.n, "a message")
                                      : lm_frame_write(w->child.fd, &w->out, &w->sent, e);
    if (!st && w->sent == w->out.n)
        w->out.n = w->sent = 0;
    return st;
}

static enum lm_status start(struct lm_crew *c, struct worker *w, struct lm_err *e)
{
    static const char *const argv[] = { "/proc/self/exe", "worker", NULL };
    enum lm_status st = lm_child_start(argv, &w->child, e);
    if (st)
        return st;
    struct lm_hello h = { lm_host()->version, c->pipeline.s, c->threads, c->memory,
                          c->n, lm_process_allowed() };
    lm_say_hello(&w->out, &h);
    w->state = STARTING;
    w->heard = lm_clock();
    return w->out.failed ? lm_fail_memory(e, w->out.n, "a message") : LM_OK;
}

/* ---- giving ----------------------------------------------------------------------- */

static size_t count(const struct lm_crew *c, enum state from, enum state to)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n; i++)
        n += c->worker[i].state >= from && c->worker[i].state <= to;
    return n;
}

static enum lm_status give(struct lm_crew *c, struct worker *w, struct lm_unit *u,
                           struct lm_err *e)
{
    const struct lm_bench *b = &c->s->bench;
    struct lm_order o = { .id = ++c->orders,
        .final = b->judge_stage == c->s->pipeline->final,
        .threads = (uint32_t)(c->units.alone ? (size_t)lm_pool_threads() : c->threads),
        .n_metric = lm_evaluation_metrics(b->evaluation), .n_judge = b->n_judge };
    enum lm_status st = lm_units_order(&c->units, u, &o, &w->out, e);
    if (st)
        return st;
    lm_units_given(&c->units, u, (size_t)(w - c->worker));
    w->state = BUSY;
    w->unit = u;
    w->id = o.id;
    w->heard = lm_clock();
    return LM_OK;
}

/* Starts the workers that are wanted, and gives units to those that are idle. */
static enum lm_status give_all(struct lm_crew *c, struct lm_err *e)
{
    enum lm_status st = LM_OK;
    size_t waiting = lm_units_waiting(&c->units), want = waiting < c->n ? waiting : c->n;
    if (c->units.alone)
        want = want ? 1 : 0;
    size_t there = count(c, STARTING, IDLE);
    for (size_t i = 0; !st && i < c->n && there < want; i++)
        if (c->worker[i].state == ABSENT && !(st = start(c, &c->worker[i], e)))
            there++;
    for (size_t i = 0; !st && i < c->n; i++) {
        struct worker *w = &c->worker[i];
        bool quiet = !count(c, STARTING, STARTING) && !count(c, BUSY, BUSY);
        if (w->state != IDLE || (c->units.alone && !quiet))
            continue;
        struct lm_unit *u = lm_units_next(&c->units, i);
        if (u)
            st = give(c, w, u, e);
    }
    return st;
}

/* ---- losing ----------------------------------------------------------------------- */

/* The file of a candidate that a worker had written for programs goes with it: nobody
 * else has one then.                                                        */
static void clear_away(const struct lm_crew *c)
{
    struct lm_err why = { 0 };
    if (c->units.chore->pass == LM_PASS_COMMANDS &&
        lm_commands_tidy(c->s->pipeline->options->out, &why))
        lm_log(LM_WARN, "%s", why.text);
}

/* A worker has ended or is made to: its candidates are tried again.  why: what is known
 * better than how it ended, or "".                                          */
static enum lm_status lose(struct lm_crew *c, struct worker *w, const char *why,
                           struct lm_err *e)
{
    char how[64], text[512];
    struct lm_unit *u = w->state == BUSY ? w->unit : NULL;
    bool starting = w->state == STARTING;
    bury(w, *why ? 0 : 1, how);
    if (u)
        clear_away(c);
    snprintf(text, sizeof text, "%s", *why ? why : how);
    if (starting && ++c->starts >= MAX_STARTS)
        return lm_fail(e, LM_EFAILED, "no worker can be started: worker %s before it was "
                       "ready; run with run.workers = 0", text);
    if (u)
        lm_units_lost(&c->units, u, text);
    else if (!lm_canceled())
        lm_log(LM_WARN, "worker %s while it had nothing to do; another one is started "
               "when it is needed", text);
    return LM_OK;
}

/* ---- hearing ---------------------------------------------------------------------- */

/* A failure in e ends the run; one in `wrong` is the worker's. */
static enum lm_status done(struct lm_crew *c, struct worker *w, const void *body,
                           size_t n, struct lm_err *wrong, struct lm_err *e)
{
    struct lm_done d;
    void *block;
    if (lm_hear_done(body, n, &d, &block, wrong))
        return LM_OK;
    enum lm_status st = LM_OK;
    if (d.status == LM_ECANCELED)
        lm_fail(wrong, LM_EFAILED, "it was told to stop by somebody else");
    else if (d.status == LM_EUNAVAILABLE && w->state == BUSY)
        lm_fail(wrong, LM_EFAILED, "it lost its device: %s", d.text);
    else if (d.status && w->state == STARTING)
        st = lm_fail(e, (enum lm_status)d.status, "a worker cannot begin: %s", d.text);
    else if (d.status)
        st = lm_fail(e, (enum lm_status)d.status, "%s", d.text);
    else if (w->state != BUSY || d.id != w->id)
        lm_fail(wrong, LM_EINPUT, "it answered what it was not asked");
    else if (d.fingerprint != lm_worker_fingerprint(&c->s->bench))
        st = lm_fail(e, LM_EINPUT, "a worker measures something else: texts were changed "
                     "while the run went on");
    else if (!lm_units_take(&c->units, w->unit, &d, wrong)) {
        c->work->asked += d.asked;
        c->work->run += d.run;
        if (c->units.chore->tally)
            lm_tally_add(c->units.chore->tally, &d.tally);
        w->state = IDLE;
        w->unit = NULL;
    }
    lm_release(block);
    return st;
}

static enum lm_status ready(struct lm_crew *c, struct worker *w, const void *body,
                            size_t n, struct lm_err *wrong, struct lm_err *e)
{
    uint64_t model;
    if (lm_hear_ready(body, n, &model, wrong))
        return LM_OK;
    if (model != lm_model_hash(c->s->bench.model))
        return lm_fail(e, LM_EINPUT, "%s: the file was changed while the run went on",
                       c->s->pipeline->model->path);
    if (w->state != STARTING)
        lm_fail(wrong, LM_EINPUT, "it is ready twice");
    else
        w->state = IDLE;
    c->starts = 0;
    return LM_OK;
}

static enum lm_status hear(struct lm_crew *c, struct worker *w, struct lm_err *wrong,
                           struct lm_err *e)
{
    uint32_t kind;
    const void *body;
    size_t n;
    struct lm_alive a;
    enum lm_status st = LM_OK;
    while (!st && !wrong->code && lm_frames_next(&w->in, &kind, &body, &n)) {
        w->heard = lm_clock();
        if (kind == LM_SAY_READY)
            st = ready(c, w, body, n, wrong, e);
        else if (kind == LM_SAY_DONE)
            st = done(c, w, body, n, wrong, e);
        else if (kind != LM_SAY_ALIVE)
            lm_fail(wrong, LM_EINPUT, "it sent a message of kind %u", kind);
        else if (!lm_hear_alive(body, n, &a, wrong) && w->state == BUSY &&
                 a.id == w->id && a.fraction >= 0)
            w->unit->fraction = a.fraction;
    }
    return st;
}

/* What poll said of a worker; it may be gone afterwards. */
static enum lm_status attend(struct lm_crew *c, struct worker *w, short events,
                             struct lm_err *e)
{
    struct lm_err wrong = { 0 };
    bool open = true;
    char why[400];
    if (events & (POLLIN | POLLHUP | POLLERR))
        lm_frames_read(&w->in, w->child.fd, &open, &wrong);
    if (wrong.code == LM_ENOMEM)
        return lm_fail(e, LM_ENOMEM, "%s", wrong.text);
    enum lm_status st = wrong.code ? LM_OK : hear(c, w, &wrong, e);
    if (!st && !wrong.code && open && w->out.n && send_some(w, &wrong) == LM_EIO)
        return lose(c, w, "", e);
    if (st)
        return st;
    if (wrong.code == LM_ENOMEM)
        return lm_fail(e, LM_ENOMEM, "%s", wrong.text);
    if (wrong.code) {
        snprintf(why, sizeof why, "was killed because %.300s", wrong.text);
        return lose(c, w, why, e);
    }
    return open ? LM_OK : lose(c, w, "", e);
}

static enum lm_status check_time(struct lm_crew *c, struct worker *w, struct lm_err *e)
{
    char why[128];
    double limit = c->timeout + (w->state == STARTING ? opening : 0);
    if ((w->state != STARTING && w->state != BUSY) || lm_clock() - w->heard <= limit ||
        (w->state == BUSY && c->units.patient))
        return LM_OK;
    snprintf(why, sizeof why, "gave no sign of life for %g s and was killed", limit);
    return lose(c, w, why, e);
}

/* ---- a chore ---------------------------------------------------------------------- */

static enum lm_status wait_some(struct lm_crew *c, struct lm_err *e)
{
    struct pollfd f[LM_MAX_WORKERS];
    enum lm_status st = LM_OK;
    for (size_t i = 0; i < c->n; i++)
        f[i] = (struct pollfd){ .fd = c->worker[i].state ? c->worker[i].child.fd : -1,
            .events = (short)(POLLIN | (c->worker[i].out.n ? POLLOUT : 0)) };
    if (poll(f, (nfds_t)c->n, TICK_MS) < 0)
        return LM_OK;                   /* a signal: the caller looks */
    for (size_t i = 0; !st && i < c->n; i++)
        if (f[i].fd >= 0 && f[i].revents)
            st = attend(c, &c->worker[i], f[i].revents, e);
    for (size_t i = 0; !st && i < c->n; i++)
        st = check_time(c, &c->worker[i], e);
    return st;
}

enum lm_status lm_crew_work(void *ctx, const struct lm_chore *chore,
                            struct lm_result *result, struct lm_err *err,
                            struct lm_work *work, struct lm_err *e)
{
    struct lm_crew *c = ctx;
    c->work = work;
    enum lm_status st = lm_units_cut(&c->units, chore, &c->s->bench, c->n, result, err,
                                     e);
    while (!st && !lm_units_all_done(&c->units)) {
        if (lm_canceled())
            st = lm_fail(e, LM_ECANCELED, "the evaluation was interrupted");
        if (!st)
            st = give_all(c, e);
        if (!st)
            st = wait_some(c, e);
        lm_progress(chore->before + chore->share * lm_units_share(&c->units), NULL);
    }
    if (st)                             /* what they are at is wanted no more */
        send_home(c, BUSY);
    lm_units_clear(&c->units);
    return st;
}
