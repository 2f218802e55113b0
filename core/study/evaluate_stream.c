/* SPDX-License-Identifier: Apache-2.0 */
/* evaluate_stream.c -- evaluators of a model that is larger than memory.
 *
 * Evaluators ask for one text after the other, but weights should be decoded once for
 * all.  So items are rehearsed: the evaluator runs with a subject that writes down what
 * it is asked and says zeros.  Then all that was asked is run segment by segment
 * (lm_ask_all), and the evaluators run again and find it answered.  What an evaluator
 * asks for only on seeing real numbers is run for it then, as ever: a rehearsal can
 * save work, it cannot change a result.                                          */
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/pool.h"
#include "study/judging.h"

enum { LEAST = 64 << 20 };              /* bytes of hidden states at a time */

struct answer {
    uint64_t hash;
    struct lm_network net;              /* segments are the candidate's */
    const struct lm_candidate *candidate;
    bool kl, answered;
    size_t n;
    int32_t *ids;                       /* [n], behind it: */
    float *out;                         /* [n] */
};

struct lm_answers {
    bool rehearsal;                     /* else they are there */
    struct answer *at;                  /* [n] */
    size_t n, cap;
    size_t bytes;                       /* of hidden states for all */
};

static uint64_t hash_of(const struct lm_candidate *c, const struct lm_network *net,
                        bool kl, const int32_t *ids, size_t n)
{
    uint64_t h = lm_hash_u64((uintptr_t)c, lm_hash_u64(net->precision, kl));

    return lm_hash(ids, n * sizeof *ids, h);
}

static const struct answer *find(const struct lm_answers *a, const struct lm_candidate *c,
                                 const struct lm_network *net, bool kl,
                                 const int32_t *ids, size_t n)
{
    uint64_t hash = hash_of(c, net, kl, ids, n);

    for (size_t i = 0; i < a->n; i++) {
        const struct answer *x = &a->at[i];

        if (x->hash == hash && x->candidate == c && x->kl == kl && x->n == n
            && x->net.precision == net->precision
            && memcmp(x->ids, ids, n * sizeof *ids) == 0)
            return x;
    }
    return NULL;
}

/* Writes a question down; what cannot be is asked again in earnest. */
static void take_down(struct lm_answers *a, const struct lm_subject *s,
                      const struct lm_network *net, bool kl, const int32_t *ids, size_t n)
{
    size_t hidden = (size_t)lm_model_arch(lm_engine_model(s->evaluation->args.engine))
                        ->hidden;

    if (find(a, s->candidate, net, kl, ids, n))
        return;
    if (a->n == a->cap) {
        size_t cap = a->cap ? 2 * a->cap : 64;
        struct answer *more = lm_resize(a->at, cap * sizeof *more);

        if (!more)
            return;
        a->at = more;
        a->cap = cap;
    }
    struct answer *x = &a->at[a->n];
    int32_t *copy = lm_alloc_array(n + 1, sizeof *copy + sizeof(float), "evaluation");

    if (!copy)
        return;
    memcpy(copy, ids, n * sizeof *ids);
    *x = (struct answer){ .hash = hash_of(s->candidate, net, kl, ids, n), .net = *net,
                          .candidate = s->candidate, .kl = kl, .n = n, .ids = copy,
                          .out = (float *)(void *)(copy + n) };
    a->n++;
    a->bytes += n * hidden * sizeof(float);
}

bool lm_subject_answered(struct lm_subject *s, const struct lm_network *net, bool kl,
                         const int32_t *ids, size_t n, float *out)
{
    struct lm_answers *a = s->evaluation->answers;
    size_t count = kl ? n : n ? n - 1 : 0;
    const struct answer *x;

    if (!a)
        return false;
    if (a->rehearsal) {
        take_down(a, s, net, kl, ids, n);
        memset(out, 0, count * sizeof *out);
        return true;
    }
    x = find(a, s->candidate, net, kl, ids, n);
    if (!x || !x->answered)
        return false;
    memcpy(out, x->out, count * sizeof *out);
    return true;
}

static void forget(struct lm_answers *a)
{
    for (size_t i = 0; i < a->n; i++)
        lm_release(a->at[i].ids);
    a->n = a->bytes = 0;
}

static size_t limit_of(const struct lm_evaluation *v)
{
    return v->args.memory > LEAST ? v->args.memory : LEAST;
}

/* As many as hidden states fit. */
static enum lm_status run_some(struct lm_evaluation *v, struct lm_answers *a,
                               struct lm_ask *ask, size_t *first, struct lm_err *e)
{
    size_t hidden = (size_t)lm_model_arch(lm_engine_model(v->args.engine))->hidden;
    size_t n = 0, bytes = 0;
    enum lm_status st;

    for (size_t i = *first; i < a->n; i++, n++) {
        struct answer *x = &a->at[i];

        bytes += x->n * hidden * sizeof(float);
        if (n && bytes > limit_of(v))
            break;
        ask[n] = (struct lm_ask){ .net = &x->net, .ids = x->ids, .n = x->n, .kl = x->kl,
                                  .out = x->out };
    }
    st = lm_ask_all(v->args.engine, v->teacher, !v->args.alone, ask, n, &v->streamed, e);
    for (size_t i = 0; i < n; i++)
        a->at[*first + i].answered = ask[i].answered;
    *first += n;
    return st;
}

static enum lm_status answer_all(struct lm_evaluation *v, struct lm_answers *a,
                                 struct lm_err *e)
{
    struct lm_ask *ask = lm_alloc_array(a->n + 1, sizeof *ask, "evaluation");
    enum lm_status st = ask ? LM_OK : lm_fail_memory(e, a->n * sizeof *ask,
                                                     "the evaluation");

    for (size_t first = 0; !st && first < a->n;)
        st = run_some(v, a, ask, &first, e);
    lm_release(ask);
    return st;
}

struct run {
    lm_streamed_task *task;
    void *ctx;
    int64_t first;
};

static void play(void *ctx, int64_t i, uint32_t worker)
{
    const struct run *r = ctx;

    r->task(r->ctx, r->first + i, worker, false);
}

enum lm_status lm_evaluate_streamed(struct lm_evaluation *v, int64_t n,
                                    lm_streamed_task *task, void *ctx, struct lm_err *e)
{
    struct lm_answers a = { .at = NULL };
    enum lm_status st = LM_OK;

    v->answers = &a;
    for (int64_t first = 0, end; first < n && !st; first = end) {
        a.rehearsal = true;
        for (end = first; end < n && (end == first || a.bytes < limit_of(v)); end++)
            task(ctx, end, 0, true);
        a.rehearsal = false;
        st = answer_all(v, &a, e);
        if (!st && (st = lm_parallel(end - first, play, &(struct run){ task, ctx,
            first })))
            lm_fail(e, st, "the evaluation was interrupted");
        forget(&a);
    }
    v->answers = NULL;
    lm_release(a.at);
    return st;
}

enum lm_status lm_judge_asks(struct lm_evaluation *v, size_t judge,
                             const struct lm_candidate *c, struct lm_asked *out,
                             struct lm_err *e)
{
    const struct lm_judge *j = &v->args.judge[judge];
    struct lm_answers a = { .rehearsal = true };
    struct lm_subject subject = { .evaluation = v, .candidate = c,
        .needs = j->ops->needs };
    struct lm_sum sum[LM_MAX_METRICS] = { { 0, 0 } };
    struct lm_err why = { 0 };
    enum lm_status st = lm_evaluation_prepare(v, e);

    *out = (struct lm_asked){ 0 };
    if (st != LM_OK)
        return st;
    v->answers = &a;
    j->ops->eval(j->self, &subject, 0, sum, &why);
    v->answers = NULL;
    for (size_t i = 0; i < a.n; i++) {
        out->tokens += (double)a.at[i].n;
        out->longest = a.at[i].n > out->longest ? a.at[i].n : out->longest;
        out->precision = a.at[i].net.precision;
    }
    forget(&a);
    lm_release(a.at);
    return LM_OK;
}
