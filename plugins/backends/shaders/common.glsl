// SPDX-License-Identifier: Apache-2.0
// common.glsl -- what all kernels begin with; plugins/backends/gpu.h says what they
// bind, what their words are and how weights lie.
//
// Buffers are words.  With HALF, those whose bit is set in the first word hold 16-bit
// floats and are seen through a second name.
#ifdef HALF
#extension GL_EXT_shader_16bit_storage : require
#endif

layout(local_size_x = GROUP) in;
layout(push_constant) uniform Words { uint word[16]; };

#ifdef HALF
#define BUFFER(i, name) \
    layout(std430, binding = i) buffer W##i { uint name[]; }; \
    layout(std430, binding = i) buffer H##i { float16_t name##_half[]; }
#define LOAD(i, name, at) \
    ((word[0] >> i & 1u) != 0u ? float(name##_half[at]) : uintBitsToFloat(name[at]))
#define STORE(i, name, at, v) \
    if ((word[0] >> i & 1u) != 0u) name##_half[at] = float16_t(v); \
    else name[at] = floatBitsToUint(v)
#else
#define BUFFER(i, name) layout(std430, binding = i) buffer W##i { uint name[]; }
#define LOAD(i, name, at) uintBitsToFloat(name[at])
#define STORE(i, name, at, v) name[at] = floatBitsToUint(v)
#endif

const float LOWEST = -3.4028234e38;     // infinity is not for all devices

bool is_finite(float x)
{
    return (floatBitsToUint(x) & 0x7fffffffu) < 0x7f800000u;
}

// Halves to even.
float to_bf16(float x)
{
    uint u = floatBitsToUint(x);
    if (!is_finite(x))
        return x;
    return uintBitsToFloat((u + 0x7fffu + (u >> 16 & 1u)) & 0xffff0000u);
}

// Byte i of a word, with its sign.
int byte_of(uint u, uint i)
{
    return int(u << (24u - 8u * i)) >> 24;
}
