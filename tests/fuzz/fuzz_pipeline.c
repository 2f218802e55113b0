/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_pipeline.c -- pipeline files: FILE, then after a line "%%" the file
 * base.cfg beside it, then after another one lines for --set.  What is read is
 * written out with its origins, read again and must be the same.             */
#include "config/conf.h"
#include "fuzz.h"

enum { MAX_SET = 16 };

static void compare(const struct lm_conf *a, const struct lm_conf *b)
{
    FUZZ_CHECK(a->type == b->type && a->n == b->n);
    FUZZ_CHECK(!a->key == !b->key && (!a->key || !strcmp(a->key, b->key)));
    if (a->type == LM_CONF_STRING)
        FUZZ_CHECK(!strcmp(a->v.s, b->v.s));
    if (a->type == LM_CONF_INT)
        FUZZ_CHECK(a->v.i == b->v.i);
    if (a->type == LM_CONF_REAL)
        FUZZ_CHECK(a->v.r == b->v.r);
    if (a->type == LM_CONF_BOOL)
        FUZZ_CHECK(a->v.b == b->v.b);
    for (size_t i = 0; (a->type == LM_CONF_GROUP || a->type == LM_CONF_LIST)
         && i < a->n; i++)
        compare(a->child[i], b->child[i]);
}

/* What is written for reading again has no ${} left to replace in it. */
static void again(const struct lm_conf *root)
{
    struct lm_str t = { 0 };
    struct lm_conf *copy;
    struct lm_err e = { 0 };
    lm_conf_write(root, true, &t);
    FUZZ_CHECK(!t.failed);
    enum lm_status s = lm_conf_parse(t.s, "copy", NULL, 0, &copy, &e);
    if (s != LM_OK)
        fprintf(stderr, "%s\n%s\n", e.text, t.s);
    FUZZ_CHECK(s == LM_OK);
    compare(root, copy);
    lm_conf_free(copy);
    lm_str_free(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *text = fuzz_text(data, n), *part[3] = { NULL }, *save;
    const char *set[MAX_SET];
    size_t parts = fuzz_parts(text, part, 3), n_set = 0;
    struct lm_conf *root;
    struct lm_err e = { 0 };
    int64_t begun = fuzz_begin();
    if (parts == 3)
        for (char *l = strtok_r(part[2], "\n", &save); l != NULL && n_set < MAX_SET;
             l = strtok_r(NULL, "\n", &save))
            set[n_set++] = l;
    fuzz_file("base.cfg", parts > 1 ? part[1] : "", parts > 1 ? strlen(part[1]) : 0);
    const char *path = parts > 1 ? fuzz_file("main.cfg", part[0], strlen(part[0]))
                                 : fuzz_file("main.cfg", data, n);
    enum lm_status s = lm_conf_read(path, set, n_set, &root, &e);
    fuzz_status(s, &e);
    if (s == LM_OK) {
        (void)lm_conf_path(root, "prune[1].keep");
        again(root);
        lm_conf_free(root);
    }
    free(text);
    fuzz_end(begun);
    return 0;
}
