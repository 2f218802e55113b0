/* SPDX-License-Identifier: Apache-2.0 */
/* crew_unit.c -- see crew_unit.h. */
#include "pipeline/crew_unit.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"

enum { NOWHERE = -1, RUNS_EACH = 2, MAX_LOSSES = 2 };

/* ---- cutting ---------------------------------------------------------------------- */

static bool is_due(const struct lm_units *u, size_t i)
{
    const bool *skip = u->chore->skip;
    int64_t first, end;
    if (skip)
        skip += i * lm_evaluation_metrics(u->bench->evaluation);
    for (size_t j = 0; j < u->bench->n_judge && !u->err[i].code; j++) {
        lm_chore_span(u->chore, u->bench->judge, j, i, &first, &end);
        if (first < end && lm_judge_wanted(u->bench->judge, j, skip))
            return true;
    }
    return false;
}

/* Which batch of candidates it is; those of another one are nowhere yet. */
static enum lm_status find_homes(struct lm_units *u, struct lm_err *e)
{
    size_t n = u->chore->n;
    uint64_t batch = lm_hash_u64(n, 0);
    for (size_t i = 0; i < n; i++) {
        u->hash[i] = lm_plan_hash(u->chore->candidate[i].plan);
        batch = lm_hash_u64(u->hash[i], batch);
    }
    if (u->home && batch == u->batch && n == u->n_home)
        return LM_OK;
    lm_release(u->home);
    u->batch = batch;
    u->n_home = 0;
    if (!(u->home = lm_alloc_array(n + 1, sizeof *u->home, "workers")))
        return lm_fail_memory(e, n * sizeof *u->home, "workers");
    u->n_home = n;
    for (size_t i = 0; i < n; i++)
        u->home[i] = (size_t)NOWHERE;
    return LM_OK;
}

struct named { const char *text; size_t i; };

/* Plans are written layer by layer, so those that begin alike stand together. */
static int by_text(const void *left, const void *right)
{
    const struct named *a = left, *b = right;
    int order = strcmp(a->text, b->text);
    return order ? order : (a->i > b->i) - (a->i < b->i);
}

/* Fills list and text with those that have something to do; *n: how many. */
static enum lm_status list_plans(struct lm_units *u, size_t *n, struct lm_err *e)
{
    struct named *name = lm_alloc_array(u->chore->n + 1, sizeof *name, "workers");
    enum lm_status st = name ? LM_OK : lm_fail_memory(e, u->chore->n, "workers");
    *n = 0;
    for (size_t i = 0; !st && i < u->chore->n; i++) {
        struct lm_str t = { 0 };
        if (!is_due(u, i))
            continue;
        lm_plan_text(u->chore->candidate[i].plan, &t);
        u->text[i] = t.s;
        name[(*n)++] = (struct named){ t.s, i };
        if (t.failed || !t.s)
            st = lm_fail_memory(e, t.n, "a plan");
    }
    if (!st)
        qsort(name, *n, sizeof *name, by_text);
    for (size_t i = 0; !st && i < *n; i++)
        u->list[i] = name[i].i;
    lm_release(name);
    return st;
}

/* Items of all judges in `windows` equal parts. */
static enum lm_status cut_items(struct lm_units *u, size_t n, struct lm_err *e)
{
    size_t judges = u->bench->n_judge, all = u->windows * judges;
    u->low = lm_alloc_array(2 * all + 1, sizeof *u->low, "workers");
    if (!u->low)
        return lm_fail_memory(e, 2 * all * sizeof *u->low, "workers");
    u->high = u->low + all;
    for (size_t j = 0; j < judges; j++) {
        int64_t least = INT64_MAX, most = 0, k = (int64_t)u->windows;
        for (size_t i = 0; i < n; i++) {
            int64_t first, end;
            lm_chore_span(u->chore, u->bench->judge, j, u->list[i], &first, &end);
            if (first < end) {
                least = first < least ? first : least;
                most = end > most ? end : most;
            }
        }
        least = least < most ? least : most;
        for (int64_t w = 0; w < k; w++) {
            u->low[(size_t)w * judges + j] = least + (most - least) / k * w +
                                             (most - least) % k * w / k;
            u->high[(size_t)w * judges + j] = least + (most - least) / k * (w + 1) +
                                              (most - least) % k * (w + 1) / k;
        }
    }
    return LM_OK;
}

/* A few runs of candidates for each worker, which end at about the same time; or, of
 * fewer candidates than workers, parts of the items.                        */
static enum lm_status cut(struct lm_units *u, size_t n, size_t workers, struct lm_err *e)
{
    size_t runs = RUNS_EACH * workers < n ? RUNS_EACH * workers : n;
    u->windows = 1;
    if (u->alone)
        runs = n ? 1 : 0;
    else if (n && n < workers && u->chore->pass == LM_PASS_SAMPLE)
        u->windows = (workers + n - 1) / n;
    enum lm_status st = cut_items(u, n, e);
    /* and, should a worker be lost, each candidate of each of them alone */
    size_t most = runs * u->windows + n * u->windows;
    if (!st && !(u->unit = lm_alloc_array(most + 1, sizeof *u->unit, "workers")))
        st = lm_fail_memory(e, most * sizeof *u->unit, "workers");
    for (size_t r = 0; !st && r < runs; r++)
        for (size_t w = 0; w < u->windows; w++) {
            size_t first = n * r / runs, end = n * (r + 1) / runs;
            u->unit[u->n++] = (struct lm_unit){ .first = first, .n = end - first,
                .window = w, .weight = (double)(end - first) / (double)u->windows };
        }
    return st;
}

enum lm_status lm_units_cut(struct lm_units *u, const struct lm_chore *chore,
                            const struct lm_bench *bench, size_t workers,
                            struct lm_result *result, struct lm_err *err,
                            struct lm_err *e)
{
    size_t n = chore->n;
    lm_units_clear(u);
    u->chore = chore;
    u->bench = bench;
    u->result = result;
    u->err = err;
    u->alone = chore->pass == LM_PASS_QUIET || chore->pass == LM_PASS_COMMANDS;
    u->patient = chore->pass == LM_PASS_COMMANDS;
    u->list = lm_alloc_array(n + 1, sizeof *u->list, "workers");
    u->text = lm_alloc_array(n + 1, sizeof *u->text, "workers");
    u->hash = lm_alloc_array(n + 1, sizeof *u->hash, "workers");
    enum lm_status st = u->list && u->text && u->hash ? find_homes(u, e)
                                                      : lm_fail_memory(e, n, "workers");
    if (!st)
        st = list_plans(u, &n, e);
    if (!st)
        st = cut(u, n, workers, e);
    if (st)
        lm_units_clear(u);
    return st;
}

void lm_units_clear(struct lm_units *u)
{
    for (size_t i = 0; u->text && i < u->chore->n; i++)
        lm_release(u->text[i]);
    lm_release(u->text);
    lm_release(u->list);
    lm_release(u->hash);
    lm_release(u->low);
    lm_release(u->unit);
    *u = (struct lm_units){ .home = u->home, .n_home = u->n_home, .batch = u->batch };
}

void lm_units_free(struct lm_units *u)
{
    lm_units_clear(u);
    lm_release(u->home);
    *u = (struct lm_units){ 0 };
}

/* ---- where it stands -------------------------------------------------------------- */

bool lm_units_all_done(const struct lm_units *u)
{
    for (size_t i = 0; i < u->n; i++)
        if (u->unit[i].state != LM_UNIT_DONE)
            return false;
    return true;
}

size_t lm_units_waiting(const struct lm_units *u)
{
    size_t n = 0;
    for (size_t i = 0; i < u->n; i++)
        n += u->unit[i].state == LM_UNIT_WAITING;
    return n;
}

double lm_units_share(const struct lm_units *u)
{
    double done = 0, all = 0;
    for (size_t i = 0; i < u->n; i++) {
        const struct lm_unit *t = &u->unit[i];
        all += t->weight;
        done += t->weight * (t->state == LM_UNIT_DONE ? 1
                             : t->state == LM_UNIT_RUNNING ? t->fraction : 0);
    }
    return all > 0 ? done / all : 1;
}

/* ---- giving ----------------------------------------------------------------------- */

/* Those that failed meanwhile go. */
static void sift(struct lm_units *u, struct lm_unit *t)
{
    size_t n = 0;
    for (size_t k = 0; k < t->n; k++)
        if (!u->err[u->list[t->first + k]].code)
            u->list[t->first + n++] = u->list[t->first + k];
    t->n = n;
    if (!n)
        t->state = LM_UNIT_DONE;
}

struct lm_unit *lm_units_next(struct lm_units *u, size_t worker)
{
    struct lm_unit *best = NULL;
    size_t most = 0;
    for (size_t i = 0; i < u->n; i++) {
        struct lm_unit *t = &u->unit[i];
        size_t mine = 0;
        if (t->state != LM_UNIT_WAITING)
            continue;
        sift(u, t);
        for (size_t k = 0; k < t->n; k++)
            mine += u->home[u->list[t->first + k]] == worker;
        if (t->n && (!best || mine > most)) {
            best = t;
            most = mine;
        }
    }
    return best;
}

enum lm_status lm_units_order(const struct lm_units *u, struct lm_unit *t,
                              struct lm_order *o, struct lm_str *out, struct lm_err *e)
{
    const struct lm_chore *c = u->chore;
    struct lm_order_plan *plan = lm_alloc_array(t->n + 1, sizeof *plan, "workers");
    bool *none = lm_alloc_array(o->n_metric + 1, sizeof *none, "workers");
    enum lm_status st = plan && none ? LM_OK : lm_fail_memory(e, t->n * sizeof *plan,
                                                              "an order");
    o->batch = u->batch;
    o->pass = c->pass;
    o->low = u->low + t->window * o->n_judge;
    o->high = u->high + t->window * o->n_judge;
    o->n = t->n;
    o->plan = plan;
    for (size_t k = 0; !st && k < t->n; k++) {
        size_t i = u->list[t->first + k];
        plan[k] = (struct lm_order_plan){ u->hash[i], c->from[i], c->to[i], u->text[i],
                                          c->skip ? c->skip + i * o->n_metric : none };
    }
    if (!st)
        lm_say_order(out, o);
    if (!st && out->failed)
        st = lm_fail_memory(e, out->n, "an order");
    lm_release(plan);
    lm_release(none);
    return st;
}

void lm_units_given(struct lm_units *u, struct lm_unit *t, size_t worker)
{
    t->state = LM_UNIT_RUNNING;
    t->fraction = 0;
    for (size_t k = 0; k < t->n; k++)
        u->home[u->list[t->first + k]] = worker;
}

/* ---- losing ----------------------------------------------------------------------- */

static const char *what(const struct lm_units *u)
{
    static const char *const name[] = { "", "counting", "evaluating", "timing",
                                        "running a command for" };
    return name[u->chore->pass];
}

void lm_units_lost(struct lm_units *u, struct lm_unit *t, const char *how)
{
    if (t->n > 1) {
        lm_log(LM_WARN, "worker %s while %s %zu trials; they are tried again one by one",
               how, what(u), t->n);
        for (size_t k = 0; k < t->n; k++)
            u->unit[u->n++] = (struct lm_unit){ .first = t->first + k, .n = 1,
                .window = t->window, .weight = t->weight / (double)t->n };
        t->weight = 0;
        t->state = LM_UNIT_DONE;
        return;
    }
    struct lm_err *err = &u->err[u->list[t->first]];
    bool over = ++t->losses >= MAX_LOSSES;
    t->state = over ? LM_UNIT_DONE : LM_UNIT_WAITING;
    lm_log(LM_WARN, "worker %s while %s a trial; it %s", how, what(u),
           over ? "counts as failed" : "is tried again");
    if (over && !err->code)
        lm_fail(err, LM_EFAILED, "worker %s while %s this trial alone, the second time",
                how, what(u));
}

/* ---- taking ----------------------------------------------------------------------- */

/* Sums that are asked for of candidate i in this unit; to: where they go from `sums`,
 * NULL: they are counted only.                                              */
static size_t walk(const struct lm_units *u, const struct lm_unit *t, size_t i,
                   struct lm_result *to, const char *sums)
{
    const struct lm_bench *b = u->bench;
    struct lm_chore c = *u->chore;
    size_t all = lm_evaluation_metrics(b->evaluation), first_metric = i * all, n = 0;
    c.low = u->low + t->window * b->n_judge;
    c.high = u->high + t->window * b->n_judge;
    for (size_t j = 0; j < b->n_judge; first_metric += b->judge[j++].n_metric) {
        int64_t first, end;
        lm_chore_span(&c, b->judge, j, i, &first, &end);
        for (size_t m = 0; m < b->judge[j].n_metric; m++) {
            size_t at = first_metric + m, count = (size_t)(end - first);
            if (c.skip && c.skip[at])
                continue;
            if (to && count && to[at].sum)
                memcpy(to[at].sum + first, sums + n * sizeof(struct lm_sum),
                       count * sizeof(struct lm_sum));
            n += count;
        }
    }
    return n;
}

enum lm_status lm_units_take(struct lm_units *u, struct lm_unit *t,
                             const struct lm_done *d, struct lm_err *e)
{
    if (d->n != t->n)
        return lm_fail(e, LM_EINPUT, "it answered for %zu trials of %zu", d->n, t->n);
    for (size_t k = 0; k < t->n; k++)
        if (!d->plan[k].status &&
            d->plan[k].n != walk(u, t, u->list[t->first + k], NULL, NULL))
            return lm_fail(e, LM_EINPUT,
                           "it sent %zu sums of a trial, which are not those "
                           "it was asked for", d->plan[k].n);
    for (size_t k = 0; k < t->n; k++) {
        size_t i = u->list[t->first + k];
        const struct lm_done_plan *p = &d->plan[k];
        if (p->status && !u->err[i].code)
            lm_fail(&u->err[i], (enum lm_status)p->status, "%s", p->text);
        else if (!p->status)
            walk(u, t, i, u->result, p->sums);
    }
    t->state = LM_UNIT_DONE;
    return LM_OK;
}
