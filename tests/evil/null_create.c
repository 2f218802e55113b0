/* SPDX-License-Identifier: Apache-2.0 */
/* null_create.c -- No create(). */
#include "evil.h"

EVIL("null_create", m.create = NULL;)
