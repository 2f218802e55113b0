/* SPDX-License-Identifier: Apache-2.0 */
/* part.h -- private to plan/: the cached pieces of candidates.
 *
 * A rack holds the producers of a site (rows of gate and up, or of q, k and v
 * by group) in one order of its members, so that a kept set which comes first
 * in that order is a view.  Where groups lose query heads the rack is of the kept
 * groups and heads alone.  A part is a segment with what it alone owns: the
 * consumer (down or o) for its kept set.  A refined part has a base part, whose
 * consumer it replaces, and its rack; a narrowed part, and behind any of these a
 * quantized one, has a base part alone, from which it is made.  Parts hold racks and
 * bases, candidates parts.
 *
 * Both are made empty on the main thread, filled by one worker (a rack and its
 * new parts form one piece of work), and afterwards only read.              */
#ifndef LM_PLAN_PART_H
#define LM_PLAN_PART_H
#include <pthread.h>

#include "plan/candidate.h"

/* spill.c: memory of derived matrices.  Of n bytes, on the heap or a mapped file. */
struct lm_store_block { float *v; size_t n; bool mapped; };
struct lm_stock {
    char   *folder;                     /* of the files; NULL: all on the heap */
    size_t  heap_most, mapped_most;
    pthread_mutex_t lock;
    size_t  heap, mapped;               /* now */
};
enum lm_status lm_stock_open(struct lm_stock *s, const struct lm_workshop_args *a,
                             struct lm_err *e);
void lm_stock_close(struct lm_stock *s);
/* Zeroed.  LM_EIO: there is no room on the disk.                          [any] */
enum lm_status lm_stock_take(struct lm_stock *s, size_t n, const char *what,
                             struct lm_store_block *out, struct lm_err *e);
void lm_stock_give(struct lm_stock *s, struct lm_store_block *b);

struct lm_rack {
    struct lm_rack *next;
    uint64_t key, used;                 /* used: clock of the last use */
    int64_t  refs;                      /* parts */
    enum lm_segment_kind kind;
    int32_t  layer;
    int32_t  n, rows;                   /* members; how many have their rows here */
    int32_t *member;                    /* [n], kept first */
    int32_t  each;                      /* query heads kept of each group; 0: all */
    const int32_t *head;                /* [rows * each] by member, behind member */
    struct lm_store_block memory;       /* v NULL until filled */
    bool     counted;                   /* its bytes are in the workshop's sum */
    const float *w[3], *bias[3];        /* gate, up; or q, k, v; bias may be NULL */
};

/* Column j of a consumer of `cols` columns kept by `kept` members: where it is in
 * the dense one.                                                            */
static inline int64_t lm_rack_column(const struct lm_rack *k, int32_t kept, int64_t cols,
                                     int64_t j)
{
    const int32_t *unit = k->each ? k->head : k->member;
    int64_t width = cols / (k->each ? (int64_t)kept * k->each : kept);

    return unit[j / width] * width + j % width;
}

/* narrow.c: what a narrower residual stream keeps.  Lives as long as the workshop. */
struct lm_basis {
    struct lm_basis *next;
    uint64_t key;
    int32_t *kept;                      /* channels, rising; NULL: directions */
    bool     each, built;               /* each: one basis for each place */
    int32_t  n;                         /* of bases */
    struct lm_store_block memory;       /* [n][d][d], columns orthonormal */
    struct lm_repair_choice repair;     /* that makes it */
    struct lm_err err;                  /* why it is not built */
};
struct lm_narrow {                      /* basis NULL: the stream as it is */
    struct lm_basis *basis;
    int32_t width, from, to;            /* from, to: numbers of bases */
};

struct lm_part {
    struct lm_part *next;               /* in its bucket */
    uint64_t key, used;
    int64_t  refs;                      /* candidates, and parts based on it */
    enum lm_segment_kind kind;
    int32_t  layer, kept;
    struct lm_rack *rack;               /* NULL: dense, narrowed or quantized */
    struct lm_part *base;               /* of a refined, narrowed or quantized one */
    struct lm_narrow narrow;            /* of a narrowed one; its memory has all that is
                                           narrower */
    struct lm_quant_choice quant[4];    /* by matrix: q k v o, or gate up down; ops
                                           NULL: that of base */
    struct lm_store_block consumer;     /* [hidden][columns kept]; of a quantized part
                                           all its matrices, decoded; behind them the
                                           bytes of those that the backend reads */
    float   *bias;                      /* [hidden] behind it, or the base's; NULL: the
                                           dense one */
    struct lm_segment *seg;             /* NULL until built */
};

/* The part that has the block's matrices as floats. */
static inline struct lm_part *lm_part_floats(struct lm_part *p)
{
    return p->base && !p->rack && !p->narrow.basis ? p->base : p;
}

/* How many times over it is made from another: 0, 1, or 2. */
static inline int lm_part_depth(const struct lm_part *p)
{
    return !p->base ? 0 : !p->base->base ? 1 : 2;
}

/* The part as it was cut. */
static inline const struct lm_part *lm_part_root(const struct lm_part *p)
{
    while (p->base)
        p = p->base;
    return p;
}

/* One missing part. */
struct lm_part_job {
    struct lm_part *part;
    struct lm_repair_choice repair;
    struct lm_part_job *next;           /* of the same rack */
    bool done;
    struct lm_err err;
};

/* A plugin's status counts even where it forgot to say why. */
static inline enum lm_status lm_part_blame(enum lm_status st, const char *who,
                                           struct lm_err *e)
{
    if (st && !e->code)
        lm_fail(e, st, "the %s failed (%s)", who, lm_status_name(st));
    return st;
}

/* workshop.c */
enum { LM_PART_BUCKETS = 1024 };

struct lm_workshop {
    struct lm_workshop_args args;
    struct lm_stock stock;
    uint64_t model, stats;              /* hashes */
    struct lm_part *bucket[LM_PART_BUCKETS];
    struct lm_rack *racks;
    struct lm_basis *bases;
    size_t   bytes;                     /* of parts and racks */
    uint64_t clock;
    int64_t  parts, built, reused;
};

struct lm_part *lm_part_find(struct lm_workshop *w, uint64_t key);
/* Without a segment; NULL: there is no memory.                             [main] */
struct lm_part *lm_part_add(struct lm_workshop *w, uint64_t key,
                            enum lm_segment_kind kind, int32_t layer, int32_t kept,
                            struct lm_rack *rack);
void lm_part_free(struct lm_workshop *w, struct lm_part *p);
/* Lets go of what nobody holds, least recently used first, until the rest is within
 * its limit.                                                               [main] */
void lm_workshop_shrink(struct lm_workshop *w);
/* The disk is full: lets go of all in files that nobody holds and that was last used
 * when the clock was at `then` or before.  false: there was none.          [main] */
bool lm_workshop_spare(struct lm_workshop *w, uint64_t then);
/* The same of the device's memory: of all parts, wherever their weights lie.  [main] */
bool lm_workshop_drop(struct lm_workshop *w, uint64_t then);
const struct lm_workshop_args *lm_workshop_args_of(const struct lm_workshop *w);

/* Fills the rack if it is empty and builds all jobs of it (rack NULL: the one
 * dense segment).  Failures go to the jobs' err.                       [any] */
void lm_parts_build(const struct lm_workshop_args *a, struct lm_rack *rack,
                    struct lm_part_job *jobs);

/* narrow.c.  The basis for a plan that narrows the residual stream: known, or new and
 * not built.                                                           [main] */
enum lm_status lm_basis_find(struct lm_workshop *w, const struct lm_plan *p,
                             const struct lm_repair_choice *r, struct lm_basis **out,
                             struct lm_err *e);
/* Builds those that are not; failures go to their err.                 [main] */
void lm_bases_make(struct lm_workshop *w);
void lm_bases_free(struct lm_workshop *w);
/* What the plan wants of a part, and the key of that. */
void lm_narrow_choose(const struct lm_plan *plan, const struct lm_part *base,
                      struct lm_basis *basis, struct lm_narrow *out, uint64_t *key);
/* Builds a part whose base is built; a failure goes to err.           [any] */
void lm_part_narrow(const struct lm_workshop_args *a, struct lm_part_job *j);
/* For the model that is written: out [vocab][width] = T diag(norm) B, T: embedding or
 * head.  norm counts for directions only; NULL: ones.                  [any] */
enum lm_status lm_narrow_table(const struct lm_narrow *n, const struct lm_model *m,
                               uint32_t role, const float *norm, float *out,
                               struct lm_err *e);

/* count.c: adds a head of its own, and a matrix [m][m] by which a block turns the
 * stream.                                                              [any] */
void lm_table_cost(struct lm_cost *c, uint32_t dtype, int64_t rows, int64_t cols);
void lm_turn_cost(struct lm_cost *c, uint32_t dtype, int64_t m);

/* quantize.c.  What the plan wants of a block: out [4], hashed into key; any:
 * something.                                                         [main] */
enum lm_status lm_quant_choose(const struct lm_workshop_args *a,
                               const struct lm_plan *plan, enum lm_segment_kind kind,
                               int32_t layer, struct lm_quant_choice *out,
                               uint64_t *key, bool *any, struct lm_err *e);
/* Builds a part whose base is built; a failure goes to err.           [any] */
void lm_part_quantize(const struct lm_workshop_args *a, struct lm_part_job *j);
/* Bytes of matrix i in its number format; these.                      [any] */
enum lm_status lm_part_coded(const struct lm_part *p, int i, size_t *size,
                             struct lm_err *e);
enum lm_status lm_part_encode(const struct lm_workshop_args *a, const struct lm_part *p,
                              int i, void *out, struct lm_err *e);
#endif
