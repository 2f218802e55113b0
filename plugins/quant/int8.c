/* SPDX-License-Identifier: Apache-2.0 */
/* int8.c -- quantizer: integers of 8 bits, rounded to nearest, symmetric.
 *
 * With the largest magnitude a of a group of a row, the scale is d = f16(a / 127) and
 * a value x becomes d * q, q the integer nearest to x / d within -127 .. 127.  A group
 * is a block of 32 values, or a whole row: one scale for each output channel.  Both
 * are stored as q8_0, the latter with equal scales.                          */
#include "quant.h"

enum { MOST = 127 };
enum { BLOCKS, ROWS };

struct config { int64_t scale; };

static enum lm_status encode_group(const struct quant *p, const float *x, int64_t n,
                                   unsigned char *out, struct lm_err *e)
{
    unsigned char bits[2];
    float most = 0, d, inverse;

    for (int64_t j = 0; j < n; j++)
        most = fabsf(x[j]) > most ? fabsf(x[j]) : most;
    d = quant_half(p, most / MOST, bits);
    if (!isfinite(d))
        return quant_too_large(p, most, e);
    inverse = quant_inverse(d);
    for (int64_t i = 0; i < n; i += QUANT_BLOCK, out += 2 + QUANT_BLOCK) {
        int8_t q[QUANT_BLOCK];

        for (int j = 0; j < QUANT_BLOCK; j++)
            q[j] = (int8_t)quant_nearest(x[i + j] * inverse, -MOST, MOST);
        memcpy(out, bits, sizeof bits);
        memcpy(out + sizeof bits, q, sizeof q);
    }
    return LM_OK;
}

static enum lm_status encode(void *self, const struct lm_quant_site *s, void *out,
                             struct lm_err *e)
{
    const struct quant *p = self;
    const struct config *c = p->config;
    int64_t group = c->scale == ROWS ? s->cols : QUANT_BLOCK;
    unsigned char *at = out;
    enum lm_status st = LM_OK;

    for (int64_t r = 0; !st && r < s->rows; r++)
        for (int64_t i = 0; !st && i < s->cols; i += group) {
            st = encode_group(p, s->w + r * s->stride + i, group, at, e);
            at += group / QUANT_BLOCK * (2 + QUANT_BLOCK);
        }
    return st;
}

static uint32_t dtype(const void *config)
{
    (void)config;
    return LM_Q8_0;
}

static const char *const scales[] = { "block", "row", NULL };
static const struct lm_opt options[] = {
    LM_PICK(struct config, scale, "block", scales, 0,
            "What shares a scale: a block of 32 weights, or the row of an output "
            "channel; both take the same space."),
    LM_OPT_END
};

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    return quant_create(a, sizeof(struct config), self, e);
}

static const struct lm_quantizer ops = {
    .struct_size = sizeof ops, .dtype = dtype, .encode = encode
};

static const struct lm_module module = {
    LM_MODULE_HEAD(QUANTIZER),
    .name = "int8", .version = "1.0", .license = "Apache-2.0", .author = "Lamina",
    .summary = "8-bit integers, rounded to nearest; q8_0 in a GGUF file",
    .opt = options, .config_size = sizeof(struct config),
    .create = create, .destroy = quant_destroy, .ops = &ops
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
