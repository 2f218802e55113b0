/* SPDX-License-Identifier: Apache-2.0 */
/* gpu.h -- what backends with a memory and kernels of their own have in common: all but
 * the driver, which is a dozen functions (struct gpu_driver).
 *
 *   program -> launches (gpu_lower.c) -> a recording (the driver), replayed
 *
 * A launch is a kernel, its grid, spans of device memory and 32-bit words: plain data.
 * What a run changes without a new recording (position, token ids, targets) lies in the
 * stream's argument span.  Which launches must wait for others follows from the spans
 * that they read and write (gpu_run.c), so no kernel is forgotten in a list of barriers.
 *
 * Memory is cut from slabs (gpu_pool.c): drivers allow a few thousand allocations, and
 * each is slow.  The account that is kept of it is the instance's own.
 *
 * Registers, key-value caches and scratch hold floats, or, with half = true, registers
 * (but the residual stream) and caches 16-bit floats.  Sums are 32 bits either way.   */
#ifndef LAMINA_BACKENDS_GPU_H
#define LAMINA_BACKENDS_GPU_H
#include <pthread.h>
#include <stdatomic.h>

#include "plugin.h"

/* ---- memory ------------------------------------------------------------------------ */

enum gpu_class {
    GPU_WEIGHTS, GPU_CACHE, GPU_STATES, GPU_SCRATCH,
    GPU_SHARED,                         /* arguments and results: the host touches them in
                                           every run */
    GPU_N_CLASSES
};

struct gpu_slab;                        /* see gpu_pool.c */
struct gpu_span {                       /* bytes [at, at + size) of a slab; NULL: none */
    struct gpu_slab *slab;
    uint64_t at, size;
};
enum { GPU_ALIGN = 256 };               /* of spans; what all drivers are content with */

/* ---- launches ---------------------------------------------------------------------- */

/* Kernels, with what they bind in order and their words.  r: row, one for each token.
 * `half`: bit i says that binding i holds 16-bit floats, else it holds 32-bit ones.
 * Strides are in elements.  A matrix is a weight in one of the formats below.        */
enum gpu_kernel {
    /* y matrix args; half y_stride k format w_stride scale_at token_at first rows:
     * y[r] = row (token - first) of the matrix, where it has that row.  Grid k, rows */
    GPU_EMBED,
    /* y a w; half y_stride a_stride n eps: groups of n.  Grid groups, rows          */
    GPU_NORM,
    /* y a matrix bias; half y_stride a_stride rows n k format w_stride scale_at first
     * flags col a_row: y[r][col + j] (+)= a[a_row + r] . matrix[first + j]
     * (+ bias[col + j]).  Grid n / GPU_TILE, rows / GPU_TILE                         */
    GPU_MATRIX,
    GPU_VECTOR,                         /* the same.  Grid n / GPU_VECTOR_ROWS, rows  */
    GPU_BYTES,                          /* the same with a and matrix in format I8, a's
                                           scale_at in place of the format           */
    /* q a; half q_stride a_stride k scale_at a_row q_row: row q_row + r of q is row
     * a_row + r of a in format I8, filled up to whole words with 0.  Grid 1, rows    */
    GPU_ROUND,
    /* q k v turns cache_k cache_v args; half q_stride k_stride v_stride n_head n_kv
     * head_dim width.  turns: cosine and sine for each position and pair.
     * Grid pairs / 64, rows                                                          */
    GPU_ROPE,
    /* y q cache_k cache_v args; half y_stride q_stride n_head n_kv head_dim width scale.
     * Grid n_head, rows                                                              */
    GPU_ATTENTION,
    /* y a b; half y_stride a_stride b_stride n what.  Grid n / 128, rows             */
    GPU_PAIR,
    /* stats logits args; n stride tile target_at first has_target: folds logits of the
     * vocabulary [tile, tile + n) into stats[r] = { max, sum of exp, target's logit, sum
     * of p ln p }.  has_target: else that is left alone.  Grid 1, rows                  */
    GPU_FOLD,
    /* logits stats; n stride: logits become probabilities; adds to the fourth of stats.
     * Grid 1, rows                                                                   */
    GPU_SHARE,
    /* out stats a teacher; half what k a_stride scale_at: the loss, the divergence's
     * part or the sum of p ln p.  a: floats, or format I8.  Grid 1, rows             */
    GPU_FINISH,
    GPU_N_KERNELS
};
enum {
    GPU_TILE = 64,                      /* rows and columns of GPU_MATRIX's tiles     */
    GPU_VECTOR_ROWS = 4,                /* outputs of a group of GPU_VECTOR           */
    GPU_MAX_HEAD = 256,                 /* head_dim                                   */
    GPU_MOST_BYTES = 133144,            /* k: 127 * 127 * k fits a signed word        */
    GPU_FEW = 8,                        /* rows up to which GPU_VECTOR is taken       */
    GPU_MAX_BIND = 7, GPU_MAX_WORDS = 16
};
enum gpu_flag {
    GPU_ADDS = 1,                       /* y += */
    GPU_BIASED = 2,
    GPU_AS_BF16 = 4,                    /* factors are rounded to bf16 */
    GPU_ACROSS = 8,                     /* y[r][j] = sum_i a[r][i] matrix[i][j], n and k
                                           being the columns and rows of the matrix */
};
enum gpu_pair { GPU_PAIR_SILU, GPU_PAIR_ADD, GPU_PAIR_COPY };
enum gpu_finish {
    GPU_FINISH_LOSS, GPU_FINISH_KL, GPU_FINISH_ENTROPY,
    GPU_FINISH_BYTES = 4, GPU_FINISH_BF16 = 8
};

/* Weights as kernels read them: 32-bit words, rows of w_stride words.  Halves, two a
 * word, the first in the lower bits.  Of blocks of 32: the words of all rows' values,
 * and from word scale_at one word a block, a pair of halves (d, m): value = d q + m.  q:
 * of Q8 a signed byte, of Q4_1 a nibble, of Q4_0 a nibble less 8; of 16 bytes the low
 * nibbles come first.  I8: 4 signed bytes a word and, from word scale_at, a float for
 * each row: value = scale q.                                                         */
enum gpu_format { GPU_F32, GPU_F16, GPU_BF16, GPU_Q8, GPU_Q4_0, GPU_Q4_1, GPU_I8 };

struct gpu_launch {
    uint32_t kernel, grid[2];           /* grid: groups */
    uint32_t n_bind;
    uint32_t writes;                    /* bit i: binding i is written */
    bool     waits;                     /* for all before: set by gpu_run.c */
    struct gpu_span bind[GPU_MAX_BIND];
    uint32_t word[GPU_MAX_WORDS];
};

/* ---- the driver -------------------------------------------------------------------- */

struct gpu_recording;                   /* launches as the driver replays them */

/* All are called from any thread. */
struct gpu_driver {
    /* A piece of device memory; memory: the driver's name of it.  shared: best where the
     * host reads and writes it without a copy.  LM_EINFEASIBLE: there is none left.  */
    enum lm_status (*alloc)(void *device, uint64_t size, bool shared, void **memory,
                            struct lm_err *e);
    void (*free)(void *device, void *memory);
    /* They have taken effect when they return. */
    enum lm_status (*put)(void *device, void *memory, uint64_t at, const void *from,
                          uint64_t size, struct lm_err *e);
    enum lm_status (*get)(void *device, void *memory, uint64_t at, void *to,
                          uint64_t size, struct lm_err *e);
    enum lm_status (*copy)(void *device, void *to, uint64_t to_at, void *from,
                           uint64_t from_at, uint64_t size, struct lm_err *e);
    enum lm_status (*record)(void *device, const struct gpu_launch *l, size_t n,
                             struct gpu_recording **out, struct lm_err *e);
    void (*discard)(void *device, struct gpu_recording *r);
    /* Runs it and waits; device_seconds: 0 where there is no timer. */
    enum lm_status (*replay)(void *device, struct gpu_recording *r,
                             double *device_seconds, struct lm_err *e);
};

struct gpu_limits {
    uint64_t slab;                      /* the largest piece of memory */
    uint64_t bind;                      /* bytes that a kernel can bind */
    uint64_t range;                     /* of a piece of weights; at most `bind` */
    uint32_t grid[2];                   /* groups */
};

/* ---- an instance ------------------------------------------------------------------- */

struct gpu_turns;                       /* a table of cosines and sines */
struct gpu {
    const struct lm_host *host;
    struct lm_run *run;
    const struct gpu_driver *driver;
    void    *device;
    struct gpu_limits limits;
    uint64_t budget;                    /* bytes of device memory that may be taken */
    bool     half, replays;             /* replays: recordings are kept */
    pthread_mutex_t round_lock;         /* of gpu_piece.bytes */
    pthread_mutex_t lock;               /* of what is below */
    struct gpu_slab *slabs;
    uint64_t used[GPU_N_CLASSES], held, most;   /* held: bytes of all slabs */
    struct gpu_turns *turns;
    atomic_uint_least64_t serial;       /* of everything that recordings name */
};
enum lm_status gpu_open(struct gpu *g, const struct lm_args *a,
                        const struct gpu_driver *driver, void *device,
                        const struct gpu_limits *limits, struct lm_err *e);
void gpu_close(struct gpu *g);          /* all objects are gone; frees the slabs */

/* gpu_pool.c */
enum lm_status gpu_take(struct gpu *g, enum gpu_class c, uint64_t size,
                        struct gpu_span *out, const char *what, struct lm_err *e);
void gpu_give(struct gpu *g, enum gpu_class c, struct gpu_span *s);
void *gpu_memory(const struct gpu_span *s);     /* the driver's name of its slab */
enum lm_status gpu_put(struct gpu *g, const struct gpu_span *s, uint64_t at,
                       const void *from, uint64_t size, struct lm_err *e);
enum lm_status gpu_get(struct gpu *g, const struct gpu_span *s, uint64_t at, void *to,
                       uint64_t size, struct lm_err *e);

/* ---- objects of plugin.h ----------------------------------------------------------- */

struct gpu_piece {                      /* rows of a weight that fit into one binding */
    struct gpu_span span;
    int64_t  first, rows;
    uint32_t scale_at;
    struct gpu_span bytes;              /* in format I8, once that was asked for */
};
struct lm_weight {
    const struct lm_codec *codec;       /* NULL of f32 */
    int64_t  rows, cols;
    uint32_t format, stride;            /* words from row to row */
    uint32_t n_piece, byte_stride;
    struct gpu_piece *piece;            /* of the whole, if it is a view */
    bool     is_view;
    const float *host;                  /* one row of f32 where it came from, or NULL */
    uint64_t id;
};
struct lm_buffer { int64_t n; struct gpu_span span; uint64_t id; };
struct lm_kv {
    size_t   n_slot;
    int64_t  capacity;
    int32_t *width;
    struct gpu_span *k, *v;             /* [n_slot] */
    uint64_t id;
};
struct lm_exe {
    size_t   n_op, n_reg;
    struct lm_op *op;
    int32_t *width;
    uint32_t precision;
    uint64_t id;
};

#include "program.h"

/* What a recording was made for; equal keys: it may be replayed. */
struct gpu_key {
    uint64_t exe, shape, rows, hidden, teacher, kv, tap[LM_N_TAPS];
};
struct gpu_note { struct gpu_key key; struct gpu_recording *r; uint64_t used; };
enum { GPU_KEPT = 8 };

struct lm_stream {
    struct gpu_span *reg;               /* [n_reg]; 0 is not used */
    size_t   n_reg;
    struct gpu_span args;               /* position, tokens [rows], targets [rows] */
    struct gpu_span out, logits, stats, bytes;
    uint32_t *host_args;                /* as in `args` */
    size_t   n_args;
    struct gpu_note note[GPU_KEPT];
    uint64_t clock, shape;              /* shape: changes when a span does */
    struct gpu_launch *launch;
    size_t   n_launch, cap_launch;
};

/* gpu_weight.c */
enum lm_status gpu_upload(void *self, const struct lm_tensor *t, int64_t stride,
                          struct lm_weight **w, struct lm_err *e);
enum lm_status gpu_view(void *self, const struct lm_weight *of, int64_t rows,
                        struct lm_weight **w, struct lm_err *e);
void gpu_forget(void *self, struct lm_weight *w);
/* Makes the pieces' rounded bytes, once. */
enum lm_status gpu_round(struct gpu *g, const struct lm_weight *w, struct lm_err *e);
/* Cosines and sines [capacity][pairs][2] of w = inverse frequencies, times f. */
enum lm_status gpu_find_turns(struct gpu *g, const struct lm_weight *w, float f,
                              int64_t capacity, struct gpu_span *out, struct lm_err *e);
void gpu_turns_free(struct gpu *g);

/* gpu_state.c */
enum lm_status gpu_buffer(void *self, int64_t n, struct lm_buffer **b, struct lm_err *e);
void gpu_buffer_free(void *self, struct lm_buffer *b);
enum lm_status gpu_write(void *self, struct lm_buffer *b, int64_t first,
                         const float *from, int64_t n, struct lm_err *e);
enum lm_status gpu_read(void *self, const struct lm_buffer *b, int64_t first, float *to,
                        int64_t n, struct lm_err *e);
enum lm_status gpu_copy(void *self, struct lm_buffer *to, const struct lm_buffer *from,
                        int64_t n, struct lm_err *e);
enum lm_status gpu_kv_open(void *self, const int32_t *width, size_t n_slot,
                           int64_t capacity, struct lm_kv **kv, struct lm_err *e);
void gpu_kv_close(void *self, struct lm_kv *kv);
enum lm_status gpu_stream_open(void *self, int32_t threads, struct lm_stream **s,
                               struct lm_err *e);
void gpu_stream_close(void *self, struct lm_stream *s);
/* Room for a run; s->shape changes when a span moves. */
enum lm_status gpu_stream_reserve(struct gpu *g, struct lm_stream *s,
                                  const struct lm_exe *x, const struct lm_exec *a,
                                  struct lm_err *e);
enum lm_status gpu_use(void *self, struct lm_device_use *out, struct lm_err *e);

/* gpu_lower.c: appends the launches of a program to s->launch. */
enum lm_status gpu_lower(struct gpu *g, struct lm_stream *s, const struct lm_exe *x,
                         const struct lm_exec *a, struct lm_err *e);
/* Vocabulary entries whose logits are held at a time. */
int64_t gpu_tile(int64_t rows, int64_t vocab);

/* gpu_run.c */
enum lm_status gpu_compile(void *self, const struct lm_program *p, struct lm_exe **x,
                           struct lm_err *e);
void gpu_exe_free(void *self, struct lm_exe *x);
enum lm_status gpu_run(void *self, struct lm_stream *s, const struct lm_exe *x,
                       const struct lm_exec *args, struct lm_time *t, struct lm_err *e);

/* The part of the table that does not depend on the driver. */
#define GPU_OPS                                                                         \
    .upload = gpu_upload, .view = gpu_view, .forget = gpu_forget, .buffer = gpu_buffer, \
    .buffer_free = gpu_buffer_free, .write = gpu_write, .read = gpu_read,               \
    .copy = gpu_copy, .kv_open = gpu_kv_open, .kv_close = gpu_kv_close,                 \
    .compile = gpu_compile, .exe_free = gpu_exe_free, .stream_open = gpu_stream_open,   \
    .stream_close = gpu_stream_close, .run = gpu_run, .use = gpu_use,                   \
    .dtypes = LM_BIT(LM_F32) | LM_BIT(LM_F16) | LM_BIT(LM_BF16) | LM_BIT(LM_Q8_0)       \
            | LM_BIT(LM_Q4_0) | LM_BIT(LM_Q4_1),                                        \
    .precisions = LM_BIT(LM_AS_F32) | LM_BIT(LM_AS_BF16) | LM_BIT(LM_AS_INT8)
#endif
