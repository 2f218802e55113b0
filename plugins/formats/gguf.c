/* SPDX-License-Identifier: Apache-2.0 */
/* gguf -- reads and writes the single-file models of llama.cpp.  Models of equal
 * layers are written as architecture llama, qwen2 or qwen3, others as deci, whose
 * numbers of heads and FFN widths stock llama.cpp reads layer by layer.        */
#include "gguf.h"

static int probe(void *self, const char *path)
{
    const struct fmt *f = self;
    size_t n = strlen(path);
    char p[FMT_PATH];
    if (!f->h->file_exists(path)
        || (fmt_path(p, path, "config.json") && f->h->file_exists(p)))
        return 0;
    return n > 5 && !strcmp(path + n - 5, ".gguf") ? 100 : 10;
}

enum lm_status gguf_dtype_check(const struct fmt *f, uint32_t dtype, struct lm_err *e)
{
    const struct lm_codec *c = f->h->codec(dtype);
    if (!dtype || (gguf_type_of(dtype) >= 0 && c && c->encode))
        return LM_OK;
    return f->h->fail(e, LM_EUNSUPPORTED, "format gguf does not write %s",
                      c ? c->name : "this number format");
}

static enum lm_status limits(void *self, const struct lm_model *parent, uint32_t dtype,
                             struct lm_limits *out, struct lm_err *e)
{
    const struct fmt *f = self;
    const struct lm_codec *c = f->h->codec(dtype);
    struct lm_limits full = {
        .struct_size = sizeof full,
        .features = LM_SHAPE_UNEVEN_FF | LM_SHAPE_UNEVEN_HEADS | LM_SHAPE_NO_ATTN
                  | LM_SHAPE_NO_MLP | LM_SHAPE_ATTN_BIAS | LM_SHAPE_MLP_BIAS
                  | LM_SHAPE_FORMATS,
        .multiple = c ? (int32_t)c->block : 1,
    };
    enum lm_status s = gguf_dtype_check(f, dtype, e);
    if (s)
        return s;
    s = parent ? gguf_suitable(f, parent, e) : LM_OK;
    if (parent && gguf_needs_qwen3(f, parent))
        full.features = LM_SHAPE_FORMATS;
    lm_fill_struct(out, &full, sizeof full);
    return s;
}

static const struct lm_format ops = {
    .struct_size = sizeof ops,
    .suffix = ".gguf",
    .dtypes = LM_BIT(LM_F32) | LM_BIT(LM_F16) | LM_BIT(LM_BF16) | LM_BIT(LM_Q8_0)
            | LM_BIT(LM_Q4_0) | LM_BIT(LM_Q4_1),
    .probe = probe,
    .read = gguf_read,
    .limits = limits,
    .write = gguf_write,
};

static const struct lm_module module = {
    LM_MODULE_HEAD(FORMAT),
    .name = "gguf",
    .version = "0.1",
    .license = "Apache-2.0",
    .author = "the Lamina authors",
    .summary = "single model files of llama.cpp; uneven layers as architecture deci",
    .create = fmt_create,
    .destroy = fmt_destroy,
    .ops = &ops,
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
