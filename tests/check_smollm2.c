/* SPDX-License-Identifier: Apache-2.0 */
/* check_smollm2.c -- the real model against what transformers computes from it
 * (tests/golden/smollm2).  The GGUF file is named by LAMINA_SMOLLM2 or lies in
 * the cache folder where scripts/quickstart puts it; the perplexities need
 * LAMINA_DATA.  Skipped where they are missing.                              */
#include <math.h>
#include <unistd.h>

#include "base/json.h"
#include "base/pool.h"
#include "loader/loader.h"
#include "pipeline/finish.h"
#include "pipeline/session.h"
#include "testing.h"

static struct lm_err err;
static struct lm_bench bench;
static struct lm_run *run;
static struct lm_stage backend;
static struct lm_network net;
static const struct lm_json *golden;
static char model_path[4096], text_path[4096];

static int32_t id_at(const struct lm_json *list, size_t i)
{
    int64_t v = -1;
    lm_json_api.integer(lm_json_api.at(list, i), &v);
    return (int32_t)v;
}

static double number(const struct lm_json *node)
{
    double v = NAN;
    lm_json_api.real(node, &v);
    return v;
}

static void setup(void)
{
    char *text, path[4200];
    size_t n;
    struct lm_json *root;
    snprintf(path, sizeof path, "%s/tests/golden/smollm2/wikitext2.valid.json",
             getenv("LAMINA_SRCDIR") ? getenv("LAMINA_SRCDIR") : ".");
    ck_assert_ok(lm_read_file(path, 1 << 24, &text, &n, &err), err);
    ck_assert_ok(lm_json_api.parse(text, n, path, &root, &err), err);
    golden = root;
    ck_assert_ok(lm_loader_start(NULL, &err), err);
    ck_assert_int_eq(lm_pool_start(2, NULL), LM_OK);
    ck_assert_ok(lm_run_open(0, &run, &err), err);
    ck_assert_ok(lm_stage_open(&backend, LM_BACKEND, NULL, "cpu", NULL, "backend", run,
                               &err), err);
    ck_assert_ok(lm_bench_open(&bench, model_path, NULL, &backend, 0, run, &err),
                 err);
    ck_assert_ok(lm_network_open(bench.engine, bench.model, &net, &err), err);
}

START_TEST(logits)
{
    const struct lm_json *ids = lm_json_api.get(golden, "first_64_ids");
    const struct lm_json *want = lm_json_api.get(golden, "logits_first_64");
    int32_t vocab = lm_model_arch(bench.model)->vocab;
    float *logit = lm_alloc_array((size_t)vocab, sizeof *logit, "test");
    struct lm_decoder *d;
    ck_assert_ok(lm_decoder_open(bench.engine, &net, 64, 1, &d, &err), err);
    for (size_t t = 0; t < 64; t++) {
        int32_t id = id_at(ids, t);
        const struct lm_json *at = lm_json_api.at(want, t);
        double sum = 0, top = -INFINITY;
        ck_assert_ok(lm_decoder_feed(d, &id, 1, logit, NULL, &err), err);
        for (int32_t v = 0; v < vocab; v++)
            top = fmax(top, logit[v]);
        for (int32_t v = 0; v < vocab; v++)
            sum += exp(logit[v] - top);
        ck_assert_double_eq_tol(top + log(sum), number(lm_json_api.get(at, "logsumexp")),
                                2e-3);
        for (size_t k = 0; k < 8; k++) {
            int32_t v = id_at(lm_json_api.get(at, "top_ids"), k);
            ck_assert_double_eq_tol(
                logit[v], number(lm_json_api.at(lm_json_api.get(at, "top_logits"), k)),
                2e-3);
        }
    }
    lm_decoder_close(d);
    lm_release(logit);
}
END_TEST

START_TEST(greedy)
{
    const struct lm_json *first = lm_json_api.get(golden, "first_64_ids");
    const struct lm_json *want = lm_json_api.get(golden, "greedy_after_first_16");
    int32_t ids[16], *out;
    size_t n;
    struct lm_generate o = { .tokens = 32, .threads = 1, .ignore_eos = true };
    for (size_t i = 0; i < 16; i++)
        ids[i] = id_at(first, i);
    ck_assert_ok(lm_generate(bench.engine, &net, &o, ids, 16, &out, &n, &err), err);
    ck_assert_uint_eq(n, 32);
    for (size_t i = 0; i < n; i++)
        ck_assert_int_eq(out[i], id_at(want, i));
    lm_release(out);
}
END_TEST

/* Mean loss over n windows, all positions or those behind the middle. */
static double perplexity(const int32_t *ids, int window, int n, bool half)
{
    struct lm_runner *r;
    double sum = 0, count = 0;
    float *nll = lm_alloc_array((size_t)window, sizeof *nll, "test");
    ck_assert_ok(lm_runner_open(bench.engine, &r, &err), err);
    for (int w = 0; w < n; w++) {
        ck_assert_ok(lm_runner_losses(r, &net, ids + w * window, (size_t)window, nll,
                                      &err), err);
        for (int t = half ? window / 2 : 0; t + 1 < window; t++, count++)
            sum += nll[t];
    }
    lm_runner_close(r);
    lm_release(nll);
    return exp(sum / count);
}

START_TEST(perplexities)
{
    const int32_t *ids;
    size_t n;
    ck_assert_ok(lm_run_ids(run, text_path, &ids, &n, &err), err);
    const struct lm_json *first = lm_json_api.get(golden, "first_64_ids");
    const struct lm_json *last = lm_json_api.get(golden, "last_16_ids");
    for (size_t i = 0; i < 64; i++)
        ck_assert_int_eq(ids[i], id_at(first, i));
    for (size_t i = 0; i < 16; i++)
        ck_assert_int_eq(ids[n - 16 + i], id_at(last, i));
    double a = number(lm_json_api.get(golden, "ppl_2048"));
    double b = number(lm_json_api.get(golden, "ppl_512_second_half_8_windows"));
    ck_assert_double_eq_tol(perplexity(ids, 2048, 4, false), a, 1e-4 * a);
    ck_assert_double_eq_tol(perplexity(ids, 512, 8, true), b, 1e-4 * b);
}
END_TEST

static bool find_files(void)
{
    char cache[3000];
    const char *named = getenv("LAMINA_SMOLLM2"), *data = getenv("LAMINA_DATA");
    if (named)
        snprintf(model_path, sizeof model_path, "%s", named);
    else if (!lm_cache_folder(cache, sizeof cache, &err))
        snprintf(model_path, sizeof model_path,
                 "%s/models/SmolLM2-135M-Instruct.Q4_1.gguf", cache);
    if (data)
        snprintf(text_path, sizeof text_path, "%s/lm/wikitext2.valid.raw", data);
    return lm_file_exists(model_path);
}

int main(void)
{
    Suite *s = suite_create("smollm2");
    TCase *t = tcase_create("golden");
    if (!find_files()) {
        const char *tap = getenv("CK_TAP_LOG_FILE_NAME");
        FILE *f = tap ? fopen(tap, "w") : stdout;
        if (f)
            fputs("1..0 # SKIP SmolLM2 is not in the cache (scripts/quickstart fetches "
                  "it)\n", f);
        return 0;
    }
    tcase_set_timeout(t, 300);
    tcase_add_unchecked_fixture(t, setup, NULL);
    tcase_add_test(t, logits);
    tcase_add_test(t, greedy);
    if (lm_file_exists(text_path))
        tcase_add_test(t, perplexities);
    else
        fputs("skipped: perplexities (LAMINA_DATA names no folder with "
              "lm/wikitext2.valid.raw)\n", stderr);
    suite_add_tcase(s, t);
    return run_suites(&s, 1);
}
