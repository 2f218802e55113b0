/* SPDX-License-Identifier: Apache-2.0 */
/* The suites of check_base, one for each of its files. */
#include <check.h>
Suite *file_suite(void);
Suite *json_suite(void);
Suite *math_suite(void);
