/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of base/: errors, memory, strings, hashes, random numbers, threads. */
#include "check_base.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/pool.h"
#include "base/rng.h"
#include "base/str.h"
#include "testing.h"

/* ---- err -------------------------------------------------------------------- */

START_TEST(err_context)
{
    struct lm_err e = { 0 };
    ck_assert_int_eq(lm_fail(&e, LM_EINPUT, "layer %d is %s", 7, "odd"), LM_EINPUT);
    ck_assert_int_eq(lm_err_prefix(&e, "%s:%d: ", "run.cfg", 31), LM_EINPUT);
    ck_assert_str_eq(e.text, "run.cfg:31: layer 7 is odd");
    lm_fail(&e, LM_EIO, "again: %s", e.text);           /* own text as argument */
    ck_assert_str_eq(e.text, "again: run.cfg:31: layer 7 is odd");
    ck_assert_int_eq(e.code, LM_EIO);
    ck_assert_int_eq(lm_fail(NULL, LM_EBUG, "x"), LM_EBUG);
    lm_fail_memory(&e, 123, "the matrix");
    ck_assert_str_eq(e.text, "out of memory (wanted 123 bytes for the matrix)");
}
END_TEST

START_TEST(err_long_text_is_cut)
{
    struct lm_err e = { 0 };
    char big[3000];
    memset(big, 'x', sizeof big);
    big[sizeof big - 1] = '\0';
    lm_fail(&e, LM_EIO, "%s", big);
    ck_assert_uint_eq(strlen(e.text), sizeof e.text - 1);
    lm_err_prefix(&e, "front: ");
    ck_assert_uint_eq(strlen(e.text), sizeof e.text - 1);
    ck_assert_int_eq(strncmp(e.text, "front: xxx", 10), 0);
    lm_fail(&e, LM_EIO, "kept");
    lm_err_prefix(&e, "%s", big);                       /* no room for any of it */
    ck_assert_str_eq(e.text, "kept");
}
END_TEST

START_TEST(err_exit_codes)
{
    static const int want[] = { [LM_OK] = 0, [LM_ECONFIG] = 2, [LM_EINPUT] = 3,
        [LM_ENOMEM] = 1, [LM_EIO] = 1, [LM_EUNSUPPORTED] = 1, [LM_EINFEASIBLE] = 1,
        [LM_EUNAVAILABLE] = 1, [LM_ECANCELED] = 130, [LM_EFAILED] = 1, [LM_EBUG] = 1 };
    for (int s = 0; s <= LM_EBUG; s++) {
        ck_assert_int_eq(lm_exit_code((enum lm_status)s), want[s]);
        ck_assert_str_ne(lm_status_name((enum lm_status)s), "unknown status");
    }
}
END_TEST

/* ---- mem -------------------------------------------------------------------- */

START_TEST(mem_blocks_are_zeroed_and_aligned)
{
    int64_t blocks = lm_mem_blocks();
    for (size_t n = 0; n < 300; n += 7) {
        unsigned char *p = lm_alloc(n, "test");
        ck_assert_ptr_nonnull(p);
        ck_assert_uint_eq((uintptr_t)p % 64, 0);
        for (size_t i = 0; i < n; i++)
            ck_assert_uint_eq(p[i], 0);
        memset(p, 0xff, n);             /* the next must be zeroed again */
        ck_assert_int_eq(lm_mem_blocks(), blocks + 1);
        lm_release(p);
    }
    ck_assert_int_eq(lm_mem_blocks(), blocks);
    lm_release(NULL);
}
END_TEST

START_TEST(mem_resize_keeps_contents)
{
    unsigned char *p = lm_alloc(10, "test");
    for (int i = 0; i < 10; i++)
        p[i] = (unsigned char)i;
    static const size_t sizes[] = { 100, 5000, 3000000, 17, 64, 1 << 20, 10 };
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        p = lm_resize(p, sizes[s]);
        ck_assert_ptr_nonnull(p);
        ck_assert_uint_eq((uintptr_t)p % 64, 0);
        for (int i = 0; i < 10; i++)
            ck_assert_uint_eq(p[i], (unsigned)i);
    }
    lm_fault_memory(1);
    ck_assert_ptr_null(lm_resize(p, 99999));
    ck_assert_uint_eq(p[9], 9);         /* still there, still ours */
    lm_release(p);
}
END_TEST

START_TEST(mem_overflow)
{
    size_t z;
    int64_t i;
    ck_assert_ptr_null(lm_alloc_array(SIZE_MAX / 2, 3, "test"));
    ck_assert_ptr_null(lm_alloc(SIZE_MAX, "test"));
    ck_assert_ptr_null(lm_alloc(SIZE_MAX - 100, "test"));
    ck_assert(!lm_mul_size(SIZE_MAX, 2, &z));
    ck_assert(lm_mul_size(SIZE_MAX / 2, 2, &z));
    ck_assert(!lm_mul_i64(INT64_MIN, -1, &i));
    ck_assert(lm_mul_i64(-3, 5, &i));
    ck_assert_int_eq(i, -15);
}
END_TEST

START_TEST(mem_faults)
{
    lm_fault_memory(3);
    void *a = lm_alloc(1, "a"), *b = lm_alloc(1, "b");
    ck_assert(a != NULL && b != NULL && !lm_fault_memory_fired());
    ck_assert_ptr_null(lm_alloc(1, "c"));
    ck_assert(lm_fault_memory_fired());
    void *d = lm_alloc(1, "d");
    ck_assert_ptr_nonnull(d);
    lm_fault_memory(-2);
    void *f = lm_alloc(1, "f");
    ck_assert_ptr_nonnull(f);
    for (int i = 0; i < 5; i++)
        ck_assert_ptr_null(lm_alloc(1, "g"));
    lm_fault_memory(0);
    ck_assert(!lm_fault_memory_fired());
    lm_release(a), lm_release(b), lm_release(d), lm_release(f);
}
END_TEST

static void count_tag(void *ctx, const char *tag, size_t n)
{
    if (strcmp(tag, "wanted tag") == 0)
        *(size_t *)ctx += n;
}

START_TEST(mem_live_blocks_by_tag)
{
    size_t n = 0;
    char *p = lm_strdup("hello", "wanted tag");
    void *q = lm_resize(lm_alloc(1, "wanted tag"), 44), *r = lm_alloc(9, "other");
    lm_mem_each(count_tag, &n);
    ck_assert_uint_eq(n, 6 + 44);
    lm_release(p), lm_release(q), lm_release(r);
}
END_TEST

/* ---- str -------------------------------------------------------------------- */

static enum lm_status build_string(void *ctx)
{
    (void)ctx;
    struct lm_str t = { 0 };
    for (int i = 0; i < 200; i++)
        lm_str_add(&t, "%d,", i);
    lm_str_put(&t, "end\0", 4);
    bool failed = t.failed;
    if (!failed) {
        ck_assert_uint_eq(t.n, 690 + 4);
        ck_assert_str_eq(t.s + 690, "end");
        ck_assert_int_eq(strncmp(t.s, "0,1,2,", 6), 0);
    }
    lm_str_free(&t);
    return failed ? LM_ENOMEM : LM_OK;
}

START_TEST(str_grows_and_survives_faults)
{
    ck_assert_int_ge(fail_every_allocation(build_string, NULL), 4);
}
END_TEST

START_TEST(str_distance)
{
    static const struct { const char *a, *b; size_t d; } t[] = {
        { "", "", 0 }, { "abc", "", 3 }, { "kitten", "sitting", 3 },
        { "magnitude", "magntiude", 1 }, { "ca", "abc", 3 }, { "ab", "ba", 1 },
        { "wanda", "wanda", 0 }, { "seed", "sede", 1 }, { "abcdef", "bacdfe", 2 } };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        ck_assert_uint_eq(lm_distance(t[i].a, t[i].b), t[i].d);
        ck_assert_uint_eq(lm_distance(t[i].b, t[i].a), t[i].d);
    }
    char big[300];
    memset(big, 'a', sizeof big);
    big[299] = '\0';
    ck_assert_uint_eq(lm_distance(big, "a"), 299);
    ck_assert_uint_eq(lm_distance(big, big), 0);
}
END_TEST

START_TEST(str_nearest)
{
    static const char *const names[] = { "magnitude", "wanda", "block_influence", "cka" };
    ck_assert_str_eq(lm_nearest("magnitud", names, 4), "magnitude");
    ck_assert_str_eq(lm_nearest("wnada", names, 4), "wanda");
    ck_assert_str_eq(lm_nearest("blok_influnce", names, 4), "block_influence");
    ck_assert_ptr_null(lm_nearest("perplexity", names, 4));
    ck_assert_ptr_null(lm_nearest("xy", names, 4));
    ck_assert_ptr_null(lm_nearest("", names, 4));
    ck_assert_ptr_null(lm_nearest("wanda", names, 0));
    static const char *const alike[] = { "run", "prune", "prone" };
    ck_assert_str_eq(lm_nearest("prun", alike, 3), "prune");
    ck_assert_str_eq(lm_nearest("pron", alike, 3), "prone");
    ck_assert_str_eq(lm_nearest("rum", alike, 3), "run");
}
END_TEST

/* One '?' for each byte that is no part of a harmless character. */
START_TEST(str_tame)
{
    static const struct { const char *from, *to; } t[] = {
        { "plain, \n\ttext", "plain, \n\ttext" }, { "", "" },
        { "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80",
          "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80" },
        { "\x1b[31mred\x1b]0;t\x07", "?[31mred?]0;t?" }, { "a\rb\x7f\x08", "a?b??" },
        { "\xc2\x9b" "31m", "??31m" }, { "\xc2\xa0", "\xc2\xa0" },
        { "\x9b" "31m", "?31m" },
        { "\xe0\x80\x9b" "31m", "???31m" }, { "\xed\xa0\x80", "???" },
        { "\xf0\x80\x80\x9b", "????" }, { "\xf4\x90\x80\x80", "????" },
        { "\xe2\x82", "??" }, { "\xff\xc3", "??" }, { "\xe2\x1b[m", "??[m" },
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        char text[64];
        snprintf(text, sizeof text, "%s", t[i].from);
        lm_str_tame(text, strlen(text));
        ck_assert_str_eq(text, t[i].to);
        struct lm_err e = { 0 };
        lm_fail(&e, LM_EINPUT, "it says '%s'", t[i].from);
        snprintf(text, sizeof text, "it says '%s'", t[i].to);
        ck_assert_str_eq(e.text, text);
    }
}
END_TEST

START_TEST(str_utf8)
{
    static const struct { const char *s; size_t n, want; } t[] = {
        { "", 0, 0 }, { "\0", 1, 1 }, { "a", 1, 1 }, { "\x7f", 1, 1 }, { "\x80", 1, 0 },
        { "\xc1\xbf", 2, 0 }, { "\xc2\x80", 2, 2 }, { "\xdf\xbf!", 3, 2 },
        { "\xc3\xa4", 1, 0 }, { "\xc3" "a", 2, 0 }, { "\xc3\xff", 2, 0 },
        { "\xe0\x9f\xbf", 3, 0 }, { "\xe0\xa0\x80", 3, 3 }, { "\xe2\x82", 2, 0 },
        { "\xed\x9f\xbf", 3, 3 }, { "\xed\xa0\x80", 3, 0 }, { "\xed\xbf\xbf", 3, 0 },
        { "\xee\x80\x80", 3, 3 }, { "\xef\xbf\xbf", 3, 3 }, { "\xe1\x80" "a", 3, 0 },
        { "\xf0\x8f\xbf\xbf", 4, 0 }, { "\xf0\x90\x80\x80", 4, 4 },
        { "\xf4\x8f\xbf\xbf", 4, 4 }, { "\xf4\x90\x80\x80", 4, 0 },
        { "\xf5\x80\x80\x80", 4, 0 }, { "\xf0\x90\x80", 3, 0 }, { "\xff", 1, 0 },
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++)
        ck_assert_msg(lm_utf8_char(t[i].s, t[i].n) == t[i].want, "case %zu", i);
}
END_TEST

START_TEST(str_for_people)
{
    char t[32];
    ck_assert_str_eq(lm_human_bytes(t, 0), "0 B");
    ck_assert_str_eq(lm_human_bytes(t, 999), "999 B");
    ck_assert_str_eq(lm_human_bytes(t, 1000), "1.0 kB");
    ck_assert_str_eq(lm_human_bytes(t, 999960), "1.0 MB");
    ck_assert_str_eq(lm_human_bytes(t, 1.23e9), "1.2 GB");
    ck_assert_str_eq(lm_human_time(t, 0.25), "250 ms");
    ck_assert_str_eq(lm_human_time(t, 2.5), "2.5 s");
    ck_assert_str_eq(lm_human_time(t, 59.7), "1 min 0 s");
    ck_assert_str_eq(lm_human_time(t, 200), "3 min 20 s");
    ck_assert_str_eq(lm_human_time(t, 7500), "2 h 5 min");
    ck_assert_str_eq(lm_human_time(t, NAN), "unknown time");
    ck_assert_str_eq(lm_human_time(t, INFINITY), "unknown time");
}
END_TEST

/* ---- hash and rng ------------------------------------------------------------- */

/* Stored studies and caches hold these values: they may never change. */
START_TEST(hash_vectors)
{
    unsigned char b[100];
    for (int i = 0; i < 100; i++)
        b[i] = (unsigned char)(i * 7 + 1);
    ck_assert_uint_eq(lm_hash("", 0, 0), UINT64_C(0x23797e81854b2f1d));
    ck_assert_uint_eq(lm_hash_str("lamina", 1), UINT64_C(0x6444f4c0fab5845e));
    ck_assert_uint_eq(lm_hash(b, 100, 42), UINT64_C(0xbd92cbab4c6ea714));
    ck_assert_uint_eq(lm_hash_u64(7, 42), UINT64_C(0xd9c24e61ae67d674));
    ck_assert_uint_eq(lm_hash_str(NULL, 5), lm_hash_str("", 5));
    uint64_t unaligned = lm_hash(b + 1, 60, 3);
    memmove(b, b + 1, 60);
    ck_assert_uint_eq(lm_hash(b, 60, 3), unaligned);
}
END_TEST

START_TEST(hash_tells_apart)
{
    unsigned char zero[100] = { 0 };
    for (size_t n = 0; n < 100; n++)
        for (size_t m = 0; m < n; m++)
            ck_assert_uint_ne(lm_hash(zero, n, 1), lm_hash(zero, m, 1));
    ck_assert_uint_ne(lm_hash(zero, 10, 1), lm_hash(zero, 10, 2));
    ck_assert_uint_ne(lm_hash_u64(1, 2), lm_hash_u64(2, 1));
}
END_TEST

/* Each input bit flips each output bit in about half of the cases: of 200
 * trials 100 +- 7; seven standard deviations are allowed. */
static void avalanche(size_t n)
{
    struct lm_rng r = lm_rng(1, "avalanche", n);
    unsigned char b[80];
    for (size_t bit = 0; bit < 8 * n; bit += 3) {
        int flips[64] = { 0 };
        for (int trial = 0; trial < 200; trial++) {
            for (size_t i = 0; i < n; i++)
                b[i] = (unsigned char)lm_rng_u64(&r);
            uint64_t h = lm_hash(b, n, 9);
            b[bit / 8] ^= (unsigned char)(1 << bit % 8);
            h ^= lm_hash(b, n, 9);
            for (int i = 0; i < 64; i++)
                flips[i] += (int)(h >> i & 1);
        }
        for (int i = 0; i < 64; i++)
            ck_assert_msg(flips[i] > 50 && flips[i] < 150,
                          "length %zu, in %zu out %d: %d", n, bit, i, flips[i]);
    }
}

START_TEST(hash_avalanche)
{
    avalanche(4);
    avalanche(33);
    avalanche(80);
}
END_TEST

/* Published outputs of splitmix64 from state 1234567. */
START_TEST(rng_splitmix_vectors)
{
    static const uint64_t want[] = { UINT64_C(6457827717110365317),
        UINT64_C(3203168211198807973), UINT64_C(9817491932198370423),
        UINT64_C(4593380528125082431), UINT64_C(16408922859458223821) };
    struct lm_rng r = { 1234567 };
    for (int i = 0; i < 5; i++)
        ck_assert_uint_eq(lm_rng_u64(&r), want[i]);
}
END_TEST

START_TEST(rng_streams_differ)
{
    ck_assert_uint_eq(lm_seed(1, "search", 0), lm_rng(1, "search", 0).s);
    ck_assert_uint_eq(lm_seed(1, "search", 0), UINT64_C(0x31d8f5f3e24dcf93));
    ck_assert_uint_ne(lm_seed(1, "search", 0), lm_seed(1, "search", 1));
    ck_assert_uint_ne(lm_seed(1, "search", 0), lm_seed(2, "search", 0));
    ck_assert_uint_ne(lm_seed(1, "search", 0), lm_seed(1, "searcher", 0));
}
END_TEST

START_TEST(rng_unit_and_below)
{
    struct lm_rng r = lm_rng(3, "test", 0);
    double sum = 0, square = 0;
    int count[7] = { 0 };
    enum { N = 70000 };
    for (int i = 0; i < N; i++) {
        double u = lm_rng_unit(&r);
        ck_assert(u >= 0 && u < 1);
        sum += u;
        square += u * u;
        count[lm_rng_below(&r, 7)]++;
    }
    ck_assert_double_eq_tol(sum / N, 0.5, 0.006);           /* 5 sigma */
    ck_assert_double_eq_tol(square / N, 1.0 / 3, 0.006);
    for (int i = 0; i < 7; i++)
        ck_assert_msg(abs(count[i] - N / 7) < 500, "%d: %d", i, count[i]);
    ck_assert_uint_eq(lm_rng_below(&r, 1), 0);
    ck_assert_uint_eq(lm_rng_below(&r, 0), 0);
    /* n just above 2^63: half of the draws are refused, the rest are right */
    for (int i = 0; i < 100; i++)
        ck_assert(lm_rng_below(&r, (UINT64_C(1) << 63) + 1) <= UINT64_C(1) << 63);
}
END_TEST

/* ---- pool --------------------------------------------------------------------- */

struct job { atomic_int hits[1000], outside, nested, by_worker[8]; int workers; };

static void nested_body(void *ctx, int64_t i, uint32_t worker)
{
    struct job *j = ctx;
    (void)i;
    if (worker >= (uint32_t)j->workers)
        atomic_fetch_add(&j->outside, 1);
    atomic_fetch_add(&j->nested, 1);
}

static void body(void *ctx, int64_t i, uint32_t worker)
{
    struct job *j = ctx;
    if (worker >= (uint32_t)j->workers) {
        atomic_fetch_add(&j->outside, 1);
        return;
    }
    /* A worker number belongs to one thread at a time. */
    if (atomic_fetch_add(&j->by_worker[worker], 1) != 0)
        atomic_fetch_add(&j->outside, 1);
    atomic_fetch_add(&j->hits[i], 1);
    if (i % 100 == 0)
        lm_parallel(10, nested_body, j);
    atomic_fetch_sub(&j->by_worker[worker], 1);
}

START_TEST(pool_runs_each_item_once)
{
    for (int threads = 1; threads <= 5; threads++) {
        ck_assert_int_eq(lm_pool_start(threads, NULL), LM_OK);
        ck_assert_int_eq(lm_pool_threads(), threads);
        for (int round = 0; round < 50; round++) {
            static struct job j;
            memset(&j, 0, sizeof j);
            j.workers = threads;
            ck_assert_int_eq(lm_parallel(1000, body, &j), LM_OK);
            for (int i = 0; i < 1000; i++)
                ck_assert_int_eq(j.hits[i], 1);
            ck_assert_int_eq(j.nested, 100);
            ck_assert_int_eq(j.outside, 0);
        }
    }
    lm_pool_stop();
    ck_assert_int_eq(lm_pool_threads(), 1);
}
END_TEST

START_TEST(pool_without_threads)
{
    static struct job j;
    j.workers = 1;
    ck_assert_int_eq(lm_parallel(1000, body, &j), LM_OK);
    ck_assert_int_eq(lm_parallel(0, body, &j), LM_OK);
    for (int i = 0; i < 1000; i++)
        ck_assert_int_eq(j.hits[i], 1);
    lm_fault_memory(1);
    ck_assert_int_eq(lm_pool_start(3, NULL), LM_ENOMEM);
    ck_assert_int_eq(lm_pool_start(1025, NULL), LM_ECONFIG);
    ck_assert_int_eq(lm_pool_threads(), 1);
    lm_pool_stop();
}
END_TEST

static void cancel_body(void *ctx, int64_t i, uint32_t worker)
{
    (void)worker;
    atomic_fetch_add((atomic_int *)ctx, 1);
    if (i == 10)
        lm_cancel(true);
}

START_TEST(pool_cancel)
{
    for (int threads = 1; threads <= 3; threads++) {
        atomic_int ran = 0;
        ck_assert_int_eq(lm_pool_start(threads, NULL), LM_OK);
        ck_assert_int_eq(lm_parallel(100000, cancel_body, &ran), LM_ECANCELED);
        ck_assert_int_ge(ran, 11);
        ck_assert_int_lt(ran, 100000);
        ck_assert(lm_canceled());
        ck_assert_int_eq(lm_parallel(5, cancel_body, &ran), LM_ECANCELED);
        lm_cancel(false);
        lm_pool_stop();
    }
}
END_TEST

START_TEST(pool_signals)
{
    pid_t child = fork();
    if (child == 0) {
        lm_cancel_on_signals();
        raise(SIGINT);
        if (!lm_canceled())
            _exit(1);
        raise(SIGTERM);
        _exit(2);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 130);
}
END_TEST

/* ---- log ----------------------------------------------------------------------- */

/* What the calls of talk() write to a stderr that is no terminal. */
static void talk(void)
{
    lm_log(LM_DEBUG, "not shown");
    lm_log(LM_INFO, "n = %d", 3);
    lm_log(LM_WARN, "careful");
    lm_progress_begin("work");
    lm_progress(0.5, "half");           /* within the first seconds: nothing */
    lm_progress_end();
    lm_log_level(LM_ERROR);
    lm_log(LM_WARN, "quiet");
    lm_log(LM_ERROR, "broken");
}

START_TEST(log_plain_lines)
{
    int fd[2];
    char text[500] = "";
    ck_assert_int_eq(pipe(fd), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(fd[1], STDERR_FILENO);
        talk();
        _exit(0);
    }
    close(fd[1]);
    size_t have = 0;
    for (ssize_t n; (n = read(fd[0], text + have, sizeof text - 1 - have)) > 0;)
        have += (size_t)n;
    close(fd[0]);
    waitpid(child, NULL, 0);
    ck_assert_str_eq(text, "n = 3\nwarning: careful\nerror: broken\n");
}
END_TEST

/* On a terminal the line is redrawn, steps aside for messages, and goes; a
 * nested task moves the outer one on.                                        */
START_TEST(log_terminal)
{
    int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    ck_assert_int_ge(terminal, 0);
    ck_assert_int_eq(grantpt(terminal), 0);
    ck_assert_int_eq(unlockpt(terminal), 0);
    int end = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    ck_assert_int_ge(end, 0);
    char text[2000] = "";
    pid_t child = fork();
    if (child == 0) {
        dup2(end, STDERR_FILENO);
        lm_progress_begin("work");
        lm_progress(0.25, NULL);
        lm_progress_begin("inner");
        usleep(150000);
        lm_progress(0.3, NULL);
        lm_progress_end();
        lm_progress(0.26, "too soon to be drawn now");
        lm_log(LM_INFO, "message");
        lm_progress_begin("nested");
        usleep(150000);
        lm_progress(0.1, "nested");
        lm_progress_end();
        usleep(150000);
        lm_progress(0.5, "half");
        lm_progress_end();
        _exit(0);
    }
    waitpid(child, NULL, 0);
    close(end);
    size_t have = 0;
    for (ssize_t n; (n = read(terminal, text + have, sizeof text - 1 - have)) > 0;)
        have += (size_t)n;
    close(terminal);
    ck_assert_str_eq(text, "\rwork: 25 %\033[K" "\rwork: 32 % (inner 30 %)\033[K"
                     "\r\033[Kmessage\r\n" "\rwork: 32 % (inner 30 %)\033[K" "\rwork: 26 % (too soon to be drawn now)\033[K"
                     "\rwork: 50 % (half)\033[K" "\r\033[K");
}
END_TEST

static Suite *base_suite(void)
{
    Suite *s = suite_create("base");
    TCase *c = tcase_create("base");
    tcase_add_test(c, err_context);
    tcase_add_test(c, err_long_text_is_cut);
    tcase_add_test(c, err_exit_codes);
    tcase_add_test(c, mem_blocks_are_zeroed_and_aligned);
    tcase_add_test(c, mem_resize_keeps_contents);
    tcase_add_test(c, mem_overflow);
    tcase_add_test(c, mem_faults);
    tcase_add_test(c, mem_live_blocks_by_tag);
    tcase_add_test(c, str_grows_and_survives_faults);
    tcase_add_test(c, str_distance);
    tcase_add_test(c, str_nearest);
    tcase_add_test(c, str_tame);
    tcase_add_test(c, str_utf8);
    tcase_add_test(c, str_for_people);
    tcase_add_test(c, hash_vectors);
    tcase_add_test(c, hash_tells_apart);
    tcase_add_test(c, hash_avalanche);
    tcase_add_test(c, rng_splitmix_vectors);
    tcase_add_test(c, rng_streams_differ);
    tcase_add_test(c, rng_unit_and_below);
    tcase_add_test(c, pool_runs_each_item_once);
    tcase_add_test(c, pool_without_threads);
    tcase_add_test(c, pool_cancel);
    tcase_add_test(c, pool_signals);
    tcase_add_test(c, log_plain_lines);
    tcase_add_test(c, log_terminal);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    Suite *suite[] = { base_suite(), file_suite(), json_suite(), math_suite() };
    return run_suites(suite, sizeof suite / sizeof *suite);
}
