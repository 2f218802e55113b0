/* SPDX-License-Identifier: Apache-2.0 */
/* importance.h -- the genome of a given size whose subsets hold their most important
 * members: where Search for Efficient LLMs begins (Shen et al. 2024).
 *
 * Either each subset keeps the same share of its members, or all subsets of one kind
 * compete, by their scores as they are.  Whole numbers that stand for "all" at their
 * maximum (widths, groups) keep the same share; other genes stay uncompressed.     */
#ifndef IMPORTANCE_H
#define IMPORTANCE_H
#include "genes.h"

struct vote { double score; uint32_t kind, gene, member; };

struct importance {
    const struct genes *g;
    bool   global;
    struct vote *vote;                  /* [n] by kind, or gene; best first     */
    size_t n;
};

/* genes are open, and stay.  n stays 0 where no subset has scores.              */
enum lm_status importance_open(struct importance *s, const struct genes *g, bool global,
                               struct lm_err *e);
void importance_close(struct importance *s);
/* share: 0 .. 1 of all members; subsets keep their least at any rate.            */
void importance_genome(const struct importance *s, double share, union lm_value *genome);
#endif
