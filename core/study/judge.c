/* SPDX-License-Identifier: Apache-2.0 */
/* judge.c -- what is known of an evaluator before it has seen a candidate. */
#include "study/judging.h"

#include <math.h>
#include <string.h>

const struct lm_metric *lm_judge_metric(const struct lm_judge *j, size_t i)
{
    if (j->metric)
        return &j->metric[i];
    return (const void *)((const char *)j->ops->metric + i * j->ops->metric_size);
}

enum lm_status lm_judge_open(struct lm_judge *j, struct lm_err *e)
{
    if (!j->metric && (!j->ops->metric || j->ops->metric_size < sizeof(struct lm_metric)))
        return lm_fail(e, LM_EBUG, "evaluator '%s' declares no metrics", j->id);
    j->n_metric = 0;
    while (lm_judge_metric(j, j->n_metric)->name)
        if (++j->n_metric > LM_MAX_METRICS)
            return lm_fail(e, LM_EBUG, "evaluator '%s' declares more than %d metrics",
                           j->id, LM_MAX_METRICS);
    j->n_items = 0;
    memset(j->protocol, 0, sizeof j->protocol);
    if (j->ops->items(j->self, &j->n_items, e) != LM_OK
        || j->ops->protocol(j->self, j->protocol, sizeof j->protocol, e) != LM_OK)
        return lm_err_prefix(e, "evaluator '%s': ", j->id);
    j->protocol[sizeof j->protocol - 1] = 0;
    if (!j->protocol[0] || strchr(j->protocol, '\n'))
        return lm_fail(e, LM_EBUG,
                       "evaluator '%s' does not say in one line how it measures",
                       j->id);
    if (j->n_items < 1 || j->n_items > INT32_MAX)
        return lm_fail(e, LM_EBUG, "evaluator '%s' has %lld items", j->id,
                       (long long)j->n_items);
    return LM_OK;
}

const struct lm_judge *lm_judge_of(const struct lm_judge *j, size_t n, size_t *metric)
{
    for (; n; *metric -= j++->n_metric, n--)
        if (*metric < j->n_metric)
            return j;
    return NULL;
}

size_t lm_judge_first(const struct lm_judge *judge, size_t j)
{
    size_t first = 0;

    for (size_t k = 0; k < j; k++)
        first += judge[k].n_metric;
    return first;
}

bool lm_judge_wanted(const struct lm_judge *judge, size_t j, const bool *skip)
{
    const bool *own = skip ? skip + lm_judge_first(judge, j) : NULL;

    for (size_t m = 0; m < judge[j].n_metric; m++)
        if (!own || !own[m])
            return true;
    return false;
}

int64_t lm_judge_items(const struct lm_judge *j, double share)
{
    int64_t n = j->n_items, want = (int64_t)ceil(share * (double)n - 1e-9);

    return !(share > 0) ? 0 : want < 1 ? 1 : want > n ? n : want;
}

enum lm_pass lm_judge_pass(const struct lm_judge *j)
{
    uint32_t needs = j->ops->needs;

    return needs & LM_NEEDS_COMMANDS ? LM_PASS_COMMANDS
        : needs & LM_NEEDS_QUIET ? LM_PASS_QUIET
        : needs & (LM_NEEDS_RUN | LM_NEEDS_DENSE) ? LM_PASS_SAMPLE : LM_PASS_COUNT;
}

bool lm_judge_counts(const struct lm_judge *j)
{
    return lm_judge_pass(j) == LM_PASS_COUNT;
}

bool lm_judge_samples(const struct lm_judge *j)
{
    return lm_judge_pass(j) == LM_PASS_SAMPLE;
}

void lm_chore_span(const struct lm_chore *c, const struct lm_judge *judge, size_t j,
                   size_t candidate, int64_t *first, int64_t *end)
{
    *first = lm_judge_items(&judge[j], c->from[candidate]);
    *end = lm_judge_items(&judge[j], c->to[candidate]);
    if (c->low && *first < c->low[j])
        *first = c->low[j];
    if (c->high && *end > c->high[j])
        *end = c->high[j];
    if (lm_judge_pass(&judge[j]) != c->pass || *end < *first)
        *end = *first;
}
