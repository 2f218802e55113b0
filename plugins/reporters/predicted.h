/* SPDX-License-Identifier: Apache-2.0 */
/* predicted.h -- the study's "predictions": names of two metrics a line, what is
 * predicted and what measures it.  The text is not trusted: names that are no metrics
 * are left out.                                                              */
#ifndef LM_REPORTERS_PREDICTED_H
#define LM_REPORTERS_PREDICTED_H
#include "text.h"

struct predicted { int64_t predicted, measured; };      /* metrics */

static inline int64_t predicted_metric(const char *name, size_t n,
                                       const char *const *metric, int64_t n_metric)
{
    for (int64_t m = 0; m < n_metric; m++)
        if (strlen(metric[m]) == n && !memcmp(metric[m], name, n))
            return m;
    return -1;
}

/* The next pair at *at, which moves behind it; false: there are no more. */
static inline bool predicted_next(const char **at, const char *const *metric,
                                  int64_t n_metric, struct predicted *out)
{
    while (*at && **at) {
        const char *line = *at;
        size_t n = strcspn(line, "\n"), first = strcspn(line, " \n");

        *at = line + n + (line[n] == '\n');
        if (first >= n)
            continue;
        out->predicted = predicted_metric(line, first, metric, n_metric);
        out->measured = predicted_metric(line + first + 1, n - first - 1, metric,
                                         n_metric);
        if (out->predicted >= 0 && out->measured >= 0)
            return true;
    }
    return false;
}

/* Of the measured value; NAN: one of them is unknown. */
static inline double predicted_error(const struct predicted *p, const struct lm_trial *t)
{
    double was = t->value[p->predicted], is = t->value[p->measured];

    return isfinite(was) && isfinite(is) && is > 0 ? was / is - 1 : NAN;
}

/* Of the errors without their signs: the one that half of the others exceed; NAN:
 * there are none.  The search for it is by counting, as there are few.        */
static inline double predicted_median(const struct predicted *p,
                                      const struct lm_trial *trial, size_t n)
{
    size_t known = 0;

    for (size_t i = 0; i < n; i++)
        known += !isnan(predicted_error(p, &trial[i]));
    for (size_t i = 0; i < n; i++) {
        double x = fabs(predicted_error(p, &trial[i]));
        size_t below = 0, same = 0;

        for (size_t k = 0; k < n && !isnan(x); k++) {
            double y = fabs(predicted_error(p, &trial[k]));

            below += y < x;
            same += y == x;
        }
        if (!isnan(x) && below <= known / 2 && below + same > known / 2)
            return x;
    }
    return NAN;
}
#endif
