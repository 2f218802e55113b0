/* SPDX-License-Identifier: Apache-2.0 */
/* space.h -- genes in order, and genomes: one value per gene.
 *
 * A space only grows: genes are added once, by the pruners and for tuned
 * options, before the first genome is made.  Importance of sites and the order
 * that follows from it (best first, ties by index) are asked for here, so that
 * pruners, plans and candidates rank by the same numbers.             [main] */
#ifndef LM_SPACE_SPACE_H
#define LM_SPACE_SPACE_H
#include "base/err.h"
#include "base/rng.h"
#include "base/str.h"

/* What members of a kind are called, of many: "KV groups"; never NULL. */
const char *lm_site_name(uint32_t site);

struct lm_space;
/* Where add_gene gets importance from (lm_host.scores). */
typedef enum lm_status lm_score_source(void *ctx, uint32_t site, int32_t layer,
                                       const double **score, int64_t *n,
                                       struct lm_err *e);
enum lm_status lm_space_open(lm_score_source *scores, void *ctx, struct lm_space **s,
                             struct lm_err *e);
void lm_space_close(struct lm_space *s);
/* Copies the gene; names must be unique, bounds and initial sound. */
enum lm_status lm_space_add(struct lm_space *s, const struct lm_gene *g,
                            struct lm_err *e);
enum lm_status lm_space_scores(struct lm_space *s, uint32_t site, int32_t layer,
                               const double **score, int64_t *n, struct lm_err *e);
/* Members of a site kind in a layer by falling score, ties by index; computed
 * once and kept until close.                                                */
enum lm_status lm_space_order(struct lm_space *s, uint32_t site, int32_t layer,
                              const int32_t **order, int64_t *n, struct lm_err *e);
const struct lm_gene *const *lm_space_genes(const struct lm_space *s, size_t *n);
size_t lm_space_slots(const struct lm_space *s);

void lm_genome_initial(const struct lm_space *s, union lm_value *out);
/* Value number i of an INT, REAL with steps, BOOL or CHOICE gene, and how many
 * there are (0: continuous, or a SUBSET).                                    */
int64_t lm_gene_count(const struct lm_gene *g);
union lm_value lm_gene_value(const struct lm_gene *g, int64_t i);
/* Within bounds and on steps?  Names the gene otherwise (LM_EBUG). */
enum lm_status lm_genome_check(const struct lm_space *s, const union lm_value *v,
                               struct lm_err *e);
uint64_t lm_genome_hash(const struct lm_space *s, const union lm_value *v);
/* The shortest number that reads back as v. */
void lm_real_text(double v, struct lm_str *out);
#endif
