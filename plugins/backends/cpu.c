/* SPDX-License-Identifier: Apache-2.0 */
/* cpu.c -- backend: f32 on the host's processor.
 *
 * Weights are used where they lie.  A stream owns its registers, which only
 * grow, so that a worker allocates nothing once it is warm; streams share
 * nothing, so any number of them run side by side without a barrier.  A stream
 * opened with more than one thread cuts single operators by outputs; that
 * serves decoding alone on the machine, where one thread cannot draw the full
 * memory bandwidth.                                                         */
#include <stdio.h>
#include <unistd.h>

#include "cpu.h"

struct config { int64_t kernels; };      /* enum cpu_set */

static const char *const sets[] = { "auto", "generic", "avx2", "avx512", NULL };

static const struct lm_opt options[] = {
    LM_PICK(struct config, kernels, "auto", sets, LM_EXPERT,
            "vector instructions to use; auto takes the best the processor has"),
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
            return machine_no_memory(h, (double)(x->n_reg * sizeof *reg), "registers", e);
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

static enum lm_status run(void *self, struct lm_stream *s, const struct lm_exe *x,
                          const struct lm_exec *arg, struct lm_time *t, struct lm_err *e)
{
    const struct machine_cpu *m = self;
    double start = m->base.host->clock();
    enum lm_status st = machine_call_check(m->base.host, x, arg, e);
    if (!st)
        st = reserve(m, s, x, arg->rows, e);
    for (size_t i = 0; i < x->n_op && !st; i++) {
        struct call c = { m, s, x, arg, &x->op[i] };
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
        return machine_no_memory(m->base.host, sizeof *x, "a stream", e);
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
    h->release(s->rotation.cosine.v);
    h->release(s->rotation.sine.v);
    h->release(s);
}

static enum lm_status device(void *self, struct lm_device *out, struct lm_err *e)
{
    const struct machine_cpu *m = self;
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    (void)e;
    struct lm_device full = { .struct_size = sizeof full, .driver = "C and BLAS" };
    snprintf(full.name, sizeof full.name, "cpu, %s", m->kernel->name);
    if (pages > 0 && size > 0 && pages < INT64_MAX / size)
        full.memory = (int64_t)pages * size;
    lm_fill_struct(out, &full, sizeof full);
    return LM_OK;
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    const struct config *config = a->config;
    enum cpu_set set = config ? (enum cpu_set)config->kernels : CPU_AUTO;
    if (!cpu_kernels(set))
        return a->host->fail(e, LM_EUNAVAILABLE, "this processor has no %s instructions; "
                             "use kernels = \"auto\"", sets[set]);
    struct machine_cpu *m = a->host->alloc(sizeof *m, "cpu");
    if (!m)
        return machine_no_memory(a->host, sizeof *m, "the backend", e);
    m->base.host = a->host;
    m->base.run = a->run;
    m->kernel = cpu_kernels(set);
    *self = m;
    return LM_OK;
}

static void destroy(void *self)
{
    struct machine_cpu *m = self;
    if (m)
        m->base.host->release(m);
}

static const struct lm_backend backend = {
    .struct_size = sizeof backend, .dtypes = LM_BIT(LM_F32),
    .device = device, .upload = machine_upload, .forget = machine_forget,
    .buffer = machine_buffer, .buffer_free = machine_buffer_free,
    .write = machine_write, .read = machine_read, .copy = machine_copy,
    .kv_open = machine_kv_open, .kv_close = machine_kv_close,
    .compile = machine_compile, .exe_free = machine_exe_free,
    .stream_open = stream_open, .stream_close = stream_close, .run = run
};

static const struct lm_module module = {
    LM_MODULE_HEAD(BACKEND), .name = "cpu", .version = "0.1.0",
    .license = "Apache-2.0", .author = "The Lamina developers",
    .summary = "single precision on the processor, through BLAS and vector kernels",
    .reference = "Dao et al. 2022; Milakov and Gimelshein 2018",
    .opt = options, .config_size = sizeof(struct config),
    .create = create, .destroy = destroy, .ops = &backend
};

LM_EXPORT const struct lm_module *lm_plugin(void)
{
    return &module;
}
