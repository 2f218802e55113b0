/* SPDX-License-Identifier: Apache-2.0 */
/* hf_weights.c -- safetensors files -> tensors.
 *
 * A file is a 64-bit length, a JSON header of that length and the data:
 *   { "NAME": { "dtype": "F16", "shape": [r, c], "data_offsets": [b, e] }, ... }
 * Nothing in it is believed: the header fits into the file, every pair of
 * offsets lies inside the data and is as long as dtype and shape say, and the
 * tensors fill the data without gap or overlap, as the format demands (which
 * finds truncated and spliced files).  Data is used where it is mapped.        */
#include "hf.h"

enum { MAX_SHARDS = 2000 };

static const struct { const char *name; uint32_t dtype; int64_t bytes; } known[] = {
    { "F32", LM_F32, 4 }, { "F16", LM_F16, 2 }, { "BF16", LM_BF16, 2 },
};

/* behind "model.layers.N." */
static const struct { const char *name; uint32_t role; } suffix[] = {
    { "input_layernorm.weight", LM_W_ATTN_NORM },
    { "self_attn.q_proj.weight", LM_W_Q }, { "self_attn.k_proj.weight", LM_W_K },
    { "self_attn.v_proj.weight", LM_W_V }, { "self_attn.o_proj.weight", LM_W_O },
    { "post_attention_layernorm.weight", LM_W_MLP_NORM },
    { "mlp.gate_proj.weight", LM_W_GATE }, { "mlp.up_proj.weight", LM_W_UP },
    { "mlp.down_proj.weight", LM_W_DOWN },
    { "self_attn.q_proj.bias", LM_B_Q }, { "self_attn.k_proj.bias", LM_B_K },
    { "self_attn.v_proj.bias", LM_B_V }, { "self_attn.o_proj.bias", LM_B_O },
    { "mlp.gate_proj.bias", LM_B_GATE }, { "mlp.up_proj.bias", LM_B_UP },
    { "mlp.down_proj.bias", LM_B_DOWN },
    { "self_attn.q_norm.weight", LM_W_Q_NORM },
    { "self_attn.k_norm.weight", LM_W_K_NORM },
};
static const struct { const char *name; uint32_t role; } whole[] = {
    { "model.embed_tokens.weight", LM_W_EMBED }, { "lm_head.weight", LM_W_HEAD },
    { "model.norm.weight", LM_W_FINAL_NORM },
};
enum {
    N_SUFFIX = sizeof suffix / sizeof *suffix, N_WHOLE = sizeof whole / sizeof *whole
};

bool hf_role_name(uint32_t role, int32_t layer, char *out, size_t n)
{
    for (size_t i = 0; i < N_WHOLE; i++)
        if (whole[i].role == role)
            return snprintf(out, n, "%s", whole[i].name) < (int)n;
    for (size_t i = 0; i < N_SUFFIX; i++)
        if (suffix[i].role == role)
            return snprintf(out, n, "model.layers.%d.%s", (int)layer, suffix[i].name)
                < (int)n;
    return false;
}

/* 0: no such name; layer -1 for tensors of the whole model */
static uint32_t role_of(const char *name, int32_t n_layer, int32_t *layer)
{
    static const char prefix[] = "model.layers.";
    *layer = -1;
    for (size_t i = 0; i < N_WHOLE; i++)
        if (!strcmp(whole[i].name, name))
            return whole[i].role;
    if (strncmp(name, prefix, sizeof prefix - 1))
        return 0;
    const char *p = name + sizeof prefix - 1;
    int64_t k = 0;
    if (*p < '0' || *p > '9' || (*p == '0' && p[1] != '.'))
        return 0;
    for (; *p >= '0' && *p <= '9'; p++)
        if ((k = k * 10 + (*p - '0')) >= n_layer)
            return 0;
    if (*p++ != '.')
        return 0;
    *layer = (int32_t)k;
    for (size_t i = 0; i < N_SUFFIX; i++)
        if (!strcmp(suffix[i].name, p))
            return suffix[i].role;
    return 0;
}

/* buffers that old checkpoints carry along */
static bool ignored(const char *name)
{
    static const char tail[] = "rotary_emb.inv_freq";
    size_t n = strlen(name), k = sizeof tail - 1;
    return n >= k && !strcmp(name + n - k, tail);
}

/* one tensor of a header; data: what lies behind the header */
static enum lm_status parse_tensor(const struct fmt *f, const struct lm_json *node,
                                   const char *data, uint64_t n_data,
                                   struct hf_entry *t, struct fmt_span *span,
                                   struct lm_err *e)
{
    const struct lm_json_api *j = f->h->json;
    const struct lm_json *shape = j->get(node, "shape");
    const struct lm_json *offset = j->get(node, "data_offsets");
    const char *dtype = j->type(node) == 'o' ? j->string(j->get(node, "dtype")) : NULL;
    int64_t begin, end, size[2] = { 1, 1 };
    size_t dims = j->type(shape) == 'a' ? j->size(shape) : SIZE_MAX, k = 0;
    if (!dtype || dims == SIZE_MAX || j->type(offset) != 'a' || j->size(offset) != 2)
        return f->h->fail(e, LM_EINPUT, "%s: tensor '%s' lacks dtype, shape or "
                          "data_offsets", t->file, t->name);
    if (!j->integer(j->at(offset, 0), &begin) || !j->integer(j->at(offset, 1), &end)
        || begin < 0 || end < begin || (uint64_t)end > n_data)
        return f->h->fail(e, LM_EINPUT, "%s: data of tensor '%s' lie outside the file",
                          t->file, t->name);
    *span = (struct fmt_span){ (uint64_t)begin, (uint64_t)end, t->name };
    if (ignored(t->name))
        return LM_OK;
    while (k < sizeof known / sizeof *known && strcmp(known[k].name, dtype))
        k++;
    if (k == sizeof known / sizeof *known)
        return f->h->fail(e, LM_EINPUT, "%s: tensor '%s' has dtype '%s', which is not "
                          "supported, only F32, F16 and BF16", t->file, t->name, dtype);
    if (dims < 1 || dims > 2)
        return f->h->fail(e, LM_EINPUT, "%s: tensor '%s' has %zu dimensions, not 1 or 2",
                          t->file, t->name, dims);
    for (size_t i = 0; i < dims; i++)
        if (!j->integer(j->at(shape, i), &size[2 - dims + i])
            || size[2 - dims + i] < 1)
            return f->h->fail(e, LM_EINPUT, "%s: shape of tensor '%s' is damaged",
                              t->file, t->name);
    int64_t bytes;
    if (__builtin_mul_overflow(size[0], size[1], &bytes)
        || __builtin_mul_overflow(bytes, known[k].bytes, &bytes) || bytes != end - begin)
        return f->h->fail(e, LM_EINPUT, "%s: tensor '%s' is %lld x %lld of %s but has "
                          "%lld bytes", t->file, t->name, (long long)size[0],
                          (long long)size[1], dtype, (long long)(end - begin));
    t->tensor = (struct lm_tensor){ data + begin, size[0], size[1], known[k].dtype, 0 };
    return LM_OK;
}

static enum lm_status covered(const struct fmt *f, const char *path,
                              struct fmt_span *span, size_t n, uint64_t n_data,
                              struct lm_err *e)
{
    const struct fmt_span *twice = fmt_overlap(span, n);
    uint64_t at = 0;
    if (twice)
        return f->h->fail(e, LM_EINPUT, "%s: data of tensor '%s' overlap another's",
                          path, twice->name);
    for (size_t i = 0; i < n; i++) {
        if (span[i].begin != at)
            return f->h->fail(e, LM_EINPUT, "%s: %llu bytes in front of tensor '%s' "
                              "belong to nothing; the file is damaged", path,
                              (unsigned long long)(span[i].begin - at), span[i].name);
        at = span[i].end;
    }
    if (at != n_data)
        return f->h->fail(e, LM_EINPUT, "%s: %llu bytes at the end belong to nothing; "
                          "the file is damaged", path,
                          (unsigned long long)(n_data - at));
    return LM_OK;
}

static enum lm_status parse_header(const struct fmt *f, const struct hf_doc *d,
                                   const char *data, uint64_t n_data,
                                   struct hf_weights *w, struct fmt_span *span,
                                   struct lm_err *e)
{
    size_t n = f->h->json->size(d->root), k = 0;
    enum lm_status s = LM_OK;
    for (size_t i = 0; i < n && !s; i++) {
        struct hf_entry *t = &w->entry[w->n];
        const struct lm_json *node = f->h->json->member(d->root, i, &t->name);
        if (!strcmp(t->name, "__metadata__"))
            continue;
        t->file = d->path;
        s = parse_tensor(f, node, data, n_data, t, &span[k++], e);
        if (!s && t->tensor.data)
            w->n++;
    }
    return s ? s : covered(f, d->path, span, k, n_data, e);
}

static enum lm_status grow(const struct fmt *f, struct hf_weights *w, size_t more,
                           struct lm_err *e)
{
    if (w->cap - w->n >= more)
        return LM_OK;
    size_t cap = w->n + more;
    struct hf_entry *p = f->h->alloc(cap * sizeof *p, "hf");    /* zeroed */
    if (!p)
        return f->h->fail(e, LM_ENOMEM, "out of memory for a list of tensors");
    if (w->n)
        memcpy(p, w->entry, w->n * sizeof *p);
    f->h->release(w->entry);
    w->entry = p;
    w->cap = cap;
    return LM_OK;
}

static enum lm_status open_file(const struct fmt *f, const char *folder,
                                const char *name, struct lm_builder *b,
                                struct hf_weights *w, struct lm_err *e)
{
    struct hf_doc *d = &w->header[w->n_file];
    const void *map = NULL;
    size_t n = 0;
    uint64_t length = 0;
    if (!fmt_path(d->path, folder, name))
        return f->h->fail(e, LM_EINPUT, "%s: path too long", folder);
    enum lm_status s = f->h->map_file(b, d->path, &map, &n, e);
    if (s)
        return s;
    for (size_t i = 0; i < 8 && n >= 8; i++)
        length |= (uint64_t)((const unsigned char *)map)[i] << 8 * i;
    if (n < 8 || length > n - 8 || length < 2)
        return f->h->fail(e, LM_EINPUT, "%s: is no safetensors file or truncated "
                          "(header of %llu bytes in a file of %zu)", d->path,
                          (unsigned long long)length, n);
    if (length > HF_MAX_HEADER)
        return f->h->fail(e, LM_EINPUT, "%s: the header has %llu bytes; the format "
                          "allows %d", d->path, (unsigned long long)length,
                          HF_MAX_HEADER);
    w->n_file++;
    const char *text = (const char *)map + 8;
    s = f->h->json->parse(text, (size_t)length, d->path, &d->root, e);
    if (s)
        return s;
    if (f->h->json->type(d->root) != 'o')
        return f->h->fail(e, LM_EINPUT, "%s: the header is no JSON object", d->path);
    size_t members = f->h->json->size(d->root);
    s = grow(f, w, members + 1, e);
    if (s)
        return s;
    struct fmt_span *span = f->h->alloc((members + 1) * sizeof *span, "hf");
    if (!span)
        return f->h->fail(e, LM_ENOMEM, "out of memory for reading %s", d->path);
    s = parse_header(f, d, text + length, n - 8 - length, w, span, e);
    f->h->release(span);
    return s;
}

/* A shard lies in the folder itself. */
static bool plain_name(const char *s)
{
    return s && *s && *s != '.' && !strchr(s, '/') && strlen(s) < 256;
}

static const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* the header of a shard that was opened, or n_file */
static size_t shard(const struct hf_weights *w, const char *name)
{
    size_t k = 0;
    while (k < w->n_file && strcmp(file_name(w->header[k].path), name))
        k++;
    return k;
}

/* every tensor of the shards is where the index says, and none is missing */
static enum lm_status check_index(const struct fmt *f, const struct lm_json *map,
                                  const struct hf_weights *w, struct lm_err *e)
{
    const struct lm_json_api *j = f->h->json;
    for (size_t i = 0; i < w->n; i++) {
        const struct hf_entry *t = &w->entry[i];
        const char *file = j->string(j->get(map, t->name));
        if (!file)
            return f->h->fail(e, LM_EINPUT, "%s: tensor '%s' of '%s' is not listed",
                              w->index.path, t->name, file_name(t->file));
        if (strcmp(file, file_name(t->file)))
            return f->h->fail(e, LM_EINPUT, "%s: tensor '%s' is listed in '%s', but '%s' "
                              "has one of this name", w->index.path, t->name, file,
                              file_name(t->file));
    }
    for (size_t i = 0; i < j->size(map); i++) {
        const char *key = NULL, *file = j->string(j->member(map, i, &key));
        if (!j->get(w->header[shard(w, file)].root, key))
            return f->h->fail(e, LM_EINPUT, "%s: tensor '%s' is listed in '%s', which "
                              "has none of this name", w->index.path, key, file);
    }
    return LM_OK;
}

/* all files that the index names, each once */
static enum lm_status open_shards(const struct fmt *f, const char *folder,
                                  struct lm_builder *b, struct hf_weights *w,
                                  struct lm_err *e)
{
    const struct lm_json_api *j = f->h->json;
    const struct lm_json *map = j->get(w->index.root, "weight_map");
    enum lm_status s = LM_OK;
    if (j->type(map) != 'o')
        return f->h->fail(e, LM_EINPUT, "%s: 'weight_map' is missing", w->index.path);
    w->header = f->h->alloc(MAX_SHARDS * sizeof *w->header, "hf");
    if (!w->header)
        return f->h->fail(e, LM_ENOMEM, "out of memory for reading %s", w->index.path);
    for (size_t i = 0, n = j->size(map); i < n && !s; i++) {
        const char *key = NULL, *file = j->string(j->member(map, i, &key));
        if (!plain_name(file))
            return f->h->fail(e, LM_EINPUT, "%s: '%s' has no plain file name",
                              w->index.path, key);
        if (shard(w, file) < w->n_file)
            continue;
        if (w->n_file == MAX_SHARDS)
            return f->h->fail(e, LM_EINPUT, "%s: more than %d files", w->index.path,
                              MAX_SHARDS);
        char path[FMT_PATH];
        if (fmt_path(path, folder, file) && !f->h->file_exists(path))
            return f->h->fail(e, LM_EINPUT, "%s: no such file, but %s lists it", path,
                              w->index.path);
        s = open_file(f, folder, file, b, w, e);
    }
    return s ? s : check_index(f, map, w, e);
}

enum lm_status hf_weights_open(const struct fmt *f, const char *folder,
                               struct lm_builder *b, struct hf_weights *w,
                               struct lm_err *e)
{
    char path[FMT_PATH];
    if (fmt_path(path, folder, "model.safetensors") && f->h->file_exists(path)) {
        w->header = f->h->alloc(sizeof *w->header, "hf");
        if (!w->header)
            return f->h->fail(e, LM_ENOMEM, "out of memory for reading %s", path);
        return open_file(f, folder, "model.safetensors", b, w, e);
    }
    enum lm_status s = hf_doc_open(f, folder, "model.safetensors.index.json", true,
                                   &w->index, e);
    if (s)
        return s;
    if (w->index.root)
        return open_shards(f, folder, b, w, e);
    bool pickle = fmt_path(path, folder, "pytorch_model.bin") && f->h->file_exists(path);
    return f->h->fail(e, LM_EINPUT, "%s: no model.safetensors and no "
                      "model.safetensors.index.json%s", folder,
                      pickle ? "; pytorch_model.bin is not read, convert it" : "");
}

bool hf_weights_have(const struct hf_weights *w, const char *name)
{
    for (size_t i = 0; i < w->n; i++)
        if (!strcmp(w->entry[i].name, name))
            return true;
    return false;
}

/* Biases and norms of q and k are there just where config.json says so: else
 * transformers would pass over them, or make some up.  have: LM_BIT(role) of each
 * layer.                                                                       */
static enum lm_status check_extra(const struct fmt *f, const struct hf_config *c,
                                  const uint64_t *have, struct lm_err *e)
{
    for (int32_t l = 0; l < c->arch.n_layer; l++)
        for (uint32_t r = LM_B_Q; r <= LM_W_K_NORM; r++) {
            bool want = (c->extra & LM_BIT(r)) && hf_role_block(r, &c->layer[l]);
            char name[128];
            if (want == !!(have[l] & LM_BIT(r)))
                continue;
            hf_role_name(r, l, name, sizeof name);
            return f->h->fail(e, LM_EINPUT, want ? "%s: a %s model of "
                              "these settings has a tensor '%s', but it is missing"
                              : "%s: a %s model of these settings has no tensor '%s', "
                              "but it is there", c->doc.path, c->arch.family, name);
        }
    return LM_OK;
}

enum lm_status hf_weights_add(const struct fmt *f, const struct hf_weights *w,
                              const struct hf_config *c, struct lm_builder *b,
                              struct lm_err *e)
{
    const struct lm_arch *a = &c->arch;
    uint64_t *have = f->h->alloc((size_t)a->n_layer * sizeof *have, "hf");
    if (!have)
        return f->h->fail(e, LM_ENOMEM, "out of memory for a list of tensors");
    enum lm_status s = LM_OK;
    for (size_t i = 0; i < w->n && !s; i++) {
        const struct hf_entry *t = &w->entry[i];
        int32_t layer;
        uint32_t role = role_of(t->name, a->n_layer, &layer);
        if (layer >= 0)
            have[layer] |= LM_BIT(role);
        if (!role)
            s = f->h->fail(e, LM_EINPUT, "%s: tensor '%s' belongs to no part of a %s "
                           "model of %d layers", t->file, t->name, a->family,
                           (int)a->n_layer);
        else if (role != LM_W_HEAD || !a->tied)
            s = f->h->add_tensor(b, role, layer, &t->tensor, t->name, e);
    }
    if (!s)
        s = check_extra(f, c, have, e);
    f->h->release(have);
    return s;
}

void hf_weights_close(const struct fmt *f, struct hf_weights *w)
{
    for (size_t i = 0; i < w->n_file; i++)
        hf_doc_close(f, &w->header[i]);
    hf_doc_close(f, &w->index);
    f->h->release(w->header);
    f->h->release(w->entry);
    *w = (struct hf_weights){ 0 };
}
