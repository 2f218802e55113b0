/* SPDX-License-Identifier: Apache-2.0 */
/* stats_file.h -- the file of a calibration pass; for stats.c, stats_file.c.
 *
 * header | sections' table | data of each section at a multiple of 64 bytes.
 * Which sections there are and where they lie follows from architecture, needs
 * and sites alone, so a file is valid only if its head is byte for byte the one
 * that would be written now, and its length is right: no number of an existing
 * file is ever used as a size or an offset.                                  */
#ifndef LM_MODEL_STATS_FILE_H
#define LM_MODEL_STATS_FILE_H
#include <pthread.h>

#include "base/file.h"
#include "model/stats.h"

struct stats_head {
    char     magic[8];
    uint32_t version, order;            /* order: 0x01020304 as this machine has it */
    uint64_t key;
    int64_t  tokens;
    uint64_t n_section, bytes;
};
struct stats_section {
    uint32_t stat, site;
    int32_t  layer, width;              /* width: of the rows of floats that stand for a
                                           matrix, [tokens][width]; 0: doubles */
    uint64_t offset, n;                 /* bytes from the start; doubles' worth */
};
struct stats_layout {
    struct stats_head head;
    struct stats_section *section;      /* [head.n_section] */
};

/* A matrix that lm_stats_get() made of rows. */
struct stats_made {
    const struct stats_section *of;
    double *gram;
    struct stats_made *next;
};

struct lm_stats {
    struct lm_map map;
    struct stats_layout layout;
    char *folder;                       /* of what is made */
    int64_t group;                      /* tokens that were added up together */
    pthread_mutex_t lock;               /* of the list */
    struct stats_made *made;
};

/* Floats of the tapped input of a site's consumer; 0: the layer has none. */
int64_t lm_stats_width(const struct lm_arch *a, uint32_t site, int32_t layer);
enum lm_status lm_stats_plan(const struct lm_arch *a, uint64_t needs, uint64_t sites,
                             uint64_t key, int64_t tokens, struct stats_layout *out,
                             struct lm_err *e);
void lm_stats_plan_free(struct stats_layout *l);
/* NULL: there is none. */
const struct stats_section *lm_stats_find(const struct stats_layout *l, uint32_t stat,
                                          uint32_t site, int32_t layer);
void lm_stats_put_head(const struct stats_layout *l, void *data);
bool lm_stats_head_fits(const struct stats_layout *l, const struct lm_map *m);
#endif
