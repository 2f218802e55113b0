/* SPDX-License-Identifier: Apache-2.0 */
/* other_revision.c -- Built for another revision of its kind. */
#include "evil.h"

EVIL("other_revision", m.kind_rev = 99;)
