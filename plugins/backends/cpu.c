/* SPDX-License-Identifier: Apache-2.0 */
/* cpu.c -- backend: the host's processor, in f32, bf16 or int8.
 *
 * A stream owns its registers, which only grow, so that a worker allocates nothing
 * once it is warm; streams share nothing, so any number of them run side by side
 * without a barrier.  A stream opened with more than one thread cuts single
 * operators by outputs; that serves decoding alone on the machine, where one thread
 * cannot draw the full memory bandwidth.                                      */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cpu.h"

struct config { int64_t kernels; };      /* enum cpu_set */

static const char *const sets[] = { "auto", "portable", "avx2", "avx512", "avx512_vnni",
                                    "avx512_bf16", NULL };

static const struct lm_opt options[] = {
    LM_PICK(struct config, kernels, "auto", sets, LM_EXPERT,
            "vector instructions to use; auto takes the best the processor has, or what "
            "the environment variable LAMINA_CPU names"),
    LM_OPT_END
};

static enum lm_status reserve(const struct machine_cpu *m, struct lm_stream *s,
                              const struct lm_exe *x, int32_t rows, struct lm_err *e)
{
    const struct lm_host *h = m->base.host;
    enum lm_status st = LM_OK;
    if (s->n_reg < x->n_reg) {
        struct block *reg = h->alloc(x->n_reg * sizeof *reg, "registers");
        if (!reg)
            return program_no_memory(h, (double)(x->n_reg * sizeof *reg), "registers", e);
        if (s->n_reg > 0)
            memcpy(reg, s->reg, s->n_reg * sizeof *reg);
        h->release(s->reg);
        s->reg = reg;
        s->n_reg = x->n_reg;
    }
    for (size_t i = 1; i < x->n_reg && !st; i++)
        st = block_reserve(h, &s->reg[i], (size_t)rows * (size_t)x->width[i],
                           "register", e);
    return st;
}

static enum lm_status run_op(const struct call *c, struct lm_err *e)
{
    const struct machine *m = &c->m->base;
    if (m->host->canceled(m->run))
        return m->host->fail(e, LM_ECANCELED, "interrupted");
    switch (c->o->code) {
    case LM_OP_LINEAR:
        return cpu_linear(c, e);
    case LM_OP_ROPE_KV:
        return cpu_rope_kv(c, e);
    case LM_OP_ATTENTION:
        return cpu_attention(c, e);
    case LM_OP_CE:
    case LM_OP_KL:
    case LM_OP_EXPECT:
    case LM_OP_LOGITS:
        return cpu_head(c, e);
    default:
        cpu_rows(c);
        return LM_OK;
    }
}

/* Does the operator behind o multiply what o multiplied? */
static bool same_input(const struct lm_op *o)
{
    return o[0].code == LM_OP_LINEAR && o[1].code == LM_OP_LINEAR && o[0].a == o[1].a
        && o[0].k == o[1].k && o[0].y != o[1].a;
}

static enum lm_status run(void *self, struct lm_stream *s, const struct lm_exe *x,
                          const struct lm_exec *arg, struct lm_time *t, struct lm_err *e)
{
    const struct machine_cpu *m = self;
    double start = m->base.host->clock();
    enum lm_status st = program_call_check(m->base.host, x, arg, e);
    if (!st)
        st = reserve(m, s, x, arg->rows, e);
    for (size_t i = 0; i < x->n_op && !st; i++) {
        struct call c = { m, s, x, arg, &x->op[i], i > 0 && same_input(&x->op[i - 1]) };
        st = run_op(&c, e);
    }
    if (t)
        *t = (struct lm_time){ m->base.host->clock() - start, 0 };
    return st;
}

static enum lm_status stream_open(void *self, int32_t threads, struct lm_stream **s,
                                  struct lm_err *e)
{
    struct machine_cpu *m = self;
    struct lm_stream *x = m->base.host->alloc(sizeof *x, "stream");
    if (!x)
        return program_no_memory(m->base.host, sizeof *x, "a stream", e);
    x->threads = threads < 1 ? 1 : threads;
    *s = x;
    return LM_OK;
}

static void stream_close(void *self, struct lm_stream *s)
{
    struct machine_cpu *m = self;
    const struct lm_host *h = m->base.host;
    if (!s)
        return;
    for (size_t i = 0; i < s->n_reg; i++)
        h->release(s->reg[i].v);
    h->release(s->reg);
    h->release(s->scratch.v);
    h->release(s->code.v);
    h->release(s->scale.v);
    h->release(s->panel.v);
    h->release(s->floats.v);
    h->release(s->rotation.cosine.v);
    h->release(s->rotation.sine.v);
    h->release(s);
}

static void describe(enum cpu_set set, struct lm_device *out)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    struct lm_device full = { .struct_size = sizeof full, .driver = "C" };
    snprintf(full.name, sizeof full.name, "cpu, %s", sets[set]);
    if (pages > 0 && size > 0 && pages < INT64_MAX / size)
        full.memory = (int64_t)pages * size;
    lm_fill_struct(out, &full, sizeof full);
}

static enum lm_status device(void *self, struct lm_device *out, struct lm_err *e)
{
    const struct machine_cpu *m = self;
    (void)e;
    describe(m->set, out);
    return LM_OK;
}

/* What the option or, where that is auto, the environment asks for. */
static enum lm_status choose(const struct lm_host *h, const struct config *config,
                             enum cpu_set *out, struct lm_err *e)
{
    const char *name = getenv("LAMINA_CPU");
    enum cpu_set set = config ? (enum cpu_set)config->kernels : CPU_AUTO;
    enum cpu_set best = cpu_best();
    bool forced = set == CPU_AUTO && name && *name;
    while (forced && sets[set] && strcmp(sets[set], name))
        set++;
    if (!sets[set])
        return h->fail(e, LM_ECONFIG, "LAMINA_CPU: '%s' is none of auto, portable, avx2, "
                       "avx512, avx512_vnni, avx512_bf16", name);
    if (set > best)
        return h->fail(e, LM_EUNAVAILABLE, "this processor has no %s instructions, %s is "
                       "its best; use %s", sets[set], sets[best],
                       forced ? "LAMINA_CPU=auto" : "kernels = \"auto\"");
    *out = set == CPU_AUTO ? best : set;
    return LM_OK;
}

static enum lm_status devices(const struct lm_host *h, int64_t i, struct lm_device *out,
                              struct lm_err *e)
{
    enum cpu_set set = CPU_AUTO;
    if (i)
        return h->fail(e, LM_EUNAVAILABLE, "the processor is one device");
    enum lm_status st = choose(h, NULL, &set, e);
    if (!st)
        describe(set, out);
    return st;
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    enum cpu_set set = CPU_AUTO;
    enum lm_status st = choose(a->host, a->config, &set, e);
    if (st)
        return st;
    struct machine_cpu *m = a->host->alloc(sizeof *m, "cpu");
    if (!m)
        return program_no_memory(a->host, sizeof *m, "the backend", e);
    m->base.host = a->host;
    m->base.run = a->run;
    m->set = set;
    m->kernel = cpu_kernels(set);
    m->product = cpu_products(set);
    pthread_mutex_init(&m->lock, NULL);
    *self = m;
    return LM_OK;
}

static void destroy(void *self)
{
    struct machine_cpu *m = self;
    if (!m)
        return;
    pthread_mutex_destroy(&m->lock);
    m->base.host->release(m);
}

static void exe_free(void *self, struct lm_exe *x)
{
    if (x)
        cpu_unpack(self, x);
    machine_exe_free(self, x);
}

static enum lm_status compile(void *self, const struct lm_program *p, struct lm_exe **x,
                              struct lm_err *e)
{
    struct lm_exe *y = NULL;
    enum lm_status st = machine_compile(self, p, &y, e);
    if (!st && (st = cpu_pack(self, y, e))) {
        exe_free(self, y);
        return st;
    }
    *x = y;
    return st;
}

static const struct lm_backend backend = {
    .struct_size = sizeof backend, .dtypes = MACHINE_DTYPES,
    .device = device, .upload = machine_upload, .forget = machine_forget,
    .buffer = machine_buffer, .buffer_free = machine_buffer_free,
    .write = machine_write, .read = machine_read, .copy = machine_copy,
    .kv_open = machine_kv_open, .kv_close = machine_kv_close,
    .compile = compile, .exe_free = exe_free,
    .stream_open = stream_open, .stream_close = stream_close, .run = run,
    .precisions = LM_BIT(LM_AS_F32) | LM_BIT(LM_AS_BF16) | LM_BIT(LM_AS_INT8),
    .devices = devices
};

static const struct lm_module module = {
    LM_MODULE_HEAD(BACKEND), .name = "cpu", .version = "0.1.0",
    .license = "Apache-2.0", .author = "The Lamina developers",
    .summary = "the processor, in f32, bf16 and int8, by vector kernels",
    .reference = "Dao et al. 2022; Milakov and Gimelshein 2018",
    .opt = options, .config_size = sizeof(struct config),
    .create = create, .destroy = destroy, .ops = &backend
};

LM_EXPORT const struct lm_module *lm_plugin(void)
{
    return &module;
}
