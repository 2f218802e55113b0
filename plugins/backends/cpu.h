/* SPDX-License-Identifier: Apache-2.0 */
/* cpu.h -- private to the cpu backend.
 *
 *   cpu.c             the instance, streams, running a program
 *   cpu_ops.c         operators on rows: linear, RoPE, norm, ...
 *   cpu_attention.c   attention
 *   cpu_head.c        the heads
 *   cpu_product.c     the products of operators, weights packed for them
 *   cpu_gemm.c        products of matrices (cpu_gemm.h) for each instruction set
 *   cpu_kernels.c     vector kernels, likewise
 *   cpu_codes.c       one row times weights in number formats, likewise
 *
 * All kernels take unaligned pointers and any n >= 1.                        */
#ifndef LAMINA_BACKENDS_CPU_H
#define LAMINA_BACKENDS_CPU_H
#include <pthread.h>

#define REAL float
#define MACHINE_DTYPES (LM_BIT(LM_F32) | LM_BIT(LM_F16) | LM_BIT(LM_BF16) \
                        | LM_BIT(LM_Q8_0) | LM_BIT(LM_Q4_0) | LM_BIT(LM_Q4_1))
#include "machine.h"
#include "cpu_gemm.h"

struct cpu_kernels {
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
    /* y[i][n] = sum over j < rows of p[i][j] v[j], i < m */
    void  (*mix)(float *y, int64_t ldy, const float *p, int64_t ldp, int64_t m,
                 const float *v, int64_t stride, int64_t rows, int64_t n);
    /* rotate pairs (i, i + half) of x */
    void  (*rotate)(float *x, const float *cosine, const float *sine, int64_t half);
};

/* Each has what those before it have. */
enum cpu_set { CPU_AUTO, CPU_PORTABLE, CPU_AVX2, CPU_AVX512, CPU_VNNI, CPU_BF16,
               CPU_N_SETS };

/* The best the processor has. */
enum cpu_set cpu_best(void);
/* y[i] = w[i] . x (+ y[i] if acc), i < rows, for rows of bytes in a number format,
 * row_bytes apart; the values of w are exact, sums f32.  A row's result does not
 * depend on the rows around it.                                               */
typedef void cpu_codes_gemv(float *y, const unsigned char *w, int64_t row_bytes,
                            const float *x, int64_t rows, int64_t k, bool acc);
/* For a number format of MACHINE_DTYPES but f32. */
cpu_codes_gemv *cpu_codes(enum cpu_set set, uint32_t dtype);

/* Of sets that the processor has. */
const struct cpu_kernels *cpu_kernels(enum cpu_set set);
const struct cpu_products *cpu_products(enum cpu_set set);

enum { CPU_BUCKETS = 1024 };

struct machine_cpu {                    /* begins like every instance */
    struct machine base;
    enum cpu_set set;
    const struct cpu_kernels *kernel;
    const struct cpu_products *product;
    pthread_mutex_t lock;               /* of the chunks' lists and counts */
    struct cpu_chunk *bucket[CPU_BUCKETS];
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
    struct block scratch;               /* of attention and heads */
    struct block code, scale;           /* input of a product as words; its scales */
    struct block panel;                 /* weights packed for one call */
    struct block floats;                /* weights decoded for one call */
    struct rotation rotation;
};

struct call {                           /* one operator being run */
    const struct machine_cpu *m;
    struct lm_stream *s;
    const struct lm_exe *x;
    const struct lm_exec *arg;
    const struct lm_op *o;
    bool same;                          /* its input is that of the last product */
};

static inline float *cpu_reg(const struct call *c, int32_t reg)
{
    return reg == 0 ? c->arg->hidden->v : c->s->reg[reg].v;
}

static inline const struct cpu_format *cpu_format(const struct call *c)
{
    return &c->m->product->format[c->x->precision];
}

/* ---- cpu_product.c ------------------------------------------------------------- */
enum { CPU_CHUNK = 128 };               /* rows of w packed together */

/* Packed forms of all weights of products of x, shared where chunks of rows are
 * the same memory: so widths of one matrix share all but their last chunk.  The
 * memory of f32 programs is not doubled: they decode and pack a chunk at a time,
 * each call.                                                                      */
enum lm_status cpu_pack(struct machine_cpu *m, struct lm_exe *x, struct lm_err *e);
void cpu_unpack(struct machine_cpu *m, struct lm_exe *x);

struct cpu_input {                      /* rows to be multiplied */
    const float *a;                     /* lda floats from row to row */
    int64_t rows, lda;
    const uint32_t *code;               /* NULL: a as it is */
    const float *scale;
    int64_t ldc;
};
/* Memory for `pieces` threads, and the encoded input. */
enum lm_status cpu_input(const struct call *c, const float *a, int64_t lda, int64_t rows,
                         int64_t pieces, struct cpu_input *in, struct lm_err *e);
/* y [rows][last - first] = (or +=) outputs first .. last-1 of the operator's
 * product; first is a multiple of CPU_CHUNK.  piece: which of the threads.    */
void cpu_outputs(const struct call *c, const struct cpu_input *in, int64_t first,
                 int64_t last, int64_t piece, float *y, int64_t ldy, bool add);

/* ---- threads ---------------------------------------------------------------------- */
typedef void cpu_part(const struct call *c, const void *with, int64_t first, int64_t last,
                      int64_t piece);
/* part() over 0..n-1 in `pieces` runs of whole grains. */
enum lm_status cpu_split(const struct call *c, const void *with, int64_t n, int64_t grain,
                         int64_t pieces, cpu_part *part, struct lm_err *e);
/* How many pieces so much work is worth. */
int64_t cpu_pieces(const struct call *c, double work);

enum lm_status cpu_linear(const struct call *c, struct lm_err *e);
enum lm_status cpu_rope_kv(const struct call *c, struct lm_err *e);
enum lm_status cpu_attention(const struct call *c, struct lm_err *e);
enum lm_status cpu_head(const struct call *c, struct lm_err *e);
void cpu_rows(const struct call *c);    /* all the others, row by row */
#endif
