/* SPDX-License-Identifier: Apache-2.0 */
/* check_candidate.h -- a toy model with statistics, scores and a workshop, and
 * what the tests of candidates ask of them.  Each file has its own.          */
#ifndef LM_TESTS_CHECK_CANDIDATE_H
#define LM_TESTS_CHECK_CANDIDATE_H
#include <math.h>

#include "base/hash.h"
#include "inst.h"
#include "plan/candidate.h"
#include "toy.h"

enum { LAYERS = 4, FF = 24, GROUPS = 3, HEADS = 6, SEQS = 12, LENGTH = 16, ROUND = 100 };
#define COLUMNS (HEADS * TOY_HEAD)

static struct lm_err e;
static struct inst backend, repair, flap;
static struct lm_model *model;
static struct lm_engine *engine;
static struct lm_stats *stats;
static struct lm_space *space;
static struct lm_workshop *shop;
static char folder[256];
static int32_t ids[SEQS * LENGTH];
static int32_t permute[FF];             /* of the model in use; NULL: plain */
static bool permuted;
static bool repairing;
static const struct inst *with;         /* this repair, with these biases */
static uint64_t biases;
static bool turns;
static const struct toy plain = { .n_layer = LAYERS, .n_head = HEADS, .n_kv = GROUPS,
                                  .n_ff = FF, .zero = 3 };

/* The score of a channel belongs to it, wherever it stands. */
static inline enum lm_status give(void *ctx, uint32_t site, int32_t layer,
                                  const double **score, int64_t *n, struct lm_err *err)
{
    static double s[LAYERS][3][FF];
    int kind = site == LM_SITE_KV_GROUP ? 1 : site == LM_SITE_HEAD ? 2 : 0;

    (void)ctx;
    if (site != LM_SITE_FFN_CHANNEL && !kind)
        return lm_fail(err, LM_EUNSUPPORTED, "no such score");
    *n = kind == 1 ? GROUPS : kind ? HEADS : FF;
    for (int i = 0; i < *n; i++) {
        uint64_t member = (uint64_t)(permuted && !kind ? permute[i] : i);

        s[layer][kind][i] = (double)(lm_hash_u64(member, (uint64_t)layer) >> 40);
    }
    *score = s[layer][kind];
    return LM_OK;
}

static inline uint64_t needs_of(const struct inst *r)
{
    return ((const struct lm_repair *)r->ops)->needs;
}

static inline enum lm_status choose(void *ctx, const struct lm_plan *p,
                             struct lm_repair_choice *out, struct lm_err *err)
{
    const struct lm_setting *s = lm_plan_setting(p, "repair.bad");

    (void)ctx;
    if (s)
        return lm_fail(err, LM_EINFEASIBLE, "the test refuses this setting");
    if (repairing)
        *out = (struct lm_repair_choice){ .ops = with->ops, .self = with->self,
                                          .key = with == &repair ? 17 : with == &flap
                                                 ? 18 : 19u + turns,
                                          .biases = biases, .needs = needs_of(with),
                                          .turns = turns };
    return LM_OK;
}

static inline void open_shop(size_t memory)
{
    struct lm_workshop_args a = { .engine = engine, .model = model, .stats = stats,
                                  .space = space, .repair = choose, .memory = memory };

    ck_assert_ok(lm_workshop_open(&a, &shop, &e), e);
}

static inline void open_model(const struct toy *t)
{
    model = toy_model(t);
    ck_assert_ok(lm_engine_open(model, backend.ops, backend.self, &engine, &e), e);
    ck_assert_ok(lm_stats_collect(engine, ids, SEQS, LENGTH,
                                  LM_BIT(LM_STAT_GRAM) | LM_BIT(LM_STAT_SUM)
                                  | LM_BIT(LM_STAT_STREAM),
                                  LM_BIT(LM_SITE_ATTN) | LM_BIT(LM_SITE_MLP)
                                  | LM_BIT(LM_SITE_HIDDEN), folder, &stats, &e), e);
    ck_assert_ok(lm_space_open(give, NULL, &space, &e), e);
    open_shop(1 << 20);
}

static inline void close_model(void)
{
    lm_workshop_close(shop);
    lm_space_close(space);
    lm_stats_close(stats);
    lm_engine_close(engine);
    lm_model_free(model);
}

static inline void setup(void)
{
    struct lm_rng r = lm_rng(1, "ids", 0);

    scratch_begin(folder);
    for (int i = 0; i < SEQS * LENGTH; i++)
        ids[i] = (int32_t)lm_rng_below(&r, TOY_VOCAB);
    for (int i = 0; i < FF; i++)
        permute[i] = (i * 7 + 3) % FF;
    permuted = repairing = false;
    with = &repair;
    biases = 0;
    turns = false;
    inst_open(&backend, "backends", "reference", "", NULL, NULL);
    inst_open(&repair, "repair", "least_squares", "lambda=0.01", NULL, NULL);
    inst_open(&flap, "repair", "bias", "", NULL, NULL);
    open_model(&plain);
}

static inline void teardown(void)
{
    close_model();
    inst_close(&flap);
    inst_close(&repair);
    inst_close(&backend);
    scratch_end(folder);
    ck_assert_int_eq(lm_mem_blocks(), 0);
}

static inline struct lm_plan *open_plan(void)
{
    struct lm_plan *p;

    ck_assert_ok(lm_plan_open(lm_model_arch(model), space, &p, &e), e);
    return p;
}

static inline void top(struct lm_plan *p, uint32_t site, int32_t layer, int64_t k)
{
    ck_assert_ok(lm_plan_keep_top(p, site, layer, k, &e), e);
}

static inline void drop(struct lm_plan *p, uint32_t kind, int32_t layer)
{
    ck_assert_ok(lm_plan_drop(p, (struct lm_site){ kind, layer, layer }, &e), e);
}

/* A plan with a bit of everything. */
static inline struct lm_plan *mixed(void)
{
    const int32_t odd[] = { 1, 4, 5, 17, 20 };
    struct lm_plan *p = open_plan();

    top(p, LM_SITE_FFN_CHANNEL, 0, 16);
    top(p, LM_SITE_KV_GROUP, 0, 2);
    drop(p, LM_SITE_ATTN, 1);
    ck_assert_ok(lm_plan_keep(p, LM_SITE_FFN_CHANNEL, 1, odd, 5, &e), e);
    drop(p, LM_SITE_LAYER, 2);
    drop(p, LM_SITE_MLP, 3);
    top(p, LM_SITE_KV_GROUP, 3, 1);
    ck_assert_ok(lm_plan_canonical(p, &e), e);
    return p;
}

static inline struct lm_candidate open_one(struct lm_plan *p)
{
    struct lm_candidate c;
    struct lm_err err;

    ck_assert_ok(lm_plan_canonical(p, &e), e);
    ck_assert_ok(lm_candidates_open(shop, &p, 1, &c, &err, &e), e);
    ck_assert_msg(err.code == LM_OK, "%s", err.text);
    return c;
}

static inline const struct lm_segment_spec *find(const struct lm_network *net,
                                          enum lm_segment_kind kind, int32_t layer)
{
    for (size_t i = 0; i < net->n; i++) {
        const struct lm_segment_spec *s = lm_segment_spec(net->seg[i]);

        if (s->kind == kind && (kind == LM_SEG_EMBED || kind == LM_SEG_HEAD
                                || s->layer == layer))
            return s;
    }
    return NULL;
}

static inline void losses(struct lm_engine *g, const struct lm_network *net, float *nll)
{
    struct lm_runner *r;

    ck_assert_ok(lm_runner_open(g, &r, &e), e);
    ck_assert_ok(lm_runner_losses(r, net, ids, LENGTH, nll, &e), e);
    lm_runner_close(r);
}

static inline const float *floats(uint32_t role, int32_t layer)
{
    const float *w;

    ck_assert_ok(lm_model_floats(model, role, layer, &w, &e), e);
    return w;
}

/* Members of groups in rows of q, and in rows of k and v. */
static inline void expand(const int32_t *group, int n, int32_t each, int32_t *row)
{
    for (int i = 0; i < n; i++)
        for (int32_t j = 0; j < each; j++)
            row[i * each + j] = group[i] * each + j;
}

/* Build and apply a plan in a workshop of its own, for tests of what fails. */
static inline enum lm_status candidate_life(void *ctx)
{
    struct lm_plan *p = ctx;
    struct lm_model *cut;
    struct lm_candidate c;
    struct lm_workshop *w;
    struct lm_err err;
    struct lm_workshop_args a = { .engine = engine, .model = model, .stats = stats,
                                  .space = space, .repair = choose, .memory = 5000 };
    enum lm_status st = lm_workshop_open(&a, &w, &e);

    if (st)
        return st;
    if (!(st = lm_candidates_open(w, &p, 1, &c, &err, &e))) {
        if (err.code == LM_OK && !(lm_candidate_features(&c) & LM_SHAPE_TURNED)
            && !(st = lm_apply(w, &c, &cut, &e)))
            lm_model_free(cut);
        st = st ? st : err.code;
        lm_candidate_close(w, &c);
    }
    lm_workshop_close(w);
    return st;
}

Suite *candidate_bias_suite(void);
Suite *candidate_hidden_suite(void);
Suite *candidate_spill_suite(void);
#endif
