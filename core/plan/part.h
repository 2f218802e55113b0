/* SPDX-License-Identifier: Apache-2.0 */
/* part.h -- private to plan/: the cached pieces of candidates.
 *
 * A rack holds the producers of a site (rows of gate and up, or of q, k and v
 * by group) in one order of its members, so that a kept set which comes first
 * in that order is a view.  Where groups lose query heads the rack is of the kept
 * groups and heads alone.  A part is a segment with what it alone owns: the
 * consumer (down or o) for its kept set.  Parts hold racks, candidates parts.
 *
 * Both are made empty on the main thread, filled by one worker (a rack and its
 * new parts form one piece of work), and afterwards only read.              */
#ifndef LM_PLAN_PART_H
#define LM_PLAN_PART_H
#include "plan/candidate.h"

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
    float   *memory;                    /* NULL until filled */
    size_t   bytes;
    bool     counted;                   /* bytes are in the workshop's sum */
    const float *w[3], *bias[3];        /* gate, up; or q, k, v; bias may be NULL */
};

struct lm_part {
    struct lm_part *next;               /* in its bucket */
    uint64_t key, used;
    int64_t  refs;                      /* candidates */
    enum lm_segment_kind kind;
    int32_t  layer, kept;
    struct lm_rack *rack;               /* NULL: a dense segment */
    float   *consumer;                  /* [hidden][columns kept] */
    float   *bias;                      /* [hidden] behind it; NULL: the dense one */
    size_t   bytes;                     /* of both */
    struct lm_segment *seg;             /* NULL until built */
};

/* One missing part. */
struct lm_part_job {
    struct lm_part *part;
    struct lm_repair_choice repair;
    struct lm_part_job *next;           /* of the same rack */
    bool done;
    struct lm_err err;
};

const struct lm_model *lm_workshop_model(const struct lm_workshop *w);

/* Fills the rack if it is empty and builds all jobs of it (rack NULL: the one
 * dense segment).  Failures go to the jobs' err.                       [any] */
void lm_parts_build(const struct lm_workshop_args *a, struct lm_rack *rack,
                    struct lm_part_job *jobs);
#endif
