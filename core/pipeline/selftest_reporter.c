/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_reporter.c -- the contract of reporters.
 *
 * Studies made up here: without trials, with the dense model alone, with many
 * trials of which half are infeasible, with metrics that were not measured, and
 * with texts that try to break out of the report's format.  A report is UTF-8,
 * the same each time, and what its file name promises: JSON parses, HTML holds
 * no markup that came from a text.                                           */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "model/tokenizer.h"
#include "pipeline/selftest_kit.h"

enum { METRICS = 3, LAYERS = 4, MANY = 25 };
static const char hostile[] = "<script>alert(1)</script> \"'\\ & \x01\n\xc3\xa9 %s%n";

static const struct { const char *what; int64_t n; bool half, holes, hostile, trained; }
    kind[] = {
    { "a study without trials", 0, false, false, false, true },
    { "a study of one trial", 1, false, false, false, true },
    { "a study of many trials", MANY, false, false, false, true },
    { "a study whose trials failed", MANY, true, false, false, true },
    { "a study with metrics that were not measured", MANY, true, true, false, true },
    { "a study with strange texts", MANY, true, true, true, true },
    { "a study of an unknown model", 3, false, false, false, false },
};
enum { N_KINDS = sizeof kind / sizeof *kind };

/* ---- the host's side: the study is a number ---------------------------------------- */

static int which;
static struct lm_layer_shape shape[MANY][LAYERS];
static double value[MANY][METRICS], error[MANY][METRICS];

static int64_t n_trials(const struct lm_study *s)
{
    (void)s;
    return kind[which].n;
}

static enum lm_status trial(const struct lm_study *s, int64_t i, struct lm_trial *out,
                            struct lm_err *e)
{
    (void)s;
    if (i < 0 || i >= kind[which].n) {
        lm_kit_blame("asks for trial %lld of %lld", (long long)i,
                     (long long)kind[which].n);
        return lm_fail(e, LM_EBUG, "there is no such trial");
    }
    bool bad = kind[which].half && (i & 1);
    for (int l = 0; l < LAYERS; l++)
        shape[i][l] = (struct lm_layer_shape){ bad ? 0 : 4, bad ? 0 : 2,
                                               i ? 256 - 8 * (int32_t)i : 256, 0 };
    for (int m = 0; m < METRICS; m++) {
        bool hole = bad || (kind[which].holes && (i + m) % 3 == 0);
        value[i][m] = hole ? NAN : (double)(m + 1) * (1 + (double)i / 7);
        error[i][m] = hole || m ? NAN : 0.01;
    }
    struct lm_trial t = { .struct_size = sizeof t,
                          .id = i,
                          .status = bad ? LM_EINFEASIBLE : LM_OK,
                          .feasible = !bad,
                          .front = !bad && i % 3 == 0,
                          .fidelity = i == 4 ? 0.25 : 1,
                          .seconds = 0.1,
                          .reason = !bad                  ? ""
                                    : kind[which].hostile ? hostile
                                                          : "no block is left",
                          .plan = i ? "plan 1 layers=4\nlayer 1: ffn=8/256:0-7\n"
                                    : "plan 1 layers=4\n",
                          .value = value[i],
                          .error = error[i],
                          .layer = shape[i],
                          .estimate = i == 4 ? value[i] : NULL };
    lm_fill_struct(out, &t, sizeof t);
    return LM_OK;
}

static int64_t n_metrics(const struct lm_study *s)
{
    (void)s;
    return METRICS;
}

static const char *metric(const struct lm_study *s, int64_t i, const char **unit,
                          bool *objective)
{
    static const char *const name[] = { "kl.nats", "size.bytes", "latency.decode_ms" };
    static const char *const units[] = { "nats", "bytes", "ms" };
    (void)s;
    if (i < 0 || i >= METRICS) {
        lm_kit_blame("asks for metric %lld of %d", (long long)i, METRICS);
        return NULL;
    }
    if (unit)
        *unit = units[i];
    if (objective)
        *objective = i < 2;
    return name[i];
}

static int64_t best(const struct lm_study *s)
{
    (void)s;
    return kind[which].n ? 0 : -1;
}

static const struct lm_arch *arch(const struct lm_study *s)
{
    static struct lm_arch a;
    (void)s;
    a = *lm_model_arch(lm_kit_now()->model);
    if (!kind[which].trained)
        a.name = a.family = "";
    return &a;
}

static const char *said(const struct lm_study *s, const char *key)
{
    (void)s;
    if (!key)
        lm_kit_blame("asks for the study text NULL");
    return kind[which].hostile ? hostile : kind[which].trained ? "some text" : "";
}

static void dress(struct lm_kit *k, int of)
{
    which = of;
    k->host.study_n_trials = n_trials;
    k->host.study_trial = trial;
    k->host.study_n_metrics = n_metrics;
    k->host.study_metric = metric;
    k->host.study_best = best;
    k->host.study_arch = arch;
    k->host.study_text = said;
}

/* ---- checks ------------------------------------------------------------------------ */

static bool ends(const char *s, const char *end)
{
    size_t n = s ? strlen(s) : 0, m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

static enum lm_status judge(struct lm_kit *k, const char *text, size_t n)
{
    const char *file = ((const struct lm_reporter *)k->plugin->ops)->file;
    struct lm_json *root;
    if (!text || !n)
        return lm_broken(k, "report() of %s is empty", kind[which].what);
    if (memchr(text, 0, n) || lm_utf8_invalid(text, n) >= 0)
        return lm_broken(k, "report() of %s is not UTF-8 text", kind[which].what);
    if (ends(file, ".json")) {
        struct lm_err why = { 0 };
        if (lm_json_api.parse(text, n, "report", &root, &why))
            return lm_broken(k, "report() of %s is not JSON: %s", kind[which].what,
                             why.text);
        lm_json_api.close(root);
    }
    if (ends(file, ".html") && memmem(text, n, "<script>alert", 13))
        return lm_broken(k, "report() of %s lets markup of a text through",
                         kind[which].what);
    return LM_OK;
}

static enum lm_status report(struct lm_kit *k, void *self, char **text, size_t *n)
{
    const struct lm_reporter *ops = k->plugin->ops;
    *text = NULL;
    *n = 0;
    enum lm_status s = ops->report(self, (void *)&which, text, n, k->e);
    return s ? lm_kit_failed(k, "report()", s) : judge(k, *text, *n);
}

static enum lm_status check_studies(struct lm_kit *k)
{
    enum lm_status s = LM_OK;
    for (int i = 0; !s && i < N_KINDS; i++) {
        char *a = NULL, *b = NULL;
        size_t n_a, n_b;
        void *self;
        dress(k, i);
        if (!(s = lm_kit_create(k, &self)) && !(s = report(k, self, &a, &n_a)) &&
            !(s = report(k, self, &b, &n_b)) && (n_a != n_b || memcmp(a, b, n_a)))
            s = lm_broken(k, "report() of %s is another one the second time",
                          kind[i].what);
        lm_release(a);
        lm_release(b);
        lm_kit_destroy(k, self);
    }
    return s;
}

static enum lm_status live_poorly(void *ctx)
{
    struct lm_kit *k = ctx;
    const struct lm_reporter *ops = k->plugin->ops;
    char *text = NULL;
    size_t n = 0;
    void *self;
    enum lm_status s = lm_kit_try(k, &self);
    if (s)
        return s;
    s = ops->report(self, (void *)&which, &text, &n, k->e);
    if (!s)
        lm_release(text);
    lm_kit_destroy(k, self);
    return s;
}

static enum lm_status check_memory(struct lm_kit *k)
{
    dress(k, 5);
    return lm_kit_memory(k, live_poorly, k);
}

const struct lm_kit_check lm_selftest_reporter[] = {
    { "reports", check_studies, false },
    { "work without memory", check_memory, false },
    { NULL, NULL, false }
};
