/* SPDX-License-Identifier: Apache-2.0 */
/* evil.h -- a sound search strategy that each file here spoils in one way. */
#ifndef LM_TESTS_EVIL_H
#define LM_TESTS_EVIL_H
#include "plugin.h"

struct config { int64_t population; double rate; };

static enum lm_status begin(void *self, const struct lm_problem *p, struct lm_err *e)
{
    (void)self; (void)p; (void)e;
    return LM_OK;
}

static enum lm_status ask(void *self, struct lm_proposal *out, size_t max, size_t *n,
                          struct lm_err *e)
{
    (void)self; (void)out; (void)max; (void)e;
    *n = 0;
    return LM_OK;
}

static enum lm_status tell(void *self, const struct lm_outcome *const *o, size_t n,
                           struct lm_err *e)
{
    (void)self; (void)o; (void)n; (void)e;
    return LM_OK;
}

static size_t budget(void *self)
{
    (void)self;
    return 0;
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    (void)a; (void)e;
    *self = NULL;
    return LM_OK;
}

static void destroy(void *self) { (void)self; }

static struct lm_search ops = {
    .struct_size = sizeof ops, .genes = LM_BIT(LM_GENE_BOOL),
    .begin = begin, .ask = ask, .tell = tell, .budget = budget };

static struct lm_opt opt[] = {
    LM_INT(struct config, population, "32", 1, 1000, NULL, 0, "Size of a generation."),
    LM_REAL(struct config, rate, "0.5", 0, 1, NULL, 0, "Rate of mutation."),
    LM_OPT_END };

/* text: the name of the file; spoil: statements that change m, ops or opt. */
#define EVIL(text, spoil) \
    static struct lm_module m = { LM_MODULE_HEAD(SEARCH), .name = text, \
        .version = "1", .license = "Apache-2.0", .author = "Lamina", \
        .summary = "A plugin for tests.", .opt = opt, \
        .config_size = sizeof(struct config), .create = create, .destroy = destroy, \
        .ops = &ops }; \
    const struct lm_module *lm_plugin(void) \
    { \
        spoil \
        return &m; \
    }
#endif
