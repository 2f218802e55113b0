/* SPDX-License-Identifier: Apache-2.0 */
/* table -- the front as aligned text: the dense model first, then the front's
 * trials by their first objective, the best one marked with a star.  Then the
 * exported files: what was planned and what was found in them.              */
#include "exports.h"
#include "predicted.h"

enum { CELL = 48 };

/* 215300000 "bytes" is "215.3 MB"; powers of 1000, four digits */
static void format(char out[CELL], double v, const char *unit)
{
    static const char prefix[] = " kMGT";
    bool bytes = !strcmp(unit, "bytes");
    int p = 0;

    if (isnan(v)) {
        snprintf(out, CELL, "-");
    } else if (bytes || !strcmp(unit, "parameters") || !strcmp(unit, "MACs")) {
        for (; fabs(v) >= 999.5 && p < 4; p++)
            v /= 1000;
        if (p)
            snprintf(out, CELL, "%.*f %c%s", fabs(v) < 10 ? 3 : fabs(v) < 100 ? 2 : 1, v,
                     prefix[p], bytes ? "B" : "");
        else
            snprintf(out, CELL, "%.0f%s", v, bytes ? " B" : "");
    } else {
        snprintf(out, CELL, fabs(v) >= 1000 && fabs(v) < 1e7 ? "%.1f" : "%.4g", v);
    }
}

/* "24.02 +-0.31" */
static void format_measured(char out[CELL], double v, double error, const char *unit)
{
    format(out, v, unit);
    size_t n = strlen(out);
    if (isfinite(v) && isfinite(error) && error > 0)
        snprintf(out + n, CELL - n, " +-%.2g", error);
}

struct table {
    const struct lm_host *host;
    const struct lm_study *study;
    int64_t n_metric, best, first;      /* first: the first objective */
    const char *name[LM_MAX_METRICS], *unit[LM_MAX_METRICS];
    size_t  width[LM_MAX_METRICS];      /* 0: no row has it, it is left out */
    struct lm_trial *row;               /* [n_row]: dense (if known), then front
                                           and best */
    size_t  n_row;
    bool    has_dense;
    int64_t n_front, n_failed, n_broken, n_stopped;
    double  seen;                       /* shares of items of the stopped, added up */
};

static bool is_dense(const struct lm_trial *t, const struct lm_arch *arch)
{
    return t->status == LM_OK && t->fidelity >= 1 && t->layer
        && !memcmp(t->layer, arch->layer, (size_t)arch->n_layer * sizeof *t->layer);
}

static bool is_before(const struct table *t, const struct lm_trial *a,
                      const struct lm_trial *b)
{
    double x = t->n_metric ? a->value[t->first] : 0;
    double y = t->n_metric ? b->value[t->first] : 0;

    return x != y ? x < y : a->id < b->id;
}

/* The dense model leads the table and isn't repeated among the front. */
static void put_first(struct table *t, const struct lm_trial *dense)
{
    size_t k = 0;

    while (k < t->n_row && t->row[k].id != dense->id)
        k++;
    if (k == t->n_row)
        t->n_row++;
    memmove(t->row + 1, t->row, k * sizeof *t->row);
    t->row[0] = *dense;
}

/* Collects the rows, the front's by insertion into its order. */
static enum lm_status collect(struct table *t, struct lm_err *e)
{
    const struct lm_host *h = t->host;
    const struct lm_arch *arch = h->study_arch(t->study);
    int64_t n = h->study_n_trials(t->study);
    struct lm_trial dense = { .struct_size = 0 };

    t->row = h->alloc(((size_t)n + 1) * sizeof *t->row, "table");
    if (!t->row)
        return h->fail(e, LM_ENOMEM, "out of memory for a table of %lld trials",
                       (long long)n);
    for (int64_t i = 0; i < n; i++) {
        struct lm_trial trial = { .struct_size = sizeof trial };

        enum lm_status st = h->study_trial(t->study, i, &trial, e);
        if (st != LM_OK)
            return st;
        t->n_failed += trial.status != LM_OK;
        t->n_broken += is_broken(&trial);
        if (trial.estimate) {
            t->n_stopped++;
            t->seen += trial.fidelity;
        }
        if (arch && !t->has_dense && is_dense(&trial, arch)) {
            dense = trial;
            t->has_dense = true;
        }
        t->n_front += trial.front;
        if (!trial.front && i != t->best)   /* what keeps a constraint may not be on it */
            continue;
        size_t k = t->n_row++;
        for (; k > 0 && is_before(t, &trial, &t->row[k - 1]); k--)
            t->row[k] = t->row[k - 1];
        t->row[k] = trial;
    }
    if (t->has_dense)
        put_first(t, &dense);
    return LM_OK;
}

static void read_metrics(struct table *t)
{
    bool found = false;

    t->n_metric = t->host->study_n_metrics(t->study);
    if (t->n_metric > LM_MAX_METRICS)
        t->n_metric = LM_MAX_METRICS;
    for (int64_t m = 0; m < t->n_metric; m++) {
        bool objective = false;
        const char *unit = NULL;

        t->name[m] = t->host->study_metric(t->study, m, &unit, &objective);
        t->unit[m] = unit ? unit : "";
        t->width[m] = 0;
        if (objective && !found) {
            t->first = m;
            found = true;
        }
    }
}

static void write_rows(struct table *t, struct text *out)
{
    char cell[CELL];

    for (size_t r = 0; r < t->n_row; r++)
        for (int64_t m = 0; m < t->n_metric; m++) {
            if (isnan(t->row[r].value[m]))
                continue;
            format_measured(cell, t->row[r].value[m], t->row[r].error[m], t->unit[m]);
            if (strlen(t->name[m]) > t->width[m])
                t->width[m] = strlen(t->name[m]);
            if (strlen(cell) > t->width[m])
                t->width[m] = strlen(cell);
        }
    text_add(out, "   trial");
    for (int64_t m = 0; m < t->n_metric; m++)
        if (t->width[m])
            text_add(out, "  %*s", (int)t->width[m], t->name[m]);
    text_add(out, "\n");
    for (size_t r = 0; r < t->n_row; r++) {
        const struct lm_trial *trial = &t->row[r];

        if (t->has_dense && r == 0)
            text_add(out, "%c  dense", trial->id == t->best ? '*' : ' ');
        else
            text_add(out, "%c %6lld", trial->id == t->best ? '*' : ' ',
                     (long long)trial->id);
        for (int64_t m = 0; m < t->n_metric; m++) {
            format_measured(cell, trial->value[m], trial->error[m], t->unit[m]);
            if (t->width[m])
                text_add(out, "  %*s", (int)t->width[m], cell);
        }
        text_add(out, "\n");
    }
}

static const char *unit_of(const char *name)
{
    return !strcmp(name, "bytes") || !strcmp(name, "parameters") ? name : "";
}

static void write_exports(struct table *t, struct text *out)
{
    struct exports x;
    const char *file, *name;
    int64_t trial;
    char was[CELL], is[CELL];

    exports_open(&x, out, t->study);
    for (size_t i = 0; (file = exports_file(&x, i, &trial)); i++) {
        double planned, written;

        if (i == 0)
            text_raw(out, "\nExported, as planned -> as found in the file\n\n");
        text_add(out, "  %s (trial %lld):", file, (long long)trial);
        for (size_t k = 0; (name = exports_value(&x, i, k, &planned, &written)); k++) {
            format(was, planned, unit_of(name));
            format(is, written, unit_of(name));
            text_add(out, "%s %s %s -> %s", k ? "," : "", name, was, is);
        }
        text_raw(out, "\n");
    }
    exports_close(&x);
}

/* "Backend cpu, device: cpu, avx2, driver C, 16 GB" */
static void write_device(struct table *t, struct text *out)
{
    const char *backend = t->host->study_text(t->study, "backend");
    const char *device = t->host->study_text(t->study, "device");

    if (device && *device) {
        text_raw(out, "Backend ");
        text_raw(out, backend && *backend ? backend : "unknown");
        text_raw(out, ", device: ");
        text_raw(out, device);
        text_raw(out, "\n");
    }
}

/* What was predicted of finalists, and what was measured. */
static void write_predictions(struct table *t, struct text *out)
{
    struct predicted p;
    const char *at = t->host->study_text(t->study, "predictions");

    while (predicted_next(&at, t->name, t->n_metric, &p)) {
        char was[CELL], is[CELL];
        size_t n = 0;

        for (size_t r = 0; r < t->n_row; r++) {
            double error = predicted_error(&p, &t->row[r]);

            if (isnan(error))
                continue;
            if (n++ == 0)
                text_add(out, "\n%s -> %s\n\n", t->name[p.predicted],
                         t->name[p.measured]);
            format(was, t->row[r].value[p.predicted], t->unit[p.predicted]);
            format(is, t->row[r].value[p.measured], t->unit[p.measured]);
            text_add(out, "%8lld  %s -> %s (%+.1f %%)\n", (long long)t->row[r].id, was, is,
                     100 * error);
        }
        if (n)
            text_add(out, "  median error %.1f %%\n",
                     100 * predicted_median(&p, t->row, t->n_row));
    }
}

/* What makes figures doubtful, a sentence a line. */
static void write_notes(struct table *t, struct text *out)
{
    const char *notes = t->host->study_text(t->study, "notes");

    if (notes && *notes) {
        text_raw(out, "\nNotes\n\n");
        text_raw(out, notes);
    }
}

static enum lm_status report(void *self, const struct lm_study *s, char **text, size_t *n,
                             struct lm_err *e)
{
    struct table t = { .host = self, .study = s };
    struct text out = { .host = self };

    t.best = t.host->study_best(s);
    read_metrics(&t);
    enum lm_status st = collect(&t, e);
    if (st == LM_OK) {
        text_add(&out, "Front: %lld of %lld trials", (long long)t.n_front,
                 (long long)t.host->study_n_trials(s));
        if (t.n_failed || t.n_broken)
            text_add(&out, " (%lld could not be built, %lld break a constraint)",
                     (long long)t.n_failed, (long long)t.n_broken);
        if (t.n_metric)
            text_add(&out, ", by %s", t.name[t.first]);
        text_add(&out, t.best >= 0 ? "; * is the best\n" : "\n");
        if (t.n_stopped)
            text_add(&out,
                     "%lld trial%s lost a race and stopped after %.0f %% of the items "
                     "on average\n", (long long)t.n_stopped, t.n_stopped > 1 ? "s" : "",
                     100 * t.seen / (double)t.n_stopped);
        write_device(&t, &out);
        text_raw(&out, "\n");
        write_rows(&t, &out);
        write_predictions(&t, &out);
        write_exports(&t, &out);
        write_notes(&t, &out);
        if (out.failed)
            st = t.host->fail(e, LM_ENOMEM, "out of memory for the table");
    }
    t.host->release(t.row);
    if (st != LM_OK) {
        t.host->release(out.s);
        return st;
    }
    *text = out.s;
    *n = out.n;
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
    .struct_size = sizeof reporter, .file = NULL, .report = report
};

static const struct lm_module module = {
    LM_MODULE_HEAD(REPORTER), .name = "table", .version = "1.0",
    .license = "Apache-2.0", .author = "Lamina",
    .summary = "the front as text",
    .create = create, .destroy = destroy, .ops = &reporter
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
