/* SPDX-License-Identifier: Apache-2.0 */
/* check_table.c -- tables of latency: sums and interpolation against numbers worked out
 * by hand, damaged tables, and the operators of a workload against those that a decoder
 * has its backend run.                                                       */
#include "../plugins/evaluators/table.h"
#include "engine_kit.h"
#include "model/profile.h"
#include "pipeline/host.h"

static struct lm_err err;

/* us of linear at (k, n): 10 k + n, but 100 more at (8, 4). */
#define HEAD \
    "{\"format\":\"lamina latency table\",\"version\":1,\"made\":\"now\"," \
    "\"backend\":\"cpu\",\"device\":\"toy\",\"driver\":\"C\"," \
    "\"reads\":[\"f32\",\"q8_0\"],\"threads\":1,\"prefill\":8," \
    "\"decode\":{\"tokens\":4,\"context\":10}," \
    "\"model\":{\"hash\":\"0000000000000000\",\"layers\":1," \
    "\"hidden\":8,\"head_dim\":2,\"vocab\":16},\"operators\":["
#define LINEAR(format, again) \
    "{\"op\":\"linear\",\"rows\":1,\"format\":\"" format "\",\"adds\":false,\"again\":" \
    again ",\"axes\":{\"k\":[4,8],\"n\":[2,4,8]},\"us\":[42,44,48,82,184,88]}"
#define RUN "{\"op\":\"run\",\"rows\":1,\"axes\":{},\"us\":[7]}"
#define ATTENTION \
    "{\"op\":\"attention\",\"rows\":1,\"pos\":12," \
    "\"axes\":{\"n_kv\":[1,2],\"each\":[1,3]},\"us\":[1,3,2,6]}"
#define SILU \
    "{\"op\":\"silu_mul\",\"rows\":8,\"axes\":{\"n\":[4,8]},\"us\":[3,5]}"
#define RUN8 "{\"op\":\"run\",\"rows\":8,\"axes\":{},\"us\":[11]}"
static const char sound[] = HEAD LINEAR("f32", "false") "," LINEAR("f32", "true") ","
    LINEAR("q8_0", "false") "," RUN "," RUN8 "," ATTENTION "," SILU "]}";

static struct table table;

static void setup(void)
{
    ck_assert_ok(table_read(lm_host(), sound, strlen(sound), "toy", &table, &err), err);
}

static void teardown(void)
{
    table_free(&table);
    ck_assert_int_eq(lm_mem_blocks(), 0);
}

static struct lm_use linear(int32_t n, int32_t k)
{
    return (struct lm_use){ .struct_size = sizeof(struct lm_use), .code = LM_OP_LINEAR,
                            .dtype = LM_F32, .n = n, .k = k, .rows = 1, .times = 1,
                            .runs = 1 };
}

static double us(struct lm_use u)
{
    double s = -1;

    ck_assert_ok(table_seconds(&table, &u, &s, &err), err);
    return s * 1e6;
}

START_TEST(nodes_and_between)
{
    ck_assert_double_eq_tol(us(linear(2, 4)), 42, 1e-9);
    ck_assert_double_eq_tol(us(linear(4, 8)), 184, 1e-9);
    ck_assert_double_eq_tol(us(linear(8, 8)), 88, 1e-9);
    ck_assert_double_eq_tol(us(linear(3, 4)), 43, 1e-9);
    ck_assert_double_eq_tol(us(linear(3, 8)), (82 + 184) / 2.0, 1e-9);
    /* a quarter of the way from 4 to 8 on both axes */
    ck_assert_double_eq_tol(us(linear(5, 5)),
                            0.75 * (0.75 * 44 + 0.25 * 48)
                            + 0.25 * (0.75 * 184 + 0.25 * 88),
                            1e-9);
    ck_assert_double_eq_tol(us(linear(1, 4)), 42, 1e-9);    /* below the first node */
    struct lm_use u = linear(2, 4);
    u.times = 3;
    u.runs = 5;
    ck_assert_double_eq_tol(us(u), 15 * 42, 1e-9);
}
END_TEST

START_TEST(attention)
{
    struct lm_use u = { .struct_size = sizeof u, .code = LM_OP_ATTENTION, .n_head = 4,
                        .n_kv = 2, .head_dim = 2, .rows = 1, .pos = 10, .times = 2,
                        .runs = 4 };        /* 10, 11, 12, 13: measured at 12 */
    ck_assert_double_eq_tol(us(u), 8 * 4, 1e-9);
    u.pos = 11;
    double s;
    ck_assert_int_eq(table_seconds(&table, &u, &s, &err), LM_EINFEASIBLE);
    ck_assert_ptr_nonnull(strstr(err.text, "attention"));
}
END_TEST

START_TEST(formats)
{
    struct lm_use u = linear(2, 4);
    double s;

    u.dtype = LM_Q4_0;                  /* not read by that backend: floats */
    ck_assert_double_eq_tol(us(u), 42, 1e-9);
    u.dtype = LM_Q8_0;
    ck_assert_double_eq_tol(us(u), 42, 1e-9);
    u.again = true;
    ck_assert_int_eq(table_seconds(&table, &u, &s, &err), LM_EINFEASIBLE);
    ck_assert_ptr_nonnull(strstr(err.text, "linear in q8_0"));
    ck_assert_ptr_nonnull(strstr(err.text, "--formats q8_0"));
}
END_TEST

START_TEST(outside)
{
    double s;
    struct lm_use u = linear(9, 4);

    ck_assert_int_eq(table_seconds(&table, &u, &s, &err), LM_EINFEASIBLE);
    ck_assert_ptr_nonnull(strstr(err.text, "linear with n = 9 is outside"));
    u = linear(2, 4);
    u.rows = 2;
    ck_assert_int_eq(table_seconds(&table, &u, &s, &err), LM_EINFEASIBLE);
    ck_assert_ptr_nonnull(strstr(err.text, "of 2 rows"));
}
END_TEST

static const struct { const char *from, *to, *says; } damage[] = {
    { "lamina latency table", "something", "no latency table" },
    { "\"version\":1", "\"version\":2", "version" },
    { "\"version\":1", "\"version\":\"1\"", "version" },
    { "\"threads\":1", "\"threads\":0", "threads" },
    { "\"prefill\":8", "\"prefill\":1e9", "prefill" },
    { "\"hidden\":8", "\"hidden\":99999999999", "hidden" },
    { "\"hidden\":8,", "", "hidden" },
    { "\"reads\":[\"f32\",", "\"reads\":[\"f33\",", "format" },
    { "\"k\":[4,8]", "\"k\":[8,4]", "rising" },
    { "\"k\":[4,8]", "\"k\":[4,4]", "rising" },
    { "\"k\":[4,8]", "\"k\":[0,4]", "rising" },
    { "\"k\":[4,8]", "\"k\":[4,4294967300]", "rising" },
    { "\"k\":[4,8]", "\"k\":[]", "nodes" },
    { "\"k\":[4,8]", "\"n_kv\":8", "nodes" },
    { "\"k\":[4,8]", "\"m\":[4,8]", "axes" },
    { "\"k\":[4,8],", "", "one number for each" },
    { "\"k\":[4,8]", "\"k\":[4],\"each\":[8]", "at most two" },
    { "82,184,88", "82,184", "one number for each" },
    { "82,184,88", "82,-1,88", "impossible" },
    { "82,184,88", "82,1e300,88", "impossible" },
    { "82,184,88", "82,\"1\",88", "impossible" },
    { "\"op\":\"linear\"", "\"op\":\"liner\"", "operator" },
    { "\"format\":\"f32\"", "\"format\":\"f31\"", "format" },
    { "\"again\":false", "\"again\":0", "again" },
    { "\"again\":true", "\"again\":false", "twice" },
    { "\"rows\":1", "\"rows\":0", "rows" },
    { "\"operators\":[", "\"operators\":[],\"x\":[", "operators" },
    { "{\"format\"", "[{\"format\"", "" } };

START_TEST(damaged)
{
    char text[sizeof sound + 64];
    struct table t;
    const char *at = strstr(sound, damage[_i].from);

    ck_assert_ptr_nonnull(at);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - sound), sound, damage[_i].to,
             at + strlen(damage[_i].from));
    enum lm_status st = table_read(lm_host(), text, strlen(text), "toy", &t, &err);
    ck_assert_int_eq(st, LM_EINPUT);
    ck_assert_msg(strstr(err.text, damage[_i].says), "%s", err.text);
}
END_TEST

START_TEST(without_memory)
{
    int64_t k = 1;
    bool failed = true;

    while (failed) {
        struct table t;

        lm_fault_memory(k++);
        enum lm_status st = table_read(lm_host(), sound, strlen(sound), "toy", &t, &err);
        failed = lm_fault_memory_fired();
        lm_fault_memory(0);
        ck_assert_int_eq(st, failed ? LM_ENOMEM : LM_OK);
        table_free(&t);
    }
    ck_assert_int_gt(k, 10);
}
END_TEST

/* ---- the evaluator ---------------------------------------------------------------- */

static enum lm_status two_blocks(struct lm_subject *s, const struct lm_workload *w,
                                 void (*see)(void *ctx, const struct lm_use *u), void *ctx,
                                 struct lm_err *e)
{
    struct lm_use run = { .struct_size = sizeof run, .rows = w->phase == LM_DECODE ? 1 : 8,
                          .times = 1, .runs = w->phase == LM_DECODE ? w->tokens : 1 };
    struct lm_use u = linear(3, 4), silu = run;

    (void)s, (void)e;
    see(ctx, &run);
    u.times = 2;
    u.runs = w->tokens;
    silu.code = LM_OP_SILU_MUL;
    silu.n = 6;
    silu.times = 2;
    see(ctx, w->phase == LM_DECODE ? &u : &silu);
    return LM_OK;
}

static struct lm_arch arch = { .struct_size = sizeof arch, .n_layer = 1, .hidden = 8,
                               .head_dim = 2, .vocab = 16 };

static const struct lm_arch *get_arch(const struct lm_model *m)
{
    (void)m;
    return &arch;
}

static uint64_t get_hash(const struct lm_model *m)
{
    (void)m;
    return 0;
}

/* prefill: the run and two SILU_MUL half-way between 3 and 5; decode: for each of the four
 * tokens the run and two products of 43. */
START_TEST(evaluator)
{
    const struct lm_module *m = plug_open("evaluators", "latency_table");
    const struct lm_evaluator *ops = m->ops;
    struct lm_host h = *lm_host();
    char path[] = "check_table.json", text[512], other[512];
    struct { const char *table; } config = { path };
    struct lm_args a = { .struct_size = sizeof a, .host = &h, .config = &config };
    struct lm_sum sum[2] = { { 0, 0 } };
    void *self;

    h.operators = two_blocks;
    h.arch = get_arch;
    h.model_hash = get_hash;
    ck_assert_ok(lm_write_file(path, sound, strlen(sound), &err), err);
    ck_assert_ok(ops->measured_by(&h, &config, text, sizeof text, &err), err);
    ck_assert_str_eq(text, "latency:prefill=8,decode=4@10,threads=1");
    ck_assert_ok(m->create(&a, &self, &err), err);
    ck_assert_ok(ops->eval(self, NULL, 0, sum, &err), err);
    ck_assert_double_eq_tol(sum[0].value, 1e-3 * (11 + 2 * 4), 1e-12);
    ck_assert_double_eq_tol(sum[1].value, 1e-3 * (7 + 2 * 43), 1e-12);
    ck_assert(sum[0].weight == 1 && sum[1].weight == 1);
    ck_assert_ok(ops->protocol(self, text, sizeof text, &err), err);
    m->destroy(self);
    ck_assert_ok(lm_write_file(path, sound, strlen(sound) - 1, &err), err);
    ck_assert_int_eq(m->create(&a, &self, &err), LM_EINPUT);
    /* one byte more is another table, and so another protocol */
    char longer[sizeof sound + 1];
    snprintf(longer, sizeof longer, "%s ", sound);
    ck_assert_ok(lm_write_file(path, longer, strlen(longer), &err), err);
    ck_assert_ok(m->create(&a, &self, &err), err);
    ck_assert_ok(ops->protocol(self, other, sizeof other, &err), err);
    m->destroy(self);
    ck_assert_str_ne(text, other);
    arch.hidden = 9;
    ck_assert_int_eq(m->create(&a, &self, &err), LM_ECONFIG);
    ck_assert_ptr_nonnull(strstr(err.text, "another model"));
    ck_assert_int_eq(remove(path), 0);
    ck_assert_int_eq(ops->measured_by(&h, &config, text, sizeof text, &err), LM_EINPUT);
}
END_TEST

/* ---- operators against a decoder's ------------------------------------------------- */

enum { MOST = 4096, PREFILL = 600, TOKENS = 3 };
struct seen { struct lm_op op; uint32_t dtype; int32_t rows; int64_t n; };
static struct seen seen[MOST];
static size_t n_seen;
static struct { const struct lm_weight *w; uint32_t dtype; } given[MOST];
static size_t n_given;
static struct { const struct lm_exe *x; struct lm_op op[512]; size_t n; } program[8];
static size_t n_program;
static struct lm_backend real, spy;

static enum lm_status spy_upload(void *self, const struct lm_tensor *t, int64_t stride,
                                 struct lm_weight **w, struct lm_err *e)
{
    enum lm_status st = real.upload(self, t, stride, w, e);

    ck_assert_uint_lt(n_given, MOST);
    given[n_given].w = *w;
    given[n_given++].dtype = t->dtype;
    return st;
}

static enum lm_status spy_compile(void *self, const struct lm_program *p,
                                  struct lm_exe **x, struct lm_err *e)
{
    enum lm_status st = real.compile(self, p, x, e);

    if (n_program < 8 && p->n_op <= 512) {
        program[n_program].x = *x;
        program[n_program].n = p->n_op;
        memcpy(program[n_program++].op, p->op, p->n_op * sizeof *p->op);
    }
    return st;
}

static bool is_matrix(uint32_t code)
{
    return code == LM_OP_LINEAR || code == LM_OP_EMBED || code == LM_OP_LOGITS;
}

/* Adds n of them; so what one side adds and the other takes away must be 0. */
static void count(uint32_t code, uint32_t dtype, uint32_t flags, int32_t n, int32_t k,
                  int32_t n_head, int32_t n_kv, int32_t rows, int64_t by)
{
    bool heads = code == LM_OP_ATTENTION || code == LM_OP_ROPE_KV;
    struct seen x = { .op = { .code = code, .flags = flags, .n = n, .k = k,
                              .n_head = heads ? n_head : 0, .n_kv = n_kv },
                      .dtype = dtype, .rows = rows };

    for (size_t i = 0; i < n_seen; i++)
        if (!memcmp(&seen[i].op, &x.op, sizeof x.op) && seen[i].dtype == dtype
            && seen[i].rows == rows) {
            seen[i].n += by;
            return;
        }
    ck_assert_uint_lt(n_seen, MOST);
    x.n = by;
    seen[n_seen++] = x;
}

static enum lm_status spy_run(void *self, struct lm_stream *s, const struct lm_exe *x,
                              const struct lm_exec *a, struct lm_time *t, struct lm_err *e)
{
    for (size_t i = 0; i < n_program; i++)
        for (size_t k = 0; program[i].x == x && k < program[i].n; k++) {
            const struct lm_op *o = &program[i].op[k];
            uint32_t dtype = 0;

            for (size_t j = 0; is_matrix(o->code) && j < n_given; j++)
                dtype = given[j].w == o->w ? given[j].dtype : dtype;
            count(o->code, dtype, o->flags, o->n, o->k, o->n_head, o->n_kv, a->rows, 1);
        }
    count(0, 0, 0, 0, 0, 0, 0, a->rows, 1);
    return real.run(self, s, x, a, t, e);
}

static void take(void *ctx, const struct lm_use *u)
{
    (void)ctx;
    count(u->code, u->dtype, u->flags, u->n, u->k, u->n_head, u->n_kv, u->rows,
          -(int64_t)u->times * u->runs);
}

static void feed(struct lm_decoder *d, int32_t n, float *logits)
{
    static int32_t ids[PREFILL];

    ck_assert_ok(lm_decoder_feed(d, ids, n, logits, NULL, &err), err);
}

static const char *const golden[] = { "tests/golden/llama-mha",
                                      "tests/golden/llama-gqa-tied-bf16" };

START_TEST(what_a_decoder_runs)
{
    struct kit kit;
    struct shelf weights;
    struct lm_engine *g;
    struct lm_network net;
    struct lm_decoder *d;
    struct lm_workload prefill = { LM_PREFILL, PREFILL, 0, 1 };
    struct lm_workload decode = { LM_DECODE, TOKENS, PREFILL, 1 };
    bool coded = false;

    kit_open(&kit, "cpu");
    real = spy = *kit.ops;
    spy.upload = spy_upload;
    spy.compile = spy_compile;
    spy.run = spy_run;
    n_seen = n_given = n_program = 0;
    struct lm_model *m = kit_golden(source_path(golden[_i]), &weights);
    float *logits = calloc((size_t)lm_model_arch(m)->vocab, sizeof *logits);
    ck_assert_ok(lm_engine_open(m, &spy, kit.self, &g, &err), err);
    ck_assert_ok(lm_network_open(g, m, &net, &err), err);
    n_program = 0;                      /* those of single segments are not of interest */
    ck_assert_ok(lm_decoder_open(g, &net, PREFILL + TOKENS, 1, &d, &err), err);
    feed(d, PREFILL, logits);
    for (int i = 0; i < TOKENS; i++)
        feed(d, 1, logits);
    ck_assert_uint_gt(n_seen, 20);
    for (size_t i = 0; i < n_seen; i++) {
        ck_assert_int_gt(seen[i].n, 0);
        coded |= seen[i].dtype > LM_F32;
    }
    ck_assert_int_eq(coded, _i == 1);
    size_t before = n_seen;
    ck_assert_ok(lm_network_uses(&net, &prefill, take, NULL, &err), err);
    ck_assert_ok(lm_network_uses(&net, &decode, take, NULL, &err), err);
    ck_assert_uint_eq(n_seen, before);
    for (size_t i = 0; i < n_seen; i++)
        ck_assert_msg(seen[i].n == 0, "operator %u of %d x %d: %lld more are run",
                      seen[i].op.code, seen[i].op.n, seen[i].op.k, (long long)seen[i].n);
    lm_decoder_close(d);
    lm_network_close(&net);
    lm_engine_close(g);
    lm_model_free(m);
    shelf_close(&weights);
    kit_close(&kit, "cpu");
    free(logits);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("table");
    TCase *t = tcase_create("table");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, nodes_and_between);
    tcase_add_test(t, attention);
    tcase_add_test(t, formats);
    tcase_add_test(t, outside);
    suite_add_tcase(s, t);
    t = tcase_create("files");
    tcase_add_loop_test(t, damaged, 0, sizeof damage / sizeof *damage);
    tcase_add_test(t, without_memory);
    tcase_add_test(t, evaluator);
    suite_add_tcase(s, t);
    t = tcase_create("operators");
    tcase_add_loop_test(t, what_a_decoder_runs, 0, 2);
    suite_add_tcase(s, t);
    return run_suites(&s, 1);
}
