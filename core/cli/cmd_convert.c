/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_convert.c -- convert: a model in another format or number format. */
#include <string.h>

#include "base/log.h"
#include "cli/cli.h"
#include "pipeline/convert.h"
#include "pipeline/pipeline.h"

const char *lm_format_of(const char *out)
{
    size_t n = strlen(out);
    return n > 5 && !strcmp(out + n - 5, ".gguf") ? "gguf" : "hf";
}

enum lm_status lm_cmd_convert(int argc, char **argv, struct lm_err *e)
{
    struct lm_list at;
    const char *dtype = NULL;
    struct lm_convert c = { 0 };
    struct lm_run *run = NULL;
    bool help;
    const struct lm_flag flag[] = {
        LM_FLAG_FORMAT(&c.format),
        { "dtype", 's', &dtype, "TYPE", LM_DTYPE_NAMES " (default: each tensor keeps its "
          "own, bit for bit)" },
        LM_FLAG_FORCE(&c.force) };
    enum lm_status s = lm_flags_parse(argc, argv, flag, 3, &at, 2, 2, &help, e);
    if (s || help)
        return s;
    c.in = at.v[0];
    c.out = at.v[1];
    if (!c.format)
        c.format = lm_format_of(c.out);
    if ((dtype && (s = lm_dtype_find(dtype, &c.dtype, e))) ||
        (s = lm_run_open(0, &run, e)))
        return s;
    if (!(s = lm_convert(&c, run, e)))
        lm_log(LM_INFO, "wrote %s (%s, %s)", c.out, c.format,
               dtype ? dtype : "number formats as they were");
    lm_run_close(run);
    return s;
}
