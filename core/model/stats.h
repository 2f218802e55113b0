/* SPDX-License-Identifier: Apache-2.0 */
/* stats.h -- one calibration pass of the dense model over text; what it
 * leaves behind is a mapped file with sections (see enum lm_stat).  Of a sample of
 * fewer tokens than twice the columns of a site, the inputs are stored in place of a
 * matrix [k][k], which then takes less room to make again than to keep.
 *
 * Layer by layer over all sequences, so that hidden states of one layer and
 * the Gram matrices of one layer are all that is held at a time.            */
#ifndef LM_MODEL_STATS_H
#define LM_MODEL_STATS_H
#include "model/engine.h"

struct lm_stats;
/* ids [n_seq][length], row-major.  needs: LM_BIT(enum lm_stat).  sites:
 * LM_BIT(LM_SITE_ATTN | LM_SITE_MLP | LM_SITE_LAYER | LM_SITE_HIDDEN) to collect for.  The file
 * at path is used if its key (model, tokens, needs, sites, version) fits, else
 * written.                                                           [main] */
enum lm_status lm_stats_collect(struct lm_engine *g, const int32_t *ids, int64_t n_seq,
                                int64_t length, uint64_t needs, uint64_t sites,
                                const char *folder, struct lm_stats **s,
                                struct lm_err *e);
void lm_stats_close(struct lm_stats *s);
enum lm_status lm_stats_get(const struct lm_stats *s, uint32_t stat, uint32_t site,
                            int32_t layer, const double **out, int64_t *n,
                            struct lm_err *e);
/* Gram matrix [k][k] of a site with rows and columns in the order of `column` [k]; the
 * same numbers as from lm_stats_get(), which has to keep a file of k x k for each site
 * where the sample is so short that its inputs were stored instead.         [any] */
enum lm_status lm_stats_gram(const struct lm_stats *s, uint32_t site, int32_t layer,
                             const int32_t *column, int64_t k, double *out,
                             struct lm_err *e);
int64_t lm_stats_tokens(const struct lm_stats *s);
uint64_t lm_stats_key(const struct lm_stats *s);
/* Bytes of disk the file will take. */
int64_t lm_stats_bytes(const struct lm_arch *a, uint64_t needs, uint64_t sites,
                       int64_t tokens);
/* Start of sequence i of a calibration sample: (i-th 32-bit output of MT19937
 * seeded by init_genrand(seed)) mod (n_tokens - length - 1).                */
void lm_sample_starts(uint32_t seed, int64_t n_tokens, int64_t length, int64_t n_seq,
                      int64_t *start);
#endif
