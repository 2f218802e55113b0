/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_backend.c -- the contract of backends, against plain loops in double.
 *
 * Linear operators for every number format it declares, with ADD and COPY; then
 * the made-up model as a whole, which uses all other operators: losses (embedding,
 * norms, linear, RoPE and cache, attention, SwiGLU, cross entropy), the divergence
 * of the model from itself (expectation and KL; 0), and logits token by token from
 * a cache.                                                                    */
#include <math.h>
#include <string.h>

#include "model/codec.h"
#include "model/engine.h"
#include "pipeline/selftest_kit.h"

enum { TOKENS = 24, HIDDEN = 64, WIDE = 256, ROWS = 5 };

/* ---- one linear operator ----------------------------------------------------------- */

struct linear {
    float x[ROWS * WIDE], y[ROWS * HIDDEN], w[HIDDEN * WIDE];
    char packed[HIDDEN * WIDE * 4];
};

static void fill(struct linear *l, uint32_t dtype)
{
    struct lm_rng r = lm_rng(17, "selftest/linear", dtype);
    int64_t row = lm_row_bytes(dtype, WIDE);
    for (int i = 0; i < ROWS * WIDE; i++)
        l->x[i] = (float)(2 * lm_rng_unit(&r) - 1);
    for (int i = 0; i < HIDDEN * WIDE; i++)
        l->w[i] = (float)(2 * lm_rng_unit(&r) - 1);
    for (int i = 0; i < HIDDEN; i++) {  /* what is compared with is what is stored */
        lm_codec(dtype)->encode(l->w + i * WIDE, l->packed + i * row, WIDE);
        lm_codec(dtype)->decode(l->packed + i * row, l->w + i * WIDE, WIDE);
    }
}

/* y = 2 x w^T through the backend: linear, add, copy. */
static enum lm_status compute(const struct lm_backend *o, void *self, struct linear *l,
                              uint32_t dtype, struct lm_err *e)
{
    struct lm_tensor t = {
        .data = l->packed, .rows = HIDDEN, .cols = WIDE, .dtype = dtype
    };
    struct lm_weight *w = NULL;
    struct lm_buffer *in = NULL, *out = NULL;
    struct lm_exe *x = NULL;
    struct lm_stream *stream = NULL;
    struct lm_time time = { 0, 0 };
    const int32_t width[] = { WIDE, HIDDEN, HIDDEN };
    enum lm_status s = o->upload(self, &t, WIDE, &w, e);
    struct lm_op op[] = {
        { .code = LM_OP_LINEAR, .y = 1, .a = 0, .b = -1, .c = -1, .w = w, .n = HIDDEN,
          .k = WIDE },
        { .code = LM_OP_ADD, .y = 2, .a = 1, .b = 1, .c = -1, .n = HIDDEN },
        { .code = LM_OP_COPY, .y = -1, .a = 2, .b = -1, .c = -1, .n = HIDDEN } };
    struct lm_program p = { .struct_size = sizeof p, .op = op, .n_op = 3, .width = width,
                            .n_reg = 3 };
    if (!s && !(s = o->buffer(self, ROWS * WIDE, &in, e)) &&
        !(s = o->buffer(self, ROWS * HIDDEN, &out, e)) &&
        !(s = o->write(self, in, 0, l->x, ROWS * WIDE, e)) &&
        !(s = o->compile(self, &p, &x, e)) &&
        !(s = o->stream_open(self, 1, &stream, e))) {
        struct lm_exec args = { .struct_size = sizeof args, .rows = ROWS, .hidden = in,
                                .tap = { out } };
        if (!(s = o->run(self, stream, x, &args, &time, e)))
            s = o->read(self, out, 0, l->y, ROWS * HIDDEN, e);
    }
    if (stream)
        o->stream_close(self, stream);
    if (x)
        o->exe_free(self, x);
    if (in)
        o->buffer_free(self, in);
    if (out)
        o->buffer_free(self, out);
    if (w)
        o->forget(self, w);
    return s;
}

static enum lm_status check_linear(struct lm_kit *k)
{
    static struct linear l;
    const struct lm_backend *ops = k->plugin->ops;
    void *self;
    enum lm_status s = lm_kit_create(k, &self);
    for (uint32_t d = LM_F32; !s && d < LM_N_DTYPES; d++) {
        if (!(ops->dtypes & LM_BIT(d)))
            continue;
        if (!lm_codec(d)) {
            s = lm_broken(
                k, "its `dtypes` declare number format %u, which there is not", d);
            break;
        }
        if (!lm_codec(d)->encode)
            continue;                   /* there is nothing to pack weights with */
        fill(&l, d);
        if ((s = compute(ops, self, &l, d, k->e)))
            s = lm_kit_failed(k, "a linear operator", s);
        for (int i = 0; !s && i < ROWS * HIDDEN; i++) {
            double want = 0, size = 0;
            for (int j = 0; j < WIDE; j++) {
                double term = 2 * (double)l.x[i / HIDDEN * WIDE + j] *
                              (double)l.w[i % HIDDEN * WIDE + j];
                want += term;
                size += fabs(term);
            }
            /* a backend may round activations to 8 bits where weights have so few */
            double may = (d >= LM_Q8_0 ? 1e-2 : 1e-4) * size;
            if (!(fabs((double)l.y[i] - want) <= may))
                s = lm_broken(k, "a linear operator on %s weights gives %g, not %g",
                              lm_codec(d)->name, (double)l.y[i], want);
        }
    }
    lm_kit_destroy(k, self);
    return s;
}

/* ---- the model, naively ------------------------------------------------------------ */

struct naive {
    const struct lm_model *m;
    double h[TOKENS][HIDDEN], n[TOKENS][HIDDEN];
    double q[TOKENS][WIDE], k[TOKENS][WIDE], v[TOKENS][WIDE], o[TOKENS][WIDE];
    float logits[TOKENS][512];
    struct lm_err e;
};

static const float *weight(struct naive *x, uint32_t role, int32_t layer)
{
    const float *w = NULL;
    lm_model_floats(x->m, role, layer, &w, &x->e);
    return w;
}

static void norm(struct naive *x, uint32_t role, int32_t layer)
{
    const float *w = weight(x, role, layer);
    for (int t = 0; t < TOKENS; t++) {
        double sum = 0;
        for (int i = 0; i < HIDDEN; i++)
            sum += x->h[t][i] * x->h[t][i];
        for (int i = 0; i < HIDDEN; i++)
            x->n[t][i] = x->h[t][i] / sqrt(sum / HIDDEN + lm_model_arch(x->m)->rms_eps) *
                         (double)w[i];
    }
}

/* to [TOKENS][..] (+)= from w^T, rows of `from` and `to` being in and out wide. */
static void times(struct naive *x, uint32_t role, int32_t layer, const double *from,
                  int in, double *to, int out, bool add)
{
    const struct lm_tensor *t = lm_model_tensor(x->m, role, layer);
    const float *w = weight(x, role, layer);
    for (int row = 0; row < TOKENS; row++)
        for (int64_t i = 0; i < t->rows; i++) {
            double sum = add ? to[row * out + i] : 0;
            for (int64_t j = 0; j < t->cols; j++)
                sum += from[row * in + j] * (double)w[i * t->cols + j];
            to[row * out + i] = sum;
        }
}

static void rotate(struct naive *x, double (*v)[WIDE], int heads)
{
    const struct lm_arch *a = lm_model_arch(x->m);
    int half = a->head_dim / 2;
    for (int t = 0; t < TOKENS; t++)
        for (int i = 0; i < heads * half; i++) {
            double *p = &v[t][i / half * a->head_dim + i % half], left = p[0];
            double angle = t * pow(a->rope_theta, -2.0 * (i % half) / a->head_dim);
            p[0] = left * cos(angle) - p[half] * sin(angle);
            p[half] = p[half] * cos(angle) + left * sin(angle);
        }
}

static void attend(struct naive *x, const struct lm_layer_shape *l)
{
    int d = lm_model_arch(x->m)->head_dim;
    for (int t = 0; t < TOKENS; t++)
        for (int head = 0; head < l->n_head; head++) {
            const int at = head * d, kv = head / (l->n_head / l->n_kv) * d;
            double p[TOKENS], sum = 0;
            for (int s = 0; s <= t; s++) {
                double dot = 0;
                for (int i = 0; i < d; i++)
                    dot += x->q[t][at + i] * x->k[s][kv + i];
                sum += p[s] = exp(dot / sqrt(d));
            }
            for (int i = 0; i < d; i++) {
                x->o[t][at + i] = 0;
                for (int s = 0; s <= t; s++)
                    x->o[t][at + i] += p[s] / sum * x->v[s][kv + i];
            }
        }
}

static void forward(struct naive *x, const int32_t *ids)
{
    const struct lm_arch *a = lm_model_arch(x->m);
    const float *table = weight(x, LM_W_EMBED, -1), *head = weight(x, LM_W_HEAD, -1);
    for (int i = 0; i < TOKENS * HIDDEN; i++)
        x->h[i / HIDDEN][i % HIDDEN] =
            (double)table[ids[i / HIDDEN] * HIDDEN + i % HIDDEN];
    for (int32_t l = 0; l < a->n_layer; l++) {
        norm(x, LM_W_ATTN_NORM, l);
        times(x, LM_W_Q, l, x->n[0], HIDDEN, x->q[0], WIDE, false);
        times(x, LM_W_K, l, x->n[0], HIDDEN, x->k[0], WIDE, false);
        times(x, LM_W_V, l, x->n[0], HIDDEN, x->v[0], WIDE, false);
        rotate(x, x->q, a->layer[l].n_head);
        rotate(x, x->k, a->layer[l].n_kv);
        attend(x, &a->layer[l]);
        times(x, LM_W_O, l, x->o[0], WIDE, x->h[0], HIDDEN, true);
        norm(x, LM_W_MLP_NORM, l);
        times(x, LM_W_GATE, l, x->n[0], HIDDEN, x->q[0], WIDE, false);
        times(x, LM_W_UP, l, x->n[0], HIDDEN, x->k[0], WIDE, false);
        for (int i = 0; i < TOKENS * WIDE; i++) {
            double g = x->q[i / WIDE][i % WIDE];
            x->o[i / WIDE][i % WIDE] = g / (1 + exp(-g)) * x->k[i / WIDE][i % WIDE];
        }
        times(x, LM_W_DOWN, l, x->o[0], WIDE, x->h[0], HIDDEN, true);
    }
    norm(x, LM_W_FINAL_NORM, -1);
    for (int t = 0; t < TOKENS; t++)
        for (int i = 0; i < a->vocab; i++) {
            double sum = 0;
            for (int j = 0; j < HIDDEN; j++)
                sum += x->n[t][j] * (double)head[i * HIDDEN + j];
            x->logits[t][i] = (float)sum;
        }
}

static double loss(const struct naive *x, int t, int32_t target)
{
    double sum = 0;
    for (int i = 0; i < lm_model_arch(x->m)->vocab; i++)
        sum += exp((double)x->logits[t][i] - (double)x->logits[t][target]);
    return log(sum);
}

/* ---- the model, on the backend ----------------------------------------------------- */

static enum lm_status compare_losses(struct lm_kit *k, struct lm_engine *g,
                                     const struct lm_network *net, const struct naive *x,
                                     const int32_t *ids)
{
    static const double near[LM_N_PRECISIONS] = { 1e-3, 0.1, 0.5 };
    const char *name = lm_precision_names[net->precision];
    float nll[TOKENS], kl[TOKENS];
    struct lm_runner *r = NULL;
    struct lm_teacher *teacher = NULL;
    enum lm_status s = lm_runner_open(g, &r, k->e);
    if (!s && (s = lm_runner_losses(r, net, ids, TOKENS, nll, k->e)))
        s = lm_kit_failed(k, "a model's losses", s);
    for (int t = 0; !s && t < TOKENS - 1; t++)
        if (!(fabs((double)nll[t] - loss(x, t, ids[t + 1])) < near[net->precision]))
            s = lm_broken(k, "the loss of token %d in %s is %g, not %g", t, name,
                          (double)nll[t], loss(x, t, ids[t + 1]));
    if (!s && !(s = lm_teacher_open(g, net, 1 << 20, &teacher, k->e)) &&
        (s = lm_runner_kl(r, net, teacher, ids, TOKENS, kl, k->e)))
        s = lm_kit_failed(k, "a model's divergence", s);
    for (int t = 0; !s && t < TOKENS; t++)
        if (!(fabs((double)kl[t]) < 1e-3))
            s = lm_broken(k, "a model diverges from itself by %g at token %d in %s",
                          (double)kl[t], t, name);
    lm_teacher_close(teacher);
    lm_runner_close(r);
    return s;
}

static enum lm_status compare_logits(struct lm_kit *k, struct lm_engine *g,
                                     const struct lm_network *net, const struct naive *x,
                                     const int32_t *ids)
{
    float got[512];
    struct lm_decoder *d = NULL;
    int vocab = lm_model_arch(k->model)->vocab;
    enum lm_status s = lm_decoder_open(g, net, TOKENS, 2, &d, k->e);
    for (int t = 0, n; !s && t < TOKENS; t += n) {      /* one by one, but some at once */
        n = t == 5 ? 7 : 1;
        if ((s = lm_decoder_feed(d, ids + t, n, got, NULL, k->e)))
            return lm_decoder_close(d), lm_kit_failed(k, "a model's logits", s);
        for (int i = 0; !s && i < vocab; i++)
            if (!(fabsf(got[i] - x->logits[t + n - 1][i]) < 1e-3f))
                s = lm_broken(k, "logit %d behind token %d is %g, not %g", i, t + n - 1,
                              (double)got[i], (double)x->logits[t + n - 1][i]);
    }
    lm_decoder_close(d);
    return s;
}

static enum lm_status check_model(struct lm_kit *k)
{
    static struct naive x;
    int32_t ids[TOKENS];
    struct lm_engine *g = NULL;
    struct lm_network net = { .seg = NULL };
    void *self;
    for (int i = 0; i < TOKENS; i++)
        ids[i] = (i * 37 + 11) % 256;
    x.m = k->model;
    forward(&x, ids);
    enum lm_status s = lm_kit_create(k, &self);
    if (s)
        return s;
    if ((s = lm_engine_open(k->model, k->plugin->ops, self, &g, k->e)) ||
        (s = lm_network_open(g, k->model, &net, k->e)))
        s = lm_kit_failed(k, "uploading and compiling a model", s);
    struct lm_err no = { 0 };
    for (; !s && net.precision < LM_N_PRECISIONS; net.precision++)
        if (!lm_engine_can(g, net.precision, &no))
            s = compare_losses(k, g, &net, &x, ids);
    net.precision = LM_AS_F32;
    if (!s)
        s = compare_logits(k, g, &net, &x, ids);
    lm_network_close(&net);
    lm_engine_close(g);
    lm_kit_destroy(k, self);
    return s;
}

static enum lm_status check_device(struct lm_kit *k)
{
    const struct lm_backend *ops = k->plugin->ops;
    struct lm_device d = { .struct_size = sizeof d };
    void *self;
    enum lm_status s = lm_kit_create(k, &self);
    if (!s && (s = ops->device(self, &d, k->e)))
        s = lm_kit_failed(k, "device()", s);
    if (!s && (!d.name[0] || !memchr(d.name, 0, sizeof d.name) ||
               !memchr(d.driver, 0, sizeof d.driver) || d.memory < 0))
        s = lm_broken(k, "device() gives no name, or texts that do not end");
    if (!s && !(ops->dtypes & LM_BIT(LM_F32)))
        s = lm_broken(k, "its `dtypes` do not hold f32, in which models are run");
    lm_kit_destroy(k, self);
    return s;
}

/* What is listed without an instance: as many as there are, then why there are no more. */
static enum lm_status check_devices(struct lm_kit *k)
{
    enum { MOST = 1024 };
    const struct lm_backend *ops = k->plugin->ops;
    for (int64_t i = 0; ops->devices; i++) {
        struct lm_device d = { .struct_size = sizeof d };
        enum lm_status s = ops->devices(&k->host, i, &d, k->e);
        if (s == LM_EUNAVAILABLE && k->e->text[0]) {
            *k->e = (struct lm_err){ .code = LM_OK };
            return LM_OK;
        }
        if (s == LM_EUNAVAILABLE)
            return lm_broken(k, "devices() does not say why there is no device %lld",
                             (long long)i);
        if (s)
            return lm_kit_failed(k, "devices()", s);
        if (!d.name[0] || !memchr(d.name, 0, sizeof d.name) ||
            !memchr(d.driver, 0, sizeof d.driver) || d.memory < 0)
            return lm_broken(k, "device %lld has no name, or texts that do not end",
                             (long long)i);
        if (i == MOST)
            return lm_broken(k, "devices() does not end");
    }
    return LM_OK;
}

static enum lm_status live_poorly(void *ctx)
{
    static struct linear l;
    struct lm_kit *k = ctx;
    void *self;
    enum lm_status s = lm_kit_try(k, &self);
    if (s)
        return s;
    fill(&l, LM_F32);
    s = compute(k->plugin->ops, self, &l, LM_F32, k->e);
    lm_kit_destroy(k, self);
    return s;
}

static enum lm_status check_memory(struct lm_kit *k)
{
    return lm_kit_memory(k, live_poorly, k);
}

const struct lm_kit_check lm_selftest_backend[] = {
    { "the device", check_device, false },
    { "the list of devices", check_devices, false },
    { "linear operators", check_linear, false },
    { "a model", check_model, false },
    { "work without memory", check_memory, false },
    { NULL, NULL, false }
};
