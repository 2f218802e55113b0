/* SPDX-License-Identifier: Apache-2.0 */
/* file.c -- all file access of the program.
 *
 * Output goes to a temporary of random name in the folder of its target and
 * takes the target's name only when its bytes are on disk, so a reader sees
 * the old file or the whole new one.  Every system call that can fail in
 * practice (full disk, permissions, I/O error) first asks lm_file_fault(), so tests
 * can make each of them fail.                                               */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/mem.h"

enum { BUFFER = 1 << 16 };

static atomic_int_least64_t fault_in;
static atomic_bool fault_fired;

void lm_fault_file(int64_t k)
{
    atomic_store(&fault_fired, false);
    atomic_store(&fault_in, k);
}

bool lm_fault_file_fired(void)
{
    return atomic_load(&fault_fired);
}

/* As in mem.c: k > 0 fires once, k < 0 from the -k-th operation on. */
bool lm_file_fault(void)
{
    int64_t k = atomic_load(&fault_in), next;
    do {
        if (k == 0)
            return false;
        next = k > 0 ? k - 1 : k < -1 ? k + 1 : -1;
    } while (!atomic_compare_exchange_weak(&fault_in, &k, next));
    if (k != 1 && k != -1)
        return false;
    atomic_store(&fault_fired, true);
    errno = EIO;
    return true;
}

/* "cannot DO PATH: reason".  Running out of descriptors or memory is not the
 * input's fault. */
static enum lm_status failed(struct lm_err *e, enum lm_status code, const char *act,
                             const char *path)
{
    int reason = errno;
    if (reason == ENOMEM)
        code = LM_ENOMEM;
    else if (reason == EMFILE || reason == ENFILE)
        code = LM_EIO;
    return lm_fail(e, code, "cannot %s '%s': %s", act, path, strerror(reason));
}

/* ---- reading -------------------------------------------------------------- */

static enum lm_status open_input(const char *path, int *fd, struct stat *st,
                                 struct lm_err *e)
{
    *fd = lm_file_fault() ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0)
        return failed(e, LM_EINPUT, "open", path);
    enum lm_status s = LM_OK;
    if (lm_file_fault() || fstat(*fd, st) != 0)
        s = failed(e, LM_EINPUT, "examine", path);
    else if (S_ISDIR(st->st_mode))
        s = lm_fail(e, LM_EINPUT, "'%s' is a folder, a file is needed", path);
    if (s != LM_OK)
        close(*fd);
    return s;
}

enum lm_status lm_map_open(struct lm_map *m, const char *path, struct lm_err *e)
{
    struct stat st;
    int fd;
    *m = (struct lm_map){ "", 0 };
    enum lm_status s = open_input(path, &fd, &st, e);
    if (s != LM_OK)
        return s;
    if (!S_ISREG(st.st_mode)) {
        s = lm_fail(e, LM_EINPUT, "'%s' is not a regular file and cannot be mapped",
                    path);
    } else if (st.st_size > 0) {
        void *p = lm_file_fault() ? MAP_FAILED
                          : mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
            s = failed(e, LM_EINPUT, "map", path);
        else
            *m = (struct lm_map){ p, (size_t)st.st_size };
    }
    close(fd);
    return s;
}

void lm_map_close(struct lm_map *m)
{
    if (m->n > 0)
        munmap((void *)(uintptr_t)m->data, m->n);
    *m = (struct lm_map){ NULL, 0 };
}

/* Reads to the end of fd; size is what fstat said, 0 for pipes. */
static enum lm_status read_all(int fd, const char *path, size_t size, size_t limit,
                               char **text, size_t *n, struct lm_err *e)
{
    size_t cap = size < BUFFER ? BUFFER : size + 1, have = 0;
    char *t = lm_alloc(cap + 1, "file text");
    if (t == NULL)
        return lm_fail_memory(e, cap + 1, path);
    for (;;) {
        if (have == cap) {
            char *more = lm_resize(t, 2 * cap + 1);
            if (more == NULL) {
                lm_release(t);
                return lm_fail_memory(e, 2 * cap + 1, path);
            }
            t = more;
            cap *= 2;
        }
        ssize_t got = lm_file_fault() ? -1 : read(fd, t + have, cap - have);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            enum lm_status s = failed(e, LM_EINPUT, "read", path);
            lm_release(t);
            return s;
        }
        if (got == 0)
            break;
        have += (size_t)got;
        if (have > limit) {
            lm_release(t);
            return lm_fail(e, LM_EINPUT, "'%s' is larger than %zu bytes", path, limit);
        }
    }
    t[have] = '\0';
    *text = t;
    *n = have;
    return LM_OK;
}

enum lm_status lm_read_file(const char *path, size_t limit, char **text, size_t *n,
                            struct lm_err *e)
{
    struct stat st;
    int fd;
    *text = NULL;
    *n = 0;
    enum lm_status s = open_input(path, &fd, &st, e);
    if (s != LM_OK)
        return s;
    if (st.st_size > 0 && (uintmax_t)st.st_size > limit)
        s = lm_fail(e, LM_EINPUT, "'%s' has %lld bytes, at most %zu are accepted", path,
                    (long long)st.st_size, limit);
    else
        s = read_all(fd, path, (size_t)st.st_size, limit, text, n, e);
    close(fd);
    return s;
}

/* ---- temporaries ---------------------------------------------------------- */

/* Creates a new file beside path; *temp is its name, to be released.  The name
 * does not contain the target's, which may be as long as names can be.       */
static enum lm_status open_temporary(const char *path, char **temp, int *fd,
                                     struct lm_err *e)
{
    const char *slash = strrchr(path, '/');
    size_t folder = slash != NULL ? (size_t)(slash - path) + 1 : 0, size = folder + 32;
    if (path[folder] == '\0' || lm_is_folder(path))
        return lm_fail(e, LM_EIO, "cannot write '%s': it names a folder", path);
    char *name = lm_alloc(size, "temporary name");
    if (name == NULL)
        return lm_fail_memory(e, size, path);
    for (int attempt = 0; attempt < 16; attempt++) {
        uint64_t r = (uint64_t)getpid() << 32 ^ (uint64_t)clock() ^ (uint64_t)attempt;
        if (getrandom(&r, sizeof r, GRND_NONBLOCK) != (ssize_t)sizeof r)
            r = lm_hash_u64(r, (uint64_t)time(NULL));
        snprintf(name, size, "%.*s.lm-%016llx.tmp", (int)folder, path,
                 (unsigned long long)r);
        *fd = lm_file_fault()
            ? -1 : open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (*fd >= 0) {
            *temp = name;
            return LM_OK;
        }
        if (errno != EEXIST)
            break;
    }
    enum lm_status s = failed(e, LM_EIO, "create", path);
    lm_release(name);
    return s;
}

/* Makes a rename last over a crash; some file systems cannot, and the file is
 * complete in any case, so errors do not matter.                            */
static void sync_folder(const char *temp)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(temp, '/');
    size_t n = slash != NULL ? (size_t)(slash - temp) + 1 : 0;
    if (n >= sizeof folder)
        return;
    memcpy(folder, temp, n);
    strcpy(folder + n, n > 0 ? "" : ".");
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
}

enum lm_status lm_move_file(const char *from, const char *to, struct lm_err *e)
{
    if (lm_file_fault() || rename(from, to) != 0)
        return failed(e, LM_EIO, "create", to);
    sync_folder(to);
    return LM_OK;
}

/* ---- writing -------------------------------------------------------------- */

struct lm_out {
    int    fd;
    char  *path, *temp;
    size_t used;                        /* bytes of buffer not yet written   */
    bool   broken;                      /* a write failed: commit must fail  */
    unsigned char buffer[BUFFER];
};

enum lm_status lm_out_open(const char *path, struct lm_out **out, struct lm_err *e)
{
    *out = NULL;
    struct lm_out *o = lm_alloc(sizeof *o, "output file");
    if (o == NULL)
        return lm_fail_memory(e, sizeof *o, path);
    o->path = lm_strdup(path, "output path");
    enum lm_status s = o->path == NULL ? lm_fail_memory(e, strlen(path) + 1, path)
                                       : open_temporary(path, &o->temp, &o->fd, e);
    if (s != LM_OK) {
        lm_release(o->path);
        lm_release(o);
        return s;
    }
    *out = o;
    return LM_OK;
}

static enum lm_status write_out(struct lm_out *o, const unsigned char *p, size_t n,
                                struct lm_err *e)
{
    while (n > 0) {
        /* Linux writes at most 2^31 bytes at once. */
        ssize_t put = lm_file_fault() ? -1 : write(o->fd, p, n < 1 << 30 ? n : 1 << 30);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0) {
            o->broken = true;
            return failed(e, LM_EIO, "write", o->path);
        }
        p += put;
        n -= (size_t)put;
    }
    return LM_OK;
}

static enum lm_status flush(struct lm_out *o, struct lm_err *e)
{
    size_t n = o->used;
    o->used = 0;
    return write_out(o, o->buffer, n, e);
}

enum lm_status lm_out_write(struct lm_out *o, const void *p, size_t n, struct lm_err *e)
{
    if (o->broken)
        return lm_fail(e, LM_EIO, "cannot write '%s': an earlier write failed", o->path);
    if (n > BUFFER - o->used) {
        enum lm_status s = flush(o, e);
        if (s != LM_OK)
            return s;
        if (n >= BUFFER)
            return write_out(o, p, n, e);
    }
    if (n > 0)
        memcpy(o->buffer + o->used, p, n);
    o->used += n;
    return LM_OK;
}

void lm_out_abandon(struct lm_out *o)
{
    if (o == NULL)
        return;
    if (o->fd >= 0)
        close(o->fd);
    unlink(o->temp);
    lm_release(o->temp);
    lm_release(o->path);
    lm_release(o);
}

enum lm_status lm_out_commit(struct lm_out *o, struct lm_err *e)
{
    enum lm_status s = LM_OK;
    if (o->broken)
        s = lm_fail(e, LM_EIO, "cannot write '%s': an earlier write failed", o->path);
    if (s == LM_OK)
        s = flush(o, e);
    if (s == LM_OK && (lm_file_fault() || fsync(o->fd) != 0))
        s = failed(e, LM_EIO, "write", o->path);
    if (s == LM_OK) {
        int fd = o->fd;
        o->fd = -1;
        bool injected = lm_file_fault();
        if (close(fd) != 0 || injected) {       /* network file systems report here */
            if (injected)
                errno = EIO;
            s = failed(e, LM_EIO, "write", o->path);
        }
    }
    if (s == LM_OK && (lm_file_fault() || rename(o->temp, o->path) != 0))
        s = failed(e, LM_EIO, "replace", o->path);
    if (s != LM_OK) {
        lm_out_abandon(o);
        return s;
    }
    sync_folder(o->temp);
    lm_release(o->temp);
    lm_release(o->path);
    lm_release(o);
    return LM_OK;
}

enum lm_status lm_write_file(const char *path, const void *p, size_t n, struct lm_err *e)
{
    struct lm_out *o;
    enum lm_status s = lm_out_open(path, &o, e);
    if (s != LM_OK)
        return s;
    s = lm_out_write(o, p, n, e);
    if (s != LM_OK) {
        lm_out_abandon(o);
        return s;
    }
    return lm_out_commit(o, e);
}

/* ---- files that are written through a mapping ------------------------------- */

struct mapping {                        /* between create and commit         */
    void *data;
    char *temp;
    int   fd;
    struct mapping *next;
};

static pthread_mutex_t mappings_lock = PTHREAD_MUTEX_INITIALIZER;
static struct mapping *mappings;

static struct mapping *take_mapping(const void *data)
{
    pthread_mutex_lock(&mappings_lock);
    struct mapping **at = &mappings;
    while (*at != NULL && (*at)->data != data)
        at = &(*at)->next;
    struct mapping *found = *at;
    if (found != NULL)
        *at = found->next;
    pthread_mutex_unlock(&mappings_lock);
    return found;
}

/* Blocks are reserved first: a full disk must be an error here, not SIGBUS at
 * some later store into the mapping. */
static enum lm_status map_new(int fd, const char *path, size_t n, void **data,
                              struct lm_err *e)
{
    if (n == 0 || n > (size_t)PTRDIFF_MAX)
        return lm_fail(e, LM_EBUG, "cannot map '%s' with %zu bytes", path, n);
    int reason = lm_file_fault() ? EIO : posix_fallocate(fd, 0, (off_t)n);
    if (reason != 0) {
        errno = reason;
        return failed(e, LM_EIO, "reserve space for", path);
    }
    void *p = lm_file_fault() ? MAP_FAILED
                      : mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return failed(e, LM_EIO, "map", path);
    *data = p;
    return LM_OK;
}

enum lm_status lm_map_create(const char *path, size_t n, void **data, struct lm_err *e)
{
    *data = NULL;
    struct mapping *m = lm_alloc(sizeof *m, "mapped file");
    if (m == NULL)
        return lm_fail_memory(e, sizeof *m, path);
    enum lm_status s = open_temporary(path, &m->temp, &m->fd, e);
    if (s == LM_OK) {
        s = map_new(m->fd, path, n, &m->data, e);
        if (s != LM_OK) {
            close(m->fd);
            unlink(m->temp);
        }
    }
    if (s != LM_OK) {
        lm_release(m->temp);
        lm_release(m);
        return s;
    }
    *data = m->data;
    pthread_mutex_lock(&mappings_lock);
    m->next = mappings;
    mappings = m;
    pthread_mutex_unlock(&mappings_lock);
    return LM_OK;
}

enum lm_status lm_map_commit(const char *path, void *data, size_t n, struct lm_map *out,
                             struct lm_err *e)
{
    *out = (struct lm_map){ NULL, 0 };
    struct mapping *m = take_mapping(data);
    if (m == NULL)
        return lm_fail(e, LM_EBUG, "'%s' is not being written", path);
    enum lm_status s = LM_OK;
    if (lm_file_fault() || msync(data, n, MS_SYNC) != 0 || fsync(m->fd) != 0)
        s = failed(e, LM_EIO, "write", path);
    else if (lm_file_fault() || mprotect(data, n, PROT_READ) != 0)
        s = failed(e, LM_EIO, "protect", path);
    else if (lm_file_fault() || rename(m->temp, path) != 0)
        s = failed(e, LM_EIO, "replace", path);
    close(m->fd);
    if (s == LM_OK) {
        sync_folder(m->temp);
        *out = (struct lm_map){ data, n };
    } else {
        unlink(m->temp);
        munmap(data, n);
    }
    lm_release(m->temp);
    lm_release(m);
    return s;
}

void lm_map_abandon(void *data, size_t n)
{
    struct mapping *m = data != NULL ? take_mapping(data) : NULL;
    if (m == NULL)
        return;
    close(m->fd);
    unlink(m->temp);
    munmap(data, n);
    lm_release(m->temp);
    lm_release(m);
}

/* ---- scratch ----------------------------------------------------------------- */

enum lm_status lm_scratch_open(const char *folder, size_t n, void **data,
                               struct lm_err *e)
{
    char path[4096], *temp;
    int fd;

    *data = NULL;
    if (!lm_path_join(path, sizeof path, folder, "scratch"))
        return lm_fail(e, LM_ECONFIG, "%s: the path is too long", folder);
    enum lm_status s = open_temporary(path, &temp, &fd, e);
    if (s != LM_OK)
        return s;
    unlink(temp);                       /* the mapping holds it */
    lm_release(temp);
    s = map_new(fd, path, n, data, e);
    close(fd);
    return s;
}

void lm_scratch_close(void *data, size_t n)
{
    if (data != NULL)
        munmap(data, n);
}
