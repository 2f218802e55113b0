/* SPDX-License-Identifier: Apache-2.0 */
/* check_opt.c -- option schemas: filling, tuning, hashing, help, lint. */
#include "config/opt.h"
#include "testing.h"

static const char *const methods[] = { "magnitude", "wanda", "taylor", NULL };

struct config {
    int64_t layers, method, threads, free;
    double  keep, rate;
    bool    uniform;
    const char *label, *path, *text;
    struct lm_ints ints;
    struct lm_reals reals;
    struct lm_strings names;
    struct lm_instances stages;
};

static const struct lm_opt schema[] = {
    LM_INT(struct config, layers, "4", 1, 64, "layers", LM_TUNABLE, "How many layers."),
    LM_PICK(struct config, method, "wanda", methods, LM_TUNABLE, "How to rank."),
    LM_INT(struct config, threads, "0", 0, 256, NULL, LM_NO_HASH, "Threads."),
    LM_INT(struct config, free, NULL, 0, 0, NULL, 0, "Any integer."),
    LM_OPTION(struct config, keep, LM_OPT_REAL, double, "1", 0, 1, NULL, NULL, LM_TUNABLE,
              "Share of the channels that stay; a sentence which is long enough to need "
                    "a "
              "second line of the terminal."),
    LM_REAL(struct config, rate, "1e-3", 0, 1, NULL, LM_TUNABLE, "Rate."),
    LM_FLAG(struct config, uniform, "false", LM_TUNABLE, "The same in all layers."),
    { "label", LM_OPT_STRING, LM_TUNABLE, offsetof(struct config, label), "x", 0, 0, NULL,
      NULL, "A name.", "title" },
    { "path", LM_OPT_PATH, 0, offsetof(struct config, path), NULL, 0, 0, NULL, NULL,
      "A file.", NULL },
    LM_TEXTFILE(struct config, text, NULL, LM_REQUIRED, "What to read."),
    LM_INTLIST(struct config, ints, "1,2", 0, 9, NULL, 0, "Integers."),
    LM_REALLIST(struct config, reals, "[0.1, 1]", 0, 1, NULL, LM_EXPERT, "Reals."),
    LM_STRINGLIST(struct config, names, "a, \"b,c\"", 0, "Names."),
    LM_PLUGINLIST(struct config, stages, 0, "Plugins."),
    LM_OPT_END };

static const struct lm_module module = {
    LM_MODULE_HEAD(PRUNER), .name = "heads", .version = "1", .license = "Apache-2.0",
    .author = "A. Author", .summary = "Removes heads.", .reference = "Somebody 2020",
    .opt = schema, .config_size = sizeof(struct config) };

/* What stands between the braces of the second member of `prune`. */
static struct lm_conf *tree(const char *members, const struct lm_conf **group)
{
    char text[1024];
    struct lm_conf *root;
    struct lm_err e = { 0 };
    snprintf(text, sizeof text, "lamina = 1;\nprune = ( {},\n{ use = \"heads\"; id = "
          "\"x\"; "
             "%s } );", members);
    ck_assert_ok(lm_conf_parse(text, "run.cfg", NULL, 0, &root, &e), e);
    *group = lm_conf_path(root, "prune[1]");
    return root;
}

static void wrong(const char *members, const char *message)
{
    const struct lm_conf *group;
    struct lm_conf *root = tree(members, &group);
    struct lm_options o;
    struct lm_err e = { 0 };
    int64_t before = lm_mem_blocks();
    ck_assert_int_eq(lm_options_fill(&module, group, "prune[1] (heads)", NULL, NULL, &o,
          &e),
                     LM_ECONFIG);
    ck_assert_str_eq(e.text, message);
    ck_assert_ptr_null(o.config);
    ck_assert_int_eq(lm_mem_blocks(), before);
    lm_conf_free(root);
}

static uint64_t hash_of(const char *members)
{
    const struct lm_conf *group;
    struct lm_conf *root = tree(members, &group);
    struct lm_options o;
    struct lm_err e = { 0 };
    ck_assert_ok(lm_options_fill(&module, group, "x", NULL, NULL, &o, &e), e);
    uint64_t h = o.hash;
    lm_options_free(&o);
    lm_conf_free(root);
    return h;
}

START_TEST(defaults)
{
    const struct lm_conf *group;
    struct lm_conf *root = tree("text = \"t\";", &group);
    struct lm_options o;
    struct lm_err e = { 0 };
    ck_assert_ok(lm_options_fill(&module, group, NULL, NULL, NULL, &o, &e), e);
    const struct config *c = o.config;
    ck_assert(c->layers == 4 && c->method == 1 && c->free == 0 && c->keep == 1);
    ck_assert(c->rate == 1e-3 && !c->uniform && c->path == NULL);
    ck_assert_str_eq(c->label, "x");
    ck_assert_str_eq(c->text, "t");
    ck_assert(c->ints.n == 2 && c->ints.v[0] == 1 && c->ints.v[1] == 2);
    ck_assert(c->reals.n == 2 && c->reals.v[0] == 0.1 && c->reals.v[1] == 1);
    ck_assert_uint_eq(c->names.n, 2);
    ck_assert_str_eq(c->names.v[1], "b,c");
    ck_assert_uint_eq(o.n_tuned, 0);
    lm_options_free(&o);
    lm_conf_free(root);
}
END_TEST

START_TEST(given)
{
    const struct lm_conf *group;
    struct lm_conf *root = tree("text = \"t\"; layers = 64; keep = 1; rate = 0.5; "
        "method = \"taylor\"; uniform = true; title = \"old\"; path = \"/\"; ints = 7; "
        "reals = (0, 0.5); names = (); free = -9223372036854775808L;", &group);
    struct lm_options o;
    struct lm_err e = { 0 };
    ck_assert_ok(lm_options_fill(&module, group, "x", NULL, NULL, &o, &e), e);
    const struct config *c = o.config;
    ck_assert(c->layers == 64 && c->keep == 1.0 && c->rate == 0.5 && c->method == 2);
    ck_assert(c->uniform && c->free == INT64_MIN);
    ck_assert_str_eq(c->label, "old");
    ck_assert(c->ints.n == 1 && c->ints.v[0] == 7);
    ck_assert(c->names.n == 0 && c->names.v == NULL);
    ck_assert(c->reals.n == 2 && c->reals.v[0] == 0);
    lm_options_free(&o);
    lm_conf_free(root);
}
END_TEST

START_TEST(mistakes)
{
#define AT "run.cfg:3: error: prune[1] (heads): "
#define T "text = \"t\"; "
    wrong(T "keap = 1;", AT "unknown option 'keap'; did you mean 'keep'?");
    wrong(T "keep = 1.5;", AT "keep: 1.5 is above the maximum 1");
    wrong(T "keep = -1;", AT "keep: -1 is below the minimum 0");
    wrong(T "layers = 65;", AT "layers: 65 is above the maximum 64");
    wrong(T "layers = 1.5;", AT "layers: expected an integer, not 1.5");
    wrong(T "layers = true;", AT "layers: expected an integer, not true");
    wrong(T "keep = \"a\";", AT "keep: expected a number, not \"a\"");
    wrong(T "uniform = 1;", AT "uniform: expected true or false, not 1");
    wrong(T "label = 1;", AT "label: expected text in double quotes, not 1");
    wrong(T "label = ();", AT "label: expected text in double quotes, not a list");
    wrong(T "method = \"wandaa\";", AT "method: expected one of magnitude, wanda, "
          "taylor, not "
          "\"wandaa\"; did you mean 'wanda'?");
    wrong(T "method = 1;", AT "method: expected one of magnitude, wanda, taylor, not 1");
    wrong(T "path = \"/no/such\";", AT "path: there is no file or folder '/no/such'");
    wrong(T "ints = (1,\n10);", "run.cfg:4: error: prune[1] (heads): ints: 10 is above "
          "the "
          "maximum 9");
    wrong(T "label = \"a\"; title = \"b\";", AT "'title' is the former name of 'label'; "
          "give "
          "only one");
    wrong("", AT "option 'text' is missing (name of a text, or a file): What to read.");
    wrong(T "stages = ( { } );", AT "stages: expected groups like { use = \"NAME\"; }");
    wrong(T "stages = 3;", AT "stages: expected groups like { use = \"NAME\"; }");
    wrong(T "zzzzzzzz = 3;", AT "unknown option 'zzzzzzzz'; there are: layers, method, "
          "threads, "
          "free, keep, rate, uniform, label, path, text, ints, reals, names, stages");
    wrong(T "threads = { min = 1; };", AT "threads: expected a value; this option cannot "
          "be "
          "searched");
    wrong(T "keep = { mim = 0; max = 1; };", AT "keep: unknown key 'mim'; did you mean "
          "'min'?");
    wrong(T "keep = { max = 1; };", AT "keep: 'min' is missing; write { min; max; step; "
          "} or "
          "{ choice = [...]; }");
    wrong(T "keep = { min = 0; max = 2; };", AT "keep: max: 2 is above the maximum 1");
    wrong(T "keep = { min = 1; max = 0; };", AT "keep: max is below min");
    wrong(T "keep = { min = 0; max = 1; log = true; };", AT "keep: log needs a min above "
          "0");
    wrong(T "keep = { min = 0; max = 1; log = 1; };", AT "keep: log: expected true or "
          "false");
    wrong(T "keep = { min = 0; max = 1; step = -1; };", AT "keep: step: expected a "
          "positive "
          "number");
    wrong(T "layers = { min = 1; max = 2; step = 0.5; };", AT "layers: step: expected an "
          "integer");
    wrong(T "keep = { choice = []; };", AT "keep: choice: expected a list with at least "
          "one "
          "value");
    wrong(T "keep = { choice = ( 1, 2 ); };", AT "keep: 2 is above the maximum 1");
    wrong(T "keep = { choice = ( 1 ); min = 0; };", AT "keep: 'min' does not go with "
          "'choice'");
    wrong(T "label = { min = 0; max = 1; };", AT "label: only a number has a range; "
          "write "
          "{ choice = [...]; }");
}
END_TEST

START_TEST(tuned)
{
    const struct lm_conf *group;
    struct lm_conf *root = tree(T "layers = { min = 6; max = 12; step = 2; }; keep = { "
          "min = "
        "0.2; max = 0.8; }; rate = { min = 1e-4; max = 1e-2; log = true; }; method = { "
              "choice "
        "= [\"taylor\", \"wanda\"]; }; label = { choice = (\"p\", \"q\"); };", &group);
    struct lm_options o;
    struct lm_err e = { 0 };
    ck_assert_ok(lm_options_fill(&module, group, "x", NULL, NULL, &o, &e), e);
    struct config *c = o.config;
    ck_assert_uint_eq(o.n_tuned, 5);
    ck_assert_str_eq(o.tuned[0].opt->name, "layers");
    ck_assert(o.tuned[0].min == 6 && o.tuned[0].max == 12 && o.tuned[0].step == 2);
    ck_assert_str_eq(o.tuned[1].opt->name, "method");
    ck_assert_uint_eq(lm_conf_items(o.tuned[1].choice), 2);
    ck_assert(o.tuned[2].min == 0.2 && o.tuned[2].max == 0.8 && o.tuned[2].step == 0);
    ck_assert(o.tuned[3].log_scale && o.tuned[3].min == 1e-4);
    ck_assert_str_eq(o.tuned[0].at->origin, "run.cfg:3");
    ck_assert(c->layers == 6 && c->keep == 0.8 && c->rate == 1e-3 && c->method == 2);
    ck_assert_str_eq(c->label, "p");
    uint64_t before = o.hash;
    int64_t blocks = lm_mem_blocks();
    union lm_value v = { .integer = 10 };
    ck_assert_ok(lm_options_set(&module, &o, &o.tuned[0], v, &e), e);
    ck_assert_int_eq(c->layers, 10);
    ck_assert_uint_ne(o.hash, before);
    v.integer = 6;
    ck_assert_ok(lm_options_set(&module, &o, &o.tuned[0], v, &e), e);
    ck_assert_uint_eq(o.hash, before);
    v.integer = 1;
    ck_assert_ok(lm_options_set(&module, &o, &o.tuned[1], v, &e), e);
    ck_assert_int_eq(c->method, 1);
    ck_assert_ok(lm_options_set(&module, &o, &o.tuned[4], v, &e), e);
    ck_assert_str_eq(c->label, "q");
    v.real = 0.25;
    ck_assert_ok(lm_options_set(&module, &o, &o.tuned[2], v, &e), e);
    ck_assert(c->keep == 0.25);
    ck_assert_int_eq(lm_mem_blocks(), blocks);
    v.integer = 2;
    ck_assert_int_eq(lm_options_set(&module, &o, &o.tuned[1], v, &e), LM_EBUG);
    v.integer = 65;
    ck_assert_int_eq(lm_options_set(&module, &o, &o.tuned[0], v, &e), LM_EBUG);
    ck_assert_str_eq(e.text, "option 'layers': 65 is above the maximum 64");
    lm_options_free(&o);
    lm_conf_free(root);
}
END_TEST

START_TEST(hashes)
{
    uint64_t h = hash_of(T);
    ck_assert_uint_eq(h, hash_of(T "layers = 4; keep = 1.0; label = \"x\"; ints = [1, "
          "2]; "
                                 "free = 0; names = (\"a\", \"b,c\");"));
    ck_assert_uint_eq(h, hash_of("keep = 1; title = \"x\"; " T));
    ck_assert_uint_eq(h, hash_of(T "threads = 8;"));
    static const char *const other[] = { "layers = 5;", "keep = 0.5;", "label = \"y\";",
        "label = \"\";", "path = \"/\";", "ints = [1];", "ints = [2, 1];",
        "uniform = true;",
        "names = (\"a\", \"b\", \"c\");", "method = \"taylor\";", "free = 1;",
        "layers = { min = 1; max = 4; };", "layers = { min = 1; max = 5; };",
        "layers = { choice = [4]; };", "layers = { choice = [4, 5]; };" };
    enum { N = sizeof other / sizeof *other };
    uint64_t all[N];
    char text[128];
    for (size_t i = 0; i < N; i++) {
        snprintf(text, sizeof text, T "%s", other[i]);
        all[i] = hash_of(text);
        ck_assert_uint_ne(all[i], h);
        for (size_t k = 0; k < i; k++)
            ck_assert_msg(all[i] != all[k], "%s / %s", other[i], other[k]);
    }
}
END_TEST

static enum lm_status resolve(void *ctx, const struct lm_conf *node,
                              struct lm_instances *out, uint64_t *hash, struct lm_err *e)
{
    static const struct lm_instance one = { .name = "one" };
    if (!ctx)
        return lm_conf_fail(e, node, "cannot resolve");
    out->v = &one;
    out->n = lm_conf_items(node);
    *hash = *(uint64_t *)ctx;
    return LM_OK;
}

/* With its defaults written out a group fills the same struct, and so does what
 * its text reads back as; what was given stays.                              */
START_TEST(completed)
{
    static const char *const members[] = {
        "text = \"a\";", "text = \"a\"; keep = { min = 0.25; max = 0.5; };",
        "text = \"a\"; title = \"old\"; ints = (7); rate = 0.5; uniform = true;" };
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        const struct lm_conf *group;
        struct lm_conf *root = tree(members[i], &group), *again;
        struct lm_options a, b;
        struct lm_str text = { 0 };
        struct lm_err e = { 0 };
        ck_assert_ok(lm_options_fill(&module, group, "x", NULL, NULL, &a, &e), e);
        for (int twice = 0; twice < 2; twice++)
            ck_assert_ok(lm_options_complete(&module, true, (struct lm_conf *)group, &e),
                         e);
        ck_assert_ptr_nonnull(lm_conf_get(group, "layers"));
        ck_assert_str_eq(lm_conf_get(group, "layers")->origin, "default");
        ck_assert(!lm_conf_get(group, "label") == (i == 2));
        ck_assert_ptr_null(lm_conf_get(group, "path"));
        lm_conf_write(root, true, &text);
        lm_options_free(&a);
        ck_assert_ok(lm_conf_parse(text.s, "again.cfg", NULL, 0, &again, &e), e);
        ck_assert_ok(lm_options_fill(&module, group, "x", NULL, NULL, &a, &e), e);
        ck_assert_ok(lm_options_fill(&module, lm_conf_path(again, "prune[1]"), "x", NULL,
                                     NULL, &b, &e), e);
        ck_assert_uint_eq(a.hash, b.hash);
        struct lm_conf *first = tree(members[i], &group);
        lm_options_free(&b);
        ck_assert_ok(lm_options_fill(&module, group, "x", NULL, NULL, &b, &e), e);
        ck_assert_uint_eq(a.hash, b.hash);
        lm_options_free(&a);
        lm_options_free(&b);
        lm_str_free(&text);
        lm_conf_free(again);
        lm_conf_free(first);
        lm_conf_free(root);
    }
}
END_TEST

START_TEST(plugins)
{
    const struct lm_conf *group;
    struct lm_conf *root = tree(T "stages = { use = \"a\"; };", &group);
    struct lm_options o;
    struct lm_err e = { 0 };
    uint64_t hash[2];
    for (uint64_t k = 0; k < 2; k++) {
        ck_assert_ok(lm_options_fill(&module, group, "x", resolve, &k, &o, &e), e);
        ck_assert_str_eq(((struct config *)o.config)->stages.v[0].name, "one");
        hash[k] = o.hash;
        lm_options_free(&o);
    }
    ck_assert_uint_ne(hash[0], hash[1]);
    ck_assert_int_eq(lm_options_fill(&module, group, "x", resolve, NULL, &o, &e),
          LM_ECONFIG);
    ck_assert_str_eq(e.text, "run.cfg:3: error: cannot resolve");
    lm_conf_free(root);
}
END_TEST

START_TEST(command_line)
{
    struct lm_conf *g;
    struct lm_options o;
    struct lm_err e = { 0 };
    ck_assert_ok(lm_options_group(&module, "text=a b.txt,layers=3,keep=.5,ints=[1,2,3],"
                 "uniform=true,label=12,free=5000000000,names=(x,\"y,z\"),rate={ min = "
                 "1e-3; max = 1; }", "--metric", &g, &e), e);
    ck_assert_ok(lm_options_fill(&module, g, "x", NULL, NULL, &o, &e), e);
    const struct config *c = o.config;
    ck_assert_str_eq(c->text, "a b.txt");
    ck_assert_str_eq(c->label, "12");
    ck_assert(c->layers == 3 && c->keep == 0.5 && c->uniform && c->ints.n == 3);
    ck_assert(c->free == INT64_C(5000000000) && c->names.n == 2 && o.n_tuned == 1);
    lm_options_free(&o);
    lm_conf_free(g);
    static const char *const bad[][2] = {
        { "keap=1", "--metric: error: heads: unknown option 'keap'; did you mean "
              "'keep'?" },
        { "keep", "--metric: error: 'keep' is not KEY=VALUE" },
        { "text=a,text=b", "--metric: error: heads: option 'text' is given twice" },
        { "free=9223372036854775808", "--metric: error: 9223372036854775808 does not fit "
              "64 "
          "bits" } };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_eq(lm_options_group(&module, bad[i][0], "--metric", &g, &e),
                         LM_ECONFIG);
        ck_assert_str_eq(e.text, bad[i][1]);
        ck_assert_ptr_null(g);
    }
    ck_assert_ok(lm_options_group(&module, "text=a,layers=many", "--metric", &g, &e), e);
    ck_assert_int_eq(lm_options_fill(&module, g, "heads", NULL, NULL, &o, &e),
          LM_ECONFIG);
    ck_assert_str_eq(e.text, "--metric: error: heads: layers: expected an integer, not "
                     "\"many\"");
    lm_conf_free(g);
    ck_assert_ok(lm_options_group(&module, "", "--metric", &g, &e), e);
    ck_assert_uint_eq(g->n, 0);
    lm_conf_free(g);
}
END_TEST

START_TEST(help)
{
    struct lm_str out = { 0 };
    lm_options_help(&module, &out);
    static const char *const part[] = {
        "heads 1: pruner\n\n  Removes heads.\n  Reference: Somebody 2020\n"
        "  A. Author; Apache-2.0\n\n  prune = ( { use = \"heads\"; } );\n\nOptions\n",
        "  layers   integer 1..64 (layers); default 4; can be searched\n"
        "           How many layers.\n",
        "  method   magnitude | wanda | taylor; default wanda; can be searched\n",
        "  free     integer\n", "  rate     real 0..1; default 1e-3; can be searched\n",
        "  text     name of a text, or a file; required\n",
        "           (formerly 'title')\n", "  reals    reals 0..1; default [0.1, 1]; for "
        "experts\n" };
    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        ck_assert_msg(strstr(out.s, part[i]) != NULL, "%s\nnot in\n%s", part[i], out.s);
    for (const char *p = out.s; *p; p += strcspn(p, "\n") + 1)
        ck_assert_uint_le(strcspn(p, "\n"), 79);
    lm_str_free(&out);
}
END_TEST

static void lint(struct lm_opt a, struct lm_opt b, const char *message)
{
    const struct lm_opt list[] = { a, b, LM_OPT_END };
    struct lm_module m = module;
    struct lm_err e = { 0 };
    m.opt = list;
    ck_assert_int_eq(lm_options_lint(&m, &e), message ? LM_EBUG : LM_OK);
    ck_assert_str_eq(e.text, message ? message : "");
}

START_TEST(lints)
{
    struct lm_opt ok = schema[0], x = schema[4];
    struct lm_module m = module;
    struct lm_err e = { 0 };
    ck_assert_ok(lm_options_lint(&module, &e), e);
    lint(ok, x, NULL);
    x.name = "layers"; lint(ok, x, "two options are called 'layers'"); x = schema[4];
    x.alias = "layers"; lint(ok, x, "two options are called 'layers'"); x = schema[4];
    x.name = "Keep"; lint(ok, x, "'Keep' cannot be the name of an option"); x = schema[4];
    x.name = "use"; lint(ok, x, "'use' cannot be the name of an option"); x = schema[4];
    x.def = "2"; lint(ok, x, "option 'keep': default: 2 is above the maximum 1");
    x.def = "many"; lint(ok, x, "option 'keep': default: expected a number, not "
          "\"many\"");
    x = schema[4];
    x.type = 99; lint(ok, x, "option 'keep': unknown type 99"); x = schema[4];
    x.offset = 0; lint(ok, x, "options 'layers' and 'keep' share their memory");
    x = schema[4];
    x.help = "a\nb"; lint(ok, x, "option 'keep': help must be one line"); x = schema[4];
    x.min = 2; lint(ok, x, "option 'keep': min is above max"); x = schema[1];
    x.choices = NULL; lint(ok, x, "option 'method': no choices");
    m.opt_size = 8;
    ck_assert_int_eq(lm_options_lint(&m, &e), LM_EBUG);
    m = module;
    m.config_size = 100;
    ck_assert_int_eq(lm_options_lint(&m, &e), LM_EBUG);
}
END_TEST

/* Options of a plugin built later, whose struct lm_opt has grown. */
START_TEST(wider_options)
{
    struct { struct lm_opt o; uint64_t more[2]; } wide[] = {
        { schema[0], { 1, 2 } }, { schema[4], { 3, 4 } }, { LM_OPT_END, { 5, 6 } } };
    struct lm_module m = module;
    struct lm_err e = { 0 };
    m.opt = &wide[0].o;
    m.opt_size = sizeof wide[0];
    ck_assert_ok(lm_options_lint(&m, &e), e);
    ck_assert_ptr_eq(lm_opt_at(&m, 1), &wide[1].o);
    ck_assert_ptr_null(lm_opt_at(&m, 2));
    ck_assert_ptr_null(lm_opt_at(&m, 3));
    m.opt = NULL;
    ck_assert_ptr_null(lm_opt_at(&m, 0));
}
END_TEST

static enum lm_status scenario(void *ctx)
{
    struct lm_options o;
    struct lm_conf *g;
    struct lm_err e = { 0 };
    (void)ctx;
    enum lm_status s = lm_options_group(&module, "text=a,names=(x,y),rate={ choice = ( "
          "0.1 "
                                        "); },title=z", "--metric", &g, &e);
    if (s)
        return s;
    if (!(s = lm_options_lint(&module, &e)))
        s = lm_options_fill(&module, g, "x", NULL, NULL, &o, &e);
    if (!s)
        lm_options_free(&o);
    lm_conf_free(g);
    ck_assert_int_eq(s, e.code);
    return s;
}

START_TEST(no_memory)
{
    ck_assert_int_gt(fail_every_allocation(scenario, NULL), 30);
}
END_TEST

int main(void)
{
    const TTest *const test[] = { defaults, given, mistakes, tuned, hashes, completed,
                                  plugins, command_line, help, lints, wider_options,
                                  no_memory };
    Suite *s = suite_create("opt");
    TCase *t = tcase_create("opt");
    tcase_set_timeout(t, 60);
    for (size_t i = 0; i < sizeof test / sizeof *test; i++)
        tcase_add_test(t, test[i]);
    suite_add_tcase(s, t);
    return run_suites(&s, 1);
}
