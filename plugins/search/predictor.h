/* SPDX-License-Identifier: Apache-2.0 */
/* predictor.h -- the surrogate of the plugin linas: one regression for each number that
 * is to be predicted of genomes, learned from those that were measured.          */
#ifndef PREDICTOR_H
#define PREDICTOR_H
#include "genes.h"

struct entry { uint32_t index; double value; };     /* of a sparse row of features */

/* What a gene is turned into.
 *   VALUES: one feature for each value that was seen; a value that was not has none.
 *   KNOTS:  n features along the gene's range; a value lies between two of them, which
 *           share it by distance.
 *   PARTS:  of a subset: the share of members in each of n slices.                */
enum coding { VALUES, KNOTS, PARTS };
struct code {
    enum coding coding;
    size_t  gene, first, n;             /* features first .. first + n - 1      */
    double *seen;                       /* VALUES: [n], rising                  */
};

struct model {                          /* of one number                        */
    bool    svr;
    double  choice, error;              /* alpha or C; error of cross validation */
    double  b, *weight;                 /* ridge: [n_feature], SVR: [n]         */
    double  unit;                       /* labels were divided by it            */
};

struct predictor {
    const struct lm_host *h;
    struct lm_run *run;
    const struct genes *genes;
    size_t  knots;                      /* of a gene; fewer values, and all values
                                           where it is 0, are told apart        */
    size_t  n_target;
    struct code *code;                  /* [n_code]                             */
    size_t  n_code, n_feature, most;    /* most: entries of a row               */
    size_t  n;                          /* genomes learned from                 */
    struct entry *row;                  /* [n + 1][most]; the last is scratch   */
    size_t *length;                     /* [n] of rows                          */
    double *column;                     /* [n_feature][n] features, or NULL     */
    double *square, *kernel;            /* [n] lengths of rows; scratch         */
    struct model *model;                /* [n_target]                           */
};

enum { PREDICTOR_FEWEST = 10 };         /* genomes to learn from                */

/* Learns from n genomes and their numbers y [n][n_target], all finite; what was learned
 * before is forgotten.  LM_ECANCELED, LM_ENOMEM.                                 */
enum lm_status predictor_fit(struct predictor *p, const union lm_value *const *genome,
                             const double *y, size_t n, struct lm_err *e);
/* out [n_target]; after predictor_fit(). */
void predictor_eval(struct predictor *p, const union lm_value *genome, double *out);
void predictor_close(struct predictor *p);
#endif
