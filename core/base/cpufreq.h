/* SPDX-License-Identifier: Apache-2.0 */
/* cpufreq.h -- what the system tells of the processor's clock. */
#ifndef LM_BASE_CPUFREQ_H
#define LM_BASE_CPUFREQ_H
#include <stdbool.h>

struct lm_cpu_clock {
    double mhz;                         /* now, the mean of all processors */
    char   governor[32];                /* of the first one that says; "": unknown */
};
/* From root, "/sys/devices/system/cpu"; false where it does not tell. */
bool lm_cpu_clock_read(const char *root, struct lm_cpu_clock *out);
#endif
