/* SPDX-License-Identifier: Apache-2.0 */
/* json -- report.json: everything a study knows, for other programs.
 *
 * { "model", "model_hash", "version", "plugins", "seed", "started", "pipeline",
 *   "prompt", "sample_dense", "sample_best", "notes", "backend", "device", "timing",
 *   "clocks": texts or null,
 *   "exports": [{ "file", "trial", "format", "plan": { "bytes", "parameters",
 *                 METRIC: of time }, "written": the same of the file }] or null,
 *   "arch": { "layers", "hidden", "head_dim", "vocab", "shape": [[heads,
 *             kv_groups, ffn], ...] },
 *   "metrics": [{ "name", "unit", "objective", "protocol" }],
 *   "best": id or null, "front": [ids],
 *   "proposals": { "not_built", "break_constraint" }: how many of them,
 *   "trials": [{ "id", "status": "ok" | "infeasible", "feasible", "front",
 *                "violation", "fidelity", "seconds", "reason", "plan", "shape",
 *                "metrics": { NAME: { "value", "error", "estimate" } } }] }
 *
 * "estimate" is there for the objectives of trials that lost a race: what they
 * would be over all items; "value" is of the share "fidelity" of them.
 *
 * A number that is not finite is null; bytes that are no UTF-8 become U+FFFD. */
#include "exports.h"

static void string(struct text *t, const char *s)
{
    text_put(t, "\"", 1);
    while (s && *s) {
        size_t n = text_utf8(s);

        if (n == 0)
            text_put(t, "\\ufffd", 6);
        else if (*s == '"' || *s == '\\')
            text_add(t, "\\%c", *s);
        else if ((unsigned char)*s < 0x20)
            text_add(t, "\\u%04x", (unsigned)*s);
        else
            text_put(t, s, n);
        s += n ? n : 1;
    }
    text_put(t, "\"", 1);
}

static void boolean(struct text *t, bool v)
{
    text_add(t, "%s", v ? "true" : "false");
}

static void shape(struct text *t, const struct lm_layer_shape *layer, int32_t n)
{
    text_add(t, "[");
    for (int32_t i = 0; i < n; i++)
        text_add(t, "%s[%d,%d,%d]", i ? "," : "", (int)layer[i].n_head,
                 (int)layer[i].n_kv, (int)layer[i].n_ff);
    text_add(t, "]");
}

static void write_facts(struct text *t, const struct lm_study *s)
{
    static const char *const key[] = {
        "model", "model_hash", "version", "plugins", "seed", "started", "pipeline",
        "prompt", "sample_dense", "sample_best", "notes", "backend", "device",
        "timing", "clocks"
    };

    for (size_t i = 0; i < sizeof key / sizeof *key; i++) {
        const char *value = t->host->study_text(s, key[i]);

        text_add(t, "\"%s\": ", key[i]);
        if (value && *value)
            string(t, value);
        else
            text_add(t, "null");
        text_add(t, ",\n");
    }
    struct exports x;
    exports_open(&x, t, s);
    text_raw(t, "\"exports\": ");
    text_raw(t, x.root ? t->host->study_text(s, "exports") : "null");
    text_raw(t, ",\n");
    exports_close(&x);
    const struct lm_arch *a = t->host->study_arch(s);
    if (!a)
        return;
    text_add(t, "\"arch\": {\"layers\": %d, \"hidden\": %d, \"head_dim\": %d, "
             "\"vocab\": %d, \"shape\": ", (int)a->n_layer, (int)a->hidden,
             (int)a->head_dim, (int)a->vocab);
    shape(t, a->layer, a->n_layer);
    text_add(t, "},\n");
}

static void write_metrics(struct text *t, const struct lm_study *s)
{
    int64_t n = t->host->study_n_metrics(s);

    text_add(t, "\"metrics\": [");
    for (int64_t i = 0; i < n; i++) {
        const char *unit = NULL, *name;
        bool objective = false;
        char key[160];

        name = t->host->study_metric(s, i, &unit, &objective);
        snprintf(key, sizeof key, "protocol:%s", name);
        text_add(t, "%s\n {\"name\": ", i ? "," : "");
        string(t, name);
        text_add(t, ", \"unit\": ");
        string(t, unit);
        text_add(t, ", \"objective\": ");
        boolean(t, objective);
        text_add(t, ", \"protocol\": ");
        string(t, t->host->study_text(s, key));
        text_add(t, "}");
    }
    text_add(t, "],\n");
}

static void write_trial(struct text *t, const struct lm_study *s,
                        const struct lm_trial *r)
{
    const struct lm_arch *a = t->host->study_arch(s);
    int64_t n = t->host->study_n_metrics(s);

    text_add(t, " {\"id\": %lld, \"status\": \"%s\", \"feasible\": ", (long long)r->id,
             r->status == LM_OK ? "ok" : "infeasible");
    boolean(t, r->feasible);
    text_add(t, ", \"front\": ");
    boolean(t, r->front);
    text_add(t, ", \"violation\": ");
    text_json_real(t, r->violation);
    text_add(t, ", \"fidelity\": ");
    text_json_real(t, r->fidelity);
    text_add(t, ", \"seconds\": ");
    text_json_real(t, r->seconds);
    text_add(t, ", \"reason\": ");
    string(t, r->reason);
    text_add(t, ", \"plan\": ");
    string(t, r->plan);
    text_add(t, ", \"shape\": ");
    shape(t, r->layer, a && r->layer ? a->n_layer : 0);
    text_add(t, ", \"metrics\": {");
    for (int64_t m = 0, k = 0; m < n && r->status == LM_OK; m++) {
        if (isnan(r->value[m]))
            continue;
        text_add(t, "%s", k++ ? ", " : "");
        string(t, t->host->study_metric(s, m, NULL, NULL));
        text_add(t, ": {\"value\": ");
        text_json_real(t, r->value[m]);
        text_add(t, ", \"error\": ");
        text_json_real(t, r->error[m]);
        if (r->estimate && !isnan(r->estimate[m])) {
            text_add(t, ", \"estimate\": ");
            text_json_real(t, r->estimate[m]);
        }
        text_add(t, "}");
    }
    text_add(t, "}}");
}

static enum lm_status write_trials(struct text *t, const struct lm_study *s,
                                   struct lm_err *e)
{
    int64_t n = t->host->study_n_trials(s), best = t->host->study_best(s), k = 0;
    int64_t unbuilt = 0, broken = 0;
    struct lm_trial trial = { .struct_size = sizeof trial };
    enum lm_status st;

    if (best >= 0)
        text_add(t, "\"best\": %lld,\n\"front\": [", (long long)best);
    else
        text_add(t, "\"best\": null,\n\"front\": [");
    for (int64_t i = 0; i < n; i++) {
        st = t->host->study_trial(s, i, &trial, e);
        if (st != LM_OK)
            return st;
        if (trial.front)
            text_add(t, "%s%lld", k++ ? ", " : "", (long long)trial.id);
        unbuilt += trial.status != LM_OK;
        broken += is_broken(&trial);
    }
    text_add(t, "],\n\"proposals\": {\"not_built\": %lld, \"break_constraint\": %lld},"
             "\n\"trials\": [\n", (long long)unbuilt, (long long)broken);
    for (int64_t i = 0; i < n; i++) {
        st = t->host->study_trial(s, i, &trial, e);
        if (st != LM_OK)
            return st;
        write_trial(t, s, &trial);
        text_add(t, "%s\n", i + 1 < n ? "," : "");
    }
    text_add(t, "]\n");
    return LM_OK;
}

static enum lm_status report(void *self, const struct lm_study *s, char **text, size_t *n,
                             struct lm_err *e)
{
    struct text t = { .host = self };

    text_add(&t, "{\n");
    write_facts(&t, s);
    write_metrics(&t, s);
    enum lm_status st = write_trials(&t, s, e);
    text_add(&t, "}\n");
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
