/* SPDX-License-Identifier: Apache-2.0 */
/* speed.c -- how fast this machine is at what a run consists of, in processor time of
 * one thread, so that other programs hardly disturb it: one layer and the head of the
 * model over one text, decoding, quantizers on rows of the first blocks, and products in
 * double precision.                                                               */
#include "base/linalg.h"
#include "base/mem.h"
#include "base/process.h"
#include "model/codec.h"
#include "pipeline/estimate.h"
#include "pipeline/quantize.h"

enum { RUNS = 8, ENOUGH = 3 };          /* at most so many; seconds */

static double now(void)
{
    return lm_process_seconds(false);
}

/* The fastest of a few runs: the first meets cold memory, all may meet other programs. */
static enum lm_status time_network(struct lm_bench *b, const struct lm_network *net,
                                   const int32_t *ids, size_t n, float *nll,
                                   double *seconds, struct lm_err *e)
{
    struct lm_ask ask = { .net = net, .ids = ids, .n = n, .out = nll };
    struct lm_work work = { 0, 0 };
    enum lm_status st = LM_OK;
    double begun = now(), one = 0;

    for (int i = 0; i < RUNS && !st; i++) {
        double start = now();
        if (i >= 2 && start - begun > ENOUGH)
            break;
        st = lm_ask_all(b->engine, NULL, true, &ask, 1, &work, e);
        one = (now() - start) / (double)n;
        *seconds = i == 0 || one < *seconds ? one : *seconds;
    }
    if (!st && !ask.answered)
        st = lm_fail(e, LM_EUNSUPPORTED, "the model cannot be run in the precision that "
                     "an evaluator asks for, or over its texts");
    return st;
}

struct probe {                          /* embedding, the first blocks, the head */
    struct lm_network net, bare;        /* bare: without the blocks */
    struct lm_segment *seg[4], *ends[2];
    double macs, total;                 /* of the blocks; of all blocks of the model */
    size_t held;
};

static void open_probe(struct probe *p, const struct lm_network *dense)
{
    size_t n = dense->n < 4 ? dense->n - 1 : 3;

    for (size_t i = 0; i + 1 < dense->n; i++)
        p->total += lm_segment_macs(lm_segment_spec(dense->seg[i]));
    for (size_t i = 0; i < n; i++) {
        p->seg[i] = dense->seg[i];
        p->macs += lm_segment_macs(lm_segment_spec(dense->seg[i]));
    }
    p->seg[n] = dense->seg[dense->n - 1];
    p->ends[0] = p->seg[0];
    p->ends[1] = p->seg[n];
    p->net = (struct lm_network){ .seg = p->seg, .n = n + 1 };
    p->bare = (struct lm_network){ .seg = p->ends, .n = 2 };
}

static enum lm_status hold_all(struct probe *p, struct lm_err *e)
{
    enum lm_status st = LM_OK;

    while (!st && p->held < p->net.n)
        if (!(st = lm_segment_hold(p->seg[p->held], e)))
            p->held++;
    return st;
}

/* Decodes some rows of the embedding, into memory that is new each time. */
static enum lm_status time_decoding(const struct lm_model *m, double *byte,
                                    struct lm_err *e)
{
    const struct lm_arch *a = lm_model_arch(m);
    int64_t rows = a->vocab < 1024 ? a->vocab : 1024;
    size_t floats = (size_t)rows * (size_t)a->hidden;
    enum lm_status st = LM_OK;

    for (int i = 0; i < 3 && !st; i++) {
        double start = now(), one;
        float *x = lm_alloc_array(floats, sizeof *x, "estimate");

        if (!x)
            return lm_fail_memory(e, floats * sizeof *x, "an estimate");
        st = lm_model_rows(m, LM_W_EMBED, -1, 0, rows, x, e);
        lm_release(x);
        one = (now() - start) / (4 * (double)floats);
        *byte = i == 0 || one < *byte ? one : *byte;
    }
    return st;
}

static enum lm_status time_doubles(double *flop, struct lm_err *e)
{
    enum { ROWS = 64, N = 1024 };
    double *a = lm_alloc_array((size_t)N * (N + 2 * ROWS), sizeof *a, "estimate"), start;

    if (!a)
        return lm_fail_memory(e, (size_t)N * N * sizeof *a, "an estimate");
    for (size_t i = 0; i < (size_t)N * (N + 2 * ROWS); i++)
        a[i] = (double)(i % 7);
    for (int i = 0; i < 3; i++) {
        start = now();
        lm_gemm64('n', 'n', ROWS, N, N, 1, a, N, a + ROWS * N, N, 0,
                  a + ROWS * N + (size_t)N * N, N);
        double took = (now() - start) / (2.0 * ROWS * N * N);
        *flop = i && *flop < took ? *flop : took;
    }
    lm_release(a);
    return LM_OK;
}

static enum lm_status run_probe(struct lm_bench *b, struct probe *p, uint32_t precision,
                                const int32_t *ids, size_t n, float *nll,
                                struct lm_speed *out, struct lm_err *e)
{
    double bare[2] = { 0, 0 }, whole[2] = { 0, 0 };
    enum lm_status st = hold_all(p, e);

    for (int i = 0; i < 2 && !st; i++) {        /* f32; what evaluators ask for */
        p->net.precision = p->bare.precision = i ? precision : LM_AS_F32;
        if (i && precision == LM_AS_F32) {
            bare[1] = bare[0];
            whole[1] = whole[0];
            break;
        }
        st = time_network(b, &p->bare, ids, n, nll, &bare[i], e);
        if (!st)
            st = time_network(b, &p->net, ids, n, nll, &whole[i], e);
    }
    double scale = p->macs > 0 ? p->total / p->macs : 0;
    for (int i = 0; i < 2; i++) {
        out->head[i] = bare[i];
        out->block[i] = whole[i] > bare[i] ? (whole[i] - bare[i]) * scale : 0;
    }
    out->mac = p->macs > 0 && whole[0] > bare[0] ? (whole[0] - bare[0]) / p->macs : 0;
    while (p->held > 0)
        lm_segment_drop(p->seg[--p->held]);
    return st;
}

enum lm_status lm_speed_measure(struct lm_bench *b, const struct lm_candidate *c,
                                uint32_t precision, size_t longest, struct lm_speed *out,
                                struct lm_err *e)
{
    const struct lm_arch *a = lm_model_arch(b->model);
    size_t n = longest < 2 ? 256 : longest > 512 ? 512 : longest;
    struct probe p = { .held = 0 };

    n = a->context > 1 && n > (size_t)a->context ? (size_t)a->context : n;
    int32_t *ids = lm_alloc_array(n, sizeof *ids, "estimate");
    float *nll = lm_alloc_array(n, sizeof *nll, "estimate");
    enum lm_status st = ids && nll ? LM_OK : lm_fail_memory(e, 8 * n, "an estimate");
    for (size_t i = 0; i < n && !st; i++)
        ids[i] = (int32_t)(i % (size_t)a->vocab);
    open_probe(&p, &c->net);
    if (!st)
        st = run_probe(b, &p, precision, ids, n, nll, out, e);
    if (!st)
        st = time_decoding(b->model, &out->byte, e);
    if (!st)
        st = time_doubles(&out->flop, e);
    lm_release(ids);
    lm_release(nll);
    return st;
}

/* ---- quantizers ------------------------------------------------------------------ */
enum { WEIGHTS = 65536 };               /* of a matrix, about */

/* Encodes rows of a matrix and decodes them again, twice; the faster counts. */
static enum lm_status time_format(const struct lm_quant_choice *q,
                                  const struct lm_quant_site *site, size_t row, float *x,
                                  char *bytes, double *seconds, struct lm_err *e)
{
    const struct lm_codec *c = lm_codec(q->dtype);
    enum lm_status st = LM_OK;

    for (int i = 0; i < 2 && !st; i++) {
        double start = now(), one;

        if ((st = q->ops->encode(q->self, site, bytes, e)))
            break;
        for (int64_t r = 0; r < site->rows; r++)
            c->decode(bytes + (size_t)r * row, x, site->cols);
        one = now() - start;
        *seconds = i == 0 || one < *seconds ? one : *seconds;
    }
    return st;
}

/* The first layer whose matrix this is; NULL: none, or it cannot have the format. */
static const struct lm_tensor *find_matrix(const struct lm_model *m, uint32_t role,
                                           uint32_t dtype, int32_t *layer)
{
    for (*layer = 0; *layer < lm_model_arch(m)->n_layer; ++*layer) {
        const struct lm_tensor *t = lm_model_tensor(m, role, *layer);

        if (t && t->data)
            return lm_row_bytes(dtype, t->cols) > 0 ? t : NULL;
    }
    return NULL;
}

/* Adds to seconds and weights what some rows of a matrix take. */
static enum lm_status add_matrix(const struct lm_model *m,
                                 const struct lm_quant_choice *q, uint32_t role,
                                 double *seconds, double *weights, struct lm_err *e)
{
    struct lm_quant_site site = { .struct_size = sizeof site, .role = role };
    const struct lm_tensor *t = find_matrix(m, role, q->dtype, &site.layer);
    int64_t row = t ? lm_row_bytes(q->dtype, t->cols) : 0;
    double took = 0;

    if (!t)
        return LM_OK;
    site.cols = site.stride = t->cols;
    site.rows = t->cols > WEIGHTS ? 1 : WEIGHTS / t->cols;
    site.rows = site.rows > t->rows ? t->rows : site.rows;
    size_t n = (size_t)site.rows * (size_t)site.cols;
    float *w = lm_alloc_array(n + (size_t)site.cols, sizeof *w, "estimate");
    char *bytes = lm_alloc_array((size_t)site.rows, (size_t)row, "estimate");
    enum lm_status st = w && bytes ? lm_model_rows(m, role, site.layer, 0, site.rows, w,
                                                   e)
                                   : lm_fail_memory(e, n * sizeof *w, "an estimate");
    site.w = w;
    if (!st)
        st = time_format(q, &site, (size_t)row, w + n, bytes, &took, e);
    *seconds += took;
    *weights += (double)n;
    lm_release(w);
    lm_release(bytes);
    return st;
}

enum lm_status lm_speed_formats(const struct lm_session *s, struct lm_speed *out,
                                struct lm_err *e)
{
    static const uint32_t role[] = { LM_W_Q, LM_W_O, LM_W_GATE, LM_W_DOWN };
    enum lm_status st = LM_OK;

    for (size_t i = 0; i < s->pipeline->n_quantize && !st; i++) {
        struct lm_stage *stage = &s->pipeline->quantize[i];
        struct lm_quant_choice q;
        double seconds = 0, weights = 0;

        st = lm_quantize_source((void *)s, stage->id, &q, e);
        for (size_t k = 0; k < sizeof role / sizeof *role && !st; k++)
            if ((st = add_matrix(s->bench.model, &q, role[k], &seconds, &weights, e)))
                lm_stage_fail(stage, e);
        out->weight[i] = weights > 0 ? seconds / weights : 0;
    }
    return st;
}
