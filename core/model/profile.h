/* SPDX-License-Identifier: Apache-2.0 */
/* profile.h -- what each operator costs that sub-networks of a model run on this device.
 *
 * Of a workload's runs, each operator is measured over a grid of shapes: widths of MLPs,
 * KV groups, query heads for each, and perhaps of the residual stream.  What lies between
 * is for the reader to interpolate.  Shapes come from the code that lowers networks
 * (uses.c); profile_time.c times one of them.                                */
#ifndef LM_MODEL_PROFILE_H
#define LM_MODEL_PROFILE_H
#include "model/engine.h"

struct lm_profile_args {
    struct lm_engine *engine;
    int32_t prefill;                    /* tokens; 0: not measured */
    int32_t tokens, context;            /* decode; tokens 0: not measured */
    int32_t threads;
    const uint32_t *format;             /* [n_format] number formats of matrices beside
                                           f32, which the backend reads */
    size_t n_format;
    bool narrow;                        /* narrower residual streams, too */
    size_t params;                      /* of the model */
    size_t cache;                       /* bytes of the last-level cache */
};

/* One operator in one of the runs.  use has its shape at the largest node. */
struct lm_profile_grid {
    struct lm_use use;
    size_t  n[2];                       /* nodes of each axis; 0: no axis */
    int32_t *at[2];                     /* rising */
    double *seconds, *spread;           /* [n[0] or 1][n[1] or 1]; spread: half of the
                                           range between the quartiles */
};
struct lm_profile { struct lm_profile_grid *grid; size_t n; };

/* The members of struct lm_use along which an operator's grid extends, "n", "k", "n_kv",
 * "n_head", or "each" for n_head / n_kv; NULL: no axis.                       */
void lm_profile_axes(const struct lm_use *u, const char *name[2]);
/* LM_ECANCELED leaves nothing.                                          [main] */
enum lm_status lm_profile_measure(const struct lm_profile_args *a, struct lm_profile *out,
                                  struct lm_err *e);
void lm_profile_free(struct lm_profile *p);

/* profile_time.c */
struct lm_timer;
enum lm_status lm_timer_open(const struct lm_profile_args *a, struct lm_timer **t,
                             struct lm_err *e);
void lm_timer_close(struct lm_timer *t);
/* Seconds of one such operator; of code 0, of a run beside its operators. */
enum lm_status lm_timer_measure(struct lm_timer *t, const struct lm_use *u,
                                double *seconds, double *spread, struct lm_err *e);
#endif
