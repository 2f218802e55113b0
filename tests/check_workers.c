/* SPDX-License-Identifier: Apache-2.0 */
/* check_workers.c -- what a run and its workers tell each other: messages come back as
 * they were said, and none that was cut, changed or made up is taken; frames; children;
 * signs of life.                                                             */
#include "testing.h"

#include <math.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/child.h"
#include "base/log.h"
#include "base/process.h"
#include "base/rng.h"
#include "pipeline/worker_message.h"

/* ---- messages --------------------------------------------------------------------- */

enum { PLANS = 3, METRICS = 4, JUDGES = 2, SUMS = 5 };
static const bool skip[PLANS][METRICS] = { { false, true, false, true }, { true },
                                           { false } };
static const int64_t low[JUDGES] = { 0, 7 }, high[JUDGES] = { 9, INT64_MAX };
static struct lm_order_plan plans[PLANS] = {
    { UINT64_C(0xfedcba9876543210), 0, 1, "plan 1 layers=6\n", skip[0] },
    { 2, 0.25, 0.5, "", skip[1] },
    { 3, 1.0 / 3, 1, "plan 1 layers=6\nlayer 3: none\n", skip[2] } };
static const struct lm_order order = { .id = 9, .batch = UINT64_MAX, .final = 1,
    .pass = LM_PASS_QUIET, .threads = 2, .n_metric = METRICS, .n_judge = JUDGES,
    .n = PLANS, .low = low, .high = high, .plan = plans };
static const struct lm_sum sums[SUMS] = { { 1.0 / 3, 1 }, { -0.0, 0 }, { 5e-324, 511 },
                                          { -1e300, 2 }, { 7, 1e-300 } };
static struct lm_done_plan answers[PLANS] = {
    { 0, "", SUMS, (const char *)sums }, { LM_EFAILED, "kl: not today", 0, NULL },
    { 0, "", 0, NULL } };
static const struct lm_done answer = { .id = 9, .fingerprint = 77, .text = "",
                                       .asked = 3e12, .run = 2e12, .n = PLANS,
                                       .tally = { .runs = 15, .again = 2, .kept = 1,
                                                  .worst = 0.25, .other = true },
                                       .plan = answers };
static const struct lm_hello hello = { "0.1.0", "lamina = 1;\n", 3, 1000000, 4, true };

/* The body of the one message in t. */
static const void *body_of(const struct lm_str *t, uint32_t want, size_t *n)
{
    static struct lm_frames f;
    const void *body;
    uint32_t kind;
    lm_frames_free(&f);
    lm_str_put(&f.in, t->s, t->n);
    ck_assert(lm_frames_next(&f, &kind, &body, n));
    ck_assert_uint_eq(kind, want);
    ck_assert_uint_eq(f.at, t->n);
    return body;
}

static void check_order(const struct lm_order *o)
{
    ck_assert_uint_eq(o->id, order.id);
    ck_assert_uint_eq(o->batch, order.batch);
    ck_assert_uint_eq(o->final, 1);
    ck_assert_uint_eq(o->pass, LM_PASS_QUIET);
    ck_assert_uint_eq(o->threads, 2);
    ck_assert_uint_eq(o->n, PLANS);
    ck_assert_uint_eq(o->n_metric, METRICS);
    ck_assert_uint_eq(o->n_judge, JUDGES);
    for (size_t j = 0; j < JUDGES; j++) {
        ck_assert_int_eq(o->low[j], low[j]);
        ck_assert_int_eq(o->high[j], high[j]);
    }
    for (size_t i = 0; i < PLANS; i++) {
        ck_assert_uint_eq(o->plan[i].hash, plans[i].hash);
        ck_assert_double_eq(o->plan[i].from, plans[i].from);
        ck_assert_double_eq(o->plan[i].to, plans[i].to);
        ck_assert_str_eq(o->plan[i].plan, plans[i].plan);
        ck_assert_mem_eq(o->plan[i].skip, skip[i], sizeof skip[i]);
    }
}

START_TEST(messages_come_back)
{
    struct lm_str t = { 0 };
    struct lm_err e = { 0 };
    struct lm_order o;
    struct lm_done d;
    struct lm_hello h;
    struct lm_alive a = { 9, 0.25 }, b;
    uint64_t model;
    void *block;
    size_t n;
    lm_say_order(&t, &order);
    const void *body = body_of(&t, LM_SAY_ORDER, &n);
    ck_assert_ok(lm_hear_order(body, n, &o, &block, &e), e);
    check_order(&o);
    lm_release(block);
    t.n = 0;
    lm_say_done(&t, &answer);
    body = body_of(&t, LM_SAY_DONE, &n);
    ck_assert_ok(lm_hear_done(body, n, &d, &block, &e), e);
    ck_assert_uint_eq(d.fingerprint, 77);
    ck_assert_double_eq(d.asked, 3e12);
    ck_assert(d.tally.runs == 15 && d.tally.again == 2 && d.tally.kept == 1);
    ck_assert(d.tally.worst == 0.25 && d.tally.other);
    ck_assert_uint_eq(d.n, PLANS);
    ck_assert_mem_eq(d.plan[0].sums, sums, sizeof sums);        /* bit for bit */
    ck_assert_uint_eq(d.plan[1].status, LM_EFAILED);
    ck_assert_str_eq(d.plan[1].text, "kl: not today");
    ck_assert_uint_eq(d.plan[2].n, 0);
    lm_release(block);
    t.n = 0;
    lm_say_hello(&t, &hello);
    body = body_of(&t, LM_SAY_HELLO, &n);
    ck_assert_ok(lm_hear_hello(body, n, &h, &e), e);
    ck_assert_str_eq(h.pipeline, hello.pipeline);
    ck_assert_uint_eq(h.workers, hello.workers);
    ck_assert_str_eq(h.version, "0.1.0");
    ck_assert(h.commands && h.threads == 3 && h.memory == 1000000);
    t.n = 0;
    lm_say_alive(&t, &a);
    body = body_of(&t, LM_SAY_ALIVE, &n);
    ck_assert_ok(lm_hear_alive(body, n, &b, &e), e);
    ck_assert(b.id == 9 && b.fraction == 0.25);
    t.n = 0;
    lm_say_ready(&t, 5);
    body = body_of(&t, LM_SAY_READY, &n);
    ck_assert_ok(lm_hear_ready(body, n, &model, &e), e);
    ck_assert_uint_eq(model, 5);
    lm_str_free(&t);
}
END_TEST

/* Hears n bytes as each kind of message; whatever comes of it must not read behind them,
 * which the copy of exactly n bytes lets sanitizers see.                    */
static enum lm_status hear(int kind, const void *bytes, size_t n)
{
    struct lm_err e = { 0 };
    struct lm_order o;
    struct lm_done d;
    struct lm_hello h;
    struct lm_alive a;
    uint64_t model;
    void *block = NULL;
    char *copy = malloc(n ? n : 1);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, bytes, n);
    enum lm_status st = kind == LM_SAY_ORDER ? lm_hear_order(copy, n, &o, &block, &e)
                      : kind == LM_SAY_DONE ? lm_hear_done(copy, n, &d, &block, &e)
                      : kind == LM_SAY_HELLO ? lm_hear_hello(copy, n, &h, &e)
                      : kind == LM_SAY_READY ? lm_hear_ready(copy, n, &model, &e)
                                             : lm_hear_alive(copy, n, &a, &e);
    ck_assert(st == LM_OK || (st == LM_EINPUT && e.text[0] && !block));
    lm_release(block);
    free(copy);
    return st;
}

static void say(int kind, struct lm_str *t)
{
    const struct lm_alive a = { 9, 0.25 };
    t->n = 0;
    if (kind == LM_SAY_ORDER)
        lm_say_order(t, &order);
    else if (kind == LM_SAY_DONE)
        lm_say_done(t, &answer);
    else if (kind == LM_SAY_HELLO)
        lm_say_hello(t, &hello);
    else if (kind == LM_SAY_READY)
        lm_say_ready(t, 5);
    else
        lm_say_alive(t, &a);
}

START_TEST(what_was_cut_is_refused)
{
    struct lm_str t = { 0 };
    size_t n;
    say(_i, &t);
    const char *body = body_of(&t, (uint32_t)_i, &n);
    ck_assert_int_eq(hear(_i, body, n), LM_OK);
    for (size_t k = 0; k < n; k++)
        ck_assert_int_eq(hear(_i, body, k), LM_EINPUT);
    lm_str_put(&t, "", 1);              /* and one byte more */
    t.s[t.n - 1] = 0;
    ck_assert_int_eq(hear(_i, t.s + t.n - n - 1, n + 1), LM_EINPUT);
    lm_str_free(&t);
}
END_TEST

START_TEST(what_was_changed_does_no_harm)
{
    struct lm_str t = { 0 };
    struct lm_rng rng = lm_rng(1, "workers", (uint64_t)_i);
    size_t n, refused = 0;
    say(_i, &t);
    const char *body = body_of(&t, (uint32_t)_i, &n);
    char *copy = malloc(n);
    ck_assert_ptr_nonnull(copy);
    for (size_t k = 0; k < n; k++)      /* each byte, to each kind of value */
        for (int v = 0; v < 4; v++) {
            memcpy(copy, body, n);
            copy[k] = (char)(v == 0 ? 0xff : v == 1 ? 0x7f : v == 2 ? 0x80 : copy[k] ^ 1);
            refused += hear(_i, copy, n) != LM_OK;
        }
    for (int i = 0; i < 20000; i++) {
        memcpy(copy, body, n);
        for (int k = 0; k < 4; k++)
            copy[lm_rng_below(&rng, n)] = (char)lm_rng_u64(&rng);
        refused += hear(_i, copy, n) != LM_OK;
    }
    ck_assert(_i == LM_SAY_READY || refused > 1000);
    free(copy);
    lm_str_free(&t);
}
END_TEST

/* Says d and hears it. */
static enum lm_status round_trip(struct lm_done d)
{
    struct lm_str t = { 0 };
    size_t n;
    lm_say_done(&t, &d);
    const void *body = body_of(&t, LM_SAY_DONE, &n);
    enum lm_status st = hear(LM_SAY_DONE, body, n);
    lm_str_free(&t);
    return st;
}

START_TEST(sums_must_be_finite)
{
    static const struct lm_sum wrong[] = { { NAN, 1 }, { INFINITY, 1 }, { 1, -1 },
                                           { 1, NAN }, { 1, INFINITY } };
    struct lm_done_plan p = { 0, "", 1, (const char *)&sums[0] };
    struct lm_done d = { .text = "", .n = 1, .plan = &p };
    ck_assert_int_eq(round_trip(d), LM_OK);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        p.sums = (const char *)&wrong[i];
        ck_assert_int_eq(round_trip(d), LM_EINPUT);
    }
    p = (struct lm_done_plan){ LM_EFAILED, "", 0, NULL };   /* a failure says why ... */
    ck_assert_int_eq(round_trip(d), LM_EINPUT);
    p = (struct lm_done_plan){ LM_EFAILED, "so", 1, (const char *)sums };
    ck_assert_int_eq(round_trip(d), LM_EINPUT);             /* ... and has no sums */
    p = (struct lm_done_plan){ LM_EBUG + 1, "so", 0, NULL };
    ck_assert_int_eq(round_trip(d), LM_EINPUT);
    d.n = 0;
    d.asked = -1;
    ck_assert_int_eq(round_trip(d), LM_EINPUT);
    d.asked = NAN;
    ck_assert_int_eq(round_trip(d), LM_EINPUT);
    d.asked = 0;
    d.tally.kept = -1;
    ck_assert_int_eq(round_trip(d), LM_EINPUT);
    d.tally = (struct lm_tally){ .worst = NAN };
    ck_assert_int_eq(round_trip(d), LM_EINPUT);
}
END_TEST

static enum lm_status talk(void *ctx)
{
    struct lm_str *t = ctx, out = { 0 };
    struct lm_err e = { 0 };
    struct lm_order o;
    struct lm_done d;
    void *block;
    size_t n = t[0].n - 16;
    enum lm_status st = lm_hear_order(t[0].s + 16, n, &o, &block, &e);
    if (st)
        return st;
    lm_say_order(&out, &o);
    lm_release(block);
    st = out.failed ? LM_ENOMEM : LM_OK;
    lm_str_free(&out);
    if (st || (st = lm_hear_done(t[1].s + 16, t[1].n - 16, &d, &block, &e)))
        return st;
    lm_release(block);
    return LM_OK;
}

START_TEST(want_of_memory)
{
    struct lm_str t[2] = { { 0 }, { 0 } };
    say(LM_SAY_ORDER, &t[0]);
    say(LM_SAY_DONE, &t[1]);
    ck_assert_int_ge(fail_every_allocation(talk, t), 3);
    lm_str_free(&t[0]);
    lm_str_free(&t[1]);
}
END_TEST

/* ---- frames ----------------------------------------------------------------------- */

START_TEST(frames_in_pieces)
{
    int pair[2];
    struct lm_str t = { 0 };
    struct lm_frames f = { .at = 0 };
    struct lm_err e = { 0 };
    uint32_t kind;
    const void *body;
    size_t n, heard = 0;
    bool open;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    for (int i = 0; i < 3; i++)
        lm_say_order(&t, &order);
    for (size_t k = 0; k < t.n; k++) {
        ck_assert_int_eq(write(pair[1], t.s + k, 1), 1);
        ck_assert_ok(lm_frames_read(&f, pair[0], &open, &e), e);
        ck_assert(open);
        while (lm_frames_next(&f, &kind, &body, &n)) {
            ck_assert_uint_eq(n, t.n / 3 - 16);
            ck_assert_int_eq(hear(LM_SAY_ORDER, body, n), LM_OK);
            heard++;
        }
        ck_assert_uint_eq(heard, (k + 1) / (t.n / 3));
    }
    close(pair[1]);
    ck_assert_ok(lm_frames_read(&f, pair[0], &open, &e), e);
    ck_assert(!open);
    close(pair[0]);
    lm_frames_free(&f);
    lm_str_free(&t);
}
END_TEST

/* What is read of these heads. */
static enum lm_status read_head(uint32_t magic, uint64_t size)
{
    struct { uint32_t magic, kind; uint64_t n; } head = { magic, 1, size };
    int pair[2];
    struct lm_frames f = { .at = 0 };
    struct lm_err e = { 0 };
    bool open;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    ck_assert_int_eq(write(pair[1], &head, sizeof head), sizeof head);
    size_t before = live_bytes();
    enum lm_status st = lm_frames_read(&f, pair[0], &open, &e);
    ck_assert_uint_lt(live_bytes() - before, 1 << 17);  /* it pays for no promise */
    lm_frames_free(&f);
    close(pair[0]);
    close(pair[1]);
    return st;
}

START_TEST(heads_are_checked)
{
    struct lm_str t = { 0 };
    uint32_t magic;
    say(LM_SAY_READY, &t);
    memcpy(&magic, t.s, sizeof magic);
    ck_assert_int_eq(read_head(magic, 8), LM_OK);
    ck_assert_int_eq(read_head(magic, LM_FRAME_MOST), LM_OK);
    ck_assert_int_eq(read_head(magic, LM_FRAME_MOST + 1), LM_EINPUT);
    ck_assert_int_eq(read_head(magic, UINT64_MAX), LM_EINPUT);
    ck_assert_int_eq(read_head(magic ^ 1, 8), LM_EINPUT);
    lm_str_free(&t);
}
END_TEST

/* A frame whose end nobody reads is kept; one whose reader is gone is an error. */
START_TEST(nobody_listens)
{
    int pair[2];
    struct lm_str t = { 0 };
    struct lm_err e = { 0 };
    size_t at = 0;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    size_t begun = lm_frame_begin(&t, 1);
    for (int i = 0; i < 100000; i++)
        lm_str_put(&t, "0123456789", 10);
    lm_frame_end(&t, begun);
    ck_assert_ok(lm_frame_write(pair[0], &t, &at, &e), e);
    ck_assert(at > 0 && at < t.n);
    close(pair[1]);
    ck_assert_int_eq(lm_frame_write(pair[0], &t, &at, &e), LM_EIO);
    close(pair[0]);
    lm_str_free(&t);
}
END_TEST

/* ---- children --------------------------------------------------------------------- */

/* How a shell with this script ends. */
static const char *end_of(const char *script, double patience)
{
    static char how[64];
    const char *const argv[] = { "sh", "-c", script, NULL };
    struct lm_child c;
    struct lm_err e = { 0 };
    ck_assert_ok(lm_child_start(argv, &c, &e), e);
    int pid = c.pid;
    double begun = lm_clock();
    lm_child_end(&c, patience, how);
    ck_assert_double_lt(lm_clock() - begun, patience + 5);
    ck_assert_int_eq(c.pid, 0);
    for (int i = 0; i < 500 && !kill(-pid, 0); i++)     /* orphans are init's to bury */
        usleep(10000);
    ck_assert_int_ne(kill(-pid, 0), 0);         /* nobody of the group is left */
    return how;
}

START_TEST(children_end)
{
    ck_assert_str_eq(end_of("exit 7", 10), "ended with status 7");
    ck_assert_str_eq(end_of("kill -SEGV $$", 10), "killed by signal 11 (SIGSEGV)");
    ck_assert_str_eq(end_of("sleep 100", 0), "killed by signal 9 (SIGKILL)");
    ck_assert_str_eq(end_of("trap '' TERM; sleep 100 & sleep 100", 0.1),
                     "killed by signal 9 (SIGKILL)");
    ck_assert_str_eq(end_of("read line <&3; exit 5", 10), "ended with status 5");
}
END_TEST

START_TEST(no_such_program)
{
    const char *const argv[] = { "./no-such-program", NULL };
    struct lm_child c;
    struct lm_err e = { 0 };
    enum lm_status st = lm_child_start(argv, &c, &e);
    ck_assert_int_eq(st, LM_EFAILED);
    ck_assert_ptr_nonnull(strstr(e.text, "no-such-program"));
}
END_TEST

/* ---- signs of life ---------------------------------------------------------------- */

static double signs[64];
static size_t n_signs;

static void sign(void *ctx, double fraction)
{
    ck_assert_ptr_eq(ctx, signs);
    ck_assert_uint_lt(n_signs, 64);
    signs[n_signs++] = fraction;
}

START_TEST(progress_is_a_sign_of_life)
{
    lm_progress_sink(sign, signs);
    lm_progress_begin("working");
    usleep(150000);
    for (int i = 0; i < 100; i++)
        lm_progress(0.25, NULL);
    ck_assert(n_signs >= 1 && n_signs < 50);    /* not a hundred messages */
    ck_assert_double_eq(signs[0], 0.25);
    usleep(150000);
    lm_progress_alive();
    lm_progress_end();
    ck_assert_double_eq(signs[n_signs - 1], -1);
    size_t n = n_signs;
    lm_progress_sink(NULL, NULL);
    usleep(150000);
    lm_progress_alive();
    ck_assert_uint_eq(n_signs, n);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("workers");
    TCase *t = tcase_create("messages");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, messages_come_back);
    tcase_add_loop_test(t, what_was_cut_is_refused, LM_SAY_HELLO, LM_SAY_DONE + 1);
    tcase_add_loop_test(t, what_was_changed_does_no_harm, LM_SAY_HELLO, LM_SAY_DONE + 1);
    tcase_add_test(t, sums_must_be_finite);
    tcase_add_test(t, want_of_memory);
    tcase_add_test(t, frames_in_pieces);
    tcase_add_test(t, heads_are_checked);
    tcase_add_test(t, nobody_listens);
    tcase_add_test(t, children_end);
    tcase_add_test(t, no_such_program);
    tcase_add_test(t, progress_is_a_sign_of_life);
    suite_add_tcase(s, t);
    return run_suites(&s, 1);
}
