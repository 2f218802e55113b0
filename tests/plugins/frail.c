/* SPDX-License-Identifier: Apache-2.0 */
/* frail.c -- the backend `reference` on devices that fail as it is told: one call of the
 * kind `call`, the one numbered `at` (and more behind it), finds no memory or no device.
 * What its devices are is told by FRAIL in the environment: a list of gpu, software,
 * none, crash, hang; their driver by FRAIL_DRIVER.                           */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define lm_plugin reference_plugin
#include "../../plugins/backends/reference.c"
#undef lm_plugin

enum { NEVER, UPLOAD, BUFFER, KV_OPEN, RUN };
static const char *const calls[] = { "never", "upload", "buffer", "kv_open", "run",
                                     NULL };
static const char *const hows[] = { "memory", "lost", NULL };

struct options {
    int64_t call, how, at, calls, cols, device, states, record;
    const char *once;
};
static const struct lm_opt schema[] = {
    LM_PICK(struct options, call, "never", calls, 0, "what fails"),
    LM_PICK(struct options, how, "memory", hows, 0, "and how"),
    LM_INT(struct options, at, "0", 0, 1e9, NULL, 0, "the call that fails; 0: all"),
    LM_INT(struct options, calls, "1", 1, 1e9, NULL, 0, "and so many in all, in a row"),
    LM_INT(struct options, cols, "0", 0, 1e9, NULL, 0,
           "uploads of matrices with so many columns alone; 0: any"),
    LM_INT(struct options, states, "0", 0, 1e9, "bytes", 0,
           "room for buffers of hidden states; 0: any"),
    LM_INT(struct options, record, "0", 0, 999, "ms", 0,
           "what the first run of a program takes beside running it"),
    LM_INT(struct options, device, "0", 0, 100, NULL, 0, "number of the device"),
    LM_STRING(struct options, once, NULL, 0, "file that it makes, to fail once only"),
    LM_OPT_END
};

static const struct options *told;      /* of the one instance of a process */
static int64_t count;

static bool is_due(int call)
{
    if (told->call != call)
        return false;
    int64_t n = __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED);
    if (told->at && (n < told->at || n >= told->at + told->calls))
        return false;
    if (!told->once || !*told->once)
        return true;
    int fd = open(told->once, O_CREAT | O_EXCL | O_WRONLY, 0666);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static enum lm_status fail(const struct machine *m, struct lm_err *e)
{
    if (told->how)
        return m->host->fail(e, LM_EUNAVAILABLE, "frail: the device is gone");
    return m->host->fail(e, LM_EINFEASIBLE, "frail: no memory is left on the device");
}

static enum lm_status frail_upload(void *self, const struct lm_tensor *t, int64_t stride,
                                   struct lm_weight **w, struct lm_err *e)
{
    bool meant = !told->cols || (t->rows > 1 && t->cols == told->cols);
    return meant && is_due(UPLOAD) ? fail(self, e)
                                   : machine_upload(self, t, stride, w, e);
}

static int64_t taken;                   /* bytes of buffers, as floats */

static void frail_buffer_free(void *self, struct lm_buffer *b)
{
    __atomic_sub_fetch(&taken, b ? 4 * b->n : 0, __ATOMIC_RELAXED);
    machine_buffer_free(self, b);
}

static enum lm_status frail_buffer(void *self, int64_t n, struct lm_buffer **b,
                                   struct lm_err *e)
{
    int64_t now = __atomic_add_fetch(&taken, 4 * n, __ATOMIC_RELAXED);
    enum lm_status st = is_due(BUFFER) || (told->states && now > told->states)
        ? fail(self, e) : machine_buffer(self, n, b, e);
    if (st)
        __atomic_sub_fetch(&taken, 4 * n, __ATOMIC_RELAXED);
    return st;
}

static enum lm_status frail_kv_open(void *self, const int32_t *width, size_t n_slot,
                                    int64_t capacity, struct lm_kv **kv, struct lm_err *e)
{
    return is_due(KV_OPEN) ? fail(self, e)
                           : machine_kv_open(self, width, n_slot, capacity, kv, e);
}

static const struct lm_exe *recorded;   /* the last one, of one thread */

static enum lm_status frail_compile(void *self, const struct lm_program *p,
                                    struct lm_exe **x, struct lm_err *e)
{
    if (told->record)
        recorded = NULL;
    return machine_compile(self, p, x, e);
}

/* As the drivers of GPUs do: what is run again is replayed. */
static void record(const struct lm_exe *x)
{
    struct timespec wait = { .tv_nsec = told->record * 1000000 };
    if (told->record && recorded != x)
        nanosleep(&wait, NULL);
    if (told->record)
        recorded = x;
}

static enum lm_status frail_run(void *self, struct lm_stream *s, const struct lm_exe *x,
                                const struct lm_exec *arg, struct lm_time *t,
                                struct lm_err *e)
{
    record(x);
    enum lm_status st = is_due(RUN) ? fail(self, e) : run(self, s, x, arg, t, e);
    if (t)
        t->device = t->host / 2;        /* as a GPU's own clock would say */
    return st;
}

/* Word i of FRAIL; "": there are not so many. */
static void find_word(int64_t i, char out[16])
{
    const char *at = getenv("FRAIL");
    size_t n = 0;
    *out = 0;
    for (; at && *at; at += strspn(at, ","), i--) {
        n = strcspn(at, ",");
        if (i == 0 && n < 16) {
            memcpy(out, at, n);
            out[n] = 0;
            return;
        }
        at += n;
    }
}

static enum lm_status frail_devices(const struct lm_host *h, int64_t i,
                                    struct lm_device *out, struct lm_err *e)
{
    char word[16];
    find_word(i, word);
    if (!strcmp(word, "crash")) {
        signal(SIGSEGV, SIG_DFL);
        kill(getpid(), SIGSEGV);
    }
    while (!strcmp(word, "hang"))
        sleep(1);
    if (!*word || !strcmp(word, "none"))
        return h->fail(e, LM_EUNAVAILABLE, "no frail device (FRAIL names none)");
    struct lm_device full = { .struct_size = sizeof full, .memory = 8000000000,
                              .software = *word == 's' };
    const char *driver = getenv("FRAIL_DRIVER");
    snprintf(full.driver, sizeof full.driver, "%s", driver ? driver : "2.5");
    snprintf(full.name, sizeof full.name, "Frail %s", word);
    lm_fill_struct(out, &full, sizeof full);
    return LM_OK;
}

static enum lm_status frail_device(void *self, struct lm_device *out, struct lm_err *e)
{
    const struct machine *m = self;
    if (getenv("FRAIL"))
        return frail_devices(m->host, told->device, out, e);
    return device(self, out, e);
}

static enum lm_status frail_create(const struct lm_args *a, void **self, struct lm_err *e)
{
    told = a->config;
    return create(a, self, e);
}

static struct lm_backend frail;

static const struct lm_module frail_module = {
    LM_MODULE_HEAD(BACKEND), .name = "frail", .version = "1.0",
    .license = "Apache-2.0", .author = "Lamina", .summary = "fails as it is told",
    .opt = schema, .config_size = sizeof(struct options),
    .create = frail_create, .destroy = destroy, .ops = &frail
};

LM_EXPORT const struct lm_module *lm_plugin(void);
LM_EXPORT const struct lm_module *lm_plugin(void)
{
    frail = backend;
    frail.upload = frail_upload;
    frail.buffer = frail_buffer;
    frail.buffer_free = frail_buffer_free;
    frail.kv_open = frail_kv_open;
    frail.run = frail_run;
    frail.compile = frail_compile;
    frail.device = frail_device;
    frail.devices = frail_devices;
    return &frail_module;
}
