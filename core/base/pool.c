/* SPDX-License-Identifier: Apache-2.0 */
/* pool.c -- one pool of threads and one job at a time.
 *
 * The caller works too, as worker 0; threads 1 .. n-1 sleep between jobs.  Items
 * are handed out by one atomic counter, so every item runs exactly once
 * whatever the number of threads.  A call from inside a body runs inline: the
 * threads are busy with the outer job anyway, and waiting would deadlock.    */
#include "base/pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/process.h"

enum { MAX_THREADS = 1024 };            /* as run.threads */

typedef void body_fn(void *ctx, int64_t i, uint32_t worker);

static struct {
    pthread_mutex_t caller;             /* held by who runs a job            */
    pthread_mutex_t lock;               /* guards all below but `next`       */
    pthread_cond_t  wake, done;
    pthread_t *thread;                  /* [threads - 1]                     */
    int      threads;                   /* workers; 0: not started           */
    int      busy;                      /* threads that have not finished    */
    uint64_t job;                       /* counts jobs; a change wakes       */
    bool     quit;
    body_fn *body;
    void    *ctx;
    int64_t  n;
    atomic_int_least64_t next;
} pool = { .caller = PTHREAD_MUTEX_INITIALIZER, .lock = PTHREAD_MUTEX_INITIALIZER,
           .wake = PTHREAD_COND_INITIALIZER, .done = PTHREAD_COND_INITIALIZER };

static atomic_bool canceled;
_Static_assert(ATOMIC_BOOL_LOCK_FREE == 2, "the flag is set in a signal handler");

/* This thread's worker number plus one while it runs a body; 0: outside. */
static _Thread_local uint32_t inside;

bool lm_canceled(void)
{
    return atomic_load_explicit(&canceled, memory_order_relaxed);
}

void lm_cancel(bool on)
{
    atomic_store(&canceled, on);
}

static void on_signal(int number)
{
    (void)number;
    if (atomic_exchange(&canceled, true)) {
        lm_process_kill();
        _exit(130);
    }
}

void lm_cancel_on_signals(void)
{
    struct sigaction a = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
}

/* Takes items until none is left. */
static void work(uint32_t worker)
{
    inside = worker + 1;
    while (!lm_canceled()) {
        int64_t i = atomic_fetch_add(&pool.next, 1);
        if (i >= pool.n)
            break;
        pool.body(pool.ctx, i, worker);
    }
    inside = 0;
}

static void *thread_main(void *arg)
{
    uint32_t worker = (uint32_t)(uintptr_t)arg;
    uint64_t seen = 0;
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        while (pool.job == seen && !pool.quit)
            pthread_cond_wait(&pool.wake, &pool.lock);
        if (pool.quit)
            break;
        seen = pool.job;
        pthread_mutex_unlock(&pool.lock);
        work(worker);
        pthread_mutex_lock(&pool.lock);
        if (--pool.busy == 0)
            pthread_cond_signal(&pool.done);
    }
    pthread_mutex_unlock(&pool.lock);
    return NULL;
}

void lm_pool_stop(void)
{
    if (pool.threads == 0)
        return;
    pthread_mutex_lock(&pool.lock);
    pool.quit = true;
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
    for (int i = 0; i < pool.threads - 1; i++)
        pthread_join(pool.thread[i], NULL);
    lm_release(pool.thread);
    pool.thread = NULL;
    pool.threads = 0;
    pool.quit = false;
}

enum lm_status lm_pool_start(int threads, struct lm_err *e)
{
    lm_pool_stop();
    if (threads <= 0) {
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        threads = online > 0 ? (int)online : 1;
    }
    if (threads > MAX_THREADS)
        return lm_fail(e, LM_ECONFIG, "%d threads are too many; at most %d can be asked "
                       "for (--threads, run.threads)", threads, MAX_THREADS);
    pool.thread = lm_alloc_array((size_t)threads, sizeof *pool.thread, "thread pool");
    if (pool.thread == NULL)
        return lm_fail_memory(e, (size_t)threads * sizeof *pool.thread, "threads");
    pool.job = 0;                       /* threads start with seen = 0       */
    pool.threads = 1;
    /* Signals go to the main thread, whose system calls they interrupt. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (; pool.threads < threads; pool.threads++)
        if (pthread_create(&pool.thread[pool.threads - 1], NULL, thread_main,
                           (void *)(uintptr_t)pool.threads) != 0)
            break;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pool.threads < threads) {
        int started = pool.threads;
        lm_pool_stop();
        return lm_fail(e, LM_EFAILED, "only %d of %d threads could be started; ask for "
                       "fewer (--threads, run.threads)", started, threads);
    }
    return LM_OK;
}

int lm_pool_threads(void)
{
    return pool.threads > 0 ? pool.threads : 1;
}

/* On the calling thread alone, as the worker that it already is. */
static enum lm_status run_inline(int64_t n, body_fn *body, void *ctx)
{
    uint32_t was = inside;
    inside = was > 0 ? was : 1;
    for (int64_t i = 0; i < n && !lm_canceled(); i++)
        body(ctx, i, inside - 1);
    inside = was;
    return lm_canceled() ? LM_ECANCELED : LM_OK;
}

enum lm_status lm_parallel(int64_t n, body_fn *body, void *ctx)
{
    if (inside > 0)
        return run_inline(n, body, ctx);
    pthread_mutex_lock(&pool.caller);
    enum lm_status s;
    if (n <= 1 || pool.threads <= 1) {
        s = run_inline(n, body, ctx);
    } else {
        pthread_mutex_lock(&pool.lock);
        pool.body = body;
        pool.ctx = ctx;
        pool.n = n;
        atomic_store(&pool.next, 0);
        pool.busy = pool.threads - 1;
        pool.job++;
        pthread_cond_broadcast(&pool.wake);
        pthread_mutex_unlock(&pool.lock);
        work(0);
        pthread_mutex_lock(&pool.lock);
        while (pool.busy > 0)
            pthread_cond_wait(&pool.done, &pool.lock);
        pthread_mutex_unlock(&pool.lock);
        s = lm_canceled() ? LM_ECANCELED : LM_OK;
    }
    pthread_mutex_unlock(&pool.caller);
    return s;
}
