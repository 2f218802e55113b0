/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_config.c -- a model's config.json. */
#define FUZZED "config.json"
#define WEIGHTS "model.safetensors"
#include "hf_folder.h"
