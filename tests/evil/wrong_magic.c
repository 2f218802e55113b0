/* SPDX-License-Identifier: Apache-2.0 */
/* wrong_magic.c -- Another magic number. */
#include "evil.h"

EVIL("wrong_magic", m.magic = 0x12345678;)
