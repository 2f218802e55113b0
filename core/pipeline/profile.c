/* SPDX-License-Identifier: Apache-2.0 */
/* profile.c -- see profile.h. */
#include "pipeline/profile.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "model/codec.h"
#include "pipeline/host.h"
#include "plan/plan.h"

/* ---- what is measured ------------------------------------------------------------- */

/* Of a device with memory of its own nobody tells: as much as the largest GPUs have. */
static size_t last_level_cache(const struct lm_backend *ops)
{
    enum { USUAL = 32 << 20, DEVICE = 128 << 20 };
    long n = 0;                         /* or the system does not tell */
    if (ops->use)
        return DEVICE;
#ifdef _SC_LEVEL3_CACHE_SIZE
    n = sysconf(_SC_LEVEL3_CACHE_SIZE);
#endif
    return n > USUAL ? (size_t)n : USUAL;
}

/* Once, if the backend reads it: all others are floats when they are run. */
static void add_format(const struct lm_bench *b, uint32_t dtype, uint32_t *out, size_t *n)
{
    for (size_t i = 0; i < *n; i++)
        if (out[i] == dtype)
            return;
    if (dtype != LM_F32 && lm_engine_reads(b->engine, dtype))
        out[(*n)++] = dtype;
}

static enum lm_status add_named(const struct lm_bench *b, const char *list, uint32_t *out,
                                size_t *n, struct lm_err *e)
{
    for (const char *p = list; p && *p;) {
        char name[16];
        size_t len = strcspn(p, ",");
        uint32_t dtype;

        snprintf(name, sizeof name, "%.*s", (int)len, p);
        enum lm_status st = lm_dtype_find(name, &dtype, e);
        if (st)
            return st;
        if (dtype != LM_F32 && !lm_engine_reads(b->engine, dtype))
            return lm_fail(e, LM_EUNSUPPORTED, "this backend does not read weights in "
                           "%s; leave it out: they are floats when they are run", name);
        add_format(b, dtype, out, n);
        p += len + (p[len] == ',');
    }
    return LM_OK;
}

static void add_own(const struct lm_bench *b, uint32_t *out, size_t *n)
{
    const struct lm_arch *a = lm_model_arch(b->model);

    for (uint32_t role = 1; role < LM_N_ROLES; role++)
        for (int32_t i = -1; lm_role_is_matrix(role) && i < a->n_layer; i++) {
            const struct lm_tensor *t = lm_role_is_layer(role) == (i >= 0)
                ? lm_model_tensor(b->model, role, i) : NULL;

            if (t)
                add_format(b, t->dtype, out, n);
        }
}

/* ---- the table -------------------------------------------------------------------- */

static const char *op_name(const struct lm_use *u)
{
    static const char *const name[] = {
        [0] = "run", [LM_OP_EMBED] = "embed", [LM_OP_RMSNORM] = "rmsnorm",
        [LM_OP_LINEAR] = "linear", [LM_OP_ROPE_KV] = "rope_kv",
        [LM_OP_ATTENTION] = "attention", [LM_OP_SILU_MUL] = "silu_mul",
        [LM_OP_ADD] = "add", [LM_OP_LOGITS] = "logits" };

    return u->code == LM_OP_RMSNORM && u->n_head ? "head_norm" : name[u->code];
}

static void put_string(struct lm_jsonw *w, const char *key, const char *v)
{
    lm_jsonw_key(w, key);
    lm_jsonw_string(w, v);
}

static void put_int(struct lm_jsonw *w, const char *key, int64_t v)
{
    lm_jsonw_key(w, key);
    lm_jsonw_int(w, v);
}

/* Microseconds, to the tenth of a nanosecond. */
static void put_times(struct lm_jsonw *w, const char *key, const double *v, size_t n)
{
    lm_jsonw_key(w, key);
    lm_jsonw_begin(w, '[');
    for (size_t i = 0; i < n; i++)
        lm_jsonw_real(w, (double)(int64_t)(v[i] * 1e10 + 0.5) / 1e4);
    lm_jsonw_end(w, ']');
}

static void put_grid(struct lm_jsonw *w, const struct lm_profile_grid *g)
{
    const struct lm_use *u = &g->use;
    const char *axis[2];
    size_t n = 1;

    lm_profile_axes(u, axis);
    lm_jsonw_begin(w, '{');
    put_string(w, "op", op_name(u));
    put_int(w, "rows", u->rows);
    if (u->code == LM_OP_ATTENTION)
        put_int(w, "pos", u->pos);
    if (u->dtype)
        put_string(w, "format", lm_codec(u->dtype)->name);
    if (u->code == LM_OP_LINEAR) {
        lm_jsonw_key(w, "adds");
        lm_jsonw_bool(w, u->flags & LM_OPF_ACC);
        lm_jsonw_key(w, "again");
        lm_jsonw_bool(w, u->again);
    }
    lm_jsonw_key(w, "axes");
    lm_jsonw_begin(w, '{');
    for (int i = 0; i < 2 && axis[i]; i++) {
        lm_jsonw_key(w, axis[i]);
        lm_jsonw_begin(w, '[');
        for (size_t k = 0; k < g->n[i]; k++)
            lm_jsonw_int(w, g->at[i][k]);
        lm_jsonw_end(w, ']');
        n *= g->n[i];
    }
    lm_jsonw_end(w, '}');
    put_times(w, "us", g->seconds, n);
    put_times(w, "spread", g->spread, n);
    lm_jsonw_end(w, '}');
}

static void put_model(struct lm_jsonw *w, const struct lm_model *m)
{
    const struct lm_arch *a = lm_model_arch(m);
    char hash[24];

    snprintf(hash, sizeof hash, "%016" PRIx64, lm_model_hash(m));
    lm_jsonw_key(w, "model");
    lm_jsonw_begin(w, '{');
    put_string(w, "hash", hash);
    put_int(w, "layers", a->n_layer);
    put_int(w, "hidden", a->hidden);
    put_int(w, "head_dim", a->head_dim);
    put_int(w, "vocab", a->vocab);
    lm_jsonw_end(w, '}');
}

static enum lm_status put_device(struct lm_jsonw *w, const struct lm_bench *b,
                                 struct lm_err *e)
{
    const struct lm_backend *ops = b->backend->plugin->ops;
    struct lm_device d = { .struct_size = sizeof d };
    enum lm_status st = ops->device(b->backend->self, &d, e);

    if (st)
        return st;
    put_string(w, "backend", b->backend->plugin->module.name);
    put_string(w, "device", d.name);
    put_string(w, "driver", d.driver);
    lm_jsonw_key(w, "reads");
    lm_jsonw_begin(w, '[');
    for (uint32_t i = LM_F32; i < LM_N_DTYPES; i++)
        if (lm_engine_reads(b->engine, i))
            lm_jsonw_string(w, lm_codec(i)->name);
    lm_jsonw_end(w, ']');
    return LM_OK;
}

static void put_workloads(struct lm_jsonw *w, const struct lm_profile_request *r)
{
    put_int(w, "threads", r->threads);
    put_int(w, "prefill", r->prefill);
    lm_jsonw_key(w, "decode");
    lm_jsonw_begin(w, '{');
    put_int(w, "tokens", r->tokens);
    put_int(w, "context", r->context);
    lm_jsonw_end(w, '}');
}

static enum lm_status write_table(const struct lm_bench *b,
                                  const struct lm_profile_request *r,
                                  const struct lm_profile *p, struct lm_err *e)
{
    struct lm_str text = { 0 };
    struct lm_jsonw w = { .to = &text };
    char now[64];
    time_t t = time(NULL);
    struct tm tm;

    strftime(now, sizeof now, "%Y-%m-%d %H:%M:%S UTC", gmtime_r(&t, &tm));
    lm_jsonw_begin(&w, '{');
    put_string(&w, "format", "lamina latency table");
    put_int(&w, "version", LM_TABLE_VERSION);
    put_string(&w, "made", now);
    put_string(&w, "lamina", lm_host()->version);
    enum lm_status st = put_device(&w, b, e);
    put_workloads(&w, r);
    put_model(&w, b->model);
    lm_jsonw_key(&w, "operators");
    lm_jsonw_begin(&w, '[');
    for (size_t i = 0; i < p->n; i++) {
        lm_str_put(&text, "\n", i ? 0 : 1);
        put_grid(&w, &p->grid[i]);
        lm_str_put(&text, "\n", 1);
    }
    lm_jsonw_end(&w, ']');
    lm_jsonw_end(&w, '}');
    lm_str_put(&text, "\n", 1);
    if (!st && text.failed)
        st = lm_fail_memory(e, text.n, "a table");
    if (!st)
        st = lm_write_file(r->out, text.s, text.n, e);
    lm_str_free(&text);
    return st;
}

enum lm_status lm_profile_run(struct lm_bench *b, const struct lm_profile_request *r,
                              struct lm_err *e)
{
    const struct lm_arch *arch = lm_model_arch(b->model);
    uint32_t format[LM_N_DTYPES];
    struct lm_profile_args a = { .engine = b->engine, .prefill = r->prefill,
        .tokens = r->tokens, .context = r->context, .threads = r->threads,
        .format = format, .narrow = r->narrow,
        .cache = last_level_cache(b->backend->plugin->ops) };
    struct lm_cost cost;
    struct lm_profile p;

    add_own(b, format, &a.n_format);
    enum lm_status st = add_named(b, r->formats, format, &a.n_format, e);
    lm_shape_cost(arch, arch->layer, LM_F32, &cost);
    a.params = (size_t)cost.params;
    if (!st && r->prefill == 0 && r->tokens == 0)
        st = lm_fail(e, LM_ECONFIG, "neither prefill nor decode is to be measured; give "
                     "one of them");
    if (st || (st = lm_profile_measure(&a, &p, e)))
        return st;
    st = write_table(b, r, &p, e);
    lm_profile_free(&p);
    return st;
}
