/* SPDX-License-Identifier: Apache-2.0 */
/* fronts.h -- genomes that were told, ranked: constrained domination, fronts, crowding
 * (Deb et al. 2002).
 *
 * Feasible beats infeasible; of two infeasible ones the smaller sum of violations wins;
 * a genome that could not be built is worst.  All objectives: less is better.     */
#ifndef FRONTS_H
#define FRONTS_H
#include "plugin.h"

struct member {
    union lm_value *value;              /* [n_slot]                             */
    double  *f;                         /* [n_obj], INFINITY if not built       */
    double   violation, crowding;       /* violation: 0 feasible, INF not built */
    size_t   rank, dominators;
    uint64_t birth;                     /* makes every order total              */
};

struct pool {
    const struct lm_host *h;
    struct member *member;              /* [room], owning slices of these:      */
    union lm_value *value;              /* [room][n_slot]                       */
    double  *f;                         /* [room][n_obj]                        */
    size_t   n, room, n_slot, n_obj;
    uint64_t births;
};

/* tag: the strategy, for memory and messages. */
enum lm_status pool_open(struct pool *p, const struct lm_host *h, const char *tag,
                         const struct lm_problem *problem, size_t room,
                         struct lm_err *e);
void pool_close(struct pool *p);
/* A genome with its numbers; there must be room. */
struct member *pool_add(struct pool *p, const union lm_value *value, const double *f,
                        double violation);
/* Sorts by rank, then crowding, then birth: members 0 .. are the best ones. */
void pool_rank(struct pool *p);

bool member_dominates(const struct member *a, const struct member *b, size_t n_obj);
/* 0: all constraints are kept; INFINITY: not built, or not a number. */
double outcome_violation(const struct lm_problem *p, const struct lm_outcome *o);
/* Is it of all items, or as good as that: beaten in a race, with estimates? */
bool outcome_counts(const struct lm_outcome *o);
#endif
