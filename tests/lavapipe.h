/* SPDX-License-Identifier: Apache-2.0 */
/* lavapipe.h -- the Vulkan device that tests run on. */
#ifndef LM_TESTS_LAVAPIPE_H
#define LM_TESTS_LAVAPIPE_H
#include <dlfcn.h>
#include <glob.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* The software device and no other, whatever else this machine has.  false: it, the
 * loader or the validation layer is not installed.                                  */
static inline bool use_lavapipe(void)
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

/* false, and a line that says so: the test is skipped, with status 77. */
static inline bool lavapipe_or_skip(void)
{
    if (use_lavapipe() || getenv("LAMINA_REQUIRE_VULKAN"))
        return true;
    puts("1..0 # SKIP no software Vulkan device with the validation layer");
    return false;
}
#endif
