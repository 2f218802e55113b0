/* SPDX-License-Identifier: Apache-2.0 */
/* latency_table -- latency as the sum of what its operators cost on some device.
 *
 * `lamina profile` measured the operators; nothing is run here and nothing depends on
 * this machine.  The workloads are those of the table, the metrics have the names of
 * `latency`, which measures them on finalists.                               */
#include "table.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct config { const char *table; };

static const struct lm_opt options[] = {
    LM_OPTION(struct config, table, LM_OPT_PATH, const char *, NULL, 0, 0, NULL, NULL,
              LM_REQUIRED, "A table that `lamina profile` wrote."),
    LM_OPT_END
};

static const struct lm_metric metrics[] = {
    { "prefill_ms", "ms", "Predicted time of the prefill workload.", LM_REDUCE_MEAN,
      false, false },
    { "decode_ms", "ms", "Predicted time of one token of the decode workload.",
      LM_REDUCE_MEAN, false, false },
    { NULL, NULL, NULL, 0, false, false }
};

struct state {
    const struct lm_host *host;
    struct table t;
};

static enum lm_status check_model(const struct lm_args *a, const struct table *t,
                                  const char *path, struct lm_err *e)
{
    const struct lm_arch *m = a->host->arch(a->model);
    char hash[24];

    if (m->n_layer != t->layers || m->hidden != t->hidden || m->head_dim != t->head_dim
        || m->vocab != t->vocab)
        return a->host->fail(e, LM_ECONFIG, "%s is of another model: one of %d layers, "
                             "hidden size %d, head size %d and %d tokens, this one has "
                             "%d, %d, %d and %d; make a table of this one with `lamina "
                             "profile`", path, t->layers, t->hidden, t->head_dim,
                             t->vocab, m->n_layer, m->hidden, m->head_dim, m->vocab);
    snprintf(hash, sizeof hash, "%016" PRIx64, a->host->model_hash(a->model));
    if (strcmp(hash, t->model))
        a->host->log(a->run, LM_WARN, "%s was made with another model of these shapes, "
                     "maybe in other number formats", path);
    return LM_OK;
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    const struct config *c = a->config;

    if (!LM_HAS(a->host, operators))
        return a->host->fail(e, LM_EUNSUPPORTED, "this version of Lamina cannot say "
                             "what a candidate runs; take a newer one");
    struct state *s = a->host->alloc(sizeof *s, "latency_table");
    if (!s)
        return a->host->fail(e, LM_ENOMEM, "out of memory for latency_table");
    s->host = a->host;
    enum lm_status st = table_load(a->host, c->table, &s->t, e);
    if (!st && (st = check_model(a, &s->t, c->table, e)))
        table_free(&s->t);
    if (st)
        a->host->release(s);
    else
        *self = s;
    return st;
}

static void destroy(void *self)
{
    struct state *s = self;

    table_free(&s->t);
    s->host->release(s);
}

static enum lm_status items(void *self, int64_t *n, struct lm_err *e)
{
    (void)self, (void)e;
    *n = 1;
    return LM_OK;
}

static enum lm_status protocol(void *self, char *out, size_t size, struct lm_err *e)
{
    struct state *s = self;
    const struct table *t = &s->t;
    char prefill[48] = "", decode[64] = "";

    (void)e;
    if (t->prefill)
        snprintf(prefill, sizeof prefill, "prefill of %d tokens, ", (int)t->prefill);
    if (t->tokens)
        snprintf(decode, sizeof decode, "decode of %d tokens behind %d, ", (int)t->tokens,
                 (int)t->context);
    snprintf(out, size, "%s%s%d thread%s, predicted from table %016" PRIx64 " of %s "
             "(%s), %s", prefill, decode, (int)t->threads, t->threads == 1 ? "" : "s",
             t->hash, t->backend, t->device, t->made);
    return LM_OK;
}

struct sum_of {
    const struct table *t;
    double seconds;
    enum lm_status st;
    struct lm_err *e;
};

static void add_use(void *ctx, const struct lm_use *u)
{
    struct sum_of *s = ctx;
    double seconds = 0;

    if (!s->st)
        s->st = table_seconds(s->t, u, &seconds, s->e);
    s->seconds += seconds;
}

static enum lm_status predict(const struct state *s, struct lm_subject *subject,
                              const struct lm_workload *w, double *seconds,
                              struct lm_err *e)
{
    struct sum_of sum = { .t = &s->t, .e = e };
    enum lm_status st = s->host->operators(subject, w, add_use, &sum, e);

    *seconds = sum.seconds;
    return st ? st : sum.st;
}

static enum lm_status eval(void *self, struct lm_subject *subject, int64_t item,
                           struct lm_sum *sum, struct lm_err *e)
{
    struct state *s = self;
    const struct table *t = &s->t;
    double seconds;
    enum lm_status st = LM_OK;

    (void)item;
    if (t->prefill) {
        struct lm_workload w = { LM_PREFILL, t->prefill, 0, t->threads };

        st = predict(s, subject, &w, &seconds, e);
        sum[0] = (struct lm_sum){ seconds * 1e3, 1 };
    }
    if (st == LM_OK && t->tokens) {
        struct lm_workload w = { LM_DECODE, t->tokens, t->context, t->threads };

        st = predict(s, subject, &w, &seconds, e);
        sum[1] = (struct lm_sum){ seconds * 1e3 / t->tokens, 1 };
    }
    return st;
}

static enum lm_status measured_by(const struct lm_host *h, const void *config, char *out,
                                  size_t size, struct lm_err *e)
{
    const struct config *c = config;
    struct table t;
    enum lm_status st = table_load(h, c->table, &t, e);

    if (!st)
        snprintf(out, size, "latency:prefill=%d,decode=%d@%d,threads=%d", (int)t.prefill,
                 (int)t.tokens, (int)t.context, (int)t.threads);
    table_free(&t);
    return st;
}

static const struct lm_evaluator evaluator = {
    .struct_size = sizeof evaluator, .needs = 0,
    .metric = metrics, .metric_size = sizeof *metrics,
    .items = items, .protocol = protocol, .eval = eval, .measured_by = measured_by
};

static const struct lm_module module = {
    LM_MODULE_HEAD(EVALUATOR), .name = "latency_table", .version = "1.0",
    .license = "Apache-2.0", .author = "Lamina",
    .summary = "time of prefill and decode, predicted from a device's table",
    .opt = options, .config_size = sizeof(struct config),
    .create = create, .destroy = destroy, .ops = &evaluator
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
