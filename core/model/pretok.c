/* SPDX-License-Identifier: Apache-2.0 */
/* pretok.c -- splits text into the words inside which byte-level BPE merges
 * (PCRE2).
 *
 * The pattern of GPT-2 takes a contraction, letters, digits, other characters
 * (these three with a space before) or white space; of a run of white space
 * before something else it leaves the last character to that.  SmolLM first
 * makes every character of category N a piece of its own and then applies that
 * pattern inside each piece between them.  One pattern does the same: digits
 * match one by one without a space, and as the end of a piece counts as the end
 * of the text, a digit does not hold white space back: "a  5" is "a", "  ", "5".
 *
 * Llama 3 lets a word begin with one sign, cuts digits into groups of three and
 * ends signs with line breaks; Qwen2 does the same with digits one by one.  Their
 * contractions hold in any case, and U+017F counts as an s then.
 *
 * White space is the Unicode property White_Space, written out, because PCRE2's
 * \s also has U+180E.  All repeats are of single characters, and a match takes all
 * that it looked through but for one character, so text of any kind takes linear
 * time.
 * A pattern matches at every character: a failure to match is a bug.          */
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/mem.h"
#include "base/str.h"
#include "model/tokenizer.h"

#define SPACE "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}" \
              "\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define WORDS "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+"
#define OTHER " ?[^" SPACE "\\p{L}\\p{N}]+"

static const char gpt2_pattern[] =
    WORDS "| ?\\p{N}+|" OTHER "|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+";
static const char smollm_pattern[] =
    WORDS "|\\p{N}|" OTHER "|[" SPACE "]+(?![^" SPACE "\\p{N}])|[" SPACE "]+";

#define NEWER(digits) \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "|" \
    OTHER "[\\r\\n]*|[" SPACE "]*[\\r\\n]+|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+"
static const char llama3_pattern[] = NEWER("\\p{N}{1,3}");
static const char qwen2_pattern[] = NEWER("\\p{N}");

static const char *const pattern_of[] = {
    [LM_PRE_GPT2] = gpt2_pattern, [LM_PRE_SMOLLM] = smollm_pattern,
    [LM_PRE_LLAMA3] = llama3_pattern, [LM_PRE_QWEN2] = qwen2_pattern,
};

enum { MATCH_LIMIT = 10000000 };

struct lm_pretok {
    pcre2_general_context *memory;
    pcre2_code *code;
    pcre2_match_context *match;
};

static void *pcre_alloc(PCRE2_SIZE n, void *unused)
{
    (void)unused;
    return lm_alloc(n, "pcre2");
}

static void pcre_release(void *p, void *unused)
{
    (void)unused;
    lm_release(p);
}

static enum lm_status compile(struct lm_pretok *p, const char *pattern, struct lm_err *e)
{
    int code = 0;
    PCRE2_SIZE at = 0;
    pcre2_compile_context *c = pcre2_compile_context_create(p->memory);
    if (!c)
        return lm_fail_memory(e, sizeof *p, "a pattern");
    p->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &code, &at, c);
    pcre2_compile_context_free(c);
    if (p->code) {      /* without JIT matching is slower, and equal           */
        (void)pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE);
        return LM_OK;
    }
    PCRE2_UCHAR why[128] = "";
    pcre2_get_error_message(code, why, sizeof why);
    return lm_fail(e, strstr((const char *)why, "memory") ? LM_ENOMEM : LM_EBUG,
                   "pattern of the pre-tokenizer, offset %zu: %s", (size_t)at,
                   (const char *)why);
}

enum lm_status lm_pretok_open(uint32_t pre, struct lm_pretok **out, struct lm_err *e)
{
    *out = NULL;
    if (pre < LM_PRE_GPT2 || pre > LM_PRE_QWEN2)
        return lm_fail(e, LM_EUNSUPPORTED, "pre-tokenizer %u is not supported",
                       (unsigned)pre);
    struct lm_pretok *p = lm_alloc(sizeof *p, "pretok");
    if (!p)
        return lm_fail_memory(e, sizeof *p, "a pre-tokenizer");
    enum lm_status st = LM_OK;
    p->memory = pcre2_general_context_create(pcre_alloc, pcre_release, NULL);
    if (!p->memory || !(p->match = pcre2_match_context_create(p->memory)))
        st = lm_fail_memory(e, sizeof *p, "a pre-tokenizer");
    else
        st = compile(p, pattern_of[pre], e);
    if (st) {
        lm_pretok_close(p);
        return st;
    }
    pcre2_set_match_limit(p->match, MATCH_LIMIT);
    *out = p;
    return LM_OK;
}

void lm_pretok_close(struct lm_pretok *p)
{
    if (!p)
        return;
    pcre2_code_free(p->code);
    pcre2_match_context_free(p->match);
    pcre2_general_context_free(p->memory);
    lm_release(p);
}

int64_t lm_utf8_invalid(const char *text, size_t n)
{
    size_t length;
    for (size_t i = 0; i < n; i += length) {
        uint64_t eight;
        length = 8;
        if (n - i >= 8 && (memcpy(&eight, text + i, 8), !(eight & 0x8080808080808080u)))
            continue;
        if (!(length = lm_utf8_char(text + i, n - i)))
            return (int64_t)i;
    }
    return -1;
}

static enum lm_status match_failed(int rc, size_t at, struct lm_err *e)
{
    PCRE2_UCHAR why[128] = "";
    if (rc == PCRE2_ERROR_NOMEMORY)
        return lm_fail_memory(e, MATCH_LIMIT, "matching");
    pcre2_get_error_message(rc, why, sizeof why);
    return lm_fail(e, rc == PCRE2_ERROR_NOMATCH ? LM_EBUG : LM_EFAILED,
                   "splitting text into words stopped at byte %zu: %s", at,
                   (const char *)why);
}

enum lm_status lm_pretok_split(const struct lm_pretok *p, const char *text, size_t n,
                               enum lm_status (*word)(void *ctx, const char *s, size_t n),
                               void *ctx, struct lm_err *e)
{
    int64_t invalid = lm_utf8_invalid(text, n);
    if (invalid >= 0)
        return lm_fail(e, LM_EINPUT, "the text is not UTF-8 at byte %lld",
                       (long long)invalid);
    pcre2_match_data *data = pcre2_match_data_create(1, p->memory);
    if (!data)
        return lm_fail_memory(e, sizeof(size_t) * 2, "matching");
    const PCRE2_SIZE *end = pcre2_get_ovector_pointer(data);
    enum lm_status st = LM_OK;
    for (size_t at = 0; at < n && !st; at = end[1]) {
        int rc = pcre2_match(p->code, (PCRE2_SPTR)text, n, at, PCRE2_NO_UTF_CHECK, data,
                             p->match);
        if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
            rc = pcre2_match(p->code, (PCRE2_SPTR)text, n, at,
                             PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data, p->match);
        if (rc < 0 || end[1] <= at) {
            st = match_failed(rc < 0 ? rc : PCRE2_ERROR_NOMATCH, at, e);
            break;
        }
        st = word(ctx, text + at, end[1] - at);
    }
    pcre2_match_data_free(data);
    return st;
}
