/* SPDX-License-Identifier: Apache-2.0 */
/* testing.h -- what Check programs share: main, fault loops, data folders. */
#ifndef LM_TESTS_TESTING_H
#define LM_TESTS_TESTING_H
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"

/* Runs the suites and returns the exit status.  Under `make check` results go
 * to a TAP file (run-check), by hand to the terminal.                        */
static inline int run_suites(Suite *const *suite, size_t n)
{
    SRunner *r = srunner_create(NULL);
    for (size_t i = 0; i < n; i++)
        srunner_add_suite(r, suite[i]);
    srunner_run_all(r, getenv("CK_TAP_LOG_FILE_NAME") != NULL ? CK_SILENT : CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}

#define ck_assert_ok(call, err) \
    do { \
        enum lm_status s_ = (call); \
        ck_assert_msg(s_ == LM_OK, "%s: %s: %s", #call, lm_status_name(s_), (err).text); \
    } while (0)

static inline void show_leak(void *ctx, const char *tag, size_t n)
{
    (void)ctx;
    fprintf(stderr, "live block: %zu bytes, %s\n", n, tag);
}

static inline void add_bytes(void *ctx, const char *tag, size_t n)
{
    (void)tag;
    *(size_t *)ctx += n;
}

/* Bytes of all live blocks. */
static inline size_t live_bytes(void)
{
    size_t n = 0;

    lm_mem_each(add_bytes, &n);
    return n;
}

/* Calls work(ctx) with the 1st, 2nd, ... allocation failing, until one call
 * has no k-th allocation.  Each failure must be reported as LM_ENOMEM and
 * leave nothing behind; work() frees what it made when it succeeds.  Returns
 * how many allocations were made to fail.                                   */
static inline int64_t fail_every_allocation(enum lm_status (*work)(void *), void *ctx)
{
    ck_assert_int_eq(work(ctx), LM_OK);         /* one-time allocations */
    for (int64_t k = 1;; k++) {
        int64_t before = lm_mem_blocks();
        lm_fault_memory(k);
        enum lm_status s = work(ctx);
        bool fired = lm_fault_memory_fired();
        lm_fault_memory(0);
        if (lm_mem_blocks() != before)
            lm_mem_each(show_leak, NULL);
        ck_assert_msg(lm_mem_blocks() == before,
                      "allocation %lld fails: %lld blocks leak", (long long)k,
                      (long long)(lm_mem_blocks() - before));
        ck_assert_msg(s == (fired ? LM_ENOMEM : LM_OK), "allocation %lld fails: \"%s\"",
                      (long long)k, lm_status_name(s));
        if (!fired)
            return k - 1;
    }
}

/* $LAMINA_SRCDIR/NAME ("tests/golden/llama-mha"), in one of four buffers. */
static inline const char *source_path(const char *name)
{
    static char path[4][1024];
    static int next;
    const char *folder = getenv("LAMINA_SRCDIR");
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", folder != NULL ? folder : ".", name);
    return path[next];
}

/* $LAMINA_DATA/NAME, or NULL where there are no such data: skip visibly. */
static inline const char *data_path(const char *name)
{
    static char path[1024];
    const char *folder = getenv("LAMINA_DATA");
    if (folder == NULL || *folder == '\0')
        return NULL;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return lm_file_exists(path) ? path : NULL;
}

/* A fresh folder; scratch_end() removes it with the files directly in it. */
static inline void scratch_begin(char folder[256])
{
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, 256, "%s/lamina-check.XXXXXX", tmp != NULL ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static inline void scratch_end(const char *folder)
{
    char **name, path[1024];
    size_t n;
    if (lm_list_folder(folder, &name, &n, NULL) == LM_OK) {
        for (size_t i = 0; i < n; i++) {
            if (lm_path_join(path, sizeof path, folder, name[i]))
                remove(path);
            lm_release(name[i]);
        }
        lm_release(name);
    }
    remove(folder);
}
#endif
