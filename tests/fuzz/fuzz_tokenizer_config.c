/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_tokenizer_config.c -- a folder's tokenizer_config.json. */
#define FUZZED "tokenizer_config.json"
#define WEIGHTS "model.safetensors"
#include "hf_folder.h"
