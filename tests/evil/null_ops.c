/* SPDX-License-Identifier: Apache-2.0 */
/* null_ops.c -- No table. */
#include "evil.h"

EVIL("null_ops", m.ops = NULL;)
