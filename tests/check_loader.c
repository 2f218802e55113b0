/* SPDX-License-Identifier: Apache-2.0 */
/* check_loader.c -- finding plugins and refusing broken ones.
 *
 * The modules of tests/evil/ are copied under scratch folders; each must end in
 * exactly one sentence.                                                       */
#include <sys/stat.h>
#include <unistd.h>
#include "loader/loader.h"
#include "testing.h"

static char root[256];

static const char *at(const char *name)
{
    static char path[4][512];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", root, name);
    return path[next];
}

/* tests/evil/NAME.so of the build tree becomes ROOT/TO. */
static void place(const char *name, const char *to)
{
    char from[1024], *data;
    size_t n;
    struct lm_err e = { 0 };
    const char *build = getenv("LAMINA_BUILDDIR");
    snprintf(from, sizeof from, "%s/tests/evil/.libs/%s.so", build ? build : ".", name);
    ck_assert_ok(lm_read_file(from, 1 << 24, &data, &n, &e), e);
    ck_assert_ok(lm_write_file(at(to), data, n, &e), e);
    lm_release(data);
}

static void begin(void)
{
    struct lm_err e = { 0 };
    unsetenv("LAMINA_PLUGIN_PATH");
    scratch_begin(root);
    ck_assert_ok(lm_make_folder(at("search"), &e), e);
    ck_assert_ok(lm_make_folder(at("scorers"), &e), e);
}

static void end(void)
{
    lm_loader_stop();
    scratch_end(at("search"));
    scratch_end(at("scorers"));
    scratch_end(root);
}

static void start(void)
{
    struct lm_err e = { 0 };
    ck_assert_ok(lm_loader_start(root, &e), e);
}

static const struct { const char *name; enum lm_status code; const char *text;
} evil[] = {
    { "wrong_magic", LM_EUNAVAILABLE, "not a plugin of Lamina: it begins with "
          "0x12345678, "
      "not with 0x4c414d31" },
    { "other_major", LM_EUNAVAILABLE, "built for plugin ABI 7, this program has ABI 0; "
      "rebuild the plugin" },
    { "other_revision", LM_EUNAVAILABLE, "built for revision 99 of the search interface, "
      "this program has revision 1; rebuild the plugin" },
    { "unknown_kind", LM_EUNAVAILABLE, "this program has no plugins of kind 77" },
    { "short_struct", LM_EBUG, "broken plugin: its descriptor has 16 bytes, at least 136 "
      "are needed" },
    { "null_ops", LM_EBUG, "broken plugin: ops is NULL" },
    { "short_ops", LM_EBUG, "broken plugin: its search table has 16 bytes, at least 48 "
          "are "
      "needed" },
    { "null_function", LM_EBUG, "broken plugin: tell of its search table is NULL" },
    { "null_create", LM_EBUG, "broken plugin: create is NULL" },
    { "other_name", LM_EBUG, "broken plugin: it calls itself 'somebody_else', its file "
          "is "
      "called 'other_name'" },
    { "twice", LM_EBUG, "broken plugin: two options are called 'population'" },
    { "bad_default", LM_EBUG, "broken plugin: option 'population': default: 0 is below "
          "the "
      "minimum 1" },
    { "bad_offset", LM_EBUG, "broken plugin: option 'rate': offset 16 lies outside the "
      "config struct of 16 bytes" },
    { "no_symbol", LM_EUNAVAILABLE, "not a plugin of Lamina: it has no function "
          "lm_plugin" },
    { "null_descriptor", LM_EBUG, "broken plugin: lm_plugin returned NULL" },
};

START_TEST(broken_plugins)
{
    char name[64], want[1024];
    struct lm_conf node = { .origin = (char *)"run.cfg:9" };
    start();
    for (size_t i = 0; i < sizeof evil / sizeof *evil; i++) {
        const struct lm_loaded *l;
        struct lm_err e = { 0 };
        snprintf(name, sizeof name, "search/%s.so", evil[i].name);
        place(evil[i].name, name);
        int64_t before = lm_mem_blocks();
        ck_assert_int_eq(lm_loader_open(at(name), &l, &e), evil[i].code);
        snprintf(want, sizeof want, "%s: %s", at(name), evil[i].text);
        ck_assert_str_eq(e.text, want);
        ck_assert_int_eq(lm_loader_find(LM_SEARCH, evil[i].name, &node, &l, &e),
                         evil[i].code);
        snprintf(want, sizeof want, "run.cfg:9: error: search: %s: %s", at(name),
                 evil[i].text);
        ck_assert_str_eq(e.text, want);
        ck_assert_ptr_null(l);
        ck_assert_int_eq(lm_mem_blocks(), before);
    }
}
END_TEST

START_TEST(broken_files)
{
    const struct lm_loaded *l;
    struct lm_err e = { 0 };
    char want[1024];
    start();
    ck_assert_ok(lm_write_file(at("search/not_elf.so"), "#!/bin/sh\n", 10, &e), e);
    ck_assert_int_eq(lm_loader_open(at("search/not_elf.so"), &l, &e), LM_EUNAVAILABLE);
    snprintf(want, sizeof want, "%s: cannot be opened: %s: ", at("search/not_elf.so"),
             at("search/not_elf.so"));
    ck_assert_mem_eq(e.text, want, strlen(want));       /* then libc's own words */
    place("undefined", "search/undefined.so");
    ck_assert_int_eq(lm_loader_open(at("search/undefined.so"), &l, &e), LM_EUNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(e.text, "undefined symbol: lm_evil_nowhere"));
    ck_assert_int_eq(lm_loader_open(at("search/none.so"), &l, &e), LM_EINPUT);
    ck_assert_int_eq(lm_loader_open(at("search"), &l, &e), LM_ECONFIG);
}
END_TEST

START_TEST(sound_plugin)
{
    const struct lm_loaded *l, *again;
    struct lm_err e = { 0 };
    place("sound", "search/sound.so");
    start();
    ck_assert_ok(lm_loader_find(LM_SEARCH, "sound", NULL, &l, &e), e);
    ck_assert_str_eq(l->module.name, "sound");
    ck_assert_str_eq(l->path, at("search/sound.so"));
    size_t n = 7;
    ck_assert_int_eq(((struct lm_search *)l->ops)->ask(NULL, NULL, 1, &n, &e), LM_OK);
    ck_assert_uint_eq(n, 0);
    ck_assert_ok(lm_loader_any("sound", &again, &e), e);
    ck_assert_ptr_eq(l, again);
    ck_assert_ok(lm_loader_any("search/sound", &again, &e), e);
    ck_assert_ok(lm_loader_open(at("search/sound.so"), &again, &e), e);
    ck_assert_ptr_eq(l, again);
    start();                                            /* once more from the start */
    ck_assert_ok(lm_loader_find(LM_SEARCH, "sound", NULL, &l, &e), e);
}
END_TEST

START_TEST(unknown_names)
{
    const struct lm_loaded *l;
    struct lm_conf node = { .origin = (char *)"run.cfg:9" };
    struct lm_err e = { 0 };
    char want[1024];
    place("sound", "search/sound.so");
    start();
    ck_assert_int_eq(lm_loader_find(LM_SEARCH, "sond", &node, &l, &e), LM_ECONFIG);
    snprintf(want, sizeof want, "run.cfg:9: error: search: no search strategy 'sond' "
             "(searched: %s); available: sound; did you mean 'sound'?", root);
    ck_assert_str_eq(e.text, want);
    ck_assert_int_eq(lm_loader_find(LM_QUANTIZER, "int5", &node, &l, &e), LM_ECONFIG);
    snprintf(want, sizeof want, "run.cfg:9: error: quantize: no quantizer 'int5' "
             "(searched: %s); available: none", root);
    ck_assert_str_eq(e.text, want);
    static const char *const bad[] = { "", "../sound", "search/sound", "Sound",
          "sound.so",
                                       "/etc/passwd", "s-x" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_eq(lm_loader_find(LM_SEARCH, bad[i], NULL, &l, &e), LM_ECONFIG);
        ck_assert_ptr_nonnull(strstr(e.text, "is no name of a plugin"));
    }
    ck_assert_int_eq(lm_loader_any("none", &l, &e), LM_ECONFIG);
    /* never the current folder */
    char here[1024];
    ck_assert_ptr_nonnull(getcwd(here, sizeof here));
    ck_assert_int_eq(chdir(at("search")), 0);
    lm_loader_stop();
    ck_assert_ok(lm_loader_start(NULL, &e), e);
    ck_assert_int_eq(lm_loader_find(LM_SEARCH, "sound", NULL, &l, &e), LM_ECONFIG);
    ck_assert_int_eq(chdir(here), 0);
}
END_TEST

START_TEST(folders)
{
    const struct lm_loaded *l, **all;
    size_t n;
    struct lm_err e = { 0 };
    char want[1024];
    place("sound", "sound.so");                         /* a folder of one's own */
    place("sound", "scorers/sound.so");                 /* of the wrong kind */
    place("wrong_magic", "search/wrong_magic.so");
    setenv("LAMINA_PLUGIN_PATH", at("none:"), 1);
    start();
    ck_assert_ok(lm_loader_find(LM_SEARCH, "sound", NULL, &l, &e), e);
    ck_assert_str_eq(l->path, at("sound.so"));
    ck_assert_int_eq(lm_loader_find(LM_SCORER, "sound", NULL, &l, &e), LM_EBUG);
    snprintf(want, sizeof want, "%s: broken plugin: its kind is search, its folder is "
          "for "
             "scorer", at("scorers/sound.so"));
    ck_assert_str_eq(e.text, want);
    ck_assert_int_eq(lm_loader_find(LM_PRUNER, "sound", NULL, &l, &e), LM_ECONFIG);
    lm_loader_stop();
    setenv("LAMINA_PLUGIN_PATH", root, 1);
    ck_assert_ok(lm_loader_start(NULL, &e), e);
    ck_assert_ok(lm_loader_list(&all, &n, &e), e);
    ck_assert_uint_eq(n, 1);
    ck_assert_str_eq(all[0]->path, at("sound.so"));
    lm_release(all);
    ck_assert_int_eq(lm_loader_start(at("none"), &e), LM_ECONFIG);
    snprintf(want, sizeof want, "plugin folder '%s' does not exist", at("none"));
    ck_assert_str_eq(e.text, want);
    if (geteuid() == 0) {
        ck_assert_int_eq(chmod(root, 0777), 0);
        ck_assert_int_eq(lm_loader_start(root, &e), LM_ECONFIG);
        snprintf(want, sizeof want, "%s: anyone may write there; plugins are not loaded "
                 "from such a place as root", root);
        ck_assert_str_eq(e.text, want);
    }
}
END_TEST

static enum lm_status scenario(void *ctx)
{
    const struct lm_loaded *l, **all = NULL;
    size_t n;
    struct lm_err e = { 0 };
    (void)ctx;
    enum lm_status s = lm_loader_start(root, &e);
    if (!s)
        s = lm_loader_find(LM_SEARCH, "sound", NULL, &l, &e);
    if (!s)
        s = lm_loader_list(&all, &n, &e);
    lm_release(all);
    if (!s && (s = lm_loader_any("nobody", &l, &e)) == LM_ECONFIG)
        s = LM_OK;
    lm_loader_stop();
    return s;
}

START_TEST(no_memory)
{
    place("sound", "search/sound.so");
    ck_assert_int_gt(fail_every_allocation(scenario, NULL), 8);
}
END_TEST

START_TEST(kinds)
{
    ck_assert_str_eq(lm_kind_name(LM_SEARCH), "search");
    ck_assert_str_eq(lm_kind_name(LM_REPORTER), "reporter");
    ck_assert_str_eq(lm_kind_name(LM_N_KINDS), "unknown");
    ck_assert_str_eq(lm_kind_name((enum lm_kind)0), "unknown");
}
END_TEST

int main(void)
{
    const TTest *const test[] = { broken_plugins, broken_files, sound_plugin,
                                  unknown_names, folders, no_memory, kinds };
    Suite *s = suite_create("loader");
    TCase *t = tcase_create("loader");
    tcase_add_checked_fixture(t, begin, end);
    tcase_set_timeout(t, 60);
    for (size_t i = 0; i < sizeof test / sizeof *test; i++)
        tcase_add_test(t, test[i]);
    suite_add_tcase(s, t);
    return run_suites(&s, 1);
}
