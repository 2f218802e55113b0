/* SPDX-License-Identifier: Apache-2.0 */
/* html -- report.html: one file that loads nothing from anywhere (its content
 * policy forbids it): what was won, the front, shapes by layer, sample text,
 * provenance.                                                               */
#include "html.h"
#include "exports.h"
#include "predicted.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_ROWS = 200 };                /* of the table */

/* ---- reading the study ------------------------------------------------------------- */

static bool is_dense(const struct view *v, const struct lm_trial *t)
{
    return t->status == LM_OK && t->fidelity >= 1 && v->arch && t->layer
        && !memcmp(t->layer, v->arch->layer, (size_t)v->arch->n_layer * sizeof *t->layer);
}

/* Picture: first objective upwards; to the right the second, else another. */
static void read_metrics(struct view *v)
{
    int64_t n = v->host->study_n_metrics(v->study), first = -1, second = -1;

    v->n_metric = n < HTML_METRICS ? n : HTML_METRICS;
    for (int64_t m = 0; m < v->n_metric; m++) {
        const char *unit = NULL;

        v->metric[m] = v->host->study_metric(v->study, m, &unit, &v->objective[m]);
        v->unit[m] = unit ? unit : "";
        if (v->objective[m] && first < 0)
            first = m;
        else if (v->objective[m] && second < 0)
            second = m;
    }
    v->y = first < 0 ? 0 : first;
    v->x = second < 0 ? (v->n_metric > 1 && v->y == 0) : second;
}

static bool is_before(const struct view *v, int64_t a, int64_t b)
{
    double x = v->trial[a].value[v->y], y = v->trial[b].value[v->y];

    return x != y ? x < y : a < b;
}

static enum lm_status read_study(struct view *v, struct lm_err *e)
{
    v->arch = v->host->study_arch(v->study);
    v->n_trial = v->host->study_n_trials(v->study);
    v->dense = -1;
    v->best = v->host->study_best(v->study);
    read_metrics(v);
    v->trial = v->host->alloc(((size_t)v->n_trial + 1) * sizeof *v->trial, "html");
    v->front = v->host->alloc(((size_t)v->n_trial + 1) * sizeof *v->front, "html");
    if (!v->trial || !v->front)
        return v->host->fail(e, LM_ENOMEM, "out of memory for a report of %lld trials",
                             (long long)v->n_trial);
    for (int64_t i = 0; i < v->n_trial; i++) {
        struct lm_trial *t = &v->trial[i];

        t->struct_size = sizeof *t;
        enum lm_status st = v->host->study_trial(v->study, i, t, e);
        if (st != LM_OK)
            return st;
        if (v->dense < 0 && is_dense(v, t))
            v->dense = i;
        if (!t->front || v->n_metric == 0)
            continue;
        int64_t k = v->n_front++;
        for (; k > 0 && is_before(v, i, v->front[k - 1]); k--)
            v->front[k] = v->front[k - 1];
        v->front[k] = i;
    }
    return LM_OK;
}

static const char *fact(const struct view *v, const char *key)
{
    const char *s = v->host->study_text(v->study, key);

    return s ? s : "";
}

/* ---- sections ---------------------------------------------------------------------- */

/* "tiny" of "examples/tiny"; the whole is among the provenance. */
static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash && slash[1] ? slash + 1 : path;
}

static void head(struct text *p, const struct view *v)
{
    int64_t failed = 0, broken = 0, stopped = 0;

    for (int64_t i = 0; i < v->n_trial; i++) {
        failed += v->trial[i].status != LM_OK;
        broken += is_broken(&v->trial[i]);
        stopped += v->trial[i].estimate != NULL;
    }
    text_raw(p, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
             "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
             "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
             "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
             "<title>Lamina report: ");
    html_text(p, fact(v, "model"));
    text_raw(p, "</title>\n<style>");
    text_raw(p, html_style);
    text_raw(p, "</style>\n</head>\n<body>\n<header><p class=\"brand\">Lamina</p><h1>");
    html_text(p, *fact(v, "model") ? base_name(fact(v, "model")) : "Report");
    text_add(p, "</h1><p class=\"sub\">%lld of %lld trials on the front",
             (long long)v->n_front, (long long)v->n_trial);
    if (failed)
        text_add(p, ", %lld could not be built", (long long)failed);
    if (broken)
        text_add(p, ", %lld break a constraint", (long long)broken);
    if (stopped)
        text_add(p, ", %lld lost a race and are estimated", (long long)stopped);
    if (*fact(v, "started")) {
        text_raw(p, " &middot; started ");
        html_text(p, fact(v, "started"));
    }
    if (*fact(v, "seed")) {
        text_raw(p, " &middot; seed ");
        html_text(p, fact(v, "seed"));
    }
    text_raw(p, "</p></header>\n<main>\n");
}

/* One card for each metric of the best trial, beside the dense model's. */
static void cards(struct text *p, const struct view *v)
{
    char now[HTML_NUMBER], was[HTML_NUMBER];

    if (v->best < 0) {
        text_raw(p, "<p class=\"note\">No trial satisfies all constraints.</p>\n");
        return;
    }
    text_raw(p, "<section class=\"cards\">\n");
    for (int64_t m = 0; m < v->n_metric; m++) {
        double b = v->trial[v->best].value[m];
        double d = v->dense >= 0 ? v->trial[v->dense].value[m] : NAN;

        if (isnan(b))
            continue;
        html_format(now, b, v->unit[m]);
        html_format(was, d, v->unit[m]);
        text_raw(p, "<div class=\"card\"><p>");
        html_text(p, v->metric[m]);
        text_add(p, "</p><b>%s</b>", now);
        if (!isnan(d))
            text_add(p, "<span>dense %s", was);
        if (isfinite(d) && d > 0 && b >= 0 && b <= 10 * d)
            text_add(p, " &middot; %.1f&nbsp;%%</span>"
                     "<i><u style=\"width:%.1f%%\"></u></i>",
                     100 * b / d, fmin(100, 100 * b / d));
        else if (!isnan(d))
            text_raw(p, "</span>");
        text_raw(p, "</div>\n");
    }
    text_raw(p, "</section>\n");
}

/* What makes figures doubtful, a sentence a line. */
static void notes(struct text *p, const struct view *v)
{
    char line[512];
    size_t n;

    for (const char *at = fact(v, "notes"); *at; at += n + (at[n] == '\n')) {
        n = strcspn(at, "\n");
        snprintf(line, sizeof line, "%.*s", (int)(n < sizeof line ? n : sizeof line - 1),
                 at);
        text_raw(p, "<p class=\"note\">");
        html_text(p, line);
        text_raw(p, "</p>\n");
    }
}

static void picture(struct text *p, const struct view *v)
{
    if (v->n_metric == 0)
        return;
    text_raw(p, "<section><h2>Front</h2>\n<div id=\"axes\" hidden><label>across "
             "<select id=\"x\"></select></label>"
             "<label>up <select id=\"y\"></select></label>"
             "<label><input type=\"checkbox\" id=\"all\"> show outliers</label></div>\n"
             "<div class=\"plot\">");
    html_scatter(p, v);
    text_raw(p, "<div id=\"tip\" hidden></div></div>\n<p class=\"legend\">"
             "<span class=\"k-best\"></span>best <span class=\"k-front\"></span>front "
             "<span class=\"k-dense\"></span>dense <span class=\"k-trial\"></span>other "
             "trial <span class=\"k-out\"></span>violates a constraint or measured in "
             "part; what lies outside the picture is drawn at its border</p>"
             "</section>\n");
}

static void heat(struct text *p, const struct view *v)
{
    if (!v->arch || v->n_front == 0)
        return;
    text_raw(p, "<section><h2>Shape by layer</h2>\n<p class=\"note\">One row for each "
             "trial of the front, one column for each layer; the paler, the less is "
             "kept.</p>\n"
             "<h3>Attention: KV groups kept</h3>\n");
    html_heat(p, v, true);
    text_raw(p, "<h3>MLP: FFN width kept</h3>\n");
    html_heat(p, v, false);
    text_raw(p, "<p class=\"legend\"><span class=\"k-full\"></span>all <span "
             "class=\"k-half\"></span>some <span class=\"k-gone\"></span>block removed"
             "</p></section>\n");
}

/* Has any row of the table this metric?  Of times by a device's own
 * clock none may.                                                            */
static bool is_measured(const struct view *v, int64_t m)
{
    bool any = (v->dense >= 0 && !isnan(v->trial[v->dense].value[m]))
        || (v->best >= 0 && !isnan(v->trial[v->best].value[m]));

    for (int64_t k = 0; k < v->n_front && k < MAX_ROWS && !any; k++)
        any = !isnan(v->trial[v->front[k]].value[m]);
    return any;
}

static void table_row(struct text *p, const struct view *v, int64_t i)
{
    const struct lm_trial *t = &v->trial[i];
    char number[HTML_NUMBER];

    text_add(p, "<tr%s><th>", i == v->best ? " class=\"is-best\"" : "");
    if (i == v->dense)
        text_raw(p, "dense");
    else
        text_add(p, "%s%lld", i == v->best ? "\xe2\x98\x85 " : "", (long long)t->id);
    text_raw(p, "</th>");
    for (int64_t m = 0; m < v->n_metric; m++) {
        if (!is_measured(v, m))
            continue;
        html_format(number, t->value[m], v->unit[m]);
        text_add(p, "<td>%s", number);
        if (isfinite(t->value[m]) && isfinite(t->error[m]) && t->error[m] > 0)
            text_add(p, "<small> &plusmn;%.2g</small>", t->error[m]);
        text_raw(p, "</td>");
    }
    text_raw(p, "</tr>\n");
}

static void table(struct text *p, const struct view *v)
{
    text_raw(p, "<section><h2>Trials of the front</h2>\n<div class=\"wide\"><table>\n"
             "<thead><tr><th>trial</th>");
    for (int64_t m = 0; m < v->n_metric; m++) {
        if (!is_measured(v, m))
            continue;
        text_raw(p, "<th>");
        html_text(p, v->metric[m]);
        text_raw(p, "</th>");
    }
    text_raw(p, "</tr></thead>\n<tbody>\n");
    if (v->dense >= 0)
        table_row(p, v, v->dense);
    for (int64_t k = 0; k < v->n_front && k < MAX_ROWS; k++)
        if (v->front[k] != v->dense)
            table_row(p, v, v->front[k]);
    if (v->best >= 0 && !v->trial[v->best].front)       /* the best within a constraint */
        table_row(p, v, v->best);
    text_raw(p, "</tbody></table></div>\n");
    if (v->n_front > MAX_ROWS)
        text_add(p, "<p class=\"note\">The first %d of %lld.</p>\n", MAX_ROWS,
                 (long long)v->n_front);
    text_raw(p, "</section>\n");
}

/* What was predicted of finalists, and what was measured. */
static void predictions(struct text *p, const struct view *v)
{
    struct predicted x;
    const char *at = fact(v, "predictions");
    char was[HTML_NUMBER], is[HTML_NUMBER];

    while (predicted_next(&at, v->metric, v->n_metric, &x)) {
        double median = predicted_median(&x, v->trial, (size_t)v->n_trial);

        if (isnan(median))
            continue;
        text_raw(p, "<section><h2>Predicted and measured: ");
        html_text(p, v->metric[x.measured]);
        text_add(p, "</h2>\n<p class=\"note\">Median error %.1f %%.</p>\n<div "
                 "class=\"wide\"><table>\n<thead><tr><th>trial</th><th>predicted</th>"
                 "<th>measured</th><th>error</th></tr></thead>\n<tbody>\n", 100 * median);
        for (int64_t i = 0; i < v->n_trial; i++) {
            const struct lm_trial *t = &v->trial[i];
            double error = predicted_error(&x, t);

            if (isnan(error))
                continue;
            html_format(was, t->value[x.predicted], v->unit[x.predicted]);
            html_format(is, t->value[x.measured], v->unit[x.measured]);
            text_add(p, "<tr><th>%lld</th><td>%s</td><td>%s</td><td>%+.1f&nbsp;%%</td></tr>"
                     "\n", (long long)t->id, was, is, 100 * error);
        }
        text_raw(p, "</tbody></table></div></section>\n");
    }
}

static void exports(struct text *p, const struct view *v)
{
    struct exports x;
    const char *file, *name;
    int64_t trial;
    double planned, written;
    char was[HTML_NUMBER], is[HTML_NUMBER];

    exports_open(&x, p, v->study);
    for (size_t i = 0; (file = exports_file(&x, i, &trial)); i++) {
        if (i == 0)
            text_raw(p, "<section><h2>Exported</h2>\n<p class=\"note\">What was planned, "
                     "and what was found in the file (bytes on disk, times of the model as "
                     "read from it).</p>\n<div class=\"wide\"><table>\n<thead><tr>"
                     "<th>file</th><th>trial</th><th></th><th>planned</th><th>found</th>"
                     "</tr></thead>\n<tbody>\n");
        for (size_t k = 0; (name = exports_value(&x, i, k, &planned, &written)); k++) {
            const char *unit = !strcmp(name, "bytes") || !strcmp(name, "parameters")
                ? name : "";

            html_format(was, planned, unit);
            html_format(is, written, unit);
            text_raw(p, "<tr><th>");
            html_text(p, k ? "" : file);
            text_raw(p, "</th><td>");
            if (k == 0)
                text_add(p, "%lld", (long long)trial);
            text_raw(p, "</td><td>");
            html_text(p, name);
            text_add(p, "</td><td>%s</td><td>%s</td></tr>\n", was, is);
        }
    }
    if (x.root && exports_file(&x, 0, &trial))
        text_raw(p, "</tbody></table></div></section>\n");
    exports_close(&x);
}

static void samples(struct text *p, const struct view *v)
{
    static const char *const key[2][2] = {
        { "sample_dense", "Dense" }, { "sample_best", "Best" }
    };

    if (!*fact(v, "sample_dense") && !*fact(v, "sample_best"))
        return;
    text_raw(p, "<section><h2>Sample text</h2>\n");
    if (*fact(v, "prompt")) {
        text_raw(p, "<p class=\"note\">Prompt</p><blockquote>");
        html_text(p, fact(v, "prompt"));
        text_raw(p, "</blockquote>\n");
    }
    text_raw(p, "<div class=\"pair\">");
    for (int i = 0; i < 2; i++) {
        text_add(p, "<div><h3>%s</h3><pre class=\"prose\">", key[i][1]);
        html_text(p, fact(v, key[i][0]));
        text_raw(p, "</pre></div>");
    }
    text_raw(p, "</div></section>\n");
}

static void provenance(struct text *p, const struct view *v)
{
    static const char *const key[][2] = {
        { "model", "Model" }, { "model_hash", "Model hash" }, { "version", "Lamina" },
        { "plugins", "Plugins" }, { "seed", "Seed" }, { "started", "Started" },
        { "backend", "Backend" }, { "device", "Device" }, { "timing", "Timing" },
        { "clocks", "Processor's clock" }
    };
    char name[160];

    text_raw(p, "<section><h2>Provenance</h2>\n<dl>");
    for (size_t i = 0; i < sizeof key / sizeof *key; i++) {
        if (!*fact(v, key[i][0]))
            continue;
        text_add(p, "<dt>%s</dt><dd>", key[i][1]);
        html_text(p, fact(v, key[i][0]));
        text_raw(p, "</dd>\n");
    }
    text_raw(p, "</dl>\n<h3>What the numbers mean</h3>\n<dl>");
    for (int64_t m = 0; m < v->n_metric; m++) {
        snprintf(name, sizeof name, "protocol:%s", v->metric[m]);
        text_raw(p, "<dt>");
        html_text(p, v->metric[m]);
        text_raw(p, "</dt><dd>");
        html_text(p, fact(v, name));
        text_raw(p, "</dd>\n");
    }
    text_raw(p, "</dl>\n<details><summary>Effective configuration</summary><pre>");
    html_text(p, fact(v, "pipeline"));
    text_raw(p, "</pre></details></section>\n");
}

/* What the script draws from. */
static void data(struct text *p, const struct view *v)
{
    text_raw(p, "<script type=\"application/json\" id=\"data\">{\"metrics\":[");
    for (int64_t m = 0; m < v->n_metric; m++) {
        text_raw(p, m ? ",[" : "[");
        html_json_string(p, v->metric[m]);
        text_raw(p, ",");
        html_json_string(p, v->unit[m]);
        text_add(p, ",%d]", v->objective[m]);
    }
    text_add(p, "],\"dense\":%lld,\"best\":%lld,\"x\":%lld,\"y\":%lld,\"trials\":[",
             (long long)v->dense, (long long)v->best, (long long)v->x, (long long)v->y);
    for (int64_t i = 0; i < v->n_trial; i++) {
        const struct lm_trial *t = &v->trial[i];

        text_add(p, "%s\n{\"id\":%lld,\"k\":%d,\"v\":[", i ? "," : "", (long long)t->id,
                 t->status != LM_OK ? 3 : t->front ? 2 : t->feasible ? 1 : 0);
        for (int64_t m = 0; m < v->n_metric; m++) {
            text_raw(p, m ? "," : "");
            text_json_real(p, t->status == LM_OK ? html_value(t, m) : NAN);
        }
        text_raw(p, "]}");
    }
    text_raw(p, "]}</script>\n<script>");
    text_raw(p, html_script);
    text_raw(p, "</script>\n");
}

/* ---- the reporter ------------------------------------------------------------------ */

static enum lm_status report(void *self, const struct lm_study *s, char **text, size_t *n,
                             struct lm_err *e)
{
    struct view v = { .host = self, .study = s };
    struct text p = { .host = self };
    enum lm_status st = read_study(&v, e);

    if (st == LM_OK) {
        head(&p, &v);
        cards(&p, &v);
        notes(&p, &v);
        picture(&p, &v);
        heat(&p, &v);
        table(&p, &v);
        predictions(&p, &v);
        exports(&p, &v);
        samples(&p, &v);
        provenance(&p, &v);
        text_raw(&p, "</main>\n");
        data(&p, &v);
        text_raw(&p, "</body>\n</html>\n");
        if (p.failed)
            st = v.host->fail(e, LM_ENOMEM, "out of memory for report.html");
    }
    v.host->release(v.trial);
    v.host->release(v.front);
    if (st != LM_OK) {
        v.host->release(p.s);
        return st;
    }
    *text = p.s;
    *n = p.n;
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
    .struct_size = sizeof reporter, .file = "report.html", .report = report
};

static const struct lm_module module = {
    LM_MODULE_HEAD(REPORTER), .name = "html", .version = "1.0",
    .license = "Apache-2.0", .author = "Lamina",
    .summary = "one self-contained page with the front, shapes and provenance",
    .create = create, .destroy = destroy, .ops = &reporter
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
