/* SPDX-License-Identifier: Apache-2.0 */
/* formats.c -- number formats of a plan's matrices.
 *
 * A plan names a format by the id of the quantizer that makes it, and keeps its
 * number format beside the name, so that bytes can be counted from a plan alone.
 * Names lie in a short table of the plan; its order says nothing.            */
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "model/codec.h"
#include "plan/plan.h"

static const struct { uint32_t role; const char *name; } matrix[LM_N_MATRICES] = {
    { LM_W_Q, "q" }, { LM_W_K, "k" }, { LM_W_V, "v" }, { LM_W_O, "o" },
    { LM_W_GATE, "gate" }, { LM_W_UP, "up" }, { LM_W_DOWN, "down" }
};

uint32_t lm_matrix_role(int i)
{
    return i >= 0 && i < LM_N_MATRICES ? matrix[i].role : 0;
}

const char *lm_matrix_name(int i)
{
    return i >= 0 && i < LM_N_MATRICES ? matrix[i].name : "";
}

int lm_matrix_index(uint32_t role)
{
    for (int i = 0; i < LM_N_MATRICES; i++)
        if (matrix[i].role == role)
            return i;
    return -1;
}

bool lm_format_names(const char *name)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyz0123456789_-.";
    size_t n = strlen(name);

    return n > 0 && n < LM_FORMAT_NAME && strspn(name, plain) == n;
}

/* Number of a format in the table, from 1; it is added if it is not there. */
static enum lm_status find_format(struct lm_plan *p, const char *name, uint32_t dtype,
                                  uint8_t *out, struct lm_err *e)
{
    const struct lm_codec *c = lm_codec(dtype);

    if (!lm_format_names(name) || !c || !c->encode || c->block < 2)
        return lm_fail(e, LM_EBUG, "'%s' (%s) cannot be a number format of a plan", name,
                       c ? c->name : "unknown");
    for (size_t i = 0; i < p->n_format; i++) {
        if (strcmp(p->format[i].name, name))
            continue;
        if (p->format[i].dtype != dtype)
            return lm_fail(e, LM_EINPUT, "the plan says that '%s' is both %s and %s",
                           name, lm_codec(p->format[i].dtype)->name, c->name);
        *out = (uint8_t)(i + 1);
        return LM_OK;
    }
    if (p->n_format == LM_MAX_FORMATS)
        return lm_fail(e, LM_EINPUT, "more than %d number formats in a plan",
                       LM_MAX_FORMATS);
    strcpy(p->format[p->n_format].name, name);
    p->format[p->n_format].dtype = dtype;
    *out = (uint8_t)++p->n_format;
    return LM_OK;
}

enum lm_status lm_plan_format(struct lm_plan *p, uint32_t role, int32_t layer,
                              const char *name, uint32_t dtype, struct lm_err *e)
{
    int i = lm_matrix_index(role);

    if (i < 0 || layer < 0 || layer >= p->arch->n_layer)
        return lm_fail(e, LM_EBUG, "a number format for matrix %u of layer %d, which "
                       "there is not", role, layer);
    return find_format(p, name, dtype, &p->layer[layer].format[i], e);
}

const struct lm_plan_format *lm_plan_format_of(const struct lm_plan *p, int32_t layer,
                                               int i)
{
    uint8_t at = p->layer[layer].format[i];

    return at ? &p->format[at - 1] : NULL;
}

uint32_t lm_plan_dtype_of(const struct lm_plan *p, int32_t layer, int i, uint32_t dtype)
{
    const struct lm_plan_format *f = lm_plan_format_of(p, layer, i);

    return f ? f->dtype : dtype;
}

int64_t lm_plan_columns(const struct lm_plan *p, int32_t layer, int i)
{
    struct lm_layer_shape s = lm_plan_shape(p, layer);
    uint32_t role = lm_matrix_role(i);

    if (role == LM_W_DOWN)
        return s.n_ff;
    if (role == LM_W_O)
        return (int64_t)s.n_head * p->arch->head_dim;
    return (role > LM_W_O ? s.n_ff : s.n_head) ? p->hidden.kept : 0;
}

enum lm_status lm_plan_dtypes(const struct lm_plan *p, uint32_t **out, struct lm_err *e)
{
    size_t n = (size_t)p->arch->n_layer * LM_N_ROLES, at = 0;
    bool any = false;

    if (!(*out = lm_alloc_array(n + 1, sizeof **out, "formats")))
        return lm_fail_memory(e, n * sizeof **out, "number formats");
    for (int32_t l = 0; l < p->arch->n_layer; l++) {
        struct lm_layer_shape s = lm_plan_shape(p, l);

        if (!s.n_kv && !s.n_ff)
            continue;
        for (int i = 0; i < LM_N_MATRICES; i++) {
            uint32_t dtype = lm_plan_dtype_of(p, l, i, 0);

            (*out)[at * LM_N_ROLES + lm_matrix_role(i)] = dtype;
            any |= dtype != 0;
        }
        at++;
    }
    if (!any) {
        lm_release(*out);
        *out = NULL;
    }
    return LM_OK;
}

/* ---- the canonical form ---------------------------------------------------------- */

static bool is_attn(int i)
{
    return matrix[i].role <= LM_W_O;
}

void lm_plan_settle_formats(struct lm_layer_plan *l)
{
    for (int i = 0; i < LM_N_MATRICES; i++)
        if (is_attn(i) ? l->drop_attn : l->drop_mlp)
            l->format[i] = 0;
}

uint64_t lm_plan_hash_formats(const struct lm_plan *p, int32_t layer, uint64_t h)
{
    for (int i = 0; i < LM_N_MATRICES; i++) {
        const struct lm_plan_format *f = lm_plan_format_of(p, layer, i);

        if (f)
            h = lm_hash_str(f->name,
                            lm_hash_u64((uint64_t)f->dtype << 8 | (unsigned)i, h));
    }
    return h;
}

bool lm_plan_same_formats(const struct lm_plan *a, const struct lm_plan *b, int32_t layer)
{
    for (int i = 0; i < LM_N_MATRICES; i++) {
        const struct lm_plan_format *x = lm_plan_format_of(a, layer, i);
        const struct lm_plan_format *y = lm_plan_format_of(b, layer, i);

        if (!x != !y || (x && (x->dtype != y->dtype || strcmp(x->name, y->name))))
            return false;
    }
    return true;
}

/* ---- text ------------------------------------------------------------------------ */

/* The format that all matrices of the blocks that are left have; 0: there is none. */
static uint8_t common(const struct lm_layer_plan *l)
{
    uint8_t f = 0;

    for (int i = 0; i < LM_N_MATRICES; i++) {
        if (is_attn(i) ? l->drop_attn : l->drop_mlp)
            continue;
        if (!l->format[i] || (f && l->format[i] != f))
            return 0;
        f = l->format[i];
    }
    return f;
}

bool lm_plan_has_formats(const struct lm_layer_plan *l)
{
    for (int i = 0; i < LM_N_MATRICES; i++)
        if (l->format[i])
            return true;
    return false;
}

void lm_plan_put_formats(const struct lm_plan *p, int32_t layer, struct lm_str *out)
{
    const struct lm_layer_plan *l = &p->layer[layer];
    uint8_t all = common(l);

    for (int i = 0; i < LM_N_MATRICES; i++) {
        const struct lm_plan_format *f = all ? &p->format[all - 1]
                                             : lm_plan_format_of(p, layer, i);

        if (f)
            lm_str_add(out, " %s=%s/%s", all ? "format" : matrix[i].name, f->name,
                       lm_codec(f->dtype)->name);
        if (all)
            return;
    }
}

/* NAME/DTYPE at *at, which moves on. */
static enum lm_status read_name(const char **at, char name[LM_FORMAT_NAME],
                                uint32_t *dtype, struct lm_err *e)
{
    size_t n = strcspn(*at, "/ \n"), k;
    const struct lm_codec *c = NULL;
    char type[16];

    if (n > 0 && n < LM_FORMAT_NAME && (*at)[n] == '/') {
        memcpy(name, *at, n);
        name[n] = '\0';
        k = strcspn(*at + n + 1, " \n");
        if (k < sizeof type) {
            memcpy(type, *at + n + 1, k);
            type[k] = '\0';
            c = lm_codec_named(type);
        }
    }
    if (!c || !c->encode || c->block < 2 || !lm_format_names(name))
        return lm_fail(e, LM_EINPUT, "expected NAME/NUMBER_FORMAT at '%.20s'", *at);
    *at += n + 1 + k;
    *dtype = c->dtype;
    return LM_OK;
}

/* " WORD=" at *at: moves behind it. */
static bool take(const char **at, const char *word)
{
    size_t n = strlen(word);

    if (**at != ' ' || strncmp(*at + 1, word, n) || (*at)[n + 1] != '=')
        return false;
    *at += n + 2;
    return true;
}

enum lm_status lm_plan_read_formats(struct lm_plan *p, int32_t layer, const char **at,
                                    struct lm_err *e)
{
    bool all = take(at, "format");
    char name[LM_FORMAT_NAME];
    uint32_t dtype = 0;
    enum lm_status st = all ? read_name(at, name, &dtype, e) : LM_OK;

    for (int i = 0; !st && i < LM_N_MATRICES; i++) {
        bool own = !all && take(at, matrix[i].name);

        if (own)
            st = read_name(at, name, &dtype, e);
        if (!st && (own || all))
            st = lm_plan_format(p, matrix[i].role, layer, name, dtype, e);
    }
    return st;
}
