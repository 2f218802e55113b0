/* SPDX-License-Identifier: Apache-2.0 */
/* check_candidate_bias.c -- biases that repair makes: against sums in plain
 * loops, in the model that leaves, and in what it costs.                     */
#include "check_candidate.h"

/* sum over the removed columns of weight times mean, plus what the dense has */
static void check_bias(const struct lm_segment_spec *s, uint32_t role, uint32_t bias_role,
                       uint32_t site, int64_t k, const int32_t *column)
{
    const struct lm_mat *got = site == LM_SITE_MLP ? &s->down : &s->o;
    const float *w = floats(role, s->layer), *dense = floats(bias_role, s->layer);
    const double *sum;
    int64_t n;

    ck_assert_ptr_nonnull(got->bias);
    ck_assert_ok(lm_stats_get(stats, LM_STAT_SUM, site, s->layer, &sum, &n, &e), e);
    for (int64_t i = 0; i < TOY_HIDDEN; i++) {
        double want = dense ? dense[i] : 0;

        for (int64_t j = got->cols; j < k; j++)
            want += w[i * k + column[j]] * sum[column[j]] / (SEQS * LENGTH);
        ck_assert_msg(fabs(got->bias[i] - want) <= 1e-5 * (1 + fabs(want)),
                      "layer %d, row %d: %.9g, not %.9g", s->layer, (int)i, got->bias[i],
                      want);
    }
}

static void check_biases(const struct lm_candidate *c)
{
    const struct lm_segment_spec *s = find(&c->net, LM_SEG_MLP, 0);
    const int32_t *order;
    int32_t row[COLUMNS];
    int64_t n;

    ck_assert_ok(lm_space_order(space, LM_SITE_FFN_CHANNEL, 0, &order, &n, &e), e);
    check_bias(s, LM_W_DOWN, LM_B_DOWN, LM_SITE_MLP, FF, order);
    s = find(&c->net, LM_SEG_ATTN, 3);
    ck_assert_ok(lm_space_order(space, LM_SITE_KV_GROUP, 3, &order, &n, &e), e);
    expand(order, GROUPS, TOY_HEAD * HEADS / GROUPS, row);
    check_bias(s, LM_W_O, LM_B_O, LM_SITE_ATTN, COLUMNS, row);
}

static void applied_is_the_same(const struct lm_candidate *c, bool attn)
{
    struct lm_engine *g;
    struct lm_network net;
    struct lm_model *cut;
    float x[LENGTH], y[LENGTH];

    losses(engine, &c->net, x);
    ck_assert_ok(lm_apply(shop, c, &cut, &e), e);
    ck_assert_ptr_nonnull(lm_model_tensor(cut, LM_B_DOWN, 0));
    ck_assert(!lm_model_tensor(cut, LM_B_O, 2) == !attn);
    ck_assert_ok(lm_engine_open(cut, backend.ops, backend.self, &g, &e), e);
    ck_assert_ok(lm_network_open(g, cut, &net, &e), e);
    losses(g, &net, y);
    ck_assert_mem_eq(x, y, (LENGTH - 1) * sizeof *x);
    lm_network_close(&net);
    lm_engine_close(g);
    lm_model_free(cut);
}

START_TEST(repair_makes_biases)
{
    struct toy biased = plain;
    struct lm_cost cost = { .struct_size = sizeof cost }, bare = cost;

    with = &flap;
    repairing = true;
    for (int round = 0; round < 2; round++) {
        struct lm_plan *p = mixed();        /* cuts o twice and down twice */
        struct lm_candidate c, d;

        biases = LM_SHAPE_ATTN_BIAS | LM_SHAPE_MLP_BIAS;
        c = open_one(p);
        check_biases(&c);
        applied_is_the_same(&c, true);
        ck_assert_uint_eq(lm_candidate_features(&c), lm_plan_features(p) | biases);
        lm_plan_cost(p, LM_F16, &bare);
        lm_candidate_cost(&c, LM_F16, &cost);
        if (!round) {
            ck_assert_int_eq(cost.params - bare.params, 4 * TOY_HIDDEN);
            ck_assert_int_eq(cost.bytes - bare.bytes, 16 * TOY_HIDDEN);
            ck_assert_int_eq(cost.body_params, bare.body_params);
        }
        lm_candidate_close(shop, &c);
        lm_workshop_close(shop);
        open_shop(1 << 20);
        biases = LM_SHAPE_MLP_BIAS;         /* of one kind only */
        d = open_one(p);
        ck_assert(!find(&d.net, LM_SEG_ATTN, 3)->o.bias == !round);
        ck_assert_uint_eq(lm_candidate_features(&d), lm_plan_features(p) | biases);
        applied_is_the_same(&d, round);
        lm_candidate_close(shop, &d);
        lm_plan_free(p);
        if (!round) {                       /* again, with biases in the dense model */
            close_model();
            biased.bias = true;
            open_model(&biased);
        }
    }
}
END_TEST

/* With all of a model's biases counted as they are exported. */
START_TEST(costs_count_dense_biases)
{
    const int64_t all = (HEADS + 2 * GROUPS) * TOY_HEAD + TOY_HIDDEN + 2 * FF
                        + TOY_HIDDEN;
    struct toy biased = plain;
    struct lm_cost cost = { .struct_size = sizeof cost }, bare = cost;
    struct lm_candidate c;
    struct lm_plan *p;

    close_model();
    biased.bias = true;
    open_model(&biased);
    p = open_plan();
    drop(p, LM_SITE_LAYER, 1);
    c = open_one(p);
    lm_plan_cost(p, LM_F16, &bare);
    lm_candidate_cost(&c, LM_F16, &cost);
    ck_assert_int_eq(cost.params - bare.params, (LAYERS - 1) * all);
    ck_assert_int_eq(cost.bytes - bare.bytes, 4 * (LAYERS - 1) * all);
    ck_assert_uint_eq(lm_candidate_features(&c), 0);    /* it had them anyway */
    lm_candidate_close(shop, &c);
    lm_plan_free(p);
}
END_TEST

Suite *candidate_bias_suite(void)
{
    Suite *s = suite_create("biases of candidates");
    TCase *t = tcase_create("biases");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, repair_makes_biases);
    tcase_add_test(t, costs_count_dense_biases);
    suite_add_tcase(s, t);
    return s;
}
