/* SPDX-License-Identifier: Apache-2.0 */
/* rates.c -- what the processor can do at most in each number format: the best of
 * many short runs of independent multiply-adds on registers, in operations per
 * second (a multiply-add is two).  Prints the formats it has instructions for.  */
#include "rates.h"

#include <math.h>
#include <stdio.h>

#include "base/log.h"

#if defined __x86_64__ && defined __GNUC__
#include <immintrin.h>

enum { CHAINS = 16, ROUNDS = 200000, TRIES = 40 };

#define EACH(x) x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7) x(8) x(9) x(10) x(11) x(12) \
    x(13) x(14) x(15)
#define KEEP(i) __asm__ volatile("" : "+v"(s##i));
/* A loop of CHAINS steps that depend on their own last result only. */
#define LOOP(name, isa, type, zero, step) \
    static __attribute__((target(isa), noinline)) void name(void) \
    { \
        EACH(zero) \
        for (int k = 0; k < ROUNDS; k++) { \
            EACH(step) \
            EACH(KEEP) \
        } \
    }

#define ZERO_F(i) __m512 s##i = _mm512_set1_ps(0.5f);
#define STEP_F(i) s##i = _mm512_fmadd_ps(s##i, s##i, s##i);
LOOP(chains_f32, "avx512f", __m512, ZERO_F, STEP_F)
#define ZERO_Y(i) __m256 s##i = _mm256_set1_ps(0.5f);
#define STEP_Y(i) s##i = _mm256_fmadd_ps(s##i, s##i, s##i);
#undef KEEP
#define KEEP(i) __asm__ volatile("" : "+x"(s##i));
LOOP(chains_f32_avx2, "avx2,fma", __m256, ZERO_Y, STEP_Y)
#undef KEEP
#define KEEP(i) __asm__ volatile("" : "+v"(s##i));
#define STEP_B(i) s##i = _mm512_dpbf16_ps(s##i, (__m512bh)s##i, (__m512bh)s##i);
LOOP(chains_bf16, "avx512f,avx512bw,avx512vl,avx512bf16", __m512, ZERO_F, STEP_B)
#define ZERO_I(i) __m512i s##i = _mm512_set1_epi32(1);
#define STEP_I(i) s##i = _mm512_dpbusd_epi32(s##i, s##i, s##i);
LOOP(chains_int8, "avx512f,avx512bw,avx512vl,avx512vnni", __m512i, ZERO_I, STEP_I)

static void show(const char *format, void (*loop)(void), double operations)
{
    double best = INFINITY;

    for (int i = 0; i < TRIES; i++) {
        double t = lm_clock();

        loop();
        best = fmin(best, lm_clock() - t);
    }
    printf("peak.%s_gflops = %.1f\n", format,
           operations * CHAINS * ROUNDS / best * 1e-9);
}

void rates_show(void)
{
    if (__builtin_cpu_supports("avx512f"))
        show("f32", chains_f32, 32);
    else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        show("f32", chains_f32_avx2, 16);
    if (__builtin_cpu_supports("avx512bf16"))
        show("bf16", chains_bf16, 64);
    if (__builtin_cpu_supports("avx512vnni"))
        show("int8", chains_int8, 128);
}
#else
void rates_show(void)
{
    printf("peak = unknown\n");
}
#endif
