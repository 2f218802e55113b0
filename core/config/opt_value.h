/* SPDX-License-Identifier: Apache-2.0 */
/* opt_value.h -- one value of one option; inside config only. */
#ifndef LM_CONFIG_OPT_VALUE_H
#define LM_CONFIG_OPT_VALUE_H
#include "config/opt.h"

/* Blocks that live as long as an lm_options, newest first. */
struct lm_opt_block { struct lm_opt_block *next; };
struct lm_opt_memory {
    struct lm_opt_block *first;
    uint64_t *plugin_hash;              /* [options], of LM_OPT_PLUGINS         */
};

struct lm_opt_set {
    struct lm_opt_memory *memory;
    bool  check_paths;
    lm_resolve *resolve;                /* of LM_OPT_PLUGINS, may be NULL       */
    void *ctx;
    uint64_t *plugin_hash;              /* where its hash goes                  */
    const struct lm_conf *at;           /* out: what a failure is about         */
};

void *lm_opt_alloc(struct lm_opt_memory *m, size_t n);
/* Bytes of the member of a type; 0: no such type. */
size_t lm_opt_size(uint32_t type);
/* The type of the members of a list, or the type itself. */
uint32_t lm_opt_member(uint32_t type);
/* Checks a value and stores it at field.  A failure is LM_ECONFIG with the bare
 * reason ("1.5 is above the maximum 1"), for callers to put the place before. */
enum lm_status lm_opt_store(struct lm_opt_set *x, const struct lm_opt *o,
                            const struct lm_conf *v, void *field, struct lm_err *e);
/* As a command line or a default writes it: a node of the option's type if the
 * text looks like it, else a string.                                         */
enum lm_status lm_opt_text(const struct lm_opt *o, const char *text, size_t n,
                           const char *origin, struct lm_conf **out, struct lm_err *e);
/* "integer 1..64"; returns out. */
const char *lm_opt_type_text(const struct lm_opt *o, char *out, size_t n);
/* Digits of a real for people: no ".0" behind whole numbers. */
const char *lm_opt_number(char out[40], double v);
#endif
