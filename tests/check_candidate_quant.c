/* SPDX-License-Identifier: Apache-2.0 */
/* check_candidate_quant.c -- candidates whose matrices have number formats of
 * their own: what is judged is what is written, bit for bit.                */
#include "check_candidate.h"
#include "check_quant.h"
#include "pipeline/host.h"

static struct inst int8, int4;
static bool failing;
/* 32 and 64 columns: whole blocks */
static const struct toy even = { .n_layer = LAYERS, .n_head = 16, .n_kv = 8, .n_ff = 96,
                                 .bias = true };

static enum lm_status fail_encode(void *self, const struct lm_quant_site *site, void *out,
                                  struct lm_err *err)
{
    (void)self, (void)site, (void)out;
    return lm_fail(err, LM_EFAILED, "the test wants this matrix to fail");
}

static enum lm_status quant(void *ctx, const char *name, struct lm_quant_choice *out,
                            struct lm_err *err)
{
    static struct lm_quantizer bad;
    const struct inst *q = !strcmp(name, "int8") ? &int8 : &int4;

    (void)ctx;
    if (strcmp(name, "int8") && strcmp(name, "int4"))
        return lm_fail(err, LM_EINPUT, "no such quantizer");
    bad = *(const struct lm_quantizer *)q->ops;
    bad.encode = fail_encode;
    *out = (struct lm_quant_choice){ .ops = failing && q == &int4 ? &bad : q->ops,
        .self = q->self, .key = q == &int8 ? 1 : 2, .weighed = q == &int4,
        .dtype = q == &int8 ? LM_Q8_0 : LM_Q4_0 };
    return LM_OK;
}

static struct lm_workshop_args args(size_t memory)
{
    return (struct lm_workshop_args){ .engine = engine, .model = model, .stats = stats,
        .repair = choose, .memory = memory, .quant = quant };
}

static void begin(void)
{
    struct lm_workshop_args a;

    setup();
    close_model();
    model = toy_model(&even);
    ck_assert_ok(lm_engine_open(model, backend.ops, backend.self, &engine, &e), e);
    ck_assert_ok(lm_stats_collect(engine, ids, SEQS, LENGTH,
                                  LM_BIT(LM_STAT_GRAM) | LM_BIT(LM_STAT_SUM)
                                  | LM_BIT(LM_STAT_SUMSQ),
                                  LM_BIT(LM_SITE_ATTN) | LM_BIT(LM_SITE_MLP), folder,
                                  &stats, &e), e);
    inst_open(&int8, "quant", "int8", "", NULL, NULL);
    inst_open(&int4, "quant", "int4", "weigh=true", NULL, NULL);
    space = NULL;
    failing = false;
    a = args(1 << 22);
    ck_assert_ok(lm_workshop_open(&a, &shop, &e), e);
}

static void end(void)
{
    inst_close(&int4);
    inst_close(&int8);
    lm_workshop_close(shop);
    lm_stats_close(stats);
    lm_engine_close(engine);
    lm_model_free(model);
    inst_close(&flap);
    inst_close(&repair);
    inst_close(&backend);
    scratch_end(folder);
    ck_assert_int_eq(lm_mem_blocks(), 0);
}

static struct lm_plan *parse(const char *text)
{
    struct lm_plan *p;

    ck_assert_ok(lm_plan_parse(lm_model_arch(model), text, &p, &e), e);
    return p;
}

/* Cut and repaired, cut and not quantized, dense and quantized, partly, gone. */
static const char mixture[] =
    "plan 1 layers=4\n"
    "layer 0: kv=4/8:1-3,6 ffn=64/96:3-34,60-91 format=int4/q4_0\n"
    "layer 1: o=int8/q8_0 down=int4/q4_0\n"
    "layer 2: none\n"
    "layer 3: attn=none ffn=32/96:0-31 up=int8/q8_0\n";

static struct lm_candidate open_text(const char *text, struct lm_plan **p)
{
    *p = parse(text);
    return open_one(*p);
}

static const struct lm_mat *mat(const struct lm_segment_spec *s, uint32_t role)
{
    const struct lm_mat *all[] = { &s->q, &s->k, &s->v, &s->o, &s->gate, &s->up,
                                   &s->down };

    return all[lm_matrix_index(role)];
}

static bool is_block(const struct lm_network *net, int32_t layer, uint32_t role,
                     const struct lm_segment_spec **s)
{
    *s = find(net, role <= LM_W_O ? LM_SEG_ATTN : LM_SEG_MLP, layer);
    return *s;
}

/* Matrices of m, layer `to`, are those of the candidate's layer, bit for bit. */
static void same_as_judged(const struct lm_candidate *c, const struct lm_model *m,
                           int32_t layer, int32_t to)
{
    for (int i = 0; i < LM_N_MATRICES; i++) {
        uint32_t role = lm_matrix_role(i), dtype = lm_plan_dtype_of(c->plan, layer, i, 0);
        const struct lm_tensor *t = lm_model_tensor(m, role, to);
        const struct lm_segment_spec *s;
        const float *f;

        ck_assert(!t == !is_block(&c->net, layer, role, &s));
        if (!t)
            continue;
        if (dtype)
            ck_assert_uint_eq(t->dtype, dtype);
        ck_assert_ok(lm_model_floats(m, role, to, &f, &e), e);
        ck_assert_int_eq(mat(s, role)->rows, t->rows);
        ck_assert_int_eq(mat(s, role)->cols, t->cols);
        for (int64_t r = 0; r < t->rows; r++)
            ck_assert_mem_eq(f + r * t->cols, mat(s, role)->w + r * mat(s, role)->stride,
                             (size_t)t->cols * sizeof *f);
    }
}

static enum lm_status write_gguf(const struct lm_model *m, const uint32_t *own,
                                 const char *path, struct lm_model **again)
{
    struct inst g;
    struct lm_args a = { .struct_size = sizeof a, .host = lm_host() };
    struct lm_export x = { .struct_size = sizeof x, .path = path, .dtype = LM_F32,
                           .card = "", .parent = m, .own = own };
    const struct lm_format *ops;
    struct lm_builder *b;
    enum lm_status st;

    inst_load(&g, "formats", "gguf");
    ops = g.ops;
    ck_assert_ok(g.m->create(&a, &g.self, &e), e);
    if (!(st = ops->write(g.self, m, &x, &e))) {
        ck_assert_ok(lm_builder_open(path, &b, &e), e);
        ck_assert_ok(ops->read(g.self, path, b, &e), e);
        ck_assert_ok(lm_builder_finish(b, again, &e), e);
    }
    g.m->destroy(g.self);
    dlclose(g.dl);
    return st;
}

static int64_t tensor_bytes(const struct lm_model *m)
{
    int64_t n = 0;

    for (int32_t l = -1; l < lm_model_arch(m)->n_layer; l++)
        for (uint32_t r = 1; r < LM_N_ROLES; r++) {
            const struct lm_tensor *t = lm_role_is_layer(r) == (l >= 0)
                ? lm_model_tensor(m, r, l) : NULL;

            n += t ? t->rows * lm_row_bytes(t->dtype, t->cols) : 0;
        }
    return n;
}

START_TEST(what_is_judged_is_what_is_exported)
{
    struct lm_plan *p;
    struct lm_model *cut, *read;
    struct lm_cost cost = { .struct_size = sizeof cost };
    struct lm_candidate c;
    uint32_t *own;
    char path[300];

    repairing = true;
    c = open_text(mixture, &p);
    ck_assert_ok(lm_apply(shop, &c, &cut, &e), e);
    ck_assert_ok(lm_plan_dtypes(p, &own, &e), e);
    snprintf(path, sizeof path, "%s/a.gguf", folder);
    ck_assert_ok(write_gguf(cut, own, path, &read), e);
    for (int k = 0; k < 2; k++) {
        const struct lm_model *m = k ? read : cut;

        ck_assert_int_eq(lm_model_arch(m)->n_layer, 3);
        same_as_judged(&c, m, 0, 0);
        same_as_judged(&c, m, 1, 1);
        same_as_judged(&c, m, 3, 2);
    }
    ck_assert_uint_eq(lm_model_tensor(read, LM_W_Q, 1)->dtype, LM_F32);
    ck_assert_uint_eq(lm_model_tensor(read, LM_W_DOWN, 1)->dtype, LM_Q4_0);
    lm_candidate_cost(&c, LM_F32, &cost);
    ck_assert_int_eq(cost.bytes, tensor_bytes(read));
    own[LM_W_Q] = LM_Q8_0;                       /* it is q4_0 */
    ck_assert_int_eq(write_gguf(cut, own, path, NULL), LM_EBUG);
    lm_release(own);
    lm_model_free(read);
    lm_model_free(cut);
    lm_candidate_close(shop, &c);
    lm_plan_free(p);
}
END_TEST

/* The quantizer was given `bare` and sumsq [cols]. */
static void made_of(const struct lm_mat *m, const struct lm_mat *bare, uint32_t role,
                    const double *sumsq)
{
    float want[64];
    unsigned char row[64];

    for (int64_t r = 0; r < bare->rows; r++) {
        struct lm_quant_site site = { .struct_size = sizeof site, .role = role, .rows = 1,
            .cols = bare->cols, .stride = bare->cols, .w = bare->w + r * bare->stride,
            .sumsq = sumsq, .tokens = lm_stats_tokens(stats) };

        ck_assert_ok(((const struct lm_quantizer *)int4.ops)->encode(int4.self, &site,
                                                                     row,
                                                                    &e), e);
        lm_codec(LM_Q4_0)->decode(row, want, bare->cols);
        ck_assert_mem_eq(want, m->w + r * m->stride, (size_t)bare->cols * sizeof *want);
    }
}

/* Number formats come behind cut and repair: what the quantizer is given are the
 * weights of the same plan without formats, and sums of squares in their order.  */
START_TEST(formats_come_last)
{
    const char *bare = "plan 1 layers=4\nlayer 0: kv=4/8:1-3,6 ffn=64/96:3-34,60-91\n";
    struct lm_plan *p, *q;
    struct lm_candidate c, d;
    const struct lm_segment_spec *s, *t;
    const double *from;
    double sumsq[64];
    int64_t n;

    repairing = true;
    c = open_text(mixture, &p);
    d = open_text(bare, &q);
    s = find(&c.net, LM_SEG_MLP, 0);
    t = find(&d.net, LM_SEG_MLP, 0);
    ck_assert_uint_ne(s->key, t->key);
    ck_assert_ok(lm_stats_get(stats, LM_STAT_SUMSQ, LM_SITE_MLP, 0, &from, &n, &e), e);
    for (int j = 0; j < 64; j++)
        sumsq[j] = from[j < 32 ? j + 3 : j - 32 + 60];
    made_of(&s->down, &t->down, LM_W_DOWN, sumsq);
    s = find(&c.net, LM_SEG_ATTN, 1);
    t = find(&d.net, LM_SEG_ATTN, 1);
    ck_assert_ptr_eq(s->q.w, t->q.w);            /* left alone: the dense one */
    ck_assert_ptr_ne(s->o.w, t->o.w);
    ck_assert_ptr_eq(s->q.bias, t->q.bias);
    lm_candidate_close(shop, &c);
    lm_candidate_close(shop, &d);
    lm_plan_free(p);
    lm_plan_free(q);
}
END_TEST

START_TEST(squares_follow_query_heads)
{
    static const int head[] = { 1, 2, 5, 7, 8, 11, 13, 14 };
    struct lm_plan *p, *q;
    struct lm_candidate c, d;
    const double *from;
    double sumsq[64];
    int64_t n, width;

    repairing = true;
    c = open_text("plan 1 layers=4\nlayer 0: heads=8/16:1-2,5,7-8,11,13-14 o=int4/q4_0\n",
                  &p);
    d = open_text("plan 1 layers=4\nlayer 0: heads=8/16:1-2,5,7-8,11,13-14\n", &q);
    const struct lm_segment_spec *s = find(&c.net, LM_SEG_ATTN, 0);
    const struct lm_segment_spec *t = find(&d.net, LM_SEG_ATTN, 0);
    ck_assert_ok(lm_stats_get(stats, LM_STAT_SUMSQ, LM_SITE_ATTN, 0, &from, &n, &e), e);
    width = n / 16;
    ck_assert_int_eq(t->o.cols, 8 * width);
    for (int64_t j = 0; j < t->o.cols; j++)
        sumsq[j] = from[head[j / width] * width + j % width];
    made_of(&s->o, &t->o, LM_W_O, sumsq);
    lm_candidate_close(shop, &c);
    lm_candidate_close(shop, &d);
    lm_plan_free(p);
    lm_plan_free(q);
}
END_TEST

START_TEST(exported_models_compute_the_same)
{
    struct lm_plan *p;
    struct lm_candidate c = open_text(mixture, &p);
    struct lm_engine *g;
    struct lm_network net;
    struct lm_model *cut;
    float x[LENGTH], y[LENGTH];

    losses(engine, &c.net, x);
    ck_assert_ok(lm_apply(shop, &c, &cut, &e), e);
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

static double logits_loss(const float *logit, int32_t n, int32_t target)
{
    double sum = 0;

    for (int32_t i = 0; i < n; i++)
        sum += exp((double)logit[i]);
    return log(sum) - (double)logit[target];
}

/* A decoder reads the bytes of the number formats: losses are those of the decoded
 * weights, and follow when a byte is changed.                                     */
START_TEST(decoders_read_codes)
{
    struct lm_plan *p;
    struct lm_candidate c = open_text(mixture, &p);
    const struct lm_mat *m = &find(&c.net, LM_SEG_MLP, 1)->down;
    struct lm_decoder *d;
    float x[LENGTH], row[96];
    double differ[2] = { 0, 0 };

    losses(engine, &c.net, x);
    ck_assert_ptr_nonnull(m->coded.data);
    ck_assert_uint_eq(m->coded.dtype, LM_Q4_0);
    ck_assert_int_eq(m->cols, 96);
    lm_codec(LM_Q4_0)->decode(m->coded.data, row, m->cols);
    ck_assert_mem_eq(row, m->w, (size_t)m->cols * sizeof *row);
    ck_assert_ok(lm_decoder_open(engine, &c.net, LENGTH, 1, &d, &e), e);
    for (int changed = 0; changed < 2; changed++) {
        lm_decoder_seek(d, 0);
        for (int i = 0; i < LENGTH - 1; i++) {
            float logit[TOY_VOCAB];

            ck_assert_ok(lm_decoder_feed(d, ids + i, 1, logit, NULL, &e), e);
            differ[changed] = fmax(differ[changed],
                                   fabs(logits_loss(logit, TOY_VOCAB, ids[i + 1])
                                        - (double)x[i]));
        }
        ((unsigned char *)(uintptr_t)m->coded.data)[1] ^= 4;   /* a scale, 16 times */
    }
    ck_assert_msg(differ[0] < 1e-5 && differ[1] > 1e-4, "%g, %g", differ[0], differ[1]);
    lm_decoder_close(d);
    lm_candidate_close(shop, &c);
    lm_plan_free(p);
}
END_TEST

START_TEST(quantized_parts_are_shared_and_let_go)
{
    struct lm_workshop_use before, use;
    struct lm_workshop_args a = args(40000);
    struct lm_plan *p[2] = { parse(mixture),
        parse("plan 1 layers=4\nlayer 1: o=int8/q8_0 down=int8/q8_0\n") };
    struct lm_candidate c[2];
    struct lm_err err[2];

    lm_workshop_close(shop);
    ck_assert_ok(lm_workshop_open(&a, &shop, &e), e);
    ck_assert_ok(lm_candidates_open(shop, p, 2, c, err, &e), e);
    ck_assert(err[0].code == LM_OK && err[1].code == LM_OK);
    ck_assert_ptr_eq(find(&c[0].net, LM_SEG_ATTN, 1), find(&c[1].net, LM_SEG_ATTN, 1));
    ck_assert_ptr_ne(find(&c[0].net, LM_SEG_MLP, 1), find(&c[1].net, LM_SEG_MLP, 1));
    lm_workshop_use(shop, &before);
    ck_assert_uint_gt(before.bytes, 40000);      /* held by those in use */
    lm_candidate_close(shop, &c[0]);
    lm_candidate_close(shop, &c[1]);
    lm_workshop_use(shop, &use);
    ck_assert_uint_le(use.bytes, 40000);
    for (int i = 0; i < 3; i++) {                /* and come again */
        ck_assert_ok(lm_candidates_open(shop, p, 2, c, err, &e), e);
        lm_candidate_close(shop, &c[i % 2]);
        lm_candidate_close(shop, &c[1 - i % 2]);
    }
    lm_plan_free(p[0]);
    lm_plan_free(p[1]);
}
END_TEST

static void add_quantized(void *ctx, const char *tag, size_t n)
{
    *(size_t *)ctx += strncmp(tag, "quantize", 8) ? 0 : n;
}

/* Floats and bytes of what is in number formats, on the heap, keep to the limit: the
 * rest is in files; of an engine that streams all is.                             */
START_TEST(what_is_quantized_keeps_to_the_limit)
{
    static const char *const format[] = { "int8/q8_0", "int4/q4_0" };
    size_t limit = _i ? 0 : 30000, heap = 0;
    struct lm_workshop_args a = args(limit);
    struct lm_workshop_use use;
    struct lm_engine *g = NULL;

    a.spill = folder;
    lm_workshop_close(shop);
    if (_i) {
        ck_assert_ok(lm_engine_open(model, backend.ops, backend.self, &g, &e), e);
        lm_engine_stream(g, 1);
        a.engine = g;
    }
    ck_assert_ok(lm_workshop_open(&a, &shop, &e), e);
    for (int i = 0; i < 8; i++) {
        char text[200];
        struct lm_plan *p;
        struct lm_candidate c;
        float x[LENGTH], y[LENGTH];

        snprintf(text, sizeof text, "plan 1 layers=4\nlayer %d: format=%s\n", i % 4,
                 format[i / 4]);
        c = open_text(text, &p);
        losses(a.engine, &c.net, x);
        heap = 0;
        lm_mem_each(add_quantized, &heap);
        ck_assert_uint_le(heap, limit);
        lm_workshop_use(shop, &use);
        ck_assert_uint_eq(use.bytes - use.spilled, heap);
        lm_candidate_close(shop, &c);
        c = open_one(p);                /* from where it was kept */
        losses(a.engine, &c.net, y);
        ck_assert_mem_eq(x, y, (LENGTH - 1) * sizeof *x);
        lm_candidate_close(shop, &c);
        lm_plan_free(p);
    }
    ck_assert(use.spilled > 0 && (_i || heap > limit / 2));
    lm_workshop_close(shop);
    if (g)
        lm_engine_close(g);
    shop = NULL;
}
END_TEST

START_TEST(a_failing_quantizer_costs_its_candidate)
{
    struct lm_plan *p[3] = { parse(mixture),
        parse("plan 1 layers=4\nlayer 1: o=int8/q8_0\n"),
        parse("plan 1 layers=4\nlayer 1: ffn=40/96:0-39 down=int8/q8_0\n") };
    struct lm_candidate c[3];
    struct lm_err err[3];

    failing = true;
    ck_assert_ok(lm_candidates_open(shop, p, 3, c, err, &e), e);
    ck_assert_int_eq(err[0].code, LM_EFAILED);
    ck_assert_ptr_nonnull(strstr(err[0].text, "layer "));
    ck_assert_ptr_nonnull(strstr(err[0].text, "wants this matrix to fail"));
    ck_assert_int_eq(err[1].code, LM_OK);
    ck_assert_int_eq(err[2].code, LM_EINFEASIBLE);
    ck_assert_ptr_nonnull(strstr(err[2].text, "no multiple of 32"));
    for (int i = 0; i < 3; i++) {
        lm_candidate_close(shop, &c[i]);
        lm_plan_free(p[i]);
    }
    p[0] = parse("plan 1 layers=4\nlayer 1: o=int8/q4_1\n");
    p[1] = parse("plan 1 layers=4\nlayer 1: o=int9/q8_0\n");
    ck_assert_ok(lm_candidates_open(shop, p, 2, c, err, &e), e);
    ck_assert_int_eq(err[0].code, LM_EINPUT);
    ck_assert_int_eq(err[1].code, LM_EINPUT);
    lm_plan_free(p[0]);
    lm_plan_free(p[1]);
}
END_TEST

static enum lm_status whole_life(void *ctx)
{
    struct lm_plan *p = ctx;
    struct lm_workshop_args a = args(5000);
    struct lm_model *cut;
    struct lm_candidate c;
    struct lm_workshop *w;
    struct lm_err err;
    uint32_t *own = NULL;
    enum lm_status st = lm_workshop_open(&a, &w, &e);

    if (st)
        return st;
    if (!(st = lm_candidates_open(w, &p, 1, &c, &err, &e))) {
        if (err.code == LM_OK && !(st = lm_apply(w, &c, &cut, &e))) {
            lm_model_free(cut);
            st = lm_plan_dtypes(p, &own, &e);
            lm_release(own);
        }
        st = st ? st : err.code;
        lm_candidate_close(w, &c);
    }
    lm_workshop_close(w);
    return st;
}

START_TEST(memory_may_run_out)
{
    struct lm_plan *p = parse("plan 1 layers=4\nlayer 0: ffn=64/96:0-63 format=int4/q4_0\n"
                              "layer 1: attn=none down=int8/q8_0\n"
                              "layer 2: none\nlayer 3: none\n");

    ck_assert_int_gt(fail_every_allocation(whole_life, p), 30);
    lm_plan_free(p);
}
END_TEST

Suite *candidate_quant_suite(void)
{
    Suite *s = suite_create("candidate_quant");
    TCase *t = tcase_create("candidate_quant");

    tcase_add_checked_fixture(t, begin, end);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, what_is_judged_is_what_is_exported);
    tcase_add_test(t, formats_come_last);
    tcase_add_test(t, squares_follow_query_heads);
    tcase_add_test(t, exported_models_compute_the_same);
    tcase_add_test(t, decoders_read_codes);
    tcase_add_test(t, quantized_parts_are_shared_and_let_go);
    tcase_add_loop_test(t, what_is_quantized_keeps_to_the_limit, 0, 2);
    tcase_add_test(t, a_failing_quantizer_costs_its_candidate);
    tcase_add_test(t, memory_may_run_out);
    suite_add_tcase(s, t);
    return s;
}
