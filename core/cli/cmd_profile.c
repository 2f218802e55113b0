/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_profile.c -- profile: a table of what operators cost on this device. */
#include <stdlib.h>

#include "base/log.h"
#include "base/pool.h"
#include "cli/desk.h"
#include "pipeline/profile.h"

enum { MOST_TOKENS = 1 << 20 };

/* "64@512", "64" or "0". */
static bool parse_decode(const char *text, int32_t *tokens, int32_t *context)
{
    char *end;
    long t = strtol(text, &end, 10), c = 0;

    if (end == text)
        return false;
    if (*end == '@') {
        const char *from = end + 1;

        c = strtol(from, &end, 10);
        if (end == from)
            return false;
    }
    *tokens = (int32_t)t;
    *context = (int32_t)c;
    return !*end && t >= 0 && t <= MOST_TOKENS && c >= 0 && c <= MOST_TOKENS;
}

/* What decoders refuse: sequences beyond a sliding window. */
static enum lm_status check_length(const struct lm_arch *a,
                                   const struct lm_profile_request *r, struct lm_err *e)
{
    int32_t deep = r->tokens ? r->context + r->tokens : 0;
    int32_t most = r->prefill > deep ? r->prefill : deep;

    if (a->window && most > a->window)
        return lm_fail(e, LM_ECONFIG, "profile: %d tokens are more than the model's "
                       "sliding window of %d; give shorter workloads", most, a->window);
    return LM_OK;
}

enum lm_status lm_cmd_profile(int argc, char **argv, struct lm_err *e)
{
    struct lm_list at;
    const char *backend = NULL, *decode = "64@512";
    int64_t prefill = 512, threads = 1;
    struct lm_profile_request r = { .out = "latency-table.json" };
    bool help;
    const struct lm_flag flag[] = {
        { "backend", 's', &backend, "NAME[:key=value,...]",
            "backend (default cpu), or auto" },
        { "prefill", 'i', &prefill, "N", "tokens at once (default 512); 0: none" },
        { "decode", 's', &decode, "T@C",
            "T tokens one by one behind C (default 64@512); 0: none" },
        { "threads", 'i', &threads, "N", "threads a model may use (default 1)" },
        { "formats", 's', &r.formats, "LIST",
            "number formats of weights beside the model's, like q8_0,q4_0" },
        { "narrow", 'b', &r.narrow, NULL, "narrower residual streams, too" },
        { "out", 's', &r.out, "FILE", "the table (default latency-table.json)" } };
    enum lm_status s = lm_flags_parse(argc, argv, flag, sizeof flag / sizeof *flag, &at,
                                      1, 1, &help, e);
    if (s || help)
        return s;
    if (!parse_decode(decode, &r.tokens, &r.context) || prefill < 0 ||
        prefill > MOST_TOKENS)
        return lm_fail(e, LM_ECONFIG, "profile: --prefill N and --decode T@C take at "
                       "most %d tokens", MOST_TOKENS);
    if (threads < 1 || threads > 256)
        return lm_fail(e, LM_ECONFIG, "profile: --threads is from 1 to 256");
    r.prefill = (int32_t)prefill;
    r.threads = (int32_t)threads;
    struct lm_desk d = { 0 };
    s = lm_desk_open(&d, at.v[0], backend, threads, e);
    if (!s)
        s = check_length(lm_model_arch(d.bench.model), &r, e);
    if (!s)
        s = lm_profile_run(&d.bench, &r, e);
    if (!s)
        lm_log(LM_INFO, "wrote %s; `latency_table` predicts with it", r.out);
    lm_desk_close(&d);
    return s;
}
