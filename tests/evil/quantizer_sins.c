/* SPDX-License-Identifier: Apache-2.0 */
/* quantizer_sins.c -- blocks as the host's codec makes them; see sins.h.
 *
 * Sins: past_end, not_finite, lossy, drifts, no_zeros, moody, no_blocks, other_needs,
 * writes_back.                                                               */
#include "sins.h"

static uint32_t dtype(const void *config)
{
    (void)config;
    return is("no_blocks") ? LM_F16 : LM_Q8_0;
}

static uint64_t needs(const void *config)
{
    (void)config;
    return is("other_needs") ? LM_BIT(LM_STAT_GRAM) : 0;
}

/* odd: where the bytes go to, in units of a matrix of the selftest as floats. */
static void spoil(unsigned char *block, bool odd)
{
    if (is("not_finite"))
        block[1] = 0x7c;
    if (is("lossy"))
        memset(block + 2, 0, 32);
    if (is("drifts") && block[2] < 100)
        block[2] = (unsigned char)(block[2] + 1);
    if (is("no_zeros") && !block[0] && !block[1]) {
        block[1] = 0x10;
        block[2] = 1;
    }
    if (is("moody") && odd)
        block[3] |= 1;
}

static enum lm_status encode(void *self, const struct lm_quant_site *s, void *out,
                             struct lm_err *e)
{
    struct self *p = self;
    const struct lm_codec *c = p->host->codec(LM_Q8_0);
    int64_t row = s->cols / c->block * c->bytes;
    unsigned char *to = out;

    (void)e;
    for (int64_t r = 0; r < s->rows; r++, to += row) {
        c->encode(s->w + r * s->stride, to, s->cols);
        for (int64_t i = 0; i < row; i += c->bytes)
            spoil(to + i, (uintptr_t)out / (4 * (size_t)(s->rows * s->cols)) % 2);
    }
    if (is("past_end"))
        *to = 0;
    if (is("writes_back"))
        ((float *)(uintptr_t)s->w)[0] *= 1.0001f;
    return LM_OK;
}

static const struct lm_quantizer ops = {
    .struct_size = sizeof ops, .dtype = dtype, .encode = encode, .needs = needs };

SIN_MODULE(QUANTIZER, sin_create, ops, )
