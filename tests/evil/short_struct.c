/* SPDX-License-Identifier: Apache-2.0 */
/* short_struct.c -- A descriptor that ends early; what follows must not be read. */
#include "evil.h"

EVIL("short_struct", m.struct_size = 16;)
