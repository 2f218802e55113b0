/* SPDX-License-Identifier: Apache-2.0 */
/* lint.h -- the lexical pass over a pipeline file, before libconfig sees it.
 *
 * WHY: libconfig 1.5 wraps integers that do not fit 32 bits, turns 1e400 into
 * infinity, cuts strings at \x00, opens included files by itself and answers
 * every typing mistake with "syntax error".  This pass refuses the former with
 * file and line, expands @include through base/file.h, names common mistakes
 * and limits depth and size, so that the parser behind it meets only text
 * which it reads right.                                                      */
#ifndef LM_CONFIG_LINT_H
#define LM_CONFIG_LINT_H
#include "base/err.h"
#include "base/str.h"

enum {
    LM_LINT_BYTES = 1 << 20,        /* of a file, and of all it includes        */
    LM_LINT_DEPTH = 64,             /* nested brackets                          */
    LM_LINT_INCLUDES = 10,          /* nested @include                          */
    LM_LINT_VALUES = 10000          /* settings and list members: libconfig's
                                       search for duplicates is quadratic       */
};

struct lm_source_line { uint32_t file, line; };

/* Expanded text without comments.  Output line k (from 1) came from at[k-1]. */
struct lm_source {
    struct lm_str text;
    char  **file;                   /* names as they appear in messages         */
    size_t  n_file;
    struct lm_source_line *at;
    size_t  n_line, n_value;
    bool    one_value;              /* of a --set: messages carry no line       */
    bool    corrupt;                /* failed on a number that would be read
                                       wrong (not on syntax)                    */
};

/* Reads a file, or n bytes of text that stand for it.  folder of `name` is
 * where relative includes are looked for.  On failure s is freed.            */
enum lm_status lm_source_file(struct lm_source *s, const char *name, struct lm_err *e);
enum lm_status lm_source_text(struct lm_source *s, const char *text, size_t n,
                              const char *name, struct lm_err *e);
/* "v = TEXT;" of one --set; origin stands in messages; no includes. */
enum lm_status lm_source_value(struct lm_source *s, const char *text,
                               const char *origin, struct lm_err *e);
void lm_source_free(struct lm_source *s);
/* "run.cfg:14" (or the origin of a value) of an output line into out. */
void lm_source_origin(const struct lm_source *s, size_t line, char *out, size_t n);
/* PATH as seen from the file NAME: absolute ones stay; false if too long. */
bool lm_source_beside(char *out, size_t n, const char *name, const char *path);
#endif
