// SPDX-License-Identifier: Apache-2.0
// kernels.cu -- all kernels of the CUDA backend, one image.
#include "common.cuh"
#include "weight.cuh"
#include "rows.cuh"
#include "product.cuh"
#include "attention.cuh"
#include "head.cuh"
