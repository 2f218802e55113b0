/* SPDX-License-Identifier: Apache-2.0 */
/* sweep.c -- from a file to its variants: see sweep.h.
 *
 * Variant v has a level for each factor: 0 is what the file says.  In a product the
 * levels are the digits of v, the last factor's fastest; so variant 0 is the baseline
 * in both modes.  All variants are validated before anything runs, and two that come
 * to the same pipeline are an error: one of them would be counted twice.       */
#include "pipeline/sweep.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "pipeline/pipeline.h"

static const char *const modes[] = { "one_at_a_time", "product", NULL };
static const char *const tests[] = { "wilcoxon", "none", NULL };
static const char *const corrections[] = { "holm", "none", NULL };

static const struct lm_opt sweep_schema[] = {
    LM_PICK(struct lm_sweep_options, mode, "one_at_a_time", modes, 0,
            "one value of one member of `vary` at a time, or all combinations of what the "
            "file says and the values of each"),
    LM_INTLIST(struct lm_sweep_options, seeds, "1", 0, 4e18, NULL, 0,
               "run.seed of the runs of every variant"),
    LM_OPT_END
};
static const struct lm_opt vary_schema[] = {
    LM_STRING(struct lm_vary_options, path, NULL, LM_REQUIRED,
              "what varies, as in --set: score.use, prune[1].step"),
    LM_STRING(struct lm_vary_options, tag, NULL, 0,
              "how variants are called, with a value behind it where there are several; "
              "from the path if not given"),
    LM_FLAG(struct lm_vary_options, drop, "false", 0,
            "remove what is there, instead of `values`"),
    LM_OPT_END
};
static const struct lm_opt compare_schema[] = {
    LM_STRINGLIST(struct lm_compare_options, metric, NULL, 0,
                  "metrics that are tested against the baseline; hypervolume, or the first "
                  "objective where there are not two, if none is given"),
    LM_PICK(struct lm_compare_options, test, "wilcoxon", tests, 0,
            "exact signed-rank test, paired by seed, two-sided"),
    LM_PICK(struct lm_compare_options, correct, "holm", corrections, 0,
            "of p for the number of comparisons: all variants and metrics that are tested"),
    LM_OPT_END
};

#define GROUP(WORD, SCHEMA, T, S) { .name = WORD, .opt = SCHEMA, .summary = S, \
    .opt_size = sizeof(struct lm_opt), .config_size = sizeof(T) }
static const struct lm_module
    sweep_group = GROUP("sweep", sweep_schema, struct lm_sweep_options,
                        "variants of the file, for `lamina sweep`; with `vary` and `compare` "
                        "in it"),
    vary_group = GROUP("vary", vary_schema, struct lm_vary_options,
                       "in `sweep`, a list of what varies; values = ( ... ) has what is put "
                       "there, a variant each"),
    compare_group = GROUP("compare", compare_schema, struct lm_compare_options,
                          "in `sweep`: tests of the variants against the baseline");

const struct lm_module *lm_sweep_group(size_t i)
{
    static const struct lm_module *const all[] = { &sweep_group, &vary_group,
        &compare_group };
    return i < sizeof all / sizeof *all ? all[i] : NULL;
}

/* ---- reading the group --------------------------------------------------------- */

/* Options of a group, which may hold the keys skip[0] and skip[1] besides. */
static enum lm_status fill(const struct lm_module *m, const struct lm_conf *at,
                           const char *where, const char *const skip[2],
                           struct lm_options *out, struct lm_err *e)
{
    if (at && at->type != LM_CONF_GROUP)
        return lm_conf_fail(e, at, "%s: expected a group { ... }", where);
    struct lm_conf part = { .type = LM_CONF_GROUP, .origin = (char *)"default" };
    struct lm_conf **child = lm_alloc_array(at ? at->n + 1 : 1, sizeof *child, "sweep");
    if (!child)
        return lm_fail_memory(e, sizeof *child, "the sweep");
    if (at)
        part = *at;
    part.child = child;
    part.n = 0;
    for (size_t i = 0; at && i < at->n; i++)
        if ((!skip[0] || strcmp(at->child[i]->key, skip[0])) &&
            (!skip[1] || strcmp(at->child[i]->key, skip[1])))
            child[part.n++] = at->child[i];
    enum lm_status st = lm_options_fill(m, &part, where, NULL, NULL, out, e);
    lm_release(child);
    return st;
}

static enum lm_status check_seeds(const struct lm_sweep *s, struct lm_err *e)
{
    const struct lm_ints *seeds = &s->o->seeds;
    const struct lm_conf *at = lm_conf_get(s->at, "seeds");
    if (!seeds->n || seeds->n > LM_SWEEP_SEEDS)
        return lm_conf_fail(e, at, "sweep: seeds: expected 1 to %d seeds",
                            LM_SWEEP_SEEDS);
    for (size_t i = 0; i < seeds->n; i++)
        for (size_t k = 0; k < i; k++)
            if (seeds->v[i] == seeds->v[k])
                return lm_conf_fail(e, at, "sweep: seeds: %lld is there twice",
                                    (long long)seeds->v[i]);
    return LM_OK;
}

/* What the sweep sets itself, or what would change it. */
static bool is_own(const char *path)
{
    static const char *const own[] = { "sweep", "lamina", "run.seed", "run.out" };
    size_t n = strcspn(path, ".[");
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (!strcmp(path, own[i]) || (i == 0 && n == 5 && !memcmp(path, own[i], n)))
            return true;
    return !strcmp(path, "run");
}

static bool is_tag(const char *tag)
{
    size_t n = strspn(tag, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                           "0123456789_.-");
    return n && n < 64 && !tag[n] && isalnum((unsigned char)tag[0]);
}

static enum lm_status open_factor(struct lm_sweep *s, const struct lm_conf *at,
                                  struct lm_err *e)
{
    static const char *const skip[2] = { "values", NULL };
    struct lm_sweep_factor *f = &s->factor[s->n_factor];
    char where[64];
    snprintf(where, sizeof where, "sweep: vary[%zu]", s->n_factor);
    if (s->n_factor == LM_SWEEP_FACTORS)
        return lm_conf_fail(e, at, "sweep: vary: more than %d members", LM_SWEEP_FACTORS);
    f->at = at;
    s->n_factor++;
    enum lm_status st = fill(&vary_group, at, where, skip, &f->opt, e);
    if (st)
        return st;
    f->o = f->opt.config;
    f->values = lm_conf_get(at, "values");
    f->n = f->o->drop ? 1 : lm_conf_items(f->values);
    if (f->o->drop == !!f->values)
        return lm_conf_fail(e, at, "%s: give either values = ( ... ) or drop = true",
                            where);
    if (!f->n)
        return lm_conf_fail(e, f->values, "%s: values: there are none", where);
    if (is_own(f->o->path))
        return lm_conf_fail(e, lm_conf_get(at, "path"),
                            "%s: '%s' is for the sweep itself "
                            "to set", where, f->o->path);
    if (f->o->tag && !is_tag(f->o->tag))
        return lm_conf_fail(e, lm_conf_get(at, "tag"),
                            "%s: tag: '%.80s' is no name for a "
                            "folder; use letters, digits, '_', '-' and '.', a letter or "
                            "digit first", where, f->o->tag);
    return LM_OK;
}

static enum lm_status open_group(struct lm_sweep *s, struct lm_err *e)
{
    static const char *const skip[2] = { "vary", "compare" }, *const none[2] = { NULL };
    const struct lm_conf *vary = lm_conf_get(s->at, "vary");
    enum lm_status st = fill(&sweep_group, s->at, "sweep", skip, &s->opt, e);
    if (st)
        return st;
    s->o = s->opt.config;
    if ((st = check_seeds(s, e)) ||
        (st = fill(&compare_group, lm_conf_get(s->at, "compare"), "sweep: compare", none,
                   &s->compare_opt, e)))
        return st;
    s->compare = s->compare_opt.config;
    if (!lm_conf_items(vary))
        return lm_conf_fail(e, vary ? vary : s->at,
                            "sweep: vary: there is nothing in it; "
                            "write vary = ( { path = \"score.use\"; values = ( ... ); } );");
    for (size_t i = 0; i < lm_conf_items(vary) && !st; i++)
        st = open_factor(s, lm_conf_item(vary, i), e);
    return st;
}

/* ---- variants ------------------------------------------------------------------ */

/* Appends at most 40 bytes of a text that may stand in the name of a folder. */
static void add_word(char out[LM_SWEEP_TAG], const char *text)
{
    size_t n = strlen(out), end = n + 40 < LM_SWEEP_TAG - 1 ? n + 40 : LM_SWEEP_TAG - 1;
    for (; *text && n < end; text++) {
        bool plain = isalnum((unsigned char)*text) || strchr("_.-", *text);
        if (plain || (n && out[n - 1] != '-'))
            out[n++] = plain ? *text : '-';
    }
    while (n && out[n - 1] == '-')
        n--;
    out[n] = 0;
}

/* A word for a value: itself, or the plugin that a group names; "" for others. */
static void add_value(char out[LM_SWEEP_TAG], const struct lm_conf *v)
{
    char text[96];
    if (v->type == LM_CONF_GROUP)
        v = lm_conf_get(v, "use");
    if (!v || v->type == LM_CONF_GROUP || v->type == LM_CONF_LIST)
        return;
    add_word(out, lm_conf_describe(v, text, sizeof text));
}

/* Do words tell the values of a factor apart? */
static bool has_words(const struct lm_sweep_factor *f)
{
    for (size_t i = 0; i < f->n; i++) {
        char a[LM_SWEEP_TAG] = "", b[LM_SWEEP_TAG];
        add_value(a, lm_conf_item(f->values, i));
        if (!*a)
            return false;
        for (size_t k = 0; k < i; k++) {
            *b = 0;
            add_value(b, lm_conf_item(f->values, k));
            if (!strcmp(a, b))
                return false;
        }
    }
    return true;
}

static void factor_tag(const struct lm_sweep_factor *f, size_t level,
                       char out[LM_SWEEP_TAG])
{
    snprintf(out, LM_SWEEP_TAG, "%s", f->o->tag ? f->o->tag : f->o->drop ? "no-" : "");
    if (!f->o->tag)
        add_word(out, f->o->path);
    if (f->o->drop || (f->n == 1 && f->o->tag))
        return;
    strcat(out, "-");
    if (has_words(f))
        add_value(out, lm_conf_item(f->values, level - 1));
    else
        snprintf(out + strlen(out), 24, "%zu", level);
}

static enum lm_status name_variant(struct lm_sweep *s, struct lm_sweep_variant *v,
                                   struct lm_err *e)
{
    char word[LM_SWEEP_TAG];
    for (size_t f = 0; f < s->n_factor; f++) {
        if (!v->level[f])
            continue;
        factor_tag(&s->factor[f], v->level[f], word);
        size_t n = strlen(v->tag);
        if (n + 1 + strlen(word) >= sizeof v->tag)
            return lm_conf_fail(e, s->factor[f].at, "sweep: the name of a variant, "
                                "%.60s..., is too long; give shorter tags", v->tag);
        snprintf(v->tag + n, sizeof v->tag - n, "%s%s", n ? "+" : "", word);
    }
    if (!*v->tag)
        strcpy(v->tag, "baseline");
    return LM_OK;
}

/* How many; 0: too many. */
static size_t count_variants(const struct lm_sweep *s)
{
    size_t n = 1;
    for (size_t f = 0; f < s->n_factor; f++) {
        if (s->factor[f].n > LM_SWEEP_VARIANTS)
            return 0;
        n = s->o->mode == LM_SWEEP_PRODUCT ? n * (s->factor[f].n + 1)
                                           : n + s->factor[f].n;
        if (n > LM_SWEEP_VARIANTS)
            return 0;
    }
    return n;
}

static void set_levels(const struct lm_sweep *s, size_t number, size_t *level)
{
    if (s->o->mode == LM_SWEEP_PRODUCT) {
        for (size_t f = s->n_factor; f-- > 0; number /= s->factor[f].n + 1)
            level[f] = number % (s->factor[f].n + 1);
        return;
    }
    for (size_t f = 0; f < s->n_factor && number; f++) {
        level[f] = number <= s->factor[f].n ? number : 0;
        number -= level[f] ? number : s->factor[f].n;
    }
}

static enum lm_status make_variants(struct lm_sweep *s, struct lm_err *e)
{
    enum lm_status st = LM_OK;
    if (!(s->n_variant = count_variants(s)))
        return lm_conf_fail(e, s->at, "sweep: more than %d variants", LM_SWEEP_VARIANTS);
    s->variant = lm_alloc_array(s->n_variant, sizeof *s->variant, "sweep");
    if (!s->variant)
        return lm_fail_memory(e, s->n_variant * sizeof *s->variant, "the variants");
    for (size_t v = 0; v < s->n_variant && !st; v++) {
        set_levels(s, v, s->variant[v].level);
        st = name_variant(s, &s->variant[v], e);
        for (size_t k = 0; k < v && !st; k++)
            if (!strcmp(s->variant[k].tag, s->variant[v].tag))
                st = lm_conf_fail(e, s->at, "sweep: two variants are called '%s'; give "
                                  "other tags", s->variant[v].tag);
    }
    return st;
}

enum lm_status lm_sweep_folder(const struct lm_sweep *s, size_t variant, size_t seed,
                               char out[4096], struct lm_err *e)
{
    int n = snprintf(out, 4096, "%s/%s/%lld", s->out, s->variant[variant].tag,
                     (long long)s->o->seeds.v[seed]);
    return n < 4096 ? LM_OK : lm_fail(e, LM_ECONFIG, "%s: path too long", s->out);
}

enum lm_status lm_sweep_conf(const struct lm_sweep *s, size_t variant, size_t seed,
                             struct lm_conf **conf, struct lm_err *e)
{
    struct lm_conf_edit edit[LM_SWEEP_FACTORS + 2];
    struct lm_conf number = { .type = LM_CONF_INT, .origin = s->at->origin,
                              .v.i = s->o->seeds.v[seed] };
    char folder[4096];
    size_t n = 0;
    *conf = NULL;
    enum lm_status st = lm_sweep_folder(s, variant, seed, folder, e);
    if (st)
        return st;
    for (size_t f = 0; f < s->n_factor; f++) {
        const struct lm_sweep_factor *x = &s->factor[f];
        size_t level = s->variant[variant].level[f];
        if (level)
            edit[n++] = (struct lm_conf_edit){ .path = x->o->path,
                .origin = x->at->origin,
                .value = x->o->drop ? NULL : lm_conf_item(x->values, level - 1) };
    }
    edit[n++] = (struct lm_conf_edit){ .path = "run.seed", .origin = s->at->origin,
                                       .value = &number, .last = true };
    edit[n++] = (struct lm_conf_edit){ .path = "run.out", .origin = s->at->origin,
                                       .text = folder, .last = true };
    return lm_conf_vary(s->file, edit, n, s->set, s->n_set, conf, e);
}

/* ---- all of it ----------------------------------------------------------------- */

/* run.out itself, as the schema of `run` has it. */
static enum lm_status find_out(struct lm_sweep *s, struct lm_err *e)
{
    const struct lm_conf *out = lm_conf_path(s->conf, "run.out");
    if (out && (out->type != LM_CONF_STRING || !*out->v.s))
        return lm_conf_fail(e, out, "run: out: expected the name of a folder");
    s->out = lm_strdup(out ? out->v.s : "lamina-run", "sweep");
    return s->out ? LM_OK : lm_fail_memory(e, 16, "the sweep");
}

/* Names of metrics that are compared. */
static enum lm_status check_metrics(const struct lm_sweep *s, const struct lm_pipeline *p,
                                    struct lm_err *e)
{
    const struct lm_conf *at = lm_conf_path(s->at, "compare.metric");
    for (size_t i = 0; i < s->compare->metric.n; i++) {
        const char *name = s->compare->metric.v[i];
        if (!strcmp(name, "hypervolume")) {
            if (p->n_objective != 2)
                return lm_conf_fail(e, at, "sweep: compare: hypervolume needs two "
                                    "objectives, there are %zu", p->n_objective);
            continue;
        }
        if (lm_metric_index(p->evaluate, p->n_evaluate, name) < 0 &&
            lm_metric_index(p->final, p->n_final, name) < 0)
            return lm_conf_fail(e, at, "sweep: compare: no evaluator of the file has a "
                                "metric '%.80s'", name);
    }
    return LM_OK;
}

/* Validates a variant; takes over a copy of its pipeline. */
static enum lm_status check_variant(const struct lm_sweep *s, size_t v, struct lm_err *e)
{
    struct lm_conf *conf;
    struct lm_pipeline *p = NULL;
    enum lm_status st = lm_sweep_conf(s, v, 0, &conf, e);
    if (!st)
        st = lm_pipeline_open(conf, &p, e);
    if (!st && v == 0)
        st = check_metrics(s, p, e);
    lm_pipeline_close(p);
    if (st == LM_ECONFIG && v && e)
        snprintf(e->text + strlen(e->text), sizeof e->text - strlen(e->text),
                 " (variant '%.*s' of the sweep, %s)", 60, s->variant[v].tag,
                 s->at->origin);
    return st;
}

static bool is_place(const char *key)
{
    return !strcmp(key, "out");
}

/* Do two variants of the same seed differ in nothing but their folder? */
static bool are_same(const struct lm_conf *a, const struct lm_conf *b)
{
    for (size_t i = 0; i < a->n; i++) {
        const struct lm_conf *x = a->child[i], *y = lm_conf_get(b, x->key);
        if (!y)
            return false;
        if (strcmp(x->key, "run")) {
            if (lm_conf_differs(x, y))
                return false;
            continue;
        }
        for (size_t k = 0; k < x->n; k++) {
            const struct lm_conf *z = lm_conf_get(y, x->child[k]->key);
            if (!z || (!is_place(x->child[k]->key) && lm_conf_differs(x->child[k], z)))
                return false;
        }
        if (x->n != y->n)
            return false;
    }
    return a->n == b->n;
}

static enum lm_status check_different(const struct lm_sweep *s, struct lm_err *e)
{
    struct lm_conf **conf = lm_alloc_array(s->n_variant, sizeof *conf, "sweep");
    enum lm_status st = conf ? LM_OK
                             : lm_fail_memory(e, s->n_variant * 8, "the variants");
    for (size_t v = 0; v < s->n_variant && !st; v++) {
        st = lm_sweep_conf(s, v, 0, &conf[v], e);
        for (size_t k = 0; k < v && !st; k++)
            if (are_same(conf[k], conf[v]))
                st = lm_conf_fail(e, s->at, "sweep: variant '%s' is the same pipeline as "
                                  "'%s'; leave one of them out", s->variant[v].tag,
                                  s->variant[k].tag);
    }
    for (size_t v = 0; conf && v < s->n_variant; v++)
        lm_conf_free(conf[v]);
    lm_release(conf);
    return st;
}

enum lm_status lm_sweep_open(const char *file, const char *const *set, size_t n_set,
                             struct lm_sweep **out, struct lm_err *e)
{
    struct lm_sweep *s = lm_alloc(sizeof *s, "sweep");
    *out = NULL;
    if (!s)
        return lm_fail_memory(e, sizeof *s, "the sweep");
    s->file = file;
    s->set = set;
    s->n_set = n_set;
    enum lm_status st = lm_conf_read(file, set, n_set, &s->conf, e);
    if (!st && !(s->at = lm_conf_get(s->conf, "sweep")))
        st = lm_fail(e, LM_ECONFIG,
                     "%s:1: error: there is no group `sweep`; `lamina run` "
                     "runs this file", file);
    if (!st)
        st = open_group(s, e);
    if (!st)
        st = find_out(s, e);
    if (!st)
        st = make_variants(s, e);
    for (size_t v = 0; !st && v < s->n_variant; v++)
        st = check_variant(s, v, e);
    if (!st)
        st = check_different(s, e);
    if (st)
        lm_sweep_close(s);
    else
        *out = s;
    return st;
}

void lm_sweep_close(struct lm_sweep *s)
{
    if (!s)
        return;
    for (size_t f = 0; f < s->n_factor; f++)
        lm_options_free(&s->factor[f].opt);
    lm_options_free(&s->opt);
    lm_options_free(&s->compare_opt);
    lm_conf_free(s->conf);
    lm_release(s->variant);
    lm_release(s->out);
    lm_release(s);
}
