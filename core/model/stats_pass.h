/* SPDX-License-Identifier: Apache-2.0 */
/* stats_pass.h -- a calibration pass while it runs; for stats.c, stats_bench.c and
 * stats_add.c.
 *
 * Matrices of second moments are one kind of thing, a product X^T X: of what a block's
 * consumer reads, of the stream where it enters a block, and behind the last layer.
 * Of each there is one X and one matrix on a bench; which of them a layer has is told
 * by the sections of the file.                                                  */
#ifndef LM_MODEL_STATS_PASS_H
#define LM_MODEL_STATS_PASS_H
#include "model/segment.h"
#include "model/stats_file.h"

enum { N_BLOCKS = 2, ALIGN_TOKENS = 512, N_ALIGN = 3,
       N_STATES = 3 };                  /* before, between, behind the blocks */
enum { OF_TAP, OF_STREAM = OF_TAP + N_BLOCKS, OF_FINAL = OF_STREAM + N_BLOCKS,
       N_PRODUCTS };                    /* the first two: one of each block */

struct block_out {                      /* of one group and one block */
    double *sum, *sumsq, *sumabs;       /* [k] */
    double  cosine;                     /* sum over tokens */
    double  align[N_ALIGN];             /* sums over pieces */
};

struct bench {                          /* one worker's place */
    struct lm_stream *stream;
    struct lm_kv *kv;
    struct lm_buffer *hidden, *tap;
    float *before, *middle;             /* [length][hidden] */
    float *x[N_PRODUCTS];               /* [tokens][k] */
    float *gram[N_PRODUCTS];            /* [k][k], lower triangle */
    struct block_out out[N_BLOCKS];
    double cosine, align[N_ALIGN];      /* of the layer */
    float *centred;                     /* [ALIGN_TOKENS][hidden] */
    float *kernel[N_STATES];            /* [ALIGN_TOKENS][ALIGN_TOKENS] */
    enum lm_status status;
    struct lm_err err;
};

struct pass {
    struct lm_engine *g;
    const struct lm_arch *a;
    const int32_t *ids;
    int64_t n_seq, length, group, n_group;
    uint64_t needs, sites;
    struct lm_network net;
    struct lm_segment *block[N_BLOCKS]; /* of the layer at hand; NULL: absent */
    struct lm_exe *exe[N_BLOCKS];       /* with a tap, unless it is the plain one */
    struct lm_segment *held[N_BLOCKS];  /* [n_held] */
    size_t n_held;
    int32_t layer;                      /* -1: the embedding */
    float *stream;                      /* [n_seq * length][hidden], mapped */
    struct bench *bench;                /* [n_bench] */
    int64_t n_bench, first, wave;       /* groups first .. first+wave-1 run */
    struct stats_layout layout;
    char *data;                         /* the file being written */
};

static const uint32_t block_site[N_BLOCKS] = { LM_SITE_ATTN, LM_SITE_MLP };

static inline bool wants(const struct pass *p, uint32_t site, uint64_t stats)
{
    return (p->sites & LM_BIT(site)) && (p->needs & stats);
}

static inline bool taps(const struct pass *p, int b)
{
    return wants(p, block_site[b], LM_BIT(LM_STAT_SUM) | LM_BIT(LM_STAT_SUMSQ)
                                   | LM_BIT(LM_STAT_GRAM) | LM_BIT(LM_STAT_SUMABS));
}

static inline bool aligns(const struct pass *p)
{
    return p->sites && (p->needs & LM_BIT(LM_STAT_ALIGN));
}

/* Where product i of the layer goes; NULL: it has none. */
const struct stats_section *lm_pass_product(const struct pass *p, int i, int32_t layer);
/* Columns of its X. */
int64_t lm_pass_columns(const struct pass *p, int i, int32_t layer);

/* One for each thread; where weights are streamed, no more than fit beside them. */
int64_t lm_bench_count(const struct pass *p);
enum lm_status lm_bench_seat(struct pass *p, struct bench *w, struct lm_err *e);
void lm_bench_leave(const struct pass *p, struct bench *w);

/* Adds what the benches of a wave hold to the file, in the order of the groups. */
enum lm_status lm_pass_add(struct pass *p, struct lm_err *e);
/* Makes the layer's matrices whole. */
enum lm_status lm_pass_mirror(struct pass *p, struct lm_err *e);
#endif
