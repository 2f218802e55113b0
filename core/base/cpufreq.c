/* SPDX-License-Identifier: Apache-2.0 */
/* cpufreq.c -- see cpufreq.h.  Files of the kernel, cpuN/cpufreq/: the frequency in kHz
 * and the governor's name.                                                   */
#include "base/cpufreq.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 4096 };                   /* processors that are looked at */

/* The first word of a file; nothing else of the system's is needed to read it. */
static bool read_word(const char *path, char *out, size_t size)
{
    FILE *f = fopen(path, "re");
    bool there = f && fgets(out, (int)size, f);

    if (f)
        fclose(f);
    if (there)
        out[strcspn(out, " \t\n")] = 0;
    return there && *out;
}

bool lm_cpu_clock_read(const char *root, struct lm_cpu_clock *out)
{
    char path[4200], word[32];
    double sum = 0;
    int n = 0, missing = 0;

    *out = (struct lm_cpu_clock){ .mhz = 0 };
    for (int i = 0; i < MOST && missing < 64; i++) {    /* numbers may have gaps */
        snprintf(path, sizeof path, "%.4096s/cpu%d/cpufreq/scaling_cur_freq", root, i);
        double khz = read_word(path, word, sizeof word) ? strtod(word, NULL) : 0;

        missing = khz > 0 ? 0 : missing + 1;
        if (!(khz > 0))
            continue;
        sum += khz / 1e3;
        snprintf(path, sizeof path, "%.4096s/cpu%d/cpufreq/scaling_governor", root, i);
        if (n++ == 0 && read_word(path, word, sizeof word))
            snprintf(out->governor, sizeof out->governor, "%s", word);
    }
    out->mhz = n ? sum / n : 0;
    return n > 0;
}
