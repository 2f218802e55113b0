/* SPDX-License-Identifier: Apache-2.0 */
/* inner.c -- see inner.h. */
#include "inner.h"

enum lm_status inner_fits(const struct lm_host *h, const char *where,
                          const struct lm_instance *inner, const struct lm_problem *p,
                          struct lm_err *e)
{
    const struct lm_search *ops = inner->ops;
    const char *name = inner->name ? inner->name : "?";

    for (size_t k = 0; k < p->n_gene; k++)
        if (!(ops->genes & LM_BIT(p->gene[k]->kind)))
            return h->fail(e, LM_EUNSUPPORTED, "%s, '%s', cannot handle genes like '%s'; "
                           "use another strategy there", where, name, p->gene[k]->name);
    if (ops->max_objectives && p->n_objective > ops->max_objectives)
        return h->fail(e, LM_EUNSUPPORTED, "%s, '%s', handles at most %u objectives, the "
                       "pipeline has %zu", where, name, (unsigned)ops->max_objectives,
                       p->n_objective);
    return LM_OK;
}
