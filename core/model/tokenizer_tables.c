/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_tables.c -- a vocabulary -> hash tables: tokens by their bytes,
 * merges by their sides, special tokens sorted.
 *
 * SCORES.  SentencePiece joins the neighbours whose joint text is the token of
 * highest score (Kudo and Richardson 2018, arXiv:1808.06226).  Every way to cut a
 * token into two known texts is therefore a merge, whose rank is the place of the
 * token's score among all different scores: what follows is the same as for a
 * vocabulary with a list of merges.                                           */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "model/tokenizer_impl.h"

#define LOW_LINE "\xe2\x96\x81"     /* U+2581, how vocabularies write a space  */

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

/* U+2581 becomes a space; 0: there is a space already, which no text has once
 * it is made ready, or the text is not UTF-8 and could cut characters.        */
static size_t from_low_lines(const char *s, size_t n, unsigned char *out)
{
    size_t used = 0;
    if (lm_utf8_invalid(s, n) >= 0)
        return 0;
    for (size_t i = 0; i < n;) {
        if (s[i] == ' ')
            return 0;
        bool line = n - i >= 3 && !memcmp(s + i, LOW_LINE, 3);
        out[used++] = line ? ' ' : (unsigned char)s[i];
        i += line ? 3 : 1;
    }
    return used;
}

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10
         : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

size_t lm_word_at(const struct lm_tokenizer *t, const void *s, size_t n)
{
    size_t i = (size_t)lm_hash(s, n, 0) & t->word_mask;
    for (; t->word[i]; i = (i + 1) & t->word_mask) {
        const unsigned char *b;
        if (token_bytes(t, t->word[i] - 1, &b) == n && !memcmp(b, s, n))
            break;
    }
    return i;
}

/* Slots of a table that stays at most half full, less one. */
static size_t mask_for(size_t n)
{
    size_t size = 16;
    while (size < 2 * n)
        size *= 2;
    return size - 1;
}

static void enter_word(struct lm_tokenizer *t, int32_t id)
{
    const unsigned char *b;
    size_t n = token_bytes(t, id, &b), at = lm_word_at(t, b, n);
    if (!t->word[at])
        t->word[at] = id + 1;
}

/* A "<0x0A>": the byte, or -1. */
static int named_byte(const struct lm_token *k)
{
    if (k->length != 6 || memcmp(k->text, "<0x", 3) || k->text[5] != '>')
        return -1;
    int a = hex(k->text[3]), b = hex(k->text[4]);
    return a < 0 || b < 0 ? -1 : a << 4 | b;
}

static enum lm_status read_byte(struct lm_tokenizer *t, size_t i, struct lm_err *e)
{
    int b = named_byte(&t->v->token[i]);
    if (b < 0)
        return lm_fail(e, LM_EINPUT, "token %zu of the tokenizer stands for a byte, but "
                       "its text is not like <0x0A>", i);
    if (t->byte_id[b] < 0)
        t->byte_id[b] = (int32_t)i;
    t->bytes[t->start[i]] = (unsigned char)b;
    t->start[i + 1] = t->start[i] + 1;
    return LM_OK;
}

/* Texts become bytes; a text outside the alphabet stays as it is and is never
 * found in a word.                                                            */
static enum lm_status read_tokens(struct lm_tokenizer *t, struct lm_err *e)
{
    bool level = t->v->model == LM_TOKENIZER_BYTES;
    memset(t->byte_id, -1, sizeof t->byte_id);
    for (size_t i = 0; i < t->v->n_token; i++) {
        const struct lm_token *k = &t->v->token[i];
        unsigned char *to = t->bytes + t->start[i];
        size_t n = 0;
        if (k->kind == LM_TOKEN_BYTE && !level) {
            enum lm_status st = read_byte(t, i, e);
            if (st)
                return st;
            continue;
        }
        if (k->kind == LM_TOKEN_NORMAL)
            n = level ? from_alphabet(k->text, k->length, to)
                      : from_low_lines(k->text, k->length, to);
        t->start[i + 1] = t->start[i] + (n ? n : k->length);
        if (!n && k->length)
            memcpy(to, k->text, k->length);
        if (n)
            enter_word(t, (int32_t)i);
        if (n == 1 && level && t->byte_id[*to] < 0)
            t->byte_id[*to] = (int32_t)i;
    }
    return LM_OK;
}

/* Is a token in the table of words, and not only a twin of one? */
static bool is_word(const struct lm_tokenizer *t, int32_t id)
{
    const unsigned char *b;
    size_t n = token_bytes(t, id, &b);
    return t->v->token[id].kind == LM_TOKEN_NORMAL && n && word_id(t, b, n) == id;
}

static enum lm_status check_pieces(struct lm_tokenizer *t, struct lm_err *e)
{
    t->apart = word_id(t, " ", 1) >= 0;
    for (size_t i = 0; i < t->v->n_token; i++) {
        const unsigned char *b;
        if (!is_word(t, (int32_t)i))
            continue;
        size_t n = token_bytes(t, (int32_t)i, &b);
        if (n > LM_MAX_PIECE && t->v->model != LM_TOKENIZER_CHARS)
            return lm_fail(e, LM_EINPUT, "token %zu of the tokenizer has %zu bytes; at "
                           "most %d are supported in one with scores", i, n,
                           (int)LM_MAX_PIECE);
        for (size_t k = 1; k < n; k++)
            if (b[k] == ' ' && b[k - 1] != ' ')
                t->apart = false;
    }
    return LM_OK;
}

/* ---- merges ---------------------------------------------------------------------- */

static bool open_pairs(struct lm_tokenizer *t, size_t n)
{
    t->pair_mask = mask_for(n);
    t->pair = lm_alloc_array(t->pair_mask + 1, sizeof *t->pair, "tokenizer");
    return t->pair != NULL;
}

static enum lm_status read_merges(struct lm_tokenizer *t, struct lm_err *e)
{
    const struct lm_vocabulary *v = t->v;
    unsigned char both[2 * 65536];
    if (!open_pairs(t, v->n_merge))
        return lm_fail_memory(e, v->n_merge * sizeof *t->pair, "a tokenizer");
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
            at = lm_word_at(t, both, nl + nr);
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

/* ---- scores ---------------------------------------------------------------------- */

/* Characters of tokens that are no tokens get ids of their own.  n: how many
 * there are at most; 0 counts them.                                           */
static size_t lone_characters(struct lm_tokenizer *t, size_t n)
{
    size_t found = 0;
    for (size_t i = 0; i < t->v->n_token; i++) {
        const unsigned char *b;
        if (!is_word(t, (int32_t)i))
            continue;
        size_t bytes = token_bytes(t, (int32_t)i, &b);
        for (size_t k = 0; k < bytes; k += char_bytes(b + k)) {
            size_t size = char_bytes(b + k);
            if (word_id(t, b + k, size) >= 0)
                continue;
            found++;
            if (!n)
                continue;
            memcpy(t->bytes + t->start[t->n_id], b + k, size);
            t->start[t->n_id + 1] = t->start[t->n_id] + size;
            enter_word(t, (int32_t)t->n_id++);
        }
    }
    return found;
}

static enum lm_status add_characters(struct lm_tokenizer *t, struct lm_err *e)
{
    size_t n = lone_characters(t, 0), used = t->start[t->n_id];
    if (!n)
        return LM_OK;
    size_t mask = mask_for(t->v->n_token + n);
    int32_t *word = lm_alloc_array(mask + 1, sizeof *word, "tokenizer");
    void *bytes = lm_resize(t->bytes, used + 4 * n + 1);
    if (bytes)
        t->bytes = bytes;
    void *start = lm_resize(t->start, (t->n_id + n + 1) * sizeof *t->start);
    if (start)
        t->start = start;
    if (!word || !bytes || !start) {
        lm_release(word);
        return lm_fail_memory(e, used, "a tokenizer");
    }
    lm_release(t->word);
    t->word = word;
    t->word_mask = mask;
    for (size_t i = 0; i < t->v->n_token; i++) {
        const unsigned char *b;
        size_t size = token_bytes(t, (int32_t)i, &b);
        if (t->v->token[i].kind == LM_TOKEN_NORMAL && size
            && !memchr(t->v->token[i].text, ' ', t->v->token[i].length)
            && lm_utf8_invalid((const char *)b, size) < 0)
            enter_word(t, (int32_t)i);
    }
    lone_characters(t, n);
    return LM_OK;
}

struct scored { double score; int32_t id; };

static int by_score(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    return x->score != y->score ? (x->score < y->score) - (x->score > y->score)
                                : (x->id > y->id) - (x->id < y->id);
}

/* All cuts of a token into two known texts: entered, or counted (rank < 0). */
static size_t cuts(struct lm_tokenizer *t, int32_t id, int32_t rank)
{
    const unsigned char *b;
    size_t bytes = token_bytes(t, id, &b), n = 0;
    for (size_t k = char_bytes(b); k < bytes; k += char_bytes(b + k)) {
        int32_t left = word_id(t, b, k), right = word_id(t, b + k, bytes - k);
        if (left < 0 || right < 0)
            continue;
        n++;
        if (rank < 0)
            continue;
        uint64_t key = pair_key(left, right);
        t->pair[pair_at(t, key)] = (struct pair){ key, rank, id + 1 };
    }
    return n;
}

static enum lm_status merges_of_scores(struct lm_tokenizer *t, struct lm_err *e)
{
    size_t n = 0, pairs = 0;
    int32_t rank = 0;
    enum lm_status st = add_characters(t, e);
    if (st)
        return st;
    struct scored *s = lm_alloc_array(t->v->n_token + 1, sizeof *s, "tokenizer");
    for (size_t i = 0; s && i < t->v->n_token; i++)
        if (is_word(t, (int32_t)i)) {
            s[n++] = (struct scored){ t->v->score[i], (int32_t)i };
            pairs += cuts(t, (int32_t)i, -1);
        }
    if (!s || pairs > INT32_MAX || !open_pairs(t, pairs)) {
        lm_release(s);
        return lm_fail_memory(e, pairs * sizeof *t->pair, "a tokenizer");
    }
    qsort(s, n, sizeof *s, by_score);
    for (size_t i = 0; i < n; i++) {
        rank += i && s[i].score != s[i - 1].score;
        cuts(t, s[i].id, rank);
    }
    lm_release(s);
    return LM_OK;
}

/* ---- the trie of a unigram vocabulary ------------------------------------------- */

static enum lm_status open_trie(struct lm_tokenizer *t, struct lm_err *e)
{
    size_t bytes = 0;
    int32_t nodes = 1;              /* 0 is the root                           */
    double least = 0;
    for (size_t i = 0; i < t->v->n_token; i++)
        if (is_word(t, (int32_t)i)) {
            bytes += t->start[i + 1] - t->start[i];
            least = t->v->score[i] < least ? t->v->score[i] : least;
        }
    t->unknown = least - 10;
    if (bytes > INT32_MAX - 2 || !open_pairs(t, bytes))
        return lm_fail_memory(e, bytes * sizeof *t->pair, "a tokenizer");
    for (size_t i = 0; i < t->v->n_token; i++) {
        const unsigned char *b;
        struct pair *p = NULL;
        if (!is_word(t, (int32_t)i))
            continue;
        size_t n = token_bytes(t, (int32_t)i, &b);
        for (size_t k = 0, node = 0; k < n; k++) {
            uint64_t key = (uint64_t)node << 8 | b[k];
            p = &t->pair[pair_at(t, key)];
            if (!p->id)
                *p = (struct pair){ key, -1, 1 + nodes++ };
            node = (size_t)p->id - 1;
        }
        p->rank = (int32_t)i;
    }
    return LM_OK;
}

/* ---- special tokens --------------------------------------------------------------- */

static int by_bytes(const void *a, const void *b)
{
    const struct special *x = a, *y = b;
    int c = memcmp(x->s, y->s, x->n < y->n ? x->n : y->n);
    if (c || x->n != y->n)
        return c ? c : x->n < y->n ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* A text that is not UTF-8 would cut characters, so it is not recognised. */
static bool is_special(const struct lm_token *k, bool all)
{
    return (k->kind == LM_TOKEN_ADDED || (all && k->kind == LM_TOKEN_SPECIAL))
        && k->length && lm_utf8_invalid(k->text, k->length) < 0;
}

static bool read_specials(struct lm_tokenizer *t, bool all)
{
    struct special_set *s = &t->special[all];
    size_t n = 0, kept = 0;
    for (size_t i = 0; i < t->v->n_token; i++)
        n += is_special(&t->v->token[i], all);
    s->v = lm_alloc_array(n + 1, sizeof *s->v, "tokenizer");
    if (!s->v)
        return false;
    n = 0;
    for (size_t i = 0; i < t->v->n_token; i++) {
        const struct lm_token *k = &t->v->token[i];
        if (!is_special(k, all))
            continue;
        s->v[n++] = (struct special){ k->text, k->length, (int32_t)i };
        s->first[(unsigned char)*k->text] = true;
    }
    qsort(s->v, n, sizeof *s->v, by_bytes);
    for (size_t i = 0; i < n; i++) {
        const struct special *last = kept ? &s->v[kept - 1] : NULL;
        if (!last || last->n != s->v[i].n || memcmp(last->s, s->v[i].s, last->n))
            s->v[kept++] = s->v[i];
    }
    s->n = kept;
    return true;
}

static enum lm_status check(const struct lm_vocabulary *v, struct lm_err *e)
{
    bool scores = v->model == LM_TOKENIZER_SCORES || v->model == LM_TOKENIZER_UNIGRAM;
    if (v->n_token > INT32_MAX / 8 || v->n_merge > INT32_MAX / 8)
        return lm_fail(e, LM_EINPUT, "a tokenizer of %zu tokens and %zu merges is too "
                       "large", v->n_token, v->n_merge);
    if (v->model > LM_TOKENIZER_UNIGRAM || v->prefix > LM_PREFIX_FIRST)
        return lm_fail(e, LM_EUNSUPPORTED, "tokenizer model %u with prefix %u is not "
                       "supported", (unsigned)v->model, (unsigned)v->prefix);
    if (v->has_unk && v->unk >= v->n_token)
        return lm_fail(e, LM_EINPUT, "the tokenizer's unknown token is %u, but the "
                       "vocabulary has %zu", (unsigned)v->unk, v->n_token);
    if (scores && !v->score && v->n_token)
        return lm_fail(e, LM_EINPUT, "the tokenizer's tokens have no scores");
    for (size_t i = 0; scores && i < v->n_token; i++)
        if (!isfinite(v->score[i]))
            return lm_fail(e, LM_EINPUT, "the score of token %zu of the tokenizer is no "
                           "finite number", i);
    return LM_OK;
}

enum lm_status lm_tables_open(struct lm_tokenizer *t, struct lm_err *e)
{
    const struct lm_vocabulary *v = t->v;
    size_t bytes = 0;
    enum lm_status st = check(v, e);
    if (st)
        return st;
    for (size_t i = 0; i < v->n_token; i++)
        bytes += v->token[i].length;            /* < 2^28 * 2^32 */
    t->n_id = v->n_token;
    t->word_mask = mask_for(v->n_token);
    t->bytes = lm_alloc(bytes + 1, "tokenizer");
    t->start = lm_alloc_array(v->n_token + 1, sizeof *t->start, "tokenizer");
    t->word = lm_alloc_array(t->word_mask + 1, sizeof *t->word, "tokenizer");
    if (!t->bytes || !t->start || !t->word || !read_specials(t, false)
        || !read_specials(t, true))
        return lm_fail_memory(e, bytes, "a tokenizer");
    st = read_tokens(t, e);
    if (!st && v->model != LM_TOKENIZER_BYTES)
        st = check_pieces(t, e);
    if (st)
        return st;
    st = v->model == LM_TOKENIZER_UNIGRAM ? open_trie(t, e)
       : v->model == LM_TOKENIZER_SCORES ? merges_of_scores(t, e) : read_merges(t, e);
    for (int c = 0; c < 128 && !st; c++) {
        unsigned char byte = (unsigned char)c;
        t->ascii[c] = word_id(t, &byte, 1);
    }
    return st;
}

void lm_tables_close(struct lm_tokenizer *t)
{
    lm_release(t->bytes);
    lm_release(t->start);
    lm_release(t->word);
    lm_release(t->pair);
    lm_release(t->special[0].v);
    lm_release(t->special[1].v);
}
