/* SPDX-License-Identifier: Apache-2.0 */
/* device.h -- the devices of installed backends, and the one that `auto` takes. */
#ifndef LM_PIPELINE_DEVICE_H
#define LM_PIPELINE_DEVICE_H
#include "base/str.h"
#include "loader/loader.h"

enum { LM_MAX_DEVICES = 32, LM_DEVICE_TEXT = 256,
       LM_BACKEND_TEXT = 256 };

struct lm_devices {
    struct lm_device at[LM_MAX_DEVICES];
    size_t n;
    char   why[512];                    /* n == 0: why there is none; "": the backend
                                           does not tell of its devices */
};
/* Asks a backend in a process of its own and within seconds, because a driver may hang
 * or crash: whatever goes wrong is out->why.  LM_ENOMEM and LM_ECANCELED fail.  [main] */
enum lm_status lm_devices_find(const struct lm_loaded *backend, struct lm_devices *out,
                               struct lm_err *e);
/* What that process writes: JSON. */
enum lm_status lm_devices_tell(const char *backend, struct lm_str *out, struct lm_err *e);

/* "NVIDIA H200, driver 570.1, 150 GB", "llvmpipe, driver 25.0 (software)". */
const char *lm_device_text(const struct lm_device *d, char out[LM_DEVICE_TEXT]);
/* Is such a text of a device of this name, whatever its driver and memory? */
bool lm_device_is(const struct lm_device *d, const char *text);

/* Has the plugin an option of this name? */
bool lm_has_option(const struct lm_module *m, const char *name);

struct lm_auto {
    char    backend[64];
    int64_t number;                     /* of the device */
    bool    option;                     /* the backend takes it as `device` */
    struct lm_device device;
};
/* The first backend, by name, with a device that is not software, and the first such
 * device; cpu where there is none; reference never.                         [main] */
enum lm_status lm_auto_find(struct lm_auto *out, struct lm_err *e);
/* The same for text of a command line: "auto" becomes "NAME:device=1" in out, all else
 * stays what it is; logged.                                                 [main] */
enum lm_status lm_auto_text(const char *text, char out[LM_BACKEND_TEXT],
                            struct lm_err *e);
/* And for the group `backend` of a pipeline: names in it what auto takes.   [main] */
enum lm_status lm_auto_conf(struct lm_conf *root, bool *chosen, struct lm_err *e);
#endif
