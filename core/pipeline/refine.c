/* SPDX-License-Identifier: Apache-2.0 */
/* refine.c -- see refine.h.  The work is done in plan/refine.c; what was refined once is
 * found again as long as the workshop has it, and else made again, to the same bits. */
#include "pipeline/refine.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"

bool lm_refine_replaces(const struct lm_pipeline *p)
{
    const struct lm_repair *ops = p->refine.plugin ? p->refine.plugin->ops : NULL;
    return ops && !(ops->needs & LM_BIT(LM_STAT_CROSS));
}

static enum lm_status create(struct lm_session *s, struct lm_err *e)
{
    struct lm_stage *r = &s->pipeline->refine;
    return r->self ? LM_OK : lm_stage_create(r, s->bench.model, s->bench.stats, e);
}

enum lm_status lm_refine_open(struct lm_session *s, struct lm_plan **plan,
                              struct lm_candidate *c, struct lm_err *why,
                              struct lm_err *e)
{
    bool replaces = lm_refine_replaces(s->pipeline);
    enum lm_status st = replaces ? create(s, e) : LM_OK;
    if (st)
        return st;
    s->refines = replaces;
    st = lm_candidates_open(s->bench.workshop, plan, 1, c, why, e);
    s->refines = false;
    return st;
}

enum lm_status lm_refine_check(const struct lm_pipeline *p, const struct lm_bench *b,
                               struct lm_err *e)
{
    if (!p->refine.plugin || p->beside || lm_refine_replaces(p)
        || !lm_engine_streams(b->engine))
        return LM_OK;
    return lm_conf_fail(e, p->refine.at, "refine: the model's weights take more as "
                        "floats than run.memory, and refining needs all of them; raise "
                        "run.memory or leave `refine` out");
}

enum lm_status lm_refine(struct lm_session *s, struct lm_candidate *c, struct lm_err *e)
{
    struct lm_stage *r = &s->pipeline->refine;
    struct lm_refine job;
    char folder[4096];
    int32_t *ids;
    if (!r->plugin || lm_refine_replaces(s->pipeline))
        return LM_OK;
    enum lm_status st = create(s, e);
    if (st || (st = lm_cache_folder(folder, sizeof folder, e)) ||
        (st = lm_make_folder(folder, e)) ||
        (st = lm_run_sample(s->pipeline->run, "calibration", &ids, &job.n_seq,
                            &job.length, e)))
        return st;
    job.repair = (struct lm_repair_choice){ .ops = r->plugin->ops, .self = r->self,
        .key = lm_hash_str(r->plugin->module.name, r->opt.hash) };
    job.ids = ids;
    job.memory = (size_t)s->pipeline->options->memory / 4;
    job.folder = folder;
    st = lm_candidate_refine(s->bench.workshop, c, &job, e);
    lm_release(ids);
    return st;
}
