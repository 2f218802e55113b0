/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_codes.c -- one row times weights in number formats, for each instruction set;
 * what decoding reads of a model.  Activations stay floats: reading the weights is
 * what decoding waits for, and the result is that of the decoded weights.      */
#include "cpu.h"

#if defined __x86_64__ && defined __GNUC__
#define HAVE_SETS 1
#include <immintrin.h>
#endif

enum { AHEAD = 4096 };                  /* bytes to fetch ahead */

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define FN(name) JOIN(name, SUFFIX)
/* Of 32 values. */
#define CPU_STEP_BYTES(dtype) \
    ((dtype) == LM_Q8_0 ? 34 : (dtype) == LM_Q4_0 ? 18 : (dtype) == LM_Q4_1 ? 20 : 64)

#define SUFFIX base
#define LANES 4
#define TARGET
#include "cpu_codes.h"

#ifdef HAVE_SETS
#define SUFFIX avx2
#define LANES 8
#define TARGET __attribute__((target("avx2,fma,f16c")))
#include "cpu_codes.h"

#define SUFFIX avx512
#define LANES 16
#define TARGET __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,fma")))
#include "cpu_codes.h"
#endif

cpu_codes_gemv *cpu_codes(enum cpu_set set, uint32_t dtype)
{
#ifdef HAVE_SETS
    if (set >= CPU_AVX512)
        return table_avx512[dtype];
    if (set == CPU_AVX2)
        return table_avx2[dtype];
#endif
    (void)set;
    return table_base[dtype];
}
