/* SPDX-License-Identifier: Apache-2.0 */
/* shrink.c -- a pipeline file with good defaults for a model, a text and a
 * goal.
 *
 * The search is KL increments of each site and level and a knapsack over them
 * (lagrangian), then NSGA-II from its solutions; channels go in the order of the
 * optimal brain surgeon with least-squares repair inside: what measurement showed
 * to be best for its price.  How much of it follows from the model's work per
 * token, this machine's speed and `minutes`.                                 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/linalg.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "pipeline/job.h"
#include "pipeline/pipeline.h"
#include "plan/plan.h"

/* What decides the defaults. */
struct facts {
    struct lm_arch arch;
    struct lm_cost cost;                /* of the dense model, f16 */
    double flops;                       /* this machine's sgemm rate, all workers */
    size_t tokens;                      /* in the text */
    double decode_ms;                   /* decode=64@512, only for max_ms */
    char   text[4096];
    int64_t window;                     /* tokens per sequence */
    int64_t n_mlp, n_attn, n_ff, groups;    /* sites that can be cut; their widths */
    double  overhead;                   /* bytes of a GGUF file that are no weights */
    bool    resident;                   /* its floats fit into run.memory */
};

/* Best sgemm rate of each worker, all at once, at a shape of small models. */
static void worker_rate(void *ctx, int64_t i, uint32_t worker)
{
    enum { M = 512, N = 1536, K = 576 };
    double *rate = ctx;
    float *a = lm_alloc(M * K * 4, "rate"), *b = lm_alloc(N * K * 4, "rate");
    float *c = lm_alloc((size_t)M * N * 4, "rate");
    (void)worker;
    for (int r = 0; a && b && c && r < 40; r++) {
        double t = lm_clock();
        lm_gemm('n', 't', M, N, K, 1, a, K, b, K, 0, c, N);
        rate[i] = fmax(rate[i], 2.0 * M * N * K / (lm_clock() - t + 1e-9));
    }
    lm_release(a);
    lm_release(b);
    lm_release(c);
}

/* flop/s of all workers together; contention counts. */
static double machine_rate(void)
{
    double rate[64] = { 0 }, sum = 0;
    int n = lm_pool_threads() < 64 ? lm_pool_threads() : 64;
    lm_parallel(n, worker_rate, rate);
    for (int i = 0; i < n; i++)
        sum += rate[i];
    return sum > 0 ? sum : 1e9;
}

static enum lm_status find_text(const struct lm_shrink *o, struct facts *f,
                                struct lm_err *e)
{
    char folder[4000];
    if (o->text) {
        snprintf(f->text, sizeof f->text, "%s", o->text);
        return lm_file_exists(o->text) ? LM_OK
            : lm_fail(e, LM_EINPUT, "%s: no such file", o->text);
    }
    enum lm_status s = lm_cache_folder(folder, sizeof folder, e);
    if (s)
        return s;
    snprintf(f->text, sizeof f->text, "%s/text/default.txt", folder);
    return lm_file_exists(f->text) ? LM_OK
        : lm_fail(e, LM_ECONFIG,
                  "shrink needs text like what the model will see: give --text "
                  "FILE (plain UTF-8, 500 KB or more); scripts/quickstart puts a default "
                  "one at %s", f->text);
}

/* Milliseconds per token of decode=64@512, least of three. */
static enum lm_status time_decode(const struct lm_shrink *o, struct facts *f,
                                  struct lm_run *run, struct lm_err *e)
{
    struct lm_stage backend;
    struct lm_bench b = { 0 };
    struct lm_network net = { 0 };
    struct lm_decoder *d = NULL;
    enum lm_status s = lm_stage_open(&backend, LM_BACKEND, NULL, "cpu", NULL, "backend",
                                     run, e);
    if (!s)
        s = lm_bench_open(&b, o->model, NULL, &backend, 0, run, e);
    if (!s)
        s = lm_network_open(b.engine, b.model, &net, e);
    if (!s)
        s = lm_decoder_open(b.engine, &net, 576, 1, &d, e);
    f->decode_ms = INFINITY;
    float *logits = lm_alloc_array((size_t)f->arch.vocab, sizeof *logits, "timing");
    if (!s && !logits)
        s = lm_fail_memory(e, (size_t)f->arch.vocab * 4, "timing");
    for (int r = 0; !s && r < 3; r++) {
        struct lm_time t;
        double sum = 0;
        lm_decoder_seek(d, 512);
        for (int32_t i = 0, id = 1; !s && i < 64; i++) {
            s = lm_decoder_feed(d, &id, 1, logits, &t, e);
            sum += t.host;
        }
        f->decode_ms = fmin(f->decode_ms, sum / 64 * 1e3);
    }
    lm_release(logits);
    lm_decoder_close(d);
    lm_network_close(&net);
    lm_bench_close(&b);
    if (backend.plugin)
        lm_stage_close(&backend);
    return s;
}

/* Tokenizer, tensor headers and padding of a GGUF file, rounded up a little. */
static double file_overhead(const struct lm_model *m)
{
    const struct lm_vocabulary *v = lm_model_vocabulary(m);
    double bytes = 16384 + 16.0 * 128 * (lm_model_arch(m)->n_layer + 1);
    for (size_t i = 0; v && i < v->n_token; i++)
        bytes += 8 + 4 + 12 + v->token[i].length;   /* 12: scores, twice */
    if (v && v->chat_template)
        bytes += (double)strlen(v->chat_template);
    for (size_t i = 0; v && i < v->n_merge; i++)
        bytes += 8 + 1 + v->token[v->merge[i].left].length +
                 v->token[v->merge[i].right].length;
    return bytes;
}

static void count_sites(struct facts *f, const struct lm_layer_shape *l)
{
    f->n_mlp += l->n_ff > 0;
    f->n_attn += l->n_kv > 1;
    f->n_ff = l->n_ff > f->n_ff ? l->n_ff : f->n_ff;
    f->groups = l->n_kv > f->groups ? l->n_kv : f->groups;
}

static enum lm_status look(const struct lm_shrink *o, struct facts *f, struct lm_err *e)
{
    struct lm_run *run = NULL;
    struct lm_model *m = NULL;
    struct lm_plan *plan = NULL;
    const int32_t *ids;
    enum lm_status s = find_text(o, f, e);
    if (s || (s = lm_run_open(0, &run, e)))
        return s;
    if (!(s = lm_load_model(o->model, NULL, run, &m, e)) &&
        !(s = lm_run_model(run, m, e)) &&
        !(s = lm_run_ids(run, f->text, &ids, &f->tokens, e)) &&
        !(s = lm_plan_open(lm_model_arch(m), NULL, &plan, e))) {
        f->arch = *lm_model_arch(m);
        f->overhead = file_overhead(m);
        f->resident = (double)lm_model_float_bytes(m) <= strtod(LM_RUN_MEMORY, NULL);
        f->cost.struct_size = sizeof f->cost;
        lm_plan_cost(plan, LM_F16, &f->cost);
        for (int32_t i = 0; i < f->arch.n_layer; i++)
            count_sites(f, &f->arch.layer[i]);
        if (o->max_ms > 0 && f->arch.context > 0 && f->arch.context < 576)
            s = lm_fail(e, LM_ECONFIG,
                        "shrink: --max-latency measures decode=64@512, and the "
                        "model's context is %d tokens; use --to", f->arch.context);
    }
    lm_plan_free(plan);
    f->arch.layer = NULL;               /* goes with the model */
    lm_model_free(m);
    if (!s && o->max_ms > 0)
        s = time_decode(o, f, run, e);
    lm_run_close(run);
    return s;
}

/* Share of body parameters the goal will take, as a start for the search. */
static double share_of_goal(const struct lm_shrink *o, const struct facts *f)
{
    double body = (double)f->cost.body_params;
    double rest = (double)(f->cost.params - f->cost.body_params);
    double share = o->to;
    if (o->max_bytes > 0)
        share = (o->max_bytes - f->overhead - ((double)f->cost.bytes - 2 * body)) /
                (2 * body);
    if (o->max_ms > 0)                  /* decoding reads every weight once */
        share = (o->max_ms / f->decode_ms * (body + rest) - rest) / body;
    return fmin(fmax(share, 0.05), 1);
}

/* How much is done of everything; the first row that fits the time is taken.  A
 * second round of increments, over a compressed base, comes before more evolution:
 * far from the dense model those over it add up badly.                          */
struct effort { int64_t calibration, full, fast, points, rounds, evolve; };
static const struct effort efforts[] = {
    { 128, 8, 4, 6, 3, 480 }, { 128, 8, 4, 5, 2, 240 }, { 128, 8, 2, 5, 2, 96 },
    { 128, 8, 2, 4, 2, 24 }, { 128, 8, 2, 4, 1, 48 }, { 128, 4, 2, 4, 1, 24 },
    { 64, 4, 2, 4, 1, 24 }, { 64, 4, 2, 3, 1, 24 }, { 64, 4, 1, 3, 1, 24 },
    { 32, 2, 1, 2, 1, 24 } };

/* Single-site trials of one round. */
static double single_trials(const struct facts *f, const struct effort *t)
{
    return (double)(f->n_mlp * t->points + f->n_attn *
                    (t->points < f->groups - 1 ? t->points : f->groups - 1));
}

/* Repair in sequence wants many tokens for each column that it solves for, and all of
 * the model at hand.  */
static bool can_refine(const struct facts *f, const struct effort *t)
{
    return f->resident && t->calibration * f->window >= 32 * f->n_ff;
}

/* Seconds of a run.  A single-site trial runs half of the body and the head over
 * `fast` windows, a full one most of the body over `full` windows.             */
static double run_seconds(const struct facts *f, const struct effort *t, bool refine)
{
    enum { LADDER = 10, FINALISTS = 3 };
    double w = (double)f->window, rate = 0.9 * f->flops;
    double head = 2.0 * f->arch.hidden * f->arch.vocab;
    double body = 2.0 * (double)f->cost.body_params + 4.0 * f->arch.hidden * w;
    double gram = 0.4 * body;           /* the Gram matrices beside the forward pass */
    double order = 12.0 * (double)f->n_mlp * pow((double)f->n_ff, 3);
    double work = (double)t->calibration * w * (body + gram) + order
        + single_trials(f, t) * (double)(t->rounds * t->fast) * w * (0.55 * body + head)
        + (double)((LADDER * t->rounds + t->evolve) * t->full) * w * (0.8 * body + head)
        + FINALISTS * 8 * w * (body + head);
    if (refine)                         /* the dense model's blocks once, its own twice */
        work += (double)t->calibration * w * (3 * body + 2 * gram);
    return work / rate + FINALISTS * 4 * (512 + 64) * body / (0.3 * rate) + 10;
}

/* The most that fits; with repair of the winner where that leaves time for a search. */
static struct effort choose_effort(const struct lm_shrink *o, const struct facts *f,
                                   bool *refine)
{
    enum { N = sizeof efforts / sizeof *efforts };
    double seconds = (o->minutes > 0 ? o->minutes : 6) * 60;
    double sequences = (double)f->tokens / (double)f->window;

    for (size_t i = 0; i < 2 * N; i++) {
        const struct effort *t = &efforts[i % N];
        *refine = i < N;
        if (run_seconds(f, t, *refine) <= seconds && (!*refine || can_refine(f, t)) &&
            (double)t->calibration <= sequences && (double)t->full <= 0.15 * sequences)
            return *t;
    }
    return efforts[N - 1];
}

static void add_inputs(const struct lm_shrink *o, const struct facts *f,
                       const struct effort *effort, struct lm_str *t)
{
    static const struct { const char *name; double from, to; } part[] = {
        { "calibration", 0, 0.7 }, { "search", 0.7, 0.85 }, { "final", 0.85, 1 } };
    lm_str_add(t,
               "# Written by `lamina shrink`; change it and run it with `lamina run`.\n"
               "lamina = 1;\n\nrun: { name = \"shrink\"; seed = %lld; threads = %lld; "
               "finalists = 1; out = ",
               (long long)o->seed, (long long)o->threads);
    lm_conf_quote(t, o->out);
    lm_str_add(t, "; };\nmodel: { path = ");
    lm_conf_quote(t, o->model);
    lm_str_add(t, "; };\n\n# Disjoint parts of one text.\ndata: {\n");
    for (size_t i = 0; i < 3; i++) {
        lm_str_add(t, "  %s: { path = ", part[i].name);
        lm_conf_quote(t, f->text);
        lm_str_add(t, "; part = [%.2f, %.2f];", part[i].from, part[i].to);
        if (i == 0)
            lm_str_add(t, " sequences = %lld; length = %lld;",
                       (long long)effort->calibration, (long long)f->window);
        lm_str_add(t, " };\n");
    }
    lm_str_add(t, "};\n");
}

/* The bounded size is the second objective, so that the search can aim at it. */
static void add_goal(const struct lm_shrink *o, const struct facts *f, double share,
                     struct lm_str *t)
{
    lm_str_add(t, "\nobjectives = ( { metric = \"kl.nats\"; }, { metric = \"size.%s\"; } );\n"
               "constraints = ( ", o->max_bytes > 0 ? "bytes" : "body_params");
    if (o->max_bytes > 0)
        lm_str_add(t, "\n  # weights; tokenizer and headers take about %.0f more\n"
                   "  { metric = \"size.bytes\"; max = %.0f.0; }", f->overhead,
                   o->max_bytes - f->overhead);
    else if (o->max_ms > 0)
        lm_str_add(t, "{ metric = \"latency.decode_ms\"; max = %.6g; },\n"
                   "  # predicted from the dense model's latency; raise it if there is room\n"
                   "  { metric = \"size.body_params\"; share = %.4f; }", o->max_ms,
                   fmin(1, share * 1.02));
    else
        lm_str_add(t, "{ metric = \"size.body_params\"; share = %.6g; }", o->to);
    lm_str_add(t, " );\n");
}

/* Sizes to solve for: a ladder for the picture, steps below the goal's size for
 * bounds that only measuring can confirm.                                     */
static void add_search(const struct facts *f, double share, const struct effort *b,
                       struct lm_str *t)
{
    static const double ladder[] = { 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5 };
    struct lm_str sizes = { 0 };
    for (size_t i = 0; i < sizeof ladder / sizeof *ladder; i++)
        lm_str_add(&sizes, "%.2f, ", ladder[i]);
    lm_str_add(&sizes, "%.4f, %.4f, %.4f", share * 0.96, share * 0.98, share);
    t->failed |= sizes.failed;
    lm_str_add(t, "\n# KL increments of each site and level, a knapsack over them%s;\n"
               "# then NSGA-II from the solutions.\n"
               "search: { use = \"chain\"; stages = (\n"
               "  { use = \"lagrangian\"; budget = %.0f; points = %lld; rounds = %lld; "
               "fidelity = %.4f;\n    targets = [%s]; },\n"
               "  { use = \"nsga2\"; population = 24; budget = %lld; } ); };\n",
               b->rounds > 1 ? ", again around its solution" : "",
               (single_trials(f, b) + 16) * (double)b->rounds, (long long)b->points,
               (long long)b->rounds, (double)b->fast / (double)b->full,
               sizes.s ? sizes.s : "", (long long)b->evolve);
    lm_str_free(&sizes);
}

static void add_stages(const struct lm_shrink *o, const struct facts *f,
                       const struct effort *b, struct lm_str *t)
{
    lm_str_add(t, "\n# What may be cut, how it is ranked, and how the rest is repaired.\n"
               "score = ( { use = \"obs\"; } );\n"
               "prune = ( { use = \"kv_groups\"; min = 1; },\n"
               "          { use = \"ffn\"; step = 32; multiple = 32; } );\n"
               "repair: { use = \"least_squares\"; };\n"
               "\n# How candidates are judged: as repaired, on text of their own.\n"
               "evaluate = ( { use = \"kl\"; text = \"search\"; window = %lld; "
               "windows = %lld; spread = true; },\n"
               "             { use = \"size\"; }%s );\n", (long long)f->window,
               (long long)b->full, o->max_ms > 0 ?
               ",\n             { use = \"latency\"; prefill = 0; decode = \"64@512\"; "
               "runs = 3; }" : "");
}

/* What is done when the search is over. */
static void add_end(const struct lm_shrink *o, const struct facts *f, bool refine,
                    struct lm_str *t)
{
    const char *latency = o->max_ms > 0 ? "" : f->arch.context >= 576
        ? ",\n          { use = \"latency\"; prefill = 512; decode = \"64@512\"; runs = 3; }"
        : ",\n          { use = \"latency\"; prefill = 128; decode = \"32@128\"; }";

    if (refine)
        lm_str_add(t, "\n# Behind the search the best is repaired once more, block by "
                   "block.\nrefine: { use = \"sequential\"; };\n");
    lm_str_add(t, "\n# Measured once the search is done: the dense model and the "
               "finalists.\n"
               "final = ( { use = \"perplexity\"; text = \"final\"; window = %lld; "
               "windows = 8; }%s );\n"
               "export = ( { use = \"gguf\"; dtype = \"f16\"; pick = \"best\"; } );\n"
               "report = ( { use = \"table\"; }, { use = \"json\"; }, "
               "{ use = \"html\"; } );\n", (long long)f->window, latency);
}

enum lm_status lm_shrink_text(const struct lm_shrink *o, struct lm_str *t,
                              struct lm_err *e)
{
    struct facts f = { 0 };
    enum lm_status s = lm_pool_start((int)o->threads, e);
    if (s || (s = look(o, &f, e)))
        return s;
    f.flops = machine_rate();
    f.window = f.arch.context > 0 && f.arch.context < 512 ? f.arch.context : 512;
    if ((double)f.tokens * 0.15 < (double)f.window * 2)
        return lm_fail(e, LM_EINPUT,
                       "%s: %zu tokens are too few to calibrate, search and "
                       "check on disjoint parts; %lld are needed", f.text, f.tokens,
                       (long long)ceil((double)f.window * 2 / 0.15));
    bool refine;
    struct effort b = choose_effort(o, &f, &refine);
    double share = share_of_goal(o, &f);
    if (o->max_bytes > 0 && o->max_bytes <= f.overhead + (double)f.cost.bytes -
                                            2 * (double)f.cost.body_params)
        return lm_fail(e, LM_ECONFIG,
                       "shrink: --max-size %.0f is less than embedding, head "
                       "and tokenizer take (%.0f bytes)", o->max_bytes, f.overhead +
                       (double)f.cost.bytes - 2 * (double)f.cost.body_params);
    add_inputs(o, &f, &b, t);
    add_stages(o, &f, &b, t);
    add_goal(o, &f, share, t);
    add_search(&f, share, &b, t);
    add_end(o, &f, refine, t);
    return t->failed ? lm_fail_memory(e, t->n, "the pipeline") : LM_OK;
}
