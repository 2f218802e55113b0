#version 450
#extension GL_GOOGLE_include_directive : require
// SPDX-License-Identifier: Apache-2.0
// fold.comp -- logits of a tile of the vocabulary into a row's sums.
#define GROUP 128
#include "common.glsl"
BUFFER(0, stats);
BUFFER(1, logits);
BUFFER(2, args);
#include "reduce.glsl"

void main()
{
    uint t = gl_LocalInvocationID.x, r = gl_WorkGroupID.y, n = word[0];
    uint at = r * word[1];
    float top = LOWEST, sum = 0.0;
    for (uint i = t; i < n; i += GROUP)
        top = max(top, uintBitsToFloat(logits[at + i]));
    float before = word[4] != 0u ? LOWEST : uintBitsToFloat(stats[4u * r]);
    top = max(before, group_max(top));
    for (uint i = t; i < n; i += GROUP)
        sum += exp(uintBitsToFloat(logits[at + i]) - top);
    sum = group_sum(sum);
    if (t != 0u)
        return;
    if (word[4] == 0u)
        sum += uintBitsToFloat(stats[4u * r + 1u]) * exp(before - top);
    stats[4u * r] = floatBitsToUint(top);
    stats[4u * r + 1u] = floatBitsToUint(sum);
    if (word[4] != 0u)
        stats[4u * r + 3u] = 0u;
    if (word[5] != 0u) {
        uint target = args[word[3] + r] - word[2];
        if (target < n)
            stats[4u * r + 2u] = logits[at + target];
    }
}
