/* SPDX-License-Identifier: Apache-2.0 */
/* check_search.h -- the suites of the program check_search. */
#ifndef LM_TESTS_CHECK_SEARCH_H
#define LM_TESTS_CHECK_SEARCH_H
#include <check.h>

#include "search_rig.h"
Suite *search_answers(void);
Suite *search_lagrangian(void);
Suite *search_baselines(void);
Suite *search_models(void);

/* A problem with a known front, genes of 0 .. 100; see check_search_answers.c. */
rig_eval search_zdt1;
/* Area that n points dominate, below the reference. */
double search_area(const double *point, size_t n, const double reference[2]);
#endif
