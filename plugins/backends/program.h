/* SPDX-License-Identifier: Apache-2.0 */
/* program.h -- every check of a program and of a call, so that the operators of a
 * backend may trust their arguments.  Included behind the definitions of
 *
 *   struct lm_weight   rows, cols; codec: NULL of f32
 *   struct lm_buffer   n: floats
 *   struct lm_kv       n_slot, capacity, width [n_slot]
 *   struct lm_exe      n_op, n_reg, op, width, precision
 *
 * Dimensions are those of the operator: a register may be wider than what an
 * operator reads or writes of it, and `width` is then only the step from row
 * to row.  Operators name n and k so:
 *   EMBED, LINEAR, CE, KL, EXPECT, LOGITS   w is [n][k]
 *   RMSNORM                                 groups of n within rows of k floats
 *   SILU_MUL, ADD, COPY                     n floats of each row              */
#ifndef LAMINA_BACKENDS_PROGRAM_H
#define LAMINA_BACKENDS_PROGRAM_H
#include <string.h>

#include "plugin.h"

static inline enum lm_status program_no_memory(const struct lm_host *h, double bytes,
                                               const char *what, struct lm_err *e)
{
    return h->fail(e, LM_ENOMEM, "out of memory (wanted %.0f bytes for %s)", bytes, what);
}

/* ---- checking programs -------------------------------------------------------- */
struct op_rule {                /* which registers, and how many floats of each */
    int64_t y, a, b, c;         /* 0: not used */
    int64_t w_rows, w_cols;     /* 0: takes no weight */
};

static inline struct op_rule program_rule(const struct lm_op *o)
{
    int64_t q = (int64_t)o->n_head * o->head_dim, kv = (int64_t)o->n_kv * o->head_dim;
    switch (o->code) {
    case LM_OP_EMBED:     return (struct op_rule){ .y = o->k, .w_rows = o->n,
                                                   .w_cols = o->k };
    case LM_OP_RMSNORM:   return (struct op_rule){ .y = o->k, .a = o->k, .w_rows = 1,
                                                   .w_cols = o->n };
    case LM_OP_LINEAR:    return (struct op_rule){ .y = o->n, .a = o->k, .w_rows = o->n,
                                                   .w_cols = o->k };
    case LM_OP_ROPE_KV:   return (struct op_rule){ .a = q, .b = kv, .c = kv, .w_rows = 1,
                                                   .w_cols = o->head_dim / 2 };
    case LM_OP_ATTENTION: return (struct op_rule){ .y = q, .a = q };
    case LM_OP_SILU_MUL:
    case LM_OP_ADD:       return (struct op_rule){ .y = o->n, .a = o->n, .b = o->n };
    case LM_OP_CE:
    case LM_OP_KL:
    case LM_OP_LOGITS:    return (struct op_rule){ .a = o->k, .w_rows = o->n,
                                                   .w_cols = o->k };
    case LM_OP_EXPECT:    return (struct op_rule){ .y = o->k, .a = o->k, .w_rows = o->n,
                                                   .w_cols = o->k };
    case LM_OP_COPY:      return (struct op_rule){ .a = o->n };
    default:              return (struct op_rule){ .y = -1 };
    }
}

static inline bool program_reg_fits(const struct lm_program *p, int32_t r, int64_t need)
{
    return need == 0 || (r >= 0 && (size_t)r < p->n_reg && p->width[r] >= need);
}

static inline bool program_is_head(uint32_t code)
{
    return code >= LM_OP_CE && code <= LM_OP_LOGITS;
}

static inline bool program_takes_codes(uint32_t code)
{
    return code == LM_OP_EMBED || code == LM_OP_LINEAR || code == LM_OP_LOGITS;
}

/* What is wrong with an operator; NULL: nothing. */
static inline const char *program_fault(const struct lm_program *p, uint32_t precision,
                                        const struct lm_op *o)
{
    struct op_rule r = program_rule(o);
    bool heads = o->code == LM_OP_ROPE_KV || o->code == LM_OP_ATTENTION;
    if (r.y < 0)
        return "is unknown";
    if (heads ? o->n_head < 1 || o->n_kv < 1 || o->head_dim < 2 || o->head_dim % 2 != 0
                || o->n_head % o->n_kv != 0 || o->slot < 0
              : o->n < 1)
        return "has impossible dimensions";
    if ((r.w_rows > 1 || o->code == LM_OP_RMSNORM) && o->k < 1)
        return "has impossible dimensions";
    if (o->code == LM_OP_RMSNORM && o->k % o->n != 0)
        return "has rows that are no whole groups";
    if (o->code == LM_OP_COPY && (o->slot < 0 || o->slot >= LM_N_TAPS))
        return "names a tap that does not exist";
    if (!program_reg_fits(p, o->y, r.y) || !program_reg_fits(p, o->a, r.a)
        || !program_reg_fits(p, o->b, r.b) || !program_reg_fits(p, o->c, r.c))
        return "uses a register that is absent or too narrow";
    if ((o->code == LM_OP_LINEAR || o->code == LM_OP_ATTENTION || o->code == LM_OP_EXPECT)
        && o->y == o->a)
        return "reads and writes the same register";
    if (r.w_rows && (!o->w || o->w->rows != r.w_rows || o->w->cols != r.w_cols))
        return "has a weight of another shape";
    if (o->bias && (o->bias->rows != 1 || o->bias->cols != o->n))
        return "has a bias of another length";
    if ((r.w_rows && o->w->codec && (precision || !program_takes_codes(o->code)))
        || (o->bias && o->bias->codec))
        return "has weights that are not f32";
    return NULL;
}

static inline void program_free(const struct lm_host *h, struct lm_exe *x)
{
    if (!x)
        return;
    h->release(x->op);
    h->release(x->width);
    h->release(x);
}

/* A checked copy of a program, of `size` bytes that begin with struct lm_exe. */
static inline enum lm_status program_copy(const struct lm_host *h,
                                          const struct lm_program *p, size_t size,
                                          struct lm_exe **x, struct lm_err *e)
{
    uint32_t precision = p->struct_size >= sizeof *p ? p->precision : LM_AS_F32;
    if (precision >= LM_N_PRECISIONS)
        return h->fail(e, LM_EUNSUPPORTED, "this backend does not know precision %u of a "
                       "program", (unsigned)precision);
    if (p->n_reg < 1 || p->n_reg > 1 << 20 || p->n_op < 1 || p->n_op > 1 << 24)
        return h->fail(e, LM_EBUG, "a program of %zu operators and %zu registers",
                       p->n_op, p->n_reg);
    for (size_t i = 0; i < p->n_op; i++) {
        const char *fault = program_fault(p, precision, &p->op[i]);
        if (fault)
            return h->fail(e, LM_EBUG, "operator %zu of a program (code %u) %s", i,
                           (unsigned)p->op[i].code, fault);
    }
    struct lm_exe *y = h->alloc(size, "program");
    if (y) {
        y->op = h->alloc(p->n_op * sizeof *y->op, "program");
        y->width = h->alloc(p->n_reg * sizeof *y->width, "program");
    }
    if (!y || !y->op || !y->width) {
        program_free(h, y);
        return program_no_memory(h, (double)p->n_op * sizeof *p->op, "a program", e);
    }
    memcpy(y->op, p->op, p->n_op * sizeof *y->op);
    memcpy(y->width, p->width, p->n_reg * sizeof *y->width);
    y->n_op = p->n_op;
    y->n_reg = p->n_reg;
    y->precision = precision;
    *x = y;
    return LM_OK;
}

/* ---- checking calls ------------------------------------------------------------ */
static inline bool program_in_range(const int32_t *id, int32_t rows, int32_t n)
{
    for (int32_t i = 0; i < rows; i++)
        if (id[i] < 0 || id[i] >= n)
            return false;
    return true;
}

/* What is wrong with the arguments for one operator; NULL: nothing. */
static inline const char *program_call_fault(const struct lm_op *o,
                                             const struct lm_exec *x)
{
    int64_t rows = x->rows;
    const struct lm_kv *kv = x->kv;
    switch (o->code) {
    case LM_OP_EMBED:
        return !x->token || !program_in_range(x->token, x->rows, o->n)
             ? "a token id outside the vocabulary" : NULL;
    case LM_OP_ROPE_KV:
    case LM_OP_ATTENTION:
        if (!kv || (size_t)o->slot >= kv->n_slot
            || kv->width[o->slot] < (int64_t)o->n_kv * o->head_dim)
            return "no such slot of that width in the cache";
        return x->pos > kv->capacity - rows ? "more tokens than the cache holds" : NULL;
    case LM_OP_COPY:
        return !x->tap[o->slot] || x->tap[o->slot]->n < rows * o->n
             ? "a tap that is absent or too small" : NULL;
    case LM_OP_CE:
        if (!x->target || !program_in_range(x->target, x->rows, o->n))
            return "a target id outside the vocabulary";
        break;
    case LM_OP_KL:
        if (!x->teacher || x->teacher->n < rows * o->k)
            return "a teacher that is absent or too small";
        break;
    default:
        break;
    }
    return program_is_head(o->code) && !x->out ? "no place for the result" : NULL;
}

static inline enum lm_status program_call_check(const struct lm_host *h,
                                                const struct lm_exe *x,
                                                const struct lm_exec *args,
                                                struct lm_err *e)
{
    const char *fault = NULL;
    if (args->rows < 1 || args->pos < 0)
        fault = "no rows";
    else if (!args->hidden || args->hidden->n < (int64_t)args->rows * x->width[0])
        fault = "a residual stream that is absent or too small";
    for (size_t i = 0; !fault && i < x->n_op; i++)
        fault = program_call_fault(&x->op[i], args);
    return fault ? h->fail(e, LM_EBUG, "a program was run with %s", fault) : LM_OK;
}
#endif
