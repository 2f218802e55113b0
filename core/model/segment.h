/* SPDX-License-Identifier: Apache-2.0 */
/* segment.h -- inside an engine; for engine.c, warm.c, program.c, runner.c,
 * breadth.c, decoder.c, teacher.c, follow.c, uses.c, profile*.c and the calibration
 * pass (stats*.c) only.
 *
 * A program is lowered with one set of registers for all segments, so that
 * segments can be put one behind the other: a register is as wide as its widest
 * user, operators carry their own dimensions.                                */
#ifndef LM_MODEL_SEGMENT_H
#define LM_MODEL_SEGMENT_H
#include <pthread.h>

#include "model/engine.h"

enum {                          /* registers */
    REG_HIDDEN, REG_NORM,
    REG_Q, REG_K, REG_V,        /* gate and up in an MLP: REG_Q, REG_K */
    REG_MIX,                    /* attention's output */
    N_REG
};
enum {                          /* weights of a segment: gate, up, down are A, B, D */
    SW_NORM, SW_Q_NORM, SW_K_NORM, SW_A, SW_B, SW_C, SW_D,
    SB_A, SB_B, SB_C, SB_D,
    SC_A, SC_B, SC_C, SC_D,     /* A to D in their number formats, or NULL */
    SW_TURN,
    N_SW
};
enum head_kind { HEAD_CE, HEAD_KL, HEAD_EXPECT, HEAD_LOGITS, N_HEADS };

/* A matrix that a segment has packed in some precision. */
struct lm_packed {
    const float *w;             /* NULL: none */
    uint32_t precision;
    size_t bytes;
    struct lm_packed *next;     /* in its bucket */
};
enum { LM_PACKED_BUCKETS = 1024, LM_SEGMENT_MATS = 5 };

/* A matrix of which segments have views, where the backend has a memory of its own. */
struct lm_whole {
    const float *w;
    int64_t rows, cols, refs;
    struct lm_weight *weight;
    struct lm_whole *next;
};

struct lm_engine {
    const struct lm_model *model;
    const struct lm_arch *arch;
    const struct lm_backend *ops;
    void *backend;
    float *frequency;           /* [head_dim / 2] */
    struct lm_weight *rope;
    bool streams;               /* segments come and go; else what is packed does */
    size_t budget;              /* bytes for those; warm.c */
    size_t used;                /* of those that are loaded now */
    uint64_t clock, turn;       /* turn: at the begin of this batch */
    struct lm_segment *loaded;  /* a list of those that take something of it */
    struct lm_packed *packed[LM_PACKED_BUCKETS];    /* by address */
    struct lm_whole *wholes;
    pthread_mutex_t whole_lock;         /* of these */
    pthread_mutex_t lock;       /* of these, and of what segments say of loading */
    pthread_cond_t settled;     /* some segment is no longer being loaded */
};

struct lm_segment {
    struct lm_engine *g;
    struct lm_segment_spec spec;
    struct lm_weight *w[N_SW];
    struct lm_whole *whole[4];      /* of SW_A .. SW_D, where these are views */
    struct lm_exe *exe[N_HEADS];    /* f32; [0] alone but for the head */
    pthread_mutex_t lock;           /* of `low` */
    struct lm_exe *low[LM_N_PRECISIONS][N_HEADS];   /* compiled at the first use */
    /* warm.c */
    uint32_t missing;               /* LM_BIT(i): matrix i is decoded when it is held */
    bool is_loaded, is_loading;     /* in the list; on the way there */
    int64_t holds;
    size_t bytes;                   /* while loaded: decoded weights */
    struct lm_packed packed[LM_N_PRECISIONS][LM_SEGMENT_MATS];     /* by matrix */
    uint64_t last;                  /* clock of the last use */
    float *memory;
    struct lm_segment *next;        /* in the list of loaded ones */
};

struct lm_lowered {
    struct lm_op *op;
    size_t n, cap;
    int32_t width[N_REG];
    bool coded;                 /* prefer weights in their number formats */
};

/* Weights and programs of a segment whose matrices are there.  engine.c */
enum lm_status lm_segment_load(struct lm_segment *s, struct lm_err *e);
void lm_segment_unload(struct lm_segment *s);
void lm_segment_unpack(struct lm_segment *s);       /* programs of lower precisions */
/* The first program of s, which is held, in this precision comes: makes room for what
 * it packs.  warm.c                                                            */
void lm_segment_pack(struct lm_segment *s, uint32_t precision);
void lm_segment_settle(struct lm_segment *s);       /* before it is freed */

/* Appends the operators of s.  slot: of the cache.  tap: also copy the input of
 * the last matrix (o or down) to tap 0.  head: which one, for a head.        */
enum lm_status lm_lower(struct lm_lowered *p, const struct lm_segment *s, int32_t slot,
                        bool tap, enum head_kind head, struct lm_err *e);
enum lm_status lm_lower_compile(struct lm_engine *g, struct lm_lowered *p,
                                uint32_t precision, struct lm_exe **x, struct lm_err *e);
/* The program of a segment of a network, which the caller holds; head: which one, for
 * the head.                                                               [any] */
enum lm_status lm_segment_exe(const struct lm_network *net, size_t i, enum head_kind head,
                              struct lm_exe **x, struct lm_err *e);
/* Of a whole network, without its head unless asked for; slots of the cache are
 * numbered over the attention segments.                                      */
enum lm_status lm_lower_network(struct lm_lowered *p, const struct lm_network *net,
                                bool head, struct lm_err *e);
/* The next run of a decoder that has `left` tokens to go. */
struct lm_step {
    int32_t rows;
    bool head, coded;           /* coded: from weights in their number formats */
};
struct lm_step lm_decoder_step(int32_t left, bool logits);
void lm_lower_free(struct lm_lowered *p);
/* The f32 program of a block with a tap; the caller frees it.                 [any] */
enum lm_status lm_segment_tapped(const struct lm_segment *s, struct lm_exe **x,
                                 struct lm_err *e);
/* Of a calibration sample, how many sequences are done together: at most 4096 tokens
 * where sequences allow, at least 16 groups where there are as many sequences.    */
static inline int64_t lm_sample_group(int64_t n_seq, int64_t length)
{
    int64_t group = 4096 / length < n_seq / 16 ? 4096 / length : n_seq / 16;
    return group < 1 ? 1 : group;
}
/* Inverse frequencies of the rotary embedding, [head_dim / 2]. */
enum lm_status lm_rope_frequencies(const struct lm_arch *a, float *out, struct lm_err *e);

/* Floats per token of the widest cache slot of a network. */
int32_t lm_network_kv_width(const struct lm_network *net, int32_t head_dim);
/* EMBED first, HEAD last, ids in the vocabulary; or LM_EBUG, LM_EINPUT. */
enum lm_status lm_network_check(const struct lm_network *net, struct lm_err *e);
enum lm_status lm_ids_check(const struct lm_arch *a, const int32_t *ids, size_t n,
                            struct lm_err *e);
/* Sliding attention equals full attention as long as all n tokens of a sequence
 * fit into the window; longer ones are refused (LM_EINPUT).                   */
enum lm_status lm_length_check(const struct lm_arch *a, int64_t n, struct lm_err *e);

/* teacher.c needs the dense final hidden states; runner.c has them.  Writes
 * e_t [n][hidden] and sum p ln p [n].                                        */
enum lm_status lm_runner_expect(struct lm_runner *r, const struct lm_network *net,
                                const int32_t *ids, size_t n, float *expect,
                                float *plogp, struct lm_err *e);
/* One window's side of the teacher.  owned: the caller releases both arrays. */
struct lm_lesson { float *expect, *plogp; bool owned; };
enum lm_status lm_teacher_lesson(struct lm_teacher *t, struct lm_runner *r,
                                 uint32_t precision, const int32_t *ids, size_t n,
                                 struct lm_lesson *out, struct lm_err *e);
/* For who runs the dense model in another way: a lesson that is known, or false;
 * and one that is owned, to be kept if there is room: `owned` says whether it is still
 * the caller's.                                                                */
bool lm_teacher_knows(struct lm_teacher *t, uint32_t precision, const int32_t *ids,
                      size_t n, struct lm_lesson *out);
enum lm_status lm_teacher_tell(struct lm_teacher *t, uint32_t precision,
                               const int32_t *ids, size_t n,
                               struct lm_lesson *lesson, struct lm_err *e);
const struct lm_network *lm_teacher_dense(const struct lm_teacher *t);
#endif
