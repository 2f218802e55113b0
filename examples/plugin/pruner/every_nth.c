/* SPDX-License-Identifier: Apache-2.0 */
/* every_nth.c -- pruner: removes every n-th layer, by a single gene.
 *
 * The simplest pattern of depth pruning, and one that a search over a gene for
 * each layer should beat.  The gene `every` is a choice: "none", then "every
 * 8th" down to "every 2nd" of the layers that may go; the last of each n goes.
 *
 * What to learn here: a CHOICE gene whose values are ordered; edits of whole
 * layers; shapes(), which says that what is left has no odd shapes, so that every
 * format can write it.                                                       */
#include "plugin.h"

enum { CHOICES = 8 };
static const char *const choice[CHOICES] = {
    "none", "every 8th", "every 7th", "every 6th", "every 5th", "every 4th", "every 3rd",
    "every 2nd" };

struct config { int64_t first, last; };

static const struct lm_opt options[] = {
    LM_INT(struct config, first, "1", 0, 1000, "layers", 0,
           "Layers at the start that stay."),
    LM_INT(struct config, last, "1", 0, 1000, "layers", 0,
           "Layers at the end that stay."),
    LM_OPT_END
};

struct pruner {
    const struct lm_host *host;
    int32_t first, end;                 /* layers first .. end-1 may go */
};

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    const struct config *c = a->config;
    int32_t n = a->host->arch(a->model)->n_layer;

    if (c->first + c->last >= n)
        return a->host->fail(e, LM_ECONFIG, "first and last keep all %d layers", (int)n);
    struct pruner *p = a->host->alloc(sizeof *p, "every_nth");
    if (!p)
        return a->host->fail(e, LM_ENOMEM, "out of memory");
    *p = (struct pruner){ a->host, (int32_t)c->first, n - (int32_t)c->last };
    *self = p;
    return LM_OK;
}

static void destroy(void *self)
{
    struct pruner *p = self;

    p->host->release(p);
}

static enum lm_status genes(void *self, struct lm_space *s, struct lm_err *e)
{
    const struct pruner *p = self;
    struct lm_gene g = {
        .struct_size = sizeof g, .kind = LM_GENE_CHOICE, .name = "every",
        .n = CHOICES, .choice = choice, .ordered = true, .initial = 0,
        .site = { LM_SITE_MODEL, -1, 0 }
    };

    return p->host->add_gene(s, &g, e);
}

static enum lm_status decode(void *self, const union lm_value *value,
                             struct lm_plan *plan, struct lm_err *e)
{
    const struct pruner *p = self;
    int32_t every = value[0].integer ? CHOICES + 1 - (int32_t)value[0].integer : 0;
    enum lm_status st = LM_OK;

    for (int32_t i = p->first; !st && every && i < p->end; i++)
        if ((i - p->first) % every == every - 1)
            st = p->host->edit_drop(plan, (struct lm_site){ LM_SITE_LAYER, i, i }, e);
    return st;
}

/* A layer without any block vanishes: no feature is needed to write the rest. */
static uint64_t shapes(const void *config)
{
    (void)config;
    return 0;
}

static const struct lm_pruner ops = {
    .struct_size = sizeof ops, .edits = LM_BIT(LM_SITE_LAYER),
    .genes = genes, .decode = decode, .shapes = shapes
};

const struct lm_module *lm_plugin(void)
{
    static const struct lm_module module = {
        LM_MODULE_HEAD(PRUNER), .name = "every_nth", .version = "1.0",
        .license = "Apache-2.0", .author = "Lamina",
        .summary = "removes every n-th layer",
        .opt = options, .config_size = sizeof(struct config),
        .create = create, .destroy = destroy, .ops = &ops
    };

    return &module;
}
