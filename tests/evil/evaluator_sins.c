/* SPDX-License-Identifier: Apache-2.0 */
/* evaluator_sins.c -- the share of parameters in the layers; see sins.h.
 *
 * Sins: same_metric, no_items, two_lines, no_number, no_weight, drifts, runs_all,
 * needs_more.  */
#include "sins.h"

#include <math.h>


static struct lm_metric metric[] = {
    { "share", "", "Parameters of layers over all.", LM_REDUCE_MEAN, false, false },
    { "other", "", "The same.", LM_REDUCE_MEAN, false, false },
    { NULL, NULL, NULL, 0, false, false } };

static enum lm_status items(void *self, int64_t *n, struct lm_err *e)
{
    (void)self; (void)e;
    *n = is("no_items") ? 0 : 2;
    return LM_OK;
}

static enum lm_status protocol(void *self, char *out, size_t size, struct lm_err *e)
{
    (void)self; (void)e;
    snprintf(out, size, is("two_lines") ? "one\ntwo" : "counted");
    return LM_OK;
}

static enum lm_status eval(void *self, struct lm_subject *subject, int64_t item,
                           struct lm_sum *sum, struct lm_err *e)
{
    struct self *s = self;
    struct lm_cost c = { .struct_size = sizeof c };
    int32_t ids[4] = { 1, 2, 3, 4 };
    float nll[4];
    enum lm_status st = s->host->cost(subject, &c, e);

    (void)item;
    if (!st && is("runs_all"))
        st = s->host->token_losses(subject, ids, 4, nll, e);
    sum[0] = (struct lm_sum){ (double)c.body_params / (double)c.params, 1 };
    if (is("no_number"))
        sum[0].value = INFINITY;
    if (is("no_weight"))
        sum[0].weight = 0;
    if (is("drifts"))
        sum[0].value += (double)s->asked++;
    sum[1] = sum[0];
    return st;
}

static struct lm_evaluator ops = {
    .struct_size = sizeof ops, .metric = metric,
    .metric_size = sizeof *metric, .items = items, .protocol = protocol, .eval = eval };

SIN_MODULE(EVALUATOR, sin_create, ops,
    if (is("same_metric"))
        metric[1].name = metric[0].name;
    if (is("needs_more"))
        ops.needs = 64;)
