/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_list.h -- the CUDA kernels, for those who start them and for themselves: which of
 * enum gpu_kernel, name (behind "lamina_"), threads of a group.                        */
#ifndef LAMINA_BACKENDS_CUDA_LIST_H
#define LAMINA_BACKENDS_CUDA_LIST_H
#define CUDA_KERNELS(X)        \
    X(EMBED,     embed,     128) \
    X(NORM,      norm,      128) \
    X(MATRIX,    matrix,    256) \
    X(VECTOR,    vector,    128) \
    X(BYTES,     bytes,     256) \
    X(ROUND,     round,     128) \
    X(ROPE,      rope,       64) \
    X(ATTENTION, attention, 128) \
    X(PAIR,      pair,      128) \
    X(FOLD,      fold,      128) \
    X(SHARE,     share,     128) \
    X(FINISH,    finish,    128)
#endif
