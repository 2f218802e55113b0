/* SPDX-License-Identifier: Apache-2.0 */
/* host.h -- the host table; host.c is the only file that sees both sides. */
#ifndef LM_PIPELINE_HOST_H
#define LM_PIPELINE_HOST_H
#include "plugin.h"
const struct lm_host *lm_host(void);
#endif
