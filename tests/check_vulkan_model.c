/* SPDX-License-Identifier: Apache-2.0 */
/* check_vulkan_model.c -- golden models on the backend vulkan, on a software device. */
#include "check_gpu_model.h"
#include "lavapipe.h"

int main(void)
{
    static const char *const with[] = { "software", "true", "validate", "true" };

    if (!lavapipe_or_skip())
        return 77;
    tested = "vulkan";
    memcpy(option, with, sizeof with);
    return check_models("vulkan_model");
}
