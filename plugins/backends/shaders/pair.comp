#version 450
#extension GL_GOOGLE_include_directive : require
// SPDX-License-Identifier: Apache-2.0
// pair.comp -- silu(a) * b, a + b, or a.
#define GROUP 128
#include "common.glsl"
BUFFER(0, y);
BUFFER(1, a);
BUFFER(2, b);

void main()
{
    uint c = gl_GlobalInvocationID.x, r = gl_WorkGroupID.y;
    if (c >= word[4])
        return;
    float x = LOAD(1, a, r * word[2] + c), z = LOAD(2, b, r * word[3] + c), v = x;
    if (word[5] == 0u)
        v = x / (1.0 + exp(-x)) * z;
    else if (word[5] == 1u)
        v = x + z;
    STORE(0, y, r * word[1] + c, v);
}
