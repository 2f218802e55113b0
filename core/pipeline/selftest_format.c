/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_format.c -- the contract of formats: limits make sense, what is
 * written is recognised and read back (bit for bit in f32, else within the
 * number format's own error), what is damaged is refused with a reason.      */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "model/codec.h"
#include "pipeline/selftest_kit.h"

enum { CUTS = 12, MOST_BYTES = 1 << 26 };

/* Removes what was written; s, or why that failed.  In a memory check it may be
 * what runs out, once. */
static enum lm_status clear(struct lm_kit *k, const char *path, enum lm_status s)
{
    struct lm_err e = { 0 }, again = { 0 };
    if (lm_remove_tree(path, &e) == LM_ENOMEM)
        lm_remove_tree(path, &again);
    if (!s && e.code)
        *k->e = e, s = e.code;
    return s;
}

static void place(const struct lm_kit *k, char *out, size_t n)
{
    const struct lm_format *ops = k->plugin->ops;
    snprintf(out, n, "%s/model%s", k->folder, ops->suffix);
}

static enum lm_status write_model(struct lm_kit *k, void *self, uint32_t dtype,
                                  const char *path)
{
    const struct lm_format *ops = k->plugin->ops;
    struct lm_export x = { .struct_size = sizeof x, .path = path, .dtype = dtype,
                           .card = "A model made by lamina selftest.\n" };
    return ops->write(self, k->model, &x, k->e);
}

static enum lm_status read_model(struct lm_kit *k, void *self, const char *path,
                                 struct lm_model **m)
{
    const struct lm_format *ops = k->plugin->ops;
    struct lm_builder *b;
    *m = NULL;
    enum lm_status s = lm_builder_open(path, &b, k->e);
    if (s)
        return s;
    if ((s = ops->read(self, path, b, k->e))) {
        lm_builder_abandon(b);
        return s;
    }
    return lm_builder_finish(b, m, k->e);
}

/* ---- limits and probe -------------------------------------------------------------- */

static enum lm_status check_limits(struct lm_kit *k)
{
    const struct lm_format *ops = k->plugin->ops;
    void *self;
    enum lm_status s = lm_kit_create(k, &self);
    for (uint32_t d = LM_F32; !s && d < LM_N_DTYPES; d++) {
        struct lm_limits l = { .struct_size = sizeof l };
        const char *name = lm_codec(d) ? lm_codec(d)->name : "?";
        enum lm_status got = ops->limits(self, NULL, d, &l, k->e);
        bool writes = ops->dtypes & LM_BIT(d);
        if (writes && got)
            s = lm_kit_failed(k, "limits() of a number format it declares", got);
        else if (!writes && !got)
            s = lm_broken(k, "limits() allows %s, which its `dtypes` do not declare",
                          name);
        else if (!got && (l.multiple < 0 || l.multiple > 1024))
            s = lm_broken(k, "limits() of %s wants widths in multiples of %d", name,
                          l.multiple);
        else if (!got && (l.struct_size > sizeof l || !l.struct_size))
            s = lm_broken(k, "limits() of %s sets struct_size to %u", name,
                          l.struct_size);
        *k->e = s ? *k->e : (struct lm_err){ 0 };
    }
    if (!s && (ops->probe(self, "/nowhere/at all") > 0 || ops->probe(self, "/") >= 50))
        s = lm_broken(k, "probe() claims what is no model");
    lm_kit_destroy(k, self);
    return s;
}

/* ---- there and back ---------------------------------------------------------------- */

static double worst(uint32_t dtype)     /* relative to the largest weight */
{
    return dtype == LM_F32 ? 0 : dtype == LM_F16 ? 1e-3 : dtype == LM_BF16 ? 1e-2
         : dtype == LM_Q8_0 ? 1e-2 : 0.15;
}

static enum lm_status compare_tensor(struct lm_kit *k, const struct lm_model *m,
                                     uint32_t role, int32_t layer, uint32_t dtype)
{
    const struct lm_tensor *a = lm_model_tensor(k->model, role, layer);
    const struct lm_tensor *b = lm_model_tensor(m, role, layer);
    const float *x, *y;
    double scale = 0, off = 0;
    enum lm_status s;
    if (!a != !b || (a && (a->rows != b->rows || a->cols != b->cols)))
        return lm_broken(k, "%s of layer %d is not there, or has another shape, after "
                         "writing and reading", lm_role_name(role), (int)layer);
    if (!a || (s = lm_model_floats(k->model, role, layer, &x, k->e)) ||
        (s = lm_model_floats(m, role, layer, &y, k->e)))
        return a ? s : LM_OK;
    for (int64_t i = 0; i < a->rows * a->cols; i++) {
        scale = fmax(scale, fabs((double)x[i]));
        off = fmax(off, fabs((double)(x[i] - y[i])));
    }
    return off <= worst(dtype) * scale
               ? LM_OK
               : lm_broken(k,
                           "%s of layer %d is off by %g after writing it as %s and "
                           "reading it",
                           lm_role_name(role), (int)layer, off, lm_codec(dtype)->name);
}

static enum lm_status compare(struct lm_kit *k, const struct lm_model *m, uint32_t dtype)
{
    const struct lm_arch *a = lm_model_arch(k->model), *b = lm_model_arch(m);
    if (a->n_layer != b->n_layer || a->hidden != b->hidden ||
        a->head_dim != b->head_dim || a->vocab != b->vocab || a->bos != b->bos ||
        a->eos != b->eos || a->tied != b->tied ||
        memcmp(a->layer, b->layer, (size_t)a->n_layer * sizeof *a->layer) ||
        fabs(a->rms_eps - b->rms_eps) > 1e-9 ||
        fabs(a->rope_theta - b->rope_theta) > 1e-3)
        return lm_broken(k, "the architecture is another one after writing and reading");
    enum lm_status s = LM_OK;
    for (int32_t layer = -1; !s && layer < a->n_layer; layer++)
        for (uint32_t role = LM_W_EMBED; !s && role < LM_N_ROLES; role++)
            if (lm_role_is_layer(role) == (layer >= 0))
                s = compare_tensor(k, m, role, layer, dtype);
    return s;
}

static enum lm_status there_and_back(struct lm_kit *k, void *self, uint32_t dtype,
                                     const char *path)
{
    const struct lm_format *ops = k->plugin->ops;
    struct lm_model *m = NULL;
    enum lm_status s = write_model(k, self, dtype, path);
    if (s)
        return lm_kit_failed(k, "write()", s);
    if (ops->probe(self, path) <= 0)
        return lm_broken(k, "probe() does not know what write() wrote");
    if ((s = read_model(k, self, path, &m)))
        return lm_kit_failed(k, "read() of what write() wrote", s);
    s = compare(k, m, dtype);
    lm_model_free(m);
    return s;
}

static enum lm_status check_round_trip(struct lm_kit *k)
{
    const struct lm_format *ops = k->plugin->ops;
    char path[4096];
    void *self;
    enum lm_status s = lm_kit_create(k, &self);
    place(k, path, sizeof path);
    for (uint32_t d = LM_F32; !s && d < LM_N_DTYPES; d++)
        if (ops->dtypes & LM_BIT(d)) {
            s = there_and_back(k, self, d, path);
            s = clear(k, path, s);
        }
    lm_kit_destroy(k, self);
    return s;
}

/* Two matrices keep their f32 while the rest is written in f16. */
static enum lm_status own_formats(struct lm_kit *k, void *self, const char *path)
{
    const struct lm_format *ops = k->plugin->ops;
    static uint32_t own[64 * LM_N_ROLES];       /* the model has fewer layers */
    static const uint32_t role[] = { LM_W_Q, LM_W_DOWN };
    struct lm_export x = { .struct_size = sizeof x, .path = path, .dtype = LM_F16,
                           .card = "", .own = own };
    struct lm_model *m = NULL;
    for (uint32_t i = 0; i < 2; i++)
        own[(i + 1) * LM_N_ROLES + role[i]] = LM_F32;
    enum lm_status s = ops->write(self, k->model, &x, k->e);
    if (s)
        return lm_kit_failed(k, "write() with number formats of their own", s);
    if ((s = read_model(k, self, path, &m)))
        return lm_kit_failed(k, "read() of what write() wrote", s);
    for (uint32_t i = 0; !s && i < 2; i++)
        s = compare_tensor(k, m, role[i], (int32_t)i + 1, LM_F32);
    if (!s && (lm_model_tensor(m, LM_W_Q, 2)->dtype != LM_F16 ||
               lm_model_tensor(m, LM_W_Q, 1)->dtype != LM_F32))
        s = lm_broken(k, "write() gives matrices that `own` does not name another number "
                      "format than `dtype`");
    lm_model_free(m);
    return s;
}

static enum lm_status check_own(struct lm_kit *k)
{
    const struct lm_format *ops = k->plugin->ops;
    struct lm_limits l = { .struct_size = sizeof l };
    char path[4096];
    void *self;
    enum lm_status s = lm_kit_create(k, &self);
    place(k, path, sizeof path);
    if (!s && (ops->dtypes & LM_BIT(LM_F16)) && (ops->dtypes & LM_BIT(LM_F32)) &&
        !ops->limits(self, k->model, LM_F16, &l, k->e) && (l.features & LM_SHAPE_FORMATS))
        s = clear(k, path, own_formats(k, self, path));
    lm_kit_destroy(k, self);
    return s;
}

/* ---- damage ------------------------------------------------------------------------ */

/* The largest file of what was written, cut off at CUTS places. */
static enum lm_status cut(struct lm_kit *k, void *self, const char *path,
                          const char *file)
{
    char *data;
    size_t n;
    enum lm_status s = lm_read_file(file, MOST_BYTES, &data, &n, k->e);
    for (size_t i = 0; !s && i < CUTS; i++) {
        struct lm_model *m = NULL;
        size_t left = i < 4 ? i * 7 : n * (i - 3) / (CUTS - 2);
        if ((s = lm_write_file(file, data, left, k->e)))
            break;
        enum lm_status got = read_model(k, self, path, &m);
        if (!got)
            s = lm_broken(k, "read() takes a file that ends after %zu of %zu bytes",
                          left, n);
        else if (got != LM_EINPUT || !k->e->text[0])
            s = lm_kit_failed(k, "read() of a file that is cut off (LM_EINPUT was due)",
                              got);
        else
            *k->e = (struct lm_err){ 0 };
        lm_model_free(m);
    }
    lm_release(data);
    return s;
}

/* Where a file stands in the way of a folder. */
static enum lm_status write_nowhere(struct lm_kit *k, void *self, uint32_t dtype)
{
    char file[4096], path[4200];
    if (!lm_path_join(file, sizeof file, k->folder, "file") ||
        !lm_path_join(path, sizeof path, file, "model"))
        return lm_fail(k->e, LM_EFAILED, "the path is too long");
    enum lm_status s = lm_write_file(file, "x", 1, k->e);
    if (!s && !write_model(k, self, dtype, path))
        s = lm_broken(k, "write() to a place where nothing can be reports success");
    *k->e = s ? *k->e : (struct lm_err){ 0 };
    return clear(k, file, s);
}

static enum lm_status check_damage(struct lm_kit *k)
{
    const struct lm_format *ops = k->plugin->ops;
    char path[4000], file[4200], **name = NULL;
    size_t n = 0, most = 0;
    void *self;
    uint32_t dtype = LM_F32;
    while (dtype < LM_N_DTYPES && !(ops->dtypes & LM_BIT(dtype)))
        dtype++;
    enum lm_status s = dtype == LM_N_DTYPES ? LM_EUNSUPPORTED : lm_kit_create(k, &self);
    if (s)
        return s == LM_EUNSUPPORTED ? LM_OK : s;        /* a format that only reads */
    place(k, path, sizeof path);
    snprintf(file, sizeof file, "%s", path);
    if ((s = write_model(k, self, dtype, path)))
        s = lm_kit_failed(k, "write()", s);
    if (!s && lm_is_folder(path) && !(s = lm_list_folder(path, &name, &n, k->e)))
        for (size_t i = 0; i < n; i++) {
            char at[4200];
            if (lm_path_join(at, sizeof at, path, name[i]) &&
                lm_file_size(at) > (int64_t)most) {
                most = (size_t)lm_file_size(at);
                snprintf(file, sizeof file, "%s", at);
            }
        }
    lm_free_names(name, n);
    if (!s)
        s = cut(k, self, path, file);
    s = clear(k, path, s);
    if (!s)
        s = write_nowhere(k, self, dtype);
    lm_kit_destroy(k, self);
    return s;
}

/* ---- memory ------------------------------------------------------------------------ */

static enum lm_status live_poorly(void *ctx)
{
    struct lm_kit *k = ctx;
    const struct lm_format *ops = k->plugin->ops;
    struct lm_model *m = NULL;
    char path[4096];
    void *self;
    enum lm_status s = lm_kit_try(k, &self);
    if (s)
        return s;
    place(k, path, sizeof path);
    if (!(s = write_model(k, self, ops->dtypes & LM_BIT(LM_F16) ? LM_F16 : LM_F32, path)))
        s = read_model(k, self, path, &m);
    lm_model_free(m);
    s = clear(k, path, s);
    lm_kit_destroy(k, self);
    return s;
}

static enum lm_status check_memory(struct lm_kit *k)
{
    const struct lm_format *ops = k->plugin->ops;
    return ops->dtypes & (LM_BIT(LM_F16) | LM_BIT(LM_F32))
               ? lm_kit_memory(k, live_poorly, k)
               : LM_OK;
}

const struct lm_kit_check lm_selftest_format[] = {
    { "limits() and probe()", check_limits, false },
    { "writing and reading", check_round_trip, false },
    { "number formats of their own", check_own, false },
    { "damaged files", check_damage, false },
    { "work without memory", check_memory, false },
    { NULL, NULL, false }
};
