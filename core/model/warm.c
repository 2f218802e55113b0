/* SPDX-License-Identifier: Apache-2.0 */
/* warm.c -- segments of a model that is larger than memory, and packed weights.
 *
 * An engine that streams opens its segments without the matrices that would have to
 * be decoded: they keep shapes and vectors.  Who runs a segment holds it; the first
 * to do so decodes the matrices and compiles the programs, the others wait.  What
 * nobody holds stays until its room is wanted.  Then what this batch has not used goes
 * first, the oldest of it; of what it has, the last one: segments are run window by window
 * in the same order, so the oldest would be the next to be wanted, and all would come
 * and go where only a few do not fit.  What is held is never let go, so a budget below
 * what threads hold at a time is exceeded by just that.
 *
 * An engine that does not stream treats in this way what a backend packs of weights for
 * bf16 and int8 programs: who runs a segment in such a precision compiles it, and when
 * nobody holds it, these programs may go.  Matrices that begin at the same address, as
 * the widths of an ordered one do, count once, by the largest: the cpu backend packs them
 * once.
 *
 * Decoding gives the same floats each time, so that nothing computed depends on what
 * was at hand.                                                                   */
#include <string.h>

#include "base/mem.h"
#include "base/pool.h"
#include "model/segment.h"

enum { BLOCK = 64 };                    /* rows that a thread decodes at a time */

void lm_engine_stream(struct lm_engine *g, size_t bytes)
{
    g->streams = true;
    g->budget = bytes;
}

void lm_engine_pack(struct lm_engine *g, size_t bytes)
{
    if (!g->streams)
        g->budget = bytes;
}

bool lm_engine_streams(const struct lm_engine *g)
{
    return g->streams;
}

/* ---- the matrices of a spec ----------------------------------------------------- */

struct lm_mat *lm_segment_mat(struct lm_segment_spec *s, int i)
{
    struct lm_mat *attn[] = { &s->q, &s->k, &s->v, &s->o };
    struct lm_mat *mlp[] = { &s->gate, &s->up, &s->down };
    int n = s->kind == LM_SEG_ATTN ? 4 : s->kind == LM_SEG_MLP ? 3 : 1;

    if (i >= n)
        return i == n && s->turn.w ? &s->turn : NULL;
    return n == 4 ? attn[i] : n == 3 ? mlp[i] : &s->table;
}

static uint32_t role_of(const struct lm_model *m, const struct lm_segment_spec *s, int i)
{
    static const uint32_t attn[] = { LM_W_Q, LM_W_K, LM_W_V, LM_W_O };
    static const uint32_t mlp[] = { LM_W_GATE, LM_W_UP, LM_W_DOWN };

    switch (s->kind) {
    case LM_SEG_ATTN: return attn[i];
    case LM_SEG_MLP:  return mlp[i];
    case LM_SEG_HEAD: return lm_model_arch(m)->tied ? LM_W_EMBED : LM_W_HEAD;
    default:          return LM_W_EMBED;
    }
}

struct decoding {
    const struct lm_model *m;
    uint32_t role;
    int32_t layer;
    int64_t rows, cols;
    float *to;
    struct lm_err err;
    pthread_mutex_t lock;
};

static void decode_block(void *ctx, int64_t i, uint32_t worker)
{
    struct decoding *d = ctx;
    int64_t first = i * BLOCK, n = d->rows - first < BLOCK ? d->rows - first : BLOCK;
    struct lm_err why = { 0 };

    (void)worker;
    if (!lm_model_rows(d->m, d->role, d->layer, first, n, d->to + first * d->cols, &why))
        return;
    pthread_mutex_lock(&d->lock);
    if (!d->err.code)
        d->err = why;
    pthread_mutex_unlock(&d->lock);
}

static enum lm_status decode_all(struct decoding *d, struct lm_err *e)
{
    pthread_mutex_init(&d->lock, NULL);
    enum lm_status st = lm_parallel((d->rows + BLOCK - 1) / BLOCK, decode_block, d);
    pthread_mutex_destroy(&d->lock);
    if (d->err.code) {
        *e = d->err;
        return d->err.code;
    }
    return st ? lm_fail(e, st, "interrupted") : LM_OK;
}

static size_t floats_missing(struct lm_segment_spec *s)
{
    const struct lm_mat *m;
    size_t n = 0;

    for (int i = 0; (m = lm_segment_mat(s, i)); i++)
        n += m->w ? 0 : (size_t)m->rows * (size_t)m->cols;
    return n;
}

enum lm_status lm_dense_load(const struct lm_model *m, struct lm_segment_spec *s,
                             float **memory, struct lm_err *e)
{
    size_t n = floats_missing(s);
    enum lm_status st = LM_OK;
    struct lm_mat *mat;
    float *at;

    *memory = NULL;
    if (!n)
        return LM_OK;
    if (!(at = *memory = lm_alloc_array(n, sizeof *at, "weights")))
        return lm_fail_memory(e, n * sizeof *at, "decoded weights");
    for (int i = 0; !st && (mat = lm_segment_mat(s, i)); i++) {
        if (mat->w)
            continue;
        struct decoding d = { .m = m, .role = role_of(m, s, i), .layer = s->layer,
                              .rows = mat->rows, .cols = mat->cols, .to = at };

        st = decode_all(&d, e);
        mat->w = at;
        at += mat->rows * mat->cols;
    }
    if (st) {
        lm_release(*memory);
        *memory = NULL;
    }
    return st;
}

/* ---- coming and going ------------------------------------------------------------- */

struct lm_segment_spec lm_segment_lasting(const struct lm_segment *s)
{
    struct lm_segment_spec spec = s->spec;
    struct lm_mat *m;

    for (int i = 0; (m = lm_segment_mat(&spec, i)); i++)
        if (s->missing & LM_BIT(i))
            m->w = NULL;
    return spec;
}

static void forget_missing(struct lm_segment *s)
{
    s->spec = lm_segment_lasting(s);
    lm_release(s->memory);
    s->memory = NULL;
}

static struct lm_packed **bucket_of(struct lm_engine *g, const float *w)
{
    return &g->packed[(uintptr_t)w / 64 % LM_PACKED_BUCKETS];
}

/* Bytes of the largest one that others have packed. */
static size_t packed_beside(struct lm_engine *g, const struct lm_packed *p)
{
    size_t most = 0;

    for (const struct lm_packed *o = *bucket_of(g, p->w); o; o = o->next)
        if (o != p && o->w == p->w && o->precision == p->precision && o->bytes > most)
            most = o->bytes;
    return most;
}

/* Under the lock. */
static void count_packed(struct lm_segment *s, uint32_t precision)
{
    struct lm_engine *g = s->g;
    struct lm_mat *m;

    for (int i = 0; (m = lm_segment_mat(&s->spec, i)); i++) {
        struct lm_packed *p = &s->packed[precision][i], **b = bucket_of(g, m->w);

        *p = (struct lm_packed){ .w = m->w, .precision = precision, .next = *b,
                                 .bytes = (size_t)m->rows * (size_t)m->cols
                                          * (precision == LM_AS_INT8 ? 1 : 2) };
        *b = p;
        size_t beside = packed_beside(g, p);
        g->used += p->bytes > beside ? p->bytes - beside : 0;
    }
}

/* Under the lock. */
static void uncount_packed(struct lm_segment *s)
{
    struct lm_engine *g = s->g;

    for (int k = 0; k < LM_N_PRECISIONS * LM_SEGMENT_MATS; k++) {
        struct lm_packed *p = &s->packed[k / LM_SEGMENT_MATS][k % LM_SEGMENT_MATS], **at;

        if (!p->w)
            continue;
        for (at = bucket_of(g, p->w); *at != p; at = &(*at)->next)
            ;
        *at = p->next;
        size_t beside = packed_beside(g, p);
        g->used -= p->bytes > beside ? p->bytes - beside : 0;
        p->w = NULL;
    }
}

/* Under the lock. */
static void unload(struct lm_segment *s)
{
    struct lm_segment **at = &s->g->loaded;

    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    s->is_loaded = false;
    s->g->used -= s->bytes;
    s->bytes = 0;
    uncount_packed(s);
    if (!s->g->streams) {
        lm_segment_unpack(s);
        return;
    }
    lm_segment_unload(s);
    forget_missing(s);
}

/* Under the lock. */
static void enter(struct lm_segment *s)
{
    s->is_loaded = true;
    s->next = s->g->loaded;
    s->g->loaded = s;
}

void lm_engine_turn(struct lm_engine *g)
{
    pthread_mutex_lock(&g->lock);
    g->turn = g->clock;
    pthread_mutex_unlock(&g->lock);
}

/* Does s go before t? */
static bool goes_first(const struct lm_engine *g, const struct lm_segment *s,
                       const struct lm_segment *t)
{
    if (s->last <= g->turn || t->last <= g->turn)
        return s->last < t->last;
    return s->last > t->last;
}

/* Under the lock. */
static void make_room(struct lm_engine *g, size_t bytes)
{
    while (bytes > g->budget || g->used > g->budget - bytes) {
        struct lm_segment *first = NULL;

        for (struct lm_segment *s = g->loaded; s; s = s->next)
            if (!s->holds && (!first || goes_first(g, s, first)))
                first = s;
        if (!first)
            return;
        unload(first);
    }
}

/* Under the lock, which is open while the matrices are decoded. */
static enum lm_status bring(struct lm_segment *s, struct lm_err *e)
{
    struct lm_engine *g = s->g;

    s->bytes = floats_missing(&s->spec) * sizeof(float);
    make_room(g, s->bytes);
    g->used += s->bytes;
    s->is_loading = true;
    pthread_mutex_unlock(&g->lock);
    enum lm_status st = lm_dense_load(g->model, &s->spec, &s->memory, e);
    if (!st && (st = lm_segment_load(s, e)))
        lm_segment_unload(s);
    pthread_mutex_lock(&g->lock);
    s->is_loading = false;
    pthread_cond_broadcast(&g->settled);
    if (st) {
        g->used -= s->bytes;
        forget_missing(s);
        return st;
    }
    enter(s);
    return LM_OK;
}

enum lm_status lm_segment_hold(struct lm_segment *s, struct lm_err *e)
{
    struct lm_engine *g = s->g;
    enum lm_status st = LM_OK;

    pthread_mutex_lock(&g->lock);
    while (s->is_loading)
        pthread_cond_wait(&g->settled, &g->lock);
    if (g->streams && !s->is_loaded)
        st = bring(s, e);
    if (!st) {
        s->holds++;
        s->last = ++g->clock;
    }
    pthread_mutex_unlock(&g->lock);
    return st;
}

void lm_segment_drop(struct lm_segment *s)
{
    struct lm_engine *g = s->g;

    pthread_mutex_lock(&g->lock);
    s->holds--;
    make_room(g, 0);
    pthread_mutex_unlock(&g->lock);
}

void lm_segment_pack(struct lm_segment *s, uint32_t precision)
{
    struct lm_engine *g = s->g;

    pthread_mutex_lock(&g->lock);
    if (!s->is_loaded)
        enter(s);
    if (!s->packed[precision][0].w)     /* else a compilation has failed before */
        count_packed(s, precision);
    make_room(g, 0);
    pthread_mutex_unlock(&g->lock);
}

void lm_segment_settle(struct lm_segment *s)
{
    pthread_mutex_lock(&s->g->lock);
    if (s->is_loaded)
        unload(s);
    pthread_mutex_unlock(&s->g->lock);
}

size_t lm_engine_loaded(struct lm_engine *g)
{
    pthread_mutex_lock(&g->lock);
    size_t n = g->used;
    pthread_mutex_unlock(&g->lock);
    return n;
}
