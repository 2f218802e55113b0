/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_gemm.c -- products for each instruction set.
 *
 * cpu_tile.h is included once for each, with the lane count and the target
 * attribute of its functions.  It is written in vectors of the compiler, with
 * intrinsics only where C has no word for an instruction, so that the portable
 * set is NEON code on ARM.                                                   */
#include <math.h>
#include <string.h>

#include "cpu.h"

#if defined __x86_64__ && defined __GNUC__
#define HAVE_SETS 1
#include <immintrin.h>
#endif

enum { AHEAD = 16 };                    /* words to fetch ahead where memory is slow */

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define FN(name) JOIN(name, SUFFIX)
#define EACH_FEW(x) x(0) x(1) x(2) x(3) x(4) x(5)
#define EACH_ROW(x) EACH_FEW(x) x(6) x(7) x(8) x(9) x(10) x(11)

/* Transposes blocks of 4 x 4 words. */
static void cpu_panel(uint32_t *to, const uint32_t *from, int64_t stride, int64_t n,
                      int64_t words)
{
    int64_t i = 0;
#ifdef HAVE_SETS
    for (; i + 4 <= words; i += 4)
        for (int64_t r = 0; r < n / 4 * 4; r += 4) {
            const float *f = (const float *)(const void *)(from + r * stride + i);
            float *t = (float *)(void *)(to + i * CPU_PANEL + r);
            __m128 a = _mm_loadu_ps(f), b = _mm_loadu_ps(f + stride);
            __m128 c = _mm_loadu_ps(f + 2 * stride), d = _mm_loadu_ps(f + 3 * stride);
            _MM_TRANSPOSE4_PS(a, b, c, d);
            _mm_storeu_ps(t, a);
            _mm_storeu_ps(t + CPU_PANEL, b);
            _mm_storeu_ps(t + 2 * CPU_PANEL, c);
            _mm_storeu_ps(t + 3 * CPU_PANEL, d);
        }
#endif
    for (int64_t j = 0; j < words; j++)
        for (int64_t r = j < i ? n / 4 * 4 : 0; r < CPU_PANEL; r++)
            to[j * CPU_PANEL + r] = r < n ? from[r * stride + j] : 0;
}

#define AVX2 __attribute__((target("avx2,fma")))
#define AVX512 __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,fma")))
#define VNNI __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,avx512vnni,fma")))
#define BF16 __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,avx512bf16,fma")))

/* ---- portable --------------------------------------------------------------------- */
#define SUFFIX base
#define LANES 4
#define TARGET
#include "cpu_rows.h"
#define SUFFIX base_f32
#define LANES 4
#define TARGET
#define FORMAT 0
#include "cpu_tile.h"
#define SUFFIX base_bf16
#define LANES 4
#define TARGET
#define FORMAT 1
#include "cpu_tile.h"
#define SUFFIX base_int8
#define LANES 4
#define TARGET
#define FORMAT 2
#include "cpu_tile.h"

#ifdef HAVE_SETS
/* ---- AVX2 ------------------------------------------------------------------------- */
#define SUFFIX avx2
#define LANES 8
#define TARGET AVX2
#include "cpu_rows.h"
#define SUFFIX avx2_f32
#define LANES 8
#define TARGET AVX2
#define FORMAT 0
#include "cpu_tile.h"
#define SUFFIX avx2_bf16
#define LANES 8
#define TARGET AVX2
#define FORMAT 1
#include "cpu_tile.h"
#define SUFFIX avx2_int8
#define LANES 8
#define TARGET AVX2
#define FORMAT 2
#include "cpu_tile.h"

/* ---- AVX-512 ---------------------------------------------------------------------- */
#define SUFFIX avx512
#define LANES 16
#define TARGET AVX512
#include "cpu_rows.h"
#define SUFFIX avx512_f32
#define LANES 16
#define TARGET AVX512
#define FORMAT 0
#include "cpu_tile.h"
#define SUFFIX avx512_bf16
#define LANES 16
#define TARGET AVX512
#define FORMAT 1
#include "cpu_tile.h"
#define SUFFIX avx512_int8
#define LANES 16
#define TARGET AVX512
#define FORMAT 2
#include "cpu_tile.h"
#define SUFFIX vnni_int8
#define LANES 16
#define TARGET VNNI
#define FORMAT 2
#define DOT
#include "cpu_tile.h"
#define SUFFIX dot_bf16
#define LANES 16
#define TARGET BF16
#define FORMAT 1
#define DOT
#include "cpu_tile.h"
#endif

#define F32(set) { LM_AS_F32, 1, multiply_##set##_f32, encode_w_f32_##set, \
                   encode_a_f32_##set, round_f32_##set, turn_f32_##set }
#define BF16_BY(dot, set) { LM_AS_BF16, 2, multiply_##dot##_bf16, encode_w_bf16_##set, \
                            encode_a_bf16_##set, round_bf16_##set, turn_bf16_##set }
#define INT8_BY(dot, set) { LM_AS_INT8, 4, multiply_##dot##_int8, encode_w_int8_##set, \
                            encode_a_int8_##set, round_int8_##set, NULL }

const struct cpu_products *cpu_products(enum cpu_set set)
{
    static const struct cpu_products base = {
        { F32(base), BF16_BY(base, base), INT8_BY(base, base) }, cpu_panel, few_f32_base
    };
#ifdef HAVE_SETS
    static const struct cpu_products avx2 = {
        { F32(avx2), BF16_BY(avx2, avx2), INT8_BY(avx2, avx2) }, cpu_panel, few_f32_avx2
    };
    static const struct cpu_products avx512 = {
        { F32(avx512), BF16_BY(avx512, avx512), INT8_BY(avx512, avx512) }, cpu_panel,
        few_f32_avx512
    };
    static const struct cpu_products vnni = {
        { F32(avx512), BF16_BY(avx512, avx512), INT8_BY(vnni, avx512) }, cpu_panel,
        few_f32_avx512
    };
    static const struct cpu_products bf16 = {
        { F32(avx512), BF16_BY(dot, avx512), INT8_BY(vnni, avx512) }, cpu_panel,
        few_f32_avx512
    };
    switch (set) {
    case CPU_AVX2:   return &avx2;
    case CPU_AVX512: return &avx512;
    case CPU_VNNI:   return &vnni;
    case CPU_BF16:   return &bf16;
    default:         break;
    }
#endif
    (void)set;
    return &base;
}
