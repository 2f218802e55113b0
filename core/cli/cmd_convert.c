/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_convert.c -- convert: a model in another format or number format. */
#include <string.h>

#include "base/log.h"
#include "cli/cli.h"
#include "pipeline/convert.h"
#include "pipeline/pipeline.h"

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n > k && !strcmp(s + n - k, end);
}

static enum lm_status find_dtype(const char *name, uint32_t *dtype, struct lm_err *e)
{
    *dtype = 0;
    if (!name)
        return LM_OK;
    uint32_t n = 0;
    for (; lm_dtype_names[n]; n++)
        if (!strcmp(name, lm_dtype_names[n])) {
            *dtype = n + 1;
            return LM_OK;
        }
    const char *near = lm_nearest(name, lm_dtype_names, n);
    return lm_fail(e, LM_ECONFIG, "convert: no dtype '%s'%s%s%s", name,
                   near ? "; did you mean '" : "; there are f32, f16, bf16, q8_0, ...",
                   near ? near : "", near ? "'?" : "");
}

enum lm_status lm_cmd_convert(int argc, char **argv, struct lm_err *e)
{
    struct lm_list at;
    const char *dtype = NULL;
    struct lm_convert c = { 0 };
    struct lm_run *run = NULL;
    bool help;
    const struct lm_flag flag[] = {
        { "format", 's', &c.format, "NAME[:key=value,...]",
          "hf, hf:pad=true, gguf (default: gguf for OUT.gguf, else hf)" },
        { "dtype", 's', &dtype, "TYPE", "f32 f16 bf16 q8_0 q4_0 q4_1 (default: each "
          "tensor keeps its own, bit for bit)" },
        { "force", 'b', &c.force, NULL, "replace a model of that name" } };
    enum lm_status s = lm_flags_parse(argc, argv, flag, 3, &at, 2, 2, &help, e);
    if (s || help)
        return s;
    c.in = at.v[0];
    c.out = at.v[1];
    if (!c.format)
        c.format = ends_with(c.out, ".gguf") ? "gguf" : "hf";
    if ((s = find_dtype(dtype, &c.dtype, e)) || (s = lm_run_open(0, &run, e)))
        return s;
    if (!(s = lm_convert(&c, run, e)))
        lm_log(LM_INFO, "wrote %s (%s, %s)", c.out, c.format,
               dtype ? dtype : "number formats as they were");
    lm_run_close(run);
    return s;
}
