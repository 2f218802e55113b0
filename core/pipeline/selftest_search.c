/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_search.c -- the contract of search strategies.
 *
 * A made-up problem: four genes of every kind the strategy handles, objectives
 * that pull against each other (squared share removed; share kept), in several
 * variants.  A strategy is asked and told until it ends or has proposed MOST
 * genomes.  Resuming is replay, so what is asked for is sameness: the same seed
 * and outcomes give the same proposals, in an instance made after another was
 * given up halfway, in two instances that take turns, and whatever the clock
 * and the order of parallel work are.                                       */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/pool.h"
#include "pipeline/host.h"
#include "pipeline/selftest_kit.h"
#include "space/space.h"

enum { MOST = 320, BATCH = 7, EACH = 4, MAX_OBJECTIVES = 3, SUBSET = 70, POISON = 2 };

struct variant {
    const char *what;
    size_t n_objective;
    bool   bound, half, noisy, starts;  /* half: of the trials are infeasible */
};
static const struct variant variant[] = {
    { "a plain problem", 1, false, false, false, false },
    { "two objectives", 2, false, false, false, false },
    { "two objectives and a constraint", 2, true, false, false, false },
    { "half of the trials infeasible", 2, true, true, false, false },
    { "a noisy objective", 2, true, false, true, false },
    { "genomes to start from", 2, true, false, false, true },
    { "three objectives", 3, true, true, true, true },
    { "one objective, half of the trials infeasible", 1, false, true, false, false },
};
enum { N_VARIANTS = sizeof variant / sizeof *variant };

struct problem {
    const struct variant *v;
    struct lm_space *space;
    size_t n_slot;
    struct lm_objective objective[MAX_OBJECTIVES];
    const struct lm_objective *objective_at[MAX_OBJECTIVES];
    union lm_value *start;
    const union lm_value *start_at[2];
    struct lm_problem p;
};

/* One instance and what it did: trace [MOST][n_slot + 1], the last word being
 * the fidelity.                                                              */
struct life {
    const struct problem *q;
    void *self;
    union lm_value *trace, *buffer;     /* buffer: [BATCH][n_slot + POISON] */
    size_t n, bound;                    /* trials; least upper bound of their number */
    bool ended;
};

/* ---- the problem ------------------------------------------------------------------- */

static enum lm_status add_gene(struct lm_space *s, uint32_t kind, int i, struct lm_err *e)
{
    static const char *const form[] = { "small", "middle", "large" };
    char name[32];
    double score[SUBSET];
    struct lm_gene g = { .struct_size = sizeof g, .kind = kind, .name = name,
        .site = { LM_SITE_MLP, i, 0 } };
    snprintf(name, sizeof name, "gene%u[%d]", kind, i);
    for (int m = 0; m < SUBSET; m++)
        score[m] = (m * 37 % SUBSET) / 7.0;
    if (kind == LM_GENE_INT) {
        g.min = 16 * (i + 1);
        g.step = i == 1 ? 24 : 16;
        g.max = g.initial = g.min + g.step * (i + 3);
    } else if (kind == LM_GENE_REAL) {
        g.log_scale = i == 2;
        g.min = i == 2 ? 1e-4 : i == 3 ? -2 : 0;
        g.step = i == 1 || i == 3 ? 0.25 : 0;
        g.max = g.initial = 1;
    } else if (kind == LM_GENE_CHOICE) {
        g.n = 3;
        g.choice = form;
        g.ordered = i & 1;
        g.initial = 2;
    } else if (kind == LM_GENE_SUBSET) {
        g.n = i == 3 ? 5 : SUBSET;
        g.min = i;
        g.max = g.n;
        g.score = i == 2 ? NULL : score;
    } else {
        g.site.kind = LM_SITE_ATTN;
        g.initial = 1;
    }
    return lm_space_add(s, &g, e);
}

/* Share of a gene that is kept, 0..1. */
static double share(const struct lm_gene *g, const union lm_value *v)
{
    double bits = 0;
    if (g->kind == LM_GENE_SUBSET) {
        for (uint32_t i = 0; i < g->slots; i++)
            bits += __builtin_popcountll(v[i].bits);
        return bits / g->n;
    }
    double x = g->kind == LM_GENE_REAL ? v->real : (double)v->integer;
    if (g->log_scale)
        return log(x / g->min) / log(g->max / g->min);
    return (x - g->min) / (g->max - g->min);
}

static void objectives(const struct problem *q, const union lm_value *v, size_t trial,
                       double *out)
{
    size_t n;
    const struct lm_gene *const *gene = lm_space_genes(q->space, &n);
    double loss = 0, size = 0, time = 0;
    for (size_t i = 0; i < n; i++) {
        double kept = share(gene[i], v + gene[i]->slot);
        loss += (1 + (double)(i % 3)) * (1 - kept) * (1 - kept) / (double)n;
        size += kept / (double)n;
        time += (1 + (double)(i & 1)) * kept / (double)n;
    }
    if (q->v->noisy) {
        struct lm_rng r = lm_rng(3, "selftest/noise", trial);
        loss += 0.1 * lm_rng_unit(&r);
    }
    out[0] = loss;
    out[1] = size;
    out[2] = time;
}

static void describe(struct problem *q, const struct variant *v)
{
    static const char *const metric[] = { "loss.nats", "size.bytes", "time.ms" };
    double reference[MAX_OBJECTIVES];
    q->v = v;
    lm_genome_initial(q->space, q->start);
    objectives(q, q->start, 0, reference);
    memset(q->start + q->n_slot, 0, q->n_slot * sizeof *q->start);
    for (size_t k = 0; k < MAX_OBJECTIVES; k++) {
        q->objective[k] = (struct lm_objective){ .struct_size = sizeof q->objective[k],
            .metric = metric[k], .bound = k == 1 && v->bound ? 0.7 : INFINITY,
            .reference = reference[k], .noisy = k == 0 && v->noisy };
        q->objective_at[k] = &q->objective[k];
    }
    size_t n_gene;
    const struct lm_gene *const *gene = lm_space_genes(q->space, &n_gene);
    for (size_t i = 0; i < n_gene; i++)         /* the second start: half of everything */
        for (uint32_t s = 0; s < gene[i]->slots; s++) {
            union lm_value *to = q->start + q->n_slot + gene[i]->slot + s;
            *to = gene[i]->kind == LM_GENE_SUBSET ? q->start[gene[i]->slot + s]
                  : gene[i]->kind == LM_GENE_REAL && gene[i]->step == 0
                      ? q->start[gene[i]->slot]
                      : lm_gene_value(gene[i], lm_gene_count(gene[i]) / 2);
        }
    q->start_at[0] = q->start;
    q->start_at[1] = q->start + q->n_slot;
    q->p = (struct lm_problem){ .struct_size = sizeof q->p,
                                .gene = gene,
                                .n_gene = n_gene,
                                .n_slot = q->n_slot,
                                .objective = q->objective_at,
                                .n_objective = v->n_objective,
                                .n_constraint = v->bound,
                                .start = q->start_at,
                                .n_start = v->starts ? 2 : 0 };
}

static enum lm_status open_problem(struct lm_kit *k, struct problem *q)
{
    const struct lm_search *ops = k->plugin->ops;
    *q = (struct problem){ 0 };
    enum lm_status s = lm_space_open(NULL, NULL, &q->space, k->e);
    for (uint32_t kind = LM_GENE_BOOL; kind <= LM_GENE_SUBSET; kind++)
        for (int i = 0; !s && i < EACH && ops->genes & LM_BIT(kind); i++)
            s = add_gene(q->space, kind, i, k->e);
    if (s)
        return s;
    if (!(q->n_slot = lm_space_slots(q->space)))
        return lm_broken(k, "its `genes` declare no kind of gene that it handles");
    q->start = lm_alloc_array(2 * q->n_slot, sizeof *q->start, "selftest");
    return q->start ? LM_OK : lm_fail_memory(k->e, q->n_slot * 16, "a problem");
}

static void close_problem(struct problem *q)
{
    lm_space_close(q->space);
    lm_release(q->start);
}

/* ---- a life ------------------------------------------------------------------------ */

static void end(struct lm_kit *k, struct life *l)
{
    lm_kit_destroy(k, l->self);
    lm_release(l->trace);
    lm_release(l->buffer);
    *l = (struct life){ 0 };
}

/* Buffers, instance, begin().  *refused: this problem is not for the strategy. */
static enum lm_status start(struct lm_kit *k, const struct problem *q, struct life *l,
                            bool *refused)
{
    const struct lm_search *ops = k->plugin->ops;
    *l = (struct life){ .q = q, .bound = SIZE_MAX };
    *refused = false;
    l->trace = lm_alloc_array(MOST * (q->n_slot + 1), sizeof *l->trace, "selftest");
    l->buffer =
        lm_alloc_array(BATCH * (q->n_slot + POISON), sizeof *l->buffer, "selftest");
    if (!l->trace || !l->buffer)
        return lm_fail_memory(k->e, MOST * q->n_slot * 8, "a trace");
    enum lm_status s = lm_kit_create(k, &l->self);
    if (s)
        return s;
    ops->budget(l->self);               /* also asked before begin() */
    s = ops->begin(l->self, &q->p, k->e);
    *refused = (s == LM_ECONFIG || s == LM_EUNSUPPORTED) && k->e->text[0];
    return s && !*refused ? lm_kit_failed(k, "begin()", s) : LM_OK;
}

static enum lm_status check_proposal(struct lm_kit *k, const struct life *l, size_t i,
                                     double fidelity)
{
    const struct problem *q = l->q;
    const union lm_value *v = l->buffer + i * (q->n_slot + POISON);
    if (!(fidelity > 0 && fidelity <= 1))
        return lm_broken(k, "ask() proposes a fidelity of %g; it must lie in (0, 1]",
                         fidelity);
    for (size_t p = 0; p < POISON; p++)
        if (v[q->n_slot + p].bits != UINT64_C(0xdeadbeefdeadbeef))
            return lm_broken(k, "ask() writes beyond the %zu slots of a genome",
                             q->n_slot);
    struct lm_err why = { 0 };
    if (lm_genome_check(q->space, v, &why)) {
        char *tail = strstr(why.text, "; the search strategy");
        if (tail)
            *tail = 0;
        return lm_broken(k, "ask() proposes a genome that is out of range: %s", why.text);
    }
    return LM_OK;
}

static enum lm_status tell(struct lm_kit *k, struct life *l, const struct lm_proposal *p,
                           size_t n)
{
    const struct problem *q = l->q;
    struct lm_outcome o[BATCH];
    const struct lm_outcome *at[BATCH];
    double value[BATCH][MAX_OBJECTIVES], violation[BATCH];
    for (size_t i = 0; i < n; i++, l->n++) {
        union lm_value *t = l->trace + l->n * (q->n_slot + 1);
        memcpy(t, p[i].value, q->n_slot * sizeof *t);
        t[q->n_slot].real = p[i].fidelity;
        bool bad = q->v->half && lm_genome_hash(q->space, t) & 1;
        objectives(q, t, l->n, value[i]);
        violation[i] = value[i][1] / 0.7 - 1;
        for (int m = 0; bad && m < MAX_OBJECTIVES; m++)
            value[i][m] = violation[i] = NAN;
        o[i] = (struct lm_outcome){ .struct_size = sizeof o[i],
            .status = bad ? LM_EINFEASIBLE : LM_OK, .value = t, .objective = value[i],
            .violation = &violation[i], .fidelity = p[i].fidelity };
        at[i] = &o[i];
    }
    enum lm_status s =
        ((const struct lm_search *)k->plugin->ops)->tell(l->self, at, n, k->e);
    return s ? lm_kit_failed(k, "tell()", s) : LM_OK;
}

/* One ask, its evaluation and its tell; l->ended when there is nothing more. */
static enum lm_status step(struct lm_kit *k, struct life *l)
{
    const struct lm_search *ops = k->plugin->ops;
    size_t n = 0, room = l->q->n_slot + POISON,
           max = MOST - l->n < BATCH ? MOST - l->n : BATCH;
    struct lm_proposal p[BATCH];
    size_t left = ops->budget(l->self);
    if (left < l->bound - l->n)
        l->bound = l->n + left;
    for (size_t i = 0; i < max * room; i++)
        l->buffer[i].bits = UINT64_C(0xdeadbeefdeadbeef);
    for (size_t i = 0; i < max; i++)
        p[i] = (struct lm_proposal){ l->buffer + i * room, 1 };
    enum lm_status s = ops->ask(l->self, p, max, &n, k->e);
    if (s)
        return lm_kit_failed(k, "ask()", s);
    if (n > max)
        return lm_broken(k, "ask() proposes %zu genomes where %zu were asked for", n,
                         max);
    if (l->n + n > l->bound)
        return lm_broken(k,
                         "proposes %zu genomes, more than the %zu that budget() "
                         "promised",
                         l->n + n, l->bound);
    for (size_t i = 0; i < n; i++) {
        if (p[i].value != l->buffer + i * room)
            return lm_broken(k, "ask() replaces the pointer to a genome instead of "
                             "filling it");
        if ((s = check_proposal(k, l, i, p[i].fidelity)))
            return s;
    }
    l->ended = n == 0;
    return n ? tell(k, l, p, n) : LM_OK;
}

/* Steps until the end, or until there are `most` trials. */
static enum lm_status go(struct lm_kit *k, struct life *l, size_t most)
{
    enum lm_status s = LM_OK;
    while (!s && !l->ended && l->n < most && l->n < MOST)
        s = step(k, l);
    return s;
}

/* ---- checks ------------------------------------------------------------------------ */

static enum lm_status same(struct lm_kit *k, const struct life *a, const struct life *b,
                           const char *how)
{
    size_t w = a->q->n_slot + 1;
    for (size_t i = 0; i < a->n || i < b->n; i++)
        if (i >= a->n || i >= b->n ||
            memcmp(a->trace + i * w, b->trace + i * w, w * sizeof *a->trace))
            return lm_broken(k,
                             "%s: proposal %zu is another one (%s); a strategy may "
                             "depend on seed, options and outcomes only",
                             how, i, a->q->v->what);
    return LM_OK;
}

/* After the end: ask() stays empty and budget() is 0. */
static enum lm_status after_end(struct lm_kit *k, struct life *l)
{
    const struct lm_search *ops = k->plugin->ops;
    enum lm_status s = l->ended ? step(k, l) : LM_OK;
    if (!s && !l->ended)
        return l->n < MOST ? lm_broken(k, "ask() goes on after it had ended with no "
                                       "proposal") : LM_OK;
    if (!s && ops->budget(l->self))
        return lm_broken(k, "budget() is %zu after the end", ops->budget(l->self));
    return s;
}

static enum lm_status one_variant(struct lm_kit *k, struct problem *q, bool *refused)
{
    struct life a, b = { 0 };
    enum lm_status s = start(k, q, &a, refused);
    if (!s && !*refused && !(s = go(k, &a, MOST)))
        s = after_end(k, &a);
    bool again;
    if (!s && !*refused && !(s = start(k, q, &b, &again)) && !(s = go(k, &b, MOST)))
        s = same(k, &a, &b, "the same seed gives other proposals");
    end(k, &a);
    end(k, &b);
    return s;
}

static enum lm_status check_proposals(struct lm_kit *k)
{
    const struct lm_search *ops = k->plugin->ops;
    struct problem q;
    char why[512] = "";
    int n = 0;
    enum lm_status s = open_problem(k, &q);
    for (int i = 0; !s && i < N_VARIANTS; i++) {
        bool refused = false;
        if (ops->max_objectives && variant[i].n_objective > ops->max_objectives)
            continue;
        describe(&q, &variant[i]);
        s = one_variant(k, &q, &refused);
        n += !refused;
        if (refused)
            snprintf(why, sizeof why, "%.500s", k->e->text);
        *k->e = s ? *k->e : (struct lm_err){ 0 };
    }
    close_problem(&q);
    return s   ? s
           : n ? LM_OK
               : lm_broken(k,
                           "begin() refuses every problem of the kinds of "
                           "genes and objectives it declares: %s",
                           why);
}

/* The first variant that the strategy takes; -1: none. */
static int willing(struct lm_kit *k, struct problem *q)
{
    const struct lm_search *ops = k->plugin->ops;
    for (int i = 2; i >= 0; i--) {
        struct life l;
        bool refused;
        if (ops->max_objectives && variant[i].n_objective > ops->max_objectives)
            continue;
        describe(q, &variant[i]);
        enum lm_status s = start(k, q, &l, &refused);
        end(k, &l);
        if (!s && !refused)
            return i;
    }
    return -1;
}

static double other_clock(void)
{
    static double t = 1e6;
    return t += 3600;
}

static enum lm_status backwards(struct lm_run *r, int64_t n,
                                void (*body)(void *, int64_t, uint32_t), void *ctx)
{
    (void)r;
    while (n-- > 0)
        body(ctx, n, 0);
    return LM_OK;
}

/* Half a life, given up; then a whole one under another clock and other threads. */
static enum lm_status check_replay(struct lm_kit *k)
{
    struct problem q;
    struct life whole = { 0 }, half = { 0 }, again = { 0 };
    struct lm_host plain = k->host;
    bool no;
    enum lm_status s = open_problem(k, &q);
    if (!s && willing(k, &q) >= 0) {
        if (!(s = start(k, &q, &whole, &no)) && !(s = go(k, &whole, MOST)) &&
            !(s = start(k, &q, &half, &no)))
            s = go(k, &half, whole.n / 2);
        end(k, &half);
        k->host.clock = other_clock;
        k->host.parallel = backwards;
        if (!s && !(s = start(k, &q, &again, &no)) && !(s = go(k, &again, MOST)))
            s = same(k, &whole, &again, "a replay in a new instance goes on otherwise");
        end(k, &again);
        k->host = plain;
    }
    end(k, &whole);
    close_problem(&q);
    return s;
}

static enum lm_status check_two(struct lm_kit *k)
{
    struct problem q;
    struct life alone = { 0 }, a = { 0 }, b = { 0 };
    bool no;
    enum lm_status s = open_problem(k, &q);
    if (!s && willing(k, &q) >= 0) {
        if (!(s = start(k, &q, &alone, &no)) && !(s = go(k, &alone, MOST)) &&
            !(s = start(k, &q, &a, &no)))
            s = start(k, &q, &b, &no);
        while (!s && !((a.ended || a.n == MOST) && (b.ended || b.n == MOST)))
            if (!(s = go(k, &a, a.n + 1)))
                s = go(k, &b, b.n + 1);
        if (!s && !(s = same(k, &alone, &a, "two instances at once disturb each other")))
            s = same(k, &alone, &b, "two instances at once disturb each other");
    }
    end(k, &alone);
    end(k, &a);
    end(k, &b);
    close_problem(&q);
    return s;
}

static enum lm_status check_cancel(struct lm_kit *k)
{
    const struct lm_search *ops = k->plugin->ops;
    struct problem q;
    struct life l = { 0 };
    bool refused = true;
    enum lm_status s = open_problem(k, &q);
    if (!s) {
        describe(&q, &variant[!ops->max_objectives || ops->max_objectives > 1 ? 2 : 0]);
        s = start(k, &q, &l, &refused);
    }
    if (!s && !refused) {
        struct lm_proposal p = { l.buffer, 1 };
        size_t n = 0;
        s = ops->ask(l.self, &p, 1, &n, k->e);
        s = s == LM_ECANCELED ? LM_OK : s ? lm_kit_failed(k, "ask()", s) : LM_OK;
    }
    end(k, &l);
    close_problem(&q);
    return s;
}

/* ---- without memory ---------------------------------------------------------------- */

struct poor { struct lm_kit *k; const struct problem *q; union lm_value *value; };

/* A short life whose only allocations are the plugin's. */
static enum lm_status live_poorly(void *ctx)
{
    struct poor *x = ctx;
    const struct lm_search *ops = x->k->plugin->ops;
    void *self;
    enum lm_status s = lm_kit_try(x->k, &self);
    if (s)
        return s;
    s = ops->begin(self, &x->q->p, x->k->e);
    for (size_t round = 0; !s && round < 12; round++) {
        struct lm_proposal p[BATCH];
        struct lm_outcome o[BATCH];
        const struct lm_outcome *at[BATCH];
        double value[BATCH][MAX_OBJECTIVES], violation[BATCH];
        size_t n = 0;
        for (size_t i = 0; i < BATCH; i++)
            p[i] = (struct lm_proposal){ x->value + i * x->q->n_slot, 1 };
        if ((s = ops->ask(self, p, BATCH, &n, x->k->e)) || !n)
            break;
        for (size_t i = 0; i < n; i++) {
            objectives(x->q, p[i].value, round * BATCH + i, value[i]);
            violation[i] = value[i][1] / 0.7 - 1;
            o[i] = (struct lm_outcome){ sizeof o[i], LM_OK, p[i].value, value[i],
                                        &violation[i], p[i].fidelity, false };
            at[i] = &o[i];
        }
        s = ops->tell(self, at, n, x->k->e);
    }
    lm_kit_destroy(x->k, self);
    return s;
}

static enum lm_status check_memory(struct lm_kit *k)
{
    struct problem q;
    struct poor x = { .k = k, .q = &q };
    enum lm_status s = open_problem(k, &q);
    if (!s && !(x.value = lm_alloc_array(BATCH * q.n_slot, sizeof *x.value, "selftest")))
        s = lm_fail_memory(k->e, BATCH * q.n_slot * 8, "genomes");
    if (!s && willing(k, &q) >= 0)
        s = lm_kit_memory(k, live_poorly, &x);
    lm_release(x.value);
    close_problem(&q);
    return s;
}

const struct lm_kit_check lm_selftest_search[] = {
    { "ask() after a cancel", check_cancel, true },
    { "proposals", check_proposals, false },
    { "replay", check_replay, false },
    { "two instances at once", check_two, false },
    { "work without memory", check_memory, false },
    { NULL, NULL, false }
};
