/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz.h -- what the fuzz targets share.
 *
 * A target is one file with LLVMFuzzerTestOneInput.  Built with
 * --enable-fuzzing it is driven by libFuzzer, else by replay.c, which runs it
 * over its corpus.  Besides not crashing, a target demands of the code it feeds:
 *   - a failure has a sentence and is the input's (or memory's), never LM_EBUG;
 *   - nothing allocated is left behind.                                       */
#ifndef LM_TESTS_FUZZ_H
#define LM_TESTS_FUZZ_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* Ends the program where cond does not hold, so that a fuzzer sees a crash. */
#define FUZZ_CHECK(cond) \
    ((cond) ? (void)0 : fuzz_broken(__FILE__, __LINE__, #cond))
_Noreturn void fuzz_broken(const char *file, int line, const char *what);

/* Live blocks at the start of an input, and the same at its end. */
int64_t fuzz_begin(void);
void fuzz_end(int64_t begun);
/* s is LM_OK, or a failure as an input may cause it, with its sentence. */
void fuzz_status(enum lm_status s, const struct lm_err *e);

/* PATH of a file of that name with these bytes, in a folder that goes away at
 * exit; in memory where the system has /dev/shm.                            */
const char *fuzz_path(const char *name);
const char *fuzz_file(const char *name, const void *data, size_t n);
/* The file `as` with what tests/fuzz/base/NAME holds. */
void fuzz_base(const char *name, const char *as);

/* A copy of data[0..n), NUL-terminated, for free(). */
char *fuzz_text(const uint8_t *data, size_t n);
/* Cuts text at each line that is "%%", in place; returns the number of parts. */
size_t fuzz_parts(char *text, char **part, size_t max);

/* fuzz_model.c: reads path through the format plugin that is linked in, and
 * where that succeeds does with the model what the program does first.       */
void fuzz_model(const char *path);
#endif
