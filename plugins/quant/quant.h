/* SPDX-License-Identifier: Apache-2.0 */
/* quant.h -- what int8.c and int4.c share.
 *
 * Formats of blocks (q8_0, q4_0, q4_1) hold a scale, and q4_1 an offset, as f16 for
 * each 32 values of a row.  A group is one such block or several in a row with the
 * same scale, so that a file of blocks holds it exactly.  A scale is rounded to
 * f16 before values are divided by it: what is judged is what is stored.     */
#ifndef QUANT_H
#define QUANT_H
#include <math.h>
#include <string.h>

#include "plugin.h"

enum { QUANT_BLOCK = 32 };

struct quant {
    const struct lm_host  *host;
    const struct lm_codec *half;
    const void *config;                 /* a copy, behind this struct */
};

/* f as f16: its bits, and the value that they have. */
static inline float quant_half(const struct quant *p, float f, unsigned char bits[2])
{
    float out;

    p->half->encode(&f, bits, 1);
    p->half->decode(bits, &out, 1);
    return out;
}

/* Nearest integer within lo .. hi, halves away from zero. */
static inline int quant_nearest(float v, float lo, float hi)
{
    v = v < lo ? lo : v > hi ? hi : v;
    return (int)(v + (v < 0 ? -0.5f : 0.5f));
}

static inline float quant_inverse(float d)
{
    return d != 0 ? 1 / d : 0;
}

static inline enum lm_status quant_too_large(const struct quant *p, float x,
                                             struct lm_err *e)
{
    return p->host->fail(e, LM_EFAILED, "a weight of %g is too large for a scale in f16; "
                         "is the model damaged?", (double)x);
}

static inline enum lm_status quant_create(const struct lm_args *a, size_t config_size,
                                          void **self, struct lm_err *e)
{
    struct quant *p = a->host->alloc(sizeof *p + config_size, a->instance);

    if (!p)
        return a->host->fail(e, LM_ENOMEM, "out of memory for quantizer '%s'",
                             a->instance);
    p->host = a->host;
    p->half = a->host->codec(LM_F16);
    p->config = memcpy(p + 1, a->config, config_size);
    *self = p;
    return LM_OK;
}

static inline void quant_destroy(void *self)
{
    struct quant *p = self;

    p->host->release(p);
}
#endif
