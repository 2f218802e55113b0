/* SPDX-License-Identifier: Apache-2.0 */
/* conf_tree.h -- building and changing configuration trees; inside config only. */
#ifndef LM_CONFIG_CONF_TREE_H
#define LM_CONFIG_CONF_TREE_H
#include "config/conf.h"

enum { LM_CONF_KEY = 64, LM_CONF_REFERENCES = 32, LM_CONF_TEXT = 1 << 16 };

/* NULL when there is no memory; key may be NULL. */
struct lm_conf *lm_conf_new(enum lm_conf_type type, const char *key, const char *origin);
/* Takes the child over; on failure it is freed. */
enum lm_status lm_conf_append(struct lm_conf *parent, struct lm_conf *child,
                              struct lm_err *e);
/* Merges `from` (taken over) into `to`, or replaces what `to` holds. */
enum lm_status lm_conf_merge(struct lm_conf *to, struct lm_conf *from,
                             struct lm_err *e);
/* Exchanges what two nodes hold, but not their keys. */
void lm_conf_swap(struct lm_conf *a, struct lm_conf *b);
void lm_conf_remove(struct lm_conf *group, const char *key);

/* NULL when there is no memory. */
struct lm_conf *lm_conf_copy(const struct lm_conf *from);
/* Puts a value (taken over) where path says; groups on the way are made.  conf.c */
enum lm_status lm_conf_assign(struct lm_conf *root, const char *path,
                              struct lm_conf *value, const char *origin,
                              struct lm_err *e);
/* The changes that come before --set, or those behind it.            conf_vary.c */
enum lm_status lm_conf_edit(struct lm_conf *root, const struct lm_conf_edit *edit,
                            size_t n, bool behind, struct lm_err *e);

/* One step of "prune[1].keep"; *p moves behind it. */
enum lm_conf_step { LM_STEP_END, LM_STEP_KEY, LM_STEP_INDEX, LM_STEP_APPEND,
                    LM_STEP_WRONG };
struct lm_conf_path { const char *p, *start; char key[LM_CONF_KEY]; size_t index; };
enum lm_conf_step lm_conf_next(struct lm_conf_path *path);

/* Says of a tree that its strings are expanded: they are taken as they are. */
void lm_conf_plain(struct lm_conf *c);
/* Substitutes ${} in all other strings of a tree. */
enum lm_status lm_conf_expand(struct lm_conf *root, struct lm_err *e);
/* A value as in a file; plain words need no quotes. */
enum lm_status lm_conf_value(const char *text, const char *origin,
                             struct lm_conf **out, struct lm_err *e);
#endif
