/* SPDX-License-Identifier: Apache-2.0 */
/* no_symbol.c -- A library like any other: no lm_plugin. */
#include "plugin.h"

LM_EXPORT int evil_answer(void);
int evil_answer(void)
{
    return 42;
}
