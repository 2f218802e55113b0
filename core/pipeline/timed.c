/* SPDX-License-Identifier: Apache-2.0 */
/* timed.c -- how steady the machine was while a study took its times. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "pipeline/view.h"

static const char timing_form[] = "%lld repetitions, %lld measured again, %lld kept "
                                  "though the anchor was up to %lf %% off its median";
static const char clocks_form[] = "%lf MHz at first, %lf at last, %lf to %lf, "
                                  "governor %31s";
static const char other[] = "; a candidate was the anchor, for want of room for the "
                            "dense model";

/* Of what this program wrote; a text that is none is nothing. */
static void read_back(const char *timing, const char *clocks, struct lm_tally *t)
{
    struct lm_tally was = { .runs = 0 };
    long long runs, again, kept;
    double percent;
    if (timing && sscanf(timing, timing_form, &runs, &again, &kept, &percent) == 4) {
        was.runs = runs;
        was.again = again;
        was.kept = kept;
        was.worst = percent / 100;
        was.other = strstr(timing, other) != NULL;
    }
    if (clocks && sscanf(clocks, clocks_form, &was.mhz_first, &was.mhz_last, &was.mhz_low,
                         &was.mhz_high, was.governor) < 4)
        was.mhz_first = 0;
    if (!strcmp(was.governor, "unknown"))
        was.governor[0] = 0;
    *t = was;
}

static enum lm_status put(struct lm_study *s, const struct lm_tally *t, struct lm_err *e)
{
    char text[320];
    enum lm_status st = LM_OK;
    if (t->runs) {
        snprintf(text, sizeof text, "%lld repetitions, %lld measured again, %lld kept "
                 "though the anchor was up to %.1f %% off its median%s",
                 (long long)t->runs, (long long)t->again, (long long)t->kept,
                 100 * t->worst, t->other ? other : "");
        st = lm_store_put(s->store, "timing", text, e);
    }
    if (!st && t->mhz_first > 0) {
        snprintf(text, sizeof text, "%.0f MHz at first, %.0f at last, %.0f to %.0f, "
                 "governor %s", t->mhz_first, t->mhz_last, t->mhz_low, t->mhz_high,
                 t->governor[0] ? t->governor : "unknown");
        st = lm_store_put(s->store, "clocks", text, e);
    }
    return st;
}

static enum lm_status get(const struct lm_study *s, struct lm_tally *t, struct lm_err *e)
{
    char *timing = NULL, *clocks = NULL;
    enum lm_status st = lm_store_get(s->store, "timing", &timing, e);
    if (!st)
        st = lm_store_get(s->store, "clocks", &clocks, e);
    read_back(timing, clocks, t);
    lm_release(timing);
    lm_release(clocks);
    return st;
}

enum lm_status lm_view_timed(struct lm_study *s, struct lm_tally tally, struct lm_err *e)
{
    struct lm_tally all;
    if (!tally.runs)
        return LM_OK;
    enum lm_status st = get(s, &all, e);
    if (st)
        return st;
    lm_tally_add(&all, &tally);
    return put(s, &all, e);
}

struct lm_tally lm_view_tally(const struct lm_study *s)
{
    struct lm_tally t = { .runs = 0 };
    struct lm_err ignored = { 0 };
    if (s->store)
        get(s, &t, &ignored);
    return t;
}
