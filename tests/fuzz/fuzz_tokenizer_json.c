/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_tokenizer_json.c -- vocabulary, merges, added tokens of a folder. */
#define FUZZED "tokenizer.json"
#define WEIGHTS "model.safetensors"
#include "hf_folder.h"
