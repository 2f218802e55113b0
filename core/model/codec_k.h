/* SPDX-License-Identifier: Apache-2.0 */
/* codec_k.h -- decoders of the formats that are only read; for codec.c. */
#ifndef LM_MODEL_CODEC_K_H
#define LM_MODEL_CODEC_K_H
#include <stdint.h>
void lm_decode_q5_0(const void *in, float *out, int64_t cols);
void lm_decode_q5_1(const void *in, float *out, int64_t cols);
void lm_decode_q2_k(const void *in, float *out, int64_t cols);
void lm_decode_q3_k(const void *in, float *out, int64_t cols);
void lm_decode_q4_k(const void *in, float *out, int64_t cols);
void lm_decode_q5_k(const void *in, float *out, int64_t cols);
void lm_decode_q6_k(const void *in, float *out, int64_t cols);
void lm_decode_iq4_nl(const void *in, float *out, int64_t cols);
#endif
