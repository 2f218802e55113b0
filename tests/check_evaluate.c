/* SPDX-License-Identifier: Apache-2.0 */
/* check_evaluate.c -- batches of candidates: order of work, fidelity, failures,
 * independence of threads, errors of means and medians, timing.
 *
 * The engine below evaluate.c is played by number_engine.h.                 */
#include "number_engine.h"

/* ---- evaluators -------------------------------------------------------------------- */

static int64_t poison = -1;             /* this item of candidate 2 is not finite */
static enum lm_status trouble;          /* what candidate 3 fails with */

static enum lm_status items(void *self, int64_t *n, struct lm_err *e)
{
    (void)e;
    *n = self ? *(const int64_t *)self : 1;
    return LM_OK;
}

static enum lm_status protocol(void *self, char *out, size_t size, struct lm_err *e)
{
    (void)self, (void)e;
    snprintf(out, size, "as in the test");
    return LM_OK;
}

static enum lm_status eval_loss(void *self, struct lm_subject *s, int64_t item,
                                struct lm_sum *sum, struct lm_err *e)
{
    int32_t ids[WINDOW];
    float nll[WINDOW], kl[WINDOW];
    (void)self;
    size_t me = index_of(s);
    note('l', me, item);
    if (me == 3 && trouble)
        return lm_fail(e, trouble, "as asked for");
    for (int t = 0; t < WINDOW; t++)
        ids[t] = (int32_t)(item * 3 + t);
    struct lm_err no = { 0 };
    ck_assert_int_eq(lm_subject_precision(s, LM_AS_INT8, &no), LM_EUNSUPPORTED);
    enum lm_status st = lm_subject_precision(s, precision_of(ids), e);
    if (st == LM_OK)
        st = lm_subject_losses(s, ids, WINDOW, nll, e);
    if (st == LM_OK)
        st = lm_subject_kl(s, ids, WINDOW, kl, e);
    for (int t = 0; st == LM_OK && t + 1 < WINDOW; t++) {
        sum[0].value += nll[t];
        sum[0].weight += 1;
        sum[1].value += kl[t];
        sum[1].weight += 1;
    }
    if (item == poison && me == 2)
        sum[0].value = NAN;
    return st;
}

static enum lm_status eval_size(void *self, struct lm_subject *s, int64_t item,
                                struct lm_sum *sum, struct lm_err *e)
{
    struct lm_cost cost = { .struct_size = sizeof cost };
    (void)self, (void)item;
    note('c', index_of(s), item);
    enum lm_status st = lm_subject_cost(s, &cost, e);
    struct lm_cost part = { .struct_size = offsetof(struct lm_cost, bytes), .macs = -3 };
    ck_assert_int_eq(lm_subject_cost(s, &part, e), st);     /* an older plugin's */
    ck_assert_uint_eq(part.struct_size, offsetof(struct lm_cost, bytes));
    ck_assert(part.params == 7 && part.bytes == 0 && part.macs == -3);
    sum[0] = (struct lm_sum){ (double)cost.bytes, 1 };
    return st;
}

static enum lm_status eval_time(void *self, struct lm_subject *s, int64_t item,
                                struct lm_sum *sum, struct lm_err *e)
{
    struct lm_workload prefill = { LM_PREFILL, 8, 0, 1 }, decode = { LM_DECODE, 3, 8, 1 };
    double seconds = -1;
    (void)self;
    note('t', index_of(s), item);
    enum lm_status st = lm_subject_time(s, &prefill, &seconds, e);
    if (st == LM_OK)
        st = lm_subject_time(s, &decode, &seconds, e);
    sum[0] = (struct lm_sum){ seconds >= 0 ? 1.0 + (double)(item % 3) : -1, 1 };
    return st;
}

#define METRIC(n, r, noisy) { n, "", "", r, noisy, false }
static const struct lm_metric loss_metrics[] = {
    METRIC("loss", LM_REDUCE_EXP_MEAN, false), METRIC("kl", LM_REDUCE_MEAN, false),
    METRIC(NULL, 0, false)
};
static const struct lm_metric size_metrics[] = {
    METRIC("bytes", LM_REDUCE_MEAN, false), METRIC(NULL, 0, false)
};
static const struct lm_metric time_metrics[] = {
    METRIC("ms", LM_REDUCE_MEDIAN, true), METRIC(NULL, 0, false)
};
#define EVALUATOR(n, m, f) { .struct_size = sizeof(struct lm_evaluator), .needs = n, \
    .metric = m, .metric_size = sizeof *(m), .items = items, .protocol = protocol, \
    .eval = f }
static const struct lm_evaluator ops[] = {
    EVALUATOR(LM_NEEDS_RUN | LM_NEEDS_QUIET, time_metrics, eval_time),
    EVALUATOR(LM_NEEDS_RUN | LM_NEEDS_DENSE, loss_metrics, eval_loss),
    EVALUATOR(0, size_metrics, eval_size)
};
enum { MS, LOSS, KL, BYTES, METRICS };

/* ---- a batch ----------------------------------------------------------------------- */

static int64_t item_count = ITEMS;
static struct lm_judge judge[3];

static void setup(void)
{
    set_up_numbers();
    judge[0] = (struct lm_judge){ .id = "time", .ops = &ops[0], .self = &item_count };
    judge[1] = (struct lm_judge){ .id = "text", .ops = &ops[1], .self = &item_count };
    judge[2] = (struct lm_judge){ .id = "size", .ops = &ops[2] };
    item_count = ITEMS;
    poison = -1;
    trouble = LM_OK;
}

static void teardown(void)
{
    streams = false;
    lm_pool_stop();
    lm_cancel(false);
}

static struct lm_evaluation *opened(struct lm_err *e)
{
    struct lm_evaluation_args a = { .engine = &engine, .judge = judge, .n_judge = 3,
                                    .dtype = LM_F16, .memory = 1 << 20 };
    struct lm_evaluation *v;
    ck_assert_ok(lm_evaluation_open(&a, &v, e), *e);
    return v;
}

static double expected_loss(size_t i, int64_t item)
{
    double sum = 0;
    for (int t = 1; t < WINDOW; t++)
        sum += (float)(0.01 * weight_of(&candidate[i].net)
                       + 0.1 * (double)(item * 3 + t));
    return sum;
}

/* On 1 to 3 threads; from 4 on with an engine that streams, which asks first. */
START_TEST(values_and_order)
{
    struct lm_err e = { 0 }, err[CANDIDATES];
    struct lm_result r[CANDIDATES][METRICS];
    int64_t blocks = lm_mem_blocks();
    streams = _i >= 4;
    lm_pool_start(_i % 4 + streams, NULL);
    struct lm_evaluation *v = opened(&e);
    memset(err, 0, sizeof err);
    ck_assert_uint_eq(lm_evaluation_metrics(v), METRICS);
    ck_assert_int_eq(judge[1].n_items, ITEMS);
    ck_assert_str_eq(judge[1].protocol, "as in the test");
    ck_assert_ok(lm_evaluate(v, candidate, CANDIDATES, NULL, NULL, r[0], err, &e), e);
    for (size_t i = 0; i < CANDIDATES; i++) {
        double mean = 0;
        ck_assert_uint_eq(r[i][LOSS].n_sum, ITEMS);
        for (int64_t k = 0; k < ITEMS; k++) {
            ck_assert_double_eq(r[i][LOSS].sum[k].value, expected_loss(i, k));
            ck_assert_double_eq(r[i][LOSS].sum[k].weight, WINDOW - 1);
            mean += expected_loss(i, k) / ((WINDOW - 1) * ITEMS);
        }
        ck_assert_double_eq_tol(r[i][LOSS].value, exp(mean), 1e-9 * exp(mean));
        ck_assert_double_gt(r[i][LOSS].error, 0);
        ck_assert_double_eq_tol(r[i][KL].value, 0.001 * weight_of(&candidate[i].net),
                                1e-6);
        ck_assert_double_eq(r[i][BYTES].value, 2000);
        ck_assert_double_eq(r[i][BYTES].error, 0);      /* counted */
        ck_assert_double_eq(r[i][MS].value, 2.0);       /* of 1 2 3 1 2 3 1 */
    }
    /* counting first, running next, timing last and alone */
    char phase = 'c';
    for (int k = 0; k < n_event; k++) {
        char now = events[k].what == 's' || events[k].what == 'f' ? 't' : events[k].what;
        if (now != phase)
            ck_assert(now == (phase == 'c' ? 'l' : 't'));
        phase = now;
    }
    lm_results_free(r[0], (size_t)CANDIDATES * METRICS);
    lm_evaluation_close(v);
    ck_assert_int_le(runners, _i % 4 + streams);
    lm_pool_stop();
    ck_assert_int_eq(lm_mem_blocks(), blocks);
}
END_TEST

/* One thread: each item walks the candidates by keys. */
START_TEST(walk_shares_prefixes)
{
    static const size_t walk[CANDIDATES] = { 1, 4, 7, 8, 3, 6, 0, 2, 5 };
    struct lm_err e = { 0 }, err[CANDIDATES];
    struct lm_result r[CANDIDATES][METRICS];
    item_count = 40;                    /* many: candidates are not cut into runs */
    lm_pool_start(1, NULL);
    struct lm_evaluation *v = opened(&e);
    memset(err, 0, sizeof err);
    ck_assert_ok(lm_evaluate(v, candidate, CANDIDATES, NULL, NULL, r[0], err, &e), e);
    int at[40] = { 0 };
    for (int k = 0; k < n_event; k++)
        if (events[k].what == 'l')
            ck_assert_uint_eq(events[k].candidate, walk[at[events[k].item]++]);
    for (int i = 0; i < 40; i++)
        ck_assert_int_eq(at[i], CANDIDATES);
    lm_results_free(r[0], (size_t)CANDIDATES * METRICS);
    lm_evaluation_close(v);
}
END_TEST

START_TEST(threads_change_nothing)
{
    struct lm_result one[CANDIDATES][METRICS], many[CANDIDATES][METRICS];
    for (int threads = 1; threads <= 4; threads += 3) {
        struct lm_err e = { 0 }, err[CANDIDATES];
        lm_pool_start(threads, NULL);
        struct lm_evaluation *v = opened(&e);
        memset(err, 0, sizeof err);
        ck_assert_ok(lm_evaluate(v, candidate, CANDIDATES, NULL, NULL,
                                 threads == 1 ? one[0] : many[0], err, &e), e);
        lm_evaluation_close(v);
        lm_pool_stop();
    }
    for (size_t i = 0; i < CANDIDATES; i++)
        for (size_t m = 0; m < METRICS; m++) {
            ck_assert_mem_eq(&one[i][m].value, &many[i][m].value, sizeof(double));
            ck_assert_mem_eq(&one[i][m].error, &many[i][m].error, sizeof(double));
        }
    lm_results_free(one[0], (size_t)CANDIDATES * METRICS);
    lm_results_free(many[0], (size_t)CANDIDATES * METRICS);
}
END_TEST

START_TEST(fidelity_and_known_values)
{
    double share[CANDIDATES];
    bool skip[CANDIDATES][METRICS] = { { false } };
    struct lm_err e = { 0 }, err[CANDIDATES];
    struct lm_result r[CANDIDATES][METRICS];
    for (size_t i = 0; i < CANDIDATES; i++)
        share[i] = (double)(i + 1) / CANDIDATES;
    skip[4][MS] = skip[5][LOSS] = skip[6][LOSS] = skip[6][KL] = true;
    lm_pool_start(2, NULL);
    struct lm_evaluation *v = opened(&e);
    memset(err, 0, sizeof err);
    lm_fail(&err[8], LM_EINFEASIBLE, "was not built");
    ck_assert_ok(lm_evaluate(v, candidate, CANDIDATES, share, skip[0], r[0], err, &e), e);
    for (size_t i = 0; i < 8; i++) {
        size_t want = (size_t)ceil(share[i] * ITEMS - 1e-9);
        ck_assert_uint_eq(r[i][KL].n_sum, i == 6 ? 0 : want);
        ck_assert_uint_eq(r[i][BYTES].n_sum, 1);
    }
    ck_assert(isnan(r[4][MS].value) && !r[4][MS].sum);
    ck_assert(isnan(r[5][LOSS].value) && !isnan(r[5][KL].value));
    ck_assert(isnan(r[6][LOSS].value) && isnan(r[6][KL].value));
    ck_assert(isnan(r[8][BYTES].value) && !r[8][BYTES].sum);
    for (int k = 0; k < n_event; k++) {
        ck_assert(!(events[k].what == 't' && events[k].candidate == 4));
        ck_assert(!(events[k].what == 'l' && events[k].candidate == 6));
        ck_assert(!(strchr("ltc", events[k].what) && events[k].candidate == 8));
    }
    lm_results_free(r[0], (size_t)CANDIDATES * METRICS);
    lm_evaluation_close(v);
}
END_TEST

/* Rungs after a quarter and after half of 8 items; candidate k is not sent on from rung
 * stop_at[k], and odd ones wait at the first look.                         */
static int stop_at[CANDIDATES], rung_of[CANDIDATES];

static enum lm_status look(void *ctx, const struct lm_result *result,
                           const struct lm_err *err, bool *go, struct lm_err *e)
{
    int n = ++*(int *)ctx;
    (void)e;
    for (size_t i = 0; i < CANDIDATES; i++) {
        const struct lm_result *r = result + i * METRICS;
        int64_t seen = 2 << rung_of[i];
        go[i] = i == 8;                         /* failed: nobody asks */
        if (i == 8) {
            ck_assert_int_ne(err[i].code, LM_OK);
            continue;
        }
        for (int64_t k = 0; k < seen && i != 7; k++)
            ck_assert(r[LOSS].sum[k].weight > 0);
        ck_assert(i == 7 || seen == 8 || r[LOSS].sum[seen].weight == 0);
        ck_assert(r[BYTES].sum[0].weight > 0 && r[MS].sum[0].weight == 0);
        go[i] = rung_of[i] < 2 && rung_of[i] != stop_at[i] && (i % 2 == 0 || n > 1);
        go[i] |= i == 7 && n == 1;              /* does not race: nobody minds */
        rung_of[i] += go[i];
    }
    go[8] = n == 1;
    return n < 9 ? LM_OK : LM_EBUG;
}

START_TEST(rungs)
{
    static const double at[] = { 0.25, 0.5 };
    struct lm_err e = { 0 }, err[CANDIDATES];
    struct lm_result r[CANDIDATES][METRICS];
    double share[CANDIDATES], reached[CANDIDATES];
    int looks = 0;
    struct lm_rungs ladder = { at, 2, look, &looks };
    item_count = 8;
    for (size_t i = 0; i < CANDIDATES; i++) {
        share[i] = i == 7 ? 0.7 : 1;
        stop_at[i] = (int)(i % 3);              /* 2: never */
        rung_of[i] = 0;
    }
    lm_pool_start(2, NULL);
    struct lm_evaluation *v = opened(&e);
    memset(err, 0, sizeof err);
    lm_fail(&err[8], LM_EINFEASIBLE, "was not built");
    ck_assert_ok(lm_evaluate_race(v, candidate, CANDIDATES, share, NULL, &ladder, reached,
                                  r[0], err, &e), e);
    ck_assert_int_eq(looks, 4);                 /* the third sends 5, which waited */
    for (size_t i = 0; i < 8; i++) {
        size_t seen = i == 7 ? 6 : stop_at[i] == 0 ? 2 : stop_at[i] == 1 ? 4 : 8;
        ck_assert_uint_eq(r[i][LOSS].n_sum, seen);
        ck_assert_double_eq(reached[i], i == 7 ? 0.7 : (double)seen / 8);
        ck_assert_double_eq(r[i][LOSS].sum[seen - 1].value,
                            expected_loss(i, (int64_t)seen - 1));
        ck_assert_int_eq(isnan(r[i][MS].value), seen < 6);      /* is not timed */
        ck_assert(!isnan(r[i][BYTES].value));
    }
    int n = 0;
    for (int k = 0; k < n_event; k++)
        n += events[k].what == 'l';
    ck_assert_int_eq(n, 3 * 2 + 2 * 4 + 2 * 8 + 6);
    ck_assert(lm_evaluation_work(v).asked > 0);
    lm_results_free(r[0], (size_t)CANDIDATES * METRICS);
    lm_evaluation_close(v);
}
END_TEST

START_TEST(one_fails_others_do_not)
{
    struct lm_err e = { 0 }, err[CANDIDATES];
    struct lm_result r[CANDIDATES][METRICS];
    poison = 5;
    trouble = LM_EUNSUPPORTED;
    lm_pool_start(2, NULL);
    struct lm_evaluation *v = opened(&e);
    memset(err, 0, sizeof err);
    ck_assert_ok(lm_evaluate(v, candidate, CANDIDATES, NULL, NULL, r[0], err, &e), e);
    ck_assert_int_eq(err[2].code, LM_EINFEASIBLE);
    ck_assert_str_eq(err[2].text, "text.loss: item 5 gives no finite number");
    ck_assert_int_eq(err[3].code, LM_EUNSUPPORTED);
    ck_assert_str_eq(err[3].text, "text: as asked for");
    for (size_t i = 0; i < CANDIDATES; i++) {
        ck_assert_int_eq(isnan(r[i][LOSS].value), i == 2 || i == 3);
        ck_assert_int_eq(r[i][LOSS].sum == NULL, i == 2 || i == 3);
    }
    lm_results_free(r[0], (size_t)CANDIDATES * METRICS);
    memset(err, 0, sizeof err);
    trouble = LM_ENOMEM;                /* says nothing about the candidate */
    ck_assert_int_eq(lm_evaluate(v, candidate, CANDIDATES, NULL, NULL, r[0], err, &e),
                     LM_ENOMEM);
    ck_assert_ptr_null(r[0][LOSS].sum);
    trouble = LM_OK;
    memset(err, 0, sizeof err);
    lm_cancel(true);
    ck_assert_int_eq(lm_evaluate(v, candidate, CANDIDATES, NULL, NULL, r[0], err, &e),
                     LM_ECANCELED);
    lm_evaluation_close(v);
}
END_TEST

/* Rounds are as large as 64 MiB of hidden states and lessons allow. */
START_TEST(rounds_keep_to_the_limit)
{
    struct lm_err e = { 0 }, err[CANDIDATES];
    struct lm_result r[CANDIDATES][METRICS];
    streams = true;
    model.arch.hidden = 80000;
    most_bytes = most_asks = 0;
    lm_pool_start(2, NULL);
    struct lm_evaluation *v = opened(&e);
    memset(err, 0, sizeof err);
    ck_assert_ok(lm_evaluate(v, candidate, CANDIDATES, NULL, NULL, r[0], err, &e), e);
    for (size_t i = 0; i < CANDIDATES; i++)
        for (int64_t k = 0; k < ITEMS; k++)
            ck_assert_double_eq_tol(r[i][LOSS].sum[k].value, expected_loss(i, k),
                                    1e-6);
    ck_assert_uint_le(most_bytes, 64 << 20);
    ck_assert_uint_gt(most_bytes, 48 << 20);
    ck_assert_uint_gt(most_asks, 2 * CANDIDATES);
    model.arch.hidden = 0;
    lm_results_free(r[0], (size_t)CANDIDATES * METRICS);
    lm_evaluation_close(v);
}
END_TEST

START_TEST(timing_takes_turns)
{
    struct lm_err e = { 0 }, err[CANDIDATES];
    struct lm_result r[CANDIDATES][METRICS];
    int order[256], n = 0, warm = 0, prefills = 0, decodes = 0;
    lm_pool_start(2, NULL);
    struct lm_evaluation *v = opened(&e);
    memset(err, 0, sizeof err);
    ck_assert_ok(lm_evaluate(v, candidate, 3, NULL, NULL, r[0], err, &e), e);
    for (int k = 0; k < n_event; k++) {
        if (events[k].what == 't')
            order[n++] = (int)events[k].item * 10 + (int)events[k].candidate;
        if (events[k].what == 's' && n <= 3)
            warm++;
        if (events[k].what == 'f' && events[k].candidate == 8)
            prefills++;
        if (events[k].what == 'f' && events[k].candidate == 1)
            decodes++;
    }
    ck_assert_int_eq(n, 2 * 3 * ITEMS);         /* again, to be told corrected times */
    for (int k = 0; k < n; k++)         /* all candidates before the next repetition */
        ck_assert_int_eq(order[k] / 10, k % (3 * ITEMS) / 3);
    /* three candidates and the dense model; two workloads, each thrice untimed */
    ck_assert_int_eq(warm, 4 * 2 * 4);
    ck_assert_int_eq(prefills, 4 * (ITEMS + 3));
    ck_assert_int_eq(decodes, 4 * 3 * (ITEMS + 3));
    ck_assert_int_eq(decoders, 4);
    struct lm_tally t = lm_evaluation_tally(v);
    ck_assert(t.runs == ITEMS && t.again == 0 && t.kept == 0 && !t.other);
    lm_results_free(r[0], (size_t)3 * METRICS);
    lm_evaluation_close(v);
}
END_TEST

static enum lm_status all(void *ctx)
{
    struct lm_evaluation_args a = { .engine = &engine, .judge = judge, .n_judge = 3,
                                    .dtype = LM_F16, .memory = 1 << 20 };
    struct lm_evaluation *v;
    struct lm_err e = { 0 }, err[3] = { { 0 } };
    struct lm_result r[3][METRICS];
    (void)ctx;
    enum lm_status st = lm_evaluation_open(&a, &v, &e);
    if (st != LM_OK)
        return st;
    st = lm_evaluate(v, candidate, 3, NULL, NULL, r[0], err, &e);
    if (st == LM_OK)
        lm_results_free(r[0], (size_t)3 * METRICS);
    lm_evaluation_close(v);
    return st;
}

START_TEST(memory_runs_out)
{
    lm_pool_start(1, NULL);
    ck_assert_int_ge(fail_every_allocation(all, NULL), 20);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("evaluate");
    TCase *t = tcase_create("evaluate");
    lm_log_level(LM_ERROR);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, values_and_order, 1, 8);
    tcase_add_test(t, walk_shares_prefixes);
    tcase_add_test(t, threads_change_nothing);
    tcase_add_test(t, fidelity_and_known_values);
    tcase_add_test(t, rungs);
    tcase_add_test(t, one_fails_others_do_not);
    tcase_add_test(t, rounds_keep_to_the_limit);
    tcase_add_test(t, timing_takes_turns);
    tcase_add_test(t, memory_runs_out);
    suite_add_tcase(suite, t);
    return run_suites(&suite, 1);
}
