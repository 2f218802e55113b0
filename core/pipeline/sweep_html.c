/* SPDX-License-Identifier: Apache-2.0 */
/* sweep_html.c -- OUT/sweep.html: one file that loads nothing (its content policy
 * forbids it) and needs no script.  A picture for each metric of the short table: a row
 * for each variant, a dot for each run, a bar at the median, a thick line over the
 * median absolute deviation and a thin one from the least to the greatest; the dashed
 * line goes down from the baseline's median.  Below it the table of all metrics.
 *
 * What comes from files (tags, names, reasons, the configuration) is escaped; bytes
 * that are no character become U+FFFD.                                          */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "pipeline/sweep.h"

/* Of a picture, in its own units. */
enum { WIDTH = 900, LEFT = 230, RIGHT = 800, TOP = 12, ROW = 30, FOOT = 34,
       NAME = 30 };                     /* characters of a tag */

static const char style[] =
":root{--bg:#f6f7f9;--card:#fff;--ink:#1b2330;--dim:#667085;--line:#e2e6ec;\n"
"--accent:#2563eb;--better:#12805c;--worse:#d92d3a;--base:#e8590c;\n"
"color-scheme:light dark}\n"
"@media (prefers-color-scheme:dark){:root{--bg:#0f1420;--card:#181f2d;--ink:#e6eaf2;\n"
"--dim:#93a0b5;--line:#2a3448;--accent:#6ea0ff;--better:#3ecf9b;--worse:#ff6b76;\n"
"--base:#ff9a4d}}\n"
"*{box-sizing:border-box}\n"
"body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,\n"
"-apple-system,\"Segoe UI\",Roboto,\"DejaVu Sans\",sans-serif}\n"
"header,main{max-width:1000px;margin:0 auto;padding:0 20px}\n"
"header{padding-top:36px}\n"
".brand{margin:0;color:var(--accent);font-weight:700;letter-spacing:.08em;\n"
"font-size:13px;text-transform:uppercase}\n"
"h1{margin:2px 0;font-size:28px;line-height:1.2;overflow-wrap:anywhere}\n"
".sub{margin:0 0 22px;color:var(--dim)}\n"
"section{background:var(--card);border:1px solid var(--line);border-radius:12px;\n"
"padding:18px 22px;margin:0 0 18px}\n"
"h2{font-size:18px;margin:0 0 10px;overflow-wrap:anywhere}\n"
"h2 small{font-weight:400;font-size:13px;color:var(--dim);margin-left:8px}\n"
".note,.legend{color:var(--dim);font-size:13px;margin:6px 0}\n"
"svg{display:block;width:100%;height:auto}\n"
"svg text{font-size:12px;fill:var(--dim)}\n"
"svg text.name{fill:var(--ink);font-size:13px}\n"
"svg text.sure{fill:var(--ink);font-weight:600}\n"
".grid{stroke:var(--line)}.zebra{fill:var(--bg)}\n"
".from{stroke:var(--base);stroke-dasharray:5 4;stroke-opacity:.8}\n"
".v{stroke:var(--accent);fill:var(--accent)}\n"
".v.base{stroke:var(--base);fill:var(--base)}\n"
".v.better{stroke:var(--better);fill:var(--better)}\n"
".v.worse{stroke:var(--worse);fill:var(--worse)}\n"
".range{stroke-width:1.5;stroke-opacity:.45}.mad{stroke-width:7;stroke-opacity:.3;\n"
"stroke-linecap:round}.median{stroke-width:3.5;stroke-linecap:round}\n"
"circle{fill-opacity:.55;stroke:none}circle:hover{fill-opacity:1}\n"
".legend span{display:inline-block;width:11px;height:11px;border-radius:50%;\n"
"margin:0 5px 0 12px;vertical-align:-1px}\n"
".k-base{background:var(--base)}.k-same{background:var(--accent)}\n"
".k-better{background:var(--better)}.k-worse{background:var(--worse)}\n"
".wide{overflow-x:auto}\n"
"table{border-collapse:collapse;width:100%;font-size:13.5px;\n"
"font-variant-numeric:tabular-nums}\n"
"th,td{padding:5px 10px;text-align:right;white-space:nowrap;\n"
"border-bottom:1px solid var(--line)}\n"
"th:first-child{text-align:left}\n"
"thead th{color:var(--dim);font-weight:600;border-bottom-width:2px}\n"
"tbody th{font-weight:500}td small{display:block;color:var(--dim)}\n"
".is-base{background:color-mix(in srgb,var(--base) 12%,transparent)}\n"
"td.better{color:var(--better);font-weight:600}\n"
"td.worse{color:var(--worse);font-weight:600}\n"
"td.why{text-align:left;white-space:pre-wrap;overflow-wrap:anywhere}\n"
"pre{margin:0;padding:12px 14px;background:var(--bg);border:1px solid var(--line);\n"
"border-radius:8px;overflow-x:auto;font:12.5px/1.5 ui-monospace,\n"
"\"DejaVu Sans Mono\",monospace}\n"
"summary{cursor:pointer;color:var(--dim);margin-bottom:8px}\n";

static void escape(struct lm_str *out, const char *s)
{
    while (*s) {
        size_t n = lm_utf8_char(s, strlen(s));
        if (n == 0 || ((unsigned char)*s < 0x20 && *s != '\n' && *s != '\t'))
            lm_str_add(out, "&#xfffd;");
        else if (strchr("<>&\"'", *s))
            lm_str_add(out, "&#%d;", *s);
        else
            lm_str_put(out, s, n);
        s += n ? n : 1;
    }
}

/* How a variant compares, where that is sure: a class of the style. */
static const char *verdict(const struct lm_sweep_table *t, size_t v, size_t m)
{
    const struct lm_sweep_cell *c = lm_sweep_cell(t, v, m);
    const struct lm_sweep_cell *base = lm_sweep_cell(t, 0, m);
    if (v == 0)
        return "base";
    if (!(c->corrected < 0.05) || c->median == base->median)
        return "same";
    return (c->median > base->median) == t->metric[m].maximise ? "better" : "worse";
}

/* ---- pictures --------------------------------------------------------------------- */

struct axis { double lo, hi; bool logs; };      /* lo and hi are logarithms then */

static struct axis find_axis(const struct lm_sweep_table *t, size_t m)
{
    struct axis a = { .lo = INFINITY, .hi = -INFINITY };
    for (size_t v = 0; v < t->sweep->n_variant; v++) {
        a.lo = fmin(a.lo, lm_sweep_cell(t, v, m)->min);
        a.hi = fmax(a.hi, lm_sweep_cell(t, v, m)->max);
    }
    a.logs = a.lo > 0 && a.hi / a.lo > 30;
    if (a.logs) {
        a.lo = log10(a.lo);
        a.hi = log10(a.hi);
    }
    double more = a.hi > a.lo ? 0.04 * (a.hi - a.lo) : a.hi ? 0.1 * fabs(a.hi) : 1;
    a.lo -= more;
    a.hi += more;
    return a;
}

static double place(const struct axis *a, double v)
{
    double x = ((a->logs ? log10(v) : v) - a->lo) / (a->hi - a->lo);
    return LEFT + fmin(fmax(x, 0), 1) * (RIGHT - LEFT);
}

static void tick(const struct axis *a, double v, const char *unit, int height,
                 struct lm_str *out)
{
    char text[48];
    double x = place(a, v);
    lm_sweep_number(text, v, unit);
    lm_str_add(out, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>"
               "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", x, x, TOP,
               height - FOOT, x, height - FOOT + 18, text);
}

static void ticks(const struct axis *a, const char *unit, int height, struct lm_str *out)
{
    static const double part[] = { 1, 2, 5 };
    double raw = (a->hi - a->lo) / 5, base = pow(10, floor(log10(raw))), q = raw / base;
    double step = base * (q < 1.5 ? 1 : q < 3.5 ? 2 : q < 7.5 ? 5 : 10);
    if (!a->logs) {
        for (double k = ceil(a->lo / step); k * step <= a->hi; k++)
            tick(a, k * step + 0.0, unit, height, out);
        return;
    }
    bool all = a->hi - a->lo < 3;
    for (double k = floor(a->lo); k <= a->hi; k++)
        for (size_t i = 0; i < (all ? 3u : 1u); i++)
            if (k + log10(part[i]) >= a->lo && k + log10(part[i]) <= a->hi)
                tick(a, pow(10, k) * part[i], unit, height, out);
}

static void picture_row(const struct lm_sweep_table *t, size_t v, size_t m,
                        const struct axis *a, struct lm_str *out)
{
    const struct lm_sweep_cell *c = lm_sweep_cell(t, v, m);
    const char *kind = verdict(t, v, m);
    double y = TOP + ((double)v + 0.5) * ROW, step = fmin(3, 16.0 / (double)t->n_seed);
    char number[48];
    lm_str_add(out, "<text class=\"name\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">",
               LEFT - 12, y + 4.5);
    size_t n = strlen(t->sweep->variant[v].tag);        /* of letters, digits, _.-+ */
    lm_str_put(out, t->sweep->variant[v].tag, n < NAME ? n : NAME);
    lm_str_add(out, "%s<title>", n > NAME ? "&#8230;" : "");
    escape(out, t->sweep->variant[v].tag);
    lm_str_add(out, "</title></text>\n");
    if (!c->n) {
        lm_str_add(out, "<text x=\"%d\" y=\"%.1f\">no run has it</text>\n", LEFT, y + 4);
        return;
    }
    const struct { const char *name; double from, to; } line[] = {
        { "range", c->min, c->max },
        { "mad", fmax(c->median - c->mad, c->min), fmin(c->median + c->mad, c->max) } };
    for (size_t i = 0; i < 2; i++)
        lm_str_add(out, "<line class=\"v %s %s\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" "
                   "y2=\"%.1f\"/>\n", kind, line[i].name, place(a, line[i].from),
                   place(a, line[i].to), y, y);
    for (size_t k = 0; k < t->n_seed; k++) {
        double x = t->result[v * t->n_seed + k].value[m];
        if (!isfinite(x))
            continue;
        lm_sweep_number(number, x, t->metric[m].unit);
        lm_str_add(out, "<circle class=\"v %s\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"><title>"
                   "seed %lld: %s</title></circle>\n", kind, place(a, x),
                   y + ((double)k - ((double)t->n_seed - 1) / 2) * step,
                   (long long)t->sweep->o->seeds.v[k], number);
    }
    lm_sweep_number(number, c->median, t->metric[m].unit);
    lm_str_add(out, "<line class=\"v %s median\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" "
               "y2=\"%.1f\"><title>median %s</title></line>\n", kind,
               place(a, c->median), place(a, c->median), y - 10, y + 10, number);
    if (!isnan(c->corrected))
        lm_str_add(out, "<text class=\"%s\" x=\"%d\" y=\"%.1f\">p = %.2g</text>\n",
                   c->corrected < 0.05 ? "sure" : "unsure", RIGHT + 14, y + 4,
                   c->corrected);
}

static void picture(const struct lm_sweep_table *t, size_t m, struct lm_str *out)
{
    const struct lm_sweep_metric *x = &t->metric[m];
    struct axis a = find_axis(t, m);
    int height = TOP + ROW * (int)t->sweep->n_variant + FOOT;
    if (!isfinite(a.lo) || !isfinite(a.hi))
        return;
    lm_str_add(out, "<section><h2>");
    escape(out, x->name);
    lm_str_add(out, "<small>%s is better%s</small></h2>\n<svg viewBox=\"0 0 %d %d\" "
               "role=\"img\" aria-label=\"", x->maximise ? "more" : "less",
               a.logs ? ", logarithmic" : "", WIDTH, height);
    escape(out, x->name);
    lm_str_add(out, " by variant\">\n");
    for (size_t v = 0; v < t->sweep->n_variant; v += 2)
        lm_str_add(out, "<rect class=\"zebra\" x=\"0\" y=\"%d\" width=\"%d\" "
                   "height=\"%d\"/>\n", TOP + (int)v * ROW, WIDTH, ROW);
    ticks(&a, x->unit, height, out);
    if (lm_sweep_cell(t, 0, m)->n) {
        double at = place(&a, lm_sweep_cell(t, 0, m)->median);
        lm_str_add(out, "<line class=\"from\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" "
                   "y2=\"%d\"/>\n", at, at, TOP, height - FOOT);
    }
    for (size_t v = 0; v < t->sweep->n_variant; v++)
        picture_row(t, v, m, &a, out);
    lm_str_add(out, "</svg></section>\n");
}

static void pictures(const struct lm_sweep_table *t, struct lm_str *out)
{
    for (int compared = 1; compared >= 0; compared--)
        for (size_t m = 0; m < t->n_metric; m++)
            if (t->metric[m].shown && t->metric[m].compared == compared)
                picture(t, m, out);
    lm_str_add(out, "<p class=\"legend\"><span class=\"k-base\"></span>baseline "
               "<span class=\"k-same\"></span>no sure difference "
               "<span class=\"k-better\"></span>better, p &lt; 0.05 "
               "<span class=\"k-worse\"></span>worse, p &lt; 0.05. A dot is a run; bar: "
               "median; thick line: median absolute deviation; thin line: least to "
               "greatest.</p>\n");
}

/* ---- table ------------------------------------------------------------------------ */

static void table_cell(const struct lm_sweep_table *t, size_t v, size_t m,
                       struct lm_str *out)
{
    const struct lm_sweep_cell *c = lm_sweep_cell(t, v, m);
    const char *unit = t->metric[m].unit;
    char a[48], b[48];
    lm_sweep_number(a, c->median, unit);
    lm_str_add(out, "<td>%s", a);
    if (c->n > 1) {
        lm_sweep_number(a, c->mad, unit);
        lm_str_add(out, " &plusmn; %s", a);
        lm_sweep_number(a, c->min, unit);
        lm_sweep_number(b, c->max, unit);
        lm_str_add(out, "<small>%s &ndash; %s</small>", a, b);
    }
    lm_str_add(out, "</td>");
    if (!t->metric[m].compared)
        return;
    if (isnan(c->corrected))
        lm_str_add(out, "<td>%s</td>", v ? "-" : "");
    else
        lm_str_add(out, "<td class=\"%s\">%.2g<small>uncorrected %.2g, %zu pairs</small>"
                   "</td>", verdict(t, v, m), c->corrected, c->p, c->pairs);
}

static void table(const struct lm_sweep_table *t, struct lm_str *out)
{
    lm_str_add(out, "<section><h2>All metrics</h2>\n<div class=\"wide\"><table>\n<thead>"
               "<tr><th>variant</th>");
    for (size_t m = 0; m < t->n_metric; m++) {
        lm_str_add(out, "<th>");
        escape(out, t->metric[m].name);
        lm_str_add(out, t->metric[m].compared ? "</th><th>p</th>" : "</th>");
    }
    lm_str_add(out, "</tr></thead>\n<tbody>\n");
    for (size_t v = 0; v < t->sweep->n_variant; v++) {
        lm_str_add(out, "<tr%s><th>", v ? "" : " class=\"is-base\"");
        escape(out, t->sweep->variant[v].tag);
        lm_str_add(out, "</th>");
        for (size_t m = 0; m < t->n_metric; m++)
            table_cell(t, v, m, out);
        lm_str_add(out, "</tr>\n");
    }
    lm_str_add(out, "</tbody></table></div>\n");
    struct lm_str notes = { 0 };
    lm_sweep_notes(t, &notes);
    out->failed |= notes.failed;
    for (char *line = notes.s, *end; line && (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        lm_str_add(out, "<p class=\"note\">");
        escape(out, line);
        lm_str_add(out, "</p>\n");
    }
    lm_str_free(&notes);
    lm_str_add(out, "</section>\n");
}

static void failures(const struct lm_sweep_table *t, struct lm_str *out)
{
    bool any = false;
    for (size_t i = 0; i < t->sweep->n_variant * t->n_seed; i++) {
        if (t->result[i].state != LM_SWEEP_FAILED)
            continue;
        if (!any)
            lm_str_add(out, "<section><h2>Runs that failed</h2>\n<table>\n<tbody>\n");
        any = true;
        lm_str_add(out, "<tr><th>");
        escape(out, t->sweep->variant[i / t->n_seed].tag);
        lm_str_add(out, "</th><td>seed %lld</td><td class=\"why\">",
                   (long long)t->sweep->o->seeds.v[i % t->n_seed]);
        escape(out, t->result[i].reason ? t->result[i].reason : "");
        lm_str_add(out, "</td></tr>\n");
    }
    if (any)
        lm_str_add(out, "</tbody></table></section>\n");
}

static void configuration(const struct lm_sweep_table *t, struct lm_str *out)
{
    struct lm_str conf = { 0 };
    lm_conf_write(t->sweep->conf, false, &conf);
    out->failed |= conf.failed;
    lm_str_add(out, "<section><details><summary>Configuration</summary><pre>");
    escape(out, conf.s ? conf.s : "");
    lm_str_add(out, "</pre></details></section>\n");
    lm_str_free(&conf);
}

void lm_sweep_html(const struct lm_sweep_table *t, struct lm_str *out)
{
    const struct lm_conf *name = lm_conf_path(t->sweep->conf, "run.name");
    const char *title = name && name->type == LM_CONF_STRING ? name->v.s : t->sweep->file;
    lm_str_add(out,
               "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
               "<meta name=\"viewport\" content=\"width=device-width, "
               "initial-scale=1\">\n<meta http-equiv=\"Content-Security-Policy\" "
               "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
               "<title>Lamina sweep: ");
    escape(out, title);
    lm_str_add(out, "</title>\n<style>");
    lm_str_put(out, style, sizeof style - 1);
    lm_str_add(out,
               "</style>\n</head>\n<body>\n<header><p class=\"brand\">Lamina sweep</p>"
               "<h1>");
    escape(out, title);
    lm_str_add(out, "</h1><p class=\"sub\">%zu variants, %zu seed%s, %s</p></header>\n"
               "<main>\n", t->sweep->n_variant, t->n_seed, t->n_seed > 1 ? "s" : "",
               t->sweep->o->mode == LM_SWEEP_PRODUCT ? "all combinations"
                                                     : "one change at a time");
    pictures(t, out);
    table(t, out);
    failures(t, out);
    configuration(t, out);
    lm_str_add(out, "</main>\n</body>\n</html>\n");
}
