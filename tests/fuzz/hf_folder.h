/* SPDX-License-Identifier: Apache-2.0 */
/* hf_folder.h -- a target that replaces one file of a small Hugging Face folder
 * (tests/fuzz/base): the includer names it in FUZZED, and in WEIGHTS the name
 * that the folder's weights have.                                            */
#include "fuzz.h"

static void make_folder(void)
{
    static const char *const name[] = { "config.json", "generation_config.json",
                                        "tokenizer.json", "tokenizer_config.json" };
    for (size_t i = 0; i < sizeof name / sizeof *name; i++)
        fuzz_base(name[i], name[i]);
    fuzz_base("model.safetensors", WEIGHTS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static int ready;
    char folder[512];
    if (!ready++)
        make_folder();
    snprintf(folder, sizeof folder, "%s", fuzz_path(""));
    int64_t begun = fuzz_begin();
    fuzz_file(FUZZED, data, n);
    fuzz_model(folder);
    fuzz_end(begun);
    return 0;
}
