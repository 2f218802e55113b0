/* SPDX-License-Identifier: Apache-2.0 */
/* lagrangian.h -- between the files of the plugin lagrangian: the schedule of
 * trials (lagrangian.c) and the table of levels (lagrangian_levels.c).       */
#ifndef LAGRANGIAN_H
#define LAGRANGIAN_H
#include "knapsack.h"

/* A gene as a list of levels in rising order of value.  Arrays point into those
 * of struct levels.                                                          */
struct axis {
    const struct lm_gene *gene;
    uint32_t n;                         /* levels, 1 .. 65535                   */
    uint32_t initial, base;             /* uncompressed; of the present base    */
    bool     ordered;                   /* levels between points have a meaning */
    int64_t *value;                     /* [n]                                  */
    bool    *point;                     /* [n] measured in the first round      */
    bool    *known;                     /* [n] measured around the present base */
    bool    *allowed;                   /* [n] known, or filled in between      */
    double  *loss, *size;               /* [n] increments over the base         */
};

struct levels {
    const struct lm_host *h;
    struct axis *axis;                  /* [n]                                  */
    struct knapsack_class *cls;         /* [n] the same as the knapsack sees it */
    size_t   n;
    int64_t *value;
    bool    *flag;
    double  *number;
};

/* h is set by the caller; close frees what open left behind, also when it failed. */
enum lm_status levels_open(struct levels *t, const struct lm_problem *p,
                           struct lm_err *e);
void levels_close(struct levels *t);
/* Marks the points of every axis: the ends, `points` intervals in between, the
 * uncompressed level; all levels where order means nothing.  Returns how many
 * there are, the uncompressed ones not counted.                              */
size_t levels_mark(struct levels *t, size_t points);
/* Forgets all increments; the base itself is known to add nothing. */
void levels_reset(struct levels *t);
/* Allows what is known, and what lies between two neighbouring known points. */
void levels_interpolate(struct levels *t);
/* How many points lie between a level and the base, itself counted (0: it is
 * the base).  Without order all other levels are at distance 1.              */
uint32_t levels_distance(const struct axis *a, uint32_t level);
#endif
