/* SPDX-License-Identifier: Apache-2.0 */
/* check_cuda_model.c -- golden models on the backend cuda, on an emulated driver. */
#include "check_gpu_model.h"
#include "fakecuda.h"

int main(void)
{
    if (!fake_find())
        return 0;
    setenv("FAKECUDA_ORDER", "shuffled", 1);
    tested = "cuda";
    return check_models("cuda_model");
}
