/* SPDX-License-Identifier: Apache-2.0 */
/* check_guards.c -- overlap of texts against a comparison of all pieces with all places,
 * and notes about results against trials made for it.                        */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "pipeline/guards.h"
#include "plan/plan.h"
#include "study/overlap.h"
#include "testing.h"

enum { P = LM_OVERLAP_PIECE, LENGTH = 96, SEQUENCES = 7, LATE = 40 * P + 5 };

static uint64_t state = 1;

static int32_t draw(int32_t n)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (int32_t)((state >> 33) % (uint64_t)n);
}

static double share(const int32_t *a, int64_t n_seq, int64_t length, const int32_t *b,
                    int64_t n)
{
    struct lm_err e = { 0 };
    double out = -1;

    ck_assert_ok(lm_overlap(a, n_seq, length, b, n, &out, &e), e);
    return out;
}

static double naive(const int32_t *a, int64_t n_seq, int64_t length, const int32_t *b,
                    int64_t n)
{
    int64_t found = 0;

    for (int64_t i = 0; i < n / P; i++) {
        bool is = false;

        for (int64_t s = 0; s < n_seq; s++)
            for (int64_t k = 0; k + P <= length; k++)
                is |= !memcmp(a + s * length + k, b + i * P, P * sizeof *b);
        found += is;
    }
    return (double)found / (double)(n / P);
}

START_TEST(overlap)
{
    static int32_t a[SEQUENCES * LENGTH], b[LATE];

    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < SEQUENCES * LENGTH; i++)
            a[i] = draw(round % 2 ? 2 : 50000);
        for (int i = 0; i < LATE; i++)
            b[i] = draw(round % 2 ? 2 : 50000);
        for (int k = 0; k < round % 30; k++) {  /* across borders of sequences, too */
            int from = draw(SEQUENCES * LENGTH - P);

            memcpy(b + P * draw(LATE / P), a + from, P * sizeof *b);
        }
        ck_assert(share(a, SEQUENCES, LENGTH, b, LATE)
                  == naive(a, SEQUENCES, LENGTH, b, LATE));
    }
    ck_assert(share(b, 1, LATE, b, LATE) == 1);
    ck_assert(share(b, 1, LATE, b + 7, LATE - 7) == 1);     /* wherever it is cut */
}
END_TEST

START_TEST(short_texts)
{
    int32_t a[P] = { 0 }, b[P] = { 0 };

    ck_assert(share(a, 1, P - 1, b, P) == 0);
    ck_assert(share(a, 1, P, b, P - 1) == 0);
    ck_assert(share(a, 0, P, b, P) == 0);
    ck_assert(share(a, 1, P, b, P) == 1);       /* zeros are a text like others */
}
END_TEST

/* ---- results --------------------------------------------------------------------- */

enum { TRIALS = 4 };
static struct lm_view_trial trial[TRIALS];
static double value[TRIALS][2], error[TRIALS][2];

/* Metrics "p.ppl" and "kl.nats", of `final` if so; all trials on the front. */
static struct lm_study *make(bool final)
{
    static struct lm_study s;

    s = (struct lm_study){ .n_metric = 2, .n_search = final ? 0 : 2, .trial = trial,
                           .n_trial = TRIALS };
    snprintf(s.metric[0].name, sizeof s.metric[0].name, "p.ppl");
    snprintf(s.metric[1].name, sizeof s.metric[1].name, "kl.nats");
    for (int i = 0; i < TRIALS; i++) {
        value[i][0] = 10 + i;
        value[i][1] = 0.1 * i;
        error[i][0] = error[i][1] = NAN;
        trial[i] = (struct lm_view_trial){ .id = i, .value = value[i],
                                           .error = error[i], .front = true };
    }
    return &s;
}

static const char *notes(const struct lm_study *s)
{
    static char out[4096];
    struct lm_str t = { 0 };

    lm_guard_results(s, &t);
    snprintf(out, sizeof out, "%s", t.s ? t.s : "");
    lm_str_free(&t);
    return out;
}

START_TEST(results)
{
    for (int final = 0; final < 2; final++) {
        struct lm_study *s = make(final);

        ck_assert_str_eq(notes(s), "");
        value[2][0] = 9.5;              /* better than the dense model's 10 */
        ck_assert(strstr(notes(s), "trial 2 has a better p.ppl than trial 0"));
        ck_assert(strchr(notes(s), '\n')[1] == 0);      /* and nothing else */
        trial[2].front = false;
        ck_assert_str_eq(notes(s), "");
        trial[2].front = true;
        error[2][0] = error[0][0] = error[1][0] = 2;    /* within what chance does */
        ck_assert_str_eq(notes(s), "");
    }
}
END_TEST

/* What a search judged by, measured again, is of other candidates than `final`. */
START_TEST(names_do_not_matter)
{
    struct lm_study *s = make(true);
    static double v[TRIALS][4];

    s->n_metric = 4;
    s->n_search = 1;
    snprintf(s->metric[0].name, sizeof s->metric[0].name, "kl.nats");
    snprintf(s->metric[1].name, sizeof s->metric[1].name, "kl" LM_CONFIRMED ".nats");
    snprintf(s->metric[2].name, sizeof s->metric[2].name, "test.ppl");
    snprintf(s->metric[3].name, sizeof s->metric[3].name, "test_kl.nats");
    s->objective[0] = 0;
    s->n_objective = 1;
    for (int i = 0; i < TRIALS; i++) {
        static double none[4] = { NAN, NAN, NAN, NAN };
        double row[4] = { 0.1 * i, 0.1 * i, 10 + i, 0.1 * i };

        memcpy(v[i], row, sizeof row);
        trial[i].value = v[i];
        trial[i].error = none;
    }
    ck_assert_str_eq(notes(s), "");
    v[2][2] = 9.5;
    ck_assert(strstr(notes(s), "trial 2 has a better test.ppl than trial 0"));
    ck_assert(strstr(notes(s), "test_kl.nats"));
    v[2][1] = -1;                       /* of the twin nothing is said */
    ck_assert(strstr(notes(s), "trial 2 has a better test.ppl than trial 0"));
}
END_TEST

/* Plans that keep 64, 48, 32 and 16 of 64 channels of 24 parameters, which beside them
 * have 472: of q, k, v, o 192, embedding and head 256, norms 24.  Times in ms. */
START_TEST(smaller_is_not_faster)
{
    static struct lm_layer_shape shape = { 2, 1, 64, 0 };
    static struct lm_str text[TRIALS];
    struct lm_study *s = make(true);
    struct lm_err e = { 0 };

    s->arch = (struct lm_arch){ .struct_size = sizeof s->arch, .n_layer = 1, .hidden = 8,
                                .head_dim = 4, .vocab = 16, .layer = &shape };
    snprintf(s->metric[0].name, sizeof s->metric[0].name, "latency.decode_ms");
    snprintf(s->metric[0].unit, sizeof s->metric[0].unit, "ms");
    for (int i = 0; i < TRIALS; i++) {
        struct lm_plan *plan;
        int32_t keep[64];

        for (int32_t k = 0; k < 64 - 16 * i; k++)
            keep[k] = k;
        ck_assert_ok(lm_plan_open(&s->arch, NULL, &plan, &e), e);
        ck_assert_ok(lm_plan_keep(plan, LM_SITE_FFN_CHANNEL, 0, keep, 64 - 16 * i, &e), e);
        ck_assert_ok(lm_plan_canonical(plan, &e), e);
        lm_plan_text(plan, &text[i]);
        lm_plan_free(plan);
        trial[i].plan_text = text[i].s;
        value[i][0] = 10 - i;
    }
    ck_assert_str_eq(notes(s), "");
    value[2][0] = 9;                    /* as long as trial 1 */
    ck_assert(strstr(notes(s), "trial 2 has 76 % of the parameters of trial 1 but is no "
                               "faster: latency.decode_ms 9, 9\n"));
    ck_assert(strchr(notes(s), '\n')[1] == 0);
    snprintf(s->metric[0].name, sizeof s->metric[0].name, "latency.decode_device_ms");
    ck_assert_str_eq(notes(s), "");     /* it stands beside one that says the same */
    snprintf(s->metric[0].name, sizeof s->metric[0].name, "latency.decode_ms");
    value[1][0] = NAN;                  /* which was not measured */
    ck_assert_str_eq(notes(s), "");
    s->n_search = 2;                    /* and what the search itself timed says nothing */
    value[3][0] = 99;
    ck_assert_str_eq(notes(s), "");
    for (int i = 0; i < TRIALS; i++)
        lm_str_free(&text[i]);
}
END_TEST

START_TEST(one_metric_alone)
{
    struct lm_study *s = make(false);

    value[2][0] = 9.5;
    snprintf(s->metric[1].name, sizeof s->metric[1].name, "size.bytes");
    ck_assert_str_eq(notes(s), "");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("guards");
    TCase *t = tcase_create("guards");

    tcase_add_test(t, overlap);
    tcase_add_test(t, short_texts);
    tcase_add_test(t, results);
    tcase_add_test(t, names_do_not_matter);
    tcase_add_test(t, smaller_is_not_faster);
    tcase_add_test(t, one_metric_alone);
    suite_add_tcase(s, t);
    return run_suites(&s, 1);
}
