#version 450
#extension GL_GOOGLE_include_directive : require
// SPDX-License-Identifier: Apache-2.0
// round.comp -- a row to whole numbers of its largest magnitude / 127; a row that is not
// finite gets a scale that is no number.
#define GROUP 128
#include "common.glsl"
BUFFER(0, q);
BUFFER(1, a);
#include "reduce.glsl"

void main()
{
    uint t = gl_LocalInvocationID.x, k = word[3];
    uint from = (word[5] + gl_WorkGroupID.y) * word[2], row = word[6] + gl_WorkGroupID.y;
    float most = 0.0;
    for (uint i = t; i < k; i += GROUP) {
        float x = abs(LOAD(1, a, from + i));
        most = is_finite(x) ? max(most, x) : -LOWEST;
    }
    most = group_max(most);
    float scale = most >= -LOWEST ? uintBitsToFloat(0x7fc00000u)
                : most > 1e-30 ? most / 127.0 : 0.0;
    for (uint i = t; i < (k + 3u) / 4u; i += GROUP) {
        uint u = 0u;
        for (uint b = 0u; b < 4u && scale > 0.0; b++)
            if (4u * i + b < k) {
                float x = roundEven(LOAD(1, a, from + 4u * i + b) / scale);
                u |= (uint(int(x)) & 255u) << 8u * b;
            }
        q[row * word[1] + i] = u;
    }
    if (t == 0u)
        q[word[4] + row] = floatBitsToUint(scale);
}
