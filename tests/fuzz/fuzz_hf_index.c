/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_hf_index.c -- the index of weights in several files. */
#define FUZZED "model.safetensors.index.json"
#define WEIGHTS "part-0.safetensors"
#include "hf_folder.h"
