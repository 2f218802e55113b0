/* SPDX-License-Identifier: Apache-2.0 */
/* check_quant.h -- the parts of the program check_quant. */
#ifndef LM_TESTS_CHECK_QUANT_H
#define LM_TESTS_CHECK_QUANT_H
#include <check.h>
Suite *candidate_quant_suite(void);
#endif
