/* SPDX-License-Identifier: Apache-2.0 */
/* selftest.c -- runs the checks of a plugin's kind, each between two looks at
 * what a plugin must leave alone; see selftest.h and selftest_kit.h.        */
#include "pipeline/selftest.h"

#include <fenv.h>
#include <float.h>
#include <locale.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "pipeline/host.h"
#include "pipeline/selftest_kit.h"
#include "pipeline/selftest_options.h"

static struct lm_kit *now;
static atomic_flag blamed = ATOMIC_FLAG_INIT;

struct lm_kit *lm_kit_now(void)
{
    return now;
}

/* ---- sentences --------------------------------------------------------------------- */

enum lm_status lm_broken(struct lm_kit *k, const char *fmt, ...)
{
    char text[sizeof k->e->text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return lm_fail(k->e, LM_EFAILED, "%s", text);
}

void lm_kit_blame(const char *fmt, ...)
{
    va_list ap;
    if (atomic_flag_test_and_set(&blamed))
        return;                         /* the first one counts */
    va_start(ap, fmt);
    vsnprintf(now->blame, sizeof now->blame, fmt, ap);
    va_end(ap);
}

enum lm_status lm_kit_failed(struct lm_kit *k, const char *call, enum lm_status s)
{
    char why[sizeof k->e->text];
    if (k->blame[0])
        return lm_broken(k, "%s", k->blame);
    if (!k->e->text[0])
        return lm_broken(k, "%s failed (%s) without a message; use host->fail", call,
                         lm_status_name(s));
    snprintf(why, sizeof why, "%.900s", k->e->text);
    return lm_broken(k, "%s failed: %s", call, why);
}

enum lm_status lm_kit_excused(struct lm_kit *k, const char *call, enum lm_status s)
{
    if (!s)
        return LM_OK;
    if (!k->e->text[0] || s >= LM_EBUG)
        return lm_kit_failed(k, call, s);
    *k->e = (struct lm_err){ 0 };
    return LM_OK;
}

/* ---- instances --------------------------------------------------------------------- */

/* Options that hold plugins of their own are filled anew for each instance, as
 * those plugins have a state.                                                */
struct lm_kit_family {
    void *self;
    struct lm_stage stage;
    struct lm_conf *conf;
    struct lm_kit_family *next;
};

static void disband(struct lm_kit_family *f)
{
    lm_stage_close(&f->stage);
    lm_conf_free(f->conf);
    lm_release(f);
}

enum lm_status lm_kit_try(struct lm_kit *k, void **self)
{
    const struct lm_module *m = &k->plugin->module;
    bool modelless =
        m->kind == LM_FORMAT || m->kind == LM_SEARCH || m->kind == LM_REPORTER;
    struct lm_kit_family *f = NULL;
    struct lm_args a = { .struct_size = sizeof a, .host = &k->host, .run = k->run,
        .config = k->stage.opt.config, .instance = m->name,
        .model = modelless ? NULL : k->model,
        .stats = m->kind == LM_SCORER || m->kind == LM_REPAIR ? k->stats : NULL };
    enum lm_status s = LM_OK;
    *self = NULL;
    if (k->stage.n_child) {
        if (!(f = lm_alloc(sizeof *f, "selftest")))
            return lm_fail_memory(k->e, sizeof *f, "options");
        s = lm_selftest_fill(k, NULL, NULL, &f->conf, &f->stage);
        a.config = f->stage.opt.config;
    }
    if (!s)
        s = m->create(&a, self, k->e);
    if (f && s)
        disband(f);
    else if (f) {
        f->self = *self;
        f->next = k->family;
        k->family = f;
    }
    return s;
}

enum lm_status lm_kit_create(struct lm_kit *k, void **self)
{
    enum lm_status s = lm_kit_try(k, self);
    return s ? lm_kit_failed(k, "create()", s) : LM_OK;
}

void lm_kit_destroy(struct lm_kit *k, void *self)
{
    struct lm_kit_family **f = &k->family;
    if (!self)
        return;
    k->plugin->module.destroy(self);
    while (*f && (*f)->self != self)
        f = &(*f)->next;
    if (*f) {
        struct lm_kit_family *gone = *f;
        *f = gone->next;
        disband(gone);
    }
}

enum lm_status lm_kit_memory(struct lm_kit *k, enum lm_status (*work)(void *ctx),
                             void *ctx)
{
    enum lm_status s = work(ctx);       /* one-time allocations */
    if (s)
        return lm_kit_failed(k, "work with enough memory", s);
    for (int64_t at = 1; at < 5000; at += 1 + at / 16) {
        int64_t before = lm_mem_blocks();
        *k->e = (struct lm_err){ 0 };
        lm_fault_memory(at);
        s = work(ctx);
        bool fired = lm_fault_memory_fired();
        lm_fault_memory(0);
        if (lm_mem_blocks() != before)
            return lm_broken(k, "leaks %lld blocks when its allocation number %lld fails",
                             (long long)(lm_mem_blocks() - before), (long long)at);
        if (!fired)
            return s ? lm_kit_failed(k, "a repetition of the same work", s) : LM_OK;
        if (s != LM_ENOMEM)
            return lm_broken(k, "answers '%s' when its allocation number %lld fails, not "
                             "LM_ENOMEM", lm_status_name(s), (long long)at);
    }
    return LM_OK;
}

/* ---- what a plugin must leave alone ------------------------------------------------ */

static const int watched_signal[] = {
    SIGINT, SIGTERM, SIGSEGV, SIGFPE, SIGPIPE, SIGALRM
};
enum { N_SIGNALS = sizeof watched_signal / sizeof *watched_signal };

struct surroundings {
    char locale[256], folder[4096];
    int rounding;
    bool tiny;                          /* numbers below the normal range exist */
    void (*handler[N_SIGNALS])(int);
};

static void look(struct surroundings *s)
{
    volatile float least = FLT_MIN, half = 0.5f;
    const char *locale = setlocale(LC_ALL, NULL);
    memset(s, 0, sizeof *s);
    snprintf(s->locale, sizeof s->locale, "%s", locale ? locale : "");
    if (!getcwd(s->folder, sizeof s->folder))
        s->folder[0] = 0;
    s->rounding = fegetround();
    s->tiny = least * half != 0;
    for (int i = 0; i < N_SIGNALS; i++) {
        struct sigaction a;
        if (!sigaction(watched_signal[i], NULL, &a))
            s->handler[i] = a.sa_handler;
    }
}

static enum lm_status compare(struct lm_kit *k, const struct surroundings *a)
{
    struct surroundings b;
    look(&b);
    if (strcmp(a->locale, b.locale))
        return lm_broken(k, "changes the locale, to '%s'", b.locale);
    if (strcmp(a->folder, b.folder))
        return lm_broken(k, "changes the current folder, to '%s'", b.folder);
    if (a->rounding != b.rounding || a->tiny != b.tiny)
        return lm_broken(k, "changes the floating-point mode");
    for (int i = 0; i < N_SIGNALS; i++)
        if (a->handler[i] != b.handler[i])
            return lm_broken(k, "changes what signal %d does", watched_signal[i]);
    return LM_OK;
}

/* before: seen before the plugin was first called. */
static enum lm_status run_check(struct lm_kit *k, const struct lm_kit_check *c,
                                const struct surroundings *before)
{
    int64_t blocks = lm_mem_blocks();
    if (c->cancels)
        lm_cancel(true);
    enum lm_status s = c->run(k);
    lm_cancel(false);
    if (!s && k->blame[0])
        s = lm_broken(k, "%s", k->blame);
    if (!s)
        s = compare(k, before);
    if (!s && lm_mem_blocks() != blocks)
        s = lm_broken(k, "leaks %lld blocks of memory in the check of %s",
                      (long long)(lm_mem_blocks() - blocks), c->what);
    return s;
}

/* ---- checks of all kinds ----------------------------------------------------------- */

static enum lm_status check_lives(struct lm_kit *k)
{
    for (int i = 0; i < 3; i++) {
        void *a = NULL, *b = NULL;
        enum lm_status s = lm_kit_create(k, &a);
        if (!s)
            s = lm_kit_create(k, &b);   /* two at a time */
        lm_kit_destroy(k, a);
        lm_kit_destroy(k, b);
        if (s)
            return s;
    }
    return LM_OK;
}

static enum lm_status one_life(void *ctx)
{
    void *self;
    enum lm_status s = lm_kit_try(ctx, &self);
    if (!s)
        lm_kit_destroy(ctx, self);
    return s;
}

static enum lm_status check_create_memory(struct lm_kit *k)
{
    return lm_kit_memory(k, one_life, k);
}

static const struct lm_kit_check common[] = {
    { "the options", lm_selftest_options, false },
    { "create() and destroy()", check_lives, false },
    { "create() without memory", check_create_memory, false },
    { NULL, NULL, false }
};

static const struct lm_kit_check *checks_of(uint32_t kind)
{
    switch (kind) {
    case LM_SEARCH:    return lm_selftest_search;
    case LM_PRUNER:    return lm_selftest_pruner;
    case LM_SCORER:    return lm_selftest_scorer;
    case LM_REPAIR:    return lm_selftest_repair;
    case LM_QUANTIZER: return lm_selftest_quant;
    case LM_EVALUATOR: return lm_selftest_evaluator;
    case LM_BACKEND:   return lm_selftest_backend;
    case LM_FORMAT:    return lm_selftest_format;
    default:           return lm_selftest_reporter;
    }
}

/* ---- the kit ----------------------------------------------------------------------- */

static void quiet_log(struct lm_run *r, enum lm_level level, const char *fmt, ...)
    LM_PRINTF(3, 4);
static void quiet_log(struct lm_run *r, enum lm_level level, const char *fmt, ...)
{
    (void)r, (void)level, (void)fmt;
}

static void quiet_progress(struct lm_run *r, double fraction, const char *what)
{
    (void)r, (void)what;
    if (!(fraction >= 0 && fraction <= 1))
        lm_kit_blame("reports a progress of %g", fraction);
}

static enum lm_status open_kit(struct lm_kit *k)
{
    const struct lm_module *m = &k->plugin->module;
    enum lm_status s;
    now = k;
    k->host = *lm_host();
    k->host.log = quiet_log;
    k->host.progress = quiet_progress;
    lm_log_level((enum lm_level)(LM_ERROR + 1));    /* the core's own messages */
    if ((s = lm_pool_start(2, k->e)) || (s = lm_run_open(1, &k->run, k->e)) ||
        (s = lm_kit_model(&k->model, k->e)) || (s = lm_kit_stats(k)))
        return s;
    if (m->probe && (s = m->probe(&k->host, k->e))) {
        if (s != LM_EUNAVAILABLE)
            return lm_kit_failed(k, "probe()", s);
        return s;
    }
    return lm_selftest_fill(k, NULL, NULL, &k->conf, &k->stage);
}

static void close_kit(struct lm_kit *k)
{
    lm_stage_close(&k->stage);
    lm_conf_free(k->conf);
    lm_kit_stats_free(k);
    lm_model_free(k->model);
    lm_run_close(k->run);
    lm_pool_stop();
    now = NULL;
}

/* A plugin that cannot work on this machine says so in create() at the latest. */
static enum lm_status check_here(struct lm_kit *k)
{
    void *self;
    enum lm_status s = lm_kit_try(k, &self);
    if (s != LM_EUNAVAILABLE)
        lm_kit_destroy(k, self);
    return s == LM_EUNAVAILABLE ? s : LM_OK;
}

enum lm_status lm_selftest(const struct lm_loaded *plugin, const char *options,
                           const char *folder, lm_selftest_note *note, void *ctx,
                           struct lm_err *e)
{
    const struct lm_kit_check *list[] = { common, checks_of(plugin->module.kind) };
    struct lm_kit k = { .plugin = plugin, .options = options, .folder = folder, .e = e };
    struct surroundings before;
    look(&before);
    note(ctx, "its first instance", LM_KIT_SECONDS);
    enum lm_status s = open_kit(&k);
    if (!s)
        s = check_here(&k);
    for (int i = 0; i < 2; i++)
        for (const struct lm_kit_check *c = list[i]; !s && c->what; c++) {
            *e = (struct lm_err){ 0 };
            note(ctx, c->what, c->cancels ? LM_KIT_CANCEL_SECONDS : LM_KIT_SECONDS);
            s = run_check(&k, c, &before);
        }
    note(ctx, "its end", LM_KIT_SECONDS);
    close_kit(&k);
    return s;
}
