/* SPDX-License-Identifier: Apache-2.0 */
/* reporter_sins.c -- the number of trials as JSON; see sins.h.
 *
 * Sins: no_json, no_text, elsewhere.  */
#include "sins.h"

static enum lm_status report(void *self, const struct lm_study *study, char **text,
                             size_t *n, struct lm_err *e)
{
    struct self *s = self;

    if (!(*text = s->host->alloc(64, "report")))
        return s->host->fail(e, LM_ENOMEM, "out of memory");
    *n = (size_t)snprintf(*text, 64,
                          is("no_json") ? "{ trials: %lld }" : "{\"trials\":%lld}",
                          (long long)s->host->study_n_trials(study));
    if (is("no_text"))
        *n = 0;
    return LM_OK;
}

static struct lm_reporter ops = {
    .struct_size = sizeof ops, .file = "x.json",
    .report = report };

SIN_MODULE(REPORTER, sin_create, ops,
    if (is("elsewhere"))
        ops.file = "../x.json";)
