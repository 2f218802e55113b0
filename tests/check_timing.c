/* SPDX-License-Identifier: Apache-2.0 */
/* check_timing.c -- times by a clock of the test: drift that is divided out, what is
 * measured again, who is the anchor, warm-ups.
 *
 * The engine below timing.c is played by number_engine.h.                    */
#include "number_engine.h"

static int64_t item_count = ITEMS;

static enum lm_status items(void *self, int64_t *n, struct lm_err *e)
{
    (void)e;
    *n = *(const int64_t *)self;
    return LM_OK;
}

static enum lm_status protocol(void *self, char *out, size_t size, struct lm_err *e)
{
    (void)self, (void)e;
    snprintf(out, size, "as in the test");
    return LM_OK;
}

static double script[ITEMS][4];         /* pace of an item at its first .. later tries */
static int tries[ITEMS], told;
static size_t first_place;              /* who is timed first */

static enum lm_status eval_pace(void *self, struct lm_subject *s, int64_t item,
                                struct lm_sum *sum, struct lm_err *e)
{
    struct lm_workload w = { LM_PREFILL, 8, 0, 1 };
    struct lm_timing t = { .struct_size = sizeof t };
    (void)self;
    told++;
    if (index_of(s) == first_place) {
        pace = script[item][tries[item] < 3 ? tries[item] : 3];
        tries[item]++;
    }
    enum lm_status st = lm_subject_timing(s, &w, &t, e);
    sum[0] = (struct lm_sum){ t.seconds, 1 };
    sum[1] = (struct lm_sum){ t.anchor, t.anchor > 0 };
    sum[2] = (struct lm_sum){ t.device, t.device > 0 };
    return st;
}

static enum lm_status eval_still(void *self, struct lm_subject *s, int64_t item,
                                 struct lm_sum *sum, struct lm_err *e)
{
    (void)self, (void)s, (void)item, (void)e;
    told++;
    for (int i = 0; i < 3; i++)
        sum[i] = (struct lm_sum){ 1, 1 };
    return LM_OK;
}

#define METRIC(n) { n, "", "", LM_REDUCE_MEDIAN, true, false }
static const struct lm_metric pace_metrics[] = {
    METRIC("s"), METRIC("anchor"), METRIC("device"), METRIC(NULL)
};
#define EVALUATOR(f) { .struct_size = sizeof(struct lm_evaluator), \
    .needs = LM_NEEDS_RUN | LM_NEEDS_QUIET, .metric = pace_metrics, \
    .metric_size = sizeof *pace_metrics, .items = items, .protocol = protocol, .eval = f }
static const struct lm_evaluator pace_ops = EVALUATOR(eval_pace);
static const struct lm_evaluator still_ops = EVALUATOR(eval_still);
enum { SECONDS, ANCHOR, DEVICE, PACES };

/* Times n candidates of costs 2, 3, ..; by keys they go 1, 0, 2. */
static struct lm_tally take_times(const struct lm_evaluator *with, size_t n,
                                  struct lm_result (*r)[PACES], const char *device,
                                  char protocol[512])
{
    struct lm_judge one = { .id = "pace", .ops = with, .self = &item_count };
    struct lm_evaluation_args a = { .engine = &engine, .judge = &one, .n_judge = 1,
                                    .device = device };
    struct lm_err e = { 0 }, err[CANDIDATES] = { { 0 } };
    struct lm_evaluation *v;
    for (size_t i = 0; i < CANDIDATES; i++)
        cost_each[i] = 2e-3 + 1e-3 * (double)i;
    memset(tries, 0, sizeof tries);
    told = 0;
    lm_pool_start(1, NULL);
    ck_assert_ok(lm_evaluation_open(&a, &v, &e), e);
    ck_assert_ok(lm_evaluate(v, candidate, n, NULL, NULL, r[0], err, &e), e);
    struct lm_tally t = lm_evaluation_tally(v);
    if (protocol)
        memcpy(protocol, one.protocol, sizeof one.protocol);
    lm_evaluation_close(v);
    lm_pool_stop();
    return t;
}

static void set_script(const double *paces)
{
    for (int i = 0; i < ITEMS; i++)
        for (int k = 0; k < 4; k++)
            script[i][k] = paces[i];
    first_place = 1;
}

static const double slow[ITEMS] = { 1, 1.04, 0.97, 1.01, 0.99, 1.02, 0.98 };

START_TEST(drift_is_divided_out)
{
    struct lm_result r[3][PACES];
    set_script(slow);
    struct lm_tally t = take_times(&pace_ops, 3, r, NULL, NULL);
    ck_assert(t.runs == ITEMS && t.again == 0 && t.kept == 0 && !t.other);
    for (size_t i = 0; i < 3; i++) {
        for (int k = 0; k < ITEMS; k++) {       /* at the median pace, which is 1 */
            ck_assert_double_eq_tol(r[i][SECONDS].sum[k].value, cost_each[i], 1e-12);
            ck_assert_double_eq_tol(r[i][DEVICE].sum[k].value, cost_each[i] / 2, 1e-12);
            ck_assert_double_eq_tol(r[i][ANCHOR].sum[k].value, 1e-3 * slow[k], 1e-12);
        }
        ck_assert_double_eq_tol(r[i][ANCHOR].value, 1e-3, 1e-12);
        ck_assert_double_lt(r[i][SECONDS].error, 1e-12);
        ck_assert_double_gt(r[i][ANCHOR].error, 1e-6);
    }
    lm_results_free(r[0], (size_t)3 * PACES);
}
END_TEST

START_TEST(a_jump_is_measured_again)
{
    struct lm_result r[3][PACES];
    set_script(slow);
    script[3][0] = 1.5;                 /* once */
    for (int k = 0; k < 4; k++)
        script[5][k] = 1.3;             /* for good */
    struct lm_tally t = take_times(&pace_ops, 3, r, NULL, NULL);
    ck_assert_int_eq(tries[3], 1 + 1 + 1);      /* and the call that told it */
    ck_assert_int_eq(tries[5], 1 + 2 + 1);
    ck_assert_int_eq(tries[0], 1 + 1);
    ck_assert_int_eq(t.again, 3);
    ck_assert_int_eq(t.kept, 1);
    ck_assert_double_eq_tol(t.worst, 0.3, 1e-9);        /* the median is 1 again */
    for (size_t i = 0; i < 3; i++)
        for (int k = 0; k < ITEMS; k++)
            ck_assert_double_eq_tol(r[i][SECONDS].sum[k].value, cost_each[i], 1e-12);
    ck_assert_double_eq_tol(r[0][ANCHOR].sum[3].value, 1e-3 * slow[3], 1e-12);
    lm_results_free(r[0], (size_t)3 * PACES);
}
END_TEST

/* 0: candidate 0 is the dense model; 1: weights come and go; 2: no room for the dense
 * model beside it.  Who is the anchor keeps its spread.                       */
START_TEST(who_is_the_anchor)
{
    static const struct lm_layer_shape layer = { 1, 1, 1, 0 };
    struct lm_result r[3][PACES];
    char protocol[512];
    size_t who = _i ? 1 : 0;
    set_script(slow);
    if (_i == 0) {
        model.arch.n_layer = 1;
        model.arch.layer = &layer;
        for (size_t k = 0; k < SEGMENTS; k++)
            segment[0][k].spec.key = DENSE_KEY;
    }
    streams = _i == 1;
    refused = _i == 2 ? &dense_segment[0] : NULL;
    struct lm_tally t = take_times(&pace_ops, 3, r, "a device", protocol);
    ck_assert_int_eq(t.other, _i == 2);
    ck_assert_ptr_nonnull(strstr(protocol, "as in the test; on a device; "));
    ck_assert_int_eq(strstr(protocol, "first candidate") != NULL, _i == 1);
    for (size_t i = 0; i < 3; i++)
        for (int k = 0; k < ITEMS; k++) {
            ck_assert_double_eq_tol(r[i][SECONDS].sum[k].value,
                                    cost_each[i] * (i == who ? slow[k] : 1), 1e-12);
            ck_assert_double_eq_tol(r[i][ANCHOR].sum[k].value,
                                    i == who ? 0 : cost_each[who] * slow[k], 1e-12);
        }
    ck_assert(isnan(r[who][ANCHOR].value));
    lm_results_free(r[0], (size_t)3 * PACES);
    streams = false;
}
END_TEST

/* There is no room for a decoder of the dense model beside its weights; for one of the
 * first candidate; of the second.  Its weights go, and nobody fails.           */
START_TEST(the_dense_model_makes_room)
{
    static const struct { int room; size_t heavy, who; } t[] =
        { { 2, CANDIDATES, 1 }, { 3, 1, 1 }, { 3, 0, 0 } };
    struct lm_result r[3][PACES];
    size_t who = t[_i].who;
    set_script(slow);
    room = t[_i].room;
    heavy = t[_i].heavy < CANDIDATES ? net_of[t[_i].heavy][0] : NULL;
    struct lm_tally tally = take_times(&pace_ops, 3, r, NULL, NULL);
    ck_assert(tally.other);
    ck_assert_int_eq(taken, 0);
    for (size_t i = 0; i < 3; i++)
        for (int k = 0; k < ITEMS; k++) {
            ck_assert_double_eq_tol(r[i][SECONDS].sum[k].value,
                                    cost_each[i] * (i == who ? slow[k] : 1), 1e-12);
            ck_assert_double_eq_tol(r[i][ANCHOR].sum[k].value,
                                    i == who ? 0 : cost_each[who] * slow[k], 1e-12);
        }
    lm_results_free(r[0], (size_t)3 * PACES);
}
END_TEST

START_TEST(a_broken_anchor_is_no_candidates_fault)
{
    struct lm_judge one = { .id = "pace", .ops = &pace_ops, .self = &item_count };
    struct lm_evaluation_args a = { .engine = &engine, .judge = &one, .n_judge = 1 };
    struct lm_err e = { 0 }, err[3] = { { 0 } };
    struct lm_result r[3][PACES];
    struct lm_evaluation *v;
    set_script(slow);
    told = 0;
    broken = true;
    lm_pool_start(1, NULL);
    ck_assert_ok(lm_evaluation_open(&a, &v, &e), e);
    ck_assert_int_eq(lm_evaluate(v, candidate, 3, NULL, NULL, r[0], err, &e), LM_EFAILED);
    ck_assert_str_eq(e.text, "the dense model, which times are compared with: this one "
                     "is broken");
    ck_assert_int_eq(told, 1);
    lm_evaluation_close(v);
}
END_TEST

START_TEST(who_takes_no_times_is_asked_once)
{
    struct lm_result r[3][PACES];
    struct lm_tally t = take_times(&still_ops, 3, r, NULL, NULL);
    ck_assert_int_eq(told, 3 * ITEMS);
    ck_assert_int_eq(t.runs, 0);
    ck_assert_int_eq(decoders, 0);
    lm_results_free(r[0], (size_t)3 * PACES);
}
END_TEST

/* A run of a minute is warm at once; others when three agree, or after a second. */
START_TEST(warm_ups_end)
{
    static const double each[] = { 60, 0.4, 1e-3 };
    static const int untimed[] = { 1, 3, 3 };
    struct lm_result r[1][PACES];
    int fed = 0;
    set_script(slow);
    first_place = 0;
    model.arch.n_layer = 0;
    streams = true;                     /* the candidate is its own anchor */
    item_count = 1;
    for (size_t i = 0; i <= CANDIDATES; i++)
        cost_each[i] = 0;
    struct lm_judge one = { .id = "pace", .ops = &pace_ops, .self = &item_count };
    struct lm_evaluation_args a = { .engine = &engine, .judge = &one, .n_judge = 1 };
    struct lm_err e = { 0 }, err = { 0 };
    struct lm_evaluation *v;
    cost_each[0] = each[_i];
    memset(tries, 0, sizeof tries);
    lm_pool_start(1, NULL);
    ck_assert_ok(lm_evaluation_open(&a, &v, &e), e);
    ck_assert_ok(lm_evaluate(v, candidate, 1, NULL, NULL, r[0], &err, &e), e);
    for (int k = 0; k < n_event; k++)
        fed += events[k].what == 'f';
    ck_assert_int_eq(fed, untimed[_i] + 1);
    lm_results_free(r[0], PACES);
    lm_evaluation_close(v);
    streams = false;
}
END_TEST

/* Allocations fail in turn, those of the anchor and its times included. */
static enum lm_status all(void *ctx)
{
    struct lm_judge one = { .id = "pace", .ops = &pace_ops, .self = &item_count };
    struct lm_evaluation_args a = { .engine = &engine, .judge = &one, .n_judge = 1 };
    struct lm_evaluation *v;
    struct lm_err e = { 0 }, err[3] = { { 0 } };
    struct lm_result r[3][PACES];
    (void)ctx;
    memset(tries, 0, sizeof tries);
    enum lm_status st = lm_evaluation_open(&a, &v, &e);
    if (st != LM_OK)
        return st;
    st = lm_evaluate(v, candidate, 3, NULL, NULL, r[0], err, &e);
    if (st == LM_OK)
        lm_results_free(r[0], (size_t)3 * PACES);
    lm_evaluation_close(v);
    return st;
}

START_TEST(memory_runs_out)
{
    set_script(slow);
    lm_pool_start(1, NULL);
    ck_assert_int_ge(fail_every_allocation(all, NULL), 20);
}
END_TEST

static void setup(void)
{
    set_up_numbers();
    item_count = ITEMS;
}

static void teardown(void)
{
    streams = false;
    lm_pool_stop();
}

int main(void)
{
    Suite *suite = suite_create("timing");
    TCase *t = tcase_create("timing");
    lm_log_level(LM_ERROR);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, drift_is_divided_out);
    tcase_add_test(t, a_jump_is_measured_again);
    tcase_add_loop_test(t, who_is_the_anchor, 0, 3);
    tcase_add_loop_test(t, the_dense_model_makes_room, 0, 3);
    tcase_add_test(t, a_broken_anchor_is_no_candidates_fault);
    tcase_add_test(t, who_takes_no_times_is_asked_once);
    tcase_add_loop_test(t, warm_ups_end, 0, 3);
    tcase_add_test(t, memory_runs_out);
    suite_add_tcase(suite, t);
    return run_suites(&suite, 1);
}
