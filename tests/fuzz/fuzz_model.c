/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_model.c -- a model from a hostile file; the format plugin is linked in,
 * so that a fuzzer sees its branches.                                        */
#include "fuzz.h"
#include "model/model.h"
#include "model/tokenizer.h"
#include "pipeline/host.h"

const struct lm_module *lm_plugin(void);

static void use_vocabulary(const struct lm_vocabulary *v)
{
    static const char text[] = "Hello, World 1234 \xc3\xa4\xe2\x82\xac\n  <|bos|> "
                               "\xf0\x9f\x98\x80";
    struct lm_err e = { 0 };
    struct lm_tokenizer *t;
    int32_t *ids;
    size_t n, k;
    char *back;
    enum lm_status s = lm_tokenizer_open(v, &t, &e);
    fuzz_status(s, &e);
    if (s != LM_OK)
        return;
    for (int special = 0; special < 2; special++) {
        s = lm_tokenize(t, text, sizeof text - 1, special, &ids, &n, &e);
        fuzz_status(s, &e);
        if (s != LM_OK)
            continue;
        for (size_t i = 0; i < n; i++)
            FUZZ_CHECK(ids[i] >= 0 && (size_t)ids[i] < v->n_token);
        s = lm_detokenize(t, ids, n, true, &back, &k, &e);
        fuzz_status(s, &e);
        if (s == LM_OK)
            lm_release(back);
        lm_release(ids);
    }
    lm_tokenizer_close(t);
}

static void use(const struct lm_model *m)
{
    const struct lm_arch *a = lm_model_arch(m);
    struct lm_err e = { 0 };
    fuzz_status(lm_model_check(m, &e), &e);
    (void)lm_model_hash(m);
    for (uint32_t role = 1; role < LM_N_ROLES; role++) {
        int32_t first = lm_role_is_layer(role) ? 0 : -1;
        int32_t last = lm_role_is_layer(role) ? a->n_layer - 1 : -1;
        for (int32_t layer = first; layer <= last; layer++) {
            const float *x;
            fuzz_status(lm_model_floats(m, role, layer, &x, &e), &e);
        }
    }
    if (lm_model_vocabulary(m) != NULL)
        use_vocabulary(lm_model_vocabulary(m));
}

void fuzz_model(const char *path)
{
    const struct lm_module *p = lm_plugin();
    const struct lm_format *format = p->ops;
    struct lm_args args = { .struct_size = sizeof args, .host = lm_host() };
    struct lm_builder *b;
    struct lm_model *m;
    struct lm_err e = { 0 };
    void *self = NULL;
    FUZZ_CHECK(p->create(&args, &self, &e) == LM_OK);
    (void)format->probe(self, path);
    FUZZ_CHECK(lm_builder_open(path, &b, &e) == LM_OK);
    enum lm_status s = format->read(self, path, b, &e);
    if (s == LM_OK)
        s = lm_builder_finish(b, &m, &e);
    else
        lm_builder_abandon(b);
    fuzz_status(s, &e);
    if (s == LM_OK) {
        use(m);
        lm_model_free(m);
    }
    p->destroy(self);
}
