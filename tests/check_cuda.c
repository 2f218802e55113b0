/* SPDX-License-Identifier: Apache-2.0 */
/* check_cuda.c -- the backend cuda on an emulated driver: every operator against the
 * reference with the threads of a group in three orders, memory, errors, concurrent
 * calls; and that the emulator finds the faults it is there for.  No GPU is needed, and
 * nothing is said of one.                                                           */
#include <pthread.h>

#include "check_operators.h"
#include "fakecuda.h"

static void open_both(void)
{
    setup();
    ck_assert(here);
}

static void close_both(void)
{
    teardown();
    ck_assert_uint_eq(fake_objects(), 0);
}

static void choose(const char *order, int one_of)
{
    setenv("FAKECUDA_ORDER", order, 1);
    backend = "cuda";
    memset(option, 0, sizeof option);
    least = 2e-5;
    largest = INFINITY;
    every = one_of;
}

static void forward(void)  { choose("forward", 7); }
static void backward(void) { choose("backward", 29); }
static void shuffled(void) { choose("shuffled", 31); }
static void each(void)     { choose("forward", 1); }

static void halves(void)
{
    choose("forward", 23);
    option[0] = "activations";
    option[1] = "f16";
    least = 2e-2;
    largest = 40;                       /* products are below 65504 */
}

/* The plugin in which each span has memory of its own (tests/cuda/pool.c): words beside
 * it are seen.                                                                      */
static void in_fences(bool in)
{
    const char *build = getenv("LAMINA_BUILDDIR");
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", build ? build : ".",
             in ? "tests/cuda" : "plugins");
    setenv("LAMINA_PLUGIN_PATH", path, 1);
}

static void open_fenced(void)
{
    choose("forward", 19);
    lm_pool_start(2, NULL);
    kit_open(&reference, "reference");
    in_fences(true);
    here = kit_open_with(&tested, backend, option);
    in_fences(false);
    ck_assert(here);
}

static void close_fenced(void)
{
    in_fences(true);
    kit_close(&tested, backend);
    in_fences(false);
    here = false;                       /* it is closed already */
    close_both();
}

/* ---- replays, threads ----------------------------------------------------------- */

static void same_answers(const struct answer *a, const struct answer *b)
{
    ck_assert_mem_eq(a->tap, b->tap, (size_t)a->n_tap * sizeof *a->tap);
    ck_assert_mem_eq(a->out, b->out, (size_t)a->n_out * sizeof *a->out);
}

START_TEST(replay_or_not)
{
    struct trial t = trial(LM_OP_EXPECT, 9, 200, 24);
    struct answer a, b;
    struct kit plain;
    ck_assert(kit_open_with(&plain, "cuda",
                            (const char *const[]){ "replay", "false", NULL }));
    solve(&tested, &t, &a);
    solve(&plain, &t, &b);
    same_answers(&a, &b);
    answer_free(&a);
    answer_free(&b);
    kit_close(&plain, "cuda");
}
END_TEST

struct job { struct trial t; struct answer a; pthread_t thread; };

static void *solve_job(void *ctx)
{
    struct job *j = ctx;
    for (int i = 0; i < 4; i++) {
        if (i)
            answer_free(&j->a);
        solve(&tested, &j->t, &j->a);
    }
    return NULL;
}

/* Calls of several threads: the same bits as of one. */
START_TEST(threads_at_once)
{
    struct job j[4];
    struct answer b;
    for EACH(i, j) {
        j[i].t = trial(i % 2 ? LM_OP_CE : LM_OP_LINEAR, 3 + (int32_t)i * 4, 70, 33);
        ck_assert_int_eq(pthread_create(&j[i].thread, NULL, solve_job, &j[i]), 0);
    }
    for EACH(i, j)
        pthread_join(j[i].thread, NULL);
    for EACH(i, j) {
        solve(&tested, &j[i].t, &b);
        same_answers(&j[i].a, &b);
        answer_free(&j[i].a);
        answer_free(&b);
    }
}
END_TEST

/* ---- the device ------------------------------------------------------------------- */

START_TEST(names)
{
    struct lm_device d = { .struct_size = sizeof d };
    struct kit k;
    ck_assert_ok(tested.ops->device(tested.self, &d, &err), err);
    ck_assert_str_eq(d.name, "Emulated device, PTX");   /* it takes no machine code */
    ck_assert_str_eq(d.driver, "CUDA 12.4");
    ck_assert_int_eq(d.memory, (int64_t)4096 << 20);
    ck_assert(kit_open_with(&k, "cuda",
                            (const char *const[]){ "activations", "f16", NULL }));
    ck_assert_ok(k.ops->device(k.self, &d, &err), err);
    ck_assert_str_eq(d.name, "Emulated device, PTX, f16");
    kit_close(&k, "cuda");
    ck_assert_ok(tested.ops->devices(&tested.host, 0, &d, &err), err);
    ck_assert_str_eq(d.name, "Emulated device");
    ck_assert_int_eq(tested.ops->devices(&tested.host, 1, &d, &err), LM_EUNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(err.text, "this machine has 1"));
}
END_TEST

static void refused(const struct kit *k, int64_t device, const char *why)
{
    const struct lm_module *m = plug_open("backends", "cuda");
    char number[8];
    snprintf(number, sizeof number, "%d", (int)device);
    void *config = plug_config(m, (const char *const[]){ "device", number, NULL });
    struct lm_args a = { .struct_size = sizeof a, .host = &k->host, .config = config };
    void *self = NULL;
    ck_assert_int_eq(m->create(&a, &self, &err), LM_EUNAVAILABLE);
    ck_assert_msg(strstr(err.text, why) != NULL, "%s", err.text);
    free(config);
}

START_TEST(without_a_device)
{
    const struct lm_module *m = plug_open("backends", "cuda");
    refused(&reference, 3, "no CUDA device 3");
    ck_assert_ok(m->probe(&reference.host, &err), err);
    setenv("FAKECUDA_DEVICES", "0", 1);
    refused(&reference, 0, "no CUDA device (no device)");
    unsetenv("FAKECUDA_DEVICES");
    setenv("FAKECUDA_VERSION", "11020", 1);
    refused(&reference, 0, "no CUDA device (driver too old)");
    unsetenv("FAKECUDA_VERSION");
    setenv("LAMINA_LIBCUDA", "/nowhere/libcuda.so.1", 1);
    refused(&reference, 0, "no CUDA device (driver not found)");
    ck_assert_int_eq(m->probe(&reference.host, &err), LM_EUNAVAILABLE);
    fake_find();
}
END_TEST

/* ---- memory ------------------------------------------------------------------------ */

/* More than the budget, or than the device has though the budget allows it: what is in
 * use stays usable.                                                                 */
static void fill(const char *mib)
{
    struct trial t = trial(LM_OP_LINEAR, 3, 20, 10);
    struct lm_buffer *b[8], *large = NULL;
    struct lm_device_use use = { .struct_size = sizeof use };
    struct kit k, before = tested;
    size_t n = 0;
    ck_assert(kit_open_with(&k, "cuda", (const char *const[]){ "memory", mib, NULL }));
    ck_assert_int_eq(k.ops->buffer(k.self, (int64_t)100 << 18, &large, &err),
                     LM_EINFEASIBLE);
    ck_assert_ptr_nonnull(strstr(err.text, "no memory left"));
    while (n < 8 && !k.ops->buffer(k.self, (int64_t)16 << 18, &b[n], &err))
        n++;
    ck_assert_msg(n == 2, "%zu", n);
    ck_assert_int_eq(err.code, LM_EINFEASIBLE);
    ck_assert_ok(k.ops->use(k.self, &use, &err), err);
    ck_assert_int_eq(use.states, (int64_t)32 << 20);
    while (n > 0)
        k.ops->buffer_free(k.self, b[--n]);
    tested = k;
    agree(&t, 2e-5, "after want of memory");
    tested = before;
    kit_close(&k, "cuda");
}

START_TEST(memory_ends)
{
    fill("40");
    setenv("FAKECUDA_MEMORY", "40", 1);
    fill("4000");
    unsetenv("FAKECUDA_MEMORY");
}
END_TEST

/* One operator, whatever becomes of it; nothing is left behind. */
static enum lm_status use_once(void *ctx)
{
    static float in[24], out[24];
    const struct kit *k = ctx;
    int32_t width[2] = { 8, 8 };
    struct lm_weight *w = NULL;
    struct lm_exe *x = NULL;
    struct lm_stream *s = NULL;
    struct lm_buffer *b = NULL;
    struct lm_tensor t = { .data = in, .rows = 1, .cols = 8, .dtype = LM_F32 };
    enum lm_status st = k->ops->upload(k->self, &t, 8, &w, &err);
    struct lm_op op = { .code = LM_OP_RMSNORM, .y = 0, .a = 0, .b = -1, .c = -1, .w = w,
                        .n = 8, .k = 8, .eps = 1 };
    struct lm_program p = { sizeof p, &op, 1, width, 2, LM_AS_F32 };
    struct lm_exec a = { .struct_size = sizeof a, .rows = 3 };
    if (!st)
        st = k->ops->compile(k->self, &p, &x, &err);
    if (!st)
        st = k->ops->stream_open(k->self, 1, &s, &err);
    if (!st)
        st = k->ops->buffer(k->self, 24, &b, &err);
    if (!st)
        st = k->ops->write(k->self, b, 0, in, 24, &err);
    a.hidden = b;
    for (int i = 0; i < 3 && !st; i++)
        st = k->ops->run(k->self, s, x, &a, NULL, &err);
    if (!st)
        st = k->ops->read(k->self, b, 0, out, 24, &err);
    k->ops->buffer_free(k->self, b);
    if (s)
        k->ops->stream_close(k->self, s);
    if (x)
        k->ops->exe_free(k->self, x);
    k->ops->forget(k->self, w);
    return st;
}

START_TEST(the_device_is_lost)
{
    setenv("FAKECUDA_LOSE", "2", 1);
    ck_assert_int_eq(use_once(&tested), LM_EUNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(err.text, "lost"));
    ck_assert_ptr_nonnull(strstr(err.text, "CUDA_ERROR_ILLEGAL_ADDRESS"));
    unsetenv("FAKECUDA_LOSE");
    ck_assert_int_eq(use_once(&tested), LM_EUNAVAILABLE);
}
END_TEST

START_TEST(allocations_fail)
{
    ck_assert_int_ge(fail_every_allocation(use_once, &tested), 10);
}
END_TEST

/* ---- arithmetic of the kernels ----------------------------------------------------- */

START_TEST(functions)
{
    float (*exp_)(float), (*log_)(float), (*from)(uint32_t);
    uint32_t (*to)(float);
    *(void **)&exp_ = fake_symbol("fakecuda_exp");
    *(void **)&log_ = fake_symbol("fakecuda_log");
    *(void **)&from = fake_symbol("fakecuda_from_half");
    *(void **)&to = fake_symbol("fakecuda_to_half");
    for (int i = -110000; i < 95000; i++) {
        float x = (float)i * 1e-3f, got = exp_(x), y = (float)i * 37 + 4.2e6f;
        double want = exp((double)x);
        ck_assert_msg(fabs((double)got - want) <= 3e-7 * want + 2e-45
                      || (want > 3.4e38 && isinf(got)), "e^%.9g: %.9g", (double)x,
                      (double)got);
        want = log((double)y);
        ck_assert_msg(fabs((double)log_(y) - want) <= 2e-7 * want, "ln %.9g: %.9g",
                      (double)y, (double)log_(y));
    }
    ck_assert(log_(1) == 0 && isnan(exp_(NAN)) && isnan(log_(NAN)));
    ck_assert(isinf(exp_(INFINITY)) && exp_(-INFINITY) == 0);
    for (uint32_t h = 0; h < 65536; h++) {
        uint16_t code = (uint16_t)h;
        float want;
        lm_codec(LM_F16)->decode(&code, &want, 1);
        ck_assert(isnan(want) ? isnan(from(h)) : !memcmp(&want, (float[]){ from(h) }, 4));
        for (int step = -1; step < 2 && isfinite(want); step++) {
            float x = want * (1 + (float)step * 0x1p-12f);      /* to a tie, too */
            lm_codec(LM_F16)->encode(&x, &code, 1);
            ck_assert_msg(to(x) == code, "%.9g: %x, not %x", (double)x, to(x), code);
        }
    }
}
END_TEST

/* ---- the emulator ------------------------------------------------------------------ */

/* Launches a kernel of faults.cuh; what waiting for it gives. */
static int launch_fault(const char *name, size_t size, float out[64])
{
    int (*retain)(void **, int), (*current)(void *), (*release)(int);
    int (*load)(void **, const void *, unsigned, int *, void **), (*unload)(void *);
    int (*function)(void **, void *, const char *), (*stream)(void **, unsigned);
    int (*end_stream)(void *), (*wait)(void *), (*alloc)(uint64_t *, size_t);
    int (*drop)(uint64_t), (*launch)(void *, unsigned, unsigned, unsigned, unsigned,
                                     unsigned, unsigned, unsigned, void *, void **,
                                     void **);
    static const char image[] = ".version lamina_embed lamina_norm lamina_matrix "
        "lamina_vector lamina_bytes lamina_round lamina_rope lamina_attention "
        "lamina_pair lamina_fold lamina_share lamina_finish";
    void *context, *module, *f, *s;
    uint64_t at = 0;
    *(void **)&retain = fake_symbol("cuDevicePrimaryCtxRetain");
    *(void **)&current = fake_symbol("cuCtxSetCurrent");
    *(void **)&release = fake_symbol("cuDevicePrimaryCtxRelease_v2");
    *(void **)&load = fake_symbol("cuModuleLoadDataEx");
    *(void **)&unload = fake_symbol("cuModuleUnload");
    *(void **)&function = fake_symbol("cuModuleGetFunction");
    *(void **)&stream = fake_symbol("cuStreamCreate");
    *(void **)&end_stream = fake_symbol("cuStreamDestroy_v2");
    *(void **)&wait = fake_symbol("cuStreamSynchronize");
    *(void **)&alloc = fake_symbol("cuMemAlloc_v2");
    *(void **)&drop = fake_symbol("cuMemFree_v2");
    *(void **)&launch = fake_symbol("cuLaunchKernel");
    ck_assert(!retain(&context, 0) && !current(context));
    ck_assert(!load(&module, image, 0, NULL, NULL) && !function(&f, module, name));
    ck_assert(!stream(&s, 1) && !alloc(&at, size));
    memset((void *)(uintptr_t)at, 0, size);
    ck_assert(!launch(f, 1, 1, 1, 64, 1, 1, 0, s, (void *[]){ &at }, NULL));
    int r = wait(s);
    memcpy(out, (void *)(uintptr_t)at, size < 256 ? size : 256);
    ck_assert(!drop(at) && !end_stream(s) && !unload(module));
    release(0);
    return r;
}

START_TEST(faults_are_found)
{
    static const char *const order[] = { "forward", "backward", "shuffled" };
    static const char *const fatal[] = { "lamina_fault_half_barrier",
        "lamina_fault_two_barriers", "lamina_fault_half_shuffle" };
    float out[64];
    int wrong = 0;
    for EACH(o, order) {
        setenv("FAKECUDA_ORDER", order[o], 1);
        ck_assert_int_eq(launch_fault("lamina_fault_no_fault", 256, out), 0);
        for (int i = 0; i < 64; i++)
            ck_assert(out[i] == (float)(63 - i));
        ck_assert_int_eq(launch_fault("lamina_fault_no_barrier", 256, out), 0);
        for (int i = 0; i < 64; i++)
            wrong += !(out[i] == (float)(63 - i));
        ck_assert_int_eq(launch_fault("lamina_fault_stale", 256, out), 0);
        for (int i = 0; i < 64; i++)
            ck_assert(i < 32 ? isnan(out[i]) : out[i] == (float)(63 - i));
        for EACH(i, fatal)
            ck_assert_int_eq(launch_fault(fatal[i], 256, out), 719);
        ck_assert_int_eq(launch_fault("lamina_fault_behind", 128, out), 719);
        ck_assert_int_eq(launch_fault("lamina_fault_before", 128, out), 719);
    }
    ck_assert_int_ge(wrong, 32);
}
END_TEST

static TCase *add_set(Suite *s, const char *name)
{
    TCase *c = tcase_create(name);
    tcase_set_timeout(c, 300);
    add_operators(c);
    add_precisions(c);
    suite_add_tcase(s, c);
    return c;
}

static void add_order(Suite *s, const char *name, void (*use)(void))
{
    TCase *c = add_set(s, name);
    tcase_add_checked_fixture(c, use, NULL);
    tcase_add_checked_fixture(c, open_both, close_both);
}

int main(void)
{
    if (!fake_find())
        return 0;
    Suite *s = suite_create("cuda");
    add_order(s, "forward", forward);
    add_order(s, "backward", backward);
    add_order(s, "shuffled", shuffled);
    add_order(s, "halves", halves);
    tcase_add_checked_fixture(add_set(s, "fences"), open_fenced, close_fenced);
    TCase *c = tcase_create("rest");
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, each, NULL);
    tcase_add_checked_fixture(c, open_both, close_both);
    tcase_add_test(c, replay_or_not);
    tcase_add_test(c, threads_at_once);
    tcase_add_test(c, names);
    tcase_add_test(c, without_a_device);
    tcase_add_test(c, memory_ends);
    tcase_add_test(c, the_device_is_lost);
    tcase_add_test(c, allocations_fail);
    tcase_add_test(c, functions);
    suite_add_tcase(s, c);
    c = tcase_create("emulator");
    tcase_add_test(c, faults_are_found);
    suite_add_tcase(s, c);
    return run_suites(&s, 1);
}
