/* SPDX-License-Identifier: Apache-2.0 */
/* bad_default.c -- A default out of range. */
#include "evil.h"

EVIL("bad_default", opt[0].def = "0";)
