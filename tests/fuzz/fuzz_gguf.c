/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_gguf.c -- a whole GGUF file. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    int64_t begun = fuzz_begin();
    fuzz_model(fuzz_file("m.gguf", data, n));
    fuzz_end(begun);
    return 0;
}
