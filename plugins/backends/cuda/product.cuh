// SPDX-License-Identifier: Apache-2.0
// product.cuh -- products of rows of activations with rows of a matrix.

enum { ADDS = 1, BIASED = 2, AS_BF16 = 4, ACROSS = 8 };

struct product_words {
    uint32_t half, y_stride, a_stride, rows, n, k, format, w_stride, scale_at, first,
             flags, col, a_row;
};

DEVICE void put(void *y, const float *bias, size_t r, uint32_t c, float v,
                const struct product_words &w)
{
    size_t at = r * w.y_stride + w.col + c;
    if (w.flags & BIASED)
        v += bias[w.col + c];
    if (w.flags & ADDS)
        v += load(y, w.half, at);
    store(y, w.half, at, v);
}

// ---- few rows ---------------------------------------------------------------------------

enum { OUTPUTS = 4 };                   // of a group

// Sums of this thread: a word of each of the rows [c, c + 4) of the matrix (or the last)
// against the same activations, so that these are read once for four.
template <uint32_t F> DEVICE void dot_words(float *sum, const struct matrix &m,
                                            const void *a, uint32_t c,
                                            const struct product_words &w)
{
    enum { N = parts_of<F>::N };
    size_t from = (size_t)(w.a_row + blockIdx.y) * w.a_stride;
    bool round = F == F32 && w.flags & AS_BF16;
    #pragma unroll 1
    for (uint32_t i = threadIdx.x; i < w.w_stride; i += THREADS_VECTOR) {
        float x[N], all = 0.0f;
        for (uint32_t p = 0; p < N; p++) {
            uint32_t column = column_of<F>(i, p);
            x[p] = column < w.k ? load(a, w.half >> 1, from + column) : 0.0f;
            x[p] = round ? to_bf16(x[p]) : x[p];
            all += x[p];
        }
        for (uint32_t j = 0; j < OUTPUTS; j++) {
            size_t row = w.first + (c + j < w.n ? c + j : w.n - 1);
            uint32_t u = m.word[row * w.w_stride + i];
            struct scale s = scale_of<F>(m, row, i);
            float dot = 0.0f;
            for (uint32_t p = 0; p < N; p++)
                dot += (round ? to_bf16(part_of<F>(u, p)) : part_of<F>(u, p)) * x[p];
            sum[j] += F == Q4_1 ? s.d * dot + s.m * all : s.d * dot;
        }
    }
}

// Four outputs of one row, the words of a row dealt to 128 threads.
KERNEL(vector, THREADS_VECTOR)(void *y, const void *a, const uint32_t *word,
                               const float *bias, struct product_words w)
{
    __shared__ float part[THREADS_VECTOR / WARP][OUTPUTS];
    struct matrix m = { word, w.format, w.w_stride, w.scale_at };
    uint32_t t = threadIdx.x, c = blockIdx.x * OUTPUTS;
    float sum[OUTPUTS] = { 0.0f };
    switch (w.format) {
    case F16:  dot_words<F16>(sum, m, a, c, w); break;
    case BF16: dot_words<BF16>(sum, m, a, c, w); break;
    case Q8:   dot_words<Q8>(sum, m, a, c, w); break;
    case Q4_0: dot_words<Q4_0>(sum, m, a, c, w); break;
    case Q4_1: dot_words<Q4_1>(sum, m, a, c, w); break;
    case I8:   dot_words<I8>(sum, m, a, c, w); break;
    default:   dot_words<F32>(sum, m, a, c, w); break;
    }
    for (uint32_t j = 0; j < OUTPUTS; j++) {
        float v = warp_sum(sum[j]);
        if (t % WARP == 0)
            part[t / WARP][j] = v;
    }
    __syncthreads();
    if (t < OUTPUTS && c + t < w.n) {
        float v = 0.0f;
        for (uint32_t i = 0; i < THREADS_VECTOR / WARP; i++)
            v += part[i][t];
        put(y, bias, blockIdx.y, c + t, v, w);
    }
}

// ---- many rows --------------------------------------------------------------------------

// A tile of 64 rows with a tile of 64 outputs, through shared memory; a thread has 4 x 4
// of them.  [depth][tile]: a thread reads its four of a tile at once.  Four more columns,
// so that 8 neighbours in depth times 4 in the tile lie in different banks: staging deals
// neighbouring threads out so.
enum { TILE = 64, DEPTH = 32, STEP = TILE + 4, BYTES_DEPTH = 16 };
struct __align__(16) four { float v[4]; };
struct __align__(16) four_words { uint32_t v[4]; };

DEVICE void stage_rows(float (*to)[STEP], const void *a, uint32_t k0,
                       const struct product_words &w)
{
    bool round = (w.flags & AS_BF16) && !(w.flags & ACROSS);
    uint32_t r0 = blockIdx.y * TILE;
    #pragma unroll 2
    for (uint32_t i = threadIdx.x; i < TILE * DEPTH; i += THREADS_MATRIX) {
        uint32_t z = i % 8 + i / (8 * TILE) * 8, x = i / 8 % TILE;
        float v = r0 + x < w.rows && k0 + z < w.k
                ? load(a, w.half >> 1, (size_t)(w.a_row + r0 + x) * w.a_stride + k0 + z)
                : 0.0f;
        to[z][x] = round ? to_bf16(v) : v;
    }
}

// Words of the rows [first + j0, ...) of the matrix; DEPTH elements are whole blocks.
template <uint32_t F> DEVICE void stage_words(float (*to)[STEP], const struct matrix &m,
                                              uint32_t k0, const struct product_words &w)
{
    enum { N = parts_of<F>::N, NEAR = 8 / N };
    uint32_t j0 = blockIdx.x * TILE;
    #pragma unroll 2
    for (uint32_t i = threadIdx.x; i < TILE * DEPTH / N; i += THREADS_MATRIX) {
        uint32_t z = i % NEAR + i / (NEAR * TILE) * NEAR, x = i / NEAR % TILE;
        uint32_t at = k0 / N + z;
        bool there = j0 + x < w.n && at < w.w_stride;
        size_t row = w.first + j0 + x;
        uint32_t u = there ? m.word[row * w.w_stride + at] : 0u;
        struct scale s = { 0.0f, 0.0f };
        if (there)
            s = scale_of<F>(m, row, at);
        for (uint32_t p = 0; p < N; p++) {
            uint32_t c = column_of<F>(at, p);
            float v = there && c < w.k ? s.d * part_of<F>(u, p) + s.m : 0.0f;
            to[c - k0][x] = F == F32 && w.flags & AS_BF16 ? to_bf16(v) : v;
        }
    }
}

// Columns in place of rows of the matrix.
DEVICE void stage_columns(float (*to)[STEP], const struct matrix &m, uint32_t k0,
                          const struct product_words &w)
{
    uint32_t j0 = blockIdx.x * TILE;
    #pragma unroll 2
    for (uint32_t i = threadIdx.x; i < TILE * DEPTH; i += THREADS_MATRIX) {
        uint32_t x = i % TILE, z = i / TILE;
        float v = j0 + x < w.n && k0 + z < w.k ? element(m, w.first + k0 + z, j0 + x) : 0.0f;
        to[z][x] = w.flags & AS_BF16 ? to_bf16(v) : v;
    }
}

DEVICE void stage_matrix(float (*to)[STEP], const struct matrix &m, uint32_t k0,
                         const struct product_words &w)
{
    if (w.flags & ACROSS) {
        stage_columns(to, m, k0, w);
        return;
    }
    switch (w.format) {
    case F16:  stage_words<F16>(to, m, k0, w); break;
    case BF16: stage_words<BF16>(to, m, k0, w); break;
    case Q8:   stage_words<Q8>(to, m, k0, w); break;
    case Q4_0: stage_words<Q4_0>(to, m, k0, w); break;
    case Q4_1: stage_words<Q4_1>(to, m, k0, w); break;
    case I8:   stage_words<I8>(to, m, k0, w); break;
    default:   stage_words<F32>(to, m, k0, w); break;
    }
}

KERNEL(matrix, THREADS_MATRIX)(void *y, const void *a, const uint32_t *word,
                               const float *bias, struct product_words w)
{
    __shared__ __align__(16) float rows[DEPTH][STEP], outs[DEPTH][STEP];
    struct matrix m = { word, w.format, w.w_stride, w.scale_at };
    uint32_t r0 = threadIdx.x / 16 * 4, c0 = threadIdx.x % 16 * 4;
    float sum[4][4] = { { 0.0f } };
    for (uint32_t k0 = 0; k0 < w.k; k0 += DEPTH) {
        stage_rows(rows, a, k0, w);
        stage_matrix(outs, m, k0, w);
        __syncthreads();
        #pragma unroll 4
        for (uint32_t z = 0; z < DEPTH; z++) {
            struct four p = *(const struct four *)&rows[z][r0];
            struct four q = *(const struct four *)&outs[z][c0];
            for (uint32_t i = 0; i < 4; i++)
                for (uint32_t j = 0; j < 4; j++)
                    sum[i][j] += p.v[i] * q.v[j];
        }
        __syncthreads();
    }
    for (uint32_t i = 0; i < 4; i++)
        for (uint32_t j = 0; j < 4; j++) {
            uint32_t r = blockIdx.y * TILE + r0 + i, c = blockIdx.x * TILE + c0 + j;
            if (r < w.rows && c < w.n)
                put(y, bias, r, c, sum[i][j], w);
        }
}

// ---- bytes ------------------------------------------------------------------------------

// Words [k0, k0 + 16) of 64 rows from `first` on, of n.
DEVICE void stage_bytes(uint32_t (*to)[STEP], const uint32_t *from, size_t first,
                        uint32_t n, uint32_t stride, uint32_t k0, uint32_t words)
{
    for (uint32_t i = threadIdx.x; i < TILE * BYTES_DEPTH; i += THREADS_BYTES) {
        uint32_t z = i % 8 + i / (8 * TILE) * 8, x = i / 8 % TILE;
        to[z][x] = x < n && k0 + z < words ? from[(first + x) * stride + k0 + z] : 0u;
    }
}

// As `matrix`, on signed bytes, four a word; sums are exact.  The word that is the format
// there is where the scales of a begin.
KERNEL(bytes, THREADS_BYTES)(void *y, const uint32_t *a, const uint32_t *m,
                             const float *bias, struct product_words w)
{
    __shared__ __align__(16) uint32_t rows[BYTES_DEPTH][STEP], outs[BYTES_DEPTH][STEP];
    uint32_t r0 = blockIdx.y * TILE, j0 = blockIdx.x * TILE, words = (w.k + 3) / 4;
    uint32_t tr = threadIdx.x / 16 * 4, tc = threadIdx.x % 16 * 4;
    int32_t sum[4][4] = { { 0 } };
    for (uint32_t k0 = 0; k0 < words; k0 += BYTES_DEPTH) {
        stage_bytes(rows, a, (size_t)w.a_row + r0, w.rows - r0, w.a_stride, k0, words);
        stage_bytes(outs, m, (size_t)w.first + j0, w.n - j0, w.w_stride, k0, words);
        __syncthreads();
        #pragma unroll 4
        for (uint32_t z = 0; z < BYTES_DEPTH; z++) {
            struct four_words p = *(const struct four_words *)&rows[z][tr];
            struct four_words q = *(const struct four_words *)&outs[z][tc];
            for (uint32_t i = 0; i < 4; i++)
                for (uint32_t j = 0; j < 4; j++)
                    sum[i][j] = dot4(p.v[i], q.v[j], sum[i][j]);
        }
        __syncthreads();
    }
    for (uint32_t i = 0; i < 4; i++)
        for (uint32_t j = 0; j < 4; j++) {
            uint32_t r = r0 + tr + i, c = j0 + tc + j;
            if (r < w.rows && c < w.n)
                put(y, bias, r, c, (float)sum[i][j] * as_float(a[w.format + w.a_row + r])
                                   * as_float(m[w.scale_at + w.first + c]), w);
        }
}
