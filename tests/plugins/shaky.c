/* SPDX-License-Identifier: Apache-2.0 */
/* shaky.c -- an evaluator that breaks its process for candidates of a certain size, as
 * it is told, and keeps a diary of when it was at work where.  Compiled with QUIET it
 * is `still`, which wants a machine with nothing beside it.                  */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "plugin.h"

enum { ITEMS = 6 };
enum sin { NONE, CRASH, HANG, LEAVE, GARBAGE, STOP };
static const char *const sins[] = { "none", "crash", "hang", "leave", "garbage", "stop",
                                    NULL };

struct options {
    int64_t at, sin;                    /* body parameters; enum sin */
    double  pause;                      /* seconds for each item */
    const char *diary, *once;
};
static const struct lm_opt schema[] = {
    LM_INT(struct options, at, "0", 0, 1e15, NULL, 0,
           "body parameters of whom it breaks at"),
    LM_PICK(struct options, sin, "none", sins, 0, "how"),
    LM_REAL(struct options, pause, "0", 0, 10, "s", 0, "for each item"),
    LM_STRING(struct options, diary, NULL, 0, "file that it adds to"),
    LM_STRING(struct options, once, NULL, 0, "file that it makes, to break once only"),
    LM_OPT_END
};

struct self { const struct lm_host *host; const struct options *o; };

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct self *s = a->host->alloc(sizeof *s, "shaky");
    if (!s)
        return a->host->fail(e, LM_ENOMEM, "out of memory for evaluator 'shaky'");
    *s = (struct self){ a->host, a->config };
    *self = s;
    return LM_OK;
}

static void destroy(void *self)
{
    struct self *s = self;
    s->host->release(s);
}

static enum lm_status items(void *self, int64_t *n, struct lm_err *e)
{
    (void)self, (void)e;
    *n = ITEMS;
    return LM_OK;
}

static enum lm_status protocol(void *self, char *out, size_t size, struct lm_err *e)
{
    (void)self, (void)e;
    snprintf(out, size, "thousands of body parameters, a little more for each item");
    return LM_OK;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void break_down(const struct options *o)
{
    static const char noise[] = "this is no message at all, whatever else it may be";
    if (o->once && *o->once) {
        int fd = open(o->once, O_CREAT | O_EXCL | O_WRONLY, 0666);
        if (fd < 0)
            return;
        close(fd);
    }
    if (o->sin == CRASH) {
        signal(SIGSEGV, SIG_DFL);       /* which sanitizers have taken */
        kill(getpid(), SIGSEGV);        /* threads of the pool take none */
    } else if (o->sin == LEAVE)
        _exit(7);
    else if (o->sin == STOP)
        raise(SIGSTOP);
    else if (o->sin == GARBAGE)
        send(3, noise, sizeof noise, 0);
    while (o->sin == HANG || o->sin == GARBAGE)
        nanosleep(&(struct timespec){ .tv_sec = 1 }, NULL);
}

static enum lm_status eval(void *self, struct lm_subject *subject, int64_t item,
                           struct lm_sum *sum, struct lm_err *e)
{
    const struct self *s = self;
    struct lm_cost cost = { .struct_size = sizeof cost };
    double begun = now();
    enum lm_status st = s->host->cost(subject, &cost, e);
    if (st)
        return st;
    if (s->o->sin && cost.body_params == s->o->at)
        break_down(s->o);
    if (s->o->pause > 0)
        nanosleep(&(struct timespec){ .tv_sec = (time_t)s->o->pause,
            .tv_nsec = (long)(1e9 * (s->o->pause - (double)(time_t)s->o->pause)) }, NULL);
    *sum = (struct lm_sum){ (double)cost.body_params / 1000 + 1.0 / (double)(3 + item),
                            1 };
    if (s->o->diary && *s->o->diary) {
        char line[128];
        int fd = open(s->o->diary, O_CREAT | O_APPEND | O_WRONLY, 0666);
        int n = snprintf(line, sizeof line, "%ld %.6f %.6f\n", (long)getpid(), begun,
                         now());
        if (fd >= 0 && write(fd, line, (size_t)n) != n)
            st = s->host->fail(e, LM_EIO, "the diary cannot be written");
        if (fd >= 0)
            close(fd);
    }
    return st;
}

static const struct lm_metric metrics[] = {
    { "m", "", "Grows with the model.", LM_REDUCE_MEAN, false, false },
    { NULL, NULL, NULL, 0, false, false }
};

static const struct lm_evaluator evaluator = {
    .struct_size = sizeof evaluator, .metric = metrics, .metric_size = sizeof *metrics,
#ifdef QUIET
    .needs = LM_NEEDS_RUN | LM_NEEDS_QUIET,
#else
    .needs = LM_NEEDS_RUN,
#endif
    .items = items, .protocol = protocol, .eval = eval
};

static const struct lm_module module = {
    LM_MODULE_HEAD(EVALUATOR),
#ifdef QUIET
    .name = "still",
#else
    .name = "shaky",
#endif
    .version = "1.0", .license = "Apache-2.0", .author = "Lamina",
    .summary = "breaks its process", .opt = schema, .config_size = sizeof(struct options),
    .create = create, .destroy = destroy, .ops = &evaluator
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
