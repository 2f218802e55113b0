/* SPDX-License-Identifier: Apache-2.0 */
/* candidate.h -- plan x model: a network of segments, views into the dense
 * weights where possible, derived (gathered, repaired) matrices where not.
 *
 * Members of a site (FFN channels, KV groups) are ordered by score once; a
 * plan that keeps the best k then is a leading slice, and one factorization of
 * the site's Gram matrix serves all k.  Any other kept set gets an order of
 * its own (kept first), prepared for it alone.  Segments and derived matrices
 * are kept by content key up to a byte limit; what candidates in use hold is
 * not counted against it until they are closed.  Given a folder, what is behind the
 * limit goes to mapped files, as much as half of the disk that was free; where the disk
 * is full before, what nobody holds is let go, and what was to be built is built again.
 *
 * Repair starts from the dense statistics of each site, independent of what
 * happens to the others, so a repaired block is the same in all candidates.
 * A block that keeps everything is the dense one, bit for bit.  A narrower residual
 * stream comes behind cut and repair (narrow.c), number formats last: a matrix with
 * one is what is left of it, encoded by its quantizer and decoded again (quantize.c). */
#ifndef LM_PLAN_CANDIDATE_H
#define LM_PLAN_CANDIDATE_H
#include "model/engine.h"
#include "model/stats.h"
#include "plan/plan.h"

/* The repair to use under a plan's settings ("repair.lambda"): instances are
 * made by the pipeline; ops NULL: none.  biases: LM_SHAPE_ATTN_BIAS and
 * LM_SHAPE_MLP_BIAS, for the matrices that get one from it.  turns: it makes a basis of
 * the residual stream for each place.  needs: LM_BIT(enum lm_stat).         */
struct lm_repair_choice {
    const struct lm_repair *ops;
    void    *self;
    uint64_t key, biases, needs;
    bool     turns;
};
typedef enum lm_status lm_repair_source(void *ctx, const struct lm_plan *p,
                                        struct lm_repair_choice *out, struct lm_err *e);

/* The quantizer that a plan calls by that name; the instance is the pipeline's and
 * lives as long as the workshop.  key: of its options; dtype: what it makes;
 * weighed: it is given sums of squares.                                     */
struct lm_quant_choice {
    const struct lm_quantizer *ops;
    void    *self;
    uint64_t key;
    uint32_t dtype;
    bool     weighed;
};
typedef enum lm_status lm_quant_source(void *ctx, const char *name,
                                       struct lm_quant_choice *out, struct lm_err *e);

struct lm_workshop;
struct lm_workshop_args {
    struct lm_engine *engine;
    const struct lm_model *model;
    const struct lm_stats *stats;       /* may be NULL when repair needs none */
    struct lm_space *space;             /* scores for the orders; may be NULL */
    lm_repair_source *repair;
    void   *repair_ctx;
    size_t  memory;                     /* bytes for derived matrices */
    lm_quant_source *quant;             /* NULL: plans have no number formats */
    void   *quant_ctx;
    const char *spill;                  /* folder for derived matrices that do not fit
                                           into `memory`; NULL: the oldest are made
                                           again */
    size_t  sharers;                    /* processes that have half of its disk together;
                                           0: this one */
    size_t  scratch;                    /* bytes for blocks being built side by side,
                                           where the engine streams; at least one is */
    struct lm_stock *stock;             /* the workshop's own; leave NULL */
};
enum lm_status lm_workshop_open(const struct lm_workshop_args *a, struct lm_workshop **w,
                                struct lm_err *e);
void lm_workshop_close(struct lm_workshop *w);

struct lm_part;                         /* a cached segment; part.h */
struct lm_candidate {
    struct lm_plan *plan;               /* borrowed */
    struct lm_network net;              /* segments shared and counted */
    struct lm_part **part;              /* [net.n], behind net.seg */
};
/* Builds n candidates of canonical plans, the missing segments of all in
 * parallel.  A candidate that cannot be built gets its reason in err[i] and an
 * empty net; err[i].code is LM_OK for the others.  Lack of memory and a cancel
 * fail the call, which then leaves nothing to close.                 [main] */
enum lm_status lm_candidates_open(struct lm_workshop *w, struct lm_plan *const *plan,
                                  size_t n, struct lm_candidate *out,
                                  struct lm_err *err, struct lm_err *e);
/* Repairs the cut blocks of an open candidate once more, in their order, the later ones
 * on what the earlier ones, repaired, make of the sample (refine.c).  A failure leaves a
 * candidate to be closed.  Not where the engine streams.             [main] */
struct lm_refine {
    struct lm_repair_choice repair;     /* one that needs LM_STAT_CROSS */
    const int32_t *ids;                 /* [n_seq][length] */
    int64_t n_seq, length;
    size_t memory;                      /* bytes for the work of all threads, see
                                           lm_follow_open() */
    const char *folder;                 /* for two residual streams of the sample */
};
enum lm_status lm_candidate_refine(struct lm_workshop *w, struct lm_candidate *c,
                                   const struct lm_refine *r, struct lm_err *e);
void lm_candidate_close(struct lm_workshop *w, struct lm_candidate *c);
/* LM_SHAPE_* features: those of the plan, and what repair made. */
uint64_t lm_candidate_features(const struct lm_candidate *c);
/* lm_plan_cost(), and all biases and the norms of q and k, as f32; a head that a tied
 * model gets, and matrices by which blocks turn the stream.                 */
void lm_candidate_cost(const struct lm_candidate *c, uint32_t dtype, struct lm_cost *out);
struct lm_workshop_use {                /* for progress and tests */
    size_t  bytes;                      /* of derived weights now held */
    size_t  spilled;                    /* of these, in files */
    int64_t parts, built, reused;       /* held now; since open */
};
/* Bytes that building a block of a model that is streamed takes for a while, at most. */
double lm_repair_scratch(const struct lm_arch *a);
void lm_workshop_use(const struct lm_workshop *w, struct lm_workshop_use *out);
/* The candidate as a model of its own (layers without blocks left out and
 * renumbered): for export.  Its weights are those of model and candidate where they
 * lie, so workshop and candidate must outlive it.  Matrices of untouched blocks keep
 * their format and bytes, those that the plan gives a number format have that,
 * with the bytes the candidate was judged by, the others are f32.  lm_plan_dtypes()
 * has what an export needs to know of it.  apply.c                   [main] */
enum lm_status lm_apply(struct lm_workshop *w, const struct lm_candidate *c,
                        struct lm_model **out, struct lm_err *e);
#endif
