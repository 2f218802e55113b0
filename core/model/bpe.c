/* SPDX-License-Identifier: Apache-2.0 */
/* bpe.c -- byte-pair encoding of one word.
 *
 * Sennrich et al. 2016 (arXiv:1508.07909): a word starts as the tokens of its
 * bytes or characters; while any neighbours are in the list of merges, the pair
 * of lowest rank (of equal ones the leftmost) becomes one token.  Short words
 * scan an array; long ones keep pairs in a heap over a linked list, so that a
 * word of n bytes takes O(n log n) however long it is.
 *
 * A byte-level vocabulary need not have all 256 bytes (SmolLM2 has 235); as in
 * Hugging Face's tokenizers a byte that it lacks leaves no token.             */
#include <string.h>

#include "base/mem.h"
#include "model/tokenizer_impl.h"

enum { SHORT_WORD = 40 };

/* Rank of a pair and what it becomes; LM_NO_RANK: it does not merge. */
static int32_t rank_of(const struct lm_tokenizer *t, int32_t left, int32_t right,
                       int32_t *result)
{
    const struct pair *p = &t->pair[pair_at(t, pair_key(left, right))];
    *result = p->id - 1;
    return p->id ? p->rank : LM_NO_RANK;
}

/* rank[i], result[i] belong to the pair of symbols i and i + 1. */
static size_t merge_short(const struct lm_tokenizer *t, int32_t *id, size_t n)
{
    int32_t rank[SHORT_WORD], result[SHORT_WORD];
    for (size_t i = 0; i + 1 < n; i++)
        rank[i] = rank_of(t, id[i], id[i + 1], &result[i]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best])
                best = i;
        if (rank[best] == LM_NO_RANK)
            break;
        id[best] = result[best];
        n--;
        for (size_t i = best + 1; i < n; i++) {
            id[i] = id[i + 1];
            rank[i - 1] = rank[i];
            result[i - 1] = result[i];
        }
        if (best > 0)
            rank[best - 1] = rank_of(t, id[best - 1], id[best], &result[best - 1]);
        if (best + 1 < n)
            rank[best] = rank_of(t, id[best], id[best + 1], &result[best]);
    }
    return n;
}

static bool before(const struct entry *a, const struct entry *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

/* Puts the pair that begins at symbol `at` on the heap if it merges. */
static void heap_push(struct job *j, int32_t at)
{
    const struct symbol *s = j->symbol;
    int32_t result, right = s[at].next;
    if (right < 0)
        return;
    struct entry x = { rank_of(j->t, s[at].id, s[right].id, &result), at, s[at].id,
                       s[right].id };
    if (x.rank == LM_NO_RANK)
        return;
    size_t i = j->n_heap++;
    for (; i && before(&x, &j->heap[(i - 1) / 2]); i = (i - 1) / 2)
        j->heap[i] = j->heap[(i - 1) / 2];
    j->heap[i] = x;
}

static struct entry heap_pop(struct job *j)
{
    struct entry top = j->heap[0], x = j->heap[--j->n_heap];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < j->n_heap) {
        if (child + 1 < j->n_heap && before(&j->heap[child + 1], &j->heap[child]))
            child++;
        if (!before(&j->heap[child], &x))
            break;
        j->heap[i] = j->heap[child];
        i = child;
    }
    j->heap[i] = x;
    return top;
}

/* Memory for a word of n bytes.  A merge takes one entry off the heap and puts
 * at most two on it: there are never more than n + n.                         */
static enum lm_status reserve_long(struct job *j, size_t n)
{
    if (n <= j->long_cap)
        return LM_OK;
    lm_release(j->symbol);
    lm_release(j->heap);
    j->long_cap = 0;
    j->heap = NULL;
    j->symbol = lm_alloc_array(n, sizeof *j->symbol, "long word");
    if (j->symbol && n <= SIZE_MAX / 2)
        j->heap = lm_alloc_array(2 * n, sizeof *j->heap, "long word");
    if (!j->symbol || !j->heap)
        return lm_fail_memory(j->e, n, "a long word");
    j->long_cap = n;
    return LM_OK;
}

/* ids [n] of bytes become, in place, the ids of *n_out tokens. */
static enum lm_status merge_long(struct job *j, int32_t *ids, size_t n, size_t *n_out)
{
    enum lm_status st = reserve_long(j, n);
    if (st)
        return st;
    struct symbol *s = j->symbol;
    int32_t last = (int32_t)n - 1;
    for (int32_t i = 0; i <= last; i++)
        s[i] = (struct symbol){ ids[i], i - 1, i < last ? i + 1 : -1 };
    j->n_heap = 0;
    for (int32_t i = 0; i < last; i++)
        heap_push(j, i);
    while (j->n_heap) {
        struct entry x = heap_pop(j);
        struct symbol *l = &s[x.at];
        if (l->id != x.left || l->next < 0 || s[l->next].id != x.right)
            continue;                   /* one of the two has changed since    */
        struct symbol *r = &s[l->next];
        rank_of(j->t, x.left, x.right, &l->id);
        r->id = -1;
        l->next = r->next;
        if (r->next >= 0)
            s[r->next].prev = x.at;
        heap_push(j, x.at);
        if (l->prev >= 0)
            heap_push(j, l->prev);
    }
    *n_out = 0;
    for (int32_t i = 0; i >= 0; i = s[i].next)
        ids[(*n_out)++] = s[i].id;
    return LM_OK;
}

/* Merges the last n of j->ids + j->n, which are not counted yet, and counts them. */
static enum lm_status merge(struct job *j, size_t n)
{
    enum lm_status st = LM_OK;
    if (n > SHORT_WORD)
        st = merge_long(j, j->ids + j->n, n, &n);
    else
        n = merge_short(j->t, j->ids + j->n, n);
    if (!st)
        j->n += n;
    return st;
}

static enum lm_status too_long(struct job *j, size_t n)
{
    return lm_fail(j->e, LM_EINPUT, "the text has a word of %zu bytes; at most %d are "
                   "supported", n, INT32_MAX / 2);
}

/* Has the word a token of its own that wins over merges?  Then it is appended. */
static bool whole_word(struct job *j, const char *s, size_t n)
{
    int32_t id = j->t->v->ignore_merges ? word_id(j->t, s, n) : -1;
    if (id < 0 || (size_t)id >= j->t->v->n_token)
        return false;
    j->ids[j->n++] = id;
    return true;
}

enum lm_status lm_bpe_bytes(void *job, const char *s, size_t n)
{
    struct job *j = job;
    const struct lm_tokenizer *t = j->t;
    if (n > INT32_MAX / 2)
        return too_long(j, n);
    enum lm_status st = lm_job_reserve(j, n);
    if (st || whole_word(j, s, n))
        return st;
    int32_t *ids = j->ids + j->n;
    size_t m = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t id = t->byte_id[(unsigned char)s[i]];
        if (id >= 0)
            ids[m++] = id;
        else if (t->v->has_unk
                 && !(t->v->fuse_unk && m && ids[m - 1] == (int32_t)t->v->unk))
            ids[m++] = (int32_t)t->v->unk;
    }
    return merge(j, m);
}

enum lm_status lm_job_spell(struct job *j, const char *s, size_t n, bool fuse)
{
    const struct lm_tokenizer *t = j->t;
    const unsigned char *b = (const unsigned char *)s;
    bool all = true;
    if (n == 1 && *s == ' ') {          /* a space is written U+2581 */
        b = (const unsigned char *)"\xe2\x96\x81";
        n = 3;
    }
    enum lm_status st = lm_job_reserve(j, n + 1);
    if (st)
        return st;
    for (size_t i = 0; i < n; i++)
        all &= t->byte_id[b[i]] >= 0;
    for (size_t i = 0; i < n && all; i++)
        j->ids[j->n++] = t->byte_id[b[i]];
    if (!all && t->v->has_unk && !(fuse && t->v->fuse_unk))
        j->ids[j->n++] = (int32_t)t->v->unk;
    return LM_OK;
}

/* Characters that were not merged away and are no tokens, in bytes.  m: where
 * the word's ids begin.                                                       */
static enum lm_status spell_rest(struct job *j, size_t m)
{
    const struct lm_tokenizer *t = j->t;
    size_t n = j->n - m, lone = 0, bytes;
    for (size_t i = m; i < j->n; i++)
        lone += (size_t)j->ids[i] >= t->v->n_token;
    if (!lone)
        return LM_OK;
    int32_t *ids = lm_mul_size(n, sizeof *ids, &bytes) ? lm_alloc(bytes, "token ids")
                                                       : NULL;
    if (!ids)
        return lm_fail_memory(j->e, n, "token ids");
    memcpy(ids, j->ids + m, bytes);
    enum lm_status st = LM_OK;
    bool unknown = false;
    j->n = m;
    for (size_t i = 0; i < n && !st; i++) {
        const unsigned char *b;
        if ((size_t)ids[i] >= t->v->n_token) {
            size_t size = token_bytes(t, ids[i], &b);
            st = lm_job_spell(j, (const char *)b, size, unknown);
            unknown = j->n > m && j->ids[j->n - 1] == (int32_t)t->v->unk;
        } else if (!(st = lm_job_reserve(j, 1))) {
            unknown = t->v->has_unk && ids[i] == (int32_t)t->v->unk;
            if (!(unknown && t->v->fuse_unk && j->n > m
                  && j->ids[j->n - 1] == (int32_t)t->v->unk))
                j->ids[j->n++] = ids[i];
        }
    }
    lm_release(ids);
    return st;
}

enum lm_status lm_bpe_chars(struct job *j, const char *s, size_t n)
{
    const struct lm_tokenizer *t = j->t;
    size_t first = j->n;
    if (n > INT32_MAX / 4)
        return too_long(j, n);
    enum lm_status st = lm_job_reserve(j, n);
    if (st || whole_word(j, s, n))
        return st;
    bool unknown = false;
    for (size_t i = 0, size; i < n && !st; i += size) {
        size = char_bytes(s + i);
        int32_t id = size == 1 ? t->ascii[(unsigned char)s[i]] : word_id(t, s + i, size);
        if (id >= 0) {
            if (!(st = lm_job_reserve(j, 1)))
                j->ids[j->n++] = id;
            unknown = false;
            continue;
        }
        st = lm_job_spell(j, s + i, size, unknown);
        unknown = t->v->has_unk && j->n > first && j->ids[j->n - 1] == (int32_t)t->v->unk;
    }
    if (st)
        return st;
    size_t m = j->n - first;
    j->n = first;
    st = merge(j, m);
    return st || t->n_id == t->v->n_token ? st : spell_rest(j, first);
}
