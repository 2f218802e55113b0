/* SPDX-License-Identifier: Apache-2.0 */
/* exports.h -- the study's "exports", a JSON list of { "file", "trial",
 * "format", "plan", "written" }: what was planned and what was found in the file,
 * by the same names: "bytes", "parameters", "latency.decode_ms".  The text is not
 * trusted; a part that is not what it should be is left out.                */
#ifndef LM_REPORTERS_EXPORTS_H
#define LM_REPORTERS_EXPORTS_H
#include "text.h"

struct exports {
    const struct lm_json_api *json;
    struct lm_json *root;               /* NULL: none                          */
};

/* t: the report that is being written; without memory it is marked failed. */
static inline void exports_open(struct exports *x, struct text *t,
                                const struct lm_study *s)
{
    const char *text = t->host->study_text(s, "exports");
    enum lm_status st = LM_OK;

    *x = (struct exports){ .json = t->host->json };
    if (text && *text)
        st = x->json->parse(text, strlen(text), "exports", &x->root, NULL);
    if (st == LM_OK && x->root && x->json->type(x->root) != 'a')
        x->json->close(x->root);
    else if (st == LM_OK)
        return;
    x->root = NULL;
    t->failed |= st == LM_ENOMEM;
}

static inline void exports_close(struct exports *x)
{
    if (x->root)
        x->json->close(x->root);
    x->root = NULL;
}

/* Number i: its file name; NULL behind the last. */
static inline const char *exports_file(const struct exports *x, size_t i, int64_t *trial)
{
    const struct lm_json *node = x->root ? x->json->at(x->root, i) : NULL;

    *trial = -1;
    x->json->integer(x->json->get(node, "trial"), trial);
    return x->json->string(x->json->get(node, "file"));
}

static inline double exports_number(const struct exports *x, const struct lm_json *node)
{
    int64_t whole;
    double v;

    if (x->json->integer(node, &whole))
        return (double)whole;
    return x->json->real(node, &v) ? v : NAN;
}

/* Value k of number i, planned and written (NAN: unknown); NULL behind the last. */
static inline const char *exports_value(const struct exports *x, size_t i, size_t k,
                                        double *planned, double *written)
{
    const struct lm_json *node = x->json->at(x->root, i);
    const struct lm_json *plan = x->json->get(node, "plan");
    const char *key = NULL;

    if (!plan || k >= x->json->size(plan))
        return NULL;
    *planned = exports_number(x, x->json->member(plan, k, &key));
    *written = exports_number(x, x->json->get(x->json->get(node, "written"), key));
    return key;
}
#endif
