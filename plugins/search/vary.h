/* SPDX-License-Identifier: Apache-2.0 */
/* vary.h -- new genomes from old ones: crossover, mutation, level switches.
 *
 * Genes with more than 4 ordered values: simulated binary crossover (Deb & Agrawal
 * 1995) and polynomial mutation (Deb & Goyal 1996) on the number of the gene, rounded.
 * Where few values exist these two degenerate (a two-valued gene would mutate once in
 * four million times), so such genes, and choices without order, cross uniformly and
 * mutate by drawing another value with probability max(0.02, 1 / genes).  Subsets cross
 * as sets and mutate by a swap, an addition or a removal within their bounds.
 * CUT swaps the genes above a random place in the order of layers, so that children
 * share a prefix with a parent.                                                */
#ifndef VARY_H
#define VARY_H
#include "genes.h"

enum crossover { SBX, UNIFORM, CUT };

struct vary {
    struct genes *g;                    /* set by the caller, with the rates    */
    int64_t crossover;                  /* enum crossover                       */
    double  eta_c, eta_m;               /* distribution indices                 */
    double  pm;                         /* per gene; 0: 1 / genes, see above    */
    uint32_t *by_layer;                 /* [n_gene] genes in order of layers    */
};
enum lm_status vary_open(struct vary *s, struct lm_err *e);     /* behind genes_open */
void vary_close(struct vary *s);

void vary_cross(struct vary *s, union lm_value *a, union lm_value *b);
void vary_mutate(struct vary *s, union lm_value *v);
/* One gene to another value, as by vary_mutate(); false: it has no other. */
bool vary_gene(struct vary *s, size_t gene, union lm_value *v);
/* Level switches (EvoPress, Sieberling et al. 2024): one gene loses a step, a like gene
 * gains one, up to three times, so that sizes stay; false: no two genes can trade. */
bool vary_exchange(struct vary *s, union lm_value *v);
#endif
