/* SPDX-License-Identifier: Apache-2.0 */
/* check_search.h -- the suites of the program check_search. */
#ifndef LM_TESTS_CHECK_SEARCH_H
#define LM_TESTS_CHECK_SEARCH_H
#include <check.h>

#include "search_rig.h"
Suite *search_answers(void);
Suite *search_evolve(void);
Suite *search_lagrangian(void);
Suite *search_baselines(void);
Suite *search_models(void);

/* ZDT1 on integers 0 .. 100, as a rig_eval, and the area below the reference that points
 * [n][2] dominate.                                                               */
enum lm_status zdt1(const struct rig_problem *r, const union lm_value *v, double fidelity,
                    double *f);
double front_area(const double *point, size_t n, const double reference[2]);
#endif
