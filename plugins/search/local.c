/* SPDX-License-Identifier: Apache-2.0 */
/* local.c -- local search on the front: any member of the front so far, one gene of it
 * changed.
 *
 * The first genomes are the problem's start (or the uncompressed one), then, unless
 * `corners` is off, the smallest one, the one in the middle of all genes and a random
 * one.  After that each proposal is a random member of the set that nothing told so far
 * dominates, with one random gene at another value, drawn uniformly.  While nothing is
 * feasible that set is what violates the constraints least.  No genome is proposed twice:
 * a known one is drawn again, after 100 times at random.
 *
 * This is `local_search` of whittle (Klein et al., Structural Pruning of Pre-trained
 * Language Models via Neural Architecture Search, TMLR 2024), where `batch` is 1. */
#include <string.h>

#include "fronts.h"
#include "round.h"
#include "vary.h"

enum { FIRST = 4 };

struct config { int64_t budget, batch; bool corners; };

struct search {
    const struct lm_host *h;
    const struct config  *cfg;
    const struct lm_problem *p;
    struct genes genes;
    struct vary  vary;
    struct pool  archive;
    struct round round;
    bool   begun;                       /* corners had their turn               */
};

static const struct lm_opt options[] = {
    LM_INT(struct config, budget, "100", 1, 1e9, "genomes", 0,
           "How many genomes to propose."),
    LM_INT(struct config, batch, "1", 1, 10000, "genomes", 0,
           "How many neighbours are proposed before the front is looked at again."),
    LM_FLAG(struct config, corners, "true", 0,
            "Begin with the smallest, the middle and a random genome, too."),
    LM_OPT_END
};

static void add_corners(struct search *s)
{
    union lm_value *spare = round_spare(&s->round);

    for (int i = 0; i < 2; i++) {
        genes_at_share(&s->genes, 0.5 * i, spare);
        round_add(&s->round, spare);
    }
    round_add_random(&s->round, s->round.n + 1);
}

/* round_child */
static bool make_neighbour(void *ctx, union lm_value *child)
{
    struct search *s = ctx;
    size_t k = (size_t)genes_below(&s->genes, (double)s->archive.n);
    size_t gene = (size_t)genes_below(&s->genes, (double)s->p->n_gene);

    memcpy(child, s->archive.member[k].value, s->p->n_slot * sizeof *child);
    return vary_gene(&s->vary, gene, child);
}

/* round_fill */
static enum lm_status fill(void *ctx, struct lm_err *e)
{
    struct search *s = ctx;
    size_t front = 0;

    (void)e;
    round_add_starts(&s->round);
    if (s->round.n == 0 && s->cfg->corners && !s->begun) {
        add_corners(s);
        s->begun = true;
    }
    if (s->round.n > 0)
        return LM_OK;
    pool_rank(&s->archive);
    while (front < s->archive.n && s->archive.member[front].rank == 0)
        front++;
    s->archive.n = front;
    if (front > 0)                      /* else nothing was told of all items yet */
        round_add_made(&s->round, (size_t)s->cfg->batch, ROUND_CHILDREN,
                       make_neighbour, s);
    round_add_random(&s->round, (size_t)s->cfg->batch);
    return LM_OK;
}

/* ---- the strategy ---------------------------------------------------------- */
static enum lm_status begin(void *self, const struct lm_problem *p, struct lm_err *e)
{
    struct search *s = self;
    size_t size = s->cfg->batch > FIRST ? (size_t)s->cfg->batch : FIRST;
    enum lm_status st = genes_open(&s->genes, p, e);

    s->p = p;
    s->archive = pool_of(s->h, s->genes.tag, p);
    if (st == LM_OK)
        st = genes_needed(&s->genes, e);
    if (st == LM_OK)
        st = vary_open(&s->vary, e);
    return st == LM_OK ? round_open(&s->round, &s->genes, size, s->cfg->budget, e) : st;
}

static enum lm_status ask(void *self, struct lm_proposal *out, size_t max, size_t *n,
                          struct lm_err *e)
{
    struct search *s = self;
    return round_ask(&s->round, fill, s, out, max, n, e);
}

static enum lm_status tell(void *self, const struct lm_outcome *const *o, size_t n,
                           struct lm_err *e)
{
    struct search *s = self;
    return pool_tell(&s->archive, s->p, o, n, e);
}

static size_t budget(void *self)
{
    const struct search *s = self;
    return round_left(&s->round, (size_t)s->cfg->budget);
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct search *s = a->host->alloc(sizeof *s, "search/local");

    if (!s)
        return a->host->fail(e, LM_ENOMEM, "out of memory");
    s->h = a->host;
    s->cfg = a->config;
    s->genes = genes_of(a, "local");
    s->vary.g = &s->genes;
    *self = s;
    return LM_OK;
}

static void destroy(void *self)
{
    struct search *s = self;

    pool_close(&s->archive);
    round_close(&s->round);
    vary_close(&s->vary);
    genes_close(&s->genes);
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
        LM_MODULE_HEAD(SEARCH), .name = "local", .version = "1.0",
        .license = "Apache-2.0", .author = "the Lamina authors",
        .summary = "neighbours of the front, one gene away",
        .reference = "Klein, Golebiowski, Ma, Perrone & Archambeau, TMLR 2024",
        .opt = options, .config_size = sizeof(struct config),
        .create = create, .destroy = destroy, .ops = &ops,
    };
    return &m;
}
