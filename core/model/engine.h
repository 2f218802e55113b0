/* SPDX-License-Identifier: Apache-2.0 */
/* engine.h -- a model's segments on a backend.
 *
 * A segment (embedding; one attention block; one MLP block; the head) takes
 * the residual stream [rows][hidden] and leaves it changed.  It is compiled
 * once and shared by all candidates in which it is equal; its key says when
 * two are equal.  A network is a list of segments: embedding first, head last,
 * removed blocks absent.  program.c lowers a segment to operators.
 *
 * A narrower residual stream lies in the first `m` floats of a row; what is behind
 * them is never read.  Embedding and head then still have the dense table, and a small
 * matrix that brings its rows down to m and the last state up again: all candidates
 * share one table, and the teacher's vectors stay in its basis.             */
#ifndef LM_MODEL_ENGINE_H
#define LM_MODEL_ENGINE_H
#include "base/err.h"
#include "model/model.h"

struct lm_engine;               /* a backend instance + one architecture */
struct lm_segment;
struct lm_runner;               /* one worker's streams and hidden states */
struct lm_decoder;              /* a whole network with a cache */

enum lm_segment_kind { LM_SEG_EMBED = 1, LM_SEG_ATTN, LM_SEG_MLP, LM_SEG_HEAD };

struct lm_mat {                 /* borrowed f32 weights; w NULL: absent */
    const float *w;
    int64_t rows, cols, stride;
    int64_t whole;              /* w begins a matrix of so many rows, which candidates
                                   share; 0: of `rows` */
    const float *bias;          /* [rows] or NULL */
    struct lm_tensor coded;     /* the same values in a number format, rows behind
                                   one another; data NULL: in none */
};

struct lm_segment_spec {
    enum lm_segment_kind kind;
    int32_t  layer;             /* of the dense model */
    int32_t  n_head, n_kv, n_ff;
    int32_t  hidden;            /* m, width of the residual stream; 0: all of it */
    const float *norm;          /* [m]; HEAD: the final norm */
    const float *q_norm, *k_norm;   /* [head_dim] or NULL */
    struct lm_mat q, k, v, o;   /* ATTN */
    struct lm_mat gate, up, down;   /* MLP */
    struct lm_mat table;        /* EMBED, HEAD: [vocab][hidden] */
    struct lm_mat turn;         /* EMBED: [m][hidden], HEAD: [hidden][m], where the stream
                                   is narrower.  Blocks: [m][m], what a block adds to
                                   the stream beside its own output, or absent: R - I
                                   turns it to the basis of the next block */
    uint64_t key;               /* equal keys: equal segments */
};

/* model gives architecture constants (dims, RoPE, eps); it and the backend
 * instance must outlive the engine.                                         */
enum lm_status lm_engine_open(const struct lm_model *model, const struct lm_backend *ops,
                              void *backend, struct lm_engine **g, struct lm_err *e);
void lm_engine_close(struct lm_engine *g);
const struct lm_model *lm_engine_model(const struct lm_engine *g);
/* LM_EUNSUPPORTED says that the backend cannot compute in this precision. */
enum lm_status lm_engine_can(const struct lm_engine *g, uint32_t precision,
                             struct lm_err *e);
extern const char *const lm_precision_names[LM_N_PRECISIONS];

/* Does the backend read weights in this number format? */
bool lm_engine_reads(const struct lm_engine *g, uint32_t dtype);

/* For a model that is larger than memory: from now on segments are opened without the
 * matrices that must be decoded (lm_mat.w NULL); these are decoded when a segment is
 * held and may go when it is not, so that all together take no more than `bytes`, or
 * what is held at a time.  Before any segment is opened.                     [main] */
void lm_engine_stream(struct lm_engine *g, size_t bytes);
bool lm_engine_streams(const struct lm_engine *g);
/* For one that is not: what is packed of segments for bf16 and int8 may go when they
 * are not held, so that all together takes no more than `bytes`, or what is held at a
 * time.  Without a call there is no limit.  Nothing if the engine streams.     [main] */
void lm_engine_pack(struct lm_engine *g, size_t bytes);
/* A batch begins: what it does not run goes before what it does.               [main] */
void lm_engine_turn(struct lm_engine *g);
/* Bytes of both kinds, for tests; matrices that begin at the same place are packed
 * once.                                                                       [any] */
size_t lm_engine_loaded(struct lm_engine *g);
/* While a segment is held its matrices and programs are there.  Runners, decoders and
 * statistics hold what they run; a decoder its whole network as long as it is open.
 *                                                                             [any] */
enum lm_status lm_segment_hold(struct lm_segment *s, struct lm_err *e);
void lm_segment_drop(struct lm_segment *s);

/* Weights named by the spec must outlive the segment.  Matrices that it does not name
 * are the dense ones, if the engine streams. [any] */
enum lm_status lm_segment_open(struct lm_engine *g, const struct lm_segment_spec *spec,
                               struct lm_segment **s, struct lm_err *e);
void lm_segment_close(struct lm_segment *s);
const struct lm_segment_spec *lm_segment_spec(const struct lm_segment *s);
/* Its spec without the matrices that are there only while it is held. */
struct lm_segment_spec lm_segment_lasting(const struct lm_segment *s);
/* Spec of a dense segment of a model (weights decoded to floats). */
enum lm_status lm_dense_spec(const struct lm_model *m, enum lm_segment_kind kind,
                             int32_t layer, struct lm_segment_spec *spec,
                             struct lm_err *e);

/* The same without the matrices that would have to be decoded; lm_dense_load() decodes
 * what is missing into one block, which the caller releases.                  [any] */
enum lm_status lm_dense_shape(const struct lm_model *m, enum lm_segment_kind kind,
                              int32_t layer, struct lm_segment_spec *spec,
                              struct lm_err *e);
enum lm_status lm_dense_load(const struct lm_model *m, struct lm_segment_spec *s,
                             float **memory, struct lm_err *e);

/* precision (enum lm_precision): what the network is run in, where it is run. */
struct lm_network { struct lm_segment **seg; size_t n; uint32_t precision; };
/* All segments of a model as it is, f32; close frees them. */
enum lm_status lm_network_open(struct lm_engine *g, const struct lm_model *m,
                               struct lm_network *net, struct lm_err *e);
void lm_network_close(struct lm_network *net);

/* A runner belongs to one thread.  It keeps the hidden states behind the
 * segments of its last path over `ids`; a network that shares a prefix with
 * that path (same keys, ids and precision) starts where they part.  What it
 * computes does not depend on what it kept.                                 */
enum lm_status lm_runner_open(struct lm_engine *g, struct lm_runner **r,
                              struct lm_err *e);
void lm_runner_close(struct lm_runner *r);
/* Bytes of hidden states, 256 MiB at first; returns what they were.  What a path cannot
 * do without is kept in any case.                                           */
size_t lm_runner_limit(struct lm_runner *r, size_t bytes);
/* The networks to come over the same ids share their first depth[i] segments with
 * the next one: deepest first.  Decides what is kept where memory is short.  The
 * array must live until the next call.                                      */
void lm_runner_plan(struct lm_runner *r, const size_t *depth, size_t n);
void lm_runner_forget(struct lm_runner *r);     /* all states; keeps their buffers */
void lm_runner_release(struct lm_runner *r);    /* gives back all memory of the backend */
/* Multiply-adds of linear layers, for all tokens of all networks since open: what
 * the networks have, and what was run, the rest being shared.               */
struct lm_work { double asked, run; };
struct lm_work lm_runner_work(const struct lm_runner *r);
/* Matrix i of a block (q k v o; gate up down), or the table; then `turn` if there is
 * one; NULL: no more.                                                       */
struct lm_mat *lm_segment_mat(struct lm_segment_spec *s, int i);
/* Of one token in a segment. */
double lm_segment_macs(const struct lm_segment_spec *s);
/* nll[t], t < n-1: -ln p(ids[t+1] | ids[0..t]). */
enum lm_status lm_runner_losses(struct lm_runner *r, const struct lm_network *net,
                                const int32_t *ids, size_t n, float *nll,
                                struct lm_err *e);
/* kl[t], t < n: KL(teacher || net) of the next-token distributions, exact:
 * sum_v p_t(v) logit(v) = (W^T p_t) . h, so the teacher leaves one vector of
 * `hidden` floats and one entropy per token.  The teacher's side is computed
 * once per ids, in the network's precision (so that the dense model is at 0),
 * and kept in `memo` (shared by all runners; bounded).                      */
struct lm_teacher;
enum lm_status lm_teacher_open(struct lm_engine *g, const struct lm_network *dense,
                               size_t memory, struct lm_teacher **t, struct lm_err *e);
void lm_teacher_close(struct lm_teacher *t);
enum lm_status lm_runner_kl(struct lm_runner *r, const struct lm_network *net,
                            struct lm_teacher *memo, const int32_t *ids, size_t n,
                            float *kl, struct lm_err *e);

/* Many networks over many texts, segment by segment: each segment is held once for all
 * of them, and hidden states are shared where texts, precision and all segments so far
 * are the same (share false: never).  The same numbers as lm_runner_losses() and
 * lm_runner_kl(), bit for bit.  A hidden state [n][hidden] for each ask is kept,
 * and one for each thread that is at work on a divergence.                          */
struct lm_ask {
    const struct lm_network *net;       /* with its precision */
    const int32_t *ids;                 /* [n] */
    size_t n;
    bool kl;
    float *out;                         /* [n - 1] losses or [n] divergences */
    bool answered;                      /* set when `out` is filled */
};
/* Bytes that divergences from the dense model on these ids take in lm_ask_all() beside
 * their own states: its state and its predictions.  0: they are known.          [any] */
size_t lm_teacher_wants(struct lm_teacher *t, uint32_t precision, const int32_t *ids,
                        size_t n);
/* t: may be NULL without kl.  An ask that cannot be run stays unanswered.  Want of
 * memory and a cancel fail the call.  *work grows by what was run.          [main] */
enum lm_status lm_ask_all(struct lm_engine *g, struct lm_teacher *t, bool share,
                          struct lm_ask *ask, size_t n, struct lm_work *work,
                          struct lm_err *e);

/* Generation and timing: one program for the whole network.  Tokens one by one are
 * computed from the coded weights where there are some and the network is run in
 * f32: what one token waits for is the reading of weights.                       */
enum lm_status lm_decoder_open(struct lm_engine *g, const struct lm_network *net,
                               int64_t capacity, int32_t threads, struct lm_decoder **d,
                               struct lm_err *e);
void lm_decoder_close(struct lm_decoder *d);
/* Appends n tokens; logits [vocab] of the last one, or NULL to skip the head.
 * time (may be NULL): of the run.                                           */
enum lm_status lm_decoder_feed(struct lm_decoder *d, const int32_t *ids, int32_t n,
                               float *logits, struct lm_time *time, struct lm_err *e);
/* Continue at pos, whatever the cache holds there (timing). */
void lm_decoder_seek(struct lm_decoder *d, int64_t pos);
/* The operators of the runs that a decoder makes for a workload, each shape once
 * (uses.c).  Segments need neither weights nor to be held.                  [any] */
typedef void lm_see_use(void *ctx, const struct lm_use *u);
enum lm_status lm_network_uses(const struct lm_network *net, const struct lm_workload *w,
                               lm_see_use *see, void *ctx, struct lm_err *e);
#endif
