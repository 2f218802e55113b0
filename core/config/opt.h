/* SPDX-License-Identifier: Apache-2.0 */
/* opt.h -- the option schema engine: fills a plugin's config struct from a
 * configuration group, checks types and ranges, prints help, makes keys.    */
#ifndef LM_CONFIG_OPT_H
#define LM_CONFIG_OPT_H
#include "config/conf.h"

/* An option given as { min; max; step; log; } or { choice = [...]; }. */
struct lm_tuned {
    const struct lm_opt *opt;
    const struct lm_conf *at;
    double min, max, step;
    bool   log_scale;
    const struct lm_conf *choice;       /* list of values, or NULL */
};

struct lm_options {                     /* options of one instance           */
    void  *config;                      /* the plugin's struct               */
    struct lm_tuned *tuned;
    size_t n_tuned;
    uint64_t hash;                      /* of all that can change results    */
    void  *memory;                      /* strings and lists; private        */
};

/* Keys `use` and `id` are not options.  Option rules: INT and REAL with min and
 * max both 0 have no limits; an integer is fine for a REAL; one value is fine
 * for a list; a PATH must exist; where is the stage as in "prune[1] (heads)";
 * group may be NULL (all defaults).  A tuned option holds its default, moved
 * into [min, max], or its first choice.  The hash is of effective values: a
 * default written out changes nothing.
 *
 * resolve turns an LM_OPT_PLUGINS node into instances; without it the node's
 * members are only checked to be groups with `use`.                          */
typedef enum lm_status lm_resolve(void *ctx, const struct lm_conf *node,
                                  struct lm_instances *out, uint64_t *hash,
                                  struct lm_err *e);
enum lm_status lm_options_fill(const struct lm_module *m, const struct lm_conf *group,
                               const char *where, lm_resolve *resolve, void *ctx,
                               struct lm_options *out, struct lm_err *e);
void lm_options_free(struct lm_options *o);
/* Length of the first of "key=value,key=value": up to the next comma outside
 * quotes and brackets.                                                       */
size_t lm_options_part(const char *text);
/* From "key=value,key=value" of a command line, as a group for lm_options_fill.
 * "text=a.txt" for TEXT, STRING and PATH needs no quotes.                   */
enum lm_status lm_options_group(const struct lm_module *m, const char *text,
                                const char *origin, struct lm_conf **group,
                                struct lm_err *e);
/* Writes defaults out: `use` if wanted, and each option that the group lacks,
 * with the origin "default".  It fills the same struct then, also with a later
 * version of the plugin that has other defaults.                            */
enum lm_status lm_options_complete(const struct lm_module *m, bool use,
                                   struct lm_conf *group, struct lm_err *e);
/* Sets one option of a filled struct (a gene's value: .real for REAL, else
 * .integer; the index where there is a choice) and renews the hash.         */
enum lm_status lm_options_set(const struct lm_module *m, struct lm_options *o,
                              const struct lm_tuned *t, union lm_value v,
                              struct lm_err *e);
/* i-th option (honours opt_size), NULL behind the last. */
const struct lm_opt *lm_opt_at(const struct lm_module *m, size_t i);
/* The text of `lamina help NAME`. */
void lm_options_help(const struct lm_module *m, struct lm_str *out);
/* The part of it about the options. */
void lm_options_list(const struct lm_module *m, struct lm_str *out);
/* "search strategy"; `search = { use = "nsga2"; };` into out, which is returned. */
const char *lm_options_kind(const struct lm_module *m);
const char *lm_options_usage(const struct lm_module *m, char *out, size_t n);
/* The manual page lamina-NAME(7), and its list of options (opt_man.c). */
void lm_options_man(const struct lm_module *m, const char *version, struct lm_str *out);
void lm_options_man_list(const struct lm_module *m, struct lm_str *out);
/* Beginning of a page up to its NAME section; text without roff in it. */
void lm_man_head(struct lm_str *out, const char *name, const char *section,
                 const char *version, const char *summary);
void lm_man_text(struct lm_str *out, const char *text);
/* The rule for names of plugins and of their options: a-z, 0-9 and _, a letter
 * first, less than LM_CONF_KEY bytes.                                       */
bool lm_plugin_name(const char *s);
/* Descriptor lint: names, duplicates, offsets, defaults.  LM_EBUG. */
enum lm_status lm_options_lint(const struct lm_module *m, struct lm_err *e);
#endif
