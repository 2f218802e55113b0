/* SPDX-License-Identifier: Apache-2.0 */
/* other_major.c -- Built for another major of the ABI. */
#include "evil.h"

EVIL("other_major", m.abi_major = 7;)
