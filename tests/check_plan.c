/* SPDX-License-Identifier: Apache-2.0 */
/* check_plan.c -- edits, the canonical form, text and back, costs. */
#include <math.h>

#include "base/rng.h"
#include "plan/plan.h"
#include "testing.h"

enum { LAYERS = 4, FF = 200, KV = 3 };
static const struct lm_layer_shape shapes[LAYERS] = {
    { 9, KV, FF, 0 }, { 9, KV, FF, 0 }, { 0, 0, FF, 0 }, { 9, KV, FF, 0 }
};
static const struct lm_arch arch = {
    .struct_size = sizeof arch, .n_layer = LAYERS, .hidden = 64, .head_dim = 8,
    .vocab = 100, .tied = true, .layer = shapes
};
static struct lm_err e;

/* Scores: channel i of layer l has (i * 37 + l) % FF, group g has g, query head h
 * has 5 h % 9.                                                                 */
static enum lm_status give(void *ctx, uint32_t site, int32_t layer, const double **score,
                           int64_t *n, struct lm_err *err)
{
    static double ffn[LAYERS][FF], kv[KV], head[9], hidden[64];

    (void)ctx;
    for (int i = 0; i < 64; i++)
        hidden[i] = (i + 60) % 64;      /* 3, 2, 1, 0 are the best */
    for (int i = 0; i < 9; i++)
        head[i] = 5 * i % 9;
    if (site == LM_SITE_HEAD) {
        *score = head;
        *n = 9;
        return LM_OK;
    }
    if (site == LM_SITE_HIDDEN && layer == -1) {
        *score = hidden;
        *n = arch.hidden;
        return LM_OK;
    }
    if (site != LM_SITE_FFN_CHANNEL && site != LM_SITE_KV_GROUP)
        return lm_fail(err, LM_EUNSUPPORTED, "no such score");
    for (int i = 0; i < FF; i++)
        ffn[layer][i] = (i * 37 + layer) % FF;
    for (int i = 0; i < KV; i++)
        kv[i] = i;
    *score = site == LM_SITE_KV_GROUP ? kv : ffn[layer];
    *n = site == LM_SITE_KV_GROUP ? KV : FF;
    return LM_OK;
}

static struct lm_space *space;

static void setup(void)
{
    ck_assert_ok(lm_space_open(give, NULL, &space, &e), e);
}

static void teardown(void)
{
    lm_space_close(space);
}

static bool same_keep(const struct lm_keep *a, const struct lm_keep *b)
{
    if (a->n != b->n || a->kept != b->kept || !a->bits != !b->bits)
        return false;
    return !a->bits || !memcmp(a->bits, b->bits, ((size_t)a->n + 63) / 64 * 8);
}

static bool same_plan(const struct lm_plan *a, const struct lm_plan *b)
{
    if (a->arch->n_layer != b->arch->n_layer || a->n_setting != b->n_setting
        || !same_keep(&a->hidden, &b->hidden))
        return false;
    for (int32_t i = 0; i < a->arch->n_layer; i++) {
        const struct lm_layer_plan *x = &a->layer[i], *y = &b->layer[i];

        if (x->drop_attn != y->drop_attn || x->drop_mlp != y->drop_mlp
            || !same_keep(&x->kv, &y->kv) || !same_keep(&x->head, &y->head)
            || !same_keep(&x->ffn, &y->ffn))
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

static struct lm_plan *open_plan(void)
{
    struct lm_plan *p;

    ck_assert_ok(lm_plan_open(&arch, space, &p, &e), e);
    return p;
}

/* Edit number i, one of each kind and more. */
static enum lm_status edit(struct lm_plan *p, int i)
{
    const int32_t some[] = { 5, 0, 199, 64, 63, 100 }, more[] = { 199, 7, 5, 64 };
    const int32_t groups[] = { 2, 0 };

    switch (i) {
    case 0:
        return lm_plan_keep(p, LM_SITE_FFN_CHANNEL, 0, some, 6, &e);
    case 1:
        return lm_plan_keep(p, LM_SITE_FFN_CHANNEL, 0, more, 4, &e);
    case 2:
        return lm_plan_keep(p, LM_SITE_KV_GROUP, 1, groups, 2, &e);
    case 3:
        return lm_plan_keep_top(p, LM_SITE_FFN_CHANNEL, 1, 96, &e);
    case 4:
        return lm_plan_drop(p, (struct lm_site){ LM_SITE_ATTN, 3, 3 }, &e);
    case 5:
        return lm_plan_keep_top(p, LM_SITE_KV_GROUP, 1, 1, &e);
    case 6:
        return lm_plan_drop(p, (struct lm_site){ LM_SITE_FFN_CHANNEL, 3, 17 }, &e);
    case 7:
        return lm_plan_drop(p, (struct lm_site){ LM_SITE_MLP, 2, 2 }, &e);
    case 8:
        return lm_plan_keep_top(p, LM_SITE_HIDDEN, -1, 48, &e);
    case 9:
        return lm_plan_set(p, "repair.lambda", LM_GENE_REAL,
                           (union lm_value){ .real = 0.1 }, &e);
    default:
        return lm_plan_set(p, "a.mode", LM_GENE_CHOICE, (union lm_value){ .integer = 2 },
                           &e);
    }
}
enum { EDITS = 11 };

static struct lm_plan *edited(const int *order, int n)
{
    struct lm_plan *p = open_plan();

    for (int i = 0; i < n; i++)
        ck_assert_ok(edit(p, order[i]), e);
    ck_assert_ok(lm_plan_canonical(p, &e), e);
    return p;
}

static char *text_of(const struct lm_plan *p)
{
    struct lm_str t = { 0 };

    lm_plan_text(p, &t);
    ck_assert(!t.failed);
    return t.s;
}

START_TEST(edits_intersect)
{
    const int both[] = { 0, 1, 2, 5, 6 };
    struct lm_plan *p = edited(both, 5);
    const struct lm_layer_plan *l = p->layer;

    for (int32_t i = 0; i < FF; i++) {
        ck_assert_int_eq(lm_keep_has(&l[0].ffn, i), i == 5 || i == 64 || i == 199);
        ck_assert_int_eq(lm_keep_has(&l[3].ffn, i), i != 17);
    }
    ck_assert_int_eq(l[0].ffn.kept, 3);
    /* groups {0, 2} and the best one, which is 2 */
    ck_assert(lm_keep_has(&l[1].kv, 2) && !lm_keep_has(&l[1].kv, 0));
    ck_assert(!lm_keep_has(&l[1].kv, -1) && !lm_keep_has(&l[1].kv, KV));
    lm_plan_free(p);
}
END_TEST

START_TEST(edits_commute)
{
    int order[EDITS];
    struct lm_plan *p, *q;
    struct lm_rng r = lm_rng(1, "test", 0);

    for (int i = 0; i < EDITS; i++)
        order[i] = i;
    p = edited(order, EDITS);
    for (int round = 0; round < 20; round++) {
        for (int i = EDITS - 1; i > 0; i--) {
            int j = (int)lm_rng_below(&r, (uint64_t)i + 1), x = order[i];

            order[i] = order[j];
            order[j] = x;
        }
        q = edited(order, EDITS);
        ck_assert(same_plan(p, q));
        ck_assert_uint_eq(lm_plan_hash(p), lm_plan_hash(q));
        lm_plan_free(q);
    }
    lm_plan_free(p);
}
END_TEST

START_TEST(the_best_are_kept)
{
    const int top[] = { 3 };
    struct lm_plan *p = edited(top, 1);

    for (int32_t i = 0; i < FF; i++)
        ck_assert_int_eq(lm_keep_has(&p->layer[1].ffn, i), (i * 37 + 1) % FF >= FF - 96);
    lm_plan_free(p);
}
END_TEST

START_TEST(the_form_is_canonical)
{
    int32_t all[FF];
    struct lm_plan *p = open_plan(), *q = open_plan();

    for (int32_t i = 0; i < FF; i++)
        all[i] = FF - 1 - i;
    ck_assert_ok(lm_plan_keep(p, LM_SITE_FFN_CHANNEL, 0, all, FF, &e), e);
    ck_assert_ok(lm_plan_keep(p, LM_SITE_FFN_CHANNEL, 3, all, 9, &e), e);
    ck_assert_ok(lm_plan_drop(p, (struct lm_site){ LM_SITE_LAYER, 3, 3 }, &e), e);
    ck_assert_ok(lm_plan_keep(p, LM_SITE_KV_GROUP, 1, all, 0, &e), e);
    ck_assert_ok(lm_plan_canonical(p, &e), e);
    ck_assert_ptr_null(p->layer[0].ffn.bits);
    ck_assert(p->layer[1].drop_attn && !p->layer[1].drop_mlp);

    ck_assert_ok(lm_plan_drop(q, (struct lm_site){ LM_SITE_ATTN, 1, 1 }, &e), e);
    ck_assert_ok(lm_plan_drop(q, (struct lm_site){ LM_SITE_ATTN, 3, 3 }, &e), e);
    ck_assert_ok(lm_plan_keep_top(q, LM_SITE_FFN_CHANNEL, 3, 0, &e), e);
    ck_assert_ok(lm_plan_canonical(q, &e), e);
    ck_assert(same_plan(p, q));
    ck_assert_uint_eq(lm_plan_hash(p), lm_plan_hash(q));
    lm_plan_free(p);
    lm_plan_free(q);
}
END_TEST

START_TEST(hashes_tell_plans_apart)
{
    uint64_t h[EDITS + 1];

    for (int i = 0; i <= EDITS; i++) {
        struct lm_plan *p = edited(&i, i < EDITS);

        h[i] = lm_plan_hash(p);
        for (int j = 0; j < i; j++)
            ck_assert_uint_ne(h[i], h[j]);
        lm_plan_free(p);
    }
}
END_TEST

/* Canonical, as text without the first line and that of layer 2, which has no
 * attention; frees the text of the call before.                              */
static const char *settled(struct lm_plan *p)
{
    static char *t;

    lm_release(t);
    t = NULL;
    if (!p)
        return NULL;
    ck_assert_ok(lm_plan_canonical(p, &e), e);
    t = text_of(p);
    ck_assert_ptr_nonnull(strstr(t, "layer 2: attn=none\n"));
    *strstr(t, "layer 2: attn=none\n") = '\0';
    return strchr(t, '\n') + 1;
}

START_TEST(heads_go_from_every_group)
{
    static const char both[] = "layer 0: kv=2/3:0,2 heads=4/9:1-2,7-8\n";
    const int32_t groups[] = { 2, 0 }, four[] = { 8, 1, 2, 7 };
    const int32_t two_groups[] = { 0, 1, 2, 6, 7, 8 };
    struct lm_plan *p = open_plan(), *q = open_plan(), *r = open_plan(), *s = open_plan();
    struct lm_plan *back;
    struct lm_layer_shape shape;

    ck_assert_ok(lm_plan_keep_top(p, LM_SITE_HEAD, 0, 2, &e), e);
    ck_assert_ok(lm_plan_keep_top(p, LM_SITE_HEAD, 1, 3, &e), e);       /* all */
    ck_assert_ok(lm_plan_keep_top(p, LM_SITE_HEAD, 2, 1, &e), e);       /* has none */
    ck_assert_str_eq(settled(p), "layer 0: heads=6/9:1-3,5,7-8\n");
    shape = lm_plan_shape(p, 0);
    ck_assert(shape.n_head == 6 && shape.n_kv == 3 && lm_plan_heads_each(p, 0) == 2);
    ck_assert_uint_eq(lm_plan_features(p), LM_SHAPE_UNEVEN_HEADS | LM_SHAPE_NO_ATTN);
    ck_assert_ok(lm_plan_keep(p, LM_SITE_KV_GROUP, 0, groups, 2, &e), e);
    ck_assert_str_eq(settled(p), both);
    shape = lm_plan_shape(p, 0);
    ck_assert(shape.n_head == 4 && shape.n_kv == 2);

    ck_assert_ok(lm_plan_keep(q, LM_SITE_KV_GROUP, 0, groups, 2, &e), e);
    ck_assert_ok(lm_plan_keep_top(q, LM_SITE_HEAD, 0, 2, &e), e);
    ck_assert_ok(lm_plan_keep(r, LM_SITE_HEAD, 0, four, 4, &e), e);     /* a group goes */
    ck_assert_str_eq(settled(q), both);
    ck_assert_str_eq(settled(r), both);
    ck_assert(same_plan(p, q) && same_plan(p, r) && lm_plan_equal(p, r));
    ck_assert_uint_eq(lm_plan_hash(p), lm_plan_hash(r));
    ck_assert_ok(lm_plan_parse(&arch, "plan 1 layers=4\nlayer 0: kv=2/3:0,2 "
                               "heads=4/9:1-2,7-8\n", &back, &e), e);
    ck_assert(same_plan(p, back));
    ck_assert_ok(lm_plan_keep_top(s, LM_SITE_HEAD, 0, 2, &e), e);
    ck_assert_ok(lm_plan_canonical(s, &e), e);
    ck_assert_uint_ne(lm_plan_hash(s), lm_plan_hash(p));
    lm_plan_free(s);
    s = open_plan();
    ck_assert_ok(lm_plan_keep(s, LM_SITE_HEAD, 0, two_groups, 6, &e), e);
    ck_assert_str_eq(settled(s), "layer 0: kv=2/3:0,2\n");  /* whole groups */
    ck_assert_ok(lm_plan_keep_top(s, LM_SITE_HEAD, 0, 0, &e), e);
    ck_assert_str_eq(settled(s), "layer 0: attn=none\n");
    settled(NULL);
    lm_plan_free(back);
    lm_plan_free(p);
    lm_plan_free(q);
    lm_plan_free(r);
    lm_plan_free(s);
}
END_TEST

START_TEST(groups_keep_equally_many_heads)
{
    const int32_t three[] = { 0, 1, 3 };
    struct lm_plan *p = open_plan(), *q = NULL;

    ck_assert_ok(lm_plan_keep(p, LM_SITE_HEAD, 1, three, 3, &e), e);
    ck_assert_int_eq(lm_plan_canonical(p, &e), LM_EINFEASIBLE);
    ck_assert_ptr_nonnull(strstr(e.text, "layer 1"));
    lm_plan_free(p);
    p = open_plan();
    ck_assert_ok(lm_plan_drop(p, (struct lm_site){ LM_SITE_HEAD, 1, 4 }, &e), e);
    ck_assert_int_eq(lm_plan_canonical(p, &e), LM_EINFEASIBLE);
    ck_assert_int_eq(lm_plan_drop(p, (struct lm_site){ LM_SITE_HEAD, 1, 9 }, &e),
                     LM_EBUG);
    ck_assert_int_eq(lm_plan_keep_top(p, LM_SITE_HEAD, 1, 4, &e), LM_EBUG);
    ck_assert_int_eq(lm_plan_parse(&arch, "plan 1 layers=4\n"
                                   "layer 0: heads=3/9:0-1,3\n", &q, &e),
                     LM_EINFEASIBLE);
    ck_assert_ptr_null(q);
    lm_plan_free(p);
}
END_TEST

START_TEST(the_stream_is_the_models)
{
    const int32_t some[] = { 0, 1, 2, 3, 9 }, all = 64;
    int32_t every[64];
    struct lm_plan *p = open_plan(), *q = open_plan(), *none = open_plan(), *back;

    for (int32_t i = 0; i < 64; i++)
        every[i] = i;
    ck_assert_ok(lm_plan_keep_top(p, LM_SITE_HIDDEN, -1, 4, &e), e);
    ck_assert_str_eq(settled(p), "model: hidden=4/64:0-3\n");
    ck_assert_uint_eq(lm_plan_features(p), lm_plan_features(none));
    ck_assert_uint_ne(lm_plan_hash(p), lm_plan_hash(none));
    ck_assert(!lm_plan_equal(p, none));
    ck_assert_ok(lm_plan_keep(q, LM_SITE_HIDDEN, -1, some, 5, &e), e);
    ck_assert_ok(lm_plan_drop(q, (struct lm_site){ LM_SITE_HIDDEN, -1, 9 }, &e), e);
    ck_assert_str_eq(settled(q), "model: hidden=4/64:0-3\n");
    ck_assert(lm_plan_equal(p, q));
    ck_assert_uint_eq(lm_plan_hash(p), lm_plan_hash(q));
    ck_assert_ok(lm_plan_parse(&arch, "plan 1 layers=4\nmodel: hidden=4/64:0-3\n", &back,
                               &e), e);
    ck_assert(same_plan(p, back));
    lm_plan_free(back);
    ck_assert_ok(lm_plan_keep(none, LM_SITE_HIDDEN, -1, every, all, &e), e);
    ck_assert_str_eq(settled(none), "");                /* all is no edit */
    ck_assert_int_eq(lm_plan_keep(p, LM_SITE_HIDDEN, -1, &all, 1, &e), LM_EBUG);
    ck_assert_int_eq(lm_plan_drop(p, (struct lm_site){ LM_SITE_HIDDEN, 0, 1 }, &e),
                     LM_EUNSUPPORTED);
    ck_assert_ok(lm_plan_keep_top(p, LM_SITE_HIDDEN, -1, 0, &e), e);
    ck_assert_int_eq(lm_plan_canonical(p, &e), LM_EINFEASIBLE);
    settled(NULL);
    lm_plan_free(p);
    lm_plan_free(q);
    lm_plan_free(none);
}
END_TEST

START_TEST(bad_edits_are_refused)
{
    struct lm_plan *p = open_plan(), *q;
    const int32_t off[] = { 0, FF };

    ck_assert_int_eq(lm_plan_keep(p, LM_SITE_FFN_CHANNEL, 0, off, 2, &e), LM_EBUG);
    ck_assert_int_eq(lm_plan_keep(p, LM_SITE_FFN_CHANNEL, LAYERS, off, 1, &e), LM_EBUG);
    ck_assert_int_eq(lm_plan_keep(p, LM_SITE_HIDDEN, 0, off, 1, &e),
                     LM_EUNSUPPORTED);
    ck_assert_int_eq(lm_plan_keep_top(p, LM_SITE_FFN_CHANNEL, 0, FF + 1, &e), LM_EBUG);
    ck_assert_int_eq(lm_plan_drop(p, (struct lm_site){ LM_SITE_KV_GROUP, 0, KV }, &e),
                     LM_EBUG);
    ck_assert_int_eq(lm_plan_set(p, "a b", LM_GENE_INT, (union lm_value){ 0 }, &e),
                     LM_EBUG);
    for (int32_t i = 0; i < LAYERS; i++)
        ck_assert_ok(lm_plan_drop(p, (struct lm_site){ LM_SITE_LAYER, i, i }, &e), e);
    ck_assert_int_eq(lm_plan_canonical(p, &e), LM_EINFEASIBLE);
    lm_plan_free(p);
    ck_assert_ok(lm_plan_open(&arch, NULL, &q, &e), e);
    ck_assert_int_eq(lm_plan_keep_top(q, LM_SITE_FFN_CHANNEL, 0, 4, &e), LM_EBUG);
    lm_plan_free(q);
}
END_TEST

START_TEST(text_is_short_and_exact)
{
    const int some[] = { 0, 2, 4, 7, 8, 9, 10 };
    struct lm_plan *p = edited(some, 7);
    char *t = text_of(p);

    ck_assert_str_eq(t, "plan 1 layers=4\n"
                     "model: hidden=48/64:0-3,20-63\n"
                     "layer 0: ffn=6/200:0,5,63-64,100,199\n"
                     "layer 1: kv=2/3:0,2\n"
                     "layer 2: none\n"
                     "layer 3: attn=none\n"
                     "set a.mode choice 2\n"
                     "set repair.lambda real 0.1\n");
    lm_release(t);
    lm_plan_free(p);
}
END_TEST

START_TEST(text_comes_back)
{
    struct lm_rng r = lm_rng(3, "test", 0);

    for (int round = 0; round < 200; round++) {
        int list[EDITS + 1], n = 0;
        struct lm_plan *p, *q;
        char *t, *u;

        for (int i = 0; i < EDITS; i++)
            if (lm_rng_below(&r, 2))
                list[n++] = i;
        p = edited(list, n);
        t = text_of(p);
        ck_assert_ok(lm_plan_parse(&arch, t, &q, &e), e);
        ck_assert(same_plan(p, q));
        ck_assert_uint_eq(lm_plan_hash(p), lm_plan_hash(q));
        u = text_of(q);
        ck_assert_str_eq(t, u);
        lm_release(t);
        lm_release(u);
        lm_plan_free(p);
        lm_plan_free(q);
    }
}
END_TEST

START_TEST(a_large_plan_stays_small)
{
    struct lm_layer_shape wide[30];
    struct lm_arch a = arch;
    struct lm_plan *p, *q;
    struct lm_rng r = lm_rng(5, "test", 0);
    char *t;

    for (int i = 0; i < 30; i++)
        wide[i] = (struct lm_layer_shape){ 9, 3, 1536, 0 };
    a.n_layer = 30;
    a.layer = wide;
    ck_assert_ok(lm_plan_open(&a, NULL, &p, &e), e);
    for (int32_t i = 0; i < 30; i++)
        for (int32_t c = 0; c < 1536; c++)
            if (lm_rng_below(&r, 2))
                ck_assert_ok(lm_plan_drop(
                    p, (struct lm_site){ LM_SITE_FFN_CHANNEL, i, c }, &e), e);
    ck_assert_ok(lm_plan_canonical(p, &e), e);
    t = text_of(p);
    ck_assert_uint_lt(strlen(t), 12500);
    ck_assert_ok(lm_plan_parse(&a, t, &q, &e), e);
    ck_assert(same_plan(p, q));
    lm_release(t);
    lm_plan_free(p);
    lm_plan_free(q);
}
END_TEST

START_TEST(bad_text_is_refused)
{
    static const char *const bad[] = {
        "", "plan", "plan 2 layers=4\n", "plan 1 layers=5\n", "plan 1 layers=4x\n",
        "plan 1 layers=4\nlayer 4: none\n", "plan 1 layers=4\nlayer 0 none\n",
        "plan 1 layers=4\nlayer 1: none\nlayer 0: none\n",
        "plan 1 layers=4\nlayer 1: none\nlayer 1: none\n",
        "plan 1 layers=4\nlayer 1: kv=1/4:0\n", "plan 1 layers=4\nlayer 1: kv=2/3:0\n",
        "plan 1 layers=4\nlayer 1: kv=1/3:3\n", "plan 1 layers=4\nlayer 1: kv=0/3:\n",
        "plan 1 layers=4\nlayer 1: kv=3/3:0-2\n", "plan 1 layers=4\nlayer 1: kv=1/3:x8\n",
        "plan 1 layers=4\nlayer 1: kv=1/3:x", "plan 1 layers=4\nlayer 1: kv=2/3:1,0\n",
        "plan 1 layers=4\nlayer 1: kv=2/3:1-0\n", "plan 1 layers=4\nlayer 1: kv=1/3:1 \n",
        "plan 1 layers=4\nlayer 1: kv=99999999999999999999/3:1\n",
        "plan 1 layers=4\nlayer 1: ffn=1/200:1 ffn=1/200:1\n",
        "plan 1 layers=4\nmodel: hidden=64/64:0-63\n",
        "plan 1 layers=4\nmodel: hidden=1/65:0\n", "plan 1 layers=4\nmodel:\n",
        "plan 1 layers=4\nlayer 1: none\nmodel: hidden=1/64:0\n",
        "plan 1 layers=4\nmodel: hidden=1/64:0\nmodel: hidden=1/64:0\n",
        "plan 1 layers=4\nlayer 1: hidden=1/64:0\n",
        "plan 1 layers=4\nlayer 1: heads=0/9:\n",
        "plan 1 layers=4\nlayer 1: heads=9/9:0-8\n",
        "plan 1 layers=4\nlayer 1: heads=3/6:0,2,4\n",
        "plan 1 layers=4\nlayer 2: heads=1/9:0\n",
        "plan 1 layers=4\nlayer 1: heads=3/9:0,3,6 kv=1/3:0\n",
        "plan 1 layers=4\nset a real nan\n", "plan 1 layers=4\nset a real 1e999\n",
        "plan 1 layers=4\nset a int 1\nset a int 1\n", "plan 1 layers=4\nset a 3\n",
        "plan 1 layers=4\nset a int \n", "plan 1 layers=4\nset a int 1.5\n",
        "plan 1 layers=4\nset a\tb int 1\n", "plan 1 layers=4\nset \x1b[2J int 1\n",
        "plan 1 layers=4\nset ", "plan 1 layers=4\n\n", "plan 1 layers=4\nfoo\n"
    };
    struct lm_plan *p;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(lm_plan_parse(&arch, bad[i], &p, &e) == LM_EINPUT,
                      "accepted: %s", bad[i]);
        ck_assert_ptr_null(p);
    }
}
END_TEST

/* Every prefix and every changed byte is read or refused, never a crash. */
START_TEST(damaged_text_does_no_harm)
{
    const int most[] = { 0, 2, 3, 4, 8 };
    struct lm_plan *p = edited(most, 5), *q;
    char *t = text_of(p);
    size_t n = strlen(t);
    struct lm_rng r = lm_rng(9, "test", 0);

    for (size_t i = 0; i < n; i++) {
        char was = t[i];

        for (int round = 0; round < 6; round++) {
            t[i] = round ? (char)lm_rng_below(&r, 256) : '\0';
            if (!lm_plan_parse(&arch, t, &q, &e))
                lm_plan_free(q);
        }
        t[i] = was;
    }
    ck_assert_ok(lm_plan_parse(&arch, t, &q, &e), e);
    ck_assert(same_plan(p, q));
    lm_plan_free(q);
    lm_plan_free(p);
    lm_release(t);
}
END_TEST

START_TEST(features_are_seen)
{
    const struct { int edit; uint64_t want; } one[] = {
        { 0, LM_SHAPE_UNEVEN_FF | LM_SHAPE_NO_ATTN },
        { 2, LM_SHAPE_UNEVEN_HEADS | LM_SHAPE_NO_ATTN },
        { 4, LM_SHAPE_NO_ATTN }, { 7, 0 }
    };

    for (size_t i = 0; i < 4; i++) {
        struct lm_plan *p = edited(&one[i].edit, 1);

        ck_assert_uint_eq(lm_plan_features(p), one[i].want);
        lm_plan_free(p);
    }
}
END_TEST

START_TEST(costs_are_counted)
{
    struct lm_layer_shape smol[30];
    struct lm_arch a = { .struct_size = sizeof a, .n_layer = 30, .hidden = 576,
                         .head_dim = 64, .vocab = 49152, .tied = true, .layer = smol };
    struct lm_cost c, d;
    struct lm_plan *p;
    const int32_t keep[] = { 0, 2 };
    int32_t channels[1000];

    for (int i = 0; i < 30; i++)
        smol[i] = (struct lm_layer_shape){ 9, 3, 1536, 0 };
    for (int32_t i = 0; i < 1000; i++)
        channels[i] = i;
    ck_assert_ok(lm_plan_open(&a, NULL, &p, &e), e);
    lm_plan_cost(p, LM_F16, &c);
    ck_assert_int_eq(c.body_params, 106168320);
    ck_assert_int_eq(c.params, 134515008);          /* as published */
    ck_assert_int_eq(c.bytes, 2 * (106168320 + 28311552) + 4 * 61 * 576);
    ck_assert_int_eq(c.macs, 106168320 + 28311552);
    ck_assert_int_eq(c.kv_bytes, 30 * 2 * 3 * 64 * 2);
    /* hidden, norm; gate and up, wider than q and k; v; mixed */
    ck_assert_int_eq(c.row_bytes, 4 * (576 + 576 + 1536 + 1536 + 192 + 576));

    ck_assert_ok(lm_plan_keep(p, LM_SITE_KV_GROUP, 4, keep, 2, &e), e);
    ck_assert_ok(lm_plan_keep(p, LM_SITE_FFN_CHANNEL, 5, channels, 1000, &e), e);
    ck_assert_ok(lm_plan_drop(p, (struct lm_site){ LM_SITE_ATTN, 6, 6 }, &e), e);
    ck_assert_ok(lm_plan_canonical(p, &e), e);
    lm_plan_cost(p, LM_F32, &d);
    ck_assert_int_eq(c.body_params - d.body_params, 294912 + 536 * 1728 + 884736);
    ck_assert_int_eq(c.params - d.params, 294912 + 536 * 1728 + 884736 + 576);
    ck_assert_int_eq(d.bytes, 4 * d.params);
    ck_assert_int_eq(c.kv_bytes - d.kv_bytes, 4 * (1 + 3) * 64);
    ck_assert_int_eq(c.row_bytes, d.row_bytes);         /* of the widest layer */
    lm_plan_cost(p, LM_Q4_1, &d);
    /* rows of 1000 are no blocks of 32: that one matrix stays f16; the embedding
     * is q8_0 */
    ck_assert_int_eq(d.bytes, (d.body_params - 576000) / 32 * 20 + 28311552 / 32 * 34
                     + 2 * 576000 + 4 * (d.params - d.body_params - 28311552));
    lm_plan_free(p);
    ck_assert_ok(lm_plan_open(&a, NULL, &p, &e), e);
    for (int32_t i = 0; i < 30; i++) {      /* two heads of three, 200 channels */
        const int32_t heads[] = { 0, 2, 3, 4, 7, 8 };
        ck_assert_ok(lm_plan_keep(p, LM_SITE_HEAD, i, heads, 6, &e), e);
        ck_assert_ok(lm_plan_keep(p, LM_SITE_FFN_CHANNEL, i, channels, 200, &e), e);
    }
    ck_assert_ok(lm_plan_canonical(p, &e), e);
    lm_plan_cost(p, LM_F16, &d);
    ck_assert_int_eq(c.body_params - d.body_params,
                     30 * (2 * 192 * 576 + 3 * 1336 * 576));
    ck_assert_int_eq(c.kv_bytes, d.kv_bytes);           /* keys and values stay */
    ck_assert_int_eq(d.row_bytes, 4 * (576 + 576 + 384 + 200 + 192 + 384));
    ck_assert_ok(lm_plan_keep(p, LM_SITE_HIDDEN, -1, channels, 512, &e), e);
    ck_assert_ok(lm_plan_canonical(p, &e), e);
    lm_plan_cost(p, LM_F16, &c);
    ck_assert_int_eq(c.body_params, d.body_params / 576 * 512);
    ck_assert_int_eq(c.params, d.params / 576 * 512);
    ck_assert_int_eq(c.macs, d.macs / 576 * 512);
    ck_assert_int_eq(c.row_bytes, 4 * (512 + 512 + 384 + 200 + 192 + 384));
    ck_assert_int_eq(lm_plan_columns(p, 0, lm_matrix_index(LM_W_GATE)), 512);
    ck_assert_int_eq(lm_plan_columns(p, 0, lm_matrix_index(LM_W_DOWN)), 200);
    lm_plan_free(p);
}
END_TEST

static enum lm_status whole_life(void *ctx)
{
    struct lm_plan *p, *q = NULL;
    struct lm_str t = { 0 };
    struct lm_space *s;
    enum lm_status st = lm_space_open(give, NULL, &s, &e);

    (void)ctx;
    if (st)
        return st;
    if (!(st = lm_plan_open(&arch, s, &p, &e))) {
        for (int i = 0; !st && i < EDITS; i++)
            st = edit(p, i);
        if (!st)
            st = lm_plan_canonical(p, &e);
        if (!st) {
            lm_plan_text(p, &t);
            st = t.failed ? LM_ENOMEM : lm_plan_parse(&arch, t.s, &q, &e);
        }
        lm_str_free(&t);
        lm_plan_free(q);
        lm_plan_free(p);
    }
    lm_space_close(s);
    return st;
}

START_TEST(memory_may_run_out)
{
    ck_assert_int_gt(fail_every_allocation(whole_life, NULL), 15);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("plan");
    TCase *t = tcase_create("plan");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, edits_intersect);
    tcase_add_test(t, edits_commute);
    tcase_add_test(t, the_best_are_kept);
    tcase_add_test(t, the_form_is_canonical);
    tcase_add_test(t, hashes_tell_plans_apart);
    tcase_add_test(t, heads_go_from_every_group);
    tcase_add_test(t, groups_keep_equally_many_heads);
    tcase_add_test(t, the_stream_is_the_models);
    tcase_add_test(t, bad_edits_are_refused);
    tcase_add_test(t, text_is_short_and_exact);
    tcase_add_test(t, text_comes_back);
    tcase_add_test(t, a_large_plan_stays_small);
    tcase_add_test(t, bad_text_is_refused);
    tcase_add_test(t, damaged_text_does_no_harm);
    tcase_add_test(t, features_are_seen);
    tcase_add_test(t, costs_are_counted);
    tcase_add_test(t, memory_may_run_out);
    suite_add_tcase(s, t);
    return run_suites(&s, 1);
}
