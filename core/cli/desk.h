/* SPDX-License-Identifier: Apache-2.0 */
/* desk.h -- a model brought up on a backend for one command. */
#ifndef LM_CLI_DESK_H
#define LM_CLI_DESK_H
#include "cli/cli.h"
#include "pipeline/session.h"

struct lm_desk {
    struct lm_run *run;                 /* may be open before */
    struct lm_stage backend;
    struct lm_conf *backend_conf;
    struct lm_bench bench;
};
/* backend: "NAME:key=value,...", NULL: cpu.  Close it whatever became of it. */
enum lm_status lm_desk_open(struct lm_desk *d, const char *model, const char *backend,
                            int64_t threads, struct lm_err *e);
void lm_desk_close(struct lm_desk *d);
#endif
