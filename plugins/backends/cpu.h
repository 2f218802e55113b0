/* SPDX-License-Identifier: Apache-2.0 */
/* cpu.h -- private to the cpu backend.
 *
 *   cpu.c           the instance, streams, running a program
 *   cpu_ops.c       operators on rows: norm, linear, RoPE, attention, head
 *   cpu_kernels.c   vector kernels, compiled for three instruction sets
 *
 * Products of matrices are the host's (single-threaded BLAS); everything else
 * is done by the kernels.  All kernels take unaligned pointers and any n >= 1. */
#ifndef LAMINA_BACKENDS_CPU_H
#define LAMINA_BACKENDS_CPU_H
#define REAL float
#include "machine.h"

struct cpu_kernels {
    const char *name;
    float (*max)(const float *x, int64_t n);
    /* sum of exp(x - shift) */
    float (*sum_exp)(const float *x, int64_t n, float shift);
    /* x <- exp(x - shift); the sum of these */
    float (*exp_all)(float *x, int64_t n, float shift);
    /* the same, and *moment = sum of exp(x - shift) * (x - shift) */
    float (*exp_moment)(float *x, int64_t n, float shift, float *moment);
    void  (*silu_mul)(float *y, const float *a, const float *b, int64_t n);
    void  (*rmsnorm)(float *y, const float *a, const float *w, int64_t n, float eps);
    void  (*add)(float *y, const float *a, const float *b, int64_t n);
    void  (*scale)(float *y, float f, int64_t n);
    /* y[i] = w[i] . x (+ y[i] if acc), i < rows, rows of w stride apart; a row's
     * result does not depend on the rows around it                          */
    void  (*gemv)(float *y, const float *w, int64_t stride, const float *x,
                  int64_t rows, int64_t k, bool acc);
    /* y[n] = sum over j < rows of p[j] v[j] */
    void  (*mix)(float *y, const float *p, const float *v, int64_t stride, int64_t rows,
                 int64_t n);
    /* rotate pairs (i, i + half) of x */
    void  (*rotate)(float *x, const float *cosine, const float *sine, int64_t half);
};

enum cpu_set { CPU_AUTO, CPU_GENERIC, CPU_AVX2, CPU_AVX512 };

/* NULL when the processor has no such instructions; CPU_AUTO: its best. */
const struct cpu_kernels *cpu_kernels(enum cpu_set set);

struct machine_cpu {                    /* begins like every instance */
    struct machine base;
    const struct cpu_kernels *kernel;
};

struct rotation {                       /* cos, sin of rows pos .. pos+rows-1 */
    uint64_t id;                        /* of the frequencies; 0: none yet */
    float f;
    int64_t half, pos, rows;
    struct block cosine, sine;
};

struct lm_stream {
    int32_t threads;
    struct block *reg;                  /* [0] stays empty: args.hidden */
    size_t n_reg;
    struct block scratch;
    struct rotation rotation;
};

struct call {                           /* one operator being run */
    const struct machine_cpu *m;
    struct lm_stream *s;
    const struct lm_exe *x;
    const struct lm_exec *arg;
    const struct lm_op *o;
};

static inline float *cpu_reg(const struct call *c, int32_t reg)
{
    return reg == 0 ? c->arg->hidden->v : c->s->reg[reg].v;
}

enum lm_status cpu_linear(const struct call *c, struct lm_err *e);
enum lm_status cpu_rope_kv(const struct call *c, struct lm_err *e);
enum lm_status cpu_attention(const struct call *c, struct lm_err *e);
enum lm_status cpu_head(const struct call *c, struct lm_err *e);
void cpu_rows(const struct call *c);    /* all the others, row by row */
#endif
