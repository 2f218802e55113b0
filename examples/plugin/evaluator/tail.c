/* SPDX-License-Identifier: Apache-2.0 */
/* tail.c -- evaluator: how far a candidate strays from the dense model where it
 * strays most.
 *
 * The mean divergence over a text hides rare tokens where a cut model is quite
 * wrong, and these are what a reader notices.  In each window the `share` of
 * tokens with the largest KL(dense || candidate) count, the others do not:
 * worst.nats is their mean.  The second metric, the largest single divergence
 * of a window, averaged over windows, is noisier.
 *
 * What to learn here: LM_NEEDS_RUN | LM_NEEDS_DENSE for host->token_kl; two
 * metrics from one evaluation; check() for what a range cannot express.
 *
 * The mean of the worst share is the conditional value-at-risk of Rockafellar &
 * Uryasev, 2002.                                                             */
#include "plugin.h"

#include <stdio.h>
#include <stdlib.h>

struct config { const char *text; int64_t window, windows; double share; };

static const struct lm_opt options[] = {
    LM_TEXTFILE(struct config, text, NULL, LM_REQUIRED,
                "Text to predict: an entry of `data`, or a file."),
    LM_INT(struct config, window, "128", 2, 65536, "tokens", 0, "Length of a window."),
    LM_INT(struct config, windows, "0", 0, 1000000, NULL, 0,
           "How many windows from the start of the text; 0 means all."),
    LM_REAL(struct config, share, "0.05", 0, 1, NULL, 0,
            "Share of the tokens of a window that counts."),
    LM_OPT_END
};

static const struct lm_metric metrics[] = {
    { "nats", "nats", "Mean divergence of the worst tokens.", LM_REDUCE_MEAN, false,
      false },
    { "largest", "nats", "Largest divergence of a window, mean over windows.",
      LM_REDUCE_MEAN, false, false },
    { NULL, NULL, NULL, 0, false, false }
};

struct tail {
    const struct lm_host *host;
    struct lm_run *run;
    const struct config *config;
    const int32_t *ids;
    int64_t n;                          /* windows */
};

static enum lm_status check(const struct lm_host *h, const void *config, struct lm_err *e)
{
    const struct config *c = config;

    if (c->share * (double)c->window >= 1)
        return LM_OK;
    return h->fail(e, LM_ECONFIG, "a share of %g of %lld tokens is less than one token",
                   c->share, (long long)c->window);
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct tail *t = a->host->alloc(sizeof *t, "tail");

    if (!t)
        return a->host->fail(e, LM_ENOMEM, "out of memory");
    t->host = a->host;
    t->run = a->run;
    t->config = a->config;
    *self = t;
    return LM_OK;
}

static void destroy(void *self)
{
    struct tail *t = self;

    t->host->release(t);
}

static enum lm_status items(void *self, int64_t *n, struct lm_err *e)
{
    struct tail *t = self;
    const struct config *c = t->config;
    size_t n_ids = 0;
    enum lm_status st = t->host->text_ids(t->run, c->text, &t->ids, &n_ids, e);

    if (st)
        return st;
    t->n = (int64_t)n_ids / c->window;
    if (t->n < 1)
        return t->host->fail(e, LM_EINPUT,
                             "text '%s' has %zu tokens, fewer than one window "
                             "of %lld",
                             c->text, n_ids, (long long)c->window);
    if (c->windows && c->windows < t->n)
        t->n = c->windows;
    *n = t->n;
    return LM_OK;
}

static enum lm_status protocol(void *self, char *out, size_t size, struct lm_err *e)
{
    const struct tail *t = self;
    const struct config *c = t->config;

    (void)e;
    snprintf(out, size, "worst %g of the tokens of each of %lld windows of %lld of %s",
             c->share, (long long)t->n, (long long)c->window, c->text);
    return LM_OK;
}

static int largest_first(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;

    return x > y ? -1 : x < y;
}

static enum lm_status eval(void *self, struct lm_subject *subject, int64_t item,
                           struct lm_sum *sum, struct lm_err *e)
{
    const struct tail *t = self;
    const struct config *c = t->config;
    size_t n = (size_t)c->window, worst = (size_t)(c->share * (double)n);
    float *kl = t->host->alloc(n * sizeof *kl, "tail");

    if (!kl)
        return t->host->fail(e, LM_ENOMEM, "out of memory");
    enum lm_status st = t->host->token_kl(subject, t->ids + item * c->window, n, kl, e);
    if (!st) {
        qsort(kl, n, sizeof *kl, largest_first);
        for (size_t i = 0; i < worst; i++)
            sum[0].value += (double)kl[i];
        sum[0].weight = (double)worst;
        sum[1] = (struct lm_sum){ (double)kl[0], 1 };
    }
    t->host->release(kl);
    return st;
}

static const struct lm_evaluator ops = {
    .struct_size = sizeof ops, .needs = LM_NEEDS_RUN | LM_NEEDS_DENSE,
    .metric = metrics, .metric_size = sizeof *metrics,
    .items = items, .protocol = protocol, .eval = eval
};

const struct lm_module *lm_plugin(void)
{
    static const struct lm_module module = {
        LM_MODULE_HEAD(EVALUATOR), .name = "tail", .version = "1.0",
        .license = "Apache-2.0", .author = "Lamina",
        .summary = "divergence of the worst tokens from the dense model",
        .reference = "Rockafellar & Uryasev, J. Banking & Finance 26, 2002",
        .opt = options, .config_size = sizeof(struct config), .check = check,
        .create = create, .destroy = destroy, .ops = &ops
    };

    return &module;
}
