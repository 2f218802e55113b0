/* SPDX-License-Identifier: Apache-2.0 */
/* reference.c -- backend: every operator as its formula, in plain loops and
 * double precision throughout (registers, cache and residual stream too); in
 * bf16 and int8 programs the factors of products are rounded, nothing else.  It
 * is the truth that other backends are tested against, so it shares no
 * arithmetic with them and does nothing for speed.
 *
 * Shapes: a register is [rows][width]; row r of register i begins at
 * r * width[i].  The cache of a slot is [capacity][width] for keys and values. */
#include <float.h>
#include <math.h>

#define REAL double
#define MACHINE_DTYPES (LM_BIT(LM_F32) | LM_BIT(LM_F16) | LM_BIT(LM_BF16) \
                        | LM_BIT(LM_Q8_0) | LM_BIT(LM_Q4_0) | LM_BIT(LM_Q4_1))
#include "machine.h"

struct lm_stream { struct block *reg; size_t n_reg; struct block logit, a, w, floats; };

struct call {                           /* one operator being run */
    struct machine *m;
    struct lm_stream *s;
    const struct lm_exe *x;
    const struct lm_exec *arg;
    const struct lm_op *o;
};

static double *row_of(const struct call *c, int32_t reg, int64_t r)
{
    double *base = reg == 0 ? c->arg->hidden->v : c->s->reg[reg].v;
    return base + r * c->x->width[reg];
}

/* Row r of the operator's weight; valid until the next. */
static const float *weight_row(const struct call *c, int64_t r)
{
    const struct lm_weight *w = c->o->w;
    float *floats = (float *)(void *)c->s->floats.v;
    if (!w->codec)
        return w->data + r * w->stride;
    w->codec->decode(w->code + r * w->row_bytes, floats, w->cols);
    return floats;
}

static double dot(const double *a, const double *b, int64_t n)
{
    double s = 0;
    for (int64_t i = 0; i < n; i++)
        s += a[i] * b[i];
    return s;
}

/* Halves to even; NaN stays NaN. */
static double to_bf16(double x)
{
    float f = (float)x;
    uint32_t bits;
    if (isnan(x))
        return x;
    memcpy(&bits, &f, sizeof bits);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
    memcpy(&f, &bits, sizeof f);
    return (double)f;
}

/* A factor of a product as the program's precision has it, in place. */
static double *rounded(const struct call *c, double *x, int64_t n)
{
    double max = 0;
    if (c->x->precision == LM_AS_BF16)
        for (int64_t i = 0; i < n; i++)
            x[i] = to_bf16(x[i]);
    if (c->x->precision != LM_AS_INT8)
        return x;
    for (int64_t i = 0; i < n && !isnan(max); i++)
        max = isfinite(x[i]) ? fmax(max, fabs(x[i])) : NAN;
    double scale = isnan(max) ? NAN : max > 1e-30 ? max / 127 : 0;
    for (int64_t i = 0; i < n; i++)
        x[i] = scale == 0 ? 0 : nearbyint(x[i] / scale) * scale;
    return x;
}

static const double *rounded_row(const struct call *c, int64_t r)
{
    double *w = c->s->w.v;
    for (int64_t i = 0; i < c->o->k; i++)
        w[i] = (double)weight_row(c, r)[i];
    return rounded(c, w, c->o->k);
}

/* Row r of the weight with a, which is rounded already. */
static double product(const struct call *c, const double *a, int64_t r)
{
    double s = 0;
    if (c->x->precision != LM_AS_F32)
        return dot(a, rounded_row(c, r), c->o->k);
    const float *w = weight_row(c, r);
    for (int64_t i = 0; i < c->o->k; i++)
        s += a[i] * (double)w[i];
    return s;
}

static const double *rounded_input(const struct call *c, int64_t r)
{
    memcpy(c->s->a.v, row_of(c, c->o->a, r), (size_t)c->o->k * sizeof(double));
    return rounded(c, c->s->a.v, c->o->k);
}

static void do_embed(const struct call *c, int64_t r)
{
    const float *w = weight_row(c, c->arg->token[r]);
    double *y = row_of(c, c->o->y, r);
    for (int64_t i = 0; i < c->o->k; i++)
        y[i] = w[i];
}

static void do_rmsnorm(const struct call *c, int64_t r)
{
    const struct lm_op *o = c->o;
    for (int64_t g = 0; g < o->k; g += o->n) {
        const double *a = row_of(c, o->a, r) + g;
        double *y = row_of(c, o->y, r) + g, s = 0;
        for (int64_t i = 0; i < o->n; i++)
            s += a[i] * a[i];
        double f = 1 / sqrt(s / o->n + (double)o->eps);
        for (int64_t i = 0; i < o->n; i++)
            y[i] = a[i] * f * (double)o->w->data[i];
    }
}

static void do_linear(const struct call *c, int64_t r)
{
    const struct lm_op *o = c->o;
    const double *a = rounded_input(c, r);
    double *y = row_of(c, o->y, r);
    for (int64_t i = 0; i < o->n; i++) {
        double v = product(c, a, i);
        if (o->bias)
            v += (double)o->bias->data[i];
        y[i] = o->flags & LM_OPF_ACC ? y[i] + v : v;
    }
}

/* Pairs (i, i + head_dim/2); the angle is rounded to float because that is
 * what models were trained with.                                            */
static void rotate(double *x, const struct lm_op *o, int64_t pos)
{
    int64_t half = o->head_dim / 2;
    for (int64_t i = 0; i < half; i++) {
        float angle = (float)pos * o->w->data[i];
        double cosine = cos((double)angle) * (double)o->f;
        double sine = sin((double)angle) * (double)o->f;
        double a = x[i], b = x[i + half];
        x[i] = a * cosine - b * sine;
        x[i + half] = b * cosine + a * sine;
    }
}

static void do_rope_kv(const struct call *c, int64_t r)
{
    const struct lm_op *o = c->o;
    struct lm_kv *kv = c->arg->kv;
    int64_t pos = c->arg->pos + r, width = (int64_t)o->n_kv * o->head_dim;
    double *q = row_of(c, o->a, r), *k = row_of(c, o->b, r);
    for (int64_t h = 0; h < o->n_head; h++)
        rotate(q + h * o->head_dim, o, pos);
    for (int64_t h = 0; h < o->n_kv; h++)
        rotate(k + h * o->head_dim, o, pos);
    for (int64_t i = 0; i < width; i++) {
        kv->k[o->slot][pos * kv->width[o->slot] + i] = k[i];
        kv->v[o->slot][pos * kv->width[o->slot] + i] = row_of(c, o->c, r)[i];
    }
}

static void do_attention(const struct call *c, int64_t r)
{
    const struct lm_op *o = c->o;
    const struct lm_kv *kv = c->arg->kv;
    int64_t n = c->arg->pos + r + 1, d = o->head_dim, step = kv->width[o->slot];
    double *p = c->s->logit.v;
    for (int64_t h = 0; h < o->n_head; h++) {
        int64_t at = h / (o->n_head / o->n_kv) * d;
        const double *q = row_of(c, o->a, r) + h * d;
        double *y = row_of(c, o->y, r) + h * d, max = -DBL_MAX, sum = 0;
        for (int64_t j = 0; j < n; j++) {
            p[j] = 0;
            for (int64_t i = 0; i < d; i++)
                p[j] += q[i] * kv->k[o->slot][j * step + at + i];
            p[j] /= sqrt((double)d);
            max = fmax(max, p[j]);
        }
        for (int64_t j = 0; j < n; j++)
            sum += p[j] = exp(p[j] - max);
        for (int64_t i = 0; i < d; i++) {
            y[i] = 0;
            for (int64_t j = 0; j < n; j++)
                y[i] += p[j] / sum * kv->v[o->slot][j * step + at + i];
        }
    }
}

static void do_silu_mul(const struct call *c, int64_t r)
{
    const double *a = row_of(c, c->o->a, r), *b = row_of(c, c->o->b, r);
    double *y = row_of(c, c->o->y, r);
    for (int64_t i = 0; i < c->o->n; i++)
        y[i] = a[i] / (1 + exp(-a[i])) * b[i];
}

static void do_add(const struct call *c, int64_t r)
{
    const double *a = row_of(c, c->o->a, r), *b = row_of(c, c->o->b, r);
    double *y = row_of(c, c->o->y, r);
    for (int64_t i = 0; i < c->o->n; i++)
        y[i] = a[i] + b[i];
}

static void do_copy(const struct call *c, int64_t r)
{
    const double *a = row_of(c, c->o->a, r);
    for (int64_t i = 0; i < c->o->n; i++)
        c->arg->tap[c->o->slot]->v[r * c->o->n + i] = a[i];
}

/* Logits of row a into s->logit; returns their logsumexp. */
static double row_logits(const struct call *c, const double *a)
{
    const struct lm_op *o = c->o;
    double *l = c->s->logit.v, max = -DBL_MAX, sum = 0;
    for (int64_t i = 0; i < o->n; i++) {
        l[i] = product(c, a, i);
        max = fmax(max, l[i]);
    }
    for (int64_t i = 0; i < o->n; i++)
        sum += exp(l[i] - max);
    return max + log(sum);
}

static void do_head(const struct call *c, int64_t r)
{
    const struct lm_op *o = c->o;
    if (o->code == LM_OP_LOGITS && r != c->arg->rows - 1)
        return;
    const double *a = rounded_input(c, r);
    double lse = row_logits(c, a), *l = c->s->logit.v, s = 0;
    if (o->code == LM_OP_LOGITS) {
        for (int64_t i = 0; i < o->n; i++)
            c->arg->out[i] = (float)l[i];
        return;
    }
    if (o->code == LM_OP_CE) {
        s = lse - l[c->arg->target[r]];
    } else if (o->code == LM_OP_KL) {
        s = lse - dot(a, c->arg->teacher->v + r * o->k, o->k);
    } else {
        double *y = row_of(c, o->y, r);
        for (int64_t i = 0; i < o->k; i++)
            y[i] = 0;
        for (int64_t v = 0; v < o->n; v++) {
            double p = exp(l[v] - lse);
            const double *w = rounded_row(c, v);
            s += p * (l[v] - lse);
            for (int64_t i = 0; i < o->k; i++)
                y[i] += p * w[i];
        }
    }
    c->arg->out[r] = (float)s;
}

static void do_row(const struct call *c, int64_t r)
{
    switch (c->o->code) {
    case LM_OP_EMBED:     do_embed(c, r); break;
    case LM_OP_RMSNORM:   do_rmsnorm(c, r); break;
    case LM_OP_LINEAR:    do_linear(c, r); break;
    case LM_OP_ROPE_KV:   do_rope_kv(c, r); break;
    case LM_OP_ATTENTION: do_attention(c, r); break;
    case LM_OP_SILU_MUL:  do_silu_mul(c, r); break;
    case LM_OP_ADD:       do_add(c, r); break;
    case LM_OP_COPY:      do_copy(c, r); break;
    default:              do_head(c, r); break;
    }
}

static enum lm_status reserve(struct machine *m, struct lm_stream *s,
                              const struct lm_exe *x, const struct lm_exec *arg,
                              struct lm_err *e)
{
    const struct lm_host *h = m->host;
    if (s->n_reg < x->n_reg) {
        struct block *reg = h->resize(s->reg, x->n_reg * sizeof *reg);
        if (!reg)
            return program_no_memory(h, (double)(x->n_reg * sizeof *reg), "registers", e);
        memset(reg + s->n_reg, 0, (x->n_reg - s->n_reg) * sizeof *reg);
        s->reg = reg;
        s->n_reg = x->n_reg;
    }
    enum lm_status st = LM_OK;
    for (size_t i = 1; i < x->n_reg && !st; i++)
        st = block_reserve(h, &s->reg[i], (size_t)arg->rows * (size_t)x->width[i],
                           "register", e);
    size_t n = (size_t)arg->pos + (size_t)arg->rows, k = 1;
    for (size_t i = 0; i < x->n_op; i++) {
        if (program_is_head(x->op[i].code) && n < (size_t)x->op[i].n)
            n = (size_t)x->op[i].n;
        if (x->op[i].k > 0 && k < (size_t)x->op[i].k)
            k = (size_t)x->op[i].k;
    }
    if (!st)
        st = block_reserve(h, &s->logit, n, "logits", e);
    if (!st)
        st = block_reserve(h, &s->a, k, "a row", e);
    if (!st)
        st = block_reserve(h, &s->w, k, "a row", e);
    return st ? st : block_reserve(h, &s->floats, k, "a row", e);
}

static enum lm_status run(void *self, struct lm_stream *s, const struct lm_exe *x,
                          const struct lm_exec *arg, struct lm_time *t, struct lm_err *e)
{
    struct machine *m = self;
    double start = m->host->clock();
    enum lm_status st = program_call_check(m->host, x, arg, e);
    if (!st)
        st = reserve(m, s, x, arg, e);
    for (size_t i = 0; i < x->n_op && !st; i++) {
        struct call c = { m, s, x, arg, &x->op[i] };
        for (int64_t r = 0; r < arg->rows && !st; r++) {
            if (m->host->canceled(m->run))
                st = m->host->fail(e, LM_ECANCELED, "interrupted");
            else
                do_row(&c, r);
        }
    }
    if (t)
        *t = (struct lm_time){ m->host->clock() - start, 0 };
    return st;
}

static enum lm_status stream_open(void *self, int32_t threads, struct lm_stream **s,
                                  struct lm_err *e)
{
    struct machine *m = self;
    (void)threads;                      /* one is enough for the truth */
    *s = m->host->alloc(sizeof **s, "stream");
    return *s ? LM_OK : program_no_memory(m->host, sizeof **s, "a stream", e);
}

static void stream_close(void *self, struct lm_stream *s)
{
    struct machine *m = self;
    if (!s)
        return;
    for (size_t i = 0; i < s->n_reg; i++)
        m->host->release(s->reg[i].v);
    m->host->release(s->reg);
    m->host->release(s->logit.v);
    m->host->release(s->a.v);
    m->host->release(s->w.v);
    m->host->release(s->floats.v);
    m->host->release(s);
}

static void describe(struct lm_device *out)
{
    const struct lm_device full = { .struct_size = sizeof full,
        .name = "reference, double precision", .driver = "C", .software = true };
    lm_fill_struct(out, &full, sizeof full);
}

static enum lm_status device(void *self, struct lm_device *out, struct lm_err *e)
{
    (void)self, (void)e;
    describe(out);
    return LM_OK;
}

static enum lm_status devices(const struct lm_host *h, int64_t i, struct lm_device *out,
                              struct lm_err *e)
{
    if (i)
        return h->fail(e, LM_EUNAVAILABLE, "the processor is one device");
    describe(out);
    return LM_OK;
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct machine *m = a->host->alloc(sizeof *m, "reference");
    if (!m)
        return program_no_memory(a->host, sizeof *m, "the backend", e);
    m->host = a->host;
    m->run = a->run;
    *self = m;
    return LM_OK;
}

static void destroy(void *self)
{
    struct machine *m = self;
    if (m)
        m->host->release(m);
}

static const struct lm_backend backend = {
    .struct_size = sizeof backend, .dtypes = MACHINE_DTYPES,
    .device = device, .upload = machine_upload, .forget = machine_forget,
    .buffer = machine_buffer, .buffer_free = machine_buffer_free,
    .write = machine_write, .read = machine_read, .copy = machine_copy,
    .kv_open = machine_kv_open, .kv_close = machine_kv_close,
    .compile = machine_compile, .exe_free = machine_exe_free,
    .stream_open = stream_open, .stream_close = stream_close, .run = run,
    .precisions = LM_BIT(LM_AS_F32) | LM_BIT(LM_AS_BF16) | LM_BIT(LM_AS_INT8),
    .devices = devices, .view = machine_view
};

static const struct lm_module module = {
    LM_MODULE_HEAD(BACKEND), .name = "reference", .version = "0.1.0",
    .license = "Apache-2.0", .author = "The Lamina developers",
    .summary = "plain loops in double precision: slow, the truth for other backends",
    .create = create, .destroy = destroy, .ops = &backend
};

LM_EXPORT const struct lm_module *lm_plugin(void)
{
    return &module;
}
