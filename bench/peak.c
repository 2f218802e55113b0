/* SPDX-License-Identifier: Apache-2.0 */
/* peak -- runs a command and prints, as lines "PREFIX.key = value", how long it
 * took and how much memory it had at most:
 *   wall_s    seconds from fork to exit
 *   cpu_s     seconds of processor time, which other programs hardly disturb
 *   anon_mb   peak of its anonymous pages, in 10^6 bytes
 *   file_mb   peak of mapped files (models, program, libraries) it touched
 *   rss_mb    peak of both together, as the kernel counted it
 * The first two peaks are the largest of samples taken each millisecond, the
 * last one is exact.
 *   peak PREFIX COMMAND...                                                     */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double seconds_of(struct timeval t)
{
    return (double)t.tv_sec + 1e-6 * (double)t.tv_usec;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* larger of *most and the line "KEY: N kB" of /proc/PID/status */
static void sample(const char *status, const char *key, long *most)
{
    const char *at = strstr(status, key);
    long kb = at ? strtol(at + strlen(key), NULL, 10) : 0;
    if (kb > *most)
        *most = kb;
}

static void watch(pid_t child, long *anon, long *mapped)
{
    char path[64], status[4096];
    snprintf(path, sizeof path, "/proc/%ld/status", (long)child);
    FILE *f = fopen(path, "r");
    if (!f)
        return;
    size_t n = fread(status, 1, sizeof status - 1, f);
    fclose(f);
    status[n] = 0;
    sample(status, "RssAnon:", anon);
    sample(status, "RssFile:", mapped);
}

int main(int argc, char **argv)
{
    static const struct timespec pause = { 0, 1000000 };
    struct rusage usage;
    long anon = 0, mapped = 0;
    int status;
    if (argc < 3) {
        fprintf(stderr, "usage: peak PREFIX COMMAND...\n");
        return 2;
    }
    double start = now();
    pid_t child = fork();
    if (child == 0) {
        execvp(argv[2], argv + 2);
        perror(argv[2]);
        _exit(127);
    }
    if (child < 0) {
        perror("fork");
        return 1;
    }
    while (wait4(child, &status, WNOHANG, &usage) == 0) {
        watch(child, &anon, &mapped);
        nanosleep(&pause, NULL);
    }
    double seconds = now() - start;
    if (!WIFEXITED(status) || WEXITSTATUS(status)) {
        fprintf(stderr, "%s failed\n", argv[2]);
        return 1;
    }
    printf("%s.wall_s = %.4f\n%s.cpu_s = %.4f\n", argv[1], seconds, argv[1],
           seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime));
    printf("%s.anon_mb = %.1f\n%s.file_mb = %.1f\n%s.rss_mb = %.1f\n", argv[1],
           (double)anon * 1.024e-3, argv[1], (double)mapped * 1.024e-3, argv[1],
           (double)usage.ru_maxrss * 1.024e-3);
    return 0;
}
