/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of base/file.h: whole files or none, whatever fails and when. */
#include "check_base.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/cpufreq.h"
#include "testing.h"

static char folder[256];
static char target[512];

static void setup(void)
{
    scratch_begin(folder);
    snprintf(target, sizeof target, "%s/out.bin", folder);
}

static void teardown(void)
{
    lm_fault_file(0);
    lm_fault_memory(0);
    scratch_end(folder);
}

static size_t files_in_folder(void)
{
    char **name;
    size_t n;
    ck_assert_int_eq(lm_list_folder(folder, &name, &n, NULL), LM_OK);
    for (size_t i = 0; i < n; i++)
        lm_release(name[i]);
    lm_release(name);
    return n;
}

static void assert_target(const char *want)
{
    struct lm_err e;
    char *text;
    size_t n;
    ck_assert_ok(lm_read_file(target, 1 << 24, &text, &n, &e), e);
    ck_assert_uint_eq(n, strlen(want));
    ck_assert_str_eq(text, want);
    lm_release(text);
}

/* 300 kB in pieces of all sizes, some larger than the buffer. */
static enum lm_status write_pieces(void *ctx)
{
    struct lm_err *e = ctx;
    static char piece[100000];
    struct lm_out *o;
    memset(piece, 'n', sizeof piece);
    enum lm_status s = lm_out_open(target, &o, e);
    if (s != LM_OK)
        return s;
    for (size_t n = 1; s == LM_OK && n <= sizeof piece; n *= 10)
        s = lm_out_write(o, piece, n, e);
    for (int i = 0; s == LM_OK && i < 2; i++)
        s = lm_out_write(o, piece, 94444 + (size_t)i, e);
    if (s == LM_OK)
        return lm_out_commit(o, e);
    lm_out_abandon(o);
    return s;
}
enum { PIECES = 111111 + 94444 + 94445 };

START_TEST(out_appears_by_commit_only)
{
    struct lm_err e;
    struct lm_out *o;
    ck_assert_ok(lm_write_file(target, "old", 3, &e), e);
    ck_assert_ok(lm_out_open(target, &o, &e), e);
    ck_assert_ok(lm_out_write(o, "newer", 5, &e), e);
    assert_target("old");
    ck_assert_ok(lm_out_commit(o, &e), e);
    assert_target("newer");
    ck_assert_ok(lm_out_open(target, &o, &e), e);
    ck_assert_ok(lm_out_write(o, "dropped", 7, &e), e);
    lm_out_abandon(o);
    assert_target("newer");
    ck_assert_uint_eq(files_in_folder(), 1);
    struct stat st;
    ck_assert_int_eq(stat(target, &st), 0);
    mode_t mask = umask(0);
    umask(mask);
    ck_assert_uint_eq(st.st_mode & 0777, 0666 & ~mask);
}
END_TEST

START_TEST(out_pieces_are_complete)
{
    struct lm_err e;
    ck_assert_ok(write_pieces(&e), e);
    ck_assert_int_eq(lm_file_size(target), PIECES);
}
END_TEST

START_TEST(out_every_fault)
{
    struct lm_err e;
    ck_assert_ok(lm_write_file(target, "old", 3, &e), e);
    int64_t k, blocks = lm_mem_blocks();
    for (k = 1;; k++) {
        lm_fault_file(k);
        enum lm_status s = write_pieces(&e);
        bool fired = lm_fault_file_fired();
        lm_fault_file(0);
        ck_assert_uint_eq(files_in_folder(), 1);
        ck_assert_int_eq(lm_mem_blocks(), blocks);
        if (!fired) {
            ck_assert_int_eq(s, LM_OK);
            break;
        }
        ck_assert_msg(s == LM_EIO, "operation %d: %s", (int)k, lm_status_name(s));
        ck_assert_ptr_nonnull(strstr(e.text, "out.bin"));
        ck_assert_ptr_nonnull(strstr(e.text, strerror(5)));
        assert_target("old");
    }
    ck_assert_int_ge(k, 7);             /* open, 3 or more writes, fsync, ... */
    ck_assert_int_eq(lm_file_size(target), PIECES);
}
END_TEST

START_TEST(out_every_allocation)
{
    struct lm_err e;
    ck_assert_int_eq(fail_every_allocation(write_pieces, &e), 3);
    ck_assert_uint_eq(files_in_folder(), 1);
}
END_TEST

START_TEST(out_commit_remembers_a_failed_write)
{
    struct lm_err e;
    struct lm_out *o;
    static char big[200000];
    ck_assert_ok(lm_write_file(target, "old", 3, &e), e);
    ck_assert_ok(lm_out_open(target, &o, &e), e);
    lm_fault_file(1);
    ck_assert_int_eq(lm_out_write(o, big, sizeof big, &e), LM_EIO);
    ck_assert_int_eq(lm_out_write(o, "x", 1, &e), LM_EIO);
    ck_assert_int_eq(lm_out_commit(o, &e), LM_EIO);
    assert_target("old");
    ck_assert_uint_eq(files_in_folder(), 1);
}
END_TEST

START_TEST(out_full_disk)
{
    struct lm_err e;
    if (access("/dev/full", W_OK) != 0)
        return;
    /* The kernel's own ENOSPC, through the descriptor of an open file. */
    struct lm_out *o;
    int full = lm_out_open(target, &o, &e) == LM_OK ? *(int *)(void *)o : -1;
    ck_assert_int_ge(full, 0);
    FILE *f = fopen("/dev/full", "w");
    ck_assert_int_ge(dup2(fileno(f), full), 0);
    fclose(f);
    ck_assert_ok(lm_out_write(o, "x", 1, &e), e);
    ck_assert_int_eq(lm_out_commit(o, &e), LM_EIO);
    ck_assert_ptr_nonnull(strstr(e.text, "No space left on device"));
    ck_assert_uint_eq(files_in_folder(), 0);
}
END_TEST

START_TEST(out_impossible_targets)
{
    struct lm_err e;
    char path[600];
    struct lm_out *o;
    ck_assert_int_eq(lm_out_open(folder, &o, &e), LM_EIO);
    ck_assert_ptr_null(o);
    ck_assert_int_eq(lm_out_open("", &o, &e), LM_EIO);
    snprintf(path, sizeof path, "%s/none/x", folder);
    ck_assert_int_eq(lm_out_open(path, &o, &e), LM_EIO);
    ck_assert_ptr_nonnull(strstr(e.text, "No such file"));
    /* the longest name that there can be */
    snprintf(path, sizeof path, "%s/%0255d", folder, 1);
    ck_assert_ok(lm_write_file(path, "long", 4, &e), e);
    ck_assert_int_eq(lm_file_size(path), 4);
}
END_TEST

START_TEST(read_limits_and_errors)
{
    struct lm_err e;
    char *text;
    size_t n;
    ck_assert_ok(lm_write_file(target, "12345", 5, &e), e);
    ck_assert_ok(lm_read_file(target, 5, &text, &n, &e), e);
    ck_assert_uint_eq(n, 5);
    ck_assert_str_eq(text, "12345");
    lm_release(text);
    ck_assert_int_eq(lm_read_file(target, 4, &text, &n, &e), LM_EINPUT);
    ck_assert_ptr_null(text);
    ck_assert_int_eq(lm_read_file(folder, 100, &text, &n, &e), LM_EINPUT);
    ck_assert_int_eq(lm_read_file("/no/such/file", 100, &text, &n, &e), LM_EINPUT);
    ck_assert_str_eq(e.text, "cannot open '/no/such/file': No such file or directory");
    ck_assert_int_eq(lm_read_file("/dev/zero", 1 << 20, &text, &n, &e), LM_EINPUT);
}
END_TEST

static enum lm_status read_and_map(void *ctx)
{
    struct lm_err *e = ctx;
    struct lm_map m;
    char *text;
    size_t n;
    enum lm_status s = lm_read_file(target, 1 << 20, &text, &n, e);
    if (s != LM_OK)
        return s;
    s = lm_map_open(&m, target, e);
    if (s == LM_OK) {
        ck_assert_uint_eq(m.n, n);
        ck_assert_mem_eq(m.data, text, n);
        lm_map_close(&m);
    }
    lm_release(text);
    return s;
}

START_TEST(read_every_fault)
{
    struct lm_err e;
    ck_assert_ok(lm_write_file(target, "contents", 8, &e), e);
    int64_t k, blocks = lm_mem_blocks();
    for (k = 1;; k++) {
        lm_fault_file(k);
        enum lm_status s = read_and_map(&e);
        bool fired = lm_fault_file_fired();
        lm_fault_file(0);
        ck_assert_int_eq(s, fired ? LM_EINPUT : LM_OK);
        ck_assert_int_eq(lm_mem_blocks(), blocks);
        if (!fired)
            break;
    }
    ck_assert_int_eq(k - 1, 7);         /* open, stat, 2 reads; open, stat, mmap */
    ck_assert_int_eq(fail_every_allocation(read_and_map, &e), 1);
}
END_TEST

START_TEST(map_special_files)
{
    struct lm_err e;
    struct lm_map m;
    ck_assert_ok(lm_write_file(target, "", 0, &e), e);
    ck_assert_ok(lm_map_open(&m, target, &e), e);
    ck_assert_uint_eq(m.n, 0);
    ck_assert_ptr_nonnull(m.data);
    lm_map_close(&m);
    lm_map_close(&m);
    ck_assert_int_eq(lm_map_open(&m, folder, &e), LM_EINPUT);
    ck_assert_int_eq(lm_map_open(&m, "/dev/null", &e), LM_EINPUT);
    ck_assert_int_eq(lm_map_open(&m, "/no/such", &e), LM_EINPUT);
}
END_TEST

static enum lm_status create_map(void *ctx)
{
    struct lm_err *e = ctx;
    struct lm_map m;
    void *data;
    enum lm_status s = lm_map_create(target, 100000, &data, e);
    if (s != LM_OK)
        return s;
    memset(data, 'm', 100000);
    s = lm_map_commit(target, data, 100000, &m, e);
    if (s == LM_OK) {
        ck_assert_uint_eq(m.n, 100000);
        ck_assert_int_eq(((const char *)m.data)[99999], 'm');
        lm_map_close(&m);
    }
    return s;
}

START_TEST(map_create_every_fault)
{
    struct lm_err e;
    ck_assert_ok(lm_write_file(target, "old", 3, &e), e);
    int64_t k, blocks = lm_mem_blocks();
    for (k = 1;; k++) {
        lm_fault_file(k);
        enum lm_status s = create_map(&e);
        bool fired = lm_fault_file_fired();
        lm_fault_file(0);
        ck_assert_int_eq(s, fired ? LM_EIO : LM_OK);
        ck_assert_int_eq(lm_mem_blocks(), blocks);
        ck_assert_uint_eq(files_in_folder(), 1);
        if (!fired)
            break;
        assert_target("old");
    }
    ck_assert_int_ge(k, 6);
    ck_assert_int_eq(lm_file_size(target), 100000);
    ck_assert_int_eq(fail_every_allocation(create_map, &e), 2);
}
END_TEST

START_TEST(map_abandon)
{
    struct lm_err e;
    void *a, *b;
    ck_assert_ok(lm_map_create(target, 10, &a, &e), e);
    ck_assert_ok(lm_map_create(target, 20, &b, &e), e);
    ck_assert_uint_eq(files_in_folder(), 2);
    lm_map_abandon(a, 10);
    lm_map_abandon(b, 20);
    lm_map_abandon(NULL, 0);
    ck_assert_uint_eq(files_in_folder(), 0);
    ck_assert_int_eq(lm_map_create(target, 0, &a, &e), LM_EBUG);
    ck_assert_int_eq(lm_map_create(target, SIZE_MAX, &a, &e), LM_EBUG);
    ck_assert_uint_eq(files_in_folder(), 0);
}
END_TEST

START_TEST(folder_make_and_list)
{
    struct lm_err e;
    char path[600], **name;
    size_t n;
    int64_t bytes;
    snprintf(path, sizeof path, "%s/a/b//c/", folder);
    ck_assert_ok(lm_make_folder(path, &e), e);
    ck_assert_ok(lm_make_folder(path, &e), e);
    ck_assert(lm_is_folder(path));
    for (int i = 39; i >= 0; i--) {
        snprintf(path, sizeof path, "%s/a/f%02d", folder, i);
        ck_assert_ok(lm_write_file(path, "x", 1, &e), e);
    }
    ck_assert_int_eq(lm_make_folder(path, &e), LM_EIO);        /* a file */
    snprintf(path, sizeof path, "%s/a", folder);
    ck_assert_ok(lm_list_folder(path, &name, &n, &e), e);
    ck_assert_uint_eq(n, 41);
    ck_assert_str_eq(name[0], "b");
    for (size_t i = 1; i < n; i++)
        ck_assert_int_eq(atoi(name[i] + 1), (int)i - 1);
    char deep[600], link[600];
    snprintf(deep, sizeof deep, "%s/a/b/c/file", folder);
    snprintf(link, sizeof link, "%s/a/b/link", folder);
    ck_assert_ok(lm_write_file(deep, "four", 4, &e), e);
    ck_assert_int_eq(symlink(path, link), 0);           /* it would never end */
    ck_assert_ok(lm_folder_bytes(path, &bytes, &e), e);
    ck_assert_int_eq(bytes, 40 + 4);
    ck_assert(unlink(deep) == 0 && unlink(link) == 0);
    for (size_t i = 0; i < n; i++) {
        char file[1200];
        ck_assert(lm_path_join(file, sizeof file, path, name[i]));
        remove(file);
        lm_release(name[i]);
    }
    lm_release(name);
    ck_assert_int_eq(lm_list_folder("/no/such", &name, &n, &e), LM_EINPUT);
    ck_assert_int_eq(lm_folder_bytes("/no/such", &bytes, &e), LM_EINPUT);
    snprintf(path, sizeof path, "%s/a/b/c", folder);
    rmdir(path);
    snprintf(path, sizeof path, "%s/a/b", folder);
    rmdir(path);
}
END_TEST

static enum lm_status make_and_list(void *ctx)
{
    struct lm_err *e = ctx;
    char path[600], **name;
    size_t n;
    snprintf(path, sizeof path, "%s/made", folder);
    rmdir(path);
    enum lm_status s = lm_make_folder(path, e);
    if (s == LM_OK)
        s = lm_list_folder(folder, &name, &n, e);
    if (s != LM_OK)
        return s;
    lm_free_names(name, n);
    return LM_OK;
}

START_TEST(folder_every_fault)
{
    struct lm_err e;
    for (int64_t k = 1;; k++) {
        lm_fault_file(k);
        enum lm_status s = make_and_list(&e);
        bool fired = lm_fault_file_fired();
        lm_fault_file(0);
        ck_assert(fired ? s == LM_EIO || s == LM_EINPUT : s == LM_OK);
        if (!fired)
            break;
    }
    ck_assert_int_ge(fail_every_allocation(make_and_list, &e), 3);
}
END_TEST

START_TEST(paths)
{
    char out[16];
    struct lm_err e;
    ck_assert(lm_path_join(out, sizeof out, "a", "b"));
    ck_assert_str_eq(out, "a/b");
    ck_assert(lm_path_join(out, sizeof out, "a/", "b"));
    ck_assert_str_eq(out, "a/b");
    ck_assert(lm_path_join(out, sizeof out, "", "b"));
    ck_assert_str_eq(out, "b");
    ck_assert(lm_path_join(out, sizeof out, "1234567", "1234567"));
    ck_assert(!lm_path_join(out, sizeof out, "12345678", "1234567"));
    char cache[300];
    setenv("XDG_CACHE_HOME", "/x/y", 1);
    ck_assert_ok(lm_cache_folder(cache, sizeof cache, &e), e);
    ck_assert_str_eq(cache, "/x/y/lamina");
    setenv("XDG_CACHE_HOME", "relative", 1);
    setenv("HOME", "/home/me", 1);
    ck_assert_ok(lm_cache_folder(cache, sizeof cache, &e), e);
    ck_assert_str_eq(cache, "/home/me/.cache/lamina");
    ck_assert_int_eq(lm_cache_folder(cache, 10, &e), LM_ECONFIG);
    unsetenv("HOME");
    ck_assert_int_eq(lm_cache_folder(cache, sizeof cache, &e), LM_ECONFIG);
}
END_TEST

START_TEST(sizes)
{
    char path[600];
    snprintf(path, sizeof path, "%s/not/yet/there", folder);
    ck_assert_int_gt(lm_disk_free(folder), 0);
    ck_assert_int_gt(lm_disk_free(path), 0);
    ck_assert_int_gt(lm_disk_free("relative/not/there"), 0);
    ck_assert_int_eq(lm_file_size(path), -1);
    ck_assert_int_eq(lm_file_size(folder), -1);
    ck_assert(!lm_file_exists(path));
    ck_assert(lm_file_exists(folder));
}
END_TEST

/* A file of the kernel's kind below a root of ours. */
static void tell_clock(int cpu, const char *file, const char *text)
{
    char path[600];
    snprintf(path, sizeof path, "%s/cpu%d/cpufreq", folder, cpu);
    ck_assert_int_eq(lm_make_folder(path, NULL), LM_OK);
    snprintf(path, sizeof path, "%s/cpu%d/cpufreq/%s", folder, cpu, file);
    ck_assert_int_eq(lm_write_file(path, text, strlen(text), NULL), LM_OK);
}

START_TEST(processor_clocks)
{
    struct lm_cpu_clock c;
    ck_assert(!lm_cpu_clock_read(folder, &c));
    ck_assert(c.mhz == 0 && !c.governor[0]);
    tell_clock(0, "scaling_cur_freq", "2400000\n");
    tell_clock(0, "scaling_governor", "powersave\n");
    tell_clock(1, "scaling_cur_freq", "none of the kind\n");
    tell_clock(7, "scaling_cur_freq", "1800000\n");     /* those between are off */
    tell_clock(7, "scaling_governor", "performance\n");
    ck_assert(lm_cpu_clock_read(folder, &c));
    ck_assert_double_eq_tol(c.mhz, 2100, 1e-9);
    ck_assert_str_eq(c.governor, "powersave");
}
END_TEST

Suite *file_suite(void)
{
    Suite *s = suite_create("file");
    TCase *c = tcase_create("file");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, out_appears_by_commit_only);
    tcase_add_test(c, out_pieces_are_complete);
    tcase_add_test(c, out_every_fault);
    tcase_add_test(c, out_every_allocation);
    tcase_add_test(c, out_commit_remembers_a_failed_write);
    tcase_add_test(c, out_full_disk);
    tcase_add_test(c, out_impossible_targets);
    tcase_add_test(c, read_limits_and_errors);
    tcase_add_test(c, read_every_fault);
    tcase_add_test(c, map_special_files);
    tcase_add_test(c, map_create_every_fault);
    tcase_add_test(c, map_abandon);
    tcase_add_test(c, folder_make_and_list);
    tcase_add_test(c, folder_every_fault);
    tcase_add_test(c, paths);
    tcase_add_test(c, sizes);
    tcase_add_test(c, processor_clocks);
    suite_add_tcase(s, c);
    return s;
}
