// SPDX-License-Identifier: Apache-2.0
// emulator.h -- CUDA's model of execution on the processor, for kernels compiled as C++:
// a fiber for each thread of a group, real barriers and shuffles.
//
// The fibers of a group run in turn (forward, backward or shuffled) until each waits at a
// barrier, all lanes of a warp at a shuffle, or is done.  Found are: barriers or shuffles
// that only some threads reach, or reach at different places; shared memory read before
// it was written in this group (it is filled with what is no number); a barrier that is
// missing, by results that are wrong in one order or another.
#ifndef LAMINA_TESTS_CUDA_EMULATOR_H
#define LAMINA_TESTS_CUDA_EMULATOR_H
#define LAMINA_EMULATED 1
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#if defined __has_feature
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifndef __x86_64__
#define EMULATOR_UCONTEXT 1             // slower, by a system call
#include <ucontext.h>
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(n)
#define __align__(n) __attribute__((aligned(n)))
// All of it lies in one section, filled anew for each group.
#define __shared__ static __attribute__((section("cuda_shared")))
extern "C" {
extern char __start_cuda_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_cuda_shared[] __attribute__((weak, visibility("hidden")));
}

namespace emulator {

struct index { uint32_t x, y; };
enum state { RUNS, AT_BARRIER, AT_SHUFFLE, DONE };
enum order { FORWARD, BACKWARD, SHUFFLED };

struct fiber {
    std::vector<char> stack;
    state    at;
    int      site;                      // line of the barrier or shuffle
    uint32_t sent[2], turn;             // to other lanes, by turns
    index    thread;
    void    *sp, *sanitizer;
#ifdef EMULATOR_UCONTEXT
    ucontext_t context;
#endif
};

struct machine {
    std::vector<fiber> fibers;          // the first n are of this group
    uint32_t n;
    std::function<void()> body;
    fiber   *now;
    index    group;
    void    *sp, *sanitizer;
    const void *bottom;                 // of the stack that launch() runs on
    size_t   size;
    const char *fault;                  // the first; the launch has failed then
#ifdef EMULATOR_UCONTEXT
    ucontext_t context;
#endif
};
static machine m;
static const size_t STACK = 128 << 10;
static const uint32_t WARP_SIZE = 32;

#ifndef EMULATOR_UCONTEXT
// Saves what a call must keep, and goes on where another fiber did so.
extern "C" __attribute__((visibility("hidden")))
void emulator_swap(void **save, void *to);
asm(".text\n.globl emulator_swap\n.hidden emulator_swap\n"
    ".type emulator_swap,@function\nemulator_swap:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp,(%rdi)\nmov %rsi,%rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n");
#endif

// What AddressSanitizer has to know of a switch to another stack, and behind it.
static void leaving(void **save, const void *bottom, size_t size)
{
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(save, bottom, size);
#else
    (void)save, (void)bottom, (void)size;
#endif
}

static void arrived(void *saved, const void **bottom, size_t *size)
{
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(saved, bottom, size);
#else
    (void)saved, (void)bottom, (void)size;
#endif
}

static void leave()
{
    fiber *f = m.now;
    leaving(f->at == DONE ? nullptr : &f->sanitizer, m.bottom, m.size);
#ifdef EMULATOR_UCONTEXT
    swapcontext(&f->context, &m.context);
#else
    emulator_swap(&f->sp, m.sp);
#endif
    arrived(f->sanitizer, nullptr, nullptr);
}

static void resume(fiber *f)
{
    m.now = f;
    leaving(&m.sanitizer, f->stack.data(), STACK);
#ifdef EMULATOR_UCONTEXT
    swapcontext(&m.context, &f->context);
#else
    emulator_swap(&m.sp, f->sp);
#endif
    arrived(m.sanitizer, nullptr, nullptr);
}

static void enter()
{
    arrived(nullptr, &m.bottom, &m.size);
    m.body();
    m.now->at = DONE;
    leave();
    abort();                            // nobody resumes it
}

static void begin(fiber *f, uint32_t thread)
{
#ifdef __SANITIZE_ADDRESS__
    if (f->at != DONE && !f->stack.empty())     // it was given up within a kernel
        __asan_unpoison_memory_region(f->stack.data(), STACK);
#endif
    f->at = RUNS;
    f->turn = 0;
    f->thread = { thread, 0 };
    f->stack.resize(STACK);
#ifdef EMULATOR_UCONTEXT
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack.data();
    f->context.uc_stack.ss_size = STACK;
    f->context.uc_link = nullptr;
    makecontext(&f->context, enter, 0);
#else
    uintptr_t top = ((uintptr_t)f->stack.data() + STACK) / 64 * 64;
    void **sp = (void **)top;
    *--sp = nullptr;                    // where enter() would return to
    *--sp = (void *)enter;
    for (int i = 0; i < 6; i++)
        *--sp = nullptr;
    f->sp = sp;
#endif
}

static void barrier(int site)
{
    m.now->at = AT_BARRIER;
    m.now->site = site;
    leave();
}

// The value of another lane, once all have come.  It is not overwritten before all have
// read it: by then they have come to the shuffle after the next.
static float exchange(float v, uint32_t lane, int site)
{
    fiber *f = m.now;
    uint32_t of = (uint32_t)(f - m.fibers.data()) / WARP_SIZE * WARP_SIZE + lane;
    uint32_t turn = f->turn++ % 2;
    memcpy(&f->sent[turn], &v, 4);
    f->at = AT_SHUFFLE;
    f->site = site;
    leave();
    memcpy(&v, &m.fibers[of].sent[turn], 4);
    return v;
}

static float exchange_xor(float v, uint32_t step, int site)
{
    return exchange(v, (m.now->thread.x % WARP_SIZE) ^ step, site);
}

// All fibers [first, last) wait in this state, at one place: they go on.
static bool release(uint32_t first, uint32_t last, state at, const char *apart)
{
    uint32_t n = 0;
    for (uint32_t i = first; i < last; i++)
        n += m.fibers[i].at == at;
    if (n < last - first)
        return false;
    for (uint32_t i = first; i < last; i++) {
        if (m.fibers[i].site != m.fibers[first].site)
            m.fault = apart;
        m.fibers[i].at = RUNS;
    }
    return true;
}

// Every fiber has stopped.  false: the group is done, or will never be.
static bool go_on()
{
    uint32_t n = m.n, done = 0;
    bool some = false;
    for (uint32_t i = 0; i < n; i++)
        done += m.fibers[i].at == DONE;
    if (done == n)
        return false;
    for (uint32_t i = 0; i < n; i += WARP_SIZE)
        some |= release(i, std::min(i + WARP_SIZE, n), AT_SHUFFLE, "a shuffle at several "
                        "places of one warp");
    if (!some)
        some = release(0, n, AT_BARRIER, "a barrier at several places");
    if (!some)
        m.fault = "a barrier or shuffle that only some threads reach";
    return !m.fault;
}

static void run_group(order how, uint32_t seed)
{
    std::vector<uint32_t> turn(m.n);
    std::mt19937 random(seed);
    size_t shared = (size_t)(__stop_cuda_shared - __start_cuda_shared);
    memset(__start_cuda_shared, 0xff, shared);
    for (uint32_t i = 0; i < m.n; i++) {
        turn[i] = how == BACKWARD ? m.n - 1 - i : i;
        begin(&m.fibers[i], i);
    }
    do {
        if (how == SHUFFLED)
            std::shuffle(turn.begin(), turn.end(), random);
        for (uint32_t i : turn)
            if (m.fibers[i].at == RUNS)
                resume(&m.fibers[i]);
    } while (go_on());
}

// Runs body as every thread of the grid; NULL, or what is wrong with the kernel.
static const char *launch(index grid, uint32_t threads, order how,
                          std::function<void()> body)
{
    m.body = body;
    m.fault = nullptr;
    m.n = threads;
    if (m.fibers.size() < threads)
        m.fibers.resize(threads);
    for (uint32_t y = 0; y < grid.y && !m.fault; y++)
        for (uint32_t x = 0; x < grid.x && !m.fault; x++) {
            m.group = { x, y };
            run_group(how, y * grid.x + x);
        }
    return m.fault;
}

} // namespace emulator

#define threadIdx (emulator::m.now->thread)
#define blockIdx (emulator::m.group)
#define __syncthreads() emulator::barrier(__LINE__)
#define __shfl_xor_sync(mask, v, step) emulator::exchange_xor(v, step, __LINE__)
#define __shfl_sync(mask, v, lane) emulator::exchange(v, lane, __LINE__)
#endif
