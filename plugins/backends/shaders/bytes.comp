#version 450
#extension GL_GOOGLE_include_directive : require
// SPDX-License-Identifier: Apache-2.0
// bytes.comp -- matrix.comp on signed bytes, four a word; sums are exact.  With DOT the
// device multiplies and adds four at a time (SPV_KHR_integer_dot_product, OpSDot; by
// GL_EXT_spirv_intrinsics, since older compilers know no name for it).
#ifdef DOT
#extension GL_EXT_spirv_intrinsics : require
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6019, 6018],
                  id = 4450)
int packed_dot(int a, int b, spirv_literal int packed_format);
#endif
#define GROUP 256
#include "common.glsl"
BUFFER(0, y);
BUFFER(1, a);
BUFFER(2, m);
BUFFER(3, bias);
const uint ADDS = 1u, BIASED = 2u;
const uint TILE = 64u, DEPTH = 16u;     // words
shared uint rows[64][17], outs[64][17];

int dot4(uint p, uint q)
{
#ifdef DOT
    return packed_dot(int(p), int(q), 0);
#else
    int sum = 0;
    for (uint i = 0u; i < 4u; i++)
        sum += byte_of(p, i) * byte_of(q, i);
    return sum;
#endif
}

void stage(uint t, uint k0, uint words)
{
    uint r0 = gl_WorkGroupID.y * TILE, j0 = gl_WorkGroupID.x * TILE;
    for (uint i = t; i < TILE * DEPTH; i += GROUP) {
        uint x = i / DEPTH, z = i % DEPTH;
        rows[x][z] = r0 + x < word[3] && k0 + z < words
                   ? a[(word[12] + r0 + x) * word[2] + k0 + z] : 0u;
        outs[x][z] = j0 + x < word[4] && k0 + z < words
                   ? m[(word[9] + j0 + x) * word[7] + k0 + z] : 0u;
    }
}

void main()
{
    uint t = gl_LocalInvocationID.x, tx = t % 16u, ty = t / 16u;
    uint words = (word[5] + 3u) / 4u;
    int sum[4][4];
    for (uint i = 0u; i < 4u; i++)
        for (uint j = 0u; j < 4u; j++)
            sum[i][j] = 0;
    for (uint k0 = 0u; k0 < words; k0 += DEPTH) {
        stage(t, k0, words);
        barrier();
        for (uint z = 0u; z < DEPTH; z++)
            for (uint i = 0u; i < 4u; i++)
                for (uint j = 0u; j < 4u; j++)
                    sum[i][j] += dot4(rows[ty + 16u * i][z], outs[tx + 16u * j][z]);
        barrier();
    }
    for (uint i = 0u; i < 4u; i++)
        for (uint j = 0u; j < 4u; j++) {
            uint r = gl_WorkGroupID.y * TILE + ty + 16u * i;
            uint c = gl_WorkGroupID.x * TILE + tx + 16u * j;
            if (r < word[3] && c < word[4]) {
                uint at = r * word[1] + word[11] + c;
                float v = float(sum[i][j]) * uintBitsToFloat(a[word[6] + word[12] + r])
                        * uintBitsToFloat(m[word[8] + word[9] + c]);
                if ((word[10] & BIASED) != 0u)
                    v += uintBitsToFloat(bias[word[11] + c]);
                if ((word[10] & ADDS) != 0u)
                    v += LOAD(0, y, at);
                STORE(0, y, at, v);
            }
        }
}
