/* SPDX-License-Identifier: Apache-2.0 */
/* check_space.c -- genes are checked as they are added, genomes against them. */
#include <math.h>

#include "space/space.h"
#include "testing.h"

static struct lm_err e;

static struct lm_gene gene_int(const char *name, double min, double max, double step,
                               double initial)
{
    return (struct lm_gene){ .struct_size = sizeof(struct lm_gene), .kind = LM_GENE_INT,
                             .name = name, .min = min, .max = max, .step = step,
                             .initial = initial };
}

static struct lm_gene gene_subset(const char *name, uint32_t n, double min)
{
    return (struct lm_gene){ .struct_size = sizeof(struct lm_gene),
                             .kind = LM_GENE_SUBSET, .name = name, .n = n, .min = min,
                             .max = n };
}

static const char *const colours[] = { "red", "green", "blue" };

/* One gene of each kind. */
static enum lm_status fill(struct lm_space *s)
{
    const double score[] = { 3, 1, 2 };
    struct lm_gene width = gene_int("ffn[0]", 96, 160, 32, 160);
    struct lm_gene flag = { .struct_size = sizeof flag, .kind = LM_GENE_BOOL,
                            .name = "layer[1]", .initial = 1 };
    struct lm_gene real = { .struct_size = sizeof real, .kind = LM_GENE_REAL,
                            .name = "lambda", .min = 0.25, .max = 1, .step = 0.25,
                            .initial = 0.5 };
    struct lm_gene choice = { .struct_size = sizeof choice, .kind = LM_GENE_CHOICE,
                              .name = "colour", .n = 3, .choice = colours,
                              .initial = 2 };
    struct lm_gene set = gene_subset("kv[0]", 3, 1);
    const struct lm_gene *all[] = { &width, &flag, &real, &choice, &set };
    enum lm_status st = LM_OK;

    set.score = score;
    for (size_t i = 0; !st && i < 5; i++)
        st = lm_space_add(s, all[i], &e);
    return st;
}

static struct lm_space *open_space(void)
{
    struct lm_space *s;

    ck_assert_ok(lm_space_open(NULL, NULL, &s, &e), e);
    return s;
}

START_TEST(genes_are_copied)
{
    struct lm_space *s = open_space();
    struct lm_gene wide = gene_subset("wide", 130, 0);
    const struct lm_gene *const *g;
    size_t n;

    ck_assert_ok(fill(s), e);
    ck_assert_ok(lm_space_add(s, &wide, &e), e);
    g = lm_space_genes(s, &n);
    ck_assert_uint_eq(n, 6);
    ck_assert_str_eq(g[3]->choice[2], "blue");
    ck_assert(g[3]->choice != colours);
    ck_assert(g[4]->score[0] == 3 && g[4]->score[2] == 2);
    ck_assert(g[1]->max == 1 && g[3]->max == 2);
    ck_assert_uint_eq(g[5]->slot, 5);
    ck_assert_uint_eq(g[5]->slots, 3);
    ck_assert_uint_eq(lm_space_slots(s), 8);
    lm_space_close(s);
}
END_TEST

START_TEST(unsound_genes_are_refused)
{
    struct lm_space *s = open_space();
    double nan_score[] = { 1, NAN };
    struct lm_gene bad[] = {
        gene_int("off", 10, 21, 4, 10), gene_int("order", 10, 2, 4, 10),
        gene_int("start", 10, 18, 4, 12), gene_int("step", 10, 18, 0, 10),
        gene_int("half", 0.5, 2.5, 1, 0.5), gene_int("", 0, 1, 1, 0),
        gene_int("inf", 0, INFINITY, 1, 0), gene_subset("min", 3, 4),
        gene_subset("none", 0, 0), gene_subset("nan", 2, 0), gene_int("kind", 0, 1, 1, 1)
    };

    bad[9].score = nan_score;
    bad[10].kind = 77;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(lm_space_add(s, &bad[i], &e) == LM_EBUG, "gene %zu", i);
        if (bad[i].name[0])
            ck_assert_msg(strstr(e.text, bad[i].name) != NULL, "%s", e.text);
    }
    bad[0] = gene_int("twice", 0, 4, 2, 4);
    ck_assert_ok(lm_space_add(s, &bad[0], &e), e);
    ck_assert_int_eq(lm_space_add(s, &bad[0], &e), LM_EBUG);
    ck_assert_ptr_nonnull(strstr(e.text, "twice"));
    lm_space_close(s);
}
END_TEST

START_TEST(genomes_are_checked)
{
    struct lm_space *s = open_space();
    union lm_value v[5], w[5];

    ck_assert_ok(fill(s), e);
    lm_genome_initial(s, v);
    ck_assert_ok(lm_genome_check(s, v, &e), e);
    ck_assert(v[0].integer == 160 && v[1].integer == 1 && v[2].real == 0.5);
    ck_assert(v[3].integer == 2 && v[4].bits == 7);

    for (int i = 0; i < 7; i++) {
        static const char *const culprit[] = { "ffn[0]", "ffn[0]", "layer[1]", "lambda",
                                               "lambda", "colour", "kv[0]" };
        memcpy(w, v, sizeof w);
        switch (i) {
        case 0: w[0].integer = 100; break;          /* off its steps */
        case 1: w[0].integer = 192; break;
        case 2: w[1].integer = 2; break;
        case 3: w[2].real = 0.6; break;
        case 4: w[2].real = NAN; break;
        case 5: w[3].integer = -1; break;
        case 6: w[4].bits = 0; break;               /* fewer than min */
        }
        ck_assert_int_eq(lm_genome_check(s, w, &e), LM_EBUG);
        ck_assert_msg(strstr(e.text, culprit[i]) != NULL, "%s", e.text);
    }
    memcpy(w, v, sizeof w);
    w[4].bits = 8;                                  /* a member that is not there */
    ck_assert_int_eq(lm_genome_check(s, w, &e), LM_EBUG);
    lm_space_close(s);
}
END_TEST

START_TEST(hashes_tell_genomes_apart)
{
    struct lm_space *s = open_space();
    union lm_value v[5], w[5];
    uint64_t h;

    ck_assert_ok(fill(s), e);
    lm_genome_initial(s, v);
    h = lm_genome_hash(s, v);
    for (int i = 0; i < 5; i++) {
        memcpy(w, v, sizeof w);
        ck_assert_uint_eq(lm_genome_hash(s, w), h);
        w[i].bits ^= 1;
        ck_assert_uint_ne(lm_genome_hash(s, w), h);
    }
    lm_space_close(s);
}
END_TEST

START_TEST(sizes_are_counted)
{
    struct lm_space *s = open_space();
    const struct lm_gene *const *g;
    struct lm_gene real = { .struct_size = sizeof real, .kind = LM_GENE_REAL,
                            .name = "free", .min = 0, .max = 1, .initial = 0 };
    size_t n;

    ck_assert_ok(fill(s), e);
    g = lm_space_genes(s, &n);
    ck_assert_int_eq(lm_gene_count(g[2]), 4);
    ck_assert(lm_gene_value(g[2], 3).real == 1);
    ck_assert_int_eq(lm_gene_value(g[0], 1).integer, 128);
    ck_assert_ok(lm_space_add(s, &real, &e), e);
    g = lm_space_genes(s, &n);
    ck_assert_int_eq(lm_gene_count(g[n - 1]), 0);       /* continuous */
    lm_space_close(s);
}
END_TEST

struct source { int calls; double score[4]; };

static enum lm_status give(void *ctx, uint32_t site, int32_t layer, const double **score,
                           int64_t *n, struct lm_err *err)
{
    struct source *s = ctx;

    if (site != LM_SITE_FFN_CHANNEL)
        return lm_fail(err, LM_EUNSUPPORTED, "layer %d: no such score", layer);
    s->calls++;
    *score = s->score;
    *n = 4;
    return LM_OK;
}

START_TEST(orders_follow_scores)
{
    struct source src = { 0, { 1, 5, 1, 9 } };
    const int32_t want[] = { 3, 1, 0, 2 }, *order;
    struct lm_space *s;
    int64_t n;

    ck_assert_ok(lm_space_open(give, &src, &s, &e), e);
    for (int i = 0; i < 3; i++)
        ck_assert_ok(lm_space_order(s, LM_SITE_FFN_CHANNEL, 2, &order, &n, &e), e);
    ck_assert_int_eq(src.calls, 1);
    ck_assert_int_eq(n, 4);
    ck_assert_mem_eq(order, want, sizeof want);
    ck_assert_int_eq(lm_space_order(s, LM_SITE_HEAD, 2, &order, &n, &e),
                     LM_EUNSUPPORTED);
    src.score[1] = NAN;
    ck_assert_int_eq(lm_space_order(s, LM_SITE_FFN_CHANNEL, 3, &order, &n, &e),
                     LM_EFAILED);
    lm_space_close(s);
    s = open_space();
    ck_assert_int_eq(lm_space_order(s, LM_SITE_FFN_CHANNEL, 0, &order, &n, &e),
                     LM_ECONFIG);
    ck_assert_ptr_nonnull(strstr(e.text, "scorer"));
    lm_space_close(s);
}
END_TEST

static enum lm_status whole_life(void *ctx)
{
    struct source src = { 0, { 1, 5, 1, 9 } };
    struct lm_space *s;
    const int32_t *order;
    int64_t n;
    enum lm_status st = lm_space_open(give, &src, &s, &e);

    (void)ctx;
    if (st)
        return st;
    st = fill(s);
    if (!st)
        st = lm_space_order(s, LM_SITE_FFN_CHANNEL, 0, &order, &n, &e);
    lm_space_close(s);
    return st;
}

START_TEST(memory_may_run_out)
{
    ck_assert_int_gt(fail_every_allocation(whole_life, NULL), 10);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("space");
    TCase *t = tcase_create("space");

    tcase_add_test(t, genes_are_copied);
    tcase_add_test(t, unsound_genes_are_refused);
    tcase_add_test(t, genomes_are_checked);
    tcase_add_test(t, hashes_tell_genomes_apart);
    tcase_add_test(t, sizes_are_counted);
    tcase_add_test(t, orders_follow_scores);
    tcase_add_test(t, memory_may_run_out);
    suite_add_tcase(s, t);
    return run_suites(&s, 1);
}
