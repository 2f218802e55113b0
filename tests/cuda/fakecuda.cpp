// SPDX-License-Identifier: Apache-2.0
// fakecuda.cpp -- a libcuda.so.1 that runs the kernels of the backend `cuda` in the
// emulator, for tests where there is no GPU.
//
// What is given to a stream is done when it is waited for, no sooner: a caller that does
// not wait finds nothing done.  Calls are checked: the context must be the thread's,
// memory allocated and large enough, nothing but launches may be captured, handles must
// exist.  Memory is filled with what is no number; what lies around it is looked at after
// each launch, and a page that may not be touched follows.  All calls hold one lock.
//
// Environment: FAKECUDA_ORDER=forward|backward|shuffled of threads; FAKECUDA_MEMORY, MiB;
// FAKECUDA_LOSE=n: launch n fails and the device is lost; FAKECUDA_DEVICES;
// FAKECUDA_VERSION.
#include "emulator.h"

#include <sys/mman.h>
#include <unistd.h>

#include <map>
#include <mutex>
#include <set>
#include <string>
#include <tuple>
#include <utility>

#include "../../plugins/backends/cuda/kernels.cu"
#include "faults.cuh"

namespace {

enum { OK = 0, INVALID = 1, NO_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101,
       INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_FOUND = 500, NOT_READY = 600,
       ILLEGAL_ADDRESS = 700, LAUNCH_FAILED = 719, CAPTURE_UNSUPPORTED = 900 };
const size_t GUARD = 4096;              // in front of memory, and a page behind it
const unsigned char CANARY = 0xfe;      // words of it are huge as floats: reads show

// ---- kernels ------------------------------------------------------------------------

using work = std::function<int()>;
struct kernel { std::function<std::function<void()>(void **)> bind; };

// A call with a copy of its arguments, whose types the kernel has.
template <class... A, size_t... I>
std::function<void()> bound(void (*f)(A...), void **arg, std::index_sequence<I...>)
{
    auto copy = std::make_tuple(*(std::decay_t<A> *)arg[I]...);
    return [=] { std::apply(f, copy); };
}

template <class... A> kernel kernel_of(void (*f)(A...))
{
    return { [f](void **arg) { return bound(f, arg, std::index_sequence_for<A...>{}); } };
}

#define OF(id, name, n) { "lamina_" #name, kernel_of(lamina_##name) },
#define FAULT(name) { "lamina_fault_" #name, kernel_of(lamina_fault_##name) },
std::map<std::string, kernel> kernels = {
    CUDA_KERNELS(OF) FAULT(no_barrier) FAULT(no_fault) FAULT(stale) FAULT(half_barrier)
    FAULT(two_barriers) FAULT(half_shuffle) FAULT(behind) FAULT(before)
};

// ---- state --------------------------------------------------------------------------

struct stream {
    std::vector<work> queue, captured;
    bool captures = false;
};
struct event { double at = -1; };
struct graph { std::vector<work> launches; };
struct block { char *map; size_t mapped, size, pad; };   // pad: canaries behind it

std::mutex lock;
std::map<uint64_t, block> memory;       // by address
std::set<void *> streams, events, graphs, runs, modules;
size_t used;
int retained, launches;
bool lost;
thread_local bool current;              // the context is this thread's
char context;

long number(const char *name, long otherwise)
{
    const char *v = getenv(name);
    return v ? strtol(v, nullptr, 10) : otherwise;
}

size_t total() { return (size_t)number("FAKECUDA_MEMORY", 4096) << 20; }

emulator::order order()
{
    const char *v = getenv("FAKECUDA_ORDER");
    return !v || !strcmp(v, "forward") ? emulator::FORWARD
         : !strcmp(v, "backward") ? emulator::BACKWARD : emulator::SHUFFLED;
}

double now()
{
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// What every call in a context begins with.
#define IN_CONTEXT                              \
    std::lock_guard<std::mutex> guard(lock);    \
    if (!current || !retained)                  \
        return INVALID_CONTEXT;                 \
    if (lost)                                   \
        return ILLEGAL_ADDRESS

// ---- memory -------------------------------------------------------------------------

bool holds(uint64_t at, size_t size)
{
    auto i = memory.upper_bound(at);
    if (i == memory.begin())
        return false;
    --i;
    return at + size <= i->first + i->second.size;
}

bool is_whole(uint64_t at, const block &b)
{
    for (size_t i = 0; i < GUARD; i++)
        if (((unsigned char *)at)[-1 - (ptrdiff_t)i] != CANARY)
            return false;
    for (size_t i = 0; i < b.pad; i++)
        if (((unsigned char *)at)[b.size + i] != CANARY)
            return false;
    return true;
}

int fail(const char *why)
{
    fprintf(stderr, "fakecuda: %s\n", why);
    lost = true;
    return LAUNCH_FAILED;
}

// ---- launches -----------------------------------------------------------------------

int run_kernel(emulator::index grid, uint32_t threads, const std::function<void()> &body)
{
    long lose = number("FAKECUDA_LOSE", 0);
    if (lost)
        return ILLEGAL_ADDRESS;
    if (++launches == lose) {
        lost = true;
        return ILLEGAL_ADDRESS;
    }
    const char *fault = emulator::launch(grid, threads, order(), body);
    if (fault)
        return fail(fault);
    for (auto &b : memory)
        if (!is_whole(b.first, b.second))
            return fail("a kernel wrote outside of memory");
    return OK;
}

int drain(stream *s)
{
    std::vector<work> queue;
    queue.swap(s->queue);
    int r = OK;
    for (auto &w : queue)
        r = r ? r : w();
    return r;
}

int enqueue(void *handle, work w)
{
    stream *s = (stream *)handle;
    if (!streams.count(handle))
        return INVALID_HANDLE;
    if (s->captures)
        return CAPTURE_UNSUPPORTED;
    s->queue.push_back(std::move(w));
    return OK;
}

} // namespace

extern "C" {

// ---- the driver and the device ------------------------------------------------------

int cuInit(unsigned) { return number("FAKECUDA_DEVICES", 1) ? OK : NO_DEVICE; }

int cuDriverGetVersion(int *version)
{
    *version = (int)number("FAKECUDA_VERSION", 12040);
    return OK;
}

int cuGetErrorName(int error, const char **name)
{
    static const std::map<int, const char *> names = {
        { INVALID, "CUDA_ERROR_INVALID_VALUE" },
        { NO_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY" },
        { INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT" },
        { INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE" },
        { NOT_FOUND, "CUDA_ERROR_NOT_FOUND" },
        { ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS" },
        { LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED" } };
    auto i = names.find(error);
    *name = i == names.end() ? nullptr : i->second;
    return i == names.end() ? INVALID : OK;
}

int cuDeviceGetCount(int *n)
{
    *n = (int)number("FAKECUDA_DEVICES", 1);
    return OK;
}

int cuDeviceGet(int *device, int i)
{
    *device = i;
    return i < number("FAKECUDA_DEVICES", 1) ? OK : INVALID_DEVICE;
}

int cuDeviceGetName(char *name, int size, int)
{
    snprintf(name, (size_t)size, "Emulated device");
    return OK;
}

int cuDeviceTotalMem_v2(size_t *bytes, int)
{
    *bytes = total();
    return OK;
}

int cuDeviceGetAttribute(int *value, int attribute, int)
{
    *value = attribute == 75 ? 8 : 0;
    return OK;
}

int cuDevicePrimaryCtxRetain(void **out, int)
{
    std::lock_guard<std::mutex> guard(lock);
    retained++;
    *out = &context;
    return OK;
}

int cuDevicePrimaryCtxRelease_v2(int)
{
    std::lock_guard<std::mutex> guard(lock);
    if (--retained == 0) {
        lost = false;
        launches = 0;
    }
    return OK;
}

int cuCtxSetCurrent(void *c)
{
    current = c == &context;
    return !c || current ? OK : INVALID_CONTEXT;
}

int cuMemGetInfo_v2(size_t *left, size_t *all)
{
    IN_CONTEXT;
    *all = total();
    *left = *all - used;
    return OK;
}

// Fibers run the kernels that were compiled with this file, not those of the image, which
// has to look like one.
int cuModuleLoadDataEx(void **module, const void *image, unsigned, int *, void **)
{
    IN_CONTEXT;
    if (memcmp(image, "//", 2) && memcmp(image, ".version", 8))
        return 209;                     // CUDA_ERROR_NO_BINARY_FOR_GPU
    for (auto &k : kernels)
        if (k.first.find("fault") == std::string::npos
            && !strstr((const char *)image, k.first.c_str()))
            return 218;                 // CUDA_ERROR_INVALID_PTX
    *module = new char;
    modules.insert(*module);
    return OK;
}

int cuModuleUnload(void *module)
{
    std::lock_guard<std::mutex> guard(lock);
    delete (char *)module;
    return modules.erase(module) ? OK : INVALID_HANDLE;
}

int cuModuleGetFunction(void **f, void *module, const char *name)
{
    IN_CONTEXT;
    auto i = kernels.find(name);
    if (!modules.count(module) || i == kernels.end())
        return NOT_FOUND;
    *f = &i->second;
    return OK;
}

// ---- memory -------------------------------------------------------------------------

int cuMemAlloc_v2(uint64_t *out, size_t size)
{
    IN_CONTEXT;
    if (!size || used + size > total())
        return size ? NO_MEMORY : INVALID;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = (size + 255) / 256 * 256;
    size_t mapped = GUARD + (whole + page - 1) / page * page + GUARD;
    char *map = (char *)mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return NO_MEMORY;
    char *end = map + mapped - GUARD, *at = end - whole;
    mprotect(end, GUARD, PROT_NONE);
    memset(map, CANARY, (size_t)(end - map));
    memset(at, 0xff, size);
    *out = (uint64_t)(uintptr_t)at;
    memory[*out] = { map, mapped, size, whole - size };
    used += size;
    return OK;
}

int cuMemFree_v2(uint64_t at)
{
    std::lock_guard<std::mutex> guard(lock);
    auto i = memory.find(at);
    if (!current || i == memory.end())
        return INVALID;
    munmap(i->second.map, i->second.mapped);
    used -= i->second.size;
    memory.erase(i);
    return OK;
}

int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, void *s)
{
    IN_CONTEXT;
    if (!holds(to, size))
        return INVALID;
    return enqueue(s, [=] { memcpy((void *)to, from, size); return OK; });
}

int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, void *s)
{
    IN_CONTEXT;
    if (!holds(from, size))
        return INVALID;
    return enqueue(s, [=] { memcpy(to, (void *)from, size); return OK; });
}

int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t size, void *s)
{
    IN_CONTEXT;
    if (!holds(from, size) || !holds(to, size))
        return INVALID;
    return enqueue(s, [=] { memmove((void *)to, (void *)from, size); return OK; });
}

// ---- streams, events, graphs ----------------------------------------------------------

int cuStreamCreate(void **out, unsigned)
{
    IN_CONTEXT;
    *out = new stream;
    streams.insert(*out);
    return OK;
}

int cuStreamDestroy_v2(void *s)
{
    std::lock_guard<std::mutex> guard(lock);
    if (!streams.erase(s))
        return INVALID_HANDLE;
    delete (stream *)s;
    return OK;
}

int cuStreamSynchronize(void *s)
{
    IN_CONTEXT;
    if (!streams.count(s))
        return INVALID_HANDLE;
    return ((stream *)s)->captures ? CAPTURE_UNSUPPORTED : drain((stream *)s);
}

int cuEventCreate(void **out, unsigned)
{
    IN_CONTEXT;
    *out = new event;
    events.insert(*out);
    return OK;
}

int cuEventDestroy_v2(void *e)
{
    std::lock_guard<std::mutex> guard(lock);
    if (!events.erase(e))
        return INVALID_HANDLE;
    delete (event *)e;
    return OK;
}

int cuEventRecord(void *e, void *s)
{
    IN_CONTEXT;
    if (!events.count(e))
        return INVALID_HANDLE;
    return enqueue(s, [=] { ((event *)e)->at = now(); return OK; });
}

int cuEventElapsedTime(float *ms, void *first, void *second)
{
    IN_CONTEXT;
    if (!events.count(first) || !events.count(second))
        return INVALID_HANDLE;
    double a = ((event *)first)->at, b = ((event *)second)->at;
    *ms = (float)(1e3 * (b - a));
    return a < 0 || b < 0 ? NOT_READY : OK;
}

int cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                   unsigned by, unsigned bz, unsigned, void *handle, void **arg, void **)
{
    IN_CONTEXT;
    if (!gx || !gy || gz != 1 || !bx || bx > 1024 || by != 1 || bz != 1 || gy > 65535)
        return INVALID;
    if (!streams.count(handle))
        return INVALID_HANDLE;
    stream *s = (stream *)handle;
    auto body = ((kernel *)f)->bind(arg);
    work w = [=] { return run_kernel({ gx, gy }, bx, body); };
    (s->captures ? s->captured : s->queue).push_back(w);
    return OK;
}

int cuStreamBeginCapture_v2(void *s, int)
{
    IN_CONTEXT;
    if (!streams.count(s) || ((stream *)s)->captures)
        return INVALID;
    ((stream *)s)->captures = true;
    return OK;
}

int cuStreamEndCapture(void *s, void **out)
{
    IN_CONTEXT;
    if (!streams.count(s) || !((stream *)s)->captures)
        return INVALID;
    ((stream *)s)->captures = false;
    graph *g = new graph;
    g->launches.swap(((stream *)s)->captured);
    graphs.insert(g);
    *out = g;
    return OK;
}

int cuGraphDestroy(void *g)
{
    std::lock_guard<std::mutex> guard(lock);
    if (!graphs.erase(g))
        return INVALID_HANDLE;
    delete (graph *)g;
    return OK;
}

int cuGraphInstantiateWithFlags(void **run, void *g, unsigned long long)
{
    IN_CONTEXT;
    if (!graphs.count(g))
        return INVALID_HANDLE;
    *run = new graph(*(graph *)g);
    runs.insert(*run);
    return OK;
}

int cuGraphLaunch(void *run, void *s)
{
    IN_CONTEXT;
    if (!runs.count(run))
        return INVALID_HANDLE;
    int r = OK;
    for (auto &w : ((graph *)run)->launches)
        r = r ? r : enqueue(s, w);
    return r;
}

int cuGraphExecDestroy(void *run)
{
    std::lock_guard<std::mutex> guard(lock);
    if (!runs.erase(run))
        return INVALID_HANDLE;
    delete (graph *)run;
    return OK;
}

// ---- for tests ------------------------------------------------------------------------

// Objects that exist: 0 when all were freed.
size_t fakecuda_objects(void)
{
    std::lock_guard<std::mutex> guard(lock);
    return memory.size() + streams.size() + events.size() + graphs.size() + runs.size()
         + modules.size() + (size_t)retained;
}

float fakecuda_exp(float x) { return exp_of(x); }
float fakecuda_log(float x) { return log_of(x); }
float fakecuda_from_half(uint32_t h) { return half_to_float(h); }
uint32_t fakecuda_to_half(float f) { return float_to_half(f); }

} // extern "C"
