#version 450
#extension GL_GOOGLE_include_directive : require
// SPDX-License-Identifier: Apache-2.0
// share.comp -- logits of a tile to probabilities, their p ln p added to the row's sum.
#define GROUP 128
#include "common.glsl"
BUFFER(0, logits);
BUFFER(1, stats);
#include "reduce.glsl"

void main()
{
    uint t = gl_LocalInvocationID.x, r = gl_WorkGroupID.y, at = r * word[1];
    float top = uintBitsToFloat(stats[4u * r]);
    float log_sum = log(uintBitsToFloat(stats[4u * r + 1u])), sum = 0.0;
    for (uint i = t; i < word[0]; i += GROUP) {
        float l = uintBitsToFloat(logits[at + i]) - top - log_sum, p = exp(l);
        logits[at + i] = floatBitsToUint(p);
        sum += p > 0.0 ? p * l : 0.0;
    }
    sum = group_sum(sum);
    if (t == 0u)
        stats[4u * r + 3u] = floatBitsToUint(uintBitsToFloat(stats[4u * r + 3u]) + sum);
}
