/* SPDX-License-Identifier: Apache-2.0 */
/* check_units.c -- chores cut into units for workers: every item once, by whomever; what
 * becomes of candidates whose worker is lost; answers to another question.  */
#include "testing.h"

#include <math.h>

#include "base/child.h"
#include "base/log.h"
#include "pipeline/crew_unit.h"

enum { CANDIDATES = 5, ITEMS = 10 };

static enum lm_status some_items(void *self, int64_t *n, struct lm_err *e)
{
    (void)e;
    *n = *(int64_t *)self;
    return LM_OK;
}

static enum lm_status some_protocol(void *self, char *out, size_t size, struct lm_err *e)
{
    (void)self, (void)e;
    snprintf(out, size, "as it comes");
    return LM_OK;
}

static const struct lm_metric metric[] = { { "m", "", "", LM_REDUCE_MEAN, false, false },
                                           { "n", "", "", LM_REDUCE_MEAN, false, false },
                                           { NULL, NULL, NULL, 0, false, false } };
static const struct lm_evaluator samples = { .struct_size = sizeof samples,
    .needs = LM_NEEDS_RUN, .metric = metric, .metric_size = sizeof *metric,
    .items = some_items, .protocol = some_protocol };
static const struct lm_evaluator counts = { .struct_size = sizeof counts,
    .metric = metric, .metric_size = sizeof *metric, .items = some_items,
    .protocol = some_protocol };

/* Two metrics that are sampled and two that are counted, of candidates without one MLP
 * block each; the second sampled one of candidate 1 is not wanted.          */
struct bench {
    struct lm_layer_shape layer[CANDIDATES];
    struct lm_arch arch;
    struct lm_bench b;
    struct lm_candidate c[CANDIDATES];
    struct lm_result result[CANDIDATES][4];
    struct lm_sum sum[CANDIDATES][4][ITEMS];
    struct lm_err err[CANDIDATES];
    double from[CANDIDATES], to[CANDIDATES];
    bool skip[CANDIDATES][4];
    struct lm_chore chore;
    struct lm_units u;
};
static int64_t n_items[] = { ITEMS, 1 };
static int anything;

static struct bench *open_bench(enum lm_pass pass)
{
    struct bench *k = calloc(1, sizeof *k);
    struct lm_err e = { 0 };
    ck_assert_ptr_nonnull(k);
    k->arch = (struct lm_arch){ .struct_size = sizeof k->arch, .n_layer = CANDIDATES,
        .hidden = 8, .head_dim = 4, .vocab = 16, .layer = k->layer };
    for (int i = 0; i < CANDIDATES; i++)
        k->layer[i] = (struct lm_layer_shape){ 2, 2, 8, 0 };
    k->b.judge[0] = (struct lm_judge){ .id = "a", .ops = &samples, .self = &n_items[0] };
    k->b.judge[1] = (struct lm_judge){ .id = "b", .ops = &counts, .self = &n_items[1] };
    k->b.n_judge = 2;
    struct lm_evaluation_args a = { .judge = k->b.judge, .n_judge = 2,
        .engine = (struct lm_engine *)(void *)&anything };
    ck_assert_ok(lm_evaluation_open(&a, &k->b.evaluation, &e), e);
    for (int i = 0; i < CANDIDATES; i++) {
        ck_assert_ok(lm_plan_open(&k->arch, NULL, &k->c[i].plan, &e), e);
        ck_assert_ok(lm_plan_drop(k->c[i].plan,
                                  (struct lm_site){ LM_SITE_MLP, CANDIDATES - 1 - i, 0 },
                                  &e), e);
        ck_assert_ok(lm_plan_canonical(k->c[i].plan, &e), e);
        k->to[i] = 1;
        for (int m = 0; m < 4; m++)
            k->result[i][m] = (struct lm_result){ NAN, NAN, k->sum[i][m], ITEMS };
    }
    k->skip[1][1] = true;
    k->result[1][1].sum = NULL;
    k->chore = (struct lm_chore){ .pass = pass, .n = CANDIDATES, .candidate = k->c,
        .from = k->from, .to = k->to, .skip = k->skip[0] };
    return k;
}

static void close_bench(struct bench *k)
{
    lm_units_free(&k->u);
    for (int i = 0; i < CANDIDATES; i++)
        lm_plan_free(k->c[i].plan);
    lm_evaluation_close(k->b.evaluation);
    free(k);
}

static void cut(struct bench *k, size_t workers)
{
    struct lm_err e = { 0 };
    ck_assert_ok(lm_units_cut(&k->u, &k->chore, &k->b, workers, k->result[0], k->err, &e),
                 e);
}

static double truth(size_t candidate, size_t m, int64_t item)
{
    return (double)(1000 * candidate + 100 * m) + (double)item + 1;
}

/* Answers the unit's order as a worker would; `lie` spoils it in one of some ways. */
static enum lm_status serve(struct bench *k, struct lm_unit *t, int lie)
{
    static struct lm_sum all[CANDIDATES][4 * ITEMS];
    struct lm_done_plan p[CANDIDATES];
    struct lm_str out = { 0 };
    struct lm_err e = { 0 };
    struct lm_order o = { .id = 1, .n_metric = 4, .n_judge = 2, .threads = 1 }, heard;
    struct lm_frames f = { .at = 0 };
    uint32_t kind;
    const void *body;
    void *block;
    size_t n;
    ck_assert_ok(lm_units_order(&k->u, t, &o, &out, &e), e);
    lm_str_put(&f.in, out.s, out.n);
    ck_assert(lm_frames_next(&f, &kind, &body, &n) && kind == LM_SAY_ORDER);
    ck_assert_ok(lm_hear_order(body, n, &heard, &block, &e), e);
    double from[CANDIDATES], to[CANDIDATES];
    for (size_t i = 0; i < heard.n; i++) {
        struct lm_chore c = { .pass = (enum lm_pass)heard.pass, .n = heard.n,
                              .from = from, .to = to, .low = heard.low,
                              .high = heard.high };
        size_t who = 0, filled = 0;
        while (lm_plan_hash(k->c[who].plan) != heard.plan[i].hash)
            ck_assert_uint_lt(++who, CANDIDATES);
        from[i] = heard.plan[i].from;
        to[i] = heard.plan[i].to;
        for (size_t j = 0; j < 2; j++) {
            int64_t first, end;
            lm_chore_span(&c, k->b.judge, j, i, &first, &end);
            for (size_t m = 2 * j; m < 2 * j + 2; m++)
                for (int64_t x = first; x < end && !heard.plan[i].skip[m]; x++)
                    all[i][filled++] = (struct lm_sum){ truth(who, m, x), 1 };
        }
        p[i] = (struct lm_done_plan){ 0, "", filled - (lie == 1 && filled),
                                      (const char *)all[i] };
    }
    lm_release(block);
    lm_frames_free(&f);
    lm_str_free(&out);
    struct lm_done d = { .n = heard.n - (lie == 2), .plan = p, .text = "" };
    return lm_units_take(&k->u, t, &d, &e);
}

/* Whether all that is wanted is there, and nothing else. */
static void check_sums(const struct bench *k, size_t but)
{
    for (size_t i = 0; i < CANDIDATES; i++)
        for (size_t m = 0; m < 4; m++)
            for (int64_t x = 0; x < ITEMS; x++) {
                bool sampled = k->chore.pass == LM_PASS_SAMPLE;
                bool there = i != but && !k->skip[i][m] &&
                             (sampled ? m < 2 : m > 1 && !x) &&
                             x >= lm_judge_items(&k->b.judge[m / 2], k->from[i]) &&
                             x < lm_judge_items(&k->b.judge[m / 2], k->to[i]);
                ck_assert_double_eq(k->sum[i][m][x].value, there ? truth(i, m, x) : 0);
            }
}

START_TEST(units_cover_all)
{
    static const size_t workers[] = { 1, 2, 3, 5, 8, 64 };
    for (int pass = LM_PASS_COUNT; pass <= LM_PASS_SAMPLE; pass++)
        for (size_t w = 0; w < sizeof workers / sizeof *workers; w++) {
            struct bench *k = open_bench((enum lm_pass)pass);
            struct lm_unit *t;
            size_t given = 0;
            k->to[3] = 0.35;            /* a part of a trial; and one that goes on */
            k->from[4] = 0.5;
            cut(k, workers[w]);
            ck_assert_double_eq(lm_units_share(&k->u), 0);
            while ((t = lm_units_next(&k->u, given % workers[w]))) {
                lm_units_given(&k->u, t, given++ % workers[w]);
                ck_assert_int_eq(serve(k, t, 0), LM_OK);
            }
            ck_assert(lm_units_all_done(&k->u) && lm_units_share(&k->u) > 0.999);
            ck_assert_uint_ge(given, workers[w] < CANDIDATES ? workers[w]
                                                             : CANDIDATES - 1);
            check_sums(k, CANDIDATES);
            close_bench(k);
        }
}
END_TEST

START_TEST(a_lost_worker)
{
    struct bench *k = open_bench(LM_PASS_SAMPLE);
    struct lm_unit *t;
    size_t losses = 0;
    lm_log_level(LM_ERROR);
    cut(k, 1);
    while ((t = lm_units_next(&k->u, 0))) {     /* whoever has to do with 2 is lost */
        bool guilty = false;
        lm_units_given(&k->u, t, 0);
        for (size_t i = 0; i < t->n; i++)
            guilty |= k->u.list[t->first + i] == 2;
        losses += guilty;
        if (guilty)
            lm_units_lost(&k->u, t, "ended with status 9");
        else
            ck_assert_int_eq(serve(k, t, 0), LM_OK);
    }
    ck_assert_uint_eq(losses, 3);               /* with others, alone, once more */
    ck_assert(lm_units_all_done(&k->u));
    ck_assert_double_eq_tol(lm_units_share(&k->u), 1, 1e-12);
    check_sums(k, 2);
    for (size_t i = 0; i < CANDIDATES; i++)
        ck_assert_int_eq(k->err[i].code, i == 2 ? LM_EFAILED : LM_OK);
    ck_assert_ptr_nonnull(strstr(k->err[2].text,
                                 "worker ended with status 9 while evaluating"));
    close_bench(k);
}
END_TEST

START_TEST(answers_to_another_question)
{
    for (int lie = 1; lie <= 2; lie++) {
        struct bench *k = open_bench(LM_PASS_SAMPLE);
        cut(k, 1);
        struct lm_unit *t = lm_units_next(&k->u, 0);
        lm_units_given(&k->u, t, 0);
        ck_assert_int_eq(serve(k, t, lie), LM_EINPUT);
        for (size_t i = 0; i < CANDIDATES; i++)     /* nothing of it was taken */
            for (int x = 0; x < ITEMS; x++)
                ck_assert_double_eq(k->sum[i][0][x].value, 0);
        ck_assert_int_eq(t->state, LM_UNIT_RUNNING);
        close_bench(k);
    }
}
END_TEST

START_TEST(candidates_stay_at_home)
{
    struct bench *k = open_bench(LM_PASS_COUNT);
    struct lm_unit *t;
    size_t worker = 0, home[CANDIDATES];
    cut(k, 2);
    for (; (t = lm_units_next(&k->u, worker)); worker = !worker) {
        lm_units_given(&k->u, t, worker);
        ck_assert_int_eq(serve(k, t, 0), LM_OK);
    }
    memcpy(home, k->u.home, sizeof home);
    memset(k->sum, 0, sizeof k->sum);
    k->chore.pass = LM_PASS_SAMPLE;
    cut(k, 2);
    for (worker = 1; (t = lm_units_next(&k->u, worker)); worker = !worker) {
        for (size_t i = 0; i < t->n; i++)
            ck_assert_uint_eq(home[k->u.list[t->first + i]], worker);
        lm_units_given(&k->u, t, worker);
        ck_assert_int_eq(serve(k, t, 0), LM_OK);
    }
    check_sums(k, CANDIDATES);
    close_bench(k);
}
END_TEST

static enum lm_status cut_units(void *ctx)
{
    struct bench *k = ctx;
    struct lm_err e = { 0 };
    struct lm_str out = { 0 };
    struct lm_order o = { .id = 1, .n_metric = 4, .n_judge = 2, .threads = 1 };
    enum lm_status st = lm_units_cut(&k->u, &k->chore, &k->b, 2, k->result[0], k->err,
                                     &e);
    if (!st)
        st = lm_units_order(&k->u, lm_units_next(&k->u, 0), &o, &out, &e);
    lm_str_free(&out);
    lm_units_free(&k->u);
    return st;
}

START_TEST(units_want_memory)
{
    struct bench *k = open_bench(LM_PASS_SAMPLE);
    ck_assert_int_ge(fail_every_allocation(cut_units, k), 8);
    close_bench(k);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("units");
    TCase *t = tcase_create("units");
    tcase_add_test(t, units_cover_all);
    tcase_add_test(t, a_lost_worker);
    tcase_add_test(t, answers_to_another_question);
    tcase_add_test(t, candidates_stay_at_home);
    tcase_add_test(t, units_want_memory);
    suite_add_tcase(s, t);
    return run_suites(&s, 1);
}
