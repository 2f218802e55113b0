/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_doctor.c -- doctor: is this machine and this installation fit for work?
 *
 * A list of facts and a list of complaints.  An error is something without
 * which no run can end well; a warning is something that costs time or takes
 * away an option.  Only errors make the exit status 1.                       */
#include <ctype.h>
#include <dlfcn.h>
#include <math.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/linalg.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "config.h"
#include "loader/loader.h"
#include "pipeline/device.h"

struct doctor {
    struct lm_str facts;                /* lines of text, or members of an object */
    struct lm_str complaints;           /* the same of an array */
    struct lm_jsonw fact, complaint;
    bool json;
    size_t n_error;
};

/* ---- facts and complaints --------------------------------------------------------- */

static void say(struct doctor *d, const char *key, const char *fmt, ...) LM_PRINTF(3, 4);
static void complain(struct doctor *d, bool error, const char *fmt, ...) LM_PRINTF(3, 4);

static void say(struct doctor *d, const char *key, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!d->json) {
        lm_str_add(&d->facts, "%-14s %s\n", key, text);
        return;
    }
    char name[32];                      /* "BLAS core" -> "blas_core" */
    size_t i = 0;
    for (; key[i] && i + 1 < sizeof name; i++)
        name[i] = key[i] == ' ' ? '_' : (char)tolower((unsigned char)key[i]);
    name[i] = 0;
    lm_jsonw_key(&d->fact, name);
    lm_jsonw_string(&d->fact, text);
}

static void number(struct doctor *d, const char *key, double v)
{
    if (d->json) {
        lm_jsonw_key(&d->fact, key);
        lm_jsonw_real(&d->fact, v);
    }
}

static void complain(struct doctor *d, bool error, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    d->n_error += error;
    if (!d->json) {
        lm_str_add(&d->complaints, "%s: %s\n", error ? "error" : "warning", text);
        return;
    }
    lm_jsonw_begin(&d->complaint, '{');
    lm_jsonw_key(&d->complaint, "level");
    lm_jsonw_string(&d->complaint, error ? "error" : "warning");
    lm_jsonw_key(&d->complaint, "text");
    lm_jsonw_string(&d->complaint, text);
    lm_jsonw_end(&d->complaint, '}');
}

/* ---- processor and memory --------------------------------------------------------- */

/* The rest of the line of a /proc file that begins with key, without ": ". */
static bool proc_line(const char *path, const char *key, char *out, size_t size)
{
    char *text;
    size_t n;
    bool found = false;
    struct lm_err ignored;
    if (lm_read_file(path, 16 << 20, &text, &n, &ignored))
        return false;
    for (const char *p = text; *p && !found; p += strcspn(p, "\n"), p += *p == '\n')
        if (!strncmp(p, key, strlen(key))) {
            const char *v = p + strlen(key);
            v += strspn(v, " \t:");
            snprintf(out, size, "%.*s", (int)strcspn(v, "\n"), v);
            found = true;
        }
    lm_release(text);
    return found;
}

/* 0: SSE, 1: AVX, 2: AVX2 and FMA, 3: AVX-512; -1: another processor. */
static int vector_level(char *out, size_t size)
{
    *out = 0;
#if defined __x86_64__ || defined __i386__
    static const char *const name[] = { "sse4.2", "avx", "avx2", "fma", "avx512f",
                                        "avx512bf16", "avx512vnni" };
    bool has[] = { __builtin_cpu_supports("sse4.2"), __builtin_cpu_supports("avx"),
        __builtin_cpu_supports("avx2"), __builtin_cpu_supports("fma"),
        __builtin_cpu_supports("avx512f"),
        __builtin_cpu_supports("avx512bf16"), __builtin_cpu_supports("avx512vnni") };
    size_t at = 0;
    for (size_t i = 0; i < sizeof has / sizeof *has; i++)
        if (has[i])
            at += (size_t)snprintf(out + at, size - at, "%s%s", at ? " " : "", name[i]);
    return has[4] ? 3 : has[2] && has[3] ? 2 : has[1] ? 1 : 0;
#else
    (void)size;
    return -1;
#endif
}

static int processor(struct doctor *d)
{
    char model[256] = "unknown", features[256];
    cpu_set_t set;
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    int usable = sched_getaffinity(0, sizeof set, &set) ? (int)online : CPU_COUNT(&set);
    int level = vector_level(features, sizeof features);
    proc_line("/proc/cpuinfo", "model name", model, sizeof model);
    say(d, "processor", "%s", model);
    say(d, "cores", "%ld online, %d for this process", online, usable);
    say(d, "features", "%s", *features ? features : "not known for this processor");
    if (usable < online)
        complain(d, false, "%ld cores are online, this process may use %d; say --threads "
                 "%d (run.threads in a pipeline)", online, usable, usable);
    return level;
}

static void memory(struct doctor *d)
{
    char text[128], total[32], left[32];
    double all = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    double available = proc_line("/proc/meminfo", "MemAvailable", text, sizeof text)
        ? atof(text) * 1024 : all;
    say(d, "memory", "%s, %s available", lm_human_bytes(total, all),
        lm_human_bytes(left, available));
    number(d, "memory_bytes", all);
    number(d, "memory_available_bytes", available);
    if (available < 2e9)
        complain(d, false, "only %s of memory are available; lower run.memory (2 GB by "
                 "default)", left);
}

/* ---- BLAS ------------------------------------------------------------------------- */

/* GFLOP/s of one thread; NAN when a product comes out wrong.  With ones, and the
 * column number in B, every sum is exact.                                   */
static enum lm_status sgemm_rate(double *rate, struct lm_err *e)
{
    enum { N = 512 };
    float *m = lm_alloc_array(3 * N * N, sizeof *m, "doctor");
    if (!m)
        return lm_fail_memory(e, 3 * N * N * sizeof *m, "a product");
    float *b = m + N * N, *c = b + N * N;
    for (int i = 0; i < N * N; i++) {
        m[i] = 1;
        b[i] = (float)(i % N % 7);
    }
    lm_gemm('n', 'n', N, N, N, 1, m, N, b, N, 0, c, N);         /* warms up */
    double begin = lm_clock(), seconds = 0;
    int runs = 0;
    for (; runs < 3 || (seconds < 0.2 && runs < 1000); runs++) {
        lm_gemm('n', 'n', N, N, N, 1, m, N, b, N, 0, c, N);
        seconds = lm_clock() - begin;
    }
    *rate = 2.0 * N * N * N * runs / seconds / 1e9;
    for (int i = 0; i < N * N; i++)
        if (c[i] != (float)N * (float)(i % N % 7))
            *rate = NAN;
    lm_release(m);
    return LM_OK;
}

/* What the kernels of an OpenBLAS core type use; -1: not in the list. */
static int core_level(const char *core)
{
    static const struct { const char *name; int level; } known[] = {
        { "Prescott", 0 }, { "Core2", 0 }, { "Penryn", 0 }, { "Dunnington", 0 },
        { "Nehalem", 0 }, { "Athlon", 0 }, { "Opteron", 0 }, { "Opteron_SSE3", 0 },
        { "Barcelona", 0 }, { "Bobcat", 0 }, { "Atom", 0 }, { "Nano", 0 },
        { "Sandybridge", 1 }, { "Bulldozer", 1 }, { "Piledriver", 1 },
        { "Steamroller", 1 }, { "Excavator", 2 }, { "Haswell", 2 }, { "Zen", 2 },
        { "SkylakeX", 3 },
        { "Cooperlake", 3 }, { "SapphireRapids", 3 } };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(core, known[i].name))
            return known[i].level;
    return -1;
}

static enum lm_status blas(struct doctor *d, int level, struct lm_err *e)
{
    const char *core = lm_linalg_core(), *forced = getenv("OPENBLAS_CORETYPE");
    double rate = NAN;
    enum lm_status s = sgemm_rate(&rate, e);
    if (s)
        return s;
    say(d, "BLAS", "%s", lm_linalg_config());
    say(d, "BLAS core", "%s", core);
    number(d, "sgemm_gflops", rate);
    if (isnan(rate))
        complain(d, true, "a product of matrices came out wrong: this BLAS cannot be "
                 "used (core %s)", core);
    else
        say(d, "sgemm", "%.1f GFLOP/s with one thread", rate);
    if (forced && *forced)
        complain(d, false, "OPENBLAS_CORETYPE=%s is set: results and speed are those of "
                 "that core, runs of other shells may differ", forced);
    int has = core_level(core);
    if (has >= 0 && level >= 2 && has < 2)
        complain(d, false, "BLAS uses its kernels for %s, this processor can do better "
                 "(AVX2)%s", core, forced ? "; unset OPENBLAS_CORETYPE"
                 : "; a newer OpenBLAS may know it, else set OPENBLAS_CORETYPE=Haswell");
    return LM_OK;
}

/* ---- plugins ---------------------------------------------------------------------- */

static void broken(void *ctx, const char *why)
{
    complain(ctx, false, "a plugin does not load: %s", why);
}

static void pass_over(void *ctx, const char *why)
{
    (void)ctx, (void)why;
}

static enum lm_status plugins(struct doctor *d, struct lm_err *e)
{
    static const enum lm_kind needed[] = { LM_BACKEND, LM_FORMAT, LM_SEARCH, LM_PRUNER,
                                           LM_EVALUATOR };
    const struct lm_loaded **all;
    const char *folder;
    size_t n, count[LM_N_KINDS] = { 0 };
    enum lm_status s = lm_loader_survey(&all, &n, broken, d, e);
    if (s)
        return s;
    for (size_t i = 0; i < n; i++)
        count[all[i]->module.kind]++;
    lm_release(all);
    for (size_t i = 0; (folder = lm_loader_folder(i)); i++) {
        char key[32];
        snprintf(key, sizeof key, i ? "plugin folder %zu" : "plugin folder", i + 1);
        say(d, key, "%s", folder);
    }
    say(d, "plugins", "%zu, for ABI %u.%u", n, LM_ABI_MAJOR, LM_ABI_MINOR);
    number(d, "plugin_count", (double)n);
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (!count[needed[i]])
            complain(d, true, "there is no plugin of kind %s: install Lamina again, or "
                     "set LAMINA_PLUGIN_PATH", lm_kind_name(needed[i]));
    return LM_OK;
}

/* ---- cache, terminal, drivers ----------------------------------------------------- */

static void cache(struct doctor *d)
{
    char folder[4096], path[4200], held[32], left[32];
    struct lm_err e = { 0 }, ignored;
    int64_t bytes, room;
    if (lm_cache_folder(folder, sizeof folder, &e)) {
        complain(d, true, "%s", e.text);
        return;
    }
    lm_folder_bytes(folder, &bytes, &ignored);  /* it may not be there yet */
    room = lm_disk_free(folder);
    say(d, "cache", "%s: %s, %s free on the disk", folder,
        lm_human_bytes(held, (double)bytes),
        room < 0 ? "an unknown amount" : lm_human_bytes(left, (double)room));
    number(d, "cache_bytes", (double)bytes);
    number(d, "cache_free_bytes", room < 0 ? NAN : (double)room);
    snprintf(path, sizeof path, "%s/doctor-%ld", folder, (long)getpid());
    if (lm_make_folder(folder, &e) || lm_write_file(path, "", 0, &e))
        complain(d, true, "the cache folder cannot be written: %s; set XDG_CACHE_HOME",
                 e.text);
    else
        unlink(path);
    if (room >= 0 && room < 1000000000)
        complain(d, false, "only %s are free where the cache is; set XDG_CACHE_HOME to a "
                 "larger disk or run `lamina cache clear`", left);
}

static void terminal(struct doctor *d)
{
    struct winsize w;
    const char *term = getenv("TERM");
    if (!isatty(STDERR_FILENO))
        say(d, "terminal", "none on standard error: progress is printed line by line");
    else
        say(d, "terminal", "%s, %d columns: progress is redrawn in place",
            term && *term ? term : "unnamed",
            ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col ? w.ws_col : 80);
}

/* The backend KIND/NAME in a list of plugins; NULL: it is not installed. */
static const struct lm_loaded *find_backend(const struct lm_loaded *const *all, size_t n,
                                            const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (all[i]->module.kind == LM_BACKEND && !strcmp(all[i]->module.name, name))
            return all[i];
    return NULL;
}

static void driver(struct doctor *d, const char *key, const char *file, const char *name,
                   const struct lm_loaded *backend)
{
    void *h = dlopen(file, RTLD_LAZY | RTLD_LOCAL);
    if (backend)
        say(d, key, "%s %s here (%s), for the backend %s", name, h ? "is" : "is not",
            file, backend->module.name);
    else
        say(d, key, "%s %s here (%s); no backend that is installed uses it", name,
            h ? "is" : "is not", file);
    if (h)
        dlclose(h);
}

static void devices(struct doctor *d, const struct lm_loaded *backend,
                    const struct lm_devices *found)
{
    char key[96], text[LM_DEVICE_TEXT];
    snprintf(key, sizeof key, "backend %s", backend->module.name);
    struct lm_str all = { 0 };
    for (size_t i = 0; i < found->n; i++)
        lm_str_add(&all, "%s%zu: %s", i ? "; " : "", i,
                   lm_device_text(&found->at[i], text));
    say(d, key, "%s", found->n && all.s ? all.s : found->why);
    lm_str_free(&all);
}

/* Drivers of GPUs, the devices that backends find, and the one that auto takes. */
static enum lm_status backends(struct doctor *d, struct lm_err *e)
{
    const struct lm_loaded **all;
    struct lm_devices found;
    struct lm_auto taken;
    struct lm_err why = { 0 };
    char text[LM_DEVICE_TEXT];
    size_t n;
    enum lm_status s = lm_loader_survey(&all, &n, pass_over, NULL, e);
    if (s)
        return s;
    driver(d, "Vulkan", "libvulkan.so.1", "the Vulkan loader",
           find_backend(all, n, "vulkan"));
    driver(d, "CUDA", "libcuda.so.1", "the CUDA driver", find_backend(all, n, "cuda"));
    for (size_t i = 0; i < n && !s; i++)
        if (all[i]->module.kind == LM_BACKEND &&
            !(s = lm_devices_find(all[i], &found, e)) && (found.n || found.why[0]))
            devices(d, all[i], &found);
    lm_release(all);
    if (s)
        return s;
    if (lm_auto_find(&taken, &why))
        complain(d, false, "%s", why.text);
    else
        say(d, "backend auto", "takes %s, device %lld: %s", taken.backend,
            (long long)taken.number, lm_device_text(&taken.device, text));
    return LM_OK;
}

/* ---- the command ------------------------------------------------------------------ */

static enum lm_status print(struct doctor *d, struct lm_err *e)
{
    struct lm_str out = { 0 };
    if (d->json) {
        lm_jsonw_end(&d->complaint, ']');
        lm_jsonw_key(&d->fact, "ok");
        lm_jsonw_bool(&d->fact, d->n_error == 0);
        lm_jsonw_end(&d->fact, '}');
        lm_str_add(&out, "{\"facts\": ");
        lm_str_put(&out, d->facts.s, d->facts.n);
        lm_str_add(&out, ",\n\"complaints\": ");
        lm_str_put(&out, d->complaints.s, d->complaints.n);
        lm_str_add(&out, "}\n");
    } else {
        lm_str_put(&out, d->facts.s, d->facts.n);
        if (d->complaints.n)
            lm_str_put(&out, d->complaints.s, d->complaints.n);
        else
            lm_str_add(&out, "nothing to complain about\n");
    }
    out.failed |= d->facts.failed || d->complaints.failed;
    return lm_print_str(&out, e);
}

enum lm_status lm_cmd_doctor(int argc, char **argv, struct lm_err *e)
{
    struct doctor d = { .json = false };
    struct lm_list at;
    bool help;
    const struct lm_flag flag[] = {
        { "json", 'b', &d.json, NULL, "one JSON document on standard output" } };
    enum lm_status s = lm_flags_parse(argc, argv, flag, 1, &at, 0, 0, &help, e);
    if (s || help)
        return s;
    d.fact.to = &d.facts;
    d.complaint.to = &d.complaints;
    if (d.json) {
        lm_jsonw_begin(&d.fact, '{');
        lm_jsonw_begin(&d.complaint, '[');
    }
    say(&d, "lamina", "%s", PACKAGE_VERSION);
    int level = processor(&d);
    memory(&d);
    if (!(s = blas(&d, level, e)))
        s = plugins(&d, e);
    if (!s) {
        cache(&d);
        terminal(&d);
        s = backends(&d, e);
    }
    if (!s)
        s = print(&d, e);
    lm_str_free(&d.facts);
    lm_str_free(&d.complaints);
    if (!s && d.n_error)
        s = lm_fail(e, LM_EFAILED, "doctor: %zu thing%s must be mended first", d.n_error,
                    d.n_error == 1 ? "" : "s");
    return s;
}
