/* SPDX-License-Identifier: Apache-2.0 */
/* check_vulkan.c -- every operator of the backend vulkan against the reference, under the
 * validation layer, on Mesa's software device: which says that kernels, barriers and
 * layouts are right, and nothing of speed.  Without a Vulkan driver it is skipped, unless
 * LAMINA_REQUIRE_VULKAN is set.                                                     */
#include <dlfcn.h>
#include <glob.h>
#include <stdlib.h>

#include "check_operators.h"

static void open_both(void)
{
    setup();
    ck_assert(here);
}

static void choose(const char *name, const char *value, const char *name2,
                   const char *value2)
{
    static const char *const common[] = { "software", "true", "validate", "true" };

    backend = "vulkan";
    memcpy(option, common, sizeof common);
    option[4] = name;
    option[5] = value;
    option[6] = name2;
    option[7] = value2;
    least = 2e-5;
    largest = INFINITY;
}

static void plain(void)
{
    choose("features", "plain", NULL, NULL);
}

static void all_features(void)
{
    choose("features", "all", "staging", "true");
}

static void halves(void)
{
    choose("activations", "f16", "replay", "false");
    least = 2e-2;
    largest = 40;                       /* products are below 65504 */
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

/* The software device and no other, whatever else this machine has.  false: it, the
 * loader or the validation layer is not installed.                                  */
static bool use_lavapipe(void)
{
    glob_t g, layer;
    bool found = !glob("/usr/share/vulkan/icd.d/lvp_icd*.json", 0, NULL, &g)
        && !glob("/usr/share/vulkan/explicit_layer.d/*validation*.json", 0, NULL, &layer)
        && dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);

    if (found) {
        setenv("VK_DRIVER_FILES", g.gl_pathv[0], 1);
        setenv("VK_ICD_FILENAMES", g.gl_pathv[0], 1);
    }
    return found;
}

int main(void)
{
    if (!use_lavapipe() && !getenv("LAMINA_REQUIRE_VULKAN"))
        return puts("1..0 # SKIP no software Vulkan device with the validation layer"), 77;
    Suite *s = suite_create("vulkan");
    add_set(s, "plain", plain);
    add_set(s, "all features", all_features);
    add_set(s, "halves", halves);
    return run_suites(&s, 1);
}
