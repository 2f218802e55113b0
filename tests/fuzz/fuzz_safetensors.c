/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_safetensors.c -- the weights of a folder. */
#define FUZZED "model.safetensors"
#define WEIGHTS "model.safetensors"
#include "hf_folder.h"
