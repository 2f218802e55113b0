/* SPDX-License-Identifier: Apache-2.0 */
/* gp.h -- Gaussian processes over genomes, for the plugin bayes.
 *
 * One number y of a genome is a sample of a process with the Matern 5/2 kernel
 *   k(r) = (1 + s + s^2 / 3) exp(-s),  s = sqrt(5) r,   r^2 = sum_g d_g / l_g^2,
 * where d_g is the squared difference of two genomes in gene g: ordered scalars on
 * [0, 1], choices without order 0 or 1, subsets the share of members in which they
 * differ (Hamming).  Each d_g is a squared Euclidean distance, so k is a kernel.  Each
 * gene has a length l_g of its own; y is scaled to mean 0 and variance 1, and measured
 * with noise.  Genes with one value only do not count.                          */
#ifndef GP_H
#define GP_H
#include "genes.h"

/* Genes in the order of the lengths: ordered scalars first. */
struct gp_frame {
    const struct lm_host *h;
    const struct genes *g;
    uint32_t *gene;                     /* [n]                                  */
    size_t   n_line, n;
};
enum lm_status gp_frame_open(struct gp_frame *f, const struct genes *g, struct lm_err *e);
void gp_frame_close(struct gp_frame *f);

/* Genomes, which the caller keeps. */
struct gp_points {
    const union lm_value **genome;      /* [n]                                  */
    double *line;                       /* [n][n_line] on [0, 1]                */
    size_t  n, room;
};
/* Room for that many in all; drops none. */
enum lm_status gp_points_reserve(const struct gp_frame *f, struct gp_points *p,
                                 size_t room, struct lm_err *e);
void gp_points_add(const struct gp_frame *f, struct gp_points *p,
                   const union lm_value *genome);
void gp_points_close(const struct gp_frame *f, struct gp_points *p);

struct gp {
    const struct gp_frame *f;
    const struct gp_points *at;         /* what was told                        */
    size_t  n, room;
    double  mean, sd;                   /* of y as told                         */
    double  log_noise;                  /* mean of its logarithm, a priori      */
    double *theta;                      /* [f->n + 1] log lengths, log noise    */
    double *slope, *last, *step, *best; /* [f->n + 1] of the ascent             */
    double *y, *alpha, *row;            /* [room] scaled y; K^-1 y              */
    double *k, *inverse, *lean;         /* [n][n] Cholesky factor, K^-1, and
                                           -2 dk/d(r^2)                         */
    double *scaled, *other;             /* [room][n_line] scratch               */
};
enum lm_status gp_open(struct gp *m, const struct gp_frame *f, double log_noise,
                       struct lm_err *e);
void gp_close(struct gp *m);
/* Room for that many observations. */
enum lm_status gp_reserve(struct gp *m, size_t room, struct lm_err *e);
/* Takes y[at->n], and moves the parameters by so many steps towards the maximum of their
 * posterior density, from where they were.                                      */
enum lm_status gp_fit(struct gp *m, const struct gp_points *at, const double *y,
                      int64_t steps, struct lm_err *e);
/* Takes the y of the last one of `at`, one more than before; parameters stay. */
enum lm_status gp_extend(struct gp *m, double y, struct lm_err *e);
/* Mean and standard deviation of y without noise, at each of p. */
void gp_predict(struct gp *m, const struct gp_points *p, double *mean, double *sd);

/* Log of the posterior density of the parameters theta, but for a constant, and its
 * gradient into `slope`; factors the matrix.  LM_EFAILED: not positive definite. */
enum lm_status gp_evidence(struct gp *m, double *value, struct lm_err *e);
#endif
