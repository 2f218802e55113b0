/* SPDX-License-Identifier: Apache-2.0 */
/* unigram.c -- the cut of a word into tokens of highest total score.
 *
 * Kudo 2018 (arXiv:1804.10959), the best path found by Viterbi's algorithm over
 * the positions of the word: from each, all tokens that begin there lead on.  A
 * character that is no token by itself is worth 10 less than the least score;
 * neighbours of that kind become one unknown piece, spelt in bytes where the
 * vocabulary has them.  Of equal paths the one found first stays: that whose last
 * token is longest.  Sums are of doubles, as in Hugging Face's tokenizers.     */
#include "base/mem.h"
#include "model/tokenizer_impl.h"

static enum lm_status reserve_steps(struct job *j, size_t n)
{
    size_t bytes;
    if (n <= j->step_cap)
        return LM_OK;
    struct step *p = lm_mul_size(n, sizeof *p, &bytes) ? lm_resize(j->step, bytes) : NULL;
    if (!p)
        return lm_fail_memory(j->e, n * sizeof *p, "tokenizing");
    j->step = p;
    j->step_cap = n;
    return LM_OK;
}

static void better(struct step *s, size_t to, double score, size_t from, int32_t id)
{
    if (s[to].from < 0 || score > s[to].score)
        s[to] = (struct step){ score, (int32_t)from, id };
}

/* All tokens that begin at `at`, and the unknown one. */
static void steps_from(const struct lm_tokenizer *t, const char *text, size_t n,
                       size_t at, struct step *s)
{
    size_t single = at + char_bytes(text + at);
    bool known = false;
    for (size_t k = at, node = 0; k < n;) {
        uint64_t key = (uint64_t)node << 8 | (unsigned char)text[k++];
        const struct pair *p = &t->pair[pair_at(t, key)];
        if (!p->id)
            break;
        node = (size_t)p->id - 1;
        if (p->rank < 0)
            continue;
        better(s, k, s[at].score + t->v->score[p->rank], at, p->rank);
        known |= k == single;
    }
    if (!known)
        better(s, single, s[at].score + t->unknown, at, -1);
}

/* The tokens of the path, neighbours without one spelt together. */
static enum lm_status append(struct job *j, const char *text, const struct step *s)
{
    enum lm_status st = LM_OK;
    for (int32_t at = 0, to; (to = s[at].from) >= 0 && !st; at = to) {
        if (s[to].id >= 0) {
            if (!(st = lm_job_reserve(j, 1)))
                j->ids[j->n++] = s[to].id;
            continue;
        }
        while (j->t->v->fuse_unk && s[to].from >= 0 && s[s[to].from].id < 0)
            to = s[to].from;
        st = lm_job_spell(j, text + at, (size_t)(to - at), false);
    }
    return st;
}

enum lm_status lm_unigram(struct job *j, const char *text, size_t n)
{
    if (n > INT32_MAX / 4)
        return lm_fail(j->e, LM_EINPUT, "the text has a word of %zu bytes; at most %d "
                       "are supported", n, INT32_MAX / 4);
    enum lm_status st = reserve_steps(j, n + 1);
    if (st)
        return st;
    struct step *s = j->step;
    for (size_t i = 0; i <= n; i++)
        s[i] = (struct step){ 0, -1, -1 };
    for (size_t i = 0; i < n; i += char_bytes(text + i))
        steps_from(j->t, text, n, i, s);
    for (int32_t at = (int32_t)n, next = -1, back; at >= 0; at = back) {
        back = s[at].from;              /* from now on: where the path goes on */
        s[at].from = next;
        next = at;
    }
    return append(j, text, s);
}
