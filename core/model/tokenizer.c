/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer.c -- byte-level byte-pair encoding.
 *
 * Sennrich et al. 2016 (arXiv:1508.07909), on bytes as in GPT-2: a word starts
 * as the tokens of its bytes; while any neighbours are in the list of merges,
 * the pair of lowest rank (of equal ones the leftmost) becomes one token.  Short
 * words scan an array; long ones keep pairs in a heap over a linked list, so that
 * a word of n bytes takes O(n log n) however long it is.
 *
 * Inside, tokens are plain bytes.  Vocabularies write them in the GPT-2 byte
 * alphabet: printable Latin-1 stands for itself, the other 68 bytes for U+0100
 * and up.  A vocabulary need not have all 256 bytes (SmolLM2 has 235); as in
 * Hugging Face's tokenizers a byte that it lacks leaves no token.
 *
 * Immutable after open; the state of a call lives in struct job.             */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "model/tokenizer.h"

enum { SHORT_WORD = 40, NO_RANK = INT32_MAX };

struct pair { uint64_t key; int32_t rank, id; };        /* id + 1; 0: empty    */
struct special { const char *s; size_t n; int32_t id; };

struct lm_tokenizer {
    const struct lm_vocabulary *v;
    struct lm_pretok *pretok;
    unsigned char *bytes;           /* all tokens, one behind the other        */
    size_t *start;                  /* [n_token + 1] into bytes                */
    int32_t *word;                  /* hash of NORMAL tokens: id + 1, 0: empty */
    size_t word_mask;
    struct pair *pair;              /* hash of merges                          */
    size_t pair_mask;
    int32_t byte_id[256];           /* -1: the vocabulary lacks this byte      */
    struct special *special;        /* sorted by bytes, all different          */
    size_t n_special;
    bool special_first[256];        /* bytes that begin one                    */
};

/* ---- opening ------------------------------------------------------------------ */

/* The byte that a character of the alphabet stands for, or -1. */
static int byte_of(uint32_t c)
{
    if ((c >= 33 && c <= 126) || (c >= 161 && c <= 172) || (c >= 174 && c <= 255))
        return (int)c;
    if (c < 256 || c >= 256 + 68)
        return -1;
    c -= 256;                       /* 0..32, 127..160, 173 in this order      */
    return (int)(c < 33 ? c : c < 67 ? c - 33 + 127 : 173);
}

/* Bytes of a text in the alphabet: at most n, all characters take one or two
 * bytes of UTF-8.  0: it is not in the alphabet (or empty).                   */
static size_t from_alphabet(const char *text, size_t n, unsigned char *out)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t c = s[i];
        if (c >= 0xc2 && c < 0xe0 && i + 1 < n && (s[i + 1] & 0xc0) == 0x80)
            c = (c & 31) << 6 | (s[++i] & 63);
        else if (c >= 0x80)
            return 0;
        int b = byte_of(c);
        if (b < 0)
            return 0;
        out[used++] = (unsigned char)b;
    }
    return used;
}

static size_t token_bytes(const struct lm_tokenizer *t, int32_t id,
                          const unsigned char **bytes)
{
    *bytes = t->bytes + t->start[id];
    return t->start[id + 1] - t->start[id];
}

/* Where a NORMAL token of these bytes is in the table, or would be. */
static size_t word_at(const struct lm_tokenizer *t, const void *s, size_t n)
{
    size_t i = (size_t)lm_hash(s, n, 0) & t->word_mask;
    for (; t->word[i]; i = (i + 1) & t->word_mask) {
        const unsigned char *b;
        if (token_bytes(t, t->word[i] - 1, &b) == n && !memcmp(b, s, n))
            break;
    }
    return i;
}

static size_t pair_at(const struct lm_tokenizer *t, uint64_t key)
{
    uint64_t h = key * UINT64_C(0x9e3779b97f4a7c15);
    size_t i = (size_t)(h >> 32) & t->pair_mask;
    while (t->pair[i].id && t->pair[i].key != key)
        i = (i + 1) & t->pair_mask;
    return i;
}

static uint64_t pair_key(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

/* Slots of a table that stays at most half full, less one. */
static size_t mask_for(size_t n)
{
    size_t size = 16;
    while (size < 2 * n)
        size *= 2;
    return size - 1;
}

/* Texts become bytes; a text outside the alphabet stays as it is and is never
 * found in a word.                                                            */
static void read_tokens(struct lm_tokenizer *t)
{
    size_t used = 0;
    memset(t->byte_id, -1, sizeof t->byte_id);
    for (size_t i = 0; i < t->v->n_token; i++) {
        const struct lm_token *k = &t->v->token[i];
        unsigned char *to = t->bytes + used;
        size_t n = k->kind == LM_TOKEN_NORMAL ? from_alphabet(k->text, k->length, to) : 0;
        t->start[i] = used;
        t->start[i + 1] = used + (n ? n : k->length);
        used = t->start[i + 1];
        if (!n) {
            if (k->length)
                memcpy(to, k->text, k->length);
            continue;
        }
        size_t at = word_at(t, to, n);
        if (!t->word[at])
            t->word[at] = (int32_t)i + 1;
        if (n == 1 && t->byte_id[*to] < 0)
            t->byte_id[*to] = (int32_t)i;
    }
}

static enum lm_status read_merges(struct lm_tokenizer *t, struct lm_err *e)
{
    const struct lm_vocabulary *v = t->v;
    unsigned char both[2 * 65536];
    for (size_t i = 0; i < v->n_merge; i++) {
        const unsigned char *l, *r;
        size_t left = v->merge[i].left, right = v->merge[i].right;
        if (left >= v->n_token || right >= v->n_token)
            return lm_fail(e, LM_EINPUT, "merge %zu of the tokenizer joins tokens %zu "
                           "and %zu, but the vocabulary has %zu", i, left, right,
                           v->n_token);
        size_t nl = token_bytes(t, (int32_t)left, &l);
        size_t nr = token_bytes(t, (int32_t)right, &r);
        size_t at = 0;
        if (nl + nr <= sizeof both) {
            memcpy(both, l, nl);
            memcpy(both + nl, r, nr);
            at = word_at(t, both, nl + nr);
        }
        if (nl + nr > sizeof both || !t->word[at])
            return lm_fail(e, LM_EINPUT, "merge %zu of the tokenizer joins tokens %zu "
                           "and %zu, but their text is no token", i, left, right);
        uint64_t key = pair_key((int32_t)left, (int32_t)right);
        struct pair *p = &t->pair[pair_at(t, key)];
        if (!p->id)
            *p = (struct pair){ key, (int32_t)i, t->word[at] };
    }
    return LM_OK;
}

static int by_bytes(const void *a, const void *b)
{
    const struct special *x = a, *y = b;
    int c = memcmp(x->s, y->s, x->n < y->n ? x->n : y->n);
    if (c || x->n != y->n)
        return c ? c : x->n < y->n ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* A text that is not UTF-8 would cut characters, so it is not recognised. */
static bool is_special(const struct lm_token *k)
{
    return (k->kind == LM_TOKEN_SPECIAL || k->kind == LM_TOKEN_ADDED) && k->length
        && lm_utf8_invalid(k->text, k->length) < 0;
}

static bool read_specials(struct lm_tokenizer *t)
{
    size_t n = 0, kept = 0;
    for (size_t i = 0; i < t->v->n_token; i++)
        n += is_special(&t->v->token[i]);
    t->special = lm_alloc_array(n + 1, sizeof *t->special, "tokenizer");
    if (!t->special)
        return false;
    n = 0;
    for (size_t i = 0; i < t->v->n_token; i++) {
        const struct lm_token *k = &t->v->token[i];
        if (!is_special(k))
            continue;
        t->special[n++] = (struct special){ k->text, k->length, (int32_t)i };
        t->special_first[(unsigned char)*k->text] = true;
    }
    qsort(t->special, n, sizeof *t->special, by_bytes);
    for (size_t i = 0; i < n; i++) {
        const struct special *last = kept ? &t->special[kept - 1] : NULL;
        if (!last || last->n != t->special[i].n
            || memcmp(last->s, t->special[i].s, last->n))
            t->special[kept++] = t->special[i];
    }
    t->n_special = kept;
    return true;
}

static enum lm_status open_tables(struct lm_tokenizer *t, struct lm_err *e)
{
    const struct lm_vocabulary *v = t->v;
    size_t bytes = 0;
    if (v->n_token > INT32_MAX / 4 || v->n_merge > INT32_MAX / 4)
        return lm_fail(e, LM_EINPUT, "a tokenizer of %zu tokens and %zu merges is too "
                       "large", v->n_token, v->n_merge);
    for (size_t i = 0; i < v->n_token; i++)
        bytes += v->token[i].length;            /* < 2^29 * 2^32 */
    t->word_mask = mask_for(v->n_token);
    t->pair_mask = mask_for(v->n_merge);
    t->bytes = lm_alloc(bytes + 1, "tokenizer");
    t->start = lm_alloc_array(v->n_token + 1, sizeof *t->start, "tokenizer");
    t->word = lm_alloc_array(t->word_mask + 1, sizeof *t->word, "tokenizer");
    t->pair = lm_alloc_array(t->pair_mask + 1, sizeof *t->pair, "tokenizer");
    if (!t->bytes || !t->start || !t->word || !t->pair || !read_specials(t))
        return lm_fail_memory(e, bytes, "a tokenizer");
    read_tokens(t);
    return read_merges(t, e);
}

enum lm_status lm_tokenizer_open(const struct lm_vocabulary *v, struct lm_tokenizer **out,
                                 struct lm_err *e)
{
    *out = NULL;
    struct lm_tokenizer *t = lm_alloc(sizeof *t, "tokenizer");
    if (!t)
        return lm_fail_memory(e, sizeof *t, "a tokenizer");
    t->v = v;
    enum lm_status st = lm_pretok_open(v->pre, &t->pretok, e);
    if (!st)
        st = open_tables(t, e);
    if (st) {
        lm_tokenizer_close(t);
        return st;
    }
    *out = t;
    return LM_OK;
}

void lm_tokenizer_close(struct lm_tokenizer *t)
{
    if (!t)
        return;
    lm_pretok_close(t->pretok);
    lm_release(t->bytes);
    lm_release(t->start);
    lm_release(t->word);
    lm_release(t->pair);
    lm_release(t->special);
    lm_release(t);
}

/* ---- words ---------------------------------------------------------------------- */

struct symbol { int32_t id, prev, next; };      /* id -1: merged into prev     */
struct entry { int32_t rank, at, left, right; };    /* a pair as it was seen   */

struct job {
    const struct lm_tokenizer *t;
    struct lm_err *e;
    int32_t *ids;
    size_t n, cap;
    struct symbol *symbol;          /* [long_cap], for long words              */
    struct entry *heap;             /* [2 long_cap]                            */
    size_t long_cap, n_heap;
};

static enum lm_status reserve(struct job *j, size_t more)
{
    if (more <= j->cap - j->n)
        return LM_OK;
    size_t bytes, want = j->cap + j->cap / 2 + more;
    int32_t *p = lm_mul_size(want, sizeof *p, &bytes) ? lm_resize(j->ids, bytes) : NULL;
    if (!p)
        return lm_fail_memory(j->e, want, "token ids");
    j->ids = p;
    j->cap = want;
    return LM_OK;
}

/* Rank of a pair and what it becomes; NO_RANK: it does not merge. */
static int32_t rank_of(const struct lm_tokenizer *t, int32_t left, int32_t right,
                       int32_t *result)
{
    const struct pair *p = &t->pair[pair_at(t, pair_key(left, right))];
    *result = p->id - 1;
    return p->id ? p->rank : NO_RANK;
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
        if (rank[best] == NO_RANK)
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
    if (x.rank == NO_RANK)
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

static enum lm_status add_word(void *ctx, const char *s, size_t n)
{
    struct job *j = ctx;
    const struct lm_tokenizer *t = j->t;
    if (n > INT32_MAX / 2)
        return lm_fail(j->e, LM_EINPUT, "the text has a word of %zu bytes; at most %d "
                       "are supported", n, INT32_MAX / 2);
    enum lm_status st = reserve(j, n);
    if (st)
        return st;
    int32_t *ids = j->ids + j->n;
    size_t m = 0;
    if (t->v->ignore_merges && (ids[0] = t->word[word_at(t, s, n)] - 1) >= 0) {
        j->n++;
        return LM_OK;
    }
    for (size_t i = 0; i < n; i++) {
        int32_t id = t->byte_id[(unsigned char)s[i]];
        if (id >= 0)
            ids[m++] = id;
    }
    if (m > SHORT_WORD)
        st = merge_long(j, ids, m, &m);
    else
        m = merge_short(t, ids, m);
    if (!st)
        j->n += m;
    return st;
}

/* ---- texts ------------------------------------------------------------------------ */

/* First of the sorted specials [lo, hi), equal up to `depth`, whose byte there
 * is at least c (c up to 256).                                                */
static size_t lower_bound(const struct special *s, size_t lo, size_t hi, size_t depth,
                          unsigned c)
{
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if ((unsigned char)s[mid].s[depth] < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* The longest special token that text begins with, or NULL. */
static const struct special *special_at(const struct lm_tokenizer *t, const char *text,
                                        size_t n)
{
    const struct special *found = NULL;
    size_t lo = 0, hi = t->n_special;
    for (size_t depth = 0; depth < n; depth++) {
        unsigned c = (unsigned char)text[depth];
        lo = lower_bound(t->special, lo, hi, depth, c);
        hi = lower_bound(t->special, lo, hi, depth, c + 1);
        if (lo == hi)
            break;
        if (t->special[lo].n == depth + 1)
            found = &t->special[lo++];
    }
    return found;
}

/* Plain text up to each special token, then its id. */
static enum lm_status tokenize_special(struct job *j, const char *text, size_t n)
{
    const struct lm_tokenizer *t = j->t;
    size_t from = 0;
    enum lm_status st = LM_OK;
    for (size_t i = 0; i < n && !st;) {
        const struct special *s = t->special_first[(unsigned char)text[i]]
            ? special_at(t, text + i, n - i) : NULL;
        if (!s) {
            i++;
            continue;
        }
        st = lm_pretok_split(t->pretok, text + from, i - from, add_word, j, j->e);
        if (!st)
            st = reserve(j, 1);
        if (!st)
            j->ids[j->n++] = s->id;
        from = i += s->n;
    }
    return st ? st : lm_pretok_split(t->pretok, text + from, n - from, add_word, j, j->e);
}

enum lm_status lm_tokenize(const struct lm_tokenizer *t, const char *text, size_t n,
                           bool special, int32_t **ids, size_t *n_ids, struct lm_err *e)
{
    struct job j = { .t = t, .e = e };
    int64_t invalid = lm_utf8_invalid(text, n);
    *ids = NULL;
    *n_ids = 0;
    if (invalid >= 0)
        return lm_fail(e, LM_EINPUT, "the text is not UTF-8: byte %lld (0x%02x) does not "
                       "belong there", (long long)invalid,
                       (unsigned)(unsigned char)text[invalid]);
    enum lm_status st = reserve(&j, n / 3 + 16);
    if (!st)
        st = special ? tokenize_special(&j, text, n)
                     : lm_pretok_split(t->pretok, text, n, add_word, &j, e);
    lm_release(j.symbol);
    lm_release(j.heap);
    if (st) {
        lm_release(j.ids);
        return st;
    }
    *ids = j.ids;
    *n_ids = j.n;
    return LM_OK;
}

static bool shown(const struct lm_tokenizer *t, int32_t id, bool special)
{
    uint32_t kind = t->v->token[id].kind;
    return special || kind == LM_TOKEN_NORMAL || kind == LM_TOKEN_ADDED;
}

enum lm_status lm_detokenize(const struct lm_tokenizer *t, const int32_t *ids, size_t n,
                             bool special, char **text, size_t *n_text, struct lm_err *e)
{
    size_t bytes = 0, used = 0;
    const unsigned char *b;
    *text = NULL;
    *n_text = 0;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || (size_t)ids[i] >= t->v->n_token)
            return lm_fail(e, LM_EINPUT, "token id %d is not one of the vocabulary's %zu",
                           (int)ids[i], t->v->n_token);
        size_t more = shown(t, ids[i], special) ? token_bytes(t, ids[i], &b) : 0;
        if (more >= SIZE_MAX - bytes)
            return lm_fail(e, LM_EINPUT, "the text of %zu tokens is too long", n);
        bytes += more;
    }
    char *out = lm_alloc(bytes + 1, "text");
    if (!out)
        return lm_fail_memory(e, bytes + 1, "a text");
    for (size_t i = 0; i < n; i++)
        if (shown(t, ids[i], special)) {
            size_t more = token_bytes(t, ids[i], &b);
            memcpy(out + used, b, more);
            used += more;
        }
    *text = out;
    *n_text = bytes;
    return LM_OK;
}
