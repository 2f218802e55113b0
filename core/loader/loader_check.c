/* SPDX-License-Identifier: Apache-2.0 */
/* loader_check.c -- the kinds of plugins and the check of descriptors.
 *
 * Every sentence here is about a mistake of the plugin's author or packager.  A
 * wrong file is LM_EUNAVAILABLE, a broken contract LM_EBUG.                   */
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "config/opt.h"
#include "loader/loader_check.h"

enum { MAX_POINTERS = 16 };

/* One row per kind.  least: bytes of the table in this revision; pointer: what
 * must not be NULL, ends with 0 (no table begins with a pointer).             */
static const struct row {
    const char *word, *key, *folder;
    uint32_t rev;
    size_t size, least;
    struct { size_t at; const char *name; } pointer[MAX_POINTERS];
} row[LM_N_KINDS] = {
#define P(T, f) { offsetof(struct T, f), #f }
#define SIZE(T, last) sizeof(struct T), \
    offsetof(struct T, last) + sizeof(((struct T *)0)->last)
    [LM_SEARCH] = { "search", "search", "search", LM_SEARCH_REV,
        SIZE(lm_search, budget),
        { P(lm_search, begin), P(lm_search, ask), P(lm_search, tell),
          P(lm_search, budget) } },
    [LM_PRUNER] = { "pruner", "prune", "pruners", LM_PRUNER_REV,
        SIZE(lm_pruner, decode), { P(lm_pruner, genes), P(lm_pruner, decode) } },
    [LM_SCORER] = { "scorer", "score", "scorers", LM_SCORER_REV,
        SIZE(lm_scorer, score), { P(lm_scorer, score) } },
    [LM_REPAIR] = { "repair", "repair", "repair", LM_REPAIR_REV,
        SIZE(lm_repair, release),
        { P(lm_repair, prepare), P(lm_repair, apply), P(lm_repair, release) } },
    [LM_QUANTIZER] = { "quantizer", "quantize", "quant", LM_QUANTIZER_REV,
        SIZE(lm_quantizer, encode),
        { P(lm_quantizer, dtype), P(lm_quantizer, encode) } },
    [LM_TUNER] = { "tuner", "tune", "tuners", LM_TUNER_REV, 0, 0, { { 0, NULL } } },
    [LM_EVALUATOR] = { "evaluator", "evaluate", "evaluators", LM_EVALUATOR_REV,
        SIZE(lm_evaluator, eval),
        { P(lm_evaluator, metric), P(lm_evaluator, items), P(lm_evaluator, protocol),
          P(lm_evaluator, eval) } },
    [LM_BACKEND] = { "backend", "backend", "backends", LM_BACKEND_REV,
        SIZE(lm_backend, run),
        { P(lm_backend, device), P(lm_backend, upload), P(lm_backend, forget),
          P(lm_backend, buffer), P(lm_backend, buffer_free), P(lm_backend, write),
          P(lm_backend, read), P(lm_backend, copy), P(lm_backend, kv_open),
          P(lm_backend, kv_close), P(lm_backend, compile), P(lm_backend, exe_free),
          P(lm_backend, stream_open), P(lm_backend, stream_close),
          P(lm_backend, run) } },
    [LM_FORMAT] = { "format", "export", "formats", LM_FORMAT_REV,
        SIZE(lm_format, write),
        { P(lm_format, suffix), P(lm_format, probe), P(lm_format, read),
          P(lm_format, limits), P(lm_format, write) } },
    [LM_REPORTER] = { "reporter", "report", "reporters", LM_REPORTER_REV,
        SIZE(lm_reporter, report), { P(lm_reporter, report) } },
#undef P
#undef SIZE
};

static const struct row *of(enum lm_kind k)
{
    return k >= LM_SEARCH && k < LM_N_KINDS ? &row[k] : NULL;
}

const char *lm_kind_name(enum lm_kind k) { return of(k) ? of(k)->word : "unknown"; }
const char *lm_kind_word(enum lm_kind k)
{
    return k == LM_SEARCH ? "search strategy" : lm_kind_name(k);
}
const char *lm_kind_key(enum lm_kind k) { return of(k) ? of(k)->key : "unknown"; }
const char *lm_kind_folder(enum lm_kind k) { return of(k) ? of(k)->folder : "unknown"; }

/* ---- the frame -------------------------------------------------------------------- */

static enum lm_status check_frame(const struct lm_module *m, struct lm_err *e)
{
    const size_t least = offsetof(struct lm_module, ops) + sizeof m->ops;
    if (m->magic != LM_MAGIC)
        return lm_fail(e, LM_EUNAVAILABLE, "not a plugin of Lamina: it begins with "
                       "0x%08x, not with 0x%08x", (unsigned)m->magic, LM_MAGIC);
    if (m->abi_major != LM_ABI_MAJOR)
        return lm_fail(e, LM_EUNAVAILABLE, "built for plugin ABI %u, this program has "
                       "ABI %u; rebuild the plugin", (unsigned)m->abi_major,
                       LM_ABI_MAJOR);
    if (m->struct_size < least)
        return lm_fail(e, LM_EBUG, "broken plugin: its descriptor has %u bytes, at "
                       "least %zu are needed", (unsigned)m->struct_size, least);
    return LM_OK;
}

static enum lm_status check_kind(const struct lm_module *m, struct lm_err *e)
{
    const struct row *r = of((enum lm_kind)m->kind);
    if (!r)
        return lm_fail(e, LM_EUNAVAILABLE, "this program has no plugins of kind %u",
                       (unsigned)m->kind);
    if (!r->rev)
        return lm_fail(e, LM_EUNAVAILABLE, "this program cannot use a %s yet", r->word);
    if (m->kind_rev != r->rev)
        return lm_fail(e, LM_EUNAVAILABLE, "built for revision %u of the %s interface, "
                       "this program has revision %u; rebuild the plugin",
                       (unsigned)m->kind_rev, r->word, (unsigned)r->rev);
    return LM_OK;
}

static enum lm_status check_texts(const struct lm_module *m, const char *name,
                                  struct lm_err *e)
{
    if (!lm_plugin_name(m->name))
        return lm_fail(e, LM_EBUG, "broken plugin: a name must be made of a-z, 0-9 "
                       "and _");
    if (strcmp(m->name, name))
        return lm_fail(e, LM_EBUG, "broken plugin: it calls itself '%s', its file is "
                       "called '%s'", m->name, name);
    if (!m->version || !m->license || !m->author || !m->summary)
        return lm_fail(e, LM_EBUG, "broken plugin: version, license, author or summary "
                       "is NULL");
    if (!m->create || !m->destroy)
        return lm_fail(e, LM_EBUG, "broken plugin: %s is NULL",
                       m->create ? "destroy" : "create");
    return LM_OK;
}

/* ---- the table ----------------------------------------------------------------- */

bool lm_word(const char *s, size_t most)
{
    size_t n = strlen(s);
    return n && n <= most &&
           strspn(s,
                  "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == n;
}

bool lm_unit_sound(const char *s)
{
    size_t n = 0;
    while (s[n] > ' ' && s[n] < 127)
        n++;
    return !s[n] && n < 32;
}

static enum lm_status check_metrics(const struct lm_evaluator *v, struct lm_err *e)
{
    const size_t least = offsetof(struct lm_metric, maximise) + sizeof(bool);
    const char *p = (const char *)v->metric;
    if (v->metric_size < least || v->metric_size > 16 * sizeof(struct lm_metric) ||
        v->metric_size % _Alignof(struct lm_metric))
        return lm_fail(e, LM_EBUG, "broken plugin: metric_size is %zu", v->metric_size);
    for (size_t i = 0; ; i++, p += v->metric_size) {
        const struct lm_metric *m = (const void *)p;
        if (!m->name)
            return i || v->metric_of ? LM_OK
                : lm_fail(e, LM_EBUG, "broken plugin: it has no metrics");
        if (i == LM_MAX_METRICS)
            return lm_fail(e, LM_EBUG, "broken plugin: more than %d metrics",
                           LM_MAX_METRICS);
        if (!lm_word(m->name, 63) || m->reduce < LM_REDUCE_MEAN ||
            m->reduce > LM_REDUCE_MEDIAN || !m->unit || !m->help)
            return lm_fail(e, LM_EBUG, "broken plugin: metric %zu (%.40s) is incomplete",
                           i, m->name);
        if (!lm_unit_sound(m->unit))
            return lm_fail(e, LM_EBUG, "broken plugin: the unit of metric '%s' is not at "
                           "most 31 printable characters without a space", m->name);
        for (size_t j = 0; j < i; j++)
            if (!strcmp(((const struct lm_metric *)(const void *)
                         ((const char *)v->metric + j * v->metric_size))->name, m->name))
                return lm_fail(e, LM_EBUG, "broken plugin: two metrics are called '%s'",
                               m->name);
    }
}

/* Reports stay in the run folder. */
static enum lm_status check_file(const struct lm_reporter *r, struct lm_err *e)
{
    const char *f = r->file;
    if (!f || (*f && *f != '.' && !strchr(f, '/') && strlen(f) < 200))
        return LM_OK;
    return lm_fail(e, LM_EBUG, "broken plugin: its report '%.200s' is no plain file name",
                   f);
}

static enum lm_status copy_table(const struct lm_module *m, void **out, struct lm_err *e)
{
    const struct row *r = &row[m->kind];
    uint32_t size;
    if (!m->ops)
        return lm_fail(e, LM_EBUG, "broken plugin: ops is NULL");
    memcpy(&size, m->ops, sizeof size);
    if (size < r->least)
        return lm_fail(e, LM_EBUG, "broken plugin: its %s table has %u bytes, at least "
                       "%zu are needed", r->word, (unsigned)size, r->least);
    char *ops = lm_alloc(r->size, "plugin");
    if (!ops)
        return lm_fail_memory(e, r->size, "a plugin");
    memcpy(ops, m->ops, size < r->size ? size : r->size);
    for (size_t i = 0; i < MAX_POINTERS && r->pointer[i].at; i++) {
        void *p;
        memcpy(&p, ops + r->pointer[i].at, sizeof p);
        if (!p) {
            lm_release(ops);
            return lm_fail(e, LM_EBUG, "broken plugin: %s of its %s table is NULL",
                           r->pointer[i].name, r->word);
        }
    }
    *out = ops;
    return LM_OK;
}

enum lm_status lm_module_check(const struct lm_module *from, const char *name,
                               struct lm_loaded *out, struct lm_err *e)
{
    struct lm_module m = { .magic = 0 };
    enum lm_status s = check_frame(from, e);
    out->ops = NULL;
    if (s)
        return s;
    memcpy(&m, from, from->struct_size < sizeof m ? from->struct_size : sizeof m);
    if ((s = check_kind(&m, e)) || (s = check_texts(&m, name, e)))
        return s;
    if ((s = lm_options_lint(&m, e))) {
        if (s == LM_EBUG)
            lm_err_prefix(e, "broken plugin: ");
        return s;
    }
    if ((s = copy_table(&m, &out->ops, e)))
        return s;
    if (m.kind == LM_EVALUATOR)
        s = check_metrics(out->ops, e);
    if (m.kind == LM_REPORTER)
        s = check_file(out->ops, e);
    if (s) {
        lm_release(out->ops);
        out->ops = NULL;
        return s;
    }
    out->module = m;
    return LM_OK;
}
