/* SPDX-License-Identifier: Apache-2.0 */
/* plan.c -- edits, their intersection, and the canonical form.
 *
 * Every edit only takes members away, and what it takes depends on the dense
 * model and the scores alone, never on earlier edits.  So edits commute, and
 * the plan of several pruners is the intersection of theirs.                */
#include "plan/plan.h"

#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "space/space.h"

static size_t words(int32_t n)
{
    return ((size_t)n + 63) / 64;
}

bool lm_keep_has(const struct lm_keep *k, int32_t i)
{
    if (i < 0 || i >= k->n)
        return false;
    return !k->bits || (k->bits[i / 64] >> (i % 64) & 1);
}

static void forget(struct lm_keep *k)
{
    lm_release(k->bits);
    k->bits = NULL;
    k->kept = k->n;
}

/* Intersects with the set of `bits` (same number of words). */
static enum lm_status meet(struct lm_keep *k, const uint64_t *bits, struct lm_err *e)
{
    size_t n = words(k->n);

    if (!k->bits) {
        if (!(k->bits = lm_alloc_array(n, sizeof *bits, "plan")))
            return lm_fail_memory(e, n * sizeof *bits, "a plan");
        memcpy(k->bits, bits, n * sizeof *bits);
    }
    k->kept = 0;
    for (size_t i = 0; i < n; i++) {
        k->bits[i] &= bits[i];
        k->kept += __builtin_popcountll(k->bits[i]);
    }
    return LM_OK;
}

enum lm_status lm_plan_open(const struct lm_arch *dense, struct lm_space *space,
                            struct lm_plan **out, struct lm_err *e)
{
    size_t n = (size_t)dense->n_layer;
    struct lm_plan *p = lm_alloc(sizeof *p, "plan");

    *out = NULL;
    if (!p || !(p->layer = lm_alloc_array(n ? n : 1, sizeof *p->layer, "plan"))) {
        lm_release(p);
        return lm_fail_memory(e, n * sizeof *p->layer, "a plan");
    }
    p->arch = dense;
    p->space = space;
    p->hidden.n = p->hidden.kept = dense->hidden;
    for (size_t i = 0; i < n; i++) {
        const struct lm_layer_shape *s = &dense->layer[i];
        struct lm_layer_plan *l = &p->layer[i];

        l->kv.n = l->kv.kept = s->n_kv;
        l->head.n = l->head.kept = s->n_head;
        l->ffn.n = l->ffn.kept = s->n_ff;
        l->drop_attn = s->n_kv == 0;
        l->drop_mlp = s->n_ff == 0;
    }
    *out = p;
    return LM_OK;
}

void lm_plan_free(struct lm_plan *p)
{
    if (!p)
        return;
    for (int32_t i = 0; i < p->arch->n_layer; i++) {
        lm_release(p->layer[i].kv.bits);
        lm_release(p->layer[i].head.bits);
        lm_release(p->layer[i].ffn.bits);
    }
    for (size_t i = 0; i < p->n_setting; i++)
        lm_release(p->setting[i].name);
    lm_release(p->setting);
    lm_release(p->hidden.bits);
    lm_release(p->layer);
    lm_release(p);
}

/* NULL and LM_EBUG when there is no such layer. */
static struct lm_layer_plan *find_layer(struct lm_plan *p, int32_t layer,
                                        struct lm_err *e)
{
    if (layer >= 0 && layer < p->arch->n_layer)
        return &p->layer[layer];
    lm_fail(e, LM_EBUG, "an edit names layer %d of a model with %d", layer,
            p->arch->n_layer);
    return NULL;
}

static enum lm_status find_keep(struct lm_plan *p, uint32_t site, int32_t layer,
                                struct lm_keep **out, struct lm_err *e)
{
    struct lm_layer_plan *l;

    if (site == LM_SITE_HIDDEN && layer == -1) {
        *out = &p->hidden;
        return LM_OK;
    }
    if (!(l = find_layer(p, layer, e)))
        return LM_EBUG;
    if (site == LM_SITE_KV_GROUP)
        *out = &l->kv;
    else if (site == LM_SITE_HEAD)
        *out = &l->head;
    else if (site == LM_SITE_FFN_CHANNEL)
        *out = &l->ffn;
    else
        return lm_fail(e, LM_EUNSUPPORTED, "layer %d: a plan holds kept KV groups, query "
                       "heads and FFN channels, and hidden channels of the model (layer "
                       "-1); sites of kind %u are not among them", layer, site);
    return LM_OK;
}

static enum lm_status drop_member(struct lm_plan *p, struct lm_site s, struct lm_err *e)
{
    struct lm_keep *k = NULL;
    uint64_t *bits;
    enum lm_status st = find_keep(p, s.kind, s.layer, &k, e);

    if (st)
        return st;
    if (s.index < 0 || s.index >= k->n)
        return lm_fail(e, LM_EBUG, "layer %d: an edit drops member %lld of %d",
                       s.layer, (long long)s.index, k->n);
    if (!(bits = lm_alloc_array(words(k->n), sizeof *bits, "plan")))
        return lm_fail_memory(e, words(k->n) * sizeof *bits, "a plan");
    for (int32_t i = 0; i < k->n; i++)
        if (i != s.index)
            bits[i / 64] |= UINT64_C(1) << (i % 64);
    st = meet(k, bits, e);
    lm_release(bits);
    return st;
}

/* A pruner's edits are those it declares: exports were checked against them. */
static enum lm_status check_may(const struct lm_plan *p, uint32_t site, struct lm_err *e)
{
    if (!p->may || (site < LM_N_SITE_KINDS && (p->may & LM_BIT(site))))
        return LM_OK;
    return lm_fail(e, LM_EBUG, "it edits %s, which its `edits` does not declare",
                   lm_site_name(site));
}

enum lm_status lm_plan_drop(struct lm_plan *p, struct lm_site s, struct lm_err *e)
{
    struct lm_layer_plan *l;

    if (check_may(p, s.kind, e))
        return LM_EBUG;
    if (s.kind == LM_SITE_HIDDEN)
        return drop_member(p, s, e);
    if (!(l = find_layer(p, s.layer, e)))
        return LM_EBUG;
    switch (s.kind) {
    case LM_SITE_LAYER:
        l->drop_attn = l->drop_mlp = true;
        return LM_OK;
    case LM_SITE_ATTN:
        l->drop_attn = true;
        return LM_OK;
    case LM_SITE_MLP:
        l->drop_mlp = true;
        return LM_OK;
    default:
        return drop_member(p, s, e);
    }
}

enum lm_status lm_plan_keep(struct lm_plan *p, uint32_t site, int32_t layer,
                            const int32_t *index, int64_t n, struct lm_err *e)
{
    struct lm_keep *k = NULL;
    uint64_t *bits;
    enum lm_status st = check_may(p, site, e);

    if (!st)
        st = find_keep(p, site, layer, &k, e);
    if (st || !k->n)
        return st;
    if (!(bits = lm_alloc_array(words(k->n), sizeof *bits, "plan")))
        return lm_fail_memory(e, words(k->n) * sizeof *bits, "a plan");
    for (int64_t i = 0; i < n; i++) {
        if (index[i] < 0 || index[i] >= k->n) {
            lm_release(bits);
            return lm_fail(e, LM_EBUG, "layer %d: an edit keeps member %d of %d",
                           layer, index[i], k->n);
        }
        bits[index[i] / 64] |= UINT64_C(1) << (index[i] % 64);
    }
    st = meet(k, bits, e);
    lm_release(bits);
    return st;
}

/* Keeps the first `kept` heads of each group in the order of all heads. */
static enum lm_status keep_each(struct lm_plan *p, int32_t layer, const int32_t *order,
                                int64_t kept, struct lm_err *e)
{
    const struct lm_layer_shape *s = &p->arch->layer[layer];
    size_t n = (size_t)s->n_kv + (size_t)s->n_head;
    int32_t *taken = lm_alloc_array(n, sizeof *taken, "plan"), *index;
    enum lm_status st;
    int64_t count = 0;

    if (!taken)
        return lm_fail_memory(e, n * sizeof *taken, "a plan");
    index = taken + s->n_kv;
    for (int32_t i = 0; i < s->n_head; i++)
        if (taken[order[i] / (s->n_head / s->n_kv)]++ < kept)
            index[count++] = order[i];
    st = lm_plan_keep(p, LM_SITE_HEAD, layer, index, count, e);
    lm_release(taken);
    return st;
}

enum lm_status lm_plan_keep_top(struct lm_plan *p, uint32_t site, int32_t layer,
                                int64_t kept, struct lm_err *e)
{
    struct lm_keep *k = NULL;
    const int32_t *order;
    int64_t n;
    int32_t most;
    enum lm_status st = check_may(p, site, e);

    if (!st)
        st = find_keep(p, site, layer, &k, e);
    if (st || !k->n)
        return st;
    most = site == LM_SITE_HEAD ? k->n / p->layer[layer].kv.n : k->n;
    if (kept == most)
        return LM_OK;
    if (kept < 0 || kept > most)
        return lm_fail(e, LM_EBUG, "layer %d: an edit keeps the best %lld of %d",
                       layer, (long long)kept, most);
    if (kept == 0)                      /* needs no scores */
        return lm_plan_keep(p, site, layer, NULL, 0, e);
    if (!p->space)
        return lm_fail(e, LM_EBUG, "layer %d: an edit ranks members, but the plan has "
                       "no scores", layer);
    if ((st = lm_space_order(p->space, site, layer, &order, &n, e)))
        return st;
    if (n != k->n)
        return lm_fail(e, LM_EBUG, "layer %d: %lld scores for %d members", layer,
                       (long long)n, k->n);
    return site == LM_SITE_HEAD ? keep_each(p, layer, order, kept, e)
                                : lm_plan_keep(p, site, layer, order, kept, e);
}

/* ---- settings ---------------------------------------------------------------- */

const struct lm_setting *lm_plan_setting(const struct lm_plan *p, const char *name)
{
    for (size_t i = 0; i < p->n_setting; i++)
        if (!strcmp(p->setting[i].name, name))
            return &p->setting[i];
    return NULL;
}

/* Printable ASCII without blanks: what the text of a plan can hold. */
bool lm_plan_names(const char *name)
{
    const char *p = name;
    while (*p > ' ' && *p < 127)
        p++;
    return p > name && !*p;
}

/* Inserted by name, so that the list is sorted at every moment. */
enum lm_status lm_plan_set(struct lm_plan *p, const char *name, uint32_t kind,
                           union lm_value v, struct lm_err *e)
{
    struct lm_setting *list;
    size_t at = 0;
    char *copy;

    if (kind == LM_GENE_SUBSET || kind < LM_GENE_BOOL || kind > LM_GENE_SUBSET)
        return lm_fail(e, LM_EBUG, "setting '%s' is no single value", name);
    if (!lm_plan_names(name))
        return lm_fail(e, LM_EBUG, "'%s' cannot name a setting", name);
    while (at < p->n_setting && strcmp(p->setting[at].name, name) < 0)
        at++;
    if (at < p->n_setting && !strcmp(p->setting[at].name, name)) {
        p->setting[at].value = v;
        p->setting[at].kind = kind;
        return LM_OK;
    }
    list = lm_resize(p->setting, (p->n_setting + 1) * sizeof *list);
    if (list)
        p->setting = list;
    if (!list || !(copy = lm_strdup(name, "plan")))
        return lm_fail_memory(e, sizeof *list, "a plan");
    memmove(list + at + 1, list + at, (p->n_setting - at) * sizeof *list);
    list[at] = (struct lm_setting){ .name = copy, .value = v, .kind = kind };
    p->n_setting++;
    return LM_OK;
}

/* ---- the canonical form -------------------------------------------------------- */

/* Heads and groups agree: neither has a member of which the other has nothing. */
static enum lm_status settle_heads(struct lm_layer_plan *l, int32_t layer,
                                   struct lm_err *e)
{
    int32_t rep = l->kv.n ? l->head.n / l->kv.n : 0, each = 0;
    uint64_t *group;
    enum lm_status st;

    if (!l->head.bits)
        return LM_OK;
    if (!(group = lm_alloc_array(words(l->kv.n), sizeof *group, "plan")))
        return lm_fail_memory(e, words(l->kv.n) * sizeof *group, "a plan");
    for (int32_t i = 0; i < l->head.n; i++)
        if (!lm_keep_has(&l->kv, i / rep))
            l->head.bits[i / 64] &= ~(UINT64_C(1) << (i % 64));
        else if (lm_keep_has(&l->head, i))
            group[i / rep / 64] |= UINT64_C(1) << (i / rep % 64);
    st = meet(&l->kv, group, e);
    lm_release(group);
    l->head.kept = 0;
    for (int32_t i = 0, own = 0; !st && i < l->head.n; i++) {
        own = (i % rep ? own : 0) + lm_keep_has(&l->head, i);
        if ((i + 1) % rep || !own)
            continue;
        each = each ? each : own;
        l->head.kept += own;
        if (own != each)
            st = lm_fail(e, LM_EINFEASIBLE, "layer %d: one KV group would keep %d query "
                         "heads and another %d", layer, each, own);
    }
    if (!st && each == rep)
        forget(&l->head);
    return st;
}

static void settle(struct lm_keep *k, bool *drop)
{
    if (k->kept == 0)
        *drop = true;
    if (*drop || k->kept == k->n)
        forget(k);
}

enum lm_status lm_plan_canonical(struct lm_plan *p, struct lm_err *e)
{
    bool any = false;

    for (int32_t i = 0; i < p->arch->n_layer; i++) {
        struct lm_layer_plan *l = &p->layer[i];
        enum lm_status st = l->drop_attn ? LM_OK : settle_heads(l, i, e);

        if (st)
            return st;
        settle(&l->kv, &l->drop_attn);
        if (l->drop_attn)
            forget(&l->head);
        settle(&l->ffn, &l->drop_mlp);
        lm_plan_settle_formats(l);
        any = any || !l->drop_attn || !l->drop_mlp;
    }
    if (p->hidden.kept == 0)
        return lm_fail(e, LM_EINFEASIBLE, "the plan leaves no channel of the residual "
                       "stream");
    if (p->hidden.kept == p->hidden.n)
        forget(&p->hidden);
    return any ? LM_OK
        : lm_fail(e, LM_EINFEASIBLE, "the plan leaves no block of any layer");
}

static uint64_t hash_keep(const struct lm_keep *k, bool drop, uint64_t h)
{
    h = lm_hash_u64((uint64_t)k->n << 1 | drop, h);
    if (!drop && k->bits)
        h = lm_hash(k->bits, words(k->n) * sizeof *k->bits, h);
    return h;
}

uint64_t lm_plan_hash(const struct lm_plan *p)
{
    uint64_t h = lm_hash_u64((uint64_t)p->arch->n_layer, 0x706c616e31);  /* "plan1" */

    if (p->hidden.bits)                 /* else as before there were such edits */
        h = hash_keep(&p->hidden, false, lm_hash_str("hidden", h));
    for (int32_t i = 0; i < p->arch->n_layer; i++) {
        h = hash_keep(&p->layer[i].kv, p->layer[i].drop_attn, h);
        if (p->layer[i].head.bits)
            h = hash_keep(&p->layer[i].head, false, h);
        h = hash_keep(&p->layer[i].ffn, p->layer[i].drop_mlp, h);
        h = lm_plan_hash_formats(p, i, h);
    }
    for (size_t i = 0; i < p->n_setting; i++) {
        h = lm_hash_str(p->setting[i].name, h);
        h = lm_hash_u64(p->setting[i].kind, h);
        h = lm_hash_u64(p->setting[i].value.bits, h);
    }
    return h;
}

static bool same_keep(const struct lm_keep *a, const struct lm_keep *b)
{
    if (a->n != b->n || a->kept != b->kept || !a->bits != !b->bits)
        return false;
    return !a->bits || !memcmp(a->bits, b->bits, words(a->n) * sizeof *a->bits);
}

bool lm_plan_equal(const struct lm_plan *a, const struct lm_plan *b)
{
    if (a->arch->n_layer != b->arch->n_layer || a->n_setting != b->n_setting
        || !same_keep(&a->hidden, &b->hidden))
        return false;
    for (int32_t i = 0; i < a->arch->n_layer; i++) {
        const struct lm_layer_plan *x = &a->layer[i], *y = &b->layer[i];

        if (x->drop_attn != y->drop_attn || x->drop_mlp != y->drop_mlp
            || !same_keep(&x->kv, &y->kv) || !same_keep(&x->head, &y->head)
            || !same_keep(&x->ffn, &y->ffn)
            || !lm_plan_same_formats(a, b, i))
            return false;
    }
    for (size_t i = 0; i < a->n_setting; i++) {
        const struct lm_setting *x = &a->setting[i], *y = &b->setting[i];

        if (strcmp(x->name, y->name) || x->kind != y->kind
            || x->value.bits != y->value.bits)
            return false;
    }
    return true;
}
