/* SPDX-License-Identifier: Apache-2.0 */
/* generate.c -- text from a network: greedy, or nucleus sampling (Holtzman et
 * al., ICLR 2020): the smallest set of tokens whose probability reaches top_p. */
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/pool.h"
#include "base/rng.h"
#include "pipeline/finish.h"

struct scored { float logit; int32_t id; };

static int by_logit(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit < y->logit ? 1 : -1;
    return (x->id > y->id) - (x->id < y->id);
}

static int32_t greedy(const float *logit, int32_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (logit[i] > logit[best])
            best = i;
    return best;
}

static int32_t sample(const float *logit, int32_t n, const struct lm_generate *o,
                      struct scored *sorted, struct lm_rng *rng)
{
    double sum = 0, mass = 0;
    for (int32_t i = 0; i < n; i++)
        sorted[i] = (struct scored){ logit[i], i };
    qsort(sorted, (size_t)n, sizeof *sorted, by_logit);
    for (int32_t i = 0; i < n; i++)
        sum += exp((sorted[i].logit - sorted[0].logit) / o->temperature);
    int32_t kept = 0;
    while (kept < n && mass < o->top_p * sum)
        mass += exp((sorted[kept++].logit - sorted[0].logit) / o->temperature);
    double r = lm_rng_unit(rng) * mass;
    for (int32_t i = 0; i < kept; i++)
        if ((r -= exp((sorted[i].logit - sorted[0].logit) / o->temperature)) < 0)
            return sorted[i].id;
    return sorted[kept ? kept - 1 : 0].id;
}

static bool ends_text(const struct lm_arch *a, const struct lm_generate *o, int32_t id)
{
    bool end = id == a->eos;
    for (size_t i = 0; i < o->n_stop && !end; i++)
        end = id == o->stop[i];
    for (uint32_t i = 0; i < a->n_eos_more && !end; i++)
        end = id == a->eos_more[i];
    return end;
}

static enum lm_status run(struct lm_decoder *d, const struct lm_arch *a,
                          const struct lm_generate *o, const int32_t *ids, size_t n_ids,
                          float *logit, struct scored *sorted, int32_t *out,
                          size_t *n_out, struct lm_err *e)
{
    struct lm_rng rng = lm_rng(o->seed, "generate", 0);
    enum lm_status st = lm_decoder_feed(d, ids, (int32_t)n_ids, logit, NULL, e);
    for (*n_out = 0; !st && (int64_t)*n_out < o->tokens;) {
        if (lm_canceled())
            return lm_fail(e, LM_ECANCELED, "interrupted");
        int32_t id = o->temperature > 0 ? sample(logit, a->vocab, o, sorted, &rng)
                                        : greedy(logit, a->vocab);
        out[(*n_out)++] = id;
        if (o->see && (st = o->see(o->ctx, id, e)))
            break;
        if ((!o->ignore_eos && ends_text(a, o, id)) || (int64_t)*n_out == o->tokens)
            break;
        st = lm_decoder_feed(d, &id, 1, logit, NULL, e);
    }
    return st;
}

enum lm_status lm_generate(struct lm_engine *g, const struct lm_network *net,
                           const struct lm_generate *o, const int32_t *ids, size_t n_ids,
                           int32_t **out, size_t *n_out, struct lm_err *e)
{
    const struct lm_arch *a = lm_model_arch(lm_engine_model(g));
    struct lm_decoder *d = NULL;
    if (!n_ids)
        return lm_fail(e, LM_ECONFIG, "the prompt is empty; give at least one token");
    for (size_t i = 0; i < n_ids; i++)
        if (ids[i] < 0 || ids[i] >= a->vocab)
            return lm_fail(e, LM_ECONFIG, "token id %d is not in 0..%d", ids[i],
                           a->vocab - 1);
    if (a->context > 0 && (int64_t)n_ids + o->tokens > a->context)
        return lm_fail(e, LM_ECONFIG,
                       "%zu prompt tokens and %lld new ones exceed the model's "
                       "context of %d", n_ids, (long long)o->tokens, a->context);
    float *logit = lm_alloc_array((size_t)a->vocab, sizeof *logit, "generate");
    struct scored *sorted = lm_alloc_array((size_t)a->vocab, sizeof *sorted, "generate");
    *out = lm_alloc_array((size_t)o->tokens + 1, sizeof **out, "generate");
    enum lm_status st = logit && sorted && *out ? LM_OK
        : lm_fail_memory(e, (size_t)a->vocab * sizeof *sorted, "generation");
    if (!st)
        st = lm_decoder_open(g, net, (int64_t)n_ids + o->tokens, o->threads, &d, e);
    if (!st)
        st = run(d, a, o, ids, n_ids, logit, sorted, *out, n_out, e);
    lm_decoder_close(d);
    lm_release(logit);
    lm_release(sorted);
    if (st) {
        lm_release(*out);
        *out = NULL;
    }
    return st;
}
