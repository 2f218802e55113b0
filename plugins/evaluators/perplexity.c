/* SPDX-License-Identifier: Apache-2.0 */
/* perplexity -- exp of the mean loss of a model on a text it has not seen.
 *
 * The text is tokenized whole; window k is ids[k * stride .. + window).  The
 * token at position t of a window is predicted from those before it in the
 * window, so position 0 has no prediction.  Every window but the first scores
 * only its last `stride` positions, the others were scored with more context
 * by the window before; score = second_half asks for positions window/2 + 1 ..
 * window - 1 only.  An incomplete last window is dropped.
 *
 * One item is one window: value = sum of -ln p over its scored positions,
 * weight = their number.                                                    */
#include "plugin.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALL, SECOND_HALF };
static const char *const bos_names[] = { "no", "yes", NULL };
static const char *const score_names[] = { "all", "second_half", NULL };
static const char *const precision_names[] = { "f32", "bf16", "int8", NULL };

struct config {
    const char *text;
    int64_t window, bos, score, windows, precision;
    const char *stride;                 /* "window", or a number */
};

static const struct lm_opt options[] = {
    LM_TEXTFILE(struct config, text, NULL, LM_REQUIRED,
                "Text to predict: an entry of `data`, or a file."),
    LM_INT(struct config, window, "2048", 2, 1 << 20, "tokens", 0,
           "Length of a window; nothing before it is seen."),
    LM_STRING(struct config, stride, "window", 0,
              "Tokens from window to window, or `window`; windows but the first score only "
              "their last `stride` positions."),
    LM_PICK(struct config, bos, "no", bos_names, 0,
            "Whether the first token of each window is replaced by BOS."),
    LM_PICK(struct config, score, "all", score_names, 0,
            "Which positions of a window count."),
    LM_INT(struct config, windows, "0", 0, INT32_MAX, NULL, 0,
           "How many windows from the start of the text; 0 means all."),
    LM_PICK(struct config, precision, "f32", precision_names, 0,
            "Number format that the model computes in: bf16 and int8 are faster, and less "
            "exact."),
    LM_OPT_END
};

static const struct lm_metric metrics[] = {
    { "ppl", "", "Perplexity: exp of the mean loss.", LM_REDUCE_EXP_MEAN, false, false },
    { "nats", "nats", "Mean loss of a token.", LM_REDUCE_MEAN, false, false },
    { NULL, NULL, NULL, 0, false, false }
};

struct state {
    const struct lm_host *host;
    struct lm_run *run;
    const struct config *config;
    int32_t bos;                        /* -1: the first token stays */
    int32_t context;                    /* of the model */
    const int32_t *ids;
    int64_t stride, n_window;
};

/* The stride in tokens; 0: not a number from 1 to the window. */
static int64_t stride_of(const struct config *c)
{
    char *end;

    if (!c->stride || !strcmp(c->stride, "window"))
        return c->window;
    long long v = strtoll(c->stride, &end, 10);
    return *end || end == c->stride || v < 1 || v > c->window ? 0 : v;
}

static enum lm_status check(const struct lm_host *h, const void *config, struct lm_err *e)
{
    const struct config *c = config;

    if (!stride_of(c))
        return h->fail(e, LM_ECONFIG,
                       "stride: expected `window` or a number of tokens from "
                       "1 to the window (%" PRId64 "), not '%s'; a longer stride would "
                       "leave gaps", c->window, c->stride);
    return LM_OK;
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    const struct config *c = a->config;
    const struct lm_arch *arch = a->host->arch(a->model);

    if (c->bos && arch->bos < 0)
        return a->host->fail(e, LM_ECONFIG, "the model has no BOS token; use "
                             "bos = \"no\"");
    if (c->precision && !LM_HAS(a->host, precision))
        return a->host->fail(e, LM_EUNSUPPORTED, "this version of Lamina computes in f32 "
                             "only; leave out precision = \"%s\"",
                             precision_names[c->precision]);
    struct state *s = a->host->alloc(sizeof *s, "perplexity");
    if (!s)
        return a->host->fail(e, LM_ENOMEM, "out of memory for perplexity");
    s->host = a->host;
    s->run = a->run;
    s->config = c;
    s->bos = c->bos ? arch->bos : -1;
    s->context = arch->context;
    s->stride = stride_of(c);
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
    if ((int64_t)n_ids < c->window)
        return s->host->fail(e, LM_EINPUT, "text '%s' has %zu tokens, fewer than one "
                             "window of %" PRId64 "; use a longer text or a smaller "
                             "window",
                             c->text, n_ids, c->window);
    if (c->window > s->context && s->context > 0)
        s->host->log(s->run, LM_WARN, "perplexity: a window of %" PRId64 " tokens is "
                     "longer than the %d tokens the model was made for", c->window,
                     (int)s->context);
    s->n_window = ((int64_t)n_ids - c->window) / s->stride + 1;
    if (c->windows && c->windows < s->n_window)
        s->n_window = c->windows;
    *n = s->n_window;
    return LM_OK;
}

/* First position of a window that is scored; position 0 never is. */
static int64_t first_scored(const struct state *s, int64_t item)
{
    const struct config *c = s->config;
    int64_t first = c->score == SECOND_HALF ? c->window / 2 + 1 : 1;

    if (item > 0 && c->window - s->stride > first)
        first = c->window - s->stride;
    return first;
}

static enum lm_status protocol(void *self, char *out, size_t size, struct lm_err *e)
{
    struct state *s = self;
    const struct config *c = s->config;
    int64_t scored = 0;

    for (int64_t i = 0; i < s->n_window; i++)
        scored += c->window - first_scored(s, i);
    int n = snprintf(out, size, "window %" PRId64 ", stride %" PRId64 ", %s, %s, %" PRId64
                     " window%s of %s (%" PRId64 " predictions), %s", c->window,
                     s->stride,
                     c->bos ? "BOS first" : "no BOS",
                     c->score == SECOND_HALF ? "second half of positions"
                     : "all positions",
                     s->n_window, s->n_window == 1 ? "" : "s", c->text, scored,
                     precision_names[c->precision]);
    if (n < 0)
        return s->host->fail(e, LM_EFAILED, "the protocol could not be written");
    return LM_OK;
}

static enum lm_status eval(void *self, struct lm_subject *subject, int64_t item,
                           struct lm_sum *sum, struct lm_err *e)
{
    struct state *s = self;
    int64_t window = s->config->window, first = first_scored(s, item);
    const int32_t *ids = s->ids + item * s->stride;
    size_t n = (size_t)window;
    int32_t *copy = s->bos >= 0 ? s->host->alloc(n * sizeof *copy, "window") : NULL;
    float *nll = s->host->alloc(n * sizeof *nll, "losses");
    enum lm_status st = LM_OK;

    if (!nll || (s->bos >= 0 && !copy))
        st = s->host->fail(e, LM_ENOMEM, "out of memory for a window of %zu tokens", n);
    if (st == LM_OK && copy) {
        memcpy(copy, ids, n * sizeof *copy);
        copy[0] = s->bos;
        ids = copy;
    }
    if (st == LM_OK && s->config->precision)
        st = s->host->precision(subject, (uint32_t)s->config->precision, e);
    if (st == LM_OK)
        st = s->host->token_losses(subject, ids, n, nll, e);
    for (int64_t t = first; st == LM_OK && t < window; t++) {
        sum[0].value += nll[t - 1];
        sum[0].weight += 1;
    }
    sum[1] = sum[0];
    s->host->release(nll);
    s->host->release(copy);
    return st;
}

static const struct lm_evaluator evaluator = {
    .struct_size = sizeof evaluator, .needs = LM_NEEDS_RUN,
    .metric = metrics, .metric_size = sizeof *metrics,
    .items = items, .protocol = protocol, .eval = eval
};

static const struct lm_module module = {
    LM_MODULE_HEAD(EVALUATOR), .name = "perplexity", .version = "1.0",
    .license = "Apache-2.0", .author = "Lamina",
    .summary = "exp of the mean loss on a text",
    .opt = options, .config_size = sizeof(struct config), .check = check,
    .create = create, .destroy = destroy, .ops = &evaluator
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
