/* SPDX-License-Identifier: Apache-2.0 */
/* sweep_out.c -- the table of a sweep as text for the terminal, CSV and LaTeX, and
 * the sentences that say what its numbers are.  None of it depends on when or in how
 * many pieces the sweep was run.                                               */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "pipeline/sweep.h"
#include "study/significance.h"

void lm_sweep_number(char out[48], double v, const char *unit)
{
    static const char prefix[] = " kMGT";
    bool bytes = !strcmp(unit, "bytes");
    int k = 0;
    if (isnan(v)) {
        snprintf(out, 48, "-");
    } else if (bytes || !strcmp(unit, "parameters") || !strcmp(unit, "MACs")) {
        for (; fabs(v) >= 999.5 && k < 4; k++)
            v /= 1000;
        snprintf(out, 48, "%.*f%s%.*s%s", k == 0 ? 0 : fabs(v) < 10 ? 3 : fabs(v) < 100
                 ? 2 : 1, v, k || bytes ? " " : "", k ? 1 : 0, prefix + k,
                 bytes ? "B" : "");
    } else {
        snprintf(out, 48, "%.4g%s", v, !strcmp(unit, "ms") ? " ms" : "");
    }
}

/* ---- notes ------------------------------------------------------------------------ */

void lm_sweep_note_power(const struct lm_sweep *s, struct lm_str *out)
{
    size_t metrics = s->compare->metric.n ? s->compare->metric.n : 1, enough = 1;
    size_t m = s->compare->correct == 0 ? (s->n_variant - 1) * metrics : 1;
    size_t n = s->o->seeds.n;
    if (s->compare->test != 0 || lm_signed_rank_least(n) * (double)m < 0.05)
        return;
    while (lm_signed_rank_least(enough) * (double)m >= 0.05)
        enough++;
    lm_str_add(out, "With %zu seed%s p is at least %.3g", n, n > 1 ? "s" : "",
               lm_signed_rank_least(n));
    if (m > 1)
        lm_str_add(out, ", corrected %.3g", fmin(1, lm_signed_rank_least(n) * (double)m));
    lm_str_add(out, ": no p below 0.05 is possible. It takes %zu seeds.\n", enough);
}

static void note_test(const struct lm_sweep_table *t, struct lm_str *out)
{
    size_t m = 0;
    for (size_t i = 0; i < t->sweep->n_variant * t->n_metric; i++)
        m += !isnan(t->cell[i].p);
    if (!t->n_compared)
        return;
    lm_str_add(out, "p: exact two-sided Wilcoxon signed-rank test against the baseline, "
               "paired by seed");
    if (m && t->sweep->compare->correct == 0)
        lm_str_add(out, "; Holm's correction for %zu comparison%s", m, m > 1 ? "s" : "");
    lm_str_add(out, ".\n");
    lm_sweep_note_power(t->sweep, out);
}

/* Is an objective of the hypervolume maximised? */
static bool negated(const struct lm_sweep_table *t)
{
    bool any = false;
    for (size_t m = 0; m < t->n_metric; m++)
        for (size_t k = 0; k < 2; k++)
            any |= t->metric[m].maximise && !strcmp(t->metric[m].name, t->objective[k]);
    return any;
}

void lm_sweep_notes(const struct lm_sweep_table *t, struct lm_str *out)
{
    size_t n = t->sweep->n_variant * t->n_seed, done = 0, failed = 0;
    for (size_t i = 0; i < n; i++) {
        done += t->result[i].state == LM_SWEEP_DONE;
        failed += t->result[i].state == LM_SWEEP_FAILED;
    }
    if (done < n) {
        lm_str_add(out, "%zu of %zu runs are finished", done, n);
        if (failed)
            lm_str_add(out, ", %zu failed", failed);
        lm_str_add(out, ".\n");
    }
    lm_str_add(out,
               "Median and median absolute deviation over seeds, of the best trial of "
               "each run.\n");
    if (t->objective[0][0])
        lm_str_add(out, "hypervolume: the share that the front dominates of the box from "
                   "(%.6g, %.6g) to the reference point (%.6g, %.6g) in (%s, %s)%s: "
                   "from the best to the worst value on any front of the sweep, and 5 %% "
                   "more.\n", t->ideal[0], t->ideal[1], t->reference[0], t->reference[1],
                   t->objective[0], t->objective[1],
                   negated(t) ? " with what is maximised negated" : "");
    if (t->mixed)
        lm_str_add(out, "There is no hypervolume: runs have different objectives.\n");
    note_test(t, out);
}

/* ---- cells ------------------------------------------------------------------------ */

static void cell_text(const struct lm_sweep_table *t, size_t v, size_t m, const char *pm,
                      char out[128])
{
    const struct lm_sweep_cell *c = lm_sweep_cell(t, v, m);
    char a[48], b[48];
    lm_sweep_number(a, c->median, t->metric[m].unit);
    lm_sweep_number(b, c->mad, t->metric[m].unit);
    if (c->n > 1)
        snprintf(out, 128, "%s %s %s", a, pm, b);
    else
        snprintf(out, 128, "%s", a);
}

static void p_text(const struct lm_sweep_table *t, size_t v, size_t m, char out[16])
{
    double p = lm_sweep_cell(t, v, m)->corrected;
    if (isnan(p))
        snprintf(out, 16, "%s", v ? "-" : "");
    else
        snprintf(out, 16, p > 0.995 ? "1" : "%.2g%s", p, p < 0.05 ? "*" : "");
}

static size_t runs_of(const struct lm_sweep_table *t, size_t v)
{
    size_t n = 0;
    for (size_t k = 0; k < t->n_seed; k++)
        n += t->result[v * t->n_seed + k].state == LM_SWEEP_DONE;
    return n;
}

/* ---- terminal --------------------------------------------------------------------- */

/* Columns that a text takes: bytes that begin a character. */
static size_t wide(const char *s)
{
    size_t n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static void put_right(struct lm_str *out, const char *s, size_t width)
{
    lm_str_add(out, "  %*s%s", (int)(wide(s) < width ? width - wide(s) : 0), "", s);
}

static size_t column(const struct lm_sweep_table *t, size_t m)
{
    size_t width = wide(t->metric[m].name);
    char text[128];
    for (size_t v = 0; v < t->sweep->n_variant; v++) {
        cell_text(t, v, m, "\xc2\xb1", text);
        width = wide(text) > width ? wide(text) : width;
    }
    return width;
}

void lm_sweep_text(const struct lm_sweep_table *t, struct lm_str *out)
{
    const struct lm_sweep *s = t->sweep;
    size_t first = strlen("variant"), width[LM_SWEEP_METRICS];
    char text[128], p[16];
    for (size_t v = 0; v < s->n_variant; v++)
        first = strlen(s->variant[v].tag) > first ? strlen(s->variant[v].tag) : first;
    lm_str_add(out, "%-*s  runs", (int)first, "variant");
    for (size_t m = 0; m < t->n_metric; m++) {
        width[m] = t->metric[m].shown ? column(t, m) : 0;
        if (t->metric[m].shown)
            put_right(out, t->metric[m].name, width[m]);
        if (t->metric[m].shown && t->metric[m].compared)
            put_right(out, "p", 8);
    }
    lm_str_add(out, "\n");
    for (size_t v = 0; v < s->n_variant; v++) {
        lm_str_add(out, "%-*s  %4zu", (int)first, s->variant[v].tag, runs_of(t, v));
        for (size_t m = 0; m < t->n_metric; m++) {
            if (!t->metric[m].shown)
                continue;
            cell_text(t, v, m, "\xc2\xb1", text);
            put_right(out, text, width[m]);
            p_text(t, v, m, p);
            if (t->metric[m].compared)
                put_right(out, p, 8);
        }
        lm_str_add(out, "\n");
    }
    lm_sweep_notes(t, out);
}

/* ---- CSV: a row for each run ------------------------------------------------------- */

static void csv_text(struct lm_str *out, const char *s)
{
    if (!s[strcspn(s, ",\"\r\n")]) {
        lm_str_add(out, "%s", s);
        return;
    }
    lm_str_add(out, "\"");
    for (; *s; s++)
        lm_str_add(out, *s == '"' ? "\"\"" : "%c", *s);
    lm_str_add(out, "\"");
}

static void csv_real(struct lm_str *out, double v)
{
    char text[40];
    if (isnan(v))
        return;
    if (v == floor(v) && fabs(v) < 1e15)
        lm_human_value(text, v);
    else
        lm_conf_real(text, v);
    lm_str_add(out, "%s", text);
}

void lm_sweep_csv(const struct lm_sweep_table *t, struct lm_str *out)
{
    static const char *const state[] = { "waiting", "done", "failed" };
    lm_str_add(out, "variant,seed,state,reason");
    for (size_t m = 0; m < t->n_metric; m++) {
        lm_str_add(out, ",");
        csv_text(out, t->metric[m].name);
    }
    lm_str_add(out, "\n");
    for (size_t i = 0; i < t->sweep->n_variant * t->n_seed; i++) {
        const struct lm_sweep_result *r = &t->result[i];
        lm_str_add(out, "%s,%lld,%s,", t->sweep->variant[i / t->n_seed].tag,
                   (long long)t->sweep->o->seeds.v[i % t->n_seed], state[r->state]);
        csv_text(out, r->reason ? r->reason : "");
        for (size_t m = 0; m < t->n_metric; m++) {
            lm_str_add(out, ",");
            csv_real(out, r->value[m]);
        }
        lm_str_add(out, "\n");
    }
}

/* ---- LaTeX ------------------------------------------------------------------------- */

static void latex_text(struct lm_str *out, const char *s)
{
    while (*s) {
        size_t n = lm_utf8_char(s, strlen(s));
        if (n == 0 || (unsigned char)*s < 0x20)
            lm_str_add(out, "?");
        else if (strchr("$&%#_{}", *s))
            lm_str_add(out, "\\%c", *s);
        else if (*s == '\\')
            lm_str_add(out, "\\textbackslash{}");
        else if (*s == '~' || *s == '^')
            lm_str_add(out, "\\textascii%s{}", *s == '~' ? "tilde" : "circum");
        else
            lm_str_put(out, s, n);
        s += n ? n : 1;
    }
}

/* Each line behind %, whatever it holds. */
static void latex_comment(struct lm_str *out, const char *s)
{
    lm_str_add(out, "%% ");
    for (; *s; s++) {
        if (*s == '\n' && s[1])
            lm_str_add(out, "\n%% ");
        else
            lm_str_put(out, (unsigned char)*s < 32 && *s != '\n' ? "?" : s, 1);
    }
}

static void latex_row(const struct lm_sweep_table *t, size_t v, struct lm_str *out)
{
    char text[128], p[16];
    latex_text(out, t->sweep->variant[v].tag);
    lm_str_add(out, " & %zu", runs_of(t, v));
    for (size_t m = 0; m < t->n_metric; m++) {
        if (!t->metric[m].shown)
            continue;
        cell_text(t, v, m, "$\\pm$", text);
        lm_str_add(out, " & %s", text);
        p_text(t, v, m, p);
        if (t->metric[m].compared)
            lm_str_add(out, " & %s", p);
    }
    lm_str_add(out, " \\\\\n");
}

void lm_sweep_latex(const struct lm_sweep_table *t, struct lm_str *out)
{
    struct lm_str notes = { 0 };
    lm_sweep_notes(t, &notes);
    latex_comment(out, notes.s ? notes.s : "\n");
    out->failed |= notes.failed;
    lm_str_free(&notes);
    lm_str_add(out, "\\begin{tabular}{lr");
    for (size_t m = 0; m < t->n_metric; m++)
        if (t->metric[m].shown)
            lm_str_add(out, t->metric[m].compared ? "rr" : "r");
    lm_str_add(out, "}\n\\hline\nvariant & runs");
    for (size_t m = 0; m < t->n_metric; m++) {
        if (!t->metric[m].shown)
            continue;
        lm_str_add(out, " & ");
        latex_text(out, t->metric[m].name);
        if (t->metric[m].compared)
            lm_str_add(out, " & $p$");
    }
    lm_str_add(out, " \\\\\n\\hline\n");
    for (size_t v = 0; v < t->sweep->n_variant; v++)
        latex_row(t, v, out);
    lm_str_add(out, "\\hline\n\\end{tabular}\n");
}
