/* SPDX-License-Identifier: Apache-2.0 */
/* check_conf.c -- pipeline files: values, origins, merging, messages. */
#include <unistd.h>
#include "config/conf.h"
#include "testing.h"

#define HEAD "lamina = 1;\n"

static struct lm_conf *parse(const char *text, const char *const *set, size_t n)
{
    struct lm_conf *c = NULL;
    struct lm_err e = { 0 };
    ck_assert_ok(lm_conf_parse(text, "run.cfg", set, n, &c, &e), e);
    return c;
}

static void wrong_set(const char *text, const char *set, const char *message)
{
    struct lm_conf *c = NULL;
    struct lm_err e = { 0 };
    int64_t before = lm_mem_blocks();
    ck_assert_int_eq(lm_conf_parse(text, "run.cfg", &set, set != NULL, &c, &e),
                     LM_ECONFIG);
    ck_assert_str_eq(e.text, message);
    ck_assert_ptr_null(c);
    ck_assert_int_eq(lm_mem_blocks(), before);
}

static void wrong(const char *text, const char *message) { wrong_set(text, NULL,
      message); }

static void put_file(const char *folder, const char *name, const char *text)
{
    char path[512];
    struct lm_err e = { 0 };
    ck_assert(lm_path_join(path, sizeof path, folder, name));
    ck_assert_ok(lm_write_file(path, text, strlen(text), &e), e);
}

static int64_t integer(const struct lm_conf *root, const char *path)
{
    const struct lm_conf *c = lm_conf_path(root, path);
    ck_assert_msg(c && c->type == LM_CONF_INT, "%s", path);
    return c->v.i;
}

static const char *text_at(const struct lm_conf *root, const char *path)
{
    const struct lm_conf *c = lm_conf_path(root, path);
    ck_assert_msg(c && c->type == LM_CONF_STRING, "%s", path);
    return c->v.s;
}

START_TEST(values)
{
    struct lm_conf *c = parse("\xef\xbb\xbf" HEAD
        "# a comment with 5000000000 and \"\n"
        "a = -2147483648; b = 2147483647; c = 5000000000L; d = 0x7fffffff;\r\n"
        "e = 0xFFFFFFFFFFL /* two\nlines */; f = 1e-3; g = .5; h = True;\n"
        "s = \"x\\x41\\n\" \"y\"; l = ( 1, \"two\", { k = 3; } ); m = [1, 2]; n = [];\n"
        "x = -9223372036854775808L; t = \"5000000000 // # /*\";", NULL, 0);
    ck_assert_int_eq(integer(c, "a"), INT32_MIN);
    ck_assert_int_eq(integer(c, "b"), INT32_MAX);
    ck_assert_int_eq(integer(c, "c"), INT64_C(5000000000));
    ck_assert_int_eq(integer(c, "d"), INT32_MAX);
    ck_assert_int_eq(integer(c, "e"), INT64_C(0xFFFFFFFFFF));
    ck_assert(integer(c, "x") == INT64_MIN);
    ck_assert(lm_conf_get(c, "f")->v.r == 1e-3 && lm_conf_get(c, "g")->v.r == 0.5);
    ck_assert(lm_conf_get(c, "h")->type == LM_CONF_BOOL && lm_conf_get(c, "h")->v.b);
    ck_assert_str_eq(text_at(c, "s"), "xA\ny");
    ck_assert_str_eq(text_at(c, "t"), "5000000000 // # /*");
    ck_assert_str_eq(text_at(c, "l[1]"), "two");
    ck_assert_int_eq(integer(c, "l[2].k"), 3);
    ck_assert_int_eq(integer(c, "m[1]"), 2);
    ck_assert_uint_eq(lm_conf_items(lm_conf_get(c, "n")), 0);
    ck_assert_str_eq(lm_conf_path(c, "e")->origin, "run.cfg:4");
    ck_assert_str_eq(lm_conf_path(c, "f")->origin, "run.cfg:5");
    ck_assert_str_eq(lm_conf_path(c, "l[2].k")->origin, "run.cfg:6");
    ck_assert_ptr_null(lm_conf_path(c, "l[3]"));
    ck_assert_ptr_null(lm_conf_path(c, "a.b"));
    ck_assert_ptr_eq(lm_conf_path(c, "a[0]"), lm_conf_get(c, "a"));
    ck_assert_ptr_null(lm_conf_item(lm_conf_get(c, "a"), 1));
    ck_assert_uint_eq(lm_conf_items(NULL), 0);
    ck_assert_uint_eq(lm_conf_items(lm_conf_get(c, "a")), 1);
    lm_conf_free(c);
}
END_TEST

START_TEST(corrupt_integers)
{
    wrong("lamina = 1;\n\na = 5000000000;",
          "run.cfg:3: error: 5000000000 does not fit 32 bits; write 5000000000L");
    wrong("a = ( 1,\n -2147483649 );",
          "run.cfg:2: error: -2147483649 does not fit 32 bits; write -2147483649L");
    wrong("a = 0x80000000;",
          "run.cfg:1: error: 0x80000000 does not fit 32 bits; write 0x80000000L");
    wrong("a = 9223372036854775808L;",
          "run.cfg:1: error: 9223372036854775808L does not fit 64 bits");
    wrong("a = 0x8000000000000000L;",
          "run.cfg:1: error: 0x8000000000000000L does not fit 64 bits");
    wrong("a = 1e400;", "run.cfg:1: error: 1e400 is too large for a number");
    wrong_set(HEAD, "a=5000000000",
              "--set #1: error: 5000000000 does not fit 32 bits; write 5000000000L");
    wrong_set(HEAD, "a=1e999", "--set #1: error: 1e999 is too large for a number");
}
END_TEST

START_TEST(typing_mistakes)
{
    static const char hint[] = "is no number; write 10, 0x1F, 5000000000L, 0.5 or 1e-3, "
                               "text in double quotes";
    static const char *const word[] = { "1.0f", "1_000", "100MB", "0x", "1e", "1.2.3" };
    char text[64], message[256];
    for (size_t i = 0; i < sizeof word / sizeof *word; i++) {
        snprintf(text, sizeof text, "a =\n%s;", word[i]);
        snprintf(message, sizeof message, "run.cfg:2: error: '%s' %s", word[i], hint);
        wrong(text, message);
    }
    wrong("a = (1,\n2,\n);", "run.cfg:3: error: a comma before ')' is not allowed");
    wrong("a = 1;;", "run.cfg:1: error: a second ';'; one is enough");
    wrong("a = 'x';", "run.cfg:1: error: strings are written in double quotes");
    wrong("_a = 1;", "run.cfg:1: error: a name begins with a letter, not with '_'");
    wrong("a = \"x\nb = 1;", "run.cfg:1: error: a string is not closed on its line; "
          "write "
          "\\n for a line break");
    wrong("a = \"x\\x00y\";", "run.cfg:1: error: \\x00 cannot be part of a string");
    wrong("\n/* x", "run.cfg:2: error: the comment that begins here is not closed");
    wrong("a = {\nb = ( 1 ];", "run.cfg:2: error: ']' where ')' should close the '(' of "
          "line 2");
    wrong("a = {\nb = 1;", "run.cfg:1: error: the '{' opened here is not closed");
    wrong("a = 1; }", "run.cfg:1: error: '}' closes nothing");
    wrong("a = $;", "run.cfg:1: error: unexpected '$'");
    wrong("a = \xc3\xa4;", "run.cfg:1: error: unexpected byte 0xc3; text belongs in "
          "double "
          "quotes");
    wrong("a = 1; @include \"x\"", "run.cfg:1: error: '@' is only for @include \"FILE\" "
          "on a "
          "line of its own");
    wrong("a = 1;\nb = c d;", "run.cfg:2: error: syntax error near 'b = c d;'");
    wrong("a = 1;\na = 2;", "run.cfg:2: error: duplicate setting name near 'a = 2;'");
    wrong("a = [1, 2.0];", "run.cfg:1: error: mismatched element type in array near "
          "'a = [1, 2.0];'");
}
END_TEST

START_TEST(limits)
{
    char *big = lm_alloc((1 << 20) + 100, "test");
    memset(big, ' ', (1 << 20) + 1);
    wrong(big, "run.cfg: error: more than 1048576 bytes");
    strcpy(big, "a = ");
    memset(big + 4, '(', 200000);
    big[200004] = 0;
    wrong(big, "run.cfg:1: error: brackets are nested more than 64 deep");
    strcpy(big, "a = ( 1");
    for (size_t i = 0; i < 10001; i++)
        memcpy(big + 7 + 2 * i, ",1", 3);
    wrong(big, "run.cfg:1: error: more than 10000 values");
    lm_release(big);
    wrong("a = 1;", "run.cfg:1: error: the format version is missing; begin with "
          "'lamina = 1;'");
    wrong("\nlamina = 2;", "run.cfg:2: error: lamina: this program reads format version "
          "1, "
          "not 2");
    wrong("lamina = true;", "run.cfg:1: error: lamina: this program reads format version "
          "1, "
          "not true");
}
END_TEST

START_TEST(set_values)
{
    static const char *const set[] = {
        "run.seed=7", "search.use=random", "model.path=a-b/c_d.gguf@x:y", "a=\"q r\"",
        "prune[1].keep=0.5", "prune[+]={ use = \"heads\"; }", "one[+]={use=\"y\";}",
        "new[+].use=z", "new[+]=3", "deep.er.est=( 1, 2 )", "run={ name = \"n\"; }",
        "flag=true", "url=http://x", "search={ use = \"random\"; budget = 3; }" };
    struct lm_conf *c = parse(HEAD "run: { seed = 1; };\n"
        "search: { use = \"nsga2\"; population = 32; };\n"
        "prune = ( { use = \"a\"; }, { use = \"b\"; keep = 1; } );\n"
        "one = { use = \"x\"; };\n", set, sizeof set / sizeof *set);
    ck_assert_int_eq(integer(c, "run.seed"), 7);
    ck_assert_str_eq(lm_conf_path(c, "run.seed")->origin, "--set #1");
    ck_assert_str_eq(text_at(c, "run.name"), "n");
    ck_assert_str_eq(text_at(c, "model.path"), "a-b/c_d.gguf@x:y");
    ck_assert_str_eq(text_at(c, "a"), "q r");
    ck_assert(lm_conf_path(c, "prune[1].keep")->v.r == 0.5);
    ck_assert_uint_eq(lm_conf_items(lm_conf_get(c, "prune")), 3);
    ck_assert_str_eq(text_at(c, "prune[2].use"), "heads");
    ck_assert_str_eq(text_at(c, "one[0].use"), "x");
    ck_assert_str_eq(text_at(c, "one[1].use"), "y");
    ck_assert_str_eq(lm_conf_get(c, "one")->key, "one");
    ck_assert_uint_eq(lm_conf_items(lm_conf_get(c, "new")), 2);
    ck_assert_str_eq(text_at(c, "new[0].use"), "z");
    ck_assert_int_eq(integer(c, "new[1]"), 3);
    ck_assert_int_eq(integer(c, "deep.er.est[1]"), 2);
    ck_assert(lm_conf_get(c, "flag")->type == LM_CONF_BOOL);
    ck_assert_str_eq(text_at(c, "url"), "http://x");
    ck_assert_str_eq(text_at(c, "search.use"), "random");
    ck_assert_int_eq(integer(c, "search.population"), 32);   /* the same `use` by then */
    lm_conf_free(c);
}
END_TEST

START_TEST(put)
{
    struct lm_conf *c = parse(HEAD "backend: { use = \"auto\"; };\n", NULL, 0), *group;
    struct lm_err e = { 0 };
    ck_assert_ok(lm_conf_group(c, "backend", &group, &e), e);
    ck_assert_ok(lm_conf_put(group, "use", "gpu", 0, "x.cfg:2, auto", &e), e);
    ck_assert_ok(lm_conf_put(group, "device", NULL, 3, "x.cfg:2, auto", &e), e);
    ck_assert_str_eq(text_at(c, "backend.use"), "gpu");
    ck_assert_int_eq(integer(c, "backend.device"), 3);
    ck_assert_str_eq(lm_conf_path(c, "backend.use")->origin, "x.cfg:2, auto");
    ck_assert_uint_eq(group->n, 2);
    lm_conf_free(c);
}
END_TEST

START_TEST(set_mistakes)
{
    static const char text[] = HEAD "a = 1; l = ( 1, 2 ); g = { x = 1; };";
    wrong_set(text, "a.b=1", "--set #1: error: a.b: 'b' cannot be part of a single "
          "value");
    wrong_set(text, "l.b=1", "--set #1: error: l.b: 'b' cannot be part of a list; choose "
          "a "
              "member with [0], [1] ... or add one with [+]");
    wrong_set(text, "l[2]=1", "--set #1: error: l[2]: there are 2 members, counted from "
          "0");
    wrong_set(text, "n[0]=1", "--set #1: error: n[0]: there are 0 members, counted from "
          "0");
    wrong_set(text, "g..x=1", "--set #1: error: 'g..x' is no path; write a.b, a[0].b or "
          "a[+]");
    wrong_set(text, "[0]=1", "--set #1: error: '[0]' is no path; write a.b, a[0].b or "
          "a[+]");
    wrong_set(text, "=1", "--set #1: error: '' is no path; write a.b, a[0].b or a[+]");
    wrong_set(text, "g", "--set #1: error: 'g' is not PATH=VALUE");
    wrong_set(text, "g=", "--set #1: error: g: the value is missing; an empty string is "
              "\"\"");
    wrong_set(text, "base=x", "--set #1: error: base can only be written in a file");
    wrong_set(text, "a=1; b = 2", "--set #1: error: '1; b = 2' is more than one value");
    wrong_set(text, "a=b c", "--set #1: error: syntax error near 'b c'; text with spaces "
              "or signs needs double quotes");
    wrong_set(text, "a=(1", "--set #1: error: the '(' opened here is not closed");
}
END_TEST

START_TEST(references)
{
    setenv("LAMINA_TEST_X", "env", 1);
    unsetenv("LAMINA_TEST_Y");
    struct lm_conf *c = parse(HEAD
        "run: { name = \"n\"; seed = 7; rate = 0.1; on = true; };\n"
        "a = \"${run.name}/${run.seed}-${run.rate}-${run.on}\"; b = \"${run.seed}\";\n"
        "c = \"${d}\"; d = \"<${a}>\"; e = \"$${a} $ $$ ${env:LAMINA_TEST_X}\";\n"
        "f = ( \"${f2}\" ); f2 = \"$${x}\"; g = \"${f[0]}\";", NULL, 0);
    ck_assert_str_eq(text_at(c, "a"), "n/7-0.1-true");
    ck_assert_int_eq(integer(c, "b"), 7);
    ck_assert_str_eq(text_at(c, "c"), "<n/7-0.1-true>");
    ck_assert_str_eq(text_at(c, "e"), "${a} $ $$ env");
    ck_assert_str_eq(text_at(c, "g"), "${x}");
    lm_conf_free(c);
    wrong(HEAD "a = \"${b}\"; b = \"x${c}\";\nc = \"${a}\";",
          "run.cfg:3: error: ${a} refers back to itself");
    wrong(HEAD "a = \"${a}\";", "run.cfg:2: error: ${a} refers back to itself");
    wrong(HEAD "a = \"${b.c}\";", "run.cfg:2: error: ${b.c}: there is no such value");
    wrong(HEAD "a = \"${b}\"; b = { };", "run.cfg:2: error: ${b} is a group; only a "
          "number, "
          "a string, true or false can be referred to");
    wrong(HEAD "a = \"x${b\";", "run.cfg:2: error: '${' without '}'; write $${ for a "
          "plain "
          "${");
    wrong(HEAD "a = \"${env:LAMINA_TEST_Y}\";", "run.cfg:2: error: ${env:LAMINA_TEST_Y}: "
          "this environment variable is not set");
}
END_TEST

START_TEST(reference_bombs)
{
    struct lm_str t = { 0 };
    lm_str_add(&t, HEAD "a0 = \"0123456789\";\n");
    for (int i = 1; i < 20; i++)
        lm_str_add(&t, "a%d = \"${a%d}${a%d}\";\n", i, i - 1, i - 1);
    wrong(t.s, "run.cfg:15: error: the string grows beyond 65536 bytes");
    lm_str_free(&t);
    lm_str_add(&t, HEAD);
    for (int i = 0; i < 40; i++)
        lm_str_add(&t, "a%d = \"${a%d}\";\n", i, i + 1);
    lm_str_add(&t, "a40 = 1;\n");
    wrong(t.s, "run.cfg:34: error: ${} leads through more than 32 strings");
    lm_str_free(&t);
}
END_TEST

static const char all[] = HEAD "a = 0.1; b = 1.0; c = 1e20; d = 5000000000L; e = -1;\n"
    "s = \"q\\\"\\\\ \\x01\\n $${x} \xc3\xa4\"; on = false;\n"
    "g = { l = ( 1, ( 2, \"x\" ), { k = [1.5, 2.5]; h = { }; } ); e = []; };\n"
    "x = 0.30000000000000004; p = ( { use = \"a\"; }, { use = \"b\"; } );";

START_TEST(write_and_read)
{
    struct lm_conf *c = parse(all, NULL, 0);
    for (int comments = 0; comments < 2; comments++) {
        struct lm_str one = { 0 }, two = { 0 };
        lm_conf_write(c, comments, &one);
        ck_assert(!one.failed);
        struct lm_conf *again = parse(one.s, NULL, 0);
        ck_assert(lm_conf_get(again, "x")->v.r == 0.30000000000000004);
        ck_assert_int_eq(lm_conf_get(again, "b")->type, LM_CONF_REAL);
        ck_assert_int_eq(lm_conf_get(again, "c")->type, LM_CONF_REAL);
        ck_assert_str_eq(text_at(again, "s"), "q\"\\ \x01\n ${x} \xc3\xa4");
        ck_assert_uint_eq(lm_conf_items(lm_conf_path(again, "g.l")), 3);
        lm_str_free(&one);
        lm_conf_write(c, false, &one);
        lm_conf_write(again, false, &two);
        ck_assert_str_eq(one.s, two.s);
        lm_conf_free(again);
        lm_str_free(&one);
        lm_str_free(&two);
    }
    lm_conf_free(c);
    c = parse(HEAD "a = 0.1;\nl = ( 1, 2 );\ng = ( { k = 5000000000L; } );", NULL, 0);
    struct lm_str out = { 0 };
    lm_conf_write(c, true, &out);
    ck_assert_str_eq(out.s,
        "lamina = 1;    # run.cfg:1\n"
        "a = 0.1;    # run.cfg:2\n"
        "l = ( 1, 2 );    # run.cfg:3\n"
        "g = (    # run.cfg:4\n"
        "    {    # run.cfg:4\n"
        "        k = 5000000000L;    # run.cfg:4\n"
        "    }\n"
        ");\n");
    lm_str_free(&out);
    lm_conf_free(c);
}
END_TEST

static void wrong_file(const char *folder, const char *name, const char *message)
{
    char path[512], want[1024];
    struct lm_conf *c = NULL;
    struct lm_err e = { 0 };
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int64_t before = lm_mem_blocks();
    ck_assert_int_eq(lm_conf_read(path, NULL, 0, &c, &e), LM_ECONFIG);
    snprintf(want, sizeof want, "%s/%s", folder, message);
    ck_assert_str_eq(e.text, want);
    ck_assert_int_eq(lm_mem_blocks(), before);
}

START_TEST(files)
{
    char dir[256], path[512], want[512];
    struct lm_conf *c = NULL;
    struct lm_err e = { 0 };
    scratch_begin(dir);
    put_file(dir, "a.cfg", HEAD "base = \"b.cfg\";\nrun: { seed = 2; };\n"
             "search: { use = \"bayes\"; init = 1; };\n  @include \"i.cfg\"\nlast = 1;");
    put_file(dir, "b.cfg", HEAD "run: { seed = 1; name = \"b\"; };\nl = (1, 2);\n"
             "search: { use = \"nsga2\"; population = 9; };");
    put_file(dir, "i.cfg", "inc: {\n  x = 1;\n@include \"j.cfg\"\n  z = 3;\n};");
    put_file(dir, "j.cfg", "y = 2;\n");
    snprintf(path, sizeof path, "%s/a.cfg", dir);
    ck_assert_ok(lm_conf_read(path, NULL, 0, &c, &e), e);
    ck_assert_int_eq(integer(c, "run.seed"), 2);
    ck_assert_str_eq(text_at(c, "run.name"), "b");
    ck_assert_int_eq(integer(c, "l[1]"), 2);
    ck_assert_ptr_null(lm_conf_get(c, "base"));
    ck_assert_ptr_null(lm_conf_path(c, "search.population"));
    ck_assert_int_eq(integer(c, "inc.y"), 2);
    ck_assert_int_eq(integer(c, "inc.z"), 3);
    static const char *const at[][2] = { { "run.seed", "a.cfg:3" }, { "inc.x",
          "i.cfg:2" },
        { "run.name", "b.cfg:2" }, { "inc.y", "j.cfg:1" }, { "inc.z", "i.cfg:4" },
        { "inc", "i.cfg:1" }, { "last", "a.cfg:6" }, { "l[0]", "b.cfg:3" } };
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        snprintf(want, sizeof want, "%s/%s", dir, at[i][1]);
        ck_assert_str_eq(lm_conf_path(c, at[i][0])->origin, want);
    }
    lm_conf_free(c);
    put_file(dir, "j.cfg", "y = 5000000000;\n");
    wrong_file(dir, "a.cfg", "j.cfg:1: error: 5000000000 does not fit 32 bits; write "
               "5000000000L");
    put_file(dir, "j.cfg", "y = z;\n");
    wrong_file(dir, "a.cfg", "j.cfg:1: error: syntax error near 'y = z;'");
    put_file(dir, "j.cfg", "}\n");
    wrong_file(dir, "a.cfg", "j.cfg:1: error: '}' closes nothing");
    put_file(dir, "j.cfg", "@include \"j.cfg\"\n");
    wrong_file(dir, "a.cfg", "j.cfg:1: error: @include is nested more than 10 deep (does "
          "a "
               "file include itself?)");
    put_file(dir, "b.cfg", HEAD "base = \"a.cfg\";");
    put_file(dir, "i.cfg", "");
    snprintf(want, sizeof want, "b.cfg:2: error: base: '%s/a.cfg' is its own base", dir);
    wrong_file(dir, "a.cfg", want);
    put_file(dir, "b.cfg", HEAD "base = 1;");
    wrong_file(dir, "a.cfg", "b.cfg:2: error: base: expected the name of a file in "
          "double "
               "quotes");
    scratch_end(dir);
}
END_TEST

START_TEST(long_chains)
{
    char dir[256], name[32], text[64], path[512];
    struct lm_conf *c = NULL;
    struct lm_err e = { 0 };
    scratch_begin(dir);
    for (int i = 0; i < 10; i++) {
        snprintf(name, sizeof name, "%d.cfg", i);
        snprintf(text, sizeof text, i ? HEAD "base = \"%d.cfg\";" : HEAD, i - 1);
        put_file(dir, name, text);
    }
    snprintf(path, sizeof path, "%s/8.cfg", dir);
    ck_assert_ok(lm_conf_read(path, NULL, 0, &c, &e), e);
    lm_conf_free(c);
    wrong_file(dir, "9.cfg", "1.cfg:2: error: base: a chain of more than 8 files");
    scratch_end(dir);
}
END_TEST

START_TEST(missing_files)
{
    char dir[256], path[512];
    struct lm_conf *c = NULL;
    struct lm_err e = { 0 };
    scratch_begin(dir);
    snprintf(path, sizeof path, "%s/none.cfg", dir);
    ck_assert_int_eq(lm_conf_read(path, NULL, 0, &c, &e), LM_ECONFIG);
    ck_assert_ptr_nonnull(strstr(e.text, "none.cfg"));
    ck_assert_ptr_nonnull(strstr(e.text, "No such file"));
    ck_assert_int_eq(lm_conf_read(dir, NULL, 0, &c, &e), LM_ECONFIG);
    ck_assert_ptr_nonnull(strstr(e.text, dir));
    put_file(dir, "a.cfg", "\n@include \"none.cfg\"\n");
    snprintf(path, sizeof path, "%s/a.cfg", dir);
    ck_assert_int_eq(lm_conf_read(path, NULL, 0, &c, &e), LM_ECONFIG);
    char want[600];
    snprintf(want, sizeof want, "%s:2: error: @include: ", path);
    ck_assert_mem_eq(e.text, want, strlen(want));
    put_file(dir, "a.cfg", HEAD "base = \"none.cfg\";\n");
    ck_assert_int_eq(lm_conf_read(path, NULL, 0, &c, &e), LM_ECONFIG);
    snprintf(want, sizeof want, "%s:2: error: base: ", path);
    ck_assert_mem_eq(e.text, want, strlen(want));
    scratch_end(dir);
}
END_TEST

/* Every prefix, every single changed byte: an answer, no crash, no leak. */
START_TEST(damaged_text)
{
    static const char set[] = "g.l[2].n[+]={ v = \"${x}\"; }";
    const char *sets[] = { set };
    char text[sizeof all];
    int64_t before = lm_mem_blocks();
    for (size_t i = 0; i < sizeof all - 1; i++)
        for (int k = 0; k < 12; k++) {
            struct lm_conf *c = NULL;
            memcpy(text, all, sizeof all);
            text[i] = "\0\"{}()[],;=$"[k];
            lm_conf_parse(text, "run.cfg", sets, 1, &c, NULL);
            lm_conf_free(c);
        }
    ck_assert_int_eq(lm_mem_blocks(), before);
}
END_TEST

static enum lm_status scenario(void *ctx)
{
    const char *const set[] = { "run.seed=7", "p[+]={ a = \"${x}\"; }", "one[+]=bare",
                                "g={ z = 1; }" };
    struct lm_conf *c;
    struct lm_err e = { 0 };
    struct lm_str out = { 0 };
    enum lm_status s = lm_conf_read(ctx, set, 4, &c, &e);
    ck_assert_int_eq(s, e.code);
    if (s)
        return s;
    lm_conf_write(c, true, &out);
    s = out.failed ? LM_ENOMEM : LM_OK;
    lm_str_free(&out);
    lm_conf_free(c);
    return s;
}

START_TEST(no_memory)
{
    char dir[256], path[512];
    scratch_begin(dir);
    put_file(dir, "b.cfg", all);
    put_file(dir, "i.cfg", "inc = { s = \"${g.l[0]} and ${a}\"; };\n");
    put_file(dir, "a.cfg", HEAD "base = \"b.cfg\";\n@include \"i.cfg\"\none = 1;");
    snprintf(path, sizeof path, "%s/a.cfg", dir);
    ck_assert_int_gt(fail_every_allocation(scenario, path), 50);
    scratch_end(dir);
}
END_TEST

static Suite *conf_suite(void)
{
    const struct { const char *name; const TTest *test; } list[] = {
        { "values", values }, { "corrupt integers", corrupt_integers },
        { "typing mistakes", typing_mistakes }, { "limits", limits },
        { "set values", set_values }, { "put", put }, { "set mistakes", set_mistakes },
        { "references", references }, { "reference bombs", reference_bombs },
        { "write and read", write_and_read }, { "files", files },
        { "long chains", long_chains }, { "missing files", missing_files },
        { "damaged text", damaged_text }, { "no memory", no_memory } };
    Suite *s = suite_create("conf");
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        TCase *t = tcase_create(list[i].name);
        tcase_add_test(t, list[i].test);
        tcase_set_timeout(t, 60);
        suite_add_tcase(s, t);
    }
    return s;
}

int main(void)
{
    Suite *s = conf_suite();
    return run_suites(&s, 1);
}
