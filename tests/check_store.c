/* SPDX-License-Identifier: Apache-2.0 */
/* check_store.c -- studies on disk: what goes in comes out, also after SIGKILL;
 * damaged and foreign files; full disk; no memory.                          */
#include "testing.h"

#include <math.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/rng.h"
#include "study/store.h"

static char folder[256], path[300];

static void setup(void)
{
    scratch_begin(folder);
    snprintf(path, sizeof path, "%s/study.db", folder);
}

static void teardown(void)
{
    scratch_end(folder);
}

enum { SLOTS = 3, ITEMS = 5 };
static const union lm_value genes[SLOTS] = {
    { .real = -0.1 }, { .integer = INT64_MIN }, { .bits = UINT64_MAX }
};
static struct lm_sum sums[ITEMS];

/* Everything in a record depends on its id. */
static enum lm_status record(struct lm_store *s, int64_t id, struct lm_err *e)
{
    char plan[32];
    for (int i = 0; i < ITEMS; i++)
        sums[i] = (struct lm_sum){ 0.1 * (double)id + i, i + 1 };
    snprintf(plan, sizeof plan, "plan %d", (int)id);
    struct lm_measure m[] = {
        { "kl.nats", 0.25 * (double)id, 0.125, sums, ITEMS },
        { "size.bytes", 1e6, 0, NULL, 0 },
        { "latency.decode_ms", NAN, NAN, NULL, 0 }
    };
    struct lm_record r = { .id = id,
        .genome = UINT64_C(0xf000000000000000) + (uint64_t)id,
        .plan = UINT64_MAX - (uint64_t)id / 2, .value = genes, .n_slot = SLOTS,
        .plan_text = plan, .reason = id % 4 == 3 ? "no \"room\"" : "",
        .status = id % 4 == 3 ? LM_EINFEASIBLE : LM_OK, .fidelity = 1, .seconds = 0.5,
        .measure = m, .n_measure = id % 4 == 3 ? 0 : 3 };
    return lm_store_record(s, &r, e);
}

static void check_trial(struct lm_store *s, int64_t id)
{
    struct lm_record r;
    struct lm_err e = { 0 };
    char plan[32];
    ck_assert_ok(lm_store_trial(s, id, &r, &e), e);
    snprintf(plan, sizeof plan, "plan %d", (int)id);
    ck_assert_int_eq(r.id, id);
    ck_assert_uint_eq(r.genome, UINT64_C(0xf000000000000000) + (uint64_t)id);
    ck_assert_uint_eq(r.plan, UINT64_MAX - (uint64_t)id / 2);
    ck_assert_uint_eq(r.n_slot, SLOTS);
    ck_assert_mem_eq(r.value, genes, sizeof genes);
    ck_assert_str_eq(r.plan_text, plan);
    ck_assert_str_eq(r.reason, id % 4 == 3 ? "no \"room\"" : "");
    ck_assert_uint_eq(r.status, id % 4 == 3 ? LM_EINFEASIBLE : LM_OK);
    ck_assert_double_eq(r.seconds, 0.5);
    ck_assert_uint_eq(r.n_measure, id % 4 == 3 ? 0 : 3);
    if (!r.n_measure)
        return;
    ck_assert_str_eq(r.measure[0].metric, "kl.nats");
    ck_assert_double_eq(r.measure[0].value, 0.25 * (double)id);
    ck_assert_double_eq(r.measure[0].error, 0.125);
    ck_assert_uint_eq(r.measure[0].n_sum, ITEMS);
    for (int i = 0; i < ITEMS; i++) {
        ck_assert_double_eq(r.measure[0].sum[i].value, 0.1 * (double)id + i);
        ck_assert_double_eq(r.measure[0].sum[i].weight, i + 1);
    }
    ck_assert_uint_eq(r.measure[1].n_sum, 0);
    ck_assert(isnan(r.measure[2].value) && isnan(r.measure[2].error));
}

static struct lm_store *filled(int64_t n)
{
    struct lm_store *s;
    struct lm_err e = { 0 };
    ck_assert_ok(lm_store_open(path, true, &s, &e), e);
    for (int64_t i = 0; i < n; i++)
        ck_assert_ok(record(s, i, &e), e);
    return s;
}

START_TEST(round_trip)
{
    struct lm_err e = { 0 };
    struct lm_record r;
    char *text;
    int64_t blocks = lm_mem_blocks();
    struct lm_store *s = filled(9);
    ck_assert_ok(lm_store_put(s, "seed", "1", &e), e);
    ck_assert_ok(lm_store_put(s, "seed", "2", &e), e);
    lm_store_close(s);
    ck_assert_int_eq(lm_mem_blocks(), blocks);
    ck_assert_ok(lm_store_open(path, false, &s, &e), e);
    ck_assert_int_eq(lm_store_count(s), 9);
    for (int64_t i = 0; i < 9; i++)
        check_trial(s, 8 - i);
    ck_assert_int_eq(lm_store_trial(s, 9, &r, &e), LM_EUNAVAILABLE);
    ck_assert_int_eq(lm_store_trial(s, -1, &r, &e), LM_EUNAVAILABLE);
    ck_assert_ok(lm_store_get(s, "seed", &text, &e), e);
    ck_assert_str_eq(text, "2");
    lm_release(text);
    ck_assert_ok(lm_store_get(s, "nothing", &text, &e), e);
    ck_assert_ptr_null(text);
    lm_store_close(s);
    ck_assert_int_eq(lm_mem_blocks(), blocks);
}
END_TEST

/* Trials of a group are kept together or not at all. */
START_TEST(groups)
{
    struct lm_err e = { 0 };
    struct lm_store *s = filled(2);
    ck_assert_ok(lm_store_end(s, true, &e), e);         /* none is open */
    ck_assert_ok(lm_store_begin(s, &e), e);
    for (int64_t i = 2; i < 5; i++)
        ck_assert_ok(record(s, i, &e), e);
    check_trial(s, 4);
    ck_assert_ok(lm_store_end(s, false, &e), e);
    ck_assert_int_eq(lm_store_count(s), 2);
    ck_assert_ok(lm_store_begin(s, &e), e);
    ck_assert_ok(record(s, 2, &e), e);
    ck_assert_int_eq(record(s, 7, &e), LM_EBUG);
    ck_assert_ok(record(s, 3, &e), e);
    ck_assert_ok(lm_store_end(s, true, &e), e);
    ck_assert_ok(record(s, 4, &e), e);                  /* alone again */
    ck_assert_ok(lm_store_begin(s, &e), e);
    ck_assert_ok(record(s, 5, &e), e);
    lm_store_close(s);                                  /* as if killed */
    ck_assert_ok(lm_store_open(path, false, &s, &e), e);
    ck_assert_int_eq(lm_store_count(s), 5);
    for (int64_t i = 0; i < 5; i++)
        check_trial(s, i);
    lm_store_close(s);
}
END_TEST

/* Settled, the file under another name is the whole study. */
START_TEST(settled_file_stands_alone)
{
    struct lm_err e = { 0 };
    char name[320];
    struct lm_store *s = filled(3);
    snprintf(name, sizeof name, "%s.moved", path);
    ck_assert_ok(lm_store_settle(s, &e), e);
    ck_assert_ok(lm_move_file(path, name, &e), e);      /* its log stays behind */
    lm_store_close(s);
    ck_assert_ok(lm_store_open(name, false, &s, &e), e);
    ck_assert_int_eq(lm_store_count(s), 3);
    check_trial(s, 2);
    lm_store_close(s);
    unlink(name);
    ck_assert_int_eq(lm_move_file(name, path, &e), LM_EIO);
}
END_TEST

START_TEST(order_is_kept)
{
    struct lm_err e = { 0 };
    struct lm_store *s = filled(2), *other;
    ck_assert_int_eq(record(s, 3, &e), LM_EBUG);
    ck_assert_int_eq(record(s, 1, &e), LM_EBUG);
    /* a second run on the same study is told, not merged */
    ck_assert_ok(lm_store_open(path, false, &other, &e), e);
    ck_assert_ok(record(other, 2, &e), e);
    ck_assert_int_eq(record(s, 2, &e), LM_EFAILED);
    ck_assert_ptr_nonnull(strstr(e.text, "another process"));
    lm_store_close(other);
    check_trial(s, 1);
    lm_store_close(s);
}
END_TEST

/* A child records until it is killed; it says so after each trial. */
START_TEST(kill_loses_nothing)
{
    struct lm_rng rng = lm_rng(7, "kill", (uint64_t)_i);
    struct lm_err e = { 0 };
    struct lm_store *s = filled(0);
    lm_store_close(s);
    int pipes[2];
    ck_assert_int_eq(pipe(pipes), 0);
    pid_t child = fork();
    if (child == 0) {
        if (lm_store_open(path, false, &s, &e) != LM_OK)
            _exit(1);
        for (int64_t i = 0; record(s, i, &e) == LM_OK; i++)
            if (write(pipes[1], "x", 1) != 1)
                break;
        _exit(1);
    }
    close(pipes[1]);
    int64_t seen = 0, until = 1 + (int64_t)lm_rng_below(&rng, 60);
    char c;
    while (seen < until && read(pipes[0], &c, 1) == 1)
        seen++;
    usleep((useconds_t)lm_rng_below(&rng, 2000));
    kill(child, SIGKILL);
    while (read(pipes[0], &c, 1) == 1)
        seen++;
    int status;
    waitpid(child, &status, 0);
    close(pipes[0]);
    ck_assert(WIFSIGNALED(status));
    ck_assert_ok(lm_store_open(path, false, &s, &e), e);
    int64_t n = lm_store_count(s);
    ck_assert_int_ge(n, seen);
    ck_assert_int_le(n, seen + 1);
    for (int64_t i = 0; i < n; i++)
        check_trial(s, i);
    ck_assert_ok(record(s, n, &e), e);          /* and it goes on */
    lm_store_close(s);
}
END_TEST

static void expect_refused(enum lm_status code, const char *word)
{
    struct lm_store *s;
    struct lm_err e = { 0 };
    int64_t blocks = lm_mem_blocks();
    ck_assert_int_eq(lm_store_open(path, false, &s, &e), code);
    ck_assert_ptr_null(s);
    ck_assert_msg(strstr(e.text, word) != NULL, "\"%s\" does not say %s", e.text, word);
    ck_assert_int_eq(lm_mem_blocks(), blocks);
}

static void change(const char *sql)
{
    sqlite3 *db;
    ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    sqlite3_shutdown();
}

START_TEST(foreign_files)
{
    struct lm_err e = { 0 };
    struct lm_store *s;
    expect_refused(LM_EINPUT, "no study");
    ck_assert_ok(lm_write_file(path, "", 0, &e), e);
    expect_refused(LM_EINPUT, "interrupted");
    char noise[5000];
    memset(noise, 'n', sizeof noise);
    ck_assert_ok(lm_write_file(path, noise, sizeof noise, &e), e);
    expect_refused(LM_EINPUT, "not a study");
    remove(path);
    change("CREATE TABLE song(title TEXT)");
    expect_refused(LM_EINPUT, "another program");
    remove(path);
    lm_store_close(filled(1));
    ck_assert_int_eq(lm_store_open(path, true, &s, &e), LM_ECONFIG);
    ck_assert_ptr_nonnull(strstr(e.text, "exists already"));
    change("PRAGMA user_version = 99");
    expect_refused(LM_EINPUT, "version 99");
    snprintf(path, sizeof path, "%s/none/study.db", folder);
    ck_assert_int_eq(lm_store_open(path, true, &s, &e), LM_EIO);
}
END_TEST

static const struct { const char *sql, *word; bool at_open; } damage[] = {
    { "CREATE TRIGGER t AFTER INSERT ON trial BEGIN DELETE FROM trial; END", "tables",
      true },
    { "CREATE VIEW v AS SELECT 1", "tables", true },
    { "DROP INDEX trial_plan", "tables", true },
    { "ALTER TABLE measure ADD COLUMN more", "tables", true },
    { "DELETE FROM trial WHERE id = 1", "missing", true },
    { "UPDATE trial SET id = -5 WHERE id = 1", "missing", true },
    { "UPDATE trial SET value = x'0102'", "cut off", false },
    { "UPDATE trial SET value = 'text'", "numbers", false },
    { "UPDATE trial SET plan_text = x'00'", "text", false },
    { "UPDATE trial SET status = 4711", "status", false },
    { "UPDATE trial SET fidelity = 3.5", "fidelity", false },
    { "UPDATE trial SET seconds = 'soon'", "number", false },
    { "UPDATE trial SET plan = 'x'", "hash", false },
    { "UPDATE measure SET sums = x'01020304050607080102030405060708aa'", "cut off",
      false },
    { "UPDATE measure SET value = x'00'", "number", false },
    { "UPDATE measure SET metric = x'00'", "text", false },
};

START_TEST(damaged_contents)
{
    struct lm_err e = { 0 };
    struct lm_store *s;
    struct lm_record r;
    lm_store_close(filled(3));
    change(damage[_i].sql);
    if (damage[_i].at_open) {
        expect_refused(LM_EINPUT, damage[_i].word);
        return;
    }
    ck_assert_ok(lm_store_open(path, false, &s, &e), e);
    ck_assert_int_eq(lm_store_trial(s, 0, &r, &e), LM_EINPUT);
    ck_assert_msg(strstr(e.text, damage[_i].word) != NULL, "%s", e.text);
    lm_store_close(s);
}
END_TEST

/* Whatever bytes are in the file: a sentence or a study, no crash. */
START_TEST(damaged_bytes)
{
    struct lm_err e = { 0 };
    char *good, *bad;
    size_t n;
    lm_store_close(filled(60));
    ck_assert_ok(lm_read_file(path, 1 << 24, &good, &n, &e), e);
    bad = malloc(n);
    for (uint64_t k = 0; k < 60; k++) {
        struct lm_rng rng = lm_rng(1, "damage", k);
        struct lm_store *s;
        struct lm_record r;
        memcpy(bad, good, n);
        for (int i = 0; i < 1 + (int)(k % 8); i++)
            bad[lm_rng_below(&rng, k % 2 ? n : 4096)] = (char)lm_rng_u64(&rng);
        size_t length = k % 5 == 4 ? (size_t)lm_rng_below(&rng, n) : n;
        ck_assert_ok(lm_write_file(path, bad, length, &e), e);
        enum lm_status st = lm_store_open(path, false, &s, &e);
        if (st == LM_OK) {
            for (int64_t i = 0; i < lm_store_count(s); i++) {
                st = lm_store_trial(s, i, &r, &e);
                ck_assert_msg(st == LM_OK || st == LM_EINPUT, "%s", e.text);
            }
            lm_store_close(s);
        } else {
            ck_assert_msg(st == LM_EINPUT, "%s: %s", lm_status_name(st), e.text);
        }
    }
    free(bad);
    lm_release(good);
}
END_TEST

START_TEST(full_disk)
{
    struct lm_err e = { 0 };
    struct lm_store *s = filled(2);
    struct rlimit limit, tight = { 60000, RLIM_INFINITY };
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit);
    tight.rlim_max = limit.rlim_max;
    setrlimit(RLIMIT_FSIZE, &tight);
    enum lm_status st = LM_OK;
    int64_t n = 2;
    for (; n < 500 && (st = record(s, n, &e)) == LM_OK; n++)
        ;
    setrlimit(RLIMIT_FSIZE, &limit);
    ck_assert_int_eq(st, LM_EIO);
    ck_assert_int_eq(lm_store_count(s), n);
    check_trial(s, n - 1);
    ck_assert_ok(record(s, n, &e), e);          /* with space again it goes on */
    lm_store_close(s);
    ck_assert_ok(lm_store_open(path, false, &s, &e), e);
    ck_assert_int_eq(lm_store_count(s), n + 1);
    lm_store_close(s);
}
END_TEST

/* SQLite does without some allocations, so success is allowed too; what was
 * reported as recorded must be there.                                       */
static enum lm_status scenario(int64_t *recorded, struct lm_err *e)
{
    struct lm_store *s;
    struct lm_record r;
    char *text;
    enum lm_status st = lm_store_open(path, true, &s, e);
    if (st != LM_OK)
        return st;
    for (int64_t i = 0; st == LM_OK && i < 3; i++) {
        st = record(s, i, e);
        *recorded += st == LM_OK;
    }
    if (st == LM_OK)
        st = lm_store_put(s, "key", "value", e);
    if (st == LM_OK && (st = lm_store_get(s, "key", &text, e)) == LM_OK)
        lm_release(text);
    for (int64_t i = 0; st == LM_OK && i < 3; i++)
        st = lm_store_trial(s, i, &r, e);
    lm_store_close(s);
    return st;
}

START_TEST(memory_runs_out)
{
    for (int64_t k = 1;; k++) {
        struct lm_err e = { 0 };
        struct lm_store *s;
        int64_t blocks = lm_mem_blocks(), recorded = 0;
        scratch_end(folder);
        setup();
        lm_fault_memory(k);
        enum lm_status st = scenario(&recorded, &e);
        bool fired = lm_fault_memory_fired();
        lm_fault_memory(0);
        ck_assert_msg(st == LM_OK || (fired && st == LM_ENOMEM), "%lld: %s: %s",
                      (long long)k, lm_status_name(st), e.text);
        ck_assert_msg(lm_mem_blocks() == blocks, "allocation %lld leaks", (long long)k);
        if (recorded > 0) {
            ck_assert_ok(lm_store_open(path, false, &s, &e), e);
            ck_assert_int_eq(lm_store_count(s), recorded);
            lm_store_close(s);
        }
        if (!fired)
            break;
        ck_assert_int_lt(k, 5000);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store");
    TCase *t = tcase_create("store");
    tcase_set_timeout(t, 240);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, round_trip);
    tcase_add_test(t, groups);
    tcase_add_test(t, settled_file_stands_alone);
    tcase_add_test(t, order_is_kept);
    tcase_add_loop_test(t, kill_loses_nothing, 0, 10);
    tcase_add_test(t, foreign_files);
    tcase_add_loop_test(t, damaged_contents, 0, (int)(sizeof damage / sizeof *damage));
    tcase_add_test(t, damaged_bytes);
    tcase_add_test(t, full_disk);
    tcase_add_test(t, memory_runs_out);
    suite_add_tcase(suite, t);
    return run_suites(&suite, 1);
}
