/* SPDX-License-Identifier: Apache-2.0 */
/* fakecuda.h -- the driver of tests/cuda/fakecuda.cpp in place of NVIDIA's: for tests of
 * the backend `cuda`.                                                             */
#ifndef LM_TESTS_FAKECUDA_H
#define LM_TESTS_FAKECUDA_H
#include <dlfcn.h>

#include "testing.h"

/* Where it was not built, or cannot be followed, says so as a skipped test, and returns
 * false.                                                                          */
static inline bool fake_find(void)
{
    static char path[1024];
    const char *build = getenv("LAMINA_BUILDDIR"), *tap = getenv("CK_TAP_LOG_FILE_NAME");
    const char *wrapper = getenv("WRAPPER");
    bool followed = !wrapper || !strstr(wrapper, "valgrind");
    snprintf(path, sizeof path, "%s/tests/cuda/fakecuda.so", build ? build : ".");
    if (lm_file_exists(path) && followed) {
        setenv("LAMINA_LIBCUDA", path, 1);
        return true;
    }
    FILE *f = tap ? fopen(tap, "w") : stdout;
    if (f)
        fprintf(f, "1..0 # SKIP %s\n", followed
                ? "there is no C++17 compiler for the emulator of CUDA"
                : "valgrind does not follow the emulator's stacks");
    if (f && tap)
        fclose(f);
    return false;
}

static inline void *fake_symbol(const char *name)
{
    void *so = dlopen(getenv("LAMINA_LIBCUDA"), RTLD_NOW | RTLD_LOCAL);
    ck_assert_msg(so != NULL, "%s", dlerror());
    void *symbol = dlsym(so, name);
    ck_assert_ptr_nonnull(symbol);
    return symbol;
}

/* What was made on the device and not freed. */
static inline size_t fake_objects(void)
{
    size_t (*objects)(void);
    *(void **)&objects = fake_symbol("fakecuda_objects");
    return objects();
}
#endif
