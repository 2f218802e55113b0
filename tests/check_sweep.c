/* SPDX-License-Identifier: Apache-2.0 */
/* check_sweep.c -- exact tests and their correction against published and independent
 * values; files with a group `sweep` as variants; the tables that come out.    */
#include <math.h>
#include <unistd.h>

#include "loader/loader.h"
#include "pipeline/sweep.h"
#include "study/pareto.h"
#include "study/significance.h"
#include "testing.h"

/* ---- significance -------------------------------------------------------------- */

/* Differences 1 .. n without ties whose negative ones have the ranks' sum w. */
static double p_of(size_t n, size_t w)
{
    double d[LM_PAIRS];
    for (size_t i = n; i > 0; i--) {
        d[i - 1] = (double)i;
        if (i <= w) {
            d[i - 1] = -(double)i;
            w -= i;
        }
    }
    ck_assert_uint_eq(w, 0);
    return lm_signed_rank(d, n).p;
}

/* scipy 1.17.1: wilcoxon(d, method="exact").pvalue of such differences */
START_TEST(peer)
{
    static const struct { size_t n, w; double p; } known[] = {
        { 1, 0, 1.0 }, { 4, 2, 0.375 }, { 5, 0, 0.0625 }, { 5, 3, 0.3125 },
        { 6, 0, 0.03125 }, { 6, 2, 0.09375 }, { 7, 2, 0.046875 }, { 8, 3, 0.0390625 },
        { 8, 10, 0.3125 }, { 9, 5, 0.0390625 }, { 10, 8, 0.048828125 }, { 10, 27, 1.0 },
        { 12, 13, 0.04248046875 }, { 15, 25, 0.04791259765625 },
        { 20, 52, 0.04844093322753906 }, { 25, 89, 0.04826241731643677 },
        { 30, 137, 0.049710121005773544 }, { 50, 434, 0.04944640680060175 },
        { 100, 1955, 0.04992375960429252 } };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        ck_assert_double_eq_tol(p_of(known[i].n, known[i].w), known[i].p, 1e-12);
}
END_TEST

/* The usual table of critical values, two-sided, 0.05: the largest sum of ranks that
 * is significant for n = 6 .. 25 (Wilcoxon 1945; Siegel 1956).                 */
START_TEST(published)
{
    static const size_t critical[] = { 0, 2, 3, 5, 8, 10, 13, 17, 21, 25, 29, 34, 40,
                                       46, 52, 58, 65, 73, 81, 89 };
    for (size_t i = 0; i < sizeof critical / sizeof *critical; i++) {
        ck_assert_msg(p_of(i + 6, critical[i]) <= 0.05, "n = %zu", i + 6);
        ck_assert_msg(p_of(i + 6, critical[i] + 1) > 0.05, "n = %zu", i + 6);
    }
}
END_TEST

/* All 2^n signs, ranks by counting: shares this file's arithmetic with nothing. */
static double brute(const double *d, size_t n)
{
    double rank[16], size[16], seen = 0, w = 0, total = 0;
    size_t m = 0, as_far = 0;
    for (size_t i = 0; i < n; i++)
        if (d[i] != 0)
            size[m++] = d[i];
    for (size_t i = 0; i < m; i++) {
        rank[i] = 0.5;
        for (size_t k = 0; k < m; k++)
            rank[i] += fabs(size[k]) < fabs(size[i]) ? 1
                     : fabs(size[k]) == fabs(size[i]) ? 0.5 : 0;
        total += rank[i];
        seen += size[i] > 0 ? rank[i] : 0;
    }
    for (size_t sign = 0; sign < (size_t)1 << m; sign++) {
        w = 0;
        for (size_t i = 0; i < m; i++)
            w += sign >> i & 1 ? rank[i] : 0;
        as_far += fabs(w - total / 2) >= fabs(seen - total / 2);
    }
    return (double)as_far / (double)((size_t)1 << m);
}

START_TEST(ties)
{
    static const double with_zero[] = { 1, 1, -1, 2, 2, 0, 3, -3, 5 };
    unsigned random = 12345;
    /* scipy: PermutationMethod over all signs of the same */
    ck_assert_double_eq_tol(lm_signed_rank(with_zero, 9).p, 0.2421875, 1e-15);
    ck_assert_uint_eq(lm_signed_rank(with_zero, 9).n, 8);
    ck_assert_double_eq(lm_signed_rank(with_zero, 9).plus, 27.5);
    for (int round = 0; round < 200; round++) {
        double d[10];
        for (size_t i = 0; i < 10; i++) {
            random = random * 1103515245u + 12345u;
            d[i] = (double)(random >> 16 & 7) - 3;
        }
        ck_assert_double_eq_tol(lm_signed_rank(d, 10).p, brute(d, 10), 1e-12);
    }
}
END_TEST

START_TEST(few)
{
    static const double nothing[] = { NAN, NAN }, same[] = { 0, 0, NAN };
    ck_assert(isnan(lm_signed_rank(NULL, 0).p));
    ck_assert(isnan(lm_signed_rank(nothing, 2).p));
    ck_assert_double_eq(lm_signed_rank(same, 3).p, 1);
    ck_assert_double_eq(lm_signed_rank_least(5), 0.0625);
    ck_assert_double_eq(lm_signed_rank_least(6), p_of(6, 0));
    ck_assert_double_eq(lm_signed_rank_least(1), 1);
}
END_TEST

/* By hand, after Holm (1979): 0.005 x 4, 0.01 x 3, 0.03 x 2, 0.04 x 1 raised to 0.06. */
START_TEST(holm)
{
    double p[] = { 0.01, NAN, 0.04, 0.03, 0.005, NAN }, all[] = { 0.6, 0.5 };
    static const double want[] = { 0.03, NAN, 0.06, 0.06, 0.02, NAN };
    size_t order[6];
    lm_holm(p, order, 6);
    for (size_t i = 0; i < 6; i++)
        if (isnan(want[i]))
            ck_assert(isnan(p[i]));
        else
            ck_assert_double_eq_tol(p[i], want[i], 1e-15);
    lm_holm(all, order, 2);
    ck_assert(all[0] == 1 && all[1] == 1);
    lm_holm(NULL, NULL, 0);
}
END_TEST

START_TEST(middles)
{
    double a[] = { 5, 1, 3 }, b[] = { 4, 1, 2, 10 }, c[] = { 1, 1, 2, 2, 4, 6, 9 };
    ck_assert_double_eq(lm_median(a, 3), 3);
    ck_assert_double_eq(lm_median(b, 4), 3);
    ck_assert(isnan(lm_median(b, 0)));
    ck_assert_double_eq(lm_median_deviation(c, 7), 1);
}
END_TEST

START_TEST(volume)
{
    double p[] = { 3, 1, 1, 3, 2, 2, 2.5, 2.5, 9, 0, 0, 9 };
    static const double at[2] = { 4, 4 };
    ck_assert_double_eq(lm_hypervolume(p, 6, at), 6);
    ck_assert_double_eq(lm_hypervolume(p, 0, at), 0);
}
END_TEST

/* ---- variants ------------------------------------------------------------------ */

static char folder[256], file[300];

#define BEGINNING \
    "lamina = 1;\n" \
    "run: { seed = 1; name = \"x-${run.seed}\"; out = \"OUT\"; };\n" \
    "model: { path = \"%s\"; };\n" \
    "prune = ( { use = \"layers\"; }, { use = \"blocks\"; }, { use = \"ffn\"; id = \"f\"; } );\n" \
    "score = ( { use = \"magnitude\"; } );\n" \
    "evaluate = ( { use = \"size\"; } );\n" \
    "objectives = ( { metric = \"size.bytes\"; }, { metric = \"size.params\"; } );\n" \
    "search: { use = \"random\"; budget = 4; };\n"

static enum lm_status open_sweep(const char *group, const char *set, struct lm_sweep **s,
                                 struct lm_err *e)
{
    char text[4096];
    int n = snprintf(text, sizeof text, BEGINNING "%s", source_path("examples/tiny"),
                     group);
    static const char *kept;
    kept = set;
    ck_assert_ok(lm_write_file(file, text, (size_t)n, e), *e);
    return lm_sweep_open(file, &kept, set != NULL, s, e);
}

static void wrong(const char *group, const char *message)
{
    struct lm_sweep *s;
    struct lm_err e = { 0 };
    int64_t before = lm_mem_blocks();
    char want[1024];
    enum lm_status st = open_sweep(group, NULL, &s, &e);
    ck_assert_msg(st == LM_ECONFIG, "%s: %s", group, e.text);
    snprintf(want, sizeof want, "%s:%s", file, message);
    ck_assert_str_eq(e.text, want);
    ck_assert_ptr_null(s);
    ck_assert_int_eq(lm_mem_blocks(), before);
}

static void begin(void)
{
    struct lm_err e = { 0 };
    scratch_begin(folder);
    snprintf(file, sizeof file, "%s/s.cfg", folder);
    ck_assert_ok(lm_loader_start(NULL, &e), e);
}

static void end(void)
{
    lm_loader_stop();
    scratch_end(folder);
}

/* "tag tag tag" */
static void ck_tags(const struct lm_sweep *s, const char *want)
{
    char got[1024] = "";
    for (size_t v = 0; v < s->n_variant; v++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s%s", v ? " " : "",
                 s->variant[v].tag);
    ck_assert_str_eq(got, want);
}

/* A value of one run as text, or "-". */
static void ck_value(const struct lm_sweep *s, size_t v, size_t k, const char *path,
                     const char *want)
{
    struct lm_conf *c;
    struct lm_err e = { 0 };
    char text[96] = "-";
    ck_assert_ok(lm_sweep_conf(s, v, k, &c, &e), e);
    const struct lm_conf *at = lm_conf_path(c, path);
    if (at)
        lm_conf_describe(at, text, sizeof text);
    ck_assert_msg(!strcmp(text, want), "%s, %s: %s, not %s", s->variant[v].tag, path,
                  text, want);
    ck_assert_ptr_null(lm_conf_get(c, "sweep"));
    lm_conf_free(c);
}

#define VARY "sweep: { seeds = [7, 9]; vary = (\n" \
    "{ path = \"search\"; tag = \"s\"; values = ( { use = \"random\"; budget = 8; }, " \
    "{ use = \"nsga2\"; } ); },\n" \
    "{ path = \"prune[0]\"; drop = true; },\n" \
    "{ path = \"prune[2].step\"; values = ( 32 ); } );"

START_TEST(one_at_a_time)
{
    struct lm_sweep *s;
    struct lm_err e = { 0 };
    char path[4096];
    ck_assert_ok(open_sweep(VARY " };", "prune[1].last=3", &s, &e), e);
    ck_tags(s, "baseline s-random s-nsga2 no-prune-0 prune-2-.step-32");
    ck_value(s, 0, 0, "run.seed", "7");
    ck_value(s, 0, 1, "run.seed", "9");
    ck_value(s, 0, 1, "run.name", "\"x-9\"");
    ck_value(s, 3, 1, "run.out", "\"OUT/no-prune-0/9\"");
    ck_assert_ok(lm_sweep_folder(s, 3, 1, path, &e), e);
    ck_assert_str_eq(path, "OUT/no-prune-0/9");
    ck_value(s, 1, 0, "search.budget", "8");
    ck_value(s, 2, 0, "search.use", "\"nsga2\"");
    ck_value(s, 2, 0, "search.budget", "-");    /* another plugin's option */
    ck_value(s, 3, 0, "prune[0].use", "\"blocks\"");
    ck_value(s, 3, 0, "prune[0].last", "3");    /* --set counts as the file does */
    ck_value(s, 3, 0, "prune[2]", "-");
    ck_value(s, 4, 0, "prune[2].step", "32");
    ck_value(s, 4, 0, "search.budget", "4");
    lm_sweep_close(s);
}
END_TEST

START_TEST(product)
{
    struct lm_sweep *s;
    struct lm_err e = { 0 };
    ck_assert_ok(open_sweep(VARY " mode = \"product\"; };", "sweep.seeds=3", &s, &e), e);
    ck_assert_uint_eq(s->n_variant, 12);
    ck_assert_uint_eq(s->o->seeds.n, 1);
    ck_assert_str_eq(s->variant[0].tag, "baseline");
    ck_assert_str_eq(s->variant[11].tag, "s-nsga2+no-prune-0+prune-2-.step-32");
    ck_value(s, 11, 0, "search.use", "\"nsga2\"");
    ck_value(s, 11, 0, "prune[1].step", "32");  /* its place before the drop */
    ck_value(s, 11, 0, "run.seed", "3");
    lm_sweep_close(s);
}
END_TEST

START_TEST(names)
{
    struct lm_sweep *s;
    struct lm_err e = { 0 };
    ck_assert_ok(open_sweep("sweep: { vary = ( { path = \"prune\"; tag = \"p\"; values = ("
        "( { use = \"layers\"; } ), ( { use = \"ffn\"; } ) ); },"
        "{ path = \"run.name\"; tag = \"n\"; values = ( \"a/b ../c\", \"${run.out}\" ); } ); };",
        NULL, &s, &e), e);
    ck_tags(s, "baseline p-1 p-2 n-a-b-..-c n-OUT");
    ck_value(s, 4, 0, "run.name", "\"OUT\"");
    ck_value(s, 2, 0, "prune[0].use", "\"ffn\"");
    lm_sweep_close(s);
}
END_TEST

#define ONE(ENTRY) "sweep: { vary = (\n" ENTRY " ); };\n"

START_TEST(messages)
{
    wrong("", "1: error: there is no group `sweep`; `lamina run` runs this file");
    wrong("sweep: { };\n",
          "9: error: sweep: vary: there is nothing in it; write vary = ( "
          "{ path = \"score.use\"; values = ( ... ); } );");
    wrong("sweep: {\nmood = 1; };",
          "10: error: sweep: unknown option 'mood'; did you mean "
          "'mode'?");
    wrong("sweep: {\nseeds = [1, 1]; };", "10: error: sweep: seeds: 1 is there twice");
    wrong(ONE("{ path = \"search.budget\"; }"), "10: error: sweep: vary[0]: give either "
          "values = ( ... ) or drop = true");
    wrong(ONE("{ path = \"search.budget\"; values = ( ); }"),
          "10: error: sweep: vary[0]: values: there are none");
    wrong(ONE("{ path = \"run.seed\"; values = ( 2 ); }"),
          "10: error: sweep: vary[0]: 'run.seed' is for the sweep itself to set");
    wrong(ONE("{ path = \"search.budget\"; tag = \"../x\"; values = ( 2 ); }"),
          "10: error: sweep: vary[0]: tag: '../x' is no name for a folder; use letters, "
          "digits, '_', '-' and '.', a letter or digit first");
}
END_TEST

START_TEST(bad_paths)
{
    struct lm_sweep *s;
    struct lm_err e = { 0 };
    static const struct { const char *group, *part; } bad[] = {
        { ONE("{ path = \"prune[7]\"; drop = true; }"),
          "s.cfg:10: error: 'prune[7]': there is no such value to drop" },
        { ONE("{ path = \"prune[7].step\"; values = ( 2 ); }"),
          "s.cfg:10: error: prune[7]: there are 3 members, counted from 0 (variant "
          "'prune-7-.step-2' of the sweep, " },
        { ONE("{ path = \"serach.budget\"; values = ( 2 ); }"),
          "s.cfg:10: error: unknown group 'serach'; did you mean 'search'?" },
        { ONE("{ path = \"search.bugdet\"; values = (\n 2 ); }"),
          "s.cfg:11: error: search (random): unknown option 'bugdet'" },
        { ONE("{ path = \"search.budget\"; values = ( 2,\n \"many\" ); }"),
          "s.cfg:11: error: search (random): budget: " },
        { ONE("{ path = \"a..b\"; values = ( 2 ); }"),
            "s.cfg:10: error: 'a..b' is no path" },
        { ONE("{ path = \"search.budget\"; values = ( 4 ); }"),
          "is the same pipeline as 'baseline'" },
        { ONE("{ path = \"search.budget\"; tag = \"baseline\"; values = ( 9 ); }"),
          "two variants are called 'baseline'" },
        { "sweep: { vary = ( { path = \"search.budget\"; values = ( 2 ); } );\n"
          "compare: { metric = \"kl.nats\"; }; };",
          "s.cfg:10: error: sweep: compare: no evaluator of the file has a metric "
          "'kl.nats'" } };
    ck_assert_ok(open_sweep(VARY " };", NULL, &s, &e), e);      /* loads plugins */
    lm_sweep_close(s);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t before = lm_mem_blocks();
        enum lm_status st = open_sweep(bad[i].group, NULL, &s, &e);
        ck_assert_int_eq(st, LM_ECONFIG);
        ck_assert_msg(strstr(e.text, bad[i].part) != NULL, "%s", e.text);
        ck_assert_int_eq(lm_mem_blocks(), before);
    }
}
END_TEST

START_TEST(too_many)
{
    char group[4096] = "sweep: { mode = \"product\"; vary = (";
    for (int i = 0; i < 10; i++)
        snprintf(group + strlen(group), sizeof group - strlen(group),
                 "%s{ path = \"search.budget\"; tag = \"t%d\"; values = ( 1 ); }",
                 i ? "," : "", i);
    strcat(group, "); };");
    wrong(group, "9: error: sweep: more than 1000 variants");
}
END_TEST

/* ---- tables -------------------------------------------------------------------- */

/* Two variants, six seeds, values without studies: judged by hand. */
static struct lm_sweep_table *fake(struct lm_sweep *s)
{
    static const double value[2][6] = { { 1, 2, 3, 4, 5, NAN }, { 3, 5, 7, 9, 11, 1 } };
    struct lm_sweep_table *t;
    struct lm_err e = { 0 };
    ck_assert_ok(lm_sweep_table_open(s, &t, &e), e);
    t->n_metric = 1;
    t->metric[0] = (struct lm_sweep_metric){ .name = "a<b>.x_y", .objective = true };
    for (size_t i = 0; i < 12; i++) {
        t->result[i].value[0] = value[i / 6][i % 6];
        t->result[i].state = isnan(value[i / 6][i % 6]) ? LM_SWEEP_FAILED
                                                        : LM_SWEEP_DONE;
    }
    t->result[5].reason = lm_strdup("bad \"luck\",\n<script>", "test");
    ck_assert_ok(lm_sweep_judge(t, &e), e);
    return t;
}

START_TEST(tables)
{
    struct lm_sweep *s;
    struct lm_err e = { 0 };
    struct lm_str out = { 0 };
    ck_assert_ok(open_sweep("sweep: { seeds = [1, 2, 3, 4, 5, 6]; vary = ( { path = "
                            "\"search.budget\"; tag = \"a_b\"; values = ( 9 ); } ); };",
                            NULL, &s, &e), e);
    struct lm_sweep_table *t = fake(s);
    const struct lm_sweep_cell *base = lm_sweep_cell(t, 0, 0);
    const struct lm_sweep_cell *c = lm_sweep_cell(t, 1, 0);
    ck_assert(base->n == 5 && base->median == 3 && base->mad == 1 && isnan(base->p));
    ck_assert(c->n == 6 && c->median == 6 && c->mad == 3 && c->min == 1 && c->max == 11);
    ck_assert(c->pairs == 5 && c->p == 0.0625 && c->corrected == 0.0625);
    lm_sweep_csv(t, &out);
    ck_assert_ptr_nonnull(strstr(out.s,
                                 "baseline,6,failed,\"bad \"\"luck\"\",\n<script>\",\n"
                                 "a_b,1,done,,3\n"));
    lm_str_free(&out);
    lm_sweep_html(t, &out);
    ck_assert_ptr_null(strstr(out.s, "<script"));
    ck_assert_ptr_nonnull(strstr(out.s, "a&#60;b&#62;.x_y"));
    lm_str_free(&out);
    lm_sweep_latex(t, &out);
    ck_assert_ptr_nonnull(strstr(out.s, "a\\_b & 6 & 6 $\\pm$ 3 & 0.062 \\\\"));
    ck_assert_ptr_nonnull(strstr(out.s, "a<b>.x\\_y"));
    lm_str_free(&out);
    lm_sweep_text(t, &out);
    ck_assert_ptr_nonnull(strstr(out.s, "11 of 12 runs are finished, 1 failed."));
    ck_assert_ptr_null(strstr(out.s, "possible"));      /* six seeds are enough */
    lm_str_free(&out);
    lm_sweep_table_close(t);
    lm_sweep_close(s);
}
END_TEST

START_TEST(power)
{
    struct lm_sweep *s;
    struct lm_err e = { 0 };
    struct lm_str out = { 0 };
    ck_assert_ok(open_sweep("sweep: { seeds = [1, 2, 3, 4, 5]; vary = ( { path = "
                            "\"search.budget\"; values = ( 8, 9, 10 ); } ); };", NULL, &s,
                            &e), e);
    lm_sweep_note_power(s, &out);
    ck_assert_str_eq(out.s, "With 5 seeds p is at least 0.0625, corrected 0.188: no p "
                     "below 0.05 is possible. It takes 7 seeds.\n");
    lm_str_free(&out);
    lm_sweep_close(s);
}
END_TEST

static enum lm_status open_and_tell(void *ctx)
{
    struct lm_sweep *s;
    struct lm_sweep_table *t = NULL;
    struct lm_str out = { 0 };
    struct lm_err e = { 0 };
    enum lm_status st = lm_sweep_open(file, NULL, 0, &s, &e);
    (void)ctx;
    if (!st && !(st = lm_sweep_table_open(s, &t, &e)) && !(st = lm_sweep_judge(t, &e))) {
        lm_sweep_html(t, &out);
        lm_sweep_text(t, &out);
        lm_sweep_latex(t, &out);
        st = out.failed ? LM_ENOMEM : LM_OK;
    }
    lm_str_free(&out);
    lm_sweep_table_close(t);
    lm_sweep_close(s);
    return st;
}

START_TEST(no_memory)
{
    struct lm_sweep *s;
    struct lm_err e = { 0 };
    ck_assert_ok(open_sweep("sweep: { vary = ( { path = \"prune[0]\"; drop = true; } ); };",
                            NULL, &s, &e), e);
    lm_sweep_close(s);
    ck_assert_int_gt(fail_every_allocation(open_and_tell, NULL), 100);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("sweep");
    TCase *c = tcase_create("significance");
    tcase_add_test(c, peer);
    tcase_add_test(c, published);
    tcase_add_test(c, ties);
    tcase_add_test(c, few);
    tcase_add_test(c, holm);
    tcase_add_test(c, middles);
    tcase_add_test(c, volume);
    suite_add_tcase(s, c);
    c = tcase_create("variants");
    tcase_add_checked_fixture(c, begin, end);
    tcase_add_test(c, one_at_a_time);
    tcase_add_test(c, product);
    tcase_add_test(c, names);
    tcase_add_test(c, messages);
    tcase_add_test(c, bad_paths);
    tcase_add_test(c, too_many);
    suite_add_tcase(s, c);
    c = tcase_create("tables");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, begin, end);
    tcase_add_test(c, tables);
    tcase_add_test(c, power);
    tcase_add_test(c, no_memory);
    suite_add_tcase(s, c);
    return run_suites(&s, 1);
}
