/* SPDX-License-Identifier: Apache-2.0 */
/* opt.c -- the option schema engine: filling config structs, tuned options,
 * hashes, command-line groups and the lint of descriptors.                    */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "config/conf_tree.h"
#include "config/opt_value.h"

enum { MAX_OPTIONS = 256, MAX_CONFIG = 1 << 20 };

struct fill {
    const struct lm_module *m;
    const struct lm_conf *group;
    const char *where;
    struct lm_options *out;
    struct lm_opt_set set;
    struct lm_err *e;
};

const struct lm_opt *lm_opt_at(const struct lm_module *m, size_t i)
{
    if (!m->opt)
        return NULL;
    const char *base = (const char *)m->opt;
    for (size_t k = 0; k <= i; k++) {
        const struct lm_opt *o = (const void *)(base + k * m->opt_size);
        if (!o->name || k == i)
            return o->name ? o : NULL;
    }
    return NULL;
}

static size_t count(const struct lm_module *m)
{
    size_t n = 0;
    while (lm_opt_at(m, n))
        n++;
    return n;
}

static void *field(const struct lm_options *o, const struct lm_opt *opt)
{
    return (char *)o->config + opt->offset;
}

/* ---- messages ------------------------------------------------------------------- */

LM_PRINTF(3, 4)
static enum lm_status fail_at(struct fill *f, const struct lm_conf *at,
                              const char *fmt, ...)
{
    char text[sizeof f->e->text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    bool where = f->where && *f->where;
    return lm_conf_fail(f->e, at, "%s%s%s", where ? f->where : "", where ? ": " : "",
                        text);
}

/* Puts the place before a bare reason; other failures, and those that name a
 * place of their own, pass.                                                   */
static enum lm_status explain(struct fill *f, const struct lm_opt *o, enum lm_status s,
                              const struct lm_err *why)
{
    if (s != LM_ECONFIG || strstr(why->text, ": error: "))
        return lm_fail(f->e, s, "%s", why->text);
    return fail_at(f, f->set.at, "%s: %s", o->name, why->text);
}

static enum lm_status unknown(struct fill *f, const struct lm_conf *at)
{
    const char *name[MAX_OPTIONS];
    size_t n = 0;
    for (const struct lm_opt *o; n < MAX_OPTIONS && (o = lm_opt_at(f->m, n)); n++)
        name[n] = o->name;
    const char *near = lm_nearest(at->key, name, n);
    if (near)
        return fail_at(f, at, "unknown option '%s'; did you mean '%s'?", at->key, near);
    struct lm_str list = { 0 };
    for (size_t i = 0; i < n; i++)
        lm_str_add(&list, "%s%s", i ? ", " : "", name[i]);
    enum lm_status s = list.failed ? lm_fail_memory(f->e, list.n, "a message")
        : fail_at(f, at, n ? "unknown option '%s'; there are: %s"
                  : "unknown option '%s'; it has no options%s", at->key, n ? list.s : "");
    lm_str_free(&list);
    return s;
}

/* ---- tuned options --------------------------------------------------------------- */

static enum lm_status tuned_number(struct fill *f, const struct lm_opt *o,
                                   const struct lm_conf *group, const char *key,
                                   double *out)
{
    const struct lm_conf *v = lm_conf_get(group, key);
    if (!v)
        return LM_OK;
    if (v->type != LM_CONF_INT && (v->type != LM_CONF_REAL || o->type == LM_OPT_INT))
        return fail_at(f, v, "%s: %s: expected %s", o->name, key,
                       o->type == LM_OPT_INT ? "an integer" : "a number");
    *out = v->type == LM_CONF_INT ? (double)v->v.i : v->v.r;
    return LM_OK;
}

/* min or max: must be given and be a value of the option. */
static enum lm_status tuned_bound(struct fill *f, const struct lm_opt *o,
                                  const struct lm_conf *group, const char *key,
                                  double *out)
{
    const struct lm_conf *v = lm_conf_get(group, key);
    struct lm_err why = { 0 };
    union { int64_t i; double r; } unused;
    if (!v)
        return fail_at(f, group, "%s: '%s' is missing; write { min; max; step; } or "
                       "{ choice = [...]; }", o->name, key);
    enum lm_status s = lm_opt_store(&f->set, o, v, &unused, &why);
    if (s)
        return fail_at(f, v, "%s: %s: %s", o->name, key, why.text);
    return tuned_number(f, o, group, key, out);
}

static enum lm_status tuned_range(struct fill *f, const struct lm_opt *o,
                                  const struct lm_conf *group, struct lm_tuned *t)
{
    const struct lm_conf *log = lm_conf_get(group, "log");
    enum lm_status s = LM_OK;
    if (o->type != LM_OPT_INT && o->type != LM_OPT_REAL)
        return fail_at(f, group, "%s: only a number has a range; write { choice = "
                       "[...]; }", o->name);
    t->step = o->type == LM_OPT_INT ? 1 : 0;
    if ((s = tuned_bound(f, o, group, "min", &t->min)) ||
        (s = tuned_bound(f, o, group, "max", &t->max)) ||
        (s = tuned_number(f, o, group, "step", &t->step)))
        return s;
    if (t->max < t->min)
        return fail_at(f, group, "%s: max is below min", o->name);
    if (!isfinite(t->step) || t->step < 0 || (o->type == LM_OPT_INT && t->step < 1))
        return fail_at(f, group, "%s: step: expected a positive number", o->name);
    if (log && log->type != LM_CONF_BOOL)
        return fail_at(f, log, "%s: log: expected true or false", o->name);
    t->log_scale = log && log->v.b;
    if (t->log_scale && t->min <= 0)
        return fail_at(f, group, "%s: log needs a min above 0", o->name);
    return LM_OK;
}

static enum lm_status tuned_keys(struct fill *f, const struct lm_opt *o,
                                 const struct lm_conf *group, bool choice)
{
    static const char *const key[] = { "min", "max", "step", "log", "choice" };
    for (size_t i = 0; i < group->n; i++) {
        const char *k = group->child[i]->key, *near;
        size_t j = 0;
        while (j < 5 && strcmp(k, key[j]))
            j++;
        if (j < 5 && (j == 4) == choice)
            continue;
        if (j < 5)
            return fail_at(f, group->child[i], "%s: '%s' does not go with 'choice'",
                           o->name, k);
        near = lm_nearest(k, key, 5);
        return fail_at(f, group->child[i], "%s: unknown key '%s'; %s%s%s", o->name, k,
                       near ? "did you mean '" : "write { min; max; step; log; } or "
                       "{ choice = [...]; }", near ? near : "", near ? "'?" : "");
    }
    return LM_OK;
}

/* Every choice must be a value of the option; the first is stored. */
static enum lm_status tuned_choice(struct fill *f, const struct lm_opt *o,
                                   const struct lm_conf *choice)
{
    struct lm_err why = { 0 };
    enum lm_status s = LM_OK;
    if (choice->type != LM_CONF_LIST || !choice->n)
        return fail_at(f, choice, "%s: choice: expected a list with at least one value",
                       o->name);
    for (size_t i = choice->n; i-- > 0 && !s; )
        s = lm_opt_store(&f->set, o, choice->child[i], field(f->out, o), &why);
    return s ? explain(f, o, s, &why) : LM_OK;
}

static enum lm_status fill_tuned(struct fill *f, const struct lm_opt *o,
                                 const struct lm_conf *group)
{
    struct lm_tuned *t = &f->out->tuned[f->out->n_tuned];
    if (!(o->flags & LM_TUNABLE))
        return fail_at(f, group, "%s: expected a value; this option cannot be searched",
                       o->name);
    *t = (struct lm_tuned){ .opt = o, .at = group };
    t->choice = lm_conf_get(group, "choice");
    enum lm_status s = tuned_keys(f, o, group, t->choice != NULL);
    if (s)
        return s;
    f->out->n_tuned++;
    if (t->choice)
        return tuned_choice(f, o, t->choice);
    if ((s = tuned_range(f, o, group, t)))
        return s;
    double *r = field(f->out, o);       /* holds the default */
    int64_t *i = field(f->out, o);
    if (o->type == LM_OPT_REAL)
        *r = fmin(fmax(*r, t->min), t->max);
    else
        *i = (double)*i < t->min ? (int64_t)t->min
           : (double)*i > t->max ? (int64_t)t->max : *i;
    return LM_OK;
}

/* ---- hash ------------------------------------------------------------------------- */

static uint64_t hash_real(double v, uint64_t h)
{
    uint64_t bits;
    v += 0.0;                           /* -0 and 0 are the same value          */
    memcpy(&bits, &v, sizeof bits);
    return lm_hash_u64(bits, h);
}

static uint64_t hash_value(const struct lm_opt *o, const void *p, uint64_t h)
{
    const struct lm_ints *list = p;
    switch (o->type) {
    case LM_OPT_BOOL: return lm_hash_u64(*(const bool *)p, h);
    case LM_OPT_INT:  return lm_hash_u64((uint64_t)*(const int64_t *)p, h);
    case LM_OPT_REAL: return hash_real(*(const double *)p, h);
    case LM_OPT_CHOICE:                 /* by name: lists of choices may grow   */
        return lm_hash_str(o->choices[*(const int64_t *)p], h);
    case LM_OPT_INTS:
        h = lm_hash_u64(list->n, h);
        return lm_hash(list->v, list->n * sizeof *list->v, h);
    case LM_OPT_REALS:
        h = lm_hash_u64(list->n, h);
        for (size_t i = 0; i < list->n; i++)
            h = hash_real(((const struct lm_reals *)p)->v[i], h);
        return h;
    case LM_OPT_STRINGS:
        h = lm_hash_u64(list->n, h);
        for (size_t i = 0; i < list->n; i++)
            h = lm_hash_str(((const struct lm_strings *)p)->v[i], h);
        return h;
    default: {
        const char *s = *(const char *const *)p;
        return lm_hash_str(s, lm_hash_u64(s != NULL, h));
    }
    }
}

/* Without memory, so that no failure can change a hash. */
static uint64_t hash_conf(const struct lm_conf *c, uint64_t h)
{
    switch (c->type) {
    case LM_CONF_BOOL: case LM_CONF_INT: case LM_CONF_REAL:
        return hash_real(c->type == LM_CONF_REAL ? c->v.r : c->type == LM_CONF_INT
                         ? (double)c->v.i : c->v.b, h);
    case LM_CONF_STRING:
        return lm_hash_str(c->v.s, h);
    default:
        h = lm_hash_u64(c->n, h);
        for (size_t i = 0; i < c->n; i++)
            h = hash_conf(c->child[i], h);
        return h;
    }
}

static uint64_t hash_all(const struct lm_module *m, const struct lm_options *out)
{
    const struct lm_opt_memory *memory = out->memory;
    uint64_t h = lm_hash_str(m->name, m->kind);
    h = lm_hash_str(m->version, h);
    const struct lm_opt *o;
    for (size_t i = 0; (o = lm_opt_at(m, i)); i++) {
        if (o->flags & LM_NO_HASH)
            continue;
        h = lm_hash_str(o->name, h);
        h = o->type == LM_OPT_PLUGINS ? lm_hash_u64(memory->plugin_hash[i], h)
                                      : hash_value(o, field(out, o), h);
    }
    for (size_t i = 0; i < out->n_tuned; i++) {
        const struct lm_tuned *t = &out->tuned[i];
        if (t->opt->flags & LM_NO_HASH)
            continue;
        h = lm_hash_str(t->opt->name, h);
        h = hash_real(t->min, hash_real(t->max, hash_real(t->step, h)));
        h = lm_hash_u64(t->log_scale, h);
        if (t->choice)
            h = hash_conf(t->choice, h);
    }
    return h;
}

/* ---- filling -------------------------------------------------------------------- */

static enum lm_status check_keys(struct fill *f)
{
    for (size_t i = 0; f->group && i < f->group->n; i++) {
        const struct lm_conf *c = f->group->child[i];
        const struct lm_opt *o;
        bool known = !strcmp(c->key, "use") || !strcmp(c->key, "id");
        for (size_t k = 0; !known && (o = lm_opt_at(f->m, k)); k++) {
            bool former = o->alias && !strcmp(c->key, o->alias);
            known = former || !strcmp(c->key, o->name);
            if (former && lm_conf_get(f->group, o->name))
                return fail_at(f, c, "'%s' is the former name of '%s'; give only one",
                               c->key, o->name);
            if (former)
                lm_log(LM_WARN, "%s: %s%soption '%s' is now called '%s'",
                       c->origin, f->where ? f->where : "", f->where ? ": " : "", c->key,
                       o->name);
        }
        if (!known)
            return unknown(f, c);
    }
    return LM_OK;
}

static enum lm_status fill_default(struct fill *f, const struct lm_opt *o)
{
    struct lm_conf *v;
    struct lm_err why = { 0 };
    if (!o->def || !*o->def)
        return LM_OK;
    enum lm_status s = lm_opt_text(o, o->def, strlen(o->def), "default", &v, &why);
    if (!s)
        s = lm_opt_store(&f->set, o, v, field(f->out, o), &why);
    f->set.at = f->group;
    if (s == LM_ECONFIG)                /* v, and its origin, are gone in a line */
        s = fail_at(f, f->group, "%s: default: %s", o->name, why.text);
    else if (s)
        lm_fail(f->e, s, "%s", why.text);
    lm_conf_free(v);
    return s;
}

static enum lm_status fill_one(struct fill *f, const struct lm_opt *o, uint64_t *hash)
{
    const struct lm_conf *v = f->group ? lm_conf_get(f->group, o->name) : NULL;
    struct lm_err why = { 0 };
    if (!v && f->group && o->alias)
        v = lm_conf_get(f->group, o->alias);
    f->set.plugin_hash = hash;
    if (!v && (o->flags & LM_REQUIRED)) {
        char type[160];
        return fail_at(f, f->group, "option '%s' is missing (%s): %s", o->name,
                       lm_opt_type_text(o, type, sizeof type), o->help ? o->help : "");
    }
    if (!v)
        return fill_default(f, o);
    if (v->type == LM_CONF_GROUP && o->type != LM_OPT_PLUGINS) {
        enum lm_status s = o->flags & LM_TUNABLE ? fill_default(f, o) : LM_OK;
        return s ? s : fill_tuned(f, o, v);
    }
    enum lm_status s = lm_opt_store(&f->set, o, v, field(f->out, o), &why);
    return s ? explain(f, o, s, &why) : LM_OK;
}

/* Everything that lm_options_free releases. */
static enum lm_status reserve(const struct lm_module *m, struct lm_options *out,
                              struct lm_err *e)
{
    size_t n = count(m);
    struct lm_opt_memory *memory = lm_alloc(sizeof *memory, "options");
    out->memory = memory;
    if (!memory)
        return lm_fail_memory(e, sizeof *memory, "options");
    out->config = lm_opt_alloc(memory, m->config_size + 1);
    out->tuned = lm_opt_alloc(memory, (n + 1) * sizeof *out->tuned);
    memory->plugin_hash = lm_opt_alloc(memory, (n + 1) * sizeof *memory->plugin_hash);
    if (!out->config || !out->tuned || !memory->plugin_hash)
        return lm_fail_memory(e, m->config_size, "options");
    return LM_OK;
}

enum lm_status lm_options_fill(const struct lm_module *m, const struct lm_conf *group,
                               const char *where, lm_resolve *resolve, void *ctx,
                               struct lm_options *out, struct lm_err *e)
{
    struct fill f = { .m = m, .group = group, .where = where, .out = out, .e = e };
    *out = (struct lm_options){ 0 };
    if (group && group->type != LM_CONF_GROUP)
        return fail_at(&f, group, "expected a group { ... }");
    enum lm_status s = reserve(m, out, e);
    f.set = (struct lm_opt_set){ .memory = out->memory, .check_paths = true,
                                 .resolve = resolve, .ctx = ctx, .at = group };
    if (!s)
        s = check_keys(&f);
    const struct lm_opt *o;
    for (size_t i = 0; !s && (o = lm_opt_at(m, i)); i++)
        s = fill_one(&f, o, &((struct lm_opt_memory *)out->memory)->plugin_hash[i]);
    if (s)
        lm_options_free(out);
    else
        out->hash = hash_all(m, out);
    return s;
}

void lm_options_free(struct lm_options *o)
{
    struct lm_opt_memory *memory = o->memory;
    while (memory && memory->first) {
        struct lm_opt_block *next = memory->first->next;
        lm_release(memory->first);
        memory->first = next;
    }
    lm_release(memory);
    *o = (struct lm_options){ 0 };
}

enum lm_status lm_options_set(const struct lm_module *m, struct lm_options *o,
                              const struct lm_tuned *t, union lm_value v,
                              struct lm_err *e)
{
    struct lm_conf node = { .type = LM_CONF_INT };
    const struct lm_conf *at = &node;
    struct lm_err why = { 0 };
    struct lm_opt_set set = { .memory = o->memory, .check_paths = true };
    node.v.i = v.integer;
    if (t->choice) {
        if (v.integer < 0 || (uint64_t)v.integer >= t->choice->n)
            return lm_fail(e, LM_EBUG, "option '%s': choice %lld of %zu", t->opt->name,
                           (long long)v.integer, t->choice->n);
        at = t->choice->child[v.integer];
        if (at->type == LM_CONF_STRING && t->opt->type != LM_OPT_CHOICE) {
            /* checked by fill, lives as long as t: no copy for each genome   */
            *(const char **)field(o, t->opt) = at->v.s;
            o->hash = hash_all(m, o);
            return LM_OK;
        }
    } else if (t->opt->type == LM_OPT_REAL) {
        node.type = LM_CONF_REAL;
        node.v.r = v.real;
    }
    enum lm_status s = lm_opt_store(&set, t->opt, at, field(o, t->opt), &why);
    if (s)
        return lm_fail(e, s == LM_ECONFIG ? LM_EBUG : s, "option '%s': %s", t->opt->name,
                       why.text);
    o->hash = hash_all(m, o);
    return LM_OK;
}

/* ---- "key=value,key=value" --------------------------------------------------------- */

size_t lm_options_part(const char *p)
{
    int depth = 0;
    bool quoted = false;
    size_t n = 0;
    for (; p[n] && (quoted || depth > 0 || p[n] != ','); n++) {
        if (p[n] == '"')
            quoted = !quoted;
        else if (!quoted && strchr("([{", p[n]))
            depth++;
        else if (!quoted && strchr(")]}", p[n]))
            depth--;
    }
    return n;
}

static enum lm_status add_part(struct fill *f, struct lm_conf *group, const char *p,
                               size_t n, const char *origin)
{
    const char *eq = memchr(p, '=', n);
    char key[LM_CONF_KEY];
    if (!eq || eq == p || (size_t)(eq - p) >= sizeof key)
        return lm_conf_fail(f->e, group, "'%.*s' is not KEY=VALUE", (int)n, p);
    snprintf(key, sizeof key, "%.*s", (int)(eq - p), p);
    struct lm_conf probe = { .key = key, .origin = group->origin };
    const struct lm_opt *o = NULL;
    for (size_t i = 0; (o = lm_opt_at(f->m, i)); i++)
        if (!strcmp(o->name, key) || (o->alias && !strcmp(o->alias, key)))
            break;
    if (!o)
        return unknown(f, &probe);
    if (lm_conf_get(group, key))
        return fail_at(f, group, "option '%s' is given twice", key);
    struct lm_conf *v;
    enum lm_status s = lm_opt_text(o, eq + 1, n - (size_t)(eq + 1 - p), origin, &v, f->e);
    if (s)
        return s;
    if (!(v->key = lm_strdup(key, "conf"))) {
        lm_conf_free(v);
        return lm_fail_memory(f->e, strlen(key) + 1, "options");
    }
    return lm_conf_append(group, v, f->e);
}

enum lm_status lm_options_group(const struct lm_module *m, const char *text,
                                const char *origin, struct lm_conf **group,
                                struct lm_err *e)
{
    struct fill f = { .m = m, .where = m->name, .e = e };
    struct lm_conf *g = lm_conf_new(LM_CONF_GROUP, NULL, origin);
    enum lm_status s = g ? LM_OK : lm_fail_memory(e, sizeof *g, "options");
    for (const char *p = text; !s && p && *p; ) {
        size_t n = lm_options_part(p);
        s = add_part(&f, g, p, n, origin);
        p += n + (p[n] == ',');
    }
    if (s)
        lm_conf_free(g);
    *group = s ? NULL : g;
    return s;
}

/* ---- defaults written out ---------------------------------------------------------- */

static enum lm_status add_default(const struct lm_opt *o, struct lm_conf *group,
                                  struct lm_err *e)
{
    struct lm_conf *v;
    enum lm_status s = lm_opt_text(o, o->def, strlen(o->def), "default", &v, e);
    if (s)
        return s;
    if (!(v->key = lm_strdup(o->name, "conf"))) {
        lm_conf_free(v);
        return lm_fail_memory(e, strlen(o->name) + 1, "options");
    }
    return lm_conf_append(group, v, e);
}

enum lm_status lm_options_complete(const struct lm_module *m, bool use,
                                   struct lm_conf *group, struct lm_err *e)
{
    const struct lm_opt name = { .name = "use", .type = LM_OPT_STRING, .def = m->name },
                        *o;
    enum lm_status s = use && !lm_conf_get(group, "use") ? add_default(&name, group, e)
                                                         : LM_OK;
    for (size_t i = 0; !s && (o = lm_opt_at(m, i)); i++)
        if (o->def && *o->def && !lm_conf_get(group, o->name) &&
            !(o->alias && lm_conf_get(group, o->alias)))
            s = add_default(o, group, e);
    return s;
}

/* ---- lint ------------------------------------------------------------------------ */

bool lm_plugin_name(const char *s)
{
    return s && *s >= 'a' && *s <= 'z' && strlen(s) < LM_CONF_KEY &&
           !s[strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_")];
}

/* A number's default, and so on, without any file being looked at. */
static enum lm_status lint_default(const struct lm_opt *o, struct lm_err *e)
{
    struct lm_opt_memory memory = { 0 };
    struct lm_opt_set set = { .memory = &memory };
    union { bool b; int64_t i; double r; const char *s; struct lm_ints list; } value;
    struct lm_conf *v;
    struct lm_err why = { 0 };
    if (!o->def || !*o->def)
        return LM_OK;
    enum lm_status s = lm_opt_text(o, o->def, strlen(o->def), "default", &v, &why);
    if (!s)
        s = lm_opt_store(&set, o, v, &value, &why);
    lm_conf_free(v);
    for (struct lm_opt_block *b = memory.first, *next; b; b = next) {
        next = b->next;
        lm_release(b);
    }
    if (s)
        return lm_fail(e, s == LM_ECONFIG ? LM_EBUG : s, "option '%s': default: %s",
                       o->name, why.text);
    return LM_OK;
}

static enum lm_status lint_one(const struct lm_module *m, const struct lm_opt *o,
                               struct lm_err *e)
{
    size_t size = lm_opt_size(o->type), align = size > 8 ? 8 : size;
    if (!lm_plugin_name(o->name) || !strcmp(o->name, "use") || !strcmp(o->name, "id"))
        return lm_fail(e, LM_EBUG, "'%.40s' cannot be the name of an option", o->name);
    if (!size)
        return lm_fail(e, LM_EBUG, "option '%s': unknown type %u", o->name,
                       (unsigned)o->type);
    if (o->offset % align || m->config_size < size || o->offset > m->config_size - size)
        return lm_fail(e, LM_EBUG, "option '%s': offset %zu lies outside the config "
                       "struct of %zu bytes", o->name, o->offset, m->config_size);
    if (o->type == LM_OPT_CHOICE && (!o->choices || !o->choices[0]))
        return lm_fail(e, LM_EBUG, "option '%s': no choices", o->name);
    if (!(o->min <= o->max))
        return lm_fail(e, LM_EBUG, "option '%s': min is above max", o->name);
    if (!o->help || !*o->help || strchr(o->help, '\n'))
        return lm_fail(e, LM_EBUG, "option '%s': help must be one line", o->name);
    if ((o->flags & LM_TUNABLE) && size > 8)
        return lm_fail(e, LM_EBUG, "option '%s': a list cannot be tunable", o->name);
    return lint_default(o, e);
}

static enum lm_status lint_pair(const struct lm_opt *a, const struct lm_opt *b,
                                struct lm_err *e)
{
    if (!strcmp(a->name, b->name) || (b->alias && !strcmp(a->name, b->alias)) ||
        (a->alias && (!strcmp(a->alias, b->name) ||
                      (b->alias && !strcmp(a->alias, b->alias)))))
        return lm_fail(e, LM_EBUG, "two options are called '%s'",
                       a->alias && strcmp(a->name, b->name) &&
                       !(b->alias && !strcmp(a->name, b->alias)) ? a->alias : a->name);
    if (a->offset < b->offset + lm_opt_size(b->type) &&
        b->offset < a->offset + lm_opt_size(a->type))
        return lm_fail(e, LM_EBUG, "options '%s' and '%s' share their memory", a->name,
                       b->name);
    return LM_OK;
}

enum lm_status lm_options_lint(const struct lm_module *m, struct lm_err *e)
{
    const size_t least = offsetof(struct lm_opt, alias) + sizeof(char *);
    if (!m->opt)
        return LM_OK;
    if (m->opt_size < least || m->opt_size % _Alignof(struct lm_opt) ||
        m->opt_size > 16 * least)
        return lm_fail(e, LM_EBUG, "opt_size is %zu, sizeof(struct lm_opt) is %zu",
                       m->opt_size, sizeof(struct lm_opt));
    if (m->config_size > MAX_CONFIG)
        return lm_fail(e, LM_EBUG, "a config struct of %zu bytes", m->config_size);
    const struct lm_opt *a, *b;
    for (size_t i = 0; (a = lm_opt_at(m, i)); i++) {
        enum lm_status s = i < MAX_OPTIONS ? lint_one(m, a, e)
            : lm_fail(e, LM_EBUG, "more than %d options", MAX_OPTIONS);
        for (size_t k = 0; !s && k < i && (b = lm_opt_at(m, k)); k++)
            s = lint_pair(b, a, e);
        if (s)
            return s;
    }
    return LM_OK;
}
