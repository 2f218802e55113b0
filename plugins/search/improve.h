/* SPDX-License-Identifier: Apache-2.0 */
/* improve.h -- what the plugin bayes hopes to gain from a genome whose objectives are
 * predicted as independent normal distributions.  Less is better.               */
#ifndef IMPROVE_H
#define IMPROVE_H
#include <stddef.h>

/* E[max(c - Y, 0)]: expected improvement on c (Jones, Schonlau & Welch 1998). */
double improve_one(double c, double mean, double sd);
/* log P(Y <= c). */
double improve_log_chance(double c, double mean, double sd);
/* Leaves of n points those that no other dominates and that lie below the reference in
 * both, by rising first number; how many.                                       */
size_t improve_front(double (*point)[2], size_t n, const double reference[2]);
/* Expected growth of the area that a front of improve_front() dominates. */
double improve_two(const double (*front)[2], size_t n, const double reference[2],
                   const double mean[2], const double sd[2]);
#endif
