/* SPDX-License-Identifier: Apache-2.0 */
/* loader.h -- finding and opening plugins; libltdl is confined to loader.c.
 *
 * Folders, in order: --plugin-path, $LAMINA_PLUGIN_PATH, then plugins/ beside
 * an uninstalled program, else the installed plugin folder.  A pipeline file cannot
 * add any.  Modules are opened once and never closed.                [main] */
#ifndef LM_LOADER_LOADER_H
#define LM_LOADER_LOADER_H
#include "base/err.h"
#include "config/conf.h"

struct lm_loaded {
    struct lm_module module;            /* a copy, members beyond the plugin's
                                           struct_size are zero               */
    void  *ops;                         /* a copy of its table, padded alike  */
    char  *path;
    struct lm_loaded *next;
};

enum lm_status lm_loader_start(const char *plugin_path, struct lm_err *e);
void lm_loader_stop(void);
/* "search", "pruner", ...; the word in messages. */
const char *lm_kind_name(enum lm_kind k);
/* Metrics are written into lists: their names and ids are 1 to `most` letters,
 * digits and _, their units at most 31 printable ASCII characters, no space.  */
bool lm_word(const char *s, size_t most);
bool lm_unit_sound(const char *s);
/* Opens and checks plugin NAME of a kind.  at (may be NULL) is where the
 * name stands in a pipeline file.  Unknown names list the available ones.   */
enum lm_status lm_loader_find(enum lm_kind kind, const char *name,
                              const struct lm_conf *at, const struct lm_loaded **out,
                              struct lm_err *e);
/* Any kind; for `help NAME`. */
enum lm_status lm_loader_any(const char *name, const struct lm_loaded **out,
                             struct lm_err *e);
/* One file; for selftests of plugins outside the folders. */
enum lm_status lm_loader_open(const char *path, const struct lm_loaded **out,
                              struct lm_err *e);
/* All plugins that can be opened, by kind and name; broken ones are logged
 * as warnings.  *out is a lm_release'd array of borrowed pointers.           */
enum lm_status lm_loader_list(const struct lm_loaded ***out, size_t *n,
                              struct lm_err *e);
/* The same, with the broken ones shown to see() instead. */
enum lm_status lm_loader_survey(const struct lm_loaded ***out, size_t *n,
                                void (*see)(void *ctx, const char *why), void *ctx,
                                struct lm_err *e);
/* i-th folder that is searched, NULL behind the last. */
const char *lm_loader_folder(size_t i);
/* Puts all folders into LAMINA_PLUGIN_PATH, for programs that this one starts. */
enum lm_status lm_loader_export(struct lm_err *e);
#endif
