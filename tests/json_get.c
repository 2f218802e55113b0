/* SPDX-License-Identifier: Apache-2.0 */
/* json_get.c -- looks into a JSON document, for shell tests.
 *
 *   json_get FILE [PATH]...
 *
 * Fails unless FILE is exactly one JSON document.  A path is a row of steps:
 * NAME (member), NUMBER (of an array), NAME=TEXT (first object of an array with
 * that string member), `#` (length); steps are separated by '/', so that names may have
 * dots: `metrics/name=size.bytes/value`.  One line is printed for each path: a string
 * as it is, a number with all its digits, arrays and objects as their type's
 * letter, or "missing", which is a failure, too.                             */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

static const struct lm_json *named(const struct lm_json *a, const char *key,
                                   const char *text)
{
    const struct lm_json_api *j = &lm_json_api;
    for (size_t i = 0; j->type(a) == 'a' && i < j->size(a); i++) {
        const char *s = j->string(j->get(j->at(a, i), key));
        if (s && !strcmp(s, text))
            return j->at(a, i);
    }
    return NULL;
}

static const struct lm_json *step(const struct lm_json *node, char *word)
{
    const struct lm_json_api *j = &lm_json_api;
    char *eq = strchr(word, '=');
    if (eq) {
        *eq = 0;
        return named(node, word, eq + 1);
    }
    if (j->type(node) == 'o')
        return j->get(node, word);
    if (j->type(node) != 'a')
        return NULL;
    size_t i = strtoul(word, NULL, 10);
    return i < j->size(node) ? j->at(node, i) : NULL;
}

static int show(const struct lm_json *node)
{
    const struct lm_json_api *j = &lm_json_api;
    int64_t i;
    double r;
    bool b;
    switch (j->type(node)) {
    case 0: puts("missing"); return 1;
    case 's': puts(j->string(node)); return 0;
    case 'n': puts("null"); return 0;
    case 'i': j->integer(node, &i); printf("%" PRId64 "\n", i); return 0;
    case 'r': j->real(node, &r); printf("%.17g\n", r); return 0;
    case 'b': j->boolean(node, &b); puts(b ? "true" : "false"); return 0;
    default: printf("%c\n", j->type(node)); return 0;
    }
}

static int look(const struct lm_json *node, char *path)
{
    for (char *w = strtok(path, "/"); w; w = strtok(NULL, "/")) {
        if (!strcmp(w, "#")) {
            printf("%zu\n", lm_json_api.size(node));
            return 0;
        }
        if (node)
            node = step(node, w);
    }
    return show(node);
}

int main(int argc, char **argv)
{
    struct lm_err e = { 0 };
    struct lm_json *root;
    char *text;
    size_t n;
    int failed = 0;
    if (argc < 2 || lm_read_file(argv[1], 1 << 28, &text, &n, &e) ||
        lm_json_api.parse(text, n, argv[1], &root, &e)) {
        fprintf(stderr, "json_get: %s\n", e.text);
        return 2;
    }
    for (int i = 2; i < argc; i++)
        failed |= look(root, argv[i]);
    lm_json_api.close(root);
    lm_release(text);
    return failed;
}
