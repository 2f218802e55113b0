/* SPDX-License-Identifier: Apache-2.0 */
/* check_candidate_spill.c -- derived matrices in files, and candidates of an engine that
 * streams: the same numbers, counted where they lie, and gone from the disk; a full
 * disk is an error that says what to do.                                        */
#include "plan/part.h"

#include "check_candidate.h"

static struct lm_workshop_args spilling(size_t memory)
{
    return (struct lm_workshop_args){ .engine = engine, .model = model, .stats = stats,
                                      .space = space, .repair = choose, .memory = memory,
                                      .spill = folder };
}

/* Only the file of statistics has a name. */
static void check_folder(void)
{
    char **names;
    size_t n;

    ck_assert_ok(lm_list_folder(folder, &names, &n, &e), e);
    ck_assert_uint_eq(n, 1);
    lm_free_names(names, n);
}

/* Losses of a plan with a bit of everything; use: while it is open. */
static void losses_in(const struct lm_workshop_args *a, float *nll,
                      struct lm_workshop_use *use)
{
    struct lm_plan *p = mixed();
    struct lm_candidate c;
    struct lm_err err;
    struct lm_workshop *w;

    ck_assert_ok(lm_workshop_open(a, &w, &e), e);
    ck_assert_ok(lm_candidates_open(w, &p, 1, &c, &err, &e), e);
    ck_assert_msg(err.code == LM_OK, "%s", err.text);
    losses(a->engine, &c.net, nll);
    lm_workshop_use(w, use);
    check_folder();
    lm_candidate_close(w, &c);
    lm_workshop_close(w);
    lm_plan_free(p);
}

START_TEST(files_hold_the_same)
{
    struct lm_workshop_args a = spilling(1 << 20);
    struct lm_workshop_use heap, some, all, cold;
    float x[LENGTH], y[LENGTH];
    struct lm_engine *g;

    repairing = true;
    losses_in(&a, x, &heap);
    ck_assert_uint_gt(heap.bytes, 4000);
    ck_assert_uint_eq(heap.spilled, 0);
    a = spilling(4000);
    losses_in(&a, y, &some);
    ck_assert_mem_eq(x, y, (LENGTH - 1) * sizeof *x);
    ck_assert_uint_eq(some.bytes, heap.bytes);
    ck_assert(some.spilled > 0 && some.bytes - some.spilled <= 4000);
    a = spilling(0);
    losses_in(&a, y, &all);
    ck_assert_mem_eq(x, y, (LENGTH - 1) * sizeof *x);
    ck_assert_uint_eq(all.spilled, heap.bytes);
    ck_assert_ok(lm_engine_open(model, backend.ops, backend.self, &g, &e), e);
    lm_engine_stream(g, 1);
    a.engine = g;
    losses_in(&a, y, &cold);
    ck_assert_mem_eq(x, y, (LENGTH - 1) * sizeof *x);
    ck_assert_uint_eq(cold.spilled, heap.bytes);
    lm_engine_close(g);
}
END_TEST

/* They stay for the next candidate, which finds them, whatever the memory. */
START_TEST(files_are_a_cache)
{
    struct lm_workshop_args a = spilling(0);
    struct lm_plan *p = mixed();
    struct lm_workshop_use use;
    struct lm_candidate c;
    struct lm_err err;
    struct lm_workshop *w;

    repairing = true;
    ck_assert_ok(lm_workshop_open(&a, &w, &e), e);
    for (int i = 0; i < 3; i++) {
        ck_assert_ok(lm_candidates_open(w, &p, 1, &c, &err, &e), e);
        ck_assert_int_eq(err.code, LM_OK);
        lm_candidate_close(w, &c);
    }
    lm_workshop_use(w, &use);
    ck_assert_int_eq(use.built, use.parts);
    ck_assert_int_eq(use.reused, 2 * use.parts);
    ck_assert_uint_gt(use.spilled, 0);
    lm_workshop_close(w);
    lm_plan_free(p);
}
END_TEST

static struct lm_workshop_args life_args;

static enum lm_status life(void *ctx)
{
    struct lm_plan *p = ctx;
    struct lm_candidate c;
    struct lm_workshop *w;
    struct lm_err err;
    enum lm_status st = lm_workshop_open(&life_args, &w, &e);

    if (st)
        return st;
    if (!(st = lm_candidates_open(w, &p, 1, &c, &err, &e))) {
        st = err.code;
        lm_candidate_close(w, &c);
    }
    lm_workshop_close(w);
    return st;
}

START_TEST(memory_may_run_out)
{
    struct lm_plan *p = mixed();

    repairing = true;
    life_args = spilling(0);
    ck_assert_int_gt(fail_every_allocation(life, p), 60);
    lm_plan_free(p);
}
END_TEST

/* Each operation on files fails in turn. */
START_TEST(the_disk_may_be_full)
{
    struct lm_plan *p = mixed();
    int told = 0;

    repairing = true;
    life_args = spilling(0);
    ck_assert_int_eq(life(p), LM_OK);       /* one-time allocations */
    for (int64_t k = 1;; k++) {
        int64_t blocks = lm_mem_blocks();

        lm_fault_file(k);
        enum lm_status st = life(p);
        bool fired = lm_fault_file_fired();
        lm_fault_file(0);
        ck_assert_int_eq(lm_mem_blocks(), blocks);
        check_folder();
        if (!fired) {
            ck_assert_int_eq(st, LM_OK);
            ck_assert_int_gt(k, 10);
            break;
        }
        ck_assert_int_eq(st, LM_EIO);
        told += strstr(e.text, "raise run.memory") != NULL;
    }
    ck_assert_int_gt(told, 10);
    lm_plan_free(p);
}
END_TEST

/* What nobody holds goes before a full disk is an error. */
START_TEST(a_full_disk_drops_what_nobody_holds)
{
    struct lm_workshop_args a = spilling(0);
    struct lm_plan *p = mixed(), *q = open_plan();
    struct lm_workshop_use first, use;
    struct lm_candidate c, d;
    struct lm_err err;
    struct lm_workshop *w;
    float x[LENGTH], y[LENGTH];

    top(q, LM_SITE_FFN_CHANNEL, 3, 8);
    ck_assert_ok(lm_plan_canonical(q, &e), e);
    ck_assert_ok(lm_workshop_open(&a, &w, &e), e);
    ck_assert_ok(lm_candidates_open(w, &p, 1, &c, &err, &e), e);
    losses(engine, &c.net, x);
    lm_workshop_use(w, &first);
    lm_fault_file(2);
    ck_assert_int_eq(lm_candidates_open(w, &q, 1, &d, &err, &e), LM_EIO);
    lm_workshop_use(w, &use);           /* c holds all there is */
    ck_assert_uint_ge(use.spilled, first.spilled);
    lm_candidate_close(w, &c);
    lm_fault_file(2);
    ck_assert_ok(lm_candidates_open(w, &q, 1, &d, &err, &e), e);
    ck_assert(lm_fault_file_fired());
    lm_fault_file(0);
    ck_assert_int_eq(err.code, LM_OK);
    lm_workshop_use(w, &use);
    ck_assert(use.spilled > 0 && use.spilled < first.spilled);
    ck_assert_ok(lm_candidates_open(w, &p, 1, &c, &err, &e), e);
    losses(engine, &c.net, y);
    ck_assert_mem_eq(x, y, (LENGTH - 1) * sizeof *x);
    lm_candidate_close(w, &c);
    lm_candidate_close(w, &d);
    lm_workshop_close(w);
    lm_plan_free(p);
    lm_plan_free(q);
}
END_TEST

START_TEST(processes_share_the_disk)
{
    struct lm_workshop_args a = spilling(0);
    struct lm_stock alone, one;

    ck_assert_ok(lm_stock_open(&alone, &a, &e), e);
    a.sharers = 5;
    ck_assert_ok(lm_stock_open(&one, &a, &e), e);
    ck_assert_double_eq_tol((double)alone.mapped_most / (double)one.mapped_most, 5, 0.5);
    lm_stock_close(&alone);
    lm_stock_close(&one);
}
END_TEST

Suite *candidate_spill_suite(void)
{
    Suite *s = suite_create("derived matrices in files");
    TCase *t = tcase_create("spill");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, files_hold_the_same);
    tcase_add_test(t, files_are_a_cache);
    tcase_add_test(t, memory_may_run_out);
    tcase_add_test(t, the_disk_may_be_full);
    tcase_add_test(t, a_full_disk_drops_what_nobody_holds);
    tcase_add_test(t, processes_share_the_disk);
    suite_add_tcase(s, t);
    return s;
}
