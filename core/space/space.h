/* SPDX-License-Identifier: Apache-2.0 */
/* space.h -- genes in order, and genomes: one value per gene. */
#ifndef LM_SPACE_SPACE_H
#define LM_SPACE_SPACE_H
#include "base/err.h"
#include "base/rng.h"
#include "base/str.h"

struct lm_space;
/* Where add_gene gets importance from (lm_host.scores). */
typedef enum lm_status lm_score_source(void *ctx, uint32_t site, int32_t layer,
                                       const double **score, int64_t *n, struct lm_err *e);
enum lm_status lm_space_open(lm_score_source *scores, void *ctx, struct lm_space **s,
                             struct lm_err *e);
void lm_space_close(struct lm_space *s);
/* Copies the gene; names must be unique, bounds and initial sound. */
enum lm_status lm_space_add(struct lm_space *s, const struct lm_gene *g, struct lm_err *e);
enum lm_status lm_space_scores(struct lm_space *s, uint32_t site, int32_t layer,
                               const double **score, int64_t *n, struct lm_err *e);
const struct lm_gene *const *lm_space_genes(const struct lm_space *s, size_t *n);
size_t lm_space_slots(const struct lm_space *s);
double lm_space_log10_size(const struct lm_space *s);   /* continuous genes: inf */

void lm_genome_initial(const struct lm_space *s, union lm_value *out);
/* Within bounds and on steps?  Names the gene otherwise (LM_EBUG). */
enum lm_status lm_genome_check(const struct lm_space *s, const union lm_value *v,
                               struct lm_err *e);
uint64_t lm_genome_hash(const struct lm_space *s, const union lm_value *v);
void lm_genome_text(const struct lm_space *s, const union lm_value *v, struct lm_str *out);
#endif
