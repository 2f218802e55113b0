/* SPDX-License-Identifier: Apache-2.0 */
/* check_candidate.c -- candidates on a toy model: their weights against plain
 * gathers, their losses (reference backend) against relations that must hold
 * whatever the weights are.                                                 */
#include "check_candidate.h"

static void same_losses(const float *a, const float *b, double tolerance)
{
    for (int i = 0; i < LENGTH - 1; i++)
        ck_assert_msg(fabs((double)a[i] - b[i]) <= tolerance, "loss %d: %.9g and %.9g", i,
                      a[i], b[i]);
}

/* ---- relations ------------------------------------------------------------------ */

START_TEST(keeping_everything_is_the_dense_model)
{
    struct lm_plan *p = open_plan();
    struct lm_candidate c;
    struct lm_network dense;
    float a[LENGTH], b[LENGTH];

    repairing = true;
    top(p, LM_SITE_FFN_CHANNEL, 1, FF);
    c = open_one(p);
    ck_assert_ok(lm_network_open(engine, model, &dense, &e), e);
    ck_assert_uint_eq(c.net.n, dense.n);
    for (size_t i = 0; i < dense.n; i++) {
        const struct lm_segment_spec *x = lm_segment_spec(c.net.seg[i]);
        const struct lm_segment_spec *y = lm_segment_spec(dense.seg[i]);

        ck_assert_uint_eq(x->key, y->key);
        ck_assert(x->down.w == y->down.w && x->o.w == y->o.w && x->q.w == y->q.w);
    }
    losses(engine, &c.net, a);
    losses(engine, &dense, b);
    ck_assert_mem_eq(a, b, (LENGTH - 1) * sizeof *a);
    lm_network_close(&dense);
    lm_candidate_close(shop, &c);
    lm_plan_free(p);
}
END_TEST

START_TEST(dropping_a_layer_of_zeros_changes_nothing)
{
    struct lm_plan *p = open_plan(), *q = open_plan();
    struct lm_candidate c, d;
    float a[LENGTH], b[LENGTH];

    drop(p, LM_SITE_LAYER, plain.zero - 1);
    drop(q, LM_SITE_LAYER, 0);
    c = open_one(p);
    d = open_one(open_plan());
    losses(engine, &c.net, a);
    losses(engine, &d.net, b);
    ck_assert_mem_eq(a, b, (LENGTH - 1) * sizeof *a);
    lm_candidate_close(shop, &c);
    c = open_one(q);                    /* while any other layer does */
    losses(engine, &c.net, a);
    ck_assert(fabsf(a[3] - b[3]) > 1e-4f);
    lm_candidate_close(shop, &c);
    lm_plan_free(d.plan);
    lm_candidate_close(shop, &d);
    lm_plan_free(p);
    lm_plan_free(q);
}
END_TEST

/* Weights of layer 1's MLP at width 10, and the losses. */
static void narrow(float *gate, float *down, float *nll)
{
    struct lm_plan *p = open_plan();
    const struct lm_segment_spec *s;
    struct lm_candidate c;

    for (int32_t i = 0; i < LAYERS; i++)
        top(p, LM_SITE_FFN_CHANNEL, i, 10);
    c = open_one(p);
    s = find(&c.net, LM_SEG_MLP, 1);
    ck_assert_int_eq(s->n_ff, 10);
    memcpy(gate, s->gate.w, 10 * TOY_HIDDEN * sizeof *gate);
    memcpy(down, s->down.w, 10 * TOY_HIDDEN * sizeof *down);
    losses(engine, &c.net, nll);
    lm_candidate_close(shop, &c);
    lm_plan_free(p);
}

START_TEST(the_order_of_channels_does_not_matter)
{
    struct toy other = plain;
    float g[2][10 * TOY_HIDDEN], d[2][10 * TOY_HIDDEN], nll[2][LENGTH];

    for (int round = 0; round < 2; round++) {
        repairing = round == 1;
        narrow(g[0], d[0], nll[0]);
        close_model();
        other.permute = permute;
        permuted = true;
        open_model(&other);
        narrow(g[1], d[1], nll[1]);
        ck_assert_mem_eq(g[0], g[1], sizeof g[0]);
        for (int i = 0; i < 10 * TOY_HIDDEN; i++)   /* Gram sums in another order */
            ck_assert(fabsf(d[0][i] - d[1][i]) <= (repairing ? 1e-4f : 0));
        same_losses(nll[0], nll[1], repairing ? 1e-3 : 0);
        close_model();
        permuted = false;
        open_model(&plain);
    }
}
END_TEST

/* ---- weights ---------------------------------------------------------------------- */

/* Row i of `got` must be row row[i] of the dense matrix. */
static void same_rows(const struct lm_mat *got, const float *dense, const int32_t *row)
{
    ck_assert_int_eq(got->cols, TOY_HIDDEN);
    for (int64_t i = 0; i < got->rows; i++)
        ck_assert_mem_eq(got->w + i * got->stride, dense + row[i] * TOY_HIDDEN,
                         TOY_HIDDEN * sizeof *dense);
}

static void same_columns(const struct lm_mat *got, const float *dense, int64_t all,
                         const int32_t *column)
{
    ck_assert_int_eq(got->rows, TOY_HIDDEN);
    for (int64_t i = 0; i < got->rows; i++)
        for (int64_t j = 0; j < got->cols; j++)
            ck_assert(got->w[i * got->stride + j] == dense[i * all + column[j]]);
}

START_TEST(cut_weights_are_the_dense_ones)
{
    struct lm_plan *p = mixed();
    struct lm_candidate c = open_one(p);
    const int32_t odd[] = { 1, 4, 5, 17, 20 }, *order;
    const struct lm_segment_spec *s;
    int32_t row[COLUMNS], sorted[5], at = 0;
    int64_t n;

    ck_assert_uint_eq(c.net.n, 2 + 2 + 1 + 0 + 1);
    s = find(&c.net, LM_SEG_MLP, 0);
    ck_assert_ok(lm_space_order(space, LM_SITE_FFN_CHANNEL, 0, &order, &n, &e), e);
    same_rows(&s->gate, floats(LM_W_GATE, 0), order);
    same_rows(&s->up, floats(LM_W_UP, 0), order);
    same_columns(&s->down, floats(LM_W_DOWN, 0), FF, order);
    ck_assert_int_eq(s->down.cols, 16);

    s = find(&c.net, LM_SEG_MLP, 1);            /* an explicit set, in score order */
    ck_assert_ok(lm_space_order(space, LM_SITE_FFN_CHANNEL, 1, &order, &n, &e), e);
    for (int i = 0; i < FF; i++)
        for (int j = 0; j < 5; j++)
            if (order[i] == odd[j])
                sorted[at++] = odd[j];
    same_rows(&s->up, floats(LM_W_UP, 1), sorted);
    same_columns(&s->down, floats(LM_W_DOWN, 1), FF, sorted);

    s = find(&c.net, LM_SEG_ATTN, 0);
    ck_assert(s->n_kv == 2 && s->n_head == 4 && s->q.rows == 16 && s->k.rows == 8);
    ck_assert_ok(lm_space_order(space, LM_SITE_KV_GROUP, 0, &order, &n, &e), e);
    expand(order, 2, TOY_HEAD, row);
    same_rows(&s->k, floats(LM_W_K, 0), row);
    same_rows(&s->v, floats(LM_W_V, 0), row);
    expand(order, 2, TOY_HEAD * HEADS / GROUPS, row);
    same_rows(&s->q, floats(LM_W_Q, 0), row);
    same_columns(&s->o, floats(LM_W_O, 0), COLUMNS, row);
    lm_candidate_close(shop, &c);
    lm_plan_free(p);
}
END_TEST

START_TEST(nested_widths_are_views)
{
    struct lm_plan *p[2] = { open_plan(), open_plan() };
    struct lm_candidate c[2];
    struct lm_err err[2];
    const struct lm_segment_spec *a, *b;

    top(p[0], LM_SITE_FFN_CHANNEL, 1, 8);
    top(p[1], LM_SITE_FFN_CHANNEL, 1, 20);
    ck_assert_ok(lm_candidates_open(shop, p, 2, c, err, &e), e);
    a = find(&c[0].net, LM_SEG_MLP, 1);
    b = find(&c[1].net, LM_SEG_MLP, 1);
    ck_assert(a->gate.w == b->gate.w && a->up.w == b->up.w);
    ck_assert(a->gate.rows == 8 && b->gate.rows == 20);
    ck_assert_uint_ne(a->key, b->key);
    ck_assert(c[0].net.seg[1] == c[1].net.seg[1]);      /* attention of layer 0 */
    for (int i = 0; i < 2; i++) {
        lm_candidate_close(shop, &c[i]);
        lm_plan_free(p[i]);
    }
}
END_TEST

/* W' (H_SS + d I) = (W (H + d I))_S, by plain loops. */
static void check_repaired(const struct lm_mat *got, uint32_t role, uint32_t site,
                           int32_t layer, int64_t k, const int32_t *column)
{
    const float *w = floats(role, layer);
    const double *h;
    double d = 0;
    int64_t n, m = got->cols;

    ck_assert_ok(lm_stats_get(stats, LM_STAT_GRAM, site, layer, &h, &n, &e), e);
    ck_assert_int_eq(n, k * k);
    for (int64_t i = 0; i < k; i++)
        d += 0.01 * h[i * k + i] / (double)k;
    for (int64_t i = 0; i < TOY_HIDDEN; i++)
        for (int64_t j = 0; j < m; j++) {
            double left = d * got->w[i * m + j], right = d * w[i * k + column[j]];
            double size = 0;

            for (int64_t c = 0; c < m; c++)
                left += got->w[i * m + c] * h[column[c] * k + column[j]];
            for (int64_t c = 0; c < k; c++) {
                right += w[i * k + c] * h[c * k + column[j]];
                size += fabs(w[i * k + c] * h[c * k + column[j]]);
            }
            ck_assert_msg(fabs(left - right) <= 1e-5 * size + 1e-9,
                          "layer %d: %.9g, not %.9g", layer, left, right);
        }
}

START_TEST(repair_solves_the_normal_equations)
{
    struct lm_plan *p = mixed();
    const struct lm_segment_spec *s;
    struct lm_candidate c;
    const int32_t *order;
    int32_t row[COLUMNS];
    int64_t n;

    repairing = true;
    c = open_one(p);
    s = find(&c.net, LM_SEG_MLP, 0);
    ck_assert_ok(lm_space_order(space, LM_SITE_FFN_CHANNEL, 0, &order, &n, &e), e);
    check_repaired(&s->down, LM_W_DOWN, LM_SITE_MLP, 0, FF, order);
    ck_assert(s->down.w[0] != floats(LM_W_DOWN, 0)[order[0]]);
    s = find(&c.net, LM_SEG_ATTN, 3);
    ck_assert_ok(lm_space_order(space, LM_SITE_KV_GROUP, 3, &order, &n, &e), e);
    expand(order, 1, TOY_HEAD * HEADS / GROUPS, row);
    check_repaired(&s->o, LM_W_O, LM_SITE_ATTN, 3, COLUMNS, row);
    lm_candidate_close(shop, &c);
    lm_plan_free(p);
}
END_TEST

/* Two of three groups of layer 0 and all of layer 3 keep one query head of two. */
static struct lm_plan *beheaded(void)
{
    struct lm_plan *p = open_plan();

    top(p, LM_SITE_KV_GROUP, 0, 2);
    top(p, LM_SITE_HEAD, 0, 1);
    top(p, LM_SITE_HEAD, 3, 1);
    ck_assert_ok(lm_plan_canonical(p, &e), e);
    return p;
}

/* The better head of each of the n best groups of a layer, best group first. */
static void heads_left(int32_t layer, int n, int32_t *group, int32_t *head)
{
    const double *s = NULL;
    const int32_t *order;
    int64_t count;

    ck_assert_ok(lm_space_order(space, LM_SITE_KV_GROUP, layer, &order, &count, &e), e);
    ck_assert_ok(give(NULL, LM_SITE_HEAD, layer, &s, &count, &e), e);
    for (int i = 0; i < n; i++) {
        group[i] = order[i];
        head[i] = 2 * order[i] + (s[2 * order[i] + 1] > s[2 * order[i]]);
    }
}

START_TEST(query_heads_go)
{
    struct lm_plan *p = beheaded();
    struct lm_candidate c = open_one(p);
    const struct lm_segment_spec *s;
    int32_t group[GROUPS], head[GROUPS], row[COLUMNS];

    for (int32_t layer = 0; layer < LAYERS; layer += 3) {
        int n = layer ? 3 : 2;

        s = find(&c.net, LM_SEG_ATTN, layer);
        ck_assert(s->n_kv == n && s->n_head == n);
        ck_assert(s->q.rows == 4 * n && s->k.rows == 4 * n && s->o.cols == 4 * n);
        heads_left(layer, n, group, head);
        expand(group, n, TOY_HEAD, row);
        same_rows(&s->k, floats(LM_W_K, layer), row);
        same_rows(&s->v, floats(LM_W_V, layer), row);
        expand(head, n, TOY_HEAD, row);
        same_rows(&s->q, floats(LM_W_Q, layer), row);
        same_columns(&s->o, floats(LM_W_O, layer), COLUMNS, row);
    }
    lm_candidate_close(shop, &c);
    repairing = true;
    c = open_one(p);
    for (int32_t layer = 0; layer < LAYERS; layer += 3) {
        heads_left(layer, layer ? 3 : 2, group, head);
        expand(head, layer ? 3 : 2, TOY_HEAD, row);
        check_repaired(&find(&c.net, LM_SEG_ATTN, layer)->o, LM_W_O, LM_SITE_ATTN, layer,
                       COLUMNS, row);
    }
    lm_candidate_close(shop, &c);
    lm_plan_free(p);
}
END_TEST

/* A head that o does not read is as good as gone. */
START_TEST(cut_heads_are_unread_heads)
{
    static float o[TOY_HIDDEN * COLUMNS];
    struct lm_plan *p = open_plan();
    struct lm_candidate c;
    struct lm_segment_spec s;
    struct lm_segment *seg, *plain_seg;
    struct lm_network dense;
    int32_t group[GROUPS], head[GROUPS];
    float a[LENGTH], b[LENGTH], all[LENGTH];

    top(p, LM_SITE_HEAD, 3, 1);
    c = open_one(p);
    losses(engine, &c.net, a);
    ck_assert_ok(lm_network_open(engine, model, &dense, &e), e);
    losses(engine, &dense, all);
    ck_assert_ok(lm_dense_spec(model, LM_SEG_ATTN, 3, &s, &e), e);
    heads_left(3, GROUPS, group, head);
    for (int i = 0; i < TOY_HIDDEN; i++)
        for (int g = 0; g < GROUPS; g++)
            memcpy(o + i * COLUMNS + head[g] * TOY_HEAD,
                   s.o.w + i * s.o.stride + head[g] * TOY_HEAD, TOY_HEAD * sizeof *o);
    s.o.w = o;
    s.o.stride = COLUMNS;
    s.key ^= 1;
    ck_assert_ok(lm_segment_open(engine, &s, &seg, &e), e);
    plain_seg = dense.seg[1 + 2 * 3];
    ck_assert_int_eq(lm_segment_spec(plain_seg)->kind, LM_SEG_ATTN);
    dense.seg[1 + 2 * 3] = seg;
    losses(engine, &dense, b);
    same_losses(a, b, 1e-5);
    ck_assert(fabsf(all[5] - b[5]) > 1e-4f);
    dense.seg[1 + 2 * 3] = plain_seg;
    lm_segment_close(seg);
    lm_network_close(&dense);
    lm_candidate_close(shop, &c);
    lm_plan_free(p);
}
END_TEST

START_TEST(threads_do_not_matter)
{
    struct lm_plan *p = mixed();
    struct lm_candidate c;
    float down[16 * TOY_HIDDEN], o[8 * TOY_HIDDEN];

    repairing = true;
    c = open_one(p);
    memcpy(down, find(&c.net, LM_SEG_MLP, 0)->down.w, sizeof down);
    memcpy(o, find(&c.net, LM_SEG_ATTN, 3)->o.w, sizeof o);
    lm_candidate_close(shop, &c);
    lm_workshop_close(shop);
    ck_assert_int_eq(lm_pool_start(3, NULL), LM_OK);
    open_shop(1 << 20);
    c = open_one(p);
    ck_assert_mem_eq(down, find(&c.net, LM_SEG_MLP, 0)->down.w, sizeof down);
    ck_assert_mem_eq(o, find(&c.net, LM_SEG_ATTN, 3)->o.w, sizeof o);
    lm_candidate_close(shop, &c);
    lm_pool_stop();
    lm_plan_free(p);
}
END_TEST

/* ---- the cache -------------------------------------------------------------------- */

START_TEST(parts_are_shared_and_let_go)
{
    struct lm_plan *p = mixed(), *q = open_plan();
    struct lm_candidate c = open_one(p), d = open_one(p);
    struct lm_workshop_use use, later;
    uint64_t key = find(&c.net, LM_SEG_MLP, 0)->key;

    lm_workshop_use(shop, &use);
    ck_assert_int_eq(use.built, 6);
    ck_assert_int_eq(use.reused, 6);
    for (size_t i = 0; i < c.net.n; i++)
        ck_assert(c.net.seg[i] == d.net.seg[i]);
    lm_candidate_close(shop, &c);
    lm_candidate_close(shop, &d);
    lm_workshop_use(shop, &later);
    ck_assert_uint_eq(later.bytes, use.bytes);          /* kept for later */
    repairing = true;
    c = open_one(p);                                    /* another repair, another key */
    ck_assert_uint_ne(find(&c.net, LM_SEG_MLP, 0)->key, key);
    lm_candidate_close(shop, &c);

    lm_workshop_close(shop);
    open_shop(1000);
    c = open_one(p);
    lm_workshop_use(shop, &use);
    ck_assert_uint_gt(use.bytes, 1000);                 /* in use, so not counted */
    lm_candidate_close(shop, &c);
    lm_workshop_use(shop, &use);
    ck_assert_uint_le(use.bytes, 1000);
    c = open_one(p);                                    /* and made again */
    ck_assert_int_eq(find(&c.net, LM_SEG_MLP, 0)->n_ff, 16);
    lm_candidate_close(shop, &c);
    lm_plan_free(p);
    lm_plan_free(q);
}
END_TEST

START_TEST(a_failure_stays_with_its_candidate)
{
    struct lm_plan *p[3] = { mixed(), mixed(), open_plan() };
    struct lm_candidate c[3];
    struct lm_err err[3];
    struct lm_workshop_use use;

    repairing = true;
    ck_assert_ok(lm_plan_set(p[0], "repair.bad", LM_GENE_BOOL,
                             (union lm_value){ .integer = 1 }, &e), e);
    inst_cholesky_failures = ROUND;
    ck_assert_ok(lm_candidates_open(shop, p, 3, c, err, &e), e);
    inst_cholesky_failures = 0;
    ck_assert_int_eq(err[0].code, LM_EINFEASIBLE);
    ck_assert_int_eq(err[1].code, LM_EFAILED);
    ck_assert_ptr_nonnull(strstr(err[1].text, "layer "));
    ck_assert_int_eq(err[2].code, LM_OK);
    ck_assert(!c[0].net.n && !c[1].net.seg && c[2].net.n == 2 + 2 * LAYERS);
    for (int i = 0; i < 3; i++)
        lm_candidate_close(shop, &c[i]);
    c[1] = open_one(p[1]);                              /* not remembered as broken */
    lm_candidate_close(shop, &c[1]);
    lm_workshop_use(shop, &use);
    ck_assert_int_gt(use.parts, 6);
    lm_cancel(true);
    ck_assert_int_eq(lm_candidates_open(shop, p, 3, c, err, &e), LM_ECANCELED);
    lm_cancel(false);
    for (int i = 0; i < 3; i++)
        lm_plan_free(p[i]);
}
END_TEST

/* ---- apply ------------------------------------------------------------------------- */

START_TEST(applied_models_compute_the_same)
{
    struct lm_plan *p = mixed();
    struct lm_candidate c;
    struct lm_engine *g;
    struct lm_network net;
    struct lm_model *cut;
    const struct lm_arch *a;
    float x[LENGTH], y[LENGTH];

    repairing = true;
    c = open_one(p);
    losses(engine, &c.net, x);
    ck_assert_ok(lm_apply(shop, &c, &cut, &e), e);
    a = lm_model_arch(cut);
    ck_assert_int_eq(a->n_layer, 3);
    ck_assert(a->layer[0].n_kv == 2 && a->layer[0].n_head == 4 && a->layer[0].n_ff == 16);
    ck_assert(a->layer[1].n_kv == 0 && a->layer[1].n_head == 0 && a->layer[1].n_ff == 5);
    ck_assert(a->layer[2].n_kv == 1 && a->layer[2].n_head == 2 && a->layer[2].n_ff == 0);
    ck_assert_ok(lm_engine_open(cut, backend.ops, backend.self, &g, &e), e);
    ck_assert_ok(lm_network_open(g, cut, &net, &e), e);
    losses(g, &net, y);
    ck_assert_mem_eq(x, y, (LENGTH - 1) * sizeof *x);
    lm_network_close(&net);
    lm_engine_close(g);
    lm_model_free(cut);
    lm_candidate_close(shop, &c);
    lm_plan_free(p);
}
END_TEST

START_TEST(applied_models_have_the_heads_left)
{
    struct lm_plan *p = beheaded();
    struct lm_candidate c;
    struct lm_engine *g;
    struct lm_network net;
    struct lm_model *cut;
    float x[LENGTH], y[LENGTH];

    repairing = true;
    with = &flap;
    biases = LM_SHAPE_ATTN_BIAS;
    c = open_one(p);
    losses(engine, &c.net, x);
    ck_assert_ok(lm_apply(shop, &c, &cut, &e), e);
    const struct lm_layer_shape *s = lm_model_arch(cut)->layer;
    ck_assert(s[0].n_kv == 2 && s[0].n_head == 2 && s[1].n_head == HEADS);
    ck_assert(s[3].n_kv == 3 && s[3].n_head == 3);
    ck_assert_ptr_nonnull(lm_model_tensor(cut, LM_B_O, 3));
    ck_assert_ok(lm_engine_open(cut, backend.ops, backend.self, &g, &e), e);
    ck_assert_ok(lm_network_open(g, cut, &net, &e), e);
    losses(g, &net, y);
    ck_assert_mem_eq(x, y, (LENGTH - 1) * sizeof *x);
    lm_network_close(&net);
    lm_engine_close(g);
    lm_model_free(cut);
    lm_candidate_close(shop, &c);
    lm_plan_free(p);
}
END_TEST

/* What a decoder holds is what cost counts, but for small change. */
START_TEST(memory_is_as_counted)
{
    enum { CONTEXT = 3000, ROWS = 400 };
    struct inst cpu;
    struct lm_engine *g;
    struct lm_network net;
    struct lm_decoder *d;
    struct lm_plan *p = open_plan();
    struct lm_cost cost;
    int32_t many[ROWS];
    double counted, held;

    inst_open(&cpu, "backends", "cpu", "", NULL, NULL);
    ck_assert_ok(lm_engine_open(model, cpu.ops, cpu.self, &g, &e), e);
    ck_assert_ok(lm_network_open(g, model, &net, &e), e);
    for (int i = 0; i < ROWS; i++)
        many[i] = ids[i % LENGTH];
    size_t before = live_bytes();
    ck_assert_ok(lm_decoder_open(g, &net, CONTEXT, 1, &d, &e), e);
    ck_assert_ok(lm_decoder_feed(d, many, ROWS, NULL, NULL, &e), e);
    held = (double)(live_bytes() - before);
    lm_plan_cost(p, LM_F32, &cost);
    counted = 2.0 * CONTEXT * (double)cost.kv_bytes + ROWS * (double)cost.row_bytes;
    ck_assert_msg(held > counted && held < 1.3 * counted, "%g bytes, %g were counted",
                  held, counted);
    lm_decoder_close(d);
    lm_plan_free(p);
    lm_network_close(&net);
    lm_engine_close(g);
    inst_close(&cpu);
}
END_TEST

START_TEST(untouched_matrices_keep_their_bytes)
{
    struct toy packed = plain;
    struct lm_candidate c;
    struct lm_model *same;
    struct lm_plan *p;

    close_model();
    packed.dtype = LM_Q4_1;
    packed.tied = true;
    packed.n_head = 8;
    packed.n_kv = 4;
    packed.n_ff = 32;
    model = toy_model(&packed);
    ck_assert_ok(lm_engine_open(model, backend.ops, backend.self, &engine, &e), e);
    stats = NULL;
    space = NULL;
    open_shop(1 << 20);
    p = open_plan();
    drop(p, LM_SITE_LAYER, 1);
    c = open_one(p);
    ck_assert_ok(lm_apply(shop, &c, &same, &e), e);
    for (int32_t layer = -1; layer < LAYERS - 1; layer++)
        for (uint32_t role = LM_W_EMBED; role < LM_N_ROLES; role++) {
            int32_t old = layer >= 1 ? layer + 1 : layer;
            const struct lm_tensor *t = lm_model_tensor(model, role, old);
            const struct lm_tensor *u = lm_model_tensor(same, role, layer);

            if (lm_role_is_layer(role) != (layer >= 0))
                continue;
            ck_assert(!t == !u);
            if (!t)
                continue;
            ck_assert(t->dtype == u->dtype && t->rows == u->rows && t->cols == u->cols);
            ck_assert_mem_eq(t->data, u->data,
                             (size_t)(t->rows * lm_row_bytes(t->dtype, t->cols)));
        }
    lm_model_free(same);
    lm_candidate_close(shop, &c);
    lm_plan_free(p);
}
END_TEST

START_TEST(memory_may_run_out)
{
    struct lm_plan *p = mixed();

    repairing = true;
    ck_assert_int_gt(fail_every_allocation(candidate_life, p), 60);
    with = &flap;
    biases = LM_SHAPE_ATTN_BIAS | LM_SHAPE_MLP_BIAS;
    ck_assert_int_gt(fail_every_allocation(candidate_life, p), 60);
    lm_plan_free(p);
    p = beheaded();
    ck_assert_int_gt(fail_every_allocation(candidate_life, p), 60);
    lm_plan_free(p);
}
END_TEST

int main(void)
{
    Suite *s[4] = { suite_create("candidate"), candidate_bias_suite(),
                    candidate_hidden_suite(), candidate_spill_suite() };
    TCase *t = tcase_create("candidate");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, keeping_everything_is_the_dense_model);
    tcase_add_test(t, dropping_a_layer_of_zeros_changes_nothing);
    tcase_add_test(t, the_order_of_channels_does_not_matter);
    tcase_add_test(t, cut_weights_are_the_dense_ones);
    tcase_add_test(t, nested_widths_are_views);
    tcase_add_test(t, repair_solves_the_normal_equations);
    tcase_add_test(t, query_heads_go);
    tcase_add_test(t, cut_heads_are_unread_heads);
    tcase_add_test(t, applied_models_have_the_heads_left);
    tcase_add_test(t, memory_is_as_counted);
    tcase_add_test(t, threads_do_not_matter);
    tcase_add_test(t, parts_are_shared_and_let_go);
    tcase_add_test(t, a_failure_stays_with_its_candidate);
    tcase_add_test(t, applied_models_compute_the_same);
    tcase_add_test(t, untouched_matrices_keep_their_bytes);
    tcase_add_test(t, memory_may_run_out);
    suite_add_tcase(s[0], t);
    return run_suites(s, 4);
}
