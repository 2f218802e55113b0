#version 450
#extension GL_GOOGLE_include_directive : require
// SPDX-License-Identifier: Apache-2.0
// finish.comp -- a row's loss, its part of the divergence, or its sum of p ln p.
#define GROUP 128
#include "common.glsl"
BUFFER(0, result);
BUFFER(1, stats);
BUFFER(2, a);
BUFFER(3, teacher);
#include "reduce.glsl"
const uint LOSS = 0u, DIVERGENCE = 1u, BYTES = 4u, AS_BF16 = 8u;

void main()
{
    uint t = gl_LocalInvocationID.x, r = gl_WorkGroupID.y, k = word[2];
    uint what = word[1] & 3u, row = r * word[3];
    float lse = uintBitsToFloat(stats[4u * r]) + log(uintBitsToFloat(stats[4u * r + 1u]));
    float v = uintBitsToFloat(stats[4u * r + 3u]);
    if (what == LOSS)
        v = lse - uintBitsToFloat(stats[4u * r + 2u]);
    if (what == DIVERGENCE) {
        float sum = 0.0, scale = 1.0;
        if ((word[1] & BYTES) != 0u)
            scale = uintBitsToFloat(a[word[4] + r]);
        for (uint i = t; i < k; i += GROUP) {
            float x;
            if ((word[1] & BYTES) != 0u)
                x = float(byte_of(a[row + i / 4u], i & 3u));
            else
                x = LOAD(2, a, row + i);
            if ((word[1] & AS_BF16) != 0u)
                x = to_bf16(x);
            sum += x * uintBitsToFloat(teacher[r * k + i]);
        }
        v = lse - scale * group_sum(sum);
    }
    if (t == 0u)
        result[r] = floatBitsToUint(v);
}
