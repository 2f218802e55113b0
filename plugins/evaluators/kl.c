/* SPDX-License-Identifier: Apache-2.0 */
/* kl -- how far the next-token distributions have moved from the dense model's:
 * mean over tokens of KL(dense || candidate) = sum_v p(v) ln(p(v) / q(v)).
 *
 * 0 up to rounding (some 1e-6) for the dense model itself; its noise from text
 * to text is far below that of the loss, because the text's own surprise
 * cancels, so that few windows tell candidates apart.
 *
 * The text is tokenized whole and cut into windows without overlap; all
 * positions count.  One item is one window: value = sum of KL, weight = tokens.
 *
 * With `spread` the windows lie evenly in the text, in the order of the van der
 * Corput sequence (0, 1/2, 1/4, 3/4, 1/8, ...), so that the first few, which
 * partial evaluations use, are spread as well.                              */
#include "plugin.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const precision_names[] = { "f32", "bf16", "int8", NULL };

struct config {
    const char *text;
    int64_t window, windows, precision;
    bool spread;
};

static const struct lm_opt options[] = {
    LM_TEXTFILE(struct config, text, NULL, LM_REQUIRED,
                "Text to compare on: an entry of `data`, or a file."),
    LM_INT(struct config, window, "512", 1, 1 << 20, "tokens", 0,
           "Length of a window; nothing before it is seen."),
    LM_INT(struct config, windows, "0", 0, INT32_MAX, NULL, 0,
           "How many windows; 0 means all."),
    LM_FLAG(struct config, spread, "false", 0,
            "Windows spread over the text instead of its first ones."),
    LM_PICK(struct config, precision, "f32", precision_names, 0,
            "Number format that both models compute in: bf16 and int8 are faster, and "
            "less exact."),
    LM_OPT_END
};

static const struct lm_metric metrics[] = {
    { "nats", "nats", "Mean KL divergence from the dense model.", LM_REDUCE_MEAN, false,
      false },
    { NULL, NULL, NULL, 0, false, false }
};

struct state {
    const struct lm_host *host;
    struct lm_run *run;
    const struct config *config;
    const int32_t *ids;
    int64_t n_window, n_all;            /* used; in the text */
};

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    const struct config *c = a->config;

    if (c->precision && !LM_HAS(a->host, precision))
        return a->host->fail(e, LM_EUNSUPPORTED, "this version of Lamina computes in f32 "
                             "only; leave out precision = \"%s\"",
                             precision_names[c->precision]);
    struct state *s = a->host->alloc(sizeof *s, "kl");
    if (!s)
        return a->host->fail(e, LM_ENOMEM, "out of memory for kl");
    s->host = a->host;
    s->run = a->run;
    s->config = c;
    *self = s;
    return LM_OK;
}

static void destroy(void *self)
{
    struct state *s = self;

    s->host->release(s);
}

static enum lm_status items(void *self, int64_t *n, struct lm_err *e)
{
    struct state *s = self;
    const struct config *c = s->config;
    size_t n_ids = 0;
    enum lm_status st = s->host->text_ids(s->run, c->text, &s->ids, &n_ids, e);

    if (st != LM_OK)
        return st;
    s->n_all = s->n_window = (int64_t)n_ids / c->window;
    if (s->n_window == 0)
        return s->host->fail(e, LM_EINPUT, "text '%s' has %zu tokens, fewer than one "
                             "window of %" PRId64 "; use a longer text or a smaller "
                             "window",
                             c->text, n_ids, c->window);
    if (c->windows && c->windows < s->n_window)
        s->n_window = c->windows;
    *n = s->n_window;
    return LM_OK;
}

/* Window of an item.  Two items are the same window only where less than twice
 * as many windows are there as are used; then they go by order.              */
static int64_t place(const struct state *s, int64_t item)
{
    double at = 0, bit = 0.5;

    if (!s->config->spread || s->n_all < 2 * s->n_window)
        return item;
    for (int64_t i = item; i; i >>= 1, bit /= 2)
        at += (double)(i & 1) * bit;
    return (int64_t)(at * (double)s->n_all);
}

static enum lm_status protocol(void *self, char *out, size_t size, struct lm_err *e)
{
    struct state *s = self;
    const struct config *c = s->config;
    int n = snprintf(out, size, "KL(dense || candidate), window %" PRId64 ", stride "
                     "%" PRId64 ", no BOS, all positions, %" PRId64 " %swindow%s of "
                     "%s (%" PRId64 " distributions), %s", c->window, c->window,
                     s->n_window, place(s, 1) == 1 ? "" : "spread ",
                     s->n_window == 1 ? "" : "s", c->text,
                     s->n_window * c->window, precision_names[c->precision]);

    if (n < 0)
        return s->host->fail(e, LM_EFAILED, "the protocol could not be written");
    return LM_OK;
}

static enum lm_status eval(void *self, struct lm_subject *subject, int64_t item,
                           struct lm_sum *sum, struct lm_err *e)
{
    struct state *s = self;
    size_t n = (size_t)s->config->window;
    float *kl = s->host->alloc(n * sizeof *kl, "divergences");

    if (!kl)
        return s->host->fail(e, LM_ENOMEM, "out of memory for a window of %zu tokens", n);
    enum lm_status st = s->config->precision
        ? s->host->precision(subject, (uint32_t)s->config->precision, e) : LM_OK;
    if (st == LM_OK)
        st = s->host->token_kl(subject, s->ids + (size_t)place(s, item) * n, n, kl, e);
    for (size_t t = 0; st == LM_OK && t < n; t++)
        sum[0].value += kl[t];
    sum[0].weight = (double)n;
    s->host->release(kl);
    return st;
}

static const struct lm_evaluator evaluator = {
    .struct_size = sizeof evaluator, .needs = LM_NEEDS_RUN | LM_NEEDS_DENSE,
    .metric = metrics, .metric_size = sizeof *metrics,
    .items = items, .protocol = protocol, .eval = eval
};

static const struct lm_module module = {
    LM_MODULE_HEAD(EVALUATOR), .name = "kl", .version = "1.0",
    .license = "Apache-2.0", .author = "Lamina",
    .summary = "divergence from the dense model's predictions",
    .reference = "Kullback and Leibler, On Information and Sufficiency, 1951",
    .opt = options, .config_size = sizeof(struct config),
    .create = create, .destroy = destroy, .ops = &evaluator
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
