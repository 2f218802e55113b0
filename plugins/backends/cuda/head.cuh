// SPDX-License-Identifier: Apache-2.0
// head.cuh -- logits, a tile of the vocabulary at a time, into a row's sums, and these
// into results.

struct stats { float top, sum, target, p_ln_p; };

struct fold_words { uint32_t n, stride, tile, target_at, first, has_target; };

KERNEL(fold, THREADS_FOLD)(struct stats *stats, const float *logits, const uint32_t *args,
                           struct fold_words w)
{
    struct stats *s = stats + blockIdx.y;
    const float *l = logits + (size_t)blockIdx.y * w.stride;
    float top = LOWEST, sum = 0.0f, before = w.first ? LOWEST : s->top;
    for (uint32_t i = threadIdx.x; i < w.n; i += GROUP)
        top = fmaxf(top, l[i]);
    top = fmaxf(before, group_max(top));
    for (uint32_t i = threadIdx.x; i < w.n; i += GROUP)
        sum += exp_of(l[i] - top);
    sum = group_sum(sum);
    if (threadIdx.x != 0)
        return;
    s->sum = w.first ? sum : sum + s->sum * exp_of(before - top);
    s->top = top;
    if (w.first)
        s->p_ln_p = 0.0f;
    uint32_t target = w.has_target ? args[w.target_at + blockIdx.y] - w.tile : w.n;
    if (target < w.n)
        s->target = l[target];
}

struct share_words { uint32_t n, stride; };

// Logits of a tile to probabilities, their p ln p added to the row's sum.
KERNEL(share, THREADS_SHARE)(float *logits, struct stats *stats, struct share_words w)
{
    struct stats *s = stats + blockIdx.y;
    float *l = logits + (size_t)blockIdx.y * w.stride, sum = 0.0f;
    float top = s->top, log_sum = log_of(s->sum);
    for (uint32_t i = threadIdx.x; i < w.n; i += GROUP) {
        float x = l[i] - top - log_sum, p = exp_of(x);
        l[i] = p;
        sum += p == 0.0f ? 0.0f : p * x;
    }
    sum = group_sum(sum);
    if (threadIdx.x == 0)
        s->p_ln_p += sum;
}

struct finish_words { uint32_t half, what, k, a_stride, scale_at; };

// A row's loss, its part of the divergence, or its sum of p ln p.
KERNEL(finish, THREADS_FINISH)(float *out, const struct stats *stats, const void *a,
                               const float *teacher, struct finish_words w)
{
    enum { LOSS, DIVERGENCE, BYTES = 4, AS_BF16 = 8 };
    const uint32_t *word = (const uint32_t *)a;
    size_t r = blockIdx.y;
    struct stats s = stats[r];
    float lse = s.top + log_of(s.sum), v = s.p_ln_p;
    if ((w.what & 3) == LOSS)
        v = lse - s.target;
    if ((w.what & 3) == DIVERGENCE) {
        float sum = 0.0f, scale = w.what & BYTES ? as_float(word[w.scale_at + r]) : 1.0f;
        for (uint32_t i = threadIdx.x; i < w.k; i += GROUP) {
            float x = w.what & BYTES
                    ? (float)byte_of(word[r * w.a_stride + i / 4], i % 4)
                    : load(a, w.half >> 2, r * w.a_stride + i);
            sum += (w.what & AS_BF16 ? to_bf16(x) : x) * teacher[r * w.k + i];
        }
        v = lse - scale * group_sum(sum);
    }
    if (threadIdx.x == 0)
        out[r] = v;
}
