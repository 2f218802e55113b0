#version 450
#extension GL_GOOGLE_include_directive : require
// SPDX-License-Identifier: Apache-2.0
// matrix.comp -- a product of a tile of 64 rows with a tile of 64 outputs, DEPTH factors
// at a time through shared memory; a thread has 4 x 4 outputs.
#extension GL_EXT_control_flow_attributes : require
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
shared vec4 rows[DEPTH][TILE / 4], outs[DEPTH][TILE / 4];    // four neighbours each

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
        rows[z][x / 4u][x % 4u] = round && !across ? to_bf16(v) : v;
        if (across) {                   // neighbours are columns then
            x = i % TILE;
            z = i / TILE;
        }
        v = 0.0;
        if (j0 + x < n && k0 + z < k)
            v = across ? weight(first + k0 + z, j0 + x) : weight(first + j0 + x, k0 + z);
        outs[z][x / 4u][x % 4u] = round ? to_bf16(v) : v;
    }
}

void put(uint r, uint c, vec4 sum)
{
    if (r >= word[3])
        return;
    for (uint i = 0u; i < 4u && c + i < word[4]; i++) {
        uint at = r * word[1] + word[11] + c + i;
        float v = sum[i];
        if ((word[10] & BIASED) != 0u)
            v += uintBitsToFloat(bias[word[11] + c + i]);
        if ((word[10] & ADDS) != 0u)
            v += LOAD(0, y, at);
        STORE(0, y, at, v);
    }
}

void main()
{
    uint t = gl_LocalInvocationID.x, tx = t % 16u, ty = t / 16u;
    vec4 sum0 = vec4(0.0), sum1 = vec4(0.0), sum2 = vec4(0.0), sum3 = vec4(0.0);
    for (uint k0 = 0u; k0 < word[5]; k0 += DEPTH) {
        stage(t, k0);
        barrier();
        [[unroll]] for (uint z = 0u; z < DEPTH; z++) {
            vec4 x = rows[z][ty], w = outs[z][tx];
            sum0 += x.x * w;
            sum1 += x.y * w;
            sum2 += x.z * w;
            sum3 += x.w * w;
        }
        barrier();
    }
    uint r = gl_WorkGroupID.y * TILE + 4u * ty, c = gl_WorkGroupID.x * TILE + 4u * tx;
    put(r, c, sum0);
    put(r + 1u, c, sum1);
    put(r + 2u, c, sum2);
    put(r + 3u, c, sum3);
}
