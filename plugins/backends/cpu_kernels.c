/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_kernels.c -- chooses between the instruction sets at run time.
 *
 * cpu_vector.h is included once for each, with the lane count and the target
 * attribute of its functions; intrinsics are not needed.                    */
#include <math.h>
#include "cpu.h"

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define FN(name) JOIN(name, SUFFIX)

#define SUFFIX base
#define LANES 4
#define TARGET
#define KERNEL_NAME "generic"
#include "cpu_vector.h"

#if defined __x86_64__ && defined __GNUC__
#define SUFFIX avx2
#define LANES 8
#define TARGET __attribute__((target("avx2,fma")))
#define KERNEL_NAME "avx2"
#include "cpu_vector.h"

#define SUFFIX avx512
#define LANES 16
#define TARGET __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,fma")))
#define KERNEL_NAME "avx512"
#include "cpu_vector.h"
#endif

const struct cpu_kernels *cpu_kernels(enum cpu_set set)
{
#if defined __x86_64__ && defined __GNUC__
    bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")
               && __builtin_cpu_supports("avx512vl")
               && __builtin_cpu_supports("avx512bw");
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (set == CPU_AVX512 || (set == CPU_AUTO && avx512))
        return avx512 ? &table_avx512 : NULL;
    if (set == CPU_AVX2 || (set == CPU_AUTO && avx2))
        return avx2 ? &table_avx2 : NULL;
#endif
    return set == CPU_AUTO || set == CPU_GENERIC ? &table_base : NULL;
}
