/* SPDX-License-Identifier: Apache-2.0 */
/* fronts.c -- see fronts.h. */
#include "fronts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct pool pool_of(const struct lm_host *h, const char *tag,
                    const struct lm_problem *problem)
{
    return (struct pool){ .h = h, .tag = tag, .n_slot = problem->n_slot,
                          .n_obj = problem->n_objective };
}

void pool_close(struct pool *p)
{
    for (size_t i = 0; i < p->room; i++)
        p->h->release(p->member[i].value);
    if (p->h)
        p->h->release(p->member);
}

static enum lm_status make_room(struct pool *p, struct lm_err *e)
{
    size_t room = p->room ? 2 * p->room : 64;
    struct member *m = p->member;

    if (p->n == p->room) {
        m = p->h->resize(p->member, room * sizeof *m);
        if (!m)
            return p->h->fail(e, LM_ENOMEM, "out of memory for %zu genomes", room);
        memset(m + p->room, 0, (room - p->room) * sizeof *m);
        p->member = m;
        p->room = room;
    }
    m += p->n;
    if (!m->value) {
        m->value = p->h->alloc(p->n_slot * sizeof *m->value + p->n_obj * sizeof *m->f,
                               p->tag);
        if (!m->value)
            return p->h->fail(e, LM_ENOMEM, "out of memory for a genome of %zu values",
                              p->n_slot);
        m->f = (double *)(m->value + p->n_slot);
    }
    return LM_OK;
}

enum lm_status pool_add(struct pool *p, const union lm_value *value, const double *f,
                        double violation, struct lm_err *e)
{
    enum lm_status st = make_room(p, e);

    if (st != LM_OK)
        return st;
    struct member *m = &p->member[p->n++];
    m->birth = p->births++;
    m->violation = violation;
    memcpy(m->value, value, p->n_slot * sizeof *value);
    for (size_t k = 0; k < p->n_obj; k++)
        m->f[k] = violation < INFINITY ? f[k] : INFINITY;
    return LM_OK;
}

enum lm_status pool_tell(struct pool *p, const struct lm_problem *problem,
                         const struct lm_outcome *const *o, size_t n, struct lm_err *e)
{
    enum lm_status st = LM_OK;

    for (size_t i = 0; i < n && st == LM_OK; i++)
        if (outcome_counts(o[i]))
            st = pool_add(p, o[i]->value, o[i]->objective,
                          outcome_violation(problem, o[i]), e);
    return st;
}

bool member_dominates(const struct member *a, const struct member *b, size_t n_obj)
{
    bool better = false;

    if (a->violation > 0 || b->violation > 0)
        return a->violation < b->violation;
    for (size_t i = 0; i < n_obj; i++) {
        if (a->f[i] > b->f[i])
            return false;
        better |= a->f[i] < b->f[i];
    }
    return better;
}

static int by_rank(const void *x, const void *y)
{
    const struct member *a = x, *b = y;

    if (a->rank != b->rank)
        return a->rank < b->rank ? -1 : 1;
    if (a->crowding != b->crowding)
        return a->crowding > b->crowding ? -1 : 1;
    return a->birth < b->birth ? -1 : 1;
}

/* Non-dominated sort by peeling; ends with the members in order of rank. */
static void sort_fronts(struct pool *s)
{
    struct member *p = s->member;
    size_t n = s->n, first = 0, last;

    for (size_t i = 0; i < n; i++) {
        p[i].dominators = 0;
        p[i].crowding = 0;
        for (size_t j = 0; j < n; j++)
            p[i].dominators += member_dominates(&p[j], &p[i], s->n_obj);
    }
    for (size_t rank = 0; first < n; rank++, first = last) {
        last = first;
        for (size_t i = first; i < n; i++)
            if (p[i].dominators == 0) {
                struct member t = p[i];
                p[i] = p[last];
                p[last] = t;
                p[last++].rank = rank;
            }
        for (size_t i = first; i < last; i++)
            for (size_t j = last; j < n; j++)
                p[j].dominators -= member_dominates(&p[i], &p[j], s->n_obj);
    }
}

/* Insertion sort of a front by objective k: fronts are short. */
static void sort_front(struct member *p, size_t n, size_t k)
{
    for (size_t i = 1; i < n; i++) {
        struct member t = p[i];
        size_t j = i;
        for (; j > 0 && (p[j - 1].f[k] > t.f[k]
               || (p[j - 1].f[k] == t.f[k] && p[j - 1].birth > t.birth)); j--)
            p[j] = p[j - 1];
        p[j] = t;
    }
}

static void crowd(struct member *p, size_t n, size_t m)
{
    for (size_t k = 0; k < m; k++) {
        sort_front(p, n, k);
        double range = p[n - 1].f[k] - p[0].f[k];
        p[0].crowding = p[n - 1].crowding = INFINITY;
        if (!(range > 0 && range < INFINITY))
            continue;
        for (size_t i = 1; i + 1 < n; i++)
            p[i].crowding += (p[i + 1].f[k] - p[i - 1].f[k]) / range;
    }
}

void pool_rank(struct pool *s)
{
    sort_fronts(s);
    for (size_t i = 0, j; i < s->n; i = j) {
        for (j = i; j < s->n && s->member[j].rank == s->member[i].rank; j++)
            ;
        crowd(s->member + i, j - i, s->n_obj);
    }
    qsort(s->member, s->n, sizeof *s->member, by_rank);
}

/* Squared, objectives scaled to the ranges of the front. */
static double distance(const struct member *a, const struct member *b,
                       const double (*range)[2], size_t m)
{
    double sum = 0;

    for (size_t k = 0; k < m; k++) {
        double width = range[k][1] - range[k][0];
        double d = width > 0 && width < INFINITY ? (a->f[k] - b->f[k]) / width : 0;
        sum += d * d;
    }
    return sum;
}

/* crowding serves as the distance to the nearest member that has its place. */
static void spread_front(struct member *p, size_t n, size_t m)
{
    double range[8][2];

    m = m < 8 ? m : 8;
    for (size_t k = 0; k < m; k++) {
        range[k][0] = range[k][1] = p[0].f[k];
        for (size_t i = 1; i < n; i++) {
            range[k][0] = fmin(range[k][0], p[i].f[k]);
            range[k][1] = fmax(range[k][1], p[i].f[k]);
        }
    }
    sort_front(p, n, 0);
    for (size_t i = 0; i < n; i++)
        p[i].crowding = INFINITY;
    for (size_t done = 1; done < n; done++) {
        size_t far = done;
        for (size_t i = done; i < n; i++) {
            p[i].crowding = fmin(p[i].crowding, distance(&p[i], &p[done - 1], range, m));
            if (p[i].crowding > p[far].crowding
                || (p[i].crowding == p[far].crowding && p[i].birth < p[far].birth))
                far = i;
        }
        struct member t = p[done];
        p[done] = p[far];
        p[far] = t;
    }
}

void pool_spread(struct pool *s)
{
    for (size_t i = 0, j; i < s->n; i = j) {
        for (j = i; j < s->n && s->member[j].rank == s->member[i].rank; j++)
            ;
        spread_front(s->member + i, j - i, s->n_obj);
    }
}

double outcome_violation(const struct lm_problem *p, const struct lm_outcome *o)
{
    double sum = 0;

    if (o->status != LM_OK)
        return INFINITY;
    for (size_t i = 0; i < p->n_objective; i++)
        if (isnan(o->objective[i]))
            return INFINITY;
    for (size_t i = 0; i < p->n_constraint; i++) {
        if (isnan(o->violation[i]))
            return INFINITY;
        sum += fmax(o->violation[i], 0);
    }
    return sum;
}

size_t bounds_of(const struct lm_problem *p)
{
    size_t bounds = 0;

    for (size_t i = 0; i < p->n_objective; i++)
        bounds += p->objective[i]->bound < INFINITY;
    return bounds;
}

bool bounds_say_all(const struct lm_problem *p)
{
    return bounds_of(p) >= p->n_constraint;
}

bool outcome_counts(const struct lm_outcome *o)
{
    return o->fidelity >= 1 || (LM_HAS(o, stopped) && o->stopped);
}
