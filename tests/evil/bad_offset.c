/* SPDX-License-Identifier: Apache-2.0 */
/* bad_offset.c -- An option outside the config struct. */
#include "evil.h"

EVIL("bad_offset", opt[1].offset = sizeof(struct config);)
