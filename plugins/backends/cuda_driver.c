/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_driver.c -- NVIDIA's driver, opened at run time, and a device with its kernels. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_driver.h"
#include "cuda_list.h"

enum {                                  /* CUresult */
    CUDA_OUT_OF_MEMORY = 2, CUDA_DEINITIALIZED = 4, CUDA_UNAVAILABLE = 46,
    CUDA_NO_DEVICE = 100, CUDA_NO_BINARY = 209, CUDA_ECC = 214, CUDA_NVLINK = 220,
    CUDA_ILLEGAL_ADDRESS = 700, CUDA_TIMEOUT = 702, CUDA_CONTEXT_GONE = 709,
    CUDA_ASSERT = 710, CUDA_HARDWARE_STACK = 714, CUDA_LAUNCH_FAILED = 719,
    CUDA_UNKNOWN = 999
};
enum { CUDA_MAJOR = 75, CUDA_MINOR = 76 };      /* CUdevice_attribute */

/* ---- errors ------------------------------------------------------------------------ */

static const char *name_of(const struct cuda_api *c, int r)
{
    const char *name = NULL;

    return c->error_name(r, &name) || !name ? "an error without a name" : name;
}

/* After these a context is of no use any more. */
static bool is_loss(int r)
{
    return r == CUDA_DEINITIALIZED || r == CUDA_UNAVAILABLE || r == CUDA_ECC
        || r == CUDA_NVLINK || r == CUDA_ILLEGAL_ADDRESS || r == CUDA_TIMEOUT
        || r == CUDA_CONTEXT_GONE || r == CUDA_ASSERT
        || (r >= CUDA_HARDWARE_STACK && r <= CUDA_LAUNCH_FAILED) || r == CUDA_UNKNOWN;
}

enum lm_status cuda_check(const struct cuda *c, int r, const char *what, struct lm_err *e)
{
    if (!r)
        return LM_OK;
    if (r == CUDA_OUT_OF_MEMORY)
        return c->host->fail(e, LM_EINFEASIBLE, "the CUDA device has no memory left for "
                             "%s", what);
    if (is_loss(r))
        return c->host->fail(e, LM_EUNAVAILABLE, "the CUDA device was lost (%s by %s); "
                             "it has to be opened anew", name_of(&c->api, r), what);
    return c->host->fail(e, LM_EFAILED, "CUDA: %s: %s (%d)", what, name_of(&c->api, r),
                         r);
}

/* ---- the driver -------------------------------------------------------------------- */

static enum lm_status none(const struct lm_host *h, const char *why, struct lm_err *e)
{
    return h->fail(e, LM_EUNAVAILABLE, "no CUDA device (%s)", why);
}

/* Never closed: the driver keeps threads of its own. */
static enum lm_status find_symbols(const struct lm_host *h, struct cuda_api *c,
                                   struct lm_err *e)
{
    const char *name = getenv("LAMINA_LIBCUDA"), *missing = NULL;
    void *library = dlopen(name && *name ? name : "libcuda.so.1",
                           RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);

    if (!library)
        return none(h, "driver not found", e);
#define FIND(member, symbol, args)                  \
    *(void **)&c->member = dlsym(library, symbol);  \
    if (!c->member)                                 \
        missing = symbol;
    CUDA_CALLS(FIND)
#undef FIND
    return missing ? none(h, "driver too old", e) : LM_OK;
}

enum lm_status cuda_load(const struct lm_host *h, struct cuda_api *c, int *n,
                         struct lm_err *e)
{
    enum lm_status st = find_symbols(h, c, e);

    if (st)
        return st;
    if (!c->version(&c->driver) && c->driver < CUDA_OLDEST)
        return none(h, "driver too old", e);
    int r = c->init(0);
    if (!r)
        r = c->count(n);
    if (r == CUDA_NO_DEVICE || (!r && *n < 1))
        return none(h, "no device", e);
    return r ? none(h, name_of(c, r), e) : LM_OK;
}

enum lm_status cuda_describe(const struct lm_host *h, const struct cuda_api *c, int64_t i,
                             struct lm_device *out, struct lm_err *e)
{
    struct lm_device d = { .struct_size = sizeof d };
    size_t bytes = 0;
    int device, n = 0;

    if (c->count(&n) || i >= n || c->get(&device, (int)i)
        || c->name(d.name, 80, device) || c->total(&bytes, device))
        return h->fail(e, LM_EUNAVAILABLE, "there is no CUDA device %lld: this machine "
                       "has %d", (long long)i, n);
    d.name[79] = 0;
    d.memory = (int64_t)bytes;
    snprintf(d.driver, sizeof d.driver, "CUDA %d.%d", c->driver / 1000,
             c->driver % 1000 / 10);
    lm_fill_struct(out, &d, sizeof d);
    return LM_OK;
}

/* ---- a device ---------------------------------------------------------------------- */

/* Machine code where there is some for this device, else PTX. */
static enum lm_status load_kernels(struct cuda *c, struct lm_err *e)
{
    static const struct { uint32_t kernel; const char *name; } list[] = {
#define NAMED(id, name, n) { GPU_##id, "lamina_" #name },
        CUDA_KERNELS(NAMED)
#undef NAMED
    };
    int r = CUDA_NO_BINARY;

    if (cuda_image_size)
        r = c->api.load(&c->module, cuda_image, 0, NULL, NULL);
    if (r && !is_loss(r)) {
        c->portable = true;
        r = c->api.load(&c->module, cuda_ptx, 0, NULL, NULL);
    }
    if (r && r != CUDA_OUT_OF_MEMORY && !is_loss(r)) {
        int major = 0, minor = 0;

        c->api.attribute(&major, CUDA_MAJOR, c->number);
        c->api.attribute(&minor, CUDA_MINOR, c->number);
        return c->host->fail(e, LM_EUNAVAILABLE, "%s, of compute capability %d.%d, or "
                             "its driver does not take the kernels (%s)", c->name, major,
                             minor, name_of(&c->api, r));
    }
    enum lm_status st = cuda_check(c, r, "loading kernels", e);
    for (size_t i = 0; i < sizeof list / sizeof *list && !st; i++)
        st = cuda_check(c, c->api.function(&c->function[list[i].kernel], c->module,
                                           list[i].name), list[i].name, e);
    return st;
}

static enum lm_status open_context(struct cuda *c, struct lm_err *e)
{
    size_t left = 0, total = 0;
    enum lm_status st = cuda_check(c, c->api.retain(&c->context, c->number),
                                   "opening the device", e);

    if (st) {
        c->context = NULL;
        return st;
    }
    st = cuda_check(c, c->api.set_current(c->context), "opening the device", e);
    if (!st)
        st = cuda_check(c, c->api.memory(&left, &total), "its memory", e);
    c->left = left;
    c->total = total;
    return st ? st : load_kernels(c, e);
}

enum lm_status cuda_open(struct cuda *c, const struct lm_host *h, int64_t device,
                         struct lm_err *e)
{
    struct lm_device d = { .struct_size = sizeof d };
    int n = 0;

    c->host = h;
    enum lm_status st = cuda_load(h, &c->api, &n, e);
    if (!st)
        st = cuda_describe(h, &c->api, device, &d, e);
    if (!st)
        st = cuda_check(c, c->api.get(&c->number, (int)device), "finding the device", e);
    if (!st && pthread_mutex_init(&c->lock, NULL))
        st = h->fail(e, LM_ENOMEM, "there is no memory for a lock");
    if (st)
        return st;
    snprintf(c->name, sizeof c->name, "%.79s", d.name);
    /* A matrix is addressed by 32 bits in words, pieces of 8 GiB leave them room. */
    c->limits = (struct gpu_limits){ .slab = UINT64_MAX / 2, .bind = UINT64_MAX / 2,
                                     .range = (uint64_t)8 << 30,
                                     .grid = { INT32_MAX, 65535 } };
    st = open_context(c, e);
    if (st)
        cuda_close(c);
    return st;
}

void cuda_close(struct cuda *c)
{
    if (c->context) {
        c->api.set_current(c->context);
        cuda_queue_close(c);
        if (c->module)
            c->api.unload(c->module);
        c->api.set_current(NULL);
        c->api.release(c->number);
    }
    pthread_mutex_destroy(&c->lock);
}
