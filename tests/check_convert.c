/* SPDX-License-Identifier: Apache-2.0 */
/* check_convert.c -- lamina convert with its k-th file operation or allocation
 * failing: what was there is there still, whole, or the new model is; no traces. */
#include "base/log.h"
#include "loader/loader.h"
#include "pipeline/convert.h"
#include "pipeline/session.h"
#include "testing.h"

static char scratch[256];
static struct lm_run *run;
static struct lm_err err;

static void setup(void)
{
    scratch_begin(scratch);
    lm_log_level(LM_ERROR);
    ck_assert_ok(lm_loader_start(NULL, &err), err);
    ck_assert_ok(lm_run_open(0, &run, &err), err);
}

static void teardown(void)
{
    lm_run_close(run);
    lm_loader_stop();
    scratch_end(scratch);
}

static const char *in_scratch(const char *name)
{
    static char path[4][600];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", scratch, name);
    return path[next];
}

static uint64_t hash_of(const char *path)
{
    struct lm_model *m;
    ck_assert_ok(lm_load_model(path, NULL, run, &m, &err), err);
    uint64_t h = lm_model_hash(m);
    lm_model_free(m);
    return h;
}

static const struct { const char *format, *name, *partial, *old; } target[] = {
    { "hf", "out", "out.partial", "out.partial.old" },
    { "gguf", "m.gguf", "m.gguf.partial.gguf", "m.gguf.old" },
};

static struct lm_convert job(int which, const char *golden)
{
    static char out[600];
    snprintf(out, sizeof out, "%s/%s", scratch, target[which].name);
    return (struct lm_convert){ .in = source_path(golden), .force = true, .out = out,
                                .format = target[which].format };
}

START_TEST(every_file_operation_may_fail)
{
    struct lm_convert first = job(_i, "tests/golden/llama-mha");
    struct lm_convert c = job(_i, "tests/golden/llama3-rope-f16");
    uint64_t was = hash_of(first.in), is = hash_of(c.in);
    int failures = 0;
    for (int64_t k = 1;; k++) {
        ck_assert_ok(lm_convert(&first, run, &err), err);
        lm_fault_file(k);
        enum lm_status s = lm_convert(&c, run, &err);
        bool fired = lm_fault_file_fired();
        lm_fault_file(0);
        ck_assert_msg(s == LM_OK || (fired && (s == LM_EIO || s == LM_EINPUT)),
                      "operation %d: %s %s", (int)k, lm_status_name(s), err.text);
        uint64_t h = hash_of(c.out);
        bool swapped = lm_file_exists(in_scratch(target[_i].old));  /* and still there */
        ck_assert_msg(h == (s && !swapped ? was : is), "operation %d: %s", (int)k,
                      err.text);
        ck_assert(!lm_file_exists(in_scratch(target[_i].partial)));
        failures += s != LM_OK;
        if (!fired)
            break;
    }
    ck_assert_int_gt(failures, 8);
    if (_i == 0)
        ck_assert_ok(lm_remove_folder(c.out, &err), err);
}
END_TEST

static enum lm_status convert(void *c)
{
    return lm_convert(c, run, &err);
}

START_TEST(every_allocation_may_fail)
{
    struct lm_convert c = job(_i, "tests/golden/llama3-rope-f16");
    ck_assert_int_gt(fail_every_allocation(convert, &c), 20);
    ck_assert(!lm_file_exists(in_scratch(target[_i].partial)));
    ck_assert(!lm_file_exists(in_scratch(target[_i].old)));
    if (_i == 0)
        ck_assert_ok(lm_remove_folder(c.out, &err), err);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("convert");
    TCase *c = tcase_create("convert");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_set_timeout(c, 120);
    tcase_add_loop_test(c, every_file_operation_may_fail, 0, 2);
    tcase_add_loop_test(c, every_allocation_may_fail, 0, 2);
    suite_add_tcase(s, c);
    return run_suites(&s, 1);
}
