/* SPDX-License-Identifier: Apache-2.0 */
/* codec.h -- number formats: rows of floats to and from their bytes. */
#ifndef LM_MODEL_CODEC_H
#define LM_MODEL_CODEC_H
#include "plugin.h"
const struct lm_codec *lm_codec(uint32_t dtype);            /* NULL: unknown */
const struct lm_codec *lm_codec_named(const char *name);    /* "q4_1", NULL  */
/* Bytes of a row of cols values; -1 if cols is no multiple of the block. */
int64_t lm_row_bytes(uint32_t dtype, int64_t cols);
float lm_half_to_float(uint16_t h);
#endif
