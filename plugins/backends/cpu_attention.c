/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_attention.c -- causal attention, blocked over queries and keys.
 *
 * Keys and values of a head are packed once for the query heads that share
 * them: keys as the weights of scores = q K^T, values as those of y = p V.  For
 * QUERIES rows at a time, blocks of KEYS keys give scores; softmax keeps a
 * running maximum and sum for each row, and scales what was added to y before
 * when the maximum grows (Dao et al. 2022, FlashAttention, algorithm 1).  Keys
 * that a row does not see have weight 0, which adds nothing: so a row's result
 * does not depend on the rows around it.
 *
 * Factors are bf16 in programs of bf16 and int8, else f32.  A few rows (decoding)
 * are done one by one in f32, from the cache as it lies: all query heads of a group
 * at once, so that its keys and values are read once.                         */
#include <math.h>

#include "cpu.h"

enum {
    QUERIES = 48, KEYS = 512,           /* at least CPU_PANEL; its multiple */
    FEW = 4                             /* up to so many rows are done one by one */
};

/* Numbers per piece of scratch, and where parts of it begin. */
struct room { int64_t key, value, query, row, score, weight, total; };

struct attention {
    const struct call *c;
    const struct cpu_format *f;
    int64_t keys, d, words;             /* keys: all; words of a key */
    struct room at;
};

struct head {                           /* one query head */
    const float *q, *k, *v;
    float *y, *scratch;
    int64_t ldq, ldk, ldy, d;
    float scale;
};

static struct head head_of(const struct attention *t, int64_t i, int64_t piece)
{
    const struct call *c = t->c;
    const struct lm_op *o = c->o;
    const struct lm_kv *kv = c->arg->kv;
    int64_t at = i / (o->n_head / o->n_kv) * t->d;
    return (struct head){
        .q = cpu_reg(c, o->a) + i * t->d, .ldq = c->x->width[o->a],
        .k = kv->k[o->slot] + at, .v = kv->v[o->slot] + at, .ldk = kv->width[o->slot],
        .y = cpu_reg(c, o->y) + i * t->d, .ldy = c->x->width[o->y],
        .scratch = c->s->scratch.v + piece * t->at.total,
        .d = t->d, .scale = 1 / sqrtf((float)t->d)
    };
}

/* ---- few rows ---------------------------------------------------------------------- */
/* One row of `heads` query heads, the first of which is h, against `keys` keys. */
static void attend_row(const struct machine_cpu *m, const struct head *h, int64_t r,
                       int64_t heads, int64_t keys)
{
    const struct cpu_kernels *f = m->kernel;
    float *y = h->y + r * h->ldy, *score = h->scratch;
    m->product->few(score, keys, h->q + r * h->ldq, h->d, heads, h->k, h->ldk, keys, h->d,
                    false);
    f->scale(score, h->scale, heads * keys);
    for (int64_t i = 0; i < heads; i++) {
        float *p = score + i * keys, sum = f->exp_all(p, keys, f->max(p, keys));
        f->scale(p, 1 / sum, keys);
    }
    f->mix(y, h->d, score, keys, heads, h->v, h->ldk, keys, h->d);
}

/* Key-value heads first .. last-1. */
static void rows_part(const struct call *c, const void *with, int64_t first, int64_t last,
                      int64_t piece)
{
    const struct attention *t = with;
    int64_t share = c->o->n_head / c->o->n_kv;
    for (int64_t g = first; g < last; g++) {
        struct head h = head_of(t, g * share, piece);
        for (int64_t r = 0; r < c->arg->rows; r++)
            attend_row(c->m, &h, r, share, c->arg->pos + r + 1);
    }
}

/* ---- blocks ------------------------------------------------------------------------ */
static uint32_t *words_at(const struct head *h, int64_t at)
{
    return (uint32_t *)(void *)(h->scratch + at);
}

static void pack_keys(const struct attention *t, const struct head *h)
{
    uint32_t *row = words_at(h, t->at.query);   /* free until queries come */
    float scale;
    for (int64_t j = 0; j < t->keys; j += CPU_PANEL) {
        int64_t n = t->keys - j < CPU_PANEL ? t->keys - j : CPU_PANEL;
        for (int64_t i = 0; i < n; i++)
            t->f->encode_a(row + i * t->words, h->k + (j + i) * h->ldk, t->d, &scale);
        t->c->m->product->panel(words_at(h, t->at.key) + j * t->words, row, t->words, n,
                                t->words);
    }
    t->f->turn(words_at(h, t->at.value), h->v, h->ldk, t->keys, t->d);
}

struct running { float max[QUERIES], sum[QUERIES]; };

/* Scores of row r -> weights of what it sees of n keys from `key` on; y follows a
 * new maximum.                                                                 */
static void soften(const struct attention *t, const struct head *h, struct running *s,
                   int64_t first, int64_t r, int64_t key, int64_t n)
{
    const struct cpu_kernels *f = t->c->m->kernel;
    float *score = h->scratch + t->at.score + r * KEYS, ignored;
    int64_t seen = t->c->arg->pos + first + r + 1 - key;
    seen = seen < 0 ? 0 : seen > n ? n : seen;
    if (seen > 0) {
        float max = f->max(score, seen), before = s->max[r];
        if (key == 0) {
            s->max[r] = max;
        } else if (max > before) {
            float scale = expf(before - max);
            f->scale(h->y + (first + r) * h->ldy, scale, t->d);
            s->sum[r] *= scale;
            s->max[r] = max;
        }
        s->sum[r] += f->exp_all(score, seen, s->max[r]);
    }
    memset(score + seen, 0, (size_t)(n - seen) * sizeof *score);
    if (t->f->group > 1)
        t->f->encode_a(words_at(h, t->at.weight) + r * (KEYS / t->f->group), score, n,
                       &ignored);
}

/* Rows first .. first+m-1 of the call. */
static void attend_block(const struct attention *t, const struct head *h, int64_t first,
                         int64_t m)
{
    const struct cpu_kernels *f = t->c->m->kernel;
    int64_t group = t->f->group, seen = t->c->arg->pos + first + m;
    float *row = h->scratch + t->at.row, ignored;
    struct running s = { .sum = { 0 } };
    for (int64_t r = 0; r < m; r++) {
        memcpy(row, h->q + (first + r) * h->ldq, (size_t)t->d * sizeof *row);
        f->scale(row, h->scale, t->d);
        t->f->encode_a(words_at(h, t->at.query) + r * t->words, row, t->d, &ignored);
    }
    for (int64_t key = 0; key < seen; key += KEYS) {
        int64_t n = seen - key < KEYS ? seen - key : KEYS;
        t->f->multiply(&(struct cpu_product){
            .a = words_at(h, t->at.query), .lda = t->words, .m = m, .n = n,
            .w = words_at(h, t->at.key) + key * t->words, .words = t->words,
            .panel = t->words * CPU_PANEL, .y = h->scratch + t->at.score, .ldy = KEYS });
        for (int64_t r = 0; r < m; r++)
            soften(t, h, &s, first, r, key, n);
        t->f->multiply(&(struct cpu_product){
            .a = words_at(h, t->at.weight), .lda = KEYS / group, .m = m, .n = t->d,
            .w = words_at(h, t->at.value) + key / group * CPU_PANEL,
            .words = cpu_words(t->f, n),
            .panel = cpu_words(t->f, t->keys) * CPU_PANEL,
            .y = h->y + first * h->ldy, .ldy = h->ldy, .add = key > 0 });
    }
    for (int64_t r = 0; r < m; r++)
        f->scale(h->y + (first + r) * h->ldy, 1 / s.sum[r], t->d);
}

/* Key-value heads first .. last-1. */
static void blocks_part(const struct call *c, const void *with, int64_t first,
                        int64_t last, int64_t piece)
{
    const struct attention *t = with;
    int64_t rows = c->arg->rows, share = c->o->n_head / c->o->n_kv;
    for (int64_t g = first; g < last; g++)
        for (int64_t i = 0; i < share; i++) {
            struct head h = head_of(t, g * share + i, piece);
            if (i == 0)
                pack_keys(t, &h);
            for (int64_t r = 0; r < rows; r += QUERIES)
                attend_block(t, &h, r, rows - r < QUERIES ? rows - r : QUERIES);
        }
}

static struct room room_of(const struct attention *t, bool few)
{
    const struct lm_op *o = t->c->o;
    struct room at = { .total = t->keys * (o->n_head / o->n_kv) };
    if (few)
        return at;
    at.value = at.key + cpu_panels(t->keys) * CPU_PANEL * t->words;
    at.query = at.value + cpu_panels(t->d) * CPU_PANEL * cpu_words(t->f, t->keys);
    at.row = at.query + QUERIES * t->words;
    at.score = at.row + t->d;
    at.weight = t->f->group == 1 ? at.score : at.score + QUERIES * KEYS;
    at.total = at.weight + QUERIES * KEYS / t->f->group;
    return at;
}

enum lm_status cpu_attention(const struct call *c, struct lm_err *e)
{
    const struct lm_op *o = c->o;
    bool few = c->arg->rows <= FEW;
    struct attention t = {
        .c = c, .f = &c->m->product->format[c->x->precision ? LM_AS_BF16 : LM_AS_F32],
        .keys = (int64_t)c->arg->pos + c->arg->rows, .d = o->head_dim
    };
    int64_t pieces = cpu_pieces(c, (double)t.keys * c->arg->rows * o->head_dim
                                   * o->n_head);
    if (pieces > o->n_kv)
        pieces = o->n_kv;
    t.words = cpu_words(t.f, t.d);
    t.at = room_of(&t, few);
    enum lm_status st = block_reserve(c->m->base.host, &c->s->scratch,
                                      (size_t)(pieces * t.at.total), "scores", e);
    return st ? st : cpu_split(c, &t, o->n_kv, 1, pieces, few ? rows_part : blocks_part,
                               e);
}
