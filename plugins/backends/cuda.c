/* SPDX-License-Identifier: Apache-2.0 */
/* cuda.c -- backend: NVIDIA's GPUs.  Kernels are in cuda/, the device in cuda_*.c, all
 * else in gpu_*.c.                                                                  */
#include <stdio.h>

#include "cuda_driver.h"

struct config {
    int64_t device, memory, activations;
    bool replay;
};

static const char *const activations[] = { "f32", "f16", NULL };

static const struct lm_opt options[] = {
    LM_INT(struct config, device, "0", 0, CUDA_MOST_DEVICES - 1, NULL, 0,
           "Which one, as `lamina list backends` counts them."),
    LM_INT(struct config, memory, "0", 0, 1 << 24, "MiB", LM_NO_HASH,
           "Device memory that may be taken; 0: what is free, less a reserve."),
    LM_PICK(struct config, activations, "f32", activations, 0,
            "What registers and caches hold; the residual stream is f32."),
    LM_FLAG(struct config, replay, "true", LM_NO_HASH | LM_EXPERT,
            "Record a program as a graph once and replay it."),
    LM_OPT_END
};

struct backend {
    struct gpu gpu;                     /* first: gpu_*.c take it for the instance */
    struct cuda cuda;
};

static enum lm_status device(void *self, struct lm_device *out, struct lm_err *e)
{
    const struct backend *b = self;
    struct lm_device d = { .struct_size = sizeof d, .memory = (int64_t)b->cuda.total };

    (void)e;
    snprintf(d.name, sizeof d.name, "%s%s%s", b->cuda.name,
             b->cuda.portable ? ", PTX" : "", b->gpu.half ? ", f16" : "");
    snprintf(d.driver, sizeof d.driver, "CUDA %d.%d", b->cuda.api.driver / 1000,
             b->cuda.api.driver % 1000 / 10);
    lm_fill_struct(out, &d, sizeof d);
    return LM_OK;
}

static enum lm_status devices(const struct lm_host *h, int64_t i, struct lm_device *out,
                              struct lm_err *e)
{
    struct cuda_api api;
    int n = 0;
    enum lm_status st = cuda_load(h, &api, &n, e);

    return st ? st : cuda_describe(h, &api, i, out, e);
}

static enum lm_status probe(const struct lm_host *h, struct lm_err *e)
{
    struct cuda_api api;
    int n = 0;

    return cuda_load(h, &api, &n, e);
}

/* Graphs, streams and other programs take memory, too. */
static uint64_t budget_of(const struct cuda *c, int64_t mib)
{
    uint64_t reserve = c->total / 16 < 512 << 20 ? c->total / 16 : 512 << 20;

    return mib ? (uint64_t)mib << 20 : c->left > reserve ? c->left - reserve : 0;
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    const struct config *config = a->config;
    struct backend *b = a->host->alloc(sizeof *b, "cuda");

    if (!b)
        return program_no_memory(a->host, sizeof *b, "the backend", e);
    enum lm_status st = cuda_open(&b->cuda, a->host, config->device, e);
    if (!st) {
        st = gpu_open(&b->gpu, a, &cuda_queue, &b->cuda, &b->cuda.limits, e);
        if (st)
            cuda_close(&b->cuda);
    }
    if (st) {
        a->host->release(b);
        return st;
    }
    b->gpu.half = config->activations == 1;
    b->gpu.replays = b->cuda.replays = config->replay;
    b->gpu.budget = budget_of(&b->cuda, config->memory);
    *self = b;
    return LM_OK;
}

static void destroy(void *self)
{
    struct backend *b = self;
    const struct lm_host *h = b->gpu.host;

    gpu_close(&b->gpu);
    cuda_close(&b->cuda);
    h->release(b);
}

static const struct lm_backend backend = {
    .struct_size = sizeof backend, .device = device, .devices = devices, GPU_OPS
};

static const struct lm_module module = {
    LM_MODULE_HEAD(BACKEND), .name = "cuda", .version = "0.1.0",
    .license = "Apache-2.0", .author = "The Lamina developers",
    .summary = "NVIDIA's GPUs, by CUDA's driver",
    .reference = "Milakov and Gimelshein 2018",
    .opt = options, .config_size = sizeof(struct config), .probe = probe,
    .create = create, .destroy = destroy, .ops = &backend
};

LM_EXPORT const struct lm_module *lm_plugin(void)
{
    return &module;
}
