/* SPDX-License-Identifier: Apache-2.0 */
/* check_reporters.c -- table, json and html on a study made up here, with texts
 * that try to break out of their escaping.                                  */
#include "plug.h"

#include <math.h>

#include "base/json.h"

enum { LAYERS = 6, TRIALS = 40, METRICS = 4 };

struct lm_study { int64_t n, best; bool blank; };

static struct lm_layer_shape dense_layer[LAYERS], layer[TRIALS][LAYERS];
static const struct lm_arch arch = { .struct_size = sizeof arch, .n_layer = LAYERS,
    .hidden = 96, .head_dim = 16, .vocab = 512, .layer = dense_layer };
static double value[TRIALS][METRICS], error[TRIALS][METRICS];
static const char evil[] =
    "a </script><script>alert(1)</script> & \"q\" 'x' \xff\x01 \xc3\xa9";
static const char *plan = evil;

/* Trial 0 is dense; every fifth is on the front; 7 could not be built. */
static void make_study(void)
{
    for (int l = 0; l < LAYERS; l++)
        dense_layer[l] = (struct lm_layer_shape){ 6, 3, 256, 0 };
    for (int i = 0; i < TRIALS; i++) {
        for (int l = 0; l < LAYERS; l++)
            layer[i][l] = i ? (struct lm_layer_shape){ (i + l) % 4 * 2, (i + l) % 4,
                                                       (i * 37 + l * 50) % 256, 0 }
                            : dense_layer[l];
        double share = 1 - 0.6 * i / TRIALS;
        value[i][0] = i ? 0.02 * i + (i % 5 ? 0.3 + 0.01 * (i % 7) : 0) : 0;
        value[i][1] = 2.7e6 * share;
        value[i][2] = 20.19 * exp(value[i][0]);
        value[i][3] = i % 2 ? NAN : 14.5 * share;
        for (int m = 0; m < METRICS; m++)
            error[i][m] = m == 1 ? 0 : 0.05 * (m + 1);
    }
}

static int64_t n_trials(const struct lm_study *s)
{
    return s->n;
}

static enum lm_status trial(const struct lm_study *s, int64_t i, struct lm_trial *out,
                            struct lm_err *e)
{
    if (i < 0 || i >= s->n)
        return lm_fail(e, LM_EBUG, "no trial %d", (int)i);
    struct lm_trial full = { .struct_size = sizeof full, .id = i,
        .status = i == 7 ? LM_EINFEASIBLE : LM_OK, .feasible = i % 3 == 0 || i % 5 == 0,
        .front = i % 5 == 0, .fidelity = 1, .seconds = 0.5,
        .violation = i % 3 && i % 5 ? 0.25 : 0, .reason = i == 7 ? evil : "", .plan = i ? plan : "", .value = value[i],
        .error = error[i], .layer = layer[i] };
    static const double told[METRICS] = { 0.777, NAN, NAN, NAN };
    if (i == 11) {                      /* lost a race */
        full.fidelity = 0.25;
        full.estimate = told;
    }
    lm_fill_struct(out, &full, sizeof full);
    return LM_OK;
}

static int64_t n_metrics(const struct lm_study *s)
{
    return s->blank ? 0 : METRICS;
}

static const char *metric(const struct lm_study *s, int64_t i, const char **unit,
                          bool *objective)
{
    static const char *const name[] = { "kl.nats", "size.bytes", "perplexity.ppl",
                                        "latency.decode_ms" };
    static const char *const units[] = { "nats", "bytes", "", "ms" };
    (void)s;
    if (unit)
        *unit = units[i];
    if (objective)
        *objective = i < 2;
    return name[i];
}

static int64_t best(const struct lm_study *s)
{
    return s->best;
}

static const struct lm_arch *dense_arch(const struct lm_study *s)
{
    (void)s;
    return &arch;
}

static const char two_exports[] =
    "[{\"file\":\"best-f16.gguf\",\"trial\":2,\"format\":\"gguf\","
    "\"plan\":{\"bytes\":2.5e8,\"parameters\":1000,\"latency.decode_ms\":12.5},"
    "\"written\":{\"bytes\":260000000,\"parameters\":1000,\"latency.decode_ms\":13.25}},"
    "{\"file\":\"<b>\",\"trial\":3,\"plan\":{\"bytes\":7},\"written\":null}]";
static const char *exports = two_exports;
static const char *notes, *predictions;

static const char *text(const struct lm_study *s, const char *key)
{
    if (s->blank)
        return "";
    if (!strcmp(key, "seed"))
        return "1";
    if (!strcmp(key, "sample_dense"))
        return "Once upon a time there was a small model that lived in a large machine.";
    if (!strcmp(key, "protocol:perplexity.ppl"))
        return "window 2048, stride 2048, no BOS, all positions, 4 windows of valid";
    if (!strcmp(key, "exports"))
        return exports;
    if (!strcmp(key, "notes"))
        return notes;
    if (!strcmp(key, "predictions"))
        return predictions;
    return evil;
}

static struct lm_host host;

static enum lm_status report(const struct lm_module *m, const struct lm_study *s,
                             char **out, size_t *n, struct lm_err *e)
{
    const struct lm_reporter *ops = m->ops;
    struct lm_args a = { .struct_size = sizeof a, .host = &host, .instance = m->name };
    void *self;
    *out = NULL;
    enum lm_status st = m->create(&a, &self, e);
    if (st != LM_OK)
        return st;
    st = ops->report(self, s, out, n, e);
    m->destroy(self);
    return st;
}

static void setup(void)
{
    host = plug_host();
    host.study_n_trials = n_trials;
    host.study_trial = trial;
    host.study_n_metrics = n_metrics;
    host.study_metric = metric;
    host.study_best = best;
    host.study_arch = dense_arch;
    host.study_text = text;
    host.json = &lm_json_api;
    exports = two_exports;
    notes = predictions = evil;
    plan = evil;
    make_study();
}

static size_t count(const char *in, const char *what)
{
    size_t n = 0;
    for (const char *p = in; (p = strstr(p, what)); p++)
        n++;
    return n;
}

START_TEST(table_lines_up)
{
    struct lm_study s = { TRIALS, 10, false };
    struct lm_err e = { 0 };
    char *out;
    size_t n;
    exports = notes = "";
    ck_assert_ok(report(plug_open("reporters", "table"), &s, &out, &n, &e), e);
    ck_assert_uint_eq(strlen(out), n);
    ck_assert(strstr(out, "Front: 8 of 40 trials (1 could not be built, 20 break a "
                          "constraint), by kl.nats"));
    ck_assert(strstr(out, "\n1 trial lost a race and stopped after 25 % of the items"));
    ck_assert(strstr(out, "   dense"));
    ck_assert_uint_eq(count(out, "\n*     10  "), 1);
    ck_assert(strstr(out, "2.700 MB"));
    ck_assert(strstr(out, "20.19 +-0.15"));
    size_t width = 0;
    int lines = 0;
    char *line = strtok(strstr(out, "   trial"), "\n");
    for (; line; line = strtok(NULL, "\n")) {
        if (!width)
            width = strlen(line);
        ck_assert_uint_eq(strlen(line), width);
        lines++;
    }
    ck_assert_int_eq(lines, 1 + 8);     /* the dense model is of the front here */
    lm_release(out);
}
END_TEST

START_TEST(notes_are_told)
{
    static const char *const name[] = { "table", "json", "html" };
    struct lm_study s = { TRIALS, 10, false };
    struct lm_err e = { 0 };
    char *out;
    size_t n;

    notes = "first doubt\nsecond doubt\n";
    for (int i = 0; i < 3; i++) {
        ck_assert_ok(report(plug_open("reporters", name[i]), &s, &out, &n, &e), e);
        ck_assert_uint_eq(count(out, "first doubt"), 1);
        ck_assert_uint_eq(count(out, "second doubt"), 1);
        lm_release(out);
    }
}
END_TEST

/* Of trials 0, 5, 10 the errors are 0.5, 0 and -0.25 of what was measured: the median
 * without signs is 0.25.  Others were predicted, and not measured.           */
START_TEST(predictions_beside_measurements)
{
    struct lm_study s = { TRIALS, 10, false };
    struct lm_err e = { 0 };
    char *out;
    size_t n;

    for (int i = 0; i < TRIALS; i++) {
        value[i][2] = 1000 + i;
        value[i][3] = NAN;
    }
    for (int i = 0; i < 15; i += 5) {
        value[i][2] = i == 0 ? 15 : i == 5 ? 8 : 3;
        value[i][3] = i == 0 ? 10 : i == 5 ? 8 : 4;
    }
    predictions = "no.such latency.decode_ms\nperplexity.ppl latency.decode_ms\nbroken\n";
    ck_assert_ok(report(plug_open("reporters", "table"), &s, &out, &n, &e), e);
    ck_assert_uint_eq(count(out, " -> latency.decode_ms\n"), 1);
    ck_assert(strstr(out, "perplexity.ppl -> latency.decode_ms"));
    ck_assert(strstr(out, "  15 -> 10 (+50.0 %)\n"));
    ck_assert(strstr(out, "  8 -> 8 (+0.0 %)\n"));
    ck_assert(strstr(out, "  3 -> 4 (-25.0 %)\n"));
    ck_assert(strstr(out, "median error 25.0 %\n"));
    lm_release(out);
    ck_assert_ok(report(plug_open("reporters", "html"), &s, &out, &n, &e), e);
    ck_assert_uint_eq(count(out, "Predicted and measured: latency.decode_ms"), 1);
    ck_assert(strstr(out, "Median error 25.0 %."));
    ck_assert(strstr(out, "<td>-25.0&nbsp;%</td>"));
    lm_release(out);
    predictions = "";
    ck_assert_ok(report(plug_open("reporters", "table"), &s, &out, &n, &e), e);
    ck_assert_uint_eq(count(out, "median error"), 0);
    lm_release(out);
}
END_TEST

/* With one objective and a constraint the best trial is dominated by larger ones. */
START_TEST(best_is_told_off_the_front)
{
    struct lm_study s = { TRIALS, 12, false };
    struct lm_err e = { 0 };
    char *out;
    size_t n;
    exports = "";
    ck_assert_ok(report(plug_open("reporters", "table"), &s, &out, &n, &e), e);
    ck_assert(strstr(out, "Front: 8 of 40 trials"));
    ck_assert_uint_eq(count(out, "\n*     12  "), 1);
    lm_release(out);
    ck_assert_ok(report(plug_open("reporters", "html"), &s, &out, &n, &e), e);
    ck_assert_uint_eq(count(out, "<tr class=\"is-best\""), 1);
    lm_release(out);
}
END_TEST

/* Planned and found stand side by side; a damaged list is as none. */
START_TEST(exports_are_told)
{
    static const char *const bad[] = { "{", "[7]", "{\"file\":\"a\"}", "[{\"file\":7}]" };
    static const char *const name[] = { "table", "json", "html" };
    static const char *const want[][2] = {
        { "  best-f16.gguf (trial 2): bytes 250.0 MB -> 260.0 MB, parameters 1.000 k -> "
          "1.000 k, latency.decode_ms 12.5 -> 13.25\n",
          "<b> (trial 3): bytes 7 B -> -\n" },
        { "\"written\":{\"bytes\":260000000,", "\"file\":\"<b>\"" },
        { "<td>latency.decode_ms</td><td>12.5</td><td>13.25</td>",
          "<th>&#60;b&#62;</th>" } };
    struct lm_study s = { TRIALS, 10, false };
    const struct lm_module *m = plug_open("reporters", name[_i]);
    struct lm_err e = { 0 };
    char *out;
    size_t n;
    ck_assert_ok(report(m, &s, &out, &n, &e), e);
    const char *told = strstr(out, "xported");
    ck_assert_msg(strstr(out, want[_i][0]) && strstr(out, want[_i][1]), "%.1000s",
                  told ? told : "nothing");
    lm_release(out);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        exports = bad[i];
        ck_assert_ok(report(m, &s, &out, &n, &e), e);
        ck_assert(!strstr(out, "Exported"));
        lm_release(out);
    }
}
END_TEST

START_TEST(json_holds_everything)
{
    struct lm_study s = { TRIALS, 10, false };
    struct lm_err e = { 0 };
    struct lm_json *root;
    char *out;
    size_t n;
    ck_assert_ok(report(plug_open("reporters", "json"), &s, &out, &n, &e), e);
    ck_assert_ok(lm_json_api.parse(out, n, "report", &root, &e), e);
    const struct lm_json_api *j = &lm_json_api;
    const struct lm_json *trials = j->get(root, "trials");
    int64_t id;
    double v;
    ck_assert_uint_eq(j->size(trials), TRIALS);
    ck_assert_uint_eq(j->size(j->get(root, "front")), 8);
    ck_assert(j->integer(j->get(root, "best"), &id) && id == 10);
    ck_assert_str_eq(j->string(j->get(root, "pipeline")),
        "a </script><script>alert(1)</script> & \"q\" 'x' \xef\xbf\xbd\x01 \xc3\xa9");
    ck_assert_str_eq(j->string(j->get(j->at(trials, 7), "status")), "infeasible");
    ck_assert_uint_eq(j->size(j->get(j->at(trials, 7), "metrics")), 0);
    const struct lm_json *proposals = j->get(root, "proposals");
    ck_assert(j->integer(j->get(proposals, "not_built"), &id) && id == 1);
    ck_assert(j->integer(j->get(proposals, "break_constraint"), &id) && id == 20);
    ck_assert(j->real(j->get(j->at(trials, 8), "violation"), &v) && v == 0.25);
    const struct lm_json *m = j->get(j->get(j->at(trials, 12), "metrics"),
                                     "perplexity.ppl");
    ck_assert(j->real(j->get(m, "value"), &v));
    ck_assert_double_eq(v, value[12][2]);       /* to the last bit */
    ck_assert_ptr_null(j->get(j->get(j->at(trials, 11), "metrics"), "latency.decode_ms"));
    m = j->get(j->get(j->at(trials, 11), "metrics"), "kl.nats");
    ck_assert(j->real(j->get(m, "value"), &v));
    ck_assert_double_eq(v, value[11][0]);       /* as measured, not as estimated */
    ck_assert(j->real(j->get(m, "estimate"), &v));
    ck_assert_double_eq(v, 0.777);
    ck_assert_uint_eq(count(out, "\"estimate\""), 1);
    ck_assert_uint_eq(j->size(j->get(j->at(trials, 3), "shape")), LAYERS);
    ck_assert_str_eq(j->string(j->get(j->at(j->get(root, "metrics"), 2), "protocol")),
                     text(&s, "protocol:perplexity.ppl"));
    lm_json_api.close(root);
    lm_release(out);
}
END_TEST

/* Field f of a line by the letter of RFC 4180; returns where the next line begins.
 * Fails unless the line has n fields and ends with CR LF.                      */
static const char *csv_line(const char *p, int n, char field[][256])
{
    for (int f = 0; f < n; f++) {
        bool quoted = *p == '"';
        size_t k = 0;
        if (quoted)
            p++;
        for (;; p++) {
            if (quoted && *p == '"' && p[1] == '"')
                p++;
            else if (quoted ? *p == '"' : *p == ',' || *p == '\r')
                break;
            ck_assert_msg(*p && *p != '\n' && (quoted || *p != '"'), "at '%.20s'", p);
            field[f][k++] = *p;
            ck_assert_uint_lt(k, 256);
        }
        field[f][k] = 0;
        p += quoted;
        ck_assert_int_eq(*p, f + 1 < n ? ',' : '\r');
        p++;
    }
    ck_assert_int_eq(*p, '\n');
    return p + 1;
}

START_TEST(csv_is_a_line_for_each_trial)
{
    enum { FIELDS = 8 + 2 * METRICS };
    static char f[FIELDS][256];
    struct lm_study s = { TRIALS, 10, false };
    struct lm_err e = { 0 };
    char *out;
    size_t n;
    ck_assert_ok(report(plug_open("reporters", "csv"), &s, &out, &n, &e), e);
    ck_assert_uint_eq(strlen(out), n);
    const char *p = csv_line(out, FIELDS, f);
    ck_assert_str_eq(f[0], "id");
    ck_assert_str_eq(f[7], "plan");
    ck_assert_str_eq(f[8], "kl.nats");
    ck_assert_str_eq(f[15], "latency.decode_ms error");
    for (int i = 0; i < TRIALS; i++) {
        p = csv_line(p, FIELDS, f);
        ck_assert_int_eq(atoi(f[0]), i);
        ck_assert_str_eq(f[1], i == 7 ? "infeasible" : "ok");
        ck_assert_str_eq(f[3], i % 5 ? "false" : "true");
        ck_assert_str_eq(f[5], "0.5");
        if (i)
            ck_assert_str_eq(f[7], "a </script><script>alert(1)</script> & \"q\" 'x' "
                             "\xef\xbf\xbd  \xc3\xa9");
        for (int m = 0; m < METRICS; m++) {
            bool is = i != 7 && isfinite(value[i][m]);
            ck_assert_int_eq(!*f[8 + 2 * m], !is);
            if (is)                     /* to the last bit */
                ck_assert_double_eq(strtod(f[8 + 2 * m], NULL), value[i][m]);
        }
    }
    ck_assert_int_eq(*p, 0);
    lm_release(out);
    plan = "plan 1 layers=6\nlayer 3: kv=2/3:0,2\n";
    ck_assert_ok(report(plug_open("reporters", "csv"), &s, &out, &n, &e), e);
    csv_line(csv_line(csv_line(out, FIELDS, f), FIELDS, f), FIELDS, f);
    ck_assert_str_eq(f[7], "plan 1 layers=6; layer 3: kv=2/3:0,2");
    lm_release(out);
}
END_TEST

START_TEST(html_is_safe_and_complete)
{
    struct lm_study s = { TRIALS, 10, false };
    struct lm_err e = { 0 };
    char *out;
    size_t n;
    ck_assert_ok(report(plug_open("reporters", "html"), &s, &out, &n, &e), e);
    ck_assert_uint_eq(strlen(out), n);
    ck_assert(strstr(out, "1 could not be built, 20 break a constraint,"));
    /* what the study says never becomes markup; nothing is loaded */
    ck_assert_uint_eq(count(out, "alert(1)"),
                      count(out, "&#60;/script&#62;&#60;script&#62;alert(1)&#60;"));
    ck_assert_uint_eq(count(out, "<script"), 2);
    ck_assert_uint_eq(count(out, "</script>"), 2);
    ck_assert_uint_eq(count(out, "src="), 0);
    ck_assert_uint_eq(count(out, "href="), 0);
    ck_assert_uint_eq(count(out, "url("), 0);
    for (size_t i = 0; i < n; i++)
        ck_assert_msg((unsigned char)out[i] != 0xff, "a byte that is no UTF-8");
    /* scatter: all trials but the infeasible one; dense and best once each */
    ck_assert_uint_eq(count(out, "<circle class="), TRIALS - 2);
    ck_assert_uint_eq(count(out, "<path class=\"dense\""), 1);
    ck_assert_uint_eq(count(out, "<circle class=\"best\""), 1);
    ck_assert_uint_eq(count(out, "<polyline class=\"line\""), 1);
    /* heat maps: 8 members, 6 layers, 2 kinds of blocks */
    ck_assert_uint_eq(count(out, "<rect class="), 8 * LAYERS * 2);
    ck_assert(strstr(out, ", 1 lost a race and are estimated"));
    ck_assert_uint_eq(count(out,
                            "trial 11, estimated from 25 % of the items\nkl.nats 0.777"),
                      1);
    ck_assert(strstr(out, "Effective configuration"));
    ck_assert(strstr(out, "window 2048, stride 2048"));
    const char *copy = getenv("LAMINA_KEEP_REPORT");
    if (copy)
        ck_assert_ok(lm_write_file(copy, out, n, &e), e);
    lm_release(out);
}
END_TEST

START_TEST(html_data_is_json)
{
    struct lm_study s = { TRIALS, 10, false };
    struct lm_err e = { 0 };
    struct lm_json *root;
    char *out;
    size_t n;
    ck_assert_ok(report(plug_open("reporters", "html"), &s, &out, &n, &e), e);
    char *from = strstr(out, "id=\"data\">") + strlen("id=\"data\">");
    char *to = strstr(from, "</script>");
    ck_assert_ok(lm_json_api.parse(from, (size_t)(to - from), "data", &root, &e), e);
    ck_assert_uint_eq(lm_json_api.size(lm_json_api.get(root, "trials")), TRIALS);
    ck_assert_uint_eq(lm_json_api.size(lm_json_api.get(root, "metrics")), METRICS);
    lm_json_api.close(root);
    lm_release(out);
}
END_TEST

static const char *const every[] = { "table", "json", "html", "csv" };

START_TEST(nothing_to_report)
{
    struct lm_study s[] = { { 0, -1, true }, { 1, -1, false }, { 3, -1, true } };
    for (size_t i = 0; i < sizeof s / sizeof *s; i++) {
        struct lm_err e = { 0 };
        char *out;
        size_t n;
        ck_assert_ok(report(plug_open("reporters", every[_i]), &s[i], &out, &n, &e), e);
        ck_assert_uint_eq(strlen(out), n);
        lm_release(out);
    }
}
END_TEST

static enum lm_status report_once(void *ctx)
{
    struct lm_study s = { 8, 5, false };
    struct lm_err e = { 0 };
    char *out;
    size_t n;
    enum lm_status st = report(ctx, &s, &out, &n, &e);
    if (st == LM_OK)
        lm_release(out);
    return st;
}

START_TEST(memory_runs_out)
{
    const struct lm_module *m = plug_open("reporters", every[_i]);
    ck_assert_int_ge(fail_every_allocation(report_once, (void *)m), 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("reporters");
    TCase *t = tcase_create("reporters");
    setup();
    tcase_add_test(t, table_lines_up);
    tcase_add_test(t, notes_are_told);
    tcase_add_test(t, predictions_beside_measurements);
    tcase_add_test(t, best_is_told_off_the_front);
    tcase_add_loop_test(t, exports_are_told, 0, 3);
    tcase_add_test(t, json_holds_everything);
    tcase_add_test(t, csv_is_a_line_for_each_trial);
    tcase_add_test(t, html_is_safe_and_complete);
    tcase_add_test(t, html_data_is_json);
    tcase_add_loop_test(t, nothing_to_report, 0, 4);
    tcase_add_loop_test(t, memory_runs_out, 0, 4);
    suite_add_tcase(suite, t);
    return run_suites(&suite, 1);
}
