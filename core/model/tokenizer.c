/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer.c -- texts to token ids and back.
 *
 * A text is cut at the special and added tokens that it holds.  What lies
 * between is made ready (normal form, space in front), cut into words, and these
 * are encoded by bpe.c or unigram.c.  Byte-level vocabularies have patterns for
 * words (pretok.c).  The others take all text as one word, unless spaces begin
 * words; but where no token holds a space behind something else, nothing ever
 * joins across that place, and cutting there gives the same ids in less time.
 *
 * Immutable after open; the state of a call lives in struct job.             */
#include <string.h>

#include "base/mem.h"
#include "model/tokenizer_impl.h"

enum lm_status lm_tokenizer_open(const struct lm_vocabulary *v, struct lm_tokenizer **out,
                                 struct lm_err *e)
{
    *out = NULL;
    struct lm_tokenizer *t = lm_alloc(sizeof *t, "tokenizer");
    if (!t)
        return lm_fail_memory(e, sizeof *t, "a tokenizer");
    t->v = v;
    enum lm_status st = v->model == LM_TOKENIZER_BYTES
        ? lm_pretok_open(v->pre, &t->pretok, e) : LM_OK;
    if (!st)
        st = lm_tables_open(t, e);
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
    lm_tables_close(t);
    lm_release(t);
}

enum lm_status lm_job_reserve(struct job *j, size_t more)
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

/* ---- words ------------------------------------------------------------------------ */

/* The text with spaces for U+2581 and one in front where the vocabulary wants
 * it; first: it begins the whole text.                                        */
static enum lm_status make_ready(struct job *j, const char *s, size_t *n, bool first)
{
    uint32_t prefix = j->t->v->prefix;
    size_t used = 0;
    if (*n > SIZE_MAX / 4)
        return lm_fail_memory(j->e, *n, "tokenizing");
    if (*n + 1 > j->text_cap) {
        char *p = lm_resize(j->text, *n + 1);
        if (!p)
            return lm_fail_memory(j->e, *n + 1, "tokenizing");
        j->text = p;
        j->text_cap = *n + 1;
    }
    bool space = *s == ' ' || (*n >= 3 && !memcmp(s, "\xe2\x96\x81", 3));
    if (prefix == LM_PREFIX_ALWAYS || (prefix == LM_PREFIX_MISSING && !space)
        || (prefix == LM_PREFIX_FIRST && first && !space))
        j->text[used++] = ' ';
    for (size_t i = 0; i < *n;) {
        bool line = s[i] == '\xe2' && *n - i >= 3 && !memcmp(s + i, "\xe2\x96\x81", 3);
        j->text[used++] = line ? ' ' : s[i];
        i += line ? 3 : 1;
    }
    *n = used;
    return LM_OK;
}

static enum lm_status add_word(struct job *j, const char *s, size_t n)
{
    return j->t->v->model == LM_TOKENIZER_UNIGRAM ? lm_unigram(j, s, n)
                                                  : lm_bpe_chars(j, s, n);
}

static enum lm_status add_words(struct job *j, const char *s, size_t n)
{
    const struct lm_vocabulary *v = j->t->v;
    enum lm_status st = LM_OK;
    bool apart = j->t->apart && !v->ignore_merges;
    for (size_t from = 0, to; from < n && !st; from = to) {
        for (to = from + 1; to < n; to++)
            if (s[to] == ' ' && (v->split_spaces || (apart && s[to - 1] != ' ')))
                break;
        st = add_word(j, s + from, to - from);
    }
    return st;
}

/* Text without special tokens. */
static enum lm_status add_plain(struct job *j, const char *s, size_t n, bool first)
{
    const struct lm_tokenizer *t = j->t;
    char *composed = NULL;
    enum lm_status st = LM_OK;
    if (!n)
        return LM_OK;
    if (t->v->nfc && (st = lm_nfc(s, n, &composed, &n, j->e)))
        return st;
    if (composed)
        s = composed;
    if (t->v->model == LM_TOKENIZER_BYTES) {
        st = lm_pretok_split(t->pretok, s, n, lm_bpe_bytes, j, j->e);
    } else if (!(st = make_ready(j, s, &n, first))) {
        st = add_words(j, j->text, n);
    }
    lm_release(composed);
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
static const struct special *special_at(const struct special_set *set,
                                        const char *text, size_t n)
{
    const struct special *found = NULL;
    size_t lo = 0, hi = set->n;
    for (size_t depth = 0; depth < n; depth++) {
        unsigned c = (unsigned char)text[depth];
        lo = lower_bound(set->v, lo, hi, depth, c);
        hi = lower_bound(set->v, lo, hi, depth, c + 1);
        if (lo == hi)
            break;
        if (set->v[lo].n == depth + 1)
            found = &set->v[lo++];
    }
    return found;
}

/* Plain text up to each special token, then its id. */
static enum lm_status add_text(struct job *j, const struct special_set *set,
                               const char *text, size_t n)
{
    size_t from = 0;
    enum lm_status st = LM_OK;
    for (size_t i = 0; set->n && i < n && !st;) {
        const struct special *s = set->first[(unsigned char)text[i]]
            ? special_at(set, text + i, n - i) : NULL;
        if (!s) {
            i++;
            continue;
        }
        st = add_plain(j, text + from, i - from, !from);
        if (!st)
            st = lm_job_reserve(j, 1);
        if (!st)
            j->ids[j->n++] = s->id;
        from = i += s->n;
    }
    return st ? st : add_plain(j, text + from, n - from, !from);
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
    enum lm_status st = lm_job_reserve(&j, n / 3 + 16);
    if (!st)
        st = add_text(&j, &t->special[special], text, n);
    lm_release(j.symbol);
    lm_release(j.heap);
    lm_release(j.step);
    lm_release(j.text);
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
    return special || kind == LM_TOKEN_NORMAL || kind == LM_TOKEN_ADDED
        || kind == LM_TOKEN_BYTE;
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
    if (t->v->model != LM_TOKENIZER_BYTES && t->v->prefix && *out == ' ')
        memmove(out, out + 1, bytes--);         /* the one put in front */
    *text = out;
    *n_text = bytes;
    return LM_OK;
}

/* Bytes at s that begin a character but end before it does; 0: none. */
static size_t cut_short(const unsigned char *s, size_t n)
{
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        unsigned char c = s[n - back];
        if ((c & 0xc0) == 0x80)
            continue;
        size_t size = c < 0xc2 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 1;
        return size > back ? back : 0;
    }
    return 0;
}

/* Whole characters; what is none becomes U+FFFD. */
static void put_valid(struct lm_str *out, const char *s, size_t n)
{
    for (int64_t bad; n; s += bad + 1, n -= (size_t)bad + 1) {
        bad = lm_utf8_invalid(s, n);
        lm_str_put(out, s, bad < 0 ? n : (size_t)bad);
        if (bad < 0)
            return;
        lm_str_put(out, "\xef\xbf\xbd", 3);
    }
}

void lm_detokenize_next(const struct lm_tokenizer *t, struct lm_rest *rest, int32_t id,
                        struct lm_str *out)
{
    const unsigned char *b;
    if (id < 0 || (size_t)id >= t->v->n_token || !shown(t, id, false))
        return;
    size_t n = token_bytes(t, id, &b);
    struct lm_str s = { 0 };
    lm_str_put(&s, rest->s, rest->n);
    lm_str_put(&s, b, n);
    if (s.failed || !s.n) {
        out->failed |= s.failed;
        lm_str_free(&s);
        return;
    }
    rest->n = cut_short((unsigned char *)s.s, s.n);
    memcpy(rest->s, s.s + s.n - rest->n, rest->n);
    put_valid(out, s.s, s.n - rest->n);
    lm_str_free(&s);
}

void lm_detokenize_end(struct lm_rest *rest, struct lm_str *out)
{
    put_valid(out, rest->s, rest->n);
    rest->n = 0;
}
