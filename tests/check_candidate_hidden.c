/* SPDX-License-Identifier: Apache-2.0 */
/* check_candidate_hidden.c -- candidates of a narrower residual stream.
 *
 * The reference is a plain forward pass in double of the same network at full width,
 * in which the stream is projected wherever it is written: x <- B B^T x, with the B of
 * the place that reads it next.  Of kept channels that sets the others to 0.  With the
 * mean over m and not d channels a norm's epsilon counts as eps m / d.            */
#include "check_candidate.h"

enum { D = TOY_HIDDEN, PLACES = 2 * LAYERS + 1 };
static double basis[PLACES][D][D];      /* B of each place, its first m columns */

/* ---- the reference -------------------------------------------------------------- */

struct state { double x[LENGTH][D]; int m; };

static void project(double *x, int place, int m)
{
    double z[D], sum;

    for (int j = 0; j < m; j++) {
        sum = 0;
        for (int i = 0; i < D; i++)
            sum += basis[place][i][j] * x[i];
        z[j] = sum;
    }
    for (int i = 0; i < D; i++) {
        sum = 0;
        for (int j = 0; j < m; j++)
            sum += basis[place][i][j] * z[j];
        x[i] = sum;
    }
}

static void norm(const struct state *s, int t, const float *g, double *out)
{
    double sum = 0, eps = lm_model_arch(model)->rms_eps * s->m / D;

    for (int i = 0; i < D; i++)
        sum += s->x[t][i] * s->x[t][i];
    for (int i = 0; i < D; i++)
        out[i] = s->x[t][i] / sqrt(sum / D + eps) * (double)g[i];
}

static void multiply(const struct lm_mat *w, const double *x, double *y)
{
    for (int64_t r = 0; r < w->rows; r++) {
        y[r] = w->bias ? (double)w->bias[r] : 0;
        for (int64_t i = 0; i < w->cols; i++)
            y[r] += (double)w->w[r * w->stride + i] * x[i];
    }
}

static void rotate(double *v, int heads, int t)
{
    for (int h = 0; h < heads; h++)
        for (int i = 0; i < TOY_HEAD / 2; i++) {
            double a = t * pow(lm_model_arch(model)->rope_theta, -2.0 * i / TOY_HEAD);
            double *p = v + h * TOY_HEAD + i, x = p[0], y = p[TOY_HEAD / 2];

            p[0] = x * cos(a) - y * sin(a);
            p[TOY_HEAD / 2] = y * cos(a) + x * sin(a);
        }
}

/* out: head h of token t over tokens 0..t */
static void attend(const struct lm_segment_spec *s, double (*q)[COLUMNS],
                   double (*k)[COLUMNS], double (*v)[COLUMNS], int t, int h, double *out)
{
    int from = h / (s->n_head / s->n_kv) * TOY_HEAD;
    double p[LENGTH], sum = 0;

    for (int u = 0; u <= t; u++) {
        double dot = 0;

        for (int i = 0; i < TOY_HEAD; i++)
            dot += q[t][h * TOY_HEAD + i] * k[u][from + i];
        sum += p[u] = exp(dot / sqrt(TOY_HEAD));
    }
    for (int i = 0; i < TOY_HEAD; i++) {
        out[i] = 0;
        for (int u = 0; u <= t; u++)
            out[i] += p[u] / sum * v[u][from + i];
    }
}

static void attention(struct state *x, const struct lm_segment_spec *s)
{
    static double q[LENGTH][COLUMNS], k[LENGTH][COLUMNS], v[LENGTH][COLUMNS];
    double n[D], mix[COLUMNS], y[D];

    for (int t = 0; t < LENGTH; t++) {
        norm(x, t, s->norm, n);
        multiply(&s->q, n, q[t]);
        multiply(&s->k, n, k[t]);
        multiply(&s->v, n, v[t]);
        rotate(q[t], s->n_head, t);
        rotate(k[t], s->n_kv, t);
    }
    for (int t = 0; t < LENGTH; t++) {
        for (int h = 0; h < s->n_head; h++)
            attend(s, q, k, v, t, h, mix + h * TOY_HEAD);
        multiply(&s->o, mix, y);
        for (int i = 0; i < D; i++)
            x->x[t][i] += y[i];
    }
}

static void mlp(struct state *x, const struct lm_segment_spec *s)
{
    double n[D], gate[FF], up[FF], y[D];

    for (int t = 0; t < LENGTH; t++) {
        norm(x, t, s->norm, n);
        multiply(&s->gate, n, gate);
        multiply(&s->up, n, up);
        for (int i = 0; i < s->n_ff; i++)
            up[i] *= gate[i] / (1 + exp(-gate[i]));
        multiply(&s->down, up, y);
        for (int i = 0; i < D; i++)
            x->x[t][i] += y[i];
    }
}

static int place_behind(const struct lm_network *net, size_t i)
{
    const struct lm_segment_spec *s = lm_segment_spec(net->seg[i + 1]);

    return s->kind == LM_SEG_HEAD ? 2 * LAYERS : 2 * s->layer + (s->kind == LM_SEG_MLP);
}

/* nll[LENGTH - 1] of a network at full width whose stream has m directions. */
static void reference(const struct lm_network *net, int m, double *nll)
{
    static struct state x;
    const struct lm_segment_spec *s = lm_segment_spec(net->seg[0]);
    double n[D], y[TOY_VOCAB];

    x.m = m;
    for (int t = 0; t < LENGTH; t++)
        for (int i = 0; i < D; i++)
            x.x[t][i] = (double)s->table.w[ids[t] * D + i];
    for (size_t i = 0; i + 1 < net->n; i++) {
        s = lm_segment_spec(net->seg[i]);
        if (s->kind == LM_SEG_ATTN)
            attention(&x, s);
        else if (s->kind == LM_SEG_MLP)
            mlp(&x, s);
        for (int t = 0; t < LENGTH; t++)
            project(x.x[t], place_behind(net, i), m);
    }
    s = lm_segment_spec(net->seg[net->n - 1]);
    for (int t = 0; t < LENGTH - 1; t++) {
        double sum = 0;

        norm(&x, t, s->norm, n);
        multiply(&s->table, n, y);
        for (int i = 0; i < TOY_VOCAB; i++)
            sum += exp(y[i]);
        nll[t] = log(sum) - y[ids[t + 1]];
    }
}

/* ---- plans ------------------------------------------------------------------------ */

static void clear(void)
{
    memset(basis, 0, sizeof basis);
}

/* The plan with these channels of the stream. */
static struct lm_plan *keep_hidden(struct lm_plan *p, const int32_t *kept, int m)
{
    ck_assert_ok(lm_plan_keep(p, LM_SITE_HIDDEN, -1, kept, m, &e), e);
    clear();
    for (int place = 0; place < PLACES; place++)
        for (int j = 0; j < m; j++)
            basis[place][kept[j]][j] = 1;
    return p;
}

static void close_to(const float *got, const double *want, double tolerance)
{
    for (int i = 0; i < LENGTH - 1; i++)
        ck_assert_msg(fabs((double)got[i] - want[i]) <= tolerance,
                      "loss %d: %.9g, the reference has %.9g", i, (double)got[i],
                      want[i]);
}

static int64_t numbers_of(const struct lm_model *m)
{
    int64_t n = 0;

    for (int32_t i = -1; i < lm_model_arch(m)->n_layer; i++)
        for (uint32_t role = LM_W_EMBED; role < LM_N_ROLES; role++) {
            const struct lm_tensor *t = lm_role_is_layer(role) == (i >= 0)
                                      ? lm_model_tensor(m, role, i) : NULL;

            n += t ? t->rows * t->cols : 0;
        }
    return n;
}

/* The candidate of p, the model written from it, and the reference on the network of
 * `wide`, the same plan at full width.                                            */
static void check_three(struct lm_plan *p, struct lm_plan *wide, bool tied, int m)
{
    struct lm_candidate c = open_one(p), w = open_one(wide);
    float a[LENGTH], b[LENGTH];
    double want[LENGTH];
    struct lm_cost cost;
    struct lm_model *cut;
    struct lm_engine *g;
    struct lm_network net;

    reference(&w.net, m, want);
    losses(engine, &c.net, a);
    close_to(a, want, 2e-5);
    ck_assert_ok(lm_apply(shop, &c, &cut, &e), e);
    ck_assert_int_eq(lm_model_arch(cut)->hidden, m);
    ck_assert(lm_model_arch(cut)->tied == tied);
    lm_candidate_cost(&c, LM_F32, &cost);
    ck_assert_int_eq(cost.params, numbers_of(cut));
    ck_assert_ok(lm_engine_open(cut, backend.ops, backend.self, &g, &e), e);
    ck_assert_ok(lm_network_open(g, cut, &net, &e), e);
    losses(g, &net, b);
    close_to(b, want, 2e-5);
    lm_network_close(&net);
    lm_engine_close(g);
    lm_model_free(cut);
    lm_candidate_close(shop, &c);
    lm_candidate_close(shop, &w);
    lm_plan_free(p);
    lm_plan_free(wide);
}

static const int32_t most[] = { 0, 1, 3, 4, 5, 7, 8, 9, 10, 12, 14, 15, 16, 17, 19, 20,
                                22, 23, 25, 27, 28, 29, 30, 31 };
enum { MOST = sizeof most / sizeof *most };

START_TEST(kept_channels_are_the_model_with_others_at_zero)
{
    check_three(keep_hidden(open_plan(), most, MOST), open_plan(), false, MOST);
    check_three(keep_hidden(open_plan(), most, 5), open_plan(), false, 5);
}
END_TEST

START_TEST(so_they_are_of_a_cut_and_repaired_model)
{
    repairing = true;
    check_three(keep_hidden(mixed(), most, MOST), mixed(), false, MOST);
    with = &flap;                       /* biases of o and down */
    biases = LM_SHAPE_ATTN_BIAS | LM_SHAPE_MLP_BIAS;
    check_three(keep_hidden(mixed(), most, MOST), mixed(), false, MOST);
}
END_TEST

START_TEST(a_tied_model_with_biases_stays_tied)
{
    struct toy other = plain;

    close_model();
    other.tied = other.bias = true;
    open_model(&other);
    check_three(keep_hidden(open_plan(), most, MOST), open_plan(), true, MOST);
}
END_TEST

/* ---- directions ------------------------------------------------------------------ */

static struct inst pca;

/* pca as the repair; its directions, asked for as they are of the contract, are those
 * of the reference.                                                           */
static void turn(const char *options, bool each)
{
    static float v[D * D];
    const double *gram[PLACES];
    const struct lm_repair *ops;
    int64_t n;

    inst_open(&pca, "repair", "pca", options, NULL, NULL);
    ops = pca.ops;
    repairing = true;
    with = &pca;
    turns = each;
    for (int i = 0; i < PLACES; i++)
        ck_assert_ok(lm_stats_get(stats, LM_STAT_STREAM, i == PLACES - 1 ? LM_SITE_HIDDEN
                                  : i % 2 ? LM_SITE_MLP : LM_SITE_ATTN,
                                  i == PLACES - 1 ? -1 : i / 2, &gram[i], &n, &e), e);
    for (int i = 0; i < PLACES; i++) {
        struct lm_stream_site s = { sizeof s, each ? 1 : PLACES, D,
                                    each ? &gram[i] : gram, SEQS * LENGTH };

        ck_assert_ok(ops->basis(pca.self, &s, v, &e), e);
        for (int j = 0; j < D * D; j++)
            basis[i][j / D][j % D] = (double)v[j];
    }
}

static struct lm_plan *first_hidden(struct lm_plan *p, int m)
{
    int32_t kept[D];

    for (int32_t i = 0; i < m; i++)
        kept[i] = i;
    ck_assert_ok(lm_plan_keep(p, LM_SITE_HIDDEN, -1, kept, m, &e), e);
    return p;
}

START_TEST(directions_are_a_projection_of_the_stream)
{
    turn("", false);
    check_three(first_hidden(open_plan(), 24), open_plan(), false, 24);
    check_three(first_hidden(mixed(), 9), mixed(), false, 9);
    inst_close(&pca);
}
END_TEST

START_TEST(directions_of_a_tied_model_make_a_head)
{
    struct toy other = plain;

    close_model();
    other.tied = other.bias = true;
    open_model(&other);
    turn("", false);
    check_three(first_hidden(open_plan(), 24), open_plan(), false, 24);
    inst_close(&pca);
}
END_TEST

START_TEST(of_directions_only_the_number_counts)
{
    struct lm_plan *p = first_hidden(open_plan(), MOST), *q;
    struct lm_candidate c, d;

    turn("", false);
    q = open_plan();
    ck_assert_ok(lm_plan_keep(q, LM_SITE_HIDDEN, -1, most, MOST, &e), e);
    c = open_one(p);
    d = open_one(q);
    for (size_t i = 0; i < c.net.n; i++)
        ck_assert(c.net.seg[i] == d.net.seg[i]);
    lm_candidate_close(shop, &c);
    lm_candidate_close(shop, &d);
    lm_plan_free(p);
    lm_plan_free(q);
    inst_close(&pca);
}
END_TEST

/* Each block in directions of its own: against the reference, dropped blocks too. */
static void check_turned(struct lm_plan *p, struct lm_plan *wide, int m)
{
    struct lm_candidate c = open_one(p), w = open_one(wide);
    struct lm_model *cut = NULL;
    double want[LENGTH];
    struct lm_cost cost, plain_cost;
    float a[LENGTH];

    reference(&w.net, m, want);
    losses(engine, &c.net, a);
    close_to(a, want, 2e-5);
    lm_candidate_cost(&c, LM_F16, &cost);
    lm_plan_cost(p, LM_F16, &plain_cost);
    ck_assert_int_eq(cost.body_params - plain_cost.body_params,
                     ((int64_t)c.net.n - 2) * m * m);
    ck_assert_uint_eq(lm_candidate_features(&c) & LM_SHAPE_TURNED, LM_SHAPE_TURNED);
    ck_assert_uint_eq(lm_candidate_features(&w) & LM_SHAPE_TURNED, 0);
    ck_assert_int_eq(lm_apply(shop, &c, &cut, &e), LM_EUNSUPPORTED);
    ck_assert_ptr_null(cut);
    lm_candidate_close(shop, &c);
    lm_candidate_close(shop, &w);
    lm_plan_free(p);
    lm_plan_free(wide);
}

START_TEST(each_block_has_directions_of_its_own)
{
    turn("per_block=true", true);
    check_turned(first_hidden(open_plan(), 24), open_plan(), 24);
    check_turned(first_hidden(mixed(), 11), mixed(), 11);
    inst_close(&pca);
}
END_TEST

START_TEST(directions_need_statistics)
{
    struct lm_workshop_args a = { .engine = engine, .model = model, .space = space,
                                  .repair = choose, .memory = 1 << 20 };
    struct lm_plan *p = first_hidden(open_plan(), 24);
    struct lm_candidate c;
    struct lm_workshop *w;
    struct lm_err err;

    turn("", false);
    ck_assert_ok(lm_plan_canonical(p, &e), e);
    ck_assert_ok(lm_workshop_open(&a, &w, &e), e);
    ck_assert_ok(lm_candidates_open(w, &p, 1, &c, &err, &e), e);
    ck_assert_int_eq(err.code, LM_ECONFIG);
    ck_assert_ptr_nonnull(strstr(err.text, "calibration"));
    lm_workshop_close(w);
    lm_plan_free(p);
    inst_close(&pca);
}
END_TEST

START_TEST(memory_for_directions_may_run_out)
{
    struct lm_plan *p = first_hidden(mixed(), 11);

    ck_assert_ok(lm_plan_canonical(p, &e), e);
    turn("per_block=true", true);
    ck_assert_int_gt(fail_every_allocation(candidate_life, p), 60);
    inst_close(&pca);
    turn("", false);
    ck_assert_int_gt(fail_every_allocation(candidate_life, p), 60);
    inst_close(&pca);
    lm_plan_free(p);
}
END_TEST

/* ---- what they share --------------------------------------------------------------- */

START_TEST(parts_are_shared_by_equal_sets)
{
    struct lm_plan *p = keep_hidden(open_plan(), most, MOST);
    struct lm_plan *q = keep_hidden(open_plan(), most, MOST);
    struct lm_plan *r = keep_hidden(open_plan(), most + 1, MOST - 1);
    struct lm_candidate c, d, f;

    top(q, LM_SITE_FFN_CHANNEL, 2, 7);
    c = open_one(p);
    d = open_one(q);
    f = open_one(r);
    for (size_t i = 0; i < c.net.n; i++) {
        bool cut = lm_segment_spec(c.net.seg[i])->kind == LM_SEG_MLP
                && lm_segment_spec(c.net.seg[i])->layer == 2;

        ck_assert((c.net.seg[i] == d.net.seg[i]) == !cut);
        ck_assert(c.net.seg[i] != f.net.seg[i]);
        ck_assert_int_eq(lm_segment_spec(f.net.seg[i])->hidden, MOST - 1);
    }
    lm_candidate_close(shop, &c);
    lm_candidate_close(shop, &d);
    lm_candidate_close(shop, &f);
    lm_plan_free(p);
    lm_plan_free(q);
    lm_plan_free(r);
}
END_TEST

/* The divergence is that of the two models' distributions, which both have. */
START_TEST(divergence_is_from_the_dense_model)
{
    struct lm_plan *p = keep_hidden(open_plan(), most, MOST);
    struct lm_candidate c = open_one(p);
    struct lm_network dense;
    struct lm_decoder *x[2];
    struct lm_teacher *t;
    struct lm_runner *r;
    float kl[LENGTH], y[2][TOY_VOCAB];
    double sum[2] = { 0, 0 }, want = 0;

    ck_assert_ok(lm_network_open(engine, model, &dense, &e), e);
    ck_assert_ok(lm_teacher_open(engine, &dense, 1 << 20, &t, &e), e);
    ck_assert_ok(lm_runner_open(engine, &r, &e), e);
    ck_assert_ok(lm_runner_kl(r, &c.net, t, ids, LENGTH, kl, &e), e);
    for (int i = 0; i < 2; i++) {       /* the last token's logits, two ways */
        ck_assert_ok(lm_decoder_open(engine, i ? &c.net : &dense, LENGTH, 1, &x[i], &e),
                     e);
        ck_assert_ok(lm_decoder_feed(x[i], ids, LENGTH - 1, NULL, NULL, &e), e);
        ck_assert_ok(lm_decoder_feed(x[i], ids + LENGTH - 1, 1, y[i], NULL, &e), e);
        lm_decoder_close(x[i]);
        for (int v = 0; v < TOY_VOCAB; v++)
            sum[i] += exp((double)y[i][v]);
    }
    for (int v = 0; v < TOY_VOCAB; v++) {
        double lp = (double)y[0][v] - log(sum[0]), lq = (double)y[1][v] - log(sum[1]);

        want += exp(lp) * (lp - lq);
    }
    ck_assert_msg(fabs((double)kl[LENGTH - 1] - want) < 2e-5 && want > 1e-3,
                  "%g is not %g", (double)kl[LENGTH - 1], want);
    lm_runner_close(r);
    lm_teacher_close(t);
    lm_network_close(&dense);
    lm_candidate_close(shop, &c);
    lm_plan_free(p);
}
END_TEST

START_TEST(memory_may_run_out)
{
    struct lm_plan *p = keep_hidden(mixed(), most, MOST);

    ck_assert_ok(lm_plan_canonical(p, &e), e);
    repairing = true;
    ck_assert_int_gt(fail_every_allocation(candidate_life, p), 60);
    lm_plan_free(p);
}
END_TEST

Suite *candidate_hidden_suite(void)
{
    Suite *s = suite_create("candidates of a narrower stream");
    TCase *t = tcase_create("hidden");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, kept_channels_are_the_model_with_others_at_zero);
    tcase_add_test(t, so_they_are_of_a_cut_and_repaired_model);
    tcase_add_test(t, a_tied_model_with_biases_stays_tied);
    tcase_add_test(t, directions_are_a_projection_of_the_stream);
    tcase_add_test(t, directions_of_a_tied_model_make_a_head);
    tcase_add_test(t, of_directions_only_the_number_counts);
    tcase_add_test(t, each_block_has_directions_of_its_own);
    tcase_add_test(t, directions_need_statistics);
    tcase_add_test(t, memory_for_directions_may_run_out);
    tcase_add_test(t, parts_are_shared_by_equal_sets);
    tcase_add_test(t, divergence_is_from_the_dense_model);
    tcase_add_test(t, memory_may_run_out);
    suite_add_tcase(s, t);
    return s;
}
