/* SPDX-License-Identifier: Apache-2.0 */
/* latency -- measured seconds of the whole model on this machine.
 *
 * prefill = N: N tokens at once into an empty cache; the time of the whole.
 * decode = "N@C": N tokens one by one behind C tokens; the time of one.
 * One item is one repetition; the value is the median of them, which a burst
 * of other work on the machine moves least.  The host has warmed up before, has
 * divided each by the machine's drift at that moment, and says what the anchor
 * took that it knows the drift from.  What is off or unknown has weight 0, so its
 * metric is not measured.                                                   */
#include "plugin.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TOKENS = 1 << 20 };

struct config {
    int64_t prefill, threads, runs;
    const char *decode;
};

static const struct lm_opt options[] = {
    LM_INT(struct config, prefill, "512", 0, MAX_TOKENS, "tokens", 0,
           "Tokens of the prefill workload; 0 turns it off."),
    LM_STRING(struct config, decode, "64@512", 0,
              "Decode workload, \"TOKENS@CONTEXT\"; \"0\" turns it off."),
    LM_INT(struct config, threads, "1", 1, 256, NULL, 0,
           "Threads a model may use."),
    LM_INT(struct config, runs, "5", 1, 10000, NULL, 0,
           "Repetitions; the median counts.  In each, candidates take turns behind the "
           "dense model, and are corrected by its drift."),
    LM_OPT_END
};

static const struct lm_metric metrics[] = {
    { "prefill_ms", "ms", "Time of the prefill workload.", LM_REDUCE_MEDIAN, true,
      false },
    { "decode_ms", "ms", "Time of one token of the decode workload.", LM_REDUCE_MEDIAN,
      true, false },
    { "prefill_anchor_ms", "ms", "The dense model's, timed in turns with the candidate: "
      "not corrected, so it tells of drift between batches.", LM_REDUCE_MEDIAN, true,
      false },
    { "decode_anchor_ms", "ms", "The dense model's, likewise.", LM_REDUCE_MEDIAN, true,
      false },
    { "prefill_device_ms", "ms", "Of prefill_ms, by the device's own clock.",
      LM_REDUCE_MEDIAN, true, false },
    { "decode_device_ms", "ms", "Of decode_ms, by the device's own clock.",
      LM_REDUCE_MEDIAN, true, false },
    { NULL, NULL, NULL, 0, false, false }
};

struct state {
    const struct lm_host *host;
    const struct config *config;
    int32_t tokens, context;            /* decode; tokens 0: off */
};

/* A whole number from 0 to MAX_TOKENS at *text, which moves behind it. */
static bool read_number(const char **text, int32_t *out)
{
    char *end;

    if (**text < '0' || **text > '9')
        return false;
    unsigned long v = strtoul(*text, &end, 10);
    *text = end;
    *out = v <= MAX_TOKENS ? (int32_t)v : 0;
    return v <= MAX_TOKENS;
}

/* "64@512", "64" (behind nothing), "0" or "" (off) */
static bool read_decode(const char *text, int32_t *tokens, int32_t *context)
{
    *tokens = *context = 0;
    if (!text || !*text)
        return true;
    return read_number(&text, tokens)
        && (*text != '@' || (text++, read_number(&text, context))) && !*text;
}

static enum lm_status check(const struct lm_host *h, const void *config, struct lm_err *e)
{
    const struct config *c = config;
    int32_t tokens, context;

    if (!read_decode(c->decode, &tokens, &context))
        return h->fail(e, LM_ECONFIG, "decode = \"%s\" is no workload; write "
                       "TOKENS@CONTEXT like \"64@512\", each at most %d", c->decode,
                       MAX_TOKENS);
    if (c->prefill == 0 && tokens == 0)
        return h->fail(e, LM_ECONFIG, "neither prefill nor decode is to be measured; "
                       "give one of them");
    return LM_OK;
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    if (!LM_HAS(a->host, timing))
        return a->host->fail(e, LM_EUNSUPPORTED, "this version of Lamina cannot tell the "
                             "times of a device; take a newer one");
    struct state *s = a->host->alloc(sizeof *s, "latency");
    if (!s)
        return a->host->fail(e, LM_ENOMEM, "out of memory for latency");
    s->host = a->host;
    s->config = a->config;
    read_decode(s->config->decode, &s->tokens, &s->context);    /* checked before */
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

    (void)e;
    *n = s->config->runs;
    return LM_OK;
}

static enum lm_status protocol(void *self, char *out, size_t size, struct lm_err *e)
{
    struct state *s = self;
    const struct config *c = s->config;
    char prefill[48] = "", decode[64] = "";

    (void)e;
    if (c->prefill)
        snprintf(prefill, sizeof prefill, "prefill of %" PRId64 " tokens, ", c->prefill);
    if (s->tokens)
        snprintf(decode, sizeof decode, "decode of %d tokens behind %d, ", (int)s->tokens,
                 (int)s->context);
    snprintf(out, size, "%s%s%" PRId64 " thread%s, median of %" PRId64 " run%s behind a "
             "warm-up", prefill, decode, c->threads, c->threads == 1 ? "" : "s", c->runs,
             c->runs == 1 ? "" : "s");
    return LM_OK;
}

/* A workload's three sums, of one of n tokens: host, anchor, device. */
static enum lm_status measure(const struct state *s, struct lm_subject *subject,
                              const struct lm_workload *w, int32_t n, struct lm_sum *sum,
                              struct lm_err *e)
{
    struct lm_timing t = { .struct_size = sizeof t };
    double scale = 1e3 / n;
    enum lm_status st = s->host->timing(subject, w, &t, e);

    if (st != LM_OK)
        return st;
    sum[0] = (struct lm_sum){ t.seconds * scale, 1 };
    sum[2] = (struct lm_sum){ t.anchor * scale, t.anchor > 0 };
    sum[4] = (struct lm_sum){ t.device * scale, t.device > 0 };
    return LM_OK;
}

static enum lm_status eval(void *self, struct lm_subject *subject, int64_t item,
                           struct lm_sum *sum, struct lm_err *e)
{
    struct state *s = self;
    const struct config *c = s->config;
    int32_t threads = (int32_t)c->threads;
    struct lm_workload prefill = { LM_PREFILL, (int32_t)c->prefill, 0, threads };
    struct lm_workload decode = { LM_DECODE, s->tokens, s->context, threads };
    enum lm_status st = LM_OK;

    (void)item;
    if (c->prefill)
        st = measure(s, subject, &prefill, 1, sum, e);
    if (st == LM_OK && s->tokens)
        st = measure(s, subject, &decode, s->tokens, sum + 1, e);
    return st;
}

static const struct lm_evaluator evaluator = {
    .struct_size = sizeof evaluator, .needs = LM_NEEDS_RUN | LM_NEEDS_QUIET,
    .metric = metrics, .metric_size = sizeof *metrics,
    .items = items, .protocol = protocol, .eval = eval
};

static const struct lm_module module = {
    LM_MODULE_HEAD(EVALUATOR), .name = "latency", .version = "1.0",
    .license = "Apache-2.0", .author = "Lamina",
    .summary = "measured time of prefill and decode on this machine",
    .opt = options, .config_size = sizeof(struct config), .check = check,
    .create = create, .destroy = destroy, .ops = &evaluator
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
