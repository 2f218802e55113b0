/* SPDX-License-Identifier: Apache-2.0 */
/* sound.c -- A search strategy as it should be; the others spoil it. */
#include "evil.h"

EVIL("sound", )
