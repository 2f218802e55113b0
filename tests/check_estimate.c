/* SPDX-License-Identifier: Apache-2.0 */
/* check_estimate.c -- what an estimate counts, of examples/tiny (6 layers, hidden 96,
 * 6 query heads in 2 groups of 16 columns, MLP 256), against sums written down here.
 * The genomes are so many that every block is drawn in every form it can have.  */
#include <math.h>

#include "base/log.h"
#include "base/pool.h"
#include "loader/loader.h"
#include "pipeline/estimate.h"
#include "pipeline/job.h"
#include "testing.h"

enum { LAYERS = 6, D = 96, COLS = 16, FF = 256, TRIALS = 100, TOKENS = 1000 };
enum { ATTN = D * 10 * COLS + 6 * COLS * D, MLP = 3 * D * FF };     /* weights */

static char root[256];

static void setup(void)
{
    struct lm_err e = { 0 };
    char path[300];
    scratch_begin(root);
    snprintf(path, sizeof path, "%s/cache", root);
    setenv("XDG_CACHE_HOME", path, 1);
    lm_log_level(LM_ERROR);
    ck_assert_ok(lm_loader_start(NULL, &e), e);
}

static void teardown(void)
{
    lm_loader_stop();
    scratch_end(root);
}

static void start_pool(void)            /* of each test: threads do not survive a fork */
{
    ck_assert_int_eq(lm_pool_start(2, NULL), LM_OK);
}

/* A pipeline with these lines more, and these options of `run`.  All genomes are one
 * batch, unless that says more. */
static struct lm_conf *make_conf(const char *run, const char *more)
{
    static const char form[] =
        "lamina = 1;\n"
        "run: { seed = 3; threads = 2; out = \"%s/run\"; %s%s };\n"
        "model: { path = \"%s\"; };\n"
        "data: { calibration: { path = \"%s/test.txt\"; sequences = 2; length = 16; };\n"
        "  search: { path = \"%s/test.txt\"; }; };\n"
        "score = ( { use = \"wanda\"; } );\n"
        "objectives = ( { metric = \"p.ppl\"; }, { metric = \"size.bytes\"; } );\n"
        "search: { use = \"random\"; budget = 100; };\n%s\n";
    const char *tiny = source_path("examples/tiny");
    struct lm_conf *conf;
    struct lm_err e = { 0 };
    char text[8192];
    snprintf(text, sizeof text, form, root, run,
             strstr(run, "batch") ? "" : " batch = 200;", tiny, tiny, tiny, more);
    ck_assert_ok(lm_conf_parse(text, "estimate.cfg", NULL, 0, &conf, &e), e);
    return conf;
}

#define EVALUATE "evaluate = ( { use = \"perplexity\"; id = \"p\"; text = \"search\"; " \
    "window = 64; windows = 4; }, { use = \"size\"; } );\n"
#define HALVES "prune = ( { use = \"ffn\"; levels = [0.5]; } );\n"
#define SOLVED "repair: { use = \"least_squares\"; };\n"

static void sketch_of(const char *run, const char *more, int64_t tokens,
                      struct lm_sketch *out, bool *streams)
{
    char text[4096];
    struct lm_pipeline *p;
    struct lm_session *s;
    struct lm_err e = { 0 };
    snprintf(text, sizeof text, EVALUATE "%s", more);
    ck_assert_ok(lm_pipeline_open(make_conf(run, text), &p, &e), e);
    ck_assert_ok(lm_session_sketch(p, &s, &e), e);
    ck_assert_ok(lm_sketch_genomes(s, TRIALS, tokens, out, &e), e);
    if (streams)
        *streams = lm_engine_streams(s->bench.engine);
    lm_session_close(s);
    lm_pipeline_close(p);
}

/* Of a site of k columns in one order: factorization; and of c columns kept: solution. */
static double prepared(double k)
{
    return k * k * k / 3 + 2 * D * k * k;
}

static double solved(double c)
{
    return 2 * D * c * c;
}

START_TEST(narrow_mlps)
{
    struct lm_sketch s;
    sketch_of("", HALVES SOLVED, TOKENS, &s, NULL);
    ck_assert_double_eq(s.cut, LAYERS);
    ck_assert_double_eq(s.derived, LAYERS * 4.0 * (2 * FF * D + D * FF / 2));
    ck_assert_double_eq_tol(s.flops, LAYERS * (prepared(FF) + solved(FF / 2)), 1);
    ck_assert_double_eq(s.rows, 0);
    sketch_of("", HALVES SOLVED, 10, &s, NULL);
    ck_assert_double_eq(s.rows, LAYERS * 10.0 * FF * FF / 2);
    sketch_of("", HALVES, 10, &s, NULL);            /* not repaired */
    ck_assert_double_eq(s.flops + s.rows, 0);
    ck_assert_double_eq(s.derived, LAYERS * 4.0 * (2 * FF * D + D * FF / 2));
}
END_TEST

/* Query heads alone: kept groups are all there, and each number has a rack of its own. */
START_TEST(query_heads)
{
    struct lm_sketch s;
    double racks = 0, consumers = 0, flops = 0;
    sketch_of("", "prune = ( { use = \"heads\"; } );\n" SOLVED, TOKENS, &s, NULL);
    for (int each = 1; each < 3; each++) {
        racks += 4.0 * D * COLS * (2 * each + 2 * 2);
        consumers += 4.0 * D * COLS * 2 * each;
        flops += prepared(6 * COLS) + solved(2 * each * COLS);
    }
    ck_assert_double_eq(s.cut, 2 * LAYERS);
    ck_assert_double_eq(s.derived, LAYERS * (racks + consumers));
    ck_assert_double_eq_tol(s.flops, LAYERS * flops, 1);
}
END_TEST

/* Groups and heads: pairs; groups alone share the rack of all. */
START_TEST(groups_and_heads)
{
    struct lm_sketch s;
    double bytes = 4.0 * D * COLS * (6 + 2 * 2), flops = 0;
    sketch_of("", "prune = ( { use = \"heads\"; }, { use = \"kv_groups\"; } );\n" SOLVED,
              TOKENS, &s, NULL);
    for (int groups = 1; groups < 3; groups++)
        for (int each = 1; each <= 3; each++) {
            double heads = groups * each;
            if (heads == 6)
                continue;
            bytes += each < 3 ? 4.0 * D * COLS * (heads + 2 * groups) : 0;
            bytes += 4.0 * D * COLS * heads;
            flops += prepared(6 * COLS) + solved(heads * COLS);
        }
    ck_assert_double_eq(s.cut, 5 * LAYERS);
    ck_assert_double_eq(s.derived, LAYERS * bytes);
    ck_assert_double_eq_tol(s.flops, LAYERS * flops, 1);
}
END_TEST

/* Each width is made in the first batch that asks for it, with a factorization there. */
START_TEST(batches)
{
    struct lm_sketch one, many;
    const char *more = "prune = ( { use = \"ffn\"; step = 32; } );\n" SOLVED;
    sketch_of("", more, TOKENS, &one, NULL);
    sketch_of("batch = 1;", more, TOKENS, &many, NULL);
    ck_assert_double_eq(many.derived, one.derived);
    ck_assert_double_eq(many.cut, one.cut);
    ck_assert_double_eq_tol(many.flops - one.flops, 6 * LAYERS * prepared(FF), 1);
}
END_TEST

#define BOTH "quantize = ( { use = \"int8\"; }, { use = \"int4\"; } );\n"

/* Floats, and the bytes (q8_0: 34 of 32 weights, q4_0: 18) that the backend reads. */
START_TEST(formats_alone)
{
    struct lm_sketch s;
    double all = LAYERS * (double)(ATTN + MLP);
    sketch_of("", BOTH, TOKENS, &s, NULL);
    ck_assert_double_eq(s.cut, 0);
    ck_assert_double_eq(s.derived, all * (2 * 4 + 34.0 / 32 + 18.0 / 32));
    for (int q = 0; q < 2; q++) {
        ck_assert_double_eq(s.encoded[q], all);
        ck_assert(s.own[q] > all / 6 && s.own[q] < all / 2);    /* a third has it */
    }
}
END_TEST

START_TEST(formats_of_cut_blocks)
{
    struct lm_sketch s;
    double w = LAYERS * (ATTN + MLP + MLP / 2.0);
    sketch_of("", HALVES SOLVED "quantize = ( { use = \"int8\"; } );\n", TOKENS, &s,
              NULL);
    ck_assert_double_eq(s.encoded[0], w);
    ck_assert_double_eq(s.derived, w * (4 + 34.0 / 32)
                        + LAYERS * 4.0 * (2 * FF * D + D * FF / 2));
    ck_assert_double_eq(s.cut, LAYERS);             /* they are repaired once */
}
END_TEST

/* Two genomes: run once in a batch, or each time. */
START_TEST(what_is_shared)
{
    const char *more = "prune = ( { use = \"ffn\"; levels = [0.5]; first = 5; } );\n";
    struct lm_sketch s;
    sketch_of("", more, TOKENS, &s, NULL);
    ck_assert(s.share > 1.0 / TRIALS && s.share < 1.5 / TRIALS);
    ck_assert(s.last > 0.1 && s.last < 0.2);        /* eight at a time */
    sketch_of("share = false;", more, TOKENS, &s, NULL);
    ck_assert(s.share > 0.9 && s.share < 1);
    ck_assert_double_eq(s.last, s.share);
}
END_TEST

/* 2.65 MB of floats. */
START_TEST(one_answer_to_what_streams)
{
    struct lm_sketch s;
    bool streams;
    sketch_of("memory = 2600000;", HALVES, TOKENS, &s, &streams);
    ck_assert(streams);
    sketch_of("memory = 2700000;", HALVES, TOKENS, &s, &streams);
    ck_assert(!streams);
    sketch_of("memory = 1000000000000000L;", HALVES, TOKENS, &s, &streams);
    ck_assert(!streams);
}
END_TEST

/* ---- the text -------------------------------------------------------------------- */

/* The line of the estimate that begins with this word; "" where there is none. */
static const char *line_of(const char *text, const char *word)
{
    static char line[256];
    char start[64];
    snprintf(start, sizeof start, "\n  %-13s ", word);
    const char *at = strstr(text, start);
    snprintf(line, sizeof line, "%.*s", at ? (int)strcspn(at + 1, "\n") : 0,
             at ? at + 1 : "");
    return line;
}

static void estimate(const char *run, const char *more, struct lm_str *text)
{
    struct lm_err e = { 0 };
    text->n = 0;
    ck_assert_ok(lm_job_estimate(make_conf(run, more), text, &e), e);
}

START_TEST(what_it_says)
{
    struct lm_str t = { 0 };
    estimate("", EVALUATE HALVES SOLVED, &t);
    ck_assert_str_eq(line_of(t.s, "formats"), "");
    ck_assert_str_eq(line_of(t.s, "final"), "");
    ck_assert_str_ne(line_of(t.s, "opening"), "");
    estimate("", EVALUATE HALVES SOLVED BOTH, &t);
    ck_assert_ptr_nonnull(strstr(line_of(t.s, "formats"), "ms"));
    ck_assert_ptr_null(strstr(line_of(t.s, "formats"), " 0 ms"));
    lm_str_free(&t);
}
END_TEST

#define FINAL "final = ( { use = \"perplexity\"; text = \"search\"; window = 256; " \
    "windows = 60; } );\n"
#define LOW "evaluate = ( { use = \"perplexity\"; id = \"p\"; text = \"search\"; " \
    "window = 64; windows = 4; precision = \"int8\"; }, { use = \"size\"; } );\n"

/* Dense, best and four of the front; of 101 trials 34 are taken for the front. */
START_TEST(what_it_says_of_finalists)
{
    struct lm_str t = { 0 };
    estimate("", EVALUATE HALVES FINAL, &t);
    ck_assert_ptr_nonnull(strstr(line_of(t.s, "final"), " of 6 trials"));
    ck_assert_ptr_null(strstr(line_of(t.s, "final"), "f32"));
    ck_assert_ptr_null(strstr(line_of(t.s, "final"), " 0 ms"));
    estimate("finalists = 0;", EVALUATE HALVES FINAL, &t);
    ck_assert_ptr_nonnull(strstr(line_of(t.s, "final"), " of 2 trials"));
    estimate("", LOW HALVES FINAL, &t);
    ck_assert_ptr_nonnull(strstr(line_of(t.s, "final"),
                                 " of 6 trials, and f32 of 35, if a third"));
    estimate("", LOW HALVES, &t);                   /* the twin alone */
    ck_assert_ptr_nonnull(strstr(line_of(t.s, "final"), "f32 of 35"));
    lm_str_free(&t);
}
END_TEST

#define REFINE "refine: { use = \"sequential\"; };\n"

/* What is measured whole but the dense model; or what is exported. */
START_TEST(what_it_says_of_refining)
{
    struct lm_str t = { 0 };
    estimate("", EVALUATE HALVES FINAL, &t);
    ck_assert_str_eq(line_of(t.s, "refine"), "");
    estimate("", EVALUATE HALVES FINAL REFINE, &t);
    ck_assert_ptr_nonnull(strstr(line_of(t.s, "refine"), " of 5 trials"));
    ck_assert_ptr_null(strstr(line_of(t.s, "refine"), " 0 ms"));
    ck_assert_ptr_nonnull(strstr(line_of(t.s, "final"), " of 6 trials"));
    estimate("", EVALUATE HALVES REFINE, &t);
    ck_assert_ptr_nonnull(strstr(line_of(t.s, "refine"), " of 1 trials"));
    lm_str_free(&t);
}
END_TEST

/* Of 5.68 MB memory holds as much as its half, or, beside packed weights, a quarter. */
START_TEST(what_goes_to_disk)
{
    struct lm_str t = { 0 };
    estimate("memory = 4000000;", EVALUATE BOTH, &t);
    ck_assert_ptr_nonnull(strstr(line_of(t.s, "disk"), " 3.7 MB of it"));
    estimate("memory = 4000000;", LOW BOTH, &t);
    ck_assert_ptr_nonnull(strstr(line_of(t.s, "disk"), " 4.7 MB of it"));
    lm_str_free(&t);
}
END_TEST

static Suite *estimate_suite(void)
{
    Suite *s = suite_create("estimates");
    TCase *t = tcase_create("counts"), *u = tcase_create("text");
    tcase_add_unchecked_fixture(t, setup, teardown);
    tcase_add_unchecked_fixture(u, setup, teardown);
    tcase_add_checked_fixture(t, start_pool, lm_pool_stop);
    tcase_add_checked_fixture(u, start_pool, lm_pool_stop);
    tcase_set_timeout(t, 60);
    tcase_set_timeout(u, 60);
    tcase_add_test(t, narrow_mlps);
    tcase_add_test(t, query_heads);
    tcase_add_test(t, groups_and_heads);
    tcase_add_test(t, batches);
    tcase_add_test(t, formats_alone);
    tcase_add_test(t, formats_of_cut_blocks);
    tcase_add_test(t, what_is_shared);
    tcase_add_test(t, one_answer_to_what_streams);
    tcase_add_test(u, what_it_says);
    tcase_add_test(u, what_it_says_of_finalists);
    tcase_add_test(t, what_it_says_of_refining);
    tcase_add_test(u, what_goes_to_disk);
    suite_add_tcase(s, t);
    suite_add_tcase(s, u);
    return s;
}

int main(void)
{
    Suite *const all[] = { estimate_suite() };
    return run_suites(all, 1);
}
