/* SPDX-License-Identifier: Apache-2.0 */
/* check_hostile.h -- what the tests of lying files share: the program's own
 * words and exit status about a file, and a generator of byte changes.        */
#ifndef LM_TESTS_CHECK_HOSTILE_H
#define LM_TESTS_CHECK_HOSTILE_H
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check_formats.h"

/* `lamina ARGUMENTS` inside a folder ends with status 3 and says exactly
 * "lamina: " and this.                                                        */
static inline void ends_with_3(const char *folder, const char *arguments,
                               const char *says)
{
    const char *build = getenv("LAMINA_BUILDDIR");
    char command[2048], got[4096], want[4096];
    snprintf(command, sizeof command, "cd '%s' && OPENBLAS_NUM_THREADS=1 '%s/lamina' "
             "%s 2>&1 >out", folder, build ? build : ".", arguments);
    snprintf(want, sizeof want, "lamina: %s\n", says);
    FILE *p = popen(command, "r");
    ck_assert_ptr_nonnull(p);
    size_t n = fread(got, 1, sizeof got - 1, p);
    int status = pclose(p);
    got[n] = 0;
    ck_assert_str_eq(got, want);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 3, "status %d", status);
}

static inline void refuses(const char *folder, const char *name, const char *says)
{
    char arguments[300];
    snprintf(arguments, sizeof arguments, "inspect %s", name);
    ends_with_3(folder, arguments, says);
}

/* Reads a model and all of its values: success, or a clean refusal. */
static inline enum lm_status read_whole(const char *format, const char *path,
                                        struct lm_err *e)
{
    struct lm_model *m = NULL;
    *e = (struct lm_err){ 0 };
    enum lm_status s = formats_read(format, path, &m, e);
    if (!s) {
        s = lm_model_check(m, e);
        lm_model_free(m);
    }
    ck_assert_msg(s == LM_OK || (s == LM_EINPUT && e->text[0]), "%s: %s",
                  lm_status_name(s), e->text);
    return s;
}

/* Each length of a file but the whole, then n seeded changes of one byte;
 * returns how many of those were refused.  Lengths that lack at most `spare`
 * bytes may be read.  The file is changed in place: to write it anew each time
 * waits for the disk.                                                         */
static inline int brute_force(const char *format, const char *model, const char *path,
                              size_t spare, int n)
{
    struct lm_rng r = lm_rng(4, "hostile", 0);
    struct lm_err e;
    char *text;
    size_t size;
    int refused = 0;
    ck_assert_ok(lm_read_file(path, 1 << 20, &text, &size, &e), e);
    ck_assert_ok(read_whole(format, model, &e), e);
    for (size_t k = size; k-- > 0;) {
        ck_assert_int_eq(truncate(path, (off_t)k), 0);
        ck_assert_msg(read_whole(format, model, &e) == LM_EINPUT || size - k <= spare,
                      "%zu of %zu bytes are read", k, size);
    }
    put_file(path, text, size);
    int f = open(path, O_RDWR);
    ck_assert_int_ge(f, 0);
    for (int i = 0; i < n; i++) {
        size_t at = (size_t)lm_rng_below(&r, size);
        char byte = (char)lm_rng_below(&r, 256);
        ck_assert_int_eq(pwrite(f, &byte, 1, (off_t)at), 1);
        refused += read_whole(format, model, &e) != LM_OK;
        ck_assert_int_eq(pwrite(f, &text[at], 1, (off_t)at), 1);
    }
    close(f);
    lm_release(text);
    return refused;
}

Suite *hostile_hf_suite(void);
#endif
