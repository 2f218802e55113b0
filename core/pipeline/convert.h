/* SPDX-License-Identifier: Apache-2.0 */
/* convert.h -- one model file or folder made from another. */
#ifndef LM_PIPELINE_CONVERT_H
#define LM_PIPELINE_CONVERT_H
#include "pipeline/stage.h"

struct lm_convert {
    const char *in, *out;
    const char *format;                 /* "NAME" or "NAME:key=value,..."     */
    uint32_t dtype;                     /* 0: each tensor's own, bit for bit  */
    bool force;                         /* replace what `out` holds           */
};
/* A file or folder of that name appears only when it is complete and has been
 * read back; what was there before goes only then.  Weights pass through row by
 * row.  LM_ECONFIG: `out` exists (without force, or is nothing that a model may
 * replace) or the format cannot write the dtype.                             */
enum lm_status lm_convert(const struct lm_convert *c, struct lm_run *run,
                          struct lm_err *e);
/* May a format write to `out`?  Nothing is there, or an empty folder, or, with
 * force, a model other than `in`.  LM_ECONFIG says why not.                   */
enum lm_status lm_may_replace(const char *in, const char *out,
                              const struct lm_format *format, bool force,
                              struct lm_err *e);
#endif
