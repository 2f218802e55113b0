/* SPDX-License-Identifier: Apache-2.0 */
/* offer.c -- the candidate as a file, for programs of the user: written once
 * for all of them, removed before the next candidate.                       */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "study/judging.h"

uint64_t lm_subject_plan(const struct lm_subject *s)
{
    return lm_plan_hash(s->candidate->plan);
}

enum lm_status lm_subject_file(struct lm_subject *s, const char *format, uint32_t dtype,
                               const char **path, struct lm_err *e)
{
    struct lm_evaluation *v = s->evaluation;
    struct lm_err ignored = { 0 };
    if (!v->args.write || !(s->needs & LM_NEEDS_COMMANDS) || !format)
        return lm_fail(e, LM_EBUG,
                       "an evaluator wants a candidate's file without declaring "
                       "it, or in no format");
    if (!v->offer && !(v->offer = lm_alloc(MAX_OFFERS * sizeof *v->offer, "offers")))
        return lm_fail_memory(e, MAX_OFFERS * sizeof *v->offer, "a candidate's file");
    if (!dtype)
        dtype = v->args.dtype;
    for (size_t i = 0; i < v->n_offer; i++)
        if (v->offer[i].dtype == dtype && !strcmp(v->offer[i].format, format)) {
            *path = v->offer[i].path;
            return LM_OK;
        }
    if (v->n_offer == MAX_OFFERS || strlen(format) >= sizeof v->offer->format)
        return lm_fail(e, LM_ECONFIG, "commands want more than %d files of a candidate",
                       MAX_OFFERS);
    struct lm_offer *o = &v->offer[v->n_offer];
    o->dtype = dtype;
    o->path[0] = 0;
    snprintf(o->format, sizeof o->format, "%s", format);
    enum lm_status st = v->args.write(v->args.write_ctx, s->candidate, format, dtype,
                                      o->path, sizeof o->path, e);
    if (st == LM_OK) {
        v->n_offer++;
        *path = o->path;
    } else if (o->path[0])              /* what was written of it */
        lm_remove_tree(o->path, &ignored);
    return st;
}

void lm_offers_drop(struct lm_evaluation *v)
{
    struct lm_err why = { 0 };
    while (v->n_offer)
        if (lm_remove_tree(v->offer[--v->n_offer].path, &why))
            lm_log(LM_WARN, "%s", why.text);
}
