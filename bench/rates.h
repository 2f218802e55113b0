/* SPDX-License-Identifier: Apache-2.0 */
/* rates.h -- see rates.c. */
#ifndef LM_BENCH_RATES_H
#define LM_BENCH_RATES_H
void rates_show(void);
#endif
