/* SPDX-License-Identifier: Apache-2.0 */
/* breed.h -- a round of children, for strategies that keep a population: mutants of
 * genomes to start from, and pairs of children of two parents each.
 *
 * A repeated child is tried again up to 100 times in a row; then the round stays short
 * and its maker fills it at random, or ends.                                    */
#ifndef BREED_H
#define BREED_H
#include "round.h"
#include "vary.h"

struct breed {
    struct vary  *vary;                 /* set by the caller, as all but child  */
    struct round *round;
    double   pc;                        /* probability that two parents cross   */
    double   exchange;                  /* share of children by level switches,
                                           without crossover; 0: none           */
    union lm_value *child;              /* [2][n_slot] scratch                  */
};
enum lm_status breed_open(struct breed *b, struct lm_err *e);   /* behind genes_open */
void breed_close(struct breed *b);

/* Mutants of the round's first n_start genomes, until it has that many. */
void breed_mutants(struct breed *b, size_t n_start, size_t until);
/* Children of parents that the caller picks; a genome stays the caller's. */
typedef const union lm_value *breed_parent(void *ctx);
void breed_pairs(struct breed *b, breed_parent *parent, void *ctx, size_t until);
#endif
