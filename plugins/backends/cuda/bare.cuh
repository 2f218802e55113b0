// SPDX-License-Identifier: Apache-2.0
// bare.cuh -- what the kernels use of CUDA's headers, for clang without these.
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef __SIZE_TYPE__ size_t;
#define __device__ __attribute__((device))
#define __global__ __attribute__((global))
#define __shared__ __attribute__((shared))
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(n) __attribute__((launch_bounds(n)))
#define __align__(n) __attribute__((aligned(n)))

// Members that read a register, as the language has them.
#define BARE_INDEX(type, name, x_of, y_of)                                          \
    struct type {                                                                   \
        struct X { __device__ operator uint32_t() const { return x_of(); } } x;     \
        struct Y { __device__ operator uint32_t() const { return y_of(); } } y;     \
    };                                                                              \
    static __device__ type name
BARE_INDEX(bare_thread, threadIdx, __nvvm_read_ptx_sreg_tid_x, __nvvm_read_ptx_sreg_tid_y);
BARE_INDEX(bare_block, blockIdx, __nvvm_read_ptx_sreg_ctaid_x,
           __nvvm_read_ptx_sreg_ctaid_y);

#define __syncthreads() __nvvm_bar_sync(0)
#define __shfl_xor_sync(mask, v, step) __nvvm_shfl_sync_bfly_f32(mask, v, step, 0x1f)
#define __shfl_sync(mask, v, lane) __nvvm_shfl_sync_idx_f32(mask, v, lane, 0x1f)

static __device__ __forceinline__ float sqrtf(float x) { return __builtin_sqrtf(x); }
static __device__ __forceinline__ float rintf(float x) { return __builtin_rintf(x); }
static __device__ __forceinline__ float fabsf(float x) { return __builtin_fabsf(x); }
static __device__ __forceinline__ float fmaxf(float a, float b)
{
    return __builtin_fmaxf(a, b);
}
