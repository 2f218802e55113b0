/* SPDX-License-Identifier: Apache-2.0 */
/* follow.h -- a calibration sample that goes through the dense model and through a
 * candidate, block by block, side by side.
 *
 * Two residual streams [n_seq * length][hidden], in mapped scratch files.  What becomes
 * of one, and what is measured, does not depend on the number of threads.         */
#ifndef LM_MODEL_FOLLOW_H
#define LM_MODEL_FOLLOW_H
#include "model/engine.h"

struct lm_follow;
enum lm_follow_stream { LM_FOLLOW_DENSE, LM_FOLLOW_CANDIDATE };
/* ids [n_seq][length], row-major; they must outlive it.  memory: bytes that what threads
 * measure may take; fewer work where it would be more, one at least.          [main] */
enum lm_status lm_follow_open(struct lm_engine *g, const int32_t *ids, int64_t n_seq,
                              int64_t length, size_t memory, const char *folder,
                              struct lm_follow **f, struct lm_err *e);
/* What one thread takes to measure a matrix of k columns and n rows.         [any] */
double lm_follow_bytes(int64_t n_seq, int64_t length, int64_t k, int64_t n);
void lm_follow_close(struct lm_follow *f);
/* A stream goes through an embedding, which begins it, or a block.           [main] */
enum lm_status lm_follow_run(struct lm_follow *f, enum lm_follow_stream which,
                             struct lm_segment *s, struct lm_err *e);
/* Of a block of the candidate, whose stream h is in front of it, the dense one h_d
 * behind its own block.  With x [k] what the block's last matrix W reads, b its bias and
 * t = h_d - h - b what W x would have to be for the streams to be the same behind it:
 * gram [k][k] = sum over tokens of x x^T, cross [hidden][k] = sum of t x^T.  Streams
 * stay as they are.                                                          [main] */
enum lm_status lm_follow_measure(struct lm_follow *f, struct lm_segment *s, double *gram,
                                 double *cross, struct lm_err *e);
#endif
