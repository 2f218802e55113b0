/* SPDX-License-Identifier: Apache-2.0 */
/* hf -- reads and writes model folders in the form of Hugging Face:
 * config.json, model.safetensors (or shards with an index), tokenizer.json and
 * its companions.  Models of the families llama, mistral, qwen2 and qwen3; where
 * layers differ, as model type lamina with a modelling file of ours, or filled up
 * with zeros.  The weights stay mapped.
 *
 * Nothing in a folder is ever executed; auto_map is ignored.                   */
#include "hf.h"

static int probe(void *self, const char *path)
{
    const struct fmt *f = self;
    char p[FMT_PATH];
    if (!fmt_path(p, path, "config.json") || !f->h->file_exists(p))
        return 0;
    if (fmt_path(p, path, "model.safetensors") && f->h->file_exists(p))
        return 100;
    if (fmt_path(p, path, "model.safetensors.index.json") && f->h->file_exists(p))
        return 100;
    return 60;
}

enum lm_status hf_doc_open(const struct fmt *f, const char *folder, const char *name,
                           bool optional, struct hf_doc *d, struct lm_err *e)
{
    char *text = NULL;
    size_t n = 0;
    d->root = NULL;
    if (!fmt_path(d->path, folder, name))
        return f->h->fail(e, LM_EINPUT, "%s: path too long", folder);
    if (optional && !f->h->file_exists(d->path))
        return LM_OK;
    enum lm_status s = f->h->read_file(d->path, HF_MAX_JSON, &text, &n, e);
    if (s)
        return s;
    s = f->h->json->parse(text, n, d->path, &d->root, e);
    f->h->release(text);
    if (!s && f->h->json->type(d->root) != 'o')
        s = f->h->fail(e, LM_EINPUT, "%s: expected a JSON object", d->path);
    return s;
}

void hf_doc_close(const struct fmt *f, struct hf_doc *d)
{
    if (d->root)
        f->h->json->close(d->root);
    d->root = NULL;
}

bool hf_number(const struct lm_host *h, const struct lm_json *node, double *out)
{
    int64_t i;
    if (h->json->integer(node, &i)) {
        *out = (double)i;
        return true;
    }
    return h->json->real(node, out) && isfinite(*out);
}

/* The ids in it were read by hf_tokenizer_ids(), so it is JSON. */
static enum lm_status generation(const struct fmt *f, const char *folder,
                                 struct hf_config *c, struct lm_err *e)
{
    char path[FMT_PATH];
    size_t n;
    if (!fmt_path(path, folder, "generation_config.json") || !f->h->file_exists(path))
        return LM_OK;
    enum lm_status s = f->h->read_file(path, HF_MAX_GENERATION, &c->generation, &n, e);
    c->arch.generation = c->generation;
    return s;
}

static enum lm_status give(const struct fmt *f, const char *path, struct hf_config *c,
                           const struct hf_weights *w, const struct hf_tokenizer *t,
                           struct lm_builder *b, struct lm_err *e)
{
    c->arch.tied = c->tie || !hf_weights_have(w, "lm_head.weight");
    enum lm_status s = hf_tokenizer_ids(f, path, t, c, e);
    if (!s)
        s = generation(f, path, c, e);
    if (!s)
        s = f->h->set_arch(b, &c->arch, e);
    if (!s)
        s = hf_weights_add(f, w, c, b, e);
    if (!s && t->vocabulary.n_token)
        s = f->h->set_vocabulary(b, &t->vocabulary, e);
    return s;
}

/* The objects hold a few long paths, too much for the stack of a worker. */
struct reading {
    struct hf_config config;
    struct hf_weights weights;
    struct hf_tokenizer tokenizer;
};

static enum lm_status hf_read(void *self, const char *path, struct lm_builder *b,
                              struct lm_err *e)
{
    struct fmt *f = self;
    struct reading *r = f->h->alloc(sizeof *r, "hf");
    if (!r)
        return f->h->fail(e, LM_ENOMEM, "out of memory for reading %s", path);
    enum lm_status s = hf_config_open(f, path, &r->config, e);
    if (!s)
        s = hf_weights_open(f, path, b, &r->weights, e);
    if (!s)
        s = hf_tokenizer_open(f, path, r->config.arch.vocab, &r->tokenizer, e);
    if (!s)
        s = give(f, path, &r->config, &r->weights, &r->tokenizer, b, e);
    hf_tokenizer_close(f, &r->tokenizer);
    hf_weights_close(f, &r->weights);
    hf_config_close(f, &r->config);
    f->h->release(r);
    return s;
}

enum lm_status hf_dtype_check(const struct fmt *f, uint32_t dtype, struct lm_err *e)
{
    if (!dtype || dtype == LM_F32 || dtype == LM_F16 || dtype == LM_BF16)
        return LM_OK;
    return f->h->fail(e, LM_EUNSUPPORTED,
                      "format hf writes f32, f16 and bf16 only; take gguf");
}

static enum lm_status limits(void *self, const struct lm_model *parent, uint32_t dtype,
                             struct lm_limits *out, struct lm_err *e)
{
    const struct fmt *f = self;
    enum lm_status s = hf_dtype_check(f, dtype, e);
    if (s)
        return s;
    const struct hf_options *o = f->config;
    struct lm_limits full = {
        .struct_size = sizeof full, .multiple = 1,
        .features = LM_SHAPE_UNEVEN_FF | LM_SHAPE_UNEVEN_HEADS | LM_SHAPE_NO_ATTN
                  | LM_SHAPE_NO_MLP | LM_SHAPE_ATTN_BIAS | LM_SHAPE_MLP_BIAS,
    };
    for (int32_t l = 0; o && o->pad && parent && l < f->h->arch(parent)->n_layer; l++)
        if (f->h->tensor(parent, LM_W_Q_NORM, l))       /* qwen3 has no mlp_bias */
            full.features &= ~(uint64_t)LM_SHAPE_MLP_BIAS;
    lm_fill_struct(out, &full, sizeof full);
    return LM_OK;
}

static const struct lm_opt options[] = {
    LM_FLAG(struct hf_options, pad, "false", 0, "Fill layers that differ up with zeros "
            "to a stock model, which is as large and as slow as its largest layers make "
            "it."),
    LM_OPT_END
};

static const struct lm_format ops = {
    .struct_size = sizeof ops,
    .suffix = "",
    .dtypes = LM_BIT(LM_F32) | LM_BIT(LM_F16) | LM_BIT(LM_BF16),
    .probe = probe,
    .read = hf_read,
    .limits = limits,
    .write = hf_write,
};

static const struct lm_module module = {
    LM_MODULE_HEAD(FORMAT),
    .name = "hf",
    .version = "0.1",
    .license = "Apache-2.0",
    .author = "the Lamina authors",
    .summary = "model folders of Hugging Face: config.json, safetensors, tokenizer.json",
    .opt = options,
    .config_size = sizeof(struct hf_options),
    .create = fmt_create,
    .destroy = fmt_destroy,
    .ops = &ops,
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
