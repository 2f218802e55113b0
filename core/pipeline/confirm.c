/* SPDX-License-Identifier: Apache-2.0 */
/* confirm.c -- what a search finds in bf16 or int8 is measured again in f32.
 *
 * Each evaluator of `evaluate` whose option `precision` is not f32 gets a twin in
 * `final`: the same options with precision f32, named ID_f32.  It is written into
 * the configuration, so that the effective pipeline says what was done.  finish.c
 * lets twins measure the whole front, and view.c ranks by what they say.      */
#include <stdio.h>
#include <string.h>

#include "pipeline/pipeline.h"

static bool is_low(const struct lm_stage *s)
{
    const struct lm_opt *o;
    for (size_t i = 0; (o = lm_opt_at(&s->plugin->module, i)); i++)
        if (o->type == LM_OPT_CHOICE && !strcmp(o->name, "precision")
            && !strcmp(o->choices[0], "f32")) {
            int64_t value;
            memcpy(&value, (const char *)s->opt.config + o->offset, sizeof value);
            return value != 0;
        }
    return false;
}

bool lm_pipeline_packs(const struct lm_pipeline *p)
{
    bool low = false;

    for (size_t i = 0; i < p->n_evaluate; i++)
        low |= is_low(&p->evaluate[i]);
    for (size_t i = 0; i < p->n_final; i++)
        low |= is_low(&p->final[i]);
    return low;
}

/* Resumed runs have the twin in their configuration. */
static bool is_there(const struct lm_conf *final, const char *id)
{
    for (size_t i = 0; i < lm_conf_items(final); i++) {
        const struct lm_conf *name = lm_conf_get(lm_conf_item(final, i), "id");
        if (name && name->type == LM_CONF_STRING && !strcmp(name->v.s, id))
            return true;
    }
    return false;
}

enum lm_status lm_confirm_stages(struct lm_pipeline *p, struct lm_err *e)
{
    enum lm_status st = LM_OK;
    for (size_t i = 0; !st && i < p->n_evaluate; i++) {
        const struct lm_stage *s = &p->evaluate[i];
        char id[96];
        const char *const set[][2] = { { "id", id }, { "precision", "f32" } };
        if (!is_low(s))
            continue;
        if (snprintf(id, sizeof id, "%s" LM_CONFIRMED, s->id) >= (int)sizeof id)
            return lm_conf_fail(e, s->at, "the name '%s' is too long", s->id);
        if (!is_there(lm_conf_get(p->conf, "final"), id))
            st = lm_conf_twin(p->conf, "final", s->at, set, 2, e);
    }
    return st;
}

bool lm_confirms(const struct lm_pipeline *p, const char *id)
{
    for (size_t i = 0; i < p->n_evaluate; i++) {
        size_t n = strlen(p->evaluate[i].id);
        if (!strncmp(id, p->evaluate[i].id, n) && !strcmp(id + n, LM_CONFIRMED))
            return true;
    }
    return false;
}
