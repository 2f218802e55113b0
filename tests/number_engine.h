/* SPDX-License-Identifier: Apache-2.0 */
/* number_engine.h -- plays the engine below study/evaluate.c: a segment is a key, and
 * losses are sums over the keys of a network, so that each value is known.      */
#ifndef LM_TESTS_NUMBER_ENGINE_H
#define LM_TESTS_NUMBER_ENGINE_H
#include <math.h>
#include <pthread.h>

#include "base/log.h"
#include "base/pool.h"
#include "study/judging.h"
#include "testing.h"

/* ---- an engine of numbers ---------------------------------------------------------- */

struct lm_engine { int unused; };
struct lm_segment { struct lm_segment_spec spec; };
struct lm_runner { struct lm_engine *engine; };
struct lm_teacher { struct lm_engine *engine; };
struct lm_decoder { const struct lm_network *net; int64_t pos, capacity; };
struct lm_model { struct lm_arch arch; };

enum { SEGMENTS = 4, CANDIDATES = 9, ITEMS = 7, WINDOW = 6, LOG = 4096 };
static struct lm_engine engine;
static struct lm_model model = { { .vocab = 50 } };
static struct lm_segment segment[CANDIDATES][SEGMENTS], dense_segment[SEGMENTS];
static struct lm_segment *net_of[CANDIDATES][SEGMENTS];
static struct lm_plan *no_plan[CANDIDATES];

/* What happened, in order. */
struct event { char what; size_t candidate; int64_t item; };
static struct event events[LOG];
static int n_event, decoders, runners;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void note(char what, size_t candidate, int64_t item)
{
    pthread_mutex_lock(&lock);
    if (n_event < LOG)
        events[n_event++] = (struct event){ what, candidate, item };
    pthread_mutex_unlock(&lock);
}

const struct lm_model *lm_engine_model(const struct lm_engine *g)
{
    (void)g;
    return &model;
}

const struct lm_arch *lm_model_arch(const struct lm_model *m)
{
    return &m->arch;
}

const struct lm_segment_spec *lm_segment_spec(const struct lm_segment *s)
{
    return &s->spec;
}

static bool streams;

/* What the device has room for (0: all), and what is taken of it: 2 by the weights of the
 * dense model, 1 by a decoder, 2 by that of the heavy network.  broken: the dense model
 * cannot be opened at all.                                                      */
static int room, taken;
static const struct lm_segment *heavy;
static bool broken;

bool lm_engine_streams(const struct lm_engine *g)
{
    (void)g;
    return streams;
}

void lm_engine_turn(struct lm_engine *g)
{
    ck_assert_ptr_eq(g, &engine);
}

enum lm_status lm_engine_can(const struct lm_engine *g, uint32_t precision,
                             struct lm_err *e)
{
    ck_assert_ptr_eq(g, &engine);
    return precision <= LM_AS_BF16 ? LM_OK : lm_fail(e, LM_EUNSUPPORTED, "not here");
}

/* Of the item that a window begins with. */
static uint32_t precision_of(const int32_t *ids)
{
    return ids[0] / 3 % 2 ? LM_AS_BF16 : LM_AS_F32;
}

enum lm_status lm_network_open(struct lm_engine *g, const struct lm_model *m,
                               struct lm_network *net, struct lm_err *e)
{
    (void)g, (void)m;
    if (broken)
        return lm_fail(e, LM_EFAILED, "this one is broken");
    if (room && taken + 2 > room)
        return lm_fail(e, LM_EINFEASIBLE, "no room for weights");
    net->seg = lm_alloc_array(SEGMENTS, sizeof *net->seg, "network");
    if (!net->seg)
        return lm_fail_memory(e, 0, "network");
    taken += 2;
    for (net->n = 0; net->n < SEGMENTS; net->n++)
        net->seg[net->n] = &dense_segment[net->n];
    return LM_OK;
}

void lm_network_close(struct lm_network *net)
{
    taken -= net->seg ? 2 : 0;
    lm_release(net->seg);
    *net = (struct lm_network){ .seg = NULL };
}

enum lm_status lm_network_uses(const struct lm_network *net, const struct lm_workload *w,
                               lm_see_use *see, void *ctx, struct lm_err *e)
{
    (void)net, (void)w, (void)see, (void)ctx;
    return lm_fail(e, LM_EBUG, "numbers have no operators");
}

enum lm_status lm_teacher_open(struct lm_engine *g, const struct lm_network *dense,
                               size_t memory, struct lm_teacher **t, struct lm_err *e)
{
    (void)dense, (void)memory;
    *t = lm_alloc(sizeof **t, "teacher");
    if (!*t)
        return lm_fail_memory(e, 0, "teacher");
    (*t)->engine = g;
    return LM_OK;
}

void lm_teacher_close(struct lm_teacher *t)
{
    lm_release(t);
}

enum lm_status lm_runner_open(struct lm_engine *g, struct lm_runner **r, struct lm_err *e)
{
    *r = lm_alloc(sizeof **r, "runner");
    if (!*r)
        return lm_fail_memory(e, 0, "runner");
    (*r)->engine = g;
    pthread_mutex_lock(&lock);
    runners++;
    pthread_mutex_unlock(&lock);
    return LM_OK;
}

void lm_runner_close(struct lm_runner *r)
{
    lm_release(r);
}

size_t lm_runner_limit(struct lm_runner *r, size_t bytes)
{
    ck_assert_ptr_eq(r->engine, &engine);
    ck_assert_uint_gt(bytes, 0);
    return 1;
}

void lm_runner_plan(struct lm_runner *r, const size_t *depth, size_t n)
{
    (void)r;
    for (size_t i = 0; i < n; i++)
        ck_assert(depth[i] > 0 && depth[i] <= SEGMENTS && (!i ||
                                                           depth[i] < depth[i - 1]));
}

void lm_runner_forget(struct lm_runner *r)
{
    (void)r;
    ck_abort_msg("prefixes are to be shared");
}

void lm_runner_release(struct lm_runner *r)
{
    (void)r;
    ck_abort_msg("there is room for all");
}

struct lm_work lm_runner_work(const struct lm_runner *r)
{
    (void)r;
    return (struct lm_work){ 3, 2 };
}

static double weight_of(const struct lm_network *net)
{
    double sum = 0;
    for (size_t i = 0; i < net->n; i++)
        sum += (double)net->seg[i]->spec.key * (double)(i + 1);
    return sum;
}

enum lm_status lm_runner_losses(struct lm_runner *r, const struct lm_network *net,
                                const int32_t *ids, size_t n, float *nll,
                                struct lm_err *e)
{
    (void)e;
    ck_assert_ptr_eq(r->engine, &engine);
    ck_assert_uint_eq(net->precision, precision_of(ids));
    for (size_t t = 0; t + 1 < n; t++)
        nll[t] = (float)(0.01 * weight_of(net) + 0.1 * ids[t + 1]);
    return LM_OK;
}

enum lm_status lm_runner_kl(struct lm_runner *r, const struct lm_network *net,
                            struct lm_teacher *memo, const int32_t *ids, size_t n,
                            float *kl, struct lm_err *e)
{
    (void)r, (void)e;
    ck_assert_ptr_eq(memo->engine, &engine);
    ck_assert_uint_eq(net->precision, precision_of(ids));
    for (size_t t = 0; t < n; t++)
        kl[t] = (float)(0.001 * weight_of(net));
    return LM_OK;
}

/* Nothing is known beforehand. */
size_t lm_teacher_wants(struct lm_teacher *t, uint32_t precision, const int32_t *ids,
                        size_t n)
{
    (void)t, (void)precision, (void)ids;
    return 2 * n * (size_t)model.arch.hidden * sizeof(float);
}

static size_t most_bytes, most_asks;    /* of a round */

/* A state for each ask, of a text with divergences a state and a lesson, a buffer for
 * each thread.                                                                  */
static void weigh(const struct lm_ask *ask, size_t n)
{
    size_t count = n + (size_t)lm_pool_threads();
    for (size_t i = 0; i < n; i++) {
        bool seen = !ask[i].kl;
        for (size_t k = 0; k < i; k++)
            seen |= ask[k].kl && !memcmp(ask[k].ids, ask[i].ids, WINDOW * sizeof(int));
        count += seen ? 0 : 2;
    }
    count *= WINDOW * (size_t)model.arch.hidden * sizeof(float);
    most_bytes = count > most_bytes ? count : most_bytes;
    most_asks = n > most_asks ? n : most_asks;
}

/* All at once, but for every seventh, which must be run on its own. */
enum lm_status lm_ask_all(struct lm_engine *g, struct lm_teacher *t, bool share,
                          struct lm_ask *ask, size_t n, struct lm_work *work,
                          struct lm_err *e)
{
    struct lm_runner r = { g };
    enum lm_status st = LM_OK;

    (void)share;
    weigh(ask, n);
    for (size_t i = 0; i < n && !st; i++) {
        if (i % 7 == 6)
            continue;
        st = ask[i].kl ? lm_runner_kl(&r, ask[i].net, t, ask[i].ids, ask[i].n,
                                      ask[i].out, e)
                       : lm_runner_losses(&r, ask[i].net, ask[i].ids, ask[i].n,
                                          ask[i].out, e);
        ask[i].answered = !st;
        work->run += 1;
    }
    return st;
}

/* The key of every segment of the dense model, where the architecture has a layer. */
enum { DENSE_KEY = 7777 };

enum lm_status lm_dense_shape(const struct lm_model *m, enum lm_segment_kind kind,
                              int32_t layer, struct lm_segment_spec *spec,
                              struct lm_err *e)
{
    (void)m, (void)kind, (void)layer, (void)e;
    *spec = (struct lm_segment_spec){ .key = DENSE_KEY };
    return LM_OK;
}

/* The clock that timing sees: a token, or the tokens of a prefill, take
 * cost_each[network] at the present pace; the dense network is the last.     */
static double seconds_now, pace, cost_each[CANDIDATES + 1];
static const struct lm_segment *refused;        /* its network has no room */

static double clock_of_test(void)
{
    return seconds_now;
}

static double cost_of(const struct lm_network *net)
{
    for (size_t i = 0; i < CANDIDATES; i++)
        if (net->seg == net_of[i])
            return cost_each[i];
    return cost_each[CANDIDATES];
}

static int weight_of_decoder(const struct lm_network *net)
{
    return net->seg[0] == heavy ? 2 : 1;
}

enum lm_status lm_decoder_open(struct lm_engine *g, const struct lm_network *net,
                               int64_t capacity, int32_t threads, struct lm_decoder **d,
                               struct lm_err *e)
{
    (void)g, (void)threads;
    if (net->seg[0] == refused)
        return lm_fail(e, LM_EINFEASIBLE, "no room for this one");
    if (room && taken + weight_of_decoder(net) > room)
        return lm_fail(e, LM_EINFEASIBLE, "no room for a decoder");
    *d = lm_alloc(sizeof **d, "decoder");
    if (!*d)
        return lm_fail_memory(e, 0, "decoder");
    **d = (struct lm_decoder){ net, 0, capacity };
    taken += weight_of_decoder(net);
    decoders++;
    return LM_OK;
}

void lm_decoder_close(struct lm_decoder *d)
{
    taken -= d ? weight_of_decoder(d->net) : 0;
    lm_release(d);
}

void lm_decoder_seek(struct lm_decoder *d, int64_t pos)
{
    note('s', 0, pos);
    d->pos = pos;
}

enum lm_status lm_decoder_feed(struct lm_decoder *d, const int32_t *ids, int32_t n,
                               float *logits, struct lm_time *time, struct lm_err *e)
{
    double seconds = pace * cost_of(d->net);
    (void)e;
    ck_assert_int_le(d->pos + n, d->capacity);
    ck_assert_int_lt(ids[n - 1], model.arch.vocab);
    logits[model.arch.vocab - 1] = 1;
    note('f', (size_t)n, d->pos);
    d->pos += n;
    seconds_now += seconds;
    *time = (struct lm_time){ seconds, n > 1 ? seconds / 2 : 0 };
    return LM_OK;
}

void lm_candidate_cost(const struct lm_candidate *c, uint32_t dtype, struct lm_cost *out)
{
    (void)c;
    out->params = 7;
    out->bytes = dtype == LM_F16 ? 2000 : 4000;
}
/* ---- candidates ---------------------------------------------------------------------- */

static struct lm_candidate candidate[CANDIDATES];

static size_t index_of(const struct lm_subject *s)
{
    for (size_t i = 0; i < CANDIDATES; i++)
        if (s->candidate->net.seg == net_of[i])
            return i;
    return CANDIDATES;
}

/* Keys: i, i / 3 ... so that the order of keys is not that of the indices. */
static void set_up_numbers(void)
{
    static const uint64_t first[CANDIDATES] = { 5, 1, 5, 3, 1, 5, 3, 1, 2 };
    for (size_t i = 0; i < CANDIDATES; i++) {
        for (size_t k = 0; k < SEGMENTS; k++) {
            segment[i][k].spec.key = k == 0 ? 7 : k == 1 ? first[i] : 10 * k + i / 2;
            net_of[i][k] = &segment[i][k];
        }
        candidate[i] = (struct lm_candidate){ .plan = no_plan[i],
                                              .net = { .seg = net_of[i],
                                                       .n = SEGMENTS - i % 2 } };
    }
    n_event = decoders = runners = 0;
    lm_timing_clock = clock_of_test;
    seconds_now = 0;
    pace = 1;
    refused = NULL;
    room = taken = 0;
    heavy = NULL;
    broken = false;
    for (size_t i = 0; i <= CANDIDATES; i++)
        cost_each[i] = 1e-3;
    model.arch.n_layer = 0;
}
#endif
