/* SPDX-License-Identifier: Apache-2.0 */
/* other_name.c -- A name that differs from the file. */
#include "evil.h"

EVIL("other_name", m.name = "somebody_else";)
