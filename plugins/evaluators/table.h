/* SPDX-License-Identifier: Apache-2.0 */
/* table.h -- a table of `lamina profile`: what operators cost, over grids of shapes.
 *
 * Between nodes of a grid costs are linear in each axis; below the first node that of
 * the first holds, beyond the last there is none.  An axis of one node holds for that
 * alone.                                                                     */
#ifndef TABLE_H
#define TABLE_H
#include "plugin.h"

struct table_grid {
    uint32_t code, dtype;               /* of struct lm_use; dtype 0: no matrix */
    bool     heads, adds, again;        /* heads: RMSNORM on heads */
    int32_t  rows, pos;                 /* pos: of ATTENTION alone */
    int      axis[2];                   /* enum in table.c; 0: none */
    size_t   n[2];                      /* nodes; 1 without axis */
    int32_t  *at[2];                    /* rising; NULL without axis */
    double   *us;                       /* [n[0]][n[1]] microseconds */
};

struct table {
    const struct lm_host *host;
    uint64_t hash;                      /* of the file's bytes */
    uint64_t reads;                     /* LM_BIT(dtype): what else there is of weights is
                                           floats when it is run */
    char     device[96], backend[64], made[64], model[24];
    int32_t  threads, prefill, tokens, context;     /* workloads; 0: not in it */
    int32_t  layers, hidden, head_dim, vocab;       /* of the model */
    struct table_grid *grid;            /* [n] */
    size_t   n;
};

/* text is not trusted; `what` names it in messages.  On failure nothing is left. */
enum lm_status table_read(const struct lm_host *h, const char *text, size_t size,
                          const char *what, struct table *t, struct lm_err *e);
enum lm_status table_load(const struct lm_host *h, const char *path, struct table *t,
                          struct lm_err *e);
void table_free(struct table *t);
/* Seconds of the operator in all of its runs.  LM_EINFEASIBLE: the table has none of
 * that shape.                                                                */
enum lm_status table_seconds(const struct table *t, const struct lm_use *u,
                             double *seconds, struct lm_err *e);
#endif
