// SPDX-License-Identifier: Apache-2.0
// weight.cuh -- matrices in the formats of enum gpu_format.  A word holds PARTS elements
// of a row; which columns these are, column_of() says.
enum { F32, F16, BF16, Q8, Q4_0, Q4_1, I8 };

struct matrix {
    const uint32_t *word;
    uint32_t format, stride, scale_at;
};

struct scale { float d, m; };           // value = d q + m

template <uint32_t F> struct parts_of {
    enum { N = F == F32 ? 1 : F == F16 || F == BF16 ? 2 : F == Q8 || F == I8 ? 4 : 8 };
};

// Column of part p of word i of a row.  Of 16 bytes of nibbles the low ones come first.
template <uint32_t F> DEVICE uint32_t column_of(uint32_t i, uint32_t p)
{
    if (F == Q4_0 || F == Q4_1)
        return i / 4u * 32u + i % 4u * 4u + p % 4u + p / 4u * 16u;
    return i * parts_of<F>::N + p;
}

// Part p of a word, before its scale.
template <uint32_t F> DEVICE float part_of(uint32_t u, uint32_t p)
{
    switch (F) {
    case F16:  return half_to_float(p ? u >> 16 : u & 0xffffu);
    case BF16: return as_float(p ? u & 0xffff0000u : u << 16);
    case Q8:
    case I8:   return (float)byte_of(u, p);
    case Q4_0: return (float)(int32_t)(u >> (8u * (p % 4u) + p / 4u * 4u) & 15u) - 8.0f;
    case Q4_1: return (float)(int32_t)(u >> (8u * (p % 4u) + p / 4u * 4u) & 15u);
    default:   return as_float(u);
    }
}

// Scale of word i of row r.
template <uint32_t F> DEVICE struct scale scale_of(const struct matrix &m, size_t r,
                                                   uint32_t i)
{
    struct scale s = { 1.0f, 0.0f };
    uint32_t words = F == Q8 ? 8u : 4u;                 // of a block
    if (F == I8) {
        s.d = as_float(m.word[m.scale_at + r]);
    } else if (F == Q8 || F == Q4_0 || F == Q4_1) {
        uint32_t u = m.word[m.scale_at + r * (m.stride / words) + i / words];
        s.d = half_to_float(u & 0xffffu);
        s.m = F == Q4_1 ? half_to_float(u >> 16) : 0.0f;
    }
    return s;
}

// Word and part that have column c: the inverse of column_of().
template <uint32_t F> DEVICE float element_of(const struct matrix &m, size_t r, uint32_t c)
{
    uint32_t i = c / parts_of<F>::N, p = c % parts_of<F>::N;
    if (F == Q4_0 || F == Q4_1) {
        i = c / 32u * 4u + c % 16u / 4u;
        p = c % 4u + c % 32u / 16u * 4u;
    }
    struct scale s = scale_of<F>(m, r, i);
    return s.d * part_of<F>(m.word[r * m.stride + i], p) + s.m;
}

DEVICE float element(const struct matrix &m, size_t r, uint32_t c)
{
    switch (m.format) {
    case F16:  return element_of<F16>(m, r, c);
    case BF16: return element_of<BF16>(m, r, c);
    case Q8:   return element_of<Q8>(m, r, c);
    case Q4_0: return element_of<Q4_0>(m, r, c);
    case Q4_1: return element_of<Q4_1>(m, r, c);
    case I8:   return element_of<I8>(m, r, c);
    default:   return element_of<F32>(m, r, c);
    }
}
