// SPDX-License-Identifier: Apache-2.0
// rows.cuh -- operators on rows of registers.

struct embed_words {
    uint32_t half, y_stride, k, format, w_stride, scale_at, token_at, first, rows;
};

// Rows of a table by token id; a thread has one column.
KERNEL(embed, THREADS_EMBED)(void *y, const uint32_t *table, const uint32_t *args,
                             struct embed_words w)
{
    struct matrix m = { table, w.format, w.w_stride, w.scale_at };
    uint32_t c = blockIdx.x * THREADS_EMBED + threadIdx.x, r = blockIdx.y;
    uint32_t token = args[w.token_at + r] - w.first;
    if (c < w.k && token < w.rows)
        store(y, w.half, (size_t)r * w.y_stride + c, element(m, token, c));
}

struct norm_words { uint32_t half, y_stride, a_stride, n, eps; };

// Root mean square norm of a group of n in a row.
KERNEL(norm, THREADS_NORM)(void *y, const void *a, const float *weight,
                           struct norm_words w)
{
    size_t from = (size_t)blockIdx.y * w.a_stride + (size_t)blockIdx.x * w.n;
    size_t to = (size_t)blockIdx.y * w.y_stride + (size_t)blockIdx.x * w.n;
    float sum = 0.0f;
    for (uint32_t i = threadIdx.x; i < w.n; i += GROUP) {
        float x = load(a, w.half >> 1, from + i);
        sum += x * x;
    }
    sum = group_sum(sum);
    float f = 1.0f / sqrtf(sum / (float)w.n + as_float(w.eps));
    for (uint32_t i = threadIdx.x; i < w.n; i += GROUP)
        store(y, w.half, to + i, load(a, w.half >> 1, from + i) * f * weight[i]);
}

struct pair_words { uint32_t half, y_stride, a_stride, b_stride, n, what; };

// silu(a) * b, a + b, or a.
KERNEL(pair, THREADS_PAIR)(void *y, const void *a, const void *b, struct pair_words w)
{
    enum { SILU, ADD };
    uint32_t c = blockIdx.x * THREADS_PAIR + threadIdx.x;
    size_t r = blockIdx.y;
    if (c >= w.n)
        return;
    float x = load(a, w.half >> 1, r * w.a_stride + c), v = x;
    float z = load(b, w.half >> 2, r * w.b_stride + c);
    if (w.what == SILU)
        v = x / (1.0f + exp_of(-x)) * z;
    else if (w.what == ADD)
        v = x + z;
    store(y, w.half, r * w.y_stride + c, v);
}

struct round_words { uint32_t half, q_stride, a_stride, k, scale_at, a_row, q_row; };

// A row to whole numbers of its largest magnitude / 127; a row that is not finite gets a
// scale that is no number.  The last word is filled up with 0.
KERNEL(round, THREADS_ROUND)(uint32_t *q, const void *a, struct round_words w)
{
    size_t from = (size_t)(w.a_row + blockIdx.y) * w.a_stride, row = w.q_row + blockIdx.y;
    float most = 0.0f;
    for (uint32_t i = threadIdx.x; i < w.k; i += GROUP) {
        float x = fabsf(load(a, w.half >> 1, from + i));
        most = is_finite(x) ? fmaxf(most, x) : -LOWEST;
    }
    most = group_max(most);
    float scale = most >= -LOWEST ? as_float(0x7fc00000u)
                : most > 1e-30f ? most / 127.0f : 0.0f;
    for (uint32_t i = threadIdx.x; i < (w.k + 3) / 4; i += GROUP) {
        uint32_t u = 0;
        for (uint32_t b = 0; b < 4 && scale > 0.0f; b++)
            if (4 * i + b < w.k) {
                float x = load(a, w.half >> 1, from + 4 * i + b) / scale;
                u |= ((uint32_t)(int32_t)rintf(x) & 255u) << 8 * b;
            }
        q[row * w.q_stride + i] = u;
    }
    if (threadIdx.x == 0)
        q[w.scale_at + row] = as_word(scale);
}

struct rope_words {
    uint32_t half, q_stride, k_stride, v_stride, n_head, n_kv, head_dim, width;
};

// Turns the pair (at, at + d) of a binding, and returns it.
struct turned { float first, second; };

DEVICE struct turned turn(void *p, uint32_t half, size_t at, uint32_t d, const float *t)
{
    float x = load(p, half, at), z = load(p, half, at + d);
    struct turned y = { x * t[0] - z * t[1], z * t[0] + x * t[1] };
    store(p, half, at, y.first);
    store(p, half, at + d, y.second);
    return y;
}

// Turns the pairs (i, i + head_dim / 2) of q and k by the position, and puts k and v into
// the cache; a thread has one pair of q, k or v.
KERNEL(rope, THREADS_ROPE)(void *q, void *k, const void *v, const float *turns,
                           void *cache_k, void *cache_v, const uint32_t *args,
                           struct rope_words w)
{
    uint32_t d = w.head_dim / 2, i = blockIdx.x * THREADS_ROPE + threadIdx.x;
    uint32_t head = i / d, pair = i % d;
    size_t r = blockIdx.y, pos = args[0] + blockIdx.y;
    const float *t = turns + 2 * (pos * d + pair);
    if (head < w.n_head) {
        turn(q, w.half, r * w.q_stride + (size_t)head * w.head_dim + pair, d, t);
    } else if (head < w.n_head + w.n_kv) {
        size_t within = (size_t)(head - w.n_head) * w.head_dim + pair;
        struct turned y = turn(k, w.half >> 1, r * w.k_stride + within, d, t);
        store(cache_k, w.half >> 4, pos * w.width + within, y.first);
        store(cache_k, w.half >> 4, pos * w.width + within + d, y.second);
    } else if (head < w.n_head + 2 * w.n_kv) {
        size_t within = (size_t)(head - w.n_head - w.n_kv) * w.head_dim + pair;
        size_t from = r * w.v_stride + within, to = pos * w.width + within;
        store(cache_v, w.half >> 5, to, load(v, w.half >> 2, from));
        store(cache_v, w.half >> 5, to + d, load(v, w.half >> 2, from + d));
    }
}
