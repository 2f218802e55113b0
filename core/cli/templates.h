/* SPDX-License-Identifier: Apache-2.0 */
/* templates.h -- the files that new-plugin writes, as templates/ has them, within
 * the program: it needs no data folder, installed or not.                    */
#ifndef LM_CLI_TEMPLATES_H
#define LM_CLI_TEMPLATES_H
#include <stddef.h>

struct lm_template {
    const char *name;                   /* "search.c", "plugin.mk", ... */
    const char *text;                   /* with @NAME@, @KIND@, ... */
};
extern const struct lm_template lm_templates[];     /* ends with name == NULL */
#endif
