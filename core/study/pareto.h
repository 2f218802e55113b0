/* SPDX-License-Identifier: Apache-2.0 */
/* pareto.h -- dominance, fronts, knees.  All objectives minimised. */
#ifndef LM_STUDY_PARETO_H
#define LM_STUDY_PARETO_H
#include <stdbool.h>
#include <stddef.h>
bool lm_dominates(const double *a, const double *b, size_t m);
/* front[i] = true for the non-dominated of n points [n][m]; equal points: the
 * first only.                                                               */
void lm_front(const double *point, size_t n, size_t m, bool *front);
/* Index of the front member farthest from the line through the ends of the
 * front (2 objectives, each scaled to its range); n if there is none.       */
size_t lm_knee(const double *point, const bool *front, size_t n);
/* Area that n points [n][2] dominate below a reference point.  Points that are not
 * below it in both objectives add nothing.  Sorts the points.                */
double lm_hypervolume(double *point, size_t n, const double reference[2]);
#endif
