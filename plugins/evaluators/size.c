/* SPDX-License-Identifier: Apache-2.0 */
/* size -- what a candidate weighs: counted from its shapes and the number
 * format of the export, so it costs nothing and has no error.               */
#include "plugin.h"

#include <stdio.h>

static const struct lm_metric metrics[] = {
    { "bytes", "bytes", "Weights as they would be exported.", LM_REDUCE_MEAN, false,
      false },
    { "params", "parameters", "All weights.", LM_REDUCE_MEAN, false, false },
    { "body_params", "parameters",
      "Weights of the layers' matrices: no norms, embedding, head.", LM_REDUCE_MEAN,
      false, false },
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
    snprintf(out, size, "counted from shapes; bytes in the number format of the export, "
             "tokenizer and file headers apart");
    return LM_OK;
}

static enum lm_status eval(void *self, struct lm_subject *subject, int64_t item,
                           struct lm_sum *sum, struct lm_err *e)
{
    const struct lm_host *host = self;
    struct lm_cost cost = { .struct_size = sizeof cost };
    enum lm_status st = host->cost(subject, &cost, e);

    (void)item;
    sum[0] = (struct lm_sum){ (double)cost.bytes, 1 };
    sum[1] = (struct lm_sum){ (double)cost.params, 1 };
    sum[2] = (struct lm_sum){ (double)cost.body_params, 1 };
    return st;
}

static const struct lm_evaluator evaluator = {
    .struct_size = sizeof evaluator,
    .metric = metrics, .metric_size = sizeof *metrics,
    .items = items, .protocol = protocol, .eval = eval
};

static const struct lm_module module = {
    LM_MODULE_HEAD(EVALUATOR), .name = "size", .version = "1.0",
    .license = "Apache-2.0", .author = "Lamina",
    .summary = "bytes and parameters, counted",
    .create = create, .destroy = destroy, .ops = &evaluator
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
