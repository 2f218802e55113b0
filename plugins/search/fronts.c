/* SPDX-License-Identifier: Apache-2.0 */
/* fronts.c -- see fronts.h. */
#include "fronts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum lm_status pool_open(struct pool *p, const struct lm_host *h, const char *tag,
                         const struct lm_problem *problem, size_t room,
                         struct lm_err *e)
{
    size_t slots = problem->n_slot, m = problem->n_objective;

    *p = (struct pool){ .h = h, .room = room, .n_slot = slots, .n_obj = m };
    if (slots > SIZE_MAX / 64 / room || m > SIZE_MAX / 64 / room)
        return h->fail(e, LM_ENOMEM, "search '%s': a population of %zu genomes of %zu "
                       "values is too large", tag, room, slots);
    p->member = h->alloc(room * sizeof *p->member, tag);
    p->value = h->alloc(room * slots * sizeof *p->value, tag);
    p->f = h->alloc(room * m * sizeof *p->f, tag);
    if (!p->member || !p->value || !p->f)
        return h->fail(e, LM_ENOMEM, "out of memory for a population of %zu", room);
    for (size_t i = 0; i < room; i++) {
        p->member[i].value = p->value + i * slots;
        p->member[i].f = p->f + i * m;
    }
    return LM_OK;
}

void pool_close(struct pool *p)
{
    if (!p->h)
        return;
    p->h->release(p->member);
    p->h->release(p->value);
    p->h->release(p->f);
}

struct member *pool_add(struct pool *p, const union lm_value *value, const double *f,
                        double violation)
{
    struct member *m = &p->member[p->n++];

    m->birth = p->births++;
    m->violation = violation;
    memcpy(m->value, value, p->n_slot * sizeof *value);
    for (size_t k = 0; k < p->n_obj; k++)
        m->f[k] = violation < INFINITY ? f[k] : INFINITY;
    return m;
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

bool outcome_counts(const struct lm_outcome *o)
{
    return o->fidelity >= 1 ||
           (o->struct_size > offsetof(struct lm_outcome, stopped) && o->stopped);
}
