/* SPDX-License-Identifier: Apache-2.0 */
/* check_masks.c -- pruners that choose members beyond the best so many of a layer: sets
 * and what they decode to, and budgets of the whole model against a search that takes
 * the cheapest next cut of all, step by step.                                    */
#include <math.h>

#include "prune_rig.h"

enum { LAYERS = 4, GROUPS = 3, EACH = 4, HEADS = GROUPS * EACH, FF = 72 };
static const struct toy toy = { .n_layer = LAYERS, .n_head = HEADS, .n_kv = GROUPS,
                                .n_ff = FF };
static bool equal;                      /* all scores are */

static int members(uint32_t site)
{
    return site == LM_SITE_KV_GROUP ? GROUPS : site == LM_SITE_HEAD ? HEADS : FF;
}

/* Of another scale and mean in each layer and kind. */
static double score_of(uint32_t site, int32_t layer, int64_t i)
{
    struct lm_rng r = lm_rng(site, "score", (uint64_t)(layer * 1000 + i));
    return equal ? 1 : pow(10, layer) * (pow(lm_rng_unit(&r), 3) + site + layer);
}

static enum lm_status give(void *ctx, uint32_t site, int32_t layer, const double **score,
                           int64_t *n, struct lm_err *err)
{
    static double v[LM_N_SITE_KINDS][LAYERS][FF];
    (void)ctx;
    (void)err;
    *n = members(site);
    for (int64_t i = 0; i < *n; i++)
        v[site][layer][i] = score_of(site, layer, i);
    *score = v[site][layer];
    return LM_OK;
}

static void begin(const char *name, const char *options)
{
    rig_begin(name, options, &toy);
}

static struct lm_plan *decoded(void)
{
    struct lm_plan *p;
    ck_assert_ok(decode(&p), e);
    return p;
}

static void set(const struct lm_gene *g, int i, bool on)
{
    uint64_t bit = UINT64_C(1) << (i % 64);
    uint64_t *word = &genome[g->slot + (uint32_t)i / 64].bits;
    *word = on ? *word | bit : *word & ~bit;
}

/* ---- mask ----------------------------------------------------------------------- */
START_TEST(sets_of_channels)
{
    begin("mask", "multiple=8,min=0.3,first=1");
    ck_assert_ptr_null(find("ffn_mask[0]"));
    const struct lm_gene *g = find("ffn_mask[2]");
    ck_assert_int_eq(g->kind, LM_GENE_SUBSET);
    ck_assert_uint_eq(g->n, FF);
    ck_assert(g->min == 24);            /* 21.6, up to a multiple */
    ck_assert(g->score[5] == score_of(LM_SITE_FFN_CHANNEL, 2, 5));
    struct lm_plan *p = decoded();
    for (int l = 0; l < LAYERS; l++)
        ck_assert_ptr_null(p->layer[l].ffn.bits);
    lm_plan_free(p);
    for (int i = 0; i < FF; i += 3)     /* 48 stay: as they are */
        set(g, i, false);
    p = decoded();
    ck_assert_int_eq(p->layer[2].ffn.kept, 48);
    for (int i = 0; i < FF; i++)
        ck_assert(lm_keep_has(&p->layer[2].ffn, i) == (i % 3 != 0));
    ck_assert_ptr_null(p->layer[1].ffn.bits);
    lm_plan_free(p);
    set(g, 0, true);                    /* 51: the three of least score go */
    set(g, 3, true);
    set(g, 6, true);
    p = decoded();
    ck_assert_int_eq(p->layer[2].ffn.kept, 48);
    int gone = 0;
    for (int i = 0; i < FF; i++) {
        bool in = i % 3 != 0 || i <= 6, kept = lm_keep_has(&p->layer[2].ffn, i);
        ck_assert(in || !kept);
        gone += in && !kept;
        for (int j = 0; in && !kept && j < FF; j++)
            if (lm_keep_has(&p->layer[2].ffn, j))
                ck_assert(score_of(LM_SITE_FFN_CHANNEL, 2, j)
                          > score_of(LM_SITE_FFN_CHANNEL, 2, i));
    }
    ck_assert_int_eq(gone, 3);
    lm_plan_free(p);
    end();
}
END_TEST

START_TEST(sets_of_groups)
{
    begin("mask", "attn=kv_groups,ffn=false,last=1");
    ck_assert_ptr_null(find("ffn_mask[0]"));
    ck_assert_ptr_null(find("kv_mask[3]"));
    const struct lm_gene *g = find("kv_mask[1]");
    ck_assert(g->min == 1 && g->n == GROUPS);
    set(g, 1, false);
    struct lm_plan *p = decoded();
    ck_assert_int_eq(p->layer[1].kv.kept, 2);
    ck_assert(!lm_keep_has(&p->layer[1].kv, 1));
    lm_plan_free(p);
    end();
}
END_TEST

/* Any set of heads decodes to as many of each group: members before others, both by
 * score.                                                                         */
START_TEST(sets_of_heads)
{
    struct lm_rng r = lm_rng(4, "sets", 0);
    begin("mask", "attn=heads,min_attn=2");
    const struct lm_gene *g = find("head_mask[0]");
    ck_assert(g->min == 2 * GROUPS);
    for (int trial = 0; trial < 200; trial++) {
        bool in[HEADS];
        int n = 0;
        do {
            n = 0;
            for (int i = 0; i < HEADS; i++) {
                n += in[i] = lm_rng_unit(&r) < 0.7;
                set(g, i, in[i]);
            }
        } while (n < 2 * GROUPS || n == HEADS);
        struct lm_plan *p = decoded();
        const struct lm_keep *k = &p->layer[0].head;
        for (int first = 0; first < HEADS; first += EACH) {
            int kept = 0;
            for (int i = first; i < first + EACH; i++) {
                kept += lm_keep_has(k, i);
                for (int j = first; j < first + EACH; j++)
                    if (lm_keep_has(k, i) && !lm_keep_has(k, j))
                        ck_assert(in[i] > in[j]
                                  || (in[i] == in[j] && score_of(LM_SITE_HEAD, 0, i)
                                                        > score_of(LM_SITE_HEAD, 0, j)));
            }
            ck_assert_int_eq(kept, n / GROUPS);
        }
        lm_plan_free(p);
    }
    end();
}
END_TEST

/* ---- ranked --------------------------------------------------------------------- */
struct pile { double z[FF]; int left, least, each, kept_of; double weight; };

static int up(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* z, lowest first: of heads, the mean over groups of those of one place. */
static struct pile make_pile(uint32_t site, int layer, int each, int least, bool standard)
{
    const double d = TOY_HIDDEN, h = TOY_HEAD;
    struct pile p = { .each = each, .least = least };
    int n = members(site), groups = site == LM_SITE_HEAD ? GROUPS : 1;
    double v[FF], mean = 0, square = 0;
    for (int i = 0; i < n; i++)
        mean += score_of(site, layer, i) / n;
    for (int i = 0; i < n; i++)
        square += pow(score_of(site, layer, i) - mean, 2);
    for (int i = 0; i < n; i++)
        v[i] = standard ? (score_of(site, layer, i) - mean) / sqrt(square / (n - 1))
                        : score_of(site, layer, i);
    p.left = n / groups;
    for (int g = 0; g < groups; g++) {
        qsort(v + g * p.left, (size_t)p.left, sizeof *v, up);
        for (int i = 0; i < p.left; i++)
            p.z[i] += v[g * p.left + i] / groups;
    }
    p.kept_of = p.left;
    p.weight = site == LM_SITE_FFN_CHANNEL ? 3 * d
             : site == LM_SITE_HEAD ? GROUPS * 2 * h * d : (EACH * 2 + 2) * h * d;
    return p;
}

/* How many the next cut of a pile takes. */
static int next(const struct pile *p)
{
    int to = p->left - 1;
    while (to % p->each)
        to--;
    return p->left - to;
}

/* Takes the cheapest next cut until another would lead farther away from the target. */
static void cut(struct pile *pile, int n, double share)
{
    double body = LAYERS * (3.0 * FF * TOY_HIDDEN
                            + (2.0 * HEADS + 2 * GROUPS) * TOY_HEAD * TOY_HIDDEN);
    double over = (1 - share) * body;
    for (;;) {
        int best = -1;
        double least = INFINITY;
        for (int i = 0; i < n; i++) {
            struct pile *p = &pile[i];
            int take = next(p), from = p->kept_of - p->left;
            double mean = 0;
            if (p->left - take < p->least)
                continue;
            for (int k = from; k < from + take; k++)
                mean += p->z[k] / take;
            if (mean < least) {
                least = mean;
                best = i;
            }
        }
        if (best < 0)
            return;
        double weight = pile[best].weight * next(&pile[best]);
        if (fabs(over - weight) > fabs(over))
            return;
        over -= weight;
        pile[best].left -= next(&pile[best]);
    }
}

static const struct { const char *options, *attn; int multiple; bool standard; } ways[] = {
    { "levels=[0.8,0.6],multiple=1", "none", 1, true },
    { "levels=[0.8,0.6],multiple=1,standardize=false", "none", 1, false },
    { "levels=[0.8,0.6],multiple=16", "none", 16, true },
    { "levels=[0.8,0.6],multiple=16,attn=kv_groups", "kv", 16, true },
    { "levels=[0.8,0.6],multiple=8,attn=heads", "heads", 8, true },
};

static void compare(struct lm_plan *p, double share, const char *attn, int multiple,
                    bool standard)
{
    struct pile pile[2 * LAYERS];
    int n = 0, changed = 0;
    uint32_t site = *attn == 'h' ? LM_SITE_HEAD : LM_SITE_KV_GROUP;
    for (int l = 0; l < LAYERS; l++)
        pile[n++] = make_pile(LM_SITE_FFN_CHANNEL, l, multiple,
                              multiple * (int)ceil(0.0625 * FF / multiple), standard);
    for (int l = 0; l < LAYERS && *attn != 'n'; l++)
        pile[n++] = make_pile(site, l, 1, 1, standard);
    cut(pile, n, share);
    for (int l = 0; l < LAYERS; l++) {
        struct lm_layer_shape s = lm_plan_shape(p, l);
        ck_assert_int_eq(s.n_ff, pile[l].left);
        if (*attn == 'k')
            ck_assert_int_eq(s.n_kv, pile[LAYERS + l].left);
        if (*attn == 'h')
            ck_assert_int_eq(s.n_head, GROUPS * pile[LAYERS + l].left);
        changed += pile[l].left < FF;
        for (int i = 0; i < FF; i++)    /* the best stay */
            for (int j = 0; j < FF; j++)
                if (lm_keep_has(&p->layer[l].ffn, i) && !lm_keep_has(&p->layer[l].ffn, j))
                    ck_assert(score_of(LM_SITE_FFN_CHANNEL, l, i)
                              > score_of(LM_SITE_FFN_CHANNEL, l, j));
    }
    ck_assert_int_gt(changed, 0);
}

START_TEST(all_layers_compete)
{
    begin("ranked", ways[_i].options);
    const struct lm_gene *g = find("share");
    ck_assert(g->min == 0 && g->max == 2 && g->initial == 2);
    for (int i = 0; i < 3; i++) {
        genome[0].integer = i;
        struct lm_plan *p = decoded();
        if (i < 2)
            compare(p, i ? 0.8 : 0.6, ways[_i].attn, ways[_i].multiple, ways[_i].standard);
        for (int l = 0; l < LAYERS && i == 2; l++)
            ck_assert(!p->layer[l].ffn.bits && !p->layer[l].kv.bits);
        lm_plan_free(p);
    }
    end();
}
END_TEST

/* Parameters that stay, as a share. */
static double body_of(const struct lm_plan *p)
{
    double now = 0, all = 0;
    for (int l = 0; l < LAYERS; l++) {
        struct lm_layer_shape s = lm_plan_shape(p, l), f = lm_model_arch(model)->layer[l];
        now += 3 * s.n_ff + TOY_HEAD * (2 * s.n_head + 2 * s.n_kv);
        all += 3 * f.n_ff + TOY_HEAD * (2 * f.n_head + 2 * f.n_kv);
    }
    return now / all;
}

START_TEST(all_layers_keep_the_same)
{
    equal = _i == 1;                    /* ties change nothing */
    begin("ranked", "scope=layer,multiple=2,attn=kv_groups,levels=[0.7]");
    genome[0].integer = 0;
    struct lm_plan *p = decoded();
    ck_assert(fabs(body_of(p) - 0.7) < 0.1);        /* a group is a third */
    for (int l = 0; l < LAYERS; l++) {
        struct lm_layer_shape s = lm_plan_shape(p, l);
        ck_assert_int_eq(s.n_ff, lm_plan_shape(p, 0).n_ff);
        ck_assert_int_eq(s.n_kv, 2);
    }
    lm_plan_free(p);
    end();
    begin("ranked", "scope=layer,multiple=1");
    const struct lm_gene *g = find("share");
    ck_assert(g->max > 4);
    for (int i = 0; i < g->max; i++) {
        genome[0].integer = i;
        p = decoded();
        ck_assert(fabs(body_of(p) - (1 - 0.05 * (g->max - i))) < 0.01);
        lm_plan_free(p);
    }
    end();
    equal = false;
}
END_TEST

START_TEST(later_layers_lose_more)
{
    begin("ranked", "scope=layer,multiple=1,first_ratio=0.25,levels=[0.8]");
    genome[0].integer = 0;
    struct lm_plan *p = decoded();
    ck_assert(fabs(body_of(p) - 0.8) < 0.01);
    double last = FF - lm_plan_shape(p, LAYERS - 1).n_ff;
    ck_assert(last > 20);
    for (int l = 0; l < LAYERS; l++) {
        double want = last * (0.25 + 0.75 * log(1 + l) / log(LAYERS));
        ck_assert(fabs(FF - lm_plan_shape(p, l).n_ff - want) < 1);
    }
    lm_plan_free(p);
    end();
}
END_TEST

START_TEST(senseless_options_are_refused)
{
    const struct lm_pruner *ops;
    model = toy_model(&toy);
    inst_load(&pruner, "pruners", "mask");
    ck_assert_int_eq(inst_create(&pruner, "ffn=false", model, NULL, &e), LM_ECONFIG);
    dlclose(pruner.dl);
    inst_load(&pruner, "pruners", "ranked");
    ck_assert_int_eq(inst_create(&pruner, "ffn=false", model, NULL, &e), LM_ECONFIG);
    ck_assert_ok(inst_create(&pruner, "levels=[0.1]", model, NULL, &e), e);
    ck_assert_ok(lm_space_open(give, NULL, &space, &e), e);
    ops = pruner.ops;
    ck_assert_int_eq(ops->genes(pruner.self, space, &e), LM_ECONFIG);
    ck_assert_ptr_nonnull(strstr(e.text, "levels holds 0.1"));
    end();
}
END_TEST

static void vary(const struct lm_space *s)
{
    genome[0].integer = lm_space_slots(s) > 1 ? 0x3f : 1;
}

START_TEST(memory_may_run_out)
{
    static const char *const names[] = { "mask", "ranked" };
    rig_starve(names + _i, 1, &toy, (struct rig_life){ "attn=heads,multiple=8", vary });
}
END_TEST

int main(void)
{
    Suite *s = suite_create("masks");
    TCase *t = tcase_create("masks");
    tcase_add_test(t, sets_of_channels);
    tcase_add_test(t, sets_of_groups);
    tcase_add_test(t, sets_of_heads);
    tcase_add_loop_test(t, all_layers_compete, 0, 5);
    tcase_add_loop_test(t, all_layers_keep_the_same, 0, 2);
    tcase_add_test(t, later_layers_lose_more);
    tcase_add_test(t, senseless_options_are_refused);
    tcase_add_loop_test(t, memory_may_run_out, 0, 2);
    suite_add_tcase(s, t);
    return run_suites(&s, 1);
}
