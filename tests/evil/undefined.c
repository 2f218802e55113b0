/* SPDX-License-Identifier: Apache-2.0 */
/* undefined.c -- calls a function that nobody has. */
#include "plugin.h"

extern const struct lm_module *lm_evil_nowhere(void);
const struct lm_module *lm_plugin(void)
{
    return lm_evil_nowhere();
}
