#version 450
#extension GL_GOOGLE_include_directive : require
// SPDX-License-Identifier: Apache-2.0
// attention.comp -- one query head of one row over all positions up to its own: 64 keys
// at a time, softmax rescaled as the maximum grows (Milakov and Gimelshein 2018).  A
// thread has one key of these, then channels of the result.
#define GROUP 64
#include "common.glsl"
BUFFER(0, y);
BUFFER(1, q);
BUFFER(2, cache_k);
BUFFER(3, cache_v);
BUFFER(4, args);
shared float query[256], score[GROUP], share[GROUP];

void main()
{
    uint t = gl_LocalInvocationID.x, head = gl_WorkGroupID.x, r = gl_WorkGroupID.y;
    uint d = word[5], n = args[0] + r + 1u, kv = head / (word[3] / word[4]) * d;
    float most = LOWEST, sum = 0.0, scale = 1.0 / sqrt(float(d)), mix[4];
    for (uint i = 0u; i < 4u; i++)
        mix[i] = 0.0;
    for (uint i = t; i < d; i += GROUP)
        query[i] = LOAD(1, q, r * word[2] + head * d + i) * scale;
    barrier();
    for (uint base = 0u; base < n; base += GROUP) {
        uint keys = min(GROUP, n - base), at = (base + t) * word[6] + kv;
        float s = LOWEST;
        if (t < keys) {
            s = 0.0;
            for (uint i = 0u; i < d; i++)
                s += query[i] * LOAD(2, cache_k, at + i);
        }
        score[t] = s;
        barrier();
        float top = most;               // all threads find it: cheaper than to tell
        for (uint j = 0u; j < keys; j++)
            top = max(top, score[j]);
        share[t] = exp(s - top);
        barrier();
        float fade = exp(most - top);
        most = top;
        sum *= fade;
        for (uint j = 0u; j < keys; j++)
            sum += share[j];
        for (uint i = 0u; i < 4u && t + i * GROUP < d; i++) {
            float m = mix[i] * fade;
            for (uint j = 0u; j < keys; j++)
                m += share[j] * LOAD(3, cache_v, (base + j) * word[6] + kv + t + i * GROUP);
            mix[i] = m;
        }
    }
    for (uint i = 0u; i < 4u && t + i * GROUP < d; i++) {
        STORE(0, y, r * word[1] + head * d + t + i * GROUP, mix[i] / sum);
    }
}
