/* SPDX-License-Identifier: Apache-2.0 */
/* check_job.c -- one small run from end to end, in this process, with its k-th
 * allocation or its k-th file operation failing.
 *
 * A run whose allocation failed says so (LM_ENOMEM), leaves no block behind and
 * leaves a folder that can be gone on with: `run --resume`, or a new run where
 * no study had begun, ends with the report of a run that nothing disturbed.
 *
 * A command evaluator is part of it, so programs start and end at every k.
 *
 * k runs through 1..DENSE and then in about STEPS steps; with LAMINA_LONG in
 * the environment (`make check-long`) through every number, in PARTS tests:
 * Check counts a test's microseconds in 31 bits, which is 36 minutes.        */
#include <ftw.h>
#include <unistd.h>

#include "base/log.h"
#include "base/pool.h"
#include "base/process.h"
#include "loader/loader.h"
#include "pipeline/job.h"
#include "testing.h"

enum { DENSE = 12, STEPS = 16, PARTS = 8 };

static char root[256], out[300], cache[300];
static char *quiet_report;              /* trials of the undisturbed run */

static int unlink_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
    (void)st; (void)type; (void)f;
    return remove(path);
}

static void clear(const char *path)
{
    nftw(path, unlink_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* A pipeline of a few milliseconds that touches every part of a run. */
static enum lm_status small_conf(struct lm_conf **conf, struct lm_err *e)
{
    static const char form[] =
        "lamina = 1;\n"
        "run: { seed = 3; threads = 1; out = \"%s\"; finalists = 0; };\n"
        "model: { path = \"%s\"; };\n"
        "data: { calibration: { path = \"%s\"; sequences = 2; length = 16; }; };\n"
        "score = ( { use = \"wanda\"; } );\n"
        "prune = ( { use = \"kv_groups\"; }, { use = \"ffn\"; levels = [0.5]; } );\n"
        "repair: { use = \"least_squares\"; };\n"
        "evaluate = ( { use = \"kl\"; text = \"%s\"; window = 4; windows = 8; },\n"
        "             { use = \"size\"; } );\n"
        "final = ( { use = \"command\"; metrics = [ \"x\" ];\n"
        "  command = [ \"echo\", \"{ \\\"x\\\": 1, \\\"m\\\": \\\"{model}\\\" }\" ]; }"
        " );\n"
        "objectives = ( { metric = \"kl.nats\"; }, { metric = \"size.bytes\"; } );\n"
        "search: { use = \"chain\"; stages = ( { use = \"random\"; budget = 2; },\n"
        "          { use = \"nsga2\"; population = 4; budget = 4; } ); };\n"
        "sample: { tokens = 2; };\n"
        "race: { risk = 0.5; first = 2; };\n"
        "export = ( { use = \"gguf\"; dtype = \"q8_0\"; pick = \"smallest\"; } );\n"
        "report = ( { use = \"table\"; }, { use = \"json\"; }, { use = \"html\"; } );\n";
    char text[4096], short_text[300];
    snprintf(short_text, sizeof short_text, "%s/text.txt", root);
    snprintf(text, sizeof text, form, out, source_path("examples/tiny"), short_text,
             short_text);
    return lm_conf_parse(text, "small.cfg", NULL, 0, conf, e);
}

static enum lm_status work(struct lm_conf *conf, bool resume, struct lm_err *e)
{
    struct lm_str text = { 0 };
    enum lm_status s = lm_job_run(conf, resume, &text, e);
    lm_str_free(&text);
    lm_pool_stop();
    return s;
}

/* What the report says about the trials, without times.  Malloc'd. */
static char *trials(void)
{
    char path[400], *text;
    size_t n;
    snprintf(path, sizeof path, "%s/report.json", out);
    if (lm_read_file(path, 1 << 28, &text, &n, NULL))
        return NULL;
    char *at = strstr(text, "\"trials\"");
    char *copy = at ? strdup(at) : NULL;
    for (char *p = copy; p && (p = strstr(p, "\"seconds\": ")); p++)
        for (char *q = p + 11; *q && *q != ','; q++)
            *q = ' ';
    lm_release(text);
    return copy;
}

/* Removes runs of blanks, which the times left. */
static void squeeze(char *s)
{
    char *to = s;
    for (char last = 0; *s; last = *s++)
        if (*s != ' ' || last != ' ')
            *to++ = *s;
    *to = 0;
}

static void check_whole(const char *what, int64_t k)
{
    char *now = trials();
    ck_assert_msg(now != NULL, "%s %lld: no report", what, (long long)k);
    squeeze(now);
    size_t i = 0;
    while (now[i] && now[i] == quiet_report[i])
        i++;
    ck_assert_msg(!strcmp(now, quiet_report), "%s %lld: other trials: %.99s, not %.99s",
                  what, (long long)k, now + i, quiet_report + i);
    free(now);
}

static void setup(void)
{
    char path[400];
    struct lm_err e = { 0 };
    struct lm_conf *conf;
    scratch_begin(root);
    snprintf(out, sizeof out, "%s/run", root);
    snprintf(cache, sizeof cache, "%s/cache", root);
    setenv("XDG_CACHE_HOME", cache, 1);
    lm_log_level(LM_ERROR);
    lm_process_allow(true);
    snprintf(path, sizeof path, "%s/text.txt", root);
    ck_assert_ok(lm_write_file(path, "Mia has two apples and Tom has four. They go home "
                               "and count them, one and two and three, until the evening "
                               "comes and they eat what they have left of them. Then Tom "
                               "lost one apple in the garden.\n", 192, &e), e);
    ck_assert_ok(lm_loader_start(NULL, &e), e);
    ck_assert_ok(small_conf(&conf, &e), e);
    ck_assert_ok(work(conf, false, &e), e);
    quiet_report = trials();
    ck_assert_ptr_nonnull(quiet_report);
    squeeze(quiet_report);
}

static void teardown(void)
{
    free(quiet_report);
    lm_loader_stop();
    clear(root);
}

/* Goes on with the run, or begins it where there was no study yet. */
static void go_on(const char *what, int64_t k)
{
    struct lm_err e = { 0 };
    struct lm_conf *conf;
    char path[400], cwd[1024];
    ck_assert_ptr_nonnull(getcwd(cwd, sizeof cwd));
    snprintf(path, sizeof path, "%s/study.db", out);
    bool resume = lm_file_exists(path);
    enum lm_status s = resume ? lm_job_conf(out, NULL, 0, &conf, &e) : LM_OK;
    if (s == LM_EINPUT && strstr(e.text, "run it anew")) {
        resume = false;                 /* the study had not begun */
        s = LM_OK;
    }
    if (!s && !resume)
        s = small_conf(&conf, &e);
    if (!s)
        s = work(conf, resume, &e);
    ck_assert_int_eq(chdir(cwd), 0);
    ck_assert_msg(s == LM_OK, "%s %lld failed, and it cannot be gone on: %s: %s", what,
                  (long long)k, lm_status_name(s), e.text);
    check_whole(what, k);
}

/* One run with a fault; false: it had no k-th call. */
static bool fault(void (*arm)(int64_t), bool (*fired)(void), int64_t k, bool memory)
{
    struct lm_err e = { 0 };
    struct lm_conf *conf;
    const char *what = memory ? "allocation" : "file operation";
    clear(out);
    clear(cache);
    ck_assert_ok(small_conf(&conf, &e), e);     /* libconfig itself is no part of it */
    int64_t before = lm_mem_blocks();
    arm(k);
    enum lm_status s = work(conf, false, &e);
    bool hit = fired();
    arm(0);
    int64_t left = lm_mem_blocks();
    if (left > before)
        lm_mem_each(show_leak, NULL);
    ck_assert_msg(left <= before, "%s %lld: %lld blocks leak", what, (long long)k,
                  (long long)(left - before));
    if (s == LM_OK)                     /* it did without, or was not needed */
        check_whole(what, k);
    else {
        ck_assert_msg(hit, "%s %lld: %s", what, (long long)k, e.text);
        ck_assert_msg(memory ? s == LM_ENOMEM : s == LM_EIO || s == LM_EINPUT,
                      "%s %lld: %s: %s", what, (long long)k, lm_status_name(s), e.text);
        ck_assert_msg(e.text[0], "%s %lld: no message", what, (long long)k);
        go_on(what, k);
    }
    return hit;
}

static int64_t count(void (*arm)(int64_t), bool (*fired)(void), bool memory)
{
    int64_t low = 1, high = 2;          /* the run has a low-th call, no high-th */
    while (fault(arm, fired, high, memory))
        low = high, high *= 2;
    while (high - low > 1 + high / 10) {
        int64_t mid = low + (high - low) / 2;
        *(fault(arm, fired, mid, memory) ? &low : &high) = mid;
    }
    return high;
}

static void every_one(void (*arm)(int64_t), bool (*fired)(void), bool memory, int part)
{
    int64_t k = 1 + part;
    while (fault(arm, fired, k, memory))
        k += PARTS;
    ck_assert_int_gt(k, DENSE);
}

static void some(void (*arm)(int64_t), bool (*fired)(void), bool memory)
{
    int64_t n = count(arm, fired, memory), k = 1;
    while (fault(arm, fired, k, memory))
        k += k < DENSE ? 1 : 1 + (n - k % 7) / STEPS;
    ck_assert_int_gt(k, DENSE);
}

static bool thorough(void)
{
    return getenv("LAMINA_LONG") != NULL;
}

START_TEST(allocations_may_fail)
{
    if (thorough())
        every_one(lm_fault_memory, lm_fault_memory_fired, true, _i);
    else
        some(lm_fault_memory, lm_fault_memory_fired, true);
}
END_TEST

START_TEST(file_operations_may_fail)
{
    if (thorough())
        every_one(lm_fault_file, lm_fault_file_fired, false, _i);
    else
        some(lm_fault_file, lm_fault_file_fired, false);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("job");
    TCase *c = tcase_create("faults");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_set_timeout(c, thorough() ? 2000 : 240);
    tcase_add_loop_test(c, allocations_may_fail, 0, thorough() ? PARTS : 1);
    tcase_add_loop_test(c, file_operations_may_fail, 0, thorough() ? PARTS : 1);
    suite_add_tcase(s, c);
    return run_suites(&s, 1);
}
