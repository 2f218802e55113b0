/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_queue.c -- the functions of struct gpu_driver.
 *
 * Every call takes a lane, a CUDA stream with two events, waits for what it put there and
 * gives the lane back: calls of several threads run side by side, and none depends on what
 * another left unfinished.  A recording is a graph, captured from launches in one stream,
 * which is an order that every wait of theirs agrees with; where graphs are not wanted,
 * the launches themselves.                                                          */
#include <string.h>

#include "cuda_driver.h"
#include "cuda_list.h"

enum { CUDA_NON_BLOCKING = 1, CUDA_THREAD_LOCAL = 1 };  /* streams; captures */

struct cuda_lane { void *stream, *start, *end; struct cuda_lane *next; };
struct gpu_recording { void *run; struct gpu_launch *launch; size_t n; };

static const unsigned threads_of[GPU_N_KERNELS] = {
#define THREADS(id, name, n) [GPU_##id] = n,
    CUDA_KERNELS(THREADS)
#undef THREADS
};

static uint64_t address(const void *memory, uint64_t at)
{
    return (uint64_t)(uintptr_t)memory + at;
}

/* ---- lanes ------------------------------------------------------------------------- */

static void close_lane(struct cuda *c, struct cuda_lane *l)
{
    if (l->end)
        c->api.end_event(l->end);
    if (l->start)
        c->api.end_event(l->start);
    if (l->stream)
        c->api.end_stream(l->stream);
    c->host->release(l);
}

static enum lm_status open_lane(struct cuda *c, struct cuda_lane **out, struct lm_err *e)
{
    struct cuda_lane *l = c->host->alloc(sizeof *l, "stream");

    if (!l)
        return program_no_memory(c->host, sizeof *l, "a stream", e);
    int r = c->api.stream(&l->stream, CUDA_NON_BLOCKING);
    if (!r)
        r = c->api.event(&l->start, 0);
    if (!r)
        r = c->api.event(&l->end, 0);
    enum lm_status st = cuda_check(c, r, "a stream", e);
    if (st)
        close_lane(c, l);
    else
        *out = l;
    return st;
}

/* The calling thread has the context from here on. */
static enum lm_status take_lane(struct cuda *c, struct cuda_lane **out, struct lm_err *e)
{
    enum lm_status st = cuda_check(c, c->api.set_current(c->context), "a thread", e);

    if (st)
        return st;
    pthread_mutex_lock(&c->lock);
    *out = c->idle;
    if (c->idle)
        c->idle = c->idle->next;
    pthread_mutex_unlock(&c->lock);
    return *out ? LM_OK : open_lane(c, out, e);
}

static void give_lane(struct cuda *c, struct cuda_lane *l)
{
    pthread_mutex_lock(&c->lock);
    l->next = c->idle;
    c->idle = l;
    pthread_mutex_unlock(&c->lock);
}

void cuda_queue_close(struct cuda *c)
{
    for (struct cuda_lane *l = c->idle, *next; l; l = next) {
        next = l->next;
        close_lane(c, l);
    }
    c->idle = NULL;
}

/* ---- memory ------------------------------------------------------------------------ */

static enum lm_status alloc_memory(void *device, uint64_t size, bool shared, void **memory,
                                   struct lm_err *e)
{
    struct cuda *c = device;
    uint64_t at = 0;
    enum lm_status st = cuda_check(c, c->api.set_current(c->context), "a thread", e);

    (void)shared;       /* kernels read it more often than the host writes it */
    if (!st)
        st = cuda_check(c, c->api.alloc(&at, (size_t)size), "data", e);
    *memory = (void *)(uintptr_t)at;
    return st;
}

static void free_memory(void *device, void *memory)
{
    struct cuda *c = device;

    c->api.set_current(c->context);
    c->api.free(address(memory, 0));
}

/* Waits for what is in the lane, whether or not all of it got there. */
static enum lm_status finish(struct cuda *c, struct cuda_lane *l, int r, const char *what,
                             struct lm_err *e)
{
    int waited = c->api.wait(l->stream);

    give_lane(c, l);
    return cuda_check(c, r ? r : waited, what, e);
}

static enum lm_status put(void *device, void *memory, uint64_t at, const void *from,
                          uint64_t size, struct lm_err *e)
{
    struct cuda *c = device;
    struct cuda_lane *l;
    enum lm_status st = take_lane(c, &l, e);

    return st ? st : finish(c, l, c->api.put(address(memory, at), from, (size_t)size,
                                             l->stream), "copying to the device", e);
}

static enum lm_status get(void *device, void *memory, uint64_t at, void *to, uint64_t size,
                          struct lm_err *e)
{
    struct cuda *c = device;
    struct cuda_lane *l;
    enum lm_status st = take_lane(c, &l, e);

    return st ? st : finish(c, l, c->api.fetch(to, address(memory, at), (size_t)size,
                                               l->stream), "copying from the device", e);
}

static enum lm_status copy(void *device, void *to, uint64_t to_at, void *from,
                           uint64_t from_at, uint64_t size, struct lm_err *e)
{
    struct cuda *c = device;
    struct cuda_lane *l;
    enum lm_status st = take_lane(c, &l, e);

    return st ? st : finish(c, l, c->api.copy(address(to, to_at), address(from, from_at),
                                              (size_t)size, l->stream), "copying", e);
}

/* ---- recordings -------------------------------------------------------------------- */

/* Arguments: an address for each binding, then the words as one struct. */
static int start(struct cuda *c, const struct gpu_launch *l, void *stream)
{
    uint64_t at[GPU_MAX_BIND];
    uint32_t word[GPU_MAX_WORDS];
    void *arg[GPU_MAX_BIND + 1];

    for (uint32_t i = 0; i < l->n_bind; i++) {
        at[i] = address(gpu_memory(&l->bind[i]), l->bind[i].at);
        arg[i] = &at[i];
    }
    memcpy(word, l->word, sizeof word);
    arg[l->n_bind] = word;
    return c->api.launch(c->function[l->kernel], l->grid[0], l->grid[1], 1,
                         threads_of[l->kernel], 1, 1, 0, stream, arg, NULL);
}

static int start_all(struct cuda *c, const struct gpu_launch *l, size_t n, void *stream)
{
    int r = 0;

    for (size_t i = 0; i < n && !r; i++)
        r = start(c, &l[i], stream);
    return r;
}

/* A capture must be ended however it went. */
static int capture(struct cuda *c, const struct gpu_launch *l, size_t n, void *stream,
                   void **run)
{
    void *graph = NULL;
    int r = c->api.capture(stream, CUDA_THREAD_LOCAL);

    if (r)
        return r;
    r = start_all(c, l, n, stream);
    int ended = c->api.end_capture(stream, &graph);
    r = r ? r : ended;
    if (!r)
        r = c->api.instantiate(run, graph, 0);
    if (graph)
        c->api.end_graph(graph);
    return r;
}

static void discard(void *device, struct gpu_recording *r)
{
    struct cuda *c = device;

    c->api.set_current(c->context);
    if (r->run)
        c->api.end_run(r->run);
    c->host->release(r->launch);
    c->host->release(r);
}

static enum lm_status record_graph(struct cuda *c, const struct gpu_launch *l, size_t n,
                                   struct gpu_recording *r, struct lm_err *e)
{
    struct cuda_lane *lane;
    enum lm_status st = take_lane(c, &lane, e);

    if (st)
        return st;
    int result = capture(c, l, n, lane->stream, &r->run);
    if (result)
        r->run = NULL;
    give_lane(c, lane);
    return cuda_check(c, result, "recording a program", e);
}

static enum lm_status record(void *device, const struct gpu_launch *l, size_t n,
                             struct gpu_recording **out, struct lm_err *e)
{
    struct cuda *c = device;
    struct gpu_recording *r = c->host->alloc(sizeof *r, "recording");
    enum lm_status st = LM_OK;

    if (!r)
        return program_no_memory(c->host, sizeof *r, "a recording", e);
    if (c->replays) {
        st = record_graph(c, l, n, r, e);
    } else {
        r->n = n;
        r->launch = c->host->alloc(n * sizeof *l, "recording");
        if (r->launch)
            memcpy(r->launch, l, n * sizeof *l);
        else
            st = program_no_memory(c->host, (double)n * sizeof *l, "a recording", e);
    }
    if (st)
        discard(c, r);
    else
        *out = r;
    return st;
}

static enum lm_status replay(void *device, struct gpu_recording *r, double *device_seconds,
                             struct lm_err *e)
{
    struct cuda *c = device;
    struct cuda_lane *l;
    float ms = 0;
    enum lm_status st = take_lane(c, &l, e);

    if (st)
        return st;
    int result = c->api.mark(l->start, l->stream);
    if (!result)
        result = r->run ? c->api.run(r->run, l->stream)
                        : start_all(c, r->launch, r->n, l->stream);
    if (!result)
        result = c->api.mark(l->end, l->stream);
    int waited = c->api.wait(l->stream);
    result = result ? result : waited;
    if (!result)
        result = c->api.between(&ms, l->start, l->end);
    give_lane(c, l);
    *device_seconds = (double)ms / 1000;
    return cuda_check(c, result, "running a program", e);
}

const struct gpu_driver cuda_queue = {
    .alloc = alloc_memory, .free = free_memory, .put = put, .get = get, .copy = copy,
    .record = record, .discard = discard, .replay = replay
};
