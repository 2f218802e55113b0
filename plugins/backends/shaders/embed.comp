#version 450
#extension GL_GOOGLE_include_directive : require
// SPDX-License-Identifier: Apache-2.0
// embed.comp -- rows of a table by token id.
#define GROUP 128
#include "common.glsl"
BUFFER(0, y);
BUFFER(1, m);
BUFFER(2, args);
#define FORMAT word[3]
#define W_STRIDE word[4]
#define SCALE_AT word[5]
#include "weight.glsl"

void main()
{
    uint c = gl_GlobalInvocationID.x, r = gl_WorkGroupID.y;
    uint token = args[word[6] + r] - word[7];
    if (c < word[2] && token < word[8]) {
        STORE(0, y, r * word[1] + c, weight(token, c));
    }
}
