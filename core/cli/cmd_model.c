/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_model.c -- eval, generate, tokenize: one model, no search. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/process.h"
#include "cli/desk.h"
#include "pipeline/commands.h"
#include "model/chat.h"
#include "pipeline/device.h"
#include "pipeline/finish.h"

/* [value, weight] of each item in order: a loss summed over a window, and tokens. */
static void print_sums(const struct lm_result *r, struct lm_jsonw *w)
{
    lm_jsonw_begin(w, '[');
    for (size_t i = 0; i < r->n_sum; i++) {
        lm_jsonw_begin(w, '[');
        lm_jsonw_real(w, r->sum[i].value);
        lm_jsonw_real(w, r->sum[i].weight);
        lm_jsonw_end(w, ']');
    }
    lm_jsonw_end(w, ']');
}

static void print_device(const struct lm_bench *b, struct lm_jsonw *w)
{
    lm_jsonw_key(w, "backend");
    lm_jsonw_string(w, b->backend->plugin->module.name);
    lm_jsonw_key(w, "device");
    lm_jsonw_begin(w, '{');
    lm_jsonw_key(w, "name");
    lm_jsonw_string(w, b->device.name);
    lm_jsonw_key(w, "driver");
    lm_jsonw_string(w, b->device.driver);
    lm_jsonw_key(w, "memory");
    lm_jsonw_int(w, b->device.memory);
    lm_jsonw_key(w, "software");
    lm_jsonw_bool(w, b->device.software);
    lm_jsonw_end(w, '}');
}

/* Least and most of what a median was taken of. */
static void print_spread(const struct lm_result *r, struct lm_str *out)
{
    double low = INFINITY, high = -INFINITY;
    for (size_t i = 0; i < r->n_sum; i++)
        if (r->sum[i].weight > 0) {
            low = fmin(low, r->sum[i].value / r->sum[i].weight);
            high = fmax(high, r->sum[i].value / r->sum[i].weight);
        }
    if (high > low)
        lm_str_add(out, ", %.4g to %.4g", low, high);
}

static void print_metrics(const struct lm_bench *b, const struct lm_result *r,
                          const char *model, bool json, struct lm_str *out)
{
    struct lm_jsonw w = { .to = out };
    size_t k = 0;
    lm_jsonw_begin(&w, '{');
    lm_jsonw_key(&w, "model");
    lm_jsonw_string(&w, model);
    lm_jsonw_key(&w, "metrics");
    lm_jsonw_begin(&w, '[');
    if (!json)
        out->n = 0;
    for (size_t j = 0; j < b->n_judge; j++)
        for (size_t i = 0; i < b->judge[j].n_metric; i++, k++) {
            const struct lm_metric *m = lm_judge_metric(&b->judge[j], i);
            char name[128], value[32];
            if (isnan(r[k].value))      /* a workload that was switched off */
                continue;
            snprintf(name, sizeof name, "%s.%s", b->judge[j].id, m->name);
            if (!json) {
                lm_str_add(out, "%-22s %14s %-8s", name, lm_human_value(value,
                                                                        r[k].value),
                           m->unit ? m->unit : "");
                if (r[k].error > 0)
                    lm_str_add(out, " +- %.3g", r[k].error);
                if (m->reduce == LM_REDUCE_MEDIAN)
                    print_spread(&r[k], out);
                lm_str_add(out, "   (%s)\n", b->judge[j].protocol);
                continue;
            }
            lm_jsonw_begin(&w, '{');
            lm_jsonw_key(&w, "name");
            lm_jsonw_string(&w, name);
            lm_jsonw_key(&w, "value");
            lm_jsonw_real(&w, r[k].value);
            lm_jsonw_key(&w, "stderr");
            lm_jsonw_real(&w, r[k].error);
            lm_jsonw_key(&w, "unit");
            lm_jsonw_string(&w, m->unit ? m->unit : "");
            lm_jsonw_key(&w, "protocol");
            lm_jsonw_string(&w, b->judge[j].protocol);
            lm_jsonw_key(&w, "items");
            lm_jsonw_int(&w, (int64_t)r[k].n_sum);
            lm_jsonw_key(&w, "sums");
            print_sums(&r[k], &w);
            lm_jsonw_end(&w, '}');
        }
    if (!json)
        lm_str_add(out, "on %s (backend %s)\n", b->device_text,
                   b->backend->plugin->module.name);
    if (json) {
        lm_jsonw_end(&w, ']');
        print_device(b, &w);
        lm_jsonw_end(&w, '}');
        lm_str_add(out, "\n");
    }
}

static enum lm_status measure(struct lm_desk *d, const char *model, bool json,
                              struct lm_err *e)
{
    struct lm_bench *b = &d->bench;
    struct lm_str out = { 0 };
    size_t n = lm_evaluation_metrics(b->evaluation);
    struct lm_result *r = lm_alloc_array(n + 1, sizeof *r, "eval");
    enum lm_status s = r ? lm_bench_measure(b, r, e) : lm_fail_memory(e, n, "results");
    struct lm_tally t = lm_evaluation_tally(b->evaluation);
    if (!s && t.kept)
        lm_log(LM_WARN, "the machine was unsteady: %lld of %lld repetitions are up to "
               "%.1f %% off the median", (long long)t.kept, (long long)t.runs, 100 * t.worst);
    if (!s) {
        print_metrics(b, r, model, json, &out);
        s = lm_print_str(&out, e);
    }
    if (r)
        lm_results_free(r, n);
    lm_release(r);
    return s;
}

static uint32_t stored_dtype(const struct lm_model *m)
{
    const struct lm_arch *a = lm_model_arch(m);
    for (int32_t i = 0; i < a->n_layer; i++)
        for (uint32_t role = 1; role < LM_N_ROLES; role++) {
            const struct lm_tensor *t = lm_role_is_layer(role) && lm_role_is_matrix(role)
                ? lm_model_tensor(m, role, i) : NULL;
            if (t)
                return t->dtype;
        }
    return LM_F16;
}

enum lm_status lm_cmd_eval(int argc, char **argv, struct lm_err *e)
{
    struct lm_list metric = { 0 }, at;
    const char *backend = NULL;
    int64_t threads = 0;
    bool json = false, commands = false, help;
    struct lm_conf *conf[LM_MAX_STAGES] = { 0 };
    struct lm_stage stage[LM_MAX_STAGES] = { 0 };
    size_t n = 0;
    const struct lm_flag flag[] = {
        { "metric", 'l', &metric, "NAME[:key=value,...]", "evaluator, may be repeated" },
        { "backend", 's', &backend, "NAME[:key=value,...]",
          "backend (default cpu), or auto" },
        { "threads", 'i', &threads, "N", "worker threads (default: one for each CPU)" },
        { "json", 'b', &json, NULL, "one JSON document on standard output" },
        LM_FLAG_COMMANDS(&commands) };
    enum lm_status s = lm_flags_parse(argc, argv, flag, 5, &at, 1, 1, &help, e);
    if (s || help)
        return s;
    if (!metric.n || metric.n > LM_MAX_STAGES)
        return lm_fail(e, LM_ECONFIG,
                       "eval: give 1 to %d times --metric NAME; `lamina list "
                       "evaluator` has the names", LM_MAX_STAGES);
    struct lm_desk d = { 0 };
    s = lm_run_open(0, &d.run, e);
    for (; !s && n < metric.n; n++)
        s = lm_stage_text(&stage[n], LM_EVALUATOR, metric.v[n], &conf[n], d.run, e);
    lm_process_allow(commands);
    if (!s)
        s = lm_commands_check(stage, n, e);
    if (!s)
        s = lm_desk_open(&d, at.v[0], backend, threads, e);
    if (!s)
        s = lm_judges_open(&d.bench, stage, n, stored_dtype(d.bench.model), 1 << 30, e);
    if (!s)
        s = measure(&d, at.v[0], json, e);
    lm_desk_close(&d);
    for (size_t i = 0; i < n; i++) {
        lm_stage_close(&stage[i]);
        lm_conf_free(conf[i]);
    }
    return s;
}

/* "1,2,3" -> ids */
static enum lm_status parse_ids(const char *text, int32_t **ids, size_t *n,
                                struct lm_err *e)
{
    *ids = lm_alloc_array(strlen(text) + 1, sizeof **ids, "ids");
    *n = 0;
    if (!*ids)
        return lm_fail_memory(e, strlen(text) * 4, "ids");
    for (const char *p = text; *p;) {
        char *end;
        long v = strtol(p, &end, 10);
        if (end == p || v < 0 || v > INT32_MAX || (*end && *end != ',')) {
            lm_release(*ids);
            return lm_fail(e, LM_ECONFIG, "--ids: '%s' is not a list like 1,2,3", text);
        }
        (*ids)[(*n)++] = (int32_t)v;
        p = *end ? end + 1 : end;
    }
    return LM_OK;
}

/* What is asked of the model; chat: as a user's message in its chat template. */
struct question { const char *prompt, *system, *list; bool chat; };

static enum lm_status chat_ids(const struct lm_desk *d, const struct question *q,
                               const struct lm_chat *c, int32_t **ids, size_t *n,
                               struct lm_err *e)
{
    struct lm_message m[2] = { { "system", q->system }, { "user", q->prompt } };
    struct lm_str text = { 0 };
    bool system = q->system != NULL;
    enum lm_status s = lm_chat_render(c, system ? m : m + 1, system ? 2 : 1, true, &text,
                                      e);
    if (!s)
        s = lm_tokenize(lm_run_tokenizer(d->run), text.s ? text.s : "", text.n, true, ids,
                        n, e);
    lm_str_free(&text);
    return s;
}

static enum lm_status prompt_ids(const struct lm_desk *d, const char *prompt, int32_t **ids,
                                 size_t *n, struct lm_err *e)
{
    const struct lm_tokenizer *t = lm_run_tokenizer(d->run);
    const struct lm_arch *a = lm_model_arch(d->bench.model);
    int32_t *text;
    size_t n_text;
    if (!t)
        return lm_fail(e, LM_EINPUT, "the model has no tokenizer; give --ids");
    enum lm_status s = lm_tokenize(t, prompt, strlen(prompt), true, &text, &n_text, e);
    if (s)
        return s;
    size_t bos = a->add_bos && a->bos >= 0;
    *ids = lm_alloc_array(n_text + 2, sizeof **ids, "ids");
    if (*ids) {
        (*ids)[0] = a->bos;
        memcpy(*ids + bos, text, n_text * sizeof *text);
        *n = n_text + bos;
    } else
        s = lm_fail_memory(e, n_text * 4, "ids");
    lm_release(text);
    return s;
}

static void json_ids(struct lm_jsonw *w, const char *key, const int32_t *ids, size_t n)
{
    if (key)
        lm_jsonw_key(w, key);
    lm_jsonw_begin(w, '[');
    for (size_t i = 0; i < n; i++)
        lm_jsonw_int(w, ids[i]);
    lm_jsonw_end(w, ']');
}

/* Text that is shown as it comes. */
struct speech {
    const struct lm_tokenizer *t;       /* NULL: ids are shown */
    struct lm_rest rest;
    struct lm_str text;                 /* all of it, for JSON */
    bool json, any, chat;
};

static enum lm_status say(struct speech *p, size_t from, struct lm_err *e)
{
    if (p->text.failed)
        return lm_fail_memory(e, p->text.n, "text");
    if (p->chat && !from && p->text.n && *p->text.s == ' ')
        from++;                         /* a template's space in front of the answer */
    return p->json || from >= p->text.n ? LM_OK
        : lm_print(p->text.s + from, p->text.n - from, e);
}

static enum lm_status see_token(void *ctx, int32_t id, struct lm_err *e)
{
    struct speech *p = ctx;
    size_t from = p->text.n;
    if (p->t)
        lm_detokenize_next(p->t, &p->rest, id, &p->text);
    else
        lm_str_add(&p->text, "%s%d", p->any ? "," : "", id);
    p->any = true;
    return say(p, from, e);
}

static enum lm_status print_json(const struct speech *p, const int32_t *ids, size_t n,
                                 const int32_t *new_ids, size_t n_new, struct lm_err *e)
{
    struct lm_str out = { 0 };
    struct lm_jsonw w = { .to = &out };
    const char *text = p->text.s ? p->text.s : "";
    size_t skip = p->chat && *text == ' ';
    lm_jsonw_begin(&w, '{');
    json_ids(&w, "ids", ids, n);
    json_ids(&w, "new_ids", new_ids, n_new);
    lm_jsonw_key(&w, "text");
    if (p->t)
        lm_jsonw_string_n(&w, text + skip, p->text.n - skip);
    else
        lm_jsonw_string(&w, NULL);
    lm_jsonw_end(&w, '}');
    lm_str_add(&out, "\n");
    return lm_print_str(&out, e);
}

static enum lm_status speak(struct lm_desk *d, struct speech *p, const struct lm_generate *o,
                            const int32_t *ids, size_t n, struct lm_err *e)
{
    struct lm_network net = { 0 };
    int32_t *more = NULL;
    size_t n_more = 0, from;
    enum lm_status s = lm_network_open(d->bench.engine, d->bench.model, &net, e);
    if (!s)
        s = lm_generate(d->bench.engine, &net, o, ids, n, &more, &n_more, e);
    from = p->text.n;
    lm_detokenize_end(&p->rest, &p->text);
    if (!s)
        s = say(p, from, e);
    if (!s)
        s = p->json ? print_json(p, ids, n, more, n_more, e) : lm_print("\n", 1, e);
    lm_network_close(&net);
    lm_release(more);
    return s;
}

static enum lm_status generate(struct lm_desk *d, const struct question *q,
                               const struct lm_generate *given, bool json,
                               struct lm_err *e)
{
    struct lm_generate o = *given;
    struct speech p = { .t = lm_run_tokenizer(d->run), .json = json, .chat = q->chat };
    struct lm_chat c = { .end = -1 };
    int32_t *ids = NULL;
    size_t n = 0;
    enum lm_status s = LM_OK;
    const struct lm_model *m = d->bench.model;
    if (q->chat && (s = lm_chat_open(lm_model_vocabulary(m), lm_model_arch(m), &c, e)))
        return lm_err_prefix(e, "%s: ", lm_model_source(m));
    s = q->list ? parse_ids(q->list, &ids, &n, e)
      : q->chat ? chat_ids(d, q, &c, &ids, &n, e) : prompt_ids(d, q->prompt, &ids, &n, e);
    if (s)
        return s;
    o.see = see_token;
    o.ctx = &p;
    o.stop = &c.end;
    o.n_stop = c.end >= 0;
    s = speak(d, &p, &o, ids, n, e);
    lm_str_free(&p.text);
    lm_release(ids);
    return s;
}

enum lm_status lm_cmd_generate(int argc, char **argv, struct lm_err *e)
{
    struct lm_list at;
    const char *prompt = NULL, *ids = NULL, *backend = NULL, *system = NULL;
    int64_t tokens = 64, seed = 1, threads = 1;
    double temperature = -1, top_p = -1;
    bool greedy = false, ignore_eos = false, json = false, chat = false, help;
    const struct lm_flag flag[] = {
        { "prompt", 's', &prompt, "TEXT", "text to continue" },
        { "ids", 's', &ids, "1,2,3", "token ids to continue" },
        { "chat", 'b', &chat, NULL, "the text is a user's message in the chat template" },
        { "system", 's', &system, "TEXT",
            "system message of --chat (default: the template's)" },
        { "tokens", 'i', &tokens, "N", "tokens to generate (default 64)" },
        { "greedy", 'b', &greedy, NULL, "always the most likely token (default)" },
        { "temperature", 'r', &temperature, "T", "sample at a temperature" },
        { "top-p", 'r', &top_p, "P", "from the likeliest tokens of mass P (default 1)" },
        { "seed", 'i', &seed, "S", "seed of sampling (default 1)" },
        { "ignore-eos", 'b', &ignore_eos, NULL, "go on behind the end-of-text token" },
        { "backend", 's', &backend, "NAME[:key=value,...]",
          "backend (default cpu), or auto" },
        { "threads", 'i', &threads, "N", "threads (default 1)" },
        { "json", 'b', &json, NULL, "one JSON document on standard output" } };
    enum lm_status s = lm_flags_parse(argc, argv, flag, sizeof flag / sizeof *flag, &at,
                                      1, 1, &help, e);
    if (s || help)
        return s;
    if (!prompt == !ids)
        return lm_fail(e, LM_ECONFIG, "generate: give --prompt TEXT or --ids 1,2,3");
    if ((chat && !prompt) || (system && !chat))
        return lm_fail(e, LM_ECONFIG, chat ? "generate: --chat needs --prompt"
                                           : "generate: --system needs --chat");
    if (greedy && (temperature > 0 || top_p >= 0))
        return lm_fail(e, LM_ECONFIG,
                       "generate: --greedy excludes --temperature and --top-p");
    if (top_p > 1)
        return lm_fail(e, LM_ECONFIG, "generate: --top-p is a share, at most 1");
    if (tokens > 1000000)
        return lm_fail(e, LM_ECONFIG, "generate: --tokens is at most 1000000");
    struct lm_generate o = { .tokens = tokens, .seed = (uint64_t)seed,
        .temperature = temperature >= 0 ? temperature : top_p >= 0 ? 1 : 0,
        .top_p = top_p >= 0 ? top_p : 1, .ignore_eos = ignore_eos,
        .threads = (int32_t)threads };
    struct lm_desk d = { 0 };
    s = lm_desk_open(&d, at.v[0], backend, threads, e);
    if (!s)
        s = generate(&d, &(struct question){ prompt, system, ids, chat }, &o, json, e);
    lm_desk_close(&d);
    return s;
}

enum lm_status lm_cmd_tokenize(int argc, char **argv, struct lm_err *e)
{
    struct lm_list at;
    bool bos = false, special = false, json = false, help;
    const struct lm_flag flag[] = {
        { "bos", 'b', &bos, NULL, "put the begin-of-text token first" },
        { "special", 'b', &special, NULL, "recognise special tokens in TEXT" },
        { "json", 'b', &json, NULL, "a JSON array" } };
    enum lm_status s = lm_flags_parse(argc, argv, flag, 3, &at, 2, 2, &help, e);
    if (s || help)
        return s;
    struct lm_desk d = { 0 };
    int32_t *ids = NULL;
    size_t n = 0;
    struct lm_str out = { 0 };
    struct lm_jsonw w = { .to = &out };
    if ((s = lm_run_open(0, &d.run, e)) ||
        (s = lm_load_model(at.v[0], NULL, d.run, &d.bench.model, e)) ||
        (s = lm_run_model(d.run, d.bench.model, e)))
        goto out;
    const struct lm_tokenizer *t = lm_run_tokenizer(d.run);
    int32_t id = lm_model_arch(d.bench.model)->bos;
    if (!t)
        s = lm_fail(e, LM_EINPUT, "%s: the model has no tokenizer", at.v[0]);
    else if (bos && id < 0)
        s = lm_fail(e, LM_EINPUT, "%s: the model has no begin-of-text token", at.v[0]);
    else
        s = lm_tokenize(t, at.v[1], strlen(at.v[1]), special, &ids, &n, e);
    if (s)
        goto out;
    lm_jsonw_begin(&w, '[');
    if (bos)
        lm_jsonw_int(&w, id);
    for (size_t i = 0; i < n; i++)
        lm_jsonw_int(&w, ids[i]);
    lm_jsonw_end(&w, ']');
    if (!json) {
        out.n = 0;
        if (bos)
            lm_str_add(&out, "%d ", id);
        for (size_t i = 0; i < n; i++)
            lm_str_add(&out, "%d ", ids[i]);
    }
    lm_str_add(&out, "\n");
    s = lm_print_str(&out, e);
out:
    lm_release(ids);
    lm_desk_close(&d);
    return s;
}
