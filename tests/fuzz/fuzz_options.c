/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_options.c -- "key=value,key=value" of a command line, for a plugin that
 * has an option of every type.                                               */
#include "config/opt.h"
#include "fuzz.h"

struct options {
    bool yes;
    int64_t count, pick;
    double rate;
    const char *word, *path, *text;
    struct lm_ints ints;
    struct lm_reals reals;
    struct lm_strings strings;
    struct lm_instances members;
};

static const char *const picks[] = { "one", "two", "three", NULL };
static const struct lm_opt table[] = {
    LM_FLAG(struct options, yes, "true", 0, "a flag"),
    LM_INT(struct options, count, "3", -5, 1e6, NULL, LM_TUNABLE, "a number"),
    LM_PICK(struct options, pick, "two", picks, LM_TUNABLE, "a choice"),
    LM_REAL(struct options, rate, "0.5", 0, 0, NULL, LM_TUNABLE, "a rate"),
    LM_STRING(struct options, word, "w", 0, "a word"),
    LM_TEXTFILE(struct options, text, NULL, 0, "a text"),
    LM_OPTION(struct options, path, LM_OPT_PATH, const char *, NULL, 0, 0, NULL, NULL,
              0, "a path"),
    LM_INTLIST(struct options, ints, "1,2", 0, 9, NULL, 0, "numbers"),
    LM_REALLIST(struct options, reals, "", 0, 0, NULL, 0, "rates"),
    LM_STRINGLIST(struct options, strings, "", 0, "words"),
    LM_PLUGINLIST(struct options, members, 0, "plugins"),
    LM_OPT_END
};
static const struct lm_module module = {
    LM_MODULE_HEAD(SEARCH), .name = "fuzzed", .version = "1", .license = "Apache-2.0",
    .author = "tests", .summary = "has options", .opt = table,
    .config_size = sizeof(struct options) };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *text = fuzz_text(data, n);
    struct lm_conf *group;
    struct lm_options o;
    struct lm_err e = { 0 };
    int64_t begun = fuzz_begin();
    enum lm_status s = lm_options_group(&module, text, "command line", &group, &e);
    fuzz_status(s, &e);
    if (s == LM_OK) {
        s = lm_options_fill(&module, group, "test", NULL, NULL, &o, &e);
        fuzz_status(s, &e);
        if (s == LM_OK) {
            const struct options *c = o.config;
            FUZZ_CHECK(c->count >= -5 && c->count <= 1000000);
            FUZZ_CHECK(c->pick >= 0 && c->pick < 3);
            lm_options_free(&o);
        }
        lm_conf_free(group);
    }
    free(text);
    fuzz_end(begun);
    return 0;
}
