/* SPDX-License-Identifier: Apache-2.0 */
/* table.c -- see table.h. */
#include "table.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_GRIDS = 4096, MOST_NODES = 256, MOST_BYTES = 16 << 20, VERSION = 1 };
#define MOST_US 1e12

enum axis { NONE, N, K, N_KV, N_HEAD, EACH, N_AXES };
static const char *const axis_name[N_AXES] = { "", "n", "k", "n_kv", "n_head", "each" };

/* RMSNORM comes twice: of the stream, and of heads. */
static const struct { const char *name; uint32_t code; bool heads; } ops[] = {
    { "run", 0, false }, { "embed", LM_OP_EMBED, false },
    { "rmsnorm", LM_OP_RMSNORM, false }, { "head_norm", LM_OP_RMSNORM, true },
    { "linear", LM_OP_LINEAR, false }, { "rope_kv", LM_OP_ROPE_KV, false },
    { "attention", LM_OP_ATTENTION, false }, { "silu_mul", LM_OP_SILU_MUL, false },
    { "add", LM_OP_ADD, false }, { "logits", LM_OP_LOGITS, false } };
enum { N_OPS = sizeof ops / sizeof *ops };

static const char *op_name(uint32_t code, bool heads)
{
    for (int i = 0; i < N_OPS; i++)
        if (ops[i].code == code && ops[i].heads == heads)
            return ops[i].name;
    return "an unknown operator";
}

static bool has_matrix(uint32_t code)
{
    return code == LM_OP_EMBED || code == LM_OP_LINEAR || code == LM_OP_LOGITS;
}

/* ---- reading ---------------------------------------------------------------------- */

struct reader {
    const struct lm_host *h;
    const struct lm_json_api *j;
    const char *what;
    struct lm_err *e;
};

static enum lm_status damaged(const struct reader *r, const char *where, const char *why)
{
    return r->h->fail(r->e, LM_EINPUT, "%s: %s: %s; write it anew with `lamina profile`",
                      r->what, where, why);
}

static enum lm_status get_int(const struct reader *r, const struct lm_json *o,
                              const char *key, int64_t least, int64_t most, int32_t *out)
{
    int64_t v;

    if (!r->j->integer(r->j->get(o, key), &v) || v < least || v > most)
        return damaged(r, key, "no number, or an impossible one");
    *out = (int32_t)v;
    return LM_OK;
}

static enum lm_status get_text(const struct reader *r, const struct lm_json *o,
                               const char *key, char *out, size_t size)
{
    const char *s = r->j->string(r->j->get(o, key));

    if (!s || strlen(s) >= size)
        return damaged(r, key, "no text, or a long one");
    snprintf(out, size, "%s", s);
    return LM_OK;
}

static enum lm_status get_dtype(const struct reader *r, const char *name, uint32_t *out)
{
    for (uint32_t i = LM_F32; i < LM_N_DTYPES; i++)
        if (name && !strcmp(r->h->codec(i)->name, name)) {
            *out = i;
            return LM_OK;
        }
    return damaged(r, "format", "no number format that is known");
}

static enum lm_status get_bool(const struct reader *r, const struct lm_json *o,
                               const char *key, bool *out)
{
    return r->j->boolean(r->j->get(o, key), out) ? LM_OK
        : damaged(r, key, "neither true nor false");
}

static enum lm_status read_nodes(const struct reader *r, const struct lm_json *list,
                                 struct table_grid *g, int i)
{
    size_t n = r->j->type(list) == 'a' ? r->j->size(list) : 0;
    int64_t v, before = 0;

    if (n < 1 || n > MOST_NODES)
        return damaged(r, "axes", "an axis has no nodes, or too many");
    if (!(g->at[i] = r->h->alloc(n * sizeof **g->at, "table")))
        return r->h->fail(r->e, LM_ENOMEM, "out of memory for a table");
    for (size_t k = 0; k < n; k++) {
        if (!r->j->integer(r->j->at(list, k), &v) || v <= before || v > INT32_MAX)
            return damaged(r, "axes", "nodes are rising whole numbers");
        g->at[i][k] = (int32_t)(before = v);
    }
    g->n[i] = n;
    return LM_OK;
}

static enum lm_status read_axes(const struct reader *r, const struct lm_json *o,
                                struct table_grid *g)
{
    const struct lm_json *axes = r->j->get(o, "axes");
    size_t n = r->j->type(axes) == 'o' ? r->j->size(axes) : 3;

    g->n[0] = g->n[1] = 1;
    if (n > 2)
        return damaged(r, "axes", "an object of at most two axes is wanted");
    for (size_t i = 0; i < n; i++) {
        const char *name = "";
        const struct lm_json *list = r->j->member(axes, i, &name);

        for (int a = N; a < N_AXES; a++)
            if (!strcmp(axis_name[a], name))
                g->axis[i] = a;
        if (!g->axis[i] || (i && g->axis[0] == g->axis[1]))
            return damaged(r, "axes", "one is not n, k, n_kv, n_head or each");
        enum lm_status st = read_nodes(r, list, g, (int)i);
        if (st)
            return st;
    }
    return LM_OK;
}

static enum lm_status read_times(const struct reader *r, const struct lm_json *o,
                                 struct table_grid *g)
{
    const struct lm_json *list = r->j->get(o, "us");
    size_t n = g->n[0] * g->n[1];

    if (r->j->type(list) != 'a' || r->j->size(list) != n)
        return damaged(r, "us", "there must be one number for each node");
    if (!(g->us = r->h->alloc(n * sizeof *g->us, "table")))
        return r->h->fail(r->e, LM_ENOMEM, "out of memory for a table");
    for (size_t i = 0; i < n; i++)
        if (!r->j->real(r->j->at(list, i), &g->us[i]) || !(g->us[i] >= 0) ||
            g->us[i] > MOST_US)
            return damaged(r, "us", "a time is no number, or an impossible one");
    return LM_OK;
}

static bool is_same(const struct table_grid *a, const struct table_grid *b)
{
    return a->code == b->code && a->dtype == b->dtype && a->heads == b->heads
        && a->adds == b->adds && a->again == b->again && a->rows == b->rows
        && a->pos == b->pos;
}

static enum lm_status read_grid(const struct reader *r, const struct lm_json *o,
                                struct table *t)
{
    struct table_grid *g = &t->grid[t->n++];
    char name[32];
    int k = 0;
    enum lm_status st = get_text(r, o, "op", name, sizeof name);

    while (k < N_OPS && strcmp(ops[k].name, name))
        k++;
    if (!st && k == N_OPS)
        st = damaged(r, "op", "no operator that is known");
    if (st)
        return st;
    g->code = ops[k].code;
    g->heads = ops[k].heads;
    st = get_int(r, o, "rows", 1, 1 << 20, &g->rows);
    if (!st && g->code == LM_OP_ATTENTION)
        st = get_int(r, o, "pos", 0, 1 << 30, &g->pos);
    if (!st && has_matrix(g->code))
        st = get_dtype(r, r->j->string(r->j->get(o, "format")), &g->dtype);
    if (!st && g->code == LM_OP_LINEAR && !(st = get_bool(r, o, "adds", &g->adds)))
        st = get_bool(r, o, "again", &g->again);
    for (size_t i = 0; !st && i + 1 < t->n; i++)
        if (is_same(&t->grid[i], g))
            st = damaged(r, ops[k].name, "it is there twice");
    if (!st)
        st = read_axes(r, o, g);
    return st ? st : read_times(r, o, g);
}

static enum lm_status read_head(const struct reader *r, const struct lm_json *o,
                                struct table *t)
{
    const struct lm_json *decode = r->j->get(o, "decode"), *m = r->j->get(o, "model");
    const struct lm_json *reads = r->j->get(o, "reads");
    const char *format = r->j->string(r->j->get(o, "format"));
    int32_t version = 0;
    enum lm_status st;

    if (!format || strcmp(format, "lamina latency table"))
        return damaged(r, "format", "this is no latency table");
    if ((st = get_int(r, o, "version", 1, INT32_MAX, &version)))
        return st;
    if (version != VERSION)
        return damaged(r, "version", "this version of Lamina does not know it");
    if ((st = get_text(r, o, "device", t->device, sizeof t->device)) ||
        (st = get_text(r, o, "backend", t->backend, sizeof t->backend)) ||
        (st = get_text(r, o, "made", t->made, sizeof t->made)) ||
        (st = get_int(r, o, "threads", 1, 256, &t->threads)) ||
        (st = get_int(r, o, "prefill", 0, 1 << 20, &t->prefill)) ||
        (st = get_int(r, decode, "tokens", 0, 1 << 20, &t->tokens)) ||
        (st = get_int(r, decode, "context", 0, 1 << 20, &t->context)) ||
        (st = get_text(r, m, "hash", t->model, sizeof t->model)) ||
        (st = get_int(r, m, "layers", 1, INT32_MAX, &t->layers)) ||
        (st = get_int(r, m, "hidden", 1, INT32_MAX, &t->hidden)) ||
        (st = get_int(r, m, "head_dim", 1, INT32_MAX, &t->head_dim)) ||
        (st = get_int(r, m, "vocab", 1, INT32_MAX, &t->vocab)))
        return st;
    for (size_t i = 0; !st && r->j->type(reads) == 'a' && i < r->j->size(reads); i++) {
        uint32_t dtype = 0;

        st = get_dtype(r, r->j->string(r->j->at(reads, i)), &dtype);
        t->reads |= LM_BIT(dtype);
    }
    return st;
}

static enum lm_status read_root(const struct reader *r, const struct lm_json *root,
                                struct table *t)
{
    const struct lm_json *list = r->j->get(root, "operators");
    size_t n = r->j->type(list) == 'a' ? r->j->size(list) : 0;
    enum lm_status st = read_head(r, root, t);

    if (!st && (n < 1 || n > MOST_GRIDS))
        st = damaged(r, "operators", "there are none, or too many");
    if (!st && !(t->grid = r->h->alloc(n * sizeof *t->grid, "table")))
        st = r->h->fail(r->e, LM_ENOMEM, "out of memory for a table");
    for (size_t i = 0; i < n && !st; i++)
        st = read_grid(r, r->j->at(list, i), t);
    return st;
}

enum lm_status table_read(const struct lm_host *h, const char *text, size_t size,
                          const char *what, struct table *t, struct lm_err *e)
{
    struct reader r = { h, h->json, what, e };
    struct lm_json *root;
    enum lm_status st = h->json->parse(text, size, what, &root, e);

    *t = (struct table){ .host = h, .hash = UINT64_C(0xcbf29ce484222325) };
    for (size_t i = 0; i < size; i++)   /* FNV-1a */
        t->hash = (t->hash ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
    if (st)
        return st;
    st = read_root(&r, root, t);
    h->json->close(root);
    if (st)
        table_free(t);
    return st;
}

enum lm_status table_load(const struct lm_host *h, const char *path, struct table *t,
                          struct lm_err *e)
{
    char *text;
    size_t n;
    enum lm_status st = h->read_file(path, MOST_BYTES, &text, &n, e);

    *t = (struct table){ .host = h };
    if (st)
        return st;
    st = table_read(h, text, n, path, t, e);
    h->release(text);
    return st;
}

void table_free(struct table *t)
{
    for (size_t i = 0; i < t->n; i++) {
        t->host->release(t->grid[i].at[0]);
        t->host->release(t->grid[i].at[1]);
        t->host->release(t->grid[i].us);
    }
    if (t->grid)
        t->host->release(t->grid);
    t->grid = NULL;
    t->n = 0;
}

/* ---- looking up ------------------------------------------------------------------- */

static int32_t value_of(const struct lm_use *u, int axis)
{
    switch (axis) {
    case N:      return u->n;
    case K:      return u->k;
    case N_KV:   return u->n_kv;
    case N_HEAD: return u->n_head;
    case EACH:   return u->n_kv ? u->n_head / u->n_kv : 0;
    default:     return 0;
    }
}

/* v lies t of the way from node *i to the next. */
static bool locate(const int32_t *at, size_t n, int32_t v, size_t *i, double *t)
{
    *i = 0;
    *t = 0;
    if (n == 1 ? v != at[0] : v > at[n - 1])
        return false;
    if (v <= at[0])
        return true;
    while (v > at[*i + 1])
        ++*i;
    *t = (double)(v - at[*i]) / (at[*i + 1] - at[*i]);
    return true;
}

static enum lm_status outside(const struct table *t, const struct table_grid *g, int axis,
                              int32_t v, struct lm_err *e)
{
    int i = g->axis[1] == axis;

    return t->host->fail(e, LM_EINFEASIBLE, "%s with %s = %d is outside of the table, "
                         "which has %d to %d: it is of another model, or was made "
                         "without --narrow", op_name(g->code, g->heads), axis_name[axis],
                         (int)v, (int)g->at[i][0], (int)g->at[i][g->n[i] - 1]);
}

static enum lm_status interpolate(const struct table *t, const struct table_grid *g,
                                  const struct lm_use *u, double *us, struct lm_err *e)
{
    size_t i[2] = { 0, 0 };
    double f[2] = { 0, 0 };

    for (int k = 0; k < 2; k++)
        if (g->axis[k] && !locate(g->at[k], g->n[k], value_of(u, g->axis[k]), &i[k],
                                  &f[k]))
            return outside(t, g, g->axis[k], value_of(u, g->axis[k]), e);
    *us = 0;
    for (int a = 0; a < 2; a++)
        for (int b = 0; b < 2; b++) {
            double share = (a ? f[0] : 1 - f[0]) * (b ? f[1] : 1 - f[1]);

            if (share > 0)              /* else there may be no such node */
                *us += share * g->us[(i[0] + (size_t)a) * g->n[1] + i[1] + (size_t)b];
        }
    return LM_OK;
}

/* As the table's backend would run it; attention of runs one behind the other as that of
 * the one in the middle.                                                     */
static struct table_grid key_of(const struct table *t, const struct lm_use *u)
{
    bool linear = u->code == LM_OP_LINEAR;
    struct table_grid g = { .code = u->code, .rows = u->rows,
                            .heads = u->code == LM_OP_RMSNORM && u->n_head,
                            .adds = linear && (u->flags & LM_OPF_ACC),
                            .again = linear && u->again };

    if (has_matrix(u->code))
        g.dtype = u->dtype < LM_N_DTYPES && (t->reads & LM_BIT(u->dtype)) ? u->dtype
                                                                          : LM_F32;
    if (u->code == LM_OP_ATTENTION)
        g.pos = u->pos + u->rows * (u->runs / 2);
    return g;
}

enum lm_status table_seconds(const struct table *t, const struct lm_use *u,
                             double *seconds, struct lm_err *e)
{
    struct table_grid key = key_of(t, u);
    double us = 0;

    for (size_t i = 0; i < t->n; i++)
        if (is_same(&t->grid[i], &key)) {
            enum lm_status st = interpolate(t, &t->grid[i], u, &us, e);

            *seconds = st ? 0 : us * 1e-6 * u->times * u->runs;
            return st;
        }
    const char *format = key.dtype ? t->host->codec(key.dtype)->name : "";
    return t->host->fail(e, LM_EINFEASIBLE, "the table has no %s%s%s of %d rows; write "
                         "it anew with `lamina profile`%s%s",
                         op_name(key.code, key.heads), *format ? " in " : "", format,
                         (int)key.rows, *format ? " --formats " : "", format);
}
