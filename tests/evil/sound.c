/* SPDX-License-Identifier: Apache-2.0 */
/* sound.c -- A search strategy as it should be; the others differ from it in one thing. */
#include "evil.h"

EVIL("sound", )
