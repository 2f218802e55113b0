/* SPDX-License-Identifier: Apache-2.0 */
/* Studies whose database is sound and whose texts are not: each is refused in one
 * sentence, at once, whatever sizes they claim.                               */
#include <math.h>
#include <time.h>

#include "pipeline/view.h"
#include "testing.h"

static char folder[256], path[300];

static const char good_metrics[] = "2 1\nsize.bytes bytes 0 0\na.b - -1 1\n";
static const char good_arch[] = "2 16 4 32\n6 3 70\n6 3 70\n";

static void setup(void)
{
    scratch_begin(folder);
    snprintf(path, sizeof path, "%s/study.db", folder);
}

static void teardown(void)
{
    scratch_end(folder);
}

/* A study of these texts (NULL: none) and one trial of this plan, loaded. */
static enum lm_status load(const char *metrics, const char *arch, const char *bounds,
                           const char *plan, struct lm_err *e)
{
    const struct lm_measure size = { "size.bytes", 7, NAN, NULL, 0 };
    const union lm_value value = { .integer = 1 };
    const struct lm_record trial = { .value = &value, .n_slot = 1, .plan_text = plan,
        .reason = "", .fidelity = 1, .measure = &size, .n_measure = 1 };
    struct lm_store *store;
    struct lm_study *view;
    int64_t blocks = lm_mem_blocks();
    remove(path);
    ck_assert_ok(lm_store_open(path, true, &store, e), *e);
    if (metrics)
        ck_assert_ok(lm_store_put(store, "metrics", metrics, e), *e);
    if (arch)
        ck_assert_ok(lm_store_put(store, "arch", arch, e), *e);
    if (bounds)
        ck_assert_ok(lm_store_put(store, "bounds", bounds, e), *e);
    ck_assert_ok(lm_store_record(store, &trial, e), *e);
    enum lm_status s = lm_view_load(store, &view, e);
    if (s == LM_OK) {
        ck_assert_int_eq(lm_view_n_trials(view), 1);
        lm_view_free(view);
    }
    lm_store_close(store);
    ck_assert_int_eq(lm_mem_blocks(), blocks);
    return s;
}

START_TEST(a_sound_study)
{
    struct lm_err e = { 0 };
    ck_assert_ok(load(good_metrics, good_arch, "0 -inf 5\n", "plan 1 layers=2\n", &e), e);
    ck_assert_ok(load(good_metrics, good_arch, NULL, "", &e), e);
}
END_TEST

static const char no_metrics[] = "the study's list of metrics is missing or damaged";
static const char no_arch[] = "the study's architecture is missing or damaged";
static const char no_bounds[] = "the study's list of bounds is missing or damaged";

static const struct { const char *metrics, *arch, *bounds, *says; } frame[] = {
    { NULL, good_arch, NULL, "the study's metrics is missing or damaged" },
    { good_metrics, NULL, NULL, "the study's arch is missing or damaged" },
    { "", good_arch, NULL, no_metrics },
    { "99999999999 1\n", good_arch, NULL, no_metrics },
    { "-1 -1\n", good_arch, NULL, no_metrics },
    { "1 2\na b 0 0\n", good_arch, NULL, no_metrics },
    { "2 1\na b 0 0\n", good_arch, NULL, no_metrics },
    { "1 1\na b 4711 0\n", good_arch, NULL, no_metrics },
    { "1 1\na b -1 0\n", good_arch, NULL, no_metrics },
    { "1 1\na\x1b[2J b 0 0\n", good_arch, NULL, no_metrics },
    { "1 1\na \x1b[2J 0 0\n", good_arch, NULL, no_metrics },
    { good_metrics, "", NULL, no_arch },
    { good_metrics, "0 16 4 32\n", NULL, no_arch },
    { good_metrics, "2147483647 16 4 32\n", NULL, no_arch },
    { good_metrics, "1 -16 4 32\n6 3 70\n", NULL, no_arch },
    { good_metrics, "1 16 0 32\n6 3 70\n", NULL, no_arch },
    { good_metrics, "1 16 4 2147483647\n6 3 70\n", NULL, no_arch },
    { good_metrics, "2 16 4 32\n6 3 70\n", NULL, no_arch },
    { good_metrics, "1 16 4 32\n6 4 70\n", NULL, no_arch },
    { good_metrics, "1 16 4 32\n6 0 70\n", NULL, no_arch },
    { good_metrics, "1 16 4 32\n2147483647 1 70\n", NULL, no_arch },
    { good_metrics, "1 16 4 32\n6 3 2147483647\n", NULL, no_arch },
    { good_metrics, good_arch, "2 0 1\n", no_bounds },
    { good_metrics, good_arch, "-1 0 1\n", no_bounds },
    { good_metrics, good_arch, "0 0\n", no_bounds },
};

START_TEST(damaged_frames)
{
    struct lm_err e = { 0 };
    ck_assert_int_eq(load(frame[_i].metrics, frame[_i].arch, frame[_i].bounds, "", &e),
                     LM_EINPUT);
    ck_assert_str_eq(e.text, frame[_i].says);
}
END_TEST

/* More bounds than there can be, more than one line can hold. */
START_TEST(too_much)
{
    struct lm_err e = { 0 };
    char many[2000] = "", line[600];
    for (int i = 0; i < 200; i++)
        strcat(many, "0 0 1\n");
    ck_assert_int_eq(load(good_metrics, good_arch, many, "", &e), LM_EINPUT);
    ck_assert_str_eq(e.text, no_bounds);
    memset(line, '1', sizeof line);
    line[sizeof line - 1] = '\0';
    ck_assert_int_eq(load(line, good_arch, NULL, "", &e), LM_EINPUT);
    ck_assert_str_eq(e.text, no_metrics);
}
END_TEST

static const struct { const char *plan, *says; } plans[] = {
    { "plan 1 layers=3\n",
      "the plan was made for a model of 3 layers, this one has 2" },
    { "plan 1 layers=2\nlayer 0: ffn=1/71:0\n",
      "plan, line 2: a set of 71 members, but the model has 70; the plan was made for "
      "another model" },
    { "plan 1 layers=2\nlayer 2: none\n",
      "plan, line 2: expected the number of a later layer of the model at '2: none\n'" },
    { "plan 1 layers=2\nlayer 0: kv=2/3:0-2\n",
      "plan, line 2: a set has another size than it claims at '\n'" },
    { "plan 1 layers=2\nset \x1b[2J int 1\n",
      "plan, line 2: the name of a setting is not printable at '?[2J int 1\n'" },
    { "<script>", "plan, line 1: expected 'plan 1 layers=N' at '<script>'" },
};

START_TEST(damaged_plans)
{
    struct lm_err e = { 0 };
    ck_assert_int_eq(load(good_metrics, good_arch, NULL, plans[_i].plan, &e), LM_EINPUT);
    ck_assert_str_eq(e.text, plans[_i].says);
}
END_TEST

/* The widest model there may be takes no noticeable time. */
START_TEST(large_sets_are_read_at_once)
{
    struct lm_err e = { 0 };
    struct lm_str arch = { 0 }, plan = { 0 };
    lm_str_add(&arch, "1000 16 4 32\n");
    lm_str_add(&plan, "plan 1 layers=1000\n");
    for (int i = 0; i < 1000; i++) {
        lm_str_add(&arch, "6 3 1048576\n");
        lm_str_add(&plan, "layer %d: ffn=65536/1048576:0-65535\n", i);
    }
    clock_t begin = clock();
    ck_assert_ok(load(good_metrics, arch.s, NULL, plan.s, &e), e);
    ck_assert_double_lt((double)(clock() - begin) / CLOCKS_PER_SEC, 10);
    lm_str_free(&arch);
    lm_str_free(&plan);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("broken studies");
    TCase *t = tcase_create("texts");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_sound_study);
    tcase_add_loop_test(t, damaged_frames, 0, (int)(sizeof frame / sizeof *frame));
    tcase_add_test(t, too_much);
    tcase_add_loop_test(t, damaged_plans, 0, (int)(sizeof plans / sizeof *plans));
    tcase_add_test(t, large_sets_are_read_at_once);
    suite_add_tcase(s, t);
    return run_suites(&s, 1);
}
