/* SPDX-License-Identifier: Apache-2.0 */
/* check_vulkan.c -- every operator of the backend vulkan against the reference, under the
 * validation layer, on Mesa's software device: which says that kernels, barriers and
 * layouts are right, and nothing of speed.  Without a Vulkan driver it is skipped, unless
 * LAMINA_REQUIRE_VULKAN is set.                                                     */
#include "check_operators.h"
#include "lavapipe.h"

static void open_both(void)
{
    setup();
    ck_assert(here);
}

/* more: two options.  one_of: of so many trials one is made, for the device is slow. */
static void choose(const char *const *more, int one_of)
{
    static const char *const common[] = { "software", "true", "validate", "true" };

    backend = "vulkan";
    memcpy(option, common, sizeof common);
    memcpy(option + 4, more, 4 * sizeof *more);
    least = 2e-5;
    every = one_of;
    largest = INFINITY;
}

static void plain(void)
{
    choose((const char *const[]){ "features", "plain", "memory", "64" }, 3);
}

/* Weights in pieces of 8 KiB, as large ones are on devices that bind little. */
static void all_features(void)
{
    choose((const char *const[]){ "features", "all", "range", "8" }, 5);
}

static void halves(void)
{
    choose((const char *const[]){ "activations", "f16", "staging", "true" }, 7);
    least = 2e-2;
    largest = 40;                       /* products are below 65504 */
}

/* ---- memory ------------------------------------------------------------------------ */

/* What does not fit is refused as a candidate is, and what fits goes on. */
START_TEST(no_room)
{
    struct lm_weight *w = NULL;
    struct lm_device_use use = { .struct_size = sizeof use };
    float *x = noise(40 << 18, "weights", 1);
    struct lm_tensor t = { .data = x, .rows = 40 << 8, .cols = 1024, .dtype = LM_F32 };
    ck_assert_int_eq(tested.ops->upload(tested.self, &t, 1024, &w, &err), LM_OK);
    ck_assert_ok(tested.ops->use(tested.self, &use, &err), err);
    ck_assert_int_eq(use.weights, 40 << 20);
    struct lm_weight *more = NULL;
    ck_assert_int_eq(tested.ops->upload(tested.self, &t, 1024, &more, &err),
                     LM_EINFEASIBLE);
    ck_assert_ptr_null(more);
    tested.ops->forget(tested.self, w);
    ck_assert_ok(tested.ops->upload(tested.self, &t, 1024, &w, &err), err);
    tested.ops->forget(tested.self, w);
    ck_assert_ok(tested.ops->use(tested.self, &use, &err), err);
    ck_assert_int_eq(use.weights, 0);
    ck_assert_int_eq(use.most, 40 << 20);
    lm_release(x);
}
END_TEST

static void add_memory(Suite *s)
{
    TCase *c = tcase_create("memory");

    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, plain, NULL);
    tcase_add_checked_fixture(c, open_both, teardown);
    tcase_add_test(c, no_room);
    suite_add_tcase(s, c);
}

static void add_set(Suite *s, const char *name, void (*use)(void))
{
    TCase *c = tcase_create(name);

    tcase_set_timeout(c, 300);
    tcase_add_checked_fixture(c, use, NULL);
    tcase_add_checked_fixture(c, open_both, teardown);
    add_operators(c);
    suite_add_tcase(s, c);
}

int main(void)
{
    if (!lavapipe_or_skip())
        return 77;
    Suite *s = suite_create("vulkan");
    add_set(s, "plain", plain);
    add_set(s, "all features", all_features);
    add_set(s, "halves", halves);
    add_memory(s);
    return run_suites(&s, 1);
}
