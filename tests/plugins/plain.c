/* SPDX-License-Identifier: Apache-2.0 */
/* plain.c -- a format that promises little: no biases, and of a model at hand
 * only layers of different FFN width.  For tests of what is refused before a
 * search begins; it reads and writes nothing.                                */
#include "plugin.h"

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    (void)e;
    *self = (void *)(uintptr_t)a->host;
    return LM_OK;
}

static void destroy(void *self)
{
    (void)self;
}

static int probe(void *self, const char *path)
{
    (void)self, (void)path;
    return 0;
}

static enum lm_status read(void *self, const char *path, struct lm_builder *b,
                           struct lm_err *e)
{
    const struct lm_host *h = self;
    (void)b;
    return h->fail(e, LM_EUNSUPPORTED, "%s: plain reads nothing", path);
}

static enum lm_status limits(void *self, const struct lm_model *parent, uint32_t dtype,
                             struct lm_limits *out, struct lm_err *e)
{
    const struct lm_limits full = {
        .struct_size = sizeof full, .multiple = 1,
        .features = parent ? LM_SHAPE_UNEVEN_FF
                           : LM_SHAPE_UNEVEN_FF | LM_SHAPE_UNEVEN_HEADS
    };
    (void)self, (void)dtype, (void)e;
    lm_fill_struct(out, &full, sizeof full);
    return LM_OK;
}

static enum lm_status write(void *self, const struct lm_model *m,
                            const struct lm_export *x, struct lm_err *e)
{
    const struct lm_host *h = self;
    (void)m;
    return h->fail(e, LM_EUNSUPPORTED, "%s: plain writes nothing", x->path);
}

static const struct lm_format ops = {
    .struct_size = sizeof ops, .suffix = "", .dtypes = LM_BIT(LM_F16), .probe = probe,
    .read = read, .limits = limits, .write = write
};

static const struct lm_module module = {
    LM_MODULE_HEAD(FORMAT),
    .name = "plain", .version = "1.0", .license = "Apache-2.0", .author = "Lamina",
    .summary = "a format that holds little, for tests",
    .create = create, .destroy = destroy, .ops = &ops
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
