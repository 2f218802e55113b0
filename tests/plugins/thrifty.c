/* SPDX-License-Identifier: Apache-2.0 */
/* thrifty.c -- a strategy that asks what genomes cost before it proposes one, and fails
 * where the answers cannot be true.  The genomes change the last gene, the last gene
 * otherwise, the first gene, and that once more.                                      */
#include <string.h>

#include "plugin.h"

struct thrifty {
    const struct lm_host *host;
    struct lm_run *run;
    const struct lm_problem *p;
    bool asked;
};

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct thrifty *s = a->host->alloc(sizeof *s, "thrifty");
    if (!s)
        return a->host->fail(e, LM_ENOMEM, "out of memory for search 'thrifty'");
    s->host = a->host;
    s->run = a->run;
    *self = s;
    return LM_OK;
}

static void destroy(void *self)
{
    struct thrifty *s = self;
    s->host->release(s);
}

static enum lm_status begin(void *self, const struct lm_problem *p, struct lm_err *e)
{
    struct thrifty *s = self;
    (void)e;
    s->p = p;
    return LM_OK;
}

static void dense(const struct thrifty *s, union lm_value *v)
{
    for (size_t i = 0; i < s->p->n_gene; i++)
        v[s->p->gene[i]->slot].integer = (int64_t)s->p->gene[i]->initial;
}

static enum lm_status ask(void *self, struct lm_proposal *out, size_t max, size_t *n,
                          struct lm_err *e)
{
    enum { GENOMES = 5 };
    struct thrifty *s = self;
    const struct lm_gene *first = s->p->gene[0], *last = s->p->gene[s->p->n_gene - 1];
    const union lm_value *ptr[GENOMES];
    double share[GENOMES];
    (void)max;
    *n = 0;
    if (s->asked)
        return LM_OK;
    s->asked = true;
    union lm_value *v = s->host->alloc(GENOMES * s->p->n_slot * sizeof *v, "thrifty");
    if (!v)
        return s->host->fail(e, LM_ENOMEM, "out of memory for search 'thrifty'");
    for (size_t i = 0; i < GENOMES; i++) {
        ptr[i] = v + i * s->p->n_slot;
        dense(s, v + i * s->p->n_slot);
    }
    if (last->kind == LM_GENE_CHOICE) {     /* 0 is the dense one */
        v[1 * s->p->n_slot + last->slot].integer = 1;
        v[2 * s->p->n_slot + last->slot].integer = 2;
    } else {
        v[1 * s->p->n_slot + last->slot].integer = (int64_t)last->min;
        v[2 * s->p->n_slot + last->slot].integer = (int64_t)(last->min + last->step);
    }
    v[3 * s->p->n_slot + first->slot].integer = (int64_t)first->min;
    v[4 * s->p->n_slot + first->slot].integer = (int64_t)first->min;
    enum lm_status st = s->host->price(s->run, ptr, GENOMES, share, e);
    if (!st && !(share[0] == 0 && share[1] > 0.5 && share[1] <= 1 && share[2] > 0 &&
                 share[2] < 0.5 && share[3] > 0.5 && share[3] <= 1 && share[4] == 0))
        st = s->host->fail(e, LM_EBUG, "prices %g %g %g %g %g", share[0], share[1], share[2],
                           share[3], share[4]);
    memcpy(out[0].value, ptr[2], s->p->n_slot * sizeof *v);
    *n = 1;
    s->host->release(v);
    return st;
}

static enum lm_status tell(void *self, const struct lm_outcome *const *o, size_t n,
                           struct lm_err *e)
{
    (void)self;
    (void)o;
    (void)n;
    (void)e;
    return LM_OK;
}

static size_t budget(void *self)
{
    (void)self;
    return 1;
}

static const struct lm_search table = {
    .struct_size = sizeof table, .genes = LM_BIT(LM_GENE_INT) | LM_BIT(LM_GENE_CHOICE),
    .begin = begin, .ask = ask, .tell = tell, .budget = budget
};

static const struct lm_module module = {
    LM_MODULE_HEAD(SEARCH), .name = "thrifty", .version = "1.0", .license = "Apache-2.0",
    .author = "Lamina", .summary = "asks what genomes cost; for tests",
    .create = create, .destroy = destroy, .ops = &table
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
