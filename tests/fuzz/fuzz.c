/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz.c -- see fuzz.h.  Files are written with plain calls: those of file.h
 * wait for the disk, which a fuzzer cannot.                                  */
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[200];

/* libconfig 1.5 forgets a string that a syntax error follows. */
__attribute__((visibility("default")))
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libconfig\n";
}

_Noreturn void fuzz_broken(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
    abort();
}

static void show(void *ctx, const char *tag, size_t n)
{
    (void)ctx;
    fprintf(stderr, "live block: %zu bytes, %s\n", n, tag);
}

int64_t fuzz_begin(void)
{
    return lm_mem_blocks();
}

void fuzz_end(int64_t begun)
{
    if (lm_mem_blocks() != begun)
        lm_mem_each(show, NULL);
    FUZZ_CHECK(lm_mem_blocks() == begun);
}

void fuzz_status(enum lm_status s, const struct lm_err *e)
{
    if (s == LM_OK)
        return;
    if (s == LM_EBUG || s != e->code)
        fprintf(stderr, "%s: %s\n", lm_status_name(s), e->text);
    FUZZ_CHECK(s != LM_EBUG);
    FUZZ_CHECK(s == e->code);
    FUZZ_CHECK(e->text[0] != '\0');
}

static void remove_folder(void)
{
    DIR *d = opendir(folder);
    for (struct dirent *f; d != NULL && (f = readdir(d)) != NULL;)
        unlink(fuzz_path(f->d_name));
    if (d != NULL)
        closedir(d);
    rmdir(folder);
}

const char *fuzz_path(const char *name)
{
    static char path[2][512];
    static int next;
    if (folder[0] == '\0') {
        const char *tmp = getenv("TMPDIR");
        snprintf(folder, sizeof folder, "%s/lamina-fuzz.XXXXXX",
                 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : tmp ? tmp : "/tmp");
        FUZZ_CHECK(mkdtemp(folder) != NULL);
        atexit(remove_folder);
    }
    next = !next;
    snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
    return path[next];
}

const char *fuzz_file(const char *name, const void *data, size_t n)
{
    const char *path = fuzz_path(name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FUZZ_CHECK(fd >= 0);
    FUZZ_CHECK(write(fd, data, n) == (ssize_t)n);
    close(fd);
    return path;
}

void fuzz_base(const char *name, const char *as)
{
    static char bytes[1 << 16];
    char path[1024];
    const char *top = getenv("LAMINA_SRCDIR");
    snprintf(path, sizeof path, "%s/tests/fuzz/base/%s", top != NULL ? top : ".", name);
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        fprintf(stderr, "%s: is LAMINA_SRCDIR set?\n", path);
    FUZZ_CHECK(f != NULL);
    size_t n = fread(bytes, 1, sizeof bytes, f);
    FUZZ_CHECK(n > 0 && n < sizeof bytes);
    fclose(f);
    fuzz_file(as, bytes, n);
}

char *fuzz_text(const uint8_t *data, size_t n)
{
    char *text = malloc(n + 1);
    FUZZ_CHECK(text != NULL);
    if (n > 0)
        memcpy(text, data, n);
    text[n] = '\0';
    return text;
}

size_t fuzz_parts(char *text, char **part, size_t max)
{
    size_t n = 1;
    part[0] = text;
    for (char *at; n < max && (at = strstr(part[n - 1], "\n%%\n")) != NULL; n++) {
        at[1] = '\0';
        part[n] = at + 4;
    }
    return n;
}
