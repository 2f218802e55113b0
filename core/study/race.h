/* SPDX-License-Identifier: Apache-2.0 */
/* race.h -- which candidates of a generation need not be measured to the end.
 *
 * All candidates are measured on the same items, in the same order.  After some of
 * the items a contender that another one beats beyond doubt stops.  "Beats": not worse
 * in any exact objective (size), not worse in any constraint, and better in every
 * sampled one (divergence) over all items, of which only the first n were seen.
 *
 * Opponents are trials that were measured to the end, for each contender the best of
 * those that may beat it, and the contenders still in the race.  A contender that
 * nothing beats is measured to the end, so members of the front always are.
 *
 * The test, for a contender c and an opponent d, on the first n of N items with sums
 * v and weights w:
 *     gap = r_c - r_d,  r = sum v / sum w      (mean; the mean of losses for exp of it)
 *     z_i = (v_ci - r_c w_ci) / sum w_c - (v_di - r_d w_di) / sum w_d
 *     se  = sqrt((1 - n / N) n / (n - 1) sum z_i^2)
 * c is beaten if P(T_{n-1} > gap / se) <= alpha in every sampled objective: Student's
 * test of paired differences whose unit is the item (tokens of one window hang
 * together), of a ratio estimator drawn without replacement (Cochran, Sampling
 * Techniques, 3rd ed., eqs. 2.25 and 2.46).  It takes the first items for a random
 * sample of all.  Where all z are 0 the spread is unknown, and the probability is
 * taken to be 2^-n, that of n equal signs.
 *
 * alpha bounds, after Bonferroni, the probability that a generation loses any
 * contender that would not have been beaten on all items: four fifths of `risk` are
 * divided by the looks and the tests against measured trials, which are few, the rest by
 * the looks and the tests among contenders; all goes to one side if the other has none. */
#ifndef LM_STUDY_RACE_H
#define LM_STUDY_RACE_H
#include "base/err.h"

struct lm_race_rules {
    size_t n_exact, n_sampled, n_bound; /* objectives; constraints */
    const bool *maximise;               /* [n_sampled] */
    const int64_t *items;               /* [n_sampled] N */
    size_t looks;                       /* how often lm_race_look will be called */
    double risk;
};
struct lm_racer {
    const double *exact;                /* [n_exact], smaller is better */
    const double *excess;               /* [n_bound] by how much a constraint is broken,
                                           0 kept, NAN not known yet */
    const struct lm_sum *const *sum;    /* [n_sampled], each [items seen] */
};
struct lm_race_end {
    bool   stopped, by_member;          /* by_member: `by` is one of the measured trials,
                                           else a contender */
    size_t by;
};
struct lm_race;

/* member: trials that were measured to the end, sums of all items.  The arrays and
 * what they point to must live until close; sums of contenders may grow and move.    */
enum lm_status lm_race_open(const struct lm_race_rules *rules,
                            const struct lm_racer *member, size_t n_member,
                            const struct lm_racer *contender, size_t n_contender,
                            struct lm_race **out, struct lm_err *e);
void lm_race_close(struct lm_race *r);
/* The contender failed: it is neither measured on nor an opponent any more. */
void lm_race_leave(struct lm_race *r, size_t contender);
/* After the first seen[k] items of objective k: stops who is beaten. */
void lm_race_look(struct lm_race *r, const int64_t *seen);
struct lm_race_end lm_race_end(const struct lm_race *r, size_t contender);
/* Once all others are measured: what a stopped contender's mean over all items is
 * likely to be, its opponent's plus the gap, and the gap's standard error.  Less noise
 * than in its own mean: how hard the seen items are is known from the opponent.      */
void lm_race_estimate(const struct lm_race *r, size_t contender, size_t objective,
                      double *mean, double *error);
/* P(T > t) for n degrees of freedom. */
double lm_student_tail(double t, int64_t n);
#endif
