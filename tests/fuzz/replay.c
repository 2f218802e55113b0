/* SPDX-License-Identifier: Apache-2.0 */
/* replay.c -- runs a fuzz target over files and folders of files, for compilers
 * and machines without libFuzzer:
 *
 *   fuzz_NAME [-m N] PATH...
 *
 * -m N: after each file N damaged versions of it: cut short, bytes changed,
 * pieces repeated or left out, always the same ones.  A file and its versions
 * may take SECONDS of processor time each before SIGPROF ends the program.   */
#include "fuzz.h"

#include <dirent.h>
#include <sys/stat.h>
#include <sys/time.h>

enum { LIMIT = 1 << 16, SECONDS = 10 };

static uint64_t state;

static uint64_t draw(uint64_t below)    /* splitmix64 */
{
    uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return below > 0 ? (z ^ z >> 31) % below : 0;
}

/* A block of exactly n bytes, so that a sanitizer sees reads behind its end. */
static void run(const uint8_t *data, size_t n)
{
    uint8_t *copy = malloc(n > 0 ? n : 1);
    const struct itimerval timer = { .it_value.tv_sec = SECONDS };
    FUZZ_CHECK(copy != NULL);
    if (n > 0)
        memcpy(copy, data, n);
    setitimer(ITIMER_PROF, &timer, NULL);
    LLVMFuzzerTestOneInput(copy, n);
    free(copy);
}

/* One change of data[0..n); returns the new length, at most LIMIT. */
static size_t damage(uint8_t *data, size_t n)
{
    static const uint8_t telling[] = { 0, 1, 0x7f, 0x80, 0xff, '"', '{', '9', '-', '\n' };
    size_t at = draw(n), piece = 1 + draw(n - at < 16 ? n - at : 16);
    switch (draw(6)) {
    case 0:
        return at;
    case 1:
        data[at] ^= (uint8_t)(1 << draw(8));
        return n;
    case 2:
        data[at] = telling[draw(sizeof telling)];
        return n;
    case 3:
        memset(data + at, telling[draw(5)], piece);
        return n;
    case 4:
        memmove(data + at, data + at + piece, n - at - piece);
        return n - piece;
    default:
        if (n + piece > LIMIT)
            return n;
        memmove(data + at + piece, data + at, n - at);
        return n + piece;
    }
}

static size_t run_file(const char *path, long versions)
{
    static uint8_t data[LIMIT], bad[LIMIT];
    FILE *f = fopen(path, "rb");
    FUZZ_CHECK(f != NULL);
    size_t n = fread(data, 1, sizeof data, f);
    fclose(f);
    run(data, n);
    state = n;
    for (long i = 0; n > 0 && i < versions; i++) {
        size_t k = n;
        memcpy(bad, data, n);
        for (uint64_t times = 1 + draw(4); times > 0 && k > 0; times--)
            k = damage(bad, k);
        run(bad, k);
    }
    return 1;
}

static size_t run_path(const char *path, long versions)
{
    struct dirent **entry;
    int n = scandir(path, &entry, NULL, alphasort);
    size_t runs = 0;
    if (n < 0)
        return run_file(path, versions);
    for (int i = 0; i < n; i++) {
        char file[1024];
        snprintf(file, sizeof file, "%s/%s", path, entry[i]->d_name);
        if (entry[i]->d_name[0] != '.')
            runs += run_path(file, versions);
        free(entry[i]);
    }
    free(entry);
    return runs;
}

int main(int argc, char **argv)
{
    size_t runs = 0;
    long versions = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-m") == 0 && i + 1 < argc)
            versions = strtol(argv[++i], NULL, 10);
        else
            runs += run_path(argv[i], versions);
    }
    printf("%zu files, each with %ld damaged versions\n", runs, versions);
    return runs == 0;
}
