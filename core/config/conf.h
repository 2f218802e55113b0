/* SPDX-License-Identifier: Apache-2.0 */
/* conf.h -- pipeline files as an immutable tree that knows where each value
 * came from.  libconfig is confined to conf.c.
 *
 * Order: base chain (depth <= 8), the file, --set left to right, then ${path}
 * and ${env:NAME} in strings.  Groups merge by key, everything else replaces;
 * a group that names another plugin with `use` replaces too, as the options of
 * one plugin mean nothing to another.  `lamina = 1` must be there at the end;
 * `base` is gone then, so that the effective text stands alone.
 *
 * @include and base are looked for beside the file that names them.  A string
 * that is nothing but one ${path} takes the value with its type; only scalars
 * can be referred to.  $${ stands for ${.                                    */
#ifndef LM_CONFIG_CONF_H
#define LM_CONFIG_CONF_H
#include "base/err.h"
#include "base/str.h"

enum lm_conf_type { LM_CONF_GROUP = 1, LM_CONF_LIST, LM_CONF_BOOL, LM_CONF_INT,
                    LM_CONF_REAL, LM_CONF_STRING };

struct lm_conf {
    enum lm_conf_type type;
    char   *key;                /* in its group; NULL in lists and at the root */
    char   *origin;             /* "run.cfg:14", "--set #2", "shrink"          */
    union { bool b; int64_t i; double r; char *s; } v;
    struct lm_conf **child;     /* GROUP and LIST (arrays are lists)           */
    size_t  n;
    unsigned char mark;         /* private to the expansion of ${}             */
};

/* set[i] is "path=value", value as in a file or a bare word; the path creates
 * groups, prune[1] must exist, prune[+] appends.  The tree is one
 * block of ownership: free the root.                                         */
enum lm_status lm_conf_read(const char *path, const char *const *set, size_t n_set,
                            struct lm_conf **root, struct lm_err *e);
/* The same from text; name stands for the file in origins. */
enum lm_status lm_conf_parse(const char *text, const char *name,
                             const char *const *set, size_t n_set,
                             struct lm_conf **root, struct lm_err *e);
/* A change to what a file says: a value (copied; its ${} are expanded already) or a
 * string at the path, or, without either, what is there is removed (LM_ECONFIG:
 * nothing is).  Values go between the file and --set, removals behind --set, which
 * so still counts members of lists as the file does; what is `last` behind both. */
struct lm_conf_edit {
    const char *path, *origin;
    const struct lm_conf *value;
    const char *text;
    bool last;
};
/* lm_conf_read of a changed file, without its group `sweep`. */
enum lm_status lm_conf_vary(const char *path, const struct lm_conf_edit *edit,
                            size_t n_edit, const char *const *set, size_t n_set,
                            struct lm_conf **root, struct lm_err *e);
void lm_conf_free(struct lm_conf *root);

const struct lm_conf *lm_conf_get(const struct lm_conf *group, const char *key);
/* "prune[1].keep", "search.stages[0].use"; NULL if absent */
const struct lm_conf *lm_conf_path(const struct lm_conf *root, const char *path);
/* A list as it is, anything else as a list of itself: i-th member or NULL. */
const struct lm_conf *lm_conf_item(const struct lm_conf *node, size_t i);
size_t lm_conf_items(const struct lm_conf *node);   /* NULL: 0 */
/* The group KEY of a group; where there is none an empty one is made, of origin
 * "default".                                                                 */
enum lm_status lm_conf_group(struct lm_conf *parent, const char *key,
                             struct lm_conf **group, struct lm_err *e);
/* A string, or where text is NULL a whole number, in place of what a group has under
 * KEY.                                                                       */
enum lm_status lm_conf_put(struct lm_conf *group, const char *key, const char *text,
                           int64_t number, const char *origin, struct lm_err *e);
/* Appends a copy of a group, with the strings set[i] = { key, value } in it, to the
 * list `key` of root.  What is there and is no list becomes its first member; where
 * nothing is, a list is made.                                                */
enum lm_status lm_conf_twin(struct lm_conf *root, const char *key,
                            const struct lm_conf *group, const char *const (*set)[2],
                            size_t n, struct lm_err *e);
/* The first value in which two trees differ, of b where it has one, else of a; NULL:
 * none.  The order of keys and origins make no difference.                    */
const struct lm_conf *lm_conf_differs(const struct lm_conf *a, const struct lm_conf *b);
/* A valid pipeline file again; comments: each value's origin. */
void lm_conf_write(const struct lm_conf *root, bool comments, struct lm_str *out);
/* Shortest digits that read back as the same double; always with '.' or 'e'. */
void lm_conf_real(char out[40], double v);
/* A string as it is written in a file, in quotes; reads back the same. */
void lm_conf_quote(struct lm_str *out, const char *s);
/* 1.5, "x" with its quotes, `a group`: for messages; returns out. */
const char *lm_conf_describe(const struct lm_conf *node, char *out, size_t n);
/* "ORIGIN: error: ..." as LM_ECONFIG */
enum lm_status lm_conf_fail(struct lm_err *e, const struct lm_conf *at,
                            const char *fmt, ...) LM_PRINTF(3, 4);
#endif
