/* SPDX-License-Identifier: Apache-2.0 */
/* none.c -- repair: leaves the kept columns as they are. */
#include <string.h>

#include "plugin.h"

struct none { const struct lm_host *host; };

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct none *p = a->host->alloc(sizeof *p, "none");

    if (!p)
        return a->host->fail(e, LM_ENOMEM, "out of memory for repair 'none'");
    p->host = a->host;
    *self = p;
    return LM_OK;
}

static void destroy(void *self)
{
    struct none *p = self;

    p->host->release(p);
}

/* The site outlives what is prepared from it, so it is all that is needed. */
static enum lm_status prepare(void *self, const struct lm_repair_site *site,
                              void **prepared, struct lm_err *e)
{
    (void)self;
    (void)e;
    *prepared = (void *)(uintptr_t)site;
    return LM_OK;
}

static enum lm_status apply(void *self, const void *prepared, int64_t m, float *out,
                            struct lm_err *e)
{
    const struct lm_repair_site *s = prepared;

    (void)self;
    (void)e;
    for (int64_t i = 0; i < s->n; i++)
        memcpy(out + i * m, s->w + i * s->k, (size_t)m * sizeof *out);
    return LM_OK;
}

static void release(void *self, void *prepared)
{
    (void)self;
    (void)prepared;
}

static const struct lm_repair ops = {
    .struct_size = sizeof ops, .prepare = prepare, .apply = apply, .release = release
};

static const struct lm_module module = {
    LM_MODULE_HEAD(REPAIR),
    .name = "none", .version = "1.0", .license = "Apache-2.0", .author = "Lamina",
    .summary = "leaves the kept weights as they are",
    .create = create, .destroy = destroy, .ops = &ops
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
