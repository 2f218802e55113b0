#version 450
#extension GL_GOOGLE_include_directive : require
// SPDX-License-Identifier: Apache-2.0
// vector.comp -- products of one row with 4 outputs, 32 threads for each: reads weights
// word by word.  With SUBGROUP threads add up without shared memory where a subgroup is
// no more than these 32.
#ifdef SUBGROUP
#extension GL_KHR_shader_subgroup_arithmetic : require
#endif
#define GROUP 128
#include "common.glsl"
BUFFER(0, y);
BUFFER(1, a);
BUFFER(2, m);
BUFFER(3, bias);
#define FORMAT word[6]
#define W_STRIDE word[7]
#define SCALE_AT word[8]
#include "weight.glsl"
const uint ADDS = 1u, BIASED = 2u, AS_BF16 = 4u, LANES = 32u;
shared float part[GROUP];

uint a_at;                              // of the row

float factor(uint c)
{
    return LOAD(1, a, a_at + c);
}

float in_words(uint row, uint lane)     // F16, BF16
{
    float sum = 0.0;
    for (uint i = lane; i < W_STRIDE; i += LANES) {
        uint u = m[row * W_STRIDE + i], c = 2u * i;
        vec2 v = FORMAT == F16 ? unpackHalf2x16(u)
               : vec2(uintBitsToFloat(u << 16), uintBitsToFloat(u & 0xffff0000u));
        sum += v.x * factor(c);
        if (c + 1u < word[5])
            sum += v.y * factor(c + 1u);
    }
    return sum;
}

float in_bytes(uint row, uint lane)     // Q8
{
    float sum = 0.0;
    for (uint i = lane; i < W_STRIDE; i += LANES) {
        uint u = m[row * W_STRIDE + i], c = 4u * i;
        float s = 0.0;
        for (uint b = 0u; b < 4u; b++)
            s += float(byte_of(u, b)) * factor(c + b);
        sum += scale_of(row, i / 8u, 8u).x * s;
    }
    return sum;
}

float in_nibbles(uint row, uint lane)   // Q4_0, Q4_1
{
    float sum = 0.0, less = FORMAT == Q4_0 ? 8.0 : 0.0;
    for (uint i = lane; i < W_STRIDE; i += LANES) {
        uint u = m[row * W_STRIDE + i], c = i / 4u * 32u + i % 4u * 4u;
        vec2 d = scale_of(row, i / 4u, 4u);
        float s = 0.0, all = 0.0;
        for (uint b = 0u; b < 4u; b++) {
            float low = factor(c + b), high = factor(c + b + 16u);
            s += (float(u >> 8u * b & 15u) - less) * low
               + (float(u >> 8u * b + 4u & 15u) - less) * high;
            all += low + high;
        }
        sum += d.x * s + (FORMAT == Q4_0 ? 0.0 : d.y * all);
    }
    return sum;
}

float in_floats(uint row, uint lane)
{
    bool round = (word[10] & AS_BF16) != 0u;
    float sum = 0.0;
    for (uint c = lane; c < word[5]; c += LANES) {
        float w = weight(row, c), x = factor(c);
        sum += round ? to_bf16(w) * to_bf16(x) : w * x;
    }
    return sum;
}

float lane_sum(uint row, uint lane)
{
    switch (FORMAT) {
    case F16:
    case BF16: return in_words(row, lane);
    case Q8:   return in_bytes(row, lane);
    case Q4_0:
    case Q4_1: return in_nibbles(row, lane);
    default:   return in_floats(row, lane);
    }
}

void put(uint r, uint c, float v)
{
    uint at = r * word[1] + word[11] + c;
    if ((word[10] & BIASED) != 0u)
        v += uintBitsToFloat(bias[word[11] + c]);
    if ((word[10] & ADDS) != 0u)
        v += LOAD(0, y, at);
    STORE(0, y, at, v);
}

void main()
{
    uint t = gl_LocalInvocationID.x, out_of = t / LANES, lane = t % LANES;
#ifdef SUBGROUP
    uint width = gl_SubgroupSize;
    bool grouped = width <= LANES && gl_NumSubgroups * width == GROUP;
    if (grouped) {
        t = gl_SubgroupID * width + gl_SubgroupInvocationID;
        out_of = t / LANES;
        lane = t % LANES;
    }
#endif
    uint c = gl_WorkGroupID.x * 4u + out_of;
    a_at = (word[12] + gl_WorkGroupID.y) * word[2];
    float sum = c < word[4] ? lane_sum(word[9] + c, lane) : 0.0;
    uint step = LANES / 2u;
#ifdef SUBGROUP
    if (grouped) {
        sum = subgroupAdd(sum);
        step = width < LANES ? LANES / width / 2u : 0u;
        lane = gl_SubgroupInvocationID == 0u ? lane / width : LANES;
        t = out_of * LANES + lane;
    }
    if (lane < LANES)
        part[t] = sum;
#else
    part[t] = sum;
#endif
    barrier();
    for (; step > 0u; step /= 2u) {
        if (lane < step)
            part[t] += part[t + step];
        barrier();
    }
    if (lane == 0u && c < word[4])
        put(gl_WorkGroupID.y, c, part[t]);
}
