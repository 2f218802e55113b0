/* SPDX-License-Identifier: Apache-2.0 */
/* null_function.c -- A required function of the table is missing. */
#include "evil.h"

EVIL("null_function", ops.tell = NULL;)
