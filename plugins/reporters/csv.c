/* SPDX-License-Identifier: Apache-2.0 */
/* csv -- report.csv: one line for each trial, for spreadsheets and data frames.
 *
 *   id,status,feasible,front,fidelity,seconds,reason,plan,METRIC,METRIC error,...
 *
 * as in RFC 4180: lines end with CR LF, a field with a comma, a quote or a blank
 * at an end stands in quotes, quotes in it are doubled.  A trial is one line in
 * any reader: the lines of a plan are joined by "; ", other control characters
 * become blanks, bytes that are no UTF-8 U+FFFD.  Numbers have as many digits as
 * it takes to read them back; one that was not measured is an empty field.     */
#include "text.h"

static bool needs_quotes(const char *s)
{
    size_t n = strlen(s);

    return strpbrk(s, ",\"\r\n") || (n && (s[0] == ' ' || s[n - 1] == ' '));
}

static void field(struct text *t, const char *s)
{
    bool quoted = needs_quotes(s);

    if (quoted)
        text_put(t, "\"", 1);
    while (*s) {
        size_t n = text_utf8(s);

        if (n == 0)
            text_put(t, "\xef\xbf\xbd", 3);
        else if (*s == '"')
            text_put(t, "\"\"", 2);
        else if (*s == '\n')
            text_raw(t, s[1] ? "; " : "");
        else if ((unsigned char)*s < 0x20)
            text_put(t, " ", 1);
        else
            text_put(t, s, n);
        s += n ? n : 1;
    }
    if (quoted)
        text_put(t, "\"", 1);
}

static void number(struct text *t, double v)
{
    text_raw(t, ",");
    if (isfinite(v))
        text_json_real(t, v);
}

static void write_head(struct text *t, const struct lm_study *s, int64_t n)
{
    text_raw(t, "id,status,feasible,front,fidelity,seconds,reason,plan");
    for (int64_t m = 0; m < n; m++) {
        const char *name = t->host->study_metric(s, m, NULL, NULL);
        char error[160];

        snprintf(error, sizeof error, "%s error", name);
        text_raw(t, ",");
        field(t, name);
        text_raw(t, ",");
        field(t, error);
    }
    text_raw(t, "\r\n");
}

static void write_trial(struct text *t, const struct lm_trial *r, int64_t n)
{
    text_add(t, "%lld,%s,%s,%s", (long long)r->id,
             r->status == LM_OK ? "ok" : "infeasible", r->feasible ? "true" : "false",
             r->front ? "true" : "false");
    number(t, r->fidelity);
    number(t, r->seconds);
    text_raw(t, ",");
    field(t, r->reason ? r->reason : "");
    text_raw(t, ",");
    field(t, r->plan ? r->plan : "");
    for (int64_t m = 0; m < n; m++) {
        number(t, r->status == LM_OK ? r->value[m] : NAN);
        number(t, r->status == LM_OK ? r->error[m] : NAN);
    }
    text_raw(t, "\r\n");
}

static enum lm_status report(void *self, const struct lm_study *s, char **text, size_t *n,
                             struct lm_err *e)
{
    struct text t = { .host = self };
    int64_t trials = t.host->study_n_trials(s), metrics = t.host->study_n_metrics(s);
    struct lm_trial trial = { .struct_size = sizeof trial };
    enum lm_status st = LM_OK;

    write_head(&t, s, metrics);
    for (int64_t i = 0; st == LM_OK && i < trials; i++)
        if ((st = t.host->study_trial(s, i, &trial, e)) == LM_OK)
            write_trial(&t, &trial, metrics);
    if (st == LM_OK && t.failed)
        st = t.host->fail(e, LM_ENOMEM, "out of memory for report.csv");
    if (st != LM_OK) {
        t.host->release(t.s);
        return st;
    }
    *text = t.s;
    *n = t.n;
    return LM_OK;
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    (void)e;
    *self = (void *)a->host;            /* all it needs; nothing to release */
    return LM_OK;
}

static void destroy(void *self)
{
    (void)self;
}

static const struct lm_reporter reporter = {
    .struct_size = sizeof reporter, .file = "report.csv", .report = report
};

static const struct lm_module module = {
    LM_MODULE_HEAD(REPORTER), .name = "csv", .version = "1.0",
    .license = "Apache-2.0", .author = "Lamina",
    .summary = "every trial as a line of report.csv",
    .reference = "Shafranovich 2005, RFC 4180",
    .create = create, .destroy = destroy, .ops = &reporter
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
