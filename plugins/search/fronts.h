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

/* The memory of members beyond n is kept for those to come: a smaller n drops members. */
struct pool {
    const struct lm_host *h;
    const char *tag;                    /* of memory                            */
    struct member *member;              /* [room]                               */
    size_t   n, room, n_slot, n_obj;
    uint64_t births;
};

struct pool pool_of(const struct lm_host *h, const char *tag,
                    const struct lm_problem *problem);
void pool_close(struct pool *p);
/* A genome with its numbers, at the end. */
enum lm_status pool_add(struct pool *p, const union lm_value *value, const double *f,
                        double violation, struct lm_err *e);
/* The same of n outcomes, but for those of some items only, see outcome_counts(). */
enum lm_status pool_tell(struct pool *p, const struct lm_problem *problem,
                         const struct lm_outcome *const *o, size_t n, struct lm_err *e);
/* Sorts by rank, then crowding, then birth: members 0 .. are the best ones. */
void pool_rank(struct pool *p);
/* Behind pool_rank(): each front in farthest-first order instead (an epsilon net): the
 * least first objective, then always the member farthest from all before it, objectives
 * scaled to the ranges of the front.                                           */
void pool_spread(struct pool *p);

bool member_dominates(const struct member *a, const struct member *b, size_t n_obj);
/* 0: all constraints are kept; INFINITY: not built, or not a number. */
double outcome_violation(const struct lm_problem *p, const struct lm_outcome *o);
/* How many objectives have a bound. */
size_t bounds_of(const struct lm_problem *p);
/* Is every constraint the bound of an objective?  Then objectives say how far from their
 * bounds feasible genomes are, which violations do not.                          */
bool bounds_say_all(const struct lm_problem *p);
/* Is it of all items, or as good as that: beaten in a race, with estimates? */
bool outcome_counts(const struct lm_outcome *o);
#endif
