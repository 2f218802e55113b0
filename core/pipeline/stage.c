/* SPDX-License-Identifier: Apache-2.0 */
/* stage.c -- see stage.h. */
#include "pipeline/stage.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "pipeline/host.h"

enum { MAX_CHILDREN = 32, MAX_ID = 31 };

static bool listed(const char *key, const char *const *list)
{
    for (; list && *list; list++)
        if (!strcmp(key, *list))
            return true;
    return false;
}

/* A shallow copy of group without the keys in skip; its child array is the
 * caller's to release.                                                      */
static enum lm_status without(const struct lm_conf *group, const char *const *skip,
                              struct lm_conf *out, struct lm_err *e)
{
    *out = *group;
    out->n = 0;
    out->child = lm_alloc_array(group->n + 1, sizeof *out->child, "stage");
    if (!out->child)
        return lm_fail_memory(e, group->n, "options");
    for (size_t i = 0; i < group->n; i++)
        if (!listed(group->child[i]->key, skip))
            out->child[out->n++] = group->child[i];
    return LM_OK;
}

/* lm_resolve: LM_OPT_PLUGINS options are instances of the stage's own kind,
 * created at once (searches need no model).                                 */
static enum lm_status resolve(void *ctx, const struct lm_conf *node,
                              struct lm_instances *out, uint64_t *hash, struct lm_err *e)
{
    struct lm_stage *s = ctx;
    size_t n = lm_conf_items(node);
    if (n > MAX_CHILDREN)
        return lm_conf_fail(e, node, "more than %d stages", MAX_CHILDREN);
    if (s->child)
        return lm_fail(e, LM_EBUG, "%s: more than one option that holds plugins",
                       s->plugin->module.name);
    struct lm_instance *v = lm_alloc_array(n + 1, sizeof *v, "stage");
    struct lm_stage *child = lm_alloc_array(n + 1, sizeof *child, "stage");
    if (!v || !child) {
        lm_release(v);
        lm_release(child);
        return lm_fail_memory(e, n, "stages");
    }
    s->child = child;
    s->instance = v;
    for (size_t i = 0; i < n; i++) {
        char where[96];
        snprintf(where, sizeof where, "%s.%s[%zu]", lm_kind_name(s->kind),
                 node->key ? node->key : "", i);
        s->n_child = i + 1;
        enum lm_status st = lm_stage_open(&child[i], s->kind, lm_conf_item(node, i), NULL,
                                          NULL, where, s->run, e);
        if (!st && child[i].opt.n_tuned)
            st = lm_conf_fail(e, child[i].opt.tuned[0].at, "%s: a range is not searched "
                              "here; write one value", where);
        if (!st)
            st = lm_stage_create(&child[i], NULL, NULL, e);
        if (st)
            return st;
        v[i] = (struct lm_instance){ child[i].plugin->ops, child[i].self, child[i].id };
        *hash = *hash * 31 + child[i].opt.hash;
    }
    *out = (struct lm_instances){ v, n };
    return LM_OK;
}

static enum lm_status fill(struct lm_stage *s, const struct lm_conf *group,
                           const char *const *skip, const char *where, struct lm_err *e)
{
    struct lm_conf part = { 0 };
    struct lm_conf empty = { .type = LM_CONF_GROUP, .origin = (char *)"default" };
    enum lm_status st = without(group ? group : &empty, skip, &part, e);
    if (st)
        return st;
    char full[160];
    snprintf(full, sizeof full, "%s (%s)", where, s->plugin->module.name);
    st = lm_options_fill(&s->plugin->module, &part, full, resolve, s, &s->opt, e);
    if (!st && s->plugin->module.check)
        if ((st = s->plugin->module.check(lm_host(), s->opt.config, e)))
            lm_err_prefix(e, "%s: error: %s: ", group ? group->origin : "default", full);
    lm_release(part.child);
    return st;
}

/* Texts that options name must be there: entries of `data` or files. */
static enum lm_status check_texts(const struct lm_stage *s, const char *where,
                                  struct lm_err *e)
{
    const struct lm_module *m = &s->plugin->module;
    const struct lm_opt *o;
    for (size_t i = 0; (o = lm_opt_at(m, i)); i++) {
        const char *name = o->type != LM_OPT_TEXT ? NULL
            : *(const char *const *)((const char *)s->opt.config + o->offset);
        if (!name || !*name || lm_run_has_text(s->run, name))
            continue;
        const struct lm_conf *at = s->at ? lm_conf_get(s->at, o->name) : NULL;
        const char *near = lm_run_near_text(s->run, name);
        return lm_conf_fail(e, at ? at : s->at,
                            "%s (%s): %s: no entry of `data` and no file "
                            "is called '%s'%s%s%s", where, m->name, o->name, name,
                            near ? "; did you mean '" : "", near ? near : "",
                            near ? "'?" : "");
    }
    return LM_OK;
}

/* ---- metrics that options define ---------------------------------------------------- */

static bool sound(const struct lm_own_metric *m)
{
    return memchr(m->name, 0, sizeof m->name) && lm_word(m->name, sizeof m->name - 1) &&
           memchr(m->unit, 0, sizeof m->unit) && lm_unit_sound(m->unit) &&
           memchr(m->help, 0, sizeof m->help) && m->reduce >= LM_REDUCE_MEAN &&
           m->reduce <= LM_REDUCE_MEDIAN;
}

/* The table and the texts that it points to are one block. */
static enum lm_status own_metrics(struct lm_stage *s, struct lm_err *e)
{
    const struct lm_evaluator *ops = s->kind == LM_EVALUATOR ? s->plugin->ops : NULL;
    struct {
        struct lm_metric metric[LM_MAX_METRICS + 1];
        struct lm_own_metric text[LM_MAX_METRICS];
    } *t;
    if (!ops || !ops->metric_of)
        return LM_OK;
    if (!(t = lm_alloc(sizeof *t, "stage")))
        return lm_fail_memory(e, sizeof *t, "metrics");
    s->metric = t->metric;
    for (size_t i = 0;; i++) {
        struct lm_own_metric m = { .struct_size = sizeof m };
        if (!ops->metric_of(s->opt.config, i, &m))
            return i ? LM_OK : lm_fail(e, LM_EBUG, "evaluator '%s' declares no metrics",
                                       s->id);
        if (i == LM_MAX_METRICS || !sound(&m))
            return lm_fail(e, LM_EBUG,
                           "evaluator '%s': its metric %zu is incomplete or one "
                           "too many", s->id, i);
        for (size_t j = 0; j < i; j++)
            if (!strcmp(t->text[j].name, m.name))
                return lm_fail(e, LM_EBUG, "evaluator '%s': two metrics are called '%s'",
                               s->id, m.name);
        t->text[i] = m;
        t->metric[i] = (struct lm_metric){ t->text[i].name, t->text[i].unit,
                                           t->text[i].help, m.reduce, m.noisy,
                                           m.maximise };
    }
}

const struct lm_metric *lm_stage_metric(const struct lm_stage *s, size_t i)
{
    const struct lm_evaluator *ops = s->plugin->ops;
    size_t size = s->metric ? sizeof *s->metric : ops->metric_size;
    const struct lm_metric *m = s->metric ? s->metric : ops->metric;
    for (; m->name && i; i--)
        m = (const void *)((const char *)m + size);
    return m->name ? m : NULL;
}

enum lm_status lm_stage_open(struct lm_stage *s, enum lm_kind kind,
                             const struct lm_conf *group, const char *fallback,
                             const char *const *skip, const char *where,
                             struct lm_run *run, struct lm_err *e)
{
    *s = (struct lm_stage){ .kind = kind, .at = group, .run = run };
    if (group && group->type != LM_CONF_GROUP)
        return lm_conf_fail(e, group, "%s: expected a group { use = \"NAME\"; ... }",
                            where);
    const struct lm_conf *use = group ? lm_conf_get(group, "use") : NULL;
    if (use && use->type != LM_CONF_STRING)
        return lm_conf_fail(e, use, "%s: use: expected the name of a plugin, a string",
                            where);
    const char *name = use ? use->v.s : fallback;
    if (!name)
        return lm_conf_fail(e, group, "%s: `use` is missing; name a %s", where,
                            lm_kind_name(kind));
    enum lm_status st = lm_loader_find(kind, name, use ? use : group, &s->plugin, e);
    if (st)
        return st;
    const struct lm_conf *id = group ? lm_conf_get(group, "id") : NULL;
    if (id && (id->type != LM_CONF_STRING || !lm_word(id->v.s, MAX_ID)))
        return lm_conf_fail(e, id,
                            "%s: id: expected a string of at most %d letters, digits "
                            "and _", where, MAX_ID);
    s->id = lm_strdup(id ? id->v.s : name, "stage");
    if (!s->id)
        return lm_fail_memory(e, 64, "a name");
    if ((st = fill(s, group, skip, where, e)) || (st = own_metrics(s, e)))
        return st;
    return check_texts(s, where, e);
}

enum lm_status lm_stage_plugin(struct lm_stage *s, const struct lm_loaded *plugin,
                               const struct lm_conf *group, const char *where,
                               struct lm_run *run, struct lm_err *e)
{
    *s = (struct lm_stage){ .kind = (enum lm_kind)plugin->module.kind, .plugin = plugin,
                            .at = group, .run = run };
    s->id = lm_strdup(plugin->module.name, "stage");
    if (!s->id)
        return lm_fail_memory(e, 64, "a name");
    enum lm_status st = fill(s, group, NULL, where, e);
    return st ? st : own_metrics(s, e);
}

enum lm_status lm_stage_text(struct lm_stage *s, enum lm_kind kind, const char *text,
                             struct lm_conf **group, struct lm_run *run, struct lm_err *e)
{
    char name[64];
    size_t n = strcspn(text, ":");
    *s = (struct lm_stage){ .kind = kind, .run = run };
    *group = NULL;
    if (n >= sizeof name)
        return lm_fail(e, LM_ECONFIG, "'%s': the name of the %s is too long", text,
                       lm_kind_name(kind));
    memcpy(name, text, n);
    name[n] = 0;
    enum lm_status st = lm_loader_find(kind, name, NULL, &s->plugin, e);
    if (st)
        return st;
    s->id = lm_strdup(name, "stage");
    if (!s->id)
        return lm_fail_memory(e, n, "a name");
    st = lm_options_group(&s->plugin->module, text[n] ? text + n + 1 : "", "command line",
                          group, e);
    s->at = *group;
    if (st || (st = fill(s, *group, NULL, "command line", e)))
        return st;
    return own_metrics(s, e);
}

enum lm_status lm_stage_create(struct lm_stage *s, const struct lm_model *m,
                               const struct lm_stats *stats, struct lm_err *e)
{
    const struct lm_module *d = &s->plugin->module;
    if (d->probe) {
        enum lm_status st = d->probe(lm_host(), e);
        if (st)
            return lm_stage_fail(s, e);
    }
    struct lm_args a = { .struct_size = sizeof a, .host = lm_host(), .run = s->run,
        .config = s->opt.config, .instance = s->id, .model = m, .stats = stats };
    enum lm_status st = d->create(&a, &s->self, e);
    return st ? lm_stage_fail(s, e) : LM_OK;
}

void lm_stage_destroy(struct lm_stage *s)
{
    if (s->self)
        s->plugin->module.destroy(s->self);
    s->self = NULL;
}

void lm_stage_close(struct lm_stage *s)
{
    lm_stage_destroy(s);
    for (size_t i = 0; i < s->n_child; i++)
        lm_stage_close(&s->child[i]);
    lm_release(s->child);
    lm_release(s->instance);
    lm_release(s->metric);
    lm_options_free(&s->opt);
    lm_release(s->id);
    *s = (struct lm_stage){ 0 };
}

enum lm_status lm_stage_fail(const struct lm_stage *s, struct lm_err *e)
{
    const char *kind = lm_kind_name(s->kind);
    const char *id = s->id ? s->id : s->plugin->module.name;
    if (!e->text[0])
        lm_fail(e, e->code ? e->code : LM_EBUG, "the plugin failed without a message");
    if (s->at && s->at->origin)
        return lm_err_prefix(e, "%s: %s '%s': ", s->at->origin, kind, id);
    return lm_err_prefix(e, "%s '%s': ", kind, id);
}
