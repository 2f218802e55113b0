/* SPDX-License-Identifier: Apache-2.0 */
/* narrow.c -- segments of a narrower residual stream.
 *
 * The stream x of d channels is replaced by z of m, with x ~ B z and z = B^T x for a
 * matrix B [d][m] of orthonormal columns.  A narrowed part is made from a base part,
 * dense or cut and repaired, by one of two kinds of B:
 *
 *   kept channels    B has ones where the plan keeps channels: columns of matrices that
 *                    read the stream (q, k, v, gate, up), rows of those that write it
 *                    (o, down), entries of norms.  A tied model stays tied.
 *   directions       the leading m columns of an orthonormal basis [d][d] that the
 *                    repair makes.  Norms become constant: with weight g, W diag(g) B
 *                    reads and B^T W writes (SliceGPT, Ashkboos et al. 2024, section 3).
 *
 * What was cut counts as 0: a norm divides by the root mean square over d channels, so
 * with the mean over m its weight gets the factor sqrt(d / m).
 *
 * A basis may be one for the whole model, or one for each place at which the stream is
 * read: place 2 l is the attention block of layer l, 2 l + 1 its MLP, 2 L the final
 * norm.  Then a block writes in the basis B' of the next place, and turns what passes
 * by: z' = z + (R - I) z + B'^T W y with R = B'^T B.  No format can hold that.     */
#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "base/linalg.h"
#include "base/mem.h"
#include "base/pool.h"
#include "plan/part.h"

/* ---- bases ---------------------------------------------------------------------- */

static int32_t place_of(enum lm_segment_kind kind, int32_t layer, int32_t n_layer)
{
    return kind == LM_SEG_EMBED ? -1 : kind == LM_SEG_HEAD ? 2 * n_layer
         : 2 * layer + (kind == LM_SEG_MLP);
}

/* Where the stream is read next, under the plan. */
static int32_t place_behind(const struct lm_plan *p, int32_t place)
{
    int32_t last = 2 * p->arch->n_layer;

    while (++place < last) {
        const struct lm_layer_plan *l = &p->layer[place / 2];

        if (!(place % 2 ? l->drop_mlp : l->drop_attn))
            break;
    }
    return place < last ? place : last;
}

static enum lm_status list_kept(struct lm_basis *b, const struct lm_plan *p,
                                struct lm_err *e)
{
    int32_t n = 0;

    b->kept = lm_alloc_array((size_t)p->hidden.kept, sizeof *b->kept, "hidden");
    if (!b->kept)
        return lm_fail_memory(e, (size_t)p->hidden.kept * sizeof *b->kept, "a width");
    for (int32_t i = 0; i < p->hidden.n; i++)
        if (lm_keep_has(&p->hidden, i))
            b->kept[n++] = i;
    b->built = true;
    return LM_OK;
}

enum lm_status lm_basis_find(struct lm_workshop *w, const struct lm_plan *p,
                             const struct lm_repair_choice *r, struct lm_basis **out,
                             struct lm_err *e)
{
    bool makes = r->ops && r->ops->basis;
    size_t words = ((size_t)p->hidden.n + 63) / 64;
    uint64_t key = makes
        ? lm_hash_u64(w->stats, lm_hash_u64(r->key, 0x62617369))        /* "basi" */
        : lm_hash(p->hidden.bits, words * sizeof *p->hidden.bits, 0x6b657074);
    struct lm_basis *b = w->bases;
    enum lm_status st = LM_OK;

    while (b && b->key != key)
        b = b->next;
    if (!(*out = b)) {
        if (!(b = lm_alloc(sizeof *b, "hidden")))
            return lm_fail_memory(e, sizeof *b, "a width");
        *b = (struct lm_basis){ .key = key, .repair = *r,
                                .each = makes && r->turns,
                                .n = makes && r->turns ? 2 * p->arch->n_layer + 1 : 1 };
        if (!makes && (st = list_kept(b, p, e))) {
            lm_release(b);
            return st;
        }
        b->next = w->bases;
        *out = w->bases = b;
    }
    return LM_OK;
}

void lm_bases_free(struct lm_workshop *w)
{
    while (w->bases) {
        struct lm_basis *b = w->bases;

        w->bases = b->next;
        lm_stock_give(&w->stock, &b->memory);
        lm_release(b->kept);
        lm_release(b);
    }
}

static bool has_place(const struct lm_arch *a, int32_t place)
{
    if (place == 2 * a->n_layer)
        return true;
    return place % 2 ? a->layer[place / 2].n_ff > 0 : a->layer[place / 2].n_kv > 0;
}

struct making {                         /* a basis that is being made */
    const struct lm_workshop_args *args;
    struct lm_basis *b;
    const double **gram;                /* [2 L + 1], NULL: no such place */
    pthread_mutex_t lock;
    int32_t at;                         /* place of `err` */
};

static enum lm_status find_grams(struct making *m, struct lm_err *e)
{
    const struct lm_arch *a = lm_model_arch(m->args->model);
    int32_t last = 2 * a->n_layer;
    int64_t d = a->hidden, n;
    enum lm_status st = LM_OK;

    if (!m->args->stats)
        return lm_fail(e, LM_ECONFIG, "repair needs calibration statistics, but the "
                       "pipeline has none; name a calibration text");
    for (int32_t i = 0; !st && i <= last; i++) {
        uint32_t site = i == last ? LM_SITE_HIDDEN : i % 2 ? LM_SITE_MLP : LM_SITE_ATTN;

        if (!has_place(a, i))
            continue;
        st = lm_stats_get(m->args->stats, LM_STAT_STREAM, site, i == last ? -1 : i / 2,
                          &m->gram[i], &n, e);
        if (!st && n != d * d)
            st = lm_fail(e, LM_EBUG, "a statistic has %lld values, %lld are needed",
                         (long long)n, (long long)(d * d));
    }
    return st;
}

static enum lm_status make_at(struct making *m, int32_t i, struct lm_err *e)
{
    const struct lm_arch *a = lm_model_arch(m->args->model);
    int32_t most = 2 * a->n_layer + 1;
    const struct lm_repair_choice *r = &m->b->repair;
    int64_t d = a->hidden;
    float *out = m->b->memory.v + i * d * d;
    const double **gram = lm_alloc_array((size_t)most, sizeof *gram, "hidden");
    struct lm_stream_site s = { .struct_size = sizeof s, .d = d, .gram = gram,
                                .tokens = lm_stats_tokens(m->args->stats) };
    enum lm_status st;

    if (!gram)
        return lm_fail_memory(e, (size_t)most * sizeof *gram, "a basis");
    for (int32_t k = 0; k < most; k++)
        if (m->gram[k] && (!m->b->each || k == i))
            gram[s.n++] = m->gram[k];
    st = s.n ? lm_part_blame(r->ops->basis(r->self, &s, out, e), "repair", e) : LM_OK;
    for (int64_t k = 0; !st && k < d * d; k++)
        if (!isfinite(out[k]))
            st = lm_fail(e, LM_EFAILED, "the repair's basis of the residual stream has a "
                         "value that is not finite");
    lm_release(gram);
    return st;
}

static void make_one(void *ctx, int64_t i, uint32_t worker)
{
    struct making *m = ctx;
    struct lm_err why = { .code = LM_OK };

    (void)worker;
    if (!(lm_canceled() ? lm_fail(&why, LM_ECANCELED, "canceled")
                        : make_at(m, (int32_t)i, &why)))
        return;
    pthread_mutex_lock(&m->lock);
    if (!m->b->err.code || i < m->at) {
        m->b->err = why;
        m->at = (int32_t)i;
    }
    pthread_mutex_unlock(&m->lock);
}

static void make_basis(const struct lm_workshop_args *a, struct lm_basis *b)
{
    const struct lm_arch *arch = lm_model_arch(a->model);
    size_t places = 2 * (size_t)arch->n_layer + 1, d = (size_t)arch->hidden;
    struct making m = { .args = a, .b = b,
                        .gram = lm_alloc_array(places, sizeof *m.gram, "hidden") };
    enum lm_status st = m.gram ? find_grams(&m, &b->err)
                               : lm_fail_memory(&b->err, places * 8, "a basis");

    if (!st && !b->memory.v)
        st = lm_stock_take(a->stock, (size_t)b->n * d * d * sizeof(float),
                           "a basis of the residual stream", &b->memory, &b->err);
    if (!st) {
        pthread_mutex_init(&m.lock, NULL);
        if (lm_parallel(b->n, make_one, &m) && !b->err.code)
            lm_fail(&b->err, LM_ECANCELED, "canceled");
        pthread_mutex_destroy(&m.lock);
    }
    b->built = b->err.code == LM_OK;
    lm_release(m.gram);
}

void lm_bases_make(struct lm_workshop *w)
{
    for (struct lm_basis *b = w->bases; b; b = b->next)
        if (!b->built) {
            b->err.code = LM_OK;
            make_basis(&w->args, b);
        }
}

/* ---- what a plan wants ---------------------------------------------------------- */

void lm_narrow_choose(const struct lm_plan *plan, const struct lm_part *base,
                      struct lm_basis *basis, struct lm_narrow *out, uint64_t *key)
{
    int32_t place = place_of(base->kind, base->layer, plan->arch->n_layer);

    *out = (struct lm_narrow){ .basis = basis, .width = plan->hidden.kept };
    if (basis->each) {
        out->from = place < 0 ? 0 : place;
        out->to = place_behind(plan, place);
    }
    *key = lm_hash_u64(basis->key, lm_hash_str("narrow", base->key));
    *key = lm_hash_u64((uint64_t)(uint32_t)out->to << 32 | (uint32_t)out->width, *key);
}

/* ---- matrices -------------------------------------------------------------------- */

struct view { const float *v; int64_t d, m; const int32_t *kept; };     /* B */

static struct view view_at(const struct lm_narrow *n, int64_t d, int32_t place)
{
    const struct lm_basis *b = n->basis;

    return (struct view){ b->kept ? NULL : b->memory.v + place * d * d, d, n->width,
                          b->kept };
}

static float at(const struct view *b, int64_t i, int64_t j)
{
    return b->kept ? b->kept[j] == i : b->v[i * b->d + j];
}

/* out [rows][m] = W B; scaled: diag(g) B [d][m], of directions. */
static void read_through(const struct view *b, const struct lm_mat *w,
                         const float *scaled, float *out)
{
    if (!b->kept) {
        lm_gemm('n', 'n', w->rows, b->m, b->d, 1, w->w, w->stride, scaled, b->m, 0, out,
                b->m);
        return;
    }
    for (int64_t r = 0; r < w->rows; r++)
        for (int64_t j = 0; j < b->m; j++)
            out[r * b->m + j] = w->w[r * w->stride + b->kept[j]];
}

/* out [m][cols] = B^T W */
static void write_through(const struct view *b, const struct lm_mat *w, float *out)
{
    if (!b->kept)
        lm_gemm('t', 'n', b->m, w->cols, b->d, 1, b->v, b->d, w->w, w->stride, 0, out,
                w->cols);
    for (int64_t j = 0; b->kept && j < b->m; j++)
        memcpy(out + j * w->cols, w->w + b->kept[j] * w->stride,
               (size_t)w->cols * sizeof *out);
}

static void write_bias(const struct view *b, const float *bias, float *out)
{
    for (int64_t j = 0; j < b->m; j++) {
        double sum = 0;

        for (int64_t i = 0; !b->kept && i < b->d; i++)
            sum += (double)at(b, i, j) * bias[i];
        out[j] = b->kept ? bias[b->kept[j]] : (float)sum;
    }
}

static void put_norm(const struct view *b, const float *g, float *out)
{
    double c = sqrt((double)b->d / (double)b->m);

    for (int64_t j = 0; j < b->m; j++)
        out[j] = (float)(b->kept ? c * g[b->kept[j]] : c);
}

/* out [d][m] = diag(g) B, or without g what the table of embeddings is multiplied by. */
static void put_scaled(const struct view *b, const float *g, float *out)
{
    for (int64_t i = 0; i < b->d; i++)
        for (int64_t j = 0; j < b->m; j++)
            out[i * b->m + j] = at(b, i, j) * (g && !b->kept ? g[i] : 1);
}

/* out [m][m] = B'^T B - I */
static void put_turn(const struct view *from, const struct view *to, float *out)
{
    int64_t m = from->m;

    lm_gemm('t', 'n', m, m, from->d, 1, to->v, to->d, from->v, from->d, 0, out, m);
    for (int64_t i = 0; i < m; i++)
        out[i * m + i] -= 1;
}

enum { TABLE_ROWS = 1024 };             /* decoded at a time */

enum lm_status lm_narrow_table(const struct lm_narrow *n, const struct lm_model *m,
                               uint32_t role, const float *norm, float *out,
                               struct lm_err *e)
{
    const struct lm_arch *a = lm_model_arch(m);
    struct view b = view_at(n, a->hidden, n->from);
    size_t count = (size_t)b.d * ((size_t)b.m + TABLE_ROWS);
    float *scaled = lm_alloc_array(count, sizeof *scaled, "hidden");
    struct lm_mat w = { .cols = b.d, .stride = b.d };
    enum lm_status st = LM_OK;

    if (!scaled)
        return lm_fail_memory(e, count * sizeof *scaled, "a narrower table");
    put_scaled(&b, norm, scaled);
    w.w = scaled + b.d * b.m;
    for (int64_t r = 0; !st && r < a->vocab; r += TABLE_ROWS) {
        w.rows = a->vocab - r < TABLE_ROWS ? a->vocab - r : TABLE_ROWS;
        if (!(st = lm_model_rows(m, role, -1, r, w.rows, scaled + b.d * b.m, e)))
            read_through(&b, &w, scaled, out + r * b.m);
    }
    lm_release(scaled);
    return st;
}

/* ---- segments -------------------------------------------------------------------- */

/* Room for n floats at the end of what is laid out. */
static size_t put_room(size_t *all, int64_t n)
{
    size_t first = *all;

    *all += ((size_t)n + 15) / 16 * 16;
    return first;
}

struct layout { size_t norm, turn, mat[4], bias, all; };

static struct layout lay_out(const struct lm_part *p, struct lm_segment_spec *s,
                             int64_t d)
{
    struct layout l = { .all = 0 };
    int64_t m = p->narrow.width;
    int n = p->kind == LM_SEG_MLP ? 3 : p->kind == LM_SEG_ATTN ? 4 : 0;

    l.norm = put_room(&l.all, m);
    l.turn = put_room(&l.all, !n ? d * m : p->narrow.basis->each ? m * m : 0);
    l.bias = put_room(&l.all, n ? m : 0);
    for (int i = 0; i < n; i++) {
        const struct lm_mat *w = lm_segment_mat(s, i);

        l.mat[i] = put_room(&l.all, m * (i + 1 < n ? w->rows : w->cols));
    }
    return l;
}

static void set_matrix(struct lm_mat *w, const float *v, int64_t rows, int64_t cols)
{
    w->w = v;
    w->rows = rows;
    w->cols = w->stride = cols;
    w->whole = 0;
    w->coded.data = NULL;
}

static enum lm_status narrow_block(struct lm_part *p, struct lm_segment_spec *s,
                                   const struct layout *l, int64_t d, struct lm_err *e)
{
    struct view b = view_at(&p->narrow, d, p->narrow.from);
    struct view to = view_at(&p->narrow, d, p->narrow.to);
    float *v = p->consumer.v;
    size_t count = (size_t)b.d * (size_t)b.m;
    float *scaled = b.kept ? NULL : lm_alloc_array(count, sizeof *scaled, "hidden");
    int last = p->kind == LM_SEG_MLP ? 2 : 3;
    struct lm_mat *w = lm_segment_mat(s, last);

    if (!b.kept && !scaled)
        return lm_fail_memory(e, count * sizeof *scaled, "a narrower block");
    if (scaled)
        put_scaled(&b, s->norm, scaled);
    for (int i = 0; i < last; i++) {
        struct lm_mat *in = lm_segment_mat(s, i);

        read_through(&b, in, scaled, v + l->mat[i]);
        set_matrix(in, v + l->mat[i], in->rows, b.m);
    }
    write_through(&to, w, v + l->mat[last]);
    set_matrix(w, v + l->mat[last], b.m, w->cols);
    if (w->bias) {
        write_bias(&to, w->bias, v + l->bias);
        p->bias = p->base->bias ? v + l->bias : NULL;
        w->bias = v + l->bias;
    }
    if (p->narrow.basis->each) {
        put_turn(&b, &to, v + l->turn);
        set_matrix(&s->turn, v + l->turn, b.m, b.m);
    }
    lm_release(scaled);
    return LM_OK;
}

static void narrow_end(const struct lm_part *p, struct lm_segment_spec *s,
                       const struct layout *l, int64_t d)
{
    bool head = p->kind == LM_SEG_HEAD;
    struct view b = view_at(&p->narrow, d, head ? p->narrow.from : p->narrow.to);
    float *turn = p->consumer.v + l->turn;

    if (head)
        put_scaled(&b, s->norm, turn);
    for (int64_t j = 0; !head && j < b.m; j++)
        for (int64_t i = 0; i < d; i++)
            turn[j * d + i] = at(&b, i, j);
    set_matrix(&s->turn, turn, head ? d : b.m, head ? b.m : d);
}

/* The base is held, if it is a block. */
static enum lm_status build(const struct lm_workshop_args *a, struct lm_part *p,
                            struct lm_err *e)
{
    struct lm_segment_spec s = *lm_segment_spec(p->base->seg);
    int64_t d = lm_model_arch(a->model)->hidden;
    bool block = p->kind == LM_SEG_MLP || p->kind == LM_SEG_ATTN;
    struct layout l = lay_out(p, &s, d);
    enum lm_status st = lm_stock_take(a->stock, l.all * sizeof(float), "narrower weights",
                                      &p->consumer, e);

    if (st)
        return st;
    if (block)
        st = narrow_block(p, &s, &l, d, e);
    else
        narrow_end(p, &s, &l, d);
    if (st)
        return st;
    if (!block)                         /* of a streamed model the table comes and goes */
        s.table = lm_segment_lasting(p->base->seg).table;
    if (s.norm) {
        struct view b = view_at(&p->narrow, d, 0);

        put_norm(&b, s.norm, p->consumer.v + l.norm);
        s.norm = p->consumer.v + l.norm;
    }
    s.hidden = p->narrow.width;
    s.key = p->key;
    return lm_segment_open(a->engine, &s, &p->seg, e);
}

void lm_part_narrow(const struct lm_workshop_args *a, struct lm_part_job *j)
{
    const struct lm_basis *b = j->part->narrow.basis;
    struct lm_segment *base = j->part->base->seg;
    bool block = j->part->layer >= 0;   /* tables are not looked at */
    enum lm_status st = !b->built ? b->err.code
                      : block ? lm_segment_hold(base, &j->err) : LM_OK;

    if (!b->built)
        j->err = b->err;
    if (!st) {
        st = build(a, j->part, &j->err);
        if (block)
            lm_segment_drop(base);
    }
    if (!st)
        j->err.code = LM_OK;
    else if (j->err.code != LM_ECANCELED && b->built && block)
        lm_err_prefix(&j->err, "layer %d, ", j->part->layer);
}
