/* SPDX-License-Identifier: Apache-2.0 */
/* desk.c -- see desk.h. */
#include "cli/desk.h"

#include "base/pool.h"
#include "pipeline/device.h"

enum lm_status lm_desk_open(struct lm_desk *d, const char *model, const char *backend,
                            int64_t threads, struct lm_err *e)
{
    char chosen[LM_BACKEND_TEXT];
    enum lm_status s = d->run ? LM_OK : lm_run_open(0, &d->run, e);
    if (s || (s = lm_auto_text(backend ? backend : "cpu", chosen, e)) ||
        (s = lm_pool_start((int)threads, e)))
        return s;
    s = lm_stage_text(&d->backend, LM_BACKEND, chosen, &d->backend_conf, d->run, e);
    return s ? s : lm_bench_open(&d->bench, model, NULL, &d->backend, 0, d->run, e);
}

void lm_desk_close(struct lm_desk *d)
{
    lm_bench_close(&d->bench);
    if (d->backend.plugin)
        lm_stage_close(&d->backend);
    lm_conf_free(d->backend_conf);
    lm_run_close(d->run);
}
