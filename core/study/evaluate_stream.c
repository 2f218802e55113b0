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

struct question {
    const struct lm_candidate *c;
    const struct lm_network *net;       /* its segments */
    bool kl;
    const int32_t *ids;                 /* [n] */
    size_t n;
};

struct answer {
    uint64_t hash;                      /* of all but the candidate */
    struct lm_network net;              /* segments are the candidate's */
    const struct lm_candidate *candidate;
    bool kl, answered;
    size_t n;
    int32_t *ids;                       /* [n], behind it: */
    float *out;                         /* [n] */
    size_t next;                        /* 1 + another one of its bucket, or 0 */
    size_t first;                       /* of those that differ in the candidate alone */
    size_t round;                       /* of a first one: 1 + where the round began in
                                           which its lesson is counted */
};

struct lm_answers {
    bool rehearsal;                     /* else they are there */
    struct answer *at;                  /* [n] */
    size_t *bucket;                     /* [cap], a power of two: 1 + its last, or 0 */
    size_t n, cap;
    size_t bytes;                       /* of hidden states and lessons for all */
};

static uint64_t hash_of(const struct question *q)
{
    uint64_t h = lm_hash_u64(q->net->precision, q->kl);

    return lm_hash(q->ids, q->n * sizeof *q->ids, h);
}

static bool is_alike(const struct answer *x, const struct question *q, uint64_t hash)
{
    return x->hash == hash && x->kl == q->kl && x->n == q->n
        && x->net.precision == q->net->precision
        && memcmp(x->ids, q->ids, q->n * sizeof *q->ids) == 0;
}

/* any: of whatever candidate. */
static struct answer *find(const struct lm_answers *a, const struct question *q, bool any)
{
    uint64_t hash = hash_of(q);

    for (size_t i = a->cap ? a->bucket[hash & (a->cap - 1)] : 0; i; i = a->at[i - 1].next)
        if ((any || a->at[i - 1].candidate == q->c) && is_alike(&a->at[i - 1], q, hash))
            return &a->at[i - 1];
    return NULL;
}

static void enter(struct lm_answers *a, size_t i)
{
    size_t *b = &a->bucket[a->at[i].hash & (a->cap - 1)];

    a->at[i].next = *b;
    *b = i + 1;
}

/* Twice the room; as it was without memory. */
static bool grow(struct lm_answers *a)
{
    size_t cap = a->cap ? 2 * a->cap : 64;
    struct answer *more = lm_resize(a->at, cap * sizeof *more);
    size_t *bucket = more ? lm_alloc_array(cap, sizeof *bucket, "evaluation") : NULL;

    a->at = more ? more : a->at;
    if (!bucket)
        return false;
    lm_release(a->bucket);
    a->bucket = bucket;
    a->cap = cap;
    for (size_t i = 0; i < a->n; i++)
        enter(a, i);
    return true;
}

static size_t state_bytes(const struct lm_evaluation *v, size_t n)
{
    return n * (size_t)lm_model_arch(lm_engine_model(v->args.engine))->hidden
        * sizeof(float);
}

static size_t lesson_bytes(const struct lm_evaluation *v, const struct answer *x)
{
    return x->kl && v->teacher ? lm_teacher_wants(v->teacher, x->net.precision, x->ids,
                                                  x->n) : 0;
}

/* Writes a question down; what cannot be is asked again in earnest. */
static void take_down(struct lm_answers *a, const struct lm_evaluation *v,
                      const struct question *q)
{
    const struct answer *alike = find(a, q, true);
    size_t first = alike ? alike->first : a->n;
    int32_t *copy;

    if (find(a, q, false) || (a->n == a->cap && !grow(a)))
        return;
    if (!(copy = lm_alloc_array(q->n + 1, sizeof *copy + sizeof(float), "evaluation")))
        return;
    memcpy(copy, q->ids, q->n * sizeof *copy);
    a->at[a->n] = (struct answer){ .hash = hash_of(q), .net = *q->net,
                                   .candidate = q->c, .kl = q->kl, .n = q->n,
                                   .ids = copy, .out = (float *)(void *)(copy + q->n),
                                   .first = first };
    a->bytes += state_bytes(v, q->n);
    a->bytes += first == a->n ? lesson_bytes(v, &a->at[a->n]) : 0;
    enter(a, a->n++);
}

bool lm_subject_answered(struct lm_subject *s, const struct lm_network *net, bool kl,
                         const int32_t *ids, size_t n, float *out)
{
    struct lm_answers *a = s->evaluation->answers;
    struct question q = { s->candidate, net, kl, ids, n };
    size_t count = kl ? n : n ? n - 1 : 0;
    const struct answer *x;

    if (!a)
        return false;
    if (a->rehearsal) {
        take_down(a, s->evaluation, &q);
        memset(out, 0, count * sizeof *out);
        return true;
    }
    x = find(a, &q, false);
    if (!x || !x->answered)
        return false;
    memcpy(out, x->out, count * sizeof *out);
    return true;
}

static void forget(struct lm_answers *a)
{
    for (size_t i = 0; i < a->n; i++)
        lm_release(a->at[i].ids);
    if (a->cap)
        memset(a->bucket, 0, a->cap * sizeof *a->bucket);
    a->n = a->bytes = 0;
}

static void answers_close(struct lm_answers *a)
{
    forget(a);
    lm_release(a->at);
    lm_release(a->bucket);
}

static size_t limit_of(const struct lm_evaluation *v)
{
    return v->args.memory > LEAST ? v->args.memory : LEAST;
}

/* What one more of a round that began at `first` takes: a hidden state, and with the
 * first divergence on a text the dense model's state and predictions.            */
static size_t bytes_of(const struct lm_evaluation *v, struct lm_answers *a,
                       const struct answer *x, size_t first)
{
    struct answer *lead = &a->at[x->first];
    bool counted = lead->round == first + 1;

    lead->round = first + 1;
    return state_bytes(v, x->n) + (counted ? 0 : lesson_bytes(v, x));
}

/* Buffers of threads for n divergences and what the dense model says of them. */
static size_t buffer_bytes(const struct lm_evaluation *v, size_t n, size_t longest)
{
    size_t threads = (size_t)lm_pool_threads();

    return (2 * n < threads ? 2 * n : threads) * state_bytes(v, longest);
}

/* As many as hidden states fit. */
static enum lm_status run_some(struct lm_evaluation *v, struct lm_answers *a,
                               struct lm_ask *ask, size_t *first, struct lm_err *e)
{
    size_t n = 0, n_kl = 0, bytes = 0, longest = 0;
    enum lm_status st;

    for (size_t i = *first; i < a->n; i++, n++) {
        struct answer *x = &a->at[i];

        bytes += bytes_of(v, a, x, *first);
        longest = x->n > longest ? x->n : longest;
        n_kl += x->kl;
        if (n && bytes + buffer_bytes(v, n_kl, longest) > limit_of(v))
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
    answers_close(&a);
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
        out->texts = lm_hash(a.at[i].ids, a.at[i].n * sizeof *a.at[i].ids,
                             lm_hash_u64(out->precision + 1, out->texts + 1));
    }
    answers_close(&a);
    return LM_OK;
}

enum lm_status lm_judges_compare(struct lm_evaluation *v, const struct lm_candidate *c,
                                 struct lm_err *e)
{
    size_t n = v->args.n_judge;
    struct lm_asked *asked = lm_alloc_array(n + 1, sizeof *asked, "evaluation");
    enum lm_status st = LM_OK;

    v->alike = lm_alloc_array(n + 1, sizeof *v->alike, "evaluation");
    if (!asked || !v->alike)
        st = lm_fail_memory(e, n * sizeof *asked, "the evaluation");
    for (size_t j = 0; !st && j < n; j++) {
        const struct lm_judge *x = &v->args.judge[j];

        v->alike[j] = j;
        if (!lm_judge_samples(x) || (st = lm_judge_asks(v, j, c, &asked[j], e)))
            continue;
        for (size_t k = 0; k < j && v->alike[j] == j; k++)
            if (asked[j].texts && asked[k].texts == asked[j].texts
                && v->args.judge[k].n_items == x->n_items)
                v->alike[j] = k;
    }
    lm_release(asked);
    return st;
}
