/* SPDX-License-Identifier: Apache-2.0 */
/* log.c -- lines to stderr, and one progress line that steps aside for them.
 *
 * The estimate of the time left assumes a constant rate since begin; it is
 * shown only once a share of the work and a second or two have passed.       */
#include "base/log.h"

#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/str.h"

#define REDRAW 0.1                      /* seconds between lines, terminal   */
#define PLAIN  5.0                      /* and elsewhere                     */

static struct {
    pthread_mutex_t lock;
    enum lm_level least;
    int    depth;                       /* of nested tasks                   */
    double begun, shown;                /* lm_clock()                        */
    bool   drawn;                       /* a line stands on the terminal     */
    double fraction, step;              /* of the outer task, last gain      */
    char   what[64], inner[64], detail[160], line[256];
    void (*sink)(void *ctx, double fraction);
    void  *sink_ctx;
} log_state = { .lock = PTHREAD_MUTEX_INITIALIZER, .least = LM_INFO };

static bool on_terminal(void)
{
    return isatty(STDERR_FILENO) == 1;
}

double lm_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void lm_log_level(enum lm_level least)
{
    pthread_mutex_lock(&log_state.lock);
    log_state.least = least;
    pthread_mutex_unlock(&log_state.lock);
}

/* Removes and draws the line on the terminal; under lock. */
static void wipe(void)
{
    if (log_state.drawn)
        fputs("\r\033[K", stderr);
    log_state.drawn = false;
}

static void draw(void)
{
    struct winsize w;
    int columns = 80;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0)
        columns = w.ws_col;
    fprintf(stderr, "\r%.*s\033[K", columns - 1, log_state.line);
    log_state.drawn = true;
}

void lm_log(enum lm_level level, const char *fmt, ...)
{
    static const char *const name[] = { "debug: ", "", "warning: ", "error: " };
    char line[4096];
    va_list ap;
    va_start(ap, fmt);
    if (vsnprintf(line, sizeof line, fmt, ap) < 0)
        line[0] = 0;
    va_end(ap);
    lm_str_tame(line, strlen(line));
    pthread_mutex_lock(&log_state.lock);
    if (level >= log_state.least) {
        bool redraw = log_state.drawn;
        wipe();
        fprintf(stderr, "%s%s\n", level <= LM_ERROR ? name[level] : "", line);
        if (redraw)
            draw();
        fflush(stderr);
    }
    pthread_mutex_unlock(&log_state.lock);
}

void lm_progress_begin(const char *what)
{
    pthread_mutex_lock(&log_state.lock);
    if (log_state.depth++ == 0) {
        log_state.begun = lm_clock();
        log_state.shown = on_terminal() ? 0 : log_state.begun;
        snprintf(log_state.what, sizeof log_state.what, "%s", what);
        log_state.fraction = log_state.step = 0;
        log_state.detail[0] = 0;
    } else if (log_state.depth == 2) {
        snprintf(log_state.inner, sizeof log_state.inner, "%s", what);
    }
    pthread_mutex_unlock(&log_state.lock);
}

/* Writes the progress line; under lock. */
static void compose(double fraction, const char *detail, double now)
{
    char left[32], more[48] = "";
    double elapsed = now - log_state.begun;
    if (fraction > 0.02 && elapsed > 2 && fraction < 1)
        snprintf(more, sizeof more, ", %s left",
                 lm_human_time(left, elapsed * (1 - fraction) / fraction));
    snprintf(log_state.line, sizeof log_state.line, "%s: %d %%%s%s%s%s", log_state.what,
             (int)(100 * fraction), more, detail != NULL && *detail ? " (" : "",
             detail != NULL ? detail : "", detail != NULL && *detail ? ")" : "");
    lm_str_tame(log_state.line, strlen(log_state.line));
}

void lm_progress_sink(void (*sink)(void *ctx, double fraction), void *ctx)
{
    log_state.sink = sink;
    log_state.sink_ctx = ctx;
}

/* Is there a sink?  It gets what comes at least REDRAW behind the last. */
static bool sunk(double fraction, double now)
{
    if (!log_state.sink)
        return false;
    pthread_mutex_lock(&log_state.lock);
    bool due = now - log_state.shown >= REDRAW;
    if (due)
        log_state.shown = now;
    pthread_mutex_unlock(&log_state.lock);
    if (due)
        log_state.sink(log_state.sink_ctx, fraction);
    return true;
}

void lm_progress_alive(void)
{
    sunk(-1, lm_clock());
}

void lm_progress(double fraction, const char *detail)
{
    fraction = fraction > 0 ? fraction < 1 ? fraction : 1 : 0;     /* NaN: 0 */
    double now = lm_clock();
    char inner[80];
    if (sunk(fraction, now))
        return;
    pthread_mutex_lock(&log_state.lock);
    bool terminal = on_terminal();
    bool due = log_state.depth >= 1 && log_state.least <= LM_INFO
        && now - log_state.shown >= (terminal ? REDRAW : PLAIN);
    if (log_state.depth == 1) {
        log_state.step = fmax(0, fraction - log_state.fraction);
        log_state.fraction = fraction;
        snprintf(log_state.detail, sizeof log_state.detail, "%s", detail ? detail : "");
    } else if (due) {                   /* inside the outer task's next step */
        snprintf(inner, sizeof inner, "%s %d %%", log_state.inner,
                 (int)(100 * fraction));
        fraction = fmin(0.99, log_state.fraction + fraction * log_state.step);
        detail = *log_state.detail ? log_state.detail : inner;
    }
    if (due) {
        log_state.shown = now;
        compose(fraction, detail, now);
        if (terminal)
            draw();
        else
            fprintf(stderr, "%s\n", log_state.line);
        fflush(stderr);
    }
    pthread_mutex_unlock(&log_state.lock);
}

/* A task that took a while leaves one line behind. */
void lm_progress_end(void)
{
    pthread_mutex_lock(&log_state.lock);
    if (log_state.depth > 0 && --log_state.depth == 0 && !log_state.sink) {
        double elapsed = lm_clock() - log_state.begun;
        char took[32];
        wipe();
        if (elapsed >= 1 && log_state.least <= LM_INFO)
            fprintf(stderr, "%s: %s\n", log_state.what, lm_human_time(took, elapsed));
        fflush(stderr);
    }
    pthread_mutex_unlock(&log_state.lock);
}
