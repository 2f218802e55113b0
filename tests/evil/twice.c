/* SPDX-License-Identifier: Apache-2.0 */
/* twice.c -- Two options of the same name. */
#include "evil.h"

EVIL("twice", opt[1].name = "population";)
