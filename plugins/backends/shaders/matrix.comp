#version 450
#extension GL_GOOGLE_include_directive : require
// SPDX-License-Identifier: Apache-2.0
// matrix.comp -- a product of a tile of 64 rows with a tile of 64 outputs, DEPTH factors
// at a time through shared memory; a thread has 4 x 4 outputs.
#define GROUP 256
#include "common.glsl"
BUFFER(0, y);
BUFFER(1, a);
BUFFER(2, m);
BUFFER(3, bias);
#define FORMAT word[6]
#define W_STRIDE word[7]
#define SCALE_AT word[8]
#include "weight.glsl"
const uint ADDS = 1u, BIASED = 2u, AS_BF16 = 4u, ACROSS = 8u;
const uint TILE = 64u, DEPTH = 16u;
shared float rows[64][17], outs[64][17];        // [tile][depth], one more: other banks

void stage(uint t, uint k0)
{
    uint n_rows = word[3], n = word[4], k = word[5], first = word[9], flags = word[10];
    uint r0 = gl_WorkGroupID.y * TILE, j0 = gl_WorkGroupID.x * TILE;
    bool across = (flags & ACROSS) != 0u, round = (flags & AS_BF16) != 0u;
    for (uint i = t; i < TILE * DEPTH; i += GROUP) {
        uint x = i / DEPTH, z = i % DEPTH;
        float v = 0.0;
        if (r0 + x < n_rows && k0 + z < k)
            v = LOAD(1, a, (word[12] + r0 + x) * word[2] + k0 + z);
        rows[x][z] = round && !across ? to_bf16(v) : v;
        if (across) {                   // neighbours are columns then
            x = i % TILE;
            z = i / TILE;
        }
        v = 0.0;
        if (j0 + x < n && k0 + z < k)
            v = across ? weight(first + k0 + z, j0 + x) : weight(first + j0 + x, k0 + z);
        outs[x][z] = round ? to_bf16(v) : v;
    }
}

void main()
{
    uint t = gl_LocalInvocationID.x, tx = t % 16u, ty = t / 16u;
    float sum[4][4];
    for (uint i = 0u; i < 4u; i++)
        for (uint j = 0u; j < 4u; j++)
            sum[i][j] = 0.0;
    for (uint k0 = 0u; k0 < word[5]; k0 += DEPTH) {
        stage(t, k0);
        barrier();
        for (uint z = 0u; z < DEPTH; z++)
            for (uint i = 0u; i < 4u; i++)
                for (uint j = 0u; j < 4u; j++)
                    sum[i][j] += rows[ty + 16u * i][z] * outs[tx + 16u * j][z];
        barrier();
    }
    for (uint i = 0u; i < 4u; i++)
        for (uint j = 0u; j < 4u; j++) {
            uint r = gl_WorkGroupID.y * TILE + ty + 16u * i;
            uint c = gl_WorkGroupID.x * TILE + tx + 16u * j;
            if (r < word[3] && c < word[4]) {
                uint at = r * word[1] + word[11] + c;
                float v = sum[i][j];
                if ((word[10] & BIASED) != 0u)
                    v += uintBitsToFloat(bias[word[11] + c]);
                if ((word[10] & ADDS) != 0u)
                    v += LOAD(0, y, at);
                STORE(0, y, at, v);
            }
        }
}
