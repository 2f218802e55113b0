/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of base/json.h: the tree, its limits, and writing. */
#include "check_base.h"

#include <math.h>

#include "base/json.h"
#include "testing.h"

#define J (&lm_json_api)

static enum lm_status parse(const char *text, struct lm_json **root, struct lm_err *e)
{
    return J->parse(text, strlen(text), "config.json", root, e);
}

START_TEST(json_tree)
{
    struct lm_err e;
    struct lm_json *root;
    const char *text = "{\"z\": [1, -9223372036854775808, 2.5, "
                       "\"h\\u00e9\", true, null],\n \"a\": {}, \"m\": false}";
    ck_assert_ok(parse(text, &root, &e), e);
    ck_assert_int_eq(J->type(root), 'o');
    ck_assert_uint_eq(J->size(root), 3);
    const struct lm_json *z = J->get(root, "z");
    ck_assert_uint_eq(J->size(z), 6);
    static const char types[] = "iirsbn";
    for (size_t i = 0; i < 6; i++)
        ck_assert_int_eq(J->type(J->at(z, i)), types[i]);
    int64_t i;
    double r;
    bool b;
    ck_assert(J->integer(J->at(z, 1), &i));
    ck_assert_int_eq(i, INT64_MIN);
    ck_assert(!J->integer(J->at(z, 2), &i));
    ck_assert(J->real(J->at(z, 2), &r) && r == 2.5);
    ck_assert(J->real(J->at(z, 0), &r) && r == 1);
    ck_assert_str_eq(J->string(J->at(z, 3)), "h\xc3\xa9");
    ck_assert(J->boolean(J->at(z, 4), &b) && b);
    ck_assert(J->boolean(J->get(root, "m"), &b) && !b);
    /* what is not there, or is something else */
    ck_assert_ptr_null(J->at(z, 6));
    ck_assert_ptr_null(J->get(root, "q"));
    ck_assert_ptr_null(J->get(z, "q"));
    ck_assert_ptr_null(J->at(root, 0));
    ck_assert_ptr_null(J->get(NULL, "q"));
    ck_assert_ptr_null(J->string(root));
    ck_assert_int_eq(J->type(NULL), 0);
    ck_assert_uint_eq(J->size(NULL), 0);
    ck_assert(!J->integer(NULL, &i) && !J->real(root, &r) && !J->boolean(z, &b));
    J->close(root);
    J->close(NULL);
}
END_TEST

START_TEST(json_whole_reals)
{
    struct lm_err e;
    struct lm_json *root;
    int64_t i;
    ck_assert_ok(parse("[2048.0, -1e3, 1e15, 1e16, 1e300, 0.5, \"1\", true]", &root, &e),
                 e);
    static const int64_t want[] = { 2048, -1000, INT64_C(1000000000000000) };
    for (size_t k = 0; k < 3; k++) {
        ck_assert(J->integer(J->at(root, k), &i));
        ck_assert_int_eq(i, want[k]);
    }
    for (size_t k = 3; k < 8; k++)
        ck_assert(!J->integer(J->at(root, k), &i));
    J->close(root);

    /* One integer beyond int64 turns all of the document into reals; the others
     * keep their values. */
    double r;
    ck_assert_ok(parse("[1000000000000000019884624838656, 42, 9007199254740993]", &root,
                       &e), e);
    ck_assert(!J->integer(J->at(root, 0), &i));
    ck_assert(J->real(J->at(root, 0), &r) && r == 1e30);
    ck_assert(J->integer(J->at(root, 1), &i) && i == 42);
    ck_assert(!J->integer(J->at(root, 2), &i));         /* not exact: refused */
    J->close(root);
}
END_TEST

START_TEST(json_members_in_file_order)
{
    struct lm_err e;
    struct lm_str t = { 0 };
    enum { N = 60000 };                 /* quadratic walking would be noticed */
    lm_str_put(&t, "{", 1);
    for (int i = 0; i < N; i++)
        lm_str_add(&t, "%s\"k%d\":%d", i ? "," : "", (i * 7919) % 1000003, i);
    lm_str_put(&t, "}", 1);
    int64_t blocks = lm_mem_blocks(), v;
    const char *key;
    char want[20];
    for (int round = 0; round < 2; round++) {
        struct lm_json *root;
        ck_assert_ok(J->parse(t.s, t.n, "x", &root, &e), e);
        for (int i = 0; i < N; i++) {
            ck_assert(J->integer(J->member(root, (size_t)i, &key), &v));
            snprintf(want, sizeof want, "k%d", (i * 7919) % 1000003);
            ck_assert_int_eq(v, i);
            ck_assert_str_eq(key, want);
        }
        ck_assert(J->integer(J->member(root, 5, &key), &v) && v == 5);     /* back */
        ck_assert(J->integer(J->member(root, 5, &key), &v) && v == 5);
        ck_assert_ptr_null(J->member(root, N, &key));
        ck_assert_ptr_null(key);
        J->close(root);
    }
    ck_assert_int_eq(lm_mem_blocks(), blocks);
    lm_str_free(&t);
}
END_TEST

START_TEST(json_refused)
{
    static const struct { const char *text, *says; } bad[] = {
        { "", "line 1" }, { "{", "line 1" }, { "{\"a\":1,\n\"a\":2}", "line 2" },
        { "[1,\n2,\n]", "line 3" },
        { "[1e999]", "line 1" }, { "[NaN]", "line 1" }, { "{} x", "line 1" },
        { "[\"\xff\"]", "line 1" }, { "[\"\\u0000\"]", "line 1" }, { "[01]", "line 1" },
        { "]", "line 1" }, { "['a']", "line 1" } };
    struct lm_err e;
    struct lm_json *root;
    int64_t blocks = lm_mem_blocks();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_msg(parse(bad[i].text, &root, &e) == LM_EINPUT, "%s", bad[i].text);
        ck_assert_ptr_null(root);
        ck_assert_int_eq(strncmp(e.text, "config.json: line ", 18), 0);
        ck_assert_msg(strstr(e.text, bad[i].says) != NULL, "%s", e.text);
    }
    ck_assert_int_eq(lm_mem_blocks(), blocks);
}
END_TEST

START_TEST(json_depth)
{
    struct lm_err e;
    struct lm_json *root;
    char text[1000];
    for (int depth = 199; depth <= 201; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        text[2 * depth] = '\0';
        ck_assert_int_eq(parse(text, &root, &e), depth <= 200 ? LM_OK : LM_EINPUT);
        J->close(root);
    }
    ck_assert_ptr_nonnull(strstr(e.text, "200"));
    /* brackets in strings do not count */
    memset(text, '[', 700);
    memcpy(text, "[\"\\\"", 4);
    strcpy(text + 700, "\"]");
    ck_assert_ok(parse(text, &root, &e), e);
    J->close(root);
}
END_TEST

START_TEST(json_long_text)
{
    struct lm_err e;
    struct lm_json *root;
    ck_assert_int_eq(J->parse("", ((size_t)256 << 20) + 1, "big", &root, &e), LM_EINPUT);
    ck_assert_ptr_null(root);
}
END_TEST

static enum lm_status parse_big(void *ctx)
{
    struct lm_err *e = ctx;
    struct lm_json *root;
    static char text[60000];
    if (text[0] == '\0') {
        char *p = text;
        *p++ = '[';
        for (int i = 0; i < 3000; i++)
            p += sprintf(p, "%s{\"k\":\"v%d\"}", i ? "," : "", i);
        strcpy(p, "]");
    }
    enum lm_status s = parse(text, &root, e);
    if (s == LM_OK)
        ck_assert_uint_eq(J->size(root), 3000);
    J->close(root);
    return s;
}

START_TEST(json_every_allocation)
{
    struct lm_err e;
    ck_assert_int_ge(fail_every_allocation(parse_big, &e), 5);
}
END_TEST

START_TEST(json_two_documents)
{
    struct lm_err e;
    struct lm_json *a, *b;
    const char *key;
    ck_assert_ok(parse("{\"a\":1,\"b\":2}", &a, &e), e);
    ck_assert_ok(parse("{\"c\":3,\"d\":4}", &b, &e), e);
    ck_assert_int_eq(J->type(J->member(a, 1, &key)), 'i');
    J->close(a);
    J->member(b, 1, &key);
    ck_assert_str_eq(key, "d");
    J->close(b);
}
END_TEST

START_TEST(json_write)
{
    struct lm_str t = { 0 };
    struct lm_jsonw w = { .to = &t };
    lm_jsonw_begin(&w, '{');
    lm_jsonw_key(&w, "list");
    lm_jsonw_begin(&w, '[');
    lm_jsonw_int(&w, INT64_MIN);
    lm_jsonw_real(&w, 0.1);
    lm_jsonw_real(&w, NAN);
    lm_jsonw_real(&w, -INFINITY);
    lm_jsonw_bool(&w, true);
    lm_jsonw_string(&w, NULL);
    lm_jsonw_begin(&w, '[');
    lm_jsonw_end(&w, ']');
    lm_jsonw_end(&w, ']');
    lm_jsonw_key(&w, "q\"\\\n\x01");
    lm_jsonw_string(&w, "h\xc3\xa9");
    lm_jsonw_key(&w, "bad");
    /* a lone byte, a cut sequence, an overlong '/', a surrogate */
    lm_jsonw_string_n(&w, "\xff\xe2\x82|\xc0\xaf|\xed\xa0\x80|\xf0\x9f\x98\x80", 15);
    lm_jsonw_end(&w, '}');
    ck_assert(!t.failed);
#define R "\xef\xbf\xbd"
    ck_assert_str_eq(t.s, "{\"list\":[-9223372036854775808,0.1,null,null,true,null,[]],"
        "\"q\\\"\\\\\\n\\u0001\":\"h\xc3\xa9\",\"bad\":\"" R R R "|" R R "|" R R R
        "|\xf0\x9f\x98\x80\"}");
    struct lm_json *root;
    struct lm_err e;
    ck_assert_ok(parse(t.s, &root, &e), e);
    J->close(root);
    lm_str_free(&t);
}
END_TEST

START_TEST(json_reals_read_back)
{
    static const double v[] = { 0, 1, -1.5, 0.1, 1.0 / 3, 1e300, 5e-324, 123456789.123,
                                2.2250738585072014e-308, 1e22, 0.30000000000000004 };
    for (size_t i = 0; i < sizeof v / sizeof *v; i++) {
        struct lm_str t = { 0 };
        struct lm_jsonw w = { .to = &t };
        lm_jsonw_real(&w, v[i]);
        ck_assert_msg(strtod(t.s, NULL) == v[i], "%s", t.s);
        ck_assert(v[i] != 0.1 || strcmp(t.s, "0.1") == 0);
        lm_str_free(&t);
    }
}
END_TEST

START_TEST(json_write_too_deep)
{
    struct lm_str t = { 0 };
    struct lm_jsonw w = { .to = &t };
    for (int i = 0; i < 64; i++)
        lm_jsonw_begin(&w, '[');
    ck_assert(!t.failed);
    lm_jsonw_begin(&w, '[');
    lm_jsonw_int(&w, 1);
    for (int i = 0; i < 65; i++)
        lm_jsonw_end(&w, ']');
    ck_assert(t.failed);
    lm_str_free(&t);
}
END_TEST

Suite *json_suite(void)
{
    Suite *s = suite_create("json");
    TCase *c = tcase_create("json");
    tcase_add_test(c, json_tree);
    tcase_add_test(c, json_whole_reals);
    tcase_add_test(c, json_members_in_file_order);
    tcase_add_test(c, json_refused);
    tcase_add_test(c, json_depth);
    tcase_add_test(c, json_long_text);
    tcase_add_test(c, json_every_allocation);
    tcase_add_test(c, json_two_documents);
    tcase_add_test(c, json_write);
    tcase_add_test(c, json_reals_read_back);
    tcase_add_test(c, json_write_too_deep);
    suite_add_tcase(s, c);
    return s;
}
