/* SPDX-License-Identifier: Apache-2.0 */
/* scorer_sins.c -- channels by their number; see sins.h.
 *
 * Sins: not_finite, forgets, writes_on, moody, undeclared.  */
#include "sins.h"

#include <math.h>

static enum lm_status score(void *self, uint32_t site, int32_t layer, double *out,
                            int64_t n, struct lm_err *e)
{
    struct self *s = self;
    const double *stat;
    int64_t m;

    (void)site;
    for (int64_t i = 0; i < n + (is("writes_on")); i++)
        if (!is("forgets") || i != 7)
            out[i] = (double)i + (is("moody") ? (double)s->asked++ : 0);
    if (is("not_finite"))
        out[2] = NAN;
    return is("undeclared") ? s->host->stat(s->stats, LM_STAT_SUMSQ, LM_SITE_MLP, layer,
                                             &stat, &m, e) : LM_OK;
}

static const struct lm_scorer ops = {
    .struct_size = sizeof ops, .sites = LM_BIT(LM_SITE_FFN_CHANNEL), .score = score };

SIN_MODULE(SCORER, sin_create, ops, )
