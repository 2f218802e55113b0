/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_lanes.h -- vectors of LANES floats and integers: the head of cpu_rows.h and
 * cpu_codes.h, a template as they are.                                        */
typedef float FN(vf) __attribute__((vector_size(LANES * 4)));
typedef int32_t FN(vi) __attribute__((vector_size(LANES * 4)));
#define VF FN(vf)
#define VI FN(vi)
#define INLINE static inline __attribute__((always_inline)) TARGET
#define KERNEL static TARGET

INLINE VF FN(loadf)(const float *p)
{
    VF v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE float FN(total)(VF v)
{
#if LANES == 16
    return _mm512_reduce_add_ps((__m512)v);
#elif LANES == 8
    __m128 s = _mm_add_ps(_mm256_castps256_ps128((__m256)v),
                          _mm256_extractf128_ps((__m256)v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
#else
    return (v[0] + v[2]) + (v[1] + v[3]);
#endif
}
