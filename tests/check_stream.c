/* SPDX-License-Identifier: Apache-2.0 */
/* check_stream.c -- models larger than memory: segments come and go within a budget,
 * and what is computed is bit for bit what an engine that keeps all computes: losses,
 * divergences, statistics, decoding; many networks over many texts at once.        */
#include "engine_kit.h"
#include "model/segment.h"
#include "model/stats.h"

enum { LENGTH = 40, TEXTS = 3, NETS = 5, MOST = 64 };
#define GOLDEN "tests/golden/llama-gqa-tied-bf16"

static struct lm_err err;

struct stage {
    struct kit kit;
    struct shelf weights;
    struct lm_model *model;
    struct lm_engine *engine;
    struct lm_network net;
    struct lm_segment *seg[NETS][MOST];
    struct lm_network cut[NETS];        /* as it is; without one block or another */
    int32_t ids[TEXTS * LENGTH];
};

static void stage_open(struct stage *s, size_t budget)
{
    struct lm_rng r = lm_rng(7, "stream", 0);

    *s = (struct stage){ 0 };
    kit_open(&s->kit, "cpu");
    s->model = kit_golden(source_path(GOLDEN), &s->weights);
    for (int i = 0; i < TEXTS * LENGTH; i++)
        s->ids[i] = (int32_t)lm_rng_below(&r, (uint64_t)lm_model_arch(s->model)->vocab);
    ck_assert_ok(lm_engine_open(s->model, s->kit.ops, s->kit.self, &s->engine, &err),
                 err);
    if (budget)
        lm_engine_stream(s->engine, budget);
    ck_assert_ok(lm_network_open(s->engine, s->model, &s->net, &err), err);
    ck_assert_uint_ge(s->net.n, NETS + 1);
    for (size_t k = 0; k < NETS; k++) {
        s->cut[k] = (struct lm_network){ .seg = s->seg[k] };
        for (size_t i = 0; i < s->net.n; i++)
            if (k == 0 || i != s->net.n - 1 - k)
                s->seg[k][s->cut[k].n++] = s->net.seg[i];
    }
    s->cut[NETS - 1].precision = LM_AS_BF16;
}

static void stage_close(struct stage *s)
{
    lm_network_close(&s->net);
    ck_assert_uint_eq(lm_engine_loaded(s->engine), 0);
    lm_engine_close(s->engine);
    lm_model_free(s->model);
    shelf_close(&s->weights);
    kit_close(&s->kit, "cpu");
    ck_assert_int_eq(lm_mem_blocks(), 0);
}

static size_t largest(const struct stage *s)
{
    size_t most = 0;

    for (size_t i = 0; i < s->net.n; i++) {
        struct lm_segment_spec spec = *lm_segment_spec(s->net.seg[i]);
        size_t n = 0;

        for (int k = 0; lm_segment_mat(&spec, k); k++)
            n += (size_t)(lm_segment_mat(&spec, k)->rows * lm_segment_mat(&spec,
                                                                          k)->cols);
        most = n > most ? n : most;
    }
    return most * sizeof(float);
}

static void run_all(struct stage *s, float (*nll)[TEXTS][LENGTH],
                    float (*kl)[TEXTS][LENGTH])
{
    struct lm_teacher *t;
    struct lm_runner *r;

    ck_assert_ok(lm_runner_open(s->engine, &r, &err), err);
    ck_assert_ok(lm_teacher_open(s->engine, &s->net, 1 << 20, &t, &err), err);
    for (size_t k = 0; k < NETS; k++)
        for (int i = 0; i < TEXTS; i++) {
            const int32_t *ids = s->ids + i * LENGTH;

            ck_assert_ok(lm_runner_losses(r, &s->cut[k], ids, LENGTH, nll[k][i], &err),
                         err);
            ck_assert_ok(lm_runner_kl(r, &s->cut[k], t, ids, LENGTH, kl[k][i], &err),
                         err);
        }
    lm_runner_close(r);
    lm_teacher_close(t);
}

/* Nothing is kept; one segment is; all are. */
START_TEST(runners_compute_the_same)
{
    static float nll[2][NETS][TEXTS][LENGTH], kl[2][NETS][TEXTS][LENGTH];
    struct stage s;

    stage_open(&s, 0);
    run_all(&s, nll[0], kl[0]);
    size_t one = largest(&s);
    stage_close(&s);
    const size_t budget[] = { 1, one, 100 * one };
    stage_open(&s, budget[_i]);
    ck_assert_uint_eq(lm_engine_loaded(s.engine), 0);
    memset(nll[1], 0, sizeof nll[1]);
    run_all(&s, nll[1], kl[1]);
    ck_assert_mem_eq(nll[0], nll[1], sizeof nll[0]);
    ck_assert_mem_eq(kl[0], kl[1], sizeof kl[0]);
    if (_i == 0)
        ck_assert_uint_eq(lm_engine_loaded(s.engine), 0);
    else if (_i == 1)
        ck_assert_uint_le(lm_engine_loaded(s.engine), one);
    else
        ck_assert_uint_gt(lm_engine_loaded(s.engine), 2 * one);
    stage_close(&s);
}
END_TEST

static void add_weights(void *ctx, const char *tag, size_t n)
{
    *(size_t *)ctx += strcmp(tag, "weights") ? 0 : n;
}

/* Bytes of the heap that weights have, decoded or packed. */
static size_t weights_held(void)
{
    size_t n = 0;

    lm_mem_each(add_weights, &n);
    return n;
}

/* An engine that does not stream packs weights for bf16 and int8 within a limit, and
 * computes the same; packed: what the weights took at the end.                    */
static void run_packed(size_t limit, float (*nll)[TEXTS][LENGTH],
                       float (*kl)[TEXTS][LENGTH], size_t *packed, size_t *counted)
{
    struct stage s;

    stage_open(&s, 0);
    size_t before = weights_held();
    lm_engine_pack(s.engine, limit);
    for (size_t k = 0; k < NETS; k++)
        s.cut[k].precision = k % 2 ? LM_AS_INT8 : LM_AS_BF16;
    run_all(&s, nll, kl);
    *packed = weights_held() - before;
    *counted = lm_engine_loaded(s.engine);
    stage_close(&s);
}

START_TEST(packed_weights_keep_to_a_limit)
{
    static float nll[2][NETS][TEXTS][LENGTH], kl[2][NETS][TEXTS][LENGTH];
    size_t all, some, counted;

    run_packed(SIZE_MAX, nll[0], kl[0], &all, &counted);
    ck_assert_uint_gt(counted, 10000);
    ck_assert_uint_ge(all, counted);    /* and panels that are not full, scales */
    size_t limit[] = { 0, counted / 4, counted / 2 };
    memset(nll[1], 0, sizeof nll[1]);
    run_packed(limit[_i], nll[1], kl[1], &some, &counted);
    ck_assert_mem_eq(nll[0], nll[1], sizeof nll[0]);
    ck_assert_mem_eq(kl[0], kl[1], sizeof kl[0]);
    ck_assert_uint_le(counted, limit[_i]);
    ck_assert_uint_le(some, limit[_i] * 2);
    ck_assert(_i == 0 || counted > limit[_i] / 4);
}
END_TEST

/* Widths of one matrix count once, and as long as one of them is packed. */
START_TEST(views_are_packed_once)
{
    struct stage s;
    struct lm_segment *narrow;
    struct lm_network net = { .seg = s.seg[0], .precision = LM_AS_INT8 };
    size_t dense, both, at;
    float nll[LENGTH];
    struct lm_runner *r;

    stage_open(&s, 0);
    net.n = s.net.n;
    ck_assert_ok(lm_runner_open(s.engine, &r, &err), err);
    ck_assert_ok(lm_runner_losses(r, &net, s.ids, LENGTH, nll, &err), err);
    dense = lm_engine_loaded(s.engine);
    for (at = 0; lm_segment_spec(s.net.seg[at])->kind != LM_SEG_MLP; at++)
        ;
    struct lm_segment_spec spec = *lm_segment_spec(s.net.seg[at]);
    spec.n_ff /= 2;
    spec.gate.rows = spec.up.rows = spec.down.cols = spec.n_ff;     /* down: a view */
    spec.key++;
    ck_assert_ok(lm_segment_open(s.engine, &spec, &narrow, &err), err);
    net.seg[at] = narrow;
    ck_assert_ok(lm_runner_losses(r, &net, s.ids, LENGTH, nll, &err), err);
    both = lm_engine_loaded(s.engine);
    ck_assert_uint_eq(both, dense);
    lm_segment_close(s.net.seg[at]);
    ck_assert_uint_eq(dense - lm_engine_loaded(s.engine),
                      (size_t)lm_segment_macs(lm_segment_spec(narrow)));
    s.net.seg[at] = narrow;
    lm_runner_close(r);
    stage_close(&s);
}
END_TEST

static size_t asks(struct stage *s, struct lm_ask *ask, float (*out)[LENGTH])
{
    size_t n = 0;

    for (int i = 0; i < TEXTS; i++)
        for (size_t k = 0; k < NETS; k++)
            for (int kl = 0; kl < 2; kl++, n++)
                ask[n] = (struct lm_ask){ .net = &s->cut[k], .ids = s->ids + i * LENGTH,
                                          .n = LENGTH, .kl = kl, .out = out[n] };
    return n;
}

/* With and without sharing, streamed or not, on one thread and on three. */
START_TEST(all_at_once_is_the_same)
{
    static float nll[NETS][TEXTS][LENGTH], kl[NETS][TEXTS][LENGTH];
    static float out[2 * NETS * TEXTS][LENGTH];
    static struct lm_ask ask[2 * NETS * TEXTS];
    struct lm_work work = { 0, 0 };
    struct lm_teacher *t;
    struct stage s;
    bool share = _i & 1;

    lm_pool_start(_i & 4 ? 3 : 1, NULL);
    stage_open(&s, _i & 2);             /* two bytes: nothing stays */
    run_all(&s, nll, kl);
    ck_assert_ok(lm_teacher_open(s.engine, &s.net, 1 << 20, &t, &err), err);
    for (int round = 0; round < 2; round++) {       /* lessons are made; are known */
        size_t n = asks(&s, ask, out);
        memset(out, 0, sizeof out);
        work = (struct lm_work){ 0, 0 };
        ck_assert_ok(lm_ask_all(s.engine, t, share, ask, n, &work, &err), err);
        for (size_t i = 0; i < n; i++) {
            size_t text = i / (2 * NETS), k = i / 2 % NETS;
            const float *want = ask[i].kl ? kl[k][text] : nll[k][text];
            ck_assert(ask[i].answered);
            ck_assert_mem_eq(out[i], want,
                             (LENGTH - (ask[i].kl ? 0u : 1u)) * sizeof *want);
        }
        if (share)
            ck_assert_double_lt(work.run, 0.8 * work.asked);
        else if (round == 1)
            ck_assert_double_eq(work.run, work.asked);
    }
    lm_teacher_close(t);
    lm_pool_stop();
    stage_close(&s);
}
END_TEST

/* What cannot be run stays unanswered beside what can. */
START_TEST(bad_asks_stay_unanswered)
{
    struct lm_work work = { 0, 0 };
    int32_t wrong[LENGTH] = { 1, 1 << 30 };
    float out[4][LENGTH];
    struct stage s;

    stage_open(&s, 1);
    struct lm_network none = { .seg = s.net.seg, .n = 1 };
    struct lm_ask ask[] = {
        { .net = &s.net, .ids = wrong, .n = LENGTH, .out = out[0] },
        { .net = &none, .ids = s.ids, .n = LENGTH, .out = out[1] },
        { .net = &s.net, .ids = s.ids, .n = 1, .out = out[2] },
        { .net = &s.net, .ids = s.ids, .n = LENGTH, .out = out[3] },
        { .net = &s.net, .ids = s.ids, .n = LENGTH, .kl = true, .out = out[0] },
    };
    ck_assert_ok(lm_ask_all(s.engine, NULL, true, ask, 5, &work, &err), err);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(ask[i].answered, i == 3);
    ck_assert_ok(lm_ask_all(s.engine, NULL, true, ask, 0, &work, &err), err);
    lm_cancel(true);
    ck_assert_int_eq(lm_ask_all(s.engine, NULL, true, ask, 5, &work, &err), LM_ECANCELED);
    lm_cancel(false);
    stage_close(&s);
}
END_TEST

static void collect(size_t budget, int threads, const char *folder, struct lm_map *m)
{
    struct lm_stats *stats;
    struct stage s;
    char **names, path[1200];
    size_t n;

    lm_pool_start(threads, NULL);
    stage_open(&s, budget);
    ck_assert_ok(lm_stats_collect(s.engine, s.ids, TEXTS, LENGTH,
                                  LM_BIT(LM_STAT_GRAM) | LM_BIT(LM_STAT_SUM)
                                  | LM_BIT(LM_STAT_COSINE) | LM_BIT(LM_STAT_ALIGN),
                                  LM_BIT(LM_SITE_ATTN) | LM_BIT(LM_SITE_MLP)
                                  | LM_BIT(LM_SITE_LAYER), folder, &stats, &err), err);
    if (budget == 1)
        ck_assert_uint_eq(lm_engine_loaded(s.engine), 0);
    lm_stats_close(stats);
    lm_pool_stop();
    stage_close(&s);
    ck_assert_ok(lm_list_folder(folder, &names, &n, &err), err);
    ck_assert_uint_eq(n, 1);
    ck_assert(lm_path_join(path, sizeof path, folder, names[0]));
    ck_assert_ok(lm_map_open(m, path, &err), err);
    lm_free_names(names, n);
}

START_TEST(statistics_are_the_same)
{
    char a[512], b[512];
    struct lm_map x, y;

    scratch_begin(a);
    scratch_begin(b);
    collect(0, 2, a, &x);
    collect(1, 3, b, &y);
    ck_assert_uint_eq(x.n, y.n);
    ck_assert_mem_eq(x.data, y.data, x.n);
    lm_map_close(&x);
    lm_map_close(&y);
    scratch_end(a);
    scratch_end(b);
}
END_TEST

/* A decoder holds its network whatever the budget, and lets it go. */
START_TEST(decoders_hold_all)
{
    struct stage s;
    struct lm_decoder *d;
    size_t vocab;
    float *logits[2];

    for (int k = 0; k < 2; k++) {
        stage_open(&s, (size_t)k);
        vocab = (size_t)lm_model_arch(s.model)->vocab;
        logits[k] = malloc(vocab * sizeof(float));
        ck_assert_ok(lm_decoder_open(s.engine, &s.net, LENGTH, 1, &d, &err), err);
        ck_assert_ok(lm_decoder_feed(d, s.ids, LENGTH, logits[k], NULL, &err), err);
        if (k)
            ck_assert_uint_gt(lm_engine_loaded(s.engine), largest(&s));
        lm_decoder_close(d);
        ck_assert_uint_eq(lm_engine_loaded(s.engine), 0);
        stage_close(&s);
    }
    ck_assert_mem_eq(logits[0], logits[1], vocab * sizeof(float));
    free(logits[0]);
    free(logits[1]);
}
END_TEST

/* Every allocation fails in turn: an error or an unanswered ask, nothing lost. */
START_TEST(memory_fails)
{
    struct stage s;
    float out[3][LENGTH];
    struct lm_teacher *t;
    int64_t k = 0;

    stage_open(&s, 1);
    ck_assert_ok(lm_teacher_open(s.engine, &s.net, 1 << 20, &t, &err), err);
    for (bool fired = true; fired; ) {
        struct lm_ask ask[3];
        struct lm_work work = { 0, 0 };
        int64_t blocks = lm_mem_blocks();

        for (int i = 0; i < 3; i++)
            ask[i] = (struct lm_ask){ .net = &s.cut[i], .ids = s.ids, .n = LENGTH,
                                      .out = out[i] };
        lm_fault_memory(++k);
        enum lm_status st = lm_ask_all(s.engine, t, true, ask, 3, &work, &err);
        fired = lm_fault_memory_fired();
        lm_fault_memory(0);
        ck_assert(st == LM_OK || st == LM_ENOMEM);
        ck_assert(fired || (st == LM_OK && ask[0].answered && ask[2].answered));
        ck_assert_int_eq(lm_mem_blocks(), blocks);
        ck_assert_uint_eq(lm_engine_loaded(s.engine), 0);
    }
    ck_assert_int_gt(k, 30);
    lm_teacher_close(t);
    stage_close(&s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("stream");
    TCase *c = tcase_create("engine");

    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, packed_weights_keep_to_a_limit, 0, 3);
    tcase_add_test(c, views_are_packed_once);
    tcase_add_loop_test(c, runners_compute_the_same, 0, 3);
    tcase_add_loop_test(c, all_at_once_is_the_same, 0, 8);
    tcase_add_test(c, bad_asks_stay_unanswered);
    tcase_add_test(c, statistics_are_the_same);
    tcase_add_test(c, decoders_hold_all);
    tcase_add_test(c, memory_fails);
    suite_add_tcase(s, c);
    return run_suites(&s, 1);
}
