/* SPDX-License-Identifier: Apache-2.0 */
/* random.c -- uniform random search: the baseline that every strategy must beat.
 *
 * The first genomes are the problem's start, or the uncompressed one when it
 * has none, so that the front holds a reference point.  Then genes are drawn
 * independently and uniformly: a scalar over its steps (over its logarithm
 * where the gene says so), a subset by drawing its size and then its members.
 * With many genes such genomes all have nearly the same, middling size; `spread`
 * lets each genome keep a share of the uncompressed genes, the share itself
 * drawn uniformly, and so covers the sizes from there up to the whole model.
 *
 * No genome is proposed twice.  A space is taken for exhausted, and the search
 * ends, when 1000 draws in a row bring nothing new.
 *
 * Bergstra & Bengio, Random Search for Hyper-Parameter Optimization, JMLR 2012. */
#include <string.h>

#include "round.h"

enum { RETRIES = 1000, ROUND = 64 };

struct config { int64_t budget; bool spread; };

struct search {
    const struct lm_host *h;
    const struct config  *cfg;
    struct genes genes;
    struct round round;
};

static const struct lm_opt options[] = {
    LM_INT(struct config, budget, "256", 1, 1e9, "genomes", 0,
           "How many genomes to propose."),
    LM_FLAG(struct config, spread, "false", 0,
            "Keep a random share of the genes uncompressed, to cover all sizes."),
    LM_OPT_END
};

/* ---- the strategy ---------------------------------------------------------- */
static enum lm_status begin(void *self, const struct lm_problem *p, struct lm_err *e)
{
    struct search *s = self;
    enum lm_status st = genes_open(&s->genes, p, e);

    return st == LM_OK ? round_open(&s->round, &s->genes, ROUND, s->cfg->budget, e) : st;
}

static void sample(struct search *s, union lm_value *v)
{
    double keep = s->cfg->spread ? genes_unit(&s->genes) : 0;

    for (size_t i = 0; i < s->genes.p->n_gene; i++) {
        if (keep > 0 && genes_unit(&s->genes) < keep)
            genes_keep(&s->genes, i, v);
        else
            genes_draw(&s->genes, i, v);
    }
}

/* round_fill */
static enum lm_status fill(void *ctx, struct lm_err *e)
{
    struct search *s = ctx;
    union lm_value *spare = round_spare(&s->round);

    (void)e;
    round_add_starts(&s->round);
    for (int i = 0; i < RETRIES && s->round.n < ROUND; i++) {
        sample(s, spare);
        if (round_add(&s->round, spare))
            i = -1;
    }
    return LM_OK;
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
    (void)self; (void)o; (void)n; (void)e;
    return LM_OK;
}

static size_t budget(void *self)
{
    const struct search *s = self;
    return round_left(&s->round, (size_t)s->cfg->budget);
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct search *s = a->host->alloc(sizeof *s, "search/random");

    if (!s)
        return a->host->fail(e, LM_ENOMEM, "out of memory");
    s->h = a->host;
    s->cfg = a->config;
    s->genes = genes_of(a, "random");
    *self = s;
    return LM_OK;
}

static void destroy(void *self)
{
    struct search *s = self;

    round_close(&s->round);
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
        LM_MODULE_HEAD(SEARCH), .name = "random", .version = "1.0",
        .license = "Apache-2.0", .author = "the Lamina authors",
        .summary = "uniform random search, the baseline",
        .reference = "Bergstra & Bengio, JMLR 13, 2012",
        .opt = options, .config_size = sizeof(struct config),
        .create = create, .destroy = destroy, .ops = &ops,
    };
    return &m;
}
