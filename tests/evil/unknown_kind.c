/* SPDX-License-Identifier: Apache-2.0 */
/* unknown_kind.c -- A kind from the future. */
#include "evil.h"

EVIL("unknown_kind", m.kind = 77;)
