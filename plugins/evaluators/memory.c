/* SPDX-License-Identifier: Apache-2.0 */
/* memory -- bytes that a candidate takes while it runs, counted from shapes:
 *
 *   weights   as they would be exported (metric size.bytes)
 *   cache     context * sum over layers of 2 * n_kv * head_dim * bytes of `cache`
 *   work      tokens * 4 * (2 hidden + max(q, ff) + max(kv, ff) + kv + q)
 *             + 4 * vocab
 *
 * q, kv, ff: the widest layer's, in floats: residual stream, its norm, queries or
 * gate, keys or up, values, what attention mixed; as registers that all blocks
 * share.  The last term are the logits of one position.  What a program needs
 * besides (code, tokenizer, scratch of its kernels) is left out.             */
#include "plugin.h"

#include <inttypes.h>
#include <stdio.h>

struct config { int64_t context, tokens, cache; };

enum { CACHE_F16, CACHE_F32 };
static const char *const caches[] = { "f16", "f32", NULL };

static const struct lm_opt options[] = {
    LM_INT(struct config, context, "2048", 0, 1 << 30, "tokens", 0,
           "Tokens that the cache of keys and values holds."),
    LM_INT(struct config, tokens, "512", 1, 1 << 20, "tokens", 0,
           "Tokens that are computed at once, as when a prompt is read."),
    LM_PICK(struct config, cache, "f16", caches, 0, "Number format of the cache."),
    LM_OPT_END
};

static const struct lm_metric metrics[] = {
    { "bytes", "bytes", "Weights, cache and activations while the model runs.",
      LM_REDUCE_MEAN, false, false },
    { "cache_bytes", "bytes", "The cache of keys and values alone.", LM_REDUCE_MEAN,
      false, false },
    { NULL, NULL, NULL, 0, false, false }
};

struct state {
    const struct lm_host *host;
    const struct lm_arch *arch;
    struct config config;
};

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct state *s = a->host->alloc(sizeof *s, "memory");

    if (!s)
        return a->host->fail(e, LM_ENOMEM, "out of memory for evaluator 'memory'");
    s->host = a->host;
    s->arch = a->host->arch(a->model);
    s->config = *(const struct config *)a->config;
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
    (void)self, (void)e;
    *n = 1;
    return LM_OK;
}

static enum lm_status protocol(void *self, char *out, size_t size, struct lm_err *e)
{
    const struct state *s = self;

    (void)e;
    snprintf(out, size, "counted from shapes: weights in the number format of the export"
             ", %s cache of %" PRId64 " tokens, f32 activations of %" PRId64
             " tokens at once, logits of one", caches[s->config.cache], s->config.context,
             s->config.tokens);
    return LM_OK;
}

static enum lm_status eval(void *self, struct lm_subject *subject, int64_t item,
                           struct lm_sum *sum, struct lm_err *e)
{
    const struct state *s = self;
    struct lm_cost cost = { .struct_size = sizeof cost };
    enum lm_status st = s->host->cost(subject, &cost, e);
    double wide = s->config.cache == CACHE_F32 ? 2 : 1;     /* cost counts f16 */
    double cache = (double)s->config.context * (double)cost.kv_bytes * wide;
    double work = (double)s->config.tokens * (double)cost.row_bytes
        + 4.0 * s->arch->vocab;

    (void)item;
    if (!st && !LM_HAS(&cost, row_bytes))
        st = s->host->fail(e, LM_EUNSUPPORTED, "this version of Lamina does not tell "
                           "what activations take");
    if (st)
        return st;
    sum[0] = (struct lm_sum){ (double)cost.bytes + cache + work, 1 };
    sum[1] = (struct lm_sum){ cache, 1 };
    return LM_OK;
}

static const struct lm_evaluator evaluator = {
    .struct_size = sizeof evaluator,
    .metric = metrics, .metric_size = sizeof *metrics,
    .items = items, .protocol = protocol, .eval = eval
};

static const struct lm_module module = {
    LM_MODULE_HEAD(EVALUATOR), .name = "memory", .version = "1.0",
    .license = "Apache-2.0", .author = "Lamina",
    .summary = "bytes in use while the model runs, counted",
    .opt = options, .config_size = sizeof(struct config),
    .create = create, .destroy = destroy, .ops = &evaluator
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
