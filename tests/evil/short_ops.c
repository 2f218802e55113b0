/* SPDX-License-Identifier: Apache-2.0 */
/* short_ops.c -- A table that ends early. */
#include "evil.h"

EVIL("short_ops", ops.struct_size = 16;)
