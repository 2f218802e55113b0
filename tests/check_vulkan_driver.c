/* SPDX-License-Identifier: Apache-2.0 */
/* check_vulkan_driver.c -- that the validation layer bites: a recording whose launches do
 * not wait for one another is found out, the same with waits is not.  In a program of its
 * own, since a layer may bring down what it finds at fault.                          */
#include "../plugins/backends/vk.h"
#include "engine_kit.h"
#include "lavapipe.h"

static struct kit kit;                  /* for its host table */

/* b = a, c = b; waits: the second for the first. */
static enum lm_status copy_twice(bool waits, struct lm_err *e)
{
    const struct vk_choice choice = { .software = true, .validate = true };
    static struct vk vk;
    struct gpu gpu = { .budget = 1 << 24 };
    const struct lm_args args = { .struct_size = sizeof args, .host = &kit.host };
    struct gpu_span s[3];
    struct gpu_launch l[2];
    struct gpu_recording *r = NULL;
    double seconds;

    memset(&vk, 0, sizeof vk);
    ck_assert_ok(vk_open(&vk, &kit.host, &choice, e), *e);
    ck_assert_ok(gpu_open(&gpu, &args, &vk_driver, &vk, &vk.limits, e), *e);
    for (int i = 0; i < 3; i++)
        ck_assert_ok(gpu_take(&gpu, GPU_STATES, 4096, &s[i], "a test", e), *e);
    for (int i = 0; i < 2; i++)
        l[i] = (struct gpu_launch){ .kernel = GPU_PAIR, .grid = { 8, 1 }, .n_bind = 3,
            .writes = 1, .waits = i && waits, .bind = { s[i + 1], s[i], s[i] },
            .word = { 0, 1024, 1024, 1024, 1024, GPU_PAIR_COPY } };
    enum lm_status st = vk_driver.record(&vk, l, 2, &r, e);
    if (!st) {
        st = vk_driver.replay(&vk, r, &seconds, e);
        vk_driver.discard(&vk, r);
    }
    for (int i = 0; i < 3; i++)
        gpu_give(&gpu, GPU_STATES, &s[i]);
    gpu_close(&gpu);
    vk_close(&vk);
    return st;
}

START_TEST(waits_are_enough)
{
    struct lm_err e = { 0 };

    ck_assert_ok(copy_twice(true, &e), e);
}
END_TEST

START_TEST(a_missing_wait_is_found)
{
    struct lm_err e = { 0 };

    ck_assert_int_eq(copy_twice(false, &e), LM_EBUG);
    ck_assert_msg(strstr(e.text, "SYNC-HAZARD"), "%s", e.text);
}
END_TEST

static void make_host(void)
{
    kit.host = plug_host();
    kit.host.clock = lm_clock;
}

int main(void)
{
    if (!lavapipe_or_skip())
        return 77;
    Suite *s = suite_create("vulkan driver");
    TCase *c = tcase_create("waits");
    tcase_add_checked_fixture(c, make_host, NULL);
    tcase_set_timeout(c, 60);
    tcase_add_test(c, waits_are_enough);
    tcase_add_test(c, a_missing_wait_is_found);
    suite_add_tcase(s, c);
    return run_suites(&s, 1);
}
