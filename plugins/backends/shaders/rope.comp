#version 450
#extension GL_GOOGLE_include_directive : require
// SPDX-License-Identifier: Apache-2.0
// rope.comp -- turns the pairs (i, i + head_dim / 2) of q and k by the position, and puts
// k and v into the cache; a thread has one pair of q, k or v.
#define GROUP 64
#include "common.glsl"
BUFFER(0, q);
BUFFER(1, k);
BUFFER(2, v);
BUFFER(3, turns);
BUFFER(4, cache_k);
BUFFER(5, cache_v);
BUFFER(6, args);

void main()
{
    uint n_head = word[4], n_kv = word[5], half_dim = word[6] / 2u;
    uint i = gl_GlobalInvocationID.x, r = gl_WorkGroupID.y, pos = args[0] + r;
    uint head = i / half_dim, pair = i % half_dim;
    if (head >= n_head + 2u * n_kv)
        return;
    float c = uintBitsToFloat(turns[2u * (pos * half_dim + pair)]);
    float s = uintBitsToFloat(turns[2u * (pos * half_dim + pair) + 1u]);
    if (head < n_head) {
        uint at = r * word[1] + head * word[6] + pair;
        float x = LOAD(0, q, at), z = LOAD(0, q, at + half_dim);
        STORE(0, q, at, x * c - z * s);
        STORE(0, q, at + half_dim, z * c + x * s);
    } else if (head < n_head + n_kv) {
        uint within = (head - n_head) * word[6] + pair, to = pos * word[7] + within;
        uint at = r * word[2] + within;
        float x = LOAD(1, k, at), z = LOAD(1, k, at + half_dim);
        float first = x * c - z * s, second = z * c + x * s;
        STORE(1, k, at, first);
        STORE(1, k, at + half_dim, second);
        STORE(4, cache_k, to, first);
        STORE(4, cache_k, to + half_dim, second);
    } else {
        uint within = (head - n_head - n_kv) * word[6] + pair, to = pos * word[7] + within;
        uint at = r * word[3] + within;
        STORE(5, cache_v, to, LOAD(2, v, at));
        STORE(5, cache_v, to + half_dim, LOAD(2, v, at + half_dim));
    }
}
