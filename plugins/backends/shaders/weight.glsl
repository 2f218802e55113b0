// SPDX-License-Identifier: Apache-2.0
// weight.glsl -- one element of a matrix in any format; FORMAT, W_STRIDE and SCALE_AT are
// words of the kernel, m its buffer.
const uint F32 = 0u, F16 = 1u, BF16 = 2u, Q8 = 3u, Q4_0 = 4u, Q4_1 = 5u, I8 = 6u;

// Of block b of 32: (d, m) of its scale word.
vec2 scale_of(uint r, uint b, uint words)
{
    return unpackHalf2x16(m[SCALE_AT + r * (W_STRIDE / words) + b]);
}

float weight(uint r, uint c)
{
    uint row = r * W_STRIDE, u;
    vec2 s;
    switch (FORMAT) {
    case F16:
        s = unpackHalf2x16(m[row + c / 2u]);
        return (c & 1u) != 0u ? s.y : s.x;
    case BF16:
        u = m[row + c / 2u];
        return uintBitsToFloat((c & 1u) != 0u ? u & 0xffff0000u : u << 16);
    case Q8:
        return scale_of(r, c / 32u, 8u).x * float(byte_of(m[row + c / 4u], c & 3u));
    case Q4_0:
    case Q4_1:
        s = scale_of(r, c / 32u, 4u);
        u = m[row + c / 32u * 4u + c % 16u / 4u] >> (8u * (c & 3u) + (c % 32u) / 16u * 4u);
        return s.x * float(int(u & 15u) - (FORMAT == Q4_0 ? 8 : 0))
             + (FORMAT == Q4_0 ? 0.0 : s.y);
    case I8:
        return uintBitsToFloat(m[SCALE_AT + r]) * float(byte_of(m[row + c / 4u], c & 3u));
    default:
        return uintBitsToFloat(m[row + c]);
    }
}
