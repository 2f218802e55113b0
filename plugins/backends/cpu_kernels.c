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
#include "cpu_vector.h"

#if defined __x86_64__ && defined __GNUC__
#include <cpuid.h>
#define SUFFIX avx2
#define LANES 8
#define TARGET __attribute__((target("avx2,fma")))
#include "cpu_vector.h"

#define SUFFIX avx512
#define LANES 16
#define TARGET __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,fma")))
#include "cpu_vector.h"
#endif

#if defined __x86_64__ && defined __GNUC__
/* Not all compilers' __builtin_cpu_supports() know it. */
static bool has_f16c(void)
{
    unsigned a, b, c = 0, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

enum cpu_set cpu_best(void)
{
#if defined __x86_64__ && defined __GNUC__
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")
        || !has_f16c())
        return CPU_PORTABLE;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512dq")
        || !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512bw"))
        return CPU_AVX2;
    if (!__builtin_cpu_supports("avx512vnni"))
        return CPU_AVX512;
    return __builtin_cpu_supports("avx512bf16") ? CPU_BF16 : CPU_VNNI;
#else
    return CPU_PORTABLE;
#endif
}

const struct cpu_kernels *cpu_kernels(enum cpu_set set)
{
#if defined __x86_64__ && defined __GNUC__
    if (set >= CPU_AVX512)
        return &table_avx512;
    if (set == CPU_AVX2)
        return &table_avx2;
#endif
    (void)set;
    return &table_base;
}
