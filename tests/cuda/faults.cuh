// SPDX-License-Identifier: Apache-2.0
// faults.cuh -- kernels with the faults that the emulator must find; see check_cuda.c.
// 64 threads, out [64].

// Thread 0 reads what the last thread may not have written yet.
KERNEL(fault_no_barrier, 64)(float *out)
{
    __shared__ float v[64];
    v[threadIdx.x] = (float)threadIdx.x;
    out[threadIdx.x] = v[63 - threadIdx.x];
}

KERNEL(fault_no_fault, 64)(float *out)
{
    __shared__ float v[64];
    v[threadIdx.x] = (float)threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = v[63 - threadIdx.x];
}

// Half of the group has written, all of it is read.
KERNEL(fault_stale, 64)(float *out)
{
    __shared__ float v[64];
    if (threadIdx.x < 32)
        v[threadIdx.x] = (float)threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = v[63 - threadIdx.x];
}

KERNEL(fault_half_barrier, 64)(float *out)
{
    out[threadIdx.x] = 1.0f;
    if (threadIdx.x < 32)
        __syncthreads();
}

KERNEL(fault_two_barriers, 64)(float *out)
{
    out[threadIdx.x] = 1.0f;
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
}

KERNEL(fault_half_shuffle, 64)(float *out)
{
    float v = 1.0f;
    if (threadIdx.x % 2)
        v = __shfl_xor_sync(ALL_LANES, v, 2);
    out[threadIdx.x] = v;
}

// The words behind and in front of what lies there, which are 32 floats.
KERNEL(fault_behind, 64)(float *out)
{
    if (threadIdx.x < 33)
        out[threadIdx.x] = 1.0f;
}

KERNEL(fault_before, 64)(float *out)
{
    if (threadIdx.x < 32)
        out[(int32_t)threadIdx.x - 1] = 1.0f;
}
