/* SPDX-License-Identifier: Apache-2.0 */
/* folder.c -- the half of file.h about names: folders, sizes, paths. */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/mem.h"

enum { MAX_DEPTH = 64 };                /* of folders whose bytes are counted */

bool lm_file_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

bool lm_is_link(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && S_ISLNK(st.st_mode);
}

bool lm_is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool lm_same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev
        && x.st_ino == y.st_ino;
}

int64_t lm_file_size(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) ? (int64_t)st.st_size : -1;
}

/* Of the file system that path is on, or will be once it exists. */
int64_t lm_disk_free(const char *path)
{
    char at[PATH_MAX];
    struct statvfs v;
    if (strlen(path) >= sizeof at)
        return -1;
    strcpy(at, *path != '\0' ? path : ".");
    while (statvfs(at, &v) != 0) {
        char *slash = strrchr(at, '/');
        if (strcmp(at, "/") == 0 || strcmp(at, ".") == 0)
            return -1;
        if (slash == NULL)
            strcpy(at, ".");
        else
            slash[slash == at] = '\0';
    }
    uint64_t bytes;
    if (__builtin_mul_overflow((uint64_t)v.f_bavail, (uint64_t)v.f_frsize, &bytes)
        || bytes > INT64_MAX)
        return INT64_MAX;
    return (int64_t)bytes;
}

static enum lm_status make_one(const char *path, struct lm_err *e)
{
    if (lm_file_fault() || (mkdir(path, 0777) != 0 && errno != EEXIST))
        return lm_fail(e, LM_EIO, "cannot create folder '%s': %s", path,
                       strerror(errno));
    if (!lm_is_folder(path))
        return lm_fail(e, LM_EIO, "cannot create folder '%s': a file has that name",
                       path);
    return LM_OK;
}

enum lm_status lm_make_folder(const char *path, struct lm_err *e)
{
    if (*path == '\0')
        return lm_fail(e, LM_EIO, "cannot create a folder without a name");
    if (lm_is_folder(path))
        return LM_OK;
    char *part = lm_strdup(path, "folder path");
    if (part == NULL)
        return lm_fail_memory(e, strlen(path) + 1, path);
    enum lm_status s = LM_OK;
    for (char *c = part + 1; s == LM_OK && *c != '\0'; c++) {
        if (*c != '/')
            continue;
        *c = '\0';
        if (!lm_is_folder(part))
            s = make_one(part, e);
        *c = '/';
    }
    if (s == LM_OK)
        s = make_one(part, e);
    lm_release(part);
    return s;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Appends a copy of name; the array doubles when n reaches a power of two. */
static bool push(char ***names, size_t *n, const char *name)
{
    if (*n == 0 || (*n >= 16 && (*n & (*n - 1)) == 0)) {
        size_t bytes;
        if (!lm_mul_size(*n == 0 ? 16 : 2 * *n, sizeof **names, &bytes))
            return false;
        char **more = *names == NULL ? lm_alloc(bytes, "folder listing")
                                     : lm_resize(*names, bytes);
        if (more == NULL)
            return false;
        *names = more;
    }
    char *copy = lm_strdup(name, "file name");
    if (copy != NULL)
        (*names)[(*n)++] = copy;
    return copy != NULL;
}

void lm_free_names(char **names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        lm_release(names[i]);
    lm_release(names);
}

enum lm_status lm_list_folder(const char *path, char ***names, size_t *n,
                              struct lm_err *e)
{
    *names = NULL;
    *n = 0;
    DIR *d = lm_file_fault() ? NULL : opendir(path);
    if (d == NULL)
        return lm_fail(e, LM_EINPUT, "cannot list folder '%s': %s", path,
                       strerror(errno));
    char **list = NULL;
    size_t count = 0;
    enum lm_status s = LM_OK;
    for (;;) {
        errno = 0;
        struct dirent *entry = lm_file_fault() ? NULL : readdir(d);
        if (entry == NULL && errno != 0)
            s = lm_fail(e, LM_EINPUT, "cannot list folder '%s': %s", path,
                        strerror(errno));
        if (entry == NULL)
            break;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (!push(&list, &count, entry->d_name)) {
            s = lm_fail_memory(e, strlen(entry->d_name) + 1, path);
            break;
        }
    }
    closedir(d);
    if (s != LM_OK) {
        lm_free_names(list, count);
        return s;
    }
    if (count > 1)
        qsort(list, count, sizeof *list, by_name);
    *names = list;
    *n = count;
    return LM_OK;
}

enum lm_status lm_remove_tree(const char *path, struct lm_err *e)
{
    char **name, part[PATH_MAX];
    size_t n;
    enum lm_status s = LM_OK;
    if (!lm_is_link(path) && lm_is_folder(path)) {
        if ((s = lm_list_folder(path, &name, &n, e)))
            return s;
        for (size_t i = 0; !s && i < n; i++)
            s = lm_path_join(part, sizeof part, path, name[i])
                ? lm_remove_tree(part, e)
                : lm_fail(e, LM_EIO, "%s: a path in it is too long", path);
        lm_free_names(name, n);
    }
    if (!s && (lm_file_fault() || (remove(path) && errno != ENOENT)))
        s = lm_fail(e, LM_EIO, "cannot remove '%s': %s", path, strerror(errno));
    return s;
}

/* Adds to *bytes.  depth: a path on the stack for each. */
static enum lm_status add_bytes(const char *path, int depth, int64_t *bytes,
                                struct lm_err *e)
{
    char **name, part[PATH_MAX];
    size_t n;
    if (depth > MAX_DEPTH)
        return lm_fail(e, LM_EINPUT, "%s: more than %d folders in each other", path,
                       MAX_DEPTH);
    enum lm_status s = lm_list_folder(path, &name, &n, e);
    for (size_t i = 0; s == LM_OK && i < n; i++) {
        if (!lm_path_join(part, sizeof part, path, name[i]))
            s = lm_fail(e, LM_EINPUT, "%s: a path in it is too long", path);
        else if (lm_is_link(part))
            continue;
        else if (lm_is_folder(part))
            s = add_bytes(part, depth + 1, bytes, e);
        else if (lm_file_size(part) > 0)
            *bytes += lm_file_size(part);
    }
    lm_free_names(name, n);
    return s;
}

enum lm_status lm_folder_bytes(const char *path, int64_t *bytes, struct lm_err *e)
{
    *bytes = 0;
    return add_bytes(path, 1, bytes, e);
}

bool lm_path_join(char *out, size_t n, const char *folder, const char *name)
{
    size_t f = strlen(folder);
    const char *between = f == 0 || folder[f - 1] == '/' ? "" : "/";
    int w = snprintf(out, n, "%s%s%s", folder, between, name);
    return w >= 0 && (size_t)w < n;
}

enum lm_status lm_cache_folder(char *out, size_t n, struct lm_err *e)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    bool fits;
    if (cache != NULL && *cache == '/') {       /* relative ones are invalid */
        fits = lm_path_join(out, n, cache, "lamina");
    } else if (home != NULL && *home != '\0') {
        fits = lm_path_join(out, n, home, ".cache/lamina");
    } else {
        return lm_fail(e, LM_ECONFIG, "there is no cache folder: set XDG_CACHE_HOME "
                       "or HOME");
    }
    return fits ? LM_OK : lm_fail(e, LM_ECONFIG, "the path of the cache folder is too "
                                  "long");
}

/* ---- folders of files ---------------------------------------------------------- */

bool lm_folder_is_empty(const char *path)
{
    DIR *d = opendir(path);
    bool empty = d != NULL;
    for (struct dirent *entry; empty && (entry = readdir(d)) != NULL;)
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    if (d != NULL)
        closedir(d);
    return empty;
}

enum lm_status lm_remove_file(const char *path, struct lm_err *e)
{
    if (lm_file_fault() || unlink(path) != 0)
        return lm_fail(e, LM_EIO, "cannot remove '%s': %s", path, strerror(errno));
    return LM_OK;
}

/* Names of the files in a folder; a folder in it is an error. */
static enum lm_status list_files(const char *path, char ***names, size_t *n,
                                 struct lm_err *e)
{
    enum lm_status s = lm_list_folder(path, names, n, e);
    char inner[PATH_MAX];
    for (size_t i = 0; s == LM_OK && i < *n; i++)
        if (!lm_path_join(inner, sizeof inner, path, (*names)[i])
            || (lm_is_folder(inner) && !lm_is_link(inner)))
            s = lm_fail(e, LM_ECONFIG, "%s: has a folder '%s' in it, so it is not "
                        "removed; remove it yourself", path, (*names)[i]);
    return s;
}

enum lm_status lm_remove_folder(const char *path, struct lm_err *e)
{
    char **names = NULL;
    size_t n = 0;
    enum lm_status s = list_files(path, &names, &n, e);
    lm_free_names(names, n);
    return s == LM_OK ? lm_remove_tree(path, e) : s;
}

enum lm_status lm_move_folder(const char *from, const char *to, struct lm_err *e)
{
    char **names = NULL, old[PATH_MAX];
    size_t n = 0;
    if (!lm_file_exists(to) || lm_folder_is_empty(to))
        return lm_move_file(from, to, e);
    int w = snprintf(old, sizeof old, "%s.old", from);
    if (w < 0 || (size_t)w >= sizeof old || lm_file_exists(old))
        return lm_fail(e, LM_EIO, "cannot replace '%s': '%s' is in the way", to, old);
    enum lm_status s = list_files(to, &names, &n, e);
    lm_free_names(names, n);
    if (s == LM_OK)
        s = lm_move_file(to, old, e);
    if (s != LM_OK)
        return s;
    s = lm_move_file(from, to, e);
    if (s != LM_OK) {
        struct lm_err ignored = { LM_OK, "" };
        lm_move_file(old, to, &ignored);
        return s;
    }
    return lm_remove_folder(old, e);
}
