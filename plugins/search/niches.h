/* SPDX-License-Identifier: Apache-2.0 */
/* niches.h -- reference directions for the plugin nsga3: made (Das & Dennis 1998), and
 * which of them a genome belongs to (Deb & Jain 2014, sections IV-B to IV-D).
 *
 * Objectives are finite; less is better.                                         */
#ifndef NICHES_H
#define NICHES_H
#include "plugin.h"

struct niches {
    const struct lm_host *h;
    const char *tag;                    /* of memory and messages               */
    size_t  n_obj, n;                   /* n: directions                        */
    double *direction;                  /* [n][n_obj], of length 1              */
    double *ideal;                      /* [n_obj] least values so far          */
    double *scale;                      /* [n_obj] intercepts over the ideal    */
    double *extreme;                    /* [n_obj][n_obj] values of the genome nearest
                                           each axis so far, INFINITY: none     */
    double *work;                       /* [n_obj][n_obj + 1]                   */
};

/* Points of the simplex with n_obj coordinates that are multiples of 1 / divisions:
 * C(n_obj + divisions - 1, divisions); SIZE_MAX if there are more than that.     */
size_t niches_count(size_t n_obj, size_t divisions);
/* divisions 0: the most that give at most `most` directions.  inner > 0: a second
 * layer with so many divisions, half as far from the centre.                     */
enum lm_status niches_open(struct niches *s, size_t divisions, size_t inner, size_t most,
                           struct lm_err *e);
void niches_close(struct niches *s);

/* Ideal point, extreme points and intercepts of n points, f[i] [n_obj]; the first
 * n_front of them are not dominated.                                             */
void niches_update(struct niches *s, const double *const *f, size_t n, size_t n_front);
/* The direction nearest f, and how far f, normalised, is from its line. */
size_t niches_nearest(const struct niches *s, const double *f, double *distance);
#endif
