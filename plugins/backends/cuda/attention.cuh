// SPDX-License-Identifier: Apache-2.0
// attention.cuh -- one query head of one row over all positions up to its own; softmax
// rescaled as the maximum grows (Milakov and Gimelshein 2018).
//
// A warp takes every fourth run of 32 keys.  For the scores 8 lanes share a key, so that
// what a warp reads are whole sectors of 32 bytes and a sum takes three shuffles for four
// keys; lane l keeps the score of key 4 (l % 8) + l / 8.  For the mix of values a lane has
// every 32nd channel.  At the end the four warps' mixes are added.

struct attention_words {
    uint32_t half, y_stride, q_stride, n_head, n_kv, head_dim, width;
};

static constexpr uint32_t MAX_HEAD = 256, WARPS = THREADS_ATTENTION / WARP,
                          CHANNELS = MAX_HEAD / WARP, LANES_OF_KEY = 8,
                          KEYS_AT_ONCE = WARP / LANES_OF_KEY;

struct mix { float most, sum, of[CHANNELS]; };

// This lane's score of the keys [base, base + 32), LOWEST behind the last.
DEVICE float score_of(const float *query, const void *cache, uint32_t half, uint32_t base,
                      uint32_t n, uint32_t kv, const struct attention_words &w)
{
    uint32_t lane = threadIdx.x % WARP, within = lane % LANES_OF_KEY;
    float mine = LOWEST;
    #pragma unroll 2
    for (uint32_t i = 0; i < LANES_OF_KEY; i++) {
        uint32_t key = base + i * KEYS_AT_ONCE + lane / LANES_OF_KEY;
        size_t at = (size_t)key * w.width + kv;
        float s = 0.0f;
        for (uint32_t c = within; key < n && c < w.head_dim; c += LANES_OF_KEY)
            s += query[c] * load(cache, half, at + c);
        for (uint32_t step = LANES_OF_KEY / 2; step > 0; step /= 2)
            s += __shfl_xor_sync(ALL_LANES, s, step);
        if (i == within && key < n)
            mine = s;
    }
    return mine;
}

DEVICE void add_keys(struct mix *x, float score, const void *cache, uint32_t half,
                     uint32_t base, uint32_t n, uint32_t kv,
                     const struct attention_words &w)
{
    uint32_t lane = threadIdx.x % WARP, keys = n - base < WARP ? n - base : WARP;
    bool has_key = lane % LANES_OF_KEY * KEYS_AT_ONCE + lane / LANES_OF_KEY < keys;
    float top = fmaxf(x->most, warp_max(score)), fade = exp_of(x->most - top);
    float share = has_key ? exp_of(score - top) : 0.0f;
    x->sum = x->sum * fade + warp_sum(share);
    x->most = top;
    for (uint32_t i = 0; i < CHANNELS; i++)
        x->of[i] *= fade;
    #pragma unroll 2
    for (uint32_t j = 0; j < keys; j++) {
        float p = __shfl_sync(ALL_LANES, share, j % KEYS_AT_ONCE * LANES_OF_KEY
                                                + j / KEYS_AT_ONCE);
        size_t at = (size_t)(base + j) * w.width + kv;
        for (uint32_t i = 0; i < CHANNELS; i++)
            if (lane + i * WARP < w.head_dim)
                x->of[i] += p * load(cache, half, at + lane + i * WARP);
    }
}

KERNEL(attention, THREADS_ATTENTION)(void *y, const void *q, const void *cache_k,
                                     const void *cache_v, const uint32_t *args,
                                     struct attention_words w)
{
    __shared__ float query[MAX_HEAD], mixed[WARPS][MAX_HEAD], most[WARPS], sum[WARPS];
    uint32_t t = threadIdx.x, warp = t / WARP, lane = t % WARP;
    uint32_t head = blockIdx.x, n = args[0] + blockIdx.y + 1, d = w.head_dim;
    uint32_t kv = head / (w.n_head / w.n_kv) * d;
    float scale = 1.0f / sqrtf((float)d);
    struct mix x = { LOWEST, 0.0f, { 0.0f } };
    for (uint32_t c = t; c < d; c += THREADS_ATTENTION)
        query[c] = load(q, w.half >> 1, (size_t)blockIdx.y * w.q_stride
                                        + (size_t)head * d + c) * scale;
    __syncthreads();
    for (uint32_t base = warp * WARP; base < n; base += THREADS_ATTENTION) {
        float s = score_of(query, cache_k, w.half >> 2, base, n, kv, w);
        add_keys(&x, s, cache_v, w.half >> 3, base, n, kv, w);
    }
    for (uint32_t i = 0; i < CHANNELS; i++)
        mixed[warp][lane + i * WARP] = x.of[i];
    if (lane == 0) {
        most[warp] = x.most;
        sum[warp] = x.sum;
    }
    __syncthreads();
    float top = most[0], all = 0.0f;
    for (uint32_t i = 1; i < WARPS; i++)
        top = fmaxf(top, most[i]);
    for (uint32_t i = 0; i < WARPS; i++)
        all += sum[i] * exp_of(most[i] - top);
    for (uint32_t c = t; c < d; c += THREADS_ATTENTION) {
        float v = 0.0f;
        for (uint32_t i = 0; i < WARPS; i++)
            v += mixed[i][c] * exp_of(most[i] - top);
        store(y, w.half, (size_t)blockIdx.y * w.y_stride + (size_t)head * d + c, v / all);
    }
}
