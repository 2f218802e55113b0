/* SPDX-License-Identifier: Apache-2.0 */
/* random.c -- scorer: chance, the level that any other must beat.
 *
 * The score of a site is uniform in [0, 1) and follows from the seed of the run,
 * the option `seed`, the kind of site, the layer and the number of the site alone;
 * neither weights nor text are looked at.                                     */
#include <stdio.h>

#include "plugin.h"

struct config { int64_t seed; };

struct chance {
    const struct lm_host *host;
    struct lm_run *run;
    int64_t seed;
};

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct chance *p = a->host->alloc(sizeof *p, "random");

    if (!p)
        return a->host->fail(e, LM_ENOMEM, "out of memory for scorer 'random'");
    p->host = a->host;
    p->run = a->run;
    p->seed = ((const struct config *)a->config)->seed;
    *self = p;
    return LM_OK;
}

static void destroy(void *self)
{
    struct chance *p = self;

    p->host->release(p);
}

static enum lm_status score(void *self, uint32_t site, int32_t layer, double *out,
                            int64_t n, struct lm_err *e)
{
    const struct chance *p = self;
    char purpose[80];

    (void)e;
    snprintf(purpose, sizeof purpose, "scorer random/%lld/%u/%d", (long long)p->seed,
             (unsigned)site, (int)layer);
    for (int64_t i = 0; i < n; i++)
        out[i] = (double)(p->host->seed(p->run, purpose, (uint64_t)i) >> 11) * 0x1p-53;
    return LM_OK;
}

static const struct lm_opt options[] = {
    LM_INT(struct config, seed, "0", 0, 9e15, NULL, 0,
           "Another number gives other scores under the same seed of the run."),
    LM_OPT_END
};

static const struct lm_scorer ops = {
    .struct_size = sizeof ops,
    .sites = LM_BIT(LM_SITE_LAYER) | LM_BIT(LM_SITE_ATTN) | LM_BIT(LM_SITE_MLP)
           | LM_BIT(LM_SITE_KV_GROUP) | LM_BIT(LM_SITE_HEAD)
           | LM_BIT(LM_SITE_FFN_CHANNEL) | LM_BIT(LM_SITE_HIDDEN),
    .score = score
};

static const struct lm_module module = {
    LM_MODULE_HEAD(SCORER),
    .name = "random", .version = "1.0", .license = "Apache-2.0", .author = "Lamina",
    .summary = "uniform numbers, for comparison",
    .opt = options, .config_size = sizeof(struct config),
    .create = create, .destroy = destroy, .ops = &ops
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
