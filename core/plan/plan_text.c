/* SPDX-License-Identifier: Apache-2.0 */
/* plan_text.c -- plans as text and back; the grammar is in plan.h.
 *
 * The text comes back from studies that may be damaged or edited by hand, so
 * the parser trusts nothing: numbers are bounded, sets must have the size they
 * claim, layers come in order and once.                                     */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "plan/plan.h"

enum { SHORT = 24 };                    /* runs of this length are never digits */

static const char *const kind_word[] = { "", "bool", "int", "real", "choice" };

/* ---- writing ------------------------------------------------------------------- */

static void put_runs(const struct lm_keep *k, struct lm_str *out)
{
    bool first = true;

    for (int32_t i = 0; i < k->n; i++) {
        int32_t from = i;

        if (!lm_keep_has(k, i))
            continue;
        while (lm_keep_has(k, i + 1))
            i++;
        lm_str_add(out, "%s%d", first ? "" : ",", from);
        if (i > from)
            lm_str_add(out, "-%d", i);
        first = false;
    }
}

static void put_digits(const struct lm_keep *k, struct lm_str *out)
{
    lm_str_add(out, "x");
    for (int32_t i = 0; i < k->n; i += 4)
        lm_str_add(out, "%x", (unsigned)(k->bits[i / 64] >> (i % 64) & 15));
}

static void put_keep(const char *name, const struct lm_keep *k, struct lm_str *out)
{
    struct lm_str runs = { 0 };

    lm_str_add(out, " %s=%d/%d:", name, k->kept, k->n);
    put_runs(k, &runs);
    if (runs.failed)
        out->failed = true;
    else if (runs.n <= SHORT || runs.n <= ((size_t)k->n + 3) / 4 + 1)
        lm_str_put(out, runs.s, runs.n);
    else
        put_digits(k, out);
    lm_str_free(&runs);
}

static void put_layer(const struct lm_plan *p, int32_t i, struct lm_str *out)
{
    const struct lm_layer_plan *l = &p->layer[i];

    if (!l->drop_attn && !l->drop_mlp && !l->kv.bits && !l->head.bits && !l->ffn.bits
        && !lm_plan_has_formats(l))
        return;
    lm_str_add(out, "layer %d:", i);
    if (l->drop_attn && l->drop_mlp) {
        lm_str_add(out, " none\n");
        return;
    }
    if (l->drop_attn)
        lm_str_add(out, " attn=none");
    else if (l->kv.bits)
        put_keep("kv", &l->kv, out);
    if (l->head.bits)
        put_keep("heads", &l->head, out);
    if (l->drop_mlp)
        lm_str_add(out, " mlp=none");
    else if (l->ffn.bits)
        put_keep("ffn", &l->ffn, out);
    lm_plan_put_formats(p, i, out);
    lm_str_add(out, "\n");
}

void lm_plan_text(const struct lm_plan *p, struct lm_str *out)
{
    lm_str_add(out, "plan 1 layers=%d\n", p->arch->n_layer);
    if (p->hidden.bits) {
        lm_str_add(out, "model:");
        put_keep("hidden", &p->hidden, out);
        lm_str_add(out, "\n");
    }
    for (int32_t i = 0; i < p->arch->n_layer; i++)
        put_layer(p, i, out);
    for (size_t i = 0; i < p->n_setting; i++) {
        const struct lm_setting *s = &p->setting[i];

        lm_str_add(out, "set %s %s ", s->name, kind_word[s->kind]);
        if (s->kind == LM_GENE_REAL)
            lm_real_text(s->value.real, out);
        else
            lm_str_add(out, "%" PRId64, s->value.integer);
        lm_str_add(out, "\n");
    }
}

/* ---- reading ------------------------------------------------------------------- */

struct reader {
    const char *at;                     /* never behind the final NUL */
    int   line;
    struct lm_plan *plan;
    struct lm_err  *e;
};

static enum lm_status bad(struct reader *r, const char *what)
{
    return lm_fail(r->e, LM_EINPUT, "plan, line %d: %s at '%.20s'", r->line, what, r->at);
}

static bool take(struct reader *r, const char *word)
{
    size_t n = strlen(word);

    if (strncmp(r->at, word, n))
        return false;
    r->at += n;
    return true;
}

static bool number(struct reader *r, int32_t limit, int32_t *out)
{
    int64_t v = 0;

    if (*r->at < '0' || *r->at > '9')
        return false;
    for (; *r->at >= '0' && *r->at <= '9'; r->at++)
        if ((v = 10 * v + (*r->at - '0')) > limit)
            return false;
    *out = (int32_t)v;
    return true;
}

static void mark(uint64_t *bits, int32_t i)
{
    bits[i / 64] |= UINT64_C(1) << (i % 64);
}

static bool read_runs(struct reader *r, int32_t n, uint64_t *bits)
{
    int32_t from, to, last = -1;

    do {
        if (!number(r, n - 1, &from) || from <= last)
            return false;
        to = from;
        if (take(r, "-") && (!number(r, n - 1, &to) || to <= from))
            return false;
        for (int32_t i = from; i <= to; i++)
            mark(bits, i);
        last = to;
    } while (take(r, ","));
    return true;
}

static bool read_digits(struct reader *r, int32_t n, uint64_t *bits)
{
    static const char digits[] = "0123456789abcdef";

    for (int32_t i = 0; i < n; i += 4) {
        const char *d = *r->at ? strchr(digits, *r->at) : NULL;

        if (!d)
            return false;
        for (int32_t j = 0; j < 4; j++) {
            if (!((d - digits) >> j & 1))
                continue;
            if (i + j >= n)
                return false;
            mark(bits, i + j);
        }
        r->at++;
    }
    return true;
}

static enum lm_status read_keep(struct reader *r, struct lm_keep *k)
{
    int32_t kept, n, found = 0;
    size_t words = ((size_t)k->n + 63) / 64;
    bool ok;

    if (k->bits || !number(r, INT32_MAX, &kept) || !take(r, "/")
        || !number(r, INT32_MAX, &n) || !take(r, ":"))
        return bad(r, "expected KEPT/ALL:MEMBERS");
    if (n != k->n)
        return lm_fail(r->e, LM_EINPUT, "plan, line %d: a set of %d members, but the "
                       "model has %d; the plan was made for another model",
                       r->line, n, k->n);
    if (kept < 1 || kept >= n)
        return bad(r, "a set that keeps none or all of its members");
    if (!(k->bits = lm_alloc_array(words, sizeof *k->bits, "plan")))
        return lm_fail_memory(r->e, words * sizeof *k->bits, "a plan");
    ok = take(r, "x") ? read_digits(r, n, k->bits) : read_runs(r, n, k->bits);
    if (!ok)
        return bad(r, "a set of members is malformed");
    for (size_t i = 0; i < words; i++)
        found += __builtin_popcountll(k->bits[i]);
    k->kept = found;
    return found == kept ? LM_OK : bad(r, "a set has another size than it claims");
}

static enum lm_status read_items(struct reader *r, int32_t layer)
{
    struct lm_layer_plan *l = &r->plan->layer[layer];
    enum lm_status st = LM_OK;

    if (take(r, " none"))
        l->drop_attn = l->drop_mlp = true;
    else {
        if (take(r, " attn=none"))
            l->drop_attn = true;
        else if (take(r, " kv="))
            st = read_keep(r, &l->kv);
        if (!st && take(r, " heads="))
            st = read_keep(r, &l->head);
        if (!st && take(r, " mlp=none"))
            l->drop_mlp = true;
        else if (!st && take(r, " ffn="))
            st = read_keep(r, &l->ffn);
        if (!st && (st = lm_plan_read_formats(r->plan, layer, &r->at, r->e)))
            lm_err_prefix(r->e, "plan, line %d: ", r->line);
    }
    return st;
}

static enum lm_status read_setting(struct reader *r)
{
    char name[256];
    size_t n = strcspn(r->at, " \n");
    union lm_value v;
    uint32_t kind;
    char *end;

    if (n == 0 || n >= sizeof name || r->at[n] != ' ')
        return bad(r, "expected NAME KIND VALUE");
    memcpy(name, r->at, n);
    name[n] = '\0';
    if (!lm_plan_names(name))
        return bad(r, "the name of a setting is not printable");
    r->at += n + 1;
    for (kind = LM_GENE_BOOL; kind <= LM_GENE_CHOICE; kind++)
        if (take(r, kind_word[kind]))
            break;
    if (kind > LM_GENE_CHOICE || !take(r, " ") || !strchr("-0123456789", *r->at)
        || !*r->at)
        return bad(r, "expected bool, int, real or choice and a number");
    errno = 0;
    if (kind == LM_GENE_REAL)
        v.real = strtod(r->at, &end);
    else
        v.integer = strtoll(r->at, &end, 10);
    if (end == r->at || errno == ERANGE
        || (kind == LM_GENE_REAL && !isfinite(v.real)))
        return bad(r, "expected a number");
    if (lm_plan_setting(r->plan, name))
        return bad(r, "a setting is given twice");
    r->at = end;
    return lm_plan_set(r->plan, name, kind, v, r->e);
}

static enum lm_status read_lines(struct reader *r)
{
    int32_t layer, last = -1;
    enum lm_status st;

    for (; *r->at; r->line++) {
        if (last < 0 && take(r, "model: hidden=")) {
            st = read_keep(r, &r->plan->hidden);
        } else if (take(r, "layer ")) {
            if (!number(r, r->plan->arch->n_layer - 1, &layer) || layer <= last
                || !take(r, ":"))
                return bad(r, "expected the number of a later layer of the model");
            st = read_items(r, last = layer);
        } else if (take(r, "set ")) {
            st = read_setting(r);
        } else {
            return bad(r, "expected 'model', then 'layer' or 'set'");
        }
        if (st)
            return st;
        if (!take(r, "\n") && *r->at)
            return bad(r, "unexpected text");
    }
    return LM_OK;
}

enum lm_status lm_plan_parse(const struct lm_arch *dense, const char *text,
                             struct lm_plan **out, struct lm_err *e)
{
    struct reader r = { .at = text, .line = 1, .e = e };
    int32_t n = -1;
    enum lm_status st = lm_plan_open(dense, NULL, &r.plan, e);

    *out = NULL;
    if (st)
        return st;
    if (!take(&r, "plan 1 layers=") || !number(&r, INT32_MAX, &n)
        || (!take(&r, "\n") && *r.at))
        st = bad(&r, "expected 'plan 1 layers=N'");
    else if (n != dense->n_layer)
        st = lm_fail(e, LM_EINPUT, "the plan was made for a model of %d layers, this "
                     "one has %d", n, dense->n_layer);
    if (!st) {
        r.line = 2;
        st = read_lines(&r);
    }
    if (!st)
        st = lm_plan_canonical(r.plan, e);
    if (st)
        lm_plan_free(r.plan);
    else
        *out = r.plan;
    return st;
}
