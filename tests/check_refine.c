/* SPDX-License-Identifier: Apache-2.0 */
/* check_refine.c -- finalists repaired in sequence, against a model in plain double
 * loops: RMS norm, rotary embedding, causal attention, SiLU, and normal equations by
 * elimination.
 *
 * Each refined matrix is checked given what is in front of it: the reference takes
 * the blocks before from the candidate as it came out, so that errors do not add up. */
#include "base/pool.h"
#include "plan/part.h"
#include "check_candidate.h"

enum { TOKENS = SEQS * LENGTH, D = TOY_HIDDEN, HALF = TOY_HEAD / 2, WIDEST = 96 };
#define RIDGE 0.2

static struct inst sequential, int8;
static bool quantizing;
/* 32 and 64 columns: whole blocks of number formats */
static const struct toy even = { .n_layer = LAYERS, .n_head = 16, .n_kv = 8, .n_ff = 96,
                                 .bias = true };
/* Cut, whole, gone; a group that loses a head. */
static const char cut[] =
    "plan 1 layers=4\n"
    "layer 0: kv=4/8:1-3,6 ffn=64/96:3-34,60-91\n"
    "layer 1: ffn=32/96:7-22,40-55\n"
    "layer 2: attn=none\n"
    "layer 3: kv=4/8:0-3 heads=4/16:0,3-4,6 ffn=32/96:0-31\n";
static const char formats[] =
    "plan 1 layers=4\n"
    "layer 0: kv=4/8:1-3,6 ffn=64/96:3-34,60-91 format=int8/q8_0\n"
    "layer 1: ffn=32/96:7-22,40-55 up=int8/q8_0 down=int8/q8_0\n"
    "layer 2: attn=none format=int8/q8_0\n"
    "layer 3: kv=4/8:0-3 ffn=32/96:0-31 format=int8/q8_0\n";

static enum lm_status quant(void *ctx, const char *name, struct lm_quant_choice *out,
                            struct lm_err *err)
{
    (void)ctx;
    if (strcmp(name, "int8"))
        return lm_fail(err, LM_EINPUT, "no such quantizer");
    *out = (struct lm_quant_choice){ .ops = int8.ops, .self = int8.self, .key = 1,
                                     .dtype = LM_Q8_0 };
    return LM_OK;
}

static void open_workshop(void)
{
    struct lm_workshop_args a = { .engine = engine, .model = model, .stats = stats,
        .repair = choose, .memory = 1 << 22, .quant = quantizing ? quant : NULL };

    ck_assert_ok(lm_workshop_open(&a, &shop, &e), e);
}

static void begin(void)
{
    setup();
    close_model();
    space = NULL;
    model = toy_model(&even);
    ck_assert_ok(lm_engine_open(model, backend.ops, backend.self, &engine, &e), e);
    ck_assert_ok(lm_stats_collect(engine, ids, SEQS, LENGTH,
                                  LM_BIT(LM_STAT_GRAM) | LM_BIT(LM_STAT_SUM),
                                  LM_BIT(LM_SITE_ATTN) | LM_BIT(LM_SITE_MLP), folder,
                                  &stats, &e), e);
    inst_open(&sequential, "repair", "sequential", "", NULL, NULL);
    inst_open(&int8, "quant", "int8", "", NULL, NULL);
    quantizing = false;
    open_workshop();
}

static void end(void)
{
    inst_close(&int8);
    inst_close(&sequential);
    lm_workshop_close(shop);
    lm_stats_close(stats);
    lm_engine_close(engine);
    lm_model_free(model);
    inst_close(&flap);
    inst_close(&repair);
    inst_close(&backend);
    scratch_end(folder);
    lm_pool_stop();
    ck_assert_int_eq(lm_mem_blocks(), 0);
}

static struct lm_refine job(void)
{
    return (struct lm_refine){
        .repair = { .ops = sequential.ops, .self = sequential.self, .key = 5 },
        .ids = ids, .n_seq = SEQS, .length = LENGTH, .folder = folder };
}

static struct lm_candidate open_text(const char *text, struct lm_plan **p)
{
    ck_assert_ok(lm_plan_parse(lm_model_arch(model), text, p, &e), e);
    return open_one(*p);
}

static void close_text(struct lm_candidate *c, struct lm_plan *p)
{
    lm_candidate_close(shop, c);
    lm_plan_free(p);
}

/* ---- a model in double --------------------------------------------------------- */

static void linear(const struct lm_mat *m, const double *x, double *out)
{
    for (int64_t i = 0; i < m->rows; i++) {
        out[i] = m->bias ? m->bias[i] : 0;
        for (int64_t j = 0; j < m->cols; j++)
            out[i] += m->w[i * m->stride + j] * x[j];
    }
}

static void norm(const double *h, const float *weight, double *out)
{
    double sum = 0;

    for (int i = 0; i < D; i++)
        sum += h[i] * h[i];
    for (int i = 0; i < D; i++)
        out[i] = h[i] / sqrt(sum / D + 1e-5) * weight[i];
}

static void rotate(double *v, int heads, int t)
{
    for (int h = 0; h < heads; h++, v += TOY_HEAD)
        for (int i = 0; i < HALF; i++) {
            double a = t * pow(10000, -2.0 * i / TOY_HEAD), x = v[i], y = v[i + HALF];

            v[i] = x * cos(a) - y * sin(a);
            v[i + HALF] = y * cos(a) + x * sin(a);
        }
}

/* What o reads, for a sequence: h [LENGTH][D] to x [LENGTH][o.cols]. */
static void attend(const struct lm_segment_spec *s, const double *h, double *x)
{
    static double q[LENGTH][WIDEST], k[LENGTH][WIDEST], v[LENGTH][WIDEST];

    for (int t = 0; t < LENGTH; t++) {
        double in[D];

        norm(h + t * D, s->norm, in);
        linear(&s->q, in, q[t]);
        linear(&s->k, in, k[t]);
        linear(&s->v, in, v[t]);
        rotate(q[t], s->n_head, t);
        rotate(k[t], s->n_kv, t);
        for (int a = 0; a < s->n_head; a++) {
            int at = a * TOY_HEAD, from = a / (s->n_head / s->n_kv) * TOY_HEAD;
            double p[LENGTH], sum = 0, *out = x + t * s->o.cols + at;

            memset(out, 0, TOY_HEAD * sizeof *out);
            for (int u = 0; u <= t; u++) {
                p[u] = 0;
                for (int i = 0; i < TOY_HEAD; i++)
                    p[u] += q[t][at + i] * k[u][from + i];
                sum += p[u] = exp(p[u] / sqrt(TOY_HEAD));
            }
            for (int u = 0; u <= t; u++)
                for (int i = 0; i < TOY_HEAD; i++)
                    out[i] += p[u] / sum * v[u][from + i];
        }
    }
}

static void mix(const struct lm_segment_spec *s, const double *h, double *x)
{
    for (int t = 0; t < LENGTH; t++) {
        double in[D], up[WIDEST], *gate = x + t * s->down.cols;

        norm(h + t * D, s->norm, in);
        linear(&s->gate, in, gate);
        linear(&s->up, in, up);
        for (int64_t i = 0; i < s->down.cols; i++)
            gate[i] *= up[i] / (1 + exp(-gate[i]));
    }
}

static const struct lm_mat *consumer(const struct lm_segment_spec *s)
{
    return s->kind == LM_SEG_MLP ? &s->down : &s->o;
}

/* x [TOKENS][k] of all sequences. */
static void inputs(const struct lm_segment_spec *s, const double *h, double *x)
{
    int64_t k = consumer(s)->cols;

    for (int i = 0; i < SEQS; i++, h += LENGTH * D, x += LENGTH * k)
        if (s->kind == LM_SEG_MLP)
            mix(s, h, x);
        else
            attend(s, h, x);
}

/* A stream [TOKENS][D] through a block. */
static void pass(const struct lm_segment_spec *s, double *h)
{
    static double x[TOKENS * WIDEST];
    const struct lm_mat *m = consumer(s);

    inputs(s, h, x);
    for (int t = 0; t < TOKENS; t++) {
        double out[D];

        linear(m, x + t * m->cols, out);
        for (int i = 0; i < D; i++)
            h[t * D + i] += out[i];
    }
}

/* a [k][k] symmetric and positive definite, b [k]; both are used up. */
static void eliminate(double *a, double *b, int k)
{
    for (int c = 0; c < k; c++)
        for (int i = c + 1; i < k; i++) {
            double f = a[i * k + c] / a[c * k + c];

            for (int j = c; j < k; j++)
                a[i * k + j] -= f * a[c * k + j];
            b[i] -= f * b[c];
        }
    for (int c = k - 1; c >= 0; c--) {
        for (int j = c + 1; j < k; j++)
            b[c] -= a[c * k + j] * b[j];
        b[c] /= a[c * k + c];
    }
}

/* The refined matrix of a block whose base is s, with the candidate's stream before
 * it and the dense one behind it.                                             */
static void check_refined(const struct lm_segment_spec *s, const struct lm_mat *got,
                          const double *before, const double *dense)
{
    static double x[TOKENS * WIDEST], gram[WIDEST * WIDEST], a[WIDEST * WIDEST];
    const struct lm_mat *m = consumer(s);
    int k = (int)m->cols;
    double d = 0, off = 0, size = 0, moved = 0;

    inputs(s, before, x);
    for (int i = 0; i < k; i++)
        for (int j = 0; j < k; j++) {
            gram[i * k + j] = 0;
            for (int t = 0; t < TOKENS; t++)
                gram[i * k + j] += x[t * k + i] * x[t * k + j];
            d += i == j ? RIDGE * gram[i * k + i] / k : 0;
        }
    ck_assert_int_eq(got->cols, k);
    for (int r = 0; r < D; r++) {
        double b[WIDEST];

        for (int j = 0; j < k; j++) {
            b[j] = d * m->w[r * m->stride + j];
            for (int t = 0; t < TOKENS; t++)
                b[j] += x[t * k + j] * (dense[t * D + r] - before[t * D + r]
                                        - (m->bias ? m->bias[r] : 0));
        }
        memcpy(a, gram, (size_t)(k * k) * sizeof *a);
        for (int j = 0; j < k; j++)
            a[j * k + j] += d;
        eliminate(a, b, k);
        for (int j = 0; j < k; j++) {
            double w = m->w[r * m->stride + j];

            off = fmax(off, fabs(got->w[r * got->stride + j] - b[j]));
            moved = fmax(moved, fabs(b[j] - w));
            size = fmax(size, fabs(b[j]));
        }
    }
    ck_assert_msg(off <= 2e-5 * size, "layer %d: off by %g of %g", s->layer, off, size);
    ck_assert_msg(moved > 0.01 * size, "layer %d: nothing was done", s->layer);
}

/* Every refined part of c; returns how many there are. */
static int check_candidate(const struct lm_candidate *c)
{
    static double dense[TOKENS * D], now[TOKENS * D];
    const float *table = floats(LM_W_EMBED, -1);
    struct lm_network net;
    int n = 0;

    for (int i = 0; i < TOKENS * D; i++)
        now[i] = dense[i] = table[ids[i / D] * D + i % D];
    ck_assert_ok(lm_network_open(engine, model, &net, &e), e);
    for (size_t i = 1, at = 1; i + 1 < c->net.n; at++) {
        const struct lm_segment_spec *d = lm_segment_spec(net.seg[at]);
        const struct lm_segment_spec *s = lm_segment_spec(c->net.seg[i]);
        struct lm_part *p = lm_part_floats(c->part[i]);

        pass(d, dense);
        if (d->kind != s->kind || d->layer != s->layer)
            continue;
        if (p->rack) {
            ck_assert_ptr_nonnull(p->base);
            check_refined(lm_segment_spec(p->base->seg),
                          consumer(lm_segment_spec(p->seg)), now, dense);
            n++;
        }
        pass(s, now);
        i++;
    }
    lm_network_close(&net);
    return n;
}

/* ---- tests ----------------------------------------------------------------------- */

/* The exported model is the network that is measured. */
static void applied_is_the_same(const struct lm_candidate *c)
{
    struct lm_engine *g;
    struct lm_network net;
    struct lm_model *out;
    float x[LENGTH], y[LENGTH];

    losses(engine, &c->net, x);
    ck_assert_ok(lm_apply(shop, c, &out, &e), e);
    ck_assert_ok(lm_engine_open(out, backend.ops, backend.self, &g, &e), e);
    ck_assert_ok(lm_network_open(g, out, &net, &e), e);
    losses(g, &net, y);
    ck_assert_mem_eq(x, y, (LENGTH - 1) * sizeof *x);
    lm_network_close(&net);
    lm_engine_close(g);
    lm_model_free(out);
}

START_TEST(refined_blocks)
{
    struct lm_refine r = job();

    for (int round = 0; round < 3; round++) {
        struct lm_plan *p;
        struct lm_candidate c;
        float before[LENGTH], after[LENGTH];

        repairing = round > 0;          /* cut alone; least squares; FLAP's biases */
        with = round == 2 ? &flap : &repair;
        biases = round == 2 ? LM_SHAPE_ATTN_BIAS | LM_SHAPE_MLP_BIAS : 0;
        c = open_text(cut, &p);
        losses(engine, &c.net, before);
        ck_assert_ok(lm_candidate_refine(shop, &c, &r, &e), e);
        ck_assert_int_eq(check_candidate(&c), 5);
        ck_assert_uint_eq(lm_candidate_features(&c), lm_plan_features(p) | biases);
        losses(engine, &c.net, after);
        ck_assert_mem_ne(before, after, sizeof before);
        applied_is_the_same(&c);
        close_text(&c, p);
    }
}
END_TEST

/* got: what the quantizer makes of w, decoded. */
static void check_encoded(const struct lm_mat *w, const struct lm_mat *got)
{
    const struct lm_quantizer *ops = int8.ops;
    struct lm_quant_site site = { .struct_size = sizeof site, .role = LM_W_DOWN,
        .w = w->w, .rows = w->rows, .cols = w->cols, .stride = w->stride };
    char bytes[D * WIDEST * 2];
    int64_t row = lm_row_bytes(LM_Q8_0, w->cols);

    ck_assert_ok(ops->encode(int8.self, &site, bytes, &e), e);
    for (int64_t i = 0; i < w->rows; i++) {
        float out[WIDEST];

        lm_codec(LM_Q8_0)->decode(bytes + i * row, out, w->cols);
        ck_assert_mem_eq(out, got->w + i * got->stride, (size_t)w->cols * sizeof *out);
    }
}

/* Later blocks see the earlier ones as they are exported. */
START_TEST(refined_blocks_in_formats)
{
    struct lm_refine r = job();
    struct lm_plan *p;
    struct lm_candidate c;

    lm_workshop_close(shop);
    quantizing = repairing = true;
    open_workshop();
    c = open_text(formats, &p);
    ck_assert_ok(lm_candidate_refine(shop, &c, &r, &e), e);
    ck_assert_int_eq(check_candidate(&c), 5);
    for (size_t i = 1; i + 1 < c.net.n; i++) {
        struct lm_part *q = c.part[i], *f = lm_part_floats(q);
        const struct lm_segment_spec *s = lm_segment_spec(q->seg);
        const struct lm_mat *w = consumer(lm_segment_spec(f->seg)), *got = consumer(s);

        if (!f->rack)
            continue;
        if (s->kind == LM_SEG_ATTN && s->layer == 1)
            ck_assert_ptr_eq(q, f);
        if (q != f)
            check_encoded(w, got);
    }
    applied_is_the_same(&c);
    close_text(&c, p);
}
END_TEST

/* All consumers of a refined candidate from a fresh workshop. */
static void refine_fresh(int threads, float *out)
{
    struct lm_refine r = job();
    struct lm_plan *p;
    struct lm_candidate c;

    lm_pool_stop();
    ck_assert_ok(lm_pool_start(threads, &e), e);
    lm_workshop_close(shop);
    open_workshop();
    c = open_text(cut, &p);
    ck_assert_ok(lm_candidate_refine(shop, &c, &r, &e), e);
    for (size_t i = 1; i + 1 < c.net.n; i++) {
        const struct lm_mat *m = consumer(lm_segment_spec(c.net.seg[i]));

        for (int64_t j = 0; j < m->rows * m->cols; j++)
            *out++ = m->w[j / m->cols * m->stride + j % m->cols];
    }
    close_text(&c, p);
}

START_TEST(threads_make_no_difference)
{
    static float one[2 * LAYERS * D * WIDEST], many[2 * LAYERS * D * WIDEST];

    repairing = true;
    refine_fresh(1, one);
    refine_fresh(5, many);
    ck_assert_mem_eq(one, many, sizeof one);
}
END_TEST

/* What is known is not made again; another sample, option or block before is not that. */
START_TEST(parts_are_found_again)
{
    struct lm_refine r = job(), other = job(), none = job();
    struct lm_plan *p, *q;
    struct lm_candidate c, d;
    struct lm_workshop_use use, again;
    struct lm_part *first;

    none.folder = "/nowhere";
    c = open_text(cut, &p);
    first = c.part[1];
    ck_assert_int_ne(lm_candidate_refine(shop, &c, &none, &e), LM_OK);
    ck_assert_ptr_eq(c.part[1], first);
    ck_assert_ok(lm_candidate_refine(shop, &c, &r, &e), e);
    first = c.part[1];
    lm_workshop_use(shop, &use);
    d = open_text(cut, &q);
    ck_assert_ok(lm_candidate_refine(shop, &d, &none, &e), e);
    ck_assert_mem_eq(c.part, d.part, c.net.n * sizeof *c.part);
    ck_assert_mem_eq(c.net.seg, d.net.seg, c.net.n * sizeof *c.net.seg);
    lm_workshop_use(shop, &again);
    ck_assert_int_eq(again.built, use.built);
    close_text(&d, q);

    other.repair.key++;
    d = open_text(cut, &q);
    ck_assert_ok(lm_candidate_refine(shop, &d, &other, &e), e);
    ck_assert_ptr_ne(d.part[1], first);
    close_text(&d, q);
    other = job();
    other.n_seq--;
    d = open_text(cut, &q);
    ck_assert_ok(lm_candidate_refine(shop, &d, &other, &e), e);
    ck_assert_ptr_ne(d.part[1], first);
    close_text(&d, q);
    /* the first blocks are the same, the last ones are not: one in between is whole */
    d = open_text("plan 1 layers=4\nlayer 0: kv=4/8:1-3,6 ffn=64/96:3-34,60-91\n"
                  "layer 3: kv=4/8:0-3 heads=4/16:0,3-4,6 ffn=32/96:0-31\n", &q);
    ck_assert_ok(lm_candidate_refine(shop, &d, &r, &e), e);
    ck_assert_ptr_eq(d.part[1], first);
    ck_assert_ptr_eq(d.part[2], c.part[2]);
    ck_assert_ptr_ne(d.part[d.net.n - 2], c.part[c.net.n - 2]);
    ck_assert_int_eq(check_candidate(&d), 4);
    close_text(&d, q);
    close_text(&c, p);
}
END_TEST

/* Nothing is cut, so nothing is done. */
START_TEST(whole_blocks_stay)
{
    struct lm_refine r = job();
    struct lm_plan *p;
    struct lm_candidate c = open_text("plan 1 layers=4\nlayer 1: mlp=none\n"
                                      "layer 2: none\n", &p);
    struct lm_part *part[2 * LAYERS + 2];

    r.folder = "/nowhere";
    memcpy(part, c.part, c.net.n * sizeof *part);
    ck_assert_ok(lm_candidate_refine(shop, &c, &r, &e), e);
    ck_assert_mem_eq(part, c.part, c.net.n * sizeof *part);
    close_text(&c, p);
}
END_TEST

/* A model that is larger than memory; a narrower one; a sample beyond the vocabulary; a
 * cancel.                                                                     */
START_TEST(refusals)
{
    struct lm_refine r = job();
    struct lm_plan *p;
    struct lm_candidate c = open_text(cut, &p);
    int32_t far[LENGTH] = { TOY_VOCAB };

    lm_cancel(true);
    ck_assert_int_eq(lm_candidate_refine(shop, &c, &r, &e), LM_ECANCELED);
    lm_cancel(false);
    r.ids = far;
    r.n_seq = 1;
    ck_assert_int_eq(lm_candidate_refine(shop, &c, &r, &e), LM_EINPUT);
    close_text(&c, p);
    r = job();
    c = open_text("plan 1 layers=4\nmodel: hidden=24/32:0-23\n"
                  "layer 1: ffn=32/96:0-31\n", &p);
    ck_assert_int_eq(lm_candidate_refine(shop, &c, &r, &e), LM_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(e.text, "24 channels"));
    close_text(&c, p);
    lm_workshop_close(shop);
    lm_engine_close(engine);
    ck_assert_ok(lm_engine_open(model, backend.ops, backend.self, &engine, &e), e);
    lm_engine_stream(engine, 1 << 20);
    open_workshop();
    r = job();
    c = open_text(cut, &p);
    ck_assert_int_eq(lm_candidate_refine(shop, &c, &r, &e), LM_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(e.text, "run.memory"));
    close_text(&c, p);
}
END_TEST

static enum lm_status whole_life(void *ctx)
{
    struct lm_refine r = job();
    struct lm_workshop_args a = { .engine = engine, .model = model, .stats = stats,
        .repair = choose, .memory = 1 << 22, .quant = quant };
    struct lm_plan *p;
    struct lm_candidate c;
    struct lm_err why;
    enum lm_status st = lm_plan_parse(lm_model_arch(model), ctx, &p, &e);

    if (st)
        return st;
    if (!(st = lm_plan_canonical(p, &e)) && !(st = lm_workshop_open(&a, &shop, &e))) {
        if (!(st = lm_candidates_open(shop, &p, 1, &c, &why, &e))
            && !(st = why.code)) {
            st = lm_candidate_refine(shop, &c, &r, &e);
            lm_candidate_close(shop, &c);
        }
        lm_workshop_close(shop);
    }
    lm_plan_free(p);
    return st;
}

START_TEST(memory_may_run_out)
{
    char plan[] = "plan 1 layers=4\nlayer 0: kv=4/8:1-3,6 format=int8/q8_0\n"
                  "layer 1: none\nlayer 2: none\nlayer 3: ffn=32/96:0-31\n";

    lm_workshop_close(shop);
    ck_assert_int_gt(fail_every_allocation(whole_life, plan), 100);
    open_workshop();
}
END_TEST

/* ---- the plugin ------------------------------------------------------------------ */

START_TEST(sequential_solves)
{
    enum { N = 3, K = 4 };
    const struct lm_repair *ops = sequential.ops;
    float w[N * K], out[N * K];
    double gram[K * K], cross[N * K], mean = 0;
    struct lm_repair_site s = { .struct_size = sizeof s, .site = LM_SITE_MLP, .n = N,
        .k = K, .w = w, .gram = gram, .cross = cross, .tokens = 9 };
    void *prepared;

    for (int i = 0; i < K; i++)
        for (int j = 0; j < K; j++)
            gram[i * K + j] = i == j ? 4 + i : 1.0 / (1 + i + j);
    for (int i = 0; i < N * K; i++) {
        w[i] = (float)(i % 5 - 2);
        cross[i] = 3 - i % 7;
    }
    for (int i = 0; i < K; i++)
        mean += gram[i * K + i] / K;
    ck_assert_uint_eq(ops->needs, LM_BIT(LM_STAT_GRAM) | LM_BIT(LM_STAT_CROSS));
    ck_assert_ok(ops->prepare(sequential.self, &s, &prepared, &e), e);
    ck_assert_ok(ops->apply(sequential.self, prepared, K, out, &e), e);
    for (int i = 0; i < N; i++) {
        double a[K * K], b[K];

        memcpy(a, gram, sizeof a);
        for (int j = 0; j < K; j++) {
            a[j * K + j] += RIDGE * mean;
            b[j] = cross[i * K + j] + RIDGE * mean * w[i * K + j];
        }
        eliminate(a, b, K);
        for (int j = 0; j < K; j++)
            ck_assert_msg(fabs(out[i * K + j] - b[j]) < 1e-6, "%g, not %g",
                          out[i * K + j], b[j]);
    }
    ck_assert_int_eq(ops->apply(sequential.self, prepared, K - 1, out, &e), LM_EBUG);
    ops->release(sequential.self, prepared);
    cross[3] = NAN;
    ck_assert_int_eq(ops->prepare(sequential.self, &s, &prepared, &e), LM_EFAILED);
    s.struct_size = offsetof(struct lm_repair_site, cross);     /* of an older program */
    ck_assert_int_eq(ops->prepare(sequential.self, &s, &prepared, &e), LM_EBUG);
    s.struct_size = sizeof s;
    memset(gram, 0, sizeof gram);       /* never active */
    memset(cross, 0, sizeof cross);
    ck_assert_ok(ops->prepare(sequential.self, &s, &prepared, &e), e);
    ck_assert_ok(ops->apply(sequential.self, prepared, K, out, &e), e);
    ck_assert_mem_eq(out, w, sizeof w);
    ops->release(sequential.self, prepared);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("refine");
    TCase *t = tcase_create("refine");

    tcase_add_checked_fixture(t, begin, end);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, refined_blocks);
    tcase_add_test(t, refined_blocks_in_formats);
    tcase_add_test(t, threads_make_no_difference);
    tcase_add_test(t, parts_are_found_again);
    tcase_add_test(t, whole_blocks_stay);
    tcase_add_test(t, refusals);
    tcase_add_test(t, memory_may_run_out);
    tcase_add_test(t, sequential_solves);
    suite_add_tcase(s, t);
    return run_suites(&s, 1);
}
