/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_json.c -- reading JSON, walking all of it, writing it and reading that. */
#include "base/json.h"
#include "fuzz.h"

static void write_value(struct lm_jsonw *w, const struct lm_json *j)
{
    const struct lm_json_api *api = &lm_json_api;
    const char *key;
    int64_t i;
    double r = 0;
    bool b = false;
    switch (api->type(j)) {
    case 'o':
    case 'a':
        lm_jsonw_begin(w, api->type(j) == 'o' ? '{' : '[');
        for (size_t k = 0; k < api->size(j); k++) {
            const struct lm_json *c = api->at(j, k);
            if (api->type(j) == 'o') {
                FUZZ_CHECK((c = api->member(j, k, &key)) != NULL && key != NULL);
                FUZZ_CHECK(api->get(j, key) == c);
                lm_jsonw_key(w, key);
            }
            FUZZ_CHECK(c != NULL);
            write_value(w, c);
        }
        lm_jsonw_end(w, api->type(j) == 'o' ? '}' : ']');
        break;
    case 's':
        lm_jsonw_string(w, api->string(j));
        break;
    case 'i':
        FUZZ_CHECK(api->integer(j, &i));
        lm_jsonw_int(w, i);
        break;
    case 'r':
        FUZZ_CHECK(api->real(j, &r));
        lm_jsonw_real(w, r);
        (void)api->integer(j, &i);
        break;
    case 'b':
        FUZZ_CHECK(api->boolean(j, &b));
        lm_jsonw_bool(w, b);
        break;
    default:
        lm_jsonw_string(w, NULL);
    }
}

/* The writer's nesting ends at 64; what it wrote from less is JSON again. */
static void again(const struct lm_json *root, int depth)
{
    struct lm_str t = { 0 };
    struct lm_jsonw w = { .to = &t };
    struct lm_json *copy;
    struct lm_err e = { 0 };
    if (depth >= 60)
        return;
    write_value(&w, root);
    FUZZ_CHECK(!t.failed);
    enum lm_status s = lm_json_api.parse(t.s, t.n, "copy", &copy, &e);
    if (s != LM_OK)
        fprintf(stderr, "%s\n%s\n", e.text, t.s);
    FUZZ_CHECK(s == LM_OK);
    FUZZ_CHECK(lm_json_api.type(copy) == lm_json_api.type(root)
               || lm_json_api.type(root) == 'r');
    lm_json_api.close(copy);
    lm_str_free(&t);
}

static int depth_of(const struct lm_json *j)
{
    const char *key;
    int deepest = 0;
    char type = lm_json_api.type(j);
    if (type != 'o' && type != 'a')
        return 0;
    for (size_t k = 0; k < lm_json_api.size(j); k++) {
        int d = depth_of(type == 'a' ? lm_json_api.at(j, k)
                                     : lm_json_api.member(j, k, &key));
        deepest = d > deepest ? d : deepest;
    }
    return 1 + deepest;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct lm_err e = { 0 };
    struct lm_json *root;
    int64_t begun = fuzz_begin();
    enum lm_status s = lm_json_api.parse((const char *)data, n, "text", &root, &e);
    fuzz_status(s, &e);
    if (s == LM_OK) {
        again(root, depth_of(root));
        lm_json_api.close(root);
    }
    fuzz_end(begun);
    return 0;
}
