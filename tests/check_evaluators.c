/* SPDX-License-Identifier: Apache-2.0 */
/* check_evaluators.c -- what each evaluator asks of a candidate and makes of
 * the answers; the host is played here, its losses have a closed form.      */
#include "plug.h"

#include <math.h>

enum { N_IDS = 103, BOS = 9000 };
static int32_t ids[N_IDS];
static size_t n_ids;
static struct lm_arch arch = { .struct_size = sizeof arch, .context = 64, .vocab = 100,
                               .bos = BOS };
static struct lm_workload asked[8];
static int n_asked;

/* The loss of a token depends on it, its place in the window and the first
 * token; everything an evaluator could mix up changes the sum.              */
static double loss(int32_t target, size_t t, int32_t first)
{
    return 0.25 + 0.01 * target + 0.001 * (double)t + (first == BOS ? 0.5 : 0);
}

static enum lm_status text_ids(struct lm_run *r, const char *name, const int32_t **out,
                               size_t *n, struct lm_err *e)
{
    (void)r;
    if (strcmp(name, "valid") != 0)
        return lm_fail(e, LM_EINPUT, "no text '%s'", name);
    *out = ids;
    *n = n_ids;
    return LM_OK;
}

static enum lm_status token_losses(struct lm_subject *s, const int32_t *w, size_t n,
                                   float *nll, struct lm_err *e)
{
    (void)s, (void)e;
    for (size_t t = 0; t + 1 < n; t++)
        nll[t] = (float)loss(w[t + 1], t + 1, w[0]);
    nll[n - 1] = NAN;                   /* not part of the answer */
    return LM_OK;
}

static enum lm_status token_kl(struct lm_subject *s, const int32_t *w, size_t n,
                               float *kl, struct lm_err *e)
{
    (void)s, (void)e;
    for (size_t t = 0; t < n; t++)
        kl[t] = (float)loss(w[t], t, 0);
    return LM_OK;
}

static uint32_t asked_precision;

static enum lm_status precision(struct lm_subject *s, uint32_t of, struct lm_err *e)
{
    (void)s, (void)e;
    asked_precision = of;
    return LM_OK;
}

static uint32_t full_cost = sizeof(struct lm_cost);     /* bytes that the host knows */

static enum lm_status cost(struct lm_subject *s, struct lm_cost *out, struct lm_err *e)
{
    (void)s, (void)e;
    const struct lm_cost full = { sizeof full, 134515008, 106203456, 269030016, 134479872,
                             23040, 19968 };
    lm_fill_struct(out, &full, full_cost);
    return LM_OK;
}

static bool is_anchor, on_device;

static enum lm_status timed(struct lm_subject *s, const struct lm_workload *w,
                            struct lm_timing *out, struct lm_err *e)
{
    (void)s, (void)e;
    asked[n_asked++ % 8] = *w;
    double seconds = w->phase == LM_PREFILL ? 0.75 : 1.6;
    struct lm_timing t = { sizeof t, 0, seconds, on_device ? seconds / 2 : 0,
                           is_anchor ? 0 : 2 * seconds };
    lm_fill_struct(out, &t, sizeof t);
    return LM_OK;
}

static const struct lm_arch *model_arch(const struct lm_model *m)
{
    (void)m;
    return &arch;
}

static struct lm_host host;

static void setup(void)
{
    host = plug_host();
    host.arch = model_arch;
    host.text_ids = text_ids;
    host.token_losses = token_losses;
    host.token_kl = token_kl;
    host.precision = precision;
    host.cost = cost;
    host.timing = timed;
    is_anchor = on_device = false;
    n_ids = N_IDS;
    for (int i = 0; i < N_IDS; i++)
        ids[i] = (i * 37 + 11) % 101;
}

/* One evaluator, opened. */
struct opened {
    const struct lm_module *m;
    const struct lm_evaluator *ops;
    void *config, *self;
    int64_t n;
    char protocol[512];
};

static enum lm_status start(struct opened *o, const char *name, const char *const *pair,
                            struct lm_err *e)
{
    *o = (struct opened){ .m = plug_open("evaluators", name) };
    o->ops = o->m->ops;
    o->config = plug_config(o->m, pair);
    struct lm_args a = { .struct_size = sizeof a, .host = &host, .config = o->config };
    enum lm_status st = o->m->check ? o->m->check(&host, o->config, e) : LM_OK;
    if (st == LM_OK)
        st = o->m->create(&a, &o->self, e);
    if (st == LM_OK) {
        st = o->ops->items(o->self, &o->n, e);
        if (st == LM_OK)
            st = o->ops->protocol(o->self, o->protocol, sizeof o->protocol, e);
        if (st != LM_OK)
            o->m->destroy(o->self);
    }
    if (st != LM_OK)
        free(o->config);
    return st;
}

static void stop(struct opened *o)
{
    o->m->destroy(o->self);
    free(o->config);
}

/* Sum and weight of all items. */
static struct lm_sum total(struct opened *o, size_t metric)
{
    struct lm_sum all = { 0, 0 };
    struct lm_err e = { 0 };
    for (int64_t i = 0; i < o->n; i++) {
        struct lm_sum sum[8] = { { 0, 0 } };
        ck_assert_ok(o->ops->eval(o->self, NULL, i, sum, &e), e);
        all.value += sum[metric].value;
        all.weight += sum[metric].weight;
    }
    return all;
}

static const struct {
    const char *window, *stride, *bos, *score, *windows;
    const char *protocol;
} protocols[] = {
    { "10", "window", "no", "all", "0", "window 10, stride 10, no BOS, all positions, "
      "10 windows of valid (90 predictions), f32" },
    { "10", "window", "yes", "all", "4", "window 10, stride 10, BOS first, all "
      "positions, 4 windows of valid (36 predictions), f32" },
    { "16", "5", "no", "all", "0", "window 16, stride 5, no BOS, all positions, "
      "18 windows of valid (100 predictions), f32" },
    { "16", "window", "no", "second_half", "0", "window 16, stride 16, no BOS, second "
      "half of positions, 6 windows of valid (42 predictions), f32" },
    { "16", "12", "no", "second_half", "2", "window 16, stride 12, no BOS, second half "
      "of positions, 2 windows of valid (14 predictions), f32" },
    { "16", "3", "yes", "second_half", "0", "window 16, stride 3, BOS first, second "
      "half of positions, 30 windows of valid (94 predictions), f32" },
    { "103", "window", "no", "all", "0", "window 103, stride 103, no BOS, all positions, "
      "1 window of valid (102 predictions), f32" },
};

/* Against a plain reading of the protocol, position by position. */
START_TEST(perplexity_protocols)
{
    const char *pair[] = { "text", "valid", "window", protocols[_i].window, "stride",
        protocols[_i].stride, "bos", protocols[_i].bos, "score", protocols[_i].score,
        "windows", protocols[_i].windows, NULL };
    int window = atoi(protocols[_i].window), stride = atoi(protocols[_i].stride);
    int limit = atoi(protocols[_i].windows), n = 0;
    bool bos = !strcmp(protocols[_i].bos, "yes");
    bool half = !strcmp(protocols[_i].score, "second_half");
    struct opened o;
    struct lm_err e = { 0 };
    double sum = 0, weight = 0;
    ck_assert_ok(start(&o, "perplexity", pair, &e), e);
    if (!stride)
        stride = window;
    for (int at = 0; at + window <= N_IDS && (!limit || n < limit); at += stride, n++)
        for (int t = 1; t < window; t++) {
            if ((half && t <= window / 2) || (n > 0 && t < window - stride))
                continue;
            sum += loss(ids[at + t], (size_t)t, bos ? BOS : ids[at]);
            weight += 1;
        }
    ck_assert_int_eq(o.n, n);
    for (size_t m = 0; m < 2; m++) {
        struct lm_sum got = total(&o, m);
        ck_assert_double_eq(got.weight, weight);
        ck_assert_double_eq_tol(got.value, sum, 1e-5 * sum);
    }
    ck_assert_str_eq(o.protocol, protocols[_i].protocol);
    ck_assert_int_eq(o.ops->metric[0].reduce, LM_REDUCE_EXP_MEAN);
    ck_assert_int_eq(o.ops->metric[1].reduce, LM_REDUCE_MEAN);
    stop(&o);
}
END_TEST

/* The precision is asked for, and said. */
START_TEST(precisions)
{
    static const char *const evaluator[] = { "perplexity", "kl" };
    static const char *const name[] = { "f32", "bf16", "int8" };
    for (int i = 0; i < 6; i++) {
        const char *pair[] = { "text", "valid", "window", "20", "precision", name[i / 2],
                               NULL };
        struct lm_sum sum[8] = { { 0, 0 } };
        struct opened o;
        struct lm_err e = { 0 };
        ck_assert_ok(start(&o, evaluator[i % 2], pair, &e), e);
        const char *said = strrchr(o.protocol, ' ');
        ck_assert_str_eq(said + 1, name[i / 2]);
        asked_precision = 99;
        ck_assert_ok(o.ops->eval(o.self, NULL, 0, sum, &e), e);
        ck_assert_uint_eq(asked_precision, i < 2 ? 99 : (uint32_t)i / 2);
        stop(&o);
    }
}
END_TEST

/* A host of minor 1: f32 works as ever, what it lacks is refused by name. */
START_TEST(an_older_host)
{
    static const char *const evaluator[] = { "perplexity", "kl" };
    struct lm_sum sum[8] = { { 0, 0 } };
    struct opened o;
    host.struct_size = offsetof(struct lm_host, subject_file);
    host.precision = NULL;
    for (int i = 0; i < 2; i++) {
        const char *pair[] = { "text", "valid", "window", "20", "precision", "f32",
                               NULL };
        struct lm_err e = { 0 };
        ck_assert_ok(start(&o, evaluator[i], pair, &e), e);
        ck_assert_ok(o.ops->eval(o.self, NULL, 0, sum, &e), e);
        stop(&o);
        pair[5] = "int8";
        ck_assert_int_eq(start(&o, evaluator[i], pair, &e), LM_EUNSUPPORTED);
        ck_assert_ptr_nonnull(strstr(e.text, "leave out precision = \"int8\""));
    }
    struct lm_err e = { 0 };
    full_cost = offsetof(struct lm_cost, row_bytes);
    ck_assert_ok(start(&o, "memory", NULL, &e), e);
    ck_assert_int_eq(o.ops->eval(o.self, NULL, 0, sum, &e), LM_EUNSUPPORTED);
    stop(&o);
    full_cost = sizeof(struct lm_cost);
}
END_TEST

START_TEST(half_of_512_is_255)
{
    const char *pair[] = { "text", "valid", "window", "512", "score", "second_half",
                           NULL };
    const char *defaults[] = { "text", "valid", NULL };
    struct opened o;
    struct lm_err e = { 0 };
    n_ids = 600;                        /* only counted, never read */
    ck_assert_ok(start(&o, "perplexity", pair, &e), e);
    ck_assert_ptr_nonnull(strstr(o.protocol, "1 window of valid (255 predictions)"));
    stop(&o);
    n_ids = 4 * 2048 + 2047;
    ck_assert_ok(start(&o, "perplexity", defaults, &e), e);
    ck_assert_str_eq(o.protocol, "window 2048, stride 2048, no BOS, all positions, "
                     "4 windows of valid (8188 predictions), f32");
    stop(&o);
}
END_TEST

START_TEST(perplexity_refusals)
{
    const char *gaps[] = { "text", "valid", "window", "8", "stride", "9", NULL };
    const char *bos[] = { "text", "valid", "window", "8", "bos", "yes", NULL };
    const char *small[] = { "text", "valid", "window", "104", NULL };
    struct opened o;
    struct lm_err e = { 0 };
    ck_assert_int_eq(start(&o, "perplexity", gaps, &e), LM_ECONFIG);
    ck_assert_int_eq(start(&o, "perplexity", small, &e), LM_EINPUT);
    ck_assert_ptr_nonnull(strstr(e.text, "103 tokens"));
    ck_assert_ptr_nonnull(strstr(e.text, "104"));
    arch.bos = -1;
    ck_assert_int_eq(start(&o, "perplexity", bos, &e), LM_ECONFIG);
    arch.bos = BOS;
}
END_TEST

START_TEST(kl_counts_every_position)
{
    const char *pair[] = { "text", "valid", "window", "20", "windows", "3", NULL };
    const char *small[] = { "text", "valid", NULL };
    struct opened o;
    struct lm_err e = { 0 };
    double sum = 0;
    ck_assert_ok(start(&o, "kl", pair, &e), e);
    for (int i = 0; i < 60; i++)
        sum += loss(ids[i], (size_t)(i % 20), 0);
    struct lm_sum got = total(&o, 0);
    ck_assert_int_eq(o.n, 3);
    ck_assert_double_eq(got.weight, 60);
    ck_assert_double_eq_tol(got.value, sum, 1e-5 * sum);
    ck_assert_str_eq(o.protocol, "KL(dense || candidate), window 20, stride 20, no BOS, "
                     "all positions, 3 windows of valid (60 distributions), f32");
    ck_assert_uint_eq(o.ops->needs, LM_NEEDS_RUN | LM_NEEDS_DENSE);
    stop(&o);
    ck_assert_int_eq(start(&o, "kl", small, &e), LM_EINPUT);
    ck_assert_ptr_nonnull(strstr(e.text, "103 tokens"));
}
END_TEST

START_TEST(counted)
{
    struct opened o;
    struct lm_err e = { 0 };
    ck_assert_ok(start(&o, "size", NULL, &e), e);
    ck_assert_int_eq(o.n, 1);
    ck_assert_uint_eq(o.ops->needs, 0);
    ck_assert_str_eq(o.ops->metric[0].name, "bytes");
    ck_assert_double_eq(total(&o, 0).value, 269030016);
    ck_assert_str_eq(o.ops->metric[1].name, "params");
    ck_assert_double_eq(total(&o, 1).value, 134515008);
    ck_assert_str_eq(o.ops->metric[2].name, "body_params");
    ck_assert_double_eq(total(&o, 2).value, 106203456);
    stop(&o);
    ck_assert_ok(start(&o, "macs", NULL, &e), e);
    ck_assert_uint_eq(o.ops->needs, 0);
    ck_assert_str_eq(o.ops->metric[0].name, "per_token");
    ck_assert_double_eq(total(&o, 0).value, 134479872);
    stop(&o);
}
END_TEST

START_TEST(memory_is_weights_cache_and_work)
{
    const char *pair[] = { "context", "1000", "tokens", "10", "cache", "f32", NULL };
    const char *none[] = { "context", "0", "tokens", "1", NULL };
    struct opened o;
    struct lm_err e = { 0 };
    ck_assert_ok(start(&o, "memory", pair, &e), e);
    ck_assert_int_eq(o.n, 1);
    ck_assert_uint_eq(o.ops->needs, 0);
    ck_assert_str_eq(o.ops->metric[0].name, "bytes");
    ck_assert_double_eq(total(&o, 0).value, 269030016 + 2 * 23040000 + 199680 + 400);
    ck_assert_double_eq(total(&o, 1).value, 2 * 23040000);
    ck_assert_ptr_nonnull(strstr(o.protocol, "f32 cache of 1000 tokens, f32 activations "
                                 "of 10 tokens"));
    stop(&o);
    ck_assert_ok(start(&o, "memory", none, &e), e);
    ck_assert_double_eq(total(&o, 0).value, 269030016 + 19968 + 400);
    stop(&o);
    ck_assert_ok(start(&o, "memory", NULL, &e), e);
    ck_assert_double_eq(total(&o, 0).value, 269030016 + 2048 * 23040 + 512 * 19968 + 400);
    stop(&o);
}
END_TEST

START_TEST(latency_workloads)
{
    const char *pair[] = { "prefill", "32", "decode", "8@16", "threads", "2", "runs",
                           "3", NULL };
    const char *decode[] = { "prefill", "0", "decode", "8", NULL };
    const char *prefill[] = { "decode", "0", NULL };
    struct opened o;
    struct lm_err e = { 0 };
    ck_assert_ok(start(&o, "latency", pair, &e), e);
    ck_assert_int_eq(o.n, 3);
    n_asked = 0;
    ck_assert_double_eq_tol(total(&o, 0).value, 3 * 750.0, 1e-9);
    ck_assert_int_eq(n_asked, 6);
    ck_assert_uint_eq(asked[0].phase, LM_PREFILL);
    ck_assert_int_eq(asked[0].tokens, 32);
    ck_assert_int_eq(asked[0].context, 0);
    ck_assert_uint_eq(asked[1].phase, LM_DECODE);
    ck_assert_int_eq(asked[1].tokens, 8);
    ck_assert_int_eq(asked[1].context, 16);
    ck_assert_int_eq(asked[1].threads, 2);
    ck_assert_double_eq_tol(total(&o, 1).value, 3 * 200.0, 1e-9);   /* per token */
    ck_assert_double_eq_tol(total(&o, 2).value, 2 * 3 * 750.0, 1e-9);   /* anchor */
    ck_assert_double_eq_tol(total(&o, 3).value, 2 * 3 * 200.0, 1e-9);
    ck_assert(total(&o, 4).weight == 0 && total(&o, 5).weight == 0);
    is_anchor = on_device = true;
    ck_assert(total(&o, 2).weight == 0 && total(&o, 3).weight == 0);
    ck_assert_double_eq_tol(total(&o, 4).value, 3 * 375.0, 1e-9);       /* device */
    ck_assert_double_eq_tol(total(&o, 5).value, 3 * 100.0, 1e-9);
    ck_assert(o.ops->needs & LM_NEEDS_QUIET);
    for (size_t i = 0; i < 6; i++)
        ck_assert(o.ops->metric[i].noisy);
    ck_assert_str_eq(o.protocol, "prefill of 32 tokens, decode of 8 tokens behind 16, "
                     "2 threads, median of 3 runs behind a warm-up");
    stop(&o);
    ck_assert_ok(start(&o, "latency", decode, &e), e);
    ck_assert_double_eq(total(&o, 0).weight, 0);
    ck_assert_double_eq(total(&o, 1).weight, 5);
    stop(&o);
    ck_assert_ok(start(&o, "latency", prefill, &e), e);
    ck_assert_double_eq(total(&o, 0).weight, 5);
    ck_assert_double_eq(total(&o, 1).weight, 0);
    stop(&o);
}
END_TEST

START_TEST(latency_refusals)
{
    static const char *const bad[] = { "64@", "@5", "x", "64@512@1", "-3", " 5",
                                       "99999999999999999999@1", "5@1048577" };
    struct opened o;
    struct lm_err e = { 0 };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *pair[] = { "decode", bad[i], NULL };
        ck_assert_msg(start(&o, "latency", pair, &e) == LM_ECONFIG, "%s", bad[i]);
    }
    const char *none[] = { "decode", "", "prefill", "0", NULL };
    ck_assert_int_eq(start(&o, "latency", none, &e), LM_ECONFIG);
}
END_TEST

static const char *const every[] = { "perplexity", "kl", "size", "macs", "latency",
                                     "memory" };

static enum lm_status use(void *ctx)
{
    const char *name = ctx;
    const char *text[] = { "text", "valid", "window", "20", NULL };
    const char *bos[] = { "text", "valid", "window", "20", "bos", "yes", NULL };
    struct opened o;
    struct lm_err e = { 0 };
    struct lm_sum sum[8] = { { 0, 0 } };
    enum lm_status st = start(&o, name, !strcmp(name, "perplexity") ? bos
                              : !strcmp(name, "kl") ? text : NULL, &e);
    if (st != LM_OK)
        return st;
    st = o.ops->eval(o.self, NULL, 0, sum, &e);
    stop(&o);
    return st;
}

START_TEST(memory_runs_out)
{
    fail_every_allocation(use, (void *)every[_i]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("evaluators");
    TCase *t = tcase_create("evaluators");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_loop_test(t, perplexity_protocols, 0,
                        (int)(sizeof protocols / sizeof *protocols));
    tcase_add_test(t, half_of_512_is_255);
    tcase_add_test(t, precisions);
    tcase_add_test(t, an_older_host);
    tcase_add_test(t, perplexity_refusals);
    tcase_add_test(t, kl_counts_every_position);
    tcase_add_test(t, counted);
    tcase_add_test(t, latency_workloads);
    tcase_add_test(t, latency_refusals);
    tcase_add_test(t, memory_is_weights_cache_and_work);
    tcase_add_loop_test(t, memory_runs_out, 0, 6);
    suite_add_tcase(suite, t);
    return run_suites(&suite, 1);
}
