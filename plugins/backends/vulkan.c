/* SPDX-License-Identifier: Apache-2.0 */
/* vulkan.c -- backend: Vulkan 1.1 compute on any vendor's device.  Kernels are in
 * shaders/, the device in vk_*.c, all else in gpu_*.c.                             */
#include <stdio.h>
#include <string.h>

#include "vk.h"

struct config {
    int64_t device, memory, activations, features, range;
    bool software, replay, validate, staging;
};

static const char *const activations[] = { "f32", "f16", NULL };
static const char *const features[] = { "auto", "plain", "all", NULL };

static const struct lm_opt options[] = {
    LM_INT(struct config, device, "0", 0, VK_MOST_DEVICES - 1, NULL, 0,
           "Which one, as `lamina list backends` counts them."),
    LM_FLAG(struct config, software, "false", 0,
            "A device that computes on the processor will do."),
    LM_INT(struct config, memory, "0", 0, 1 << 24, "MiB", LM_NO_HASH,
           "Device memory that may be taken; 0: nine tenths of it."),
    LM_PICK(struct config, activations, "f32", activations, 0,
            "What registers and caches hold; the residual stream is f32."),
    LM_FLAG(struct config, replay, "true", LM_NO_HASH | LM_EXPERT,
            "Record a program once and replay it."),
    LM_PICK(struct config, features, "auto", features, LM_EXPERT,
            "Subgroups and integer dot products: where they are fast, never, always."),
    LM_INT(struct config, range, "0", 0, 1 << 24, "KiB", LM_NO_HASH | LM_EXPERT,
           "Weights are cut into pieces of at most so many; 0: what the device binds."),
    LM_FLAG(struct config, validate, "false", LM_NO_HASH | LM_EXPERT,
            "Run under the validation layer; its messages are errors."),
    LM_FLAG(struct config, staging, "false", LM_NO_HASH | LM_EXPERT,
            "Copy by way of a buffer, even where the host reaches the device's memory."),
    LM_OPT_END
};

struct backend {
    struct gpu gpu;                     /* first: gpu_*.c take it for the instance */
    struct vk vk;
};

static enum lm_status device(void *self, struct lm_device *out, struct lm_err *e)
{
    const struct backend *b = self;
    struct lm_device d;
    size_t n;

    (void)e;
    vk_describe(b->vk.found, &d);
    n = strlen(d.name);
    snprintf(d.name + n, sizeof d.name - n, "%s%s%s", b->gpu.half ? ", f16" : "",
             b->vk.subgroup ? "" : ", no subgroups", b->vk.dot ? ", dot" : "");
    lm_fill_struct(out, &d, sizeof d);
    return LM_OK;
}

static enum lm_status devices(const struct lm_host *h, int64_t i, struct lm_device *out,
                              struct lm_err *e)
{
    struct vk_instance *v = h->alloc(sizeof *v, "vulkan");
    struct lm_device d;

    if (!v)
        return program_no_memory(h, sizeof *v, "a list of devices", e);
    enum lm_status st = vk_instance_open(h, false, v, e);
    if (!st && i >= v->n_found)
        st = h->fail(e, LM_EUNAVAILABLE, "there is no Vulkan device %lld", (long long)i);
    if (!st) {
        vk_describe(&v->found[i], &d);
        lm_fill_struct(out, &d, sizeof d);
    }
    vk_instance_close(v);
    h->release(v);
    return st;
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    const struct config *c = a->config;
    const struct vk_choice choice = {
        .device = c->device, .software = c->software, .validate = c->validate,
        .half = c->activations == 1, .staging = c->staging, .features = c->features
    };
    struct backend *b = a->host->alloc(sizeof *b, "vulkan");

    if (!b)
        return program_no_memory(a->host, sizeof *b, "the backend", e);
    enum lm_status st = vk_open(&b->vk, a->host, &choice, e);
    if (!st) {
        st = gpu_open(&b->gpu, a, &vk_driver, &b->vk, &b->vk.limits, e);
        if (st)
            vk_close(&b->vk);
    }
    if (st) {
        a->host->release(b);
        return st;
    }
    b->gpu.half = b->vk.half;
    b->gpu.replays = c->replay;
    if (c->range && (uint64_t)c->range << 10 < b->gpu.limits.range)
        b->gpu.limits.range = (uint64_t)c->range << 10;
    b->gpu.budget = c->memory ? (uint64_t)c->memory << 20 : b->vk.found->memory / 10 * 9;
    *self = b;
    return LM_OK;
}

static void destroy(void *self)
{
    struct backend *b = self;
    const struct lm_host *h = b->gpu.host;

    gpu_close(&b->gpu);
    vk_close(&b->vk);
    h->release(b);
}

static const struct lm_backend backend = {
    .struct_size = sizeof backend, .device = device, .devices = devices, GPU_OPS
};

static const struct lm_module module = {
    LM_MODULE_HEAD(BACKEND), .name = "vulkan", .version = "0.1.0",
    .license = "Apache-2.0", .author = "The Lamina developers",
    .summary = "GPUs of any vendor, by Vulkan compute",
    .reference = "Khronos Group, Vulkan specification, version 1.1 and later",
    .opt = options, .config_size = sizeof(struct config),
    .create = create, .destroy = destroy, .ops = &backend
};

LM_EXPORT const struct lm_module *lm_plugin(void)
{
    return &module;
}
