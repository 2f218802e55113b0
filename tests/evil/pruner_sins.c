/* SPDX-License-Identifier: Apache-2.0 */
/* pruner_sins.c -- a gene per MLP block, 1 keeps it; see sins.h.
 *
 * Sins: same_gene, bad_gene, no_gene, other_edit, other_scores, impure, cuts_always,
 * by_slot.  */
#include "sins.h"


static enum lm_status genes(void *self, struct lm_space *space, struct lm_err *e)
{
    struct self *s = self;
    enum lm_status st = LM_OK;
    char name[32];

    for (int32_t i = 0; !st && i < s->host->arch(s->model)->n_layer && !is("no_gene");
         i++) {
        struct lm_gene g = { .struct_size = sizeof g, .kind = LM_GENE_BOOL, .name = name,
            .initial = is("bad_gene") ? 0.5 : 1, .site = { LM_SITE_MLP, i, 0 } };
        snprintf(name, sizeof name, "sin[%d]", is("same_gene") ? 0 : i);
        st = s->host->add_gene(space, &g, e);
    }
    if (!st && is("other_scores")) {
        const double *score;
        int64_t n;
        s->host->scores(space, LM_SITE_FFN_CHANNEL, 0, &score, &n, e);
    }
    return st;
}

static enum lm_status decode(void *self, const union lm_value *value, struct lm_plan *p,
                             struct lm_err *e)
{
    struct self *s = self;
    enum lm_status st = LM_OK;
    int32_t n = s->host->arch(s->model)->n_layer, first = is("cuts_always") ? 1 : 0;

    if (is("by_slot"))
        value -= 3;
    for (int32_t i = 0; !st && i < n; i++)
        if (!value[i].integer || i < first || (is("impure") && s->asked++ % 7 == 5))
            st = s->host->edit_drop(p, (struct lm_site){
                is("other_edit") ? LM_SITE_ATTN : LM_SITE_MLP, i, 0 }, e);
    return st;
}

static const struct lm_pruner ops = {
    .struct_size = sizeof ops, .edits = LM_BIT(LM_SITE_MLP), .genes = genes,
    .decode = decode };

SIN_MODULE(PRUNER, sin_create, ops, )
