#version 450
#extension GL_GOOGLE_include_directive : require
// SPDX-License-Identifier: Apache-2.0
// norm.comp -- root mean square norm of a group of n in a row.
#define GROUP 128
#include "common.glsl"
BUFFER(0, y);
BUFFER(1, a);
BUFFER(2, w);
#include "reduce.glsl"

void main()
{
    uint t = gl_LocalInvocationID.x, n = word[3];
    uint from = gl_WorkGroupID.y * word[2] + gl_WorkGroupID.x * n;
    uint to = gl_WorkGroupID.y * word[1] + gl_WorkGroupID.x * n;
    float sum = 0.0;
    for (uint i = t; i < n; i += GROUP) {
        float x = LOAD(1, a, from + i);
        sum += x * x;
    }
    sum = group_sum(sum);
    float f = 1.0 / sqrt(sum / float(n) + uintBitsToFloat(word[4]));
    for (uint i = t; i < n; i += GROUP) {
        STORE(0, y, to + i, LOAD(1, a, from + i) * f * uintBitsToFloat(w[i]));
    }
}
