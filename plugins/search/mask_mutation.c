/* SPDX-License-Identifier: Apache-2.0 */
/* mask_mutation.c -- the evolution of Search for Efficient LLMs (Shen et al. 2024): a
 * population that descends from one genome, the best few as parents, and masks that
 * change by a share of their members.
 *
 * Genes that are subsets are masks, and their sizes are ratios; all other genes are
 * ratios too, but those of whole layers (LM_SITE_LAYER), which are depth.
 *
 * - First the problem's start (or the uncompressed genome) alone: bounds are priced
 *   from it.  From the uncompressed genome, where masks have scores and there are bounds,
 *   the search descends to the genome that keeps what is most important and fits: one at
 *   a time, as the price of it becomes known.  Then a generation of mutants of the
 *   start, with the probabilities `first_` and without a change of depth.  Then
 *   generations of `mutants` of parents, `crossovers` of two of them, and the rest
 *   mutants with the probabilities `first_`.
 * - Parents: the best `parents` genomes ever told, by constrained domination and the
 *   first objective.  Others are not looked at.
 * - A ratio moves up or down by up to `reach` of its range, at least a step.
 * - A mask of k members that is to have k2 keeps ceil(alpha min(k, k2)) of them,
 *   uniformly chosen, and is filled from all others, by lot or by importance.  The paper
 *   draws random masks until one has alpha n members in common with the old one, of n in
 *   all; that hardly ever happens for k below 0.9 n, and the old mask, of the old size,
 *   stays.  `literal` does so.
 * - Crossover takes each layer whole from one of the parents, so that ratios and masks
 *   stay together.
 * - Bounds: ratios of a child move, at random genes, until it is priced within all of
 *   them (prices.h), and if it is too small, until it is within `band` of one.  Its price
 *   is that of the model, corrected by what the model is wrong for its parent.  The paper
 *   draws anew instead, which takes long where few genomes fit.  Constraints that are not
 *   the bounds of objectives have partial prices: of those that are kept nothing is told.
 *
 * Invariants: after sort_parents() the pool holds the parents, best first; f of a member
 * is [1 + prices]: the first objective, then each excess, NAN where it is not known. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fronts.h"
#include "importance.h"
#include "prices.h"
#include "round.h"
#include "vary.h"

enum { MOVES = 20, DESCENTS = 6, HALVINGS = 40 };
#define BOLD 0.1                        /* children aimed beyond partial prices */
enum fill { BY_LOT, BY_SCORE };
enum crossing { BY_LAYER, BY_GENE };
enum begin { ALL_ALIKE, ALL_COMPETE, WHOLE };

struct config {
    int64_t population, generations, budget, parents, tries, start, fill, crossover;
    double  mutants, crossovers, depth, ratio, mask, first_ratio, first_mask, reach;
    double  alpha, band;
    bool    literal;
};
struct rates { double depth, ratio, mask; };
struct lot { double key; uint32_t member; };

struct search {
    const struct lm_host *h;
    const struct config  *cfg;
    const struct lm_problem *p;
    struct lm_run *run;
    struct genes genes;
    struct vary vary;                   /* for genes that only change           */
    struct pool pool;
    struct round round;
    struct prices prices;
    struct importance importance;
    int     descents;                   /* that are left                        */
    bool    descended;                  /* they are over                        */
    bool    by_bound;                   /* excess of objectives, not of constraints */
    size_t  n_pop, generation;
    union lm_value *child, *other;      /* [n_slot] scratch                     */
    struct lot *lot;                    /* [most members of a gene] scratch     */
    double *number, *excess;            /* [1 + prices], [prices] scratch       */
};

static const char *const fills[] = { "lot", "score", NULL };
static const char *const crossings[] = { "layer", "gene", NULL };
static const char *const begins[] = { "layer", "global", "whole", NULL };
static const struct lm_opt options[] = {
    LM_INT(struct config, population, "100", 4, 10000, "genomes", 0,
           "How many genomes are made in each generation."),
    LM_INT(struct config, generations, "50", 1, 1e6, NULL, 0,
           "How many populations are evaluated, the first included."),
    LM_INT(struct config, budget, "0", 0, 1e9, "genomes", 0,
           "How many genomes to propose at most; 0: population * generations."),
    LM_INT(struct config, parents, "10", 1, 10000, "genomes", 0,
           "How many of the best genomes so far children are made of."),
    LM_REAL(struct config, mutants, "0.5", 0, 1, NULL, 0,
            "Share of children that are mutants with the later probabilities."),
    LM_REAL(struct config, crossovers, "0.3", 0, 1, NULL, 0,
            "Share of children that are crossovers; the rest are mutants with the first "
            "probabilities."),
    LM_REAL(struct config, depth, "0.1", 0, 1, NULL, 0,
            "Probability that one gene of whole layers moves a step; not in the first "
            "generation."),
    LM_REAL(struct config, ratio, "0.1", 0, 1, NULL, 0,
            "Probability that a ratio moves."),
    LM_REAL(struct config, mask, "0.3", 0, 1, NULL, 0,
            "Probability that a mask changes though its size stays."),
    LM_REAL(struct config, first_ratio, "0.3", 0, 1, NULL, 0,
            "The same of ratios, in the first generation and for the fresh share."),
    LM_REAL(struct config, first_mask, "0.6", 0, 1, NULL, 0,
            "The same of masks, in the first generation and for the fresh share."),
    LM_REAL(struct config, reach, "0.1", 0, 1, NULL, 0,
            "How far a ratio moves at most, as a share of its range; one step at least."),
    LM_REAL(struct config, alpha, "0.8", 0, 1, NULL, 0,
            "Share of its members that a mask keeps when it changes; literal: share of "
            "all members, in it or not, that it must have in common with the old one."),
    LM_PICK(struct config, start, "layer", begins, 0,
            "What the first mutants are made of, where masks have scores and there are "
            "bounds: masks of the best members, the same share of each or by one ranking "
            "of all, or the whole model."),
    LM_PICK(struct config, fill, "lot", fills, 0,
            "What a mask is filled with: all others alike, or by their importance."),
    LM_PICK(struct config, crossover, "layer", crossings, 0,
            "What comes whole from one of two parents: the genes of a layer, or a gene."),
    LM_REAL(struct config, band, "0.01", 0, 1, NULL, 0,
            "How far below its bounds a child may be before its ratios grow; 0: any."),
    LM_FLAG(struct config, literal, "false", 0,
            "Change masks by the paper's acceptance test, which hardly ever accepts."),
    LM_INT(struct config, tries, "1000", 1, 1e6, NULL, LM_EXPERT,
           "With literal: how many masks are drawn at most for each gene."),
    LM_OPT_END
};

/* ---- masks ----------------------------------------------------------------- */
static int falling(const void *x, const void *y)
{
    const struct lot *a = x, *b = y;

    if (a->key != b->key)
        return a->key > b->key ? -1 : 1;
    return a->member < b->member ? -1 : 1;
}

/* Importance as a weight, 0.01 .. 1; 1 where there is none. */
static double weight(const struct search *s, const struct lm_gene *g, uint32_t i,
                     double low, double high)
{
    if (s->cfg->fill == BY_LOT || !(high > low) || !isfinite(g->score[i]))
        return 1;
    return 0.01 + 0.99 * (g->score[i] - low) / (high - low);
}

/* Adds `want` of the members that are not in v: the largest u^(1/w) (Efraimidis &
 * Spirakis 2006), as logarithms.                                                 */
static void fill_mask(struct search *s, const struct lm_gene *g, union lm_value *v,
                      uint32_t want)
{
    double low = INFINITY, high = -INFINITY;
    size_t n = 0;

    for (uint32_t i = 0; g->score && i < g->n; i++) {
        low = isfinite(g->score[i]) ? fmin(low, g->score[i]) : low;
        high = isfinite(g->score[i]) ? fmax(high, g->score[i]) : high;
    }
    for (uint32_t i = 0; i < g->n; i++)
        if (!genes_has(v, i)) {
            double key = log(1 - genes_unit(&s->genes)) / weight(s, g, i, low, high);
            s->lot[n++] = (struct lot){ key, i };
        }
    qsort(s->lot, n, sizeof *s->lot, falling);
    for (size_t i = 0; i < want && i < n; i++)
        genes_flip(v, s->lot[i].member);
}

/* Leaves `keep` of the n members, uniformly chosen (Knuth's algorithm S). */
static void thin(struct search *s, const struct lm_gene *g, union lm_value *v, uint32_t n,
                 uint32_t keep)
{
    for (uint32_t i = 0; i < g->n && n > 0; i++) {
        if (!genes_has(v, i))
            continue;
        if (genes_below(&s->genes, n--) < keep)
            keep--;
        else
            genes_flip(v, i);
    }
}

static void redraw(struct search *s, const struct lm_gene *g, union lm_value *v,
                   uint32_t size)
{
    union lm_value *draft = s->other + g->slot;

    for (int64_t i = 0; i < s->cfg->tries; i++) {
        uint32_t both = 0;
        genes_draw_subset(&s->genes, g, draft, size);
        for (uint32_t m = 0; m < g->n; m++)
            both += genes_has(v, m) && genes_has(draft, m);
        if (both >= s->cfg->alpha * g->n) {
            memcpy(v, draft, g->slots * sizeof *v);
            return;
        }
    }
}

/* A mask of n members gets `size`, and keeps the share alpha. */
static void change_mask(struct search *s, const struct lm_gene *g, union lm_value *v,
                        uint32_t n, uint32_t size, double alpha)
{
    uint32_t keep = (uint32_t)ceil(alpha * (n < size ? n : size) - 1e-9);

    thin(s, g, v, n, keep);
    fill_mask(s, g, v, size - keep);
}

/* ---- ratios ---------------------------------------------------------------- */
/* A gene as a number of steps: of a subset, members over the least; of a continuous
 * gene, 64ths.                                                                   */
static double steps_of(const struct axis *a)
{
    const struct lm_gene *g = a->gene;

    return g->kind == LM_GENE_SUBSET ? g->max - g->min : a->continuous ? 64 : a->top;
}

static double place_of(const struct axis *a, const union lm_value *genome)
{
    const struct lm_gene *g = a->gene;

    if (g->kind == LM_GENE_SUBSET)
        return genes_count(g, genome + g->slot) - g->min;
    return genes_get(a, genome) * (a->continuous ? 64 / fmax(a->top, 1e-300) : 1);
}

/* What moves along its range; whole layers are apart. */
static bool is_depth(const struct axis *a)
{
    return a->gene->site.kind == LM_SITE_LAYER && a->gene->kind != LM_GENE_SUBSET;
}

static double reach_of(const struct search *s, const struct axis *a)
{
    return fmax(floor(s->cfg->reach * steps_of(a)), 1);
}

/* So many steps from where it is; a subset keeps what it can. */
static void move(struct search *s, const struct axis *a, double steps,
                 union lm_value *genome)
{
    const struct lm_gene *g = a->gene;
    double to = fmin(fmax(place_of(a, genome) + steps, 0), steps_of(a));

    if (g->kind == LM_GENE_SUBSET)
        change_mask(s, g, genome + g->slot, genes_count(g, genome + g->slot),
                    (uint32_t)(g->min + to), 1);
    else
        genes_put(a, a->continuous ? to * a->top / 64 : to, genome);
}

/* Steps up or down within reach; the other way where the range ends. */
static double draw_steps(struct search *s, const struct axis *a, double reach,
                         const union lm_value *genome)
{
    double by = 1 + genes_below(&s->genes, reach), at = place_of(a, genome);

    if (a->continuous)
        by = reach * (1 - genes_unit(&s->genes));
    if (genes_unit(&s->genes) < 0.5 ? at > 0 : at >= steps_of(a))
        by = -by;
    return by;
}

static void mutate_subset(struct search *s, const struct axis *a, struct rates r,
                          union lm_value *genome)
{
    const struct lm_gene *g = a->gene;
    union lm_value *v = genome + g->slot;
    uint32_t n = genes_count(g, v), size = n;

    if (genes_unit(&s->genes) < r.ratio) {
        double to = n - g->min + draw_steps(s, a, reach_of(s, a), genome);
        size = (uint32_t)(g->min + fmin(fmax(to, 0), g->max - g->min));
    }
    if (genes_unit(&s->genes) >= r.mask && size == n)
        return;
    if (s->cfg->literal)
        redraw(s, g, v, size);
    else
        change_mask(s, g, v, n, size, s->cfg->alpha);
}

/* One gene of whole layers, from a random place on. */
static void mutate_depth(struct search *s, union lm_value *genome)
{
    size_t n = s->p->n_gene, from = (size_t)genes_below(&s->genes, (double)n);

    for (size_t k = 0; k < n; k++) {
        const struct axis *a = &s->genes.axis[(from + k) % n];
        if (!is_depth(a))
            continue;
        move(s, a, draw_steps(s, a, 1, genome), genome);
        return;
    }
}

static void mutate(struct search *s, struct rates r, union lm_value *genome)
{
    if (genes_unit(&s->genes) < r.depth)
        mutate_depth(s, genome);
    for (size_t i = 0; i < s->p->n_gene; i++) {
        const struct axis *a = &s->genes.axis[i];
        if (a->gene->kind == LM_GENE_SUBSET)
            mutate_subset(s, a, r, genome);
        else if (is_depth(a) || genes_unit(&s->genes) >= r.ratio)
            continue;
        else if (a->ordered)
            move(s, a, draw_steps(s, a, reach_of(s, a), genome), genome);
        else
            vary_gene(&s->vary, i, genome);
    }
}

/* Genes of one layer go together: by_layer has them side by side. */
static void cross(struct search *s, const union lm_value *two, union lm_value *genome)
{
    bool take = false;

    for (size_t i = 0; i < s->p->n_gene; i++) {
        const struct lm_gene *g = s->p->gene[s->vary.by_layer[i]];
        const struct lm_gene *last = i ? s->p->gene[s->vary.by_layer[i - 1]] : NULL;

        if (s->cfg->crossover == BY_GENE || !last || g->site.layer < 0
            || g->site.layer != last->site.layer)
            take = genes_unit(&s->genes) < 0.5;
        if (take)
            memcpy(genome + g->slot, two + g->slot, g->slots * sizeof *genome);
    }
}

/* ---- bounds ---------------------------------------------------------------- */
/* The excess nearest to, or farthest beyond, its bound; prices.n: none is known. */
static size_t worst(const struct search *s)
{
    size_t k = s->prices.n;

    for (size_t i = 0; i < s->prices.n; i++)
        if (!isnan(s->excess[i]) && (k == s->prices.n || s->excess[i] > s->excess[k]))
            k = i;
    return k;
}

/* Steps of a gene that take excess k to 0: away from it rounded up, towards it
 * rounded down, and then no other excess above 0; within reach and range; 0: none. */
static double useful_steps(const struct search *s, size_t gene, size_t k,
                           const union lm_value *genome)
{
    const struct axis *a = &s->genes.axis[gene];
    double price = prices_step(&s->prices, k, gene), at, room, want;

    if ((!a->ordered && a->gene->kind != LM_GENE_SUBSET) || fabs(price) < 1e-12)
        return 0;
    want = fabs(s->excess[k] / price);
    at = place_of(a, genome);
    bool shrink = s->excess[k] > 0, up = shrink == (price < 0);
    room = floor((up ? steps_of(a) - at : at) + 1e-9);
    for (size_t i = 0; !shrink && i < s->prices.n; i++) {
        double rise = prices_step(&s->prices, i, gene) * (up ? 1 : -1);
        if (rise > 1e-12 && !isnan(s->excess[i]))
            want = fmin(want, -s->excess[i] / rise);
    }
    want = fmin(shrink ? ceil(want) : floor(want), fmin(room, reach_of(s, a)));
    return up ? want : -want;
}

/* Moves one gene, from a random place on, that brings excess k nearer to 0; those of
 * whole layers only where no other can.                                          */
static bool move_towards(struct search *s, size_t k, union lm_value *genome)
{
    size_t n = s->p->n_gene, from = (size_t)genes_below(&s->genes, (double)n);

    for (int depth = 0; depth < 2; depth++)
        for (size_t i = 0; i < n; i++) {
            size_t g = (from + i) % n;
            const struct axis *a = &s->genes.axis[g];
            double steps = is_depth(a) == depth ? useful_steps(s, g, k, genome) : 0;
            if (steps == 0)
                continue;
            move(s, a, steps, genome);
            for (size_t j = 0; j < s->prices.n; j++)
                s->excess[j] += steps * prices_step(&s->prices, j, g);
            return true;
        }
    return false;
}

static void repair(struct search *s, const struct member *parent, union lm_value *genome)
{
    size_t k;

    for (size_t i = 0; i < s->prices.n; i++) {
        double wrong = parent->f[1 + i] - prices_excess(&s->prices, i, parent->value);
        s->excess[i] = prices_excess(&s->prices, i, genome)
                     + (isfinite(wrong) ? wrong : 0);
        if (!s->by_bound && genes_unit(&s->genes) < BOLD)
            s->excess[i] -= genes_unit(&s->genes) * s->prices.price[i].spread;
    }
    for (size_t i = 0; i < MOVES * s->p->n_gene; i++) {
        k = worst(s);
        if (k == s->prices.n || (s->excess[k] <= 1e-9 && !(s->cfg->band > 0
                                 && s->excess[k] < -s->cfg->band)))
            return;
        if (!move_towards(s, k, genome))
            return;
    }
}

/* ---- generations ----------------------------------------------------------- */
static int by_merit(const void *x, const void *y)
{
    const struct member *a = x, *b = y;

    if (a->violation != b->violation)
        return a->violation < b->violation ? -1 : 1;
    if (a->f[0] != b->f[0])
        return a->f[0] < b->f[0] ? -1 : 1;
    return a->birth < b->birth ? -1 : 1;
}

static void sort_parents(struct search *s)
{
    qsort(s->pool.member, s->pool.n, sizeof *s->pool.member, by_merit);
    if (s->pool.n > (size_t)s->cfg->parents)
        s->pool.n = (size_t)s->cfg->parents;
}

static const struct member *any_parent(struct search *s)
{
    return &s->pool.member[(size_t)genes_below(&s->genes, (double)s->pool.n)];
}

/* r NULL: crossovers */
struct descent { struct search *s; const struct rates *r; };

/* round_child */
static bool make_child(void *ctx, union lm_value *child)
{
    const struct descent *d = ctx;
    struct search *s = d->s;
    const struct member *parent = any_parent(s);

    memcpy(child, parent->value, s->p->n_slot * sizeof *child);
    if (d->r)
        mutate(s, *d->r, child);
    else
        cross(s, any_parent(s)->value, child);
    repair(s, parent, child);
    return true;
}

static void add_children(struct search *s, size_t until, const struct rates *r)
{
    round_add_made(&s->round, until, ROUND_CHILDREN, make_child,
                   &(struct descent){ s, r });
}

/* The largest share whose genome is priced within the bounds, a little below them. */
static double fitting_share(struct search *s)
{
    double low = 0, high = 1;

    for (int i = 0; i < HALVINGS; i++) {
        double share = (low + high) / 2, most = -INFINITY;

        importance_genome(&s->importance, share, s->child);
        for (size_t k = 0; k < s->prices.n; k++)
            most = fmax(most, prices_excess(&s->prices, k, s->child));
        if (most > -s->cfg->band / 4)
            high = share;
        else
            low = share;
    }
    return low;
}

/* A round of the genome that keeps what is most important, while the best so far breaks
 * a bound or is far below all of them; false: that is over.                     */
static bool descend(struct search *s)
{
    const struct member *best = s->pool.n > 0 ? &s->pool.member[0] : NULL;
    double most = -INFINITY;

    for (size_t i = 0; best && i < s->prices.n; i++)
        if (!isnan(best->f[1 + i]))
            most = fmax(most, best->f[1 + i]);
    bool first = s->descents == DESCENTS, fits = most <= 0;
    if (s->descents-- <= 0 || !best || !isfinite(most)
        || (fits && (first || most >= -s->cfg->band)))
        return false;
    importance_genome(&s->importance, fitting_share(s), s->child);
    return round_add(&s->round, s->child);
}

/* round_fill */
static enum lm_status next_generation(void *ctx, struct lm_err *e)
{
    struct search *s = ctx;
    const struct config *c = s->cfg;
    struct rates later = { c->depth, c->ratio, c->mask };
    struct rates first = { s->generation > 0 ? c->depth : 0, c->first_ratio,
                           c->first_mask };
    size_t mutants = (size_t)(c->mutants * (double)s->n_pop + 0.5);
    size_t crossed = mutants + (size_t)(c->crossovers * (double)s->n_pop + 0.5);
    enum lm_status st;

    if (round_add_starts(&s->round) && s->round.n > 0)
        return LM_OK;
    if ((st = prices_learn(&s->prices, e)) != LM_OK)
        return st;
    sort_parents(s);
    if (!s->descended) {
        if (descend(s))
            return LM_OK;
        s->descended = true;
        s->pool.n = s->pool.n > 0;      /* the start alone */
    }
    if (s->pool.n > 0) {
        if (s->generation++ > 0) {
            add_children(s, mutants < s->n_pop ? mutants : s->n_pop, &later);
            add_children(s, crossed < s->n_pop ? crossed : s->n_pop, NULL);
        }
        add_children(s, s->n_pop, &first);
    }
    if (s->round.n == 0)
        round_add_random(&s->round, s->n_pop);
    return LM_OK;
}

/* ---- the strategy ---------------------------------------------------------- */
static int64_t all_trials(const struct config *c)
{
    return c->budget ? c->budget : c->population * c->generations;
}

static enum lm_status ask(void *self, struct lm_proposal *out, size_t max, size_t *n,
                          struct lm_err *e)
{
    struct search *s = self;
    return round_ask(&s->round, next_generation, s, out, max, n, e);
}

/* The excesses of an outcome: of bounded objectives, or else of broken constraints. */
static void read_excess(const struct search *s, const struct lm_outcome *o, double *x)
{
    size_t n = s->by_bound ? s->p->n_objective : s->p->n_constraint;

    for (size_t i = 0; i < n; i++) {
        double bound = s->by_bound ? s->p->objective[i]->bound : 0;
        if (!s->by_bound)
            *x++ = o->violation[i] > 0 ? o->violation[i] : NAN;
        else if (bound < INFINITY)
            *x++ = (o->objective[i] - bound) / fmax(fabs(bound), 1e-12);
    }
}

static enum lm_status tell(void *self, const struct lm_outcome *const *o, size_t n,
                           struct lm_err *e)
{
    struct search *s = self;
    enum lm_status st = LM_OK;

    for (size_t i = 0; i < n && st == LM_OK; i++) {
        double violation = outcome_violation(s->p, o[i]);
        if (!outcome_counts(o[i]))
            continue;
        s->number[0] = 0;
        for (size_t k = 0; violation < INFINITY && k < 1 + s->prices.n; k++) {
            if (k == 0) {
                s->number[0] = o[i]->objective[0];
                read_excess(s, o[i], s->number + 1);
            } else if (isfinite(s->number[k])) {
                prices_tell(&s->prices, k - 1, o[i]->value, s->number[k]);
            }
        }
        st = pool_add(&s->pool, o[i]->value, s->number, violation, e);
    }
    return st;
}

static enum lm_status open_scratch(struct search *s, struct lm_err *e)
{
    size_t most = 1, n = s->p->n_slot + 1;
    const char *tag = s->genes.tag;

    for (size_t i = 0; i < s->p->n_gene; i++)
        if (s->p->gene[i]->kind == LM_GENE_SUBSET && s->p->gene[i]->n > most)
            most = s->p->gene[i]->n;
    s->child = s->h->alloc(2 * n * sizeof *s->child, tag);
    s->lot = s->h->alloc(most * sizeof *s->lot, tag);
    s->number = s->h->alloc((2 * s->prices.n + 1) * sizeof *s->number, tag);
    if (!s->child || !s->lot || !s->number)
        return s->h->fail(e, LM_ENOMEM, "out of memory for genomes of %zu values",
                          s->p->n_slot);
    s->other = s->child + n;
    s->excess = s->number + 1 + s->prices.n;
    return LM_OK;
}

static enum lm_status begin(void *self, const struct lm_problem *p, struct lm_err *e)
{
    struct search *s = self;
    enum lm_status st = genes_open(&s->genes, p, e);

    s->p = p;
    s->by_bound = bounds_say_all(p);
    if (st == LM_OK)
        st = genes_needed(&s->genes, e);
    if (st == LM_OK)
        st = prices_open(&s->prices, &s->genes,
                         s->by_bound ? bounds_of(p) : p->n_constraint, e);
    s->pool = pool_of(s->h, s->genes.tag, p);
    s->pool.n_obj = 1 + s->prices.n;
    if (st == LM_OK)
        st = vary_open(&s->vary, e);
    if (st == LM_OK)
        st = round_open(&s->round, &s->genes, s->n_pop, all_trials(s->cfg), e);
    if (st == LM_OK)
        st = importance_open(&s->importance, &s->genes, s->cfg->start == ALL_COMPETE, e);
    s->descents = s->importance.n > 0 && s->prices.n > 0 && p->n_start == 0
        && s->cfg->start != WHOLE ? DESCENTS : 0;
    s->descended = s->descents == 0;
    if (st == LM_OK && p->n_constraint == 0)
        s->h->log(s->run, LM_WARN, "search 'mask_mutation' looks at the first objective "
                  "only; without a constraint on size little will be cut");
    return st == LM_OK ? open_scratch(s, e) : st;
}

static size_t budget(void *self)
{
    const struct search *s = self;
    return round_left(&s->round, (size_t)all_trials(s->cfg));
}

static enum lm_status check(const struct lm_host *h, const void *config,
                            struct lm_err *e)
{
    const struct config *c = config;

    return c->mutants + c->crossovers <= 1 + 1e-9 ? LM_OK
        : h->fail(e, LM_ECONFIG, "mutants + crossovers = %g, but they are shares of the "
                  "population; lower one of them", c->mutants + c->crossovers);
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct search *s = a->host->alloc(sizeof *s, "search/mask_mutation");

    if (!s)
        return a->host->fail(e, LM_ENOMEM, "out of memory");
    s->h = a->host;
    s->cfg = a->config;
    s->run = a->run;
    s->n_pop = (size_t)s->cfg->population;
    s->genes = genes_of(a, "mask_mutation");
    s->vary = (struct vary){ .g = &s->genes };
    *self = s;
    return LM_OK;
}

static void destroy(void *self)
{
    struct search *s = self;

    prices_close(&s->prices);
    importance_close(&s->importance);
    pool_close(&s->pool);
    round_close(&s->round);
    vary_close(&s->vary);
    genes_close(&s->genes);
    s->h->release(s->child);
    s->h->release(s->lot);
    s->h->release(s->number);
    s->h->release(s);
}

static const struct lm_search ops = {
    .struct_size = sizeof ops,
    .genes = GENES_ALL,
    .begin = begin, .ask = ask, .tell = tell, .budget = budget,
};

const struct lm_module *lm_plugin(void)
{
    static const struct lm_module m = {
        LM_MODULE_HEAD(SEARCH), .name = "mask_mutation", .version = "1.0",
        .license = "Apache-2.0", .author = "the Lamina authors",
        .summary = "evolves masks and ratios of one genome (Search for Efficient LLMs)",
        .reference = "Shen et al., arXiv 2409.17372, 2024",
        .opt = options, .config_size = sizeof(struct config), .check = check,
        .create = create, .destroy = destroy, .ops = &ops,
    };
    return &m;
}
