/* SPDX-License-Identifier: Apache-2.0 */
/* overlap.h -- how much of one text stands in another.                      */
#ifndef LM_STUDY_OVERLAP_H
#define LM_STUDY_OVERLAP_H
#include "base/err.h"

/* Tokens of a piece, which prose does not repeat; tokens of a that are looked at, the
 * first ones, in a table of 16 bytes for each, rounded up to a power of 2.  */
enum { LM_OVERLAP_PIECE = 32, LM_OVERLAP_MOST = 1 << 23 };
/* a: [n_seq][length] token ids (one long text: n_seq 1); b: [n].  *share: of the pieces
 * of LM_OVERLAP_PIECE tokens that b is cut into, those that stand anywhere within a
 * sequence of a; 0 where either is shorter than a piece.                    [any] */
enum lm_status lm_overlap(const int32_t *a, int64_t n_seq, int64_t length,
                          const int32_t *b, int64_t n, double *share, struct lm_err *e);
#endif
