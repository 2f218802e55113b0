/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_worker.c -- what `lamina run` starts for run.workers; not for people.
 *
 * It ends when nobody speaks to it any more, and where the system can do that, with the
 * process that started it, however that ends.                               */
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#include "base/child.h"
#include "cli/cli.h"
#include "pipeline/worker.h"

enum lm_status lm_cmd_worker(int argc, char **argv, struct lm_err *e)
{
    int type = 0;
    socklen_t n = sizeof type;
    (void)argv;
    if (argc != 1 || getsockopt(LM_CHILD_FD, SOL_SOCKET, SO_TYPE, &type, &n) ||
        type != SOCK_STREAM)
        return lm_fail(e, LM_ECONFIG, "worker: is started by `lamina run` where "
                       "run.workers says so, not by hand");
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
    fcntl(LM_CHILD_FD, F_SETFD, FD_CLOEXEC);
    return lm_worker_serve(LM_CHILD_FD, e);
}
