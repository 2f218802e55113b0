/* SPDX-License-Identifier: Apache-2.0 */
/* nsga2.h -- between the two files of the plugin nsga2: the strategy (nsga2.c)
 * and the variation of single genomes (nsga2_vary.c).                        */
#ifndef NSGA2_H
#define NSGA2_H
#include "plugin.h"

enum crossover { SBX, UNIFORM, CUT };

struct config {
    int64_t population, generations, budget, crossover;
    double  pc, eta_c, eta_m, pm, exchange;
};

/* A gene as operators see it: x on [0, top], in steps of 1 when discrete. */
struct axis {
    const struct lm_gene *gene;
    double   top;                       /* steps, or width of a continuous range */
    bool     continuous, ordered, few;
    uint32_t family;                    /* genes that may switch levels         */
};

struct vary {
    const struct lm_host *h;
    const struct config  *cfg;
    const struct lm_problem *p;
    struct axis *axis;                  /* [n_gene]                             */
    uint32_t *by_layer;                 /* [n_gene] genes in order of layers    */
    uint64_t  state;                    /* of the random stream                 */
};

/* host, config and state are set by the caller. */
enum lm_status vary_open(struct vary *s, const struct lm_problem *p, struct lm_err *e);
void vary_close(struct vary *s);

uint64_t vary_mix(uint64_t z);
double   vary_unit(struct vary *s);                     /* [0, 1)     */
double   vary_below(struct vary *s, double n);          /* 0 .. n-1   */

/* Genomes are [n_slot] values.  exchange: false when no two genes can trade. */
void vary_uncompressed(const struct vary *s, union lm_value *v);
void vary_draw(struct vary *s, union lm_value *v);
void vary_cross(struct vary *s, union lm_value *a, union lm_value *b);
void vary_mutate(struct vary *s, union lm_value *v);
bool vary_exchange(struct vary *s, union lm_value *v);
#endif
