/* SPDX-License-Identifier: Apache-2.0 */
/* teacher.c -- the dense model's side of KL(dense || candidate), once per window.
 *
 *   KL_t = sum_v p_t(v) (ln p_t(v) - ln q_t(v))
 *        = sum p ln p  -  e_t . h_t  +  logsumexp(W h_t),   e_t = sum_v p_t(v) W_v
 *
 * because a candidate's logits are W h with the dense model's head W.  So a
 * lesson is `hidden` floats and one number per token in place of `vocab`.
 * Lessons stay until the memory given is used up; later windows are computed
 * for each call anew, with the same result.                                  */
#include <pthread.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "model/segment.h"

struct entry {
    uint64_t hash;                      /* of precision and ids */
    uint32_t precision;
    int32_t *ids;
    size_t n;
    struct lm_lesson lesson;
    struct entry *next;
};

struct lm_teacher {
    struct lm_engine *g;
    const struct lm_network *dense;
    size_t memory, used;
    pthread_mutex_t lock;               /* guards `used` and the list */
    struct entry *first;
};

enum lm_status lm_teacher_open(struct lm_engine *g, const struct lm_network *dense,
                               size_t memory, struct lm_teacher **out, struct lm_err *e)
{
    *out = NULL;
    enum lm_status st = lm_network_check(dense, e);
    if (st)
        return st;
    struct lm_teacher *t = lm_alloc(sizeof *t, "teacher");
    if (!t)
        return lm_fail_memory(e, sizeof *t, "a teacher");
    t->g = g;
    t->dense = dense;
    t->memory = memory;
    pthread_mutex_init(&t->lock, NULL);
    *out = t;
    return LM_OK;
}

static void entry_free(struct entry *x)
{
    if (!x)
        return;
    lm_release(x->ids);
    lm_release(x->lesson.expect);
    lm_release(x->lesson.plogp);
    lm_release(x);
}

void lm_teacher_close(struct lm_teacher *t)
{
    if (!t)
        return;
    for (struct entry *x = t->first, *next; x; x = next) {
        next = x->next;
        entry_free(x);
    }
    pthread_mutex_destroy(&t->lock);
    lm_release(t);
}

/* Under the lock.  Entries are never changed or removed once listed. */
static struct entry *find(struct lm_teacher *t, uint64_t hash, uint32_t precision,
                          const int32_t *ids, size_t n)
{
    for (struct entry *x = t->first; x; x = x->next)
        if (x->hash == hash && x->precision == precision && x->n == n
            && memcmp(x->ids, ids, n * sizeof *ids) == 0)
            return x;
    return NULL;
}

/* With this lesson, whose arrays it takes over, or (NULL) with room for one. */
static enum lm_status entry_open(struct lm_teacher *t, uint32_t precision,
                                 const int32_t *ids, size_t n,
                                 const struct lm_lesson *lesson, struct entry **out,
                                 struct lm_err *e)
{
    size_t hidden = (size_t)t->g->arch->hidden, floats = 0;
    struct entry *x = lm_alloc(sizeof *x, "teacher");
    if (x && lm_mul_size(n, hidden, &floats)) {
        x->n = n;
        x->precision = precision;
        x->ids = lm_alloc_array(n, sizeof *ids, "teacher");
    }
    if (x && x->ids && lesson) {
        x->lesson.expect = lesson->expect;
        x->lesson.plogp = lesson->plogp;
    } else if (x && x->ids) {
        x->lesson.expect = lm_alloc_array(floats, sizeof(float), "teacher");
        x->lesson.plogp = lm_alloc_array(n, sizeof(float), "teacher");
    }
    if (!x || !x->ids || !x->lesson.expect || !x->lesson.plogp) {
        entry_free(x);
        return lm_fail_memory(e, floats * sizeof(float), "the dense model's predictions");
    }
    memcpy(x->ids, ids, n * sizeof *ids);
    *out = x;
    return LM_OK;
}

static enum lm_status compute(struct lm_teacher *t, struct lm_runner *r,
                              uint32_t precision, const int32_t *ids, size_t n,
                              struct entry **out, struct lm_err *e)
{
    struct lm_network dense = *t->dense;
    struct entry *x = NULL;
    enum lm_status st = entry_open(t, precision, ids, n, NULL, &x, e);
    if (st)
        return st;
    dense.precision = precision;
    st = lm_runner_expect(r, &dense, ids, n, x->lesson.expect, x->lesson.plogp, e);
    if (st)
        entry_free(x);
    else
        *out = x;
    return st;
}

/* Lists x if there is room and no other worker was faster; else hands its arrays
 * over to *out. */
static void settle(struct lm_teacher *t, struct entry *x, struct lm_lesson *out)
{
    size_t bytes = x->n * ((size_t)t->g->arch->hidden + 2) * sizeof(float) + sizeof *x;
    pthread_mutex_lock(&t->lock);
    struct entry *known = find(t, x->hash, x->precision, x->ids, x->n);
    bool room = !known && bytes <= t->memory - t->used;
    if (room) {
        x->next = t->first;
        t->first = x;
        t->used += bytes;
    }
    pthread_mutex_unlock(&t->lock);
    *out = known ? known->lesson : x->lesson;
    out->owned = !known && !room;
    if (room)
        return;
    if (out->owned)
        x->lesson = (struct lm_lesson){ 0 };
    entry_free(x);
}

static uint64_t hash_of(uint32_t precision, const int32_t *ids, size_t n)
{
    return lm_hash(ids, n * sizeof *ids, lm_hash_u64(precision, n));
}

bool lm_teacher_knows(struct lm_teacher *t, uint32_t precision, const int32_t *ids,
                      size_t n, struct lm_lesson *out)
{
    uint64_t hash = hash_of(precision, ids, n);
    pthread_mutex_lock(&t->lock);
    struct entry *x = find(t, hash, precision, ids, n);
    pthread_mutex_unlock(&t->lock);
    if (x)
        *out = x->lesson;
    return x != NULL;
}

enum lm_status lm_teacher_tell(struct lm_teacher *t, uint32_t precision,
                               const int32_t *ids, size_t n,
                               struct lm_lesson *lesson, struct lm_err *e)
{
    struct entry *x = NULL;
    enum lm_status st = entry_open(t, precision, ids, n, lesson, &x, e);
    if (st)
        return st;
    x->hash = hash_of(precision, ids, n);
    settle(t, x, lesson);
    return LM_OK;
}

size_t lm_teacher_wants(struct lm_teacher *t, uint32_t precision, const int32_t *ids,
                        size_t n)
{
    struct lm_lesson known;
    return lm_teacher_knows(t, precision, ids, n, &known)
        ? 0 : 2 * n * (size_t)t->g->arch->hidden * sizeof(float);
}

const struct lm_network *lm_teacher_dense(const struct lm_teacher *t)
{
    return t->dense;
}

enum lm_status lm_teacher_lesson(struct lm_teacher *t, struct lm_runner *r,
                                 uint32_t precision, const int32_t *ids, size_t n,
                                 struct lm_lesson *out, struct lm_err *e)
{
    struct entry *x;
    enum lm_status st = lm_ids_check(t->g->arch, ids, n, e);
    if (st || lm_teacher_knows(t, precision, ids, n, out))
        return st;
    st = compute(t, r, precision, ids, n, &x, e);
    if (st)
        return st;
    x->hash = hash_of(precision, ids, n);
    settle(t, x, out);
    return LM_OK;
}
