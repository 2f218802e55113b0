/* SPDX-License-Identifier: Apache-2.0 */
/* overlap.c -- pieces of one text looked up among all places of another.
 *
 * A rolling hash (Karp and Rabin 1987), sum of x_i B^(P-1-i) mod 2^64 over the
 * piece, visits all places of a in one pass; its values are kept in a table with open
 * addressing, at most half full.  Two pieces of equal hash count as equal: one of 2^64
 * is wrong by chance, and only a warning hangs on it.                        */
#include "study/overlap.h"

#include "base/hash.h"
#include "base/mem.h"

#define BASE UINT64_C(0x9e3779b97f4a7c15)       /* odd: no power of it vanishes */
enum { PIECE = LM_OVERLAP_PIECE };

struct table { uint64_t *slot; uint64_t mask; };        /* 0: empty */

/* Where h is, or would be. */
static uint64_t *place(const struct table *t, uint64_t h)
{
    uint64_t i = lm_hash_u64(h, 0) & t->mask;

    while (t->slot[i] && t->slot[i] != h)
        i = (i + 1) & t->mask;
    return &t->slot[i];
}

static uint64_t hash(const int32_t *x)
{
    uint64_t h = 0;

    for (int i = 0; i < PIECE; i++)
        h = h * BASE + (uint32_t)x[i] + 1;
    return h ? h : 1;
}

static void add_sequence(struct table *t, const int32_t *x, int64_t length)
{
    uint64_t top = 1, h = 0;

    for (int i = 0; i < PIECE; i++)
        top *= BASE;                    /* of the token that leaves, after a step */
    for (int64_t i = 0; i < length; i++) {
        h = h * BASE + (uint32_t)x[i] + 1;
        if (i >= PIECE)
            h -= top * ((uint32_t)x[i - PIECE] + UINT64_C(1));
        if (i >= PIECE - 1)
            *place(t, h ? h : 1) = h ? h : 1;
    }
}

enum lm_status lm_overlap(const int32_t *a, int64_t n_seq, int64_t length,
                          const int32_t *b, int64_t n, double *share, struct lm_err *e)
{
    struct table t = { .mask = 1 };
    int64_t pieces = n / PIECE, found = 0, stride = length;

    *share = 0;
    if (length < PIECE || n_seq < 1 || !pieces)
        return LM_OK;
    length = length > LM_OVERLAP_MOST ? LM_OVERLAP_MOST : length;
    n_seq = n_seq > LM_OVERLAP_MOST / length ? LM_OVERLAP_MOST / length : n_seq;
    while (t.mask < 2 * (uint64_t)n_seq * (uint64_t)length)
        t.mask *= 2;
    if (!(t.slot = lm_alloc_array((size_t)t.mask, sizeof *t.slot, "overlap")))
        return lm_fail_memory(e, (size_t)t.mask * sizeof *t.slot,
                              "comparing texts");
    t.mask--;
    for (int64_t i = 0; i < n_seq; i++)
        add_sequence(&t, a + i * stride, length);
    for (int64_t i = 0; i < pieces; i++)
        found += *place(&t, hash(b + i * PIECE)) != 0;
    lm_release(t.slot);
    *share = (double)found / (double)pieces;
    return LM_OK;
}
