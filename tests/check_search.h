/* SPDX-License-Identifier: Apache-2.0 */
/* check_search.h -- the suites of the program check_search. */
#ifndef LM_TESTS_CHECK_SEARCH_H
#define LM_TESTS_CHECK_SEARCH_H
#include <check.h>
Suite *search_answers(void);
Suite *search_lagrangian(void);
Suite *search_baselines(void);
#endif
