/* SPDX-License-Identifier: Apache-2.0 */
/* race.h -- which candidates of a generation need not be measured to the end.
 *
 * All candidates are measured on the same items, in the same order, in rungs: after
 * the first few items, after more, and so on.  A contender that a trial measured to the
 * end beats beyond doubt stops.  "Beats": not worse in any exact objective (size), not
 * worse in any constraint, and better in every sampled one (divergence) over all items,
 * of which only the first n were seen of the contender.
 *
 * Leaders go first.  A contender behind another one, by the items that both have seen,
 * waits; the others go on by a rung, unless the test stops them.  So the likely members
 * of the front are at their end soon, and those that waited meet the best opponents
 * that there are while they have seen least.  Waiting costs nothing and stops nobody.
 * A contender that nothing beats is measured to the end: members of the front always
 * are.
 *
 * The test, for a contender c and an opponent d, on the first n of N items with sums
 * v and weights w:
 *     gap = r_c - r_d,  r = sum v / sum w      (mean; the mean of losses for exp of it)
 *     z_i = (v_ci - r_c w_ci) / sum w_c - (v_di - r_d w_di) / sum w_d
 *     se  = sqrt((1 - n / N) n / (n - 1) sum z_i^2)
 * c is beaten if P(T_{n-1} > gap / se) < alpha in every sampled objective: Student's
 * test of paired differences whose unit is the item (tokens of one window hang
 * together), of a ratio estimator drawn without replacement (Cochran, Sampling
 * Techniques, 3rd ed., eqs. 2.25 and 2.46).  It takes the first items for a random
 * sample of all.  Where all z are 0 the spread is unknown, and the probability is
 * taken to be 2^-n, that of n equal signs.
 *
 * risk bounds, for each contender that all items would not show to be beaten, the
 * probability that it is stopped: it is tested once a rung, and alpha is the risk
 * divided by the number of rungs and by that of the opponents tested then (Bonferroni).
 * With one sampled objective there is one opponent, however many trials and contenders
 * there are: the best of those that may beat it, by its mean over all items.  That
 * choice is made from the opponents' numbers alone, so it costs no correction; which
 * contenders are at their end by then has a little to do with what was seen of c, and
 * tests/check_race.c measures that the risk is kept all the same.  Of the front, a race
 * loses at most the share `risk` on average.                                         */
#ifndef LM_STUDY_RACE_H
#define LM_STUDY_RACE_H
#include "base/err.h"

struct lm_race_rules {
    size_t n_exact, n_sampled, n_bound; /* objectives; constraints */
    const bool *maximise;               /* [n_sampled] */
    size_t n_rung;                      /* before the end */
    const int64_t *seen;                /* [n_rung + 1][n_sampled] items behind a rung; the
                                           last row: all, N */
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
                                           else a contender, measured to its end */
    size_t by, rung;                    /* behind which it stopped */
};
struct lm_race;

/* member: trials that were measured to the end, sums of all items.  All contenders are
 * behind rung 0.  The arrays and what they point to must live until close; the sums of
 * contenders are filled meanwhile.                                                  */
enum lm_status lm_race_open(const struct lm_race_rules *rules,
                            const struct lm_racer *member, size_t n_member,
                            const struct lm_racer *contender, size_t n_contender,
                            struct lm_race **out, struct lm_err *e);
void lm_race_close(struct lm_race *r);
/* The contender failed: it is neither measured on nor an opponent any more. */
void lm_race_leave(struct lm_race *r, size_t contender);
/* Stops who is beaten, and says in go[n_contender] who is to be measured to its next
 * rung before the next call; false: nobody, the race is over.                       */
bool lm_race_go(struct lm_race *r, bool *go);
struct lm_race_end lm_race_end(const struct lm_race *r, size_t contender);
/* What a stopped contender's mean over all items is likely to be, its opponent's plus
 * the gap, and the gap's standard error.  Less noise than in its own mean: how hard the
 * seen items are is known from the opponent.                                        */
void lm_race_estimate(const struct lm_race *r, size_t contender, size_t objective,
                      double *mean, double *error);
/* P(T > t) for n degrees of freedom. */
double lm_student_tail(double t, int64_t n);
#endif
