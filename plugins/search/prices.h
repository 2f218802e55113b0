/* SPDX-License-Identifier: Apache-2.0 */
/* prices.h -- what genes cost of a bounded number, learned from outcomes: sizes are
 * nearly linear in widths, so a genome can be put within its bounds before it is
 * measured.
 *
 * excess = value / bound - 1, above 0 where the bound is broken; its model is
 *   e0 + w . (x - x0),
 * x0 and e0 being the first genome told and its excess.  Features x: the place of an
 * ordered gene on its range and the share of members of a subset, 0 .. 1; one for
 * each value of a choice without order.  Before anything else is known all places cost
 * the same and nothing is left at 0; deviations from that are learned by least squares
 * with a small ridge: what outcomes do not tell stays as it was.
 *
 * Of a partial price only excesses above 0 are told.  Where the model is wrong all
 * genomes may end well within the bound and nothing is learned, so some are to be aimed
 * beyond it, by up to `spread`: what the model was wrong by last time, or, where nothing
 * was told, twice as much as then.                                               */
#ifndef PRICES_H
#define PRICES_H
#include "genes.h"

struct price {                          /* of one bounded number                */
    bool    known;                      /* a genome was told                    */
    bool    partial;                    /* set by the caller                    */
    double  spread, wrong;              /* wrong: sum of squared errors         */
    size_t  told;                       /* since the last prices_learn()        */
    double  e0;
    double *x0, *prior;                 /* [n_feature]; 0 where a gene has no price */
    double *gram, *product;             /* [n_feature][n_feature], [n_feature]  */
    double *weight;                     /* [n_feature]                          */
};

struct prices {
    const struct lm_host *h;
    const struct genes *genes;
    size_t *first;                      /* [n_gene] its feature                 */
    size_t  n_feature, n;               /* n: prices                            */
    struct price *price;                /* [n]                                  */
    double *x, *square;                 /* scratch [n_feature], [..][..]        */
};

/* genes are open, and stay. */
enum lm_status prices_open(struct prices *s, const struct genes *g, size_t n,
                           struct lm_err *e);
void prices_close(struct prices *s);
/* An outcome; excess is finite. */
void prices_tell(struct prices *s, size_t k, const union lm_value *genome, double excess);
/* Learns from all told so far. */
enum lm_status prices_learn(struct prices *s, struct lm_err *e);
/* NAN: nothing was told. */
double prices_excess(struct prices *s, size_t k, const union lm_value *genome);
/* Excess for one step of an ordered gene or one member of a subset, or, of a continuous
 * gene, for a 64th of its range; 0: no price.                                    */
double prices_step(const struct prices *s, size_t k, size_t gene);
#endif
