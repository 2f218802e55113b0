/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline.c -- see pipeline.h.  Core groups (`run`, `model`, `data`, ...) are
 * checked by the same schema engine as plugins.                             */
#include "pipeline/pipeline.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "model/codec.h"
#include "pipeline/commands.h"
#include "pipeline/device.h"
#include "pipeline/negotiate.h"
#include "pipeline/refine.h"
#include "pipeline/sweep.h"
#include "plan/plan.h"

const char *const lm_pick_names[] = { "best", "knee", "smallest", NULL };
/* those that can be written, which enum lm_dtype has first */
const char *const lm_dtype_names[] = { "f32", "f16", "bf16", "q8_0", "q4_0", "q4_1",
    NULL };

enum lm_status lm_dtype_find(const char *name, uint32_t *dtype, struct lm_err *e)
{
    uint32_t n = 0;
    for (; lm_dtype_names[n]; n++)
        if (!strcmp(name, lm_dtype_names[n])) {
            *dtype = n + 1;
            return LM_OK;
        }
    if (lm_codec_named(name))
        return lm_fail(e, LM_ECONFIG, "dtype '%s' can be read but not written; there are "
                       LM_DTYPE_NAMES, name);
    const char *near = lm_nearest(name, lm_dtype_names, n);
    return lm_fail(e, LM_ECONFIG, "no dtype '%s'%s%s%s", name,
                   near ? "; did you mean '" : "; there are " LM_DTYPE_NAMES,
                   near ? near : "", near ? "'?" : "");
}

static const struct lm_opt run_schema[] = {
    LM_STRING(struct lm_run_options, name, "run", LM_NO_HASH, "name shown in reports"),
    LM_STRING(struct lm_run_options, out, "lamina-run", LM_NO_HASH, "run folder"),
    LM_INT(struct lm_run_options, seed, "1", 0, 4e18, NULL, 0,
           "seed of every random stream"),
    LM_INT(struct lm_run_options, threads, "0", 0, 1024, NULL, LM_NO_HASH,
           "threads, 0: one for each CPU; workers share them"),
    LM_INT(struct lm_run_options, workers, "0", 0, LM_MAX_WORKERS, NULL, LM_NO_HASH,
           "processes that evaluate trials, so that a crash costs no more than a trial; 0: "
           "this one does. Each has the model's f32 weights for itself"),
    LM_REAL(struct lm_run_options, worker_timeout, "600", 0.1, 1e9, "s", LM_NO_HASH,
            "a worker without a sign of life for so long is killed; at least what one item "
            "of a trial and one block of a model take"),
    LM_INT(struct lm_run_options, memory, LM_RUN_MEMORY, 1e6, 1e15, "bytes", LM_NO_HASH,
           "memory for derived matrices and packed weights (a half), the dense model's "
           "predictions and hidden states that "
           "candidates share; a model whose weights take more as floats is decoded block "
           "by block"),
    LM_INT(struct lm_run_options, batch, "32", 1, 4096, NULL, LM_EXPERT,
           "proposals evaluated together"),
    LM_FLAG(struct lm_run_options, share, "true", LM_NO_HASH | LM_EXPERT,
            "compute what candidates have in common once; false is slower, nothing else"),
    LM_INT(struct lm_run_options, finalists, "4", 0, 64, NULL, LM_NO_HASH,
           "front members that `final` measures beside the dense and the exported models"),
    LM_FLAG(struct lm_run_options, verify, "true", LM_NO_HASH,
            "read every exported file back and compare its number of layers"),
    LM_OPT_END
};
static const struct lm_opt model_schema[] = {
    LM_OPTION(struct lm_model_options, path, LM_OPT_PATH, const char *, NULL, 0, 0, NULL,
              NULL, LM_REQUIRED, "model folder or file"),
    LM_OPT_END
};
static const struct lm_opt data_schema[] = {
    LM_OPTION(struct lm_text_options, path, LM_OPT_PATH, const char *, NULL, 0, 0, NULL,
              NULL, LM_REQUIRED, "UTF-8 text file"),
    LM_REALLIST(struct lm_text_options, part, NULL, 0, 1, NULL, 0,
                "[from, to): the share of its tokens to use"),
    LM_INT(struct lm_text_options, sequences, "128", 1, 1e6, NULL, 0,
           "sequences of a calibration sample"),
    LM_INT(struct lm_text_options, length, "512", 2, 1e6, "tokens", 0,
           "length of each of them"),
    LM_INT(struct lm_text_options, seed, "0", 0, 4294967295.0, NULL, 0,
           "seed of their starts"),
    LM_INTLIST(struct lm_text_options, starts, NULL, 0, 1e15, "tokens", 0,
               "where they start in the part, in place of sequences and seed"),
    LM_FLAG(struct lm_text_options, chat, "false", 0,
            "a file of conversations, a JSON object on each line: \"messages\", or "
            "\"instruction\" and \"output\""),
    LM_OPT_END
};
static const struct lm_opt sample_schema[] = {
    LM_STRING(struct lm_sample_options, prompt, "The most important thing about", 0,
              "prompt of the sample text"),
    LM_INT(struct lm_sample_options, tokens, "40", 0, 4096, NULL, 0,
           "tokens to generate, 0: no sample"),
    LM_OPT_END
};
static const struct lm_opt race_schema[] = {
    LM_REAL(struct lm_race_options, risk, "0.05", 0, 0.5, NULL, 0,
            "probability that a trial is stopped that all items would not have shown to be "
            "dominated; 0: no race"),
    LM_INT(struct lm_race_options, first, "3", 2, 1e6, "items", 0,
           "items before the first test; the next ones are behind twice as many each"),
    LM_OPT_END
};
static const struct lm_opt goal_schema[] = {
    LM_STRING(struct lm_goal_options, metric, NULL, LM_REQUIRED, "EVALUATOR.METRIC"),
    LM_REALLIST(struct lm_goal_options, max, NULL, -1e300, 1e300, NULL, 0,
                "largest value"),
    LM_REALLIST(struct lm_goal_options, min, NULL, -1e300, 1e300, NULL, 0, "least value"),
    LM_REALLIST(struct lm_goal_options, share, NULL, 0, 1e6, NULL, 0,
            "largest value, as a share of the uncompressed model's"),
    LM_OPT_END
};
static const struct lm_opt export_schema[] = {
    LM_PICK(struct lm_export_options, dtype, "f16", lm_dtype_names, 0,
            "number format of the matrices"),
    LM_PICK(struct lm_export_options, pick, "best", lm_pick_names, 0, "which trial"),
    LM_STRING(struct lm_export_options, file, NULL, 0,
              "name inside export/, default: chosen from pick and dtype"),
    LM_OPT_END
};

static const char *const per_names[] = { "model", "role", "layer", "matrix", NULL };
static const struct lm_opt quantize_schema[] = {
    LM_PICK(struct lm_quantize_options, per, "layer", per_names, 0,
            "what has a number format of its own, and with it a gene; the same in all "
            "members"),
    LM_OPT_END
};

#define GROUP(NAME, WORD, T, S) { .name = WORD, .opt = NAME##_schema, .summary = S, \
    .opt_size = sizeof(struct lm_opt), .config_size = sizeof(T) }
static const struct lm_module
    run_group = GROUP(run, "run", struct lm_run_options, "how the run works"),
    model_group = GROUP(model, "model", struct lm_model_options,
                        "what is made smaller; use = \"FORMAT\" where its format is not plain"),
    data_group = GROUP(data, "data", struct lm_text_options,
                       "texts: a named group each; `calibration` is what scorers and repair see"),
    quantize_group = GROUP(quantize, "quantize", struct lm_quantize_options,
                           "a list; besides the options of the quantizer that `use` names"),
    sample_group = GROUP(sample, "sample", struct lm_sample_options,
                         "a text that the dense and the best model continue, for the report"),
    race_group = GROUP(race, "race", struct lm_race_options,
                       "where it is given, trials stop early that another one beats for sure"),
    goal_group = GROUP(goal, "objectives, constraints", struct lm_goal_options,
                       "lists of goals; a constraint has one of max, min, share"),
    export_group = GROUP(export, "export", struct lm_export_options,
                         "a list; besides the options of the format that `use` names");

const struct lm_module *lm_pipeline_group(size_t i)
{
    static const struct lm_module *const all[] = { &run_group, &model_group, &data_group,
        &quantize_group, &goal_group, &race_group, &export_group, &sample_group };
    size_t n = sizeof all / sizeof *all;
    return i < n ? all[i] : lm_sweep_group(i - n);
}

static const char *const keys[] = { "lamina", "run", "model", "data", "score", "prune",
    "repair", "refine", "quantize", "backend", "evaluate", "final", "objectives",
    "constraints", "search", "race", "export", "report", "sample" };

static enum lm_status check_keys(const struct lm_conf *root, struct lm_err *e)
{
    for (size_t i = 0; i < root->n; i++) {
        const char *key = root->child[i]->key;
        bool known = false;
        for (size_t j = 0; j < sizeof keys / sizeof *keys; j++)
            known |= !strcmp(key, keys[j]);
        if (known)
            continue;
        if (!strcmp(key, "sweep"))
            return lm_conf_fail(e, root->child[i], "a file with a group `sweep` is many "
                                "runs; `lamina sweep` does them");
        const char *near = lm_nearest(key, keys, sizeof keys / sizeof *keys);
        return lm_conf_fail(e, root->child[i], "unknown group '%s'%s%s%s", key,
                            near ? "; did you mean '" : "", near ? near : "",
                            near ? "'?" : "");
    }
    return LM_OK;
}

static enum lm_status fill(const struct lm_module *schema, const struct lm_conf *group,
                           const char *where, struct lm_options *out, struct lm_err *e)
{
    static struct lm_conf empty = { .type = LM_CONF_GROUP, .origin = (char *)"default" };
    if (group && group->type != LM_CONF_GROUP)
        return lm_conf_fail(e, group, "%s: expected a group { ... }", where);
    enum lm_status s = lm_options_fill(schema, group ? group : &empty, where, NULL, NULL,
                                       out, e);
    if (!s && out->n_tuned)
        return lm_conf_fail(e, out->tuned[0].at, "%s: cannot be searched", where);
    return s;
}

static enum lm_status open_run(struct lm_pipeline *p, struct lm_err *e)
{
    const struct lm_conf *model = lm_conf_get(p->conf, "model");
    enum lm_status s = fill(&run_group, lm_conf_get(p->conf, "run"), "run", &p->run_opt,
                            e);
    if (s)
        return s;
    p->options = p->run_opt.config;
    if (!model)
        return lm_conf_fail(e, p->conf, "group `model` is missing; write "
                            "model: { path = \"FOLDER_OR_FILE\"; };");
    if ((s = fill(&model_group, model, "model", &p->model_opt, e)))
        return s;
    p->model = p->model_opt.config;
    const struct lm_conf *use = lm_conf_get(model, "use");
    if (use && use->type != LM_CONF_STRING)
        return lm_conf_fail(e, use, "model: use: expected the name of a format");
    p->model_use = use ? use->v.s : NULL;
    if ((s = fill(&sample_group, lm_conf_get(p->conf, "sample"), "sample", &p->sample_opt,
                  e)))
        return s;
    p->sample = p->sample_opt.config;
    if (lm_conf_get(p->conf, "race")) {
        if ((s = fill(&race_group, lm_conf_get(p->conf, "race"), "race", &p->race_opt,
                      e)))
            return s;
        p->race = p->race_opt.config;
        p->race = p->race->risk > 0 ? p->race : NULL;
    }
    return lm_run_open((uint64_t)p->options->seed, &p->run, e);
}

static enum lm_status open_data(struct lm_pipeline *p, struct lm_err *e)
{
    const struct lm_conf *data = lm_conf_get(p->conf, "data");
    if (!data)
        return LM_OK;
    if (data->type != LM_CONF_GROUP)
        return lm_conf_fail(e, data, "data: expected a group of named texts");
    for (size_t i = 0; i < data->n; i++) {
        char where[96];
        const struct lm_conf *at = data->child[i];
        if (i == LM_MAX_STAGES)
            return lm_conf_fail(e, at, "data: more than %d texts", LM_MAX_STAGES);
        snprintf(where, sizeof where, "data.%s", at->key);
        p->n_data = i + 1;
        enum lm_status s = fill(&data_group, at, where, &p->data_opt[i], e);
        if (s)
            return s;
        const struct lm_text_options *o = p->data_opt[i].config;
        if (o->part.n && (o->part.n != 2 || o->part.v[0] >= o->part.v[1]))
            return lm_conf_fail(e, at, "%s: part: expected [from, to] with from < to",
                                where);
        p->has_calibration |= !strcmp(at->key, "calibration");
        struct lm_text_options text = *o;
        text.origin = at->origin;
        if ((s = lm_run_text(p->run, at->key, &text, e)))
            return s;
    }
    return LM_OK;
}

static enum lm_status unique(const struct lm_stage *list, size_t n,
                             const struct lm_stage *s, struct lm_err *e)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(list[i].id, s->id))
            return lm_conf_fail(e, s->at, "the name '%s' is used twice; give one of them "
                                "an `id`", s->id);
    return LM_OK;
}

/* All stages of a key; tuned options are allowed in `repair` only. */
static enum lm_status open_list(struct lm_pipeline *p, const char *key, enum lm_kind kind,
                                struct lm_stage *list, size_t *n, struct lm_err *e)
{
    const struct lm_conf *node = lm_conf_get(p->conf, key);
    for (size_t i = 0; i < lm_conf_items(node); i++) {
        char where[96];
        snprintf(where, sizeof where, "%s[%zu]", key, i);
        if (i == LM_MAX_STAGES)
            return lm_conf_fail(e, node, "%s: more than %d members", key, LM_MAX_STAGES);
        *n = i + 1;
        enum lm_status s = lm_stage_open(&list[i], kind, lm_conf_item(node, i), NULL,
                                         NULL, where, p->run, e);
        if (!s)
            s = unique(list, i, &list[i], e);
        if (!s && list[i].opt.n_tuned)
            s = lm_conf_fail(e, list[i].opt.tuned[0].at,
                             "%s: '%s' cannot be searched here; options of `repair` "
                             "can", where, list[i].opt.tuned[0].opt->name);
        if (s)
            return s;
    }
    return LM_OK;
}

/* The children of a group that a schema of the core is for. */
static void only(const struct lm_conf *at, const char *const *key, struct lm_conf *part,
                 struct lm_conf **child)
{
    *part = *at;
    part->child = child;
    part->n = 0;
    for (; *key; key++)
        if (lm_conf_get(at, *key))
            child[part->n++] = (struct lm_conf *)lm_conf_get(at, *key);
}

static enum lm_status open_quantizer(struct lm_pipeline *p, const struct lm_conf *at,
                                     size_t i, struct lm_err *e)
{
    static const char *const skip[] = { "per", NULL };
    struct lm_stage *q = &p->quantize[i];
    struct lm_options opt = { 0 };
    struct lm_conf *own[1], part;
    char where[64];
    snprintf(where, sizeof where, "quantize[%zu]", i);
    enum lm_status s = lm_stage_open(q, LM_QUANTIZER, at, NULL, skip, where, p->run, e);
    if (s || (s = unique(p->quantize, i, q, e)))
        return s;
    if (q->opt.n_tuned)
        return lm_conf_fail(e, q->opt.tuned[0].at,
                            "%s: '%s' cannot be searched here; name "
                            "the quantizer twice, with an `id`", where,
                            q->opt.tuned[0].opt->name);
    if (!lm_format_names(q->id) || !strcmp(q->id, "none"))
        return lm_conf_fail(e, at,
                            "%s: '%s' cannot be the id of a quantizer; use a-z, 0-9, "
                            "_, - and ., at most %d characters, not 'none'", where, q->id,
                            LM_FORMAT_NAME - 1);
    only(at, skip, &part, own);
    if ((s = fill(&quantize_group, &part, where, &opt, e)))
        return s;
    enum lm_per per = (enum lm_per)((const struct lm_quantize_options *)opt.config)->per;
    lm_options_free(&opt);
    if (i && per != p->per)
        return lm_conf_fail(e, at,
                            "%s: per is \"%s\", but \"%s\" in quantize[0]; give all "
                            "members the same", where, per_names[per], per_names[p->per]);
    p->per = per;
    return LM_OK;
}

static enum lm_status open_quantize(struct lm_pipeline *p, struct lm_err *e)
{
    const struct lm_conf *node = lm_conf_get(p->conf, "quantize");
    enum lm_status s = LM_OK;
    for (size_t i = 0; !s && i < lm_conf_items(node); i++) {
        if (i == LM_MAX_STAGES)
            return lm_conf_fail(e, node, "quantize: more than %d members", LM_MAX_STAGES);
        p->n_quantize = i + 1;
        s = open_quantizer(p, lm_conf_item(node, i), i, e);
    }
    return s;
}

void lm_export_name(const struct lm_export_stage *x, char out[256])
{
    const struct lm_format *f = x->stage.plugin->ops;
    if (x->o->file)
        snprintf(out, 256, "%s", x->o->file);
    else
        snprintf(out, 256, "%s-%s%s", lm_pick_names[x->o->pick],
                 lm_dtype_names[x->o->dtype], f->suffix ? f->suffix : "");
}

/* The i-th export takes no name of those before it. */
static enum lm_status new_name(const struct lm_pipeline *p, size_t i, struct lm_err *e)
{
    char name[256], other[256];
    lm_export_name(&p->export[i], name);
    for (size_t k = 0; k < i; k++) {
        lm_export_name(&p->export[k], other);
        if (!strcmp(name, other))
            return lm_conf_fail(e, p->export[i].stage.at, "export[%zu] would overwrite "
                                "export/%s of export[%zu]; give one of them another `file`",
                                i, name, k);
    }
    return LM_OK;
}

static enum lm_status open_exports(struct lm_pipeline *p, struct lm_err *e)
{
    static const char *const skip[] = { "dtype", "pick", "file", NULL };
    const struct lm_conf *node = lm_conf_get(p->conf, "export");
    for (size_t i = 0; i < lm_conf_items(node); i++) {
        const struct lm_conf *at = lm_conf_item(node, i);
        struct lm_export_stage *x = &p->export[i];
        if (i == LM_MAX_STAGES)
            return lm_conf_fail(e, node, "export: more than %d members", LM_MAX_STAGES);
        p->n_export = i + 1;
        enum lm_status s = lm_stage_open(&x->stage, LM_FORMAT, at, NULL, skip, "export",
                                         p->run, e);
        if (s)
            return s;
        struct lm_conf *own[3], part;
        only(at, skip, &part, own);
        if ((s = fill(&export_group, &part, "export", &x->opt, e)))
            return s;
        x->o = x->opt.config;
        const char *file = x->o->file;
        if (file && (!*file || *file == '.' || strchr(file, '/') || strlen(file) > 255))
            return lm_conf_fail(e, at,
                                "export: file: '%s' is no plain name; exports go to "
                                "export/ in the run folder", file);
        if ((s = new_name(p, i, e)))
            return s;
        if ((s = lm_stage_create(&x->stage, NULL, NULL, e)))
            return s;
        x->limits.struct_size = sizeof x->limits;
        const struct lm_format *f = x->stage.plugin->ops;
        uint32_t dtype = (uint32_t)x->o->dtype + 1;
        if (!(f->dtypes & LM_BIT(dtype)))
            return lm_conf_fail(e, at, "export: format '%s' cannot write %s",
                                x->stage.plugin->module.name, lm_dtype_names[dtype - 1]);
        if ((s = f->limits(x->stage.self, NULL, dtype, &x->limits, e)))
            return lm_stage_fail(&x->stage, e);
    }
    return LM_OK;
}

static enum lm_status open_goals(struct lm_pipeline *p, const char *key,
                                 struct lm_goal *list, size_t *n, bool bound,
                                 struct lm_err *e)
{
    const struct lm_conf *node = lm_conf_get(p->conf, key);
    for (size_t i = 0; i < lm_conf_items(node); i++) {
        char where[64];
        struct lm_goal *g = &list[i];
        snprintf(where, sizeof where, "%s[%zu]", key, i);
        if (i == LM_MAX_STAGES)
            return lm_conf_fail(e, node, "%s: more than %d members", key, LM_MAX_STAGES);
        *n = i + 1;
        g->at = lm_conf_item(node, i);
        enum lm_status s = fill(&goal_group, g->at, where, &g->opt, e);
        if (s)
            return s;
        g->o = g->opt.config;
        if ((s = lm_negotiate_metric(p, g, where, e)))
            return s;
        size_t given = g->o->max.n + g->o->min.n + g->o->share.n;
        if (bound && given != 1)
            return lm_conf_fail(e, g->at, "%s: give exactly one of max, min, share",
                                where);
        if (!bound && given)
            return lm_conf_fail(e, g->at, "%s: an objective has no bound; write it in "
                                "`constraints`", where);
    }
    return LM_OK;
}

static enum lm_status open_single(struct lm_pipeline *p, enum lm_kind kind,
                                  const char *key, const char *fallback,
                                  struct lm_stage *s, struct lm_err *e)
{
    return lm_stage_open(s, kind, lm_conf_get(p->conf, key), fallback, NULL, key, p->run,
                         e);
}

/* `repair` works from the dense model's statistics alone; `refine` may, too, or repair a
 * finalist's blocks in sequence.                                                    */
static enum lm_status open_repairs(struct lm_pipeline *p, struct lm_err *e)
{
    const struct lm_conf *at = lm_conf_get(p->conf, "refine");
    enum lm_status s = open_single(p, LM_REPAIR, "repair", "none", &p->repair, e);
    if (s)
        return s;
    if (lm_repair_needs(&p->repair) & LM_BIT(LM_STAT_CROSS))
        return lm_conf_fail(e, p->repair.at, "repair: 'sequential' is for finalists; "
                            "write refine: { use = \"sequential\"; }");
    if (!at)
        return LM_OK;
    if ((s = open_single(p, LM_REPAIR, "refine", NULL, &p->refine, e)))
        return s;
    if (lm_refine_replaces(p) && (lm_repair_needs(&p->refine) & LM_BIT(LM_STAT_CROSS)))
        return lm_conf_fail(e, p->refine.at, "refine: 'sequential' repairs whole candidates "
                            "and cannot be a part of '%s'",
                            p->refine.plugin->module.name);
    if (p->refine.opt.n_tuned)
        return lm_conf_fail(e, p->refine.opt.tuned[0].at, "refine: '%s' cannot be "
                            "searched: finalists are refined when the search is over",
                            p->refine.opt.tuned[0].opt->name);
    for (size_t i = 0; !lm_refine_replaces(p) && i < p->n_prune; i++)
        if (((const struct lm_pruner *)p->prune[i].plugin->ops)->edits
            & LM_BIT(LM_SITE_HIDDEN))
            return lm_conf_fail(e, at, "refine: candidates of prune[%zu] (%s) have a "
                                "narrower residual stream, which cannot be compared with "
                                "the dense model's; leave one of them out", i,
                                p->prune[i].plugin->module.name);
    return p->has_calibration ? LM_OK
        : lm_conf_fail(e, at, "refine: finalists are repaired on the calibration text; "
                       "write data: { calibration: { path = \"FILE\"; }; };");
}

static enum lm_status open_all(struct lm_pipeline *p, struct lm_err *e)
{
    enum lm_status s = check_keys(p->conf, e);
    if (!s && !lm_conf_get(p->conf, "search"))
        s = lm_conf_fail(e, p->conf, "group `search` is missing; write "
                         "search: { use = \"nsga2\"; };");
    if (s || (s = open_run(p, e)) || (s = open_data(p, e)) ||
        (s = open_list(p, "score", LM_SCORER, p->score, &p->n_score, e)) ||
        (s = open_list(p, "prune", LM_PRUNER, p->prune, &p->n_prune, e)) ||
        (s = open_repairs(p, e)) ||
        (s = open_quantize(p, e)) ||
        (s = lm_auto_conf(p->conf, &p->backend_auto, e)) ||
        (s = open_single(p, LM_BACKEND, "backend", "cpu", &p->backend, e)) ||
        (s = open_list(p, "evaluate", LM_EVALUATOR, p->evaluate, &p->n_evaluate, e)) ||
        (s = lm_confirm_stages(p, e)) || (s = lm_predict_stages(p, e)) ||
        (s = open_list(p, "final", LM_EVALUATOR, p->final, &p->n_final, e)) ||
        (s = open_list(p, "report", LM_REPORTER, p->report, &p->n_report, e)) ||
        (s = open_goals(p, "objectives", p->objective, &p->n_objective, false, e)) ||
        (s = open_goals(p, "constraints", p->constraint, &p->n_constraint, true, e)) ||
        (s = open_single(p, LM_SEARCH, "search", NULL, &p->search, e)) ||
        (s = open_exports(p, e)) || (s = lm_commands_offers(p, e)))
        return s;
    return lm_negotiate(p, e);
}

/* ---- defaults written out ------------------------------------------------------- */

/* key: of a group of the root that may be missing, else NULL */
static enum lm_status complete(struct lm_pipeline *p, const struct lm_stage *s,
                               const char *key, struct lm_err *e)
{
    struct lm_conf *group = (struct lm_conf *)s->at;    /* a node of p->conf */
    enum lm_status st = group ? LM_OK : lm_conf_group(p->conf, key, &group, e);
    for (size_t i = 0; !st && i < s->n_child; i++)
        st = complete(p, &s->child[i], NULL, e);
    return st ? st : lm_options_complete(&s->plugin->module, true, group, e);
}

static enum lm_status complete_group(struct lm_pipeline *p, const char *key,
                                     const struct lm_module *schema, struct lm_err *e)
{
    struct lm_conf *group;
    enum lm_status s = lm_conf_group(p->conf, key, &group, e);
    return s ? s : lm_options_complete(schema, false, group, e);
}

enum lm_status lm_pipeline_complete(struct lm_pipeline *p, struct lm_err *e)
{
    const struct { const struct lm_stage *v; size_t n; const char *key; } list[] = {
        { p->score, p->n_score, NULL }, { p->prune, p->n_prune, NULL },
        { &p->repair, 1, "repair" }, { &p->refine, p->refine.plugin != NULL, NULL },
        { p->quantize, p->n_quantize, NULL },
        { &p->backend, 1, "backend" },
        { p->evaluate, p->n_evaluate, NULL }, { p->final, p->n_final, NULL },
        { &p->search, 1, NULL }, { p->report, p->n_report, NULL } };
    enum lm_status s = complete_group(p, "run", &run_group, e);
    if (!s)
        s = complete_group(p, "model", &model_group, e);
    if (!s)
        s = complete_group(p, "sample", &sample_group, e);
    if (!s && lm_conf_get(p->conf, "race"))
        s = complete_group(p, "race", &race_group, e);
    for (size_t i = 0; !s && i < p->n_data; i++)
        s = lm_options_complete(&data_group, false,
                                lm_conf_get(p->conf, "data")->child[i], e);
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        for (size_t k = 0; !s && k < list[i].n; k++)
            s = complete(p, &list[i].v[k], list[i].key, e);
    for (size_t i = 0; !s && i < p->n_quantize; i++)
        s = lm_options_complete(&quantize_group, false,
                                (struct lm_conf *)p->quantize[i].at, e);
    for (size_t i = 0; !s && i < p->n_export; i++) {
        if (!(s = complete(p, &p->export[i].stage, NULL, e)))
            s = lm_options_complete(&export_group, false,
                                    (struct lm_conf *)p->export[i].stage.at, e);
    }
    return s;
}

/* ---- opening ---------------------------------------------------------------------- */

static enum lm_status open_with(struct lm_conf *conf,
                                enum lm_status (*open)(struct lm_pipeline *,
                                                       struct lm_err *),
                                struct lm_pipeline **out, struct lm_err *e)
{
    struct lm_pipeline *p = lm_alloc(sizeof *p, "pipeline");
    if (!p) {
        lm_conf_free(conf);
        return lm_fail_memory(e, sizeof *p, "the pipeline");
    }
    p->conf = conf;
    enum lm_status s = open(p, e);
    if (s) {
        lm_pipeline_close(p);
        return s;
    }
    *out = p;
    return LM_OK;
}

enum lm_status lm_pipeline_open(struct lm_conf *conf, struct lm_pipeline **p,
                                struct lm_err *e)
{
    return open_with(conf, open_all, p, e);
}

static enum lm_status open_reports(struct lm_pipeline *p, struct lm_err *e)
{
    enum lm_status s = lm_run_open(0, &p->run, e);
    return s ? s : open_list(p, "report", LM_REPORTER, p->report, &p->n_report, e);
}

enum lm_status lm_pipeline_reports(struct lm_conf *conf, struct lm_pipeline **p,
                                   struct lm_err *e)
{
    return open_with(conf, open_reports, p, e);
}

static void close_list(struct lm_stage *list, size_t n)
{
    while (n)
        lm_stage_close(&list[--n]);
}

void lm_pipeline_close(struct lm_pipeline *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->n_export; i++) {
        lm_stage_close(&p->export[i].stage);
        lm_options_free(&p->export[i].opt);
    }
    for (size_t i = 0; i < p->n_objective; i++)
        lm_options_free(&p->objective[i].opt);
    for (size_t i = 0; i < p->n_constraint; i++)
        lm_options_free(&p->constraint[i].opt);
    close_list(p->report, p->n_report);
    close_list(p->final, p->n_final);
    close_list(p->evaluate, p->n_evaluate);
    close_list(p->quantize, p->n_quantize);
    close_list(p->prune, p->n_prune);
    close_list(p->score, p->n_score);
    lm_stage_close(&p->search);
    lm_stage_close(&p->refine);
    lm_stage_close(&p->repair);
    lm_stage_close(&p->backend);
    lm_run_close(p->run);
    for (size_t i = 0; i < p->n_data; i++)
        lm_options_free(&p->data_opt[i]);
    for (size_t i = 0; i < p->n_evaluate; i++)
        lm_release(p->measured[i]);
    lm_options_free(&p->sample_opt);
    lm_options_free(&p->race_opt);
    lm_options_free(&p->model_opt);
    lm_options_free(&p->run_opt);
    lm_conf_free(p->conf);
    lm_release(p);
}
