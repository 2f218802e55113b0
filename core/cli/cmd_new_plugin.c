/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_new_plugin.c -- new-plugin: a folder with a plugin that works, to be
 * changed into another one.  The files are those of templates/.              */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/cli.h"
#include "cli/templates.h"
#include "config/opt.h"
#include "loader/loader.h"

enum { MAX_NAME = 40 };

/* What stands for @WORD@ in the templates of a kind.  folder: of installed
 * plugins; group: of a pipeline file; options: what a pipeline must say.      */
static const struct kind {
    enum lm_kind kind;
    const char *folder, *group, *options;
} kinds[] = {
    { LM_SEARCH, "search", "search", " budget = 6;" },
    { LM_PRUNER, "pruners", "prune", "" },
    { LM_SCORER, "scorers", "score", "" },
    { LM_REPAIR, "repair", "repair", "" },
    { LM_EVALUATOR, "evaluators", "evaluate", " text = \"search\";" },
    { LM_REPORTER, "reporters", "report", "" },
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

/* Template and the file that it becomes; NULL: NAME.c of KIND.c. */
static const struct { const char *from, *to; } files[] = {
    { NULL, NULL }, { "plugin.mk", "Makefile" }, { "test.sh", "test.sh" },
    { "README.md", "README.md" } };
enum { N_FILES = sizeof files / sizeof *files };

static const struct kind *find_kind(const char *word, struct lm_err *e)
{
    for (size_t i = 0; i < N_KINDS; i++)
        if (!strcmp(lm_kind_name(kinds[i].kind), word))
            return &kinds[i];
    lm_fail(e, LM_ECONFIG, "new-plugin: '%s' is none of search, pruner, scorer, repair, "
            "evaluator, reporter", word);
    return NULL;
}

/* A name that the loader takes, that is free, and that C and make take as well. */
static enum lm_status check_name(const struct kind *k, const char *name, struct lm_err *e)
{
    const struct lm_loaded *other;
    struct lm_err none = { 0 };
    if (strlen(name) > MAX_NAME || !lm_plugin_name(name))
        return lm_fail(e, LM_ECONFIG,
                       "new-plugin: '%.64s' is no name of a plugin: a letter, "
                       "then letters, digits and _, all small, at most %d",
                       name, MAX_NAME);
    if (!lm_loader_find(k->kind, name, NULL, &other, &none))
        return lm_fail(e, LM_ECONFIG, "new-plugin: there is a %s '%s' already (%s); take "
                       "another name", lm_kind_name(k->kind), name, other->path);
    return LM_OK;
}

static void fill(struct lm_str *out, const char *text, const struct kind *k,
                 const char *name)
{
    const struct { const char *word, *value; } at[] = { { "@NAME@", name },
               { "@KIND@", lm_kind_name(k->kind) },
               { "@FOLDER@", k->folder },
               { "@GROUP@", k->group },
               { "@OPTIONS@", k->options } };
    while (*text) {
        size_t i, n = strcspn(text, "@");
        lm_str_put(out, text, n);
        text += n;
        for (i = 0; *text && i < sizeof at / sizeof *at; i++)
            if (!strncmp(text, at[i].word, strlen(at[i].word)))
                break;
        if (!*text)
            return;
        if (i == sizeof at / sizeof *at)
            lm_str_put(out, text++, 1);
        else {
            lm_str_put(out, at[i].value, strlen(at[i].value));
            text += strlen(at[i].word);
        }
    }
}

static enum lm_status write_file(const char *folder, size_t i, const struct kind *k,
                                 const char *name, bool undo, struct lm_err *e)
{
    char from[64], to[64], path[4096];
    const struct lm_template *t = lm_templates;
    struct lm_str text = { 0 };
    snprintf(from, sizeof from, "%s.c", lm_kind_name(k->kind));
    snprintf(to, sizeof to, "%s.c", name);
    while (t->name && strcmp(t->name, files[i].from ? files[i].from : from))
        t++;
    if (!t->name ||
        !lm_path_join(path, sizeof path, folder, files[i].to ? files[i].to : to))
        return lm_fail(e, LM_ECONFIG, "new-plugin: the path of the folder is too long");
    if (undo) {
        unlink(path);
        return LM_OK;
    }
    fill(&text, t->text, k, name);
    enum lm_status s = text.failed ? lm_fail_memory(e, text.n, "a file")
                                   : lm_write_file(path, text.s, text.n, e);
    lm_str_free(&text);
    return s;
}

static enum lm_status write_all(const char *folder, const struct kind *k,
                                const char *name, struct lm_err *e)
{
    enum lm_status s = lm_make_folder(folder, e);
    for (size_t i = 0; !s && i < N_FILES; i++)
        s = write_file(folder, i, k, name, false, e);
    for (size_t i = 0; s && i < N_FILES; i++) {         /* nothing by halves */
        struct lm_err ignored = { 0 };
        write_file(folder, i, k, name, true, &ignored);
    }
    if (s)
        rmdir(folder);
    return s;
}

enum lm_status lm_cmd_new_plugin(int argc, char **argv, struct lm_err *e)
{
    struct lm_list at;
    const char *out = ".";
    char folder[4000], text[4200];
    bool help;
    const struct lm_flag flag[] = {
        { "out", 's', &out, "DIR", "where the folder NAME is made (here)" } };
    enum lm_status s = lm_flags_parse(argc, argv, flag, 1, &at, 2, 2, &help, e);
    if (s || help)
        return s;
    const struct kind *k = find_kind(at.v[0], e);
    if (!k)
        return LM_ECONFIG;
    if ((s = check_name(k, at.v[1], e)))
        return s;
    if (!lm_path_join(folder, sizeof folder, out, at.v[1]))
        return lm_fail(e, LM_ECONFIG, "new-plugin: the path of the folder is too long");
    if (lm_file_exists(folder) || lm_is_link(folder))
        return lm_fail(e, LM_ECONFIG,
                       "new-plugin: %s is there already; nothing was written", folder);
    if ((s = write_all(folder, k, at.v[1], e)))
        return s;
    int n = snprintf(text, sizeof text,
                     "%s: %s.c, Makefile, test.sh, README.md; now `make -C "
                     "%s check`\n",
                     folder, at.v[1], folder);
    return lm_print(text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1, e);
}
