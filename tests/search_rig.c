/* SPDX-License-Identifier: Apache-2.0 */
/* search_rig.c -- see search_rig.h. */
#include "search_rig.h"

#include <dlfcn.h>
#include <math.h>
#include <time.h>

#include "base/linalg.h"
#include "base/rng.h"

/* ---- problems -------------------------------------------------------------- */
void rig_problem_init(struct rig_problem *r, size_t n_objective)
{
    static const char *const metric[] = { "kl.nats", "size.bytes", "macs.per_token",
                                          "memory.bytes", "time.ms" };

    memset(r, 0, sizeof *r);
    for (size_t i = 0; i < n_objective; i++) {
        r->objective[i] = (struct lm_objective){ sizeof *r->objective, metric[i],
                                                 INFINITY, NAN, false };
        r->objective_at[i] = &r->objective[i];
    }
    r->p = (struct lm_problem){ .struct_size = sizeof r->p, .gene = r->gene_at,
        .objective = r->objective_at, .n_objective = n_objective, .start = r->start };
}

struct lm_gene *rig_gene(struct rig_problem *r, struct lm_gene g)
{
    size_t i = r->p.n_gene++;

    ck_assert_uint_lt(i, RIG_GENES);
    snprintf(r->name[i], sizeof r->name[i], "gene[%zu]", i);
    g.struct_size = sizeof g;
    g.name = r->name[i];
    g.slot = (uint32_t)r->p.n_slot;
    g.slots = g.kind == LM_GENE_SUBSET ? (g.n + 63) / 64 : 1;
    r->p.n_slot += g.slots;
    ck_assert_uint_le(r->p.n_slot, RIG_SLOTS);
    r->gene[i] = g;
    r->gene_at[i] = &r->gene[i];
    return &r->gene[i];
}

struct lm_gene *rig_int(struct rig_problem *r, int32_t layer, double min, double max,
                        double step, double initial)
{
    return rig_gene(r, (struct lm_gene){ .kind = LM_GENE_INT, .min = min, .max = max,
                       .step = step, .initial = initial,
                       .site = { LM_SITE_MLP, layer, 0 } });
}

/* All members of a subset, or the first ones where not all are allowed. */
void rig_initial(const struct rig_problem *r, union lm_value *v)
{
    memset(v, 0, r->p.n_slot * sizeof *v);
    for (size_t i = 0; i < r->p.n_gene; i++) {
        const struct lm_gene *g = &r->gene[i];
        for (uint32_t k = 0; k < g->slots; k++)
            if (g->kind == LM_GENE_SUBSET)
                for (uint32_t bit = 0; bit < 64; bit++)
                    v[g->slot + k].bits |= (uint64_t)(64 * k + bit < g->max) << bit;
            else if (g->kind == LM_GENE_REAL)
                v[g->slot].real = g->initial;
            else
                v[g->slot].integer = (int64_t)g->initial;
    }
}

/* ---- host ------------------------------------------------------------------ */
static uint64_t seed(struct lm_run *r, const char *purpose, uint64_t index)
{
    return lm_seed(r->seed, purpose, index);
}

static void quiet(struct lm_run *r, enum lm_level level, const char *fmt, ...)
    LM_PRINTF(3, 4);
static void quiet(struct lm_run *r, enum lm_level level, const char *fmt, ...)
{
    (void)r; (void)level; (void)fmt;
}

static bool never(struct lm_run *r)
{
    (void)r;
    return false;
}

/* The sum of what genes keep, in thousandths of their ranges. */
static enum lm_status weigh(struct lm_run *r, const union lm_value *v,
                            struct lm_cost *out, struct lm_err *e)
{
    double sum = 0;

    (void)e;
    for (size_t i = 0; i < r->problem->p.n_gene; i++) {
        const struct lm_gene *g = &r->problem->gene[i];
        double at = g->kind == LM_GENE_REAL ? v[g->slot].real
                                            : (double)v[g->slot].integer;
        if (g->kind == LM_GENE_SUBSET) {
            at = 0;
            for (uint32_t k = 0; k < g->n; k++)
                at += (double)(v[g->slot + k / 64].bits >> (k % 64) & 1);
        }
        sum += 1 - fabs(at - g->initial) / fmax(g->max - g->min, 1e-9);
    }
    out->params = (int64_t)(1000 * sum);
    return LM_OK;
}

static const struct lm_host host = {
    .struct_size = sizeof host, .abi_major = LM_ABI_MAJOR, .abi_minor = LM_ABI_MINOR,
    .version = "test", .alloc = lm_alloc, .resize = lm_resize, .release = lm_release,
    .fail = lm_fail, .log = quiet, .canceled = never, .seed = seed, .gemm64 = lm_gemm64,
    .cholesky = lm_cholesky, .cholesky_solve = lm_cholesky_solve, .weigh = weigh,
};

/* ---- strategies ------------------------------------------------------------ */
const struct lm_module *rig_module(const char *name)
{
    const struct lm_module *(*entry)(void);
    const char *folder = getenv("LAMINA_PLUGIN_PATH");
    char path[1024];
    void *so;

    snprintf(path, sizeof path, "%s/search/.libs/%s.so", folder ? folder : "plugins",
             name);
    so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    ck_assert_msg(so != NULL, "%s", dlerror());
    *(void **)&entry = dlsym(so, "lm_plugin");
    ck_assert_ptr_nonnull(entry);
    return entry();
}

static void set(void *config, const struct lm_opt *o, const char *text)
{
    char *at = (char *)config + o->offset;

    ck_assert_msg(o->name != NULL, "no option for '%s'", text);
    if (o->type == LM_OPT_INT)
        *(int64_t *)at = strtoll(text, NULL, 10);
    else if (o->type == LM_OPT_REAL)
        *(double *)at = strtod(text, NULL);
    else if (o->type == LM_OPT_BOOL)
        *(bool *)at = strcmp(text, "true") == 0;
    else if (o->type == LM_OPT_CHOICE)
        while (strcmp(o->choices[*(int64_t *)at], text) != 0)
            ck_assert_ptr_nonnull(o->choices[++*(int64_t *)at]);
}

static void configure(const struct rig *s, const struct lm_module *m, void *config)
{
    char copy[256], *save, *word;

    for (const struct lm_opt *o = m->opt; o->name; o++) {
        if (o->def)
            set(config, o, o->def);
        if (o->type == LM_OPT_PLUGINS && s->stages)
            *(struct lm_instances *)((char *)config + o->offset) = *s->stages;
        if (o->type == LM_OPT_REALS && s->targets)
            *(struct lm_reals *)((char *)config + o->offset) = *s->targets;
    }
    snprintf(copy, sizeof copy, "%s", s->options ? s->options : "");
    for (word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        const struct lm_opt *o = m->opt;
        char *value = strchr(word, '=');
        ck_assert_ptr_nonnull(value);
        *value++ = '\0';
        while (o->name && strcmp(o->name, word) != 0)
            o++;
        if (o->type == LM_OPT_CHOICE)
            *(int64_t *)((char *)config + o->offset) = 0;
        set(config, o, value);
    }
}

enum lm_status rig_make(const struct rig *s, struct rig_made *out, struct lm_err *e)
{
    const struct lm_module *m = rig_module(s->name);
    struct lm_args a = { .struct_size = sizeof a, .host = &host, .instance = s->name };
    enum lm_status st;

    ck_assert_str_eq(m->name, s->name);
    ck_assert_uint_eq(m->magic, LM_MAGIC);
    ck_assert_uint_eq(m->kind, LM_SEARCH);
    *out = (struct rig_made){ .m = m, .ops = m->ops };
    out->config = calloc(1, m->config_size);
    out->run = calloc(1, sizeof *out->run);
    out->run->seed = s->seed ? s->seed : 1;
    configure(s, m, out->config);
    a.config = out->config;
    a.run = out->run;
    if ((st = m->create(&a, &out->self, e)) != LM_OK) {
        out->self = NULL;
        rig_unmake(out);
    }
    return st;
}

void rig_unmake(struct rig_made *made)
{
    if (made->self)
        made->m->destroy(made->self);
    free(made->config);
    free(made->run);
    *made = (struct rig_made){ 0 };
}

/* ---- the contract ---------------------------------------------------------- */
/* In bounds and on a step?  (Check writes to a pipe for each of its assertions;
 * there are too many values for that.)                                       */
static bool valid(const struct lm_gene *g, const union lm_value *v)
{
    double x = g->kind == LM_GENE_REAL ? v->real : (double)v->integer, steps;
    int bits = 0;

    switch (g->kind) {
    case LM_GENE_BOOL:
        return x == 0 || x == 1;
    case LM_GENE_CHOICE:
        return x >= 0 && x < g->n;
    case LM_GENE_SUBSET:
        for (uint32_t i = 0; i < 64 * g->slots; i++)
            if (v[i / 64].bits >> i % 64 & 1) {
                if (i >= g->n)
                    return false;
                bits++;
            }
        return bits >= g->min && bits <= g->max;
    default:
        steps = g->step > 0 ? (x - g->min) / g->step : 0;
        return x >= g->min && x <= g->max && fabs(steps - floor(steps + .5)) < 1e-6;
    }
}

static struct rig_trial *log_add(struct rig_log *log)
{
    if (log->n == log->room) {
        log->room = 2 * log->room + 64;
        log->trial = realloc(log->trial, log->room * sizeof *log->trial);
        if (!log->trial)
            abort();
    }
    memset(&log->trial[log->n], 0, sizeof *log->trial);
    return &log->trial[log->n++];
}

/* Evaluates n proposals into the log and tells them. */
static enum lm_status tell(const struct rig *s, struct rig_made *m,
                           const struct rig_problem *p, const struct lm_proposal *out,
                           size_t n, struct rig_log *log, struct lm_err *e)
{
    struct lm_outcome o[64];
    const struct lm_outcome *at[64];
    size_t first = log->n;
    enum lm_status st;

    for (size_t i = 0; i < n; i++) {
        struct rig_trial *t = log_add(log);
        memcpy(t->value, out[i].value, p->p.n_slot * sizeof *t->value);
        t->fidelity = out[i].fidelity;
        t->status = s->eval(p, t->value, t->fidelity, t->objective);
        for (size_t k = 0; k < p->p.n_constraint; k++)
            t->violation = p->limit > 0 ? fmax(t->objective[1] / p->limit - 1, 0)
                                        : t->objective[1] / p->objective[1].bound - 1;
    }
    for (size_t i = 0; i < n; i++) {
        const struct rig_trial *t = &log->trial[first + i];
        o[i] = (struct lm_outcome){ sizeof *o, t->status, t->value, t->objective,
                                    &t->violation, t->fidelity, false };
        at[i] = &o[i];
        if (s->races && (first + i) % 3 == 1) {
            o[i].fidelity = 0.25;
            o[i].stopped = true;
        }
    }
    log->ticks -= clock();
    st = m->ops->tell(m->self, at, n, e);
    log->ticks += clock();
    return st;
}

enum lm_status rig_drive(const struct rig *s, struct rig_made *m,
                         const struct rig_problem *p, struct rig_log *log,
                         struct lm_err *e)
{
    union lm_value *buffer = calloc(64 * RIG_SLOTS, sizeof *buffer);
    size_t most = SIZE_MAX, max = s->max ? s->max : 7, n = 0;
    enum lm_status st;

    m->run->problem = p;
    st = m->ops->begin(m->self, &p->p, e);

    while (st == LM_OK) {
        struct lm_proposal out[64];
        size_t left = m->ops->budget(m->self);

        for (size_t i = 0; i < max; i++)
            out[i] = (struct lm_proposal){ buffer + i * RIG_SLOTS, 1 };
        log->ticks -= clock();
        st = m->ops->ask(m->self, out, max, &n, e);
        log->ticks += clock();
        if (st != LM_OK || n == 0)
            break;
        /* the bound holds, and never turns out to have been too low */
        most = left + log->n < most ? left + log->n : most;
        if (n > max || log->n + n > most)
            ck_abort_msg("%s: proposed more than asked for, or than budget()", s->name);
        for (size_t i = 0; i < n; i++) {
            if (!(out[i].fidelity > 0 && out[i].fidelity <= 1))
                ck_abort_msg("%s: fidelity %g", s->name, out[i].fidelity);
            for (size_t g = 0; g < p->p.n_gene; g++)
                if (!valid(&p->gene[g], out[i].value + p->gene[g].slot))
                    ck_abort_msg("%s: %s is out of its range", s->name,
                                 p->gene[g].name);
        }
        st = tell(s, m, p, out, n, log, e);
    }
    if (st == LM_OK) {                      /* finished is finished */
        struct lm_proposal one = { buffer, 1 };
        ck_assert_int_eq(m->ops->ask(m->self, &one, 1, &n, e), LM_OK);
        ck_assert_uint_eq(n, 0);
        ck_assert_uint_eq(m->ops->budget(m->self), 0);
    }
    free(buffer);
    return st;
}

enum lm_status rig_run(const struct rig *s, const struct rig_problem *p,
                       struct rig_log *log, struct lm_err *e)
{
    struct rig_made m;
    enum lm_status st = rig_make(s, &m, e);

    if (st != LM_OK)
        return st;
    st = rig_drive(s, &m, p, log, e);
    rig_unmake(&m);
    return st;
}

void rig_log_free(struct rig_log *log)
{
    free(log->trial);
    *log = (struct rig_log){ 0 };
}

size_t rig_best(const struct rig_log *log)
{
    size_t best = log->n;

    for (size_t i = 0; i < log->n; i++) {
        const struct rig_trial *t = &log->trial[i];
        if (t->status == LM_OK && t->fidelity == 1 && t->violation <= 0
            && (best == log->n || t->objective[0] < log->trial[best].objective[0]))
            best = i;
    }
    return best;
}
