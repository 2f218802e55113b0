/* SPDX-License-Identifier: Apache-2.0 */
/* json -- report.json: everything a study knows, for other programs.
 *
 * { "model", "model_hash", "version", "plugins", "seed", "started", "pipeline",
 *   "prompt", "sample_dense", "sample_best": texts or null,
 *   "arch": { "layers", "hidden", "head_dim", "vocab", "shape": [[heads,
 *             kv_groups, ffn], ...] },
 *   "metrics": [{ "name", "unit", "objective", "protocol" }],
 *   "best": id or null, "front": [ids],
 *   "trials": [{ "id", "status": "ok" | "infeasible", "feasible", "front",
 *                "fidelity", "seconds", "reason", "plan", "shape",
 *                "metrics": { NAME: { "value", "error" } } }] }
 *
 * A number that is not finite is null; bytes that are no UTF-8 become U+FFFD. */
#include "plugin.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct text {
    const struct lm_host *host;
    char  *s;
    size_t n, cap;
    bool   failed;
};

static void put(struct text *t, const char *s, size_t n)
{
    if (t->failed)
        return;
    if (t->cap - t->n < n + 1) {
        size_t cap = (t->cap + n + 1) * 2;
        char *p = t->host->resize(t->s, cap);

        if (!p) {
            t->failed = true;
            return;
        }
        t->s = p;
        t->cap = cap;
    }
    memcpy(t->s + t->n, s, n);
    t->n += n;
    t->s[t->n] = 0;
}

LM_PRINTF(2, 3)
static void add(struct text *t, const char *fmt, ...)
{
    char line[256];
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (n > 0)
        put(t, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
}

/* Bytes of the UTF-8 character at s (NUL-terminated), 0 if there is none. */
static size_t utf8(const char *s)
{
    const unsigned char *p = (const unsigned char *)s;
    size_t n = p[0] < 0x80 ? 1 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
             : p[0] >= 0xe0 && p[0] < 0xf0 ? 3 : p[0] >= 0xf0 && p[0] < 0xf5 ? 4 : 0;

    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f)
        || (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;                       /* overlong, surrogate, beyond 10ffff */
    return n;
}

static void string(struct text *t, const char *s)
{
    put(t, "\"", 1);
    while (s && *s) {
        size_t n = utf8(s);

        if (n == 0)
            put(t, "\\ufffd", 6);
        else if (*s == '"' || *s == '\\')
            add(t, "\\%c", *s);
        else if ((unsigned char)*s < 0x20)
            add(t, "\\u%04x", (unsigned)*s);
        else
            put(t, s, n);
        s += n ? n : 1;
    }
    put(t, "\"", 1);
}

/* The shortest form that reads back the same. */
static void real(struct text *t, double v)
{
    char out[40];

    if (!isfinite(v)) {
        put(t, "null", 4);
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(out, sizeof out, "%.*g", digits, v);
        if (strtod(out, NULL) == v)
            break;
    }
    put(t, out, strlen(out));
}

static void boolean(struct text *t, bool v)
{
    add(t, "%s", v ? "true" : "false");
}

static void shape(struct text *t, const struct lm_layer_shape *layer, int32_t n)
{
    add(t, "[");
    for (int32_t i = 0; i < n; i++)
        add(t, "%s[%d,%d,%d]", i ? "," : "", (int)layer[i].n_head, (int)layer[i].n_kv,
            (int)layer[i].n_ff);
    add(t, "]");
}

static void write_facts(struct text *t, const struct lm_study *s)
{
    static const char *const key[] = {
        "model", "model_hash", "version", "plugins", "seed", "started", "pipeline",
        "prompt", "sample_dense", "sample_best"
    };

    for (size_t i = 0; i < sizeof key / sizeof *key; i++) {
        const char *value = t->host->study_text(s, key[i]);

        add(t, "\"%s\": ", key[i]);
        if (value && *value)
            string(t, value);
        else
            add(t, "null");
        add(t, ",\n");
    }
    const struct lm_arch *a = t->host->study_arch(s);
    if (!a)
        return;
    add(t, "\"arch\": {\"layers\": %d, \"hidden\": %d, \"head_dim\": %d, \"vocab\": %d, "
        "\"shape\": ", (int)a->n_layer, (int)a->hidden, (int)a->head_dim, (int)a->vocab);
    shape(t, a->layer, a->n_layer);
    add(t, "},\n");
}

static void write_metrics(struct text *t, const struct lm_study *s)
{
    int64_t n = t->host->study_n_metrics(s);

    add(t, "\"metrics\": [");
    for (int64_t i = 0; i < n; i++) {
        const char *unit = NULL, *name;
        bool objective = false;
        char key[160];

        name = t->host->study_metric(s, i, &unit, &objective);
        snprintf(key, sizeof key, "protocol:%s", name);
        add(t, "%s\n {\"name\": ", i ? "," : "");
        string(t, name);
        add(t, ", \"unit\": ");
        string(t, unit);
        add(t, ", \"objective\": ");
        boolean(t, objective);
        add(t, ", \"protocol\": ");
        string(t, t->host->study_text(s, key));
        add(t, "}");
    }
    add(t, "],\n");
}

static void write_trial(struct text *t, const struct lm_study *s,
                        const struct lm_trial *r)
{
    const struct lm_arch *a = t->host->study_arch(s);
    int64_t n = t->host->study_n_metrics(s);

    add(t, " {\"id\": %lld, \"status\": \"%s\", \"feasible\": ", (long long)r->id,
        r->status == LM_OK ? "ok" : "infeasible");
    boolean(t, r->feasible);
    add(t, ", \"front\": ");
    boolean(t, r->front);
    add(t, ", \"fidelity\": ");
    real(t, r->fidelity);
    add(t, ", \"seconds\": ");
    real(t, r->seconds);
    add(t, ", \"reason\": ");
    string(t, r->reason);
    add(t, ", \"plan\": ");
    string(t, r->plan);
    add(t, ", \"shape\": ");
    shape(t, r->layer, a && r->layer ? a->n_layer : 0);
    add(t, ", \"metrics\": {");
    for (int64_t m = 0, k = 0; m < n && r->status == LM_OK; m++) {
        if (isnan(r->value[m]))
            continue;
        add(t, "%s", k++ ? ", " : "");
        string(t, t->host->study_metric(s, m, NULL, NULL));
        add(t, ": {\"value\": ");
        real(t, r->value[m]);
        add(t, ", \"error\": ");
        real(t, r->error[m]);
        add(t, "}");
    }
    add(t, "}}");
}

static enum lm_status write_trials(struct text *t, const struct lm_study *s,
                                   struct lm_err *e)
{
    int64_t n = t->host->study_n_trials(s), best = t->host->study_best(s), k = 0;
    struct lm_trial trial = { .struct_size = sizeof trial };
    enum lm_status st;

    if (best >= 0)
        add(t, "\"best\": %lld,\n\"front\": [", (long long)best);
    else
        add(t, "\"best\": null,\n\"front\": [");
    for (int64_t i = 0; i < n; i++) {
        st = t->host->study_trial(s, i, &trial, e);
        if (st != LM_OK)
            return st;
        if (trial.front)
            add(t, "%s%lld", k++ ? ", " : "", (long long)trial.id);
    }
    add(t, "],\n\"trials\": [\n");
    for (int64_t i = 0; i < n; i++) {
        st = t->host->study_trial(s, i, &trial, e);
        if (st != LM_OK)
            return st;
        write_trial(t, s, &trial);
        add(t, "%s\n", i + 1 < n ? "," : "");
    }
    add(t, "]\n");
    return LM_OK;
}

static enum lm_status report(void *self, const struct lm_study *s, char **text, size_t *n,
                             struct lm_err *e)
{
    struct text t = { .host = self };

    add(&t, "{\n");
    write_facts(&t, s);
    write_metrics(&t, s);
    enum lm_status st = write_trials(&t, s, e);
    add(&t, "}\n");
    if (st == LM_OK && t.failed)
        st = t.host->fail(e, LM_ENOMEM, "out of memory for report.json");
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
    .struct_size = sizeof reporter, .file = "report.json", .report = report
};

static const struct lm_module module = {
    LM_MODULE_HEAD(REPORTER), .name = "json", .version = "1.0",
    .license = "Apache-2.0", .author = "Lamina",
    .summary = "the whole study as report.json",
    .create = create, .destroy = destroy, .ops = &reporter
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
