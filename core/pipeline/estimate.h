/* SPDX-License-Identifier: Apache-2.0 */
/* estimate.h -- what estimate.c makes a text of: speeds that were measured on this
 * machine (speed.c), and work that was counted on sampled genomes (sketch.c).      */
#ifndef LM_PIPELINE_ESTIMATE_H
#define LM_PIPELINE_ESTIMATE_H
#include "pipeline/session.h"

struct lm_speed {                       /* of one thread, in processor time */
    double mac;                         /* seconds of a multiply-add in blocks, attention
                                           included, in f32 ... */
    double block[2], head[2];           /* ... of one token in all blocks, in the head:
                                           in f32, in the precision asked for */
    double byte;                        /* of a byte of decoded floats */
    double flop;                        /* of double precision */
    double weight[LM_MAX_STAGES];       /* of a weight that quantizer i of the pipeline
                                           encodes, and that is decoded again */
};
/* longest: tokens of a text.  c: the dense model.  Leaves `weight` alone.     [main] */
enum lm_status lm_speed_measure(struct lm_bench *b, const struct lm_candidate *c,
                                uint32_t precision, size_t longest, struct lm_speed *out,
                                struct lm_err *e);
/* `weight` alone.                                                             [main] */
enum lm_status lm_speed_formats(const struct lm_session *s, struct lm_speed *out,
                                struct lm_err *e);

struct lm_sketch {
    double share;                       /* of a candidate's run beside the dense model's,
                                           mean, prefixes shared as the search does */
    double last;                        /* the same of finalists */
    double flops;                       /* of repair */
    double refit;                       /* of one candidate's by a `refine` that takes
                                           the place of repair, mean */
    double rows;                        /* multiply-adds for Gram matrices of rows */
    double derived;                     /* bytes of derived matrices */
    double cut;                         /* sites, in an order each, that are repaired */
    double encoded[LM_MAX_STAGES];      /* weights by quantizer: of all blocks together */
    double own[LM_MAX_STAGES];          /* ... of a candidate, mean */
};
/* Of `trials` genomes drawn at random; tokens: of the calibration sample.     [main] */
enum lm_status lm_sketch_genomes(struct lm_session *s, size_t trials, int64_t tokens,
                                 struct lm_sketch *out, struct lm_err *e);
/* Bytes of the exported files, after the same genomes. */
enum lm_status lm_sketch_exports(struct lm_session *s, size_t trials, double *bytes,
                                 struct lm_err *e);
#endif
