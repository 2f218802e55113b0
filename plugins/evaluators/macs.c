/* SPDX-License-Identifier: Apache-2.0 */
/* macs -- multiply-adds to compute one token: linear layers and head, counted
 * from shapes.  Attention over the cache depends on its length and is left
 * out, as are norms.                                                        */
#include "plugin.h"

#include <stdio.h>

static const struct lm_metric metrics[] = {
    { "per_token", "MACs", "Multiply-adds of linear layers and head for one token.",
      LM_REDUCE_MEAN, false, false },
    { NULL, NULL, NULL, 0, false, false }
};

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    (void)e;
    *self = (void *)a->host;            /* all it needs; nothing to release */
    return LM_OK;
}

static void destroy(void *self)
{
    (void)self;
}

static enum lm_status items(void *self, int64_t *n, struct lm_err *e)
{
    (void)self, (void)e;
    *n = 1;
    return LM_OK;
}

static enum lm_status protocol(void *self, char *out, size_t size, struct lm_err *e)
{
    (void)self, (void)e;
    snprintf(out, size, "counted from shapes: linear layers and head, no attention");
    return LM_OK;
}

static enum lm_status eval(void *self, struct lm_subject *subject, int64_t item,
                           struct lm_sum *sum, struct lm_err *e)
{
    const struct lm_host *host = self;
    struct lm_cost cost = { .struct_size = sizeof cost };
    enum lm_status st = host->cost(subject, &cost, e);

    (void)item;
    sum[0] = (struct lm_sum){ (double)cost.macs, 1 };
    return st;
}

static const struct lm_evaluator evaluator = {
    .struct_size = sizeof evaluator,
    .metric = metrics, .metric_size = sizeof *metrics,
    .items = items, .protocol = protocol, .eval = eval
};

static const struct lm_module module = {
    LM_MODULE_HEAD(EVALUATOR), .name = "macs", .version = "1.0",
    .license = "Apache-2.0", .author = "Lamina",
    .summary = "multiply-adds of one token, counted",
    .create = create, .destroy = destroy, .ops = &evaluator
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
