/* SPDX-License-Identifier: Apache-2.0 */
/* genes.h -- what search strategies share: scalar genes as numbers, subsets as sets,
 * random numbers, and which genomes were proposed already.
 *
 * A scalar gene is a number x on [0, top]: the index of its step (INT, BOOL, CHOICE,
 * stepped REAL) or the distance from its minimum, on a logarithmic scale where the gene
 * asks for it (continuous REAL).  A genome is [n_slot] values.  No locks: strategies
 * are called by one thread.                                                     */
#ifndef GENES_H
#define GENES_H
#include "plugin.h"

/* lm_search.genes of what handles every kind. */
#define GENES_ALL (LM_BIT(LM_GENE_BOOL) | LM_BIT(LM_GENE_INT) | LM_BIT(LM_GENE_REAL) \
                   | LM_BIT(LM_GENE_CHOICE) | LM_BIT(LM_GENE_SUBSET))

struct axis {
    const struct lm_gene *gene;
    double   top;                       /* steps, or width of a continuous range;
                                           SUBSET: not used                     */
    bool     continuous, ordered;
    uint32_t family;                    /* genes that may switch levels, from 1; 0:
                                           a gene without a sense of more       */
};

struct genes {
    const struct lm_host *h;
    const struct lm_problem *p;
    const char *tag;                    /* of memory and messages: "nsga2"      */
    struct axis *axis;                  /* [n_gene]                             */
    uint64_t  state;                    /* of the random stream                 */
    uint64_t *seen;                     /* hashes, open addressing; 0 is free   */
    size_t    n_seen, n_table;          /* n_table: a power of two              */
};

/* What create() knows: the stream is that of the strategy's name. */
struct genes genes_of(const struct lm_args *a, const char *name);
/* In begin(). */
enum lm_status genes_open(struct genes *s, const struct lm_problem *p, struct lm_err *e);
void genes_close(struct genes *s);
/* LM_ECONFIG where there are no genes or no objectives. */
enum lm_status genes_needed(const struct genes *s, struct lm_err *e);

/* ---- random numbers: splitmix64 ---- */
uint64_t genes_mix(uint64_t z);
double genes_unit(struct genes *s);                         /* [0, 1)     */
double genes_below(struct genes *s, double n);              /* 0 .. n - 1 */

/* ---- one gene of a genome ---- */
double genes_get(const struct axis *a, const union lm_value *genome);
/* Rounds to a step and clips. */
void genes_put(const struct axis *a, double x, union lm_value *genome);
void genes_draw(struct genes *s, size_t gene, union lm_value *genome);
/* Uncompressed; of a subset that may not be whole, as many members as may be. */
void genes_keep(const struct genes *s, size_t gene, union lm_value *genome);
void genes_swap(const struct lm_gene *g, union lm_value *a, union lm_value *b);

/* ---- subsets; v is the first slot of the gene ---- */
bool genes_has(const union lm_value *v, uint32_t i);
void genes_flip(union lm_value *v, uint32_t i);
uint32_t genes_count(const struct lm_gene *g, const union lm_value *v);
/* A random member that is in the set (or is not), of n_in that are; there must be one. */
uint32_t genes_any(struct genes *s, const struct lm_gene *g, const union lm_value *v,
                   bool in, uint32_t n_in);
void genes_draw_subset(struct genes *s, const struct lm_gene *g, union lm_value *v,
                       double members);

/* ---- whole genomes ---- */
void genes_draw_all(struct genes *s, union lm_value *genome);
/* Scalars at a share of their range; subsets with so many of their members, drawn. */
void genes_at_share(struct genes *s, double share, union lm_value *genome);
void genes_keep_all(const struct genes *s, union lm_value *genome);
/* Room for n more genomes to be noted. */
enum lm_status genes_reserve(struct genes *s, size_t n, struct lm_err *e);
/* Notes a genome, for which there must be room; false: it was noted before. */
bool genes_note(struct genes *s, const union lm_value *genome);
/* Was it noted? Behind a genes_reserve(). */
bool genes_known(const struct genes *s, const union lm_value *genome);
#endif
