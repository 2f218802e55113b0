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
 * With `bins` sizes are covered evenly, as by whittle's stratified sampler: of that many
 * bins of equal width between the parameters of the smallest and the uncompressed genome
 * each takes one genome before any takes a second one, and so on.  All but `tolerance`
 * bins must be full before all may take one more; where 1000 draws in a row find only
 * full ones, they may, too.
 *
 * No genome is proposed twice.  A space is taken for exhausted, and the search
 * ends, when 1000 draws in a row bring nothing new.
 *
 * Bergstra & Bengio, Random Search for Hyper-Parameter Optimization, JMLR 2012. */
#include <string.h>

#include "round.h"

enum { ROUND = 64 };

struct config { int64_t budget, bins, tolerance; bool spread; };

struct search {
    const struct lm_host *h;
    struct lm_run        *run;
    const struct config  *cfg;
    struct genes genes;
    struct round round;
    double   least, most;               /* parameters: edges of the bins        */
    int64_t *bin;                       /* [bins] genomes; NULL: none are known */
    int64_t  room;                      /* of each bin                          */
};

static const struct lm_opt options[] = {
    LM_INT(struct config, budget, "256", 1, 1e9, "genomes", 0,
           "How many genomes to propose."),
    LM_FLAG(struct config, spread, "false", 0,
            "Keep a random share of the genes uncompressed, to cover all sizes."),
    LM_INT(struct config, bins, "0", 0, 10000, "bins", 0,
           "Fill so many bins by number of parameters evenly; whittle's are 20.  0: take "
           "genomes as they come."),
    LM_INT(struct config, tolerance, "4", 0, 10000, "bins", 0,
           "With bins: so many may stay behind the others."),
    LM_OPT_END
};

/* ---- the strategy ---------------------------------------------------------- */
static enum lm_status begin(void *self, const struct lm_problem *p, struct lm_err *e)
{
    struct search *s = self;
    enum lm_status st = genes_open(&s->genes, p, e);

    return st == LM_OK ? round_open(&s->round, &s->genes, ROUND, s->cfg->budget, e) : st;
}

/* round_child */
static bool sample(void *ctx, union lm_value *v)
{
    struct search *s = ctx;
    double keep = s->cfg->spread ? genes_unit(&s->genes) : 0;

    for (size_t i = 0; i < s->genes.p->n_gene; i++) {
        if (keep > 0 && genes_unit(&s->genes) < keep)
            genes_keep(&s->genes, i, v);
        else
            genes_draw(&s->genes, i, v);
    }
    return true;
}

/* ---- bins of sizes --------------------------------------------------------- */
static enum lm_status weigh(struct search *s, const union lm_value *v, double *params,
                            struct lm_err *e)
{
    struct lm_cost cost = { .struct_size = sizeof cost };
    enum lm_status st;

    *params = 0;
    if (!LM_HAS(s->h, weigh))
        return s->h->fail(e, LM_EUNSUPPORTED, "bins: this host does not tell sizes");
    st = s->h->weigh(s->run, v, &cost, e);
    *params = (double)cost.params;
    return st;
}

/* A smallest genome that can't be built has no parameters. */
static enum lm_status open_bins(struct search *s, union lm_value *spare, struct lm_err *e)
{
    enum lm_status st;

    s->bin = s->h->alloc((size_t)s->cfg->bins * sizeof *s->bin, "search/random");
    if (!s->bin)
        return s->h->fail(e, LM_ENOMEM, "out of memory for %lld bins",
                          (long long)s->cfg->bins);
    s->room = 1;
    genes_keep_all(&s->genes, spare);
    if ((st = weigh(s, spare, &s->most, e)) != LM_OK)
        return st;
    genes_at_share(&s->genes, 0, spare);
    st = weigh(s, spare, &s->least, e);
    if (st == LM_EINFEASIBLE || s->least >= s->most)
        s->least = 0;
    return st == LM_EINFEASIBLE ? LM_OK : st;
}

/* bins: it fits in none. */
static int64_t bin_of(const struct search *s, double params)
{
    double n = (double)s->cfg->bins, at = n * (params - s->least) / (s->most - s->least);

    return at >= 0 && at <= n ? (int64_t)(at < n ? at : n - 1) : s->cfg->bins;
}

static void raise_room(struct search *s)
{
    int64_t full = 0;

    for (int64_t i = 0; i < s->cfg->bins; i++)
        full += s->bin[i] >= s->room;
    s->room += full + s->cfg->tolerance >= s->cfg->bins;
}

static enum lm_status add_binned(struct search *s, bool *added, struct lm_err *e)
{
    union lm_value *spare = round_spare(&s->round);
    bool full;                          /* something new found no room */

    *added = false;
    do {
        full = false;
        for (int i = 0; i < ROUND_DRAWS; i++) {
            double params;
            int64_t k;

            sample(s, spare);
            if (genes_known(&s->genes, spare))
                continue;
            enum lm_status st = weigh(s, spare, &params, e);
            if (st == LM_OK && (k = bin_of(s, params)) < s->cfg->bins) {
                if (s->bin[k] < s->room) {
                    s->bin[k]++;
                    raise_room(s);
                    *added = round_add(&s->round, spare);
                    return LM_OK;
                }
                full = true;
            } else if (st != LM_OK && st != LM_EINFEASIBLE) {
                return st;
            }
        }
        s->room += full;
    } while (full);
    return LM_OK;
}

static enum lm_status fill_bins(struct search *s, struct lm_err *e)
{
    bool added = true;
    enum lm_status st = s->bin ? LM_OK : open_bins(s, round_spare(&s->round), e);

    while (st == LM_OK && added && s->round.n < ROUND)
        st = add_binned(s, &added, e);
    return st;
}

/* round_fill */
static enum lm_status fill(void *ctx, struct lm_err *e)
{
    struct search *s = ctx;

    round_add_starts(&s->round);
    if (s->cfg->bins > 0)
        return fill_bins(s, e);
    round_add_made(&s->round, ROUND, ROUND_DRAWS, sample, s);
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
    s->run = a->run;
    s->cfg = a->config;
    s->genes = genes_of(a, "random");
    *self = s;
    return LM_OK;
}

static void destroy(void *self)
{
    struct search *s = self;

    s->h->release(s->bin);
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
