/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_driver.h -- what the files of the backend `cuda` share: NVIDIA's driver, opened at
 * run time, and a device.  Nothing of NVIDIA's is needed to build: types and names of the
 * driver API are written down here (CUDA Driver API, 11.4 and later).               */
#ifndef LAMINA_BACKENDS_CUDA_DRIVER_H
#define LAMINA_BACKENDS_CUDA_DRIVER_H
#include "gpu.h"

/* Functions, their symbols and arguments.  Devices are int, device memory is uint64_t,
 * contexts, modules, functions, streams, events and graphs are pointers.           */
#define CUDA_CALLS(F)                                                               \
    F(init, "cuInit", (unsigned flags))                                             \
    F(version, "cuDriverGetVersion", (int *version))                                \
    F(error_name, "cuGetErrorName", (int error, const char **name))                 \
    F(count, "cuDeviceGetCount", (int *n))                                          \
    F(get, "cuDeviceGet", (int *device, int i))                                     \
    F(name, "cuDeviceGetName", (char *name, int size, int device))                  \
    F(total, "cuDeviceTotalMem_v2", (size_t *bytes, int device))                    \
    F(attribute, "cuDeviceGetAttribute", (int *value, int attribute, int device))   \
    F(retain, "cuDevicePrimaryCtxRetain", (void **context, int device))             \
    F(release, "cuDevicePrimaryCtxRelease_v2", (int device))                        \
    F(set_current, "cuCtxSetCurrent", (void *context))                              \
    F(memory, "cuMemGetInfo_v2", (size_t *left, size_t *total))                     \
    F(load, "cuModuleLoadDataEx", (void **module, const void *image, unsigned n,    \
                                   int *option, void **value))                      \
    F(unload, "cuModuleUnload", (void *module))                                     \
    F(function, "cuModuleGetFunction", (void **f, void *module, const char *name))  \
    F(alloc, "cuMemAlloc_v2", (uint64_t *memory, size_t size))                      \
    F(free, "cuMemFree_v2", (uint64_t memory))                                      \
    F(put, "cuMemcpyHtoDAsync_v2", (uint64_t to, const void *from, size_t size,     \
                                    void *stream))                                  \
    F(fetch, "cuMemcpyDtoHAsync_v2", (void *to, uint64_t from, size_t size,         \
                                      void *stream))                                \
    F(copy, "cuMemcpyDtoDAsync_v2", (uint64_t to, uint64_t from, size_t size,       \
                                     void *stream))                                 \
    F(stream, "cuStreamCreate", (void **stream, unsigned flags))                    \
    F(end_stream, "cuStreamDestroy_v2", (void *stream))                             \
    F(wait, "cuStreamSynchronize", (void *stream))                                  \
    F(event, "cuEventCreate", (void **event, unsigned flags))                       \
    F(end_event, "cuEventDestroy_v2", (void *event))                                \
    F(mark, "cuEventRecord", (void *event, void *stream))                           \
    F(between, "cuEventElapsedTime", (float *ms, void *first, void *second))        \
    F(launch, "cuLaunchKernel", (void *f, unsigned gx, unsigned gy, unsigned gz,    \
                                 unsigned bx, unsigned by, unsigned bz,             \
                                 unsigned shared, void *stream, void **arg,         \
                                 void **extra))                                     \
    F(capture, "cuStreamBeginCapture_v2", (void *stream, int mode))                 \
    F(end_capture, "cuStreamEndCapture", (void *stream, void **graph))              \
    F(end_graph, "cuGraphDestroy", (void *graph))                                   \
    F(instantiate, "cuGraphInstantiateWithFlags", (void **run, void *graph,         \
                                                   unsigned long long flags))       \
    F(run, "cuGraphLaunch", (void *run, void *stream))                              \
    F(end_run, "cuGraphExecDestroy", (void *run))
#define CUDA_MEMBER(name, symbol, args) int (*name) args;

struct cuda_api { CUDA_CALLS(CUDA_MEMBER) int driver; };    /* 12040: CUDA 12.4 */

enum { CUDA_OLDEST = 11040, CUDA_MOST_DEVICES = 64 };

struct cuda_lane;                       /* see cuda_queue.c */
struct cuda {
    const struct lm_host *host;
    struct cuda_api api;
    int      number;                    /* the driver's name of the device */
    void    *context, *module, *function[GPU_N_KERNELS];
    char     name[80];
    bool     portable;                  /* the image is PTX that the driver compiled */
    bool     replays;                   /* by graphs */
    uint64_t total, left;               /* bytes, when it was opened */
    struct gpu_limits limits;
    pthread_mutex_t lock;
    struct cuda_lane *idle;             /* under `lock` */
};

/* The driver, ready; LM_EUNAVAILABLE: "no CUDA device (...)".  n: devices, at least 1. */
enum lm_status cuda_load(const struct lm_host *h, struct cuda_api *c, int *n,
                         struct lm_err *e);
/* Device i, without a context. */
enum lm_status cuda_describe(const struct lm_host *h, const struct cuda_api *c, int64_t i,
                             struct lm_device *out, struct lm_err *e);
enum lm_status cuda_open(struct cuda *c, const struct lm_host *h, int64_t device,
                         struct lm_err *e);
void cuda_close(struct cuda *c);
/* What a result means: LM_OK of 0. */
enum lm_status cuda_check(const struct cuda *c, int r, const char *what, struct lm_err *e);

/* cuda_queue.c */
extern const struct gpu_driver cuda_queue;
void cuda_queue_close(struct cuda *c);  /* idle lanes */

/* Made by cuda/image.sh.  The first is machine code, or empty; the second PTX. */
extern const unsigned char cuda_image[], cuda_ptx[];
extern const size_t cuda_image_size;
#endif
