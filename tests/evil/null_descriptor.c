/* SPDX-License-Identifier: Apache-2.0 */
/* null_descriptor.c -- lm_plugin() that returns nothing. */
#include "plugin.h"

const struct lm_module *lm_plugin(void)
{
    return NULL;
}
